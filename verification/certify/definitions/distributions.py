"""Definitions of the distributions: probabilities enumerated, densities multiplied out, derivatives by power series.

Discrete families list every joint action with its probability as the definition gives it; entropy, divergence and
Fisher matrix are sums over that list.  Derivatives are coefficients of power series of the definition in t, taken
along the coordinate directions.  The second routes are of another kind: the log-partition function of the exponential
family for the discrete families, integration over the action for the Gaussian ones.
"""

from collections.abc import Callable
from itertools import product as pairs
from typing import Any, NamedTuple

from flint import acb, arb, arb_series, ctx

from verification.certify.balls import exact, mean, total

Inputs = dict[str, Any]
Conventions = dict[str, str]
Outputs = dict[str, Any]
Definition = Callable[[Inputs, Conventions], Outputs]


# ── Discrete families ───────────────────────────────────────────────────────────────────────────────────────────────


class Discrete(NamedTuple):
    """A discrete family: ``table(φ, extra)`` lists the probability of every joint action, a tuple of whole numbers.

    ``partition`` is the log-partition function F and ``statistic`` the sufficient statistic T: log π(a) is
    ⟨φ, T(a)⟩ − F(φ).  ``extra`` is what a row has besides φ: its mask, or the sizes of the factors.
    """

    table: Callable[[list[Any], Any], dict[tuple[int, ...], Any]]
    partition: Callable[[list[Any], Any], Any]
    statistic: Callable[[tuple[int, ...], int, Any], list[int]]


def _softmax(logits: list[Any], allowed: list[bool]) -> dict[tuple[int, ...], Any]:
    weights = {(k,): z.exp() for k, z in enumerate(logits) if allowed[k]}
    normaliser = sum(weights.values())
    return {action: weight / normaliser for action, weight in weights.items()}


def _log_sum_exp(logits: list[Any], allowed: list[bool]) -> Any:
    return sum(z.exp() for k, z in enumerate(logits) if allowed[k]).log()


def _one_hot(action: tuple[int, ...], size: int, extra: Any) -> list[int]:
    return [int(k == action[0]) for k in range(size)]


def _factors(logits: list[Any], sizes: list[int]) -> list[list[Any]]:
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    return [logits[start : start + size] for start, size in zip(starts, sizes, strict=True)]


def _joint(logits: list[Any], sizes: list[int]) -> dict[tuple[int, ...], Any]:
    tables = [_softmax(factor, [True] * len(factor)) for factor in _factors(logits, sizes)]
    table = {}
    for actions in pairs(*tables):
        probability: Any = 1
        for number, action in enumerate(actions):
            probability = tables[number][action] * probability
        table[tuple(action[0] for action in actions)] = probability
    return table


def _multi_hot(action: tuple[int, ...], size: int, sizes: list[int]) -> list[int]:
    return [int(k == chosen) for chosen, length in zip(action, sizes, strict=True) for k in range(length)]


def _coins(logits: list[Any], extra: Any) -> dict[tuple[int, ...], Any]:
    heads = [1 / (1 + (-z).exp()) for z in logits]
    table = {}
    for action in pairs((0, 1), repeat=len(logits)):
        probability: Any = 1
        for one, p in zip(action, heads, strict=True):
            probability = (p if one else 1 - p) * probability
        table[action] = probability
    return table


def _all_allowed(logits: list[Any]) -> list[bool]:
    return [True] * len(logits)


DISCRETE: dict[str, Discrete] = {
    "categorical": Discrete(
        lambda z, extra: _softmax(z, _all_allowed(z)), lambda z, extra: _log_sum_exp(z, _all_allowed(z)), _one_hot
    ),
    "masked_categorical": Discrete(_softmax, _log_sum_exp, _one_hot),
    "multi_categorical": Discrete(
        _joint, lambda z, sizes: sum(_log_sum_exp(f, _all_allowed(f)) for f in _factors(z, sizes)), _multi_hot
    ),
    "bernoulli": Discrete(
        _coins, lambda z, extra: sum((1 + x.exp()).log() for x in z), lambda action, size, extra: list(action)
    ),
}


def _extras(inputs: Inputs, rows: int) -> list[Any]:
    if "mask" in inputs:
        return list(inputs["mask"])
    return [inputs.get("action_sizes")] * rows


def _actions(inputs: Inputs) -> list[tuple[int, ...]]:
    return [tuple(action) if isinstance(action, list) else (action,) for action in inputs["actions"]]


def _rows(inputs: Inputs) -> list[tuple[list[arb], Any]]:
    return list(zip(exact(inputs["logits"]), _extras(inputs, len(inputs["logits"])), strict=True))


