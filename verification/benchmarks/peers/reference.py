"""refpg itself."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np

import refpg
from refpg import geometry, policy, updates
from refpg.solvers import conjugate_gradient
from verification.benchmarks.peers import Call
from verification.benchmarks.problems import CLIP, DAMPING, ITERATIONS, MAX_KL, Problem


def version() -> str:
    """Return the version."""
    return f"{refpg.__version__}, NumPy {np.__version__}"


@cache
def executor() -> ThreadPoolExecutor | None:
    """Return as many threads as the others are given; none for one."""
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    return ThreadPoolExecutor(threads) if threads > 1 else None


def _forward(problem: Problem) -> Call:
    x = problem.batch.observations
    return Call(lambda: policy.distribution_parameters(problem.policy, problem.theta, x), np.asarray)


def _gradient(problem: Problem) -> Call:
    workers = executor()
    return Call(
        lambda: updates.surrogate_gradient(problem.policy, problem.theta, problem.batch, executor=workers), np.asarray
    )


def _fisher_product(problem: Problem) -> Call:
    F = geometry.fisher_operator(
        problem.policy, problem.theta, problem.batch.observations, damping=DAMPING, executor=executor()
    )
    return Call(lambda: F.matvec(problem.v), np.asarray)


def _conjugate_gradient(problem: Problem) -> Call:
    workers = executor()

    def run() -> np.ndarray:
        F = geometry.fisher_operator(
            problem.policy, problem.theta, problem.batch.observations, damping=DAMPING, executor=workers
        )
        return conjugate_gradient(F.matvec, problem.v, iterations=ITERATIONS).x

    return Call(run, np.asarray)


def _trpo_update(problem: Problem) -> Call:
    workers = executor()

    def run() -> np.ndarray:
        return updates.trpo_step(
            problem.policy,
            problem.theta,
            problem.batch,
            max_kl=MAX_KL,
            damping=DAMPING,
            iterations=ITERATIONS,
            executor=workers,
        )[0]

    return Call(run, lambda theta: theta - problem.theta)


def _mean_kl(problem: Problem) -> Call:
    x = problem.batch.observations
    return Call(lambda: geometry.mean_kl(problem.policy, problem.theta, problem.near, x), np.asarray)


def _clipped_loss(problem: Problem) -> Call:
    return Call(
        lambda: updates.ppo_objective(problem.policy, problem.theta, problem.batch, clip=CLIP),
        lambda loss: np.append(loss.gradient, loss.clipped_objective),
    )


def _fisher_matrix(problem: Problem) -> Call:
    x, workers = problem.batch.observations, executor()
    return Call(lambda: geometry.fisher_matrix(problem.policy, problem.theta, x, executor=workers), np.asarray)


def _natural_gradient(problem: Problem) -> Call:
    x, workers = problem.batch.observations, executor()

    def run() -> updates.NaturalGradient:
        return updates.natural_gradient(
            problem.policy, problem.theta, x, problem.v, damping=DAMPING, method="direct", executor=workers
        )

    return Call(run, lambda answer: answer.direction)


calls = {
    "forward": _forward,
    "gradient": _gradient,
    "fisher_product": _fisher_product,
    "conjugate_gradient": _conjugate_gradient,
    "trpo_update": _trpo_update,
    "mean_kl": _mean_kl,
    "clipped_loss": _clipped_loss,
    "fisher_matrix": _fisher_matrix,
    "natural_gradient": _natural_gradient,
}
