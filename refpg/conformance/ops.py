"""The contract: every operation an implementation can be asked for, with its inputs, outputs and conventions.

A type is a kind followed by shape letters in brackets; equal letters are equal lengths within one case::

    float[B, A]   nested lists of numbers         int[B]   bool[T, E]
    float  int  str                               a scalar
    int[M][*]                                     M lists of row numbers, of any lengths
    network       {"layers": [{"W": float[in, out], "b": float[out]}, ...], "activation": str}
    policy        a network with "distribution": "categorical" | "diagonal_gaussian"
                  and, for the Gaussian, "log_std": float[A], the state-independent log standard deviation
    parameters    {"layers": [{"W", "b"}, ...]} and "log_std" where the policy has one: θ, or a vector shaped like it

A hidden layer is ``activation(h @ W + b)``, gelu in its erf form; the last layer is affine; its outputs are logits
(categorical) or means (Gaussian).  Where an output is a matrix over parameters, P runs over the layers in order, W
row by row and then b, and ``log_std`` last.  Objectives are maximised, losses minimised.  A mean is over rows, each
weighing 1/B.  Of N sequences, padded to T tokens, a token counts where its mask is true, as at least one does in each;
what stands elsewhere is finite and does not matter.  The certified values belong to the conventions named; their axes
are explained in ``data/conventions.json``, and an implementation declares its own.
"""

from typing import Any, NamedTuple

PROFILES = ("distributions", "estimators", "ppo", "trpo", "theory", "sequence")


class Op(NamedTuple):
    """One operation of the contract.

    Fields: ``name`` is what an adapter's function is called; ``profile`` the group it is judged in; ``summary`` the
    mathematical object in one line; ``inputs`` and ``outputs`` map names to types (an op with several outputs
    returns a mapping, an op with one output may return it bare); ``conventions`` names the axes that change the
    answer; ``chapter`` is refpg's own function; ``source`` the equation.
    """

    name: str
    profile: str
    summary: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    conventions: tuple[str, ...]
    chapter: str
    source: str


class _Distribution(NamedTuple):
    """What the six distribution ops of one family have in common."""

    family: str
    p: dict[str, str]
    shared: dict[str, str]
    action: dict[str, str]
    score: dict[str, str]
    size: str


_DISTRIBUTIONS = (
    _Distribution("categorical", {"logits": "float[B, A]"}, {}, {"actions": "int[B]"}, {"logits": "float[B, A]"}, "A"),
    _Distribution(
        "masked_categorical",
        {"logits": "float[B, A]"},
        {"mask": "bool[B, A]"},
        {"actions": "int[B]"},
        {"logits": "float[B, A]"},
        "A",
    ),
    _Distribution(
        "multi_categorical",
        {"logits": "float[B, K]"},
        {"action_sizes": "int[A]"},
        {"actions": "int[B, A]"},
        {"logits": "float[B, K]"},
        "K",
    ),
    _Distribution("bernoulli", {"logits": "float[B, A]"}, {}, {"actions": "int[B, A]"}, {"logits": "float[B, A]"}, "A"),
    _Distribution(
        "diagonal_gaussian",
        {"mean": "float[B, A]", "log_std": "float[B, A]"},
        {},
        {"actions": "float[B, A]"},
        {"mean": "float[B, A]", "log_std": "float[B, A]"},
        "K",
    ),
    _Distribution(
        "squashed_gaussian",
        {"mean": "float[B, A]", "log_std": "float[B, A]"},
        {},
        {"pre_tanh_actions": "float[B, A]"},
        {"mean": "float[B, A]", "log_std": "float[B, A]"},
        "K",
    ),
)


