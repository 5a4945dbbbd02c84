"""Who is speaking: the directory's word, and a one-time code where a runbook needs proof. Never the ticket's word."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from orchestrator.domain.resolution import (
    Decision,
    Observation,
    ObservationStatus,
    Proposal,
    Provenance,
    Verdict,
)
from orchestrator.resolution import codes
from orchestrator.resolution.case import CODE_STEP, Case, Question, Stop
from orchestrator.resolution.effects import Prove, SendCode, Way
from orchestrator.resolution.facts import proposal_digest, sha256
from orchestrator.resolution.handover import refusal
from orchestrator.resolution.look import look
from orchestrator.resolution.runbooks import Runbook


def know_requester(case: Case) -> Way:
    """The requester and their account as the directory has them; what the ticket says about either counts for nothing."""
    email = case.ticket.requester.email
    if not email:
        return
    rows: list[Mapping[str, Any]] = []
    for spelled in dict.fromkeys([email.lower(), email]):
        found = yield from look(case, "base", "user", "identity.find_user", {"email": spelled})
        rows = found.body if found.status is ObservationStatus.OK and isinstance(found.body, list) else []
        if rows:
            break
    if len(rows) != 1:
        return
    case.facts = case.facts.with_fact("user", rows[0], source="record", detail="identity.find_user")
    if rows[0].get("account"):
        answer = yield from look(case, "base", "account", "billing.get_account", {"account_id": rows[0]["account"]})
        if answer.status is ObservationStatus.OK:
            case.facts = case.facts.with_fact("account", answer.body, source="record", detail="billing.get_account")


def identify(case: Case, runbook: Runbook) -> Way:
    """Where the runbook needs proof, a requester who only claims to be somebody gets a code at the address on record."""
    if runbook.identity != "proven" or case.proven:
        return
    user = case.facts.get("user")
    if case.shadow:
        case.reasons.append("Identity: a one-time code would be sent to the address on record first.")
        return
    settings = case.playbook.policies.settings
    sent = case.code_step()
    code = codes.code_for(case.secret, case.ticket.id, case.epoch, user["email"])
    digest = codes.digest_of(case.secret, case.ticket.id, case.epoch, code)
    texts: dict[str, Any] = {"name": case.name, "ticket_id": case.ticket.id, "minutes": settings.code_minutes}
    question = case.playbook.macros.say("identity_question", case.language, **texts)
    if sent is None or sent.observation is None or sent.observation.status is not ObservationStatus.OK:
        observation: Observation = yield code_mail(case, runbook, user, code, digest)
        if observation.status is not ObservationStatus.OK:
            raise Stop(f"The one-time code could not be sent to the address on record ({refusal(observation)}).")
        case.checked.append("Identity: a one-time code was sent to the address on record")
        raise Question(question, purpose="identity", missing=("one-time code",))
    since = sent.observation.at
    stored = (case.memory.code or {}).get("expires_at")
    expires_at: datetime = stored if isinstance(stored, datetime) else since + timedelta(minutes=settings.code_minutes)
    answers = [message for message in case.ticket.messages if message.author == "requester" and message.at >= since]
    checked = codes.check(
        answers,
        secret=case.secret,
        ticket_id=case.ticket.id,
        epoch=case.epoch,
        code_sha256=digest,
        expires_at=expires_at,
        tries=settings.code_tries,
    )
    yield from judge_answer(case, checked, question=question, late=case.started_at > expires_at, texts=texts, sent_at=since)


def shown_address(case: Case) -> str:
    """The address on record, of which a reader who knows it recognizes the rest: a•••@elm.example."""
    local, _, domain = str(case.facts.get("user.email") or "").partition("@")
    return f"{local[:1]}•••@{domain}"


def judge_answer(
    case: Case, checked: codes.Checked, *, question: str, late: bool, texts: Mapping[str, Any], sent_at: datetime
) -> Way:
    match checked.answer:
        case codes.Answer.RIGHT:
            yield Prove()
            case.proven = True
            case.checked.append(
                f"Identity: proven by the one-time code sent to {shown_address(case)} "
                f"at {sent_at:%H:%M} and answered at {checked.at:%H:%M} UTC, {checked.wrong_tries} wrong before it"
            )
        case codes.Answer.WRONG if checked.wrong_tries >= case.playbook.policies.settings.code_tries:
            raise Stop("Identity could not be proven: the code that was answered is wrong.")
        case codes.Answer.WRONG:
            raise Question(
                case.playbook.macros.say("identity_reminder", case.language, **texts),
                purpose="identity",
                missing=("one-time code",),
            )
        case codes.Answer.LATE:
            raise Stop("Identity could not be proven: the code was answered too late.")
        case _ if late:
            raise Stop("Identity could not be proven: the one-time code was not answered in time.")
        case codes.Answer.WITHOUT_CODE:
            reminder = case.playbook.macros.say("identity_reminder", case.language, **texts)
            if case.answers_to(reminder) is not None:
                raise Stop("Identity could not be proven: the requester answered twice without the code.")
            raise Question(reminder, purpose="identity", missing=("one-time code",))
        case _:
            raise Question(question, purpose="identity", missing=("one-time code",))


def code_mail(case: Case, runbook: Runbook, user: Mapping[str, Any], code: str, digest: str) -> SendCode:
    macros, settings = case.playbook.macros, case.playbook.policies.settings
    texts: dict[str, Any] = {"name": case.name, "ticket_id": case.ticket.id, "minutes": settings.code_minutes}
    body = macros.say("identity_mail", case.language, code=code, **texts)
    stored = {
        "to": user["email"],
        "subject": macros.say("identity_subject", case.language, ticket_id=case.ticket.id),
        "body": macros.say("identity_mail", case.language, code=codes.MASK, **texts),
    }
    proposal = Proposal(
        ticket_id=case.ticket.id,
        runbook=runbook.ref,
        step=CODE_STEP,
        action="mail.send",
        arguments=stored,
        provenance={
            "to": Provenance(source="record", detail="identity.find_user: user.email"),
            "subject": Provenance(source="runbook", detail="macro identity_subject"),
            "body": Provenance(source="runbook", detail="macro identity_mail"),
        },
        owner=user["email"],
        idempotency_key=sha256("code", case.ticket.id, case.epoch),
        preview={"what": f"Mail a one-time code to {user['email']}"},
        digest=proposal_digest(case.ticket.id, runbook.ref, CODE_STEP, "mail.send", stored),
    )
    return SendCode(proposal=proposal, body=body, code=code, code_sha256=digest, minutes=settings.code_minutes)


def verdict_of_code() -> Verdict:
    """Why a code may be sent: it goes to the address on record and reveals nothing."""
    return Verdict(decision=Decision.ALLOW, rule="identity-code", reason="A one-time code goes to the address on record only.")
