"""All laws as the tests of an adapter: a class for pytest."""

from collections.abc import Callable
from typing import Any, ClassVar

from hypothesis import HealthCheck, given, settings

from refpg.conformance.adapters import UsageError
from refpg.conformance.laws.answers import Answers, Unanswerable
from refpg.conformance.laws.law import LAWS, Law
from refpg.conformance.laws.search import Counterexample
from refpg.conformance.strategies import inputs


class Suite:
    """Every law as a test of an adapter; derive from it in a file that pytest collects.

    ::

        class TestMine(laws.Suite):
            adapter = my_module

    Attributes of the class: ``adapter``, anything the judge accepts; ``dtype``, to judge by another precision than the
    adapter declares; ``only``, names of laws or subjects, all unless given; ``max_examples`` per law and family.

    A law whose ops the adapter does not have is skipped with the reason.  The tests are made anew for each class, for
    a test with ``@given`` must not be inherited by two; they run without a deadline.
    """

    adapter: ClassVar[Any] = None
    dtype: ClassVar[str | None] = None
    only: ClassVar[tuple[str, ...]] = ()
    max_examples: ClassVar[int] = 50

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        unknown = set(cls.only) - set(LAWS) - {law.subject for law in LAWS.values()}
        if unknown:
            raise UsageError(f"{cls.__name__}.only names {', '.join(sorted(unknown))}, neither laws nor subjects")
        chosen = [law for law in LAWS.values() if not cls.only or {law.name, law.subject} & set(cls.only)]
        answers = Answers.of(vars(cls).get("adapter", cls.adapter), dtype=cls.dtype)
        for law in chosen:
            for variant in law.variants:
                name = f"test_{law.name}" + (f"_{variant}" if variant else "")
                setattr(cls, name, _test(answers, law, variant, cls.max_examples, f"{cls.__qualname__}.{name}"))


def _test(answers: Answers, law: Law, variant: str, max_examples: int, name: str) -> Callable[..., None]:
    import pytest

    @settings(max_examples=max_examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(drawn=inputs(law, variant))
    def body(self: Suite, drawn: dict[str, Any]) -> None:
        residual = law(answers, **drawn)
        if not residual.holds:
            raise AssertionError("\n".join(Counterexample(law, variant, drawn, residual).lines()))

    def test(self: Suite) -> None:
        if reason := answers.missing(law.ops_of(variant)):
            pytest.skip(reason)
        try:
            body(self)
        except Unanswerable as error:
            pytest.skip(str(error))

    test.__name__ = name.rsplit(".", 1)[1]
    test.__qualname__ = name
    test.__doc__ = law.statement
    return test
