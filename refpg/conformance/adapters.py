"""What is judged: a module, object or mapping with functions named like the ops of the contract.

Everything is optional.  Besides functions, an adapter may hold::

    unsupported = {"trpo_step": "no line search in this library"}    op → reason
    conventions = {"kl.direction": "new_old"}                        axis → value
    dtype = "float32"      or {"*": "float64", "gae": "float32"}     precision of the answers, to be judged by
    name, version          what the report calls it
    notes = ["the advantages are those of the rollout buffer"]       printed with the result

A function is called with the inputs of the op as keywords (float arrays in the dtype declared) and returns its
outputs: a mapping, or the bare value where the op has one output.  It may raise ``NotImplementedError(reason)`` for a
case it cannot answer, which then counts as declared unsupported.
"""

import difflib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from refpg.conformance.ops import OPS
from refpg.conformance.peers import PACKAGES
from refpg.conformance.vectors import Axis, Case
from refpg.conformance.verdicts import Reply, call

PEERS = Path(__file__).parent / "peers"

_ATTRIBUTES = ("unsupported", "conventions", "dtype", "name", "version", "notes")
_MISNAMED = 0.75  # closer to an op than helpers are: policy_loss is near policy_kl, make_policy is not
_SHOWN = 8

Functions = Mapping[str, Callable[..., Any]]


class UsageError(ValueError):
    """A request that makes no sense: an unknown name, a target that is not there, a contradictory declaration."""


class TargetCrash(RuntimeError):
    """The target failed while it was loaded; the message is its traceback, or how its process ended."""


@dataclass(frozen=True)
class Adapter:
    """A target, resolved and checked.

    Fields: ``target`` is what was asked for; ``name`` and ``version`` what the report calls it; ``ops`` it answers;
    ``unsupported`` op → reason; ``conventions`` axis → value, as declared; ``dtypes`` op or ``"*"`` → precision;
    ``notes`` are printed with the result.  It answers in one of three ways: by the ``functions`` of this process, by
    op; ``under`` gives the functions for any conventions, where the target can answer under all of them (refpg
    itself); ``ask`` is a worker's: from a case and a dtype to what came of it.  Of a worker that offers it, ``echo``
    returns the numbers it is given.
    """

    target: str
    name: str
    version: str
    ops: tuple[str, ...]
    unsupported: Mapping[str, str]
    conventions: Mapping[str, str]
    dtypes: Mapping[str, str]
    notes: tuple[str, ...]
    functions: Functions = field(default_factory=dict)
    under: Callable[[Mapping[str, str]], Functions] | None = None
    ask: Callable[[Case, str], Reply] | None = None
    echo: Callable[[Sequence[float]], Any] | None = None

    def dtype(self, op: str) -> str:
        """Return the precision by which the op's answers are judged."""
        return self.dtypes.get(op, self.dtypes.get("*", "float64"))

    def reply(self, case: Case, conventions: Mapping[str, str] | None = None) -> Reply:
        """Return what comes of a case; the value of every axis is for a target that answers ``under`` all of them."""
        if self.ask is not None:
            return self.ask(case, self.dtype(case.op))
        functions = self.under(conventions) if self.under is not None and conventions is not None else self.functions
        return call(case.op, functions[case.op], case.inputs, case.shapes, self.dtype(case.op))


def resolve(target: Any, axes: Mapping[str, Axis], dtypes: Iterable[str]) -> Adapter:
    """Find what is to be judged, and check what it declares.

    Parameters
    ----------
    target : None, str, or any object
        None is refpg itself.  A string is the path of a ``.py`` file, a module such as ``package.module``, either of
        them with ``:Object``, or the name of a bundled adapter.  Any other object is the adapter; a class is called.
    axes : mapping
        The known convention axes.
    dtypes : iterable of str
        The known precisions.

    Returns
    -------
    Adapter

    Raises
    ------
    UsageError
        If the target is not there, or declares an op, axis, value or precision that does not exist.
    TargetCrash
        If it raises while it is loaded.
    """
    if target is None:
        return _refpg(axes)
    label = target if isinstance(target, str) else getattr(target, "__name__", type(target).__name__)
    found = _load(target) if isinstance(target, str) else target
    if isinstance(found, type):
        found = _guarded(label, found)
    return _read(label, found, axes, set(dtypes))


def bundled() -> list[str]:
    """Return the names of the adapters shipped with refpg, as they are typed."""
    return sorted(path.stem.replace("_", "-") for path in PEERS.glob("*.py") if not path.stem.startswith("_"))


