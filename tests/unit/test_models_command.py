"""The command `models` as a platform engineer types it."""

import json
import shutil
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

import serving.cli.main
from models import announce
from models.cli import models
from models.manifest import ModelRefused
from models.registry import Registry
from tests.unit.model_bench import BASE, make_model

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("command") / "desk"
    make_model(folder)
    return folder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("CLOISTER_HOME", str(tmp_path / "home"))
    return lambda *words: CliRunner().invoke(models, [str(word) for word in words])


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "home" / "models")


def told(result: Result) -> dict:
    assert result.exit_code == 0, result.output + str(result.exception)
    return json.loads(result.stdout)


def pass_gate(registry: Registry, full_name: str, passed: bool = True) -> None:
    (registry.root / "gates").mkdir(exist_ok=True)
    (registry.root / "gates" / f"{full_name}.json").write_text(json.dumps({"passed": passed, "candidate": full_name}))


def test_every_command_has_an_example() -> None:
    context = click.Context(models)
    for name in models.list_commands(context):
        command = models.get_command(context, name)
        assert command is not None and command.help and "Example:" in command.help, name


def test_from_import_to_live_and_back(run: Run, registry: Registry, desk: Path) -> None:
    name = told(run("import", desk, "--json"))["full_name"]
    refused = run("promote", "desk", "--reason", "better")
    assert isinstance(refused.exception, ModelRefused) and "gate has not run" in str(refused.exception)
    pass_gate(registry, name, passed=False)
    assert "gate said no" in str(run("promote", "desk", "--reason", "better").exception)
    pass_gate(registry, name)
    moved = told(run("promote", "desk", "--reason", "better", "--by", "ada", "--json"))
    assert moved["name"] == name and moved["by"] == "ada" and moved["evidence"]["gate"] == f"gates/{name}.json"
    listed = told(run("list", "--json"))["models"]
    assert [row["full_name"] for row in listed if row["aliases"]] == [name]
    assert told(run("rollback", "--reason", "worse", "--json"))["name"].startswith("triage@sha256-")
    again = run("rollback", "--reason", "worse")
    assert "nothing to roll back" in str(again.exception)
    assert [move["undoes"] for move in told(run("history", "--json"))] == [None, 1]
    assert "(takes" in run("history").stdout


def test_an_override_is_recorded(run: Run, desk: Path) -> None:
    run("import", desk)
    moved = told(run("promote", "desk", "--reason", "outage", "--override", "the lead said so", "--json"))
    assert moved["evidence"] == {"override": "the lead said so", "gate_passed": False}
    assert "needs a reason" in str(run("promote", "desk", "--reason", "x", "--override", " ").exception)


def test_a_canary_needs_a_share_and_can_be_withdrawn(run: Run, registry: Registry, desk: Path) -> None:
    pass_gate_after = told(run("import", desk, "--json"))["full_name"]
    pass_gate(registry, pass_gate_after)
    assert run("promote", "desk", "--alias", "canary", "--reason", "x").exit_code == 2
    assert run("promote", "desk", "--percent", "10", "--reason", "x").exit_code == 2
    assert run("promote", "desk", "--alias", "canary", "--percent", "100", "--reason", "x").exit_code == 2
    assert told(run("promote", "desk", "--alias", "canary", "--percent", "10", "--reason", "x", "--json"))["percent"] == 10
    assert "canary" in run("list").stdout
    assert told(run("withdraw", "--alias", "canary", "--reason", "seen", "--json"))["name"] is None


def test_keys_signatures_and_their_requirement(run: Run, registry: Registry, desk: Path, tmp_path: Path) -> None:
    copy = tmp_path / "desk"
    shutil.copytree(desk, copy)
    assert run("keygen", "--out", tmp_path / "keys").exit_code == 0
    assert run("trust", tmp_path / "keys" / "cloister-signing.pub.pem", "--require").exit_code == 0
    assert "it is unsigned" in str(run("import", copy).exception)
    assert run("sign", copy, "--key", tmp_path / "keys" / "cloister-signing.pem").exit_code == 0
    assert told(run("import", copy, "--json"))["signature"].startswith("signed by ed25519-")
    assert told(run("verify", "desk", "--json"))["models"][0]["signature"].startswith("signed by ed25519-")
    assert "came with the installation" in str(run("sign", "triage", "--key", tmp_path / "keys" / "cloister-signing.pem").exception)
    assert run("verify", "triage").exit_code == 0


def test_a_bundle_travels(run: Run, desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = told(run("import", desk, "--json"))["full_name"]
    written = told(run("bundle", "desk", "--out", tmp_path / "desk.tar", "--json"))
    assert len(written["needs"]) == 2 and written["bytes"] == (tmp_path / "desk.tar").stat().st_size
    monkeypatch.setenv("CLOISTER_HOME", str(tmp_path / "other"))
    assert told(run("verify", tmp_path / "desk.tar", "--json"))["models"][0]["full_name"] == name
    imported = told(run("import", tmp_path / "desk.tar", "--json"))
    assert imported["full_name"] == name and imported["missing"] == [f"all-MiniLM-L6-v2@sha256-{'5' * 64}"]
    shown = told(run("show", "desk", "--json"))
    assert shown["lineage"] == [] and shown["gate"] is None and shown["manifest"]["name"] == "desk"


def test_a_downloaded_base_gets_a_manifest_and_leaves_code_behind(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "download"
    shutil.copytree(BASE, folder, ignore=shutil.ignore_patterns("manifest.json"))
    (folder / "README.md").write_text("# read me")
    (folder / "modeling.py").write_text("print(1)")
    imported = told(run("import", folder, "--as", "house-base", "--license", "Apache-2.0", "--json"))
    assert imported["full_name"].startswith("house-base@sha256-")
    assert imported["left_behind"] == ["README.md", "modeling.py"]
    assert run("verify", "house-base").exit_code == 0
    assert "has a manifest already" in str(run("import", BASE, "--as", "x").exception)


def test_a_listener_is_told_and_its_failure_is_a_warning(run: Run, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listeners = [
        EntryPoint(name="works", value=f"{__name__}:says_where", group=announce.GROUP),
        EntryPoint(name="fails", value=f"{__name__}:fails", group=announce.GROUP),
    ]
    monkeypatch.setattr(announce, "entry_points", lambda group: [one for one in listeners if one.group == group])
    run("import", desk)
    result = run("promote", "desk", "--reason", "x", "--override", "a test")
    assert result.exit_code == 0
    assert "warning: the alias moved, but fails: RuntimeError: no stack" in result.stderr.replace("\n", " ")
    assert "works: told models" in result.stderr
    assert len(told(run("history", "--json"))) == 1


def says_where(root: Path) -> str:
    return f"told {root.name}"


def fails(root: Path) -> None:
    raise RuntimeError("no stack")


def test_a_refusal_is_a_sentence_and_exit_code_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("CLOISTER_HOME", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["cloister", "models", "show", "no-such-model"])
    with pytest.raises(SystemExit) as ended:
        serving.cli.main.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("cloister: there is no model 'no-such-model'")
