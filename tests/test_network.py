"""The network: every derivative by complex step and by adjointness, every change at high precision.

The activations are compared with mpmath, which differentiates numerically, so no derivative is written twice.
Tolerances are majorants: the same sums run over absolute values, times the number of roundings on the way.
"""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refpg import network
from refpg.network import ACTIVATIONS, Activation, Network, linearization
from refpg.rows import ROWS_PER_PART, row_parts

U = 2.0**-53
STEP = 1e-30  # of the complex step: the error STEP² is far below u, and STEP times any slope here is far above 1e-308

NETWORKS = [
    Network((3, 2)),
    Network((3, 4, 2), "tanh"),
    Network((3, 4, 2), "relu", free=2),
    Network((2, 3, 4, 1), "identity", free=1),
    Network((2, 4, 3, 3), "elu"),
    Network((3, 4, 4, 2), "silu", free=3),
    Network((1, 3, 2, 4, 2), "softplus"),
    Network((4, 5, 3), "gelu", free=1),
]
NAMES = [f"{net.activation} {net.sizes} {net.free}" for net in NETWORKS]
every_network = pytest.mark.parametrize("net", NETWORKS, ids=NAMES)


def draw(net, rows=5, seed=0):
    """Return (θ, x, v, w, φ̄) of standard normal numbers."""
    generator = np.random.default_rng([seed, *net.sizes])
    P, K = net.num_parameters, net.num_outputs
    shapes = [(P,), (rows, net.sizes[0]), (P,), (P,), (rows, K)]
    return tuple(generator.standard_normal(shape) for shape in shapes)


def gram_of(at):
    """Return J Jᵀ."""
    return network.gram_matrix(at, lambda rows, J: J)


def majorant(net, theta, x, v, w):
    """Bound |φ|, |Jv|, |Jw| and |vᵀ∇²φ w| by the same sums over absolute values; also return the error factor.

    |σ(z)| <= 1 + 1.13|z|, |σ'| <= 1.13 and |σ''| <= 1.13 for every activation here (gelu has the largest slope,
    1.129).  A layer rounds fewer than n + 16 times on each path (a sum of n + 2 terms, then σ, σ' or σ'' at 8 u each),
    and σ' and σ'' inherit the error of z, larger by at most the majorant of z; twice, for the two sides compared.
    """
    c = 1.13
    layers, free = network.unflatten(net, np.abs(theta))
    (v_layers, v_free), (w_layers, w_free) = (network.unflatten(net, np.abs(d)) for d in (v, w))
    h, hv, hw, hvw = np.abs(x), 0 * x, 0 * x, 0 * x
    largest = 0.0
    for (W, b), (Wv, bv), (Ww, bw) in zip(layers, v_layers, w_layers, strict=True):
        z = h @ W + b
        zv, zw = h @ Wv + hv @ W + bv, h @ Ww + hw @ W + bw
        zvw = hv @ Ww + hw @ Wv + hvw @ W
        h, hv, hw, hvw = 1 + c * z, c * zv, c * zw, c * (zv * zw + zvw)
        largest = max(largest, z.max())
    factor = 2 * len(layers) * (max(net.sizes) + 16) * (1 + largest) * U
    rows = np.ones((len(x), 1))
    bounds = (z, free), (zv, v_free), (zw, w_free), (zvw, 0 * free)
    return [np.hstack([a, rows * f]) for a, f in bounds], factor


def basis_majorants(net, theta, x, v):
    """The majorants of J (B, K, P) and of ∇²φ v (B, K, P)."""
    columns = [majorant(net, theta, x, v, e)[0] for e in np.eye(net.num_parameters)]
    return np.stack([c[2] for c in columns], axis=2), np.stack([c[3] for c in columns], axis=2)


# Activations


def _logistic(z):
    return 1 / (1 + mpmath.exp(-z))


def _softplus(z):
    return mpmath.log1p(mpmath.exp(z))


def _positive(z):
    return z if z > 0 else mpmath.mpf(0)


EXACT = {
    "tanh": mpmath.tanh,
    "relu": _positive,
    "identity": lambda z: z,
    "elu": lambda z: z if z > 0 else mpmath.expm1(z),
    "silu": lambda z: z * _logistic(z),
    "softplus": _softplus,
    "gelu": lambda z: z * mpmath.erfc(-z / mpmath.sqrt(2)) / 2,
}
# silu and gelu are z w(z), with a minimum; this is the integral of w, the scale of what cancels there.
AREA = {
    "silu": _softplus,
    "gelu": lambda z: z * mpmath.erfc(-z / mpmath.sqrt(2)) / 2 + mpmath.npdf(z),
}
POINTS = np.array([0.0, 1e-8, 0.3, 1.2784645427610738, 2.4, 5.0, 7.7, 30.1, 300.7])  # 1.278…: the minimum of silu
CHANGES = np.array([1e-100, 1e-16, 1e-6, 0.05, 0.13, 0.4, 0.6, 1.7, 8.3, 51.3, 800.7, 1e9])
every_activation = pytest.mark.parametrize("name", list(EXACT))


def points(name):
    """Both signs; gelu's tail ends before 38, those of the others before 745."""
    z = POINTS[:-1] if name == "gelu" else POINTS
    return np.concatenate([-z, z[1:]])


