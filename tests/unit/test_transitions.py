"""The table of legal state transitions, as the domain states it. The database's copy is compared in tests/integration."""

from orchestrator.domain.tickets import TRANSITIONS, State


def test_every_state_says_where_it_may_go() -> None:
    assert set(TRANSITIONS) == set(State)


def test_no_state_goes_to_itself() -> None:
    assert all(state not in targets for state, targets in TRANSITIONS.items())


def test_every_state_but_active_can_come_back_to_active() -> None:
    assert all(State.ACTIVE in targets for state, targets in TRANSITIONS.items() if state is not State.ACTIVE)


def test_only_a_resolved_ticket_is_closed() -> None:
    assert {state for state, targets in TRANSITIONS.items() if State.CLOSED in targets} == {State.RESOLVED}


def test_the_table_reads_as_the_desk_knows_it() -> None:
    table = {state.value: " ".join(sorted(targets)) for state, targets in TRANSITIONS.items()}
    assert table == {
        "active": "escalated pending resolved",
        "pending": "active escalated resolved",
        "escalated": "active pending resolved",
        "resolved": "active closed",
        "closed": "active",
    }
