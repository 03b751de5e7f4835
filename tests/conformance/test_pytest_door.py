"""The pytest door: one test per vector, waivers that cannot outlive their cause, and nothing silently green."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from refpg.conformance.adapters import UsageError
from refpg.conformance.testing import SOMETHING, Suite, Waiver, vectors
from refpg.conformance.vectors import load

pytest_plugins = ["pytester"]

RIGHT = """
import numpy as np
from refpg.conformance.testing import Waiver, vectors

class Mine:
    name = "mine"
    def ratio(self, old_log_prob, new_log_prob):
        return np.exp(new_log_prob - old_log_prob)
"""
WRONG = RIGHT.replace("new_log_prob - old_log_prob)", "old_log_prob - new_log_prob)")
CASES = [case.id for case in load(ops=["ratio"]).cases["ratio"]]
ORDINARY = [case.id for case in load(ops=["ratio"]).cases["ratio"] if not case.stability]
TODAY = date(2026, 7, 1)


def run(pytester: pytest.Pytester, source: str, *options: str) -> pytest.RunResult:
    pytester.makepyfile(test_mine=source)
    return pytester.runpytest("-p", "refpg.conformance.pytest_plugin", "-rxs", *options)


def decorated(waive: str = "{}", *, only: str = "ratio", more: str = "", body: str = "pass") -> str:
    return f"""
@vectors(Mine(), only={only!r}, vectors="2026.1", waive={waive}{more})
def test_mine():
    {body}
