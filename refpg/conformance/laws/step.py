"""Laws of the trust-region step, the line search and the optimisers."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from refpg.conformance.laws.answers import Answers, Unanswerable
from refpg.conformance.laws.families import POLICIES
from refpg.conformance.laws.law import Gap, at_least, equal, law, never
from refpg.conformance.laws.ordinary import flat, shaped
from refpg.conformance.laws.parameters import log_prob_of, mirrored, moved, scaled
from refpg.conformance.laws.rounding import Rounded, rounded, sqrt


def _without_epsilon(f: Answers) -> None:
    if f.conventions["step_length.epsilon"] != "0":
        raise Unanswerable("stated for a step length without an epsilon")


@law(
    source="[TRPO App. C]",
    ops=("step_length",),
    draw="systems",
    blind="nothing of the step length",
)
def step_length_reaches_the_edge_of_the_region(
    f: Answers, matrix: Any, b: Any, max_kl: float
) -> Iterator[Gap]:
    """½ (βx)ᵀH(βx) = δ."""
    _without_epsilon(f)
    x = rounded(b)
    Hx = rounded(matrix) @ x
    beta = f("step_length", direction=x, product=Hx, max_kl=max_kl)
    yield equal(0.5 * (beta * x * (beta * Hx)).sum(), max_kl)


@law(
    source="[TRPO App. C]",
    ops=("step_length",),
    draw="systems",
    blind="a constant factor",
)
def step_length_undoes_the_length_of_the_direction(
    f: Answers, matrix: Any, b: Any, max_kl: float, factor: float
) -> Iterator[Gap]:
    """c x has the length β/c, and four times δ the length 2β."""
    _without_epsilon(f)
    x = rounded(b)
    Hx = rounded(matrix) @ x
    beta = f("step_length", direction=x, product=Hx, max_kl=max_kl)
    yield equal(f("step_length", direction=factor * x, product=factor * Hx, max_kl=max_kl), beta / factor)
    yield equal(f("step_length", direction=x, product=Hx, max_kl=4 * max_kl), 2 * beta)


def _step(f: Answers, policy: Any, observations: Any, gradient: Any, damping: float, max_kl: float) -> dict[str, Any]:
    answer: dict[str, Any] = f(
        "natural_gradient_step",
        policy=policy,
        observations=observations,
        gradient=gradient,
        damping=damping,
        max_kl=max_kl,
    )
    return answer


def _gradient(policy: Any, vector: Any) -> dict[str, Any]:
    """A gradient that is not zero."""
    return shaped(policy, Rounded(flat(vector).value + 0.0625))


@law(
    source="[TRPO (17)]",
    ops=("natural_gradient_step", "fisher_vector_product"),
    draw="policies",
    variants=POLICIES,
    blind="the direction, and a Fisher matrix that is wrong in both",
)
def natural_step_has_quadratic_kl_delta(
    f: Answers, policy: Any, vector: Any, observations: Any, damping: float, max_kl: float
) -> Iterator[Gap]:
    """½ sᵀ(F + λI)s = δ, or ½ sᵀFs = δ by the declared convention."""
    _without_epsilon(f)
    s = _step(f, policy, observations, _gradient(policy, vector), damping, max_kl)
    if not np.isfinite(flat(s).error).all():
        return  # measured without damping, the direction has no curvature: no step has this KL
    measured = damping if f.conventions["step_length.damping"] == "damped" else 0.0
    Hs = f("fisher_vector_product", policy=policy, observations=observations, vector=s, damping=measured)
    yield equal(0.5 * (flat(s) * flat(Hs)).sum(), max_kl)


@law(
    source="[TRPO (17)]",
    ops=("natural_gradient_step", "natural_gradient"),
    draw="policies",
    variants=POLICIES,
    blind="a direction that is wrong in both",
)
def natural_step_maximises_the_linear_gain(
    f: Answers, policy: Any, vector: Any, observations: Any, damping: float, max_kl: float
) -> Iterator[Gap]:
    """KKT: s = x/λ* with x the natural gradient and λ* = √(gᵀx/2δ), so gᵀs = √(2δ gᵀx) (damped step length)."""
    if f.conventions["step_length.damping"] != "damped":
        raise Unanswerable("stated for a step length that is measured with the damping")
    _without_epsilon(f)
    gradient = _gradient(policy, vector)
    s = flat(_step(f, policy, observations, gradient, damping, max_kl))
    x = flat(f("natural_gradient", policy=policy, observations=observations, gradient=gradient, damping=damping))
    gain = (flat(gradient) * x).sum()
    yield equal(s, x / sqrt(gain / (2 * max_kl)))
    yield equal((flat(gradient) * s).sum(), sqrt(2 * max_kl * gain))


@law(
    source="[TRPO (17)]",
    ops=("natural_gradient_step",),
    draw="policies",
    variants=POLICIES,
    blind="a constant factor",
)
def natural_step_ignores_the_scale_of_the_gradient(
    f: Answers, policy: Any, vector: Any, observations: Any, damping: float, max_kl: float, factor: float
) -> Iterator[Gap]:
    """c g gives the same step for c > 0; −g the opposite; four times δ twice the step."""
    _without_epsilon(f)
    gradient = _gradient(policy, vector)
    s = flat(_step(f, policy, observations, gradient, damping, max_kl))
    if not np.isfinite(s.error).all():
        return  # measured without damping, the direction has no curvature: there is no step
    rest = (damping, max_kl)
    yield equal(flat(_step(f, policy, observations, scaled(gradient, factor), *rest)), s)
    yield equal(flat(_step(f, policy, observations, scaled(gradient, -1.0), *rest)), -s)
    yield equal(flat(_step(f, policy, observations, gradient, damping, 4 * max_kl)), 2 * s)


@law(
    source="[TRPO App. C]",
    ops=("expected_improvement",),
    draw="policies",
    variants=POLICIES,
    blind="nothing of the inner product",
)
def expected_improvement_is_an_inner_product(
    f: Answers, policy: Any, vector: Any, other_vector: Any, factor: float
) -> Iterator[Gap]:
    """gᵀs over all parameters: symmetric, linear, and ‖v‖² for v with itself."""

    def product(gradient: Any, step: Any) -> Rounded:
        answer: Rounded = f("expected_improvement", gradient=gradient, step=step)
        return answer

    u, v = flat(other_vector), flat(vector)
    uv = product(other_vector, vector)
    yield equal(product(vector, other_vector), uv)
    yield equal(product(vector, vector), (v * v).sum())
    both = product(shaped(policy, u + factor * v), vector)
    yield equal(both, uv + factor * product(vector, vector))


# What the search decides is held to the answers it decides by; where these are within rounding of the limit, either
# decision is right.


def _search(f: Answers, samples: dict[str, Any], step: Any, max_kl: float, backtracks: int) -> dict[str, Any]:
    answer: dict[str, Any] = f(
        "line_search",
        **samples,
        full_step=step,
        max_kl=max_kl,
        backtrack=0.5,
        max_backtracks=backtracks,
    )
    return answer


def _accepts(f: Answers, samples: dict[str, Any], old: Rounded, new: Any, max_kl: float) -> bool | None:
    """Whether the declared rule accepts a policy; None if rounding decides, or an expected improvement."""
    policy, A, rule = samples["policy"], samples["advantages"], f.conventions["line_search.accept"]
    if "expected" in rule:
        return None
    gain = f("surrogate", **{**samples, "policy": new}, old_log_prob=old) - rounded(A).mean()
    kl = f("mean_kl", old_policy=policy, new_policy=new, observations=samples["observations"])
    bound = (1.5 if rule == "improves_and_1.5_kl" else 1.0) * max_kl
    if np.abs(gain.value) <= f.margin(gain) or np.abs(kl.value - bound) <= f.margin(kl - bound):
        return None
    return bool((rule == "kl_strict" or gain.value > 0) and kl.value < bound)


_SEARCHED = ("surrogate", "mean_kl", "network_forward", "log_prob_{family}")


def _ascent(f: Answers, samples: dict[str, Any], old: Rounded, length: float) -> Rounded:
    """A step along the gradient whose largest entry is ``length``, as exact numbers."""
    gradient = flat(f("surrogate_gradient", **samples, old_log_prob=old)).value
    return Rounded(length * gradient / max(np.abs(gradient).max(), 2.0**-20))


def _held(
    f: Answers, samples: dict[str, Any], answer: dict[str, Any], step: Rounded, max_kl: float, backtracks: int
) -> Iterator[Gap]:
    """The gaps of a search along a step."""
    policy = samples["policy"]
    old = log_prob_of(f, policy, samples["observations"], samples["actions"])
    accepted = int(answer["accepted"].value)
    if not -1 <= accepted < backtracks:
        yield never()
        return
    taken = 0.5**accepted if accepted >= 0 else 0.0
    yield equal(flat(answer["parameters"]), flat(policy) + taken * step)
    for j in range(backtracks if accepted < 0 else accepted + 1):
        verdict = _accepts(f, samples, old, moved(policy, 0.5**j * step), max_kl)
        if verdict is not None and verdict != (j == accepted):
            yield never()


@law(
    source="[TRPO App. C]",
    ops=("line_search", *_SEARCHED, "surrogate_gradient"),
    draw="policies",
    variants=POLICIES,
    blind="a KL or a surrogate that is wrong in the search and in its op",
)
def line_search_takes_the_first_acceptable_candidate(
    f: Answers, policy: Any, observations: Any, actions: Any, advantages: Any, max_kl: float, factor: float
) -> Iterator[Gap]:
    """The result is θ + bʲs for the first j whose surrogate improves and whose mean KL is within δ, or θ if none is."""
    samples = {"policy": policy, "observations": observations, "actions": actions, "advantages": advantages}
    old = log_prob_of(f, policy, observations, actions)
    step = _ascent(f, samples, old, factor)
    for backtracks in (5, 1):
        answer = _search(f, samples, shaped(policy, step), max_kl / 4, backtracks)
        yield from _held(f, samples, answer, step, max_kl / 4, backtracks)


@law(
    source="[TRPO App. C]",
    ops=("line_search", *_SEARCHED, "surrogate_gradient"),
    draw="policies",
    variants=POLICIES,
    blind="how the accepted candidate is found",
)
def a_failed_line_search_leaves_the_policy(
    f: Answers, policy: Any, observations: Any, actions: Any, advantages: Any
) -> Iterator[Gap]:
    """A step of descent, or a KL bound below the KL of every candidate: the result is θ, and −1."""
    samples = {"policy": policy, "observations": observations, "actions": actions, "advantages": advantages}
    old = log_prob_of(f, policy, observations, actions)
    for length, max_kl in ((-1.0, 64.0), (1.0, 2.0**-12)):
        step = _ascent(f, samples, old, length)
        verdicts = [_accepts(f, samples, old, moved(policy, 0.5**j * step), max_kl) for j in range(3)]
        if verdicts == [False] * 3:
            answer = _search(f, samples, shaped(policy, step), max_kl, 3)
            yield equal(answer["accepted"], -1.0)
            yield equal(flat(answer["parameters"]), flat(policy))


@law(
    source="[TRPO App. C]",
    ops=("line_search", "surrogate_gradient", "network_forward", "log_prob_{family}"),
    draw="policies",
    variants=POLICIES,
    blind="what does not depend on the number of backtracks",
)
def half_a_step_is_one_backtrack_less(
    f: Answers, policy: Any, observations: Any, actions: Any, advantages: Any, max_kl: float
) -> Iterator[Gap]:
    """If s is accepted at j ≥ 1, the step s/2 is accepted at j − 1, with the same parameters."""
    samples = {"policy": policy, "observations": observations, "actions": actions, "advantages": advantages}
    old = log_prob_of(f, policy, observations, actions)
    step = _ascent(f, samples, old, 2.0)
    full = _search(f, samples, shaped(policy, step), max_kl / 8, 6)
    if full["accepted"].value >= 1:
        half = _search(f, samples, shaped(policy, Rounded(step.value / 2)), max_kl / 8, 6)
        yield equal(half["accepted"], full["accepted"] - 1)
        yield equal(flat(half["parameters"]), flat(full["parameters"]))


@law(
    source="[TRPO App. C]",
    ops=(
        "trpo_step",
        *_SEARCHED,
        "surrogate_gradient",
        "fisher_conjugate_gradient",
        "fisher_vector_product",
        "step_length",
    ),
    draw="policies",
    variants=POLICIES,
    blind="what is wrong with one of the parts in the op of that part too",
)
def trpo_is_its_four_parts(
    f: Answers,
    policy: Any,
    observations: Any,
    actions: Any,
    advantages: Any,
    damping: float,
    max_kl: float,
    iterations: int,
) -> Iterator[Gap]:
    """Gradient, conjugate gradients, step length, and a search that takes the first acceptable candidate."""
    samples = {"policy": policy, "observations": observations, "actions": actions, "advantages": advantages}
    old = log_prob_of(f, policy, observations, actions)
    at = {"policy": policy, "observations": observations}
    gradient = f("surrogate_gradient", **samples, old_log_prob=old)
    if not flat(gradient).value.any():
        return
    x = f("fisher_conjugate_gradient", **at, b=gradient, damping=damping, iterations=iterations)
    measured = damping if f.conventions["step_length.damping"] == "damped" else 0.0
    Hx = f("fisher_vector_product", **at, vector=x, damping=measured)
    # A small region, in which some candidate is accepted; and a large one, in which the first is often too far.
    for radius, backtracks in ((max_kl, 4), (32 * max_kl, 1)):
        step = f("step_length", direction=flat(x), product=flat(Hx), max_kl=radius) * flat(x)
        if not np.isfinite(step.error).all():
            return  # measured without damping, the direction has no curvature: there is no step
        answer = f(
            "trpo_step",
            **samples,
            max_kl=radius,
            damping=damping,
            iterations=iterations,
            backtrack=0.5,
            max_backtracks=backtracks,
        )
        yield from _held(f, samples, answer, step, radius, backtracks)


@law(
    source="[TRPO App. C]",
    ops=("trpo_step",),
    draw="policies",
    variants=POLICIES,
    blind="what has no unit of reward, however wrongly",
)
def trpo_does_not_know_the_unit_of_reward(
    f: Answers,
    policy: Any,
    observations: Any,
    actions: Any,
    advantages: Any,
    damping: float,
    max_kl: float,
    iterations: int,
    unit: int,
) -> Iterator[Gap]:
    """Advantages four times as large give the same step, and a mirrored hidden unit the same step, mirrored."""
    _without_epsilon(f)
    if f.conventions["conjugate_gradient.stop"] != "never":
        raise Unanswerable("stated for conjugate gradients that do not stop early")
    numbers = {
        "max_kl": max_kl,
        "damping": damping,
        "iterations": iterations,
        "backtrack": 0.5,
        "max_backtracks": 4,
    }
    samples = {"observations": observations, "actions": actions}
    one = f("trpo_step", policy=policy, **samples, advantages=advantages, **numbers)
    larger = f("trpo_step", policy=policy, **samples, advantages=4 * advantages, **numbers)
    turned = f("trpo_step", policy=mirrored(policy, policy, unit), **samples, advantages=advantages, **numbers)
    same = one["accepted"].value == larger["accepted"].value
    yield equal(flat(larger["parameters"]), flat(one["parameters"])) if same else never()
    # Rounding may decide a search at the edge; then nothing can be compared.
    if one["accepted"].value == turned["accepted"].value:
        yield equal(flat(turned["parameters"]), flat(mirrored(policy, one["parameters"], unit)))


_ADAM = ("parameters", "first_moment", "second_moment")


def _adam(f: Answers, parameters: Any, gradient: Any, m: Any, v: Any, step: int, numbers: Any) -> dict[str, Rounded]:
    lr, beta1, beta2, epsilon = numbers
    answer: dict[str, Rounded] = f(
        "adam_step",
        parameters=parameters,
        gradient=gradient,
        first_moment=m,
        second_moment=v,
        step=step,
        learning_rate=lr,
        beta1=beta1,
        beta2=beta2,
        epsilon=epsilon,
    )
    return answer


@law(
    source="[Adam Alg. 1]",
    ops=("adam_step",),
    draw="optimizer_states",
    blind="all steps but the first",
)
def the_first_step_of_adam_has_the_length_of_its_rate(
    f: Answers, parameters: Any, gradient: Any, learning_rate: float, beta1: float, beta2: float, epsilon: float
) -> Iterator[Gap]:
    """From zero moments θ' = θ − α g/(|g| + ε), whatever β₁ and β₂: descent, with both biases corrected."""
    zero = 0 * parameters
    after = _adam(f, parameters, gradient, zero, zero, 1, (learning_rate, beta1, beta2, epsilon))
    g = rounded(gradient)
    yield equal(after["parameters"], parameters - learning_rate * g / (abs(g) + epsilon))


