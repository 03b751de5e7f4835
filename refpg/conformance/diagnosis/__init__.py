"""What a wrong answer is, as far as the evidence goes.

In this order, and only what no case of the run contradicts: the certified answer of a convention that was not declared;
the answer of a known bug; a simple structure; two causes at once.  Where several are left, all are named.  What
explains this answer but not the whole run is said with that objection, and a pair is not said at all.  Where nothing
explains a wrong answer, a law that the implementation violates is named, if there is an implementation to ask.

    candidates     single causes, and the answers they predict
    consistency    whether an explanation holds on the whole run, and could do so by chance
    factors        factors with a name: −1, 1/B
    pairs          two causes at once
    quantities     named quantities at hand for a case
    structures     what a wrong answer is in terms of the certified one
    texts          an explanation in words
    violations     the law that is violated, and the smallest example
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from refpg.conformance.diagnosis import texts
from refpg.conformance.diagnosis.candidates import Bug, Cause, Convention, Told, causes, in_some_outputs
from refpg.conformance.diagnosis.consistency import RED, Run
from refpg.conformance.diagnosis.pairs import Pair, pairs
from refpg.conformance.diagnosis.structures import Structures
from refpg.conformance.diagnosis.texts import Diagnosis
from refpg.conformance.signatures import output_of
from refpg.conformance.vectors import Vectors
from refpg.conformance.verdicts import Outcome, Verdict

__all__ = ["Diagnosis", "Last", "diagnose", "nobody"]


Last = Callable[[Outcome], Diagnosis]


def nobody(outcome: Outcome) -> Diagnosis:
    """Answer that nothing is known: there is no implementation to ask."""
    return texts.nothing()


def diagnose(
    outcomes: Sequence[Outcome], vectors: Vectors, last: Last = nobody
) -> tuple[list[Outcome], dict[int, Diagnosis]]:
    """Explain every wrong or imprecise answer of a run.

    Parameters
    ----------
    outcomes : sequence of Outcome
        All of the run: an explanation must agree with every case that can tell.
    vectors : Vectors
        The release, with all answers of its conventions and bugs.
    last : callable
        Asked about a wrong answer that nothing explains; such as a `refpg.conformance.diagnosis.violations.Search`.

    Returns
    -------
    outcomes : list of Outcome
        The same, where an imprecise answer that a convention or bugs explain has become WRONG.
    diagnoses : dict of int to Diagnosis
        Position in ``outcomes`` → explanation.
    """
    cases = {outcome.case: vectors.case(outcome.case) for outcome in outcomes}
    told = tuple(
        Told(outcome, case) for outcome in outcomes if (case := cases[outcome.case]) and outcome.comparisons
    )
    run = Run(told, vectors)
    inquiry = _Inquiry(run, Structures(run), last)
    final, diagnoses = list(outcomes), {}
    for i, outcome in enumerate(outcomes):
        case = cases[outcome.case]
        if outcome.verdict not in RED or case is None:
            continue
        diagnoses[i] = inquiry.explain(Told(outcome, case))
        if outcome.verdict is Verdict.IMPRECISE and diagnoses[i].kind in ("convention", "bug", "pair"):
            final[i] = replace(outcome, verdict=Verdict.WRONG)
    return final, diagnoses


@dataclass(frozen=True)
class _Inquiry:
    """The questions asked about a run, from the simplest explanation on; what holds for a whole op is asked once."""

    run: Run
    structures: Structures
    last: Last
    found: dict[tuple[str, frozenset[tuple[str, str]]], list[Pair]] = field(default_factory=dict)

    def explain(self, told: Told) -> Diagnosis:
        outcome = told.outcome
        matching = [cause for cause in causes(told, self.run.vectors) if self.run.agrees(cause, told)]
        against = {cause: self.run.contradictions(cause, outcome) for cause in matching}
        complete = [cause for cause in matching if not against[cause]]
        if complete:
            return self._single(outcome, complete, against)
        if partial := self._in_some_outputs(told):
            return self._single(outcome, partial, {})
        structures = self.structures.find(told)
        answers = [other.outcome for other in self.run.alike(outcome)]
        wrong = {output_of(c.path) for answer in answers for c in answer.comparisons if c.worst > 1}
        pair = self._pairs(outcome)
        if len(structures) == len(wrong) and not any(finding.against for finding in structures):
            return texts.of_structures(structures, [both for both in pair if len(both.bugs) == 2])
        if pair:
            return texts.of_pairs(outcome, pair, len(self.run.alike(outcome)), self.run.vectors)
        if matching:
            return self._single(outcome, matching, against)
        if structures:
            return texts.of_structures(structures)
        # An imprecise answer is near: a law that is a few roundings off says nothing that the error does not.
        return self.last(outcome) if outcome.verdict is Verdict.WRONG else texts.nothing()

    def _single(self, outcome: Outcome, found: Sequence[Cause], against: dict[Cause, list[str]]) -> Diagnosis:
        """Prefer conventions to bugs, and fewer changed axes to more; a bug that looks the same is said beside."""
        conventions = [cause for cause in found if isinstance(cause, Convention)]
        fewest = min((len(cause.changes) for cause in conventions), default=0)
        simplest = [cause for cause in conventions if len(cause.changes) == fewest]
        bugs = list(dict.fromkeys(cause for cause in found if isinstance(cause, Bug)))
        objections = [case for cause in simplest or bugs for case in against.get(cause, [])]
        if simplest:
            return texts.of_conventions(outcome, simplest, objections, [] if objections else bugs, self.run.vectors)
        seen = self.run.seen(bugs, outcome)
        return texts.of_bugs(outcome, bugs, objections, not objections, seen, self.run.vectors)

    def _in_some_outputs(self, told: Told) -> list[Bug]:
        bugs = [cause for cause in causes(told, self.run.vectors) if isinstance(cause, Bug)]
        return [
            bug
            for bug in in_some_outputs(bugs, told.outcome)
            if self.run.agrees(bug, told) and not self.run.contradictions(bug, told.outcome)
        ]

    def _pairs(self, outcome: Outcome) -> list[Pair]:
        question = outcome.op, frozenset(outcome.conventions.items())
        if question not in self.found:
            self.found[question] = pairs(outcome, self.run)
        return self.found[question]
