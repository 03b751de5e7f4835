"""The JSON Schemas describe the files as they are, and refuse what is not as described.

They are for readers in other languages; the loader has its own checks, and `verification.fuzz` compares the two.
"""

import copy
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from refpg.conformance import report
from refpg.conformance.diagnosis import Diagnosis
from refpg.conformance.ops import OPS, PROFILES
from refpg.conformance.run import check
from refpg.conformance.vectors import DATA, KNOWLEDGE, MAX_AXES, MAX_ENTRIES, MAX_FILE_BYTES, MAX_FILES, RELEASE
from refpg.conformance.verdicts import Verdict

from . import synthetic

Json = Any

SCHEMAS = {path.name.split(".")[0]: json.loads(path.read_text()) for path in (DATA / "schema").glob("*.schema.json")}


def validator(name: str) -> Any:
    return jsonschema.Draft202012Validator(
        SCHEMAS[name], format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )


def complaints(name: str, value: Json) -> list[str]:
    return [f"{error.json_path}: {error.message[:200]}" for error in validator(name).iter_errors(value)]


def parts(schema: Json, path: str = "$") -> Iterator[tuple[str, dict[str, Json]]]:
    """Every subschema that describes something, with its path; not the conditions."""
    if isinstance(schema, dict):
        yield path, schema
        for keyword in ("properties", "$defs", "dependentSchemas"):
            for name, inner in schema.get(keyword, {}).items():
                yield from parts(inner, f"{path}.{keyword}.{name}")
        for keyword in ("items", "additionalProperties", "propertyNames", "then", "else"):
            yield from parts(schema.get(keyword), f"{path}.{keyword}")


# The schemas themselves.


def test_there_is_a_schema_for_each_kind_of_file() -> None:
    assert set(SCHEMAS) == {"index", "op", "conventions", "presets", "bugs", "policy", "errata", "report", "waivers"}


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one(name: str) -> None:
    schema = SCHEMAS[name]
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_stranger_is_told_what_everything_is(name: str) -> None:
    for path, part in parts(SCHEMAS[name]):
        if part.get("type") == "object" and "properties" in part and path != "$":
            assert "title" in part, f"{path} has no title"
        for field, inner in part.get("properties", {}).items():
            said = inner if inner is False or "$ref" not in inner else SCHEMAS[name]["$defs"][inner["$ref"][8:]] | inner
            known = said is False or "description" in said or "const" in said
            assert known, f"{path}.{field} has no description"


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_mapping_is_closed(name: str) -> None:
    for path, part in parts(SCHEMAS[name]):
        if "properties" in part and part.get("type") == "object" and path != "$":
            assert part["additionalProperties"] is False, path
        if part.get("type") == "object" and "properties" not in part:
            assert "propertyNames" in part, f"{path} allows any key"
            assert isinstance(part["additionalProperties"], dict), f"{path} allows any value"
    assert name == "report" or SCHEMAS[name]["additionalProperties"] is False


def test_the_schemas_and_the_code_know_the_same_words() -> None:
    definitions = SCHEMAS["report"]["$defs"]
    assert definitions["case"]["properties"]["verdict"]["enum"] == [verdict.value for verdict in Verdict]
    counts = {"in_profile", "executed"} | {verdict.name.lower() for verdict in Verdict}
    assert set(definitions["footer"]["properties"]["counts"]["properties"]) == counts
    assert definitions["case"]["properties"]["profile"]["enum"] == list(PROFILES)
    kinds = re.findall('"([a-z]+)"', re.sub("`+", "", (Diagnosis.__doc__ or "").split("complete")[0]))
    assert definitions["diagnosis"]["properties"]["kind"]["enum"] == kinds


def test_the_schemas_and_the_loader_have_the_same_caps() -> None:
    index, op = SCHEMAS["index"], SCHEMAS["op"]
    assert index["properties"]["files"]["maxItems"] == MAX_FILES
    assert index["$defs"]["file"]["properties"]["bytes"]["maximum"] == MAX_FILE_BYTES
    assert op["$defs"]["shape"]["maxItems"] == MAX_AXES
    assert op["$defs"]["leaf"]["properties"]["value"]["maxItems"] == MAX_ENTRIES


