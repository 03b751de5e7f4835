"""A preset declares a library's conventions, under a name, and never against what an adapter says of itself."""

import ast
import copy
import itertools
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from refpg import geometry, policy
from refpg.__main__ import main
from refpg.conformance.adapters import PEERS, UsageError
from refpg.conformance.ops import OPS
from refpg.conformance.presets import applied, chosen, presets, table
from refpg.conformance.reference import answers, policy_and_theta
from refpg.conformance.run import NOTHING_EXECUTED, check
from refpg.conformance.vectors import DATA, VectorError, load
from refpg.conformance.verdicts import Verdict, compare
from refpg.updates import ACCEPTANCE
from verification import conventions as table_of_steps

from . import synthetic

AXES = load(ops=[]).axes
KNOWN = presets(AXES)
CASES = load(ops=["line_search", "trpo_step"]).cases
SHIPPED = json.loads((DATA / "presets.json").read_text(encoding="utf-8"))
SCHEMA = json.loads((DATA / "schema" / "presets.schema.json").read_text(encoding="utf-8"))
WANTED = {
    "paper", "spinningup", "baselines", "stable-baselines3", "sb3-contrib", "cleanrl", "rlax", "garage", "tianshou",
    "rllib", "torchrl", "tf-agents", "pat-coady", "brax", "verl", "trl",
    "skrl", "pfrl", "omnisafe", "mjrl", "modular-rl", "pytorch-trpo",
}  # fmt: skip


# The data.


def test_the_usual_libraries_have_a_preset() -> None:
    assert set(KNOWN) >= WANTED


@pytest.mark.parametrize("name", ["stable-baselines3", "sb3-contrib"])
def test_a_preset_says_what_the_bundled_adapter_declares(name: str) -> None:
    """The adapter is read, not imported: it needs its library."""
    module = ast.parse((PEERS / f"{name.replace('-', '_')}.py").read_text(encoding="utf-8"))
    assigned = [node for node in module.body if isinstance(node, ast.Assign)]
    declared = [node.value for node in assigned if ast.unparse(node.targets[0]) == "conventions"]
    assert [ast.literal_eval(value) for value in declared] == [dict(KNOWN[name].conventions)]


def test_a_preset_of_a_trust_region_says_which_way_its_kl_goes() -> None:
    for name, preset in KNOWN.items():
        if preset.trust_region is not None:
            assert {"kl.direction", "step_length.damping", "line_search.accept"} <= set(preset.conventions), name


def test_every_acceptance_of_the_line_search_can_be_declared() -> None:
    assert set(AXES["line_search.accept"].values) == set(ACCEPTANCE)


@pytest.mark.parametrize("name", KNOWN)
def test_what_a_preset_declares_is_certified(name: str) -> None:
    """In every op it touches: a combination that nobody certified would be reported, and judge nothing."""
    for op, cases in load().cases.items():
        axes = {axis for axis in OPS[op].conventions if axis in KNOWN[name].conventions}
        declared = {axis: value for axis, value in KNOWN[name].conventions.items() if axis in axes}
        wanted = {axis: value for axis, value in declared.items() if value != AXES[axis].default}
        assert any(case.under(wanted) is not None for case in cases), (op, wanted)


def test_a_combination_that_is_not_certified_is_said_to_be_none() -> None:
    declared = {"value_loss.error": "smooth_l1", "value_loss.factor": "1/2"}
    right = answers({name: axis.default for name, axis in AXES.items()} | declared)["value_loss"]
    run = check({"value_loss": right, "conventions": declared}, only="value_loss")
    assert {outcome.verdict for outcome in run.outcomes} == {Verdict.NO_EXPECTED}
    assert run.exit_code == 4


@pytest.mark.parametrize("axis", ["advantage.epsilon", "kl_penalty.schedule", "value_loss.clip", "value_loss.error"])
def test_every_value_of_an_axis_is_told_from_every_other(axis: str) -> None:
    """On some case of each of its ops, the certified answers are 4 tolerances apart in float64."""
    vectors = load(ops=[op for op, known in OPS.items() if axis in known.conventions])
    declared = {value: {axis: value} if value != AXES[axis].default else {} for value in AXES[axis].values}
    for op, cases in vectors.cases.items():
        for one, other in itertools.permutations(declared.values(), 2):
            apart = 0.0
            for case in cases:
                answer, expected = case.under(one), case.under(other)
                if answer is not None and expected is not None:
                    values = {path: leaf.value for path, leaf in answer.outputs.items()}
                    compared = compare(values, expected, "float64", vectors.policy)
                    apart = max(apart, *(comparison.worst for comparison in compared))
            assert apart >= 4, (op, one, other)


# The loader, and the schema beside it.


