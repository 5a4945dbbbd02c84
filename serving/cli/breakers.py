"""`cloister breakers`: what the circuit breaker holds, and giving it free with a reason. Knows HTTP; judges nothing."""

import json

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from serving.cli.http import Client

out = Console()


@click.group()
def breakers() -> None:
    """Actions that are frozen on a target because they did not help, or because somebody undid them.

    \b
    Example:  cloister breakers list
    """


@breakers.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def list_frozen(as_json: bool) -> None:
    """What is frozen, and the acts of which nobody knows whether they happened.

    \b
    Example:  cloister breakers list --json
    Exit codes: 0 nothing is open, 1 something is, 4 the stack does not answer
    """
    found = Client(role="lead").get("/v1/breakers")
    if as_json:
        click.echo(json.dumps(found, indent=1))
    else:
        _print(found["items"], found["unresolved"])
    raise SystemExit(1 if found["items"] or found["unresolved"] else 0)


def _print(frozen: list[dict[str, str]], unresolved: list[dict[str, str]]) -> None:
    table = Table("action", "target", "why", "ticket")
    for each in frozen:
        table.add_row(each["action"], escape(each["target"]), escape(each["reason"]), each["ticket_id"])
    out.print(table if frozen else "Nothing is frozen.")
    for each in unresolved:
        out.print(f"Unknown outcome: {each['action']} {escape(json.dumps(each['arguments']))} of {each['ticket_id']}")


@breakers.command()
@click.argument("action")
@click.argument("target")
@click.option("--reason", required=True, help="Why; it stands in the log.")
def release(action: str, target: str, reason: str) -> None:
    """Let ACTION touch TARGET again, both as `list` shows them.

    \b
    Example:  cloister breakers release identity.reset_password 'identity.get_user {"user_id":"usr-2"}' --reason "spoke to him"
    Exit codes: 0 given free, 3 it is not frozen, 4 the stack does not answer
    """
    Client(role="lead").post("/v1/breakers/release", {"action": action, "target": target, "reason": reason})
    out.print(f"{action} may touch {escape(target)} again.")
