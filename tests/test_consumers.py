"""The consumers in other languages are compiled and run: right answers conform, known mistakes are found."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from refpg.conformance.export import export
from refpg.conformance.releases import locate
from refpg.conformance.tolerance import tolerances
from refpg.conformance.vectors import RELEASE, load

CONSUMERS = Path(__file__).parent.parent / "verification" / "consumers"
MISTAKES = {
    "gae_rollout": "gae-done-late",
    "clipped_objective": "clip-min-before-adv",
    "kl_diagonal_gaussian": "kl-reversed",
}

# A compiler of these is at hand wherever the tests run for everybody to see, and what is missing there is a failure.
REQUIRED = ("gcc", "g++", "rustc", "node", "javac", "java")

# gfortran takes the allocation on assignment for a use of what is not there yet.
FORTRAN = "gfortran -std=f2008 -Wall -Werror -Wno-uninitialized -Wno-maybe-uninitialized -fcheck=all -J {out}"

# language → form it reads, programs it needs, how it is compiled, how it is run; {source} and {out} are folders.
LANGUAGES = {
    "c": (
        "text",
        ["gcc"],
        "gcc -std=c99 -Wall -Wextra -Werror {source}/consumer.c {source}/mine.c -o {out}/c -lm",
        "{out}/c",
    ),
    "c++": (
        *("text", ["g++"], "g++ -std=c++17 -Wall -Wextra -Werror {source}/consumer.cpp {source}/mine.cpp -o {out}/cpp"),
        "{out}/cpp",
    ),
    "rust": ("text", ["rustc"], "rustc -D warnings {source}/consumer.rs -o {out}/rust", "{out}/rust"),
    "java": (
        *("text", ["javac", "java"], "javac -Xlint:all -Werror -d {out} {source}/Consumer.java {source}/Mine.java"),
        "java -cp {out} Consumer",
    ),
    "fortran": (
        *("text", ["gfortran"], f"{FORTRAN} {{source}}/mine.f90 {{source}}/consumer.f90 -o {{out}}/fortran"),
        "{out}/fortran",
    ),
    "javascript": ("json", ["node"], "", "node {source}/consumer.mjs"),
    "numpy": ("json", [sys.executable], "", f"{sys.executable} -B {{source}}/consumer.py"),
}


def demand(program, language):
    """Skip if a program is missing, by name; fail where CI is set and the program is one that must be there."""
    if shutil.which(program) is None:
        missing = f"{program} is not installed, so the consumer in {language} was not run"
        if os.environ.get("CI") and program in REQUIRED:
            pytest.fail(missing)
        pytest.skip(missing)


@pytest.fixture(scope="module", params=list(LANGUAGES))
def consumer(request, tmp_path_factory):
    """A compiled consumer and a fresh export in the form it reads."""
    form, programs, compilation, command = LANGUAGES[request.param]
    for program in programs:
        demand(program, request.param)
    out = tmp_path_factory.mktemp("consumer")
    folders = {"source": str(CONSUMERS), "out": str(out)}
    if compilation:
        words = [word.format(**folders) for word in compilation.split()]
        result = subprocess.run(words, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
    export(locate(), out / "vectors", form=form)

    def run(choice, vectors=out / "vectors", ops=tuple(MISTAKES)):
        """Give the files of the three ops to the consumer: by name those of JSON, one after the other those of text."""
        words = [word.format(**folders) for word in command.split()]
        files = [vectors / RELEASE / f"{op}.{'json' if form == 'json' else 'txt'}" for op in ops]
        text = ""
        if form == "json":
            words += [str(file) for file in files]
        else:
            text = "".join(file.read_text() for file in files if file.exists())
        environment = {name: value for name, value in os.environ.items() if name != "WRONG"}
        environment |= {"WRONG": "1"} if choice == "wrong" else {}
        result = subprocess.run(words, input=text, env=environment, capture_output=True, text=True, check=False)
        pattern = r"^(CONFORMS|WRONG|NOT ASKED) +(\S+/\S+)"
        return result.returncode, {case: verdict for verdict, case in re.findall(pattern, result.stdout, re.MULTILINE)}

    run.vectors, run.form = out / "vectors", form
    return run


def cases():
    vectors = load(ops=list(MISTAKES))
    return [case for op in MISTAKES for case in vectors.cases[op]]


def verdicts(mistaken):
    return {case.id: "NOT ASKED" if case.stability else "WRONG" if mistaken(case) else "CONFORMS" for case in cases()}


def tells(case):
    return any(wrong.bug == MISTAKES[case.op] for wrong in case.wrong)


def copy_with(consumer, tmp_path, op, change):
    """A copy of the export whose first case of an op is changed: (name of an input or a leaf, entries) → entries."""
    folder = tmp_path / "vectors"
    shutil.copytree(consumer.vectors, folder)
    if consumer.form == "json":
        path = folder / RELEASE / f"{op}.json"
        content = json.loads(path.read_bytes())
        case = content["cases"][0]
        case["inputs"] = {
            name: change(f"input {name}", np.array(value)).tolist() for name, value in case["inputs"].items()
        }
        for name, leaf in case["expected"][0]["outputs"].items():
            leaf["value"] = change(f"value {name}", np.array(leaf["value"])).tolist()
        path.write_text(json.dumps(content))
    else:
        path = folder / RELEASE / f"{op}.txt"
        lines = path.read_text().splitlines()
        for i in range(next(i for i, line in enumerate(lines) if line.startswith("end "))):
            words = lines[i].split(" ")
            if words[0] in ("input", "value"):
                entries = change(" ".join(words[:2]), np.array([float(word) for word in words[5:]]))
                lines[i] = " ".join([*words[:5], *map(repr, entries.tolist())])
        path.write_text("\n".join(lines) + "\n")
    return folder


def first_case(op):
    return next(case for case in cases() if case.op == op)


def test_right_answers_conform(consumer):
    assert consumer("right") == (0, verdicts(lambda case: False))


def test_the_mistakes_are_found_where_they_show(consumer):
    expected = verdicts(tells)
    assert set(expected.values()) == {"CONFORMS", "WRONG", "NOT ASKED"}
    assert consumer("wrong") == (1, expected)


@pytest.mark.parametrize(("moved_by", "code"), [(0.8, 0), (1.2, 1)])
@pytest.mark.parametrize(("op", "leaf"), [("clipped_objective", "objective"), ("gae_rollout", "advantages")])
def test_the_line_is_drawn_at_the_tolerance(consumer, tmp_path, op, leaf, moved_by, code):
    """The entry of the smallest R is moved by 0.8 or 1.2 tolerances; the right answers are within 0.1 of it."""
    case = first_case(op)
    outputs = case.expected[0].outputs
    tolerance = tolerances(outputs, "float64", load(ops=[]).policy)[leaf].ravel()
    i = int(np.argmin(outputs[leaf].amplification.ravel()))

    def move(name, entries):
        if name == f"value {leaf}":
            entries[i] += moved_by * tolerance[i]
        return entries

    result = consumer("right", copy_with(consumer, tmp_path, op, move))
    assert result == (code, verdicts(lambda other: code == 1 and other.id == case.id))


def test_the_floor_of_the_tolerance_is_tried():
    R = first_case("gae_rollout").expected[0].outputs["advantages"].amplification
    assert R.min() < 0.1 * R.max()


def test_an_answer_that_is_not_a_number_is_wrong(consumer, tmp_path):
    """In one entry the difference of the means overflows and so does σ: ∞/∞, while all other rows stay right."""
    overflowing = {"input old_mean": 1e308, "input new_mean": -1e308, "input new_log_std": 1e4}

    def overflow(name, entries):
        if name in overflowing:
            entries.flat[0] = overflowing[name]
        return entries

    found = consumer("right", copy_with(consumer, tmp_path, "kl_diagonal_gaussian", overflow))
    assert found == (1, verdicts(lambda other: other.id == first_case("kl_diagonal_gaussian").id))


def test_the_first_answer_counts(consumer, tmp_path):
    """A second answer, under other conventions, differs; the default one is what is judged by."""
    folder = copy_with(consumer, tmp_path, "clipped_objective", lambda name, entries: entries)
    if consumer.form == "json":
        path = folder / RELEASE / "clipped_objective.json"
        content = json.loads(path.read_bytes())
        expected = content["cases"][0]["expected"]
        expected += json.loads(json.dumps(expected))
        expected[1]["outputs"]["objective"]["value"][0] *= 2
        path.write_text(json.dumps(content))
    else:
        path = folder / RELEASE / "clipped_objective.txt"
        lines = path.read_text().splitlines()
        start, stop = lines.index("answer 0"), next(i for i, line in enumerate(lines) if line.startswith("mistake"))
        second = [re.sub(r"^(value .*) (\S+)$", r"\1 7.0", line) for line in lines[start + 1 : stop]]
        path.write_text("\n".join([*lines[:stop], "answer 1 some.axis other", *second, *lines[stop:]]) + "\n")
    assert consumer("right", folder) == (0, verdicts(lambda case: False))


def test_nothing_to_read_is_not_green(consumer, tmp_path):
    code, found = consumer("right", tmp_path)
    assert code != 0
    assert not found
    assert consumer("right", ops=()) == (4, {})


def test_half_a_file_is_not_green(consumer, tmp_path):
    """Cut off after a case: in words nothing but the count of the first line tells."""
    folder = copy_with(consumer, tmp_path, "kl_diagonal_gaussian", lambda name, entries: entries)
    path = next((folder / RELEASE).glob("kl_diagonal_gaussian.*"))
    text = path.read_text()
    path.write_text(text[: text.rindex("\ncase ") + 1] if consumer.form == "text" else text[: len(text) // 2])
    code, found = consumer("right", folder)
    assert code != 0
    assert "WRONG" not in found.values()


@pytest.mark.parametrize(
    ("program", "ci", "outcome"),
    [
        ("gcc", "true", pytest.fail.Exception),
        ("gcc", "", pytest.skip.Exception),
        ("gfortran", "true", pytest.skip.Exception),
    ],
)
def test_a_missing_compiler_is_told(monkeypatch, program, ci, outcome):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match=f"{program} is not installed, so the consumer in some language was not run"):
        demand(program, "some language")


def test_the_programs_that_must_be_there_are_those_the_consumers_need():
    needed = {program for _, programs, _, _ in LANGUAGES.values() for program in programs}
    assert needed == {*REQUIRED, "gfortran", sys.executable}


def test_every_consumer_is_listed_and_run():
    files = {path.name for path in CONSUMERS.iterdir() if path.is_file()} - {"README.md"}
    consumers = {name for name in files if name.lower().startswith("consumer.")}
    run = " ".join(f"{compilation} {command}" for _, _, compilation, command in LANGUAGES.values())
    readme = (CONSUMERS / "README.md").read_text(encoding="utf-8")
    assert len(consumers) == len(LANGUAGES)
    assert not [name for name in consumers if name.removesuffix(".java") not in run or name not in readme]
    assert {name.lower().split(".")[0] for name in files} == {"consumer", "mine"}


@pytest.mark.parametrize("path", sorted(CONSUMERS.glob("[cC]onsumer.*")), ids=lambda path: path.name)
def test_a_consumer_is_short(path):
    """About 40 lines; in Fortran ten more, to declare names and to end blocks."""
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line.strip()]) <= (55 if path.suffix == ".f90" else 45)
    assert max(map(len, lines)) <= 110


def test_the_mistakes_are_those_the_readme_and_the_catalogue_name():
    readme = (CONSUMERS / "README.md").read_text(encoding="utf-8")
    bugs = load(ops=[]).bugs
    assert all(f"`{bug}`" in readme and bug in bugs for bug in MISTAKES.values())


def test_float64_is_resolved_by_every_case_the_consumers_judge():
    assert all("float64" in case.resolves for case in cases())
