"""Whether a release is valid, decided without the loader: another JSON reader, the JSON Schemas, and a re-check.

What a schema cannot say is checked here from the contract: that the bits are those of the value, that shapes and counts
agree, that names refer to something.  Nothing of `refpg.conformance.vectors` or `signatures` is used; of refpg only the
table of ops.
"""

import datetime
import hashlib
import json
import re
import struct
from collections.abc import Mapping
from functools import lru_cache
from math import isinf, prod
from pathlib import Path
from typing import Any

import jsonschema

from refpg.conformance.ops import OPS, Op

SCHEMAS = Path(__file__).parents[2] / "refpg" / "conformance" / "data" / "schema"
SMALL = 1 << 20
DEEPEST = 32
EXACT = 2**53


class Invalid(Exception):
    """The first reason why a release is not valid."""


def reason(files: Mapping[str, bytes], release: str) -> str:
    """Return why the release is not valid, or an empty text if it is."""
    try:
        check_release(files, release)
    except Invalid as invalid:
        return str(invalid) or "invalid"
    return ""


def check_release(files: Mapping[str, bytes], release: str) -> None:
    """Raise `Invalid` unless every file is there, as its schema says, and in agreement with the others."""
    bugs = document(files, "bugs.json", "bugs")["bugs"]
    policy = document(files, "policy.json", "policy")
    axes = document(files, "conventions.json", "conventions")["axes"]
    errata = document(files, "errata.json", "errata")["errata"]
    index = document(files, f"{release}/index.json", "index")
    _demand(all(axis["default"] in axis["values"] for axis in axes.values()), "a default is no value")
    _demand(all(axis in axes for op in OPS.values() for axis in op.conventions), "an axis of the contract is missing")
    _demand(index["release"] == release, "another release")
    for entry in index["knowledge"]:
        content = files.get(entry["name"], b"")
        _demand(len(content) == entry["bytes"], "another size")
        _demand(hashlib.sha256(content).hexdigest() == entry["sha256"], "another hash")
    names = [entry["name"] for entry in index["files"]]
    _demand(len(set(names)) == len(names), "a file is listed twice")
    revisions: dict[str, int] = {}
    for entry in index["files"]:
        op = OPS.get(entry["name"][: -len(".json")])
        _demand(op is not None, "a file of no op")
        assert op is not None
        content = files.get(f"{release}/{entry['name']}", b"")
        _demand(len(content) == entry["bytes"], "another size")
        _demand(hashlib.sha256(content).hexdigest() == entry["sha256"], "another hash")
        cases = _valid(content, "op")
        _demand(cases["op"] == op.name and len(cases["cases"]) == entry["cases"], "another op, another count")
        for case in cases["cases"]:
            _demand(case["id"] not in revisions, "an id twice")
            _demand(case["id"].split("/")[0] == op.name, "an id of another op")
            revisions[case["id"]] = case["rev"]
            check_case(op, case, axes, set(bugs), set(policy["unit_roundoff"]))
    _check_errata(errata, revisions)


def document(files: Mapping[str, bytes], name: str, schema: str) -> Any:
    """Return the content of a small file that is as its schema says."""
    content = files.get(name, b"")
    _demand(len(content) <= SMALL or schema == "bugs", "too large")
    return _valid_again(content, schema)


@lru_cache(maxsize=1024)
def _valid_again(content: bytes, schema: str) -> Any:
    return _valid(content, schema)


def _valid(content: bytes, schema: str) -> Any:
    value = strict_json(content)
    _demand(validator(schema).is_valid(value), f"not as {schema}.schema.json says")
    return value


@lru_cache
def validator(name: str) -> Any:
    """Return the validator of a schema, for which an integer is a number written without a point."""
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8"))
    base = jsonschema.Draft202012Validator
    checker = base.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    return jsonschema.validators.extend(base, type_checker=checker)(schema)


def _demand(condition: bool, why: str) -> None:
    if not condition:
        raise Invalid(why)


# ── JSON ────────────────────────────────────────────────────────────────────────────────────────────────────────────

_TOKEN = re.compile(
    r"[ \t\n\r]*+(?:"
    r"(?P<mark>[{}\[\],:])"
    r'|"(?P<text>(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+)"'
    r"|(?P<number>-?(?:0|[1-9][0-9]*+)(?P<real>(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?))"
    r"|(?P<word>true|false|null))"
)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))")
_ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_WORDS = {"true": True, "false": False, "null": None}


