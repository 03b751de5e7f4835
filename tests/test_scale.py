"""Clusters: a real Dask cluster and a real MPI pool give the bits of no executor, and a worker that dies no wrong sum.

Both come with the extra ``test``.  Without it they are skipped, except in continuous integration, where they fail.
"""

import importlib.util
import logging
import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from refpg import geometry, rows, updates
from refpg.policy import Batch, gaussian_policy, log_prob, log_prob_vjp, sample

ROWS = 3 * rows.ROWS_PER_PART * rows.PARTS_PER_TASK + 5
POLICY = gaussian_policy((3, 5, 2))
# Several times what all of this file takes on a busy machine: a cluster that hangs must not hang the suite.
PATIENCE = 300


def samples():
    """Inputs for everything that is a sum over rows: θ, a θ close by, v and a batch."""
    generator = np.random.default_rng(20261123)
    theta, step, v = 0.3 * generator.normal(size=(3, POLICY.network.num_parameters))
    x = generator.normal(size=(ROWS, 3))
    return theta, theta + 0.1 * step, v, Batch(x, sample(POLICY, theta, x, generator), generator.normal(size=ROWS))


def quantities(executor):
    """Everything that is a sum over rows, by an executor; F by parts large enough that there are several."""
    theta, near, v, batch = samples()
    x = batch.observations
    F_parts = POLICY.parts(x, np.full(ROWS, 1 / ROWS))
    return [
        geometry.mean_kl(POLICY, theta, near, x, executor=executor),
        geometry.mean_kl_gradient(POLICY, theta, near, x, executor=executor),
        geometry.mean_kl_hessian_vector_product(POLICY, theta, near, x, v, executor=executor),
        geometry.fisher_vector_product(POLICY, theta, x, v, executor=executor),
        geometry.fisher_operator(POLICY, theta, x, executor=executor) @ v,
        geometry.fisher_matrix(POLICY, theta, x, executor=executor),
        rows.sum_over_parts(partial(geometry._folded_fisher, theta), F_parts, executor),
        log_prob_vjp(POLICY, theta, x, batch.actions, batch.advantages, executor=executor),
        updates.surrogate_gradient(POLICY, theta, batch, executor=executor),
        updates.trpo_step(POLICY, theta, batch, max_kl=0.01, damping=0.1, iterations=3, executor=executor)[0],
        _ppo_gradient(theta, near, batch, executor),
        rows.mean_over_batches(
            partial(updates.surrogate_gradient, POLICY, theta),
            (Batch(*(field[part] for field in batch[:3])) for part in rows.row_parts(ROWS, 1000)),
            executor=executor,
        ),
    ]


def _ppo_gradient(theta, near, batch, executor):
    old = log_prob(POLICY, near, batch.observations, batch.actions)
    return updates.ppo_objective(
        POLICY, theta, batch._replace(old_log_prob=old), clip=0.2, entropy_coefficient=0.1, executor=executor
    ).gradient


def assert_the_bits_of_no_executor(executor):
    for found, expected in zip(quantities(executor), quantities(None), strict=True):
        np.testing.assert_array_equal(found, expected)


def needs(package):
    """Skip a test where a package is missing; in continuous integration, where none may be, fail it."""
    missing = importlib.util.find_spec(package) is None
    if missing and os.environ.get("CI"):
        pytest.fail(f"{package} is not installed: pip install 'refpg[test]'", pytrace=False)
    return pytest.mark.skipif(missing, reason=f"{package} is not installed: pip install 'refpg[test]'")


# What a worker does that is killed in the middle


def _killed_once(marker, theta, policy, x, w):
    """Return the sum of a part, unless nobody was killed yet: then die, as a worker whose machine is switched off."""
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return geometry._mean_kl(theta, 2 * theta, "old_new", policy, x, w)
    os._exit(7)


def _killed_always(policy, x):
    os._exit(7)


def killed_once(marker):
    """The sum to be had although a worker dies, and its parts."""
    theta, _, _, batch = samples()
    x = batch.observations
    return partial(_killed_once, str(marker), theta), POLICY.parts(x, np.full(ROWS, 1 / ROWS))


def test_spawned_processes_change_no_bit():
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        assert_the_bits_of_no_executor(executor)


def test_a_process_that_is_killed_is_an_error_and_no_sum(tmp_path):
    """One worker of two dies once: the pool says so, whatever the other one has added by then."""
    with ProcessPoolExecutor(2) as executor:
        term, parts = killed_once(tmp_path / "killed")
        with pytest.raises(BrokenExecutor):
            rows.sum_over_parts(term, parts, executor)
    assert (tmp_path / "killed").exists()


# Dask


@pytest.fixture(scope="module")
def dask():
    """A cluster of two worker processes, and its client; a task may lose three workers before it is given up."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=logging.CRITICAL
        ) as cluster,
        distributed.Client(cluster, timeout=PATIENCE) as client,
    ):
        client.wait_for_workers(2, timeout=PATIENCE)
        yield client


@needs("distributed")
def test_dask_changes_no_bit(dask):
    assert len({*dask.run(os.getpid).values(), os.getpid()}) == 3, "two worker processes and this one"
    assert_the_bits_of_no_executor(dask.get_executor(pure=False))


@needs("distributed")
def test_a_dask_worker_that_is_killed_changes_no_bit(dask, tmp_path):
    """The scheduler gives its task to another worker; the sum is that of all rows, in their order."""
    term, parts = killed_once(tmp_path / "killed")
    found = rows.sum_over_parts(term, parts, dask.get_executor(pure=False))
    assert (tmp_path / "killed").exists()
    theta, _, _, batch = samples()
    assert found == geometry.mean_kl(POLICY, theta, 2 * theta, batch.observations)


@needs("distributed")
def test_a_term_that_kills_every_dask_worker_is_an_error_and_no_sum(dask):
    x = np.ones((10, 3))
    with pytest.raises(Exception, match="_sum_of_task") as caught:
        rows.sum_over_parts(_killed_always, POLICY.parts(x), dask.get_executor(pure=False))
    assert type(caught.value).__name__ == "KilledWorker"


# MPI


@needs("mpi4py")
def test_mpi_changes_no_bit():
    """A program of its own, since MPI ends the process it is in: it starts two workers and compares every bit."""
    program = (
        "from mpi4py.futures import MPIPoolExecutor\n"
        "from test_scale import assert_the_bits_of_no_executor\n"
        "if __name__ == '__main__':\n"
        "    with MPIPoolExecutor(2) as executor:\n"
        "        assert executor.num_workers == 2\n"
        "        assert_the_bits_of_no_executor(executor)\n"
        "    print('the same bits')\n"
    )
    places = [str(Path(sys.executable).parent), os.environ["PATH"]]  # the wheel's mpiexec is beside Python
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PATH": os.pathsep.join(places), "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert ended.stdout == "the same bits\n", ended.stdout + ended.stderr
