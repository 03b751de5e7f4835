"""Releases of vectors as a whole: where one is, what is in it, whether it is intact, what changed between two.

A release is found by its name, among those installed, or by a folder: an export, or the folder of the release inside
it.  Both forms are understood, JSON and text.
"""

import fnmatch
import hashlib
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from refpg.conformance import plaintext
from refpg.conformance.adapters import UsageError, nearest
from refpg.conformance.vectors import (
    DATA,
    KNOWLEDGE,
    MAX_FILE_BYTES,
    MAX_FILES,
    RELEASE,
    Case,
    VectorError,
    Vectors,
    load,
)

SUMS = "SHA256SUMS"

_RELEASE_NAME = re.compile(r"[0-9]{4}\.[0-9]{1,3}")
_SUM = re.compile(r"([0-9a-f]{64})  ((?:[A-Za-z0-9][A-Za-z0-9_.-]*/)?[A-Za-z0-9][A-Za-z0-9_.-]*)")


@dataclass(frozen=True)
class Source:
    """A release that was found: ``data`` is the folder around it, ``release`` its name, ``form`` "json" or "text"."""

    data: Path
    release: str
    form: str

    @property
    def folder(self) -> Path:
        """The folder with one file per op."""
        return self.data / self.release


def locate(name: str = RELEASE) -> Source:
    """Find a release.

    Parameters
    ----------
    name : str
        The name of an installed release, an exported folder, or the folder of the release inside it.

    Returns
    -------
    Source

    Raises
    ------
    UsageError
        If there is nothing of that name, or a folder holds no release, or several.
    """
    if (DATA / name).is_dir() and _RELEASE_NAME.fullmatch(name):
        return Source(DATA, name, "json")
    folder = Path(name).resolve()
    installed = sorted(path.name for path in DATA.iterdir() if _RELEASE_NAME.fullmatch(path.name))
    if not folder.is_dir():
        raise UsageError(f"{name} is neither a release, of which {', '.join(installed)} is installed, nor a folder")
    if _RELEASE_NAME.fullmatch(folder.name) and _form(folder):
        return Source(folder.parent, folder.name, _form(folder))
    inside = sorted(path.name for path in folder.iterdir() if _RELEASE_NAME.fullmatch(path.name) and _form(path))
    if len(inside) != 1:
        found = f"holds the releases {', '.join(inside)}: name the folder of one" if inside else "holds no release"
        raise UsageError(f"{name} {found}")
    return Source(folder, inside[0], _form(folder / inside[0]))


def _form(folder: Path) -> str:
    if (folder / "index.json").exists():
        return "json"
    return "text" if any(folder.glob("*.txt")) else ""


def select(vectors: Vectors, ops: Sequence[str], only: str = "") -> list[Case]:
    """Return the cases of some ops, in the order of the contract.

    Parameters
    ----------
    vectors : Vectors
        The release.
    ops : sequence of str
        The ops.
    only : str
        A glob over ops and case ids; everything, unless given.

    Returns
    -------
    list of Case

    Raises
    ------
    UsageError
        If the glob matches nothing.
    """
    cases = [case for op in ops for case in vectors.cases.get(op, ())]
    names = {case.id: case.id if "/" in only else case.op for case in cases}
    chosen = [case for case in cases if not only or fnmatch.fnmatchcase(names[case.id], only)]
    if only and not chosen:
        raise UsageError(f"--only {only}: no case of the profiles matches{nearest(only, names.values())}")
    return chosen


def table(cases: Sequence[Case], vectors: Vectors) -> Iterator[str]:
    """Yield lines that list cases: id, dims, the dtypes they resolve, stability, and the known bugs they tell.

    Parameters
    ----------
    cases : sequence of Case
        Those to list.
    vectors : Vectors
        The release they are from.

    Yields
    ------
    str
        A line; the last one counts.
    """
    for case in cases:
        dims = " ".join(f"{letter}={length}" for letter, length in case.dims.items())
        stability = "  stability" if case.stability else ""
        yield f"{case.id:<48}  {dims or 'scalars':<22}  {' '.join(case.resolves)}{stability}"
        bugs = ", ".join(_bugs(case)) or "no known bug"
        yield from textwrap.wrap(
            f"tells {bugs}", 120, initial_indent="    ", subsequent_indent=" " * 10, break_on_hyphens=False
        )
    told = {bug for case in cases for bug in _bugs(case)}
    steady = sum(case.stability for case in cases)
    yield (
        f"vectors {vectors.release} ({vectors.status}): {_many(len(cases), 'case')} of "
        f"{_many(len({case.op for case in cases}), 'op')}, {steady} of them stability; "
        f"they tell {len(told)} of {_many(len(vectors.bugs), 'known bug')}"
    )


