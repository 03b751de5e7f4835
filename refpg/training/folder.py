"""A run in a folder: what it is, a line for each iteration, and a checkpoint to go on from.

::

    run.json            what is run: the setup, every option, the versions of what it is computed with
    iterations.jsonl    one line of JSON for each iteration; null where a number is not finite
    times.jsonl         the seconds that each took: they are apart, so that all else is the same whenever it is run
    checkpoint.npz      all that the next iteration goes on from (`refpg.training.checkpoint`)

A line is written before the checkpoint of its iteration.  So whenever a process is stopped, and be it in the middle of
a line, the checkpoint is one that all lines of its iterations were written before: what follows them is cut back, and
the iterations are made again, to the same bytes.  Without a checkpoint they are made again from the first one.

One process at a time writes to a folder.
"""

import importlib.metadata
import json
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy

from refpg import __version__
from refpg.files import parsed_json, write_whole
from refpg.notation import count
from refpg.training.runs import EMBEDDED, Run, Setup, prepared

SCHEMA = 1
DESCRIPTION, LINES, TIMES, CHECKPOINT = "run.json", "iterations.jsonl", "times.jsonl", "checkpoint.npz"


class Kept(NamedTuple):
    """A run and its folder.

    Fields: ``folder``; ``setup``; ``run``; ``every`` how many iterations from one checkpoint to the next; ``state``
    that the next iteration goes on from; ``remarks``, what a person should know of it.
    """

    folder: Path
    setup: Setup
    run: Run
    every: int
    state: Any
    remarks: tuple[str, ...] = ()


def versions(setup: Setup) -> dict[str, str]:
    """Return the versions of what a run is computed with.

    Parameters
    ----------
    setup : Setup
        The run.

    Returns
    -------
    dict of str to str
    """
    own = {
        "refpg": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }
    return own if setup.environment in EMBEDDED else own | {"gymnasium": importlib.metadata.version("gymnasium")}


def start(folder: Path, setup: Setup, generator: np.random.Generator, *, every: int = 1) -> Kept:
    """Begin a run that is to be kept in a folder; nothing is written before its first iteration.

    Parameters
    ----------
    folder : Path
        Empty, or not there yet.
    setup : Setup
        The run.
    generator : numpy.random.Generator
        Of the setup's seed.
    every : int
        How many iterations from one checkpoint to the next.

    Returns
    -------
    Kept

    Raises
    ------
    ValueError
        If the folder holds something, or as `refpg.training.runs.prepared`.
    """
    every = count("train", "checkpoint_every", every)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"train: {folder} is a file, expected a folder that is empty or not there yet")
    if folder.is_dir() and any(folder.iterdir()):
        again = f"; --resume {folder} goes on with its run" if (folder / DESCRIPTION).is_file() else ""
        raise ValueError(f"train: {folder} is not empty, expected a folder that is empty or not there yet{again}")
    run = prepared(setup)
    return Kept(folder, setup, run, every, run.begin(generator))


