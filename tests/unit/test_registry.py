"""Models under their names, aliases that move with a history, and what a killed process may leave."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from models.bundle import check_bundle, import_bundle, write_bundle
from models.local import installed
from models.manifest import Kind, ModelRefused, read, write
from models.registry import NotInRegistry, Registry, RegistryError
from tests.unit.model_bench import BASE, edit_tensors, make_model

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three versions of one model, not in any registry."""
    place = tmp_path_factory.mktemp("shelf")
    for seed in (1, 2, 3):
        make_model(place / f"desk{seed}", seed=seed)
    return place


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "models")


@pytest.fixture
def names(registry: Registry, shelf: Path) -> list[str]:
    return [registry.add(shelf / f"desk{seed}") for seed in (1, 2, 3)]


def live(registry: Registry) -> str | None:
    return registry.aliases("triage")["live"].name


def bundled_triage() -> str:
    return next(manifest.full_name for manifest in installed() if manifest.name == "triage")


def move(registry: Registry, name: str | None, alias: str = "live", percent: int | None = None) -> None:
    registry.move("triage", alias, name, percent=percent, by="ada", reason="a test")


# --- models ---


def test_the_bundled_models_are_there_from_the_start(registry: Registry) -> None:
    assert {entry.manifest.name for entry in registry.entries() if entry.bundled} >= {"cloister-nano", "triage"}
    assert live(registry) == bundled_triage()
    assert registry.history() == [] and registry.aliases("embedding") == {}


def test_a_plain_name_is_the_newest_and_a_few_digits_are_enough(registry: Registry, names: list[str]) -> None:
    assert registry.find("desk").full_name == names[-1]
    assert registry.find(names[0]).full_name == names[0]
    assert registry.find(names[0][: len("desk@sha256-") + 12]).full_name == names[0]
    with pytest.raises(NotInRegistry, match=r"no model 'desc'.*cloister-nano, desk, triage"):
        registry.find("desc")
    for odd in ("", "..", "../desk", "desk@sha256-", "desk@sha256-zz"):
        with pytest.raises(NotInRegistry):
            registry.find(odd)


def test_the_same_model_twice_is_one_model(registry: Registry, names: list[str], shelf: Path) -> None:
    before = registry.find(names[0]).folder.stat().st_ino
    assert registry.add(shelf / "desk1") == names[0]
    assert registry.find(names[0]).folder.stat().st_ino == before and len(registry.entries()) == len(installed()) + 3


def test_the_same_name_never_stands_for_other_bytes(registry: Registry, shelf: Path, tmp_path: Path) -> None:
    """Other bytes under the old manifest are refused; under a new manifest they are another name."""
    name = registry.add(shelf / "desk1")
    before = (registry.find(name).folder / "adapter_model.safetensors").read_bytes()
    swapped = tmp_path / name
    shutil.copytree(shelf / "desk1", swapped)
    shutil.copy(shelf / "desk2" / "adapter_model.safetensors", swapped / "adapter_model.safetensors")
    with pytest.raises(ModelRefused, match=r"adapter_model\.safetensors was altered"):
        registry.add(swapped)
    manifest = read(swapped)
    renamed = write(swapped, name="desk", kind=Kind.ADAPTER, base=manifest.base)
    assert renamed.full_name != name
    with pytest.raises(ModelRefused, match="not desk@sha256"):  # a folder that bears a full name must be of that name
        registry.add(swapped)
    assert (registry.find(name).folder / "adapter_model.safetensors").read_bytes() == before


def test_a_model_altered_in_the_registry_is_not_served_and_can_be_imported_again(
    registry: Registry, names: list[str], shelf: Path
) -> None:
    weights = registry.find(names[0]).folder / "adapter_model.safetensors"
    weights.chmod(0o644)
    edit_tensors(weights, {})
    with weights.open("r+b") as handle:
        handle.seek(-1, os.SEEK_END)
        handle.write(b"\x3f")
    with pytest.raises(ModelRefused, match="was altered"):
        move(registry, names[0])
    assert live(registry) == bundled_triage()
    assert registry.add(shelf / "desk1") == names[0]
    move(registry, names[0])
    assert live(registry) == names[0]


def test_a_damaged_manifest_does_not_hide_the_other_models(registry: Registry, names: list[str]) -> None:
    manifest = registry.find(names[1]).folder / "manifest.json"
    manifest.chmod(0o644)
    manifest.write_text("{")
    assert registry.damaged() == [names[1]]
    assert registry.find("desk").full_name == names[2]


def test_an_adapter_needs_its_base_here(tmp_path: Path, shelf: Path) -> None:
    empty = tmp_path / "store"
    empty.mkdir()
    registry = Registry(tmp_path / "models", store=empty)
    with pytest.raises(ModelRefused, match=r"its base cloister-nano@sha256-.* is not in this registry"):
        registry.add(shelf / "desk1")
    name = registry.add(shelf / "desk1", base=BASE)
    assert registry.find(name).manifest.base == registry.add(BASE)
    assert registry.aliases("triage") == {}


