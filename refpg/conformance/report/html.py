"""The report as a page for a browser: one file, nothing loaded from elsewhere, whole without a script.

First what was judged and how it stands, over the whole profile; then what was found; then every case that was
executed; then what was not.  Every text goes through `_text`, and a content security policy stands behind it.
"""

import base64
import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path

import numpy as np

from refpg.conformance.ops import OPS
from refpg.conformance.report.record import (
    FAILED,
    NOT_EXECUTED,
    Entry,
    Finding,
    Origin,
    conventions_of,
    dtypes_of,
    entry,
    explained,
    findings,
    named,
    pairs,
    plain,
    plain_lines,
    plural,
    reproduced,
    times,
    vectors_of,
    waived,
)
from refpg.conformance.run import Run
from refpg.conformance.vectors import Case, Expected
from refpg.conformance.verdicts import CALLED, Comparison, Outcome, Verdict, entry_errors

_STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
_SCRIPT = (Path(__file__).parent / "page.js").read_text(encoding="utf-8")

_LEAST_DECADE = -4
_MOST_DECADE = 18

# What a verdict is called beside a number of cases, and what it means.
WORDS = {
    Verdict.CONFORMS: ("conform", "Every number is within its tolerance of the certified one."),
    Verdict.WRONG: ("wrong", "A number is wrong: fewer than half of its digits agree, or a known mistake explains it."),
    Verdict.IMPRECISE: ("imprecise", "More than half of the digits are right, but fewer than ordinary code has."),
    Verdict.HARNESS_ERROR: (
        "could not be judged",
        "The implementation crashed, hung, changed its inputs, or returned something else than an answer.",
    ),
    Verdict.WAIVED: ("waived", "A known failure, excused for a time, with a reason. It does not conform."),
    Verdict.UNSUPPORTED: ("unsupported", "The implementation says that it has no answer, and why."),
    Verdict.UNDECLARED: ("undeclared", "Neither implemented nor declared unsupported."),
    Verdict.NOT_ASKED: ("not asked", "A stability case, of which only carefully arranged code has the digits."),
    Verdict.NOT_RESOLVED: ("not resolved", "In the precision declared, the case cannot tell right from wrong."),
    Verdict.NO_EXPECTED: ("without an expected value", "Nothing is certified under the conventions declared."),
}


def html(run: Run, origin: Origin) -> str:
    """Return the report as a page.

    Parameters
    ----------
    run : Run
        A finished check.
    origin : Origin
        When and where it was made.

    Returns
    -------
    str
        HTML that needs no other file.
    """
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'"
    scale = _Scale(run)
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}; form-action \'none\'">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{_text(named(run))} · refpg {run.vectors.release}</title>",
            f"<style>\n{_STYLE}</style>",
            "</head>",
            f'<body style="--tolerance:{scale.place(1.0)}">',
            '<a class="skip" href="#findings">Skip to the findings</a>',
            '<div class="sheet">',
            *_head(run, origin),
            "<main>",
            *_findings(run),
            *_operations(run, scale),
            *_not_executed(run),
            *_reading(run, scale),
            "</main>",
            *_foot(run, origin),
            "</div>",
            f"<script>{_SCRIPT}</script>",
            "</body>",
            "</html>",
            "",
        ]
    )


def _text(text: str) -> str:
    return escape(plain(text))


def _code(text: str) -> str:
    return f"<code>{_text(text)}</code>"


