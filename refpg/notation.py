"""Symbols, shapes and the one validator of arguments.

Every array that crosses a border of this package is described by shape letters, one axis each and
the same everywhere: B batch rows, T time, E environments, D observation features, A actions (choices or action
dimensions), K distribution parameters per row, P policy parameters, M minibatches; S states of a finite MDP; N
sequences, padded to T tokens.

    symbol      code name          shape      meaning
    θ           theta              (P,)       policy parameters, one flat vector outside `network`
    φ           phi                (B, K)     parameters of the action distribution, φ = network(θ, x)
    x           x, observations    (B, D)     observations
    a           action             family's   action, one row per observation
    π_θ(a|s)    log_prob           (B,)       log-probability (nats)
    Â           advantages         (B,)       advantage estimate (return units)
    r_t(θ)      ratio              (B,)       π_θ(a|s)/π_old(a|s)                        [PPO (6)]
    L           surrogate          ()         expected ratio × advantage                 [TRPO (14)]
    ε           clip               ()         half-width of the ratio window             [PPO (7)]
    δ           max_kl             ()         radius of the trust region, nats           [TRPO (11)]
    δ_t         td_error           (T, E)     temporal-difference error                  [GAE (10)]
    γ           gamma              ()         discount, [0, 1]
    λ           gae_lambda         ()         exponential weight of GAE, [0, 1]
    λ           damping            ()         multiple of I added to F
    F           fisher_*           (P, P)     mean Fisher matrix of the policy           [TRPO App. C.1]
    J           jacobian           (B, K, P)  ∂φ/∂θ
    M           fisher (of φ)      (B, K, K)  Fisher matrix of the distribution's parameters
    g           gradient           (P,)       gradient of the surrogate, ascent direction
    s           step               (P,)       θ' − θ
    β           kl_penalty         ()         weight of the KL penalty                   [PPO (8)]
    w           weights            (B,)       weights of the rows, Σ w = 1; 1/B unless given
    y, |y|      mask               (N, T)     sequences of tokens; |y| of each count     [GRPO]
    P(s'|s,a)   transition         (S, A, S)  transition probabilities of a finite MDP
    ρ₀          start              (S,)       distribution of the first state
    π(a|s)      policy, old, new   (S, A)     a policy as a table
    V, Q, A     values, …          (S,) …     value functions, return units              [TRPO section 2]
    η(π)        expected_return    ()         expected discounted return                 [TRPO section 2]
    ρ_π         visitation         (S,)       discounted visits, Σ ρ = 1/(1 − γ)         [TRPO section 2]
    d_π         …_distribution     (S,)       (1 − γ)ρ_π, Σ d = 1                        [CPO section 3]
    C           penalty            ()         coefficient of the largest KL              [TRPO (9)]
    A, B        state_matrix, …    (D, D) …   x' = Ax + Bu + w, linear–quadratic control
    Q, R        state_cost, …      (D, D) …   r = −(xᵀQx + uᵀRu)
    K, Σ        gain, covariance   (A, D) …   u ∼ N(−Kx, Σ)                              [Fazel]
    P, c        value_matrix, …    (D, D) …   V(x) = −(xᵀPx + c)                         [Fazel]
    G, E        action_curvature…  (A, A) …   A(x,u) = 2eᵀEx − eᵀGe + tr GΣ, e = u + Kx
    X           visitation_moment  (D, D)     ∫ρ_π(dx) xxᵀ

An expectation over states is a weighted sum over rows, reduced in one fixed order: see `refpg.rows`.

A docstring cites ``[TAG]``, ``[TAG (equation)]``, ``[TAG App. C]``, ``[TAG section 4]``, ``[TAG Alg. 1]``,
``[TAG Thm 1]``, ``[TAG Cor. 1]`` or ``[TAG Prop. 1]``; the tags are the keys of ``SOURCES``.
"""

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

