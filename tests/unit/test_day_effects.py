"""Every effect that the day's truth allows, called for real: the sandbox, seeded with the day's world, carries each out once."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.sandbox.process import SandboxProcess

DAY = Path(__file__).parents[2] / "serving" / "demo" / "day"
REST = {"/billing/refunds": {"reason": "as the day's truth says"}}  # what a call needs beyond the subset in the truth


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[SandboxProcess]:
    with SandboxProcess(tmp_path / "world.db", world=DAY / "world.json") as running:
        yield running


def effects() -> list[Mapping[str, Any]]:
    rows = [json.loads(line) for line in (DAY / "truth.jsonl").read_text(encoding="utf-8").splitlines()]
    found = {json.dumps(effect, sort_keys=True): effect for row in rows for effect in row["effects"]}
    return list(found.values())


def test_the_sandbox_carries_out_every_effect_of_the_truth_and_a_second_refund_is_refused(sandbox: SandboxProcess) -> None:
    with httpx.Client(base_url=sandbox.url, trust_env=False, timeout=5) as http:

        def call(effect: Mapping[str, Any], key: str) -> httpx.Response:
            path = effect["path"]
            headers = {"Authorization": f"Bearer {sandbox.token(path.split('/')[1], 'write')}", "Idempotency-Key": key}
            return http.request(effect["method"], path, json={**REST.get(path, {}), **effect.get("body", {})}, headers=headers)

        for number, effect in enumerate(effects()):
            answer = call(effect, f"key-{number}")
            assert answer.status_code in (200, 201), f"{effect}: {answer.text}"
        refunds = [effect for effect in effects() if effect["path"] == "/billing/refunds"]
        assert [call(effect, f"again-{number}").status_code for number, effect in enumerate(refunds)] == [409] * len(refunds)
        alerts = http.get("/_state").json()["alerts"]
        firing = {(alert["service"], alert["site"]) for alert in alerts if alert["state"] == "firing"}
        assert ("depot-terminals", "Bristol") in firing and ("depot-terminals", "Graz") not in firing
        assert not {"sso-gateway", "mobile-app"} & {service for service, _ in firing}
