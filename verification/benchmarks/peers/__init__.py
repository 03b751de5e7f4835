"""One implementation a file.  Each has a ``version()`` and ``calls``: for each operation a function from a
problem to a `Call`.  Whatever an implementation can do beforehand, such as copying the inputs, it does before the call.
"""

from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

from refpg.notation import Array

REFERENCE = "reference"
TITLES = {
    REFERENCE: "refpg",
    "torch_double_backward": "torch",
    "torch_func": "torch.func",
    "jax_jit": "JAX jit",
    "curvlinops": "curvlinops",
    "backpack": "BackPACK",
    "stable_baselines3": "stable-baselines3",
    "sb3_contrib": "sb3-contrib",
}
NAMES = tuple(TITLES)


class Call(NamedTuple):
    """An operation, ready to be timed.

    Fields: ``run`` does it, and nothing else; ``read`` turns what it returns into refpg's answer, an array, and is not
    timed; ``differs`` says where it computes something else, and ``tolerance`` how far that may lead, if not as near
    as the operation asks.
    """

    run: Callable[[], Any]
    read: Callable[[Any], Array]
    differs: str = ""
    tolerance: float | None = None


def installed() -> tuple[dict[str, ModuleType], dict[str, str]]:
    """Return the implementations that can be imported, and of the others why not."""
    there, missing = {}, {}
    for name, title in TITLES.items():
        try:
            there[name] = import_module(f"{__name__}.{name}")
        except ImportError as error:
            missing[title] = f"not installed: {error}"
    return there, missing
