"""The names that a company's taxonomy gives: categories and assignment groups. Reads one file; knows no ticket."""

from pathlib import Path

from orchestrator.resolution.playbook import COMPANY
from orchestrator.triage.taxonomy import load_taxonomy


def company_names(folder: Path | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(categories with `Others`, assignment groups) of the company in this folder; None: the bundled one."""
    taxonomy = load_taxonomy((folder or COMPANY) / "taxonomy.yaml")
    return taxonomy.names, tuple(sorted({category.group for category in taxonomy.all}))
