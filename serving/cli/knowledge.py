"""`cloister knowledge import, lint, search, gaps`: documents to the running stack, what is wrong with them, what they answer, what
they lack. `lint` needs no stack."""

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orchestrator.domain.errors import BadInput, CallerError
from orchestrator.knowledge.lint.articles import DOCS, HOUSE, Article, files_of, read_article
from orchestrator.knowledge.lint.findings import RULES, Finding
from orchestrator.knowledge.lint.run import Report, lint, read_retired
from serving.cli.demo import Steps
from serving.cli.http import Client

say = Console(stderr=True)
out = Console()
AT_ONCE = 4  # documents under way
SENT = (
    "id", "title", "audience", "authority", "owner", "version", "effective_on", "expires_on", "reviewed_on", "review_by",
        "language", "policy_id",
    "groups", "regions", "plans", "sensitive", "summary", "supersedes",
)  # fmt: skip
TONES = {"error": "red", "warning": "yellow", "info": "blue"}
FORMAT = click.option(
    "--format", "form", type=click.Choice([HOUSE, DOCS]), default=HOUSE, show_default=True,
    help="house: our own front matter. docs: that of other documentation (title, ms.date, description, ...), or none.",
)  # fmt: skip
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


@click.group()
def knowledge() -> None:
    """Import, lint or search knowledge, and see what it lacks.

    \b
    Example:  cloister knowledge lint handbook/ && cloister knowledge import handbook/
    """


# --- import ---------------------------------------------------------------------------------------------------------


@knowledge.command("import")
@click.argument("path", type=click.Path(path_type=Path, exists=True))
@FORMAT
@click.option(
    "--audience", type=click.Choice(["requester", "internal"]), help="With --format docs: who may read them (else: internal)."
)
@AS_JSON
def import_(path: Path, form: str, audience: str | None, as_json: bool) -> None:
    """Put every Markdown file of PATH (a folder and all below it, or one file) into the running stack.

    All files are read first; where one is bad nothing is sent and every bad one is named. A document that is there already is left alone.

    \b
    Example:  cloister knowledge import handbook/
    Exit codes: 0 all are in, 1 some were refused, 3 a file is bad, 4 the stack does not answer
    """
    if audience and form == HOUSE:
        raise click.UsageError("--audience goes with --format docs; a document of the house says it itself.")
    articles = read_all(path, form)
    client = Client(role="lead")
    refused: dict[str, str] = {}
    passages = unchanged = 0
    with Steps() as steps:
        for place, (article, answer) in enumerate(_sent(client, articles, audience), start=1):
            if isinstance(answer, str):
                refused[article.file] = answer
            else:
                passages += answer["passages"]
                unchanged += bool(answer.get("unchanged"))
            steps("documents", place, len(articles))
    result = {"documents": len(articles) - len(refused), "unchanged": unchanged, "passages": passages, "refused": refused}
    if as_json:
        click.echo(json.dumps(result, indent=1))
    else:
        out.print(
            f"{result['documents']:,} documents in {passages:,} passages ({unchanged:,} were there already), {len(refused)} refused."
        )
        for file, why in refused.items():
            say.print(f"[red]{escape(file)}[/]: {escape(why)}")
    raise SystemExit(1 if refused else 0)


def read_all(path: Path, form: str) -> list[Article]:
    """Every article. Raises BadInput that names every bad file."""
    root = path if path.is_dir() else path.parent
    articles, complaints = [], []
    for file in files_of(path):
        try:
            article = read_article(file, root=root, form=form)
            article.document()
            articles.append(article)
        except BadInput as error:
            if form == DOCS and "there is no text" in str(error):
                continue  # a foreign folder has pages that only include others
            complaints.append(str(error))
    if complaints:
        raise BadInput("\n".join([f"{len(complaints)} of these files cannot be read:", *complaints[:50]]))
    return articles


def _sent(client: Client, articles: Sequence[Article], audience: str | None) -> Iterator[tuple[Article, Mapping[str, Any] | str]]:
    """Each article with the stack's answer, or why it was refused; a few at a time, in order."""

    def send(article: Article) -> Mapping[str, Any] | str:
        try:
            answer: Mapping[str, Any] = client.post("/v1/knowledge", body_of(article, audience))
            return answer
        except (CallerError, BadInput) as error:
            return str(error)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from zip(articles, pool.map(send, articles), strict=True)


def body_of(article: Article, audience: str | None = None) -> dict[str, Any]:
    """What `POST /v1/knowledge` takes."""
    about = asdict(article.about)
    body = {name: about[name] for name in SENT if about[name] not in (None, "", (), False)}
    return {**body, **({"audience": audience} if audience else {}), "source": article.file[-500:], "text": article.body}


# --- lint -----------------------------------------------------------------------------------------------------------