def nearest(word: str, known: Iterable[str], *, most: int = 3, cutoff: float = 0.6) -> str:
    """Return `` (did you mean …?)``, or nothing if no known word is close."""
    close = difflib.get_close_matches(word, list(known), n=most, cutoff=cutoff)
    return f" (did you mean {' or '.join(close)}?)" if close else ""


def _refpg(axes: Mapping[str, Axis]) -> Adapter:
    import refpg
    from refpg.conformance import reference

    defaults = {name: axis.default for name, axis in axes.items()}
    return Adapter(
        target="refpg",
        name="refpg",
        version=refpg.__version__,
        ops=tuple(OPS),
        unsupported={},
        conventions={},
        dtypes={},
        notes=(),
        functions=reference.answers(defaults),
        under=reference.answers,
    )


def _load(target: str) -> Any:
    place, _, attribute = target.partition(":")
    if target.endswith(".py") or place.endswith(".py"):
        module = _import_file(target, Path(place))
    elif not attribute and place in bundled() + [name.replace("-", "_") for name in bundled()]:
        module = _import_bundled(target, place.replace("_", "-"))
    else:
        module = _import_module(target, place)
    found = module
    for part in attribute.split(".") if attribute else ():
        if not hasattr(found, part):
            public = [name for name in vars(found) if not name.startswith("_")] if hasattr(found, "__dict__") else []
            raise UsageError(f"{target}: {place} has no attribute {part!r}{nearest(part, public)}")
        found = getattr(found, part)
    return found


def _import_file(target: str, path: Path) -> Any:
    if not path.is_file():
        raise UsageError(f"{target}: there is no file {path}")
    spec = importlib.util.spec_from_file_location(f"refpg_target_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{target}: {path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickling look their module up
    _see(path.resolve().parent)
    loader = spec.loader
    _guarded(target, lambda: loader.exec_module(module))
    return module


def _import_module(target: str, name: str) -> Any:
    if not all(part.isidentifier() for part in name.split(".")):
        known = ", ".join(bundled()) or "none"
        raise UsageError(
            f"{target}: neither a .py file, nor a module, nor a bundled adapter (bundled: {known})"
            f"{nearest(target, bundled())}"
        )
    _see(Path(os.getcwd()))
    try:
        return _guarded(target, lambda: importlib.import_module(name))
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            known = ", ".join(bundled()) or "none"
            raise UsageError(
                f"{target}: no module named {error.name!r}, and no bundled adapter of that name (bundled: {known})"
                f"{nearest(target, bundled())}"
            ) from None
        raise


def _import_bundled(target: str, name: str) -> Any:
    """Import a bundled adapter; where its library is missing, say how it is installed."""
    try:
        return importlib.import_module(f"refpg.conformance.peers.{name.replace('-', '_')}")
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{target}: it needs the module {error.name!r}, which is not installed; pip install {PACKAGES[name]}"
        ) from None
    except (Exception, SystemExit):
        raise TargetCrash(f"{target}: an exception while it was loaded\n{traceback.format_exc()}") from None


def _see(folder: Path) -> None:
    """Let the target import what lies beside it, as if it were run as a script."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _guarded(target: str, load: Callable[[], Any]) -> Any:
    """Call code of the target; a missing library is the caller's business, all else is a crash of the target."""
    try:
        return load()
    except ModuleNotFoundError as error:
        name = target.partition(":")[0]
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise
        raise UsageError(f"{target}: it needs the module {error.name!r}, which is not installed") from None
    except (Exception, SystemExit):
        raise TargetCrash(f"{target}: an exception while it was loaded\n{traceback.format_exc()}") from None


def _read(label: str, found: Any, axes: Mapping[str, Axis], dtypes: set[str]) -> Adapter:
    if isinstance(found, Mapping):
        known = (*OPS, *_ATTRIBUTES)
        for key in found:
            if key not in known:
                raise UsageError(f"{label}: {key!r} is not an op{nearest(str(key), known)}")
        members = dict(found)
    else:
        members = {name: getattr(found, name) for name in (*OPS, *_ATTRIBUTES) if hasattr(found, name)}
    # A module may import one that is called like an op, such as `surrogate`.
    functions = {op: members[op] for op in OPS if op in members and not isinstance(members[op], ModuleType)}
    for op, function in functions.items():
        if not callable(function):
            raise UsageError(f"{label}: {op} is a {type(function).__name__}, expected a function")
    adapter = declared(label, tuple(functions), members, axes, dtypes)
    notes = (*adapter.notes, *_passed_over(_own_functions(found), adapter))
    return replace(adapter, functions=functions, notes=notes)


