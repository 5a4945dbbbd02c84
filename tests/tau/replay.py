"""Replay tau2's reference actions through the desk's own parts, and compare the world that is left with the reference.

    python -m tests.tau.replay --domain retail [--json] [--task 12]

Each reference action is proposed under the runbook that serves it, every argument with its source; `authorize` judges it by the
company's reviewed policies; what is allowed is carried out by the desk's own connector over HTTP and verified by the runbook's
probe. No model takes part: the reference says what to propose, the scenario's text says what was asked for and confirmed.
"""

import argparse
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from orchestrator.connectors.http import HttpSystemsOfRecord
from orchestrator.domain.resolution import Decision, Observation, ObservationStatus, Proposal, Provenance, Verdict
from orchestrator.resolution import conditions
from orchestrator.resolution.facts import Facts, canonical, idempotency_key, proposal_digest, scalars
from orchestrator.resolution.governance import authorize
from orchestrator.resolution.look import arguments_from
from orchestrator.resolution.playbook import COMPANY as BUNDLED
from orchestrator.resolution.playbook import Playbook, load_playbook
from orchestrator.resolution.replies import fill
from orchestrator.resolution.runbooks import Act, Confirm, Read, Runbook
from tests.tau import data
from tests.tau.said import OWN_RECOGNIZERS, Scenario
from tests.tau.world.records import Records, Refused
from tests.tau.world.server import TOOLS, World, served

HERE = Path(__file__).parent
COMPANIES = HERE / "companies"
EXCEPTIONS = HERE / "exceptions.yaml"
OWN_LISTS = {
    "retail": ("orders", "get_order_details", "order_id"),
    "airline": ("reservations", "get_reservation_details", "reservation_id"),
}


@dataclass(frozen=True, kw_only=True)
class Desk:
    """A company's reviewed files with a connector to its world."""

    domain: str
    playbook: Playbook
    systems: HttpSystemsOfRecord
    world: World


def company(domain: str) -> Playbook:
    """The company's reviewed files as the desk loads them. The desk's own texts are the bundled ones, beside the company's matters."""
    with TemporaryDirectory() as folder:
        home = Path(folder) / domain
        shutil.copytree(COMPANIES / domain, home)
        matters = yaml.safe_load((home / "matters.yaml").read_text(encoding="utf-8"))
        texts = yaml.safe_load((BUNDLED / "macros" / "replies.yaml").read_text(encoding="utf-8")) | matters
        (home / "macros").mkdir()
        (home / "macros" / "replies.yaml").write_text(yaml.safe_dump(texts, allow_unicode=True), encoding="utf-8")
        return load_playbook(home)


