"""Before any mathematics: do numbers arrive, do answers come back, in the right form, and twice the same?

Each op that a target answers is asked twice, on the inputs of one certified case; of the numbers only shape and
finiteness are looked at.  What fails here would be noise in a judgement: mend it first.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refpg.conformance.adapters import Adapter
from refpg.conformance.ops import OPS
from refpg.conformance.protocol import ECHO
from refpg.conformance.run import HARNESS, NOTHING_EXECUTED, selected
from refpg.conformance.signatures import output_of
from refpg.conformance.vectors import DATA, RELEASE, Case
from refpg.conformance.worker import TIMEOUT, Lost, opened

# Hard to print and to read: the ends of the range, halfway cases, and what six digits or a float32 on the way spoil.
ECHOED = (
    0.1,
    1 / 3,
    -2 / 3,
    1e22,
    1e23,
    5e-324,
    2.225073858507201e-308,
    1.7976931348623157e308,
    9007199254740991.0,
    1.0000000000000002,
    0.30000000000000004,
    -1e-5,
    123456789.12345678,
)


class Smoke(NamedTuple):
    """What came of one op: its ``name``, the ``case`` it was asked, and the ``complaints``, none if all is well.

    ``skipped`` is the reason why it could not answer that case.
    """

    name: str
    case: str
    complaints: tuple[str, ...]
    skipped: str = ""

    @property
    def passed(self) -> bool:
        """Whether there is nothing to complain about."""
        return not self.complaints


def smoke(
    target: Any = None,
    *,
    profiles: Sequence[str] = (),
    timeout: float = TIMEOUT,
    in_process: bool = False,
    data: Path = DATA,
    release: str = RELEASE,
) -> list[Smoke]:
    """Ask each op that a target answers twice, and complain about the form of what comes back.

    Parameters
    ----------
    target, profiles, timeout, in_process, data, release
        As in `refpg.conformance.run.check`.

    Returns
    -------
    list of Smoke
        ``echo`` first, if a worker offers it, then the ops in the order of the contract.

    Raises
    ------
    UsageError, TargetCrash, VectorError
        As in `refpg.conformance.run.check`.
    """
    vectors, ops, _ = selected(profiles, data=data, release=release)
    with opened(
        target,
        vectors.axes,
        vectors.policy.unit_roundoff,
        timeout=timeout,
        in_process=in_process,
        release=release,
    ) as adapter:
        found = [_echo(adapter)] if adapter.echo is not None else []
        for op in ops:
            case = next((case for case in vectors.cases.get(op, ()) if adapter.dtype(op) in case.resolves), None)
            if op in adapter.ops and case is not None:
                found.append(_smoke(case, adapter))
    return found


def lines(found: Sequence[Smoke]) -> Iterator[str]:
    """Yield the result for a person.

    Parameters
    ----------
    found : sequence of Smoke
        From `smoke`.

    Yields
    ------
    str
    """
    for one in found:
        word = "skipped" if one.skipped else "ok" if one.passed else "BAD"
        yield f"{word:<9}{one.name:<40} {one.skipped or one.case}".rstrip()
        for complaint in one.complaints:
            yield from (f"         {line}" for line in complaint.splitlines())
    bad = sum(not one.passed for one in found)
    asked = sum(not one.skipped for one in found if one.name in OPS or one.complaints)
    yield f"{asked} asked twice · {asked - bad} well-formed and repeatable · {bad} not          exit {exit_code(found)}"


def exit_code(found: Sequence[Smoke]) -> int:
    """Return 0 if there is no complaint, 3 if there is one, 4 if nothing was asked."""
    if not all(one.passed for one in found):
        return HARNESS
    return 0 if any(one.name in OPS and not one.skipped for one in found) else NOTHING_EXECUTED


def _echo(adapter: Adapter) -> Smoke:
    assert adapter.echo is not None
    try:
        came = np.asarray(adapter.echo(ECHOED), dtype=np.float64)
    except (Lost, TypeError, ValueError) as error:
        return Smoke(ECHO, "", (str(error),))
    if came.shape != (len(ECHOED),):
        return Smoke(ECHO, "", (f"{len(ECHOED)} numbers were sent, an array of shape {came.shape} came back",))
    changed = [f"{sent!r} came back as {float(got)!r}" for sent, got in zip(ECHOED, came, strict=True) if sent != got]
    advice = ["read and print numbers with all 17 digits"] if changed else []
    return Smoke(ECHO, "", tuple(changed + advice))


def _smoke(case: Case, adapter: Adapter) -> Smoke:
    first, second = adapter.reply(case), adapter.reply(case)
    if first.skipped:
        return Smoke(case.op, case.id, (), first.skipped)
    complaints = [reply.error for reply in (first, second) if reply.error][:1]
    if first.changed or second.changed:
        names = ", ".join(dict.fromkeys([*first.changed, *second.changed]))
        complaints.append(f"the call changes its inputs, which belong to the caller: {names}")
    if first.leaves is not None:
        for path, shape in case.shapes.items():
            got = first.leaves[path]
            if got.shape != shape.lengths:
                complaints.append(f"{path} has shape {got.shape}, expected {shape.lengths} ({_type(case, path)})")
            elif not np.isfinite(got).all():
                complaints.append(f"{path} holds {int(np.sum(~np.isfinite(got)))} entries that are not finite")
    if first.leaves is not None and second.leaves is not None:
        different = [path for path, got in first.leaves.items() if got.tobytes() != second.leaves[path].tobytes()]
        if different:
            complaints.append(f"two calls on the same inputs differ in {', '.join(different)}: fix its randomness")
    return Smoke(case.op, case.id, tuple(complaints))


def _type(case: Case, path: str) -> str:
    return f"{OPS[case.op].outputs[output_of(path)]}, {', '.join(f'{letter} = {n}' for letter, n in case.dims.items())}"