def _distribution_ops(d: _Distribution) -> list[Op]:
    title = d.family.replace("_", " ")
    old = {f"old_{name}": kind for name, kind in d.p.items()} | d.shared
    pair = old | {f"new_{name}": kind for name, kind in d.p.items()}
    one = d.p | d.shared

    def op(
        quantity: str,
        summary: str,
        inputs: dict[str, str],
        outputs: dict[str, str],
        chapter: str,
        source: str,
    ) -> Op:
        return Op(f"{quantity}_{d.family}", "distributions", summary, inputs, outputs, (), chapter, source)

    return [
        op(
            "log_prob",
            f"log-probability (nats) of the actions under a {title} distribution, one per row",
            one | d.action,
            {"log_prob": "float[B]"},
            "distributions.log_prob",
            "[TRPO (14)]",
        ),
        op(
            "entropy",
            f"entropy (nats) of a {title} distribution, one per row",
            one,
            {"entropy": "float[B]"},
            "distributions.entropy",
            "[PPO (9)]",
        ),
        op(
            "kl",
            f"KL(old ‖ new) (nats) between two {title} distributions, one per row",
            pair,
            {"kl": "float[B]"},
            "distributions.kl",
            "[TRPO (11)]",
        ),
        op(
            "mean_kl",
            f"KL(old ‖ new) (nats) between {title} distributions, averaged over the rows",
            pair,
            {"mean_kl": "float"},
            "distributions.kl",
            "[TRPO (12)]",
        ),
        op(
            "score",
            f"gradient of the {title} log-probability with respect to the distribution's parameters",
            one | d.action,
            d.score,
            "distributions.score",
            "[TRPO App. C.1]",
        ),
        op(
            "fisher",
            f"Fisher matrix of the {title} distribution's parameters (means before log_std), one per row",
            one,
            {"fisher": "float[B, K, K]"} if d.size == "K" else {"fisher": "float[B, A, A]"},
            "distributions.fisher",
            "[TRPO App. C.1]",
        ),
    ]


_LOG_PROBS = {"old_log_prob": "float[B]", "new_log_prob": "float[B]"}
_SAMPLES = {"observations": "float[B, D]", "actions": "actions[B]", "advantages": "float[B]"}
_OLD_NEW = {"old_policy": "policy", "new_policy": "policy", "observations": "float[B, D]"}
_EPISODES = {
    "rewards": "float[T, E]",
    "next_values": "float[T, E]",
    "terminated": "bool[T, E]",
    "truncated": "bool[T, E]",
    "gamma": "float",
}

_ESTIMATORS = [
    Op(
        "kl_estimators",
        "estimators",
        "sample estimates k1 = −log r, k2 = ½ log² r, k3 = r − 1 − log r of KL(old ‖ new), r = new/old, one per row",
        _LOG_PROBS,
        {"k1": "float[B]", "k2": "float[B]", "k3": "float[B]"},
        (),
        "estimation.kl_estimators",
        "[Blog-KL]",
    ),
    Op(
        "discounted_returns",
        "estimators",
        "discounted sum of rewards to the end of the episode; the value of the next observation continues it "
        "where it was truncated and at the last row",
        _EPISODES,
        {"returns": "float[T, E]"},
        (),
        "estimation.discounted_returns",
        "[TRPO section 2]",
    ),
    Op(
        "td_errors",
        "estimators",
        "δ_t = r_t + γ(1 − terminated_t)V(next observation) − V(s_t)",
        {
            "rewards": "float[T, E]",
            "values": "float[T, E]",
            "next_values": "float[T, E]",
            "terminated": "bool[T, E]",
            "gamma": "float",
        },
        {"td_errors": "float[T, E]"},
        (),
        "estimation.td_errors",
        "[GAE (10)]",
    ),
    Op(
        "gae",
        "estimators",
        "generalised advantage estimate, cut at terminations and truncations; next_values[t] is the value of the "
        "observation the action led to (the final one of the episode, not the first of the next)",
        {
            "rewards": "float[T, E]",
            "values": "float[T, E]",
            "next_values": "float[T, E]",
            "terminated": "bool[T, E]",
            "truncated": "bool[T, E]",
            "gamma": "float",
            "gae_lambda": "float",
        },
        {"advantages": "float[T, E]", "value_targets": "float[T, E]"},
        ("gae.value_target",),
        "estimation.gae",
        "[GAE (16)]",
    ),
    Op(
        "gae_rollout",
        "estimators",
        "the same from a rollout buffer: dones[t] says that the action at t ended the episode, "
        "last_values bootstrap the open end",
        {
            "rewards": "float[T, E]",
            "values": "float[T, E]",
            "dones": "bool[T, E]",
            "last_values": "float[E]",
            "gamma": "float",
            "gae_lambda": "float",
        },
        {"advantages": "float[T, E]", "value_targets": "float[T, E]"},
        ("gae.value_target",),
        "estimation.gae_rollout",
        "[PPO (11)]",
    ),
    Op(
        "normalize_advantages",
        "estimators",
        "advantages shifted to mean 0 and divided by their standard deviation",
        {"advantages": "float[B]"},
        {"normalized": "float[B]"},
        ("advantage.ddof", "advantage.epsilon"),
        "estimation.normalize_advantages",
        "[GAE section 6]",
    ),
    Op(
        "explained_variance",
        "estimators",
        "1 − var(targets − values)/var(targets)",
        {"values": "float[B]", "targets": "float[B]"},
        {"explained_variance": "float"},
        (),
        "estimation.explained_variance",
        "[GAE section 5]",
    ),
]

