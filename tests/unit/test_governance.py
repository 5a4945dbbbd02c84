"""Governance: default is refusal, forbid wins, and no argument without a trusted source gets through."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.domain.resolution import Decision, Proposal, Provenance, Rung
from orchestrator.domain.schemas import Schema
from orchestrator.resolution.arguments import Found
from orchestrator.resolution.facts import Facts
from orchestrator.resolution.governance import RUNGS, authorize, judge_ticket, lower_rung
from orchestrator.resolution.playbook import load_playbook
from orchestrator.resolution.policies import load_policies

PLAYBOOK = load_playbook()
USER = {"id": "usr-001", "email": "ada@elm.example", "account": "acc-elm", "status": "active", "vip": False, "name": "Ada"}
ACCOUNT = {"id": "acc-elm", "name": "Elm", "tier": "standard", "vip": False, "annual_value": 1000, "region": "Europe"}
PAYMENT = {
    "id": "PAY-1",
    "account": "acc-elm",
    "amount": 40.0,
    "status": "captured",
    "evidence": "Duplicate of PAY-0",
    "refunded_amount": 0,
}
MONEY = {"with_this": 40.0, "account_with_this": 40.0, "desk_with_this": 40.0, "ticket_with_this": 40.0}


def facts(**more: Any) -> Facts:
    """A calm ticket of Ada's about her own payment, then what the test changes."""
    about: dict[str, Any] = {
        "now": "2026-11-20T12:00:00+00:00",
        "user": USER,
        "account": ACCOUNT,
        "signals": {"distress": False, "legal_threat": False},
        "contact": {"furious_again": False, "worse_again": False, "exchanges": 0},
        "desk": {
            "stopped": False,
            "stopped_because": "",
            "stopped_for": "the whole desk",
            **PLAYBOOK.policies.settings.model_dump(),
        },
        "payment": PAYMENT,
        "left": 40.0,
        "arguments": {"payment_id": "PAY-1", "amount": 40.0, "reason": "Duplicate of PAY-0"},
        "runbook": {"name": "refund", "rung": "full", "identity": "proven"},
        "owner": "acc-elm",
        "own": True,
        "assurance": "proven",
        "rung": "full",
        "money": MONEY,
        "anomaly": {"acts_last_hour": 1, "spike_ratio": 1.0, "attempts": 1, "region_differs": False},
        "conflict": {"found": False, "what": ""},
        "context": {"region": None},
        "confidence": 0.95,
        "action": {"name": "billing.refund", "blast_radius": "one_account"},
        **more,
    }
    found = Facts()
    for name, value in about.items():
        found = found.with_fact(name, value, source="record", detail="test")
    return found


def proposal(**more: Any) -> Proposal:
    arguments = {"payment_id": "PAY-1", "amount": 40.0, "reason": "Duplicate of PAY-0"}
    made = Proposal(
        ticket_id="T-1",
        runbook=PLAYBOOK.runbooks["refund"].ref,
        step="refunded",
        action="billing.refund",
        arguments=arguments,
        provenance={name: Provenance(source="record", detail="billing.list_payments") for name in arguments},
        owner="acc-elm",
        idempotency_key="k",
    )
    return replace(made, **more)


def judge(asked: Proposal, known: Facts, *, category: str = "refund", words: str = "", observed: Any = (PAYMENT,)) -> Any:
    return authorize(
        asked,
        known,
        policies=PLAYBOOK.policies,
        actions=PLAYBOOK.actions,
        runbook=PLAYBOOK.runbooks["refund"],
        category=category,
        words=words,
        observed=observed,
    )


def test_a_small_refund_of_the_requesters_own_duplicate_is_allowed_with_the_rule_that_says_so() -> None:
    verdict = judge(proposal(), facts())
    assert (verdict.decision, verdict.rule) == (Decision.ALLOW, "small-refund")
    assert "Duplicate of PAY-0" in verdict.reason