def _prose(text: str) -> str:
    """Return a text in which backticks mean code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", _text(text))


def _pre(lines: Iterable[str]) -> str:
    return f"<pre>{chr(10).join(map(_text, lines))}</pre>"


def _list(kind: str, facts: Iterable[tuple[str, str]]) -> str:
    """Return labels and what belongs to them, which is HTML already; those without anything are left out."""
    rows = "".join(f"<div><dt>{label}</dt><dd>{what}</dd></div>" for label, what in facts if what)
    return f'<dl class="{kind}">{rows}</dl>'


class _Scale:
    """One logarithmic scale for all errors of a run, in tolerances."""

    def __init__(self, run: Run) -> None:
        errors = [outcome.worst for outcome in run.outcomes if 1 < outcome.worst < math.inf]
        decades = math.ceil(math.log10(max(errors, default=1.0)))
        self.most = min(max(2, decades + 1), _MOST_DECADE)

    def place(self, worst: float) -> str:
        """Return where an error is, from left to right, in percent."""
        if worst == 0:
            return "0%"
        decade = math.log10(worst) if math.isfinite(worst) else self.most
        share = (decade - _LEAST_DECADE) / (self.most - _LEAST_DECADE)
        return f"{100 * min(max(share, 0.0), 1.0):.1f}%"

    def bar(self, worst: float, kind: str) -> str:
        """Return the bar of an error."""
        label = times(worst) if math.isfinite(worst) else "not a number within any tolerance"
        exact = " none" if worst == 0 else ""
        return (
            f'<span class="bar {kind}{exact}" role="img" aria-label="{label}" style="--at:{self.place(worst)}">'
            "<i></i><b></b></span>"
        )


# How it stands.


def _head(run: Run, origin: Origin) -> Iterator[str]:
    yield "<header>"
    yield '<p class="mark">refpg conformance report</p>'
    yield f"<h1>{_text(named(run))}</h1>"
    yield f'<p class="said">{_standing(run)}</p>'
    yield from _whole(run)
    for note in run.adapter.notes:
        yield f'<p class="note soft">{_text(note)}</p>'
    narrowed = f", narrowed to {_code(run.only)}" if run.only else ""
    yield _list(
        "facts",
        [
            ("Judged", _code(run.adapter.target)),
            ("Vectors", f"{_text(vectors_of(run))}<br>{_code(run.vectors.index[:16])}"),
            ("Profiles", _text(", ".join(run.profiles)) + narrowed),
            ("Precision", _text(dtypes_of(run))),
            ("Conventions", _text(conventions_of(run))),
            ("Date", _text(origin.date.replace("T", " ").replace("Z", " UTC"))),
            ("Judge", f"refpg {_text(origin.refpg)}, NumPy {_text(origin.numpy)}, SciPy {_text(origin.scipy)}"),
            ("Machine", f"{_text(origin.platform)}, Python {_text(origin.python)}"),
            ("Exit code", str(run.exit_code)),
        ],
    )
    yield (
        '<nav aria-label="Contents"><ul><li><a href="#findings">What was found</a></li>'
        '<li><a href="#executed">Every case executed</a></li><li><a href="#not-executed">Not executed</a></li>'
        '<li><a href="#reading">How to read this</a></li></ul></nav>'
    )
    yield "</header>"


def _standing(run: Run) -> str:
    """Return how it stands: of what was executed, why, and of the whole."""
    count = run.counts()
    executed, whole = count["executed"], count["in_profile"]
    kinds = {"wrong": "wrong", "imprecise": "imprecise", "harness_error": "that could not be judged"}
    bad = [
        f'<strong class="{kind}">{count[kind]}</strong> {words}'
        for kind, words in kinds.items()
        if count[kind]
    ]
    if not executed:
        said = ["<strong>Nothing was executed.</strong>"]
    elif bad:
        listed = bad[0] if len(bad) == 1 else f"{', '.join(bad[:-1])} and {bad[-1]}"
        said = [f"Of {plural(executed, 'case')} executed: {listed}.", _causes(run)]
    else:
        said = [f'<strong class="conforms">{executed}</strong> of {plural(executed, "case")} executed conform.']
    whole_is = "the selected cases" if run.only else "the whole profile"
    if run.stale:
        said.append(f'<strong class="wrong">{plural(len(run.stale), "waiver")}</strong> must be removed.')
    if count["waived"]:
        said.append(f'<strong class="waived">{count["waived"]}</strong> waived.')
    if count["conforms"] == whole > 0 and not run.stale:
        return f'<strong class="conforms">All {whole}</strong> answers conform: {whole_is}.'
    return " ".join([*filter(None, said), f"Of {whole_is}, {count['conforms']} of {whole} conform."])


def _causes(run: Run) -> str:
    """Return how many causes explain how many of the failures."""
    whole = explained(run)
    return f"{whole}." if whole.causes else ""


def _whole(run: Run) -> Iterator[str]:
    count = run.counts()
    there = [(verdict, count[verdict.name.lower()]) for verdict in WORDS if count[verdict.name.lower()]]
    said = ", ".join(f"{number} {WORDS[verdict][0]}" for verdict, number in there)
    yield '<figure class="whole">'
    yield f'<div class="track" role="img" aria-label="{count["in_profile"]} in profile: {said}">'
    for verdict, number in there:
        yield f'<i class="{_kind(verdict)}" style="flex:{number}"></i>'
    yield "</div>"
    yield "<figcaption><ul>"
    for verdict, number in there:
        kind = _kind(verdict)
        yield f'<li class="{kind}"><i class="{kind}"></i><span>{number} {WORDS[verdict][0]}</span></li>'
    yield "</ul></figcaption></figure>"


def _kind(verdict: Verdict) -> str:
    return verdict.name.lower() if verdict in CALLED else "idle"


# What was found.


def _findings(run: Run) -> Iterator[str]:
    yield '<section aria-labelledby="findings">'
    yield '<h2 id="findings">What was found</h2>'
    found = findings(run)
    told = {i for finding in found for i in finding.positions}
    for finding in found:
        yield from {"bug": _bug, "crash": _crash}.get(finding.kind, _other)(run, finding)
    unexplained = [i for i, o in enumerate(run.outcomes) if o.verdict in FAILED and i not in told]
    if unexplained:
        kind = "wrong" if any(run.outcomes[i].verdict is Verdict.WRONG for i in unexplained) else "imprecise"
        yield f'<article class="finding {kind}">'
        yield "<h3>Without a certain cause</h3>"
        yield _list("told wide", [(_link(run, i), _first_line(run, i)) for i in unexplained])
        yield "</article>"
    excused = [i for i, outcome in enumerate(run.outcomes) if outcome.verdict is Verdict.WAIVED]
    if not (found or unexplained or excused or run.stale):
        said = "Every answer that was given conforms." if run.counts()["executed"] else "No answer was given."
        yield f'<p class="calm">{said}</p>'
    if run.stale:
        yield '<article class="finding wrong">'
        yield "<h3>Waivers of what does not fail</h3>"
        what = [(_code(name), _text(f"{why}; {run.waivers[name]}")) for name, why in run.stale.items()]
        yield _list("told wide", what)
        yield "</article>"
    if excused:
        yield '<article class="finding waived">'
        yield "<h3>What is waived</h3>"
        yield _list("told wide", [(_link(run, i), _text(waived(run, run.outcomes[i]))) for i in excused])
        yield "</article>"
    yield "</section>"


def _bug(run: Run, finding: Finding) -> Iterator[str]:
    bug = run.vectors.bugs[finding.name]
    yield '<article class="finding wrong">'
    yield f"<h3>{_text(bug.title)}</h3>"
    yield f'<p class="soft">{_code(finding.name)} · {_count(run, finding)}</p>'
    yield _list(
        "told",
        [
            ("computed", _text(bug.wrong)),
            ("should be", _text(bug.right)),
            ("effect", _text(bug.effect)),
            ("hint", _text(bug.hint)),
            ("seen in", _text(", ".join(bug.evidence))),
            ("first number", _example(run, finding.positions[0])),
            ("cases", _links(run, finding.positions)),
            ("explain", _code(f"refpg explain {finding.name}")),
        ],
    )
    yield "</article>"


def _other(run: Run, finding: Finding) -> Iterator[str]:
    """Yield another convention, two causes at once, a structure or a violated law, in the words of the diagnosis."""
    first = finding.positions[0]
    kind = "imprecise" if finding.kind == "convention" else "wrong"
    title = f"a simple structure in `{finding.op}`" if finding.kind == "structure" else finding.titled(run)
    yield f'<article class="finding {kind}">'
    yield f"<h3>{_prose(title[0].upper() + title[1:])}</h3>"
    yield f'<p class="soft">{_count(run, finding)}</p>'
    told = [(_text(label).lower(), _prose(text)) for label, text in run.diagnoses[first].lines]
    yield _list("told", [*told, ("first number", _example(run, first)), ("cases", _links(run, finding.positions))])
    yield "</article>"


def _crash(run: Run, finding: Finding) -> Iterator[str]:
    yield '<article class="finding harness_error">'
    yield f"<h3>{_code(finding.op)} could not be judged</h3>"
    yield f'<p class="soft">{_count(run, finding)}</p>'
    yield _list("told", [("reason", _text(finding.name)), ("cases", _links(run, finding.positions))])
    yield "</article>"


def _count(run: Run, finding: Finding) -> str:
    ops = list(dict.fromkeys(run.outcomes[i].op for i in finding.positions))
    noun = "case" if finding.kind == "crash" else "answer"
    return f"{plural(len(finding.positions), noun)} of {', '.join(map(_code, ops))}"


def _first_line(run: Run, i: int) -> str:
    diagnosis = run.diagnoses.get(i)
    return _prose(diagnosis.lines[0][1]) if diagnosis is not None and diagnosis.lines else times(run.outcomes[i].worst)


def _example(run: Run, i: int) -> str:
    """Return the first wrong number of an answer, beside the certified one."""
    outcome = run.outcomes[i]
    for comparison in outcome.comparisons:
        if comparison.worst > 1 and not comparison.same_shape:
            return f"{_code(comparison.path)}: shape {comparison.got.shape}, certified {comparison.certified.shape}"
        if comparison.worst > 1:
            index = tuple(int(n) for n in comparison.wrong_entries()[0])
            one = entry(comparison, index, _expected(run, outcome))
            return f"{_code(one.place)} is {_code(one.got)}, certified {_code(one.certified + one.accuracy)}"
    return ""


def _links(run: Run, positions: Iterable[int]) -> str:
    return f'<ul class="links">{"".join(f"<li>{_link(run, i)}</li>" for i in positions)}</ul>'


def _link(run: Run, i: int) -> str:
    outcome = run.outcomes[i]
    under = f" {_text(pairs(outcome.conventions))}" if outcome.conventions else ""
    return f'<a href="#{_text(_anchor(outcome))}">{_code(outcome.case)}{under}</a>'


def _anchor(outcome: Outcome) -> str:
    return ";".join([outcome.case, *(f"{axis}={value}" for axis, value in outcome.conventions.items())])


# Every case executed.


def _operations(run: Run, scale: _Scale) -> Iterator[str]:
    executed = [i for i, outcome in enumerate(run.outcomes) if outcome.verdict in CALLED]
    yield '<section aria-labelledby="executed">'
    yield '<h2 id="executed">Every case executed</h2>'
    if not executed:
        yield '<p class="calm">None.</p>'
    else:
        yield from _filter(run, executed)
    opened = _opened(run)
    for profile in run.profiles:
        of_profile = [i for i in executed if OPS[run.outcomes[i].op].profile == profile]
        if not of_profile:
            continue
        conform = sum(run.outcomes[i].verdict is Verdict.CONFORMS for i in of_profile)
        whole = sum(OPS[outcome.op].profile == profile for outcome in run.outcomes)
        yield f'<div class="profile"><h3>{profile}</h3><span class="soft">{conform} of {whole} conform</span></div>'
        for op in dict.fromkeys(run.outcomes[i].op for i in of_profile):
            yield from _op(run, op, [i for i in of_profile if run.outcomes[i].op == op], scale, opened)
    yield "</section>"


def _filter(run: Run, executed: list[int]) -> Iterator[str]:
    verdicts = [v for v in WORDS if any(run.outcomes[i].verdict is v for i in executed)]
    options = "".join(f'<option value="{_kind(verdict)}">{WORDS[verdict][0]}</option>' for verdict in verdicts)
    yield (
        '<form class="filter" role="search" hidden><label>Case <input type="search" name="words" autocomplete="off">'
        f'</label><label>Verdict <select name="verdict"><option value="">all</option>{options}</select></label>'
        '<output class="soft" aria-live="polite"></output></form>'
    )


def _opened(run: Run) -> set[int]:
    """Return the cases that are open at first: one of each finding, and what no finding explains."""
    again = {i for finding in findings(run) for i in finding.positions[1:]}
    bad = {i for i, outcome in enumerate(run.outcomes) if outcome.verdict in FAILED}
    return bad - again


def _op(run: Run, op: str, positions: list[int], scale: _Scale, opened: set[int]) -> Iterator[str]:
    outcomes = [run.outcomes[i] for i in positions]
    conform = sum(outcome.verdict is Verdict.CONFORMS for outcome in outcomes)
    errors = [outcome.worst for outcome in outcomes if outcome.comparisons]
    worst = max(errors, default=math.nan)
    rest = Counter(outcome.verdict for outcome in run.outcomes if outcome.op == op and outcome.verdict not in CALLED)
    said = ", ".join([f"{conform} of {len(outcomes)} conform", *(f"{n} {WORDS[why][0]}" for why, n in rest.items())])
    bad = [outcome.verdict for outcome in outcomes if outcome.verdict is not Verdict.CONFORMS]
    kind = _kind(Verdict.WRONG if Verdict.WRONG in bad else bad[0] if bad else Verdict.CONFORMS)
    is_open = " open" if opened & set(positions) else ""
    yield f'<details class="op" id="{op}"{is_open}>'
    yield (
        f'<summary><h4><code>{op}</code></h4><span class="{kind}">{said}</span>'
        f"{_worst(worst, kind, scale)}</summary>"
    )
    yield '<div class="inside">'
    yield f'<p class="soft">{_text(OPS[op].summary)} {_text(OPS[op].source)}</p>'
    for i in positions:
        yield from _case(run, i, scale, i in opened)
    yield "</div></details>"


def _worst(worst: float, kind: str, scale: _Scale) -> str:
    if math.isnan(worst):
        return '<span></span><span class="worst"></span>'
    said = "exact" if worst == 0 else f"{worst:.2g} ×" if math.isfinite(worst) else "∞"
    return f'{scale.bar(worst, kind)}<span class="worst">{said}</span>'


def _case(run: Run, i: int, scale: _Scale, is_open: bool) -> Iterator[str]:
    outcome = run.outcomes[i]
    case = run.vectors.case(outcome.case)
    kind = _kind(outcome.verdict)
    slug = outcome.case.partition("/")[2]
    under = f' <span class="under">{_text(pairs(outcome.conventions))}</span>' if outcome.conventions else ""
    worst = outcome.worst if outcome.comparisons else math.nan
    yield f'<details class="case" id="{_text(_anchor(outcome))}" data-verdict="{kind}"{" open" if is_open else ""}>'
    yield (
        f'<summary><span><code>{_text(slug)}</code>{under}</span><span class="chip {kind}">'
        f"{outcome.verdict.value.lower()}</span>{_worst(worst, kind, scale)}</summary>"
    )
    yield '<div class="body">'
    if case is not None:
        yield f"<p>{_text(case.title)}. {_text(case.purpose)}</p>"
    if outcome.comparisons:
        yield from _table(run, outcome, scale)
    if message := plain_lines(outcome.message):
        yield _pre(message)
    lines = run.diagnoses[i].lines if i in run.diagnoses else ()
    told = [(_text(label).lower(), _prose(text)) for label, text in lines]
    if outcome.verdict is Verdict.WAIVED:
        told = [("waived", _text(waived(run, outcome))), *told]
    if outcome.changed:
        told.append(("also", f"the call changed its inputs: {_text(', '.join(outcome.changed))}"))
    command = _code(reproduced(outcome))
    yield _list("told", [*told, *_about(run, outcome, case), ("reproduce", command)])
    if printed := plain_lines(outcome.printed):
        yield '<p class="soft">It printed:</p>'
        yield _pre(printed)
    yield "</div></details>"


def _about(run: Run, outcome: Outcome, case: Case | None) -> list[tuple[str, str]]:
    axes = {axis: run.vectors.axes[axis].default for axis in OPS[outcome.op].conventions}
    facts = [("conventions", _text(pairs(axes | dict(outcome.conventions))))]
    if case is not None:
        dims = ", ".join(f"{letter} = {length}" for letter, length in case.dims.items())
        facts = [("equation", _text(case.reference)), ("dimensions", _text(dims)), *facts]
    return facts


def _expected(run: Run, outcome: Outcome) -> Expected | None:
    case = run.vectors.case(outcome.case)
    return case.under(outcome.conventions) if case is not None else None


def _table(run: Run, outcome: Outcome, scale: _Scale) -> Iterator[str]:
    """Yield a table with the worst number of each array."""
    labels = ("worst number", "got", "certified", "error", "tolerance", "error in tolerances")
    heads = "".join(f'<th scope="col">{label}</th>' for label in labels)
    yield f"<table><thead><tr>{heads}</tr></thead><tbody>"
    expected = _expected(run, outcome)
    for comparison in outcome.comparisons:
        kind = "conforms" if comparison.worst <= 1 else _kind(outcome.verdict)
        if comparison.same_shape and comparison.got.size:
            one, wrong = _worst_entry(comparison, expected), len(comparison.wrong_entries())
            place = _code(one.place)
            if wrong and comparison.got.size > 1:
                place += f'<br><span class="under">{wrong} of {comparison.got.size} wrong</span>'
            values = [_code(one.got), _code(one.certified + one.accuracy), _short(one.error), _short(one.tolerance)]
        else:
            place, shapes = _code(comparison.path), (comparison.got.shape, comparison.certified.shape)
            values = [*(f"shape {_text(str(shape))}" for shape in shapes), "", ""]
        said = f"{comparison.worst:.2g}" if math.isfinite(comparison.worst) else "∞"
        cells = [place, *values, f"<div>{said}{scale.bar(comparison.worst, kind)}</div>"]
        row = "".join(f'<td data-label="{label}">{cell}</td>' for label, cell in zip(labels, cells, strict=True))
        yield f"<tr>{row}</tr>"
    yield "</tbody></table>"


def _short(number: float) -> str:
    return f'<span class="number">{number:.2g}</span>'


def _worst_entry(comparison: Comparison, expected: Expected | None) -> Entry:
    """Return the number with the largest error in tolerances."""
    error = entry_errors(comparison.got, comparison.certified)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(error == 0, 0.0, error / comparison.tolerance)
    index = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    return entry(comparison, tuple(int(n) for n in index), expected)


# What was not executed, and how to read it all.


def _not_executed(run: Run) -> Iterator[str]:
    yield '<section aria-labelledby="not-executed">'
    yield '<h2 id="not-executed">Not executed</h2>'
    left = [outcome for outcome in run.outcomes if outcome.verdict in NOT_EXECUTED]
    groups: dict[tuple[Verdict, str], list[str]] = {}
    for outcome in left:
        groups.setdefault((outcome.verdict, outcome.message), []).append(outcome.op)
    if not left and not run.without_vectors:
        yield '<p class="calm">Every case of the profile was executed.</p>'
    else:
        facts = []
        for (verdict, message), ops in groups.items():
            names = ", ".join(map(_code, dict.fromkeys(ops)))
            facts.append((f"{len(ops)} {WORDS[verdict][0]}", f'{_text(message)}<br><span class="soft">{names}</span>'))
        if run.without_vectors:
            facts.append(("no vectors", ", ".join(map(_code, run.without_vectors))))
        yield _list("told", facts)
    yield "</section>"


def _reading(run: Run, scale: _Scale) -> Iterator[str]:
    yield '<section class="reading" aria-labelledby="reading">'
    yield '<h2 id="reading">How to read this</h2>'
    yield (
        f'<div class="scale">{scale.bar(0.05, "conforms")}</div><p>A bar is logarithmic, from 10<sup>−4</sup> to '
        f"10<sup>{scale.most}</sup> tolerances. The mark is the tolerance, the dot the largest error: left of the mark "
        "conforms, right of it does not. A hollow dot is no error at all.</p>"
    )
    yield (
        "<p>Certified numbers are correctly rounded values of the exact mathematics, each by two independent routes; "
        f"± is how far the truth may be. The tolerance of each number is derived: {_text(run.vectors.policy.text)}</p>"
    )
    yield _list("told", [(WORDS[verdict][0], meaning) for verdict, (_, meaning) in WORDS.items()])
    yield (
        "<p>Counts are over the whole profile: what was not executed does not conform. Beside an operation they "
        "are over the cases executed, and the rest is named. A difference in conventions is not a mistake; declare it, "
        "and other certified numbers apply.</p>"
    )
    yield "</section>"


def _foot(run: Run, origin: Origin) -> Iterator[str]:
    target = "" if run.adapter.under is not None else f" {run.adapter.target}"
    only = f" --only '{run.only}'" if run.only else ""
    yield (
        f"<footer><p>Made by refpg {_text(origin.refpg)}. Run it again: {_code(f'refpg check{target}{only}')}. Kept "
        "with <code>--out run.jsonl</code>, a run is judged again by <code>refpg replay run.jsonl</code>.</p></footer>"
    )
