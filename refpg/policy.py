"""The policy π_θ(a|s): a family of distributions whose parameters φ are the outputs of a network.

::

    x ──network──► φ ──family──► π_θ(a|s)
    log π_θ(a|s) = log p(a; φ_θ(x))            ∇_θ log π = Jᵀ ∂log p/∂φ           J = ∂φ/∂θ

Expectations over states are sums over rows of x with weights; expectations over actions are exact unless a
function's name says ``sampled_`` or takes actions.
"""

from collections.abc import Iterator
from concurrent.futures import Executor
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from refpg import network as networks
from refpg.distributions import CATEGORICAL, DIAGONAL_GAUSSIAN, Family
from refpg.network import Linearization, Network
from refpg.notation import Array, bind_shapes, finite_results
from refpg.rows import ROWS_PER_PART, row_parts, sum_over_parts


class Policy(NamedTuple):
    """A policy: how φ is computed from x and θ, and what φ means.

    Fields: ``family`` is a record of `refpg.distributions`; ``network`` a record of `refpg.network` whose
    ``num_outputs`` is the K of the family.
    """

    family: Family
    network: Network

    @property
    def sizes(self) -> dict[str, int]:
        """The lengths fixed by the policy, P and D, for `refpg.notation.bind_shapes`."""
        return {"P": self.network.num_parameters, "D": self.network.sizes[0]}

    def check(self, function: str, theta: Array, x: Array) -> Array:
        """Check the network and that its outputs fit the family; return zeros of the shape and dtype of φ."""
        networks.check_network(function, self.network)
        zero = np.zeros((), np.result_type(theta, x))
        zeros = np.ndarray((len(x), self.network.num_outputs), zero.dtype, zero, strides=(0, 0))
        self.family.check(function, zeros)
        return zeros

    def parts(self, *arrays: Array, length: int = ROWS_PER_PART) -> Iterator[tuple[Any, ...]]:
        """Yield the policy of some rows and those rows of each array, the parts of `refpg.rows.sum_over_parts`."""
        for rows in row_parts(len(arrays[0]), length):
            yield self._replace(family=self.family.rows(rows)), *(array[rows] for array in arrays)


class Batch(NamedTuple):
    """Samples on which an update is computed; one row per state visited.

    Fields: ``observations`` (B, D); ``actions``, one per row as the family has them; ``advantages`` (B,);
    ``old_log_prob`` (B,), log π_old(a|s) when the action was drawn (needed by PPO, where θ moves away from
    θ_old; TRPO's θ *is* θ_old); ``weights`` (B,), Σ w = 1, or None for 1/B each.
    """

    observations: Array
    actions: Array
    advantages: Array
    old_log_prob: Array | None = None
    weights: Array | None = None


def softmax_policy(sizes: tuple[int, ...], activation: str = "tanh") -> Policy:
    """Return a categorical policy whose logits are the outputs of a network.

    Parameters
    ----------
    sizes : tuple of int
        Layer widths (D, ..., A).
    activation : str
        The hidden activation.

    Returns
    -------
    Policy

    Examples
    --------
    >>> softmax_policy((3, 8, 2)).network.num_parameters
    50
    """
    return Policy(CATEGORICAL, Network(tuple(sizes), activation))


def gaussian_policy(sizes: tuple[int, ...], activation: str = "tanh") -> Policy:
    """Return a diagonal Gaussian policy: means from a network, a state-independent log σ at the end of θ.

    Parameters
    ----------
    sizes : tuple of int
        Layer widths (D, ..., A), A the number of action dimensions.
    activation : str
        The hidden activation.

    Returns
    -------
    Policy

    Notes
    -----
    Convention: θ ends with the A numbers log σ.  For a state-dependent log σ use
    ``Policy(DIAGONAL_GAUSSIAN, Network((D, ..., 2 * A)))``.

    Examples
    --------
    >>> gaussian_policy((3, 8, 2)).network.num_parameters
    52
    """
    return Policy(DIAGONAL_GAUSSIAN, Network(tuple(sizes), activation, free=sizes[-1]))


@finite_results
def linearize(function: str, policy: Policy, theta: Any, x: Any) -> Linearization:
    """Run the network once at (θ, x) and check that its outputs can be the family's parameters.

    Parameters
    ----------
    function : str
        The caller, named in every message.
    policy : Policy
        The policy.
    theta : (P,) array
        Parameters θ.
    x : (B, D) array
        Observations.

    Returns
    -------
    Linearization
        φ with the products of J = ∂φ/∂θ.

    Raises
    ------
    ValueError
        If a shape disagrees, or the network's outputs do not fit the family.
    """
    theta, x = bind_shapes(function, policy.sizes, theta=(theta, "P"), x=(x, "B D"))
    policy.check(function, theta, x)
    return networks.linearize_at(policy.network, theta, x)


