"""The circuit breaker's arithmetic: repeats on an unchanged target, and acts that undo each other."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.domain.resolution import Touch
from orchestrator.resolution.breaker import OSCILLATION, REPEATS, Limit, alternations, states, trips

START = datetime(2026, 1, 1, tzinfo=UTC)
LIMIT = Limit()


def touch(action: str, before: str | None, after: str | None, number: int, *, refused: bool = False) -> Touch:
    at, key = START + timedelta(minutes=number), f"key-{number}"
    return Touch(
        ticket_id=f"T-{number}",
        action=action,
        target="user 1",
        idempotency_key=key,
        at=at,
        before=before,
        after=after,
        refused=refused,
    )


def test_the_third_reset_of_an_account_that_stays_as_it_was_is_refused() -> None:
    once = [touch("reset", "locked", "locked", 1)]
    twice = [*once, touch("reset", "locked", "locked", 2)]
    assert trips("reset", "new", "locked", once, LIMIT) is None
    tripped = trips("reset", "new", "locked", twice, LIMIT)
    assert tripped is not None and tripped.kind == REPEATS and tripped.actions == ("reset",)
    assert "T-1, T-2" in tripped.reason


def test_a_changed_state_or_another_action_or_the_same_key_is_no_repeat() -> None:
    twice = [touch("reset", "locked", "locked", 1), touch("reset", "locked", "locked", 2)]
    assert trips("reset", "new", "active", twice, LIMIT) is None
    assert trips("mail", "new", "locked", twice, LIMIT) is None
    assert trips("reset", "key-2", "locked", twice, LIMIT) is None


def test_two_agents_that_undo_each_other_are_stopped_and_both_actions_are_named() -> None:
    seen = [touch("add", "out", "in", 1), touch("remove", "in", "out", 2)]
    assert trips("add", "new", "out", seen, LIMIT) is None  # one return may be a correction
    tripped = trips("remove", "new", "in", [*seen, touch("add", "out", "in", 3)], LIMIT)
    assert tripped is not None and tripped.kind == OSCILLATION and tripped.actions == ("add", "remove")


def test_somebody_outside_who_undoes_what_we_do_shows_in_our_next_look() -> None:
    seen = [touch("add", "out", "in", 1), touch("add", "out", "in", 2)]
    assert states(seen, "out") == ["out", "in", "out", "in", "out"]
    tripped = trips("add", "new", "out", seen, Limit(repeats=9))
    assert tripped is not None and tripped.kind == OSCILLATION


def test_two_acts_of_one_moment_that_share_their_look_before_undo_nothing() -> None:
    def at(minutes: int) -> datetime:
        return START + timedelta(minutes=minutes)

    both = [
        replace(touch("reset_mfa", "X", "Y", 1), before_at=at(1), after_at=at(3)),
        replace(touch("add", "X", "Y", 2), before_at=at(1), after_at=at(3)),
        replace(touch("mail", "X", "Y", 2), before_at=at(1), after_at=at(3)),
    ]
    assert states(both, "Y") == ["X", "Y"]
    assert trips("other", "new", "Y", both, LIMIT) is None


def test_what_the_system_refused_changed_nothing() -> None:
    assert states([touch("add", "out", "in", 1, refused=True)], "out") == ["out"]


@pytest.mark.parametrize(("seen", "returns"), [("", 0), ("X", 0), ("XY", 0), ("XYX", 1), ("XYXY", 2), ("XYZXYZ", 0)])
def test_alternations_count_returns_to_the_state_before_the_last(seen: str, returns: int) -> None:
    assert alternations(list(seen)) == returns
