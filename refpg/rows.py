"""Sums over rows: fixed parts, added in a fixed order, by any executor.

::

    Σ_b t(b) = Σ_tasks ( Σ_parts Σ_{b in part} t(b) )

A part is ``ROWS_PER_PART`` consecutive rows, few enough to stay in cache; a task is ``PARTS_PER_TASK`` consecutive
parts, enough to be worth sending away.  Both are fixed, and so is the order of the additions: a result has the same
bits for any number of workers, none included.

What is larger than memory comes as a memory-mapped array, of which one part after the other is read, or as an
iterable of batches, to `mean_over_batches`.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from itertools import islice
from typing import Any

import numpy as np

ROWS_PER_PART = 512
PARTS_PER_TASK = 8
_TASKS_IN_FLIGHT = 32

# glibc hands freed memory back to the system at once, and touching it again costs as much as the arithmetic, until a
# block of up to 32 MiB has been freed: from then on it keeps twice that much.  This block is never touched.
np.empty(31 * 2**20, np.uint8)


def row_parts(rows: int, length: int = ROWS_PER_PART) -> list[slice]:
    """Return the consecutive parts of so many rows, the last one shorter.

    Parameters
    ----------
    rows : int
        B.
    length : int
        Rows per part.

    Returns
    -------
    list of slice

    Examples
    --------
    >>> row_parts(1100)
    [slice(0, 512, None), slice(512, 1024, None), slice(1024, 1536, None)]
    """
    return [slice(start, start + length) for start in range(0, rows, length)]


def sum_over_parts(
    term: Callable[..., Any],
    parts: Iterable[tuple[Any, ...]],
    executor: Executor | None = None,
    *,
    parts_per_task: int = PARTS_PER_TASK,
) -> Any:
    """Return the sum of a term over parts of the rows.

    ::

        Σ_i term(*parts_i)

    Parameters
    ----------
    term : callable
        The sum over the rows of one part: an array or a number.  With processes, a function of a module.
    parts : iterable of tuples
        The arguments of the term, made one after the other, so that not all need to be in memory.
    executor : concurrent.futures.Executor, optional
        Who computes; in turn and in this thread unless given.  Threads, processes, ``dask.distributed``'s and
        ``mpi4py.futures``' all do.
    parts_per_task : int
        How many parts are sent away together.

    Returns
    -------
    array or scalar
        Added in the order of the parts, whoever computed them.

    Raises
    ------
    ValueError
        If there are no parts, or ``executor`` is none.
    Exception
        Whatever the term raised, or the executor when a worker died: never a sum of what was left.

    Examples
    --------
    >>> import numpy as np
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> x = np.arange(2000.0)
    >>> with ThreadPoolExecutor(2) as executor:
    ...     sum_over_parts(np.sum, ((x[rows],) for rows in row_parts(len(x))), executor)
    np.float64(1999000.0)
    """
    return _ordered_sum(_in_order(_sum_of_task, ((term, task) for task in _batched(parts, parts_per_task)), executor))


def mean_over_batches(
    function: Callable[[Any], Any], batches: Iterable[Any], *, executor: Executor | None = None
) -> Any:
    """Return the mean over all rows of a function that is a mean over rows, from batches of them.

    ::

        E f = Σ_i (B_i/B) f(batch_i)          B = Σ_i B_i

    Gradients, mean KL, Fisher matrices and their products are such functions; the batches may come from a file, one
    after the other.

    Parameters
    ----------
    function : callable (batch) -> array or scalar
        A mean over the rows of a batch with weights 1/B_i.  With processes, a function of a module or a partial one.
    batches : iterable
        Arrays, whose rows are counted, or tuples such as `refpg.policy.Batch`, the rows of whose first array are.
    executor : concurrent.futures.Executor, optional
        Who computes; in turn and in this thread unless given.

    Returns
    -------
    array or scalar
        The same bits for any executor; it depends on how the rows are cut into batches by rounding alone.

    Raises
    ------
    ValueError
        If there are no batches, one has no rows, or ``executor`` is none.

    Notes
    -----
    Convention: a mean of means is right only with the weights B_i/B; a last batch that is shorter counts for less.

    Examples
    --------
    Three rows, then one:

    >>> import numpy as np
    >>> mean_over_batches(np.mean, iter([np.array([1.0, 2.0, 3.0]), np.array([10.0])]))
    np.float64(4.0)
    """
    counted = ((_count_rows(batch), batch) for batch in batches)
    total = total_rows = 0
    for rows, value in _in_order(_weighted, ((function, *pair) for pair in counted), executor):
        total = total + value
        total_rows += rows
    if not total_rows:
        raise ValueError("mean_over_batches: batches is empty, expected one or more")
    return total / total_rows


def _count_rows(batch: Any) -> int:
    rows = len(batch[0]) if isinstance(batch, tuple) else len(batch)
    if rows == 0:
        raise ValueError("mean_over_batches: a batch has no rows, expected one or more")
    return rows


def _weighted(function: Callable[[Any], Any], rows: int, batch: Any) -> tuple[int, Any]:
    return rows, rows * function(batch)


@np.errstate(all="ignore")
def _sum_of_task(term: Callable[..., Any], task: list[tuple[Any, ...]]) -> Any:
    """Return the sum of a term over the parts of one task; doors judge overflow by its result."""
    return _ordered_sum(term(*part) for part in task)


def _ordered_sum(values: Iterable[Any]) -> Any:
    """Return ((first + second) + third) + …; in place from the third on, when the sum is nobody else's array."""
    values = iter(values)
    try:
        total = next(values)
    except StopIteration:
        raise ValueError("sum_over_parts: parts is empty, expected one or more") from None
    for value in islice(values, 1):
        total = total + value
    for value in values:
        total += value
    return total


def _batched(items: Iterable[Any], length: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(islice(iterator, length)):
        yield batch


def _in_order(
    function: Callable[..., Any], calls: Iterable[tuple[Any, ...]], executor: Executor | None
) -> Iterator[Any]:
    """Yield the result of each call in the order of the calls, with a bounded number of them under way."""
    if executor is None:
        yield from (function(*call) for call in calls)
        return
    if not callable(getattr(executor, "submit", None)):
        raise ValueError(f"executor is {executor!r}, expected a concurrent.futures.Executor")
    waiting: deque[Future[Any]] = deque()
    try:
        for call in calls:
            waiting.append(executor.submit(function, *call))
            if len(waiting) == _TASKS_IN_FLIGHT:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
