"""A waiver excuses a case that fails, for a time and in the open; one that excuses nothing is red."""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import numpy as np
import pytest

import refpg.__main__ as command_line
from refpg.conformance import report
from refpg.conformance.adapters import UsageError
from refpg.conformance.replay import replay, replayed
from refpg.conformance.report.badge import BLUE, RED
from refpg.conformance.run import Run, check
from refpg.conformance.vectors import DATA, MAX_MESSAGE, load
from refpg.conformance.verdicts import Outcome, Verdict
from refpg.conformance.waivers import MAX_BYTES, MAX_WAIVERS, Waiver, concerning, covers, excused, read_waivers, stale

from . import synthetic
from .test_replay import resealed
from .test_report import ORIGIN, check_element, forms, recorded

SCHEMA = json.loads((DATA / "schema" / "waivers.schema.json").read_text(encoding="utf-8"))
TODAY = date(2026, 7, 1)
RATIOS = ["ratio/seven", "ratio/five"]


def waiver(expires: str = "2999-12-31") -> Waiver:
    return Waiver("inverted <b>", "mine#7", expires)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return synthetic.write(tmp_path / "data")


def inverted(**more: Any) -> dict[str, Any]:
    """The ratio is wrong in both of its cases; td_errors is right in its three."""
    right = {"td_errors": synthetic.td_errors}
    return {"ratio": lambda old_log_prob, new_log_prob: np.exp(old_log_prob - new_log_prob)} | right | more


def wrong_in_seven(old_log_prob: Any, new_log_prob: Any) -> Any:
    """The ratio is wrong in one of its two cases."""
    return synthetic.ratio(old_log_prob, new_log_prob) + (len(old_log_prob) == 7)


def judged(data: Path, waivers: dict[str, Waiver], target: Any = None, **asked: Any) -> Run:
    return check(inverted() if target is None else target, data=data, waivers=waivers, **asked)


# What a waiver does to a run.


def test_a_waived_mismatch_does_not_fail_and_does_not_count_as_executed(data: Path) -> None:
    found = judged(data, dict.fromkeys(RATIOS, waiver()))
    count = found.counts()
    assert [o.verdict for o in found.outcomes if o.op == "ratio"] == [Verdict.WAIVED] * 2
    assert [o.excused for o in found.outcomes if o.op == "ratio"] == [Verdict.WRONG] * 2
    assert (count["waived"], count["wrong"], count["conforms"], count["executed"]) == (2, 0, 3, 3)
    assert sum(count[verdict.name.lower()] for verdict in Verdict) == count["in_profile"] == 7
    assert (found.exit_code, found.stale) == (0, {})


def test_only_what_is_waived_is_excused(data: Path) -> None:
    found = judged(data, {"ratio/seven": waiver()})
    assert (found.counts()["waived"], found.counts()["wrong"], found.exit_code) == (1, 1, 1)


def test_a_waiver_makes_nothing_green_by_itself(data: Path) -> None:
    found = judged(data, {"ratio": waiver()}, {"ratio": inverted()["ratio"]})
    assert (found.counts()["waived"], found.exit_code) == (2, 4)


def test_an_imprecise_answer_and_an_error_of_the_harness_can_be_excused(data: Path) -> None:
    def crash(**inputs: Any) -> Any:
        raise ZeroDivisionError

    target = inverted(mean_kl=crash, ratio=lambda **inputs: synthetic.ratio(**inputs) * (1 + 2e-14))
    assert judged(data, {}, target).exit_code == 3
    found = judged(data, {"mean_kl": waiver(), "ratio/*": waiver()}, target)
    assert {o.excused for o in found.outcomes} == {None, Verdict.HARNESS_ERROR, Verdict.IMPRECISE}
    assert found.exit_code == 0


def test_what_another_case_shows_still_explains_the_one_that_is_not_waived(data: Path) -> None:
    """The evidence is that of the whole run: a waiver excuses, and hides nothing."""
    found = judged(data, {"ratio/seven": waiver()})
    assert len(found.diagnoses) == 2
    assert {diagnosis.bugs for diagnosis in found.diagnoses.values()} == {("ratio-inverted",)}
    assert [len(finding.positions) for finding in report.findings(found)] == [1]


