"""Adapters of real libraries, one module per library; each calls the library's own functions through real objects.

An adapter only carries numbers in and out: it builds the library's object, puts the inputs of the operation into it,
runs the library's own code and reads what that code computed.  It never repeats what the library computes.  Of a
library that has no objectives (torch, JAX) the derivatives are judged: there the adapter writes the published
objective in the library's functions, and the library differentiates it.  What a library does not have is listed in
the adapter's ``unsupported``, with the reason; what the adapter holds still (a random draw, the order of the rows) is
said in its ``notes``.

The libraries are imported only inside these modules, which nothing imports until their name is asked for.
"""

PACKAGES = {
    "curvlinops": "torch torchvision curvlinops-for-pytorch",
    "distrax": "distrax",
    "jax": "jax",
    "optax": "optax",
    "rlax": "rlax",
    "sb3-contrib": "sb3-contrib",
    "stable-baselines3": "stable-baselines3",
    "torch": "torch",
    "torchrl": "torchrl",
}
"""What ``pip install`` is given for each adapter."""