@contextmanager
def opened(domain: str) -> Iterator[Desk]:
    with served(domain) as world:
        playbook = company(domain)
        systems = HttpSystemsOfRecord(
            playbook.actions, base_urls={domain: world.url}, tokens=world.tokens, clock=lambda: datetime.now(UTC)
        )
        with systems:
            yield Desk(domain=domain, playbook=playbook, systems=systems, world=world)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One act: what governance said and what the world answered."""

    action: str
    arguments: Mapping[str, Any]
    verdict: Verdict
    observation: Observation | None = None
    verified: bool = False
    stopped: str | None = None  # the precondition that did not hold just before
    impossible: str | None = None  # why the reference's own tool refuses it as well; then a refusal is right

    @property
    def allowed(self) -> bool:
        return self.verdict.decision is Decision.ALLOW

    @property
    def problem(self) -> str | None:
        if self.impossible:
            return f"{self.action}: allowed although the reference's tool refuses it" if self.allowed else None
        if self.verdict.decision is not Decision.ALLOW:
            return f"{self.action}: {self.verdict.decision} by {self.verdict.rule}: {self.verdict.reason}"
        if self.stopped:
            return f"{self.action}: just before it did not hold that {self.stopped}"
        if self.observation is None or self.observation.status is not ObservationStatus.OK:
            return f"{self.action}: the world said {self.observation and self.observation.body}"
        return None if self.verified else f"{self.action}: the probe did not confirm it"


class Conversation:
    """One ticket at the desk: whoever speaks is found, their records are read, acts are proposed one by one."""

    def __init__(self, desk: Desk, scenario: Scenario, *, ticket_id: str) -> None:
        self.desk, self.scenario, self.ticket_id = desk, scenario, ticket_id
        self.bodies: list[Any] = []
        self.user: dict[str, Any] = {}
        self.acted = False  # something of this ticket was changed or cancelled
        self._identify()

    def call(self, action: str, arguments: Mapping[str, Any]) -> Observation:
        """A look-up."""
        observation = self.desk.systems.call(action, arguments)
        if observation.status is ObservationStatus.OK:
            self.bodies.append(observation.body)
        return observation

    def _identify(self) -> None:
        if self.desk.domain == "retail":
            answers = (self.call(action, arguments) for action, arguments in self.scenario.identities())
            found = next((str(each.body) for each in answers if each.status is ObservationStatus.OK), None)
        else:
            found = next(iter(self.scenario.found("user id")), None)
        profile = self.call(f"{self.desk.domain}.get_user_details", {"user_id": found}) if found else None
        if profile is None or profile.status is not ObservationStatus.OK:
            return
        self.user = {**profile.body, "id": found}
        self.bodies.append({"user_id": found})
        kind, tool, key = OWN_LISTS[self.desk.domain]
        for record in profile.body[kind]:
            self.call(f"{self.desk.domain}.{tool}", {key: record})

    def act(self, action: str, arguments: Mapping[str, Any], *, about: Mapping[str, Any] | None = None) -> Judged:
        """Propose, have it judged, carry it out, verify. `about`: what the look-ups need beside the arguments."""
        runbook, step, facts, proposal, verdict = self._judge(action, arguments, about or {})
        if verdict.decision is not Decision.ALLOW:
            return Judged(action=action, arguments=arguments, verdict=verdict)
        scope = {"arguments": dict(arguments), "before": self._observed(action, arguments)}
        if failing := _first_failing(self.desk.playbook.actions[action].preconditions, scope):
            return Judged(action=action, arguments=arguments, verdict=verdict, stopped=failing)
        observation = self.desk.systems.call(action, arguments, idempotency_key=proposal.idempotency_key)
        if observation.status is not ObservationStatus.OK:
            return Judged(action=action, arguments=arguments, verdict=verdict, observation=observation)
        self.acted = True
        self.bodies.append(observation.body)
        facts = facts.with_fact(step.as_, observation.body, source="record", detail=action)
        done = self._took_effect(action, scope) and self._verified(runbook, facts)
        return Judged(action=action, arguments=arguments, verdict=verdict, observation=observation, verified=done)

    def _observed(self, action: str, arguments: Mapping[str, Any]) -> Any:
        """The target as its system of record has it now; nothing where the catalogue names no read for it."""
        observe = self.desk.playbook.actions[action].observe
        return self.call(observe.read, observe.resolved({"arguments": dict(arguments)})).body if observe else None

    def _took_effect(self, action: str, scope: Mapping[str, Any]) -> bool:
        """The catalogue's probe: after the act the target shows what it did not show before."""
        probe = self.desk.playbook.actions[action].probe
        if probe is None:
            return True
        after = self.call(probe.observe.read, probe.observe.resolved(scope)).body
        return _first_failing(probe.expect, {**scope, "after": after}) is None

    def judge(self, action: str, arguments: Mapping[str, Any], *, about: Mapping[str, Any] | None = None) -> Verdict:
        """What governance says of it, without doing it."""
        return self._judge(action, arguments, about or {})[-1]

    def _judge(
        self, action: str, arguments: Mapping[str, Any], about: Mapping[str, Any]
    ) -> tuple[Runbook, Act, Facts, Proposal, Verdict]:
        runbook, step = self._step(action, arguments)
        facts = self._looked_up(runbook, self._base(wished(action, arguments) | dict(about)))
        facts = facts.with_fact("ticket", self._ticket(runbook, action, facts), source="ticket", detail="the ticket")
        proposal = self._proposal(runbook, step, action, arguments, facts)
        return runbook, step, facts, proposal, self._authorize(proposal, runbook, self._judged_facts(facts, proposal, runbook))

    def _step(self, action: str, arguments: Mapping[str, Any]) -> tuple[Runbook, Act]:
        """The runbook's step that does this; of several the one whose literals are these arguments."""
        found = [(runbook, step) for runbook in self.desk.playbook.runbooks.values() for step in runbook.acts if step.act == action]
        fitting = [(runbook, step) for runbook, step in found if _literals(step) == _at(arguments, _literals(step))]
        return max(fitting or found, key=lambda pair: len(_literals(pair[1])) if fitting else 0)

    def _base(self, wish: Mapping[str, Any]) -> Facts:
        return (
            Facts()
            .with_fact("now", datetime.now(UTC).isoformat(), source="runbook", detail="the clock")
            .with_fact("user", self.user or None, source="record", detail="get_user_details")
            .with_fact("entities", wish, source="ticket", detail="what is wished for")
        )

    def _looked_up(self, runbook: Runbook, facts: Facts) -> Facts:
        """The runbook's look-ups, now; one that fails leaves its fact unknown, and no unknown can permit anything."""
        for step in runbook.steps:
            if isinstance(step, Read):
                observation = self.call(step.read, arguments_from(step.with_, facts))
                body = observation.body if observation.status is ObservationStatus.OK else None
                facts = facts.with_fact(step.as_, body, source="record", detail=step.read)
        return facts

    def _ticket(self, runbook: Runbook, action: str, facts: Facts) -> dict[str, Any]:
        """What the customer said, the answer to the runbook's own question among it."""
        said = self.scenario
        asked = next((step for step in runbook.steps if isinstance(step, Confirm)), None)
        known = all(facts.get(step.as_) is not None for step in runbook.steps if isinstance(step, Read))
        question = fill(asked.confirm, "en", facts.values()) if asked and known else None
        return {
            "words": said.words,
            "question": question,
            "confirmed": said.agrees_to(action) if question or asked is None else None,
            "cancel_reasons": said.cancel_reasons,
            "cancel_reason": said.insured_reason,
            "insurance": said.insurance,
            "asks_compensation": said.asks_compensation,
            "changed_or_cancelled": self.acted,
        }

    def _proposal(self, runbook: Runbook, step: Act, action: str, arguments: Mapping[str, Any], facts: Facts) -> Proposal:
        owner = facts.get(step.owner[1:]) if step.owner else None
        if action == "airline.book_reservation":
            owner = arguments.get("user_id")  # a new record belongs to whoever it is booked for
        provenance: dict[str, Provenance] = {}
        for name, value in arguments.items():
            provenance |= dict(self._sources(name, value, step.with_.get(name)))
        return Proposal(
            ticket_id=self.ticket_id,
            runbook=runbook.ref,
            step=step.as_,
            action=action,
            arguments=dict(arguments),
            provenance=provenance,
            owner=str(owner) if owner is not None else None,
            idempotency_key=idempotency_key(self.ticket_id, len(self.bodies), runbook.ref, step.as_, arguments),
            digest=proposal_digest(self.ticket_id, runbook.ref, step.as_, action, arguments),
        )

    def _sources(self, place: str, value: Any, literal: Any) -> Iterator[tuple[str, Provenance]]:
        """Where each value of an argument comes from: the runbook, a record of this ticket, the customer's words, or nowhere."""
        if value == literal:
            yield place, Provenance(source="runbook", detail="literal")
        elif isinstance(value, Mapping):
            for key, each in value.items():
                yield from self._sources(f"{place}.{key}", each, None)
        elif isinstance(value, list):
            for index, each in enumerate(value):
                yield from self._sources(f"{place}.{index}", each, None)
        elif any(_same(each, value) for body in self.bodies for each in scalars(body)):
            yield place, Provenance(source="record", detail="a record of this ticket")
        elif said := self.scenario.source(value):
            yield place, Provenance(source="ticket", detail=said)

    def _judged_facts(self, facts: Facts, proposal: Proposal, runbook: Runbook) -> Facts:
        action = self.desk.playbook.actions[proposal.action]
        about = {
            "action": {"name": action.name, "risk": str(action.risk), "blast_radius": str(action.blast_radius)},
            "arguments": dict(proposal.arguments),
            "runbook": {"name": runbook.name, "rung": str(runbook.autonomy), "identity": runbook.identity},
            "owner": proposal.owner,
            "own": proposal.owner is not None and proposal.owner == self.user.get("id"),
            "assurance": "proven" if self.user else "claimed",
            "rung": str(runbook.autonomy),
        }
        return facts.with_facts(about, source="record", detail="the proposal")

    def _authorize(self, proposal: Proposal, runbook: Runbook, facts: Facts) -> Verdict:
        return authorize(
            proposal,
            facts,
            policies=self.desk.playbook.policies,
            actions=self.desk.playbook.actions,
            runbook=runbook,
            category=runbook.ticket_types[0],
            words=self.scenario.words,
            observed=self.bodies,
            recognizers=OWN_RECOGNIZERS,
        )

    def _verified(self, runbook: Runbook, facts: Facts) -> bool:
        probe = runbook.verify
        assert probe.read is not None
        observation = self.call(probe.read, arguments_from(probe.with_, facts))
        if observation.status is not ObservationStatus.OK:
            return False
        facts = facts.with_fact(probe.as_, observation.body, source="record", detail=probe.read)
        return conditions.all_hold(probe.expect, facts.get)


