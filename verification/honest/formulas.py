"""Other formulas for the same operations: each class replaces the pieces that its idea concerns, and inherits the rest.

A formula belongs here if a practitioner could defend it, also in float32.  One that loses digits nobody would accept,
such as log(1 − tanh²) of a saturated action, does not.
"""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import linalg, signal, special, stats
from scipy.integrate import quad
from scipy.sparse.linalg import LinearOperator, cg

from verification.honest.distributions import LOG_2_PI, Inputs, choices, diagonal, factors, one_hot, taken
from verification.honest.networks import moved
from verification.honest.ordinary import Ordinary
from verification.honest.parameters import flatten, unflatten

Array = Any


class SciPy(Ordinary):
    """What SciPy has a function for: log_softmax, entr, rel_entr, expit, norm, quad, lfilter, cg, cho_solve, pinvh."""

    def log_softmax(self, logits: Array) -> Array:
        """By `scipy.special.log_softmax`."""
        return special.log_softmax(logits, axis=1)

    def softmax(self, logits: Array) -> Array:
        """By `scipy.special.softmax`."""
        return special.softmax(logits, axis=1)

    def entropy_of_logits(self, logits: Array) -> Array:
        """Σ entr(p)."""
        return self.total(special.entr(self.softmax(logits)))

    def kl_of_logits(self, old: Array, new: Array) -> Array:
        """Σ rel_entr(p, q)."""
        return self.total(special.rel_entr(self.softmax(old), self.softmax(new)))

    def log_sigmoid(self, logits: Array) -> Array:
        """By `scipy.special.log_expit`."""
        return special.log_expit(logits)

    def sigmoid(self, logits: Array) -> Array:
        """By `scipy.special.expit`."""
        return special.expit(logits)

    def bernoulli_kl(self, inputs: Inputs) -> Array:
        """Both sides by rel_entr."""
        old, new = inputs["old_logits"], inputs["new_logits"]
        rows = special.rel_entr(self.sigmoid(old), self.sigmoid(new))
        return self.total(rows + special.rel_entr(self.sigmoid(-old), self.sigmoid(-new)))

    def log_density(self, u: Array, mean: Array, log_std: Array) -> Array:
        """By `scipy.stats.norm`."""
        return stats.norm.logpdf(u, mean, np.exp(log_std)).astype(u.dtype)

    def gaussian_entropy(self, inputs: Inputs) -> Array:
        """By `scipy.stats.norm`."""
        std = np.exp(inputs["log_std"])
        return self.total(stats.norm.entropy(scale=std).astype(std.dtype))

    def squashed_entropy(self, inputs: Inputs) -> Array:
        """The expectation of log(1 − tanh²) by `scipy.integrate.quad`."""

        def correction(mean: float, std: float) -> float:
            def weighed(t: float) -> float:
                return float(np.exp(-t * t / 2) * self.log_slope_of_tanh(mean + std * t))

            pieces = np.linspace(-12, 12, 7)
            parts = [quad(weighed, *ends, epsabs=1e-15, epsrel=1e-13)[0] for ends in itertools.pairwise(pieces)]
            return sum(parts) / float(np.sqrt(2 * np.pi))

        added = np.vectorize(correction, otypes=[np.float64])(inputs["mean"], np.exp(inputs["log_std"]))
        return self.gaussian_entropy(inputs) + self.total(added.astype(inputs["mean"].dtype))

    def decayed(self, terms: Array, carried: Array) -> Array:
        """Return the sums by `scipy.signal.lfilter`, run backward over each stretch with one factor."""
        sums = np.empty_like(terms)
        for column in range(terms.shape[1]):
            ends = [*np.flatnonzero(carried[:, column] == 0).tolist(), len(terms) - 1]
            start = 0
            for end in dict.fromkeys(ends):
                stretch = terms[start : end + 1, column][::-1]
                factor = carried[start, column]
                sums[start : end + 1, column] = signal.lfilter(
                    np.ones(1, terms.dtype), np.array([1, -factor], terms.dtype), stretch
                )[::-1]
                start = end + 1
        return sums

    def deviation(self, a: Array, ddof: int) -> Array:
        """By `scipy.stats.tstd`'s formula in NumPy: `numpy.std`."""
        return np.std(a, ddof=ddof)

    def cg(self, product: Callable[[Array], Array], b: Array, iterations: int) -> Array:
        """By `scipy.sparse.linalg.cg`, with no tolerance of its own to stop it early."""
        operator = LinearOperator((len(b), len(b)), matvec=product, dtype=b.dtype)
        x, made = np.zeros_like(b), 0
        if self.conventions["conjugate_gradient.stop"] == "never":
            made = iterations
            x = cg(operator, b, rtol=0.0, atol=0.0, maxiter=iterations)[0]
        while made < iterations:
            r = b - product(x)
            if self.stops(made, self.dot(r, r)):
                break
            made += 1
            x = cg(operator, b, rtol=0.0, atol=0.0, maxiter=made)[0]
        return x

    def solved(self, policy: Inputs, x: Array, g: Array, damping: float) -> Array:
        """By `scipy.linalg.cho_solve`."""
        F = self.fisher(policy, x)
        return linalg.cho_solve(linalg.cho_factor(F + damping * np.eye(len(F), dtype=F.dtype)), g)

    def minimum_norm(self, policy: Inputs, x: Array, g: Array) -> tuple[Array, int]:
        """By the pseudo-inverse of the rows, twice."""
        inverse, rank = linalg.pinv(self.fisher_rows(policy, x), return_rank=True)
        return self.product(inverse, self.product(inverse.T, g)), int(rank)

    def state_values(self, transition: Array, reward: Array, gamma: float, pi: Array) -> Array:
        """By `scipy.linalg.lu_solve`."""
        return linalg.lu_solve(linalg.lu_factor(self.decay(transition, gamma, pi)), self.total(pi * reward))

    def visits(self, transition: Array, start: Array, gamma: float, pi: Array) -> Array:
        """By the factors of the values, transposed."""
        return linalg.lu_solve(linalg.lu_factor(self.decay(transition, gamma, pi)), start, trans=1)

    def kl_of_probabilities(self, p: Array, q: Array) -> Array:
        """Σ rel_entr(p, q)."""
        return self.total(special.rel_entr(p, q))


