"""``refpg train``: a folder that says what was run, and that any end leaves fit to go on from, to the same bytes."""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from environments import needs_gymnasium

import refpg
from refpg import updates
from refpg.__main__ import main
from refpg.training import folder as folders
from refpg.training import runs

SMALL = ["--steps", "24", "--hidden", "4"]
KEPT = ("iterations.jsonl", "checkpoint.npz")  # besides a picture, run.json and times.jsonl


def run(*words):
    return main(["train", *map(str, words)])


def content(folder):
    return {name: (folder / name).read_bytes() for name in KEPT}


def strict(text):
    def refused(word):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refused)


def lines(folder):
    return [strict(line) for line in (folder / "iterations.jsonl").read_text().splitlines()]


CASES = {
    "trpo": ["trpo", *SMALL],
    "npg": ["npg", "--env", "point-mass", *SMALL, "--environments", "2"],
    "ppo": ["ppo", "--env", "gridworld", "--preset", "stable-baselines3", *SMALL, "--checkpoint-every", "2"],
    "adaptive": ["ppo", *SMALL, "--set", "clip=null", "--set", "kl_target=0.01", "--set", "epochs=2"],
    "mm": ["mm", "--env", "two-state"],
    "exact ppo": ["ppo", "--exact", "--hidden", "4", "--set", "learning_rate=0.02"],
    "exact npg": ["npg", "--exact", "--env", "cliff", "--hidden", ""],
    "cart pole": ["trpo", "--env", "CartPole-v1", "--environments", "2", *SMALL],
    "pendulum": ["ppo", "--env", "Pendulum-v1", "--environments", "2", *SMALL],
}
CASES = {
    name: pytest.param(words, id=name, marks=needs_gymnasium if "-v1" in " ".join(words) else ())
    for name, words in CASES.items()
}


@pytest.mark.parametrize("words", CASES.values())
def test_a_run_that_is_gone_on_with_writes_the_same_bytes(words, tmp_path, capsys):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(*words, "--iterations", 5, "--seed", 3, "--out", whole) == 0
    assert run(*words, "--iterations", 1, "--seed", 3, "--out", parts) == 0
    assert run("--resume", parts, "--iterations", 3) == 0
    assert run("--resume", parts, "--iterations", 5, "--seed", 3, words[0]) == 0
    assert content(whole) == content(parts)
    assert strict((whole / "run.json").read_text()) == strict((parts / "run.json").read_text())
    records = lines(whole)
    assert [record["iteration"] for record in records] == [1, 2, 3, 4, 5]
    times = [strict(line) for line in (parts / "times.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in times] == [1, 2, 3, 4, 5]
    assert all(line["seconds"] >= 0 for line in times)
    other = tmp_path / "other"
    assert run(*words, "--iterations", 1, "--seed", 4, "--out", other) == 0
    drawn = words[0] != "mm" and words[-1] != ""  # of the other exact loops the hidden layer is drawn
    assert (lines(other)[0] != records[0]) == drawn
    assert capsys.readouterr().err == ""


def test_the_folder_says_what_was_run(tmp_path):
    words = ["--set", "max_kl=0.02", "--set", "sampling.gae_lambda=0.9", "--set", "direction=new_old"]
    assert run("trpo", *SMALL, *words, "--iterations", 2, "--out", tmp_path / "a") == 0
    there = {path.name for path in (tmp_path / "a").iterdir()}
    assert there == {*KEPT, "run.json", "times.jsonl", "learning-curve.svg"}
    said = strict((tmp_path / "a" / "run.json").read_text())
    assert said["setup"]["settings"] == {"max_kl": 0.02, "sampling.gae_lambda": 0.9, "direction": "new_old"}
    options = said["options"]
    # Given, of the environment, of the preset, of nobody but the loop.
    assert (options["max_kl"], options["sampling.steps"], options["sampling.gamma"]) == (0.02, 24, 0.9)
    assert (options["damping"], options["backtrack"], options["world.time_limit"]) == (0.1, 0.5, 50)
    assert said["versions"]["numpy"] == np.__version__
    assert (said["iterations"], said["setup"]["seed"]) == (2, 0)
    first = lines(tmp_path / "a")[0]
    assert first["steps"] == 24
    # The KL of the candidate that was taken, and of the new policy: the same mean, in the direction that was asked for.
    assert first["kl_new_old"] == pytest.approx(first["step"]["trials"][first["step"]["accepted"]]["kl"], rel=1e-12)
    assert len(first["step"]["cg"]["residual_norms"]) >= 2
    assert first["step"]["cg"]["reason"] in ("ITERATIONS_EXHAUSTED", "ROUNDING_REACHED", "CONVERGED")


def test_the_options_reach_the_loop(tmp_path):
    """A run by name is the run one would write: the same θ, from the functions themselves."""
    words = ["--set", "max_kl=0.02", "--set", "fitting.epochs=2", "--set", "network.activation=relu"]
    words += ["--set", "start.policy_scale=0.5", "--set", "world.time_limit=7", "--environments", "3"]
    assert run("trpo", *SMALL, *words, "--iterations", 2, "--seed", 5, "--out", tmp_path / "a") == 0
    training, rollout = refpg.training, refpg.rollout
    world = rollout.FiniteWorld(refpg.mdp.chain(5, discount=0.9, slip=0.1), time_limit=7)
    policy, values = refpg.policy.softmax_policy((5, 4, 2), "relu"), refpg.network.Network((5, 4, 1), "relu")
    start = training.new_learner(
        world, policy, values, np.random.default_rng(5), environments=3, policy_scale=0.5
    )
    preset = dict(training.TRPO_PRESETS["paper"])
    preset |= {
        "sampling": preset["sampling"]._replace(steps=24, gamma=0.9),
        "fitting": preset["fitting"]._replace(epochs=2),
        "max_kl": 0.02,
    }
    (_, record) = training.sampled_trpo(world, policy, values, start, iterations=2, **preset)
    with np.load(tmp_path / "a" / "checkpoint.npz", allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["theta"], record.learner.theta)
        np.testing.assert_array_equal(archive["value_theta"], record.learner.value_theta)


def test_numbers_that_are_not_finite_are_null():
    trials = (updates.Trial(1, math.nan, math.inf),)
    assert runs._words(updates.LineSearch(-1, updates.Ending.KL_EXCEEDED, trials)) == {
        "accepted": -1,
        "ending": "KL_EXCEEDED",
        "trials": [{"scale": 1, "improvement": None, "kl": None}],
    }


# ── ends ──────────────────────────────────────────────────────────────────────────────────────────

KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from refpg import files
from refpg.training import Setup, folder, start, train

stage, out, environment, every = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])

