"""The certifier: decided branches, proven rounding, reproducible files, definitions against a second library."""

import ast
import json
import math
import shutil
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

pytest.importorskip("flint")
mpmath = pytest.importorskip("mpmath")

from flint import arb, ctx  # noqa: E402

import refpg.__main__ as command_line  # noqa: E402
import verification.certify.__main__ as certify  # noqa: E402
from refpg.conformance.ops import OPS, PROFILES  # noqa: E402
from verification.certify import amplification, balls, contract, corpus, roots  # noqa: E402
from verification.certify import routes as routes_package  # noqa: E402
from verification.certify.amplification import UNIT  # noqa: E402
from verification.certify.routes import policies, rationals  # noqa: E402

pytestmark = pytest.mark.certify


# ── Balls ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_comparison_of_overlapping_balls_is_undecided() -> None:
    wide = arb(0, 1)
    for question in (balls.less, balls.equal, balls.maximum, balls.minimum):
        with pytest.raises(balls.Undecided):
            question(wide, arb(0))
    with pytest.raises(balls.Undecided):
        balls.positive(wide)


def test_comparisons_of_exact_balls_are_decided_at_ties_too() -> None:
    assert not balls.less(arb(1), arb(1))
    assert balls.equal(arb(1), arb(1))
    assert not balls.equal(arb(1), arb(2))
    assert balls.less(1.0, arb(2))


def test_a_branch_that_needs_more_bits_gets_them() -> None:
    def answer() -> dict[str, Any]:
        close = 1 + arb(2) ** -250 * arb(2).sqrt()  # above 1, told apart only beyond 250 bits
        return {"x": arb(1) if balls.less(1, close) else arb(0)}

    found = balls.certify(answer)
    assert found.leaves["x"].entries[0].value == 1.0
    assert found.bits == 384


def test_a_kink_hit_exactly_is_refused() -> None:
    with pytest.raises(balls.Undecided):
        balls.certify(lambda: {"x": balls.maximum(arb(2).sqrt() ** 2, arb(2))})


def test_a_tie_that_is_not_exact_is_refused_and_an_exact_one_goes_to_even() -> None:
    with balls.precision(128):
        tie = 1 + arb(2) ** -53
        assert balls.to_float(tie).value == 1.0
        assert balls.to_float(1 + 3 * arb(2) ** -53).value == 1.0 + 2.0**-51
    with pytest.raises(balls.NotTightEnough):
        balls.certify(lambda: {"x": tie + arb(0, 1) * arb(2) ** -5000})


def test_rounding_is_to_nearest_for_random_rationals() -> None:
    random = Random(5)
    for _ in range(200):
        number = Fraction(random.getrandbits(90) - 2**89, random.getrandbits(60) + 1) * Fraction(2) ** random.randint(
            -1120, 900
        )
        with balls.precision(1024):
            found = balls.to_float(arb(number.numerator) / arb(number.denominator))
        neighbours = [math.nextafter(found.value, -math.inf), math.nextafter(found.value, math.inf)]
        gap = abs(Fraction(found.value) - number)
        assert all(gap <= abs(Fraction(other) - number) for other in neighbours)


def test_the_radius_bounds_the_ball_and_zero_ends() -> None:
    with balls.precision(64):
        assert 0.0 < balls.to_float(arb(1) / 3).radius < 2.0**-62
    assert balls.to_float(arb(3)).radius == 0.0
    vanishing = balls.certify(lambda: {"x": arb(2).sqrt() ** 2 - 2}).leaves["x"].entries[0]
    assert math.copysign(1.0, vanishing.value) == 1.0
    assert vanishing.value == 0.0


def test_a_mistaken_answer_beyond_the_range_of_float64_is_not_a_number() -> None:
    found = balls.certify(lambda: {"x": [arb(2) ** 2000, arb(2) ** 1000]}, nan=True).leaves["x"].entries
    assert math.isnan(found[0].value)
    assert found[1].value == 2.0**1000
    with pytest.raises(balls.NotTightEnough):
        balls.certify(lambda: {"x": arb(2) ** 2000})


