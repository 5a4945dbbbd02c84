"""The short kill test of the suite; the long one is `python -m tests.acceptance.kill_test --kills 200`."""

import pytest

from tests.acceptance.kill_test import run


@pytest.mark.timeout(600)
def test_a_dozen_deaths_lose_no_ticket_and_do_nothing_twice() -> None:
    assert run(12, seed=7) == []
