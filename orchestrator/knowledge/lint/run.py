"""Lint a folder: read every article, look at each alone, then at all together. Reads files; writes none, knows no model."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import yaml

from orchestrator.domain.errors import BadInput
from orchestrator.knowledge.lint.alone import Shop, alone
from orchestrator.knowledge.lint.articles import HOUSE, Article, files_of, read_article
from orchestrator.knowledge.lint.findings import ERROR, Finding, finding
from orchestrator.knowledge.lint.together import together

ORDER = {"error": 0, "warning": 1, "info": 2}


@dataclass(frozen=True, kw_only=True)
class Report:
    documents: int
    findings: tuple[Finding, ...]  # the worst first, then by file and line

    @property
    def errors(self) -> int:
        return sum(found.severity == ERROR for found in self.findings)

    def counts(self) -> dict[str, int]:
        """By rule, the most frequent first."""
        return dict(Counter(found.rule for found in self.findings).most_common())


def lint(
    path: Path, *, form: str = HOUSE, today: date, retired: Sequence[str] = (), progress: Callable[[int, int], None] | None = None
) -> Report:
    """Every finding of a folder or a file. `retired`: names of versions and products that are no more. Raises BadInput without files."""
    files = files_of(path)
    root = path if path.is_dir() else path.parent
    articles, findings = _read(files, root, form)
    shop = Shop(today=today, retired=_any_of(retired))
    for place, article in enumerate(articles, start=1):
        findings += alone(article, shop)
        if progress:
            progress(place, len(articles))
    findings += _double_ids(articles)
    findings += together(articles)
    ordered = sorted(findings, key=lambda found: (ORDER[found.severity], found.file, found.line, found.rule, found.message))
    return Report(documents=len(files), findings=tuple(ordered))


def read_retired(path: Path) -> list[str]:
    """Names from a file {retired: [...]}; none where there is no file. Raises BadInput."""
    if not path.is_file():
        return []
    data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    names = data.get("retired") if isinstance(data, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise BadInput(f"{path}: a list `retired` of names is needed.")
    return names


def _read(files: Sequence[Path], root: Path, form: str) -> tuple[list[Article], list[Finding]]:
    articles, findings = [], []
    for path in files:
        try:
            article = read_article(path, root=root, form=form)
            if not article.sections:
                raise BadInput(f"{article.file}: there is no text.")
            articles.append(article)
        except BadInput as error:
            findings.append(finding("front-matter", path.relative_to(root).as_posix(), 1, str(error)))
    return articles, findings


def _double_ids(articles: Sequence[Article]) -> list[Finding]:
    first: dict[str, Article] = {}
    found = []
    for article in articles:
        known = first.setdefault(article.about.id, article)
        if known is not article:
            found.append(
                finding(
                    "duplicate-id", article.file, 1, f"the id {article.about.id} is that of {known.file}", other=f"{known.file}:1"
                )
            )
    return found


def _any_of(names: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile(rf"(?<!\w)(?:{'|'.join(re.escape(name) for name in names)})(?![\w.])", re.I) if names else None
