"""Rewards of tokens: a score of the whole response at its end, and at every token a price for leaving the reference."""

from typing import Any

import numpy as np

from refpg.notation import Array, bind_shapes, overflow_is_an_error, scalar
from refpg.sequences.tokens import bind_tokens, padded


@overflow_is_an_error
def token_rewards(scores: Any, log_prob: Any, reference_log_prob: Any, mask: Any, kl_penalty: Any) -> Array:
    """Return the reward of every token: −β d, and the score of the sequence at the last token that counts.

    ::

        r_it = −β (log π_it − log π_ref,it) + score_i 1[t is the last that counts]

    Parameters
    ----------
    scores : (N,) array
        The score of each response, return units.
    log_prob, reference_log_prob : (N, T) array
        Log-probabilities of the tokens under the policy that drew them and under the reference, nats.
    mask : (N, T) array of bool
        Which tokens count, one at least in each sequence.
    kl_penalty : float
        β ≥ 0, return units per nat.

    Returns
    -------
    (N, T) array
        Return units; 0 where the token does not count.  The rewards of a sequence sum to
        score − β log(π(y)/π_ref(y)).

    Raises
    ------
    ValueError
        If a shape disagrees, no token of a sequence counts, or β < 0.

    Notes
    -----
    Convention: the last token that counts, wherever the padding is: a response need not begin at the first column.  The
    penalty is k1, whose mean is KL(π ‖ π_ref): a reward needs an estimate of the value, and no gradient of it.

    References
    ----------
    [RLHF]

    Examples
    --------
    >>> import numpy as np
    >>> token_rewards([5.0], [[np.log(2), 0.0, 0.0]], [[0.0, 0.0, 0.0]], [[True, True, False]], 1.0).round(4)
    array([[-0.6931,  5.    ,  0.    ]])
    """
    function = "token_rewards"
    tokens, new, reference = bind_tokens(function, mask, log_prob=log_prob, reference_log_prob=reference_log_prob)
    (score,) = bind_shapes(function, {"N": len(tokens.lengths)}, scores=(scores, "N"))
    beta = scalar(function, "kl_penalty", kl_penalty, least=0)
    rewards = -beta * (new - reference)
    rewards[np.cumsum(tokens.lengths) - 1] += score
    return padded(tokens, rewards)
