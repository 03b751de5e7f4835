"""A run judged again from its record is the same run; a record that lies, or is not one, is refused."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import refpg.__main__ as command_line
from refpg.conformance import replay as replays
from refpg.conformance import report
from refpg.conformance.replay import replay, replayed
from refpg.conformance.run import Run, check
from refpg.conformance.verdicts import Verdict

from . import synthetic
from .test_report import ORIGIN, forms, hostile, recorded

Json = Any


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return synthetic.write(tmp_path / "data")


def kept(run: Run, folder: Path) -> Path:
    path = folder / "run.jsonl"
    path.write_bytes(recorded(run))
    return path


def mutating(rewards: Any, **inputs: Any) -> Any:
    right = synthetic.td_errors(rewards, **inputs)
    rewards += 1
    return right


RUNS: dict[str, dict[str, Any]] = {
    "right": {"target": {"ratio": synthetic.ratio, "td_errors": synthetic.td_errors}},
    "wrong": {"target": hostile()},
    "nothing": {"target": {}},
    "not finite": {"target": {"td_errors": lambda **inputs: inputs["rewards"] / 0.0}},
    "other shapes": {"target": {"ratio": lambda old_log_prob, new_log_prob: new_log_prob[:, None] - old_log_prob}},
    "inputs changed": {"target": {"td_errors": mutating}},
    "printing": {"target": {"ratio": lambda **inputs: print("\n \t\n") or synthetic.ratio(**inputs)}},
    "a convention": {"target": {"mean_kl": synthetic.mean_kl("new_old"), "conventions": {"kl.direction": "new_old"}}},
    "undeclared convention": {"target": {"mean_kl": synthetic.mean_kl("new_old")}},
    "single precision": {"target": {"ratio": synthetic.ratio}, "dtype": "float32", "profiles": ["ppo"]},
    "narrowed": {"target": {"ratio": synthetic.ratio}, "only": "ratio/s*"},
    "refpg": {"target": None},
}


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
@pytest.mark.parametrize("name", RUNS)
def test_a_run_judged_again_gives_the_same_reports(data: Path, tmp_path: Path, name: str) -> None:
    run = check(data=data, **RUNS[name])
    again = replay(kept(run, tmp_path), data=data)
    assert again.differs == ()
    assert again.origin == ORIGIN
    assert again.compared == sum(bool(outcome.comparisons) for outcome in run.outcomes)
    if run.only:
        assert list(report.terminal(again.run)) == list(report.terminal(run))
    else:
        assert forms(again.run) == forms(run)


def test_this_installation_judged_again_by_the_published_vectors(tmp_path: Path) -> None:
    run = check(only="*_categorical")
    again = replay(kept(run, tmp_path))
    assert report.html(again.run, ORIGIN) == report.html(run, ORIGIN)
    assert recorded(again.run) == recorded(run)


def test_an_answer_too_large_to_be_kept_keeps_its_verdict(data: Path, tmp_path: Path) -> None:
    adapter = {"td_errors": lambda **inputs: np.ones((200, 200)), "ratio": synthetic.ratio}
    run = check(adapter, data=data)
    again = replay(kept(run, tmp_path), data=data)
    assert (again.kept, again.compared) == (3, 2)
    assert again.run.counts() == run.counts()
    assert again.run.exit_code == 1
    assert [diagnosis.lines for diagnosis in again.run.diagnoses.values()] == [
        diagnosis.lines for diagnosis in run.diagnoses.values()
    ]
    assert "3 answers too large to be kept" in next(iter(replayed(again)))
    assert forms(again.run)


def test_a_verdict_that_the_judge_would_not_give_today_is_told(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same answers under a wider tolerance, as another judge would have it."""
    run = check({"ratio": lambda **inputs: synthetic.ratio(**inputs) * (1 + 2e-14)}, data=data, only="ratio")
    assert run.counts()["imprecise"] == 2
    path = kept(run, tmp_path)
    wider = replace(run.vectors, policy=replace(run.vectors.policy, factor=1000))
    monkeypatch.setattr(replays, "load", lambda *where, **release: wider)
    again = replay(path, data=data)
    assert [(a.verdict, b.verdict) for a, b in again.differs] == [(Verdict.IMPRECISE, Verdict.CONFORMS)] * 2
    assert again.run.exit_code == 0
    lines = list(replayed(again))
    assert "2 answers judged again, 2 verdicts changed" in lines[0]
    assert lines[1] == "CHANGED    ratio/seven: recorded IMPRECISE, now CONFORMS"


