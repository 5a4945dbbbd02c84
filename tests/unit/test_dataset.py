"""From an export to a dataset: what is dropped, folded and replaced is counted, near-copies never cross a split, nothing leaks."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.domain.errors import BadInput, NotFound
from orchestrator.domain.triage import OTHERS
from orchestrator.intake.read_tickets import TicketRow, read_tickets
from training.data.build import build_dataset, load_dataset, save_dataset, source_record
from training.data.export import to_ticket_rows, write_ticket_rows
from training.data.language import language_of
from training.data.near import Union, alike_vectors, near_copies
from training.data.split import golden_size, split
from training.records import Dataset, Part

START = datetime(2025, 1, 1, tzinfo=UTC)
KINDS = ("vpn", "printer", "password reset")
WORDS = np.array(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau upsilon".split()
)


def rows(count: int = 90, *, dated: bool = False, seed: int = 0) -> list[TicketRow]:
    choose = np.random.default_rng(seed)
    return [
        TicketRow(
            id=f"R{number}",
            subject=f"{KINDS[number % 3]} {' '.join(choose.choice(WORDS, 3))}",
            description=" ".join(choose.choice(WORDS, 12)),
            category=KINDS[number % 3],
            created_at=START + timedelta(hours=number) if dated else None,
        )
        for number in range(count)
    ]


def row(number: int, text: str, category: str | None, **fields: object) -> TicketRow:
    return TicketRow(id=f"X{number}", subject="", description=text, category=category, **fields)  # type: ignore[arg-type]


def crossing(dataset: Dataset) -> int:
    """Clusters with tickets in more than one part."""
    parts: dict[int, set[str]] = {}
    for cluster, part in zip(dataset.clusters.tolist(), dataset.parts.tolist(), strict=True):
        parts.setdefault(cluster, set()).add(part)
    return sum(len(found) > 1 for found in parts.values())


# --- labels ---------------------------------------------------------------------------------------------------------------


def test_tickets_without_a_category_or_a_text_are_dropped_and_counted() -> None:
    dataset = build_dataset([*rows(), row(1, "no label here", None), row(2, "blank label", "  "), row(3, " ", "vpn")])
    assert len(dataset) == 90
    assert dataset.record["rows"] | {"x": 0} == {
        "read": 93, "without_category": 2, "without_text": 1, "repeats_dropped": 0, "contradicting_texts": 0,
        "contradicting_rows_dropped": 0, "labels_outvoted": 0, "x": 0,
    }  # fmt: skip


def test_out_of_scope_tickets_and_rare_types_are_others_and_others_comes_last() -> None:
    extra = [
        row(n, f"tell me joke number {WORDS[n]} {WORDS[-n]}", label) for n, label in enumerate(("OOS", "oos", "others", "Others"))
    ]
    rare = [row(10 + n, f"the coffee machine {WORDS[n]} is {WORDS[n + 5]}", "coffee") for n in range(3)]
    dataset = build_dataset([*rows(), *extra, *rare])
    assert dataset.classes == ("password reset", "printer", "vpn", OTHERS)
    assert dataset.record["labels"]["folded"] == {"coffee": 3}
    assert Counter(ticket.category for ticket in dataset.tickets)[OTHERS] == 7
    assert [dataset.classes[target] for target in dataset.targets()] == [ticket.category for ticket in dataset.tickets]


def test_spellings_that_differ_in_case_and_spaces_are_one_type() -> None:
    dataset = build_dataset([*rows(), row(1, "the vpn drops alpha", "VPN"), row(2, "reset it beta", "Password   reset")])
    assert dataset.classes == ("password reset", "printer", "vpn")
    assert dataset.record["labels"]["merged_spellings"] == {"Password reset": "password reset", "VPN": "vpn"}


def test_exact_duplicates_are_kept_once_and_contradictions_settled_by_majority_or_dropped() -> None:
    same = [row(n, "My  badge is LOST", "vpn", created_at=START + timedelta(days=9 - n)) for n in range(3)]
    outvoted = [row(10 + n, "screen flickers", label) for n, label in enumerate(("printer", "vpn", "vpn"))]
    tied = [row(20 + n, "something is odd", label) for n, label in enumerate(("printer", "vpn"))]
    dataset = build_dataset([*rows(), *same, *outvoted, *tied])
    assert len(dataset) == 92
    assert dataset.record["rows"]["repeats_dropped"] == 4
    assert dataset.record["rows"]["contradicting_texts"] == 2
    assert dataset.record["rows"]["contradicting_rows_dropped"] == 2
    assert dataset.record["rows"]["labels_outvoted"] == 1
    kept = {ticket.id: ticket for ticket in dataset.tickets}
    assert "X2" in kept and "X0" not in kept  # the oldest of the same
    assert kept["X10"].category == "vpn" and "X20" not in kept


@pytest.mark.parametrize(
    ("given_rows", "options", "says"),
    [
        ([row(1, "a", None)], {}, "--map category="),
        ([row(n, f"a {n}", "vpn") for n in range(20)], {}, "training needs two"),
        (rows(), {"validation": 0.9}, "shares"),
        (rows(), {"min_per_class": 1}, "at least 2"),
        (rows(), {"vectors": np.zeros((3, 4))}, "3 vectors for 90 tickets"),
    ],
)
def test_what_cannot_become_a_dataset_is_refused_with_the_reason(
    given_rows: list[TicketRow], options: dict[str, object], says: str
) -> None:
    with pytest.raises(BadInput, match=says):
        build_dataset(given_rows, **options)  # type: ignore[arg-type]


# --- personal data --------------------------------------------------------------------------------------------------------

SECRETS = ("Oddny Kvist", "oddny.kvist@acme.example", "555-123-4567", "hunter2!", "DE89 3704 0044 0532 0130 00")


def test_nothing_that_is_stored_holds_personal_data_and_the_record_holds_no_text(tmp_path: Path) -> None:
    private = [
        row(1, f"I am Oddny Kvist, {SECRETS[1]}, call {SECRETS[2]}; password: {SECRETS[3]} alphabeta", "vpn", requester=SECRETS[0]),
        row(2, f"refund to {SECRETS[4]} for oddny kvist gammadelta", "printer", extra={"caller": {"display_value": SECRETS[0]}}),
    ]
    dataset = build_dataset([*rows(), *private], people=["Somebody Else"])
    save_dataset(dataset, tmp_path)
    stored = (tmp_path / "dataset.jsonl").read_text(encoding="utf-8")
    assert all(secret.casefold() not in stored.casefold() for secret in SECRETS)
    assert dataset.record["redactions"]["by_kind"] == {"EMAIL": 1, "IBAN": 1, "PERSON": 2, "PHONE": 1, "SECRET": 1}
    assert dataset.record["redactions"]["tickets"] == 2
    record = (tmp_path / "dataset.json").read_text(encoding="utf-8")
    assert not any(word in record for word in ("alphabeta", "gammadelta", *SECRETS, "epsilon", "omicron", "upsilon", "lambda"))


def test_a_role_mailbox_and_a_code_name_are_nobodys_name() -> None:
    told = [row(1, "the team helpdesk and caller 12 ask", "vpn", requester="helpdesk@acme.example", extra={"caller": "caller 12"})]
    dataset = build_dataset([*rows(), *told])
    assert dataset.tickets[-1].description == "the team helpdesk and caller 12 ask"


# --- near-copies ----------------------------------------------------------------------------------------------------------

LETTER = "dear colleagues the nightly export of ledger {} to the warehouse has failed again with a timeout please look into it"


def test_texts_that_differ_in_a_number_or_a_word_are_near_copies() -> None:
    texts = [
        LETTER.format(7),
        LETTER.format("19"),
        LETTER.format(7).replace("colleagues", "friends"),
        "RE: " + LETTER.format(3),
        "vpn down",
    ]
    assert near_copies(texts).clusters.tolist() == [0, 0, 0, 0, 1]


def test_different_texts_are_not() -> None:
    texts = [one.subject + " " + one.description for one in rows(200)]
    assert len(set(near_copies(texts).clusters.tolist())) == 200


def test_texts_without_words_are_not_copies_of_other_texts() -> None:
    assert near_copies(["???", "!!!", "vpn", ""]).clusters.tolist() == [0, 0, 1, 0]


def test_ids_of_the_export_link_tickets_unless_they_are_on_half_of_them() -> None:
    extras = [{"Duplicate_of": "b"}, {}, {"incident_id": "INC1"}, {"incident_id": "INC1"}, {"parent": "none"}, {"parent": None}]
    near = near_copies(["p q r", "s t u", "v w x", "y z a", "b c d", "e f g"], ids=list("abcdef"), extras=extras)
    assert near.clusters.tolist() == [0, 0, 1, 1, 2, 3] and near.joined["ids"] == 2
    common = near_copies([f"w{n}x" * 3 for n in range(200)], ids=[str(n) for n in range(200)], extras=[{"parent": "IT"}] * 200)
    assert common.ignored == {"parent": 1} and common.joined["ids"] == 0


@given(st.integers(0, 2**32 - 1), st.sampled_from([4, 96]), st.sampled_from([0.6, 0.9, 0.95]))
@settings(max_examples=12, deadline=None)
def test_every_alike_pair_of_vectors_is_found_and_no_other(seed: int, dimensions: int, at_least: float) -> None:
    choose = np.random.default_rng(seed)
    centers = choose.normal(size=(6, dimensions))
    vectors = centers[choose.integers(0, 6, 120)] + choose.normal(size=(120, dimensions)) * choose.choice([0.05, 0.2, 0.4])
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    found = {
        tuple(sorted(pair))
        for a, b in alike_vectors(vectors, at_least=at_least)
        for pair in zip(a.tolist(), b.tolist(), strict=True)
    }
    cosine = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    surely = {(int(a), int(b)) for a, b in np.argwhere(np.triu(cosine >= at_least + 1e-5, 1))}
    perhaps = {(int(a), int(b)) for a, b in np.argwhere(np.triu(cosine >= at_least - 1e-5, 1))}
    assert surely <= found <= perhaps


@given(st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=40))
@settings(max_examples=60, deadline=None)
def test_union_joins_exactly_what_is_connected(pairs: list[tuple[int, int]]) -> None:
    union = Union(30)
    union.join(np.array([a for a, _ in pairs]), np.array([b for _, b in pairs]))
    expected = list(range(30))
    for _ in range(30):
        for a, b in pairs:
            expected[a] = expected[b] = min(expected[a], expected[b])
    numbers = union.numbers()
    assert all((numbers[a] == numbers[b]) == (expected[a] == expected[b]) for a in range(30) for b in range(30))


# --- split ----------------------------------------------------------------------------------------------------------------


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_no_cluster_crosses_a_split_and_every_type_trains(data: st.DataObject) -> None:
    count = data.draw(st.integers(10, 120))
    choose = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    targets = choose.integers(0, 4, count)
    clusters = np.unique(choose.integers(0, max(2, count // data.draw(st.integers(1, 5))), count), return_inverse=True)[1]
    dated = data.draw(st.sampled_from([0.0, 0.4, 0.8, 1.0]))
    times = [START + timedelta(hours=int(choose.integers(0, 50))) if choose.random() < dated else None for _ in range(count)]
    done = split(targets, clusters, times, validation=0.2, golden=0.1, seed=3)
    for cluster in np.unique(clusters):
        assert len(set(done.parts[clusters == cluster].tolist())) == 1
    for kind in np.unique(targets):
        members = targets == kind
        assert (done.parts[members] == "train").sum() >= min(4, members.sum())
    again = split(targets, clusters, times, validation=0.2, golden=0.1, seed=3)
    assert (again.parts == done.parts).all()


def test_by_time_the_newest_are_golden_and_those_before_them_validation() -> None:
    dataset = build_dataset(rows(1_500, dated=True))
    assert dataset.record["split"]["rule"] == "time" and crossing(dataset) == 0
    times = {part: [dataset.tickets[i].created_at for i in dataset.indices(part)] for part in Part}
    assert max(times[Part.TRAIN]) < min(times[Part.VALIDATION]) < max(times[Part.VALIDATION]) < min(times[Part.GOLDEN])  # type: ignore[type-var]
    assert {part: len(found) for part, found in times.items()} == {Part.TRAIN: 1_075, Part.VALIDATION: 225, Part.GOLDEN: 200}


def test_a_near_copy_of_an_old_ticket_goes_back_to_train_with_it() -> None:
    old, new = (
        row(1, LETTER.format(1), "vpn", created_at=START),
        row(2, LETTER.format(2), "vpn", created_at=START + timedelta(days=400)),
    )
    dataset = build_dataset([*rows(300, dated=True), old, new])
    where = {ticket.id: str(part) for ticket, part in zip(dataset.tickets, dataset.parts, strict=True)}
    assert where["X1"] == where["X2"] == "train"
    assert dataset.record["split"]["moved_to_keep_near_copies_together"] == 1


def test_without_times_the_split_is_by_cluster_and_keeps_the_mix_of_types() -> None:
    dataset = build_dataset(rows(1_500), seed=1)
    assert dataset.record["split"]["rule"] == "cluster" and crossing(dataset) == 0
    assert dataset.record["per_part"] == {"train": 1_075, "validation": 225, "golden": 200}
    for part, size in (("validation", 225), ("golden", 200)):
        assert all(abs(counts[part] - size / 3) <= 1 for counts in dataset.record["per_class"].values())
    assert build_dataset(rows(1_500), seed=2).digest != dataset.digest == build_dataset(rows(1_500), seed=1).digest


@pytest.mark.parametrize(
    ("tickets", "share", "size"), [(100, 0.05, 20), (1_000, 0.05, 200), (10_000, 0.05, 500), (90_000, 0.05, 2_000), (5_000, 0, 0)]
)
def test_the_golden_part_has_200_to_2000_tickets_and_at_most_a_fifth(tickets: int, share: float, size: int) -> None:
    assert golden_size(tickets, share) == size


def test_vectors_keep_paraphrases_together() -> None:
    given_rows = [*rows(60), row(1, "cannot print", "printer"), row(2, "the printing does not work", "printer")]
    vectors = np.random.default_rng(0).normal(size=(62, 64))
    vectors[61] = vectors[60] + 0.01
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for options in ({"vectors": vectors}, {"embed": lambda texts: vectors[: len(texts)]}):
        dataset = build_dataset(given_rows, **options)  # type: ignore[arg-type]
        assert dataset.clusters[-1] == dataset.clusters[-2]
        assert dataset.record["near_copies"]["joined_by"] == {"text": 0, "vectors": 1, "ids": 0}


# --- files ----------------------------------------------------------------------------------------------------------------


def test_a_saved_dataset_comes_back_the_same_and_a_changed_one_is_refused(tmp_path: Path) -> None:
    dataset = build_dataset(rows(dated=True))
    save_dataset(dataset, tmp_path)
    back = load_dataset(tmp_path)
    assert back.tickets == dataset.tickets and back.classes == dataset.classes and back.record == dict(dataset.record)
    assert (back.parts == dataset.parts).all() and (back.clusters == dataset.clusters).all()
    path = tmp_path / "dataset.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace("alpha", "omega", 1), encoding="utf-8")
    with pytest.raises(BadInput, match="were changed"):
        load_dataset(tmp_path)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(BadInput, match="cannot be read"):
        load_dataset(tmp_path)
    with pytest.raises(NotFound, match="there is no dataset"):
        load_dataset(tmp_path / "nowhere")


def test_a_part_written_as_a_file_reads_back_as_tickets(tmp_path: Path) -> None:
    outside = [row(n, f"tell me {WORDS[n]} {WORDS[n + 1]} of the {WORDS[n + 2]}", "oos") for n in range(10)]
    dataset = build_dataset([*rows(dated=True), *outside])
    path = tmp_path / "golden.jsonl"
    assert write_ticket_rows(dataset, path, Part.GOLDEN, Part.TRAIN) == len(dataset.indices(Part.GOLDEN, Part.TRAIN))
    back = read_tickets(path)
    assert [one.category for one in back] == [one["category"] for one in to_ticket_rows(dataset, Part.GOLDEN, Part.TRAIN)]
    assert {one.category for one in back} == {*KINDS, "oos"} and back[0].created_at == dataset.tickets[0].created_at


def test_any_csv_with_renamed_fields_becomes_a_dataset(tmp_path: Path) -> None:
    path = tmp_path / "export.csv"
    lines = [f'{n},"{one.description}",{one.category},de' for n, one in enumerate(rows())]
    path.write_text("\n".join(["number,short_description,kind,language", *lines]), encoding="utf-8")
    mapping = {"id": "number", "subject": "short_description", "category": "kind"}
    dataset = build_dataset(read_tickets(path, mapping), source=source_record(path, mapping))
    assert dataset.record["source"]["file"] == "export.csv" and dataset.record["source"]["map"] == mapping
    assert dataset.record["per_language"] == {"de": 90} and len(dataset.record["source"]["sha256"]) == 64
    json.dumps(dict(dataset.record))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("The printer does not work since this morning, please help", "en"),
        ("Der Drucker funktioniert seit heute nicht mehr, bitte helfen Sie", "de"),
        ("Bonjour, je ne peux plus me connecter à ma messagerie", "fr"),
        ("Hola, no puedo entrar en mi cuenta desde ayer", "es"),
        ("Olá, não consigo acessar a minha conta", "pt"),
        ("打印机坏了，请帮忙", "zh"),
        ("Принтер не работает", "ru"),
        ("プリンターが動きません", "ja"),
        ("VPN", "?"),
    ],
)
def test_the_language_is_guessed(text: str, code: str) -> None:
    assert language_of(text) == code


def test_real_tickets_become_a_dataset_in_which_nothing_crosses(data_folder: Path) -> None:
    found = read_tickets(data_folder / "banking77/train.jsonl.gz", {"description": "text"})[::5]
    dataset = build_dataset(found)
    assert crossing(dataset) == 0 and len(dataset.classes) == 77
    assert all(counts["train"] >= 4 for counts in dataset.record["per_class"].values())
