"""Judge recorded decisions again under another set of policies: what would have changed. Pure; knows no store and no command."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.domain.resolution import Verdict
from orchestrator.resolution.conditions import number
from orchestrator.resolution.governance import judge_facts
from orchestrator.resolution.policies import Policies
from orchestrator.resolution.recorded import NotRecorded, RecordedFacts

UNKNOWN = "cannot tell"


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """One decision, as it was and as it would be."""

    ticket_id: str
    at: str  # ISO 8601, UTC
    action: str | None  # None: the whole ticket
    amount: float | None  # of the act, where it has one
    was: str
    was_rule: str
    becomes: str  # a decision, or UNKNOWN
    becomes_rule: str
    reason: str
    same: bool  # decision, rule, all determining rules, errors and reason

    @property
    def changed(self) -> bool:
        """Whether something else would have happened; another rule or sentence for the same decision is no such change."""
        return self.was != self.becomes


@dataclass(frozen=True, kw_only=True)
class Replay:
    policies: str  # digest of the set that judged again
    rows: tuple[Replayed, ...]

    @property
    def changed(self) -> tuple[Replayed, ...]:
        return tuple(row for row in self.rows if row.changed)

    def table(self) -> list[dict[str, Any]]:
        """By (old decision -> new decision): how many, which tickets, how much money; the most frequent first."""
        groups: dict[tuple[str, str], list[Replayed]] = {}
        for row in self.changed:
            groups.setdefault((row.was, row.becomes), []).append(row)
        table = [
            {
                "was": was,
                "becomes": becomes,
                "decisions": len(rows),
                "tickets": sorted({row.ticket_id for row in rows}),
                "amount": round(sum(row.amount or 0.0 for row in rows), 2),
                "rules": sorted({row.becomes_rule for row in rows}),
            }
            for (was, becomes), rows in groups.items()
        ]
        return sorted(table, key=lambda group: (-group["decisions"], group["was"], group["becomes"]))

    def document(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "policies": self.policies,
            "decisions": len(self.rows),
            "same": sum(row.same for row in self.rows),
            "changed": self.table(),
            "rows": [asdict(row) for row in self.changed],
        }


def replay(decisions: Iterable[Mapping[str, Any]], policies: Policies) -> Replay:
    """`decisions`: {ticket_id, at, basis} as exported; `basis` is what `recorded` made."""
    return Replay(policies=policies.digest, rows=tuple(_again(each, policies) for each in decisions))


def rejudge(basis: Mapping[str, Any], policies: Policies) -> Verdict | None:
    """The verdict of these policies on the recorded facts; None where they read a fact that was not recorded."""
    try:
        return judge_facts(basis["action"], RecordedFacts(basis, policies), policies)
    except NotRecorded:
        return None


def _again(decision: Mapping[str, Any], policies: Policies) -> Replayed:
    basis = decision["basis"]
    amount = number((basis["facts"].get("arguments") or {}).get("amount"))
    about = {
        "ticket_id": str(decision["ticket_id"]),
        "at": str(decision["at"]),
        "action": basis["action"],
        "amount": None if amount is None else float(amount),
        "was": basis["decision"],
        "was_rule": basis["rule"],
    }
    if basis["by_code"]:
        return Replayed(**about, becomes=basis["decision"], becomes_rule=basis["rule"], reason=basis["reason"], same=True)
    try:
        verdict = judge_facts(basis["action"], RecordedFacts(basis, policies), policies)
    except NotRecorded as unknown:
        return Replayed(**about, becomes=UNKNOWN, becomes_rule="", reason=str(unknown), same=False)
    said = (str(verdict.decision), verdict.rule, verdict.reason, list(verdict.determining), list(verdict.errors))
    same = said == tuple(basis[name] for name in ("decision", "rule", "reason", "determining", "errors"))
    return Replayed(**about, becomes=said[0], becomes_rule=verdict.rule, reason=verdict.reason, same=same)
