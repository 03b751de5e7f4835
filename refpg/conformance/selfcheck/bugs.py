"""Mutants × cases × dtypes: is every bug detected on every case that can show it, and is it named?"""

from collections.abc import Mapping
from typing import NamedTuple

from refpg.conformance.diagnosis import Diagnosis
from refpg.conformance.diagnosis.candidates import INVISIBLE
from refpg.conformance.mutants import MUTANTS, Mutant
from refpg.conformance.ops import OPS
from refpg.conformance.run import explained
from refpg.conformance.vectors import Case, Vectors
from refpg.conformance.verdicts import Outcome, Verdict, call, verdict_on

RED = (Verdict.WRONG, Verdict.IMPRECISE)

NAMINGS = ("first", "one of", "not named")


class Finding(NamedTuple):
    """What the judge made of a mutant in a dtype.

    Fields: ``answers`` judged; ``missed`` are the cases that list the bug and did not go red, ``strays`` those that
    went red and do not list it; ``naming`` is the least of `NAMINGS` over the red answers, and ``instead`` what the
    diagnosis said where the bug was not first.
    """

    mutant: Mutant
    dtype: str
    answers: int
    missed: tuple[str, ...]
    strays: tuple[str, ...]
    naming: str
    instead: str

    @property
    def profile(self) -> str:
        """The profile of the mutant's op."""
        return OPS[self.mutant.op].profile


def visible(vectors: Vectors, dtypes: tuple[str, ...]) -> list[tuple[Mutant, str]]:
    """Return every mutant of the vectors' ops, in every dtype in which some case lists an answer of its bug."""
    return [
        (mutant, dtype)
        for mutant in MUTANTS
        for dtype in dtypes
        if any(_shows(mutant, case, dtype) for case in vectors.cases.get(mutant.op, ()))
    ]


def judged(mutant: Mutant, dtype: str, vectors: Vectors) -> Finding:
    """Judge refpg with one function replaced by a mutant, as `refpg.conformance.run.check` does, and ask for its name.

    Parameters
    ----------
    mutant : Mutant
        What to judge, under every convention under which its wrong answers are known.
    dtype : str
        The precision it computes in and is judged by.
    vectors : Vectors
        With the cases of its op.
    """
    cases = [case for case in vectors.cases[mutant.op] if dtype in case.resolves and not case.stability]
    missed, strays, instead = [], [], ""
    answers, naming = 0, "first"
    for conventions in _conventions(mutant, cases):
        outcomes, diagnoses = _run(mutant, conventions, cases, dtype, vectors)
        listed = {case.id for case in cases if (mutant.bug, conventions) in _wrong(case)}
        answers += len(outcomes)
        missed += [o.case for o in outcomes if o.case in listed and o.verdict not in RED]
        strays += [o.case for o in outcomes if o.case not in listed and not o.worst <= INVISIBLE]
        for i, diagnosis in diagnoses.items():
            if outcomes[i].case in listed and _naming(mutant, diagnosis) > NAMINGS.index(naming):
                naming = NAMINGS[_naming(mutant, diagnosis)]
                instead = f"{outcomes[i].case}: {', '.join(diagnosis.bugs) or diagnosis.lines[0][1]}"
    return Finding(mutant, dtype, answers, tuple(dict.fromkeys(missed)), tuple(dict.fromkeys(strays)), naming, instead)


def _run(
    mutant: Mutant, conventions: Mapping[str, str], cases: list[Case], dtype: str, vectors: Vectors
) -> tuple[list[Outcome], dict[int, Diagnosis]]:
    function = mutant.under({name: axis.default for name, axis in vectors.axes.items()} | dict(conventions))
    outcomes = []
    for case in cases:
        expected = case.under(conventions)
        if expected is not None:
            reply = call(case.op, function, case.inputs, case.shapes, dtype)
            outcomes.append(verdict_on(case, expected, reply, dtype, vectors.policy))
    return explained(outcomes, vectors)


def _wrong(case: Case) -> list[tuple[str, dict[str, str]]]:
    return [(wrong.bug, dict(wrong.conventions)) for wrong in case.wrong]


def _conventions(mutant: Mutant, cases: list[Case]) -> list[dict[str, str]]:
    found = [conventions for case in cases for bug, conventions in _wrong(case) if bug == mutant.bug]
    return [conventions for i, conventions in enumerate(found) if conventions not in found[:i]]


def _shows(mutant: Mutant, case: Case, dtype: str) -> bool:
    return dtype in case.resolves and not case.stability and mutant.bug in {wrong.bug for wrong in case.wrong}


def _naming(mutant: Mutant, diagnosis: Diagnosis) -> int:
    if diagnosis.kind != "convention" and diagnosis.bugs[:1] == (mutant.bug,):
        return 0
    return 1 if mutant.bug in diagnosis.bugs else 2
