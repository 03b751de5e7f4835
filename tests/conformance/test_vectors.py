"""The loader reads what is documented and refuses everything else with a VectorError."""

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refpg.conformance.ops import OPS
from refpg.conformance.signatures import parse_type
from refpg.conformance.vectors import KNOWLEDGE, VectorError, load, parse, read_release

from . import synthetic


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return synthetic.write(tmp_path)


def test_a_release_is_read_into_records(folder: Path) -> None:
    vectors = load(folder)
    assert vectors.release == "2026.1"
    assert list(vectors.cases) == ["td_errors", "ratio", "mean_kl", "line_search"]  # the order of the contract
    case = vectors.cases["td_errors"][0]
    assert case.id == "td_errors/ends-4x3"
    assert case.inputs["terminated"].dtype == np.bool_
    assert case.expected[0].outputs["td_errors"].value.shape == (4, 3)
    assert vectors.case("ratio/five") is vectors.cases["ratio"][1]
    assert vectors.case("ratio/six") is None


def test_only_the_files_asked_for_are_opened(folder: Path) -> None:
    (folder / "2026.1" / "ratio.json").unlink()
    assert list(load(folder, ops=["td_errors"]).cases) == ["td_errors"]


def test_records_cannot_be_changed(folder: Path) -> None:
    case = load(folder).cases["mean_kl"][0]
    with pytest.raises(AttributeError):
        case.rev = 2  # type: ignore[misc]
    with pytest.raises(TypeError):
        case.inputs["observations"] = 0  # type: ignore[index]
    with pytest.raises(TypeError):
        case.inputs["old_policy"]["layers"][0]["W"] = 0
    with pytest.raises(ValueError, match="read-only"):
        case.inputs["observations"][0, 0] = 2.0
    with pytest.raises(ValueError, match="read-only"):
        case.expected[0].outputs["mean_kl"].value[...] = 0.0


def test_lengths_of_parameters_and_outputs_are_derived(folder: Path) -> None:
    vectors = load(folder)
    assert vectors.cases["line_search"][0].dims["P"] == 4
    assert list(vectors.cases["line_search"][0].shapes) == [
        "parameters.layers[0].W",
        "parameters.layers[0].b",
        "accepted",
    ]


def test_every_type_of_the_contract_is_understood() -> None:
    for op in OPS.values():
        for text in (*op.inputs.values(), *op.outputs.values()):
            parse_type(text)


# Hostile files, one class each.


def refused(folder: Path, message: str) -> None:
    with pytest.raises(VectorError, match=message):
        load(folder)


def test_an_altered_byte_is_noticed(folder: Path) -> None:
    path = folder / "2026.1" / "ratio.json"
    path.write_bytes(path.read_bytes().replace(b"a title", b"a tytle", 1))
    refused(folder, "SHA-256")


def test_content_is_not_parsed_before_its_hash_agrees(folder: Path) -> None:
    path = folder / "2026.1" / "ratio.json"
    path.write_bytes(b"{" * path.stat().st_size)
    refused(folder, "SHA-256")


def test_a_truncated_file_is_refused(folder: Path) -> None:
    path = folder / "2026.1" / "ratio.json"
    path.write_bytes(path.read_bytes()[:-1])
    refused(folder, "the index says")


def test_a_longer_file_is_refused(folder: Path) -> None:
    path = folder / "2026.1" / "ratio.json"
    path.write_bytes(path.read_bytes() + b" ")
    refused(folder, "larger than")


def test_an_oversized_index_is_refused(folder: Path) -> None:
    (folder / "2026.1" / "index.json").write_bytes(b" " * ((1 << 20) + 1))
    refused(folder, "larger than")


def test_a_file_that_declares_itself_huge_is_refused(folder: Path) -> None:
    edit_index(folder, lambda index: index["files"][0].update(bytes=1 << 40))
    refused(folder, "larger than")


