"""The registry's aliases in the database: written whole, told to the stack that runs here and to no other."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.announce import announce
from models.local import ADAPTER, BASE, STORE
from models.manifest import read
from models.registry import Registry
from orchestrator.connectors.local_stack import SUPERVISOR as THEIRS
from orchestrator.domain.aliases import DesiredAlias
from orchestrator.storage.store import PostgresStore
from serving.embedding import MINILM_NAME
from serving.gateway.aliases import alias_report, served_types
from serving.settings import Settings
from serving.stack import state
from serving.stack.project import on_alias_move, project, project_at_start

BUNDLED = read(STORE / ADAPTER).full_name
SUPERVISOR = "import time; time.sleep(120)"


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "home" / "models")


@pytest.fixture
def second(registry: Registry, tmp_path: Path) -> str:
    """The bundled adapter once more, under another name: the full name that the registry gave it."""
    import models.manifest

    folder = tmp_path / "second"
    shutil.copytree(STORE / ADAPTER, folder)
    (folder / "manifest.json").unlink()
    manifest = models.manifest.write(folder, name="second", kind=models.manifest.Kind.ADAPTER, base=read(STORE / BASE).full_name)
    return registry.add(folder, expect=manifest.full_name)


def rows(store: PostgresStore) -> dict[str, DesiredAlias]:
    return {f"{row.task}/{row.alias}": row for row in store.run(lambda tx: tx.desired_aliases())}


def test_what_nobody_moved_is_the_bundled_model_and_a_move_is_written_whole(
    registry: Registry, second: str, store: PostgresStore
) -> None:
    assert project(store, registry, {}) == ["triage/live"]
    assert (rows(store)["triage/live"].name, rows(store)["triage/live"].needs) == (BUNDLED, {})
    registry.move("triage", "live", second, by="mira", reason="better", evidence={"gate": "passed"})
    registry.move("triage", "canary", BUNDLED, percent=10, by="mira", reason="beside it")
    assert project(store, registry, {}) == ["triage/canary", "triage/live"]
    live, canary = rows(store)["triage/live"], rows(store)["triage/canary"]
    assert (live.name, Path(live.path).name, live.by, live.reason) == (second, second, "mira", "better")
    assert (live.previous_name, canary.name, canary.percent) == (BUNDLED, BUNDLED, 10)
    registry.rollback("triage", by="mira", reason="it was not")
    assert project(store, registry, {}) == ["triage/live"]
    assert rows(store)["triage/live"].name == BUNDLED


def test_a_configured_folder_counts_until_somebody_moves_the_alias(
    registry: Registry, second: str, store: PostgresStore, tmp_path: Path
) -> None:
    configured = {"live": tmp_path / "second"}
    project(store, registry, configured)
    assert (rows(store)["triage/live"].name, rows(store)["triage/live"].by) == (second, "settings")
    registry.move("triage", "live", BUNDLED, by="mira", reason="back")
    project(store, registry, configured)
    assert rows(store)["triage/live"].name == BUNDLED


def test_a_model_whose_folder_is_gone_stays_desired_so_that_its_alias_is_unhealthy(
    registry: Registry, second: str, store: PostgresStore
) -> None:
    registry.move("triage", "live", second, by="mira", reason="better")
    shutil.rmtree(registry.root / second)
    project(store, registry, {})
    assert rows(store)["triage/live"].name == second and not Path(rows(store)["triage/live"].path).exists()


def test_a_damaged_history_leaves_the_aliases_as_they_were(registry: Registry, second: str, store: PostgresStore, dsn: str) -> None:
    registry.move("triage", "live", second, by="mira", reason="better")
    settings = Settings(home=registry.root.parent)
    project_at_start(dsn, settings)
    history = registry.root / "history.jsonl"
    history.write_text(history.read_text().replace("better", "worse!"[:6] + "\\"))
    project_at_start(dsn, settings)
    assert rows(store)["triage/live"].name == second


def test_embedders_that_a_head_needs_are_written_beside_it(registry: Registry, store: PostgresStore, tmp_path: Path) -> None:
    import json

    import models.manifest

    folder = tmp_path / "two"
    shutil.copytree(STORE / ADAPTER, folder)
    (folder / "manifest.json").unlink()
    head = json.loads((folder / "head.json").read_text())
    absent = f"words@sha256-{'c' * 64}"
    (folder / "head.json").write_text(json.dumps(head | {"embedders": [MINILM_NAME, absent]}))
    base = read(STORE / BASE).full_name
    models.manifest.write(folder, name="two", kind=models.manifest.Kind.ADAPTER, base=base)
    project(store, registry, {"live": folder})
    assert rows(store)["triage/live"].needs == {absent: ""}, "the bundled one is always there"


@pytest.fixture
def running(registry: Registry, dsn: str) -> Iterator[Path]:
    """A process that looks like a supervisor, and the state that it would have left."""
    home = registry.root.parent
    home.mkdir(exist_ok=True)
    process = subprocess.Popen([sys.executable, "-c", SUPERVISOR, THEIRS], env=dict(os.environ))
    state.write_state(home, state.StackState(pid=process.pid, phase="ready", url="http://127.0.0.1:1", dsn=dsn))
    deadline = time.monotonic() + 20
    while state.read_state(home) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    yield home
    process.kill()
    process.wait()


def test_a_move_is_told_to_the_stack_that_runs_on_this_registry(
    registry: Registry, second: str, running: Path, store: PostgresStore
) -> None:
    registry.move("triage", "live", second, by="mira", reason="better")
    (heard,) = [one for one in announce(registry.root) if one.listener == "stack"]
    assert heard.ok and "triage/live" in heard.says
    assert rows(store)["triage/live"].name == second
    assert "already" in str(on_alias_move(registry.root))


def test_without_a_stack_a_move_is_told_to_nobody(registry: Registry, second: str) -> None:
    assert on_alias_move(registry.root) is None


def test_the_report_of_aliases_tells_what_each_replica_answers_with(store: PostgresStore, second: str, registry: Registry) -> None:
    with store.transaction() as tx:
        assert alias_report(tx) is None
    registry.move("triage", "canary", second, percent=5, by="mira", reason="try")
    project(store, registry, {})
    told = {"desired": BUNDLED, "healthy": True, "answers_with": BUNDLED, "problem": ""}
    broken = {"desired": second, "healthy": False, "answers_with": None, "problem": "its bytes were altered"}
    with store.transaction() as tx:
        tx.report_models("language_model", "r1", {"aliases": {"live": told | {"probe": "ab"}, "canary": broken}})
        tx.report_models("orchestrator", "o1", {"aliases": {"triage/live": told}})
    with store.transaction() as tx:
        report = alias_report(tx)
        assert "network" in served_types(tx)[0]
    assert report is not None and report["ok"], "no ticket depends on a canary"
    assert report["triage/live"]["healthy"] and [r["part"] for r in report["triage/live"]["replicas"]] == [
        "language_model",
        "orchestrator",
    ]
    assert not report["triage/canary"]["healthy"] and report["triage/canary"]["moving"]