@finite_results
def distribution_parameters(policy: Policy, theta: Any, x: Any) -> Array:
    """Return φ_θ(x), the parameters of the action distribution in each row.

    Parameters
    ----------
    policy : Policy
        The policy.
    theta : (P,) array
        Parameters θ.
    x : (B, D) array
        Observations.

    Returns
    -------
    (B, K) array

    Raises
    ------
    ValueError
        If a shape disagrees.
    """
    theta, x = bind_shapes("distribution_parameters", policy.sizes, theta=(theta, "P"), x=(x, "B D"))
    policy.check("distribution_parameters", theta, x)
    return networks.forward_at(policy.network, theta, x)


@finite_results
def log_prob(policy: Policy, theta: Any, x: Any, action: Any) -> Array:
    """Return log π_θ(a|s), one per row.

    Parameters
    ----------
    policy : Policy
        The policy.
    theta : (P,) array
        Parameters θ.
    x : (B, D) array
        Observations.
    action : array
        One action per row, as the family has them (for the squashed Gaussian: before tanh).

    Returns
    -------
    (B,) array
        Nats.

    Raises
    ------
    ValueError
        If a shape disagrees or an action is impossible.

    References
    ----------
    [TRPO (14)]

    Examples
    --------
    All parameters 0 give the uniform policy:

    >>> import numpy as np
    >>> log_prob(softmax_policy((2, 4)), np.zeros(12), np.ones((1, 2)), [3]) / np.log(4)
    array([-1.])
    """
    phi = distribution_parameters(policy, theta, x)
    action = policy.family.check_action("log_prob", phi, action)
    return policy.family.log_prob(phi, action)


@finite_results
def log_prob_vjp(
    policy: Policy, theta: Any, x: Any, action: Any, cotangent: Any, *, executor: Executor | None = None
) -> Array:
    """Return a combination of the gradients of the log-probabilities.

    ::

        Σ_b c_b ∇_θ log π_θ(a_b|s_b) = Σ_b J_bᵀ c_b ∂log p(a_b; φ_b)/∂φ

    With c = w·Â this is the policy gradient; with c = ∂objective/∂log π it is the gradient of any objective
    that depends on θ through the log-probabilities.

    Parameters
    ----------
    policy : Policy
        The policy.
    theta : (P,) array
        Parameters θ.
    x : (B, D) array
        Observations.
    action : array
        One action per row.
    cotangent : (B,) array
        The coefficients c; weights of the rows are part of them.
    executor : concurrent.futures.Executor, optional
        Who computes the sum over rows; the result has the same bits for any.

    Returns
    -------
    (P,) array
        A sum over rows, not a mean.

    Raises
    ------
    ValueError
        If a shape disagrees or an action is impossible.

    References
    ----------
    [TRPO (14)], [PPO (1)]
    """
    theta, x, c = bind_shapes(
        "log_prob_vjp", policy.sizes, theta=(theta, "P"), x=(x, "B D"), cotangent=(cotangent, "B")
    )
    phi_shaped = policy.check("log_prob_vjp", theta, x)
    action = policy.family.check_action("log_prob_vjp", phi_shaped, action)
    return sum_over_parts(partial(_log_prob_vjp, theta), policy.parts(x, action, c), executor)


def _log_prob_vjp(theta: Array, policy: Policy, x: Array, action: Array, c: Array) -> Array:
    at = networks.linearize_at(policy.network, theta, x)
    return at.vjp(c[:, None] * policy.family.score(at.phi, action))


@finite_results
def log_prob_jacobian(policy: Policy, theta: Any, x: Any, action: Any) -> Array:
    """Return the score ∇_θ log π_θ(a|s) of every row.

    Parameters
    ----------
    policy : Policy
        The policy.
    theta : (P,) array
        Parameters θ.
    x : (B, D) array
        Observations.
    action : array
        One action per row.

    Returns
    -------
    (B, P) array
        Row b is ∇_θ log π_θ(a_b|s_b).

    Raises
    ------
    ValueError
        If a shape disagrees or an action is impossible.

    References
    ----------
    [TRPO App. C.1]
    """
    at = linearize("log_prob_jacobian", policy, theta, x)
    action = policy.family.check_action("log_prob_jacobian", at.phi, action)
    score = policy.family.score(at.phi, action)
    return np.einsum("bk,bkp->bp", score, at.jacobian())


