"""What every test may ask for: the data folder, a fixed clock. The database lies in tests/integration/conftest.py's own fixtures."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Real data beside the checkout; tests that need it are skipped where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"no data folder at {DATA}: this test needs real data beside the checkout")
    return DATA


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC)
