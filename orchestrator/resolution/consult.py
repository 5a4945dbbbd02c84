"""What a batch asks of models and knowledge: one score call, one embed call, one transaction of searches for all of it."""

from collections.abc import Mapping, Sequence

import numpy as np

from orchestrator.domain.errors import CloisterError, ModelUnavailable
from orchestrator.resolution.asked import choice_record, search_record
from orchestrator.resolution.effects import Ask, Search
from orchestrator.resolution.knowing import reranked
from orchestrator.resolution.runs import Desk, Driven, Run, advance, drop

Vectors = dict[str, np.ndarray]  # words of this batch that were embedded already


def ask(asked: Sequence[tuple[Run, Ask]], desk: Desk, driven: Driven) -> None:
    if not asked:
        return
    try:
        results = desk.language_model.score([effect.request for _, effect in asked], model=desk.model)
    except ModelUnavailable as error:
        for run, _ in asked:
            drop(run, driven, str(error), waits=True)
        return
    for (run, effect), result in zip(asked, results, strict=True):
        run.case.asked.append(choice_record(effect.request, result))
        advance(run, result, driven)


def search(wanted: Sequence[tuple[Run, Search]], desk: Desk, driven: Driven, vectors: Vectors) -> None:
    if not wanted:
        return
    try:
        said = {effect.words: desk.rewrite(effect.words) for _, effect in wanted}
        embed(wanted, said, desk, vectors)
        name = desk.embedder.name
        found = desk.store.run(
            lambda tx: [
                tx.search_knowledge(name, vectors[effect.words], said[effect.words], limit=effect.limit, reader=effect.reader)
                for _, effect in wanted
            ]
        )
        found = [reranked(desk.reranker, effect.words, passages) for (_, effect), passages in zip(wanted, found, strict=True)]
    except CloisterError as error:
        for run, _ in wanted:
            drop(run, driven, str(error), waits=isinstance(error, ModelUnavailable))
        return
    for (run, effect), passages in zip(wanted, found, strict=True):
        run.case.asked.append(search_record(effect.words, passages))
        advance(run, passages, driven)


def embed(wanted: Sequence[tuple[Run, Search]], said: Mapping[str, str], desk: Desk, vectors: Vectors) -> None:
    """By the words wanted, of what is `said` for them. Triage has embedded the tickets' own text already; one call for the rest."""
    name = desk.embedder.name
    ids = [
        run.id
        for run, effect in wanted
        if effect.words == run.work.ticket.text and said[effect.words] == effect.words and effect.words not in vectors
    ]
    if ids:
        stored = desk.store.run(lambda tx: tx.embeddings(name, ids))
        vectors |= {run.work.ticket.text: stored[run.id] for run, _ in wanted if run.id in stored and run.id in ids}
    missing = sorted({effect.words for _, effect in wanted if effect.words not in vectors})
    if missing:
        vectors |= dict(zip(missing, desk.embedder.embed([said[words] for words in missing]), strict=True))