def _row_pairs(inputs: Inputs) -> list[tuple[list[arb], list[arb], Any]]:
    extras = _extras(inputs, len(inputs["old_logits"]))
    return list(zip(exact(inputs["old_logits"]), exact(inputs["new_logits"]), extras, strict=True))


def _along(phi: list[arb], *directions: int) -> list[arb_series]:
    """φ + t v as power series to second order, v the sum of the coordinate directions."""
    return [arb_series([x, directions.count(k)], 3) for k, x in enumerate(phi)]


def _coefficient(series: Any, order: int) -> arb:
    """Return a coefficient of a power series; of a plain number all but the first are 0."""
    return series[order] if isinstance(series, arb_series) else arb(0)


def _hessian(function: Callable[[list[Any]], Any], phi: list[arb]) -> list[list[arb]]:
    """Return second derivatives from second coefficients: 2 c₂ along e_i, and by polarisation along e_i + e_j."""
    size = range(len(phi))
    along = [_coefficient(function(_along(phi, i)), 2) for i in size]
    return [
        [2 * along[i] if i == j else _coefficient(function(_along(phi, i, j)), 2) - along[i] - along[j] for j in size]
        for i in size
    ]


def _gradient(function: Callable[[list[Any]], Any], phi: list[arb]) -> list[arb]:
    return [_coefficient(function(_along(phi, k)), 1) for k in range(len(phi))]


def _discrete(name: str, family: Discrete) -> tuple[dict[str, Definition], dict[str, Definition]]:
    """Return the six definitions of a discrete family, and their second routes."""

    def log_prob(inputs: Inputs, conventions: Conventions) -> Outputs:
        """log of the action's probability, enumerated with those of all other actions"""
        rows = zip(_rows(inputs), _actions(inputs), strict=True)
        return {"log_prob": [family.table(z, extra)[action].log() for (z, extra), action in rows]}

    def log_prob_2(inputs: Inputs, conventions: Conventions) -> Outputs:
        """⟨φ, T(a)⟩ − F(φ), F the log-partition function"""
        rows = zip(_rows(inputs), _actions(inputs), strict=True)
        return {
            "log_prob": [
                total(x * t for x, t in zip(z, family.statistic(action, len(z), extra), strict=True))
                - family.partition(z, extra)
                for (z, extra), action in rows
            ]
        }

    def entropy(inputs: Inputs, conventions: Conventions) -> Outputs:
        """−Σ p log p over all joint actions"""
        tables = [family.table(z, extra) for z, extra in _rows(inputs)]
        return {"entropy": [-total(p * p.log() for p in table.values()) for table in tables]}

    def entropy_2(inputs: Inputs, conventions: Conventions) -> Outputs:
        """F(φ) − ⟨φ, ∇F(φ)⟩, the gradient by power series"""
        result = []
        for z, extra in _rows(inputs):
            slope = _gradient(lambda x, extra=extra: family.partition(x, extra), z)
            result.append(family.partition(z, extra) - total(x * s for x, s in zip(z, slope, strict=True)))
        return {"entropy": result}

    def kl(inputs: Inputs, conventions: Conventions) -> Outputs:
        """Σ p (log p − log q) over all joint actions"""
        result = []
        for old, new, extra in _row_pairs(inputs):
            p, q = family.table(old, extra), family.table(new, extra)
            result.append(total(p[action] * (p[action].log() - q[action].log()) for action in p))
        return {"kl": result}

    def kl_2(inputs: Inputs, conventions: Conventions) -> Outputs:
        """F(φ') − F(φ) − ⟨∇F(φ), φ' − φ⟩, the Bregman divergence of the log-partition function"""
        result = []
        for old, new, extra in _row_pairs(inputs):
            slope = _gradient(lambda x, extra=extra: family.partition(x, extra), old)
            rise = total(s * (b - a) for s, a, b in zip(slope, old, new, strict=True))
            result.append(family.partition(new, extra) - family.partition(old, extra) - rise)
        return {"kl": result}

    def score(inputs: Inputs, conventions: Conventions) -> Outputs:
        """first coefficients of the power series of log π along the coordinate directions"""
        rows = zip(_rows(inputs), _actions(inputs), strict=True)
        return {"logits": [_score(family, z, extra, action) for (z, extra), action in rows]}

    def score_2(inputs: Inputs, conventions: Conventions) -> Outputs:
        """T(a) − E[T], the mean of the statistic by enumeration"""
        result = []
        for (z, extra), action in zip(_rows(inputs), _actions(inputs), strict=True):
            expected = _mean_statistic(family, z, extra)
            statistic = family.statistic(action, len(z), extra)
            allowed = extra if name == "masked_categorical" else _all_allowed(z)
            result.append([arb(t) - m if ok else arb(0) for t, m, ok in zip(statistic, expected, allowed, strict=True)])
        return {"logits": result}

    def fisher(inputs: Inputs, conventions: Conventions) -> Outputs:
        """Σ p s sᵀ over all joint actions, the scores s by power series"""
        result = []
        for z, extra in _rows(inputs):
            table = family.table(z, extra)
            scores = {action: _score(family, z, extra, action) for action in table}
            size = range(len(z))
            result.append(
                [[total(p * scores[a][i] * scores[a][j] for a, p in table.items()) for j in size] for i in size]
            )
        return {"fisher": result}

    def fisher_2(inputs: Inputs, conventions: Conventions) -> Outputs:
        """Hessian of the log-partition function, by second coefficients and polarisation"""
        return {
            "fisher": [_hessian(lambda x, extra=extra: family.partition(x, extra), z) for z, extra in _rows(inputs)]
        }

    return (
        _named(name, log_prob, entropy, kl, score, fisher),
        _named(name, log_prob_2, entropy_2, kl_2, score_2, fisher_2),
    )