"""


def waiver(expires: str = "2999-12-31") -> str:
    return f"Waiver('inverted', 'mine#7', {expires!r})"


def test_each_vector_is_a_test_with_its_id(pytester: pytest.Pytester) -> None:
    result = run(pytester, RIGHT + decorated(), "-v")
    for case in ORDINARY:
        result.stdout.fnmatch_lines([f"test_mine.py::test_mine[[]{case}] PASSED*"])
    result.assert_outcomes(passed=len(ORDINARY) + 1, skipped=len(CASES) - len(ORDINARY))
    result.stdout.fnmatch_lines(
        [
            f"refpg: Mine · vectors 2026.1 · every profile · {len(CASES)} cases",
            f"refpg: {len(CASES)} vectors · {len(ORDINARY)} executed · {len(ORDINARY)} conform*",
        ]
    )


def test_a_mistake_is_red_and_named(pytester: pytest.Pytester) -> None:
    result = run(pytester, WRONG + decorated())
    result.assert_outcomes(failed=len(ORDINARY), passed=1, skipped=len(CASES) - len(ORDINARY))
    result.stdout.fnmatch_lines([f"WRONG *{ORDINARY[0]}*", "*DIAGNOSIS*`ratio-inverted`*"])
    result.stdout.fnmatch_lines([f"refpg: {len(CASES)} vectors · {len(ORDINARY)} executed · {len(ORDINARY)} red*"])


def test_the_evidence_of_a_diagnosis_is_that_of_the_whole_run(pytester: pytest.Pytester) -> None:
    result = run(pytester, WRONG + decorated(), "-k", ORDINARY[0])
    result.assert_outcomes(failed=1, deselected=len(CASES))
    result.stdout.fnmatch_lines([f"*so on all {len(ORDINARY)} cases that can tell*"])


def test_what_is_not_answered_is_skipped_with_the_reason(pytester: pytest.Pytester) -> None:
    source = RIGHT + "    unsupported = {'td_errors': 'not in this library'}\n" + decorated(only="td_errors")
    result = run(pytester, source)
    skipped = len(load(ops=["td_errors"]).cases["td_errors"])
    result.assert_outcomes(failed=1, skipped=skipped)
    result.stdout.fnmatch_lines(
        [
            "*nothing was executed, so nothing is known*",
            f"refpg: {skipped} vectors · 0 executed · {skipped} not executed",
            "SKIPPED *not in this library*",
        ]
    )


def test_a_waived_failure_is_an_expected_one(pytester: pytest.Pytester) -> None:
    waive = f"dict.fromkeys({ORDINARY!r}, {waiver()})"
    result = run(pytester, WRONG + decorated(waive))
    result.assert_outcomes(xfailed=len(ORDINARY), passed=1, skipped=len(CASES) - len(ORDINARY))
    result.stdout.fnmatch_lines(["XFAIL *inverted (mine#7, until 2999-12-31)*"])
    result.stdout.fnmatch_lines([f"*{len(ORDINARY)} executed · *{len(ORDINARY)} waived*"])


def test_a_waiver_of_what_conforms_is_red(pytester: pytest.Pytester) -> None:
    result = run(pytester, RIGHT + decorated(f"{{{ORDINARY[0]!r}: {waiver()}}}"))
    result.assert_outcomes(failed=1, passed=len(ORDINARY), skipped=len(CASES) - len(ORDINARY))
    result.stdout.fnmatch_lines([f"STALE WAIVER*{ORDINARY[0]} conforms: remove its waiver*"])


def test_an_expired_waiver_is_red_and_says_what_is_wrong(pytester: pytest.Pytester) -> None:
    result = run(pytester, WRONG + decorated(f"{{{ORDINARY[0]!r}: {waiver('2026-01-31')}}}"), "-k", ORDINARY[0])
    result.assert_outcomes(failed=1, deselected=len(CASES))
    result.stdout.fnmatch_lines(["EXPIRED WAIVER*mine#7*", "*DIAGNOSIS*`ratio-inverted`*"])


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (decorated("{'ratio/fvie': " + waiver() + "}"), "a waiver for 'ratio/fvie', which is not among*"),
        (decorated("{" + repr(ORDINARY[0]) + ": 'why'}"), "*is a str, expected Waiver*"),
        (decorated("{" + repr(ORDINARY[0]) + ": Waiver('', 'mine#7', '2026-12-31')}"), "*reason is ''*"),
        (decorated("{" + repr(ORDINARY[0]) + ": Waiver('why', 'mine#7', 'soon')}"), "*expires is 'soon'*"),
        (decorated(only="raito"), "*did you mean ratio*"),
        (decorated(more=", profile='pop'"), "*there is no profile 'pop'*"),
        (decorated().replace("2026.1", "2025.9"), "*no release '2025.9'*installed: 2026.1*"),
        (decorated().replace("test_mine():", "test_mine(vector):"), "*call it otherwise*"),
        (decorated().replace(' vectors="2026.1",', ""), "*missing 1 required keyword-only argument: 'vectors'"),
    ],
)
def test_what_makes_no_sense_ends_the_collection(pytester: pytest.Pytester, source: str, words: str) -> None:
    result = run(pytester, RIGHT + source)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*{words}"])
    assert result.ret == pytest.ExitCode.INTERRUPTED


def test_the_function_keeps_its_fixtures_and_its_class_and_its_body_counts(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        RIGHT
        + """
class TestMine:
    @vectors(Mine(), only="ratio", vectors="2026.1")
    def test_it(self, tmp_path, record_property):
        '''One line.'''
        assert tmp_path.is_dir() and isinstance(self, TestMine)
        record_property("mine", 1)

@vectors(Mine(), only="ratio", vectors="2026.1")
def test_body():
    raise RuntimeError("the body is run")
