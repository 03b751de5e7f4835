"""The judge's side of a worker: a process is started, asked case by case, and never trusted.

Whatever it does – crash, hang, write rubbish, write without end – becomes a message about one case; then it is started
anew for the next.  Its replies are awaited for a limited time, its lines are read up to a limited length, of its
standard error the last lines are kept, and it is started anew a limited number of times.

A worker is a program in any language (`Command`), or a Python target, which `refpg.conformance.serve` answers for.
`refpg.conformance.protocol` says what is spoken.
"""

import contextlib
import json
import os
import queue
import shlex
import signal
import subprocess
import sys
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import IO, Any, NamedTuple

import refpg
from refpg.conformance.adapters import Adapter, TargetCrash, UsageError, declared, nearest, resolve
from refpg.conformance.ops import OPS
from refpg.conformance.protocol import (
    ECHO,
    MAX_LINE_BYTES,
    PROTOCOL,
    Message,
    ProtocolError,
    check_reply,
    decode,
    encode,
    numbers_of,
    plain,
)
from refpg.conformance.vectors import RELEASE, Axis, Case
from refpg.conformance.verdicts import PRINTED_CHARACTERS, InvalidAnswer, Reply, flatten

TIMEOUT = 30.0
LOADING = 120.0  # to import a large library, and to compile what it compiles at first
PATIENCE = 10.0  # with a command, before somebody is told what is awaited
MAX_LOSSES_PER_OP = 3
MAX_RESTARTS = 20

_STDERR_LINES = 12
_STDERR_WIDTH = 300
_MESSAGE_CHARACTERS = 20_000
_GRACE = 2.0  # for a process to end after bye, or after it closed its output
_CHUNK = 1 << 16
_GREETING = f'{{"kind": "hello", "id": 0, "protocol": {PROTOCOL}, "name": "…", "ops": [...]}}'
_MUST_GREET = f"A worker must first answer the hello with {_GREETING}; see verification/workers/README.md"
_ONLY_REPLIES = "only replies may be written to standard output; everything else belongs to standard error"

# The judge's own module path, so that the target is found and refpg is the same; -P keeps the working directory, in
# which a module may be called like one of the standard library, from coming first.
_SERVE = "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); from refpg.conformance.serve import main; main()"


class Command(NamedTuple):
    """A worker in any language: the ``words`` by which it is started, the first one a program."""

    words: tuple[str, ...]


class Lost(RuntimeError):
    """The conversation broke off and the process was stopped; the message says how and what to do."""


@contextlib.contextmanager
def opened(
    target: Any,
    axes: Mapping[str, Axis],
    dtypes: Iterable[str],
    *,
    timeout: float = TIMEOUT,
    in_process: bool = False,
    jobs: int = 1,
    release: str = RELEASE,
) -> Iterator[Adapter]:
    """Make a target ready to answer, and let go of it at the end.

    Parameters
    ----------
    target : None, str, Command, or any object
        A string and a command are answered for by processes of their own; everything else, in this one.
    axes, dtypes
        As in `refpg.conformance.adapters.resolve`.
    timeout : float
        Seconds within which a process must reply; loading may take `LOADING`, if that is longer.
    in_process : bool
        Load a string target into this process: for debuggers.  Then nothing protects the judge from it.
    jobs : int
        How many processes answer.
    release : str
        The release of the vectors, told to the worker.

    Yields
    ------
    Adapter

    Raises
    ------
    UsageError
        If the target is not there, contradicts itself, or the limits make no sense.
    TargetCrash
        If it fails while it is loaded.
    """
    if not timeout > 0 or timeout > threading.TIMEOUT_MAX:
        raise UsageError(f"a timeout of {timeout} s is none: expected a positive number of seconds")
    if jobs < 1:
        raise UsageError(f"{jobs} jobs cannot do anything: expected 1 or more")
    separate = isinstance(target, Command) or (isinstance(target, str) and not in_process)
    if not separate:
        yield resolve(target, axes, dtypes)
        return
    team = _Team(target, timeout, jobs, release)
    try:
        yield team.adapter(axes, dtypes)
    finally:
        team.dismiss()


class _EndlessLine(Exception):
    """More than the longest line was read, and no end of it."""