def test_exact_keeps_every_bit_and_refuses_what_is_no_number() -> None:
    with balls.precision(24):
        assert all(x.is_exact() for x in balls.exact([0.1, 2, 1e-300]))
        assert balls.to_float(balls.exact(0.1)).value == 0.1
    with pytest.raises(TypeError):
        balls.exact([True])
    with pytest.raises(ValueError, match="not finite"):
        balls.exact([math.inf])


def test_precision_is_restored_after_an_error() -> None:
    before = ctx.prec
    with pytest.raises(KeyError), balls.precision(777):
        raise KeyError
    assert ctx.prec == before


def test_structures_flatten_to_leaf_paths() -> None:
    flat = balls.leaves({"g": {"layers": [{"W": [[1, 2]], "b": [3, 4]}], "log_std": [5]}, "n": 6})
    assert list(flat) == ["g.layers[0].W", "g.layers[0].b", "g.log_std", "n"]
    assert flat["g.layers[0].W"].shape == (1, 2)
    assert flat["n"].shape == ()


# ── Monte-Carlo arithmetic ──────────────────────────────────────────────────────────────────────────────────────────


def _amplification(function: Any, *inputs: float) -> float:
    """Measured R of a scalar function of exact inputs."""
    truth = {"y": balls.Leaf((), [balls.Rounded(float(function(*(np.float64(x) for x in inputs))), 0.0)])}
    return amplification.measure(lambda wrap: {"y": function(*(wrap(x) for x in inputs))}, truth, "a test")["y"][0]


def test_cancellation_is_measured_at_its_size() -> None:
    # (x + 1) − x: the error is that of x + 1 alone, uniform on ±(x + 1) u, of rms (x + 1)/√3, within 4 standard
    # errors of an rms over 24 uniform samples (relative standard error of the mean square: √(4/5)/√24 = 0.18).
    x = 2.0**20
    measured = _amplification(lambda y: (y + 1.0) - y, x)
    assert (measured / ((x + 1) / math.sqrt(3))) ** 2 == pytest.approx(1.0, abs=4 * 0.18)


def test_a_difference_of_exact_inputs_is_not_amplified() -> None:
    assert _amplification(lambda y: y - 1.0, 1.0 + 2.0**-20) <= 1.01 * 2.0**-20


def test_a_sum_of_n_ones_grows_like_the_partial_sums() -> None:
    # errors k u ξ_k of the partial sums k = 2 … n: rms √(Σ k²/3), within four standard errors
    n = 64
    truth = {"y": balls.Leaf((), [balls.Rounded(float(n), 0.0)])}
    summed = amplification.measure(lambda wrap: {"y": wrap(np.ones(n)).sum()}, truth, "a sum")["y"][0]
    expected = math.sqrt(sum(k * k for k in range(2, n + 1)) / 3)
    assert (summed / expected) ** 2 == pytest.approx(1.0, abs=4 * math.sqrt(2 / 24))


@pytest.mark.parametrize(
    "compute",
    [
        lambda a, b: a @ b,
        lambda a, b: np.einsum("ij,jk->ik", a, b),
        lambda a, b: np.dot(a, b),
        lambda a, b: np.linalg.solve(a @ b + 9.0 * np.eye(3), b.T),
        lambda a, b: np.linalg.cholesky(a @ a.T + np.eye(3)),
        lambda a, b: np.where(a > 0, a.mean(axis=1, keepdims=True), np.exp(a)),
        lambda a, b: np.where(a > 0, a, 1.0) / 3.0,
        lambda a, b: a.std(axis=0, ddof=1) + np.cumsum(a, axis=0) + np.var(a),
    ],
)
def test_noisy_arrays_compute_what_arrays_compute_up_to_the_noise(compute: Any) -> None:
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(3, 3)), generator.normal(size=(3, 3))
    noisy = compute(a.view(amplification.Noisy), b.view(amplification.Noisy))
    gap = np.abs(np.asarray(noisy) - compute(a, b))
    assert (
        0 < gap.max() < 1e3 * UNIT
    )  # noise arrives, and nothing else does; entries and conditions are of order 1 to 10


