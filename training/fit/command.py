"""`cloister train fit`: reads tickets and recipe, runs the fit, says what came of it. Knows files and the terminal; computes nothing."""

import json
import os
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from models.local import BASE, open_verified
from models.registry import Registry, registry_root
from orchestrator.domain.errors import BadInput, ConfigurationError
from orchestrator.intake.read_tickets import TicketRow, parse_map, read_tickets
from orchestrator.resolution.playbook import COMPANY
from training.cli import MAP_HELP
from training.progress import Steps

FILE = click.Path(path_type=Path, dir_okay=False)
NAME_PATTERN = r"[a-z0-9][a-z0-9._-]{0,62}"


@click.command()
@click.option("--tickets", "files", type=FILE, multiple=True, help="Labeled tickets: CSV, JSONL, also .gz. Repeatable.")
@click.option("--name", required=True, help="What to call the model: lower-case letters, digits, . _ -")
@click.option("--map", "pairs", multiple=True, help=MAP_HELP)
@click.option("--others-label", default="oos", show_default=True, help="Category of the rows that are out of scope.")
@click.option("--recipe", default=None, help="cpu, gpu, or a YAML file.  [default: gpu where there is one, else cpu]")
@click.option("--base", "base_name", default=BASE, show_default=True, help="Base model: a name in the registry, or its folder.")
@click.option("--taxonomy", type=FILE, help="The company's types.  [default: the bundled company's]")
@click.option("--golden", type=FILE, help="A golden set of its own; otherwise a part of the tickets is held out.")
@click.option("--from-feedback", is_flag=True, help="Add what people said of tickets on the running stack (or in --feedback).")
@click.option("--feedback", type=FILE, help="Feedback rows from this JSONL file instead of the running stack.")
@click.option("--since", type=click.DateTime(), help="Only feedback from this day on.")
@click.option("--minutes", type=click.FloatRange(min=0), help="Bound the adapter's training time.")
@click.option("--no-tuned-encoder", is_flag=True, help="Keep the sentence encoder as it is: faster, less accurate.")
@click.option("--seed", type=int, help="Same seed, same machine, same bytes.  [default: the recipe's]")
@click.option("--key", type=FILE, envvar="CLOISTER_SIGNING_KEY", help="Private key to sign the model with.")
@click.option("--restart", is_flag=True, help="Forget an interrupted fit of this name instead of going on with it.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def fit(
    files: Sequence[Path],
    name: str,
    pairs: Sequence[str],
    others_label: str,
    recipe: str | None,
    base_name: str,
    taxonomy: Path | None,
    golden: Path | None,
    from_feedback: bool,
    feedback: Path | None,
    since: datetime | None,
    minutes: float | None,
    no_tuned_encoder: bool,
    seed: int | None,
    key: Path | None,
    restart: bool,
    as_json: bool,
) -> None:
    """Fit adapter, head, encoder and thresholds to labeled tickets and register the model; nothing is promoted.

    An interrupted fit goes on where it was when the same command is given again. Personal data is replaced before anything is stored.

    \b
    Example:  cloister train fit --tickets export.csv --map description=text --name desk
    Exit codes: 0 done, 1 refused, 3 bad input, 130 interrupted (the same command goes on)
    """
    import re

    if not re.fullmatch(NAME_PATTERN, name):
        raise BadInput(f"--name {name!r} cannot be a model's name.", hint="Use lower-case letters, digits, dot, dash, underscore.")
    if not files and not (from_feedback or feedback):
        raise click.UsageError("Give --tickets FILE, or --from-feedback.")
    say = Console(stderr=True)
    home = Path(os.environ.get("CLOISTER_HOME", ".cloister"))
    began = time.monotonic()
    mapping = parse_map(pairs)
    rows = [row for number, file in enumerate(files) for row in _told_apart(read_tickets(file, mapping), number, len(files))]
    rows, feedback_record = _with_feedback(rows, from_feedback, feedback, since, say)
    source = {"files": [_source(file) for file in files], "map": dict(mapping)} | feedback_record
    result = _run(
        name=name, rows=rows, others_label=others_label, recipe=recipe, base_name=base_name, taxonomy=taxonomy,
        golden=read_tickets(golden, mapping) if golden else (), minutes=minutes, tune=not no_tuned_encoder, seed=seed, key=key,
        restart=restart, source=source, home=home, say=say,
    )  # fmt: skip
    told = {
        "name": result.full_name,
        "embedder": result.embedder,
        "folder": str(result.folder),
        "seconds": round(time.monotonic() - began, 1),
        **result.record,
    }
    if as_json:
        click.echo(json.dumps(told, indent=1, ensure_ascii=False))
    else:
        _show(told)


