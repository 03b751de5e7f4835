"""One case, one function, one verdict.

The function gets copies of the inputs in the precision it declares.  Whatever it does is caught: an exception, an
answer of another form, inputs changed under our feet are errors of the harness, told apart from wrong mathematics.
What it returns is flattened to leaves, and each leaf must have the certified shape — nothing is ever broadcast — be
finite, and lie within the tolerance.
"""

import contextlib
import inspect
import io
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np

from refpg.conformance.ops import OPS
from refpg.conformance.signatures import Shape, output_of, parameter_leaves, parse_type
from refpg.conformance.tolerance import tolerances
from refpg.conformance.vectors import Case, Expected, TolerancePolicy
from refpg.notation import Array

_DTYPES = {"float64": np.float64, "float32": np.float32, "float16": np.float16}
PRINTED_CHARACTERS = 2000


class Verdict(Enum):
    """What can be said about a case; the value is how it is printed."""

    CONFORMS = "CONFORMS"
    IMPRECISE = "IMPRECISE"
    WRONG = "WRONG"
    UNSUPPORTED = "UNSUPPORTED"
    UNDECLARED = "UNDECLARED"
    NOT_ASKED = "NOT ASKED"
    NOT_RESOLVED = "NOT RESOLVED"
    NO_EXPECTED = "NO EXPECTED VALUE"
    HARNESS_ERROR = "HARNESS ERROR"
    WAIVED = "WAIVED"


# What a waiver excuses was called too, but does not count as executed: it makes nothing green.
EXECUTED = (Verdict.CONFORMS, Verdict.IMPRECISE, Verdict.WRONG, Verdict.HARNESS_ERROR)
CALLED = (*EXECUTED, Verdict.WAIVED)


@dataclass(frozen=True)
class Comparison:
    """One leaf compared.

    Fields: ``path`` of the leaf; ``got`` what was returned; ``certified``; ``tolerance`` by entry, zero where integers
    are ``exact``; ``worst`` error in tolerances, infinite for another shape and for what is not finite.
    """

    path: str
    got: Array
    certified: Array
    tolerance: Array
    exact: bool
    worst: float

    @property
    def same_shape(self) -> bool:
        """Whether the shape is the certified one."""
        return self.got.shape == self.certified.shape

    def wrong_entries(self) -> Array:
        """Return the indices (n, ndim) of the entries outside the tolerance."""
        if not self.same_shape:
            return np.empty((0, self.got.ndim), dtype=np.int64)
        return np.argwhere(~(entry_errors(self.got, self.certified) <= self.tolerance))


@dataclass(frozen=True)
class Outcome:
    """The verdict on one case under some conventions, with all that a report or a diagnosis needs.

    Fields: ``case`` and ``op`` by name; ``verdict``; ``dtype`` it was judged by; ``conventions`` other than the
    defaults; ``worst`` error in tolerances, NaN if nothing was compared; ``comparisons`` of the leaves; ``message``,
    the reason or the traceback; ``printed`` by the function to standard output; ``changed``, the inputs it modified;
    ``excused``, what a waived one would be without its waiver.
    """

    case: str
    op: str
    verdict: Verdict
    dtype: str = ""
    conventions: Mapping[str, str] = field(default_factory=dict)
    worst: float = float("nan")
    comparisons: tuple[Comparison, ...] = ()
    message: str = ""
    printed: str = ""
    changed: tuple[str, ...] = ()
    excused: Verdict | None = None


class InvalidAnswer(ValueError):
    """An answer of another form than the contract says; no mathematics can be judged."""


@dataclass(frozen=True)
class Reply:
    """What came of one call.

    Fields: ``leaves`` of the answer, None if there is none; else ``skipped``, the reason why there cannot be one, or
    ``error``, a message or a traceback.  ``printed`` to standard output meanwhile; ``changed``, the inputs modified.
    """

    leaves: Mapping[str, Array] | None = None
    skipped: str = ""
    error: str = ""
    printed: str = ""
    changed: tuple[str, ...] = ()


