"""Every bug of the catalogue as code: it gives the answers that were certified in balls, and the judge sees them."""

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import pytest

from refpg.conformance.diagnosis.candidates import INVISIBLE, Bug, Told
from refpg.conformance.diagnosis.consistency import is_answer
from refpg.conformance.mutants import MUTANTS, Mutant
from refpg.conformance.ops import OPS
from refpg.conformance.reference import answers
from refpg.conformance.run import check
from refpg.conformance.vectors import Case, Vectors, load
from refpg.conformance.verdicts import Outcome, Verdict, call, verdict_on

# Where code and the certified wrong answer differ by more than the diagnosis allows: (bug, op, dtype) → why.  The test
# holds that nothing else differs, and that each of these still does; one that agrees must be taken off the list.
_NAN_GRADIENT = "the certified policy gradient is finite; code takes the derivative of NaN, which is NaN"
_SINGULAR = "the system is singular and the iterations many: code and exact arithmetic share fewer than half the digits"
_CANCELS = "1 − tanh² u cancels in float32, so that the mistaken formula has no more digits to agree in"
_EARLIER = "float32 overflows at 88, float64 at 709, and the certified answer is that of float64"
_STOPPED = "nine iterations solve the system exactly, and leave code, which stops there, a residual of 2e-8"
DIFFERENT = {
    ("cat-overflow", "log_prob_categorical", "float32"): _EARLIER,
    ("cat-overflow", "entropy_categorical", "float32"): _EARLIER,
    ("cat-overflow", "score_categorical", "float32"): _EARLIER,
    ("cat-overflow", "fisher_categorical", "float32"): _EARLIER,
    ("advnorm-one-branch", "ppo_objective", "float64"): _NAN_GRADIENT,
    ("advnorm-one-branch", "ppo_objective", "float32"): _NAN_GRADIENT,
    ("fvp-no-damping", "fisher_conjugate_gradient", "float64"): _SINGULAR,
    ("fvp-no-damping", "trpo_step", "float32"): _SINGULAR,
    ("fvp-empirical-fisher", "trpo_step", "float64"): _STOPPED,
    ("logp-squash-atanh-clamp", "log_prob_squashed_gaussian", "float32"): _CANCELS,
    ("logp-squash-epsilon", "log_prob_squashed_gaussian", "float32"): _CANCELS,
}

# Effects of less than half of the digits: IMPRECISE until the diagnosis knows the answer; and where, and under what.
# Two steps of steepest descent are parallel to two of conjugate gradients: the epsilon alone tells their lengths apart.
SMALL: dict[tuple[str, str], tuple[str, dict[str, str]]] = {
    ("advnorm-large-epsilon", "normalize_advantages"): ("normalize_advantages/large-magnitudes-8", {}),
    ("adam-epsilon-in-root", "adam_step"): ("adam_step/usual-constants-7", {}),
    ("adam-epsilon-uncorrected", "adam_step"): ("adam_step/usual-constants-7", {}),
    ("cg-steepest", "trpo_step"): ("trpo_step/gaussian-two-iterations-8x2-5-4-3", {"step_length.epsilon": "1e-8"}),
}


class Answer(NamedTuple):
    """A mutant's answer to a case: whether the case lists the bug there, and whether it is the answer listed."""

    mutant: Mutant
    case: Case
    outcome: Outcome
    listed: bool
    agrees: bool

    @property
    def where(self) -> tuple[str, str, str]:
        return self.mutant.bug, self.mutant.op, self.outcome.dtype


@cache
def released(op: str) -> Vectors:
    return load(ops=[op])


@cache
def answers_of(op: str) -> list[Answer]:
    """Every mutant of an op on every case, under every convention, in every dtype.

    Cases of stability ask for digits that ordinary code, right or wrong, does not have; they are asked where no other
    case lists the bug.
    """
    vectors = released(op)
    defaults = {name: axis.default for name, axis in vectors.axes.items()}
    found = []
    for mutant in (mutant for mutant in MUTANTS if mutant.op == op):
        listing = [case for case in vectors.cases[op] if mutant.bug in {wrong.bug for wrong in case.wrong}]
        ordinary = any(not case.stability for case in listing)
        for case in (case for case in vectors.cases[op] if not (ordinary and case.stability)):
            for expected in case.expected:
                function = mutant.under(defaults | dict(expected.conventions))
                for dtype in case.resolves:
                    reply = call(op, function, case.inputs, case.shapes, dtype)
                    assert reply.leaves is not None, f"{mutant.bug} on {case.id}: {reply.error or reply.skipped}"
                    told = Told(verdict_on(case, expected, reply, dtype, vectors.policy), case)
                    bug = Bug(mutant.bug)
                    prediction = bug.predict(told, vectors)
                    agrees = prediction is not None and is_answer(prediction, told.outcome)
                    found.append(Answer(mutant, case, told.outcome, bug.visible(told), agrees))
    return found


