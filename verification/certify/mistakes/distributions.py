"""Known mistakes in the distributions, in balls."""

from collections.abc import Callable
from typing import Any

from flint import arb

from verification.certify.balls import clip, exact, mean, total
from verification.certify.definitions.distributions import DEFINITIONS, DISCRETE
from verification.certify.mistakes import Mistake

Inputs = dict[str, Any]
Conventions = dict[str, str]
Outputs = dict[str, Any]
Answer = Callable[[Inputs, Conventions], Outputs]


def _right(op: str, change: Callable[[Inputs], Inputs] = lambda inputs: inputs) -> Answer:
    """The definition of an op on changed inputs."""
    return lambda inputs, conventions: DEFINITIONS[op](inputs | change(inputs), conventions)


def _mapped(op: str, function: Callable[[arb], arb]) -> Answer:
    """The right answer with a function applied to every entry."""

    def apply(value: Any) -> Any:
        return [apply(part) for part in value] if isinstance(value, list) else function(value)

    return lambda inputs, conventions: {name: apply(v) for name, v in DEFINITIONS[op](inputs, conventions).items()}


def _swap(inputs: Inputs) -> Inputs:
    swapped = {name.replace("old_", "new_"): value for name, value in inputs.items() if name.startswith("old_")}
    return swapped | {name.replace("new_", "old_"): value for name, value in inputs.items() if name.startswith("new_")}


def _same(inputs: Inputs) -> Inputs:
    return {name.replace("new_", "old_"): value for name, value in inputs.items() if name.startswith("new_")}


def _batch_sum(op: str) -> Answer:
    return lambda inputs, conventions: {"log_prob": total(DEFINITIONS[op](inputs, conventions)["log_prob"])}


def _per_row(name: str, rows: Callable[[Inputs], list[arb]]) -> Answer:
    return lambda inputs, conventions: {name: rows(inputs)}


def _averaged(rows: Callable[[Inputs], list[arb]]) -> Answer:
    return lambda inputs, conventions: {"mean_kl": mean(rows(inputs))}


def _kl_rows(op: str, change: Callable[[Inputs], Inputs]) -> Callable[[Inputs], list[arb]]:
    return lambda inputs: DEFINITIONS[op](inputs | change(inputs), {})["kl"]


# ── Discrete families ───────────────────────────────────────────────────────────────────────────────────────────────


def _softmax(logits: list[arb]) -> list[arb]:
    normaliser = total(z.exp() for z in logits)
    return [z.exp() / normaliser for z in logits]


def _twice(logits: list[arb]) -> list[arb]:
    """softmax(softmax(logits))"""
    return _softmax(_softmax(logits))


_LARGEST, _SMALLEST = 709.8, -745.2  # beyond, eᶻ is infinite or 0 in float64


def _unshifted(logits: list[arb]) -> list[arb]:
    """exp(logits) over their sum in float64, the largest logit not subtracted: NaN for ∞/∞ and 0/0, 0 beside an ∞"""
    if any(z > _LARGEST for z in logits):
        return [arb.nan() if z > _LARGEST else arb(0) for z in logits]
    if all(z < _SMALLEST for z in logits):
        return [arb.nan() for _ in logits]
    return _softmax(logits)


def _over_their_sum(logits: list[arb]) -> list[arb]:
    """logits over their sum, as if they were probabilities"""
    normaliser = total(logits)
    return [z / normaliser for z in logits]


def _exponentials(logits: list[arb]) -> list[arb]:
    """exp(logits), as if they were normalised"""
    return [z.exp() for z in logits]


def _log_prob_of(weights: Callable[[list[arb]], list[arb]]) -> Answer:
    return lambda inputs, conventions: {
        "log_prob": [
            weights(z)[action].log() for z, action in zip(exact(inputs["logits"]), inputs["actions"], strict=True)
        ]
    }


def _entropy_of(weights: Callable[[list[arb]], list[arb]]) -> Answer:
    return lambda inputs, conventions: {
        "entropy": [-total(p * p.log() for p in weights(z)) for z in exact(inputs["logits"])]
    }


def _kl_of(weights: Callable[[list[arb]], list[arb]]) -> Callable[[Inputs], list[arb]]:
    def rows(inputs: Inputs) -> list[arb]:
        result = []
        for old, new in zip(exact(inputs["old_logits"]), exact(inputs["new_logits"]), strict=True):
            pairs = zip(weights(old), weights(new), strict=True)
            result.append(total(p * (p.log() - q.log()) for p, q in pairs))
        return result

    return rows