def _run(
    *,
    name: str,
    rows: Sequence[TicketRow],
    others_label: str,
    recipe: str | None,
    base_name: str,
    taxonomy: Path | None,
    golden: Sequence[TicketRow],
    minutes: float | None,
    tune: bool,
    seed: int | None,
    key: Path | None,
    restart: bool,
    source: dict[str, Any],
    home: Path,
    say: Console,
) -> Any:
    from orchestrator.triage.taxonomy import load_taxonomy
    from training.fit.recipe import read_recipe
    from training.fit.run import FitRequest
    from training.fit.run import fit as fit_model
    from training.fit.work import open_work

    overrides: dict[str, dict[str, Any]] = {"adapter": {}, "encoder": {}}
    if minutes is not None:
        overrides["adapter"]["minutes"] = minutes
    if not tune:
        overrides["encoder"]["tune"] = False
    chosen = read_recipe(recipe or _default_recipe(), overrides, seed=seed)
    registry = Registry(registry_root(home))
    base = _base(registry, base_name)
    live = registry.aliases("triage").get("live")
    with (
        Steps(say) as progress,
        open_work(home / "training" / name, restart=restart, recipe=chosen.record(), source=source) as work,
    ):
        return fit_model(
            FitRequest(
                name=name,
                rows=rows,
                recipe=chosen,
                base=base,
                registry=registry,
                work=work,
                company=load_taxonomy(taxonomy or COMPANY / "taxonomy.yaml"),
                golden=golden,
                others_label=others_label,
                source=source,
                data=tuple(f"{entry['file']} (the house's own tickets)" for entry in source["files"]),
                parent=live.name if live else None,
                key=key,
            ),
            say=lambda sentence: say.print(escape(sentence), highlight=False),
            progress=progress,
        )


def _told_apart(rows: Sequence[TicketRow], number: int, files: int) -> list[TicketRow]:
    """Rows of several files: ids that a file did not give are made different."""
    from dataclasses import replace

    return [replace(row, id=f"{number + 1}-{row.id}") for row in rows] if files > 1 else list(rows)


def _with_feedback(
    rows: list[TicketRow], from_feedback: bool, file: Path | None, since: datetime | None, say: Console
) -> tuple[list[TicketRow], dict[str, Any]]:
    if not (from_feedback or file):
        return rows, {}
    from datetime import UTC

    from training.feedback.collect import collect_feedback
    from training.feedback.merge import with_feedback

    collected = collect_feedback(since=since.replace(tzinfo=UTC) if since else None, file=file)
    merged, report = with_feedback(rows, collected)
    say.print(
        f"Feedback: {report.added} tickets added, {report.relabeled} relabeled, {report.confirmed} confirmed, "
        f"{sum(report.refused.values())} not to be learned from",
        highlight=False,
    )
    return merged, {"feedback": report.as_record()}


def _source(path: Path) -> dict[str, Any]:
    from training.data.build import source_record

    return source_record(path)


def _default_recipe() -> str:
    import torch

    return "gpu" if torch.cuda.is_available() else "cpu"


def _base(registry: Registry, name: str) -> Path:
    """The folder of the base, verified."""
    from models.manifest import ModelRefused, verify

    try:
        if name == BASE:
            return open_verified(BASE)[0]
        folder = Path(name) if Path(name).is_dir() else registry.find(name).folder
        verify(folder)
        return folder
    except ModelRefused as error:
        raise ConfigurationError(str(error)) from error


def _show(told: dict[str, Any]) -> None:
    table = Table(title=f"Registered {told['name'].partition('@')[0]}", show_header=False, title_justify="left")
    rows = [("full name", told["name"])]
    if told.get("embedder"):
        rows.append(("tuned encoder", told["embedder"]))
    head, cascade, golden = told["head"], told["cascade"], told.get("golden")
    rows.append(("head on validation", f"{head['accuracy']:.4f}"))
    rows.append(("cascade on validation", f"{cascade['cascade_accuracy']:.4f}, {cascade['share_to_model']:.0%} asked of the model"))
    if golden:
        accuracy = golden["accuracy"]
        rows.append(("on the golden part", f"{accuracy['value']:.4f} ({accuracy['low']:.3f} to {accuracy['high']:.3f})"))
    rows.append(("time", f"{told['seconds'] / 60:.1f} minutes"))
    for what, value in rows:
        table.add_row(what, escape(value))
    Console().print(table)
    plain = told["name"].partition("@")[0]
    click.echo(f"Next: cloister train evaluate --model {plain} --tickets NEWER; cloister train promote {plain}")