def judge(case: Case, expected: Expected, function: Callable[..., Any], dtype: str, policy: TolerancePolicy) -> Outcome:
    """Call a function on the inputs of a case and compare its answer with the certified one.

    Parameters
    ----------
    case : Case
        The case.
    expected : Expected
        The certified answer under the conventions of the function.
    function : callable
        Takes the inputs as keywords.
    dtype : str
        The precision of the float arrays it is given, and by which it is judged.
    policy : TolerancePolicy
        The constants of the tolerance.

    Returns
    -------
    Outcome
        CONFORMS, IMPRECISE, WRONG or HARNESS_ERROR; UNSUPPORTED if the function raises
        ``NotImplementedError(reason)``.
    """
    return verdict_on(case, expected, call(case.op, function, case.inputs, case.shapes, dtype), dtype, policy)


def call(
    op: str, function: Callable[..., Any], inputs: Mapping[str, Any], shapes: Mapping[str, Shape], dtype: str
) -> Reply:
    """Call a function on copies of the inputs, and catch whatever it does.

    Parameters
    ----------
    op : str
        The operation.
    function : callable
        Takes the inputs as keywords.
    inputs : mapping
        As `refpg.conformance.signatures.read_inputs` has them.
    shapes : mapping of str to Shape
        The leaves of an answer.
    dtype : str
        The precision of the float arrays it is given.

    Returns
    -------
    Reply
        Skipped if the function raises ``NotImplementedError(reason)``.
    """
    given, pristine = native(inputs, dtype), native(inputs, dtype)
    printed = _Printed()

    def reply(**what: Any) -> Reply:
        changed = tuple(name for name in pristine if not _identical(given[name], pristine[name]))
        return Reply(**what, printed=printed.text, changed=changed)

    try:
        with contextlib.redirect_stdout(printed):
            # The function gets its own mapping: it may pop from it.
            return reply(leaves=flatten(op, function(**dict(given)), shapes))
    except NotImplementedError as error:
        if str(error):
            return reply(skipped=str(error))
        return reply(error="NotImplementedError without a reason")
    except InvalidAnswer as error:
        return reply(error=str(error))
    except (Exception, SystemExit) as error:
        return reply(error=_traceback() + (_takes(op, function, given) if isinstance(error, TypeError) else ""))


def verdict_on(case: Case, expected: Expected, reply: Reply, dtype: str, policy: TolerancePolicy) -> Outcome:
    """Compare what came of a call with the certified answer.

    Parameters
    ----------
    case, expected
        As in `judge`.
    reply : Reply
        From `call`, or from a worker.
    dtype, policy
        As in `judge`.

    Returns
    -------
    Outcome
        As in `judge`.

    Notes
    -----
    IMPRECISE means that more than half of the digits are right: every error is at most √u · max|y| of its leaf.  The
    diagnosis turns it into WRONG where the answer is that of a known bug or of another convention.
    """

    def outcome(verdict: Verdict, **more: Any) -> Outcome:
        under = expected.conventions
        return Outcome(
            case.id, case.op, verdict, dtype, under, printed=reply.printed, changed=reply.changed, **more
        )

    if reply.leaves is None:
        if reply.skipped:
            return outcome(Verdict.UNSUPPORTED, message=reply.skipped)
        return outcome(Verdict.HARNESS_ERROR, message=reply.error)
    comparisons = compare(reply.leaves, expected, dtype, policy)
    worst = max(comparison.worst for comparison in comparisons)
    if worst > 1:
        half = _half_the_digits(comparisons, policy.unit_roundoff[dtype])
        return outcome(Verdict.IMPRECISE if half else Verdict.WRONG, worst=worst, comparisons=comparisons)
    if reply.changed:
        message = f"the answer is right, but the call changed its inputs: {', '.join(reply.changed)}"
        return outcome(Verdict.HARNESS_ERROR, worst=worst, comparisons=comparisons, message=message)
    return outcome(Verdict.CONFORMS, worst=worst, comparisons=comparisons)


def compare(
    leaves: Mapping[str, Array], expected: Expected, dtype: str, policy: TolerancePolicy
) -> tuple[Comparison, ...]:
    """Compare every leaf of an answer with the certified one.

    Parameters
    ----------
    leaves : mapping of str to array
        From `flatten`.
    expected : Expected
        The certified answer.
    dtype, policy
        As in `judge`.

    Returns
    -------
    tuple of Comparison
        One per certified leaf, in order.
    """
    tolerance = tolerances(expected.outputs, dtype, policy)
    return tuple(
        Comparison(
            path,
            leaves[path],
            leaf.value,
            tolerance[path],
            leaf.exact,
            worst_error(leaves[path], leaf.value, tolerance[path]),
        )
        for path, leaf in expected.outputs.items()
    )