def _kl_with_epsilon(family: str) -> Callable[[Inputs], list[arb]]:
    """Σ p log((p + 1e-6)/(q + 1e-6)) over the choices of each factor"""

    def rows(inputs: Inputs) -> list[arb]:
        small = exact(1e-6)
        result = []
        for old, new in zip(
            _factor_tables(family, inputs, "old_"), _factor_tables(family, inputs, "new_"), strict=True
        ):
            terms = [
                p * ((p + small) / (q + small)).log()
                for ps, qs in zip(old, new, strict=True)
                for p, q in zip(ps, qs, strict=True)
            ]
            result.append(total(terms))
        return result

    return rows


def _factor_tables(family: str, inputs: Inputs, which: str) -> list[list[list[arb]]]:
    """Return per row and factor the probabilities of its choices."""
    logits = exact(inputs[f"{which}logits"])
    if family == "bernoulli":
        return [[[1 / (1 + (-x).exp()), 1 / (1 + x.exp())] for x in z] for z in logits]
    if family == "multi_categorical":
        return [[_softmax(part) for part in _cut(z, inputs["action_sizes"])] for z in logits]
    if family == "masked_categorical":
        return [
            [_softmax([x for x, ok in zip(z, allowed, strict=True) if ok])]
            for z, allowed in zip(logits, inputs["mask"], strict=True)
        ]
    return [[_softmax(z)] for z in logits]


def _cut(values: list[Any], sizes: list[int]) -> list[list[Any]]:
    parts, start = [], 0
    for size in sizes:
        parts.append(values[start : start + size])
        start += size
    return parts


def _kl_unnormalised(family: str) -> Callable[[Inputs], list[arb]]:
    """Σ p (z − z') with no log-partition function"""

    def rows(inputs: Inputs) -> list[arb]:
        old, new = exact(inputs["old_logits"]), exact(inputs["new_logits"])
        flat = [[p for ps in row for p in ps] for row in _factor_tables(family, inputs, "old_")]
        if family == "masked_categorical":
            kept = inputs["mask"]
            old, new = (
                [[x for x, ok in zip(z, m, strict=True) if ok] for z, m in zip(t, kept, strict=True)]
                for t in (old, new)
            )
        return [
            total(p * (a - b) for p, a, b in zip(ps, x, y, strict=True))
            for ps, x, y in zip(flat, old, new, strict=True)
        ]

    return rows


def _number_of_choices(family: str, inputs: Inputs) -> int:
    return {"multi_categorical": lambda: len(inputs["action_sizes"])}.get(
        family, lambda: len(inputs["old_logits" if "old_logits" in inputs else "logits"][0])
    )()


def _score_without_mean(family: str) -> Answer:
    def answer(inputs: Inputs, conventions: Conventions) -> Outputs:
        extra = inputs.get("action_sizes")
        keys = [tuple(a) if isinstance(a, list) else (a,) for a in inputs["actions"]]
        size = len(inputs["logits"][0])
        return {"logits": [[arb(t) for t in DISCRETE[family].statistic(key, size, extra)] for key in keys]}

    return answer


def _diagonal(op: str, entry: Callable[[arb], arb]) -> Answer:
    """A diagonal matrix whose entries are a function of the probabilities."""

    def answer(inputs: Inputs, conventions: Conventions) -> Outputs:
        family = op.removeprefix("fisher_")
        result = []
        for row, z in enumerate(inputs["logits"]):
            size = len(z)
            probabilities = _marginals(family, inputs, row)
            result.append([[entry(probabilities[i]) if i == j else arb(0) for j in range(size)] for i in range(size)])
        return {"fisher": result}

    return answer


def _marginals(family: str, inputs: Inputs, row: int) -> list[arb]:
    z = exact(inputs["logits"][row])
    if family == "bernoulli":
        return [1 / (1 + (-x).exp()) for x in z]
    if family == "multi_categorical":
        return [p for part in _cut(z, inputs["action_sizes"]) for p in _softmax(part)]
    if family == "masked_categorical":
        allowed = inputs["mask"][row]
        normaliser = total(x.exp() for x, ok in zip(z, allowed, strict=True) if ok)
        return [x.exp() / normaliser if ok else arb(0) for x, ok in zip(z, allowed, strict=True)]
    return _softmax(z)


def _one_softmax(inputs: Inputs) -> dict[str, list[list[arb]]]:
    return {name: [_softmax(z) for z in exact(value)] for name, value in inputs.items() if name.endswith("logits")}