def scale(name, order, z):
    """|σ^(n)(z)|, and n |(∫w)^(n)| where σ = z w: σ' = w + z w', σ'' = 2 w' + z w''."""
    exact = abs(mpmath.diff(EXACT[name], z, order)) if order else abs(EXACT[name](z))
    return exact + (order * abs(mpmath.diff(AREA[name], z, order)) if name in AREA else 0)


@every_activation
@pytest.mark.parametrize(("order", "field"), [(0, "value"), (1, "slope"), (2, "curvature")])
def test_activations_and_their_derivatives_agree_with_mpmath(name, order, field):
    # 8 u for a handful of operations each within 1 ulp; erfc and e^(−z²/2) of a rounded argument owe (1 + z²) u.
    z = points(name)
    z = z[z != 0] if name in ("relu", "elu") else z
    computed = getattr(ACTIVATIONS[name], field)(z)
    with mpmath.workdps(400):  # 1 − tanh² 300 is 1e-261
        for number, value in zip(z, computed, strict=True):
            exact = mpmath.diff(EXACT[name], number, order) if order else EXACT[name](mpmath.mpf(number))
            growth = 1 + number**2 if name == "gelu" else 1
            assert abs(value - exact) <= 8 * U * growth * scale(name, order, number), (number, value)


@every_activation
def test_the_change_of_an_activation_keeps_its_digits_at_every_size(name):
    # The bound of the module's docstring; m is the distance of the segment from 0 in a tail, for tanh on both sides.
    Z, D = np.meshgrid(points(name), np.concatenate([-CHANGES, CHANGES]))
    computed = ACTIVATIONS[name].change(Z, D)
    with mpmath.workdps(400):  # 361 digits for dz = 1e-100 at a slope of 1e-261
        for z, dz, change in zip(Z.ravel(), D.ravel(), computed.ravel(), strict=True):
            start, end = mpmath.mpf(z), mpmath.mpf(z) + mpmath.mpf(dz)
            exact = EXACT[name](end) - EXACT[name](start)
            area = abs(AREA[name](end) - AREA[name](start)) if name in AREA else 0
            in_tail = max(start, end) < 0 or (name == "tanh" and min(start, end) > 0)
            m = min(abs(start), abs(end)) if in_tail else 0
            growth = 1 + (m**2 if name == "gelu" else m)
            bound = 8 * U * growth * (abs(exact) + area) + 1e-300  # below that is underflow
            assert abs(change - exact) <= bound, (z, dz, change)


@pytest.mark.parametrize("name", ["elu", "silu", "softplus", "gelu"])
def test_a_walk_in_from_far_out_ends_at_the_value(name):
    # σ(−10⁶) is its limit, −1 or 0, to within 1e-300, so the change is σ(1) less that, both ways.
    # The tolerance is the docstring's, with m = 0 and ∫ w/σ(1) <= 1.8 for silu and 1.3 for gelu.
    activation = ACTIVATIONS[name]
    one, far = np.ones(1), np.full(1, -1e6)
    expected = activation.value(one) + (name == "elu")
    np.testing.assert_allclose(activation.change(far, one - far), expected, rtol=8 * U * 3)
    np.testing.assert_allclose(activation.change(one, far - one), -expected, rtol=8 * U * 3)


@every_activation
def test_a_change_of_zero_is_zero_and_a_change_undone_is_its_negative(name):
    change = ACTIVATIONS[name].change
    z = points(name)
    assert (change(z, np.zeros_like(z)) == 0).all()
    # Powers of two, so that z + dz is exact and only the 8 u (1 + m²) of the two changes remain (weights <= |dz|).
    Z, D = np.meshgrid([-4.0, -1.0, -0.25, 0.0, 0.5, 2.0], [2.0**-20, 0.25, 1.0, 8.0])
    np.testing.assert_allclose(change(Z, D), -change(Z + D, -D), rtol=0, atol=2 * 8 * U * 17 * 2 * D.max())


@every_activation
def test_the_derivatives_of_a_change_are_differences_of_slopes(name):
    # Complex step: ∂change/∂z = σ'(z + dz) − σ'(z), ∂change/∂dz = σ'(z + dz); all of the order of 1, each within 16 u
    # times 1 + z² <= 26, the same on both sides.
    activation = ACTIVATIONS[name]
    Z, D = np.meshgrid([-5.0, -0.3, 0.2, 1.0, 5.0], [-1e3, -7.1, -0.6, -0.4, -1e-9, 1e-9, 0.4, 0.6, 7.1, 1e3])
    by_z = activation.change(Z + 1j * STEP, D + 0j).imag / STEP
    by_dz = activation.change(Z + 0j, D + 1j * STEP).imag / STEP
    tolerance = 16 * U * 26 * 2
    np.testing.assert_allclose(by_z, activation.slope(Z + D) - activation.slope(Z), rtol=0, atol=tolerance)
    np.testing.assert_allclose(by_dz, activation.slope(Z + D), rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", ["tanh", "identity", "silu", "softplus", "gelu"])
def test_smooth_activations_are_analytic_at_zero_too(name):
    # Branches meet at 0: the complex step must see one function there.  8 u each way, of numbers below 1.
    activation = ACTIVATIONS[name]
    at_zero, steps = np.zeros(4), np.array([-3.0, -0.1, 0.1, 3.0])
    for field, derivative in (("value", "slope"), ("slope", "curvature")):
        by_step = getattr(activation, field)(at_zero + 1j * STEP).imag / STEP
        np.testing.assert_allclose(by_step, getattr(activation, derivative)(at_zero), rtol=0, atol=16 * U)
    from_zero = activation.change(at_zero + 1j * STEP, steps + 0j).imag / STEP
    expected = activation.slope(steps) - activation.slope(at_zero)
    np.testing.assert_allclose(from_zero, expected, rtol=0, atol=32 * U)
    to_zero = activation.change(-steps + 0j, steps + 1j * STEP).imag / STEP
    np.testing.assert_allclose(to_zero, activation.slope(at_zero), rtol=0, atol=32 * U)


@pytest.mark.parametrize("name", list(ACTIVATIONS))
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble, np.complex128])
def test_activations_keep_the_dtype_and_never_overflow(name, dtype):
    large = 1e30 if dtype == np.float32 else 1e300
    z = np.array([0.0, 0.5, 40.0, 1e3, large], dtype)
    Z, D = np.meshgrid(np.concatenate([-z, z]), np.concatenate([-z, z]))
    activation = ACTIVATIONS[name]
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        results = [f(Z) for f in activation[:3]] + [activation.change(Z, D)]
    for result in results:
        assert result.dtype == dtype
        assert np.isfinite(result).all()


