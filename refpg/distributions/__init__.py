"""What φ means: log-probability, entropy, KL, score and Fisher matrix of the action distributions.

A `Family` is a record of functions of φ (B, K), the parameters of one distribution per row.  With J the
Jacobian of the network that made φ, the chapters that follow need no more than this of a distribution::

    ∇_θ log π = Jᵀ score        F = Jᵀ M J        ∇_θ KL = Jᵀ ∂KL/∂φ        M = E[score scoreᵀ] = ∂²KL/∂φ²

Constants: ``CATEGORICAL``, ``BERNOULLI``, ``DIAGONAL_GAUSSIAN``, ``SQUASHED_GAUSSIAN``.  Constructors:
`masked_categorical`, `multi_categorical`.  Everything is in nats, row by row; expectations over actions are
exact.  Old before new, always: ``kl(family, phi_old, phi_new)`` is KL(old ‖ new).

The functions of this module are the doors: they check their arguments.  A result outside the range of the
floating-point type is an error as well, never an infinity.  The fields of a record take the *change* Δ =
φ_new − φ_old instead of φ_new, because a caller that knows it exactly loses nothing; they do not check.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from refpg.distributions import bernoulli, categorical, gaussian, squashed
from refpg.distributions.squashed import squash, unsquash
from refpg.notation import Array, bind_shapes, count, overflow_is_an_error

__all__ = [
    "BERNOULLI",
    "CATEGORICAL",
    "DIAGONAL_GAUSSIAN",
    "SQUASHED_GAUSSIAN",
    "Family",
    "entropy",
    "entropy_gradient",
    "fisher",
    "fisher_product",
    "kl",
    "kl_gradient",
    "log_prob",
    "log_ratio",
    "masked_categorical",
    "multi_categorical",
    "sample",
    "score",
    "squash",
    "unsquash",
]


@dataclass(frozen=True)
class Family:
    """A family of action distributions: a record of functions of its parameters φ (B, K).

    ``change`` (B, K) is Δ = φ_new − φ_old, and v (B, K) any vector; the fields do not check their arguments
    (the doors of this module do), except the two that exist to check.

    Attributes
    ----------
    name : str
        As in the names of the conformance operations.
    check : (function, phi) -> None
        ValueError, in the name of ``function``, if φ cannot belong to the family.
    check_action : (function, phi, action) -> action
        The validated actions, one row per row of φ.
    log_prob : (phi, action) -> (B,)
        log π(a), nats; a log-density for continuous actions.
    score : (phi, action) -> (B, K)
        ∂ log π(a)/∂φ.
    entropy, entropy_gradient : (phi) -> (B,), (B, K)
        H = −E log π, nats, and ∂H/∂φ.
    log_ratio : (phi, change, action) -> (B,)
        log π_{φ+Δ}(a) − log π_φ(a), accurate however small Δ.
    kl, kl_gradient, kl_hessian_product : (phi, change[, v]) -> (B,), (B, K), (B, K)
        KL(φ ‖ φ + Δ), its gradient in Δ, and its Hessian in Δ times v.
    reverse_kl_gradient, reverse_kl_hessian_product : (phi, change[, v]) -> (B, K)
        The same of KL(φ + Δ ‖ φ), whose value is ``kl(phi + change, -change)``.
    fisher, fisher_product : (phi[, v]) -> (B, K, K), (B, K)
        M = E[score scoreᵀ], and M v.
    fisher_root_product : (phi, J) -> (B, K, ...)
        R J with Rᵀ R = M, for J (B, K, ...); no difference of large products is formed.
    sample : (phi, generator) -> action
        One action per row.
    rows : (index) -> Family
        The family of some of the rows; itself, unless rows differ (a mask).
    """

    name: str
    check: Callable[[str, Array], None]
    check_action: Callable[[str, Array, Any], Array]
    log_prob: Callable[[Array, Array], Array]
    score: Callable[[Array, Array], Array]
    entropy: Callable[[Array], Array]
    entropy_gradient: Callable[[Array], Array]
    log_ratio: Callable[[Array, Array, Array], Array]
    kl: Callable[[Array, Array], Array]
    kl_gradient: Callable[[Array, Array], Array]
    kl_hessian_product: Callable[[Array, Array, Array], Array]
    reverse_kl_gradient: Callable[[Array, Array], Array]
    reverse_kl_hessian_product: Callable[[Array, Array, Array], Array]
    fisher: Callable[[Array], Array]
    fisher_product: Callable[[Array, Array], Array]
    fisher_root_product: Callable[[Array, Array], Array]
    sample: Callable[[Array, np.random.Generator], Array]
    rows: Callable[[Any], "Family"]


# What each function gives, a number or a vector per row, and whether its last argument is an action.
_PER_ROW = ("log_prob", "entropy", "log_ratio", "kl")
_PER_PARAMETER = (
    "score",
    "entropy_gradient",
    "kl_gradient",
    "kl_hessian_product",
    "reverse_kl_gradient",
    "reverse_kl_hessian_product",
    "fisher_product",
    "fisher_root_product",
)
_OF_ACTION = ("log_prob", "score", "log_ratio")


def _record(name: str, chapter: ModuleType) -> Family:
    """Collect the functions of a module whose names are the fields."""
    fields = ("check", "check_action", "fisher", "sample", *_PER_ROW, *_PER_PARAMETER)
    functions = {field: getattr(chapter, field) for field in fields}
    return Family(name=name, rows=partial(_every_row, name), **functions)


def _every_row(name: str, index: Any) -> Family:
    return _CONSTANTS[name]


CATEGORICAL = _record("categorical", categorical)
BERNOULLI = _record("bernoulli", bernoulli)
DIAGONAL_GAUSSIAN = _record("diagonal_gaussian", gaussian)
SQUASHED_GAUSSIAN = replace(
    DIAGONAL_GAUSSIAN,
    name="squashed_gaussian",
    log_prob=squashed.log_prob,
    entropy=squashed.entropy,
    entropy_gradient=squashed.entropy_gradient,
    rows=partial(_every_row, "squashed_gaussian"),
)
_CONSTANTS = {
    "categorical": CATEGORICAL,
    "bernoulli": BERNOULLI,
    "diagonal_gaussian": DIAGONAL_GAUSSIAN,
    "squashed_gaussian": SQUASHED_GAUSSIAN,
}


def masked_categorical(mask: Array) -> Family:
    """Return the categorical family in which some actions are impossible, row by row.

    ::

        π(a) = 1[allowed] e^{z_a} / Σ_{j allowed} e^{z_j}

    It is the categorical distribution with z = −∞ at the masked actions: probability, score and Fisher matrix
    are exactly 0 there, whatever the logit that was given.

    Parameters
    ----------
    mask : (B, A) bool array
        True where the action is allowed; at least one per row.

    Returns
    -------
    Family
        For φ of exactly these B rows; ``rows`` selects some of them.

    Raises
    ------
    ValueError
        If the mask is not boolean, or a row allows nothing.

    Notes
    -----
    Convention: a masked action has no log-probability (an error), not a very negative one.

    Examples
    --------
    >>> import numpy as np
    >>> family = masked_categorical(np.array([[True, False, True]]))
    >>> entropy(family, np.zeros((1, 3))) / np.log(2)
    array([1.])
    """
    (allowed,) = bind_shapes("masked_categorical", {}, mask=(mask, "bool B A"))
    if not allowed.any(axis=1).all():
        row = int(np.argmin(allowed.any(axis=1)))
        raise ValueError(f"masked_categorical: mask allows no action in row {row}, expected at least one")
    fields = ("fisher", "sample", *_PER_ROW, *_PER_PARAMETER)
    return Family(
        name="masked_categorical",
        check=partial(_check_mask, allowed),
        check_action=partial(_check_allowed, allowed),
        rows=partial(_masked_rows, allowed),
        **{field: partial(_with_mask, allowed, getattr(categorical, field)) for field in fields},
    )


def _with_mask(mask: Array, function: Callable[..., Array], phi: Array, *others: Any) -> Array:
    return function(np.where(mask, phi, -np.inf), *others)


def _check_mask(mask: Array, function: str, phi: Array) -> None:
    if phi.shape != mask.shape:
        raise ValueError(f"{function}: phi has shape {phi.shape}, expected the mask's {mask.shape}")


def _check_allowed(mask: Array, function: str, phi: Array, action: Any) -> Array:
    a = categorical.check_action(function, phi, action)
    forbidden = ~np.take_along_axis(mask, a[:, np.newaxis], axis=1)[:, 0]
    if forbidden.any():
        b = int(np.argmax(forbidden))
        raise ValueError(f"{function}: action is {a[b]} in row {b}, expected an action the mask allows")
    return a


def _masked_rows(mask: Array, index: Any) -> Family:
    return masked_categorical(mask[index])


def multi_categorical(sizes: Sequence[int]) -> Family:
    """Return the family of independent categorical actions, several per row.

    ::

        π(a) = Π_i softmax(z_i)_{a_i},    φ = (z_1, ..., z_n),    K = Σ_i sizes_i

    Log-probability, entropy and KL are sums over i, gradients are joined, and M is block-diagonal.

    Parameters
    ----------
    sizes : sequence of int
        The number of choices of each action, at least 1 each.

    Returns
    -------
    Family
        Its actions are (B, n) integers.

    Raises
    ------
    ValueError
        If there are no sizes, or one is not a positive integer.

    Examples
    --------
    >>> import numpy as np
    >>> log_prob(multi_categorical((2, 4)), np.zeros((1, 6)), [[1, 3]]) / np.log(2)
    array([-3.])
    """
    widths = tuple(count("multi_categorical", "sizes", size) for size in sizes)
    if not widths:
        raise ValueError("multi_categorical: sizes is empty, expected at least one number of choices")
    ends = np.cumsum(widths).tolist()
    blocks = tuple(slice(end - width, end) for end, width in zip(ends, widths, strict=True))
    return Family(
        name="multi_categorical",
        check=partial(_check_blocks, blocks),
        check_action=partial(_check_block_actions, blocks),
        fisher=partial(_fisher_of_blocks, blocks),
        sample=partial(_sample_blocks, blocks),
        rows=partial(_multi_rows, widths),
        **{field: partial(_sum_over_blocks, blocks, field) for field in _PER_ROW},
        **{field: partial(_join_blocks, blocks, field) for field in _PER_PARAMETER},
    )


def _by_block(blocks: tuple[slice, ...], field: str, *arguments: Array) -> list[Array]:
    """Apply a function of the categorical family to each action's own columns."""
    *first, last = arguments
    results = []
    for i, block in enumerate(blocks):
        own = last[:, i] if field in _OF_ACTION else last[:, block]
        results.append(getattr(categorical, field)(*(array[:, block] for array in first), own))
    return results


