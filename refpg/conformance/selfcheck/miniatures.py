"""Miniature adapters: one for every way in which an implementation can behave, and what the judge must say of it."""

import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from refpg.conformance.adapters import UsageError
from refpg.conformance.reference import answers
from refpg.conformance.run import CONFORM, HARNESS, MISMATCH, NOTHING_EXECUTED, USAGE, Run, check
from refpg.conformance.vectors import load
from refpg.conformance.verdicts import Verdict

Function = Callable[..., Any]
Change = Callable[[Function], Function]


class Miniature(NamedTuple):
    """A small implementation.

    Fields: its ``name`` says how it behaves; the ``adapter`` is judged in one ``op``; it must lead to ``exit_code``,
    and to this one ``verdict`` on every answer, or to any if that is None.
    """

    name: str
    op: str
    adapter: Mapping[str, Any]
    exit_code: int
    verdict: Verdict | None

    def run(self) -> Run | None:
        """Judge it; None if the judge refuses to begin, a mistake in usage."""
        try:
            return check(self.adapter, only=self.op, laws=False)
        except UsageError:
            return None

    def as_expected(self, run: Run | None) -> bool:
        """Return whether the exit code, and the verdict on every answer, are those expected."""
        if run is None:
            return self.exit_code == USAGE
        verdicts = {outcome.verdict for outcome in run.outcomes} - {Verdict.NOT_ASKED}
        return run.exit_code == self.exit_code and (self.verdict is None or verdicts == {self.verdict})


def miniatures() -> list[Miniature]:
    """Return all of them."""
    right = answers({name: axis.default for name, axis in load(ops=()).axes.items()})

    def changed(name: str, op: str, change: Change, exit_code: int, verdict: Verdict | None) -> Miniature:
        return Miniature(name, op, {op: change(right[op])}, exit_code, verdict)

    def returns(answer: Callable[[Any], Any]) -> Change:
        return lambda function: lambda **inputs: answer(function(**inputs))

    def declaring(name: str, op: str, exit_code: int, verdict: Verdict | None, **attributes: Any) -> Miniature:
        return Miniature(name, op, {op: right[op]} | attributes, exit_code, verdict)

    conforms, wrong, crashed = Verdict.CONFORMS, Verdict.WRONG, Verdict.HARNESS_ERROR
    return [
        changed("always right", "score_categorical", lambda function: function, CONFORM, conforms),
        changed("right, in lists", "gae", returns(_in_lists), CONFORM, conforms),
        changed("right, in a named tuple", "gae", returns(_in_a_named_tuple), CONFORM, conforms),
        changed("right, and not to be written to", "score_categorical", returns(_read_only), CONFORM, conforms),
        changed("right, in column-major order", "score_categorical", returns(np.asfortranarray), CONFORM, conforms),
        changed("right, a view of its own memory", "score_categorical", _in_one_buffer, CONFORM, conforms),
        changed("right, and printing", "ratio", _printing, CONFORM, conforms),
        changed("right, and closing the output", "ratio", _closing_output, CONFORM, conforms),
        changed("right, and emptying its mapping", "ratio", _emptying, CONFORM, conforms),
        changed("always NaN", "score_categorical", returns(lambda a: a * np.nan), MISMATCH, wrong),
        changed("always infinite", "ratio", returns(lambda a: a + np.inf), MISMATCH, wrong),
        changed("always zero", "ratio", returns(np.zeros_like), MISMATCH, wrong),
        changed("its first answer, always", "score_categorical", _remembering, MISMATCH, wrong),
        changed("transposed", "score_categorical", returns(np.transpose), MISMATCH, wrong),
        changed("in shape (N, 1)", "ratio", returns(lambda a: a[:, None]), MISMATCH, wrong),
        changed("in shape (1, N)", "ratio", returns(lambda a: a[None]), MISMATCH, wrong),
        changed("N × N", "ratio", returns(lambda a: a[:, None] + 0 * a), MISMATCH, wrong),
        changed("one number for all rows", "ratio", returns(np.mean), MISMATCH, wrong),
        changed("one row short", "ratio", returns(lambda a: a[:-1]), MISMATCH, wrong),
        changed("empty", "ratio", returns(lambda a: a[:0]), MISMATCH, wrong),
        changed("float16", "log_prob_categorical", returns(np.float16), MISMATCH, wrong),
        changed("float32, undeclared", "log_prob_categorical", returns(np.float32), MISMATCH, None),
        changed("ten digits", "log_prob_categorical", returns(lambda a: a * (1 + 1e-10)), MISMATCH, Verdict.IMPRECISE),
        changed("crashing", "ratio", _crashing, HARNESS, crashed),
        changed("leaving the program", "ratio", _leaving, HARNESS, crashed),
        changed("changing its inputs", "ratio", _changing_inputs, HARNESS, crashed),
        changed("nothing", "ratio", returns(lambda a: None), HARNESS, crashed),
        changed("words", "ratio", returns(lambda a: "right"), HARNESS, crashed),
        changed("complex", "ratio", returns(lambda a: a + 0j), HARNESS, crashed),
        changed("truth values", "ratio", returns(lambda a: a > 0), HARNESS, crashed),
        changed("ragged", "score_categorical", returns(lambda a: [a[0], a[1, :1]]), HARNESS, crashed),
        changed("one output of two", "gae", returns(lambda a: {"advantages": a["advantages"]}), HARNESS, crashed),
        changed("one output too many", "gae", returns(lambda a: a | {"returns": 0.0}), HARNESS, crashed),
        changed("a float for an integer", "natural_gradient_minimum_norm", returns(_float_rank), HARNESS, crashed),
        changed("refusing, with a reason", "ratio", _refusing("no"), NOTHING_EXECUTED, Verdict.UNSUPPORTED),
        changed("refusing, without", "ratio", _refusing(""), HARNESS, crashed),
        Miniature("empty-handed", "ratio", {}, NOTHING_EXECUTED, Verdict.UNDECLARED),
        Miniature("modest", "ratio", {"unsupported": {"ratio": "no"}}, NOTHING_EXECUTED, Verdict.UNSUPPORTED),
        declaring("lying: unsupported, and there", "ratio", USAGE, None, unsupported={"ratio": "no"}),
        declaring("lying: another convention", "value_loss", MISMATCH, None, conventions={"value_loss.factor": "1/2"}),
        declaring("an unknown convention", "ratio", USAGE, None, conventions={"kl.colour": "red"}),
        declaring("an unknown value", "ratio", USAGE, None, conventions={"kl.direction": "up"}),
        declaring("an unknown dtype", "ratio", USAGE, None, dtype="float8"),
        declaring("an unknown op", "ratio", USAGE, None, ratios=right["ratio"]),
        Miniature("a number for a function", "ratio", {"ratio": 1.0}, USAGE, None),
    ]