def test_a_missing_file_is_refused(folder: Path) -> None:
    (folder / "2026.1" / "ratio.json").unlink()
    refused(folder, "cannot be read")


def test_a_pipe_is_not_waited_for(folder: Path) -> None:
    (folder / "policy.json").unlink()
    os.mkfifo(folder / "policy.json")
    refused(folder, "not a regular file")


@pytest.mark.parametrize(
    "name",
    ["../bugs.json", "/etc/passwd", "..\\bugs.json", "ratio.json/../x", "index.json", "gea.json", "", "a\0.json", 3],
)
def test_the_index_cannot_name_a_file_outside(folder: Path, name: Any) -> None:
    edit_index(folder, lambda index: index["files"][0].update(name=name))
    refused(folder, "index.json")


def test_the_index_cannot_list_a_file_twice(folder: Path) -> None:
    edit_index(folder, lambda index: index["files"].append(index["files"][0]))
    refused(folder, "listed twice")


@pytest.mark.parametrize("release", ["../2026.1", "2026.1/..", "", "2026"])
def test_the_name_of_a_release_cannot_leave_the_folder(folder: Path, release: str) -> None:
    with pytest.raises(VectorError, match="not the name of a release"):
        load(folder, release=release)


@pytest.mark.parametrize("schema", [2, 0, True, "1", 1.0, None])
def test_an_unknown_schema_is_refused(folder: Path, schema: Any) -> None:
    edit_index(folder, lambda index: index.update(schema=schema))
    refused(folder, "schema")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"a": 1, "a": 2}', "duplicate key 'a'"),
        (b'{"a": [{"b": 1, "b": 1}]}', "duplicate key 'b'"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a": 1e999}', "overflows"),
        (b'{"a": ' + b"9" * 5000 + b"}", "beyond"),
        (b'{"a": 9007199254740993}', "beyond"),
        (b'{"a": 1e-999}', "vanishes"),
        (b'{"a": "two\\nlines"}', "one line"),
        (b'{"a": "\\u001b[2J"}', "one line"),
        (b'{"a": "\\u202edesrever"}', "one line"),
        (b'{"a": "\\ud800"}', "one line"),
        (b'{"two\\nlines": 1}', "one line"),
        (b"[" * 40 + b"]" * 40, "32 deep"),
        (b'{"a": "\xff"}', "utf-8"),
        (b'\xef\xbb\xbf{"a": 1}', "BOM"),
        (b"[" * 100_000, "deep|Expecting"),
        (b'{"a": 1} {"b": 1}', "Extra data"),
        (b'{"a": 1,}', "property name|trailing comma"),
        (b"", "Expecting value"),
    ],
)
def test_json_is_strict(text: bytes, message: str) -> None:
    with pytest.raises(VectorError, match=message):
        parse(text, "file.json")


