"""The way of one ticket from triage to an outcome, top to bottom. Yields what it wants to know or do; carries out nothing itself.

A run that resumes (after a crash, an approval, an answer, a reopening) starts here again from the top. What it read is read anew,
except what was read before an act that an earlier run began; acts that were observed are taken from the ticket's steps.
"""

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from orchestrator.domain.actions import Risk
from orchestrator.domain.directory import FreezeWindow
from orchestrator.domain.resolution import (
    ApprovalStatus,
    AwaitingApproval,
    AwaitingRequester,
    Decision,
    Linked,
    Observation,
    ObservationStatus,
    Outcome,
    Proposal,
    Provenance,
    Resolved,
    Verdict,
    Verification,
)
from orchestrator.domain.tickets import State
from orchestrator.domain.triage import OTHERS, LinkKind
from orchestrator.ports import Passage, ScoreRequest, ScoreResult
from orchestrator.resolution import arguments as recognize
from orchestrator.resolution import codes, conditions, derive, effects
from orchestrator.resolution.case import CODE_STEP, Case, Stop, Wait
from orchestrator.resolution.conditions import comparable
from orchestrator.resolution.effects import Act, Acted, Ask, Effect, Prove, SendCode
from orchestrator.resolution.facts import Facts, canonical, idempotency_key, proposal_digest, sha256, step_into
from orchestrator.resolution.governance import authorize, judge_ticket, lower_rung
from orchestrator.resolution.handover import hand_over, looked_up, refusal
from orchestrator.resolution.linked import linked_reply
from orchestrator.resolution.replies import fill, fill_line
from orchestrator.resolution.runbooks import Act as ActStep
from orchestrator.resolution.runbooks import Confirm, Let, Pick, Read, Require, Runbook, Search, Take
from orchestrator.triage.prompts import CODES, Option, choice_prompt

Way = Generator[Effect, Any, Any]
MAX_QUESTIONS = 5  # after that many messages from the desk, a person should write the next one
MAX_CANDIDATES = 8
QUESTIONS = "how_to"  # the type whose runbooks answer questions
CHOOSE_INSTRUCTION = "Choose the runbook that cures what the ticket reports. Answer with its code."


