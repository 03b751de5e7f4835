"""The architecture is a test: who may import whom, and what may be done where (design rules, not habits)."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import refpg

ROOT = Path(refpg.__file__).parent
ORDER = (
    "notation",
    "rows",
    "mdp",
    "distributions",
    "linear_quadratic",
    "network",
    "policy",
    "geometry",
    "surrogate",
    "bounds",
    "estimation",
    "sequences",
    "solvers",
    "updates",
    "rollout",
    "files",
    "interop",
    "training",
    "plots",
)
CHAPTERS = [name for name in ORDER if (ROOT / name).is_dir() or (ROOT / f"{name}.py").exists()]


def files_of(chapter):
    single = ROOT / f"{chapter}.py"
    return [single] if single.exists() else sorted((ROOT / chapter).rglob("*.py"))


def imports_of(file):
    """The dotted names a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_contents_page_lists_the_chapters_in_order():
    assert [name for name in refpg.CHAPTERS if name != "conformance"] == CHAPTERS
    contents = re.findall(r"^    (\w+)  ", refpg.__doc__, flags=re.MULTILINE)
    assert tuple(contents) == refpg.CHAPTERS


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapters_only_look_back(chapter):
    allowed = CHAPTERS[: CHAPTERS.index(chapter)]
    for file in files_of(chapter):
        for name in imports_of(file):
            parts = name.split(".")
            if parts[0] == "refpg":
                assert parts[1] in (*allowed, chapter, "__version__"), f"{file.name} imports {name}"


OWNERS = {"plots/page.py": {"matplotlib"}, "rollout/gym.py": {"gymnasium"}}  # the modules about other libraries


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapters_need_numpy_and_scipy_alone(chapter):
    for file in files_of(chapter):
        beyond = OWNERS.get(file.relative_to(ROOT).as_posix(), set())
        for name in imports_of(file):
            package = name.split(".")[0]
            known = package in sys.stdlib_module_names or package in {"refpg", "numpy", "scipy"} | beyond
            assert known, f"{file.name} imports {name}"


DOORS = {  # files of conformance that are about another library
    "strategies.py": {"hypothesis"},
    "laws/search.py": {"hypothesis"},
    "laws/suite.py": {"hypothesis", "pytest"},
    "pytest_plugin.py": {"pytest"},
    "testing.py": {"pytest"},
}


def test_other_libraries_are_imported_only_by_adapters_and_doors():
    adapters = ROOT / "conformance" / "peers"
    for file in [*(ROOT / "conformance").rglob("*.py"), ROOT / "__main__.py"]:
        if adapters in file.parents:
            continue
        about = DOORS.get(file.relative_to(ROOT / "conformance").as_posix(), set()) if file.parent != ROOT else set()
        for name in imports_of(file):
            package = name.split(".")[0]
            known = package in sys.stdlib_module_names or package in {"refpg", "numpy", "scipy"} | about
            assert known, f"{file.name} imports {name}"


def test_only_doors_import_doors():
    """What needs hypothesis is reached by its own name alone, so that laws are listed and tried without it."""
    doors = {f"refpg.conformance.{path.removesuffix('.py').replace('/', '.')}" for path in DOORS}
    for file in ROOT.rglob("*.py"):
        if file.as_posix().removeprefix(f"{ROOT.as_posix()}/conformance/") not in DOORS:
            for name in imports_of(file):
                assert not any(name == door or name.startswith(f"{door}.") for door in doors), f"{file} imports {name}"


def test_import_and_check_work_without_any_extra():
    """A fresh interpreter in which every library beyond NumPy and SciPy is missing."""
    program = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        extras = ('hypothesis', 'pytest', 'torch', 'flint', 'mpmath', 'gymnasium', 'matplotlib')\n"
        "        if name.split('.')[0] in extras:\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "import refpg\n"
        "for chapter in refpg.CHAPTERS: getattr(refpg, chapter)\n"
        "from refpg.__main__ import main\n"
        "sys.exit(main(['check', '--only', 'kl_categorical']))\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_importing_refpg_loads_no_chapter():
    program = "import sys, refpg; sys.exit(any(name.startswith('refpg.') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_an_unknown_chapter_is_an_attribute_error():
    with pytest.raises(AttributeError, match="its chapters are notation, rows, mdp, distributions"):
        _ = refpg.chapter


def test_no_room_is_named_after_nothing():
    nameless = {"utils", "util", "common", "helpers", "misc", "core", "base"}
    assert not [file for file in ROOT.rglob("*.py") if file.stem in nameless]


def test_randomness_is_an_argument():
    """No chapter seeds or owns a generator; it is handed one."""
    for chapter in CHAPTERS:
        for file in files_of(chapter):
            code = re.sub(r'""".*?"""', "", file.read_text(), flags=re.DOTALL)
            assert not re.search(r"default_rng|np\.random\.(?!Generator)", code), file.name


def test_chapters_do_no_input_or_output():
    for chapter in CHAPTERS:
        for file in files_of(chapter):
            calls = [
                node.func.id
                for node in ast.walk(ast.parse(file.read_text()))
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            ]
            assert not {"open", "print", "input", "eval", "exec"} & set(calls), file.name


def test_only_the_network_unpacks_theta():
    """Layer widths and slices of θ are known to `network` alone, and to `interop`, whose subject they are."""
    for chapter in CHAPTERS[CHAPTERS.index("policy") :]:
        if chapter == "interop":
            continue
        for file in files_of(chapter):
            assert "unflatten" not in file.read_text(), file.name
