"""The autonomy ladder as people see it: where each type stands, what the next rung demands, the sample, the scorecard. Reads only."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from orchestrator.autonomy.ladder import is_sampled, judge_promotion, next_rung
from orchestrator.autonomy.scorecard import History, as_rows, desk_is_large_enough, score
from orchestrator.domain.autonomy import RUNGS, TRUST, Evidence, Move, Standing, lowest
from orchestrator.domain.errors import Conflict
from orchestrator.domain.resolution import Rung
from orchestrator.resolution.playbook import Playbook
from orchestrator.storage.serialize import dump, instant
from orchestrator.storage.transaction import PostgresTransaction


def ladder(tx: PostgresTransaction, playbook: Playbook, now: datetime) -> list[dict[str, Any]]:
    """Every type of the taxonomy: its standing, what it has shown, what is missing for the next rung, whether it is stopped."""
    evidence, stopped = tx.ladder.evidence(now=now), tx.ladder.stopped_types(now=now)
    standing = {each.type: each for each in tx.ladder.standings()}
    types = playbook.first_rungs()
    return [_row(playbook, type, standing.get(type), evidence.get(type), stopped.get(type), types[type]) for type in types]


def _row(
    playbook: Playbook, type: str, standing: Standing | None, evidence: Evidence | None, stopped: Any, first: Rung
) -> dict[str, Any]:
    rung = standing.rung if standing else first
    ceiling, seen = playbook.ceiling(type), evidence or Evidence(type=type, days=0)
    target = next_rung(rung)
    move = judge_promotion(playbook.ladder, seen, at=rung, target=target, ceiling=ceiling) if target else None
    return {
        "type": type,
        "rung": rung,
        "acts_as": lowest(rung, ceiling),
        "trust": TRUST[lowest(rung, ceiling)],
        "ceiling": ceiling,
        "since": instant(standing.since) if standing else None,
        "by": standing.by if standing else None,
        "reason": standing.reason if standing else "as the reviewed file begins",
        "stopped": stopped,
        "evidence": dump(seen),
        "next": None
        if move is None
        else {"rung": move.target, "allowed": move.allowed, "why": move.why, "criteria": dump(move.criteria)},
    }


def moved(
    tx: PostgresTransaction, playbook: Playbook, type: str, target: Rung, *, reason: str, by: str, now: datetime
) -> dict[str, Any]:
    """Down: at once. Up: one rung, where the evidence carries it. Raises Conflict with what is missing."""
    tx.ladder.begin(playbook.first_rungs(), now=now)
    rung = tx.ladder.rungs()[type]
    evidence = tx.ladder.evidence(now=now)[type]
    if target is rung:
        raise Conflict(f"{type} is on {rung} already.", hint="Nothing was changed.")
    if RUNGS.index(target) < RUNGS.index(rung):
        move = Move(type=type, start=rung, target=target, allowed=True, why=reason)
    else:
        move = judge_promotion(playbook.ladder, evidence, at=rung, target=target, ceiling=playbook.ceiling(type))
    if not move.allowed:
        raise Conflict(move.why, hint="GET /v1/autonomy shows what each rung demands and what was found.")
    tx.ladder.move(move, evidence=evidence, by=by, reason=reason, now=now)
    return {"type": type, "from": rung, "to": target, "why": move.why}


def sample(tx: PostgresTransaction, playbook: Playbook) -> Iterator[dict[str, Any]]:
    """What the desk resolved alone and a person shall look at (or has), newest first."""
    for found in tx.ladder.resolved_alone():
        if found["finding"] or is_sampled(playbook.ladder, found["number"], found["before"]):
            shown = {name: found[name] for name in ("id", "type", "subject", "runbook", "finding", "reason", "by")}
            yield {
                **shown,
                "resolved_at": instant(found["at"]),
                "found_at": instant(found["found_at"]) if found["found_at"] else None,
            }


def scorecard(tx: PostgresTransaction, playbook: Playbook) -> dict[str, Any]:
    """From the desk's own history. {types: [...], tickets_per_week, large_enough}."""
    known = tx.ladder.histories()
    histories = [_history(playbook, type, known.get(type, {})) for type in playbook.first_rungs()]
    tickets = sum(history.tickets for history in histories)
    weeks = max((history.weeks for history in histories), default=1.0)
    return {
        "types": as_rows([score(history, playbook.ladder.scorecard) for history in histories]),
        "tickets_per_week": tickets / weeks if weeks else 0.0,
        "large_enough": desk_is_large_enough(tickets, weeks),
    }


def _history(playbook: Playbook, type: str, known: Mapping[str, Any]) -> History:
    names = ("weeks", "texts", "judged", "clear", "looked_up", "answered", "tried", "done", "sensitive")
    given = {name: known[name] for name in names if known.get(name) is not None}
    serving = playbook.serving(type)
    if serving and not playbook.acts(type) and not given.get("judged"):
        given |= {"judged": given.get("tried", 0), "clear": given.get("tried", 0)}  # nothing to permit: a runbook that only answers
    return History(
        type=type, tickets=known.get("tickets", 0), acts=playbook.acts(type), has_runbook=bool(serving), **{"weeks": 1.0, **given}
    )
