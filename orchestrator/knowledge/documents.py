"""Read knowledge documents: Markdown with front matter, cut into passages at headings. Knows files; no database, no model."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import yaml

from orchestrator.domain.errors import BadInput

AUDIENCES = ("requester", "internal")
AUTHORITIES = ("policy", "article")
PASSAGE_CHARS = 1200  # about what the embedder reads of one text


@dataclass(frozen=True, kw_only=True)
class Document:
    id: str
    title: str
    audience: str
    authority: str
    effective_on: str | None  # ISO date
    reviewed_on: str | None
    owner: str
    source: str  # file name
    digest: str  # sha256 of the file
    passages: tuple[tuple[str, str], ...]  # (heading, text), in order


def read_documents(folder: Path) -> list[Document]:
    """All `*.md` of a folder; raises BadInput with every complaint and its file."""
    documents, complaints = [], []
    for path in sorted(folder.glob("*.md")):
        try:
            documents.append(read_document(path))
        except BadInput as error:
            complaints.append(str(error))
    ids = [document.id for document in documents]
    complaints += [f"the id {name!r} stands in more than one document" for name in sorted({n for n in ids if ids.count(n) > 1})]
    if complaints:
        raise BadInput("\n".join(complaints))
    return documents


def read_document(path: Path) -> Document:
    raw = path.read_bytes()
    try:
        return parse_document(raw.decode("utf-8"), source=path.name)
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 at byte {error.start}.") from error


def parse_document(text: str, *, source: str) -> Document:
    """One document from its text; raises BadInput that names what is missing."""
    match = re.match(r"---\r?\n(.*?)\r?\n---\r?\n(.*)", text, re.S)
    if not match:
        raise BadInput(
            f"{source}: no front matter.", hint="Open the file with --- and id, title, audience, effective_on, reviewed_on."
        )
    try:
        about = yaml.safe_load(match.group(1)) or {}
    except yaml.YAMLError as error:
        raise BadInput(f"{source}: the front matter is not YAML: {error}.") from error
    problems = [f"{name} is missing" for name in ("id", "title") if not about.get(name)]
    audience, authority = about.get("audience", "requester"), about.get("authority", "article")
    problems += [f"audience {audience!r} is none of {', '.join(AUDIENCES)}"] if audience not in AUDIENCES else []
    problems += [f"authority {authority!r} is none of {', '.join(AUTHORITIES)}"] if authority not in AUTHORITIES else []
    passages = tuple(_passages(match.group(2), str(about.get("title", ""))))
    problems += [] if passages else ["there is no text"]
    if problems:
        raise BadInput(f"{source}: {'; '.join(problems)}.")
    return Document(
        id=str(about["id"]),
        title=str(about["title"]),
        audience=audience,
        authority=authority,
        effective_on=_day(about.get("effective_on"), source),
        reviewed_on=_day(about.get("reviewed_on"), source),
        owner=str(about.get("owner") or ""),
        source=source,
        digest=hashlib.sha256(text.encode()).hexdigest(),
        passages=passages,
    )


def _day(value: object, source: str) -> str | None:
    if value is None or value == "":
        return None
    try:
        return date.fromisoformat(str(value)[:10]).isoformat()
    except ValueError as error:
        raise BadInput(f"{source}: {value!r} is not a date such as 2026-03-01.") from error


def _passages(body: str, title: str) -> Iterator[tuple[str, str]]:
    heading, lines = title, []  # type: ignore[var-annotated]
    for line in body.splitlines():
        if match := re.match(r"#{1,3}\s+(.*)", line):
            yield from _cut(heading, "\n".join(lines))
            heading, lines = match.group(1).strip(), []
        else:
            lines.append(line)
    yield from _cut(heading, "\n".join(lines))


def _cut(heading: str, text: str) -> Iterator[tuple[str, str]]:
    """Pieces of at most PASSAGE_CHARS, at paragraph breaks where possible."""
    piece = ""
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        if piece and len(piece) + len(paragraph) > PASSAGE_CHARS:
            yield heading, piece
            piece = ""
        piece = f"{piece}\n\n{paragraph}" if piece else paragraph
    if piece.strip():
        yield heading, piece
