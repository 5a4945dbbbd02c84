"""Read knowledge documents: Markdown with front matter, cut into passages at headings. Knows files; no database, no model."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orchestrator.domain.errors import BadInput
from orchestrator.knowledge.front_matter import LANGUAGES, About, read_about, read_yaml, split
from orchestrator.knowledge.markdown import Block, Section, sections
from orchestrator.triage.signals import detect_language

PASSAGE_CHARS = 1200  # about what the embedder reads of one text
FORMAT = 2  # of what is stored of a document: a change loads every document again
HINT = "Open the file with --- and id, title, audience, effective_on, reviewed_on; foreign files: --format docs."


@dataclass(frozen=True, kw_only=True)
class Document(About):
    source: str  # file name
    digest: str  # sha256 of the file
    passages: tuple[tuple[str, str], ...]  # (headings joined by " > ", text), in order

    def record(self) -> dict[str, Any]:
        """What is stored beside the passages."""
        return {key: value for key, value in asdict(self).items() if key != "passages"}

    def texts(self) -> list[str]:
        """What is embedded of each passage."""
        return [f"{self.title}\n{heading}\n{text}" for heading, text in self.passages]


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
    return parse_document(read_text(path), source=path.name)


def read_text(path: Path) -> str:
    """Raises BadInput for what is not UTF-8."""
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 at byte {error.start}.") from error


def parse_document(text: str, *, source: str) -> Document:
    """One document from its text; raises BadInput that names what is missing."""
    parts = split(text)
    if parts is None:
        raise BadInput(f"{source}: no front matter.", hint=HINT)
    front, body, line = parts
    about = read_about(read_yaml(front, source=source), source=source)
    return assemble(about, body, text=text, source=source, first_line=line)


def assemble(about: About, body: str, *, text: str, source: str, first_line: int = 1) -> Document:
    """A document of checked fields and its body; `text` is the whole file, for the digest. Raises BadInput where it says nothing."""
    passages = tuple(_passages(sections(body, first_line=first_line), about.title))
    if not passages:
        raise BadInput(f"{source}: there is no text.")
    fields = asdict(about) | {"language": about.language or _language(body)}
    digest = hashlib.sha256(f"{FORMAT}\n{text}".encode()).hexdigest()
    return Document(**fields, source=source, digest=digest, passages=passages)


def _language(body: str) -> str:
    """The language of the words, where full-text search knows it; else none."""
    guess = detect_language(body[:4000])
    return guess if guess in LANGUAGES else ""


def _passages(found: Sequence[Section], title: str) -> Iterator[tuple[str, str]]:
    for section in found:
        path = section.path[1:] if section.path[:1] == (title,) and len(section.path) > 1 else section.path
        heading = " > ".join(path) or title
        yield from ((heading, text) for text in _cut(section.blocks))


def _cut(blocks: Sequence[Block]) -> Iterator[str]:
    """Pieces of at most PASSAGE_CHARS where blocks allow it; a single longer block stays whole."""
    piece = ""
    for block in blocks:
        if piece and len(piece) + len(block.text) > PASSAGE_CHARS:
            yield piece
            piece = ""
        piece = f"{piece}\n\n{block.text}" if piece else block.text
    if piece:
        yield piece
