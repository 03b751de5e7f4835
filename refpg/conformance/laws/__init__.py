"""Laws of policy-gradient mathematics, to be tried on any implementation.

A law relates the answers of one implementation to each other: it needs no certified value, it holds for all inputs,
and when it is broken it says what was violated.  Its tolerance is derived from the magnitudes of what it adds up, by
running error analysis with the factor of the vectors' policy.

    law             what a law is: statement, source, ops, what it kills, what it cannot see; and a counterexample
    rounding        running error analysis: numbers that carry the bound of their error
    ordinary        the margin of each op's answer
    tables          the same for finite MDPs
    answers         an implementation, asked like a function
    families        the six families of distributions, as the laws speak of them
    parameters      arithmetic on the parameters of the contract
    quadrature      integrals with a bound of what is left out
    distributions   laws of log π, entropy, score
    divergence      laws of the KL divergence
    fisher          laws of the Fisher matrix
    surrogate       laws of the ratio and the surrogate
    clip            laws of PPO's clipped objective and its penalty
    losses          laws of value losses and the total objective
    estimation      laws of returns and advantages
    solvers         laws of conjugate gradients and the natural gradient
    step            laws of the trust-region step, the line search, Adam
    networks        laws of the network
    values          laws of finite MDPs: values, visits, the return and its slope
    bounds          laws of divergences between tables and of lower bounds of the return
    sequences       laws of padded sequences of tokens: aggregation, objectives, penalties, rewards, groups
    search          hypothesis looks for a counterexample
    suite           all laws as tests of an adapter

One by one, NumPy alone::

    from refpg.conformance import laws
    laws.ratios_multiply(my_module, old_log_prob=a, new_log_prob=b, other_log_prob=c).holds

In a test, ``require`` says what is wrong: the statement, the error beside its bound, the inputs, what was answered.
An op that the implementation does not have is a skip::

    laws.ratios_multiply.require(my_module, old_log_prob=a, new_log_prob=b, other_log_prob=c)

As a suite, a search, or inside a ``@given`` of one's own, with hypothesis::

    class TestMine(laws.Suite):
        adapter = my_module

    laws.check(my_module, "ratios_multiply")

    @given(strategies.inputs(laws.LAWS["ratios_multiply"]))
    def test_ratios_multiply(drawn):
        laws.ratios_multiply.require(my_module, **drawn)
"""

import importlib
from typing import Any

from refpg.conformance.laws import (
    bounds,
    clip,
    distributions,
    divergence,
    estimation,
    fisher,
    losses,
    networks,
    sequences,
    solvers,
    step,
    surrogate,
    values,
)
from refpg.conformance.laws.answers import Answers, Unanswerable
from refpg.conformance.laws.law import LAWS, Counterexample, Law, Residual

SUBJECTS = (
    networks,
    distributions,
    divergence,
    fisher,
    surrogate,
    clip,
    losses,
    estimation,
    solvers,
    step,
    values,
    bounds,
    sequences,
)

# What needs hypothesis is imported when it is asked for.
_SEARCH = ("check", "concerning", "violated")
_DOORS = {"Suite": "suite"} | dict.fromkeys(_SEARCH, "search")

__all__ = ["LAWS", "SUBJECTS", "Answers", "Counterexample", "Law", "Residual", "Unanswerable", *_DOORS, *LAWS]


def __getattr__(name: str) -> Any:
    if name in _DOORS:
        try:
            module = importlib.import_module(f"refpg.conformance.laws.{_DOORS[name]}")
        except ModuleNotFoundError as error:
            if error.name != "hypothesis":
                raise
            raise ImportError(f"laws.{name} needs hypothesis: pip install 'refpg[test]' adds hypothesis") from None
        return getattr(module, name)
    if name in LAWS:
        return LAWS[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def listing() -> list[dict[str, Any]]:
    """Return the laws as plain data, in the order of their subjects, ready for JSON."""
    return [
        {
            "name": law.name,
            "subject": law.subject,
            "statement": law.statement,
            "source": law.source,
            "ops": list(law.ops),
            "variants": [variant for variant in law.variants if variant],
            "kills": list(law.kills),
            "blind": law.blind,
        }
        for law in ordered()
    ]


def lines() -> list[str]:
    """Return the laws for a person: by subject, what each states, needs and is blind to."""
    text: list[str] = []
    for entry in listing():
        if f"{entry['subject']}:" not in text:
            text += ["", f"{entry['subject']}:"] if text else [f"{entry['subject']}:"]
        families = f"  ({', '.join(entry['variants'])})" if entry["variants"] else ""
        text += ["", f"  {entry['name']}{families}", f"      {entry['statement']}  {entry['source']}"]
        kills = len(entry["kills"])
        text += [f"      needs {', '.join(entry['ops'])}"]
        text += [f"      kills {kills or 'no'} known mistake{'s' * (kills != 1)}; blind to {entry['blind']}"]
    return text


def ordered() -> list[Law]:
    """Return the laws in the order of their subjects."""
    place = {module.__name__.rsplit(".", 1)[1]: i for i, module in enumerate(SUBJECTS)}
    return sorted(LAWS.values(), key=lambda law: place[law.subject])
