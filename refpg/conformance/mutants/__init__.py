"""The mutants: every bug of the catalogue that ships wrong answers, as the code that gives them.

A mutant is one op with one mistake, written as a programmer would have written it, with refpg's own pieces for all
that is not wrong.  Its answers are computed from the inputs, so they are a second opinion on the wrong answers that
were certified in ball arithmetic; and they are what the judge must find (`refpg.conformance.selfcheck`).

    programs        policy-gradient programs in parts, right until a part is replaced
    distributions   mistakes in log-probabilities, entropies, divergences, scores, Fisher matrices
    estimators      mistakes in returns, advantages, normalisation, KL estimators
    ppo             mistakes in the clipped objective, values, entropy, Adam
    trpo            mistakes in networks, divergences, Fisher products, solvers, steps, line searches
    theory          mistakes in values, visits, returns, gradients, divergences and bounds of finite MDPs
    sequence        mistakes in masks, aggregation, ratios, penalties and rewards of sequences of tokens
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from refpg.conformance.mutants import distributions, estimators, ppo, sequence, theory, trpo
from refpg.conformance.ops import OPS


class Mutant(NamedTuple):
    """One bug in one op: ``function`` takes the inputs as keywords, and first the conventions if the op has any."""

    bug: str
    op: str
    function: Callable[..., Any]

    def under(self, conventions: Mapping[str, str]) -> Callable[..., Any]:
        """Return the function of the inputs alone, under conventions that have a value for every axis.

        No warning leaves it: where ordinary code divides by zero on its way to a NaN, so does a mutant.

        Examples
        --------
        >>> wrong = next(mutant for mutant in MUTANTS if (mutant.bug, mutant.op) == ("ratio-inverted", "ratio"))
        >>> wrong.under({})(old_log_prob=-1.0, new_log_prob=-1.0)
        np.float64(1.0)
        """
        function = partial(self.function, conventions) if OPS[self.op].conventions else self.function

        def quiet(**inputs: Any) -> Any:
            with np.errstate(all="ignore"):
                return function(**inputs)

        return quiet


MUTANTS: tuple[Mutant, ...] = tuple(
    Mutant(bug, op, function)
    for profile in (distributions, estimators, ppo, trpo, theory, sequence)
    for op, functions in profile.WRONG.items()
    for bug, function in functions.items()
)
