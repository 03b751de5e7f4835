"""The operations of the profile `trpo`, as defined: no derivative, Fisher matrix or product is derived by hand.

A gradient is coefficient 1 of a power series of the definition (`calculus`); the Fisher matrix of φ is enumerated over
the actions (categorical) or is the Hessian of the KL by series (Gaussian); a natural gradient is a ball solve, whose
success proves the matrix regular.  The pieces a definition is made of are a record, so that a mistake is a definition
with one piece replaced.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from flint import arb, arb_mat

from verification.certify.balls import dot, exact, less, mean, positive, total
from verification.certify.calculus import Scalar, constant, exponential, gradient, hessian, hessian_product, logarithm
from verification.certify.routes import trpo as routes

Inputs: TypeAlias = dict[str, Any]
Conventions: TypeAlias = dict[str, str]
Outputs: TypeAlias = dict[str, Any]
Phi: TypeAlias = list[Scalar]

# ── Parameters: θ as one flat list, the layers in order (W row by row, then b), log_std last ────────────────


def flatten(parameters: Inputs) -> list[arb]:
    """Return θ, or a vector shaped like it, as one list of exact balls."""
    flat = []
    for layer in parameters["layers"]:
        flat += [entry for row in layer["W"] for entry in row] + list(layer["b"])
    return exact(flat + list(parameters.get("log_std", [])))


def unflatten(like: Inputs, flat: Sequence[Any]) -> Outputs:
    """Return the list as parameters, in the structure of ``like``."""
    entries = iter(flat)
    layers = [
        {"W": [[next(entries) for _ in row] for row in layer["W"]], "b": [next(entries) for _ in layer["b"]]}
        for layer in like["layers"]
    ]
    free = {"log_std": [next(entries) for _ in like["log_std"]]} if "log_std" in like else {}
    return {"layers": layers} | free


# ── The network ────────────────────────────────────────────────


def tanh(z: Scalar) -> Scalar:
    """(eᶻ − e⁻ᶻ)/(eᶻ + e⁻ᶻ)."""
    return 1 - 2 / (exponential(2 * z) + 1)


def relu(z: Scalar) -> Scalar:
    """The positive part of z, decided."""
    return z if positive(constant(z)) else arb(0)


def identity(z: Scalar) -> Scalar:
    """The argument itself."""
    return z


def elu(z: Scalar) -> Scalar:
    """Above zero the argument, below zero eᶻ − 1, decided."""
    return z if positive(constant(z)) else exponential(z) - 1


def silu(z: Scalar) -> Scalar:
    """z/(1 + e⁻ᶻ)."""
    return z / (1 + exponential(-z))


def softplus(z: Scalar) -> Scalar:
    """log(1 + eᶻ)."""
    return logarithm(1 + exponential(z))


def gelu(z: Scalar) -> Scalar:
    """z times the standard normal distribution function at z."""
    return z * (1 + (z / arb(2).sqrt()).erf()) / 2


ACTIVATIONS: dict[str, Callable[[Scalar], Scalar]] = {
    "tanh": tanh,
    "relu": relu,
    "identity": identity,
    "elu": elu,
    "silu": silu,
    "softplus": softplus,
    "gelu": gelu,
}


def affine(h: Sequence[Scalar], W: Sequence[Sequence[Scalar]], b: Sequence[Scalar]) -> list[Scalar]:
    """h @ W + b for one row."""
    return [b[j] + total(h[i] * W[i][j] for i in range(len(h))) for j in range(len(b))]


# ── The distributions: φ is the logits, or the means and then log_std ─────────────────────────────────────


def _halves(phi: Phi) -> tuple[Phi, Phi]:
    return phi[: len(phi) // 2], phi[len(phi) // 2 :]


def categorical_log_probs(phi: Phi) -> list[Scalar]:
    """log of eᶻ over its sum, for every action."""
    log_normaliser = logarithm(total(exponential(z) for z in phi))
    return [z - log_normaliser for z in phi]


def gaussian_log_prob_terms(phi: Phi, action: Sequence[arb]) -> list[Scalar]:
    """log-density of every action dimension."""
    terms = []
    for m, log_std, a in zip(*_halves(phi), action, strict=True):
        z = (a - m) / exponential(log_std)
        terms.append(-z * z / 2 - log_std - (2 * arb.pi()).log() / 2)
    return terms


def log_prob(distribution: str, phi: Phi, action: Any) -> Scalar:
    """log π(a|s) of one row."""
    if distribution == "categorical":
        return categorical_log_probs(phi)[action]
    return total(gaussian_log_prob_terms(phi, exact(action)))


def categorical_kl(old: Phi, new: Phi) -> Scalar:
    """Σ p (log p − log q)."""
    pairs = zip(categorical_log_probs(old), categorical_log_probs(new), strict=True)
    return total(exponential(p) * (p - q) for p, q in pairs)


def gaussian_kl_terms(old: Phi, new: Phi) -> list[Scalar]:
    """log σ₁ − log σ₀ + (σ₀² + (μ₀ − μ₁)²)/2σ₁² − ½ of every action dimension."""
    terms = []
    for m0, ls0, m1, ls1 in zip(*_halves(old), *_halves(new), strict=True):
        variance0, variance1 = exponential(2 * ls0), exponential(2 * ls1)
        terms.append(ls1 - ls0 + (variance0 + (m0 - m1) * (m0 - m1)) / (2 * variance1) - arb(1) / 2)
    return terms


def kl(distribution: str, old: Phi, new: Phi) -> Scalar:
    """KL(old ‖ new) of one row."""
    if distribution == "categorical":
        return categorical_kl(old, new)
    return total(gaussian_kl_terms(old, new))


def entropy(distribution: str, phi: Phi) -> Scalar:
    """Entropy of one row."""
    if distribution == "categorical":
        return -total(exponential(p) * p for p in categorical_log_probs(phi))
    return total(log_std + (2 * arb.pi() * arb(1).exp()).log() / 2 for log_std in _halves(phi)[1])


def ratio(old_log_prob: Scalar, new_log_prob: Scalar) -> Scalar:
    """π_new(a|s)/π_old(a|s)."""
    return exponential(new_log_prob - old_log_prob)


# ── The pieces ────────────────────────────────────────────────


class Pieces(NamedTuple):
    """What the definitions are made of; a mistake replaces one."""

    activations: dict[str, Callable[[Scalar], Scalar]]
    affine: Callable[..., list[Scalar]]
    log_prob: Callable[[str, Phi, Any], Scalar]
    kl: Callable[[str, Phi, Phi], Scalar]
    entropy: Callable[[str, Phi], Scalar]
    ratio: Callable[[Scalar, Scalar], Scalar]
    surrogate: "Callable[[list[Scalar], list[Any]], Scalar]"
    gradient: "Callable[[Callable[..., Any], list[arb]], list[Any]]"
    fisher_of_phi: "Callable[[str, Phi, Pieces], list[list[arb]]]"
    damped: "Callable[[Inputs, arb_mat, Any], arb_mat]"
    conjugate_gradient: "Callable[[arb_mat, list[arb], int], list[arb]]"
    step_length: "Callable[[arb, arb], arb]"
    search: "Callable[[Search], tuple[list[arb], int]]"


def outputs_of_network(
    network: Inputs, theta: Sequence[Scalar], observations: Sequence[Any], pieces: Pieces
) -> list[list[Scalar]]:
    """The network's outputs for every observation."""
    layers = unflatten(network, theta)["layers"]
    activation = pieces.activations[network["activation"]]
    rows = []
    for h in exact(observations):
        for layer in layers[:-1]:
            h = [activation(z) for z in pieces.affine(h, layer["W"], layer["b"])]
        rows.append(pieces.affine(h, layers[-1]["W"], layers[-1]["b"]))
    return rows


