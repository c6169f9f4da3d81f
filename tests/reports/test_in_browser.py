"""A browser shows a report as it should be."""

from dataclasses import replace
from pathlib import Path

import pytest
from browser import CHROMIUM, Browser
from marks import slow
from pages import latencies

from ads_gym.reports.html import render
from ads_gym.reports.search_page import search_page


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


WIDTHS = "[document.scrollingElement.scrollWidth, innerWidth]"
PAPER = "getComputedStyle(document.documentElement).backgroundColor"
SMALL = "Math.min(...[...document.querySelectorAll('svg text')].map(t => t.getBoundingClientRect().height))"
OUTSIDE = """[...document.querySelectorAll('svg text')].filter(t => {
  const box = t.getBoundingClientRect(); return box.right > innerWidth || box.left < 0 }).length"""
CUT = "[...document.querySelectorAll('.wide')].filter(e => e.scrollWidth > e.clientWidth + 4).length"  # tables
OVERLAPS = """[...document.querySelectorAll('svg')].filter(s => ['x', 'y'].some(side => {
  const boxes = [...s.querySelectorAll(`text.${side}:not(.label)`)].map(t => t.getBoundingClientRect());
  return boxes.some((a, i) => boxes.some((b, j) => i < j && a.left < b.right && b.left < a.right
    && a.top < b.bottom - 1 && b.top < a.bottom - 1)) })).length"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [slow(320), 390, slow(800), 1280])
@pytest.mark.parametrize("run", ["digits", slow("planted")])
def test_a_browser_shows_it(place, browser, run, width, scheme):
    page = search_page(Path(run))
    file = place / "page.html"
    file.write_text(render(replace(page, latency=latencies(), machine="a machine")), encoding="utf-8")
    opened = browser.open(file, WIDTHS, PAPER, SMALL, OUTSIDE, OVERLAPS, CUT, width=width, scheme=scheme)
    assert opened.requests == [file.as_uri()] and not opened.errors
    (content, window), paper, small, outside, overlaps, cut = opened.values
    assert content <= window == width
    assert paper == {"light": "rgb(253, 252, 249)", "dark": "rgb(21, 23, 26)"}[scheme]
    assert small >= 8 and not outside and not overlaps  # pixels, of a line of text
    assert not cut or width < 390


def test_a_browser_finds_what_is_wrong(place, browser):
    """So that the test above can fail."""
    html = render(search_page(Path("planted")))
    wrong = "<p style='width: 900px'>x</p><svg><path d='M1 x'/></svg><img src='https://localhost:1/x.png'>"
    (place / "page.html").write_text(html.replace("<main>", f"<main>{wrong}"), encoding="utf-8")
    opened = browser.open(place / "page.html", WIDTHS, width=390)
    assert opened.values[0][0] > 390 and len(opened.errors) >= 2
    assert any("Content Security Policy" in error for error in opened.errors)