def edit_index(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "2026.1" / "index.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))


def leaf_of(case: dict[str, Any]) -> dict[str, Any]:
    leaf: dict[str, Any] = case["expected"][0]["outputs"]["td_errors"]
    return leaf


def wrong_leaf_of(case: dict[str, Any]) -> dict[str, Any]:
    leaf: dict[str, Any] = case["wrong"][0]["outputs"]["td_errors"]
    return leaf


EDITS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "the id of another op": (lambda c: c.update(id="ratio/x"), "not the id"),
    "an id that is a path": (lambda c: c.update(id="td_errors/../../x"), "not the id"),
    "a revision that is a boolean": (lambda c: c.update(rev=True), "rev"),
    "a revision that is text": (lambda c: c.update(rev="1"), "rev"),
    "an unknown field": (lambda c: c.update(note="x"), "unknown fields"),
    "a missing field": (lambda c: c.pop("purpose"), "missing fields"),
    "a stability that is a number": (lambda c: c.update(stability=1), "stability is not true or false"),
    "a title that is a list": (lambda c: c.update(title=["x"]), "title"),
    "a missing input": (lambda c: c["inputs"].pop("gamma"), "missing fields"),
    "an unknown input": (lambda c: c["inputs"].update(lam=1), "unknown fields"),
    "an input of text": (lambda c: c["inputs"].update(gamma="0.5"), "gamma holds"),
    "a null": (lambda c: c["inputs"].update(gamma=None), "gamma holds"),
    "a boolean where a number is meant": (lambda c: c["inputs"].update(gamma=True), "gamma holds"),
    "a number where a boolean is meant": (lambda c: c["inputs"]["terminated"][0].__setitem__(0, 0), "terminated holds"),
    "a ragged input": (lambda c: c["inputs"]["rewards"][0].pop(), "ragged"),
    "an empty input": (lambda c: c["inputs"].update(rewards=[[], []]), "empty"),
    "an input with a row too many": (lambda c: c["inputs"]["rewards"].append([0.0, 0.0, 0.0]), "expected T = 5"),
    "an integer beyond float64": (lambda c: c["inputs"].update(gamma=2**53 + 1), "beyond"),
    "dims that disagree": (lambda c: c["dims"].update(T=5), "dims"),
    "dims of a letter that nothing has": (lambda c: c["dims"].update(Z=5), "dims"),
    "dims that are floats": (lambda c: c["dims"].update(T=4.0), "T is not an integer"),
    "no expected answer": (lambda c: c.update(expected=[]), "first expected"),
    "a first answer that is not the default": (
        lambda c: c["expected"][0].update(conventions={"kl.direction": "new_old"}),
        "not a convention of",
    ),
    "an answer twice": (lambda c: c["expected"].append(c["expected"][0]), "same conventions"),
    "an output too many": (lambda c: c["expected"][0]["outputs"].update(x=leaf_of(c)), "unknown fields"),
    "an output of another shape": (lambda c: leaf_of(c).update(shape=[3, 4]), "shape is"),
    "a shape with a negative length": (lambda c: leaf_of(c).update(shape=[-4, -3]), "list of lengths"),
    "a shape that is not a list": (lambda c: leaf_of(c).update(shape=12), "lengths"),
    "a shape of many axes": (lambda c: leaf_of(c).update(shape=[1] * 9), "at most 8"),
    "a shape that takes long to multiply": (lambda c: wrong_leaf_of(c).update(shape=[2**50] * 10_000), "at most 8"),
    "a value that is not flat": (
        lambda c: wrong_leaf_of(c).update(shape=[2], value=[[1.0], [2.0]]),
        "not a flat list",
    ),
    "a value too few": (lambda c: leaf_of(c)["value"].pop(), "as many entries"),
    "bits too few": (lambda c: leaf_of(c)["bits"].pop(), "bits"),
    "bits of another number": (lambda c: leaf_of(c)["bits"].__setitem__(0, "3ff0000000000001"), "different numbers"),
    "bits that are not hexadecimal": (lambda c: leaf_of(c)["bits"].__setitem__(0, "x" * 16), "hexadecimal"),
    "bits in capitals": (
        lambda c: (leaf_of(c)["value"].__setitem__(0, -2.0), leaf_of(c)["bits"].__setitem__(0, "C" + "0" * 15)),
        "hexadecimal",
    ),
    "a negative R": (lambda c: leaf_of(c)["R"].__setitem__(0, -1.0), "R is negative"),
    "R too few": (lambda c: leaf_of(c)["R"].pop(), "as many entries"),
    "a negative radius": (lambda c: leaf_of(c).update(radius=-1.0), "radius"),
    "an exact float": (lambda c: leaf_of(c).update(exact=True), "unknown fields"),
    "the zero of another sign": (
        lambda c: (leaf_of(c)["value"].__setitem__(0, 0.0), leaf_of(c)["bits"].__setitem__(0, "8" + "0" * 15)),
        "different numbers",
    ),
    "a bug twice": (lambda c: c["wrong"].append(c["wrong"][0]), "two answers"),
    "a combination twice": (lambda c: c["wrong"][0].update(conventions=[{}, {}]), "two answers"),
    "a wrong answer under no conventions": (lambda c: c["wrong"][0].update(conventions=[]), "a list of 1 to 10000"),
    "a wrong answer under too many": (lambda c: c["wrong"][0].update(conventions=[{}] * 10_001), "a list of 1 to"),
    "a combination outside a list": (
        lambda c: c["wrong"][0].update(conventions={"kl.direction": "new_old"}),
        "a list of 1 to",
    ),
    "a combination that is a list": (lambda c: c["wrong"][0].update(conventions=[[]]), "not a mapping"),
    "a wrong answer under conventions of another op": (
        lambda c: c["wrong"][0].update(conventions=[{}, {"kl.direction": "new_old"}]),
        "not a convention of",
    ),
    "a wrong leaf with a radius": (lambda c: wrong_leaf_of(c).update(radius=0.0), "unknown fields"),
    "an unknown bug": (lambda c: c["wrong"][0].update(bug="never-heard"), "bugs.json"),
    "a wrong answer to another question": (lambda c: c["wrong"][0].update(outputs={"x": leaf_of(c)}), "not a leaf"),
    "a wrong answer without outputs": (lambda c: c["wrong"][0].update(outputs={}), "no output"),
    "a dtype nobody knows": (lambda c: c.update(resolves=["float63"]), "resolves"),
    "no dtype": (lambda c: c.update(resolves=[]), "resolves"),
    "a provenance without a route": (lambda c: c["provenance"].update(routes=[]), "routes"),
    "a provenance of nothing": (lambda c: c["provenance"].update(routes=[""]), "routes"),
    "a provenance of text": (lambda c: c.update(provenance="trust me"), "provenance"),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_malformed_case_is_refused(folder: Path, name: str) -> None:
    change, message = EDITS[name]
    cases = synthetic.td_cases()
    change(cases[0])
    content = json.dumps({"schema": 1, "op": "td_errors", "cases": cases}).encode()
    synthetic.rewrite(folder, "td_errors.json", content, len(cases))
    refused(folder, message)


def test_two_cases_cannot_share_an_id(folder: Path) -> None:
    cases = [synthetic.td_cases()[0]] * 2
    content = json.dumps({"schema": 1, "op": "td_errors", "cases": cases}).encode()
    synthetic.rewrite(folder, "td_errors.json", content, 2)
    refused(folder, "same id")


def test_the_number_of_cases_is_the_one_of_the_index(folder: Path) -> None:
    edit_index(folder, lambda index: index["files"][0].update(cases=7))
    refused(folder, "the index says 7")


POLICY_EDITS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a distribution nobody knows": (lambda p: p.update(distribution="beta"), "distribution"),
    "a log_std without a Gaussian": (lambda p: p.update(log_std=[0.0, 0.0]), "log_std"),
    "a layer of a wrong width": (lambda p: p["layers"][0].update(b=[0.0]), "shapes"),
    "layers that do not chain": (lambda p: p["layers"].append({"W": [[1.0]], "b": [1.0]}), "shapes"),
    "no layer": (lambda p: p.update(layers=[]), "list of layers"),
    "a layer without bias": (lambda p: p["layers"][0].pop("b"), "keys"),
    "an activation that is a number": (lambda p: p.update(activation=1), "activation"),
    "features that are not there": (lambda p: p["layers"][0].update(W=[[0.5, 0.0], [0.0, 0.0]]), "features|shaped"),
}


