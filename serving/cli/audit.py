"""`cloister audit verify, checkpoint, export, erase, verifier`: evidence for others. Knows the notary."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

import orchestrator.audit
from orchestrator.audit.checkpoints import AuditBroken
from orchestrator.audit.events import line
from orchestrator.domain.errors import BadInput, ModelUnavailable
from orchestrator.pipeline.notary import Notary
from orchestrator.storage.store import PostgresStore
from serving.cli.http import Client, home_folder
from serving.settings import load_settings
from serving.stack import state
from serving.stack.notary import notary_of

VERIFIER = Path(orchestrator.audit.__path__[0]) / "verify_standalone.py"
DSN = click.option("--dsn", help="The database; none: that of the settings or of the running stack.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print as JSON.")


@click.group()
def audit() -> None:
    """Verify the log, sign checkpoints of it, give evidence to others, erase a ticket's text.

    \b
    Example:  cloister audit verify
    """


@audit.command()
@DSN
@JSON
@click.option(
    "--checkpoints", type=click.Path(path_type=Path, exists=True, file_okay=False), multiple=True, help="Folder; repeatable."
)
def verify(dsn: str | None, checkpoints: tuple[Path, ...], as_json: bool) -> None:
    """Recompute every hash of the log and compare it with every checkpoint.

    \b
    Example:  cloister audit verify --checkpoints /mnt/worm/cloister
    Exit codes: 0 whole, 1 it is not, or nothing vouches for it, 4 the database does not answer
    """
    with _notary(dsn) as notary:
        if checkpoints:
            notary.folders = checkpoints
        found = notary.verify()
    if as_json:
        click.echo(json.dumps(found))
    else:
        _say(found)
    raise SystemExit(0 if found["whole"] and not found["alarm"] else 1)


@audit.command()
@DSN
@JSON
def checkpoint(dsn: str | None, as_json: bool) -> None:
    """Sign what the log is now, into the folders of the settings.

    \b
    Example:  cloister audit checkpoint
    Exit codes: 0 signed, 1 refused: the log is not the one that was signed before, 4 the database does not answer
    """
    with _notary(dsn) as notary:
        made = notary.checkpoint()
    shown = {"number": made.number, "size": made.size, "root": made.root.hex(), "at": made.at, "key": notary.signer.key.key_id}
    click.echo(json.dumps(shown) if as_json else f"checkpoint {made.number} of {made.at}: {made.size} events, key {shown['key']}")


@audit.command()
@DSN
@click.option("--ticket", help="One ticket's events as a signed bundle.")
@click.option("--all", "everything", is_flag=True, help="The whole log with its checkpoints, into a folder.")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="File (of --ticket) or folder (of --all); must not exist."
)
def export(dsn: str | None, ticket: str | None, everything: bool, out: Path) -> None:
    """Evidence for others, who check it with `cloister audit verifier > verify.py` and nothing else of ours.

    \b
    Example:  cloister audit export --ticket T-1001 --out T-1001.json; python3 verify.py bundle T-1001.json
              cloister audit export --all --out evidence; python3 verify.py log evidence/events.jsonl --checkpoints evidence/checkpoints
    Exit codes: 0 written, 1 no such ticket, or the log is broken, 3 it exists already, 4 the database does not answer
    """
    if bool(ticket) == everything:
        raise click.UsageError("Give one of --ticket and --all.")
    if out.exists():
        raise BadInput(f"{out} exists already.", hint="Choose another name; evidence is never overwritten.")
    with _notary(dsn) as notary:
        if ticket:
            out.write_text(notary.export(ticket) + "\n", encoding="utf-8")
        else:
            _export_all(notary, out)
    click.echo(f"written to {out}")


@audit.command()
@click.option("--ticket", required=True, help="Its id.")
@click.option("--reason", required=True, help="Stays in the log: name nobody in it.")
@JSON
def erase(ticket: str, reason: str, as_json: bool) -> None:
    """Take every text of a resolved or closed ticket away, for good. The proofs of its events stay whole.

    \b
    Example:  cloister audit erase --ticket T-1001 --reason "request 17 of the data protection officer"
    Exit codes: 0 erased, 1 it is still worked on, or there is none, 4 the stack does not answer
    """
    answer = Client(role="admin").post(f"/v1/tickets/{ticket}/erase", {"reason": reason})
    click.echo(json.dumps(answer) if as_json else f"{ticket}: {answer['events']} events lost their text")


@audit.command()
def verifier() -> None:
    """Print the standalone verifier: one file for any Python 3.9 or later, the standard library alone.

    \b
    Example:  cloister audit verifier > verify.py
    """
    click.echo(VERIFIER.read_text(encoding="utf-8"), nl=False)


@contextmanager
def _notary(dsn: str | None) -> Iterator[Notary]:
    settings = load_settings(home=home_folder())
    running = state.read_state(home_folder())
    address = dsn or settings.database.dsn or (running.dsn if running else None)
    if not address:
        raise ModelUnavailable("No database is known.", hint="Start the stack with `cloister up`, or give --dsn.")
    with PostgresStore(address, max_connections=2, patience_s=10.0) as store:
        yield notary_of(settings, store)


def _export_all(notary: Notary, out: Path) -> None:
    """Events up to the last checkpoint, and all the checkpoints: what a verifier gets fits together whatever is written meanwhile."""
    notary.checkpoint()
    series, _ = notary.series_and_head()
    out.mkdir(parents=True)
    with (out / "events.jsonl").open("w", encoding="utf-8", newline="\n") as file:

        def write(tx: Any) -> None:
            file.truncate(0)
            file.seek(0)
            for event in tx.chain_rows(after=0, up_to=series[-1].size):
                file.write(line(event) + "\n")

        notary.store.run(write)
    for found in series:
        path = out / "checkpoints" / found.at[:10] / f"{found.number:012d}.note"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(found.note, encoding="utf-8")
    (out / "checkpoints" / "audit.vkey").write_text(f"{notary.signer.key}\n", encoding="utf-8")
    shutil.copy(VERIFIER, out / "verify.py")


def _say(found: dict[str, Any]) -> None:
    if found["alarm"]:
        click.echo(f"ALARM: {found['alarm']}")
    if not found["whole"]:
        raise AuditBroken(f"NOT WHOLE at event {found['problem']['seq']}: {found['problem']['what']}")
    click.echo(f"whole: {found['events']} events, {found['erased']} of them with their text erased; key {found['key']}")
    if not found["checkpoints"]:
        click.echo("no checkpoint there: a log that was rewritten whole, or cut at its end, would look like this, too")
    else:
        click.echo(
            f"{found['checkpoints']} checkpoints cover {found['covered']} events; the newest {found['unprotected']} are chained alone"
        )
