"""Every form of a report says the same as the run, whatever the implementation says of itself."""

import json
import math
import os
import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import refpg.__main__ as command_line
from refpg.conformance import report, vectors
from refpg.conformance.adapters import UsageError
from refpg.conformance.diagnosis import Diagnosis
from refpg.conformance.report import record
from refpg.conformance.report.badge import BLUE, GREEN, GREY, RED
from refpg.conformance.report.html import WORDS
from refpg.conformance.report.jsonl import MAX_NUMBERS
from refpg.conformance.run import Run, check
from refpg.conformance.vectors import load
from refpg.conformance.verdicts import Verdict
from refpg.files import write_whole

from . import synthetic

ORIGIN = report.Origin("2026-01-31T12:00:00Z", "2026.1.0", "3.11.7", "2.4.0", "1.17.0", "Linux x86_64")

# What an implementation may call itself: markup of every form, and characters that move the cursor or hide text.
HOSTILE = (
    "</script><script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\">"
    "' & ]]> ````` | [link](javascript:alert(1)) \x1b[2J\x07\u202etxet\u200b\ud800\ufffe\0 # heading"
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    bugs = json.loads(json.dumps(synthetic.BUGS))
    bugs["bugs"]["ratio-inverted"] |= {"title": "old over new, <b> & ]]> `", "hint": "r < 1 & r > 0"}
    return synthetic.write(tmp_path / "data", bugs=bugs)


def hostile() -> dict[str, Any]:
    """One op each: wrong, crashing, imprecise, declared unsupported."""

    def td_errors(**inputs: Any) -> Any:
        print(HOSTILE + "\n```\n")
        raise RuntimeError(f"{HOSTILE}\n\n```\n{HOSTILE}")

    return {
        "ratio": lambda old_log_prob, new_log_prob: np.exp(old_log_prob - new_log_prob),
        "td_errors": td_errors,
        "mean_kl": lambda **inputs: synthetic.kl_values()["old_new"] * (1 + 1e-12),
        "unsupported": {"line_search": f"because {HOSTILE}\n# heading"},
        "name": f"mine {HOSTILE}",
        "version": HOSTILE,
        "notes": [HOSTILE, f"{HOSTILE}\nin two lines"],
    }


def forms(run: Run) -> dict[str, str]:
    return {
        "terminal": "\n".join(report.terminal(run)),
        "jsonl": "\n".join(report.json_lines(run, ORIGIN)),
        "junit": report.junit(run, ORIGIN),
        "markdown": report.markdown(run, ORIGIN),
        "html": report.html(run, ORIGIN),
        "badge": report.badge(run),
    }


# All forms.


def test_no_form_can_be_made_to_hold_a_control_character(data: Path) -> None:
    run = check(hostile(), data=data)
    run = replace(run, outcomes=tuple(replace(outcome, changed=(HOSTILE,)) for outcome in run.outcomes))
    ElementTree.fromstring(report.junit(run, ORIGIN).encode())
    for form, text in forms(run).items():
        found = re.findall(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\ud800-\udfff\ufeff-\uffff]", text)
        assert not found, f"{form}: {found[:3]!r}"
        assert r"\x1b[2J" in text, f"{form} does not show what was there"
        assert len(text.encode("utf-8")) > 100


def test_every_form_is_the_same_again_for_the_same_run(data: Path) -> None:
    run = check(hostile(), data=data)
    assert forms(run) == forms(run) == forms(check(hostile(), data=data))


def test_every_form_has_the_whole_profile_as_denominator(data: Path) -> None:
    run = check({"ratio": synthetic.ratio}, data=data)
    assert (run.counts()["in_profile"], run.counts()["conforms"]) == (7, 2)
    said = forms(run)
    assert "7 in profile · 2 executed · 2 conform · 5 undeclared" in said["terminal"]
    assert "7 in profile · 2 executed · 2 conform · 5 undeclared" in said["markdown"]
    assert '"in_profile": 7' in said["jsonl"]
    assert 'tests="7" failures="0" errors="0" skipped="5"' in said["junit"]
    assert "Of the whole profile, 2 of 7 conform." in said["html"]
    assert ">2 of 7 conform<" in said["badge"]


def test_an_origin_is_now_and_here() -> None:
    now = report.origin()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", now.date)
    assert (now.numpy, now.python) == (np.__version__, ".".join(map(str, sys.version_info[:3])))
    assert os.uname().nodename not in now.platform.split()


def test_plain_text_is_plain_already(data: Path) -> None:
    once = record.plain(HOSTILE)
    assert record.plain(once) == once
    assert len(record.plain("x" * 10_000)) == len(record.plain("\0" * 10_000)) == 2000
    assert record.plain("θ × ½ ‖ é 名") == "θ × ½ ‖ é 名"
    lines = record.plain_lines("\n".join(f"line {i}" for i in range(1000)))
    assert (lines[0], lines[-1], len(lines)) == ("line 0", "line 999", 60)


KL = {"kl.direction": "new_old"}


@pytest.mark.parametrize(
    ("diagnosis", "found"),
    [
        (Diagnosis("bug", True, ("a",), (), ()), ("bug", "a")),
        (Diagnosis("bug", False, ("a",), (), ()), None),
        (Diagnosis("bug", True, ("a", "b"), (), ()), None),
        (Diagnosis("convention", True, (), (KL,), ()), ("convention", "kl.direction = new_old")),
        (Diagnosis("convention", True, (), (KL, {"advantage.ddof": "1"}), ()), None),
        (Diagnosis("pair", True, ("a",), (), (("DIAGNOSIS", ""),), "`a` times −1"), ("pair", "`a` times −1")),
        (Diagnosis("pair", True, ("a", "b"), (), (("DIAGNOSIS", ""),), "`a` and `b`"), ("pair", "`a` and `b`")),
        (Diagnosis("law", True, (), (), (("DIAGNOSIS", ""),), "ratios_multiply"), ("law", "ratios_multiply")),
        (Diagnosis("pair", True, ("a", "b"), (), (("DIAGNOSIS", ""), ("one of", "`a`"))), None),
        (Diagnosis("structure", True, (), (), (("DIAGNOSIS", "twice"),)), ("structure", "twice")),
        (Diagnosis("structure", False, (), (), (("DIAGNOSIS", "twice"), ("but", "once"))), None),
        (Diagnosis("none", False, (), (), ()), None),
    ],
)
def test_only_a_certain_explanation_is_a_finding(diagnosis: Diagnosis, found: tuple[str, str] | None) -> None:
    assert record.cause(diagnosis) == found


def test_an_explanation_of_two_causes_is_summed_up_in_every_form(data: Path) -> None:
    run = check({"ratio": synthetic.ratio}, data=data)
    bugs = ("ratio-inverted", "ratio-broadcast")
    pair = Diagnosis("pair", True, bugs, (), (("DIAGNOSIS", "two causes at once"),), "`{}` and `{}`".format(*bugs))
    wrong = tuple(replace(o, verdict=Verdict.WRONG) if o.op == "ratio" else o for o in run.outcomes)
    positions = [i for i, outcome in enumerate(wrong) if outcome.verdict is Verdict.WRONG]
    run = replace(run, outcomes=wrong, diagnoses=dict.fromkeys(positions, pair))
    said = forms(run)
    assert said["terminal"].count("again both: `ratio-inverted` and `ratio-broadcast`") == 1
    assert "FINDING    two causes at once: `ratio-inverted` and `ratio-broadcast`" in said["terminal"]
    assert "<h3>Two causes at once: <code>ratio-inverted</code> and <code>ratio-broadcast</code></h3>" in said["html"]


def several() -> dict[str, Any]:
    """One op each: a structure, two crashes, a convention that was not declared, and what nothing explains."""

    def td_errors(**inputs: Any) -> Any:
        steps = int(8 * inputs["gamma"])  # 6, 4, 8
        raise KeyError("next") if steps == 8 else IndexError(f"index {steps} is out of bounds for axis 0")

    def line_search(**inputs: Any) -> Any:
        layer = {"W": np.array([[0.7, -1.3]]), "b": np.array([0.3, 0.41])}
        return {"parameters": {"layers": [layer]}, "accepted": 77}

    return {
        "ratio": lambda **inputs: synthetic.ratio(**inputs)[:, None],
        "td_errors": td_errors,
        "mean_kl": synthetic.mean_kl("new_old"),
        "line_search": line_search,
    }


def test_every_certain_cause_is_found_once_however_few_cases_have_it(data: Path) -> None:
    run = check(several(), data=data)
    found = [(finding.kind, finding.op, len(finding.positions)) for finding in record.findings(run)]
    assert sorted(found) == [
        ("convention", "", 1),
        ("crash", "td_errors", 1),
        ("crash", "td_errors", 2),
        ("structure", "ratio", 2),
    ]
    assert sum(line.startswith("FINDING ") for line in report.terminal(run)) == len(found)
    *told, without = report.html(run, ORIGIN).partition("</section>")[0].split('<article class="finding')[1:]
    assert len(told) == len(found)
    assert "<h3>Without a certain cause</h3>" in without
    assert re.findall('href="#(.*?)"', without) == ["line_search/first"]


def test_the_forms_agree_on_how_much_is_explained(data: Path) -> None:
    run = check(several(), data=data)
    whole = record.explained(run)
    assert (whole.causes, whole.failures, len(whole.without)) == (4, 7, 1)
    said = forms(run)
    sentence = "4 causes explain 6 of 7 failures; 1 has no certain cause"
    for form in ("terminal", "markdown"):
        assert f"\nFINDINGS   {sentence}\n           where          line_search/" in said[form]
    assert f"that could not be judged. {sentence}. Of the whole profile" in said["html"]


def test_a_violated_law_is_found_and_explains_nothing(data: Path) -> None:
    adapter = {"td_errors": lambda **inputs: np.where(inputs["terminated"], 7.0, synthetic.td_errors(**inputs))}
    run = check(adapter, data=data)
    failed = tuple(i for i, outcome in enumerate(run.outcomes) if outcome.verdict is Verdict.WRONG)
    assert [(finding.kind, finding.positions) for finding in record.findings(run)] == [("law", failed)]
    assert record.explained(run) == record.Explained(0, len(failed), failed)


@pytest.mark.parametrize(
    ("left_out", "on_the_page"),
    [({"line_search"}, "4 causes explain all of them."), ({"ratio", "td_errors", "mean_kl"}, "1</strong> wrong. Of")],
)
def test_nothing_is_said_at_the_end_where_everything_or_nothing_is_explained(
    data: Path, left_out: set[str], on_the_page: str
) -> None:
    run = check({op: function for op, function in several().items() if op not in left_out}, data=data)
    said = forms(run)
    assert "FINDINGS" not in said["terminal"] + said["markdown"]
    assert on_the_page in said["html"]


def test_a_structure_and_a_crash_are_told_in_full_once(data: Path) -> None:
    run = check(several(), data=data)
    for form in ("terminal", "markdown"):
        lines = forms(run)[form].splitlines()
        assert sum("DIAGNOSIS" in line and "the values are right, the shape is not" in line for line in lines) == 1
        assert sum(line.strip() == "DIAGNOSIS      the same structure again" for line in lines) == 1
        assert sum("Traceback" in line for line in lines) == 2
        (again,) = [i for i, line in enumerate(lines) if line.strip().startswith("again ")]
        assert lines[again - 1] == "HARNESS    td_errors/open-4x3"
        assert lines[again].strip() == "again          IndexError: index 4 is out of bounds for axis 0"


def test_who_prints_is_named_once_though_all_is_right(data: Path) -> None:
    loud = {"td_errors": lambda **inputs: print("here") or synthetic.td_errors(**inputs), "ratio": synthetic.ratio}
    said = forms(check(loud, data=data))
    for form in ("terminal", "markdown"):
        printed = [line for line in said[form].splitlines() if line.startswith("PRINTED")]
        assert printed == ["PRINTED    td_errors: 3 cases wrote to standard output"]


def test_a_case_that_was_not_asked_for_is_none_that_does_not_conform(tmp_path: Path) -> None:
    files = synthetic.release()
    files["ratio"][0]["stability"] = True
    run = check({"ratio": synthetic.ratio}, data=synthetic.write(tmp_path, files))
    assert '<span class="conforms">1 of 1 conform, 1 not asked</span>' in report.html(run, ORIGIN)


# The terminal.


def test_a_failure_reads_like_the_design_s(data: Path) -> None:
    adapter = {"td_errors": lambda **inputs: np.where(inputs["terminated"], 7.0, synthetic.td_errors(**inputs))}
    lines = list(report.terminal(check(adapter, data=data, only="td_errors/ends-4x3")))
    found = next(i for i, line in enumerate(lines) if line.startswith("WRONG"))
    certified = vectors.load(data).cases["td_errors"][0].expected[0].outputs["td_errors"].value
    assert "td_errors/ends-4x3" in lines[found]
    assert lines[found].endswith("× tolerance")
    assert lines[found + 1].strip() == (
        f"td_errors[0, 1]  got 7.0   certified {certified[0, 1]} ± 1e-57        (first of 3 wrong of 12)"
    )
    (last,) = [i for i, line in enumerate(lines) if line.startswith("FINDING")]
    assert lines[last - 1].strip() == "reproduce      refpg show td_errors/ends-4x3 --as python"
    assert lines[last + 1].split() == ["where", "td_errors/ends-4x3"]
    assert lines[-1].endswith("exit 1")


# The record.


def test_a_record_has_a_header_a_line_per_verdict_and_a_footer(data: Path) -> None:
    run = check(hostile(), data=data)
    lines = [json.loads(line) for line in report.json_lines(run, ORIGIN)]
    assert [line["kind"] for line in lines] == ["header", *["case"] * 7, "footer"]
    assert lines[0]["index"] == run.vectors.index
    assert lines[0]["date"] == ORIGIN.date
    assert lines[-1]["counts"] == run.counts()
    assert (lines[-1]["lines"], lines[-1]["exit"]) == (7, 3)
    assert [line["verdict"] for line in lines[1:-1]] == [outcome.verdict.value for outcome in run.outcomes]


AWKWARD = [0.1, -0.0, 5e-324, 1.7976931348623157e308, -1 / 3, math.pi, 2.0**53 + 2, math.inf, -math.inf, math.nan]


def test_an_answer_is_recorded_to_the_last_bit(data: Path) -> None:
    given = np.resize(AWKWARD, 12).reshape(4, 3)
    run = check({"td_errors": lambda **inputs: given}, data=data, only="td_errors/open-4x3")
    (line,) = report.read_json_lines(recorded(run)).lines
    assert line.leaves is not None
    leaf = line.leaves["td_errors"]
    assert leaf.dtype == np.float64
    assert np.array_equal(leaf, given, equal_nan=True)
    assert np.array_equal(np.signbit(leaf), np.signbit(given))


@pytest.mark.parametrize("accepted", [0, -1, 2**53 + 1, 2**63 - 1, -(2**63)])
def test_an_integer_is_recorded_exactly(data: Path, accepted: int) -> None:
    outputs = vectors.load(data).cases["line_search"][0].expected[0].outputs
    layer = {"W": outputs["parameters.layers[0].W"].value, "b": outputs["parameters.layers[0].b"].value}
    answer = {"parameters": {"layers": [layer]}, "accepted": accepted}
    run = check({"line_search": lambda **inputs: answer}, data=data, only="line_search")
    (line,) = report.read_json_lines(recorded(run)).lines
    assert line.leaves is not None
    assert (line.leaves["accepted"].dtype, int(line.leaves["accepted"])) == (np.int64, accepted)


def test_an_answer_of_another_shape_is_recorded_in_it(data: Path) -> None:
    for shape in ((12,), (4, 3, 1), (1,) * 12, (0,), (0, 5)):
        run = check({"td_errors": lambda shape=shape, **inputs: np.ones(shape)}, data=data, only="td_errors/open-4x3")
        (line,) = report.read_json_lines(recorded(run)).lines
        assert line.leaves is not None
        assert line.leaves["td_errors"].shape == shape


def test_no_certified_answer_is_too_large_to_be_recorded() -> None:
    released = load()
    sizes = [
        sum(leaf.value.size for leaf in entry.outputs.values())
        for cases in released.cases.values()
        for case in cases
        for entry in case.expected
    ]
    assert 2 * max(sizes) <= MAX_NUMBERS


def recorded(run: Run) -> bytes:
    return "".join(f"{line}\n" for line in report.json_lines(run, ORIGIN)).encode()


def test_a_record_that_is_cut_off_is_refused_wherever(data: Path) -> None:
    whole = recorded(check(hostile(), data=data))
    report.read_json_lines(whole)
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for length in (0, 1, *ends[:-1], ends[2] + 7, len(whole) - 1, len(whole) - 2):
        with pytest.raises(report.ReportError, match=r"cut off|empty|not a header"):
            report.read_json_lines(whole[:length])
    with pytest.raises(report.ReportError):
        report.read_json_lines(whole + whole)


def test_a_record_in_which_a_byte_was_changed_is_refused(data: Path) -> None:
    whole = recorded(check(hostile(), data=data))
    footer = whole.rindex(b"\n", 0, -1) + 1
    for place in [*range(0, footer, 97), *range(footer - 3, footer)]:
        changed = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        with pytest.raises(report.ReportError, match=r"altered|not a header|cut off|line 1:|line \d+:"):
            report.read_json_lines(changed)


# Continuous integration.

# What the readers of JUnit's XML agree on: element → (required attributes, others, children in this order).
JUNIT: dict[str, tuple[set[str], set[str], list[str]]] = {
    "testsuites": ({"tests", "failures", "errors"}, {"skipped", "time"}, ["testsuite"]),
    "testsuite": (
        {"name", "tests", "failures", "errors", "skipped", "time", "timestamp", "hostname", "package", "id"},
        set(),
        ["properties", "testcase", "system-out", "system-err"],
    ),
    "properties": (set(), set(), ["property"]),
    "property": ({"name", "value"}, set(), []),
    "testcase": ({"name", "classname", "time"}, set(), ["skipped", "error", "failure", "system-out", "system-err"]),
    "skipped": ({"message"}, set(), []),
    "error": ({"message", "type"}, set(), []),
    "failure": ({"message", "type"}, set(), []),
    "system-out": (set(), set(), []),
    "system-err": (set(), set(), []),
}


def check_element(element: ElementTree.Element) -> None:
    required, others, children = JUNIT[element.tag]
    assert required <= set(element.attrib) <= required | others, element.tag
    order = [children.index(child.tag) for child in element]
    assert order == sorted(order), element.tag
    if element.tag == "testcase":
        assert sum(child.tag in ("skipped", "error", "failure") for child in element) <= 1
    for child in element:
        check_element(child)


@pytest.mark.parametrize("adapter", [hostile(), {}, {"ratio": synthetic.ratio}, {"mean_kl": lambda **inputs: None}])
def test_the_xml_is_what_readers_of_junit_expect(data: Path, adapter: dict[str, Any]) -> None:
    run = check(adapter, data=data)
    root = ElementTree.fromstring(report.junit(run, ORIGIN).encode())
    check_element(root)
    counts = run.counts()
    failures = counts["wrong"] + counts["imprecise"]
    left = counts["in_profile"] - counts["executed"]
    said = [int(root.attrib[name]) for name in ("tests", "failures", "errors", "skipped")]
    assert said == [counts["in_profile"], failures, counts["harness_error"], left]
    for name in ("tests", "failures", "errors", "skipped"):
        assert sum(int(suite.attrib[name]) for suite in root) == int(root.attrib[name])
    for tag, number in (("failure", failures), ("error", counts["harness_error"]), ("skipped", left)):
        assert len(root.findall(f".//testcase/{tag}")) == number
    for suite in root:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.attrib["timestamp"])
        assert len(suite.findall("testcase")) == int(suite.attrib["tests"])
    names = Counter((case.attrib["classname"], case.attrib["name"]) for case in root.iter("testcase"))
    assert max(names.values()) == 1