""",
    )
    skipped = 2 * (len(CASES) - len(ORDINARY))
    result.assert_outcomes(passed=len(ORDINARY) + 1, failed=len(ORDINARY) + 1, skipped=skipped)
    result.stdout.fnmatch_lines(["*RuntimeError: the body is run*"])


def test_a_file_is_served_and_may_crash(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(crashes="import os\n\ndef ratio(old_log_prob, new_log_prob):\n    os._exit(5)\n")
    path = str(pytester.path / "crashes.py")
    result = run(pytester, RIGHT + decorated().replace("Mine()", repr(path)))
    result.assert_outcomes(failed=len(ORDINARY), passed=1, skipped=len(CASES) - len(ORDINARY))
    result.stdout.fnmatch_lines(["HARNESS*ratio/*", "*the process ended with exit code 5*"])


def test_nothing_is_printed_where_refpg_is_not_used(pytester: pytest.Pytester) -> None:
    result = run(pytester, "def test_nothing():\n    pass\n")
    result.assert_outcomes(passed=1)
    assert "refpg:" not in result.stdout.str()


def test_the_plugin_alone_imports_nothing_heavy(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import sys\ndef test_it():\n    assert 'refpg.conformance.run' not in sys.modules\n")
    result = pytester.runpytest_subprocess("-p", "refpg.conformance.pytest_plugin")
    result.assert_outcomes(passed=1)


# How a test ends, without pytest around it.


def settled(target: Any, case: str, waive: dict[str, Waiver], today: date = TODAY) -> tuple[str, str]:
    suite = Suite(target, waive, profiles=(), only="ratio", release="2026.1")
    return suite.settle(case, today)


def wrong(old_log_prob: Any, new_log_prob: Any) -> Any:
    return new_log_prob


def test_a_waiver_holds_on_its_last_day_and_not_on_the_next() -> None:
    excuse = {ORDINARY[0]: Waiver("why", "mine#7", "2026-07-01")}
    assert settled({"ratio": wrong}, ORDINARY[0], excuse)[0] == "waived"
    assert settled({"ratio": wrong}, ORDINARY[0], excuse, date(2026, 7, 2))[0] == "failed"


def test_a_waiver_excuses_no_other_case() -> None:
    excuse = {ORDINARY[0]: Waiver("why", "mine#7", "2026-12-31")}
    assert settled({"ratio": wrong}, ORDINARY[1], excuse)[0] == "failed"


def test_a_waiver_of_what_is_not_executed_is_stale() -> None:
    excuse = {ORDINARY[0]: Waiver("why", "mine#7", "2026-12-31")}
    end, text = settled({"unsupported": {"ratio": "no"}}, ORDINARY[0], excuse)
    assert end == "failed"
    assert "STALE WAIVER" in text
    assert "was not executed (no)" in text


def test_a_crash_can_be_waived_and_is_red_otherwise() -> None:
    def crash(old_log_prob: Any, new_log_prob: Any) -> Any:
        raise ZeroDivisionError

    excuse = {ORDINARY[0]: Waiver("why", "mine#7", "2026-12-31")}
    assert settled({"ratio": crash}, ORDINARY[0], excuse)[0] == "waived"
    assert settled({"ratio": crash}, ORDINARY[1], excuse)[0] == "failed"


def test_nothing_executed_is_red_and_something_is_not() -> None:
    assert settled({}, SOMETHING, {})[0] == "failed"
    assert settled({"ratio": wrong}, SOMETHING, {})[0] == "passed"


def test_this_installation_under_every_convention() -> None:
    """A case with several certified answers is one test, which all of them must pass."""
    suite = Suite(None, {}, profiles=(), only="normalize_advantages", release="2026.1")
    assert len(suite.run.outcomes) > len(suite.cases)
    assert {suite.settle(case, TODAY).end for case in suite.cases} == {"passed"}


def test_a_generator_of_tests_is_named_after_the_function() -> None:
    @vectors({"ratio": wrong}, only="ratio", vectors="2026.1")
    def test_named() -> None:
        """Said."""

    assert (test_named.__name__, test_named.__doc__) == ("test_named", "Said.")
    with pytest.raises(UsageError, match="no op of the profiles"):
        vectors({}, only="ratio", vectors="2026.1", profile=("trpo",))


def test_the_door_is_registered() -> None:
    setup = (Path(__file__).parents[2] / "setup.cfg").read_text(encoding="utf-8")
    assert "pytest11 =\n    refpg.conformance.pytest_plugin = refpg.conformance.pytest_plugin" in setup
