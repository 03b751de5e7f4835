"""The published vectors are read once in a process: they are checked anew by each reading, and never change."""

import functools
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

import refpg.__main__ as command_line
from refpg.conformance import replay, run, vectors
from refpg.conformance.vectors import DATA, RELEASE, Vectors, load

_published = functools.cache(load)


def remembered(data: Path = DATA, *, release: str = RELEASE, ops: Collection[str] | None = None) -> Vectors:
    """What `load` returns, from memory if it is the published release."""
    if data != vectors.DATA or data != DATA or release != RELEASE:
        return load(data, release=release, ops=ops)
    whole = _published()
    if ops is None:
        return whole
    return replace(whole, cases=MappingProxyType({op: cases for op, cases in whole.cases.items() if op in ops}))


@pytest.fixture(autouse=True)
def _the_published_vectors_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (command_line, replay, run):
        monkeypatch.setattr(module, "load", remembered)
