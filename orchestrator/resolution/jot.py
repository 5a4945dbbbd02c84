"""What a ticket's way writes down without calling anything: a proven identity, its parts, the turns of its loops. Fenced by the claims."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from orchestrator.domain.errors import CloisterError, Conflict, FencedOut
from orchestrator.domain.resolution import Child
from orchestrator.domain.tickets import Ticket
from orchestrator.ports import Claim, Transaction
from orchestrator.resolution.effects import OpenChildren, TakeTurn
from orchestrator.resolution.runs import Desk, Driven, Run, advance, claims_of, drop


def prove(runs: Sequence[Run], desk: Desk, driven: Driven) -> None:
    for run in runs:
        work = run.work
        if work.claim is None:
            advance(run, None, driven)
            continue
        try:
            desk.store.run(partial(_raise_assurance, claim=work.claim, ticket=work.ticket))
        except FencedOut as error:
            drop(run, driven, str(error), lost=True)
        else:
            run.case.proven = True
            advance(run, None, driven)


def _raise_assurance(tx: Transaction, *, claim: Claim, ticket: Ticket) -> None:
    tx.hold([claim])
    tx.prove_identity(ticket.id)


def open_children(wanted: Sequence[tuple[Run, OpenChildren]], desk: Desk, driven: Driven) -> None:
    """One transaction per parent: what stands in the way of one is not the others' matter."""
    for run, effect in wanted:
        try:
            children = desk.store.run(partial(_open, claim=run.work.claim, effect=effect, now=desk.clock()))
        except FencedOut as error:
            drop(run, driven, str(error), lost=True)
        except CloisterError as error:
            drop(run, driven, str(error))
        else:
            advance(run, children, driven)


def _open(tx: Transaction, *, claim: Claim | None, effect: OpenChildren, now: datetime) -> list[Child]:
    assert claim is not None  # a shadow run opens nothing
    if (switch := tx.kill_switch()).get("stopped"):
        raise Conflict(f"Autonomy is stopped for the whole desk ({switch.get('reason') or 'no reason given'}).")
    return tx.open_children(claim, effect.orders, opened_by=effect.opened_by, requester=effect.requester, now=now)


def take_turns(taken: Sequence[tuple[Run, TakeTurn]], desk: Desk, driven: Driven) -> None:
    """What the loops decided, in one transaction; a ticket whose lease is lost drops out alone."""
    written = [each for each in taken if each[0].work.claim is not None]
    for run, _ in (each for each in taken if each not in written):
        advance(run, None, driven)
    if not written:
        return
    try:
        _write_turns(written, desk)
    except FencedOut as error:
        if len(written) > 1:
            for each in written:
                take_turns([each], desk, driven)
        else:
            drop(written[0][0], driven, str(error), lost=True)
        return
    for run, _ in written:
        advance(run, None, driven)


def _write_turns(taken: Sequence[tuple[Run, TakeTurn]], desk: Desk) -> None:
    claims = claims_of([run for run, _ in taken])
    turns = [(run.id, effect.turn) for run, effect in taken]
    desk.store.run(lambda tx: tx.save_turns(claims, turns, now=desk.clock()))
