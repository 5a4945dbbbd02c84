"""Fill reviewed texts with confirmed facts. Jinja2 in its sandbox; knows languages, knows no ticket and no system.

A text is a mapping from language to template; English and German are always there. A template can only use names that the
caller gives, and a missing value is an error, never an empty gap in a sentence.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from orchestrator.domain.errors import ConfigurationError
from orchestrator.resolution.conditions import instant, number
from orchestrator.resolution.yamlfile import YamlFile, read_yaml

LANGUAGES = ("en", "de", "fr")
REQUIRED_LANGUAGES = ("en", "de")
Text = Mapping[str, str]  # language -> template

_DAY = {"en": "{d.day} {month} {d.year}", "de": "{d.day}. {month} {d.year}", "fr": "{d.day} {month} {d.year}"}
_MONTHS = {
    "en": [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ],
    "de": ["Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September", "Oktober", "November", "Dezember"],
    "fr": ["janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre", "novembre", "décembre"],
}


def day(value: Any, language: str = "en") -> str:
    """An instant as a date that people write; what is no instant stays as it is."""
    at = instant(value)
    return _DAY[language].format(d=at, month=_MONTHS[language][at.month - 1]) if isinstance(at, datetime) else str(value)


def money(value: Any, language: str = "en") -> str:
    """1234.5 to "1,234.50" (German "1.234,50", French "1 234,50")."""
    amount = number(value)
    if amount is None:
        return str(value)
    text = f"{amount:,.2f}"
    separators = {"de": (".", ","), "fr": (" ", ",")}.get(language)
    if not separators:
        return text
    return text.replace(",", "\0").replace(".", separators[1]).replace("\0", separators[0])


def _environment(language: str) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    environment.globals.clear()
    environment.filters["day"] = lambda value: day(value, language)
    environment.filters["money"] = lambda value: money(value, language)
    return environment


_ENVIRONMENTS = {language: _environment(language) for language in LANGUAGES}


@lru_cache(maxsize=1024)
def _template(language: str, source: str) -> Template:
    return _ENVIRONMENTS[language].from_string(source)


def language_of(wanted: str, text: Text) -> str:
    """The wanted language where the text has it, else English."""
    return wanted if wanted in text and wanted in LANGUAGES else "en"


def fill(text: Text, language: str, names: Mapping[str, Any]) -> str:
    """The text in this language (English where it has no other); raises ConfigurationError where a value is missing."""
    chosen = language_of(language, text)
    try:
        filled = _template(chosen, text[chosen]).render(names)
    except TemplateError as error:
        raise ConfigurationError(
            f"A reviewed text cannot be filled: {error}.", hint=f"It begins with: {text[chosen][:60]!r}."
        ) from error
    return "\n".join(line.rstrip() for line in filled.strip().splitlines())


def fill_line(template: str, names: Mapping[str, Any]) -> str:
    """An English sentence for colleagues, on one line."""
    return " ".join(fill({"en": template}, "en", names).split())


def template_problems(template: str, known: Iterable[str]) -> list[str]:
    """Why a template cannot be used: it does not parse, or it uses a name that nothing provides."""
    try:
        parsed = _ENVIRONMENTS["en"].parse(template)
    except TemplateError as error:
        return [f"template does not parse: {error}"]
    unknown = sorted(meta.find_undeclared_variables(parsed) - set(known))
    return [f"template uses {', '.join(unknown)}, which nothing provides"] if unknown else []


def template_paths(template: str) -> set[str]:
    """Every path that the template reads: `{{ user.email if user }}` reads user.email and user."""
    found: set[str] = set()
    _read(_ENVIRONMENTS["en"].parse(template), found)
    return found


def _read(node: nodes.Node, found: set[str]) -> None:
    if path := _path(node):
        found.add(path)
        return
    for child in node.iter_child_nodes():
        _read(child, found)


def _path(node: nodes.Node) -> str:
    """`alert.kind` of a name with its attributes; empty for anything else."""
    if isinstance(node, nodes.Name):
        return node.name
    if isinstance(node, nodes.Getattr):
        return f"{inner}.{node.attr}" if (inner := _path(node.node)) else ""
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        return f"{inner}.{node.arg.value}" if (inner := _path(node.node)) else ""
    return ""


def text_problems(text: Text, known: Sequence[str]) -> list[tuple[str, str]]:
    """(language, problem) for every problem of a text."""
    found = [(language, "is missing") for language in REQUIRED_LANGUAGES if language not in text]
    found += [(language, f"unknown language; there are {', '.join(LANGUAGES)}") for language in text if language not in LANGUAGES]
    found += [(language, problem) for language, template in text.items() for problem in template_problems(template, known)]
    return found


MACROS: Mapping[str, tuple[str, ...]] = {
    "identity_subject": ("ticket_id",),
    "identity_mail": ("name", "ticket_id", "code", "minutes"),
    "identity_question": ("name", "ticket_id", "minutes"),
    "identity_reminder": ("name", "ticket_id", "minutes"),
    "which_one": ("name", "thing", "candidates"),
    "which_value": ("name", "thing"),
    "detail_question": ("name", "choices", "ticket_id"),
    "which_article": ("name", "choices", "ticket_id"),
    "draft": ("name", "ticket_id", "group", "matter"),
    "handed_over": ("name", "ticket_id", "group", "matter"),
    "handed_over_urgent": ("name", "ticket_id", "group", "matter"),
    "awaiting_approval": ("name", "ticket_id", "what"),
    "withheld": ("ticket_id",),
    "linked_incident": ("name", "ticket_id", "incident_id", "matter", "places"),
    "linked_duplicate": ("name", "ticket_id", "other_id"),
    "linked_resolved": ("name", "ticket_id", "incident_id", "matter", "places"),
    "duplicate_resolved": ("name", "ticket_id", "other_id", "answer"),
}
"""The desk's own texts, with the names that each may use."""


