"""The short form of the executor's kill test; the long one is `python -m tests.acceptance.kill_executor --kills 1000`."""

import pytest

from tests.acceptance.kill_executor import run


@pytest.mark.timeout(600)
def test_twenty_deaths_at_the_steps_of_the_executor_lose_nothing_do_nothing_twice_and_leave_nothing_unknown() -> None:
    assert run(20, seed=11) == []