def entry_errors(got: Array, certified: Array) -> Array:
    """Return |got − certified| entry by entry, infinite where it is not a number.

    Examples
    --------
    >>> import numpy as np
    >>> entry_errors(np.array([1.5, np.nan]), np.array([2.0, 1.0]))
    array([0.5, inf])
    """
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(got.astype(np.float64) - certified)
    return np.where(np.isfinite(got) & np.isfinite(error), error, np.inf)


def worst_error(got: Array, certified: Array, tolerance: Array) -> float:
    """Return the largest error in tolerances; infinite if the shapes differ, NaN occurs, or a zero tolerance is missed.

    ::

        max_i |got_i − y_i| / tol_i,    0/0 = 0

    Examples
    --------
    >>> import numpy as np
    >>> worst_error(np.array([1.0, 2.0]), np.array([1.0, 2.5]), np.array([0.0, 0.25]))
    2.0
    >>> worst_error(np.ones((2, 1)), np.ones(2), np.ones(2))
    inf
    """
    if got.shape != certified.shape:
        return float("inf")
    error = entry_errors(got, certified)
    missed = np.where(error == 0, 0.0, np.inf)
    with np.errstate(over="ignore"):
        ratio = np.divide(error, tolerance, out=missed, where=np.isfinite(error) & (tolerance > 0))
    return float(ratio.max())


