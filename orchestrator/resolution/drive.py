"""Carry out what many tickets' ways want, in rounds: one effect of every ticket, each kind together.

A ticket whose lease is lost, whose systems are away or whose way fails drops out alone; the others go on. What models and knowledge
answer is `consult`, what is only written down `jot`, what touches a system of record `execute`. Knows no database and no HTTP.
"""

import logging
from collections.abc import Sequence

from orchestrator.domain.resolution import Rung
from orchestrator.resolution import consult, execute, jot
from orchestrator.resolution.case import Case
from orchestrator.resolution.effects import Ask, OpenChildren, Prove, Search, TakeTurn
from orchestrator.resolution.recall import recall
from orchestrator.resolution.resolve import resolve
from orchestrator.resolution.runs import Desk, Driven, Run, Work, advance, drop

__all__ = ["Desk", "Driven", "Work", "drive"]

log = logging.getLogger(__name__)

MAX_ROUNDS = 60
SHADOW = "shadow"


def drive(works: Sequence[Work], desk: Desk) -> Driven:
    """Bring every ticket of the batch to an outcome, or say that it has to be tried again."""
    driven = Driven()
    runs = [Run(work=work, case=case, way=resolve(case)) for work, case in _begin(works, desk, driven)]
    for run in runs:
        advance(run, None, driven)
    vectors: consult.Vectors = {}
    for _ in range(MAX_ROUNDS):
        waiting = [run for run in runs if run.effect is not None]
        if not waiting:
            return driven
        _take_round(waiting, desk, driven, vectors)
    for run in runs:
        if run.effect is not None:
            drop(run, driven, f"No outcome after {MAX_ROUNDS} rounds; the runbook goes in circles.")
    return driven


def _begin(works: Sequence[Work], desk: Desk, driven: Driven) -> list[tuple[Work, Case]]:
    memories = desk.store.run(lambda tx: recall(tx, works, desk.playbook, now=desk.clock()))
    begun = []
    for work in works:
        try:
            case = Case(
                ticket=work.ticket,
                triage=work.triage,
                memory=memories[work.ticket.id],
                playbook=desk.playbook,
                started_at=desk.clock(),
                secret=desk.secret,
                shadow=work.ticket.autonomy_rung == SHADOW or memories[work.ticket.id].rung is Rung.SHADOW,
                reads_in_shadow=desk.reads_in_shadow or work.claim is not None,
                guard=desk.guard,
            )
            begun.append((work, case))
        except Exception as error:
            log.exception("ticket %s cannot begin", work.ticket.id)
            driven.retry[work.ticket.id] = f"{type(error).__name__}: {error}"
    return begun


def _take_round(runs: Sequence[Run], desk: Desk, driven: Driven, vectors: consult.Vectors) -> None:
    """One effect of every waiting ticket."""
    effects = [(run, run.effect) for run in runs]
    consult.ask([(run, effect) for run, effect in effects if isinstance(effect, Ask)], desk, driven)
    consult.search([(run, effect) for run, effect in effects if isinstance(effect, Search)], desk, driven, vectors)
    jot.prove([run for run, effect in effects if isinstance(effect, Prove)], desk, driven)
    jot.open_children([(run, effect) for run, effect in effects if isinstance(effect, OpenChildren)], desk, driven)
    jot.take_turns([(run, effect) for run, effect in effects if isinstance(effect, TakeTurn)], desk, driven)
    execute.execute([(run, effect) for run, effect in effects if isinstance(effect, execute.CALLS)], desk, driven)
