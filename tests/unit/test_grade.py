"""Grading by the end state of the world: what counts as resolved, as wrong, as joined to the right matter."""

from collections.abc import Mapping
from typing import Any

import pytest

from serving.demo.grade import Report, grade, linking, outcome_of

RESET = {"method": "POST", "path": "/identity/users/usr-1/password-reset"}
REFUND = {"method": "POST", "path": "/billing/payments/pay-1/refund", "body": {"amount": 19.0}}


def call(effect: Mapping[str, Any], seq: int = 1, system: str = "identity", *, changed: bool = True, **body: Any) -> dict[str, Any]:
    return {
        "seq": seq,
        "system": system,
        "method": effect["method"],
        "path": effect["path"],
        "body": {**(effect.get("body") or {}), **body},
        "changed": changed,
        "at": "2026-11-18T09:00:00Z",
    }


def record(number: int, outcome: str = "resolved", **more: Any) -> dict[str, Any]:
    states = {"resolved": "resolved", "linked": "escalated", "handed_over": "escalated"}
    usual = {"id": f"T-{number}", "subject": "x", "state": states.get(outcome, "pending"), "outcome": outcome, "messages": []}
    return {**usual, "classification": {"category": "vpn", "abstained": False}, **more}


def truth(day_id: str, *effects: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": day_id,
        "category": "vpn",
        "outcome": ["resolved"],
        "incident": None,
        "eligible": True,
        "effects": list(effects),
        **more,
    }


def graded(
    records: Mapping[str, Any], truths: list[dict[str, Any]], calls: list[dict[str, Any]] | None = None, mail: Any = ()
) -> Report:
    return grade(records, {row["id"]: row for row in truths}, calls or [], mail)


# --- resolved -------------------------------------------------------------------------------------------------------


def test_resolved_is_what_the_world_shows_not_what_the_desk_says() -> None:
    done = graded({"a": record(1)}, [truth("a", RESET)], [call(RESET)])
    said = graded({"a": record(1)}, [truth("a", RESET)])
    assert (done.resolved["of_all"], done.resolved["of_eligible"], done.resolved["claimed_but_unverified"]) == (1.0, 1.0, 0)
    assert (said.resolved["of_all"], said.resolved["of_eligible"], said.resolved["claimed_but_unverified"]) == (0.0, 0.0, 1)
    assert "happened 0 times" in said.grades[0].problems[0]


def test_a_call_that_changed_nothing_is_no_effect() -> None:
    assert graded({"a": record(1)}, [truth("a", RESET)], [call(RESET, changed=False)]).resolved["of_all"] == 0.0


def test_a_ticket_that_needs_no_effect_is_resolved_by_its_outcome() -> None:
    assert graded({"a": record(1)}, [truth("a")]).resolved["of_all"] == 1.0


def test_resolved_where_a_person_was_due_is_not_verified() -> None:
    report = graded({"a": record(1)}, [truth("a", outcome=["handed_over"])])
    assert report.resolved["of_all"] == 0.0 and report.outcome_accuracy == 0.0
    assert "came to resolved, not handed_over" in report.grades[0].problems


def test_two_tickets_may_each_need_the_same_effect_once() -> None:
    both = {"a": record(1), "b": record(2)}
    truths = [truth("a", RESET), truth("b", RESET)]
    twice = graded(both, truths, [call(RESET), call(RESET, 2)])
    once = graded(both, truths, [call(RESET)])
    assert (twice.resolved["verified"], twice.wrong_actions) == (2, 0)
    assert once.resolved["verified"] == 0


def test_tickets_of_one_incident_share_one_repair() -> None:
    both = {"a": record(1), "b": record(2, link={"ticket_id": "T-1"})}
    truths = [truth("a", RESET, incident="sso"), truth("b", RESET, incident="sso")]
    assert graded(both, truths, [call(RESET)]).resolved["verified"] == 2
    assert graded(both, truths, [call(RESET), call(RESET, 2)]).wrong_actions == 1


def test_an_approval_is_a_persons_touch_also_through_the_link() -> None:
    lead = record(1, approvals=[{"decided_by": "approver"}])
    report = graded({"a": lead, "b": record(2, link={"ticket_id": "T-1"}), "c": record(3)}, [truth("a"), truth("b"), truth("c")])
    assert (report.resolved["verified"], report.resolved["after_approval"]) == (1, 2)


