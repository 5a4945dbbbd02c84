"""Linking: which tickets are one matter, and which only look alike."""

import json
import math
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.directory import Deployment
from orchestrator.domain.triage import Link, LinkKind
from orchestrator.triage.link import WEIGHTS, explaining_alerts, link, other_filling, weigh
from tests.unit.desk_house import HOUSE, NOW, alert, background, entities, house, similar, subject

CRASH = "The app crashes when scanning\nSince the update to 2.1.7 the app crashes as soon as I scan a label"
SAME_CRASH = "App crash on scan\nthe app crashes on every scan of a label since 2.1.7 came"
JOB = "abended job in job_scheduler: {}\nreceived from monitoring\nabended job in job_scheduler: {} at 08/05/16 03:34:26"
FORM = (
    "Outage form: {0}\nSite: {0}\nService: tills\nSince: {1}\n"
    "What fails: no sale can be rung up, all screens grey\nWho reports: store manager"
)


def kinds(found: Link | None) -> set[str]:
    return {evidence.kind for evidence in found.evidence} if found else set()


# --- one incident, many reports -------------------------------------------------------------------------------------


def test_a_lone_ticket_is_linked_to_nothing() -> None:
    assert link(subject(CRASH), [], HOUSE) is None


def test_two_reports_of_one_crash_are_one_incident_with_evidence() -> None:
    found = link(subject(CRASH), [similar(1, SAME_CRASH, 0.82), *background()], HOUSE)
    assert found and (found.kind, found.ticket_id) == (LinkKind.INCIDENT, "T-1")
    assert {"cosine", "words", "stands_out", "same_service", "same_version", "same_category"} <= kinds(found)


def test_the_score_is_the_sum_of_its_evidence() -> None:
    found = link(subject(CRASH), [similar(1, SAME_CRASH, 0.82), *background()], HOUSE)
    assert found
    logit = WEIGHTS["bias"] + sum(evidence.weight for evidence in found.evidence)
    assert found.score == pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-3)


def test_a_report_joins_the_incident_that_the_other_is_in() -> None:
    found = link(subject(CRASH), [similar(1, SAME_CRASH, 0.82, incident="INC-7"), *background()], HOUSE)
    assert found and found.incident_id == "INC-7"


def test_the_same_texts_near_everything_else_stand_out_from_nothing() -> None:
    crowd = [similar(n, f"Something near number {n}\nthe printer", 0.7 - n / 1000) for n in range(2, 12)]
    plain = "Monitor stays black\nmy second monitor stays black"
    assert link(subject(plain), [similar(1, "Screen is dark\nthe second screen stays dark", 0.71), *crowd], HOUSE) is None


def test_a_ticket_joins_an_incident_only_where_it_fits_its_reports_together() -> None:
    mine = "Chart loses its colors\nafter saving as a presentation the chart has lost all of its colors"
    near = similar(1, "Chart colors lost after saving\nthe chart has lost its colors after saving", 0.8, incident="INC-1")
    far = similar(2, "Chart title cannot be moved\nthe title of a chart jumps back", 0.45, incident="INC-1")
    assert link(subject(mine), [near, *background()], HOUSE)
    assert link(subject(mine), [near, far, *background()], HOUSE) is None


def test_similar_texts_of_personal_matters_stay_apart() -> None:
    for category in ("password_reset", "refund", "invoice", "hardware", "how_to"):
        other = similar(1, "Forgot my password, please reset it", 0.97, category=category)
        assert link(subject("I forgot my password, please reset it", category), [other, *background()], HOUSE) is None


def test_trouble_that_is_mostly_ones_own_needs_more_than_like_words() -> None:
    hangs = similar(1, "VPN session hangs\nthe old session hangs and I get no second one", 0.86, category="vpn")
    assert link(subject("VPN session stuck\nold session hangs, I get no second one", "vpn"), [hangs, *background()], HOUSE) is None


def test_where_nobody_knows_who_wrote_like_texts_of_any_type_are_one_matter() -> None:
    text = "Export to PDF drops every second footnote\nfootnotes with two digits are missing in the exported PDF"
    like = "PDF export loses footnotes\nevery second footnote is missing in exported PDF files"
    other = similar(1, like, 0.84, category="how_to", requester="")
    assert link(subject(text, "how_to", requester=""), [other, *background()], HOUSE)
    assert link(subject(text, "how_to"), [replace(other, requester_email="a@b.example"), *background()], HOUSE) is None


# --- vetoes ---------------------------------------------------------------------------------------------------------


def test_look_alike_outages_at_two_sites_stay_apart() -> None:
    there = similar(1, FORM.format("Bristol", "10:20"), 0.97, category="service_outage")
    here = subject(FORM.format("Graz", "10:02"), "service_outage")
    assert link(here, [there, *background()], HOUSE) is None
    assert weigh(here, there, HOUSE, words=0.9).veto == "other_site"


