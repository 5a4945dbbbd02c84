"""What a look at the target says of an act whose answer is missing, and of when it may be sent again."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.domain.actions import Action, Idempotency
from orchestrator.domain.resolution import Observation, ObservationStatus
from orchestrator.resolution.catalog import load_catalog
from orchestrator.resolution.snapshot import changed, snapshot, state_of, target_of
from orchestrator.resolution.unknown import Happened, did_it_happen, may_send_again, probed, verified

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ACTION: Action = load_catalog()["identity.add_to_group"]
ARGUMENTS = {"user_id": "usr-1", "group": "finance"}


def seen(body: Any, status: ObservationStatus = ObservationStatus.OK, code: int | None = 200) -> Observation:
    return Observation(status=status, http_status=code, body=body, at=NOW)


def user(*groups: str, status: str = "active") -> dict[str, Any]:
    return {"id": "usr-1", "groups": list(groups), "status": status}


def judged(before: Any, now: Observation | None) -> Happened:
    first = None if before is None else snapshot("identity.get_user", {"user_id": "usr-1"}, seen(before))
    return did_it_happen(ACTION, ARGUMENTS, first, now)


def test_it_happened_where_the_probe_holds_now_and_did_not_before() -> None:
    assert judged(user("staff"), seen(user("staff", "finance"))) is Happened.YES


def test_it_did_not_happen_where_the_probe_does_not_hold() -> None:
    assert judged(user("staff"), seen(user("staff"))) is Happened.NO


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (user("finance"), seen(user("finance"))),  # it held before already
        (None, seen(user("finance"))),  # nobody looked before
        (user("staff"), None),
        (user("staff"), seen({}, ObservationStatus.UNAVAILABLE, None)),
    ],
)
def test_nobody_can_tell_without_a_difference_that_was_seen(before: Any, now: Observation | None) -> None:
    assert judged(before, now) is Happened.CANNOT_TELL


def test_only_the_systems_own_contract_lets_an_act_be_sent_again() -> None:
    natural, once = replace(ACTION, idempotency=Idempotency.NATURAL), replace(ACTION, idempotency=Idempotency.NONE)
    assert may_send_again(ACTION, Happened.CANNOT_TELL)
    assert may_send_again(natural, Happened.NO) and not may_send_again(natural, Happened.CANNOT_TELL)
    assert not any(may_send_again(once, happened) for happened in Happened)


def test_a_probed_observation_holds_the_evidence_and_the_exact_call() -> None:
    found = probed(ACTION, None, seen(user("finance")), {"path": "/x"})
    assert found.kind == "probed" and found.status is ObservationStatus.OK and found.request == {"path": "/x"}
    assert found.evidence is not None and found.evidence["read"] == "identity.get_user"


def test_the_probe_denies_an_act_that_was_answered_and_did_nothing() -> None:
    before = snapshot("identity.get_user", {"user_id": "usr-1"}, seen(user("staff")))
    said = verified(ACTION, ARGUMENTS, before, seen(user("staff")))
    assert said is not None and not said.confirmed and "staff" in said.observed
    assert verified(ACTION, ARGUMENTS, before, seen(None, ObservationStatus.UNAVAILABLE, None)) is None


def test_the_state_of_a_target_leaves_out_what_changes_by_itself() -> None:
    assert state_of({**user("a"), "password_reset_sent_at": "x"}) == state_of({**user("a"), "password_reset_sent_at": "y"})
    assert state_of(user("a")) != state_of(user("b"))
    assert changed(user("a"), user("a", status="disabled")) == ["status was active, is disabled"]


def test_acts_on_one_thing_have_one_target_whichever_action_they_are() -> None:
    other = load_catalog()["identity.remove_from_group"]
    assert target_of(ACTION, ARGUMENTS) == target_of(other, ARGUMENTS) == 'identity.get_user {"user_id":"usr-1"}'