_PPO = [
    Op(
        "ratio",
        "ppo",
        "r = exp(new_log_prob − old_log_prob), one per row",
        _LOG_PROBS,
        {"ratio": "float[B]"},
        (),
        "surrogate.ratio",
        "[PPO (6)]",
    ),
    Op(
        "clipped_objective",
        "ppo",
        "mean of min(rA, clip(r, 1 − ε, 1 + ε)A), to be maximised",
        _LOG_PROBS | {"advantages": "float[B]", "clip": "float"},
        {"objective": "float"},
        (),
        "surrogate.clipped_objective",
        "[PPO (7)]",
    ),
    Op(
        "clipped_objective_gradient",
        "ppo",
        "gradient of the clipped objective with respect to new_log_prob",
        _LOG_PROBS | {"advantages": "float[B]", "clip": "float"},
        {"gradient": "float[B]"},
        (),
        "surrogate.clipped_objective_gradient",
        "[PPO (7)]",
    ),
    Op(
        "clipped_objective_parameter_gradient",
        "ppo",
        "gradient of the clipped objective with respect to the policy's parameters",
        {"policy": "policy"} | _SAMPLES | {"old_log_prob": "float[B]", "clip": "float"},
        {"gradient": "parameters"},
        (),
        "updates.ppo_objective",
        "[PPO (7)]",
    ),
    Op(
        "asymmetric_clipped_objective",
        "ppo",
        "mean of min(rA, clip(r, 1 − clip_low, 1 + clip_high)A), to be maximised, and its gradient with respect to "
        "new_log_prob",
        _LOG_PROBS | {"advantages": "float[B]", "clip_low": "float", "clip_high": "float"},
        {"objective": "float", "gradient": "float[B]"},
        (),
        "surrogate.clipped_objective",
        "[DAPO]",
    ),
    Op(
        "dual_clipped_objective",
        "ppo",
        "mean of min(rA, clip(r, 1 − ε, 1 + ε)A), of each row with A < 0 at least floor · A, to be maximised, and its "
        "gradient with respect to new_log_prob",
        _LOG_PROBS | {"advantages": "float[B]", "clip": "float", "floor": "float"},
        {"objective": "float", "gradient": "float[B]"},
        (),
        "surrogate.dual_clipped_objective",
        "[Dual-clip]",
    ),
    Op(
        "clip_fraction",
        "ppo",
        "fraction of rows that are clipped",
        _LOG_PROBS | {"advantages": "float[B]", "clip": "float"},
        {"clip_fraction": "float"},
        ("clip_fraction.rule",),
        "surrogate.clip_fraction",
        "[PPO section 3]",
    ),
    Op(
        "approximate_kl",
        "ppo",
        "mean of one sample estimator of KL(old ‖ new)",
        _LOG_PROBS,
        {"approximate_kl": "float"},
        ("approximate_kl.estimator",),
        "estimation.approximate_kl",
        "[Blog-KL]",
    ),
    Op(
        "kl_penalized_objective",
        "ppo",
        "mean of rA − β KL, with the KL(old ‖ new) of each row given, to be maximised",
        _LOG_PROBS | {"advantages": "float[B]", "kl": "float[B]", "kl_penalty": "float"},
        {"objective": "float"},
        (),
        "surrogate.kl_penalized_objective",
        "[PPO (8)]",
    ),
    Op(
        "kl_penalty_update",
        "ppo",
        "the next penalty β from the measured KL and the target",
        {"kl_penalty": "float", "kl": "float", "target": "float"},
        {"kl_penalty": "float"},
        ("kl_penalty.schedule",),
        "surrogate.kl_penalty_update",
        "[PPO section 4]",
    ),
    Op(
        "proportional_kl_penalty_update",
        "ppo",
        "the next penalty β(1 + clip(kl/target − 1, −0.2, 0.2) samples/horizon)",
        {"kl_penalty": "float", "kl": "float", "target": "float", "samples": "int", "horizon": "int"},
        {"kl_penalty": "float"},
        (),
        "surrogate.proportional_kl_penalty_update",
        "[RLHF]",
    ),
    Op(
        "value_loss",
        "ppo",
        "mean squared error of the values, to be minimised",
        {"values": "float[B]", "targets": "float[B]"},
        {"loss": "float"},
        ("value_loss.factor", "value_loss.error"),
        "surrogate.value_loss",
        "[PPO (9)]",
    ),
    Op(
        "clipped_value_loss",
        "ppo",
        "mean squared error with the values kept within clip of the old values, to be minimised",
        {"values": "float[B]", "old_values": "float[B]", "targets": "float[B]", "clip": "float"},
        {"loss": "float"},
        ("value_loss.factor", "value_loss.error", "value_loss.clip"),
        "surrogate.clipped_value_loss",
        "[PPO (9)]",
    ),
    Op(
        "entropy_bonus",
        "ppo",
        "mean entropy (nats) of the policy over the observations, and its gradient",
        {"policy": "policy", "observations": "float[B, D]"},
        {"entropy": "float", "gradient": "parameters"},
        (),
        "surrogate.entropy_bonus",
        "[PPO (9)]",
    ),
    Op(
        "ppo_objective",
        "ppo",
        "L^CLIP − c₁ (V − V_target)² + c₂ entropy, to be maximised, and its gradient with respect to the policy "
        "and to a value network of its own",
        {"policy": "policy", "value_network": "network"}
        | _SAMPLES
        | {
            "old_log_prob": "float[B]",
            "value_targets": "float[B]",
            "clip": "float",
            "value_coefficient": "float",
            "entropy_coefficient": "float",
        },
        {"objective": "float", "policy_gradient": "parameters", "value_gradient": "parameters"},
        ("value_loss.factor", "value_loss.error"),
        "updates.ppo_objective",
        "[PPO (9)]",
    ),
    Op(
        "adam_step",
        "ppo",
        "one step of Adam that *descends* the gradient; step counts from 1; epsilon is added to the root of the "
        "bias-corrected second moment",
        {
            "parameters": "float[P]",
            "gradient": "float[P]",
            "first_moment": "float[P]",
            "second_moment": "float[P]",
            "step": "int",
            "learning_rate": "float",
            "beta1": "float",
            "beta2": "float",
            "epsilon": "float",
        },
        {"parameters": "float[P]", "first_moment": "float[P]", "second_moment": "float[P]"},
        (),
        "updates.adam_step",
        "[Adam Alg. 1]",
    ),
    Op(
        "ppo_epoch",
        "ppo",
        "one epoch of Adam ascent on the clipped objective over the minibatches in the order given, from zero "
        "moments, with old_log_prob frozen",
        {"policy": "policy"}
        | _SAMPLES
        | {
            "old_log_prob": "float[B]",
            "minibatches": "int[M][*]",
            "clip": "float",
            "learning_rate": "float",
            "beta1": "float",
            "beta2": "float",
            "epsilon": "float",
        },
        {"parameters": "parameters"},
        (),
        "updates.ppo_update",
        "[PPO Alg. 1]",
    ),
]