def _joint_log_prob(inputs: Inputs, conventions: Conventions) -> Outputs:
    """One softmax over all logits of all factors."""
    starts = [sum(inputs["action_sizes"][:k]) for k in range(len(inputs["action_sizes"]))]
    rows = zip(_one_softmax(inputs)["logits"], inputs["actions"], strict=True)
    return {"log_prob": [total(p[s + a].log() for s, a in zip(starts, actions, strict=True)) for p, actions in rows]}


def _joint_entropy(inputs: Inputs, conventions: Conventions) -> Outputs:
    return {"entropy": [-total(p * p.log() for p in row) for row in _one_softmax(inputs)["logits"]]}


def _joint_kl(inputs: Inputs) -> list[arb]:
    tables = _one_softmax(inputs)
    return [
        total(p * (p / q).log() for p, q in zip(old, new, strict=True))
        for old, new in zip(tables["old_logits"], tables["new_logits"], strict=True)
    ]


def _joint_score(inputs: Inputs, conventions: Conventions) -> Outputs:
    right = _score_without_mean("multi_categorical")(inputs, conventions)["logits"]
    rows = zip(right, _one_softmax(inputs)["logits"], strict=True)
    return {"logits": [[t - p for t, p in zip(ts, ps, strict=True)] for ts, ps in rows]}


def _joint_fisher(inputs: Inputs, conventions: Conventions) -> Outputs:
    return {
        "fisher": [
            [[(p if i == j else arb(0)) - p * q for j, q in enumerate(row)] for i, p in enumerate(row)]
            for row in _one_softmax(inputs)["logits"]
        ]
    }


def _coins(form: Callable[[arb, int], arb]) -> Answer:
    return lambda inputs, conventions: {
        "log_prob": [
            total(form(1 / (1 + (-x).exp()), a) for x, a in zip(z, actions, strict=True))
            for z, actions in zip(exact(inputs["logits"]), inputs["actions"], strict=True)
        ]
    }


def _coin_rows(which: tuple[str, ...], form: Callable[..., arb]) -> Callable[[Inputs], list[arb]]:
    def rows(inputs: Inputs) -> list[arb]:
        tables = [[[1 / (1 + (-x).exp()) for x in z] for z in exact(inputs[name])] for name in which]
        return [total(form(*ps) for ps in zip(*row, strict=True)) for row in zip(*tables, strict=True)]

    return rows


def _unmasked(op: str) -> Answer:
    return _right(op, lambda inputs: {"mask": [[True] * len(row) for row in inputs["mask"]]})


def _mask_times_logits(op: str) -> Answer:
    """logits · mask: the logit 0 where −∞ is meant."""

    def change(inputs: Inputs) -> Inputs:
        names = [name for name in inputs if name.endswith("logits")]
        return {
            name: [
                [z if ok else 0.0 for z, ok in zip(row, allowed, strict=True)]
                for row, allowed in zip(inputs[name], inputs["mask"], strict=True)
            ]
            for name in names
        } | {"mask": [[True] * len(row) for row in inputs["mask"]]}

    return _right(op, change)


def _unnormalised(inputs: Inputs, name: str = "logits") -> list[list[arb]]:
    """softmax · mask, not divided by its sum; the forbidden actions are left out."""
    return [
        [p for p, ok in zip(_softmax(z), allowed, strict=True) if ok]
        for z, allowed in zip(exact(inputs[name]), inputs["mask"], strict=True)
    ]


def _unnormalised_entropy(inputs: Inputs, conventions: Conventions) -> Outputs:
    return {"entropy": [-total(p * p.log() for p in row) for row in _unnormalised(inputs)]}


def _unnormalised_kl(inputs: Inputs) -> list[arb]:
    rows = zip(_unnormalised(inputs, "old_logits"), _unnormalised(inputs, "new_logits"), strict=True)
    return [total(p * (p / q).log() for p, q in zip(old, new, strict=True)) for old, new in rows]


def _infinity_times_zero(op: str, name: str) -> Answer:
    """0 · (−∞) at a forbidden action is NaN, and so is the row's sum; a row without one is right."""

    def answer(inputs: Inputs, conventions: Conventions) -> Outputs:
        rows = zip(DEFINITIONS[op](inputs, conventions)[name], inputs["mask"], strict=True)
        return {name: [value if all(allowed) else arb.nan() for value, allowed in rows]}

    return answer


