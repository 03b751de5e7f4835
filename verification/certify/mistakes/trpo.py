"""Known mistakes in the operations of the profile `trpo`: a definition with one piece replaced."""

from collections.abc import Callable, Sequence
from typing import Any

from flint import arb, arb_mat

from verification.certify.balls import dot, exact, mean, total
from verification.certify.calculus import Function, Scalar, along, constant, exponential, gradient
from verification.certify.definitions import trpo
from verification.certify.definitions.trpo import (
    RIGHT,
    Conventions,
    Inputs,
    Outputs,
    Phi,
    Pieces,
    Search,
    flatten,
    moved,
    times,
)
from verification.certify.mistakes import Mistake

Answer = Callable[[Inputs, Conventions], Outputs]
Operation = Callable[..., Outputs]


def with_pieces(operation: Operation, pieces: Pieces) -> Answer:
    """The operation made of other pieces."""
    return lambda inputs, conventions: operation(inputs, conventions, pieces)


def scaled(operation: Operation, factor: Callable[[Inputs], Any]) -> Answer:
    """The operation with every real output multiplied by a factor of the inputs."""

    def times_factor(value: Any, by: Any) -> Any:
        if isinstance(value, dict):
            return {name: times_factor(part, by) for name, part in value.items()}
        if isinstance(value, list):
            return [times_factor(part, by) for part in value]
        return value if isinstance(value, int) else value * by

    return lambda inputs, conventions: times_factor(operation(inputs, conventions), factor(inputs))


def rows_of(inputs: Inputs) -> int:
    """B."""
    return len(inputs["observations"])


# ── The network ────────────────────────────────────────────────


def _transposed_affine(h: Sequence[Scalar], W: Sequence[Sequence[Scalar]], b: Sequence[Scalar]) -> list[Scalar]:
    if len(W) != len(b):
        return trpo.affine(h, W, b)
    return trpo.affine(h, [list(column) for column in zip(*W, strict=True)], b)


def _affine_without_bias(h: Sequence[Scalar], W: Sequence[Sequence[Scalar]], b: Sequence[Scalar]) -> list[Scalar]:
    return trpo.affine(h, W, [arb(0) for _ in b])


def _activation_on_outputs(inputs: Inputs, conventions: Conventions) -> Outputs:
    activation = trpo.ACTIVATIONS[inputs["network"]["activation"]]
    outputs = trpo.network_forward(inputs, conventions)["outputs"]
    return {"outputs": [[activation(z) for z in row] for row in outputs]}


def _gelu_by_tanh(z: Scalar) -> Scalar:
    inner = (2 / arb.pi()).sqrt() * (z + arb("0.044715") * z * z * z)
    return z * (1 + trpo.tanh(inner)) / 2


def _tanh_with_slope_of_output(z: Scalar) -> Scalar:
    """tanh whose derivative is taken at the output: 1 − tanh²(tanh z)."""
    z0 = constant(z)
    h = z0.tanh()
    return h + (1 - h.tanh() * h.tanh()) * (z - z0)


def _slope_of_output(activation: Callable[[Scalar], Scalar]) -> Callable[[Scalar], Scalar]:
    """The activation f with the slope f′(f(z)) in place of f′(z)."""

    def replaced(z: Scalar) -> Scalar:
        z0 = constant(z)
        h = activation(z0)
        return h + along(lambda point: activation(point[0]), [h], [1], 1) * (z - z0)

    return replaced


# ── Distributions ────────────────────────────────────────────────


def gaussian_only(terms: Callable[[list[Scalar]], Scalar]) -> Callable[[str, Phi, Phi], Scalar]:
    """A KL whose terms over the action dimensions are reduced in another way; categorical as it is."""

    def kl(distribution: str, old: Phi, new: Phi) -> Scalar:
        if distribution == "categorical":
            return trpo.kl(distribution, old, new)
        return terms(trpo.gaussian_kl_terms(old, new))

    return kl


