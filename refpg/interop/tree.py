"""Arrays in nested dictionaries and lists, by name: ``params/Dense_0/kernel``, ``[2][0]``."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from refpg.notation import Array


def _children(tree: Any, name: str, separator: str) -> Iterator[tuple[Any, str, Any]]:
    """Yield the key, name and value of each entry of a dictionary or list."""
    if isinstance(tree, Mapping):
        for key, child in tree.items():
            yield key, f"{name}{separator}{key}" if name else str(key), child
    else:
        for position, child in enumerate(tree):
            yield position, f"{name}[{position}]", child


def leaves(function: str, tree: Any, separator: str) -> dict[str, Any]:
    """Return the entries of nested dictionaries, lists and tuples by name, in their order.

    Parameters
    ----------
    function : str
        The caller, named in every message.
    tree : mapping, list or tuple
        Nested to any depth; a flat mapping keeps its names.
    separator : str
        What joins the keys of dictionaries; a position in a list is written ``[2]``.

    Returns
    -------
    dict of str to object

    Raises
    ------
    ValueError
        If it is none of these, or two entries have one name.

    Examples
    --------
    >>> leaves("f", {"params": {"Dense_0": {"kernel": 1, "bias": 2}}}, "/")
    {'params/Dense_0/kernel': 1, 'params/Dense_0/bias': 2}
    >>> leaves("f", [[1, 2], [], [3, 4]], "/")
    {'[0][0]': 1, '[0][1]': 2, '[2][0]': 3, '[2][1]': 4}
    """
    if not isinstance(tree, Mapping | list | tuple):
        raise ValueError(f"{function}: arrays is a {type(tree).__name__}, expected a mapping of names to arrays")
    found: dict[str, Any] = {}
    pending: list[tuple[str, Any]] = [("", tree)]
    while pending:
        name, node = pending.pop()
        if isinstance(node, Mapping | list | tuple):
            entries = [(child_name, child) for _, child_name, child in _children(node, name, separator)]
            pending.extend(reversed(entries))
        elif name in found:
            raise ValueError(f"{function}: two arrays have the name {name!a}, expected one")
        else:
            found[name] = node
    return found


def replaced(tree: Any, new: Mapping[str, Any], separator: str, name: str = "") -> Any:
    """Return dictionaries, lists and tuples nested in the same way, with new entries where names are given.

    Parameters
    ----------
    tree : object
        As in `leaves`.
    new : mapping of str to object
        The new entries; all others are those of ``tree``.
    separator : str
        As in `leaves`.
    name : str
        The name of the tree itself.

    Returns
    -------
    dict, list, tuple or object

    Examples
    --------
    >>> replaced({"a": {"b": 1, "c": 2}, "d": [3]}, {"a.c": 9, "d[0]": 8}, ".")
    {'a': {'b': 1, 'c': 9}, 'd': [8]}
    """
    if not isinstance(tree, Mapping | list | tuple):
        return new.get(name, tree)
    entries = {
        key: replaced(child, new, separator, child_name) for key, child_name, child in _children(tree, name, separator)
    }
    if isinstance(tree, Mapping):
        return entries
    return tuple(entries.values()) if isinstance(tree, tuple) else list(entries.values())


def array(function: str, name: str, leaf: Any) -> Array:
    """Return an array of any library as one of NumPy.

    Parameters
    ----------
    function, name : str
        The caller and the array, named in every message.
    leaf : object
        Something with ``__array__``.

    Returns
    -------
    array
        Floating-point, of at least one entry.

    Raises
    ------
    ValueError
        If it is no array, is empty, or holds no floating-point numbers known to NumPy.

    Examples
    --------
    >>> array("read_weights", "0.bias", [1, 2])
    Traceback (most recent call last):
        ...
    ValueError: read_weights: 0.bias is a list, expected an array
    """
    name = shown(name)
    if not hasattr(leaf, "__array__"):
        raise ValueError(f"{function}: {name} is a {type(leaf).__name__}, expected an array")
    try:
        value = np.asarray(leaf)
    except (RuntimeError, TypeError, ValueError) as error:  # what torch, jax and tensorflow say of what cannot be read
        raise ValueError(f"{function}: {name} cannot be read as an array: {error}") from None
    if value.dtype.kind != "f":
        raise ValueError(f"{function}: {name} has dtype {value.dtype}, expected float64, float32 or float16; cast it")
    if value.size == 0:
        raise ValueError(f"{function}: {name} has shape {value.shape}, expected at least one entry")
    return value.astype(value.dtype.newbyteorder("="), copy=False)


def shown(name: str) -> str:
    """Return a name as it can be printed: names come out of files, and may hold anything.

    Parameters
    ----------
    name : str
        The name.

    Returns
    -------
    str
        Printable, at most 60 characters.

    Examples
    --------
    >>> shown("0.weight"), shown("two\\nlines")
    ('0.weight', 'two\\\\nlines')
    """
    text = name if name.isprintable() else ascii(name)[1:-1]
    return text if len(text) <= 60 else f"{text[:59]}…"
