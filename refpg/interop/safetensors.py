"""The form ``.safetensors``: a header in JSON and the numbers behind it, read under the suspicion that it lies.

::

    8 bytes     N, the length of the header, little-endian
    N bytes     {"0.weight": {"dtype": "F32", "shape": [8, 3], "data_offsets": [0, 96]}, …}, and blanks
    the rest    the numbers, little-endian, row by row; offsets count from here, without gap or overlap

The form is read here and not by the package that defines it: refpg needs nothing beyond NumPy, and NumPy's arrays
from that package know no bfloat16.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from refpg.interop.tree import shown
from refpg.notation import Array

_READABLE = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_NAMES = {np.dtype(np.float64): "F64", np.dtype(np.float32): "F32", np.dtype(np.float16): "F16"}
_LONGEST_HEADER = 2**20  # some ten thousand arrays


def decoded(data: bytes) -> dict[str, Array]:
    """Return the arrays of a file; nothing is packed in it, so that they are not longer, bfloat16 twice as long.

    Parameters
    ----------
    data : bytes
        The file.

    Returns
    -------
    dict of str to array

    Raises
    ------
    ValueError
        If anything about it is wrong; the message continues a sentence that begins with the name of the file.
    """
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or not 2 <= length <= min(len(data) - 8, _LONGEST_HEADER):
        raise ValueError(
            f"has {len(data)} bytes and declares a header of {length}, expected one inside the file and at most "
            f"{_LONGEST_HEADER}"
        )
    numbers = memoryview(data)[8 + length :]
    spans, entries = [], []
    for name, entry in _header(data[8 : 8 + length]).items():
        if name == "__metadata__":
            continue
        dtype, shape, (begin, end) = _entry(name, entry)
        if end - begin != math.prod(shape) * np.dtype(_READABLE[dtype]).itemsize or not begin < end <= len(numbers):
            raise ValueError(
                f"holds {shown(name)}, {dtype} of shape {shown(str(shape))}, at bytes {shown(str([begin, end]))} of "
                f"{len(numbers)}: that is another length, or outside the file"
            )
        spans.append((begin, end))
        entries.append((name, dtype, shape, numbers[begin:end]))
    edges = [0, *(edge for span in sorted(spans) for edge in span), len(numbers)]
    if edges[::2] != edges[1::2]:
        raise ValueError("holds arrays that overlap or leave gaps, expected one behind the other up to the end")
    return {name: _array(dtype, shape, span) for name, dtype, shape, span in entries}


def _header(text: bytes) -> dict[str, Any]:
    """Return the JSON object in which no name occurs twice."""
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"has a header that is no JSON: {shown(str(error))}") from None
    if not isinstance(header, dict):
        raise ValueError("has a header that is no JSON object")
    return header


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(entries := dict(pairs)) < len(pairs):
        raise ValueError("a name occurs twice")
    return entries


def _entry(name: str, entry: Any) -> tuple[str, list[int], list[int]]:
    """Return dtype, shape and offsets of an array, each of the kind it should be."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"holds {shown(name)} without exactly a dtype, a shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _READABLE:
        raise ValueError(f"holds {shown(name)} of dtype {shown(str(dtype))}, expected {', '.join(_READABLE)}")
    for numbers in (shape, offsets):
        if not isinstance(numbers, list) or not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError(f"holds {shown(name)} whose shape or data_offsets are not lists of integers >= 0")
    if len(offsets) != 2 or len(shape) > 32:
        raise ValueError(f"holds {shown(name)} with {len(shape)} axes and {len(offsets)} offsets, expected <= 32 and 2")
    return dtype, shape, offsets


def _array(dtype: str, shape: list[int], span: memoryview) -> Array:
    values = np.frombuffer(span, _READABLE[dtype]).reshape(shape)
    if dtype == "BF16":  # the upper half of a float32
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(values.dtype.newbyteorder("="))


def encoded(arrays: Mapping[str, Array]) -> bytes:
    """Return the arrays as a file; the widest numbers come first, so that all are aligned.

    Parameters
    ----------
    arrays : mapping of str to array
        float64, float32 or float16.

    Returns
    -------
    bytes
    """
    header, parts, begin = {}, [], 0
    for name, array in sorted(arrays.items(), key=lambda item: -item[1].itemsize):
        part = array.astype(array.dtype.newbyteorder("<")).tobytes()
        offsets = [begin, begin := begin + len(part)]
        header[name] = {"dtype": _NAMES[array.dtype], "shape": list(array.shape), "data_offsets": offsets}
        parts.append(part)
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(parts)