def _sum_over_blocks(blocks: tuple[slice, ...], field: str, *arguments: Array) -> Array:
    total: Array = np.sum(_by_block(blocks, field, *arguments), axis=0)
    return total


def _join_blocks(blocks: tuple[slice, ...], field: str, *arguments: Array) -> Array:
    return np.concatenate(_by_block(blocks, field, *arguments), axis=1)


def _fisher_of_blocks(blocks: tuple[slice, ...], phi: Array) -> Array:
    M = np.zeros((*phi.shape, phi.shape[1]), dtype=phi.dtype)
    for block, M_block in zip(blocks, _by_block(blocks, "fisher", phi), strict=True):
        M[:, block, block] = M_block
    return M


def _sample_blocks(blocks: tuple[slice, ...], phi: Array, generator: np.random.Generator) -> Array:
    return np.stack([categorical.sample(phi[:, block], generator) for block in blocks], axis=1)


def _check_blocks(blocks: tuple[slice, ...], function: str, phi: Array) -> None:
    if phi.shape[1] != blocks[-1].stop:
        K = blocks[-1].stop
        raise ValueError(f"{function}: phi has shape {phi.shape}, expected (B, {K}), the sum of the sizes")


def _check_block_actions(blocks: tuple[slice, ...], function: str, phi: Array, action: Any) -> Array:
    (a,) = bind_shapes(function, {"B": phi.shape[0], "A": len(blocks)}, action=(action, "int B A"))
    for i, block in enumerate(blocks):
        categorical.check_action(function, phi[:, block], a[:, i])
    return a