def die():
    os.kill(os.getpid(), signal.SIGKILL)

append, replace = folder._append, os.replace

def appended(path, line):
    if line["iteration"] == 4 and path.name == "iterations.jsonl" and stage == "in a line":
        with path.open("ab") as file:
            file.write(folder._text(line)[:40])
        die()
    append(path, line)
    last = {"after a line": "iterations.jsonl", "after both": "times.jsonl"}.get(stage)
    if line["iteration"] == 4 and path.name == last:
        die()

def replaced(source, target):
    if stage == "in a checkpoint" and Path(target).name == "checkpoint.npz" and appended.four:
        die()
    replace(source, target)

def counted(path, line):
    appended(path, line)
    appended.four = line["iteration"] == 4

appended.four = False
folder._append, files.os.replace = counted, replaced
setup = Setup("trpo", environment, 3, environments=2, steps=24, hidden=(4,))
train(start(out, setup, np.random.default_rng(3), every=every), 6)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize(
    ("stage", "environment", "every"),
    [
        ("in a line", "chain", 1),
        ("after a line", "chain", 1),
        ("after both", "chain", 3),
        ("in a checkpoint", "chain", 1),
        ("in a line", "chain", 5),
        pytest.param("in a line", "CartPole-v1", 2, marks=needs_gymnasium),
    ],
)
def test_a_process_that_is_killed_leaves_a_run_to_go_on_with(stage, environment, every, tmp_path, capsys):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-c", KILLED, stage, str(killed), environment, str(every)]
    here = os.environ | {"PYTHONPATH": str(Path(refpg.__file__).parent.parent)}
    ended = subprocess.run(command, env=here, capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert (killed / "checkpoint.npz").exists() == (every < 4)
    left = (killed / "iterations.jsonl").read_bytes()
    assert left.count(b"\n") == (3 if stage == "in a line" else 4)
    assert left.endswith(b"\n") == (stage != "in a line")
    assert any(path.name.startswith(".") for path in killed.iterdir()) == (stage == "in a checkpoint")
    assert run("--resume", killed) == 0
    options = ["--env", environment, "--environments", 2, *SMALL, "--seed", 3, "--checkpoint-every", every]
    assert run("trpo", *options, "--iterations", 6, "--out", whole) == 0
    assert content(killed) == content(whole)
    assert (killed / "times.jsonl").read_bytes().count(b"\n") == 6
    assert {path.name for path in killed.iterdir()} == {path.name for path in whole.iterdir()}


def interrupting(monkeypatch, at, times=1):
    append = folders._append

    def appended(path, line):
        append(path, line)
        if path.name == "times.jsonl" and line["iteration"] == at:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(folders, "_append", appended)


@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupt_ends_the_run_and_says_how_to_go_on(times, tmp_path, monkeypatch, capfd):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run("ppo", *SMALL, "--iterations", 4, "--out", whole) == 0
    capfd.readouterr()
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patched:
        interrupting(patched, at=2, times=times)
        assert run("ppo", *SMALL, "--iterations", 4, "--out", parts, "--checkpoint-every", 3) == 130
    assert signal.getsignal(signal.SIGINT) is before
    said = capfd.readouterr()
    assert "ending after this iteration; Ctrl-C again ends at once" in said.err
    after = "after iteration 2 of 4" if times == 1 else "at once"
    assert said.err.endswith(f"ended {after}; to go on: refpg train --resume {parts}\n")
    assert said.out == ""
    assert len(lines(parts)) == 2
    assert (parts / "checkpoint.npz").exists() == (times == 1)
    assert run("--resume", parts) == 0
    assert content(parts) == content(whole)


def test_an_interrupt_in_the_last_iteration_ends_nothing(tmp_path, monkeypatch, capfd):
    interrupting(monkeypatch, at=2)
    assert run("trpo", *SMALL, "--iterations", 2, "--out", tmp_path / "a") == 0
    assert "wrote" in capfd.readouterr().out


# ── what is said ──────────────────────────────────────────────────────────────────────────────────


def test_the_end_says_what_was_reached_and_draws_it(tmp_path, capsys):
    assert run("trpo", "--steps", 60, "--hidden", "4", "--iterations", 2, "--out", tmp_path / "a") == 0
    last = lines(tmp_path / "a")[-1]
    curve = tmp_path / "a" / "learning-curve.svg"
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path / 'a'}: trpo on chain, iteration 2, 120 actions, mean return {last['mean_return']:.6g}",
        f"wrote {curve}",
    ]
    assert curve.read_bytes().startswith(b"<?xml")
    assert run("mm", "--iterations", 2, "--out", tmp_path / "b") == 0
    last = lines(tmp_path / "b")[-1]
    assert f"iteration 2, expected return {last['expected_return']:.6g}\n" in capsys.readouterr().out


