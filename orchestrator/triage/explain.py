"""Put triage into sentences for the analyst: every statement has its figure. Knows records only."""

from collections.abc import Sequence

from orchestrator.domain.aliases import CANARY
from orchestrator.domain.directory import Alert
from orchestrator.domain.triage import Classification, Link, Triage

TELLING = 0.5  # cosine from which a labeled ticket explains anything


def explain(triage: Triage, alerts: Sequence[Alert] = ()) -> tuple[str, ...]:
    """What was found and why, one sentence each."""
    lines = [_classification(triage.classification)]
    if triage.classification.alias == CANARY:
        lines.append(f"Classified by the canary {triage.classification.classifier}.")
    nearest = next(iter(triage.classification.neighbors), None)
    if nearest and nearest.similarity >= TELLING:
        lines.append(f"Nearest labeled ticket ({nearest.category}, cosine {nearest.similarity:.2f}): “{nearest.text[:120]}”.")
    if triage.classification.settled_by:
        lines.append(f"The wording alone left the type open; the alert {triage.classification.settled_by} settles it.")
    if triage.link:
        lines.append(_link(triage.link))
    lines += [f"Monitoring explains it: {a.kind} on {a.service}{f' at {a.site}' if a.site else ''} ({a.id})." for a in alerts[:2]]
    if triage.signals.cues:
        lines.append(f"The wording shows {', '.join(triage.signals.cues)}.")
    lines.append(f"P{int(triage.priority.level)}: {'; '.join(triage.priority.reasons)}.")
    lines.append(f"To {triage.assignment.group}: {'; '.join(triage.assignment.reasons)}.")
    return tuple(lines)


def _classification(c: Classification) -> str:
    decided = "the linear head" if c.stage == "head" else "the language model with the head"
    others = ", ".join(f"{name} {probability:.0%}" for name, probability in c.alternatives[1:3])
    verdict = f"Not sure enough to act: best guess {c.category}" if c.abstained else f"Category {c.category}"
    return f"{verdict} with {c.confidence:.0%} confidence, decided by {decided}{f'; next {others}' if others else ''}."


def _link(found: Link) -> str:
    strongest = sorted(found.evidence, key=lambda e: -abs(e.weight))[:4]
    return f"Linked to {found.ticket_id} ({found.kind}, score {found.score:.2f}): {'; '.join(e.detail for e in strongest)}."
