"""`cloister catalog`: read, check, import, pin and prove the actions that the desk may carry out. Runs no desk and needs no stack."""

import json
import os
import shlex
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from orchestrator import sandbox as sandbox_room
from orchestrator.connectors.configured import Connectors, read_connectors
from orchestrator.connectors.drafts import Draft, as_yaml
from orchestrator.connectors.http import HttpSystemsOfRecord
from orchestrator.connectors.mcp import McpSystemsOfRecord, Session
from orchestrator.connectors.openapi import draft_of_document, read_document
from orchestrator.connectors.servers import Server
from orchestrator.connectors.tools import Tool, disabled, draft_of_tools
from orchestrator.domain.actions import Action
from orchestrator.domain.errors import BadInput, ConfigurationError, WorldUnavailable
from orchestrator.resolution.catalog import BUNDLED, Catalog, load_catalog, read_catalog
from orchestrator.resolution.catalog_page import page
from orchestrator.resolution.conform import Callers, conform, read_cases
from orchestrator.sandbox.process import SandboxProcess

say = Console(stderr=True)
out = Console()
FILE = click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=BUNDLED,
    help="A catalogue; the bundled one by default.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
SYSTEM = click.option("--system", required=True, help="The name that the system gets in the catalogue, e.g. jira.")
OUT = click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the draft here instead of printing it.")
CONNECTORS = click.option(
    "--connectors",
    type=click.Path(path_type=Path, dir_okay=False),
    help="connectors.yaml; the one beside the catalogue by default.",
)


@click.group()
def catalog() -> None:
    """The actions that the desk may carry out.

    \b
    Example:  cloister catalog list --writes
    """


@catalog.command("list")
@FILE
@click.option("--writes", is_flag=True, help="Only what changes something.")
@click.option("--page", "as_page", is_flag=True, help="As the table of docs/actions.md.")
@JSON
def list_actions(path: Path, writes: bool, as_page: bool, as_json: bool) -> None:
    """Every action with its risk, limits and approvers.

    \b
    Example:  cloister catalog list --writes
    """
    actions = [action for action in load_catalog(path).values() if action.writes or not writes]
    if as_page:
        click.echo(page(actions), nl=False)
    elif as_json:
        click.echo(json.dumps([_shown(action) for action in actions], indent=2))
    else:
        out.print(_table(actions))


def _table(actions: list[Action]) -> Table:
    table = Table("action", "bound to", "risk", "blast radius", "undone by", "identity", "approvers")
    for action in actions:
        name = action.name if action.reviewed else f"{action.name} (draft)"
        approvers = f"{', '.join(action.approvers.roles)} x{action.approvers.quorum}" if action.approvers else ""
        bound = f"tool {action.tool}" if action.tool else f"{action.method} {action.path}"
        cells = (name, bound, action.risk, action.blast_radius, action.compensation or "", action.identity, approvers)
        table.add_row(*(escape(str(cell)) for cell in cells))
    return table


def _shown(action: Action) -> dict[str, Any]:
    """One action as plain data."""
    plain = {name: value for name, value in vars(action).items() if name not in ("input", "output", "observe", "probe")}
    return json.loads(
        json.dumps(
            {
                **plain,
                "input": action.input.document,
                "output": action.output.document,
                "observe": action.observe and vars(action.observe),
                "probe": action.probe and {**vars(action.probe.observe), "expect": action.probe.expect},
            },
            default=lambda value: vars(value) if hasattr(value, "__dict__") else str(value),
        )
    )


@catalog.command()
@click.argument("name")
@FILE
def show(name: str, path: Path) -> None:
    """Everything that the catalogue says of one action, as JSON.

    \b
    Example:  cloister catalog show billing.refund
    """
    click.echo(json.dumps(_shown(load_catalog(path).action(name)), indent=2))


@catalog.command()
@FILE
@JSON
def check(path: Path, as_json: bool) -> None:
    """Read a catalogue and list every problem; exit 1 where there is one.

    \b
    Example:  cloister catalog check --file company/actions.yaml
    """
    found, problems = read_catalog(path)
    drafts = sorted(name for name, action in found.items() if not action.reviewed)
    if as_json:
        click.echo(json.dumps({"file": str(path), "actions": len(found), "drafts": drafts, "problems": problems}, indent=2))
    else:
        for problem in problems:
            say.print(f"[red]{escape(problem)}[/red]")
        out.print(f"{len(found)} actions, {len(drafts)} of them drafts, {len(problems)} problem(s)")
    raise SystemExit(1 if problems else 0)


