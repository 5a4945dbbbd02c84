"""Carry out what many tickets' ways want, in rounds: judge, commit what is intended, do it, commit what was observed.

One round takes one effect of every ticket. All intentions of a round are one transaction, committed before anything is done; the
calls run in a thread pool; all observations are one more transaction. A ticket whose lease is lost, whose systems are away or
whose way fails drops out alone; the others go on. Knows the ports; knows no database and no HTTP.
"""

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import numpy as np

from orchestrator.domain.errors import CloisterError, Conflict, FencedOut, ModelUnavailable, WorldUnavailable
from orchestrator.domain.resolution import (
    ApprovalStatus,
    Child,
    Decision,
    Observation,
    ObservationStatus,
    Outcome,
    Proposal,
    Provenance,
    Rung,
    StepRecord,
    Verdict,
)
from orchestrator.domain.spending import Spend
from orchestrator.domain.tickets import CHILD_SOURCE, Ticket
from orchestrator.domain.triage import OTHERS, Triage
from orchestrator.ports import Claim, Clock, Embedder, LanguageModel, Reranker, Store, SystemsOfRecord, Transaction
from orchestrator.privacy.outgoing import Guard
from orchestrator.resolution.act import judge
from orchestrator.resolution.budgets import BASELINE_DAYS, DAY, HOUR
from orchestrator.resolution.case import Case, Memory
from orchestrator.resolution.codes import masked
from orchestrator.resolution.effects import Act, Acted, Ask, Effect, OpenChildren, Prove, Read, Search, SendCode, TakeTurn
from orchestrator.resolution.facts import canonical, proposal_digest, sha256
from orchestrator.resolution.identify import verdict_of_code
from orchestrator.resolution.knowing import reranked
from orchestrator.resolution.outgoing import release
from orchestrator.resolution.playbook import Playbook
from orchestrator.resolution.resolve import resolve

log = logging.getLogger(__name__)

SENDS = 3  # of one act within one round: a write without an answer is sent again with the same idempotency key
MAX_ROUNDS = 60
READ_VERDICT = Verdict(decision=Decision.ALLOW, rule="read", reason="A look-up of the runbook changes nothing.")
SHADOW = "shadow"


@dataclass(frozen=True, kw_only=True)
class Work:
    """One claimed and triaged ticket. `claim` is None only in a shadow run, which writes nothing."""

    ticket: Ticket
    triage: Triage
    claim: Claim | None = None


@dataclass(frozen=True, kw_only=True)
class Desk:
    """What resolution works with; joined in `bootstrap`."""

    playbook: Playbook
    store: Store
    systems: SystemsOfRecord
    language_model: LanguageModel
    embedder: Embedder
    clock: Clock
    pool: ThreadPoolExecutor
    secret: bytes  # from which one-time codes are derived; at least 16 bytes, the same for all workers
    model: str = "live"
    reads_in_shadow: bool = False
    rewrite: Callable[[str], str] = str  # a question in the house's terms
    reranker: Reranker | None = None
    guard: Guard = field(default_factory=Guard)

    def __post_init__(self) -> None:
        if len(self.secret) < 16:
            raise ValueError(f"The secret of one-time codes has {len(self.secret)} bytes; it needs at least 16.")


@dataclass
class Driven:
    """What became of a batch. Every ticket of it is in exactly one of the three."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    notes: dict[str, dict[str, Any]] = field(default_factory=dict)  # for save_outcomes, and for a shadow run's decision
    retry: dict[str, str] = field(default_factory=dict)  # ticket id -> why; give the claim back with `retry`
    waits: set[str] = field(default_factory=set)  # of those in `retry`: they wait for the models and have no part in it
    cases: dict[str, Case] = field(default_factory=dict)  # of those in `outcomes`
    lost: list[str] = field(default_factory=list)  # the lease went to another worker: nothing to write any more


@dataclass
class _Run:
    """One ticket's way and where it stands."""

    work: Work
    case: Case
    way: Generator[Effect, Any, Outcome]
    effect: Effect | None = None
    reads: int = 0

    @property
    def id(self) -> str:
        return self.work.ticket.id


@dataclass
class _Call:
    """One call of a round: what is stored of it, and what really goes out."""

    run: _Run
    proposal: Proposal
    verdict: Verdict
    arguments: Mapping[str, Any]
    intended_first: bool  # written before the call; look-ups are written with their observation
    secret: str | None = None  # a code that must not be stored
    observation: Observation | None = None


