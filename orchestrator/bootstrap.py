"""Join the parts of the desk. The one place of the orchestrator that knows implementations; everything else knows ports."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

from orchestrator.connectors.http import HttpSystemsOfRecord
from orchestrator.pipeline.desk import Desk
from orchestrator.pipeline.house import House
from orchestrator.pipeline.triage import LINK_WINDOW, Classifier, Triager
from orchestrator.ports import Clock, Embedder, LanguageModel, SystemsOfRecord
from orchestrator.resolution import drive
from orchestrator.resolution.catalog import load_catalog
from orchestrator.resolution.playbook import COMPANY, load_playbook
from orchestrator.sandbox import tokens
from orchestrator.storage.migrate import migrate_when_up
from orchestrator.storage.store import PostgresStore
from orchestrator.triage.classify import load_cascade
from orchestrator.triage.taxonomy import load_taxonomy


def utc_now() -> datetime:
    return datetime.now(UTC)


def open_store(dsn: str, *, pool_size: int = 12) -> PostgresStore:
    """The store, migrated to this version."""
    migrate_when_up(dsn)
    return PostgresStore(dsn, max_connections=max(2, pool_size))


def open_systems(url: str, secret: str, *, clock: Clock = utc_now) -> HttpSystemsOfRecord:
    """Systems of record behind one address (the sandbox's shape), each with its own read and write token."""
    return HttpSystemsOfRecord(
        load_catalog(), base_urls=dict.fromkeys(tokens.SYSTEMS, url), tokens=tokens.tokens(secret), clock=clock
    )


def load_classifier(
    language_model: LanguageModel | None, *, folder: Path | None = None, embedder: Embedder | None = None
) -> Classifier:
    """The cascade of the model in `folder` (none: the bundled one), with its own types."""
    return load_cascade(language_model, folder=folder, embedder=embedder)


def build_desk(
    *,
    store: PostgresStore,
    systems: SystemsOfRecord,
    embedder: Embedder,
    language_model: LanguageModel,
    classifier: Classifier,
    secret: bytes,
    company: Path | None = None,
    threads: int = 8,
    clock: Clock = utc_now,
    link_window: timedelta = LINK_WINDOW,
    model: str = "live",
    reads_in_shadow: bool = False,
) -> Desk:
    """A desk ready to work. `secret` (at least 16 bytes, the same for all workers) is what one-time codes are derived from."""
    playbook = load_playbook(company or COMPANY)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="systems")
    house = House(systems=systems, clock=clock, pool=pool)
    taxonomy = load_taxonomy((company or COMPANY) / "taxonomy.yaml")
    triager = Triager(
        store=store,
        embedder=embedder,
        classifier=classifier,
        taxonomy=taxonomy,
        house=house,
        clock=clock,
        link_window=link_window,
    )
    resolution = drive.Desk(
        playbook=playbook,
        store=store,
        systems=systems,
        language_model=language_model,
        embedder=embedder,
        clock=clock,
        pool=pool,
        secret=secret,
        model=model,
        reads_in_shadow=reads_in_shadow,
    )
    return Desk(
        store=store,
        systems=systems,
        embedder=embedder,
        triager=triager,
        resolution=resolution,
        house=house,
        pool=pool,
        clock=clock,
        knowledge=(company or COMPANY) / "knowledge",
    )
