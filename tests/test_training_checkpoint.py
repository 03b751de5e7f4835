"""Checkpoints: a run that was saved and loaded makes the same bits as one that was not, and no file is believed."""

import dataclasses
import io
import json
import zipfile

import numpy as np
import pytest
from bits import same
from environments import gymnasium, needs_gymnasium

from refpg import linear_quadratic, mdp, training
from refpg.network import Network
from refpg.policy import gaussian_policy, softmax_policy
from refpg.rollout import FiniteWorld, GymWorld, QuadraticWorld, gym_world
from refpg.training import Sampling, ValueFitting, load_learner, load_standing, new_learner, save_learner, save_standing

GAMMA = 0.8
SAMPLING = Sampling(steps=12, gamma=GAMMA, gae_lambda=0.9)
TRUST = {"sampling": SAMPLING, "max_kl": 0.02, "damping": 0.1}
EPOCHS = {"sampling": SAMPLING, "epochs": 2, "minibatch": 16, "learning_rate": 0.02}
RUN = {"algorithm": "mine", "clip": 0.2}


def seeded(seed=0):
    return np.random.default_rng(seed)


def finite():
    return FiniteWorld(mdp.random_mdp(seeded(1), states=5, actions=3, discount=GAMMA), time_limit=6)


def quadratic():
    return QuadraticWorld(linear_quadratic.point_mass(), time_limit=7)


def networks(world):
    """A policy and a value network for a world."""
    if isinstance(world, FiniteWorld):
        return softmax_policy((5, 4, 3)), Network((5, 3, 1))
    if isinstance(world, QuadraticWorld):
        return gaussian_policy((2, 4, 1)), Network((2, 3, 1))
    D, A = world.observation_size, world.action_size
    policy = softmax_policy if world.family == "categorical" else gaussian_policy
    return policy((D, 4, A)), Network((D, 3, 1))


LOOPS = {
    "ppo": lambda *at, **o: training.sampled_ppo(*at, **EPOCHS, clip=0.2, **o),
    "ppo-kl": lambda *at, **o: training.sampled_ppo(*at, **EPOCHS, kl_target=0.001, **o),
    "trpo": lambda *at, **o: training.sampled_trpo(*at, **TRUST, **o),
    "npg": lambda *at, **o: training.sampled_natural_policy_gradient(
        *at, **TRUST, fitting=ValueFitting(lbfgs_iterations=3), **o
    ),
}
WORLDS = {"finite": finite, "quadratic": quadratic}


def begun(world, seed=0):
    return new_learner(world, *networks(world), seeded(seed), environments=3)


# ── what a world is ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "world",
    [FiniteWorld(mdp.chain(3, discount=GAMMA, slip=0.1)), QuadraticWorld(linear_quadratic.point_mass())],
    ids=["finite", "quadratic"],
)
def test_a_description_depends_on_every_number(world):
    """Each table of the problem in turn is another one, still a valid one: the digest tells them all apart."""
    kind, finite = type(world), isinstance(world, FiniteWorld)
    problem = world.mdp if finite else world.problem
    found = [world.description()["numbers"]]
    for field in dataclasses.fields(problem):
        table = getattr(problem, field.name)
        if np.ndim(table) > 0:
            other = table[::-1] if finite else 2 * table if table.any() else table + 0.125
            found.append(kind(dataclasses.replace(problem, **{field.name: other})).description()["numbers"])
    if finite:
        found.append(kind(problem, observations=2 * world.observations).description()["numbers"])
    assert len(set(found)) == len(found) >= 5


# ── the same bits ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("loop", LOOPS)
def test_a_run_goes_on_from_a_file_to_the_same_bits(loop, world, tmp_path):
    make, file = WORLDS[world], tmp_path / "a.npz"
    policy, values = networks(make())
    whole = list(LOOPS[loop](make(), policy, values, begun(make()), iterations=3))
    learners = [begun(make()), *(record.learner for record in whole)]
    for i, learner in enumerate(learners):
        save_learner(file, make(), policy, values, learner, RUN)
        again = load_learner(file, make(), policy, values, begun(make(), seed=99), RUN)
        same(again, learner)
        same(tuple(LOOPS[loop](make(), policy, values, again, iterations=3 - i)), tuple(whole[i:]))


