"""`refpg init` writes files that run at once, red until something is written; `refpg smoke` finds what is no answer."""

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import refpg.__main__ as command_line
from refpg.conformance import skeleton, smoke
from refpg.conformance.adapters import UsageError
from refpg.conformance.ops import OPS, PROFILES
from refpg.conformance.run import check
from refpg.conformance.signatures import legend
from refpg.conformance.vectors import RELEASE, load
from refpg.conformance.worker import Command

from . import synthetic

pytest_plugins = ["pytester"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# init


@pytest.mark.parametrize("profiles", [[], ["ppo"], ["estimators", "trpo"]])
def test_a_skeleton_names_every_op_of_its_profiles_with_its_signature(here: Path, profiles: list[str]) -> None:
    skeleton.start("begun", here, profiles)
    source = (here / "begun.py").read_text(encoding="utf-8")
    functions = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
    expected = [op for op in OPS if not profiles or OPS[op].profile in profiles]
    assert list(functions) == expected
    for op in expected:
        assert [argument.arg for argument in functions[op].args.args] == list(OPS[op].inputs)
        told = ast.get_docstring(functions[op]) or ""
        for name, kind in (*OPS[op].inputs.items(), *OPS[op].outputs.items()):
            assert any(
                line.split() == [*("→",) * line.strip().startswith("→"), name, *kind.split()]
                for line in told.splitlines()
            ), (op, name)
    assert max(map(len, source.splitlines())) <= 120


@pytest.mark.parametrize("profiles", [[], *([profile] for profile in PROFILES)])
def test_what_its_types_mean_is_said_at_its_head_and_by_ops(
    here: Path, profiles: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    skeleton.start("begun", here, profiles)
    head = (ast.get_docstring(ast.parse((here / "begun.py").read_text(encoding="utf-8"))) or "").splitlines()
    options = [word for profile in profiles for word in ("--profile", profile)]
    assert command_line.main(["ops", *options]) == 0
    printed = [line.strip() for line in capsys.readouterr().out.splitlines()]
    ops = [op for op in OPS.values() if not profiles or op.profile in profiles]
    told = [line.strip() for line in legend(ops)]
    first = printed.index(told[0])
    assert printed[first : first + len(told)] == told
    first = [line.strip() for line in head].index(told[0])
    assert [line.strip() for line in head[first : first + len(told)]] == told


def test_the_legend_explains_all_that_occurs_and_nothing_else() -> None:
    for op in OPS.values():
        types = " ".join([*op.inputs.values(), *op.outputs.values()])
        names, text = [line.split()[0] for line in legend([op])], " ".join(" ".join(legend([op])).split())
        for kind in ("policy", "parameters", "actions[B]", "int[M][*]"):
            assert (kind in names) == (kind in types), (op.name, kind)
        assert ("network" in names) == ("activation" in names) == bool({"network", "policy"} & set(types.split()))
        said = {meaning[:1] for meaning in text.partition("equal lengths: ")[2].split("; ")} - {""}
        inside = {letter for group in re.findall(r"\[([A-Z, ]+)\]", types) for letter in group.split(", ")}
        assert said == inside | ({"A"} if "actions[" in types else set()), op.name


def test_a_skeleton_is_judged_at_once_and_answers_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["init", "begun", "--profile", "ppo"]) == 0
    assert command_line.main(["check", "begun.py", "--profile", "ppo"]) == 4
    assert "cases: not written yet" in capsys.readouterr().out
    assert command_line.main(["smoke", "begun.py", "--profile", "ppo"]) == 4
    assert "skipped  ratio" in capsys.readouterr().out


def test_its_conventions_can_be_uncommented(here: Path) -> None:
    skeleton.start("begun", here)
    path = here / "begun.py"
    path.write_text(path.read_text(encoding="utf-8").replace('    # "', '    "'), encoding="utf-8")
    assert check("begun.py", only="ratio").adapter.conventions["kl.direction"] == "old_new"


def test_its_tests_run_at_once_and_are_red_until_something_is_written(pytester: pytest.Pytester) -> None:
    skeleton.start("begun", pytester.path, ["ppo"])
    result = pytester.runpytest_subprocess("-p", "refpg.conformance.pytest_plugin")
    assert set(result.parseoutcomes()) == {"skipped", "failed"}
    assert result.parseoutcomes()["failed"] == 1
    result.stdout.fnmatch_lines(
        ["nothing was executed, so nothing is known*", "Write one of the functions*such as ratio*"]
    )
    path = pytester.path / "begun.py"
    source = path.read_text(encoding="utf-8")
    unwritten = '    raise NotImplementedError("not written yet")\n'
    written = source.replace(unwritten, "    return np.exp(new_log_prob - old_log_prob)\n", 1)
    path.write_text(f"import numpy as np\n{written}", encoding="utf-8")
    result = pytester.runpytest_subprocess("-p", "refpg.conformance.pytest_plugin")
    assert set(result.parseoutcomes()) == {"skipped", "passed"}
    assert RELEASE in (pytester.path / "test_begun.py").read_text(encoding="utf-8")


def test_nothing_is_replaced(here: Path) -> None:
    (here / "test_begun.py").write_text("mine\n")
    with pytest.raises(UsageError, match="test_begun.py is there already; nothing was written"):
        skeleton.start("begun", here)
    assert [path.name for path in here.iterdir()] == ["test_begun.py"]
    assert (here / "test_begun.py").read_text() == "mine\n"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("3d", "cannot be the name of a module"),
        ("class", "cannot be the name of a module"),
        ("a/b", "cannot be the name of a module"),
        ("json", "there is a module json already.*try json_refpg"),
        ("numpy", "there is a module numpy already"),
    ],
)
def test_a_name_that_would_hide_or_break_something_is_refused(here: Path, name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        skeleton.start(name, here)
    assert not list(here.iterdir())


def test_an_unknown_profile_is_refused_with_the_known_ones(here: Path) -> None:
    with pytest.raises(UsageError, match=f"there are {', '.join(PROFILES)}"):
        skeleton.start("begun", here, ["pop"])


def test_what_is_written_is_clean(here: Path) -> None:
    pytest.importorskip("ruff")
    skeleton.start("begun", here)
    config = str(Path(command_line.__file__).parents[1] / "pyproject.toml")
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--config", config, "."]
    done = subprocess.run(command, capture_output=True, text=True, cwd=here, check=False)
    assert done.returncode == 0, done.stdout


# smoke


def complaints(target: Any, tmp_path: Path) -> dict[str, tuple[str, ...]]:
    return {one.name: one.complaints for one in smoke.smoke(target, data=synthetic.write(tmp_path / "data"))}


def test_what_is_well_formed_passes_however_wrong_it_is(tmp_path: Path) -> None:
    assert complaints({"ratio": lambda old_log_prob, new_log_prob: 0 * new_log_prob}, tmp_path) == {"ratio": ()}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda y: y[:, None], "ratio has shape (7, 1), expected (7,) (float[B], B = 7)"),
        (lambda y: y.mean(), "ratio has shape (), expected (7,)"),
        (lambda y: np.where(y > 1, np.nan, y), "entries that are not finite"),
        (lambda y: y + np.random.default_rng().normal(), "two calls on the same inputs differ in ratio"),
        (lambda y: [str(x) for x in y], "expected real numbers"),
        (lambda y: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_what_is_not_is_complained_about(spoil: Any, words: str, tmp_path: Path) -> None:
    adapter = {"ratio": lambda old_log_prob, new_log_prob: spoil(np.exp(new_log_prob - old_log_prob))}
    ((name, (complaint, *_)),) = complaints(adapter, tmp_path).items()
    assert name == "ratio"
    assert words in complaint


def test_changed_inputs_are_complained_about_though_the_form_is_right(tmp_path: Path) -> None:
    def ratio(old_log_prob: Any, new_log_prob: Any) -> Any:
        new_log_prob -= old_log_prob
        return np.exp(new_log_prob)

    (complaint,) = complaints({"ratio": ratio}, tmp_path)["ratio"]
    assert "changes its inputs, which belong to the caller: new_log_prob" in complaint


def test_a_refusal_is_no_complaint(tmp_path: Path) -> None:
    def ratio(old_log_prob: Any, new_log_prob: Any) -> Any:
        raise NotImplementedError("needs a GPU")

    (one,) = smoke.smoke({"ratio": ratio}, data=synthetic.write(tmp_path))
    assert (one.passed, one.skipped) == (True, "needs a GPU")


ECHOES = {
    "as it should": ("values", None),
    "six digits": ("[float(f'{y:g}') for y in values]", "0.3333333333333333 came back as 0.333333"),
    "seventeen digits": ("[float(f'{y:.17g}') for y in values]", None),
    "single precision": (
        "[struct.unpack('f', struct.pack('f', min(max(y, -1e38), 1e38)))[0] for y in values]",
        "0.1 came back as 0.10000000149011612",
    ),
    "sorted": ("sorted(values)", "came back as"),
    "one too few": ("values[1:]", "13 numbers were sent, an array of shape (12,) came back"),
    "a text": ("'values'", "'values'"),
    "nothing": ("None", "came back"),
}


@pytest.mark.parametrize("how", ECHOES)
def test_numbers_are_sent_to_and_fro(how: str, tmp_path: Path) -> None:
    expression, words = ECHOES[how]
    (tmp_path / "worker.py").write_text(
        "import json, struct, sys\n"
        "for line in sys.stdin:\n"
        "    request = json.loads(line)\n"
        "    reply = {'kind': 'hello', 'id': 0, 'protocol': 1, 'name': 'echo', 'ops': ['echo']}\n"
        "    if request['kind'] == 'run':\n"
        "        values = request['inputs']['values']\n"
        f"        reply = {{'kind': 'result', 'id': request['id'], 'outputs': {{'values': {expression}}}}}\n"
        "    if request['kind'] != 'bye':\n"
        "        print(json.dumps(reply), flush=True)\n"
    )
    found = complaints(Command((sys.executable, str(tmp_path / "worker.py"))), tmp_path)["echo"]
    if words is None:
        assert found == ()
    else:
        assert any(words in complaint for complaint in found), found


def test_a_python_worker_echoes_faithfully(tmp_path: Path) -> None:
    (tmp_path / "begun.py").write_text("def ratio(old_log_prob, new_log_prob):\n    return new_log_prob\n")
    assert complaints(str(tmp_path / "begun.py"), tmp_path) == {"echo": (), "ratio": ()}


def test_the_exit_code_counts_operations_not_echoes() -> None:
    good, bad = smoke.Smoke("ratio", "ratio/five", ()), smoke.Smoke("ratio", "ratio/five", ("no",))
    refused, echo = smoke.Smoke("ratio", "ratio/five", (), "why"), smoke.Smoke("echo", "", ())
    assert [smoke.exit_code(found) for found in ([good], [good, bad], [echo, refused], [])] == [0, 3, 4, 4]
    text = "\n".join(smoke.lines([echo, bad]))
    assert "BAD      ratio" in text
    assert text.endswith("1 asked twice · 0 well-formed and repeatable · 1 not          exit 3")


def test_this_installation_passes() -> None:
    found = smoke.smoke()
    judged = load().cases
    assert [one.name for one in found] == [op for op in OPS if op in judged]
    assert all(one.passed for one in found)