# --- importers ------------------------------------------------------------------------------------------------------


@catalog.command("import-openapi")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@SYSTEM
@OUT
@JSON
def import_openapi(file: Path, system: str, out: Path | None, as_json: bool) -> None:
    """Draft an action of every operation of an OpenAPI 3.0 or 3.1 FILE, for review. Reads the file alone; fetches nothing.

    \b
    Example:  cloister catalog import-openapi tracker.yaml --system tracker --out tracker-draft.yaml
    """
    _write(draft_of_document(read_document(file), system=_name(system)), "import-openapi", file.name, out, as_json)


@catalog.command("import-mcp")
@click.argument("where")
@SYSTEM
@click.option("--token-env", help="The environment variable that holds the server's token.")
@OUT
@JSON
def import_mcp(where: str, system: str, token_env: str | None, out: Path | None, as_json: bool) -> None:
    """Draft an action of every tool of an MCP server, for review. WHERE is a URL (streamable HTTP) or a command (stdio).

    \b
    Example:  cloister catalog import-mcp http://127.0.0.1:8000/mcp --system tracker --out tracker-draft.yaml
              cloister catalog import-mcp "python server.py" --system files
    """
    system = _name(system)
    _write(draft_of_tools(_tools_of(_server(where, token_env), where), system=system), "import-mcp", where, out, as_json)


def _name(system: str) -> str:
    if not system.isidentifier() or system != system.lower():
        raise BadInput(f"A system's name is small letters, digits and underscores, not {system!r}.", hint="Such as --system jira.")
    return system


def _server(where: str, token_env: str | None) -> Server:
    token = os.environ.get(token_env) if token_env else None
    if token_env and not token:
        raise BadInput(f"The environment has no {token_env}.", hint="Set it to the server's token.")
    if where.startswith(("http://", "https://")):
        return Server(url=where, token=token)
    return Server(command=tuple(shlex.split(where)))


def _tools_of(server: Server, where: str) -> list[Tool]:
    session = Session(server)
    try:
        return session.tools()
    except Exception as error:
        raise WorldUnavailable(f"The MCP server {where} does not answer: {error}", hint="Is it running?") from error
    finally:
        session.close()


def _write(draft: Draft, command: str, source: str, to: Path | None, as_json: bool) -> None:
    text = as_yaml(draft, command=command, source=source)
    if to is not None:
        to.write_text(text, encoding="utf-8")
    if as_json:
        left = [{"operation": name, "because": why} for name, why in draft.skipped]
        click.echo(json.dumps({"actions": list(draft.actions), "left_out": left, "file": to and str(to)}, indent=2))
    elif to is None:
        click.echo(text, nl=False)
    say.print(f"{len(draft.actions)} drafts, {len(draft.skipped)} left out. None of them can be carried out before it is reviewed.")


# --- pins -----------------------------------------------------------------------------------------------------------


@catalog.command()
@FILE
@CONNECTORS
@JSON
def verify(path: Path, connectors: Path | None, as_json: bool) -> None:
    """Hold every pinned tool against what its server says now; exit 1 where one is disabled.

    \b
    Example:  cloister catalog verify --file company/actions.yaml
    """
    actions, found = load_catalog(path), _connectors(path, connectors)
    with McpSystemsOfRecord(_of_tools(actions), servers=found.servers, clock=_now) as systems:
        reasons = systems.disabled(fresh=True)
    tools = len(_of_tools(actions))
    if as_json:
        click.echo(json.dumps({"tools": tools, "disabled": reasons}, indent=2))
    else:
        for name, reason in reasons.items():
            say.print(f"[red]{escape(name)}[/red]: {escape(reason)}")
        out.print(f"{tools} tools, {len(reasons)} disabled")
    raise SystemExit(1 if reasons else 0)