@law(
    source="[Adam Alg. 1]",
    ops=("adam_step",),
    draw="optimizer_states",
    blind="the parameters",
)
def moments_of_adam_are_moving_averages(
    f: Answers,
    parameters: Any,
    gradient: Any,
    first_moment: Any,
    second_moment: Any,
    step: int,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
) -> Iterator[Gap]:
    """A constant gradient keeps moments that equal it and its square; else they move (1 − β) of the way."""
    numbers = (learning_rate, beta1, beta2, epsilon)
    steady = _adam(f, parameters, gradient, gradient, gradient**2, step, numbers)
    yield equal(steady["first_moment"], gradient)
    yield equal(steady["second_moment"], gradient**2)
    after = _adam(f, parameters, gradient, first_moment, second_moment, step, numbers)
    yield equal(after["first_moment"] - first_moment, (1 - rounded(beta1)) * (gradient - first_moment))
    yield equal(after["second_moment"] - second_moment, (1 - rounded(beta2)) * (gradient**2 - second_moment))


@law(
    source="[Adam Alg. 1]",
    ops=("adam_step",),
    draw="optimizer_states",
    blind="a constant factor of the step",
)
def adam_steps_have_no_unit_of_the_gradient(
    f: Answers,
    parameters: Any,
    gradient: Any,
    first_moment: Any,
    second_moment: Any,
    step: int,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    factor: float,
) -> Iterator[Gap]:
    """Gradient, first moment and ε times c, second moment times c²: the same step.  Twice the rate: twice the step."""
    betas = (beta1, beta2)
    one = _adam(f, parameters, gradient, first_moment, second_moment, step, (learning_rate, *betas, epsilon))
    c = factor
    other = _adam(
        f, parameters, c * gradient, c * first_moment, c * c * second_moment, step,
        (learning_rate, *betas, c * epsilon),
    )  # fmt: skip
    yield equal(other["parameters"], one["parameters"])
    faster = _adam(f, parameters, gradient, first_moment, second_moment, step, (2 * learning_rate, *betas, epsilon))
    yield equal(faster["parameters"] - parameters, 2 * (one["parameters"] - parameters))


