"""One ticket on its way through resolution: what is known, what was looked at, what was judged. Calls nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from orchestrator.domain.actions import Action
from orchestrator.domain.autonomy import lowest
from orchestrator.domain.resolution import (
    Approval,
    ApprovalStatus,
    AwaitingRequester,
    Child,
    Decision,
    Observation,
    ObservationStatus,
    Outcome,
    ParentOf,
    Proposal,
    Rung,
    Snapshot,
    StepRecord,
    Turn,
    Verdict,
)
from orchestrator.domain.spending import Spend
from orchestrator.domain.tickets import Assurance, Author, Message, Ticket
from orchestrator.domain.triage import OTHERS, Triage
from orchestrator.privacy.outgoing import Guard
from orchestrator.privacy.pseudonyms import Pseudonyms, hidden, pseudonyms_of
from orchestrator.resolution.facts import Facts, canonical
from orchestrator.resolution.judged import about_ticket
from orchestrator.resolution.mood import contact_facts, read_mood, signal_facts
from orchestrator.resolution.playbook import Playbook
from orchestrator.resolution.runbooks import Runbook


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What the store knows of the ticket beside itself."""

    steps: Sequence[StepRecord] = ()
    approvals: Sequence[Approval] = ()
    code: Mapping[str, Any] | None = None  # {code_sha256, expires_at, ...}
    earlier_contacts: int = 0  # other tickets of this requester in the last days
    stopped: Mapping[str, Any] | None = None  # the kill switch, where it is on
    lead: Ticket | None = None  # the ticket that this one is linked to
    turns: Sequence[Turn] = ()  # of loops, all rounds of the ticket
    spending: Sequence[Spend] = ()  # what acts of the whole desk gave away of late; empty where this type gives nothing away
    attempts: int = 0  # tickets of this requester and type within 24 hours, this one included
    rung: Rung = Rung.SHADOW  # of the ticket's type, as the ladder has it now
    parent: ParentOf | None = None  # where this ticket is a part of another
    children: Sequence[Child] = ()  # the parts of this one

    def act(self, key: str) -> StepRecord | None:
        return next((step for step in self.steps if step.writes and step.idempotency_key == key), None)

    def turn(self, epoch: int, runbook: str, number: int) -> Turn | None:
        return next((t for t in self.turns if (t.epoch, t.runbook, t.number) == (epoch, runbook, number)), None)


