"""A run counts everything, its exit code says how it ended, and its reports are whole."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import refpg.__main__ as command_line
from refpg.conformance import explanations, presets, report, vectors
from refpg.conformance.adapters import UsageError
from refpg.conformance.laws import LAWS
from refpg.conformance.ops import OPS
from refpg.conformance.run import Run, check
from refpg.conformance.verdicts import Verdict

from . import synthetic


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return synthetic.write(tmp_path / "data")


def from_vectors(data: Path, conventions: Mapping[str, str]) -> dict[str, Any]:
    """An adapter that is always right, because it looks the answer up."""
    known = vectors.load(data)

    def look_up(op: str) -> Any:
        def answer(**inputs: Any) -> Any:
            for case in known.cases[op]:
                if repr(plain(case.inputs)) == repr(plain(inputs)):
                    axes = OPS[op].conventions
                    expected = case.under({axis: value for axis, value in conventions.items() if axis in axes})
                    assert expected is not None
                    return nested({path: leaf.value.copy() for path, leaf in expected.outputs.items()})
            raise LookupError(op)

        return answer

    return {op: look_up(op) for op in known.cases} | {"conventions": dict(conventions)}


def plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, tuple | list) else value


def nested(leaves: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    for path, value in leaves.items():
        name, _, rest = path.partition(".layers[")
        if rest:
            layers = answer.setdefault(name, {"layers": []})["layers"]
            index, _, letter = rest.partition("].")
            layers += [{}] * (int(index) + 1 - len(layers))
            layers[int(index)] = layers[int(index)] | {letter: value}
        else:
            answer[name] = value
    return answer


def spoiled(data: Path, spoil: Any) -> dict[str, Any]:
    """The same, with something done to each float output."""

    def around(function: Any) -> Any:
        def answer(**inputs: Any) -> Any:
            right = function(**inputs)
            return {name: spoil(value) if isinstance(value, np.ndarray) else value for name, value in right.items()}

        return answer

    adapter = from_vectors(data, {})
    return {op: around(adapter[op]) for op in ("ratio", "td_errors", "mean_kl")}


def codes(run: Run) -> tuple[int, dict[str, int]]:
    return run.exit_code, {name: count for name, count in run.counts().items() if count}


# Miniature adapters.


def test_always_right_is_green(data: Path) -> None:
    run = check(from_vectors(data, {}), data=data)
    assert codes(run) == (0, {"in_profile": 7, "executed": 7, "conforms": 7})
    assert run.worst_conforming == 0.0


@pytest.mark.parametrize(
    "spoil",
    [
        lambda y: y * np.nan,
        lambda y: y.T if y.ndim == 2 else y[::-1] if y.ndim else -y,
        lambda y: y[..., None],
        lambda y: y.reshape(-1, 1),
        lambda y: np.abs(y) + 1,
    ],
)
def test_always_spoiled_is_red_everywhere(data: Path, spoil: Any) -> None:
    run = check(spoiled(data, spoil), data=data, profiles=["estimators", "ppo"])
    assert codes(run) == (1, {"in_profile": 5, "executed": 5, "wrong": 5})


def test_crashing_is_the_harness_s_exit_code(data: Path) -> None:
    def crash(**inputs: Any) -> Any:
        raise ZeroDivisionError

    adapter = from_vectors(data, {}) | {"ratio": crash}
    assert codes(check(adapter, data=data))[0] == 3
    adapter["td_errors"] = lambda **inputs: np.zeros((4, 3))  # wrong as well
    assert codes(check(adapter, data=data))[0] == 3


def test_missing_ops_are_counted_and_named_once(data: Path) -> None:
    adapter = from_vectors(data, {})
    del adapter["td_errors"]
    run = check(adapter, data=data)
    assert codes(run) == (0, {"in_profile": 7, "executed": 4, "conforms": 4, "undeclared": 3})
    lines = list(report.terminal(run))
    place = lines.index("UNDECLARED 3 cases: neither implemented nor declared unsupported")
    assert lines[place + 1].split() == ["td_errors"]
    assert "3 undeclared (1 ops)" in report.summary(run)


def test_unsupported_is_counted_with_its_reason(data: Path) -> None:
    adapter = from_vectors(data, {})
    del adapter["td_errors"]
    run = check(adapter | {"unsupported": {"td_errors": "not in this library"}}, data=data)
    assert codes(run) == (0, {"in_profile": 7, "executed": 4, "conforms": 4, "unsupported": 3})
    assert any("not in this library" in line for line in report.terminal(run))


def test_nothing_executed_is_not_green(data: Path) -> None:
    assert codes(check({}, data=data)) == (4, {"in_profile": 7, "undeclared": 7})
    assert check({"unsupported": dict.fromkeys(OPS, "everything")}, data=data).exit_code == 4
    assert check({}, data=data, profiles=["distributions"]).exit_code == 4


def test_a_case_that_tells_nothing_in_the_dtype_is_counted(tmp_path: Path) -> None:
    files = synthetic.release()
    files["ratio"][0]["resolves"] = ["float64"]
    data = synthetic.write(tmp_path, files)
    adapter = from_vectors(data, {}) | {"dtype": "float32"}
    run = check(adapter, data=data, only="ratio")
    assert codes(run) == (0, {"in_profile": 2, "executed": 1, "conforms": 1, "not_resolved": 1})
    assert check(adapter, data=data, only="ratio", dtype="float64").counts()["executed"] == 2


def test_stability_cases_are_asked_for_by_name_and_of_refpg_itself(tmp_path: Path) -> None:
    files = synthetic.release()
    files["ratio"][0]["stability"] = True
    data = synthetic.write(tmp_path / "data", files)
    adapter = {"ratio": synthetic.ratio}
    left_out = check(adapter, only="ratio", data=data)
    assert (left_out.counts()["not_asked"], left_out.counts()["executed"]) == (1, 1)
    assert "1 stability cases not asked for" in report.summary(left_out)
    assert check(adapter, only="ratio", stability=True, data=data).counts()["executed"] == 2
    assert check(only="ratio", data=data).counts()["executed"] == 2


def test_an_explanation_is_told_in_full_once_and_summed_up_at_the_end(data: Path) -> None:
    run = check({"ratio": lambda old_log_prob, new_log_prob: np.exp(old_log_prob - new_log_prob)}, data=data)
    lines = list(report.terminal(run))
    assert sum("equal the answer of `ratio-inverted`" in line for line in lines) == 1
    assert sum("`ratio-inverted` again" in line for line in lines) == 1
    (finding,) = [i for i, line in enumerate(lines) if line.startswith("FINDING")]
    assert "`ratio-inverted`: " in lines[finding]
    assert "2 answers of 1 op: ratio" in lines[finding + 1]
    assert lines[-1] == report.summary(run)


def test_no_expected_value_under_the_declared_conventions_is_counted(data: Path) -> None:
    run = check(from_vectors(data, {"kl.direction": "new_old"}), data=data)
    assert codes(run) == (0, {"in_profile": 7, "executed": 6, "conforms": 6, "no_expected": 1})
    assert "1 without an expected value" in report.summary(run)


def test_declaring_a_default_changes_nothing(data: Path) -> None:
    adapter = from_vectors(data, {}) | {"conventions": {"kl.direction": "old_new"}}
    assert check(adapter, data=data).counts()["conforms"] == 7


def test_refpg_is_checked_under_every_convention(data: Path) -> None:
    run = check(data=data)
    assert run.exit_code == 0
    kls = [outcome.conventions for outcome in run.outcomes if outcome.op == "mean_kl"]
    assert [dict(conventions) for conventions in kls] == [{}, {"kl.direction": "new_old"}]


def test_the_published_vectors_hold_for_this_installation() -> None:
    run = check()
    assert run.exit_code == 0, "\n".join(report.terminal(run))


# What was asked for.


def test_profiles_and_globs_select(data: Path) -> None:
    adapter = from_vectors(data, {})
    assert check(adapter, data=data, profiles=["ppo"]).counts()["in_profile"] == 2
    assert check(adapter, data=data, only="td*").counts()["in_profile"] == 3
    assert check(adapter, data=data, only="td_errors/o*").counts()["in_profile"] == 1
    assert check(adapter, data=data, only="*/*").counts()["in_profile"] == 7


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"profiles": ["estimator"]}, "did you mean estimators"),
        ({"only": "gea"}, "did you mean gae"),
        ({"only": "td_errors/opne-4x3"}, "did you mean td_errors/open-4x3"),
        ({"only": "ratio", "profiles": ["trpo"]}, "no op of the profiles"),
        ({"dtype": "float31"}, "did you mean float32"),
    ],
)
def test_unknown_names_are_usage_errors(data: Path, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check({}, data=data, **asked)


def test_progress_counts_up_to_the_end(data: Path) -> None:
    steps: list[tuple[int, int]] = []
    check(from_vectors(data, {}), data=data, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(i, 7) for i in range(8)]


# The command line.


@pytest.fixture
def cli(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the command line read the synthetic release; return a working directory."""
    for function in (check, vectors.load):
        assert function.__kwdefaults__ is not None
    original = vectors.load
    monkeypatch.setattr(command_line, "load", lambda **asked: original(data, **asked))
    monkeypatch.setattr(command_line, "check", lambda target, **asked: check(target, data=data, **asked))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "right.py").write_text(
        "import numpy as np\n\ndef ratio(old_log_prob, new_log_prob):\n    return np.exp(new_log_prob - old_log_prob)\n"
    )
    (tmp_path / "wrong.py").write_text("def ratio(old_log_prob, new_log_prob):\n    return new_log_prob\n")
    (tmp_path / "broken.py").write_text("def ratio(old_log_prob, new_log_prob):\n    return {}\n")
    (tmp_path / "empty.py").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["check", "right.py"], 0),
        (["check"], 0),
        (["check", "wrong.py"], 1),
        (["check", "nowhere.py"], 2),
        (["check", "right.py", "--profile", "nonsense"], 2),
        (["check", "right.py", "--only", "nonsense"], 2),
        (["check", "right.py", "--out", "no/folder/run.jsonl"], 2),
        (["check", "broken.py"], 3),
        (["check", "empty.py"], 4),
        (["check", "right.py", "--dtype", "float32"], 0),
        (["ops"], 0),
        (["ops", "--profile", "nonsense"], 2),
        (["show", "ratio/five"], 0),
        (["show", "ratio/fvie"], 2),
        (["show", "nonsense"], 2),
        (["show", "mean_kl/two-logits", "--declare", "kl.direction=new_old"], 0),
        (["show", "mean_kl/two-logits", "--declare", "kl.direction=newold"], 2),
        (["show", "mean_kl/two-logits", "--declare", "kl.directoin=new_old"], 2),
        (["show", "mean_kl/two-logits", "--declare", "kl.direction"], 2),
        (["show", "mean_kl/two-logits", "--conventions", "nonsense"], 2),
        (["explain", "td-no-mask"], 0),
        (["explain", "td-no-musk"], 2),
        (["explain", "mean_kl/two-logits"], 0),
        (["explain", "mean_kl/two-logit"], 2),
        (["explain"], 0),
    ],
)
def test_exit_codes(cli: Path, arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(arguments) == code
    captured = capsys.readouterr()
    assert bool(captured.err) == (code == 2)
    assert captured.out or code == 2
    assert "\r" not in captured.err  # no progress bar but on a terminal


def test_wrong_usage_of_the_parser_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.main(["chekc"])
    assert ended.value.code == 2
    assert "invalid choice" in capsys.readouterr().err


def test_damaged_vectors_are_the_harness_s_exit_code(cli: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = cli / "data" / "2026.1" / "ratio.json"
    path.write_bytes(path.read_bytes().replace(b"a title", b"a tytle", 1))
    assert command_line.main(["check", "right.py"]) == 3
    assert "SHA-256" in capsys.readouterr().err


def test_the_contract_is_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    command_line.main(["ops", "--json", "--profile", "ppo"])
    ops = json.loads(capsys.readouterr().out)
    assert [op["name"] for op in ops] == [name for name, op in OPS.items() if op.profile == "ppo"]


def test_a_case_shown_as_json_is_the_case(cli: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command_line.main(["show", "line_search/first", "--as", "json"])
    shown = json.loads(capsys.readouterr().out)
    assert shown["inputs"] == synthetic.search_case()["inputs"]
    assert shown["expected"][0]["outputs"]["accepted"]["value"] == 0


@pytest.mark.parametrize("case", ["td_errors/ends-4x3", "line_search/first", "mean_kl/two-logits"])
def test_a_case_shown_as_python_runs_and_holds_the_same_numbers(
    cli: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command_line.main(["show", case, "--as", "python"])
    namespace: dict[str, Any] = {}
    exec(capsys.readouterr().out, namespace)
    known = vectors.load(cli / "data").case(case)
    assert known is not None
    assert repr(plain(namespace["inputs"])) == repr(plain(known.inputs))
    for path, leaf in known.expected[0].outputs.items():
        assert np.array_equal(namespace["certified"][path], leaf.value)


def test_a_case_is_shown_under_the_conventions_declared(cli: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = vectors.load(cli / "data").case("mean_kl/two-logits")
    assert known is not None
    found = []
    for declared in ([], ["--declare", "kl.direction=new_old"], ["--declare", "kl.direction=old_new"]):
        command_line.main(["show", "mean_kl/two-logits", "--as", "json", *declared])
        found.append(json.loads(capsys.readouterr().out)["expected"][0]["outputs"]["mean_kl"]["value"])
    default, other = (entry.outputs["mean_kl"].value.tolist() for entry in known.expected)
    assert default != other
    assert found == [default, other, default]


def test_a_bug_is_explained_with_the_cases_that_find_it(cli: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command_line.main(["explain", "td-no-mask"])
    out = capsys.readouterr().out
    assert "the value of the next episode leaks in" in out
    assert "found by  td_errors/ends-4x3, td_errors/undiscounted-4x3" in out


def test_whatever_has_a_name_is_explained_and_listed(capsys: pytest.CaptureFixture[str]) -> None:
    known = vectors.load()
    names = [*OPS, *known.axes, *known.bugs, *LAWS, *presets.presets(known.axes)]
    listed = " ".join(explanations.contents(known)).replace(",", " ").split()
    for name in names:
        assert explanations.explanation(name, known)[0].startswith(name), name
        assert name in listed
    assert command_line.main(["explain"]) == 0
    assert " ".join(capsys.readouterr().out.replace(",", " ").split()) == " ".join(listed)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gae", ["profile estimators", "gae.value_target = lambda_return", "mistake   gae-done-late:"]),
        ("kl.direction", ["value     old_new (default): KL(old ‖ new)", "of        mean_kl, mean_kl_gradient"]),
        ("ratios_multiply", ["r(a, b) r(b, c) = r(a, c).  [PPO (6)]", "of        ratio", "which of the two is old"]),
        ("stable-baselines3", ["advantage.ddof = 1", "beyond    advantages are normalised in each minibatch"]),
    ],
)
def test_an_explanation_says_what_belongs_to_the_name(name: str, said: list[str]) -> None:
    text = "\n".join(explanations.explanation(name, vectors.load()))
    assert all(words in text for words in said), text


def test_what_has_no_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no op or axis or bug or law or preset 'gea' \(did you mean gae"):
        explanations.explanation("gea", vectors.load())


def test_the_module_runs_as_a_program() -> None:
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "refpg"]
    root = Path(command_line.__file__).parents[1]
    version = subprocess.run([*command, "--version"], capture_output=True, text=True, env=environment, cwd=root)
    assert version.stdout == f"refpg {command_line.refpg.__version__}\n"
    unknown = subprocess.run(
        [*command, "check", "nowhere.py"], capture_output=True, text=True, env=environment, cwd=root
    )
    assert unknown.returncode == 2
    assert unknown.stderr.startswith("refpg: nowhere.py: there is no file")
    assert unknown.stdout == ""


def test_checking_needs_only_numpy_and_scipy() -> None:
    """Every other third-party package is made impossible to import."""
    program = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        top = name.split('.')[0]\n"
        "        known = top in sys.stdlib_module_names or top.startswith('_sysconfigdata')\n"
        "        if not known and top not in ('numpy', 'scipy', 'refpg'):\n"
        "            raise ModuleNotFoundError(f'refused {name}', name=name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "from refpg.__main__ import main\n"
        "assert main(['ops']) == 0\n"
        "from refpg.conformance import reference, run\n"
    )
    root = Path(command_line.__file__).parents[1]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, cwd=root)
    assert done.returncode == 0, done.stderr


def test_verdicts_are_all_accounted_for(data: Path) -> None:
    assert set(check({}, data=data).counts()) == {"in_profile", "executed"} | {
        verdict.name.lower() for verdict in Verdict
    }
