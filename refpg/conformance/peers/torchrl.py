"""TorchRL as it is installed: ClipPPOLoss and PPOLoss, its advantage estimates, and MaskedCategorical.

The losses are real objects with a real actor and critic, called with a TensorDict.  Where the contract gives
log-probabilities or values and no network, the actor's network is the identity and its distribution answers with what
the network says; the loss cannot tell.
"""

import contextlib
from collections.abc import Iterator, Mapping
from importlib.metadata import version as version_of
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torchrl.modules import IndependentNormal, MaskedCategorical, ProbabilisticActor, TanhNormal, ValueOperator
from torchrl.objectives import ClipPPOLoss, PPOLoss
from torchrl.objectives.value.functional import (
    generalized_advantage_estimate,
    td0_advantage_estimate,
    td1_return_estimate,
    vec_generalized_advantage_estimate,
)

from refpg.conformance.ops import OPS
from refpg.conformance.peers import _torch_policies as policies
from refpg.conformance.peers._torch_distributions import Family, Inputs, Phi, distribution_ops, numpy_array

name = "torchrl"
version = version_of("torchrl")

dtype = "float64"

conventions = {
    "advantage.ddof": "1",
    "advantage.epsilon": "1e-6_at_least",
    "approximate_kl.estimator": "k1",
    "clip_fraction.rule": "outside",
    "value_loss.factor": "1",
    "value_loss.error": "smooth_l1",
    "value_loss.clip": "maximum",
}

notes = [
    f"with torch {torch.__version__}, tensordict {version_of('tensordict')}",
    "distributions are MaskedCategorical, IndependentNormal and TanhNormal; their KL is torch's kl_divergence",
    "torch's default dtype is that of the inputs meanwhile: the losses keep their coefficients in it",
    "clipped_objective, clip_fraction (out key clip_fraction) and approximate_kl (kl_approx) are ClipPPOLoss's",
    "surrogate and ratio are PPOLoss's, which does not clip; the ratio is read from its gradient at advantages 1",
    "normalize_advantages is read from the gradient of ClipPPOLoss(normalize_advantage=True) at ratio 1",
    "value losses are loss_critic with its default, smooth_l1; explained_variance is what the loss reports",
    "gae is generalized_advantage_estimate, gae_rollout vec_generalized_advantage_estimate",
    "td_errors is td0_advantage_estimate, discounted_returns td1_return_estimate",
]

Parameters = dict[str, Any]


# Distributions.


def _masked_categorical(phi: Phi, inputs: Inputs) -> Any:
    return MaskedCategorical(logits=phi["logits"], mask=torch.tensor(np.asarray(inputs["mask"], dtype=bool)))


def _gaussian(phi: Phi, inputs: Inputs) -> Any:
    return IndependentNormal(phi["mean"], phi["log_std"].exp())


def _squashed_gaussian(phi: Phi, inputs: Inputs) -> Any:
    return TanhNormal(phi["mean"], phi["log_std"].exp())


def _whole_actions(distribution: Any, inputs: Inputs) -> Any:
    return distribution.log_prob(torch.tensor(np.asarray(inputs["actions"], dtype=np.int64)))


def _real_actions(distribution: Any, inputs: Inputs) -> Any:
    return distribution.log_prob(torch.tensor(inputs["actions"]))


_MASKED = Family(("logits",), _masked_categorical, _whole_actions)
_GAUSSIAN = Family(("mean", "log_std"), _gaussian, _real_actions)
_SQUASHED = Family(("mean", "log_std"), _squashed_gaussian, _real_actions)
_KL = torch.distributions.kl_divergence
_QUANTITIES = ("log_prob", "entropy", "kl", "mean_kl", "score", "fisher")

globals().update(distribution_ops("masked_categorical", _MASKED, _KL, *_QUANTITIES))
globals().update(distribution_ops("diagonal_gaussian", _GAUSSIAN, _KL, *_QUANTITIES))
globals().update(distribution_ops("squashed_gaussian", _SQUASHED, _KL, "kl", "mean_kl", "fisher"))


# Estimators: functions of (environments, time, 1).


def _by_time(array: NDArray[Any]) -> torch.Tensor:
    return torch.tensor(np.asarray(array)).T[..., None]


def _by_row(tensor: torch.Tensor) -> NDArray[Any]:
    return numpy_array(tensor[..., 0].T)


def gae(
    rewards: NDArray[Any],
    values: NDArray[Any],
    next_values: NDArray[Any],
    terminated: NDArray[np.bool_],
    truncated: NDArray[np.bool_],
    gamma: float,
    gae_lambda: float,
) -> dict[str, NDArray[Any]]:
    """Call ``generalized_advantage_estimate``; an episode is done where it terminated or was truncated."""
    V, V_next, r, done, end = (
        _by_time(each) for each in (values, next_values, rewards, terminated | truncated, terminated)
    )
    advantages, targets = generalized_advantage_estimate(float(gamma), float(gae_lambda), V, V_next, r, done, end)
    return {"advantages": _by_row(advantages), "value_targets": _by_row(targets)}


