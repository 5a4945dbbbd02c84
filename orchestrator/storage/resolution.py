"""Steps, outcomes and one-time codes.

Knows the tables step, outcome, one_time_code; decides nothing itself. Approvals are in `approvals.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from orchestrator.domain.errors import BadInput, NotFound
from orchestrator.domain.resolution import (
    AwaitingApproval,
    AwaitingChildren,
    AwaitingRequester,
    HandedOver,
    Handover,
    Linked,
    Observation,
    Outcome,
    Proposal,
    Resolved,
    Snapshot,
    StepRecord,
    Target,
    Verdict,
    Verification,
)
from orchestrator.domain.tickets import TRANSITIONS, Assurance, State
from orchestrator.ports import Claim
from orchestrator.storage import approvals, audit, gaps, queue
from orchestrator.storage.connection import Connection, Row, columns, execute, number_of, row, rows, tickets_of
from orchestrator.storage.serialize import clean, dump, dumps, load, load_or_none, outcome_kind
from orchestrator.storage.tickets import no_such_ticket

JUDGED = "judged"  # of the notes: decisions with their facts, which stand in the log alone
SILENT_RUNG = "shadow"  # decides, does nothing, says nothing
TELLING_RUNG = "notify"  # acts, then tells colleagues

STATE_OF: Mapping[str, State] = {
    "resolved": State.RESOLVED,
    "linked": State.ESCALATED,
    "awaiting_approval": State.PENDING,
    "awaiting_requester": State.PENDING,
    "awaiting_children": State.PENDING,
    "handed_over": State.ESCALATED,
}

STEPS = "SELECT * FROM step WHERE ticket = ANY(%s) ORDER BY ticket, seq"
INTEND = """
    INSERT INTO step (ticket, seq, epoch, runbook, step, action, arguments, provenance, preview, owner, digest, idempotency_key,
                      writes, verdict, intended_at, target, before, undoes)
    SELECT n.ticket,
        coalesce((SELECT max(seq) FROM step WHERE step.ticket = n.ticket), 0)
            + row_number() OVER (PARTITION BY n.ticket ORDER BY n.place),
        t.reopened_count, n.runbook, n.step, n.action, n.arguments::jsonb, n.provenance::jsonb, n.preview::jsonb, n.owner, n.digest,
        n.key, n.writes, n.verdict::jsonb, n.now, n.target, n.before::jsonb, n.undoes
    FROM unnest(%s::bigint[], %s::int[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[],
                %b::text[], %b::text[], %s::boolean[], %b::text[], %s::timestamptz[], %b::text[], %b::text[], %b::text[])
         AS n (ticket, place, runbook, step, action, arguments, provenance, preview, owner, digest, key, writes, verdict, now,
               target, before, undoes)
    JOIN ticket t ON t.number = n.ticket
    ON CONFLICT (ticket, idempotency_key) DO UPDATE SET verdict = excluded.verdict, intended_at = excluded.intended_at,
        epoch = excluded.epoch, target = excluded.target, before = excluded.before,
        observation = CASE WHEN step.writes AND step.observation ->> 'status' = 'ok' THEN step.observation END,
        observed_at = CASE WHEN step.writes AND step.observation ->> 'status' = 'ok' THEN step.observed_at END
"""
OBSERVE = """
    UPDATE step SET observation = o.observation::jsonb, observed_at = o.now, after = o.after::jsonb,
        verification = o.verification::jsonb, unknowns = unknowns + o.unknown::int
    FROM unnest(%s::bigint[], %b::text[], %b::text[], %s::timestamptz[], %b::text[], %b::text[], %s::boolean[])
        AS o (ticket, key, observation, now, after, verification, unknown)
    WHERE step.ticket = o.ticket AND step.idempotency_key = o.key
    RETURNING step.ticket, step.idempotency_key, step.step, step.action, step.digest, step.writes
"""
BEFORE = """
    SELECT number, id, state, autonomy_rung, source, external_id, subject, requester_email, parent FROM ticket
    WHERE number = ANY(%s) ORDER BY number FOR NO KEY UPDATE
"""
WRITE = """
    WITH o AS (
        SELECT * FROM unnest(%s::bigint[], %b::text[], %b::text[], %b::text[], %b::text[], %s::boolean[], %b::text[], %b::text[],
                             %s::bigint[], %b::text[], %s::timestamptz[])
            AS o (number, kind, body, notes, runbook, eligible, state, reason, linked_to, reply, now)
    ), kept AS (
        INSERT INTO outcome (ticket, kind, body, notes, runbook, eligible, at)
        SELECT o.number, o.kind, o.body::jsonb, o.notes::jsonb, coalesce(o.runbook, known.runbook),
            coalesce(o.eligible, known.eligible, false), o.now
        FROM o LEFT JOIN outcome known ON known.ticket = o.number
        ON CONFLICT (ticket) DO UPDATE SET kind = excluded.kind, body = excluded.body, notes = excluded.notes,
            runbook = excluded.runbook, eligible = excluded.eligible, at = excluded.at
    ), said AS (
        INSERT INTO message (ticket, author, body, at, by) SELECT number, 'desk', reply, now, 'cloister' FROM o
        WHERE reply <> '' ORDER BY number
    )
    UPDATE ticket SET state = o.state, state_reason = o.reason, state_by = 'cloister', outcome = o.kind, updated_at = o.now,
        stage = CASE WHEN o.state = 'pending' THEN stage ELSE 'finished' END,
        resolved_at = CASE WHEN o.state = 'resolved' THEN o.now END,
        linked_to = CASE o.kind WHEN 'linked' THEN o.linked_to WHEN 'resolved' THEN ticket.linked_to END
    FROM o WHERE ticket.number = o.number
"""
POST = """
    INSERT INTO outbox (ticket, kind, payload, created_at, due_at)
    SELECT ticket, kind, payload::jsonb, now, now
    FROM unnest(%s::bigint[], %b::text[], %b::text[], %s::timestamptz[]) WITH ORDINALITY AS p (ticket, kind, payload, now, place)
    ORDER BY place
"""
ISSUE_CODE = """
    INSERT INTO one_time_code (ticket, email, code_sha256, expires_at) SELECT number, %s, %s, %s FROM ticket WHERE number = %s
    ON CONFLICT (ticket) DO UPDATE SET email = excluded.email, code_sha256 = excluded.code_sha256, issued_at = now(),
        expires_at = excluded.expires_at, attempts = 0, used_at = NULL
"""
PROVE = """
    UPDATE ticket SET requester = requester || '{"assurance": "proven"}', updated_at = now() WHERE number = %s
"""
DOUBT = """
    UPDATE ticket SET requester = requester || '{"assurance": "claimed"}', updated_at = now()
    WHERE number = %s AND requester ->> 'assurance' = ANY(%s)
"""


# --- steps ---


def steps(connection: Connection, ids: Sequence[str]) -> dict[str, list[StepRecord]]:
    answer: dict[str, list[StepRecord]] = {ticket_id: [] for ticket_id in ids}
    for found in rows(connection, STEPS, [tickets_of(ids)]):
        answer[f"T-{found['ticket']}"].append(_step(found))
    return answer


def _step(found: Row) -> StepRecord:
    return StepRecord(
        seq=found["seq"],
        step=found["step"],
        action=found["action"],
        arguments=found["arguments"],
        idempotency_key=found["idempotency_key"],
        writes=found["writes"],
        verdict=load(Verdict, found["verdict"]),
        observation=None if found["observation"] is None else load(Observation, found["observation"]),
        epoch=found["epoch"],
        target=found["target"],
        before=load_or_none(Snapshot, found["before"]),
        after=load_or_none(Snapshot, found["after"]),
        verification=load_or_none(Verification, found["verification"]),
        undoes=found["undoes"],
        unknowns=found["unknowns"],
    )


def save_intended(
    connection: Connection,
    claims: Sequence[Claim],
    intents: Sequence[tuple[Proposal, Verdict]],
    *,
    now: datetime,
    targets: Mapping[str, Target],
) -> None:
    """`targets`: by idempotency key, what each act is about and how it looked just before.

    Intending the same idempotency key again is one step still.

    An act that was observed as done stays so; anything else awaits its observation anew.
    """
    queue.hold(connection, claims)
    held = {claim.ticket_id for claim in claims}
    strangers = sorted({proposal.ticket_id for proposal, _ in intents} - held)
    if strangers:
        raise BadInput(f"No claim was given for {', '.join(strangers)}.", hint="Intend only for claimed tickets.")
    unique = {(proposal.ticket_id, proposal.idempotency_key): (proposal, verdict) for proposal, verdict in intents}
    if unique:
        table = [_intent(place, p, v, targets.get(p.idempotency_key), now) for place, (p, v) in enumerate(unique.values())]
        execute(connection, INTEND, columns(table, 17))
        audit.append(
            connection,
            [
                (p.ticket_id, "intended", audit.CLOISTER, _intended(p, v, targets.get(p.idempotency_key)))
                for p, v in unique.values()
            ],
        )


def _intended(proposal: Proposal, verdict: Verdict, target: Target | None) -> dict[str, Any]:
    return {"proposal": proposal, "verdict": verdict} | ({"target": target} if target else {})


def _intent(place: int, proposal: Proposal, verdict: Verdict, target: Target | None, now: datetime) -> tuple[Any, ...]:
    names = (proposal.runbook, proposal.step, proposal.action)
    facts = (dumps(proposal.arguments), dumps(proposal.provenance), dumps(proposal.preview), proposal.owner)
    keys = (proposal.digest, proposal.idempotency_key, proposal.writes)
    return (
        number_of(proposal.ticket_id, "T"),
        place,
        *names,
        *facts,
        *keys,
        dumps(replace(verdict, basis=None)),
        now,
        *_seen(target),
        proposal.undoes,
    )


def _seen(target: Target | None) -> tuple[str | None, str | None]:
    if target is None:
        return None, None
    return clean(target.name), None if target.before is None else dumps(target.before)


Checked = Mapping[tuple[str, str], tuple[Snapshot | None, Verification | None]]
"""By ticket and idempotency key: the state after, and the word of the action's own probe."""


def save_observed(
    connection: Connection, observations: Sequence[tuple[str, str, Observation]], *, now: datetime, checked: Checked
) -> None:
    """Raises NotFound for a step that was never intended: what is carried out must have been written down before."""
    once = {id(observation): observation for _, _, observation in observations}  # several tickets may have looked up the same
    encoded = {key: dumps(observation) for key, observation in once.items()}
    bodies = [encoded[id(observation)] for _, _, observation in observations]
    table = [
        (number_of(ticket_id, "T"), key, body, now, *_after(checked.get((ticket_id, key))), seen.status == "unknown")
        for (ticket_id, key, seen), body in zip(observations, bodies, strict=True)
    ]
    if not table:
        return
    done = {(f"T-{found['ticket']}", found["idempotency_key"]): found for found in rows(connection, OBSERVE, columns(table, 7))}
    missing = [(ticket_id, key) for ticket_id, key, _ in observations if (ticket_id, key) not in done]
    if missing:
        raise NotFound(f"No intended step of {missing[0][0]} has the key {missing[0][1]!r}.", hint="Save the intent first.")
    ok = [
        (number_of(t, "T"), done[t, key]["digest"])
        for t, key, seen in observations
        if seen.status == "ok" and done[t, key]["writes"]
    ]
    if ok:
        approvals.executed(connection, ok, now=now)
    named = [{"step": done[t, key]["step"], "action": done[t, key]["action"], "idempotency_key": key} for t, key, _ in observations]
    for name, (t, key, _) in zip(named, observations, strict=True):
        after, verification = checked.get((t, key), (None, None))
        name |= ({"after": after} if after else {}) | ({"verification": verification} if verification else {})
    observed = [f'{dumps(name)[:-1]},"observation":{body}}}' for name, body in zip(named, bodies, strict=True)]
    audit.append(connection, audit.about([ticket_id for ticket_id, _, _ in observations], "observed", observed))


def _after(found: tuple[Snapshot | None, Verification | None] | None) -> tuple[str | None, str | None]:
    after, verification = found or (None, None)
    return None if after is None else dumps(after), None if verification is None else dumps(verification)


# --- outcomes ---


def save_outcomes(
    connection: Connection, outcomes: Mapping[str, Outcome], *, notes: Mapping[str, Mapping[str, Any]], now: datetime
) -> dict[str, str]:
    """Four or five statements for all of them. Gives the tickets whose outcome was dropped, with the reason.

    Of `notes[ticket]` these keys are read: `eligible` (bool: the type has a runbook that acts) and `runbook`, both staying as they
    were where they are absent, and `approval_lifetime_s`; all of it is kept and shown. An outcome that the ticket's state no longer
    allows (a person closed it meanwhile) is dropped with an event of its own and leaves the others alone. A ticket on the rung
    `shadow` gets no message and no outbox row.
    """
    numbers = sorted(tickets_of(outcomes))
    queue.lock(connection, numbers)
    before = {found["id"]: found for found in rows(connection, BEFORE, [numbers])}
    for ticket_id in outcomes:
        if ticket_id not in before:
            raise no_such_ticket(ticket_id)
    dropped = {ticket_id: reason for ticket_id, outcome in outcomes.items() if (reason := _not_allowed(before[ticket_id], outcome))}
    kept = {ticket_id: outcomes[ticket_id] for ticket_id in before if ticket_id not in dropped}
    log: list[audit.Event] = [
        (t, "outcome_dropped", audit.CLOISTER, {"outcome": outcome_kind(outcomes[t]), "reason": dropped[t]}) for t in dropped
    ]
    if kept:
        bodies = {ticket_id: dump(outcome) for ticket_id, outcome in kept.items()}
        table = [_writing(before[t], outcome, bodies[t], notes.get(t, {}), now) for t, outcome in kept.items()]
        execute(connection, WRITE, columns(table, 11))
        _post(connection, [(before[t], outcome, notes.get(t, {})) for t, outcome in kept.items()], now)
        log += approvals.ask(connection, {t: o for t, o in kept.items() if isinstance(o, AwaitingApproval)}, notes, now)
        gaps.record(connection, {ticket_id: notes[ticket_id] for ticket_id in kept if ticket_id in notes}, now=now)
        for ticket_id, outcome in kept.items():
            log += _outcome_events(ticket_id, outcome, bodies[ticket_id], notes.get(ticket_id, {}))
    audit.append(connection, log)
    return dropped


def _not_allowed(ticket: Row, outcome: Outcome) -> str:
    state, target = State(ticket["state"]), STATE_OF[outcome_kind(outcome)]
    return "" if target is state or target in TRANSITIONS[state] else f"{ticket['id']} is {state} and cannot become {target}"


def _writing(ticket: Row, outcome: Outcome, body: Any, notes: Mapping[str, Any], now: datetime) -> tuple[Any, ...]:
    kind = outcome_kind(outcome)
    linked_to = number_of(outcome.ticket_id, "T") if isinstance(outcome, Linked) else None
    reply = "" if _silent(ticket, notes) else clean(reply_of(outcome))
    kept = {name: value for name, value in notes.items() if name != JUDGED}
    about = (dumps(kept), notes.get("runbook"), None if notes.get("eligible") is None else bool(notes["eligible"]))
    return (ticket["number"], kind, dumps(body), *about, STATE_OF[kind].value, clean(reason_of(outcome)), linked_to, reply, now)


def _silent(ticket: Row, notes: Mapping[str, Any]) -> bool:
    return SILENT_RUNG in (ticket["autonomy_rung"], notes.get("rung"))


def reply_of(outcome: Outcome) -> str:
    """What the requester reads: the reply, or the question."""
    return outcome.question if isinstance(outcome, AwaitingRequester) else outcome.reply


def reason_of(outcome: Outcome) -> str:
    """Why the ticket is in its state, for the list and the event."""
    match outcome:
        case Resolved():
            return f"{outcome.resolution_code}: {outcome.verification.observed}"
        case Linked():
            return f"waits for {outcome.ticket_id}" + (f" in {outcome.incident_id}" if outcome.incident_id else "")
        case AwaitingApproval():
            return f"waits for an approval: {outcome.verdict.reason}"
        case AwaitingRequester():
            return f"waits for the requester: {outcome.purpose}"
        case AwaitingChildren():
            return f"waits for its parts: {', '.join(outcome.children)}"
        case HandedOver():
            return outcome.packet.why_stopped


def note_of(outcome: Outcome, notes: Mapping[str, Any]) -> str:
    """For colleagues where the ticket came from: what happened, tools, policies. Empty where nothing ended or needs them."""
    match outcome:
        case Resolved():
            sources = f" Answered from {notes['answered_from']}." if notes.get("answered_from") else ""
            return f"Resolved ({outcome.resolution_code}). {outcome.internal_note}{sources} Confirmed: {outcome.verification.observed}."
        case HandedOver():
            return _packet_note(outcome.packet)
        case AwaitingApproval():
            verdict = outcome.verdict
            return f"Waits for an approval of {outcome.proposal.action} by {verdict.approvers}. {verdict.rule}: {verdict.reason}"
        case _:
            return ""


def _packet_note(packet: Handover) -> str:
    parts = [
        packet.summary,
        f"Stopped because: {packet.why_stopped}",
        f"Next: {packet.suggested_next_action}",
        f"Urgency: {packet.urgency}",
    ]
    parts += [f"Checked: {line}" for line in packet.checked]
    parts += [f"Done: {line}" for line in packet.actions]
    parts += [f"Policy: {line}" for line in packet.policies]
    parts += [f"Asked already: {line}" for line in packet.asked]
    return "\n".join(parts)


def _post(connection: Connection, written: Sequence[tuple[Row, Outcome, Mapping[str, Any]]], now: datetime) -> None:
    posts = []
    for ticket, outcome, notes in written:
        if _silent(ticket, notes) or ticket["parent"] is not None:
            continue  # a part has no source system, and its parent tells the requester
        named = {"ticket_id": ticket["id"], "source": ticket["source"], "external_id": ticket["external_id"]}
        kind = outcome_kind(outcome)
        if reply_of(outcome):
            said = {"to": ticket["requester_email"], "subject": ticket["subject"], "body": reply_of(outcome), "outcome": kind}
            posts.append((ticket["number"], "reply", dumps({**named, **said}), now))
        if isinstance(outcome, Resolved) and notes.get("rung") == TELLING_RUNG and notes.get("runbook"):
            told = f"Done without a person, on the rung `notify`; please look. {outcome.internal_note}"
            posts.append((ticket["number"], "note", dumps({**named, "body": told}), now))
        elif note := note_of(outcome, notes) if ticket["external_id"] else "":
            posts.append((ticket["number"], "note", dumps({**named, "body": clean(note)}), now))
        status = {"state": STATE_OF[kind], "outcome": kind, "reason": reason_of(outcome)}
        posts.append((ticket["number"], "status", dumps({**named, **status}), now))
    if posts:
        execute(connection, POST, columns(posts, 4))


def _outcome_events(ticket_id: str, outcome: Outcome, body: Any, notes: Mapping[str, Any]) -> list[audit.Event]:
    whole: audit.Event = (ticket_id, "outcome", audit.CLOISTER, {"kind": outcome_kind(outcome), "outcome": body, "notes": notes})
    events = [whole]
    if isinstance(outcome, Resolved):
        events.insert(0, (ticket_id, "verified", audit.CLOISTER, {"verification": outcome.verification}))
    if notes.get("withheld"):  # kinds and places, never the values
        events.insert(0, (ticket_id, "withheld", audit.CLOISTER, {"found": notes["withheld"]}))
    return events


# --- one-time codes ---


def issue_code(connection: Connection, ticket_id: str, *, email: str, code_sha256: str, expires_at: datetime) -> None:
    """A later code replaces the earlier one."""
    if execute(connection, ISSUE_CODE, [clean(email), code_sha256, expires_at, number_of(ticket_id, "T")]) == 0:
        raise no_such_ticket(ticket_id)
    audit.append(connection, [(ticket_id, "code_issued", audit.CLOISTER, {"email": email, "expires_at": expires_at})])


def live_code(connection: Connection, ticket_id: str) -> dict[str, Any] | None:
    """The last code that was not used, expired or not: `expires_at` is a datetime, for the caller to judge by its own clock."""
    query = "SELECT code_sha256, expires_at, attempts, email FROM one_time_code WHERE ticket = %s AND used_at IS NULL"
    return row(connection, query, [number_of(ticket_id, "T")])


def prove_identity(connection: Connection, ticket_id: str) -> None:
    number = number_of(ticket_id, "T")
    queue.lock(connection, [number])
    if execute(connection, PROVE, [number]) == 0:
        raise no_such_ticket(ticket_id)
    execute(connection, "UPDATE one_time_code SET used_at = now() WHERE ticket = %s", [number])
    audit.append(connection, [(ticket_id, "identity_proven", audit.CLOISTER, {"by": "one-time code"})])


def doubt_identity(connection: Connection, ticket_id: str, held: Sequence[Assurance], *, by: str) -> None:
    """The requester is again somebody who only claims to be it, where their assurance was one of `held`."""
    number = number_of(ticket_id, "T")
    queue.lock(connection, [number])
    if execute(connection, DOUBT, [number, [level.value for level in held]]):
        audit.append(connection, [(ticket_id, "identity_doubted", clean(by), {"by": by})])
