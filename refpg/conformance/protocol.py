"""What the judge and a worker say to each other: JSON lines, one object a line, in UTF-8.

The judge writes to the worker's standard input, and the worker answers each line but ``bye`` by one line on its
standard output, at once and in order::

    {"kind": "hello", "id": 0, "protocol": 1, "refpg": "2026.1.0", "release": "2026.1"}
        {"kind": "hello", "id": 0, "protocol": 1, "name": "mine", "ops": ["ratio"], "dtype": "float64"}
    {"kind": "run", "id": 1, "case": "ratio/five", "op": "ratio", "dtype": "float64", "inputs": {…}}
        {"kind": "result", "id": 1, "outputs": {"ratio": [0.5, 1.25]}}
        {"kind": "skipped", "id": 1, "reason": "needs a GPU"}
        {"kind": "error", "id": 1, "message": "Traceback …"}
    {"kind": "bye"}

``hello`` may also say ``version``, ``unsupported``, ``conventions`` and ``notes``, which mean what they mean in a
Python adapter; ``error`` in place of ``hello`` says why the worker cannot work, with ``"usage": true`` if that is the
caller's business and not a crash.  ``printed`` (a text) and ``changed`` (names of the inputs that the call modified)
may be in any reply to ``run``.  A worker ends at ``bye``, or at the end of its input.  Standard error is free for
anything; its last lines are shown when the worker fails.

Numbers are exact: each is written with digits enough to be read back as the same float64, and inputs are always
finite.  In outputs, what JSON cannot write is ``"NaN"``, ``"Infinity"`` or ``"-Infinity"``, in quotes; ``null`` stands
for any of them.  An output of type int is written without point or exponent.  Inputs and outputs nest as the contract
has them.

A worker may offer the op ``echo``, which takes ``values`` and returns them; ``refpg smoke`` learns from it whether
numbers survive the way.  The same in JSON Schema: ``data/protocol``.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from refpg.notation import Array

PROTOCOL = 1
ECHO = "echo"

# The largest certified answer has 900 numbers; a wrong one may be larger, by some power.
MAX_LINE_BYTES = 4 << 20
MAX_DEPTH = 16

_SHOWN = 80
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

Message = dict[str, Any]


class ProtocolError(ValueError):
    """A line, or what it says, is not as documented."""


class _Form(NamedTuple):
    """The fields of one kind of message, each with its check and what is expected, in words."""

    required: Mapping[str, "_Field"]
    optional: Mapping[str, "_Field"]


class _Field(NamedTuple):
    holds: Callable[[Any], bool]
    words: str


def encode(message: Mapping[str, Any]) -> bytes:
    """Return the line of a message, ASCII only.

    Parameters
    ----------
    message : mapping
        Plain data, finite numbers only; see `plain`.

    Returns
    -------
    bytes

    Examples
    --------
    >>> encode({"kind": "result", "id": 3, "outputs": {"ratio": [0.1, 1.0]}})
    b'{"kind": "result", "id": 3, "outputs": {"ratio": [0.1, 1.0]}}\\n'
    """
    return json.dumps(message, allow_nan=False).encode("ascii") + b"\n"


def decode(line: bytes) -> Message:
    """Parse a line.

    Parameters
    ----------
    line : bytes
        With or without its end.

    Returns
    -------
    dict

    Raises
    ------
    ProtocolError
        If it is not one JSON object.
    """

    def refuse(word: str) -> float:
        raise ProtocolError(f'{word} is not JSON: write "NaN", "Infinity" or "-Infinity", in quotes')

    def unique(pairs: list[tuple[str, Any]]) -> Message:
        mapping = dict(pairs)
        if len(mapping) != len(pairs):
            raise ProtocolError(f"a key is there twice: {_shown(line)}")
        return mapping

    try:
        message = json.loads(line.decode("utf-8"), parse_constant=refuse, object_pairs_hook=unique)
    except ProtocolError:
        raise
    except (ValueError, RecursionError):
        raise ProtocolError(f"a line that is not JSON: {_shown(line)}") from None
    if not isinstance(message, dict):
        raise ProtocolError(f"a line that is not a JSON object: {_shown(line)}")
    return _whole(message) if b"\\ud" in line.lower() else message


def check_request(message: Mapping[str, Any]) -> None:
    """Raise `ProtocolError` unless a message is one that a judge may send."""
    _check(message, _REQUESTS)


def check_reply(message: Mapping[str, Any], kinds: Iterable[str]) -> None:
    """Raise `ProtocolError` unless a message is one that a worker may send, and of one of the kinds."""
    _check(message, {kind: _REPLIES[kind] for kind in kinds})


def plain(value: Any) -> Any:
    """Return arrays as nested lists, and numbers that are not finite as words.

    Parameters
    ----------
    value : Any
        Arrays, numbers, texts, and mappings and sequences of them.

    Returns
    -------
    Any
        What JSON can hold.

    Examples
    --------
    >>> import numpy as np
    >>> plain({"ratio": np.array([0.1, np.inf]), "accepted": np.int64(2)})
    {'ratio': [0.1, 'Infinity'], 'accepted': 2}
    """
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def numbers_of(value: Any) -> Any:
    """Return what `plain` made of numbers as numbers again; lists stay lists.

    Parameters
    ----------
    value : Any
        The outputs of a reply that `check_reply` has passed.

    Returns
    -------
    Any

    Examples
    --------
    >>> numbers_of({"ratio": [0.1, "-Infinity", None]})
    {'ratio': [0.1, -inf, nan]}
    """
    if isinstance(value, dict):
        return {key: numbers_of(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [numbers_of(inner) for inner in value]
    return math.nan if value is None else _NOT_FINITE.get(value, value) if isinstance(value, str) else value


def nested(leaves: Mapping[str, Array]) -> dict[str, Any]:
    """Return the outputs that flatten to the leaves: parameters as layers again.

    Parameters
    ----------
    leaves : mapping of str to array
        By leaf path, layers in order.

    Returns
    -------
    dict

    Examples
    --------
    >>> nested({"x": 1.0, "step.layers[0].W": 2.0, "step.layers[0].b": 3.0, "step.log_std": 4.0})
    {'x': 1.0, 'step': {'layers': [{'W': 2.0, 'b': 3.0}], 'log_std': 4.0}}
    """
    outputs: dict[str, Any] = {}
    for path, value in leaves.items():
        name, _, inside = path.partition(".")
        if not inside:
            outputs[name] = value
            continue
        parameters = outputs.setdefault(name, {"layers": []})
        place, _, letter = inside.partition("].")
        if not letter:
            parameters[inside] = value
            continue
        i = int(place.removeprefix("layers["))
        if i == len(parameters["layers"]):
            parameters["layers"].append({})
        parameters["layers"][i][letter] = value
    return outputs


def _whole(value: Any) -> Any:
    """Return the same with every half of a surrogate pair replaced: texts are printed and written to files."""
    if isinstance(value, dict):
        return {_whole(key): _whole(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_whole(inner) for inner in value]
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else value


def _check(message: Mapping[str, Any], forms: Mapping[str, _Form]) -> None:
    kind = message.get("kind")
    if not isinstance(kind, str) or kind not in forms:
        raise ProtocolError(f"kind is {_shown(kind)}, expected {' or '.join(forms)}")
    required, optional = forms[kind]
    for name in required:
        if name not in message:
            raise ProtocolError(f"{kind} lacks {name}: {required[name].words}")
    for name, value in message.items():
        if name == "kind":
            continue
        known = required.get(name) or optional.get(name)
        if known is None:
            raise ProtocolError(f"{kind} has an unknown field {_shown(name)}")
        if not known.holds(value):
            raise ProtocolError(f"{kind}.{name} is {_shown(value)}, expected {known.words}")


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, bytes) else repr(value.decode("utf-8", "replace").rstrip("\r\n"))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} …"


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_filled(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_count(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 and value == value // 1


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _maps_to_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value.values()))


def _are_values(value: Any, depth: int = MAX_DEPTH) -> bool:
    if isinstance(value, dict | list):
        return depth > 0 and all(_are_values(inner, depth - 1) for inner in _entries(value))
    if isinstance(value, str):
        return value in _NOT_FINITE
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _entries(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


_ID = {"id": _Field(_is_count, "the id of the request")}
_VERSION = {"protocol": _Field(lambda value: value == PROTOCOL and not isinstance(value, bool), f"{PROTOCOL}")}
_TEXT = _Field(_is_text, "a text")
_FILLED = _Field(_is_filled, "a text that says something")
_MAPPING = _Field(_maps_to_texts, "a mapping to texts")
_ASIDE = {"printed": _TEXT, "changed": _Field(_are_texts, "a list of names of inputs")}

_REQUESTS = {
    "hello": _Form(_ID | _VERSION | {"refpg": _FILLED, "release": _FILLED}, {}),
    "run": _Form(
        _ID
        | {"case": _FILLED, "op": _FILLED, "dtype": _FILLED}
        | {"inputs": _Field(lambda value: isinstance(value, dict), "a mapping")},
        {},
    ),
    "bye": _Form({}, {}),
}
_REPLIES = {
    "hello": _Form(
        _ID | _VERSION | {"name": _FILLED, "ops": _Field(_are_texts, "a list of names of ops")},
        {
            "version": _TEXT,
            "unsupported": _MAPPING,
            "conventions": _MAPPING,
            "dtype": _Field(lambda value: _is_text(value) or _maps_to_texts(value), "a text, or a mapping to texts"),
            "notes": _Field(_are_texts, "a list of texts"),
        },
    ),
    "result": _Form(
        _ID
        | {
            "outputs": _Field(
                lambda value: isinstance(value, dict) and _are_values(value),
                'a mapping that nests numbers, "NaN", "Infinity", "-Infinity" and null',
            )
        },
        _ASIDE,
    ),
    "skipped": _Form(_ID | {"reason": _FILLED}, _ASIDE),
    "error": _Form(_ID | {"message": _FILLED}, _ASIDE | {"usage": _Field(lambda v: isinstance(v, bool), "a boolean")}),
}