def _gaussian_kl(term: Callable[..., Scalar]) -> Callable[[str, Phi, Phi], Scalar]:
    """A Gaussian KL with another term per dimension, from μ₀, log σ₀, μ₁, log σ₁."""

    def kl(distribution: str, old: Phi, new: Phi) -> Scalar:
        if distribution == "categorical":
            return trpo.kl(distribution, old, new)
        half = len(old) // 2
        columns = zip(old[:half], old[half:], new[:half], new[half:], strict=True)
        return total(term(*column) for column in columns)

    return kl


def _categorical_kl(form: Callable[[Phi, Phi], Scalar]) -> Callable[[str, Phi, Phi], Scalar]:
    return lambda distribution, old, new: (
        form(old, new) if distribution == "categorical" else trpo.kl(distribution, old, new)
    )


def _variances(ls0: Scalar, ls1: Scalar) -> tuple[Scalar, Scalar]:
    return exponential(2 * ls0), exponential(2 * ls1)


def _term_log_ratio_sign(m0: Scalar, ls0: Scalar, m1: Scalar, ls1: Scalar) -> Scalar:
    v0, v1 = _variances(ls0, ls1)
    return ls0 - ls1 + (v0 + (m0 - m1) * (m0 - m1)) / (2 * v1) - arb(1) / 2


def _term_missing_half(m0: Scalar, ls0: Scalar, m1: Scalar, ls1: Scalar) -> Scalar:
    v0, v1 = _variances(ls0, ls1)
    return ls1 - ls0 + v0 / (2 * v1) + (m0 - m1) * (m0 - m1) / v1 - arb(1) / 2


def _term_log_variance(m0: Scalar, ls0: Scalar, m1: Scalar, ls1: Scalar) -> Scalar:
    v0, v1 = exponential(ls0), exponential(ls1)
    return ls1 - ls0 + (v0 + (m0 - m1) * (m0 - m1)) / (2 * v1) - arb(1) / 2


def _unnormalised_categorical_kl(old: Phi, new: Phi) -> Scalar:
    probabilities = [exponential(p) for p in trpo.categorical_log_probs(old)]
    return total(p * (a - b) for p, a, b in zip(probabilities, old, new, strict=True))


KL_MEAN_DIMS = RIGHT._replace(kl=gaussian_only(mean))
KL_LOG_RATIO_SIGN = RIGHT._replace(kl=_gaussian_kl(_term_log_ratio_sign))
KL_CONSTANT = RIGHT._replace(kl=gaussian_only(lambda terms: total(terms) + arb(len(terms) - 1) / 2))
KL_MISSING_HALF = RIGHT._replace(kl=_gaussian_kl(_term_missing_half))
KL_LOG_VARIANCE = RIGHT._replace(kl=_gaussian_kl(_term_log_variance))
KL_NEGATED = RIGHT._replace(kl=lambda distribution, old, new: -trpo.kl(distribution, old, new))
KL_SELF = RIGHT._replace(kl=lambda distribution, old, new: arb(0))
KL_UNNORMALISED = RIGHT._replace(kl=_categorical_kl(_unnormalised_categorical_kl))
KL_OVER_ACTIONS = RIGHT._replace(kl=_categorical_kl(lambda old, new: trpo.categorical_kl(old, new) / len(old)))


def gaussian_log_prob(form: Callable[[Phi, list[arb]], Scalar]) -> Callable[[str, Phi, Any], Scalar]:
    """A Gaussian log-probability of another form; categorical as it is."""
    return lambda distribution, phi, action: (
        trpo.log_prob(distribution, phi, action) if distribution == "categorical" else form(phi, exact(action))
    )


def categorical_log_prob(form: Callable[[Phi, int], Scalar]) -> Callable[[str, Phi, Any], Scalar]:
    """A categorical log-probability of another form; Gaussian as it is."""
    return lambda distribution, phi, action: (
        form(phi, action) if distribution == "categorical" else trpo.log_prob(distribution, phi, action)
    )


def _log_prob_terms(phi: Phi, action: list[arb], term: Callable[..., Scalar]) -> Scalar:
    half = len(phi) // 2
    return total(term(a - m, ls) for m, ls, a in zip(phi[:half], phi[half:], action, strict=True))


def _half_log_2_pi() -> arb:
    return (2 * arb.pi()).log() / 2


def _std_as_variance(d: Scalar, ls: Scalar) -> Scalar:
    return -d * d / (2 * exponential(ls)) - ls / 2 - _half_log_2_pi()


