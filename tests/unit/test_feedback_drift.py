"""Drift measures on traffic that moved in a known way, and on traffic that did not; reliability per type; shares of types."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from orchestrator.domain.triage import OTHERS
from training.feedback import measures
from training.feedback.decisions import Decision, Ending, decisions_from, of_model
from training.feedback.drift import drift_report
from training.feedback.measures import Verdict
from training.feedback.page import page
from training.feedback.prior import adjusted, estimate_shift, shift_from_labels
from training.feedback.reference import Reference, per_class
from training.feedback.reliability import Handling, fewest, reliability
from training.feedback.words import clusters, new_words
from training.metrics import wilson

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
TYPES = ("vpn", "email", "invoice")
SAYS = {
    "vpn": "the tunnel client drops the connection every few minutes",
    "email": "my mailbox refuses messages and the calendar is empty",
    "invoice": "please send a copy of the invoice for the last order",
}
REFERENCE = Reference(
    full_name="desk@sha256-" + "a" * 64,
    classes=(*TYPES, OTHERS),
    counts={"vpn": 300, "email": 300, "invoice": 300, OTHERS: 2},
    counted="its dataset.json",
    texts=tuple(SAYS.values()) * 30,
    keys=frozenset(),
)


def decision(number: int, *, day: float, category: str = "vpn", confidence: float = 0.9, **changed: Any) -> Decision:
    plain = Decision(
        id=f"T-{number}",
        subject="",
        description=SAYS.get(category, "something else entirely"),
        at=NOW - timedelta(days=day),
        category=category,
        confidence=confidence,
        abstained=False,
        alternatives=((category, confidence),),
        stage="head",
        model="",
        language="en",
        corrected_to=None,
        ending=Ending.GOOD,
    )
    return replace(plain, **changed)


def traffic(count: int, *, first_day: float, last_day: float, mix: tuple[float, ...] = (1, 1, 1), seed: int = 0) -> list[Decision]:
    """`count` decisions between these ages, types drawn by `mix`."""
    random = np.random.default_rng(seed)
    shares = np.array(mix, float) / sum(mix)
    return [
        decision(
            seed * 100_000 + number,
            day=float(random.uniform(first_day, last_day)),
            category=TYPES[int(random.choice(3, p=shares))],
            confidence=float(random.beta(12, 2)),
            ending=Ending.GOOD if random.random() < 12 / 14 else Ending.WRONG,
        )
        for number in range(count)
    ]


def report(decisions: list[Decision]) -> dict[str, Any]:
    made = drift_report(sorted(decisions, key=lambda d: d.at), REFERENCE, since=NOW - timedelta(days=90), now=NOW)
    json.dumps(made, allow_nan=False)
    return made


def verdicts(made: dict[str, Any]) -> dict[str, str]:
    return {measure["name"]: measure["verdict"] for measure in made["measures"]}


def steady() -> list[Decision]:
    return traffic(600, first_day=29, last_day=85, seed=1) + traffic(400, first_day=0, last_day=27, seed=2)


def test_traffic_that_did_not_move_is_stable_and_nothing_is_to_be_done() -> None:
    made = report(steady())
    found = verdicts(made)
    assert {found[name] for name in ("mix against before", "confidence", "abstention", "overrides", "unseen words")} == {"stable"}
    assert (made["verdict"], made["remedy"]) == ("stable", "nothing")


def test_another_mix_of_types_asks_for_a_recalibration() -> None:
    moved = traffic(600, first_day=29, last_day=85, seed=1) + traffic(400, first_day=0, last_day=27, mix=(8, 1, 1), seed=2)
    made = report(moved)
    assert verdicts(made)["mix against training"] == verdicts(made)["mix against before"] == "act"
    assert made["remedy"] == "recalibrate" and "cloister train recalibrate" in made["do"]
    row = next(row for row in made["mix"] if row["category"] == "vpn")
    assert row["recent"] > 0.7 and row["estimated"] == pytest.approx(row["recent"], abs=0.1)


def test_many_corrections_ask_for_training() -> None:
    wrong = [
        replace(d, corrected_to="email", ending=Ending.WRONG) if n % 3 == 0 and d.category == "vpn" else d
        for n, d in enumerate(steady())
    ]
    made = report(wrong)
    assert verdicts(made)["overrides"] in ("watch", "act") and verdicts(made)["calibration"] in ("watch", "act")
    vpn = next(row for row in made["overrides"] if row["category"] == "vpn")
    assert vpn["verdict"] == "act" and set(vpn["to"]) == {"email"}
    assert [row["verdict"] for row in made["overrides"] if row["category"] == "invoice"] == ["stable"]


def test_low_confidence_and_abstentions_are_seen() -> None:
    unsure = [replace(d, confidence=d.confidence * 0.6, abstained=True) if d.at > NOW - timedelta(days=28) else d for d in steady()]
    found = verdicts(report(unsure))
    assert found["confidence"] == "act" and found["abstention"] == "act"


def test_a_model_that_does_not_tell_its_shares_is_not_held_against_them() -> None:
    made = drift_report(steady(), replace(REFERENCE, counts={}), since=NOW - timedelta(days=90), now=NOW)
    assert verdicts(made)["mix against training"] == "unknown" and made["shift"] is None
    assert all(row["trained"] is None for row in made["mix"]) and "Shares of types" in page(made)


def test_too_few_tickets_are_no_verdict() -> None:
    made = report(traffic(40, first_day=0, last_day=27, seed=3))
    assert set(verdicts(made).values()) == {"unknown"} and made["verdict"] == "unknown" and made["remedy"] == "nothing"


def test_a_group_of_abstained_tickets_that_speak_alike_suggests_a_new_type() -> None:
    badge = [
        decision(
            n, day=n % 20, category=OTHERS, confidence=0.2, abstained=True, ending=Ending.HANDED_OVER,
            description=f"Our badge reader at the north turnstile rejects every visitor badge since week {n}",
        )
        for n in range(30)
    ]  # fmt: skip
    made = report([*steady(), *badge])
    (group,) = made["abstained_groups"]
    assert group["tickets"] == 30 and {"badge", "turnstile"} <= {*group["words"]} | {"badge"} and group["suspects_new_type"]
    assert made["remedy"] == "new type"


def test_decisions_of_another_model_are_left_out() -> None:
    own, strangers = of_model([decision(1, day=1), decision(2, day=1, model="other@sha256-b")], REFERENCE.full_name)
    assert (len(own), strangers) == (1, 1)


def test_the_page_holds_every_table_and_escapes_what_people_wrote() -> None:
    made = report([*steady(), *(decision(n, day=1, category="<script>x") for n in range(9))])
    html = page(made)
    assert "Which types are handled reliably" in html and "&lt;script&gt;x" in html and "<script" not in html
    assert html.count("<svg") == 4


def test_days_and_weeks_count_every_ticket_once() -> None:
    made = report(steady())
    assert sum(row["tickets"] for row in made["weeks"]) == sum(row["tickets"] for row in made["days"]) == 1000
    assert all(sum(row["mix"].values()) == row["tickets"] for row in made["days"])


# --- what became of decisions ---------------------------------------------------------------------------------------------


def record(**changed: Any) -> dict[str, Any]:
    plain = {
        "id": "T-1", "subject": "s", "description": "d", "state": "resolved", "outcome": "resolved", "verified": True,
        "rated_bad": False, "rejected": False, "triaged_at": "2026-10-01T08:00:00Z", "resolved_at": "2026-10-01T09:00:00Z",
        "category": "vpn", "confidence": 0.9, "abstained": False, "alternatives": [["vpn", 0.9]], "stage": "head", "model": "",
        "language": "en", "corrected_to": None, "reopened": False, "shadow": False,
    }  # fmt: skip
    return plain | changed


@pytest.mark.parametrize(
    ("changed", "ending"),
    [
        ({}, Ending.GOOD),
        ({"resolved_at": "2026-11-19T09:00:00Z"}, Ending.OPEN),
        ({"verified": None}, Ending.OPEN),
        ({"state": "pending", "outcome": "awaiting_approval"}, Ending.OPEN),
        ({"outcome": "handed_over", "state": "escalated", "resolved_at": None}, Ending.HANDED_OVER),
        ({"corrected_to": "email"}, Ending.WRONG),
        ({"reopened": True}, Ending.WRONG),
        ({"rejected": True}, Ending.WRONG),
        ({"rated_bad": True}, Ending.WRONG),
    ],
)
def test_what_became_of_a_decision(changed: dict[str, Any], ending: Ending) -> None:
    (found,) = decisions_from([record(**changed)], now=NOW)
    assert found.ending is ending


def test_shadow_runs_and_tickets_without_a_type_are_no_decisions() -> None:
    assert decisions_from([record(shadow=True), record(category=None)], now=NOW) == []


def test_a_type_is_handled_only_when_enough_good_outcomes_prove_it() -> None:
    few = [decision(n, day=20) for n in range(fewest(0.95) - 1)]
    (row,) = reliability(few)
    assert (row.handling, row.needed, row.rate) == (Handling.UNPROVEN, 1, 1.0)
    (row,) = reliability([*few, decision(999, day=20)])
    assert (row.handling, row.needed) == (Handling.HANDLES, 0) and row.low >= 0.95
    (row,) = reliability([*few, *(decision(n, day=20, ending=Ending.WRONG) for n in range(20))])
    assert row.handling is Handling.ESCALATES and wilson(row.good + row.needed, row.judged + row.needed).low >= 0.95
    (row,) = reliability([*few, *few, *(decision(n, day=20, ending=Ending.WRONG) for n in range(6))])
    assert row.handling is Handling.WATCH


def test_hand_overs_and_open_tickets_prove_nothing_and_abstentions_are_no_decisions() -> None:
    (row,) = reliability(
        [decision(1, day=1, ending=Ending.OPEN), decision(2, day=1, ending=Ending.HANDED_OVER), decision(3, day=1, abstained=True)]
    )
    assert (row.decided, row.judged, row.open, row.handed_over, row.rate) == (2, 0, 1, 1, None)


# --- numbers --------------------------------------------------------------------------------------------------------------


def test_population_stability_index_by_hand() -> None:
    now, before = np.array([79.5, 19.5]), np.array([49.5, 49.5])
    assert measures.psi(now, before) == pytest.approx((0.8 - 0.5) * np.log(0.8 / 0.5) + (0.2 - 0.5) * np.log(0.2 / 0.5), abs=0.001)
    assert measures.psi(before, before) == 0.0
    assert measures.jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == 1.0


def test_chance_explains_two_samples_of_one_mix_and_not_two_mixes() -> None:
    random = np.random.default_rng(0)
    one, two = random.multinomial(300, [0.5, 0.3, 0.2]), random.multinomial(300, [0.5, 0.3, 0.2])
    assert measures.chance_of(one, two)[0] > 0.05
    assert measures.chance_of(one, random.multinomial(300, [0.2, 0.3, 0.5]))[0] < 0.01


@pytest.mark.parametrize(
    ("size", "beyond", "verdict"), [(0.05, True, "stable"), (0.15, True, "watch"), (0.3, True, "act"), (0.3, False, "stable")]
)
def test_a_verdict_needs_size_and_more_than_chance(size: float, beyond: bool, verdict: str) -> None:
    assert measures.level("psi", size, beyond_chance=beyond) is Verdict(verdict)


def test_shares_that_did_not_move_are_left() -> None:
    unmoved = estimate_shift(np.full((500, 3), 1 / 3), np.ones(3))
    assert unmoved.p_value > 0.5 and np.allclose(unmoved.after, 1 / 3)


def test_exact_posteriors_give_the_shares_back() -> None:
    """A symptom with known chances per type: the posteriors under equal shares are Bayes' own."""
    random = np.random.default_rng(1)
    chances = np.array([[0.8, 0.1, 0.1], [0.2, 0.6, 0.2], [0.1, 0.2, 0.7]])  # of symptom (column) given type (row)
    truth = np.array([0.6, 0.3, 0.1])
    labels = random.choice(3, 20_000, p=truth)
    symptoms = np.array([random.choice(3, p=chances[label]) for label in labels])
    posteriors = (chances / chances.sum(axis=0))[:, symptoms].T
    assert np.abs(estimate_shift(posteriors, np.ones(3)).after - truth).max() < 0.02