def phis_of(policy: Inputs, theta: Sequence[Scalar], observations: Sequence[Any], pieces: Pieces) -> list[Phi]:
    """φ_θ(x) of every observation."""
    free = list(theta[len(theta) - len(policy.get("log_std", [])) :])
    return [row + free for row in outputs_of_network(policy, theta, observations, pieces)]


def log_probs(policy: Inputs, theta: Sequence[Scalar], inputs: Inputs, pieces: Pieces) -> list[Scalar]:
    """log π_θ(a_b|x_b) of every row."""
    phis = phis_of(policy, theta, inputs["observations"], pieces)
    return [pieces.log_prob(policy["distribution"], phi, a) for phi, a in zip(phis, inputs["actions"], strict=True)]


def mean_of_products(ratios: list[Scalar], advantages: list[Any]) -> Scalar:
    """Mean of r·A."""
    return mean([r * a for r, a in zip(ratios, exact(advantages), strict=True)])


def surrogate_at(inputs: Inputs, theta: Sequence[Scalar], old: list[Scalar], pieces: Pieces) -> Scalar:
    """The surrogate at θ, with the old log-probabilities given."""
    new = log_probs(inputs["policy"], theta, inputs, pieces)
    return pieces.surrogate([pieces.ratio(p, q) for p, q in zip(old, new, strict=True)], inputs["advantages"])