def test_test_cases_of_several_conventions_have_names_of_their_own(data: Path) -> None:
    root = ElementTree.fromstring(report.junit(check(data=data, only="mean_kl"), ORIGIN).encode())
    names = [case.attrib["name"] for case in root.iter("testcase")]
    assert names == ["two-logits", "two-logits [kl.direction = new_old]"]


def test_a_failure_tells_its_diagnosis_and_how_to_reproduce_it(data: Path) -> None:
    root = ElementTree.fromstring(report.junit(check(hostile(), data=data), ORIGIN).encode())
    failures = root.findall(".//testcase/failure")
    wrong = [failure for failure in failures if failure.attrib["type"] == "wrong"]
    assert len(wrong) == 2
    for failure in wrong:
        assert "`ratio-inverted`: old over new" in failure.attrib["message"]
        assert "certified" in (failure.text or "")
        assert "refpg show ratio/" in (failure.text or "")
    (imprecise,) = [failure for failure in failures if failure.attrib["type"] == "imprecise"]
    assert "× tolerance" in (imprecise.text or "")
    (skipped,) = root.findall(".//testcase/skipped")
    assert skipped.attrib["message"].startswith("UNSUPPORTED: because </script>")


# Markdown.


def test_the_page_has_a_row_per_op(data: Path) -> None:
    run = check({"td_errors": lambda **inputs: synthetic.td_errors(**inputs) + 1}, data=data)
    page = report.markdown(run, ORIGIN)
    assert "| `td_errors` | 0 of 3 |  | 3 WRONG |" in page
    assert "| `line_search` | 0 of 1 |  | 1 UNDECLARED |" in page
    assert "on 2026-01-31: refpg 2026.1.0, Python 3.11.7, NumPy 2.4.0, SciPy 1.17.0." in page


