"""Certify every case of every profile, and lay the results out as the published files, byte for byte reproducible."""

import hashlib
import importlib
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from fnmatch import fnmatch
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from flint import arb

from refpg.conformance.ops import OPS, PROFILES, Op
from refpg.conformance.vectors import KNOWLEDGE
from refpg.files import write_whole
from verification.certify import amplification, balls, contract
from verification.certify.balls import Certified, Leaf
from verification.certify.cases import Case
from verification.certify.mistakes import Mistake

RELEASE = "2026.1"
DATA = Path(__file__).parents[2] / "refpg" / "conformance" / "data"
TEXTS = Path(__file__).parent / "mistakes"

FACTOR = 16
FLOOR = 0.3
UNIT_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24}
RESOLUTION = 0.05  # of the largest output: a coarser tolerance tells nothing
SEPARATION = 4  # tolerances between a listed wrong answer and the truth
AGREEMENT_BITS = 64  # two routes that agree less are two different formulas
ROUTE_PRECISION = 256

POLICY = {
    "schema": 1,
    "factor": FACTOR,
    "floor": FLOOR,
    "unit_roundoff": UNIT_ROUNDOFF,
    "text": "tol_i = factor · u · max(R_i, floor · max_j R_j) + ½ ulp(y_i): j over all entries of the output, "
    "u the unit roundoff of the dtype, ulp that of float64 at the certified value y_i.  R is the rms error of "
    "ordinary code in units of u, measured by Monte-Carlo arithmetic.  A case resolves a dtype when 16 · u · max R is "
    "at most 5 % of the largest output (where an output is zero throughout, this asks nothing) and every listed wrong "
    "answer is at least 4 tolerances away.",
}


class Profile(NamedTuple):
    """The five modules of one profile."""

    definitions: ModuleType
    mistakes: ModuleType
    textbook: ModuleType
    cases: ModuleType
    boundaries: ModuleType

    def all_cases(self) -> list[Case]:
        """Return the ordinary cases, then those at the boundaries."""
        return [*self.cases.CASES, *self.boundaries.CASES]


class Row(NamedTuple):
    """What the table says about one op."""

    op: str
    cases: int
    bits: int
    agreement: int | None
    ordinary: float
    routes: int
    wrong: int
    separation: float
    seconds: float


class Corpus(NamedTuple):
    """Everything generated: file name (relative to the data directory) to bytes, table rows, and what is amiss."""

    files: dict[str, bytes]
    rows: list[Row]
    problems: list[str]


def load_profile(name: str) -> Profile:
    """Import the five modules of a profile; ImportError if one does not exist."""
    return Profile(*(importlib.import_module(f"verification.certify.{part}.{name}") for part in Profile._fields))


