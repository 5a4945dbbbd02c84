"""What integration tests may ask for beside the database: the gateway, running."""

from collections.abc import Iterator

import pytest
from gateway_server import Gateway, running

from orchestrator.storage.store import PostgresStore


@pytest.fixture
def gateway(store: PostgresStore) -> Iterator[Gateway]:
    """The gateway under uvicorn with stand-in models, on a fresh database."""
    with running(store) as gateway:
        yield gateway