@pytest.mark.parametrize("name", POLICY_EDITS)
def test_a_malformed_policy_is_refused(folder: Path, name: str) -> None:
    change, message = POLICY_EDITS[name]
    case = copy.deepcopy(synthetic.kl_case("two-logits", synthetic.kl_values()))
    change(case["inputs"]["old_policy"])
    change(case["inputs"]["new_policy"])
    content = json.dumps({"schema": 1, "op": "mean_kl", "cases": [case]}).encode()
    synthetic.rewrite(folder, "mean_kl.json", content)
    refused(folder, message)


AXIS = {"title": "t", "default": "a", "values": {"a": "b"}}


@pytest.mark.parametrize(
    ("which", "content"),
    [
        ("bugs", {"schema": 1, "bugs": []}),
        ("bugs", {"schema": 1, "bugs": {"x": {"title": "t"}}}),
        ("bugs", {"schema": 1, "bugs": {"../x": synthetic.bug("t")}}),
        ("bugs", {"schema": 1, "bugs": {"x": synthetic.bug("t") | {"evidence": "one"}}}),
        ("policy", synthetic.POLICY | {"unit_roundoff": {"float64": 0}}),
        ("policy", synthetic.POLICY | {"unit_roundoff": {"float32": 2.0**-24}}),
        ("policy", synthetic.POLICY | {"factor": "16"}),
        ("policy", synthetic.POLICY | {"floor": -1}),
        ("policy", synthetic.POLICY | {"factor": 1e300}),
        ("policy", synthetic.POLICY | {"unit_roundoff": {"float64": 2.0**-53, "two words": 0.5}}),
        ("policy", []),
        ("conventions", {"schema": 1, "axes": {}}),
        ("conventions", {"schema": 1, "axes": {"kl direction": AXIS}}),
        ("conventions", {"schema": 1, "axes": {"kl.direction": AXIS | {"default": "c"}}}),
        ("conventions", {"schema": 1, "axes": {"kl.direction": AXIS | {"values": {"a": "b", "two words": "c"}}}}),
        ("errata", []),
        ("errata", {"schema": 1, "errata": {}}),
        ("errata", {"schema": 1, "errata": [synthetic.erratum(case="ratio")]}),
        ("errata", {"schema": 1, "errata": [synthetic.erratum(rev=0)]}),
        ("errata", {"schema": 1, "errata": [synthetic.erratum(date="2026-02-30")]}),
        ("errata", {"schema": 1, "errata": [synthetic.erratum(date="20260131")]}),
        ("errata", {"schema": 1, "errata": [synthetic.erratum(what="regretted")]}),
        ("errata", {"schema": 1, "errata": [synthetic.erratum(why="")]}),
        ("errata", {"schema": 1, "errata": [synthetic.erratum(by="me")]}),
        ("errata", {"schema": 1, "errata": [synthetic.erratum(), synthetic.erratum(why="again")]}),
    ],
)
def test_malformed_knowledge_is_refused(tmp_path: Path, which: str, content: Any) -> None:
    refused(synthetic.write(tmp_path, **{which: content}), f"{which}.json")


