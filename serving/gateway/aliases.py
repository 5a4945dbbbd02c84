"""What each alias stands for and what every replica really answers with, put together from rows and reports. Knows no model."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from orchestrator.domain.aliases import EMBEDDING, LIVE, TRIAGE, DesiredAlias
from orchestrator.storage.transaction import PostgresTransaction

HEARD_OF_S = 20.0  # a replica that said nothing for so long is gone
MOVING = timedelta(seconds=60)  # after a move replicas may take so long to follow
TASK_OF = {"language_model": TRIAGE, "embedder": EMBEDDING}  # who must answer; their reports name aliases without the task


def alias_report(tx: PostgresTransaction) -> dict[str, Any] | None:
    """{ok, unhealthy, "task/alias": {name, healthy, replicas, ...}}; None where no alias is desired.

    Not ok is a live alias that a replica refuses, or does not answer with a minute after it was moved. A canary or shadow that is broken is
    told and nothing more: no ticket depends on it.
    """
    rows, reports = tx.desired_aliases(), tx.model_reports(fresh_s=HEARD_OF_S)
    if not rows:
        return None
    shown = {f"{row.task}/{row.alias}": _shown(row, list(_told(row, reports))) for row in rows}
    unhealthy = [alias for alias, one in shown.items() if not one["healthy"] and (not one["moving"] or _refused(one))]
    return {"ok": not any(alias.endswith(f"/{LIVE}") for alias in unhealthy), "unhealthy": unhealthy, **shown}


def _refused(shown: Mapping[str, Any]) -> bool:
    """A replica has tried and says why not; there is nothing to wait for."""
    return any(told["answers_with"] is None and told["problem"] for told in shown["replicas"])


def _shown(row: DesiredAlias, replicas: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "name": row.name,
        "percent": row.percent,
        "set_at": row.set_at.isoformat(timespec="seconds") if row.set_at else None,
        "by": row.by,
        "reason": row.reason,
        "healthy": any(TASK_OF.get(told["part"]) == row.task for told in replicas)
        and all(told["healthy"] and told["answers_with"] == row.name for told in replicas),
        "moving": row.set_at is not None and datetime.now(UTC) - row.set_at < MOVING,
        "replicas": list(replicas),
    }


def _told(row: DesiredAlias, reports: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for report in reports:
        aliases = report["body"].get("aliases", {})
        key = row.alias if TASK_OF.get(report["part"]) == row.task else f"{row.task}/{row.alias}"
        if key in aliases:
            yield {"part": report["part"], "replica": report["replica"], "at": report["at"], **aliases[key]}


def served_types(tx: PostgresTransaction) -> tuple[set[str], set[str]]:
    """(types, assignment groups) of the models that decide tickets now; beside those of the company's own file."""
    types: set[str] = set()
    groups: set[str] = set()
    for row in tx.desired_aliases(TRIAGE):
        try:
            found = json.loads((Path(row.path) / "taxonomy.json").read_text(encoding="utf-8"))
            kinds = [*found["categories"], found["others"]]
            types |= {str(kind["name"]) for kind in kinds}
            groups |= {str(kind["group"]) for kind in kinds}
        except (OSError, ValueError, KeyError, TypeError):
            continue  # whoever serves it says what is wrong
    return types, groups
