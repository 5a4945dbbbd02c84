"""What a model learned from, where it is still on this machine: a file that was named, or the dataset that `train fit` kept."""

import json
from pathlib import Path

import numpy as np

from orchestrator.domain.errors import BadInput
from orchestrator.domain.triage import OTHERS
from training.evaluation.evaluate import Learned
from training.evaluation.exam import Exam
from training.records import Dataset, Part


def kept_dataset(home: Path, full_name: str) -> Path:
    """The folder in which `train fit` keeps the dataset of a model."""
    return home / "training" / full_name.partition("@")[0]


def learned_of_model(home: Path, full_name: str, model_folder: Path) -> tuple[Learned | None, str]:
    """(what the model learned from, or None; a sentence where there is something to say)."""
    folder = kept_dataset(home, full_name)
    if not (folder / "dataset.jsonl").is_file():
        return None, ""
    from training.data.build import load_dataset

    dataset = load_dataset(folder)
    if (told := digest_in(model_folder)) is not None and told != dataset.digest:
        return None, f"The dataset kept in {folder} is of another fit than {full_name}: it is not used."
    return learned_of_dataset(dataset, full_name.partition("@")[0]), ""


def learned_of_dataset(dataset: Dataset, name: str) -> Learned:
    """Training and validation part; nothing was fitted on the golden part."""
    rows = dataset.indices(Part.TRAIN, Part.VALIDATION)
    fitted = dataset.parts[rows] == Part.TRAIN.value
    return Learned(
        texts=[dataset.tickets[index].text for index in rows],
        labels=[dataset.tickets[index].category for index in rows],
        fitted=fitted,
        origin=f"the training part of {name}'s dataset ({int(fitted.sum()):,} tickets)",
        kept=True,
    )


def learned_of_file(exam: Exam, path: Path, classes: tuple[str, ...]) -> Learned:
    """The labeled rows of a file whose types the model knows. Raises BadInput where there are not two types."""
    rows = exam.judged(classes)
    labels = [str(exam.labels[index]) for index in rows]
    if len(set(labels) - {OTHERS}) < 2:
        raise BadInput(f"--train {path} has {len(set(labels))} of the model's types; baselines need at least two.")
    return Learned(
        texts=[exam.texts[index] for index in rows],
        labels=labels,
        fitted=np.ones(len(rows), bool),
        origin=f"{path.name} ({len(rows):,} tickets)",
        kept=False,
    )


def digest_in(model_folder: Path) -> str | None:
    """The dataset's digest as the model folder records it."""
    path = model_folder / "dataset.json"
    return json.loads(path.read_text(encoding="utf-8")).get("digest") if path.is_file() else None