def _score(family: Discrete, phi: list[arb], extra: Any, action: tuple[int, ...]) -> list[arb]:
    def log_probability(x: list[Any]) -> Any:
        return family.table(x, extra)[action].log()

    return _gradient(log_probability, phi)


def _mean_statistic(family: Discrete, phi: list[arb], extra: Any) -> list[arb]:
    table = family.table(phi, extra)
    return [
        total(p * family.statistic(action, len(phi), extra)[k] for action, p in table.items()) for k in range(len(phi))
    ]


def _named(
    family: str, log_prob: Definition, entropy: Definition, kl: Definition, score: Definition, fisher: Definition
) -> dict[str, Definition]:
    """Name the definitions as ops; the mean KL is the mean of the rows' KL."""

    def mean_kl(inputs: Inputs, conventions: Conventions) -> Outputs:
        return {"mean_kl": mean(kl(inputs, conventions)["kl"])}

    mean_kl.__doc__ = f"mean over rows of {kl.__doc__}"
    return {
        f"log_prob_{family}": log_prob,
        f"entropy_{family}": entropy,
        f"kl_{family}": kl,
        f"mean_kl_{family}": mean_kl,
        f"score_{family}": score,
        f"fisher_{family}": fisher,
    }


# ── Gaussian families ───────────────────────────────────────────────────────────────────────────────────────────────


def _density(x: Any, centre: Any, log_std: Any) -> Any:
    """exp(−(x − μ)²/(2σ²))/(σ √(2π))"""
    std = log_std.exp()
    return (-((x - centre) ** 2) / (2 * std**2)).exp() / (std * (2 * arb.pi()).sqrt())


def _polynomial(centre: Any, log_std: Any) -> tuple[Any, Any, Any]:
    """The log-density as c₀ + c₁ x + c₂ x²."""
    inverse = (-2 * log_std).exp()
    return (
        -(inverse * centre**2) / 2 - log_std - (2 * arb.pi()).log() / 2,
        inverse * centre,
        -inverse / 2,
    )


def _mean_of_polynomial(coefficients: tuple[Any, Any, Any], centre: arb, log_std: arb) -> Any:
    """E[c₀ + c₁ x + c₂ x²] with E x = μ and E x² = μ² + σ²."""
    c0, c1, c2 = coefficients
    return c0 + c1 * centre + c2 * (centre**2 + (2 * log_std).exp())


def _gaussian_rows(inputs: Inputs, which: str = "") -> list[tuple[list[arb], list[arb]]]:
    return list(zip(exact(inputs[f"{which}mean"]), exact(inputs[f"{which}log_std"]), strict=True))


def _kl_of_dimension(old: tuple[Any, Any], new: tuple[Any, Any]) -> Any:
    return _mean_of_polynomial(_polynomial(*old), *old) - _mean_of_polynomial(_polynomial(*new), *old)


def _integral(function: Callable[[acb], acb], centre: arb, log_std: arb) -> arb:
    """E f(x) for an entire f, by integration over |t| ≤ R of n(t) f(μ + σt); the tail is below 2^−precision."""
    reach = (arb(2) * arb(2).log() * (ctx.prec + 64)).sqrt()
    std, root = log_std.exp(), (2 * arb.pi()).sqrt()

    def integrand(t: acb, analytic: bool) -> acb:
        return (-(t**2) / 2).exp() / root * function(centre + std * t)

    return acb.integral(integrand, -reach, reach).real


