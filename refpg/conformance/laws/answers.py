"""An implementation, asked like a function; its answers carry the margin that ordinary code has at these inputs.

::

    f = Answers.of(my_module)
    f("ratio", old_log_prob=old, new_log_prob=new)      → Rounded(value: what it answered, error: its derived margin)

As with the vectors, no entry is held to less than 0.3 of the largest error beside it.  An answer may be an input of
another op: its margin is carried along.  All errors are in units of float64's roundoff, whatever the dtype in which an
op is answered.  A worker is asked by the judge's own door, as if for a case.
"""

import copy
import unittest
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from refpg.conformance.adapters import Adapter, resolve
from refpg.conformance.laws.ordinary import flat, margins
from refpg.conformance.laws.rounding import Rounded, tree_map
from refpg.conformance.ops import OPS
from refpg.conformance.signatures import Shape, parameter_leaves, parse_type
from refpg.conformance.vectors import Case, Vectors, load
from refpg.conformance.verdicts import InvalidAnswer, flatten, native
from refpg.notation import Array


class Unanswerable(unittest.SkipTest):
    """The implementation declares that it cannot answer these inputs; no law can be tried on them.

    Inside a test, that is a skip with the reason, and no failure.
    """


class Failure(RuntimeError):
    """A worker did not answer; the message is what the judge would report."""


class Contradiction(ValueError):
    """An answer that no law has to be consulted for: another shape than the contract says, or not numbers."""


class Answered(NamedTuple):
    """One question and what came back.

    Fields: the ``op``; the ``inputs`` it was asked with, as numbers and arrays; the ``leaves`` of its answer, by path.
    """

    op: str
    inputs: Mapping[str, Any]
    leaves: Mapping[str, Array]

    @property
    def is_finite(self) -> bool:
        """Whether every number of the answer is."""
        return all(bool(np.isfinite(leaf).all()) for leaf in self.leaves.values())


class Answers:
    """The answers of one implementation, with margins.

    Fields: ``adapter`` as resolved by the judge; ``conventions``, a value for every axis, by which its answers are
    read; ``roundoff`` by dtype, ``factor`` and ``floor``, from the policy of the vectors; ``heard``, what was asked
    and answered, kept by those that are `listening`.
    """

    def __init__(self, adapter: Adapter) -> None:
        release = _release()
        defaults = {name: axis.default for name, axis in release.axes.items()}
        self.adapter = adapter
        self.conventions = defaults | dict(adapter.conventions)
        self.roundoff = release.policy.unit_roundoff
        self.factor, self.floor = release.policy.factor, release.policy.floor
        self._functions = adapter.functions if adapter.under is None else adapter.under(self.conventions)
        self.heard: list[Answered] | None = None

    @classmethod
    def of(cls, target: Any, *, dtype: str | None = None) -> "Answers":
        """Return the answers of anything the judge accepts: a module, object, mapping, name; None is refpg itself."""
        if isinstance(target, Answers):
            return target
        release = _release()
        adapter = resolve(target, release.axes, release.policy.unit_roundoff)
        return cls(adapter if dtype is None else replace(adapter, dtypes={"*": dtype}))

    def listening(self) -> "Answers":
        """Return the same, with a record of its own of what is asked and answered."""
        listener = copy.copy(self)
        listener.heard = []
        return listener

    def missing(self, ops: Iterable[str]) -> str:
        """Return why the ops cannot all be asked, or nothing if they can."""
        for op in ops:
            if op not in self.adapter.ops:
                return f"{op}: {self.adapter.unsupported.get(op, 'not implemented')}"
        return ""

    def unit(self, op: str) -> float:
        """Return the roundoff of the op's dtype, in units of float64's."""
        return self.roundoff[self.adapter.dtype(op)] / self.roundoff["float64"]

    def margin(self, number: Rounded) -> Any:
        """Return the absolute error that is allowed: the policy's factor times what rounding may do."""
        return self.factor * self.roundoff["float64"] * number.error

    def __call__(self, op: str, **inputs: Any) -> Any:
        """Ask for an op.

        Returns
        -------
        Rounded, parameters whose leaves are Rounded, or a mapping of outputs where the op has several.
        """
        if reason := self.missing([op]):
            raise Unanswerable(reason)
        dtype, unit = self.adapter.dtype(op), self.unit(op)
        given = {name: tree_map(lambda leaf: _in_dtype(leaf, dtype, unit), value) for name, value in inputs.items()}
        expected = margins(op, self.conventions, given)
        asked = {name: tree_map(_value, value) for name, value in given.items()}
        outputs = _outputs(op, expected)
        leaves = self._leaves(op, asked, dtype, _shapes(op, outputs))
        found = {
            name: _filled(name, output, leaves, unit, self.floor * _largest(output)) for name, output in outputs.items()
        }
        return found if len(found) > 1 else next(iter(found.values()))

    def _leaves(
        self, op: str, inputs: Mapping[str, Any], dtype: str, shapes: Mapping[str, Shape]
    ) -> Mapping[str, Array]:
        """Ask, and return the leaves of what was answered, which are of the shapes expected."""
        asked = self._returned if self.adapter.ask is None else self._replied
        leaves = asked(op, native(inputs, dtype), shapes)
        if self.heard is not None:
            self.heard.append(Answered(op, inputs, leaves))
        for path, leaf in leaves.items():
            if leaf.shape != shapes[path].lengths:
                raise Contradiction(f"{op}: {path} has shape {leaf.shape}, expected {shapes[path].lengths}")
        return leaves

    def _returned(self, op: str, inputs: Mapping[str, Any], shapes: Mapping[str, Shape]) -> Mapping[str, Array]:
        try:
            return flatten(op, self._functions[op](**inputs), shapes)
        except NotImplementedError as error:
            raise Unanswerable(f"{op}: {error}") from None
        except InvalidAnswer as error:
            raise Contradiction(str(error)) from None

    def _replied(self, op: str, inputs: Mapping[str, Any], shapes: Mapping[str, Shape]) -> Mapping[str, Array]:
        reply = self.adapter.reply(question(op, inputs, shapes))
        if reply.leaves is None:
            raise Unanswerable(f"{op}: {reply.skipped}") if reply.skipped else Failure(f"{op}: {reply.error}")
        return reply.leaves


