"""Some thousands of mutated files: the loader refuses, or accepts what is valid by another judgement, and nothing else.

The judgement needs the validator `jsonschema`, which comes with the extra `test`.
"""

import json
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from refpg.conformance import vectors
from refpg.conformance.ops import OPS
from verification.fuzz import campaign, mutations, referee, seeds
from verification.fuzz.__main__ import main

FILES = 2000
SEED = 2026


def test_mutated_files_are_refused_or_valid() -> None:
    results = list(campaign.run(FILES, SEED))
    counts, reasons, findings = campaign.tally(iter(results))
    assert [(finding.number, finding.done, finding.amiss) for finding in findings] == []
    for kind in set(mutations.KINDS):
        assert counts[kind, campaign.REFUSED] > 20, f"of the kind {kind} hardly anything is refused"
    for kind in set(mutations.KINDS) - {"unsealed"}:
        assert counts[kind, campaign.ACCEPTED] > 2, f"of the kind {kind} hardly anything is accepted"
    assert counts["untouched", campaign.REFUSED] == 0
    assert reasons[campaign.ACCEPTED, campaign.THE_SAME] > counts["untouched", campaign.ACCEPTED]
    assert reasons[campaign.ACCEPTED, campaign.OTHERWISE] > 50
    assert len({why for outcome, why in reasons if outcome == campaign.REFUSED}) > 20
    assert reasons.total() == counts.total() == FILES
    assert {result.why for result in results if result.kind == "untouched"} == {campaign.THE_SAME}


@pytest.mark.parametrize("op", OPS)
def test_every_op_has_a_valid_seed(op: str) -> None:
    random = Random(op)
    for _ in range(3):
        trees = seeds.release(random, OPS[op])
        files = {name: mutations.dumped(tree, random) for name, tree in trees.items()}
        name = seeds.op_path(trees)
        files[seeds.INDEX] = json.dumps(seeds.index_of(files, name, len(trees[name]["cases"]))).encode()
        assert campaign.judged(files) == (campaign.ACCEPTED, "", "")


# Faults planted in the loader: each must be found, else the fuzzer is decoration.

PARSE, READ_ARRAY, READ_WRONG = vectors.parse, vectors._read_array, vectors._read_wrong


def lax(content: bytes, where: str) -> Any:
    """JSON as Python reads it unless told otherwise: duplicate keys, NaN, any text, any depth."""
    try:
        return json.loads(content)
    except ValueError as error:
        raise vectors.VectorError(f"{where}: syntax") from error


def crash(content: bytes, where: str) -> Any:
    return json.loads(content)


def verbose(content: bytes, where: str) -> Any:
    try:
        return PARSE(content, where)
    except vectors.VectorError:
        raise vectors.VectorError(f"{where}: {content!r}") from None


def endless(content: bytes, where: str) -> Any:
    if b"1e999" in content:
        while True:
            pass
    return PARSE(content, where)


def picky(content: bytes, where: str) -> Any:
    value = PARSE(content, where)
    if b"\\u" in content:
        raise vectors.VectorError(f"{where}: an escape")
    return value


def rounded(here: Any, record: Any, kind: str, expected: Any) -> Any:
    array = READ_ARRAY(here, record, kind, expected)
    return array if kind == "int" else vectors._frozen_array(array.astype("float32").astype("float64"))


def first_alone(*arguments: Any) -> Any:
    return READ_WRONG(*arguments)[:1]


def nothing(*arguments: Any, **options: Any) -> None:
    return None


FAULTS: dict[str, tuple[str, Callable[..., Any], str]] = {
    "lax JSON": ("parse", lax, "accepted, although"),
    "an uncaught error": ("parse", crash, "Error"),
    "a message without an end": ("parse", verbose, "no short line"),
    "a hang": ("parse", endless, "not done after"),
    "a valid file refused": ("parse", picky, "refused, although"),
    "wrong answers unchecked": ("_check_wrong", nothing, "accepted, although"),
    "errata unchecked": ("_check_errata", nothing, "accepted, although"),
    "texts unchecked": ("_check_texts_and_depth", nothing, "accepted, although"),
    "any date": ("_is_date", lambda text: True, "accepted, although"),
    "numbers read in float32": ("_read_array", rounded, "amiss"),
    "a wrong answer read under one combination alone": ("_read_wrong", first_alone, "another answer"),
}


# A fault that edits of one kind show is looked for among those alone: it takes fewer releases.
SHOWN_BY = {
    "wrong answers unchecked": ("tree",),
    "errata unchecked": ("knowledge",),
    "texts unchecked": ("knowledge",),
    "any date": ("knowledge",),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, replacement, complaint = FAULTS[fault]
    monkeypatch.setattr(vectors, name, replacement)
    monkeypatch.setattr(campaign, "SECONDS", 0.2)
    monkeypatch.setattr(mutations, "KINDS", SHOWN_BY.get(fault, mutations.KINDS))
    for result in campaign.run(3 * FILES, SEED):  # most are found among the first hundred; a false day is rare
        if result.finding is not None and (complaint == "amiss" or complaint in result.finding.amiss):
            return
    pytest.fail("not found")


def test_a_finding_is_printed_with_its_reproducer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(vectors, "parse", lax)
    number = next(r.finding.number for r in campaign.run(2000, SEED) if r.finding is not None)
    assert main(["--seed", str(SEED), "--first", str(number), "--files", "1"]) == 1
    printed = capsys.readouterr()
    assert "1 findings" in printed.out
    assert f"python -m verification.fuzz --seed {SEED} --first {number} --files 1" in printed.err
    assert seeds.INDEX in printed.err


def test_nothing_found_is_exit_code_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--files", "20"]) == 0
    assert "0 findings" in capsys.readouterr().out


# The referee, by itself.


@pytest.mark.parametrize(
    "text",
    [
        *('{"a": 1, "a": 2}', '{"a": 1, "\\u0061": 2}', '{"a"}', "{1: 2}", "[1,]", "[1] [2]", "[", "]", "", "[nul]"),
        *("[NaN]", "[1e999]", "[1e-999]", "[01]", "[9007199254740993]", "[١]"),
        *('["\\ud800"]', '["\t"]', "\ufeff[]", "[" * 40 + "]" * 40),
    ],
)
def test_the_referee_reads_json_strictly(text: str) -> None:
    with pytest.raises(referee.Invalid):
        referee.strict_json(text.encode())


def test_the_referee_reads_json() -> None:
    text = '\n{"a": [1, -0.5, 1E2, 0e9, true, null, {}, []], "\\u03b8\\ud83d\\ude00\\n": "\\"\\/"} '
    assert referee.strict_json(text.encode()) == json.loads(text)