def _gaussian(squashed: bool) -> tuple[dict[str, Definition], dict[str, Definition]]:
    """Return the six definitions of the diagonal Gaussian, or of its image under tanh, and their second routes."""
    actions = "pre_tanh_actions" if squashed else "actions"

    def volume(u: Any) -> Any:
        """da/du of a = tanh u, or 1"""
        if not squashed:
            return arb(1)
        return 1 - u.tanh() ** 2

    def log_prob(inputs: Inputs, conventions: Conventions) -> Outputs:
        """log of the product of the densities, each divided by da/du = 1 − tanh² u if squashed"""
        rows = zip(exact(inputs[actions]), _gaussian_rows(inputs), strict=True)
        return {"log_prob": [log_of_densities(u, m, ls).log() for u, (m, ls) in rows]}

    def log_of_densities(u: list[arb], m: list[Any], ls: list[Any]) -> Any:
        result: Any = 1
        for x, centre, log_std in zip(u, m, ls, strict=True):
            result = _density(x, centre, log_std) / volume(x) * result
        return result

    def log_prob_2(inputs: Inputs, conventions: Conventions) -> Outputs:
        """Σ of the log-density as a quadratic polynomial of u, plus 2 log cosh u if squashed"""
        result = []
        for u, (m, ls) in zip(exact(inputs[actions]), _gaussian_rows(inputs), strict=True):
            terms = []
            for x, centre, log_std in zip(u, m, ls, strict=True):
                c0, c1, c2 = _polynomial(centre, log_std)
                terms.append(c0 + c1 * x + c2 * x**2 + (2 * x.cosh().log() if squashed else 0))
            result.append(total(terms))
        return {"log_prob": result}

    def entropy(inputs: Inputs, conventions: Conventions) -> Outputs:
        """−E log π from the moments of the Gaussian; if squashed, E log(1 − tanh² u) by rigorous integration"""
        return {"entropy": [total(map(entropy_of_dimension, m, ls)) for m, ls in _gaussian_rows(inputs)]}

    def entropy_of_dimension(centre: arb, log_std: arb) -> arb:
        base = -_mean_of_polynomial(_polynomial(centre, log_std), centre, log_std)
        return base + _mean_log_volume(centre, log_std) if squashed else base

    def entropy_2(inputs: Inputs, conventions: Conventions) -> Outputs:
        """−∫ π log π by the trapezoidal rule if squashed, by Gauss–Legendre integration over |t| ≤ R if not"""

        def one(centre: arb, log_std: arb) -> arb:
            c0, c1, c2 = _polynomial(centre, log_std)
            base = -_integral(lambda x: c0 + c1 * x + c2 * x * x, centre, log_std)
            return base + _trapezoid_log_volume(centre, log_std) if squashed else base

        return {"entropy": [total(map(one, m, ls)) for m, ls in _gaussian_rows(inputs)]}

    def kl(inputs: Inputs, conventions: Conventions) -> Outputs:
        """E_old [log π_old − log π_new] from the moments of the old Gaussian"""
        result = []
        for (m0, s0), (m1, s1) in zip(_gaussian_rows(inputs, "old_"), _gaussian_rows(inputs, "new_"), strict=True):
            dimensions = zip(zip(m0, s0, strict=True), zip(m1, s1, strict=True), strict=True)
            result.append(total(_kl_of_dimension(old, new) for old, new in dimensions))
        return {"kl": result}

    def kl_2(inputs: Inputs, conventions: Conventions) -> Outputs:
        """∫ π_old (log π_old − log π_new) by Gauss–Legendre integration over |t| ≤ R"""
        result = []
        for (m0, s0), (m1, s1) in zip(_gaussian_rows(inputs, "old_"), _gaussian_rows(inputs, "new_"), strict=True):
            terms = []
            for centre, log_std, new_centre, new_log_std in zip(m0, s0, m1, s1, strict=True):
                old, new = _polynomial(centre, log_std), _polynomial(new_centre, new_log_std)
                d0, d1, d2 = (a - b for a, b in zip(old, new, strict=True))
                terms.append(_integral(lambda x, d=(d0, d1, d2): d[0] + d[1] * x + d[2] * x * x, centre, log_std))
            result.append(total(terms))
        return {"kl": result}

    def score(inputs: Inputs, conventions: Conventions) -> Outputs:
        """first coefficients of the power series of log π along the coordinate directions"""
        rows = list(zip(exact(inputs[actions]), _gaussian_rows(inputs), strict=True))
        return {
            "mean": [_gradient(lambda x, u=u, ls=ls: log_of_densities(u, x, ls).log(), m) for u, (m, ls) in rows],
            "log_std": [_gradient(lambda x, u=u, m=m: log_of_densities(u, m, x).log(), ls) for u, (m, ls) in rows],
        }

    def score_2(inputs: Inputs, conventions: Conventions) -> Outputs:
        """(u − μ)/σ² and ((u − μ)/σ)² − 1"""
        rows = list(zip(exact(inputs[actions]), _gaussian_rows(inputs), strict=True))
        standard = [[(x - c) / s.exp() for x, c, s in zip(u, m, ls, strict=True)] for u, (m, ls) in rows]
        return {
            "mean": [
                [t / s.exp() for t, s in zip(ts, ls, strict=True)]
                for ts, (_, (_, ls)) in zip(standard, rows, strict=True)
            ],
            "log_std": [[t * t - 1 for t in ts] for ts in standard],
        }

    def fisher(inputs: Inputs, conventions: Conventions) -> Outputs:
        """Hessian of KL(φ ‖ φ + v) at v = 0, by second coefficients and polarisation"""
        result = []
        for m, ls in _gaussian_rows(inputs):
            size = len(m)

            def divergence(phi: list[Any], m: list[arb] = m, ls: list[arb] = ls, size: int = size) -> Any:
                return sum(_kl_of_dimension((m[d], ls[d]), (phi[d], phi[size + d])) for d in range(size))

            result.append(_hessian(divergence, [*m, *ls]))
        return {"fisher": result}

    def fisher_2(inputs: Inputs, conventions: Conventions) -> Outputs:
        """E[s sᵀ] by Gauss–Legendre integration over |t| ≤ R, dimension by dimension"""
        result = []
        for m, ls in _gaussian_rows(inputs):
            size = len(m)
            matrix = [[arb(0)] * (2 * size) for _ in range(2 * size)]
            for d, (centre, log_std) in enumerate(zip(m, ls, strict=True)):
                std = log_std.exp()
                scores = {
                    d: lambda x, c=centre, s=std: (x - c) / s**2,
                    size + d: lambda x, c=centre, s=std: ((x - c) / s) ** 2 - 1,
                }
                for i, first in scores.items():
                    for j, second in scores.items():
                        matrix[i][j] = _integral(lambda x, a=first, b=second: a(x) * b(x), centre, log_std)
            result.append(matrix)
        return {"fisher": result}

    name = "squashed_gaussian" if squashed else "diagonal_gaussian"
    return (
        _named(name, log_prob, entropy, kl, score, fisher),
        _named(name, log_prob_2, entropy_2, kl_2, score_2, fisher_2),
    )


