"""The report for continuous integration: JUnit's XML, as its common readers understand it.

One test suite per profile, one test case per verdict: wrong and imprecise answers are failures, what could not be
judged is an error, what was not executed is skipped with its reason.  Nothing is timed; the same run gives the same
bytes.
"""

from collections.abc import Collection, Iterator
from xml.sax.saxutils import escape, quoteattr

from refpg.conformance.ops import OPS
from refpg.conformance.report.record import RED, Origin, named, pairs, plain, plain_lines, times
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
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f"<testsuites{_counts(run, run.profiles)}>"]
    for number, profile in enumerate(run.profiles):
        lines += _suite(run, origin, number, profile)
    return "\n".join([*lines, "</testsuites>", ""])


def _suite(run: Run, origin: Origin, number: int, profile: str) -> Iterator[str]:
    when = origin.date.removesuffix("Z")
    yield (
        f'<testsuite name="refpg.{profile}" package="refpg" id="{number}" hostname="localhost" '
        f'timestamp="{when}"{_counts(run, [profile])}>'
    )
    yield "<properties>"
    for name, value in {
        "target": run.adapter.target,
        "name": named(run),
        "vectors": run.vectors.release,
        "refpg": origin.refpg,
        "python": origin.python,
        "numpy": origin.numpy,
        "scipy": origin.scipy,
        "platform": origin.platform,
    }.items():
        yield f"<property name={quoteattr(name)} value={quoteattr(plain(value))}/>"
    yield "</properties>"
    for i, outcome in enumerate(run.outcomes):
        if OPS[outcome.op].profile == profile:
            yield from _testcase(run, i, outcome)
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
        text = "\n".join([*lines, f"reproduce: refpg show {outcome.case} --as python"])
        yield f'<error type="harness" message={quoteattr(lines[-1])}>{escape(text)}</error>'
    elif outcome.verdict is not Verdict.CONFORMS:
        yield f"<skipped message={quoteattr(f'{outcome.verdict.value}: {plain(outcome.message)}')}/>"


def _counts(run: Run, profiles: Collection[str]) -> str:
    verdicts = [outcome.verdict for outcome in run.outcomes if OPS[outcome.op].profile in profiles]
    failures = sum(verdict in RED for verdict in verdicts)
    errors = verdicts.count(Verdict.HARNESS_ERROR)
    skipped = len(verdicts) - verdicts.count(Verdict.CONFORMS) - failures - errors
    return f' tests="{len(verdicts)}" failures="{failures}" errors="{errors}" skipped="{skipped}" time="0"'