class Stop(Exception):
    """A person takes over from here. `why` is the sentence that they read first."""

    def __init__(self, why: str, *, verdict: Verdict | None = None, keep: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.verdict = verdict
        self.keep = keep  # nothing is undone: nobody knows what happened


@dataclass(frozen=True, kw_only=True)
class Done:
    """An act that was carried out in this round of the ticket, and what it takes to undo it."""

    action: Action
    step: str
    runbook: str
    key: str
    arguments: Mapping[str, Any]
    answer: Any
    before: Snapshot | None
    owner: str | None = None
    failed: bool = False  # answered, but its own probe does not confirm it


class Question(Exception):
    """Something only the requester can say; the way pauses, after identity is settled."""

    def __init__(self, text: str, *, purpose: str, missing: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.outcome = AwaitingRequester(question=text, purpose=purpose, missing=tuple(missing))


class Wait(Exception):
    """The ticket's way pauses here with this outcome."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(type(outcome).__name__)
        self.outcome = outcome


@dataclass
class Case:
    """Mutable on purpose: the way of a ticket adds to it. One case lives for one run."""

    ticket: Ticket
    triage: Triage
    memory: Memory
    playbook: Playbook
    started_at: datetime
    secret: bytes
    shadow: bool = False
    reads_in_shadow: bool = False
    facts: Facts = field(default_factory=Facts)
    runbook: Runbook | None = None
    observed: dict[str, Observation] = field(default_factory=dict)  # by action and arguments: what this run has read
    derived: list[Any] = field(default_factory=list)  # what the runbook's functions made of it
    checked: list[str] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    judged: list[Mapping[str, Any]] = field(default_factory=list)  # decisions of governance, as recorded for replay
    asked: list[Mapping[str, Any]] = field(default_factory=list)  # what a model and knowledge were asked and said, for the record
    proposed: list[dict[str, Any]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    passages: list[Any] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    done: list[Done] = field(default_factory=list)  # acts of this round, in order
    gap: dict[str, Any] | None = None  # what knowledge did not answer
    answered_from: str = ""  # the document
    proven: bool = False
    steps_taken: int = 0
    would_resolve: bool = False
    confirmation: str | None = None  # the id that a system of record gave for what was done
    guard: Guard = field(default_factory=Guard)  # what no text for a requester may hold
    withheld: list[dict[str, Any]] = field(default_factory=list)  # kind and place of what was found in a text that was not sent

    def __post_init__(self) -> None:
        self.now = self._now()
        self.proven = self.ticket.requester.assurance is not Assurance.CLAIMED
        self.mood = read_mood(self.ticket, self.triage.signals)
        self.facts = _base_facts(self)

    @property
    def category(self) -> str:
        """What the ticket is acted on as: nothing where triage abstained."""
        classification = self.triage.classification
        return OTHERS if classification.abstained else classification.category

    @property
    def language(self) -> str:
        return self.triage.signals.language

    @property
    def epoch(self) -> int:
        return self.ticket.reopened_count

    @property
    def name(self) -> str:
        """The requester's name as the directory has it; never the one that the ticket claims."""
        return str(self.facts.get("user.name") or "")

    @cached_property
    def pseudonyms(self) -> Pseudonyms:
        """Of this ticket, with its requester's name on record: what stands behind each token that a model sees."""
        return pseudonyms_of(self.ticket, [self.name] if self.name else [])

    @cached_property
    def shown(self) -> Ticket:
        """The ticket as a model sees it."""
        return hidden(self.ticket, self.pseudonyms)

    @cached_property
    def words(self) -> str:
        """What recognizers read: all of it, or head and tail of what is very long."""
        words = self.ticket.words_of_requester
        return words if len(words) <= 2 * WORDS_CHARS else f"{words[:WORDS_CHARS]}\n...\n{words[-WORDS_CHARS:]}"

    @property
    def rung(self) -> Rung:
        """How free the desk is with this ticket: the most careful of its type, its runbook and what was said for it alone."""
        own = Rung(self.ticket.autonomy_rung) if self.ticket.autonomy_rung else None
        return lowest(self.memory.rung, self.runbook.autonomy if self.runbook else None, own)

    def circumstances(self) -> dict[str, str]:
        """By which a text may vary: plan, standing and region as the systems of record have them, the channel, and the wording."""
        user, account = self.facts.get("user") or {}, self.facts.get("account") or {}
        return {
            "plan": str(account.get("tier") or ""),
            "region": str(user.get("region") or ""),
            "channel": self.ticket.channel or "",
            "health": str(account.get("health") or ""),
            "vip": "yes" if user.get("vip") or account.get("vip") else "no",
            "sentiment": str(self.mood.last),
        }

    def group(self) -> str:
        return self.triage.assignment.group or self.playbook.groups.get(self.category, "")

    # what an earlier run of this round did

    def _my_steps(self) -> list[StepRecord]:
        return [step for step in self.memory.steps if step.epoch == self.epoch]

    def _last_act(self) -> StepRecord | None:
        acts = [step for step in self._my_steps() if step.writes and step.step != CODE_STEP and step.undoes is None]
        return max(acts, key=lambda step: step.seq, default=None)

    def _now(self) -> datetime:
        """Where an act was begun, time stands still at what was read last before it, so that the run takes the same way again."""
        act = self._last_act()
        earlier = [s.observation.at for s in self._my_steps() if act and s.seq < act.seq and s.observation and not s.writes]
        return max(earlier, default=self.started_at)

    def remembered(self, action: str, arguments: Mapping[str, Any]) -> Observation | None:
        """What was read before the last act that an earlier run began: by now the world may have changed through that very act."""
        act = self._last_act()
        wanted = canonical(dict(arguments))
        found = [
            step
            for step in self._my_steps()
            if act
            and step.seq < act.seq
            and not step.writes
            and IN_TURN not in step.step
            and step.action == action
            and canonical(dict(step.arguments)) == wanted
        ]
        last = max(found, key=lambda step: step.seq, default=None)
        return last.observation if last and last.observation and last.observation.status is ObservationStatus.OK else None

    def seen_at(self, name: str) -> Observation | None:
        """What a turn of the loop observed before the last act that an earlier run began; each turn has names of its own."""
        act = self._last_act()
        found = [step for step in self._my_steps() if act and step.seq < act.seq and not step.writes and step.step == name]
        last = max(found, key=lambda step: step.seq, default=None)
        return last.observation if last else None

    def begun(self, runbook: Runbook) -> bool:
        """Whether an earlier run of this round began one of this runbook's acts or opened one of its parts."""
        mine = {(act.as_, act.act) for act in runbook.acts}
        if any(child.opened_by.split("@")[0] == runbook.name for child in self.memory.children):
            return True
        return any(step.writes and (step.step, step.action) in mine for step in self._my_steps())

    @property
    def undoing(self) -> bool:
        """Whether an earlier run of this round began to undo what was done: then nothing new is done any more."""
        return any(step.undoes is not None for step in self._my_steps())

    def code_step(self) -> StepRecord | None:
        return next((step for step in self._my_steps() if step.step == CODE_STEP), None)

    def approval_for(self, proposal: Proposal) -> Approval | None:
        """The newest approval of exactly this proposal: one still open, or used up in this round of the ticket."""
        mine = [
            approval
            for approval in self.memory.approvals
            if approval.proposal.digest == proposal.digest
            and (approval.status in OPEN_APPROVALS or approval.proposal.idempotency_key == proposal.idempotency_key)
        ]
        return mine[-1] if mine else None

    def edit_of(self, digest: str) -> Approval | None:
        """The newest approval by which a person put something else in the place of the proposal with this digest."""
        edits = [each for each in self.memory.approvals if each.proposal.preview.get("edit_of") == digest]
        standing = [each for each in edits if each.status is not ApprovalStatus.SUPERSEDED]
        return standing[-1] if standing else None

    def other_approval(self, proposal: Proposal) -> Approval | None:
        """An approval of the same step that froze something else: what was approved is no longer what would be done."""
        return next(
            (
                approval
                for approval in self.memory.approvals
                if approval.proposal.step == proposal.step
                and approval.proposal.runbook == proposal.runbook
                and approval.proposal.digest != proposal.digest
                and approval.status in OPEN_APPROVALS
            ),
            None,
        )

    # the conversation

    def desk_messages(self) -> list[Message]:
        return [message for message in self.ticket.messages if message.author is Author.DESK]

    def answers_to(self, question: str) -> list[Message] | None:
        """What the requester wrote after the desk asked exactly this; None where it was not asked."""
        asked = [
            index
            for index, message in enumerate(self.ticket.messages)
            if message.author is Author.DESK and _same(message.body, question)
        ]
        if not asked:
            return None
        return [message for message in self.ticket.messages[asked[-1] + 1 :] if message.author is Author.REQUESTER]

    # what the timeline shows

    def note_verdict(self, action: str, verdict: Verdict, arguments: Mapping[str, Any] | None = None) -> None:
        row = {"action": action, "decision": str(verdict.decision), "rule": verdict.rule, "reason": verdict.reason}
        if verdict.basis and (self.shadow or action == "ticket" or verdict.decision is not Decision.ALLOW):
            self.judged.append(verdict.basis)  # what is allowed is recorded with its intention
        self.verdicts.append({**row, "arguments": dict(arguments)} if arguments is not None else row)

    def notes(self) -> dict[str, Any]:
        """For the outcome's record and for a shadow run's decision line."""
        return {
            "runbook": self.runbook.ref if self.runbook else None,
            "rung": str(self.rung),
            "eligible": self.playbook.eligible(self.category),
            "checked": list(self.checked),
            "verdicts": list(self.verdicts),
            "judged": list(self.judged),
            "reasons": list(self.reasons),
            "proposed_actions": list(self.proposed),
            "would_resolve": self.would_resolve,
            **({"confirmation": self.confirmation} if self.confirmation else {}),
            **({"turns": [asdict(turn) for turn in self.turns]} if self.turns else {}),
            **({"knowledge_gap": self.gap} if self.gap else {}),
            **({"answered_from": self.answered_from} if self.answered_from else {}),
            **({"asked": list(self.asked)} if self.asked else {}),
            **({"withheld": list(self.withheld)} if self.withheld else {}),
        }


CODE_STEP = "identity_code"
IN_TURN = "#"  # "alert#3": what the third turn of a loop looked at
WORDS_CHARS = 10_000
OPEN_APPROVALS = frozenset({ApprovalStatus.WAITING, ApprovalStatus.APPROVED})


def _stopped_for(stopped: Mapping[str, Any] | None) -> str:
    type = (stopped or {}).get("type")
    return f"tickets of the type {type}" if type else "the whole desk"


def _part(case: Case) -> dict[str, Any] | None:
    """What a part was given by its parent; None for a ticket of its own right, whatever it says."""
    parent = case.memory.parent
    return {**parent.facts, "parent": parent.ticket_id, "key": parent.key} if parent else None


def _same(left: str, right: str) -> bool:
    return " ".join(left.split()) == " ".join(right.split())


def _base_facts(case: Case) -> Facts:
    ticket, triage = case.ticket, case.triage
    said = {
        "id": ticket.id,
        "category": case.category,
        "words": case.words,
        "language": case.language,
        "created_at": ticket.created_at.isoformat(),
        "channel": ticket.channel,
    }
    requester = {"email": ticket.requester.email, "account": ticket.requester.account, "assurance": str(ticket.requester.assurance)}
    return (
        Facts()
        .with_fact("now", case.now.isoformat(), source="runbook", detail="the clock")
        .with_fact("ticket", said, source="ticket", detail="the ticket")
        .with_fact("requester", requester, source="ticket", detail="the ticket's requester")
        .with_fact(
            "entities", {key: list(value) for key, value in asdict(triage.entities).items()}, source="ticket", detail="recognized"
        )
        .with_fact("signals", signal_facts(case.mood), source="ticket", detail="read from the wording")
        .with_fact(
            "contact",
            contact_facts(case.mood, earlier=case.memory.earlier_contacts),
            source="record",
            detail="the desk's earlier tickets and this conversation",
        )
        .with_fact(
            "desk",
            {
                "stopped": bool(case.memory.stopped),
                "stopped_because": (case.memory.stopped or {}).get("reason", ""),
                "stopped_for": _stopped_for(case.memory.stopped),
                **case.playbook.policies.settings.model_dump(),
            },
            source="runbook",
            detail="the desk's settings",
        )
        .with_facts(about_ticket(ticket, triage), source="record", detail="triage")
        .with_fact("part", _part(case), source="record", detail="the parent ticket")
        .with_fact("user", None, source="record", detail="identity.find_user")
        .with_fact("account", None, source="record", detail="billing.get_account")
    )
