"""The validator of arguments: what it lets through, and the sentence it refuses the rest with."""

import numpy as np
import pytest

from refpg import notation


def test_arrays_of_the_right_kind_pass_uncopied():
    x = np.ones((2, 3))
    (bound,) = notation.bind_shapes("f", {}, x=(x, "B D"))
    assert bound is x


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble, np.complex128])
def test_floating_dtypes_are_kept(dtype):
    (bound,) = notation.bind_shapes("f", {}, x=(np.ones(3, dtype), "B"))
    assert bound.dtype == dtype


@pytest.mark.parametrize("size", [1, 2, 7, 64, 1000])
@pytest.mark.parametrize(
    "dtype", [np.float16, np.float32, np.float64, np.longdouble, np.complex64, np.complex128, np.clongdouble]
)
def test_one_number_that_is_not_finite_is_found_wherever_it_stands(dtype, size):
    """And the largest numbers, whose squares overflow, are none."""
    largest = np.finfo(dtype).max
    layouts = {
        "row": (size,),
        "column": (size, 1),
        "every other": (2 * size,),
        "transposed": (3, size),
    }
    for layout, shape in layouts.items():
        for bad in (None, np.nan, np.inf, -np.inf, *([complex(0, np.inf)] if np.dtype(dtype).kind == "c" else [])):
            array = np.full(shape, largest, dtype)
            array.flat[::2] = -largest
            array = {"every other": array[::2], "transposed": array.T}.get(layout, array)
            if bad is not None:
                array[size // 2, ...] = bad
            assert notation.all_finite(array) == (bad is None), (layout, bad)


def test_integers_are_read_as_float64():
    (bound,) = notation.bind_shapes("f", {}, x=([1, 2], "B"))
    assert bound.dtype == np.float64


def test_a_disagreement_names_both_arguments():
    message = r"f: v has shape \(7,\), expected \(P,\) where P = 4 \(set by theta\)"
    with pytest.raises(ValueError, match=message):
        notation.bind_shapes("f", {}, theta=(np.ones(4), "P"), v=(np.ones(7), "P"))
    with pytest.raises(ValueError, match=r"^f: v has shape \(4, 7\), expected \(B, P\) where P = 4 \(set by theta\)$"):
        notation.bind_shapes("f", {"D": 4}, theta=(np.ones(4), "P"), v=(np.ones((4, 7)), "B P"))
    with pytest.raises(ValueError, match=r"^f: v has shape \(7,\), expected \(P,\) where P = 4$"):
        notation.bind_shapes("f", {"P": 4}, theta=(np.ones(4), "P"), v=(np.ones(7), "P"))
    with pytest.raises(ValueError, match=r"^f: v has shape \(4, 7\), expected \(P,\)$"):
        notation.bind_shapes("f", {"P": 4}, v=(np.ones((4, 7)), "P"))


def test_equal_letters_within_one_array_are_equal_lengths():
    with pytest.raises(ValueError, match=r"matrix has shape \(2, 3\)"):
        notation.bind_shapes("f", {}, matrix=(np.ones((2, 3)), "P P"))


@pytest.mark.parametrize(
    ("value", "spec", "message"),
    [
        (np.ones((2, 3)), "B", r"x has shape \(2, 3\), expected \(B,\)"),
        (np.ones((0, 3)), "B D", "it is empty"),
        ([1.0, np.nan], "B", "NaN or infinity"),
        ([1.0, -np.inf], "B", "NaN or infinity"),
        (["a"], "B", "expected numbers"),
        ([None], "B", "expected numbers"),
        ([[1.0], [1.0, 2.0]], "B D", "ragged"),
        ([True, False], "B", "expected numbers"),
        ([0.5], "int B", "non-integer"),
        ([1j], "int B", "non-integer"),
        ([0, 1], "bool B", "expected bool"),
    ],
)
def test_bad_arrays_are_refused(value, spec, message):
    with pytest.raises(ValueError, match=rf"^f: .*{message}"):
        notation.bind_shapes("f", {}, x=(value, spec))


def test_integer_valued_floats_are_integers():
    (bound,) = notation.bind_shapes("f", {}, x=([0.0, 2.0], "int B"))
    assert bound.dtype == np.int64
    assert bound.tolist() == [0, 2]


def test_default_weights_are_uniform():
    assert notation.row_weights("f", None, np.ones(8)).tolist() == [0.125] * 8


@pytest.mark.parametrize("rows", [3, 7, 1000])
def test_normalised_weights_pass_in_either_precision(rows):
    for dtype in (np.float32, np.float64):
        raw = np.random.default_rng(rows).uniform(size=rows).astype(dtype)
        notation.row_weights("f", raw / raw.sum(), raw)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, 1.0], "not normalised"),
        ([0.5, 0.49999], "not normalised"),
        ([1.5, -0.5], "negative"),
        ([0.5], "expected"),
        ([0.5, 0.5j], "complex"),
    ],
)
def test_bad_weights_are_refused(weights, message):
    with pytest.raises(ValueError, match=rf"^f: weights .*{message}"):
        notation.row_weights("f", weights, np.ones(2))


@pytest.mark.parametrize(
    "value",
    [0.0, -1.0, np.nan, np.inf, np.float64(-1), np.float64(np.nan), np.float32(np.inf), "1", [1.0], None, 1j, True, -1],
)
def test_numbers_outside_their_interval_are_refused(value):
    with pytest.raises(ValueError, match="^f: delta is .*expected"):
        notation.scalar("f", "delta", value, above=0)


def test_closed_and_open_ends():
    assert notation.scalar("f", "x", 0, least=0, most=1) == 0.0
    assert notation.scalar("f", "x", np.float32(1), least=0, most=1) == 1.0
    for ends in ({"above": 0}, {"below": 0}):
        with pytest.raises(ValueError, match="expected a number [<>] 0"):
            notation.scalar("f", "x", 0, **ends)


@pytest.mark.parametrize("value", [0, -3, 1.0, True, "2", None])
def test_counts_are_positive_integers(value):
    with pytest.raises(ValueError, match="^f: n is .*expected an integer >= 1"):
        notation.count("f", "n", value)
    assert notation.count("f", "n", np.int64(2)) == 2


def test_choices_are_listed():
    assert notation.choice("f", "rule", "a", ("a", "b")) == "a"
    with pytest.raises(ValueError, match="f: rule is 'c', expected one of 'a', 'b'"):
        notation.choice("f", "rule", "c", ("a", "b"))


def test_expectation_is_a_weighted_sum():
    assert notation.expectation(np.array([1.0, 3.0]), np.array([0.25, 0.75])) == 2.5
