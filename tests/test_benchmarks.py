"""The benchmark command: it refuses wrong answers, takes turns, and calls a goal met only where the figures say so.

Nothing here depends on how long anything takes.
"""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from refpg import geometry
from refpg.notation import bind_shapes
from verification.benchmarks import goals, machine, readme, report, timing, validation
from verification.benchmarks.growth import Curve
from verification.benchmarks.machine import Machine
from verification.benchmarks.measurement import Row, measure
from verification.benchmarks.memory import Peak
from verification.benchmarks.peers import Call, reference
from verification.benchmarks.problems import Size, problem
from verification.benchmarks.processes import Wall
from verification.benchmarks.results import Results
from verification.benchmarks.streaming import Stream
from verification.benchmarks.validation import Share
from verification.benchmarks.workers import Scaling
from verification.marked import replaced

RESULTS = Path(report.__file__).parent / "results"
TINY = problem("tiny", Size((2, 3, 1), 5))
MACHINE = Machine("a processor", 2, 1, 50e9, 40e9, {"refpg": "0"}, {"JAX jit": "not installed: no"})


def row(size, operation, implementation, *seconds):
    return Row(size, operation, implementation, list(seconds), 0.0, 1e-9, "")


def found(results, what):
    """The goals whose text says this."""
    return [goal for goal in goals.goals(results) if what in goal.what]


def test_everybody_takes_turns_and_begins_once():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "abc"}
    seconds = timing.interleaved(calls, repeats=3, budget=1e9)
    assert {name: len(each) for name, each in seconds.items()} == {"a": 3, "b": 3, "c": 3}
    changes = [name for name, before in zip(order, [None, *order], strict=False) if name != before]
    # After the calls that count the loops: a b c, then the rounds a b c, b c a, c a b, whose borders merge.
    assert "".join(changes).endswith("abcbcacab")


def test_a_spent_budget_ends_the_rounds_after_the_second():
    seconds = timing.interleaved({"a": lambda: None}, repeats=50, budget=0.0)
    assert len(seconds["a"]) == 2


def test_an_answer_that_is_another_is_not_timed():
    def wrong(inputs):
        return Call(lambda: reference.calls["gradient"](inputs).run() * (1 + 1e-6), np.asarray)

    def broken(inputs):
        raise RuntimeError("no such shape")

    implementations = {
        "reference": reference,
        "jax_jit": SimpleNamespace(calls={"gradient": wrong}),
        "torch_func": SimpleNamespace(calls={"gradient": broken}),
        "backpack": SimpleNamespace(calls={}),
    }
    rows = {one.implementation: one for one in measure(TINY, "gradient", implementations, repeats=2, budget=0.0)}
    assert set(rows) == {"reference", "jax_jit", "torch_func"}
    assert len(rows["reference"].seconds) == 2
    assert rows["jax_jit"].seconds == []
    assert "1.0e-06 away" in rows["jax_jit"].refused
    assert rows["torch_func"].refused == "RuntimeError: no such shape"


def test_refpg_does_what_every_operation_is():
    """The answers all peers are held to, from their definitions."""
    policy, theta, x = TINY.policy, TINY.theta, TINY.batch.observations
    F = geometry.fisher_matrix(policy, theta, x)
    damped = F + 0.1 * np.eye(len(F))

    def answer(operation):
        call = reference.calls[operation](TINY)
        return call.read(call.run())

    np.testing.assert_allclose(answer("fisher_product"), damped @ TINY.v, rtol=1e-12)
    np.testing.assert_allclose(damped @ answer("natural_gradient"), TINY.v, rtol=0, atol=1e-11)
    # Ten steps end at the solution's neighbourhood: the error in the norm of F falls with each.
    assert np.linalg.norm(damped @ answer("conjugate_gradient") - TINY.v) < 1e-3 * np.linalg.norm(TINY.v)
    step = answer("trpo_update")
    assert 0 < geometry.mean_kl(policy, theta, theta + step, x) <= 0.01
    np.testing.assert_array_equal(answer("clipped_loss")[:-1].shape, theta.shape)


