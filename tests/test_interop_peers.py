"""Weights of real libraries, read by their names: the same network, the same log-probabilities, the same gradients.

Tolerances: `forward_rounding` is the running error analysis of the two evaluations of one network.  A gradient is a sum
over rows of products; each side rounds a few times per factor, so that its error is a small multiple of the unit
roundoff U and of the same sum with all terms positive, `gradient_scale`.
"""

import copy
from itertools import pairwise
from unittest import mock

import numpy as np
import pytest

from refpg import geometry, interop, network, policy, updates
from refpg.distributions import BERNOULLI, CATEGORICAL, DIAGONAL_GAUSSIAN
from refpg.network import Network, unflatten
from refpg.policy import Batch, Policy

pytestmark = pytest.mark.peers

U = 2.0**-53
ROWS = 12
OBSERVATIONS = np.random.default_rng(1).normal(size=(ROWS, 3))
ADVANTAGES = np.random.default_rng(2).normal(size=ROWS)
TARGETS = np.random.default_rng(3).normal(size=ROWS)


def forward_rounding(net, theta, x):
    """A bound of the distance of two evaluations of φ in float64, row by row and output by output.

    A sum of n products and a bias is exact to (n + 1) u of the sum of sizes; an activation of this test has a slope of
    at most 1.13 (that of gelu and silu is at most 1.13 and 1.1) and an error of at most 8 u of a number of at most its
    argument's size, or 1; both sides err.
    """
    h, error = np.abs(x), np.zeros_like(x)
    for W, b in unflatten(net, theta)[0]:
        size = h @ np.abs(W) + np.abs(b)
        error = error @ np.abs(W) + 2 * (len(W) + 1) * U * size
        h, error = np.maximum(size, 1.0), 1.13 * error + 2 * 8 * U * np.maximum(size, 1.0)
    return error


def gradient_scale(of, theta, coefficients):
    """Σ_b |c_b| Σ_k |J_kp| at its largest p."""
    return max(np.einsum("bk,bkp->p", np.abs(coefficients), np.abs(network.jacobian(of, theta, OBSERVATIONS))))


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


