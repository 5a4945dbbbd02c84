"""A worker's models follow the desired aliases: live, canary and shadow, broken models, another embedder. Real store and folders."""

import json
import shutil
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.local import ADAPTER, STORE
from models.manifest import Kind, read, write
from orchestrator.bootstrap import load_embedding, load_served
from orchestrator.domain.aliases import DesiredAlias
from orchestrator.domain.errors import ConfigurationError, ModelUnavailable
from orchestrator.domain.triage import Classification, Entities
from orchestrator.pipeline.following import DeskEmbedder, Following, Loader
from orchestrator.pipeline.models import Served, TriageModels
from orchestrator.pipeline.reembed import Reembedding
from orchestrator.pipeline.shadowing import Shadowing
from orchestrator.pipeline.triage import Batch
from orchestrator.standins import HashEmbedder, NamedClassifier
from orchestrator.storage.store import PostgresStore
from orchestrator.triage.taxonomy import load_taxonomy
from tests.integration.test_storage_aliases import accept

OLD, NEW, TUNED = (f"{name}@sha256-{digit * 64}" for name, digit in (("desk", "a"), ("desk", "b"), ("words", "c")))
TAXONOMY = load_taxonomy()
BUNDLED = DesiredAlias(task="triage", alias="live", name=f"bundled@sha256-{'0' * 64}", path="/bundled")


class Fails:
    def classify(self, texts: Sequence[str], vectors: np.ndarray) -> list[Classification]:
        raise RuntimeError("a candidate that breaks")


def served(row: DesiredAlias, embedder: Any = None) -> Served:
    """By folder: /gone cannot be loaded, /fails breaks on tickets, others know one type."""
    if row.path == "/gone":
        raise ConfigurationError(f"{row.name} has no files.")
    classifier = Fails() if row.path == "/fails" else NamedClassifier(names=(row.path.strip("/"),))
    return Served(classifier=classifier, taxonomy=TAXONOMY, alias=row.alias, name=row.name)


def embedding(row: DesiredAlias | None) -> DeskEmbedder:
    return DeskEmbedder(embedder=HashEmbedder(name=row.name if row else "bundled"), duplicate_cosine=0.8 if row else 0.87)


def follow(store: PostgresStore) -> Following:
    loader = Loader(triage=served, embedding=embedding, bundled=BUNDLED)
    again = Reembedding(store=store, clock=lambda: datetime.now(UTC), link_window=timedelta(hours=24))
    return Following(store=store, loader=loader, replica="r1", reembedding=again, shadowing=Shadowing(store))


def desire(store: PostgresStore, *rows: DesiredAlias) -> None:
    store.run(lambda tx: tx.project_aliases(lambda: rows))


def row(alias: str, name: str, path: str, **more: Any) -> DesiredAlias:
    return DesiredAlias(task="triage", alias=alias, name=name, path=path, **more)


def told(following: Following, alias: str) -> dict[str, Any]:
    found: dict[str, Any] = following.status()["aliases"][alias]
    return found


def test_without_an_alias_the_bundled_model_is_live_and_a_promotion_takes_its_place(store: PostgresStore) -> None:
    following = follow(store)
    with pytest.raises(ModelUnavailable, match="not looked for"):
        following()
    following.look()
    assert following().live.name == BUNDLED.name
    before = following()
    desire(store, row("live", NEW, "/new"))
    following.look()
    assert following().live.name == NEW and before.live.name == BUNDLED.name, "a batch under way keeps what it began with"
    (report,) = store.run(lambda tx: tx.model_reports(fresh_s=30))
    assert report["body"]["aliases"]["triage/live"] == {"desired": NEW, "healthy": True, "answers_with": NEW, "problem": ""}


