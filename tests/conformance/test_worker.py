"""The protocol is as its schemas say, and a worker that does not keep to it is told so, case by case."""

import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import refpg.__main__ as command_line
from refpg.conformance import protocol, serve, worker
from refpg.conformance.adapters import TargetCrash, UsageError
from refpg.conformance.ops import OPS
from refpg.conformance.protocol import (
    ProtocolError,
    check_reply,
    check_request,
    decode,
    encode,
    nested,
    numbers_of,
    plain,
)
from refpg.conformance.run import Run, check
from refpg.conformance.vectors import DATA, load
from refpg.conformance.verdicts import Verdict, flatten
from refpg.conformance.worker import Command

from . import synthetic

Json = Any

SCHEMAS = {name: json.loads((DATA / "protocol" / f"{name}.schema.json").read_text()) for name in ("request", "reply")}
REQUESTS: list[Json] = [
    {"kind": "hello", "id": 0, "protocol": 1, "refpg": "2026.1.0", "release": "2026.1"},
    {
        "kind": "run",
        "id": 1,
        "case": "ratio/five",
        "op": "ratio",
        "dtype": "float64",
        "inputs": {"x": [[1, 2.5], [True]]},
    },
    {"kind": "bye"},
]
REPLIES: list[Json] = [
    {"kind": "hello", "id": 0, "protocol": 1, "name": "mine", "ops": []},
    {
        "kind": "hello",
        "id": 0,
        "protocol": 1,
        "name": "mine",
        "version": "",
        "ops": ["ratio", "echo"],
        "unsupported": {"gae": "why"},
        "conventions": {"kl.direction": "new_old"},
        "dtype": {"*": "float32"},
        "notes": ["one"],
    },
    {"kind": "hello", "id": 0, "protocol": 1, "name": "mine", "ops": ["ratio"], "dtype": "float32"},
    {
        "kind": "result",
        "id": 3,
        "outputs": {"ratio": [1, 2.5, "NaN", "-Infinity", None], "g": {"layers": [{"W": [[1]]}]}},
    },
    {"kind": "result", "id": 3, "outputs": {}, "printed": "hello", "changed": ["x"]},
    {"kind": "skipped", "id": 3, "reason": "why"},
    {"kind": "error", "id": 3, "message": "Traceback", "printed": ""},
    {"kind": "error", "id": 0, "message": "no GPU", "usage": True},
]
RUBBISH: list[Json] = [
    None,
    True,
    -1,
    0,
    1,
    1.5,
    2,
    "",
    " ",
    "NaN",
    "text",
    [],
    [1],
    ["a"],
    [True],
    ["Infinity"],
    [["a"]],
    {},
    {"a": 1},
    {"a": "b"},
    {"a": [None]},
    {"a": {"b": {"c": "d"}}},
    [{"a": 1}],
]


# The schemas.


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one_and_says_what_everything_is(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])
    for kind, definition in SCHEMAS[name]["$defs"].items():
        assert definition["title"], kind
        assert definition["description"], kind
        for field, inner in definition.get("properties", {}).items():
            assert inner["description"], f"{kind}.{field}"
        if "properties" in definition:
            assert definition["additionalProperties"] is False
            assert definition["properties"]["kind"]["const"] == kind


def variations(message: Json) -> Iterator[Json]:
    """The message, and it with every field left out, replaced by rubbish, or added."""
    yield message
    for field in message:
        yield {name: value for name, value in message.items() if name != field}
        for value in RUBBISH:
            yield message | {field: value}
    for field in ("surprise", "printed", "changed", "usage", "version", "notes", "unsupported", "inputs", "outputs"):
        for value in RUBBISH:
            yield message | {field: value}


@pytest.mark.parametrize(
    ("name", "message"),
    [*(("request", m) for m in REQUESTS), *(("reply", m) for m in REPLIES)],
    ids=lambda value: value if isinstance(value, str) else value["kind"],
)
def test_the_schemas_and_the_checks_agree(name: str, message: Json) -> None:
    validator = jsonschema.Draft202012Validator(SCHEMAS[name])
    tally = {True: 0, False: 0}
    for variation in variations(message):
        try:
            if name == "request":
                check_request(variation)
            else:
                check_reply(variation, ("hello", "result", "skipped", "error"))
            accepted = True
        except ProtocolError:
            accepted = False
        inputs = variation.get("inputs") if name == "request" else None
        if accepted and isinstance(inputs, dict) and "null" in json.dumps(inputs):
            continue  # whether inputs are those of the op is seen when they are read
        assert accepted == validator.is_valid(variation), variation
        tally[accepted] += 1
    assert tally[True]
    assert tally[False]