def _double_exponential(d: Scalar, ls: Scalar) -> Scalar:
    s = exponential(exponential(ls))
    return -d * d / (2 * s * s) - exponential(ls) - _half_log_2_pi()


def _plus_quadratic(d: Scalar, ls: Scalar) -> Scalar:
    return d * d / (2 * exponential(2 * ls)) - ls - _half_log_2_pi()


def _doubly_normalised(phi: Phi, action: int) -> Scalar:
    return trpo.categorical_log_probs([exponential(p) for p in trpo.categorical_log_probs(phi)])[action]


LOG_PROB_MISTAKES: dict[str, Callable[[str, Phi, Any], Scalar]] = {
    "logp-mean-dims": gaussian_log_prob(lambda phi, a: mean(trpo.gaussian_log_prob_terms(phi, a))),
    "logp-std-as-var": gaussian_log_prob(lambda phi, a: _log_prob_terms(phi, a, _std_as_variance)),
    "logp-double-exp": gaussian_log_prob(lambda phi, a: _log_prob_terms(phi, a, _double_exponential)),
    "logp-plus-quadratic": gaussian_log_prob(lambda phi, a: _log_prob_terms(phi, a, _plus_quadratic)),
    "cat-logits-as-logp": categorical_log_prob(lambda phi, a: phi[a]),
    "cat-double-softmax": categorical_log_prob(_doubly_normalised),
}


# ── Surrogate ────────────────────────────────────────────────


def ratio_inverted(old: Scalar, new: Scalar) -> Scalar:
    """π_old/π_new."""
    return exponential(old - new)


def ratio_always_one(old: Scalar, new: Scalar) -> Scalar:
    """π_new/π_new with the denominator held constant."""
    return exponential(new - constant(new))


def ratio_without_gradient(old: Scalar, new: Scalar) -> Scalar:
    """π_new/π_new with both depending on θ: 1, and no gradient."""
    return arb(1)


def _product_of_means(ratios: list[Scalar], advantages: list[Any]) -> Scalar:
    return mean(ratios) * mean(exact(advantages))


def _sum_of_products(ratios: list[Scalar], advantages: list[Any]) -> Scalar:
    return len(ratios) * trpo.mean_of_products(ratios, advantages)


def _minus(ratios: list[Scalar], advantages: list[Any]) -> Scalar:
    return -trpo.mean_of_products(ratios, advantages)


SURROGATE_MISTAKES: dict[str, Pieces] = {
    "ratio-inverted": RIGHT._replace(ratio=ratio_inverted),
    "ratio-always-one": RIGHT._replace(ratio=ratio_always_one),
    "ratio-broadcast-NxN": RIGHT._replace(surrogate=_product_of_means),
    "pg-sum-not-mean": RIGHT._replace(surrogate=_sum_of_products),
    "pg-wrong-sign": RIGHT._replace(surrogate=_minus),
} | {bug: RIGHT._replace(log_prob=log_prob) for bug, log_prob in LOG_PROB_MISTAKES.items()}


TANH_SLOPE = RIGHT._replace(activations=trpo.ACTIVATIONS | {"tanh": _tanh_with_slope_of_output})
SLOPE_OF_OUTPUT = RIGHT._replace(
    activations=trpo.ACTIVATIONS
    | {name: _slope_of_output(trpo.ACTIVATIONS[name]) for name in ("elu", "silu", "softplus", "gelu")}
)
SLOPE_MISTAKES: dict[str, Pieces] = {"tanh-deriv-of-output": TANH_SLOPE, "activation-slope-of-output": SLOPE_OF_OUTPUT}


# ── Fisher matrix ────────────────────────────────────────────────


def _metric_without_product(distribution: str, phi: Phi, pieces: Pieces) -> list[list[arb]]:
    if distribution != "categorical":
        return trpo.fisher_of_phi(distribution, phi, pieces)
    p = [exponential(z) for z in trpo.categorical_log_probs(phi)]
    return [[p[i] if i == j else arb(0) for j in range(len(p))] for i in range(len(p))]


