"""Hypothesis looks for inputs that break a law, and shrinks what it finds.

Everything is reproducible: the search is seeded, keeps no database and watches no clock.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, Verbosity, configuration, given, seed, settings
from hypothesis.errors import Flaky

from refpg.conformance.adapters import UsageError, nearest
from refpg.conformance.laws.answers import Answers, Unanswerable
from refpg.conformance.laws.law import LAWS, Counterexample, Law
from refpg.conformance.strategies import inputs

EXAMPLES = 50
_ATTEMPTS = 100  # to make an example smaller, where somebody waits for a report
_SEARCH = (Phase.generate, Phase.shrink)


class _Broken(AssertionError):
    pass


class _Enough(BaseException):
    """Ends a search at once: hypothesis catches no such thing."""


def check(
    target: Any,
    law: Law | str,
    variant: str | None = None,
    *,
    max_examples: int = EXAMPLES,
    random_seed: int = 0,
    dtype: str | None = None,
    shrink: bool = True,
    attempts: int | None = None,
) -> Counterexample | None:
    """Search for inputs that break a law.

    Parameters
    ----------
    target : Answers, or anything the judge accepts
        The implementation; None is refpg itself.
    law : Law or str
        The law, or its name.
    variant : str, optional
        One family; all that the implementation has unless given.
    max_examples : int
        How many draws to try for each variant.
    random_seed : int
        Of the draws.
    dtype : str, optional
        Judge by this precision, whatever the target declares.
    shrink : bool
        Whether to look for the smallest example.
    attempts : int, optional
        How many smaller examples to try; as many as hypothesis thinks fit unless given.

    Returns
    -------
    Counterexample or None
        None if no draw broke the law.

    Raises
    ------
    UsageError
        If there is no such law or variant.
    Unanswerable
        If the implementation cannot answer what the law asks, in any variant.
    """
    asked = _known(law)
    answers = Answers.of(target, dtype=dtype)
    if variant is not None and variant not in asked.variants:
        raise UsageError(f"check: {asked.name} has no variant {variant!r}{nearest(variant, asked.variants)}")
    tried, reasons = 0, []
    for one in asked.variants if variant is None else (variant,):
        try:
            found = _search(answers, asked, one, max_examples, random_seed, shrink, attempts)
        except Unanswerable as error:
            reasons.append(str(error))
            continue
        tried += 1
        if found is not None:
            return found
    if not tried:
        raise Unanswerable("; ".join(dict.fromkeys(reasons)))
    return None


def violated(functions: Any, op: str, *, max_examples: int = 25) -> Counterexample | None:
    """Return the first law about an op that an implementation breaks, with the smallest example found.

    Parameters
    ----------
    functions : Answers, or anything the judge accepts
        The implementation.
    op : str
        The op whose answers are to be explained; only laws are tried whose other ops are there too.
    max_examples : int
        Draws for each law and variant.

    Returns
    -------
    Counterexample or None
        None if every law that can be tried holds, or the implementation raises an exception.

    Notes
    -----
    Laws about the op alone come first, for what they say is said of this op; a law about several ops says that they
    do not fit together.
    """
    answers = Answers.of(functions)
    with _leaving_no_files():
        for law, variant in concerning(op):
            try:
                found = check(answers, law, variant, max_examples=max_examples, attempts=_ATTEMPTS)
            except Exception:  # another mistake than one of mathematics: the verdict on the vectors reports it
                continue
            if found is not None:
                return found
    return None


@contextlib.contextmanager
def _leaving_no_files() -> Iterator[None]:
    """Keep hypothesis from writing a cache into the working directory: it is given a folder that cannot be one."""
    before = configuration.storage_directory(intent_to_write=False).home_directory
    configuration.set_hypothesis_home_dir(os.devnull)
    try:
        yield
    finally:
        configuration.set_hypothesis_home_dir(before)


def concerning(op: str) -> Iterator[tuple[Law, str]]:
    """Yield the laws about an op with their variants, those about few ops first."""
    concerned = [
        (law, variant) for law in LAWS.values() for variant in law.variants if op in law.ops_of(variant)
    ]
    yield from sorted(concerned, key=lambda pair: len(pair[0].ops))


def _known(law: Law | str) -> Law:
    if isinstance(law, Law):
        return law
    if law not in LAWS:
        raise UsageError(f"there is no law {law!r}{nearest(law, LAWS)}")
    return LAWS[law]


def _search(
    answers: Answers,
    law: Law,
    variant: str,
    max_examples: int,
    random_seed: int,
    shrink: bool,
    attempts: int | None,
) -> Counterexample | None:
    if reason := answers.missing(law.ops_of(variant)):
        raise Unanswerable(reason)
    found: list[Counterexample] = []
    stopped: list[Exception] = []
    left = float("inf") if attempts is None else attempts

    @seed(random_seed)
    @settings(
        max_examples=max_examples,
        database=None,
        deadline=None,
        derandomize=False,
        phases=_SEARCH if shrink else _SEARCH[:1],
        verbosity=Verbosity.quiet,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs(law, variant))
    def run(drawn: dict[str, Any]) -> None:
        nonlocal left
        left -= bool(found)
        if left < 0:
            raise _Enough
        try:
            example = law.broken(answers, drawn, variant)
        except Exception as error:  # not a violation, and nothing to be made smaller
            stopped.append(error)
            raise _Enough from None
        if example is not None:
            found.append(example)
            raise _Broken

    # Flaky: asked the same again, the implementation answered otherwise.  What was seen was seen.
    with np.errstate(all="ignore"), contextlib.suppress(_Broken, Flaky, _Enough):
        run()
    if found:
        return found[-1]
    if stopped:
        raise stopped[0]
    return None
