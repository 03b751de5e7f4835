"""The command line: ``refpg check``, ``replay``, ``ops``, ``show``, ``explain``, ``plot``, ``train``, ``vectors``."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import refpg
from refpg.conformance import explanations, laws, presets, releases, report, selfcheck, skeleton, smoke
from refpg.conformance.adapters import TargetCrash, UsageError, bundled, nearest
from refpg.conformance.export import FORMS, export
from refpg.conformance.ops import OPS, PROFILES, Op, contract
from refpg.conformance.replay import replay, replayed
from refpg.conformance.run import CONFORM, HARNESS, MISMATCH, USAGE, check, ops_of
from refpg.conformance.signatures import legend
from refpg.conformance.snippets import LANGUAGES, declared, snippet
from refpg.conformance.vectors import RELEASE, Case, VectorError, load
from refpg.conformance.waivers import read_waivers
from refpg.conformance.worker import TIMEOUT, Command

_EMBEDDED = "chain, gridworld, cliff, two-state, point-mass, doubling"
_PROFILE_HELP = f"{', '.join(PROFILES)}; repeatable"
_EXIT_CODES = """exit codes: 0 all executed cases conform · 1 a mismatch · 2 usage, an unknown name or a stale waiver ·
            3 an error of the harness (a crash, an invalid answer, damaged vectors) · 4 nothing was executed"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments, without the program's name; those of the process unless given.

    Returns
    -------
    int
        0 all conform · 1 mismatch · 2 usage · 3 harness · 4 nothing executed.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    command = words.index("--") if "--" in words else len(words)
    arguments = _parser().parse_args(words[:command], argparse.Namespace(command=words[command + 1 :]))
    try:
        if command < len(words):
            _set_command(arguments)
        code: int = arguments.run(arguments)
        return code
    except UsageError as error:
        print(f"refpg: {error}", file=sys.stderr)
        return USAGE
    except (TargetCrash, VectorError, report.ReportError) as error:
        print(f"refpg: {error}", file=sys.stderr)
        return HARNESS
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        sys.stderr.close()
        return 0