def _discrete(family: str) -> list[Mistake]:
    """The mistakes that every discrete family shares."""
    factors = family in ("multi_categorical", "bernoulli")
    log_prob, entropy, kl, mean_kl, score, fisher = (
        f"{quantity}_{family}" for quantity in ("log_prob", "entropy", "kl", "mean_kl", "score", "fisher")
    )
    rows: dict[str, Callable[[Inputs], list[arb]]] = {
        "kl-reversed": _kl_rows(kl, _swap),
        "kl-self-zero": _kl_rows(kl, _same),
        "kl-negated": lambda inputs: [-x for x in _kl_rows(kl, lambda i: {})(inputs)],
        "cat-kl-eps": _kl_with_epsilon(family),
    }
    if family != "bernoulli":
        rows["cat-kl-unnormalised"] = _kl_unnormalised(family)
    if factors:
        rows["kl-mean-dims"] = lambda inputs: [
            x / _number_of_choices(family, inputs) for x in _kl_rows(kl, lambda i: {})(inputs)
        ]
    else:
        rows["kl-torch-kldiv-convention"] = lambda inputs: [
            x / _number_of_choices(family, inputs) for x in _kl_rows(kl, lambda i: {})(inputs)
        ]
    found = [
        Mistake("logp-sum-batch", log_prob, _batch_sum(log_prob)),
        Mistake("ent-sign", entropy, _mapped(entropy, lambda x: -x)),
        *(Mistake(bug, kl, _per_row("kl", form)) for bug, form in rows.items()),
        *(Mistake(bug, mean_kl, _averaged(form)) for bug, form in rows.items()),
        Mistake(
            "kl-sum-not-mean",
            mean_kl,
            lambda inputs, conventions: {"mean_kl": total(DEFINITIONS[kl](inputs, {})["kl"])},
        ),
        Mistake("score-negated", score, _mapped(score, lambda x: -x)),
        Mistake("score-without-mean", score, _score_without_mean(family)),
        Mistake("fvp-softmax-metric", fisher, _diagonal(fisher, lambda p: p)),
    ]
    if factors:

        def number(inputs: Inputs) -> int:
            return _number_of_choices(family, inputs)

        found += [
            Mistake("ent-mean-dims", entropy, _divided(entropy, number)),
            Mistake("logp-mean-dims", log_prob, _divided(log_prob, number)),
            Mistake("kl-mean-dims", fisher, _divided(fisher, number)),
        ]
    return found


def _divided(op: str, number: Callable[[Inputs], int]) -> Answer:
    return lambda inputs, conventions: _mapped(op, lambda x: x / number(inputs))(inputs, conventions)


def _categorical() -> list[Mistake]:
    return [
        Mistake("cat-logits-as-logp", "log_prob_categorical", _log_prob_of(_exponentials)),
        Mistake("cat-double-softmax", "log_prob_categorical", _log_prob_of(_twice)),
        Mistake("cat-logits-as-logp", "entropy_categorical", _entropy_of(_exponentials)),
        Mistake("cat-double-softmax", "entropy_categorical", _entropy_of(_twice)),
        Mistake("cat-logits-as-logp", "kl_categorical", _per_row("kl", _kl_of(_exponentials))),
        Mistake("cat-double-softmax", "kl_categorical", _per_row("kl", _kl_of(_twice))),
        Mistake("cat-logits-as-logp", "mean_kl_categorical", _averaged(_kl_of(_exponentials))),
        Mistake("cat-double-softmax", "mean_kl_categorical", _averaged(_kl_of(_twice))),
        Mistake("cat-double-softmax", "score_categorical", _score_of(_twice)),
        Mistake("cat-double-softmax", "fisher_categorical", _fisher_of(_twice)),
        Mistake("cat-logits-as-probs", "log_prob_categorical", _log_prob_of(_over_their_sum)),
        Mistake("cat-logits-as-probs", "score_categorical", _score_of(_over_their_sum)),
        Mistake("cat-logits-as-probs", "fisher_categorical", _fisher_of(_over_their_sum)),
        Mistake("cat-overflow", "log_prob_categorical", _log_prob_of(_unshifted)),
        Mistake("cat-overflow", "entropy_categorical", _entropy_of(_unshifted)),
        Mistake("cat-overflow", "score_categorical", _score_of(_unshifted)),
        Mistake("cat-overflow", "fisher_categorical", _fisher_of(_unshifted)),
    ]