def _bugs(case: Case) -> list[str]:
    return list(dict.fromkeys(wrong.bug for wrong in case.wrong))


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


@dataclass(frozen=True)
class Verified:
    """What was found intact in ``source``.

    Fields: ``hashed`` files agree with their SHA-256; there are so many ``cases`` of so many ``ops``, with so many
    certified ``leaves``, and the ``numbers`` in them are each the same as value and as bits.
    """

    source: Source
    hashed: int
    ops: int
    cases: int
    leaves: int
    numbers: int


def verify(source: Source) -> Verified:
    """Check a release in every way there is without certifying it again.

    Parameters
    ----------
    source : Source
        From `locate`.

    Returns
    -------
    Verified

    Raises
    ------
    VectorError
        If a hash, a count, the structure or a number is wrong, or a file is there that nothing lists.
    """
    hashed = _check_sums(source)
    if source.form == "text":
        files = _read_text(source)
        lines = [line.split(" ", 2) for file in files for case in file.cases for line in case.lines]
        bits = [line[2].split(" ") for line in lines if line[0] == "bits"]
        return Verified(
            source,
            hashed,
            len(files),
            sum(len(file.cases) for file in files),
            sum(line[0] == "value" for line in lines),
            sum(int(size) for _, size, *_ in bits),
        )
    vectors = load(source.data, release=source.release)
    _nothing_but({"index.json", *(f"{op}.json" for op in vectors.cases)}, source.folder, "index.json")
    leaves = [
        leaf
        for cases in vectors.cases.values()
        for case in cases
        for entry in case.expected
        for leaf in entry.outputs.values()
    ]
    return Verified(
        source,
        max(hashed, len(vectors.cases) + len(KNOWLEDGE)),
        len(vectors.cases),
        len(vectors.ids()),
        len(leaves),
        sum(leaf.value.size for leaf in leaves if not leaf.exact),
    )


def verified_line(found: Verified) -> str:
    """Return the line that says what was found intact."""
    return (
        f"release {found.source.release}, {found.source.form}: {found.hashed} files hashed, "
        f"{_many(found.cases, 'case')} of {_many(found.ops, 'op')}, {found.leaves} certified arrays, "
        f"{_many(found.numbers, 'number')} equal to their bits; all intact"
    )


def sums(folder: Path) -> str:
    """Return the lines of ``SHA256SUMS``, as ``sha256sum -c`` reads them, for every file in an exported folder."""
    return "".join(
        f"{hashlib.sha256((folder / path).read_bytes()).hexdigest()}  {path}\n" for path in sorted(files_in(folder))
    )