def test_two_outages_of_one_site_are_one() -> None:
    there = similar(1, FORM.format("Graz", "10:02"), 0.97, category="service_outage")
    assert link(subject(FORM.format("Graz", "10:20"), "service_outage"), [there, *background()], HOUSE)


def test_alerts_of_two_batch_jobs_stay_apart_and_of_one_job_do_not() -> None:
    mine = subject(JOB.format("Job_1148", "Job_1148"), requester="monitoring@desk.example")
    other = similar(1, JOB.format("Job_483", "Job_483"), 0.97, requester="monitoring@desk.example")
    same = similar(2, JOB.format("Job_1148", "Job_1148").replace("03:34", "05:11"), 0.99, requester="monitoring@desk.example")
    assert link(mine, [other, *background()], HOUSE) is None
    found = link(mine, [other, same, *background()], HOUSE)
    assert found and (found.kind, found.ticket_id) == (LinkKind.DUPLICATE, "T-2")


@pytest.mark.parametrize(
    ("mine", "theirs", "veto"),
    [
        ("tills grey in Graz", "tills grey in Bristol", "other_site"),
        ("wiki is down", "tills are down", "other_service"),
        ("printer 12 jams", "printer 14 jams", "other_thing"),
        ("switch fw-yhz-1 is down", "switch fw-yhz-2 is down", "other_thing"),
        ("SID_34 is slow", "SID_37 is slow", "other_thing"),
        ("order 70012 is lost", "order 70013 is lost", "other_number"),
        ("invoice 20431 is wrong", "invoice 20432 is wrong", "other_number"),
        ("no mail in Neverland", "no mail in Utopia", "other_filling"),
    ],
)
def test_what_two_tickets_name_forbids_a_link(mine: str, theirs: str, veto: str) -> None:
    found = weigh(
        subject(mine, "service_outage"), similar(1, theirs, 0.99, category="service_outage"), HOUSE, words=1.0, stands_out=0.5
    )
    assert found.veto == veto and found.logit == -math.inf
    assert [evidence.kind for evidence in found.evidence] == [veto]


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        ("erp shows an error", "single sign-on shows an error"),  # the one depends on the other
        ("the app crashes on my pc 12", "the app crashes on my laptop 9"),  # says where somebody sits
        ("no route from 10.1.2.3", "no route from 10.9.9.9"),
        ("the app crashes", "the app crashes at Graz"),
    ],
)
def test_what_two_tickets_name_may_well_be_one_matter(mine: str, theirs: str) -> None:
    assert weigh(subject(mine), similar(1, theirs, 0.6), HOUSE, words=0.5).veto is None


def test_a_veto_of_one_report_keeps_a_ticket_out_of_the_whole_incident() -> None:
    here = subject("All tills grey\nno sale at Graz since ten", "service_outage")
    unsaid = similar(1, "All tills grey\nno sale since ten", 0.95, category="service_outage", incident="INC-1")
    there = similar(2, "All tills grey\nno sale at Bristol since ten", 0.9, category="service_outage", incident="INC-1")
    assert link(here, [unsaid, *background()], HOUSE)
    assert link(here, [unsaid, there, *background()], HOUSE) is None


def test_other_error_codes_and_versions_speak_against_a_link() -> None:
    found = weigh(subject("the app shows SSO-4031 in 2.1.7"), similar(1, "the app shows SSO-9999 in 2.1.6", 0.8), HOUSE, words=0.5)
    assert {"other_error_code", "other_version"} <= {evidence.kind for evidence in found.evidence if evidence.weight < 0}


# --- forms filled in differently ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "right", "fillings"),
    [
        ("access to the Finance share", "access to the Marketing share", ("finance", "marketing")),
        (JOB.format("Job_7", "Job_7"), JOB.format("Job_8", "Job_8"), ("job_7", "job_8")),
        (FORM.format("Lyon", "9:00"), FORM.format("Porto", "9:00"), ("lyon", "porto")),
        ("please renew license LIC-100 for me", "please renew license LIC-200 for me", ("lic-100", "lic-200")),
    ],
)
def test_one_form_with_two_fillings_is_recognized(left: str, right: str, fillings: tuple[str, str]) -> None:
    assert other_filling(left, right) == fillings
    assert other_filling(right, left) == fillings[::-1]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("job 7 failed at 03:34", "job 7 failed at 05:11"),
        ("down since 18.11.2026 09:30", "down since 19.11.2026 10:00"),
        ("it hangs on the error", "it hands on the error"),
        ("the app crashes", "nothing alike at all"),
        ("", "anything"),
        ("the printer jams", "the printer jams again and again, please come"),
        (CRASH * 2, (CRASH * 2).replace("label", "parcel")),
    ],
)
def test_times_typing_errors_additions_and_another_wording_are_no_filling(left: str, right: str) -> None:
    assert other_filling(left, right) is None