def test_the_answers_of_a_case_under_several_conventions_are_excused_together() -> None:
    """One that conforms does not make the waiver of the others stale."""
    outcomes = [Outcome("mean_kl/two-logits", "mean_kl", verdict) for verdict in (Verdict.CONFORMS, Verdict.WRONG)]
    found = excused(outcomes, {"mean_kl": waiver()})
    assert [outcome.verdict for outcome in found] == [Verdict.CONFORMS, Verdict.WAIVED]
    assert stale(found, {"mean_kl": waiver()}) == {}
    assert stale(found[:1], {"mean_kl": waiver()}) == {"mean_kl": "mean_kl/two-logits conforms"}


# Waivers that do not stand.


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("ratio/seven", "ratio/seven conforms"),
        ("ratio", "ratio/five conforms"),
        ("*/[sf]*", "ratio/five conforms"),
        ("td_errors", "td_errors/ends-4x3 and 2 more conform"),
        ("mean_kl", "nothing was executed (undeclared)"),
        ("line_search/first", "nothing was executed (unsupported)"),
    ],
)
def test_a_waiver_of_what_does_not_fail_is_stale(data: Path, name: str, why: str) -> None:
    target = {"ratio": wrong_in_seven, "td_errors": synthetic.td_errors, "unsupported": {"line_search": "no"}}
    if name == "ratio/seven":
        target["ratio"] = synthetic.ratio
    found = judged(data, {name: waiver()}, target)
    assert found.stale == {name: why}
    assert found.exit_code == 2


def test_a_glob_may_cover_what_is_not_executed_beside_what_fails(data: Path) -> None:
    found = judged(data, {"[rm]*/*": waiver()})
    assert (found.counts()["waived"], found.counts()["undeclared"], found.exit_code) == (2, 2, 0)


def test_an_error_of_the_harness_outranks_a_stale_waiver_and_that_a_mismatch(data: Path) -> None:
    stale = {"td_errors": waiver()}
    assert judged(data, stale).exit_code == 2
    assert judged(data, stale, inverted(mean_kl=lambda **inputs: None)).exit_code == 3