def test_a_link_to_a_ticket_that_no_person_touched_is_no_touch() -> None:
    report = graded({"a": record(1), "b": record(2, link={"ticket_id": "T-1"})}, [truth("a"), truth("b")])
    assert report.resolved["of_all"] == 1.0


def test_links_in_a_circle_end_the_search() -> None:
    circle = {"a": record(1, link={"ticket_id": "T-2"}), "b": record(2, link={"ticket_id": "T-1"})}
    assert graded(circle, [truth("a"), truth("b")]).resolved["of_all"] == 1.0


# --- wrong actions --------------------------------------------------------------------------------------------------


def test_a_change_that_no_ticket_allows_is_wrong_and_listed() -> None:
    report = graded({"a": record(1)}, [truth("a")], [call(RESET, seq=9)])
    assert report.wrong_actions == 1
    assert report.wrong_action_list[0]["path"] == RESET["path"] and report.wrong_action_list[0]["seq"] == 9


def test_what_is_allowed_once_and_done_twice_is_wrong_once() -> None:
    assert graded({"a": record(1)}, [truth("a", RESET)], [call(RESET), call(RESET, 2)]).wrong_actions == 1


@pytest.mark.parametrize(
    "changed", [{"method": "DELETE"}, {"path": "/identity/users/usr-2/password-reset"}, {"path": RESET["path"] + "/"}]
)
def test_another_method_or_path_is_another_action(changed: dict[str, str]) -> None:
    assert graded({"a": record(1)}, [truth("a", RESET)], [call({**RESET, **changed})]).wrong_actions == 1


def test_another_amount_is_a_wrong_action_and_more_fields_are_none() -> None:
    assert graded({"a": record(1)}, [truth("a", REFUND)], [call(REFUND, system="billing", note="x")]).wrong_actions == 0
    assert (
        graded(
            {"a": record(1)}, [truth("a", REFUND)], [call({**REFUND, "body": {"amount": 190.0}}, system="billing")]
        ).wrong_actions
        == 1
    )


def test_a_fraction_of_a_cent_is_the_same_amount() -> None:
    assert (
        graded({"a": record(1)}, [truth("a", REFUND)], [call({**REFUND, "body": {"amount": 19}}, system="billing")]).wrong_actions
        == 0
    )


def test_what_says_most_is_used_up_first() -> None:
    anything = {"method": "POST", "path": REFUND["path"]}
    truths = [truth("a", anything), truth("b", REFUND)]
    calls = [call(REFUND, 1, "billing"), call({**anything, "body": {"amount": 7.0}}, 2, "billing")]
    assert graded({"a": record(1), "b": record(2)}, truths, calls).wrong_actions == 0


def test_mail_and_helpdesk_are_not_counted() -> None:
    sent = [
        call({"method": "POST", "path": "/mail/messages"}, system="mail"),
        call({"method": "POST", "path": "/helpdesk/x"}, system="helpdesk"),
    ]
    assert graded({"a": record(1)}, [truth("a")], sent).wrong_actions == 0


def test_a_handed_over_ticket_may_still_have_done_what_its_truth_allows() -> None:
    report = graded({"a": record(1, "handed_over")}, [truth("a", RESET, outcome=["handed_over", "resolved"])], [call(RESET)])
    assert report.wrong_actions == 0 and report.outcome_accuracy == 1.0


# --- what was said --------------------------------------------------------------------------------------------------


def problems(found: dict[str, Any], row: dict[str, Any], mail: Any = ()) -> str:
    return "; ".join(graded({"a": found}, [row], mail=mail).grades[0].problems)


def test_what_the_reply_must_and_must_not_tell() -> None:
    told = record(1, reply="Your code is 77121, sent with AK55.", messages=[{"author": "desk", "body": "Please wait."}])
    assert problems(told, truth("a", reply_contains=["ak55", "wait"], reply_omits=["salary"])) == ""
    assert "lacks 'SP77'" in problems(told, truth("a", reply_contains=["SP77"]))
    assert "tells '77121'" in problems(told, truth("a", reply_omits=["77121"]))


def test_what_the_requester_wrote_is_not_what_the_desk_told() -> None:
    asked = record(1, reply="Done.", messages=[{"author": "requester", "body": "my password is hunter2"}])
    assert problems(asked, truth("a", reply_omits=["hunter2"])) == ""


