"""``python -m verification.laws``: every bug of the catalogue is planted, and the laws that notice it are written down.

A bug is planted in each op it is known in alone, and in all of them at once, as in a library where one function serves
all.  The rest of the implementation is refpg.  Three files come out::

    verification/laws.json                  bug → where it was planted → laws that notice it
    verification/laws.md                    the laws, what each kills and what it cannot see; the bugs no law notices
    refpg/conformance/laws/kills.json       law → bugs: the field ``kills`` of a law

The draws are seeded: with one version of hypothesis the same files come out, until a law or a mutant changes.  With
names of laws, ``python -m verification.laws gae_is_recursive``, only these are tried again, and what was found of the
others is kept; bugs that are new are tried on all.
"""

import os
import sys
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple

from refpg.conformance.laws import LAWS, Answers, Law, Unanswerable, check, ordered
from refpg.conformance.laws.law import KILLS
from refpg.conformance.mutants import MUTANTS
from refpg.conformance.reference import answers
from refpg.conformance.vectors import load
from refpg.files import write_whole
from verification.kill_matrix import layout, read

HERE = Path(__file__).parent
MATRIX, TABLE = HERE / "laws.json", HERE / "laws.md"

Rows = Mapping[str, Mapping[str, Collection[str]]]

EXAMPLES = 15
EVERYWHERE = "everywhere"

# Laws that notice no bug of the catalogue → why they stay.
# A test plants in each of them a fault of the kind.
IDLE: dict[str, str] = {
    "hessian_of_mean_kl_is_symmetric": "against products that go forwards and backwards through two different things",
    "fisher_product_is_linear": "against rows drawn anew in each product, fvp-resampled-each-call, which has no mutant",
    "fisher_product_is_symmetric_and_not_negative": "as the Hessian's",
    "fisher_matrix_is_symmetric_and_not_negative": "against a triangle that a symmetric update left empty",
    "ratios_multiply": "against a log-ratio that is clamped, which is right where the window is",
    "cg_follows_scale_and_order": "against an absolute number added to a denominator",
    "natural_gradient_is_linear_and_ascends": "against a direction that is normalised, right in its direction",
    "moments_of_adam_are_moving_averages": "against a sum in place of an average: one moment alone",
    "penalties_vanish_at_the_reference": "against a k3 without its −1, right in its gradient",
    "penalty_gradient_is_the_derivative_of_the_penalty": "against the gradient of another estimator, straight through",
}

# Bugs that no law notices → why.  A test holds that these are the ones.
UNSEEN: dict[str, str] = {
    "cat-overflow": "shows with logits beyond 700, and what is drawn is well conditioned",
    "activation-slope-of-output": "about activations other than tanh, which laws do not draw",
    "gelu-tanh-form": "about gelu, and laws draw tanh networks",
    "ls-expected-compounding": "shows where the expected improvement decides, and bugs are planted under the defaults",
    "aggregate-constant-is-width": "about an aggregation other than the default; a test plants it under that one",
    "leave-one-out-over-n": "about a baseline other than the default; a test plants it under that one",
    "sequence-ratio-product": "about the ratio of a sequence; a test plants it under that convention",
    "sequence-ratio-over-width": "about the ratio of a sequence; a test plants it under that convention",
    "sequence-ratio-mean-of-ratios": "about the ratio of a sequence; a test plants it under that convention",
}


ASKED = {op for law in LAWS.values() for variant in law.variants for op in law.ops_of(variant)}


class Plant(NamedTuple):
    """A bug in some ops: ``where`` is the name of the op, or "everywhere"."""

    bug: str
    where: str
    ops: tuple[str, ...]


def plants() -> list[Plant]:
    """Return every bug in each of its ops that laws ask, and in all of these if they are several."""
    by_bug: dict[str, list[str]] = {}
    for mutant in MUTANTS:
        if mutant.op in ASKED:
            by_bug.setdefault(mutant.bug, []).append(mutant.op)
    return [
        plant
        for bug, ops in by_bug.items()
        for plant in [
            *(Plant(bug, op, (op,)) for op in ops),
            *([Plant(bug, EVERYWHERE, tuple(ops))] if len(ops) > 1 else []),
        ]
    ]


@cache
def _defaults() -> dict[str, str]:
    return {name: axis.default for name, axis in load(ops=()).axes.items()}


def planted(plant: Plant) -> Answers:
    """Return refpg with the bug."""
    wrong = {mutant.op: mutant.under(_defaults()) for mutant in MUTANTS if mutant.bug == plant.bug}
    return Answers.of(answers(_defaults()) | {op: wrong[op] for op in plant.ops})


def concerned(plant: Plant) -> list[tuple[Law, str]]:
    """Return the laws, with their variants, that ask one of the ops."""
    return [
        (law, variant)
        for law in LAWS.values()
        for variant in law.variants
        if set(law.ops_of(variant)) & set(plant.ops)
    ]