def gym(name, mode):
    if mode == "its own vectors":
        return GymWorld(gymnasium.make_vec(name, num_envs=3, vectorization_mode="vector_entry_point"))
    mode = gymnasium.vector.AutoresetMode(mode)
    return GymWorld(
        gymnasium.make_vec(name, num_envs=3, vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode})
    )


MODES = ("NextStep", "SameStep", "Disabled")
KINDS = [(name, mode) for name in ("CartPole-v1", "Pendulum-v1") for mode in MODES]
KINDS.append(("CartPole-v1", "its own vectors"))


@needs_gymnasium
@pytest.mark.parametrize(("name", "mode"), KINDS)
def test_a_run_in_gymnasium_is_replayed_to_the_same_bits(name, mode, tmp_path):
    def make():
        return gym(name, mode)

    world, file = make(), tmp_path / "a.npz"
    policy, values = networks(world)
    options = TRUST | {"sampling": SAMPLING._replace(steps=70)}
    records = []
    for record in training.sampled_trpo(world, policy, values, begun(world), iterations=4, **options):
        records.append(record)
        if record.iteration <= 2:
            save_learner(file, world, policy, values, record.learner, RUN)
    assert sum(record.episodes for record in records) >= 3
    other = make()
    again = load_learner(file, other, policy, values, begun(other, seed=99), RUN)
    resumed = list(training.sampled_trpo(other, policy, values, again, iterations=2, **options))
    # The world's own state counts calls: the fresh learner's and the replay's make it another number, nothing more.
    for here, there in zip(resumed, records[2:], strict=True):
        assert (here.learner.runs.state.ended == there.learner.runs.state.ended).all()
        forget = {"state": None}
        same(
            here._replace(learner=here.learner._replace(runs=here.learner.runs._replace(**forget))),
            there._replace(learner=there.learner._replace(runs=there.learner.runs._replace(**forget))),
        )
    # What it costs: 140 steps of 3 environments, a byte for each action of CartPole, four for each of Pendulum.
    with np.load(file, allow_pickle=False) as archive:
        assert archive["world.actions"].nbytes == 140 * 3 * (1 if name == "CartPole-v1" else 4)
        restarts = sum(record.episodes for record in records[:2]) if mode == "Disabled" else 0
        assert len(archive["world.seeds"]) == 3 + restarts


@needs_gymnasium
def test_a_replayed_run_can_be_saved_and_replayed_again(tmp_path):
    world, one, two = gym_world("CartPole-v1", environments=3), tmp_path / "one.npz", tmp_path / "two.npz"
    policy, values = networks(world)
    options = TRUST | {"sampling": SAMPLING._replace(steps=40)}
    (record,) = training.sampled_trpo(world, policy, values, begun(world), iterations=1, **options)
    save_learner(one, world, policy, values, record.learner, RUN)
    other = gym_world("CartPole-v1", environments=3)
    again = load_learner(one, other, policy, values, begun(other), RUN)
    save_learner(two, other, policy, values, again, RUN)
    assert one.read_bytes() == two.read_bytes()
    (_,) = training.sampled_trpo(world, policy, values, record.learner, iterations=1, **options)
    with pytest.raises(ValueError, match="GymWorld: the runs given are those after call"):
        save_learner(one, world, policy, values, record.learner, RUN)
    assert one.read_bytes() == two.read_bytes()


if gymnasium is not None:

    class Fickle(gymnasium.Env):
        """An environment that can be told to observe, pay or end otherwise; its actions are counted from 3."""

        observation_space = gymnasium.spaces.Box(-10, 10, (1,))
        action_space = gymnasium.spaces.Discrete(2, start=3)
        lie, pay, last, ends = 0.0, 0.0, 5, (True, False)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.t = 0
            return np.array([self.np_random.random()], dtype=np.float32), {}

        def step(self, action):
            assert action in (3, 4)
            self.t += 1
            seen = self.np_random.random() + (self.lie if self.t == 3 else 0)
            ends = self.ends if self.t >= self.last else (False, False)
            return np.array([seen], dtype=np.float32), float(action) + self.pay, *ends, {}