@catalog.command()
@click.argument("name")
@FILE
@CONNECTORS
@JSON
def pin(name: str, path: Path, connectors: Path | None, as_json: bool) -> None:
    """Show a tool's definition as its server gives it now, and its pin. Review it, then write the pin into the catalogue yourself.

    \b
    Example:  cloister catalog pin tracker.close_issue --file company/actions.yaml
    """
    action = read_catalog(path)[0].action(name)
    if action.tool is None:
        raise BadInput(f"{name} is bound to a request, not to a tool: it has no pin.")
    server = _connectors(path, connectors).servers.get(action.system)
    if server is None:
        raise ConfigurationError(f"No MCP server is named for {action.system}.", hint="Name it in connectors.yaml.")
    tools = _tools_of(server, action.system)
    tool = next((each for each in tools if each.name == action.tool), None)
    if tool is None:
        raise BadInput(
            f"The server of {action.system} has no tool {action.tool!r}; it has {', '.join(each.name for each in tools)}."
        )
    same = not disabled([action], action.system, tools)
    definition = json.loads(tool.canonical)
    if as_json:
        click.echo(json.dumps({"action": name, "reviewed_pin": action.pin, "pin": tool.pin, "definition": definition}, indent=2))
    else:
        click.echo(json.dumps(definition, indent=2))
        out.print(f"pin: {tool.pin}" + ("  (as reviewed)" if same else f"  (reviewed: {action.pin or 'never'})"))


def _connectors(path: Path, given: Path | None) -> Connectors:
    return read_connectors(given or path.with_name("connectors.yaml"), os.environ)


def _of_tools(actions: Catalog) -> dict[str, Action]:
    return {name: action for name, action in actions.items() if action.tool is not None}


def _now() -> datetime:
    return datetime.now(UTC)


# --- conformance ----------------------------------------------------------------------------------------------------


@catalog.command("conform")
@FILE
@click.option("--cases", type=click.Path(path_type=Path, dir_okay=False), help="A case for every action; the sandbox's by default.")
@CONNECTORS
@click.option("--only", multiple=True, help="An action's exact name. Repeatable.")
@JSON
def conform_command(path: Path, cases: Path | None, connectors: Path | None, only: tuple[str, ...], as_json: bool) -> None:
    """Carry every action out against the sandbox, or a TEST system of yours, and say in what it is not as the catalogue says.

    With --connectors it changes the systems that are named there: never name one that is in use.

    \b
    Example:  cloister catalog conform
              cloister catalog conform --file company/actions.yaml --connectors test-connectors.yaml --cases cases.yaml
    """
    actions = load_catalog(path)
    names = [actions.action(name).name for name in only] or list(actions)
    folder = Path(sandbox_room.__file__).parent
    known, extra = read_cases(cases or folder / "conformance.yaml")
    with ExitStack() as stack:
        world = None if connectors else _sandbox(stack, folder, extra)
        callers = _callers(stack, actions, _of_sandbox(world) if world else _connectors(path, connectors))
        problems: dict[str, list[str]] = {}
        for name in track(names, "conform", console=say, transient=True, disable=not say.is_terminal):
            if world:
                world[0].seed(world[1])
            if found := conform(actions[name], known.get(name), actions, callers):
                problems[name] = found
    if as_json:
        click.echo(json.dumps({"actions": len(names), "problems": problems}, indent=2))
    else:
        for name, found in problems.items():
            say.print(f"[red]{escape(name)}[/red]: {escape('; '.join(found))}")
        out.print(f"{len(names)} actions, {len(names) - len(problems)} conform, {len(problems)} do not")
    raise SystemExit(1 if problems else 0)


def _sandbox(stack: ExitStack, folder: Path, extra: Mapping[str, Any]) -> tuple[SandboxProcess, dict[str, Any]]:
    place = stack.enter_context(tempfile.TemporaryDirectory(prefix="cloister-conform-"))
    process = stack.enter_context(SandboxProcess(Path(place) / "world.db"))
    small = json.loads((folder / "small_world.json").read_text(encoding="utf-8"))
    return process, {**small, **{kind: [*small.get(kind, []), *rows] for kind, rows in extra.items()}}


def _of_sandbox(world: tuple[SandboxProcess, Mapping[str, Any]]) -> Connectors:
    return Connectors(base_urls=world[0].base_urls(), tokens=world[0].tokens())


def _callers(stack: ExitStack, actions: Catalog, found: Connectors) -> Callers:
    """The rightful way to the systems, and two that must not get through."""
    names = sorted({system for system, _ in found.tokens})
    other = {name: names[(place + 1) % len(names)] for place, name in enumerate(names)}
    requests = {name: action for name, action in actions.items() if action.tool is None}

    def through(tokens: Mapping[tuple[str, str], str]) -> HttpSystemsOfRecord:
        return stack.enter_context(HttpSystemsOfRecord(requests, base_urls=found.base_urls, tokens=tokens, clock=_now))

    return Callers(
        rightful=through(found.tokens),
        reader=through({key: found.tokens[key[0], "read"] for key in found.tokens}),
        stranger=through({key: found.tokens[other[key[0]], key[1]] for key in found.tokens}),
    )
