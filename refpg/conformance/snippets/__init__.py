"""A case as text to paste: its inputs, the certified answer and the tolerance, in several languages.

    content     what every language says: the heading, the answer and how far it may be off, brackets and rows
    plain       JSON, with everything there is to know of the case
    python      a script that runs as it is, with NumPy and refpg
    c           C99: a constant and a function that compares
    rust        a module with constants and a function that compares
    javascript  a constant with a method that compares
    julia       a module with a function that compares

A number is the shortest decimal that reads back as the same float64.  Nothing of a snippet needs refpg, but for the
script, which shows refpg's own answer where yours is to be put.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from refpg.conformance.adapters import UsageError, nearest
from refpg.conformance.ops import OPS
from refpg.conformance.snippets.c import c
from refpg.conformance.snippets.javascript import javascript
from refpg.conformance.snippets.julia import julia
from refpg.conformance.snippets.plain import plain
from refpg.conformance.snippets.python import python
from refpg.conformance.snippets.rust import rust
from refpg.conformance.vectors import Case, Vectors

__all__ = ["LANGUAGES", "declared", "snippet"]

LANGUAGES: Mapping[str, Callable[[Case, Vectors], str]] = {
    "python": python,
    "json": plain,
    "rust": rust,
    "julia": julia,
    "c": c,
    "javascript": javascript,
}


def declared(case: Case, vectors: Vectors, conventions: Mapping[str, str]) -> Case:
    """Return a case whose first certified answer, the one that is written, is that of the conventions.

    Parameters
    ----------
    case : Case
        The case.
    vectors : Vectors
        The release it is of.
    conventions : mapping
        Axis → value, as `refpg.conformance.presets.chosen` returns them; what is no axis of the op changes nothing.

    Returns
    -------
    Case

    Raises
    ------
    UsageError
        If the case has no certified answer under them.
    """
    of_op = {axis: value for axis, value in conventions.items() if axis in OPS[case.op].conventions}
    entry = case.under({axis: value for axis, value in of_op.items() if value != vectors.axes[axis].default})
    if entry is None:
        asked = ", ".join(f"{axis} = {value}" for axis, value in of_op.items())
        known = " or ".join(
            ", ".join(f"{axis} = {value}" for axis, value in one.conventions.items()) or "the defaults"
            for one in case.expected
        )
        raise UsageError(f"{case.id} has no certified answer under {asked}, only under {known}")
    return replace(case, expected=(entry, *(one for one in case.expected if one is not entry)))


def snippet(case: Case, vectors: Vectors, language: str) -> str:
    """Return a case as text to paste.

    Parameters
    ----------
    case : Case
        The case.
    vectors : Vectors
        The release it is of.
    language : str
        A key of ``LANGUAGES``.

    Returns
    -------
    str

    Raises
    ------
    UsageError
        If there is no such language.

    Examples
    --------
    >>> from refpg.conformance.vectors import load
    >>> vectors = load(ops=["expected_improvement"])
    >>> print(snippet(vectors.cases["expected_improvement"][0], vectors, "c").splitlines()[4])
    #include <math.h>
    """
    if language not in LANGUAGES:
        close = nearest(language, LANGUAGES)
        raise UsageError(f"snippet: no case is written in {language!r}{close}, expected {', '.join(LANGUAGES)}")
    return LANGUAGES[language](case, vectors)