class _Team:
    """So many equal workers; who asks gets one that is idle, so it may be asked from several threads."""

    def __init__(self, target: str | Command, timeout: float, jobs: int, release: str) -> None:
        if isinstance(target, Command):
            words, patience = list(target.words), PATIENCE
            self._label = f"-- {shlex.join(words)}"
        else:
            words, patience = [sys.executable, "-P", "-c", _SERVE, json.dumps(sys.path), target], None
            self._label = target
        self._workers = [
            Worker(words, self._label, timeout=timeout, release=release, patience=patience) for _ in range(jobs)
        ]
        self._idle: queue.LifoQueue[Worker] = queue.LifoQueue()
        for worker in reversed(self._workers):
            self._idle.put(worker)
        self._lock = threading.Lock()
        self._losses: Counter[str] = Counter()

    def adapter(self, axes: Mapping[str, Axis], dtypes: Iterable[str]) -> Adapter:
        hello = self._workers[0].start()
        ops = [op for op in hello["ops"] if op != ECHO]
        for op in ops:
            if op not in OPS:
                raise UsageError(f"{self._label}: {op!r} is not an op{nearest(op, OPS)}")
        adapter = declared(self._label, tuple(op for op in OPS if op in ops), hello, axes, dtypes)
        return replace(adapter, ask=self.ask, echo=self.echo if ECHO in hello["ops"] else None)

    def ask(self, case: Case, dtype: str) -> Reply:
        with self._lock:
            losses, restarts = self._losses[case.op], self._losses.total()
        if losses >= MAX_LOSSES_PER_OP:
            return Reply(error=f"not run: {case.op} broke the conversation {losses} times (see above)")
        if restarts >= MAX_RESTARTS:
            return Reply(error=f"not run: the worker was started anew {restarts} times, which is the limit (see above)")
        worker = self._idle.get()
        try:
            return worker.ask(case, dtype)
        except Lost as error:
            with self._lock:
                self._losses[case.op] += 1
            return Reply(error=str(error))
        finally:
            self._idle.put(worker)

    def echo(self, values: Sequence[float]) -> Any:
        reply = self._workers[0].run(ECHO, ECHO, "float64", {"values": list(values)})
        if reply["kind"] != "result":
            raise Lost(reply.get("message") or reply["reason"])
        return numbers_of(reply["outputs"]).get("values")

    def dismiss(self) -> None:
        for worker in self._workers:
            worker.dismiss()


