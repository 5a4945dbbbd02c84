"""The reviewed files: what is bundled loads whole, and a wrong file lists every mistake with its line."""

from pathlib import Path

import pytest

from orchestrator.domain.errors import ConfigurationError
from orchestrator.resolution.catalog import load_catalog
from orchestrator.resolution.playbook import COMPANY, load_playbook
from orchestrator.resolution.replies import LANGUAGES
from orchestrator.resolution.runbook_files import load_runbooks, part_problems

CATALOG = load_catalog()
TYPES = ["password_reset", "refund"]
PLAYBOOK = load_playbook()

GOOD = """
name: sample
version: 1
title: Sample
about: a sample
ticket_types: [password_reset]
reviewed_by: Desk
reviewed_on: 2026-10-05
identity: proven
rung: full
steps:
  - act: identity.reset_password
    as: reset
    with: {user_id: $user.id}
    owner: $user.id
    preview: "Reset {{ user.email }}"
verify:
  read: identity.get_user
  with: {user_id: $user.id}
  as: after
  expect: [{value: $after.status, is: active}]
resolution_code: done
reply: {en: "Done for {{ after.email }}.", de: "Erledigt."}
suggested_next_action: "Look."
"""


def load(folder: Path, text: str, name: str = "sample") -> tuple[int, list[str]]:
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    runbooks, problems = load_runbooks(folder, actions=CATALOG, ticket_types=TYPES)
    return len(runbooks), problems


def test_a_good_runbook_loads(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD) == (1, [])


LOOP = """
name: sample
version: 1
title: Sample
about: a sample
ticket_types: [password_reset]
reviewed_by: Desk
reviewed_on: 2026-10-05
identity: proven
rung: full
step_limit: 15
steps:
  - read: vpn.get_access
    with: {user_id: $user.id}
    as: access
loop:
  step_limit: 3
  unclear: order
  derive: [{let: gate, be: first_of, of: [$after, $access]}]
  hand_over_when: [{when: [{value: $gate.second_factor, is: missing}], because: "No factor."}]
  steps:
    - name: look
      about: looks
      at_most: 2
      when: [{value: $gate.account, is: locked}]
      read: identity.get_user
      with: {user_id: $user.id}
      as: seen
    - name: unlock
      about: unlocks
      when: [{value: $seen.status, is: locked}]
      act: identity.reset_password
      as: reset
      with: {user_id: $user.id}
      owner: $user.id
      preview: "Reset {{ user.email }}"
  solved:
    read: vpn.get_access
    with: {user_id: $user.id}
    as: after
    expect: [{value: $after.may_connect, is: true}]
resolution_code: done
reply: {en: "Done for {{ user.email }}.", de: "Erledigt."}
suggested_next_action: "Look."
"""


def test_a_runbook_with_a_loop_loads_and_its_probe_is_what_verifies(tmp_path: Path) -> None:
    (tmp_path / "sample.yaml").write_text(LOOP, encoding="utf-8")
    runbooks, problems = load_runbooks(tmp_path, actions=CATALOG, ticket_types=TYPES)
    assert problems == []
    runbook = runbooks["sample"]
    assert runbook.verify == runbook.probe and [act.act for act in runbook.acts] == ["identity.reset_password"]
    assert runbook.bound >= {"access", "gate", "seen", "reset", "after"}