@needs_gymnasium
@pytest.mark.parametrize(
    "change",
    [{}, {"lie": 1e-6}, {"pay": 1e-9}, {"last": 4}, {"last": 6}, {"ends": (False, True)}, {"ends": (True, True)}],
)
def test_environments_that_answer_otherwise_are_noticed(change, tmp_path, monkeypatch):
    def make():
        mode = gymnasium.vector.AutoresetMode.DISABLED
        return GymWorld(gymnasium.vector.SyncVectorEnv([Fickle] * 3, autoreset_mode=mode))

    world, file = make(), tmp_path / "a.npz"
    policy, values = networks(world)
    (record,) = training.sampled_trpo(world, policy, values, begun(world), iterations=1, **TRUST)
    save_learner(file, world, policy, values, record.learner, RUN)
    for key, value in change.items():
        monkeypatch.setattr(Fickle, key, value)
    other = make()
    if not change:
        same(load_learner(file, other, policy, values, begun(other), RUN).theta, record.learner.theta)
        return
    with pytest.raises(ValueError, match=r"load_learner: .*a\.npz was replayed, and the environments answered otherw"):
        load_learner(file, other, policy, values, begun(other), RUN)


X = np.array([[0.5, -0.1], [0.2, 0.9], [-0.7, 0.4], [-0.3, -0.8], [0.1, 0.3]])
EXACT = {
    "mm": lambda model, policy, at, n: training.mm(model, at.point, iterations=n),
    "cpi": lambda model, policy, at, n: training.conservative_policy_iteration(model, at.point, iterations=n),
    "npg": lambda model, policy, at, n: training.natural_policy_gradient(
        model, policy, at.point, X, iterations=n, max_kl=0.01, damping=0.1
    ),
    "trpo": lambda model, policy, at, n: training.trpo(
        model, policy, at.point, X, iterations=n, max_kl=0.01, damping=0.1
    ),
    "ppo": lambda model, policy, at, n: training.ppo(
        model, policy, at.point, X, iterations=n, clip=0.2, epochs=3, learning_rate=0.03, adam=at.adam
    ),
}


@pytest.mark.parametrize("loop", EXACT)
def test_an_exact_loop_goes_on_from_a_file_to_the_same_bits(loop, tmp_path):
    model, file = finite().mdp, tmp_path / "a.npz"
    world = FiniteWorld(model, observations=X)
    table = loop in ("mm", "cpi")
    policy = None if table else softmax_policy((2, 4, 3))
    point = np.full((5, 3), 1 / 3) if table else 0.3 * seeded(2).normal(size=policy.network.num_parameters)
    start = training.Standing(0, point)
    whole = list(EXACT[loop](model, policy, start, 4))
    for i, record in enumerate(whole):
        at = training.standing(record)
        save_standing(file, world, policy, at, RUN)
        again = load_standing(file, world, policy, start, RUN)
        same(again, at)
        assert again.iteration == i + 1
        rest = [r._replace(iteration=r.iteration + i + 1) for r in EXACT[loop](model, policy, again, 3 - i)]
        same(tuple(rest), tuple(whole[i + 1 :]))
    if loop == "ppo":  # what it is besides θ matters
        assert whole[1].theta.tobytes() != next(EXACT[loop](model, policy, at._replace(adam=None), 1)).theta.tobytes()


# ── another run ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def saved(tmp_path):
    world, file = finite(), tmp_path / "a.npz"
    policy, values = networks(world)
    (*_, record) = LOOPS["ppo-kl"](world, policy, values, begun(world), iterations=2)
    save_learner(file, world, policy, values, record.learner, RUN)
    return file


def load(file, *, world=None, policy=None, values=None, run=RUN, **options):
    world = finite() if world is None else world
    ours = networks(world)
    return load_learner(file, world, policy or ours[0], values or ours[1], begun(world), run, **options)


