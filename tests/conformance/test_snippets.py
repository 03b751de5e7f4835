"""A case as text to paste: it compiles, holds the same numbers, and tells a right answer from a wrong one."""

import contextlib
import io
import json
import math
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refpg.conformance.adapters import UsageError
from refpg.conformance.snippets import LANGUAGES, declared, snippet
from refpg.conformance.snippets.content import identifier
from refpg.conformance.snippets.plain import simple
from refpg.conformance.tolerance import tolerances
from refpg.conformance.vectors import Case, load

VECTORS = load()
CASES = [case for cases in VECTORS.cases.values() for case in cases]

# One case of each shape there is: masks, integers, texts, layers, lists of unequal length, three axes, scalars alone.
OPS = [
    *("ratio", "gae", "kl_masked_categorical", "log_prob_multi_categorical", "network_forward", "line_search"),
    *("ppo_epoch", "policy_evaluation", "fisher_diagonal_gaussian", "natural_gradient_minimum_norm", "adam_step"),
    *("penalty_coefficient", "conjugate_gradient", "mean_kl", "trpo_step"),
]
CHOSEN = [VECTORS.cases[op][-1] for op in OPS]


def demand(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


def output_of(words: list[str | Path]) -> str:
    result = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every array, number and text of the inputs, with the names and numbers that lead to it."""
    if isinstance(value, Mapping | tuple):
        for key, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from leaves(inner, (*path, key))
    else:
        yield path, value


def member(path: tuple[Any, ...]) -> list[str]:
    """("policy", "layers", 0, "W") → ["policy", "layers_0", "W"]."""
    words: list[str] = []
    for part in path:
        if isinstance(part, int):
            words[-1] += f"_{part}"
        else:
            words.append(part)
    return words


def words_of(value: Any) -> str:
    """The line the programs below print for an input: texts and integers as they are, floats by their bits."""
    if isinstance(value, str):
        return value
    numbers = np.asarray(value).ravel().tolist()
    return " ".join(struct.pack(">d", n).hex() if isinstance(n, float) else str(int(n)) for n in numbers)


def answers(case: Case) -> Iterator[tuple[list[Any], bool]]:
    """Answers of flat arrays, and whether they conform: the certified one, the edges of the tolerance, and beyond."""
    outputs = case.expected[0].outputs
    tolerance = tolerances(outputs, "float64", VECTORS.policy)
    right = [leaf.value.ravel() for leaf in outputs.values()]
    yield right, True
    for at, (path, leaf) in enumerate(outputs.items()):
        place = leaf.value.size // 2

        def changed(entry: float, at: int = at, place: int = place) -> list[Any]:
            answer = [array.copy() for array in right]
            answer[at][place] = entry
            return answer

        entry, most = right[at][place], tolerance[path].ravel()[place]
        if leaf.exact:
            yield changed(entry + 1), False
        else:
            yield changed(entry + 0.5 * most), True
            above, below = np.nextafter(entry + 2 * most, math.inf), np.nextafter(entry - 2 * most, -math.inf)
            for wrong in (above, below, math.inf, -math.inf, math.nan):
                yield changed(wrong), False


def test_the_chosen_cases_have_every_shape() -> None:
    kinds = set()
    for case in CHOSEN:
        for path, value in leaves(case.inputs):
            kinds.add((type(value).__name__, getattr(value, "dtype", ""), np.ndim(value), len(path)))
    assert {str(dtype) for _, dtype, _, _ in kinds} >= {"float64", "int64", "bool"}
    assert {(name, axes) for name, _, axes, _ in kinds} >= {("str", 0), ("float", 0), ("int", 0), ("ndarray", 3)}
    assert any(not value.all() for case in CHOSEN for _, value in leaves(case.inputs) if value_is_mask(value))
    assert any(leaf.exact for case in CHOSEN for leaf in case.expected[0].outputs.values())


def value_is_mask(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == bool


def test_no_two_cases_have_the_same_name() -> None:
    assert len({identifier(case.id).lower() for case in CASES}) == len(CASES)


# C.

C_FLOATS = {math.inf: "INFINITY", -math.inf: "-INFINITY"}


def literal(number: Any, not_finite: Mapping[float, str], nan: str) -> str:
    if isinstance(number, float) and not math.isfinite(number):
        return nan if math.isnan(number) else not_finite[number]
    return repr(number)


def c_program(cases: list[Case]) -> str:
    lines = ["#include <stdio.h>", "#include <string.h>", *(snippet(case, VECTORS, "c") for case in cases)]
    lines += [
        "static void floats(size_t n, const double *x) {",
        "    for (size_t i = 0; i < n; i++) {",
        "        uint64_t bits;",
        "        memcpy(&bits, x + i, 8);",
        '        printf("%s%016llx", i ? " " : "", (unsigned long long)bits);',
        "    }",
        '    puts("");',
        "}",
        "static void integers(size_t n, const int64_t *x) {",
        '    for (size_t i = 0; i < n; i++) printf("%s%lld", i ? " " : "", (long long)x[i]);',
        '    puts("");',
        "}",
        "static void flags(size_t n, const bool *x) {",
        '    for (size_t i = 0; i < n; i++) printf("%s%d", i ? " " : "", x[i]);',
        '    puts("");',
        "}",
        "int main(void) {",
    ]
    printers = {"f": ("floats", "double"), "i": ("integers", "int64_t"), "b": ("flags", "bool")}
    for case in cases:
        name = identifier(case.id)
        for path, value in leaves(case.inputs):
            place = f"{name}.inputs.{'.'.join(member(path))}"
            if isinstance(value, str):
                lines.append(f"    puts({place});")
            else:
                printer, kind = printers[np.asarray(value).dtype.kind]
                lines.append(f"    {printer}({np.size(value)}, (const {kind} *)&{place});")
        for answer, _ in answers(case):
            arrays = [
                f"(const {'double' if array.dtype.kind == 'f' else 'int64_t'}[])"
                f"{{{', '.join(literal(n, C_FLOATS, 'NAN') for n in array.tolist())}}}"
                for array in answer
            ]
            lines.append(f'    puts({name}_conforms({", ".join(arrays)}) ? "yes" : "no");')
    return "\n".join([*lines, "}", ""])


def said_of(cases: list[Case]) -> list[str]:
    """What the programs in C and Rust are to print."""
    lines = []
    for case in cases:
        lines += [words_of(value) for _, value in leaves(case.inputs)]
        lines += ["yes" if conforms else "no" for _, conforms in answers(case)]
    return lines


def first_difference(said: list[str], expected: list[str]) -> Any:
    """The first line that is not as expected; lists of thousands of lines take minutes to be told apart in full."""
    return next((pair for pair in zip_longest(said, expected) if pair[0] != pair[1]), None)


def test_a_case_in_c_compiles_and_judges(tmp_path: Path) -> None:
    demand("gcc")
    (tmp_path / "case.c").write_text(c_program(CHOSEN))
    flags = ["-std=c99", "-O0", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    output_of(["gcc", *flags, tmp_path / "case.c", "-o", tmp_path / "case", "-lm"])
    assert first_difference(output_of([tmp_path / "case"]).splitlines(), said_of(CHOSEN)) is None


# Rust.

RUST_FLOATS = {math.inf: "f64::INFINITY", -math.inf: "f64::NEG_INFINITY"}


def rust_program(cases: list[Case]) -> str:
    lines = [snippet(case, VECTORS, "rust") for case in cases]
    lines += [
        "fn line<T>(values: impl IntoIterator<Item = T>, word: impl Fn(T) -> String) {",
        '    println!("{}", values.into_iter().map(word).collect::<Vec<_>>().join(" "));',
        "}",
        "fn main() {",
    ]
    words = {
        "f": '|x| format!("{:016x}", x.to_bits())',
        "i": '|x| format!("{}", x)',
        "b": '|x| format!("{}", x as u8)',
    }
    for case in cases:
        name = identifier(case.id)
        for path, value in leaves(case.inputs):
            *modules, last = member(path)
            place = "::".join([name, "inputs", *modules, last.upper()])
            if isinstance(value, str):
                lines.append(f'    println!("{{}}", {place});')
            else:
                array = place if np.ndim(value) else f"[{place}]"
                flat = ".into_iter().flatten()" * max(np.ndim(value) - 1, 0)
                lines.append(f"    line({array}{flat}, {words[np.asarray(value).dtype.kind]});")
        for answer, _ in answers(case):
            arrays = [
                f"&[{', '.join(literal(n, RUST_FLOATS, 'f64::NAN') for n in array.tolist())}]" for array in answer
            ]
            lines.append(f'    println!("{{}}", if {name}::conforms({", ".join(arrays)}) {{ "yes" }} else {{ "no" }});')
    return "\n".join([*lines, "}", ""])


def test_a_case_in_rust_compiles_and_judges(tmp_path: Path) -> None:
    demand("rustc")
    (tmp_path / "case.rs").write_text(rust_program(CHOSEN))
    output_of(["rustc", "--edition", "2021", "-D", "warnings", tmp_path / "case.rs", "-o", tmp_path / "case"])
    assert first_difference(output_of([tmp_path / "case"]).splitlines(), said_of(CHOSEN)) is None


def test_an_answer_of_another_length_does_not_conform_in_rust(tmp_path: Path) -> None:
    demand("rustc")
    case = VECTORS.cases["ratio"][0]
    name = identifier(case.id)
    calls = f"{name}::conforms(&{name}::certified::RATIO[1..]), {name}::conforms(&{name}::certified::RATIO)"
    (tmp_path / "case.rs").write_text(
        f'{snippet(case, VECTORS, "rust")}\nfn main() {{ println!("{{}} {{}}", {calls}); }}\n'
    )
    output_of(["rustc", "--edition", "2021", tmp_path / "case.rs", "-o", tmp_path / "case"])
    assert output_of([tmp_path / "case"]) == "false true\n"


# JavaScript: every case there is, since nothing is compiled.

JUDGING = """
for (const [one, answers] of judged) {
  const [names, lengths] = [Object.keys(one.certified), Object.values(one.certified)];
  const refill = (shape, flat) =>
    Array.isArray(shape) ? shape.map(inner => refill(inner, flat)) : flat.shift();
  const said = answers.map(answer =>
    one.conforms(Object.fromEntries(names.map((name, i) => [name, refill(lengths[i], [...answer[i]])]))));
  const misshapen = [() => [], value => [value], value => [value].flat(Infinity)].map(change =>
    one.conforms(Object.fromEntries(names.map((name, i) => [name, change(lengths[i])]))));
  console.log(JSON.stringify([one.inputs, one.certified, said, misshapen]));
}
"""


def test_a_case_in_javascript_is_the_same_and_judges(tmp_path: Path) -> None:
    demand("node")
    judged = []
    for case in CASES:
        given = [[array.tolist() for array in answer] for answer, _ in answers(case)]
        judged.append(f"[{identifier(case.id)}, {json.dumps(given if case.op in OPS else given[:1])}],")
    sources = [snippet(case, VECTORS, "javascript") for case in CASES]
    program = ['"use strict";', *sources, "const judged = [", *judged, "];", JUDGING]
    (tmp_path / "case.js").write_text("\n".join(program))
    lines = output_of(["node", tmp_path / "case.js"]).splitlines()
    assert len(lines) == len(CASES)
    for case, line in zip(CASES, lines, strict=True):
        inputs, certified, said, misshapen = json.loads(line, parse_int=float)
        assert inputs == simple(case.inputs), case.id
        assert certified == {path: leaf.value.tolist() for path, leaf in case.expected[0].outputs.items()}, case.id
        conforming = [conforms for _, conforms in answers(case)]
        assert said == (conforming if case.op in OPS else [True]), case.id
        vectors_alone = all(leaf.value.ndim == 1 for leaf in case.expected[0].outputs.values())
        assert misshapen == [False, False, vectors_alone], case.id


# Julia is read by a small parser of what such a module consists of; Julia itself is not asked.

TOKEN = re.compile(r'\n|"(?:[^"\\]|\\.)*"|=>|[A-Za-z_][A-Za-z0-9_]*|-?[0-9][0-9.]*(?:e[+-]?[0-9]+)?|[()\[\],= ]')


class Julia:
    """Reads literals: named tuples, dictionaries, vectors, matrices by rows, permutedims(reshape(...)), scalars."""

    def __init__(self, text: str) -> None:
        self.tokens = TOKEN.findall(text)
        assert "".join(self.tokens) == text
        self.at = 0

    def take(self, expected: str = "") -> str:
        token: str = self.tokens[self.at]
        self.at += 1
        assert not expected or token == expected, f"{token!r}, expected {expected!r}"
        return token

    def blank(self, blanks: str = " \n") -> bool:
        start = self.at
        while self.at < len(self.tokens) and self.tokens[self.at] in blanks:
            self.at += 1
        return self.at > start

    def peek(self) -> str:
        return str(self.tokens[self.at])

    def value(self) -> Any:
        self.blank()
        token = self.take()
        if token == "(":
            return self.parts(")", "=")
        if token == "[":
            return self.array()
        if token == "Dict":
            self.take("(")
            return self.parts(")", "=>")
        if token == "permutedims":
            return self.permuted()
        if token in ("true", "false"):
            return token == "true"
        if token[0] == '"':
            return json.loads(token.replace("\\$", "$"))
        return float(token) if re.search("[.e]", token) else int(token)

    def parts(self, end: str, joint: str) -> dict[str, Any]:
        found = {}
        self.blank()
        while self.peek() != end:
            name = self.take()
            self.blank()
            self.take(joint)
            found[json.loads(name) if name[0] == '"' else name] = self.value()
            self.blank()
            self.take(",")
            self.blank()
        self.take(end)
        return found

    def array(self) -> Any:
        """Commas make a vector, and so do ends of lines alone; with blanks too they make a matrix."""
        rows: list[list[Any]] = [[]]
        commas = False
        self.blank()
        while self.peek() != "]":
            rows[-1].append(self.value())
            self.blank(" ")
            if self.peek() == ",":
                self.take()
                commas = True
                self.blank()
            elif self.blank() and self.peek() != "]":
                rows.append([])
        self.take("]")
        if not commas and any(len(row) > 1 for row in rows):
            return np.array(rows)
        row = [one for row in rows for one in row]
        return row if any(isinstance(one, dict | np.ndarray) for one in row) else np.array(row)

    def permuted(self) -> Any:
        """Julia's reshape lets the first index run fastest, and its axes count from 1."""
        for word in ("(", "reshape", "("):
            self.take(word)
        flat = self.value()
        lengths = []
        while self.take() == ",":
            lengths.append(self.value())
        self.take(",")
        self.blank()
        self.take("(")
        axes = [self.value()]
        while self.take() == ",":
            axes.append(self.value())
        self.take(")")
        return np.reshape(flat, lengths, order="F").transpose([axis - 1 for axis in axes])


def same(one: Any, other: Any) -> bool:
    """The same structure with the same numbers to the last bit, of the same kind."""
    if isinstance(other, Mapping):
        return isinstance(one, dict) and list(one) == list(other) and all(same(one[key], other[key]) for key in other)
    if isinstance(other, tuple):
        return isinstance(one, list) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(other, np.ndarray):
        kinds = np.asarray(one).dtype.kind, other.dtype.kind
        return kinds[0] == kinds[1] and np.shape(one) == other.shape and bool((np.asarray(one) == other).all())
    return type(one) is type(other) and bool(one == other)


@pytest.mark.parametrize("op", VECTORS.cases)
def test_a_case_in_julia_holds_the_same_numbers(op: str) -> None:
    for case in VECTORS.cases[op]:
        check_julia(case)


def check_julia(case: Case) -> None:
    text = snippet(case, VECTORS, "julia")
    body = text[text.index(f"module {identifier(case.id)}\n") :]
    found = {}
    for part in re.split(r"^const ", body, flags=re.MULTILINE)[1:]:
        name, _, literal = part.partition(" = ")
        parser = Julia(literal.split("\n\n")[0])
        found[name] = parser.value()
        assert parser.at == len(parser.tokens)
    outputs = case.expected[0].outputs
    assert list(found) == ["inputs", "certified", "tolerance"]
    assert same(found["inputs"], case.inputs)
    assert same(found["certified"], {path: leaf.value for path, leaf in outputs.items()})
    tolerance = tolerances(outputs, "float64", VECTORS.policy)
    assert same(found["tolerance"], {path: np.asarray(most) for path, most in tolerance.items()})
    assert text.rstrip().endswith("\nend")


# All of them.


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_snippet_begins_with_what_the_case_is_for(language: str) -> None:
    case = VECTORS.cases["ratio"][0]
    text = snippet(case, VECTORS, language)
    for said in (case.id, case.title, case.purpose, case.reference):
        assert said in text


def test_what_a_case_says_of_itself_cannot_leave_its_comment(tmp_path: Path) -> None:
    demand("gcc")
    case = replace(VECTORS.cases["ratio"][0], title="*/ int", purpose="${x} =# ends in \\", reference="??/")
    (tmp_path / "case.c").write_text(c_program([case]))
    output_of(["gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", tmp_path / "case.c"])


def test_another_language_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'jula' \(did you mean julia"):
        snippet(VECTORS.cases["ratio"][0], VECTORS, "jula")


# Python, and the conventions of a snippet.


@pytest.mark.parametrize("op", VECTORS.cases)
def test_a_case_in_python_runs_as_it_is_under_every_convention(op: str) -> None:
    """refpg's own answers conform, whatever their form: a number, an array, a mapping, layers."""
    for case in VECTORS.cases[op]:
        for entry in case.expected:
            text = snippet(declared(case, VECTORS, entry.conventions), VECTORS, "python")
            with contextlib.redirect_stdout(io.StringIO()):
                exec(text, {})


@pytest.mark.parametrize("op", OPS)
def test_a_case_in_python_judges(op: str) -> None:
    case = VECTORS.cases[op][-1]
    outputs = case.expected[0].outputs
    namespace: dict[str, Any] = {}
    exec(snippet(case, VECTORS, "python").partition("from refpg")[0], namespace)
    for flat, conforms in answers(case):
        given = {
            path: array.reshape(leaf.value.shape) for array, (path, leaf) in zip(flat, outputs.items(), strict=True)
        }
        assert namespace["conforms"](given) is conforms
        assert namespace["conforms"]({path: array.tolist() for path, array in given.items()}) is conforms
    for path, leaf in outputs.items():
        misshapen = {name: one.value for name, one in outputs.items()} | {path: leaf.value[None]}
        assert not namespace["conforms"](misshapen)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_snippet_holds_the_answer_of_the_conventions(language: str) -> None:
    case = VECTORS.cases["mean_kl"][0]
    other = declared(case, VECTORS, {"kl.direction": "new_old", "advantage.ddof": "1"})
    assert dict(other.expected[0].conventions) == {"kl.direction": "new_old"}
    assert sorted(map(id, other.expected)) == sorted(map(id, case.expected))
    alone = replace(case, expected=other.expected[:1])
    if language not in ("python", "json"):
        assert "kl.direction = new_old" in snippet(other, VECTORS, language)
        assert snippet(other, VECTORS, language) == snippet(alone, VECTORS, language)
    assert snippet(other, VECTORS, language) != snippet(case, VECTORS, language)


def test_what_is_not_certified_is_refused_with_what_is() -> None:
    case = VECTORS.cases["mean_kl"][0]
    case = replace(case, expected=case.expected[:1])
    with pytest.raises(UsageError, match="no certified answer under kl.direction = new_old, only under the defaults"):
        declared(case, VECTORS, {"kl.direction": "new_old"})