def files_in(folder: Path) -> set[str]:
    """Return the paths of everything in a folder and the folders in it that is not a folder itself."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def listed_in(folder: Path) -> dict[str, str]:
    """Read ``SHA256SUMS``.

    Parameters
    ----------
    folder : Path
        An exported folder.

    Returns
    -------
    dict of str to str
        Path below the folder → SHA-256.

    Raises
    ------
    VectorError
        If it is not there, or a line of it is not a hash and the name of a file an export can hold.
    """
    content = _bytes(folder / SUMS)
    matches = [_SUM.fullmatch(line) for line in content.decode("utf-8", "replace").splitlines()]
    listed = {match[2]: match[1] for match in matches if match is not None}
    if not listed or len(listed) != len(matches) or len(listed) > MAX_FILES:
        raise VectorError(f"{SUMS}: not lines of a SHA-256 and the name of a file, each name once")
    return listed


def _check_sums(source: Source) -> int:
    """Check the hashes of an export and return their number; installed releases have theirs in the index."""
    if source.form == "json" and not (source.data / SUMS).exists():
        return 0
    listed = listed_in(source.data)
    for path, sha256 in listed.items():
        if hashlib.sha256(_bytes(source.data / path)).hexdigest() != sha256:
            raise VectorError(f"{path}: its SHA-256 is not the one of {SUMS}; the file was altered or damaged")
    _nothing_but({*listed, SUMS}, source.data, SUMS)
    return len(listed)


def _nothing_but(listed: set[str], folder: Path, where: str) -> None:
    unlisted = sorted(files_in(folder) - listed)
    if unlisted:
        raise VectorError(f"{unlisted[0]}: is not listed in {where}")


def _bytes(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise VectorError(f"{path.name}: not there, or not a regular file")
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise VectorError(f"{path.name}: cannot be read ({error.strerror})") from None
    if len(content) > MAX_FILE_BYTES:
        raise VectorError(f"{path.name}: larger than {MAX_FILE_BYTES} bytes")
    return content


def _read_text(source: Source) -> list[plaintext.TextFile]:
    files: list[plaintext.TextFile] = []
    for path in sorted(source.folder.glob("*.txt")):
        file = plaintext.read(_bytes(path), path.name)
        if (file.release, f"{file.op}.txt") != (source.release, path.name):
            raise VectorError(f"{path.name}: its first line says {file.op} of {file.release}")
        if any(case.id.split("/")[0] != file.op for case in file.cases):
            raise VectorError(f"{path.name}: holds a case of another op")
        if files and file.constants != files[0].constants:
            raise VectorError(f"{path.name}: its tolerance differs from that of {files[0].op}.txt")
        files.append(file)
    return files


@dataclass(frozen=True)
class Difference:
    """What changed from one release to another.

    Fields: cases ``added``; ``removed`` ones, with what the errata say of it; ``revised`` ones, with a higher revision;
    ``amended`` ones, in which only words, provenance, radii or the answers of known bugs changed; ``unmarked`` ones,
    whose inputs or certified answers changed though the revision did not rise; ``constants`` of the tolerance that
    changed, which touch every case.  The mappings say what changed in each case.
    """

    added: tuple[str, ...]
    removed: Mapping[str, str]
    revised: Mapping[str, str]
    amended: Mapping[str, str]
    unmarked: Mapping[str, str]
    constants: tuple[str, ...]

    @property
    def flagged(self) -> bool:
        """Whether something changed by which implementations are judged, and no revision says so."""
        return bool(self.unmarked or self.constants)


_Field = tuple[str, str, str]  # the answer or mistake it is under, keyword, name


@dataclass(frozen=True)
class _Content:
    """A case as fields that can be compared: what implementations are ``judged`` by, and the ``rest``."""

    rev: int
    judged: Mapping[_Field, str]
    rest: Mapping[_Field, str]


def difference(old: Source, new: Source) -> Difference:
    """Compare two releases, case by case.

    Parameters
    ----------
    old, new : Source
        From `locate`.  Titles and provenance are compared only where both are JSON; the text form has none.

    Returns
    -------
    Difference

    Raises
    ------
    VectorError
        If one of them is damaged.
    """
    constants_old, before, _ = _contents(old)
    constants_new, after, withdrawn = _contents(new)
    words = old.form == new.form == "json"
    revised, amended, unmarked = {}, {}, {}
    for name in [name for name in after if name in before]:
        a, b = before[name], after[name]
        judged = _changed(a.judged, b.judged)
        rest = _changed(_without_words(a.rest, words), _without_words(b.rest, words))
        changed = ", ".join([*judged, *rest]) or "nothing else"
        if b.rev > a.rev:
            revised[name] = f"revision {a.rev} → {b.rev}: {changed}"
        elif b.rev < a.rev:
            unmarked[name] = f"the revision falls, {a.rev} → {b.rev}: {changed}"
        elif judged:
            unmarked[name] = f"still revision {a.rev}: {changed}"
        elif rest:
            amended[name] = changed
    return Difference(
        tuple(name for name in after if name not in before),
        {name: withdrawn.get(name, "no erratum says why") for name in before if name not in after},
        revised,
        amended,
        unmarked,
        tuple(f"{a} → {b}" for a, b in _paired(constants_old, constants_new) if a != b),
    )


def _paired(old: Sequence[str], new: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the constants of both, by the dtype they are for."""
    before, after = ({line.split(" ")[1]: line for line in lines} for lines in (old, new))
    for dtype in {**before, **after}:
        yield before.get(dtype, "nothing"), after.get(dtype, "nothing")


