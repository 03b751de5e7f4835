"""The README is run: its implementation is judged, and the transcript is what the judge prints."""

import importlib
import re
from pathlib import Path

import pytest

from refpg.__main__ import main
from refpg.conformance import laws
from refpg.conformance.adapters import bundled

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def shape_of(text):
    """The text without its numbers, of which the last digits belong to the machine."""
    return [re.sub(r"-?\d+(\.\d+)?(e[+-]\d+)?", "#", line) for line in text.strip().splitlines()]


def test_the_transcript_is_what_the_judge_prints(tmp_path, monkeypatch, capsys):
    (implementation,) = re.findall(r"```python\n(import numpy as np\n\nconventions.*?)```", README, flags=re.DOTALL)
    (transcript,) = re.findall(r"```text\n\$ refpg check my_ppo.py\n(.*?)```", README, flags=re.DOTALL)
    (tmp_path / "my_ppo.py").write_text(implementation, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(["check", "my_ppo.py"]) == 1
    assert shape_of(capsys.readouterr().out) == shape_of(transcript)


def test_there_are_exactly_two_set_up_commands():
    commands = re.findall(r"^python3 -m venv .*$", README, flags=re.MULTILINE)
    assert len(commands) == 2
    assert commands[0].endswith("refpg check")
    assert commands[1].endswith("pytest")


def test_the_bundled_adapters_are_named():
    for target in bundled():
        assert re.search(rf"`(refpg check )?{re.escape(target)}`", README), target


def rows_of_the_article():
    table = README.split("| the article's step |")[1].split("\n\n")[0]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]


@pytest.mark.parametrize("row", rows_of_the_article(), ids=lambda row: row[0])
def test_every_step_of_the_article_has_its_function_law_and_figure(row):
    _, equation, functions, law, figure = row
    assert equation
    for name in re.findall(r"`([\w.]+)`", functions):
        chapter, function = name.split(".")
        assert callable(getattr(importlib.import_module(f"refpg.{chapter}"), function))
    if link := re.fullmatch(r"\[`(\w+)`\]\(tests/(\w+)\.py\)", law):
        assert link[1] == link[2]
        assert (ROOT / "tests" / f"{link[1]}.py").exists()
    else:
        assert law.strip("`") in laws.LAWS
    assert re.fullmatch(r"\[([\w-]+)\]\(verification/figures/\1\.svg\)", figure)
    assert (ROOT / figure.split("(")[1].rstrip(")")).exists()


def test_the_training_example_runs(capsys):
    pattern = r"```python\n(import numpy as np\nfrom refpg import rollout.*?)```"
    (example,) = re.findall(pattern, README, flags=re.DOTALL)
    assert "iterations=20" in example
    exec(example.replace("iterations=20", "iterations=2"), {})
    rows = [list(map(float, line.split())) for line in capsys.readouterr().out.splitlines()]
    assert [steps for steps, _, _ in rows] == [8 * 256, 2 * 8 * 256]
    assert all(mean_return > 8 and 0 < kl <= 0.01 for _, mean_return, kl in rows)