def _score_of(weights: Callable[[list[arb]], list[arb]]) -> Answer:
    """One-hot minus other probabilities."""

    def answer(inputs: Inputs, conventions: Conventions) -> Outputs:
        rows = zip(exact(inputs["logits"]), inputs["actions"], strict=True)
        return {"logits": [[arb(int(k == a)) - p for k, p in enumerate(weights(z))] for z, a in rows]}

    return answer


def _fisher_of(weights: Callable[[list[arb]], list[arb]]) -> Answer:
    """diag(p) − ppᵀ of other probabilities."""

    def answer(inputs: Inputs, conventions: Conventions) -> Outputs:
        return {
            "fisher": [
                [[(p if i == j else arb(0)) - p * q for j, q in enumerate(row)] for i, p in enumerate(row)]
                for row in (weights(z) for z in exact(inputs["logits"]))
            ]
        }

    return answer


def _masked() -> list[Mistake]:
    found = [
        Mistake(bug, f"{quantity}_masked_categorical", form(f"{quantity}_masked_categorical"))
        for quantity in ("log_prob", "entropy", "kl", "mean_kl", "score", "fisher")
        for bug, form in (("mask-ignored", _unmasked), ("mask-times-logits", _mask_times_logits))
    ]
    return [
        *found,
        Mistake("mask-unnormalised", "entropy_masked_categorical", _unnormalised_entropy),
        Mistake("mask-unnormalised", "kl_masked_categorical", _per_row("kl", _unnormalised_kl)),
        Mistake("mask-unnormalised", "mean_kl_masked_categorical", _averaged(_unnormalised_kl)),
        Mistake(
            "ent-masked-nan",
            "entropy_masked_categorical",
            _infinity_times_zero("entropy_masked_categorical", "entropy"),
        ),
        Mistake("ent-masked-nan", "kl_masked_categorical", _infinity_times_zero("kl_masked_categorical", "kl")),
        Mistake("ent-masked-nan", "mean_kl_masked_categorical", lambda inputs, conventions: {"mean_kl": arb.nan()}),
    ]


def _multi() -> list[Mistake]:
    return [
        Mistake("multi-one-softmax", "log_prob_multi_categorical", _joint_log_prob),
        Mistake("multi-one-softmax", "entropy_multi_categorical", _joint_entropy),
        Mistake("multi-one-softmax", "kl_multi_categorical", _per_row("kl", _joint_kl)),
        Mistake("multi-one-softmax", "mean_kl_multi_categorical", _averaged(_joint_kl)),
        Mistake("multi-one-softmax", "score_multi_categorical", _joint_score),
        Mistake("multi-one-softmax", "fisher_multi_categorical", _joint_fisher),
    ]


def _competing_coins(inputs: Inputs, conventions: Conventions) -> Outputs:
    """One softmax over the coins of a row."""
    rows = zip(exact(inputs["logits"]), inputs["actions"], strict=True)
    return {
        "log_prob": [
            total(p.log() if a else (1 - p).log() for p, a in zip(_softmax(z), actions, strict=True))
            for z, actions in rows
        ]
    }


def _bernoulli() -> list[Mistake]:
    one_sided_kl = _coin_rows(("old_logits", "new_logits"), lambda p, q: p * (p / q).log())
    return [
        Mistake("bernoulli-one-sided", "log_prob_bernoulli", _coins(lambda p, a: p.log() if a else arb(0))),
        Mistake("bernoulli-softmax", "log_prob_bernoulli", _competing_coins),
        Mistake(
            "bernoulli-one-sided",
            "entropy_bernoulli",
            _per_row("entropy", _coin_rows(("logits",), lambda p: -p * p.log())),
        ),
        Mistake("bernoulli-one-sided", "kl_bernoulli", _per_row("kl", one_sided_kl)),
        Mistake("bernoulli-one-sided", "mean_kl_bernoulli", _averaged(one_sided_kl)),
    ]


# ── Gaussian families ───────────────────────────────────────────────────────────────────────────────────────────────


def _log_2pi() -> arb:
    return (2 * arb.pi()).log()


def _log_density(form: Callable[[arb, arb, arb], arb], actions: str) -> Callable[[Inputs], list[list[arb]]]:
    """Per row and dimension, a log-density as a function of action, mean and log_std."""

    def rows(inputs: Inputs) -> list[list[arb]]:
        tables = zip(exact(inputs[actions]), exact(inputs["mean"]), exact(inputs["log_std"]), strict=True)
        return [[form(*entry) for entry in zip(*row, strict=True)] for row in tables]

    return rows