def test_the_curve_is_that_of_the_lines(tmp_path):
    pytest.importorskip("matplotlib")
    module = refpg.plots.learning_curve
    told = [{"steps": 8, "mean_return": 1.0}, {"steps": 16, "mean_return": None}, {"steps": 24, "mean_return": 2.5}]
    (axes,) = module.draw(module.numbers("PPO on chain", told)).axes
    (line,) = axes.get_lines()
    assert line.get_xydata().tolist() == [[8.0, 1.0], [24.0, 2.5]]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("actions", "mean return of episodes")
    told = [{"iteration": 1, "expected_return": 3.0}, {"iteration": 2, "expected_return": 4.0}]
    (axes,) = module.draw(module.numbers("MM on chain", told)).axes
    assert axes.get_lines()[0].get_xydata().tolist() == [[1.0, 3.0], [2.0, 4.0]]
    assert axes.get_xlabel() == "iteration"


def test_without_matplotlib_the_run_is_done_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run("mm", "--iterations", 1, "--out", tmp_path / "a") == 0
    assert "no learning curve is drawn: figures need matplotlib: pip install 'refpg[plot]'" in capsys.readouterr().out
    assert not (tmp_path / "a" / "learning-curve.svg").exists()


def test_a_terminal_gets_a_bar(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert run("mm", "--iterations", 3, "--out", tmp_path / "a") == 0
    assert "] 1/3" in capsys.readouterr().err


def test_another_version_is_remarked(tmp_path, capsys):
    assert run("mm", "--iterations", 1, "--out", tmp_path / "a") == 0
    path = tmp_path / "a" / "run.json"
    path.write_text(path.read_text().replace(f'"numpy": "{np.__version__}"', '"numpy": "2.0.0"'))
    assert run("--resume", tmp_path / "a", "--iterations", 2) == 0
    said = capsys.readouterr().err
    assert f"numpy was 2.0.0 and is {np.__version__}: the numbers may differ in their last bits" in said


def test_the_help_names_what_there_is(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        run("--help")
    said = capsys.readouterr().out
    assert f"{', '.join(runs.EMBEDDED)}, or Gymnasium's" in said
    assert f"{', '.join(runs.PRESETS)}; default: paper" in said
    assert "mm, npg, trpo or ppo" in said
    assert runs.ALGORITHMS == ("mm", "npg", "trpo", "ppo")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trpo"], "expected ALGORITHM --out DIR to begin a run, or --resume DIR to go on with one"),
        (["--out", "a"], "expected ALGORITHM --out DIR"),
        (["--out", "a", "--resume", "a"], "expected ALGORITHM --out DIR"),
        (["trpo", "--out", "a", "--resume", "a"], "expected ALGORITHM --out DIR"),
        (["trop", "--out", "a"], "train: algorithm is 'trop', expected one of 'mm', 'npg', 'trpo', 'ppo'"),
        (["trpo", "--preset", "papre", "--out", "a"], "train: preset is 'papre', expected one of 'paper', 'stable-b"),
        (["trpo", "--env", "chian", "--out", "a"], "train: there is no environment 'chian' (did you mean chain?)"),
        (["trpo", "--seed", "-1", "--out", "a"], "train: --seed is -1, expected an integer >= 0"),
        (["trpo", "--iterations", "0", "--out", "a"], "train: iterations is 0"),
        (["trpo", "--environments", "0", "--out", "a"], "train: environments is 0"),
        (["trpo", "--steps", "0", "--out", "a"], "train: steps is 0"),
        (["trpo", "--checkpoint-every", "0", "--out", "a"], "train: checkpoint_every is 0"),
        (["trpo", "--hidden", "64;64", "--out", "a"], "train: --hidden 64;64: expected widths with commas"),
        (["trpo", "--hidden", "0", "--out", "a"], "train: --hidden 0: expected widths"),
        (["trpo", "--set", "max_kl", "--out", "a"], "train: --set max_kl: expected name=value, e.g. max_kl=0.02"),
        (["trpo", "--set", "maxkl=1", "--out", "a"], "has no option 'maxkl' (did you mean max_kl?); it has"),
        (["trpo", "--set", "gamma=1", "--out", "a"], "no option 'gamma' (did you mean sampling.gamma?)"),
        (["trpo", "--set", "sampling.steps=1", "--out", "a"], "trpo on chain has no option 'sampling.steps'"),
        (["trpo", "--set", "max_kl=-1", "--out", "a"], "sampled_trpo: max_kl is -1, expected a number > 0"),
        (["trpo", "--set", "max_kl=NaN", "--out", "a"], "sampled_trpo: max_kl is 'NaN'"),
        (["trpo", "--set", "fitting.epochs=0", *SMALL, "--out", "a"], "epochs is 0"),
        (["ppo", "--set", "kl_target=0.1", "--out", "a"], "clip is 0.2 and kl_target 0.1, expected one of them"),
        (["mm", "--env", "doubling", "--out", "a"], "mm, whose expectations are exact, needs a finite MDP"),
        (["trpo", "--exact", "--env", "point-mass", "--out", "a"], "an exact loop needs a finite MDP, expected one of"),
        (["trpo", "--exact", "--steps", "9", "--out", "a"], "exact expectations sample nothing"),
        (["mm", "--hidden", "9", "--out", "a"], "mm has a table and no network"),
        (["mm", "--out", "file"], "file is a file, expected a folder that is empty or not there yet"),
        (["mm", "--out", "full"], "full is not empty, expected a folder that is empty or not there yet"),
        (["--resume", "nowhere"], "train: nowhere/run.json is not there, expected the folder of a run"),
        (["--resume", "full"], "train: full/run.json is not there"),
    ],
)
def test_what_cannot_be_run_is_said_in_a_line_and_leaves_nothing(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").touch()
    assert run(*words) == 2
    said = capsys.readouterr().err
    assert said.startswith("refpg: ")
    assert message in said
    assert said.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"file", "full"}


