"""The threat model names one executable test for each entry of OWASP's lists: none is missing, and none points at nothing."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| ((?:LLM|T|ASI)\d+) [^|]+\| [^|]+\| `([^`]+)::([^`]+)` \|$", re.M)
ROWS = ROW.findall((ROOT / "docs" / "security.md").read_text(encoding="utf-8"))
LISTS = [*(f"LLM{n:02}" for n in range(1, 11)), *(f"T{n}" for n in range(1, 16)), *(f"ASI{n:02}" for n in range(1, 11))]


def test_every_entry_of_the_lists_has_exactly_one_row() -> None:
    assert [entry for entry, _, _ in ROWS] == LISTS


def test_no_test_stands_for_two_entries() -> None:
    tests = [f"{file}::{name}" for _, file, name in ROWS]
    assert len(set(tests)) == len(tests)


@pytest.mark.parametrize(("entry", "file", "name"), ROWS, ids=[row[0] for row in ROWS])
def test_the_named_test_is_there_runs_by_default_and_asserts(entry: str, file: str, name: str) -> None:
    module = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    found = next((node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == name), None)
    assert found is not None, f"{file} has no test {name}"
    marks = " ".join(ast.unparse(each) for each in found.decorator_list)
    assert not re.search(r"mark\.(skip|slow|gpu|benchmark)\b", marks)
    checks = (ast.Assert, ast.With)  # `with pytest.raises` is a check as well
    assert any(isinstance(node, checks) for node in ast.walk(found)) or "problem(" in ast.unparse(found)
