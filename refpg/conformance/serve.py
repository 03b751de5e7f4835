"""The worker's side in Python: answers the judge's lines by an adapter, in a process of its own.

``refpg check my_impl.py`` starts it, so that whatever the implementation does – hang, crash, print, exit – happens
elsewhere.  It is an ordinary worker: ``refpg check -- python -m refpg.conformance.serve my_impl.py`` does the same.

The two ends of the conversation are moved out of the way first.  What the implementation reads from standard input is
empty, and what it or a library below it prints to standard output goes to standard error.
"""

import faulthandler
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

from refpg.conformance.adapters import Adapter, TargetCrash, UsageError, resolve
from refpg.conformance.ops import OPS
from refpg.conformance.protocol import (
    ECHO,
    MAX_LINE_BYTES,
    PROTOCOL,
    Message,
    ProtocolError,
    check_request,
    decode,
    encode,
    nested,
    plain,
)
from refpg.conformance.signatures import answer_shapes, read_inputs
from refpg.conformance.vectors import load
from refpg.conformance.verdicts import call


def main(arguments: list[str] | None = None) -> int:
    """Serve the target named on the command line until the judge says bye.

    Parameters
    ----------
    arguments : list of str, optional
        The target; of the process unless given.

    Returns
    -------
    int
        0; 2 if there is not exactly one argument.
    """
    targets = sys.argv[1:] if arguments is None else arguments
    if len(targets) != 1:
        print("usage: python -m refpg.conformance.serve TARGET", file=sys.stderr)
        return 2
    lines, answer = _conversation()
    faulthandler.enable()
    for reply in replies(targets[0], lines):
        answer.write(encode(reply))
        answer.flush()
    return 0


def replies(target: str, lines: Iterable[bytes]) -> Iterator[Message]:
    """Yield the reply to each line of the judge.

    Parameters
    ----------
    target : str
        As in `refpg.conformance.adapters.resolve`.
    lines : iterable of bytes
        The judge's.

    Yields
    ------
    dict
    """
    adapter: Adapter | None = None
    for line in lines:
        request: Message = {}
        try:
            request = decode(line)
            check_request(request)
            if request["kind"] == "bye":
                return
            if request["kind"] == "hello":
                adapter = _opened(target)
                reply = _hello(adapter)
            elif adapter is None:
                raise ProtocolError("run before hello")
            else:
                reply = _run(adapter, request)
        except UsageError as error:
            reply = {"kind": "error", "message": _about(target, error), "usage": True}
        except TargetCrash as error:
            reply = {"kind": "error", "message": _about(target, error)}
        except ProtocolError as error:
            reply = {"kind": "error", "message": f"the judge sent something else than a request: {error}"}
        yield reply | {"id": request.get("id", 0)}


def _conversation() -> tuple[BinaryIO, BinaryIO]:
    """Return the judge's lines and where to answer, having replaced standard input and output."""
    lines, answer = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return lines, answer


def _opened(target: str) -> Adapter:
    vectors = load(ops=())
    return resolve(target, vectors.axes, vectors.policy.unit_roundoff)


def _about(target: str, error: Exception) -> str:
    """Return the message without the target, which the judge knows."""
    return str(error).removeprefix(f"{target}: ")


def _hello(adapter: Adapter) -> Message:
    return {
        "kind": "hello",
        "protocol": PROTOCOL,
        "name": adapter.name,
        "version": adapter.version,
        "ops": [*adapter.ops, ECHO],
        "unsupported": dict(adapter.unsupported),
        "conventions": dict(adapter.conventions),
        "dtype": dict(adapter.dtypes),
        "notes": list(adapter.notes),
    }


def _run(adapter: Adapter, request: Message) -> Message:
    op, raw = request["op"], request["inputs"]
    if op == ECHO:
        return {"kind": "result", "outputs": raw}
    function: Callable[..., Any] | None = adapter.functions.get(op)
    if function is None:
        return {"kind": "error", "message": f"{op} is not implemented"}
    try:
        inputs, lengths = read_inputs(OPS[op], raw)
    except ValueError as error:
        raise ProtocolError(f"{op}: {error}") from None
    reply = call(op, function, inputs, answer_shapes(OPS[op], inputs, lengths), request["dtype"])
    aside = {"printed": reply.printed, "changed": list(reply.changed)}
    if reply.leaves is not None:
        entries = sum(leaf.size for leaf in reply.leaves.values())
        if 2 * entries > MAX_LINE_BYTES:  # a digit and a comma each
            limit = f"a line of {MAX_LINE_BYTES >> 20} MiB"
            message = f"an answer of {entries} numbers, which is more than {limit} can hold"
            return aside | {"kind": "error", "message": message}
        return aside | {"kind": "result", "outputs": plain(nested(reply.leaves))}
    if reply.skipped:
        return aside | {"kind": "skipped", "reason": reply.skipped}
    return aside | {"kind": "error", "message": reply.error}


if __name__ == "__main__":
    sys.exit(main())