def described(folder: Path) -> tuple[Setup, dict[str, Any]]:
    """Read what is run in a folder.

    Parameters
    ----------
    folder : Path
        In which a run was kept.

    Returns
    -------
    setup : Setup
        The run.
    description : dict
        All that its file says, with ``iterations`` and ``checkpoint_every`` among it.

    Raises
    ------
    ValueError
        If there is no such file, or it is not one that was written here.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        raise ValueError(f"train: {path} is not there, expected the folder of a run")
    try:
        description = parsed_json(path.read_text(encoding="utf-8"))
        if not isinstance(description, dict) or description.get("schema") != SCHEMA:
            raise ValueError(f"expected a description of schema {SCHEMA}")
        words = description["setup"]
        if not isinstance(words, dict) or set(words) != set(Setup._fields) or not isinstance(words["settings"], dict):
            raise ValueError(f"expected a setup of {', '.join(Setup._fields)}")
        for key, kinds in _KINDS.items():
            if type(words[key]) not in kinds:
                raise ValueError(f"{key} is {words[key]!r}")
        if not isinstance(description["versions"], dict) or not isinstance(description["options"], dict):
            raise ValueError("expected versions and options")
        for key in ("iterations", "checkpoint_every"):
            count("its", key, description[key])
    except (ValueError, KeyError, RecursionError) as error:
        raise ValueError(f"train: {path} is not what a run writes: {error}") from None
    return Setup(**(words | {"hidden": tuple(words["hidden"])})), description


_KINDS = {
    "algorithm": (str,),
    "environment": (str,),
    "preset": (str,),
    "seed": (int,),
    "environments": (int,),
    "steps": (int, type(None)),
    "hidden": (list,),
    "exact": (bool,),
}


def resume(folder: Path, generator: np.random.Generator) -> Kept:
    """Go on with a run from its last checkpoint; what was written after that is cut back.

    Parameters
    ----------
    folder : Path
        In which it was kept.
    generator : numpy.random.Generator
        Of the setup's seed.

    Returns
    -------
    Kept
        With a remark for each version that is another one now: the last bits of the numbers may then be others too.

    Raises
    ------
    ValueError
        If the run cannot be read, or is another one now; the message says where and in what.
    """
    setup, description = described(folder)
    run = prepared(setup)
    state = run.begin(generator)
    path = folder / CHECKPOINT
    if path.exists():
        state = run.load(path, state)
    for name in (LINES, TIMES):
        _cut_back(folder / name, state.iteration)
    for left in folder.glob(f".{CHECKPOINT}.*"):  # by a process that was killed while it wrote
        left.unlink()
    now = versions(setup)
    remarks = tuple(
        f"{name} was {was} and is {now.get(name)}: the numbers may differ in their last bits"
        for name, was in description["versions"].items()
        if now.get(name) != was
    )
    return Kept(folder, setup, run, description["checkpoint_every"], state, remarks)


def _cut_back(path: Path, iterations: int) -> None:
    """Leave the lines of so many iterations."""
    content = path.read_bytes() if path.exists() else b""
    lines = content.split(b"\n")[:-1]  # what follows the last line's end is no whole line
    for i, line in enumerate(lines[:iterations], start=1):
        if not line.startswith(b'{"iteration": %d,' % i):
            raise ValueError(f"train: {path} has {line[:60]!r} in line {i}, expected the record of iteration {i}")
    if len(lines) < iterations:
        raise ValueError(
            f"train: {path} has {len(lines)} whole lines, expected those of the {iterations} iterations before the "
            f"checkpoint"
        )
    kept = b"".join(line + b"\n" for line in lines[:iterations])
    if kept != content:
        write_whole(path, kept)


def train(
    kept: Kept,
    iterations: int,
    *,
    progress: Callable[[int, int], None] | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> int:
    """Make the iterations that are left, and write each down.

    Parameters
    ----------
    kept : Kept
        From `start` or `resume`.
    iterations : int
        How many there are to be at the end, with those made before.
    progress : callable, optional
        (made, all) → None, called after each.
    interrupted : callable
        Whether to end after the iteration that was made.

    Returns
    -------
    int
        How many there are now.

    Raises
    ------
    ValueError
        If there are already more, or a number turns out to be of no use in an iteration.
    OSError
        If something cannot be written.
    """
    name, folder, made = "train", kept.folder, kept.state.iteration
    N = count(name, "iterations", iterations)
    if made > N:
        raise ValueError(f"{name}: {folder} has {made} iterations, expected at most iterations = {N}")
    state, saved = kept.state, made
    began = time.perf_counter()
    for line, state in kept.run.iterations(kept.state, N - made):
        if made == kept.state.iteration:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / DESCRIPTION, _text(_description(kept, N), indent=1))
        made, seconds = made + 1, time.perf_counter() - began
        began += seconds
        _append(folder / LINES, line)
        _append(folder / TIMES, {"iteration": made, "seconds": round(seconds, 6)})
        if made % kept.every == 0:
            kept.run.save(folder / CHECKPOINT, state)
            saved = made
        if progress is not None:
            progress(made, N)
        if interrupted():
            break
    if saved != made:
        kept.run.save(folder / CHECKPOINT, state)
    return made


def lines(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's iterations.

    Parameters
    ----------
    folder : Path
        In which it is kept.

    Returns
    -------
    list of dict
    """
    return [json.loads(line) for line in (folder / LINES).read_text(encoding="utf-8").splitlines()]


def _description(kept: Kept, iterations: int) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "setup": kept.setup._asdict() | {"settings": dict(kept.setup.settings)},
        "iterations": iterations,
        "checkpoint_every": kept.every,
        "options": dict(kept.run.options),
        "versions": versions(kept.setup),
    }


def _append(path: Path, line: Mapping[str, Any]) -> None:
    with path.open("ab") as file:
        file.write(_text(line))


def _text(words: Mapping[str, Any], indent: int | None = None) -> bytes:
    return (json.dumps(words, ensure_ascii=False, allow_nan=False, indent=indent) + "\n").encode()
