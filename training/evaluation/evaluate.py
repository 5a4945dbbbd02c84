"""One evaluation from top to bottom: predict every row, judge the labeled ones, compare with head, baselines and incumbent.

Knows the parts of this package and the shape of the report; knows no command line and no page. The report is a plain record
(`SCHEMA_VERSION` says which shape), complete enough that the page is drawn from it alone.
"""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from orchestrator.domain.errors import BadInput
from orchestrator.domain.triage import OTHERS, Classification
from orchestrator.triage.head import normalize
from training.evaluation import baselines, compare
from training.evaluation.exam import Exam
from training.evaluation.figures import by_slice, confusion, figures, per_class, share
from training.evaluation.judgment import Judgment, from_classifications, from_model_alone
from training.evaluation.leaks import near_copies
from training.evaluation.mistakes import Redact, errors, suspected_labels
from training.evaluation.predict import Predictor, Progress, silent
from training.metrics import mcnemar

SCHEMA_VERSION = 1
FEWEST_FOR_BASELINES = 20
SEEN_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What a model learned from, for the baselines and the leak check. `fitted` marks the training part."""

    texts: Sequence[str]
    labels: Sequence[str]
    fitted: np.ndarray  # [n] bool; the others fitted thresholds and calibration: seen, but no baseline learns from them
    origin: str  # in words: "training part of desk's dataset (8,012 tickets)"
    kept: bool  # it is the model's own dataset, not a file that somebody named


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """`found` has one classification per row of the file; `report` is None where no row has a label."""

    found: tuple[Classification, ...]
    report: Mapping[str, Any] | None
    notes: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Evaluator:
    """What an evaluation needs beside the file. The gate of a promotion uses the same."""

    predictor: Predictor
    incumbent: Predictor | None = None
    incumbent_note: str = ""  # why there is none
    learned: Learned | None = None  # what the model was fitted on, for the leak check
    train: Learned | None = None  # what the baselines learn from, where it is not that
    with_baselines: bool = True
    target_precision: float = 0.95
    redact: Redact = str
    progress: Progress = silent
    notes: list[str] = field(default_factory=list)
    first_pass: dict[str, float] = field(default_factory=dict)  # seconds of embedding and deciding the file

    def evaluate(self, exam: Exam) -> Evaluation:
        """Raises BadInput where rows have labels and the model knows none of them."""
        exam = exam.spelled_as(self.predictor.classes)
        judged = exam.judged(self.predictor.classes)
        self._check(exam, judged)
        vectors = self.predictor.embed(exam.texts, progress=self.progress)
        found = self.predictor.classify(exam.texts, vectors, progress=self.progress)
        self.first_pass = dict(self.predictor.seconds)
        if not len(judged):
            self.notes.append("No row of the file has a label: predictions only, no figures.")
            return Evaluation(found=tuple(found), report=None, notes=tuple(self.notes))
        report = self._report(exam, judged, vectors, found)
        return Evaluation(found=tuple(found), report=report, notes=tuple(self.notes))

    def _check(self, exam: Exam, judged: np.ndarray) -> None:
        labeled = len(exam) - exam.unlabeled()
        in_scope = any(exam.labels[index] != OTHERS for index in judged)
        unknown = exam.unknown(self.predictor.classes)
        if labeled and unknown and not in_scope:
            theirs, ours = ", ".join(list(unknown)[:5]), ", ".join(self.predictor.classes[:5])
            raise BadInput(
                f"None of the file's types is one of the model's: the file has {theirs}, ...; {self.predictor.name} knows {ours}, ...",
                hint="Was the right column mapped (--map category=...), and is this the right model?",
            )
        if unknown:
            rows = sum(unknown.values())
            named = ", ".join(f"{name} ({count})" for name, count in list(unknown.items())[:8])
            self.notes.append(f"Rows with types that the model does not know are not judged ({rows} rows): {named}.")
        if exam.unlabeled() and labeled:
            self.notes.append(f"Rows without a label are predicted and not judged ({exam.unlabeled()} rows).")

    def _report(self, exam: Exam, judged: np.ndarray, vectors: np.ndarray, found: Sequence[Classification]) -> dict[str, Any]:
        targets = np.array([exam.labels[index] for index in judged], object)
        texts = [exam.texts[index] for index in judged]
        ids = [exam.rows[index].id for index in judged]
        chosen = [found[index] for index in judged]
        head = self.predictor.head_alone().classify(texts, vectors[judged], progress=self.progress)
        cascade, alone = from_classifications("cascade", chosen), from_classifications("head alone", head)
        cuts = {name: [values[index] for index in judged] for name, values in exam.slices().items()}
        cuts["decided by"] = [each.stage for each in chosen]
        return {
            "schema_version": SCHEMA_VERSION,
            "kind": "cloister.evaluation",
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "model": self._model(),
            "file": self._file(exam, judged, targets),
            "cascade": self._figures(cascade, targets),
            "head_alone": self._figures(alone, targets),
            "model_part": self._model_part(chosen, cascade, alone, targets),
            "baselines": self._baselines(texts, vectors[judged], targets, cascade),
            "incumbent": self._incumbent(texts, vectors[judged], targets, cascade),
            "per_class": per_class(cascade.best, targets),
            "slices": by_slice(cascade, targets, cuts),
            "confusion": confusion(cascade.best, targets),
            "seen": self._seen(ids, texts, targets, cascade),
            "redaction": self._redaction(texts, chosen),
            "errors": errors(ids, texts, targets, chosen, redact=self.redact),
            "suspected_labels": suspected_labels(ids, texts, targets, chosen, redact=self.redact),
            "circumstances": self._circumstances(len(exam)),
            "notes": self.notes,
        }

    # --- the parts of the report ----------------------------------------------------------------------------------------

    def _figures(self, judgment: Judgment, targets: np.ndarray) -> dict[str, Any]:
        return figures(judgment, targets, target_precision=self.target_precision)

    def _model(self) -> dict[str, Any]:
        thresholds = self.predictor.cascade.thresholds
        return {
            "name": self.predictor.name,
            "types": [name for name in self.predictor.classes if name != OTHERS],
            "knows_out_of_scope": OTHERS in self.predictor.classes,
            "asked": self.predictor.asked,
            "sure": thresholds.sure,
            "act": thresholds.act if thresholds.act <= 1 else None,  # None: it acts on nothing
            "bounds": thresholds.bounds,
        }

    def _file(self, exam: Exam, judged: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
        dates = sorted(row.created_at for row in exam.rows if row.created_at)
        return {
            "rows": exam.rows_of_file,
            "predicted": len(exam),
            "judged": len(judged),
            "unlabeled": exam.unlabeled(),
            "unknown_types": exam.unknown(self.predictor.classes),
            "out_of_scope": int((targets == OTHERS).sum()),
            "types": len(set(targets) - {OTHERS}),
            "first_created_at": dates[0].isoformat() if dates else None,
            "last_created_at": dates[-1].isoformat() if dates else None,
        }

    def _model_part(
        self, chosen: Sequence[Classification], cascade: Judgment, head: Judgment, targets: np.ndarray
    ) -> dict[str, Any] | None:
        """What the language model adds over the head: on the tickets that it was asked about, and in all."""
        asked, model = from_model_alone(chosen)
        if not len(asked):
            return None
        right, head_right = cascade.best == targets, head.best == targets
        test = mcnemar(right, head_right)
        changed = np.flatnonzero(cascade.best != head.best)
        return {
            "asked": len(asked),
            "share_asked": len(asked) / len(chosen),
            "on_asked": {
                "head_alone": share(head_right[asked]),
                "model_alone": share(model.best == targets[asked]),
                "cascade": share(right[asked]),
            },
            "model_alone": self._figures(model, targets[asked]),
            "changed": len(changed),
            "helped": test.only_first,
            "harmed": test.only_second,
            "mcnemar_p": test.p_value,
            "verdict": _model_verdict(test.only_first, test.only_second, test.p_value),
            "comparison": compare.compare(cascade, head, targets, target_precision=self.target_precision),
        }

    def _baselines(self, texts: list[str], vectors: np.ndarray, targets: np.ndarray, cascade: Judgment) -> dict[str, Any]:
        if not self.with_baselines:
            return {"fitted_on": None, "why_not": "left out as asked (--no-baselines)", "figures": [], "comparison": []}
        train, fitted_on = self._material()
        if train is None and (len(texts) < FEWEST_FOR_BASELINES or len(set(targets)) < 2):
            why = f"{len(texts)} judged tickets of {len(set(targets))} types are too few to cross-validate on; give --train"
            return {"fitted_on": None, "why_not": why, "figures": [], "comparison": []}
        words = [normalize(text) for text in texts]
        exam = baselines.Material(
            texts=texts, vectors=vectors, labels=list(targets), groups=np.unique(words, return_inverse=True)[1]
        )
        found = baselines.judge(train, exam, done=lambda name: self.progress(f"baseline {name}", 1, 1))
        return {
            "fitted_on": fitted_on,
            "why_not": None,
            "cross_validated": train is None,
            "figures": [self._figures(each, targets) for each in found],
            "comparison": [compare.compare(cascade, each, targets, target_precision=self.target_precision) for each in found],
        }

    def _material(self) -> tuple[baselines.Material | None, str]:
        source = self.train or self.learned
        if source is None:
            self.notes.append(
                "The model's training data is not on this machine: the baselines are cross-validated on the evaluated file itself, so they "
                "learned from other tickets than the model did."
            )
            return None, f"the evaluated file itself, {baselines.FOLDS}-fold cross-validation"
        rows = np.flatnonzero(source.fitted)
        texts = [source.texts[index] for index in rows]
        vectors = self.predictor.embed(texts, progress=self.progress)
        labels = [source.labels[index] for index in rows]
        return baselines.Material(texts=texts, vectors=vectors, labels=labels), source.origin

    def _incumbent(self, texts: list[str], vectors: np.ndarray, targets: np.ndarray, cascade: Judgment) -> dict[str, Any]:
        other = self.incumbent
        if other is None:
            return {"name": None, "why_not": self.incumbent_note or "none was named"}
        known = np.flatnonzero(np.isin(targets.astype(str), [*other.classes, OTHERS]))
        if not any(targets[index] != OTHERS for index in known):
            return {"name": other.name, "why_not": f"{other.name} has none of the file's types: they cannot be compared."}
        if other.name == self.predictor.name:
            return {"name": other.name, "why_not": "it is the evaluated model itself"}
        kept = [texts[index] for index in known]
        same = other.embedder.name == self.predictor.embedder.name
        theirs = vectors[known] if same else other.embed(kept, progress=self.progress)
        found = from_classifications("incumbent", other.classify(kept, theirs, progress=self.progress))
        return {
            "name": other.name,
            "why_not": None,
            "tickets": len(known),
            "left_out": len(targets) - len(known),
            "figures": self._figures(found, targets[known]),
            "comparison": compare.compare(cascade.take(known), found, targets[known], target_precision=self.target_precision),
        }

    def _seen(self, ids: list[str], texts: list[str], targets: np.ndarray, cascade: Judgment) -> dict[str, Any]:
        if self.learned is None or not self.learned.kept:
            why = "the model's training data is not on this machine, so nobody can tell"
            return {"checked": False, "why_not": why}
        copies = near_copies(texts, self.learned.texts, progress=lambda done, of: self.progress("leak check", done, of))
        seen, right = copies >= 0, cascade.best == targets
        return {
            "checked": True,
            "against": len(self.learned.texts),
            "near_copies": int(seen.sum()),
            "share": float(seen.mean()),
            "other_label": int(sum(self.learned.labels[copies[i]] != targets[i] for i in np.flatnonzero(seen))),
            "accuracy_seen": share(right[seen]),
            "accuracy_unseen": share(right[~seen]),
            "unseen": self._figures(cascade.take(~seen), targets[~seen]) if seen.any() and not seen.all() else None,
            "examples": [ids[index] for index in np.flatnonzero(seen)[:SEEN_SHOWN]],
        }

    def _redaction(self, texts: list[str], chosen: Sequence[Classification]) -> dict[str, Any]:
        """Training and the desk's models see tickets with personal data replaced, this report sees them as they came: does it matter?"""
        replaced = [self.redact(text) for text in texts]
        rows = [index for index, (old, new) in enumerate(zip(texts, replaced, strict=True)) if old != new]
        record: dict[str, Any] = {"applied_before_prediction": False, "with_personal_data": len(rows), "changed_category": 0}
        if not rows:
            return record
        again = [replaced[index] for index in rows]
        found = self.predictor.classify(again, self.predictor.embed(again))
        moved = [abs(new.confidence - chosen[index].confidence) for new, index in zip(found, rows, strict=True)]
        record["changed_category"] = sum(new.category != chosen[index].category for new, index in zip(found, rows, strict=True))
        record["changed_act"] = sum(new.abstained != chosen[index].abstained for new, index in zip(found, rows, strict=True))
        record["largest_confidence_change"] = max(moved)
        return record

    def _circumstances(self, rows: int) -> dict[str, Any]:
        total = sum(self.first_pass.values())
        return {
            "tickets_per_s": rows / total if total else None,
            "seconds": {name: round(value, 2) for name, value in self.first_pass.items()},
            "processor": processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "python": platform.python_version(),
        }


def _model_verdict(helped: int, harmed: int, p_value: float) -> str:
    if p_value < 0.05:
        return (
            "the model makes the cascade better than its head"
            if helped > harmed
            else "the model makes the cascade worse than its head"
        )
    return "no clear difference from the head alone"


def processor() -> str:
    """The processor's name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
