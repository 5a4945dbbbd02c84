"""Settings: file and environment, all problems at once."""

from pathlib import Path

import pytest

from orchestrator.domain.errors import ConfigurationError
from serving.settings import load_settings


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("CLOISTER_")]:
        monkeypatch.delenv(name)


def test_without_a_file_the_defaults_keep_to_this_machine(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path)
    assert settings.http.host == "127.0.0.1"
    assert settings.database.dsn is None


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cloister.yaml").write_text("http: {port: 9001, max_queue: 7}\n")
    monkeypatch.setenv("CLOISTER_HTTP__PORT", "9002")
    settings = load_settings(home=tmp_path)
    assert (settings.http.port, settings.http.max_queue) == (9002, 7)


def test_all_problems_are_told_at_once_with_their_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cloister.yaml").write_text("http: {port: 99999}\nworker: {batch: 3}\n")
    monkeypatch.setenv("CLOISTER_NONSENSE", "1")
    with pytest.raises(ConfigurationError) as told:
        load_settings(home=tmp_path)
    for part in ("CLOISTER_NONSENSE", "http.port", "99999", "worker.batch"):
        assert part in str(told.value)


@pytest.mark.parametrize("text", ["- a list", "just words", "http: [1"])
def test_a_file_that_holds_no_settings_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "cloister.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=r"cloister\.yaml"):
        load_settings(home=tmp_path)
