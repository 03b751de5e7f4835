"""Where figures are written: one file, or a folder of them, each replaced at once or not at all."""

from collections.abc import Sequence
from pathlib import Path

from refpg.files import write_whole
from refpg.plots.page import FORMS, Figure, render


def destinations(names: Sequence[str], out: Path | None, *, folder: bool) -> dict[str, Path]:
    """Return the file of each figure, after a look at whether it can be written.

    Parameters
    ----------
    names : sequence of str
        The figures.
    out : Path, optional
        A file ending in .png, .svg or .pdf; ``NAME.svg`` unless given.  With ``folder`` a folder, where each figure
        becomes ``NAME.svg``; it is made if it is missing.
    folder : bool
        Whether ``out`` is a folder.

    Returns
    -------
    dict of str to Path

    Raises
    ------
    ValueError
        If the ending names no form, the folder does not exist, or there is something else of that name.
    """
    if folder:
        if out is None:
            raise ValueError("plot all: --out is missing, expected a folder to write the figures to")
        if out.exists() and not out.is_dir():
            raise ValueError(f"plot all: {out} is a file, expected a folder to write the figures to")
        out.mkdir(parents=True, exist_ok=True)
        return {name: out / f"{name}.svg" for name in names}
    (name,) = names
    path = Path(f"{name}.svg") if out is None else out
    if path.suffix.removeprefix(".") not in FORMS:
        raise ValueError(f"plot {name}: {path} ends in {path.suffix!r}, expected .{', .'.join(FORMS)}")
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"plot {name}: {path} cannot be written, expected a file in a folder that exists")
    return {name: path}


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the form that the file's name ends in; a reader sees the old file or the whole new one.

    Parameters
    ----------
    figure : Figure
        From `refpg.plots.figure`.
    path : Path
        Ending in .png, .svg or .pdf, in a folder that exists.

    Raises
    ------
    ValueError
        If the ending names no form.
    """
    write_whole(path, render(figure, path.suffix.removeprefix(".")))
