"""tau-bench's retail and airline data, read from the archives in `shared/data`. Knows files; knows no rule and no tool.

The archives are MIT-licensed (Sierra, tau-bench and tau2-bench) and are read where they lie; nothing of them is copied here.
"""

import json
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
ARCHIVES = {
    "tau1": SHARED / "tau1" / "tau1_airline_retail_data.tar.gz",
    "conversations": SHARED / "tau1" / "tau1_conversations.tar.gz",
    "tau2": SHARED / "tau2" / "tau2_shared.tar.gz",
}
DOMAINS = ("retail", "airline")


def missing() -> str | None:
    """Why nothing can be replayed; None where all archives are there."""
    absent = [str(path) for path in ARCHIVES.values() if not path.is_file()]
    return f"tau-bench's data is not here: {', '.join(absent)}" if absent else None


@cache
def _members(archive: str) -> dict[str, bytes]:
    with tarfile.open(ARCHIVES[archive]) as tar:
        files = [(member.name.removeprefix("./"), tar.extractfile(member)) for member in tar if member.isfile()]
        return {name: file.read() for name, file in files if file is not None}


def _json(archive: str, name: str) -> Any:
    return json.loads(_text(archive, name))


def _text(archive: str, name: str) -> str:
    found = next(raw for path, raw in _members(archive).items() if path.endswith(name))
    return found.decode("utf-8")


@cache
def records(domain: str) -> dict[str, dict[str, Any]]:
    """The records of a world by kind and id, as shipped. Shared between callers, who must not change them."""
    if domain == "retail":
        return dict(_json("tau2", "domains/retail/db.json"))
    return {kind: _json("tau1", f"envs/airline/data/{kind}.json") for kind in ("flights", "reservations", "users")}


def policy(domain: str) -> str:
    return _text("tau2", f"domains/{domain}/policy.md")


@cache
def tasks(domain: str) -> list[dict[str, Any]]:
    """tau2's tasks: scenario text and reference actions."""
    return list(_json("tau2", f"domains/{domain}/tasks.json"))


@cache
def trajectories() -> list[dict[str, Any]]:
    """Recorded airline conversations with their tool calls, the tools' answers and the published hash of the reference end state."""
    return list(_json("conversations", "historical_trajectories/gpt-4o-airline.json"))


@cache
def retail_conversations() -> list[str]:
    """Recorded retail conversations: what the tools answered, without the arguments of the calls."""
    lines = _text("conversations", "MockRetailDomainEnv-few_shot.jsonl").splitlines()
    return [json.loads(line)["messages_display"] for line in lines]
