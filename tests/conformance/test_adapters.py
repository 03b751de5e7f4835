"""Targets are found wherever they are, and what they declare is checked."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from refpg.conformance import adapters
from refpg.conformance.adapters import Adapter, TargetCrash, UsageError, resolve
from refpg.conformance.ops import OPS
from refpg.conformance.vectors import Axis, load

from . import synthetic

RIGHT = "import numpy as np\n\ndef ratio(old_log_prob, new_log_prob):\n    return np.exp(new_log_prob - old_log_prob)\n"


@pytest.fixture
def axes(tmp_path: Path) -> Mapping[str, Axis]:
    return load(synthetic.write(tmp_path / "data")).axes


def found(target: Any, axes: Mapping[str, Axis]) -> Adapter:
    return resolve(target, axes, ["float64", "float32"])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path / "elsewhere")])
    return tmp_path


def test_no_target_is_refpg_with_every_op_under_every_convention(axes: Mapping[str, Axis]) -> None:
    adapter = found(None, axes)
    assert set(adapter.functions) == set(OPS)
    assert adapter.under is not None


def test_a_file_is_a_target_and_sees_its_neighbours(here: Path, axes: Mapping[str, Axis], monkeypatch: Any) -> None:
    monkeypatch.setattr("sys.path", __import__("sys").path + _standard_path())
    (here / "neighbour_of_target.py").write_text("version = '7'\n")
    (here / "my_impl.py").write_text("from neighbour_of_target import version\n" + RIGHT)
    adapter = found("my_impl.py", axes)
    assert list(adapter.functions) == ["ratio"]
    assert (adapter.name, adapter.version) == ("my_impl.py", "7")


def _standard_path() -> list[str]:
    import numpy as np

    return [str(Path(np.__file__).parents[1])]


def test_a_class_in_a_file_is_instantiated(here: Path, axes: Mapping[str, Axis]) -> None:
    (here / "with_class.py").write_text(
        "class Mine:\n"
        "    name = 'mine'\n"
        "    def ratio(self, old_log_prob, new_log_prob):\n"
        "        return new_log_prob\n"
    )
    adapter = found("with_class.py:Mine", axes)
    assert adapter.name == "mine"
    assert adapter.functions["ratio"](old_log_prob=0, new_log_prob=5) == 5


def test_a_module_below_the_working_directory_is_a_target(here: Path, axes: Mapping[str, Axis]) -> None:
    (here / "some_package").mkdir()
    (here / "some_package" / "impl.py").write_text("class A:\n    class B:\n        ratio = abs\n")
    assert list(found("some_package.impl:A.B", axes).functions) == ["ratio"]


def test_objects_and_mappings_are_targets(axes: Mapping[str, Axis]) -> None:
    assert list(found({"ratio": abs, "name": "mine"}, axes).functions) == ["ratio"]
    assert list(found(SimpleNamespace(ratio=abs, helper=3), axes).functions) == ["ratio"]


def test_a_bundled_adapter_is_found_by_its_name(
    tmp_path: Path, axes: Mapping[str, Axis], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapters, "PEERS", tmp_path)
    (tmp_path / "_shared.py").write_text("")
    (tmp_path / "some_library.py").write_text("")
    assert adapters.bundled() == ["some-library"]
    with pytest.raises(UsageError, match="did you mean some-library"):
        found("some-librry", axes)


def test_a_module_named_like_an_op_is_not_an_answer(here: Path, axes: Mapping[str, Axis]) -> None:
    (here / "imports.py").write_text("from refpg import surrogate\nratio = abs\n")
    assert list(found("imports.py", axes).functions) == ["ratio"]


def test_functions_that_are_perhaps_misnamed_are_named(here: Path, axes: Mapping[str, Axis]) -> None:
    (here / "misnamed.py").write_text(
        "from difflib import get_close_matches as entropy_categoric\n"
        "notes = 'mine'\n"
        "unsupported = {'policy_kl': 'no tables'}\n"
        "class Surrogate: pass\n"
        "def ratio(old_log_prob, new_log_prob): pass\n"
        "def ratios(x): pass\n"
        "def log_prob_categoric(x): pass\n"
        "def _kl_categoric(x): pass\n"
        "def policy_loss(x): pass\n"
        "def make_policy(x): pass\n"
    )
    assert found("misnamed.py", axes).notes == (
        "mine",
        "not an op: log_prob_categoric (did you mean log_prob_categorical?)",
    )


def test_if_nothing_is_named_like_an_op_it_says_what_there_is(here: Path, axes: Mapping[str, Axis]) -> None:
    (here / "strange.py").write_text(
        "from difflib import get_close_matches\n"
        "def compute_gae(x): pass\n"
        "def clip_objective(x): pass\n"
        "class Mine:\n"
        "    def compute_gae(self): pass\n"
        "    @staticmethod\n"
        "    def losses(): pass\n"
        "class Heir(Mine):\n"
        "    def own(self): pass\n"
        "class Proxy:\n"
        "    @property\n"
        "    def __class__(self): raise RuntimeError('not yet')\n"
        "proxy = Proxy()\n"
    )
    (here / "nothing.py").write_text("x = 1\n")
    nothing = "none is named like an op: `refpg ops`"
    assert found("strange.py", axes).notes == (
        f"functions found: compute_gae, clip_objective; {nothing}",
        "not an op: clip_objective (did you mean clipped_objective?)",
    )
    assert found("strange.py:Mine", axes).notes == (f"functions found: compute_gae, losses; {nothing}",)
    assert found("strange.py:Heir", axes).notes == (f"functions found: own; {nothing}",)
    assert found("nothing.py", axes).notes == found({}, axes).notes == ()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("not_there.py", "no file"),
        ("not_there_either", "no module named 'not_there_either'"),
        ("json.not_there", "no module named 'json.not_there'"),
        ("json:dmups", "did you mean dump"),
        ("what is this?", "neither a .py file"),
        ({"raito": abs}, "did you mean ratio"),
        ({"ratio": 3}, "ratio is a int"),
        ({"unsupported": {"gea": "why"}}, "did you mean gae"),
        ({"unsupported": {"gae": " "}}, "no reason"),
        ({"unsupported": {"gae": None}}, "expected text"),
        ({"unsupported": ["gae"]}, "expected a mapping"),
        ({"ratio": abs, "unsupported": {"ratio": "why"}}, "cannot be both"),
        ({"conventions": {"kl.directoin": "new_old"}}, "did you mean kl.direction"),
        ({"conventions": {"kl.direction": "newold"}}, "expected old_new or new_old"),
        ({"conventions": {"advantage.ddof": 1}}, "expected text"),
        ({"dtype": "float63"}, "dtype 'float63' is unknown"),
        ({"dtype": {"gea": "float32"}}, "did you mean gae"),
        ({"dtype": 32}, "expected a mapping"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(target: Any, message: str, axes: Mapping[str, Axis]) -> None:
    with pytest.raises(UsageError, match=message):
        found(target, axes)


def test_a_library_that_is_not_installed_is_named(here: Path, axes: Mapping[str, Axis]) -> None:
    (here / "needs.py").write_text("import a_library_nobody_has\n")
    for target in ("needs.py", "needs"):
        with pytest.raises(UsageError, match="needs the module 'a_library_nobody_has'"):
            found(target, axes)


def test_a_target_that_crashes_while_loading_is_told_apart(here: Path, axes: Mapping[str, Axis]) -> None:
    (here / "crashes.py").write_text("1 / 0\n")
    (here / "quits.py").write_text("raise SystemExit(0)\n")
    for target in ("crashes.py", "crashes", "quits.py"):
        with pytest.raises(TargetCrash, match="crashes.py|quits.py"):
            found(target, axes)


def test_precisions_by_op(axes: Mapping[str, Axis]) -> None:
    adapter = found({"dtype": {"*": "float32", "gae": "float64"}}, axes)
    assert (adapter.dtype("gae"), adapter.dtype("ratio")) == ("float64", "float32")
    assert found({}, axes).dtype("gae") == "float64"


def test_notes_are_a_text_or_a_list(axes: Mapping[str, Axis]) -> None:
    assert found({"notes": "one"}, axes).notes == ("one",)
    assert found({"notes": ["one", "two"]}, axes).notes == ("one", "two")
