"""`cloister train check`: reads the file, runs the check, writes the report. Knows files and the terminal; measures nothing."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from orchestrator.domain.errors import BadInput
from orchestrator.intake.read_tickets import parse_map, read_tickets
from training.cli import MAP_HELP
from training.progress import Steps
from training.readiness.check import SAMPLE
from training.readiness.records import Report, Verdict


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--map", "pairs", multiple=True, metavar="TARGET=SOURCE", help=MAP_HELP)
@click.option("--others-label", default="oos", show_default=True, help="The label of tickets that are out of scope.")
@click.option(
    "--json", "json_file", metavar="FILE", help="Write the report as JSON here (- for standard output, and nothing else there)."
)
@click.option(
    "--html",
    "html_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the page here.  [default: FILE's name + .readiness.html, in the current folder]",
)
@click.option("--no-html", is_flag=True, help="Write no page.")
@click.option(
    "--sample",
    type=click.IntRange(min=50),
    default=SAMPLE,
    show_default=True,
    help="Compare at most this many tickets, drawn at random; counts always read all.",
)
@click.option(
    "--no-embedding", is_flag=True, help="Compare tickets by their words alone: faster, blind to meaning, needs no torch."
)
@click.option(
    "--examples", type=click.IntRange(min=0), default=3, show_default=True, help="Groups of example tickets shown per measure."
)
def check(
    file: Path, pairs: tuple[str, ...], others_label: str, json_file: str | None, html_file: Path | None, no_html: bool, sample: int,
    no_embedding: bool, examples: int,
) -> None:  # fmt: skip
    """Is the export FILE (CSV, JSONL, also .gz) good enough to train on? Says what to mend first.

    Measures volume, labels and their consistency, content, variety, languages, personal data, change over time and what a quick
    baseline reaches. Tickets shown are redacted. Nothing leaves this machine.

    \b
    Example:  cloister train check export.csv --map subject=short_description --map category=assignment_group
    Exit codes: 0 good, or usable with advice; 1 the verdict is stop; 3 the file is bad
    """
    from training.readiness.check import check as measure_all
    from training.readiness.terminal import print_report

    page = None if no_html else html_file or Path(f"{file.name}.readiness.html")
    _refuse_unwritable(page, json_file)
    rows = read_tickets(file, parse_map(pairs))
    say = Console(stderr=True)
    with Steps(say) as steps:
        report = measure_all(
            rows, others_label=others_label, file=file.name, sha256=hashlib.sha256(file.read_bytes()).hexdigest(), sample=sample,
            embedding=not no_embedding, progress=steps,
        )  # fmt: skip
    if json_file != "-":
        print_report(report, Console(), examples=examples)
    _write(report, page, json_file, say)
    raise SystemExit(1 if report.verdict is Verdict.STOP else 0)


def _refuse_unwritable(page: Path | None, json_file: str | None) -> None:
    """Before minutes of work, not after. Raises BadInput."""
    for path in (page, Path(json_file) if json_file and json_file != "-" else None):
        if path is None:
            continue
        folder = path.resolve().parent
        if not folder.is_dir():
            raise BadInput(f"There is no folder {folder} to write {path.name} into.", hint="Make it, or name another file.")
        if not os.access(path if path.exists() else folder, os.W_OK) or path.is_dir():
            raise BadInput(f"{path} cannot be written.", hint="Name another file.")


def _write(report: Report, page: Path | None, json_file: str | None, say: Console) -> None:
    document: dict[str, Any] = report.to_json()
    if json_file == "-":
        click.echo(json.dumps(document, indent=1, ensure_ascii=False))
    elif json_file:
        Path(json_file).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        say.print(f"JSON report: {json_file}", highlight=False, markup=False, soft_wrap=True)
    if page is not None:
        from training.readiness.page import render

        page.write_text(render(report), encoding="utf-8")
        say.print(f"Page: {page}", highlight=False, markup=False, soft_wrap=True)
