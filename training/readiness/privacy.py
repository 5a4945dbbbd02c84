"""Personal data: how much there is, and examples without it. The only way by which words of a ticket reach a report."""

import time
from collections import Counter
from dataclasses import replace

import numpy as np

from orchestrator.privacy.redact import redact
from training.readiness.export import Export
from training.readiness.limits import found
from training.readiness.records import Example, Measure, Shown
from training.readiness.vectors import Progress, no_progress

SHOWN_CHARS = 280
SEARCHED = 3_000  # tickets searched for personal data, drawn at random
BUDGET_S = 20.0  # for that search
LEAST = 200  # tickets searched, however long it takes
REDACTION = "Tickets shown are redacted (personal data replaced by its type) and cut; labels are shown as they stand in the export."


def measure_privacy(export: Export, progress: Progress = no_progress) -> Measure:
    """Share of tickets with personal data, counts by type; of a random draw where there are many tickets."""
    drawn = np.random.default_rng(0).permutation(len(export))[:SEARCHED]
    counts: Counter[str] = Counter()
    holding: list[int] = []
    searched, started = 0, time.monotonic()
    for index in drawn:
        if searched >= LEAST and time.monotonic() - started > BUDGET_S:
            break
        kinds = redact(export.texts[index]).counts
        counts.update(kinds)
        holding += [int(index)] * bool(kinds)
        searched += 1
        progress("texts searched for personal data", searched, len(drawn))
    share = len(holding) / searched
    listed = ", ".join(f"{count:,} {kind}" for kind, count in counts.most_common(8))
    return found(
        "personal_data", share,
        f"{share:.1%} of {searched:,} tickets searched hold personal data{': ' + listed if listed else ''}. "
        "`train fit` replaces it before anything is learned.",
        "Leave out signatures and address blocks at the export; who must not be in a data set is known there best.",
        affected=share,
        examples=[Example(rows=tuple(sorted(holding)[:3]), note="personal data replaced")] if holding else [],
        details={"counts": dict(counts.most_common()), "searched": searched, "tickets": len(holding)},
    )  # fmt: skip


def show(measure: Measure, export: Export) -> Measure:
    """The measure with its examples' tickets filled in, redacted."""
    return replace(measure, examples=tuple(_filled(example, export) for example in measure.examples if example.rows))


def _filled(example: Example, export: Export) -> Example:
    return replace(example, tickets=tuple(_shown(export, row) for row in example.rows))


def _shown(export: Export, row: int) -> Shown:
    text = redact(export.texts[row][: 4 * SHOWN_CHARS]).text
    cut = text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…"
    return Shown(id=export.rows[row].id, label=export.labels[row], text=cut)