@pytest.mark.parametrize(
    ("name", "left", "right"),
    [("tanh", -1.0, 1.0), ("elu", -1.0, 1e200), ("softplus", 0.0, 1e200), ("silu", 0.0, 1e200), ("gelu", 0.0, 1e200)],
)
def test_huge_changes_end_at_the_limits(name, left, right):
    activation = ACTIVATIONS[name]
    z = np.array([-1e200, 1e200])
    np.testing.assert_array_equal(activation.value(z), [left, right])
    np.testing.assert_array_equal(activation.change(z, -2 * z), [right - left, left - right])


def test_long_double_changes_are_more_accurate_than_double():
    # 2⁻⁶⁴ is the unit roundoff of x87 long double; where long double is double there is nothing to see.
    unit = np.finfo(np.longdouble).eps / 2
    z, dz = np.longdouble(1) / 3, np.longdouble(1) / 7
    for name in ("tanh", "elu", "softplus", "silu"):
        change = ACTIVATIONS[name].change(np.array([z]), np.array([dz]))[0]
        with mpmath.workdps(40):
            start, end = (mpmath.mpf(int(t * 2**64)) / 2**64 for t in (z, z + dz))
            digits = mpmath.mpf(int(change * 2**64)) / 2**64
            error = abs(digits - (EXACT[name](end) - EXACT[name](start)))
        # Three numbers below ½ read off at 2⁻⁶⁴, and the bound of the docstring with all factors below 4.
        assert error <= 4 * 2.0**-64 + 32 * unit


def test_the_kinks_follow_the_stated_convention():
    zero = np.zeros(1)
    relu, elu = ACTIVATIONS["relu"], ACTIVATIONS["elu"]
    assert (relu.value(zero), relu.slope(zero), relu.curvature(zero)) == (0, 0, 0)
    assert (relu.change(zero, zero + 2), relu.change(zero, zero - 2)) == (2, 0)
    assert (elu.value(zero), elu.slope(zero), elu.curvature(zero)) == (0, 1, 1)
    net = Network((1, 1, 1), "relu")
    theta, x = np.array([1.0, -2.0, 3.0, 0.0]), np.array([[2.0]])  # z = 2·1 − 2 = 0
    np.testing.assert_array_equal(network.jacobian(net, theta, x), [[[0, 0, 0, 1]]])


def test_swish_is_silu():
    assert ACTIVATIONS["swish"] is ACTIVATIONS["silu"]


# Layout


