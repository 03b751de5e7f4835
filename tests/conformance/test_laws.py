"""The laws hold for what is right, break for what is wrong, and their margins are those of ordinary code."""

import dataclasses
import inspect
import json
import re
import subprocess
import sys
import unittest

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from refpg.__main__ import main
from refpg.conformance import laws, strategies
from refpg.conformance.adapters import UsageError
from refpg.conformance.laws import LAWS, Answers, Residual, Unanswerable, check, violated
from refpg.conformance.laws.answers import Failure
from refpg.conformance.laws.law import KILLS, Gap, at_least, equal, never
from refpg.conformance.laws.ordinary import WITH_MARGINS, flat, margins, shaped
from refpg.conformance.laws.quadrature import integral, trapezoid
from refpg.conformance.laws.rounding import (
    Rounded,
    choose,
    exp,
    join,
    log,
    maximum,
    minimum,
    rounded,
    solve,
    sqrt,
    square,
    tanh,
)
from refpg.conformance.mutants import MUTANTS
from refpg.conformance.ops import OPS
from refpg.conformance.protocol import nested, numbers_of, plain
from refpg.conformance.reference import answers
from refpg.conformance.signatures import answer_shapes, parameter_leaves, read_inputs
from refpg.conformance.vectors import load
from refpg.conformance.verdicts import Reply, call, flatten
from refpg.notation import SOURCES
from verification import laws as evidence
from verification.honest.variants import CONVENTIONS, numpy_variants

INSTANCES = [(law, variant) for law in LAWS.values() for variant in law.variants]
IDS = [law.label(variant) for law, variant in INSTANCES]
DEFAULTS = {name: axis.default for name, axis in load(ops=()).axes.items()}
VARIANTS = {variant.name: variant for variant in numpy_variants()}
U = {"float64": 2.0**-53, "float32": 2.0**-24}


def described(found):
    return found and "\n".join(found.lines())


# What is right obeys.


class Spy(Answers):
    """Notes which ops are asked."""

    def __init__(self, adapter):
        super().__init__(adapter)
        self.asked = set()

    def __call__(self, op, **inputs):
        self.asked.add(op)
        return super().__call__(op, **inputs)