class Libraries(Ordinary):
    """As the libraries do: logits normalised when the distribution is made, variances, quotients of probabilities."""

    def log_softmax(self, logits: Array) -> Array:
        """Return logits minus their logsumexp, formed from the logits themselves."""
        largest = np.max(logits, axis=1, keepdims=True)
        return logits - (largest + np.log(self.total(np.exp(logits - largest)))[:, None])

    def softmax(self, logits: Array) -> Array:
        """Return exp(log p), not divided again."""
        return np.exp(self.log_softmax(logits))

    def kl_of_logits(self, old: Array, new: Array) -> Array:
        """Cross entropy minus entropy."""
        p = self.softmax(old)
        return self.expected(p, self.log_softmax(old)) - self.expected(p, self.log_softmax(new))

    def log_density(self, u: Array, mean: Array, log_std: Array) -> Array:
        """−(u − μ)²/2σ² − log σ − log √2π, the variance squared from σ."""
        std = np.exp(log_std)
        return -((u - mean) ** 2) / (2 * std**2) - np.log(std) - float(np.log(np.sqrt(2 * np.pi)))

    def gaussian_entropy(self, inputs: Inputs) -> Array:
        """½ + ½ log 2π + log σ, σ from the exponential."""
        return self.total(0.5 + 0.5 * LOG_2_PI + np.log(np.exp(inputs["log_std"])))

    def normal_kl(self, old_mean: Array, old_log_std: Array, new_mean: Array, new_log_std: Array) -> Array:
        """½ (ratio of variances + squared distance − 1 − log ratio)."""
        spread = (np.exp(old_log_std) / np.exp(new_log_std)) ** 2
        distance = ((old_mean - new_mean) / np.exp(new_log_std)) ** 2
        return 0.5 * (spread + distance - 1 - np.log(spread))

    def normal_score(self, u: Array, mean: Array, log_std: Array) -> tuple[Array, Array]:
        """By the variance."""
        variance = np.exp(log_std) ** 2
        return (u - mean) / variance, (u - mean) ** 2 / variance - 1

    def log_slope_of_tanh(self, u: Array) -> Array:
        """2 (log 2 − u − softplus(−2u)), on either side."""
        return 2 * (float(np.log(2)) - u - np.logaddexp(np.zeros_like(u), -2 * u))

    def sigmoid(self, logits: Array) -> Array:
        """½ (1 + tanh z/2), or e^z/(1 + e^z) where that is small."""
        return np.where(logits > -1, (1 + np.tanh(logits / 2)) / 2, np.exp(logits) / (1 + np.exp(logits)))

    def log_sigmoid(self, logits: Array) -> Array:
        """min(z, 0) − log1p(e^−|z|)."""
        return np.minimum(logits, 0) - np.log1p(np.exp(-np.abs(logits)))

    def bernoulli_log_prob(self, inputs: Inputs) -> Array:
        """Minus the binary cross entropy: z·a − softplus(z)."""
        z, a = inputs["logits"], inputs["actions"].astype(inputs["logits"].dtype)
        return -self.total(np.maximum(z, 0) - z * a + np.log1p(np.exp(-np.abs(z))))

    def ratio(self, old_log_prob: Array, new_log_prob: Array) -> Array:
        """exp(new)/exp(old)."""
        return np.exp(new_log_prob) / np.exp(old_log_prob)

    def gae(
        self,
        rewards: Array,
        values: Array,
        next_values: Array,
        terminated: Array,
        truncated: Array,
        gamma: float,
        gae_lambda: float,
    ) -> Inputs:
        """λ-returns backward, minus the values."""
        ends = terminated | truncated
        targets = np.zeros_like(rewards)
        following = next_values[-1]
        for t in reversed(range(len(rewards))):
            mixed = np.where(ends[t], next_values[t], (1 - gae_lambda) * next_values[t] + gae_lambda * following)
            following = rewards[t] + gamma * np.where(terminated[t], 0 * mixed, mixed)
            targets[t] = following
        advantages = targets - values
        if self.conventions["gae.value_target"] == "reward_to_go":
            targets = self.discounted_returns(rewards, next_values, terminated, truncated, gamma)
        return {"advantages": advantages, "value_targets": targets}

    def adam(
        self, theta: Array, g: Array, m: Array, v: Array, step: int, rate: float, b1: float, b2: float, epsilon: float
    ) -> tuple[Array, Array, Array]:
        """Moments moved towards the gradient; both corrections in the step length."""
        m = m + (1 - b1) * (g - m)
        v = v + (1 - b2) * (g * g - v)
        root = np.sqrt(v) / float(np.sqrt(1 - b2**step)) + epsilon
        return theta - (rate / (1 - b1**step)) * (m / root), m, v

    def solved(self, policy: Inputs, x: Array, g: Array, damping: float) -> Array:
        """By LU."""
        F = self.fisher(policy, x)
        return np.linalg.solve(F + damping * np.eye(len(F), dtype=F.dtype), g)

    def repeated(self, step: Callable[[Array], Array], first: Array, gamma: float) -> Array:
        """Return the fixed point of x ↦ step(x), iterated until γᵗ is below the roundoff of the result."""
        x = first
        steps = 1 if gamma == 0 else int(np.log(np.finfo(first.dtype).eps * (1 - gamma)) / np.log(gamma)) + 1
        for _ in range(steps):
            x = step(x)
        return x

    def state_values(self, transition: Array, reward: Array, gamma: float, pi: Array) -> Array:
        """V ← r_π + γP_π V."""
        P, r = self.chain(transition, pi), self.total(pi * reward)
        return self.repeated(lambda V: r + gamma * self.product(P, V), r, gamma)

    def visits(self, transition: Array, start: Array, gamma: float, pi: Array) -> Array:
        """ρ ← ρ₀ + γP_πᵀ ρ."""
        P = self.chain(transition, pi).T
        return self.repeated(lambda rho: start + gamma * self.product(P, rho), start, gamma)

    def kl_of_probabilities(self, p: Array, q: Array) -> Array:
        """Σ p log(p/q)."""
        return self.expected(p, np.log(p / q))