# What is shipped.


@pytest.mark.parametrize("name", ["conventions", "presets", "bugs", "policy", "errata"])
def test_the_shipped_knowledge_is_as_described(name: str) -> None:
    assert complaints(name, json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))) == []


def test_the_shipped_vectors_are_as_described() -> None:
    folder = DATA / RELEASE
    assert complaints("index", json.loads((folder / "index.json").read_text())) == []
    paths = [path for path in folder.glob("*.json") if path.name != "index.json"]
    assert {path.stem for path in paths} == set(OPS)
    for path in paths:
        assert complaints("op", json.loads(path.read_text(encoding="utf-8"))) == [], path.name


def test_every_shipped_json_file_has_a_schema() -> None:
    known = {path.stem for path in DATA.glob("*.json")}
    assert known <= set(SCHEMAS), f"no schema for {known - set(SCHEMAS)}"


def test_the_schemas_are_packaged() -> None:
    setup = (Path(__file__).parents[2] / "setup.cfg").read_text()
    patterns = re.search(r"^refpg\.conformance = (.*)$", setup, flags=re.MULTILINE)
    assert patterns is not None
    shipped = {path for pattern in patterns[1].split(", ") for path in DATA.parent.glob(pattern)}
    assert {path for path in DATA.rglob("*") if path.is_file()} <= shipped


def implementation() -> dict[str, Any]:
    """Right, wrong, crashing, chatty, changing its inputs, and unsupported answers."""

    def ratio(old_log_prob: Any, new_log_prob: Any) -> Any:
        print("so much to say")
        return synthetic.ratio(new_log_prob, old_log_prob)

    def td_errors(rewards: Any, **inputs: Any) -> Any:
        right = synthetic.td_errors(rewards, **inputs)
        rewards += 1
        return right

    def line_search(**inputs: Any) -> Any:
        raise RuntimeError("no\nanswer")

    return {
        "ratio": ratio,
        "td_errors": td_errors,
        "line_search": line_search,
        "mean_kl": synthetic.mean_kl("new_old"),
        "unsupported": {"gae": "not yet"},
    }


def lines_of(run: Any) -> list[Json]:
    return [json.loads(line) for line in report.json_lines(run, report.origin())]


def test_a_report_is_as_described(tmp_path: Path) -> None:
    data = synthetic.write(tmp_path)
    lines = lines_of(check(implementation(), data=data))
    assert {"WRONG", "HARNESS ERROR"} <= {line.get("verdict") for line in lines}
    for field in ("answer", "message", "printed", "changed", "diagnosis"):
        assert any(field in line for line in lines), f"no line has a {field}"
    assert {line["diagnosis"]["kind"] for line in lines if "diagnosis" in line} >= {"bug", "convention"}
    float32 = check({"ratio": synthetic.ratio}, data=data, dtype="float32", profiles=["ppo"], only="ratio")
    nothing = check({}, data=data)
    for line in [*lines, *lines_of(float32), *lines_of(nothing)]:
        assert complaints("report", line) == []


def test_the_report_on_this_installation_is_as_described() -> None:
    for line in lines_of(check(only="[kcn]*")):
        assert complaints("report", line) == []


# One edit per rule.


def op_file(op: str) -> Json:
    return {"schema": 1, "op": op, "cases": copy.deepcopy(synthetic.release()[op][:1])}


def index() -> Json:
    entry = {"name": "ratio.json", "sha256": "0" * 64, "bytes": 100, "cases": 1}
    knowledge = [{"name": name, "sha256": "0" * 64, "bytes": 100} for name in KNOWLEDGE]
    return {"schema": 1, "release": "2026.1", "status": "preview", "knowledge": knowledge, "files": [entry]}


def conventions() -> Json:
    return json.loads((DATA / "conventions.json").read_text(encoding="utf-8"))


