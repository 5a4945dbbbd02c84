"""Two more witnesses for the refusals: what tau2's own assertions say must not be done, and what recorded agents wrongly did.

    python -m tests.tau.asked [--json]

The assertions name the forbidden act in English ("Agent should not cancel reservation PEP4E0"); where an act and its records can be
read off them and the scenario, it is proposed and must be refused. The recorded conversations are judged write by write on the
customer's own words so far; how many of the failed ones' writes governance stops is a figure, not a promise.
"""

import argparse
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.domain.resolution import Decision, Verdict
from tests.tau import data
from tests.tau.replay import Conversation, Desk, opened, reference_actions
from tests.tau.said import OWN_RECOGNIZERS, Scenario
from tests.tau.violations import Airline, Retail, _give_back, _later, _update
from tests.tau.world.airline import AIRPORTS
from tests.tau.world.records import Refused
from tests.tau.world.server import TOOLS

NOT = r"\b(?:not|n't|refuse\w*)\b[^.]*"
FORBIDDEN = {  # what an assertion speaks of, by the act
    "airline.cancel_reservation": re.compile(NOT + r"\bcancel(?:lation)?\b", re.I),
    "airline.send_certificate": re.compile(NOT + r"\b(?:compensation|certificate)\b", re.I),
    "airline.update_reservation_flights": re.compile(NOT + r"\bchange (?:the|\w+) flight", re.I),
}
Wanted = tuple[str, dict[str, Any], dict[str, Any]]
"""Act, arguments, what its look-ups need beside them."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One forbidden thing that a scenario asks for, and what governance says of it."""

    task: str
    action: str
    arguments: Mapping[str, Any]
    verdict: Verdict


def forbidden(desk: Desk) -> list[Asked]:
    """Every forbidden act that can be read off the domain's tasks, judged on the scenario's words."""
    wanted = _airline_wanted if desk.domain == "airline" else _retail_wanted
    found = []
    for task in data.tasks(desk.domain):
        desk.world.reset()
        scenario = Scenario.of(task)
        conversation = Conversation(desk, scenario, ticket_id=f"asked-{task['id']}")
        for action, arguments, about in wanted(task, scenario, conversation.user):
            verdict = conversation.judge(action, arguments, about=about)
            found.append(Asked(task=task["id"], action=action, arguments=arguments, verdict=verdict))
    return found


def _airline_wanted(task: Mapping[str, Any], scenario: Scenario, user: Mapping[str, Any]) -> Iterator[Wanted]:
    house = Airline()
    for assertion in task["evaluation_criteria"].get("nl_assertions") or ():
        for action, pattern in FORBIDDEN.items():
            if not pattern.search(assertion):
                continue
            for key in _meant(assertion, scenario, user, house, whole=action == "airline.send_certificate"):
                yield from _act_on(action, house, house.reservations[key])


def _meant(assertion: str, scenario: Scenario, user: Mapping[str, Any], house: Airline, *, whole: bool) -> list[str]:
    """The customer's reservations that are meant: named in the assertion, else in the scenario, else by both ends of their journey."""
    own = user.get("reservations", [])
    recognize = OWN_RECOGNIZERS["reservation id"]
    for text in (assertion, scenario.words):
        if named := [str(each.value) for each in recognize(text) if each.value in own]:
            return list(dict.fromkeys(named))
    return own if whole else [key for key in own if _speaks_of_journey(scenario.words, house.reservations[key])]


def _speaks_of_journey(words: str, reservation: Mapping[str, Any]) -> bool:
    ends = (reservation["origin"], reservation["destination"])
    return all(code in words or AIRPORTS[code] in words for code in ends)


def _act_on(action: str, house: Airline, reservation: Mapping[str, Any]) -> Iterator[Wanted]:
    key, user = reservation["reservation_id"], reservation["user_id"]
    match action:
        case "airline.cancel_reservation":
            yield action, {"reservation_id": key}, {}
        case "airline.send_certificate":
            for amount in (50, 100):
                yield action, {"user_id": user, "amount": amount * len(reservation["passengers"])}, {"reservation_id": key}
        case "airline.update_reservation_flights":
            card, moved = house.card(user), _later(house, reservation, reservation["cabin"])
            if card and moved:
                yield action, _update(reservation, moved, reservation["cabin"], card), {}