@law(
    source="[PPO Alg. 1]",
    ops=("ppo_epoch", "clipped_objective_parameter_gradient", "adam_step"),
    draw="policies",
    variants=POLICIES,
    blind="a gradient or an Adam step that is wrong in both",
)
def an_epoch_is_a_chain_of_adam_steps(
    f: Answers, policy: Any, observations: Any, actions: Any, advantages: Any, log_ratio: Any, clip: float
) -> Iterator[Gap]:
    """Minibatch after minibatch: Adam on the clipped gradient at the parameters reached, with the old log π kept."""
    rows = len(advantages)
    old = log_ratio - 2.0
    numbers = {"learning_rate": 1 / 64, "beta1": 0.875, "beta2": 0.9375, "epsilon": 1 / 16}
    minibatches = [np.arange(rows)[::2], np.arange(rows)[1::2]]
    epoch = f(
        "ppo_epoch",
        policy=policy,
        observations=observations,
        actions=actions,
        advantages=advantages,
        old_log_prob=old,
        minibatches=minibatches,
        clip=clip,
        **numbers,
    )
    theta = flat(policy)
    m = v = rounded(0 * theta.value)
    for step, chosen in enumerate(minibatches, start=1):
        gradient = f(
            "clipped_objective_parameter_gradient",
            policy={**policy, **shaped(policy, theta)},
            observations=observations[chosen],
            actions=actions[chosen],
            advantages=advantages[chosen],
            old_log_prob=old[chosen],
            clip=clip,
        )
        after = _adam(f, theta, -flat(gradient), m, v, step, tuple(numbers.values()))
        theta, m, v = (after[name] for name in _ADAM)
    yield equal(flat(epoch), theta)