class Enumerated(Ordinary):
    """Every expectation over actions as a sum over all of them, jointly where there are several; F = E[ssᵀ]."""

    def joint(self, tables: list[Array]) -> Array:
        """Return Σ tables[i][:, a_i] for every joint action, (B, N)."""
        rows = [
            sum(table[:, a] for table, a in zip(tables, actions, strict=True))
            for actions in itertools.product(*(range(table.shape[1]) for table in tables))
        ]
        return np.stack(rows, axis=1)

    def joint_log_prob(self, inputs: Inputs, name: str) -> Array:
        """Return log p of every joint action."""
        return self.joint([self.log_softmax(z) for z in factors(inputs, name)])

    def categorical_entropy(self, inputs: Inputs) -> Array:
        """E[−log p]."""
        log_p = self.joint_log_prob(inputs, "logits")
        return self.expected(np.exp(log_p), -log_p)

    def categorical_kl(self, inputs: Inputs) -> Array:
        """E[log p − log q]."""
        log_p, log_q = self.joint_log_prob(inputs, "old_logits"), self.joint_log_prob(inputs, "new_logits")
        return self.expected(np.exp(log_p), log_p - log_q)

    def categorical_fisher(self, inputs: Inputs) -> Array:
        """E[ssᵀ]."""
        parts = factors(inputs, "logits")
        fisher = np.zeros((*inputs["logits"].shape, inputs["logits"].shape[1]), inputs["logits"].dtype)
        for actions in itertools.product(*(range(z.shape[1]) for z in parts)):
            chosen = [np.full(len(z), a) for z, a in zip(parts, actions, strict=True)]
            pairs = list(zip(parts, chosen, strict=True))
            log_p = sum(taken(self.log_softmax(z), a) for z, a in pairs)
            s = np.concatenate([one_hot(a, z) - self.softmax(z) for z, a in pairs], axis=1)
            fisher += np.exp(log_p)[:, None, None] * s[:, :, None] * s[:, None, :]
        return fisher

    def fisher_of_logits(self, logits: Array) -> Array:
        """E[ssᵀ]."""
        return self.categorical_fisher({"logits": logits})

    def coins(self, inputs: Inputs, name: str) -> Inputs:
        """Return the coins as factors of two actions with the logits 0 and z."""
        z = inputs[name]
        pairs = np.stack([np.zeros_like(z), z], axis=2).reshape(len(z), -1)
        return {"action_sizes": np.full(z.shape[1], 2), name: pairs}

    def bernoulli_log_prob(self, inputs: Inputs) -> Array:
        """Coins as categorical factors."""
        return self.categorical_log_prob(self.coins(inputs, "logits") | {"actions": inputs["actions"]})

    def bernoulli_entropy(self, inputs: Inputs) -> Array:
        """All tuples of coins."""
        return self.categorical_entropy(self.coins(inputs, "logits"))

    def bernoulli_kl(self, inputs: Inputs) -> Array:
        """All tuples of coins."""
        return self.categorical_kl(self.coins(inputs, "old_logits") | self.coins(inputs, "new_logits"))

    def bernoulli_fisher(self, inputs: Inputs) -> Array:
        """The block of the logits z of all coins."""
        return self.categorical_fisher(self.coins(inputs, "logits"))[:, 1::2, 1::2]

    def fisher(self, policy: Inputs, x: Array) -> Array:
        """E[ssᵀ] over actions; of a Gaussian over 2A actions at μ ± √3 σ and one at μ, whose moments are the same."""
        J, outputs = self.jacobian(policy, x), self.forward(policy, x)
        total = np.zeros((J.shape[2],) * 2, J.dtype)
        for weights, actions in self.actions_of(policy, outputs):
            phi = self.scores(policy, x, actions)
            s = np.stack([self.product(j.T, row) for j, row in zip(J, phi, strict=True)])
            total = total + self.product((weights[:, None] * s).T, s)
        return total / len(x)

    def actions_of(self, policy: Inputs, outputs: Array) -> list[tuple[Array, Array]]:
        """Return weights and actions with the E[ssᵀ] of the distribution: all of them, or Hermite's three points."""
        rows, width = outputs.shape
        if policy["distribution"] == "categorical":
            p = self.softmax(outputs)
            return [(p[:, a], np.full(rows, a)) for a in range(width)]
        root = float(np.sqrt(3))
        points = ((-root, 1 / 6), (0.0, 2 / 3), (root, 1 / 6))
        nodes = itertools.product(points, repeat=width)
        std = np.exp(policy["log_std"])
        return [
            (
                np.full(rows, np.prod([weight for _, weight in node]), outputs.dtype),
                outputs + std * np.array([t for t, _ in node], outputs.dtype),
            )
            for node in nodes
        ]

    def fisher_product(self, policy: Inputs, x: Array) -> Callable[[Array], Array]:
        """The matrix times the vector."""
        F = self.fisher(policy, x)
        return lambda v: self.product(F, v)

    def decayed(self, terms: Array, carried: Array) -> Array:
        """Return Σ_l (Π carried) terms_{t+l}, every sum from its beginning."""
        sums = np.zeros_like(terms)
        for t in range(len(terms)):
            weights = np.cumprod(np.concatenate([np.ones_like(terms[:1]), carried[t:-1]]), axis=0)
            sums[t] = self.total(weights * terms[t:], 0)
        return sums

    def solved(self, policy: Inputs, x: Array, g: Array, damping: float) -> Array:
        """By eigenvalues."""
        values, vectors = np.linalg.eigh(self.fisher(policy, x))
        return self.product(vectors, self.product(vectors.T, g) / (values + damping))

    def pairs(self, transition: Array, gamma: float, pi: Array) -> Array:
        """Return I − γM, M((s,a), (t,b)) = P(t|s,a) π(b|t)."""
        M = (transition[:, :, :, None] * pi).reshape(pi.size, pi.size)
        return np.eye(pi.size, dtype=pi.dtype) - gamma * M

    def state_values(self, transition: Array, reward: Array, gamma: float, pi: Array) -> Array:
        """From the values of all pairs of state and action."""
        Q = np.linalg.solve(self.pairs(transition, gamma, pi), np.ravel(reward))
        return self.total(pi * Q.reshape(pi.shape))

    def visits(self, transition: Array, start: Array, gamma: float, pi: Array) -> Array:
        """From the visits of all pairs of state and action."""
        mu = np.linalg.solve(self.pairs(transition, gamma, pi).T, np.ravel(start[:, None] * pi))
        return self.total(mu.reshape(pi.shape))

    def distances(self, old: Array, new: Array) -> Array:
        """The largest difference in the probability of any set of actions."""
        sets = itertools.product((False, True), repeat=old.shape[1])
        return np.max([np.abs(self.total((new - old) * np.array(chosen))) for chosen in sets], axis=0)


