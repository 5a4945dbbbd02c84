"""The tau tests need tau-bench's archives in `shared/data`; without them every test here is skipped with the reason."""

from collections.abc import Iterator

import pytest

from tests.tau import data
from tests.tau.replay import Desk, opened


@pytest.fixture(autouse=True)
def _with_data() -> None:
    if absent := data.missing():
        pytest.skip(absent)


@pytest.fixture(scope="session", params=data.DOMAINS)
def desk(request: pytest.FixtureRequest) -> Iterator[Desk]:
    """The company of a domain before its world over HTTP."""
    if absent := data.missing():
        pytest.skip(absent)
    with opened(request.param) as found:
        yield found
