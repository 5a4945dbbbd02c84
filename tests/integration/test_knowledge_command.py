"""`cloister knowledge` against a real gateway, a real database and stand-in models."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from gateway_server import Gateway, key_of

from orchestrator.domain.errors import BadInput
from serving.cli.knowledge import knowledge

ARTICLE = "---\nid: {id}\ntitle: {title}\neffective_on: 2026-03-01\nreviewed_on: 2026-09-01\n---\n## {title}\n{text}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "handbook"
    (made / "deep").mkdir(parents=True)
    (made / "export.md").write_text(ARTICLE.format(id="export", title="Export the list", text="Press Export."))
    (made / "deep" / "import.md").write_text(ARTICLE.format(id="import", title="Import a list", text="Press Import."))
    return made


def run(gateway: Gateway, role: str, *arguments: str) -> Result:
    runner = CliRunner(env={"CLOISTER_URL": gateway.url, "CLOISTER_API_KEY": key_of(role)})
    return runner.invoke(knowledge, list(arguments))


def test_a_folder_is_imported_found_and_left_alone_the_second_time(gateway: Gateway, folder: Path) -> None:
    first = run(gateway, "lead", "import", str(folder), "--json")
    assert (first.exit_code, json.loads(first.stdout)["documents"]) == (0, 2)
    again = json.loads(run(gateway, "lead", "import", str(folder), "--json").stdout)
    assert (again["documents"], again["unchanged"]) == (2, 2)
    found = run(gateway, "analyst", "search", "export the list", "--json")
    assert (found.exit_code, json.loads(found.stdout)[0]["document_id"]) == (0, "export")


def test_one_bad_file_and_nothing_is_sent(gateway: Gateway, folder: Path) -> None:
    (folder / "bad.md").write_text("no front matter")
    answer = run(gateway, "lead", "import", str(folder))
    assert isinstance(answer.exception, BadInput) and "bad.md" in str(answer.exception)
    assert run(gateway, "analyst", "search", "export the list").exit_code == 1


def test_foreign_documents_are_internal_until_somebody_says_otherwise(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(
        "---\ntitle: Mail quota\nms.date: 01/24/2024\naudience: ITPro\n---\n# Mail quota\nA mailbox holds 25 GB.\n"
    )
    assert run(gateway, "lead", "import", str(tmp_path), "--format", "docs").exit_code == 0
    assert run(gateway, "analyst", "search", "mail quota").exit_code == 1
    inside = json.loads(run(gateway, "analyst", "search", "mail quota", "--audience", "internal", "--json").stdout)
    assert (inside[0]["title"], inside[0]["effective_on"]) == ("Mail quota", "2024-01-24")


def test_lint_needs_no_stack_and_ends_with_1_where_there_is_an_error(folder: Path) -> None:
    runner = CliRunner(env={"CLOISTER_URL": "", "CLOISTER_API_KEY": ""})
    assert runner.invoke(knowledge, ["lint", str(folder)]).exit_code == 0
    (folder / "link.md").write_text(ARTICLE.format(id="link", title="Links", text="See [it](nowhere.md)."))
    answer = runner.invoke(knowledge, ["lint", str(folder), "--json"])
    (finding,) = json.loads(answer.stdout)["findings"]
    assert (answer.exit_code, finding["rule"], finding["file"], finding["line"]) == (1, "broken-link", "link.md", 8)


def test_gaps_are_a_table_and_json(gateway: Gateway) -> None:
    answer = run(gateway, "analyst", "gaps", "--json")
    assert (answer.exit_code, json.loads(answer.stdout)["items"]) == (0, [])
    assert run(gateway, "analyst", "gaps").exit_code == 0