def _normal(u: arb, centre: arb, log_std: arb) -> arb:
    return -(((u - centre) / log_std.exp()) ** 2) / 2 - log_std - _log_2pi() / 2


def _std_as_variance(u: arb, centre: arb, log_std: arb) -> arb:
    return -((u - centre) ** 2) / (2 * log_std.exp()) - log_std / 2 - _log_2pi() / 2


def _double_exp(u: arb, centre: arb, log_std: arb) -> arb:
    return _normal(u, centre, log_std.exp())


def _plus_quadratic(u: arb, centre: arb, log_std: arb) -> arb:
    return ((u - centre) / log_std.exp()) ** 2 / 2 - log_std - _log_2pi() / 2


def _clipped_action(u: arb, centre: arb, log_std: arb) -> arb:
    return _normal(clip(u, arb(-1), arb(1)), centre, log_std)


def _atanh_clamped(u: arb, centre: arb, log_std: arb) -> arb:
    a = u.tanh()
    edge = 1 - exact(1e-6)
    return _normal(clip(a, -edge, edge).atanh(), centre, log_std) - (1 - a * a + exact(1e-6)).log()


def _squashed_with_epsilon(u: arb, centre: arb, log_std: arb) -> arb:
    return _normal(u, centre, log_std) - (1 - u.tanh() ** 2 + exact(1e-6)).log()


def _squashed_normal(u: arb, centre: arb, log_std: arb) -> arb:
    return _normal(u, centre, log_std) - (1 - u.tanh() ** 2).log()


def _gaussian_log_probs(family: str) -> list[Mistake]:
    squashed = family == "squashed_gaussian"
    op = f"log_prob_{family}"
    actions = "pre_tanh_actions" if squashed else "actions"
    correction: Callable[[arb], arb] = (lambda u: -(1 - u.tanh() ** 2).log()) if squashed else (lambda u: arb(0))
    right = _squashed_normal if squashed else _normal
    forms: dict[str, Callable[[arb, arb, arb], arb]] = {
        "logp-std-as-var": _std_as_variance,
        "logp-double-exp": _double_exp,
        "logp-plus-quadratic": _plus_quadratic,
    }

    def summed(form: Callable[[arb, arb, arb], arb]) -> Answer:
        rows = _log_density(form, actions)
        return lambda inputs, conventions: {"log_prob": [total(row) for row in rows(inputs)]}

    def corrected(form: Callable[[arb, arb, arb], arb]) -> Callable[[arb, arb, arb], arb]:
        return lambda u, m, s: form(u, m, s) + correction(u)

    rows = _log_density(right, actions)
    found = [
        *(Mistake(bug, op, summed(corrected(form))) for bug, form in forms.items()),
        Mistake("logp-no-sum-dims", op, lambda inputs, conventions: {"log_prob": rows(inputs)}),
        Mistake("logp-mean-dims", op, lambda inputs, conventions: {"log_prob": [mean(row) for row in rows(inputs)]}),
        Mistake("logp-sum-batch", op, _batch_sum(op)),
    ]
    if squashed:
        found += [
            Mistake("logp-squash-one-sided", op, summed(_normal)),
            Mistake("logp-squash-atanh-clamp", op, summed(_atanh_clamped)),
            Mistake("logp-squash-epsilon", op, summed(_squashed_with_epsilon)),
            Mistake("logp-squash-sign", op, summed(lambda u, m, s: _normal(u, m, s) + (1 - u.tanh() ** 2).log())),
            Mistake(
                "logp-squash-at-action",
                op,
                summed(lambda u, m, s: _normal(u.tanh(), m, s) - (1 - u.tanh() ** 2).log()),
            ),
        ]
    else:
        found.append(Mistake("logp-clipped-action", op, summed(_clipped_action)))
    return found