CIRCUMSTANCES = ("plan", "region", "channel", "health", "vip", "sentiment")  # from billing, the directory, the ticket


@dataclass(frozen=True, kw_only=True)
class Variant:
    """Another text for a macro where all of `when` hold; the first one that fits is said."""

    macro: str
    when: Mapping[str, tuple[str, ...]]  # circumstance -> values, any of which fits, in lower case
    text: Text

    def fits(self, about: Mapping[str, str]) -> bool:
        """A circumstance of which nothing is known fits nothing."""
        return all(about.get(name, "").lower() in values for name, values in self.when.items())


@dataclass(frozen=True, kw_only=True)
class Macros:
    texts: Mapping[str, Text]
    matters: Mapping[str, Text]  # category -> how a requester would call it
    things: Mapping[str, Text]  # order, invoice, ... -> the word for it

    variants: tuple[Variant, ...] = ()

    def say(self, macro: str, language: str, /, *, about: Mapping[str, str] = MappingProxyType({}), **names: Any) -> str:
        """`about`: the ticket's circumstances, by which a variant may be said instead."""
        fitting = (variant.text for variant in self.variants if variant.macro == macro and variant.fits(about))
        return fill(next(fitting, self.texts[macro]), language, names)

    def matter(self, category: str, language: str) -> str:
        text = self.matters.get(category) or self.matters["Others"]
        return text.get(language) or text["en"]

    def thing(self, name: str, language: str) -> str:
        text = self.things.get(name) or {"en": name}
        return text.get(language) or text["en"]


def load_macros(path: Path, categories: Iterable[str]) -> tuple[Macros, list[str]]:
    """The desk's texts and everything that is wrong with them."""
    file = read_yaml(path)
    if file.problems or not isinstance(file.data, dict):
        return Macros(texts={}, matters={}, things={}), list(file.problems) or [file.complaint((), "a mapping is needed")]
    texts, matters, things = (file.data.get(key) or {} for key in ("macros", "matters", "things"))
    problems = [
        file.complaint((key,), "unknown field") for key in file.data if key not in {"macros", "matters", "things", "variants"}
    ]
    problems += [file.complaint(("macros",), f"`{name}` is missing") for name in MACROS if name not in texts]
    problems += [file.complaint(("macros", name), "unknown macro") for name in texts if name not in MACROS]
    for name in texts.keys() & MACROS.keys():
        problems += _problems_of(file, ("macros", name), texts[name], MACROS[name])
    for where, words in (("matters", matters), ("things", things)):
        for name, text in words.items():
            problems += _problems_of(file, (where, name), text, ())
    problems += [file.complaint(("matters",), f"`{name}` is missing") for name in [*categories, "Others"] if name not in matters]
    variants, found = _variants(file, file.data.get("variants") or [])
    return Macros(texts=texts, matters=matters, things=things, variants=variants), problems + found


def _variants(file: YamlFile, rows: Any) -> tuple[tuple[Variant, ...], list[str]]:
    """Rows {macro, when: {plan|region|channel|health|vip|sentiment: value or list}, en, de, ...}."""
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return (), [file.complaint(("variants",), "needs a list of texts with `macro` and `when`")]
    variants, problems = [], []
    for index, row in enumerate(rows):
        place, when, macro = ("variants", index), row.get("when"), str(row.get("macro"))
        text = {name: value for name, value in row.items() if name not in {"macro", "when"}}
        if macro not in MACROS:
            problems.append(file.complaint(place, f"unknown macro {macro}"))
        elif not isinstance(when, dict) or not when or set(when) - set(CIRCUMSTANCES):
            problems.append(file.complaint(place, f"`when` needs values for some of {', '.join(CIRCUMSTANCES)}"))
        else:
            problems += _problems_of(file, place, text, MACROS[macro])
            wanted = {name: tuple(str(each).lower() for each in (v if isinstance(v, list) else [v])) for name, v in when.items()}
            variants.append(Variant(macro=macro, when=wanted, text=text))
    return tuple(variants), problems


def _problems_of(file: YamlFile, place: tuple[str | int, ...], text: Any, known: tuple[str, ...]) -> list[str]:
    if not isinstance(text, dict):
        return [file.complaint(place, "needs a text per language")]
    return [file.complaint((*place, language), problem) for language, problem in text_problems(text, known)]
