"""`cloister up`, `down`, `status`: run and look at the stack of this machine."""

import json
import socket
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from orchestrator.domain.errors import BadInput, CloisterError
from serving.cli.http import Client, home_folder
from serving.demo.company import BUNDLED_DAY
from serving.stack import control, state

say = Console(stderr=True)
out = Console()


def free_port(preferred: int) -> int:
    """The preferred port when it is free, else one that the system picks."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise BadInput("No free port on the loopback address.")


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the gateway (default: 8420, or a free one).")
@click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), help="State folder (default: $CLOISTER_HOME or .cloister)."
)
@click.option("--listen", default=None, help="Address to listen on (default 127.0.0.1: this machine alone).")
@click.option(
    "--world",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="World for the sandbox (default: the bundled company's).",
)
@click.option("--json", "as_json", is_flag=True, help="Print {url, keys, console} as JSON.")
def up(port: int | None, data: Path | None, listen: str | None, world: Path | None, as_json: bool) -> None:
    """Start the stack and wait until it is ready.

    \b
    Example:  cloister up --port 8420 --json
    Exit codes: 0 ready, 3 bad settings, 4 it could not be started
    """
    home = (data or home_folder()).resolve()
    overrides: dict[str, Any] = {"http": {}}
    running = state.read_state(home)
    if running is None:
        overrides["http"]["port"] = port or free_port(8420)
    if listen:
        overrides["http"]["host"] = listen
    current = control.start(
        home, overrides=overrides, world=world or BUNDLED_DAY / "world.json", say=lambda phase: say.print(f"  {phase}")
    )
    keys = state.keys(home)
    login = Client(role="admin", url=current.url, key=keys["admin"]).post("/v1/console/logins", {})
    if as_json:
        click.echo(
            json.dumps(
                {"url": current.url, "keys": keys, "console": f"{current.url}/console", "one_time_password": login["password"]}
            )
        )
        return
    out.print(f"Cloister is ready at [bold]{current.url}[/bold]")
    out.print(f"Console: {current.url}/console   one-time password: [bold]{login['password']}[/bold]")
    out.print(f"Keys by role: {home / 'keys.json'}    Stop with: cloister down")


@click.command()
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="State folder.")
def down(data: Path | None) -> None:
    """Stop the stack of this folder; tickets stay in its database.

    \b
    Example:  cloister down
    Exit codes: 0 stopped (or none ran)
    """
    stopped = control.stop((data or home_folder()).resolve())
    click.echo("stopped" if stopped else "no stack is running here")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def status(as_json: bool) -> None:
    """What runs here, and what each part says of itself.

    \b
    Example:  cloister status --json
    Exit codes: 0 ready, 4 not running or not ready
    """
    current = state.read_state(home_folder())
    if current is None:
        click.echo(json.dumps({"running": False}) if as_json else "no stack is running here; start one with `cloister up`")
        raise SystemExit(4)
    report: dict[str, Any] = {"running": True, **state.as_json(current)}
    try:
        report["parts"] = Client(role="admin").get("/v1/status")
    except CloisterError as error:
        report["parts"] = {"gateway": {"ok": False, "detail": str(error)}}
    if as_json:
        click.echo(json.dumps(report, default=str))
    else:
        _print_status(report)
    if not all(part.get("ok", True) for part in report["parts"].values() if isinstance(part, dict)):
        raise SystemExit(4)


def _print_status(report: dict[str, Any]) -> None:
    table = Table(title=f"Cloister at {report['url']} ({report['phase']})", title_justify="left")
    for column in ("part", "ok", "says"):
        table.add_column(column, overflow="fold")
    for name, part in report["parts"].items():
        if name == "aliases":
            continue
        rest = {key: value for key, value in part.items() if key != "ok"} if isinstance(part, dict) else part
        table.add_row(name, "yes" if not isinstance(part, dict) or part.get("ok", True) else "[red]no[/red]", str(rest))
    out.print(table)
    if report["parts"].get("aliases", {}).get("unhealthy") is not None:
        out.print(_alias_table(report["parts"]["aliases"]))


def _short(full_name: str) -> str:
    name, at, digits = full_name.partition("@sha256-")
    return f"{name}{at}{digits[:12]}"


def _alias_table(aliases: dict[str, Any]) -> Table:
    """One line per alias and replica: what it should answer with, what it does, and what it said when it was asked."""
    table = Table(title="Aliases, as every replica answers", title_justify="left")
    for column in ("alias", "stands for", "replica", "answers with", "probe", "healthy"):
        table.add_column(column, overflow="fold")
    for alias, shown in aliases.items():
        if not isinstance(shown, dict):
            continue
        name = _short(shown["name"]) + (f" ({shown['percent']:g} %)" if shown["percent"] is not None else "")
        for told in shown["replicas"] or [{}]:
            answers, problem = str(told.get("answers_with") or "nothing"), told.get("problem") or "not heard of"
            probe = f"{told['probe']} at {told['probed_at']}" if told.get("probe") else ""
            well = "yes" if told.get("healthy") else f"[red]no[/red]: {problem}"
            where = f"{told.get('part', '')} {told.get('replica', '')}".strip()
            table.add_row(alias, name, where, "the same" if answers == shown["name"] else _short(answers), probe, well)
    return table
