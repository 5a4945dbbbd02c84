"""Every action of the bundled catalogue is what the catalogue says of it; and an action that is not is caught. Runs the real sandbox."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from orchestrator import sandbox as room
from orchestrator.connectors.http import HttpSystemsOfRecord
from orchestrator.domain.actions import Action, Idempotency, Observe, Probe
from orchestrator.domain.schemas import Schema
from orchestrator.resolution.catalog import load_catalog
from orchestrator.resolution.conform import Callers, Case, conform, read_cases
from orchestrator.sandbox.process import SandboxProcess

CATALOG = load_catalog()
FOLDER = Path(room.__file__).parent
CASES, EXTRA = read_cases(FOLDER / "conformance.yaml")
SMALL = json.loads((FOLDER / "small_world.json").read_text(encoding="utf-8"))
WORLD = {**SMALL, **{kind: [*SMALL.get(kind, []), *rows] for kind, rows in EXTRA.items()}}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with SandboxProcess(tmp_path_factory.mktemp("sandbox") / "world.db") as process:
        yield process


def connect(sandbox: SandboxProcess, actions: Mapping[str, Action], tokens: Mapping[tuple[str, str], str]) -> HttpSystemsOfRecord:
    return HttpSystemsOfRecord(actions, base_urls=sandbox.base_urls(), tokens=tokens, clock=lambda: datetime.now(UTC))


def held(sandbox: SandboxProcess, name: str, actions: Mapping[str, Action] = CATALOG, case: Case | None = None) -> list[str]:
    """The problems of one action, in a fresh world."""
    sandbox.seed(WORLD)
    tokens = sandbox.tokens()
    other = {"identity": "mail"}
    with (
        connect(sandbox, actions, tokens) as rightful,
        connect(sandbox, actions, {key: tokens[key[0], "read"] for key in tokens}) as reader,
        connect(sandbox, actions, {key: tokens[other.get(key[0], "identity"), key[1]] for key in tokens}) as stranger,
    ):
        callers = Callers(rightful=rightful, reader=reader, stranger=stranger)
        return conform(actions[name], case or CASES.get(name), actions, callers)


def test_there_is_a_case_for_every_action_and_for_no_other():
    assert set(CASES) == set(CATALOG)


@pytest.mark.parametrize("name", CATALOG)
def test_every_action_is_what_the_catalogue_says(sandbox, name):
    assert held(sandbox, name) == []


@pytest.mark.parametrize("action", [a for a in CATALOG.values() if a.writes], ids=lambda action: action.name)
def test_one_key_changes_the_world_once(sandbox, action):
    held(sandbox, action.name)
    calls = [call for call in sandbox.calls() if call["method"] == action.method and call["idempotency_key"]]
    keys = {call["idempotency_key"] for call in calls if call["status"] in (200, 201)}
    changes = [call["idempotency_key"] for call in calls if call["changed"]]
    assert keys and sorted(changes) == sorted(set(changes))
    assert any(call["replayed"] for call in calls)


def test_money_has_a_limit_and_a_person_who_may_approve_it():
    spending = {name for name, action in CATALOG.items() if action.limits.amount}
    assert spending == {"billing.refund", "procurement.create_request"}
    assert all(CATALOG[name].limits.max_amount and "approver" in CATALOG[name].approvers.roles for name in spending)


def test_a_subscription_that_was_paused_when_it_was_cancelled_comes_back_paused(sandbox):
    assert held(sandbox, "billing.cancel_subscription", case=Case(arguments={"subscription_id": "SUB-3"})) == []
    assert next(row for row in sandbox.state()["subscriptions"] if row["id"] == "SUB-3")["status"] == "paused"


# --- an action that is not what it says ----------------------------------------------------------------------------------


def changed(name: str, **fields: Any) -> dict[str, Action]:
    return {**CATALOG, name: dataclasses.replace(CATALOG[name], **fields)}


def probe(observe: Observe, *expect: Mapping[str, Any]) -> Probe:
    return Probe(observe=observe, expect=expect)


USER = CATALOG["identity.reset_mfa"].observe
SUBSCRIPTION = CATALOG["billing.pause_subscription"].observe


@pytest.mark.parametrize(
    ("name", "fields", "sentence"),
    [
        (
            "identity.reset_mfa",
            {"probe": probe(USER, {"value": "$after.id", "exists": True})},
            "took effect before it was carried out",
        ),
        ("identity.reset_mfa", {"probe": probe(USER, {"value": "$after.mfa_enrolled", "is": "gone"})}, "does not say that it took"),
        ("identity.reset_mfa", {"output": Schema({"type": "array"})}, "it was not carried out"),
        ("identity.reset_mfa", {"preconditions": ({"value": "$before.status", "is": "invited"},)}, "a precondition does not hold"),
        ("identity.get_user", {"output": Schema({"type": "array"})}, "it was not answered"),
        (
            "identity.get_user",
            {"input": Schema({**CATALOG["identity.get_user"].input.document, "additionalProperties": True})},
            "takes more than it describes",
        ),
        (
            "identity.get_user",
            {"input": Schema({**CATALOG["identity.get_user"].input.document, "additionalProperties": True})},
            "an unknown argument left",
        ),
        (
            "identity.get_user",
            {"input": Schema({**CATALOG["identity.get_user"].input.document, "properties": {"user_id": {"type": "string"}}})},
            "'user_id' has no bound",
        ),
        (
            "identity.reset_mfa",
            {"observe": Observe(read="catalog.sites", arguments={})},
            "observe shows the same as before",
        ),
        (
            "billing.pause_subscription",
            {"compensation": "billing.cancel_subscription"},
            "billing.cancel_subscription does not bring back what was observed",
        ),
        (
            "billing.pause_subscription",
            {"compensation": "billing.pause_subscription"},
            "its compensation billing.pause_subscription failed",
        ),
        ("billing.pause_subscription", {"reviewed": False}, "it is a draft"),
    ],
)
def test_an_action_that_is_not_what_it_says_is_caught(sandbox, name, fields, sentence):
    assert any(sentence in problem for problem in held(sandbox, name, changed(name, **fields)))


def test_tokens_that_open_too_much_are_caught(sandbox):
    sandbox.seed(WORLD)
    with connect(sandbox, CATALOG, sandbox.tokens()) as rightful:
        callers = Callers(rightful=rightful, reader=rightful, stranger=rightful)
        found = conform(CATALOG["identity.add_to_group"], CASES["identity.add_to_group"], CATALOG, callers)
    for sentence in ("another system's token was not refused", "a read token was not refused", "a refused call changed the target"):
        assert any(sentence in problem for problem in found), sentence


def test_a_system_that_forgets_keys_is_caught(sandbox):
    """The same call under a new key each time: what a system does that knows no keys."""

    class Forgetful:
        def __init__(self, systems: HttpSystemsOfRecord) -> None:
            self.systems, self.count = systems, 0

        def call(self, action: str, arguments: Mapping[str, Any], *, idempotency_key: str | None = None) -> Any:
            self.count += 1
            return self.systems.call(action, arguments, idempotency_key=idempotency_key and f"{idempotency_key}-{self.count}")

    sandbox.seed(WORLD)
    case = Case(arguments={"payment_id": "PAY-2", "amount": 1, "reason": "part"})
    tokens = sandbox.tokens()
    with (
        connect(sandbox, CATALOG, tokens) as rightful,
        connect(sandbox, CATALOG, {key: tokens[key[0], "read"] for key in tokens}) as reader,
        connect(sandbox, CATALOG, dict.fromkeys(tokens, tokens["mail", "read"])) as stranger,
    ):
        callers = Callers(rightful=Forgetful(rightful), reader=reader, stranger=stranger)
        found = conform(CATALOG["billing.refund"], case, CATALOG, callers)
    assert any("the same key again was not answered the same" in problem for problem in found)
    assert any("the same key again changed the target once more" in problem for problem in found)
    assert CATALOG["billing.refund"].idempotency is Idempotency.KEY
