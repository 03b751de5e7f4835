"""Small valid releases in memory: one op with one or two cases, every type of the contract, no mathematics.

The loader judges form, so the numbers are arbitrary: dyadic fractions, numbers of 17 digits, the extremes of float64.
"""

import hashlib
import json
import re
import struct
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

from refpg.conformance.ops import OPS, Op

RELEASE = "2026.1"
INDEX = f"{RELEASE}/index.json"
CONVENTIONS = (Path(__file__).parents[2] / "refpg" / "conformance" / "data" / "conventions.json").read_bytes()
AXES = json.loads(CONVENTIONS)["axes"]
DTYPES = {"float64": 2.0**-53, "float32": 2.0**-24}
BUGS = ("sign-flipped", "mean-is-sum")

_SHAPES = " ".join(shape for op in OPS.values() for shape in (*op.inputs.values(), *op.outputs.values()))
_LETTERS = sorted(set(re.findall("[A-Z]", _SHAPES)))
_WITH_CONVENTIONS = tuple(op for op in OPS.values() if op.conventions)

# The tree of each file by name; bytes are made of it when all edits are done.
Trees = dict[str, Any]


def release(random: Random, op: Op | None = None) -> Trees:
    """Return the files of a valid release with one op, as parsed JSON; the index is left to `sealed`."""
    op = op or random.choice((*OPS.values(), *_WITH_CONVENTIONS * 2))
    cases = [_case(op, f"{op.name}/{slug}", random) for slug in ("first-2x3", "second")[: random.choice((1, 1, 2))]]
    texts = dict.fromkeys(("wrong", "right", "effect", "hint", "exposes", "hides"), "some words — θ")
    entry = {"case": cases[0]["id"], "rev": 1, "date": "2026-01-31", "what": "corrected", "why": "a digit was lost"}
    gone = {"case": f"{op.name}/third", "rev": 2, "date": "2025-12-01", "what": "withdrawn", "why": "no power"}
    return {
        "conventions.json": {"schema": 1, "axes": json.loads(json.dumps(AXES))},
        "bugs.json": {"schema": 1, "bugs": {bug: {"title": "a title"} | texts | {"evidence": ["a#1"]} for bug in BUGS}},
        "policy.json": {"schema": 1, "factor": 16, "floor": 0.3, "unit_roundoff": dict(DTYPES), "text": "tolerance"},
        "errata.json": {"schema": 1, "errata": [entry, gone]},
        f"{RELEASE}/{op.name}.json": {"schema": 1, "op": op.name, "cases": cases},
    }


def op_path(files: Trees) -> str:
    """Return the name of the op's file."""
    return next(name for name in files if name.startswith(f"{RELEASE}/") and name != INDEX)