def _set_command(arguments: argparse.Namespace) -> None:
    """Let what follows ``--``, the words that start a worker, be the target."""
    if "target" not in arguments:
        raise UsageError("-- starts a worker, which this command has no use for")
    if arguments.target is not None or not arguments.command:
        raise UsageError("give either a target, or -- and the words that start a worker: refpg check -- ./worker")
    arguments.target = Command(tuple(arguments.command))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="refpg", description="The ground truth for policy-gradient mathematics, and a judge that knows it."
    )
    parser.add_argument("--version", action="version", version=f"refpg {refpg.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    command = commands.add_parser(
        "check",
        help="judge an implementation by the certified vectors",
        usage="%(prog)s [OPTION ...] [TARGET | -- WORKER [ARGUMENT ...]]",
        description="Judge an implementation by the certified vectors; refpg itself if no target is given.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "target",
        nargs="?",
        metavar="TARGET",
        help="my_impl.py, package.module, either with :Object, or a bundled adapter"
        + (f" ({', '.join(bundled())})" if bundled() else ""),
    )
    command.add_argument("--profile", action="append", default=[], metavar="P", help=_PROFILE_HELP)
    command.add_argument("--only", default="", metavar="GLOB", help="ops or case ids, e.g. 'kl*' or 'gae/*'")
    command.add_argument("--dtype", metavar="D", help="judge by this precision, e.g. float32")
    command.add_argument("--conventions", metavar="NAME", help="a preset, declared besides: `refpg conventions`")
    command.add_argument(
        "--stability", action="store_true", help="also the cases that ask for digits ordinary correct code has not"
    )
    command.add_argument("--vectors", default=RELEASE, metavar="REL", help=f"the release; default: {RELEASE}")
    _process_options(command)
    command.add_argument("--jobs", type=int, default=1, metavar="N", help="judge by N processes, with the same result")
    _waive_option(command)
    _report_options(command, report.FORMS)
    command.set_defaults(run=_check)

    command = commands.add_parser(
        "replay",
        help="judge the answers of a recorded run again",
        description="Judge the answers of a recorded run again, by the vectors installed, and report on it.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("record", type=Path, metavar="RUN.jsonl", help="what check --out wrote")
    _waive_option(command)
    _report_options(command, [form for form in report.FORMS if form != "out"])
    command.set_defaults(run=_replay)

    command = commands.add_parser(
        "smoke",
        help="ask each op twice, before any mathematics",
        usage="%(prog)s [OPTION ...] [TARGET | -- WORKER [ARGUMENT ...]]",
        description="Do numbers arrive, do answers come back, in the right form, and twice the same?",
        epilog="exit codes: 0 all is well · 2 usage · 3 something is not · 4 nothing was asked",
    )
    command.add_argument("target", nargs="?", metavar="TARGET", help="as for check")
    command.add_argument("--profile", action="append", default=[], metavar="P", help=_PROFILE_HELP)
    _process_options(command)
    command.set_defaults(run=_smoke)

    command = commands.add_parser(
        "selfcheck",
        help="judge the judge: known mistakes, right variants, odd adapters, flawed comparisons",
        epilog="exit codes: 0 the judge is as it should be · 1 it is not",
    )
    command.add_argument("--profile", action="append", default=[], metavar="P", help=_PROFILE_HELP)
    command.set_defaults(run=_selfcheck)

    command = commands.add_parser("init", help="write an adapter to fill in, and its test file")
    command.add_argument("name", metavar="NAME", help="writes NAME.py and test_NAME.py; never replaces a file")
    command.add_argument("--profile", action="append", default=[], metavar="P", help=_PROFILE_HELP)
    command.set_defaults(run=_init)

    command = commands.add_parser("ops", help="print the contract: what an adapter may implement")
    command.add_argument("--json", action="store_true", help="as JSON")
    command.add_argument("--profile", action="append", default=[], metavar="P", help=_PROFILE_HELP)
    command.set_defaults(run=_ops)

    command = commands.add_parser("laws", help="print the laws that any implementation can be tried on")
    command.add_argument("--json", action="store_true", help="as JSON")
    command.set_defaults(run=_laws)

    command = commands.add_parser("conventions", help="print the axes in which implementations differ, and the presets")
    command.set_defaults(run=_conventions)

    command = commands.add_parser("show", help="print a case, ready to be reproduced")
    command.add_argument("case", metavar="CASE", help="its id, e.g. gae/…")
    command.add_argument("--as", dest="form", choices=LANGUAGES, default="python", help="default: python")
    command.add_argument(
        "--declare", action="append", default=[], metavar="AXIS=VALUE", help="what is certified so; repeatable"
    )
    command.add_argument("--conventions", metavar="NAME", help="what is certified under this preset")
    command.set_defaults(run=_show)

    command = commands.add_parser("explain", help="say what a name stands for, or list the names")
    command.add_argument(
        "name", nargs="?", metavar="NAME", help="a case, an op, an axis, a bug, a law or a preset; all unless given"
    )
    command.set_defaults(run=_explain)

    command = commands.add_parser("plot", help="draw a figure of the theory from exact numbers, or list them")
    command.add_argument("name", nargs="?", metavar="NAME|all", help="which; the list of them unless given")
    command.add_argument("--out", type=Path, metavar="FILE", help=".svg, .png or .pdf; a folder for all")
    command.add_argument("--seed", type=int, metavar="N", help="of what is drawn at random; default: 0")
    command.set_defaults(run=_plot)

    command = commands.add_parser(
        "train",
        help="run NPG, TRPO, PPO or the exact MM algorithm, and keep the run in a folder",
        usage="%(prog)s ALGORITHM --out DIR [OPTION ...] | --resume DIR [--iterations N]",
        description="Train a policy; write what is run, a line for each iteration, a checkpoint, a learning curve.",
        epilog="exit codes: 0 all iterations are made · 2 usage · 130 ended by Ctrl-C, which --resume goes on from",
    )
    _train_options(command)
    command.set_defaults(run=_train)

    command = commands.add_parser("vectors", help="list, verify, compare or export the certified vectors")
    _vectors_parser(command.add_subparsers(metavar="list|verify|diff|export", required=True))
    return parser


def _train_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("algorithm", nargs="?", metavar="ALGORITHM", help="mm, npg, trpo or ppo")
    command.add_argument("--out", type=Path, metavar="DIR", help="where the run is kept; empty, or not there yet")
    command.add_argument("--resume", type=Path, metavar="DIR", help="go on with its run; Gymnasium is replayed")
    command.add_argument("--env", dest="environment", metavar="E", help=f"{_EMBEDDED}, or Gymnasium's; default: chain")
    command.add_argument("--iterations", type=int, metavar="N", help=f"how many in all; default: {_ITERATIONS}")
    command.add_argument("--seed", type=int, metavar="N", help="of all that is drawn; default: 0")
    command.add_argument("--environments", type=int, metavar="N", help="side by side; default: 1")
    command.add_argument("--steps", type=int, metavar="T", help="of each in an iteration; default: the preset's")
    command.add_argument("--preset", metavar="P", help="paper, stable-baselines3; default: paper")
    command.add_argument("--hidden", metavar="N,N", help="widths of the hidden layers; default: 64,64")
    command.add_argument(
        "--exact", action="store_true", default=None, help="exact expectations, on a finite MDP; mm has no others"
    )
    command.add_argument(
        "--set", dest="settings", action="append", metavar="NAME=VALUE", help="another option of the loop; repeatable"
    )
    command.add_argument("--checkpoint-every", type=int, metavar="N", help="iterations; default: 1")


def _waive_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--waive", type=Path, metavar="FILE", help="known failures, excused for a time, as JSON")


def _report_options(command: argparse.ArgumentParser, forms: Iterable[str]) -> None:
    for form in forms:
        command.add_argument(f"--{form}", type=Path, metavar="FILE", help=f"write the report {report.FORMS[form]}")


def _process_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--timeout", type=float, default=TIMEOUT, metavar="S", help=f"seconds for one case; default: {TIMEOUT:g}"
    )
    command.add_argument("--in-process", action="store_true", help="no process of its own for TARGET: for debuggers")


