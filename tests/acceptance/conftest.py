"""One running stack for all acceptance tests that need one. What moves models under it comes last."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.cli.stack import free_port
from serving.demo.company import BUNDLED_DAY
from serving.demo.day import Day, read_day
from serving.stack import control, state

LAST = "test_promotion.py"


@dataclass(frozen=True)
class Running:
    home: Path
    url: str
    sandbox_url: str
    keys: Mapping[str, str]
    day: Day

    def get(self, path: str, role: str = "admin", **query: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.keys[role]}"}
        return httpx.get(f"{self.url}{path}", params=query, headers=headers, timeout=90, trust_env=False)

    def post(self, path: str, body: Any, role: str = "service", **query: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.keys[role]}"}
        return httpx.post(f"{self.url}{path}", json=body, params=query, headers=headers, timeout=90, trust_env=False)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        code = "import sys; from serving.cli.main import main; sys.argv[0] = 'cloister'; main()"
        environment = {"CLOISTER_HOME": str(self.home), "PATH": "/usr/bin:/bin", "HOME": str(self.home)}
        return subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120, env=environment, check=False
        )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of the tests of this folder, those that move models run after all others, in the places that the folder's tests have."""
    here = Path(__file__).parent
    places = [place for place, item in enumerate(items) if item.path.parent == here]
    ordered = sorted((items[place] for place in places), key=lambda item: item.path.name == LAST)
    for place, item in zip(places, ordered, strict=True):
        items[place] = item


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("stack")
    day = read_day(BUNDLED_DAY).shifted(datetime.now(UTC))
    world = home / "world.json"
    world.write_text(json.dumps(day.world, default=str))
    try:
        current = control.start(home, overrides={"http": {"port": free_port(8420)}}, world=world, say=lambda phase: None)
        yield Running(home=home, url=current.url, sandbox_url=current.sandbox_url, keys=state.keys(home), day=day)
    finally:
        control.erase(home)