@knowledge.command("lint")
@click.argument("path", type=click.Path(path_type=Path, exists=True), required=False)
@FORMAT
@click.option(
    "--retired", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="A file {retired: [names]} of what is no more."
)
@click.option("--rules", "show_rules", is_flag=True, help="Print what each rule finds and what to do, and stop.")
@AS_JSON
def lint_(path: Path | None, form: str, retired: Path | None, show_rules: bool, as_json: bool) -> None:
    """Read the knowledge in PATH and say what is wrong with it: contradictions, stale or undated texts, duplicates, vague exceptions,
    broken links. Needs no running stack. Without --retired, `retired.yaml` beside the folder is read where there is one.

    \b
    Example:  cloister knowledge lint handbook/ --json
    Exit codes: 0 no errors, 1 at least one finding of severity error, 2 usage, 3 there is nothing to read
    """
    if show_rules:
        _print_rules()
        return
    if path is None:
        raise click.UsageError("Name a folder or a file.")
    names = read_retired(retired or (path if path.is_dir() else path.parent).resolve().parent / "retired.yaml")
    with Steps() as steps:
        today = datetime.now(UTC).date()
        report = lint(path, form=form, today=today, retired=names, progress=lambda done, of: steps("articles", done, of))
    if as_json:
        result = {"documents": report.documents, "errors": report.errors, "counts": report.counts()}
        click.echo(json.dumps({**result, "findings": [asdict(found) for found in report.findings]}, indent=1, ensure_ascii=False))
    else:
        _print_report(report)
    raise SystemExit(1 if report.errors else 0)


def _print_report(report: Report) -> None:
    for found in report.findings:
        _print_finding(found)
    counts = ", ".join(f"{count} {rule}" for rule, count in report.counts().items()) or "nothing found"
    out.print(f"{report.documents:,} documents: {counts}.")


def _print_finding(found: Finding) -> None:
    beside = f" [dim](and {escape(found.other)})[/]" if found.other else ""
    out.print(
        f"{escape(found.file)}:{found.line}: [{TONES[found.severity]}]{found.severity}[/] {found.rule}: {escape(found.message)}{beside}"
    )
    out.print(f"    {escape(found.todo)}", style="dim")


def _print_rules() -> None:
    table = Table("rule", "severity", "finds", "what to do")
    for name, rule in RULES.items():
        table.add_row(name, rule.severity, rule.finds, rule.todo)
    out.print(table)


# --- search and gaps ------------------------------------------------------------------------------------------------


@knowledge.command()
@click.argument("question")
@click.option("--audience", type=click.Choice(["requester", "internal"]), default="requester", show_default=True)
@click.option("--limit", type=click.IntRange(1, 50), default=5, show_default=True)
@AS_JSON
def search(question: str, audience: str, limit: int, as_json: bool) -> None:
    """The passages that the running stack finds for QUESTION, the best first.

    \b
    Example:  cloister knowledge search "how do I export the stock list"
    Exit codes: 0 something was found, 1 nothing, 4 the stack does not answer
    """
    items = Client(role="analyst").get("/v1/knowledge/search", q=question, audience=audience, limit=limit)["items"]
    if as_json:
        click.echo(json.dumps(items, indent=1, ensure_ascii=False))
    else:
        for item in items:
            places = f"meaning {item['vector_rank'] or '-'}, words {item['text_rank'] or '-'}"
            about = f"{item['document_id']} {item['version']}, effective {item['effective_on'] or 'unknown'}"
            out.print(f"[bold]{escape(item['title'])}[/] > {escape(item['heading'])}")
            out.print(f"  [dim]{escape(about)}; cosine {item['score']:.2f}, {places}[/]")
            out.print(f"  {escape(item['text'][:300])}")
    raise SystemExit(0 if items else 1)


@knowledge.command()
@click.option("--days", type=click.IntRange(1, 3650), default=30, show_default=True, help="How far back.")
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="Groups.")
@AS_JSON
def gaps(days: int, limit: int, as_json: bool) -> None:
    """Questions that knowledge did not answer, grouped by meaning, the most frequent first.

    \b
    Example:  cloister knowledge gaps --days 7
    Exit codes: 0 ok (also where there is none), 4 the stack does not answer
    """
    answer = Client(role="analyst").get("/v1/knowledge/gaps", days=days, limit=limit)
    if as_json:
        click.echo(json.dumps(answer, indent=1, ensure_ascii=False))
        return
    table = Table("asked", "why", "for example", "nearest article", title=f"{answer['questions']} unanswered in {days} days")
    for group in answer["items"]:
        why = ", ".join(f"{name} {count}" for name, count in group["why"].items())
        nearest = f"{group['nearest_title']} ({group['best']:.2f})" if group["best"] is not None else group["nearest_title"]
        table.add_row(str(group["count"]), why, escape("\n".join(group["examples"])), escape(nearest))
    out.print(table)
