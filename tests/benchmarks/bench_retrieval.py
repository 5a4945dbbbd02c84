"""Known-item retrieval over two thousand real articles: by meaning, by words, and both fused; latency; what the glossary adds.

    python -m tests.benchmarks.bench_retrieval [--vectors FILE.npz] [--articles N] [--queries 600] [--threads 1] [--json FILE]

Three sets of questions, none of which stands in what is searched:
  titles        the title of an article -> its body; titles and first headings are taken out of everything that is indexed
  descriptions  the front matter's description, which is never indexed -> the whole article
  sentences     the first sentence of an alert runbook -> the runbook without that sentence, without its title
A question has one right article; another one that answers as well counts as a miss. One search gives all three rankings: each passage
comes with its places by meaning and by words. Latency is that of the desk's own search (10 passages, whole statement), on a warm,
embedded PostgreSQL without other load of ours. The second half of each set, by a hash of the article's name, is what is reported as
held out; no weight of the fusion was fitted to any of them.
"""

import argparse
import json
import os
import re
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from orchestrator.domain.errors import BadInput
from orchestrator.knowledge.documents import Document, read_document
from orchestrator.knowledge.glossary import load_glossary
from orchestrator.knowledge.lint.articles import DOCS, Article, files_of, read_article
from orchestrator.knowledge.load import grouped
from orchestrator.ports import Passage, Reader
from orchestrator.resolution.playbook import COMPANY
from orchestrator.storage.embedded import Server
from orchestrator.storage.migrate import migrate
from orchestrator.storage.store import PostgresStore
from serving.embedding import SentenceEmbedder, bundled
from tests.benchmarks.workload import cpu_name

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "kb"
ARCHIVES = ("officedocs_support_kb.tar.gz", "openshift_runbooks.tar.gz")
READER = Reader(audience="internal")
DEPTH = 100  # passages of which an article's place is read
ARMS = ("vector", "text", "hybrid")
HOUSE: tuple[tuple[str, str], ...] = (  # in requesters' words, by the author of the glossary -> the article
    ("How do I turn on 2FA?", "two-factor-enrolment"),
    ("set up an authenticator for my login", "two-factor-enrolment"),
    ("How do I switch on MFA with my phone?", "two-factor-enrolment"),
    ("Can I use two step verification?", "two-factor-enrolment"),
    ("How do I set a vacation message?", "out-of-office"),
    ("turn on the autoresponder while I am away", "out-of-office"),
    ("holiday reply for people outside", "out-of-office"),
    ("Wie stelle ich eine Urlaubsmeldung ein?", "out-of-office-de"),
    ("How do I install the sticker printer?", "label-printer-lp4"),
    ("connect the barcode printer", "label-printer-lp4"),
    ("How do I set up SSO with Okta?", "saml-single-sign-on"),
    ("connect our IdP", "saml-single-sign-on"),
    ("our Entra tenant for logins", "saml-single-sign-on"),
    ("old REST interface endpoints will stop working, what now", "api-v1-to-v2"),
    ("what is the inbox quota", "mailbox-size"),
    ("inbox is full", "mailbox-size"),
    ("How do I join a mailing list?", "distribution-lists"),
    ("add me to a mail group", "distribution-lists"),
    ("download as CSV everything we have on the shelf", "export-stock-list"),
    ("I got a phishing message, what now?", "report-phishing"),
    ("scam mail in my inbox", "report-phishing"),
    ("Quels droits pour une nouvelle collègue ?", "invite-users-fr"),
    ("user rights of a new colleague", "invite-users"),
    ("Comment reconnaître et signaler un hameçonnage ?", "report-phishing"),
)


@dataclass(frozen=True, kw_only=True)
class Question:
    text: str
    wanted: str  # the article's id
    held_out: bool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=Path, help="kept here between runs")
    parser.add_argument("--queries", type=int, default=600, help="of each set at most")
    parser.add_argument("--articles", type=int, default=10_000, help="of the office set at most: the same ones each time")
    parser.add_argument("--threads", type=int, default=1, help="of the embedder")
    parser.add_argument("--json", type=Path, dest="result")
    asked = parser.parse_args()
    print(f"{cpu_name()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {datetime.now(UTC):%Y-%m-%d}")
    embedder = SentenceEmbedder(bundled(), threads=asked.threads)
    found = {}
    with tempfile.TemporaryDirectory(prefix="cloister-retrieval-") as folder:
        articles = _sample(list(_articles(Path(folder))), asked.articles)
        for name, documents, questions in _sets(articles):
            found[name] = measured(
                name, documents, _some(questions, asked.queries), embedder, Path(folder) / f"pg-{name}", asked.vectors
            )
        found["glossary"] = glossary_effect(embedder, Path(folder) / "pg-house")
    if asked.result:
        asked.result.write_text(json.dumps(found, indent=1))


