"""Markdown as blocks under a path of headings, with line numbers. Knows its shape; renders nothing, knows no front matter.

A fenced block, a table and a list item with what is indented below it are one block each: what is cut into passages is cut between
blocks, so none of them is ever torn. A `#` inside a fence is no heading.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

HEADING = re.compile(r" {0,3}(#{1,6})\s+(.*?)\s*#*\s*$")
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
TABLE = re.compile(r"\s*\|")


@dataclass(frozen=True, kw_only=True)
class Block:
    """Lines that belong together."""

    kind: str  # "text", "code", "table"
    text: str
    line: int  # of the file, from 1


@dataclass(frozen=True, kw_only=True)
class Section:
    """What stands under one heading, up to the next."""

    path: tuple[str, ...]  # the headings above it and its own, outermost first; empty before the first heading
    line: int  # of its heading
    blocks: tuple[Block, ...]

    @property
    def heading(self) -> str:
        return " > ".join(self.path)

    @property
    def text(self) -> str:
        return "\n\n".join(block.text for block in self.blocks)


def sections(body: str, *, first_line: int = 1) -> list[Section]:
    """Sections in order; those that hold nothing are left out. `first_line`: where `body` begins in its file."""
    found: list[Section] = []
    path: list[tuple[int, str]] = []
    start, lines = first_line, list[tuple[int, str]]()
    for number, line, fenced in _numbered(body, first_line):
        match = None if fenced else HEADING.match(line)
        if match is None:
            lines.append((number, line))
            continue
        found.append(_section(path, start, lines))
        level = len(match[1])
        path = [each for each in path if each[0] < level] + [(level, match[2].strip())]
        start, lines = number, []
    found.append(_section(path, start, lines))
    return [section for section in found if section.blocks]


def _numbered(body: str, first: int) -> Iterator[tuple[int, str, bool]]:
    """(line number, line, whether it belongs to a fenced block)."""
    fence = ""
    for number, line in enumerate(body.splitlines(), start=first):
        match = FENCE.match(line)
        if fence:
            yield number, line, True
            if match and match[1].startswith(fence) and not match[2].strip():
                fence = ""
        elif match:
            fence = match[1]
            yield number, line, True
        else:
            yield number, line, False


def _section(path: Sequence[tuple[int, str]], line: int, lines: Sequence[tuple[int, str]]) -> Section:
    return Section(path=tuple(name for _, name in path), line=line, blocks=tuple(_blocks(lines)))


def _blocks(lines: Sequence[tuple[int, str]]) -> Iterator[Block]:
    kept: list[str] = []
    start, kind, fence = 0, "text", ""
    for number, line in lines:
        opens = FENCE.match(line)
        if fence:
            kept.append(line)
            if opens and opens[1].startswith(fence) and not opens[2].strip():
                yield from _block(kept, start, kind)
                kept, fence = [], ""
            continue
        of = "code" if opens else "table" if TABLE.match(line) else "text"
        if not line.strip() or (kept and of != kind):
            yield from _block(kept, start, kind)
            kept = []
        if line.strip():
            start, kind = (number, of) if not kept else (start, kind)
            kept.append(line)
            fence = opens[1] if opens else ""
    yield from _block(kept, start, kind)


def _block(lines: Sequence[str], start: int, kind: str) -> Iterator[Block]:
    text = "\n".join(lines).strip("\n")
    if text.strip():
        yield Block(kind=kind, text=text, line=start)
