"""The action catalogue: what the bundled file says, and how a wrong one is refused."""

import pickle
from pathlib import Path

import pytest

from orchestrator.domain.actions import Risk
from orchestrator.domain.errors import BadInput, ConfigurationError
from orchestrator.resolution.catalog import load_catalog
from orchestrator.resolution.catalog_page import page

CATALOG = load_catalog()

ENTRY = """
  desk.look:
    title: Look
    system: desk
    call: GET /things/{thing_id}
    input: {required: [thing_id], properties: {thing_id: {type: string}}}
    output: {type: object}
    writes: false
    risk: read
    blast_radius: one_person
"""


def load(tmp_path: Path, text: str):
    path = tmp_path / "actions.yaml"
    path.write_text(text, encoding="utf-8")
    return load_catalog(path)


def problems_of(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, text)
    return str(caught.value)


def test_the_catalogue_holds_every_action_the_desk_was_promised():
    promised = """
        identity.find_user identity.get_user identity.reset_password identity.reset_mfa identity.resend_activation
        identity.add_to_group identity.remove_from_group vpn.list_sessions vpn.get_session vpn.reset_session billing.get_account
        billing.list_invoices billing.get_invoice billing.send_invoice billing.list_payments billing.get_payment billing.refund
        billing.list_refunds billing.list_subscriptions billing.get_subscription billing.cancel_subscription
        billing.reactivate_subscription billing.list_licenses billing.get_license billing.renew_license orders.list orders.get
        monitoring.get_service monitoring.list_alerts monitoring.list_deployments monitoring.list_certificates
        monitoring.restart_service monitoring.rotate_certificate monitoring.roll_back_deployment catalog.services catalog.sites
        catalog.staff catalog.freeze_windows mail.send helpdesk.reply helpdesk.note helpdesk.status
    """
    assert set(promised.split()) <= set(CATALOG)


def test_an_action_is_found_by_its_exact_name_only():
    assert CATALOG.action("billing.refund").name == "billing.refund"
    for near in ("billing.refun", "billing.refund_all", "billing", "BILLING.REFUND", "billing.*", " billing.refund", ""):
        with pytest.raises(BadInput, match="no action"):
            CATALOG.action(near)
        assert near not in CATALOG


@pytest.mark.parametrize("action", CATALOG.values(), ids=lambda action: action.name)
def test_every_action_is_whole(action):
    assert action.writes == (action.risk is not Risk.READ) == (action.method != "GET")
    assert action.path.startswith(f"/{action.system}")
    assert action.input.document["additionalProperties"] is False
    assert action.reversible == (action.compensation is not None)
    assert action.input_problems({"surely_unknown": 1})
    assert pickle.loads(pickle.dumps(action)) == action


def test_what_compensates_an_action_is_compensated_by_it():
    for action in CATALOG.values():
        if action.compensation and (back := CATALOG.action(action.compensation).compensation):
            assert back == action.name


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("identity.get_user", {}, "arguments lacks 'user_id'"),
        ("identity.get_user", {"user_id": 7}, "user_id must be string, not 7"),
        ("identity.get_user", {"user_id": ""}, "user_id breaks minLength 1"),
        ("identity.get_user", {"user_id": "u", "force": True}, "unknown 'force'; known: user_id"),
        ("billing.refund", {"payment_id": "P", "amount": -5, "reason": "x"}, "amount breaks exclusiveMinimum 0: -5"),
        ("billing.refund", {"payment_id": "P", "amount": True, "reason": "x"}, "amount must be number"),
        ("billing.list_payments", {}, "needs at least one of account, order, invoice"),
        ("monitoring.list_alerts", {"state": "all"}, "state must be one of firing, cleared, not 'all'"),
        ("mail.send", {"to": "a@b\nBcc: c@d", "subject": "s", "body": "b"}, "to must match"),
        ("mail.send", {"to": "a@b.example", "subject": "s\nBcc: c@d", "body": "b"}, "subject must match"),
        ("mail.send", {"to": "a@b.example", "subject": "s", "body": " "}, "body must match"),
        ("mail.send", {"to": "a@b.example", "subject": "s", "body": "b\x00"}, "body must match"),
        ("mail.send", {"to": "a@b.example\n", "subject": "s", "body": "b"}, "to must match"),
        ("mail.send", {"to": "a@b.example", "subject": "s\n", "body": "b"}, "subject must match"),
        ("orders.get", {"order_id": "ORD-1\n"}, "order_id must match"),
    ],
)
def test_wrong_arguments_are_named_in_a_sentence(name, arguments, sentence):
    assert any(sentence in problem for problem in CATALOG.action(name).input_problems(arguments))


def test_an_answer_that_lacks_a_field_is_named_with_its_place():
    problems = CATALOG.action("orders.list").output_problems([{"id": "ORD-1"}])
    assert len(problems) == 1 and problems[0].startswith("answer: [0] lacks 'account', 'customer_email'")


