"""The bundled day: whole, about records that exist, and made of texts that nothing was trained on. Starts no process."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.knowledge.documents import read_documents
from orchestrator.sandbox.world import read_world, records
from orchestrator.triage.signals import detect_language

ROOT = Path(__file__).parents[2]
DAY = ROOT / "serving" / "demo" / "day"
COMPANY = ROOT / "orchestrator" / "company"
TRAINING = ROOT / "training" / "texts"
OUTCOMES = {"resolved", "linked", "awaiting_approval", "awaiting_requester", "handed_over"}
TRUTH_FIELDS = {"id", "category", "outcome", "incident", "eligible", "effects", "note"} | {
    "group", "priority_at_most", "reply_contains", "reply_omits", "mail_to",
}  # fmt: skip
TICKET_FIELDS = {"id", "subject", "description", "requester", "created_at", "channel", "context", "answers"}
PATHS = {  # what an effect may call, and the list of the world in which its record stands
    r"/identity/users/([^/]+)/(?:password-reset|mfa-reset|activation|groups)": "users",
    r"/vpn/sessions/([^/]+)/reset": "vpn_sessions",
    r"/billing/invoices/([^/]+)/send": "invoices",
    r"/billing/subscriptions/([^/]+)/cancel": "subscriptions",
    r"/billing/licenses/([^/]+)/renew": "licenses",
    r"/monitoring/services/([^/]+)/restart": "services",
    r"/monitoring/certificates/([^/]+)/rotate": "certificates",
    r"/monitoring/deployments/([^/]+)/rollback": "deployments",
}
COURTESY = """
a an and any are as at be been but by can could do for from had has have hello hi i i'm if in is it it's kind me my no
not of on or our please regards so thank thanks that the there they this to us was we when will with would you your aber
als auch auf bei bitte da danke das dem den der die ein eine einen er es freundlichen für grüße grüßen guten hallo hat
habe haben ich im in ist kann keine können mein meine mich mir mit morgen nach nicht noch seit sich sie sind und uns
vielen von war wenn wie wir zu zum au avec avance bonjour ce cordialement dans de depuis des du elle en est et il j'ai
je la le les ma mais me merci mes mon ne nous par pas plus pour pouvez pouvez-vous que qui s'il se si sur un une vous
votre
"""
FUNCTION_WORDS = frozenset(COURTESY.split())


@cache
def tickets() -> tuple[Mapping[str, Any], ...]:
    return tuple(json.loads(line) for line in (DAY / "tickets.jsonl").read_text(encoding="utf-8").splitlines())


@cache
def truths() -> Mapping[str, Mapping[str, Any]]:
    rows = [json.loads(line) for line in (DAY / "truth.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == len({row["id"] for row in rows}), "a truth stands twice"
    return {row["id"]: row for row in rows}


@cache
def world() -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    return records(read_world(DAY / "world.json"))


@cache
def categories() -> frozenset[str]:
    taxonomy = yaml.safe_load((COMPANY / "taxonomy.yaml").read_text(encoding="utf-8"))
    return frozenset({"Others", *(row["name"] for row in taxonomy["categories"])})


def labels(truth: Mapping[str, Any]) -> list[str]:
    return truth["category"] if isinstance(truth["category"], list) else [truth["category"]]


def users() -> Mapping[str, Mapping[str, Any]]:
    return {user["email"]: user for user in world()["users"].values()}


def text(ticket: Mapping[str, Any]) -> str:
    return f"{ticket['subject']}\n{ticket['description']}"


def test_every_ticket_has_a_truth_and_every_truth_a_ticket() -> None:
    assert [ticket["id"] for ticket in tickets()] == list(truths())
    assert all(set(ticket) <= TICKET_FIELDS for ticket in tickets())
    assert all(set(truth) <= TRUTH_FIELDS for truth in truths().values())


def test_tickets_come_in_order_and_within_the_day() -> None:
    moments = [datetime.fromisoformat(ticket["created_at"]) for ticket in tickets()]
    day = json.loads((DAY / "day.json").read_text(encoding="utf-8"))
    assert moments == sorted(moments)
    assert moments[-1] < datetime.fromisoformat(day["now"]) == datetime.fromisoformat(read_world(DAY / "world.json")["now"])


def test_categories_groups_and_outcomes_are_ones_that_the_desk_knows() -> None:
    groups = {colleague["group"] for colleague in world()["staff"].values()}
    for truth in truths().values():
        assert set(labels(truth)) <= categories(), truth["id"]
        assert truth["outcome"] and set(truth["outcome"]) <= OUTCOMES, truth["id"]
        assert truth.get("group") in {None, *groups}, truth["id"]
        assert truth.get("priority_at_most", 1) in {1, 2, 3, 4}, truth["id"]


def test_every_assignment_group_of_the_taxonomy_has_somebody_who_is_there() -> None:
    taxonomy = yaml.safe_load((COMPANY / "taxonomy.yaml").read_text(encoding="utf-8"))
    there = {colleague["group"] for colleague in world()["staff"].values() if colleague["available"]}
    assert {row["group"] for row in taxonomy["categories"]} <= there


def test_eligible_tickets_end_resolved_and_nowhere_else() -> None:
    eligible = [truth for truth in truths().values() if truth["eligible"]]
    assert len(eligible) >= 70
    assert all(truth["outcome"] == ["resolved"] for truth in eligible)
    assert len({labels(truth)[0] for truth in eligible}) >= 10


def test_effects_name_existing_records_and_the_requesters_own() -> None:
    by_id = {ticket["id"]: ticket for ticket in tickets()}
    for truth in truths().values():
        user = users().get(by_id[truth["id"]]["requester"]["email"])
        for effect in truth["effects"]:
            assert effect["method"] == "POST", truth["id"]
            kind, record = _record(effect)
            assert record is not None, f"{truth['id']}: {effect['path']} names no record of the world"
            if kind not in {"services", "certificates", "deployments"}:
                assert user and _owned(kind, record, user), f"{truth['id']}: {effect['path']} is not the requester's"


def _record(effect: Mapping[str, Any]) -> tuple[str, Mapping[str, Any] | None]:
    if effect["path"] == "/billing/refunds":
        return "payments", world()["payments"].get(effect["body"]["payment_id"])
    for pattern, kind in PATHS.items():
        if match := re.fullmatch(pattern, effect["path"]):
            return kind, world()[kind].get(match[1])
    raise AssertionError(f"the sandbox has no POST {effect['path']}")


def _owned(kind: str, record: Mapping[str, Any], user: Mapping[str, Any]) -> bool:
    owner = {"users": record.get("id"), "vpn_sessions": record.get("user_id"), "licenses": record.get("user_id")}.get(kind)
    return owner == user["id"] if owner else record.get("account") == user["account"]


def test_refunds_that_need_no_person_are_small_and_have_evidence() -> None:
    for truth in truths().values():
        for effect in truth["effects"]:
            if effect["path"] != "/billing/refunds":
                continue
            payment = world()["payments"][effect["body"]["payment_id"]]
            order = world()["orders"].get(payment["order"] or "", {})
            assert effect["body"]["amount"] == payment["amount"], truth["id"]
            assert payment["duplicate_of"] or order.get("status") == "lost", truth["id"]
            assert (payment["amount"] <= 100) == truth["eligible"], truth["id"]


def test_eligible_requesters_are_known_and_never_ones_whom_a_person_answers() -> None:
    for ticket in tickets():
        if truths()[ticket["id"]]["eligible"]:
            user = users()[ticket["requester"]["email"]]
            account = world()["accounts"][user["account"]]
            assert user["status"] != "disabled" and not user["vip"] and not account["vip"], ticket["id"]
            assert account["tier"] != "enterprise", ticket["id"]


def test_mail_goes_to_an_address_on_record() -> None:
    by_id = {ticket["id"]: ticket for ticket in tickets()}
    for truth in truths().values():
        if "mail_to" in truth:
            assert truth["mail_to"] == by_id[truth["id"]]["requester"]["email"], truth["id"]


def test_the_day_holds_its_incidents() -> None:
    sizes = Counter(truth["incident"] for truth in truths().values() if truth["incident"])
    assert sizes["sso-certificate"] == 47
    assert sizes["app-2.1.7"] == 30
    assert sizes["terminals-graz"] >= 4 and sizes["terminals-bristol"] >= 4
    assert sizes["dashboards-504"] >= 3
    assert sum(label.startswith("dup-") for label in sizes) >= 4


def test_one_incident_is_reported_in_three_regions_and_three_languages() -> None:
    reporters = [ticket for ticket in tickets() if truths()[ticket["id"]]["incident"] == "sso-certificate"]
    people = [users()[ticket["requester"]["email"]] for ticket in reporters]
    assert {person["region"] for person in people} == {"Europe", "Americas", "Pacific"}
    assert {detect_language(text(ticket)) for ticket in reporters} == {"en", "de", "fr"}
    assert len({person["email"] for person in people}) == 47
    named = [ticket for ticket in reporters if re.search(r"ERR_|SSO-4031|SEC_ERROR", text(ticket))]
    assert 10 <= len(named) <= 37, "some name the code, some do not"


def test_an_incidents_tickets_agree_about_what_may_be_changed() -> None:
    for label in {truth["incident"] for truth in truths().values()} - {None}:
        effects = {json.dumps(truth["effects"], sort_keys=True) for truth in truths().values() if truth["incident"] == label}
        assert len(effects) == 1, label


def test_three_languages_with_a_majority_of_english() -> None:
    found = Counter(detect_language(text(ticket)) for ticket in tickets())
    assert found["en"] > sum(found.values()) / 2
    assert found["de"] >= 30 and found["fr"] >= 25


def test_every_scenario_that_the_day_must_show_is_there() -> None:
    every = [(ticket, truths()[ticket["id"]]) for ticket in tickets()]

    def count(words: str, category: str | None = None) -> int:
        return sum(bool(re.search(words, text(t), re.I)) and category in {None, *labels(truth)} for t, truth in every)

    refunds = [truth for _, truth in every if "refund" in labels(truth)]
    assert sum(truth["eligible"] for truth in refunds) >= 5
    assert sum(truth["outcome"] == ["awaiting_approval"] for truth in refunds) >= 3
    assert sum(truth["outcome"] == ["handed_over"] for truth in refunds) >= 4
    assert count("losing money every minute") == 1
    assert count("solicitor|rechtsanwalt") >= 2
    assert count("third time", "refund") == 1
    assert sum("vip" in truth.get("note", "").lower() for _, truth in every) >= 3
    assert count("firmware", "network") >= 1
    assert count("deprecat", "how_to") == 1
    assert (
        sum("smuggle" in truth.get("note", "").lower() or "instruction" in truth.get("note", "").lower() for _, truth in every) >= 6
    )
    assert sum("Not covered" in truth.get("note", "") for _, truth in every) >= 2
    assert sum(t.get("answers") == [{"code": "wrong"}] for t, _ in every) == 2
    assert sum({"code": "mailbox"} in t.get("answers", []) and truth["eligible"] for t, truth in every) >= 8
    assert sum("body" in answer for t, truth in every if truth["eligible"] for answer in t.get("answers", [])) >= 5
    vague = [t for t, truth in every if truth["outcome"] == ["awaiting_requester", "handed_over"]]
    assert {detect_language(text(t)) for t in vague} >= {"en", "de", "fr"}


def test_what_is_answered_from_knowledge_stands_in_it() -> None:
    passages = [
        (document.audience, passage) for document in read_documents(COMPANY / "knowledge") for _, passage in document.passages
    ]
    assert len(passages) >= 30 and any(audience == "internal" for audience, _ in passages)
    for truth in truths().values():
        if truth["eligible"] and "how_to" in labels(truth):
            assert any(
                audience == "requester" and all(words in passage for words in truth.get("reply_contains", []))
                for audience, passage in passages
            ), truth["id"]


def test_alerts_certificates_and_releases_fit_the_incidents() -> None:
    alerts = list(world()["alerts"].values())
    assert all(alert["service"] in world()["services"] for alert in alerts)
    assert all(alert["site"] in {None, *world()["sites"]} for alert in alerts)
    terminals = {alert["site"]: alert["cleared_by"] for alert in alerts if alert["service"] == "depot-terminals"}
    assert terminals == {"Graz": "restart", "Bristol": None}
    assert world()["certificates"]["cert-sso-2025"]["state"] == "expired"
    assert world()["deployments"]["dep-931"]["version"] == "2.1.7"


def test_records_of_the_world_refer_to_one_another() -> None:
    for kind, field, target in (
        ("users", "account", "accounts"),
        ("vpn_sessions", "user_id", "users"),
        ("licenses", "user_id", "users"),
        ("invoices", "account", "accounts"),
        ("payments", "account", "accounts"),
        ("payments", "invoice", "invoices"),
        ("payments", "order", "orders"),
        ("payments", "duplicate_of", "payments"),
        ("subscriptions", "account", "accounts"),
        ("orders", "account", "accounts"),
        ("deployments", "service", "services"),
        ("certificates", "service", "services"),
    ):
        for row in world()[kind].values():
            assert row[field] is None or row[field] in world()[target], f"{kind} {row}: {field}"
    people = {*users(), *world()["staff"]}
    assert all(row["manager_email"] in people for row in world()["accounts"].values())
    assert all(row["owner_email"] in people for row in world()["subscriptions"].values())
    assert all(row["customer_email"] in people for row in world()["orders"].values())
    assert all(name in world()["services"] for row in world()["services"].values() for name in row["depends_on"])


def test_addresses_are_ones_that_nobody_can_own() -> None:
    everything = "".join((DAY / name).read_text(encoding="utf-8") for name in ("world.json", "tickets.jsonl", "truth.jsonl"))
    addresses = set(re.findall(r"[\w.+-]+@([\w-]+(?:\.[\w-]+)+)", everything))
    assert addresses and all(name.rstrip(".").endswith(".example") for name in addresses)


# --- nothing of the day was trained on ---------------------------------------------------------------------------------


def _words(line: str) -> list[str]:
    return re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", line.lower())


def _grams(words: list[str]) -> Iterator[tuple[str, ...]]:
    """Runs of six words that say something: at least three of them are no function or courtesy words."""
    for start in range(len(words) - 5):
        gram = tuple(words[start : start + 6])
        if sum(word not in FUNCTION_WORDS for word in gram) >= 3:
            yield gram


def _training_lines() -> list[list[str]]:
    files = sorted(path for path in TRAINING.rglob("*") if path.is_file()) if TRAINING.exists() else []
    lines = (line for path in files for line in path.read_text(encoding="utf-8").splitlines())
    return [words for line in lines if not line.startswith("#") and (words := _words(line))]


@pytest.mark.skipif(not TRAINING.exists(), reason="no training/texts in this checkout, so there is nothing to compare with")
def test_no_ticket_shares_a_run_of_six_words_with_a_training_text() -> None:
    trained = {gram for words in _training_lines() for gram in _grams(words)}
    leaks = {t["id"]: [" ".join(gram) for gram in _grams(_words(text(t))) if gram in trained] for t in tickets()}
    assert not {name: found for name, found in leaks.items() if found}, "rewrite these tickets of the day, not the training texts"


@pytest.mark.skipif(not TRAINING.exists(), reason="no training/texts in this checkout, so there is nothing to compare with")
def test_no_ticket_is_nearly_a_training_text() -> None:
    trained = [frozenset(words) for words in _training_lines() if len(words) >= 6]
    near = []
    for ticket in tickets():
        for words in (frozenset(_words(text(ticket))), frozenset(_words(ticket["description"]))):
            if len(words) >= 6 and any(len(words & other) > 0.6 * len(words | other) for other in trained):
                near.append(ticket["id"])
    assert not near, "rewrite these tickets of the day, not the training texts"
