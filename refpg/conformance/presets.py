"""Presets: the conventions of papers and libraries under a name, ``data/presets.json``.

A preset decides the axes it names and no others.  It is applied over what an adapter declares, and never against it:
where both name an axis they must agree, since one of the two would be wrong about the code that is judged.
"""

import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from refpg.conformance.adapters import Adapter, UsageError, nearest
from refpg.conformance.ops import OPS
from refpg.conformance.vectors import DATA, MAX_INDEX_BYTES, Axis, VectorError, parse

_FILE = "presets.json"
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_FIELDS = {"library", "looked_at", "conventions", "trust_region", "beyond", "source"}
_NUMBERS = {"damping": float, "iterations": int, "backtrack": float, "max_backtracks": int}
_WIDTH = 110


@dataclass(frozen=True)
class TrustRegion:
    """The numbers of a library's TRPO step: ``damping``, ``iterations`` of CG, ``backtrack``, ``max_backtracks``."""

    damping: float
    iterations: int
    backtrack: float
    max_backtracks: int


@dataclass(frozen=True)
class Preset:
    """The conventions of one library.

    Fields: the ``library`` and the version that was ``looked_at``; ``conventions`` axis → value; the ``trust_region``
    it has by default, None if it has none or states none; what it does ``beyond`` the axes there are; the ``source``.
    """

    library: str
    looked_at: str
    conventions: Mapping[str, str]
    trust_region: TrustRegion | None
    beyond: tuple[str, ...]
    source: tuple[str, ...]


def presets(axes: Mapping[str, Axis], data: Path = DATA) -> dict[str, Preset]:
    """Read the presets, and check them against the axes.

    Parameters
    ----------
    axes : mapping
        The convention axes there are.
    data : Path
        The folder that holds ``presets.json``.

    Returns
    -------
    dict of str to Preset

    Raises
    ------
    VectorError
        If the file is not there, or is not as its schema says, or names an axis or a value that does not exist.
    """
    try:
        with (data / _FILE).open("rb") as file:
            content = file.read(MAX_INDEX_BYTES + 1)
    except OSError as error:
        raise VectorError(f"{_FILE}: cannot be read ({error.strerror})") from None
    if len(content) > MAX_INDEX_BYTES:
        raise VectorError(f"{_FILE}: larger than {MAX_INDEX_BYTES} bytes")
    document = _mapping(_FILE, parse(content, _FILE), {"schema", "presets"})
    if type(document["schema"]) is not int or document["schema"] != 1:
        raise VectorError(f"{_FILE}: schema is {str(document['schema'])[:20]!r}, this version of refpg reads 1")
    if not isinstance(document["presets"], dict):
        raise VectorError(f"{_FILE}: presets is not a mapping")
    return {name: _preset(name, raw, axes) for name, raw in document["presets"].items()}


def chosen(asked: str | Mapping[str, str], axes: Mapping[str, Axis], data: Path = DATA) -> dict[str, str]:
    """Return the conventions asked for: those of a preset by name, or a mapping as it is.

    Parameters
    ----------
    asked : str or mapping
        The name of a preset, or axis → value.
    axes, data
        As in `presets`.

    Returns
    -------
    dict of str to str

    Raises
    ------
    UsageError
        If there is no such preset, axis or value.
    """
    if isinstance(asked, str):
        known = presets(axes, data)
        if asked not in known:
            raise UsageError(f"there is no preset {asked!r}{nearest(asked, known)}; there are {', '.join(known)}")
        return dict(known[asked].conventions)
    for axis, value in asked.items():
        if axis not in axes:
            raise UsageError(f"{axis!r} is not a convention axis{nearest(axis, axes)}; the axes are {', '.join(axes)}")
        if value not in axes[axis].values:
            raise UsageError(f"{axis} = {value!r} is unknown, expected {' or '.join(axes[axis].values)}")
    return dict(asked)


def applied(adapter: Adapter, conventions: Mapping[str, str], axes: Mapping[str, Axis]) -> Adapter:
    """Return an adapter that declares these conventions besides its own.

    Parameters
    ----------
    adapter : Adapter
        What is judged.
    conventions : mapping
        Axis → value, from `chosen`.
    axes : mapping
        The convention axes there are.

    Returns
    -------
    Adapter
        One that can answer under all conventions (refpg itself) answers under these alone.

    Raises
    ------
    UsageError
        If the adapter declares another value of one of the axes.
    """
    for axis, value in conventions.items():
        own = adapter.conventions.get(axis, value)
        if own != value:
            raise UsageError(
                f"{adapter.target} declares {axis} = {own}, and {axis} = {value} is asked for; a preset adds to what "
                "is declared and does not contradict it: change the declaration, or choose other conventions"
            )
    merged = dict(adapter.conventions) | dict(conventions)
    if adapter.under is None:
        return replace(adapter, conventions=merged)
    defaults = {name: axis.default for name, axis in axes.items()}
    return replace(adapter, conventions=merged, functions=adapter.under(defaults | merged), under=None)


