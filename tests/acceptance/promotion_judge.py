"""Was every answer given by a model that stood behind its alias at that moment, with that model's own numbers? Knows records only.

A move is not an instant: between its line in the history and the moment when the last replica says that it follows, the old and the new
model are both right. Before and after there is one right answer.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from tests.acceptance.promotion_traffic import LIVE, Sent

TELLING = 0.5  # log-probability: questions to which two models' answers differ less are no witness of which one answered
FLOOR = -10.0  # log-probability
NEAR = 0.25  # of a model's own numbers: rounding in batches of other shapes stays far below
Reference = Mapping[str, Sequence[np.ndarray]]
"""Full name -> per question [options] log-probabilities by the trainer's forward pass, normalized over the options."""


@dataclass(frozen=True, kw_only=True)
class Reign:
    """From when on an alias stood for a model. `name` empty: for nothing."""

    alias: str
    name: str
    since: float  # the move's own time
    settled: float  # the last replica followed
    percent: int | None = None
    refused: bool = False  # what stands behind it is broken: scores are refused, tickets stay with the one before


@dataclass(frozen=True, kw_only=True)
class Swap:
    """How fast a move of `live` took effect, in seconds after it was written to the history."""

    what: str
    first_new_score: float
    last_old_score: float
    first_new_ticket: float
    all_replicas: float


def reigning(reigns: Sequence[Reign], alias: str, start: float, end: float) -> list[Reign]:
    """Those that may rightly answer a request that was under way from `start` to `end`."""
    of_alias = [reign for reign in reigns if reign.alias == alias]
    until = [after.settled for _, after in pairwise(of_alias)] + [math.inf] * bool(of_alias)
    return [reign for reign, gone in zip(of_alias, until, strict=True) if reign.since <= end and start <= gone]


# --- one request -----------------------------------------------------------------------------------------------------------


def excused(sent: Sent, reigns: Sequence[Reign]) -> bool:
    """A score that was asked of an alias which was broken on purpose."""
    return (
        sent.kind == "score"
        and sent.asked == LIVE
        and any(r.refused for r in reigning(reigns, LIVE, sent.sent_at, sent.answered_at))
    )


def wrong_model(sent: Sent, reigns: Sequence[Reign]) -> str:
    """Why another model should have answered; empty where the right one did."""
    allowed = _allowed(sent, reigns)
    if sent.answered_by in allowed:
        return ""
    right = " or ".join(sorted(allowed)) or "an error"
    return f"{sent.kind} {sent.ticket_id or sent.asked} was answered by {sent.answered_by or 'nobody'}, not by {right}"


def _allowed(sent: Sent, reigns: Sequence[Reign]) -> set[str]:
    if sent.kind == "score" and sent.asked != LIVE:
        return {sent.asked}
    live = reigning(reigns, LIVE, sent.sent_at, sent.answered_at)
    if sent.kind == "score":
        return {reign.name for reign in live if not reign.refused}
    candidates = reigning(reigns, "canary", sent.sent_at, sent.answered_at) if sent.alias == "canary" else []
    return {reign.name for reign in (candidates or _on_the_desk(live, reigns)) if reign.name}


def _on_the_desk(live: Sequence[Reign], reigns: Sequence[Reign]) -> list[Reign]:
    """For tickets the last whole model stays where a broken one was put."""
    order = [reign for reign in reigns if reign.alias == LIVE]
    return [_last_whole(order, order.index(reign)) for reign in live]


def _last_whole(order: Sequence[Reign], place: int) -> Reign:
    return next(reign for reign in reversed(order[: place + 1]) if not reign.refused)


def stale(sent: Sent, reference: Reference) -> str:
    """Why the numbers are not those of the model that is named as answering; empty where they are its own."""
    if sent.kind != "score" or sent.failed or sent.answered_by not in reference:
        return ""
    got = normalized(sent.logprobs)
    own = _distance(got, reference[sent.answered_by][sent.question])
    for name, rows in reference.items():
        telling = _distance(rows[sent.question], reference[sent.answered_by][sent.question]) >= TELLING
        if name != sent.answered_by and telling and _distance(got, rows[sent.question]) < own:
            return f"question {sent.question} to {sent.asked} has the numbers of {name}, and says {sent.answered_by}"
    return (
        f"question {sent.question} to {sent.asked} is {own:.2f} away from the numbers of {sent.answered_by}" if own > NEAR else ""
    )


