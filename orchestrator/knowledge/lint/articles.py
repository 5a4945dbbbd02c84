"""Articles as lint reads them: fields, sections, sentences with their lines. Knows files and two formats; judges nothing.

`house` is our own front matter. `docs` accepts what other people's documentation carries (title, description, ms.date, date, author,
...), or none at all: what is missing is guessed from the first heading and the path.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from orchestrator.domain.errors import BadInput
from orchestrator.knowledge.documents import Document, assemble, read_text
from orchestrator.knowledge.front_matter import About, read_about, read_yaml, split
from orchestrator.knowledge.markdown import Section, sections

HOUSE, DOCS = "house", "docs"
DATES = ("reviewed_on", "ms.date", "last_updated", "last_modified", "updated", "date")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-ZÄÖÜÉÈÀ\d`*_“\"(])|\n(?=\s*(?:[-*+]|\d+[.)])\s)")


@dataclass(frozen=True, kw_only=True)
class Sentence:
    text: str
    line: int
    section: int  # place of its section


@dataclass(frozen=True)
class Article:
    path: Path
    file: str  # as shown
    about: About
    body: str
    first_line: int  # of the body
    text: str  # the whole file
    foreign: bool = False

    @cached_property
    def sections(self) -> list[Section]:
        return sections(self.body, first_line=self.first_line)

    @cached_property
    def sentences(self) -> list[Sentence]:
        return list(self._sentences())

    def _sentences(self) -> Iterator[Sentence]:
        for place, section in enumerate(self.sections):
            for block in section.blocks:
                if block.kind != "text":
                    continue
                at = 0
                for piece in _SENTENCE.split(block.text):
                    at = block.text.index(piece, at)
                    if piece.strip():
                        yield Sentence(text=piece.strip(), line=block.line + block.text.count("\n", 0, at), section=place)
                    at += len(piece)

    def document(self) -> Document:
        """What would be stored. Raises BadInput."""
        return assemble(self.about, self.body, text=self.text, source=self.file, first_line=self.first_line)


def files_of(path: Path) -> list[Path]:
    """The Markdown files of a folder and all below it, or the one file. Raises BadInput where there is none."""
    found = sorted(path.rglob("*.md")) if path.is_dir() else [path] if path.is_file() else []
    if not found:
        raise BadInput(f"{path}: there is no Markdown file.", hint="Name a folder with *.md files, or one file.")
    return found


def read_article(path: Path, *, root: Path, form: str = HOUSE) -> Article:
    """Raises BadInput that names what is missing."""
    text = read_text(path)
    file = path.relative_to(root).as_posix() if path.is_relative_to(root) and path != root else path.name
    parts = split(text)
    if form == HOUSE:
        if parts is None:
            raise BadInput(
                f"{file}: no front matter.", hint="Open the file with --- and its fields, or read it with --format docs."
            )
        front, body, line = parts
        return Article(path, file, read_about(read_yaml(front, source=file), source=file), body, line, text)
    front, body, line = parts or ("", text, 1)
    return Article(path, file, read_about(_mapped(front, body, file), source=file), body, line, text, foreign=True)


def _mapped(front: str, body: str, file: str) -> dict[str, Any]:
    """Our fields from foreign ones. What their audience words mean to us nobody has said, so the desk alone may read it."""
    try:
        given: Mapping[str, Any] = read_yaml(front, source=file) if front else {}
    except BadInput:
        given = dict(re.findall(r"^([\w.]+):[ \t]*(\S.*)$", front, re.M))  # not quite YAML: one field a line
    heading = re.search(r"^#\s+(.+?)\s*#*$", body, re.M)
    title = str(given.get("title") or (heading[1] if heading else "") or Path(file).stem.replace("-", " "))
    dated = next((day for name in DATES if (day := _foreign_day(given.get(name)))), None)
    identity = str(given.get("id") or re.sub(r"[^A-Za-z0-9._/-]+", "-", file.removesuffix(".md")))
    return {
        "id": identity,
        "title": title,
        "audience": "internal",
        "authority": "article",
        "effective_on": dated,
        "reviewed_on": dated,
        "owner": str(given.get("author") or given.get("ms.author") or ""),
    }


def _foreign_day(value: Any) -> str | None:
    text = "" if value is None else str(value).strip().strip("\"'")
    for pattern in ("%Y-%m-%d", "%m/%d/%Y", "%d.%m.%Y", "%Y/%m/%d"):
        try:
            return datetime.strptime(text[:10], pattern).date().isoformat()
        except ValueError:
            continue
    return None
