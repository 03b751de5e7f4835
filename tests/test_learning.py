"""The evidence on learning: its page is what its numbers give, and the command that makes both runs."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from verification.learning import evaluation, oracle, own, report, results
from verification.learning.__main__ import main
from verification.learning.curves import Run, latest_mean, steps_to
from verification.learning.problems import GYMNASIUM, PEERS, PPO, PROBLEMS, TRPO
from verification.learning.tasks import all_tasks

ROOT = Path(__file__).parents[1]
COMMITTED = ROOT / "verification" / "learning" / "results"


class TestTheCommittedResults:
    def test_the_page_is_what_the_numbers_give(self):
        page = (COMMITTED / report.PAGE).read_text(encoding="utf-8")
        assert page == "\n".join(report.markdown(results.load(COMMITTED))) + "\n"

    def test_what_follows_from_the_curves_follows(self, tmp_path):
        results.save(results.load(COMMITTED), tmp_path)
        assert (tmp_path / results.FILE).read_bytes() == (COMMITTED / results.FILE).read_bytes()

    def test_they_were_made_with_todays_settings(self):
        assert results.load(COMMITTED).problems == {name: PROBLEMS[name] for name in GYMNASIUM}

    def test_refpg_has_five_seeds_of_everything_and_the_page_says_who_has_not(self):
        found = results.load(COMMITTED)
        wanted = all_tasks(found.problems, 5, peers=True)
        runs = [run[:4] for run in found.runs]
        assert runs == [task for task in wanted if task in runs]
        page = (COMMITTED / report.PAGE).read_text(encoding="utf-8")
        absent = [task for task in wanted if task not in runs]
        assert all(task.library != "refpg" for task in absent)
        assert all(f"of {task.library} on {task.environment}, seed" in page for task in absent)
        assert ("Not run" in page) == bool(absent)
        for run in found.runs:
            problem = found.problems[run.environment]
            assert len(run.steps) == len(run.episodes) == len(run.returns) == problem.iterations(run.algorithm)
            assert run.steps[-1] >= problem.algorithms[run.algorithm].budget
            assert len(run.evaluation) == 100

    @pytest.mark.parametrize("environment", GYMNASIUM)
    def test_refpg_reaches_every_threshold_on_every_seed(self, environment):
        found = results.load(COMMITTED)
        for run in found.runs:
            if run.environment == environment and run.library == "refpg":
                assert steps_to(run, found.problems[environment].threshold) is not None, run[:4]

    def test_every_figure_of_the_page_is_there(self):
        page = (COMMITTED / report.PAGE).read_text(encoding="utf-8")
        named = {line.rpartition("(")[2].removesuffix(")") for line in page.splitlines() if line.startswith("![")}
        assert named == {file.name for file in COMMITTED.glob("*.svg")}
        assert len(named) == len(GYMNASIUM) + 1

    def test_the_sampled_curve_approaches_the_exact_one_like_a_mean(self):
        at = results.load(COMMITTED).approach
        assert abs(at.slope + 0.5) <= 2 * at.standard_error
        assert at.standard_error < 0.15


def curve(episodes, returns):
    return Run("e", "l", "a", 0, [10 * (i + 1) for i in range(len(episodes))], episodes, returns, [0.0], 0.0)


class TestCurves:
    def test_the_mean_is_that_of_the_latest_hundred_episodes(self):
        """Beside the episodes written out: whole iterations, the fewest that have a hundred."""
        generator = np.random.default_rng(0)
        episodes = generator.integers(0, 40, 30).tolist()
        returns = [float(generator.normal()) if n else None for n in episodes]
        for end, (count, mean) in enumerate(latest_mean(curve(episodes, returns)), start=1):
            since = next((i for i in reversed(range(end)) if sum(episodes[i:end]) >= 100), 0)
            latest = [value for i in range(since, end) for value in [returns[i]] * episodes[i]]
            assert count == len(latest)
            assert np.isclose(mean, np.mean(latest), rtol=1e-12)

    def test_a_threshold_is_reached_at_a_hundred_episodes_and_not_before(self):
        run = curve([60, 60, 60], [9.0, 9.0, 0.0])
        assert [steps_to(run, threshold) for threshold in (9.0, 9.1)] == [20, None]
        assert steps_to(curve([99], [9.0]), 0.0) is None

    def test_without_an_episode_there_is_no_mean(self):
        assert np.isnan(latest_mean(curve([0, 1], [None, 2.0]))[0][1])


def test_the_examination_follows_one_episode_of_each_environment_to_its_end():
    """To the right, a walk of five states is paid from the fifth action of twenty on; to the left, never."""
    ones, zeros = (lambda x, a=a: np.full(len(x), a) for a in (1, 0))
    assert evaluation.examine("chain", 0, ones) == [16.0] * 100
    assert evaluation.examine("chain", 0, zeros) == [0.0] * 100


def test_the_page_does_not_hide_a_failure():
    problem = PROBLEMS["chain"]._replace(threshold=5.0)
    good, bad = curve([100], [9.0]), curve([100], [1.0])
    runs = [run._replace(environment="chain", library="refpg", algorithm="ppo") for run in (good, bad)]
    runs[1] = runs[1]._replace(seed=1)
    found = results.Results("today", "command", {}, ["torch"], {"chain": problem}, runs, None)
    page = "\n".join(report.markdown(found))
    assert "PPO **does not reach** the threshold with seed 1; afterwards below it with seed 0, 1." in page
    assert "| PPO | refpg | 1 of 2 | 10 | – | 0.0 | 0.0 | 0 of 2 | 0 |" in page
    assert "Not installed: torch." in page
    assert "**Not run:** TRPO of refpg on chain, seed 0, 1; NPG of refpg on chain, seed 0, 1." in page


def test_the_distance_to_the_oracle_falls():
    at = oracle.approach(seeds=2, episodes=(8, 128), iterations=3)
    assert at.distances[1] < at.distances[0] / 2
    assert np.isclose(at.slope, np.log(at.distances[1] / at.distances[0]) / np.log(16))
    assert (np.diff(at.exact) > 0).all()


def test_one_command_trains_and_writes(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    words = ["--environments", "chain", "--seeds", "1", "--budget", "1000", "--oracle-seeds", "0", "--out", tmp_path]
    command = [sys.executable, "-m", "verification.learning", *map(str, words)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == (tmp_path / report.PAGE).read_text(encoding="utf-8")
    runs = json.loads((tmp_path / results.FILE).read_bytes())["runs"]
    assert [(run["library"], run["algorithm"]) for run in runs] == [("refpg", name) for name in own.ALGORITHMS]
    assert all(run["steps"] == [512, 1024] for run in runs)
    assert ended.stderr.count("seed 0:") == 3
    assert "/" not in results.load(tmp_path).command

    # What is there is not made again: a number put in its place stays.
    before = results.load(tmp_path)
    results.save(before._replace(runs=[run._replace(seconds=0.25) for run in before.runs]), tmp_path)
    assert main([*map(str, words), "--algorithms", "ppo", "trpo"]) == 0
    assert ": threshold" not in capsys.readouterr().err
    assert [run.seconds for run in results.load(tmp_path).runs] == [0.25, 0.25]
    pages = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert main(["--redraw", "--out", str(tmp_path)]) == 0
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == pages
    assert set(pages) == {report.PAGE, results.FILE, report.figure_name("chain")}
    # A run of this process has the same numbers as the one of the command.
    mine = own.train("chain", "ppo", 0, before.problems["chain"])
    assert np.allclose(mine.returns, before.runs[0].returns, atol=1e-4)
    assert mine.evaluation == before.runs[0].evaluation


@pytest.mark.parametrize("option", ["--environments", "--algorithms"])
def test_an_unknown_name_is_refused(option):
    with pytest.raises(SystemExit, match=f"{option}: 'Snake-v0' is unknown, expected some of"):
        main([option, "Snake-v0"])


def test_nothing_is_drawn_from_nothing(tmp_path):
    with pytest.raises(SystemExit, match=r"--redraw: there is no results.json in "):
        main(["--redraw", "--out", str(tmp_path)])


@pytest.mark.peers
@pytest.mark.parametrize("algorithm", PEERS)
def test_the_libraries_have_the_same_budget_and_learning_rates(algorithm):
    pytest.importorskip("sb3_contrib")
    from verification.learning import peers

    settings = PPO(300, 64, 0.99, 0.95, 2, 64, 1e-3) if algorithm == "ppo" else TRPO(300, 64, 0.99, 0.95, 0.02)
    problem = PROBLEMS["CartPole-v1"]._replace(environments=2, algorithms={algorithm: settings})
    theirs, mine = (who.train("CartPole-v1", algorithm, 0, problem) for who in (peers, own))
    assert theirs.steps == mine.steps == [128, 256, 384]
    assert theirs.library == PEERS[algorithm]
    assert sum(theirs.episodes) > 3
    if algorithm == "ppo":
        _, keywords = peers._ppo(settings, 4)
        # After the rollout of iteration i of 4, 1 − i/4 of the budget is left.
        assert [keywords["learning_rate"](1 - i / 4) for i in (1, 2, 3, 4)] == [1e-3, 7.5e-4, 5e-4, 2.5e-4]