SOURCES = {
    "TRPO": "Schulman, Levine, Moritz, Jordan, Abbeel: Trust Region Policy Optimization, 2015, arXiv 1502.05477",
    "PPO": "Schulman, Wolski, Dhariwal, Radford, Klimov: Proximal Policy Optimization Algorithms, 2017, "
    "arXiv 1707.06347",
    "GAE": "Schulman, Moritz, Levine, Jordan, Abbeel: High-Dimensional Continuous Control Using Generalized Advantage "
    "Estimation, 2016, arXiv 1506.02438",
    "K01": "Kakade: A Natural Policy Gradient, NIPS 2001",
    "KL02": "Kakade, Langford: Approximately Optimal Approximate Reinforcement Learning, ICML 2002",
    "AKLM": "Agarwal, Kakade, Lee, Mahajan: On the Theory of Policy Gradient Methods: Optimality, Approximation, and "
    "Distribution Shift, JMLR 22, 2021, arXiv 1908.00261",
    "CPO": "Achiam, Held, Tamar, Abbeel: Constrained Policy Optimization, 2017, arXiv 1705.10528",
    "MDPO": "Tomar, Shani, Efroni, Ghavamzadeh: Mirror Descent Policy Optimization, 2020, arXiv 2005.09814",
    "Martens": "Martens: New Insights and Perspectives on the Natural Gradient Method, 2014, arXiv 1412.1193",
    "Adam": "Kingma, Ba: Adam: A Method for Stochastic Optimization, 2015, arXiv 1412.6980",
    "Blog-KL": "Schulman: Approximating KL Divergence, 2020",
    "SAC": "Haarnoja et al.: Soft Actor-Critic Algorithms and Applications, 2018, arXiv 1812.05905",
    "RLHF": "Ziegler et al.: Fine-Tuning Language Models from Human Preferences, 2019, arXiv 1909.08593",
    "DAPO": "Yu et al.: DAPO: An Open-Source LLM Reinforcement Learning System at Scale, 2025, arXiv 2503.14476",
    "GRPO": "Shao et al.: DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models, 2024, "
    "arXiv 2402.03300",
    "Dr-GRPO": "Liu et al.: Understanding R1-Zero-Like Training: A Critical Perspective, 2025, arXiv 2503.20783",
    "GSPO": "Zheng et al.: Group Sequence Policy Optimization, 2025, arXiv 2507.18071",
    "RLOO": "Ahmadian et al.: Back to Basics: Revisiting REINFORCE Style Optimization for Learning from Human Feedback "
    "in LLMs, 2024, arXiv 2402.14740",
    "Dual-clip": "Ye et al.: Mastering Complex Control in MOBA Games with Deep Reinforcement Learning, 2020, "
    "arXiv 1912.09729",
    "Pearlmutter": "Pearlmutter: Fast Exact Multiplication by the Hessian, Neural Computation 6, 1994",
    "Hestenes-Stiefel": "Hestenes, Stiefel: Methods of Conjugate Gradients for Solving Linear Systems, 1952",
    "GTH": "Grassmann, Taksar, Heyman: Regenerative Analysis and Steady State Distributions for Markov Chains, "
    "Operations Research 33, 1985",
    "Garnet": "Archibald, McKinnon, Thomas: On the Generation of Markov Decision Processes, Journal of the Operational "
    "Research Society 46, 1995",
    "SB": "Sutton, Barto: Reinforcement Learning: An Introduction, second edition, 2018",
    "Saxe": "Saxe, McClelland, Ganguli: Exact Solutions to the Nonlinear Dynamics of Learning, 2014, arXiv 1312.6120",
    "Fazel": "Fazel, Ge, Kakade, Mesbahi: Global Convergence of Policy Gradient Methods for the Linear Quadratic "
    "Regulator, ICML 2018, arXiv 1801.05039",
    "Hewer": "Hewer: An Iterative Technique for the Computation of the Steady State Gains for the Discrete Optimal "
    "Regulator, IEEE Transactions on Automatic Control 16, 1971",
    "Nota-Thomas": "Nota, Thomas: Is the Policy Gradient a Gradient?, 2020, arXiv 1906.07073",
    "Hui": "Hui: RL — The Math behind TRPO & PPO, 2018",
}


