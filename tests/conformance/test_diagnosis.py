"""A mistake is named when the run supports it, and never beyond."""

import copy
import functools
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refpg.conformance import report
from refpg.conformance import run as runs
from refpg.conformance.adapters import resolve
from refpg.conformance.diagnosis import Diagnosis
from refpg.conformance.diagnosis.violations import Search
from refpg.conformance.ops import OPS
from refpg.conformance.reference import answers
from refpg.conformance.replay import replay as judged_again
from refpg.conformance.run import Run
from refpg.conformance.vectors import DATA as PUBLISHED
from refpg.conformance.vectors import Vectors, load
from refpg.conformance.verdicts import Verdict, native

from . import synthetic

# Without the search for a violated law, which has tests of its own at the end.
check = functools.partial(runs.check, laws=False)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return synthetic.write(tmp_path)


def of(run: Run, case: str) -> Diagnosis:
    return next(
        run.diagnoses[i] for i, outcome in enumerate(run.outcomes) if outcome.case == case and i in run.diagnoses
    )


def text(diagnosis: Diagnosis) -> str:
    return "\n".join(line for _, line in diagnosis.lines)


def no_mask(rewards: Any, values: Any, next_values: Any, terminated: Any, gamma: float) -> Any:
    return rewards + gamma * next_values - values


def no_gamma(rewards: Any, values: Any, next_values: Any, terminated: Any, gamma: float) -> Any:
    return rewards + np.where(terminated, 0, next_values) - values


# Known bugs.


def test_a_planted_bug_is_named(data: Path) -> None:
    run = check({"td_errors": no_mask}, data=data)
    diagnosis = of(run, "td_errors/ends-4x3")
    assert (diagnosis.kind, diagnosis.complete, diagnosis.bugs) == ("bug", True, ("td-no-mask",))
    assert "all 12 values equal the answer of `td-no-mask`: the value of the next episode leaks in" in text(diagnosis)
    assert "all 2 cases that can tell" in text(diagnosis)
    labels = dict(diagnosis.lines)
    assert labels["effect"] == "training gets worse"
    assert labels["seen in"] == "project#1"


def test_a_planted_bug_is_named_in_float32(data: Path) -> None:
    run = check({"td_errors": no_mask, "dtype": "float32"}, data=data)
    assert of(run, "td_errors/ends-4x3").bugs == ("td-no-mask",)


def test_ambiguity_prints_one_of(data: Path) -> None:
    run = check({"td_errors": no_gamma}, data=data)
    diagnosis = of(run, "td_errors/open-4x3")
    assert set(diagnosis.bugs) == {"td-missing-gamma", "td-undiscounted"}
    assert "one of 2 known bugs" in text(diagnosis)
    assert [label for label, _ in diagnosis.lines].count("one of") == 2


def test_another_case_of_the_run_resolves_an_ambiguity(tmp_path: Path) -> None:
    files = copy.deepcopy(synthetic.release())
    first, second = files["td_errors"][0], files["td_errors"][1]
    # In the first case two bugs have the same answer; in the second only one of them has it.
    answers = {wrong["bug"]: wrong for wrong in second["wrong"]}
    answers["td-undiscounted"]["outputs"]["td_errors"]["value"][0] += 1.0
    run = check({"td_errors": no_gamma}, data=synthetic.write(tmp_path, files))
    assert of(run, first["id"]).bugs == ("td-missing-gamma",)


def test_a_bug_that_another_case_denies_is_said_with_that_objection(data: Path) -> None:
    def sometimes(gamma: float, **inputs: Any) -> Any:
        return (no_mask if gamma == 0.75 else synthetic.td_errors)(gamma=gamma, **inputs)

    diagnosis = of(check({"td_errors": sometimes}, data=data), "td_errors/ends-4x3")
    assert not diagnosis.complete
    assert diagnosis.bugs == ("td-no-mask",)
    assert "does not explain the whole run: td_errors/undiscounted-4x3 disagrees" in text(diagnosis)
    assert "so on all" not in text(diagnosis)


@pytest.mark.parametrize("error", [0.125, 2.0**-40])
def test_a_case_that_cannot_show_the_bug_must_still_be_right(data: Path, error: float) -> None:
    def also_spoils_the_open_case(terminated: Any, **inputs: Any) -> Any:
        answer = no_mask(terminated=terminated, **inputs)
        return answer if terminated.any() else answer + error

    diagnosis = of(check({"td_errors": also_spoils_the_open_case}, data=data), "td_errors/ends-4x3")
    assert not diagnosis.complete
    assert "td_errors/open-4x3 disagrees" in text(diagnosis)


def test_a_bug_with_another_shape_is_named(data: Path) -> None:
    def broadcast(old_log_prob: Any, new_log_prob: Any) -> Any:
        return np.exp(new_log_prob[None, :] - old_log_prob[:, None])

    assert of(check({"ratio": broadcast}, data=data), "ratio/seven").bugs == ("ratio-broadcast",)


def test_a_bug_whose_answer_is_not_a_number_is_named(tmp_path: Path) -> None:
    files = synthetic.release()
    for case in files["ratio"]:
        leaf = {"shape": case["wrong"][0]["outputs"]["ratio"]["shape"], "value": [1.0] * case["dims"]["B"]}
        leaf["value"][2] = None
        case["wrong"][0]["outputs"] = {"ratio": leaf}

    def answer(at: int, value: float, **inputs: Any) -> Any:
        ones = np.ones(len(inputs["old_log_prob"]))
        ones[at] = value
        return ones

    folder = synthetic.write(tmp_path, files)
    for value in (np.nan, np.inf):
        run = check({"ratio": lambda value=value, **inputs: answer(2, value, **inputs)}, data=folder)
        assert of(run, "ratio/seven").bugs == ("ratio-inverted",)
    for at, value in ((1, np.nan), (2, 1.0)):
        run = check({"ratio": lambda at=at, value=value, **inputs: answer(at, value, **inputs)}, data=folder)
        assert of(run, "ratio/seven").bugs == ()


# Conventions.


def test_an_undeclared_convention_is_named_as_such_and_not_as_a_bug(data: Path) -> None:
    run = check({"mean_kl": synthetic.mean_kl("new_old")}, data=data)
    diagnosis = of(run, "mean_kl/two-logits")
    assert (diagnosis.kind, diagnosis.complete) == ("convention", True)
    assert diagnosis.conventions == ({"kl.direction": "new_old"},)
    assert "not a bug" in text(diagnosis)
    assert "declare kl.direction = new_old" in text(diagnosis)
    assert run.exit_code == 1


