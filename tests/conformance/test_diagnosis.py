"""A mistake is named when the run supports it, and never beyond."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refpg.conformance import report
from refpg.conformance.diagnosis import Diagnosis
from refpg.conformance.ops import OPS
from refpg.conformance.run import Run, check
from refpg.conformance.vectors import DATA as PUBLISHED
from refpg.conformance.vectors import Vectors, load
from refpg.conformance.verdicts import Verdict, native

from . import synthetic


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


def test_a_case_that_cannot_show_the_bug_must_still_be_right(data: Path) -> None:
    def also_spoils_the_open_case(terminated: Any, **inputs: Any) -> Any:
        answer = no_mask(terminated=terminated, **inputs)
        return answer if terminated.any() else answer + 0.125

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
        {"bug": "ratio-inverted", "conventions": {}, "outputs": {"mean_kl": {"shape": [], "value": other["value"]}}}
    ]
    run = check({"mean_kl": synthetic.mean_kl("new_old")}, data=synthetic.write(tmp_path, files))
    diagnosis = of(run, "mean_kl/two-logits")
    assert diagnosis.kind == "convention"
    assert diagnosis.conventions == ({"kl.direction": "new_old"},)
    assert "one of" not in text(diagnosis)


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
        (0.5, "½ × the certified"),
        (2.0, "2 × the certified"),
        (-1.0, "−1 × the certified"),
        (1 / 7, "1/B (B = 7) × the certified"),
        (7.0, "B (= 7) × the certified"),
        (7 / 6, "B/(B − 1) (B = 7) × the certified"),
        (0.3, "0.3 × the certified value, everywhere"),
    ],
)
def test_a_constant_factor_is_named(data: Path, factor: float, words: str) -> None:
    assert words in structure(data, lambda **inputs: factor * synthetic.ratio(**inputs))


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


def test_no_explanation_is_better_than_a_false_one(data: Path) -> None:
    words = structure(data, lambda **inputs: synthetic.ratio(**inputs) ** 1.5)
    assert words == "no known bug matches, nor another convention, nor a simple structure"


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
    assert "`td-no-mask`" in "\n".join(report.terminal(run))
    assert "`td-no-mask`" in report.markdown(run, "2026-01-31")
    records = [json.loads(line) for line in report.json_lines(run)]
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
