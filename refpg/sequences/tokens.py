"""The tokens that count, as rows: taken out of the padding once, so that nothing computed later can read it."""

from typing import Any, NamedTuple

import numpy as np

from refpg.notation import Array, bind_shapes


class Tokens(NamedTuple):
    """Which tokens of N sequences count.

    Fields: ``mask`` (N, T), true where they do; ``lengths`` (N,), how many of each sequence, |y|.  An array "of rows"
    has one entry for each of them, sequence after sequence.
    """

    mask: Array
    lengths: Array


def bind_tokens(function: str, mask: Any, **values: Any) -> tuple[Any, ...]:
    """Check a mask and arrays of its shape, and take the tokens that count.

    Parameters
    ----------
    function : str
        The function that was called, for the message.
    mask : (N, T) array of bool
        Which tokens count.
    **values : (N, T) array
        One value per token.

    Returns
    -------
    tuple
        The `Tokens`, and the rows of each array, in the order given.

    Raises
    ------
    ValueError
        If a shape disagrees, or no token of a sequence counts.
    """
    arrays = {name: (value, "N T") for name, value in values.items()}
    mask, *bound = bind_shapes(function, {}, mask=(mask, "bool N T"), **arrays)
    lengths = mask.sum(axis=1)
    if not lengths.all():
        raise ValueError(
            f"{function}: mask has no true entry in sequence {int(np.argmin(lengths))}, expected a token that counts "
            "in each"
        )
    return Tokens(mask, lengths), *(array[mask] for array in bound)


def padded(tokens: Tokens, rows: Array) -> Array:
    """Put rows back where they were.

    Parameters
    ----------
    tokens : Tokens
        Where.
    rows : array of rows
        One value per token that counts.

    Returns
    -------
    (N, T) array
        0 where the token does not count.
    """
    array = np.zeros(tokens.mask.shape, rows.dtype)
    array[tokens.mask] = rows
    return array


def to_tokens(tokens: Tokens, values: Array) -> Array:
    """Give each token the value of its sequence.

    Parameters
    ----------
    tokens : Tokens
        Of which sequence each row is.
    values : (N,) array
        One value per sequence.

    Returns
    -------
    array of rows
    """
    return np.repeat(values, tokens.lengths)


def sequence_means(tokens: Tokens, rows: Array) -> Array:
    """Give each token the mean over its sequence.

    ::

        (M x)_it = Σ_t' mask_it' x_it' / |y_i|

    M is symmetric: a gradient with respect to M x becomes one with respect to x by the same M.

    Parameters
    ----------
    tokens : Tokens
        Of which sequence each row is.
    rows : array of rows
        x.

    Returns
    -------
    array of rows
        M x, in the dtype of x.
    """
    starts = np.cumsum(tokens.lengths) - tokens.lengths
    sums = np.add.reduceat(rows, starts)
    return to_tokens(tokens, sums / tokens.lengths.astype(rows.real.dtype))