def drive(works: Sequence[Work], desk: Desk) -> Driven:
    """Bring every ticket of the batch to an outcome, or say that it has to be tried again."""
    driven = Driven()
    runs = [_Run(work=work, case=case, way=resolve(case)) for work, case in _begin(works, desk, driven)]
    for run in runs:
        _advance(run, None, driven)
    spent: dict[str, float] = {}
    vectors: dict[str, np.ndarray] = {}
    for _ in range(MAX_ROUNDS):
        waiting = [run for run in runs if run.effect is not None]
        if not waiting:
            return driven
        _Round(waiting, desk, driven, spent, vectors).take()
    for run in runs:
        if run.effect is not None:
            _drop(run, driven, f"No outcome after {MAX_ROUNDS} rounds; the runbook goes in circles.")
    return driven


def _begin(works: Sequence[Work], desk: Desk, driven: Driven) -> list[tuple[Work, Case]]:
    memories = desk.store.run(lambda tx: recall(tx, works, desk.playbook, now=desk.clock()))
    begun = []
    for work in works:
        try:
            case = Case(
                ticket=work.ticket,
                triage=work.triage,
                memory=memories[work.ticket.id],
                playbook=desk.playbook,
                started_at=desk.clock(),
                secret=desk.secret,
                shadow=work.ticket.autonomy_rung == SHADOW or memories[work.ticket.id].rung is Rung.SHADOW,
                reads_in_shadow=desk.reads_in_shadow or work.claim is not None,
                guard=desk.guard,
            )
            begun.append((work, case))
        except Exception as error:
            log.exception("ticket %s cannot begin", work.ticket.id)
            driven.retry[work.ticket.id] = f"{type(error).__name__}: {error}"
    return begun


def recall(tx: Transaction, works: Sequence[Work], playbook: Playbook, *, now: datetime) -> dict[str, Memory]:
    """What the store knows of these tickets: steps, approvals, codes, earlier contacts, spending, leads, the kill switch."""
    ids = [work.ticket.id for work in works]
    settings = playbook.policies.settings
    steps, approvals = tx.steps(ids), tx.approvals_of(ids)
    emails = sorted({work.ticket.requester.email.lower() for work in works if work.ticket.requester.email})
    contacts = tx.contacts(emails, since=now - timedelta(days=settings.contact_days)) if emails else {}
    leads = tx.tickets(sorted({work.triage.link.ticket_id for work in works if work.triage.link}))
    switch = tx.kill_switch()
    rungs, stopped_types = tx.ladder.rungs(), tx.ladder.stopped_types(now=now)
    resumed = [ticket_id for ticket_id, found in steps.items() if found]
    parts = tx.children(resumed)
    parents = tx.parents([work.ticket.id for work in works if work.ticket.source == CHILD_SOURCE])
    turns = tx.turns(resumed)
    spending = _spending(tx, works, playbook, now=now)
    memories = {}
    for work in works:
        email, category = work.ticket.requester.email.lower(), _type_of(work)
        memories[work.ticket.id] = Memory(
            steps=steps.get(work.ticket.id, []),
            approvals=approvals.get(work.ticket.id, []),
            code=tx.live_code(work.ticket.id) if _was_asked(steps.get(work.ticket.id, [])) else None,
            earlier_contacts=sum(
                row["id"] != work.ticket.id and row["created_at"] <= work.ticket.created_at for row in contacts.get(email, [])
            ),
            stopped=switch if switch.get("stopped") else stopped_types.get(category),
            lead=leads.get(work.triage.link.ticket_id) if work.triage.link else None,
            turns=turns.get(work.ticket.id, ()),
            spending=spending,
            attempts=_attempts(work, contacts.get(email, []), now=now),
            rung=_rung_of(category, rungs, playbook),
            parent=parents.get(work.ticket.id),
            children=parts.get(work.ticket.id, ()),
        )
    return memories


def _type_of(work: Work) -> str:
    classification = work.triage.classification
    return OTHERS if classification.abstained else classification.category


def _rung_of(category: str, rungs: Mapping[str, Rung], playbook: Playbook) -> Rung:
    """As the ladder has it, else as the reviewed file begins. For `Others` there is nothing to be careful with: no runbook serves it."""
    return Rung.FULL if category == OTHERS else rungs.get(category) or playbook.ladder.begins(category)


def _was_asked(steps: Sequence[StepRecord]) -> bool:
    return any(step.action == "mail.send" for step in steps)


