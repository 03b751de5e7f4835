"""Known mistakes of real implementations, evaluated in balls; one module per profile."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Mistake(NamedTuple):
    """One bug of the catalogue in one op: ``answer(inputs, conventions)`` is what the mistaken code returns."""

    bug: str
    op: str
    answer: Callable[[dict[str, Any], dict[str, str]], dict[str, Any]]