# Records that are refused.


def resealed(lines: list[Json]) -> bytes:
    """The record with a hash that agrees, as someone who means to deceive would write it."""
    body = "".join(f"{json.dumps(line)}\n" for line in lines[:-1]).encode()
    footer = lines[-1] | {"sha256": hashlib.sha256(body).hexdigest()}
    return body + f"{json.dumps(footer)}\n".encode()


def lines_of(run: Run) -> list[Json]:
    return [json.loads(line) for line in report.json_lines(run, ORIGIN)]


def refused(content: bytes, tmp_path: Path, data: Path) -> str:
    path = tmp_path / "run.jsonl"
    path.write_bytes(content)
    with pytest.raises(report.ReportError) as caught:
        replay(path, data=data)
    return str(caught.value)


def example(data: Path) -> list[Json]:
    """Header; ratio twice, wrong; td_errors three times, right; mean_kl crashing; line_search undeclared; footer."""

    def crash(**inputs: Any) -> Any:
        raise ZeroDivisionError

    adapter = {"ratio": lambda **inputs: synthetic.ratio(**inputs) ** -1, "td_errors": synthetic.td_errors}
    lines = lines_of(check(adapter | {"mean_kl": crash}, data=data))
    verdicts = [line["verdict"] for line in lines[1:-1]]
    assert sorted(verdicts) == ["CONFORMS"] * 3 + ["HARNESS ERROR", "UNDECLARED", "WRONG", "WRONG"]
    return lines


def of(verdict: str) -> Callable[[list[Json]], Json]:
    return lambda lines: next(line for line in lines if line.get("verdict") == verdict)


def head(lines: list[Json]) -> Json:
    return lines[0]


def foot(lines: list[Json]) -> Json:
    return lines[-1]


RIGHT, WRONG, HARNESS, LEFT = of("CONFORMS"), of("WRONG"), of("HARNESS ERROR"), of("UNDECLARED")