class TestTorch:
    @pytest.mark.parametrize(
        ("activation", "module"),
        [
            ("tanh", "Tanh"),
            ("relu", "ReLU"),
            ("elu", "ELU"),
            ("silu", "SiLU"),
            ("softplus", "Softplus"),
            ("gelu", "GELU"),
            ("identity", "Identity"),
        ],
    )
    def test_a_sequential_is_the_network(self, torch, activation, module):
        model = sequential(torch, (3, 4, 4, 2), getattr(torch.nn, module))
        net, theta = interop.read_weights(model.state_dict(), interop.TORCH, activation=activation)
        assert net == Network((3, 4, 4, 2), activation)
        assert theta.dtype == np.float64
        phi = model(torch.tensor(OBSERVATIONS)).detach().numpy()
        error = np.abs(network.forward(net, theta, OBSERVATIONS) - phi)
        assert (error <= forward_rounding(net, theta, OBSERVATIONS)).all()

    def test_weights_go_back_bit_for_bit_in_either_dtype(self, torch):
        for dtype in (torch.float32, torch.float64):
            model = sequential(torch, (3, 4, 4, 2), torch.nn.Tanh).to(dtype)
            net, theta = interop.read_weights(model.state_dict(), interop.TORCH, activation="tanh")
            other = sequential(torch, (3, 4, 4, 2), torch.nn.Tanh, seed=9).to(dtype)
            arrays = interop.write_weights(net, theta, interop.TORCH, into=other.state_dict())
            other.load_state_dict({name: torch.as_tensor(array) for name, array in arrays.items()})
            x = torch.tensor(OBSERVATIONS, dtype=dtype)
            assert torch.equal(model(x), other(x))

    def test_what_torch_cannot_hand_over_is_refused_in_its_own_words(self, torch):
        model = sequential(torch, (3, 4, 2), torch.nn.Tanh)
        with pytest.raises(ValueError, match=r"0.weight cannot be read as an array: .*detach\(\)"):
            interop.read_weights(dict(model.named_parameters()), interop.TORCH, activation="tanh")
        with pytest.raises(ValueError, match="0.weight cannot be read as an array: .*BFloat16"):
            interop.read_weights(model.bfloat16().state_dict(), interop.TORCH, activation="tanh")

    def test_a_layer_without_a_bias_and_a_layer_norm_are_refused(self, torch):
        for wrong in (torch.nn.Linear(4, 4, bias=False), torch.nn.LayerNorm(4)):
            model = torch.nn.Sequential(torch.nn.Linear(3, 4), wrong, torch.nn.Linear(4, 2))
            with pytest.raises(ValueError, match="  ≠ "):
                interop.read_weights(model.state_dict(), interop.TORCH, activation="tanh")

    def test_ten_lines_for_the_readme(self, torch):
        """The exact Fisher matrix, natural gradient and KL of a torch policy, beside torch's own."""
        model = sequential(torch, (3, 8, 2), torch.nn.Tanh)
        observations, advantages = OBSERVATIONS, ADVANTAGES
        actions = np.arange(ROWS) % 2

        net, theta = interop.read_weights(model.state_dict(), interop.TORCH, activation="tanh")
        pi = Policy(CATEGORICAL, net)
        g = updates.surrogate_gradient(pi, theta, Batch(observations, actions, advantages))
        F = geometry.fisher_matrix(pi, theta, observations)
        natural = updates.natural_gradient(pi, theta, observations, g, damping=0.1).direction
        new_theta = theta + 0.01 * natural
        kl = geometry.mean_kl(pi, theta, new_theta, observations)

        new_weights = interop.write_weights(net, new_theta, interop.TORCH)
        old = torch.distributions.Categorical(logits=model(torch.tensor(observations)))
        model.load_state_dict({name: torch.as_tensor(array) for name, array in new_weights.items()})
        new = torch.distributions.Categorical(logits=model(torch.tensor(observations)))
        theirs = torch.distributions.kl_divergence(old, new).mean().item()

        # torch's KL is a sum of p (log p − log q), each exact to the rounding of the logits: φ errs in both policies.
        tolerance = 8 * forward_rounding(net, theta, observations).max()
        assert abs(kl - theirs) <= tolerance < 1e-6 * kl
        # A system with eigenvalues >= 0.1, solved by an orthogonal factorisation: the residual is rounding of F x + λx.
        scale = np.abs(F).sum(axis=1).max() * np.abs(natural).max() + np.abs(g).max()
        assert np.abs(F @ natural + 0.1 * natural - g).max() <= 64 * theta.size * U * scale


def sequential(torch, sizes, activation, seed=0):
    """A torch policy network in float64."""
    torch.manual_seed(seed)
    layers = [torch.nn.Linear(m, n) for m, n in pairwise(sizes)]
    modules = [module for layer in layers for module in (layer, activation())]
    return torch.nn.Sequential(*modules[:-1]).double()


KINDS = {"Box": DIAGONAL_GAUSSIAN, "Discrete": CATEGORICAL, "MultiBinary": BERNOULLI}


