"""The one statement that finds passages: who may see what and when, on both rankings; authority, age, languages; nothing lost."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from orchestrator.ports import Passage, Reader
from orchestrator.storage.store import PostgresStore

TODAY = datetime.now(UTC).date()
INSIDE = Reader(audience="internal")


def vector(*values: float) -> np.ndarray:
    padded = np.zeros(4, dtype=np.float32)
    padded[: len(values)] = values
    return padded / np.linalg.norm(padded)


def put(store: PostgresStore, name: str, text: str = "tunnel client", at: np.ndarray | None = None, **about: Any) -> None:
    document: Mapping[str, Any] = {"id": name, "title": name, "audience": "requester", "digest": name + str(about), **about}
    with store.transaction() as tx:
        tx.put_document(document, [("Head", text, vector(1) if at is None else at)], model="m")


def find(store: PostgresStore, words: str = "tunnel", at: np.ndarray | None = None, **how: Any) -> list[Passage]:
    return store.run(lambda tx: tx.search_knowledge("m", vector(1) if at is None else at, words, limit=how.pop("limit", 20), **how))


def names(found: list[Passage]) -> list[str]:
    return [passage.document_id for passage in found]


LIMITS = [
    ({"audience": "internal"}, INSIDE),
    ({"groups": ["leads"]}, Reader(groups=("staff", "leads"))),
    ({"regions": ["Europe"]}, Reader(region="Europe")),
    ({"plans": ["Chain"]}, Reader(plan="Chain")),
]


@pytest.mark.parametrize(("about", "reader"), LIMITS)
def test_a_document_is_found_by_its_readers_alone_by_meaning_and_by_words(
    store: PostgresStore, about: dict[str, Any], reader: Reader
) -> None:
    """One document is near in meaning alone, one in words alone: neither way leads past the limit."""
    put(store, "by-meaning", "something else", **about)
    put(store, "by-words", "tunnel", vector(0, 1), **about)
    put(store, "open", "tunnel")
    assert names(find(store)) == ["open"]
    assert names(find(store, reader=Reader(groups=("staff",), region="Asia", plan="Free"))) == ["open"]
    assert sorted(names(find(store, reader=reader))) == ["by-meaning", "by-words", "open"]


def test_each_day_has_its_own_version_of_a_policy(store: PostgresStore) -> None:
    """The new one replaces the old one from the day on which it takes effect, and not a day before."""
    put(store, "v1", effective_on="2026-01-01")
    put(store, "v2", effective_on=(TODAY + timedelta(days=10)).isoformat(), supersedes=["v1"])
    assert names(find(store)) == ["v1"]
    assert names(find(store, on=TODAY + timedelta(days=9))) == ["v1"]
    assert names(find(store, on=TODAY + timedelta(days=10))) == ["v2"]
    assert names(find(store, on=date(2025, 12, 31))) == []


def test_what_has_expired_replaces_nothing_any_more(store: PostgresStore) -> None:
    put(store, "standing")
    put(store, "holiday", supersedes=["standing"], expires_on=TODAY.isoformat())
    assert names(find(store)) == ["standing"]
    assert names(find(store, on=TODAY - timedelta(days=1))) == ["holiday"]


def test_a_policy_beats_an_article_that_is_as_near(store: PostgresStore) -> None:
    for name, authority in (("a-article", "article"), ("b-policy", "policy")):
        put(store, name, "tunnel client rules", authority=authority, effective_on="2026-01-01", title="rules")
    assert names(find(store)) == ["b-policy", "a-article"]


def test_a_policy_does_not_beat_what_is_clearly_nearer(store: PostgresStore) -> None:
    put(store, "article", "tunnel client")
    for number in range(4):
        put(store, f"other-{number}", "tunnel", vector(1, 0.1 + number / 10))
    put(store, "policy", "nothing of it", vector(0.2, 1), authority="policy")
    assert names(find(store, "tunnel client"))[0] == "article"


def test_the_newer_of_two_that_are_as_near_comes_first(store: PostgresStore) -> None:
    for name, day in (("a-old", "2019-01-01"), ("b-new", "2026-06-01"), ("c-undated", None)):
        put(store, name, "tunnel client rules", effective_on=day, title="rules")
    assert names(find(store)) == ["b-new", "a-old", "c-undated"]


def test_what_took_effect_lately_gains_one_place(store: PostgresStore) -> None:
    """One place in one of the rankings, and no more than that."""
    today = TODAY.isoformat()
    put(store, "a-old", "tunnel client rules", vector(1, 0), effective_on="2010-01-01", title="rules")
    put(store, "b-new", "tunnel client rules", vector(1, 0.1), effective_on=today, title="rules")
    assert names(find(store)) == ["b-new", "a-old"]
    for number in range(3):
        put(store, f"between-{number}", "else", vector(1, 0.01 * number), effective_on="2010-01-01")
    assert names(find(store))[0] == "a-old"


def test_words_are_found_however_their_own_language_bends_them(store: PostgresStore) -> None:
    put(store, "german", "Die Erstattungen werden gezahlt", vector(0, 1), language="de")
    put(store, "english", "The refunds were approved", vector(0, 1), language="en")
    put(store, "french", "Les remboursements sont payés", vector(0, 1), language="fr")
    put(store, "other", "nothing of it", vector(0, 1))
    for words, wanted in (("Erstattung", "german"), ("approve refund", "english"), ("remboursement", "french"), ("payé", "french")):
        ranked = [passage for passage in find(store, words, vector(0, 0, 1)) if passage.text_rank]
        assert names(ranked) == [wanted], words


def test_words_without_meaning_find_nothing(store: PostgresStore) -> None:
    put(store, "stop", "how do I and what is the")
    assert all(passage.text_rank is None for passage in find(store, "how do I the what"))


def test_both_places_are_told_and_both_count(store: PostgresStore) -> None:
    put(store, "both", "tunnel client", vector(1, 0.1))
    put(store, "meaning", "else", vector(1, 0.05))
    put(store, "words", "tunnel tunnel client", vector(0, 1))
    found = {passage.document_id: (passage.vector_rank, passage.text_rank) for passage in find(store, "tunnel client")}
    assert found["meaning"] == (1, None) and found["both"][0] == 2 and found["both"][1] is not None
    assert names(find(store, "tunnel client"))[0] == "both"


def test_few_readable_ones_among_many_are_all_found(store: PostgresStore) -> None:
    """Limits are decided before the rankings are cut: nearer passages that may not be seen push nothing out."""
    with store.transaction() as tx:
        for number in range(300):
            hidden = number % 30 != 0
            about = {"id": f"d{number}", "title": "t", "digest": "d", "audience": "internal" if hidden else "requester"}
            near = vector(1, 0.001 * number) if hidden else vector(1, 2 + 0.001 * number)
            tx.put_document(about, [("Head", "tunnel", near)], model="m")
    assert len(find(store, limit=50)) == 10


def test_a_question_of_a_megabyte_is_answered(store: PostgresStore) -> None:
    put(store, "open", "tunnel client")
    assert names(find(store, "tunnel " + "word' | \\ & ! ) ( " * 60_000)) == ["open"]


def test_the_version_and_the_dates_of_what_was_found_are_told(store: PostgresStore) -> None:
    put(store, "told", version="7", effective_on="2026-01-01", reviewed_on="2026-02-02", authority="policy")
    (found,) = find(store)
    assert (found.version, found.effective_on, found.reviewed_on, found.authority) == ("7", "2026-01-01", "2026-02-02", "policy")
    put(store, "bare", digest="0123456789abcdef")
    assert {passage.document_id: passage.version for passage in find(store)}["bare"] == "0123456789ab"