def test_declared_it_conforms(data: Path) -> None:
    declared = {"mean_kl": synthetic.mean_kl("new_old"), "conventions": {"kl.direction": "new_old"}}
    assert check(declared, data=data, only="mean_kl").exit_code == 0


def test_a_wrong_declaration_is_named_too(data: Path) -> None:
    declared = {"mean_kl": synthetic.mean_kl("old_new"), "conventions": {"kl.direction": "new_old"}}
    diagnosis = of(check(declared, data=data), "mean_kl/two-logits")
    assert diagnosis.conventions == ({"kl.direction": "old_new"},)


def test_a_convention_goes_before_a_bug(tmp_path: Path) -> None:
    files = synthetic.release()
    other = files["mean_kl"][0]["expected"][1]["outputs"]["mean_kl"]
    files["mean_kl"][0]["wrong"] = [
        {"bug": "ratio-inverted", "conventions": [{}], "outputs": {"mean_kl": {"shape": [], "value": other["value"]}}}
    ]
    run = check({"mean_kl": synthetic.mean_kl("new_old")}, data=synthetic.write(tmp_path, files))
    diagnosis = of(run, "mean_kl/two-logits")
    assert diagnosis.kind == "convention"
    assert diagnosis.conventions == ({"kl.direction": "new_old"},)
    assert "one of" not in text(diagnosis)
    assert diagnosis.bugs == ("ratio-inverted",)
    assert diagnosis.lines[1][0] == "unless"
    assert diagnosis.lines[1][1].startswith("it is not meant; then `ratio-inverted`: ")


def test_a_convention_that_another_op_denies_is_not_to_be_declared(tmp_path: Path) -> None:
    files = synthetic.release()
    search = files["line_search"][0]
    reverse = copy.deepcopy(search["expected"][0])
    reverse["conventions"] = {"kl.direction": "new_old"}
    reverse["outputs"]["accepted"]["value"] = [1]
    search["expected"].append(reverse)

    def accepts_as_declared(**inputs: Any) -> Any:
        step, old = inputs["full_step"]["layers"][0], inputs["policy"]["layers"][0]
        return {"parameters": {"layers": [{name: old[name] + step[name] for name in "Wb"}]}, "accepted": 0}

    target = {"mean_kl": synthetic.mean_kl("new_old"), "line_search": accepts_as_declared}
    diagnosis = of(check(target, data=synthetic.write(tmp_path, files)), "mean_kl/two-logits")
    assert not diagnosis.complete
    assert "declare" not in text(diagnosis)
    assert "line_search/first disagrees" in text(diagnosis)


def test_an_imprecise_answer_that_is_another_convention_is_wrong(tmp_path: Path) -> None:
    values = synthetic.kl_values()
    values["new_old"] = values["old_new"] * (1 + 2.0**-30)
    files = {"mean_kl": [synthetic.kl_case("close", values)]}
    run = check({"mean_kl": lambda **inputs: values["new_old"]}, data=synthetic.write(tmp_path, files))
    assert [outcome.verdict for outcome in run.outcomes] == [Verdict.WRONG]
    assert of(run, "mean_kl/close").kind == "convention"


def test_an_imprecise_answer_without_explanation_stays_imprecise(data: Path) -> None:
    def rough(**inputs: Any) -> Any:
        noise = np.random.default_rng(1).uniform(-1, 1, inputs["rewards"].shape)
        return synthetic.td_errors(**inputs) * (1 + 1e-12 * noise)

    run = check({"td_errors": rough}, data=data, only="td_errors")
    assert {outcome.verdict for outcome in run.outcomes} == {Verdict.IMPRECISE}
    assert run.exit_code == 1


# Structures.


def structure(data: Path, answer: Any, case: str = "ratio/seven") -> str:
    diagnosis = of(check({case.split("/")[0]: answer}, data=data), case)
    assert diagnosis.bugs == ()
    return text(diagnosis)


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (lambda n: 0.5, "ratio is ½ × the certified value (so on all 2 cases that can tell)"),
        (lambda n: 2.0, "ratio is 2 × the certified value (so"),
        (lambda n: -1.0, "ratio is −1 × the certified value (so"),
        (lambda n: 1 / n, "ratio is 1/B (B = 7) × the certified value (so"),
        (lambda n: n, "ratio is B (= 7) × the certified value (so"),
        (lambda n: n / (n - 1), "ratio is B/(B − 1) (B = 7) × the certified value (so"),
        (lambda n: 0.3, "ratio is 0.3 × the certified value, everywhere (so on all 2 cases that can tell)"),
        (lambda n: 1 / 7, "ratio is 0.142857 × the certified value, everywhere (so"),
    ],
)
def test_a_constant_factor_is_named_as_the_whole_run_has_it(data: Path, factor: Any, words: str) -> None:
    def scaled(**inputs: Any) -> Any:
        return factor(len(inputs["old_log_prob"])) * synthetic.ratio(**inputs)

    assert words in structure(data, scaled)


def test_a_likely_factor_goes_before_an_unlikely_one(data: Path) -> None:
    """All cases have T = 4, so that ½ is 1/√T as well."""
    words = structure(data, lambda **inputs: synthetic.td_errors(**inputs) / 2, "td_errors/ends-4x3")
    assert words == "td_errors is ½ × the certified value (so on all 3 cases that can tell)"


def test_a_factor_of_one_case_alone_is_said_with_that_objection(data: Path) -> None:
    def sometimes(**inputs: Any) -> Any:
        return synthetic.ratio(**inputs) / (7 if len(inputs["old_log_prob"]) == 7 else 1)

    diagnosis = of(check({"ratio": sometimes}, data=data), "ratio/seven")
    assert (diagnosis.kind, diagnosis.complete) == ("structure", False)
    assert "1/B (B = 7) × the certified value" in text(diagnosis)
    assert "not so on ratio/five" in text(diagnosis)


def test_a_constant_difference_is_named(data: Path) -> None:
    assert "+ 0.25, everywhere" in structure(data, lambda **inputs: synthetic.ratio(**inputs) + 0.25)


def test_zero_everywhere_is_named(data: Path) -> None:
    assert "zero everywhere" in structure(data, lambda **inputs: np.zeros(len(inputs["old_log_prob"])))