class Matrices(Ordinary):
    """Linear algebra in place of loops: GAE as a triangular system, dense normal densities, forward-mode Jacobian."""

    def decayed(self, terms: Array, carried: Array) -> Array:
        """Solve y − C y₊ = terms for every column."""
        size = len(terms)
        columns = []
        for term, factor in zip(terms.T, carried.T, strict=True):
            matrix = np.eye(size, dtype=terms.dtype) - np.diag(factor[:-1], 1)
            columns.append(linalg.solve_triangular(matrix, term))
        return np.stack(columns, axis=1)

    def log_density(self, u: Array, mean: Array, log_std: Array) -> Array:
        """By the precision: ½ log(τ/2π) − ½ τ (u − μ)²."""
        precision = np.exp(-2 * log_std)
        return 0.5 * np.log(precision / float(2 * np.pi)) - 0.5 * precision * (u - mean) ** 2

    def gaussian_entropy(self, inputs: Inputs) -> Array:
        """½ log det 2πeΣ."""
        covariance = diagonal(float(2 * np.pi * np.e) * np.exp(2 * inputs["log_std"]))
        return 0.5 * np.linalg.slogdet(covariance)[1]

    def gaussian_kl(self, inputs: Inputs) -> Array:
        """½ (tr Σ₁⁻¹Σ₀ + ΔᵀΣ₁⁻¹Δ − A + log det Σ₁ − log det Σ₀)."""
        old, new = (diagonal(np.exp(2 * inputs[f"{age}_log_std"])) for age in ("old", "new"))
        shift = inputs["new_mean"] - inputs["old_mean"]
        trace = np.trace(np.linalg.solve(new, old), axis1=1, axis2=2)
        quadratic = self.total(shift * np.linalg.solve(new, shift[:, :, None])[:, :, 0])
        log_dets = np.linalg.slogdet(new)[1] - np.linalg.slogdet(old)[1]
        return 0.5 * (trace + quadratic - shift.shape[1] + log_dets)

    def gaussian_fisher(self, inputs: Inputs) -> Array:
        """Inverse of the covariance; 2 for every log σ."""
        precision = np.linalg.inv(diagonal(np.exp(inputs["log_std"]) ** 2))
        return np.stack([linalg.block_diag(one, 2 * np.eye(len(one), dtype=one.dtype)) for one in precision])

    def fisher_of_logits(self, logits: Array) -> Array:
        """(I − 1pᵀ)ᵀ diag(p) (I − 1pᵀ)."""
        p = self.softmax(logits)
        centred = np.eye(p.shape[1], dtype=p.dtype) - p[:, None, :]
        return np.einsum("bki,bk,bkj->bij", centred, p, centred)

    def jacobian(self, policy: Inputs, x: Array) -> Array:
        """One pass forward per parameter."""
        units = np.eye(len(flatten(policy)), dtype=x.dtype)
        return np.stack([self.pushed_forward(policy, x, unflatten(policy, unit)) for unit in units], axis=2)

    def pulled_back(self, policy: Inputs, x: Array, phi_bar: Array) -> Array:
        """Jᵀ times all entries of φ of all rows."""
        J = self.jacobian(policy, x)
        return self.product(J.reshape(-1, J.shape[2]).T, np.ravel(phi_bar))

    def fisher(self, policy: Inputs, x: Array) -> Array:
        """GᵀG."""
        G = self.fisher_rows(policy, x)
        return self.product(G.T, G)

    def fisher_product(self, policy: Inputs, x: Array) -> Callable[[Array], Array]:
        """Gᵀ(G v)."""
        G = self.fisher_rows(policy, x)
        return lambda v: self.product(G.T, self.product(G, v))

    def minimum_norm(self, policy: Inputs, x: Array, g: Array) -> tuple[Array, int]:
        """By the pseudo-inverse of F itself, its eigenvalues cut at P roundoffs of the largest."""
        F = self.fisher(policy, x)
        rcond = float(len(g) * np.finfo(F.dtype).eps)
        rank = np.linalg.matrix_rank(F, hermitian=True, rtol=rcond)
        return self.product(np.linalg.pinv(F, hermitian=True, rcond=rcond), g), int(rank)

    def visits_between(self, transition: Array, gamma: float, pi: Array) -> Array:
        """Return N = (I − γP_π)⁻¹."""
        return np.linalg.inv(self.decay(transition, gamma, pi))

    def state_values(self, transition: Array, reward: Array, gamma: float, pi: Array) -> Array:
        """N r_π."""
        return self.product(self.visits_between(transition, gamma, pi), self.total(pi * reward))

    def visits(self, transition: Array, start: Array, gamma: float, pi: Array) -> Array:
        """Nᵀ ρ₀."""
        return self.product(self.visits_between(transition, gamma, pi).T, start)

    def softmax_policy_gradient(
        self, transition: Array, reward: Array, start: Array, gamma: float, logits: Array
    ) -> Array:
        """ρ times the Jacobian of the softmax times Q."""
        pi = self.softmax(logits)
        V = self.state_values(transition, reward, gamma, pi)
        Q = self.action_values(transition, reward, gamma, V)
        rho = self.visits(transition, start, gamma, pi)
        return rho[:, None] * self.total(self.fisher_of_logits(logits) * Q[:, None, :])