def _retail_wanted(task: Mapping[str, Any], scenario: Scenario, user: Mapping[str, Any]) -> Iterator[Wanted]:
    """Where the reference hands over or does nothing: a return paid back in a way that the order was not paid, to no gift card."""
    shop = Retail()
    acts = [each for each in reference_actions(task) if f"retail.{each['name']}" in _RETAIL_WRITES]
    if acts or not scenario.asks_for("retail.return_delivered_order_items"):
        return
    for key in user.get("orders", []):
        order = shop.orders[key]
        for method, held in shop.methods(order).items():
            if order["status"] == "delivered" and method != shop.payer(order) and held["source"] != "gift_card":
                items = [item["item_id"] for item in order["items"]]
                yield "retail.return_delivered_order_items", _give_back(order, method, items), {}


_RETAIL_WRITES = frozenset(
    f"retail.{name}" for name in TOOLS["retail"] if name.startswith(("cancel_", "modify_", "return_", "exchange_"))
)


# --- recorded agents -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Written:
    """One write of a recorded agent that the world took, and what governance says of it."""

    task: int
    reward: float
    action: str
    verdict: Verdict


def recorded_writes(desk: Desk) -> list[Written]:
    """Every write of the recorded airline conversations, judged where it stood; the world goes on as recorded."""
    found: list[Written] = []
    for row in data.trajectories():
        desk.world.reset()
        calls: dict[str, Any] = {}
        said: list[str] = []
        changed = False
        for message in row["traj"]:
            calls |= {call["id"]: call["function"] for call in message.get("tool_calls") or ()}
            if message["role"] == "user":
                said.append(str(message["content"]))
            if message["role"] != "tool" or f"airline.{message['name']}" not in desk.playbook.actions:
                continue
            action, arguments = f"airline.{message['name']}", json.loads(calls[message["tool_call_id"]]["arguments"])
            writes = desk.playbook.actions[action].writes and not action.endswith("transfer_to_human_agents")
            if not writes or message["content"].startswith("Error"):
                continue
            conversation = Conversation(desk, Scenario("\n".join(said)), ticket_id=f"recorded-{row['task_id']}-{row['trial']}")
            conversation.acted = changed
            verdict = _best(conversation, action, arguments)
            found.append(Written(task=row["task_id"], reward=row["reward"], action=action, verdict=verdict))
            changed = True
            try:
                TOOLS["airline"][message["name"]](desk.world.records, arguments)
            except Refused:
                continue
    return found


def _best(conversation: Conversation, action: str, arguments: Mapping[str, Any]) -> Verdict:
    """The verdict; for a certificate, which names no reservation, the most generous one over the customer's reservations."""
    if action != "airline.send_certificate":
        return conversation.judge(action, arguments)
    keys = conversation.user.get("reservations") or [""]
    verdicts = [conversation.judge(action, arguments, about={"reservation_id": key}) for key in keys]
    return next((each for each in verdicts if each.decision is Decision.ALLOW), verdicts[0])


def summary() -> dict[str, Any]:
    with opened("airline") as desk:
        airline, writes = forbidden(desk), recorded_writes(desk)
    with opened("retail") as desk:
        retail = forbidden(desk)
    found: dict[str, Any] = {}
    for domain, asked in (("airline", airline), ("retail", retail)):
        allowed = [
            f"{each.task}: {each.action} {dict(each.arguments)}" for each in asked if each.verdict.decision is Decision.ALLOW
        ]
        rules = Counter(each.verdict.rule for each in asked)
        found[f"{domain}_asked"] = {
            "tasks": len({each.task for each in asked}), "acts": len(asked), "allowed": allowed, "by_rule": dict(rules),
        }  # fmt: skip
    for reward in (0.0, 1.0):
        rows = [each for each in writes if each.reward == reward]
        stopped = Counter(each.verdict.rule for each in rows if each.verdict.decision is not Decision.ALLOW)
        found[f"recorded_reward_{reward:.0f}"] = {"writes": len(rows), "stopped": sum(stopped.values()), "by_rule": dict(stopped)}
    return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.tau.asked", description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print as JSON")
    options = parser.parse_args(argv)
    found = summary()
    print(json.dumps(found) if options.json else "\n".join(f"{name}: {json.dumps(each, indent=1)}" for name, each in found.items()))
    return 1 if found["airline_asked"]["allowed"] or found["retail_asked"]["allowed"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
