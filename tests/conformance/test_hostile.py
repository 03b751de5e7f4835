"""Whatever an implementation does, the judge goes on, the report is whole, and the message says what to do.

Each hostile target answers `td_errors` rightly and misbehaves in `ratio`, so that what it leaves behind is seen too.
The order of the contract puts td_errors first, mean_kl last; mean_kl is answered rightly as well.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import refpg
from refpg.conformance import worker
from refpg.conformance.adapters import TargetCrash, UsageError
from refpg.conformance.run import Run, check
from refpg.conformance.vectors import load
from refpg.conformance.verdicts import Verdict

from . import synthetic

# What stands before ratio's answer; it sees old_log_prob and new_log_prob.
BEGINNING = """\
import ctypes, os, signal, subprocess, sys, threading, time
import numpy as np


def td_errors(rewards, values, next_values, terminated, gamma):
    return rewards + gamma * np.where(terminated, 0, next_values) - values


def mean_kl(**inputs):
    return KL


def ratio(old_log_prob, new_log_prob):
    right = np.exp(new_log_prob - old_log_prob)
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return synthetic.write(tmp_path / "data")


def judged(folder: Path, body: str, data: Path, *, timeout: float = 60.0, **asked: object) -> Run:
    """Write a target whose ratio has that body, and judge it in a process of its own."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    beginning = BEGINNING.replace("KL", repr(float(synthetic.kl_values()["old_new"])))
    (folder / "hostile.py").write_text(beginning + lines + "    return right\n", encoding="utf-8")
    return check(str(folder / "hostile.py"), data=data, timeout=timeout, **asked)  # type: ignore[arg-type]


def of_ratio(run: Run) -> list[tuple[Verdict, str]]:
    """The verdicts on ratio, having made sure that everything else is as it should be."""
    for outcome in run.outcomes:
        if outcome.op in ("td_errors", "mean_kl"):
            assert outcome.verdict is Verdict.CONFORMS, outcome.message
    return [(outcome.verdict, outcome.message) for outcome in run.outcomes if outcome.op == "ratio"]


HANGING = {
    "sleeps": "time.sleep(3600)",
    "computes": "while True: pass",
    "does not listen": "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32)); time.sleep(3600)",
    "leaves a child that holds the pipes": "os.fork() == 0 and time.sleep(3600); os._exit(4)",
}


@pytest.mark.skipif(os.name != "posix", reason="signals and descriptors are those of POSIX")
@pytest.mark.parametrize("what", HANGING)
def test_what_hangs_is_stopped(what: str, tmp_path: Path, data: Path) -> None:
    """Two seconds are enough for anything that replies at all: it takes a millisecond."""
    marker = tmp_path / "pids"
    note = f"open({str(marker)!r}, 'a').write(f'{{os.getpid()}}\\n')"
    run = judged(tmp_path, f"if right.size == 5:\n    {note}\n    {HANGING[what]}", data, timeout=2.0)
    (seven, _), (five, message) = of_ratio(run)
    assert (seven, five, run.exit_code) == (Verdict.CONFORMS, Verdict.HARNESS_ERROR, 3)
    assert "no reply within 2 s; the process was stopped" in message
    assert "--timeout" in message
    with pytest.raises(ProcessLookupError):
        os.kill(int(marker.read_text()), 0)


FATAL = {
    "segmentation fault": ("ctypes.string_at(0)", ["SIGSEGV", "standard error", "in ratio"]),
    "os._exit(0)": ("print('so long', file=sys.stderr, flush=True); os._exit(0)", ["exit code 0", "so long"]),
    "os.abort": ("os.abort()", ["SIGABRT"]),
    "kills itself": ("os.kill(os.getpid(), signal.SIGKILL)", ["SIGKILL"]),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", ["instead of a reply", "KeyboardInterrupt"]),
    "closes every descriptor": ("os.closerange(0, 64)", ["instead of a reply"]),
    "endless output on the wire": (
        "for fd in range(3, 9):\n    try:\n        while True: os.write(fd, b'x' * 65536)\n    except OSError: pass",
        ["a line of more than 4 MiB", "only replies may be written to standard output"],
    ),
    "a line on the wire": (
        "for fd in range(3, 9):\n    try: os.write(fd, b'loss: 0.5\\n')\n    except OSError: pass",
        ["a line that is not JSON: 'loss: 0.5'", "only replies may be written to standard output"],
    ),
    "a forged reply": (
        "for fd in range(3, 9):\n"
        '    try: os.write(fd, b\'{"kind": "result", "id": 999, "outputs": {"ratio": []}}\\n\')\n'
        "    except OSError: pass",
        ["a reply with the id 999, expected"],
    ),
}


@pytest.mark.skipif(os.name != "posix", reason="signals and descriptors are those of POSIX")
@pytest.mark.parametrize("what", FATAL)
def test_what_ends_the_process_is_an_error_of_this_case(what: str, tmp_path: Path, data: Path) -> None:
    body, words = FATAL[what]
    run = judged(tmp_path, body, data)
    verdicts = of_ratio(run)
    assert [verdict for verdict, _ in verdicts] == [Verdict.HARNESS_ERROR] * 2
    for _, message in verdicts:
        assert all(word in message for word in words), message
    assert run.exit_code == 3


HARMLESS = {
    "prints": "print('x' * 10_000_000)",
    "prints to the descriptor": "os.write(1, b'x' * 1_000_000)",
    "prints by the C library": "ctypes.CDLL(None).puts(b'hello'); ctypes.CDLL(None).fflush(None)",
    "runs a program that prints": "subprocess.run(['echo', 'hello'], check=True)",
    "prints to standard error without end": "[print('x' * 100_000, file=sys.stderr) for _ in range(100)]",
    "prints a line without end": "sys.stderr.write('x' * 10_000_000)",
    "reads standard input": "assert sys.stdin.read() == ''",
    "closes standard output": "sys.stdout.close()",
    "closes standard error": "sys.stderr.close(); os.closerange(2, 3)",
    "changes the directory": "os.chdir('/')",
    "forgets its imports": "sys.modules.clear(); sys.path.clear()",
    "raises on floating-point flags": "np.seterr(all='raise')",
    "leaves a thread": "threading.Thread(target=time.sleep, args=(3600,)).start()",
    "a view of its input": "right = np.exp(np.subtract(new_log_prob, old_log_prob, out=np.empty(9)[::2][:right.size]) "
    "if right.size == 5 else new_log_prob - old_log_prob)",
    "half precision that is exact": "right = [float(y) for y in right]",
    "an object array's list": "right = right.astype(object).tolist()",
    "not C-ordered": "right = np.asfortranarray(np.stack([right, right]))[0]",
    "big-endian": "right = right.astype('>f8')",
}


@pytest.mark.parametrize("what", HARMLESS)
def test_what_is_only_noise_changes_nothing(what: str, tmp_path: Path, data: Path) -> None:
    run = judged(tmp_path, HARMLESS[what], data)
    assert of_ratio(run) == [(Verdict.CONFORMS, "")] * 2


def test_what_was_printed_is_kept_to_a_limit(tmp_path: Path, data: Path) -> None:
    run = judged(tmp_path, "for i in range(9999): print('hello', i)", data)
    printed = [outcome.printed for outcome in run.outcomes if outcome.op == "ratio"]
    assert all(text.startswith("hello 0\nhello 1\n") and len(text) == 2000 for text in printed)


INVALID = {
    "sys.exit": ("sys.exit(0)", "SystemExit: 0"),
    "an exception": ("1 / 0", "ZeroDivisionError: division by zero"),
    "recursion": ("def f(): f()\nf()", "RecursionError"),
    "half of a surrogate pair": ("raise ValueError('\\ud800')", "ValueError"),
    "a reason that is none": ("raise NotImplementedError", "NotImplementedError without a reason"),
    "complex numbers": ("right = right + 0j", "ratio holds complex128, expected real numbers"),
    "texts": ("right = [str(y) for y in right]", "expected real numbers"),
    "booleans": ("right = right > 0", "ratio holds bool"),
    "nothing": ("right = None", "ratio returned None"),
    "a mapping": ("right = {'ratoi': right}", "expected real numbers"),
    "a ragged list": ("right = [[1.0], [1.0, 2.0]]", "cannot be read as an array"),
    "an array that refuses": (
        "class Refuses:\n    def __array__(self, *args, **kwargs): raise OSError('no')\nright = Refuses()",
        "ratio cannot be read as an array: no",
    ),
    "changed inputs": ("old_log_prob[0] = 7", "the call changed its inputs: old_log_prob"),
}


@pytest.mark.parametrize("what", INVALID)
def test_what_is_no_answer_is_an_error_that_says_so(what: str, tmp_path: Path, data: Path) -> None:
    body, words = INVALID[what]
    verdicts = of_ratio(judged(tmp_path, body, data))
    assert [verdict for verdict, _ in verdicts] == [Verdict.HARNESS_ERROR] * 2
    assert all(words in message for _, message in verdicts), verdicts


WRONG = {
    "not a number": "right = right * np.nan",
    "one infinity": "right[-1] = np.inf",
    "minus infinity": "right[0] = -np.inf",
    "a column": "right = right[:, None]",
    "too much": "right = np.resize(right, (300, 300))",
    "an empty array": "right = np.empty(0)",
    "half precision": "right = np.float16(right) + np.float16(0.5)",
    "integers": "right = right.astype(int)",
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_an_answer_is_judged(what: str, tmp_path: Path, data: Path) -> None:
    verdicts = of_ratio(judged(tmp_path, WRONG[what], data))
    assert [verdict for verdict, _ in verdicts] == [Verdict.WRONG] * 2


def test_a_refusal_of_a_case_is_counted_as_unsupported(tmp_path: Path, data: Path) -> None:
    verdicts = of_ratio(judged(tmp_path, "raise NotImplementedError('needs a GPU')", data))
    assert verdicts == [(Verdict.UNSUPPORTED, "needs a GPU")] * 2


def test_an_answer_that_exceeds_a_line_is_told(tmp_path: Path, data: Path) -> None:
    verdicts = of_ratio(judged(tmp_path, "right = np.resize(right, 10_000_000)", data))
    assert all("an answer of 10000000 numbers, which is more than" in message for _, message in verdicts)


# Limits.


def test_an_operation_that_breaks_the_conversation_again_and_again_is_given_up(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "MAX_LOSSES_PER_OP", 1)
    first, second = of_ratio(judged(tmp_path, "os._exit(1)", data))
    assert "exit code 1" in first[1]
    assert "not run: ratio broke the conversation 1 times" in second[1]
    assert second[0] is Verdict.HARNESS_ERROR


def test_a_process_is_started_anew_a_limited_number_of_times(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "MAX_RESTARTS", 1)
    run = judged(tmp_path, "os._exit(1)", data)
    messages = [outcome.message for outcome in run.outcomes if outcome.verdict is Verdict.HARNESS_ERROR]
    assert "exit code 1" in messages[0]
    assert all("started anew 1 times, which is the limit" in message for message in messages[1:])
    assert len(messages) == 3  # the other case of ratio, and mean_kl


def test_many_processes_come_to_the_same_result(tmp_path: Path, data: Path) -> None:
    body = "if right.size == 5: os._exit(3)\nprint('here')"
    alone, together = judged(tmp_path, body, data), judged(tmp_path, body, data, jobs=3)

    def told(run: Run) -> list[object]:
        return [(o.case, o.verdict, o.worst, o.message, o.printed, o.changed) for o in run.outcomes]

    assert repr(told(alone)) == repr(told(together))  # NaN equals itself in print
    assert [verdict for verdict, _ in of_ratio(together)] == [Verdict.CONFORMS, Verdict.HARNESS_ERROR]


# While it is loaded.

LOADING = {
    "hangs": ("import time; time.sleep(3600)", TargetCrash, "no reply within"),
    "exits at once": ("import os; os._exit(0)", TargetCrash, "exit code 0"),
    "raises": ("1 / 0", TargetCrash, "ZeroDivisionError"),
    "quits": ("raise SystemExit(0)", TargetCrash, "an exception while it was loaded"),
    "needs what is not there": ("import a_library_nobody_has", UsageError, "needs the module 'a_library_nobody_has'"),
    "declares what is not there": (
        "conventions = {'kl.directoin': 'new_old'}",
        UsageError,
        "did you mean kl.direction",
    ),
    "does and does not": ("ratio = abs; unsupported = {'ratio': 'why'}", UsageError, "cannot be both"),
    "is not a function": ("ratio = 3", UsageError, "ratio is a int"),
    "fails when looked at": (
        "def __getattr__(name):\n    raise RuntimeError('boo')",
        TargetCrash,
        "boo",
    ),
}


@pytest.mark.parametrize("what", LOADING)
def test_loading_that_fails_is_told(what: str, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "LOADING", 0.5 if what == "hangs" else 60.0)  # what hangs would not reply ever
    code, kind, words = LOADING[what]
    (tmp_path / "hostile.py").write_text(f"{code}\n")
    target = str(tmp_path / "hostile.py")
    with pytest.raises(kind) as raised:
        check(target, data=data, timeout=1.0)
    assert str(raised.value).startswith(f"{target}: ")
    assert not str(raised.value).startswith(f"{target}: {target}")
    assert words in str(raised.value)


def test_a_target_that_prints_while_loading_is_heard_of_by_nobody(tmp_path: Path, data: Path) -> None:
    (tmp_path / "loud.py").write_text(
        "import os\nprint('hello')\nos.write(1, b'hello\\n')\n"
        "def ratio(old_log_prob, new_log_prob):\n    import numpy\n    return numpy.exp(new_log_prob - old_log_prob)\n"
    )
    assert check(str(tmp_path / "loud.py"), data=data).counts()["conforms"] == 2


def test_a_neighbour_called_like_the_standard_library_does_not_come_first(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise RuntimeError('the wrong json')\n")
    (tmp_path / "random.py").write_text("raise RuntimeError('the wrong random')\n")
    (tmp_path / "mine.py").write_text("def ratio(old_log_prob, new_log_prob):\n    return new_log_prob\n")
    monkeypatch.chdir(tmp_path)
    assert check("mine.py", data=data).counts()["wrong"] == 2


def test_the_judge_is_not_slowed_down(tmp_path: Path, data: Path) -> None:
    """Not a benchmark: a process must be started once, not for each case, which would take longer than this."""
    started = time.monotonic()
    judged(tmp_path, f"open({str(tmp_path / 'starts')!r}, 'a').write(f'{{os.getpid()}}\\n')", data)
    assert time.monotonic() - started < 60
    assert len(set((tmp_path / "starts").read_text().split())) == 1


# In this process: a Python object, and a string when asked for.


def test_an_object_is_called_in_this_process(data: Path) -> None:
    seen = []

    def ratio(old_log_prob: object, new_log_prob: object) -> object:
        seen.append(os.getpid())
        return new_log_prob

    check({"ratio": ratio}, data=data)
    assert set(seen) == {os.getpid()}


def test_a_file_is_loaded_here_for_a_debugger(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [*sys.path])  # loading it here adds its folder
    body = "raise NotImplementedError(str(os.getpid()))"
    here, elsewhere = judged(tmp_path, body, data, in_process=True), judged(tmp_path, body, data)
    assert of_ratio(here)[0][1] == str(os.getpid())
    assert of_ratio(elsewhere)[0][1] != str(os.getpid())


@pytest.mark.parametrize(
    "close", ["import sys; sys.stdout.close()", "import sys; sys.stdout.write(3)", "print('x' * 10_000_000)"]
)
def test_output_is_no_way_to_the_judge_in_this_process_either(close: str, data: Path) -> None:
    def ratio(old_log_prob: object, new_log_prob: object) -> object:
        exec(close)
        return synthetic.ratio(old_log_prob, new_log_prob)

    run = check({"ratio": ratio}, data=data)
    assert len(run.outcomes) == 7
    assert run.counts()["executed"] == 2


# The command line.


def test_a_report_of_a_hostile_target_is_whole(tmp_path: Path) -> None:
    """By the published vectors and the real command; the ops of the profile it does not answer are there too."""
    (tmp_path / "hostile.py").write_text("import os\n\ndef ratio(old_log_prob, new_log_prob):\n    os._exit(9)\n")
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "refpg", "check", str(tmp_path / "hostile.py"), "--profile", "ppo"]
    root = Path(refpg.__file__).parents[1]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "run.jsonl")], capture_output=True, text=True, env=environment, cwd=root
    )
    assert done.returncode == 3, done.stderr
    lines = (tmp_path / "run.jsonl").read_text(encoding="utf-8").splitlines()
    cases = sum(len(of_op) for op, of_op in load().cases.items() if refpg.conformance.ops.OPS[op].profile == "ppo")
    assert len(lines) == cases + 2
    assert '"kind": "footer"' in lines[-1]
    assert "exit code 9" in done.stdout