def errata() -> Json:
    return {"schema": 1, "errata": [synthetic.erratum(), synthetic.erratum(what="corrected", rev=2)]}


def waivers() -> Json:
    waiver = {"reason": "overflows", "issue": "mine#7", "expires": "2026-12-31"}
    return {"schema": 1, "waivers": {"ratio/five": waiver, "kl_*": dict(waiver)}}


def report_line(kind: str) -> Callable[[], Json]:
    def line() -> Json:
        made = {
            "header": {
                **{"kind": "header", "schema": 1, "refpg": "2026.1.0", "release": "2026.1", "status": "preview"},
                **{"index": "0" * 64, "date": "2026-01-31T12:00:00Z", "platform": "Linux x86_64"},
                **{"target": "x.py", "name": "x.py", "version": "", "notes": [], "dtype": {"*": "float64"}},
                **{"conventions": {"kl.direction": "new_old"}, "profiles": ["ppo"], "only": ""},
                "waivers": waivers()["waivers"],
                **{"python": "3.11.7", "numpy": "2.4.0", "scipy": "1.17.0"},
            },
            "case": {
                **{"kind": "case", "id": "ratio/five", "rev": 1, "op": "ratio", "profile": "ppo", "verdict": "WRONG"},
                **{"dtype": "float64", "conventions": {}, "worst": 1e9, "message": ["m"], "printed": ["p"]},
                "answer": {"gradient.layers[0].W": {"shape": [2], "value": [0.5, 1.0]}},
                "changed": ["a"],
                "diagnosis": {
                    **{"kind": "bug", "complete": True, "bugs": ["ratio-inverted"], "conventions": [{}]},
                    "lines": [["hint", "invert it"]],
                },
            },
            "waived": {
                **{"kind": "case", "id": "ratio/five", "rev": 1, "op": "ratio", "profile": "ppo", "verdict": "WAIVED"},
                **{"excused": "WRONG", "dtype": "float64", "conventions": {}, "worst": 1e9},
            },
            "footer": {
                **{"kind": "footer", "without_vectors": ["gae"], "worst_conforming": None, "exit": 4},
                **{"lines": 0, "sha256": "0" * 64},
                "counts": dict.fromkeys(
                    ("in_profile", "executed", *(verdict.name.lower() for verdict in Verdict)), 0
                ),
            },
        }
        return made[kind]

    return line


VALID: dict[str, tuple[str, Callable[[], Json]]] = {
    "index": ("index", index),
    "td": ("op", lambda: op_file("td_errors")),
    "search": ("op", lambda: op_file("line_search")),
    "kl": ("op", lambda: op_file("mean_kl")),
    "conventions": ("conventions", conventions),
    "bugs": ("bugs", lambda: copy.deepcopy(synthetic.BUGS)),
    "policy": ("policy", lambda: copy.deepcopy(synthetic.POLICY)),
    "errata": ("errata", errata),
    "waivers": ("waivers", waivers),
    "header": ("report", report_line("header")),
    "case": ("report", report_line("case")),
    "waived": ("report", report_line("waived")),
    "footer": ("report", report_line("footer")),
}


@pytest.mark.parametrize("name", VALID)
def test_what_the_edits_begin_with_is_valid(name: str) -> None:
    schema, make = VALID[name]
    assert complaints(schema, make()) == []


CASE, OUT, WRONG = "cases 0", "cases 0 expected 0 outputs td_errors", "cases 0 wrong 0"
INT = "cases 0 expected 0 outputs accepted"
POLICY = "cases 0 inputs policy"
AXIS, BUG = "axes kl.direction", "bugs td-no-mask"
GOT = "answer gradient.layers[0].W"
DELETE = object()

