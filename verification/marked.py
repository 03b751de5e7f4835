"""The part of a page that a command writes: what stands between ``<!-- name -->`` and ``<!-- /name -->``."""

from collections.abc import Iterable
from pathlib import Path

from refpg.files import write_whole


def replaced(text: str, name: str, lines: Iterable[str]) -> str:
    """Return the text with the lines between its two markers; ValueError unless it has both, once, in order.

    Examples
    --------
    >>> replaced("<!-- sum -->\\nold\\n<!-- /sum -->", "sum", ["new"])
    '<!-- sum -->\\nnew\\n<!-- /sum -->'
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"the page must hold {begin} and, after it, {end}, each once")
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n" + "\n".join(lines) + f"\n{end}{after}"


def rewrite(page: Path, name: str, lines: Iterable[str]) -> None:
    """Replace the part of that name in a page."""
    write_whole(page, replaced(page.read_text(encoding="utf-8"), name, lines).encode())