def _mean_log_volume(centre: arb, log_std: arb) -> arb:
    """E log(1 − tanh² u) = −2 E log cosh u, integrated rigorously; 0 ≤ log cosh u ≤ |u| bounds it beyond |t| = R."""
    std = log_std.exp()
    reach = (arb(2) * arb(2).log() * (ctx.prec + 64)).sqrt()
    root = (2 * arb.pi()).sqrt()

    def integrand(t: acb, analytic: bool) -> acb:
        cosh = (centre + std * t).cosh()
        if analytic and not cosh.real > 0:  # the logarithm may have its cut there
            return acb(arb.nan(), arb.nan())
        return cosh.log() * (-(t**2) / 2).exp() / root

    inside = acb.integral(integrand, -reach, reach).real
    beyond = abs(centre) * (reach / arb(2).sqrt()).erfc() + std * 2 * (-(reach**2) / 2).exp() / root
    return -2 * (inside + arb(0, 1) * beyond.upper())


def _trapezoid_log_volume(centre: arb, log_std: arb) -> arb:
    """The same by the trapezoidal rule, whose error falls as exp(−π²/(σh)): no bound is claimed, only agreement."""
    std = log_std.exp()
    step = arb(2) ** -5 / (1 if std < 1 else std)
    nodes = int((20 / step).ceil().unique_fmpz())
    root = (2 * arb.pi()).sqrt()
    return total(
        (-((step * k) ** 2) / 2).exp() / root * -2 * (centre + std * step * k).cosh().log() * step
        for k in range(-nodes, nodes + 1)
    )


DEFINITIONS: dict[str, Definition] = {}
ROUTES: dict[str, tuple[Definition, ...]] = {}
for _name, _family in DISCRETE.items():
    _first, _second = _discrete(_name, _family)
    DEFINITIONS |= _first
    ROUTES |= {op: (route,) for op, route in _second.items()}
for _squashed in (False, True):
    _first, _second = _gaussian(_squashed)
    DEFINITIONS |= _first
    ROUTES |= {op: (route,) for op, route in _second.items()}
