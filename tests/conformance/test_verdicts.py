"""The comparator misses nothing, and whatever an implementation does ends in one verdict."""

import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from refpg.conformance.ops import OPS
from refpg.conformance.vectors import Case, Vectors, load
from refpg.conformance.verdicts import (
    InvalidAnswer,
    Outcome,
    Verdict,
    entry_errors,
    flatten,
    native,
    numbers,
    worst_error,
)
from refpg.conformance.verdicts import judge as judge_case

from . import synthetic


@pytest.fixture
def vectors(tmp_path: Path) -> Vectors:
    return load(synthetic.write(tmp_path))


def judge(
    vectors: Vectors, function: Callable[..., Any], case: str = "td_errors/ends-4x3", dtype: str = "float64"
) -> Outcome:
    found = vectors.case(case)
    assert found is not None
    return judge_case(found, found.expected[0], function, dtype, vectors.policy)


# The comparator by itself.


def test_an_error_below_is_as_wrong_as_an_error_above() -> None:
    y, tol = np.array([1.0]), np.array([0.1])
    assert worst_error(y - 1, y, tol) == worst_error(y + 1, y, tol) == 10.0


def test_nothing_is_broadcast() -> None:
    y, tol = np.ones(3), np.ones(3)
    for got in (np.ones(()), np.ones(1), np.ones((3, 1)), np.ones((1, 3)), np.ones((3, 3)), np.ones(2)):
        assert worst_error(got, y, tol) == np.inf


def test_neither_nan_nor_infinity_passes() -> None:
    y, tol = np.zeros(2), np.full(2, 1e300)
    for value in (np.nan, np.inf, -np.inf):
        assert worst_error(np.array([0.0, value]), y, tol) == np.inf
        assert worst_error(np.array([value, 0.0]), y, np.full(2, np.inf)) == np.inf


def test_the_worst_entry_decides_not_the_mean_or_the_first() -> None:
    got = np.zeros((3, 4))
    got[1, 2] = 5.0
    assert worst_error(got, np.zeros((3, 4)), np.ones((3, 4))) == 5.0


def test_each_entry_has_its_own_tolerance() -> None:
    got, y = np.array([1.0, 1.0]), np.zeros(2)
    assert worst_error(got, y, np.array([1.0, 100.0])) == 1.0
    assert worst_error(got, y, np.array([100.0, 0.5])) == 2.0


def test_a_zero_tolerance_is_met_by_equality_only() -> None:
    y, tol = np.array([1.0]), np.zeros(1)
    assert worst_error(y, y, tol) == 0.0
    assert worst_error(np.nextafter(y, 2), y, tol) == np.inf


def test_integers_that_overflow_are_errors() -> None:
    lowest = np.array([np.iinfo(np.int64).min])
    assert entry_errors(lowest, np.array([1]))[0] > 1e18


# One case, one verdict.


def test_the_right_answer_conforms(vectors: Vectors) -> None:
    outcome = judge(vectors, synthetic.td_errors)
    assert outcome.verdict is Verdict.CONFORMS
    assert outcome.worst == 0.0


def test_the_bare_value_and_the_mapping_are_both_answers(vectors: Vectors) -> None:
    assert judge(vectors, lambda **i: {"td_errors": synthetic.td_errors(**i)}).verdict is Verdict.CONFORMS
    assert judge(vectors, lambda **i: synthetic.td_errors(**i).tolist()).verdict is Verdict.CONFORMS


def test_arrays_come_in_the_dtype_and_scalars_as_numbers(vectors: Vectors) -> None:
    seen: dict[str, Any] = {}

    def remember(**inputs: Any) -> Any:
        seen.update(inputs)
        return synthetic.td_errors(**inputs)

    assert judge(vectors, remember, dtype="float32").verdict is Verdict.CONFORMS
    assert seen["rewards"].dtype == np.float32
    assert seen["terminated"].dtype == np.bool_
    assert type(seen["gamma"]) is float
    assert seen["rewards"].flags.writeable


@pytest.mark.parametrize(
    "spoil",
    [
        lambda y: y + 1,
        lambda y: y - 1,
        lambda y: y[:, :, None],
        lambda y: y.T,
        lambda y: y.ravel(),
        lambda y: y[0],
        lambda y: y[:, :1],
        lambda y: y * np.nan,
        lambda y: np.where(y == y[1, 1], np.inf, y),
        lambda y: np.zeros_like(y),
        lambda y: -y,
        lambda y: y[::-1],
        lambda y: np.float64(y.mean()),
    ],
)
def test_a_spoiled_answer_is_wrong(vectors: Vectors, spoil: Callable[[Any], Any]) -> None:
    assert judge(vectors, lambda **inputs: spoil(synthetic.td_errors(**inputs))).verdict is Verdict.WRONG


def test_an_n_by_1_answer_is_wrong(vectors: Vectors) -> None:
    outcome = judge(vectors, lambda **inputs: synthetic.ratio(**inputs)[:, None], "ratio/seven")
    assert outcome.verdict is Verdict.WRONG
    assert outcome.worst == np.inf


