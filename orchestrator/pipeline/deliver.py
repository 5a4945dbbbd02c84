"""Carry the outbox to the systems that tickets came from: replies, notes, states. At least once, each under one idempotency key."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from orchestrator.domain.resolution import Observation, ObservationStatus
from orchestrator.ports import Clock, OutboxItem, Store, SystemsOfRecord, Transaction

BATCH = 64


def _reply(payload: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    return "helpdesk.reply", {"body": payload["body"]}


def _note(payload: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    return "helpdesk.note", {"body": payload["body"]}


def _status(payload: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    return "helpdesk.status", {"state": payload["state"], "code": payload.get("outcome") or payload["state"]}


CALLS = {"reply": _reply, "note": _note, "status": _status}


def deliver(store: Store, systems: SystemsOfRecord, pool: ThreadPoolExecutor, clock: Clock) -> int:
    """Send what is due; gives how many arrived. What fails comes again later, with a growing pause."""
    now = clock()
    items = store.run(lambda tx: tx.outbox_due(limit=BATCH, now=now))
    if not items:
        return 0
    ends = [end for lane in pool.map(lambda lane: _walk(systems, lane), _lanes(items)) for end in lane]
    sent = [item.id for item, error in ends if error is None]
    failed = [(item.id, error) for item, error in ends if error is not None]

    def write(tx: Transaction) -> None:
        tx.outbox_sent(sent, now=clock())
        for item_id, error in failed:
            tx.outbox_failed(item_id, error=error, now=clock())

    store.run(write)
    return len(sent)


def _lanes(items: Sequence[OutboxItem]) -> list[list[OutboxItem]]:
    """One lane per ticket, so that its replies and states arrive in order."""
    lanes: dict[str, list[OutboxItem]] = {}
    for item in items:
        lanes.setdefault(item.ticket_id, []).append(item)
    return list(lanes.values())


def _walk(systems: SystemsOfRecord, lane: Sequence[OutboxItem]) -> list[tuple[OutboxItem, str | None]]:
    """Each item with what went wrong, if anything. After the first that did not arrive the others wait."""
    ends: list[tuple[OutboxItem, str | None]] = []
    error: str | None = None
    for item in lane:
        if error is None:
            answer = _send(systems, item)
            error = None if answer.status is ObservationStatus.OK else f"{answer.status}: {answer.body}"[:500]
            ends.append((item, error))
        else:
            ends.append((item, f"waits for what was to be told before: {error}"[:500]))
    return ends


def _send(systems: SystemsOfRecord, item: OutboxItem) -> Observation:
    action, arguments = CALLS[item.kind](item.payload)
    external_id = item.payload.get("external_id") or item.ticket_id
    return systems.call(action, {"external_id": external_id, **arguments}, idempotency_key=f"outbox-{item.id}")