class Question(Exception):
    """Something only the requester can say; the way pauses, after identity is settled."""

    def __init__(self, text: str, *, purpose: str, missing: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.outcome = AwaitingRequester(question=text, purpose=purpose, missing=tuple(missing))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A runbook as far as looking goes: its facts, or why it does not fit."""

    runbook: Runbook
    facts: Facts
    passed: int  # steps that went well
    stop: Stop | None = None
    question: Question | None = None


def resolve(case: Case) -> Generator[Effect, Any, Outcome]:
    """One ticket's way: who is it, does a person have to take it, does it belong to another, which runbook, act, verify."""
    try:
        yield from know_requester(case)
        gate = judge_ticket(case.facts, case.playbook.policies)
        case.note_verdict("ticket", gate)
        if gate.decision is not Decision.ALLOW:
            yield from gather_for_colleague(case)
            raise Stop(gate.reason, verdict=gate)
        if outcome := linked_elsewhere(case):
            return outcome
        if case.category == OTHERS and not case.triage.signals.asks_how:
            yield from ask_or_stop(case)
        plan = yield from choose_runbook(case)
        foresee(case, plan)
        yield from identify(case, plan.runbook)
        if plan.question:
            raise plan.question
        yield from carry_out(case, plan.runbook)
        return (yield from verify(case, plan.runbook))
    except Stop as stop:
        case.reasons.append(stop.why)
        return hand_over(case, stop)
    except Question as question:
        return question.outcome
    except Wait as wait:
        return wait.outcome


# --- who is speaking ------------------------------------------------------------------------------------------------


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
    texts = {"name": case.name, "ticket_id": case.ticket.id, "minutes": settings.code_minutes}
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
    yield from judge_answer(case, checked, question=question, late=case.started_at > expires_at, texts=texts)


def judge_answer(case: Case, checked: codes.Checked, *, question: str, late: bool, texts: Mapping[str, Any]) -> Way:
    match checked.answer:
        case codes.Answer.RIGHT:
            yield Prove()
            case.proven = True
            case.checked.append("Identity: proven by the one-time code sent to the address on record")
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
    texts = {"name": case.name, "ticket_id": case.ticket.id, "minutes": settings.code_minutes}
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


# --- a person, another ticket, or too little to go on ------------------------------------------------------------------


def gather_for_colleague(case: Case) -> Way:
    """Look at what the runbook would look at, so that the colleague need not; nothing is asked and nothing is done."""
    if case.memory.stopped or case.category == OTHERS:
        return
    try:
        yield from choose_runbook(case, choose=False)
    except Stop as stop:
        case.checked.append(f"Runbook: {stop.why}")


def linked_elsewhere(case: Case) -> Linked | None:
    """Where the ticket belongs to an open one, it waits for that; a resolved one has nothing more to wait for."""
    link, lead = case.triage.link, case.memory.lead
    if link is None or link.ticket_id == case.ticket.id:
        return None
    if lead is None or lead.state in {State.RESOLVED, State.CLOSED}:
        case.reasons.append(f"Linked to {link.ticket_id}, which is resolved: goes its own way.")
        return None
    what = f"incident {link.incident_id}" if link.kind is LinkKind.INCIDENT else f"ticket {link.ticket_id}"
    case.reasons.append(f"Waits for {what}.")
    case.would_resolve = True
    return Linked(ticket_id=link.ticket_id, incident_id=link.incident_id, reply=linked_reply(case))


def ask_or_stop(case: Case) -> Way:
    """Too little said: one question, once. Anything else that no type fits goes to a person."""
    yield from ()
    triage = case.triage
    if triage.signals.vague and not case.desk_messages():
        macros = case.playbook.macros
        near = [name for name, _ in triage.classification.alternatives if name != OTHERS][:3]
        choices = [macros.matter(name, case.language) for name in near]
        text = macros.say("detail_question", case.language, name=case.name, choices=choices, ticket_id=case.ticket.id)
        raise Question(text, purpose="detail", missing=("what", "message", "since when"))
    yield from find_reading(case)
    if triage.signals.vague:
        raise Stop("Too little is said to act on, and asking once did not change that.")
    raise Stop("No ticket type is certain enough to act on, so nothing was tried.")


def find_reading(case: Case) -> Way:
    """Articles that may help the colleague; never told to the requester."""
    if case.shadow and not case.reads_in_shadow:
        return
    found: list[Passage] = yield effects.Search(words=case.words, limit=3, audience="desk")
    case.passages = [passage for passage in found if passage.score >= READING_SCORE]
    for passage in case.passages:
        case.checked.append(f"Knowledge: “{passage.title}” ({passage.document_id}, {passage.source}), score {passage.score:.2f}")


READING_SCORE = 0.35


# --- which runbook ----------------------------------------------------------------------------------------------------


def choose_runbook(case: Case, *, choose: bool = True) -> Generator[Effect, Any, Plan]:
    """The runbook of the type whose preconditions hold; where several do, the model chooses among them."""
    candidates = candidates_for(case)
    if not candidates:
        yield from find_reading(case)
        raise Stop(f"No runbook covers {case.category.replace('_', ' ')}: this is work for {case.group()}.")
    begun = [runbook for runbook in candidates if case.begun(runbook)]
    plans = []
    for runbook in begun or candidates:
        plans.append((yield from prepare(case, runbook)))
    fitting = [plan for plan in plans if plan.stop is None]
    if not fitting:
        raise none_fits(case, plans)
    plan = fitting[0] if len(fitting) == 1 or not choose else (yield from let_model_choose(case, fitting))
    case.runbook, case.facts = plan.runbook, plan.facts
    case.reasons.append(f"Runbook {plan.runbook.ref}: {plan.runbook.title}.")
    return plan


def none_fits(case: Case, plans: Sequence[Plan]) -> Stop:
    """Why no runbook fits; the type's own runbook speaks first, then the one that came furthest."""
    acting = [plan for plan in plans if plan.runbook.acts] or plans
    ordered = sorted(acting, key=lambda plan: (plan.runbook.ticket_types[0] != case.category, -plan.passed))
    case.runbook, case.facts = ordered[0].runbook, ordered[0].facts
    whys = list(dict.fromkeys(plan.stop.why for plan in ordered if plan.stop))
    return Stop(" ".join(whys[:3]))


def candidates_for(case: Case) -> list[Runbook]:
    """The runbooks of the type. A question how something is done is answered from knowledge rather than by changing anything."""
    candidates = case.playbook.serving(case.category)
    harmless = bool(candidates) and all(_harmless(case, runbook) for runbook in candidates)
    if case.triage.signals.asks_how and not harmless:
        case.reasons.append("Asks how something is done and reports no trouble: to be answered, not acted on.")
        return case.playbook.serving(QUESTIONS)
    return candidates


def _harmless(case: Case, runbook: Runbook) -> bool:
    """Changes nothing, or no more than an extra mail."""
    return all(case.playbook.actions[act.act].risk in {Risk.READ, Risk.LOW} for act in runbook.acts)


def let_model_choose(case: Case, plans: Sequence[Plan]) -> Generator[Effect, Any, Plan]:
    options = [Option(code=CODES[index], name=plan.runbook.name, means=plan.runbook.about) for index, plan in enumerate(plans)]
    prompt = choice_prompt(CHOOSE_INSTRUCTION, options, case.ticket.text)
    result: ScoreResult = yield Ask(request=ScoreRequest(prompt=prompt, options=tuple(option.code for option in options)))
    total = math.fsum(math.exp(each) for each in result.logprobs)
    shares = [math.exp(each) / total if total else 0.0 for each in result.logprobs]
    best = max(range(len(plans)), key=shares.__getitem__)
    told = ", ".join(f"{plan.runbook.name} {share:.0%}" for plan, share in zip(plans, shares, strict=True))
    case.reasons.append(f"Several runbooks fit; {result.model} says: {told}.")
    if shares[best] < case.playbook.policies.settings.choice_confidence:
        raise Stop(f"Several runbooks fit and the choice between them is not clear ({told}).")
    return plans[best]


def prepare(case: Case, runbook: Runbook) -> Generator[Effect, Any, Plan]:
    """Go through the runbook's looking steps. Neither asks nor acts: a question is kept for when identity is settled."""
    passed = 0
    facts = case.facts
    try:
        check_person(case, runbook)
        for rule in runbook.eligible:
            if not conditions.holds(rule.that, facts.get):
                raise Stop(_say(rule.otherwise, facts))
        for step in runbook.steps:
            if isinstance(step, Confirm | ActStep):
                break
            facts = yield from look_step(case, runbook, step, facts)
            passed += 1
        for trigger in runbook.escalate_when:
            if conditions.all_hold(trigger.when, facts.get):
                raise Stop(_say(trigger.because, facts))
    except Stop as stop:
        return Plan(runbook=runbook, facts=facts, passed=passed, stop=stop)
    except Question as question:
        return Plan(runbook=runbook, facts=facts, passed=passed, question=question)
    return Plan(runbook=runbook, facts=facts, passed=passed)


def check_person(case: Case, runbook: Runbook) -> None:
    """A runbook for known people, and only for the one who writes."""
    user = case.facts.get("user")
    if runbook.identity != "none" and not user:
        raise Stop(f"The directory knows nobody with the address {case.ticket.requester.email or '(none given)'}.")
    if runbook.for_requester_only:
        own = [case.ticket.requester.email, *((user["id"], user["email"], user.get("account")) if user else ())]
        if words := recognize.somebody_else(case.words, own=own):
            raise Stop(f"The ticket speaks for somebody else (“{words}”), and the desk acts for the requester alone.")


def look_step(case: Case, runbook: Runbook, step: Any, facts: Facts) -> Generator[Effect, Any, Facts]:
    match step:
        case Read():
            return (yield from _read_step(case, runbook, step, facts))
        case Pick():
            record = pick(case, step, facts)
            return facts.with_fact(step.pick, record, source="record", detail=f"one of {step.from_.lstrip('$')}")
        case Take():
            return take(case, step, facts)
        case Let():
            values = [facts.get(each[1:]) if isinstance(each, str) and each.startswith("$") else each for each in step.of]
            detail = f"derived: {step.be} of {', '.join(str(each).lstrip('$') for each in step.of)}"
            derived = derive.FUNCTIONS[step.be](values)
            case.derived.append(derived)
            return facts.with_fact(step.let, derived, source="record", detail=detail)
        case Require():
            failing = conditions.first_failing(step.require, facts.get)
            if failing is not None:
                raise Stop(_say(step.otherwise, facts))
            if told := [rule for rule in step.require if rule.get("value") != "$ticket.words"]:
                case.checked.append(f"Holds: {conditions.all_said(told, facts.get)}")
            return facts
        case Search():
            return (yield from _search_step(case, step, facts))
    raise AssertionError(f"no way to take a step {step!r}")


def _read_step(case: Case, runbook: Runbook, step: Read, facts: Facts) -> Generator[Effect, Any, Facts]:
    observation = yield from look(case, runbook.ref, step.as_, step.read, _arguments(step.with_, facts))
    if observation.status is not ObservationStatus.OK:
        raise Stop(f"{case.playbook.actions[step.read].title}: {refusal(observation)}.")
    body = observation.body
    if step.one is not None:
        if not isinstance(body, list) or len(body) != 1:
            raise Stop(step.one)
        body = body[0]
    return facts.with_fact(step.as_, body, source="record", detail=step.read)


def _search_step(case: Case, step: Search, facts: Facts) -> Generator[Effect, Any, Facts]:
    found: list[Passage] = yield effects.Search(words=case.ticket.text, limit=SEARCH_LIMIT)
    case.passages = list(found)
    for passage in found[:3]:
        case.checked.append(f"Knowledge: “{passage.title}” ({passage.document_id}), score {passage.score:.2f}")
    rows = answering(found, step.at_least)
    if not rows:
        raise Stop(step.none)
    return facts.with_fact(step.as_, rows, source="knowledge", detail=f"{rows[0]['document_id']}, passage {rows[0]['passage_id']}")


SEARCH_LIMIT = 10
NEAR_THE_BEST = 0.2  # passages of the same article count down to this much below the threshold: they complete the answer
MAX_PASSAGES = 3


def answering(found: Sequence[Passage], at_least: float) -> list[dict[str, Any]]:
    """The first passage that is near enough, and its nearest neighbors from the same article, in their order."""
    best = next((passage for passage in found if passage.score >= at_least), None)
    if best is None:
        return []
    same = [passage for passage in found if passage.document_id == best.document_id and passage.score >= at_least - NEAR_THE_BEST]
    chosen = sorted(same, key=lambda passage: passage is not best)[:MAX_PASSAGES]
    return [_row(passage) for passage in sorted(chosen, key=lambda passage: passage.passage_id)]


def _row(passage: Passage) -> dict[str, Any]:
    return {name: getattr(passage, name) for name in Passage.__dataclass_fields__}


def look(
    case: Case, runbook: str, step: str, action: str, arguments: Mapping[str, Any], *, fresh: bool = False
) -> Generator[Effect, Any, Observation]:
    """One look-up: what an earlier run read before it acted, what this run has read, or the world now."""
    key = f"{action} {canonical(dict(arguments))}"
    if not fresh:
        known = case.remembered(action, arguments) or case.observed.get(key)
        if known is not None:
            _note_look(case, key, action, known)
            return known
    case.steps_taken += 1
    limit = case.runbook.step_limit if case.runbook else 40
    if case.steps_taken > limit:
        raise Stop(f"More than {limit} steps were needed, which is more than the runbook allows.")
    if case.shadow and not case.reads_in_shadow:
        raise Stop("A shadow run without systems of record cannot look anything up.")
    observation: Observation = yield effects.Read(runbook=runbook, step=step, action=action, arguments=arguments)
    _note_look(case, key, action, observation)
    return observation


def _note_look(case: Case, key: str, action: str, observation: Observation) -> None:
    if key not in case.observed:
        case.checked.append(looked_up(case.playbook.actions[action].title, observation))
    case.observed[key] = observation


# --- the requester's own records --------------------------------------------------------------------------------------


def pick(case: Case, step: Pick, facts: Facts) -> Mapping[str, Any]:
    """The one record that is meant. A number that is named but not there stops; several ask; nothing is guessed."""
    rows = [row for row in facts.get(step.from_[1:]) or () if isinstance(row, Mapping)]
    named = named_rows(case, step, rows)

    def fits(row: Mapping[str, Any], rules: Sequence[Mapping[str, Any]]) -> bool:
        return conditions.all_hold(rules, facts.with_fact("it", row, source="record", detail="candidate").get)

    fitting = [row for row in (named if named is not None else rows) if fits(row, step.where)]
    if not fitting:
        raise Stop(_say(step.none, facts))
    for narrower in (
        [row for row in fitting if fits(row, step.prefer)] if step.prefer else [],
        _newest(case, step, fitting),
    ):
        if len(fitting) > 1 and narrower:
            fitting = narrower
    if len(fitting) == 1:
        return fitting[0]
    raise which_one(case, step, fitting)


def named_rows(case: Case, step: Pick, rows: list[Mapping[str, Any]]) -> list[Mapping[str, Any]] | None:
    """The records that the words point at; None where they point at none. Raises Stop for a number that is not there."""
    kept: list[Mapping[str, Any]] | None = None
    missing: list[str] = []
    for field, kind in step.named_by.items():
        if kind in recognize.NUMBERED:
            found = recognize.numbers(kind, case.words)
            matching = [row for row in rows if any(recognize.digits(step_into(row, field)) == each.value for each in found)]
            missing += [] if matching else [each.words for each in found]
            matching = matching or [row for row in rows if _bare(case.words, step_into(row, field))]
        elif kind == "month":
            found = recognize.months(case.words)
            matching = [row for row in rows if any(each.value in str(step_into(row, field)) for each in found)]
            missing += [] if matching else [each.words for each in found]
        else:
            matching = [row for row in rows if recognize.speaks_of(step_into(row, field), case.words)]
        if matching:
            both = [row for row in matching if kept is None or row in kept]
            kept = both or (kept or []) + matching
    if kept is None and missing:
        raise Stop(f"The ticket names {missing[0]}, which is not among the requester's own records.")
    return kept


def _bare(words: str, identifier: Any) -> bool:
    """The record's id as it is, or "#70012"."""
    number = recognize.digits(identifier)
    return recognize.stands_in(identifier, words) or any(found.value == number for found in recognize.bare_numbers(words))


def _newest(case: Case, step: Pick, rows: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    if not step.newest or (step.newest_if and not conditions.mentions(case.words, step.newest_if)):
        return []
    dated = [(at, row) for row in rows if (at := conditions.instant(step_into(row, step.newest))) is not None]
    return [max(dated, key=lambda pair: pair[0])[1]] if dated else []


def which_one(case: Case, step: Pick, rows: Sequence[Mapping[str, Any]]) -> Exception:
    ids = ", ".join(str(row.get("id")) for row in rows[:MAX_CANDIDATES])
    if not step.label or len(rows) > MAX_CANDIDATES:
        return Stop(f"Several records fit ({len(rows)}: {ids}), and the ticket does not say which one is meant.")
    macros = case.playbook.macros
    candidates = [fill({"en": step.label}, "en", {"it": row}) for row in rows]
    text = macros.say(
        "which_one", case.language, name=case.name, thing=macros.thing(step.thing, case.language), candidates=candidates
    )
    return _ask_once(
        case, text, missing=step.thing, why=f"The requester was asked which one is meant ({ids}), and it is still not clear."
    )


def _ask_once(case: Case, text: str, *, missing: str, why: str) -> Exception:
    if case.answers_to(text) or len(case.desk_messages()) >= MAX_QUESTIONS:
        return Stop(why)
    return Question(text, purpose="detail", missing=(missing,))


def take(case: Case, step: Take, facts: Facts) -> Facts:
    """A typed value from the requester's own words; its provenance is the words."""
    found = recognize.RECOGNIZERS[step.take](case.words)
    if not found and step.optional:
        return facts.with_fact(step.as_, None, source="ticket", detail="not said")
    if len(found) == 1:
        return facts.with_fact(step.as_, found[0].value, source="ticket", detail=found[0].words)
    if step.optional:
        return facts.with_fact(step.as_, [each.value for each in found], source="ticket", detail="several")
    macros = case.playbook.macros
    text = macros.say("which_value", case.language, name=case.name, thing=macros.thing(step.thing, case.language))
    raise _ask_once(case, text, missing=step.thing, why=_say(step.none, facts))


# --- acting -----------------------------------------------------------------------------------------------------------


def carry_out(case: Case, runbook: Runbook) -> Way:
    for step in runbook.steps:
        match step:
            case Confirm():
                confirm(case, step)
            case ActStep():
                yield from act(case, runbook, step)


def confirm(case: Case, step: Confirm) -> None:
    """A plain yes to exactly this question, asked after everything was looked up; anything else is for a person."""
    if case.shadow:
        case.reasons.append("The requester would be asked to confirm first.")
        return
    text = fill(step.confirm, case.language, _told_names(case))
    answers = case.answers_to(text)
    if not answers:
        raise Question(text, purpose="confirmation", missing=("confirmation",))
    said = recognize.agrees(answers[-1].body)
    if said is None:
        raise Stop("The requester's answer to the request for confirmation is neither a plain yes nor a plain no.")
    if not said:
        raise Stop("The requester did not confirm.")
    case.checked.append("Confirmed by the requester in plain words")


def foresee(case: Case, plan: Plan) -> None:
    """Ask nobody for a code or a confirmation where governance would refuse the first act anyway."""
    runbook = plan.runbook
    asks = (runbook.identity == "proven" and not case.proven) or any(isinstance(step, Confirm) for step in runbook.steps)
    if not asks or plan.question or not runbook.acts or case.begun(runbook):
        return
    step = runbook.acts[0]
    proposal = propose(case, runbook, step)
    verdict = judge(case, runbook, proposal, judged_facts(case, runbook, step, proposal))
    if verdict.decision in {Decision.DENY, Decision.HAND_OVER}:
        case.note_verdict(step.act, verdict, proposal.arguments)
        raise Stop(verdict.reason, verdict=verdict)


def judge(case: Case, runbook: Runbook, proposal: Proposal, facts: Facts) -> Verdict:
    """Governance on one act of this case."""
    return authorize(
        proposal,
        facts,
        policies=case.playbook.policies,
        actions=case.playbook.actions,
        runbook=runbook,
        category=case.category,
        words=case.words,
        observed=[*(observation.body for observation in case.observed.values()), *case.derived],
    )


def act(case: Case, runbook: Runbook, step: ActStep) -> Way:
    proposal = propose(case, runbook, step)
    title = case.playbook.actions[step.act].title
    done = case.memory.act(proposal.idempotency_key)
    if done and done.observation and done.observation.status is ObservationStatus.OK:
        observation: Observation = done.observation
        if done.verdict:
            case.note_verdict(step.act, done.verdict, proposal.arguments)
    else:
        if done is None and (other := case.other_approval(proposal)):
            raise Stop(
                f"What {other.id} was asked for ({other.proposal.preview.get('what', step.act)}) no longer fits the records."
            )
        answer: Acted = yield Act(proposal=proposal, facts=judged_facts(case, runbook, step, proposal), runbook=runbook)
        case.note_verdict(step.act, answer.verdict, proposal.arguments)
        case.proposed.append(
            {
                "action": step.act,
                "arguments": dict(proposal.arguments),
                "preview": proposal.preview["what"],
                "decision": str(answer.verdict.decision),
            }
        )
        if answer.verdict.decision is not Decision.ALLOW:
            raise refused(case, step, proposal, answer)
        if case.shadow:
            return
        assert answer.observation is not None
        observation = answer.observation
    if observation.status is not ObservationStatus.OK:
        case.actions.append(f"{title}: {refusal(observation)}")
        raise Stop(f"{title}: the system of record said no ({refusal(observation)}).")
    case.proposed = [row for row in case.proposed if row["action"] != step.act]
    case.actions.append(f"{title}: done at {observation.at:%H:%M:%S} UTC")
    case.facts = case.facts.with_fact(step.as_, observation.body, source="record", detail=step.act)


def propose(case: Case, runbook: Runbook, step: ActStep) -> Proposal:
    """The act with its exact arguments, each with where it came from."""
    values: dict[str, Any] = {}
    provenance: dict[str, Provenance] = {}
    for name, given in step.with_.items():
        if isinstance(given, str) and given.startswith("$"):
            fact = case.facts.find(given[1:])
            if fact is None or fact.value is None:
                continue  # an optional argument; a required one is missed by the schema when the act is judged
            values[name], provenance[name] = fact.value, fact.provenance
        else:
            values[name], provenance[name] = given, Provenance(source="runbook", detail=runbook.ref)
    action = case.playbook.actions[step.act]
    owner = case.facts.get(step.owner[1:]) if step.owner else None
    return Proposal(
        ticket_id=case.ticket.id,
        runbook=runbook.ref,
        step=step.as_,
        action=step.act,
        arguments=values,
        provenance=provenance,
        owner=str(owner) if owner is not None else None,
        idempotency_key=idempotency_key(case.ticket.id, case.epoch, runbook.ref, step.as_, values),
        preview={
            "what": _say(step.preview, case.facts),
            "risk": str(action.risk),
            "blast_radius": str(action.blast_radius),
            "reversible": action.reversible,
            "compensation": action.compensation,
        },
        digest=proposal_digest(case.ticket.id, runbook.ref, step.as_, step.act, values),
    )


def judged_facts(case: Case, runbook: Runbook, step: ActStep, proposal: Proposal) -> Facts:
    """What governance judges by: all that is known, and the proposal itself."""
    user = case.facts.get("user") or {}
    mine = {comparable(each) for each in (user.get("id"), user.get("email"), user.get("account")) if each}
    rung = runbook.autonomy if case.shadow else lower_rung(runbook.autonomy, case.ticket.autonomy_rung)
    action = case.playbook.actions[step.act]
    about = {
        "action": {
            "name": action.name,
            "risk": str(action.risk),
            "blast_radius": str(action.blast_radius),
            "reversible": action.reversible,
        },
        "arguments": dict(proposal.arguments),
        "runbook": {"name": runbook.name, "rung": str(runbook.autonomy), "identity": runbook.identity},
        "owner": proposal.owner,
        "own": proposal.owner is not None and comparable(proposal.owner) in mine,
        "assurance": "proven" if case.proven or case.shadow else "claimed",
        "rung": str(rung),
        "money": {"refunded_today": case.memory.refunded_today, "with_this": _with_this(case, proposal)},
    }
    facts = case.facts.with_facts(about, source="record", detail="the proposal")
    if step.service:
        service = facts.get(step.service[1:])
        facts = facts.with_fact("service", service, source="record", detail="catalog.services")
        facts = facts.with_fact("freeze", freeze_at(facts, service), source="record", detail="catalog.freeze_windows")
    return facts


def _with_this(case: Case, proposal: Proposal) -> float:
    amount = conditions.number(proposal.arguments.get("amount"))
    return round(case.memory.refunded_today + float(amount or 0), 2)


def freeze_at(facts: Facts, service: Mapping[str, Any] | None) -> dict[str, Any]:
    """Whether the change calendar is known, and which window covers the service now."""
    rows = facts.get("freezes")
    if not isinstance(rows, list) or not service:
        return {"known": False, "active": False}
    now = conditions.instant(facts.get("now"))
    assert now is not None
    windows = [window for window in map(FreezeWindow.read, rows) if window.covers(str(service["name"]), now)]
    if not windows:
        return {"known": True, "active": False}
    window = next((each for each in windows if not each.emergency_allowed), windows[0])
    return {
        "known": True,
        "active": True,
        "id": window.id,
        "reason": window.reason,
        "until": window.ends_at.isoformat(),
        "emergency_allowed": window.emergency_allowed,
    }


def refused(case: Case, step: ActStep, proposal: Proposal, answer: Acted) -> Exception:
    """What becomes of an act that governance did not simply allow."""
    verdict, approval = answer.verdict, answer.approval
    if verdict.decision is Decision.NEEDS_APPROVAL and case.shadow:
        return Stop(f"An approval would be asked for: {verdict.reason}", verdict=verdict)
    if verdict.decision is Decision.NEEDS_APPROVAL:
        if approval is None or approval.status is ApprovalStatus.WAITING:
            return Wait(AwaitingApproval(proposal=proposal, verdict=verdict, reply=_approval_reply(case, step, proposal)))
        if approval.status is ApprovalStatus.REJECTED:
            by = f" by {approval.decided_by}" if approval.decided_by else ""
            return Stop(f"{approval.id} was rejected{by}: {approval.decision_reason or 'no reason given'}.", verdict=verdict)
        if approval.status is ApprovalStatus.EXPIRED:
            return Stop(f"{approval.id} expired before anybody decided it.", verdict=verdict)
        return Stop(f"{approval.id} is {approval.status}, but its action was never observed.", verdict=verdict)
    if verdict.decision is Decision.NEEDS_IDENTITY:
        return Stop(f"{proposal.action} needs a proven identity: {verdict.reason}", verdict=verdict)
    return Stop(verdict.reason, verdict=verdict)


def _approval_reply(case: Case, step: ActStep, proposal: Proposal) -> str:
    if step.after:
        return fill(step.after, case.language, _told_names(case))
    matter = case.playbook.macros.matter(case.category, case.language)
    return case.playbook.macros.say("awaiting_approval", case.language, name=case.name, ticket_id=case.ticket.id, what=matter)


# --- did it work ------------------------------------------------------------------------------------------------------


def verify(case: Case, runbook: Runbook) -> Generator[Effect, Any, Outcome]:
    """Resolved only when the system of record itself says so; the reply states what it said."""
    if case.shadow and case.proposed:
        case.would_resolve = True
        raise Stop("Shadow: the actions above would have been carried out and verified.")
    probe = runbook.verify
    if probe.read:
        observation = yield from look(case, runbook.ref, probe.as_, probe.read, _arguments(probe.with_, case.facts), fresh=True)
        if observation.status is not ObservationStatus.OK:
            raise Stop(f"The result could not be confirmed: {refusal(observation)}.")
        case.facts = case.facts.with_fact(probe.as_, observation.body, source="record", detail=probe.read)
    else:
        found: list[Passage] = yield effects.Search(words=case.ticket.text, limit=SEARCH_LIMIT)
        rows = answering(found, min((step.at_least for step in runbook.steps if isinstance(step, Search)), default=1.0))
        case.facts = case.facts.with_fact(probe.as_, rows, source="knowledge", detail="knowledge.search")
    failing = conditions.first_failing(probe.expect, case.facts.get)
    name = probe.read or "knowledge.search"
    verification = Verification(
        confirmed=failing is None,
        probe=name,
        expected=conditions.all_said(probe.expect),
        observed=conditions.all_said(probe.expect, case.facts.get),
    )
    if failing is not None:
        raise Stop(f"The probe {name} does not confirm success: {conditions.said(failing, case.facts.get)}.")
    case.checked.append(f"Verified with {name}: {verification.observed}")
    case.would_resolve = True
    names = _told_names(case)
    return Resolved(
        reply=fill(runbook.reply, case.language, names),
        verification=verification,
        resolution_code=runbook.resolution_code,
        internal_note=_note(case, runbook, names),
    )


def _note(case: Case, runbook: Runbook, names: Mapping[str, Any]) -> str:
    parts = [f"{runbook.title} ({runbook.ref})."]
    if runbook.note:
        parts.append(fill_line(runbook.note, names))
    parts += [f"{each}." for each in case.actions]
    parts += [f"{row['action']}: {row['decision']} by {row['rule']}." for row in case.verdicts if row["action"] != "ticket"]
    parts.append(f"Identity: {'proven' if case.proven else 'claimed'}.")
    return " ".join(parts)


def _told_names(case: Case) -> dict[str, Any]:
    hidden = {"ticket", "requester", "entities", "signals", "desk", "contact", "now"}
    facts = {name: value for name, value in case.facts.values().items() if name not in hidden}
    return {**facts, "now": case.now.isoformat(), "name": case.name, "ticket_id": case.ticket.id}


def _arguments(given: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    filled = {
        name: facts.get(value[1:]) if isinstance(value, str) and value.startswith("$") else value for name, value in given.items()
    }
    return {name: value for name, value in filled.items() if value is not None}


def _say(template: str, facts: Facts) -> str:
    return fill_line(template, facts.values()) if "{" in template else template


def verdict_of_code() -> Verdict:
    """Why a code may be sent: it goes to the address on record and reveals nothing."""
    return Verdict(decision=Decision.ALLOW, rule="identity-code", reason="A one-time code goes to the address on record only.")