# --- what is searched, and the questions ---


def _articles(folder: Path) -> Iterator[Article]:
    for name in ARCHIVES:
        with tarfile.open(DATA / name) as archive:
            archive.extractall(folder / name.partition(".")[0], filter="data")
    for path in files_of(folder):
        try:
            yield read_article(path, root=folder, form=DOCS)
        except BadInput:
            continue


def _sample(articles: Sequence[Article], most: int) -> list[Article]:
    office = sorted((a for a in articles if "officedocs" in a.file), key=lambda article: zlib.crc32(article.file.encode()))
    return [*office[:most], *(article for article in articles if "officedocs" not in article.file)]


def _sets(articles: Sequence[Article]) -> Iterator[tuple[str, list[Document], list[Question]]]:
    office = [article for article in articles if "officedocs" in article.file]
    alerts = [article for article in articles if "openshift" in article.file and "/alerts/" in article.file]
    bare = [document for article in office if (document := _without_title(article, article.body))]
    ids = {document.id for document in bare}
    yield "titles", bare, [_question(article.about.title, article) for article in office if article.about.id in ids]
    whole = [document for article in office if (document := _document(article))]
    described = [(article, _description(article)) for article in office]
    yield "descriptions", whole, [_question(text, article) for article, text in described if len(text.split()) > 3]
    cut = [(article, *_first_sentence(article)) for article in alerts]
    kept = [
        (document, sentence, article) for article, sentence, body in cut if sentence and (document := _without_title(article, body))
    ]
    yield "sentences", [document for document, *_ in kept], [_question(sentence, article) for _, sentence, article in kept]


def _question(text: str, article: Article) -> Question:
    return Question(text=text, wanted=article.about.id, held_out=zlib.crc32(article.file.encode()) % 2 == 1)


def _document(article: Article) -> Document | None:
    try:
        return article.document()
    except BadInput:
        return None


def _without_title(article: Article, body: str) -> Document | None:
    plain = re.sub(r"^# .*$", "", body, flags=re.M)
    document = _document(replace(article, body=plain))
    if document is None:
        return None
    title = article.about.title
    passages = tuple(("" if heading == title else heading, text) for heading, text in document.passages)
    return replace(document, title="", passages=passages)


def _description(article: Article) -> str:
    match = re.search(r"^description:[ \t]*(.+)$", article.text, re.M)
    return match[1].strip().strip("\"'") if match else ""


def _first_sentence(article: Article) -> tuple[str, str]:
    """(the sentence, the body without it); the alert's own name is taken out of both."""
    alert = re.escape(Path(article.file).stem)
    for sentence in article.sentences:
        if len(sentence.text.split()) >= 6:
            body = re.sub(alert, "", article.body.replace(sentence.text, "", 1))
            return " ".join(re.sub(alert, "", sentence.text).split()), body
    return "", ""


def _some(questions: Sequence[Question], most: int) -> list[Question]:
    ordered = sorted(questions, key=lambda question: zlib.crc32(question.wanted.encode() + b"order"))
    return ordered[:most]


# --- measuring ---


def measured(
    name: str,
    documents: Sequence[Document],
    questions: Sequence[Question],
    embedder: SentenceEmbedder,
    folder: Path,
    kept: Path | None,
) -> dict[str, object]:
    vectors = _vectors(name, documents, embedder, kept)
    asked = embedder.embed([question.text for question in questions])
    with _database(folder) as store:
        _fill(store, documents, vectors, embedder.name)
        seconds = []
        places: dict[str, list[int]] = {arm: [] for arm in ARMS}
        for question, vector in zip(questions, asked, strict=True):
            with store.transaction() as tx:
                deep = tx.search_knowledge(embedder.name, vector, question.text, limit=DEPTH, reader=READER)
                started = time.perf_counter()
                tx.search_knowledge(embedder.name, vector, question.text, limit=10, reader=READER)
                seconds.append(time.perf_counter() - started)
            for arm in ARMS:
                places[arm].append(place_of(question.wanted, ranking(deep, arm)))
    held = [place for place, question in enumerate(questions) if question.held_out]
    latency = np.percentile(np.array(seconds) * 1000, [50, 99])
    passages = sum(len(document.passages) for document in documents)
    print(f"\n{name}: {len(questions)} questions ({len(held)} held out), {len(documents)} articles in {passages} passages; search p50 "
          f"{latency[0]:.1f} ms, p99 {latency[1]:.1f} ms")  # fmt: skip
    result: dict[str, object] = {"passages": passages, "questions": len(questions), "p50_ms": latency[0], "p99_ms": latency[1]}
    for arm in ARMS:
        both = {"all": places[arm], "held_out": [places[arm][place] for place in held]}
        figures = {part: figures_of(found) for part, found in both.items()}
        result[arm] = figures
        print(
            f"  {arm:<8}"
            + "   ".join(f"{part}: " + ", ".join(f"{key} {value:.3f}" for key, value in of.items()) for part, of in figures.items())
        )
    return result


