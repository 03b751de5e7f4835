"""Networks and policies as one would write them in NumPy: forward, backward, Jacobian, and what follows from them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.special import erf

from verification.honest.distributions import Inputs, diagonal, one_hot
from verification.honest.estimators import Estimators
from verification.honest.parameters import unflatten

Array = Any


class Activation(NamedTuple):
    """A function of z with two derivatives; branches are taken on the real part, so that complex steps pass."""

    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    curvature: Callable[[Array], Array]


def _sigmoid(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


def _softplus(z: Array) -> Array:
    size = np.where(z.real > 0, z, -z)
    return np.where(z.real > 0, z, 0 * z) + np.log1p(np.exp(-size))


def _density(z: Array) -> Array:
    return np.exp(-(z**2) / 2) / float(np.sqrt(2 * np.pi))


def _distribution(z: Array) -> Array:
    return (1 + erf(z * float(np.sqrt(0.5)))) / 2


ACTIVATIONS = {
    "tanh": Activation(np.tanh, lambda z: 1 - np.tanh(z) ** 2, lambda z: -2 * np.tanh(z) * (1 - np.tanh(z) ** 2)),
    "relu": Activation(
        lambda z: np.where(z.real > 0, z, 0 * z), lambda z: (z.real > 0).astype(z.dtype), lambda z: 0 * z
    ),
    "identity": Activation(lambda z: z, np.ones_like, np.zeros_like),
    "elu": Activation(
        lambda z: np.where(z.real > 0, z, np.exp(np.where(z.real > 0, 0 * z, z)) - 1),
        lambda z: np.where(z.real > 0, np.ones_like(z), np.exp(np.where(z.real > 0, 0 * z, z))),
        lambda z: np.where(z.real > 0, 0 * z, np.exp(np.where(z.real > 0, 0 * z, z))),
    ),
    "silu": Activation(
        lambda z: z * _sigmoid(z),
        lambda z: _sigmoid(z) * (1 + z * _sigmoid(-z)),
        lambda z: _sigmoid(z) * _sigmoid(-z) * (2 + z * (_sigmoid(-z) - _sigmoid(z))),
    ),
    "softplus": Activation(_softplus, _sigmoid, lambda z: _sigmoid(z) * _sigmoid(-z)),
    "gelu": Activation(
        lambda z: z * _distribution(z),
        lambda z: _distribution(z) + z * _density(z),
        lambda z: (2 - z**2) * _density(z),
    ),
}


class Networks(Estimators):
    """Pieces that the operations on policies are made of; none of them is an op but ``network_forward``."""

    def product(self, left: Array, right: Array) -> Array:
        """Return left @ right, of matrices or of a matrix and a vector."""
        if right.ndim == 1:
            return self.order.matmul(left, right[:, None])[:, 0]
        return self.order.matmul(left, right)

    def dot(self, one: Array, two: Array) -> Array:
        """Return Σ one · two."""
        return self.total(one * two, 0)

    # The network.

    def layers(self, net: Inputs, x: Array) -> tuple[list[Array], list[Array]]:
        """Return the input and the affine output of every layer; the last of them is the network's."""
        f = ACTIVATIONS[net["activation"]]
        inputs, affine = [x], []
        for layer in net["layers"]:
            affine.append(self.product(inputs[-1], layer["W"]) + layer["b"])
            inputs.append(f.value(affine[-1]))
        return inputs[:-1], affine

    def forward(self, net: Inputs, x: Array) -> Array:
        """Return the network's outputs."""
        return self.layers(net, x)[1][-1]

    def backward(self, net: Inputs, x: Array, bar: Array) -> Array:
        """Return the gradient of Σ bar · outputs with respect to the layers, as one vector."""
        f = ACTIVATIONS[net["activation"]]
        inputs, affine = self.layers(net, x)
        parts: list[Array] = []
        for number in reversed(range(len(inputs))):
            parts = [np.ravel(self.product(inputs[number].T, bar)), self.total(bar, 0), *parts]
            if number:
                bar = self.product(bar, net["layers"][number]["W"].T) * f.slope(affine[number - 1])
        return np.concatenate(parts)

    def jacobian(self, policy: Inputs, x: Array) -> Array:
        """Return ∂φ/∂θ of every row, (B, K, P), one backward pass per row and entry of φ."""
        outputs = self.forward(policy, x)
        units = np.eye(outputs.shape[1], dtype=outputs.dtype)
        J = np.stack([[self.backward(policy, row[None], unit[None]) for unit in units] for row in x])
        if "log_std" not in policy:
            return J
        free = np.eye(len(policy["log_std"]), dtype=J.dtype)
        free = np.broadcast_to(free, (len(x), *free.shape))
        return np.concatenate([_padded(J, 0, free.shape[2]), _padded(free, J.shape[2], 0)], axis=1)

    # The policy: φ is (logits) or (mean, log_std).

    def log_probs(self, policy: Inputs, x: Array, actions: Array) -> Array:
        """Return log π(a|s) of every row."""
        outputs = self.forward(policy, x)
        if policy["distribution"] == "categorical":
            return self.total(one_hot(actions, outputs) * self.log_softmax(outputs))
        return self.total(self.log_density(actions, outputs, policy["log_std"]))

    def scores(self, policy: Inputs, x: Array, actions: Array) -> Array:
        """Return ∂ log π/∂φ, (B, K)."""
        outputs = self.forward(policy, x)
        if policy["distribution"] == "categorical":
            return one_hot(actions, outputs) - self.softmax(outputs)
        return np.concatenate(self.normal_score(actions, outputs, policy["log_std"]), axis=1)

    def pulled_back(self, policy: Inputs, x: Array, phi_bar: Array) -> Array:
        """Return Σ_b Jᵀ phi_bar as one vector."""
        width = policy["layers"][-1]["b"].size
        gradient = self.backward(policy, x, phi_bar[:, :width])
        if "log_std" not in policy:
            return gradient
        return np.concatenate([gradient, self.total(phi_bar[:, width:], 0)])

    # Mean KL with its derivatives.

    def kl_rows(self, one: Inputs, other: Inputs, x: Array) -> Array:
        """Return KL(one ‖ other) of every row."""
        p, q = self.forward(one, x), self.forward(other, x)
        if one["distribution"] == "categorical":
            return self.kl_of_logits(p, q)
        return self.total(self.normal_kl(p, one["log_std"], q, other["log_std"]))

    def divergence(self, old: Inputs, new: Inputs, x: Array) -> Array:
        """Return the mean KL in the direction declared."""
        pair = (old, new) if self.conventions["kl.direction"] == "old_new" else (new, old)
        return self.mean(self.kl_rows(*pair, x))

    def divergence_slopes(self, old: Inputs, new: Inputs, x: Array) -> Array:
        """Return ∂KL/∂φ of every row at the new policy, (B, K)."""
        p, q = self.forward(old, x), self.forward(new, x)
        forwards = self.conventions["kl.direction"] == "old_new"
        if new["distribution"] == "categorical":
            if forwards:
                return self.softmax(q) - self.softmax(p)
            gap = self.log_softmax(q) - self.log_softmax(p)
            return self.softmax(q) * (gap - self.kl_of_logits(q, p)[:, None])
        change, s0, s1 = q - p, np.exp(old["log_std"]), np.exp(new["log_std"])
        if forwards:
            slopes = change / s1**2, 1 - (s0 / s1) ** 2 - (change / s1) ** 2
        else:
            slopes = change / s0**2, np.broadcast_to((s1 / s0) ** 2 - 1, change.shape)
        return np.concatenate(slopes, axis=1)

    def divergence_gradient(self, old: Inputs, new: Inputs, x: Array) -> Array:
        """Return the gradient of the mean KL with respect to the new parameters, as one vector."""
        return self.pulled_back(new, x, self.divergence_slopes(old, new, x) / len(x))

    def divergence_curvature(self, old: Inputs, new: Inputs, x: Array, dphi: Array) -> Array:
        """Return ∂²KL/∂φ² dphi of every row at the new policy."""
        p, q = self.forward(old, x), self.forward(new, x)
        forwards = self.conventions["kl.direction"] == "old_new"
        if new["distribution"] == "categorical":
            pi = self.softmax(q)
            centred = dphi - self.total(pi * dphi)[:, None]
            if forwards:
                return pi * centred
            gap = self.log_softmax(q) - self.log_softmax(p) - self.kl_of_logits(q, p)[:, None]
            return pi * (centred * (1 + gap) - self.total(pi * centred * gap)[:, None])
        width = q.shape[1]
        change, s0, s1 = q - p, np.exp(old["log_std"]), np.exp(new["log_std"])
        dmean, dlog_std = dphi[:, :width], dphi[:, width:]
        if forwards:
            mixed = -2 * change / s1**2
            spread = 2 * (s0**2 + change**2) / s1**2
            return np.concatenate([dmean / s1**2 + mixed * dlog_std, mixed * dmean + spread * dlog_std], axis=1)
        return np.concatenate([dmean / s0**2, 2 * (s1 / s0) ** 2 * dlog_std], axis=1)

    def divergence_hessian_product(self, old: Inputs, new: Inputs, x: Array, vector: Inputs) -> Array:
        """Return ∇² mean KL · vector: Gauss–Newton term plus the curvature of the network, as one vector."""
        dphi, slopes = self.pushed_forward(new, x, vector), self.divergence_slopes(old, new, x)
        gauss_newton = self.pulled_back(new, x, self.divergence_curvature(old, new, x, dphi) / len(x))
        width = new["layers"][-1]["b"].size
        curved = self.backward_tangent(new, x, vector, slopes[:, :width] / len(x))
        return gauss_newton + np.concatenate([curved, np.zeros_like(gauss_newton[curved.size :])])

    def pushed_forward(self, policy: Inputs, x: Array, vector: Inputs) -> Array:
        """Return J vector of every row, (B, K)."""
        tangent = self.tangents(policy, x, vector)[1][-1]
        if "log_std" not in policy:
            return tangent
        return np.concatenate([tangent, np.broadcast_to(vector["log_std"], tangent.shape)], axis=1)

    def tangents(self, net: Inputs, x: Array, vector: Inputs) -> tuple[list[Array], list[Array]]:
        """Return the change of the input and of the affine output of every layer along a change of parameters."""
        f = ACTIVATIONS[net["activation"]]
        inputs, affine = self.layers(net, x)
        changes, affine_changes = [np.zeros_like(x)], []
        for h, z, layer, change in zip(inputs, affine, net["layers"], vector["layers"], strict=True):
            dz = self.product(changes[-1], layer["W"]) + self.product(h, change["W"]) + change["b"]
            affine_changes.append(dz)
            changes.append(f.slope(z) * dz)
        return changes[:-1], affine_changes

    def backward_tangent(self, net: Inputs, x: Array, vector: Inputs, bar: Array) -> Array:
        """Return the change of `backward` along a change of parameters, with bar held fixed."""
        f = ACTIVATIONS[net["activation"]]
        inputs, affine = self.layers(net, x)
        dinputs, daffine = self.tangents(net, x, vector)
        dbar = np.zeros_like(bar)
        parts: list[Array] = []
        for number in reversed(range(len(inputs))):
            dW = self.product(dinputs[number].T, bar) + self.product(inputs[number].T, dbar)
            parts = [np.ravel(dW), self.total(dbar, 0), *parts]
            if number:
                W, change = net["layers"][number]["W"].T, vector["layers"][number]["W"].T
                z, dz = affine[number - 1], daffine[number - 1]
                back = self.product(bar, W)
                dback = self.product(dbar, W) + self.product(bar, change)
                bar, dbar = back * f.slope(z), dback * f.slope(z) + back * f.curvature(z) * dz
        return np.concatenate(parts)

    # The Fisher matrix.

    def metric(self, policy: Inputs, x: Array) -> Array:
        """Return the Fisher matrix of φ of every row, (B, K, K)."""
        outputs = self.forward(policy, x)
        if policy["distribution"] == "categorical":
            return self.fisher_of_logits(outputs)
        log_std = np.broadcast_to(policy["log_std"], outputs.shape)
        return self.gaussian_fisher({"log_std": log_std})

    def metric_root(self, policy: Inputs, x: Array) -> Array:
        """Return R with RᵀR = M of every row: √p (e_k − p), or diag(1/σ, √2)."""
        outputs = self.forward(policy, x)
        if policy["distribution"] == "categorical":
            p = self.softmax(outputs)
            centred = np.eye(p.shape[1], dtype=p.dtype) - p[:, None, :]
            return np.sqrt(p)[:, :, None] * centred
        precise = np.broadcast_to(np.exp(-policy["log_std"]), outputs.shape)
        return diagonal(np.concatenate([precise, np.full_like(precise, np.sqrt(2.0))], axis=1))

    def fisher(self, policy: Inputs, x: Array) -> Array:
        """Return F, the mean of JᵀMJ."""
        J, M = self.jacobian(policy, x), self.metric(policy, x)
        MJ = np.stack([self.product(m, j) for m, j in zip(M, J, strict=True)])
        size = J.shape[2]
        return self.product(J.reshape(-1, size).T, MJ.reshape(-1, size)) / len(x)

    def fisher_rows(self, policy: Inputs, x: Array) -> Array:
        """Return G with F = GᵀG."""
        J, R = self.jacobian(policy, x), self.metric_root(policy, x)
        rows = np.stack([self.product(r, j) for r, j in zip(R, J, strict=True)])
        return rows.reshape(-1, J.shape[2]) / np.sqrt(np.array(len(x), J.dtype))

    def fisher_product(self, policy: Inputs, x: Array) -> Callable[[Array], Array]:
        """Return v ↦ F v by one pass forward, M, and one pass backward."""
        M = self.metric(policy, x)

        def apply(v: Array) -> Array:
            dphi = self.pushed_forward(policy, x, unflatten(policy, v))
            bar = np.stack([self.product(m, d) for m, d in zip(M, dphi, strict=True)])
            return self.pulled_back(policy, x, bar / len(x))

        return apply

    def network_forward(self, network: Inputs, observations: Array) -> Array:
        """The network's outputs."""
        return self.forward(network, observations)


def moved(policy: Inputs, theta: Array) -> Inputs:
    """Return the policy with other parameters."""
    return policy | unflatten(policy, theta)


def _padded(matrices: Array, before: int, after: int) -> Array:
    return np.pad(matrices, ((0, 0), (0, 0), (before, after)))