def edited(change: Any) -> dict[str, Any]:
    document = copy.deepcopy(SHIPPED)
    change(document, document["presets"]["spinningup"])
    return document


def write(folder: Path, document: Any) -> Path:
    text = document if isinstance(document, str) else json.dumps(document)
    (folder / "presets.json").write_text(text, encoding="utf-8")
    return folder


REFUSED = {
    "another schema": lambda d, p: d.update(schema=2),
    "schema true": lambda d, p: d.update(schema=True),
    "an unknown field beside": lambda d, p: d.update(more=1),
    "no presets": lambda d, p: d.pop("presets"),
    "presets a list": lambda d, p: d.update(presets=[]),
    "a preset a list": lambda d, p: d["presets"].update(x=[]),
    "a bad name": lambda d, p: d["presets"].update({"Spinning Up": p}),
    "an unknown field": lambda d, p: p.update(more=1),
    "a missing field": lambda d, p: p.pop("beyond"),
    "no library": lambda d, p: p.update(library=""),
    "a version that is a number": lambda d, p: p.update(looked_at=1),
    "conventions a list": lambda d, p: p.update(conventions=[]),
    "a value that is a number": lambda d, p: p["conventions"].update({"advantage.ddof": 1}),
    "an empty text": lambda d, p: p["beyond"].append(""),
    "no source": lambda d, p: p.update(source=[]),
    "source a text": lambda d, p: p.update(source="x"),
    "a trust region without damping": lambda d, p: p["trust_region"].pop("damping"),
    "an unknown number": lambda d, p: p["trust_region"].update(max_kl=0.1),
    "negative damping": lambda d, p: p["trust_region"].update(damping=-0.1),
    "no iterations": lambda d, p: p["trust_region"].update(iterations=0),
    "half an iteration": lambda d, p: p["trust_region"].update(iterations=1.5),
    "true backtracks": lambda d, p: p["trust_region"].update(max_backtracks=True),
    "no shrinking": lambda d, p: p["trust_region"].update(backtrack=1),
    "a growing step": lambda d, p: p["trust_region"].update(backtrack=1.5),
    "a number as text": lambda d, p: p["trust_region"].update(damping="0.1"),
}


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED.keys())
def test_the_loader_and_the_schema_refuse_what_is_not_as_described(change: Any, tmp_path: Path) -> None:
    document = edited(change)
    with pytest.raises(VectorError, match="presets.json"):
        presets(AXES, write(tmp_path, document))
    assert not jsonschema.Draft202012Validator(SCHEMA).is_valid(document)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kl.directon": "old_new"}, r"'kl.directon' is not a convention axis \(did you mean kl.direction"),
        ({"kl.direction": "new-old"}, "kl.direction = 'new-old', expected old_new or new_old"),
    ],
)
def test_an_axis_or_a_value_that_does_not_exist_is_refused(change: Any, words: str, tmp_path: Path) -> None:
    document = edited(lambda d, p: p["conventions"].update(change))
    with pytest.raises(VectorError, match=f"presets.json: spinningup: {words}"):
        presets(AXES, write(tmp_path, document))


@pytest.mark.parametrize("text", ["{", '{"schema": 1, "schema": 1, "presets": {}}', '{"schema": NaN, "presets": {}}'])
def test_what_is_not_strict_json_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(VectorError, match="presets.json"):
        presets(AXES, write(tmp_path, text))


def test_a_file_that_is_not_there_or_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VectorError, match="cannot be read"):
        presets(AXES, tmp_path)
    with pytest.raises(VectorError, match="larger than"):
        presets(AXES, write(tmp_path, json.dumps(SHIPPED) + " " * (1 << 20)))


# Applied.


def normalize(advantages: Any) -> Any:
    return (advantages - advantages.mean()) / (advantages.std(ddof=1) + 1e-8)


def test_what_conforms_under_a_preset_is_another_convention_without_it() -> None:
    target = {"normalize_advantages": normalize}
    run = check(target, only="normalize_advantages", conventions="cleanrl")
    assert {outcome.verdict for outcome in run.outcomes} == {Verdict.CONFORMS}
    assert run.adapter.conventions["advantage.ddof"] == "1"
    run = check(target, only="normalize_advantages")
    assert {diagnosis.kind for diagnosis in run.diagnoses.values()} == {"convention"}


def test_conventions_may_be_given_one_by_one() -> None:
    run = check(
        {"normalize_advantages": normalize},
        only="normalize_advantages",
        conventions={"advantage.ddof": "1", "advantage.epsilon": "1e-8"},
    )
    assert run.exit_code == 0