def mean_kl_from(
    policy: Inputs, theta_old: Sequence[arb], observations: Sequence[Any], direction: str, pieces: Pieces
) -> Callable[[Sequence[Scalar]], Scalar]:
    """Mean KL between the policies with parameters θ_old and θ, as a function of θ."""
    old_phis = phis_of(policy, theta_old, observations, pieces)

    def divergence(theta: Sequence[Scalar]) -> Scalar:
        divergences = []
        for old, new in zip(old_phis, phis_of(policy, theta, observations, pieces), strict=True):
            first, second = (old, new) if direction == "old_new" else (new, old)
            divergences.append(pieces.kl(policy["distribution"], first, second))
        return mean(divergences)

    return divergence


# ── The Fisher matrix ────────────────────────────────────────────────


def fisher_of_phi(distribution: str, phi: Phi, pieces: Pieces) -> list[list[arb]]:
    """Fisher matrix of φ: Σ_a p_a s_a s_aᵀ over the actions, or the Hessian of KL(φ ‖ ·) at φ."""
    if distribution != "categorical":
        return hessian(lambda new: pieces.kl(distribution, phi, new), phi)
    size = len(phi)
    actions = [
        (
            exponential(pieces.log_prob(distribution, phi, a)),
            gradient(lambda z, a=a: pieces.log_prob(distribution, z, a), phi),
        )
        for a in range(size)
    ]
    return [[total(p * s[i] * s[j] for p, s in actions) for j in range(size)] for i in range(size)]


def jacobians(policy: Inputs, theta: list[arb], observations: Sequence[Any], pieces: Pieces) -> list[list[list[arb]]]:
    """∂φ_b/∂θ of every row, (B, K, P)."""
    columns = pieces.gradient(lambda t: phis_of(policy, t, observations, pieces), theta)
    sizes = [len(phi) for phi in columns[0]]
    return [[[column[b][k] for column in columns] for k in range(sizes[b])] for b in range(len(sizes))]


def fisher_matrix_of(policy: Inputs, theta: list[arb], observations: Sequence[Any], pieces: Pieces) -> arb_mat:
    """(1/B) Σ_b J_bᵀ M_b J_b."""
    size = len(theta)
    result = arb_mat(size, size)
    phis = phis_of(policy, theta, observations, pieces)
    for phi, rows in zip(phis, jacobians(policy, theta, observations, pieces), strict=True):
        M = arb_mat(pieces.fisher_of_phi(policy["distribution"], phi, pieces))
        J = arb_mat(rows)
        result = result + J.transpose() * (M * J)
    return result * (arb(1) / len(observations))


def identity_matrix(size: int) -> arb_mat:
    """I."""
    return arb_mat([[int(i == j) for j in range(size)] for i in range(size)])


def with_damping(inputs: Inputs, fisher: arb_mat, damping: Any) -> arb_mat:
    """F + damping I."""
    return fisher + identity_matrix(fisher.nrows()) * arb(damping)


def fisher_of(inputs: Inputs, pieces: Pieces) -> arb_mat:
    """F of an op's inputs."""
    return fisher_matrix_of(inputs["policy"], flatten(inputs["policy"]), inputs["observations"], pieces)


def damped_fisher(inputs: Inputs, pieces: Pieces) -> arb_mat:
    """F + damping I of an op's inputs."""
    return pieces.damped(inputs, fisher_of(inputs, pieces), inputs["damping"])