def test_every_message_of_both_sides_is_as_the_schemas_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole run is overheard, of a target that answers, refuses, fails, prints and changes its inputs."""
    overheard: list[tuple[bytes, bytes]] = []
    original = worker.Worker._send_and_read

    def overhear(self: worker.Worker, line: bytes) -> bytes:
        reply = original(self, line)
        overheard.append((line, reply))
        return reply

    monkeypatch.setattr(worker.Worker, "_send_and_read", overhear)
    (tmp_path / "mine.py").write_text(
        "import refpg.conformance.reference, refpg.conformance.vectors\n"
        "axes = refpg.conformance.vectors.load(ops=()).axes\n"
        "answers = refpg.conformance.reference.answers({name: axis.default for name, axis in axes.items()})\n"
        "globals().update(answers)\n"
        "unsupported, notes = {'gae': 'why'}, ['one']\n"
        "del gae\n"
        "def ratio(old_log_prob, new_log_prob):\n    print('hello')\n    raise NotImplementedError('why')\n"
        "def td_errors(rewards, **inputs):\n    rewards[:] = 0\n    return rewards / rewards\n"
        "def discounted_returns(**inputs):\n    1 / 0\n"
    )
    run = check(str(tmp_path / "mine.py"), profiles=["estimators", "ppo"])
    validators = {name: jsonschema.Draft202012Validator(schema) for name, schema in SCHEMAS.items()}
    kinds = set()
    for line, reply in overheard:
        for name, content in (("request", line), ("reply", reply)):
            message = json.loads(content)
            assert validators[name].is_valid(message), message
            kinds.add((name, message["kind"]))
    spoken = {"request": ("hello", "run"), "reply": ("hello", "result", "skipped", "error")}
    assert kinds == {(name, kind) for name in spoken for kind in spoken[name]}
    assert len(overheard) == run.counts()["executed"] + run.counts()["unsupported"] - len(load(ops=["gae"]).ids()) + 1
    assert max(len(reply) for _, reply in overheard) < protocol.MAX_LINE_BYTES // 10


# Numbers and structures.


def test_numbers_survive_bit_for_bit() -> None:
    generator = np.random.default_rng(0)
    bits = generator.integers(0, 2**64, 20_000, dtype=np.uint64, endpoint=False)
    floats = np.concatenate([bits.view(np.float64), [0.0, -0.0, 5e-324, np.inf, -np.inf, np.nan, 0.1, 2.0**53]])
    floats[np.isnan(floats)] = np.nan
    back = np.array(numbers_of(decode(encode({"values": plain(floats)}))["values"]))
    assert back.tobytes() == floats.tobytes()
    single = generator.normal(size=100).astype(np.float32)
    assert np.array_equal(np.array(decode(encode({"values": plain(single)}))["values"]), single.astype(np.float64))


def test_every_certified_answer_survives() -> None:
    for cases in load().cases.values():
        for case in cases[:2]:
            leaves = {path: leaf.value for path, leaf in case.expected[0].outputs.items()}
            reply = decode(encode({"outputs": plain(nested(leaves))}))
            back = flatten(case.op, numbers_of(reply["outputs"]), case.shapes)
            assert list(back) == list(leaves)
            assert all(back[path].tobytes() == leaves[path].tobytes() for path in leaves)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"hello", "not JSON: 'hello'"),
        (b"", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"a": NaN}', "NaN is not JSON: write"),
        (b'{"a": -Infinity}', "-Infinity is not JSON: write"),
        (b'{"a": 1, "a": 2}', "a key is there twice"),
        (b'{"a": "\xff"}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"a": 1' + b"0" * 10_000 + b"}", "not JSON"),
        (b'{"a": 1}{"b": 2}', "not JSON"),
    ],
)
def test_a_line_that_is_none_is_refused(line: bytes, words: str) -> None:
    with pytest.raises(ProtocolError, match=words) as raised:
        decode(line)
    assert len(str(raised.value)) < 200


def test_half_of_a_surrogate_pair_does_not_reach_a_report() -> None:
    message = decode(b'{"kind": "error", "message": "\\ud800 \\ud83d\\ude00"}')
    assert message["message"] == "? 😀"


def test_depth_is_limited() -> None:
    deep: Json = 1.0
    for _ in range(protocol.MAX_DEPTH + 1):
        deep = [deep]
    with pytest.raises(ProtocolError, match="result.outputs is"):
        check_reply({"kind": "result", "id": 1, "outputs": {"x": deep}}, ["result"])


# Workers in any language, good and bad.  Each has a function `answer` from a request to the text it writes.

PROGRAM = """
import json, math, os, sys, time