def _without_log_std(operation: Operation) -> Answer:
    """The operation with log_std left out of the parameters: its block of every product and step is zero."""

    def answer(inputs: Inputs, conventions: Conventions) -> Outputs:
        policy = inputs.get("policy", inputs.get("gradient"))
        free = len(policy.get("log_std", []))

        def frozen(function: Function, theta: list[arb]) -> list[Any]:
            found = gradient(function, theta)
            return found[: len(found) - free] + [_zero_like(part) for part in found[len(found) - free :]]

        changed = {
            name: value | {"log_std": [0.0] * free} if name in ("vector", "b", "gradient", "step") and free else value
            for name, value in inputs.items()
        }
        return operation(changed, conventions, RIGHT._replace(gradient=frozen))

    return answer


def _zero_like(value: Any) -> Any:
    return [_zero_like(part) for part in value] if isinstance(value, list) else arb(0)


def _summed(inputs: Inputs, fisher: arb_mat, damping: Any) -> arb_mat:
    return trpo.with_damping(inputs, fisher * arb(rows_of(inputs)), damping)


def _undamped(inputs: Inputs, fisher: arb_mat, damping: Any) -> arb_mat:
    return fisher


def _damping_times_rows(inputs: Inputs, fisher: arb_mat, damping: Any) -> arb_mat:
    return trpo.with_damping(inputs, fisher, damping * rows_of(inputs))


def _only_damping(inputs: Inputs, fisher: arb_mat, damping: Any) -> arb_mat:
    return trpo.with_damping(inputs, fisher * arb(0), damping)


FISHER_MISTAKES: dict[str, Pieces] = {
    "kl-mean-dims": KL_MEAN_DIMS,
    "kl-missing-half": KL_MISSING_HALF,
    "kl-logvar-as-logstd": KL_LOG_VARIANCE,
    "fvp-softmax-metric": RIGHT._replace(fisher_of_phi=_metric_without_product),
    "fvp-sum-not-mean": RIGHT._replace(damped=_summed),
} | SLOPE_MISTAKES


def _rejecting_nan(search: Search) -> tuple[list[arb], int]:
    """A step of NaN (its length is √(2δ/0)) fails every comparison."""
    if any(entry.is_nan() for entry in search.step):
        return search.theta, -1
    return trpo.first_accepted(search)


def _scores(inputs: Inputs) -> list[list[arb]]:
    """∇ log π(a_b|x_b) of every row."""
    policy, theta = inputs["policy"], flatten(inputs["policy"])
    phis = trpo.phis_of(policy, theta, inputs["observations"], RIGHT)
    rows = zip(phis, trpo.jacobians(policy, theta, inputs["observations"], RIGHT), inputs["actions"], strict=True)
    found = []
    for phi, J, action in rows:
        to_phi = gradient(lambda z, action=action: trpo.log_prob(policy["distribution"], z, action), phi)
        found.append(times(arb_mat(J).transpose(), to_phi))
    return found


def _outer(vector: list[arb]) -> arb_mat:
    return arb_mat([[a * b for b in vector] for a in vector])


def _of_loss_gradients(inputs: Inputs, fisher: arb_mat, damping: Any) -> arb_mat:
    """(1/B) Σ (A_b s_b)(A_b s_b)ᵀ + λI."""
    result = fisher * arb(0)
    for score, advantage in zip(_scores(inputs), exact(inputs["advantages"]), strict=True):
        result = result + _outer([advantage * s for s in score])
    return trpo.with_damping(inputs, result * (arb(1) / rows_of(inputs)), damping)


def _of_mean_gradient(inputs: Inputs, fisher: arb_mat, damping: Any) -> arb_mat:
    """(1/B) g gᵀ + λI, g the mean gradient."""
    g = [arb(0) for _ in range(fisher.nrows())]
    for score, advantage in zip(_scores(inputs), exact(inputs["advantages"]), strict=True):
        g = moved(g, advantage / rows_of(inputs), score)
    return trpo.with_damping(inputs, _outer(g) * (arb(1) / rows_of(inputs)), damping)


def _until_solved(matrix: arb_mat, b: list[arb], iterations: int) -> list[arb]:
    """Conjugate gradients on a matrix of so low a rank that they end early, where the next iteration is 0/0."""
    x = [arb(0) for _ in b]
    for k in range(1, iterations + 1):
        further = trpo.conjugate_gradient_of(matrix, b, k)
        if not all(entry.is_finite() for entry in further):
            break
        x = further
    return x


