"""`cloister train embedder`: reads tickets, tunes the sentence encoder, registers it. Knows files and the terminal; computes nothing."""

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from models.registry import Registry, registry_root
from orchestrator.domain.errors import BadInput
from orchestrator.intake.read_tickets import parse_map, read_tickets
from training.progress import Steps

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option("--tickets", type=FILE, required=True, help="Tickets with types, duplicates or both: CSV, JSONL, also .gz.")
@click.option("--name", required=True, help="What to call the encoder: lower-case letters, digits, . _ -")
@click.option("--map", "pairs", multiple=True, metavar="TARGET=SOURCE", help="Rename a field, e.g. description=text. Repeatable.")
@click.option("--others-label", default="oos", show_default=True, help="Category of the rows that are out of scope.")
@click.option("--duplicates-field", metavar="FIELD", help="Field that duplicates of one matter share, e.g. cluster.")
@click.option("--no-labels", is_flag=True, help="Learn from the duplicates alone.")
@click.option("--epochs", type=click.IntRange(min=1), default=6, show_default=True, help="Passes over the tickets.")
@click.option(
    "--precision", type=click.FloatRange(0.5, 0.999), default=0.9, show_default=True,
    help="Precision that the duplicate threshold must keep, as a lower bound with 95 % certainty.",
)  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--restart", is_flag=True, help="Forget an interrupted run of this name instead of going on with it.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def embedder(
    tickets: Path,
    name: str,
    pairs: Sequence[str],
    others_label: str,
    duplicates_field: str | None,
    no_labels: bool,
    epochs: int,
    precision: float,
    seed: int,
    restart: bool,
    as_json: bool,
) -> None:
    """Adapt the sentence encoder to the house's types and duplicates, and register it; nothing is promoted.

    A quarter of the tickets is kept out: on it the change is measured and the threshold for duplicates is set anew. The model holds
    weights only, no ticket. Vectors of two encoders are never mixed: once promoted, the desk embeds its tickets again.

    \b
    Example:  cloister train embedder --tickets bugs.jsonl --duplicates-field cluster --name desk-embedder
    Exit codes: 0 done, 1 refused, 3 bad input or interrupted (the same command goes on)
    """
    if not NAME.fullmatch(name):
        raise BadInput(f"--name {name!r} cannot be a model's name.", hint="Use lower-case letters, digits, dot, dash, underscore.")
    from training.head.adapt import adapt, lessons
    from training.head.tune_encoder import TuneSettings

    rows = read_tickets(tickets, parse_map(pairs))
    given = lessons(rows, duplicates_field=duplicates_field, others_label=others_label, labels=not no_labels, seed=seed)
    work = Path(os.environ.get("CLOISTER_HOME", ".cloister")) / "training" / f"{name}.embedder"
    if restart:
        shutil.rmtree(work, ignore_errors=True)
    folder = work / "model"
    shutil.rmtree(folder, ignore_errors=True)
    say = Console(stderr=True)
    with Steps(say) as steps:
        found = adapt(
            given,
            folder,
            name=name,
            settings=TuneSettings(epochs=epochs, seed=seed),
            precision=precision,
            work=work,
            progress=steps,
        )
    found["model"] = Registry(registry_root()).add(folder)
    shutil.rmtree(work, ignore_errors=True)
    if as_json:
        click.echo(json.dumps(found, indent=1))
    else:
        _show(found, Console())


def _show(found: Mapping[str, Any], console: Console) -> None:
    table = Table("on tickets kept out", "before", "after", title=f"{found['kept_out_tickets']} tickets kept out")
    for label, read in _ROWS:
        before, after = (read(found[when]) for when in ("before", "after"))
        if before is not None or after is not None:
            table.add_row(label, *(f"{value:.4f}" if value is not None else "none" for value in (before, after)))
    console.print(table)
    console.print(f"Registered: {found['model']}", soft_wrap=True, highlight=False)


def _of_duplicates(key: str) -> Any:
    return lambda found: found.get("duplicate_threshold", {}).get(key)


_ROWS = (
    ("nearest ticket has its type", lambda found: found.get("nearest_has_its_type")),
    ("duplicates from cosine", _of_duplicates("cosine")),
    ("  their precision", _of_duplicates("measured")),
    ("  at least (95 %)", _of_duplicates("lower")),
    ("  their recall", _of_duplicates("recall")),
)
