"""JAX, compiled: the network is linearised once per θ, and products are its jvp and vjp."""

from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from verification.benchmarks.peers import Call
from verification.benchmarks.problems import CLIP, DAMPING, ITERATIONS, MAX_KL, Problem

jax.config.update("jax_enable_x64", True)


def version() -> str:
    """Return the version."""
    return jax.__version__


def mean(sizes: tuple[int, ...], theta: Any, x: Any) -> Any:
    """Return the output of the network."""
    h, start = x, 0
    for position, (inputs, outputs) in enumerate(pairwise(sizes)):
        middle = start + inputs * outputs
        W, b = theta[start:middle].reshape(inputs, outputs), theta[middle : middle + outputs]
        start = middle + outputs
        h = h @ W + b
        if position < len(sizes) - 2:
            h = jnp.tanh(h)
    return h


def log_prob(sizes: tuple[int, ...], theta: Any, x: Any, action: Any) -> Any:
    """Return log π(a|s), one per row."""
    log_std = theta[-sizes[-1] :]
    e = (action - mean(sizes, theta, x)) * jnp.exp(-log_std)
    return -jnp.sum(e * e / 2 + log_std + jnp.log(2 * jnp.pi) / 2, 1)


def kl(sizes: tuple[int, ...], old_mean: Any, old_log_std: Any, theta: Any, x: Any) -> Any:
    """Return the mean of KL(old ‖ new)."""
    log_std = theta[-sizes[-1] :]
    shift = old_mean - mean(sizes, theta, x)
    rows = log_std - old_log_std + (jnp.exp(2 * old_log_std) + shift**2) / (2 * jnp.exp(2 * log_std)) - 0.5
    return jnp.mean(jnp.sum(rows, 1))


def _product(sizes: tuple[int, ...], theta: Any, J: Any, transposed: Any, v: Any) -> Any:
    """Return (F + λI) v, from the linear map J and its transpose."""
    A = sizes[-1]
    Jv = J(v)
    (JtMJv,) = transposed(Jv * jnp.exp(-2 * theta[-A:]) / len(Jv))
    return JtMJv.at[-A:].add(2 * v[-A:]) + DAMPING * v


def _maps(sizes: tuple[int, ...], theta: Any, x: Any) -> tuple[Any, Any]:
    _, J = jax.linearize(lambda t: mean(sizes, t, x), theta)
    _, transposed = jax.vjp(lambda t: mean(sizes, t, x), theta)
    return J, transposed


def _solve(sizes: tuple[int, ...], theta: Any, x: Any, g: Any) -> tuple[Any, Any]:
    """Return the answer of conjugate gradients, and the product it was found with."""
    J, transposed = _maps(sizes, theta, x)

    def step(_: Any, state: Any) -> Any:
        s, r, p, rr = state
        Fp = _product(sizes, theta, J, transposed, p)
        alpha = rr / (p @ Fp)
        s, r = s + alpha * p, r - alpha * Fp
        after = r @ r
        return s, r, r + after / rr * p, after

    solution = jax.lax.fori_loop(0, ITERATIONS, step, (jnp.zeros_like(g), g, g, g @ g))[0]
    return solution, lambda v: _product(sizes, theta, J, transposed, v)


def _gradient_of(sizes: tuple[int, ...], theta: Any, x: Any, a: Any, A: Any) -> Any:
    old = jax.lax.stop_gradient(log_prob(sizes, theta, x, a))
    return jax.grad(lambda t: jnp.mean(jnp.exp(log_prob(sizes, t, x, a) - old) * A))(theta)


def _trpo(sizes: tuple[int, ...], theta: Any, x: Any, a: Any, A: Any) -> Any:
    g = _gradient_of(sizes, theta, x, a, A)
    direction, F = _solve(sizes, theta, x, g)
    step = jnp.sqrt(2 * MAX_KL / (direction @ F(direction))) * direction
    old_mean, old_log_p = mean(sizes, theta, x), log_prob(sizes, theta, x, a)

    def refused(state: Any) -> Any:
        j, scale = state
        new = theta + scale * step
        gain = jnp.mean(jnp.expm1(log_prob(sizes, new, x, a) - old_log_p) * A)
        inside = kl(sizes, old_mean, theta[-sizes[-1] :], new, x) <= MAX_KL
        return (j < 10) & ~((gain > 0) & inside)

    _, scale = jax.lax.while_loop(refused, lambda state: (state[0] + 1, state[1] / 2), (0, 1.0))
    return scale * step


