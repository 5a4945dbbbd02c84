"""Where the bundled company's day lies. Knows paths only."""

from pathlib import Path

BUNDLED_DAY = Path(__file__).parent / "day"