def test_nothing_in_a_page_of_markdown_is_markup_but_its_own(data: Path) -> None:
    lines = report.markdown(check(hostile(), data=data), ORIGIN).splitlines()
    assert [line for line in lines if line.startswith("#")] == [lines[0]]
    fences = [i for i, line in enumerate(lines) if re.fullmatch("`{6,}", line)]
    assert len(fences) == 2
    assert not any(line.startswith(lines[fences[0]]) for line in lines[fences[0] + 1 : fences[1]])
    for line in [*lines[: fences[0]], *lines[fences[1] :]]:
        without_code = re.sub(r"(`+).*?\1(?!`)", "", line.replace("\\`", ""))
        assert not re.search(r"(?<!\\)[<\[]", without_code), line


# The badge.


def colour(run: Run) -> str:
    root = ElementTree.fromstring(report.badge(run))
    (field,) = root.iter("{http://www.w3.org/2000/svg}path")
    return field.attrib["fill"]


def test_the_colour_of_the_badge_follows_the_rule(data: Path) -> None:
    right = {"ratio": synthetic.ratio, "td_errors": synthetic.td_errors}
    wrong = {"ratio": lambda old_log_prob, new_log_prob: new_log_prob}
    assert colour(check(data=data)) == GREEN
    assert colour(check(right, data=data, profiles=["ppo", "estimators"])) == GREEN
    assert colour(check(right, data=data)) == BLUE
    assert colour(check(right | wrong, data=data)) == RED
    assert colour(check({"ratio": lambda **inputs: None}, data=data)) == RED
    assert colour(check({}, data=data)) == GREY


