"""Keep the ladder: new types begin, evidence that turned sends a type down, a chaos day that gets out of hand ends. No promotion here:
that is asked for by a person and carried by evidence."""

import logging

from orchestrator.autonomy.chaos import must_end
from orchestrator.autonomy.ladder import judge_demotion
from orchestrator.ports import Clock, Transaction
from orchestrator.resolution.playbook import Playbook

log = logging.getLogger(__name__)
BY = "cloister"


def keep_ladder(tx: Transaction, playbook: Playbook, clock: Clock) -> list[str]:
    """One round of upkeep; gives what was changed, in words."""
    now = clock()
    tx.ladder.begin(playbook.first_rungs(), now=now)
    changed = []
    rungs = tx.ladder.rungs()
    for type, recent in tx.ladder.recent_evidence(last=playbook.ladder.demote.last).items():
        move = judge_demotion(playbook.ladder.demote, recent, at=rungs[type]) if type in rungs else None
        if move is not None:
            tx.ladder.move(move, evidence=recent, by=BY, reason=move.why, now=now)
            changed.append(f"{type} went down from {move.start} to {move.target}: {move.why}")
    running = [day for day in tx.ladder.chaos_days() if day.covers(now)]
    waiting = tx.ladder.waiting([day.type for day in running]) if running else {}
    for day in running:
        open_, urgent = waiting.get(day.type, (0, 0))
        if why := must_end(playbook.ladder.chaos, waiting=open_, urgent=urgent):
            tx.ladder.cancel_chaos_day(day.id, because=why, by=BY, now=now)
            changed.append(f"{day.id} ended early: {why}")
    for each in changed:
        log.warning("%s", each)
    return changed