def notices(law: Law, variant: str, implementation: Answers, max_examples: int = EXAMPLES) -> bool:
    """Return whether a law tells an implementation from a right one; one that raises is told by that."""
    try:
        return check(implementation, law, variant, max_examples=max_examples, shrink=False) is not None
    except Unanswerable:
        return False
    except Exception:
        return False


def noticed(plant: Plant, names: Collection[str] = tuple(LAWS)) -> list[str]:
    """Return which of the laws notice a bug where it was planted."""
    implementation = planted(plant)
    found: list[str] = []
    for law, variant in concerned(plant):
        if law.name in names and law.name not in found and notices(law, variant, implementation):
            found.append(law.name)
    return found


def matrix(names: Collection[str], known: Rows) -> Rows:
    """Return bug → where → laws: tried for the laws named and the bugs not known, as known for the others."""
    planting = plants()
    names_of = [names if plant.where in known.get(plant.bug, {}) else tuple(LAWS) for plant in planting]
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        results = list(pool.map(noticed, planting, names_of, chunksize=4))
    rows: dict[str, dict[str, list[str]]] = {}
    for plant, found in zip(planting, results, strict=True):
        kept = set(known.get(plant.bug, {}).get(plant.where, ())) - set(names)
        rows.setdefault(plant.bug, {})[plant.where] = [name for name in LAWS if name in {*kept, *found}]
    return rows


def kills(rows: Rows) -> dict[str, list[str]]:
    """Return law → the bugs it notices wherever they are planted, every law in the order of its subject."""
    return {
        law.name: sorted(bug for bug, places in rows.items() if any(law.name in names for names in places.values()))
        for law in ordered()
    }


def unseen(rows: Rows) -> list[str]:
    """Return the bugs that no law notices."""
    return [bug for bug, places in rows.items() if not any(places.values())]


def table(rows: Rows) -> str:
    """Return the page."""
    killed = kills(rows)
    touching: dict[str, set[str]] = {name: set() for name in LAWS}
    for plant in plants():
        for law, _ in concerned(plant):
            touching[law.name].add(plant.bug)
    lines = [
        "# The laws",
        "",
        "Written by `python -m verification.laws`. Every bug of the catalogue is planted in refpg, in one op and in",
        "all ops it is known in; a law kills a bug if it notices it in one of these plantings. What a law cannot see",
        "is said in words; the bugs of its ops that it missed are counted.",
        "",
        f"{len(LAWS)} laws, {sum(len(law.variants) for law in LAWS.values())} with their families; "
        f"{len(rows) - len(unseen(rows))} of {len(rows)} bugs noticed.",
    ]
    subject = ""
    for law in ordered():
        if law.subject != subject:
            subject = law.subject
            lines += ["", f"## {subject}", "", "| law | statement | source | kills | blind to | missed |"]
            lines += ["|---|---|---|---|---|--:|"]
        bugs = killed[law.name]
        cells = [
            f"`{law.name}`",
            law.statement,
            law.source,
            ", ".join(f"`{bug}`" for bug in bugs) or "none",
            law.blind,
            str(len(touching[law.name] - set(bugs))),
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lines += ["", "## Bugs that no law notices", "", "| bug | why |", "|---|---|"]
    lines += [f"| `{bug}` | {UNSEEN.get(bug, '')} |" for bug in unseen(rows)]
    return "\n".join(lines) + "\n"


def files(rows: Rows) -> dict[Path, str]:
    """Return the text of the three files."""
    return {
        MATRIX: layout({"schema": 1, "examples": EXAMPLES, "bugs": dict(rows)}),
        TABLE: table(rows),
        KILLS: layout({"schema": 1, "kills": kills(rows)}),
    }


def main(names: Sequence[str]) -> int:
    """Plant every bug, write the files; return 1 if a law kills nothing or an unseen bug has no reason."""
    unknown = set(names) - set(LAWS)
    if unknown:
        print(f"there is no law {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    rows = matrix(names or tuple(LAWS), committed() if names else {})
    for path, text in files(rows).items():
        write_whole(path, text.encode())
    idle = [name for name, bugs in kills(rows).items() if not bugs and name not in IDLE]
    without = [bug for bug in unseen(rows) if bug not in UNSEEN]
    print(f"{len(LAWS)} laws, {len(rows)} bugs, {len(unseen(rows))} unseen")
    for name in idle:
        print(f"{name} notices no bug", file=sys.stderr)
    for bug in without:
        print(f"{bug} is noticed by no law and has no reason", file=sys.stderr)
    return 1 if idle or without else 0


def committed() -> Rows:
    """Return the matrix as it was committed."""
    rows: Rows = read(MATRIX)["bugs"]
    return rows


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