def times(matrix: arb_mat, vector: Sequence[arb]) -> list[arb]:
    """matrix · vector."""
    return [entry for (entry,) in (matrix * arb_mat([[v] for v in vector])).tolist()]


def solve(matrix: arb_mat, vector: Sequence[arb]) -> list[arb]:
    """matrix⁻¹ vector; a ball solve succeeds only if every matrix in the ball is regular."""
    try:
        return [entry for (entry,) in matrix.solve(arb_mat([[v] for v in vector])).tolist()]
    except ZeroDivisionError:
        return [arb.nan() for _ in vector]  # not proven regular at this precision: `certify` raises it


# ── Solvers and the step ────────────────────────────────────────────────


def conjugate_gradient_of(matrix: arb_mat, b: list[arb], iterations: int) -> list[arb]:
    """x after so many iterations, from x = 0, or where the residual is zero."""
    x, r, p = [arb(0) for _ in b], list(b), list(b)
    rr = dot(r, r)
    for _ in range(iterations):
        if rr.is_zero():  # exactly: x is the solution, and there is no direction to go
            break
        Ap = times(matrix, p)
        alpha = rr / dot(p, Ap)
        x = [x_i + alpha * p_i for x_i, p_i in zip(x, p, strict=True)]
        r = [r_i - alpha * q_i for r_i, q_i in zip(r, Ap, strict=True)]
        rr, rr_before = dot(r, r), rr
        p = [r_i + rr / rr_before * p_i for r_i, p_i in zip(r, p, strict=True)]
    return x


SMALL = 1e-10  # of rᵀr


def iterations_made(conventions: Conventions, matrix: arb_mat, b: list[arb], iterations: int) -> int:
    """How many iterations the declared stop lets happen."""
    rule = conventions["conjugate_gradient.stop"]
    if rule == "never":
        return iterations
    if rule == "1e-10_from_start" and less(dot(b, b), arb(SMALL)):
        return 0
    for made in range(1, iterations):
        r = moved(b, arb(-1), times(matrix, conjugate_gradient_of(matrix, b, made)))
        if less(dot(r, r), arb(SMALL)):
            return made
    return iterations


def length_of_step(quadratic_form: arb, max_kl: arb) -> arb:
    """√(2δ/xᵀ(F + λI)x)."""
    return (2 * max_kl / quadratic_form).sqrt()


class Search(NamedTuple):
    """What a line search needs.

    Fields: ``improvement``, ``expected`` improvement and ``divergence`` are functions of θ; ``improves`` of the first
    two, and ``within`` of the last.
    """

    theta: list[arb]
    step: list[arb]
    backtrack: arb
    max_backtracks: int
    improvement: Callable[[list[arb]], arb]
    expected: Callable[[list[arb]], arb]
    divergence: Callable[[list[arb]], arb]
    improves: Callable[[arb, arb], bool]
    within: Callable[[arb], bool]

    def better(self, candidate: list[arb]) -> bool:
        """Whether a candidate improves as the rule asks."""
        return self.improves(self.improvement(candidate), self.expected(candidate))

    def near(self, candidate: list[arb]) -> bool:
        """Whether a candidate is within the trust region, if the rule asks for that."""
        return self.within(self.divergence(candidate))


def moved(theta: list[arb], factor: arb, step: list[arb]) -> list[arb]:
    """θ + factor · step."""
    return [t + factor * s for t, s in zip(theta, step, strict=True)]


def first_accepted(search: Search) -> tuple[list[arb], int]:
    """The first candidate that improves within the trust region, and its number; else θ and −1."""
    for j in range(search.max_backtracks):
        candidate = moved(search.theta, search.backtrack**j, search.step)
        if search.better(candidate) and search.near(candidate):
            return candidate, j
    return search.theta, -1


def at_least(a: arb, b: arb | int) -> bool:
    """Decide a ≥ b."""
    return not less(a, arb(b))


def by_part(part: arb | int) -> Callable[[arb, arb], bool]:
    """Improves strictly, and by more than a part of what is expected."""
    return lambda gain, expected: positive(gain) and (part == 0 or less(part * expected, gain))