# Which line, where in it, what is put there, and what is said of it.
LIES: list[tuple[Any, str, Any, str]] = [
    (head, "schema", 2, "schema is '2', expected 1"),
    (head, "schema", True, "schema is 'True'"),
    (head, "release", "2027.1", "'2027.1', which are not installed; there are 2026.1"),
    (head, "release", "../../etc", "not installed"),
    (head, "index", "0" * 64, "not those it was judged by"),
    (head, "profiles", [], "profiles is"),
    (head, "profiles", ["nonsense"], "profiles is"),
    (head, "profiles", ["ppo"], "not those of the profiles"),
    (head, "only", "ratio", "not those of the profiles"),
    (head, "only", "nonsense*", "matches"),
    (head, "date", "yesterday", "date is"),
    (head, "date", "2026-13-01T00:00:00Z", "date is"),
    (head, "notes", "none", "notes is not a list"),
    (head, "name", None, "name is 'None', expected a text"),
    (head, "name", "two\nlines", "not one line of plain characters"),
    (head, "name", "\x1b[2J", "not one line of plain characters"),
    (head, "dtype", [], "dtype is not a mapping"),
    (head, "conventions", {"kl.direction": 1}, "conventions is not a mapping"),
    (head, "note", "x", "unknown fields ['note']"),
    (head, "kind", "case", "is not a header"),
    (RIGHT, "kind", "footer", "kind is 'footer'"),
    (RIGHT, "id", "gae/nonsense", "that of a case of td_errors"),
    (RIGHT, "id", "td_errors/nonsense", "not those of the profiles"),
    (RIGHT, "op", "nonsense", "the name of an op"),
    (RIGHT, "op", ["ratio"], "the name of an op"),
    (RIGHT, "profile", "trpo", "expected estimators"),
    (RIGHT, "rev", 2, "revision 2, the vectors have 1"),
    (RIGHT, "verdict", "FINE", "expected one of CONFORMS"),
    (RIGHT, "dtype", "float8", "unknown dtype 'float8'"),
    (RIGHT, "conventions", {"kl.direction": "new_old"}, "nothing is certified under"),
    (RIGHT, "worst", -1.0, "not negative"),
    (RIGHT, "worst", "NaN", "not negative"),
    (RIGHT, "worst", True, "not negative"),
    (RIGHT, "answer", None, "CONFORMS without an answer"),
    (RIGHT, "answer", "too large", "CONFORMS, with an answer larger than any"),
    (RIGHT, "answer", {}, "not a mapping of leaves"),
    (RIGHT, "answer other", {"shape": [], "value": [1.0]}, "the answer has the arrays"),
    (RIGHT, "answer td_errors shape", [3, 3], "as many numbers as its shape says"),
    (RIGHT, "answer td_errors shape", [-3, -4], "not a list of at most 64 lengths"),
    (RIGHT, "answer td_errors shape", [12] + [1] * 64, "not a list of at most 64 lengths"),
    (RIGHT, "answer td_errors shape", [10**15, 10**15, 10**15], "as many numbers"),
    (RIGHT, "answer td_errors value 0", None, "something else than numbers"),
    (RIGHT, "answer td_errors value 0", True, "something else than numbers"),
    (RIGHT, "answer td_errors value 0", "nan", "something else than numbers"),
    (RIGHT, "answer td_errors value 0", [1.0], "something else than numbers"),
    (RIGHT, "answer td_errors value", [0.0] * 10_001, "as many numbers"),
    (RIGHT, "answer td_errors", {"shape": [10_001], "value": [0.0] * 10_001}, "more than 10000 numbers"),
    (RIGHT, "answer td_errors", {"shape": [0, 10**15, 10**15], "value": []}, "no array can hold it"),
    (RIGHT, "message", "m", "message is not a list of texts"),
    (RIGHT, "changed", [1], "changed is not a list of texts"),
    (WRONG, "diagnosis bugs", ["nonsense"], "an unknown bug"),
    (WRONG, "diagnosis bugs", "ratio-inverted", "not a list of texts"),
    (WRONG, "diagnosis kind", 1, "of no kind"),
    (WRONG, "diagnosis lines", [["a"]], "a label and a text"),
    (WRONG, "diagnosis conventions", [[]], "not a mapping"),
    (WRONG, "diagnosis", {}, "diagnosis is not a mapping"),
    (HARNESS, "verdict", "CONFORMS", "CONFORMS without an answer"),
    (LEFT, "verdict", "WRONG", "WRONG without an answer"),
    (LEFT, "verdict", "UNSUPPORTED", "does not agree with the lines it counts"),
    (WRONG, "verdict", "UNDECLARED", "UNDECLARED with an answer"),
    (WRONG, "verdict", "CONFORMS", "does not agree with the lines it counts"),
    (foot, "kind", "case", "is not a footer"),
    (foot, "lines", 6, "lines is '6', expected 7"),
    (foot, "counts", [], "a mapping to counts"),
    (foot, "counts conforms", 7, "does not agree with the lines it counts"),
    (foot, "counts wrong", True, "a mapping to counts"),
    (foot, "exit", 0, "does not agree with the lines it counts"),
    (foot, "exit", 2, "does not agree with the lines it counts"),
    (foot, "exit", 5, "an exit code"),
    (foot, "worst_conforming", 1e-9, "does not agree with the lines it counts"),
    (foot, "without_vectors", ["nonsense"], "names of ops"),
    (foot, "without_vectors", ["ratio"], "no vectors for an op that has some"),
]


def put(line: Json, where: str, new: Json) -> None:
    *path, last = where.split(" ")
    for key in path:
        line = line[key]
    if isinstance(line, list):
        line[int(last)] = new
    else:
        line[last] = new


@pytest.mark.parametrize(("which", "where", "new", "message"), LIES)
def test_a_lie_is_refused(
    data: Path, tmp_path: Path, which: Callable[[list[Json]], Json], where: str, new: Json, message: str
) -> None:
    lines = example(data)
    put(which(lines), where, new)
    assert message in refused(resealed(lines), tmp_path, data)


