"""What a worker would have written, put into the store by hand: the gateway's tests need no worker. Knows the store's verbs."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from desk_records import ALLOW, awaiting_approval, handed_over, observed, proposal, resolved, triage

from orchestrator.domain.resolution import AwaitingRequester, Outcome
from orchestrator.ports import Claim
from orchestrator.storage.store import PostgresStore


def claim(store: PostgresStore, ticket_id: str) -> Claim:
    with store.transaction() as tx:
        claims = {found.ticket_id: found for found in tx.claim(worker="test", limit=64, lease_s=60)}
    return claims[ticket_id]


def settle(
    store: PostgresStore, ticket_id: str, outcome: Outcome, *, now: datetime, category: str = "password_reset", level: int = 3
) -> None:
    """Triage and outcome, as a worker's transaction leaves them."""
    held = claim(store, ticket_id)
    notes: Mapping[str, Any] = {"eligible": True, "runbook": "password_reset@3"}
    with store.transaction() as tx:
        tx.save_triage({ticket_id: triage(category, level=level)}, now=now)
        tx.save_outcomes({ticket_id: outcome}, notes={ticket_id: notes}, now=now)
        tx.finish([held])


def resolve(
    store: PostgresStore, ticket_id: str, *, now: datetime, reply: str = "Your password was reset.", **notes: object
) -> None:
    """With one act that was carried out; `notes` go with the outcome."""
    held = claim(store, ticket_id)
    act = proposal(ticket_id, key=f"key-{ticket_id}")
    with store.transaction() as tx:
        tx.save_triage({ticket_id: triage()}, now=now)
        tx.save_intended([held], [(act, ALLOW)], now=now)
    with store.transaction() as tx:
        tx.save_observed([(ticket_id, act.idempotency_key, observed(now))], now=now)
        tx.save_outcomes(
            {ticket_id: resolved(reply)}, notes={ticket_id: {"eligible": True, "runbook": "password_reset@3", **notes}}, now=now
        )
        tx.finish([held])


def ask_approval(store: PostgresStore, ticket_id: str, *, now: datetime) -> str:
    """The id of the approval that the ticket now waits for."""
    settle(store, ticket_id, awaiting_approval(ticket_id, digest=f"digest-{ticket_id}"), now=now)
    with store.transaction() as tx:
        return tx.approvals_of([ticket_id])[ticket_id][0].id


def ask_requester(store: PostgresStore, ticket_id: str, *, now: datetime) -> None:
    settle(store, ticket_id, AwaitingRequester(question="Which invoice?", purpose="detail", missing=("invoice",)), now=now)


def hand_over(store: PostgresStore, ticket_id: str, *, now: datetime) -> None:
    settle(store, ticket_id, handed_over(), now=now)


def join(store: PostgresStore, ticket_id: str, other: str, *, now: datetime) -> str:
    """Both in one incident; gives its id."""
    with store.transaction() as tx:
        return tx.join_incident(ticket_id, other, title="Nobody can sign in", now=now)