def pairs() -> Iterator[tuple[str, str]]:
    for op, cases in load().cases.items():
        yield from {(wrong.bug, op) for case in cases for wrong in case.wrong}


def test_every_bug_is_code_in_every_op_it_ships_wrong_answers_for() -> None:
    mutants = [(mutant.bug, mutant.op) for mutant in MUTANTS]
    assert len(set(mutants)) == len(mutants)
    assert set(mutants) == set(pairs())


@pytest.mark.parametrize("op", sorted(OPS))
def test_code_gives_the_certified_wrong_answers(op: str) -> None:
    different = {answer.where for answer in answers_of(op) if answer.listed and not answer.agrees}
    assert different == {where for where in DIFFERENT if where[1] == op}


@pytest.mark.parametrize("op", sorted(OPS))
def test_a_mutant_is_seen_where_the_vectors_list_it_and_nowhere_else(op: str) -> None:
    """The kill matrix is made of the same lists, see tests/test_kill_matrix.py."""
    for mutant, case, outcome, listed, _ in answers_of(op):
        what = mutant.bug, case.id, outcome.dtype, outcome.worst
        assert outcome.verdict in (Verdict.WRONG, Verdict.IMPRECISE) if listed else outcome.worst <= INVISIBLE, what


@pytest.mark.parametrize("op", sorted(OPS))
def test_in_float64_a_mutant_is_wrong_at_once_or_its_effect_is_small(op: str) -> None:
    for mutant, case, outcome, listed, _ in answers_of(op):
        if listed and outcome.dtype == "float64" and outcome.verdict is not Verdict.WRONG:
            where, under = SMALL[mutant.bug, op]
            assert (case.id, dict(outcome.conventions) | under) == (where, dict(outcome.conventions)), case.id


@pytest.mark.parametrize(("bug", "op"), sorted(SMALL))
def test_the_diagnosis_makes_a_small_effect_wrong(bug: str, op: str) -> None:
    mutant = next(mutant for mutant in MUTANTS if (mutant.bug, mutant.op) == (bug, op))
    defaults = {name: axis.default for name, axis in released(op).axes.items()}
    where, under = SMALL[bug, op]
    run = check({op: mutant.under(defaults | under), "conventions": under}, only=op)
    verdicts = {outcome.case: outcome.verdict for outcome in run.outcomes}
    assert verdicts[where] is Verdict.WRONG


@pytest.mark.parametrize("op", ["clipped_objective", "gae", "log_prob_diagonal_gaussian", "adam_step"])
def test_no_mutant_gives_the_answers_of_another(op: str) -> None:
    """The comparison can fail: it tells the mutants of an op from one another."""
    vectors = released(op)
    for mutant, case, outcome, listed, _ in answers_of(op):
        under = dict(outcome.conventions)
        others = {wrong.bug for wrong in case.wrong if listed and dict(wrong.conventions) == under} - {mutant.bug}
        told = Told(outcome, case)
        same = [bug for bug in others if is_answer(Bug(bug).predict(told, vectors), outcome)]
        if len(same) > 0:
            # Two bugs may coincide on one case; another case of the op must tell them apart.
            for bug in same:
                assert any(
                    not is_answer(prediction, answer.outcome)
                    for answer in answers_of(op)
                    if answer.mutant == mutant and answer.outcome.dtype == outcome.dtype
                    if (prediction := Bug(bug).predict(Told(answer.outcome, answer.case), vectors)) is not None
                ), (mutant.bug, bug)


@pytest.mark.parametrize("op", sorted(OPS))
def test_a_mutant_is_not_the_right_function(op: str) -> None:
    """A wrong answer that is the right one in disguise would be seen nowhere."""
    for mutant in (mutant for mutant in MUTANTS if mutant.op == op):
        verdicts = {answer.outcome.verdict for answer in answers_of(op) if answer.mutant == mutant}
        assert verdicts - {Verdict.CONFORMS}, mutant.bug


def test_a_mutant_takes_conventions_as_the_reference_does() -> None:
    """A function whose op has conventions takes them first; the others take the inputs alone."""
    mutant = next(mutant for mutant in MUTANTS if (mutant.bug, mutant.op) == ("vloss-broadcast", "value_loss"))
    case = released("value_loss").cases["value_loss"][0]
    defaults = {name: axis.default for name, axis in released("value_loss").axes.items()}
    whole, half = (mutant.under(defaults | {"value_loss.factor": factor})(**case.inputs) for factor in ("1", "1/2"))
    assert whole == 2 * half
    right = answers(defaults)["value_loss"](**case.inputs)
    assert whole != right