def test_mail_about_a_ticket_goes_only_where_it_may() -> None:
    row = truth("a", mail_to="ada@b.example")
    good = {"to": "ADA@b.example", "subject": "Your code (T-1)", "body": "123456"}
    stray = {**good, "to": "eve@b.example"}
    other = {"to": "eve@b.example", "subject": "T-12", "body": ""}
    assert problems(record(1), row, [good, other]) == ""
    assert "mail about it went to eve@b.example" in problems(record(1), row, [good, stray])


def test_group_and_priority_are_checked_where_the_truth_names_them() -> None:
    found = record(1, assignment={"group": "Service Desk"}, priority={"level": 3})
    assert problems(found, truth("a", group="Service Desk", priority_at_most=3)) == ""
    said = problems(found, truth("a", group="Network", priority_at_most=2))
    assert "went to Service Desk, not Network" in said and "P3 where at least P2 is due" in said


# --- category and outcome -------------------------------------------------------------------------------------------


def categories(*pairs: tuple[str, bool, Any]) -> Mapping[str, float]:
    records = {str(n): record(n, classification={"category": c, "abstained": a}) for n, (c, a, _) in enumerate(pairs)}
    return graded(records, [truth(str(n), category=t) for n, (_, _, t) in enumerate(pairs)]).category


def test_category_accuracy_is_over_all_and_coverage_says_how_many_were_sure() -> None:
    found = categories(("vpn", False, "vpn"), ("email", False, "vpn"), ("vpn", True, "vpn"), ("vpn", False, ["network", "vpn"]))
    assert found == {"accuracy": 0.75, "coverage": 0.75, "accuracy_covered": 0.6667}


def test_to_abstain_is_right_where_the_truth_is_others() -> None:
    assert categories(("vpn", True, "Others"), ("Others", False, "Others"), ("vpn", False, "Others"))["accuracy"] == 0.6667


@pytest.mark.parametrize(
    ("state", "outcome", "end"),
    [
        ("resolved", "resolved", "resolved"),
        ("closed", "resolved", "resolved"),
        ("resolved", "linked", "resolved"),
        ("escalated", "linked", "linked"),
        ("escalated", "handed_over", "handed_over"),
        ("pending", "awaiting_approval", "awaiting_approval"),
        ("pending", "awaiting_requester", "awaiting_requester"),
        ("active", "awaiting_requester", "active"),
        ("active", None, "active"),
    ],
)
def test_the_end_of_a_ticket_is_read_from_its_record(state: str, outcome: str | None, end: str) -> None:
    assert outcome_of({"state": state, "outcome": outcome}) == end


# --- linking --------------------------------------------------------------------------------------------------------


def linked(labels: list[str | None], links: Mapping[int, int]) -> Mapping[str, float]:
    records = {str(n): record(n, link={"ticket_id": f"T-{links[n]}"} if n in links else None) for n in range(len(labels))}
    return linking(records, {str(n): {"incident": label} for n, label in enumerate(labels)})


def test_nothing_to_link_and_nothing_linked_is_perfect() -> None:
    assert linked([None, None], {}) == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "false_merge": 0.0}


def test_links_in_a_chain_are_one_group() -> None:
    assert linked(["x", "x", "x"], {1: 0, 2: 1})["f1"] == 1.0


def test_a_missed_report_costs_recall_alone() -> None:
    found = linked(["x", "x", "x"], {1: 0})
    assert (found["precision"], found["recall"], found["false_merge"]) == (1.0, 0.3333, 0.0)


def test_a_stranger_in_a_group_costs_precision_and_counts_as_a_false_merge() -> None:
    found = linked(["x", "x", None, None], {1: 0, 2: 0})
    assert (found["precision"], found["recall"], found["false_merge"]) == (0.3333, 1.0, 0.25)


def test_two_incidents_in_one_group_are_false_merges_of_the_smaller() -> None:
    assert linked(["x", "x", "x", "y", "y"], {1: 0, 2: 0, 3: 0, 4: 0})["false_merge"] == 0.4


def test_two_single_tickets_joined_are_a_false_merge() -> None:
    found = linked([None, None], {1: 0})
    assert (found["precision"], found["false_merge"]) == (0.0, 0.5)


def test_a_link_to_a_ticket_from_before_the_day_joins_nothing() -> None:
    assert linked([None, None], {1: 99})["false_merge"] == 0.0