def _in_lists(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.tolist() for name, value in answer.items()}


class _Advantages(NamedTuple):
    advantages: Any
    value_targets: Any


def _in_a_named_tuple(answer: Mapping[str, Any]) -> _Advantages:
    return _Advantages(**answer)


def _read_only(answer: Any) -> Any:
    answer.flags.writeable = False
    return answer


def _float_rank(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {"direction": answer["direction"], "rank": float(answer["rank"])}


def _in_one_buffer(function: Function) -> Function:
    buffer = np.zeros(10_000)

    def buffered(**inputs: Any) -> Any:
        answer = function(**inputs)
        buffer[: answer.size] = answer.ravel()
        return buffer[: answer.size].reshape(answer.shape)

    return buffered


def _printing(function: Function) -> Function:
    def printing(**inputs: Any) -> Any:
        print("a line", flush=True)
        return function(**inputs)

    return printing


def _closing_output(function: Function) -> Function:
    def closing(**inputs: Any) -> Any:
        sys.stdout.close()
        return function(**inputs)

    return closing


def _emptying(function: Function) -> Function:
    def emptying(**inputs: Any) -> Any:
        return function(**{name: inputs.pop(name) for name in list(inputs)})

    return emptying


def _remembering(function: Function) -> Function:
    first: list[Any] = []

    def remembering(**inputs: Any) -> Any:
        first.append(function(**inputs))
        return first[0] if len(first) > 1 else 2 * first[0]

    return remembering


def _crashing(function: Function) -> Function:
    def crashing(**inputs: Any) -> Any:
        raise ZeroDivisionError("a mistake of the implementation")

    return crashing


def _leaving(function: Function) -> Function:
    def leaving(**inputs: Any) -> Any:
        sys.exit(0)

    return leaving


def _changing_inputs(function: Function) -> Function:
    def changing(**inputs: Any) -> Any:
        answer = function(**inputs)
        inputs["old_log_prob"] += 1
        return answer

    return changing


def _refusing(reason: str) -> Change:
    def refuse(function: Function) -> Function:
        def refusing(**inputs: Any) -> Any:
            raise NotImplementedError(reason)

        return refusing

    return refuse
