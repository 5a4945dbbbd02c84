"""The ladder, the scorecard and chaos days, judged from counts alone."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.autonomy.bounds import lower_bound, upper_bound
from orchestrator.autonomy.chaos import check_chaos_day, must_end
from orchestrator.autonomy.ladder import is_sampled, judge_demotion, judge_promotion
from orchestrator.autonomy.scorecard import History, covered_by_common_wordings, desk_is_large_enough, score
from orchestrator.autonomy.settings import Chaos, Demotion, Ladder, load_ladder
from orchestrator.domain.autonomy import RUNGS, ChaosDay, Class, Evidence, lowest
from orchestrator.domain.errors import BadInput, Conflict
from orchestrator.domain.resolution import Rung
from orchestrator.resolution.playbook import COMPANY, load_playbook

PLAYBOOK = load_playbook()
LADDER = PLAYBOOK.ladder
GOOD = Evidence(
    type="refund", days=40, decided=200, agreed=198, disagreed=2, acted=400, verified=396, reopened=4, approved=120, rejected=2,
    sampled=90, right=89, wrong=1,
)  # fmt: skip


# --- bounds ---


@pytest.mark.parametrize(("good", "of", "bound"), [(20, 20, 0.8609), (47, 50, 0.8522), (1, 10, 0.0051), (0, 5, 0.0), (0, 0, 0.0)])
def test_the_lower_bound_is_that_of_clopper_and_pearson(good: int, of: int, bound: float) -> None:
    assert lower_bound(good, of) == pytest.approx(bound, abs=5e-4)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 200).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_the_rate_lies_between_its_bounds_and_more_trials_narrow_them(counts: tuple[int, int]) -> None:
    good, of = counts
    assert lower_bound(good, of) <= good / of <= upper_bound(good, of)
    assert lower_bound(good, of) <= lower_bound(good * 4, of * 4) + 1e-9


def test_more_successes_than_trials_are_refused() -> None:
    with pytest.raises(ValueError, match="5 of 3"):
        lower_bound(5, 3)


# --- up ---


@pytest.mark.parametrize(("at", "target"), list(pairwise(RUNGS)))
def test_good_evidence_carries_one_rung(at: Rung, target: Rung) -> None:
    move = judge_promotion(LADDER, GOOD, at=at, target=target, ceiling=Rung.FULL)
    assert move.allowed, move.why


@pytest.mark.parametrize(
    ("changed", "missing"),
    [
        ({"days": 3.0}, "days"),
        ({"acted": 120, "verified": 119, "reopened": 0}, "acted"),
        ({"verified": 340}, "resolution"),
        ({"reopened": 40}, "reopened"),
        ({"sampled": 55, "right": 55, "wrong": 0}, "sampled"),
        ({"right": 70, "wrong": 20}, "qa"),
        ({"harmful": 1}, "harmful"),
    ],
)
def test_every_demand_of_the_top_rung_can_stop_a_promotion(changed: Mapping[str, Any], missing: str) -> None:
    move = judge_promotion(LADDER, replace(GOOD, **changed), at=Rung.NOTIFY, target=Rung.FULL, ceiling=Rung.FULL)
    assert not move.allowed
    assert [each.name for each in move.criteria if not each.met] == [missing]
    assert "does not carry full" in move.why


def test_a_perfect_rate_of_a_few_tickets_carries_nothing() -> None:
    few = Evidence(type="refund", days=60, acted=8, verified=8, approved=8, sampled=8, right=8)
    assert not judge_promotion(LADDER, few, at=Rung.APPROVE, target=Rung.NOTIFY, ceiling=Rung.FULL).allowed


def test_no_rung_is_skipped_and_no_runbook_is_overruled() -> None:
    assert "one rung at a time" in judge_promotion(LADDER, GOOD, at=Rung.SUGGEST, target=Rung.FULL, ceiling=Rung.FULL).why
    assert (
        "reviewed for more than approve"
        in judge_promotion(LADDER, GOOD, at=Rung.APPROVE, target=Rung.NOTIFY, ceiling=Rung.APPROVE).why
    )
    assert not judge_promotion(Ladder(), GOOD, at=Rung.SHADOW, target=Rung.SUGGEST, ceiling=Rung.FULL).allowed


# --- down ---


@pytest.mark.parametrize(
    ("recent", "says"),
    [
        ({"acted": 60, "verified": 40}, "40 of the last 60 resolved"),
        ({"acted": 60, "verified": 58, "reopened": 14}, "14 of the last 60 came back"),
        ({"acted": 60, "verified": 60, "sampled": 30, "right": 18, "wrong": 12}, "18 of 30 sampled"),
        ({"acted": 60, "verified": 60, "sampled": 30, "right": 29, "harmful": 1}, "harmful"),
    ],
)
def test_evidence_that_turned_sends_a_type_down_one_rung(recent: Mapping[str, Any], says: str) -> None:
    move = judge_demotion(Demotion(), Evidence(type="refund", days=0, **recent), at=Rung.FULL)
    assert move is not None and move.target is Rung.NOTIFY and says in move.why


def test_chance_alone_and_careful_rungs_stay() -> None:
    fair = Evidence(type="refund", days=0, acted=60, verified=50, reopened=5, sampled=10, right=9, wrong=1)
    assert judge_demotion(Demotion(), fair, at=Rung.FULL) is None
    bad = Evidence(type="refund", days=0, acted=60, verified=1)
    assert judge_demotion(Demotion(), bad, at=Rung.SUGGEST) is None
    assert judge_demotion(Demotion(), bad, at=Rung.APPROVE).target is Rung.SUGGEST  # type: ignore[union-attr]


def test_the_most_careful_rung_wins() -> None:
    assert lowest(Rung.FULL, None, Rung.APPROVE) is Rung.APPROVE
    with pytest.raises(ValueError, match="No rung"):
        lowest(None)


# --- the sample ---


def test_early_tickets_are_sampled_more_and_the_share_is_kept() -> None:
    shares = [sum(is_sampled(LADDER, number, before) for number in range(1001, 5001)) / 4000 for before in (0, 100, 1000)]
    assert shares == pytest.approx([0.5, 0.2, 0.05], abs=0.02)


# --- the file ---


def test_a_type_that_nobody_named_begins_in_shadow() -> None:
    assert LADDER.begins("a_new_type") is Rung.SHADOW
    assert load_ladder(Path("/nowhere"), ["refund"]) == (Ladder(), [])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("start: {refundd: full}", "there is no ticket type 'refundd'"),
        ("start: {refund: fully}", "start.refund"),
        ("promote: {full: {qa: 0.9}}", "does not say what suggest, approve, notify demands"),
        ("sample: [{first: 5, share: 0.5}]", "the last sample share"),
        ("scorecard: {volume: {good: 1, fair: 2}}", "must not be below fair"),
        ("colour: red", "colour"),
        ("start: [", "cannot be read"),
    ],
)
def test_what_is_wrong_in_the_file_is_said(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "autonomy.yaml").write_text(text)
    _, problems = load_ladder(tmp_path, ["refund"])
    assert problems and complaint in problems[0]


def test_the_bundled_file_names_every_type() -> None:
    ladder, problems = load_ladder(COMPANY, list(PLAYBOOK.first_rungs()))
    assert problems == [] and set(ladder.start) == set(PLAYBOOK.first_rungs())


# --- chaos days ---

NOW = datetime(2026, 11, 26, 9, tzinfo=UTC)


def plan(type: str = "order_status", *, starts: float = 1, hours: float = 4, planned: tuple[ChaosDay, ...] = ()) -> None:
    begins = NOW + timedelta(hours=starts)
    ends = begins + timedelta(hours=hours)
    acts = PLAYBOOK.acts(type)
    check_chaos_day(LADDER.chaos, type=type, starts_at=begins, ends_at=ends, now=NOW, acts=acts, planned=planned)


def test_a_low_risk_type_may_have_a_chaos_day_and_a_service_may_not() -> None:
    plan()
    with pytest.raises(Conflict, match=r"no low-risk type.*monitoring"):
        plan("service_outage")


@pytest.mark.parametrize(("starts", "hours", "says"), [(-2, 4, "cannot be held"), (1, 0, "cannot be held"), (1, 30, "too long")])
def test_impossible_hours_are_refused(starts: float, hours: float, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        plan(starts=starts, hours=hours)


def test_two_days_of_one_type_do_not_overlap() -> None:
    other = ChaosDay(id="C-1", type="order_status", starts_at=NOW, ends_at=NOW + timedelta(hours=3), by="kim", reason="drill")
    with pytest.raises(Conflict, match="C-1"):
        plan(planned=(other,))
    plan(planned=(replace(other, cancelled_at=NOW),))
    plan(planned=(replace(other, type="vpn"),))


def test_a_day_that_gets_out_of_hand_ends() -> None:
    assert "urgent" in must_end(Chaos(), waiting=1, urgent=1)
    assert "40 tickets" in must_end(Chaos(), waiting=40, urgent=0)
    assert must_end(Chaos(), waiting=39, urgent=0) == ""


# --- the scorecard ---

TEXTS = [f"My order ORD-{n} has not come, where is it?" for n in range(200)]
RICH = History(
    type="order_status", tickets=300, weeks=4, texts=TEXTS, judged=10, clear=10, looked_up=600, answered=598, tried=290, done=260,
    has_runbook=True,
)  # fmt: skip


def test_a_clear_frequent_harmless_type_is_for_now() -> None:
    card = score(RICH, LADDER.scorecard)
    assert card.verdict is Class.NOW, card
    assert [mark.name for mark in card.marks] == [
        "volume", "variance", "policy_clarity", "risk", "data_access", "actionability", "compliance",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "weak"),
    [
        ({"tickets": 8}, "volume"),
        ({"has_runbook": False}, "policy clarity"),
        ({"clear": 4}, "policy clarity"),
        ({"answered": 300}, "data access"),
        ({"done": 20}, "actionability"),
        ({"tried": None}, "actionability"),
    ],
)
def test_a_weak_criterion_makes_it_later_and_is_named(changed: Mapping[str, Any], weak: str) -> None:
    card = score(replace(RICH, **changed), LADDER.scorecard)
    assert card.verdict is Class.LATER and weak in card.because


def test_what_people_must_decide_is_never_automated() -> None:
    assert score(replace(RICH, type="security_incident"), LADDER.scorecard).verdict is Class.NEVER
    assert score(replace(RICH, sensitive=60), LADDER.scorecard).verdict is Class.NEVER


def test_high_risk_counts_as_fair_at_most() -> None:
    risk = next(m for m in score(replace(RICH, acts=PLAYBOOK.acts("service_outage")), LADDER.scorecard).marks if m.name == "risk")
    assert risk.score == 1 and "high" in risk.found


def test_varied_wording_is_told_from_form_letters() -> None:
    varied = [" ".join(chr(97 + (n * k) % 26) * 4 for k in range(1, 9)) for n in range(100)]
    assert covered_by_common_wordings(TEXTS) > 0.95 > covered_by_common_wordings(varied)


def test_a_small_desk_is_below_useful_scale() -> None:
    assert not desk_is_large_enough(199, 4) and desk_is_large_enough(200, 4)