def normalized(logprobs: Sequence[float]) -> np.ndarray:
    """What is as good as impossible is cut at FLOOR: rounding moves it most and it tells least."""
    row = np.array(logprobs, np.float64)
    return np.maximum(row - np.logaddexp.reduce(row), FLOOR)


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max())


# --- all of them -----------------------------------------------------------------------------------------------------------


def counts(sent: Sequence[Sent], reigns: Sequence[Reign], reference: Reference) -> tuple[dict[str, Any], list[str]]:
    """(figures, what went wrong as sentences)."""
    failed = [each for each in sent if each.failed]
    errors = [each for each in failed if not excused(each, reigns)]
    answered = [each for each in sent if not each.failed]
    wrong = [why for each in answered if (why := wrong_model(each, reigns))]
    not_own = [why for each in answered if (why := stale(each, reference))]
    late = [each for each in answered if each.status == 202]
    judged = [each for each in answered if each.kind == "score" and each.answered_by in reference]
    away = [_distance(normalized(each.logprobs), reference[each.answered_by][each.question]) for each in judged]
    figures = {
        "tickets": sum(each.kind == "ticket" for each in sent),
        "scores": sum(each.kind == "score" for each in sent),
        "errors": len(errors),
        "refused while broken on purpose": len(failed) - len(errors),
        "answers of a wrong model": len(wrong),
        "scores compared with the trainer's": len(judged),
        "scores with another model's numbers": len(not_own),
        "largest distance to the model's own numbers": round(max(away, default=0.0), 4),
        "tickets decided after the wait": len(late),
    }
    kinds = Counter(f"error: {each.kind} {each.asked or ''} got {each.status}: {each.detail[:160]}" for each in errors)
    problems = [f"{count} x {what}" for what, count in kinds.most_common(5)]
    return figures, problems + wrong[:5] + not_own[:5]


def swaps(sent: Sequence[Sent], reigns: Sequence[Reign]) -> list[Swap]:
    """One for each move of `live` between two whole models."""
    order = [reign for reign in reigns if reign.alias == LIVE]
    until = [reign.since for reign in order[2:]] + [math.inf]
    moves = zip(pairwise(order), until, strict=False)
    return [_swap(sent, before, after, end) for (before, after), end in moves if not before.refused and not after.refused]


def _swap(sent: Sequence[Sent], before: Reign, after: Reign, until: float) -> Swap:
    """`until`: when the next move began."""
    near = [each for each in sent if not each.failed and after.since <= each.answered_at < until]
    scores = [each for each in near if each.kind == "score" and each.asked == LIVE]
    tickets = [each for each in near if each.kind == "ticket"]
    return Swap(
        what=f"{_short(before.name)} -> {_short(after.name)}",
        first_new_score=_after(after, min, (each.answered_at for each in scores if each.answered_by == after.name)),
        last_old_score=_after(after, max, (each.answered_at for each in scores if each.answered_by == before.name)),
        first_new_ticket=_after(after, min, (each.answered_at for each in tickets if each.answered_by == after.name)),
        all_replicas=round(after.settled - after.since, 2),
    )


def _after(reign: Reign, choose: Callable[..., float], times: Any) -> float:
    """Seconds after the move; not a number where nothing of the kind was seen."""
    found = list(times)
    return round(choose(found) - reign.since, 2) if found else math.nan


def canary_share(sent: Sequence[Sent], canary: Reign, live: str, until: float) -> dict[str, Any]:
    """Tickets that were sent and answered while the canary stood: how many it got, and how many should have gone the other way."""
    from orchestrator.pipeline.models import Served, TriageModels

    whole = Served(classifier=None, taxonomy=None, name=live)  # type: ignore[arg-type]  # only its share is asked
    models = TriageModels(
        live=whole,
        embedder=None,  # type: ignore[arg-type]
        canary=replace(whole, name=canary.name, alias="canary"),
        canary_percent=float(canary.percent or 0),
    )
    seen = [e for e in sent if e.kind == "ticket" and not e.failed and canary.settled <= e.sent_at and e.answered_at <= until]
    astray = [each.ticket_id for each in seen if models.served_to(each.ticket_id).name != each.answered_by]
    got = sum(each.answered_by == canary.name for each in seen)
    return {"percent": canary.percent, "tickets": len(seen), "of the canary": got, "astray": astray}


def _short(full_name: str) -> str:
    name, _, digest = full_name.partition("@sha256-")
    return f"{name}@{digest[:6]}" if digest else name or "nothing"