def test_what_a_killed_import_left_is_cleared_away(registry: Registry, shelf: Path) -> None:
    (registry.root / ".incoming-killed").mkdir(parents=True)
    registry.add(shelf / "desk1")
    assert not list(registry.root.glob(".incoming-*"))


# --- aliases ---


def test_an_alias_moves_and_its_history_says_from_what_to_what(registry: Registry, names: list[str]) -> None:
    first = registry.move("triage", "live", names[0], by="ada", reason="gate passed", evidence={"gate": "gates/x.json"})
    assert (first.number, first.previous, first.evidence) == (1, bundled_triage(), {"gate": "gates/x.json"})
    move(registry, names[1], "canary", 10)
    move(registry, names[2], "shadow")
    now = registry.aliases("triage")
    assert {alias: (one.name, one.percent) for alias, one in now.items()} == {
        "live": (names[0], None),
        "canary": (names[1], 10),
        "shadow": (names[2], None),
    }
    move(registry, None, "canary")
    assert "canary" not in registry.aliases("triage")
    assert [one.number for one in registry.history()] == [1, 2, 3, 4]


def test_rollback_goes_back_step_by_step_and_then_refuses(registry: Registry, names: list[str]) -> None:
    for name in names:
        move(registry, name)
    back = [registry.rollback("triage", by="ada", reason="worse") for _ in range(3)]
    assert [one.name for one in back] == [names[1], names[0], bundled_triage()]
    assert [one.undoes for one in back] == [3, 2, 1]
    with pytest.raises(RegistryError, match=r"nothing to roll back: live of triage has no earlier target"):
        registry.rollback("triage", by="ada", reason="worse")
    assert live(registry) == bundled_triage()


def test_after_a_rollback_a_new_move_counts_from_there(registry: Registry, names: list[str]) -> None:
    move(registry, names[0])
    move(registry, names[1])
    registry.rollback("triage", by="ada", reason="worse")
    move(registry, names[2])
    assert registry.rollback("triage", by="ada", reason="worse").name == names[0]


def test_a_canary_rolls_back_to_its_earlier_share(registry: Registry, names: list[str]) -> None:
    move(registry, names[0], "canary", 5)
    move(registry, names[0], "canary", 50)
    back = registry.rollback("triage", "canary", by="ada", reason="slower")
    assert (back.name, back.percent) == (names[0], 5)
    assert registry.rollback("triage", "canary", by="ada", reason="slower").name is None
    assert live(registry) == bundled_triage()


def test_a_move_to_where_it_points_already_writes_nothing(registry: Registry, names: list[str]) -> None:
    move(registry, names[0])
    again = registry.move("triage", "live", names[0], by="bob", reason="again")
    assert again.number == 1 and len(registry.history()) == 1


@pytest.mark.parametrize(
    ("task", "alias", "percent", "reason"),
    [
        ("triage", "canary", None, "percent of live traffic from 1 to 99"),
        ("triage", "canary", 0, "from 1 to 99"),
        ("triage", "canary", 100, "from 1 to 99"),
        ("triage", "live", 10, "for a canary, not for live"),
        ("triage", "latest", None, "no alias 'latest'"),
        ("poetry", "live", None, "no task 'poetry'"),
        ("embedding", "live", None, "is of kind adapter; embedding needs embedder"),
    ],
)
def test_a_move_that_makes_no_sense_is_refused(
    registry: Registry, names: list[str], task: str, alias: str, percent: int | None, reason: str
) -> None:
    with pytest.raises(RegistryError, match=reason):
        registry.move(task, alias, names[0], percent=percent, by="ada", reason="a test")
    assert registry.history() == []


def test_a_move_needs_a_full_name_a_person_and_a_reason(registry: Registry, names: list[str]) -> None:
    with pytest.raises(RegistryError, match="points to a full name"):
        registry.move("triage", "live", "desk", by="ada", reason="a test")
    for by, reason in (("", "a test"), ("ada", "  ")):
        with pytest.raises(RegistryError, match="who made it and a reason"):
            registry.move("triage", "live", names[0], by=by, reason=reason)
    with pytest.raises(NotInRegistry):
        registry.move("triage", "live", f"gone@sha256-{'0' * 64}", by="ada", reason="a test")
    with pytest.raises(RegistryError, match="shadow of triage means nothing already"):
        move(registry, None, "shadow")


def test_an_unsigned_model_is_refused_where_signatures_are_required(registry: Registry, names: list[str], shelf: Path) -> None:
    (registry.root / "registry.json").write_text('{"require_signature": true}')
    with pytest.raises(ModelRefused, match="it is unsigned, and a signature by a trusted key is required"):
        registry.add(shelf / "desk1")
    with pytest.raises(ModelRefused, match="unsigned"):
        move(registry, names[0])
    move(registry, bundled_triage())  # came with the installation
    (registry.root / "registry.json").write_text('{"require_signature": "no"}')
    with pytest.raises(RegistryError, match="Mend it"):
        move(registry, names[0])