_TRPO = [
    Op(
        "network_forward",
        "trpo",
        "the network's outputs",
        {"network": "network", "observations": "float[B, D]"},
        {"outputs": "float[B, K]"},
        (),
        "network.forward",
        "[TRPO App. C.1]",
    ),
    Op(
        "surrogate",
        "trpo",
        "mean of r·A, to be maximised",
        {"policy": "policy"} | _SAMPLES | {"old_log_prob": "float[B]"},
        {"surrogate": "float"},
        (),
        "surrogate.sampled_surrogate",
        "[TRPO (14)]",
    ),
    Op(
        "surrogate_gradient",
        "trpo",
        "gradient of the surrogate with respect to the policy's parameters",
        {"policy": "policy"} | _SAMPLES | {"old_log_prob": "float[B]"},
        {"gradient": "parameters"},
        (),
        "surrogate.sampled_surrogate_gradient",
        "[TRPO (14)]",
    ),
    Op(
        "mean_kl",
        "trpo",
        "KL between the old and the new policy, averaged over the observations (nats)",
        _OLD_NEW,
        {"mean_kl": "float"},
        ("kl.direction",),
        "geometry.mean_kl",
        "[TRPO (12)]",
    ),
    Op(
        "mean_kl_gradient",
        "trpo",
        "its gradient with respect to the new policy's parameters",
        _OLD_NEW,
        {"gradient": "parameters"},
        ("kl.direction",),
        "geometry.mean_kl_gradient",
        "[TRPO (12)]",
    ),
    Op(
        "mean_kl_hessian_vector_product",
        "trpo",
        "its Hessian with respect to the new policy's parameters, at the new policy, times a vector",
        _OLD_NEW | {"vector": "parameters"},
        {"product": "parameters"},
        ("kl.direction",),
        "geometry.mean_kl_hessian_vector_product",
        "[TRPO (57)]",
    ),
    Op(
        "fisher_matrix",
        "trpo",
        "Fisher matrix of the policy's parameters, averaged over the observations",
        {"policy": "policy", "observations": "float[B, D]"},
        {"fisher": "float[P, P]"},
        (),
        "geometry.fisher_matrix",
        "[TRPO App. C.1]",
    ),
    Op(
        "fisher_vector_product",
        "trpo",
        "(F + damping I) times a vector",
        {"policy": "policy", "observations": "float[B, D]", "vector": "parameters", "damping": "float"},
        {"product": "parameters"},
        (),
        "geometry.fisher_vector_product",
        "[TRPO App. C.1]",
    ),
    Op(
        "conjugate_gradient",
        "trpo",
        "x after so many iterations of conjugate gradients on matrix · x = b from x = 0",
        {"matrix": "float[P, P]", "b": "float[P]", "iterations": "int"},
        {"x": "float[P]"},
        ("conjugate_gradient.stop",),
        "solvers.conjugate_gradient",
        "[TRPO App. C]",
    ),
    Op(
        "fisher_conjugate_gradient",
        "trpo",
        "the same on (F + damping I) x = b, with the product computed from the policy",
        {
            "policy": "policy",
            "observations": "float[B, D]",
            "b": "parameters",
            "damping": "float",
            "iterations": "int",
        },
        {"x": "parameters"},
        ("conjugate_gradient.stop",),
        "solvers.conjugate_gradient",
        "[TRPO App. C]",
    ),
    Op(
        "natural_gradient",
        "trpo",
        "(F + damping I)⁻¹ gradient, exactly",
        {"policy": "policy", "observations": "float[B, D]", "gradient": "parameters", "damping": "float"},
        {"direction": "parameters"},
        (),
        "updates.natural_gradient",
        "[K01]",
    ),
    Op(
        "natural_gradient_minimum_norm",
        "trpo",
        "F⁺ gradient, the solution of smallest norm, and the rank of F; the gradient is that of the surrogate at θ_old",
        {"policy": "policy"} | _SAMPLES,
        {"direction": "parameters", "rank": "int"},
        (),
        "updates.natural_gradient",
        "[K01]",
    ),
    Op(
        "step_length",
        "trpo",
        "β = √(2 max_kl / xᵀ(F + λI)x), given x and (F + λI)x",
        {"direction": "float[P]", "product": "float[P]", "max_kl": "float"},
        {"step_length": "float"},
        ("step_length.epsilon",),
        "updates.step_length",
        "[TRPO App. C]",
    ),
    Op(
        "natural_gradient_step",
        "trpo",
        "the step θ' − θ along (F + damping I)⁻¹ gradient with quadratic KL equal to max_kl",
        {
            "policy": "policy",
            "observations": "float[B, D]",
            "gradient": "parameters",
            "damping": "float",
            "max_kl": "float",
        },
        {"step": "parameters"},
        ("step_length.damping", "step_length.epsilon"),
        "updates.natural_gradient_step",
        "[TRPO (17)]",
    ),
    Op(
        "expected_improvement",
        "trpo",
        "first-order change of the surrogate, gradientᵀ step",
        {"gradient": "parameters", "step": "parameters"},
        {"expected_improvement": "float"},
        (),
        "updates.expected_improvement",
        "[TRPO App. C]",
    ),
    Op(
        "line_search",
        "trpo",
        "the first of θ + backtrack^j · full_step, j = 0 … max_backtracks − 1, that is accepted; the surrogate and the "
        "KL are relative to the policy given; accepted is −1, and the parameters the old ones, if none is",
        {"policy": "policy"}
        | _SAMPLES
        | {"full_step": "parameters", "max_kl": "float", "backtrack": "float", "max_backtracks": "int"},
        {"parameters": "parameters", "accepted": "int"},
        ("line_search.accept", "kl.direction"),
        "updates.trust_region_line_search",
        "[TRPO App. C]",
    ),
    Op(
        "trpo_step",
        "trpo",
        "one TRPO update: surrogate gradient at θ_old, conjugate gradients, step length, line search",
        {"policy": "policy"}
        | _SAMPLES
        | {
            "max_kl": "float",
            "damping": "float",
            "iterations": "int",
            "backtrack": "float",
            "max_backtracks": "int",
        },
        {"parameters": "parameters", "accepted": "int"},
        (
            "line_search.accept",
            "kl.direction",
            "step_length.damping",
            "step_length.epsilon",
            "conjugate_gradient.stop",
        ),
        "updates.trpo_step",
        "[TRPO App. C]",
    ),
]

