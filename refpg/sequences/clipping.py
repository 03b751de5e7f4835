"""PPO's clipped objective over tokens, with a ratio per token or per sequence.

::

    Σ_it w_it min(r_it A_it, clip(r_it, 1 − ε, 1 + ε) A_it)

        token       r_it = exp(ℓ_it)                       ℓ = log π_θ − log π_old of the token
        sequence    r_it = s_i = exp(Σ_t ℓ_it / |y_i|)     the geometric mean of the ratios of the sequence    [GSPO]

With one token per sequence both are the objective of `surrogate.clipped_objective`.
"""

from typing import Any

import numpy as np

from refpg.notation import Array, choice, overflow_is_an_error
from refpg.sequences.aggregation import aggregate, token_weights
from refpg.sequences.tokens import Tokens, bind_tokens, padded, sequence_means
from refpg.surrogate.clipping import clipped_slope, effective_ratio, ratio_window


def clipped_rows(
    function: str, tokens: Tokens, log_r: Array, A: Array, clip: Any, clip_high: Any, level: str
) -> tuple[Array, Array]:
    """Return the clipped term of each token that counts, and the slope of their sum in each ℓ.

    Parameters
    ----------
    function : str
        The function that was called, for the message.
    tokens : Tokens
        The tokens.
    log_r, A : array of rows
        ℓ, nats, and the advantages.
    clip, clip_high, level
        As in `token_clipped_objective`.

    Returns
    -------
    terms, slopes : array of rows
        Without weights; a weight that is one for the whole sequence multiplies both.

    Raises
    ------
    ValueError
        If an ε is out of range, or the level unknown.
    """
    of_sequence = choice(function, "level", level, ("token", "sequence")) == "sequence"
    log_r = sequence_means(tokens, log_r) if of_sequence else log_r
    r = np.exp(log_r)
    window = ratio_window(function, log_r, A, clip, clip_high)
    slopes = clipped_slope(r, A, window)
    return effective_ratio(r, A, window) * A, sequence_means(tokens, slopes) if of_sequence else slopes


@overflow_is_an_error
def token_clipped_objective(
    old_log_prob: Any,
    new_log_prob: Any,
    advantages: Any,
    mask: Any,
    clip: Any,
    *,
    clip_high: Any = None,
    level: str = "token",
    aggregation: str = "token_mean",
    constant: Any = None,
) -> Any:
    """Return the clipped objective of the tokens that count, to be maximised.

    ::

        Σ_it w_it min(r_it A_it, clip(r_it, 1 − ε, 1 + ε) A_it)

        token       r_it = exp(ℓ_it),    ℓ = log π_θ − log π_old
        sequence    r_it = exp(Σ_t mask_it ℓ_it / |y_i|)

    Parameters
    ----------
    old_log_prob, new_log_prob : (N, T) array
        Log-probabilities of the tokens, nats.
    advantages : (N, T) array
        A, return units.
    mask : (N, T) array of bool
        Which tokens count, one at least in each sequence.
    clip : float
        ε in (0, 1).
    clip_high : float, optional
        ε of the upper end, any number > 0, if it is not that of the lower end.
    level : {"token", "sequence"}
        Whose ratio it is.
    aggregation, constant
        The weights w, as in `masked_aggregate`.

    Returns
    -------
    scalar
        Return units.

    Raises
    ------
    ValueError
        If a shape disagrees, no token of a sequence counts, ε lies outside (0, 1), a ratio overflows, the level is
        unknown, or the aggregation is unknown or does not go with the constant.

    Notes
    -----
    Convention: the ratio of a sequence is the |y|-th root of the ratio of its probabilities; without the root it would
    leave the window by its length alone.  All tokens of a sequence are then clipped together, if their advantages have
    one sign.

    References
    ----------
    [PPO (7)], [DAPO], [GRPO], [GSPO]

    Examples
    --------
    Ratios 2 and ½, ε = ½: the token's gain is clipped to 1.5; the sequence's ratio is 1.

    >>> import numpy as np
    >>> old, new, A = [[0.0, 0.0]], [[np.log(2), -np.log(2)]], [[1.0, 1.0]]
    >>> float(token_clipped_objective(old, new, A, [[True, True]], 0.5))
    1.0
    >>> float(token_clipped_objective(old, new, A, [[True, False]], 0.5))
    1.5
    >>> float(token_clipped_objective(old, new, A, [[True, True]], 0.5, level="sequence"))
    1.0
    """
    function = "token_clipped_objective"
    tokens, old, new, A = bind_tokens(
        function, mask, old_log_prob=old_log_prob, new_log_prob=new_log_prob, advantages=advantages
    )
    terms, _ = clipped_rows(function, tokens, new - old, A, clip, clip_high, level)
    return aggregate(terms, token_weights(function, tokens, terms, aggregation, constant))


@overflow_is_an_error
def token_clipped_objective_gradient(
    old_log_prob: Any,
    new_log_prob: Any,
    advantages: Any,
    mask: Any,
    clip: Any,
    *,
    clip_high: Any = None,
    level: str = "token",
    aggregation: str = "token_mean",
    constant: Any = None,
) -> Array:
    """Return the gradient of `token_clipped_objective` with respect to the new log-probabilities.

    ::

        g_it = 0            where the clip bites: A > 0 and r > 1 + ε, or A < 0 and r < 1 − ε
             = w r_it A_it  elsewhere

        token       ∂/∂log π_it = g_it
        sequence    ∂/∂log π_it = Σ_t' mask_it' g_it' / |y_i|

    Parameters
    ----------
    old_log_prob, new_log_prob, advantages, mask, clip, clip_high, level, aggregation, constant
        As in `token_clipped_objective`.

    Returns
    -------
    (N, T) array
        Weights included; exactly 0 where the token does not count.

    Raises
    ------
    ValueError
        As `token_clipped_objective`.

    Notes
    -----
    Convention: at the kinks as in `surrogate.clipped_objective_gradient`.  The gradient of a sequence's ratio is the
    true one.  The stop-gradient form of GSPO with advantages per token gives g_it itself instead; where the advantage
    is one for the whole sequence, that is the same.

    References
    ----------
    [PPO (7)], [GSPO]

    Examples
    --------
    >>> old, A, mask = [[0.0, 0.0]], [[4.0, 2.0]], [[True, True]]
    >>> token_clipped_objective_gradient(old, old, A, mask, 0.5)
    array([[2., 1.]])
    >>> token_clipped_objective_gradient(old, old, A, mask, 0.5, level="sequence")
    array([[1.5, 1.5]])
    """
    function = "token_clipped_objective_gradient"
    tokens, old, new, A = bind_tokens(
        function, mask, old_log_prob=old_log_prob, new_log_prob=new_log_prob, advantages=advantages
    )
    _, slopes = clipped_rows(function, tokens, new - old, A, clip, clip_high, level)
    return padded(tokens, token_weights(function, tokens, slopes, aggregation, constant) * slopes)
