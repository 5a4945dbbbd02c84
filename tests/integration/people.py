"""People who decide approvals, as many as an approval wants. Knows the store's verbs."""

from datetime import datetime

from orchestrator.domain.resolution import Approval
from orchestrator.storage.transaction import PostgresTransaction


def decide(tx: PostgresTransaction, approval_id: str, *, approve: bool, reason: str, by: str, now: datetime) -> Approval:
    """One person's no, or the yes of a whole quorum: `by`, and colleagues of theirs."""
    found = tx.approval(approval_id)
    for number in range(found.quorum if approve else 1):
        name = f"{number}.{by}" if number else by
        found = tx.decide(approval_id, approve=approve, reason=reason, by=name, now=now)
    return found