@finite_results
def log_ratio(policy: Policy, theta_old: Any, theta: Any, x: Any, action: Any) -> Array:
    """Return log π_θ(a|s) − log π_θold(a|s) with a small *relative* error, however close the two policies are.

    The difference θ − θ_old is carried through the network, so nothing cancels; the textbook difference of two
    log-probabilities loses all its digits as θ → θ_old.

    Parameters
    ----------
    policy : Policy
        The policy.
    theta_old, theta : (P,) array
        Parameters before and after.
    x : (B, D) array
        Observations.
    action : array
        One action per row.

    Returns
    -------
    (B,) array
        Log-ratio, nats; its exponential is the ratio r_t(θ).

    Raises
    ------
    ValueError
        If a shape disagrees or an action is impossible.

    References
    ----------
    [PPO (6)]
    """
    phi, change = parameters_and_change("log_ratio", policy, theta_old, theta, x)
    action = policy.family.check_action("log_ratio", phi, action)
    return policy.family.log_ratio(phi, change, action)


def parameters_and_change(function: str, policy: Policy, theta_old: Any, theta: Any, x: Any) -> tuple[Array, Array]:
    """Return φ at θ_old and φ at θ minus φ at θ_old, the latter with a small relative error.

    Parameters
    ----------
    function : str
        The caller, named in every message.
    policy : Policy
        The policy.
    theta_old, theta : (P,) array
        Parameters before and after.
    x : (B, D) array
        Observations.

    Returns
    -------
    phi_old, change : (B, K) arrays

    Raises
    ------
    ValueError
        If a shape disagrees.
    """
    theta_old, theta, x = bind_shapes(
        function, policy.sizes, theta_old=(theta_old, "P"), theta=(theta, "P"), x=(x, "B D")
    )
    phi, change = networks.forward_change(policy.network, theta_old, theta - theta_old, x)
    policy.family.check(function, phi)
    return phi, change


@finite_results
def entropy(policy: Policy, theta: Any, x: Any) -> Array:
    """Return the entropy of π_θ(·|s), one per row.

    Parameters
    ----------
    policy : Policy
        The policy.
    theta : (P,) array
        Parameters θ.
    x : (B, D) array
        Observations.

    Returns
    -------
    (B,) array
        Nats; of a density (Gaussian) it may be negative.

    Raises
    ------
    ValueError
        If a shape disagrees.

    References
    ----------
    [PPO (9)]
    """
    return policy.family.entropy(distribution_parameters(policy, theta, x))


def sample(policy: Policy, theta: Any, x: Any, generator: np.random.Generator) -> Array:
    """Draw one action per row from π_θ(·|s).

    Parameters
    ----------
    policy : Policy
        The policy.
    theta : (P,) array
        Parameters θ.
    x : (B, D) array
        Observations.
    generator : numpy.random.Generator
        The only source of randomness.

    Returns
    -------
    array
        Actions as the family has them (for the squashed Gaussian: before tanh).

    Raises
    ------
    ValueError
        If a shape disagrees.
    """
    return policy.family.sample(distribution_parameters(policy, theta, x), generator)


def probability_table(policy: Policy, theta: Any, x: Any) -> Array:
    """Return π_θ(a|s) for every state and every action of a categorical policy.

    Parameters
    ----------
    policy : Policy
        A policy whose family is categorical or masked categorical.
    theta : (P,) array
        Parameters θ.
    x : (S, D) array
        One row per state.

    Returns
    -------
    (S, A) array
        Probabilities; each row sums to 1, a masked action has exactly 0.

    Raises
    ------
    ValueError
        If the policy is of another family, or a shape disagrees.

    Examples
    --------
    >>> import numpy as np
    >>> probability_table(softmax_policy((1, 2)), np.zeros(4), np.ones((3, 1)))
    array([[0.5, 0.5],
           [0.5, 0.5],
           [0.5, 0.5]])
    """
    if policy.family.name not in ("categorical", "masked_categorical"):
        raise ValueError(
            f"probability_table: policy is of family {policy.family.name!r}, expected a categorical family"
        )
    phi = distribution_parameters(policy, theta, x)
    actions = range(phi.shape[1])
    columns = [policy.family.log_prob(phi, np.full(len(phi), a)) for a in actions]
    return np.exp(np.stack(columns, axis=1))
