"""`cloister models`: what is here, who vouches for it, which alias means what. Needs no running stack; tells one that runs."""

import getpass
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn
from rich.table import Table

from models import signing
from models.announce import Heard, announce
from models.bundle import SUFFIXES, Checked, check_bundle, import_bundle, is_bundle, write_bundle
from models.intake import take_stock
from models.manifest import Kind, Manifest, as_record, file_sha256
from models.registry import TASKS, Alias, Entry, Move, Registry, RegistryError, registry_root

say = Console(stderr=True, soft_wrap=True)
out = Console()
BAR_FROM_BYTES = 256 * 2**20

task_option = click.option("--task", type=click.Choice(list(TASKS)), default="triage", show_default=True, help="What it is for.")
alias_option = click.option("--alias", type=click.Choice([str(one) for one in Alias]), default="live", show_default=True)
reason_option = click.option("--reason", required=True, help="Why; kept in the history.")
by_option = click.option("--by", default=None, help="Who; default: the user of this process.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
signature_option = click.option("--require-signature", is_flag=True, help="Refuse what no trusted key signed.")


@click.group()
def models() -> None:
    """The models of this installation: import, verify, point aliases, bundle for a machine without a network.

    \b
    Example:  cloister models list
              cloister models import desk.tar --require-signature
              cloister models rollback --reason "too many hand-overs since noon"
    Exit codes: 0 ok, 1 refused or not found, 2 usage
    """


@models.command("list")
@json_option
def list_models(as_json: bool) -> None:
    """Every model, its kind, who signed it and which aliases mean it.

    \b
    Example:  cloister models list --json
    """
    registry = _registry()
    rows = [_row(registry, entry) for entry in registry.entries()]
    if as_json:
        _print_json({"root": str(registry.root), "models": rows, "damaged": registry.damaged()})
        return
    table = Table(title=f"Models in {registry.root}", title_justify="left")
    for column in ("name", "kind", "base", "aliases", "signature"):
        table.add_column(column, overflow="fold")
    for row in rows:
        aliases = ", ".join(f"{one['task']} {one['alias']}{_percent(one['percent'])}" for one in row["aliases"])
        table.add_row(_short(row["full_name"]), row["kind"], _short(row["base"] or ""), aliases, row["signature"])
    out.print(table)
    for name in registry.damaged():
        say.print(f"[red]damaged:[/red] {name}: its manifest cannot be read. Import it again.")


@models.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """One model: manifest, lineage, signature, aliases, the gate's report.

    \b
    Example:  cloister models show triage
    Exit codes: 0 ok, 1 not found
    """
    registry = _registry()
    entry = registry.find(name)
    record = _row(registry, entry) | {
        "folder": str(entry.folder),
        "manifest": as_record(entry.manifest),
        "lineage": _lineage(registry, entry.manifest),
        "gate": registry.gate(entry.full_name),
        "moves": [asdict(move) for move in registry.history() if entry.full_name in (move.name, move.previous)],
    }
    _print_json(record) if as_json else out.print_json(json.dumps(record, ensure_ascii=False))


@models.command("import")
@click.argument("path", type=click.Path(path_type=Path, exists=True))
@click.option("--as", "name", help="Take a folder without a manifest in under this name (a downloaded base or encoder).")
@click.option("--kind", type=click.Choice(["base", "embedder", "reranker"]), default="base", show_default=True, help="With --as.")
@click.option("--license", default="", help="With --as: the model's license.")
@click.option("--base", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Folder of an adapter's base.")
@signature_option
@json_option
def import_model(
    path: Path, name: str | None, kind: str, license: str, base: Path | None, require_signature: bool, as_json: bool
) -> None:
    """Take a folder or a bundle (.tar, .tar.gz) in, once every check is passed. A refusal leaves nothing behind.

    \b
    Example:  cloister models import desk.tar
              cloister models import ./Qwen3-8B --as qwen3-8b --kind base --license Apache-2.0
    Exit codes: 0 imported, 1 refused
    """
    registry = _registry()
    asked: dict[str, Any] = {"base": base, "require_signature": require_signature}
    needs: tuple[str, ...] = ()
    left: list[str] = []
    with _progress(f"importing {path.name}", _size(path)) as progress:
        if is_bundle(path):
            checked = import_bundle(registry, path, progress=progress, **asked)
            full_name, needs = checked.main, checked.needs
        elif path.is_file():
            raise RegistryError(f"{path} is neither a folder nor a bundle ({', '.join(SUFFIXES)}).")
        elif name:
            with registry.staging() as staging:
                fields = {"name": name, "kind": Kind(kind), "license": license}
                _, left = take_stock(path, staging / "model", progress=progress, **fields)  # type: ignore[arg-type]
                full_name = registry.admit(staging / "model", shown=path, **asked)
        else:
            full_name = registry.add(path, progress=progress, **asked)
    entry = registry.find(full_name)
    standing = str(signing.judge(entry.folder, entry.manifest, registry.trusted()))
    missing = [one for one in needs if not _is_there(registry, one)]
    if as_json:
        _print_json({"full_name": full_name, "signature": standing, "left_behind": left, "missing": missing})
        return
    out.print(f"imported {full_name} ({standing})", soft_wrap=True)
    if left:
        say.print(f"left behind: {', '.join(left)}")
    for one in missing:
        say.print(f"[yellow]it needs {one}, which is not in this registry (the encoder of the installation is not listed)[/yellow]")


@models.command()
@click.argument("name")
@click.option("--base", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Folder of an adapter's base.")
@signature_option
@json_option
def verify(name: str, base: Path | None, require_signature: bool, as_json: bool) -> None:
    """Look at every byte of a model of the registry (NAME) or of a folder or bundle (PATH) again.

    \b
    Example:  cloister models verify triage
              cloister models verify ./desk.tar --require-signature
    Exit codes: 0 as it should be, 1 refused, with every problem found
    """
    registry = _registry()
    path = Path(name)
    asked: dict[str, Any] = {"base": base, "require_signature": require_signature}
    if is_bundle(path):
        with _progress(f"verifying {path.name}", _size(path)) as progress:
            rows = _checked_rows(check_bundle(registry, path, progress=progress, **asked))
    elif path.is_dir() and (path / "manifest.json").exists():
        rows = [_verified_row(*registry.check(path, **asked))]
    else:
        entry = registry.find(name)
        rows = [_verified_row(*registry.check(entry.folder, expect=entry.full_name, **asked))]
    if as_json:
        _print_json({"ok": True, "models": rows})
        return
    for row in rows:
        out.print(f"{row['full_name']}: whole, {row['files']} files, {row['signature']}", soft_wrap=True)


@models.command()
@click.argument("name")
@task_option
@alias_option
@click.option("--percent", type=click.IntRange(1, 99), help="Share of live traffic, for a canary.")
@reason_option
@by_option
@click.option("--override", metavar="REASON", help="Move without a passed gate; who and why are recorded.")
@json_option
def promote(
    name: str, task: str, alias: str, percent: int | None, reason: str, by: str | None, override: str | None, as_json: bool
) -> None:
    """Point an alias at a model whose promotion gate has passed (`cloister train promote` runs the gate), and tell the stack.

    \b
    Example:  cloister models promote desk --alias canary --percent 10 --reason "first day"
              cloister models promote desk --reason "gate passed" --json
    Exit codes: 0 moved, 1 refused: no passed gate, not whole, not of this task; 2 usage
    """
    if (alias == Alias.CANARY) != (percent is not None):
        raise click.UsageError("a canary needs --percent, other aliases take none")
    registry = _registry()
    full_name = registry.find(name).full_name
    evidence = _evidence(registry, full_name, override)
    move = registry.move(task, alias, full_name, percent=percent, by=by or getpass.getuser(), reason=reason, evidence=evidence)
    _tell(registry, move, as_json)


@models.command()
@task_option
@click.option("--alias", type=click.Choice([str(Alias.CANARY), str(Alias.SHADOW)]), required=True)
@reason_option
@by_option
@json_option
def withdraw(task: str, alias: str, reason: str, by: str | None, as_json: bool) -> None:
    """End a canary or shadow: the alias means nothing from now on.

    \b
    Example:  cloister models withdraw --alias canary --reason "enough seen"
    Exit codes: 0 withdrawn, 1 it meant nothing
    """
    registry = _registry()
    _tell(registry, registry.move(task, alias, None, by=by or getpass.getuser(), reason=reason), as_json)


@models.command()
@task_option
@alias_option
@reason_option
@by_option
@json_option
def rollback(task: str, alias: str, reason: str, by: str | None, as_json: bool) -> None:
    """Point an alias back at what it meant before, and tell the stack. Once more: one step further back.

    \b
    Example:  cloister models rollback --reason "too many hand-overs since noon"
    Exit codes: 0 rolled back, 1 there is no earlier target, or it is no longer whole
    """
    registry = _registry()
    _tell(registry, registry.rollback(task, alias, by=by or getpass.getuser(), reason=reason), as_json)


@models.command()
@click.option("--task", type=click.Choice(list(TASKS)), help="Of one task alone.")
@json_option
def history(task: str | None, as_json: bool) -> None:
    """Every move of an alias: when, who, from what to what, why, on which evidence.

    \b
    Example:  cloister models history --json
    """
    moves = [move for move in _registry().history() if task in (None, move.task)]
    if as_json:
        _print_json([asdict(move) for move in moves])
        return
    table = Table(box=None, pad_edge=False)
    for column in ("#", "at", "alias", "to", "from", "by", "reason"):
        table.add_column(column, overflow="fold")
    for move in moves:
        reason = f"(takes back {move.undoes}) {move.reason}" if move.undoes else move.reason
        alias = f"{move.task} {move.alias}{_percent(move.percent)}"
        when = move.at[:16].replace("T", " ")
        table.add_row(str(move.number), when, alias, _tiny(move.name), _tiny(move.previous), move.by, reason)
    out.print(table)


@models.command()
@click.argument("name")
@click.option("--out", "target", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File to write (.tar).")
@click.option("--with-base", is_flag=True, help="Put the base inside too.")
@json_option
def bundle(name: str, target: Path, with_base: bool, as_json: bool) -> None:
    """Write a model, its tuned embedder and their signatures into one file; the same models give the same bytes.

    \b
    Example:  cloister models bundle desk --out desk.tar --with-base
    Exit codes: 0 written, 1 not found or not whole
    """
    if not target.name.endswith(".tar"):
        raise click.UsageError("--out must end in .tar")
    needs = write_bundle(_registry(), name, target, with_base=with_base)
    row = {"file": str(target), "bytes": target.stat().st_size, "sha256": file_sha256(target), "needs": list(needs)}
    if as_json:
        _print_json(row)
        return
    out.print(f"wrote {target}: {row['bytes']} bytes, sha256 {row['sha256']}", soft_wrap=True)
    for one in needs:
        say.print(f"not inside, needed where it is imported: {one}")


@models.command()
@click.argument("name")
@click.option(
    "--key",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    envvar="CLOISTER_SIGNING_KEY",
    required=True,
    help="Private key in PEM; default: $CLOISTER_SIGNING_KEY.",
)
def sign(name: str, key: Path) -> None:
    """Sign a model of the registry (NAME) or a folder (PATH); a second key adds a second signature.

    \b
    Example:  cloister models sign desk --key ~/keys/cloister-signing.pem
    Exit codes: 0 signed, 1 not whole, or not a key
    """
    registry = _registry()
    path = Path(name)
    entry = None if (path / "manifest.json").exists() else registry.find(name)
    if entry and entry.bundled:
        raise RegistryError(f"{entry.full_name} came with the installation and is not changed.")
    folder = entry.folder if entry else path
    out.print(f"signed by {signing.sign(folder, key)}", soft_wrap=True)


@models.command()
@click.option("--out", "target", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for the two files.")
def keygen(target: Path) -> None:
    """Make an Ed25519 key pair for signing models. Keep the private file off the machines that serve.

    \b
    Example:  cloister models keygen --out ~/keys
    Exit codes: 0 written, 1 there is a key already
    """
    private, public, name = signing.keygen(target)
    out.print(f"{name}\n  private (keep it): {private}\n  public (give it to `cloister models trust`): {public}", soft_wrap=True)


@models.command()
@click.argument("keyfile", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--require", is_flag=True, help="From now on refuse every model that no trusted key signed.")
def trust(keyfile: Path, require: bool) -> None:
    """Trust a public key: models signed by it count as signed here.

    \b
    Example:  cloister models trust cloister-signing.pub.pem --require
    Exit codes: 0 trusted, 1 not a public key
    """
    registry = _registry()
    key = signing.read_public(keyfile)
    name = signing.key_id(key)
    folder = registry.root / "trusted"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.pub.pem").write_bytes(signing.public_pem(key))
    if require:
        (registry.root / "registry.json").write_text('{"require_signature": true}\n', encoding="utf-8")
    out.print(f"trusted: {name}{'; signatures are required from now on' if require else ''}", soft_wrap=True)


def _registry() -> Registry:
    return Registry(registry_root())


def _evidence(registry: Registry, full_name: str, override: str | None) -> Mapping[str, Any]:
    """What allows a move: a passed gate, or a person who says why not. Raises RegistryError when there is neither."""
    report = registry.gate(full_name)
    if override is not None:
        if not override.strip():
            raise RegistryError("--override needs a reason.")
        return {"override": override, "gate_passed": bool(report and report.get("passed") is True)}
    if report is None or report.get("passed") is not True:
        why = "its promotion gate has not run" if report is None else "its promotion gate said no"
        raise RegistryError(
            f"{full_name} is not promoted: {why}. Run `cloister train promote {full_name.partition('@')[0]}`, or give"
            " --override with your reason."
        )
    content = (registry.root / "gates" / f"{full_name}.json").read_bytes()
    return {"gate": f"gates/{full_name}.json", "gate_sha256": hashlib.sha256(content).hexdigest()}


def _tell(registry: Registry, move: Move, as_json: bool) -> None:
    """Call the listeners and print what happened."""
    heard = announce(registry.root)
    if as_json:
        _print_json(asdict(move) | {"told": [asdict(one) for one in heard]})
    else:
        target = move.name or "what came with the installation" if move.alias == Alias.LIVE else move.name or "nothing"
        back = f" (before: {move.previous})" if move.previous else ""
        out.print(f"{move.task} {move.alias}{_percent(move.percent)} -> {target}{back}", soft_wrap=True)
    for one in heard:
        _print_heard(one)


def _print_heard(one: Heard) -> None:
    mark = "" if one.ok else "[yellow]warning:[/yellow] the alias moved, but "
    say.print(f"{mark}{one.listener}: {one.says}")


def _row(registry: Registry, entry: Entry) -> dict[str, Any]:
    try:
        signature = str(signing.judge(entry.folder, entry.manifest, registry.trusted()))
    except signing.ModelRefused as error:
        signature = f"REFUSED: {error}"
    return {
        "full_name": entry.full_name,
        "kind": str(entry.manifest.kind),
        "base": entry.manifest.base,
        "bundled": entry.bundled,
        "signature": signature,
        "aliases": [
            {"task": task, "alias": move.alias, "percent": move.percent}
            for task in TASKS
            for move in registry.aliases(task).values()
            if move.name == entry.full_name
        ],
    }


def _lineage(registry: Registry, manifest: Manifest) -> list[str]:
    """Parents, nearest first, as far as they are known here."""
    names: list[str] = []
    parent = manifest.parent
    while parent and parent not in names:
        names.append(parent)
        parent = registry.find(parent).manifest.parent if _is_there(registry, parent) else None
    return names


def _is_there(registry: Registry, full_name: str) -> bool:
    return any(entry.full_name == full_name for entry in registry.entries())


def _checked_rows(checked: Checked) -> list[dict[str, Any]]:
    return [_verified_row(manifest, judgement) for manifest, judgement in checked.models]


def _verified_row(manifest: Manifest, judgement: signing.Judgement) -> dict[str, Any]:
    return {"full_name": manifest.full_name, "files": len(manifest.files), "signature": str(judgement)}


def _short(name: str | None) -> str:
    """`name@sha256-` and twelve digits: enough for a person and for `find`."""
    plain, at, digits = (name or "").partition("@sha256-")
    return f"{plain}{at}{digits[:12]}"


def _tiny(name: str | None) -> str:
    """`name@` and eight digits, for a narrow table."""
    plain, at, digits = (name or "-").partition("@sha256-")
    return f"{plain}@{digits[:8]}" if at else plain


def _percent(percent: int | None) -> str:
    return f" {percent} %" if percent else ""


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else sum(one.stat().st_size for one in path.iterdir() if one.is_file())


def _print_json(record: Any) -> None:
    click.echo(json.dumps(record, ensure_ascii=False, indent=2))


@contextmanager
def _progress(what: str, size: int) -> Iterator[Callable[[int], None] | None]:
    """A bar on a terminal, a line elsewhere, nothing where it takes a moment."""
    if size < BAR_FROM_BYTES:
        yield None
        return
    if not sys.stderr.isatty():
        say.print(f"{what}: {size / 2**30:.1f} GiB")
        yield None
        return
    with Progress("{task.description}", BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=say, transient=True) as bar:
        task = bar.add_task(what, total=size)
        yield lambda count: bar.advance(task, count)