def test_the_same_learner_is_the_same_bytes(saved, tmp_path):
    world, other = finite(), tmp_path / "other.npz"
    save_learner(other, world, *networks(world), load(saved), RUN)
    assert other.read_bytes() == saved.read_bytes()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"run": {"algorithm": "trpo", "clip": 0.2}}, "run.algorithm is 'mine' there and 'trpo' here"),
        ({"run": {"algorithm": "mine"}}, "run.clip is 0.2 there and None here"),
        ({"run": RUN | {"clip": 0.1}}, "run.clip is 0.2 there and 0.1 here"),
        ({"policy": softmax_policy((5, 4, 3), "relu")}, "policy.activation is 'tanh' there and 'relu' here"),
        ({"values": Network((5, 4, 1))}, r"value_network.sizes is \[5, 3, 1\] there and \[5, 4, 1\] here"),
        (
            {"world": FiniteWorld(finite().mdp, time_limit=7)},
            "world.time_limit is 6 there and 7 here",
        ),
        (
            {"world": FiniteWorld(mdp.random_mdp(seeded(2), states=5, actions=3, discount=GAMMA), time_limit=6)},
            "world.numbers is '[0-9a-f]{64}' there and '[0-9a-f]{64}' here",
        ),
        (
            {"world": quadratic()},
            "policy.family is 'categorical' there and 'diagonal_gaussian' here; .*world.kind is 'finite MDP' there",
        ),
    ],
)
def test_another_run_is_refused_by_what_differs(saved, other, message):
    with pytest.raises(ValueError, match=rf"load_learner: .*a\.npz is of another run: .*{message}"):
        load(saved, **other)


# ── damaged and hostile files ─────────────────────────────────────────────────────────────────────


def npy(array, **header):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape} | header
    )
    return file.getvalue() + array.tobytes()


def rewritten(file, **changes):
    """Change members of an archive: to an array, to bytes, to nothing (None), or the description by a function."""
    with np.load(file, allow_pickle=False) as archive:
        members = {name: npy(archive[name]) for name in archive.files}
        description = json.loads(archive["description"].tobytes())
    for name, change in changes.items():
        key = name.replace("__", ".")
        if callable(change):
            change(description)
            members[key] = npy(np.frombuffer(json.dumps(description).encode(), np.uint8))
        elif change is None:
            del members[key]
        else:
            members[key] = change if isinstance(change, bytes) else npy(change)
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)


def setting(*keys, to):
    def change(description):
        *path, last = keys
        for key in path:
            description = description[key]
        description[last] = to

    return {"description": change}


def lacking(key):
    return {"description": lambda description: description.pop(key)}


