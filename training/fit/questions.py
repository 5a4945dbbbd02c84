"""What the adapter is taught: the very prompts that the cascade will send, with their answers. Knows prompts; knows no torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.triage.classify import Mode
from orchestrator.triage.head import Head
from orchestrator.triage.prompts import choice_suffix, rerank_prefix
from orchestrator.triage.rerank import Shown, choose_candidates, show_candidates
from orchestrator.triage.taxonomy import Taxonomy
from training.adapter.rows import ChoiceRow, Rows
from training.fit.recipe import QuestionSettings


@dataclass(frozen=True, kw_only=True, eq=False)
class Questions:
    """Prompts for a set of tickets. `classes` [n, k]: what each code of a prompt stands for."""

    rows: list[ChoiceRow]
    classes: np.ndarray


def ask_options(texts: Sequence[str], taxonomy: Taxonomy, targets: np.ndarray) -> Questions:
    """Every type in the shared prefix."""
    prefix, codes = taxonomy.prefix(), taxonomy.codes
    rows = [
        ChoiceRow(prefix=prefix, suffix=choice_suffix(text), options=codes, target=int(target))
        for text, target in zip(texts, targets, strict=True)
    ]
    return Questions(rows=rows, classes=np.broadcast_to(np.arange(len(codes)), (len(rows), len(codes))))


def ask_candidates(
    texts: Sequence[str], probabilities: np.ndarray, similar: np.ndarray, head: Head, settings: QuestionSettings, *, others: bool
) -> tuple[list[Shown], np.ndarray]:
    """The head's best types with their nearest labeled tickets; `similar` [n, kept], -inf for what must not be shown."""
    chosen = choose_candidates(probabilities, settings.candidates, others=others)
    return show(texts, chosen, similar, head, settings), chosen


def show(texts: Sequence[str], chosen: np.ndarray, similar: np.ndarray, head: Head, settings: QuestionSettings) -> list[Shown]:
    return show_candidates(
        texts,
        chosen,
        similar,
        classes=head.classes,
        neighbor_texts=head.neighbor_texts,
        neighbor_labels=head.neighbor_classes,
        examples=settings.examples,
    )


def as_row(shown: Shown, target: int) -> ChoiceRow:
    """`target` is a class; -1 in the row where it is not among the candidates."""
    place = shown.classes.index(target) if target in shown.classes else -1
    return ChoiceRow(prefix=rerank_prefix(), suffix=shown.suffix, options=shown.codes, target=place)


def rows_of_candidates(
    texts: Sequence[str],
    probabilities: np.ndarray,
    similar: np.ndarray,
    targets: np.ndarray,
    head: Head,
    settings: QuestionSettings,
    *,
    others: bool,
    seed: int,
) -> Rows:
    """The tickets that a head that had not seen them was unsure of, and some others; the right type is always a candidate.

    `probabilities` [n, classes] are out of fold; `similar` [n, kept] has -inf for the ticket itself and its near-copies.
    """
    sureness = probabilities.max(axis=1)
    wrong = probabilities.argmax(axis=1) != targets
    hard = np.flatnonzero((sureness <= np.quantile(sureness, settings.hard_share)) | wrong)
    easy = np.setdiff1d(np.arange(len(texts)), hard)
    scope = probabilities.shape[1] - 1

    def of_pass(number: int) -> list[ChoiceRow]:
        choose = np.random.default_rng([seed, number])
        some = choose.choice(easy, int(len(texts) * settings.easy_share), replace=False) if len(easy) else easy
        index = np.sort(np.concatenate([hard, some[: len(easy)]]))
        shifted = probabilities[index].copy()
        inside = targets[index] < scope
        shifted[np.flatnonzero(inside), targets[index][inside]] += 1.0
        if not others:
            index, shifted = index[inside], shifted[inside]
        chosen = choose_candidates(shifted, settings.candidates, others=others)
        shown = show([texts[i] for i in index], chosen, similar[index], head, settings)
        return [as_row(one, int(targets[i])) for one, i in zip(shown, index, strict=True)]

    return of_pass


def mode_of(settings: QuestionSettings, taxonomy: Taxonomy) -> Mode:
    """`auto`: all options where every type has a code."""
    if settings.mode != "auto":
        return Mode(settings.mode)
    return Mode.OPTIONS if taxonomy.coded else Mode.CANDIDATES
