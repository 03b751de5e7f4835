"""``python -m verification.figures``: every figure is computed and drawn again, and the page that shows them written.

``NAME.svg``, ``NAME.png`` and ``README.md`` come out beside this file.
With names of figures, ``python -m verification.figures mm clip``, only these are drawn again.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from refpg.files import write_whole
from refpg.plots import FIGURES, figure, save

HERE = Path(__file__).parent

HEAD = """# The figures

Every curve is computed from its definition by the package, on a finite MDP where nothing is sampled or believed;
`tests/test_plots.py` holds the numbers behind each figure to what its caption says. They are written by

```
python -m verification.figures
```

and one by one by `refpg plot NAME --out FILE.svg` (or `.png`, `.pdf`; matplotlib is in the extra `plot`).
"""


def page() -> str:
    """Return the page that shows all figures with their captions."""
    entries = [
        f"\n## `refpg plot {name}`: {plate.title}\n\n![{plate.title}]({name}.svg)\n\n{plate.caption}\n"
        for name, plate in FIGURES.items()
    ]
    return HEAD + "".join(entries)


def main(names: Sequence[str]) -> None:
    """Draw the figures named, or all, and write the page."""
    for name in names or FIGURES:
        drawing = figure(name, np.random.default_rng(0))
        for form in ("svg", "png"):
            save(drawing, HERE / f"{name}.{form}")
        print(f"wrote {name}")
    write_whole(HERE / "README.md", page().encode())


if __name__ == "__main__":
    main(sys.argv[1:])
