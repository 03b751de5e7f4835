"""Files of arrays, ``.npz`` and ``.safetensors``: hostile ones are refused, written ones appear whole or not at all."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refpg.files import write_whole
from refpg.interop import npz, safetensors, tree
from refpg.notation import Array, count


class _Form(NamedTuple):
    decoded: Callable[[bytes, int], dict[str, Array]]
    encoded: Callable[[Mapping[str, Array]], bytes]


_FORMS = {
    ".npz": _Form(npz.decoded, npz.encoded),
    ".safetensors": _Form(lambda data, _: safetensors.decoded(data), safetensors.encoded),
}
_DTYPES = (np.dtype(np.float64), np.dtype(np.float32), np.dtype(np.float16))


def read_arrays(path: str | os.PathLike[str], *, most_bytes: int = 2**28) -> dict[str, Array]:
    """Return the arrays of a file, by name.

    Parameters
    ----------
    path : path
        Ending in .npz or .safetensors.
    most_bytes : int
        A larger file is not opened, and arrays that would be larger when unpacked are not unpacked.

    Returns
    -------
    dict of str to array
        In the order of the file, bit for bit, in its dtype.  bfloat16, which NumPy does not have, becomes float32,
        exactly; nothing else is converted.

    Raises
    ------
    ValueError
        If it is no such file, is too large, damaged or contradicts itself, or holds something other than float64,
        float32, float16 and bfloat16.  Nothing in a file is ever executed.

    Examples
    --------
    >>> read_arrays("weights.pt")
    Traceback (most recent call last):
        ...
    ValueError: read_arrays: weights.pt ends in '.pt', expected .npz or .safetensors
    """
    path, form = _form_of("read_arrays", path)
    most_bytes = count("read_arrays", "most_bytes", most_bytes)
    if not path.is_file():
        raise ValueError(f"read_arrays: {path} is not there or is no file, expected a file of arrays")
    if (size := path.stat().st_size) > most_bytes:
        raise ValueError(f"read_arrays: {path} has {size} bytes, expected at most most_bytes = {most_bytes}")
    try:
        return form.decoded(path.read_bytes(), most_bytes)
    except ValueError as error:
        raise ValueError(f"read_arrays: {path} {error}") from None


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, Any]) -> None:
    """Write arrays to a file; a reader sees the file that was there before, or the whole new one.

    Parameters
    ----------
    path : path
        Ending in .npz or .safetensors, in a folder that exists.
    arrays : mapping of str to array
        float64, float32 or float16, written bit for bit.  The same arrays give the same bytes.

    Raises
    ------
    ValueError
        If the ending is another, the folder does not exist, or something is no such array.
    """
    path, form = _form_of("write_arrays", path)
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"write_arrays: {path} cannot be written, expected a file in a folder that exists")
    write_whole(path, form.encoded(_checked("write_arrays", arrays)))


def _form_of(function: str, path: str | os.PathLike[str]) -> tuple[Path, _Form]:
    path = Path(path)
    if path.suffix not in _FORMS:
        raise ValueError(f"{function}: {path} ends in {path.suffix!r}, expected {' or '.join(_FORMS)}")
    return path, _FORMS[path.suffix]


def _checked(function: str, arrays: Mapping[str, Any]) -> dict[str, Array]:
    """Return the arrays as NumPy's, after a look at whether every name and dtype can be written and read again."""
    if not isinstance(arrays, Mapping):
        raise ValueError(f"{function}: arrays is a {type(arrays).__name__}, expected a mapping of names to arrays")
    checked = {}
    for name, leaf in arrays.items():
        if not isinstance(name, str) or not name or not name.isprintable() or name == "__metadata__":
            raise ValueError(f"{function}: {name!a} is no name for an array, expected printable characters")
        checked[name] = tree.array(function, name, leaf)
        if checked[name].dtype not in _DTYPES:
            raise ValueError(
                f"{function}: {tree.shown(name)} has dtype {checked[name].dtype}, expected float64, float32 or float16"
            )
    return checked