def test_what_is_not_noisy_is_refused() -> None:
    a = np.ones(3).view(amplification.Noisy)
    with pytest.raises(NotImplementedError):
        np.convolve(a, a)
    with pytest.raises(NotImplementedError):
        np.arctan2(a, a)
    with pytest.raises(NotImplementedError):
        np.linalg.det(np.eye(2).view(amplification.Noisy))


def test_round_up_never_rounds_down() -> None:
    assert amplification.round_up(1.2301) == 1.24
    assert amplification.round_up(0.125) == 0.125
    assert amplification.round_up(9.991) == 10.0
    assert amplification.round_up(0.0) == 0.0
    with pytest.raises(ValueError, match="ordinary code fails"):
        amplification.round_up(math.nan)


# ── The files ───────────────────────────────────────────────────────────────────────────────────────────────────────

_REGENERATED = (
    "gae",
    "td_errors",
    "explained_variance",
    "normalize_advantages",
    "log_prob_categorical",
    "log_prob_masked_categorical",
    "score_squashed_gaussian",
    "clipped_objective_gradient",
    "value_loss",
    "adam_step",
    "conjugate_gradient",
    "expected_improvement",
    "visitation",
    "policy_total_variation",
    "penalty_coefficient",
    "masked_aggregate",
    "group_advantages",
    "token_rewards",
    "token_kl_penalty",
)


@pytest.mark.parametrize("name", _REGENERATED)
def test_regeneration_equals_the_committed_file(name: str) -> None:
    op = OPS[name]
    document, _, problems = corpus.certify_op(op, corpus.load_profile(op.profile))
    assert problems == []
    assert corpus.layout(document) == (corpus.DATA / corpus.RELEASE / f"{name}.json").read_bytes()


_SLOW = ("entropy_squashed_gaussian", "trpo_step", "mean_kl_hessian_vector_product", "natural_gradient_minimum_norm")


@pytest.mark.parametrize("profile", PROFILES)
def test_every_definition_gives_the_committed_bits(profile: str) -> None:
    modules = corpus.load_profile(profile)
    for op in (op for op in OPS.values() if op.profile == profile and op.name not in _SLOW):
        for case in _committed(op.name):
            for expected in case["expected"]:
                chosen = corpus.conventions(op, expected["conventions"])
                found = balls.certify(lambda: modules.definitions.DEFINITIONS[op.name](case["inputs"], chosen))  # noqa: B023
                for path, leaf in found.leaves.items():
                    if expected["outputs"][path].get("exact"):
                        assert leaf.entries == expected["outputs"][path]["value"], case["id"]
                        continue
                    bits = [np.float64(entry.value).view(np.uint64).item().to_bytes(8).hex() for entry in leaf.entries]
                    assert bits == expected["outputs"][path]["bits"], case["id"]


def test_the_policy_and_the_texts_are_the_committed_ones() -> None:
    assert corpus.layout(corpus.POLICY) == (corpus.DATA / "policy.json").read_bytes()
    committed = json.loads((corpus.DATA / "bugs.json").read_bytes())
    texts, problems = corpus.bug_texts(committed["bugs"])
    assert problems == []
    assert texts == committed["bugs"]


def test_the_index_lists_what_is_there() -> None:
    committed = json.loads((corpus.DATA / corpus.RELEASE / "index.json").read_bytes())
    assert corpus.layout(corpus._index({})) == (corpus.DATA / corpus.RELEASE / "index.json").read_bytes()
    names = [entry["name"] for entry in committed["files"]]
    assert names == sorted(names)


