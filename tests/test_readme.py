"""The README is run: its implementation is judged, and the transcript is what the judge prints."""

import re
from pathlib import Path

import pytest

from refpg.__main__ import main

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


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


@pytest.mark.parametrize("target", ["stable-baselines3", "sb3-contrib"])
def test_the_bundled_adapters_named_exist(target):
    from refpg.conformance.adapters import bundled

    assert target in bundled()