def _vectors_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("list", help="print every case: dims, dtypes it resolves, bugs it tells")
    command.add_argument("--profile", action="append", default=[], metavar="P", help=_PROFILE_HELP)
    command.add_argument("--only", default="", metavar="GLOB", help="ops or case ids, e.g. 'kl*' or 'gae/*'")
    command.set_defaults(run=_vectors_list)

    release = "an installed release, or an exported folder"
    command = commands.add_parser(
        "verify",
        help="check hashes, structure, counts, and that values and bits agree",
        epilog="exit codes: 0 intact · 2 usage · 3 damaged",
    )
    command.add_argument("source", nargs="?", default=RELEASE, metavar="DIR", help=f"{release}; default: {RELEASE}")
    command.set_defaults(run=_vectors_verify)

    command = commands.add_parser(
        "diff",
        help="print what changed from one release to another",
        epilog="exit codes: 0 every change is marked by a new revision · 1 one is not · 2 usage · 3 damaged",
    )
    command.add_argument("old", metavar="A", help=release)
    command.add_argument("new", metavar="B", help="the same")
    command.set_defaults(run=_vectors_diff)

    command = commands.add_parser("export", help="write them as plain files, documented, for any language")
    command.add_argument("folder", type=Path, metavar="DIR", help="new, or empty")
    command.add_argument("--format", dest="form", choices=FORMS, default="json", help="default: json, as released")
    command.add_argument("--force", action="store_true", help="replace an earlier export")
    command.set_defaults(run=_vectors_export)


