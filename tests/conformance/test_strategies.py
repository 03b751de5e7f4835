"""What is drawn is exact in float32, well conditioned, of the shapes said, and shrinks to numbers one can read."""

import numpy as np
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from refpg.conformance import laws, strategies
from refpg.conformance.laws.families import ALL, POLICIES
from refpg.conformance.ops import OPS
from refpg.conformance.signatures import read_inputs

DRAWS = [
    *(pytest.param(strategies.distributions(family), id=f"distributions {family}") for family in ALL),
    pytest.param(strategies.samples(), id="samples"),
    pytest.param(strategies.trajectories(), id="trajectories"),
    *(pytest.param(strategies.policies(distribution), id=f"policies {distribution}") for distribution in POLICIES),
    pytest.param(strategies.systems(), id="systems"),
    pytest.param(strategies.optimizer_states(), id="optimizer states"),
    pytest.param(strategies.mdps(), id="mdps"),
    pytest.param(strategies.tables(), id="tables"),
    pytest.param(strategies.sequences(), id="sequences"),
]


def leaves(value):
    if isinstance(value, dict):
        return [leaf for part in value.values() for leaf in leaves(part)]
    if isinstance(value, list | tuple):
        return [leaf for part in value for leaf in leaves(part)]
    return [np.asarray(value)] if not isinstance(value, str) else []


def listed(value):
    return {name: listed(part) for name, part in value.items()} if isinstance(value, dict) else (
        [listed(part) for part in value] if isinstance(value, list) else
        value.tolist() if isinstance(value, np.ndarray) else value
    )  # fmt: skip


@pytest.mark.parametrize("strategy", DRAWS)
@given(data=st.data())
def test_every_number_is_a_short_dyadic_fraction(strategy, data):
    for leaf in leaves(data.draw(strategy)):
        if leaf.dtype.kind == "f":
            assert (leaf.astype(np.float32) == leaf).all()
            assert (leaf * 2**6 == np.rint(leaf * 2**6)).all()
            assert (np.abs(leaf) <= 64).all()


def sequences_of(names, **drawn_as):
    """Sequences by the names of an op whose inputs are drawn under other names."""
    wanted = {drawn_as.get(name, name) for name in names}
    return strategies.sequences(wanted).map(lambda drawn: {name: drawn[drawn_as.get(name, name)] for name in names})


@pytest.mark.parametrize(
    ("op", "strategy"),
    [
        ("gae", strategies.trajectories),
        ("gae_rollout", strategies.trajectories),
        ("discounted_returns", strategies.trajectories),
        ("clipped_objective", strategies.samples),
        ("clipped_value_loss", strategies.samples),
        ("conjugate_gradient", strategies.systems),
        ("adam_step", strategies.optimizer_states),
        ("token_rewards", lambda names: sequences_of(names, scores="rewards", log_prob="new_log_prob")),
        ("token_kl_penalty", lambda names: sequences_of(names, log_prob="new_log_prob")),
        ("token_clipped_objective", strategies.sequences),
        ("group_advantages", strategies.sequences),
        *((op, lambda names, d=d: strategies.policies(d, names)) for d in POLICIES for op in (
            "surrogate", "natural_gradient_minimum_norm", "entropy_bonus")),
    ],
)  # fmt: skip
@given(data=st.data())
def test_draws_are_inputs_of_the_contract(op, strategy, data):
    """`read_inputs` is the judge's own check of shapes, kinds and structure."""
    names = set(OPS[op].inputs)
    drawn = data.draw(strategy(names))
    for name in names - set(drawn):
        drawn[name] = np.zeros(len(drawn["advantages"])) if name == "old_log_prob" else 0.5
    read_inputs(OPS[op], listed(drawn))


@pytest.mark.parametrize("family", ALL)
@given(data=st.data())
def test_distributions_are_inputs_of_the_contract(family, data):
    drawn = data.draw(strategies.distributions(family, {"p", "q", "shared", "actions"}))
    one = drawn["p"] | drawn["shared"]
    named = {f"old_{name}": value for name, value in drawn["p"].items()}
    named |= {f"new_{name}": value for name, value in drawn["q"].items()} | drawn["shared"]
    action = "pre_tanh_actions" if family == "squashed_gaussian" else "actions"
    read_inputs(OPS[f"entropy_{family}"], listed(one))
    read_inputs(OPS[f"kl_{family}"], listed(named))
    read_inputs(OPS[f"log_prob_{family}"], listed(one | {action: drawn["actions"]}))


@pytest.mark.parametrize(
    "op", ["policy_evaluation", "visitation", "expected_return", "lower_bounds", "softmax_policy_gradient"]
)
@given(drawn=strategies.mdps())
def test_worlds_are_inputs_of_the_contract(op, drawn):
    given_names = {**drawn["world"], "old_probabilities": drawn["probabilities"], **drawn}
    read_inputs(OPS[op], listed({name: given_names[name] for name in OPS[op].inputs}))


@given(drawn=strategies.mdps())
def test_probabilities_sum_to_one_and_policies_try_everything(drawn):
    world, policies = drawn["world"], [drawn[f"{which}probabilities"] for which in ("", "new_", "other_")]
    for table in (world["transition"], world["start"], *policies):
        assert (table.sum(axis=-1) == 1).all()
        assert (table >= 0).all()
    assert min(table.min() for table in policies) > 0
    assert world["transition"].shape == (*policies[0].shape, len(world["start"]))
    assert len(set(policies[0].shape)) == 2
    assert world["gamma"] <= 7 / 8