@pytest.mark.parametrize(
    ("was", "becomes", "complaint"),
    [
        ("be: first_of", "be: guess", "loop.derive.0.be: no function 'guess'"),
        ("$gate.account, is: locked", "$nobody.account, is: locked", "loop.steps.0.when.0"),
        ("as: seen", "as: access", "`access` is taken already"),
        ("name: unlock", "name: look", "two steps are called 'look'"),
        ("about: unlocks", "about: unlocks\n      at_most: 2", "an act is taken once"),
        ("act: identity.reset_password", "act: identity.get_user", "is a read"),
        ("unclear: order", "unclear: guess", "loop.unclear"),
        ("step_limit: 3", "step_limit: 13", "loop.step_limit"),
        ("step_limit: 15", "step_limit: 9", "step_limit: 9 is less than the 10"),
        ("read: identity.get_user", "search: knowledge", "a step of the loop is a `read` or an `act`"),
        ("      about: looks\n", "", "about: is missing"),
        ("when: [{value: $seen", "colour: red\n      when: [{value: $seen", "colour: unknown field"),
        ("{value: $gate.second_factor, is: missing}", "{value: $gate.second_factor, equals: no}", "hand_over_when.0.when.0"),
        ("    read: vpn.get_access\n    with: {user_id: $user.id}\n    as: after", "    search: knowledge\n    as: after", "is a `read`"),
        ("loop:", "  - {act: identity.reset_mfa, as: m, with: {user_id: $user.id}, preview: x}\nloop:", "only look"),
    ],
)  # fmt: skip
def test_every_mistake_in_a_loop_is_named(tmp_path: Path, was: str, becomes: str, complaint: str) -> None:
    assert was in LOOP
    _, problems = load(tmp_path, LOOP.replace(was, becomes, 1))
    assert any(complaint in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("was", "becomes", "complaint"),
    [
        ("identity.reset_password", "identity.reset", "sample.yaml:12: steps.0.act: the catalogue has no action 'identity.reset'"),
        ("act: identity.reset_password", "act: identity.get_user", "is a read"),
        ("user_id: $user.id}\n    owner", "user_id: $requester.email}\n    owner", "is what somebody wrote"),
        ("user_id: $user.id}\n    owner", "person: $user.id}\n    owner", "takes no 'person'"),
        ("user_id: $user.id}\n    owner", "user_id: $nobody.id}\n    owner", "nothing before it provides $nobody.id"),
        ("ticket_types: [password_reset]", "ticket_types: [gardening]", "unknown ticket type 'gardening'"),
        ("reviewed_by: Desk\n", "", "reviewed_by: is missing"),
        ("rung: full", "rung: full\ncolour: red", "colour: unknown field"),
        ("rung: full", "rung: full\nrung: notify", "stands here twice"),
        (", de: \"Erledigt.\"", "", "reply.de: is missing"),
        ("{{ after.email }}", "{{ ticket.words }}", "template uses ticket"),
        ("as: after", "as: reset", "is taken already"),
        ("is: active", "equals: active", "unknown operator `equals`"),
        ("name: sample", "name: other", "must be the file's name"),
        ("version: 1", "version: one", "version"),
        ("identity: proven", "identity: maybe", "identity"),
    ],
)  # fmt: skip
def test_every_mistake_is_named_with_its_place(tmp_path: Path, was: str, becomes: str, complaint: str) -> None:
    assert was in GOOD
    _, problems = load(tmp_path, GOOD.replace(was, becomes))
    assert any(complaint in problem for problem in problems), problems


def test_all_mistakes_are_listed_at_once(tmp_path: Path) -> None:
    wrong = GOOD.replace("rung: full", "rung: ful").replace("identity: proven", "identity: x").replace("version: 1", "version: 0")
    _, problems = load(tmp_path, wrong)
    assert len(problems) >= 3


def test_a_runbook_whose_act_no_policy_permits_does_not_load(tmp_path: Path) -> None:
    import shutil

    company = tmp_path / "company"
    shutil.copytree(COMPANY, company)
    (company / "policies" / "90_permits.yaml").write_text("rules: []\n", encoding="utf-8")
    with pytest.raises(ConfigurationError) as error:
        load_playbook(company)
    assert "vpn_session_reset.yaml: no policy permits vpn.reset_session" in str(error.value)


FAN_OUT = """
name: sample
version: 1
title: Sample
about: a sample
ticket_types: [password_reset]
reviewed_by: Desk
reviewed_on: 2026-10-05
identity: proven
rung: full
steps:
  - read: hr.get_hire
    with: {hire_id: "7"}
    as: hire
fan_out:
  parts:
    - {key: one, runbook: piece, category: password_reset, subject: "One {{ hire.name }}", facts: {hire_id: $hire.id}}
    - {key: two, runbook: piece, category: password_reset, subject: "Two", facts: {hire_id: $hire.id}, after: [one]}
  told: {en: "Begun.", de: "Begonnen."}
verify:
  read: identity.get_user
  with: {user_id: $user.id}
  as: after
  expect: [{value: $after.status, is: active}]
resolution_code: done
reply: {en: "Done: {{ parts.one.confirmation }}.", de: "Erledigt."}
suggested_next_action: "Look."
"""
PIECE = (
    GOOD.replace("name: sample", "name: piece")
    .replace("rung: full", "rung: full\nfor_parts: true\nconfirmation: $after.id")
    .replace("steps:", "steps:\n  - {read: hr.get_hire, as: hire, with: {hire_id: $part.hire_id}}")
)


