"""Governance by its laws: whatever the rules and the facts are, more refusal never widens and order never matters."""

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.resolution import Decision
from orchestrator.resolution.facts import Facts
from orchestrator.resolution.governance import judge_facts
from orchestrator.resolution.policies import EFFECTS, Policies, Rule, Settings

STRENGTH = {decision: place for place, decision in enumerate(EFFECTS.values())}  # 0: refused, the strongest
ACTIONS = ("billing.refund", "identity.reset_password", "vpn.reset_session")
PATHS = ("own", "account.tier", "arguments.amount", "user.status", "nobody.said")

operators: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.fixed_dictionaries({"is": st.sampled_from(["enterprise", True, 10])}),
    st.fixed_dictionaries({"at_most": st.integers(0, 20)}),
    st.fixed_dictionaries({"after": st.just("2026-01-01")}),
    st.fixed_dictionaries({"has": st.just("x")}),
    st.fixed_dictionaries({"exists": st.booleans()}),
)
comparisons = st.builds(lambda path, operator: {"value": f"${path}", **operator}, st.sampled_from(PATHS), operators)
conditions = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        st.builds(lambda parts: {"any": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda parts: {"all": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda part: {"not": part}, inner),
    ),
    max_leaves=5,
)
targets = st.one_of(st.sampled_from(["acts", "tickets"]), st.lists(st.sampled_from(ACTIONS), min_size=1, max_size=2, unique=True))


@st.composite
def rules(draw: st.DrawFn, effects: tuple[str, ...] = tuple(EFFECTS)) -> Rule:
    effect = draw(st.sampled_from(effects))
    named = draw(targets if effect != "permit" else st.lists(st.sampled_from(ACTIONS), min_size=1, max_size=2, unique=True))
    return Rule(
        id="r" + draw(st.text("abcdefgh", min_size=4, max_size=8)),
        effect=effect,  # type: ignore[arg-type]
        applies_to=named,  # type: ignore[arg-type]
        when=draw(st.lists(conditions, max_size=2)),
        reason="{{ account.tier }} said",
        approvers=draw(st.sampled_from(["approver", "lead"])) if effect == "require_approval" else None,
        quorum=draw(st.integers(1, 3)) if effect == "require_approval" else 1,
    )


sets = st.lists(rules(), max_size=7, unique_by=lambda rule: rule.id)
values = st.one_of(st.none(), st.booleans(), st.integers(0, 20), st.sampled_from(["enterprise", "2026-05-01"]), st.just(["x"]))
facts = st.builds(
    lambda chosen: Facts().with_facts(chosen, source="record", detail="test"),
    st.fixed_dictionaries(
        {},
        optional={
            "own": values,
            "account": st.one_of(st.none(), st.fixed_dictionaries({}, optional={"tier": values})),
            "arguments": st.fixed_dictionaries({}, optional={"amount": values}),
            "user": st.one_of(st.none(), st.fixed_dictionaries({"status": values})),
        },
    ),
)
acts = st.sampled_from(ACTIONS)


def verdict(chosen: list[Rule], action: str | None, known: Facts) -> Any:
    return judge_facts(action, known, Policies(rules=tuple(chosen), settings=Settings()))


@given(sets, rules(effects=tuple(effect for effect in EFFECTS if effect != "permit")), acts, facts)
def test_one_more_rule_that_restricts_never_widens_what_may_be_done(chosen: list[Rule], more: Rule, act: str, known: Facts) -> None:
    more = more.model_copy(update={"id": "zz-more"})
    was, becomes = verdict(chosen, act, known), verdict([*chosen, more], act, known)
    assert STRENGTH[becomes.decision] <= STRENGTH[was.decision] or was.rule == "default"
    assert becomes.decision is not Decision.ALLOW or was.decision is Decision.ALLOW


@given(sets, acts, facts)
def test_an_applying_forbid_always_refuses(chosen: list[Rule], act: str, known: Facts) -> None:
    forbid = Rule(id="zz-never", effect="forbid", applies_to="acts", reason="never")
    assert verdict([*chosen, forbid], act, known).decision is Decision.DENY


@given(st.data(), sets, acts, facts)
def test_the_order_of_rules_and_of_their_conditions_changes_nothing(
    data: st.DataObject, chosen: list[Rule], act: str, known: Facts
) -> None:
    turned = [
        rule.model_copy(update={"when": data.draw(st.permutations(rule.when))}) for rule in data.draw(st.permutations(chosen))
    ]
    was, becomes = verdict(chosen, act, known), verdict(turned, act, known)
    assert replace(was, basis=None) == replace(becomes, basis=None)


@given(st.data(), sets, acts, facts)
def test_taking_a_permit_away_never_widens(data: st.DataObject, chosen: list[Rule], act: str, known: Facts) -> None:
    permits = [rule for rule in chosen if rule.effect == "permit"]
    fewer = [rule for rule in chosen if not permits or rule is not data.draw(st.sampled_from(permits), label="taken away")]
    if verdict(fewer, act, known).decision is Decision.ALLOW:
        assert verdict(chosen, act, known).decision is Decision.ALLOW


@given(sets, facts)
def test_an_act_that_no_rule_names_is_never_permitted(chosen: list[Rule], known: Facts) -> None:
    assert verdict(chosen, "no.such_action", known).decision is not Decision.ALLOW


@given(sets, acts, facts)
def test_a_rule_that_cannot_be_judged_is_told_and_permits_nothing(chosen: list[Rule], act: str, known: Facts) -> None:
    found = verdict(chosen, act, known)
    concerned = {rule.id: rule for rule in chosen if rule.concerns(act)}
    troubled = {error.split(":")[0] for error in found.errors if "reason cannot be filled" not in error}
    assert troubled <= set(concerned)
    if any(concerned[name].effect != "permit" for name in troubled):
        assert found.decision is not Decision.ALLOW
    if found.decision is Decision.ALLOW:
        assert not troubled & set(found.determining)
