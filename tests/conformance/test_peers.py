"""The adapters of Stable-Baselines3, sb3-contrib and torch carry numbers in and out faithfully.

Every characterisation here is a closed form of the smallest case, so that a difference is the adapter's doing; what the
libraries do on the certified vectors is in `test_peers_on_the_vectors`.
"""

from itertools import pairwise

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("stable_baselines3")
pytest.importorskip("sb3_contrib")

from refpg.conformance.ops import OPS  # noqa: E402
from refpg.conformance.peers import _sb3_objects as objects  # noqa: E402
from refpg.conformance.peers import _torch_policies as policies  # noqa: E402
from refpg.conformance.peers import sb3_contrib, stable_baselines3  # noqa: E402

pytestmark = pytest.mark.peers

ADAPTERS = [
    pytest.param(stable_baselines3, id="stable-baselines3"),
    pytest.param(sb3_contrib, id="sb3-contrib"),
]
# A handful of float32 operations, each exact to 2^-24 of numbers of size at most 4.
FLOAT32 = {"rtol": 0.0, "atol": 16 * 4 * 2.0**-24}
FLOAT64 = {"rtol": 0.0, "atol": 16 * 4 * 2.0**-53}


def network(sizes, *, seed=0, activation="tanh"):
    """A network of short dyadic numbers, no two layers of the same shape."""
    generator = np.random.default_rng(seed)

    def draw(*shape):
        return (generator.integers(-32, 33, shape) / 32).astype(np.float32)

    layers = [{"W": draw(m, n), "b": draw(n)} for m, n in pairwise(sizes)]
    return {"layers": layers, "activation": activation}


def gaussian(sizes, *, seed=0):
    log_std = np.linspace(-0.5, 0.25, sizes[-1]).astype(np.float32)
    return network(sizes, seed=seed) | {"distribution": "diagonal_gaussian", "log_std": log_std}


def categorical(sizes, *, seed=0):
    return network(sizes, seed=seed) | {"distribution": "categorical"}


