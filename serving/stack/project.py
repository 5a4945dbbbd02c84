"""Write what the registry's aliases mean into the database, from which every replica reads it. Knows both; serves nothing.

Done before replicas start, and whenever an alias is moved while a stack of this folder runs: the entry point `on_alias_move`.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from models.manifest import ModelRefused, read
from models.registry import TASKS, Move, NotInRegistry, Registry, registry_root
from orchestrator.bootstrap import open_store
from orchestrator.domain.aliases import LIVE, TRIAGE, DesiredAlias
from orchestrator.domain.errors import ConfigurationError
from orchestrator.storage.store import PostgresStore
from serving.embedding import MINILM_NAME
from serving.settings import Settings, load_settings
from serving.stack import state

log = logging.getLogger("cloister.aliases")


def desired_aliases(registry: Registry, configured: Mapping[str, Path]) -> list[DesiredAlias]:
    """What each alias stands for: the registry's last move; where nobody moved it, the folder that the settings name.

    Raises ModelRefused where the history is damaged or a configured folder is no model.
    """
    moves = {(task, alias): move for task in TASKS for alias, move in registry.aliases(task).items()}
    found = {key: _moved(registry, move) for key, move in moves.items()}
    for alias, folder in configured.items():
        if (TRIAGE, alias) not in moves or moves[TRIAGE, alias].number == 0:
            found[TRIAGE, alias] = _configured(registry, alias, folder)
    return list(found.values())


def project(store: PostgresStore, registry: Registry, configured: Mapping[str, Path]) -> list[str]:
    """ "task/alias" of what changed. Raises ModelRefused; nothing is changed then."""
    return store.run(lambda tx: tx.project_aliases(lambda: desired_aliases(registry, configured)))


def project_at_start(dsn: str, settings: Settings) -> None:
    """Before the replicas start. A registry that cannot be read leaves the aliases as they were; without any, the configured ones hold."""
    configured = configured_folders(settings)
    store = open_store(dsn, pool_size=2)
    try:
        project(store, Registry(registry_root(settings.home)), configured)
    except ModelRefused as error:
        log.error("the registry could not be read, aliases stay as they were: %s", error)
        if not store.run(lambda tx: tx.desired_aliases(TRIAGE)):
            raise ConfigurationError(f"The models cannot be read: {error}", hint="See `cloister models list`.") from error
    finally:
        store.close()


def configured_folders(settings: Settings) -> dict[str, Path]:
    return {alias: Path(folder).resolve() for alias, folder in settings.models.adapters.items()}


def on_alias_move(root: Path) -> str | None:
    """For the entry-point group `cloister.on_alias_move`: tell the stack that runs on this registry, if one does."""
    home = root.resolve().parent
    running = state.read_state(home) if registry_root(home) == root.resolve() else None
    if running is None or not running.dsn:
        return None
    store = open_store(running.dsn, pool_size=2)
    try:
        changed = project(store, Registry(root), configured_folders(load_settings(home=home)))
    finally:
        store.close()
    if not changed:
        return f"The stack at {running.url} has these aliases already."
    return f"The stack at {running.url} was told ({', '.join(changed)}); its replicas follow within seconds: see `cloister status`."


def _moved(registry: Registry, move: Move) -> DesiredAlias:
    name = str(move.name)
    try:
        folder = registry.find(name).folder.resolve()
    except NotInRegistry:  # the alias is unhealthy until it is there again
        folder = (registry.root / name).resolve()
    return _row(registry, move.task, move.alias, name, folder, percent=move.percent, by=move.by, reason=move.reason)


def _configured(registry: Registry, alias: str, folder: Path) -> DesiredAlias:
    return _row(registry, TRIAGE, alias, read(folder).full_name, folder, percent=None, by="settings", reason="configured folder")


def _row(
    registry: Registry, task: str, alias: str, name: str, folder: Path, *, percent: float | None, by: str, reason: str
) -> DesiredAlias:
    needs = _needs(registry, folder) if task == TRIAGE else {}
    return DesiredAlias(
        task=task, alias=alias, name=name, path=str(folder), percent=percent, needs=needs, by=by or LIVE, reason=reason
    )


def _needs(registry: Registry, folder: Path) -> dict[str, str]:
    """Embedders that the head asks for, the bundled one aside: full name -> folder, empty where there is none."""
    try:
        names = json.loads((folder / "head.json").read_text(encoding="utf-8"))["embedders"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # no head, or a broken one: whoever loads it says so
    return {str(name): _folder_of(registry, str(name)) for name in names if name != MINILM_NAME}


def _folder_of(registry: Registry, name: str) -> str:
    try:
        return str(registry.find(name).folder.resolve())
    except NotInRegistry:
        return ""
