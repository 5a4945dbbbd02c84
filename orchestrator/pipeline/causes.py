"""Look for what lies behind the open incidents, beside the batches. Joins the store, the house and `triage.correlate`; acts on nothing."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from orchestrator.pipeline.house import House
from orchestrator.ports import Clock, Store
from orchestrator.triage.correlate import Report, correlate

KEPT = 5  # candidates of one incident


def explain_incidents(store: Store, house: House, clock: Clock) -> int:
    """Explain the incidents whose tickets have changed; gives how many. Calls the house only where one is due."""
    due = store.run(lambda tx: tx.incidents_to_explain())
    if not due:
        return 0
    directory, certificates, now = house.directory(), house.certificates(), clock()
    found = [
        (
            row["id"],
            row["members"],
            [asdict(c) for c in correlate(list(map(_report, row["reports"])), directory, certificates, now=now)][:KEPT],
        )
        for row in due
    ]
    store.run(lambda tx: tx.save_causes(found, now=now))
    return len(found)


def _report(row: Mapping[str, Any]) -> Report:
    """A ticket of the incident; the services of the alerts that explain it count as much as those that it names."""
    entities = row["entities"] or {}
    behind = {str(cause).split("/")[0] for cause in row["causes"] or ()}
    return Report(
        at=row["at"],
        services=frozenset(behind or entities.get("services") or ()),
        versions=frozenset(entities.get("versions") or ()),
        region=next(iter(entities.get("regions") or ()), None),
    )