def gae_rollout(
    rewards: NDArray[Any],
    values: NDArray[Any],
    dones: NDArray[np.bool_],
    last_values: NDArray[Any],
    gamma: float,
    gae_lambda: float,
) -> dict[str, NDArray[Any]]:
    """Call ``vec_generalized_advantage_estimate`` with the next row's value as the next value."""
    next_values = np.concatenate([values[1:], np.asarray(last_values)[None]])
    V, V_next, r, done = (_by_time(each) for each in (values, next_values, rewards, dones))
    try:
        advantages, targets = vec_generalized_advantage_estimate(
            float(gamma), float(gae_lambda), V, V_next, r, done, done
        )
    except IndexError as error:
        raise NotImplementedError(f"vec_generalized_advantage_estimate raised IndexError: {error}") from error
    return {"advantages": _by_row(advantages), "value_targets": _by_row(targets)}


def td_errors(
    rewards: NDArray[Any],
    values: NDArray[Any],
    next_values: NDArray[Any],
    terminated: NDArray[np.bool_],
    gamma: float,
) -> NDArray[Any]:
    """Call ``td0_advantage_estimate``."""
    V, V_next, r, end = (_by_time(each) for each in (values, next_values, rewards, terminated))
    return _by_row(td0_advantage_estimate(float(gamma), V, V_next, r, end, end))


def discounted_returns(
    rewards: NDArray[Any],
    next_values: NDArray[Any],
    terminated: NDArray[np.bool_],
    truncated: NDArray[np.bool_],
    gamma: float,
) -> NDArray[Any]:
    """Call ``td1_return_estimate``."""
    V_next, r, done, end = (_by_time(each) for each in (next_values, rewards, terminated | truncated, terminated))
    return _by_row(td1_return_estimate(float(gamma), V_next, r, done, end))


# Losses of given log-probabilities and values.


class _Given(torch.distributions.Distribution):  # type: ignore[misc,unused-ignore]
    """A distribution whose log-probabilities are its parameter."""

    arg_constraints: Mapping[str, Any] = {}

    def __init__(self, log_prob: torch.Tensor) -> None:
        self.given = log_prob
        super().__init__(log_prob.shape, validate_args=False)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Return the parameter, whatever the action."""
        return self.given


@contextlib.contextmanager
def _in_dtype_of(array: Any) -> Iterator[None]:
    """Let torch build with the dtype of the inputs, and set its default back."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.tensor(array).dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _loss_of_rows(
    kind: Any,
    *,
    old_log_prob: Any = None,
    new_log_prob: Any = None,
    advantages: Any = None,
    values: Any = None,
    old_values: Any = None,
    targets: Any = None,
    **settings: Any,
) -> tuple[Any, NDArray[Any]]:
    """Call a loss on given rows, where what is not given is 0.

    Returns
    -------
    out : TensorDict
        What the loss returned.
    gradient : (B,) array
        The derivative of loss_objective with respect to new_log_prob.
    """
    rows = next(np.asarray(each) for each in (new_log_prob, advantages, values) if each is not None)

    def column(each: Any) -> torch.Tensor:
        return torch.tensor(np.zeros_like(rows) if each is None else each)

    with _in_dtype_of(rows):
        network = TensorDictModule(torch.nn.Identity(), in_keys=["new_log_prob"], out_keys=["log_prob"])
        actor = ProbabilisticActor(network, in_keys=["log_prob"], distribution_class=_Given)
        critic = ValueOperator(torch.nn.Identity(), in_keys=["values"])
        loss = kind(actor, critic, **({"entropy_bonus": False} | settings))
        new = column(new_log_prob).requires_grad_()
        out = loss(
            TensorDict(
                {
                    "new_log_prob": new,
                    "action_log_prob": column(old_log_prob),
                    "action": torch.zeros(len(rows)),
                    "advantage": column(advantages)[:, None],
                    "values": column(values)[:, None],
                    "state_value": column(old_values)[:, None],
                    "value_target": column(targets)[:, None],
                },
                batch_size=[len(rows)],
            )
        )
        (gradient,) = torch.autograd.grad(out["loss_objective"], new)
    return out.detach(), numpy_array(gradient)


def clipped_objective(**rows: Any) -> NDArray[Any]:
    """Return minus ``loss_objective``."""
    return numpy_array(-_clip(**rows)[0]["loss_objective"])