def _spending(tx: Transaction, works: Sequence[Work], playbook: Playbook, *, now: datetime) -> list[Spend]:
    """What the desk gave away of late: one query for the batch, none where no ticket of it could give anything away."""
    if not any(_gives_away(playbook, work.triage.classification.category) for work in works):
        return []
    return tx.spending(day=now - DAY, hour=now - HOUR, since=now - timedelta(days=BASELINE_DAYS))


def _gives_away(playbook: Playbook, category: str) -> bool:
    return any("amount" in act.with_ for runbook in playbook.serving(category) for act in runbook.acts)


def _attempts(work: Work, rows: Sequence[Mapping[str, Any]], *, now: datetime) -> int:
    """Tickets of the same type by the same requester within a day, this one included."""
    category = work.triage.classification.category
    others = [r for r in rows if r["id"] != work.ticket.id and r["category"] == category and now - r["created_at"] <= DAY]
    return 1 + len(others)


def _advance(run: _Run, answer: Any, driven: Driven) -> None:
    """One step of one ticket's way; whatever goes wrong in it stays with it."""
    run.effect = None
    try:
        run.effect = next(run.way) if answer is None and run.reads == 0 else run.way.send(answer)
        run.reads += 1
    except StopIteration as done:
        _release(run.case, done.value, driven)
    except CloisterError as error:
        driven.retry[run.id] = str(error)
    except Exception as error:
        log.exception("the way of ticket %s failed", run.id)
        driven.retry[run.id] = f"{type(error).__name__}: {error}"


def _release(case: Case, outcome: Outcome, driven: Driven) -> None:
    """The outcome is final: what it tells the requester is screened, before anything of it is stored. Unscreened, nothing goes on."""
    try:
        released = release(case, outcome)
    except Exception as error:
        log.exception("the texts of ticket %s could not be screened", case.ticket.id)
        driven.retry[case.ticket.id] = f"{type(error).__name__}: {error}"
        return
    driven.outcomes[case.ticket.id] = released
    driven.notes[case.ticket.id] = case.notes()
    driven.cases[case.ticket.id] = case


def _drop(run: _Run, driven: Driven, why: str, *, lost: bool = False, waits: bool = False) -> None:
    run.effect = None
    run.way.close()
    if waits:
        driven.waits.add(run.id)
    if lost:
        driven.lost.append(run.id)
    else:
        driven.retry[run.id] = why