def test_a_column_is_named(data: Path) -> None:
    words = structure(data, lambda **inputs: synthetic.ratio(**inputs)[:, None])
    assert "shape (7, 1), expected (7,): the values are right" in words


def test_a_transpose_is_named(data: Path) -> None:
    words = structure(data, lambda **inputs: synthetic.td_errors(**inputs).T, "td_errors/ends-4x3")
    assert "it is the transpose" in words


def test_an_unknown_broadcast_is_named(data: Path) -> None:
    words = structure(data, lambda **inputs: np.ones((7, 7)) if len(inputs["old_log_prob"]) == 7 else np.ones((5, 5)))
    assert "broadcast to N × N" in words


def test_nan_is_named(data: Path) -> None:
    assert "NaN or infinity in 7 of 7" in structure(data, lambda **inputs: np.nan * synthetic.ratio(**inputs))


def test_single_precision_is_named(data: Path) -> None:
    words = structure(data, lambda **inputs: synthetic.ratio(**inputs).astype(np.float32))
    assert "the error is that of float32" in words


def test_an_error_smaller_than_that_of_float32_is_not_called_so(data: Path) -> None:
    sign = np.array([1, -1, -1, 1, -1, 1, 1])

    def close(**inputs: Any) -> Any:
        right = synthetic.ratio(**inputs)
        return right * (1 + 1e-9 * sign[: len(right)])

    assert "no known bug matches" in structure(data, close)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (np.abs, "the absolute value of the certified value"),
        (lambda y: y[::-1], "has the certified values reversed along T"),
        (lambda y: y[:, ::-1], "has the certified values reversed along E"),
        (lambda y: np.roll(y, 1, axis=0), "one place late, the last one first, along T"),
        (lambda y: np.roll(y, -1, axis=0), "one place early, the first one last, along T"),
        (lambda y: np.sort(y, axis=1), "sorted along E"),
        (lambda y: y.T.reshape(y.shape), "in another memory order"),
        (lambda y: y.ravel().reshape(y.shape, order="F"), "in another memory order"),
        (np.trunc, "the integer part of the certified value"),
        (lambda y: y.sum(axis=0), "shape (3,), expected (4, 3): it is the sum of the certified rows"),
        (lambda y: y.mean(axis=1), "shape (4,), expected (4, 3): it is the mean over the last axis"),
        (lambda y: y.mean(), "shape (), expected (4, 3): it is the mean of the certified values"),
        (np.ravel, "shape (12,), expected (4, 3): the values are right, the shape is not"),
    ],
)
def test_another_form_of_the_certified_value_is_named(data: Path, change: Any, words: str) -> None:
    assert words in structure(data, lambda **inputs: change(synthetic.td_errors(**inputs)), "td_errors/ends-4x3")


@pytest.mark.parametrize("factor", [0.5, 0.3])
@pytest.mark.parametrize("wrong", [{0.5}, {0.5, 0.75}])
def test_what_the_tolerance_could_make_of_anything_is_not_named(
    tmp_path: Path, factor: float, wrong: set[float]
) -> None:
    cases = td_cases((ENDS, 0.5), (ENDS, 0.75))
    for case in cases:
        case["expected"][0]["outputs"]["td_errors"]["R"] = [1e14] * 12  # a tolerance of 0.2 beside errors of size 1
        case["resolves"] = ["float64"]

    def scaled(gamma: float, **inputs: Any) -> Any:
        return synthetic.td_errors(gamma=gamma, **inputs) * (factor if gamma in wrong else 1)

    run = check({"td_errors": scaled}, data=synthetic.write(tmp_path, {"td_errors": cases}))
    assert len(run.diagnoses) == len(wrong)
    assert {diagnosis.kind for diagnosis in run.diagnoses.values()} == {"none"}


def test_no_explanation_is_better_than_a_false_one(data: Path) -> None:
    words = structure(data, lambda **inputs: synthetic.ratio(**inputs) ** 1.5)
    assert words == "no known bug matches, nor two of them, nor another convention, nor a simple structure"


# Consequences.


def trpo_case() -> dict[str, Any]:
    old, _ = synthetic.kl_policies()
    inputs = {
        "policy": old,
        "observations": [[1.0], [0.5], [-1.0]],
        "actions": [0, 1, 0],
        "advantages": [1.0, -1.0, 0.5],
        "max_kl": 0.0078125,
        "damping": 0.125,
        "iterations": 2,
        "backtrack": 0.5,
        "max_backtracks": 4,
    }
    outputs = {
        "parameters.layers[0].W": synthetic.leaf([[0.5, 0.0]]),
        "parameters.layers[0].b": synthetic.leaf([0.0, 0.0]),
        "accepted": {"shape": [], "value": [0], "exact": True},
    }
    return synthetic.case("trpo_step/x", inputs, {"B": 3, "D": 1}, [({}, outputs)])


def test_the_true_kl_of_a_wrong_step_is_told(tmp_path: Path) -> None:
    def step(**inputs: Any) -> Any:
        return {"parameters": {"layers": [{"W": np.array([[0.5, 0.0]]), "b": np.array([1.0, 0.0])}]}, "accepted": 0}

    run = check({"trpo_step": step}, data=synthetic.write(tmp_path, {"trpo_step": [trpo_case()]}))

    def kl(x: float) -> float:  # by the definition, of sigmoid(x/2) and sigmoid(x/2 + 1)
        p, q = 1 / (1 + np.exp(-x / 2)), 1 / (1 + np.exp(-x / 2 - 1))
        return float(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))

    mean = sum(kl(x) for x in (1.0, 0.5, -1.0)) / 3
    told = f"KL(old ‖ new) of the step returned {mean:.3g} = {mean / 0.0078125:.2g} × max_kl"
    assert ("this step", told) in of(run, "trpo_step/x").lines


def test_a_step_given_as_a_difference_is_added_to_the_policy(tmp_path: Path) -> None:
    case = trpo_case()
    wanted = ("policy", "observations", "damping", "max_kl")
    inputs = {name: case["inputs"][name] for name in wanted}
    inputs["gradient"] = {"layers": [{"W": [[1.0, -1.0]], "b": [0.5, -0.5]}]}
    outputs = {
        "step.layers[0].W": synthetic.leaf([[0.25, 0.0]]),
        "step.layers[0].b": synthetic.leaf([0.0, 0.0]),
    }
    case = synthetic.case("natural_gradient_step/x", inputs, {"B": 3, "D": 1}, [({}, outputs)])
    data = synthetic.write(tmp_path, {"natural_gradient_step": [case]})

    def still(**inputs: Any) -> Any:
        return {"layers": [{"W": np.zeros((1, 2)), "b": np.zeros(2)}]}

    run = check({"natural_gradient_step": still}, data=data)
    assert ("this step", "the policy returned is the old one") in of(run, "natural_gradient_step/x").lines


