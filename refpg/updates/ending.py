"""How updates end; each ending has a name."""

from enum import Enum


class Ending(Enum):
    """How a trust-region update ended; the value is the sentence for a person."""

    ACCEPTED = "a candidate was accepted"
    NO_IMPROVEMENT = "no candidate improved the surrogate as the rule asks"
    KL_EXCEEDED = "candidates improved the surrogate, but none of them inside the trust region"
    NON_POSITIVE_CURVATURE = "the step length is undefined: xᵀFx is not positive (is F singular and undamped?)"
    ZERO_GRADIENT = "the gradient is zero, or below the threshold: the policy is stationary"


class MMEnding(Enum):
    """How a minorize–maximization step ended; the value is the sentence for a person."""

    IMPROVED = "the minorizer has a higher point than the current policy, and it was taken"
    AT_MAXIMUM = "the current policy maximises its own minorizer: no step pays for its KL"
    NO_IMPROVEMENT = "no point that was tried is higher on the minorizer"


class PPOEnding(Enum):
    """How PPO's epochs ended; the value is the sentence for a person."""

    ALL_EPOCHS = "all epochs were made"
    KL_REACHED = "the KL that a minibatch estimates passed its limit, and the rest was left"


class CostEnding(Enum):
    """How a trust-region step with a cost constraint ended; the value is the sentence for a person."""

    COST_INACTIVE = "the trust region's own best step meets the cost constraint"
    COST_BINDS = "the best step lies on the edge of the cost constraint"
    RECOVERY = "no step of the trust region meets the cost constraint: the one that lowers the cost most was taken"
    INFEASIBLE = "the cost constraint is violated, and no step changes the cost"