def _gaussian_entropies(family: str) -> list[Mistake]:
    """Wrong entropies of the Gaussian; for the squashed one the right mean of log(1 − tanh² u) is added."""
    op = f"entropy_{family}"
    squashed = family == "squashed_gaussian"

    def answer(form: Callable[[list[arb]], arb]) -> Answer:
        def one(inputs: Inputs, conventions: Conventions) -> Outputs:
            rows = [form(row) for row in exact(inputs["log_std"])]
            if squashed:
                right = DEFINITIONS[op](inputs, conventions)["entropy"]
                base = DEFINITIONS["entropy_diagonal_gaussian"](inputs, conventions)["entropy"]
                rows = [row + a - b for row, a, b in zip(rows, right, base, strict=True)]
            return {"entropy": rows}

        return one

    def unit() -> arb:
        return (_log_2pi() + 1) / 2

    forms: dict[str, Callable[[list[arb]], arb]] = {
        "ent-half-logstd": lambda row: total(s / 2 + unit() for s in row),
        "ent-missing-dim-factor": lambda row: total(row) + unit(),
        "ent-missing-half": lambda row: total(2 * s + 2 * unit() for s in row),
        "ent-plus-not-times": lambda row: total(((2 * arb.pi() + (2 * s).exp()).log() + 1) / 2 for s in row),
    }
    found = [
        *(Mistake(bug, op, answer(form)) for bug, form in forms.items()),
        Mistake("ent-mean-dims", op, _divided(op, lambda inputs: len(inputs["log_std"][0]))),
        Mistake("ent-sign", op, _mapped(op, lambda x: -x)),
    ]
    if squashed:
        found.append(Mistake("ent-base-of-squashed", op, _right("entropy_diagonal_gaussian")))
        found.append(
            Mistake(
                "ent-squash-at-mean",
                op,
                lambda inputs, conventions: {
                    "entropy": [
                        total(s + unit() + (1 - m.tanh() ** 2).log() for m, s in zip(ms, ss, strict=True))
                        for ms, ss in zip(exact(inputs["mean"]), exact(inputs["log_std"]), strict=True)
                    ]
                },
            )
        )
    return found


def _gaussian_kl(form: Callable[[arb, arb, arb, arb], arb]) -> Callable[[Inputs], list[arb]]:
    """Per row, Σ over dimensions of a function of (μ₀, log σ₀, μ₁, log σ₁)."""

    def rows(inputs: Inputs) -> list[arb]:
        names = ("old_mean", "old_log_std", "new_mean", "new_log_std")
        tables = zip(*(exact(inputs[name]) for name in names), strict=True)
        return [total(form(*entry) for entry in zip(*row, strict=True)) for row in tables]

    return rows


def _quadratic(m0: arb, s0: arb, m1: arb, s1: arb) -> arb:
    return ((2 * s0).exp() + (m0 - m1) ** 2) / (2 * (2 * s1).exp())


def _log_ratio_sign(m0: arb, s0: arb, m1: arb, s1: arb) -> arb:
    return s0 - s1 + _quadratic(m0, s0, m1, s1) - arb(1) / 2


def _missing_half(m0: arb, s0: arb, m1: arb, s1: arb) -> arb:
    return s1 - s0 + (2 * (s0 - s1)).exp() / 2 + (m0 - m1) ** 2 / (2 * s1).exp() - arb(1) / 2


def _epsilon_in_log(m0: arb, s0: arb, m1: arb, s1: arb) -> arb:
    small = exact(1e-5)
    above = (2 * s0).exp() + (m1 - m0) ** 2
    return ((s1 - s0).exp() + small).log() + above / (2 * ((2 * s1).exp() + small)) - arb(1) / 2


def _deviation_as_variance(m0: arb, s0: arb, m1: arb, s1: arb) -> arb:
    return s1 - s0 + (s0.exp() + (m0 - m1) ** 2) / (2 * s1.exp()) - arb(1) / 2


def _one_for_all_dimensions(inputs: Inputs) -> list[arb]:
    rows = _gaussian_kl(lambda m0, s0, m1, s1: s1 - s0 + _quadratic(m0, s0, m1, s1))(inputs)
    return [row - arb(1) / 2 for row in rows]


def _gaussian_divergences(family: str) -> list[Mistake]:
    kl, mean_kl = f"kl_{family}", f"mean_kl_{family}"

    def right(inputs: Inputs) -> list[arb]:
        return list(DEFINITIONS[kl](inputs, {})["kl"])

    rows: dict[str, Callable[[Inputs], list[arb]]] = {
        "kl-log-ratio-sign": _gaussian_kl(_log_ratio_sign),
        "kl-missing-half": _gaussian_kl(_missing_half),
        "kl-eps-in-log": _gaussian_kl(_epsilon_in_log),
        "kl-logvar-as-logstd": _gaussian_kl(_deviation_as_variance),
        "kl-const-one-not-D": _one_for_all_dimensions,
        "kl-reversed": _kl_rows(kl, _swap),
        "kl-self-zero": _kl_rows(kl, _same),
        "kl-negated": lambda inputs: [-x for x in right(inputs)],
        "kl-mean-dims": lambda inputs: [x / len(inputs["old_mean"][0]) for x in right(inputs)],
    }
    return [
        *(Mistake(bug, kl, _per_row("kl", form)) for bug, form in rows.items()),
        *(Mistake(bug, mean_kl, _averaged(form)) for bug, form in rows.items()),
        Mistake("kl-sum-not-mean", mean_kl, lambda inputs, conventions: {"mean_kl": total(right(inputs))}),
    ]