def _first_failing(rules: Sequence[Mapping[str, Any]], scope: Mapping[str, Any]) -> str | None:
    """The first condition that the scope does not satisfy, in words."""
    facts = Facts().with_facts(scope, source="record", detail="just now")
    failing = conditions.first_failing(rules, facts.get)
    return conditions.said(failing, facts.get) if failing else None


def _same(left: Any, right: Any) -> bool:
    """Equal as governance compares: true is not 1."""
    one, other = conditions.comparable(left), conditions.comparable(right)
    return type(one) is type(other) and bool(one == other)


def _literals(step: Act) -> dict[str, Any]:
    return {name: value for name, value in step.with_.items() if not (isinstance(value, str) and value.startswith("$"))}


def _at(arguments: Mapping[str, Any], names: Mapping[str, Any]) -> dict[str, Any]:
    return {name: arguments.get(name) for name in names}


def wished(action: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as the look-ups take them: lists become one line."""
    wish = dict(arguments)
    for name in ("item_ids", "new_item_ids"):
        if name in wish:
            wish[name] = ",".join(wish[name])
    if "flights" in wish:
        wish["flights"] = ",".join(f"{each['flight_number']}@{each['date']}" for each in wish["flights"])
    if action == "airline.book_reservation":
        wish["passenger_count"] = len(wish["passengers"])
        wish["payments"] = ",".join(each["payment_id"] for each in wish["payment_methods"])
    return wish


# --- whole tasks ---------------------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Replayed:
    """One task: its acts, and whether the world that is left is the reference's."""

    task: str
    acts: list[Judged] = field(default_factory=list)
    state_equal: bool = False

    @property
    def problems(self) -> list[str]:
        found = [problem for act in self.acts if (problem := act.problem)]
        return found if found or self.state_equal else ["the end state differs from the reference"]

    @property
    def passed(self) -> bool:
        return not self.problems


def reference_actions(task: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [each for each in task["evaluation_criteria"].get("actions") or () if each.get("requestor", "assistant") == "assistant"]


def replay(desk: Desk, task: Mapping[str, Any]) -> Replayed:
    desk.world.reset()
    conversation = Conversation(desk, Scenario.of(task), ticket_id=f"{desk.domain}-{task['id']}")
    found = Replayed(task=task["id"])
    state, impossible = reference_state(desk.domain, task)
    for index, each in enumerate(reference_actions(task)):
        action = f"{desk.domain}.{each['name']}"
        if not desk.playbook.actions[action].writes:
            conversation.call(action, each["arguments"])
        elif each["name"] == "transfer_to_human_agents":
            found.acts.append(conversation.act(action, hand_over(desk)))
        else:
            judged = conversation.act(action, each["arguments"])
            found.acts.append(replace(judged, impossible=impossible.get(index)))
    found.state_equal = desk.world.records.state() == state
    return found


def hand_over(desk: Desk) -> dict[str, Any]:
    """The words of a hand-over are the desk's own; tau2 does not compare them either."""
    return dict(desk.playbook.runbooks["person_wanted"].acts[0].with_)


def reference_state(domain: str, task: Mapping[str, Any]) -> tuple[Mapping[str, Any], dict[int, str]]:
    """The world after the reference actions, made without HTTP, policy and desk; and which of them its tools refuse, with the reason."""
    records = Records(data.records(domain))
    refused: dict[int, str] = {}
    for index, each in enumerate(reference_actions(task)):
        try:
            TOOLS[domain][each["name"]](records, each["arguments"])
        except Refused as refusal:
            refused[index] = str(refusal)
    return records.state(), refused


def exceptions(domain: str) -> dict[str, str]:
    """Tasks that are known not to pass, by id, with the reason."""
    return {str(key): str(reason) for key, reason in (yaml.safe_load(EXCEPTIONS.read_text(encoding="utf-8"))[domain] or {}).items()}


def report(domain: str, *, only: Sequence[str] = ()) -> dict[str, Any]:
    started = time.monotonic()
    with opened(domain) as desk:
        found = [replay(desk, task) for task in data.tasks(domain) if not only or task["id"] in only]
    acts = [act for each in found for act in each.acts]
    return {
        "domain": domain,
        "tasks": len(found),
        "tasks_with_acts": sum(bool(each.acts) for each in found),
        "acts": len(acts),
        "acts_allowed": sum(act.allowed for act in acts),
        "acts_refused_by_both": sum(not act.allowed and act.impossible is not None for act in acts),
        "tasks_through_governance": sum(all(act.allowed or act.impossible for act in each.acts) for each in found),
        "tasks_end_state_equal": sum(each.state_equal for each in found),
        "tasks_passed": sum(each.passed for each in found),
        "cancel_reason_only_implied": [each.task for each in found if each.acts and _implied(each, domain)],
        "failed": {each.task: each.problems for each in found if not each.passed},
        "exceptions": exceptions(domain),
        "wall_s": round(time.monotonic() - started, 1),
    }


def _implied(found: Replayed, domain: str) -> bool:
    """A cancellation whose scenario states none of the two accepted reasons."""
    task = next(each for each in data.tasks(domain) if each["id"] == found.task)
    cancels = any(act.action == "retail.cancel_pending_order" for act in found.acts)
    return cancels and not Scenario.of(task).stated_reasons


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.tau.replay", description=__doc__.splitlines()[0])
    parser.add_argument("--domain", choices=data.DOMAINS, required=True)
    parser.add_argument("--task", action="append", default=[], help="only this task; can be given several times")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    options = parser.parse_args(argv)
    if absent := data.missing():
        print(absent, file=sys.stderr)
        return 4
    found = report(options.domain, only=options.task)
    print(canonical(found) if options.json else _table(found))
    return 0 if set(found["failed"]) <= set(found["exceptions"]) else 1


def _table(found: Mapping[str, Any]) -> str:
    rows = [f"{name:22} {value}" for name, value in found.items() if name not in ("failed", "exceptions")]
    for task, problems in found["failed"].items():
        rows.append(f"  task {task}: {found['exceptions'].get(task, 'NOT LISTED')}")
        rows += [f"    {problem}" for problem in problems]
    return "\n".join(rows)


if __name__ == "__main__":
    raise SystemExit(main())
