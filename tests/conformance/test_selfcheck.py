"""The judge judged, and its judge: a self-check that cannot fail would say nothing."""

from typing import Any

import numpy as np
import pytest

from refpg.__main__ import main
from refpg.conformance.adapters import UsageError
from refpg.conformance.mutants import MUTANTS, Mutant
from refpg.conformance.ops import OPS
from refpg.conformance.reference import answers
from refpg.conformance.run import MISMATCH, check
from refpg.conformance.selfcheck import Report, bugs, comparators, honest, lines, miniatures, selfcheck
from refpg.conformance.vectors import Vectors, load
from refpg.conformance.verdicts import Verdict

MINIATURES = miniatures.miniatures()


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    return load()


def defaults(vectors: Vectors) -> dict[str, str]:
    return {name: axis.default for name, axis in vectors.axes.items()}


def mutant(bug: str, op: str) -> Mutant:
    return next(mutant for mutant in MUTANTS if (mutant.bug, mutant.op) == (bug, op))


# The whole.


@pytest.fixture(scope="module")
def steps() -> list[tuple[int, int, str]]:
    return []


@pytest.fixture(scope="module")
def report(steps: list[tuple[int, int, str]]) -> Report:
    return selfcheck(["estimators"], lambda *step: steps.append(step))


def test_a_self_check_of_a_profile_passes_and_is_one_table(report: Report, steps: list[tuple[int, int, str]]) -> None:
    assert report.passed
    assert report.amiss == ()
    assert all(row.as_expected == row.subjects for row in report.rows)
    assert {row.name for row in report.rows} >= {"mutants of estimators, float64", "mutants of estimators, float32"}
    table = list(lines(report))
    assert table[0].split() == ["subjects", "answers", "as", "expected"]
    assert table[-1].endswith("0 amiss · passed")
    done = [step[0] for step in steps]
    assert done == sorted(done)
    assert steps[-1][:2] == (steps[0][1], steps[0][1])


def test_an_unknown_profile_is_a_mistake_in_usage() -> None:
    with pytest.raises(UsageError, match="there is no profile 'estimator'"):
        selfcheck(["estimator"])
    assert main(["selfcheck", "--profile", "estimator"]) == 2


def test_the_command_prints_the_table_and_plain_lines_where_there_is_no_terminal(
    report: Report, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "refpg.conformance.selfcheck.selfcheck", lambda profiles, progress: progress(1, 2, "x") or report
    )
    assert main(["selfcheck"]) == 0
    output = capsys.readouterr()
    assert output.out.splitlines() == list(lines(report))
    assert output.err == "x …\n"