def learner(torch, kind, *, algorithm="PPO"):
    """A real algorithm of Stable-Baselines3 with an MlpPolicy in float64, and its actions; θ has no zeros in it."""
    sb3, spaces = pytest.importorskip("stable_baselines3"), pytest.importorskip("gymnasium.spaces")
    objects = pytest.importorskip("refpg.conformance.peers._sb3_objects")
    space = {"Box": spaces.Box(-9, 9, (2,)), "Discrete": spaces.Discrete(3), "MultiBinary": spaces.MultiBinary(2)}[kind]
    make = sb3.PPO if algorithm == "PPO" else pytest.importorskip("sb3_contrib").TRPO
    options = {"n_epochs": 1, "max_grad_norm": np.inf, "ent_coef": 0.01, "vf_coef": 0.5} if algorithm == "PPO" else {}
    model = objects.algorithm(
        make,
        "MlpPolicy",
        objects.unbounded(3),
        space,
        rows=ROWS,
        policy_kwargs={"net_arch": {"pi": [4, 4], "vf": [5]}},
        **options,
    )
    model.policy.double()
    generator = np.random.default_rng(4)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter += torch.tensor(0.3 * generator.normal(size=tuple(parameter.shape)))
    actions = {
        "Box": generator.normal(size=(ROWS, 2)),
        "Discrete": generator.integers(0, 3, ROWS),
        "MultiBinary": generator.integers(0, 2, (ROWS, 2)).astype(float),
    }[kind]
    return model, actions


@pytest.fixture
def in_float64():
    """Observations are cast to float32 on their way in; here they are left as they are."""
    pytest.importorskip("stable_baselines3")
    with mock.patch("stable_baselines3.common.policies.preprocess_obs", lambda observations, *_, **__: observations):
        yield


def read_learner(model, kind):
    """The policy and θ, the value network and its θ, of an MlpPolicy."""
    weights = model.policy.state_dict()
    layout = interop.SB3_CONTINUOUS if kind == "Box" else interop.SB3_DISCRETE
    net, theta = interop.read_weights(weights, layout, activation="tanh")
    value_net, value_theta = interop.read_weights(weights, interop.SB3_VALUE, activation="tanh")
    return Policy(KINDS[kind], net), theta, value_net, value_theta


