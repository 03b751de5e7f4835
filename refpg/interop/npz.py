"""NumPy's ``.npz``: a zip archive with one ``.npy`` per array, read under the suspicion that it lies.

An archive or array that declares to be large is refused before it is unpacked, and no more is unpacked than was
declared.  Headers are read by NumPy; pickled objects are never loaded.
"""

import io
import math
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Mapping

import numpy as np

from refpg.interop.tree import shown
from refpg.notation import Array

_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what NumPy writes
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def decoded(data: bytes, most_bytes: int, *, counts: bool = False) -> dict[str, Array]:
    """Return the arrays of an archive.

    Parameters
    ----------
    data : bytes
        The file.
    most_bytes : int
        What all members may have together when unpacked.
    counts : bool
        Whether integers are expected besides floating-point numbers, and arrays may have no entry.

    Returns
    -------
    dict of str to array

    Raises
    ------
    ValueError
        If anything about it is wrong; the message continues a sentence that begins with the name of the file.
    """
    with _opened(data) as archive:
        members = archive.infolist()
        if (total := sum(member.file_size for member in members)) > most_bytes:
            raise ValueError(f"unpacks to {total} bytes, expected at most most_bytes = {most_bytes}")
        arrays: dict[str, Array] = {}
        for member in members:
            name = member.filename.removesuffix(".npy")
            if name == member.filename or name in arrays:
                raise ValueError(f"holds {shown(member.filename)}, expected different names ending in .npy")
            if member.compress_type not in _PACKINGS or member.flag_bits & 1:
                raise ValueError(f"holds {shown(member.filename)} encrypted or in a packing NumPy does not write")
            arrays[name] = _array(name, _unpacked(archive, member), counts)
    return arrays


# What zipfile raises for damaged archives; the last two are of names that cannot be decoded and of impossible offsets.
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OverflowError)


def _opened(data: bytes) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(io.BytesIO(data))
    except _DAMAGE as error:
        raise ValueError(f"is damaged or no archive: {shown(str(error))}") from None


def _unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Return a member's bytes; reading as many as were declared bounds what is unpacked, reading all would not."""
    try:
        with archive.open(member) as file:
            content = file.read(member.file_size)
    except _DAMAGE as error:
        raise ValueError(f"is damaged in {shown(member.filename)}: {shown(str(error))}") from None
    if len(content) != member.file_size:
        raise ValueError(f"ends within {shown(member.filename)}")
    return content


def _array(name: str, content: bytes, counts: bool) -> Array:
    """Return one ``.npy``; its length is held against its header before anything of that length is made."""
    file = io.BytesIO(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy's word for headers that need mending
            version = np.lib.format.read_magic(file)
            if version not in _HEADERS:
                raise ValueError(f"version {version}")
            shape, column_major, dtype = _HEADERS[version](file)
    except (ValueError, TypeError, MemoryError, RecursionError, tokenize.TokenError, Warning) as error:
        raise ValueError(f"holds {shown(name)} without a header that can be read: {shown(str(error))}") from None
    if dtype.kind not in ("fiu" if counts else "f") or dtype.itemsize > 8:
        expected = f"float64, float32{', float16 or integers' if counts else ' or float16'}"
        raise ValueError(f"holds {shown(name)} of dtype {shown(str(dtype))}, expected {expected}")
    payload = content[file.tell() :]
    size = math.prod(shape) * dtype.itemsize
    if any(length < 0 for length in shape) or size != len(payload) or not (payload or counts):
        raise ValueError(f"holds {shown(name)} of {len(payload)} bytes, which is not the shape {shown(str(shape))}")
    try:
        array = np.frombuffer(payload, dtype).reshape(shape, order="F" if column_major else "C")
    except ValueError:  # more axes than NumPy has
        raise ValueError(f"holds {shown(name)} of the impossible shape {shown(str(shape))}") from None
    return array.astype(dtype.newbyteorder("="), order="C")


def encoded(arrays: Mapping[str, Array]) -> bytes:
    """Return an archive of the arrays, as `numpy.load` reads it; the same arrays give the same bytes.

    Parameters
    ----------
    arrays : mapping of str to array
        Arrays of numbers.

    Returns
    -------
    bytes
    """
    archive_file = io.BytesIO()
    with zipfile.ZipFile(archive_file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            file = io.BytesIO()
            np.lib.format.write_array(file, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0)), file.getvalue())
    return archive_file.getvalue()
