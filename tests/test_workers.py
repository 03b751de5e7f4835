"""The sample workers in other languages are compiled and judged: right answers conform, known mistakes are named."""

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from refpg.conformance.run import check
from refpg.conformance.smoke import smoke
from refpg.conformance.vectors import load
from refpg.conformance.verdicts import Verdict
from refpg.conformance.worker import Command

WORKERS = Path(__file__).parent.parent / "verification" / "workers"
MISTAKES = {
    "gae": "gae-no-mask-recursion",
    "clipped_objective": "clip-min-before-adv",
    "kl_categorical": "kl-reversed",
}
CONVENTION = {"normalize_advantages": {"advantage.ddof": "1"}}

# language → programs it needs, how it is compiled, how it is run.
LANGUAGES = {
    "javascript": (["node"], "", "node {source}/worker.mjs"),
    "c++": (["g++"], "g++ -std=c++17 -Wall -Wextra -Werror {source}/worker.cpp -o {out}/worker", "{out}/worker"),
}


@pytest.fixture(scope="module", params=list(LANGUAGES))
def words(request, tmp_path_factory):
    """The words that start a compiled worker; skipped where its compiler is missing."""
    programs, compilation, command = LANGUAGES[request.param]
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed, so the worker in {request.param} was not run")
    folders = {"source": str(WORKERS), "out": str(tmp_path_factory.mktemp("worker"))}
    if compilation:
        compiler = [word.format(**folders) for word in compilation.split()]
        result = subprocess.run(compiler, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
    return [word.format(**folders) for word in command.split()]


def ordinary():
    vectors = load(ops=[*MISTAKES, *CONVENTION])
    return [case for of_op in vectors.cases.values() for case in of_op if not case.stability]


def test_right_answers_conform(words):
    run = check(Command(tuple(words)))
    count = Counter(outcome.verdict for outcome in run.outcomes)
    assert (count[Verdict.CONFORMS], run.counts()["executed"], run.exit_code) == (len(ordinary()), len(ordinary()), 0)
    assert run.adapter.name in ("worker.mjs", "worker.cpp")
    assert run.adapter.target == "-- " + " ".join(words)


def test_mistakes_are_named(words):
    run = check(Command((*words, "wrong")), jobs=2)
    found = {}
    for i, outcome in enumerate(run.outcomes):
        if outcome.verdict is Verdict.WRONG:
            diagnosis = run.diagnoses[i]
            assert diagnosis.complete
            found.setdefault(outcome.op, []).append((diagnosis.bugs, diagnosis.conventions))
    tell = Counter(
        case.op for case in ordinary() if any(wrong.bug == MISTAKES.get(case.op) for wrong in case.wrong)
    ) | Counter(case.op for case in ordinary() if case.op in CONVENTION)
    assert found == {op: [((bug,), ())] * tell[op] for op, bug in MISTAKES.items()} | {
        op: [((), (convention,))] * tell[op] for op, convention in CONVENTION.items()
    }
    assert (sum(tell.values()), run.counts()["harness_error"], run.exit_code) == (run.counts()["wrong"], 0, 1)


def test_numbers_survive_the_way(words):
    found = {check.name: check for check in smoke(Command(tuple(words)))}
    assert set(found) == {"echo", *MISTAKES, *CONVENTION}
    assert all(check.passed for check in found.values()), [check.complaints for check in found.values()]


def test_every_worker_is_listed_and_run():
    files = {path.name for path in WORKERS.iterdir() if path.is_file()} - {"README.md"}
    readme = (WORKERS / "README.md").read_text(encoding="utf-8")
    assert len(files) == len(LANGUAGES)
    for name in files:
        assert any(name in command + compilation for _, compilation, command in LANGUAGES.values())
        assert f"`{name}`" in readme


def test_the_mistakes_are_those_the_readme_names():
    readme = (WORKERS / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| `([\w-]+)`", readme, flags=re.MULTILINE))
    assert {op: rows.get(op) for op in MISTAKES} == MISTAKES