def _contents(source: Source) -> tuple[Sequence[str], dict[str, _Content], dict[str, str]]:
    """Return the constants of the tolerance, the cases, and why cases were withdrawn, which only JSON says."""
    if source.form == "text":
        verify(source)
        files = _read_text(source)
        contents = {
            case.id: _content(case.rev, case.stability, case.lines, {}) for file in files for case in file.cases
        }
        return files[0].constants, contents, {}
    vectors = load(source.data, release=source.release)
    contents = {
        case.id: _content(case.rev, case.stability, plaintext.lines_of(case), _words(case))
        for cases in vectors.cases.values()
        for case in cases
    }
    withdrawn = {
        erratum.case: f"withdrawn {erratum.date}: {erratum.why}"
        for erratum in vectors.errata
        if erratum.what == "withdrawn"
    }
    return plaintext.constants_of(vectors), contents, withdrawn


def _words(case: Case) -> dict[_Field, str]:
    texts = {"title": case.title, "purpose": case.purpose, "reference": case.reference}
    return {("", "words", name): text for name, text in (texts | {"provenance": str(case.provenance)}).items()}


def _without_words(fields: Mapping[_Field, str], keep: bool) -> Mapping[_Field, str]:
    return {field: text for field, text in fields.items() if keep or field[1] != "words"}


def _content(rev: int, stability: bool, lines: Sequence[str], words: Mapping[_Field, str]) -> _Content:
    judged: dict[_Field, str] = {("", "stability", ""): str(stability)}
    rest = dict(words)
    section = ""
    for line in lines:
        keyword, name, value = (*line.split(" ", 2), "", "")[:3]
        if keyword in ("answer", "mistake"):
            section = "" if line == "answer 0" else line
            name, value = "", "there"
        if section.startswith("mistake") or keyword in ("radius", "dim"):
            rest[section, keyword, name] = value
        else:
            judged[section, keyword, name] = value or "there"
    return _Content(rev, judged, rest)


def _changed(old: Mapping[_Field, str], new: Mapping[_Field, str]) -> list[str]:
    """Name the fields that differ, each once; those of a mistake by the mistake."""
    names = []
    for field in [*old, *(field for field in new if field not in old)]:
        if old.get(field) != new.get(field):
            section, keyword, name = field
            under = f" under {' = '.join(section.split(' ')[2:4])}" if section.startswith("answer") else ""
            label = " ".join(section.split(" ")[:2]) if section.startswith("mistake") else f"{keyword} {name}{under}"
            names.append(label.removeprefix("words ").strip())
    return list(dict.fromkeys(names))


def difference_lines(found: Difference) -> Iterator[str]:
    """Yield the lines that tell a difference, flagged ones first, and a last one that counts.

    Parameters
    ----------
    found : Difference
        From `difference`.

    Yields
    ------
    str
    """
    for line in found.constants:
        yield f"TOLERANCE  {line}: every case is judged otherwise"
    for name, what in found.unmarked.items():
        yield f"UNMARKED   {name}  {what}"
    for name, why in found.removed.items():
        yield f"removed    {name}  {why}"
    for name in found.added:
        yield f"added      {name}"
    for name, what in found.revised.items():
        yield f"revised    {name}  {what}"
    for name, what in found.amended.items():
        yield f"amended    {name}  {what}"
    yield (
        f"{len(found.added)} added, {len(found.removed)} removed, {len(found.revised)} revised, "
        f"{len(found.amended)} amended, {len(found.unmarked)} changed without a new revision"
    )
