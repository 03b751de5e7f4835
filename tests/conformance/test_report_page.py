"""The page in a real browser: what it computes, at a desk and on a phone, in the light and in the dark.

A browser is needed.  Without one these tests are skipped, but in continuous integration (CI is set) they fail.
"""

import json
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refpg.conformance import report
from refpg.conformance.run import check

from . import synthetic
from .browser import Browser, browser, required
from .test_report import ORIGIN, hostile, several

__all__ = ["browser"]

WIDTHS = (320, 390, 768, 1280)


def mixed() -> dict[str, Any]:
    """Right, wrong by a known mistake, and a convention that was not declared."""
    return {
        "ratio": lambda old_log_prob, new_log_prob: np.exp(old_log_prob - new_log_prob),
        "td_errors": lambda **inputs: synthetic.td_errors(**inputs) + 3e-16,
        "mean_kl": synthetic.mean_kl("new_old"),
        "name": "a name that is longer than any line of a telephone, and_has_a_word_that_is_longer_than_it_should_be",
    }


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    data = synthetic.write(folder / "data")
    files = synthetic.release()
    files["td_errors"][0]["stability"] = True
    runs = {
        "several": check(several(), data=synthetic.write(folder / "stability", files)),
        "mixed": check(mixed(), data=data),
        "hostile": check(hostile(), data=data),
        "nothing": check({}, data=data),
        "lost": check({"ratio": lambda **inputs: np.full_like(inputs["old_log_prob"], np.nan)}, data=data),
        "right": check(data=data),
        "published": check(only="*_categorical"),
    }
    paths = {name: folder / f"{name}.html" for name in runs}
    for name, path in paths.items():
        path.write_text(report.html(runs[name], ORIGIN), encoding="utf-8")
    (folder / "badge.svg").write_text(report.badge(runs["mixed"]), encoding="utf-8")
    return paths | {"badge": folder / "badge.svg"}


PAGES = ("mixed", "several", "hostile", "nothing", "right", "published")


def test_in_continuous_integration_a_missing_browser_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="was not looked at"):
        required()
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception):
        required()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_loads_nothing_and_complains_of_nothing(browser: Browser, pages: Mapping[str, Path], name: str) -> None:
    browser.open(pages[name], width=1280)
    assert browser.complaints() == []
    assert browser.requests() == [pages[name].resolve().as_uri()]
    assert browser.compute("document.compatMode") == "CSS1Compat"


def test_a_complaint_would_be_heard(browser: Browser, pages: Mapping[str, Path], tmp_path: Path) -> None:
    page = pages["right"].read_text(encoding="utf-8")
    for spoiled in ("<script>1</script>", '<img src="https://example.org/x.png">', '<p onclick="1">x</p>'):
        path = tmp_path / "spoiled.html"
        path.write_text(page.replace("</main>", f"{spoiled}</main>"), encoding="utf-8")
        browser.open(path, width=1280)
        browser.compute("document.querySelector('p[onclick]')?.click()")
        assert any("Content Security Policy" in complaint for complaint in browser.complaints()), spoiled


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_nothing_runs_out_of_the_window(browser: Browser, pages: Mapping[str, Path], name: str, width: int) -> None:
    browser.open(pages[name], width=width)
    browser.compute("document.querySelectorAll('details').forEach(one => one.open = true)")
    beyond = browser.compute(
        "[...document.querySelectorAll('main *, header *, footer *')].filter(one => one.checkVisibility() && "
        f"one.getBoundingClientRect().right > {width} + 1).map(one => one.outerHTML.slice(0, 200))"
    )
    assert beyond == []
    assert browser.compute("document.documentElement.scrollWidth") <= width


