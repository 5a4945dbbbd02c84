"""Records as the pages show them: one sentence per event, one block per step. Knows the record's JSON; knows no HTML."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from orchestrator.domain.resolution import Approval
from serving.gateway.console.rendering import OUTCOME_WORDS, percent, words

OPEN_STATES = ("active", "pending", "escalated")
TABS: Mapping[str, tuple[str, tuple[str, ...] | None]] = {
    "open": ("Open", OPEN_STATES),
    "active": ("Active", ("active",)),
    "pending": ("Pending", ("pending",)),
    "escalated": ("Escalated", ("escalated",)),
    "resolved": ("Resolved", ("resolved", "closed")),
    "all": ("All", None),
}
PRIORITY_WORDS = {1: "Critical", 2: "High", 3: "Normal", 4: "Low"}
ASSURANCE_WORDS = {
    "claimed": "claimed, not proven",
    "authenticated": "signed in at the portal",
    "proven": "proven by a one-time code",
}
VERDICT_TONES = {"allow": "good", "needs_approval": "wait", "needs_identity": "wait", "hand_over": "warn", "deny": "bad"}
OBSERVATION_TONES = {"ok": "good", "refused": "bad", "unknown": "warn", "unavailable": "warn"}
SIGNAL_FLAGS = {
    "legal_threat": "legal threat",
    "distress": "a person in distress",
    "losing_money": "losing money",
    "repeat_contact": "repeated contact",
    "vague": "too vague to act on",
    "smuggled_instruction": "tries to instruct the desk",
}
HIDDEN_ENTITIES = frozenset({"emails"})

Sentence = Callable[[Mapping[str, Any]], str]


def tab_counts(counts: Mapping[str, int]) -> list[dict[str, Any]]:
    return [
        {"key": key, "name": name, "count": sum(counts.get(s, 0) for s in states) if states else sum(counts.values())}
        for key, (name, states) in TABS.items()
    ]


def tiles(kpis: Mapping[str, Any]) -> list[dict[str, str]]:
    """The strip of figures above the queue; each with its definition as a hint."""
    rates, counts, defined = kpis["rates"], kpis["counts"], kpis["definitions"]
    median_s = kpis["median_seconds_to_resolution"]
    of_all, of_eligible = rates["resolved"]["of_all"], rates["resolved"]["of_eligible"]
    return [
        {
            "name": "Tickets",
            "value": f"{kpis['tickets']['all']:,}",
            "note": f"{kpis['tickets']['eligible']:,} eligible",
            "hint": defined["eligible"],
        },
        {
            "name": "Resolved, of all",
            "value": percent(of_all),
            "note": f"{counts['resolved']:,} verified",
            "hint": defined["resolved"],
        },
        {
            "name": "Resolved, of eligible",
            "value": percent(of_eligible),
            "note": f"{counts['resolved_eligible']:,} verified",
            "hint": defined["of_eligible"],
        },
        {
            "name": "Linked",
            "value": f"{counts['linked']:,}",
            "note": percent(rates["linked"]["of_all"]) + " of all",
            "hint": defined["linked"],
        },
        {
            "name": "With a person",
            "value": f"{counts['handed_over']:,}",
            "note": percent(rates["handed_over"]["of_all"]) + " of all",
            "hint": defined["handed_over"],
        },
        {
            "name": "Awaiting",
            "value": f"{sum(counts[f'awaiting_{whom}'] for whom in ('approval', 'requester', 'children')):,}",
            "note": ", ".join(f"{counts[f'awaiting_{whom}']} {whom}" for whom in ("approval", "requester", "children")),
            "hint": "pending tickets",
        },
        {
            "name": "Median to resolution",
            "value": _seconds(median_s),
            "note": "from arrival",
            "hint": "of the tickets that Cloister resolved",
        },
    ]


def _seconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.1f} s" if value < 60 else f"{value / 60:.1f} min" if value < 3600 else f"{value / 3600:.1f} h"


def flags(signals: Mapping[str, Any] | None) -> list[str]:
    return [name for key, name in SIGNAL_FLAGS.items() if signals and signals.get(key)]


def entities(found: Mapping[str, Sequence[str]] | None) -> list[tuple[str, str]]:
    return [(words(kind), ", ".join(values)) for kind, values in (found or {}).items() if values and kind not in HIDDEN_ENTITIES]


def acts(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The steps that change the world first class, the reads folded beside them; in the order taken."""
    resolution = record.get("resolution") or {}
    return [_step(step) for step in resolution.get("steps", ())]


