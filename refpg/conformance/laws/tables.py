"""How far ordinary code may be from the answers about finite MDPs: the margins of the profile theory.

As in `refpg.conformance.laws.ordinary`, of every op only the *error* is used.  Where two formulas are in use, such as
ρ₀ᵀV and ρᵀr for a return, the margin is that of the one that rounds more.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from refpg.conformance.laws.rounding import Rounded, exp, log, rounded, where

Conventions = Mapping[str, str]


def _eliminated(A: Rounded, b: Rounded) -> Rounded:
    """Return A⁻¹b of a matrix that is diagonally dominant by rows or by columns.

    ::

        |δx| ≤ |A⁻¹| (E_A |x| + E_b + 3n (2n − 1) ‖A‖ max|x|)        the last term: ‖|L||U|‖ ≤ (2n − 1) ‖A‖
    """
    n = len(b)
    x = np.linalg.solve(A.value, b.value)
    norm = np.abs(A.value).sum(axis=1).max()
    backward = A.error @ np.abs(x) + b.error + 3 * n * (2 * n - 1) * norm * np.abs(x).max()
    return Rounded(x, np.abs(np.linalg.inv(A.value)) @ backward)


def _either(one: Rounded, other: Rounded) -> Rounded:
    return Rounded(one.value, np.maximum(one.error, other.error))


def _largest(x: Rounded) -> Rounded:
    return Rounded(x.value.max(), x.error.max())


# One policy.


def _decay(transition: Any, gamma: Any, pi: Any) -> Rounded:
    """I − γP_π."""
    P_pi = (rounded(pi)[:, :, None] * transition).sum(axis=1)
    return np.eye(len(P_pi)) - gamma * P_pi


def _evaluated(transition: Any, reward: Any, gamma: Any, pi: Any) -> tuple[Rounded, Rounded, Rounded]:
    V = _eliminated(_decay(transition, gamma, pi), (rounded(pi) * reward).sum(axis=1))
    Q = reward + gamma * (rounded(transition) @ V)
    return V, Q, Q - V[:, None]


def _visits(transition: Any, start: Any, gamma: Any, pi: Any) -> Rounded:
    return _eliminated(_decay(transition, gamma, pi).T, rounded(start))


def _policy_evaluation(transition: Any, reward: Any, gamma: Any, probabilities: Any) -> dict[str, Rounded]:
    V, Q, A = _evaluated(transition, reward, gamma, probabilities)
    return {"values": V, "action_values": Q, "advantages": A}


def _visitation(conventions: Conventions, transition: Any, start: Any, gamma: Any, probabilities: Any) -> Rounded:
    rho = _visits(transition, start, gamma, probabilities)
    return (1 - rounded(gamma)) * rho if conventions["visitation.normalisation"] == "normalised" else rho


def _expected_return(transition: Any, reward: Any, start: Any, gamma: Any, probabilities: Any) -> Rounded:
    V, _, _ = _evaluated(transition, reward, gamma, probabilities)
    rho = _visits(transition, start, gamma, probabilities)
    return _either((rounded(start) * V).sum(), (rho * (rounded(probabilities) * reward).sum(axis=1)).sum())


def _softmax_policy_gradient(transition: Any, reward: Any, start: Any, gamma: Any, logits: Any) -> Rounded:
    z = rounded(logits)
    e = exp(z - z.value.max(axis=1, keepdims=True))
    pi = e / e.sum(axis=1)[:, None]
    _, _, A = _evaluated(transition, reward, gamma, pi)
    return _visits(transition, start, gamma, pi)[:, None] * pi * A


# Two policies.


def _gain(rho: Rounded, new: Any, A: Rounded) -> Rounded:
    """Σ_s ρ(s) Σ_a π'(a|s) A(s,a)."""
    return (rho * (rounded(new) * A).sum(axis=1)).sum()


def _performance_difference(
    transition: Any, reward: Any, start: Any, gamma: Any, old_probabilities: Any, new_probabilities: Any
) -> Rounded:
    before, after = (
        _expected_return(transition, reward, start, gamma, pi) for pi in (old_probabilities, new_probabilities)
    )
    _, _, A = _evaluated(transition, reward, gamma, old_probabilities)
    rho = _visits(transition, start, gamma, new_probabilities)
    return _either(after - before, _gain(rho, new_probabilities, A))


def _local_approximation(
    transition: Any, reward: Any, start: Any, gamma: Any, old_probabilities: Any, new_probabilities: Any
) -> Rounded:
    _, _, A = _evaluated(transition, reward, gamma, old_probabilities)
    rho = _visits(transition, start, gamma, old_probabilities)
    eta = _expected_return(transition, reward, start, gamma, old_probabilities)
    return eta + _gain(rho, new_probabilities, A)


# Divergences and bounds.


def _distances(old: Any, new: Any) -> Rounded:
    return 0.5 * abs(rounded(old) - new).sum(axis=1)


def _divergences(p: Any, q: Any) -> Rounded:
    p, q = rounded(p), rounded(q)
    there = p.value > 0
    surprise = log(where(there, p, 1.0)) - log(where(there, q, 1.0))
    return where(there, p * surprise, 0.0).sum(axis=1)


def _policy_total_variation(old_probabilities: Any, new_probabilities: Any) -> dict[str, Rounded]:
    tv = _distances(old_probabilities, new_probabilities)
    return {"total_variation": tv, "max_total_variation": _largest(tv)}


def _policy_kl(
    conventions: Conventions, old_probabilities: Any, new_probabilities: Any, state_weights: Any
) -> dict[str, Rounded]:
    pair = (old_probabilities, new_probabilities)
    kl = _divergences(*(pair if conventions["kl.direction"] == "old_new" else pair[::-1]))
    return {"kl": kl, "max_kl": _largest(kl), "mean_kl": (kl * state_weights).sum()}


def _penalty_coefficient(advantages: Any, gamma: Any) -> Rounded:
    gap = 1 - rounded(gamma)
    return 4 * _largest(abs(rounded(advantages))) * gamma / (gap * gap)


def _lower_bounds(
    transition: Any, reward: Any, start: Any, gamma: Any, old_probabilities: Any, new_probabilities: Any
) -> dict[str, Rounded]:
    old, new = old_probabilities, new_probabilities
    L = _local_approximation(transition, reward, start, gamma, old, new)
    _, _, A = _evaluated(transition, reward, gamma, old)
    C, C_new = (_penalty_coefficient(one, gamma) for one in (A, (rounded(new) * A).sum(axis=1)))
    kl, tv = _largest(_divergences(old, new)), _distances(old, new)
    seen = ((1 - rounded(gamma)) * _visits(transition, start, gamma, old) * tv).sum()
    return {
        "trpo_kl": L - C * kl,
        "trpo_tv": L - C * _largest(tv) * _largest(tv),
        "pinsker": L - C * kl / 2,
        "cpo": L - C_new * seen / 2,
    }


WITH_CONVENTIONS: dict[str, Callable[..., Any]] = {"visitation": _visitation, "policy_kl": _policy_kl}
WITHOUT_CONVENTIONS: dict[str, Callable[..., Any]] = {
    "policy_evaluation": _policy_evaluation,
    "expected_return": _expected_return,
    "performance_difference": _performance_difference,
    "local_approximation": _local_approximation,
    "softmax_policy_gradient": _softmax_policy_gradient,
    "policy_total_variation": _policy_total_variation,
    "penalty_coefficient": _penalty_coefficient,
    "lower_bounds": _lower_bounds,
}
