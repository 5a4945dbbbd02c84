"""The gateway as a plain process with stand-in models: for crash tests and throughput. Knows a DSN; never for results."""

import secrets

from fastapi import FastAPI

from orchestrator.bootstrap import open_store, utc_now
from orchestrator.resolution.playbook import load_playbook
from orchestrator.storage.store import PostgresStore
from serving.gateway.app import create_app
from serving.gateway.company import company_names
from serving.gateway.parts import Parts
from serving.gateway.standins import EchoLanguage, LocalEmbedder
from serving.settings import Settings


def standalone_app(dsn: str, *, settings: Settings | None = None) -> FastAPI:
    return create_app(standalone_parts(open_store(dsn), settings=settings))


def standalone_parts(store: PostgresStore, *, settings: Settings | None = None) -> Parts:
    """Parts with stand-in models and the bundled company's names."""
    categories, groups = company_names(None)
    return Parts(
        store=store,
        language=EchoLanguage(),
        embedder=LocalEmbedder(),
        settings=settings or Settings(),
        clock=utc_now,
        console_secret=secrets.token_hex(32),
        categories=categories,
        groups=groups,
        playbook=load_playbook(),
    )
