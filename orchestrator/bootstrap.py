"""Join the parts of the desk. The one place of the orchestrator that knows implementations; everything else knows ports."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from models.local import ADAPTER, STORE
from models.manifest import ModelRefused, read, verify
from orchestrator.audit import note
from orchestrator.connectors.configured import read_connectors
from orchestrator.connectors.dispatch import Closable, DispatchedSystems
from orchestrator.connectors.http import HttpSystemsOfRecord
from orchestrator.domain.aliases import LIVE, TRIAGE, DesiredAlias
from orchestrator.domain.errors import ConfigurationError
from orchestrator.knowledge.glossary import load_glossary
from orchestrator.pipeline.desk import Desk
from orchestrator.pipeline.following import DeskEmbedder, Following, Loader
from orchestrator.pipeline.house import House
from orchestrator.pipeline.models import Classifier, Models, Served, TriageModels, standing
from orchestrator.pipeline.notary import Notary
from orchestrator.pipeline.reembed import Reembedding
from orchestrator.pipeline.shadowing import Shadowing
from orchestrator.pipeline.triage import LINK_WINDOW, Triager
from orchestrator.ports import Clock, Embedder, LanguageModel, Reranker, SystemsOfRecord
from orchestrator.privacy.outgoing import Guard
from orchestrator.resolution import drive
from orchestrator.resolution.catalog import load_catalog
from orchestrator.resolution.playbook import COMPANY, load_playbook
from orchestrator.sandbox import tokens
from orchestrator.storage.migrate import migrate_when_up
from orchestrator.storage.store import PostgresStore
from orchestrator.triage.classify import Cascade, load_cascade
from orchestrator.triage.link import DUPLICATE_COSINE
from orchestrator.triage.taxonomy import load_taxonomy


def utc_now() -> datetime:
    return datetime.now(UTC)


def open_store(dsn: str, *, pool_size: int = 12) -> PostgresStore:
    """The store, migrated to this version."""
    migrate_when_up(dsn)
    return PostgresStore(dsn, max_connections=max(2, pool_size))


def open_systems(
    url: str, secret: str, *, clock: Clock = utc_now, company: Path = COMPANY, environment: Mapping[str, str] | None = None
) -> Closable:
    """Systems of record, each with its own read and write token: behind one address (the sandbox's shape), but those that the
    company's connectors.yaml names elsewhere. Tools go to their MCP servers; one whose definition changed is disabled."""
    actions = load_catalog(company / "actions.yaml")
    own = read_connectors(company / "connectors.yaml", os.environ if environment is None else environment)
    requests = HttpSystemsOfRecord(
        actions,
        base_urls={**dict.fromkeys(tokens.SYSTEMS, url), **own.base_urls},
        tokens={**tokens.tokens(secret), **own.tokens},
        clock=clock,
    )
    if not own.servers and not any(action.tool for action in actions.values()):
        return requests
    from orchestrator.connectors.mcp import McpSystemsOfRecord  # heavy, and few need it

    return DispatchedSystems(actions, requests=requests, tools=McpSystemsOfRecord(actions, servers=own.servers, clock=clock))


def open_notary(
    store: PostgresStore,
    home: Path,
    *,
    folders: Sequence[str] = (),
    key: str | None = None,
    origin: str = "cloister",
    clock: Clock = utc_now,
    **limits: Any,
) -> Notary:
    """Who signs the log, with the key and the folders in `home` where none are named. Raises ConfigurationError."""
    signer = note.signer(Path(key) if key else home / "audit" / "audit.pem", origin)
    where = [Path(folder) for folder in folders] or [home / "audit" / "checkpoints"]
    return Notary(store=store, signer=signer, folders=where, clock=clock, **limits)


def load_classifier(
    language_model: LanguageModel | None, *, folder: Path | None = None, embedder: Embedder | None = None
) -> Classifier:
    """The cascade of the model in `folder` (none: the bundled one), with its own types."""
    return load_cascade(language_model, folder=folder, embedder=embedder)


def load_served(row: DesiredAlias, embedder: Embedder, language_model: LanguageModel | None) -> Served:
    """The model that an alias stands for, every file verified; it asks the language model by its own full name.

    Raises ConfigurationError.
    """
    if not row.path:
        raise ConfigurationError(f"{row.name} has no folder.", hint="Import it into the registry and move the alias again.")
    cascade = load_cascade(language_model, folder=Path(row.path), embedder=embedder)
    if cascade.model != row.name:
        raise ConfigurationError(f"{row.path} holds {cascade.model}, not {row.name}.", hint="Import it again.")
    return Served(classifier=cascade, taxonomy=cascade.taxonomy, alias=row.alias, name=row.name)


def load_embedding(row: DesiredAlias | None, *, bundled: Embedder, named: Callable[[str, int], Embedder]) -> DeskEmbedder:
    """The desk's embedder; `named(full name, dimensions)` reaches a served one. Raises ConfigurationError."""
    if row is None:
        return DeskEmbedder(embedder=bundled, duplicate_cosine=DUPLICATE_COSINE)
    try:
        verify(Path(row.path), expect=row.name)
        settings = json.loads((Path(row.path) / "embedder.json").read_text(encoding="utf-8"))
        return DeskEmbedder(
            embedder=named(row.name, int(settings["dimensions"])),
            duplicate_cosine=_duplicate_cosine(settings.get("duplicate_threshold")),
        )
    except (ModelRefused, OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"The embedder {row.name} cannot be used: {error}") from error


def _duplicate_cosine(found: Any) -> float:
    """`{"cosine": 0.83, ...}` of a tuned embedder; the usual one where it says nothing. Raises ValueError."""
    if found is None:
        return DUPLICATE_COSINE
    cosine = float(found["cosine"] if isinstance(found, Mapping) else found)
    if not 0 < cosine <= 1:
        raise ValueError(f"its duplicate threshold is {cosine}, must be in (0, 1]")
    return cosine


def follow_aliases(
    *,
    store: PostgresStore,
    language_model: LanguageModel | None,
    embedder: Embedder,
    named: Callable[[str, int], Embedder],
    replica: str,
    clock: Clock = utc_now,
    link_window: timedelta = LINK_WINDOW,
) -> Following:
    """Models that follow the desired aliases; without any, the bundled ones. `embedder` is the bundled one."""
    bundled = STORE / ADAPTER
    return Following(
        store=store,
        loader=Loader(
            triage=lambda row, beside: load_served(row, beside, language_model),
            embedding=lambda row: load_embedding(row, bundled=embedder, named=named),
            bundled=DesiredAlias(task=TRIAGE, alias=LIVE, name=read(bundled).full_name, path=str(bundled)),
        ),
        replica=replica,
        reembedding=Reembedding(store=store, clock=clock, link_window=link_window),
        shadowing=Shadowing(store),
    )


def build_desk(
    *,
    store: PostgresStore,
    systems: SystemsOfRecord,
    embedder: Embedder,
    language_model: LanguageModel,
    secret: bytes,
    models: Models | None = None,
    classifier: Classifier | None = None,
    shadowing: Shadowing | None = None,
    company: Path | None = None,
    threads: int = 8,
    clock: Clock = utc_now,
    link_window: timedelta = LINK_WINDOW,
    model: str = "live",
    reads_in_shadow: bool = False,
    reranker: Reranker | None = None,
) -> Desk:
    """A desk ready to work: on `models`, which may change from batch to batch, or always on this `embedder` and `classifier`.

    `secret` (at least 16 bytes, the same for all workers) is what one-time codes are derived from.
    """
    playbook = load_playbook(company or COMPANY)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="systems")
    guard = Guard()
    house = House(systems=systems, clock=clock, pool=pool, guard=guard)
    models = models or _standing(embedder, classifier, company or COMPANY)
    triager = Triager(
        store=store,
        models=models,
        house=house,
        clock=clock,
        link_window=link_window,
        after=shadowing.offer if shadowing else None,
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
        rewrite=load_glossary((company or COMPANY) / "glossary.yaml").rewrite,
        reranker=reranker,
        guard=guard,
    )
    return Desk(
        store=store,
        systems=systems,
        models=models,
        triager=triager,
        shadowing=shadowing,
        resolution=resolution,
        house=house,
        pool=pool,
        clock=clock,
        knowledge=(company or COMPANY) / "knowledge",
    )


def _standing(embedder: Embedder, classifier: Classifier | None, company: Path) -> Models:
    if classifier is None:
        raise ConfigurationError("A desk needs models that follow the aliases, or a classifier.")
    taxonomy = classifier.taxonomy if isinstance(classifier, Cascade) else load_taxonomy(company / "taxonomy.yaml")
    return standing(TriageModels(live=Served(classifier=classifier, taxonomy=taxonomy), embedder=embedder))
