"""One whole update beside one whole ``train()`` of Stable-Baselines3: the same numbers in, the same parameters out.

Both sides get the same initial weights, the same batch and the same order of minibatches, in float64; every parameter
is compared after all steps are made.  Nothing of the libraries is replaced but what would lose digits or draw at
random: observations are not cast to float32, the buffer holds float64, and the draws (the permutation of the rows, the
start of conjugate gradients) are held.

Tolerance: that of `refpg.conformance.tolerance`, 16 U max(R, 0.3 max R).  R is the amplification of rounding, measured
here: the rms change of each parameter, in units of η, when every number that enters a step is off by a random relative
η.  η = 2⁻⁴⁴ is far above rounding, and small enough that conjugate gradients, which amplify it up to a million times,
answer in proportion: at 2⁻²⁶ they no longer do, because all their answers lie within the residual of the last.
"""

import json
from contextlib import ExitStack
from typing import NamedTuple
from unittest import mock

import numpy as np
import pytest
from test_interop_peers import read_learner

from refpg import policy, solvers, updates
from refpg.conformance.vectors import DATA
from refpg.estimation import normalize_advantages
from refpg.network import Network
from refpg.notation import Array
from refpg.policy import Batch, Policy
from refpg.updates import Adam

pytestmark = pytest.mark.peers

U, ETA, DRAWS = 2.0**-53, 2.0**-44, 16
FACTOR, FLOOR = 16, 0.3  # of the judge's own tolerances
ROWS, SIZE, EPOCHS = 50, 16, 3  # the last minibatch of an epoch has 2 rows
CLIP, LEARNING_RATE = 0.2, 0.01
PPO = {"value_coefficient": 0.5, "entropy_coefficient": 0.01, "max_gradient_norm": 1.2, "epsilon": 1e-5}
PRESET = json.loads((DATA / "presets.json").read_text(encoding="utf-8"))["presets"]["sb3-contrib"]
CONTRIB = PRESET["trust_region"] | {
    "accept": PRESET["conventions"]["line_search.accept"],
    "direction": PRESET["conventions"]["kl.direction"],
    "step_damping": PRESET["conventions"]["step_length.damping"] == "damped",
    "threshold": 1e-5,  # rᵀr < 1e-10
}


class Start(NamedTuple):
    """What both sides begin with; the library's ``model`` is changed by its ``train()``."""

    model: object
    policy: Policy
    theta: Array
    value_network: Network
    value_theta: Array
    batch: Batch
    values: Array
    targets: Array
    orders: list


def start(algorithm, kind, *, rows=ROWS, dimensions=2, **settings):
    """A real algorithm with a float64 MlpPolicy, its rollout buffer filled by hand, and the same for refpg."""
    torch, sb3 = pytest.importorskip("torch"), pytest.importorskip("stable_baselines3")
    spaces = pytest.importorskip("gymnasium.spaces")
    objects = pytest.importorskip("refpg.conformance.peers._sb3_objects")
    make = sb3.PPO if algorithm == "PPO" else pytest.importorskip("sb3_contrib").TRPO
    space = spaces.Discrete(3) if kind == "Discrete" else spaces.Box(-9, 9, (dimensions,))
    net_arch = {"pi": [5, 4], "vf": [6]}
    settings = {"batch_size": SIZE, "normalize_advantage": True, "policy_kwargs": {"net_arch": net_arch}} | settings
    model = objects.algorithm(make, "MlpPolicy", objects.unbounded(3), space, rows=rows, **settings)
    model.policy.double()
    generator = np.random.default_rng(7)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.copy_(torch.tensor(0.5 * generator.normal(size=tuple(parameter.shape))))
    pi, theta, value_network, value_theta = read_learner(model, kind)

    x = generator.normal(size=(rows, 3))
    # The buffer hands actions out in float32 whatever it holds: they are drawn among those numbers.
    drawn = policy.sample(pi, theta, x, generator)
    actions = drawn if kind == "Discrete" else drawn.astype(np.float32).astype(float)
    old = policy.log_prob(pi, theta, x, actions)
    batch = Batch(x, actions, 3 * generator.normal(size=rows) + 1, old)
    values, targets = generator.normal(size=(2, rows))
    buffer = model.rollout_buffer
    buffer.observations, buffer.actions = x[:, None], actions.reshape(rows, 1, -1)
    held = {"values": values, "log_probs": old, "advantages": batch.advantages, "returns": targets}
    for name, column in held.items():
        setattr(buffer, name, column[:, None])
    buffer.full = True
    orders = [generator.permutation(rows) for _ in range(EPOCHS)]
    return Start(model, pi, theta, value_network, value_theta, batch, values, targets, orders)


