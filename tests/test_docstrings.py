"""Docstrings are held to what they promise: parameters as in the signature, sources that resolve, known sections."""

import importlib
import inspect
import pkgutil
import re
from itertools import pairwise
from pathlib import Path

import pytest

import refpg
from refpg.conformance.ops import OPS
from refpg.notation import SOURCES

SECTIONS = ("Parameters", "Returns", "Yields", "Raises", "Notes", "References", "Examples")


def modules():
    yield refpg
    for info in pkgutil.walk_packages(refpg.__path__, "refpg."):
        if ".peers" not in info.name:
            yield importlib.import_module(info.name)


def public_functions():
    for module in modules():
        for name, member in vars(module).items():
            if inspect.isfunction(member) and not name.startswith("_") and member.__module__ == module.__name__:
                yield pytest.param(member, id=f"{module.__name__}.{name}")


def public_classes():
    for module in modules():
        for name, member in vars(module).items():
            if inspect.isclass(member) and not name.startswith("_") and member.__module__ == module.__name__:
                yield pytest.param(member, id=f"{module.__name__}.{name}")


def sections_of(docstring):
    """The sections of a numpydoc docstring, title → text."""
    lines = docstring.splitlines()
    titles = [i for i in range(len(lines) - 1) if lines[i].strip() and re.fullmatch(r"-{3,}", lines[i + 1].strip())]
    return {
        lines[start].strip(): "\n".join(lines[start + 2 : end])
        for start, end in pairwise([*titles, len(lines)])
    }


@pytest.mark.parametrize("module", [pytest.param(m, id=m.__name__) for m in modules()])
def test_every_module_says_what_it_is_about(module):
    assert module.__doc__, f"{module.__name__} has no docstring"


@pytest.mark.parametrize("function", list(public_functions()))
def test_parameters_are_those_of_the_signature(function):
    docstring = inspect.getdoc(function)
    assert docstring, "no docstring"
    sections = sections_of(docstring)
    assert set(sections) <= set(SECTIONS), f"unknown sections {set(sections) - set(SECTIONS)}"
    assert list(sections) == [title for title in SECTIONS if title in sections], "sections out of order"
    if "Parameters" not in sections:
        return
    headings = [line for line in sections["Parameters"].splitlines() if line and not line.startswith(" ")]
    documented = [name.strip().lstrip("*") for line in headings for name in line.split(":")[0].split(",")]
    assert documented == list(inspect.signature(function).parameters)


@pytest.mark.parametrize("function", list(public_functions()))
def test_chapters_document_results_and_errors(function):
    if function.__module__.startswith(("refpg.conformance", "refpg.__main__")):
        return
    sections = sections_of(inspect.getdoc(function))
    if "Parameters" not in sections:
        return
    if inspect.signature(function).return_annotation is not None:
        assert "Returns" in sections
    if re.search(r"^ {4,8}raise ValueError", inspect.getsource(function), flags=re.MULTILINE):
        assert "Raises" in sections


@pytest.mark.parametrize("record", list(public_classes()))
def test_records_explain_their_fields(record):
    docstring = inspect.getdoc(record) or ""
    assert docstring, "no docstring"
    source = inspect.getsource(record)
    for field in getattr(record, "_fields", ()) or getattr(record, "__dataclass_fields__", ()):
        in_text = re.search(rf"\b{re.escape(field)}\b", docstring)
        beside = re.search(rf"^ +{re.escape(field)}: .*  # ", source, flags=re.MULTILINE)
        assert in_text or beside, f"field {field} is not explained"


def citations():
    """Every bracketed citation in the docstrings and in the contract."""
    pattern = re.compile(r"\[([A-Z][A-Za-z0-9]*(?:-[A-Z][A-Za-z]*)*)((?: [^\[\]\n]{1,20})?)\]")
    texts = [inspect.getdoc(m) or "" for m in modules()]
    texts += [inspect.getdoc(p.values[0]) or "" for p in [*public_functions(), *public_classes()]]
    texts += [op.source for op in OPS.values()]
    prose = [re.sub(r"Examples\n---.*", "", text, flags=re.DOTALL) for text in texts]
    return {match for text in prose for match in pattern.findall(text)}


SHAPE_LETTERS = set("BTEDAKPSMN")


def test_every_citation_resolves():
    where = re.compile(
        r"(| \(\d+\)(–\(\d+\))?| App\. [A-F](\.\d)?| section \d+(\.\d)?| Alg\. \d| (Thm|Lemma) \d(\.\d)?"
        r"| (Cor|Prop)\. \d)"
    )
    found = citations()
    assert len(found) > 15
    for tag, place in found:
        if tag in SHAPE_LETTERS or tag == "TAG":      # a type such as [B], and the grammar's own example
            continue
        assert tag in SOURCES, f"[{tag}{place}]"
        assert where.fullmatch(place), f"[{tag}{place}]"


@pytest.mark.parametrize("page", ["README.md", "verification/README.md"])
def test_the_pages_name_functions_that_exist(page):
    text = (Path(__file__).parent.parent / page).read_text()
    names = set(re.findall(r"`(?:refpg\.)?([a-z_]+)\.([a-z_]+)`", text))
    named = [(chapter, function) for chapter, function in names if chapter in refpg.CHAPTERS]
    assert len(named) > 10
    for chapter, function in named:
        assert hasattr(importlib.import_module(f"refpg.{chapter}"), function), f"{chapter}.{function}"