def same(one, other):
    """Whether two nested structures hold the same numbers."""
    if isinstance(one, dict):
        return set(one) == set(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return np.array_equal(one, other)


@pytest.mark.parametrize("adapter", ADAPTERS)
class TestTheAdapterIsComplete:
    def test_every_op_is_implemented_or_listed_with_a_reason(self, adapter):
        implemented = {op for op in OPS if callable(getattr(adapter, op, None))}
        assert implemented | set(adapter.unsupported) == set(OPS)
        assert implemented & set(adapter.unsupported) == set()
        assert all(len(reason) > 10 for reason in adapter.unsupported.values())

    def test_what_it_declares_exists(self, adapter):
        assert set(adapter.dtype) <= {*OPS, "*"}
        assert set(adapter.dtype.values()) <= {"float32", "float64"}
        axes = {axis for op in OPS.values() for axis in op.conventions}
        assert set(adapter.conventions) <= axes
        assert adapter.name
        assert adapter.version


class TestWeights:
    @pytest.mark.parametrize("make", [gaussian, categorical])
    def test_the_actors_weights_come_back_as_they_went_in(self, make):
        policy = make([3, 5, 4, 2])
        model = objects.actor_critic(stable_baselines3.PPO, policy, rows=2)
        back = objects.actor_of(model.policy)
        assert same(back, {key: policy[key] for key in back})

    def test_the_vector_of_parameters_has_log_std_last(self):
        policy = gaussian([2, 1])
        vector = objects.vector_of(policy)
        expected = [*policy["layers"][0]["W"].ravel(), *policy["layers"][0]["b"], *policy["log_std"]]
        np.testing.assert_array_equal(vector, np.array(expected))

    def test_the_mean_is_the_affine_map_written_out(self):
        net = network([3, 2])
        x = np.array([[1.0, -2.0, 0.5]], np.float32)
        expected = x @ net["layers"][0]["W"] + net["layers"][0]["b"]
        answer = stable_baselines3.network_forward(network=net, observations=x)
        np.testing.assert_allclose(answer, expected, **FLOAT32)

    def test_two_activations_are_refused(self):
        policy = categorical([2, 3, 2])
        critic = network([2, 3, 1], activation="relu")
        with pytest.raises(NotImplementedError, match="one activation"):
            objects.actor_critic(stable_baselines3.PPO, policy, rows=2, value_network=critic)


class TestTorchPolicies:
    """What the adapters of torch, TorchRL and curvlinops share."""

    @pytest.mark.parametrize("make", [gaussian, categorical])
    def test_parameters_come_back_as_they_went_in(self, make):
        policy = make([3, 5, 4, 2])
        back = policies.parameters_of(policies.tensors_of(policy))
        assert same(back, {key: policy[key] for key in back})
        assert "log_std" in back or make is categorical

    @pytest.mark.parametrize("make", [gaussian, categorical])
    def test_the_vector_is_in_the_order_of_the_contract_and_is_undone(self, make):
        policy = make([3, 5, 2])
        tensors = policies.tensors_of(policy)
        vector = policies.vector_of(tensors)
        np.testing.assert_array_equal(vector.numpy(), objects.vector_of(policy))
        assert all(torch.equal(a, b) for a, b in zip(policies.tensors_from(vector, tensors), tensors, strict=True))

    def test_a_module_has_its_weights_and_its_parameters_in_the_order_of_the_contract(self):
        policy = gaussian([3, 4, 2])
        pi = policies.Policy(policy)
        assert same(policies.parameters_of(pi.leaves()), {key: policy[key] for key in ("layers", "log_std")})

    def test_hessian_products_are_those_of_the_second_derivative(self):
        """f = Σ b³/6 of the last biases: the Hessian is diag(b) there and 0 elsewhere."""
        policy = gaussian([1, 2])
        pi = policies.Policy(policy)
        bias = pi.leaves()[1]
        matrix = pi.hessian_product((bias**3).sum() / 6).matrix()
        expected = np.zeros((6, 6), np.float32)
        expected[2:4, 2:4] = np.diag(policy["layers"][0]["b"])
        np.testing.assert_allclose(matrix.numpy(), expected, **FLOAT32)


class TestWhatIsHeldStillIsLetGo:
    def test_the_permutation_is_a_draw_again_afterwards(self):
        permutation = np.random.permutation
        with objects.rows_in_order([1, 0]):
            assert list(np.random.permutation(2)) == [1, 0]  # noqa: NPY002
        assert np.random.permutation is permutation

    def test_the_start_of_conjugate_gradients_is_a_draw_again_afterwards(self):
        randn_like = torch.randn_like
        sb3_contrib.conjugate_gradient(matrix=np.eye(2), b=np.ones(2), iterations=1)
        assert torch.randn_like is randn_like


class TestRolloutBuffer:
    def test_a_truncated_step_is_paid_the_value_of_its_final_observation(self):
        """One step, truncated: Â = r + γ V(final) − V."""
        answer = stable_baselines3.gae(
            rewards=np.array([[1.0]], np.float32),
            values=np.array([[0.5]], np.float32),
            next_values=np.array([[4.0]], np.float32),
            terminated=np.array([[False]]),
            truncated=np.array([[True]]),
            gamma=0.5,
            gae_lambda=0.25,
        )
        np.testing.assert_array_equal(answer["advantages"], [[2.5]])
        np.testing.assert_array_equal(answer["value_targets"], [[3.0]])

    def test_an_episode_that_ended_takes_nothing_from_the_next_one(self):
        """Two steps in two environments; only the first environment's first step ends: Â₀ = r₀ − V₀ there."""
        answer = stable_baselines3.gae_rollout(
            rewards=np.array([[1.0, 1.0], [2.0, 2.0]], np.float32),
            values=np.array([[0.5, 0.5], [0.25, 0.25]], np.float32),
            dones=np.array([[True, False], [False, False]]),
            last_values=np.array([8.0, 8.0], np.float32),
            gamma=0.5,
            gae_lambda=0.5,
        )
        last = 2.0 + 0.5 * 8.0 - 0.25
        first = 1.0 + 0.5 * 0.25 - 0.5 + 0.25 * last
        np.testing.assert_array_equal(answer["advantages"], [[0.5, first], [last, last]])

    def test_returns_of_an_open_rollout_continue_with_its_last_value(self):
        returns = stable_baselines3.discounted_returns(
            rewards=np.array([[1.0], [2.0]], np.float32),
            next_values=np.array([[64.0], [4.0]], np.float32),
            terminated=np.zeros((2, 1), bool),
            truncated=np.zeros((2, 1), bool),
            gamma=0.5,
        )
        np.testing.assert_array_equal(returns, [[1.0 + 0.5 * 4.0], [4.0]])

    def test_a_rollout_with_foreign_next_values_is_refused(self):
        zeros, never = np.zeros((2, 1), np.float32), np.zeros((2, 1), bool)
        with pytest.raises(NotImplementedError, match="next row"):
            stable_baselines3.gae(
                rewards=zeros,
                values=zeros,
                next_values=zeros + 1,
                terminated=never,
                truncated=never,
                gamma=0.5,
                gae_lambda=0.5,
            )


@pytest.mark.parametrize("adapter", ADAPTERS)
class TestLossLines:
    def test_a_row_of_the_gradient_belongs_to_its_row(self, adapter):
        """At ratio 1 the gradient of the clipped objective is A/B, row by row."""
        advantages = np.array([1.0, -2.0, 0.5, 4.0], np.float32)
        zeros = np.zeros_like(advantages)
        gradient = adapter.clipped_objective_gradient(
            old_log_prob=zeros, new_log_prob=zeros, advantages=advantages, clip=0.25
        )
        np.testing.assert_array_equal(gradient, advantages / 4)

    def test_a_clipped_row_counts_and_moves_nothing(self, adapter):
        """r = e in the first row of two, A > 0: the objective is ((1 + ε)A + A)/2."""
        inputs = {
            "old_log_prob": np.array([-1.0, 0.0], np.float32),
            "new_log_prob": np.zeros(2, np.float32),
            "advantages": np.full(2, 2.0, np.float32),
            "clip": 0.25,
        }
        assert adapter.clipped_objective(**inputs) == 2.25
        assert adapter.clip_fraction(**inputs) == 0.5
        np.testing.assert_array_equal(adapter.clipped_objective_gradient(**inputs), [0.0, 1.0])

    def test_the_ratio_is_the_exponential(self, adapter):
        new = np.log(np.array([2.0, 0.5, 1.0], np.float32))
        ratio = adapter.ratio(old_log_prob=np.zeros(3, np.float32), new_log_prob=new)
        np.testing.assert_allclose(ratio, [2.0, 0.5, 1.0], **FLOAT32)

    def test_advantages_are_normalised_with_bessels_correction(self, adapter):
        """(1, 3): mean 2, standard deviation √2 with N − 1."""
        normalized = adapter.normalize_advantages(advantages=np.array([1.0, 3.0], np.float32))
        np.testing.assert_allclose(normalized, [-np.sqrt(0.5), np.sqrt(0.5)], **FLOAT32)

    def test_the_clipped_value_loss_uses_the_clipped_value_alone(self, adapter):
        """V is right, but V_old + ε is 1 away from it: the loss is 1, where the maximum of both would be 1 as well,
        and V_old − ε is kept from a target that V has left behind: the loss is 0, not the unclipped error's 1."""
        loss = adapter.clipped_value_loss(
            values=np.array([2.0, 3.0], np.float32),
            old_values=np.array([0.75, 1.75], np.float32),
            targets=np.array([2.0, 2.0], np.float32),
            clip=0.25,
        )
        assert loss == 0.5


class TestPPO:
    def test_an_epoch_moves_every_minibatch_by_the_learning_rate(self):
        """Adam's first step is the learning rate times the sign of the gradient, whatever the gradient's size.

        With W = 0, observations 0, log_std kept out by x = mean ± σ (score 0), only the bias moves: two minibatches
        of one row, whose advantages have one sign, move it twice; the second moments are as good as equal.
        """
        policy = {
            "layers": [{"W": np.zeros((1, 1), np.float32), "b": np.zeros(1, np.float32)}],
            "activation": "tanh",
            "distribution": "diagonal_gaussian",
            "log_std": np.zeros(1, np.float32),
        }
        answer = stable_baselines3.ppo_epoch(
            policy=policy,
            observations=np.zeros((2, 1), np.float32),
            actions=np.ones((2, 1), np.float32),
            advantages=np.ones(2, np.float32),
            old_log_prob=np.full(2, -0.5 * np.log(2 * np.pi) - 0.5, np.float32),
            minibatches=[np.array([1]), np.array([0])],
            clip=0.5,
            learning_rate=2.0**-10,
            beta1=0.5,
            beta2=0.5,
            epsilon=2.0**-40,
        )
        # The second gradient differs by O(learning rate) of itself, so the second step by O(learning rate²).
        np.testing.assert_allclose(answer["parameters"]["layers"][0]["b"], [2.0**-9], atol=4 * 2.0**-20)

    @pytest.mark.parametrize(
        ("minibatches", "reason"),
        [([[0, 1], [1, 2]], "exactly once"), ([[0], [1, 2]], "equal size")],
    )
    def test_minibatches_a_rollout_buffer_cannot_cut_are_refused(self, minibatches, reason):
        with pytest.raises(NotImplementedError, match=reason):
            stable_baselines3.ppo_epoch(
                policy=categorical([1, 2]),
                observations=np.zeros((3, 1), np.float32),
                actions=np.zeros(3, np.int64),
                advantages=np.ones(3, np.float32),
                old_log_prob=np.zeros(3, np.float32),
                minibatches=[np.array(rows) for rows in minibatches],
                clip=0.25,
                learning_rate=0.5,
                beta1=0.5,
                beta2=0.5,
                epsilon=0.5,
            )

    def test_the_objective_is_maximised(self):
        """The entropy of a Gaussian rises by 1 with each log_std, and with nothing else."""
        answer = stable_baselines3.entropy_bonus(policy=gaussian([2, 3]), observations=np.ones((2, 2), np.float32))
        np.testing.assert_array_equal(answer["gradient"]["log_std"], np.ones(3))
        np.testing.assert_array_equal(answer["gradient"]["layers"][0]["W"], np.zeros((2, 3)))


def bias_policy(mean, actions=1):
    """A Gaussian policy with σ = 1 whose mean is its bias."""
    return {
        "layers": [{"W": np.zeros((1, actions), np.float32), "b": np.full(actions, mean, np.float32)}],
        "activation": "tanh",
        "distribution": "diagonal_gaussian",
        "log_std": np.zeros(actions, np.float32),
    }


class TestTRPO:
    def test_the_kl_is_that_of_new_to_old(self):
        """σ from 1 to e: KL(new ‖ old) = e²/2 − 1/2 − 1, while KL(old ‖ new) = e⁻²/2 − 1/2 + 1."""
        new = bias_policy(0.0) | {"log_std": np.ones(1, np.float32)}
        inputs = {"old_policy": bias_policy(0.0), "new_policy": new, "observations": np.zeros((3, 1), np.float32)}
        np.testing.assert_allclose(sb3_contrib.mean_kl(**inputs), np.e**2 / 2 - 1.5, **FLOAT32)
        gradient = sb3_contrib.mean_kl_gradient(**inputs)
        np.testing.assert_allclose(gradient["log_std"], [np.e**2 - 1], **FLOAT32)

    def test_the_kl_of_a_box_is_a_mean_over_its_dimensions(self):
        """The known difference `kl-mean-dims`: with three equal dimensions the KL is that of one."""
        old, new, x = bias_policy(0.0, 3), bias_policy(1.0, 3), np.zeros((2, 1), np.float32)
        assert sb3_contrib.mean_kl(old_policy=old, new_policy=new, observations=x) == 0.5
        zeros = np.zeros((2, 3))
        pair = {"old_mean": zeros, "new_mean": zeros + 1, "old_log_std": zeros, "new_log_std": zeros}
        assert sb3_contrib.mean_kl_diagonal_gaussian(**pair) == 0.5
        np.testing.assert_array_equal(stable_baselines3.kl_diagonal_gaussian(**pair), [1.5, 1.5])

    def test_the_kl_of_given_distributions_is_that_of_old_to_new(self):
        zeros = np.zeros((2, 1))
        answer = sb3_contrib.mean_kl_diagonal_gaussian(
            old_mean=zeros, new_mean=zeros, old_log_std=zeros, new_log_std=zeros + 1
        )
        np.testing.assert_allclose(answer, np.exp(-2.0) / 2 + 0.5, **FLOAT64)

    def test_the_fisher_matrix_is_laid_out_as_the_contract_says(self):
        """One action, σ = e^{log_std}: the mean's parameters see x xᵀ/σ², log_std sees 2, and comes last."""
        policy = bias_policy(0.0) | {"log_std": np.array([-0.5], np.float32)}
        x = np.array([[2.0], [-1.0]], np.float32)
        mean_block = np.array([[2.5, 0.5], [0.5, 1.0]]) * np.e  # E[(x, 1)(x, 1)ᵀ]/σ²
        expected = np.block([[mean_block, np.zeros((2, 1))], [np.zeros((1, 2)), 2 * np.ones((1, 1))]])
        answer = sb3_contrib.fisher_matrix(policy=policy, observations=x)
        np.testing.assert_allclose(answer, expected, **FLOAT32)

    @pytest.mark.parametrize("make", [gaussian, categorical])
    def test_the_fisher_matrix_times_a_vector_is_the_product(self, make):
        policy = make([3, 4, 2], seed=1)
        direction = make([3, 4, 2], seed=2)
        x = (np.random.default_rng(3).integers(-32, 33, (5, 3)) / 32).astype(np.float32)
        vector = {key: direction[key] for key in ("layers", "log_std") if key in direction}
        product = sb3_contrib.fisher_vector_product(policy=policy, observations=x, vector=vector, damping=0.125)
        flat = objects.vector_of(vector)
        expected = sb3_contrib.fisher_matrix(policy=policy, observations=x) @ flat + 0.125 * flat
        np.testing.assert_allclose(objects.vector_of(product), expected, rtol=0.0, atol=16 * len(flat) * 2.0**-24)

    @pytest.mark.parametrize(("max_kl", "accepted"), [(1.0, 1), (0.5, 2), (2.0**-4, 3), (2.0**-20, -1)])
    def test_the_line_search_stops_at_the_first_step_within_the_kl(self, max_kl, accepted):
        """Moving the mean by Δ = 2/2^j costs Δ²/2 = 2, ½, ⅛, …, and gains where the action is 4 away.

        At max_kl = ½ the candidate j = 1 has exactly that KL and is refused: the bound is strict.
        """
        step = {
            "layers": [{"W": np.zeros((1, 1), np.float32), "b": np.full(1, 2.0, np.float32)}],
            "log_std": np.zeros(1, np.float32),
        }
        answer = sb3_contrib.line_search(
            policy=bias_policy(0.0),
            observations=np.zeros((2, 1), np.float32),
            actions=np.full((2, 1), 4.0, np.float32),
            advantages=np.ones(2, np.float32),
            full_step=step,
            max_kl=max_kl,
            backtrack=0.5,
            max_backtracks=5,
        )
        assert answer["accepted"] == accepted
        moved = 2.0 * 0.5**accepted if accepted >= 0 else 0.0
        np.testing.assert_allclose(answer["parameters"]["layers"][0]["b"], [moved], **FLOAT32)

    def test_the_full_step_is_the_natural_gradient_of_length_max_kl(self):
        """Two rows at mean ± 1 (score of log_std 0) and A = ±1: the gradient is 1 in the bias, F + λI = 1 + λ there.

        The step has quadratic KL ½Δ²(1 + λ) = δ, so Δ = √(2δ/(1 + λ)); its KL ½Δ² is below δ.
        """
        damping, max_kl = 0.25, 2.0**-7
        answer = sb3_contrib.trpo_step(
            policy=bias_policy(0.0),
            observations=np.zeros((2, 1), np.float32),
            actions=np.array([[1.0], [-1.0]], np.float32),
            advantages=np.array([1.0, -1.0], np.float32),
            max_kl=max_kl,
            damping=damping,
            iterations=2,
            backtrack=0.5,
            max_backtracks=3,
        )
        assert answer["accepted"] == 0
        expected = np.sqrt(2 * max_kl / (1 + damping))
        np.testing.assert_allclose(answer["parameters"]["layers"][0]["b"], [expected], **FLOAT32)

    def test_the_step_length_is_that_of_the_product_given(self):
        """x·y = 8, δ = 1: β = ½."""
        length = sb3_contrib.step_length(
            direction=np.array([1.0, -2.0, 0.5], np.float32),
            product=np.array([2.0, -2.0, 4.0], np.float32),
            max_kl=1.0,
        )
        assert length == 0.5

    def test_conjugate_gradients_start_at_zero(self):
        """The first iterate from 0 is (bᵀb/bᵀMb) b: for M = diag(1, 3) and b = (1, 1) that is b/2."""
        x = sb3_contrib.conjugate_gradient(matrix=np.diag([1.0, 3.0]), b=np.ones(2), iterations=1)
        np.testing.assert_array_equal(x, [0.5, 0.5])


class TestDistributions:
    def test_masked_actions_have_no_probability_score_or_information(self):
        logits, mask = np.zeros((1, 3)), np.array([[True, False, True]])
        score = sb3_contrib.score_masked_categorical(logits=logits, mask=mask, actions=np.array([0]))
        np.testing.assert_array_equal(score["logits"], [[0.5, 0.0, -0.5]])
        fisher = sb3_contrib.fisher_masked_categorical(logits=logits, mask=mask)
        np.testing.assert_array_equal(fisher, [[[0.25, 0.0, -0.25], [0.0, 0.0, 0.0], [-0.25, 0.0, 0.25]]])
        assert sb3_contrib.log_prob_masked_categorical(logits=logits, mask=mask, actions=np.array([2])) == [-np.log(2)]

    def test_the_fisher_matrix_of_a_gaussian_has_means_first(self):
        fisher = stable_baselines3.fisher_diagonal_gaussian(mean=np.zeros((1, 1)), log_std=np.full((1, 1), -0.5))
        np.testing.assert_allclose(fisher, [[[np.e, 0.0], [0.0, 2.0]]], **FLOAT64)

    def test_the_squashed_log_prob_at_zero_is_the_gaussians_but_for_epsilon(self):
        """At u = 0 the correction is log(1 + 1e-6), which is the library's epsilon."""
        zeros = np.zeros((1, 1))
        answer = stable_baselines3.log_prob_squashed_gaussian(mean=zeros, log_std=zeros, pre_tanh_actions=zeros)
        expected = -0.5 * np.log(2 * np.pi) - np.log1p(1e-6)
        np.testing.assert_allclose(answer, [expected], **FLOAT64)

    def test_the_pre_tanh_action_is_used_as_it_is_given(self):
        """At u = 20 the action is 1 to rounding, and u cannot be found from it: log N(20) − log(epsilon)."""
        zeros = np.zeros((1, 1))
        answer = stable_baselines3.log_prob_squashed_gaussian(mean=zeros, log_std=zeros, pre_tanh_actions=zeros + 20)
        expected = -200.0 - 0.5 * np.log(2 * np.pi) - np.log(1e-6)
        np.testing.assert_allclose(answer, [expected], rtol=16 * 2.0**-53)
