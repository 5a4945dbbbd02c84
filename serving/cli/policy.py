"""`cloister policy test, explain, lint, replay`: the rules of what may be done, tried without a stack.

Reads policy files, written cases and recorded decisions. Judges by the desk's own code; changes nothing.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orchestrator.domain.errors import BadInput, NotFound
from orchestrator.resolution.explain import Explained, explain
from orchestrator.resolution.playbook import COMPANY, Playbook, load_playbook
from orchestrator.resolution.policies import Policies, load_policies
from orchestrator.resolution.policy_lint import lint as lint_policies
from orchestrator.resolution.policy_tests import Report, case_of, run_policy_tests
from orchestrator.resolution.recorded import Looked, RecordedFacts
from orchestrator.resolution.replay import UNKNOWN, Replay, replay
from serving.cli.demo import Steps
from serving.cli.http import Client

out = Console()
FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)
FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
PAGE = 200
ROWS_SHOWN = 20

company_option = click.option(
    "--company", type=FOLDER, default=COMPANY, help="Folder of the company's files. Default: the bundled one."
)
policies_option = click.option(
    "--policies", "folder", type=FOLDER, default=None, help="Folder of policy files. Default: the company's."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


@click.group()
def policy() -> None:
    """Test, explain and replay the rules of what may be done.

    \b
    Example:  cloister policy test
    """


@policy.command()
@click.argument("files", nargs=-1, type=FILE)
@company_option
@policies_option
@json_option
def test(files: Sequence[Path], company: Path, folder: Path | None, as_json: bool) -> None:
    """Judge written cases (FILES; default: tests/*.yaml beside the policies) and compare with what they expect.

    Names every rule that no test saw deciding.

    \b
    Example:  cloister policy test company/policies/tests/refunds.yaml
    Exit codes: 0 all as expected, 1 a test failed, 3 a file is bad
    """
    chosen = folder or company / "policies"
    paths = files or sorted((chosen / "tests").glob("*.yaml"))
    if not paths:
        raise BadInput(f"There are no policy tests in {chosen / 'tests'}.", hint="Name files, or write some there.")
    report = run_policy_tests(paths, read_policies(company, folder))
    if report.problems:
        raise BadInput(f"The policy tests have {len(report.problems)} problem(s): {'; '.join(report.problems)}")
    if as_json:
        click.echo(json.dumps(_tested(report), indent=1))
    else:
        _print_tests(report)
    raise SystemExit(0 if report.passed else 1)


def _tested(report: Report) -> dict[str, Any]:
    return {
        "tests": len(report.checked),
        "failed": [{"file": each.file, "name": each.name, "problem": each.problem} for each in report.failed],
        "rules_no_test_decides": list(report.undecided),
    }


def _print_tests(report: Report) -> None:
    for each in report.failed:
        out.print(f"[red]failed[/] {escape(each.file)}: {escape(each.name)}: {escape(each.problem)}")
    out.print(f"{len(report.checked) - len(report.failed)} of {len(report.checked)} policy tests as expected")
    if report.undecided:
        out.print(f"rules that no test decides: {', '.join(report.undecided)}")
    else:
        out.print("every rule decides at least one test")


@policy.command("explain")
@click.option("--action", default=None, help="Exact name of the act; none: the whole ticket is judged.")
@click.option("--facts", "facts_file", type=FILE, default=None, help="YAML or JSON file with the facts: a mapping of names.")
@click.option("--ticket", "ticket_id", default=None, help="A ticket of the running stack: its recorded decisions are explained.")
@company_option
@policies_option
@json_option
def explain_command(
    action: str | None, facts_file: Path | None, ticket_id: str | None, company: Path, folder: Path | None, as_json: bool
) -> None:
    """Show every rule about an act: whether it applies, and the first condition it fails by, with what was found. Then the verdict.

    \b
    Example:  cloister policy explain --action billing.refund --facts case.yaml
              cloister policy explain --ticket T-1042
    Exit codes: 0 explained, 1 nothing recorded of this ticket, 2 usage, 3 the file is bad, 4 no stack
    """
    if (facts_file is None) is (ticket_id is None):
        raise click.UsageError("Give either --facts FILE or --ticket ID.")
    policies = read_policies(company, folder)
    cases = _written(facts_file, action, policies) if facts_file else _recorded(str(ticket_id), action, policies)
    explained = [(act, explain(act, facts, policies)) for act, facts in cases]
    if as_json:
        click.echo(json.dumps([{"action": act, **each.document()} for act, each in explained], indent=1))
        return
    for act, each in explained:
        _print_explained(act, each)


def _written(path: Path, action: str | None, policies: Policies) -> list[tuple[str | None, Looked]]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {error}", hint="It is a YAML or JSON mapping of facts.") from error
    if not isinstance(data, dict):
        raise BadInput(f"{path} holds no mapping of facts.", hint="For example: {user: {vip: false}, arguments: {amount: 40}}")
    return [(action, case_of(data, {}, (), action=action, policies=policies))]


def _recorded(ticket_id: str, action: str | None, policies: Policies) -> list[tuple[str | None, Looked]]:
    found = [
        (str(each["basis"]["action"]) if each["basis"]["action"] else None, RecordedFacts(each["basis"], policies))
        for page in Client(role="auditor").pages("/v1/decisions", ticket=ticket_id, limit=PAGE)
        for each in page
        if action is None or each["basis"]["action"] == action
    ]
    if not found:
        raise NotFound(f"No decision about {action or 'anything'} is recorded for {ticket_id}.", hint="Was the ticket handled?")
    return [(act, facts) for act, facts in found]


def _print_explained(action: str | None, explained: Explained) -> None:
    table = Table(title=escape(action or "the whole ticket"), title_justify="left")
    for column in ("effect", "rule", "applies", "why"):
        table.add_column(column, overflow="fold")
    for line in explained.lines:
        table.add_row(line.effect, line.rule, "yes" if line.applies else "no", escape(line.why))
    out.print(table)
    verdict = explained.verdict
    out.print(f"[bold]{verdict.decision}[/] by {verdict.rule}: {escape(verdict.reason)}")
    if verdict.approvers:
        board = f", a {verdict.change} change" if verdict.change else ""
        out.print(f"approved by {verdict.quorum} of role {verdict.approvers}{board}")
    for error in verdict.errors:
        out.print(f"could not be judged: {escape(error)}")


@policy.command()
@company_option
@policies_option
@json_option
def lint(company: Path, folder: Path | None, as_json: bool) -> None:
    """Find rules that are never reached, say the same twice, or can never apply.

    \b
    Example:  cloister policy lint
    Exit codes: 0 none, 1 a finding, 3 a file is bad
    """
    found = lint_policies(read_policies(company, folder))
    if as_json:
        click.echo(json.dumps({"findings": found}, indent=1))
    else:
        for each in found:
            out.print(escape(each))
        out.print(f"{len(found)} finding(s)")
    raise SystemExit(1 if found else 0)


@policy.command("replay")
@click.option("--policies", "folder", type=FOLDER, required=True, help="Folder of the changed policy files.")
@click.option(
    "--from", "source", type=FILE, default=None, help="Decisions as JSONL (`--save` writes it). Default: the running stack."
)
@click.option("--since", default=None, help="Only what was decided at or after this time (ISO 8601), of the running stack.")
@click.option("--save", type=click.Path(path_type=Path, dir_okay=False), default=None, help="Write the decisions read as JSONL.")
@company_option
@json_option
def replay_command(folder: Path, source: Path | None, since: str | None, save: Path | None, company: Path, as_json: bool) -> None:
    """Judge recorded decisions again under changed policies: what would have changed, by tickets and amounts.

    \b
    Example:  cloister policy replay --policies changed/ --since 2026-11-01T00:00:00Z
    Exit codes: 0 nothing would change, 1 something would, 3 a file is bad, 4 no stack
    """
    if source and since:
        raise click.UsageError("--since asks the running stack; --from reads a file.")
    policies = read_policies(company, folder)
    decisions = list(_of_file(source) if source else _of_stack(since))
    if save:
        save.write_text("".join(f"{json.dumps(each)}\n" for each in decisions), encoding="utf-8")
    replayed = replay(decisions, policies)
    if as_json:
        click.echo(json.dumps(replayed.document(), indent=1))
    else:
        _print_replay(replayed)
    raise SystemExit(1 if replayed.changed else 0)


def _of_file(path: Path) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            decision = json.loads(line)
            _ = decision["ticket_id"], decision["at"], decision["basis"]["facts"], decision["basis"]["absent"]
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{path}:{number} is no recorded decision ({error!r}).", hint="Write the file with --save.") from error
        yield decision


def _of_stack(since: str | None) -> Iterable[Mapping[str, Any]]:
    with Steps() as steps:
        found: list[Mapping[str, Any]] = []
        for page in Client(role="auditor").pages("/v1/decisions", since=since, limit=PAGE):
            found += page
            steps("decisions read", len(found), len(found))
    return found


def _print_replay(replayed: Replay) -> None:
    same = sum(row.same for row in replayed.rows)
    out.print(f"{len(replayed.rows)} decisions judged again; {same} come out exactly the same, {len(replayed.changed)} differ")
    if not replayed.changed:
        return
    table = Table()
    for column in ("was", "would be", "decisions", "amount", "rules", "tickets"):
        table.add_column(column, overflow="fold")
    for group in replayed.table():
        tickets = group["tickets"]
        more = f" and {len(tickets) - ROWS_SHOWN} more" if len(tickets) > ROWS_SHOWN else ""
        named = f"{', '.join(tickets[:ROWS_SHOWN])}{more}"
        table.add_row(
            group["was"], group["becomes"], str(group["decisions"]), f"{group['amount']:,.2f}", ", ".join(group["rules"]), named
        )
    out.print(table)
    for reason in sorted({row.reason for row in replayed.changed if row.becomes == UNKNOWN}):
        out.print(f"{UNKNOWN}: {escape(reason)}")


def read_policies(company: Path, folder: Path | None) -> Policies:
    """The company's own set, or that of another folder over the same catalogue. Raises BadInput with every problem."""
    playbook: Playbook = load_playbook(company)
    if folder is None:
        return playbook.policies
    bound = {name for runbook in playbook.runbooks.values() for name in runbook.bound}
    policies, problems = load_policies(folder, actions=playbook.actions, bound_names=bound)
    if problems:
        raise BadInput(f"The policies in {folder} have {len(problems)} problem(s): {'; '.join(problems)}")
    return policies