def test_a_wrong_answer_needs_a_certified_one(folder: Path) -> None:
    case = copy.deepcopy(synthetic.kl_case("two-logits", synthetic.kl_values()))
    del case["expected"][1]
    wrong = {"mean_kl": synthetic.wrong_leaf(1.0)}
    case["wrong"] = [{"bug": "ratio-inverted", "conventions": [{}, {"kl.direction": "new_old"}], "outputs": wrong}]
    synthetic.rewrite(folder, "mean_kl.json", json.dumps({"schema": 1, "op": "mean_kl", "cases": [case]}).encode())
    refused(folder, "no certified answer under")


def wrong_mean_kl(folder: Path, *wrong: tuple[str, list[dict[str, str]], float]) -> None:
    """Replace the wrong answers of the case with two certified ones: bug, combinations of conventions, value."""
    case = synthetic.kl_case("two-logits", synthetic.kl_values())
    case["wrong"] = [
        {"bug": bug, "conventions": conventions, "outputs": {"mean_kl": synthetic.wrong_leaf(value)}}
        for bug, conventions, value in wrong
    ]
    synthetic.rewrite(folder, "mean_kl.json", json.dumps({"schema": 1, "op": "mean_kl", "cases": [case]}).encode())


OLD_NEW, NEW_OLD = {"kl.direction": "old_new"}, {"kl.direction": "new_old"}


