"""What a world file may hold, how times move, and what a token opens."""

from datetime import timedelta

import pytest

from orchestrator.sandbox import tokens, world


def test_a_record_that_says_little_gets_the_usual_values_and_keeps_what_we_do_not_know():
    users = world.records({"users": [{"id": "u1", "email": "a@b.example", "shoe_size": 41}]})["users"]
    assert users["u1"]["status"] == "active" and users["u1"]["password_reset_sent_at"] is None and users["u1"]["shoe_size"] == 41


def test_null_counts_as_missing_where_a_record_must_have_a_value():
    users = world.records({"users": [{"id": "u1", "status": None, "site": None, "shoe_size": None}]})["users"]
    assert (users["u1"]["status"], users["u1"]["site"], users["u1"]["shoe_size"]) == ("active", None, None)


def test_missing_and_empty_lists_are_fine():
    assert world.records({"orders": None, "alerts": []})["orders"] == {}


def test_all_problems_of_a_world_are_listed_at_once():
    wrong = {"users": [{"id": "u"}, {"id": "u"}, 3], "services": [{"title": "nameless"}], "orders": {"id": "o"}}
    with pytest.raises(world.BadWorld) as caught:
        world.records(wrong)
    said = str(caught.value)
    for problem in ("4 problem(s)", "users has id 'u' twice", "users[3]", "services[1] needs a name", "orders must be a list"):
        assert problem in said


def test_every_mail_address_on_record_is_known():
    found = world.records(
        {
            "users": [{"id": "u", "email": "A@b.example", "manager_email": "m@b.example"}],
            "orders": [{"id": "o", "customer_email": "c@d.example"}],
        }
    )
    assert world.addresses(found) == {"a@b.example", "m@b.example", "c@d.example"}


def test_a_day_moves_to_another_now_with_all_its_times_and_dates():
    day = {"now": "2026-11-18T17:00:00Z", "orders": [{"expected_on": "2026-11-20", "id": "2026", "total": 5, "period": "2026-10"}]}
    moved = world.shifted(day, timedelta(days=10, hours=2))
    assert moved["now"] == "2026-11-28T19:00:00.000Z"
    assert moved["orders"] == [{"expected_on": "2026-11-30", "id": "2026", "total": 5, "period": "2026-10"}]


def test_a_file_that_is_no_world_is_named(tmp_path):
    path = tmp_path / "world.json"
    path.write_text("[]")
    with pytest.raises(world.BadWorld, match="must hold one JSON object"):
        world.read_world(path)
    with pytest.raises(world.BadWorld, match="cannot be read"):
        world.read_world(tmp_path / "gone.json")


def test_every_system_and_direction_has_a_token_of_its_own():
    derived = tokens.tokens("s3cret")
    assert len(set(derived.values())) == len(derived) == 2 * len(tokens.SYSTEMS)
    assert tokens.token("s3cret", "vpn", "read") == derived["vpn", "read"] != tokens.token("other", "vpn", "read")
    for system, direction in (("nowhere", "read"), ("vpn", "admin")):
        with pytest.raises(ValueError, match=system if direction == "read" else direction):
            tokens.token("s3cret", system, direction)


@pytest.mark.parametrize(
    ("token_of", "method", "verdict"),
    [
        (("vpn", "read"), "GET", 200),
        (("vpn", "write"), "GET", 200),
        (("vpn", "write"), "POST", 200),
        (("vpn", "read"), "POST", 403),
        (("vpn", "read"), "DELETE", 403),
        (("billing", "write"), "GET", 403),
        (None, "GET", 401),
    ],
)
def test_a_token_opens_its_own_system_in_its_own_direction(token_of, method, verdict):
    header = f"Bearer {tokens.token('s', *token_of)}" if token_of else "Bearer nonsense"
    assert tokens.Doorkeeper("s").judge("vpn", method, header) == verdict


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic abc", "bearer é"])
def test_a_header_without_a_known_token_is_nobody(header):
    assert tokens.Doorkeeper("s").judge("vpn", "GET", header) == 401