def test_a_step_that_cannot_be_followed_has_no_consequence(tmp_path: Path) -> None:
    for W in (np.full((1, 2), np.nan), np.zeros((2, 1)), np.full((1, 2), 1e308)):

        def step(W: Any = W, **inputs: Any) -> Any:
            return {"parameters": {"layers": [{"W": W, "b": np.array([1.0, 0.0])}]}, "accepted": 0}

        run = check({"trpo_step": step}, data=synthetic.write(tmp_path, {"trpo_step": [trpo_case()]}))
        assert run.exit_code == 1


def test_a_diagnosis_is_part_of_every_report(data: Path) -> None:
    run = check({"td_errors": no_mask}, data=data)
    now = report.origin()
    assert "`td-no-mask`" in "\n".join(report.terminal(run))
    assert "`td-no-mask`" in report.markdown(run, now)
    records = [json.loads(line) for line in report.json_lines(run, now)]
    assert ["td-no-mask"] in [record.get("diagnosis", {}).get("bugs") for record in records]


# The published vectors.


def replay(op: str, bug: str, vectors: Vectors, dtype: str) -> dict[str, Any]:
    """An adapter that has a bug: it answers as shipped where the bug is listed, and rightly where it is not."""
    answers = {}
    for case in vectors.cases[op]:
        leaves = {path: leaf.value for path, leaf in case.expected[0].outputs.items()}
        for wrong in case.wrong:
            if wrong.bug == bug and not wrong.conventions:
                leaves |= wrong.outputs
        answers[fingerprint(native(case.inputs, dtype))] = structured(leaves)
    return {op: lambda **inputs: answers[fingerprint(inputs)], "dtype": dtype}