def _multi_rows(sizes: tuple[int, ...], index: Any) -> Family:
    return multi_categorical(sizes)


def _checked(function: str, family: Family, phi: Array) -> Array:
    (phi,) = bind_shapes(function, {}, phi=(phi, "B K"))
    family.check(function, phi)
    return phi


def _checked_pair(function: str, family: Family, phi_old: Array, phi_new: Array) -> tuple[Array, Array]:
    """Return φ_old and Δ = φ_new − φ_old."""
    phi_old, phi_new = bind_shapes(function, {}, phi_old=(phi_old, "B K"), phi_new=(phi_new, "B K"))
    family.check(function, phi_old)
    return phi_old, phi_new - phi_old


@overflow_is_an_error
def log_prob(family: Family, phi: Array, action: Array) -> Array:
    """Return the log-probability of the actions, one per row.

    ::

        log π_φ(a)

    Parameters
    ----------
    family : Family
        The action distribution.
    phi : (B, K) array
        Its parameters.
    action : array
        One action per row: (B,) integers (categorical), (B, n) integers (multi-categorical), (B, A) of 0 and
        1 (Bernoulli), (B, A) numbers (Gaussian); for the squashed Gaussian the value *before* tanh.

    Returns
    -------
    (B,) array
        Nats; summed, not averaged, over action dimensions.

    Raises
    ------
    ValueError
        If a shape disagrees, a number is not finite, an action is impossible, or the result overflows.

    Notes
    -----
    Convention: for the squashed Gaussian this is the density of tanh(u), not of u.

    References
    ----------
    [TRPO (14)]

    Examples
    --------
    >>> import numpy as np
    >>> log_prob(CATEGORICAL, np.log([[0.25, 0.75]]), [0]) / np.log(2)
    array([-2.])
    """
    phi = _checked("log_prob", family, phi)
    action = family.check_action("log_prob", phi, action)
    return family.log_prob(phi, action)


