"""The peak of one operation, in a process of its own.

``python -m verification.benchmarks.memory IMPLEMENTATION OPERATION SIZE`` prints the peak of the resident memory in
bytes before the operation, with the inputs and libraries in, and after.
"""

import json
import resource
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

_UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
_STATUS = Path("/proc/self/status")


class Peak(NamedTuple):
    """Peaks of the resident memory, bytes: ``before`` the operation and ``after`` it; ``failed``, why there is none."""

    size: str
    operation: str
    implementation: str
    before: int
    after: int
    failed: str = ""

    @property
    def added(self) -> int:
        """What the operation added to the peak."""
        return self.after - self.before


def peak(implementation: str, operation: str, size: str) -> Peak:
    """Return the peak of one call, measured in a fresh process."""
    command = [sys.executable, "-m", __name__, implementation, operation, size]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        reason = found.stderr.strip().splitlines()[-1] if found.stderr.strip() else f"exit {found.returncode}"
        return Peak(size, operation, implementation, 0, 0, reason)
    return Peak(size, operation, implementation, *json.loads(found.stdout))


def resident() -> int:
    """Return the peak of this process so far, bytes.

    Linux's ru_maxrss begins with the size of the process that started this one, so there the peak of this program's
    own memory, VmHWM, is read.
    """
    if _STATUS.exists():
        (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT


def main(implementation: str, operation: str, size: str) -> None:
    """Do the operation once and print both peaks."""
    from verification.benchmarks.problems import problem

    call = import_module(f"verification.benchmarks.peers.{implementation}").calls[operation](problem(size))
    before = resident()
    call.run()
    print(json.dumps([before, resident()]))


if __name__ == "__main__":
    main(*sys.argv[1:])
