"""A report as its reader sees it: the elements of the page, and its text."""

from __future__ import annotations

from html.parser import HTMLParser

from ganaug.report import write_report

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """The elements of a page with their attributes, and the text that a reader sees."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(html)
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)

    def all(self, tag: str) -> list[dict]:
        return [attrs for name, attrs in self.elements if name == tag]


def page_of(run, folder=None) -> tuple[str, Page]:
    html = write_report(run.folder, folder or run.folder / "report", run.config).read_text("utf-8")
    return html, Page(html)


def page_after(folder, config, out) -> Page:
    """The page of a run folder whose files were changed."""
    return Page(write_report(folder, out, config).read_text("utf-8"))
