"""A release as plain files, for everybody else: in any language, without refpg installed.

Two forms.  ``json`` is the released files, byte for byte; ``text`` is the line-based form of
`refpg.conformance.plaintext`.  Either comes with the licence, the catalogue of mistakes, the conventions, the constants
of the tolerance, a README that documents the form, and ``SHA256SUMS`` over all of it.
"""

import os
import shutil
import uuid
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from refpg.conformance import plaintext
from refpg.conformance.adapters import UsageError
from refpg.conformance.releases import SUMS, Source, Verified, files_in, listed_in, sums, verify
from refpg.conformance.vectors import VectorError, Vectors, load

FORMS = ("json", "text")


def export(source: Source, folder: Path, *, form: str = "json", force: bool = False) -> Verified:
    """Write a release to a folder, all of it or nothing.

    Everything is written into a new folder beside the one asked for, verified there, and renamed.

    Parameters
    ----------
    source : Source
        What to export, in JSON.
    folder : Path
        Where to; its parent exists.  It is not there yet, or empty.
    form : {"json", "text"}
        The form of the files.
    force : bool
        Replace an earlier export.  A folder that holds anything an export did not write is refused all the same.

    Returns
    -------
    Verified
        What was written, as read back.

    Raises
    ------
    UsageError
        If the folder cannot be written, or holds something.
    VectorError
        If the release to export is damaged.
    """
    if form not in FORMS:
        raise UsageError(f"the form is {form!r}, expected {' or '.join(FORMS)}")
    if source.form != "json":
        raise UsageError(f"{source.folder} is in the text form; only a release in JSON can be exported")
    target = folder.resolve()
    _check_target(target, force)
    verify(source)
    vectors = load(source.data, release=source.release)
    staging = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        _write(staging, source, vectors, form)
        verified = verify(Source(staging, source.release, form))
        _put(staging, target)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return replace(verified, source=Source(target, source.release, form))


def _check_target(target: Path, force: bool) -> None:
    if not target.parent.is_dir():
        raise UsageError(f"{target} cannot be written: there is no folder {target.parent}")
    if not target.exists():
        return
    if not target.is_dir():
        raise UsageError(f"{target} is a file, expected a folder")
    present = files_in(target)
    if not present and not any(target.iterdir()):
        return
    if not force:
        raise UsageError(f"{target} is not empty; --force replaces an earlier export")
    try:
        foreign = sorted(present - {SUMS, *listed_in(target)})
    except VectorError:
        foreign = sorted(present) or ["folders"]
    if foreign:
        raise UsageError(f"{target} holds {foreign[0]}, which no export wrote; --force replaces an export only")


def _write(staging: Path, source: Source, vectors: Vectors, form: str) -> None:
    (staging / source.release).mkdir(parents=True)
    beside = [path for pattern in ("*.json", "schema/*.json", "protocol/*.json") for path in source.data.glob(pattern)]
    for path in sorted([source.data / "LICENSE", *beside]):
        copy = staging / path.relative_to(source.data)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(path.read_bytes())
    if form == "json":
        for name in ("index.json", *(f"{op}.json" for op in vectors.cases)):
            (staging / source.release / name).write_bytes((source.folder / name).read_bytes())
    else:
        for op in vectors.cases:
            text = plaintext.text_of(op, vectors)
            (staging / source.release / f"{op}.txt").write_text(text, encoding="ascii", newline="\n")
    names = {path.name for path in staging.iterdir()}
    (staging / "README.md").write_text(readme(vectors, form, names), encoding="utf-8", newline="\n")
    (staging / SUMS).write_text(sums(staging), encoding="ascii", newline="\n")


def _put(staging: Path, target: Path) -> None:
    """Rename into place; what was there before is removed last, and put back if the renaming fails."""
    if not target.exists():
        os.rename(staging, target)
        return
    before = staging.with_name(f"{staging.name}.before")
    os.rename(target, before)
    try:
        os.rename(staging, target)
    except BaseException:
        os.rename(before, target)
        raise
    shutil.rmtree(before)


