"""The inputs of the published cases, and what each is for; one module per profile."""

from typing import Any, NamedTuple


class Case(NamedTuple):
    """One case: ``variants`` are conventions (axis -> value) certified besides the defaults.

    ``op`` and ``slug`` make the permanent id ``op/slug``; ``inputs`` are plain nested Python numbers, exact as they
    stand.  ``algorithms`` are the numbers of the op's textbook algorithms that measure R (all, if none is named): a
    stability case names the stable one alone, and so asks for digits that the naive formula does not have.
    """

    op: str
    slug: str
    title: str
    purpose: str
    inputs: dict[str, Any]
    variants: tuple[dict[str, str], ...] = ()
    rev: int = 1
    algorithms: tuple[int, ...] = ()