def test_a_wrong_answer_is_read_once_under_each_of_its_conventions(folder: Path) -> None:
    wrong_mean_kl(
        folder,
        ("td-no-mask", [NEW_OLD], 2.0),
        ("td-no-mask", [OLD_NEW], 3.0),  # the default, named
        ("ratio-inverted", [NEW_OLD, {}], 1.0),
    )
    wrong = load(folder).cases["mean_kl"][0].wrong
    assert [(one.bug, dict(one.conventions), float(one.outputs["mean_kl"])) for one in wrong] == [
        ("td-no-mask", {}, 3.0),
        ("ratio-inverted", {}, 1.0),
        ("td-no-mask", NEW_OLD, 2.0),
        ("ratio-inverted", NEW_OLD, 1.0),
    ]
    assert wrong[1].outputs is wrong[3].outputs


@pytest.mark.parametrize("again", [[{}], [NEW_OLD, {}], [OLD_NEW]])
def test_two_answers_of_one_mistake_under_the_same_conventions_are_refused(folder: Path, again: Any) -> None:
    wrong_mean_kl(folder, ("ratio-inverted", [{}], 1.0), ("ratio-inverted", again, 2.0))
    refused(folder, "wrong ratio-inverted: two answers under {}")


@pytest.mark.parametrize("name", KNOWLEDGE)
def test_knowledge_that_the_index_does_not_vouch_for_is_refused(folder: Path, name: str) -> None:
    """A blank more, or other words of the same length: the numbers of the cases are as they were."""
    path = folder / name
    original = path.read_bytes()
    path.write_bytes(original + b" ")
    refused(folder, f"{name}: has {len(original) + 1} bytes, the index says {len(original)} .*certify --seal")
    path.write_bytes(original.replace(b": ", b" :", 1))
    refused(folder, f"{name}: its SHA-256 is not the one of the index; .*certify --seal")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index.pop("knowledge"), "missing fields"),
        (lambda index: index.update(knowledge={}), "not a list"),
        (lambda index: index["knowledge"].pop(), "knowledge is"),
        (lambda index: index["knowledge"].append(index["knowledge"][0]), "knowledge is"),
        (lambda index: index["knowledge"][0].update(name="presets.json"), "knowledge is"),
        (lambda index: index["knowledge"][0].update(name="../bugs.json"), "knowledge is"),
        (lambda index: index["knowledge"][0].update(sha256="0" * 63), "sha256 is not 64"),
        (lambda index: index["knowledge"][0].update(bytes=True), "bytes is not an integer"),
        (lambda index: index["knowledge"][0].update(cases=1), "unknown fields"),
    ],
)
def test_the_index_vouches_for_all_of_the_knowledge(folder: Path, change: Any, message: str) -> None:
    edit_index(folder, change)
    refused(folder, message)


# Errata.


def with_errata(folder: Path, *errata: dict[str, Any]) -> Path:
    return synthetic.write(folder, errata={"schema": 1, "errata": list(errata)})


def test_errata_are_read(tmp_path: Path) -> None:
    errata = load(with_errata(tmp_path, synthetic.erratum(), synthetic.erratum(what="corrected", rev=2))).errata
    assert [(e.case, e.rev, e.date, e.what) for e in errata] == [
        ("ratio/gone", 1, "2026-01-31", "withdrawn"),
        ("ratio/gone", 2, "2026-01-31", "corrected"),
    ]


def test_there_are_no_errata_yet() -> None:
    assert load(ops=[]).errata == ()


def test_errata_cannot_be_left_out(folder: Path) -> None:
    (folder / "errata.json").unlink()
    refused(folder, "errata.json: cannot be read")


def test_a_withdrawn_case_cannot_be_present(tmp_path: Path) -> None:
    with_errata(tmp_path, synthetic.erratum(case="ratio/five"))
    refused(tmp_path, "ratio/five was withdrawn on 2026-01-31")
    assert list(load(tmp_path, ops=["td_errors"]).cases) == ["td_errors"]


