"""connectors.yaml: where a company's systems are, with credentials from the environment and from nowhere else."""

from pathlib import Path

import pytest

from orchestrator.connectors.configured import read_connectors
from orchestrator.domain.errors import ConfigurationError

FILE = """
http:
  crm: {url: https://crm.example/api, read_token: CRM_READ, write_token: CRM_WRITE}
mcp:
  tracker: {url: https://tracker.example/mcp, token: TRACKER_TOKEN}
  files: {command: [/opt/server, --stdio], environment: [FILES_KEY]}
"""
ENVIRONMENT = {"CRM_READ": "r", "CRM_WRITE": "w", "TRACKER_TOKEN": "t", "FILES_KEY": "k"}


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "connectors.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_system_gets_its_own_read_and_write_token(tmp_path):
    found = read_connectors(written(tmp_path, FILE), ENVIRONMENT)
    assert found.base_urls == {"crm": "https://crm.example/api"}
    assert found.tokens == {("crm", "read"): "r", ("crm", "write"): "w"}
    assert (found.servers["tracker"].token, found.servers["files"].command) == ("t", ("/opt/server", "--stdio"))
    assert found.servers["files"].environment == {"FILES_KEY": "k"}


def test_no_credential_shows_when_a_record_is_printed(tmp_path):
    found = read_connectors(written(tmp_path, FILE), {name: f"secret-{name}" for name in ENVIRONMENT})
    assert "secret" not in repr(found)


def test_without_a_file_nothing_is_named(tmp_path):
    assert read_connectors(tmp_path / "connectors.yaml", {}).base_urls == {}


def test_all_missing_credentials_are_named_at_once(tmp_path):
    with pytest.raises(ConfigurationError, match="CRM_READ, CRM_WRITE, FILES_KEY, TRACKER_TOKEN"):
        read_connectors(written(tmp_path, FILE), {"CRM_READ": ""})


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("url: https://crm", "uri: https://crm", "http.crm.url"),
        ("url: https://tracker.example/mcp", "url: ftp://tracker", "no URL of an MCP server"),
        ("url: https://tracker.example/mcp, ", "", "a URL or a command"),
        ("http:", "[", "cannot be used"),
    ],
)
def test_a_wrong_file_is_said_plainly(tmp_path, old, new, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        read_connectors(written(tmp_path, FILE.replace(old, new, 1)), ENVIRONMENT)