def strict_json(content: bytes) -> Any:
    """Parse JSON by its grammar; refuse what two readers could understand differently."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise Invalid("not UTF-8") from None
    value, position = _parse(text, 0, 0)
    _demand(not text[position:].strip(" \t\n\r"), "something after the value")
    return value


def _parse(text: str, position: int, depth: int) -> tuple[Any, int]:
    _demand(depth <= DEEPEST, "too deep")
    token = _next(text, position)
    position = token.end()
    if token["number"] is not None:
        return _number(token["number"], token["real"]), position
    if token["text"] is not None:
        return _text(token["text"]), position
    if token["word"] is not None:
        return _WORDS[token["word"]], position
    if token["mark"] not in "{[":
        raise Invalid("a mark where a value should be")
    is_mapping = token["mark"] == "{"
    end = "}" if is_mapping else "]"
    mapping: dict[str, Any] = {}
    values: list[Any] = []
    following = _next(text, position)
    if following["mark"] == end:
        return (mapping if is_mapping else values), following.end()
    while True:
        if is_mapping:
            key, position = _parse(text, position, depth + 1)
            colon = _next(text, position)
            _demand(isinstance(key, str) and key not in mapping and colon["mark"] == ":", "a key amiss, or twice")
            mapping[key], position = _parse(text, colon.end(), depth + 1)
        else:
            value, position = _parse(text, position, depth + 1)
            values.append(value)
        following = _next(text, position)
        position = following.end()
        if following["mark"] == end:
            return (mapping if is_mapping else values), position
        _demand(following["mark"] == ",", "no comma")


def _next(text: str, position: int) -> re.Match[str]:
    token = _TOKEN.match(text, position)
    if token is None:
        raise Invalid("not JSON")
    return token


def _number(text: str, real: str) -> int | float:
    if not real:
        _demand(len(text.lstrip("-")) <= 16 and abs(int(text)) <= EXACT, "an integer beyond ±2^53")
        return int(text)
    value = float(text)
    _demand(not isinf(value), "overflow")
    _demand(value != 0 or not re.search("[1-9]", re.split("[eE]", text)[0]), "underflow")
    return value


def _text(escaped: str) -> str:
    plain = _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else _ESCAPED.get(m[2], m[2]), escaped)
    try:
        return plain.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError:
        raise Invalid("half of a surrogate pair") from None


# ── One case ────────────────────────────────────────────────────────────────────────────────────────────────────────

Layout = list[tuple[str, list[int]]]


def check_case(op: Op, case: Any, axes: Any, bugs: set[str], dtypes: set[str]) -> None:
    """Raise `Invalid` unless a case that its schema accepts agrees with the contract and with itself."""
    lengths = _lengths(op, case["inputs"])
    _demand(all(lengths.get(letter) == length for letter, length in case["dims"].items()), "other dims")
    leaves = _leaves(op, case["inputs"], lengths)
    certified = []
    for entry in case["expected"]:
        certified.append(_effective(op, entry["conventions"], axes))
        _demand(set(entry["outputs"]) == set(leaves), "other outputs")
        for path, leaf in entry["outputs"].items():
            _check_leaf(leaf, *leaves[path])
    _demand(not certified[0], "the first answer is not the default one")
    _demand(all(certified.count(one) == 1 for one in certified), "two answers under the same conventions")
    told = []
    for entry in case["wrong"]:
        _demand(entry["bug"] in bugs, "an unknown bug")
        for conventions in entry["conventions"]:
            told.append((entry["bug"], _effective(op, conventions, axes)))
            _demand(told[-1][1] in certified, "wrong under conventions without a certified answer")
        for path, leaf in entry["outputs"].items():
            _demand(path in leaves and len(leaf["value"]) == prod(leaf["shape"]), "a wrong leaf amiss")
            _demand(leaves[path][0] != "int" or all(type(v) is int for v in leaf["value"]), "not an integer")
    _demand(all(told.count(one) == 1 for one in told), "a bug twice under the same conventions")
    _demand(set(case["resolves"]) <= dtypes, "an unknown dtype")


def _effective(op: Op, conventions: Any, axes: Any) -> dict[str, str]:
    for axis, value in conventions.items():
        _demand(axis in op.conventions and value in axes[axis]["values"], "an unknown convention")
    return {axis: value for axis, value in conventions.items() if value != axes[axis]["default"]}


def _check_leaf(leaf: Any, kind: str, shape: list[int]) -> None:
    _demand(("exact" in leaf) == (kind == "int"), "exact where it is not, or the reverse")
    _demand(leaf["shape"] == shape and len(leaf["value"]) == prod(shape), "another shape")
    if kind == "float":
        _demand(len(leaf["bits"]) == len(leaf["R"]) == len(leaf["value"]), "another count")
        same = all(struct.pack(">d", v).hex() == b for v, b in zip(leaf["value"], leaf["bits"], strict=True))
        _demand(same, "value and bits differ")


def _lengths(op: Op, inputs: Any) -> dict[str, int]:
    """Return the length of each letter of the contract."""
    _demand(set(inputs) == set(op.inputs), "other inputs")
    lengths: dict[str, int] = {}
    kinds = {name: text.partition("[")[0] for name, text in op.inputs.items()}
    layouts = {name: _layout(inputs[name], kind) for name, kind in kinds.items() if kind in _NETWORKS}
    policies = [name for name, kind in kinds.items() if kind == "policy"]
    alike = [layouts[name] for name, kind in kinds.items() if kind in ("policy", "parameters")]
    _demand(all(layout == alike[0] for layout in alike), "parameters of different layouts")
    for name, text in op.inputs.items():
        if name in layouts:
            continue
        letters = re.findall("[A-Z]", text)
        kind = kinds[name]
        if kind == "actions":
            gaussian = inputs[policies[0]]["distribution"] == "diagonal_gaussian"
            kind, letters = ("float", [*letters, "A"]) if gaussian else ("int", letters)
        shapes = [_shape(inputs[name], kind)] if "*" not in text else _ragged(inputs[name], kind)
        for shape in shapes:
            _demand(len(shape) == len(letters), "another number of axes")
            for letter, length in zip(letters, shape, strict=True):
                _demand(lengths.setdefault(letter, length) == length, "lengths that differ")
    for name, layout in layouts.items():
        if kinds[name] != "parameters":
            _demand(layout[0][1][0] == lengths["D"], "another number of features")
    if policies:
        outputs = len(inputs[policies[0]]["layers"][-1]["b"])
        _demand(lengths.get("A", outputs) == outputs, "actions of another width")
        lengths["P"] = sum(prod(shape) for _, shape in layouts[policies[0]])
    elif "network" in inputs:
        lengths["K"] = len(inputs["network"]["layers"][-1]["b"])
    elif op.profile == "distributions" and "K" not in lengths:
        lengths["K"] = (2 if "gaussian" in op.name else 1) * lengths["A"]
    return lengths


_NETWORKS = ("network", "policy", "parameters")


def _layout(value: Any, kind: str) -> Layout:
    """Return name and shape of each array of a network, in order, if its layers fit together."""
    _demand(isinstance(value, dict), "not a network")
    words = {"policy": {"activation", "distribution"}, "network": {"activation"}, "parameters": set()}[kind]
    _demand(set(value) - {"layers", "log_std"} == words, "another kind of network")
    layout: Layout = []
    width = None
    for i, layer in enumerate(value["layers"]):
        shape = _shape(layer["W"], "float")
        _demand(len(shape) == 2 and shape[0] == (width or shape[0]), "layers that do not fit")
        width = shape[1]
        _demand(len(layer["b"]) == width, "a bias that does not fit")
        layout += [(f"layers[{i}].W", shape), (f"layers[{i}].b", [width])]
    if "log_std" in value:
        _demand(len(value["log_std"]) == width, "a log_std that does not fit")
        layout.append(("log_std", [len(value["log_std"])]))
    return layout


_KINDS: dict[str, tuple[type, ...]] = {"float": (int, float), "int": (int,), "bool": (bool,)}


def _shape(value: Any, kind: str) -> list[int]:
    if not isinstance(value, list):
        _demand(type(value) in _KINDS[kind], f"not {kind}")
        return []
    shapes = [_shape(inner, kind) for inner in value]
    _demand(all(shape == shapes[0] for shape in shapes), "ragged")
    return [len(value), *shapes[0]]


def _ragged(value: Any, kind: str) -> list[list[int]]:
    _demand(isinstance(value, list), "not a list of lists")
    _demand(all(isinstance(row, list) and len(_shape(row, kind)) == 1 for row in value), "not a list of lists")
    return [[len(value)]]


def _leaves(op: Op, inputs: Any, lengths: dict[str, int]) -> dict[str, tuple[str, list[int]]]:
    leaves: dict[str, tuple[str, list[int]]] = {}
    for name, text in op.outputs.items():
        kind = text.partition("[")[0]
        if kind == "parameters":
            owner = next(n for n, t in op.inputs.items() if t in ("policy", "parameters"))
            owner = "value_network" if name.startswith("value_") else owner
            layout = _layout(inputs[owner], op.inputs[owner])
            leaves |= {f"{name}.{path}": ("float", shape) for path, shape in layout}
        else:
            leaves[name] = kind, [lengths[letter] for letter in re.findall("[A-Z]", text)]
    return leaves


def _check_errata(errata: Any, revisions: Mapping[str, int]) -> None:
    listed = [(entry["case"], entry["rev"]) for entry in errata]
    _demand(len(set(listed)) == len(listed), "an erratum twice")
    for entry in errata:
        try:
            datetime.datetime.strptime(entry["date"], "%Y-%m-%d")
        except ValueError:
            raise Invalid("not a day") from None
        if entry["case"] in revisions:
            corrected = entry["what"] == "corrected" and revisions[entry["case"]] > entry["rev"]
            _demand(corrected, "a case that was withdrawn, or in the revision that was wrong")
