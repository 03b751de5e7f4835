"""The report for continuous integration: JUnit's XML, as its common readers understand it.

One test suite per profile, one test case per verdict: wrong and imprecise answers are failures, what could not be
judged is an error, what was not executed or is waived is skipped with its reason.  Waivers are a test suite of their
own, in which a stale one is a failure.  Nothing is timed; the same run gives the same bytes.
"""

from collections.abc import Iterable, Iterator, Sequence
from xml.sax.saxutils import escape, quoteattr

from refpg.conformance.ops import OPS
from refpg.conformance.report.record import RED, Origin, named, pairs, plain, plain_lines, reproduced, times, waived
from refpg.conformance.report.terminal import mismatch
from refpg.conformance.run import Run
from refpg.conformance.verdicts import Outcome, Verdict


def junit(run: Run, origin: Origin) -> str:
    """Return the report as JUnit's XML.

    Parameters
    ----------
    run : Run
        A finished check.
    origin : Origin
        When and where it was made.

    Returns
    -------
    str
    """
    of_profiles = [_tally(run, profile) for profile in run.profiles]
    of_waivers = (len(run.waivers), len(run.stale), 0, 0)
    whole = [sum(numbers) for numbers in zip(*of_profiles, of_waivers, strict=True)]
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f"<testsuites{_counts(*whole)}>"]
    for profile, tally in zip(run.profiles, of_profiles, strict=True):
        cases = [_testcase(run, i, outcome) for i, outcome in enumerate(run.outcomes) if _is_of(outcome, profile)]
        lines += _suite(run, origin, profile, tally, cases)
    if run.waivers:
        lines += _suite(run, origin, "waivers", of_waivers, [_waiver(run, name) for name in run.waivers])
    return "\n".join([*lines, "</testsuites>", ""])


def _suite(
    run: Run, origin: Origin, name: str, tally: Sequence[int], cases: Iterable[Iterable[str]]
) -> Iterator[str]:
    number, when = [*run.profiles, "waivers"].index(name), origin.date.removesuffix("Z")
    yield (
        f'<testsuite name="refpg.{name}" package="refpg" id="{number}" hostname="localhost" '
        f'timestamp="{when}"{_counts(*tally)}>'
    )
    yield "<properties>"
    for key, value in {
        "target": run.adapter.target,
        "name": named(run),
        "vectors": run.vectors.release,
        "refpg": origin.refpg,
        "python": origin.python,
        "numpy": origin.numpy,
        "scipy": origin.scipy,
        "platform": origin.platform,
    }.items():
        yield f"<property name={quoteattr(key)} value={quoteattr(plain(value))}/>"
    yield "</properties>"
    for case in cases:
        yield from case
    yield "<system-out></system-out>"
    yield "<system-err></system-err>"
    yield "</testsuite>"


def _testcase(run: Run, i: int, outcome: Outcome) -> Iterator[str]:
    slug = outcome.case.partition("/")[2]
    name = f"{slug} [{pairs(outcome.conventions)}]" if outcome.conventions else slug
    inner = list(_result(run, i, outcome))
    if printed := plain_lines(outcome.printed):
        inner += ["<system-out>", *map(escape, printed), "</system-out>"]
    classname = f"refpg.{OPS[outcome.op].profile}.{outcome.op}"
    start = f'<testcase classname="{classname}" name={quoteattr(name)} time="0"'
    if inner:
        yield f"{start}>"
        yield from inner
        yield "</testcase>"
    else:
        yield f"{start}/>"


def _result(run: Run, i: int, outcome: Outcome) -> Iterator[str]:
    if outcome.verdict in RED:
        diagnosis = run.diagnoses.get(i)
        message = diagnosis.lines[0][1] if diagnosis is not None and diagnosis.lines else times(outcome.worst)
        text = "\n".join(line.rstrip() for line in mismatch(run, i))
        yield (
            f'<failure type="{outcome.verdict.name.lower()}" message={quoteattr(plain(message))}>'
            f"{escape(text)}</failure>"
        )
    elif outcome.verdict is Verdict.HARNESS_ERROR:
        lines = plain_lines(outcome.message) or ["no message"]
        text = "\n".join([*lines, f"reproduce: {reproduced(outcome)}"])
        yield f'<error type="harness" message={quoteattr(lines[-1])}>{escape(text)}</error>'
    elif outcome.verdict is Verdict.WAIVED:
        yield f"<skipped message={quoteattr(f'WAIVED: {plain(waived(run, outcome))}')}/>"
    elif outcome.verdict is not Verdict.CONFORMS:
        yield f"<skipped message={quoteattr(f'{outcome.verdict.value}: {plain(outcome.message)}')}/>"


def _waiver(run: Run, name: str) -> Iterator[str]:
    start = f'<testcase classname="refpg.waivers" name={quoteattr(plain(name))} time="0"'
    if name not in run.stale:
        yield f"{start}/>"
        return
    text = f"remove it: {plain(str(run.waivers[name]))}"
    yield f"{start}>"
    yield f'<failure type="stale" message={quoteattr(plain(run.stale[name]))}>{escape(text)}</failure>'
    yield "</testcase>"


def _is_of(outcome: Outcome, profile: str) -> bool:
    return OPS[outcome.op].profile == profile


def _tally(run: Run, profile: str) -> tuple[int, int, int, int]:
    """Return how many test cases of a profile there are, with failures, errors and what was skipped."""
    verdicts = [outcome.verdict for outcome in run.outcomes if _is_of(outcome, profile)]
    failures = sum(verdict in RED for verdict in verdicts)
    errors = verdicts.count(Verdict.HARNESS_ERROR)
    skipped = len(verdicts) - verdicts.count(Verdict.CONFORMS) - failures - errors
    return len(verdicts), failures, errors, skipped


def _counts(tests: int, failures: int, errors: int, skipped: int) -> str:
    return f' tests="{tests}" failures="{failures}" errors="{errors}" skipped="{skipped}" time="0"'