class Worker:
    """One process and the conversation with it.

    ``patience`` is for a program that may not know the protocol: so many seconds after its start somebody is told what
    is awaited, and if no hello comes, how it must look.
    """

    def __init__(
        self,
        words: Sequence[str],
        label: str,
        *,
        timeout: float,
        release: str = RELEASE,
        patience: float | None = None,
    ) -> None:
        self._words, self._label, self._timeout, self._release = list(words), label, timeout, release
        self._patience = patience
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = bytearray()
        self._stderr: deque[str] = deque(maxlen=_STDERR_LINES)
        self._listener = threading.Thread()
        self._id = 0

    def start(self) -> Message:
        """Start the process and return its hello; UsageError or TargetCrash if it does not say one."""
        try:
            self._process = subprocess.Popen(
                self._words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,  # so that it can be stopped with all it started
            )
        except (OSError, ValueError) as error:
            raise UsageError(f"{self._label}: cannot be started: {error}") from None
        assert self._process.stderr is not None
        self._unread.clear()
        self._stderr = deque(maxlen=_STDERR_LINES)
        self._listener = threading.Thread(target=_listen, args=(self._process.stderr, self._stderr), daemon=True)
        self._listener.start()
        self._id = 0
        request = {"kind": "hello", "protocol": PROTOCOL, "refpg": refpg.__version__, "release": self._release}
        try:
            hello = self._exchange(request, max(LOADING, self._timeout), self._patience)
            try:
                check_reply(hello, ("hello", "error"))
            except ProtocolError as error:
                raise self._lost(f"its hello is not as documented: {error}", "") from None
        except Lost as error:
            if self._patience is None:
                raise TargetCrash(f"{self._label}: no hello while it was loaded: {error}") from None
            raise TargetCrash(f"{self._label}: no hello: {error}\n{_MUST_GREET}") from None
        if hello["kind"] == "error":
            self.dismiss()
            failure = UsageError if hello.get("usage") else TargetCrash
            raise failure(f"{self._label}: {hello['message'][:_MESSAGE_CHARACTERS]}")
        return hello

    def ask(self, case: Case, dtype: str) -> Reply:
        """Return what came of a case; `Lost` if the process had to be stopped."""
        reply = self.run(case.op, case.id, dtype, case.inputs)
        printed = reply.get("printed", "")[:PRINTED_CHARACTERS]
        changed = tuple(name for name in case.inputs if name in reply.get("changed", ()))
        if reply["kind"] == "error":
            return Reply(error=reply["message"][:_MESSAGE_CHARACTERS], printed=printed, changed=changed)
        if reply["kind"] == "skipped":
            return Reply(skipped=reply["reason"][:_MESSAGE_CHARACTERS], printed=printed, changed=changed)
        try:
            leaves = flatten(case.op, numbers_of(reply["outputs"]), case.shapes)
        except InvalidAnswer as error:
            return Reply(error=str(error), printed=printed, changed=changed)
        return Reply(leaves, printed=printed, changed=changed)

    def run(self, op: str, case: str, dtype: str, inputs: Mapping[str, Any]) -> Message:
        """Return the reply to a request; what is not as documented in it becomes a reply of kind error."""
        if self._process is None:
            try:
                self.start()
            except (UsageError, TargetCrash) as error:
                raise Lost(f"it could not be started anew: {error}") from None
        request = {"kind": "run", "case": case, "op": op, "dtype": dtype, "inputs": plain(inputs)}
        reply = self._exchange(request, self._timeout)
        try:
            check_reply(reply, ("result", "skipped", "error"))
        except ProtocolError as error:
            return {"kind": "error", "message": f"a reply that is not as documented: {error}"}
        return reply

    def dismiss(self) -> None:
        """Say bye, and stop the process if it does not end by itself."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        # A process that does not read cannot block the judge: a pipe has room for this line, or it is full.
        with contextlib.suppress(OSError):
            os.set_blocking(self._process.stdin.fileno(), False)
            self._process.stdin.write(encode({"kind": "bye"}))
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)
        self._stop()

    def _exchange(self, request: Message, seconds: float, patience: float | None = None) -> Message:
        """Send a request and return the message that came back; it has the id of the request and is not checked yet.

        Writing and reading may both block, so they are done by a thread that is waited for no longer than allowed; with
        ``patience``, which only a hello needs, that is said meanwhile.
        """
        line = encode(request | {"id": self._id})
        came: list[bytes | Exception] = []

        def converse() -> None:
            try:
                came.append(self._send_and_read(line))
            except (OSError, EOFError, _EndlessLine) as error:
                came.append(error)

        thread = threading.Thread(target=converse, daemon=True)
        thread.start()
        waited = seconds if patience is None else min(patience, seconds)
        thread.join(waited)
        if not came and waited < seconds:
            left = f"still waiting for the worker's hello, {seconds - waited:g} s more"
            print(f"refpg: {left}. {_MUST_GREET}", file=sys.stderr, flush=True)
            thread.join(seconds - waited)
        if not came:
            raise self._lost(
                f"no reply within {seconds:g} s; the process was stopped",
                f"if it is {'only slow' if patience is None else 'a worker, only slow'}, allow more: --timeout SECONDS",
            )
        (reply,) = came
        if isinstance(reply, _EndlessLine):
            raise self._lost(f"a line of more than {MAX_LINE_BYTES >> 20} MiB", _ONLY_REPLIES)
        if isinstance(reply, Exception):
            raise self._lost(f"{self._ending()} instead of a reply", "")
        try:
            message = decode(reply)
        except ProtocolError as error:
            raise self._lost(str(error), _ONLY_REPLIES) from None
        if message.get("id") != self._id:
            raise self._lost(
                f"a reply with the id {str(message.get('id'))[:40]}, expected {self._id}",
                "each request is answered by one line, which repeats its id",
            )
        self._id += 1
        return message

    def _send_and_read(self, line: bytes) -> bytes:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        rest = memoryview(line)
        while rest:
            rest = rest[process.stdin.write(rest) :]
        searched = 0
        while (end := self._unread.find(b"\n", searched)) < 0:
            searched = len(self._unread)
            if searched > MAX_LINE_BYTES:
                raise _EndlessLine
            chunk = process.stdout.read(_CHUNK)
            if not chunk:
                raise EOFError
            self._unread += chunk
        reply = bytes(self._unread[:end])
        del self._unread[: end + 1]
        return reply

    def _ending(self) -> str:
        """Say how the process ended; it has closed its output."""
        assert self._process is not None
        try:
            code = self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            return "the process closed its standard output"
        if code >= 0:
            return f"the process ended with exit code {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = "unknown"
        return f"the process was ended by signal {-code} ({name})"

    def _lost(self, what: str, advice: str) -> Lost:
        """Stop the process; return what to raise: what happened, what to do, and its last words."""
        self._stop()
        said = list(self._stderr)
        lines = [what, advice, "its last lines on standard error:" if said else "", *(f"    {line}" for line in said)]
        return Lost("\n".join(line for line in lines if line))

    def _stop(self) -> None:
        process = self._process
        assert process is not None
        # Its group has its number as long as anything it started is alive, also when it has ended itself.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self._listener.join(_GRACE)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        self._process = None


def _listen(stream: IO[bytes], lines: deque[str]) -> None:
    """Keep the last lines of a stream, cut to a width."""
    unfinished = b""
    with contextlib.suppress(OSError, ValueError):
        while chunk := stream.read(_CHUNK):
            *whole, unfinished = (unfinished + chunk).split(b"\n")
            lines.extend(line[:_STDERR_WIDTH].decode("utf-8", "replace") for line in whole)
            unfinished = unfinished[:_STDERR_WIDTH]
    if unfinished:
        lines.append(unfinished.decode("utf-8", "replace"))