class Roots(Ordinary):
    """What keeps the digits: expm1 in place of differences, F by its rows, QR and singular values."""

    def excess(self, d: Array) -> Array:
        """expm1(d) − d."""
        return np.expm1(d) - d

    def kl_of_logits(self, old: Array, new: Array) -> Array:
        """log1p(E[expm1(c)]) − E[c], c the change of the logits with its mean under p removed."""
        p, change = self.softmax(old), np.where(np.isfinite(old), new - old, np.zeros_like(old))
        c = change - self.total(p * change)[:, None]
        return np.log1p(self.total(p * np.expm1(c))) - self.total(p * c)

    def bernoulli_kl(self, inputs: Inputs) -> Array:
        """The same of the logits 0 and z."""
        old, new = inputs["old_logits"], inputs["new_logits"]
        flat = [np.stack([np.zeros_like(z), z], axis=2).reshape(-1, 2) for z in (old, new)]
        return self.total(self.kl_of_logits(*flat).reshape(old.shape))

    def normal_kl(self, old_mean: Array, old_log_std: Array, new_mean: Array, new_log_std: Array) -> Array:
        """½ (expm1(c) − c) + ½ (Δμ/σ₁)², c = 2 log σ₀/σ₁."""
        c = 2 * (old_log_std - new_log_std)
        return 0.5 * (np.expm1(c) - c) + 0.5 * ((old_mean - new_mean) * np.exp(-new_log_std)) ** 2

    def normal_score(self, u: Array, mean: Array, log_std: Array) -> tuple[Array, Array]:
        """(z − 1)(z + 1) for z² − 1."""
        z = (u - mean) * np.exp(-log_std)
        return z * np.exp(-log_std), (z - 1) * (z + 1)

    def log_slope_of_tanh(self, u: Array) -> Array:
        """−2 log cosh u, by log1p(sinh²)."""
        return -np.log1p(np.sinh(u) ** 2)

    def fisher(self, policy: Inputs, x: Array) -> Array:
        """GᵀG."""
        G = self.fisher_rows(policy, x)
        return self.product(G.T, G)

    def solved(self, policy: Inputs, x: Array, g: Array, damping: float) -> Array:
        """R⁻¹R⁻ᵀg, R from the QR factors of the rows of F over those of √λ."""
        G = self.fisher_rows(policy, x)
        root = float(np.sqrt(damping)) * np.eye(len(g), dtype=g.dtype)
        R = np.linalg.qr(np.concatenate([G, root]), mode="r")
        return linalg.solve_triangular(R, linalg.solve_triangular(R.T, g, lower=True))

    def minimum_norm(self, policy: Inputs, x: Array, g: Array) -> tuple[Array, int]:
        """Least squares twice: G y = … by the singular values LAPACK finds."""
        G = self.fisher_rows(policy, x)
        rcond = float(max(G.shape) * np.finfo(G.dtype).eps)
        targets, _, rank, _ = np.linalg.lstsq(G.T, g, rcond=rcond)
        return np.linalg.lstsq(G, targets, rcond=rcond)[0], int(rank)

    def deviation(self, a: Array, ddof: int) -> Array:
        """A norm."""
        return np.linalg.norm(a - self.mean(a)) / np.sqrt(np.array(len(a) - ddof, a.dtype))

    def step_length(self, direction: Array, product: Array, max_kl: float) -> Array:
        """1/√(½ (xᵀHx + ε)/δ)."""
        return 1 / np.sqrt(0.5 * self.curvature(direction, product) / max_kl)

    def state_values(self, transition: Array, reward: Array, gamma: float, pi: Array) -> Array:
        """By QR."""
        Q, R = np.linalg.qr(self.decay(transition, gamma, pi))
        return linalg.solve_triangular(R, self.product(Q.T, self.total(pi * reward)))

    def advantages(self, transition: Array, reward: Array, gamma: float, pi: Array) -> Array:
        """r − (1 − γ)V + γ Σ P (V' − V)."""
        V = self.state_values(transition, reward, gamma, pi)
        return reward - (1 - gamma) * V[:, None] + gamma * self.total(transition * (V - V[:, None])[:, None, :])

    def gains(self, advantages: Array, old: Array, new: Array) -> Array:
        """Σ (π' − π) A."""
        return self.total((new - old) * advantages)

    def kl_of_probabilities(self, p: Array, q: Array) -> Array:
        """Σ p (x − log(1 + x)), x = (q − p)/p, and what q has where p has nothing."""
        taken = p > 0
        x = np.where(taken, (q - p) / np.where(taken, p, np.ones_like(p)), np.zeros_like(p))
        logs = np.where(x < -0.5, np.log(np.where(taken, q, p + 1) / np.where(taken, p, p + 1)), np.log1p(x))
        return self.total(np.where(taken, p * (x - logs), q))