@pytest.mark.parametrize("rev", [1, 2])
def test_a_corrected_case_has_a_later_revision(tmp_path: Path, rev: int) -> None:
    with_errata(tmp_path, synthetic.erratum(case="ratio/five", what="corrected", rev=rev))
    refused(tmp_path, f"ratio/five was corrected after revision {rev}")
    cases = synthetic.release()["ratio"]
    cases[1]["rev"] = rev + 1
    synthetic.rewrite(tmp_path, "ratio.json", json.dumps({"schema": 1, "op": "ratio", "cases": cases}).encode(), 2)
    assert load(tmp_path).cases["ratio"][1].rev == rev + 1


# Whatever holds files.


def test_a_release_is_read_from_anything_that_holds_files(folder: Path) -> None:
    asked = []

    def read(name: str, most: int) -> bytes:
        asked.append(name)
        return (folder / name).read_bytes()[:most]

    assert read_release(read, "2026.1", ops=["ratio"]).ids() == ["ratio/seven", "ratio/five"]
    knowledge = ["conventions.json", "bugs.json", "policy.json", "errata.json"]
    assert asked == ["2026.1/index.json", *knowledge, "2026.1/ratio.json"]


def test_a_complaint_is_a_short_line(folder: Path) -> None:
    edit_index(folder, lambda index: index.update({"x" * 100_000: 1, "y": 2}))
    with pytest.raises(VectorError) as caught:
        load(folder)
    assert len(str(caught.value)) <= 300


JUNK = st.sampled_from(
    [None, True, -1, 0, 1.5, 2**70, "", "x", [], {}, [[1]], {"shape": []}, ["x"], "3ff0000000000000"]
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of everything inside nested JSON."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, part in inner for place in [(*path, key), *places(part, (*path, key))]]


def mutated(value: Any, path: tuple[Any, ...], junk: Any, delete: bool) -> Any:
    value = copy.deepcopy(value)
    parent = value
    for key in path[:-1]:
        parent = parent[key]
    if delete:
        del parent[path[-1]]
    else:
        parent[path[-1]] = junk
    return value


FILES = {op: {"schema": 1, "op": op, "cases": cases} for op, cases in synthetic.release().items() if op != "ratio"}


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_mutation_is_read_or_refused_but_never_crashes(folder: Path, data: st.DataObject) -> None:
    op = data.draw(st.sampled_from(sorted(FILES)))
    path = data.draw(st.sampled_from(places(FILES[op])))
    content = mutated(FILES[op], path, data.draw(JUNK), data.draw(st.booleans()))
    count = len(content["cases"]) if isinstance(content.get("cases"), list) else 1
    synthetic.rewrite(folder, f"{op}.json", json.dumps(content).encode(), max(count, 1))
    try:
        load(folder, ops=[op])
    except VectorError as error:
        message = str(error)
    else:
        return
    assert f"{op}.json" in message


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(junk=JUNK, delete=st.booleans(), data=st.data())
def test_any_mutation_of_the_index_is_read_or_refused(
    folder: Path, junk: Any, delete: bool, data: st.DataObject
) -> None:
    path = folder / "2026.1" / "index.json"
    original = path.read_text()
    index = json.loads(original)
    path.write_text(json.dumps(mutated(index, data.draw(st.sampled_from(places(index))), junk, delete)))
    try:
        load(folder)
    except VectorError:
        pass
    finally:
        path.write_text(original)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 10**6), byte=st.integers(0, 255))
def test_no_altered_byte_is_read(folder: Path, position: int, byte: int) -> None:
    path = folder / "2026.1" / "td_errors.json"
    original = path.read_bytes()
    position %= len(original)
    path.write_bytes(original[:position] + bytes([byte]) + original[position + 1 :])
    try:
        if byte != original[position]:
            refused(folder, "SHA-256")
    finally:
        path.write_bytes(original)