def hello(request):
    return {"kind": "hello", "id": 0, "protocol": 1, "name": "mine", "ops": ["ratio", "td_errors"]}

def result(request):
    i = request["inputs"]
    if request["op"] == "ratio":
        outputs = {"ratio": [math.exp(new - old) for old, new in zip(i["old_log_prob"], i["new_log_prob"])]}
    else:
        rows = zip(i["rewards"], i["values"], i["next_values"], i["terminated"])
        delta = lambda r, v, n, end: r + i["gamma"] * (0 if end else n) - v
        outputs = {"td_errors": [[delta(*entry) for entry in zip(*row)] for row in rows]}
    return {"kind": "result", "id": request["id"], "outputs": outputs}

def answer(request):
    if request["kind"] == "hello":
        return json.dumps(hello(request)) + "\\n"
    return json.dumps(result(request)) + "\\n"

BODY

for line in sys.stdin:
    request = json.loads(line)
    if request["kind"] == "bye":
        break
    sys.stdout.write(answer(request))
    sys.stdout.flush()
"""


def started(folder: Path, body: str = "") -> Command:
    path = folder / "worker.py"
    path.write_text(PROGRAM.replace("BODY", textwrap.dedent(body)), encoding="utf-8")
    return Command((sys.executable, str(path), "--flag"))


def judged(folder: Path, body: str = "", **asked: Any) -> Run:
    return check(started(folder, body), data=synthetic.write(folder / "data"), **asked)


def of(run: Run, op: str) -> list[tuple[Verdict, str]]:
    return [(outcome.verdict, outcome.message) for outcome in run.outcomes if outcome.op == op]


def test_a_worker_is_judged_like_anyone(tmp_path: Path) -> None:
    run = judged(tmp_path)
    assert (run.counts()["conforms"], run.counts()["undeclared"], run.exit_code) == (5, 2, 0)
    assert run.adapter.name == "mine"
    assert run.adapter.target == f"-- {sys.executable} {tmp_path / 'worker.py'} --flag"
    assert run.adapter.dtypes == {"*": "float64"}


def test_what_it_declares_is_what_it_is_judged_by(tmp_path: Path) -> None:
    body = """
    plain = hello
    def hello(request):
        return plain(request) | {"version": "7", "notes": ["one"], "unsupported": {"mean_kl": "why"},
                                 "conventions": {"kl.direction": "new_old"}, "dtype": {"ratio": "float32"}}
    """
    run = judged(tmp_path, body)
    adapter = run.adapter
    assert (adapter.version, adapter.notes, adapter.unsupported) == ("7", ("one",), {"mean_kl": "why"})
    assert (adapter.conventions, adapter.dtypes) == ({"kl.direction": "new_old"}, {"ratio": "float32"})
    assert {outcome.dtype for outcome in run.outcomes if outcome.op == "ratio"} == {"float32"}
    assert of(run, "mean_kl") == [(Verdict.UNSUPPORTED, "why")]


def test_a_refusal_an_error_and_asides_are_reported(tmp_path: Path) -> None:
    body = """
    right = result
    def result(request):
        aside = {"printed": "x" * 9999, "changed": ["rewards", "nonsense"]}
        if len(request["inputs"].get("old_log_prob", "")) == 5:
            return {"kind": "skipped", "id": request["id"], "reason": "five is odd"}
        if request["op"] == "ratio":
            return {"kind": "error", "id": request["id"], "message": "thread 'main' panicked" + 99999 * "!"} | aside
        return right(request) | aside
    """
    run = judged(tmp_path, body)
    (seven, message), five = of(run, "ratio")
    assert five == (Verdict.UNSUPPORTED, "five is odd")
    assert seven is Verdict.HARNESS_ERROR
    assert message.startswith("thread 'main' panicked!!!")
    assert len(message) == 20_000
    td_errors = [outcome for outcome in run.outcomes if outcome.op == "td_errors"]
    assert all(outcome.verdict is Verdict.HARNESS_ERROR for outcome in td_errors)
    assert all(outcome.message.endswith("changed its inputs: rewards") for outcome in td_errors)
    assert all(len(outcome.printed) == 2000 for outcome in td_errors)


@pytest.mark.parametrize("ratio", ["NaN", "Infinity", "-Infinity", None], ids=["NaN", "Infinity", "-Infinity", "null"])
def test_what_is_not_finite_is_wrong_and_not_an_error(ratio: Json, tmp_path: Path) -> None:
    body = f"""
    right = result
    def result(request):
        reply = right(request)
        if request["op"] == "ratio":
            reply["outputs"]["ratio"][0] = {ratio!r}
        return reply
    """
    run = judged(tmp_path, body)
    assert [verdict for verdict, _ in of(run, "ratio")] == [Verdict.WRONG] * 2
    got = [outcome.comparisons[0].got for outcome in run.outcomes if outcome.op == "ratio"]
    assert all(repr(float(y[0])) == repr(float(ratio or "NaN")) for y in got)
    assert run.exit_code == 1


BROKEN = {
    "a log on standard output": ("return 'loading...\\n' + right(request)", "not JSON: 'loading...'", "only replies"),
    "an empty line": ("return '\\n'", "not JSON", "only replies"),
    "a bare NaN": ("return right(request).replace('[', '[NaN, ')", "NaN is not JSON", "in quotes"),
    "two replies": ("return 2 * right(request)", "a reply with the id", "repeats its id"),
    "another id": ("return right(request | {'id': 7000})", "a reply with the id 7000, expected", "repeats its id"),
    "no id": (
        'return \'{"kind": "result", "outputs": {}}\\n\'',
        "a reply with the id None, expected",
        "repeats its id",
    ),
    "true as an id": ("return right(request | {'id': True})", "a reply with the id True", "repeats its id"),
    "an unknown kind": (
        "return right(request).replace('result', 'answer')",
        "kind is 'answer', expected result or",
        "",
    ),
    "no outputs": ("return json.dumps({'kind': 'result', 'id': request['id']}) + '\\n'", "result lacks outputs", ""),
    "outputs under other names": ("return right(request).replace('ratio', 'raito')", "expected real numbers", ""),
    "booleans": ("return right(request).replace('[', '[true, ')", "result.outputs is", "nests numbers"),
    "texts": ("return right(request).replace('[', '[\"1.5\", ')", "result.outputs is", "nests numbers"),
    "no reason": (
        "return json.dumps({'kind': 'skipped', 'id': request['id'], 'reason': ''}) + '\\n'",
        "skipped.reason is ''",
        "",
    ),
    "an unknown field": ("return right(request)[:-2] + ', \"seed\": 3}\\n'", "result has an unknown field 'seed'", ""),
    "half a line": (
        "sys.stdout.write('{\"kind\": '); sys.stdout.flush(); os._exit(0)",
        "exit code 0 instead of a reply",
        "",
    ),
    "an exception": ("raise RuntimeError('boo')", "exit code 1 instead of a reply", "RuntimeError: boo"),
    "the end": (
        "sys.stdout.close(); os.close(1); time.sleep(3600)",
        "closed its standard output instead of a reply",
        "",
    ),
    "no end of a line": (
        "[sys.stdout.write('x' * 65536) for _ in iter(int, 1)]",
        "a line of more than 4 MiB",
        "only replies",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_breaks_the_protocol_is_an_error_of_its_case(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    statement, words, advice = BROKEN[what]
    if what == "the end":  # the process lives on for an hour: there is nothing to wait for
        monkeypatch.setattr(worker, "_GRACE", 0.1)
    body = f"""
    def right(request):
        return json.dumps(result(request)) + "\\n"
    original = answer
    def answer(request):
        if request.get("op") == "ratio":
            {statement}
        return original(request)
    """
    run = judged(tmp_path, body)
    assert len(run.outcomes) == 7
    assert [verdict for verdict, _ in of(run, "td_errors")] == [Verdict.CONFORMS] * 3
    found = of(run, "ratio")
    assert [verdict for verdict, _ in found][0 if what != "two replies" else 1 :].count(Verdict.HARNESS_ERROR) >= 1
    assert run.exit_code == 3
    message = next(message for verdict, message in found if verdict is Verdict.HARNESS_ERROR)
    assert words in message
    assert advice in message


HELLOS = {
    "another protocol": ('plain(request) | {"protocol": 2}', TargetCrash, "hello.protocol is 2, expected 1"),
    "no name": ('plain(request) | {"name": " "}', TargetCrash, "hello.name is ' '"),
    "an unknown op": ('plain(request) | {"ops": ["raito"]}', UsageError, "did you mean ratio"),
    "an unknown axis": (
        'plain(request) | {"conventions": {"kl.directoin": "x"}}',
        UsageError,
        "did you mean kl.direction",
    ),
    "an unknown precision": ('plain(request) | {"dtype": "f64"}', UsageError, "'f64' is unknown"),
    "does and does not": ('plain(request) | {"unsupported": {"ratio": "why"}}', UsageError, "cannot be both"),
    "a usage error": ('{"kind": "error", "id": 0, "message": "no GPU", "usage": True}', UsageError, "--flag: no GPU"),
    "a crash": ('{"kind": "error", "id": 0, "message": "panicked"}', TargetCrash, "--flag: panicked"),
    "a result": (
        '{"kind": "result", "id": 0, "outputs": {}}',
        TargetCrash,
        "kind is 'result', expected hello or error",
    ),
    "nothing": ("sys.exit('no licence')", TargetCrash, "exit code 1 instead of a reply"),
}


@pytest.mark.parametrize("what", HELLOS)
def test_a_hello_that_is_none_ends_the_run(what: str, tmp_path: Path) -> None:
    expression, kind, words = HELLOS[what]
    body = f"""
    plain = hello
    def hello(request):
        return {expression}
    """
    with pytest.raises(kind) as raised:
        judged(tmp_path, body)
    assert words in str(raised.value)
    if what == "nothing":
        assert "no licence" in str(raised.value)
    # What a hello must look like is told where none came that is one.
    none = kind is TargetCrash and what != "a crash"
    assert (
        'A worker must first answer the hello with {"kind": "hello", "id": 0, "protocol": 1' in str(raised.value)
    ) == none


def test_the_hello_that_is_shown_is_one() -> None:
    shown = json.loads(worker._GREETING.replace("...", '"ratio"'))
    check_reply(shown, ("hello",))
    assert set(shown) == set(SCHEMAS["reply"]["$defs"]["hello"]["required"])


def test_something_else_than_a_hello_is_answered_by_what_it_must_be(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("print('loading...')\n")
    with pytest.raises(TargetCrash) as raised:
        check(Command((sys.executable, str(tmp_path / "mine.py"))))
    assert "not JSON: 'loading...'" in str(raised.value)
    assert str(raised.value).endswith('"name": "…", "ops": [...]}; see verification/workers/README.md')


@pytest.mark.parametrize("command", [True, False])
def test_silence_in_place_of_a_hello_is_told_early_and_at_the_end(
    command: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would sleep for an hour, so how long the judge waits does not matter.  A Python target may import for long."""
    monkeypatch.setattr(worker, "PATIENCE", 0.25)
    monkeypatch.setattr(worker, "LOADING", 0.5)
    (tmp_path / "mine.py").write_text("import time\ntime.sleep(3600)\n")
    path = str(tmp_path / "mine.py")
    with pytest.raises(TargetCrash) as raised:
        check(Command((sys.executable, path)) if command else path, timeout=0.5)
    message, told = str(raised.value), capsys.readouterr().err
    assert "no reply within 0.5 s" in message
    assert "--timeout SECONDS" in message
    assert ("A worker must first answer the hello with" in message) == command
    assert told.count("\n") == command
    assert ("still waiting for the worker's hello, 0.25 s more. A worker must first answer" in told) == command