def ranking(found: Sequence[Passage], arm: str) -> list[str]:
    """Articles in the order of their best passage."""
    if arm != "hybrid":
        field = f"{arm}_rank"
        found = sorted((passage for passage in found if getattr(passage, field)), key=lambda passage: getattr(passage, field))
    return list(dict.fromkeys(passage.document_id for passage in found))


def place_of(wanted: str, ranked: Sequence[str]) -> int:
    """From 1; 0: not found."""
    return ranked.index(wanted) + 1 if wanted in ranked else 0


def figures_of(places: Sequence[int]) -> dict[str, float]:
    several = max(1, len(places))
    return {
        "recall@1": sum(place == 1 for place in places) / several,
        "recall@5": sum(0 < place <= 5 for place in places) / several,
        "MRR": sum(1 / place for place in places if 0 < place <= 10) / several,
    }


def glossary_effect(embedder: SentenceEmbedder, folder: Path) -> dict[str, object]:
    documents = [read_document(path) for path in sorted((COMPANY / "knowledge").glob("*.md"))]
    rewrite = load_glossary(COMPANY / "glossary.yaml").rewrite
    result: dict[str, object] = {}
    with _database(folder) as store:
        _fill(store, documents, _vectors("house", documents, embedder, None), embedder.name)
        for name, said in (("as asked", [text for text, _ in HOUSE]), ("with the glossary", [rewrite(text) for text, _ in HOUSE])):
            with store.transaction() as tx:
                found = [
                    tx.search_knowledge(embedder.name, vector, text, limit=20)
                    for text, vector in zip(said, embedder.embed(said), strict=True)
                ]
            places = [place_of(wanted, ranking(passages, "hybrid")) for passages, (_, wanted) in zip(found, HOUSE, strict=True)]
            near = sum(passages[0].score >= 0.5 for passages in found) / len(found)
            figures = {**figures_of(places), "above the threshold": near}
            result[name] = figures
            print(f"{'glossary: ' + name:<28}" + ", ".join(f"{key} {value:.3f}" for key, value in figures.items()))
    return result


def _vectors(name: str, documents: Sequence[Document], embedder: SentenceEmbedder, kept: Path | None) -> np.ndarray:
    """[passages, dimensions]"""
    file = kept.with_name(f"{kept.stem}-{name}.npz") if kept else None
    texts = [text for document in documents for text in document.texts()]
    if file and file.is_file() and len(known := np.load(file)["vectors"]) == len(texts):
        return known
    started = time.perf_counter()
    vectors = embedder.embed(texts)
    print(f"{name}: {len(texts)} passages embedded in {time.perf_counter() - started:.0f} s")
    if file:
        np.savez(file, vectors=vectors)
    return vectors


def _database(folder: Path) -> "_Database":
    return _Database(folder)


class _Database:
    """A PostgreSQL of its own for the time of a block."""

    def __init__(self, folder: Path) -> None:
        self._server = Server(folder, settings={"fsync": "off", "synchronous_commit": "off", "shared_buffers": "256MB"})

    def __enter__(self) -> PostgresStore:
        self._server.start()
        migrate(self._server.dsn)
        self._store = PostgresStore(self._server.dsn)
        return self._store

    def __exit__(self, *_: object) -> None:
        self._store.close()
        self._server.destroy()


def _fill(store: PostgresStore, documents: Sequence[Document], vectors: np.ndarray, model: str) -> None:
    start = 0
    for group in grouped(documents):
        with store.transaction() as tx:
            for document in group:
                mine = vectors[start : start + len(document.passages)]
                start += len(document.passages)
                rows = [(heading, text, vector) for (heading, text), vector in zip(document.passages, mine, strict=True)]
                tx.put_document(document.record(), rows, model=model)
    with store.transaction() as tx:
        tx._connection.execute("ANALYZE passage")


if __name__ == "__main__":
    main()