@overflow_is_an_error
def score(family: Family, phi: Array, action: Array) -> Array:
    """Return the score, the gradient of the log-probability in the parameters of the distribution.

    ::

        ∂ log π_φ(a)/∂φ          E_a[score] = 0

    Parameters
    ----------
    family : Family
        The action distribution.
    phi : (B, K) array
        Its parameters.
    action : array
        One action per row, as for `log_prob`.

    Returns
    -------
    (B, K) array
        The score; with respect to log σ, not σ, where there is one.

    Raises
    ------
    ValueError
        As for `log_prob`.

    References
    ----------
    [TRPO App. C.1]

    Examples
    --------
    >>> import numpy as np
    >>> score(CATEGORICAL, np.zeros((1, 2)), [0])
    array([[ 0.5, -0.5]])
    """
    phi = _checked("score", family, phi)
    action = family.check_action("score", phi, action)
    return family.score(phi, action)


@overflow_is_an_error
def entropy(family: Family, phi: Array) -> Array:
    """Return the entropy, one per row.

    ::

        H = −E_a log π_φ(a)

    Parameters
    ----------
    family : Family
        The action distribution.
    phi : (B, K) array
        Its parameters.

    Returns
    -------
    (B,) array
        Nats, summed over action dimensions; differential entropy (any sign) for continuous actions.

    Raises
    ------
    ValueError
        If a shape disagrees, a number is not finite, or the result overflows.

    Notes
    -----
    Convention: of the squashed Gaussian, the entropy of tanh(u), by quadrature exact to the rounding of
    float64 (in wider types too), not an estimate from samples.

    References
    ----------
    [PPO (9)]

    Examples
    --------
    >>> import numpy as np
    >>> entropy(CATEGORICAL, np.zeros((1, 4))) / np.log(2)
    array([2.])
    """
    phi = _checked("entropy", family, phi)
    return family.entropy(phi)


