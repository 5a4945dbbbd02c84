"""A running stack as the people around it see it: its commands, and what each of its replicas says that it answers with.

Knows processes, the registry's folder and the replicas' reports; sends no ticket and judges nothing.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.manifest import Kind, read, write
from models.registry import Move, Registry, registry_root
from orchestrator.storage.store import PostgresStore
from serving.stack import state

COMMAND = "import sys; from serving.cli.main import main; sys.argv[0] = 'cloister'; main()"
FOLLOWED_WITHIN_S = 120.0
FRESH_S = 20.0
POLL_S = 0.2
PART_ALIASES = {"language_model": "{alias}", "orchestrator": "triage/{alias}"}  # how each part names an alias of triage
Holds = Callable[[str, Mapping[str, Any]], bool]  # (part, what a replica says of the alias)


class CommandFailed(AssertionError):
    """A command of Cloister ended otherwise than it should have; its last words are in the message."""


@dataclass
class Stack:
    home: Path
    url: str
    keys: Mapping[str, str]
    said: list[str] = field(default_factory=list)  # commands and how long each took

    @property
    def registry(self) -> Registry:
        return Registry(registry_root(self.home))

    def cloister(
        self, *arguments: str, ends: tuple[int, ...] = (0,), timeout_s: float = 7200.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of ours in this home. Raises CommandFailed when its exit code is none of `ends`."""
        began = time.monotonic()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CLOISTER_")}
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, *arguments],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=environment | {"CLOISTER_HOME": str(self.home)},
            check=False,
        )
        self.said.append(f"{time.monotonic() - began:7.1f} s  cloister {' '.join(arguments)}  (exit {done.returncode})")
        if done.returncode not in ends:
            words = f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}".strip()
            raise CommandFailed(f"cloister {' '.join(arguments)} ended with {done.returncode}:\n{words}")
        return done

    def json_of(self, *arguments: str, ends: tuple[int, ...] = (0,)) -> Any:
        """The same with `--json`, parsed."""
        return json.loads(self.cloister(*arguments, "--json", ends=ends).stdout)

    def last_move(self) -> Move:
        return self.registry.history()[-1]

    # --- what the replicas say ---

    def wait_until_answers(self, alias: str, name: str | None) -> float:
        """Until every replica says that the alias is this model (None: nothing); gives when. Raises CommandFailed."""

        def holds(part: str, told: Mapping[str, Any]) -> bool:
            if name is None:
                return not told
            return bool(told.get("healthy")) and told.get("desired") == name == told.get("answers_with")

        return self._wait(alias, holds, f"answer with {name} as {alias}")

    def wait_until_broken(self, alias: str, name: str) -> float:
        """Until every replica says that the alias is unhealthy, and the language model's that nothing stands behind it; gives when."""

        def holds(part: str, told: Mapping[str, Any]) -> bool:
            refused = part != "language_model" or told.get("answers_with") is None
            return told.get("desired") == name and not told.get("healthy") and bool(told.get("problem")) and refused

        return self._wait(alias, holds, f"call {alias} unhealthy with {name}")

    def told(self, alias: str) -> list[tuple[str, Mapping[str, Any]]]:
        """(part, what it says of the alias) of every replica that was heard of lately."""
        with self.store() as store:
            return self._told(store, alias)

    @contextmanager
    def store(self) -> Iterator[PostgresStore]:
        current = state.read_state(self.home)
        if current is None:
            raise CommandFailed(f"The stack of {self.home} is gone.")
        with PostgresStore(current.dsn, max_connections=1) as store:
            yield store

    def _told(self, store: PostgresStore, alias: str) -> list[tuple[str, Mapping[str, Any]]]:
        reports = store.run(lambda tx: tx.model_reports(fresh_s=FRESH_S))
        parts = ((report["part"], report["body"].get("aliases", {})) for report in reports if report["part"] in PART_ALIASES)
        return [(part, aliases.get(PART_ALIASES[part].format(alias=alias)) or {}) for part, aliases in parts]

    def _wait(self, alias: str, holds: Holds, what: str) -> float:
        deadline = time.monotonic() + FOLLOWED_WITHIN_S
        with self.store() as store:
            while True:
                told = self._told(store, alias)
                if {part for part, _ in told} == set(PART_ALIASES) and all(holds(part, each) for part, each in told):
                    return time.time()
                if time.monotonic() > deadline:
                    raise CommandFailed(f"After {FOLLOWED_WITHIN_S:.0f} s not all replicas {what}; they say {told}.")
                time.sleep(POLL_S)


def other_bytes(registry: Registry, full_name: str, work: Path, *, seed: int) -> str:
    """Register a model of the same plain name whose adapter has other weights; gives its full name. Everything else is the same."""
    import torch
    from safetensors.torch import load_file, save_file

    entry = registry.find(full_name)
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(entry.folder, work, ignore=shutil.ignore_patterns("signature.json"))
    for path in work.iterdir():
        path.chmod(0o644)
    weights = load_file(work / "adapter_model.safetensors")
    chance = torch.Generator().manual_seed(seed)
    changed = {
        name: value + (value.float().std() * torch.randn(value.shape, generator=chance)).to(value.dtype)
        for name, value in weights.items()
    }
    save_file(changed, work / "adapter_model.safetensors")
    _name_its_adapter(work)
    before = read(entry.folder)
    kept = {"base": before.base, "license": before.license, "data": before.data, "parent": full_name}
    write(work, name=before.name, kind=Kind.ADAPTER, made={"changed": "weights with noise, for a swap", "seed": seed}, **kept)
    return registry.add(work)


def _name_its_adapter(folder: Path) -> None:
    """Thresholds are bound to the adapter beside which they were fitted."""
    from models.manifest import file_sha256

    path = folder / "cascade.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    digest = file_sha256(folder / "adapter_model.safetensors")
    path.write_text(json.dumps({k: digest if k == "adapter_sha256" else v for k, v in record.items()}, indent=1), encoding="utf-8")


def tamper(registry: Registry, full_name: str) -> None:
    """Change one byte of the adapter's weights where the registry keeps them, as a failing disk would."""
    path = registry.find(full_name).folder / "adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.chmod(0o644)
    path.write_bytes(content)