def generate(only: str = "*", report: Callable[[Row], None] = lambda row: None) -> Corpus:
    """Certify all ops whose name matches, side by side, and collect what is amiss instead of stopping at it."""
    files: dict[str, bytes] = {}
    rows: list[Row] = []
    problems: list[str] = []
    used: set[str] = set()
    loaded: set[str] = set()
    for name in PROFILES:
        try:
            profile = load_profile(name)
        except ModuleNotFoundError as error:
            problems.append(f"profile {name}: {error}")
            continue
        used |= {mistake.bug for mistake in profile.mistakes.MISTAKES}
        problems += [f"profile {name}: {problem}" for problem in _incomplete(name, profile)]
        loaded.add(name)
    wanted = [op.name for op in OPS.values() if op.profile in loaded and fnmatch(op.name, only)]
    # A process per op: radii of integrals depend on what FLINT has computed and kept before.
    with ProcessPoolExecutor(mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        started = {op: pool.submit(_certified, op) for op in reversed(wanted)}  # the longest are the last
        for op in wanted:
            try:
                text, row, amiss = started[op].result()
            except Exception as error:
                problems.append(f"{op}: {type(error).__name__}: {error}")
                continue
            problems += [f"{op}: {problem}" for problem in amiss]
            files[f"{RELEASE}/{op}.json"] = text
            rows.append(row)
            report(row)
    files["policy.json"] = layout(POLICY)
    texts, amiss = bug_texts(used)
    problems += amiss
    files["bugs.json"] = layout({"schema": 1, "bugs": texts})
    files[f"{RELEASE}/index.json"] = layout(_index(files))
    return Corpus(dict(sorted(files.items())), rows, problems)


def _certified(name: str) -> tuple[bytes, Row, list[str]]:
    op = OPS[name]
    document, row, amiss = certify_op(op, load_profile(op.profile))
    return layout(document), row, amiss


def _incomplete(name: str, profile: Profile) -> Iterator[str]:
    ops = {op.name for op in OPS.values() if op.profile == name}
    for part, found in (
        ("definition", set(profile.definitions.DEFINITIONS)),
        ("second route", {op for op, routes in profile.definitions.ROUTES.items() if routes}),
        ("textbook code", set(profile.textbook.TEXTBOOK)),
        ("case", {case.op for case in profile.all_cases()}),
        ("mistake", {mistake.op for mistake in profile.mistakes.MISTAKES}),
    ):
        for op in sorted(ops - found):
            yield f"{op} has no {part}"
        for op in sorted(found - ops):
            yield f"{op} has a {part} but is no op of this profile"
    ids = [(case.op, case.slug) for case in profile.all_cases()]
    for twice in sorted({one for one in ids if ids.count(one) > 1}):
        yield f"two cases are called {twice[0]}/{twice[1]}"


# ── One op ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def certify_op(op: Op, profile: Profile) -> tuple[dict[str, Any], Row, list[str]]:
    """Return the op's document, its row of the table, and what is amiss with its cases."""
    start = time.perf_counter()
    problems: list[str] = []
    documents = []
    measures = []
    killed: set[str] = set()
    seen: set[tuple[str, str]] = set()
    mistakes = [mistake for mistake in profile.mistakes.MISTAKES if mistake.op == op.name]
    for case in (case for case in profile.all_cases() if case.op == op.name):
        try:
            document, measure, amiss = certify_case(op, case, profile, mistakes)
        except Exception as error:
            raise type(error)(f"{case.slug}: {error}") from error
        documents.append(document)
        measures.append(measure)
        problems += [f"{case.slug}: {problem}" for problem in amiss]
        killed |= {wrong["bug"] for wrong in document["wrong"]}
        seen |= {axis for variant in ({}, *case.variants) for axis in conventions(op, variant).items()}
    problems += [f"no case kills {bug}" for bug in sorted({mistake.bug for mistake in mistakes} - killed)]
    axes = read_conventions()
    wanted = {(axis, value) for axis in op.conventions for value in axes[axis]["values"]}
    problems += [f"no case has {axis} = {value}" for axis, value in sorted(wanted - seen)]
    agreements = [measure["agreement"] for measure in measures if measure["agreement"] is not None]
    row = Row(
        op.name,
        len(documents),
        max(measure["bits"] for measure in measures),
        min(agreements) if agreements else None,
        max(measure["ordinary"] for measure in measures),
        measures[0]["routes"],
        sum(len(wrong["conventions"]) for document in documents for wrong in document["wrong"]),
        min(measure["separation"] for measure in measures),
        time.perf_counter() - start,
    )
    return {"schema": 1, "op": op.name, "cases": documents}, row, problems


def read_conventions() -> dict[str, Any]:
    """Return the axes of data/conventions.json."""
    axes: dict[str, Any] = json.loads((DATA / "conventions.json").read_text(encoding="utf-8"))["axes"]
    return axes


def conventions(op: Op, variant: dict[str, str]) -> dict[str, str]:
    """Return the op's full conventions: the defaults, with the variant's values in their place."""
    axes = read_conventions()
    for axis, value in variant.items():
        if axis not in op.conventions or value not in axes[axis]["values"]:
            raise ValueError(f"{op.name} has no convention {axis} = {value}")
    return {axis: axes[axis]["default"] for axis in op.conventions} | variant


def certify_case(
    op: Op, case: Case, profile: Profile, mistakes: list[Mistake]
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Return the case's document, its measurements, and what is amiss with it."""
    problems: list[str] = []
    dims = contract.dimensions(op, case.inputs)
    if len(set(dims.values())) < len(dims) or min(dims.values(), default=2) < 2:
        problems.append(f"dimensions {dims} are not pairwise different and > 1")
    definition = profile.definitions.DEFINITIONS[op.name]
    routes = profile.definitions.ROUTES[op.name]
    algorithms = profile.textbook.TEXTBOOK[op.name]
    if case.algorithms:
        algorithms = tuple(algorithms[number] for number in case.algorithms)
    expected, ratios = [], []
    wrong: dict[str, list[tuple[dict[str, str], dict[str, Any]]]] = {mistake.bug: [] for mistake in mistakes}
    resolves = {dtype: dtype == "float64" or _short(op, case.inputs) for dtype in UNIT_ROUNDOFF}
    truths: list[tuple[dict[str, str], Certified]] = []
    amplifications = []
    agreement: int | None = None
    ordinary = 0.0
    for variant in ({}, *case.variants):
        chosen = conventions(op, variant)
        truth = balls.certify(lambda chosen=chosen: definition(case.inputs, chosen))
        truths.append((variant, truth))
        problems += _wrong_outputs(op, truth, dims)
        for route in routes:
            bits = _agreement(definition, route, case.inputs, chosen)
            agreement = bits if agreement is None else min(agreement, bits)
        measured = amplification.worst(
            [
                amplification.measure(
                    lambda wrap, run=run, chosen=chosen: run(contract.arrays(op, case.inputs, wrap), chosen),
                    truth.leaves,
                    f"{op.name}/{case.slug}/{sorted(variant.items())}/{number}",
                )
                for number, run in enumerate(algorithms)
            ]
        )
        amplifications.append(measured)
        for dtype, u in UNIT_ROUNDOFF.items():
            resolves[dtype] &= _fine_enough(truth, measured, u)
        outputs = {path: _truth(leaf, measured.get(path)) for path, leaf in truth.leaves.items()}
        expected.append({"conventions": variant, "outputs": outputs})
    for (variant, truth), measured in zip(truths, amplifications, strict=True):
        for mistake in mistakes:
            chosen = conventions(op, variant)
            answer = balls.certify(lambda mistake=mistake, chosen=chosen: mistake.answer(case.inputs, chosen), nan=True)
            found = {path: (leaf.shape, _values(leaf)) for path, leaf in answer.leaves.items()}
            ratio = {dtype: _distance(found, truth.leaves, measured, u) for dtype, u in UNIT_ROUNDOFF.items()}
            if ratio["float64"] < SEPARATION:
                continue
            ratios.append(ratio)
            resolves["float32"] &= ratio["float32"] >= SEPARATION
            outputs = {path: _answer(leaf) for path, leaf in answer.leaves.items()}
            wrong[mistake.bug].append((variant, outputs))
    if not resolves["float64"]:
        problems.append("float64 does not resolve it")
    for dtype in (dtype for dtype, fine in resolves.items() if fine):
        honest = _ordinary(op, case, algorithms, list(zip(truths, amplifications, strict=True)), dtype)
        ordinary = max(ordinary, honest)
        if honest > 0.5:
            problems.append(f"ordinary code in {dtype} is {honest:.2g} × tolerance away")
    if not ratios:
        problems.append("it kills no mistake")
    if agreement is not None and agreement < AGREEMENT_BITS:
        problems.append(f"two routes agree to {agreement} bits only")
    document = {
        "id": f"{op.name}/{case.slug}",
        "rev": case.rev,
        "title": case.title,
        "purpose": case.purpose,
        "stability": bool(case.algorithms),
        "reference": op.source,
        "dims": dims,
        "inputs": case.inputs,
        "expected": expected,
        "wrong": [entry for bug, answers in wrong.items() for entry in once(bug, answers)],
        "resolves": [dtype for dtype, fine in resolves.items() if fine],
        "provenance": {
            "routes": [f"ball arithmetic: {_summary(route)}" for route in (definition, *routes)],
            "precision_bits": max(truth.bits for _, truth in truths),
            **({} if agreement is None else {"agreement_bits": agreement}),
            "amplification": [_summary(run) for run in algorithms],
        },
    }
    measure = {
        "bits": document["provenance"]["precision_bits"],
        "agreement": agreement,
        "ordinary": ordinary,
        "routes": 1 + len(routes),
        "separation": min((ratio[dtype] for ratio in ratios for dtype in document["resolves"]), default=math.inf),
    }
    return document, measure, problems


def _ordinary(op: Op, case: Case, algorithms: Any, certified: Any, dtype: str) -> float:
    """Return how many tolerances the ordinary code in a dtype is away, at most: the policy judged on honest work."""
    inputs = contract.arrays(op, case.inputs, lambda array: array.astype(dtype))
    worst = 0.0
    for (variant, truth), measured in certified:
        for run in algorithms:
            with np.errstate(all="ignore"):  # practitioners' code may meet log 0 in a branch that it does not take
                found = amplification.plain_leaves(run(inputs, conventions(op, variant)))
            worst = max(worst, _distance(found, truth.leaves, measured, UNIT_ROUNDOFF[dtype]))
    return worst


def _summary(function: Callable[..., Any]) -> str:
    lines = (function.__doc__ or "").strip().splitlines()
    if not lines:
        raise ValueError(f"{function.__module__}.{function.__name__} needs a docstring: its first line is published")
    return lines[0].strip().rstrip(".")


def _short(op: Op, inputs: dict[str, Any]) -> bool:
    """Whether every number of the inputs is a float32: only then does one case serve float32."""

    def numbers(value: Any) -> Iterator[float]:
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, list):
            for part in value:
                yield from numbers(part)
        elif isinstance(value, float):
            yield value

    return all(float(np.float32(number)) == number for number in numbers(inputs))


def _wrong_outputs(op: Op, truth: Certified, dims: dict[str, int]) -> Iterator[str]:
    names = {path.partition(".")[0] for path in truth.leaves}
    if names != set(op.outputs):
        yield f"outputs are {sorted(names)}, the contract has {sorted(op.outputs)}"
        return
    for name, kind in op.outputs.items():
        element, letters = contract.parse(kind)
        if element == "parameters":
            continue
        leaf = truth.leaves[name]
        lengths = tuple(dims.get(letter, length) for letter, length in zip(letters, leaf.shape, strict=False))
        if len(letters) != len(leaf.shape) or lengths != leaf.shape:
            yield f"{name} has shape {leaf.shape}, the contract says {kind} with {dims}"


def _agreement(definition: Any, route: Any, inputs: dict[str, Any], chosen: dict[str, str]) -> int:
    """Return how many bits of the largest entry of a leaf two routes share, over all leaves; of 1, if all may be 0."""
    with balls.precision(ROUTE_PRECISION):
        one, two = balls.leaves(definition(inputs, chosen)), balls.leaves(route(inputs, chosen))
        if {path: leaf.shape for path, leaf in one.items()} != {path: leaf.shape for path, leaf in two.items()}:
            raise ValueError("two routes differ in their outputs")
        shared = ROUTE_PRECISION
        for path, leaf in one.items():
            vanishing = all(arb(entry).contains(0) for entry in leaf.entries)
            scale = 1.0 if vanishing else max(float(abs(arb(entry)).mid()) for entry in leaf.entries)
            for a, b in zip(leaf.entries, two[path].entries, strict=True):
                gap = abs(arb(a) - arb(b)).abs_upper()
                if not gap.is_finite():  # a NaN compares as nothing at all, and must not pass for agreement
                    return 0
                if gap > 0:
                    shared = min(shared, max(0, math.floor(-float((gap / arb(scale)).log().mid()) / math.log(2))))
        return shared


# ── Tolerance and distance ──────────────────────────────────────────────────────────────────────────────────────────


def tolerances(leaves: dict[str, Leaf], measured: dict[str, list[float]], u: float) -> dict[str, np.ndarray]:
    """Return tol_i = 16 u max(R_i, 0.3 max_j R_j) + ½ ulp(y_i), per leaf with real entries."""
    largest: dict[str, float] = {}
    for path, amplified in measured.items():
        name = path.partition(".")[0]
        largest[name] = max(largest.get(name, 0.0), *amplified)
    return {
        path: FACTOR * u * np.maximum(amplified, FLOOR * largest[path.partition(".")[0]])
        + 0.5 * np.array([math.ulp(entry.value) for entry in leaves[path].entries])
        for path, amplified in measured.items()
    }


def _distance(
    found: dict[str, tuple[tuple[int, ...], Any]],
    leaves: dict[str, Leaf],
    measured: dict[str, list[float]],
    u: float,
) -> float:
    """Return the largest |found − certified| / tolerance; infinite where shapes or integers differ, or at a NaN."""
    if set(found) != set(leaves):
        return math.inf
    allowed = tolerances(leaves, measured, u)
    worst = 0.0
    for path, leaf in leaves.items():
        shape, values = found[path]
        if shape != leaf.shape:
            return math.inf
        if path not in allowed:
            worst = max(worst, 0.0 if list(values) == leaf.entries else math.inf)
            continue
        gap = np.abs(np.asarray(values, dtype=np.float64) - _values(leaf))
        with np.errstate(divide="ignore", over="ignore"):
            ratio = np.divide(gap, allowed[path], out=np.zeros_like(gap), where=gap != 0)  # 0/0 = 0, as for the judge
        worst = max(worst, math.inf if np.isnan(ratio).any() else float(ratio.max()))
    return worst


def _fine_enough(truth: Certified, measured: dict[str, list[float]], u: float) -> bool:
    largest: dict[str, tuple[float, float]] = {}
    for path, amplified in measured.items():
        name = path.partition(".")[0]
        size, amount = largest.get(name, (0.0, 0.0))
        sizes = np.abs(_values(truth.leaves[path]))
        largest[name] = max(size, float(sizes.max())), max(amount, *amplified)
    # The least of an output that is zero throughout is any number at all: there the wrong answers alone decide.
    return all(size == 0 or FACTOR * u * amount <= RESOLUTION * size for size, amount in largest.values())


def _values(leaf: Leaf) -> np.ndarray:
    return np.array([entry if isinstance(entry, int) else entry.value for entry in leaf.entries], dtype=np.float64)


# ── Documents ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _truth(leaf: Leaf, amplified: list[float] | None) -> dict[str, Any]:
    if amplified is None:
        return {"shape": list(leaf.shape), "value": list(leaf.entries), "exact": True}
    values = [entry.value for entry in leaf.entries]
    return {
        "shape": list(leaf.shape),
        "value": values,
        "bits": [np.float64(value).view(np.uint64).item().to_bytes(8, "big").hex() for value in values],
        "radius": max(entry.radius for entry in leaf.entries),
        "R": amplified,
    }


def _answer(leaf: Leaf) -> dict[str, Any]:
    values = [entry if isinstance(entry, int) else entry.value for entry in leaf.entries]
    return {"shape": list(leaf.shape), "value": [None if math.isnan(value) else value for value in values]}


def once(bug: str, answers: Iterable[tuple[dict[str, str], dict[str, Any]]]) -> list[dict[str, Any]]:
    """Write equal outputs of a bug once, with all conventions under which it gives them; equal is: the same text."""
    entries: dict[str, dict[str, Any]] = {}
    for variant, outputs in answers:
        entry = entries.setdefault(json.dumps(outputs), {"bug": bug, "conventions": [], "outputs": outputs})
        entry["conventions"].append(variant)
    return list(entries.values())


def bug_texts(used: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """Merge the hand-written texts, and name the bugs without one, with two, or with a field amiss."""
    fields = {"title", "wrong", "right", "effect", "hint", "exposes", "hides", "evidence"}
    merged: dict[str, Any] = {}
    problems: list[str] = []
    used = set(used)
    for path in sorted(TEXTS.glob("texts_*.json")):
        for bug, text in json.loads(path.read_text(encoding="utf-8")).items():
            if bug in merged and merged[bug] != text:
                problems.append(f"bug {bug} has two texts, one in {path.name}")
            if set(text) != fields or not isinstance(text["evidence"], list):
                problems.append(f"bug {bug}: the fields are {sorted(text)}, expected {sorted(fields)}")
            merged.setdefault(bug, text)
    problems += [f"bug {bug} has no text" for bug in sorted(used - set(merged))]
    return {bug: merged[bug] for bug in sorted(merged) if bug in used}, problems


def _index(files: dict[str, bytes]) -> dict[str, Any]:
    """List the knowledge and the op files, those generated now and those on disk that were not asked for."""
    present = {path.name: path.read_bytes() for path in (DATA / RELEASE).glob("*.json") if path.stem in OPS}
    present |= {name.partition("/")[2]: text for name, text in files.items() if name.startswith(f"{RELEASE}/")}
    return {
        "schema": 1,
        "release": RELEASE,
        "status": "preview",
        "knowledge": [_sealed(name, files.get(name) or (DATA / name).read_bytes()) for name in KNOWLEDGE],
        "files": [
            _sealed(name, text) | {"cases": len(json.loads(text)["cases"])} for name, text in sorted(present.items())
        ],
    }


def _sealed(name: str, text: bytes) -> dict[str, Any]:
    return {"name": name, "sha256": hashlib.sha256(text).hexdigest(), "bytes": len(text)}


def layout(document: Any) -> bytes:
    """Write JSON with one leaf, one input or one short record per line: small differences show as small differences."""
    return ("".join(_lines(document, "")) + "\n").encode()


def _lines(value: Any, indent: str) -> Iterator[str]:
    flat = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(", ", ": "))
    if not isinstance(value, dict | list) or _is_leaf(value) or len(indent + flat) <= 110:
        yield flat
        return
    deeper = indent + " "
    opening, closing = ("{", "}") if isinstance(value, dict) else ("[", "]")
    parts = value.items() if isinstance(value, dict) else ((None, part) for part in value)
    yield opening
    for number, (name, part) in enumerate(parts):
        yield f"{',' if number else ''}\n{deeper}"
        if name is not None:
            yield f"{json.dumps(name, ensure_ascii=False)}: "
        yield from _lines(part, deeper)
    yield f"\n{indent}{closing}"


def _is_leaf(value: Any) -> bool:
    """Whether a value goes on one line however long: an array of numbers, or of their bits."""
    if isinstance(value, list):
        return all(_is_leaf(part) for part in value)
    return isinstance(value, int | float | None) or (isinstance(value, str) and len(value) == 16)


def write(files: dict[str, bytes]) -> None:
    """Write every file; the index that vouches for them comes last."""
    for name, text in sorted(files.items(), key=lambda file: file[0].endswith("index.json")):
        path = DATA / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)


def differences(files: dict[str, bytes]) -> list[str]:
    """Name the files that differ from the committed ones, are missing, or should not be there."""
    found = [name for name, text in files.items() if not (DATA / name).is_file() or (DATA / name).read_bytes() != text]
    strangers = [
        f"{RELEASE}/{path.name}"
        for path in sorted((DATA / RELEASE).glob("*"))
        if path.stem not in OPS and path.name != "index.json"
    ]
    return found + strangers