@pytest.mark.parametrize(("law", "variant"), INSTANCES, ids=IDS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_refpg_obeys_every_law_and_is_asked_the_ops_it_names(law, variant, dtype):
    spy = Spy(Answers.of(None, dtype=dtype).adapter)
    assert described(check(spy, law, variant, max_examples=4)) is None
    # A search that is over at once may leave an op unasked; none may be asked that is not named.
    assert spy.asked
    assert spy.asked <= set(law.ops_of(variant))


@pytest.mark.parametrize(
    ("name", "dtype"), [("left to right", "float32"), ("Libraries", "float32"), ("ComplexStep", "float64")]
)
def test_honest_variants_obey_every_law(name, dtype):
    """Two draws of each law; ``python -m verification.honest`` is about the vectors, this about the laws."""
    implementation = honest(name, dtype, {})
    broken = [
        described(found)
        for law, variant in INSTANCES
        if (found := check(implementation, law, variant, max_examples=2, random_seed=1, shrink=False))
    ]
    assert broken == []


def test_scipys_conjugate_gradients_without_a_tolerance_obey():
    """Asked on where they have arrived they divide 0 by 0, which no law asks of them; a right side of 0 they solve."""
    implementation = honest("SciPy", "float64", {})
    concerned = [law for law in LAWS.values() if "conjugate_gradient" in law.ops and law.variants == ("",)]
    assert len(concerned) == 5
    assert [law.name for law in concerned if check(implementation, law, max_examples=20, shrink=False)] == []
    with np.errstate(invalid="ignore"):
        on = implementation("conjugate_gradient", matrix=2 * np.eye(2), b=np.ones(2), iterations=2)
    assert np.isnan(on.value).all()
    assert LAWS["cg_solves_zero_by_zero"].kills == ("cg-breakdown",)
    assert LAWS["cg_on_a_policy_solves_zero_by_zero"].kills == ("cg-breakdown",)


def honest(name, dtype, conventions):
    functions = VARIANTS[name].make(DEFAULTS | conventions)
    return Answers.of(functions | {"dtype": dtype, "conventions": conventions})


STATED_FOR_THE_DEFAULT = {
    "step_length.damping": {"natural_step_maximises_the_linear_gain"},
    "step_length.epsilon": {
        "step_length_reaches_the_edge_of_the_region",
        "step_length_undoes_the_length_of_the_direction",
        "natural_step_has_quadratic_kl_delta",
        "natural_step_maximises_the_linear_gain",
        "natural_step_ignores_the_scale_of_the_gradient",
        "trpo_does_not_know_the_unit_of_reward",
    },
    "conjugate_gradient.stop": {
        "cg_ends_after_as_many_iterations_as_unknowns",
        "cg_residuals_are_orthogonal",
        "cg_follows_scale_and_order",
        "trpo_does_not_know_the_unit_of_reward",
    },
}


@pytest.mark.parametrize("conventions", [one for one in CONVENTIONS if one], ids=str)
def test_laws_follow_the_conventions_declared(conventions):
    implementation = honest("NumPy's sum and BLAS", "float64", conventions)
    concerned = [
        (law, variant)
        for law, variant in INSTANCES
        if any(set(OPS[op].conventions) & set(conventions) for op in law.ops_of(variant))
    ]
    assert len(concerned) >= 3
    for law, variant in concerned:
        stated = {axis: laws for axis, laws in STATED_FOR_THE_DEFAULT.items() if axis in conventions}
        if any(law.name in laws for laws in stated.values()):
            with pytest.raises(Unanswerable, match="stated for (a step length|conjugate gradients)"):
                check(implementation, law, variant)
            continue
        assert described(check(implementation, law, variant, max_examples=4)) is None


@pytest.mark.parametrize(
    ("axis", "declared", "op"),
    [
        ("kl.direction", "new_old", "mean_kl"),
        ("advantage.ddof", "1", "normalize_advantages"),
        ("approximate_kl.estimator", "k1", "approximate_kl"),
        ("clip_fraction.rule", "active", "clip_fraction"),
        ("value_loss.factor", "1/2", "value_loss"),
        ("value_loss.clip", "clipped_only", "clipped_value_loss"),
        ("step_length.damping", "undamped", "natural_gradient_step"),
        ("line_search.accept", "improves_and_1.5_kl", "line_search"),
    ],
)
def test_a_convention_that_is_not_declared_breaks_a_law(axis, declared, op):
    functions = answers(DEFAULTS) | {op: answers(DEFAULTS | {axis: declared})[op]}
    assert violated(functions, op, max_examples=60) is not None


def over_the_wire(adapter):
    """refpg as a worker would answer: inputs and outputs as JSON, and inputs as the contract wants them."""
    functions = adapter.under(DEFAULTS)

    def ask(case, dtype):
        inputs, lengths = read_inputs(OPS[case.op], json.loads(json.dumps(plain(case.inputs))))
        assert answer_shapes(OPS[case.op], inputs, lengths) == case.shapes
        reply = call(case.op, functions[case.op], inputs, case.shapes, dtype)
        if reply.leaves is None:
            return reply
        outputs = numbers_of(json.loads(json.dumps(plain(nested(reply.leaves)))))
        return Reply(flatten(case.op, outputs, case.shapes))

    return Answers(dataclasses.replace(adapter, functions={}, under=None, ask=ask))


def test_a_worker_is_asked_what_the_contract_allows():
    """One draw of each law, through JSON and the judge's own check of inputs."""
    worker = over_the_wire(Answers.of(None).adapter)
    for law in LAWS.values():
        assert described(check(worker, law, law.variants[-1], max_examples=1)) is None, law.name


@pytest.mark.parametrize(("end", "raised"), [("error", Failure), ("skipped", Unanswerable)])
def test_a_worker_that_does_not_answer_ends_the_search(end, raised):
    adapter = Answers.of({"ratio": answers(DEFAULTS)["ratio"]}).adapter
    silent = dataclasses.replace(adapter, ask=lambda case, dtype: Reply(**{end: "no such luck"}))
    with pytest.raises(raised, match="ratio: no such luck"):
        check(Answers(silent), "ratios_multiply")


def drawn_names(strategy):
    names = []

    @settings(max_examples=1, phases=[Phase.generate])
    @given(strategy)
    def once(drawn):
        names.append(set(drawn))

    once()
    return names[0]


# What is wrong does not.

ROWS = evidence.committed()
PLANTS = {(plant.bug, plant.where): plant for plant in evidence.plants()}


def noticed(wanted):
    """Whether a law notices a bug as recorded: the first pair (law, plant) does, unless draws of this process differ.

    What hypothesis draws depends on the modules loaded, and a bug at a kink may show on few of its draws.
    """
    pairs = [
        (LAWS[name], PLANTS[bug, where])
        for bug, row in ROWS.items()
        for where, names in row.items()
        for name in names
        if wanted(bug, name)
    ]
    first = sorted(pairs, key=lambda pair: (len(pair[0].ops), pair[0].name, len(pair[1].ops)))[:5]
    for examples in (2, evidence.EXAMPLES):  # most bugs show at once
        for law, plant in first:
            implementation = evidence.planted(plant)
            for one, variant in evidence.concerned(plant):
                if one is law and evidence.notices(law, variant, implementation, examples):
                    return True
    return False


@pytest.mark.parametrize("bug", [bug for bug in ROWS if bug not in evidence.UNSEEN])
def test_every_bug_is_noticed(bug):
    assert noticed(lambda one, name: one == bug)


@pytest.mark.parametrize("name", [name for name in LAWS if name not in evidence.IDLE])
def test_every_law_notices_a_bug(name):
    """One of those it is said to kill; all of them are tried by ``python -m verification.laws``."""
    assert noticed(lambda bug, one: one == name)


def changed(op, change):
    """refpg with one op that answers something else: ``change`` of the answer and the inputs."""
    right = answers(DEFAULTS)[op]
    return answers(DEFAULTS) | {op: lambda **inputs: change(right(**inputs), inputs)}


def each_part(function):
    def change(answer, inputs):
        layers = [{name: function(part) for name, part in layer.items()} for layer in answer["layers"]]
        rest = {"log_std": function(answer["log_std"])} if "log_std" in answer else {}
        return {"layers": layers, **rest}

    return change


def a_row_drawn_anew():
    """The Fisher product of one row, another one in every call."""
    generator = np.random.default_rng(5)
    right = answers(DEFAULTS)["fisher_vector_product"]

    def product(policy, observations, vector, damping):
        row = generator.integers(len(observations))
        return right(policy=policy, observations=observations[row : row + 1], vector=vector, damping=damping)

    return answers(DEFAULTS) | {"fisher_vector_product": product}


def without_the_first_layer(answer, inputs):
    """A product whose way back ends early: it sees changes of the first layer, and makes none."""
    first = {name: 0 * part for name, part in answer["layers"][0].items()}
    return {**answer, "layers": [first, *answer["layers"][1:]]}


def with_the_gradient_of_k2(answer, inputs):
    k2 = answers(DEFAULTS | {"kl_penalty.estimator": "k2"})["token_kl_penalty"](**inputs)
    return answer | {"gradient": k2["gradient"]}


FAULTS = {
    "hessian_of_mean_kl_is_symmetric": changed("mean_kl_hessian_vector_product", without_the_first_layer),
    "fisher_product_is_linear": a_row_drawn_anew(),
    "fisher_product_is_symmetric_and_not_negative": changed("fisher_vector_product", without_the_first_layer),
    "fisher_matrix_is_symmetric_and_not_negative": changed("fisher_matrix", lambda F, inputs: np.triu(F)),
    "ratios_multiply": changed("ratio", lambda r, inputs: np.clip(r, np.exp(-0.5), np.exp(0.5))),
    "cg_follows_scale_and_order": changed("conjugate_gradient", lambda x, inputs: x / (1 + 1e-8 / (x @ x + 1))),
    "natural_gradient_is_linear_and_ascends": changed(
        "natural_gradient", each_part(lambda part: part / max(np.abs(part).max(), 1.0))
    ),
    "moments_of_adam_are_moving_averages": changed(
        "adam_step", lambda after, given: after | {"second_moment": given["second_moment"] + given["gradient"] ** 2}
    ),
    "penalties_vanish_at_the_reference": changed(
        "token_kl_penalty", lambda answer, inputs: answer | {"penalty": answer["penalty"] + 1.0}
    ),
    "penalty_gradient_is_the_derivative_of_the_penalty": changed("token_kl_penalty", with_the_gradient_of_k2),
}


@pytest.mark.parametrize("name", FAULTS)
def test_laws_that_kill_no_bug_of_the_catalogue_kill_their_own(name):
    found = check(FAULTS[name], name, max_examples=30, shrink=False)
    assert found is not None
    assert check(None, name, found.variant, max_examples=10) is None


def test_each_of_them_has_a_fault():
    assert set(FAULTS) == set(evidence.IDLE)


UNDER = {  # bugs of conventions that are not the default, by which they are planted in the record
    "aggregate-constant-is-width": {"sequence.aggregation": "token_sum_over_constant"},
    "leave-one-out-over-n": {"group.baseline": "leave_one_out"},
    "sequence-ratio-product": {"ratio.level": "sequence"},
    "sequence-ratio-over-width": {"ratio.level": "sequence"},
    "sequence-ratio-mean-of-ratios": {"ratio.level": "sequence"},
}


@pytest.mark.parametrize("bug", UNDER)
def test_bugs_of_other_conventions_are_noticed_under_them(bug):
    assert bug in evidence.UNSEEN
    conventions = DEFAULTS | UNDER[bug]
    (first, *_) = (mutant for mutant in MUTANTS if mutant.bug == bug)
    wrong = answers(conventions) | {first.op: first.under(conventions), "conventions": UNDER[bug]}
    assert violated(wrong, first.op) is not None


class TestTheRecord:
    def test_it_is_of_these_laws_and_these_mutants(self):
        """If this fails after a change of the laws or the mutants: python -m verification.laws"""
        recorded = {(bug, where) for bug, row in ROWS.items() for where in row}
        assert recorded == set(PLANTS)
        assert {name for row in ROWS.values() for names in row.values() for name in names} <= set(LAWS)

    def test_the_files_agree(self):
        for path, text in evidence.files(ROWS).items():
            assert path.read_text(encoding="utf-8") == text, path.name

    def test_the_bugs_no_law_notices_are_the_ones_with_a_reason(self):
        assert evidence.unseen(ROWS) == sorted(evidence.UNSEEN, key=list(ROWS).index)
        assert all(len(reason) > 20 for reason in evidence.UNSEEN.values())

    def test_a_law_that_notices_nothing_has_a_reason(self):
        assert {name for name, bugs in evidence.kills(ROWS).items() if not bugs} == set(evidence.IDLE)

    def test_what_a_law_kills_is_in_its_record(self):
        kills = evidence.kills(ROWS)
        for law in LAWS.values():
            assert list(law.kills) == kills[law.name]

    def test_every_mutant_of_an_op_that_laws_ask_is_planted(self):
        assert set(ROWS) == {mutant.bug for mutant in MUTANTS if mutant.op in evidence.ASKED}
        assert len(ROWS) > 130


class TestTheLaws:
    def test_there_are_at_least_forty(self):
        assert len(LAWS) >= 40

    @pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
    def test_each_says_what_it_states_and_where_it_is_from(self, law):
        assert re.search(r"[.)]$", law.statement)
        assert len(law.blind) > 10
        tag = re.fullmatch(r"\[([\w-]+)( .+)?\]", law.source)
        assert tag[1] in SOURCES
        for variant in law.variants:
            assert set(law.ops_of(variant)) <= set(OPS)

    def test_every_argument_is_drawn(self):
        for law, variant in INSTANCES:
            wanted = set(list(inspect.signature(law.function).parameters)[1:])
            assert drawn_names(strategies.inputs(law, variant)) == wanted, law.name

    def test_two_of_one_name_are_an_error(self):
        with pytest.raises(ValueError, match="two laws called ratios_multiply"):

            @laws.law.law(source="[PPO (6)]", ops=("ratio",), draw="samples", blind="nothing")
            def ratios_multiply(f):
                """Twice."""


# Searching.

BROKEN = answers(DEFAULTS) | {"ratio": lambda old_log_prob, new_log_prob: np.exp(old_log_prob - new_log_prob)}


class TestSearching:
    def test_the_smallest_example_is_found_and_can_be_read(self):
        found = check(BROKEN, "ratio_doubles_with_the_new_probability")
        assert found.variant == ""
        assert found.residual.error > 1e6 * found.residual.bound
        assert not found.inputs["old_log_prob"].any()
        assert len(found.inputs["old_log_prob"]) == 2
        text = "\n".join(found.lines())
        assert text.startswith("ratio_doubles_with_the_new_probability: r = e^c if")
        assert "for example old_log_prob = [0.0, 0.0], shift = " in text

    def test_what_was_asked_and_answered_is_printed_with_it(self):
        """What is an input of the example is there by its name."""
        found = check(BROKEN, "ratio_doubles_with_the_new_probability")
        shift = found.inputs["shift"] / 8
        answer = [float(np.exp(-shift))] * 2
        assert str(found).splitlines() == [
            *found.lines(),
            f"got ratio(old_log_prob, new_log_prob = {[shift] * 2}) = {answer}",
        ]

    def test_what_was_answered_is_cut_where_it_is_much(self):
        name = "fisher_matrix_is_symmetric_and_not_negative"
        found = check(FAULTS[name], name, max_examples=30, shrink=False)
        (got,) = found.got()
        assert got.startswith("got fisher_matrix(policy, observations) = [[")
        assert got.endswith(" …")
        assert len(got) < 300
        name = "natural_gradient_is_linear_and_ascends"
        found = check(FAULTS[name], name, max_examples=30, shrink=False)
        assert len(found.answered) == len(found.got()) == 3
        assert all("): direction.layers[0].W = [[" in got for got in found.got())
        assert found._replace(answered=2 * found.answered).got() == found.got()  # the same again is said once
        more = tuple(one._replace(op=op) for op in ("first", "second") for one in found.answered)
        assert found._replace(answered=more).got()[3:] == ["and 3 more answers"]
        assert found._replace(answered=more[:4]).got()[3:] == ["and 1 more answer"]

    def test_an_answer_that_is_not_finite_is_called_that(self):
        """0/0 at b = 0: the example is drawn, the question is not it."""
        divides = {"conjugate_gradient": lambda matrix, b, iterations: b / (b @ b)}
        text = str(check(divides, "cg_solves_zero_by_zero"))
        assert "\nthe answer of conjugate_gradient is not finite\n" in text
        assert "\ngot conjugate_gradient(matrix, b = [0.0, 0.0], iterations) = [nan, nan]" in text or (
            "\ngot conjugate_gradient(matrix, b, iterations) = [nan, nan]" in text
        )
        assert "inf" not in text

    def test_what_is_not_finite_is_shown_first(self):
        def ratio(old_log_prob, new_log_prob):
            return np.where(new_log_prob == 1.0, np.nan, np.exp(new_log_prob - old_log_prob))

        a, b = np.zeros(2), np.ones(2)
        example = LAWS["ratios_multiply"].broken(
            Answers.of({"ratio": ratio}), {"old_log_prob": a, "new_log_prob": b, "other_log_prob": a}
        )
        assert not example.answered[0].is_finite or example.answered[0] not in example.got()
        assert "nan" in example.got()[0]
        assert example.residual.note == "the answer of ratio is not finite"

    def test_what_no_rounding_excuses_is_called_that(self):
        law = laws.Law("a", "b", "c", (), "samples", ("",), "d", lambda f: iter([never()]))
        assert law.broken(Answers.of(None), {}).lines()[1] == "excluded by the law, whatever the rounding"

    def test_it_is_reproducible(self):
        first, second = (check(BROKEN, "ratio_doubles_with_the_new_probability") for _ in range(2))
        assert first.lines() == second.lines()

    def test_a_law_that_holds_has_no_example(self):
        assert check(BROKEN, "ratios_multiply", max_examples=10) is None  # blind to the inverse

    def test_an_answer_of_another_shape_is_named(self):
        found = check({"ratio": lambda **inputs: np.ones((3, 1))}, "ratios_multiply")
        assert "ratio has shape (3, 1), expected (2,)" in found.residual.note
        assert not found.residual.holds
        assert found.residual.note in found.lines()[1]

    def test_nan_is_no_answer(self):
        found = check({"ratio": lambda old_log_prob, new_log_prob: old_log_prob * np.nan}, "ratios_multiply")
        assert found.residual.error == np.inf

    def test_what_is_not_there_is_said(self):
        with pytest.raises(Unanswerable, match="ratio: not implemented"):
            check({"gae": lambda **inputs: None}, "ratios_multiply")
        with pytest.raises(Unanswerable, match="no ratios here"):
            check({"unsupported": {"ratio": "no ratios here"}}, "ratios_multiply")

    def test_what_an_implementation_declines_is_said(self):
        def ratio(**inputs):
            raise NotImplementedError("not for these")

        with pytest.raises(Unanswerable, match="ratio: not for these"):
            check({"ratio": ratio}, "ratios_multiply")

    def test_families_that_are_there_are_tried(self):
        functions = {op: answers(DEFAULTS)[op] for op in ("kl_categorical", "kl_bernoulli")}
        assert check(functions, "kl_is_not_negative", max_examples=3) is None
        reversed_sign = functions | {"kl_bernoulli": lambda **inputs: -functions["kl_bernoulli"](**inputs)}
        assert check(reversed_sign, "kl_is_not_negative").variant == "bernoulli"

    def test_unknown_names_are_errors(self):
        with pytest.raises(UsageError, match="no law 'ratio_multiply'.*ratios_multiply"):
            check(None, "ratio_multiply")
        with pytest.raises(UsageError, match="no variant 'bernouli'.*bernoulli"):
            check(None, "kl_is_not_negative", "bernouli")

    def test_a_violated_law_about_the_op_alone_comes_first(self):
        found = violated(BROKEN, "ratio")
        assert set(found.law.ops) == {"ratio"}

    def test_nothing_is_violated_by_what_is_right_or_crashes(self):
        assert violated({"ratio": answers(DEFAULTS)["ratio"]}, "ratio") is None
        assert violated({"ratio": lambda **inputs: 1 / 0}, "ratio") is None

    def test_what_was_seen_of_an_implementation_that_varies_is_told(self):
        """Asked the same again it obeys; the law was broken once."""
        asked = []

        def ratio(old_log_prob, new_log_prob):
            asked.append(old_log_prob)
            return np.exp(new_log_prob - old_log_prob) + (len(asked) == 1)

        assert not check({"ratio": ratio}, "ratios_multiply").residual.holds

    def test_a_search_is_over_where_an_exception_ends_it(self):
        asked = []

        def ratio(old_log_prob, new_log_prob):
            asked.append(old_log_prob)
            return 1 / 0

        with pytest.raises(ZeroDivisionError):
            check({"ratio": ratio}, "ratios_multiply")
        assert len(asked) == 1

    def test_attempts_to_make_an_example_smaller_are_counted(self):
        asked = []

        def ratio(old_log_prob, new_log_prob):
            asked.append(old_log_prob)
            return np.exp(old_log_prob - new_log_prob)

        found = check({"ratio": ratio}, "ratio_doubles_with_the_new_probability", attempts=3)
        before = len(asked)
        assert not found.residual.holds
        assert check({"ratio": ratio}, "ratio_doubles_with_the_new_probability").residual.error > 0
        assert before < len(asked) - before  # without a limit there are more

    def test_a_law_is_a_function_of_plain_arrays(self):
        a, b = np.array([0.0, -1.0]), np.array([0.5, 0.25])
        assert laws.ratios_multiply(None, old_log_prob=a, new_log_prob=b, other_log_prob=a).holds
        assert not laws.ratio_doubles_with_the_new_probability(BROKEN, old_log_prob=a, shift=1.0).holds

    def test_requiring_a_law_says_what_the_search_says(self):
        given = {"old_log_prob": np.array([0.0, -1.0]), "shift": 8.0}
        assert laws.ratio_doubles_with_the_new_probability.require(None, **given) is None
        with pytest.raises(AssertionError) as raised:
            laws.ratio_doubles_with_the_new_probability.require(BROKEN, **given)
        lines = str(raised.value).splitlines()
        statement = "ratio_doubles_with_the_new_probability: r = e^c if the new log-probability is c above"
        assert lines[0].startswith(statement)
        assert re.fullmatch(r"off by 2\.35, allowed are \S+e-1\d", lines[1])  # e − 1/e
        assert lines[2] == "for example old_log_prob = [0.0, -1.0], shift = 8.0"
        assert lines[3].startswith("got ratio(old_log_prob, new_log_prob = [1.0, 0.0]) = [0.3678794411714")

    def test_what_is_heard_is_of_one_trial(self):
        implementation = Answers.of(BROKEN)
        first, second = (check(implementation, "ratio_doubles_with_the_new_probability") for _ in range(2))
        assert [one.op for one in first.answered] == [one.op for one in second.answered] == ["ratio"]
        assert implementation.heard is None

    @settings(max_examples=10)
    @given(strategies.inputs(LAWS["kl_is_not_negative"], "categorical"))
    def test_a_law_inside_a_given_of_ones_own(self, drawn):
        assert laws.kl_is_not_negative(None, **drawn).holds


# The suite.


class TestTheSuite:
    def names(self, suite):
        return [name for name in dir(suite) if name.startswith("test_")]

    def test_all_laws_are_its_tests(self):
        class Everything(laws.Suite):
            pass

        assert len(self.names(Everything)) == len(INSTANCES)

    def test_two_suites_have_tests_of_their_own(self):
        class First(laws.Suite):
            only = ("ratios_multiply",)
            max_examples = 5

        class Second(laws.Suite):
            adapter = {"ratio": lambda old_log_prob, new_log_prob: 2 * np.exp(new_log_prob - old_log_prob)}  # noqa: RUF012
            only = ("ratios_multiply",)

        First().test_ratios_multiply()
        with pytest.raises(AssertionError, match=r"ratios_multiply: r\(a, a\) = 1(.|\n)*for example"):
            Second().test_ratios_multiply()
        assert First.test_ratios_multiply is not Second.test_ratios_multiply
        assert First.test_ratios_multiply.__doc__ == LAWS["ratios_multiply"].statement

    def test_what_is_missing_is_skipped_with_the_reason(self):
        class Small(laws.Suite):
            adapter = {"ratio": BROKEN["ratio"], "unsupported": {"gae": "no rollouts"}}  # noqa: RUF012
            only = ("gae_is_linear", "surrogate")

        with pytest.raises(unittest.SkipTest, match=r"^1 law of estimation not tried; gae: no rollouts \(1\)$"):
            Small().test_untried_estimation()
        with pytest.raises(unittest.SkipTest, match=r"of surrogate not tried; .*surrogate: not implemented \(\d+\)"):
            Small().test_untried_surrogate()

    def test_every_law_is_tried_or_counted(self):
        class Small(laws.Suite):
            adapter = {op: answers(DEFAULTS)[op] for op in ("ratio", "td_errors", "kl_categorical")}  # noqa: RUF012

        untried = [name for name in self.names(Small) if name.startswith("test_untried_")]
        counted = 0
        for name in untried:
            with pytest.raises(unittest.SkipTest) as raised:
                getattr(Small(), name)()
            total, reasons = str(raised.value).split(" ", 1)
            assert int(total) == sum(map(int, re.findall(r"\((\d+)\)", reasons)))
            counted += int(total)
        tried = len(self.names(Small)) - len(untried)
        assert 3 < tried < 20
        assert tried + counted == len(INSTANCES)

    def test_what_an_op_declines_is_asked_once(self):
        """A skip is no failure that hypothesis would make smaller: that took minutes for an adapter to be filled in."""
        asked = []

        def ratio(**inputs):
            asked.append(inputs)
            raise NotImplementedError("later")

        class Unfinished(laws.Suite):
            adapter = {"ratio": ratio}  # noqa: RUF012
            only = ("ratios_multiply",)

        with pytest.raises(unittest.SkipTest, match="ratio: later"):
            Unfinished().test_ratios_multiply()
        assert len(asked) == 1

    def test_a_class_inherits_no_test_of_another_adapter(self):
        class Base(laws.Suite):
            only = ("surrogate",)

        class Mine(Base):
            adapter = {"ratio": BROKEN["ratio"]}  # noqa: RUF012

        assert Base.test_a_baseline_costs_nothing_categorical is not None
        assert Mine.test_a_baseline_costs_nothing_categorical is None
        assert Mine.test_untried_surrogate is not None
        assert Base.test_ratios_multiply is not Mine.test_ratios_multiply

    def test_names_that_do_not_exist_are_an_error(self):
        with pytest.raises(UsageError, match="gae_is_liner"):

            class Mistyped(laws.Suite):
                only = ("gae_is_liner",)

    def test_pytest_collects_it(self, tmp_path):
        (tmp_path / "test_mine.py").write_text(
            "import numpy as np\n"
            "from refpg.conformance import laws\n\n"
            "ZERO = np.zeros(1)\n\n\n"
            "class TestMine(laws.Suite):\n"
            "    adapter = {'ratio': lambda old_log_prob, new_log_prob: old_log_prob - new_log_prob}\n"
            "    only = ('surrogate',)\n\n\n"
            "class TestInherited(TestMine):\n"
            "    only = ('ratios_multiply',)\n\n\n"
            "def test_one():\n"
            "    laws.ratios_multiply({'gae': len}, old_log_prob=ZERO, new_log_prob=ZERO, other_log_prob=ZERO)\n\n\n"
            "def test_two():\n"
            "    laws.ratio_doubles_with_the_new_probability.require(TestMine.adapter, old_log_prob=ZERO, shift=8.0)\n",
            encoding="utf-8",
        )
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "test_mine.py"],
            capture_output=True, text=True, cwd=tmp_path, check=False,
        )  # fmt: skip
        assert "4 failed, 2 skipped" in run.stdout, run.stdout + run.stderr
        assert "laws of surrogate not tried; log_prob_categorical: not implemented (1)" in run.stdout
        assert "ratio: not implemented" in run.stdout
        assert "AssertionError: ratio_doubles_with_the_new_probability: r = e^c" in run.stdout
        assert "/law.py" not in run.stdout  # where the law raised is nobody's business