def bind_shapes(function: str, sizes: Mapping[str, int], /, **arguments: tuple[Any, str]) -> tuple[Array, ...]:
    """Check arrays against shape letters and against each other, and return them as NumPy arrays.

    An argument is given as ``name=(value, spec)``.  A spec is a shape such as ``"B K"`` or ``""`` (a scalar), each
    letter one axis, equal letters equal lengths, after an optional kind: ``"int B"``, ``"bool B A"``; floating-point
    (real or complex) is meant where no kind is named, and integers are then read as float64.  No axis may be empty.

    Parameters
    ----------
    function : str
        The caller, named in every message.
    sizes : mapping of str to int
        Letters whose length is already fixed, e.g. ``{"P": network.num_parameters}``.
    **arguments : (value, spec)
        The arrays to check.

    Returns
    -------
    tuple of arrays
        In the order given; never copied when already an array of the right kind.

    Raises
    ------
    ValueError
        If a shape disagrees, an axis is empty, an entry is NaN or infinite, or the kind is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> x, v = bind_shapes("f", {"P": 4}, x=(np.ones((2, 3)), "B D"), v=(np.ones(4), "P"))
    >>> bind_shapes("f", {"P": 4}, v=(np.ones(7), "P"))
    Traceback (most recent call last):
        ...
    ValueError: f: v has shape (7,), expected (P,) where P = 4
    """
    lengths = dict(sizes)
    bound = []
    for name, (value, spec) in arguments.items():
        kind, letters, _ = _parse(spec)
        array = _of_kind(function, name, value, kind)
        shape = array.shape
        if len(shape) != len(letters):
            raise ValueError(_disagreement(function, name, shape, arguments, sizes, lengths))
        for letter, length in zip(letters, shape, strict=True):
            if length == 0 or lengths.setdefault(letter, length) != length:
                raise ValueError(_disagreement(function, name, shape, arguments, sizes, lengths))
        bound.append(array)
    return tuple(bound)


def _disagreement(
    function: str,
    name: str,
    shape: tuple[int, ...],
    arguments: Mapping[str, tuple[Any, str]],
    sizes: Mapping[str, int],
    lengths: Mapping[str, int],
) -> str:
    """Return the sentence about a shape that its letters do not allow."""
    _, letters, expected = _parse(arguments[name][1])
    found = f"{function}: {name} has shape {shape}, expected"
    if len(shape) == len(letters):
        for letter, length in zip(letters, shape, strict=True):
            if length == 0:
                return f"{found} {letter} >= 1: it is empty"
            if lengths[letter] != length:
                setter = next(other for other, (_, spec) in arguments.items() if letter in _parse(spec)[1])
                source = "" if letter in sizes else f" (set by {setter})"
                return f"{found} {expected} where {letter} = {lengths[letter]}{source}"
    return f"{found} {expected}"


@functools.cache
def _parse(spec: str) -> tuple[str, tuple[str, ...], str]:
    """Return the kind, the letters and the shape as messages write it."""
    words = spec.split()
    kind = words.pop(0) if words and words[0] in ("int", "bool") else "float"
    shape = "(" + ", ".join(words) + ("," if len(words) == 1 else "") + ")"
    return kind, tuple(words), shape


def _of_kind(function: str, name: str, value: Any, kind: str) -> Array:
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"{function}: {name} is ragged, expected rows of equal length") from None
    given = array.dtype.kind
    if kind == "bool":
        if given != "b":
            raise ValueError(f"{function}: {name} has dtype {array.dtype}, expected bool")
        return array
    if given not in "iufc":
        raise ValueError(f"{function}: {name} has dtype {array.dtype}, expected numbers")
    if given in "fc" and not all_finite(array):
        raise ValueError(f"{function}: {name} holds NaN or infinity, expected finite numbers")
    if kind == "int":
        if given == "c" or (given == "f" and (array != np.floor(array)).any()):
            raise ValueError(f"{function}: {name} holds non-integer values, expected integers")
        return array.astype(np.int64, copy=False)
    return array.astype(np.float64) if given in "iu" else array