def test_a_report_that_did_not_pass_is_exit_code_1(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = report._replace(amiss=("a line",))
    monkeypatch.setattr("refpg.conformance.selfcheck.selfcheck", lambda profiles, progress: failed)
    assert main(["selfcheck"]) == 1
    assert list(lines(failed))[-2:-1] == ["AMISS      a line"]


def test_one_mutant_in_twenty_may_go_without_its_name(report: Report) -> None:
    named = report.findings[:20]
    unnamed = [finding._replace(naming="one of") for finding in named]
    assert report._replace(findings=(*named[1:], unnamed[0])).passed
    failed = report._replace(findings=(*named[2:], *unnamed[:2]))
    assert not failed.passed
    assert sum(line.startswith("ONE OF") for line in lines(failed)) == 2
    assert list(lines(failed))[-1].endswith("FAILED")


# Mutants.


@pytest.mark.parametrize("profile", ["distributions", "estimators", "ppo", "theory", "sequence"])
def test_mutants_are_detected_and_named(profile: str, vectors: Vectors) -> None:
    """Those of trpo take longer; `refpg selfcheck` judges them all, and tests/conformance/test_mutants.py detects."""
    found = [
        bugs.judged(wrong, dtype, vectors)
        for wrong, dtype in bugs.visible(vectors, ("float64",))
        if OPS[wrong.op].profile == profile
    ]
    assert not [finding for finding in found if finding.missed or finding.strays]
    assert sum(finding.naming == "first" for finding in found) >= 0.95 * len(found)


@pytest.mark.parametrize(
    ("bug", "op"),
    [
        ("kl-negated", "kl_bernoulli"),
        ("advnorm-large-epsilon", "normalize_advantages"),
        ("vclip-min", "clipped_value_loss"),
    ],
)
def test_a_mutant_is_judged_as_check_judges_it(bug: str, op: str, vectors: Vectors) -> None:
    wrong = mutant(bug, op)
    for conventions in bugs._conventions(wrong, list(vectors.cases[op])):
        values = defaults(vectors) | conventions
        run = check(answers(values) | {op: wrong.under(values), "conventions": conventions}, only=op)
        cases = [case for case in vectors.cases[op] if not case.stability]
        outcomes, diagnoses = bugs._run(wrong, conventions, cases, "float64", vectors)
        told = {outcome.case: (outcome.verdict, outcome.worst) for outcome in outcomes}
        assert told == {o.case: (o.verdict, o.worst) for o in run.outcomes if o.case in told}
        named = {outcomes[i].case: diagnosis.bugs for i, diagnosis in diagnoses.items()}
        assert named == {run.outcomes[i].case: diagnosis.bugs for i, diagnosis in run.diagnoses.items()}


def test_a_mistake_that_is_not_made_is_missed(vectors: Vectors) -> None:
    """A mutant that answers rightly stands for a judge that is blind."""
    right = Mutant("ratio-inverted", "ratio", answers({})["ratio"])
    finding = bugs.judged(right, "float64", vectors)
    assert len(finding.missed) == 5
    assert finding.strays == ()


def test_a_mistake_by_another_name_is_not_named(vectors: Vectors) -> None:
    other = Mutant("ratio-inverted", "ratio", mutant("ratio-always-one", "ratio").function)
    finding = bugs.judged(other, "float64", vectors)
    assert finding.naming == "not named"
    assert "ratio-always-one" in finding.instead


def test_two_bugs_with_the_same_answers_are_both_named(vectors: Vectors) -> None:
    wrong = mutant("ratio-inverted", "approximate_kl")
    assert bugs.judged(wrong, "float64", vectors).naming == "one of"
    assert bugs.judged(mutant("akl-sign", "approximate_kl"), "float64", vectors).naming == "first"


def test_a_mistake_that_another_library_makes_on_purpose_is_named_beside_the_convention() -> None:
    """Without a KL check the accepted candidate is that of a rule which looks at the improvement alone."""
    finding = bugs.judged(mutant("ls-no-kl-check", "trpo_step"), "float64", load(ops=["trpo_step"]))
    assert finding.naming == "one of"


def test_a_mistake_is_not_seen_where_it_is_not_listed(vectors: Vectors) -> None:
    """Wrong everywhere, while the bug it is taken for does not show on every case."""
    everywhere = Mutant("gae-lambda-one", "gae", mutant("gae-discarded", "gae").function)
    assert len(bugs.judged(everywhere, "float64", vectors).strays) > 0


# Honest variants and false alarms.


@pytest.mark.parametrize(
    "variant", [v for v in honest.VARIANTS if v.name not in honest.FALSE_ALARMS], ids=lambda v: v.name
)
def test_no_honest_variant_is_flagged(variant: honest.Variant, vectors: Vectors) -> None:
    for dtype in variant.dtypes:
        line = honest.judged(variant, dtype, vectors)
        assert [(outcome.case, outcome.worst) for outcome in line.flagged] == []
        assert line.worst <= 0.5


# Reported as bugs somewhere, and none: the claim of each is in `honest`.
FALSE_ALARMS = (
    "fa-kl-zero-at-old",
    "fa-max-vs-min",
    "fa-neglogp",
    "fa-unbounded-neg",
    "fa-spinup-coef",
    "fa-torchrl-onesided",
    "fa-logvar-trace",
    "fa-softmax-logp",
    "fa-entropy-plus-one",
    "fa-tianshou-gae",
    "fa-rlax-gae",
    "fa-tianshou-old-logp",
    "fa-shs-half",
    "fa-acktr-empirical",
    "fa-returns-adv-plus-v",
    "fa-neg-entropy",
    "fa-kl-twice",
)


@pytest.mark.parametrize("name", FALSE_ALARMS)
def test_a_false_alarm_is_not_raised(name: str, vectors: Vectors) -> None:
    variant = next(variant for variant in honest.VARIANTS if variant.name == name)
    for dtype in variant.dtypes:
        line = honest.judged(variant, dtype, vectors)
        assert line.answers > 0
        assert line.flagged == ()


def test_every_false_alarm_is_code() -> None:
    assert set(honest.FALSE_ALARMS) == set(FALSE_ALARMS)


def test_the_cases_hold_what_the_false_alarms_are_about(vectors: Vectors) -> None:
    """A large ratio with A < 0, a negative entropy, an end and a truncation: the reported situation occurs."""
    clipped = [case.inputs for case in vectors.cases["clipped_objective"]]
    assert any(((np.exp(i["new_log_prob"] - i["old_log_prob"]) > 2) & (i["advantages"] < 0)).any() for i in clipped)
    entropies = [case.expected[0].outputs["entropy"].value for case in vectors.cases["entropy_diagonal_gaussian"]]
    assert min(entropy.min() for entropy in entropies) < 0
    assert any(case.inputs["terminated"][:-1].any() for case in vectors.cases["gae"])
    assert any(case.inputs["truncated"][:-1].any() for case in vectors.cases["gae"])


def test_a_variant_that_is_not_honest_is_flagged(vectors: Vectors) -> None:
    def functions(conventions: Any) -> dict[str, Any]:
        return {"gae": mutant("gae-done-late", "gae").under(conventions)}

    line = honest.judged(honest.Variant("dishonest", functions), "float32", vectors)
    assert len(line.flagged) >= 7


# Conventions: a declared one is never a failure, and one that is not declared is no bug.

AXES = {
    "kl.direction": "mean_kl_gradient",
    "advantage.ddof": "normalize_advantages",
    "advantage.epsilon": "normalize_advantages",
    "gae.value_target": "gae",
    "approximate_kl.estimator": "approximate_kl",
    "clip_fraction.rule": "clip_fraction",
    "kl_penalty.schedule": "kl_penalty_update",
    "value_loss.factor": "value_loss",
    "value_loss.error": "value_loss",
    "value_loss.clip": "clipped_value_loss",
    "step_length.damping": "natural_gradient_step",
    "step_length.epsilon": "step_length",
    "conjugate_gradient.stop": "conjugate_gradient",
    "line_search.accept": "line_search",
    "visitation.normalisation": "visitation",
    "sequence.aggregation": "masked_aggregate",
    "ratio.level": "token_clipped_objective",
    "kl_penalty.estimator": "token_kl_penalty",
    "group.baseline": "group_advantages",
    "group.scale": "group_advantages",
}


def test_every_axis_is_tried(vectors: Vectors) -> None:
    assert set(AXES) == set(vectors.axes)


@pytest.mark.parametrize("axis", sorted(AXES))
def test_a_declared_convention_conforms_and_another_is_told_as_such(axis: str, vectors: Vectors) -> None:
    op, mismatches = AXES[axis], 0
    for value in vectors.axes[axis].values:
        if value == vectors.axes[axis].default:
            continue
        functions = answers(defaults(vectors) | {axis: value})
        declared = check({op: functions[op], "conventions": {axis: value}}, only=op)
        told = {outcome.verdict for outcome in declared.outcomes}
        assert told <= {Verdict.CONFORMS, Verdict.NO_EXPECTED, Verdict.NOT_ASKED}
        assert Verdict.CONFORMS in told
        undeclared = check({op: functions[op]}, only=op)
        mismatches += undeclared.exit_code == MISMATCH
        assert {diagnosis.kind for diagnosis in undeclared.diagnoses.values()} <= {"convention"}
    assert mismatches > 0


# Miniature adapters.


@pytest.mark.parametrize("miniature", MINIATURES, ids=lambda miniature: miniature.name)
def test_a_miniature_adapter_gets_the_verdict_and_exit_code_expected(
    miniature: miniatures.Miniature, capsys: pytest.CaptureFixture[str]
) -> None:
    assert miniature.as_expected(miniature.run())
    assert capsys.readouterr().out == ""


def test_what_a_miniature_prints_is_kept() -> None:
    printing = next(miniature for miniature in MINIATURES if miniature.name == "right, and printing")
    run = printing.run()
    assert run is not None
    assert {outcome.printed for outcome in run.outcomes} == {"a line\n"}


def test_a_miniature_that_behaves_otherwise_is_not_as_expected() -> None:
    right, crashing = (next(m for m in MINIATURES if m.name == name) for name in ("always right", "crashing"))
    assert not right._replace(adapter=crashing.adapter, op=crashing.op).as_expected(crashing.run())
    assert not crashing.as_expected(right.run())
    assert not right.as_expected(None)
    assert not right._replace(verdict=Verdict.IMPRECISE).as_expected(right.run())


# Comparators.


@pytest.fixture(scope="module")
def known(vectors: Vectors) -> list[comparators.Known]:
    return list(comparators.known_answers(vectors))


def test_the_judges_own_comparison_agrees_with_every_known_answer(
    known: list[comparators.Known], vectors: Vectors
) -> None:
    assert comparators.agrees(comparators.right_comparator, known, vectors.policy)
    assert {k.passes for k in known} == {True, False}


@pytest.mark.parametrize("name", list(comparators.COMPARATORS))
def test_a_comparison_with_a_flaw_is_caught(name: str, known: list[comparators.Known], vectors: Vectors) -> None:
    assert not comparators.agrees(comparators.COMPARATORS[name], known, vectors.policy)


@pytest.mark.parametrize("name", list(comparators.COMPARATORS))
def test_a_flaw_is_in_a_comparison_that_is_otherwise_sound(
    name: str, known: list[comparators.Known], vectors: Vectors
) -> None:
    """A comparator that raises, or that is wrong about everything, would be caught by anything."""
    some = known[:: len(known) // 200]
    with np.errstate(all="ignore"):
        said = [comparators.COMPARATORS[name](k.leaves, k.expected, k.dtype, vectors.policy) for k in some]
    assert sum(one == k.passes for one, k in zip(said, some, strict=True)) > 0.1 * len(some)


def test_an_exit_code_with_a_flaw_is_caught() -> None:
    judged = [(miniature, run) for miniature in MINIATURES if (run := miniature.run()) is not None]
    for name, rule in comparators.EXIT_RULES.items():
        assert any(rule(run) != miniature.exit_code for miniature, run in judged), name