def load_parts(folder: Path, parent: str, piece: str) -> list[str]:
    (folder / "piece.yaml").write_text(piece, encoding="utf-8")
    (folder / "sample.yaml").write_text(parent, encoding="utf-8")
    runbooks, problems = load_runbooks(folder, actions=CATALOG, ticket_types=TYPES)
    return problems + part_problems(runbooks)


def test_a_parent_request_and_its_parts_load(tmp_path: Path) -> None:
    assert load_parts(tmp_path, FAN_OUT, PIECE) == []


@pytest.mark.parametrize(
    ("was", "becomes", "complaint"),
    [
        ("key: two", "key: one", "two parts are called 'one'"),
        ("after: [one]", "after: [three]", "no part above it is called 'three'"),
        ("runbook: piece", "runbook: nothing", "there is no runbook 'nothing'"),
        ("runbook: piece", "runbook: sample", "sample does not say `for_parts: true`"),
        ("category: password_reset, subject: \"Two\"", "category: refund, subject: \"Two\"", "piece does not serve refund"),
        ("category: password_reset", "category: gardening", "unknown ticket type 'gardening'"),
        ("facts: {hire_id: $hire.id}}", "facts: {hire_id: $ticket.words}}", "is a reference to a record"),
        ("facts: {hire_id: $hire.id}}", "facts: {hire_id: hire-1}}", "is a reference to a record"),
        ("facts: {hire_id: $hire.id}}", "facts: {other: $hire.id}}", "begins with hire_id, which the part does not give"),
        ("told: {en: \"Begun.\", de: \"Begonnen.\"}", "told: {en: \"Begun.\"}", "fan_out.told.de: is missing"),
        ("fan_out:", "  - {act: identity.reset_mfa, as: m, with: {user_id: $user.id}, preview: x}\nfan_out:", "neither acts nor loops"),
        ("rung: full", "rung: full\nfor_parts: true", "is no part itself"),
    ],
)  # fmt: skip
def test_every_mistake_in_a_parent_request_is_named(tmp_path: Path, was: str, becomes: str, complaint: str) -> None:
    assert was in FAN_OUT
    problems = load_parts(tmp_path, FAN_OUT.replace(was, becomes, 1), PIECE)
    assert any(complaint in problem for problem in problems), problems


def test_what_serves_parts_serves_no_ticket_that_somebody_wrote() -> None:
    parts = {name for name, runbook in PLAYBOOK.runbooks.items() if runbook.for_parts}
    assert len(parts) == 5
    assert not parts & {runbook.name for category in PLAYBOOK.groups for runbook in PLAYBOOK.serving(category)}


def test_more_parts_than_ten_are_refused(tmp_path: Path) -> None:
    one = FAN_OUT.splitlines()[17]
    more = "\n".join(one.replace("key: one", f"key: more{n}") for n in range(10))
    problems = load_parts(tmp_path, FAN_OUT.replace(one, f"{one}\n{more}"), PIECE)
    assert any("fan_out.parts" in problem and "at most 10" in problem for problem in problems), problems


def test_the_bundled_runbooks_cover_what_the_desk_promises() -> None:
    assert sorted(PLAYBOOK.runbooks) == [
        "access_grant",
        "account_activation",
        "certificate_rotation",
        "employee_onboarding",
        "how_to_answer",
        "invoice_copy",
        "license_renewal",
        "mfa_reset",
        "onboarding_badge",
        "onboarding_device",
        "onboarding_groups",
        "onboarding_identity",
        "onboarding_license",
        "order_status",
        "password_reset",
        "refund",
        "release_rollback",
        "service_recovered",
        "service_restart",
        "subscription_cancel",
        "vpn_session_reset",
        "vpn_trouble",
    ]
    for runbook in PLAYBOOK.runbooks.values():
        assert set(runbook.reply) == set(LANGUAGES), runbook.name
        assert all(act.owner or not runbook.for_requester_only for act in runbook.acts), runbook.name


def test_what_gives_access_or_money_needs_proof_of_identity() -> None:
    strong = {
        "identity.reset_password",
        "identity.reset_mfa",
        "identity.add_to_group",
        "billing.refund",
        "billing.cancel_subscription",
    }
    for runbook in PLAYBOOK.runbooks.values():
        if strong & {act.act for act in runbook.acts}:
            assert runbook.identity == "proven", runbook.name


def test_the_desks_macros_speak_all_languages() -> None:
    for texts in (PLAYBOOK.macros.texts, PLAYBOOK.macros.matters, PLAYBOOK.macros.things):
        for name, text in texts.items():
            assert set(text) == set(LANGUAGES), name