def _step(step: Mapping[str, Any]) -> dict[str, Any]:
    verdict, observation = step.get("verdict") or {}, step.get("observation")
    status = observation["status"] if observation else "not yet known"
    return {
        **step,
        "what": (step.get("preview") or {}).get("what") or step["action"],
        "verdict_tone": VERDICT_TONES.get(verdict.get("decision", ""), "calm"),
        "status": status,
        "tone": OBSERVATION_TONES.get(status, "wait"),
        "origins": origins(step),
    }


def origins(step: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each argument with where its value came from."""
    provenance = step.get("provenance") or {}
    return [
        {"name": name, "value": value, **_origin(provenance.get(name))} for name, value in (step.get("arguments") or {}).items()
    ]


def _origin(provenance: Mapping[str, Any] | None) -> dict[str, str]:
    if not provenance:
        return {"source": "", "detail": ""}
    return {"source": str(provenance.get("source", "")), "detail": str(provenance.get("detail", ""))}


def talk(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The messages, without the reply that the page shows above them."""
    messages = record["messages"]
    last = next((place for place in reversed(range(len(messages))) if messages[place]["body"] == record.get("reply")), None)
    return [message for place, message in enumerate(messages) if place != last]


# --- the timeline ---


def _opened(body: Mapping[str, Any]) -> str:
    return f"Came in through {body.get('channel', '?')} from {(body.get('requester') or {}).get('email', '?')}"


def _triaged(body: Mapping[str, Any]) -> str:
    found = body.get("classification") or {}
    level, group = (body.get("priority") or {}).get("level"), (body.get("assignment") or {}).get("group")
    sure = "abstained" if found.get("abstained") else f"{percent(found.get('confidence'))} sure"
    return f"Triaged: {words(found.get('category'))} ({sure}, by the {found.get('stage', 'head')}), P{level}, {group}"


def _state(body: Mapping[str, Any]) -> str:
    reason = f": {body['reason']}" if body.get("reason") else ""
    return f"{words(body.get('from'))} → {words(body.get('to'))}{reason}"


def _intended(body: Mapping[str, Any]) -> str:
    proposal, verdict = body.get("proposal") or {}, body.get("verdict") or {}
    what = (proposal.get("preview") or {}).get("what") or proposal.get("action")
    return f"{what} – {words(verdict.get('decision'))} by rule {verdict.get('rule')}"


def _observed(body: Mapping[str, Any]) -> str:
    seen = body.get("observation") or {}
    answered = f", answered {seen['http_status']}" if seen.get("http_status") else ""
    return f"{body.get('action')}: {seen.get('status')}{answered}"


def _verified(body: Mapping[str, Any]) -> str:
    found = body.get("verification") or {}
    return f"{'Confirmed' if found.get('confirmed') else 'Not confirmed'} by {found.get('probe')}: {found.get('observed')}"


def _outcome(body: Mapping[str, Any]) -> str:
    return f"Outcome: {OUTCOME_WORDS.get(body.get('kind', ''), words(body.get('kind')))}"


def _override(body: Mapping[str, Any]) -> str:
    changed = ", ".join(f"{key} {body[key]}" for key in ("category", "group", "priority", "assignee") if body.get(key) is not None)
    return f"Corrected by hand: {changed}. {body.get('reason', '')}"


SENTENCES: Mapping[str, tuple[str, Sentence]] = {
    "opened": ("calm", _opened),
    "triaged": ("calm", _triaged),
    "state": ("calm", _state),
    "intended": ("act", _intended),
    "observed": ("act", _observed),
    "verified": ("good", _verified),
    "outcome": ("good", _outcome),
    "outcome_dropped": ("warn", lambda b: f"An outcome was dropped: {b.get('reason')}"),
    "message": ("talk", lambda b: f"{words(b.get('author'))}: {str(b.get('body', ''))[:300]}"),
    "override": ("person", _override),
    "feedback": ("person", lambda b: f"Feedback: {b.get('rating') or ''} {b.get('reason', '')}".strip()),
    "reopened": ("person", lambda b: f"Reopened: {b.get('reason', '')}"),
    "incident_opened": ("calm", lambda b: f"Leads the new incident {b.get('incident')}"),
    "incident_joined": ("calm", lambda b: f"Joined {b.get('incident')} with {b.get('with')}"),
    "incident_left": ("person", lambda b: f"Taken out of {b.get('incident')}: {b.get('reason', '')}"),
    "approval_requested": ("wait", lambda b: f"Asks for approval {b.get('approval')}: {b.get('reason', '')}"),
    "approval_decided": ("person", lambda b: f"{b.get('approval')} {b.get('status')}: {b.get('reason', '')}"),
    "approval_expired": ("warn", lambda b: f"{b.get('approval')} expired undecided"),
    "code_issued": ("wait", lambda b: f"One-time code sent to {b.get('email')}"),
    "identity_proven": ("good", lambda b: f"Identity proven by {b.get('by')}"),
    "identity_doubted": ("warn", lambda b: f"Identity only claimed again: {b.get('by')} vouches for nobody"),
    "retried": ("warn", lambda b: f"Will be tried again: {b.get('error', '')}"),
    "given_up": ("bad", lambda b: f"Given up: {b.get('error', '')}"),
}


def timeline(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Newest last, as it happened. An event that this page has no words for is shown by its name."""
    return [_line(event) for event in record["timeline"]]


def _line(event: Mapping[str, Any]) -> dict[str, Any]:
    tone, sentence = SENTENCES.get(event["kind"], ("calm", lambda _: words(event["kind"])))
    return {**event, "tone": tone, "text": sentence(event["body"] or {})}


# --- approvals ---


def approval(asked: Approval, ticket: Mapping[str, Any], *, now: datetime, refusal: str) -> dict[str, Any]:
    """What an approver must see: the exact action, where its values came from, whom it touches, whether it can be undone."""
    proposal = asked.proposal
    known = ("what", "risk", "blast_radius", "reversible", "compensation", "before", "after", "edit_of")
    preview = dict(proposal.preview)
    return {
        "id": asked.id,
        "ticket": ticket,
        "status": "expired" if asked.status == "waiting" and asked.expires_at <= now else str(asked.status),
        "what": preview.get("what") or proposal.action,
        "action": proposal.action,
        "runbook": proposal.runbook,
        "owner": proposal.owner,
        "origins": [
            {"name": name, "value": value, **_origin(vars(proposal.provenance[name]) if name in proposal.provenance else None)}
            for name, value in proposal.arguments.items()
        ],
        "risk": preview.get("risk"),
        "blast_radius": preview.get("blast_radius"),
        "reversible": preview.get("reversible"),
        "compensation": preview.get("compensation"),
        "changes": changes(preview),
        "more": {key: value for key, value in preview.items() if key not in known},
        "rule": asked.rule,
        "reason": asked.reason,
        "approvers": asked.approvers,
        "digest": proposal.digest,
        "requested_at": asked.requested_at,
        "expires_at": asked.expires_at,
        "decided_by": asked.decided_by,
        "decided_at": asked.decided_at,
        "decision_reason": asked.decision_reason,
        "refusal": refusal,
        "quorum": asked.quorum,
        "votes": asked.votes,
        "change": asked.change,
        "proposed_by": asked.proposed_by,
        "superseded_by": asked.superseded_by,
        "review_due_at": asked.review_due_at if not asked.reviewed_at else None,
    }


def changes(preview: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Field by field, before and after, where the runbook's preview has them."""
    before, after = preview.get("before"), preview.get("after")
    if not isinstance(before, Mapping) and not isinstance(after, Mapping):
        return [{"name": "", "before": before, "after": after}] if before is not None or after is not None else []
    before, after = dict(before or {}), dict(after or {})
    return [{"name": name, "before": before.get(name), "after": after.get(name)} for name in dict.fromkeys([*before, *after])]