def test_more_than_half_of_the_digits_is_imprecise_and_less_is_wrong(vectors: Vectors) -> None:
    largest = np.abs(vectors.cases["td_errors"][0].expected[0].outputs["td_errors"].value).max()
    threshold = 2.0**-26.5 * largest  # √u · max|y|
    for error, verdict in ((0.9, Verdict.IMPRECISE), (1.1, Verdict.WRONG)):
        shift = error * threshold
        outcome = judge(vectors, lambda shift=shift, **inputs: synthetic.td_errors(**inputs) + shift)
        assert outcome.verdict is verdict


def test_one_tolerance_is_the_border_of_conforming(vectors: Vectors) -> None:
    certified = vectors.cases["td_errors"][0].expected[0].outputs["td_errors"]
    # R = 1 throughout; entries of at most 8 have half an ulp of at most 2^-50/2, a sixteenth of 16u.
    assert np.abs(certified.value).max() < 8
    for error, conforms in ((0.9 * 2.0**-49, True), (1.2 * 2.0**-49, False)):
        outcome = judge(vectors, lambda error=error, **inputs: synthetic.td_errors(**inputs) + np.float64(error))
        assert (outcome.verdict is Verdict.CONFORMS) == conforms
        assert (outcome.worst <= 1) == conforms


def test_an_integer_is_right_or_wrong_but_never_imprecise(vectors: Vectors) -> None:
    def search(accepted: Any) -> Callable[..., Any]:
        def answer(**inputs: Any) -> Any:
            layers = [
                {"W": layer["W"] + step["W"], "b": layer["b"] + step["b"]}
                for layer, step in zip(inputs["policy"]["layers"], inputs["full_step"]["layers"], strict=True)
            ]
            return {"parameters": {"layers": layers}, "accepted": accepted}

        return answer

    assert judge(vectors, search(0), "line_search/first").verdict is Verdict.CONFORMS
    assert judge(vectors, search(np.int32(0)), "line_search/first").verdict is Verdict.CONFORMS
    assert judge(vectors, search(1), "line_search/first").verdict is Verdict.WRONG
    for accepted in (0.0, True, None, "0", [0.5], np.uint64(2**64 - 1)):
        assert judge(vectors, search(accepted), "line_search/first").verdict is Verdict.HARNESS_ERROR


def test_an_exception_is_the_harness_s_error_with_the_implementation_s_traceback(vectors: Vectors) -> None:
    def crash(**inputs: Any) -> Any:
        raise IndexError("off by one")

    outcome = judge(vectors, crash)
    assert outcome.verdict is Verdict.HARNESS_ERROR
    assert "IndexError: off by one" in outcome.message
    assert "in crash" in outcome.message
    assert "conformance/verdicts.py" not in outcome.message


def test_an_implementation_cannot_end_the_run(vectors: Vectors) -> None:
    assert judge(vectors, lambda **inputs: builtins.exit(0)).verdict is Verdict.HARNESS_ERROR