def trained(given, kind, *orders, **drawn):
    """θ' followed by w' after the library's ``train()``, which draws these permutations, and by these functions."""
    with ExitStack() as held:
        as_they_are = lambda observations, *_, **__: observations  # noqa: E731
        held.enter_context(mock.patch("stable_baselines3.common.policies.preprocess_obs", as_they_are))
        held.enter_context(mock.patch.object(np.random, "permutation", mock.Mock(side_effect=orders)))
        for name, function in drawn.items():
            held.enter_context(mock.patch(f"torch.{name}", function))
        given.model.train()
    _, theta, _, value_theta = read_learner(given.model, kind)
    return np.concatenate([theta, value_theta])


def minibatches(orders, size=SIZE):
    return [np.split(order, range(size, len(order), size)) for order in orders]


def tolerance(exact, disturbed):
    """16 U max(R, 0.3 max R), R from the update at inputs that are off by η."""
    moved = [disturbed(np.random.default_rng([8, draw])) - exact for draw in range(DRAWS)]
    R = np.sqrt(np.mean(np.square(moved), axis=0)) / ETA
    return FACTOR * U * np.maximum(R, FLOOR * R.max())


def off(generator, x):
    """Every number off by a relative η; one that is nearly 0 by η of the size of its array."""
    x = np.asarray(x)
    return x + ETA * np.maximum(np.abs(x), np.sqrt(np.mean(x**2))) * generator.normal(size=x.shape)


def off_batch(generator, batch, kind):
    return Batch(
        off(generator, batch.observations),
        batch.actions if kind == "Discrete" else off(generator, batch.actions),
        off(generator, batch.advantages),
        off(generator, batch.old_log_prob),
    )


# PPO.

SB3 = {"normalize": True, "advantage_ddof": 1, "advantage_epsilon": 1e-8, "gradient_norm_epsilon": 1e-6}


def ppo_start(kind, **settings):
    return start(
        "PPO",
        kind,
        n_epochs=EPOCHS,
        learning_rate=LEARNING_RATE,
        clip_range=CLIP,
        vf_coef=PPO["value_coefficient"],
        ent_coef=PPO["entropy_coefficient"],
        **{"max_grad_norm": PPO["max_gradient_norm"]} | settings,
    )


def ours(given, orders, **changed):
    """θ' followed by w', by `ppo_epochs`; and what it did."""
    theta, info = updates.ppo_epochs(
        given.policy,
        given.theta,
        given.batch,
        value_network=given.value_network,
        value_theta=given.value_theta,
        value_targets=given.targets,
        **{"clip": CLIP, "minibatches": minibatches(orders), "learning_rate": LEARNING_RATE, **PPO, **SB3} | changed,
    )
    return np.concatenate([theta, info.value_theta]), info


def step_by_step(given, kind, generator, **changed):
    """The same update, a minibatch at a time, where all that enters a step is off by η."""
    P = len(given.theta)
    joint, adam = np.concatenate([given.theta, given.value_theta]), None
    for rows in (rows for epoch in minibatches(given.orders) for rows in epoch):
        batch = Batch(*(column[rows] for column in given.batch[:4]))
        joint = off(generator, joint)
        here = given._replace(
            theta=joint[:P],
            value_theta=joint[P:],
            batch=off_batch(generator, batch, kind),
            targets=off(generator, given.targets[rows]),
        )
        joint, info = ours(here, [], minibatches=[[np.arange(len(rows))]], adam=adam, **changed)
        adam = Adam(off(generator, info.adam.first_moment), info.adam.second_moment, info.adam.step)
    return joint


@pytest.fixture(scope="module", params=["Discrete", "Box"])
def ppo(request):
    """The start, the kind of actions, where the library's ``train()`` ended, and the tolerance of every parameter."""
    kind = request.param
    given = ppo_start(kind)
    exact, _ = ours(given, given.orders)
    allowed = tolerance(exact, lambda generator: step_by_step(given, kind, generator))
    return given, kind, trained(given, kind, *given.orders), allowed