def test_a_preset_adds_to_what_is_declared_and_may_repeat_it() -> None:
    target = {
        "normalize_advantages": normalize,
        "conventions": {"advantage.ddof": "1", "kl.direction": "new_old"},
    }
    run = check(target, only="normalize_advantages", conventions="cleanrl")
    assert run.exit_code == 0
    assert dict(run.adapter.conventions) == {"kl.direction": "new_old"} | dict(KNOWN["cleanrl"].conventions)


def test_a_preset_that_contradicts_a_declaration_is_refused() -> None:
    target = {"normalize_advantages": normalize, "conventions": {"advantage.ddof": "1"}}
    with pytest.raises(UsageError, match=r"declares advantage.ddof = 1, and advantage.ddof = 0 is asked for"):
        check(target, conventions="baselines-ppo2")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("spiningup", r"no preset 'spiningup' \(did you mean spinningup"),
        ({"kl.directon": "old_new"}, r"'kl.directon' is not a convention axis \(did you mean kl.direction"),
        ({"kl.direction": "new-old"}, "kl.direction = 'new-old' is unknown, expected old_new or new_old"),
    ],
)
def test_what_does_not_exist_cannot_be_asked_for(asked: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        chosen(asked, AXES)


@pytest.mark.parametrize("name", KNOWN)
def test_refpg_conforms_under_every_preset_and_under_it_alone(name: str) -> None:
    run = check(only="[anv][dpo]*", conventions=name)
    assert run.exit_code == 0
    assert len({outcome.case for outcome in run.outcomes}) == len(run.outcomes)
    for outcome in run.outcomes:
        if outcome.verdict is Verdict.CONFORMS:
            wanted = {
                axis: value
                for axis, value in KNOWN[name].conventions.items()
                if axis in OPS[outcome.op].conventions and value != AXES[axis].default
            }
            assert dict(outcome.conventions) == wanted


@pytest.mark.parametrize("name", [name for name, preset in KNOWN.items() if preset.trust_region is not None])
def test_every_preset_of_a_trust_region_can_be_judged_by_its_searches_and_steps(name: str) -> None:
    """Axes multiply, and not every combination is published: those of the presets are, on most of the cases."""
    conventions = KNOWN[name].conventions
    for op in ("line_search", "trpo_step"):
        other = {axis: v for axis, v in conventions.items() if axis in OPS[op].conventions and v != AXES[axis].default}
        cases = CASES[op]
        assert sum(case.under(other) is not None for case in cases) >= len(cases) / 2


def test_a_combination_that_is_not_published_is_told_and_never_green() -> None:
    combination = {"line_search.accept": "tenth_of_expected", "kl.direction": "new_old"}
    run = check(only="line_search", conventions=combination)
    assert {outcome.verdict for outcome in run.outcomes} == {Verdict.NO_EXPECTED}
    assert run.exit_code == NOTHING_EXECUTED


def test_refpg_under_a_preset_answers_stability_cases_too() -> None:
    run = check(only="mean_kl", conventions="paper")
    assert Verdict.NOT_ASKED not in {outcome.verdict for outcome in run.outcomes}
    assert sum(outcome.verdict is Verdict.CONFORMS for outcome in run.outcomes) == len(run.outcomes)


def test_an_adapter_keeps_everything_else(tmp_path: Path) -> None:
    before = check({"ratio": synthetic.ratio, "name": "mine"}, only="ratio").adapter
    after = applied(before, chosen("rlax", AXES), AXES)
    assert after == before


# The command line.


def test_the_command_line_takes_a_preset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "def normalize_advantages(advantages):\n"
        "    return (advantages - advantages.mean()) / (advantages.std(ddof=1) + 1e-8)\n"
    )
    assert main(["check", str(file), "--only", "normalize_advantages", "--conventions", "cleanrl"]) == 0
    assert "advantage.ddof = 1, advantage.epsilon = 1e-8" in capsys.readouterr().out
    assert main(["check", str(file), "--only", "normalize_advantages"]) == 1
    assert main(["check", str(file), "--conventions", "clean-rl"]) == 2
    assert "did you mean cleanrl" in capsys.readouterr().err


