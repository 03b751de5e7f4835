"""What the libraries do on the certified vectors is what is known of them, and what the README of their pages counts.

Without the libraries these tests are skipped, unless they are asked for by ``-m peers``: then a library that is not
there is a failure.
"""

import importlib.util
from fnmatch import fnmatch

import pytest

from refpg.conformance.adapters import bundled
from refpg.conformance.ops import OPS
from refpg.conformance.peers import PACKAGES
from refpg.conformance.run import check
from refpg.conformance.verdicts import Verdict
from verification.peers.__main__ import HERE, README, with_counts

pytestmark = pytest.mark.peers

EPSILON = "1e-6 is added to 1 − tanh²(u) under the logarithm (logp-squash-epsilon)"
MEAN_OVER_DIMENSIONS = "TRPO.train() takes the mean of a KL per row and action dimension (kl-mean-dims)"
SOFTPLUS_THRESHOLD = "torch's softplus is the identity above 20, where log(1 + e^−x) is up to 2.1e-9"
FAST_VARIANCE = "jax.nn.standardize takes the variance as mean(x²) − mean(x)²"

# Cases, by pattern, and what is known of them.
DIFFERENCES = {
    "curvlinops": {},
    "distrax": {},
    "jax": {"normalize_advantages/small-deviation-6": FAST_VARIANCE},
    "optax": {},
    "rlax": {},
    "sb3-contrib": {
        "mean_kl_bernoulli/*": MEAN_OVER_DIMENSIONS,
        "mean_kl_diagonal_gaussian/*": MEAN_OVER_DIMENSIONS,
        "*/gaussian-*": MEAN_OVER_DIMENSIONS,
    },
    "stable-baselines3": {"log_prob_squashed_gaussian/*": EPSILON},
    "torch": {
        "log_prob_squashed_gaussian/saturated-*": SOFTPLUS_THRESHOLD,
        "network_forward/softplus-*": SOFTPLUS_THRESHOLD,
    },
    "torchrl": {},
}
RAISES = {
    "curvlinops": ("aten::silu_backward", {"mean_kl_gradient", "mean_kl_hessian_vector_product"}),
    "torchrl": ("vec_generalized_advantage_estimate raised IndexError", {"gae_rollout"}),
}


def installed(name, config):
    """Skip without the library, and fail if it was asked for."""
    if importlib.util.find_spec(name.replace("-", "_")) is None:
        (pytest.fail if config.getoption("markexpr") == "peers" else pytest.skip)(f"{name} is not installed")


def test_every_adapter_is_judged_and_says_how_its_library_is_installed():
    assert sorted(DIFFERENCES) == sorted(PACKAGES) == bundled()
    assert all(name.removeprefix("refpg-") in packages for name, packages in PACKAGES.items())


@pytest.fixture(scope="module", params=DIFFERENCES)
def run(request):
    installed(request.param, request.config)
    return check(request.param, jobs=2)


class TestOnTheCertifiedVectors:
    def test_nothing_but_what_is_known_differs(self, run):
        known = DIFFERENCES[run.adapter.name]
        differing = [o.case for o in run.outcomes if o.verdict in (Verdict.WRONG, Verdict.IMPRECISE)]
        assert [case for case in differing if not any(fnmatch(case, pattern) for pattern in known)] == []
        assert [pattern for pattern in known if not any(fnmatch(case, pattern) for case in differing)] == []

    def test_no_adapter_breaks_and_no_op_is_forgotten(self, run):
        assert [o.case for o in run.outcomes if o.verdict is Verdict.HARNESS_ERROR] == []
        assert [o.case for o in run.outcomes if o.verdict is Verdict.UNDECLARED] == []
        assert {*run.adapter.ops, *run.adapter.unsupported} == set(OPS)
        assert all(len(reason) > 10 for reason in run.adapter.unsupported.values())

    def test_what_is_answered_is_refused_only_where_the_library_raises(self, run):
        refused = {o.op for o in run.outcomes if o.verdict is Verdict.UNSUPPORTED and o.op in run.adapter.ops}
        words, ops = RAISES.get(run.adapter.name, ("", set()))
        if run.adapter.name not in ("sb3-contrib", "stable-baselines3"):
            assert refused == ops
            assert all(words in o.message for o in run.outcomes if o.op in refused and o.message)

    def test_the_counts_are_those_recorded(self, run):
        title = f"{run.adapter.name} {run.adapter.version.partition('+')[0]}"
        page = title.replace(" ", "-") + ".md"
        assert with_counts(README.read_text(encoding="utf-8"), run, title, page) == README.read_text(encoding="utf-8")
        assert (HERE / page).is_file()

    def test_the_mean_over_action_dimensions_is_recognised(self, run):
        wrong = [i for i, o in enumerate(run.outcomes) if o.verdict is Verdict.WRONG]
        named = [run.diagnoses[i].bugs for i in wrong if fnmatch(run.outcomes[i].case, "mean_kl/gaussian-*")]
        assert set(named) == ({("kl-mean-dims",)} if run.adapter.name == "sb3-contrib" else set())


@pytest.mark.parametrize("name", ["torch", "curvlinops", "torchrl", "optax"])
def test_in_float32_nothing_differs(name, request):
    """What float64 shows of softplus is below the resolution of float32."""
    installed(name, request.config)
    run = check(name, dtype="float32", jobs=2)
    assert run.exit_code == 0


def test_the_cause_of_the_difference_is_as_recorded(request):
    """Each by the library alone: softplus(x) = x from 20 on; standardize asked for its stable algorithm."""
    installed("torch", request.config)
    installed("jax", request.config)
    import jax
    import numpy as np
    import torch

    x = torch.tensor([19.0, 20.5], dtype=torch.float64)
    below, above = (torch.nn.functional.softplus(x) - x).tolist()
    assert 0.0 == above < np.log1p(np.exp(-20.5)) < below

    # 1 ± 3u, whose deviations are ±1 and whose squares 1 ± 6u + 9u² are rounded to multiples of 8u² and 16u².
    x = np.array([1.0, -1.0]) * 3 * 2.0**-28 + 1.0
    with jax.enable_x64(True):
        fast, stable = (
            np.array(jax.nn.standardize(jax.numpy.asarray(x), epsilon=0.0, algorithm=how)) for how in ("fast", "stable")
        )
    assert np.abs(stable - [1.0, -1.0]).max() <= 4 * 2.0**-53
    assert np.abs(fast - [1.0, -1.0]).max() > 0.1