def read_gradients(model, kind):
    """What ``backward()`` left, in the order of θ."""
    gradients = {name: parameter.grad for name, parameter in model.policy.named_parameters()}
    layout = interop.SB3_CONTINUOUS if kind == "Box" else interop.SB3_DISCRETE
    _, gradient = interop.read_weights(gradients, layout, activation="tanh")
    return gradient, interop.read_weights(gradients, interop.SB3_VALUE, activation="tanh")[1]


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("kind", KINDS)
class TestStableBaselines3:
    def test_its_policy_is_ours(self, torch, kind):
        model, actions = learner(torch, kind)
        pi, theta, value_net, value_theta = read_learner(model, kind)
        assert pi.network.sizes == (3, 4, 4, {"Box": 2, "Discrete": 3, "MultiBinary": 2}[kind])
        values, log_prob, entropy = model.policy.evaluate_actions(torch.tensor(OBSERVATIONS), torch.tensor(actions))
        phi = policy.distribution_parameters(pi, theta, OBSERVATIONS)
        bound = forward_rounding(pi.network, theta, OBSERVATIONS)
        # |∂log π/∂φ| times the error of φ, and the rounding of log π itself, a sum of some ten numbers of its size.
        score = np.abs(pi.family.score(phi, actions))[:, : bound.shape[1]]
        tolerance = (score * bound).sum(axis=1) + 32 * U * (1 + np.abs(phi).sum(axis=1) + (score**2).sum(axis=1))
        ours = policy.log_prob(pi, theta, OBSERVATIONS, actions)
        assert (np.abs(ours - log_prob.detach().numpy()) <= tolerance).all()
        mine = policy.entropy(pi, theta, OBSERVATIONS)
        slope = np.abs(pi.family.entropy_gradient(phi))[:, : bound.shape[1]]
        tolerance = (slope * bound).sum(axis=1) + 32 * U * (1 + np.abs(phi).sum(axis=1))
        assert (np.abs(mine - entropy.detach().numpy()) <= tolerance).all()
        error = np.abs(network.forward(value_net, value_theta, OBSERVATIONS) - values.detach().numpy())
        assert (error <= forward_rounding(value_net, value_theta, OBSERVATIONS)).all()

    def test_weights_go_back_and_the_critic_stays(self, torch, kind):
        model, _ = learner(torch, kind)
        pi, theta, _, value_theta = read_learner(model, kind)
        layout = interop.SB3_CONTINUOUS if kind == "Box" else interop.SB3_DISCRETE
        arrays = interop.write_weights(pi.network, theta + 1, layout, into=model.policy.state_dict())
        model.policy.load_state_dict({name: torch.as_tensor(array) for name, array in arrays.items()})
        _, moved, _, same = read_learner(model, kind)
        assert np.array_equal(moved, theta + 1)
        assert np.array_equal(same, value_theta)

    def test_the_gradient_of_ppos_update(self, torch, kind):
        """``train()`` of the library with one minibatch, some of whose ratios are clipped, and `ppo_objective`."""
        from stable_baselines3.common.type_aliases import RolloutBufferSamples

        model, actions = learner(torch, kind)
        pi, theta, value_net, value_theta = read_learner(model, kind)
        now = policy.log_prob(pi, theta, OBSERVATIONS, actions)
        old = now - np.linspace(-0.4, 0.4, ROWS)[np.random.default_rng(5).permutation(ROWS)]
        batch = Batch(OBSERVATIONS, actions, ADVANTAGES, old)
        tensors = [torch.tensor(array) for array in (OBSERVATIONS, actions, np.zeros(ROWS), old, ADVANTAGES, TARGETS)]
        model.rollout_buffer = mock.Mock(values=np.zeros(ROWS), returns=TARGETS)
        model.rollout_buffer.get.return_value = [RolloutBufferSamples(*tensors)]
        with mock.patch.object(model.policy.optimizer, "step"):  # leaves θ where the gradient is
            model.train()
        gradient, value_gradient = read_gradients(model, kind)

        mine = updates.ppo_objective(
            pi,
            theta,
            batch,
            clip=0.2,
            value_network=value_net,
            value_theta=value_theta,
            value_targets=TARGETS,
            value_coefficient=0.5,
            entropy_coefficient=0.01,
        )
        assert 0 < mine.clip_fraction < 1
        assert np.abs(mine.gradient).max() > 1e-2
        # Per row: r Â/B times the score, and the entropy's slope; ratios are below e^0.4 < 1.5.
        phi = policy.distribution_parameters(pi, theta, OBSERVATIONS)
        terms = np.abs(pi.family.score(phi, actions)) * (1.5 * np.abs(ADVANTAGES) / ROWS)[:, None] + 0.01
        worst = gradient_scale(pi.network, theta, terms)
        factors = 64 * sum(pi.network.sizes) + ROWS  # roundings, each at most U, on the longest way from θ to a term
        assert np.abs(mine.gradient + gradient).max() <= factors * U * worst * (1 + np.abs(now).max())
        errors = network.forward(value_net, value_theta, OBSERVATIONS) - TARGETS[:, None]
        worst = gradient_scale(value_net, value_theta, np.abs(errors) / ROWS + 1 / ROWS)
        assert np.abs(mine.value_gradient + value_gradient).max() <= factors * U * worst

    def test_the_gradient_and_the_fisher_product_of_trpos_update(self, torch, kind):
        """The library's own flattening and double differentiation; its KL is a mean also over action dimensions."""
        model, actions = learner(torch, kind, algorithm="TRPO")
        pi, theta, _, _ = read_learner(model, kind)
        x = torch.tensor(OBSERVATIONS)
        with torch.no_grad():
            frozen = copy.copy(model.policy.get_distribution(x))  # the next call fills the same object
            old = frozen.log_prob(torch.tensor(actions))
        distribution = model.policy.get_distribution(x)
        log_prob = distribution.log_prob(torch.tensor(actions))
        objective = (torch.tensor(ADVANTAGES) * torch.exp(log_prob - old)).mean()
        kl = pytest.importorskip("stable_baselines3.common.distributions").kl_divergence(distribution, frozen).mean()
        parameters, gradient, kl_gradient, shapes = model._compute_actor_grad(kl, objective)

        names = [name for name, parameter in model.policy.named_parameters() if any(parameter is p for p in parameters)]
        layout = interop.SB3_CONTINUOUS if kind == "Box" else interop.SB3_DISCRETE

        def in_order_of_theta(flat):
            ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
            parts = np.split(flat.detach().numpy(), ends[:-1])
            arrays = {name: part.reshape(tuple(shape)) for name, part, shape in zip(names, parts, shapes, strict=True)}
            return interop.read_weights(arrays, layout, activation="tanh")[1]

        mine = updates.surrogate_gradient(pi, theta, Batch(OBSERVATIONS, actions, ADVANTAGES))
        phi = policy.distribution_parameters(pi, theta, OBSERVATIONS)
        terms = np.abs(pi.family.score(phi, actions)) * (np.abs(ADVANTAGES) / ROWS)[:, None]
        factors = 64 * sum(pi.network.sizes) + ROWS
        tolerance = factors * U * gradient_scale(pi.network, theta, terms)
        assert np.abs(mine - in_order_of_theta(gradient)).max() <= tolerance
        assert np.abs(mine).max() > 1e3 * tolerance

        v = np.random.default_rng(6).normal(size=theta.size)
        arrays = interop.write_weights(pi.network, v, layout)
        direction = torch.cat([torch.as_tensor(arrays[name]).reshape(-1) for name in names])
        damping, model.cg_damping = model.cg_damping, 0.0
        product = in_order_of_theta(model.hessian_vector_product(parameters, kl_gradient, direction))
        assert damping > 0
        dimensions = 1 if kind == "Discrete" else 2
        F = geometry.fisher_matrix(pi, theta, OBSERVATIONS)
        largest = np.abs(network.jacobian(pi.network, theta, OBSERVATIONS)).sum(axis=(1, 2)).max()
        tolerance = factors * U * largest**2 * np.abs(pi.family.fisher(phi)).max() * np.abs(v).max()
        assert np.abs(F @ v - dimensions * product).max() <= tolerance
        assert np.abs(F @ v).max() > 1e3 * tolerance