def clipped_objective_gradient(**rows: Any) -> NDArray[Any]:
    """Differentiate ``loss_objective``."""
    return -_clip(**rows)[1]


def asymmetric_clipped_objective(clip_low: float, clip_high: float, **rows: Any) -> dict[str, NDArray[Any]]:
    """Return minus ``loss_objective`` with a pair of clips, and differentiate it."""
    out, gradient = _loss_of_rows(ClipPPOLoss, clip_epsilon=(float(clip_low), float(clip_high)), **rows)
    return {"objective": numpy_array(-out["loss_objective"]), "gradient": -gradient}


def clip_fraction(**rows: Any) -> NDArray[Any]:
    """Return ``clip_fraction``."""
    return numpy_array(_clip(**rows)[0]["clip_fraction"])


def _clip(clip: float, **rows: Any) -> tuple[Any, NDArray[Any]]:
    return _loss_of_rows(ClipPPOLoss, clip_epsilon=float(clip), **rows)


def approximate_kl(old_log_prob: NDArray[Any], new_log_prob: NDArray[Any]) -> NDArray[Any]:
    """Return ``kl_approx``."""
    out, _ = _loss_of_rows(ClipPPOLoss, old_log_prob=old_log_prob, new_log_prob=new_log_prob)
    return numpy_array(out["kl_approx"])


def ratio(old_log_prob: NDArray[Any], new_log_prob: NDArray[Any]) -> NDArray[Any]:
    """For advantages 1 the derivative of PPOLoss for a row is −ratio/B."""
    ones = np.ones_like(new_log_prob)
    _, gradient = _loss_of_rows(PPOLoss, old_log_prob=old_log_prob, new_log_prob=new_log_prob, advantages=ones)
    return -len(gradient) * gradient


def normalize_advantages(advantages: NDArray[Any]) -> NDArray[Any]:
    """Where the ratio is 1 the derivative of the loss for a row is −(normalised advantage)/B."""
    _, gradient = _loss_of_rows(ClipPPOLoss, advantages=advantages, normalize_advantage=True)
    return -len(gradient) * gradient


def value_loss(values: NDArray[Any], targets: NDArray[Any]) -> NDArray[Any]:
    """Return ``loss_critic``."""
    out, _ = _loss_of_rows(ClipPPOLoss, values=values, targets=targets)
    return numpy_array(out["loss_critic"])


def clipped_value_loss(
    values: NDArray[Any], old_values: NDArray[Any], targets: NDArray[Any], clip: float
) -> NDArray[Any]:
    """Return ``loss_critic`` with a clip_value."""
    out, _ = _loss_of_rows(
        ClipPPOLoss, values=values, old_values=old_values, targets=targets, clip_value=float(clip)
    )
    return numpy_array(out["loss_critic"])


def explained_variance(values: NDArray[Any], targets: NDArray[Any]) -> NDArray[Any]:
    """Return ``explained_variance``."""
    out, _ = _loss_of_rows(ClipPPOLoss, values=values, targets=targets)
    return numpy_array(out["explained_variance"][0])


# Losses of real policies.


class _Parameters(policies.Policy):
    """The policy as an actor's network: from observations to what its distribution class takes."""

    def forward(self, x: torch.Tensor) -> Any:
        """Return the logits, or loc and scale."""
        outputs = self.network(x)
        return outputs if self.discrete else (outputs, self.log_std.exp().expand(outputs.shape))


def _loss_of_policy(
    kind: Any,
    policy: Mapping[str, Any],
    observations: NDArray[Any],
    *,
    actions: Any = None,
    advantages: Any = None,
    old_log_prob: Any = None,
    value_network: Mapping[str, Any] | None = None,
    value_targets: Any = None,
    **settings: Any,
) -> tuple[Any, _Parameters, Any]:
    """Call a loss on a real actor and critic; return what it returned, the policy and the critic's network."""
    x = torch.tensor(observations)
    zeros = torch.zeros(len(x), dtype=x.dtype)

    def column(each: Any) -> torch.Tensor:
        return zeros if each is None else torch.tensor(each)

    with _in_dtype_of(observations):
        pi = _Parameters(policy)
        keys = ["logits"] if pi.discrete else ["loc", "scale"]
        module = TensorDictModule(pi, in_keys=["observation"], out_keys=keys)
        family = torch.distributions.Categorical if pi.discrete else IndependentNormal
        actor = ProbabilisticActor(module, in_keys=keys, distribution_class=family)
        no_critic = {"layers": [{"W": np.zeros((x.shape[1], 1), observations.dtype), "b": np.zeros(1)}]}
        critic = policies.network(value_network or no_critic | {"activation": "identity"}).to(x.dtype)
        if actions is None:
            actions = np.zeros(len(x), np.int64) if pi.discrete else np.zeros((len(x), len(pi.log_std)))
        # Parameters stay those of the modules given, so that their gradients are found there.
        settings = {"entropy_bonus": False, "functional": False} | settings
        loss = kind(actor, ValueOperator(critic, in_keys=["observation"]), **settings)
        rows = {
            "observation": x,
            "action": torch.tensor(actions).to(torch.int64 if pi.discrete else x.dtype),
            "action_log_prob": column(old_log_prob),
            "advantage": column(advantages)[:, None],
            "value_target": column(value_targets)[:, None],
        }
        return loss(TensorDict(rows, batch_size=[len(x)])), pi, critic