def fingerprint(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tobytes(), value.shape
    if isinstance(value, dict):
        return tuple((key, fingerprint(inner)) for key, inner in value.items())
    return tuple(map(fingerprint, value)) if isinstance(value, list) else value


def structured(leaves: dict[str, Any]) -> dict[str, Any]:
    """Undo the flattening of an answer to leaf paths."""
    answer: dict[str, Any] = {}
    for path, value in leaves.items():
        match = re.fullmatch(r"(\w+)\.(?:layers\[(\d+)\]\.(\w)|(log_std))", path)
        if match is None:
            answer[path] = value
            continue
        name, index, letter, log_std = match.groups()
        parameters = answer.setdefault(name, {"layers": []})
        if log_std:
            parameters[log_std] = value
        else:
            parameters["layers"] += [{}] * (int(index) + 1 - len(parameters["layers"]))
            parameters["layers"][int(index)] = parameters["layers"][int(index)] | {letter: value}
    return answer


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("op", OPS)
def test_every_shipped_wrong_answer_is_red_and_its_bug_is_among_those_named(op: str, dtype: str) -> None:
    vectors = load(PUBLISHED, ops=[op])
    for bug in {wrong.bug for case in vectors.cases.get(op, ()) for wrong in case.wrong if not wrong.conventions}:
        run = check(replay(op, bug, vectors, dtype), data=PUBLISHED, only=op, stability=True)
        for i, outcome in enumerate(run.outcomes):
            case = vectors.case(outcome.case)
            assert case is not None
            listed = any(wrong.bug == bug and not wrong.conventions for wrong in case.wrong)
            if outcome.verdict is Verdict.NOT_RESOLVED:
                continue
            assert outcome.verdict is (Verdict.WRONG if listed else Verdict.CONFORMS), (bug, outcome.case)
            if listed:
                diagnosis = run.diagnoses[i]
                assert diagnosis.complete, (bug, outcome.case)
                assert diagnosis.kind == "convention" or bug in diagnosis.bugs, (bug, outcome.case)


# Real code, judged by the published vectors.

ANSWERS = answers({name: axis.default for name, axis in load(PUBLISHED, ops=[]).axes.items()})


def run_of(op: str, function: Any, **options: Any) -> Run:
    return check({op: function}, data=PUBLISHED, only=op, **options)


def whole(run: Run) -> Diagnosis:
    """The one explanation of every wrong answer of a run; they differ in the numbers they tell alone."""
    found = {(d.kind, d.complete, d.bugs, str(d.conventions)) for d in run.diagnoses.values()}
    assert len(found) == 1, found
    return next(iter(run.diagnoses.values()))


def together(run: Run) -> set[str]:
    diagnosis = whole(run)
    assert (diagnosis.kind, diagnosis.complete) == ("pair", True), text(diagnosis)
    assert "one of" not in text(diagnosis)
    return set(diagnosis.bugs)


def gaussian(mean: Any, log_std: Any, actions: Any) -> tuple[Any, Any]:
    return 0.5 * ((actions - mean) / np.exp(log_std)) ** 2, log_std + 0.5 * np.log(2 * np.pi)


def kl_of_gaussians(old_mean: Any, old_log_std: Any, new_mean: Any, new_log_std: Any) -> Any:
    log_ratio = old_log_std - new_log_std  # of the other sign
    square = (np.exp(2 * old_log_std) + (old_mean - new_mean) ** 2) / (2 * np.exp(2 * new_log_std))
    return (log_ratio + square).sum(-1) - 0.5  # −½ once, not for each dimension


# Two mistakes at once.


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_two_mistakes_in_different_terms_are_told(dtype: str) -> None:
    run = check({"kl_diagonal_gaussian": kl_of_gaussians}, data=PUBLISHED, only="kl_diagonal_gaussian", dtype=dtype)
    assert together(run) == {"kl-log-ratio-sign", "kl-const-one-not-D"}
    assert "their effects added (so on all " in text(whole(run))


def test_a_mistake_and_another_that_is_a_factor_are_told() -> None:
    def log_prob(**inputs: Any) -> Any:
        quadratic, normaliser = gaussian(**inputs)
        return (quadratic - normaliser).mean(-1)  # the sign, and the mean over the dimensions

    run = run_of("log_prob_diagonal_gaussian", log_prob)
    assert together(run) == {"logp-plus-quadratic", "logp-mean-dims"}
    assert "multiplied, as one is a factor" in text(whole(run))
    hints = [line for label, line in whole(run).lines if label == "hint"]
    assert hints == ["Negate the term.", "Sum over the last axis."]


def test_a_mistake_and_the_sign_of_the_loss_are_told() -> None:
    def objective(old_log_prob: Any, new_log_prob: Any, advantages: Any, clip: Any) -> Any:
        ratio = np.exp(new_log_prob - old_log_prob)
        return -np.mean(np.clip(ratio, 1 - clip, 1 + clip) * advantages)

    assert together(run_of("clipped_objective", objective)) == {"clip-no-min", "loss-double-negation"}


def test_one_mistake_in_each_of_two_outputs_is_told() -> None:
    def gae(values: Any, terminated: Any, truncated: Any, **inputs: Any) -> Any:
        terminated = terminated | truncated
        estimate = ANSWERS["gae"](values=values, terminated=terminated, truncated=truncated, **inputs)
        return {"advantages": estimate["advantages"], "value_targets": values + 0.0}

    diagnosis = whole(run_of("gae", gae, stability=True))
    assert diagnosis.kind == "pair"
    assert set(diagnosis.bugs) == {"gae-trunc-as-terminal", "vtarget-stale-zero-adv"}
    assert "the first in value_targets, the second in advantages" in text(diagnosis)


def test_a_mistake_under_a_convention_that_is_not_declared_is_told_as_both() -> None:
    def normalize(advantages: Any) -> Any:
        return advantages / advantages.std(ddof=1)

    run = run_of("normalize_advantages", normalize)
    assert together(run) == {"advnorm-uncentred"}
    assert whole(run).conventions == ({"advantage.ddof": "1"},)
    assert "under advantage.ddof = 1" in text(whole(run))
    assert ("both", "not a bug: declare advantage.ddof = 1") in whole(run).lines


def test_a_mistake_times_a_named_factor_is_told() -> None:
    def td_errors(rewards: Any, values: Any, next_values: Any, terminated: Any, gamma: Any) -> Any:
        return values - rewards - gamma * next_values

    run = run_of("td_errors", td_errors)
    assert together(run) == {"gae-no-mask-delta"}
    assert "`gae-no-mask-delta` times −1 (so on all 5 cases of the op)" in text(whole(run))


def test_a_bug_in_one_output_of_two_is_a_single_bug() -> None:
    def gae(terminated: Any, truncated: Any, **inputs: Any) -> Any:
        right = ANSWERS["gae"](terminated=terminated, truncated=truncated, **inputs)
        wrong = ANSWERS["gae"](terminated=terminated | truncated, truncated=truncated, **inputs)
        return {"advantages": wrong["advantages"], "value_targets": right["value_targets"]}

    run = run_of("gae", gae)
    diagnosis = next(iter(run.diagnoses.values()))
    assert (diagnosis.kind, diagnosis.complete, diagnosis.bugs) == ("bug", True, ("gae-trunc-as-terminal",))
    assert "values of advantages equal the answer of `gae-trunc-as-terminal`" in text(diagnosis)
    assert ("but", "value_targets is right") in diagnosis.lines


def test_a_pair_needs_more_than_one_case() -> None:
    def objective(old_log_prob: Any, new_log_prob: Any, advantages: Any, clip: Any) -> Any:
        ratio = np.exp(new_log_prob - old_log_prob)
        return -np.mean(np.clip(ratio, 1 - clip, 1 + clip) * advantages)

    run = check({"clipped_objective": objective}, data=PUBLISHED, only="clipped_objective/every-cell-11")
    assert {diagnosis.kind for diagnosis in run.diagnoses.values()} == {"none"}


def test_a_pair_that_one_case_denies_is_not_named() -> None:
    def log_prob(**inputs: Any) -> Any:
        quadratic, normaliser = gaussian(**inputs)
        both = (quadratic - normaliser).mean(-1)
        return both if len(both) != 7 else both + 1e-3

    run = run_of("log_prob_diagonal_gaussian", log_prob)
    assert not any(diagnosis.kind == "pair" or diagnosis.complete for diagnosis in run.diagnoses.values())


def test_mistakes_that_act_on_each_other_are_not_guessed() -> None:
    def gae(gamma: Any, gae_lambda: Any, values: Any, next_values: Any, rewards: Any, **flags: Any) -> Any:
        ends = flags["terminated"] | flags["truncated"]
        advantages, running = np.zeros_like(rewards), 0.0
        for t in reversed(range(len(rewards))):
            alive = 1.0 - ends[min(t + 1, len(rewards) - 1)]  # one row late
            delta = rewards[t] + next_values[t] * alive - values[t]  # and not discounted
            advantages[t] = running = delta + gamma * gae_lambda * alive * running
        return {"advantages": advantages, "value_targets": advantages + values}

    run = run_of("gae", gae)
    assert not any(diagnosis.complete for diagnosis in run.diagnoses.values())


def undiscounted_unless_it_ends(rewards: Any, values: Any, next_values: Any, terminated: Any, gamma: float) -> Any:
    """Two mistakes: the value after the end leaks in, and what is not the end is not discounted."""
    return rewards + np.where(terminated, gamma, 1.0) * next_values - values


ENDS = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 1]], dtype=bool)


def td_cases(*kinds: tuple[Any, float]) -> list[dict[str, Any]]:
    draw = np.random.default_rng(5)
    return [
        synthetic.td_case(f"case-{i}", *(draw.integers(-64, 64, (4, 3)) / 32 for _ in range(3)), ends, gamma)
        for i, (ends, gamma) in enumerate(kinds)
    ]


def test_pairs_that_the_run_cannot_tell_apart_are_all_named(tmp_path: Path) -> None:
    data = synthetic.write(tmp_path, {"td_errors": td_cases((ENDS, 0.5), (ENDS, 0.75))})
    diagnosis = whole(check({"td_errors": undiscounted_unless_it_ends}, data=data))
    assert diagnosis.kind == "pair"
    assert set(diagnosis.bugs) == {"td-no-mask", "td-missing-gamma", "td-undiscounted"}
    assert "one of 2 pairs (so on all 2 cases of the op)" in text(diagnosis)
    assert [label for label, _ in diagnosis.lines].count("one of") == 2