class TestJaxLibraries:
    """Where they are installed: the trees that they make, against the network; in float32, as they make them."""

    SIZES = (3, 4, 4, 2)

    def agrees(self, arrays, layout, outputs):
        net, theta = interop.read_weights(arrays, layout, activation="tanh")
        assert net.sizes == self.SIZES
        assert theta.dtype == np.float32
        theta = theta.astype(float)
        x = OBSERVATIONS.astype(np.float32).astype(float)
        bound = forward_rounding(net, theta, x) * 2.0**29  # u of float32 is 2^29 U
        assert (np.abs(network.forward(net, theta, x) - np.asarray(outputs, dtype=float)) <= bound).all()
        again = interop.read_weights(
            interop.write_weights(net, theta, layout, into=arrays), layout, activation="tanh"
        )
        assert np.array_equal(again[1], theta)

    def test_flax(self):
        jax, linen = pytest.importorskip("jax"), pytest.importorskip("flax.linen")

        class Compact(linen.Module):
            @linen.compact
            def __call__(self, x):
                x = linen.tanh(linen.Dense(4)(x))
                x = linen.tanh(linen.Dense(4)(x))
                return linen.Dense(2)(x)

        x = jax.numpy.asarray(OBSERVATIONS, dtype="float32")
        layered = linen.Sequential([linen.Dense(4), linen.tanh, linen.Dense(4), linen.tanh, linen.Dense(2)])
        for module in (Compact(), layered):
            parameters = module.init(jax.random.key(0), x)
            self.agrees(parameters, interop.FLAX, module.apply(parameters, x))

    def test_flax_counts_layers_as_they_are_made(self):
        """In nested calls the last layer is made first.  Here the shapes tell; where they do not, the caller must."""
        jax, linen = pytest.importorskip("jax"), pytest.importorskip("flax.linen")

        class Nested(linen.Module):
            @linen.compact
            def __call__(self, x):
                return linen.Dense(2)(linen.tanh(linen.Dense(4)(x)))

        x = jax.numpy.asarray(OBSERVATIONS, dtype="float32")
        parameters = Nested().init(jax.random.key(0), x)
        with pytest.raises(ValueError, match=r"≠ params/Dense_1/kernel \(3, 4\) float32"):
            interop.read_weights(parameters, interop.FLAX, activation="tanh")
        named = interop.FLAX._replace(layers=("params/Dense_1", "params/Dense_0"))
        net, theta = interop.read_weights(parameters, named, activation="tanh")
        assert net.sizes == (3, 4, 2)
        assert theta.size == 26

    def test_haiku(self):
        jax, haiku = pytest.importorskip("jax"), pytest.importorskip("haiku")
        x = jax.numpy.asarray(OBSERVATIONS, dtype="float32")

        def layers(x):
            steps = [haiku.Linear(4), jax.numpy.tanh, haiku.Linear(4), jax.numpy.tanh, haiku.Linear(2)]
            return haiku.Sequential(steps)(x)

        for module in (lambda x: haiku.nets.MLP([4, 4, 2], activation=jax.numpy.tanh)(x), layers):
            transformed = haiku.without_apply_rng(haiku.transform(module))
            parameters = transformed.init(jax.random.key(0), x)
            self.agrees(parameters, interop.HAIKU, transformed.apply(parameters, x))

    def test_equinox(self):
        jax, equinox = pytest.importorskip("jax"), pytest.importorskip("equinox")
        # Its dtype is otherwise JAX's default, which other tests of the same process set to float64.
        settings = {"activation": jax.numpy.tanh, "dtype": jax.numpy.float32, "key": jax.random.key(0)}
        model = equinox.nn.MLP(3, 2, 4, 2, **settings)
        leaves = jax.tree_util.tree_leaves_with_path(model)
        arrays = {jax.tree_util.keystr(path): leaf for path, leaf in leaves if equinox.is_array(leaf)}
        outputs = jax.vmap(model)(jax.numpy.asarray(OBSERVATIONS, dtype="float32"))
        self.agrees(arrays, interop.EQUINOX, outputs)

    @pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras' own, with NumPy 2
    def test_keras(self, monkeypatch):
        monkeypatch.setenv("KERAS_BACKEND", "jax")
        keras = pytest.importorskip("keras")
        dense, activation = keras.layers.Dense, keras.layers.Activation
        model = keras.Sequential([keras.layers.Input((3,)), dense(4), activation("tanh"), dense(4), activation("tanh")])
        model.add(dense(2))
        arrays = [layer.get_weights() for layer in model.layers]
        self.agrees(arrays, interop.KERAS, model(OBSERVATIONS.astype(np.float32)))

    def test_safetensors(self, tmp_path):
        """Their files read by us, and ours by them."""
        theirs = pytest.importorskip("safetensors.numpy")
        matrix = np.arange(6.0, dtype=np.float32).reshape(2, 3)
        arrays = {"0.weight": matrix, "0.bias": np.ones(2), "x": np.float16([3])}
        theirs.save_file(arrays, tmp_path / "theirs.safetensors", metadata={"format": "np"})
        interop.write_arrays(tmp_path / "ours.safetensors", arrays)
        for back in (
            interop.read_arrays(tmp_path / "theirs.safetensors"),
            theirs.load_file(tmp_path / "ours.safetensors"),
        ):
            assert set(back) == set(arrays)
            assert all(back[name].dtype == array.dtype for name, array in arrays.items())
            assert all(np.array_equal(back[name], array) for name, array in arrays.items())