EMPIRICAL_FISHERS: dict[str, Pieces] = {
    "fvp-empirical-fisher": RIGHT._replace(damped=_of_loss_gradients, conjugate_gradient=_until_solved),
    "fvp-batch-grad-outer": RIGHT._replace(damped=_of_mean_gradient, conjugate_gradient=_until_solved),
}

DAMPING_MISTAKES: dict[str, Pieces] = {
    "fvp-damping-misplaced": RIGHT._replace(damped=_damping_times_rows),
    # λI alone: one iteration of conjugate gradients ends at g/λ
    "fvp-self-kl-attached": RIGHT._replace(
        damped=_only_damping, conjugate_gradient=_until_solved, search=_rejecting_nan
    ),
}

NO_DAMPING: dict[str, Pieces] = {"fvp-no-damping": RIGHT._replace(damped=_undamped)}


def _columns_first(inputs: Inputs, conventions: Conventions) -> Outputs:
    """The Fisher matrix with each W flattened column by column."""
    order: list[int] = []
    for layer in inputs["policy"]["layers"]:
        start, (m, n) = len(order), (len(layer["W"]), len(layer["b"]))
        order += [start + i * n + j for j in range(n) for i in range(m)]
        order += [start + m * n + j for j in range(n)]
    order += range(len(order), len(order) + len(inputs["policy"].get("log_std", [])))
    fisher = trpo.fisher_matrix(inputs, conventions)["fisher"]
    return {"fisher": [[fisher[i][j] for j in order] for i in order]}


# ── Solvers and steps ────────────────────────────────────────────────


def _conjugate_gradient(
    direction: Callable[[int, list[arb], list[arb], arb], list[arb]],
) -> Callable[[arb_mat, list[arb], int], list[arb]]:
    """Conjugate gradients with another new direction, from the iteration, r, p and β."""

    def solve(matrix: arb_mat, b: list[arb], iterations: int) -> list[arb]:
        x, r, p = [arb(0) for _ in b], list(b), list(b)
        rr = dot(r, r)
        for iteration in range(iterations):
            if rr.is_zero():
                break
            Ap = times(matrix, p)
            alpha = rr / dot(p, Ap)
            x = moved(x, alpha, p)
            r = moved(r, -alpha, Ap)
            rr, before = dot(r, r), rr
            p = direction(iteration, r, p, rr / before)
        return x

    return solve


CG_MISTAKES: dict[str, Pieces] = {
    "cg-alias-r-p": RIGHT._replace(
        conjugate_gradient=_conjugate_gradient(lambda k, r, p, beta: moved(r, beta, r if k == 0 else p))
    ),
    "cg-beta-inverted": RIGHT._replace(
        conjugate_gradient=_conjugate_gradient(lambda k, r, p, beta: moved(r, 1 / beta, p))
    ),
    "cg-one-short": RIGHT._replace(
        conjugate_gradient=lambda matrix, b, iterations: trpo.conjugate_gradient_of(matrix, b, iterations - 1)
    ),
    "cg-steepest": RIGHT._replace(conjugate_gradient=_conjugate_gradient(lambda k, r, p, beta: list(r))),
}


def _never_stopping(matrix: arb_mat, b: list[arb], iterations: int) -> list[arb]:
    """The first division is 0/0 where b is 0."""
    if all(entry.is_zero() for entry in b):
        return [arb.nan() for _ in b]
    return trpo.conjugate_gradient_of(matrix, b, iterations)


BREAKDOWN: dict[str, Pieces] = {"cg-breakdown": RIGHT._replace(conjugate_gradient=_never_stopping)}


STEP_MISTAKES: dict[str, Pieces] = {
    "step-missing-2": RIGHT._replace(step_length=lambda quadratic, max_kl: (max_kl / quadratic).sqrt()),
    "npg-fixed-lr": RIGHT._replace(step_length=lambda quadratic, max_kl: max_kl),
    "step-lm-multiplied": RIGHT._replace(step_length=lambda quadratic, max_kl: (quadratic / (2 * max_kl)).sqrt()),
}