def test_nothing_is_told_where_no_time_is_left_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(worker, "PATIENCE", 0.5)
    monkeypatch.setattr(worker, "LOADING", 0.5)
    with pytest.raises(TargetCrash, match="A worker must first answer the hello"):
        check(Command((sys.executable, "-c", "import time; time.sleep(3600)")), timeout=0.5)
    assert capsys.readouterr().err == ""


def test_a_program_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program\n")
    for words in (("./nowhere",), (str(tmp_path),), (str(tmp_path / "text"),)):
        with pytest.raises(UsageError, match="cannot be started"):
            check(Command(words))


@pytest.mark.parametrize(
    "asked", [{"timeout": 0.0}, {"timeout": -1.0}, {"timeout": float("nan")}, {"timeout": float("inf")}, {"jobs": 0}]
)
def test_limits_that_are_none_are_usage_errors(asked: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected"):
        judged(tmp_path, **asked)


def test_the_end_is_said_and_waited_for(tmp_path: Path) -> None:
    body = f"""
    import atexit
    atexit.register(lambda: open({str(tmp_path / "ended")!r}, "w").write("bye"))
    """
    judged(tmp_path, body)
    assert (tmp_path / "ended").read_text() == "bye"


def test_a_worker_started_anew_knows_nothing_of_before_and_ids_begin_again(tmp_path: Path) -> None:
    body = f"""
    original = answer
    def answer(request):
        with open({str(tmp_path / "ids")!r}, "a") as file:
            file.write(f"{{request['kind']}} {{request['id']}} {{request.get('case')}}\\n")
        if request.get("case") == "td_errors/open-4x3":
            os._exit(1)
        return original(request)
    """
    judged(tmp_path, body)
    lines = (tmp_path / "ids").read_text().splitlines()
    broken = next(i for i, line in enumerate(lines) if "open-4x3" in line)
    assert lines[0] == "hello 0 None"
    assert lines[broken + 1] == "hello 0 None"
    assert lines[broken + 2].startswith("run 1 ")
    assert sum(line.startswith("hello") for line in lines) == 2


def test_a_worker_that_cannot_be_started_anew_is_told(tmp_path: Path) -> None:
    body = f"""
    if os.path.exists({str(tmp_path / "once")!r}):
        sys.exit("only once")
    open({str(tmp_path / "once")!r}, "w").close()
    def result(request):
        os._exit(1)
    """
    run = judged(tmp_path, body)
    first, *others = [message for op in ("td_errors", "ratio") for _, message in of(run, op)]
    assert "exit code 1 instead of a reply" in first
    assert all("could not be started anew" in message and "only once" in message for message in others)


def test_an_interruption_leaves_nothing_behind(tmp_path: Path) -> None:
    import os

    pids = tmp_path / "pids"

    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judged(tmp_path, f"open({str(pids)!r}, 'a').write(f'{{os.getpid()}}\\n')", progress=interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pids.read_text()), 0)