# --- monitoring -----------------------------------------------------------------------------------------------------


def explained(text: str, category: str | None, *alerts, minutes: int = 0) -> list[str]:
    at = NOW - timedelta(minutes=minutes)
    return [found.id for found in explaining_alerts(entities(text), category, text, at, house(*alerts))]


CERTIFICATE = alert("sso", "certificate_expired")


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("browser warns of an expired certificate", "sign_in_failure"),  # a symptom, no name
        ("The sign-in page is down", "sign_in_failure"),  # the name and its failure
        ("I cannot log in to the erp", "sign_in_failure"),  # depends on it
        ("Die Warenwirtschaft: Anmeldung geht nicht", "sign_in_failure"),
    ],
)
def test_an_alert_explains_its_service_and_what_depends_on_it(text: str, category: str) -> None:
    assert explained(text, category, CERTIFICATE) == ["al-1"]


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("How do I connect our own provider to the sign-in page?", "sign_in_failure"),  # names it, reports nothing
        ("erp calculates the wrong totals", "application_error"),  # depends on it, another trouble
        ("expired certificate of my course", "how_to"),
        ("wiki is down", "service_outage"),
        ("Forgot my password", "password_reset"),
    ],
)
def test_an_alert_does_not_explain_what_merely_is_near_it(text: str, category: str) -> None:
    assert explained(text, category, CERTIFICATE) == []


def test_an_alert_explains_nothing_that_came_long_before_it() -> None:
    assert explained("expired certificate", "sign_in_failure", CERTIFICATE, minutes=80) == ["al-1"]
    assert explained("expired certificate", "sign_in_failure", CERTIFICATE, minutes=120) == []


def test_an_alert_that_no_longer_fires_explains_nothing() -> None:
    assert explained("expired certificate", "sign_in_failure", replace(CERTIFICATE, firing=False)) == []


def test_a_sites_alert_explains_only_what_names_the_site() -> None:
    graz = alert("tills", site="Graz")
    assert explained("tills at Graz are down", "service_outage", graz) == ["al-1"]
    assert explained("tills at Bristol are down", "service_outage", graz) == []
    assert explained("tills are down", "service_outage", graz) == []


def test_a_regions_alert_explains_what_names_no_other_region() -> None:
    europe = alert("sso", "certificate_expired", region="Europe")
    assert explained("expired certificate in Graz", "sign_in_failure", europe) == ["al-1"]
    assert explained("expired certificate", "sign_in_failure", europe) == ["al-1"]
    assert explained("expired certificate in Halifax", "sign_in_failure", europe) == []


def test_a_ticket_that_names_the_version_of_the_alert_needs_no_symptom() -> None:
    crashes = alert("mobile-app", "error_rate", detail="7 % of sessions on 2.1.7")
    assert explained("the app 2.1.7 is rubbish", "application_error", crashes) == ["al-1"]
    assert explained("the app 2.1.70 is rubbish", "application_error", crashes) == []


def test_one_alert_joins_reports_in_other_words_and_languages() -> None:
    with_alert = house(CERTIFICATE)
    german = subject("Anmeldung geht nicht, Zertifikat: certificate expired", "sign_in_failure")
    english = similar(1, "The sign-in page is down", 0.31, category="sign_in_failure")
    found = link(german, [english, *background()], with_alert)
    assert found and "same_alert" in kinds(found)
    assert link(german, [english, *background()], HOUSE) is None


def test_alerts_of_one_cause_in_several_regions_are_one_incident() -> None:
    regions = house(alert("sso", "expired", id="al-1", region="Europe"), alert("sso", "expired", id="al-2", region="Americas"))
    found = link(
        subject("certificate warning in Graz", "sign_in_failure"),
        [similar(1, "certificate warning at Halifax", 0.4, category="sign_in_failure"), *background()],
        replace(regions, sites=()),
    )
    assert found is None or "same_alert" in kinds(found)
    both = subject("expired certificate in Europe", "sign_in_failure")
    there = similar(1, "expired certificate, all of Americas", 0.5, category="sign_in_failure")
    assert (linked := link(both, [there, *background()], regions)) and "same_alert" in kinds(linked)


def test_alerts_at_two_sites_are_two_incidents_though_the_service_is_one() -> None:
    sites = house(alert("tills", id="al-1", site="Graz"), alert("tills", id="al-2", site="Bristol"))
    there = similar(1, "tills at Bristol are down", 0.97, category="service_outage")
    assert link(subject("tills at Graz are down", "service_outage"), [there, *background()], sites) is None


