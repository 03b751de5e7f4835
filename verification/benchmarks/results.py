"""Everything one run found, and what is asked of it: ratios, fractions of peaks, sums."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from verification.benchmarks import machine, timing
from verification.benchmarks.growth import Curve
from verification.benchmarks.machine import Machine
from verification.benchmarks.measurement import Row
from verification.benchmarks.memory import Peak
from verification.benchmarks.peers import REFERENCE
from verification.benchmarks.problems import problem
from verification.benchmarks.processes import Wall
from verification.benchmarks.streaming import Stream
from verification.benchmarks.validation import Share
from verification.benchmarks.workers import Scaling


class Results(NamedTuple):
    """Fields: ``date``; the ``machine``; ``rows`` of the interleaved runs; ``peaks`` of memory; ``curves`` of growth;
    ``streams``; ``shares`` of validation; ``scalings`` over workers; ``walls`` of processes.
    """

    date: str
    machine: Machine
    rows: list[Row]
    peaks: Sequence[Peak] = ()
    curves: Sequence[Curve] = ()
    streams: Sequence[Stream] = ()
    shares: Sequence[Share] = ()
    scalings: Sequence[Scaling] = ()
    walls: Sequence[Wall] = ()

    def row(self, size: str, operation: str, implementation: str = REFERENCE) -> Row | None:
        """Return a row that was timed."""
        wanted = (size, operation, implementation)
        return next((row for row in self.rows if row[:3] == wanted and row.seconds), None)

    def rivals(self, size: str, operation: str) -> list[str]:
        """Return the implementations timed beside refpg."""
        if self.row(size, operation) is None:
            return []
        rows = [row for row in self.rows if row[:2] == (size, operation) and row.seconds]
        return [row.implementation for row in rows if row.implementation != REFERENCE]

    def ratio(self, size: str, operation: str, implementation: str) -> float | None:
        """Return the median of how many times as long as refpg an implementation took."""
        own, other = self.row(size, operation), self.row(size, operation, implementation)
        return None if own is None or other is None else timing.ratios(other.seconds, own.seconds)[1]

    def least_ratio(self, size: str, operation: str) -> float | None:
        """Return the ratio to the fastest of the others."""
        found = [ratio for name in self.rivals(size, operation) if (ratio := self.ratio(size, operation, name))]
        return min(found, default=None)

    def fraction_of_peak(self, row: Row) -> float | None:
        """Return an operation's rate over that of dgemm, where its operations are counted."""
        flops = {"gradient": machine.gradient_flops, "fisher_product": machine.product_flops}.get(row.operation)
        if flops is None or not row.seconds:
            return None
        return flops(problem(row.size)) / float(np.median(row.seconds)) / self.machine.dgemm

    def peak(self, size: str, operation: str, implementation: str = REFERENCE) -> Peak | None:
        """Return the peak of memory of an operation that did not fail."""
        wanted = (size, operation, implementation)
        return next((peak for peak in self.peaks if peak[:3] == wanted and not peak.failed), None)