@pytest.mark.parametrize(
    ("waivers", "message"),
    [
        ({"ratio/sevn": waiver()}, r"'ratio/sevn', which no case of the release matches \(did you mean ratio/seven"),
        ({"gae": waiver()}, "'gae', which no case of the release matches"),
        ({"ratio/seven": waiver("2026-06-30")}, "the waiver for ratio/seven has expired: inverted <b> "),
        ({"ratio": waiver(), "ratio/seven": waiver()}, "ratio/seven has 2 waivers, for ratio and for ratio/seven"),
        ({"ratio": "because"}, "the waiver for ratio is a str, expected Waiver"),
        ({f"x{i}": waiver() for i in range(7)}, "; and 4 more$"),
    ],
)
def test_a_waiver_for_nothing_or_no_longer_is_refused(data: Path, waivers: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        concerning(waivers, RATIOS, load(data).ids, TODAY)


def test_a_waiver_holds_on_its_last_day() -> None:
    assert concerning({"ratio": waiver("2026-07-01")}, RATIOS, list, TODAY) == {"ratio": waiver("2026-07-01")}


def test_a_waiver_is_looked_at_before_anything_is_judged(data: Path) -> None:
    asked = []
    with pytest.raises(UsageError, match="expired"):
        judged(data, {"ratio": waiver("2026-01-01")}, {"ratio": lambda **inputs: asked.append(1)})
    assert asked == []


def test_a_waiver_of_another_profile_may_stand_and_is_no_part_of_the_run(data: Path) -> None:
    found = judged(data, {"ratio": waiver(), "mean_kl": waiver()}, profiles=["ppo"])
    assert list(found.waivers) == ["ratio"]
    assert {o.verdict for o in found.outcomes} == {Verdict.WAIVED}


@pytest.mark.parametrize(("name", "case"), [("r*", "gae/r"), ("five", "ratio/five"), ("ratio/", "ratio/five")])
def test_a_glob_covers_no_more_than_it_says(name: str, case: str) -> None:
    assert not covers(name, case)


# What is said of it, in every form.


def test_every_form_counts_what_is_waived_and_says_why(data: Path) -> None:
    found = judged(data, {"ratio/seven": waiver()}, inverted(ratio=wrong_in_seven))
    said = forms(found)
    counts = "7 in profile · 4 executed · 4 conform · 1 waived · 2 undeclared (2 ops)"
    assert said["terminal"].splitlines()[-1].startswith(counts)
    assert said["terminal"].endswith("exit 0")
    assert counts in said["markdown"]
    assert "| `ratio` | 1 of 2 | 0.014 | 1 WAIVED |" in said["markdown"].replace(worst(said["markdown"]), "0.014")
    assert '"waived": 1' in said["jsonl"]
    assert "Of the whole profile, 4 of 7 conform." in said["html"]
    assert '<strong class="waived">1</strong> waived.' in said["html"]
    assert '<i class="waived" style="flex:1">' in said["html"]
    assert '<span class="chip waived">waived</span>' in said["html"]
    assert ">4 of 7 conform, 1 waived<" in said["badge"]
    assert BLUE in said["badge"]
    why = "wrong, excused: inverted <b> (mine#7, until 2999-12-31)"
    for form in ("terminal", "markdown"):
        assert why in said[form]
    escaped = why.replace("<b>", "&lt;b&gt;")
    assert said["html"].count(escaped) == 2
    assert f'<skipped message="WAIVED: {escaped}"/>' in said["junit"]


def worst(markdown: str) -> str:
    return next(line.split(" | ")[2] for line in markdown.splitlines() if line.startswith("| `ratio`"))


def test_a_page_of_which_all_that_fails_is_waived_says_so(data: Path) -> None:
    page = report.html(judged(data, dict.fromkeys(RATIOS, waiver())), ORIGIN)
    assert "What is waived" in page
    assert "Every answer that was given conforms" not in page
    assert 'class="finding wrong"' not in page


def test_every_form_is_red_where_a_waiver_is_stale(data: Path) -> None:
    found = judged(data, {"td_errors/open-4x3": waiver(), "ratio": waiver()})
    said = forms(found)
    for form in ("terminal", "markdown"):
        assert "STALE      the waiver for td_errors/open-4x3: td_errors/open-4x3 conforms" in said[form]
        assert "1 stale waiver · " in said[form]
        assert "exit 2" in said[form]
    assert '<strong class="wrong">1 waiver</strong> must be removed.' in said["html"]
    assert "Waivers of what does not fail" in said["html"]
    assert RED in said["badge"]
    root = ElementTree.fromstring(said["junit"].encode())
    check_element(root)
    assert [int(root.attrib[name]) for name in ("tests", "failures", "errors", "skipped")] == [9, 1, 0, 4]
    (suite,) = [suite for suite in root if suite.attrib["name"] == "refpg.waivers"]
    assert [case.attrib["name"] for case in suite.iter("testcase")] == ["td_errors/open-4x3", "ratio"]
    (failure,) = root.iter("failure")
    assert failure.attrib["message"] == "td_errors/open-4x3 conforms"


def test_a_run_without_waivers_says_nothing_of_them(data: Path) -> None:
    said = forms(judged(data, {}))
    said["jsonl"] = "\n".join(said["jsonl"].splitlines()[1:-1])
    assert "waive" not in "".join(text.lower() for form, text in said.items() if form != "html")
    assert "must be removed" not in said["html"]


# The record.


def kept(found: Run, folder: Path) -> Path:
    path = folder / "run.jsonl"
    path.write_bytes(recorded(found))
    return path


def test_a_record_says_what_is_waived_and_what_it_would_be(data: Path) -> None:
    found = judged(data, {"ratio": waiver()})
    read = report.read_json_lines(recorded(found))
    assert read.waivers == {"ratio": waiver()}
    assert [(o.verdict, o.excused) for o in (line.outcome for line in read.lines)] == [
        (o.verdict, o.excused) for o in found.outcomes
    ]


def test_a_run_judged_again_with_its_waivers_is_the_same(data: Path, tmp_path: Path) -> None:
    def crash(**inputs: Any) -> Any:
        raise ZeroDivisionError

    waivers = {"ratio": waiver(), "mean_kl": waiver()}
    found = judged(data, waivers, inverted(mean_kl=crash))
    assert (found.counts()["waived"], found.exit_code) == (3, 0)
    again = replay(kept(found, tmp_path), waivers=waivers, data=data)
    assert again.differs == ()
    assert forms(again.run) == forms(found)


def test_an_answer_too_large_to_be_kept_keeps_what_it_would_be(data: Path, tmp_path: Path) -> None:
    found = judged(data, {"td_errors/*": waiver()}, {"td_errors": lambda **inputs: np.ones((200, 200))})
    path = kept(found, tmp_path)
    assert replay(path, waivers=dict(found.waivers), data=data).run.counts() == found.counts()
    assert replay(path, data=data).run.counts()["wrong"] == found.counts()["waived"] == 3


def test_a_record_does_not_excuse_itself(data: Path, tmp_path: Path) -> None:
    path = kept(judged(data, {"ratio": waiver()}), tmp_path)
    again = replay(path, data=data)
    assert again.run.exit_code == 1
    assert "CHANGED    ratio/seven: recorded WAIVED, now WRONG" in list(replayed(again))


def test_a_recorded_run_can_be_excused_and_its_waivers_can_be_stale(data: Path, tmp_path: Path) -> None:
    path = kept(judged(data, {}), tmp_path)
    assert replay(path, waivers={"ratio/*": waiver()}, data=data).run.exit_code == 0
    assert replay(path, waivers={"td_errors": waiver()}, data=data).run.exit_code == 2
    with pytest.raises(UsageError, match="no case of the release"):
        replay(path, waivers={"gae": waiver()}, data=data)


def test_a_stale_run_is_recorded_as_such(data: Path, tmp_path: Path) -> None:
    found = judged(data, {"td_errors": waiver(), "ratio": waiver()})
    assert found.exit_code == 2
    assert replay(kept(found, tmp_path), waivers=dict(found.waivers), data=data).run.exit_code == 2


def forged(found: Run, change: Callable[[list[Any]], Any]) -> bytes:
    """The record of a run, changed, and sealed again."""
    lines = [json.loads(line) for line in report.json_lines(found, ORIGIN)]
    change(lines)
    return resealed(lines)


FORGERIES: dict[str, tuple[Callable[[list[Any]], Any], str]] = {
    "no waiver": (lambda lines: lines[0].update(waivers={}), "WAIVED without a waiver"),
    "waivers a list": (lambda lines: lines[0].update(waivers=[]), "waivers is not a mapping"),
    "no last day": (lambda lines: lines[0]["waivers"]["ratio"].pop("expires"), "not a reason, an issue and a last day"),
    "no day": (lambda lines: lines[0]["waivers"]["ratio"].update(expires="never"), "expires is 'never'"),
    "nothing excused": (lambda lines: ratio_line(lines).pop("excused"), "says what is excused"),
    "not WAIVED": (lambda lines: ratio_line(lines).update(verdict="WRONG"), "says what is excused"),
    "conforming excused": (lambda lines: ratio_line(lines).update(excused="CONFORMS"), "excused is 'CONFORMS'"),
    "no answer": (lambda lines: ratio_line(lines).pop("answer"), "WRONG without an answer"),
    "green": (lambda lines: lines[-1].update(exit=0), "footer does not agree"),
}


def ratio_line(lines: list[Any]) -> Any:
    return next(line for line in lines if line.get("op") == "ratio")


@pytest.mark.parametrize("name", FORGERIES)
def test_a_record_that_waives_otherwise_than_it_says_is_refused(data: Path, tmp_path: Path, name: str) -> None:
    change, message = FORGERIES[name]
    found = judged(data, {"ratio": waiver()} | ({"td_errors": waiver()} if name == "green" else {}))
    path = tmp_path / "run.jsonl"
    path.write_bytes(forged(found, change))
    with pytest.raises(report.ReportError, match=message):
        replay(path, data=data)


# The file.

VALID = {"schema": 1, "waivers": {"ratio/seven": {"reason": "r", "issue": "i#1", "expires": "2999-12-31"}}}


def edited(change: Callable[[Any, Any], Any]) -> Any:
    document = json.loads(json.dumps(VALID))
    change(document, document["waivers"]["ratio/seven"])
    return document


BAD: dict[str, Callable[[Any, Any], Any]] = {
    "another schema": lambda d, w: d.update(schema=2),
    "schema true": lambda d, w: d.update(schema=True),
    "more": lambda d, w: d.update(note="x"),
    "no waivers": lambda d, w: d.pop("waivers"),
    "a list": lambda d, w: d.update(waivers=[w]),
    "a waiver a text": lambda d, w: d["waivers"].update(kl="because"),
    "a bad name": lambda d, w: d["waivers"].update({"../ratio": w}),
    "an empty name": lambda d, w: d["waivers"].update({"": w}),
    "two slashes": lambda d, w: d["waivers"].update({"a/b/c": w}),
    "no reason": lambda d, w: w.pop("reason"),
    "a blank reason": lambda d, w: w.update(reason=" "),
    "a reason of two lines": lambda d, w: w.update(reason="a\nb"),
    "an issue that is a number": lambda d, w: w.update(issue=7),
    "never": lambda d, w: w.update(expires="never"),
    "no such day": lambda d, w: w.update(expires="2026-02-30"),
    "a week": lambda d, w: w.update(expires="2026-W01-1"),
    "a compact day": lambda d, w: w.update(expires="20261231"),
    "an unknown field": lambda d, w: w.update(until="2999-12-31"),
    "too many": lambda d, w: d.update(waivers={f"x{i}": w for i in range(MAX_WAIVERS + 1)}),
}


def schema_accepts(document: Any) -> bool:
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    return jsonschema.Draft202012Validator(SCHEMA, format_checker=checker).is_valid(document)


def write(folder: Path, document: Any) -> Path:
    path = folder / "waivers.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_a_file_of_waivers_is_read_as_it_is_described(tmp_path: Path) -> None:
    document = edited(lambda d, w: d["waivers"].update({"kl_*": w, "*/*-[57]": w, "[!k]*": w}))
    assert schema_accepts(document)
    assert read_waivers(write(tmp_path, document)) == {
        name: Waiver("r", "i#1", "2999-12-31") for name in ("ratio/seven", "kl_*", "*/*-[57]", "[!k]*")
    }


@pytest.mark.parametrize("name", BAD)
def test_the_reader_and_the_schema_refuse_what_is_not_as_described(name: str, tmp_path: Path) -> None:
    document = edited(BAD[name])
    path = write(tmp_path, document)
    with pytest.raises(UsageError, match="waivers.json") as caught:
        read_waivers(path)
    assert len(str(caught.value)) <= len(str(path)) + MAX_MESSAGE
    assert not schema_accepts(document)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Expecting value"),
        (b'{"schema": 1, "schema": 1}', "duplicate key"),
        (b'{"schema": NaN}', "NaN is not a number"),
        (b"\xff", "utf-8"),
        (b"[" * 100_000, "nested"),
        (b" " * (MAX_BYTES + 1), "larger than"),
    ],
)
def test_a_file_that_is_no_strict_json_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "waivers.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_waivers(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(UsageError, match="there is no such file of waivers"):
            read_waivers(path)


