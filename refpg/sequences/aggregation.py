"""One number from a value per token: four sets of weights are in use, and they differ where lengths do.

::

    Σ_it w_it x_it        token_mean                 w = 1/Σ|y|
                          sequence_mean_token_mean   w = 1/(N |y_i|)
                          sequence_mean_token_sum    w = 1/N
                          token_sum_over_constant    w = 1/(N c)

By the first every token weighs the same, by the second every sequence; the last two weigh tokens alike too, and let a
batch of longer responses weigh more.
"""

from typing import Any

import numpy as np

from refpg.notation import Array, choice, overflow_is_an_error, scalar
from refpg.sequences.tokens import Tokens, bind_tokens, to_tokens

AGGREGATIONS = ("token_mean", "sequence_mean_token_mean", "sequence_mean_token_sum", "token_sum_over_constant")


def token_weights(function: str, tokens: Tokens, rows: Array, aggregation: str, constant: Any) -> Array:
    """Return the weight of each token that counts.

    Parameters
    ----------
    function : str
        The function that was called, for the message.
    tokens : Tokens
        The tokens.
    rows : array of rows
        What will be aggregated; the weights are formed in its precision.
    aggregation : str
        One of `AGGREGATIONS`.
    constant : float or None
        c, for the last of them and for no other.

    Returns
    -------
    array of rows
        w > 0, dimensionless; of sum 1 for the first two.

    Raises
    ------
    ValueError
        If the aggregation is unknown, or the constant is missing, not positive, or given where it has no part.
    """
    choice(function, "aggregation", aggregation, AGGREGATIONS)
    N, lengths, c = len(tokens.lengths), tokens.lengths, 1.0
    if aggregation == "token_sum_over_constant":
        c = scalar(function, "constant", constant, above=0)
    elif constant is not None:
        raise ValueError(f"{function}: constant is {constant!r} with {aggregation!r}, expected None: it has no part")
    divisors = {
        "token_mean": lengths.sum(),
        "sequence_mean_token_mean": N * lengths,
        "sequence_mean_token_sum": N,
        "token_sum_over_constant": np.multiply(N, c),
    }
    divisor = np.broadcast_to(divisors[aggregation], lengths.shape)
    return to_tokens(tokens, 1 / divisor.astype(rows.real.dtype))


def aggregate(rows: Array, weights: Array) -> Any:
    """Return the number that is made of one value per token.

    Parameters
    ----------
    rows, weights : array of rows
        x, and w from `token_weights`.

    Returns
    -------
    scalar
        Σ w x, in the units of x; the same bit for bit however long the padding is.
    """
    return np.sum(weights * rows)


@overflow_is_an_error
def masked_aggregate(values: Any, mask: Any, *, aggregation: str = "token_mean", constant: Any = None) -> Any:
    """Return the weighted sum of the values of the tokens that count.

    ::

        Σ_it w_it x_it        token_mean                 w = mask / Σ|y|
                              sequence_mean_token_mean   w = mask / (N |y_i|)
                              sequence_mean_token_sum    w = mask / N
                              token_sum_over_constant    w = mask / (N c)

    Parameters
    ----------
    values : (N, T) array
        x, one value per token.
    mask : (N, T) array of bool
        Which tokens count, one at least in each sequence.
    aggregation : {"token_mean", "sequence_mean_token_mean", "sequence_mean_token_sum", "token_sum_over_constant"}
        The weights.
    constant : float
        c > 0, for "token_sum_over_constant" and for no other; the length of the longest response allowed, say.

    Returns
    -------
    scalar
        In the units of x.

    Raises
    ------
    ValueError
        If a shape disagrees, no token of a sequence counts, the aggregation is unknown, or the constant is missing, not
        positive, or given where it has no part.

    Notes
    -----
    Convention: the mean over all tokens gives a long response more weight, the mean over sequences gives each of its
    tokens less; code of both kinds is in use under one name, and neither is a mistake.  Where all lengths are |y|, the
    first two agree, the third is |y| times and the fourth |y|/c times as large.

    References
    ----------
    [DAPO], [GRPO], [Dr-GRPO]

    Examples
    --------
    One response of one token and one of three:

    >>> x, mask = [[4.0, 9.0, 9.0], [0.0, 0.0, 0.0]], [[True, False, False], [True, True, True]]
    >>> [float(masked_aggregate(x, mask, aggregation=by)) for by in ("token_mean", "sequence_mean_token_mean")]
    [1.0, 2.0]
    """
    function = "masked_aggregate"
    tokens, x = bind_tokens(function, mask, values=values)
    return aggregate(x, token_weights(function, tokens, x, aggregation, constant))
