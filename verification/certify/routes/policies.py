"""The policy derived by hand, in balls: forward, backward, score, KL as a Bregman divergence, the rows of F.

Parameters are one vector in the contract's order.  A hidden unit carries its slope, so that a backward pass is the
chain rule and nothing else; the distributions are the two exponential families, with A(η) their log-normaliser:

    KL(p ‖ q) = A(η_q) − A(η_p) − ∇A(η_p)ᵀ(η_q − η_p)
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import product as choices
from typing import Any, NamedTuple

from flint import arb, arb_mat

from verification.certify.balls import dot, exact, product, rational, total

Inputs = dict[str, Any]
Vector = list[arb]

# ── Activations: value and slope ────────────────────────────────────────────────────────────────────────────────────


def _sigmoid(z: arb) -> arb:
    return (1 + (z / 2).tanh()) / 2


def _normal_cdf(z: arb) -> arb:
    return (-z / arb(2).sqrt()).erfc() / 2


def _normal_density(z: arb) -> arb:
    return (-z * z / 2).exp() / (2 * arb.pi()).sqrt()


def _relu(z: arb) -> tuple[arb, arb]:
    return (z, arb(1)) if z > 0 else (arb(0), arb(0)) if z < 0 else (arb.nan(), arb.nan())  # no case may hit the kink


def _elu(z: arb) -> tuple[arb, arb]:
    return (z, arb(1)) if z > 0 else (z.expm1(), z.exp()) if z <= 0 else (arb.nan(), arb.nan())


VALUE_AND_SLOPE: dict[str, Callable[[arb], tuple[arb, arb]]] = {
    "tanh": lambda z: (z.sinh() / z.cosh(), 1 / z.cosh() ** 2),
    "relu": _relu,
    "identity": lambda z: (z, arb(1)),
    "elu": _elu,
    "silu": lambda z: (z * _sigmoid(z), _sigmoid(z) * (1 + z * _sigmoid(-z))),
    "softplus": lambda z: (z / 2 + (2 * (z / 2).cosh()).log(), _sigmoid(z)),
    "gelu": lambda z: (z * _normal_cdf(z), _normal_cdf(z) + z * _normal_density(z)),
}

# ── Parameters ──────────────────────────────────────────────────────────────────────────────────────────────────────


def vector_of(parameters: Inputs) -> Vector:
    """Return parameters as one vector of balls: of each layer W row by row and b, at the end log_std."""
    vector: Vector = []
    for layer in parameters["layers"]:
        for row in [*layer["W"], layer["b"]]:
            vector.extend(exact(row))
    return vector + exact(parameters.get("log_std", []))


def structure(like: Inputs, vector: Sequence[Any]) -> Inputs:
    """Return a vector in the layers of ``like``."""
    start = 0

    def take(count: int) -> list[Any]:
        nonlocal start
        start += count
        return list(vector[start - count : start])

    layers = []
    for layer in like["layers"]:
        width = len(layer["b"])
        layers.append({"W": [take(width) for _ in layer["W"]], "b": take(width)})
    return {"layers": layers} | ({"log_std": take(len(like["log_std"]))} if "log_std" in like else {})


def moved(theta: Vector, by: arb, direction: Vector) -> Vector:
    """Return θ + by · direction."""
    return [t + by * d for t, d in zip(theta, direction, strict=True)]


# ── The network ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Pass(NamedTuple):
    """One row forward: the inputs of every layer, a constant 1 behind them, the hidden slopes, the outputs."""

    inputs: list[Vector]
    slopes: list[Vector]
    outputs: Vector


class Net(NamedTuple):
    """The matrices [W; b] of a network at θ, its activation, and what is left of θ: log_std."""

    matrices: list[arb_mat]
    value_and_slope: Callable[[arb], tuple[arb, arb]]
    log_std: Vector
    categorical: bool


def net_of(like: Inputs, theta: Vector) -> Net:
    """Return the network, or the policy, with parameters θ."""
    parts = structure(like, theta)
    return Net(
        [arb_mat([*layer["W"], layer["b"]]) for layer in parts["layers"]],
        VALUE_AND_SLOPE[like["activation"]],
        parts.get("log_std", []),
        like.get("distribution") == "categorical",
    )


def forward(net: Net, x: Sequence[float]) -> Pass:
    """Multiply (h, 1) by [W; b], layer by layer."""
    inputs, slopes = [[*exact(list(x)), arb(1)]], []
    for matrix in net.matrices[:-1]:
        z = (arb_mat([inputs[-1]]) * matrix).entries()
        pairs = [net.value_and_slope(z_j) for z_j in z]
        inputs.append([*(value for value, _ in pairs), arb(1)])
        slopes.append([slope for _, slope in pairs])
    return Pass(inputs, slopes, (arb_mat([inputs[-1]]) * net.matrices[-1]).entries())


def backward(net: Net, row: Pass, outputs_bar: Vector, log_std_bar: Vector) -> Vector:
    """Return Jᵀ φ̄ of one row: the outer products of the layers' inputs and what arrives from above."""
    bar = outputs_bar
    parts: list[Vector] = [log_std_bar]
    for number in reversed(range(len(net.matrices))):
        parts.insert(0, [h * bar_j for h in row.inputs[number] for bar_j in bar])
        if number:
            back = (net.matrices[number] * arb_mat([[b] for b in bar])).entries()[:-1]  # not to the constant
            bar = [b * slope for b, slope in zip(back, row.slopes[number - 1], strict=True)]
    return [entry for part in parts for entry in part]


