"""Advantages of tokens and of whole responses: standardised over what counts, or compared within a group.

A group is the responses to one prompt.  Their rewards are compared with each other, so that no value function is
needed::

    group_mean       A_i = r_i − mean of the group                       [GRPO]
    leave_one_out    A_i = r_i − mean of the others of the group         [RLOO]
"""

from typing import Any

import numpy as np

from refpg.estimation.normalization import centred, standardized
from refpg.notation import Array, bind_shapes, choice, overflow_is_an_error, row_weights
from refpg.sequences.tokens import bind_tokens, padded


@overflow_is_an_error
def masked_normalize_advantages(
    advantages: Any, mask: Any, *, ddof: int = 0, epsilon: Any = 0.0, form: str = "added"
) -> Array:
    """Shift the advantages of the tokens that count to mean 0 and divide them by their standard deviation.

    ::

        Â ← (Â − m) / (σ + ε) and the like,    m and σ over the tokens that count

    Parameters
    ----------
    advantages : (N, T) array
        Â, one per token.
    mask : (N, T) array of bool
        Which tokens count, one at least in each sequence.
    ddof, epsilon, form
        As in `estimation.normalize_advantages`.

    Returns
    -------
    (N, T) array
        Dimensionless; 0 where the token does not count.

    Raises
    ------
    ValueError
        If a shape disagrees, no token of a sequence counts, the divisor is 0, ddof is not less than the number of
        tokens that count, ε < 0, or the form is unknown.

    Notes
    -----
    Convention: every token weighs the same, whatever the length of its sequence.

    References
    ----------
    [GAE section 6]

    Examples
    --------
    >>> masked_normalize_advantages([[1.0, 7.0], [3.0, 7.0]], [[True, False], [True, False]])
    array([[-1.,  0.],
           [ 1.,  0.]])
    """
    function = "masked_normalize_advantages"
    tokens, A = bind_tokens(function, mask, advantages=advantages)
    w = row_weights(function, None, A)
    return padded(tokens, standardized(function, "advantages", A, w, ddof=ddof, epsilon=epsilon, form=form))


@overflow_is_an_error
def group_advantages(
    rewards: Any,
    group: Any,
    *,
    baseline: str = "group_mean",
    scale: str = "std",
    ddof: int = 0,
    epsilon: Any = 0.0,
    form: str = "added",
) -> Array:
    """Return how much better each response is than its group.

    ::

        group_mean       c_i = r_i − m
        leave_one_out    c_i = r_i − mean of the others = n/(n − 1) (r_i − m)

        std     A_i = c_i / (σ + ε) and the like
        none    A_i = c_i

    m, σ and n are the mean, the standard deviation and the number of the rewards of the group of i.

    Parameters
    ----------
    rewards : (N,) array
        The reward of each response, return units.
    group : (N,) array of int
        The prompt it responds to: responses with equal numbers are one group, wherever they stand.
    baseline : {"group_mean", "leave_one_out"}
        What is subtracted.
    scale : {"std", "none"}
        What the difference is divided by.
    ddof, epsilon, form
        Of the standard deviation, as in `estimation.normalize_advantages`.

    Returns
    -------
    (N,) array
        Of sum 0 in each group; dimensionless, or in return units where nothing divides.

    Raises
    ------
    ValueError
        If a shape disagrees, a convention is unknown, a divisor is 0 (all rewards of a group equal and no ε), ddof is
        not less than the size of a group, or a response that is alone in its group is to be compared with the others.

    Notes
    -----
    Convention: σ is that of the rewards for either baseline.  With the mean of the group each reward is part of what it
    is compared with, which makes all advantages n/(n − 1) times smaller and changes no direction.  σ makes every
    prompt weigh the same, also those where the responses hardly differ.

    References
    ----------
    [GRPO], [RLOO], [Dr-GRPO]

    Examples
    --------
    >>> rewards, group = [1.0, 0.0, 6.0, 2.0], [7, 7, 5, 5]
    >>> group_advantages(rewards, group)
    array([ 1., -1.,  1., -1.])
    >>> group_advantages(rewards, group, baseline="leave_one_out", scale="none")
    array([ 1., -1.,  4., -4.])
    """
    function = "group_advantages"
    r, group = bind_shapes(function, {}, rewards=(rewards, "N"), group=(group, "int N"))
    choice(function, "baseline", baseline, ("group_mean", "leave_one_out"))
    choice(function, "scale", scale, ("std", "none"))
    advantages = np.empty_like(r)
    for number in np.unique(group):
        members = group == number
        n, w = np.count_nonzero(members), row_weights(function, None, r[members])
        if scale == "std":
            name = f"rewards of group {number}"
            A = standardized(function, name, r[members], w, ddof=ddof, epsilon=epsilon, form=form)
        else:
            A = centred(r[members], w)
        if baseline == "leave_one_out":
            if n == 1:
                raise ValueError(f"{function}: group has {number} once, expected others to leave it out of")
            A = A * (n / r.real.dtype.type(n - 1))
        advantages[members] = A
    return advantages