def test_the_command_line_prints_every_axis_value_and_preset(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conventions"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, axis in AXES.items():
        at = next(i for i, line in enumerate(lines) if line.startswith(f"  {name} "))
        for value in axis.values:
            mark = "*" if value == axis.default else " "
            assert any(line.startswith(f"  {mark} {value} ") for line in lines[at + 1 : at + 16]), (name, value)
    text = re.sub(r"\s+", " ", " ".join(lines))
    for name, preset in KNOWN.items():
        assert f"{name} {preset.library} ({preset.looked_at})" in text
        for axis, value in preset.conventions.items():
            assert f"{axis} = {value}" in text
        for words in preset.beyond:
            assert words in text
    assert all(len(line) <= 120 for line in lines)
    assert list(table(AXES, KNOWN)) == lines


# One batch, N conventions.


def test_the_committed_page_is_what_the_command_writes() -> None:
    """If this fails: python -m verification.conventions"""
    assert table_of_steps.PAGE.read_text(encoding="utf-8") == table_of_steps.page()


def test_the_batch_is_of_short_dyadic_numbers() -> None:
    batch = table_of_steps.batch()
    numbers = [batch["observations"], batch["actions"], batch["advantages"], batch["policy"]["log_std"]]
    numbers += [layer[name] for layer in batch["policy"]["layers"] for name in "Wb"]
    for array in numbers:
        np.testing.assert_array_equal(array * 64, np.round(array * 64))


def gaussians(batch: Any, theta: Any) -> tuple[Any, Any]:
    pi, _ = policy_and_theta(batch["policy"])
    return np.split(policy.distribution_parameters(pi, theta, batch["observations"]), 2, axis=1)


def test_the_kl_of_the_table_is_that_of_the_definition() -> None:
    batch, defaults = table_of_steps.batch(), {name: axis.default for name, axis in AXES.items()}
    step = table_of_steps.moved(batch, defaults, table_of_steps.SAME)
    advantages = (batch["advantages"] - batch["advantages"].mean()) / batch["advantages"].std()
    region = table_of_steps.SAME
    answer = answers(defaults)["trpo_step"](
        **batch | {"advantages": advantages},
        max_kl=table_of_steps.MAX_KL,
        damping=region.damping,
        iterations=region.iterations,
        backtrack=region.backtrack,
        max_backtracks=region.max_backtracks,
    )
    _, theta = policy_and_theta(batch["policy"])
    _, new = policy_and_theta(batch["policy"] | answer["parameters"])
    (m0, s0), (m1, s1) = gaussians(batch, theta), gaussians(batch, new)
    kl = (s1 - s0 + (np.exp(2 * s0) + (m0 - m1) ** 2) / (2 * np.exp(2 * s1)) - 0.5).sum(1).mean()
    # Terms of size 1 cancel to a KL of size 0.01.
    assert step.kl == pytest.approx(kl / table_of_steps.MAX_KL, rel=1e-11)
    assert step.length == pytest.approx(np.linalg.norm(new - theta), rel=1e-12)


def test_dividing_the_kl_by_the_dimensions_is_the_step_of_a_larger_radius() -> None:
    """F/A + λI and KL/A ≤ δ, solved directly and searched by brute force, beside the identity of the table."""
    batch, defaults = table_of_steps.batch(), {name: axis.default for name, axis in AXES.items()}
    pi, theta = policy_and_theta(batch["policy"])
    A, delta, lam = 6, table_of_steps.MAX_KL, table_of_steps.SAME.damping
    advantages = (batch["advantages"] - batch["advantages"].mean()) / batch["advantages"].std()
    x, actions = batch["observations"], batch["actions"]
    g = policy.log_prob_vjp(pi, theta, x, actions, advantages / len(x))
    H = geometry.fisher_matrix(pi, theta, x) / A + lam * np.eye(len(theta))
    direction, r = np.zeros_like(g), g.copy()
    p = r.copy()
    for _ in range(table_of_steps.SAME.iterations):
        alpha = r @ r / (p @ H @ p)
        direction, new_r = direction + alpha * p, r - alpha * H @ p
        p, r = new_r + (new_r @ new_r) / (r @ r) * p, new_r
    s = np.sqrt(2 * delta / (direction @ H @ direction)) * direction
    for j in range(10):
        new = theta + 0.8**j * s
        kl = geometry.mean_kl(pi, theta, new, x) / A
        ratio = np.exp(policy.log_ratio(pi, theta, new, x, actions))
        if kl <= delta and np.mean((ratio - 1) * advantages) > 0:
            break
    step = table_of_steps.moved(batch, defaults, table_of_steps.SAME, dimensions=A)
    # Ten steps of conjugate gradients amplify rounding by the condition number, some 1e3.
    assert step.accepted == j
    assert step.kl == pytest.approx(A * kl / delta, rel=1e-9)
    assert step.length == pytest.approx(0.8**j * np.linalg.norm(s), rel=1e-9)


def test_an_accepted_step_is_inside_the_region_its_rule_allows() -> None:
    for name, step in table_of_steps.one_by_one(AXES):
        if "new_old" in name or "kl-mean-dims" in name or "tenth_of_expected" in name:
            assert step.kl > 1  # the region is measured otherwise, or not at all: that is what the table shows
        else:
            assert step.kl <= (1.5 if "1.5" in name else 1)
            assert step.gain > 0