def test_flops_are_those_of_the_products_written_out():
    """Widths (2, 3, 1), 5 rows: ż₁ = hẆ (2·3), ż₂ = hẆ + ḣW (2·3), W̄₂ and z̄W (2·3), W̄₁ (2·3), twice 5 each."""
    assert machine.product_flops(TINY) == 2 * 5 * (6 + 3 + 3 + 3 + 3 + 6)
    assert machine.gradient_flops(TINY) == 2 * 5 * (6 + 3 + 3 + 3 + 6)


def test_checks_are_replaced_everywhere_and_put_back():
    with validation.unchecked():
        assert geometry.bind_shapes is not bind_shapes
        (value,) = geometry.bind_shapes("f", {}, x=("not an array", "B"))
        assert value == "not an array"
    assert geometry.bind_shapes is bind_shapes


@pytest.mark.parametrize(("peer", "met"), [(1.9, True), (1.8, False)])
def test_a_goal_is_met_only_if_the_figure_reaches_it(peer, met):
    """JAX's 0.95 of refpg's time: 1.9 is reached by 2.0 · 0.95, and 1.8 is not."""
    rows = [row("tiny", "gradient", "reference", 2.0, 2.0), row("tiny", "gradient", "jax_jit", peer, peer)]
    (jax,) = [goal for goal in found(Results("today", MACHINE, rows), "policy gradient, tiny") if "JAX" in goal.goal]
    assert jax.met is met
    assert jax.found == f"{peer / 2:.2f} ×"


def test_ratios_are_of_the_same_round():
    rows = [row("tiny", "gradient", "reference", 1.0, 2.0, 8.0), row("tiny", "gradient", "jax_jit", 3.0, 2.0, 8.0)]
    assert Results("today", MACHINE, rows).ratio("tiny", "gradient", "jax_jit") == 1.0


def test_the_fastest_peer_is_the_one_that_counts():
    rows = [
        row("fisher-1k", "fisher_matrix", "reference", 1.0),
        row("fisher-1k", "fisher_matrix", "torch_func", 30.0),
        row("fisher-1k", "fisher_matrix", "backpack", 9.0),
    ]
    (goal,) = found(Results("today", MACHINE, rows), "beside the fastest peer, fisher-1k")
    assert (goal.met, goal.found) == (False, "9.00 ×")


def test_what_was_not_measured_is_neither_met_nor_missed():
    every = goals.goals(Results("today", MACHINE, []))
    assert every
    assert {(goal.met, goal.found) for goal in every} == {(None, "not measured")}


def test_goals_read_memory_growth_shares_and_workers():
    P = problem("fisher-1k").theta.size
    results = Results(
        "today",
        MACHINE,
        [],
        peaks=[Peak("fisher-1k", "fisher_matrix", "reference", 10**8, 10**8 + 24 * P**2)],
        curves=[Curve("N", "gradient", "reference", [1, 2, 4, 8], [1.0, 2.0, 4.0, 8.0])],
        streams=[Stream(10, 100, 1.0), Stream(1000, 109, 1.0)],
        shares=[Share("gradient", 0.3, 1e-4)],
        scalings=[Scaling("dask", "gradient", 10, 1.0, 2.0, 1.0, 2.0, False)],
    )
    met = {
        "memory, matrices of P², fisher-1k": False,
        "exponent of N": True,
        "peak memory of N = 1,000 streamed rows": True,
        "validation of arguments": False,
        "two Dask workers beside one": True,
        "dask: the bits of no executor": False,
    }
    for what, expected in met.items():
        (goal,) = found(results, what)
        assert goal.met is expected, goal


def test_the_page_says_every_goal_and_what_is_missing(tmp_path):
    rows = [row("tiny", "gradient", "reference", 2.0, 2.0), row("tiny", "gradient", "jax_jit", 3.0, 3.0)]
    results = Results("today", MACHINE, rows)
    report.save(results, tmp_path)
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert page.count("| not measured |") >= 60
    assert "**1.5** (1.5–1.5)" in page
    assert "* JAX jit: not installed: no" in page
    content = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert len(content["goals"]) == len(goals.goals(results))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["README.md", "results.json"]