@pytest.mark.parametrize(
    ("changed", "decision", "rule"),
    [
        (
            {"desk": {"stopped": True, "stopped_because": "drill", "stopped_for": "the whole desk"}},
            Decision.HAND_OVER,
            "kill-switch",
        ),
        ({"own": False, "owner": "acc-oak"}, Decision.DENY, "own-records-only"),
        ({"owner": None, "own": False}, Decision.DENY, "own-records-only"),
        ({"assurance": "claimed"}, Decision.NEEDS_IDENTITY, "proof-where-the-runbook-wants-it"),
        ({"rung": "shadow"}, Decision.DENY, "rung-shadow"),
        ({"rung": "approve"}, Decision.NEEDS_APPROVAL, "rung-approve"),
        ({"account": {**ACCOUNT, "tier": "enterprise"}}, Decision.HAND_OVER, "enterprise-terms"),
        ({"account": {**ACCOUNT, "vip": True}}, Decision.HAND_OVER, "vip-requester"),
        ({"user": {**USER, "status": "disabled"}}, Decision.HAND_OVER, "disabled-user"),
        ({"signals": {"legal_threat": True}}, Decision.HAND_OVER, "legal-threat"),
        ({"payment": {**PAYMENT, "status": "failed"}}, Decision.DENY, "refund-captured-payments-only"),
        ({"left": 39.99}, Decision.DENY, "refund-over-what-is-left"),
        ({"arguments": {"amount": 100.01}, "left": 500.0}, Decision.NEEDS_APPROVAL, "refund-over-limit"),
        ({"money": MONEY | {"with_this": 200.01}}, Decision.NEEDS_APPROVAL, "refund-daily-cap"),
        ({"money": {}}, Decision.HAND_OVER, "refund-ticket-maximum"),  # not counted: what cannot be judged counts against the act
        ({"payment": {**PAYMENT, "evidence": None}}, Decision.HAND_OVER, "refund-needs-evidence"),
    ],
)
def test_what_changes_the_verdict_on_a_refund(changed: dict[str, Any], decision: Decision, rule: str) -> None:
    verdict = judge(proposal(), facts(**changed))
    assert (verdict.decision, verdict.rule) == (decision, rule), verdict


def test_the_strongest_rule_wins_wherever_it_stands() -> None:
    verdict = judge(proposal(), facts(own=False, rung="approve", assurance="claimed", account={**ACCOUNT, "tier": "enterprise"}))
    assert verdict.decision is Decision.DENY


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"action": "billing.refund_all"}, "catalogue"),
        ({"action": "identity.reset_password"}, "runbook-of-type"),
        ({"runbook": "refund@99"}, "runbook-of-type"),
        ({"step": "another"}, "runbook-of-type"),
        ({"arguments": {"payment_id": "PAY-1", "amount": 40.0}}, "arguments"),
        ({"arguments": {"payment_id": "PAY-1", "amount": -1, "reason": "x"}}, "arguments"),
        ({"arguments": {"payment_id": "PAY-1", "amount": 40.0, "reason": "Duplicate of PAY-0", "to": "me"}}, "arguments"),
        ({"provenance": {}}, "provenance"),
        ({"arguments": {"payment_id": "PAY-9", "amount": 40.0, "reason": "Duplicate of PAY-0"}}, "provenance"),
    ],
)
def test_what_no_policy_file_could_loosen(changed: dict[str, Any], rule: str) -> None:
    verdict = judge(proposal(**changed), facts())
    assert (verdict.decision, verdict.rule) == (Decision.DENY, rule), verdict


def test_a_runbook_serves_its_own_ticket_types_only() -> None:
    assert judge(proposal(), facts(), category="password_reset").rule == "runbook-of-type"


@pytest.mark.parametrize(
    ("source", "detail", "words", "allowed"),
    [
        ("ticket", "40.00 EUR", "I was charged 40.00 EUR twice", True),
        ("ticket", "40.00 EUR", "I was charged twice", False),  # not in the words
        ("ticket", "charged", "I was charged 40.00 EUR", False),  # in the words, but nothing recognizes it as that value
        ("knowledge", "article", "40.00 EUR", False),
        ("model", "it said so", "40.00 EUR", False),
        ("runbook", "refund@1", "", False),  # it is no literal there
    ],
)
def test_every_argument_needs_a_source_that_can_be_checked(source: str, detail: str, words: str, allowed: bool) -> None:
    provenance = {**proposal().provenance, "amount": Provenance(source=source, detail=detail)}
    verdict = judge(proposal(provenance=provenance), facts(), words=words)
    assert (verdict.decision is Decision.ALLOW) is allowed, verdict


def test_a_calm_ticket_needs_no_person() -> None:
    assert judge_ticket(facts(), PLAYBOOK.policies).decision is Decision.ALLOW