@overflow_is_an_error
def entropy_gradient(family: Family, phi: Array) -> Array:
    """Return the gradient of the entropy with respect to the parameters of the distribution.

    ::

        ∂H/∂φ = −E_a[log π_φ(a) score]

    Parameters
    ----------
    family : Family
        The action distribution.
    phi : (B, K) array
        Its parameters.

    Returns
    -------
    (B, K) array
        The gradient of each row's entropy.

    Raises
    ------
    ValueError
        As for `entropy`.

    Examples
    --------
    >>> import numpy as np
    >>> entropy_gradient(DIAGONAL_GAUSSIAN, np.zeros((1, 2)))
    array([[0., 1.]])
    """
    phi = _checked("entropy_gradient", family, phi)
    return family.entropy_gradient(phi)


@overflow_is_an_error
def kl(family: Family, phi_old: Array, phi_new: Array) -> Array:
    """Return the Kullback–Leibler divergence from the old to the new distribution, one per row.

    ::

        KL(old ‖ new) = E_{a ∼ old}[log π_old(a) − log π_new(a)]

    Computed from Δ = φ_new − φ_old in a form without cancellation: relatively accurate, however small.

    Parameters
    ----------
    family : Family
        The action distribution.
    phi_old : (B, K) array
        Parameters of the distribution the expectation is taken under.
    phi_new : (B, K) array
        Parameters of the other.

    Returns
    -------
    (B,) array
        Nats, ≥ 0, summed over action dimensions.

    Raises
    ------
    ValueError
        If a shape disagrees, a number is not finite, or the result overflows.

    Notes
    -----
    Convention: old first.  Swap the arguments for KL(new ‖ old); to second order in Δ the two are equal.

    References
    ----------
    [TRPO (11)]

    Examples
    --------
    Means 0 and 2, both of variance 1:

    >>> kl(DIAGONAL_GAUSSIAN, [[0.0, 0.0]], [[2.0, 0.0]])
    array([2.])
    """
    phi_old, change = _checked_pair("kl", family, phi_old, phi_new)
    return family.kl(phi_old, change)


@overflow_is_an_error
def log_ratio(family: Family, phi_old: Array, phi_new: Array, action: Array) -> Array:
    """Return the log of the probability ratio of the actions, one per row.

    ::

        log r = log π_new(a) − log π_old(a)

    Parameters
    ----------
    family : Family
        The action distribution.
    phi_old : (B, K) array
        Parameters of the denominator.
    phi_new : (B, K) array
        Parameters of the numerator.
    action : array
        One action per row, as for `log_prob`.

    Returns
    -------
    (B,) array
        Nats; ratio − 1 is its expm1.

    Raises
    ------
    ValueError
        As for `log_prob`.

    References
    ----------
    [PPO (6)]

    Examples
    --------
    >>> import numpy as np
    >>> np.exp(log_ratio(BERNOULLI, [[0.0]], [[np.log(3.0)]], [[1]]))
    array([1.5])
    """
    phi_old, change = _checked_pair("log_ratio", family, phi_old, phi_new)
    action = family.check_action("log_ratio", phi_old, action)
    return family.log_ratio(phi_old, change, action)