def native(inputs: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """Return fresh, writable copies of the inputs, float arrays in the dtype.

    Parameters
    ----------
    inputs : mapping
        Read-only inputs of a case.
    dtype : str
        ``"float64"`` or ``"float32"``; vectors that resolve a dtype have inputs that are exact in it.

    Returns
    -------
    dict
        Arrays, Python scalars, and mappings and lists of arrays.
    """
    return {name: _native(value, np.dtype(_DTYPES[dtype])) for name, value in inputs.items()}


def flatten(op: str, answer: Any, shapes: Mapping[str, Shape]) -> dict[str, Array]:
    """Turn what a function returned into leaves of float64 or int64.

    Parameters
    ----------
    op : str
        The operation.
    answer : Any
        A mapping or a named tuple of the outputs, or the bare output of an op that has one.
    shapes : mapping of str to Shape
        The leaves expected; shapes are not enforced here, kinds are.

    Returns
    -------
    dict of str to array
        Leaf path → array.

    Raises
    ------
    InvalidAnswer
        If an output is missing or unknown, or is not numbers of the right kind.
    """
    outputs = OPS[op].outputs
    if answer is None:
        raise InvalidAnswer(f"{op} returned None: is a `return` missing?")
    if hasattr(answer, "_asdict"):
        answer = answer._asdict()
    if isinstance(answer, Mapping) and set(answer) == set(outputs):
        named = dict(answer)
    elif len(outputs) == 1:
        named = {next(iter(outputs)): answer}
    else:
        what = f"a mapping with {_some(answer)}" if isinstance(answer, Mapping) else f"a {type(answer).__name__}"
        form = ", ".join(f'"{name}": …' for name in outputs)
        raise InvalidAnswer(f"{op} returned {what}, expected a mapping with {_some(outputs)}: return {{{form}}}")
    leaves: dict[str, Any] = {}
    for name, text in outputs.items():
        if parse_type(text).kind == "parameters":
            leaves |= _parameter_leaves(op, name, named[name], [path for path in shapes if output_of(path) == name])
        else:
            leaves[name] = named[name]
    return {path: numbers(path, leaves[path], shapes[path].kind) for path in shapes}


def numbers(path: str, value: Any, kind: str) -> Array:
    """Turn an array, a tensor of any library, a number or nested lists into a float64 or int64 array.

    Parameters
    ----------
    path : str
        Named in the message.
    value : Any
        Tensors are detached, brought to the CPU, and read through ``__array__``.
    kind : {"float", "int"}
        Integers are accepted as floats; floats are not accepted as integers, nor booleans as either.

    Returns
    -------
    array

    Raises
    ------
    InvalidAnswer
        If it is not numbers of that kind.
    """
    try:
        for method in ("detach", "cpu"):
            if callable(getattr(value, method, None)):
                value = getattr(value, method)()
        array = np.asarray(value)
    except Exception as error:
        raise InvalidAnswer(f"{path} cannot be read as an array: {error}") from None
    if array.dtype.kind not in ("iu" if kind == "int" else "iuf"):
        raise InvalidAnswer(f"{path} holds {array.dtype}, expected {'integers' if kind == 'int' else 'real numbers'}")
    with np.errstate(over="ignore"):
        converted = np.array(array, dtype=np.int64 if kind == "int" else np.float64)
    if kind == "int" and (converted != array).any():  # a uint64 that wraps around
        raise InvalidAnswer(f"{path} holds an integer beyond int64")
    return converted


class _Printed(io.TextIOBase):
    """Standard output during a call: its first characters are kept, and it cannot be closed for good."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text[: PRINTED_CHARACTERS - len(self.text)]
        return len(text)


def _some(names: Any) -> str:
    return ", ".join(str(name)[:40] for name in list(names)[:8]) or "nothing"


def _parameter_leaves(op: str, name: str, value: Any, expected: list[str]) -> dict[str, Any]:
    if isinstance(value, Mapping) and set(value) == {name}:
        value = value[name]
    try:
        leaves = parameter_leaves(name, value)
    except Exception:
        raise InvalidAnswer(
            f"{op} returned {name} as a {type(value).__name__}, expected {{'layers': [{{'W', 'b'}}, ...]}} "
            "and 'log_std' where the policy has one"
        ) from None
    if set(leaves) != set(expected):
        missing = [path for path in expected if path not in leaves]
        unknown = [path for path in leaves if path not in expected]
        raise InvalidAnswer(f"{op} returned {name} without {_some(missing)}, with unexpected {_some(unknown)}")
    return leaves


def _half_the_digits(comparisons: tuple[Comparison, ...], u: float) -> bool:
    for comparison in comparisons:
        if comparison.worst <= 1:
            continue
        if comparison.exact or not comparison.same_shape:
            return False
        largest = np.abs(comparison.certified).max()
        if not (entry_errors(comparison.got, comparison.certified) <= np.sqrt(u) * largest).all():
            return False
    return True


def _native(value: Any, dtype: np.dtype[Any]) -> Any:
    if isinstance(value, np.ndarray):
        return value.astype(dtype) if value.dtype.kind == "f" else value.copy()
    if isinstance(value, Mapping):
        return {key: _native(inner, dtype) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [_native(inner, dtype) for inner in value]
    return value


def _identical(one: Any, other: Any) -> bool:
    if isinstance(other, np.ndarray):
        return (
            isinstance(one, np.ndarray)
            and one.dtype == other.dtype
            and one.shape == other.shape
            and one.tobytes() == other.tobytes()
        )
    if isinstance(other, dict):
        return isinstance(one, dict) and one.keys() == other.keys() and all(_identical(one[k], other[k]) for k in other)
    if isinstance(other, list):
        return isinstance(one, list) and len(one) == len(other) and all(map(_identical, one, other))
    return type(one) is type(other) and one == other


def _takes(op: str, function: Callable[..., Any], given: Mapping[str, Any]) -> str:
    """Return a line that says which names a function takes, if it cannot be called with those of the op."""
    try:
        signature = inspect.signature(function)
    except Exception:  # not every built-in function tells, and a signature may be anything
        return ""
    try:
        signature.bind(**given)
    except TypeError:
        nothing = inspect.Parameter.empty
        names = [one.replace(annotation=nothing, default=nothing) for one in signature.parameters.values()]
        yours = ", ".join(map(str, names))
        return f"\n{op} is called as {op}({', '.join(given)}); yours takes ({yours}): inputs are keywords"
    return ""


def _traceback() -> str:
    """Return the traceback of the exception being handled, without this file's own frames."""
    text = traceback.format_exc().splitlines()
    here = [i for i, line in enumerate(text) if f'"{__file__}"' in line]
    if here:
        after = next((i for i in range(here[-1] + 1, len(text)) if text[i].startswith("  File")), len(text) - 1)
        text = [text[0], *text[after:]]
    return "\n".join(text)