# The worker's side in Python, without a process.


def replies(target: str, *messages: Json) -> list[Json]:
    lines = [message if isinstance(message, bytes) else encode(message) for message in messages]
    return list(serve.replies(target, lines))


def test_the_server_answers_each_line_and_ends_at_bye(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def ratio(old_log_prob, new_log_prob):\n    return new_log_prob\n")
    inputs = {"old_log_prob": [0.0, 0.5], "new_log_prob": [0.25, "NaN"]}
    run = REQUESTS[1] | {"inputs": {"old_log_prob": [0.0, 0.5], "new_log_prob": [0.25, 1.5]}}
    found = replies(
        str(tmp_path / "mine.py"),
        run,
        REQUESTS[0],
        run | {"id": 2},
        run | {"id": 3, "op": "gae"},
        run | {"id": 4, "inputs": inputs},
        run | {"id": 5, "op": "echo", "inputs": {"values": [0.1]}},
        b"hello\n",
        REQUESTS[2],
        run,
    )
    assert [(reply["kind"], reply["id"]) for reply in found] == [
        ("error", 1),
        ("hello", 0),
        ("result", 2),
        ("error", 3),
        ("error", 4),
        ("result", 5),
        ("error", 0),
    ]
    assert found[2]["outputs"] == {"ratio": [0.25, 1.5]}
    assert found[5]["outputs"] == {"values": [0.1]}
    assert "run before hello" in found[0]["message"]
    assert "new_log_prob holds 'NaN', expected float" in found[4]["message"]


def test_the_server_tells_usage_from_crash(tmp_path: Path) -> None:
    (tmp_path / "crash.py").write_text("1 / 0\n")
    (not_there,) = replies("nowhere.py", REQUESTS[0])
    assert not_there == {"kind": "error", "id": 0, "message": "there is no file nowhere.py", "usage": True}
    (crash,) = replies(str(tmp_path / "crash.py"), REQUESTS[0])
    assert "ZeroDivisionError" in crash["message"]
    assert "usage" not in crash


def test_the_server_needs_one_target(capsys: pytest.CaptureFixture[str]) -> None:
    assert serve.main([]) == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[sys.executable, "-m", "refpg.conformance.serve", "{target}"], None])
