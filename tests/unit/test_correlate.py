"""Root causes from time, topology and words: the sentence that an analyst would say, and silence where nothing can be said."""

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.domain.directory import Alert, Certificate, Deployment, Directory, Service
from orchestrator.triage.correlate import Report, binomial_tail, correlate, distance, rate_ratio, suspects
from tests.benchmarks.bench_root_cause import judge

NOON = datetime(2026, 11, 18, 14, 2, tzinfo=UTC)
SERVICES = (
    Service(name="checkout", depends_on=("payments",)),
    Service(name="payments"),
    Service(name="sso"),
    Service(name="shop", depends_on=("checkout", "sso")),
    Service(name="wiki"),
)


def release(service: str, version: str, at: datetime, *, live: bool = True) -> Deployment:
    return Deployment(id=f"dep-{service}-{version}", service=service, version=version, at=at, live=live)


def wave(count: int, *services: str, start: datetime = NOON, every_s: float = 60, **more: object) -> list[Report]:
    return [Report(at=start + timedelta(seconds=90 + n * every_s), services=frozenset(services), **more) for n in range(count)]  # type: ignore[arg-type]


def test_forty_seven_tickets_after_a_release_are_said_in_one_sentence() -> None:
    directory = Directory(services=SERVICES, deployments=(release("checkout", "2.1.7", NOON), release("wiki", "9.0", NOON)))
    best, *others = correlate(wave(47, "checkout", every_s=30), directory, now=NOON + timedelta(hours=1))
    assert best.sentence == "all 47 tickets came after release 2.1.7 of checkout (14:02), none in the hour before."
    assert (best.before, best.after) == (0, 47) and best.chance < 1e-12
    assert best.suggestion == "Propose to roll dep-checkout-2.1.7 back; a person approves it."
    assert others == []  # the wiki's release is no candidate: nothing that is reported rests on it


def test_tickets_that_came_before_it_clear_a_release() -> None:
    steady = [Report(at=NOON + timedelta(minutes=m), services=frozenset({"checkout"})) for m in range(-58, 60, 4)]
    directory = Directory(services=SERVICES, deployments=(release("checkout", "2.1.7", NOON),))
    assert correlate(steady, directory, now=NOON + timedelta(hours=1)) == []


def test_a_certificate_that_ran_out_beats_the_alerts_it_raised_in_three_regions() -> None:
    regions = ("Europe", "Americas", "Pacific")
    alerts = tuple(
        Alert(id=f"al-{r}", service="sso", region=r, kind="certificate_expired", since=NOON, cleared_by="rotate") for r in regions
    )
    reports = [r for region in regions for r in wave(16, "sso", region=region)]
    certificates = [
        Certificate(id="cert-sso", service="sso", expires_at=NOON),
        Certificate(id="c2", service="wiki", expires_at=NOON),
    ]
    found = correlate(reports, Directory(services=SERVICES, alerts=alerts), certificates, now=NOON + timedelta(hours=1))
    assert found[0].id == "cert-sso" and "3 regions" in " ".join(found[0].evidence) and len(found) == 4
    assert "all 48 tickets" in found[0].sentence and "rotate cert-sso" in found[0].suggestion


def test_of_two_releases_the_one_nearer_to_what_is_reported_counts_more() -> None:
    directory = Directory(services=SERVICES, deployments=(release("payments", "3.0", NOON), release("checkout", "2.1.7", NOON)))
    found = correlate(wave(12, "shop", "checkout"), directory, now=NOON + timedelta(hours=1))
    assert [cause.service for cause in found] == ["checkout", "payments"]


def test_the_release_of_what_it_rests_on_is_found_two_steps_away() -> None:
    directory = Directory(services=SERVICES, deployments=(release("payments", "3.0", NOON),))
    assert [cause.service for cause in correlate(wave(12, "shop"), directory, now=NOON + timedelta(hours=1))] == ["payments"]
    assert distance({"shop"}, "payments", directory) == 2 and distance({"payments"}, "shop", directory) is None


def test_tickets_that_name_the_version_settle_between_two_releases_of_the_same_moment() -> None:
    two = (release("checkout", "2.1.7", NOON), release("checkout", "2.1.8", NOON))
    found = correlate(
        wave(5, "checkout", versions=frozenset({"2.1.8"})),
        Directory(services=SERVICES, deployments=two),
        now=NOON + timedelta(hours=1),
    )
    assert found[0].id == "dep-checkout-2.1.8" and "5 name version 2.1.8" in found[0].evidence


@pytest.mark.parametrize(
    "deployment",
    [
        release("checkout", "1", NOON, live=False),
        release("checkout", "1", NOON - timedelta(hours=30)),
        release("checkout", "1", NOON + timedelta(hours=3)),
    ],
)
def test_what_was_taken_back_long_ago_or_later_is_no_candidate(deployment: Deployment) -> None:
    directory = Directory(services=SERVICES, deployments=(deployment,))
    assert correlate(wave(20, "checkout"), directory, now=NOON + timedelta(hours=1)) == []


def test_nothing_reported_is_nothing_said() -> None:
    assert correlate([], Directory(services=SERVICES, deployments=(release("checkout", "1", NOON),)), now=NOON) == []


def test_the_figures_are_those_of_the_textbook() -> None:
    assert rate_ratio(0, 10) == pytest.approx(10 * math.log(2))
    assert rate_ratio(5, 5) == rate_ratio(7, 2) == 0.0
    assert binomial_tail(47, 47, 0.5) == pytest.approx(0.5**47)
    assert binomial_tail(8, 10, 0.5) == pytest.approx(56 / 1024)
    assert binomial_tail(0, 0, 0.5) == 1.0


def test_without_times_the_service_that_everything_alerting_rests_on_comes_first() -> None:
    rests = {"shop": ["checkout"], "checkout": ["payments"], "mail": ["payments"]}
    assert suspects({"checkout": 1, "mail": 1, "payments": 1}, rests)[0][0] == "payments"
    assert suspects({"shop": 1}, rests)[0][0] == "shop"
    assert suspects({}, {}) == []


def test_on_recorded_incidents_topology_finds_more_roots_than_the_loudest_alert(data_folder: Path) -> None:
    figures = judge()
    assert data_folder.is_dir() and figures["scenarios"] == 41
    assert figures["top1"] >= figures["loudest_top1"] and figures["top3"] > figures["loudest_top3"]