def question(op: str, inputs: Mapping[str, Any], shapes: Mapping[str, Shape]) -> Case:
    """Return drawn inputs as a case, of which nothing is certified."""
    return Case(
        id=f"{op}/drawn",
        op=op,
        rev=1,
        title="",
        purpose="",
        stability=False,
        reference="",
        dims={},
        inputs=inputs,
        shapes=shapes,
        expected=(),
        wrong=(),
        resolves=(),
        provenance={},
    )


@cache
def _release() -> Vectors:
    return load(ops=())


def _in_dtype(leaf: Any, dtype: str, unit: float) -> Any:
    """Turn an input that is an answer into the dtype, its error into units of the dtype's roundoff."""
    if not isinstance(leaf, Rounded):
        return leaf
    value = leaf.value.astype(dtype).astype(np.float64)
    return Rounded(value, leaf.error / unit + np.abs(value) * (value != leaf.value))


def _value(leaf: Any) -> Any:
    return (leaf.value.item() if leaf.value.ndim == 0 else leaf.value) if isinstance(leaf, Rounded) else leaf


def _outputs(op: str, expected: Any) -> dict[str, Any]:
    """Name what the margins are of."""
    names = OPS[op].outputs
    return expected if isinstance(expected, dict) and set(expected) == set(names) else {next(iter(names)): expected}


def _shapes(op: str, outputs: Mapping[str, Any]) -> dict[str, Shape]:
    """Return what the leaves of an answer must be."""
    shapes: dict[str, Shape] = {}
    for name, output in outputs.items():
        kind = parse_type(OPS[op].outputs[name]).kind
        parts = parameter_leaves(name, output) if kind == "parameters" else {name: output}
        shapes |= {path: Shape("int" if kind == "int" else "float", part.shape) for path, part in parts.items()}
    return shapes


def _largest(output: Any) -> float:
    """Return the largest error in an output that is bounded."""
    errors = (flat(output) if isinstance(output, dict) else output).error
    return float(np.max(errors, where=np.isfinite(errors), initial=0.0))


def _filled(path: str, expected: Any, leaves: Mapping[str, Any], unit: float, least: float) -> Any:
    """Return what was answered, in the structure expected, with its errors, of which none is below ``least``."""
    if isinstance(expected, dict):
        return {name: _filled(f"{path}.{name}", part, leaves, unit, least) for name, part in expected.items()}
    if isinstance(expected, list):
        return [_filled(f"{path}[{i}]", part, leaves, unit, least) for i, part in enumerate(expected)]
    return Rounded(leaves[path], np.maximum(expected.error, least) * unit)