def summed(vectors: Sequence[Vector]) -> Vector:
    """Return the sum of vectors."""
    return [total(entries) for entries in zip(*vectors, strict=True)]


# ── The two families ────────────────────────────────────────────────────────────────────────────────────────────────


def probabilities(logits: Vector) -> Vector:
    """1/Σ_j e^{z_j − z_k} of every action k."""
    return [1 / total((other - z).exp() for other in logits) for z in logits]


def density(net: Net, outputs: Vector, action: Any) -> arb:
    """The probability of an action, or its density as the product over the dimensions."""
    if net.categorical:
        return probabilities(outputs)[action]
    stds = [log_std.exp() for log_std in net.log_std]
    return product(_normal_density((a - m) / s) / s for a, m, s in zip(exact(action), outputs, stds, strict=True))


def score(net: Net, outputs: Vector, action: Any) -> tuple[Vector, Vector]:
    """∂ log π/∂ outputs and ∂ log π/∂ log_std: 1[k = a] − p_k; or e/σ and e² − 1, e = (a − μ)/σ."""
    if net.categorical:
        return [int(k == action) - p for k, p in enumerate(probabilities(outputs))], []
    stds = [log_std.exp() for log_std in net.log_std]
    errors = [(a - m) / s for a, m, s in zip(action, outputs, stds, strict=True)]
    return [e / s for e, s in zip(errors, stds, strict=True)], [(e - 1) * (e + 1) for e in errors]


def weighted_actions(net: Net, outputs: Vector) -> Iterator[tuple[Any, arb]]:
    """Actions with weights under which the mean of a product of two scores is exact.

    All actions with their probabilities; or the nodes μ, μ ± √3 σ of Gauss–Hermite quadrature with weights ⅔ and ⅙ in
    every dimension, exact for polynomials of degree 5: two scores multiply to degree 4.
    """
    if net.categorical:
        yield from enumerate(probabilities(outputs))
        return
    nodes = [(arb(0), rational(2, 3)), (arb(3).sqrt(), rational(1, 6)), (-arb(3).sqrt(), rational(1, 6))]
    for chosen in choices(nodes, repeat=len(outputs)):
        rows = zip(outputs, net.log_std, chosen, strict=True)
        yield [m + log_std.exp() * e for m, log_std, (e, _) in rows], product(weight for _, weight in chosen)


def _natural(net: Net, outputs: Vector, log_std: Vector) -> tuple[Vector, Vector, arb]:
    """η, ∇A(η) = E[T] and A(η): T = 1[k = a]; or T = (a, a²), η = (μ/σ², −1/2σ²)."""
    if net.categorical:
        return outputs, probabilities(outputs), total(z.exp() for z in outputs).log()
    precisions = [(-2 * s).exp() for s in log_std]
    eta = [m * w for m, w in zip(outputs, precisions, strict=True)] + [-w / 2 for w in precisions]
    moments = outputs + [m * m + 1 / w for m, w in zip(outputs, precisions, strict=True)]
    normaliser = total(m * m * w / 2 - w.log() / 2 for m, w in zip(outputs, precisions, strict=True))
    return eta, moments, normaliser