class _Round:
    """One effect of every waiting ticket."""

    def __init__(
        self, runs: Sequence[_Run], desk: Desk, driven: Driven, spent: dict[str, float], vectors: dict[str, np.ndarray]
    ) -> None:
        self.runs = runs
        self.desk = desk
        self.driven = driven
        self.spent = spent  # given back in this batch, by requester: the cap counts it at once
        self.vectors = vectors  # words of this batch that were embedded already

    def take(self) -> None:
        effects = [(run, run.effect) for run in self.runs]
        self._ask([(run, effect) for run, effect in effects if isinstance(effect, Ask)])
        self._search([(run, effect) for run, effect in effects if isinstance(effect, Search)])
        self._prove([run for run, effect in effects if isinstance(effect, Prove)])
        self._open_children([(run, effect) for run, effect in effects if isinstance(effect, OpenChildren)])
        self._take_turns([(run, effect) for run, effect in effects if isinstance(effect, TakeTurn)])
        calls = [call for run, effect in effects if (call := self._call(run, effect)) is not None]
        intended = self._intend(calls)
        self._execute(intended)
        for call in self._observe(intended):
            self._answer(call)

    # models and knowledge

    def _ask(self, asked: list[tuple[_Run, Ask]]) -> None:
        if not asked:
            return
        try:
            results = self.desk.language_model.score([effect.request for _, effect in asked], model=self.desk.model)
        except ModelUnavailable as error:
            for run, _ in asked:
                _drop(run, self.driven, str(error), waits=True)
            return
        for (run, _), result in zip(asked, results, strict=True):
            _advance(run, result, self.driven)

    def _search(self, wanted: list[tuple[_Run, Search]]) -> None:
        if not wanted:
            return
        try:
            said = {effect.words: self.desk.rewrite(effect.words) for _, effect in wanted}
            vectors = self._vectors(wanted, said)
            name = self.desk.embedder.name
            found = self.desk.store.run(
                lambda tx: [
                    tx.search_knowledge(name, vectors[effect.words], said[effect.words], limit=effect.limit, reader=effect.reader)
                    for _, effect in wanted
                ]
            )
            found = [
                reranked(self.desk.reranker, effect.words, passages) for (_, effect), passages in zip(wanted, found, strict=True)
            ]
        except CloisterError as error:
            for run, _ in wanted:
                _drop(run, self.driven, str(error), waits=isinstance(error, ModelUnavailable))
            return
        for (run, _), passages in zip(wanted, found, strict=True):
            _advance(run, passages, self.driven)

    def _vectors(self, wanted: list[tuple[_Run, Search]], said: Mapping[str, str]) -> dict[str, np.ndarray]:
        """By the words wanted, of what is `said` for them. Triage has embedded the tickets' own text already; one call for the rest."""
        name = self.desk.embedder.name
        ids = [
            run.id
            for run, effect in wanted
            if effect.words == run.work.ticket.text and said[effect.words] == effect.words and effect.words not in self.vectors
        ]
        if ids:
            stored = self.desk.store.run(lambda tx: tx.embeddings(name, ids))
            self.vectors |= {run.work.ticket.text: stored[run.id] for run, _ in wanted if run.id in stored and run.id in ids}
        missing = sorted({effect.words for _, effect in wanted if effect.words not in self.vectors})
        if missing:
            vectors = self.desk.embedder.embed([said[words] for words in missing])
            self.vectors |= dict(zip(missing, vectors, strict=True))
        return self.vectors

    def _prove(self, runs: list[_Run]) -> None:
        for run in runs:
            work = run.work
            if work.claim is None:
                _advance(run, None, self.driven)
                continue
            claim = work.claim
            try:
                self.desk.store.run(partial(_raise_assurance, claim=claim, ticket=work.ticket))
            except FencedOut as error:
                _drop(run, self.driven, str(error), lost=True)
            else:
                run.case.proven = True
                _advance(run, None, self.driven)

    def _open_children(self, wanted: list[tuple[_Run, OpenChildren]]) -> None:
        """One transaction per parent: what stands in the way of one is not the others' matter."""
        for run, effect in wanted:
            try:
                children = self.desk.store.run(partial(_open, claim=run.work.claim, effect=effect, now=self.desk.clock()))
            except FencedOut as error:
                _drop(run, self.driven, str(error), lost=True)
            except CloisterError as error:
                _drop(run, self.driven, str(error))
            else:
                _advance(run, children, self.driven)

    def _take_turns(self, taken: list[tuple[_Run, TakeTurn]]) -> None:
        """What the loops decided, in one transaction; a ticket whose lease is lost drops out alone."""
        written = [each for each in taken if each[0].work.claim is not None]
        for run, _ in (each for each in taken if each not in written):
            _advance(run, None, self.driven)
        if not written:
            return
        try:
            self._write_turns(written)
        except FencedOut as error:
            if len(written) > 1:
                for each in written:
                    self._take_turns([each])
            else:
                _drop(written[0][0], self.driven, str(error), lost=True)
            return
        for run, _ in written:
            _advance(run, None, self.driven)

    def _write_turns(self, taken: Sequence[tuple[_Run, TakeTurn]]) -> None:
        claims = [run.work.claim for run, _ in taken if run.work.claim is not None]
        turns = [(run.id, effect.turn) for run, effect in taken]
        self.desk.store.run(lambda tx: tx.save_turns(claims, turns, now=self.desk.clock()))

    # calls

    def _call(self, run: _Run, effect: Effect | None) -> _Call | None:
        """What this effect calls; an act that governance does not allow is answered here and calls nothing."""
        match effect:
            case Read():
                return _Call(
                    run=run, proposal=_look_up(run, effect), verdict=READ_VERDICT, arguments=effect.arguments, intended_first=False
                )
            case Act():
                return self._act(run, effect)
            case SendCode():
                arguments = {**effect.proposal.arguments, "body": effect.body}
                return _Call(
                    run=run,
                    proposal=effect.proposal,
                    verdict=verdict_of_code(),
                    arguments=arguments,
                    intended_first=True,
                    secret=effect.code,
                )
        return None

    def _act(self, run: _Run, effect: Act) -> _Call | None:
        case, proposal = run.case, effect.proposal
        begun = case.memory.act(proposal.idempotency_key)
        if begun is not None and begun.verdict is not None and begun.verdict.decision is Decision.ALLOW:
            verdict = begun.verdict  # it may have happened already: the same key finds out, and changes nothing twice
            return _Call(run=run, proposal=proposal, verdict=verdict, arguments=proposal.arguments, intended_first=True)
        facts = effect.facts
        already = self.spent.get(case.ticket.requester.email.lower(), 0.0)
        if already:
            money = dict(facts.get("money") or {})
            for name in ("with_this", "account_with_this", "desk_with_this"):
                money[name] = money.get(name, 0.0) + already
            facts = facts.with_fact("money", money, source="record", detail="the desk's own refunds")
        verdict = judge(case, effect.runbook, proposal, facts)
        approval = case.approval_for(proposal)
        if verdict.decision is Decision.NEEDS_APPROVAL and approval and approval.status is ApprovalStatus.APPROVED:
            verdict = replace(
                verdict,
                decision=Decision.ALLOW,
                reason=f"{approval.id} approved by {approval.decided_by}: {approval.decision_reason or 'no reason given'}",
            )
        if verdict.decision is not Decision.ALLOW or case.shadow or run.work.claim is None:
            _advance(run, Acted(verdict=verdict, observation=None, approval=approval), self.driven)
            return None
        if proposal.action == "billing.refund":
            email = case.ticket.requester.email.lower()
            self.spent[email] = already + float(proposal.arguments.get("amount") or 0)
        return _Call(run=run, proposal=proposal, verdict=verdict, arguments=proposal.arguments, intended_first=True)

    def _intend(self, calls: list[_Call]) -> list[_Call]:
        """Write what is about to be done, fenced by the claims. Tickets whose lease is lost drop out; the others are written."""
        acts = [call for call in calls if call.intended_first]
        if not acts:
            return calls
        try:
            stopped = self._write_intents(acts)
        except FencedOut:
            stopped = {}
            for call in acts:
                try:
                    stopped.update(self._write_intents([call]))
                except FencedOut as error:
                    _drop(call.run, self.driven, str(error), lost=True)
        going = []
        for call in calls:
            if call.run.effect is None:
                continue
            if reason := stopped.get(call.run.id):
                verdict = Verdict(decision=Decision.HAND_OVER, rule="kill-switch", reason=reason)
                self._refuse(call, verdict)
            else:
                going.append(call)
        return going

    def _write_intents(self, calls: Sequence[_Call]) -> dict[str, str]:
        """One transaction. Where autonomy was stopped meanwhile nothing is written: ticket id -> why it does not go on."""
        now = self.desk.clock()

        def write(tx: Transaction) -> dict[str, str]:
            stopped = _stopped(tx, calls, now=now)
            going = [call for call in calls if call.run.id not in stopped]
            claims = [call.run.work.claim for call in going if call.run.work.claim is not None]
            tx.save_intended(claims, [(call.proposal, call.verdict) for call in going], now=now)
            for call in going:
                if isinstance(effect := call.run.effect, SendCode):
                    tx.issue_code(
                        call.run.id,
                        email=str(effect.proposal.arguments["to"]),
                        code_sha256=effect.code_sha256,
                        expires_at=now + timedelta(minutes=effect.minutes),
                    )
            return stopped

        return self.desk.store.run(write)

    def _refuse(self, call: _Call, verdict: Verdict) -> None:
        if isinstance(call.run.effect, Act):
            _advance(call.run, Acted(verdict=verdict, observation=None), self.driven)
        else:
            request = {"action": call.proposal.action}
            refused = Observation(
                status=ObservationStatus.REFUSED,
                http_status=None,
                body={"detail": verdict.reason},
                at=self.desk.clock(),
                request=request,
            )
            _advance(call.run, refused, self.driven)

    def _execute(self, calls: list[_Call]) -> None:
        """Every act by itself; the same look-up for several tickets of the round once."""
        groups: dict[str, list[_Call]] = {}
        for call in calls:
            proposal = call.proposal
            name = proposal.idempotency_key if proposal.writes else f"{proposal.action} {canonical(dict(call.arguments))}"
            groups.setdefault(name, []).append(call)
        first = [group[0] for group in groups.values()]
        for group, observation in zip(groups.values(), self.desk.pool.map(self._do, first), strict=True):
            for call in group:
                call.observation = observation

    def _do(self, call: _Call) -> Observation:
        """The call itself. An act without an answer is sent again with the same key; what it did, it did once."""
        writes = call.proposal.writes
        observation = None
        for _ in range(SENDS if writes else 1):
            try:
                observation = self.desk.systems.call(
                    call.proposal.action, call.arguments, idempotency_key=call.proposal.idempotency_key if writes else None
                )
            except Exception as error:
                log.exception("%s failed in the connector", call.proposal.action)
                failed = ObservationStatus.UNKNOWN if writes else ObservationStatus.UNAVAILABLE
                body = {"detail": f"{type(error).__name__}: {error}"}
                observation = Observation(status=failed, http_status=None, body=body, at=self.desk.clock(), request={})
            if observation.status in {ObservationStatus.OK, ObservationStatus.REFUSED}:
                break
        assert observation is not None
        if call.secret:
            observation = replace(
                observation, body=masked(observation.body, call.secret), request=masked(dict(observation.request), call.secret)
            )
        return observation

    def _observe(self, calls: list[_Call]) -> list[_Call]:
        """Write what was observed, look-ups with their intention; a ticket whose lease was lost meanwhile drops out."""
        written = [call for call in calls if call.run.work.claim is not None]
        if written:
            try:
                self._write_observed(written)
            except FencedOut:
                for call in written:
                    try:
                        self._write_observed([call])
                    except FencedOut as error:
                        _drop(call.run, self.driven, str(error), lost=True)
        return [call for call in calls if call.run.effect is not None]

    def _write_observed(self, calls: Sequence[_Call]) -> None:
        now = self.desk.clock()
        looks = [call for call in calls if not call.intended_first]
        claims = [call.run.work.claim for call in looks if call.run.work.claim is not None]

        def write(tx: Transaction) -> None:
            if looks:
                tx.save_intended(claims, [(call.proposal, call.verdict) for call in looks], now=now)
            tx.save_observed(
                [(call.run.id, call.proposal.idempotency_key, call.observation) for call in calls if call.observation is not None],
                now=now,
            )

        self.desk.store.run(write)

    def _answer(self, call: _Call) -> None:
        observation = call.observation
        assert observation is not None
        if observation.status in {ObservationStatus.UNKNOWN, ObservationStatus.UNAVAILABLE}:
            error = WorldUnavailable(
                f"{call.proposal.action}: {observation.status} after {SENDS if call.proposal.writes else 1} attempt(s).",
                hint="It is tried again later with the same idempotency key.",
            )
            _drop(call.run, self.driven, str(error))
            return
        if isinstance(call.run.effect, Act):
            _advance(call.run, Acted(verdict=call.verdict, observation=observation), self.driven)
        else:
            _advance(call.run, observation, self.driven)