_MDP = {"transition": "float[S, A, S]", "reward": "float[S, A]", "start": "float[S]", "gamma": "float"}
_TABLES = {"old_probabilities": "float[S, A]", "new_probabilities": "float[S, A]"}

_THEORY = [
    Op(
        "policy_evaluation",
        "theory",
        "V, Q and A = Q − V of the policy probabilities[s, a] in the MDP with transition[s, a, next s]",
        {"transition": "float[S, A, S]", "reward": "float[S, A]", "gamma": "float", "probabilities": "float[S, A]"},
        {"values": "float[S]", "action_values": "float[S, A]", "advantages": "float[S, A]"},
        (),
        "mdp.evaluate",
        "[TRPO section 2]",
    ),
    Op(
        "visitation",
        "theory",
        "discounted visits of every state, Σ_t γᵗ P(s_t = s), the start counted with weight 1",
        {"transition": "float[S, A, S]", "start": "float[S]", "gamma": "float", "probabilities": "float[S, A]"},
        {"visitation": "float[S]"},
        ("visitation.normalisation",),
        "mdp.evaluate",
        "[TRPO section 2]",
    ),
    Op(
        "expected_return",
        "theory",
        "η, the expected discounted sum of rewards from the start, the first reward with weight 1",
        _MDP | {"probabilities": "float[S, A]"},
        {"expected_return": "float"},
        (),
        "mdp.evaluate",
        "[TRPO section 2]",
    ),
    Op(
        "performance_difference",
        "theory",
        "η(new) − η(old)",
        _MDP | _TABLES,
        {"performance_difference": "float"},
        (),
        "mdp.performance_difference",
        "[TRPO (1)]",
    ),
    Op(
        "local_approximation",
        "theory",
        "L_old(new) = η(old) + Σ_s ρ_old(s) Σ_a new(a|s) A_old(s,a), ρ_old of sum 1/(1 − γ)",
        _MDP | _TABLES,
        {"local_approximation": "float"},
        (),
        "mdp.local_approximation",
        "[TRPO (3)]",
    ),
    Op(
        "softmax_policy_gradient",
        "theory",
        "gradient of η with respect to the logits of a softmax policy, one row of logits per state",
        _MDP | {"logits": "float[S, A]"},
        {"gradient": "float[S, A]"},
        (),
        "mdp.softmax_gradient",
        "[TRPO (4)]",
    ),
    Op(
        "policy_total_variation",
        "theory",
        "½ Σ_a |old − new| in every state, and the largest",
        _TABLES,
        {"total_variation": "float[S]", "max_total_variation": "float"},
        (),
        "bounds.total_variation",
        "[TRPO Thm 1]",
    ),
    Op(
        "policy_kl",
        "theory",
        "KL between the old and the new policy (nats) in every state, the largest, and the mean with state_weights, "
        "which sum to 1",
        _TABLES | {"state_weights": "float[S]"},
        {"kl": "float[S]", "max_kl": "float", "mean_kl": "float"},
        ("kl.direction",),
        "bounds.kl_divergence",
        "[TRPO (9)]",
    ),
    Op(
        "penalty_coefficient",
        "theory",
        "C = 4εγ/(1 − γ)², ε = max |A|",
        {"advantages": "float[S, A]", "gamma": "float"},
        {"penalty_coefficient": "float"},
        (),
        "bounds.penalty_coefficient",
        "[TRPO (9)]",
    ),
    Op(
        "lower_bounds",
        "theory",
        "lower bounds of η(new), L less a penalty: trpo_kl 4εc max KL(old ‖ new), trpo_tv 4εc (max TV)², pinsker "
        "2εc max KL, cpo 2ε'c E TV over the old normalised visitation; c = γ/(1 − γ)², ε = max |A_old|, "
        "ε' = max_s |Σ_a new(a|s) A_old(s,a)|",
        _MDP | _TABLES,
        {"trpo_kl": "float", "trpo_tv": "float", "pinsker": "float", "cpo": "float"},
        (),
        "bounds.all_bounds",
        "[TRPO (10)]",
    ),
    Op(
        "mm_step",
        "theory",
        "the policy π that maximises Σ_s visitation(s) Σ_a π(a|s) advantages(s,a) − penalty · max_s KL(old ‖ π), with "
        "the visitation as it is given, and that largest KL",
        {
            "old_probabilities": "float[S, A]",
            "advantages": "float[S, A]",
            "visitation": "float[S]",
            "penalty": "float",
        },
        {"probabilities": "float[S, A]", "max_kl": "float"},
        (),
        "updates.mm_step",
        "[TRPO Alg. 1]",
    ),
    Op(
        "trust_region_dual",
        "theory",
        "the step that maximises gradientᵀ step where ½ stepᵀ matrix step ≤ max_kl, the multiplier β of that "
        "constraint, with gradient = β matrix step, and the value gradientᵀ step",
        {"matrix": "float[P, P]", "gradient": "float[P]", "max_kl": "float"},
        {"step": "float[P]", "multiplier": "float", "value": "float"},
        (),
        "updates.trust_region_dual",
        "[TRPO (17)]",
    ),
]