def test_an_edit_of_the_knowledge_is_refused_until_it_is_vouched_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Conventions are written by hand; the loader names the command that makes them part of the release."""
    corpus_data, data = corpus.DATA, tmp_path / "data"
    shutil.copytree(corpus_data, data)
    monkeypatch.setattr(corpus, "DATA", data)
    path = data / "conventions.json"
    path.write_text(path.read_text(encoding="utf-8").replace("KL", "K.-L.", 1), encoding="utf-8")
    assert command_line.main(["vectors", "verify", str(data)]) == 3
    complaint = capsys.readouterr().err
    assert "conventions.json" in complaint
    assert "`python -m verification.certify --seal`" in complaint
    assert certify.main(["--seal", "--check"]) == 1
    assert certify.main(["--seal"]) == 0
    assert certify.main(["--seal", "--check"]) == 0
    assert command_line.main(["vectors", "verify", str(data)]) == 0
    path.write_bytes((corpus_data / "conventions.json").read_bytes())
    assert command_line.main(["vectors", "verify", str(data)]) == 3


def test_every_bug_in_the_files_has_a_text() -> None:
    texts = json.loads((corpus.DATA / "bugs.json").read_bytes())["bugs"]
    for path in sorted((corpus.DATA / corpus.RELEASE).glob("*.json")):
        for case in json.loads(path.read_bytes()).get("cases", []):
            assert {wrong["bug"] for wrong in case["wrong"]} <= set(texts), case["id"]


def test_the_layout_is_json_and_keeps_every_value() -> None:
    document = {"a": [[1.0, 2.5], [0.1, -3e-300]], "b": {"c": "text " * 40, "d": [None, True]}, "e": []}
    assert json.loads(corpus.layout(document)) == document
    with pytest.raises(ValueError, match="not JSON compliant"):
        corpus.layout({"a": math.nan})


def test_inputs_that_break_the_contract_are_refused() -> None:
    op = OPS["td_errors"]
    good = {
        "rewards": [[1.0, 2.0]],
        "values": [[0.5, 0.25]],
        "next_values": [[0.5, 1.0]],
        "terminated": [[True, False]],
        "gamma": 0.5,
    }
    assert contract.dimensions(op, good) == {"T": 1, "E": 2}
    for name, value in (("values", [[0.5]]), ("terminated", [[1, 0]]), ("gamma", 1), ("rewards", [[1, 2]])):
        with pytest.raises(ValueError, match=name):
            contract.dimensions(op, good | {name: value})


@pytest.mark.parametrize("profile", PROFILES)
def test_ordinary_float32_code_conforms_where_float32_is_resolved(profile: str) -> None:
    worst = 0.0
    checked = 0
    modules = corpus.load_profile(profile)
    for op in (op for op in OPS.values() if op.profile == profile):
        for case in (case for case in _committed(op.name) if "float32" in case["resolves"]):
            inputs = contract.arrays(op, case["inputs"], lambda array: array.astype(np.float32))
            for expected in case["expected"]:
                truth, measured = _as_leaves(expected["outputs"])
                measures = case["provenance"]["amplification"]
                for run in (run for run in modules.textbook.TEXTBOOK[op.name] if corpus._summary(run) in measures):
                    with np.errstate(all="ignore"):  # −∞ logits: practitioners' code warns there
                        outputs = run(inputs, corpus.conventions(op, expected["conventions"]))
                    found = amplification.plain_leaves(outputs)
                    worst = max(worst, corpus._distance(found, truth, measured, 2.0**-24))
                    checked += 1
    assert checked >= 20
    assert worst <= 0.5  # the tolerance leaves a factor of two beyond the worst honest code


def _as_leaves(outputs: dict[str, Any]) -> tuple[dict[str, balls.Leaf], dict[str, list[float]]]:
    truth = {
        path: balls.Leaf(
            tuple(leaf["shape"]),
            leaf["value"] if leaf.get("exact") else [balls.Rounded(value, 0.0) for value in leaf["value"]],
        )
        for path, leaf in outputs.items()
    }
    return truth, {path: leaf["R"] for path, leaf in outputs.items() if "R" in leaf}


def test_a_route_that_differs_is_noticed() -> None:
    def one(inputs: Any, conventions: Any) -> Any:
        return {"y": arb(1)}

    def other(inputs: Any, conventions: Any) -> Any:
        return {"y": arb(1) + arb(2) ** -60}

    assert corpus._agreement(one, other, {}, {}) == 60
    assert corpus._agreement(one, one, {}, {}) == corpus.ROUTE_PRECISION
    assert corpus._agreement(one, lambda inputs, conventions: {"y": arb.nan()}, {}, {}) == 0
    assert corpus._agreement(one, lambda inputs, conventions: {"y": arb(1) / arb(0)}, {}, {}) == 0


def test_answers_that_vanish_are_compared_absolutely() -> None:
    def nothing(inputs: Any, conventions: Any) -> Any:
        return {"y": [arb(2).sqrt() * arb(2).sqrt() - 2, arb(0)]}  # a ball around 0, and 0

    def almost(inputs: Any, conventions: Any) -> Any:
        return {"y": [arb(2) ** -60, arb(0)]}

    assert corpus._agreement(nothing, nothing, {}, {}) > 250
    assert corpus._agreement(nothing, almost, {}, {}) == 60


def test_an_output_of_zeros_is_resolved_by_its_wrong_answers() -> None:
    zero = balls.Certified({"y": balls.Leaf((2,), [balls.Rounded(0.0, 0.0)] * 2)}, 192)
    assert corpus._fine_enough(zero, {"y": [1.0, 1.0]}, 2.0**-24)
    assert corpus._distance({"y": ((2,), [0.0, 0.0])}, zero.leaves, {"y": [0.0, 0.0]}, 2.0**-24) == 0.0
    assert corpus._distance({"y": ((2,), [0.0, 1e-9])}, zero.leaves, {"y": [0.0, 0.0]}, 2.0**-24) == math.inf
    assert corpus._distance({"y": ((2,), [0.0, math.nan])}, zero.leaves, {"y": [1.0, 1.0]}, 2.0**-24) == math.inf


def test_the_published_files_hold_the_whole_corpus_and_stay_small() -> None:
    cases = [case for name in PROFILES for case in corpus.load_profile(name).all_cases()]
    committed = [case["id"] for op in OPS for case in _committed(op)]
    assert sorted(f"{case.op}/{case.slug}" for case in cases) == sorted(committed)
    assert len(cases) >= 300
    # They come with every wheel and every clone.  6.4 MiB, as long as equal wrong answers are written once, else 10.
    assert sum(path.stat().st_size for path in corpus.DATA.rglob("*.json")) < 7 * 2**20


def test_equal_answers_of_a_mistake_are_written_once() -> None:
    zero, minus, lost = ({"y": {"shape": [1], "value": [value]}} for value in (0.0, -0.0, None))
    answers = [({}, zero), ({"a": "1"}, minus), ({"a": "2"}, lost), ({"a": "3"}, json.loads(json.dumps(zero)))]
    assert repr(corpus.once("a-bug", answers)) == repr(
        [
            {"bug": "a-bug", "conventions": [{}, {"a": "3"}], "outputs": zero},
            {"bug": "a-bug", "conventions": [{"a": "1"}], "outputs": minus},
            {"bug": "a-bug", "conventions": [{"a": "2"}], "outputs": lost},
        ]
    )


def test_no_published_answer_of_a_mistake_is_written_twice() -> None:
    for case in (case for op in OPS for case in _committed(op)):
        written = [(entry["bug"], json.dumps(entry["outputs"])) for entry in case["wrong"]]
        assert len(set(written)) == len(written), case["id"]


# ── Second routes ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("profile", PROFILES)
def test_every_op_has_a_second_route_to_64_bits(profile: str) -> None:
    routes = corpus.load_profile(profile).definitions.ROUTES
    for op in (op for op in OPS.values() if op.profile == profile):
        assert routes[op.name], op.name
        for case in _committed(op.name):
            assert len(case["provenance"]["routes"]) == 1 + len(routes[op.name])
            assert case["provenance"]["agreement_bits"] >= corpus.AGREEMENT_BITS, case["id"]


def test_the_routes_share_no_code_with_what_they_check() -> None:
    allowed = {"verification.certify.balls", "verification.certify.routes"}
    (folder,) = routes_package.__path__
    for path in sorted(corpus.Path(folder).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                ours = name.startswith(("verification", "refpg"))
                assert not ours or any(name == root or name.startswith(f"{root}.") for root in allowed), (path, name)


_QUICK = (
    "ratio",
    "clipped_objective",
    "clipped_objective_gradient",
    "asymmetric_clipped_objective",
    "dual_clipped_objective",
    "clip_fraction",
    "approximate_kl",
    "kl_penalized_objective",
    "kl_penalty_update",
    "proportional_kl_penalty_update",
    "value_loss",
    "clipped_value_loss",
    "adam_step",
    "entropy_bonus",
    "network_forward",
    "surrogate",
    "surrogate_gradient",
    "mean_kl",
    "fisher_vector_product",
    "conjugate_gradient",
    "step_length",
    "line_search",
    "policy_evaluation",
    "visitation",
    "expected_return",
    "performance_difference",
    "local_approximation",
    "softmax_policy_gradient",
    "policy_total_variation",
    "policy_kl",
    "penalty_coefficient",
    "lower_bounds",
    "trust_region_dual",
    "masked_aggregate",
    "masked_normalize_advantages",
    "group_advantages",
    "token_rewards",
    "token_kl_penalty",
    "token_clipped_objective",
    "sequence_objective",
)


@pytest.mark.parametrize("name", _QUICK)
def test_a_route_does_not_share_the_mistakes_of_a_definition(name: str) -> None:
    # Every mistake is a definition with one piece replaced: where it shows, a second route must not follow it.
    op = OPS[name]
    modules = corpus.load_profile(op.profile)
    wrong = {
        (case["id"], entry["bug"]) for case in _committed(name) for entry in case["wrong"] if {} in entry["conventions"]
    }
    checked = set()
    for case in modules.all_cases():
        for mistake in modules.mistakes.MISTAKES:
            if case.op != name or mistake.op != name or (f"{name}/{case.slug}", mistake.bug) not in wrong:
                continue
            if mistake.bug in checked:
                continue
            checked.add(mistake.bug)
            for route in modules.definitions.ROUTES[name]:
                try:
                    agreed = corpus._agreement(mistake.answer, route, case.inputs, corpus.conventions(op, {}))
                except ValueError:  # NaN, or another shape
                    continue
                assert agreed < corpus.AGREEMENT_BITS, (case.slug, mistake.bug, route.__name__)
    assert checked


def test_the_quadrature_gives_the_moments_of_scores_exactly() -> None:
    like = {
        "layers": [{"W": [[0.5, -0.25]], "b": [0.125, 1.0]}],
        "activation": "identity",
        "distribution": "diagonal_gaussian",
        "log_std": [-0.5, 0.75],
    }
    with balls.precision(192):
        net = policies.net_of(like, policies.vector_of(like))
        row = policies.forward(net, [2.0])
        mean, second = [arb(0)] * 4, [[arb(0)] * 4 for _ in range(4)]
        for action, weight in policies.weighted_actions(net, row.outputs):
            s = [entry for part in policies.score(net, row.outputs, action) for entry in part]
            mean = [m + weight * x for m, x in zip(mean, s, strict=True)]
            second = [
                [m + weight * x * y for m, y in zip(line, s, strict=True)] for line, x in zip(second, s, strict=True)
            ]
        expected = [arb(1).exp(), arb(-1.5).exp(), arb(2), arb(2)]  # 1/σ², and 2 for each log_std
        for i in range(4):
            assert abs(mean[i]) < arb(2) ** -180
            for j in range(4):
                assert abs(second[i][j] - (expected[i] if i == j else 0)) < arb(2) ** -180


def test_a_zero_is_proven_and_holds_the_root() -> None:
    with balls.precision(256):
        x, y = roots.zero(lambda t: [t[0] * t[0] - 2, t[0] * t[1] - 6], [1.5, 4.0])
        assert (x * x).contains(2)
        assert (y * y).contains(18)
        assert x.rad() < arb(2) ** -200


def test_a_double_zero_is_refused() -> None:
    with pytest.raises(balls.Undecided):
        roots.zero(lambda t: [t[0] * t[0]], [0.0])


def test_a_root_of_a_rational_is_right_to_600_bits() -> None:
    for number in (Fraction(2), Fraction(1, 3), Fraction(5, 7) * Fraction(2) ** -80, Fraction(0), Fraction(9, 4)):
        found = rationals.root(number)
        assert found**2 <= number < (found + Fraction(1, 2**rationals.BITS)) ** 2


# ── Definitions against mpmath ──────────────────────────────────────────────────────────────────────────────────────


def _committed(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((corpus.DATA / corpus.RELEASE / f"{name}.json").read_bytes())["cases"]
    return found


def _rounds_to(number: Any, value: float) -> bool:
    """Whether a 60-digit number lies within half a unit in the last place of the float."""
    return bool(abs(number - mpmath.mpf(value)) <= mpmath.mpf(math.ulp(value)) / 2 * (1 + mpmath.mpf(10) ** -20))


@pytest.mark.parametrize("name", ["kl_categorical", "kl_bernoulli", "kl_diagonal_gaussian", "log_prob_categorical"])
def test_published_values_are_roundings_of_mpmath_values(name: str) -> None:
    with mpmath.workdps(60):
        for case in _committed(name):
            (output,) = case["expected"][0]["outputs"].values()
            rows = _mpmath_rows(name, case["inputs"])
            assert all(_rounds_to(row, value) for row, value in zip(rows, output["value"], strict=True)), case["id"]


def _mpmath_rows(name: str, inputs: dict[str, Any]) -> list[Any]:
    m = {key: mpmath.matrix(value) if isinstance(value[0], list) else value for key, value in inputs.items()}
    table = m["old_mean" if "old_mean" in m else "old_logits" if "old_logits" in m else "logits"]
    rows, columns = range(table.rows), range(table.cols)
    exp, log = mpmath.exp, mpmath.log

    def log_softmax(z: Any, b: int, k: int) -> Any:
        return z[b, k] - log(mpmath.fsum(exp(z[b, j]) for j in columns))

    if name == "log_prob_categorical":
        return [log_softmax(m["logits"], b, inputs["actions"][b]) for b in rows]
    if name == "kl_categorical":
        old, new = m["old_logits"], m["new_logits"]
        return [
            mpmath.fsum(
                exp(log_softmax(old, b, k)) * (log_softmax(old, b, k) - log_softmax(new, b, k)) for k in columns
            )
            for b in rows
        ]
    if name == "kl_bernoulli":
        p, q = (m[which].apply(lambda z: 1 / (1 + exp(-z))) for which in ("old_logits", "new_logits"))
        return [
            mpmath.fsum(
                p[b, k] * log(p[b, k] / q[b, k]) + (1 - p[b, k]) * log((1 - p[b, k]) / (1 - q[b, k])) for k in columns
            )
            for b in rows
        ]
    mu0, ls0, mu1, ls1 = (m[which] for which in ("old_mean", "old_log_std", "new_mean", "new_log_std"))
    return [
        mpmath.fsum(
            ls1[b, k]
            - ls0[b, k]
            + (exp(2 * ls0[b, k]) + (mu0[b, k] - mu1[b, k]) ** 2) / (2 * exp(2 * ls1[b, k]))
            - mpmath.mpf(1) / 2
            for k in columns
        )
        for b in rows
    ]


def test_squashed_entropy_equals_an_mpmath_quadrature() -> None:
    case = _committed("entropy_squashed_gaussian")[0]
    with mpmath.workdps(30):
        mean, log_std = case["inputs"]["mean"][1], case["inputs"]["log_std"][1]
        terms = []
        for m, s in zip(mean, log_std, strict=True):
            std = mpmath.exp(s)
            # −log π(a) averaged over u ∼ N: by tanh-sinh quadrature, where the certifier integrates by Gauss–Legendre
            terms.append(
                mpmath.quad(
                    lambda t, m=m, s=s, std=std: (
                        mpmath.npdf(t)
                        * (t * t / 2 + s + mpmath.log(2 * mpmath.pi) / 2 - 2 * mpmath.log(mpmath.cosh(m + std * t)))
                    ),
                    [-14, -4, 0, 4, 14],
                )
            )
        assert _rounds_to(mpmath.fsum(terms), case["expected"][0]["outputs"]["entropy"]["value"][1])


@pytest.mark.parametrize("name", ["score_multi_categorical", "score_diagonal_gaussian"])
def test_scores_equal_mpmath_central_differences(name: str) -> None:
    # step 10⁻²⁰ at 60 digits: the error is below 10⁻³⁸, far inside half a unit of float64
    family = name.removeprefix("score_")
    case = _committed(name)[0]
    inputs, outputs = case["inputs"], case["expected"][0]["outputs"]
    names = ["logits"] if "logits" in inputs else ["mean", "log_std"]
    with mpmath.workdps(60):
        step = mpmath.mpf(10) ** -20
        for parameter in names:
            width = len(inputs[parameter][0])
            for k in range(width):
                up, down = (_mpmath_log_prob(family, inputs, 0, parameter, k, sign * step) for sign in (1, -1))
                assert _rounds_to((up - down) / (2 * step), outputs[parameter]["value"][k])


def _mpmath_log_prob(family: str, inputs: dict[str, Any], b: int, parameter: str, k: int, shift: Any) -> Any:
    phi = {name: [mpmath.mpf(x) for x in inputs[name][b]] for name in inputs if name in ("logits", "mean", "log_std")}
    phi[parameter][k] += shift
    actions = inputs["actions"][b]
    if family == "diagonal_gaussian":
        return mpmath.fsum(
            mpmath.log(mpmath.npdf(a, m, mpmath.exp(s)))
            for a, m, s in zip(actions, phi["mean"], phi["log_std"], strict=True)
        )
    total, start = mpmath.mpf(0), 0
    for size, action in zip(inputs["action_sizes"], actions, strict=True):
        factor = phi["logits"][start : start + size]
        total += factor[action] - mpmath.log(mpmath.fsum(mpmath.exp(z) for z in factor))
        start += size
    return total


def _mpmath_mean_kl(inputs: dict[str, Any], new: list[Any]) -> Any:
    """KL(old ‖ new) of categorical tanh policies, θ' as a flat list in the contract's order."""

    def probabilities(entries: Any, x: list[float]) -> list[Any]:
        stream, h = iter(entries), [mpmath.mpf(value) for value in x]
        depth = len(inputs["old_policy"]["layers"])
        for number, layer in enumerate(inputs["old_policy"]["layers"]):
            W = [[next(stream) for _ in row] for row in layer["W"]]
            z = [
                next(stream) + mpmath.fsum(a * w[k] for a, w in zip(h, W, strict=True)) for k in range(len(layer["b"]))
            ]
            h = z if number == depth - 1 else [mpmath.tanh(value) for value in z]
        whole = mpmath.fsum(mpmath.exp(value) for value in h)
        return [mpmath.exp(value) / whole for value in h]

    old = _mpmath_flat(inputs["old_policy"])
    rows = []
    for x in inputs["observations"]:
        pairs = zip(probabilities(old, x), probabilities(new, x), strict=True)
        rows.append(mpmath.fsum(p * mpmath.log(p / q) for p, q in pairs))
    return mpmath.fsum(rows) / len(rows)


def _mpmath_flat(parameters: dict[str, Any]) -> list[Any]:
    rows = [row for layer in parameters["layers"] for row in [*layer["W"], layer["b"]]]
    return [mpmath.mpf(entry) for row in rows for entry in row]


@pytest.mark.parametrize("slug", ["categorical-7x3-5-4", "categorical-at-theta-old-7x3-5-4"])
def test_hessian_products_equal_mpmath_differences_of_the_value(slug: str) -> None:
    # ∂ᵢ∂_v KL by mixed central differences, step 10⁻²⁰ at 90 digits: the error is near 10⁻⁴⁰
    (case,) = (case for case in _committed("mean_kl_hessian_vector_product") if case["id"].endswith(f"/{slug}"))
    outputs = case["expected"][0]["outputs"]
    values = [value for path in outputs for value in outputs[path]["value"]]  # leaves in the order of θ
    with mpmath.workdps(90):
        step = mpmath.mpf(10) ** -20
        theta, v = _mpmath_flat(case["inputs"]["new_policy"]), _mpmath_flat(case["inputs"]["vector"])
        for i in (0, 7, 17, 21, len(theta) - 1):

            def at(a: int, b: int, i: int = i) -> Any:
                moved = [t + b * step * d for t, d in zip(theta, v, strict=True)]
                moved[i] += a * step
                return _mpmath_mean_kl(case["inputs"], moved)

            mixed = (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / (4 * step**2)
            assert _rounds_to(mixed, values[i])
