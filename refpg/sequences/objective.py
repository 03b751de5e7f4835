"""The objective of GRPO and its kin: the clipped objective less a penalty for leaving the reference.

::

    Σ_it w_it (min(r_it A_i, clip(r_it, 1 − ε, 1 + ε) A_i) − β k(d_it))
"""

from typing import Any, NamedTuple

from refpg.notation import Array, bind_shapes, overflow_is_an_error, scalar
from refpg.sequences.aggregation import aggregate, token_weights
from refpg.sequences.clipping import clipped_rows
from refpg.sequences.penalty import penalty_rows
from refpg.sequences.tokens import Tokens, bind_tokens, padded, to_tokens


class _Objective(NamedTuple):
    """The tokens that count, with the weight, the term and the slope of each."""

    tokens: Tokens
    weights: Array
    terms: Array
    slopes: Array


@overflow_is_an_error
def sequence_objective(
    old_log_prob: Any,
    new_log_prob: Any,
    reference_log_prob: Any,
    advantages: Any,
    mask: Any,
    clip: Any,
    kl_penalty: Any,
    *,
    clip_high: Any = None,
    level: str = "token",
    estimator: str = "k3",
    aggregation: str = "token_mean",
    constant: Any = None,
) -> Any:
    """Return the clipped objective with one advantage per sequence, less the penalty, to be maximised.

    ::

        Σ_it w_it (min(r_it A_i, clip(r_it, 1 − ε, 1 + ε) A_i) − β k(d_it)),    d = log π_θ − log π_ref

    Parameters
    ----------
    old_log_prob, new_log_prob, reference_log_prob : (N, T) array
        Log-probabilities of the tokens under π_old, π_θ and π_ref, nats.
    advantages : (N,) array
        A, one per sequence, return units; from `group_advantages`, say.
    mask : (N, T) array of bool
        Which tokens count, one at least in each sequence.
    clip : float
        ε in (0, 1).
    kl_penalty : float
        β ≥ 0, return units per nat.
    clip_high, level
        As in `token_clipped_objective`.
    estimator : {"k1", "k2", "k3"}
        k, as in `token_kl_penalty`.
    aggregation, constant
        The weights w of both terms, as in `masked_aggregate`.

    Returns
    -------
    scalar
        Return units: `token_clipped_objective` − β `token_kl_penalty`.

    Raises
    ------
    ValueError
        As these two, or if β < 0.

    Notes
    -----
    Convention: GRPO is level "token", estimator "k3", aggregation "sequence_mean_token_mean"; DAPO has another
    aggregation, "token_mean", an upper end of its own and β = 0; Dr. GRPO "token_sum_over_constant" and advantages
    that are not divided by a deviation; GSPO level "sequence".  The level is that of the ratio alone.

    References
    ----------
    [GRPO], [DAPO], [Dr-GRPO], [GSPO]

    Examples
    --------
    >>> import numpy as np
    >>> old, new, reference = [[0.0, 0.0]], [[0.0, 0.0]], [[np.log(2), 0.0]]
    >>> float(sequence_objective(old, new, reference, [3.0], [[True, True]], 0.5, 2.0, estimator="k1"))
    3.6931471805599454
    """
    found = _objective(
        "sequence_objective",
        old_log_prob,
        new_log_prob,
        reference_log_prob,
        advantages,
        mask,
        clip,
        kl_penalty,
        clip_high,
        level,
        estimator,
        aggregation,
        constant,
    )
    return aggregate(found.terms, found.weights)


@overflow_is_an_error
def sequence_objective_gradient(
    old_log_prob: Any,
    new_log_prob: Any,
    reference_log_prob: Any,
    advantages: Any,
    mask: Any,
    clip: Any,
    kl_penalty: Any,
    *,
    clip_high: Any = None,
    level: str = "token",
    estimator: str = "k3",
    aggregation: str = "token_mean",
    constant: Any = None,
) -> Array:
    """Return the gradient of `sequence_objective` with respect to the new log-probabilities.

    ::

        ∂/∂log π_it = w_it (the slope of the clipped objective − β k'(d_it))

    Parameters
    ----------
    old_log_prob, new_log_prob, reference_log_prob, advantages, mask, clip, kl_penalty
        As in `sequence_objective`.
    clip_high, level, estimator, aggregation, constant
        As in `sequence_objective`.

    Returns
    -------
    (N, T) array
        `token_clipped_objective_gradient` − β `token_kl_penalty_gradient`; exactly 0 where the token does not count.

    Raises
    ------
    ValueError
        As `sequence_objective`.

    References
    ----------
    [GRPO], [GSPO]

    Examples
    --------
    At the old policy, which is the reference, the penalty pulls nowhere: GRPO is REINFORCE with weights.

    >>> at, A, mask = [[0.0, 0.0], [0.0, 0.0]], [1.0, -1.0], [[True, True], [True, False]]
    >>> sequence_objective_gradient(at, at, at, A, mask, 0.5, 2.0, aggregation="sequence_mean_token_mean")
    array([[ 0.25,  0.25],
           [-0.5 ,  0.  ]])
    """
    found = _objective(
        "sequence_objective_gradient",
        old_log_prob,
        new_log_prob,
        reference_log_prob,
        advantages,
        mask,
        clip,
        kl_penalty,
        clip_high,
        level,
        estimator,
        aggregation,
        constant,
    )
    return padded(found.tokens, found.weights * found.slopes)


def _objective(
    function: str,
    old: Any,
    new: Any,
    reference: Any,
    advantages: Any,
    mask: Any,
    clip: Any,
    kl_penalty: Any,
    clip_high: Any,
    level: str,
    estimator: str,
    aggregation: str,
    constant: Any,
) -> _Objective:
    tokens, old, new, reference = bind_tokens(
        function, mask, old_log_prob=old, new_log_prob=new, reference_log_prob=reference
    )
    (A,) = bind_shapes(function, {"N": len(tokens.lengths)}, advantages=(advantages, "N"))
    beta = scalar(function, "kl_penalty", kl_penalty, least=0)
    clipped, rise = clipped_rows(function, tokens, new - old, to_tokens(tokens, A), clip, clip_high, level)
    k, pull = penalty_rows(function, new - reference, estimator)
    terms = clipped - beta * k
    return _Objective(
        tokens, token_weights(function, tokens, terms, aggregation, constant), terms, slopes=rise - beta * pull
    )