def _gaussian_scores(family: str) -> list[Mistake]:
    op = f"score_{family}"
    actions = "pre_tanh_actions" if family == "squashed_gaussian" else "actions"

    def answer(
        for_mean: Callable[[arb, arb, arb], arb], for_log_std: Callable[[arb, arb, arb], arb], at: Any = lambda u: u
    ) -> Answer:
        def one(inputs: Inputs, conventions: Conventions) -> Outputs:
            forms = {"mean": for_mean, "log_std": for_log_std}
            return {
                name: _log_density(lambda u, m, s, form=form: form(at(u), m, s), actions)(inputs)
                for name, form in forms.items()
            }

        return one

    def slope(u: arb, m: arb, s: arb) -> arb:
        return (u - m) / (2 * s).exp()

    def square(u: arb, m: arb, s: arb) -> arb:
        return ((u - m) / s.exp()) ** 2

    found = [
        Mistake("score-negated", op, _mapped(op, lambda x: -x)),
        Mistake(
            "logp-std-as-var",
            op,
            answer(lambda u, m, s: (u - m) / s.exp(), lambda u, m, s: ((u - m) ** 2 / s.exp() - 1) / 2),
        ),
        Mistake("score-without-normaliser", op, answer(slope, square)),
        Mistake("score-of-std", op, answer(slope, lambda u, m, s: (square(u, m, s) - 1) / s.exp())),
        Mistake(
            "logp-plus-quadratic", op, answer(lambda u, m, s: -slope(u, m, s), lambda u, m, s: -square(u, m, s) - 1)
        ),
    ]
    if family == "squashed_gaussian":
        found.append(
            Mistake(
                "logp-squash-at-action",
                op,
                answer(slope, lambda u, m, s: square(u, m, s) - 1, at=lambda u: u.tanh()),
            )
        )
    else:
        found.append(
            Mistake(
                "logp-clipped-action",
                op,
                answer(slope, lambda u, m, s: square(u, m, s) - 1, at=lambda u: clip(u, arb(-1), arb(1))),
            )
        )
    return found


def _gaussian_fishers(family: str) -> list[Mistake]:
    op = f"fisher_{family}"

    def diagonal(for_mean: Callable[[arb], arb], for_log_std: Callable[[arb], arb]) -> Answer:
        def one(inputs: Inputs, conventions: Conventions) -> Outputs:
            result = []
            for row in exact(inputs["log_std"]):
                entries = [*map(for_mean, row), *map(for_log_std, row)]
                size = range(len(entries))
                result.append([[entries[i] if i == j else arb(0) for j in size] for i in size])
            return {"fisher": result}

        return one

    def precision(s: arb) -> arb:
        return (-2 * s).exp()

    return [
        Mistake("fvp-missing-logstd", op, diagonal(precision, lambda s: arb(0))),
        Mistake("fisher-logvar-block", op, diagonal(precision, lambda s: arb(1) / 2)),
        Mistake("fisher-std-block", op, diagonal(precision, lambda s: 2 * precision(s))),
        Mistake("kl-missing-half", op, diagonal(lambda s: 2 * precision(s), lambda s: arb(2))),
        Mistake("logp-std-as-var", op, diagonal(lambda s: (-s).exp(), lambda s: arb(1) / 2)),
        Mistake("fisher-covariance", op, diagonal(lambda s: (2 * s).exp(), lambda s: arb(2))),
        Mistake("kl-mean-dims", op, _divided(op, lambda inputs: len(inputs["log_std"][0]))),
    ]


MISTAKES: list[Mistake] = [
    *(mistake for family in DISCRETE for mistake in _discrete(family)),
    *_categorical(),
    *_masked(),
    *_multi(),
    *_bernoulli(),
    *(
        mistake
        for family in ("diagonal_gaussian", "squashed_gaussian")
        for make in (
            _gaussian_log_probs,
            _gaussian_entropies,
            _gaussian_divergences,
            _gaussian_scores,
            _gaussian_fishers,
        )
        for mistake in make(family)
    ),
]
