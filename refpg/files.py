"""Files: written so that a reader sees what was there before, or the whole of what is new; read as JSON and no more."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a temporary name beside it, and then give it its own.

    Parameters
    ----------
    path : Path
        In a folder that exists.
    content : bytes
        All of it.

    Raises
    ------
    OSError
        If it cannot be written; then nothing has changed, and nothing is left over.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_whole(Path(folder) / "a.txt", b"new")
    ...     [(path.name, path.read_bytes()) for path in Path(folder).iterdir()]
    [('a.txt', b'new')]
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp's files are private
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def parsed_json(text: str) -> Any:
    """Return what a text says in JSON, which has no words for NaN and infinity, though Python reads them.

    Parameters
    ----------
    text : str
        All of it.

    Returns
    -------
    object

    Raises
    ------
    ValueError
        If it is not JSON.
    RecursionError
        If it is nested too deeply.

    Examples
    --------
    >>> parsed_json('{"seed": 0}')
    {'seed': 0}
    >>> parsed_json("NaN")
    Traceback (most recent call last):
        ...
    ValueError: NaN is no number of JSON
    """
    return json.loads(text, parse_constant=_refused)


def _refused(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON")