@given(drawn=strategies.tables())
def test_one_action_of_a_table_is_never_taken(drawn):
    policies = [drawn[f"{which}_probabilities"] for which in ("old", "new", "other")]
    never = np.zeros(policies[0].shape, dtype=bool)
    never[0, -1] = True
    for table in policies:
        assert ((table == 0) == never).all()
    for table in (*policies, drawn["state_weights"]):
        assert (table.sum(axis=-1) == 1).all()
    sizes = np.abs(drawn["advantages"])
    assert len(np.unique(sizes)) == sizes.size


@given(drawn=strategies.systems())
def test_matrices_are_symmetric_and_well_conditioned(drawn):
    A = drawn["matrix"]
    eigenvalues = np.linalg.eigvalsh(A)
    assert (A == A.T).all()
    assert eigenvalues.min() >= 1 - 1e-9  # Gershgorin: the diagonal is at least 1 above its row
    assert eigenvalues.max() / eigenvalues.min() < 32
    assert drawn["b"].any()


@given(drawn=strategies.distributions("masked_categorical"))
def test_masks_allow_something_everywhere_and_forbid_something(drawn):
    mask, actions = drawn["shared"]["mask"], drawn["actions"]
    assert mask.any(axis=1).all()
    assert not mask.all()
    assert mask[np.arange(len(mask)), actions].all()


@given(drawn=strategies.sequences())
def test_every_sequence_has_tokens_and_company(drawn):
    mask, group = drawn["mask"], drawn["group"]
    assert mask.any(axis=1).all()
    assert not mask.all()
    assert mask.shape[0] != mask.shape[1]
    assert np.unique(group, return_counts=True)[1].min() >= 2
    assert len(set(drawn["rewards"])) == len(mask)


@given(drawn=strategies.trajectories())
def test_an_episode_ends_inside_the_rollout(drawn):
    T, E = drawn["rewards"].shape
    assert T != E
    for name in ("terminated", "truncated", "dones"):
        assert drawn[name][:-1].any()
    going_on = ~(drawn["terminated"] | drawn["truncated"])[:-1]
    assert (drawn["next_values"][:-1] == drawn["values"][1:])[going_on].all()
    assert 0 < drawn["gamma"] < 1
    assert 0 <= drawn["row"] < T - 1


@given(drawn=strategies.samples())
def test_advantages_differ_and_the_window_does_not_touch_a_ratio(drawn):
    A, ratio = drawn["advantages"], np.exp(drawn["new_log_prob"] - drawn["old_log_prob"])
    assert len(set(A)) == len(A)
    assert drawn["clip"] < drawn["wider"] < 1
    # log(1 ± k/16) is irrational, and no difference on a grid of 2⁻⁵ within 2 comes nearer than this.
    assert np.abs(np.abs(ratio - 1) - drawn["clip"]).min() > 1e-4


@pytest.mark.parametrize("distribution", POLICIES)
@settings(max_examples=10)
@given(data=st.data())
def test_refpg_policies_are_policies_with_their_parameters(distribution, data):
    policy, theta = data.draw(strategies.refpg_policies(distribution))
    assert theta.shape == (policy.network.num_parameters,)
    assert np.isfinite(theta).all()


@given(data=st.data())
def test_only_what_is_asked_for_is_drawn(data):
    assert set(data.draw(strategies.samples({"clip", "advantages"}))) == {"clip", "advantages"}
    law = laws.LAWS["ratios_multiply"]
    assert set(data.draw(strategies.inputs(law))) == {"old_log_prob", "new_log_prob", "other_log_prob"}


@given(data=st.data())
def test_lengths_of_different_axes_differ(data):
    mean = data.draw(strategies.distributions("diagonal_gaussian", {"p"}))["p"]["mean"]
    logits = data.draw(strategies.distributions("categorical", {"p"}))["p"]["logits"]
    assert logits.shape[0] != logits.shape[1]
    assert min(mean.shape) >= 2
    drawn = data.draw(strategies.policies("diagonal_gaussian", {"policy", "observations"}))
    widths = [layer["W"].shape for layer in drawn["policy"]["layers"]]
    assert drawn["observations"].shape[0] not in (widths[0][0], widths[-1][1])


class TestShrinking:
    def test_a_number_shrinks_to_an_integer(self):
        assert find(strategies.dyadics(), lambda x: x > 0.6) == 1.0

    def test_and_to_a_fraction_where_it_must(self):
        assert find(strategies.dyadics(), lambda x: 0.3 < x < 0.6) == 0.5

    def test_an_array_shrinks_to_zeros(self):
        found = find(strategies.arrays((2, 3)), lambda x: x[1, 2] != 0)
        assert np.abs(found).sum() == 1

    def test_distinct_entries_stay_small(self):
        found = find(strategies.arrays(4, distinct=True), lambda x: True)
        assert len(set(found)) == 4
        assert np.abs(found).max() <= 3

    def test_a_rollout_shrinks_to_its_smallest_length(self):
        smallest = find(strategies.trajectories({"rewards"}), lambda drawn: drawn["rewards"].any())
        assert smallest["rewards"].shape == (2, 1)


def test_a_variant_that_a_law_does_not_have_is_an_error():
    with pytest.raises(ValueError, match="inputs: ratios_multiply has no variant 'bernoulli', expected ''"):
        strategies.inputs(laws.LAWS["ratios_multiply"], "bernoulli")