P, Q = 39, 22
PICKLED = io.BytesIO()
np.save(PICKLED, np.array([{"a": 1}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"theta": None}, "has no theta"),
        ({"theta": np.zeros(P, np.float32)}, "holds theta in float32, expected float64"),
        ({"theta": np.zeros(P + 1)}, r"holds theta of shape \(40,\), expected \(39,\)"),
        ({"theta": np.zeros((P, 1))}, r"holds theta of shape \(39, 1\)"),
        ({"theta": np.full(P, np.nan)}, "holds theta with an entry that is not finite"),
        ({"theta": PICKLED.getvalue()}, "holds theta of dtype object, expected"),
        ({"theta": npy(np.zeros(P), shape=(2**40,))}, "312 bytes, which is not the shape"),
        ({"theta": npy(np.zeros(P), shape=(2**33, 2**33))}, "not the shape"),
        ({"theta": npy(np.zeros(0), shape=(2**60, 0))}, r"holds theta of the impossible shape \(11529215046\d+, 0\)"),
        ({"value_theta": np.full(Q, np.inf)}, "holds value_theta with an entry that is not finite"),
        ({"age": np.zeros(3)}, "holds age in float64, expected int64"),
        ({"age": np.array([0, -1, 0])}, "holds age -1, expected at least 0"),
        ({"returns": np.zeros(4)}, r"holds returns of shape \(4,\), expected \(3,\)"),
        ({"first_moment": np.zeros(5)}, "holds no first_moment of length 22 or 61"),
        ({"first_moment": np.zeros((Q, 1))}, "holds no first_moment of length 22 or 61"),
        ({"second_moment": None}, "has no second_moment"),
        ({"second_moment": np.full(P + Q, -1.0)}, "holds second_moment -1.0, expected at least 0"),
        ({"world__states": None}, "has no states"),
        ({"world__states": np.array([0, 1, 5])}, r"holds states \[0, 1, 5\], expected them from 0 to 4"),
        ({"world__states": np.array([-1, 1, 0])}, "holds states"),
        ({"observations": np.ones((3, 5))}, "holds observations that are not those of its states"),
        ({"more": np.zeros(1)}, "holds more besides, expected nothing more"),
        ({"description": np.zeros(3)}, "holds description in float64, expected uint8"),
        ({"description": np.frombuffer(b"{", np.uint8)}, "has a description that is no JSON"),
        ({"description": np.frombuffer(b"\xff", np.uint8)}, "has a description that is no JSON"),
        ({"description": np.frombuffer(b"[" * 10**5, np.uint8)}, "has a description that is no JSON"),
        ({"description": np.frombuffer(b'{"a": 1%s}' % (b"0" * 5000), np.uint8)}, "has a description that is no JSON"),
        ({"description": np.frombuffer(b'{"a": NaN}', np.uint8)}, "NaN is no number of JSON"),
        ({"description": np.frombuffer(b"[]", np.uint8)}, "is no refpg checkpoint"),
        ({"description": None}, "has no description"),
        (lacking("form"), "is no refpg checkpoint"),
        (setting("schema", to=2), "has schema 2, expected 1: it is of another version of refpg"),
        (setting("schema", to=True), "has schema True"),
        (lacking("of"), "is of another run"),
        (lacking("steps"), "describes adam_step, .*, expected iteration, steps"),
        (setting("extra", to=1), "describes adam_step, environments, extra"),
        (setting("iteration", to=-1), "holds iteration -1, expected an integer >= 0"),
        (setting("iteration", to=1.5), "holds iteration 1.5"),
        (setting("iteration", to=None), "holds iteration None"),
        (setting("steps", to=True), "holds steps True"),
        (setting("adam_step", to="1"), "holds adam_step '1'"),
        (setting("adam_step", to=None), "holds first_moment, second_moment besides"),
        (setting("kl_penalty", to=-1.0), "holds kl_penalty -1.0"),
        (setting("kl_penalty", to=[1.0]), r"holds kl_penalty \[1.0\]"),
        (setting("environments", to=[]), "holds environments that are no list of 3 states"),
        (setting("environments", 0, to=5), "holds a state that is none of PCG64"),
        (setting("generator", to={}), "holds a state that is none of PCG64"),
        (setting("generator", "bit_generator", to="MT19937"), "holds a state that is none of PCG64"),
        (setting("generator", "state", "state", to=-1), "holds a state that is none of PCG64"),
        (setting("generator", "state", "state", to=2**128), "holds a state that is none of PCG64"),
        (setting("generator", "state", "inc", to="1"), "holds a state that is none of PCG64"),
        (setting("generator", "uinteger", to=2**32), "holds a state that is none of PCG64"),
        (setting("generator", "more", to=1), "holds a state that is none of PCG64"),
    ],
)
def test_a_file_that_cannot_be_is_refused_by_its_name(saved, changes, message):
    load(saved)
    rewritten(saved, **changes)
    with pytest.raises(ValueError, match=rf"load_learner: .*a\.npz .*{message}"):
        load(saved)


def test_an_untouched_rewriting_loads(saved):
    before = load(saved)
    rewritten(saved)
    same(load(saved), before)


def test_a_file_with_any_damage_is_refused_or_means_the_same(saved):
    content, before, generator = saved.read_bytes(), load(saved), seeded(7)
    for length in (0, 1, 30, *generator.integers(len(content), size=20)):
        saved.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"load_learner: .*a\.npz is damaged or no archive"):
            load(saved)
    refused = 0
    for place in generator.integers(len(content), size=60):
        damaged = bytearray(content)
        damaged[place] ^= 1 << generator.integers(8)
        saved.write_bytes(damaged)
        message = why_refused(saved)
        if message is None:
            same(load(saved), before)  # a date, say
        else:
            assert message.startswith(f"load_learner: {saved} ")
            refused += 1
    assert refused > 50


def why_refused(file):
    try:
        load(file)
    except ValueError as error:
        return str(error)