# What begins it, where, what is put there.
EDITS: list[tuple[str, str, Any]] = [
    *[(name, "schema", value) for name in list(VALID)[:10] for value in (2, "1")],
    *[(name, "note", "x") for name in VALID],
    *[(name, field, DELETE) for name, (_, make) in VALID.items() for field in make() if name != "case"],
    ("waivers", "waivers", []),
    ("waivers", "waivers Ratio", waivers()["waivers"]["kl_*"]),
    ("waivers", "waivers ratio/", waivers()["waivers"]["kl_*"]),
    ("waivers", "waivers a/b/c", waivers()["waivers"]["kl_*"]),
    ("waivers", "waivers kl_* note", "x"),
    ("waivers", "waivers kl_* reason", " "),
    ("waivers", "waivers kl_* issue", ""),
    *[("waivers", f"waivers kl_* {field}", DELETE) for field in ("reason", "issue", "expires")],
    *[("waivers", "waivers kl_* expires", day) for day in ("never", "2026-02-30", "20261231", "2026-W01-1")],
    ("header", "waivers ratio/five expires", "never"),
    ("header", "waivers ratio/five reason", DELETE),
    ("case", "excused", "WRONG"),
    ("waived", "excused", "CONFORMS"),
    ("waived", "verdict", "WRONG"),
    ("index", "release", "../2026.1"),
    ("index", "release", "2026.1\n"),
    ("index", "status", ""),
    ("index", "knowledge", []),
    ("index", "knowledge 0 name", "presets.json"),
    ("index", "knowledge 0 name", "policy.json"),
    ("index", "knowledge 0 sha256", "0" * 63),
    ("index", "knowledge 0 cases", 1),
    ("index", "files", {}),
    ("index", "files 0 name", "../bugs.json"),
    ("index", "files 0 name", "/etc/passwd"),
    ("index", "files 0 name", "ratio.json\n"),
    ("index", "files 0 sha256", "0" * 63),
    ("index", "files 0 sha256", "A" * 64),
    ("index", "files 0 bytes", 1),
    ("index", "files 0 bytes", MAX_FILE_BYTES + 1),
    ("index", "files 0 cases", 0),
    ("index", "files 0 path", "x"),
    ("index", "files 1", {"name": "ratio.json", "sha256": "0" * 64, "bytes": 100, "cases": 1}),
    ("td", "op", "td errors"),
    ("td", "cases", []),
    *[("td", f"{CASE} {field}", DELETE) for field in synthetic.td_cases()[0]],
    ("td", f"{CASE} note", "x"),
    ("td", f"{CASE} id", "td_errors/../x"),
    ("td", f"{CASE} rev", 0),
    ("td", f"{CASE} rev", 1.5),
    ("td", f"{CASE} title", ""),
    ("td", f"{CASE} title", "two\nlines"),
    ("td", f"{CASE} title", "\u202edesrever"),
    ("td", f"{CASE} title", "\x1b[2J"),
    ("td", f"{CASE} purpose", 7),
    ("td", f"{CASE} stability", 0),
    ("td", f"{CASE} reference", None),
    ("td", f"{CASE} dims T", 0),
    ("td", f"{CASE} dims time", 4),
    ("td", f"{CASE} inputs gamma", None),
    ("td", f"{CASE} inputs gamma", "\0"),
    ("td", f"{CASE} inputs rewards", []),
    ("td", f"{CASE} inputs rewards 0 0", "1"),
    ("td", f"{CASE} inputs no-name", 1),
    ("td", f"{CASE} expected", []),
    ("td", f"{CASE} expected 0 conventions", []),
    ("td", f"{CASE} expected 0 conventions", {"a b": "c"}),
    ("td", f"{CASE} expected 0 conventions", {"kl.direction": 1}),
    ("td", f"{CASE} expected 0 outputs", {}),
    ("td", f"{CASE} expected 0 outputs a/b", {"shape": [], "value": [0], "exact": True}),
    *[("td", f"{OUT} {field}", DELETE) for field in ("shape", "value", "bits", "radius", "R")],
    ("td", f"{OUT} ulp", 1),
    ("td", f"{OUT} exact", True),
    ("td", f"{OUT} shape", [0]),
    ("td", f"{OUT} shape", [1] * 9),
    ("td", f"{OUT} shape", [10**7]),
    ("td", f"{OUT} value 0", None),
    ("td", f"{OUT} value 0", [1.0]),
    ("td", f"{OUT} value", []),
    ("td", f"{OUT} bits 0", "3FF0000000000000"),
    ("td", f"{OUT} bits 0", "3ff000000000000"),
    ("td", f"{OUT} bits 0", "3ff0000000000000\n"),
    ("td", f"{OUT} radius", -1e-300),
    ("td", f"{OUT} R 0", -1),
    ("td", f"{WRONG} bug", "two words"),
    *[("td", f"{WRONG} conventions", value) for value in (None, {}, [], [{}, {}], [[]], [{}, {"a b": "c"}])],
    *[("td", f"{WRONG} {field}", DELETE) for field in ("bug", "conventions", "outputs")],
    ("td", f"{WRONG} outputs", {}),
    ("td", f"{WRONG} outputs td_errors value 0", "null"),
    ("td", f"{WRONG} outputs td_errors bits", []),
    ("td", f"{CASE} resolves", []),
    ("td", f"{CASE} resolves", ["float64", "float64"]),
    ("td", f"{CASE} resolves", ["Float 64"]),
    ("td", f"{CASE} provenance", "trust me"),
    ("td", f"{CASE} provenance routes", []),
    ("td", f"{CASE} provenance routes", [""]),
    ("td", f"{CASE} provenance precision_bits", 0),
    ("td", f"{CASE} provenance agreement_bits", "all"),
    ("td", f"{CASE} provenance amplification", []),
    ("td", f"{CASE} provenance by", "hand"),
    ("search", f"{INT} exact", False),
    ("search", f"{INT} value 0", 0.5),
    ("search", f"{INT} bits", []),
    ("search", f"{INT} shape", DELETE),
    ("search", f"{POLICY} layers", []),
    ("search", f"{POLICY} layers 0 W", []),
    ("search", f"{POLICY} layers 0 W 0 0", [1]),
    ("search", f"{POLICY} layers 0 b", DELETE),
    ("search", f"{POLICY} layers 0 bias", [1]),
    ("search", f"{POLICY} activation", DELETE),
    ("search", f"{POLICY} activation", 1),
    ("search", f"{POLICY} distribution", "beta"),
    ("search", f"{POLICY} distribution", "diagonal_gaussian"),
    ("search", f"{POLICY} log_std", [0.0, 0.0]),
    ("search", f"{POLICY} dropout", 0.5),
    ("kl", f"{CASE} expected 1 conventions kl.direction", "new old"),
    ("conventions", "axes KL", {"title": "t", "default": "a", "values": {"a": "b"}}),
    ("conventions", f"{AXIS} title", ""),
    ("conventions", f"{AXIS} default", DELETE),
    ("conventions", f"{AXIS} values", {}),
    ("conventions", f"{AXIS} values old_new", 1),
    ("conventions", f"{AXIS} values", {"a\nb": "c"}),
    ("conventions", f"{AXIS} note", "x"),
    ("bugs", "bugs", []),
    ("bugs", "bugs ../x", synthetic.bug("t")),
    *[("bugs", f"{BUG} {field}", DELETE) for field in synthetic.bug("t")],
    ("bugs", f"{BUG} title", ""),
    ("bugs", f"{BUG} hint", None),
    ("bugs", f"{BUG} evidence", "project#1"),
    ("bugs", f"{BUG} evidence 0", ""),
    ("bugs", f"{BUG} severity", "high"),
    ("policy", "factor", 0.5),
    ("policy", "factor", 1e6),
    ("policy", "floor", -0.1),
    ("policy", "floor", 2),
    ("policy", "unit_roundoff", {"float32": 2.0**-24}),
    ("policy", "unit_roundoff float64", 0),
    ("policy", "unit_roundoff float64", 1),
    ("policy", "unit_roundoff a-b", 0.5),
    ("errata", "errata", {}),
    *[("errata", f"errata 0 {field}", DELETE) for field in synthetic.erratum()],
    ("errata", "errata 0 case", "ratio"),
    ("errata", "errata 0 rev", 0),
    ("errata", "errata 0 date", "31 January 2026"),
    ("errata", "errata 0 date", "2026-02-30"),
    ("errata", "errata 0 what", "regretted"),
    ("errata", "errata 0 why", ""),
    ("errata", "errata 0 by", "me"),
    ("header", "kind", "trailer"),
    ("header", "dtype", {}),
    ("header", "conventions", "most"),
    ("header", "profiles", []),
    ("header", "notes", "none"),
    *[("case", field, DELETE) for field in ("kind", "id", "rev", "op", "profile", "verdict", "dtype", "worst")],
    ("header", "index", "0" * 63),
    ("header", "date", "2026-01-31"),
    ("case", "conventions", DELETE),
    ("case", "rev", 0),
    ("case", "message", "m"),
    ("case", "worst", "-Infinity"),
    ("case", "answer", "too small"),
    ("case", "answer", {}),
    ("case", "answer a-b", {"shape": [], "value": [1.0]}),
    ("case", f"{GOT} shape", DELETE),
    ("case", f"{GOT} shape 0", -1),
    ("case", f"{GOT} value 0", None),
    ("case", f"{GOT} value 0", "nan"),
    ("case", f"{GOT} value 0", "12"),
    ("case", f"{GOT} bits", []),
    ("footer", "lines", -1),
    ("footer", "sha256", "A" * 64),
    ("case", "verdict", "FINE"),
    ("case", "worst", -1),
    ("case", "worst", "NaN"),
    ("case", "changed", []),
    ("case", "diagnosis kind", "magic"),
    ("case", "diagnosis lines 0", ["hint"]),
    ("case", "diagnosis lines 0", ["hint", "a", "b"]),
    ("case", "diagnosis complete", None),
    ("footer", "counts wrong", -1),
    ("footer", "counts wrong", DELETE),
    ("footer", "counts forgiven", 0),
    ("footer", "exit", 5),
    ("footer", "worst_conforming", True),
]


