"""Tables of text as Markdown."""

from collections.abc import Sequence


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """The first row is the heading."""
    heading, *others = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([heading, "|" + "---|" * len(rows[0]), *others])


def between(text: str, begin: str, end: str, content: str) -> str:
    """The text with `content` in place of what is between the two marks; ValueError when one is missing."""
    for mark in (begin, end):
        if mark not in text:
            raise ValueError(f"expected the line {mark.strip()} for the table, found none")
    return text[: text.index(begin) + len(begin)] + content + text[text.index(end) :]