# The contrast of every text that can be seen with what is behind it, as WCAG 2 defines it.
CONTRAST = """
(() => {
  document.querySelectorAll('details').forEach(one => one.open = true);
  const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = one => {
    for (; one; one = one.parentElement) {
      const colour = numbers(getComputedStyle(one).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const said = [...document.body.querySelectorAll('*')].filter(one => one.checkVisibility()
    && [...one.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.data.trim()));
  return said.map(one => {
    const [a, b] = [luminance(numbers(getComputedStyle(one).color)), luminance(behind(one))];
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), one.outerHTML.slice(0, 120)];
  }).sort((one, other) => one[0] - other[0]);
})()
"""


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("name", PAGES)
def test_every_text_can_be_read(browser: Browser, pages: Mapping[str, Path], name: str, dark: bool) -> None:
    browser.open(pages[name], width=1280, dark=dark)
    contrasts = browser.compute(CONTRAST)
    assert len(contrasts) > 20
    assert contrasts[0][0] >= 4.5, contrasts[:3]
    background = browser.compute("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, re.findall(r"\d+", background))) < 60) == dark


@pytest.mark.parametrize("name", PAGES)
def test_the_page_has_an_order(browser: Browser, pages: Mapping[str, Path], name: str) -> None:
    browser.open(pages[name], width=1280)
    levels = browser.compute("[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(one => +one.localName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = browser.compute("[...document.querySelectorAll('[id]')].map(one => one.id)")
    assert len(set(ids)) == len(ids)
    links = browser.compute("[...document.querySelectorAll('a')].map(one => decodeURIComponent(one.hash.slice(1)))")
    assert set(links) <= set(ids)
    assert browser.compute("document.documentElement.lang") == "en"


@pytest.mark.parametrize("name", PAGES)
def test_everything_has_a_name_for_who_cannot_see_it(browser: Browser, pages: Mapping[str, Path], name: str) -> None:
    browser.open(pages[name], width=390)
    nodes = browser.ask("Accessibility.getFullAXTree")["nodes"]
    named = ("image", "searchbox", "combobox", "link", "DisclosureTriangle", "heading", "region", "navigation")
    found = [node for node in nodes if not node["ignored"] and node["role"]["value"] in named]
    assert len(found) > 5
    for node in found:
        assert node.get("name", {}).get("value", "").strip(), node


def test_the_first_tab_leads_to_the_findings(browser: Browser, pages: Mapping[str, Path]) -> None:
    browser.open(pages["mixed"], width=1280)
    press(browser, "Tab", 9)
    assert browser.compute("document.activeElement.hash") == "#findings"
    assert browser.compute("document.activeElement.getBoundingClientRect().top") >= 0


def test_a_case_is_opened_from_the_keyboard(browser: Browser, pages: Mapping[str, Path]) -> None:
    browser.open(pages["right"], width=1280)
    assert browser.compute("document.querySelectorAll('details[open]').length") == 0
    browser.compute("document.querySelector('.op > summary').focus()")
    press(browser, "Enter", 13)
    assert browser.compute("document.querySelector('.op').open") is True
    press(browser, "Tab", 9)
    assert browser.compute("document.activeElement.parentElement.className") == "case"


def press(browser: Browser, key: str, code: int) -> None:
    text = {"text": "\r"} if key == "Enter" else {}
    browser.ask("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=code, **text)
    browser.ask("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code)


def test_nothing_of_an_implementation_becomes_markup(browser: Browser, pages: Mapping[str, Path]) -> None:
    browser.open(pages["hostile"], width=1280)
    assert browser.compute("document.title").startswith("mine </script><script>document.title")
    assert browser.compute("document.querySelectorAll('img, iframe, object, link, base').length") == 0
    assert browser.compute("document.scripts.length") == 1
    assert browser.compute("[...document.querySelectorAll('*')].some(one => [...one.attributes]"
                           ".some(attribute => attribute.name.startsWith('on')))") is False  # fmt: skip
    assert browser.compute("[...document.links].every(one => one.getAttribute('href').startsWith('#'))") is True


def test_without_a_script_the_page_is_whole(browser: Browser, pages: Mapping[str, Path]) -> None:
    page = pages["mixed"].read_text(encoding="utf-8")
    markup = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    bare = pages["mixed"].with_name("bare.html")
    bare.write_text(markup, encoding="utf-8")
    texts = []
    for path in (bare, pages["mixed"]):
        browser.open(path, width=1280)
        assert browser.compute("document.querySelector('.filter').checkVisibility()") is (path != bare)
        browser.compute("document.querySelector('.filter').hidden = true")
        texts.append(browser.compute("document.querySelector('main').innerText"))
    assert texts[0] == texts[1]
    assert "refpg show ratio/seven --as python" in texts[0]
    assert "old over new" in texts[0]


def test_the_findings_come_first(browser: Browser, pages: Mapping[str, Path]) -> None:
    browser.open(pages["mixed"], width=1280)
    titles = browser.compute("[...document.querySelectorAll('h2')].map(one => one.innerText)")
    assert titles == ["What was found", "Every case executed", "Not executed", "How to read this"]
    found = browser.compute("[...document.querySelectorAll('.finding h3')].map(one => one.innerText)")
    assert "old over new" in found
    assert "Declare kl.direction = new_old" in found
    said = browser.compute("document.querySelector('.said').innerText")
    assert said == "Of 6 cases executed: 3 wrong. 2 causes explain all of them. Of the whole profile, 3 of 7 conform."


def test_the_bar_shows_the_whole_profile(browser: Browser, pages: Mapping[str, Path]) -> None:
    browser.open(pages["mixed"], width=1280)
    widths = browser.compute("[...document.querySelectorAll('.track i')].map(one => one.getBoundingClientRect().width)")
    whole = browser.compute("document.querySelector('.track').getBoundingClientRect().width")
    shares = [width / (whole - 2 * (len(widths) - 1)) for width in widths]  # 2 pixels between them
    assert shares == pytest.approx([3 / 7, 3 / 7, 1 / 7], abs=0.002)
    assert browser.compute("document.querySelector('.track').ariaLabel") == (
        "7 in profile: 3 conform, 3 wrong, 1 undeclared"
    )


def test_the_dot_is_left_of_the_mark_where_an_answer_conforms(browser: Browser, pages: Mapping[str, Path]) -> None:
    browser.open(pages["mixed"], width=1280)
    browser.compute("document.querySelectorAll('details').forEach(one => one.open = true)")
    dots = browser.compute(
        "[...document.querySelectorAll('.case')].map(one => { const x = selector => { const box = "
        "one.querySelector(`summary .bar ${selector}`).getBoundingClientRect(); return box.x + box.width / 2; }; "
        "return [one.dataset.verdict, x('b'), x('i')]; })"
    )
    assert {verdict for verdict, _, _ in dots} == {"conforms", "wrong"}
    for verdict, dot, mark in dots:
        assert (dot < mark) == (verdict == "conforms")


def test_what_has_no_error_is_at_the_left_end_and_what_is_no_number_at_the_right(
    browser: Browser, pages: Mapping[str, Path]
) -> None:
    place = "[one.ariaLabel, one.style.getPropertyValue('--at')]"
    places = f"[...document.querySelectorAll('.case .bar')].map(one => {place})"
    browser.open(pages["right"], width=1280)
    exact = [at for label, at in browser.compute(places) if label == "0 × tolerance"]
    assert exact
    assert set(exact) == {"0%"}
    browser.open(pages["lost"], width=1280)
    lost = browser.compute(places)
    assert len(lost) == 4  # two cases, of one array each
    assert all(at == "100.0%" and label.startswith("not a number") for label, at in lost)


def test_cases_are_narrowed_by_name_and_verdict(browser: Browser, pages: Mapping[str, Path]) -> None:
    browser.open(pages["mixed"], width=1280)
    seen = "[...document.querySelectorAll('.case')].filter(one => one.checkVisibility()).map(one => one.id)"

    def narrow(field: str, value: str) -> list[str]:
        one = f"document.querySelector('[name={field}]')"
        change = "dispatchEvent(new Event('input', {bubbles: true}))"
        browser.compute(f"{one}.value = {json.dumps(value)}; {one}.{change}")
        return list(browser.compute(seen))

    assert browser.compute("document.querySelector('.filter').checkVisibility()") is True
    assert narrow("words", "ratio") == ["ratio/seven", "ratio/five"]
    assert browser.compute("document.querySelector('output').value") == "2 of 6 cases"
    assert narrow("verdict", "conforms") == []
    assert len(narrow("words", "")) == 3
    narrow("verdict", "")
    assert browser.compute("document.querySelectorAll('[hidden]').length") == 0


def test_a_link_opens_the_case_it_leads_to(browser: Browser, pages: Mapping[str, Path]) -> None:
    browser.open(pages["mixed"], width=390)
    browser.compute("location.hash = '#td_errors/open-4x3'")
    browser.compute("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    case = "document.getElementById('td_errors/open-4x3')"
    assert browser.compute(f"{case}.open && {case}.checkVisibility()") is True
    browser.compute("document.documentElement.style.scrollBehavior = 'auto'; location.hash = '#%E0'")
    assert browser.complaints() == []


def test_the_page_can_be_printed(browser: Browser, pages: Mapping[str, Path]) -> None:
    browser.open(pages["mixed"], width=1280, dark=True)
    browser.ask("Emulation.setEmulatedMedia", media="print", features=[])
    assert browser.compute("document.querySelector('nav').checkVisibility()") is False
    assert browser.compute("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.ask("Page.printToPDF")["data"].startswith("JVBERi0")  # %PDF- in base64


def test_light_and_dark_and_narrow_are_three_pictures(
    browser: Browser, pages: Mapping[str, Path], tmp_path: Path
) -> None:
    pictures = []
    for width, dark in ((1280, False), (1280, True), (390, False)):
        browser.open(pages["mixed"], width=width, dark=dark)
        path = tmp_path / f"{width}-{dark}.png"
        browser.picture(path)
        pictures.append(path.read_bytes())
        scale = 2 if width < 600 else 1
        assert pictures[-1].startswith(b"\x89PNG")
        assert int.from_bytes(pictures[-1][16:20], "big") == width * scale
        assert len(pictures[-1]) > 20_000  # an empty page is a tenth of this
    assert len(set(pictures)) == 3


def test_the_text_of_the_badge_stays_in_its_field(browser: Browser, pages: Mapping[str, Path]) -> None:
    """The width that is drawn is the one computed; without being told, a font is at most so much off."""
    browser.open(pages["badge"], width=800)
    ratios = browser.compute(
        "[...document.querySelectorAll('text')].map(one => { const told = one.textLength.baseVal.value; "
        "one.removeAttribute('textLength'); return one.getComputedTextLength() / told; })"
    )
    assert len(ratios) == 2
    assert all(0.8 < ratio < 1.15 for ratio in ratios), ratios
