"""Requesters' words to the house's terms: a reviewed file, read whole; rewrites a question before it is searched. Knows no store.

    terms:
      - house: two-factor sign-in
        en: [2FA, authenticator, second factor]
        de: [Zwei-Faktor, zweiter Faktor]

Where a requester's words stand in a question and the house's term does not, the term is added at the end: nothing is taken away.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from orchestrator.domain.errors import ConfigurationError

LANGUAGES = ("en", "de", "fr")
MAX_ADDED = 6  # terms; more would drown the question


@dataclass(frozen=True, kw_only=True)
class Glossary:
    """`terms`: house term -> what finds the requesters' words for it."""

    terms: Mapping[str, re.Pattern[str]] = field(default_factory=dict)

    def rewrite(self, question: str) -> str:
        """The question, followed by the house's terms for what it says in other words. Itself where nothing is to be added."""
        spoken = question.casefold()
        added = [house for house, said in self.terms.items() if house.casefold() not in spoken and said.search(question)]
        return "\n".join([question, *added[:MAX_ADDED]]) if added else question


def load_glossary(path: Path) -> Glossary:
    """Raises ConfigurationError with every problem; a company without the file has no terms."""
    if not path.is_file():
        return Glossary()
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path.name} is not YAML: {error}.") from error
    rows = data.get("terms") if isinstance(data, dict) else None
    if not isinstance(rows, list):
        raise ConfigurationError(f"{path.name} has no list `terms`.", hint="Each of them is {house: term, en: [words], ...}.")
    problems = [f"{path.name}, term {place}: {problem}" for place, row in enumerate(rows, 1) for problem in _problems(row)]
    houses = [str(row.get("house")).casefold() for row in rows if isinstance(row, dict)]
    problems += [f"{path.name}: {house!r} stands there twice" for house in sorted({h for h in houses if houses.count(h) > 1})]
    if problems:
        raise ConfigurationError("\n".join(problems))
    return Glossary(terms={str(row["house"]): _pattern(row) for row in rows})


def _problems(row: object) -> list[str]:
    if not isinstance(row, dict) or not row.get("house"):
        return ["`house` is missing"]
    unknown = set(row) - {"house", *LANGUAGES}
    found = [f"{name} is no language of ours ({', '.join(LANGUAGES)})" for name in sorted(map(str, unknown))]
    lists = [row[name] for name in LANGUAGES if name in row]
    found += ["each language needs a list of words"] if any(not isinstance(each, list) or not each for each in lists) else []
    return found + ([] if lists else ["no language has words for it"])


def _pattern(row: Mapping[str, object]) -> re.Pattern[str]:
    words = [str(word) for name in LANGUAGES for word in row.get(name) or ()]  # type: ignore[attr-defined]
    longest_first = sorted(words, key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(re.escape(word) for word in longest_first)})(?!\w)", re.I)