def table(axes: Mapping[str, Axis], known: Mapping[str, Preset]) -> Iterator[str]:
    """Yield the axes with their values and the presets with theirs, for a person.

    Parameters
    ----------
    axes : mapping
        The convention axes.
    known : mapping
        From `presets`.

    Yields
    ------
    str
    """
    yield "axes: a declared value selects other certified answers; * is the default"
    for name, axis in axes.items():
        ops = [op.name for op in OPS.values() if name in op.conventions]
        yield ""
        yield f"  {name:<26}{axis.title}"
        for value, meaning in axis.values.items():
            yield from _row(f"  {'*' if value == axis.default else ' '} {value}", meaning)
        yield from _row("    of", ", ".join(ops) or "no op")
    yield ""
    yield "presets: refpg check TARGET --conventions NAME"
    for name, preset in known.items():
        yield ""
        yield from _row(f"  {name}", f"{preset.library} ({preset.looked_at})")
        declared = [f"{axis} = {value}" for axis, value in preset.conventions.items()]
        yield from _row("    declares", ", ".join(declared) or "nothing: no axis is touched")
        if (region := preset.trust_region) is not None:
            numbers = f"damping {region.damping:g}, {region.iterations} CG iterations, "
            yield from _row("    step", f"{numbers}{region.max_backtracks} candidates {region.backtrack:g}ʲ")
        for text in preset.beyond:
            yield from _row("    beyond", text)


def _row(label: str, text: str) -> Iterator[str]:
    for line in textwrap.wrap(text, _WIDTH - 28):
        yield f"{label:<27} {line}"
        label = ""


def _preset(name: str, raw: Any, axes: Mapping[str, Axis]) -> Preset:
    here = f"{_FILE}: {name[:60]}"
    if not _NAME.fullmatch(name):
        raise VectorError(f"{here}: not the name of a preset")
    record = _mapping(here, raw, _FIELDS)
    conventions = record["conventions"]
    if not isinstance(conventions, dict):
        raise VectorError(f"{here}: conventions is not a mapping")
    for axis, value in conventions.items():
        if axis not in axes:
            raise VectorError(f"{here}: {axis[:40]!r} is not a convention axis{nearest(axis, axes)}")
        if not isinstance(value, str) or value not in axes[axis].values:
            raise VectorError(f"{here}: {axis} = {str(value)[:40]!r}, expected {' or '.join(axes[axis].values)}")
    for key in ("library", "looked_at"):
        if not isinstance(record[key], str) or not record[key]:
            raise VectorError(f"{here}: {key} is not a text")
    return Preset(
        record["library"],
        record["looked_at"],
        MappingProxyType(conventions),
        _trust_region(here, record["trust_region"]),
        _texts(f"{here}: beyond", record["beyond"]),
        _texts(f"{here}: source", record["source"], least=1),
    )


def _trust_region(here: str, raw: Any) -> TrustRegion | None:
    if raw is None:
        return None
    record = _mapping(f"{here}: trust_region", raw, set(_NUMBERS))
    for key, kind in _NUMBERS.items():
        if isinstance(record[key], bool) or not isinstance(record[key], (int, kind)):
            raise VectorError(f"{here}: {key} is {str(record[key])[:40]!r}, expected a number")
    if record["damping"] < 0 or record["iterations"] < 1 or record["max_backtracks"] < 1:
        raise VectorError(f"{here}: trust_region holds a number that is too small")
    if not 0 < record["backtrack"] < 1:
        raise VectorError(f"{here}: backtrack is {record['backtrack']!r}, expected a number between 0 and 1")
    return TrustRegion(
        float(record["damping"]), record["iterations"], float(record["backtrack"]), record["max_backtracks"]
    )


def _mapping(here: str, value: Any, fields: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise VectorError(f"{here}: not a mapping")
    if set(value) != fields:
        missing, unknown = sorted(fields - set(value)), sorted(str(key)[:40] for key in set(value) - fields)
        raise VectorError(f"{here}: missing fields {missing}, unknown fields {unknown}")
    return value


def _texts(here: str, value: Any, *, least: int = 0) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) < least or not all(isinstance(text, str) and text for text in value):
        raise VectorError(f"{here}: not a list of texts")
    return tuple(value)