def edited(value: Json, where: str, new: Any) -> Json:
    """The value with something put at a place: keys and indices, with blanks between them."""
    *path, last = where.split(" ")
    holder = value
    for key in path:
        holder = holder[int(key) if isinstance(holder, list) else key]
    if new is DELETE:
        del holder[last]
    elif isinstance(holder, list):
        holder[int(last) : int(last) + 1] = [new]
    else:
        holder[last] = new
    return value


@pytest.mark.parametrize(("name", "where", "new"), EDITS)
def test_an_edit_is_refused(name: str, where: str, new: Any) -> None:
    schema, make = VALID[name]
    assert complaints(schema, edited(make(), where, new)) != []


# Edits of every place: another type, another text.

# Where more than one type is right: nested numbers of the inputs, null for what is not finite.
SEVERAL = re.compile(r"cases 0 inputs( [a-z_]+){1,2}( 0)*$|cases 0 wrong 0 outputs \w+ value 0$|worst|conventions$")


def places(value: Json, where: str = "") -> Iterator[tuple[str, Json]]:
    """Everything inside, of a list only the first entry."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, inner in items:
        yield f"{where} {key}".strip(), inner
        yield from places(inner, f"{where} {key}".strip())


def sort(value: Json) -> str:
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


@pytest.mark.parametrize("name", VALID)
def test_another_type_is_refused_everywhere(name: str) -> None:
    schema, make = VALID[name]
    for where, value in places(make()):
        for new in (None, True, -0.5, "\0", ["\0"], {"?": None}):
            if sort(new) != sort(value) and not SEVERAL.search(where):
                assert complaints(schema, edited(make(), where, new)) != [], f"{where} = {new!r}"


@pytest.mark.parametrize("name", [name for name in VALID if VALID[name][0] != "report"])
def test_no_text_has_two_lines(name: str) -> None:
    schema, make = VALID[name]
    texts = [where for where, value in places(make()) if isinstance(value, str)]
    assert texts
    for where in texts:
        for new in ("two\nlines", "a\n", "\x1b[2J", "\u202edesrever", "\ud800"):
            assert complaints(schema, edited(make(), where, new)) != [], f"{where} = {new!r}"