def test_two_mistakes_that_never_meet_are_not_called_a_pair(tmp_path: Path) -> None:
    """Where nothing ends only the discount can be wrong, and where γ = 1 only the end: each case has one mistake."""
    data = synthetic.write(tmp_path, {"td_errors": td_cases((0 * ENDS > 0, 0.5), (ENDS, 1.0), (ENDS, 1.0))})
    run = check({"td_errors": undiscounted_unless_it_ends}, data=data)
    assert {diagnosis.kind for diagnosis in run.diagnoses.values()} == {"bug"}
    assert not any(diagnosis.complete for diagnosis in run.diagnoses.values())


def test_a_pair_that_the_tolerance_could_make_of_anything_is_not_named(tmp_path: Path) -> None:
    cases = td_cases((ENDS, 0.5), (ENDS, 0.75))
    for case in cases:
        case["expected"][0]["outputs"]["td_errors"]["R"] = [1e13] * 12  # a tolerance of 0.02 beside errors of size 1
        case["resolves"] = ["float64"]
    run = check({"td_errors": undiscounted_unless_it_ends}, data=synthetic.write(tmp_path, {"td_errors": cases}))
    assert {outcome.verdict for outcome in run.outcomes} == {Verdict.WRONG}
    assert {diagnosis.kind for diagnosis in run.diagnoses.values()} == {"none"}


# Structures in terms of other quantities.


def term(run: Run) -> str:
    diagnosis = whole(run)
    assert (diagnosis.kind, diagnosis.complete) == ("structure", True), text(diagnosis)
    return text(diagnosis)


def test_a_missing_constant_is_named() -> None:
    def log_prob(mean: Any, log_std: Any, actions: Any) -> Any:
        return (-0.5 * ((actions - mean) / np.exp(log_std)) ** 2 - log_std).sum(-1)

    words = term(run_of("log_prob_diagonal_gaussian", log_prob))
    assert "the certified value + A · ½ log 2π: is a term missing" in words


def test_a_missing_input_is_named() -> None:
    def gae(**inputs: Any) -> Any:
        advantages = ANSWERS["gae"](**inputs)["advantages"]
        return {"advantages": advantages, "value_targets": advantages}

    words = term(run_of("gae", gae))
    assert "value_targets is the certified value − `values`" in words
    assert "value_targets is `advantages`, another quantity" in words


def test_a_missing_term_with_its_coefficient_is_named() -> None:
    def objective(**inputs: Any) -> Any:
        answer = ANSWERS["ppo_objective"](**inputs)
        entropy = ANSWERS["entropy_bonus"](inputs["policy"], inputs["observations"])["entropy"]
        return answer | {"objective": answer["objective"] - inputs["entropy_coefficient"] * entropy}

    words = term(run_of("ppo_objective", objective))
    assert "objective is the certified value − entropy_coefficient · `entropy_bonus.entropy`" in words


def test_another_reduction_over_the_rows_is_named() -> None:
    def largest(**inputs: Any) -> Any:
        return ANSWERS["kl_categorical"](**inputs).max()

    assert "mean_kl is the largest of `kl_categorical`" in term(run_of("mean_kl_categorical", largest))


def test_a_mean_that_was_not_taken_is_named() -> None:
    def rows(old_log_prob: Any, new_log_prob: Any) -> Any:
        return np.expm1(new_log_prob - old_log_prob) - (new_log_prob - old_log_prob)

    words = text(next(iter(run_of("approximate_kl", rows).diagnoses.values())))
    assert "the mean was not taken" in words


def test_a_forgotten_clip_is_named_as_the_quantity_it_leaves() -> None:
    def unclipped(old_log_prob: Any, new_log_prob: Any, advantages: Any, clip: Any) -> Any:
        return np.mean(np.exp(new_log_prob - old_log_prob) * advantages)

    assert "the mean of `advantages` · `ratio`" in term(run_of("clipped_objective", unclipped))


def test_a_factor_in_one_part_of_the_parameters_is_named() -> None:
    def gradient(policy: Any, **inputs: Any) -> Any:
        answer = ANSWERS["surrogate_gradient"](policy=policy, **inputs)
        return answer | ({"log_std": 0.75 * answer["log_std"]} if "log_std" in answer else {})

    words = text(next(iter(run_of("surrogate_gradient", gradient).diagnoses.values())))
    assert "gradient.log_std is 0.75 × the certified value" in words


@pytest.mark.parametrize(("factor", "words"), [(0.75, "log_std is 0.75 ×"), (2.0, "log_std is 2 ×")])
def test_a_part_of_the_parameters_is_named_only_if_the_rest_is_right(factor: float, words: str) -> None:
    def gradient(policy: Any, **inputs: Any) -> Any:
        answer = copy.deepcopy(ANSWERS["surrogate_gradient"](policy=policy, **inputs))
        if "log_std" in answer:
            answer["log_std"] *= factor
        elif len(answer["layers"]) > 2:
            answer["layers"][0]["W"] += 1
        return answer

    run = run_of("surrogate_gradient", gradient)
    of_gaussians = [d for i, d in run.diagnoses.items() if "gaussian" in run.outcomes[i].case]
    assert all(diagnosis.complete and words in text(diagnosis) for diagnosis in of_gaussians)
    run = run_of("surrogate_gradient", lambda **inputs: spoiled(gradient(**inputs)))
    assert not any(diagnosis.complete for diagnosis in run.diagnoses.values())


def spoiled(answer: Any) -> Any:
    """With a wrong bias too, where the network has three layers."""
    if len(answer["layers"]) == 3:
        answer["layers"][0]["b"] += 1
    return answer


def test_a_quantity_that_one_case_alone_has_is_not_named() -> None:
    def gae(**inputs: Any) -> Any:
        answer = ANSWERS["gae"](**inputs)
        return answer | ({"value_targets": answer["advantages"]} if len(inputs["rewards"]) == 7 else {})

    run = run_of("gae", gae)
    assert run.diagnoses
    assert {diagnosis.kind for diagnosis in run.diagnoses.values()} == {"none"}


# Nothing is named that is not there.


def test_noise_in_a_case_that_float32_does_not_resolve_is_not_called_float32() -> None:
    signs = np.array([1, -1, 1, 1, -1])
    noisy = {"kl_categorical": lambda **inputs: ANSWERS["kl_categorical"](**inputs) * (1 + 0.01 * signs)}
    run = check(noisy, data=PUBLISHED, only="kl_categorical/kl-near-1e-6-5x4", stability=True)
    assert {diagnosis.kind for diagnosis in run.diagnoses.values()} == {"none"}