def divergence(net: Net, p: tuple[Vector, Vector], q: tuple[Vector, Vector]) -> arb:
    """KL(p ‖ q) from (outputs, log_std) of both."""
    eta_p, moments, normaliser_p = _natural(net, *p)
    eta_q, _, normaliser_q = _natural(net, *q)
    change = [b - a for a, b in zip(eta_p, eta_q, strict=True)]
    return normaliser_q - normaliser_p - dot(moments, change)


def divergence_slopes(
    net: Net, old: tuple[Vector, Vector], new: tuple[Vector, Vector], direction: str
) -> tuple[Vector, Vector]:
    """∂KL/∂(new outputs, new log_std), KL(old ‖ new) or KL(new ‖ old)."""
    if net.categorical:
        p, q = probabilities(old[0]), probabilities(new[0])
        if direction == "old_new":
            return [b - a for a, b in zip(p, q, strict=True)], []
        gaps = [b - a for a, b in zip(old[0], new[0], strict=True)]
        average = dot(q, gaps)
        return [q_k * (gap - average) for q_k, gap in zip(q, gaps, strict=True)], []
    to_outputs, to_log_std = [], []
    for m0, s0, m1, s1 in zip(*old, *new, strict=True):
        d = m1 - m0
        if direction == "old_new":
            to_outputs.append(d * (-2 * s1).exp())
            to_log_std.append(-(2 * (s0 - s1)).expm1() - d * d * (-2 * s1).exp())
        else:
            to_outputs.append(d * (-2 * s0).exp())
            to_log_std.append((2 * (s1 - s0)).expm1())
    return to_outputs, to_log_std


# ── The mean KL and the rows of the Fisher matrix ───────────────────────────────────────────────────────────────────


def mean_divergence(
    policy: Inputs, theta_old: Vector, theta: Vector, observations: Sequence[Any], direction: str
) -> arb:
    """Mean KL between the policies at θ_old and θ."""
    old_net, net = net_of(policy, theta_old), net_of(policy, theta)
    rows = []
    for x in observations:
        old = forward(old_net, x).outputs, old_net.log_std
        new = forward(net, x).outputs, net.log_std
        rows.append(divergence(net, old, new) if direction == "old_new" else divergence(net, new, old))
    return total(rows) / len(rows)


def mean_divergence_gradient(
    policy: Inputs, theta_old: Vector, theta: Vector, observations: Sequence[Any], direction: str
) -> Vector:
    """Its gradient with respect to θ, propagated backward by hand."""
    old_net, net = net_of(policy, theta_old), net_of(policy, theta)
    rows = []
    for x in observations:
        row = forward(net, x)
        old = forward(old_net, x).outputs, old_net.log_std
        slopes = divergence_slopes(net, old, (row.outputs, net.log_std), direction)
        rows.append(backward(net, row, *slopes))
    return [entry / len(rows) for entry in summed(rows)]


def weighted_scores(policy: Inputs, theta: Vector, observations: Sequence[Any]) -> arb_mat:
    """Rows √(w_a/B) ∇ log π(a|x_b) over observations and weighted actions: F is the product with their transpose."""
    net = net_of(policy, theta)
    rows = []
    for x in observations:
        row = forward(net, x)
        for action, weight in weighted_actions(net, row.outputs):
            root = (weight / len(observations)).sqrt()
            rows.append([root * s for s in backward(net, row, *score(net, row.outputs, action))])
    return arb_mat(rows)


def fisher_rows(policy: Inputs, theta: Vector, observations: Sequence[Any]) -> arb_mat:
    """Fewer rows G with F = GᵀG: the scores of the actions; or of a Gaussian J/σ of each mean, and √2 per log_std."""
    net = net_of(policy, theta)
    if net.categorical:
        return weighted_scores(policy, theta, observations)
    count = len(net.log_std)
    nothing = [arb(0) for _ in range(count)]
    rows = []
    for x in observations:
        row = forward(net, x)
        for k, log_std in enumerate(net.log_std):
            bar = [(-log_std).exp() / arb(len(observations)).sqrt() if i == k else arb(0) for i in range(count)]
            rows.append(backward(net, row, bar, nothing))
    before = len(theta) - count
    rows += [[arb(2).sqrt() if i == before + k else arb(0) for i in range(len(theta))] for k in range(count)]
    return arb_mat(rows)


def product_of(matrix: arb_mat, vector: Vector) -> Vector:
    """Return matrix · vector."""
    return (matrix * arb_mat([[v] for v in vector])).entries()