class TestPPO:
    def test_ends_where_theirs_ends(self, ppo):
        given, _, theirs, allowed = ppo
        mine, _ = ours(given, given.orders)
        assert (np.abs(mine - theirs) <= allowed).all()
        moved = mine - np.concatenate([given.theta, given.value_theta])
        assert (np.abs(moved) > 1e6 * allowed).all()

    def test_every_part_of_the_update_had_something_to_do(self, ppo):
        """Gradients beyond the norm and within, ratios beyond the clip: else agreement would say little."""
        given, *_ = ppo
        mine, info = ours(given, given.orders)
        norms = [step.gradient_norm for step in info.steps]
        assert min(norms) < PPO["max_gradient_norm"] < max(norms)
        log_prob = policy.log_prob(given.policy, mine[: len(given.theta)], *given.batch[:2])
        assert (np.abs(np.expm1(log_prob - given.batch.old_log_prob)) > CLIP).any()

    @pytest.mark.parametrize(
        "fault",
        [
            {"advantage_ddof": 0},
            {"advantage_epsilon": 0.0},
            {"epsilon": 1e-8},
            {"gradient_norm_epsilon": 0.0},
            {"max_gradient_norm": None},
            {"entropy_coefficient": 0.0},
            {"value_coefficient": 1.0},
            {"value_clip": 0.2},
            {"clip": 0.3},
            {"learning_rate": LEARNING_RATE * (1 + 1e-9)},
            {"normalize": False},
        ],
        ids=str,
    )
    def test_another_convention_ends_elsewhere(self, ppo, fault):
        given, _, theirs, allowed = ppo
        mine, _ = ours(given, given.orders, **fault)
        assert (np.abs(mine - theirs) > 100 * allowed).any()

    def test_another_order_ends_elsewhere(self, ppo):
        given, _, theirs, allowed = ppo
        exchanged = [order.copy() for order in given.orders]
        exchanged[1][[0, SIZE]] = exchanged[1][[SIZE, 0]]  # two rows, of the first two minibatches of one epoch
        for orders in (given.orders[::-1], exchanged):
            mine, _ = ours(given, orders)
            assert (np.abs(mine - theirs) > 100 * allowed).any()

    def test_the_papers_update_is_theirs_with_every_addition_off(self, ppo):
        _, kind, *_ = ppo
        given = ppo_start(kind, normalize_advantage=False, max_grad_norm=np.inf)
        theta, info = updates.ppo_update(
            given.policy,
            given.theta,
            given.batch,
            clip=CLIP,
            minibatches=minibatches(given.orders),
            learning_rate=LEARNING_RATE,
            epsilon=PPO["epsilon"],
            value_network=given.value_network,
            value_theta=given.value_theta,
            value_targets=given.targets,
            value_coefficient=PPO["value_coefficient"],
            entropy_coefficient=PPO["entropy_coefficient"],
        )
        mine = np.concatenate([theta, info.value_theta])
        plain = {"normalize": False, "max_gradient_norm": None}
        allowed = tolerance(mine, lambda generator: step_by_step(given, kind, generator, **plain))
        assert (np.abs(mine - trained(given, kind, *given.orders)) <= allowed).all()


# TRPO.

CRITIC = {"learning_rate": LEARNING_RATE, "epsilon": 1e-5}


def trpo_start(kind, max_kl):
    """With a Gaussian head their KL is a mean over action dimensions: of one dimension it is the sum."""
    return start("TRPO", kind, dimensions=1, n_critic_updates=EPOCHS, learning_rate=LEARNING_RATE, target_kl=max_kl)


def trpo_ours(given, *, critic=CRITIC, size=SIZE, **settings):
    """θ' followed by w', by `trpo_step` and `fit_values`; and what the former did."""
    # Their ddof cannot be seen: a step to the edge of the trust region does not know the scale of the advantages.
    advantages = normalize_advantages(given.batch.advantages, ddof=1, epsilon=1e-8)
    batch = given.batch._replace(advantages=advantages)
    theta, info = updates.trpo_step(given.policy, given.theta, batch, **CONTRIB | settings)
    x, w, order = batch.observations, given.value_theta, minibatches(given.orders, size)
    value_theta, _ = updates.fit_values(given.value_network, w, x, given.targets, minibatches=order, **critic)
    return np.concatenate([theta, value_theta]), info


