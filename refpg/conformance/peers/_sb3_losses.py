"""The loss lines of ``train()``, met with given numbers per row.

PPO and MaskablePPO have the same lines, except that only PPO leaves the advantage of a minibatch of one row as it is.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from refpg.conformance.peers._sb3_objects import algorithm, fill, float32, rows_in_order, unbounded
from refpg.conformance.peers._torch_distributions import numpy_array


class GivenRows:
    """Makes a policy answer with given numbers per row, so that the algorithm's loss lines meet exactly those."""

    def give(self, log_prob: Any, values: Any) -> None:
        """Set what `evaluate_actions` answers; the entropy it answers is 0."""
        self.given_log_prob = log_prob
        self.given_values = values

    def evaluate_actions(self, obs: Any, actions: Any, action_masks: Any = None) -> tuple[Any, Any, Any]:
        """Return the given values and log-probabilities, and no entropy."""
        return self.given_values, self.given_log_prob, torch.zeros_like(self.given_log_prob)


def loss_lines(
    kind: Any,
    policy_class: Any,
    *,
    old_log_prob: ArrayLike = 0.0,
    new_log_prob: ArrayLike | None = None,
    advantages: ArrayLike = 0.0,
    values: ArrayLike | None = None,
    old_values: ArrayLike = 0.0,
    targets: ArrayLike = 0.0,
    **settings: Any,
) -> tuple[dict[str, float], NDArray[Any]]:
    """Run the real ``train()`` of PPO or MaskablePPO once on given rows.

    Parameters
    ----------
    kind, policy_class : class
        The algorithm, and the policy it takes, which is then made to answer with the rows.
    old_log_prob, new_log_prob, advantages, values, old_values, targets : (B,) array
        The rows; what is not given is 0.
    **settings
        The algorithm's own.

    Returns
    -------
    logged : dict
        What ``train()`` logged, by its own names: ``train/policy_gradient_loss``, ``train/value_loss``, ….
    gradient : (B,) array
        The derivative of the loss with respect to new_log_prob, by the library's ``loss.backward()``.
    """
    rows = next(len(np.asarray(x)) for x in (new_log_prob, values, advantages) if x is not None and np.ndim(x))
    zeros = np.zeros(rows)
    settings = {"n_epochs": 1, "ent_coef": 0.0, "vf_coef": 0.0, "max_grad_norm": np.inf} | settings
    given_rows = type("GivenRowsPolicy", (GivenRows, policy_class), {})
    model = algorithm(kind, given_rows, unbounded(1), spaces.Discrete(2), rows=rows, **settings)
    log_prob = float32(zeros if new_log_prob is None else new_log_prob).requires_grad_()
    model.policy.give(log_prob, float32(zeros if values is None else values))
    fill(
        model,
        observations=zeros[:, None],
        actions=zeros,
        old_log_prob=old_log_prob,
        advantages=advantages,
        values=old_values,
        value_targets=targets,
    )
    with rows_in_order():
        model.train()
    return dict(model.logger.name_to_value), numpy_array(log_prob.grad)


def loss_ops(kind: Any, policy_class: Any) -> dict[str, Callable[..., Any]]:
    """Return the operations that the loss lines of `kind` (PPO or MaskablePPO) answer, by name."""

    def clipped(old_log_prob: Any, new_log_prob: Any, advantages: Any, clip: float) -> tuple[Any, Any]:
        return loss_lines(
            kind,
            policy_class,
            old_log_prob=old_log_prob,
            new_log_prob=new_log_prob,
            advantages=advantages,
            clip_range=float(clip),
        )

    def clipped_objective(**inputs: Any) -> float:
        logged, _ = clipped(**inputs)
        return -logged["train/policy_gradient_loss"]

    def clipped_objective_gradient(**inputs: Any) -> NDArray[Any]:
        _, gradient = clipped(**inputs)
        return -gradient

    def clip_fraction(**inputs: Any) -> float:
        logged, _ = clipped(**inputs)
        return logged["train/clip_fraction"]

    def approximate_kl(old_log_prob: Any, new_log_prob: Any) -> float:
        logged, _ = loss_lines(kind, policy_class, old_log_prob=old_log_prob, new_log_prob=new_log_prob)
        return logged["train/approx_kl"]

    def ratio(old_log_prob: Any, new_log_prob: Any) -> NDArray[Any]:
        """For advantages 1 and no clipping the derivative of the loss for a row is −ratio/B."""
        _, gradient = clipped(old_log_prob, new_log_prob, np.ones_like(new_log_prob), float("inf"))
        return -len(gradient) * gradient

    def normalize_advantages(advantages: Any) -> NDArray[Any]:
        """Where the ratio is 1 the derivative of the loss for a row is −(normalised advantage)/B."""
        _, gradient = loss_lines(kind, policy_class, advantages=advantages, normalize_advantage=True)
        return -len(gradient) * gradient

    def value_loss(values: Any, targets: Any) -> float:
        logged, _ = loss_lines(kind, policy_class, values=values, targets=targets)
        return logged["train/value_loss"]

    def clipped_value_loss(values: Any, old_values: Any, targets: Any, clip: float) -> float:
        logged, _ = loss_lines(
            kind, policy_class, values=values, old_values=old_values, targets=targets, clip_range_vf=float(clip)
        )
        return logged["train/value_loss"]

    return {
        "clipped_objective": clipped_objective,
        "clipped_objective_gradient": clipped_objective_gradient,
        "clip_fraction": clip_fraction,
        "approximate_kl": approximate_kl,
        "ratio": ratio,
        "normalize_advantages": normalize_advantages,
        "value_loss": value_loss,
        "clipped_value_loss": clipped_value_loss,
    }