def test_theta_is_laid_out_layer_by_layer_weights_row_by_row_then_bias_then_free():
    net = Network((2, 3, 1), free=2)
    assert net.num_parameters == 2 * 3 + 3 + 3 * 1 + 1 + 2
    assert net.num_outputs == 3
    layers, free = network.unflatten(net, np.arange(15.0))
    np.testing.assert_array_equal(layers[0][0], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(layers[0][1], [6, 7, 8])
    np.testing.assert_array_equal(layers[1][0], [[9], [10], [11]])
    np.testing.assert_array_equal(layers[1][1], [12])
    np.testing.assert_array_equal(free, [13, 14])


@every_network
def test_flatten_undoes_unflatten(net):
    theta = draw(net)[0]
    np.testing.assert_array_equal(network.flatten(net, *network.unflatten(net, theta)), theta)


def test_unflatten_returns_views_and_flatten_a_copy():
    net, theta = Network((2, 2), free=1), np.zeros(7)
    layers, free = network.unflatten(net, theta)
    layers[0][0][0, 1], layers[0][1][1], free[0] = 1, 2, 3
    np.testing.assert_array_equal(theta, [0, 1, 0, 0, 0, 2, 3])
    assert not np.shares_memory(network.flatten(net, layers, free), theta)


@pytest.mark.parametrize("sizes", [(3, 5, 2), (5, 3, 3), (4, 4, 7)])
def test_initial_weights_are_orthogonal_and_biases_zero(sizes):
    net = Network(sizes, free=2)
    theta = network.initial_parameters(net, np.random.default_rng(1), scale=1.5, output_scale=0.01, free=-0.5)
    layers, free = network.unflatten(net, theta)
    for (W, b), scale in zip(layers, [1.5, 0.01], strict=True):
        singular = np.linalg.svd(W, compute_uv=False)
        np.testing.assert_allclose(singular, scale, rtol=8 * 7 * U)  # Householder and SVD: a few n u, n <= 7
        assert (b == 0).all()
    assert (free == -0.5).all()


def test_initial_weights_have_no_preferred_sign():
    # An entry of a uniform 3 × 3 orthogonal matrix has mean 0 and variance 1/3; five standard errors.
    net, generator = Network((3, 3)), np.random.default_rng(2)
    draws = np.array([network.initial_parameters(net, generator)[:9] for _ in range(400)])
    assert (np.abs(draws.mean(axis=0)) <= 5 * math.sqrt(1 / 3 / 400)).all()


# Forward


def test_one_layer_is_affine_and_every_quantity_has_its_closed_form():
    net = Network((2, 3), free=1)
    theta, x, v, _, phi_bar = (np.round(8 * a) / 8 for a in draw(net))  # on a grid, so that every sum is exact
    W, b, free = theta[:6].reshape(2, 3), theta[6:9], theta[9]
    at = network.linearize(net, theta, x)
    np.testing.assert_array_equal(at.phi, np.column_stack([x @ W + b, np.full(5, free)]))
    expected = np.zeros((5, 4, 10))
    for k in range(3):
        expected[:, k, [k, 3 + k]] = x
        expected[:, k, 6 + k] = 1
    expected[:, 3, 9] = 1
    np.testing.assert_array_equal(at.jacobian(), expected)
    np.testing.assert_array_equal(at.jvp(v), expected @ v)
    np.testing.assert_array_equal(at.vjp(phi_bar), np.einsum("bk,bkp->p", phi_bar, expected))
    np.testing.assert_array_equal(gram_of(at), np.einsum("bkp,cjp->bkcj", expected, expected))
    np.testing.assert_array_equal(at.curvature_product(phi_bar, v), np.zeros(10))


def test_a_network_of_single_numbers_has_the_derivatives_of_calculus():
    # φ = c tanh(a x + b) + d with tanh = ½, tanh' = ¾, tanh'' = −¾ at a x + b = artanh ½.
    a, c, d, x = 0.25, 3.0, -1.0, 2.0
    b = math.atanh(0.5) - a * x
    at = network.linearize(Network((1, 1, 1)), np.array([a, b, c, d]), np.array([[x]]))
    np.testing.assert_allclose(at.phi, [[0.5 * c + d]], rtol=8 * U)
    np.testing.assert_allclose(at.jacobian(), [[[0.75 * c * x, 0.75 * c, 0.5, 1]]], rtol=16 * U)
    second = at.curvature_product(np.ones((1, 1)), np.array([0.0, 1.0, 0.0, 0.0]))
    np.testing.assert_allclose(second, [-0.75 * c * x, -0.75 * c, 0.75, 0], rtol=16 * U)


def test_relu_forward_by_hand():
    net = Network((2, 2, 1), "relu")
    theta = np.array([1.0, -1.0, 2.0, 3.0, 0.5, -0.5, 10.0, 100.0, 7.0])
    # z = (1·1 + 2·2 + ½, −1·1 + 3·2 − ½) = (5½, 4½) and, for −x, (−4½, −5½).
    np.testing.assert_array_equal(network.forward(net, theta, np.array([[1.0, 2.0], [-1.0, -2.0]])), [[512.0], [7.0]])


def forward_at_50_digits(net, theta, x):
    """The network in mpmath, entry by entry; θ and x are lists of mpf."""
    with mpmath.workdps(50):
        numbers = iter(theta)
        h = x
        depth = len(net.sizes) - 1
        for layer in range(depth):
            inputs, outputs = net.sizes[layer : layer + 2]
            W = [[next(numbers) for _ in range(outputs)] for _ in range(inputs)]
            b = [next(numbers) for _ in range(outputs)]
            z = [b[j] + mpmath.fsum(h[i] * W[i][j] for i in range(inputs)) for j in range(outputs)]
            h = z if layer == depth - 1 else [EXACT[net.activation](number) for number in z]
        return h + list(numbers)


def exact(array):
    return [mpmath.mpf(float(number)) for number in array]


@every_network
def test_forward_agrees_with_fifty_digits(net):
    theta, x, v, w, _ = draw(net)
    (bound, *_), factor = majorant(net, theta, x, v, w)
    computed = network.forward(net, theta, x)
    for row, phi, tolerance in zip(x, computed, factor * bound, strict=True):
        expected = forward_at_50_digits(net, exact(theta), exact(row))
        assert all(abs(a - b) <= t for a, b, t in zip(phi, expected, tolerance, strict=True))


@every_network
@pytest.mark.parametrize("size", [10.0**-exponent for exponent in range(0, 17, 2)])
def test_the_change_of_phi_keeps_its_digits_at_every_size(net, size):
    # The error is below factor × (the sums of |terms| of the change), which are those of J v at the larger of the two
    # parameter vectors; along the way the σ of each layer is entered with 1 + m² <= (1 + max|z|)², one power more.
    theta, x, v, _, _ = draw(net)
    change = size * v
    larger = np.maximum(np.abs(theta), np.abs(theta + change))
    (phi_bound, bound, *_), factor = majorant(net, larger, x, change, change)
    factor *= 1 + phi_bound.max()
    phi, phi_change = network.forward_change(net, theta, change, x)
    np.testing.assert_array_equal(phi, network.forward(net, theta, x))
    with mpmath.workdps(50):
        end = [a + b for a, b in zip(exact(theta), exact(change), strict=True)]
        for row, computed, tolerance in zip(x, phi_change, factor * bound, strict=True):
            old = forward_at_50_digits(net, exact(theta), exact(row))
            new = forward_at_50_digits(net, end, exact(row))
            errors = [abs(c - (b - a)) for a, b, c in zip(old, new, computed, strict=True)]
            assert all(error <= t for error, t in zip(errors, tolerance, strict=True))
            # The stated relative bound: 11 digits of the row's largest entry, at every size of the change.
            assert max(errors) <= 1e-11 * np.abs(computed).max()


def test_the_difference_of_two_forward_passes_does_not_keep_them():
    net = Network((3, 4, 2))
    theta, x, v, _, _ = draw(net)
    change = 1e-15 * v
    naive = network.forward(net, theta + change, x) - network.forward(net, theta, x)
    stable = network.forward_change(net, theta, change, x)[1]
    assert np.abs(naive - stable).max() > 1e-2 * np.abs(stable).max()


# Derivatives


@every_network
def test_jvp_is_the_complex_step_of_forward(net):
    theta, x, v, w, _ = draw(net)
    (_, bound, *_), factor = majorant(net, theta, x, v, w)
    by_step = network.forward(net, theta + 1j * STEP * v, x).imag / STEP
    assert (np.abs(network.jvp(net, theta, x, v) - by_step) <= factor * bound).all()


@every_network
def test_the_jacobian_is_the_complex_step_of_forward_and_the_columns_of_jvp(net):
    theta, x, v, _, _ = draw(net)
    bound, _ = basis_majorants(net, theta, x, v)
    factor = majorant(net, theta, x, v, v)[1]
    J = network.jacobian(net, theta, x)
    assert J.shape == (5, net.num_outputs, net.num_parameters)
    at = network.linearize(net, theta, x)
    for p, e in enumerate(np.eye(net.num_parameters)):
        by_step = network.forward(net, theta + 1j * STEP * e, x).imag / STEP
        assert (np.abs(J[:, :, p] - by_step) <= factor * bound[:, :, p]).all()
        assert (np.abs(J[:, :, p] - at.jvp(e)) <= factor * bound[:, :, p]).all()


@every_network
def test_vjp_is_the_transposed_jacobian_taken_by_complex_step(net):
    theta, x, v, _, phi_bar = draw(net)
    bound, _ = basis_majorants(net, theta, x, v)
    factor = majorant(net, theta, x, v, v)[1] + len(x) * U
    columns = [network.forward(net, theta + 1j * STEP * e, x).imag / STEP for e in np.eye(net.num_parameters)]
    expected = np.array([(phi_bar * column).sum() for column in columns])
    tolerance = factor * np.einsum("bk,bkp->p", np.abs(phi_bar), bound)
    assert (np.abs(network.vjp(net, theta, x, phi_bar) - expected) <= tolerance).all()


@every_network
def test_vjp_is_the_adjoint_of_jvp(net):
    theta, x, v, w, u = draw(net, seed=1)
    (_, bound, *_), factor = majorant(net, theta, x, v, w)
    at = network.linearize(net, theta, x)
    left, right = (u * at.jvp(v)).sum(), at.vjp(u) @ v
    # The sums over the P and B K products add P + B K roundings of the same terms.
    assert abs(left - right) <= (factor + (v.size + u.size) * U) * (np.abs(u) * bound).sum()


@every_network
def test_curvature_product_is_the_complex_step_of_vjp(net):
    theta, x, v, _, phi_bar = draw(net)
    _, bound = basis_majorants(net, theta, x, v)
    factor = majorant(net, theta, x, v, v)[1] + len(x) * U
    by_step = network.vjp(net, theta + 1j * STEP * v, x, phi_bar).imag / STEP
    computed = network.linearize(net, theta, x).curvature_product(phi_bar, v)
    assert (np.abs(computed - by_step) <= factor * np.einsum("bk,bkp->p", np.abs(phi_bar), bound)).all()


@every_network
def test_curvature_product_is_symmetric_and_the_second_derivative_of_phi(net):
    theta, x, v, w, phi_bar = draw(net, seed=2)
    bounds, factor = majorant(net, theta, x, v, w)
    tolerance = (factor + 2 * v.size * U) * (np.abs(phi_bar) * bounds[3]).sum()
    at = network.linearize(net, theta, x)
    vHw = v @ at.curvature_product(phi_bar, w)
    assert abs(vHw - w @ at.curvature_product(phi_bar, v)) <= tolerance
    second = network.jvp(net, theta + 1j * STEP * w, x, v).imag / STEP  # vᵀ∇²φ w, from the tangents alone
    assert abs(vHw - (phi_bar * second).sum()) <= tolerance


def test_free_entries_have_no_curvature():
    net = Network((3, 4, 2), free=2)
    theta, x, v, _, phi_bar = draw(net)
    at = network.linearize(net, theta, x)
    np.testing.assert_array_equal(at.curvature_product(phi_bar, v)[-2:], 0)
    phi_bar[:, :2] = 0
    np.testing.assert_array_equal(at.curvature_product(phi_bar, v), 0)


@every_network
def test_gram_is_the_jacobian_times_its_transpose(net):
    theta, x, v, _, u = draw(net)
    bound, _ = basis_majorants(net, theta, x, v)
    factor = 2 * majorant(net, theta, x, v, v)[1] + net.num_parameters * U
    J = network.jacobian(net, theta, x)
    at = network.linearize(net, theta, x)
    gram = gram_of(at)
    tolerance = factor * np.einsum("bkp,cjp->bkcj", bound, bound)
    assert (np.abs(gram - np.einsum("bkp,cjp->bkcj", J, J)) <= tolerance).all()
    product = np.einsum("bkcj,cj->bk", gram, u)
    assert (np.abs(at.gram_product(u) - product) <= 2 * np.einsum("bkcj,cj->bk", tolerance, np.abs(u))).all()


@given(
    sizes=st.lists(st.integers(1, 5), min_size=2, max_size=5),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    free=st.integers(0, 2),
    rows=st.integers(1, 4),
    seed=st.integers(0, 2**32),
)
def test_any_shape_is_adjoint_consistent_and_counted(sizes, activation, free, rows, seed):
    net = Network(tuple(sizes), activation, free)
    theta, x, v, w, u = draw(net, rows, seed)
    bounds, factor = majorant(net, theta, x, v, w)
    at = network.linearize(net, theta, x)
    assert at.phi.shape == u.shape
    np.testing.assert_array_equal(at.phi, network.forward(net, theta, x))
    by_step = network.forward(net, theta + 1j * STEP * v, x).imag / STEP
    assert (np.abs(at.jvp(v) - by_step) <= factor * bounds[1]).all()
    sums = factor + (v.size + u.size) * U
    assert abs((u * at.jvp(v)).sum() - at.vjp(u) @ v) <= sums * (np.abs(u) * bounds[1]).sum()
    second = network.vjp(net, theta + 1j * STEP * w, x, u).imag / STEP
    assert abs(second @ v - at.curvature_product(u, w) @ v) <= sums * (np.abs(u) * bounds[3]).sum()


# The Gauss–Newton matrix without its Jacobian


@every_network
@pytest.mark.parametrize("root", ["triangular", "tall"])
def test_the_gauss_newton_matrix_is_that_of_the_jacobian(net, root, monkeypatch):
    """Any R, its number of rows too; blocks of 3 rows, the last one shorter."""
    monkeypatch.setattr(linearization, "row_parts", lambda rows: row_parts(rows, 3))
    theta, x, v, w, _ = draw(net)
    at = network.linearize(net, theta, x)
    B, K = at.phi.shape
    generator = np.random.default_rng(11)
    R = generator.normal(size=(B, K + 2 * (root == "tall"), K))
    RJ = np.einsum("bmk,bkp->bmp", R, at.jacobian())

    def root_product(rows, J):
        return np.einsum("bmk,bkp->bmp", R[rows], J)

    G = network.gauss_newton_matrix(at, root_product)
    # Each entry is a sum of products of two sums of K products with J, whose own error is ``factor`` of its majorant.
    size = np.einsum("bmk,bkp->bmp", np.abs(R), basis_majorants(net, theta, x, v)[0])
    factor = 2 * (majorant(net, theta, x, v, w)[1] + (B * R.shape[1] + K + 4) * U)
    bound = factor * np.einsum("bmp,bmq->pq", size, size)
    assert (np.abs(G - np.einsum("bmp,bmq->pq", RJ, RJ)) <= bound).all()
    np.testing.assert_array_equal(G, G.T)


@pytest.mark.parametrize("dtype", [np.float32, np.longdouble, np.complex128])
def test_the_gauss_newton_matrix_keeps_the_dtype_and_is_bilinear(dtype):
    """With a complex J it is JᵀJ, not conjugated, so that complex steps pass through it."""
    net = Network((2, 3, 2), free=1)
    theta, x, *_ = draw(net)
    theta = (theta + (0.25j * theta[::-1] if dtype is np.complex128 else 0)).astype(dtype)
    at = network.linearize(net, theta, x.astype(dtype))
    G = network.gauss_newton_matrix(at, lambda rows, J: J)
    J = at.jacobian().reshape(-1, net.num_parameters)
    assert G.dtype == dtype
    np.testing.assert_allclose(G, J.T @ J, rtol=0, atol=200 * np.finfo(dtype).eps * np.abs(J).max() ** 2)


def test_folded_sums_of_parts_add_up():
    net = Network((3, 4, 2), free=2)
    theta, x, *_ = draw(net)
    both, first, second = (network.linearize(net, theta, rows) for rows in (x, x[:2], x[2:]))
    total = network.folded(first, lambda rows, J: J) + network.folded(second, lambda rows, J: J)
    whole = network.gauss_newton_matrix(both, lambda rows, J: J)
    # Two orders of the same few additions.
    np.testing.assert_allclose(network.unfolded(net, total), whole, rtol=0, atol=20 * U * np.abs(whole).max())


# Blocks, dtypes, reuse


def test_more_rows_than_a_block_agree_with_the_sum_row_by_row():
    net = Network((2, 3, 1), free=1)
    rows = 2 * ROWS_PER_PART + 7
    theta, x, v, w, phi_bar = draw(net, rows)
    bounds, factor = majorant(net, theta, x, v, w)
    at = network.linearize(net, theta, x)
    J = at.jacobian()
    np.testing.assert_array_equal(at.phi, network.forward(net, theta, x))
    for start in (0, ROWS_PER_PART - 1, ROWS_PER_PART, 2 * ROWS_PER_PART + 6):
        one = network.linearize(net, theta, x[start : start + 1])
        assert (np.abs(at.phi[start] - one.phi[0]) <= factor * bounds[0][start]).all()
        assert (np.abs(at.jvp(v)[start] - one.jvp(v)[0]) <= factor * bounds[1][start]).all()
    terms = phi_bar[:, :, None] * J
    expected = [math.fsum(column) for column in terms.reshape(-1, net.num_parameters).T]
    # fsum is exact; a block of n rows sums with at most n roundings, whatever the order.
    tolerance = (ROWS_PER_PART + 2) * U * np.abs(terms).sum(axis=(0, 1)) + factor * np.abs(terms).sum(axis=(0, 1))
    assert (np.abs(at.vjp(phi_bar) - expected) <= tolerance).all()


def test_sums_over_rows_are_those_of_the_blocks_in_order():
    net = Network((2, 3, 1), free=1)
    theta, x, v, _, phi_bar = draw(net, 2 * ROWS_PER_PART + 7)
    at = network.linearize(net, theta, x)
    parts = [slice(0, 512), slice(512, 1024), slice(1024, None)]
    alone = [network.linearize(net, theta, x[rows]) for rows in parts]
    first, second, third = (one.vjp(phi_bar[rows]) for one, rows in zip(alone, parts, strict=True))
    np.testing.assert_array_equal(at.vjp(phi_bar), (first + second) + third)
    first, second, third = (one.curvature_product(phi_bar[rows], v) for one, rows in zip(alone, parts, strict=True))
    np.testing.assert_array_equal(at.curvature_product(phi_bar, v), (first + second) + third)


@every_network
def test_blocks_change_nothing_but_rounding(net, monkeypatch):
    theta, x, v, _, phi_bar = draw(net)
    bound, second = basis_majorants(net, theta, x, v)
    factor = majorant(net, theta, x, v, v)[1] + len(x) * U
    whole = network.linearize(net, theta, x)
    monkeypatch.setattr(linearization, "row_parts", lambda rows: row_parts(rows, 2))
    parts = network.linearize(net, theta, x)
    assert (len(whole.blocks), len(parts.blocks)) == (1, 3)
    assert (np.abs(parts.jacobian() - whole.jacobian()) <= factor * bound).all()
    tolerance = factor * np.einsum("bkp,cjp->bkcj", bound, bound)
    assert (np.abs(gram_of(parts) - gram_of(whole)) <= 2 * tolerance).all()
    change = parts.curvature_product(phi_bar, v) - whole.curvature_product(phi_bar, v)
    assert (np.abs(change) <= factor * np.einsum("bk,bkp->p", np.abs(phi_bar), second)).all()
    whole_change = network.forward_change(net, theta, v, x)[1]
    monkeypatch.undo()
    (_, change_bound, *_), _ = majorant(net, np.abs(theta) + np.abs(v), x, v, v)
    unblocked = network.forward_change(net, theta, v, x)[1]
    assert (np.abs(whole_change - unblocked) <= 10 * factor * change_bound).all()


def test_products_at_one_theta_repeat_no_forward_pass(monkeypatch):
    net = Network((3, 4, 4, 2))
    theta, x, v, _, _ = draw(net)
    at = network.linearize(net, theta, x)
    expected = at.vjp(at.jvp(v)), gram_of(at)

    def forbidden(*_):
        raise AssertionError("the activation was evaluated again")

    monkeypatch.setitem(ACTIVATIONS, "tanh", Activation(forbidden, forbidden, forbidden, forbidden))
    np.testing.assert_array_equal(at.vjp(at.jvp(v)), expected[0])
    np.testing.assert_array_equal(gram_of(at), expected[1])


@every_network
@pytest.mark.parametrize("dtype", [np.float32, np.longdouble, np.complex128])
def test_every_product_keeps_the_dtype(net, dtype):
    theta, x, v, _, phi_bar = (a.astype(dtype) for a in draw(net))
    at = network.linearize(net, theta, x)
    results = [at.phi, at.jvp(v), at.vjp(phi_bar), at.jacobian(), gram_of(at), at.gram_product(phi_bar)]
    results += [at.curvature_product(phi_bar, v), *network.forward_change(net, theta, v, x)]
    assert {result.dtype for result in results} == {np.dtype(dtype)}


def test_arguments_are_not_changed():
    net = Network((3, 4, 2), free=1)
    arguments = draw(net)
    copies = [a.copy() for a in arguments]
    theta, x, v, _, phi_bar = arguments
    at = network.linearize(net, theta, x)
    at.vjp(phi_bar), at.jvp(v), gram_of(at), at.curvature_product(phi_bar, v), at.gram_product(phi_bar)
    network.forward_change(net, theta, v, x)
    for a, b in zip(arguments, copies, strict=True):
        np.testing.assert_array_equal(a, b)


# Bad input

GOOD = Network((3, 4, 2))
THETA, X = np.zeros(26), np.zeros((5, 3))


@pytest.mark.parametrize(
    ("net", "theta", "x", "message"),
    [
        (GOOD, np.zeros(25), X, "forward: theta has shape (25,), expected (P,) where P = 26"),
        (GOOD, np.zeros((26, 1)), X, "forward: theta has shape (26, 1), expected (P,)"),
        (GOOD, THETA, np.zeros((5, 2)), "forward: x has shape (5, 2), expected (B, D) where D = 3"),
        (GOOD, THETA, np.zeros(3), "forward: x has shape (3,), expected (B, D)"),
        (GOOD, THETA, np.zeros((0, 3)), "forward: x has shape (0, 3), expected B >= 1: it is empty"),
        (GOOD, np.full(26, np.nan), X, "forward: theta holds NaN or infinity, expected finite numbers"),
        (GOOD, THETA, np.full((5, 3), np.inf), "forward: x holds NaN or infinity, expected finite numbers"),
        (
            GOOD._replace(sizes=(3,)),
            THETA,
            X,
            "forward: sizes is (3,), expected a tuple of two or more widths (D, ..., outputs)",
        ),
        (
            GOOD._replace(sizes=[3, 2]),
            THETA,
            X,
            "forward: sizes is [3, 2], expected a tuple of two or more widths (D, ..., outputs)",
        ),
        (GOOD._replace(sizes=(3, 0, 2)), THETA, X, "forward: sizes[1] is 0, expected an integer >= 1"),
        (GOOD._replace(sizes=(3, 4.0)), THETA, X, "forward: sizes[1] is 4.0, expected an integer >= 1"),
        (GOOD._replace(free=-1), THETA, X, "forward: free is -1, expected an integer >= 0"),
        (
            GOOD._replace(activation="sine"),
            THETA,
            X,
            "forward: activation is 'sine', expected one of 'tanh', 'relu', 'identity', 'elu', 'silu', 'swish', "
            "'softplus', 'gelu'",
        ),
    ],
)
def test_a_bad_network_or_batch_is_named(net, theta, x, message):
    with pytest.raises(ValueError, match="forward") as error:
        network.forward(net, theta, x)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: network.linearize(GOOD, THETA[1:], X), "linearize: theta has shape (25,), expected (P,) where P = 26"),
        (lambda: network.jacobian(GOOD, THETA[1:], X), "jacobian: theta has shape (25,), expected (P,) where P = 26"),
        (lambda: network.jvp(GOOD, THETA, X, THETA[1:]), "jvp: v has shape (25,), expected (P,) where P = 26"),
        (
            lambda: network.vjp(GOOD, THETA, X, np.zeros((5, 3))),
            "vjp: phi_bar has shape (5, 3), expected (B, K) where K = 2",
        ),
        (
            lambda: network.vjp(GOOD, THETA, X, np.zeros((4, 2))),
            "vjp: phi_bar has shape (4, 2), expected (B, K) where B = 5 (set by x)",
        ),
        (
            lambda: network.forward_change(GOOD, THETA, THETA[1:], X),
            "forward_change: theta_change has shape (25,), expected (P,) where P = 26",
        ),
        (
            lambda: network.unflatten(GOOD, THETA[1:]),
            "unflatten: theta has shape (25,), expected (P,) where P = 26",
        ),
        (lambda: network.flatten(GOOD, []), "flatten: layers has length 0, expected 2"),
        (
            lambda: network.flatten(Network((2, 3)), [(np.zeros((3, 2)), np.zeros(3))]),
            "flatten: layers[0].W has shape (3, 2), expected (I, O) where I = 2",
        ),
        (
            lambda: network.flatten(Network((1, 1)), [(np.zeros((1, 1)), np.zeros(1))], np.zeros(1)),
            "flatten: free has 1 entries, expected none",
        ),
        (
            lambda: network.flatten(Network((1, 1), free=2), [(np.zeros((1, 1)), np.zeros(1))], np.zeros(1)),
            "flatten: free has shape (1,), expected (F,) where F = 2",
        ),
        (
            lambda: network.initial_parameters(GOOD, np.random.default_rng(0), scale=-1.0),
            "initial_parameters: scale is -1.0, expected a number >= 0",
        ),
    ],
)
def test_every_door_names_itself_and_what_it_expected(call, message):
    with pytest.raises(ValueError, match=r"\w") as error:
        call()
    assert str(error.value) == message


def test_a_cotangent_may_be_complex():
    """φ̄ enters linearly, so its imaginary part gives that of the product; θ, x and v stay real."""
    net = Network((3, 4, 2), free=1)
    theta, x, v, _, phi_bar = draw(net, 5)
    at = network.linearize(net, theta, x)
    for product in (at.vjp, lambda c: at.curvature_product(c, v)):
        of_complex, whole = product(phi_bar + 2j * phi_bar), product(phi_bar)
        tolerance = 100 * theta.size * U * np.abs(whole).max()  # more terms than any sum here has
        np.testing.assert_allclose(of_complex, whole + 2j * whole, rtol=0, atol=tolerance)