def test_a_promotion_waits_until_every_replica_of_the_language_model_serves_it(store: PostgresStore) -> None:
    following = follow(store)
    desire(store, row("live", OLD, "/old"))
    following.look()
    desire(store, row("live", NEW, "/new"))
    for replica, adapters in (("a", [OLD, NEW]), ("b", [OLD])):
        store.run(lambda tx, r=replica, names=adapters: tx.report_models("language_model", r, {"adapters": names}))
    following.look()
    assert following().live.name == OLD and "b does not serve" in told(following, "triage/live")["problem"]
    store.run(lambda tx: tx.report_models("language_model", "b", {"adapters": [NEW]}))
    following.look()
    assert following().live.name == NEW and told(following, "triage/live")["healthy"]


def test_a_broken_promotion_leaves_the_last_good_model_also_after_a_restart(store: PostgresStore) -> None:
    following = follow(store)
    desire(store, row("live", OLD, "/old"))
    following.look()
    desire(store, row("live", NEW, "/gone"))
    for each in (following, follow(store)):
        each.look()
        assert each().live.name == OLD
        health = told(each, "triage/live")
        assert (health["healthy"], health["desired"], health["answers_with"]) == (False, NEW, OLD)
        assert "has no files" in health["problem"]


def test_where_nothing_can_be_loaded_the_work_waits(store: PostgresStore) -> None:
    desire(store, row("live", NEW, "/gone"))
    following = follow(store)
    following.look()
    with pytest.raises(ModelUnavailable, match="has no files"):
        following()


def test_a_canary_decides_its_share_always_of_the_same_tickets(store: PostgresStore) -> None:
    desire(store, row("live", OLD, "/vpn"), row("canary", NEW, "/network", percent=20))
    following = follow(store)
    following.look()
    models = following()
    ids = [f"T-{number}" for number in range(1001, 3001)]
    share = {ticket_id for ticket_id in ids if models.served_to(ticket_id).name == NEW}
    assert 0.17 < len(share) / len(ids) < 0.23
    wider = replace(models, canary_percent=40.0)
    assert share < {ticket_id for ticket_id in ids if wider.served_to(ticket_id).name == NEW}
    found = models.classify(ids, ["vpn network"] * len(ids), np.zeros((len(ids), 4)))
    said = {ticket_id: (one.alias, one.classifier, one.category) for ticket_id, (one, _) in zip(ids, found, strict=True)}
    assert {said[ticket_id] for ticket_id in share} == {("canary", NEW, "network")}
    assert {said[ticket_id] for ticket_id in set(ids) - share} == {("live", OLD, "vpn")}


def test_what_a_canary_fails_on_goes_to_the_live_model(store: PostgresStore) -> None:
    desire(store, row("live", OLD, "/vpn"), row("canary", NEW, "/fails", percent=100))
    following = follow(store)
    following.look()
    ((one, by),) = following().classify(["T-1"], ["vpn"], np.zeros((1, 4)))
    assert (one.alias, one.category, by.name) == ("live", "vpn", OLD)


def test_a_broken_canary_is_told_and_serves_nobody(store: PostgresStore) -> None:
    desire(store, row("live", OLD, "/vpn"), row("canary", NEW, "/gone", percent=100))
    following = follow(store)
    following.look()
    assert following().canary is None and not told(following, "triage/canary")["healthy"]
    assert told(following, "triage/live")["healthy"]


def test_a_shadow_says_what_it_would_have_said_and_gives_way(store: PostgresStore) -> None:
    ids = accept(store, ["vpn network", "network"])
    before = [store.run(lambda tx, i=i: tx.ticket_record(i)) for i in ids]
    desire(store, row("live", OLD, "/vpn"), row("shadow", NEW, "/network"))
    following = follow(store)
    following.look()
    shadowing = following.shadowing
    assert shadowing is not None
    batch = Batch(ids=tuple(ids), texts=("vpn network", "network"), vectors=np.zeros((2, 4)), models=following())
    for _ in range(6):  # nobody looks at them yet: two too many
        shadowing.offer(batch)
    assert shadowing.status() == {"predicted": 0, "dropped": 4, "failed": 0, "waiting_batches": 4}
    stopping = threading.Event()
    thread = threading.Thread(target=shadowing.run, args=(stopping,))
    thread.start()
    while shadowing.status()["predicted"] < 8:
        thread.join(0.02)
    stopping.set()
    thread.join(10)
    found = store.run(lambda tx: tx.shadow_predictions(name=NEW))
    assert {(one["ticket_id"], one["category"]) for one in found} == {(ticket_id, "network") for ticket_id in ids}
    assert [store.run(lambda tx, i=i: tx.ticket_record(i)) for i in ids] == before