def test_every_field_is_needed(data: Path, tmp_path: Path) -> None:
    whole = example(data)
    optional = {"answer", "message", "printed", "changed", "diagnosis"}
    for number in (0, 1, len(whole) - 1):
        for field in set(whole[number]) - optional - {"sha256"}:
            lines = [dict(line) for line in whole]
            del lines[number][field]
            said = refused(resealed(lines), tmp_path, data)
            assert f"missing fields ['{field}']" in said or (field == "kind" and "is not a" in said), said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[:3] + lines[4:], "expected 6"),
        (lambda lines: [*lines[:3], lines[2], *lines[3:]], "expected 8"),
        (lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]], "their order"),
    ],
)
def test_cases_are_neither_left_out_nor_repeated_nor_moved(
    data: Path, tmp_path: Path, change: Any, message: str
) -> None:
    lines = change(example(data))
    assert message in refused(resealed(lines), tmp_path, data)
    lines[-1]["lines"] = len(lines) - 2
    said = refused(resealed(lines), tmp_path, data)
    assert any(words in said for words in ("missing", "same case and conventions", "their order")), said


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"kind": "case", "kind": "case"}', "duplicate key 'kind'"),
        ('{"kind": "case", "worst": NaN}', "NaN is not a number"),
        ('{"kind": "case", "worst": -Infinity}', "-Infinity is not a number"),
        ('{"kind": "case", "worst": 1e999}', "overflows float64"),
        ('{"kind": "case", "worst": ' + "9" * 5000 + "}", "beyond ±2^53"),
        ('{"kind": "case", "worst": 1e-999}', "vanishes in float64"),
        ("[" * 100_000, "nested too deeply"),
        ("[" * 40 + "]" * 40, "nested more than"),
        ("3", "is not a mapping"),
        ("", "line 2: "),
        ("\x00", "line 2: "),
        ('{"kind": "' + "x" * (5 << 20) + '"}', "longer than"),
    ],
)
def test_what_is_not_strict_json_is_refused(data: Path, tmp_path: Path, line: str, message: str) -> None:
    header, *_, footer = example(data)
    body = f"{json.dumps(header)}\n{line}\n".encode()
    footer = footer | {"lines": 1, "sha256": hashlib.sha256(body).hexdigest()}
    assert message in refused(body + f"{json.dumps(footer)}\n".encode(), tmp_path, data)


def test_what_is_too_large_is_not_read(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "lines" in refused(b"\n" * 100_001, tmp_path, data)
    monkeypatch.setattr(replays, "MAX_BYTES", 1000)
    path = tmp_path / "endless"
    path.write_bytes(b"x" * 5000)
    assert len(replays._content(path)) == 1001


def test_vectors_that_were_changed_since_are_refused(data: Path, tmp_path: Path) -> None:
    path = kept(check({"ratio": synthetic.ratio}, data=data), tmp_path)
    files = synthetic.release()
    files["ratio"][0]["expected"][0]["outputs"]["ratio"]["R"][0] = 2.0
    shutil.rmtree(data)
    synthetic.write(data, files)
    with pytest.raises(report.ReportError, match="installed are not those it was judged by"):
        replay(path, data=data)


def test_a_verdict_that_was_forged_is_told(data: Path, tmp_path: Path) -> None:
    lines = example(data)
    for line in lines[1:-1]:
        if line["verdict"] == "WRONG":
            line["verdict"] = "CONFORMS"
            line["worst"] = 0.0
            del line["diagnosis"]
    lines[-1]["counts"] |= {"wrong": 0, "conforms": 5}
    path = tmp_path / "run.jsonl"
    path.write_bytes(resealed(lines))
    again = replay(path, data=data)
    assert [(a.verdict, b.verdict) for a, b in again.differs] == [(Verdict.CONFORMS, Verdict.WRONG)] * 2
    assert again.run.counts()["wrong"] == 2


# The command line.


def test_the_command_line_replays(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command_line, "replay", lambda path, waivers: replay(path, waivers=waivers, data=data))
    run = check({"ratio": lambda old_log_prob, new_log_prob: new_log_prob}, data=data)
    kept(run, tmp_path)
    options = [word for form in ("junit", "html", "md", "badge") for word in (f"--{form}", f"report.{form}")]
    assert command_line.main(["replay", "run.jsonl", *options]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[:-1] == list(report.terminal(run))
    assert out[-1].startswith("REPLAYED   recorded 2026-01-31T12:00:00Z by refpg 2026.1.0: 2 answers judged again, ev")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == report.html(run, ORIGIN)

    (tmp_path / "cut.jsonl").write_bytes(recorded(run)[:-1])
    assert command_line.main(["replay", "cut.jsonl"]) == 3
    assert "cut off" in capsys.readouterr().err
    assert command_line.main(["replay", "nowhere.jsonl"]) == 2
    assert command_line.main(["replay", "run.jsonl", "--html", "nowhere/x.html"]) == 2
    narrowed = kept(check({"ratio": synthetic.ratio}, data=data, only="ratio"), tmp_path)
    assert command_line.main(["replay", str(narrowed), "--badge", "b.svg"]) == 2