def readme(vectors: Vectors, form: str, beside: Collection[str]) -> str:
    """Return the README of an export: what the files are, how they are read, how answers are judged.

    Parameters
    ----------
    vectors : Vectors
        The release.
    form : {"json", "text"}
        The form of the files.
    beside : collection of str
        Names of what is exported beside the folder of the release.

    Returns
    -------
    str
        Markdown.
    """
    policy = vectors.policy
    units = ", ".join(f"{dtype} {u!r}" for dtype, u in policy.unit_roundoff.items())
    constants = f"FACTOR = {policy.factor!r}, FLOOR = {policy.floor!r}; u: {units}."
    extension = "json" if form == "json" else "txt"
    return _README.format(
        release=vectors.release,
        status=vectors.status,
        ops=len(vectors.cases),
        cases=len(vectors.ids()),
        extension=extension,
        beside="".join(f"| `{name}` | {what} |\n" for name, what in _BESIDE.items() if name in beside),
        form=_JSON if form == "json" else plaintext.FORMAT,
        constants=constants,
    )


_BESIDE = {
    "conventions.json": "legitimate differences between implementations; an answer says under which it is certified",
    "bugs.json": "the known mistakes, in words",
    "policy.json": "the constants of the tolerance",
    "presets.json": "the conventions of papers and libraries, by name",
    "errata.json": "cases that were withdrawn or corrected, and why",
    "schema": "the JSON files, described in JSON Schema",
    "protocol": "what `refpg check -- WORKER` and the worker write to each other, described in JSON Schema",
    "LICENSE": "CC0",
}

_README = """\
# Certified vectors for policy-gradient mathematics, release {release} ({status})

{cases} cases of {ops} operations: exact inputs, outputs proven to be correctly rounded, and the answers that known
mistakes would give.  Everything here is CC0: copy it anywhere.

| file | what it is |
|---|---|
| `{release}/OP.{extension}` | the cases of one operation |
{beside}| `SHA256SUMS` | for `sha256sum -c SHA256SUMS` |

An operation is named, and its inputs and outputs are, as in `refpg ops`, which prints the contract.  Judge only in a
dtype the case resolves; a *stability* case asks for digits that ordinary correct code does not have.

## The form of `{release}/OP.{extension}`

{form}
{constants}
"""

_JSON = """\
`index.json` lists the files with their size, SHA-256 and number of cases, and the files beside the folder on which a
verdict depends.  A file holds `schema` (1), `op` and `cases`:

| field of a case | what it is |
|---|---|
| `id`, `rev` | a permanent name, and its revision, which rises when inputs or certified answers change |
| `title`, `purpose`, `reference` | for people: what is tested, why, and the equation |
| `stability` | true if only a carefully arranged formula has the digits asked for |
| `dims` | shape letter → length |
| `inputs` | name → nested numbers, exact in float32 and float64 unless the case says otherwise |
| `expected` | certified answers: `conventions` (those not named have their defaults; the first names none), `outputs` |
| `wrong` | answers of known bugs: `bug`, `outputs`, and in a list all `conventions` under which they are these |
| `resolves` | the dtypes in which the case is worth judging |
| `provenance` | how it was certified |

`outputs` maps leaves to arrays; the leaf `gradient.layers[0].W` belongs to the output `gradient`.  An array is flat,
the last index fastest: `shape`, `value` (shortest decimals that read back as the same float64; in `wrong`, null stands
for anything not finite), `bits` (the same as 16 hexadecimal digits each), `radius` (the truth is within this distance
of value), `R` (the amplification of rounding, entry by entry).  An integer output is `exact` and has R = 0.  A leaf
not listed in `wrong` is as certified under the same conventions.

An implementation conforms in a dtype, with its unit roundoff u, if for every entry i of every leaf

    |answer_i − value_i| ≤ FACTOR · u · max(R_i, FLOOR · max R) + ½ ulp(value_i)

where max R runs over all leaves of the output, and ulp(y) is the distance from |y| to the next larger float64.  An
answer that is NaN does not conform.
"""