@pytest.mark.parametrize("op", OPS)
def test_noise_has_no_name(op: str) -> None:
    random = np.random.default_rng(list(op.encode()))

    def noisy(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: noisy(part) for name, part in value.items()}
        if isinstance(value, list):
            return [noisy(part) for part in value]
        if np.asarray(value).dtype.kind != "f":
            return value
        return value * (1 + 0.01 * random.normal(size=np.shape(value)))

    dtype = "float32" if len(op) % 2 else "float64"
    run = run_of(op, lambda **inputs: noisy(ANSWERS[op](**inputs)), dtype=dtype)
    assert {diagnosis.kind for diagnosis in run.diagnoses.values()} <= {"none"}


# What was reported as a mistake and is none (the reports are in the catalogue's section on false alarms).


def clipped_as_in_spinningup(old_log_prob: Any, new_log_prob: Any, advantages: Any, clip: Any) -> Any:
    bound = np.where(advantages > 0, (1 + clip) * advantages, (1 - clip) * advantages)
    return np.minimum(np.exp(new_log_prob - old_log_prob) * advantages, bound).mean()


def clipped_on_one_side(old_log_prob: Any, new_log_prob: Any, advantages: Any, clip: Any) -> Any:
    ratio = np.exp(new_log_prob - old_log_prob)
    capped = np.where(advantages > 0, np.minimum(ratio, 1 + clip), np.maximum(ratio, 1 - clip))
    return (capped * advantages).mean()


def clipped_as_a_negated_loss(old_log_prob: Any, new_log_prob: Any, advantages: Any, clip: Any) -> Any:
    ratio = np.exp(new_log_prob - old_log_prob)
    return -np.maximum(-ratio * advantages, -np.clip(ratio, 1 - clip, 1 + clip) * advantages).mean()


def ratio_of_negative_log_probs(old_log_prob: Any, new_log_prob: Any) -> Any:
    old_neglogp, neglogp = -old_log_prob, -new_log_prob
    return np.exp(old_neglogp - neglogp)


def entropy_with_plus_one(mean: Any, log_std: Any) -> Any:
    return 0.5 * (2 * log_std + np.log(2 * np.pi) + 1).sum(-1)


def td_errors_of_masked_values(rewards: Any, values: Any, next_values: Any, terminated: Any, gamma: Any) -> Any:
    masked = next_values * (1 - terminated)
    return rewards + gamma * masked - values


def step_length_with_half(direction: Any, product: Any, max_kl: Any) -> Any:
    shs = 0.5 * direction @ product
    return 1 / np.sqrt(shs / max_kl)


@pytest.mark.parametrize(
    ("op", "function"),
    [
        ("clipped_objective", clipped_as_in_spinningup),
        ("clipped_objective", clipped_on_one_side),
        ("clipped_objective", clipped_as_a_negated_loss),
        ("ratio", ratio_of_negative_log_probs),
        ("entropy_diagonal_gaussian", entropy_with_plus_one),
        ("td_errors", td_errors_of_masked_values),
        ("step_length", step_length_with_half),
    ],
)
def test_a_false_alarm_is_not_raised(op: str, function: Any) -> None:
    run = run_of(op, function)
    assert {outcome.verdict for outcome in run.outcomes} <= {Verdict.CONFORMS, Verdict.NOT_ASKED}


def test_another_estimator_of_the_advantage_is_no_known_bug() -> None:
    """δ + γ A of the next row, in the manner of V-trace: a choice, for which there is no axis."""

    def gae(**inputs: Any) -> Any:
        delta = ANSWERS["td_errors"](**{name: inputs[name] for name in OPS["td_errors"].inputs})
        estimate = ANSWERS["gae"](**inputs)
        alive = 1.0 - (inputs["terminated"] | inputs["truncated"])
        following = np.vstack([estimate["advantages"][1:], np.zeros_like(delta[:1])])
        return estimate | {"advantages": delta + inputs["gamma"] * alive * following}

    run = run_of("gae", gae)
    assert run.diagnoses
    assert not any(diagnosis.complete or diagnosis.kind == "pair" for diagnosis in run.diagnoses.values())


# Violated laws: asked of the implementation, where nothing else explains a wrong answer.

WAVE = '''
import numpy as np


def ratio(old_log_prob, new_log_prob):
    print("a ratio")
    r = np.exp(new_log_prob - old_log_prob)
    return r + 0.01 * np.sin(7 * r)
'''


def wave(old_log_prob: Any, new_log_prob: Any) -> Any:
    print("a ratio")
    r = np.exp(new_log_prob - old_log_prob)
    return r + 0.01 * np.sin(7 * r)


def wrong(run: Run) -> set[Diagnosis]:
    return {run.diagnoses[i] for i, outcome in enumerate(run.outcomes) if outcome.verdict is Verdict.WRONG}


def law_of(run: Run) -> Diagnosis:
    (diagnosis,) = wrong(run)
    return diagnosis


def test_a_violated_law_is_named_with_the_smallest_example() -> None:
    run = runs.check({"ratio": wave}, only="ratio")
    diagnosis = law_of(run)
    assert (diagnosis.kind, diagnosis.complete, diagnosis.name) == ("law", True, "ratios_multiply")
    assert diagnosis.lines[0][1] == (
        "violated law `ratios_multiply`: r(a, a) = 1 and r(a, b) r(b, c) = r(a, c).  [PPO (6)]"
    )
    assert diagnosis.lines[1][1].startswith("0.00657, allowed are ")  # 0.01 sin 7
    assert diagnosis.lines[2:] == (
        ("for example", "old_log_prob = [0.0, 0.0]"),
        ("and", "new_log_prob = [0.0, 0.0]"),
        ("and", "other_log_prob = [0.0, 0.0]"),
    )
    lines = list(report.terminal(run))
    assert sum("violated law `ratios_multiply`:" in line for line in lines) == 1
    assert sum("violated law `ratios_multiply` again" in line for line in lines) == 3
    assert "FINDING    violated law `ratios_multiply`" in lines
    page = report.html(run, report.origin())
    assert "<h3>Violated law <code>ratios_multiply</code></h3>" in page
    assert "1 cause explains" not in page  # a law that is violated explains nothing