def all_finite(array: Array) -> bool:
    """Return whether no entry is NaN or infinite.

    ::

        Σ |a|² is finite  ⇒  every a is

    One product with itself answers for all arrays but those whose squares overflow; these are looked at entry by entry,
    and so are arrays whose entries are not neighbours in memory, which the product would copy.

    Parameters
    ----------
    array : array
        Floating-point numbers, real or complex, of any shape.

    Returns
    -------
    bool

    Examples
    --------
    >>> import numpy as np
    >>> all_finite(np.array([1e200, -1e200])), all_finite(np.array([np.inf, -np.inf]))
    (True, False)
    """
    if array.flags.c_contiguous and math.isfinite(np.vdot(array, array).real):
        return True
    return bool(np.isfinite(array).all())


def row_weights(function: str, weights: Any, values: Array) -> Array:
    """Return the weights of the rows of an array: 1/B each unless given, checked to be a probability vector.

    Parameters
    ----------
    function : str
        The caller, named in every message.
    weights : (B,) array or None
        Non-negative, summing to 1 within B units of rounding.  The *normalised* visitation (1 − γ)ρ_π of an MDP, with
        all its states as rows, turns every mean of this package into an exact expectation.
    values : (B, ...) array
        What will be averaged over its rows.

    Returns
    -------
    (B,) array
        The weights w_b, dimensionless.  The default 1/B is formed in the precision of ``values``: in float64 it would
        turn a float32 mean into float64, and blur a longdouble one.

    Raises
    ------
    ValueError
        If a weight is negative, or they do not sum to 1.

    Examples
    --------
    >>> import numpy as np
    >>> row_weights("f", None, np.ones((4, 2)))
    array([0.25, 0.25, 0.25, 0.25])
    """
    rows = len(values)
    if weights is None:
        return np.full(rows, 1 / values.real.dtype.type(rows))
    (w,) = bind_shapes(function, {"B": rows}, weights=(weights, "B"))
    if w.dtype.kind == "c" or w.min() < 0:
        raise ValueError(f"{function}: weights has a negative or complex entry, expected non-negative numbers")
    total = np.add.reduce(w)
    if abs(total - 1) > rows * np.finfo(w.dtype).eps:
        raise ValueError(f"{function}: weights sum to {total!r}, expected 1 (they are not normalised)")
    return w


def scalar(
    function: str,
    name: str,
    value: Any,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
) -> float:
    """Check that an argument is one finite real number inside an interval, and return it.

    Parameters
    ----------
    function, name : str
        The caller and the argument, named in every message.
    value : number
        The argument.
    above, least : float, optional
        Open and closed lower end.
    below, most : float, optional
        Open and closed upper end.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If it is not one finite number, or lies outside.

    Examples
    --------
    >>> scalar("trpo_step", "max_kl", 0.0, above=0)
    Traceback (most recent call last):
        ...
    ValueError: trpo_step: max_kl is 0.0, expected a number > 0
    """
    is_finite = _is_finite_number(value)
    if (
        is_finite
        and (above is None or value > above)
        and (least is None or value >= least)
        and (below is None or value < below)
        and (most is None or value <= most)
    ):
        return float(value)
    ends = ((">", above), (">=", least), ("<", below), ("<=", most))
    wanted = " and ".join(f"{sign} {end}" for sign, end in ends if end is not None)
    expected = f"a number {wanted}" if is_finite else f"a finite number {wanted}"
    raise ValueError(f"{function}: {name} is {value!r}, expected {expected}".rstrip())


def _is_finite_number(value: Any) -> bool:
    if type(value) is float:
        return math.isfinite(value)
    number = np.asarray(value)
    return number.ndim == 0 and number.dtype.kind in "iuf" and bool(np.isfinite(number))


