"""A small release of vectors, written to a folder: three ops with two or three cases each, certified by hand.

``ratio`` with dyadic answers (log-probabilities equal, so r = 1, or answers given to the last bit), ``td_errors``
(exact in float64), ``mean_kl`` of a policy without hidden layers, whose answer under each direction is given.
"""

import copy
import hashlib
import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(__file__).parents[2] / "refpg" / "conformance" / "data"

POLICY = {
    "schema": 1,
    "factor": 16,
    "floor": 0.3,
    "unit_roundoff": {"float64": 2.0**-53, "float32": 2.0**-24},
    "text": "tolerance",
}


def bug(title: str) -> dict[str, Any]:
    return {
        "title": title,
        "wrong": "what is computed",
        "right": "what should be",
        "effect": "training gets worse",
        "hint": "look at the index",
        "exposes": "episodes that end",
        "hides": "gamma = 0",
        "evidence": ["project#1"],
    }


BUGS = {
    "schema": 1,
    "bugs": {
        "td-no-mask": bug("the value of the next episode leaks in"),
        "td-missing-gamma": bug("the next value is not discounted"),
        "td-undiscounted": bug("gamma is forgotten"),
        "ratio-inverted": bug("old over new"),
        "ratio-broadcast": bug("every old with every new"),
    },
}


ERRATA: dict[str, Any] = {"schema": 1, "errata": []}


def erratum(**changed: Any) -> dict[str, Any]:
    """An erratum of a case that this release does not have."""
    fields = {"case": "ratio/gone", "rev": 1, "date": "2026-01-31", "what": "withdrawn", "why": "it told nothing"}
    return fields | changed


def leaf(values: Any, amplification: float = 1.0) -> dict[str, Any]:
    array = np.asarray(values, dtype=np.float64)
    return {
        "shape": list(array.shape),
        "value": array.ravel().tolist(),
        "bits": [struct.pack(">d", value).hex() for value in array.ravel()],
        "radius": 1e-57,
        "R": [amplification] * array.size,
    }


def wrong_leaf(values: Any) -> dict[str, Any]:
    array = np.asarray(values, dtype=np.float64)
    return {"shape": list(array.shape), "value": array.ravel().tolist()}


def case(identity: str, inputs: dict[str, Any], dims: dict[str, int], expected: Any, wrong: Any = ()) -> dict[str, Any]:
    return {
        "id": identity,
        "rev": 1,
        "title": "a title",
        "purpose": "a purpose",
        "stability": False,
        "reference": "[GAE (10)]",
        "dims": dims,
        "inputs": inputs,
        "expected": [{"conventions": conventions, "outputs": outputs} for conventions, outputs in expected],
        "wrong": [{"bug": name, "conventions": [{}], "outputs": outputs} for name, outputs in wrong],
        "resolves": ["float64", "float32"],
        "provenance": {"routes": ["by hand"], "precision_bits": 192},
    }


def td_case(slug: str, rewards: Any, values: Any, next_values: Any, terminated: Any, gamma: float) -> dict[str, Any]:
    r, v, n, d = (np.asarray(part) for part in (rewards, values, next_values, terminated))
    right = r + gamma * np.where(d, 0.0, n) - v
    wrong = {
        "td-no-mask": r + gamma * n - v,
        "td-missing-gamma": r + np.where(d, 0.0, n) - v,
        "td-undiscounted": r + np.where(d, 0.0, n) - v,
    }
    inputs = {
        "rewards": r.tolist(),
        "values": v.tolist(),
        "next_values": n.tolist(),
        "terminated": d.tolist(),
        "gamma": gamma,
    }
    return case(
        f"td_errors/{slug}",
        inputs,
        {"T": r.shape[0], "E": r.shape[1]},
        [({}, {"td_errors": leaf(right)})],
        [(name, {"td_errors": wrong_leaf(value)}) for name, value in wrong.items() if (value != right).any()],
    )


def td_cases() -> list[dict[str, Any]]:
    random = np.random.default_rng(0)

    def draw() -> Any:
        return random.integers(-64, 64, (4, 3)) / 32

    ends = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 1]], dtype=bool)
    return [
        td_case("ends-4x3", draw(), draw(), draw(), ends, 0.75),
        td_case("open-4x3", draw(), draw(), draw(), np.zeros((4, 3), dtype=bool), 0.5),
        td_case("undiscounted-4x3", draw(), draw(), draw(), ends, 1.0),
    ]


def ratio_case(slug: str, old: list[float], new: list[float]) -> dict[str, Any]:
    right = [math.exp(n - o) for o, n in zip(old, new, strict=True)]
    inverted = [math.exp(o - n) for o, n in zip(old, new, strict=True)]
    broadcast = [[math.exp(n - o) for n in new] for o in old]
    return case(
        f"ratio/{slug}",
        {"old_log_prob": old, "new_log_prob": new},
        {"B": len(old)},
        [({}, {"ratio": leaf(right)})],
        [
            ("ratio-inverted", {"ratio": wrong_leaf(inverted)}),
            ("ratio-broadcast", {"ratio": wrong_leaf(broadcast)}),
        ],
    )


