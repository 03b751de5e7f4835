"""All laws as the tests of an adapter: a class for pytest."""

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, ClassVar

from hypothesis import HealthCheck, given, settings

from refpg.conformance.adapters import UsageError
from refpg.conformance.laws.answers import Answers, Unanswerable
from refpg.conformance.laws.law import LAWS, Law
from refpg.conformance.strategies import inputs


class Suite:
    """Every law as a test of an adapter; derive from it in a file that pytest collects.

    ::

        class TestMine(laws.Suite):
            adapter = my_module

    Attributes of the class: ``adapter``, anything the judge accepts; ``dtype``, to judge by another precision than the
    adapter declares; ``only``, names of laws or subjects, all unless given; ``max_examples`` per law and family.

    For a law whose ops the adapter does not have nothing is drawn: one skipped test of each subject counts such laws,
    each family of a law once, by the first op that is missing.  The tests are made anew for each class, for a test
    with ``@given`` must not be inherited by two; they run without a deadline.
    """

    adapter: ClassVar[Any] = None
    dtype: ClassVar[str | None] = None
    only: ClassVar[tuple[str, ...]] = ()
    max_examples: ClassVar[int] = 50
    _made: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        unknown = set(cls.only) - set(LAWS) - {law.subject for law in LAWS.values()}
        if unknown:
            raise UsageError(f"{cls.__name__}.only names {', '.join(sorted(unknown))}, neither laws nor subjects")
        chosen = [law for law in LAWS.values() if not cls.only or {law.name, law.subject} & set(cls.only)]
        answers = Answers.of(vars(cls).get("adapter", cls.adapter), dtype=cls.dtype)
        tests: dict[str, _Test] = {}
        untried: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for law in chosen:
            for variant in law.variants:
                if reason := answers.missing(law.ops_of(variant)):
                    untried[law.subject][reason] += 1
                else:
                    name = f"test_{law.name}" + (f"_{variant}" if variant else "")
                    tests[name] = _test(answers, law, variant, cls.max_examples)
        for subject, reasons in untried.items():
            tests[f"test_untried_{subject}"] = _untried(subject, reasons)
        # What is inherited is about the adapter of another class: None hides it from pytest.
        for name in cls._made:
            setattr(cls, name, None)
        for name, test in tests.items():
            test.__name__, test.__qualname__ = name, f"{cls.__qualname__}.{name}"
            setattr(cls, name, test)
        cls._made = tuple(tests)


_Test = Callable[[Suite], None]


def _test(answers: Answers, law: Law, variant: str, max_examples: int) -> _Test:
    @settings(max_examples=max_examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(drawn=inputs(law, variant))
    def body(self: Suite, drawn: dict[str, Any]) -> None:
        example = law.broken(answers, drawn, variant)
        if example is not None:
            raise AssertionError(str(example))

    body.__doc__ = law.statement
    return body


def _untried(subject: str, reasons: Counter[str]) -> _Test:
    laws = f"{reasons.total()} law{'s' * (reasons.total() > 1)} of {subject} not tried"
    counted = ", ".join(f"{reason} ({count})" for reason, count in reasons.items())

    def body(self: Suite) -> None:
        raise Unanswerable(f"{laws}; {counted}")

    return body
