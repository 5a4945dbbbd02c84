"""Bring documents into the store: embeds what is new or changed, leaves the rest. Knows the store and an embedder."""

from collections.abc import Iterator, Sequence

from orchestrator.knowledge.documents import Document
from orchestrator.ports import Embedder, Store

TEXTS_PER_CALL = 512  # of the embedder; documents that share a call share a transaction


def load_documents(store: Store, embedder: Embedder, documents: Sequence[Document]) -> list[str]:
    """The ids that were new or changed. A passage is embedded with its document's title and its headings."""
    return [name for ids in loading(store, embedder, documents) for name in ids]


def loading(store: Store, embedder: Embedder, documents: Sequence[Document]) -> Iterator[list[str]]:
    """The same, telling after each transaction which ids it brought: for a progress bar. What is in stays in when it is stopped."""
    with store.transaction() as tx:
        known = tx.document_digests()
    changed = [document for document in documents if known.get(document.id) != document.digest]
    for group in grouped(changed):
        vectors = embedder.embed([text for document in group for text in document.texts()])
        with store.transaction() as tx:
            start = 0
            for document in group:
                mine = vectors[start : start + len(document.passages)]
                rows = [(heading, text, vector) for (heading, text), vector in zip(document.passages, mine, strict=True)]
                tx.put_document(document.record(), rows, model=embedder.name)
                start += len(document.passages)
        yield [document.id for document in group]


def grouped(documents: Sequence[Document]) -> Iterator[list[Document]]:
    """Documents whose passages fill one call of the embedder; a longer one alone."""
    group: list[Document] = []
    for document in documents:
        if group and sum(len(each.passages) for each in group) + len(document.passages) > TEXTS_PER_CALL:
            yield group
            group = []
        group.append(document)
    if group:
        yield group