# ── Line search ────────────────────────────────────────────────


def _full_step_whatever(search: Search) -> tuple[list[arb], int]:
    return moved(search.theta, arb(1), search.step), trpo.first_accepted(search)[1]


def _whatever_kl(search: Search) -> tuple[list[arb], int]:
    return trpo.first_accepted(search._replace(within=lambda divergence: True))


def _either(search: Search) -> tuple[list[arb], int]:
    for j in range(search.max_backtracks):
        candidate = moved(search.theta, search.backtrack**j, search.step)
        if search.better(candidate) or search.near(candidate):
            return candidate, j
    return search.theta, -1


def _last_candidate_on_failure(search: Search) -> tuple[list[arb], int]:
    theta, accepted = trpo.first_accepted(search)
    if accepted == -1:
        theta = moved(search.theta, search.backtrack ** (search.max_backtracks - 1), search.step)
    return theta, accepted


def _full_step_on_failure(search: Search) -> tuple[list[arb], int]:
    theta, accepted = trpo.first_accepted(search)
    return (moved(search.theta, arb(1), search.step) if accepted == -1 else theta), accepted


def _accumulating(search: Search) -> tuple[list[arb], int]:
    candidate = search.theta
    for j in range(search.max_backtracks):
        candidate = moved(candidate, search.backtrack**j, search.step)
        if search.better(candidate) and search.near(candidate):
            return candidate, j
    return search.theta, -1


def _compounding(search: Search) -> tuple[list[arb], int]:
    """The expected improvement is multiplied by bʲ for each candidate in turn, and so shrinks as b^(j(j + 1)/2)."""
    times = arb(1)
    for j in range(search.max_backtracks):
        candidate = moved(search.theta, search.backtrack**j, search.step)
        found, expected = search.improvement(candidate), times * search.expected(candidate)
        if search.improves(found, expected) and search.near(candidate):
            return candidate, j
        times = times * search.backtrack**j
    return search.theta, -1


SEARCH_MISTAKES: dict[str, Pieces] = {
    "ls-result-ignored": RIGHT._replace(search=_full_step_whatever),
    "ls-no-kl-check": RIGHT._replace(search=_whatever_kl),
    "ls-kl-self": RIGHT._replace(search=_whatever_kl),
    "ls-or-instead-of-and": RIGHT._replace(search=_either),
    "ls-no-restore": RIGHT._replace(search=_last_candidate_on_failure),
    "ls-full-step-on-failure": RIGHT._replace(search=_full_step_on_failure),
    "ls-accumulate": RIGHT._replace(search=_accumulating),
    "ls-expected-compounding": RIGHT._replace(search=_compounding),
    "kl-mean-dims": KL_MEAN_DIMS,
    "kl-log-ratio-sign": KL_LOG_RATIO_SIGN,
}

KL_MISTAKES: dict[str, Pieces] = {
    "kl-mean-dims": KL_MEAN_DIMS,
    "kl-log-ratio-sign": KL_LOG_RATIO_SIGN,
    "kl-missing-half": KL_MISSING_HALF,
    "kl-logvar-as-logstd": KL_LOG_VARIANCE,
    "kl-negated": KL_NEGATED,
    "kl-self-zero": KL_SELF,
    "kl-torch-kldiv-convention": KL_OVER_ACTIONS,
}

KL_VALUE_MISTAKES = KL_MISTAKES | {"kl-const-one-not-D": KL_CONSTANT, "cat-kl-unnormalised": KL_UNNORMALISED}


def made_of(operation: Operation, pieces: dict[str, Pieces]) -> list[Mistake]:
    """One mistake per piece replaced."""
    return [Mistake(bug, operation.__name__, with_pieces(operation, replaced)) for bug, replaced in pieces.items()]


def without(pieces: dict[str, Pieces], *bugs: str) -> dict[str, Pieces]:
    """The mistakes but these."""
    return {bug: replaced for bug, replaced in pieces.items() if bug not in bugs}