def test_a_new_embedder_takes_new_tickets_at_once_and_fills_the_window_behind(store: PostgresStore) -> None:
    following = follow(store)
    following.look()
    ids = accept(store, ["one", "two", "three"])
    old = HashEmbedder(name="bundled")
    with store.transaction() as tx:
        tx.save_embeddings("bundled", [(i, v, Entities()) for i, v in zip(ids, old.embed(ids), strict=True)])
        tx.put_document({"id": "d", "title": "T", "digest": "1"}, [("H", "text", old.embed(["text"])[0])], model="bundled")
    desire(store, DesiredAlias(task="embedding", alias="live", name=TUNED, path="/words"))
    following.look()
    assert (following().embedder.name, following().duplicate_cosine) == (TUNED, 0.8)
    assert following.reembedding.left(following().embedder) == {"tickets": 3, "passages": 1}
    following.catch_up(seconds=10)
    assert following.status()["reembedding"] == {"model": TUNED, "tickets": 0, "passages": 0}
    assert len(store.run(lambda tx: tx.embeddings(TUNED, ids))) == 3
    assert len(store.run(lambda tx: tx.embeddings("bundled", ids))) == 3, "the way back is there"


def test_a_classifier_is_never_given_vectors_of_an_embedder_that_it_was_not_loaded_beside(store: PostgresStore) -> None:
    """The live model cannot be loaded again beside the new embedder: everything stays as it was."""
    following = follow(store)
    desire(store, row("live", OLD, "/old"))
    following.look()
    following.loader = replace(following.loader, triage=lambda row, beside: served(replace(row, path="/gone")))
    desire(store, row("live", OLD, "/old"), DesiredAlias(task="embedding", alias="live", name=TUNED, path="/words"))
    following.look()
    models: TriageModels = following()
    assert (models.live.name, models.embedder.name) == (OLD, "bundled")
    assert not told(following, "triage/live")["healthy"]


def test_a_model_is_loaded_only_under_its_own_name_and_whole(tmp_path: Path) -> None:
    folder = tmp_path / "triage"
    shutil.copytree(STORE / ADAPTER, folder)
    name = read(folder).full_name
    found = load_served(row("live", name, str(folder)), HashEmbedder(), None)
    assert (found.name, found.taxonomy.names) == (name, TAXONOMY.names)
    with pytest.raises(ConfigurationError, match="holds"):
        load_served(row("live", NEW, str(folder)), HashEmbedder(), None)
    with pytest.raises(ConfigurationError, match="no folder"):
        load_served(row("live", name, ""), HashEmbedder(), None)
    (folder / "cascade.json").write_text("{}")
    with pytest.raises(ConfigurationError, match=r"cascade\.json"):
        load_served(row("live", name, str(folder)), HashEmbedder(), None)


def test_a_tuned_embedder_brings_its_own_duplicate_threshold(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    folder = tmp_path / "words"
    folder.mkdir()
    save_file({"weight": np.ones(3, dtype=np.float32)}, folder / "model.safetensors")
    settings = {"pooling": "mean", "normalize": True, "max_tokens": 256, "dimensions": 8, "duplicate_threshold": {"cosine": 0.91}}
    (folder / "embedder.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text("{}")
    name = write(folder, name="words", kind=Kind.EMBEDDER).full_name
    alias = DesiredAlias(task="embedding", alias="live", name=name, path=str(folder))
    bundled = HashEmbedder(name="bundled")
    found = load_embedding(alias, bundled=bundled, named=lambda full, size: HashEmbedder(name=full, dimensions=size))
    assert (found.embedder.name, found.embedder.dimensions, found.duplicate_cosine) == (name, 8, 0.91)
    assert load_embedding(None, bundled=bundled, named=lambda full, size: bundled).embedder is bundled