def test_a_badge_of_a_narrowed_run_is_refused(data: Path) -> None:
    with pytest.raises(ValueError, match="the whole profile"):
        report.badge(check({"ratio": synthetic.ratio}, data=data, only="ratio"))


def test_a_badge_names_what_is_less_than_everything(data: Path) -> None:
    run = check({"ratio": synthetic.ratio}, data=data, profiles=["ppo"], dtype="float32")
    assert ">refpg 2026.1 ppo float32<" in report.badge(run)
    assert ">refpg 2026.1<" in report.badge(check(data=data))


# Files.


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.md"
    write_whole(path, b"old")
    with monkeypatch.context() as broken:
        broken.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            write_whole(path, b"new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    write_whole(path, b"new")
    assert path.read_text() == "new"


@pytest.mark.parametrize(
    ("asked", "only", "message"),
    [
        ({"html": "nowhere/page.html"}, "", "there is no folder nowhere"),
        ({"out": "."}, "", "a folder itself"),
        ({"md": "x", "junit": "./x"}, "", "name the same file"),
        ({"badge": "b.svg"}, "ratio", "the whole profile"),
    ],
)
def test_a_file_that_cannot_be_is_found_out_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: dict[str, str], only: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        report.destinations(asked, only)
    monkeypatch.setattr(command_line, "check", lambda *_, **__: pytest.fail("it was judged first"))
    options = [word for form, path in asked.items() for word in (f"--{form}", path)]
    assert command_line.main(["check", *options, *(["--only", only] if only else [])]) == 2


def test_a_disk_that_is_full_is_no_mismatch(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = check({"ratio": synthetic.ratio}, data=data)
    paths = report.destinations({"md": tmp_path / "r.md"}, "")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(report.ReportError, match="r.md cannot be written: No space left"):
        report.write_all(paths, run, ORIGIN)


def test_the_command_line_writes_every_form(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run = check({"ratio": lambda old_log_prob, new_log_prob: new_log_prob}, data=data)
    monkeypatch.setattr(command_line, "check", lambda *_, **__: run)
    options = [word for form in report.FORMS for word in (f"--{form}", f"report.{form}")]
    assert command_line.main(["check", *options]) == 1
    assert capsys.readouterr().out == "".join(f"{line}\n" for line in report.terminal(run))
    assert report.read_json_lines((tmp_path / "report.out").read_bytes()).counts["wrong"] == 2
    starts = {"junit": "<?xml", "html": "<!doctype html>", "md": "# dict against refpg vectors", "badge": "<svg"}
    for form, start in starts.items():
        assert (tmp_path / f"report.{form}").read_text(encoding="utf-8").startswith(start)


def test_every_verdict_has_words() -> None:
    assert set(WORDS) == set(Verdict)