def test_a_right_file_is_loaded(tmp_path):
    catalog = load(tmp_path, "actions:" + ENTRY)
    assert list(catalog) == ["desk.look"] and catalog.systems == {"desk"}
    assert catalog.action("desk.look").input_problems({"thing_id": "a"}) == []


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("desk.look:", "look:", "a name is 'system.verb_object'"),
        ("desk.look:", "other.look:", "does not begin with its system"),
        ("call: GET /things/{thing_id}", "call: FETCH /things", "call must be 'METHOD /path'"),
        ("call: GET /things/{thing_id}", "call: GET /things", "takes 'thing_id', which goes nowhere"),
        ("call: GET /things/{thing_id}", "call: GET /things/{thing_id}/{other}", "uses 'other', which the input does not describe"),
        ("call: GET /things/{thing_id}", "call: GET /things/{thing_id}/{}", "has a brace that is no placeholder"),
        ("call: GET", "query: {thing: thing_id}\n    call: GET", "goes to more than one place"),
        ("required: [thing_id], ", "", "stands in the path, so it must be required"),
        ("required: [thing_id]", "required: [thing_id, more]", "requires what it does not describe: more"),
        ("input: {required", "input: {additionalProperties: true, required", "additionalProperties is false"),
        ("{type: string}", "{type: text}", "input is no JSON Schema"),
        ("writes: false", "writes: true", "writes is true, but the method is GET"),
        ("risk: read", "risk: low", "writes is false, but the risk is low"),
        ("risk: read", "risk: tiny", "desk.look: risk"),
        ("blast_radius: one_person", "blast_radius: small", "desk.look: blast_radius"),
        ("writes: false", "writes: 'no'", "desk.look: writes"),
        ("title: Look", "titel: Look", "desk.look: titel"),
        ("title: Look", "title: Look\n    reversible: true", "reversible and compensation go together"),
        ("title: Look", "title: Look\n    reversible: true\n    compensation: desk.gone", "'desk.gone' is not in the catalogue"),
        ("title: Look", "title: Look\n    timeout_s: 0", "desk.look: timeout_s"),
    ],
)
def test_a_wrong_entry_is_named_with_what_is_wrong(tmp_path, old, new, sentence):
    assert old in ENTRY
    assert sentence in problems_of(tmp_path, "actions:" + ENTRY.replace(old, new))


def test_all_problems_are_listed_at_once(tmp_path):
    text = "actions:" + ENTRY.replace("risk: read", "risk: low") + ENTRY.replace("desk.look", "desk.see").replace("GET", "FETCH")
    said = problems_of(tmp_path, text)
    assert "2 problem(s)" in said and "desk.look" in said and "desk.see" in said


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "no mapping 'actions'"),
        ("actions: []", "no mapping 'actions'"),
        ("actions: {", "cannot be read"),
        ("actions:" + ENTRY + ENTRY, "'desk.look' is there twice"),
        ("extra: 1\nactions:" + ENTRY, "unknown top-level key(s): extra"),
    ],
)
def test_a_file_that_is_no_catalogue_is_refused(tmp_path, text, sentence):
    assert sentence in problems_of(tmp_path, text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"nowhere\.yaml"):
        load_catalog(tmp_path / "nowhere.yaml")


WRITE = (
    ENTRY
    + """
  desk.mend:
    title: Mend
    system: desk
    call: POST /things/{thing_id}/mend
    body: {cost_amount: cost_amount}
    input: {required: [thing_id], properties: {thing_id: {type: string}, cost_amount: {type: number}}}
    output: {type: object, properties: {id: {type: string}}}
    writes: true
    risk: low
    blast_radius: one_person
    observe: {read: desk.look, with: {thing_id: $arguments.thing_id}}
    preconditions:
      - {value: $before.state, is: broken}
    probe:
      expect:
        - {value: $after.state, is: whole}
    limits: {per_ticket: 2, per_target: {calls: 3, within_minutes: 15}, amount: cost_amount, max_amount: 50}
    approvers: {roles: [lead], quorum: 2}
"""
)
STATED = WRITE.replace("    output: {type: object}\n", "    output: {type: object, properties: {state: {type: string}}}\n", 1)


