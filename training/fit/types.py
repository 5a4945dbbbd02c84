"""The types of a fitted model: the company's where it knows a label, bare names for the rest. Knows a dataset and a taxonomy."""

from collections import Counter, defaultdict
from dataclasses import replace

from orchestrator.domain.triage import OTHERS
from orchestrator.triage.prompts import CODES
from orchestrator.triage.taxonomy import Category, Taxonomy, plain_taxonomy
from training.records import Dataset, Part


def types_of(dataset: Dataset, company: Taxonomy | None) -> Taxonomy:
    """One type per class of the dataset, Others last. A label that the company's taxonomy has keeps its meaning, group and impact.

    Groups of the others are where most of their tickets went. Codes are given in order as far as they go round.
    """
    names = [name for name in dataset.classes if name != OTHERS]
    known = {category.name: category for category in company.categories} if company else {}
    if company and set(names) == set(known):  # the company's own types: its file's order and codes
        return company
    plain = plain_taxonomy(names, groups=_groups(dataset))
    kept = tuple(_known(category, known.get(category.name)) for category in plain.categories)
    return replace(plain, categories=kept)


def _known(plain: Category, company: Category | None) -> Category:
    return plain if company is None else replace(company, code=plain.code)


def _groups(dataset: Dataset) -> dict[str, str]:
    """The assignment group that most training tickets of a type went to."""
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    for index in dataset.indices(Part.TRAIN):
        ticket = dataset.tickets[index]
        if ticket.group:
            counted[ticket.category][ticket.group] += 1
    return {name: groups.most_common(1)[0][0] for name, groups in counted.items()}


def fits_in_options(taxonomy: Taxonomy) -> bool:
    """All types can stand in one prompt."""
    return taxonomy.coded and len(taxonomy.all) <= len(CODES)