def searched(inputs: Inputs, conventions: Conventions, step: list[arb], pieces: Pieces) -> tuple[list[arb], int]:
    """The line search from the policy given along a full step."""
    policy, theta = inputs["policy"], flatten(inputs["policy"])
    max_kl = arb(inputs["max_kl"])
    old = log_probs(policy, theta, inputs, pieces)
    before = surrogate_at(inputs, theta, old, pieces)
    improves, within = {
        "improves_and_kl": (by_part(0), lambda d: at_least(max_kl, d)),
        "improves_and_kl_strict": (by_part(0), lambda d: less(d, max_kl)),
        "improves_and_1.5_kl": (lambda gain, expected: at_least(gain, 0), lambda d: at_least(3 * max_kl / 2, d)),
        "no_worse_and_kl": (lambda gain, expected: at_least(gain, 0), lambda d: at_least(max_kl, d)),
        "kl_strict": (lambda gain, expected: True, lambda d: less(d, max_kl)),
        "tenth_of_expected": (by_part(arb(1) / 10), lambda d: True),
        "half_of_expected_and_kl_strict": (by_part(arb(1) / 2), lambda d: less(d, max_kl)),
    }[conventions["line_search.accept"]]
    relative = "expected" in conventions["line_search.accept"]
    g = gradient_at_old(inputs, pieces) if relative else [arb(0) for _ in theta]
    return pieces.search(
        Search(
            theta=theta,
            step=step,
            backtrack=arb(inputs["backtrack"]),
            max_backtracks=inputs["max_backtracks"],
            improvement=lambda t: surrogate_at(inputs, t, old, pieces) - before,
            expected=lambda t: dot(g, moved(t, arb(-1), theta)),
            divergence=mean_kl_from(policy, theta, inputs["observations"], conventions["kl.direction"], pieces),
            improves=improves,
            within=within,
        )
    )


RIGHT = Pieces(
    activations=ACTIVATIONS,
    affine=affine,
    log_prob=log_prob,
    kl=kl,
    entropy=entropy,
    ratio=ratio,
    surrogate=mean_of_products,
    gradient=gradient,
    fisher_of_phi=fisher_of_phi,
    damped=with_damping,
    conjugate_gradient=conjugate_gradient_of,
    step_length=length_of_step,
    search=first_accepted,
)

# ── The operations ────────────────────────────────────────────────