def test_a_write_carries_everything_that_the_executor_asks_for(tmp_path):
    mend = load(tmp_path, "systems: {desk: {rate: {calls: 9, per_s: 3}}}\nactions:" + STATED)["desk.mend"]
    assert mend.observe.resolved({"arguments": {"thing_id": "t"}}) == {"thing_id": "t"} and mend.target == ("thing_id",)
    assert mend.probe.observe == mend.observe and mend.probe.expect == ({"value": "$after.state", "is": "whole"},)
    assert (mend.limits.per_target, mend.limits.target_window_minutes, mend.limits.max_amount) == (3, 15, 50)
    assert (mend.approvers.roles, mend.approvers.quorum, mend.rate.calls, mend.identity) == (("lead",), 2, 9, "claimed")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("read: desk.look", "read: desk.gone", "its observe reads 'desk.gone', which is not in the catalogue"),
        ("read: desk.look", "read: desk.mend", "its observe 'desk.mend' writes; it must be a read"),
        ("with: {thing_id: $arguments.thing_id}", "with: {}", "its observe 'desk.look' needs 'thing_id'"),
        ("$arguments.thing_id}", "$arguments.thing_id, more: 1}", "takes no 'more'; it takes thing_id"),
        ("thing_id: $arguments.thing_id", "thing_id: $arguments.thing", "$arguments.thing, which is none of the arguments"),
        ("thing_id: $arguments.thing_id", "thing_id: $arguments.cost_amount", "whose type does not fit 'thing_id'"),
        ("thing_id: $arguments.thing_id", "thing_id: 7", "thing_id must be string, not 7"),
        ("thing_id: $arguments.thing_id", "thing_id: $answer.id", "a read before the act knows $arguments alone"),
        ("value: $before.state", "value: $before.stat", "$before.stat: desk.look answers nothing of that name"),
        ("value: $before.state", "value: $after.state", "precondition 1: nothing provides $after.state"),
        ("value: $after.state", "value: $answer.state", "expect 1: nothing provides $answer.state"),
        ("is: whole", "iss: whole", "unknown operator `iss`"),
        ("    probe:\n      expect:\n        - {value: $after.state, is: whole}\n", "", "it has an observe, but no probe"),
        ("    observe: {read: desk.look, with: {thing_id: $arguments.thing_id}}\n", "", "it writes, so it needs `observe:"),
        (
            "    observe: {read: desk.look, with: {thing_id: $arguments.thing_id}}\n",
            "    observe: none\n",
            "or `observe: none` with `because: ...`",
        ),
        ("    approvers: {roles: [lead], quorum: 2}\n", "", "it needs approvers"),
        ("roles: [lead]", "roles: [janitor]", "desk.mend: approvers.roles.0"),
        (", amount: cost_amount, max_amount: 50", "", "the argument 'cost_amount' is money, so limits need amount"),
        (", max_amount: 50", "", "limits.max_amount must say how much"),
        ("amount: cost_amount, max", "amount: thing_id, max", "limits.amount is 'thing_id', which is no number"),
        ("    limits:", "    target: [nobody]\n    limits:", "the target 'nobody' is none of its arguments"),
        ("    limits:", "    identity: sworn\n    limits:", "desk.mend: identity"),
        ("    limits:", "    tool: mend\n    limits:", "it has a call and a tool"),
        ("    limits:", "    pin: sha256:12\n    limits:", "desk.mend: pin"),
        (
            "    limits:",
            "    reversible: true\n    compensation: {action: desk.mend, with: {thing_id: $nowhere.id}}\n    limits:",
            "its compensation takes $nowhere.id, which nothing provides",
        ),
        (
            "    limits:",
            "    reversible: true\n    compensation: {action: desk.mend, with: {thing_id: $answer.name}}\n    limits:",
            "$answer.name: desk.mend answers nothing of that name",
        ),
    ],
)
def test_a_careless_write_is_refused_with_what_it_lacks(tmp_path, old, new, sentence):
    assert old in STATED
    assert sentence in problems_of(tmp_path, "actions:" + STATED.replace(old, new))


def test_a_tool_needs_a_pin_unless_it_is_a_draft(tmp_path):
    tool = STATED.replace("call: POST /things/{thing_id}/mend\n    body: {cost_amount: cost_amount}", "tool: mend")
    assert "the tool 'mend' has no pin" in problems_of(tmp_path, "actions:" + tool)
    draft = load(tmp_path, "actions:" + tool.replace("    limits:", "    reviewed: false\n    limits:"))["desk.mend"]
    assert (draft.tool, draft.reviewed, draft.method) == ("mend", False, "")
    pinned = tool.replace("tool: mend", f"tool: mend\n    pin: sha256:{'a' * 64}")
    assert load(tmp_path, "actions:" + pinned)["desk.mend"].pin == "sha256:" + "a" * 64


def test_schemas_of_the_file_are_reached_by_reference_even_in_a_circle(tmp_path):
    schemas = "schemas:\n  Node: {type: object, properties: {next: {$ref: '#/$defs/Node'}}}\n  Unused: {type: string}\n"
    look = load(tmp_path, schemas + "actions:" + ENTRY.replace("output: {type: object}", "output: {$ref: '#/$defs/Node'}"))[
        "desk.look"
    ]
    assert set(look.output.document["$defs"]) == {"Node"}
    assert look.output_problems({"next": {"next": {}}}) == [] and look.output_problems({"next": {"next": 3}})


def test_the_page_of_actions_shows_the_catalogue_as_it_is():
    text = (Path(__file__).parents[2] / "docs" / "actions.md").read_text(encoding="utf-8")
    shown = text.partition("<!-- actions -->\n")[2].partition("<!-- /actions -->")[0]
    assert shown == page(CATALOG.values()), "run `cloister catalog list --page` and put the table into docs/actions.md"
