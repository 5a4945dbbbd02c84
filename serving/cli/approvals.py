"""`cloister approvals`: what waits for a person, shown and decided at the terminal. Knows HTTP; decides nothing itself."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from serving.cli.http import Client

out = Console()
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
REASON = click.option("--reason", required=True, help="Why; it stands in the log under your name.")
ROLE = click.option(
    "--role",
    type=click.Choice(["approver", "lead"]),
    default="approver",
    show_default=True,
    help="Whose key of the local stack to use.",
)


@click.group()
def approvals() -> None:
    """Frozen actions that wait for people: list, show, approve, reject, edit, link.

    \b
    Example:  cloister approvals list
    """


@approvals.command(name="list")
@click.option("--all", "everything", is_flag=True, help="Decided ones, too.")
@click.option("--to-review", is_flag=True, help="Emergencies that were carried out and that nobody has looked at again.")
@AS_JSON
def list_(everything: bool, to_review: bool, as_json: bool) -> None:
    """What waits, newest first.

    \b
    Example:  cloister approvals list --all
    Exit codes: 0 shown, 4 the stack does not answer
    """
    query = {} if everything or to_review else {"status": "waiting"}
    found = Client(role="lead").get("/v1/approvals", limit=100, **query, **({"to_review": "true"} if to_review else {}))["items"]
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    table = Table(title=f"{len(found)} approvals", title_justify="left")
    for column in ("id", "ticket", "state", "yes", "what", "expires"):
        table.add_column(column, overflow="fold")
    for row in found:
        table.add_row(row["id"], row["ticket_id"], row["status"], _yes(row), escape(_what(row)), row["expires_at"][:16])
    out.print(table)


@approvals.command()
@click.argument("approval")
@AS_JSON
def show(approval: str, as_json: bool) -> None:
    """One, exactly as it would be carried out.

    \b
    Example:  cloister approvals show A-101
    Exit codes: 0 shown, 3 no such approval, 4 the stack does not answer
    """
    row = Client(role="lead").get(_path(approval))
    if as_json:
        click.echo(json.dumps(row, indent=1))
        return
    proposal = row["proposal"]
    click.echo(f"{row['id']} ({row['status']}, {_yes(row)} yes) for {row['ticket_id']}: {_what(row)}")
    click.echo(f"  {proposal['action']} {json.dumps(proposal['arguments'], ensure_ascii=False)}")
    for name in ("risk", "blast_radius", "reversible", "compensation", "before"):
        if proposal["preview"].get(name) is not None:
            click.echo(f"  {name.replace('_', ' ')}: {json.dumps(proposal['preview'][name], ensure_ascii=False)}")
    click.echo(f"  why a person: {row['reason']} (rule {row['rule']}, role {row['approvers']})")
    click.echo(f"  digest {proposal['digest'][:16]}, expires {row['expires_at'][:16]} UTC")
    for vote in row["votes"]:
        click.echo(f"  {vote['by']} ({vote['role']}): {'yes' if vote['approve'] else 'no'}, {vote['reason']}")


@approvals.command()
@click.argument("approval")
@REASON
@ROLE
def approve(approval: str, reason: str, role: str) -> None:
    """Say yes. At the quorum the action is carried out once, exactly as shown.

    \b
    Example:  cloister approvals approve A-101 --reason "checked with finance"
    Exit codes: 0 kept, 1 refused (too late, your own matter, you have spoken), 3 no such approval, 4 no stack
    """
    _decide(approval, "approve", reason, role)


@approvals.command()
@click.argument("approval")
@REASON
@ROLE
def reject(approval: str, reason: str, role: str) -> None:
    """Say no. One no ends it; the ticket goes to a person.

    \b
    Example:  cloister approvals reject A-101 --reason "a replacement was sent"
    """
    _decide(approval, "reject", reason, role)


def _decide(approval: str, decision: str, reason: str, role: str) -> None:
    row = Client(role=role).post(_path(approval), {"decision": decision, "reason": reason})
    click.echo(f"{row['id']}: {row['status']} ({_yes(row)} yes)")


@approvals.command()
@click.argument("approval")
@click.option("--amount", type=float, required=True, help="Less than what was asked for.")
@REASON
@ROLE
def edit(approval: str, amount: float, reason: str, role: str) -> None:
    """Put a smaller amount in its place: a new proposal, for somebody else to decide.

    \b
    Example:  cloister approvals edit A-101 --amount 120 --reason "shipping is not refunded"
    """
    row = Client(role=role).post(f"{_path(approval)}/edit", {"arguments": {"amount": amount}, "reason": reason})
    click.echo(f"{row['id']} stands in the place of {approval}: {_what(row)}")


@approvals.command()
@click.argument("approval")
@click.option("--to", required=True, help="Who decides with it; their name stands in the log.")
@click.option("--role", type=click.Choice(["approver", "lead"]), default="approver", show_default=True)
@click.option("--minutes", type=click.IntRange(5, 4320), default=240, show_default=True)
def link(approval: str, to: str, role: str, minutes: int) -> None:
    """A signed address for one person; looking at it decides nothing, and it decides once.

    \b
    Example:  cloister approvals link A-101 --to kim@elm.example
    """
    client = Client(role="lead")
    made = client.post(f"{_path(approval)}/links", {"to": to, "role": role, "minutes": minutes})
    click.echo(f"{client.url}{made['path']}")


def _path(approval: str) -> str:
    return f"/v1/approvals/{quote(approval, safe='')}"


def _yes(row: Mapping[str, Any]) -> str:
    return f"{sum(vote['approve'] for vote in row['votes'])} of {row['quorum']}"


def _what(row: Mapping[str, Any]) -> str:
    return str(row["proposal"]["preview"].get("what") or row["proposal"]["action"])
