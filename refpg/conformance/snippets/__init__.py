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

from refpg.conformance.adapters import UsageError, nearest
from refpg.conformance.snippets.c import c
from refpg.conformance.snippets.javascript import javascript
from refpg.conformance.snippets.julia import julia
from refpg.conformance.snippets.plain import plain
from refpg.conformance.snippets.python import python
from refpg.conformance.snippets.rust import rust
from refpg.conformance.vectors import Case, Vectors

__all__ = ["LANGUAGES", "snippet"]

LANGUAGES: Mapping[str, Callable[[Case, Vectors], str]] = {
    "python": python,
    "json": plain,
    "rust": rust,
    "julia": julia,
    "c": c,
    "javascript": javascript,
}


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
