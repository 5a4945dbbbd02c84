"""The check: every measure over one export, the overall verdict, the three most valuable fixes. Reads no file, writes none."""

import time
from collections.abc import Sequence

import numpy as np

from orchestrator.domain.errors import BadInput
from orchestrator.intake.read_tickets import TicketRow
from training.readiness.ceiling import measure_ceiling, try_baseline
from training.readiness.clusters import measure_clusters
from training.readiness.consistency import measure_copies, measure_noise
from training.readiness.content import measure_content
from training.readiness.drift import measure_drift
from training.readiness.export import Export, export_of
from training.readiness.labels import measure_labels
from training.readiness.languages import measure_languages
from training.readiness.limits import RULES, number, wanted
from training.readiness.privacy import REDACTION, measure_privacy, show
from training.readiness.records import Fix, Measure, Report, Verdict
from training.readiness.variety import measure_variety, near_copies
from training.readiness.vectors import Progress, Space, no_progress, place
from training.readiness.volume import measure_volume

SAMPLE = 15_000  # tickets compared by default; the cheap measures always read all
LABEL_CHARS = 200  # a longer label is no label but a text
FIXES = 3
SUMMARY = {
    Verdict.GOOD: "Good: train on it.",
    Verdict.IMPROVE: "Usable, with advice: train on it, and mend these first where you can.",
    Verdict.STOP: "Stop: a model trained on this will disappoint. Mend these first.",
}


def check(
    rows: Sequence[TicketRow],
    *,
    others_label: str = "oos",
    file: str = "",
    sha256: str = "",
    sample: int = SAMPLE,
    embedding: bool = True,
    progress: Progress = no_progress,
) -> Report:
    """Everything about an export. Raises BadInput where the category column holds texts instead of labels."""
    started = time.monotonic()
    _refuse_texts_as_labels(rows)
    export = export_of(rows, others_label=others_label)
    compared = draw(export, sample)
    space = place([export.texts[row] for row in compared], embedding=embedding, progress=progress)
    measures = [show(measure, export) for measure in _measures(export, compared, space, progress)]
    verdict = overall(measures)
    return Report(
        file=file, sha256=sha256, tickets=len(export), labeled=len(export.labeled), compared=len(compared), encoder=space.encoder,
        verdict=verdict, summary=SUMMARY[verdict], fixes=tuple(most_valuable(measures)), measures=tuple(measures),
        redaction=REDACTION, took_s=round(time.monotonic() - started, 1),
    )  # fmt: skip


def _measures(export: Export, compared: np.ndarray, space: Space, progress: Progress) -> list[Measure]:
    """In the order of the report."""
    clusters = near_copies([export.texts[row] for row in compared], space)
    language, languages = measure_languages(export)
    content, poor = measure_content(export, space.vectors, compared)
    times = [row.created_at for row in export.rows]
    tried = try_baseline(export.labels, space.vectors, compared, clusters, times, progress=progress)
    found = [
        *measure_volume(export),
        *measure_labels(export),
        measure_copies(export, compared, clusters),
        measure_noise(export, tried, space, compared),
        *content,
        *measure_variety(export, compared, clusters),
        measure_clusters(export, space, compared, poor),
        language,
        measure_privacy(export, progress),
        measure_drift(export),
        *measure_ceiling(tried, languages, frozenset(filter(export.is_catch_all, export.counts))),
    ]
    return sorted(found, key=lambda measure: list(RULES).index(measure.key))


def _refuse_texts_as_labels(rows: Sequence[TicketRow]) -> None:
    for row in rows:
        if row.category and len(row.category) > LABEL_CHARS:
            raise BadInput(
                f"The category in line {row.line} has {len(row.category):,} characters: that is a text, not a label.",
                hint="Name the column of the label: --map category=COLUMN.",
            )


def draw(export: Export, sample: int) -> np.ndarray:
    """[m] int ascending: the rows that are compared, all of them or a random draw."""
    if len(export) <= sample:
        return np.arange(len(export))
    return np.sort(np.random.default_rng(0).permutation(len(export))[:sample])


def overall(measures: Sequence[Measure]) -> Verdict:
    """The worst verdict of any measure; what could not be measured does not count."""
    seen = {measure.verdict for measure in measures}
    return next(verdict for verdict in (Verdict.STOP, Verdict.IMPROVE, Verdict.GOOD) if verdict in seen or verdict is Verdict.GOOD)


def most_valuable(measures: Sequence[Measure]) -> list[Fix]:
    """Stops first; then by the measure's weight times the share of tickets that the fix touches."""
    wanting = [measure for measure in measures if measure.verdict in {Verdict.STOP, Verdict.IMPROVE} and measure.fix]
    wanting.sort(key=lambda measure: (measure.verdict is not Verdict.STOP, -RULES[measure.key].weight * measure.affected))
    return [_fix(measure) for measure in wanting[:FIXES]]


def _fix(measure: Measure) -> Fix:
    because = f"{measure.title}: {number(measure.unit, measure.value)}; wanted {wanted(measure.unit, measure.limit)}"
    return Fix(measure=measure.key, sentence=measure.fix, because=because)