@needs_gymnasium
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("CartPol-v1", "there is no environment 'CartPol-v1' (did you mean CartPole-v1"),
        ("Blackjack-v1", "Blackjack-v1 is of no use here: GymWorld: the space of observations is Tuple"),
        ("no.module:Env-v0", "no.module:Env-v0 is of no use here: "),
    ],
)
def test_environments_of_gymnasium_that_cannot_be_are_named(name, message, tmp_path, capsys):
    assert run("trpo", "--env", name, "--out", tmp_path / "a") == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "a").exists()


def test_without_gymnasium_the_extra_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    assert run("trpo", "--env", "CartPole-v1", "--out", tmp_path / "a") == 2
    assert "pip install 'refpg[gym]'" in capsys.readouterr().err
    assert run("trpo", *SMALL, "--iterations", 1, "--out", tmp_path / "a") == 0


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A run of three iterations, not to be changed."""
    folder = tmp_path_factory.mktemp("done") / "a"
    kept = folders.start(folder, runs.Setup("trpo", "chain", 0, steps=24, hidden=(4,)), np.random.default_rng(0))
    assert folders.train(kept, 3) == 3
    return folder


@pytest.fixture
def copied(done, tmp_path):
    for path in done.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seed", "1"], "is a run with seed 0, not 1: --resume needs no options of the run"),
        (["ppo", "--env", "cliff"], "is a run with algorithm 'trpo', not 'ppo'; environment 'chain', not 'cliff'"),
        (["--set", "max_kl=1"], "settings {}, not {'max_kl': 1}"),
        (["--hidden", "5"], "hidden (4,), not (5,)"),
        (["--checkpoint-every", "2"], "checkpoint_every 1, not 2"),
        (["--iterations", "2"], "has 3 iterations, expected at most iterations = 2"),
    ],
)
def test_a_run_is_not_resumed_as_another(words, message, copied, capsys):
    before = content(copied)
    assert run("--resume", copied, *words) == 2
    assert message in capsys.readouterr().err
    assert content(copied) == before


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("run.json", lambda text: text.replace("0.1", "NaN", 1), "run.json is not what a run writes: NaN is no number"),
        ("run.json", lambda text: text[:50], "run.json is not what a run writes: "),
        ("run.json", lambda text: "[1]", "expected a description of schema 1"),
        ("run.json", lambda text: text.replace('"schema": 1', '"schema": 2'), "expected a description of schema 1"),
        ("run.json", lambda text: text.replace('"seed": 0', '"seed": "0"'), "seed is '0'"),
        ("run.json", lambda text: text.replace('"seed": 0', '"seeds": 0'), "expected a setup of algorithm"),
        ("run.json", lambda text: text.replace('"iterations": 3', '"iterations": 0'), "its: iterations is 0"),
        ("run.json", lambda text: text.replace('"versions"', '"version"'), "run.json is not what a run writes"),
        ("run.json", lambda text: text.replace('"seed": 0', '"seed": 1'), "run.seed is 0 there and 1 here"),
        ("run.json", lambda text: text.replace('"steps": 24', '"steps": 25'), "options.sampling.steps is 24 there and"),
        ("run.json", lambda text: text.replace('   4\n', '   5\n'), "policy.sizes is [5, 4, 2] there and [5, 5, 2]"),
        ("checkpoint.npz", lambda text: "", "checkpoint.npz is damaged or no archive"),
        ("iterations.jsonl", lambda text: text[: text.rindex("{")], "iterations.jsonl has 2 whole lines"),
        ("iterations.jsonl", lambda text: text.replace('{"iteration": 2', '{"iteration": 3'), "in line 2, expected"),
        ("times.jsonl", lambda text: "", "times.jsonl has 0 whole lines"),
    ],
)
def test_a_damaged_folder_is_refused_by_the_name_of_the_file(name, change, message, copied, capsys):
    path = copied / name
    path.write_text(change(path.read_bytes().decode(errors="replace")))
    assert run("--resume", copied) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
