"""The article's Taylor expansion: L to first order, KL to second, and what is left of them.

::

    L(θ + ts) − L(θ)       = t gᵀs + O(t²)                 η(θ + ts) − L(θ + ts) = O(t²)
    KL(θ ‖ θ + ts)         = ½t² sᵀFs + O(t³)              KL(θ + ts ‖ θ) likewise

Both directions of KL have the Fisher matrix as their second derivative; they differ in the third.
"""

from typing import NamedTuple

import numpy as np

from refpg.bounds import compare
from refpg.geometry import fisher_vector_product, mean_kl
from refpg.mdp import evaluate, random_mdp, softmax_gradient
from refpg.network import initial_parameters
from refpg.notation import Array, count
from refpg.plots import page
from refpg.plots.page import Figure
from refpg.policy import linearize, probability_table, softmax_policy


class Remainders(NamedTuple):
    """Numbers of the figure ``taylor``.

    Fields: ``scale`` (N,) t; ``linear`` (N,) |L − its tangent|; ``gap`` (N,) |η − L|, both in return units;
    ``quadratic`` (N,) ½t²sᵀFs; ``old_new``, ``new_old`` (N,) |KL − ½t²sᵀFs| of KL(old ‖ new) and KL(new ‖ old), nats.
    """

    scale: Array
    linear: Array
    gap: Array
    quadratic: Array
    old_new: Array
    new_old: Array


def numbers(generator: np.random.Generator, *, points: int = 25) -> Remainders:
    """Return the remainders along a random direction.

    Parameters
    ----------
    generator : numpy.random.Generator
        Draws an MDP of five states, a network and the direction.
    points : int
        N, of the grid over t, from 10⁻³ to 1.

    Returns
    -------
    Remainders

    Raises
    ------
    ValueError
        If ``points`` is not at least 2.

    References
    ----------
    [TRPO (4)], [TRPO (17)], [Hui]
    """
    t = np.logspace(-3, 0, count("taylor.numbers", "points", points, least=2))
    mdp = random_mdp(generator, states=5, actions=3, discount=0.9)
    policy, x = softmax_policy((3, 6, 3)), generator.normal(size=(5, 3))
    theta = initial_parameters(policy.network, generator)
    s = generator.normal(size=len(theta))
    s /= np.linalg.norm(s)

    old = probability_table(policy, theta, x)
    d = evaluate(mdp, old).visitation_distribution
    g = linearize("taylor.numbers", policy, theta, x).vjp(softmax_gradient(mdp, old))
    F_s = fisher_vector_product(policy, theta, x, s, weights=d)
    quadratic = 0.5 * t**2 * float(s @ F_s)
    seen = [compare(mdp, old, probability_table(policy, theta + u * s, x)) for u in t]

    def remainder(direction: str) -> Array:
        kl = [float(mean_kl(policy, theta, theta + u * s, x, weights=d, direction=direction)) for u in t]
        return np.abs(np.array(kl) - quadratic)

    return Remainders(
        scale=t,
        linear=np.abs(np.array([at.surrogate_gain for at in seen]) - t * float(g @ s)),
        gap=np.abs(np.array([at.gap for at in seen])),
        quadratic=quadratic,
        old_new=remainder("old_new"),
        new_old=remainder("new_old"),
    )


@page.house_style
def draw(at: Remainders) -> Figure:
    """Draw the remainders in log–log, with the slopes that theory gives them.

    Parameters
    ----------
    at : Remainders
        From `numbers`.

    Returns
    -------
    Figure
    """
    figure, (first, second) = page.open_page(
        r"$L$ is right to first order, $\frac{1}{2}s^{\!\top}\!Fs$ to second: small steps leave next to nothing over",
        columns=2,
        right=1.15,
        between=(0.6, 1.45),
    )
    first.plot(at.scale, at.gap, **page.BLACK.line)
    first.plot(at.scale, at.linear, **page.BLUE.line)
    second.plot(at.scale, at.quadratic, **page.BLACK.line)
    second.plot(at.scale, at.old_new, **page.VERMILLION.line)
    second.plot(at.scale, at.new_old, **page.GREEN.line)
    for axes in (first, second):
        axes.set(xscale="log", yscale="log", xlim=(at.scale[0], at.scale[-1]))
        axes.set_xlabel("length $t$ of the step")
    first.set_ylabel("left over, return units")
    middle = len(at.scale) // 2
    for axes, values, order in ((first, at.gap, 2), (second, at.quadratic, 2), (second, at.old_new, 3)):
        page.note(axes, f"$t^{order}$", (at.scale[middle], values[middle]), (6, -7), page.GREY)
    second.set_ylabel("quadratic form $Q$ and what it leaves over, nats")
    page.name_ends(
        first,
        [
            (r"$\left|\eta - L\right|$", at.gap[-1], "black"),
            (r"$\left|L - \mathrm{tangent}\right|$", at.linear[-1], page.BLUE.colour),
        ],
    )
    page.name_ends(
        second,
        [
            (r"$Q = t^2 s^{\!\top}\!Fs\,/\,2$", at.quadratic[-1], "black"),
            (r"KL(old$\,\Vert\,$new) $-\,Q$", at.old_new[-1], page.VERMILLION.colour),
            (r"KL(new$\,\Vert\,$old) $-\,Q$", at.new_old[-1], page.GREEN.colour),
        ],
    )
    return figure
