"""`cloister train embedder`: from a file to a registered encoder, and what it refuses."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from models.registry import Registry
from orchestrator.domain.errors import BadInput
from training.cli import train

MATTERS = ("vpn tunnel drops", "printer paper jam", "mailbox is full", "screen stays black")


@pytest.fixture
def tickets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLOISTER_HOME", str(tmp_path / "home"))
    rows = [
        {"id": n, "description": f"{MATTERS[n % 4]}, room {n // 4}", "category": MATTERS[n % 4][:3], "cluster": n % 8}
        for n in range(32)
    ]
    path = tmp_path / "tickets.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def call(*arguments: str) -> str:
    result = CliRunner().invoke(train, ["embedder", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_tuned_encoder_is_registered_with_what_was_measured(tickets: Path, tmp_path: Path) -> None:
    out = call("--tickets", str(tickets), "--duplicates-field", "cluster", "--name", "desk-embedder", "--epochs", "1", "--json")
    found = json.loads(out)
    entry = Registry(tmp_path / "home/models").find("desk-embedder")
    assert found["model"] == entry.full_name and found["parent"].startswith("all-MiniLM-L6-v2@sha256-")
    assert found["kept_out_tickets"] == 8 and 0 <= found["after"]["nearest_has_its_type"] <= 1
    record = json.loads((entry.folder / "embedder.json").read_text())
    assert record["duplicate_threshold"]["precision"] == 0.9 and record["parent"] == found["parent"]
    assert not (tmp_path / "home/training/desk-embedder.embedder").exists()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--name", "../desk"], "cannot be a model's name"),
        (["--name", "desk", "--duplicates-field", "twin"], "No ticket has the field 'twin'"),
        (["--name", "desk", "--no-labels"], "neither two types nor duplicate"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_work(tickets: Path, arguments: list[str], why: str) -> None:
    with pytest.raises(BadInput, match=why):
        CliRunner().invoke(train, ["embedder", "--tickets", str(tickets), *arguments], catch_exceptions=False)