@law(
    source="[PPO Alg. 1]",
    ops=("ppo_epoch", "surrogate_gradient", "network_forward", "log_prob_{family}"),
    draw="policies",
    variants=POLICIES,
    blind="the size of the step",
)
def an_epoch_climbs(
    f: Answers, policy: Any, observations: Any, actions: Any, advantages: Any, clip: float
) -> Iterator[Gap]:
    """One minibatch from the old policy: A moves θ by s, −A by −s, 0 not at all, and ∇L · s ≥ 0."""
    rows = len(advantages)
    numbers = {"learning_rate": 1 / 64, "beta1": 0.875, "beta2": 0.9375, "epsilon": 1 / 16}
    samples = {"policy": policy, "observations": observations, "actions": actions}
    old = log_prob_of(f, policy, observations, actions)

    def step(A: Any) -> Rounded:
        epoch = f(
            "ppo_epoch",
            **samples,
            advantages=A,
            old_log_prob=old,
            minibatches=[np.arange(rows)],
            clip=clip,
            **numbers,
        )
        return flat(epoch) - flat(policy)

    up = step(advantages)
    yield equal(step(-advantages), -up)
    yield equal(step(0 * advantages), 0.0)
    gradient = f("surrogate_gradient", **samples, advantages=advantages, old_log_prob=old)
    yield at_least((flat(gradient) * up).sum(), 0.0)