def surrogate(policy: Mapping[str, Any], observations: NDArray[Any], **rows: Any) -> NDArray[Any]:
    """Return minus ``loss_objective`` of PPOLoss."""
    out, _, _ = _loss_of_policy(PPOLoss, policy, observations, **rows)
    return numpy_array(-out["loss_objective"])


def surrogate_gradient(policy: Mapping[str, Any], observations: NDArray[Any], **rows: Any) -> Parameters:
    """Differentiate it."""
    out, pi, _ = _loss_of_policy(PPOLoss, policy, observations, **rows)
    return policies.parameters_of(pi.gradient(-out["loss_objective"]))


def clipped_objective_parameter_gradient(
    policy: Mapping[str, Any], observations: NDArray[Any], clip: float, **rows: Any
) -> Parameters:
    """Differentiate ``loss_objective`` of ClipPPOLoss."""
    out, pi, _ = _loss_of_policy(ClipPPOLoss, policy, observations, clip_epsilon=float(clip), **rows)
    return policies.parameters_of(pi.gradient(-out["loss_objective"]))


def entropy_bonus(policy: Mapping[str, Any], observations: NDArray[Any]) -> dict[str, Any]:
    """Differentiate ``loss_entropy`` with the coefficient 1."""
    out, pi, _ = _loss_of_policy(PPOLoss, policy, observations, entropy_bonus=True, entropy_coeff=1.0)
    return {
        "entropy": numpy_array(out["entropy"]),
        "gradient": policies.parameters_of(pi.gradient(-out["loss_entropy"])),
    }


def ppo_objective(
    policy: Mapping[str, Any],
    observations: NDArray[Any],
    clip: float,
    value_coefficient: float,
    entropy_coefficient: float,
    **rows: Any,
) -> dict[str, Any]:
    """Add up the three losses of ClipPPOLoss, and differentiate."""
    out, pi, critic = _loss_of_policy(
        ClipPPOLoss,
        policy,
        observations,
        clip_epsilon=float(clip),
        critic_coeff=float(value_coefficient),
        entropy_bonus=True,
        entropy_coeff=float(entropy_coefficient),
        **rows,
    )
    objective = -(out["loss_objective"] + out["loss_critic"] + out["loss_entropy"])
    value_gradient = torch.autograd.grad(objective, list(critic.parameters()), retain_graph=True)
    return {
        "objective": numpy_array(objective),
        "policy_gradient": policies.parameters_of(pi.gradient(objective)),
        "value_gradient": policies.parameters_of(value_gradient),
    }


_OF_TORCH = "TorchRL takes it from torch; judged there"
_TAKES_SQUASHED = "TanhNormal takes the squashed action, in which the digits of the pre-tanh action are lost"
_NO_TRUST_REGION = "TorchRL has no trust-region methods"
_NOTHING_EXACT = "TorchRL has no finite MDPs, bounds or duals"


def _reason(op: str) -> str:
    if op.endswith("_squashed_gaussian"):
        return _TAKES_SQUASHED
    return _OF_TORCH if OPS[op].profile in ("distributions", "ppo") else _NO_TRUST_REGION


unsupported: Mapping[str, str] = {op: _reason(op) for op in OPS if op not in globals()} | {
    "dual_clipped_objective": "ClipPPOLoss has no floor for negative advantages",
    "entropy_squashed_gaussian": "TanhNormal has no entropy",
    "kl_estimators": "only the mean of k1 exists, in the losses; judged as approximate_kl",
    "kl_penalized_objective": "KLPENPPOLoss takes the KL from distributions, not from given numbers",
    "kl_penalty_update": "KLPENPPOLoss takes the KL from distributions, not from given numbers",
    "proportional_kl_penalty_update": "KLPENPPOLoss multiplies its penalty by constants only",
    "ppo_epoch": "the training loop is the user's; its loss and torch's Adam are judged apart",
    "network_forward": _OF_TORCH,
    **{op.name: _NOTHING_EXACT for op in OPS.values() if op.profile == "theory"},
}