def test_what_is_no_file_or_too_large_is_not_opened(saved, tmp_path):
    with pytest.raises(ValueError, match="load_learner: .*nowhere.npz is not there or is no file"):
        load(tmp_path / "nowhere.npz")
    with pytest.raises(ValueError, match="expected at most most_bytes = 100"):
        load(saved, most_bytes=100)


@needs_gymnasium
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"world__actions": np.zeros((36, 3))}, "holds actions in float64, expected uint8"),
        ({"world__actions": np.zeros((36, 2), np.uint8)}, r"holds actions of shape \(36, 2\), expected \(any, 3\)"),
        ({"world__actions": np.full((36, 3), 2, np.uint8)}, "holds actions up to 2, expected them from 0 to 1"),
        ({"world__actions": np.ones((36, 3), np.uint8)}, "was replayed, and the environments answered otherwise"),
        ({"world__seeds": np.zeros(2, np.int64)}, "holds seeds that are none, expected at least 3"),
        ({"world__seeds": np.full(3, -1)}, "holds seeds that are none"),
        ({"world__seeds": np.full(3, 2**31)}, "holds seeds that are none"),
        ({"world__seeds": np.full(9, 7)}, "was replayed, and the environments answered otherwise"),
        ({"world__digest": np.zeros(32, np.uint8)}, "was replayed, and the environments answered otherwise"),
        ({"world__digest": None}, "has no digest"),
        ({"observations": np.zeros((3, 4))}, "was replayed, and contradicts itself"),
    ],
)
def test_a_journal_that_cannot_be_is_refused(changes, message, tmp_path):
    world, file = gym_world("CartPole-v1", environments=3), tmp_path / "a.npz"
    options = TRUST | {"sampling": SAMPLING._replace(steps=36)}
    (record,) = training.sampled_trpo(world, *networks(world), begun(world), iterations=1, **options)
    assert record.episodes > 0
    save_learner(file, world, *networks(world), record.learner, RUN)
    rewritten(file, **changes)
    with pytest.raises(ValueError, match=rf"load_learner: .*a\.npz .*{message}"):
        load(file, world=world)


@needs_gymnasium
@pytest.mark.parametrize("torque", [2.5, -2.5])
def test_a_journal_with_actions_out_of_bounds_is_refused(torque, tmp_path):
    world, file = gym_world("Pendulum-v1", environments=3), tmp_path / "a.npz"
    save_learner(file, world, *networks(world), begun(world), RUN)
    rewritten(file, world__actions=np.full((1, 3, 1), torque, np.float32))
    with pytest.raises(ValueError, match="load_learner: .*holds actions outside of the bounds of their space"):
        load(file, world=world)


def test_an_exact_file_that_cannot_be_is_refused(tmp_path):
    file, world = tmp_path / "a.npz", finite()
    start = training.Standing(0, np.full((5, 3), 1 / 3))
    save_standing(file, world, None, start, RUN)
    for changes, message in (
        ({"point": np.full((5, 3), 0.5)}, "its: point sums to 1.5 in state 0"),
        ({"point": np.full((5, 2), 0.5)}, "holds point of shape"),
        (lacking("iteration"), "describes adam_step, expected iteration, adam_step"),
        (setting("iteration", to="x"), "holds iteration 'x'"),
    ):
        save_standing(file, world, None, start, RUN)
        rewritten(file, **changes)
        with pytest.raises(ValueError, match=rf"load_standing: .*a\.npz .*{message}"):
            load_standing(file, world, None, start, RUN)


def test_what_cannot_be_saved_is_refused_and_leaves_the_file_there(saved):
    content, world = saved.read_bytes(), finite()
    learner = load(saved)
    for change, message in (
        ({"generator": np.random.Generator(np.random.MT19937(0))}, "a generator is MT19937, expected PCG64"),
        ({"run": {"clip": np.nan}}, r"run is \{'clip': nan\}, expected JSON"),
        ({"run": {"clip": {1}}}, r"run is \{'clip': \{1\}\}, expected JSON"),
    ):
        run = change.pop("run", RUN)
        with pytest.raises(ValueError, match=f"save_learner: {message}"):
            save_learner(saved, world, *networks(world), learner._replace(**change), run)
        assert saved.read_bytes() == content
    assert [path.name for path in saved.parent.iterdir()] == ["a.npz"]