@pytest.mark.parametrize("options", [{}, {"jobs": 2}, {"in_process": True}], ids=str)
def test_a_process_is_asked_by_the_same_door(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: dict[str, Any]
) -> None:
    file = tmp_path / "wave.py"
    file.write_text(WAVE, encoding="utf-8")
    assert law_of(runs.check(str(file), only="ratio", **options)) == law_of(runs.check({"ratio": wave}, only="ratio"))
    assert capsys.readouterr().out == ""  # what is printed during a search belongs to no case


def test_a_search_leaves_no_files_where_one_works(tmp_path: Path) -> None:
    """Laws that hold are searched to the end: by then hypothesis would have written down the constants it found."""
    (tmp_path / "bent.py").write_text(
        "import numpy as np\nfrom scipy.special import log_softmax\n\n\n"
        "def kl_categorical(old_logits, new_logits):\n"
        "    p, q = log_softmax(old_logits, axis=1), log_softmax(new_logits, axis=1)\n"
        "    kl = np.sum(np.exp(p) * (p - q), axis=1)\n"
        "    return kl + 0.01 * np.sin(kl) ** 2\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "refpg", "check", "bent.py", "--only", "kl_categorical"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "that can be tried is seen violated" in result.stdout, result.stderr
    assert {path.name for path in tmp_path.iterdir()} <= {"bent.py", "__pycache__"}


def test_a_law_of_several_ops_says_that_they_do_not_fit() -> None:
    functions = answers({name: axis.default for name, axis in load(ops=()).axes.items()})

    def mistaken_for_another_action(transition: Any, **inputs: Any) -> Any:
        return functions["performance_difference"](transition=transition[:, ::-1], **inputs)

    adapter = {
        "performance_difference": mistaken_for_another_action,  # its differences add up all the same
        "expected_return": functions["expected_return"],
    }
    diagnosis = law_of(runs.check(adapter, only="performance_difference"))
    assert diagnosis.name == "performance_difference_is_that_of_the_returns"
    said = dict(diagnosis.lines)["between"]
    assert said == "`performance_difference` and `expected_return`, which do not fit together"


def test_an_answer_is_said_to_break_no_law_only_as_far_as_was_tried() -> None:
    kl = answers({name: axis.default for name, axis in load(ops=()).axes.items()})["kl_categorical"]

    def bent(old_logits: Any, new_logits: Any) -> Any:
        found = kl(old_logits=old_logits, new_logits=new_logits)
        return found + 0.01 * np.sin(found) ** 2

    run = runs.check({"kl_categorical": bent}, only="kl_categorical")
    diagnosis = law_of(run)
    assert diagnosis.kind == "none"
    assert re.fullmatch(r"none of the \d that can be tried is seen violated", dict(diagnosis.lines)["laws"])
    imprecise = [run.diagnoses[i] for i, o in enumerate(run.outcomes) if o.verdict is Verdict.IMPRECISE]
    assert [dict(one.lines).get("laws") for one in imprecise] == [None]  # an imprecise answer is not asked about


def fails_on_what_is_drawn(old_log_prob: Any, new_log_prob: Any) -> Any:
    if len(old_log_prob) < 7 and not np.any(old_log_prob % 0.125):
        raise SystemExit("only for what is known")
    return wave(old_log_prob, new_log_prob)


def test_a_search_that_fails_leaves_the_report_as_it_is(tmp_path: Path) -> None:
    run = runs.check({"ratio": fails_on_what_is_drawn}, only="ratio")
    before = check({"ratio": fails_on_what_is_drawn}, only="ratio")
    assert [outcome.verdict for outcome in run.outcomes] == [outcome.verdict for outcome in before.outcomes]
    assert {diagnosis.kind for diagnosis in run.diagnoses.values()} == {"none"}
    file = tmp_path / "dies.py"
    dying = 'old_log_prob - 1 if len(old_log_prob) >= 5 or old_log_prob.any() else __import__("os")._exit(1)'
    file.write_text(f"def ratio(old_log_prob, new_log_prob):\n    return {dying}\n", encoding="utf-8")
    run = runs.check(str(file), only="ratio")
    assert {outcome.verdict for outcome in run.outcomes} == {Verdict.WRONG}


def test_a_search_ends_when_time_is_up() -> None:
    adapter = resolve({"ratio": wave}, load(ops=()).axes, ("float64",))
    outcome = next(o for o in check({"ratio": wave}, only="ratio").outcomes if o.verdict is Verdict.WRONG)
    diagnosis = Search(adapter, seconds=-1.0)(outcome)
    assert diagnosis.kind == "none"
    assert dict(diagnosis.lines)["laws"] == "none is seen violated, but the search was stopped after -1 s"
    assert Search(adapter)(outcome).kind == "law"


def test_without_hypothesis_the_report_says_what_would_search() -> None:
    program = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'hypothesis': raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "import numpy as np\n"
        "from refpg.conformance.run import check\n"
        "from refpg.conformance import report\n"
        "def wave(old_log_prob, new_log_prob):\n"
        "    return np.exp(new_log_prob - old_log_prob) + 0.01 * np.sin(7 * new_log_prob)\n"
        "print(*report.terminal(check({'ratio': wave}, only='ratio')), sep='\\n')\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "laws           not tried: pip install 'refpg[test]' adds hypothesis" in result.stdout, result.stderr


def test_a_recorded_law_is_told_again(tmp_path: Path) -> None:
    run = runs.check({"ratio": wave}, profiles=["ppo"])
    path = tmp_path / "run.jsonl"
    written = "".join(f"{line}\n" for line in report.json_lines(run, report.origin()))
    path.write_text(written, encoding="utf-8")
    assert judged_again(path).run.diagnoses == run.diagnoses
    forged = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for line in forged:
        if line.get("diagnosis", {}).get("kind") == "law":
            line["diagnosis"]["name"] = "ratios_add"
    path.write_text("".join(sealed(forged)), encoding="utf-8")
    with pytest.raises(report.ReportError, match="unknown law"):
        judged_again(path)


def sealed(lines: list[dict[str, Any]]) -> list[str]:
    *above, footer = lines
    written = [json.dumps(line, ensure_ascii=False) + "\n" for line in above]
    footer["sha256"] = hashlib.sha256("".join(written).encode()).hexdigest()
    return [*written, json.dumps(footer, ensure_ascii=False) + "\n"]
