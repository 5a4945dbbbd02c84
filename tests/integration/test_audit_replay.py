"""One ticket's record told from the audit log alone: what was decided, on what, by which rule, what was done and what was seen."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.domain.resolution import Resolved
from orchestrator.storage.store import PostgresStore
from tests.integration.resolution_world import House, open_desk

ADA = "ada.quill@elm.example"
HEX = 64


@pytest.fixture
def house(store: PostgresStore, tmp_path: Path) -> Iterator[House]:
    with open_desk(store, tmp_path) as desk:
        yield desk


def test_the_log_alone_tells_what_was_proposed_judged_called_seen_and_said(house: House) -> None:
    ticket_id, outcome = house.handle("password_reset", "I forgot my password and now I am locked out.", by=ADA, portal=True)
    assert isinstance(outcome, Resolved)
    events = house.store.run(lambda tx: tx.events(ticket_id=ticket_id, limit=500))[0]
    of = {kind: [event["body"] for event in events if event["kind"] == kind] for kind in {event["kind"] for event in events}}
    steps = house.store.run(lambda tx: tx.steps([ticket_id]))[ticket_id]
    intended = {body["proposal"]["idempotency_key"]: body for body in of["intended"]}
    observed = {body["idempotency_key"]: body["observation"] for body in of["observed"]}
    for step in steps:
        proposal, verdict = intended[step.idempotency_key]["proposal"], intended[step.idempotency_key]["verdict"]
        assert proposal["action"] == step.action and proposal["arguments"] == dict(step.arguments)
        assert step.verdict is not None and verdict["rule"] == step.verdict.rule
        assert observed[step.idempotency_key]["status"] == "ok"
    (said,) = of["outcome"]
    assert said["outcome"]["reply"] == outcome.reply and said["kind"] == "resolved"
    assert of["verified"][0]["verification"]["probe"] == "identity.get_user"
    order = [event["kind"] for event in events]
    assert order.index("intended") < order.index("observed") < order.index("verified") <= order.index("outcome")


def test_what_a_model_and_knowledge_were_asked_stands_in_the_log_with_what_they_said(house: House) -> None:
    ticket_id, _ = house.handle("how_to", "How do I connect the new headset to my phone?", by=ADA, portal=True)
    events = house.store.run(lambda tx: tx.events(ticket_id=ticket_id, limit=500))[0]
    asked = [one for event in events if event["kind"] == "outcome" for one in event["body"]["notes"].get("asked", ())]
    assert asked, events
    for one in asked:
        if "options" in one:
            assert one["model"] and len(one["prompt_sha256"]) == HEX and all(value <= 0 for value in one["options"].values())
        else:
            assert len(one["words_sha256"]) == HEX and all(len(found["text_sha256"]) == HEX for found in one["passages"])