def everything():
    """Results with something of each kind, among it what JSON has no number for."""
    return Results(
        "today",
        MACHINE,
        [
            row("tiny", "gradient", "reference", 2.0, 2.0),
            row("tiny", "gradient", "jax_jit", 3.0, 3.0),
            row("tiny", "gradient", "torch_func")._replace(distance=float("inf"), refused="no such shape"),
        ],
        peaks=[Peak("fisher-1k", "fisher_matrix", "reference", 10**8, 2 * 10**8)],
        curves=[Curve("N", "gradient", "reference", [1, 2, 4, 8], [1.0, 2.0, None, 8.0])],
        streams=[Stream(10, 100, 1.0)],
        shares=[Share("gradient", 0.3, 1e-4)],
        scalings=[Scaling("dask", "gradient", 10, 1.0, 2.0, 1.0, 2.0, True)],
        walls=[Wall("import refpg", [0.1])],
    )


def test_what_was_saved_is_read_again(tmp_path):
    report.save(everything(), tmp_path)
    assert report.load(tmp_path) == everything()


def test_the_short_form_says_every_goal_once_and_what_is_missed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("above\n<!-- benchmarks -->\nold\n<!-- /benchmarks -->\nbelow\n", encoding="utf-8")
    readme.write(everything(), page)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("above\n<!-- benchmarks -->\ntoday, a processor, 1 thread")
    assert text.endswith("|\n<!-- /benchmarks -->\nbelow\n")
    assert "| policy gradient | tiny | 2 s |  | 1.5 × |" in text
    names = {goal.goal for goal in goals.goals(everything())}
    assert {line.split(" | ")[0][2:] for line in text.splitlines() if " of " in line} == names
    assert "| small calls | 0 of 4 | validation of arguments, policy gradient, tiny: 30 %, wanted ≤ 25 %; " in text


def test_the_readme_shows_the_results_that_are_committed():
    text = readme.README.read_text(encoding="utf-8")
    assert text == replaced(text, readme.MARK, readme.lines(report.load(RESULTS)))


def test_one_command_measures_and_writes(tmp_path):
    """A process of its own, since the command keeps its process on one core."""
    command = [sys.executable, "-m", "verification.benchmarks", "--sizes", "tiny", "--operations", "mean_kl"]
    options = ["--parts", "ratios", "streaming", "--stream", "10", "20", "--repeats", "2", "--out", str(tmp_path)]
    root = Path(__file__).parents[1]
    ended = subprocess.run([*command, *options], cwd=root, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == (tmp_path / "README.md").read_text(encoding="utf-8")
    rows = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["rows"]
    assert rows[0]["implementation"] == "reference"
    assert len(rows[0]["seconds"]) == 2


def test_a_part_can_be_measured_again_and_the_others_kept(tmp_path):
    command = [sys.executable, "-m", "verification.benchmarks", "--sizes", "tiny", "--operations", "mean_kl"]
    options = ["--stream", "10", "--repeats", "2", "--out", str(tmp_path), "--parts"]
    root = Path(__file__).parents[1]
    subprocess.run([*command, *options, "ratios", "streaming"], cwd=root, capture_output=True, check=True)
    before = report.load(tmp_path)
    subprocess.run([*command, *options, "streaming", "--keep"], cwd=root, capture_output=True, check=True)
    after = report.load(tmp_path)
    assert (after.rows, after.machine) == (before.rows, before.machine)
    assert len(after.streams) == 1
    assert after.streams != before.streams

    report.save(before._replace(machine=before.machine._replace(versions={"refpg": "0"})), tmp_path)
    refused = subprocess.run([*command, *options, "streaming", "--keep"], cwd=root, capture_output=True, check=False)
    assert refused.returncode == 1
    assert b"--keep: versions was {'refpg': '0'}, and is" in refused.stderr


@pytest.mark.parametrize("option", ["--sizes", "--operations", "--parts"])
def test_an_unknown_name_is_refused(option):
    command = [sys.executable, "-m", "verification.benchmarks", option, "huge"]
    root = Path(__file__).parents[1]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert ended.returncode != 0
    assert f"{option}: 'huge' is unknown, expected some of" in ended.stderr