class Dual(Ordinary):
    """In the space of rows: push-through, b − Ax recomputed, expectations before differences."""

    def solved(self, policy: Inputs, x: Array, g: Array, damping: float) -> Array:
        """(g − Gᵀ(GGᵀ + λ)⁻¹Gg)/λ."""
        G = self.fisher_rows(policy, x)
        gram = self.product(G, G.T) + damping * np.eye(len(G), dtype=G.dtype)
        return (g - self.product(G.T, np.linalg.solve(gram, self.product(G, g)))) / damping

    def cg(self, product: Callable[[Array], Array], b: Array, iterations: int) -> Array:
        """Residuals b − Ax, β = −rᵀAp/pᵀAp."""
        x, r, p = np.zeros_like(b), b.copy(), b.copy()
        for made in range(iterations):
            if self.stops(made, self.dot(r, r)):  # solved, at least: the next step would be 0/0
                break
            Ap = product(p)
            x = x + self.dot(r, p) / self.dot(p, Ap) * p
            r = b - product(x)
            p = r - self.dot(r, Ap) / self.dot(p, Ap) * p
        return x

    def entropy_of_logits(self, logits: Array) -> Array:
        """logsumexp − E[logits]."""
        largest = np.max(logits, axis=1, keepdims=True)
        shifted = logits - largest
        return np.log(self.total(np.exp(shifted))) - self.expected(self.softmax(logits), shifted)

    def kl_of_logits(self, old: Array, new: Array) -> Array:
        """E[old − new] plus the difference of the logsumexps, of logits shifted by their largest."""
        old, new = (z - np.max(z, axis=1, keepdims=True) for z in (old, new))
        gap = np.log(self.total(np.exp(new))) - np.log(self.total(np.exp(old)))
        return self.expected(self.softmax(old), old - new) + gap

    def explained_variance(self, values: Array, targets: Array) -> Array:
        """(var(targets) − var(residual))/var(targets)."""
        whole = self.deviation(targets, 0) ** 2
        return (whole - self.deviation(targets - values, 0) ** 2) / whole

    def mean(self, rows: Array) -> Array:
        """Each row weighed by 1/B before the sum."""
        return self.total(rows * np.array(1 / len(rows), rows.dtype), 0)

    def expected_return(
        self, transition: Array, reward: Array, start: Array, gamma: float, probabilities: Array
    ) -> Array:
        """ρᵀr_π."""
        return self.dot(self.visits(transition, start, gamma, probabilities), self.total(probabilities * reward))

    def performance_difference(
        self,
        transition: Array,
        reward: Array,
        start: Array,
        gamma: float,
        old_probabilities: Array,
        new_probabilities: Array,
    ) -> Array:
        """Σ ρ' Σ π' A."""
        A = self.advantages(transition, reward, gamma, old_probabilities)
        gains = self.gains(A, old_probabilities, new_probabilities)
        return self.dot(self.visits(transition, start, gamma, new_probabilities), gains)

    def distances(self, old: Array, new: Array) -> Array:
        """Σ max(π' − π, 0)."""
        return self.total(np.maximum(new - old, 0))