# --- history on disk ---


def test_the_history_only_grows(registry: Registry, names: list[str]) -> None:
    path = registry.root / "history.jsonl"
    content = b""
    for step in range(6):
        if step == 4:
            registry.rollback("triage", by="ada", reason="worse")
        else:
            move(registry, names[(0, 1, 2, 0, 0, 1)[step]])
        assert path.read_bytes().startswith(content) and len(path.read_bytes()) > len(content)
        content = path.read_bytes()


def test_a_line_that_was_cut_anywhere_was_never_a_move(registry: Registry, names: list[str]) -> None:
    move(registry, names[0])
    path = registry.root / "history.jsonl"
    first = path.read_bytes()
    move(registry, names[1])
    whole = path.read_bytes()
    for length in range(len(first), len(whole), 29):
        path.write_bytes(whole[:length])
        assert live(registry) == names[0]
    move(registry, names[2])
    assert [one.name for one in registry.history()] == [names[0], names[2]]


def test_a_damaged_or_missing_line_is_told(registry: Registry, names: list[str]) -> None:
    for name in names:
        move(registry, name)
    path = registry.root / "history.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[2])
    with pytest.raises(RegistryError, match="is move 3: lines were removed"):
        registry.aliases("triage")
    path.write_bytes(lines[0] + lines[1].replace(b'"by"', b'"by') + lines[2])
    with pytest.raises(RegistryError, match=r"line 2 .* is damaged"):
        registry.history()


def test_many_at_once_number_their_moves_without_a_gap(registry: Registry, names: list[str]) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(
                lambda n: Registry(registry.root).move("triage", "canary", names[n % 3], percent=1 + n, by="x", reason="y"),
                range(24),
            )
        )
    assert [one.number for one in registry.history()] == list(range(1, 25))


KILLED = """
import sys
from pathlib import Path
from models.registry import Registry
registry = Registry(Path(sys.argv[1]))
names = sys.argv[2:]
print("ready", flush=True)
for n in range(10_000):
    registry.move("triage", "shadow", names[n % 3], by="loop", reason="r" * 3000)
"""


def test_a_kill_in_the_middle_of_moves_loses_none_that_was_made(registry: Registry, names: list[str]) -> None:
    for delay in (0.07, 0.16):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(registry.root), *names], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        before = len(registry.history())
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        history = registry.history()
        assert [one.number for one in history] == list(range(1, len(history) + 1)) and len(history) >= before
        move(registry, names[0], "canary", 1 + int(100 * delay))  # the lock was given back
    assert len(registry.history()) > 3


# --- the gate's report ---


def test_a_gate_report_about_another_model_is_refused(registry: Registry, names: list[str]) -> None:
    assert registry.gate(names[0]) is None
    gates = registry.root / "gates"
    gates.mkdir()
    (gates / f"{names[0]}.json").write_text(json.dumps({"passed": True, "full_name": names[1]}))
    with pytest.raises(RegistryError, match="is not a gate report about"):
        registry.gate(names[0])
    (gates / f"{names[0]}.json").write_text(json.dumps({"passed": True}))
    assert registry.gate(names[0]) == {"passed": True}


# --- bundles ---


def test_the_same_models_give_the_same_bundle(registry: Registry, names: list[str], tmp_path: Path) -> None:
    other = Registry(tmp_path / "elsewhere")
    write_bundle(registry, names[0], tmp_path / "a.tar")
    checked = import_bundle(other, tmp_path / "a.tar")
    write_bundle(other, checked.main, tmp_path / "b.tar")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_a_bundle_with_its_base_needs_nothing_there(registry: Registry, names: list[str], tmp_path: Path) -> None:
    empty = tmp_path / "store"
    empty.mkdir()
    write_bundle(registry, names[0], tmp_path / "bare.tar")
    write_bundle(registry, names[0], tmp_path / "full.tar", with_base=True)
    there = Registry(tmp_path / "there", store=empty)
    with pytest.raises(ModelRefused, match="is not in this registry"):
        import_bundle(there, tmp_path / "bare.tar")
    assert there.entries() == []
    check_bundle(there, tmp_path / "full.tar")
    assert there.entries() == []
    import_bundle(there, tmp_path / "full.tar")
    assert {entry.full_name for entry in there.entries()} == {names[0], read(BASE).full_name}
    there.verify(names[0])


def test_a_model_that_is_not_whole_is_not_bundled(registry: Registry, names: list[str], tmp_path: Path) -> None:
    (registry.find(names[0]).folder / "head.json").unlink()
    with pytest.raises(ModelRefused, match=r"head\.json is missing"):
        write_bundle(registry, names[0], tmp_path / "a.tar")
    assert not list(tmp_path.glob("*.tar*"))