_TOKENS = {"old_log_prob": "float[N, T]", "new_log_prob": "float[N, T]"}
_REFERENCE = {"log_prob": "float[N, T]", "reference_log_prob": "float[N, T]", "mask": "bool[N, T]"}
_WINDOW = {"clip": "float", "clip_high": "float"}

_SEQUENCE = [
    Op(
        "masked_aggregate",
        "sequence",
        "one number of the values of tokens, Σ w x with weights that depend on the mask alone; constant is the "
        "divisor of one convention",
        {"values": "float[N, T]", "mask": "bool[N, T]", "constant": "float"},
        {"aggregate": "float"},
        ("sequence.aggregation",),
        "sequences.masked_aggregate",
        "[DAPO]",
    ),
    Op(
        "masked_normalize_advantages",
        "sequence",
        "advantages shifted to mean 0 and divided by their standard deviation, both over the tokens that count, "
        "whatever their sequence; 0 elsewhere",
        {"advantages": "float[N, T]", "mask": "bool[N, T]"},
        {"normalized": "float[N, T]"},
        ("advantage.ddof", "advantage.epsilon"),
        "sequences.masked_normalize_advantages",
        "[GAE section 6]",
    ),
    Op(
        "group_advantages",
        "sequence",
        "the reward of each sequence less the baseline of its group, the sequences with the same number, divided by "
        "the group's standard deviation",
        {"rewards": "float[N]", "group": "int[N]"},
        {"advantages": "float[N]"},
        ("group.baseline", "group.scale", "advantage.ddof", "advantage.epsilon"),
        "sequences.group_advantages",
        "[GRPO]",
    ),
    Op(
        "token_rewards",
        "sequence",
        "−β (log_prob − reference_log_prob) of every token, and the score of the sequence at its last token that "
        "counts; 0 elsewhere",
        {"scores": "float[N]"} | _REFERENCE | {"kl_penalty": "float"},
        {"rewards": "float[N, T]"},
        (),
        "sequences.token_rewards",
        "[RLHF]",
    ),
    Op(
        "token_kl_penalty",
        "sequence",
        "aggregate of a sample estimator of KL(policy ‖ reference), d = log_prob − reference_log_prob, and the "
        "gradient of that number with respect to log_prob, which is 0 where the token does not count",
        _REFERENCE | {"constant": "float"},
        {"penalty": "float", "gradient": "float[N, T]"},
        ("sequence.aggregation", "kl_penalty.estimator"),
        "sequences.token_kl_penalty",
        "[Blog-KL]",
    ),
    Op(
        "token_clipped_objective",
        "sequence",
        "aggregate of min(rA, clip(r, 1 − clip, 1 + clip_high)A), to be maximised, and its gradient with respect to "
        "new_log_prob, which is 0 where the token does not count",
        _TOKENS | {"advantages": "float[N, T]", "mask": "bool[N, T]"} | _WINDOW | {"constant": "float"},
        {"objective": "float", "gradient": "float[N, T]"},
        ("sequence.aggregation", "ratio.level"),
        "sequences.token_clipped_objective",
        "[DAPO]",
    ),
    Op(
        "sequence_objective",
        "sequence",
        "the clipped objective with one advantage per sequence, less β times the penalty for leaving the reference, "
        "d = new_log_prob − reference_log_prob, both aggregated alike; and its gradient with respect to new_log_prob",
        _TOKENS
        | {"reference_log_prob": "float[N, T]", "advantages": "float[N]", "mask": "bool[N, T]"}
        | _WINDOW
        | {"kl_penalty": "float", "constant": "float"},
        {"objective": "float", "gradient": "float[N, T]"},
        ("sequence.aggregation", "ratio.level", "kl_penalty.estimator"),
        "sequences.sequence_objective",
        "[GRPO]",
    ),
]

OPS: dict[str, Op] = {
    op.name: op
    for op in [
        *(op for distribution in _DISTRIBUTIONS for op in _distribution_ops(distribution)),
        *_ESTIMATORS,
        *_PPO,
        *_TRPO,
        *_THEORY,
        *_SEQUENCE,
    ]
}


def contract() -> list[dict[str, Any]]:
    """Return the contract as plain data, one mapping per op, ready for JSON."""
    return [op._asdict() for op in OPS.values()]