def test_served_and_in_process_come_to_the_same(
    words: list[str] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(
        "import numpy as np\nname, version, notes, dtype = 'mine', '3', 'one', {'ratio': 'float32'}\n"
        "conventions = {'kl.direction': 'new_old'}\nunsupported = {'gae': 'why'}\n"
        "def ratio(old_log_prob, new_log_prob):\n"
        "    print('hello')\n    assert new_log_prob.dtype == np.float32 and new_log_prob.flags.writeable\n"
        "    return new_log_prob\n"
        "def td_errors(rewards, gamma, **others):\n    assert type(gamma) is float\n    raise ValueError('boo')\n"
    )
    target = str(tmp_path / "mine.py")
    data = synthetic.write(tmp_path / "data")
    monkeypatch.setattr("sys.path", [*sys.path])  # loading it here adds its folder
    here = check(target, data=data, in_process=True)
    there = check(Command(tuple(word.format(target=target) for word in words)) if words else target, data=data)

    def told(run: Run) -> list[str]:
        return [
            repr((o.case, o.verdict, o.dtype, dict(o.conventions), o.worst, o.message, o.printed, o.changed))
            for o in run.outcomes
        ]

    assert told(here) == told(there)
    for field in ("name", "version", "ops", "unsupported", "conventions", "dtypes", "notes"):
        assert getattr(here.adapter, field) == getattr(there.adapter, field), field


# The command line.


def test_what_follows_two_dashes_starts_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(worker, "PATIENCE", float("inf"))  # with a machine that is busy
    words = started(tmp_path).words
    assert command_line.main(["check", "--only", "ratio", "--", *words]) == 0
    assert command_line.main(["smoke", "--profile", "ppo", "--timeout", "60", "--", *words]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check", "mine.py", "--", "./worker"], "give either a target, or --"),
        (["check", "--"], "give either a target, or --"),
        (["ops", "--", "./worker"], "which this command has no use for"),
        (["check", "--", "./nowhere"], "./nowhere: cannot be started"),
        (["check", "--vectors", "2025.9"], "no release '2025.9'"),
        (["check", "nowhere.py", "--jobs", "0"], "0 jobs"),
        (["check", "nowhere.py", "--timeout", "-3"], "a timeout of -3.0 s is none"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(arguments) == 2
    assert words in capsys.readouterr().err


def test_every_op_can_be_served() -> None:
    """What the judge writes for a case is what the worker reads: every op of the contract, at least once."""
    vectors = load()
    for cases in vectors.cases.values():
        request = decode(encode({"kind": "run", "inputs": plain(cases[0].inputs)}))
        inputs, lengths = serve.read_inputs(OPS[cases[0].op], request["inputs"])
        assert serve.answer_shapes(OPS[cases[0].op], inputs, lengths) == dict(cases[0].shapes)