# The command line, and life without hypothesis.


def test_the_laws_are_listed(capsys):
    assert main(["laws"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in LAWS)
    assert "      needs gae, td_errors\n" in text
    assert text.count("      needs ") == len(LAWS)
    assert "kills 1 known mistake; " in text
    assert "kills no known mistakes; " in text
    assert " 1 known mistakes" not in text
    assert main(["laws", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in entries] == [law.name for law in laws.ordered()]
    assert entries[0]["statement"] == LAWS[entries[0]["name"]].statement


def test_laws_are_listed_and_tried_without_hypothesis():
    program = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        missing = name.split('.')[0]\n"
        "        if missing in ('hypothesis', 'pytest'): raise ModuleNotFoundError(name, name=missing)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "from refpg.__main__ import main\n"
        "from refpg.conformance import laws\n"
        "assert main(['laws']) == 0\n"
        "assert laws.td_error_is_reward_plus_next_value_less_value(None, rewards=[[1.0]], values=[[2.0]],\n"
        "    next_values=[[3.0]], terminated=[[False]], gamma=0.5).holds\n"
        "from importlib import import_module\n"
        "for door in ('check', 'violated', 'Suite', 'strategies'):\n"
        "    try:\n"
        "        import_module('refpg.conformance.strategies') if door == 'strategies' else getattr(laws, door)\n"
        "    except ImportError as error:\n"
        "        assert \"pip install 'refpg[test]' adds hypothesis\" in str(error) and door in str(error), error\n"
        "    else:\n"
        "        raise SystemExit(door)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_the_record_is_installed():
    assert KILLS.is_file()
    assert "kills.json" in (evidence.HERE.parent / "setup.cfg").read_text(encoding="utf-8")


def test_an_unknown_law_is_an_attribute_error():
    with pytest.raises(AttributeError, match="ratios_multiplied"):
        _ = laws.ratios_multiplied


# Residuals.


class TestResiduals:
    def law(self, *gaps):
        return laws.Law("a", "b", "c", (), "samples", ("",), "d", lambda f: iter(gaps))

    def test_the_worst_entry_of_the_worst_gap_counts(self):
        gaps = [equal(Rounded([1.0, 1.0]), 1.0), equal(Rounded([1.0, 2.0], [1.0, 4.0]), 1.0)]
        residual = self.law(*gaps)(None)
        assert residual.error == 1.0
        # Rounding of 2 − 1 is one more: sixteen times five units.
        assert residual.bound == 16 * 5 * U["float64"]

    @pytest.mark.parametrize(("left", "holds"), [(0.0, True), (1.0, True), (-1e-9, False), (np.nan, False)])
    def test_one_sided(self, left, holds):
        assert self.law(at_least(Rounded(left), 0.0))(None).holds is holds

    def test_the_margin_is_the_factor_of_the_policy(self):
        exact = 16 * U["float64"]
        assert self.law(Gap(Rounded(exact, 1.0)))(None).holds
        assert not self.law(Gap(Rounded(1.01 * exact, 1.0)))(None).holds

    def test_truncation_is_added(self):
        assert self.law(equal(Rounded(0.5), 0.0, truncation=0.5))(None).holds
        assert not self.law(equal(Rounded(0.5), 0.0, truncation=0.4))(None).holds

    def test_what_must_not_happen_never_holds(self):
        assert not self.law(never())(None).holds

    def test_no_bound_excuses_what_is_not_a_number(self):
        assert not self.law(Gap(Rounded(np.nan, np.inf)))(None).holds
        assert self.law(Gap(Rounded(5.0, np.inf)))(None).holds

    @pytest.mark.parametrize("bound", [0.0, 1.0, np.inf, np.nan])
    def test_nor_is_it_lost_among_what_holds(self, bound):
        gaps = [Gap(Rounded(x, bound)) for x in (0.0, np.nan, 1.0, 0.0)]
        assert not self.law(*gaps)(None).holds
        assert not self.law(Gap(Rounded([0.0, np.nan, 1.0], bound)))(None).holds

    def test_nothing_to_compare_holds(self):
        assert self.law()(None) == Residual(0.0, 0.0)
        assert self.law(equal(Rounded(np.zeros(0)), 0.0))(None).holds

    def test_errors_in_bounds(self):
        assert Residual(3.0, 2.0).worst == 1.5
        assert Residual(1.0, 0.0).worst == np.inf
        assert Residual(1.0, np.inf).worst == 0.0


# Margins: what float32 does stays inside the running error, and close enough to it to mean something.

EXPRESSIONS = {
    "sums and products": lambda a, b, m: (a + b) * (a - 3 * b) / (2 + square(b)),
    "exp, log": lambda a, b, m: log(1 + exp(a)) - exp(-b) * a,
    "tanh, sqrt": lambda a, b, m: tanh(a - b) * sqrt(1 + square(a)),
    "matrix products": lambda a, b, m: m @ (m @ a) - m @ b,
    "means": lambda a, b, m: (a * b).mean() - a.mean() * b.mean(),
    "min, max": lambda a, b, m: minimum(maximum(a, b), a * b),
    "shapes": lambda a, b, m: (join([a, b]).reshape(2, -1).T[1:] * 0.1).sum(axis=0),
    "solve": lambda a, b, m: solve(rounded(m), rounded(a)),
}
NUMPY = {
    "sums and products": lambda a, b, m: (a + b) * (a - 3 * b) / (2 + b * b),
    "exp, log": lambda a, b, m: np.log(1 + np.exp(a)) - np.exp(-b) * a,
    "tanh, sqrt": lambda a, b, m: np.tanh(a - b) * np.sqrt(1 + a * a),
    "matrix products": lambda a, b, m: m @ (m @ a) - m @ b,
    "means": lambda a, b, m: (a * b).mean() - a.mean() * b.mean(),
    "min, max": lambda a, b, m: np.minimum(np.maximum(a, b), a * b),
    "shapes": lambda a, b, m: (np.concatenate([a, b]).reshape(2, -1).T[1:] * a.dtype.type(0.1)).sum(axis=0),
    "solve": lambda a, b, m: np.linalg.solve(m, a),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_running_errors_bound_what_float32_does(name):
    """float64 stands for the truth.  0.1 has an error of its own in float32, which the bound of 2 u leaves room for."""
    generator = np.random.default_rng(3)
    largest = 0.0
    for _ in range(200):
        a, b = (generator.normal(size=5).astype(np.float32) for _ in range(2))
        m = (generator.normal(size=(5, 5)) + 5 * np.eye(5)).astype(np.float32)
        m = (m + m.T) / 2
        found = EXPRESSIONS[name](rounded(a), rounded(b), rounded(m))
        truth = NUMPY[name](*(x.astype(np.float64) for x in (a, b, m)))
        np.testing.assert_allclose(found.value, truth, rtol=1e-9, atol=1e-12)
        error = np.abs(NUMPY[name](a, b, m).astype(np.float64) - truth)
        assert (error <= U["float32"] * (found.error + np.abs(found.value))).all()
        exact = found.error == 0
        largest = max(largest, float((error[~exact] / (U["float32"] * found.error[~exact])).max(initial=0.0)))
    assert largest > (0.0005 if name == "solve" else 0.1), "a bound that far away bounds nothing"


A, B = Rounded([2.0, -4.0], [1.0, 3.0]), Rounded([8.0, 1.0], [5.0, 7.0])
RULES = {
    "sum of two": (A + B, [1 + 5 + 10, 3 + 7 + 3]),
    "difference": (A - B, [1 + 5 + 6, 3 + 7 + 5]),
    "product": (A * B, [2 * 5 + 8 * 1 + 16, 4 * 7 + 1 * 3 + 4]),
    "quotient": (A / B, [(1 + 0.25 * 5) / 8 + 0.25, (3 + 4 * 7) / 1 + 4]),
    "sum of entries": (A.sum(), 1 + 3 + 1 * (2 + 4)),
    "mean of entries": (A.mean(), (1 + 3 + 6) / 2 + 1),
    "inner product": (A @ B, (2 * 5 + 4 * 7) + (1 * 8 + 3 * 1) + 2 * (16 + 4)),
    "minimum": (minimum(A, B), [1, 3]),
    "maximum": (maximum(A, B), [5, 7]),
    "square root": (sqrt(Rounded(4.0, 2.0)), 2 / (2 * 2) + 2),
    "exponential": (exp(Rounded(0.0, 3.0)), 3 + 2),
    "logarithm": (log(Rounded(1.0, 3.0)), 3),
}


@pytest.mark.parametrize("rule", RULES)
def test_errors_are_carried_by_the_rules(rule):
    """|δ(ab)| ≤ |a| δb + |b| δa + |ab|, and so on: what is given, its slope, and one rounding of the result."""
    found, error = RULES[rule]
    assert found.error.tolist() == error


def test_errors_are_in_units_of_float64_in_any_dtype():
    inputs = {"old_log_prob": np.array([0.0, -1.0]), "new_log_prob": np.array([0.5, 0.25])}
    wide, narrow = (Answers.of(None, dtype=dtype)("ratio", **inputs) for dtype in ("float64", "float32"))
    np.testing.assert_array_equal(narrow.error, wide.error * 2**29)
    inexact = Rounded(inputs["new_log_prob"] + 2.0**-40)
    cast = Answers.of(None, dtype="float32")("ratio", old_log_prob=inputs["old_log_prob"], new_log_prob=inexact)
    assert (cast.error > narrow.error).all()  # a number that float32 does not have is rounded on its way in


def test_no_entry_is_held_to_less_than_the_floor_of_the_vectors_policy():
    f = Answers.of(None)
    fisher = f("fisher_diagonal_gaussian", mean=np.zeros((1, 2)), log_std=np.array([[0.5, -1.0]]))
    assert fisher.value[0, 0, 1] == 0.0
    assert fisher.error[0, 0, 1] == 0.3 * fisher.error.max()


def test_what_rounding_could_turn_over_has_no_bound():
    x = Rounded([1.0, 1.0], [0.0, 2.0])
    chosen = choose(x, [2.0, 1.0 + 2.0**-30], 10.0, 20.0)
    assert chosen.value.tolist() == [10.0, 10.0]
    assert chosen.error.tolist() == [0.0, np.inf]


def test_an_unbounded_error_times_an_exact_zero_is_zero():
    assert (Rounded(3.0, np.inf) * 0.0).error == 0.0


def smooth_cases(op):
    """The cases whose networks are tanh networks: those that have margins."""
    for case in load(ops=[op]).cases[op]:
        networks = [value for value in case.inputs.values() if hasattr(value, "keys")]
        if all(value.get("activation", "tanh") == "tanh" for value in networks) and not case.stability:
            yield case


BOUNDED = {  # ops whose margin is derived from bounds, and not from a formula that gives the answer
    "line_search": "which candidate is taken is a decision",
    "trpo_step": "which candidate is taken is a decision",
    "entropy_squashed_gaussian": "log cosh u ≤ |u| under the integral",
}


@pytest.mark.parametrize("op", [op for op in WITH_MARGINS if op not in BOUNDED])
def test_margins_are_those_of_the_right_formulas(op):
    """The formula behind a margin gives the certified value, within that margin: it is the same quantity."""
    cases = list(smooth_cases(op))
    assert cases
    for case in cases:
        inputs = {name: thawed(value) for name, value in case.inputs.items()}
        for expected in case.expected:
            found = margins(op, DEFAULTS | dict(expected.conventions), inputs)
            outputs = OPS[op].outputs
            named = found if isinstance(found, dict) and set(found) == set(outputs) else {next(iter(outputs)): found}
            leaves = {}
            for name, output in named.items():
                leaves |= parameter_leaves(name, output) if isinstance(output, dict) else {name: output}
            for path, leaf in expected.outputs.items():
                certain = np.isfinite(leaves[path].error)
                error = np.abs(leaves[path].value - leaf.value)
                allowed = 16 * U["float64"] * leaves[path].error + np.spacing(np.abs(leaf.value))
                assert (error <= allowed)[certain].all(), (case.id, path)


def thawed(value):
    if hasattr(value, "keys"):
        return {name: thawed(part) for name, part in value.items()}
    return [thawed(part) for part in value] if isinstance(value, tuple) else value


@given(data=st.data())
def test_parameters_are_one_vector_and_back(data):
    policy = data.draw(strategies.policies("diagonal_gaussian", {"policy"}))["policy"]
    theta = flat(policy)
    again = shaped(policy, theta)
    assert (flat(again).value == theta.value).all()
    assert [layer["W"].shape for layer in again["layers"]] == [layer["W"].shape for layer in policy["layers"]]


# Integrals.


def test_the_rule_is_exact_for_polynomials_and_says_what_it_leaves_out():
    value, truncation = integral(lambda t: rounded(t**15))
    assert value.value == pytest.approx(1 / 16, rel=1e-14)  # eight nodes: degree 15
    assert 1e-9 < truncation < 1e-5  # six are exact to degree 11 only
    value, truncation = integral(lambda t: rounded(1 / (1.05 - t)))
    assert abs(value.value - np.log(21.0)) < truncation


def test_the_trapezoid_sees_gaussians_exactly():
    parts = [(x, weight * np.exp(-x * x / 2) / np.sqrt(2 * np.pi)) for x, weight in trapezoid()]
    assert sum(weight for _, weight in parts) == pytest.approx(1.0, abs=1e-15)
    assert sum(x**4 * weight for x, weight in parts) == pytest.approx(3.0, abs=1e-14)
