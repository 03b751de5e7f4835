"""Releases leave the package whole and come back the same, and whatever changed, or broke, is named."""

import hashlib
import json
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refpg.__main__ import main
from refpg.conformance import export as export_room
from refpg.conformance import plaintext
from refpg.conformance.adapters import UsageError
from refpg.conformance.export import export
from refpg.conformance.releases import Source, difference, difference_lines, locate, verify
from refpg.conformance.tolerance import tolerances
from refpg.conformance.vectors import DATA, RELEASE, VectorError, load

from . import synthetic

INSTALLED = Source(DATA, RELEASE, "json")


def written(folder: Path, files: Any = None, **replaced: Any) -> Source:
    synthetic.write(folder, files, **replaced)
    (folder / "LICENSE").write_text("CC0")
    return Source(folder, "2026.1", "json")


@pytest.fixture
def small(tmp_path: Path) -> Source:
    """A small release: an op with an exact output, one with two conventions, two with neither."""
    return written(tmp_path / "small")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The installed release in both forms, not to be altered."""
    folder = tmp_path_factory.mktemp("exported")
    for form in ("json", "text"):
        assert main(["vectors", "export", str(folder / form), "--format", form]) == 0
    return {form: folder / form for form in ("json", "text")}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# What is exported


def test_data_stay_small() -> None:
    assert sum(path.stat().st_size for path in DATA.rglob("*")) < 8 << 20


def test_json_is_exported_byte_for_byte(exported: dict[str, Path]) -> None:
    found, installed = contents(exported["json"]), contents(DATA)
    assert set(found) - set(installed) == {"README.md", "SHA256SUMS"}
    assert set(installed) <= set(found)
    assert all(found[name] == content for name, content in installed.items())
    assert {"LICENSE", "bugs.json", "conventions.json", "policy.json", "2026.1/index.json"} <= set(found)


def test_an_export_can_be_loaded(exported: dict[str, Path]) -> None:
    assert load(exported["json"]).ids() == load().ids()


@pytest.mark.parametrize("form", ["json", "text"])
def test_every_file_is_hashed(exported: dict[str, Path], form: str) -> None:
    found = contents(exported[form])
    lines = found.pop("SHA256SUMS").decode().splitlines()
    assert lines == [f"{hashlib.sha256(found[name]).hexdigest()}  {name}" for name in sorted(found)]


@pytest.mark.parametrize("form", ["json", "text"])
def test_the_readme_describes_what_is_there(exported: dict[str, Path], form: str) -> None:
    readme = (exported[form] / "README.md").read_text(encoding="utf-8")
    vectors = load()
    assert f"{len(vectors.ids())} cases of {len(vectors.cases)} operations" in readme
    for path in exported[form].iterdir():
        assert path.name in ("README.md", RELEASE) or f"`{path.name}`" in readme
    assert repr(vectors.policy.unit_roundoff["float64"]) in readme
    if form == "json":
        case = json.loads((exported[form] / RELEASE / "kl_categorical.json").read_bytes())["cases"][0]
        leaf = case["expected"][0]["outputs"]["kl"]
        assert not [field for field in (*case, *leaf) if f"`{field}`" not in readme]
    else:
        words = {line.split(" ")[0] for line in (exported[form] / RELEASE / "mean_kl.txt").read_text().splitlines()}
        assert not [word for word in words if f"\n{word} " not in readme]


class Words:
    """A reader as documented for `scanf`: one word after the other, no line looked at as a whole."""

    def __init__(self, text: str) -> None:
        self.words: Iterator[str] = iter(text.split())

    def take(self, count: int) -> list[str]:
        return [next(self.words) for _ in range(count)]

    def array(self) -> tuple[str, Any]:
        name, kind, size, lengths = self.take(4)
        shape = [int(word) for word in lengths.split("x")] if lengths != "-" else []
        entries = self.take(int(size))
        read: dict[str, Callable[[str], Any]] = {"float": float, "int": int, "bool": lambda word: bool(int(word))}
        if kind == "str":
            return name, entries[0]
        if kind == "bits":
            return name, np.array([struct.unpack(">d", bytes.fromhex(word))[0] for word in entries]).reshape(shape)
        return name, np.array([read[kind](word) for word in entries]).reshape(shape)

    def conventions(self) -> dict[str, str]:
        words = self.take(2 * int(next(self.words)))
        return dict(zip(words[::2], words[1::2], strict=True))


def read_by_words(text: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    words = Words(text)
    head: dict[str, Any] = {"tolerance": {}}
    cases: list[dict[str, Any]] = []
    for word in words.words:
        if word == "refpg-vectors":
            _, head["release"], head["op"], head["cases"] = words.take(4)
        elif word == "tolerance":
            dtype, *constants = words.take(4)
            head["tolerance"][dtype] = [float(constant) for constant in constants]
        elif word == "case":
            name, rev, stability = words.take(3)
            cases.append({"id": name, "rev": int(rev), "stability": stability == "1", "resolves": [], "answers": []})
            cases[-1] |= {"mistakes": [], "input": {}, "dim": {}}
        elif word == "resolves":
            cases[-1]["resolves"] += words.take(1)
        elif word in ("dim", "input"):
            name, value = words.array()
            cases[-1][word][name] = value
        elif word == "answer":
            cases[-1]["answers"].append({"conventions": words.conventions()})
        elif word == "mistake":
            cases[-1]["mistakes"].append({"bug": words.take(1)[0], "conventions": words.conventions()})
        elif word in ("value", "bits", "radius", "R", "largest"):
            name, value = words.array()
            cases[-1]["answers"][-1].setdefault(word, {})[name] = value
        elif word == "wrong":
            name, value = words.array()
            cases[-1]["mistakes"][-1].setdefault(word, {})[name] = value
        else:
            assert [word, *words.take(1)] == ["end", cases[-1]["id"]]
    return head, cases


def flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if hasattr(value, "items"):
        for key, inner in value.items():
            yield from flat(f"{name}.{key}", inner)
    elif isinstance(value, tuple):
        for i, inner in enumerate(value):
            yield from flat(f"{name}[{i}]", inner)
    else:
        yield name, value


def same(a: Any, b: Any) -> bool:
    return bool(a == b) if isinstance(b, str) else np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_words_hold_everything_an_implementation_is_judged_by(exported: dict[str, Path]) -> None:
    """Every case of every op, read word by word: inputs, answers, mistakes, and the tolerance that follows."""
    vectors = load()
    assert {path.stem for path in (exported["text"] / RELEASE).iterdir()} == set(vectors.cases)
    for op, cases in vectors.cases.items():
        head, read = read_by_words((exported["text"] / RELEASE / f"{op}.txt").read_text(encoding="ascii"))
        assert (head["release"], head["op"], int(head["cases"])) == (RELEASE, op, len(cases))
        for case, got in zip(cases, read, strict=True):
            assert (got["id"], got["rev"], got["stability"]) == (case.id, case.rev, case.stability)
            assert got["resolves"] == list(case.resolves)
            assert got["dim"] == dict(case.dims)
            inputs = dict(pair for name, value in case.inputs.items() for pair in flat(name, value))
            assert list(got["input"]) == list(inputs)
            assert all(same(got["input"][name], value) for name, value in inputs.items())
            for entry, answer in zip(case.expected, got["answers"], strict=True):
                assert answer["conventions"] == dict(entry.conventions)
                derived = {dtype: tolerances(entry.outputs, dtype, vectors.policy) for dtype in case.resolves}
                for path, leaf in entry.outputs.items():
                    assert same(answer["value"][path], leaf.value)
                    assert leaf.exact or same(answer["bits"][path], leaf.value)
                    assert leaf.exact or answer["radius"][path] == leaf.radius
                    for dtype in case.resolves:
                        u, factor, floor = head["tolerance"][dtype]
                        R = np.maximum(answer["R"][path], floor * answer["largest"][path])
                        half_ulp = 0.0 if leaf.exact else 0.5 * np.spacing(np.abs(leaf.value))
                        tolerance = factor * u * R + half_ulp
                        assert same(tolerance, derived[dtype][path])
            for wrong, mistake in zip(case.wrong, got["mistakes"], strict=True):
                assert (mistake["bug"], mistake["conventions"]) == (wrong.bug, dict(wrong.conventions))
                assert list(mistake["wrong"]) == list(wrong.outputs)
                for path, value in wrong.outputs.items():
                    np.testing.assert_array_equal(mistake["wrong"][path], value, strict=True)


# Where it is written


def test_a_folder_that_holds_something_is_refused(small: Source, tmp_path: Path) -> None:
    target = tmp_path / "mine"
    target.mkdir()
    (target / "notes.txt").write_text("of mine")
    with pytest.raises(UsageError, match="not empty"):
        export(small, target)
    with pytest.raises(UsageError, match=r"notes\.txt, which no export wrote"):
        export(small, target, force=True)
    assert contents(target) == {"notes.txt": b"of mine"}


def test_an_export_is_replaced_by_force_alone(small: Source, tmp_path: Path) -> None:
    export(small, tmp_path / "out")
    with pytest.raises(UsageError, match="--force replaces an earlier export"):
        export(small, tmp_path / "out", form="text")
    export(small, tmp_path / "out", form="text", force=True)
    assert not (tmp_path / "out" / "2026.1" / "ratio.json").exists()
    assert verify(locate(str(tmp_path / "out"))).source.form == "text"
    (tmp_path / "out" / "2026.1" / "mine.txt").write_text("added later")
    with pytest.raises(UsageError, match=r"mine\.txt, which no export wrote"):
        export(small, tmp_path / "out", force=True)


def test_an_empty_folder_is_filled(small: Source, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert export(small, tmp_path / "out").cases == 7
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "small"]


def test_an_export_is_readable_by_everyone_whom_the_umask_allows(small: Source, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    export(small, tmp_path / "out")
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("target", ["small/LICENSE", "nowhere/out"])
def test_a_file_or_a_folder_of_nothing_is_refused(small: Source, tmp_path: Path, target: str) -> None:
    with pytest.raises(UsageError):
        export(small, tmp_path / target, force=True)


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), VectorError("broken"), KeyboardInterrupt()])
def test_a_failure_leaves_nothing_behind(
    small: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, there: bool
) -> None:
    """It fails while the third file is written."""
    if there:
        export(small, tmp_path / "out")
    before = contents(tmp_path)
    texts = iter(["one\n", "two\n"])

    def fail(*_: Any) -> str:
        for text in texts:
            return text
        raise error

    monkeypatch.setattr(export_room.plaintext, "text_of", fail)
    with pytest.raises((UsageError, VectorError, KeyboardInterrupt)):
        export(small, tmp_path / "out", form="text", force=True)
    assert contents(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == (["out", "small"] if there else ["small"])


def test_what_was_written_wrongly_is_not_put_in_place(
    small: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = plaintext.text_of
    monkeypatch.setattr(export_room.plaintext, "text_of", lambda *of: right(*of).replace("value ratio", "value rat"))
    with pytest.raises(VectorError):
        export(small, tmp_path / "out", form="text")
    assert not (tmp_path / "out").exists()


def test_a_failed_renaming_puts_the_earlier_export_back(
    small: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(small, tmp_path / "out")
    before = contents(tmp_path)
    rename, calls = export_room.os.rename, []

    def second_fails(old: Any, new: Any) -> None:
        calls.append(new)
        if len(calls) == 2:
            raise OSError(5, "Input/output error")
        rename(old, new)

    monkeypatch.setattr(export_room.os, "rename", second_fails)
    with pytest.raises(UsageError, match="Input/output error"):
        export(small, tmp_path / "out", form="text", force=True)
    assert contents(tmp_path) == before


# What is verified


def test_the_installed_release_and_its_exports_are_intact(exported: dict[str, Path]) -> None:
    vectors = load()
    entries = [entry for cases in vectors.cases.values() for case in cases for entry in case.expected]
    leaves = [leaf for entry in entries for leaf in entry.outputs.values()]
    numbers = sum(leaf.value.size for leaf in leaves if not leaf.exact)
    for source in (INSTALLED, locate(str(exported["json"])), locate(str(exported["text"]))):
        found = verify(source)
        assert (found.ops, found.cases) == (len(vectors.cases), len(vectors.ids()))
        assert (found.leaves, found.numbers) == (len(leaves), numbers)


def resum(folder: Path) -> None:
    """Write the hashes anew, so that only the content itself can be at fault."""
    (folder / "SHA256SUMS").unlink()
    lines = (f"{hashlib.sha256(text).hexdigest()}  {name}\n" for name, text in sorted(contents(folder).items()))
    (folder / "SHA256SUMS").write_text("".join(list(lines)))


def lines_of(op: str, change: Callable[[list[str]], Any]) -> Callable[[Path], None]:
    def plant(folder: Path) -> None:
        path = folder / "2026.1" / f"{op}.txt"
        lines = path.read_text().splitlines()
        change(lines)
        path.write_text("".join(f"{line}\n" for line in lines))

    return plant


def edit(op: str, start: str, old: str, new: str) -> Callable[[Path], None]:
    """Replace in the first line that starts so."""

    def change(lines: list[str]) -> None:
        i = next(i for i, line in enumerate(lines) if line.startswith(start))
        assert old in lines[i]
        lines[i] = lines[i].replace(old, new, 1)

    return lines_of(op, change)


def drop(op: str, start: str) -> Callable[[Path], None]:
    return lines_of(op, lambda lines: lines.remove(next(line for line in lines if line.startswith(start))))


def late(op: str, start: str) -> Callable[[Path], None]:
    """Exchange the first line that starts so with the one after it."""

    def change(lines: list[str]) -> None:
        i = next(i for i, line in enumerate(lines) if line.startswith(start))
        lines[i : i + 2] = lines[i + 1], lines[i]

    return lines_of(op, change)


def rename(op: str, old: str, new: str) -> Callable[[Path], None]:
    """Call a case otherwise, where it begins and where it ends."""
    return lines_of(op, lambda lines: lines.__setitem__(slice(None), [line.replace(old, new) for line in lines]))


TEXT_FAULTS = {
    "another value": (edit("mean_kl", "value mean_kl", "0.", "0.1"), "value and bits are different"),
    "other bits": (edit("mean_kl", "bits mean_kl", "3f", "3e"), "value and bits are different"),
    "a value too many": (edit("mean_kl", "value mean_kl", "1 - ", "1 - 0.5 "), "not an array"),
    "another size": (edit("mean_kl", "value mean_kl", "1 - ", "2 - "), "not an array"),
    "another shape": (edit("ratio", "value ratio float 7 ", "7 7", "7 7x1"), "shapes differ"),
    "a shape of other entries": (edit("ratio", "value ratio float 7 ", "7 7", "7 7x2"), "not an array"),
    "a shape of nothing": (edit("ratio", "value ratio float 7 ", "7 7", "7 7x"), "not an array"),
    "no number": (edit("mean_kl", "radius mean_kl", "1e-57", "small"), "not an array"),
    "an underscore": (edit("ratio", "input old_log_prob", "-0.5", "-0_0.5"), "not an array"),
    "an infinity": (edit("ratio", "input old_log_prob", "-0.5", "1e999"), "not an array"),
    "NaN certified": (edit("ratio", "R ratio", "1.0", "NaN"), "not an array"),
    "a negative R": (edit("ratio", "R ratio", "1.0", "-1.0"), "R is not between"),
    "largest too small": (edit("ratio", "largest ratio", "1.0", "0.5"), "R is not between"),
    "largest too large": (edit("ratio", "largest ratio", "1.0", "2.0"), "largest is not the largest"),
    "no bits": (drop("ratio", "bits ratio"), "documented order"),
    "no largest": (drop("ratio", "largest ratio"), "documented order"),
    "largest after R": (late("ratio", "largest ratio"), "documented order"),
    "no answer": (drop("ratio", "answer 0"), "documented order"),
    "no end": (drop("ratio", "end"), "whole case"),
    "the end of another case": (edit("ratio", "end ratio/five", "five", "seven"), "whole case"),
    "no case": (edit("ratio", "refpg-vectors", "ratio 2", "ratio 3"), "holds 2 cases"),
    "an unknown line": (edit("ratio", "dim B", "dim B", "size B"), "documented order"),
    "a line twice": (edit("ratio", "input new_log_prob", "new_log_prob", "old_log_prob"), "there twice"),
    "conventions missing": (edit("mean_kl", "answer 1", "answer 1", "answer 2"), "does not say its conventions"),
    "the same answer twice": (edit("mean_kl", "answer 1", "answer 1 kl.direction new_old", "answer 0"), "same kind"),
    "the same case twice": (rename("ratio", "ratio/five", "ratio/seven"), "the same id"),
    "a case of another op": (rename("ratio", "ratio/five", "gae/five"), "another op"),
    "another op": (edit("ratio", "refpg-vectors", "ratio", "gae"), "says gae"),
    "another release": (edit("ratio", "refpg-vectors", "2026.1", "2027.1"), "2027.1"),
    "another form": (edit("ratio", "refpg-vectors", "refpg-vectors 1", "refpg-vectors 2"), "first line"),
    "another tolerance": (edit("ratio", "tolerance", "16.0", "1.0"), "differs from that"),
    "no tolerance": (lines_of("ratio", lambda lines: lines.__delitem__(slice(1, 3))), "constants of the tolerance"),
    "a constant missing": (edit("ratio", "tolerance", " 16.0", ""), "constants of the tolerance"),
    "cut off": (lines_of("ratio", lambda lines: lines.__delitem__(slice(-4, None))), "whole case"),
}


@pytest.mark.parametrize("fault", TEXT_FAULTS)
def test_a_fault_in_the_text_is_named(small: Source, tmp_path: Path, fault: str) -> None:
    plant, message = TEXT_FAULTS[fault]
    export(small, tmp_path / "out", form="text")
    plant(tmp_path / "out")
    with pytest.raises(VectorError, match="SHA-256"):
        verify(locate(str(tmp_path / "out")))
    resum(tmp_path / "out")
    with pytest.raises(VectorError, match=message):
        verify(locate(str(tmp_path / "out")))


def test_a_last_line_without_its_end_is_noticed(small: Source, tmp_path: Path) -> None:
    export(small, tmp_path / "out", form="text")
    path = tmp_path / "out" / "2026.1" / "ratio.txt"
    path.write_bytes(path.read_bytes()[:-1])
    resum(tmp_path / "out")
    with pytest.raises(VectorError, match="not lines"):
        verify(locate(str(tmp_path / "out")))


def test_a_value_changed_under_a_right_hash_is_noticed(small: Source) -> None:
    files = synthetic.release()
    files["mean_kl"][0]["expected"][0]["outputs"]["mean_kl"]["value"][0] *= 1 + 2.0**-52
    written(small.data, files)
    with pytest.raises(VectorError, match="value and bits are different"):
        verify(small)


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("place", ["extra", "2026.1/extra.json", "2026.1/deep/extra"])
def test_a_file_that_nothing_lists_is_noticed(small: Source, tmp_path: Path, form: str, place: str) -> None:
    export(small, tmp_path / "out", form=form)
    (tmp_path / "out" / place).parent.mkdir(exist_ok=True)
    (tmp_path / "out" / place).write_text("more")
    with pytest.raises(VectorError, match="not listed"):
        verify(locate(str(tmp_path / "out")))


def test_an_unlisted_file_of_a_release_without_sums_is_noticed(small: Source) -> None:
    (small.folder / "gae.json").write_text("{}")
    with pytest.raises(VectorError, match="not listed in index.json"):
        verify(small)


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("name", ["LICENSE", "bugs.json", "README.md"])
def test_a_missing_file_is_noticed(small: Source, tmp_path: Path, form: str, name: str) -> None:
    export(small, tmp_path / "out", form=form)
    (tmp_path / "out" / name).unlink()
    with pytest.raises(VectorError, match=name):
        verify(locate(str(tmp_path / "out")))


def test_text_without_hashes_is_not_intact(small: Source, tmp_path: Path) -> None:
    export(small, tmp_path / "out", form="text")
    (tmp_path / "out" / "SHA256SUMS").unlink()
    with pytest.raises(VectorError, match="SHA256SUMS"):
        verify(locate(str(tmp_path / "out")))


@pytest.mark.parametrize("line", ["", "0  ratio.txt", f"{'0' * 64}  ../small/LICENSE", f"{'0' * 64}  /etc/passwd"])
def test_the_list_of_hashes_cannot_name_a_file_outside(small: Source, tmp_path: Path, line: str) -> None:
    export(small, tmp_path / "out")
    (tmp_path / "out" / "SHA256SUMS").write_text(f"{line}\n")
    with pytest.raises(VectorError, match="not lines of a SHA-256"):
        verify(locate(str(tmp_path / "out")))


def test_a_release_is_found_by_name_and_by_either_folder(exported: dict[str, Path], tmp_path: Path) -> None:
    assert locate(RELEASE) == INSTALLED
    assert locate(str(exported["text"] / RELEASE)) == locate(str(exported["text"]))
    with pytest.raises(UsageError, match="holds no release"):
        locate(str(tmp_path))
    with pytest.raises(UsageError, match=f"of which {RELEASE} is installed"):
        locate("1999.1")
    for name in ("2026.1", "2026.2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "index.json").write_text("{}")
    with pytest.raises(UsageError, match=r"2026\.1, 2026\.2: name the folder of one"):
        locate(str(tmp_path))


# What is compared


def altered(small: Source, tmp_path: Path, change: Callable[[Any], Any], **replaced: Any) -> Source:
    files = synthetic.release()
    change(files)
    return written(tmp_path / "altered", files, **replaced)


def certify(case: Any, factor: float) -> None:
    leaf = case["expected"][0]["outputs"]["ratio"]
    case["expected"][0]["outputs"]["ratio"] = synthetic.leaf(np.array(leaf["value"]) * factor)


CHANGES: dict[str, tuple[Callable[[Any], Any], str, str]] = {
    "a value": (lambda case: certify(case, 2), "unmarked", "value ratio, bits ratio"),
    "an input": (lambda case: case["inputs"].update(old_log_prob=[0.0] * 7), "unmarked", "input old_log_prob"),
    "R": (
        lambda case: case["expected"][0]["outputs"]["ratio"].update(R=[2.0] + [1.0] * 6),
        "unmarked",
        "largest ratio, R ratio",
    ),
    "resolves": (lambda case: case.update(resolves=["float64"]), "unmarked", "resolves float32"),
    "stability": (lambda case: case.update(stability=True), "unmarked", "stability"),
    "title": (lambda case: case.update(title="other words"), "amended", "title"),
    "provenance": (lambda case: case["provenance"].update(precision_bits=4096), "amended", "provenance"),
    "radius": (lambda case: case["expected"][0]["outputs"]["ratio"].update(radius=1e-60), "amended", "radius ratio"),
    "one mistake less": (lambda case: case["wrong"].pop(), "amended", "mistake ratio-broadcast"),
    "a revision": (lambda case: (case.update(rev=2), certify(case, 2)), "revised", "revision 1 → 2: value ratio"),
    "nothing but the revision": (lambda case: case.update(rev=2), "revised", "revision 1 → 2: nothing else"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_told_by_its_kind(small: Source, tmp_path: Path, change: str) -> None:
    alter, kind, what = CHANGES[change]
    found = difference(small, altered(small, tmp_path, lambda files: alter(files["ratio"][0])))
    kinds = {"revised": found.revised, "amended": found.amended, "unmarked": found.unmarked}
    assert {name: list(cases) for name, cases in kinds.items() if cases} == {kind: ["ratio/seven"]}
    assert what in kinds[kind]["ratio/seven"]
    assert found.flagged == (kind == "unmarked")
    assert (found.added, dict(found.removed), found.constants) == ((), {}, ())
    assert any("ratio/seven" in line and what in line for line in difference_lines(found))


def test_a_change_under_another_convention_is_seen(small: Source, tmp_path: Path) -> None:
    """The two answers of the case change places; the set of its lines is the same."""

    def swap(files: Any) -> None:
        first, second = files["mean_kl"][0]["expected"]
        first["outputs"], second["outputs"] = second["outputs"], first["outputs"]

    found = difference(small, altered(small, tmp_path, swap))
    assert "value mean_kl under kl.direction = new_old" in found.unmarked["mean_kl/two-logits"]


def test_a_revision_that_falls_is_flagged(small: Source, tmp_path: Path) -> None:
    newer = altered(small, tmp_path, lambda files: files["ratio"][0].update(rev=2))
    assert not difference(small, newer).flagged
    assert difference(newer, small).flagged


def test_cases_come_and_go(small: Source, tmp_path: Path) -> None:
    fewer = altered(small, tmp_path, lambda files: (files["ratio"].pop(), files.pop("line_search")))
    found = difference(small, fewer)
    assert set(found.removed) == {"ratio/five", "line_search/first"}
    assert set(difference(fewer, small).added) == {"ratio/five", "line_search/first"}
    assert not found.flagged


def test_the_errata_say_why_a_case_is_gone(small: Source, tmp_path: Path) -> None:
    erratum = {"case": "ratio/five", "rev": 1, "date": "2026-12-01", "what": "withdrawn", "why": "it told nothing"}
    errata = {"schema": 1, "errata": [erratum]}
    fewer = altered(small, tmp_path, lambda files: (files["ratio"].pop(), files.pop("line_search")), errata=errata)
    assert difference(small, fewer).removed == {
        "ratio/five": "withdrawn 2026-12-01: it told nothing",
        "line_search/first": "no erratum says why",
    }


def test_another_tolerance_is_flagged(small: Source, tmp_path: Path) -> None:
    policy = synthetic.POLICY | {"factor": 8, "unit_roundoff": {"float64": 2.0**-53, "float32": 2.0**-23}}
    found = difference(small, altered(small, tmp_path, lambda files: None, policy=policy))
    assert found.flagged
    assert len(found.constants) == 2
    double = f"tolerance float64 {2.0**-53!r}"
    assert found.constants[0] == f"{double} 16.0 0.3 → {double} 8.0 0.3"


def test_the_two_forms_of_a_release_do_not_differ(small: Source, tmp_path: Path) -> None:
    newer = altered(small, tmp_path, lambda files: certify(files["ratio"][0], 2))
    for source, name in ((small, "old"), (newer, "new")):
        export(source, tmp_path / name, form="text")
    old, new = locate(str(tmp_path / "old")), locate(str(tmp_path / "new"))
    assert difference(small, old) == difference(old, small) == difference(small, small)
    assert difference(old, new) == difference(small, newer) == difference(small, new)
    assert difference(old, new).flagged


# The commands


def test_verify_and_diff_have_exit_codes(
    exported: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["vectors", "verify"]) == 0
    assert "all intact" in capsys.readouterr().out
    assert main(["vectors", "diff", RELEASE, str(exported["text"])]) == 0
    assert "0 changed without a new revision" in capsys.readouterr().out
    copy = tmp_path / "copy"
    shutil.copytree(exported["text"], copy)
    path = copy / RELEASE / "td_errors.txt"
    gamma, two = "input gamma float 1 - ", "input gamma float 1 - 0.5\ninput x float 1 - "
    path.write_text(path.read_text().replace(gamma, two, 1))
    assert main(["vectors", "verify", str(copy)]) == 3
    assert "td_errors.txt: its SHA-256" in capsys.readouterr().err
    resum(copy)
    assert main(["vectors", "diff", RELEASE, str(copy)]) == 1
    assert "UNMARKED   td_errors/" in capsys.readouterr().out
    assert main(["vectors", "verify", str(tmp_path / "nowhere")]) == 2
    assert main(["vectors", "export", str(copy)]) == 2


def test_list_names_what_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    vectors = load()
    assert main(["vectors", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith((" ", "vectors"))] == vectors.ids()
    assert f"{len(vectors.ids())} cases of {len(vectors.cases)} ops" in lines[-1]
    assert main(["vectors", "list", "--profile", "distributions", "--only", "kl_diagonal_gaussian/*1e-18*"]) == 0
    first, *told, last = capsys.readouterr().out.splitlines()
    assert first.split() == ["kl_diagonal_gaussian/kl-near-1e-18-5x3", "B=5", "A=3", "K=6", "float64", "stability"]
    assert "kl-reversed" in " ".join(told)
    assert "1 case of 1 op, 1 of them stability" in last


@pytest.mark.parametrize("arguments", [["--only", "kl_nothing"], ["--only", "gae/none"], ["--profile", "none"]])
def test_a_list_of_nothing_is_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vectors", "list", *arguments]) == 2
    assert "refpg: " in capsys.readouterr().err
