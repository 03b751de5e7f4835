"""Sequences of tokens: what PPO, GRPO and their kin compute from N responses padded to T tokens.

A token is a row like any other; which rows count is said by a mask, bool (N, T), and what stands elsewhere, any finite
number, has no part in anything.  Every objective is Σ w x with weights that depend on the mask alone, so all of this
is made of the row functions of `surrogate` and `estimation`:

* `tokens`: the tokens that count, as rows, and back;
* `aggregation`: their weights, and the number that is made of a value per token;
* `advantages`: normalised over the tokens that count, or over the rewards of a group of responses to one prompt;
* `rewards`: a score at the end, and a penalty per token for leaving the reference;
* `clipping`: the clipped objective, with a ratio per token or per sequence;
* `penalty`: estimates of KL(π_θ ‖ π_ref) as a term of the objective, and what their gradients are gradients of;
* `objective`: the two together.

Gradients are with respect to one log-probability per token, weights included, and 0 where the token does not count.
"""

from refpg.sequences.advantages import group_advantages, masked_normalize_advantages
from refpg.sequences.aggregation import AGGREGATIONS, masked_aggregate
from refpg.sequences.clipping import token_clipped_objective, token_clipped_objective_gradient
from refpg.sequences.objective import sequence_objective, sequence_objective_gradient
from refpg.sequences.penalty import token_kl_penalty, token_kl_penalty_gradient
from refpg.sequences.rewards import token_rewards

__all__ = [
    "AGGREGATIONS",
    "group_advantages",
    "masked_aggregate",
    "masked_normalize_advantages",
    "sequence_objective",
    "sequence_objective_gradient",
    "token_clipped_objective",
    "token_clipped_objective_gradient",
    "token_kl_penalty",
    "token_kl_penalty_gradient",
    "token_rewards",
]
