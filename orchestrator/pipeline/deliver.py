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
    answers = list(pool.map(lambda lane: [_send(systems, item) for item in lane], _lanes(items)))
    sent = [item.id for lane in answers for item, answer in lane if _arrived(answer)]
    failed = [(item.id, answer) for lane in answers for item, answer in lane if not _arrived(answer)]

    def write(tx: Transaction) -> None:
        tx.outbox_sent(sent, now=clock())
        for item_id, answer in failed:
            tx.outbox_failed(item_id, error=f"{answer.status}: {answer.body}"[:500], now=clock())

    store.run(write)
    return len(sent)


def _lanes(items: Sequence[OutboxItem]) -> list[list[OutboxItem]]:
    """One lane per ticket, so that its replies and states arrive in order."""
    lanes: dict[str, list[OutboxItem]] = {}
    for item in items:
        lanes.setdefault(item.ticket_id, []).append(item)
    return list(lanes.values())


def _send(systems: SystemsOfRecord, item: OutboxItem) -> tuple[OutboxItem, Observation]:
    action, arguments = CALLS[item.kind](item.payload)
    external_id = item.payload.get("external_id") or item.ticket_id
    return item, systems.call(action, {"external_id": external_id, **arguments}, idempotency_key=f"outbox-{item.id}")


def _arrived(answer: Observation) -> bool:
    return answer.status is ObservationStatus.OK
