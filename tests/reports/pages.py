"""Pages as elements, and what holds of every page."""

import re
from html.parser import HTMLParser
from itertools import pairwise

from ads_gym.nets.latency import Latency, Spread
from ads_gym.reports import charts
from ads_gym.reports.html import write_report

TIME = Spread(2e-3, 1e-3, 4e-3)
VOID = {"meta", "path", "link", "img", "br", "hr", "input"}


class Parsed(HTMLParser):
    """A page as elements; `assert`s that they are closed in their order."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.text, self.codes = [], [], [], []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes), tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "code":
            self.codes.append("")

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes), tuple(self.open)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag, (tag, self.getpos())
            self.text.append(" " if tag in {"td", "th", "dt", "dd", "li"} else "")

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)
        if self.open[-1:] == ["code"]:
            self.codes[-1] += data

    @property
    def words(self):
        return " ".join("".join(self.text).replace(charts.THIN_SPACE, " ").split())

    def named(self, *tags):
        return [attributes for tag, attributes, _ in self.elements if tag in tags]


def parsed(run, **options):
    options = {"latency": False} | options
    return Parsed(write_report(run, **options).read_text(encoding="utf-8"))


def snapshot(folder):
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else sorted(path.iterdir()))
        for path in [folder, *folder.rglob("*")]
    }


def latencies(dense=TIME, sparse=TIME, ratio=None):
    ratio = ratio or Spread(1.5, 1.4, 1.6)
    return tuple(Latency(batch, True, "cpu", 1, 30, 0.5, dense, sparse, ratio, 1.0) for batch in (1, 64))


def check_form(page):
    """What holds of every page."""
    assert not page.named("script", "link", "img", "iframe", "object", "form")
    assert not [each for each in page.elements if any(name in each[1] for name in ("src", "href", "onload", "onclick"))]
    (policy,) = (each["content"] for each in page.named("meta") if each.get("http-equiv"))
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    ids = [each["id"] for _, each, _ in page.elements if "id" in each]
    assert len(ids) == len(set(ids))
    headings = [int(tag[1]) for tag, *_ in page.elements if re.fullmatch(r"h\d", tag)]
    assert headings[0] == 1 and headings.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(headings))
    for svg in page.named("svg"):
        if svg.get("aria-hidden") != "true":
            assert svg["role"] == "img" and set(svg["aria-labelledby"].split()) <= set(ids)
    assert all(each.get("scope") for each in page.named("th"))
    boxes = [each for each in page.named("div") if each.get("class") == "wide"]  # which scroll by themselves
    assert len(boxes) == len(page.named("table")) and all(each["tabindex"] == "0" for each in boxes)