# The command line.

TARGET = """
import numpy as np

def ratio(old_log_prob, new_log_prob):
    return np.exp(old_log_prob - new_log_prob)

def approximate_kl(log_ratio):
    return 1.0
"""


def test_check_and_replay_take_a_file_of_waivers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(TARGET)
    monkeypatch.chdir(tmp_path)
    ids = [case.id for case in load(ops=["ratio"]).cases["ratio"] if not case.stability]
    document = {"schema": 1, "waivers": {"ratio": {"reason": "known", "issue": "m#1", "expires": "2999-12-31"}}}
    write(tmp_path, document)
    arguments = ["check", "mine.py", "--in-process", "--only", "ratio", "--waive", "waivers.json", "--out", "run.jsonl"]
    assert command_line.main(arguments) == 4
    shown = capsys.readouterr().out
    assert f"0 executed · 0 conform · {len(ids)} waived" in shown
    assert shown.count("wrong, excused: known (m#1, until 2999-12-31)") == len(ids)
    assert command_line.main(["replay", "run.jsonl", "--waive", "waivers.json"]) == 4
    assert "every verdict as recorded" in capsys.readouterr().out
    assert command_line.main(["replay", "run.jsonl"]) == 1
    for change, message in (
        ({"no_such_op": document["waivers"]["ratio"]}, "no case of the release"),
        ({"ratio": document["waivers"]["ratio"] | {"expires": "2026-01-01"}}, "has expired"),
        ({"ratio": []}, "not a mapping"),
    ):
        write(tmp_path, {"schema": 1, "waivers": change})
        assert command_line.main(arguments) == 2
        assert message in capsys.readouterr().err