def test_but_the_person_at_the_keyboard_can(vectors: Vectors) -> None:
    def interrupt(**inputs: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge(vectors, interrupt)


def test_a_missing_argument_is_the_harness_s_error(vectors: Vectors) -> None:
    outcome = judge(vectors, lambda rewards: rewards)
    assert outcome.verdict is Verdict.HARNESS_ERROR
    assert "unexpected keyword argument" in outcome.message


def test_a_function_of_other_names_is_told_both(vectors: Vectors) -> None:
    def other(r: int, *args: Any, gamma: float = 0.9, **more: Any) -> None: ...

    given = ", ".join(OPS["td_errors"].inputs)
    told = f"td_errors is called as td_errors({given}); yours takes (r, *args, gamma, **more): inputs are keywords"
    assert judge(vectors, other).message.splitlines()[-1] == told


def test_a_type_error_of_its_own_is_not_blamed_on_the_names(vectors: Vectors) -> None:
    def own(**inputs: Any) -> Any:
        raise TypeError("mine")

    assert judge(vectors, own).message.splitlines()[-1] == "TypeError: mine"

    class Shy:
        @property
        def __signature__(self) -> Any:
            raise RuntimeError("not yours")

        def __call__(self, r: Any) -> Any: ...

    assert "unexpected keyword argument" in judge(vectors, Shy()).message.splitlines()[-1]


def test_a_function_that_returns_nothing_is_asked_for_its_return(vectors: Vectors) -> None:
    assert judge(vectors, lambda **inputs: None).message == "td_errors returned None: is a `return` missing?"


def test_not_implemented_with_a_reason_is_unsupported(vectors: Vectors) -> None:
    def partly(**inputs: Any) -> Any:
        raise NotImplementedError("one environment only")

    outcome = judge(vectors, partly)
    assert outcome.verdict is Verdict.UNSUPPORTED
    assert outcome.message == "one environment only"

    def silent(**inputs: Any) -> Any:
        raise NotImplementedError

    assert judge(vectors, silent).verdict is Verdict.HARNESS_ERROR


def test_changed_inputs_are_noticed_even_if_the_answer_is_right(vectors: Vectors) -> None:
    def mutate(**inputs: Any) -> Any:
        answer = synthetic.td_errors(**inputs)
        inputs["values"] *= 2
        return answer

    outcome = judge(vectors, mutate)
    assert outcome.verdict is Verdict.HARNESS_ERROR
    assert outcome.changed == ("values",)
    assert "values" in outcome.message


def test_changes_deep_inside_a_policy_are_noticed(vectors: Vectors) -> None:
    def mutate(**inputs: Any) -> Any:
        inputs["new_policy"]["layers"][0]["W"][0, 0] = 7.0
        inputs["old_policy"].pop("activation")
        return synthetic.kl_values()["old_new"]

    assert judge(vectors, mutate, "mean_kl/two-logits").changed == ("old_policy", "new_policy")


def test_a_change_never_reaches_the_next_call(vectors: Vectors) -> None:
    def mutate(**inputs: Any) -> Any:
        inputs["values"][...] = 0
        return inputs["values"]

    judge(vectors, mutate)
    assert judge(vectors, synthetic.td_errors).verdict is Verdict.CONFORMS


def test_what_is_printed_does_not_disturb_the_report(vectors: Vectors, capsys: pytest.CaptureFixture[str]) -> None:
    def chatty(**inputs: Any) -> Any:
        print("hello")
        return synthetic.td_errors(**inputs)

    outcome = judge(vectors, chatty)
    assert outcome.verdict is Verdict.CONFORMS
    assert outcome.printed == "hello\n"
    assert capsys.readouterr().out == ""


# Forms of answers.


class Tensor:
    """Like a tensor that requires a gradient: readable as an array only when detached and on the CPU."""

    def __init__(self, value: Any, ready: int = 0) -> None:
        self.value, self.ready = value, ready

    def detach(self) -> "Tensor":
        return Tensor(self.value, self.ready + 1)

    def cpu(self) -> "Tensor":
        return Tensor(self.value, self.ready + 1)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        if self.ready < 2:
            raise RuntimeError("detach first")
        return np.asarray(self.value)


def test_tensors_are_detached_and_brought_to_the_cpu() -> None:
    assert numbers("x", Tensor([1.0, 2.0]), "float").tolist() == [1.0, 2.0]


@pytest.mark.parametrize("value", [None, "1.0", [1.0, "x"], [[1.0], [1.0, 2.0]], 1j, True, [None], object(), {1: 2}])
def test_what_is_not_numbers_is_an_invalid_answer(value: Any) -> None:
    with pytest.raises(InvalidAnswer, match="^x "):
        numbers("x", value, "float")


class Estimate(NamedTuple):
    advantages: Any
    value_targets: Any


def test_named_tuples_are_mappings_and_plain_tuples_are_not() -> None:
    shapes: Any = {name: type("S", (), {"kind": "float"}) for name in ("advantages", "value_targets")}
    assert list(flatten("gae", Estimate(1.0, 2.0), shapes)) == ["advantages", "value_targets"]
    with pytest.raises(InvalidAnswer, match="expected a mapping with advantages, value_targets") as refused:
        flatten("gae", (1.0, 2.0), shapes)
    assert str(refused.value).endswith(': return {"advantages": …, "value_targets": …}')
    with pytest.raises(InvalidAnswer, match="a mapping with advantages, expected"):
        flatten("gae", {"advantages": 1.0}, shapes)
    with pytest.raises(InvalidAnswer, match="a mapping with"):
        flatten("gae", {"advantages": 1.0, "value_targets": 2.0, "returns": 3.0}, shapes)


def gradient_case(vectors: Vectors) -> Case:
    return vectors.cases["line_search"][0]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (np.zeros(4), "expected {'layers'"),
        ({"layers": [{"W": np.zeros((1, 2))}]}, "expected {'layers'"),
        ({"layers": []}, r"without parameters.layers\[0\].W"),
        ({"layers": [{"W": np.zeros((1, 2)), "b": np.zeros(2)}], "log_std": 0.0}, "unexpected parameters.log_std"),
        (None, "a NoneType"),
    ],
)
def test_parameters_have_the_structure_of_the_policy(vectors: Vectors, parameters: Any, message: str) -> None:
    outcome = judge(vectors, lambda **inputs: {"parameters": parameters, "accepted": 0}, "line_search/first")
    assert outcome.verdict is Verdict.HARNESS_ERROR
    assert message.replace("\\", "") in outcome.message


def test_copies_of_inputs_are_independent(vectors: Vectors) -> None:
    inputs = gradient_case(vectors).inputs
    one, other = native(inputs, "float64"), native(inputs, "float64")
    one["policy"]["layers"][0]["W"][...] = 9.0
    assert (other["policy"]["layers"][0]["W"] != 9.0).all()
