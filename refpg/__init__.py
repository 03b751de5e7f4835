"""refpg: the mathematics of natural policy gradient, TRPO and PPO, in the order of the argument.

    notation          symbol ↔ name ↔ shape; the one validator of arguments
    rows              sums over rows: fixed parts in a fixed order, by any executor; batches larger than memory
    mdp               finite MDPs, exact: V, Q, A, visitation, η, performance difference, policy gradient
    distributions     what φ means: log π, entropy, KL, score, Fisher matrix of φ, per family
    linear_quadratic  linear systems with quadratic cost and Gaussian policies: the continuous twin of mdp, exact
    network           θ, x → φ: a multilayer perceptron, its derivatives by hand
    policy            π_θ(a|s) = family ∘ network: log-probability, its gradient, sampling
    geometry          mean KL, its gradient and Hessian; the Fisher matrix in all its forms
    surrogate         ratio, L, clipped and KL-penalised objectives, value and entropy terms
    bounds            total variation, KL of tables; the lower bounds of η, the article's M among them
    estimation        from samples: returns, GAE, normalisation, importance sampling, KL; their exact bias and variance
    sequences         the tokens of padded sequences: aggregation, clipped objectives, penalties, rewards, groups
    solvers           conjugate gradients beside direct, dual and minimum-norm forms; line search
    updates           a new policy: natural gradient, TRPO, PPO, duality of trust region and penalty, the exact MM step
    rollout           trajectories of MDPs, linear–quadratic problems and Gymnasium environments, and their batches
    files             writing a file whole or not at all, and reading JSON and no more
    interop           weights of other libraries' networks, and files of arrays, as θ and back
    training          the loops: minorize–maximize, NPG, TRPO, PPO, exact and from samples; runs kept in files
    plots             the article's figures from exact numbers, drawn by matplotlib
    conformance       the judge: vectors, adapters, verdicts, diagnosis

Each chapter imports only chapters above it.  They load on first use::

    import refpg
    refpg.geometry.fisher_matrix(...)
"""

import importlib
from typing import Any

__version__ = "2026.1.0"

CHAPTERS = (
    "notation",
    "rows",
    "mdp",
    "distributions",
    "linear_quadratic",
    "network",
    "policy",
    "geometry",
    "surrogate",
    "bounds",
    "estimation",
    "sequences",
    "solvers",
    "updates",
    "rollout",
    "files",
    "interop",
    "training",
    "plots",
    "conformance",
)


def __getattr__(name: str) -> Any:
    if name in CHAPTERS:
        return importlib.import_module(f"refpg.{name}")
    raise AttributeError(f"module 'refpg' has no attribute {name!r}; its chapters are {', '.join(CHAPTERS)}")


def __dir__() -> list[str]:
    return sorted([*globals(), *CHAPTERS])
