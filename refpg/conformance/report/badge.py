"""The badge: how many cases of the whole profile conform, whatever was asked, tried or left out.

The colour says more than the number::

    green    the whole profile conforms
    blue     whatever was executed conforms, but not all of the profile was executed, or a known failure is waived
    red      something is wrong or imprecise, a waiver is stale, or the check did not end as it should
    grey     nothing was executed
"""

from html import escape

from refpg.conformance.ops import PROFILES
from refpg.conformance.report.record import dtypes_of, named
from refpg.conformance.run import HARNESS, MISMATCH, NOTHING_EXECUTED, USAGE, Run

GREEN, BLUE, RED, GREY = "#2c7a4b", "#2f6690", "#b3372e", "#63686f"

# How far a character moves the pen, in eleventh parts of a pixel at 11 pixels: rounded up from common sans-serif
# fonts.  The browser is told the sum, so that no font can make the text leave its field.
_NARROW, _USUAL, _WIDE = 42, 72, 102
_PAD = 7


def badge(run: Run) -> str:
    """Return the badge as an SVG.

    Parameters
    ----------
    run : Run
        A finished check, not narrowed to some ops: the denominator is the whole profile.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If the run was narrowed.
    """
    if run.only:
        raise ValueError(f"badge: the run was narrowed to {run.only}; the denominator is the whole profile")
    count = run.counts()
    profiles = "" if run.profiles == PROFILES else f" {', '.join(run.profiles)}"
    dtypes = "" if dtypes_of(run) == "float64" else f" {dtypes_of(run)}"
    label = f"refpg {run.vectors.release}{profiles}{dtypes}"
    waived = f", {count['waived']} waived" if count["waived"] else ""
    message = f"{count['conforms']} of {count['in_profile']} conform{waived}"
    title = f"{named(run)}: {message}, {count['executed']} executed ({label})"
    colour, left, right = _colour(run), _width(label), _width(message)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" '
            f'aria-label="{escape(title)}">',
            f"<title>{escape(title)}</title>",
            f'<rect width="{left + right}" height="20" rx="4" fill="#3b3f46"/>',
            f'<path d="M{left} 0h{right - 4}a4 4 0 0 1 4 4v12a4 4 0 0 1-4 4H{left}z" fill="{colour}"/>',
            '<g fill="#fff" font-family="Verdana,DejaVu Sans,Geneva,sans-serif" font-size="11">',
            f'<text x="{_PAD}" y="14" textLength="{left - 2 * _PAD}">{escape(label)}</text>',
            f'<text x="{left + _PAD}" y="14" textLength="{right - 2 * _PAD}">{escape(message)}</text>',
            "</g>",
            "</svg>",
            "",
        ]
    )


def _colour(run: Run) -> str:
    if run.exit_code in (MISMATCH, USAGE, HARNESS):
        return RED
    if run.exit_code == NOTHING_EXECUTED:
        return GREY
    return GREEN if run.counts()["conforms"] == len(run.outcomes) else BLUE


def _width(text: str) -> int:
    """Return the width of a field: that of its text, and room at both ends."""
    pen = sum(_NARROW if c in " .,fijlrtI|" else _WIDE if c in "mwMW" else _USUAL for c in text)
    return round(pen / 11) + 2 * _PAD
