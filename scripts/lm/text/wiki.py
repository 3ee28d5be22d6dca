"""Plain text of the articles in a Wikipedia dump (pages-articles.xml.bz2).

Markup that a reader of the page would not see goes: templates, tables, references, pictures, categories. What is left of
links is their text. This is not a parser of wikitext; a few per cent of the pages keep remains of unusual markup.
"""

from __future__ import annotations

import bz2
import html
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

SHORTEST = 200  # characters: shorter articles are stubs and lists of links

_DROPPED = re.compile(
    r"<!--.*?-->|<ref[^>/]*/>|<(ref|gallery|math|timeline|score|imagemap)\b[^>]*>.*?</\1>", re.DOTALL | re.IGNORECASE
)
_TEMPLATE = re.compile(r"\{\{[^{}]*\}\}")
_TABLE = re.compile(r"\{\|(?:(?!\{\||\|\}).)*\|\}", re.DOTALL)
_LINK = re.compile(r"\[\[([^\[\]]*)\]\]")
_UNSEEN = re.compile(r"\s*(?:file|image|category|media|[a-z]{2,3}(?:-[a-z]+)*):", re.IGNORECASE)
_ADDRESS = re.compile(r"\[(?:https?:)?//[^\s\]]+\s*([^\]]*)\]")
_TAG = re.compile(r"</?[a-z][^<>]*>", re.IGNORECASE)
_HEADING = re.compile(r"^=+\s*(.*?)\s*=+\s*$", re.MULTILINE)
_LIST = re.compile(r"^[*#:;]+\s*", re.MULTILINE)
_MAGIC = re.compile(r"__[A-Z]+__")


def _repeated(pattern: re.Pattern, by, text: str) -> str:
    """Replaces from the innermost outwards, until nothing is left to replace."""
    count = 1
    while count:
        text, count = pattern.subn(by, text)
    return text


def _link(match: re.Match) -> str:
    target = match.group(1)
    return "" if _UNSEEN.match(target) else target.split("|")[-1]


def plain(markup: str) -> str:
    """Wikitext -> what a reader sees of it, paragraphs separated by one blank line."""
    text = _DROPPED.sub("", markup)
    text = _repeated(_TEMPLATE, "", text)
    text = _repeated(_TABLE, "", text)
    text = _repeated(_LINK, _link, text)
    text = _ADDRESS.sub(r"\1", text).replace("'''", "").replace("''", "")
    text = _HEADING.sub(r"\n\1\n", _LIST.sub("", _MAGIC.sub("", text)))
    text = html.unescape(_TAG.sub("", text))
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", text)).strip()


def pages(path: Path) -> Iterator[tuple[str, str]]:
    """(title, wikitext) of the articles: pages of namespace 0 that are no redirects."""
    with bz2.open(path) as file:
        inside = {}
        for _, element in ElementTree.iterparse(file):
            tag = element.tag.rsplit("}", 1)[-1]
            if tag in ("title", "ns", "text"):
                inside[tag] = element.text or ""
            elif tag == "redirect":
                inside[tag] = "yes"
            elif tag == "page":
                if inside.get("ns") == "0" and "redirect" not in inside:
                    yield inside["title"], inside.get("text", "")
                inside = {}
                element.clear()


def documents(path: Path) -> Iterator[list[str]]:
    """The lines of each article that is long enough, its title first."""
    for title, markup in pages(path):
        text = plain(markup)
        if len(text) >= SHORTEST:
            yield [f"{line}\n" for line in (title, "", *text.split("\n"))]