def kl_case(slug: str, direction_values: dict[str, float]) -> dict[str, Any]:
    old, new = kl_policies()
    expected = [({}, {"mean_kl": leaf(direction_values["old_new"])})]
    expected += [({"kl.direction": "new_old"}, {"mean_kl": leaf(direction_values["new_old"])})]
    inputs = {"old_policy": old, "new_policy": new, "observations": [[1.0]]}
    return case(f"mean_kl/{slug}", inputs, {"B": 1, "D": 1}, expected)


def kl_policies() -> tuple[dict[str, Any], dict[str, Any]]:
    def policy(logit: float) -> dict[str, Any]:
        return {
            "layers": [{"W": [[logit, 0.0]], "b": [0.0, 0.0]}],
            "activation": "tanh",
            "distribution": "categorical",
        }

    return policy(0.5), policy(-1.0)


def kl_values() -> dict[str, float]:
    """KL between Bernoulli distributions with logits ½ and −1, by the definition."""

    def kl(a: float, b: float) -> float:
        p, q = 1 / (1 + math.exp(-a)), 1 / (1 + math.exp(-b))
        return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))

    return {"old_new": kl(0.5, -1.0), "new_old": kl(-1.0, 0.5)}


def search_case() -> dict[str, Any]:
    """A line search that accepts its first candidate: the parameters are θ + full_step, exactly."""
    old, _ = kl_policies()
    step = {"layers": [{"W": [[0.125, -0.25]], "b": [0.5, 0.0]}]}
    outputs = {
        "parameters.layers[0].W": leaf([[0.625, -0.25]]),
        "parameters.layers[0].b": leaf([0.5, 0.0]),
        "accepted": {"shape": [], "value": [0], "exact": True},
    }
    inputs = {
        "policy": old,
        "observations": [[1.0], [0.5]],
        "actions": [0, 1],
        "advantages": [1.0, -1.0],
        "full_step": step,
        "max_kl": 1.0,
        "backtrack": 0.5,
        "max_backtracks": 4,
    }
    return case("line_search/first", inputs, {"B": 2, "D": 1}, [({}, outputs)])


def release() -> dict[str, list[dict[str, Any]]]:
    return {
        "ratio": [
            ratio_case(
                "seven", [-1.0, -0.5, -2.0, -1.5, -0.25, -3.0, -1.0], [-0.5, -1.0, -1.5, -1.5, -0.5, -2.0, -1.25]
            ),
            ratio_case("five", [-1.0, -0.5, -2.0, -1.5, -0.75], [-0.75, -1.5, -0.5, -1.0, -2.0]),
        ],
        "td_errors": td_cases(),
        "mean_kl": [kl_case("two-logits", kl_values())],
        "line_search": [search_case()],
    }


def write(folder: Path, files: dict[str, list[dict[str, Any]]] | None = None, **replaced: Any) -> Path:
    """Write a release below ``folder``; ``replaced`` exchanges bugs, policy, errata, conventions or the index."""
    files = copy.deepcopy(release()) if files is None else files
    (folder / "2026.1").mkdir(parents=True, exist_ok=True)
    entries = []
    for op, cases in sorted(files.items()):
        content = json.dumps({"schema": 1, "op": op, "cases": cases}).encode()
        entries.append(write_file(folder, f"{op}.json", content, len(cases)))
    published = json.loads((DATA / "conventions.json").read_bytes())
    known = {"bugs": BUGS, "conventions": published, "errata": ERRATA, "policy": POLICY} | replaced
    knowledge = []
    for name in ("bugs", "conventions", "errata", "policy"):
        content = json.dumps(known[name]).encode()
        (folder / f"{name}.json").write_bytes(content)
        knowledge.append(seal(f"{name}.json", content))
    index = {"schema": 1, "release": "2026.1", "status": "preview", "knowledge": knowledge, "files": entries}
    (folder / "2026.1" / "index.json").write_text(json.dumps(replaced.get("index", index)))
    return folder


def seal(name: str, content: bytes) -> dict[str, Any]:
    """What the index says of a file."""
    return {"name": name, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def write_file(folder: Path, name: str, content: bytes, cases: int) -> dict[str, Any]:
    """Write one file and return its entry for the index."""
    (folder / "2026.1" / name).write_bytes(content)
    return seal(name, content) | {"cases": cases}


def rewrite(folder: Path, name: str, content: bytes, cases: int = 1) -> None:
    """Replace one file and its entry in the index, so that only the content itself can be at fault."""
    index_path = folder / "2026.1" / "index.json"
    index = json.loads(index_path.read_text())
    entry = write_file(folder, name, content, cases)
    index["files"] = [entry if old["name"] == name else old for old in index["files"]]
    index_path.write_text(json.dumps(index))


def td_errors(rewards: Any, values: Any, next_values: Any, terminated: Any, gamma: float) -> Any:
    """The right answer, for adapters."""
    return rewards + gamma * np.where(terminated, 0, next_values) - values


def ratio(old_log_prob: Any, new_log_prob: Any) -> Any:
    """The right answer, for adapters."""
    return np.exp(new_log_prob - old_log_prob)


def mean_kl(direction: str) -> Any:
    """An adapter's mean_kl that knows the one case there is."""
    return lambda **inputs: kl_values()[direction]