def count(function: str, name: str, value: Any, *, least: int = 1) -> int:
    """Check that an argument is one integer, at least ``least``, and return it.

    Parameters
    ----------
    function, name : str
        The caller and the argument, named in the message.
    value : int
        The argument.
    least : int
        The smallest value accepted.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If it is not an integer or too small.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{function}: {name} is {value!r}, expected an integer >= {least}")
    return int(value)


def choice(function: str, name: str, value: Any, allowed: tuple[str, ...]) -> str:
    """Check that an argument is one of the named alternatives, and return it.

    Parameters
    ----------
    function, name : str
        The caller and the argument, named in the message.
    value : str
        The argument.
    allowed : tuple of str
        The alternatives.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If it is not among them.
    """
    if value not in allowed:
        raise ValueError(f"{function}: {name} is {value!r}, expected one of {', '.join(map(repr, allowed))}")
    return str(value)


def expectation(values: Array, weights: Array) -> Any:
    """Return the weighted mean over rows, the only place where a sum becomes a mean.

    ::

        E[y] = Σ_b w_b y_b

    Parameters
    ----------
    values : (B,) or (T, E) array
        One value per row, or per entry of a rollout.
    weights : array
        Of the same shape, from `row_weights`, Σ w = 1.

    Returns
    -------
    scalar
        In the units of ``values``; summed pairwise (NumPy), whatever the number of threads.
    """
    return np.add.reduce(weights * values, axis=None)


class Unrepresentable(ValueError):
    """A result lies outside the range of its floating-point type: it is refused, never returned as an infinity."""


def overflow_is_an_error(door: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Make an element-wise function raise `Unrepresentable`, under its own name, where its arithmetic overflows.

    Parameters
    ----------
    door : callable
        A function made of NumPy's element-wise operations.

    Returns
    -------
    callable
        The same function; no NumPy warning leaves it, no infinity is born in it, and the message names its arrays.

    Raises
    ------
    Unrepresentable
        From the function returned.

    Examples
    --------
    >>> import numpy as np
    >>> @overflow_is_an_error
    ... def square(x: Array) -> Array:
    ...     return x * x
    >>> square(np.array([1e200]))
    Traceback (most recent call last):
        ...
    refpg.notation.Unrepresentable: square: overflow encountered in multiply, expected x of smaller magnitude
    """
    arrays = _array_arguments(door)
    watched = np.errstate(over="raise", invalid="raise", divide="raise", under="ignore")(door)

    @functools.wraps(door)
    def checked(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        try:
            return watched(*args, **kwargs)
        except FloatingPointError as error:
            raise Unrepresentable(f"{door.__name__}: {error}, expected {arrays} of smaller magnitude") from None

    return checked


def finite_results(door: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Make a function of matrix products raise `Unrepresentable`, under its own name, if a result is not finite.

    Matrix products are judged by what they return: some platforms' BLAS raises the floating-point flags, by which
    `overflow_is_an_error` goes, on products that are perfectly finite.

    Parameters
    ----------
    door : callable
        A function that returns an array, a number, or a plain tuple with such members; other results pass unseen.

    Returns
    -------
    callable
        The same function; no NumPy warning leaves it.

    Raises
    ------
    Unrepresentable
        From the function returned.

    Examples
    --------
    >>> import numpy as np
    >>> @finite_results
    ... def product(A: Array, B: Array) -> Array:
    ...     return A @ B
    >>> product(np.full((1, 1), 1e200), np.full((1, 1), 1e200))
    Traceback (most recent call last):
        ...
    refpg.notation.Unrepresentable: product: the result overflows, expected A, B of smaller magnitude
    """
    arrays = _array_arguments(door)
    silent = np.errstate(all="ignore")(door)

    @functools.wraps(door)
    def checked(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        result = silent(*args, **kwargs)
        parts: Any = result if type(result) is tuple else (result,)
        for part in parts:
            if isinstance(part, np.ndarray | np.number | float) and not all_finite(np.asarray(part)):
                raise Unrepresentable(f"{door.__name__}: the result overflows, expected {arrays} of smaller magnitude")
        return result

    return checked


def _array_arguments(door: Callable[..., Any]) -> str:
    parameters = inspect.signature(door).parameters.values()
    required = (parameter for parameter in parameters if parameter.default is parameter.empty)
    return ", ".join(parameter.name for parameter in required if parameter.annotation in (Any, Array))
