"""Rows that never exist at once: ``python -m verification.benchmarks.streaming ROWS`` prints the peak and the seconds.

The policy gradient of so many samples, drawn batch by batch as they are asked for.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from time import perf_counter
from typing import NamedTuple

_ROWS_PER_BATCH = 65_536


class Stream(NamedTuple):
    """So many ``rows``, the ``peak`` of the resident memory in bytes, and the ``seconds``."""

    rows: int
    peak: int
    seconds: float


def stream(rows: int) -> Stream:
    """Measure in a fresh process."""
    command = [sys.executable, "-m", __name__, str(rows)]
    return Stream(rows, *json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout))


def main(rows: int) -> None:
    """Add up the gradient over the rows, and print what it took."""
    import numpy as np

    from refpg.policy import Batch, gaussian_policy
    from refpg.rows import mean_over_batches
    from refpg.updates import surrogate_gradient
    from verification.benchmarks.memory import resident

    policy, generator = gaussian_policy((3, 16, 2)), np.random.default_rng(0)
    theta = generator.normal(size=policy.network.num_parameters)

    def batches() -> Iterator[Batch]:
        for start in range(0, rows, _ROWS_PER_BATCH):
            n = min(_ROWS_PER_BATCH, rows - start)
            yield Batch(generator.normal(size=(n, 3)), generator.normal(size=(n, 2)), generator.normal(size=n))

    begin = perf_counter()
    gradient = mean_over_batches(partial(surrogate_gradient, policy, theta), batches())
    seconds = perf_counter() - begin
    if not np.isfinite(gradient).all():
        raise ArithmeticError("streaming: the gradient is not finite")
    print(json.dumps([resident(), seconds]))


if __name__ == "__main__":
    main(int(sys.argv[1]))