def test_an_override_lowers_the_rung_and_never_raises_it() -> None:
    assert lower_rung(Rung.FULL, "approve") is Rung.APPROVE
    assert lower_rung(Rung.APPROVE, "full") is Rung.APPROVE
    assert all(lower_rung(rung, None) is rung for rung in RUNGS)


def test_a_wrong_policy_file_lists_every_mistake_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(
        "rules:\n"
        "  - {id: one, effect: permit, applies_to: acts, reason: x}\n"
        "  - {id: one, effect: require_approval, applies_to: [billing.refund], reason: x}\n"
        "  - {id: two, effect: allow, applies_to: tickets, reason: x}\n"
        "  - {id: three, effect: forbid, applies_to: [billing.get_payment, no.such], reason: '{{ nobody }}',\n"
        "     when: [{value: $nobody, is: 1}]}\n",
        encoding="utf-8",
    )
    _, problems = load_policies(tmp_path, actions=PLAYBOOK.actions, bound_names=())
    told = "\n".join(problems)
    for complaint in (
        "bad.yaml:2: rules.0.applies_to: a permit names its actions one by one",
        "bad.yaml:3: rules.1.approvers: goes with require_approval",
        "bad.yaml:4: rules.2.effect",
        "changes nothing",
        "no action 'no.such'",
        "template uses nobody",
        "nothing provides $nobody",
        "'one' is used twice",
    ):
        assert complaint in told, told


# --- structured arguments and a company's own recognizers -----------------------------------------------------------------------


def _with_parts(provenance: dict[str, Provenance], *, reason: Any) -> Proposal:
    """A refund whose `reason` is a structure, which only the provenance is asked about here."""
    arguments = {"payment_id": "PAY-1", "amount": 40.0, "reason": reason}
    record = {name: Provenance(source="record", detail="billing.list_payments") for name in ("payment_id", "amount")}
    return proposal(arguments=arguments, provenance={**record, **provenance})


def _where_from(asked: Proposal, **more: Any) -> str | None:
    """Why governance refuses the sources of the arguments, on a catalogue whose `reason` may be anything; None where it does not."""
    action = PLAYBOOK.actions["billing.refund"]
    document = {**action.input.document, "properties": {**action.input.document["properties"], "reason": {}}}
    verdict = authorize(
        asked,
        facts(),
        policies=PLAYBOOK.policies,
        actions={**PLAYBOOK.actions, "billing.refund": replace(action, input=Schema(document))},
        runbook=PLAYBOOK.runbooks["refund"],
        category="refund",
        words="Please, invoice 4711, bag 3",
        observed=[PAYMENT],
        **more,
    )
    return verdict.reason if verdict.rule == "provenance" else None


def test_every_value_of_a_structured_argument_needs_a_source_that_holds_it() -> None:
    record = {"reason": Provenance(source="record", detail="billing.list_payments")}
    assert _where_from(_with_parts(record, reason=["acc-elm", "PAY-1"])) is None
    assert "reason.1" in str(_where_from(_with_parts(record, reason=["acc-elm", "PAY-2"])))
    assert "reason.0.id" in str(_where_from(_with_parts(record, reason=[{"id": "PAY-2"}])))
    assert "Nothing says where reason.0 comes from" in str(_where_from(_with_parts({}, reason=["acc-elm"])))


def test_the_values_of_one_structure_may_come_from_records_and_from_words() -> None:
    mixed = {
        "reason.0": Provenance(source="record", detail="billing.list_payments"),
        "reason.1": Provenance(source="ticket", detail="invoice 4711"),
    }
    assert _where_from(_with_parts(mixed, reason=["acc-elm", "4711"])) is None
    assert "reason.1" in str(_where_from(_with_parts(mixed, reason=["acc-elm", "4712"])))


def test_an_empty_structure_counts_as_a_value_that_no_record_holds() -> None:
    record = {"reason": Provenance(source="record", detail="billing.list_payments")}
    assert "reason" in str(_where_from(_with_parts(record, reason=[])))


def test_a_companys_own_recognizers_say_what_counts_as_said() -> None:
    said = {"reason": Provenance(source="ticket", detail="bag 3")}
    bags = {"bags": lambda words: (Found(kind="bags", value=3, words="bag 3"),) if "bag 3" in words else ()}
    assert "was not recognized" in str(_where_from(_with_parts(said, reason=3)))
    assert _where_from(_with_parts(said, reason=3), recognizers=bags) is None
    assert "was not recognized" in str(_where_from(_with_parts(said, reason=4), recognizers=bags))