def _clipped(sizes: tuple[int, ...], theta: Any, x: Any, a: Any, A: Any, old: Any) -> Any:
    def loss(t: Any) -> Any:
        ratio = jnp.exp(log_prob(sizes, t, x, a) - old)
        return jnp.mean(jnp.minimum(ratio * A, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * A))

    return jax.value_and_grad(loss)(theta)


def _call(function: Any, *arrays: Any, read: Any = np.asarray) -> Call:
    compiled = jax.jit(function)
    given = [jnp.asarray(array) for array in arrays]
    return Call(lambda: jax.block_until_ready(compiled(*given)), read)


def _forward(problem: Problem) -> Call:
    A = problem.sizes[-1]

    def phi(theta: Any, x: Any) -> Any:
        outputs = mean(problem.sizes, theta, x)
        return jnp.concatenate([outputs, jnp.broadcast_to(theta[-A:], outputs.shape)], 1)

    return _call(phi, problem.theta, problem.batch.observations)


def _gradient(problem: Problem) -> Call:
    return _call(lambda *given: _gradient_of(problem.sizes, *given), problem.theta, *problem.batch[:3])


def _fisher_product(problem: Problem) -> Call:
    theta, x, v = (jnp.asarray(array) for array in (problem.theta, problem.batch.observations, problem.v))
    maps = jax.jit(lambda theta, x: _maps(problem.sizes, theta, x))(theta, x)
    product = jax.jit(lambda theta, maps, v: _product(problem.sizes, theta, *maps, v))
    return Call(lambda: jax.block_until_ready(product(theta, maps, v)), np.asarray)


def _conjugate_gradient(problem: Problem) -> Call:
    return _call(lambda *given: _solve(problem.sizes, *given)[0], problem.theta, problem.batch.observations, problem.v)


def _trpo_update(problem: Problem) -> Call:
    return _call(lambda *given: _trpo(problem.sizes, *given), problem.theta, *problem.batch[:3])


def _mean_kl(problem: Problem) -> Call:
    A = problem.sizes[-1]
    return _call(
        lambda old, new, x: kl(problem.sizes, mean(problem.sizes, old, x), old[-A:], new, x),
        problem.theta,
        problem.near,
        problem.batch.observations,
    )


def _clipped_loss(problem: Problem) -> Call:
    return _call(
        lambda *given: _clipped(problem.sizes, *given),
        problem.theta,
        *problem.batch[:4],
        read=lambda found: np.append(found[1], found[0]),
    )


def _root_rows(sizes: tuple[int, ...], theta: Any, x: Any) -> Any:
    """Return the rows √w R J of the network's outputs, (N·A, P without log σ)."""
    A = sizes[-1]
    network, log_std = theta[:-A], theta[-A:]
    J = jax.vmap(jax.jacrev(lambda t, row: mean(sizes, t, row[None])[0]), (None, 0))(network, x)
    return (J * (jnp.exp(-log_std) / len(x) ** 0.5)[:, None]).reshape(-1, len(network))


def _fisher_matrix(problem: Problem) -> Call:
    A = problem.sizes[-1]

    def matrix(theta: Any, x: Any) -> Any:
        G = _root_rows(problem.sizes, theta, x)
        return jax.scipy.linalg.block_diag(G.T @ G, 2 * jnp.eye(A))

    return _call(matrix, problem.theta, problem.batch.observations)


def _natural_gradient(problem: Problem) -> Call:
    A, P = problem.sizes[-1], len(problem.theta)
    is_dual = problem.rows * A < P

    def solve(matrix: Any, b: Any) -> Any:
        factor = jax.scipy.linalg.cho_factor(matrix + DAMPING * jnp.eye(len(matrix)))
        return jax.scipy.linalg.cho_solve(factor, b)

    def direction(theta: Any, x: Any, v: Any) -> Any:
        g, g_log_std = v[:-A], v[-A:]
        G = _root_rows(problem.sizes, theta, x)
        found = (g - G.T @ solve(G @ G.T, G @ g)) / DAMPING if is_dual else solve(G.T @ G, g)
        return jnp.concatenate([found, g_log_std / (2 + DAMPING)])

    return _call(direction, problem.theta, problem.batch.observations, problem.v)


calls = {
    "forward": _forward,
    "gradient": _gradient,
    "fisher_product": _fisher_product,
    "conjugate_gradient": _conjugate_gradient,
    "trpo_update": _trpo_update,
    "mean_kl": _mean_kl,
    "clipped_loss": _clipped_loss,
    "fisher_matrix": _fisher_matrix,
    "natural_gradient": _natural_gradient,
}