def trpo_disturbed(given, kind, max_kl, generator):
    """The same update, where all that enters it is off by η, and so is every product with the Fisher matrix."""

    def solved(product, b, **settings):
        return solvers.conjugate_gradient(lambda v: off(generator, product(v)), off(generator, b), **settings)

    here = given._replace(
        theta=off(generator, given.theta),
        value_theta=off(generator, given.value_theta),
        batch=off_batch(generator, given.batch, kind),
        targets=off(generator, given.targets),
    )
    with mock.patch("refpg.updates.trpo.conjugate_gradient", solved):
        return trpo_ours(here, max_kl=max_kl)[0]


def trpo_theirs(given, kind, **drawn):
    """All rows first, for the policy, in any order; then the minibatches of the critic."""
    return trained(given, kind, np.arange(ROWS), *given.orders, **drawn)


@pytest.fixture(scope="module", params=[("Discrete", 0.01), ("Box", 0.01), ("Box", 8.0)], ids=str)
def trpo(request):
    """As `ppo`, and δ; the library's conjugate gradients start from zero instead of 1e-4 · randn."""
    torch, (kind, max_kl) = pytest.importorskip("torch"), request.param
    given = trpo_start(kind, max_kl)
    exact, _ = trpo_ours(given, max_kl=max_kl)
    allowed = tolerance(exact, lambda generator: trpo_disturbed(given, kind, max_kl, generator))
    return given, kind, max_kl, trpo_theirs(given, kind, randn_like=torch.zeros_like), allowed


class TestTRPO:
    def test_ends_where_theirs_ends(self, trpo):
        """Conjugate gradients lose up to six digits here: their vectors do not stay orthogonal.  R says how many."""
        given, _, max_kl, theirs, allowed = trpo
        mine, info = trpo_ours(given, max_kl=max_kl)
        assert (np.abs(mine - theirs) <= allowed).all()
        moved = mine - np.concatenate([given.theta, given.value_theta])
        assert (np.abs(moved) > 1e3 * allowed).all()
        assert info.accepted == (1 if max_kl == 8.0 else 0)  # backtracked

    def test_their_random_start_is_seen_and_no_more_than_their_stop_allows(self, trpo):
        """From any start they end at a residual r = b − Hx of ‖r‖ < 1e-5, H = F + λI.

        Two ends x are within ‖x − x'‖_H = ‖r − r'‖_H⁻¹ ≤ 2e-5/√λ, the steps β x, of equal length in that norm, within
        2β of it, and ‖·‖ ≤ ‖·‖_H/√λ.
        """
        torch = pytest.importorskip("torch")
        given, kind, max_kl, theirs, allowed = trpo
        again = trpo_start(kind, max_kl)
        torch.manual_seed(0)
        apart = np.abs(trpo_theirs(again, kind) - theirs)[: len(given.theta)]
        assert (apart > 10 * allowed[: len(given.theta)]).any()
        _, info = trpo_ours(given, max_kl=max_kl)
        assert np.linalg.norm(apart) <= 2 * info.step_length * 2e-5 / CONTRIB["damping"]

    @pytest.mark.parametrize(
        "fault",
        [
            {"damping": 0.1 * (1 + 1e-4)},
            {"step_damping": False},
            {"iterations": 3},
            {"threshold": 0.0},
            {"threshold": 1e-10},  # as if the rule were of ‖r‖ instead of its square
            {"critic": CRITIC | {"epsilon": 1e-8}},
            {"size": SIZE + 1},
        ],
        ids=str,
    )
    def test_another_convention_ends_elsewhere(self, trpo, fault):
        given, _, max_kl, theirs, allowed = trpo
        mine, _ = trpo_ours(given, **{"max_kl": max_kl} | fault)
        assert (np.abs(mine - theirs) > 100 * allowed).any()

    def test_another_backtracking_ends_elsewhere(self, trpo):
        given, _, max_kl, theirs, allowed = trpo
        mine, info = trpo_ours(given, max_kl=max_kl, backtrack=0.5)
        assert (np.abs(mine - theirs) > 100 * allowed).any() == (len(info.trials) > 1)