MISTAKES: list[Mistake] = [
    Mistake(
        "weight-transposed",
        "network_forward",
        with_pieces(trpo.network_forward, RIGHT._replace(affine=_transposed_affine)),
    ),
    Mistake(
        "net-bias-missing",
        "network_forward",
        with_pieces(trpo.network_forward, RIGHT._replace(affine=_affine_without_bias)),
    ),
    Mistake("net-activation-on-output", "network_forward", _activation_on_outputs),
    Mistake(
        "gelu-tanh-form",
        "network_forward",
        with_pieces(trpo.network_forward, RIGHT._replace(activations=trpo.ACTIVATIONS | {"gelu": _gelu_by_tanh})),
    ),
    *made_of(trpo.surrogate, SURROGATE_MISTAKES),
    *made_of(
        trpo.surrogate_gradient,
        SURROGATE_MISTAKES | {"ratio-old-not-detached": RIGHT._replace(ratio=ratio_without_gradient)} | SLOPE_MISTAKES,
    ),
    *made_of(trpo.mean_kl, KL_VALUE_MISTAKES),
    *made_of(
        trpo.mean_kl_gradient,
        KL_MISTAKES | {"cat-kl-unnormalised": KL_UNNORMALISED} | SLOPE_MISTAKES,
    ),
    # kl-log-ratio-sign has the right Hessian: the logarithm is linear in log_std
    *made_of(trpo.mean_kl_hessian_vector_product, without(KL_MISTAKES, "kl-log-ratio-sign")),
    *made_of(trpo.fisher_matrix, FISHER_MISTAKES),
    Mistake("flat-order", "fisher_matrix", _columns_first),
    *made_of(trpo.fisher_vector_product, FISHER_MISTAKES | DAMPING_MISTAKES | NO_DAMPING),
    *made_of(trpo.conjugate_gradient, CG_MISTAKES | BREAKDOWN),
    *made_of(
        trpo.fisher_conjugate_gradient,
        CG_MISTAKES
        | BREAKDOWN
        | NO_DAMPING
        | {bug: FISHER_MISTAKES[bug] for bug in ("kl-mean-dims", "fvp-softmax-metric", "fvp-sum-not-mean")},
    ),
    *made_of(trpo.natural_gradient, FISHER_MISTAKES | DAMPING_MISTAKES),
    Mistake(
        "kl-mean-dims", "natural_gradient_minimum_norm", with_pieces(trpo.natural_gradient_minimum_norm, KL_MEAN_DIMS)
    ),
    Mistake(
        "fvp-sum-not-mean",
        "natural_gradient_minimum_norm",
        scaled(trpo.natural_gradient_minimum_norm, lambda inputs: arb(1) / rows_of(inputs)),
    ),
    Mistake("pg-sum-not-mean", "natural_gradient_minimum_norm", scaled(trpo.natural_gradient_minimum_norm, rows_of)),
    Mistake(
        "pg-wrong-sign", "natural_gradient_minimum_norm", scaled(trpo.natural_gradient_minimum_norm, lambda inputs: -1)
    ),
    *made_of(trpo.step_length, STEP_MISTAKES),
    *made_of(trpo.natural_gradient_step, FISHER_MISTAKES | DAMPING_MISTAKES | STEP_MISTAKES),
    Mistake("pg-wrong-sign", "expected_improvement", scaled(trpo.expected_improvement, lambda inputs: -1)),
    *made_of(trpo.line_search, SEARCH_MISTAKES),
    *made_of(
        trpo.trpo_step,
        without(SEARCH_MISTAKES, "ls-kl-self")
        | CG_MISTAKES
        | STEP_MISTAKES
        | NO_DAMPING
        | without(FISHER_MISTAKES, "kl-missing-half", "kl-logvar-as-logstd")
        | DAMPING_MISTAKES
        | EMPIRICAL_FISHERS
        | {"pg-wrong-sign": SURROGATE_MISTAKES["pg-wrong-sign"]},
    ),
    *(
        Mistake("fvp-missing-logstd", operation.__name__, _without_log_std(operation))
        for operation in (
            trpo.fisher_matrix,
            trpo.fisher_vector_product,
            trpo.fisher_conjugate_gradient,
            trpo.natural_gradient,
            trpo.natural_gradient_step,
            trpo.expected_improvement,
            trpo.trpo_step,
        )
    ),
]
