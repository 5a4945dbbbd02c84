"""Which LoRA adapters this replica serves, under which aliases. Knows names and numbers; knows no engine and loads nothing.

A name carries the digest of its bytes (`triage@sha256-...`), because vLLM keys its prefix cache by name: the same name never
stands for other bytes. Aliases (`live`, `canary`, `shadow`) are resolved here and never reach the engine. Numbers are the engine's
handle to an adapter; each is used once in the life of a replica.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import models.manifest
from orchestrator.domain.errors import AdapterMissing, BadInput, Conflict

Verify = Callable[[str, Path], None]
"""(name, folder): raises BadInput when the folder's bytes are not what the name or its manifest says."""

CONTENT_ADDRESSED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}@sha256-[0-9a-f]{12,64}")
ALIAS = re.compile(r"[a-z][a-z0-9_-]{0,31}")


@dataclass(frozen=True, kw_only=True)
class DesiredAdapter:
    """A row of the desired state, as the database holds it."""

    alias: str
    name: str  # content-addressed
    path: Path
    previous: tuple[str, Path] | None = None  # served on by its own name while this one cannot be

    @classmethod
    def parse(cls, row: Mapping[str, Any]) -> "DesiredAdapter":
        alias, name, path = (str(row.get(key) or "") for key in ("alias", "name", "path"))
        if not ALIAS.fullmatch(alias):
            raise BadInput(f"The adapter alias {alias!r} is not a lower-case word of at most 32 characters.", hint="Use e.g. live.")
        check_name(name)
        if not path:
            raise BadInput(f"The desired adapter {name} ({alias}) has no path.", hint="Give the folder in the model store.")
        before, folder = (str(row.get(f"previous_{key}") or "") for key in ("name", "path"))
        return cls(alias=alias, name=name, path=Path(path), previous=(before, Path(folder)) if before and folder else None)


def check_name(name: str) -> None:
    if not CONTENT_ADDRESSED.fullmatch(name):
        raise BadInput(
            f"{name!r} is not a content-addressed adapter name.",
            hint="Import the adapter into the registry; its name is then name@sha256-<digest>.",
        )


def verify_manifest(name: str, folder: Path, *, base: Path | None = None) -> None:
    """Every file of a model against its manifest; an adapter must have been trained on `base`. Raises BadInput."""
    try:
        manifest = models.manifest.verify(folder, expect=name if "@" in name else None)
        trained_on = models.manifest.read(base).full_name if base and manifest.kind is models.manifest.Kind.ADAPTER else None
    except (models.manifest.ModelRefused, OSError) as error:
        raise BadInput(f"The model {name} is refused: {error}") from error
    if manifest.name != name.partition("@")[0]:
        raise BadInput(f"The folder {folder} holds {manifest.name}, not {name}.", hint="Mend the name or the path.")
    if trained_on and manifest.base != trained_on:
        raise BadInput(
            f"The adapter {name} was trained on {manifest.base}, the base here is {trained_on}.", hint="Train it again on it."
        )


@dataclass(frozen=True, kw_only=True)
class ServedAdapter:
    name: str
    number: int  # the engine's handle
    path: Path


class AdapterTable:
    """The adapters that the engine holds and has pinned. Nothing is in here before that, so nothing else is asked of the engine."""

    def __init__(self, *, base: str, limit: int) -> None:
        self.base = base
        self.limit = limit
        self._served: dict[str, ServedAdapter] = {}
        self._aliases: dict[str, str] = {}
        self._broken: dict[str, str] = {}
        self._in_use: dict[str, int] = {}
        self._numbers_given = 0

    def resolve(self, model: str) -> ServedAdapter | None:
        """The adapter behind a name or an alias; None for the base. Raises AdapterMissing: never the base instead."""
        if model == self.base:
            return None
        if model in self._broken:
            raise AdapterMissing(f"The alias {model!r} is unhealthy: {self._broken[model]}", hint="Mend it or roll it back.")
        adapter = self._served.get(self._aliases.get(model, model))
        if adapter is None:
            raise AdapterMissing(
                f"The model {model!r} is not served here; served are {', '.join(self.models())}.",
                hint="Promote it, or wait until this replica has loaded it.",
            )
        return adapter

    def models(self) -> list[str]:
        """Everything that `resolve` answers: the base, names, aliases."""
        return [self.base, *sorted(self._served), *sorted(self._aliases)]

    def propose(self, name: str, path: Path) -> ServedAdapter | None:
        """A numbered adapter to be loaded, or None where this name is served from this path already.

        Raises Conflict when the name is served from another path or all places are taken.
        """
        check_name(name)
        served = self._served.get(name)
        if served is not None:
            if served.path == path:
                return None
            raise Conflict(
                f"{name} is served from {served.path}, not from {path}.", hint="Remove it first; a name is never reused."
            )
        if len(self._served) >= self.limit:
            raise Conflict(
                f"All {self.limit} adapter places are taken; {name} was not loaded.", hint="Remove one or raise max_adapters."
            )
        self._numbers_given += 1
        return ServedAdapter(name=name, number=self._numbers_given, path=path)

    def admit(self, adapter: ServedAdapter) -> None:
        """From now on requests may go to it."""
        self._served[adapter.name] = adapter

    def withdraw(self, name: str) -> ServedAdapter | None:
        """From now on requests for it are refused; those under way go on (see `in_use`)."""
        self._aliases = {alias: target for alias, target in self._aliases.items() if target != name}
        return self._served.pop(name, None)

    def point(self, aliases: Mapping[str, str], *, broken: Mapping[str, str] | None = None) -> None:
        """Replace all aliases at once. `broken`: those that are refused, and why; they stand for nothing, not for what they had.

        Raises AdapterMissing when a target is not served, BadInput when an alias shadows a name.
        """
        for alias, name in aliases.items():
            if name not in self._served:
                raise AdapterMissing(f"The alias {alias!r} cannot point to {name}, which is not served.", hint="Load it first.")
            if alias == self.base:
                raise BadInput(f"The alias {alias!r} is the base model's name.", hint="Choose another alias.")
        self._aliases, self._broken = dict(aliases), dict(broken or {})

    @contextmanager
    def using(self, model: str) -> Iterator[ServedAdapter | None]:
        """`resolve`, and keep the adapter from being unloaded until the block ends."""
        adapter = self.resolve(model)
        if adapter is None:
            yield None
            return
        self._in_use[adapter.name] = self._in_use.get(adapter.name, 0) + 1
        try:
            yield adapter
        finally:
            self._in_use[adapter.name] -= 1

    def in_use(self, name: str) -> int:
        return self._in_use.get(name, 0)

    @property
    def served(self) -> dict[str, ServedAdapter]:
        return dict(self._served)

    @property
    def aliases(self) -> dict[str, str]:
        """Those that answer."""
        return dict(self._aliases)

    @property
    def broken(self) -> dict[str, str]:
        """Those that are refused: alias -> why."""
        return dict(self._broken)