def test_an_alert_that_explains_only_one_of_two_speaks_against_a_link() -> None:
    found = weigh(subject("wiki slow"), similar(1, "wiki slow", 0.7), HOUSE, words=0.5, alerts=[alert("wiki")])
    assert "unexplained" in {evidence.kind for evidence in found.evidence}


def test_a_fresh_release_of_the_named_service_is_evidence_and_an_old_one_is_not() -> None:
    def with_release(hours: float) -> set[str]:
        release = Deployment(id="dep-1", service="mobile-app", version="3.0.0", at=NOW - timedelta(hours=hours))
        found = weigh(subject("the app crashes"), similar(1, "the app crashes", 0.7), house(deployments=(release,)), words=0.5)
        return {evidence.kind for evidence in found.evidence}

    assert "same_deployment" in with_release(3)
    assert "same_deployment" not in with_release(30)


# --- the same requester again ---------------------------------------------------------------------------------------

ANNA = "anna@b.example"


def again(mine: str, earlier: str, cosine: float, category: str = "order_status") -> Link | None:
    other = similar(1, earlier, cosine, category=category, requester=ANNA)
    return link(subject(mine, category, requester=ANNA.upper()), [other, *background()], HOUSE)


@pytest.mark.parametrize(
    ("mine", "earlier", "cosine", "category"),
    [
        ("Me again about order 70140", "Where is order 70140 with the stickers?", 0.6, "order_status"),
        ("My laptop lid is broken, second mail", "The lid of my laptop broke off", 0.9, "hardware"),
        ("Refund of 158 € for the double charge, please", "I was charged 158.00 EUR twice, please give it back", 0.88, "refund"),
        ("license of Meshwright expired, I wrote already", "Meshwright license is expired, please renew", 0.8, "software_license"),
    ],
)
def test_the_same_requesters_same_matter_is_a_duplicate(mine: str, earlier: str, cosine: float, category: str) -> None:
    found = again(mine, earlier, cosine, category)
    assert found and (found.kind, found.incident_id) == (LinkKind.DUPLICATE, None)
    assert "same_requester" in kinds(found)


@pytest.mark.parametrize(
    ("mine", "earlier", "cosine", "category"),
    [
        ("Where is order 70141?", "Where is order 70140?", 0.97, "order_status"),
        ("Cancel SUB-445, we move on", "Please cancel our plan SUB-411", 0.9, "subscription"),
        ("Refund me 19.00 EUR", "Refund me 49.00 EUR", 0.97, "refund"),
        ("access to the Finance share", "access to the Marketing share", 0.9, "access_request"),
        ("unlock the account of qasd yugl", "please unlock mail on the phone of rabk zocj in Delhi", 0.87, "password_reset"),
        ("printer 12 jams", "printer 14 jams", 0.98, "hardware"),
        ("The chair is broken", "New monitor please", 0.3, "hardware"),
    ],
)
def test_the_same_requesters_next_matter_is_none(mine: str, earlier: str, cosine: float, category: str) -> None:
    assert again(mine, earlier, cosine, category) is None


def test_nobody_is_no_requester() -> None:
    other = similar(1, "Where is my parcel?", 0.99, category="order_status", requester="")
    found = link(subject("Where is my parcel?", "order_status", requester=""), [other, *background()], HOUSE)
    assert found is None or found.kind is LinkKind.INCIDENT


# --- properties -----------------------------------------------------------------------------------------------------

texts = st.text(max_size=120)


@given(
    texts,
    st.lists(
        st.tuples(
            texts,
            st.floats(-1, 1),
            st.sampled_from(["application_error", "vpn", "refund", None]),
            st.sampled_from(["", ANNA, "b@b.example"]),
            st.sampled_from([None, "INC-1"]),
        ),
        max_size=6,
    ),
)
def test_whatever_comes_a_link_is_to_a_candidate_and_can_be_written_down(text: str, others: list[tuple]) -> None:
    candidates = [
        similar(n, other, cosine, category=category, requester=requester, incident=incident)
        for n, (other, cosine, category, requester, incident) in enumerate(others, start=1)
    ]
    found = link(subject(text, requester=ANNA), candidates, house(CERTIFICATE))
    if found is not None:
        assert found.ticket_id in {candidate.ticket_id for candidate in candidates}
        assert 0 <= found.score <= 1
        assert json.dumps([(evidence.kind, evidence.detail, evidence.weight) for evidence in found.evidence], allow_nan=False)


@given(texts)
def test_a_text_is_never_its_own_form_filled_in_differently(text: str) -> None:
    assert other_filling(text, text) is None