class ComplexStep(Ordinary):
    """Derivatives as imaginary parts of the value at θ + ih: no difference is taken, and no derivative written."""

    STEP = 2.0**-60  # its square is below the roundoff of either format, and it is above float32's underflow

    def derivative(self, f: Callable[[Array], Array], point: Array) -> Array:
        """Return ∂f/∂point of every entry, the axis of the entries last."""
        complexes = np.complex64 if point.dtype == np.float32 else np.complex128
        units = np.eye(point.size, dtype=complexes).reshape(point.size, *point.shape)
        step = np.array(self.STEP, point.dtype)
        return np.stack([f(point + 1j * step * unit).imag / step for unit in units], axis=-1)

    def log_softmax(self, logits: Array) -> Array:
        """Shifted by the largest real part."""
        shifted = logits - np.max(logits.real, axis=1, keepdims=True)
        return shifted - np.log(self.total(np.exp(shifted)))[:, None]

    def softmax(self, logits: Array) -> Array:
        """Shifted by the largest real part."""
        e = np.exp(logits - np.max(logits.real, axis=1, keepdims=True))
        return e / self.total(e)[:, None]

    def expected(self, p: Array, values: Array) -> Array:
        """Without the actions that have no probability."""
        return self.total(np.where(p.real > 0, p * values, np.zeros_like(p)))

    def per_row(self, f: Callable[[Array], Array], phi: Array) -> Array:
        """Return the gradient of f(φ), one value per row, with respect to the row's own φ."""
        return np.stack([self.derivative(lambda row: f(row[None])[0], row) for row in phi])

    def categorical_score(self, inputs: Inputs) -> Array:
        """∂ log p(a)/∂ logits."""
        parts = zip(factors(inputs, "logits"), choices(inputs), strict=True)
        return np.concatenate([self._score_of_logits(z, a) for z, a in parts], axis=1)

    def _score_of_logits(self, logits: Array, actions: Array) -> Array:
        rows = [
            self.derivative(lambda z, a=a: self.log_softmax(z[None])[0, a], row)
            for row, a in zip(logits, actions, strict=True)
        ]
        return np.stack(rows)

    def gaussian_score(self, inputs: Inputs) -> dict[str, Array]:
        """∂ log N/∂(μ, log σ), entry by entry."""
        complexes = np.complex64 if inputs["mean"].dtype == np.float32 else np.complex128
        h = np.array(self.STEP, inputs["mean"].dtype)
        point = {name: inputs[name].astype(complexes) for name in ("actions", "mean", "log_std")}
        up = {name: point | {name: point[name] + 1j * h} for name in ("mean", "log_std")}
        return {
            name: self.log_density(one["actions"], one["mean"], one["log_std"]).imag / h for name, one in up.items()
        }

    def gradient(self, f: Callable[[Inputs], Array], policy: Inputs) -> Array:
        """Return ∂f/∂θ as one vector."""
        return self.derivative(lambda theta: f(moved(policy, theta)), flatten(policy))

    def clipped_gradient(
        self, policy: Inputs, x: Array, actions: Array, advantages: Array, old_log_prob: Array, clip: float
    ) -> Array:
        """Of the objective itself."""
        return self.gradient(
            lambda pi: self.clipped_objective(old_log_prob, self.log_probs(pi, x, actions), advantages, clip), policy
        )

    def clipped_objective_gradient(
        self, old_log_prob: Array, new_log_prob: Array, advantages: Array, clip: float
    ) -> Array:
        """Of the objective itself."""
        return self.derivative(lambda new: self.clipped_objective(old_log_prob, new, advantages, clip), new_log_prob)

    def gain_gradient(self, new: Array, *batch: Any) -> Array:
        """Of the gain itself."""
        return self.derivative(lambda one: self.gain(one, *batch), new).reshape(new.shape)

    def penalty_gradient(self, new: Array, *batch: Any) -> Array:
        """Of the penalty itself."""
        return self.derivative(lambda one: self.penalty(one, *batch), new).reshape(new.shape)

    def entropy_gradient(self, policy: Inputs, x: Array) -> Array:
        """Of the entropy itself."""
        return self.gradient(lambda pi: self.entropy(pi, x), policy)

    def error_gradient(self, net: Inputs, x: Array, targets: Array) -> Array:
        """Of the error itself."""
        return self.gradient(lambda v: self.mean(self.error(self.forward(v, x)[:, 0] - targets)), net)

    def policy_gradient(self, policy: Inputs, x: Array, actions: Array, weights: Array) -> Array:
        """Of the mean of weights · log π."""
        return self.gradient(lambda pi: self.mean(weights * self.log_probs(pi, x, actions)), policy)

    def surrogate_gradient(
        self, policy: Inputs, observations: Array, actions: Array, advantages: Array, old_log_prob: Array
    ) -> Inputs:
        """Of the surrogate itself."""
        inputs = (observations, actions, advantages, old_log_prob)
        return unflatten(policy, self.gradient(lambda pi: self.surrogate(pi, *inputs), policy))

    def divergence_gradient(self, old: Inputs, new: Inputs, x: Array) -> Array:
        """Of the mean KL itself."""
        return self.gradient(lambda pi: self.divergence(old, pi, x), new)

    def divergence_hessian_product(self, old: Inputs, new: Inputs, x: Array, vector: Inputs) -> Array:
        """Derivative of the gradient along the vector."""
        theta, v = flatten(new), flatten(vector)
        h = np.array(self.STEP, theta.dtype)
        gradient = super().divergence_gradient(old, moved(new, theta + 1j * h * v), x)
        return gradient.imag / h

    def fisher_product(self, policy: Inputs, x: Array) -> Callable[[Array], Array]:
        """The Hessian product of the mean KL at the old policy."""
        return lambda v: self.divergence_hessian_product(policy, policy, x, unflatten(policy, v))

    def fisher(self, policy: Inputs, x: Array) -> Array:
        """Hessian of the mean KL at the old policy, column by column."""
        units = np.eye(len(flatten(policy)), dtype=x.dtype)
        product = self.fisher_product(policy, x)
        return np.stack([product(unit) for unit in units], axis=1)

    def jacobian(self, policy: Inputs, x: Array) -> Array:
        """Of the outputs, and the identity for log_std."""
        like = np.zeros((len(x), policy["layers"][-1]["b"].size), x.dtype)

        def phi(theta: Array) -> Array:
            pi = moved(policy, theta)
            free = [np.broadcast_to(pi["log_std"], like.shape)] if "log_std" in pi else []
            return np.concatenate([self.forward(pi, x), *free], axis=1)

        return self.derivative(phi, flatten(policy))

    def softmax_policy_gradient(
        self, transition: Array, reward: Array, start: Array, gamma: float, logits: Array
    ) -> Array:
        """Of the return itself."""
        eta = self.derivative(lambda z: self.expected_return(transition, reward, start, gamma, self.softmax(z)), logits)
        return eta.reshape(logits.shape)


class Upcast(Ordinary):
    """Float32 in and out, float64 between."""

    def ops(self) -> dict[str, Callable[..., Any]]:
        """Return the functions, between two conversions."""
        return {name: _between(function) for name, function in super().ops().items()}


def _between(function: Callable[..., Any]) -> Callable[..., Any]:
    def upcast(**inputs: Any) -> Any:
        return _cast(function(**_cast(inputs, np.float32, np.float64)), np.float64, np.float32)

    return upcast


def _cast(value: Any, before: Any, after: Any) -> Any:
    if isinstance(value, dict):
        return {name: _cast(part, before, after) for name, part in value.items()}
    if isinstance(value, list):
        return [_cast(part, before, after) for part in value]
    if isinstance(value, np.ndarray | np.generic) and value.dtype == before:
        return value.astype(after)
    return value


FORMULAS: tuple[type[Ordinary], ...] = (SciPy, Libraries, Enumerated, Matrices, Roots, Dual, ComplexStep, Upcast)
