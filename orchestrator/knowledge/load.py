"""Bring documents into the store: embeds what is new or changed, leaves the rest. Knows the store and an embedder."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from orchestrator.knowledge.documents import Document
from orchestrator.ports import Embedder, Store


def load_documents(store: Store, embedder: Embedder, documents: Sequence[Document]) -> list[str]:
    """The ids that were new or changed. A passage is embedded with its document's title and its heading."""
    with store.transaction() as tx:
        known = tx.document_digests()
    changed = [document for document in documents if known.get(document.id) != document.digest]
    for document in changed:
        vectors = embedder.embed([f"{document.title}\n{heading}\n{text}" for heading, text in document.passages])
        rows = [(heading, text, vector) for (heading, text), vector in zip(document.passages, vectors, strict=True)]
        with store.transaction() as tx:
            tx.put_document(_record(document), rows, model=embedder.name)
    return [document.id for document in changed]


def _record(document: Document) -> Mapping[str, Any]:
    return {key: value for key, value in asdict(document).items() if key != "passages"}