def test_shares_from_labels_move_no_further_than_their_limit() -> None:
    shift = shift_from_labels(np.array([900.0, 100.0, 0.0]), np.array([1.0, 1.0, 1.0]))
    assert shift.after[0] == pytest.approx(0.9, abs=0.01) and np.exp(shift.log_ratios.min()) >= 0.2 - 1e-9
    assert adjusted(np.full((1, 3), 1 / 3), shift.log_ratios)[0].argmax() == 0


def test_words_that_training_never_saw() -> None:
    known = ["the tunnel drops"] * 20
    same = new_words(["the tunnel drops again"] * 4, known)
    assert same is not None and (same.share, same.expected) == (0.25, 0.0) and same.examples == (("again", 4),)
    assert new_words(["x"], known) is None and new_words(["tunnel"], []) is None


def test_groups_say_where_people_put_them() -> None:
    alike = ["the badge reader rejects visitor badges"] * 8
    others = [f"matter {word} number" for word in ("alpha", "beta", "gamma", "delta", "kappa", "sigma")]
    texts = [*others, *alike]
    put = [None] * 6 + ["hardware"] * 7 + [None]
    (group,) = [
        g for g in clusters([str(n) for n in range(14)], texts, put, background=list(SAYS.values()) * 10) if "badge" in g.words
    ]
    assert group.put_into == (("hardware", 7),) and not group.suspects_new_type
    assert clusters(["1"], ["a text"], [None]) == ()


def test_a_dataset_s_record_tells_its_training_tickets() -> None:
    assert per_class({"per_class": {"vpn": {"train": 7, "golden": 2}}}) == {"vpn": 7}
    assert per_class({"counts": {"per_class": {"vpn": 9}}}) == {"vpn": 9} and per_class({"classes": ["vpn"]}) == {}
