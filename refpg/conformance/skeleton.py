"""An adapter to fill in, and the test file that judges it: ``refpg init NAME``.

Both run at once, and are red until a function is written: nothing that was not judged is green.
"""

import importlib.util
import keyword
import textwrap
from collections.abc import Sequence
from pathlib import Path

from refpg.conformance.adapters import UsageError
from refpg.conformance.ops import OPS, Op
from refpg.conformance.run import ops_of
from refpg.conformance.signatures import legend
from refpg.conformance.vectors import RELEASE, Axis, load
from refpg.files import write_whole

_WIDTH = 100


def start(name: str, folder: Path, profiles: Sequence[str] = ()) -> list[Path]:
    """Write an adapter skeleton and its test file, if neither is there.

    Parameters
    ----------
    name : str
        Of the module; the files are ``name.py`` and ``test_name.py``.
    folder : Path
        Where they are written.
    profiles : sequence of str
        Groups of ops; all of them unless given.

    Returns
    -------
    list of Path
        The two files.

    Raises
    ------
    UsageError
        If the name is no module's or another module's, or one of the files exists.
    """
    if not name.isidentifier() or keyword.iskeyword(name):
        raise UsageError(f"init: {name!r} cannot be the name of a module, expected e.g. my_ppo")
    ops = ops_of(profiles)
    paths = {folder / f"{name}.py": adapter(name, ops, profiles), folder / f"test_{name}.py": suite(name, profiles)}
    for path in paths:
        if path.exists() or path.is_symlink():
            raise UsageError(f"init: {path.name} is there already; nothing was written")
    if importlib.util.find_spec(name) is not None:
        raise UsageError(f"init: there is a module {name} already, which {name}.py would hide; try {name}_refpg")
    for path, text in paths.items():
        write_whole(path, text.encode())
    return list(paths)


def adapter(name: str, ops: Sequence[str], profiles: Sequence[str] = ()) -> str:
    """Return the source of an adapter that answers nothing yet.

    Parameters
    ----------
    name : str
        Of the module.
    ops : sequence of str
        What it is to answer.
    profiles : sequence of str
        By which that was chosen.

    Returns
    -------
    str
        Python.
    """
    axes = load(ops=()).axes
    used = [axis for axis in axes if any(axis in OPS[op].conventions for op in ops)]
    asked = " ".join([f"{name}.py", *(f"--profile {profile}" for profile in profiles)])
    pytest = f"{f'test_{name}.py':<{len(asked) + 5}}"
    types = "\n".join(f"    {line}" for line in legend(OPS[op] for op in ops))
    return (
        f'''"""What refpg judges: write the functions in any order, and delete those you do not have.

    refpg smoke {asked}     forms and repeatability, before any mathematics
    refpg check {asked}     the judgement
    pytest {pytest}     the same, one test for each certified vector

Inputs are keywords: NumPy arrays of the dtype below, scalars, and mappings of them:

{types}

Return an array or tensor of any library, or {{"name": ...}} of several outputs.
Objectives are maximised, losses minimised; a mean is over rows.
"""

name = "{name}"
dtype = "float64"  # or {{"*": "float64", "gae": "float32"}}: the precision of the answers

# Where you differ from the defaults, deliberately; other certified values apply then.
conventions = {{
{"".join(_axis(axis, axes[axis]) for axis in used)}}}

# Op → reason, for what your library has not: {{"trpo_step": "no line search"}}
unsupported = {{}}
'''
        + "".join(_function(OPS[op]) for op in ops)
    )


def suite(name: str, profiles: Sequence[str]) -> str:
    """Return the source of the test file.

    Parameters
    ----------
    name : str
        Of the adapter's module, which lies beside it.
    profiles : sequence of str
        What is judged; everything, if empty.

    Returns
    -------
    str
        Python.
    """
    asked = f", profile={list(profiles)!r}".replace("'", '"') if profiles else ""
    return f'''"""One test for each certified vector of a pinned release."""

from refpg.conformance.testing import vectors

import {name}


# A known failure is excused by waive={{"gae/...": Waiver("why", issue="#7", expires="2026-12-31")}}.
@vectors({name}{asked}, vectors="{RELEASE}")
def test_{name}():
    """Every certified case; what is not written yet is skipped."""
'''


def _axis(name: str, axis: Axis) -> str:
    others = " or ".join(value for value in axis.values if value != axis.default)
    entry = f'    # "{name}": "{axis.default}",  # or {others}'
    lines = textwrap.wrap(entry, _WIDTH, subsequent_indent="    #     ", break_on_hyphens=False)
    return f"    # {axis.title}\n" + "".join(f"{line}\n" for line in lines)


def _function(op: Op) -> str:
    width = max(map(len, [*op.inputs, *op.outputs])) + 2
    summary = textwrap.fill(f"{op.summary}  {op.source}", _WIDTH - 7, subsequent_indent="    ")
    signature = f"def {op.name}({', '.join(op.inputs)}):"
    if len(signature) > _WIDTH:
        arguments = "".join(f"    {name},\n" for name in op.inputs)
        signature = f"def {op.name}(\n{arguments}):"
    lines = [f"    {name:<{width}} {kind}" for name, kind in op.inputs.items()]
    lines += [f"    → {name:<{width - 2}} {kind}" for name, kind in op.outputs.items()]
    if op.conventions:
        lines += [f"    conventions: {', '.join(op.conventions)}"]
    table = "\n".join(lines)
    return f'''

{signature}
    """{summary}

{table}
    """
    raise NotImplementedError("not written yet")
'''