def _own_functions(found: Any) -> list[str]:
    """Return the public functions that a target defines itself, not those it imports or inherits."""
    if isinstance(found, ModuleType):
        named, home = vars(found), found.__name__
    else:
        named, home = vars(type(found)), type(found).__module__
    return [name for name, value in named.items() if not name.startswith("_") and _is_function_of(home, value)]


def _is_function_of(home: str, value: Any) -> bool:
    try:
        is_function = not isinstance(value, type) and (callable(value) or isinstance(value, staticmethod | classmethod))
        return is_function and getattr(value, "__module__", None) == home
    except Exception:  # a proxy that cannot be looked at yet
        return False


def _passed_over(own: Sequence[str], adapter: Adapter) -> list[str]:
    """Say which functions are perhaps ops under another name, and what there is if there is no op at all."""
    others = [name for name in own if name not in OPS]
    free = [op for op in OPS if op not in adapter.ops and op not in adapter.unsupported]
    notes = []
    if others and not adapter.ops:
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        notes.append(f"functions found: {', '.join(others[:_SHOWN])}{more}; none is named like an op: `refpg ops`")
    guesses = {name: nearest(name, free, most=1, cutoff=_MISNAMED) for name in others}
    return [*notes, *(f"not an op: {name}{guess}" for name, guess in guesses.items() if guess)]


def declared(
    label: str, ops: tuple[str, ...], members: Mapping[str, Any], axes: Mapping[str, Axis], dtypes: Iterable[str]
) -> Adapter:
    """Check what a target declares of itself.

    Parameters
    ----------
    label : str
        What was asked for; named in the messages.
    ops : tuple of str
        The ops it answers.
    members : mapping
        ``unsupported``, ``conventions``, ``dtype``, ``name``, ``version`` and ``notes``, each optional.
    axes, dtypes
        As in `resolve`.

    Returns
    -------
    Adapter
        Without a way to answer.

    Raises
    ------
    UsageError
        If it declares an op, axis, value or precision that does not exist, or contradicts itself.
    """
    unsupported = _mapping(label, "unsupported", members.get("unsupported", {}))
    for op, reason in unsupported.items():
        if op not in OPS:
            raise UsageError(f"{label}: unsupported names {op!r}, which is not an op{nearest(op, OPS)}")
        if op in ops:
            raise UsageError(f"{label}: {op} is implemented and declared unsupported; it cannot be both")
        if not reason.strip():
            raise UsageError(f"{label}: unsupported[{op!r}] gives no reason")
    notes = members.get("notes", ())
    if not isinstance(notes, str | list | tuple):
        raise UsageError(f"{label}: notes is a {type(notes).__name__}, expected texts")
    return Adapter(
        target=label,
        name=_word(members.get("name"), label),
        version=_word(members.get("version"), ""),
        ops=ops,
        unsupported=unsupported,
        conventions=_conventions(label, members.get("conventions", {}), axes),
        dtypes=_dtypes(label, members.get("dtype", "float64"), set(dtypes)),
        notes=(notes,) if isinstance(notes, str) else tuple(str(note) for note in notes),
    )


def _word(value: Any, default: str) -> str:
    return value if isinstance(value, str) and value else default


def _mapping(label: str, attribute: str, value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{label}: {attribute} is a {type(value).__name__}, expected a mapping")
    for key, text in value.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise UsageError(f"{label}: {attribute}[{key!r}] is {text!r}, expected text")
    return dict(value)


def _conventions(label: str, declared: Any, axes: Mapping[str, Axis]) -> dict[str, str]:
    for axis, value in _mapping(label, "conventions", declared).items():
        if axis not in axes:
            raise UsageError(
                f"{label}: {axis!r} is not a convention axis{nearest(axis, axes)}; the axes are {', '.join(axes)}"
            )
        if value not in axes[axis].values:
            raise UsageError(f"{label}: {axis} = {value!r} is unknown, expected {' or '.join(axes[axis].values)}")
    return dict(declared)


def _dtypes(label: str, declared: Any, known: set[str]) -> dict[str, str]:
    named = {"*": declared} if isinstance(declared, str) else _mapping(label, "dtype", declared)
    for op, dtype in named.items():
        if op != "*" and op not in OPS:
            raise UsageError(f"{label}: dtype names {op!r}, which is not an op{nearest(op, OPS)}")
        if dtype not in known:
            raise UsageError(f"{label}: dtype {dtype!r} is unknown, expected {' or '.join(sorted(known))}")
    return named