def _check(arguments: argparse.Namespace) -> int:
    paths = report.destinations(vars(arguments), arguments.only)
    run = check(
        arguments.target,
        profiles=arguments.profile,
        only=arguments.only,
        dtype=arguments.dtype,
        conventions=arguments.conventions,
        stability=arguments.stability,
        timeout=arguments.timeout,
        in_process=arguments.in_process,
        jobs=arguments.jobs,
        waivers=read_waivers(arguments.waive) if arguments.waive is not None else None,
        release=arguments.vectors,
        progress=_progress if sys.stderr.isatty() else None,
    )
    for line in report.terminal(run):
        print(line)
    report.write_all(paths, run, report.origin())
    return run.exit_code


def _replay(arguments: argparse.Namespace) -> int:
    again = replay(arguments.record, waivers=read_waivers(arguments.waive) if arguments.waive is not None else None)
    paths = report.destinations(vars(arguments), again.run.only)
    for line in (*report.terminal(again.run), *replayed(again)):
        print(line)
    report.write_all(paths, again.run, again.origin)
    return again.run.exit_code


def _smoke(arguments: argparse.Namespace) -> int:
    found = smoke.smoke(
        arguments.target,
        profiles=arguments.profile,
        timeout=arguments.timeout,
        in_process=arguments.in_process,
    )
    for line in smoke.lines(found):
        print(line)
    return smoke.exit_code(found)


def _selfcheck(arguments: argparse.Namespace) -> int:
    part = ""

    def in_words(done: int, total: int, what: str) -> None:
        nonlocal part
        if what and what != part:
            print(f"{what} …", file=sys.stderr)
            part = what

    bar = sys.stderr.isatty()
    found = selfcheck.selfcheck(arguments.profile, (lambda *done: _progress(*done[:2])) if bar else in_words)
    for line in selfcheck.lines(found):
        print(line)
    return CONFORM if found.passed else MISMATCH


def _init(arguments: argparse.Namespace) -> int:
    for path in skeleton.start(arguments.name, Path(), arguments.profile):
        print(f"wrote {path}")
    print(f"write one of its functions, then: refpg smoke {arguments.name}.py && refpg check {arguments.name}.py")
    return CONFORM


def _progress(done: int, total: int) -> None:
    filled = 30 * done // max(total, 1)
    bar = f"\r[{'█' * filled}{'·' * (30 - filled)}] {done}/{total}"
    sys.stderr.write(bar if done < total else f"\r{'':{len(bar)}}\r")
    sys.stderr.flush()


def _ops(arguments: argparse.Namespace) -> int:
    ops = ops_of(arguments.profile)
    if arguments.json:
        print(json.dumps([op for op in contract() if op["name"] in ops], ensure_ascii=False, indent=1))
        return 0
    print("\n  ".join(["types\n", *legend(OPS[op] for op in ops)]) + "\n")
    for profile in arguments.profile or PROFILES:
        print(f"{profile}\n")
        for op in ops:
            if OPS[op].profile == profile:
                print(_signature(OPS[op]) + "\n")
    return 0


def _signature(op: Op) -> str:
    inputs = ", ".join(f"{name}: {kind}" for name, kind in op.inputs.items())
    outputs = ", ".join(f"{name}: {kind}" for name, kind in op.outputs.items())
    lines = [f"{op.name}({inputs})", f"→ {outputs}", f"{op.summary}  {op.source}"]
    if op.conventions:
        lines.append(f"conventions: {', '.join(op.conventions)}")
    return "  " + "\n      ".join(lines)


def _laws(arguments: argparse.Namespace) -> int:
    print(json.dumps(laws.listing(), ensure_ascii=False, indent=1) if arguments.json else "\n".join(laws.lines()))
    return CONFORM


def _conventions(arguments: argparse.Namespace) -> int:
    axes = load(ops=[]).axes
    for line in presets.table(axes, presets.presets(axes)):
        print(line)
    return CONFORM


def _show(arguments: argparse.Namespace) -> int:
    case = _case(arguments.case)
    vectors = load(ops=[case.op])
    pairs = dict(_declaration(text, case.op) for text in arguments.declare)
    preset = presets.chosen(arguments.conventions or {}, vectors.axes)
    chosen = preset | presets.chosen(pairs, vectors.axes)
    print(snippet(declared(case, vectors, chosen), vectors, arguments.form))
    return CONFORM


