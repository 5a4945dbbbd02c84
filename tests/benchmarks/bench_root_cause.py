"""Root causes on ITBench's recorded incidents: which service do the alerts point at, when nothing but alerts and topology is known?

    python -m tests.benchmarks.bench_root_cause [--json FILE]

ITBench's ground truths (Apache-2.0) name the alerting entities, the chain of effects and the root of each scenario. They carry no times,
no releases and no tickets, so only the topological half of `triage.correlate` is measured here. The dependencies of a scenario are taken
from the chains of all *other* scenarios (its own chain is the answer); names are those of services, whatever kind of object carried them.
Beside it stands the obvious rule: the service with most alerts.
"""

import argparse
import json
import platform
import re
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from orchestrator.triage.correlate import suspects

ARCHIVE = Path(__file__).resolve().parents[3] / "shared" / "data" / "incidents" / "itbench_groundtruth_shared.tar.gz"
_AFFIXES = re.compile(r"^otel-demo-|-(service|pod|deployment|replicaset|statefulset)?-?\d*$")


def service_of(name: str) -> str:
    """ "checkout-pod-1" and "checkout-service-1" are the service checkout."""
    return _AFFIXES.sub("", _AFFIXES.sub("", name))


def scenarios(archive: Path = ARCHIVE) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with tarfile.open(archive) as tar:
        for member in sorted(tar.getnames()):
            if member.endswith("groundtruth_v1.yaml"):
                file = tar.extractfile(member)
                assert file is not None
                found = yaml.safe_load(file)
                yield member.split("/")[-2], found.get("spec", found)


def edges(spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(what is hit, what it rests on): an effect runs from source to target."""
    for each in spec.get("propagations") or ():
        source, target = service_of(str(each.get("source"))), service_of(str(each.get("target")))
        if source != target:
            yield target, source


def roots(spec: Mapping[str, Any]) -> set[str]:
    return {service_of(str(group["id"])) for group in spec.get("groups") or () if group.get("root_cause")}


def judge() -> dict[str, Any]:
    found = dict(scenarios())
    hits: Counter[str] = Counter()
    in_reach = 0
    for name, spec in found.items():
        rests: dict[str, set[str]] = defaultdict(set)
        for other, theirs in found.items():
            if other != name:
                for hit, on in edges(theirs):
                    rests[hit].add(on)
        alerting = Counter(service_of(str(alert["group_id"])) for alert in spec.get("alerts") or () if alert.get("group_id"))
        ranked = [service for service, _ in suspects(alerting, rests, limit=1000)]
        loudest = [service for service, _ in alerting.most_common()]
        wanted = roots(spec)
        in_reach += bool(wanted & set(ranked))
        for k in (1, 3, 5):
            hits[f"top{k}"] += bool(wanted & set(ranked[:k]))
            hits[f"loudest_top{k}"] += bool(wanted & set(loudest[:k]))
    total = len(found)
    return {
        "scenarios": total,
        "root_among_candidates": in_reach,
        **{name: round(count / total, 3) for name, count in sorted(hits.items())},
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    figures = judge()
    for name, value in figures.items():
        print(f"{name:24} {value}")
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