def _stopped(tx: Transaction, calls: Sequence[_Call], *, now: datetime) -> dict[str, str]:
    """Ticket id -> why nothing acts for it at this moment: autonomy of the desk or of its type is stopped."""
    switch = tx.kill_switch()
    if switch.get("stopped"):
        why = f"Autonomy is stopped for the whole desk ({switch.get('reason') or 'no reason given'})."
        return {call.run.id: why for call in calls}
    types = tx.ladder.stopped_types(now=now)
    stopped = {call.run.id: (call.run.case.category, types.get(call.run.case.category)) for call in calls}
    return {
        ticket_id: f"Autonomy is stopped for tickets of the type {type} ({switch['reason']})."
        for ticket_id, (type, switch) in stopped.items()
        if switch
    }


def _look_up(run: _Run, effect: Read) -> Proposal:
    """A look-up as it is stored. Its key is new in every run, for what it says may be new as well."""
    claim = run.work.claim
    turn = claim.token if claim else 0
    arguments = dict(effect.arguments)
    return Proposal(
        ticket_id=run.id,
        runbook=effect.runbook,
        step=effect.step,
        action=effect.action,
        arguments=arguments,
        provenance={name: Provenance(source="record", detail=effect.runbook) for name in arguments},
        owner=None,
        idempotency_key=sha256("read", run.id, turn, run.reads, effect.runbook, effect.step, effect.action, canonical(arguments)),
        writes=False,
        digest=proposal_digest(run.id, effect.runbook, effect.step, effect.action, arguments),
    )


def _open(tx: Transaction, *, claim: Claim | None, effect: OpenChildren, now: datetime) -> list[Child]:
    assert claim is not None  # a shadow run opens nothing
    if (switch := tx.kill_switch()).get("stopped"):
        raise Conflict(f"Autonomy is stopped for the whole desk ({switch.get('reason') or 'no reason given'}).")
    return tx.open_children(claim, effect.orders, opened_by=effect.opened_by, requester=effect.requester, now=now)


def _raise_assurance(tx: Transaction, *, claim: Claim, ticket: Ticket) -> None:
    tx.hold([claim])
    tx.prove_identity(ticket.id)