def _declaration(text: str, op: str) -> tuple[str, str]:
    axis, equals, value = text.partition("=")
    known = OPS[op].conventions
    if not equals:
        raise UsageError(f"--declare {text}: expected AXIS=VALUE, e.g. kl.direction=new_old")
    if axis not in known:
        raise UsageError(f"--declare {text}: {op} depends on {', '.join(known) or 'no axis'}{nearest(axis, known)}")
    return axis, value


def _case(name: str) -> Case:
    op = name.partition("/")[0]
    if op not in OPS:
        raise UsageError(f"there is no case {name!r}{nearest(op, OPS)}; the id of a case is op/slug")
    vectors = load(ops=[op])
    case = vectors.case(name)
    if case is None:
        ids = vectors.ids()
        known = f"; {op} has {', '.join(ids)}" if ids else f"; this release has no case of {op}"
        raise UsageError(f"there is no case {name!r}{nearest(name, ids)}{known}")
    return case


def _explain(arguments: argparse.Namespace) -> int:
    name = arguments.name
    if name is not None and "/" in name:
        lines: Iterable[str] = explanations.case_explanation(_case(name))
    else:
        lines = explanations.contents(load()) if name is None else explanations.explanation(name, load())
    for line in lines:
        print(line)
    return CONFORM


def _plot(arguments: argparse.Namespace) -> int:
    figures, name = refpg.plots.FIGURES, arguments.name
    if name is None:
        for known, plate in figures.items():
            print(f"{known:<14}{plate.title}")
        return CONFORM
    if name not in (*figures, "all"):
        raise UsageError(f"there is no figure {name!r}{nearest(name, [*figures, 'all'])}")
    names = tuple(figures) if name == "all" else (name,)
    if arguments.seed is not None and arguments.seed < 0:
        raise UsageError(f"plot {name}: --seed is {arguments.seed}, expected an integer >= 0")
    if arguments.seed is not None and not any(figures[one].drawn for one in names):
        raise UsageError(f"plot {name}: --seed is of no use, nothing of this figure is drawn at random")
    try:
        for one, path in refpg.plots.destinations(names, arguments.out, folder=name == "all").items():
            refpg.plots.save(refpg.plots.figure(one, np.random.default_rng(arguments.seed or 0)), path)
            print(f"wrote {path}")
    except (ValueError, OSError, refpg.plots.MissingMatplotlib) as error:
        raise UsageError(str(error)) from None
    return CONFORM


_ITERATIONS = 50
_INTERRUPTED = 128 + signal.SIGINT


def _train(arguments: argparse.Namespace) -> int:
    training, folder = refpg.training, arguments.resume or arguments.out
    begins = arguments.resume is None and arguments.algorithm is not None
    if folder is None or begins == (arguments.out is None):
        raise UsageError("train: expected ALGORITHM --out DIR to begin a run, or --resume DIR to go on with one")
    try:
        kept, iterations = _resumed(arguments) if arguments.resume else _started(arguments)
        for remark in kept.remarks:
            print(f"refpg: train: {remark}", file=sys.stderr)
        with _ending_by_interrupt() as interrupted:
            progress = _progress if sys.stderr.isatty() else None
            made = training.train(kept, iterations, progress=progress, interrupted=interrupted)
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from None
    except KeyboardInterrupt:
        made = None
    if made != iterations:
        after = "at once" if made is None else f"after iteration {made} of {iterations}"
        onward = f"to go on: refpg train --resume {folder}" if folder.is_dir() else "nothing was written"
        print(f"ended {after}; {onward}", file=sys.stderr)
        return _INTERRUPTED
    lines = training.folder.lines(folder)
    print(f"{folder}: {kept.setup.algorithm} on {kept.setup.environment}, {_last_words(lines[-1])}")
    _learning_curve(folder / "learning-curve.svg", kept.setup, lines)
    return 0