@overflow_is_an_error
def kl_gradient(family: Family, phi_old: Array, phi_new: Array) -> Array:
    """Return the gradient of KL(old ‖ new) with respect to the parameters of the new distribution.

    ::

        ∂KL(old ‖ new)/∂φ_new          (categorical: softmax(φ_new) − softmax(φ_old))

    Parameters
    ----------
    family : Family
        The action distribution.
    phi_old : (B, K) array
        Parameters of the distribution the expectation is taken under.
    phi_new : (B, K) array
        Parameters of the other, where the gradient is taken.

    Returns
    -------
    (B, K) array
        The gradient of each row's divergence; 0 where old and new agree.

    Raises
    ------
    ValueError
        As for `kl`.

    References
    ----------
    [TRPO App. C.1]

    Examples
    --------
    >>> import numpy as np
    >>> kl_gradient(CATEGORICAL, np.zeros((1, 2)), np.log([[0.75, 0.25]]))
    array([[ 0.25, -0.25]])
    """
    phi_old, change = _checked_pair("kl_gradient", family, phi_old, phi_new)
    return family.kl_gradient(phi_old, change)


@overflow_is_an_error
def fisher(family: Family, phi: Array) -> Array:
    """Return the Fisher matrix of the parameters of the distribution, one per row.

    ::

        M = E_a[score scoreᵀ] = ∂²KL(φ ‖ φ')/∂φ'²  at φ' = φ

    Parameters
    ----------
    family : Family
        The action distribution.
    phi : (B, K) array
        Its parameters.

    Returns
    -------
    (B, K, K) array
        M, positive semi-definite.  Singular for the categorical families: a constant added to the logits is
        not seen.

    Raises
    ------
    ValueError
        If a shape disagrees, a number is not finite, or the result overflows.

    Notes
    -----
    Convention: of the parameters φ, so for a Gaussian of log σ (2 per dimension), not of σ.

    References
    ----------
    [TRPO App. C.1], [Martens]

    Examples
    --------
    >>> import numpy as np
    >>> fisher(CATEGORICAL, np.zeros((1, 2)))
    array([[[ 0.25, -0.25],
            [-0.25,  0.25]]])
    """
    phi = _checked("fisher", family, phi)
    return family.fisher(phi)


@overflow_is_an_error
def fisher_product(family: Family, phi: Array, v: Array) -> Array:
    """Return the Fisher matrix of the parameters of the distribution times a vector, row by row.

    ::

        M v          (categorical: p (v − E_p v))

    Parameters
    ----------
    family : Family
        The action distribution.
    phi : (B, K) array
        Its parameters.
    v : (B, K) array
        One vector per row.

    Returns
    -------
    (B, K) array
        M v.

    Raises
    ------
    ValueError
        If a shape disagrees, a number is not finite, or the result overflows.

    References
    ----------
    [TRPO App. C.1]

    Examples
    --------
    >>> import numpy as np
    >>> fisher_product(BERNOULLI, np.zeros((1, 1)), np.ones((1, 1)))
    array([[0.25]])
    """
    phi = _checked("fisher_product", family, phi)
    (v,) = bind_shapes("fisher_product", {"B": phi.shape[0], "K": phi.shape[1]}, v=(v, "B K"))
    return family.fisher_product(phi, v)


@overflow_is_an_error
def sample(family: Family, phi: Array, generator: np.random.Generator) -> Array:
    """Draw one action per row.

    ::

        a_b ∼ π_{φ_b}, independent

    Parameters
    ----------
    family : Family
        The action distribution.
    phi : (B, K) array
        Its parameters, real.
    generator : numpy.random.Generator
        The only source of randomness.

    Returns
    -------
    array
        Actions as `log_prob` takes them; for the squashed Gaussian the values *before* tanh (see `squash`).

    Raises
    ------
    ValueError
        If a shape disagrees, a number is not finite or not real, the generator is not one, or the result
        overflows.

    Examples
    --------
    >>> import numpy as np
    >>> sample(CATEGORICAL, np.array([[0.0, 1e3], [1e3, 0.0]]), np.random.default_rng(1))
    array([1, 0])
    """
    phi = _checked("sample", family, phi)
    if phi.dtype.kind == "c":
        raise ValueError(f"sample: phi has dtype {phi.dtype}, expected real numbers")
    if not isinstance(generator, np.random.Generator):
        raise ValueError(f"sample: generator is {generator!r}, expected a numpy.random.Generator")
    return family.sample(phi, generator)