def index_of(files: Mapping[str, bytes], op: str, cases: int) -> dict[str, Any]:
    """Return the index that vouches for the file of an op and for the knowledge as they are."""
    entries = [
        {"name": name.rpartition("/")[2], "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        for name, content in files.items()
        if name not in (op, INDEX)
    ]
    entry = {
        "name": op.rpartition("/")[2],
        "sha256": hashlib.sha256(files[op]).hexdigest(),
        "bytes": len(files[op]),
        "cases": cases,
    }
    return {"schema": 1, "release": RELEASE, "status": "preview", "knowledge": entries, "files": [entry]}


def bits(value: float) -> str:
    """Return a float64 as 16 hexadecimal digits."""
    return struct.pack(">d", value).hex()


def number(random: Random) -> float:
    """Return a finite float64: mostly a short dyadic fraction, sometimes one with all its digits, or an extreme."""
    return random.choice(
        (
            random.randint(-64, 64) / 32,
            random.gauss(0, 1),
            random.gauss(0, 1) * 10.0 ** random.randint(-300, 300),
            random.choice((0.0, -0.0, 5e-324, -1.7976931348623157e308, 2.2250738585072014e-308)),
        )
    )


def _case(op: Op, identity: str, random: Random) -> dict[str, Any]:
    lengths = {letter: random.choice((1, 2, 2, 3)) for letter in _LETTERS}
    inputs = _inputs(op, lengths, random)
    shapes = _output_shapes(op, inputs, lengths)
    letters = {letter for kind in op.inputs.values() for letter in re.findall("[A-Z]", kind)}
    variants: list[dict[str, str]] = [{}]
    for axis in op.conventions[: random.randint(0, 2)]:
        default = AXES[axis]["default"]
        variants.append({axis: random.choice([value for value in AXES[axis]["values"] if value != default])})
        if random.random() < 0.3:
            variants[0] = {axis: default}  # the same as leaving it out
    expected = [
        {"conventions": dict(variant), "outputs": {path: _leaf(*shape, random) for path, shape in shapes.items()}}
        for variant in variants
    ]
    wrong = [
        {"bug": bug, "conventions": [dict(variant) for variant in group], "outputs": _wrong(shapes, random)}
        for bug in BUGS[: random.choice((0, 1, 2, 2))]
        for group in _groups(variants, random)
    ]
    return {
        "id": identity,
        "rev": 2,
        "title": "a title — θ",
        "purpose": "a purpose",
        "stability": random.random() < 0.2,
        "reference": op.source,
        "dims": {letter: lengths[letter] for letter in sorted(letters) if random.random() < 0.7},
        "inputs": inputs,
        "expected": expected,
        "wrong": wrong,
        "resolves": random.choice((["float64"], ["float64", "float32"])),
        "provenance": {"routes": ["by hand"], "precision_bits": 192}
        | random.choice(({}, {"agreement_bits": 180}, {"amplification": ["the sum", "the product"]})),
    }


def _inputs(op: Op, lengths: dict[str, int], random: Random) -> dict[str, Any]:
    gaussian = random.random() < 0.5
    widths = [lengths["D"], *[random.randint(1, 2)] * random.randint(0, 1), lengths["A"]]
    value_widths = [lengths["D"], 1]

    def drawn(kind: str) -> Any:
        if kind == "int":
            return random.randint(0, 3)
        return random.random() < 0.5 if kind == "bool" else number(random)

    def array(kind: str, shape: list[int]) -> Any:
        return [array(kind, shape[1:]) for _ in range(shape[0])] if shape else drawn(kind)

    def layers(sizes: list[int]) -> dict[str, Any]:
        return {"layers": [{"W": array("float", [n, m]), "b": array("float", [m])} for n, m in pairwise(sizes)]}

    def network(name: str, kind: str) -> dict[str, Any]:
        if kind == "network":
            sizes = value_widths if name == "value_network" else [lengths["D"], lengths["K"]]
            return layers(sizes) | {"activation": "tanh"}
        log_std = {"log_std": array("float", [lengths["A"]])} if gaussian else {}
        words = {"activation": "relu", "distribution": "diagonal_gaussian" if gaussian else "categorical"}
        return layers(widths) | (words if kind == "policy" else {}) | log_std

    inputs: dict[str, Any] = {}
    for name, text in op.inputs.items():
        kind, shape = text.partition("[")[0], [lengths[letter] for letter in re.findall("[A-Z]", text)]
        if kind in ("network", "policy", "parameters"):
            inputs[name] = network(name, kind)
        elif text.endswith("[*]"):
            inputs[name] = [array(kind, [random.randint(1, 3)]) for _ in range(shape[0])]
        elif kind == "actions":
            inputs[name] = array("float", [*shape, lengths["A"]]) if gaussian else array("int", shape)
        else:
            inputs[name] = array(kind, shape)
    if op.profile == "distributions" and "K" not in "".join(op.inputs.values()):
        lengths["K"] = lengths["A"] * (2 if "gaussian" in op.name else 1)
    if any(kind == "policy" for kind in op.inputs.values()):
        lengths["P"] = sum(n * m + m for n, m in pairwise(widths)) + gaussian * lengths["A"]
    return inputs


def _output_shapes(op: Op, inputs: dict[str, Any], lengths: dict[str, int]) -> dict[str, tuple[str, list[int]]]:
    shapes: dict[str, tuple[str, list[int]]] = {}
    for name, text in op.outputs.items():
        kind = text.partition("[")[0]
        if kind != "parameters":
            shapes[name] = kind, [lengths[letter] for letter in re.findall("[A-Z]", text)]
            continue
        first = next(value for value in inputs.values() if isinstance(value, dict))
        like = inputs["value_network"] if name.startswith("value_") else first
        for i, layer in enumerate(like["layers"]):
            shapes[f"{name}.layers[{i}].W"] = "float", [len(layer["W"]), len(layer["b"])]
            shapes[f"{name}.layers[{i}].b"] = "float", [len(layer["b"])]
        if "log_std" in like:
            shapes[f"{name}.log_std"] = "float", [len(like["log_std"])]
    return shapes


def _size(shape: list[int]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


def _leaf(kind: str, shape: list[int], random: Random) -> dict[str, Any]:
    if kind == "int":
        return {"shape": shape, "value": [random.randint(-3, 9) for _ in range(_size(shape))], "exact": True}
    values = [number(random) for _ in range(_size(shape))]
    return {
        "shape": shape,
        "value": values,
        "bits": [bits(value) for value in values],
        "radius": random.choice((0.0, 1e-57, 0)),
        "R": [random.choice((0, 0.5, 12.25)) for _ in values],
    }


def _groups(variants: list[dict[str, str]], random: Random) -> list[list[dict[str, str]]]:
    """Return some of the variants, in one group or in two."""
    some = random.sample(variants, random.randint(1, len(variants)))
    cut = random.randint(1, len(some))
    return [group for group in (some[:cut], some[cut:]) if group]


def _wrong(shapes: dict[str, tuple[str, list[int]]], random: Random) -> dict[str, Any]:
    paths = [path for path in shapes if random.random() < 0.7] or list(shapes)[:1]
    outputs = {}
    for path in paths:
        kind, shape = shapes[path]
        shape = random.choice((shape, shape, [*shape, 1], [2, 2]))
        drawn = [random.randint(0, 9) if kind == "int" else number(random) for _ in range(_size(shape))]
        lost = kind == "float" and random.random() < 0.2
        outputs[path] = {"shape": shape, "value": [None if lost and random.random() < 0.5 else v for v in drawn]}
    return outputs