def _setup_words(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what was given of a setup, by its fields."""
    given = {key: value for key, value in vars(arguments).items() if value is not None}
    words = {key: given[key] for key in refpg.training.Setup._fields if key in given}
    if "hidden" in words:
        words["hidden"] = refpg.training.runs.widths(words["hidden"])
    if "settings" in words:
        words["settings"] = dict(refpg.training.runs.setting(text) for text in words["settings"])
    return words


def _started(arguments: argparse.Namespace) -> tuple[Any, int]:
    setup = refpg.training.Setup(**({"environment": "chain", "seed": 0} | _setup_words(arguments)))
    if setup.seed < 0:
        raise UsageError(f"train: --seed is {setup.seed}, expected an integer >= 0")
    every = 1 if arguments.checkpoint_every is None else arguments.checkpoint_every
    kept = refpg.training.start(arguments.out, setup, np.random.default_rng(setup.seed), every=every)
    return kept, _ITERATIONS if arguments.iterations is None else arguments.iterations


def _resumed(arguments: argparse.Namespace) -> tuple[Any, int]:
    folder = arguments.resume
    setup, description = refpg.training.folder.described(folder)
    words = _setup_words(arguments) | (
        {} if arguments.checkpoint_every is None else {"checkpoint_every": arguments.checkpoint_every}
    )
    was = setup._asdict() | description
    if unlike := [f"{key} {was[key]!r}, not {value!r}" for key, value in words.items() if was[key] != value]:
        raise UsageError(f"train: {folder} is a run with {'; '.join(unlike)}: --resume needs no options of the run")
    kept = refpg.training.resume(folder, np.random.default_rng(setup.seed))
    return kept, description["iterations"] if arguments.iterations is None else arguments.iterations


@contextmanager
def _ending_by_interrupt() -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C be a request, and the second one what it always is."""
    requests: list[int] = []

    def request(number: int, _: Any) -> None:
        requests.append(number)
        signal.signal(signal.SIGINT, before)
        os.write(2, b"\nending after this iteration; Ctrl-C again ends at once\n")  # print is not for signal handlers

    before = signal.signal(signal.SIGINT, request)
    try:
        yield lambda: bool(requests)
    finally:
        signal.signal(signal.SIGINT, before)


def _last_words(line: dict[str, Any]) -> str:
    if "steps" not in line:
        return f"iteration {line['iteration']}, expected return {line['expected_return']:.6g}"
    worth = "no episode ended" if line["mean_return"] is None else f"mean return {line['mean_return']:.6g}"
    return f"iteration {line['iteration']}, {line['steps']} actions, {worth}"


def _learning_curve(path: Path, setup: Any, lines: list[dict[str, Any]]) -> None:
    curve = refpg.plots.learning_curve
    title = f"{setup.algorithm.upper()} on {setup.environment}, seed {setup.seed}"
    try:
        refpg.plots.save(curve.draw(curve.numbers(title, lines)), path)
    except refpg.plots.MissingMatplotlib as error:
        print(f"no learning curve is drawn: {error}")
        return
    print(f"wrote {path}")


def _vectors_list(arguments: argparse.Namespace) -> int:
    ops = ops_of(arguments.profile)
    vectors = load()
    for line in releases.table(releases.select(vectors, ops, arguments.only), vectors):
        print(line)
    return CONFORM


def _vectors_verify(arguments: argparse.Namespace) -> int:
    print(releases.verified_line(releases.verify(releases.locate(arguments.source))))
    return CONFORM


def _vectors_diff(arguments: argparse.Namespace) -> int:
    found = releases.difference(releases.locate(arguments.old), releases.locate(arguments.new))
    for line in releases.difference_lines(found):
        print(line)
    return MISMATCH if found.flagged else CONFORM


def _vectors_export(arguments: argparse.Namespace) -> int:
    written = export(releases.locate(), arguments.folder, form=arguments.form, force=arguments.force)
    print(f"{arguments.folder}: {releases.verified_line(written)}")
    return CONFORM


if __name__ == "__main__":
    sys.exit(main())