def network_forward(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """The network's outputs for every observation."""
    network = inputs["network"]
    theta = flatten(network)
    return {"outputs": outputs_of_network(network, theta, inputs["observations"], pieces)}


def surrogate(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """Mean of r·A."""
    return {"surrogate": surrogate_at(inputs, flatten(inputs["policy"]), exact(inputs["old_log_prob"]), pieces)}


def surrogate_gradient(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """Its gradient with respect to θ."""
    policy, old = inputs["policy"], exact(inputs["old_log_prob"])
    g = pieces.gradient(lambda theta: surrogate_at(inputs, theta, old, pieces), flatten(policy))
    return {"gradient": unflatten(policy, g)}


def _mean_kl_of_new(inputs: Inputs, conventions: Conventions, pieces: Pieces) -> Callable[[Sequence[Scalar]], Scalar]:
    theta_old, direction = flatten(inputs["old_policy"]), conventions["kl.direction"]
    return mean_kl_from(inputs["new_policy"], theta_old, inputs["observations"], direction, pieces)


def mean_kl(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """KL between old and new policy, averaged over the observations."""
    return {"mean_kl": _mean_kl_of_new(inputs, conventions, pieces)(flatten(inputs["new_policy"]))}


def mean_kl_gradient(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """Its gradient with respect to the new parameters."""
    new = inputs["new_policy"]
    g = pieces.gradient(_mean_kl_of_new(inputs, conventions, pieces), flatten(new))
    return {"gradient": unflatten(new, g)}


def mean_kl_hessian_vector_product(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """Its Hessian at the new parameters times a vector, polarised."""
    new = inputs["new_policy"]
    product = hessian_product(_mean_kl_of_new(inputs, conventions, pieces), flatten(new), flatten(inputs["vector"]))
    return {"product": unflatten(new, product)}


def fisher_matrix(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """F."""
    policy = inputs["policy"]
    fisher = fisher_matrix_of(policy, flatten(policy), inputs["observations"], pieces)
    return {"fisher": pieces.damped(inputs, fisher, 0).tolist()}


def fisher_vector_product(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """(F + λI) v."""
    return {"product": unflatten(inputs["policy"], times(damped_fisher(inputs, pieces), flatten(inputs["vector"])))}


def conjugate_gradient(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """x after so many iterations on a matrix given."""
    matrix, b = arb_mat(exact(inputs["matrix"])), exact(inputs["b"])
    return {"x": pieces.conjugate_gradient(matrix, b, iterations_made(conventions, matrix, b, inputs["iterations"]))}


def fisher_conjugate_gradient(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """x after so many iterations on F + λI."""
    matrix, b = damped_fisher(inputs, pieces), flatten(inputs["b"])
    x = pieces.conjugate_gradient(matrix, b, iterations_made(conventions, matrix, b, inputs["iterations"]))
    return {"x": unflatten(inputs["policy"], x)}


def natural_gradient(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """(F + λI)⁻¹ g."""
    x = solve(damped_fisher(inputs, pieces), flatten(inputs["gradient"]))
    return {"direction": unflatten(inputs["policy"], x)}


def epsilon_of(conventions: Conventions) -> arb:
    """ε, the float64 number."""
    return arb(float(conventions["step_length.epsilon"]))


def step_length(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """√(2δ/(xᵀ(F + λI)x + ε)) from x and the product."""
    quadratic_form = dot(exact(inputs["direction"]), exact(inputs["product"])) + epsilon_of(conventions)
    return {"step_length": pieces.step_length(quadratic_form, arb(inputs["max_kl"]))}


def _full_step(inputs: Inputs, conventions: Conventions, fisher: arb_mat, x: list[arb], pieces: Pieces) -> list[arb]:
    if all(x_i.is_zero() for x_i in x):
        return x  # whatever the length: there is nowhere to go
    damping = inputs["damping"] if conventions["step_length.damping"] == "damped" else 0
    quadratic_form = dot(x, times(pieces.damped(inputs, fisher, damping), x)) + epsilon_of(conventions)
    beta = pieces.step_length(quadratic_form, arb(inputs["max_kl"]))
    return [beta * x_i for x_i in x]


def natural_gradient_step(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """The step along (F + λI)⁻¹ g with quadratic KL δ."""
    fisher = fisher_of(inputs, pieces)
    x = solve(pieces.damped(inputs, fisher, inputs["damping"]), flatten(inputs["gradient"]))
    return {"step": unflatten(inputs["policy"], _full_step(inputs, conventions, fisher, x, pieces))}


def expected_improvement(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """gᵀ step."""
    return {"expected_improvement": dot(flatten(inputs["gradient"]), flatten(inputs["step"]))}


def line_search(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """The first candidate accepted along a full step."""
    theta, accepted = searched(inputs, conventions, flatten(inputs["full_step"]), pieces)
    return {"parameters": unflatten(inputs["policy"], theta), "accepted": accepted}


def gradient_at_old(inputs: Inputs, pieces: Pieces) -> list[arb]:
    """Gradient of the surrogate at the policy that drew the actions."""
    theta = flatten(inputs["policy"])
    old = log_probs(inputs["policy"], theta, inputs, pieces)
    return pieces.gradient(lambda t: surrogate_at(inputs, t, old, pieces), theta)


def trpo_step(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """Gradient, conjugate gradients, step length, line search."""
    g = gradient_at_old(inputs, pieces)
    fisher = fisher_of(inputs, pieces)
    matrix = pieces.damped(inputs, fisher, inputs["damping"])
    x = pieces.conjugate_gradient(matrix, g, iterations_made(conventions, matrix, g, inputs["iterations"]))
    step = _full_step(inputs, conventions, fisher, x, pieces)
    theta, accepted = searched(inputs, conventions, step, pieces)
    return {"parameters": unflatten(inputs["policy"], theta), "accepted": accepted}


# ── Minimum norm ────────────────────────────────────────────────


def natural_gradient_minimum_norm(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """F⁺ g and the rank of F, by the form that proves the rank.

    With fewer independent rows than parameters, F = Rᵀ B R with R of full row rank and B regular, and F⁺ Rᵀ c =
    Rᵀ(RRᵀ)⁻¹B⁻¹c.  Otherwise the null space of F is known: shifting all logits of a categorical policy alike, through
    the bias or the weights of one unit of the last layer; with Z spanning it, F⁺ g = (F + ZZᵀ)⁻¹ g for g in the range
    of F.
    """
    policy, theta = inputs["policy"], flatten(inputs["policy"])
    null_space = _shifts_of_all_logits(policy) if policy["distribution"] == "categorical" else []
    independent = len(theta) - len(null_space)
    rows = _independent_rows(inputs, theta, pieces)
    if len(rows.matrix) <= independent:
        R = arb_mat(rows.matrix)
        y = solve(R * R.transpose(), solve(arb_mat(rows.metric), rows.cotangent))
        x, rank = times(R.transpose(), y), len(rows.matrix)
    else:
        F = fisher_matrix_of(policy, theta, inputs["observations"], pieces)
        Z = arb_mat(null_space).transpose() if null_space else arb_mat(len(theta), 1)
        x, rank = solve(F + Z * Z.transpose(), gradient_at_old(inputs, pieces)), independent
    return {"direction": unflatten(policy, x), "rank": rank}


def _shifts_of_all_logits(policy: Inputs) -> list[list[int]]:
    """The parameters' directions that shift all logits of an observation alike, whatever the observation."""
    shifts = []
    last = policy["layers"][-1]
    for unit in range(len(last["W"]) + 1):
        layers = [
            {"W": [[0] * len(row) for row in layer["W"]], "b": [0] * len(layer["b"])} for layer in policy["layers"]
        ]
        target = layers[-1]
        if unit < len(last["W"]):
            target["W"][unit] = [1] * len(last["b"])
        else:
            target["b"] = [1] * len(last["b"])
        shifts.append([entry for layer in layers for row in [*layer["W"], layer["b"]] for entry in row])
    return shifts


class _Rows(NamedTuple):
    """F = matrixᵀ metric matrix and g = matrixᵀ cotangent, with as few rows as F can have rank."""

    matrix: list[list[arb]]
    metric: list[list[arb]]
    cotangent: list[arb]


def _independent_rows(inputs: Inputs, theta: list[arb], pieces: Pieces) -> _Rows:
    """The rows of the coordinates that F depends on: logits less the last logit; means; each log_std once."""
    policy, observations = inputs["policy"], inputs["observations"]
    advantages = exact(inputs["advantages"])
    batch = len(observations)
    all_jacobians = jacobians(policy, theta, observations, pieces)
    categorical = policy["distribution"] == "categorical"
    per_row = len(policy["layers"][-1]["b"]) - (1 if categorical else 0)
    free = 0 if categorical else len(policy["log_std"])
    size = batch * per_row + free
    matrix: list[list[arb]] = []
    metric = [[arb(0) for _ in range(size)] for _ in range(size)]
    cotangent = [arb(0) for _ in range(size)]
    phis = phis_of(policy, theta, observations, pieces)
    for b, (phi, a, J) in enumerate(zip(phis, inputs["actions"], all_jacobians, strict=True)):
        last = J[-1]
        matrix += [[j - l_ if categorical else j for j, l_ in zip(J[k], last, strict=True)] for k in range(per_row)]
        M = pieces.fisher_of_phi(policy["distribution"], phi, pieces)
        score = gradient(lambda z, a=a: pieces.log_prob(policy["distribution"], z, a), phi)
        places = [b * per_row + k for k in range(per_row)] + [batch * per_row + k for k in range(free)]
        for i, place_i in enumerate(places):
            cotangent[place_i] = cotangent[place_i] + score[i] * advantages[b] / batch
            for j, place_j in enumerate(places):
                metric[place_i][place_j] = metric[place_i][place_j] + M[i][j] / batch
    matrix += all_jacobians[0][per_row : per_row + free] if free else []
    return _Rows(matrix, metric, cotangent)


# ── Second routes made of the same pieces; those of `routes` share none ────────────────────────────────────────────


def surrogate_gradient_by_scores(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Mean of r·A times the score of every row, the score of φ by series, carried to θ by the Jacobian."""
    policy, theta = inputs["policy"], flatten(inputs["policy"])
    phis = phis_of(policy, theta, inputs["observations"], RIGHT)
    rows = zip(phis, jacobians(policy, theta, inputs["observations"], RIGHT), inputs["actions"], strict=True)
    weights = [
        exponential(log_prob(policy["distribution"], phi, a) - arb(old)) * arb(A) / len(phis)
        for phi, a, old, A in zip(phis, inputs["actions"], inputs["old_log_prob"], inputs["advantages"], strict=True)
    ]
    g = [arb(0) for _ in theta]
    for weight, (phi, J, a) in zip(weights, rows, strict=True):
        score = gradient(lambda z, a=a: log_prob(policy["distribution"], z, a), phi)
        g = moved(g, weight, times(arb_mat(J).transpose(), score))
    return {"gradient": unflatten(policy, g)}


def _curvature_of_kl(inputs: Inputs, vector: list[arb], direction: str) -> list[arb]:
    policy, theta = inputs["policy"], flatten(inputs["policy"])
    return hessian_product(mean_kl_from(policy, theta, inputs["observations"], direction, RIGHT), theta, vector)


def fisher_vector_product_by_kl(inputs: Inputs, conventions: Conventions) -> Outputs:
    """The Hessian of the mean KL(θ ‖ ·) at θ times the vector, polarised, plus λ times the vector."""
    vector = flatten(inputs["vector"])
    product = _curvature_of_kl(inputs, vector, "old_new")
    return {"product": unflatten(inputs["policy"], moved(product, arb(inputs["damping"]), vector))}


def fisher_matrix_by_kl(inputs: Inputs, conventions: Conventions) -> Outputs:
    """The Hessian of the mean KL(· ‖ θ) at θ, the other direction, polarised column by column."""
    policy, theta = inputs["policy"], flatten(inputs["policy"])
    return {"fisher": hessian(mean_kl_from(policy, theta, inputs["observations"], "new_old", RIGHT), theta)}


def natural_gradient_by_hessian(inputs: Inputs, conventions: Conventions) -> Outputs:
    """The solution with the Hessian of the mean KL(θ ‖ ·) at θ, polarised, in place of the Fisher matrix."""
    policy, theta = inputs["policy"], flatten(inputs["policy"])
    H = arb_mat(hessian(mean_kl_from(policy, theta, inputs["observations"], "old_new", RIGHT), theta))
    x = solve(with_damping(inputs, H, inputs["damping"]), flatten(inputs["gradient"]))
    return {"direction": unflatten(policy, x)}


_BY_SERIES: dict[str, tuple[Callable[[Inputs, Conventions], Outputs], ...]] = {
    "surrogate_gradient": (surrogate_gradient_by_scores,),
    "fisher_vector_product": (fisher_vector_product_by_kl,),
    "fisher_matrix": (fisher_matrix_by_kl,),
    "natural_gradient": (natural_gradient_by_hessian,),
}

ROUTES = {op: (*others, *_BY_SERIES.get(op, ())) for op, others in routes.ROUTES.items()}

DEFINITIONS: dict[str, Callable[[Inputs, Conventions], Outputs]] = {
    "network_forward": network_forward,
    "surrogate": surrogate,
    "surrogate_gradient": surrogate_gradient,
    "mean_kl": mean_kl,
    "mean_kl_gradient": mean_kl_gradient,
    "mean_kl_hessian_vector_product": mean_kl_hessian_vector_product,
    "fisher_matrix": fisher_matrix,
    "fisher_vector_product": fisher_vector_product,
    "conjugate_gradient": conjugate_gradient,
    "fisher_conjugate_gradient": fisher_conjugate_gradient,
    "natural_gradient": natural_gradient,
    "natural_gradient_minimum_norm": natural_gradient_minimum_norm,
    "step_length": step_length,
    "natural_gradient_step": natural_gradient_step,
    "expected_improvement": expected_improvement,
    "line_search": line_search,
    "trpo_step": trpo_step,
}
