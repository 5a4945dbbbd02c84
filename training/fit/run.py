"""A fit from top to bottom: dataset, vectors, encoder, head, adapter, calibration, golden figures, a registered model.

Knows the parts of training and wires them; computes nothing itself. Every long part keeps its own checkpoint in the work folder, the
rest gives the same from the same seed, so that the same call goes on where an interrupted one stopped.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.manifest import Kind, write
from models.registry import Registry
from models.signing import sign
from orchestrator.domain.errors import BadInput
from orchestrator.domain.triage import OTHERS
from orchestrator.intake.read_tickets import TicketRow
from orchestrator.triage.classify import Mode, thresholds_record
from orchestrator.triage.taxonomy import Taxonomy, taxonomy_record
from training.adapter.fit import fit_adapter
from training.adapter.rows import ChoiceRow
from training.data.build import build_dataset, save_dataset
from training.evaluation.figures import figures
from training.evaluation.judgment import Judgment, from_classifications
from training.evaluation.predict import open_predictor
from training.fit.questions import (
    Questions,
    as_row,
    ask_candidates,
    ask_options,
    mode_of,
    rows_of_candidates,
)
from training.fit.recipe import Recipe
from training.fit.types import types_of
from training.head.calibrate import Calibrated, CalibrationSettings, ModelAnswers, calibrate
from training.head.encoder import Encoder
from training.head.fit_head import HeadFit, TunedPart, fit_head, save_head
from training.head.linear import Features
from training.head.tune_encoder import OUT_OF_SCOPE, Tuned, save_embedder, tune_encoder
from training.records import Dataset, Part

Say = Callable[[str], None]
Progress = Callable[[str, int, int], None]
LICENSE = "as the tickets"
EMBEDDER_SUFFIX = "-embedder"


@dataclass(frozen=True, kw_only=True)
class FitRequest:
    """What to fit and where to keep it."""

    name: str
    recipe: Recipe
    base: Path
    registry: Registry
    work: Path  # dataset, checkpoints, reports; the same folder resumes
    rows: Sequence[TicketRow] = ()
    dataset: Dataset | None = None  # instead of rows: a dataset that is split already
    company: Taxonomy | None = None
    golden: Sequence[TicketRow] = ()  # a golden set of its own; then nothing is held out for it
    others_label: str = "oos"
    source: Mapping[str, Any] = field(default_factory=dict)
    license: str = LICENSE
    data: tuple[str, ...] = ()
    parent: str | None = None
    key: Path | None = None  # to sign with


@dataclass(frozen=True, kw_only=True)
class Fitted:
    full_name: str
    folder: Path
    embedder: str | None  # full name of the tuned encoder
    record: Mapping[str, Any]  # what the fit found out: figures, seconds, sentences


@dataclass(frozen=True, kw_only=True, eq=False)
class _Parts:
    """A dataset as arrays."""

    dataset: Dataset
    texts: list[str]
    targets: np.ndarray
    classes: tuple[str, ...]  # of the head: Others last, also where the data has none
    train: np.ndarray
    validation: np.ndarray
    golden: np.ndarray
    has_others: bool


def fit(request: FitRequest, *, say: Say, progress: Progress) -> Fitted:
    """Fit, judge on the golden part and register. Raises BadInput for data that nothing can be learned from."""
    recipe, work = request.recipe, request.work
    encoder = Encoder()
    parts = _dataset(request, encoder, say, progress)
    taxonomy = types_of(parts.dataset, request.company)
    parts = _in_order(parts, taxonomy)
    vectors = _vectors(encoder, parts, work, progress)

    tuned = None
    if recipe.encoder.tune:
        say("Tuning the sentence encoder")
        tuned = _tune(request, parts, parts.train, work / "encoder", vectors, progress)
    say("Fitting the head")
    head = _head(recipe, parts, vectors, encoder.name, tuned)
    say(_sentence(head))

    mode = mode_of(recipe.questions, taxonomy)
    say(f"Teaching the adapter ({mode}, {len(taxonomy.all)} types)")
    answers, adapter_record = _adapter(request, parts, vectors, head, taxonomy, mode)
    folder = work / "model"
    calibrated = _calibrate(recipe, parts, head, taxonomy, mode, answers, folder)
    say(calibrated.thresholds.bounds)

    embedder = None
    if tuned is not None and head.blend.tuned > 0:
        if recipe.encoder.refit:
            say("Tuning the encoder again, on training and validation tickets")
            both = np.union1d(parts.train, parts.validation)
            tuned = _tune(request, parts, both, work / "encoder-all", vectors, progress)
        embedder, head = _keep_embedder(request, parts, head, tuned, encoder)
    record = {"head": dict(head.record), "cascade": dict(calibrated.record), "adapter": adapter_record, "mode": str(mode)}
    full_name = _write(request, folder, parts, head, calibrated, taxonomy, record, embedder, say, progress)
    return Fitted(full_name=full_name, folder=request.registry.find(full_name).folder, embedder=embedder, record=record)


# --- data -----------------------------------------------------------------------------------------------------------------


def _dataset(request: FitRequest, encoder: Encoder, say: Say, progress: Progress) -> _Parts:
    known = dict.fromkeys(category.name for category in request.company.categories) if request.company else {}
    dataset = request.dataset or _built(request, encoder, progress)
    save_dataset(dataset, request.work)
    counts = {part: len(dataset.indices(part)) for part in Part}
    say(
        f"{len(dataset):,} labeled tickets of {len(dataset.classes)} types: {counts[Part.TRAIN]:,} to learn from, "
        f"{counts[Part.VALIDATION]:,} to calibrate on, {counts[Part.GOLDEN]:,} held out"
        + (f"; {len(set(dataset.classes) & set(known))} of the types are the company's" if known else "")
    )
    classes = (*(name for name in dataset.classes if name != OTHERS), OTHERS)
    return _arrays(dataset, classes)


def _built(request: FitRequest, encoder: Encoder, progress: Progress) -> Dataset:
    settings = request.recipe.dataset
    return build_dataset(
        request.rows,
        others_label=request.others_label,
        validation=settings.validation,
        golden=0.0 if request.golden else settings.golden,
        min_per_class=settings.min_per_class,
        seed=request.recipe.seed,
        embed=lambda texts: encoder.encode(texts, progress=lambda done, of: progress("near-copies", done, of)),
        source=request.source,
        progress=progress,
    )


def _arrays(dataset: Dataset, classes: tuple[str, ...]) -> _Parts:
    number = {name: index for index, name in enumerate(classes)}
    return _Parts(
        dataset=dataset,
        texts=[ticket.text for ticket in dataset.tickets],
        targets=np.array([number[ticket.category] for ticket in dataset.tickets], np.int64),
        classes=classes,
        train=dataset.indices(Part.TRAIN),
        validation=dataset.indices(Part.VALIDATION),
        golden=dataset.indices(Part.GOLDEN),
        has_others=any(ticket.category == OTHERS for ticket in dataset.tickets),
    )


def _in_order(parts: _Parts, taxonomy: Taxonomy) -> _Parts:
    """The classes in the taxonomy's order: that of the options in a prompt and of every vector of probabilities."""
    return parts if parts.classes == taxonomy.names else _arrays(parts.dataset, taxonomy.names)


def _vectors(encoder: Encoder, parts: _Parts, work: Path, progress: Progress) -> np.ndarray:
    """[n, dimensions], kept beside the dataset for a resumed fit."""
    path, stamp = work / "vectors.npy", work / "vectors.json"
    key = {"dataset": parts.dataset.digest, "encoder": encoder.name}
    if path.exists() and stamp.exists() and json.loads(stamp.read_text(encoding="utf-8")) == key:
        kept: np.ndarray = np.load(path)
        return kept
    vectors = encoder.encode(parts.texts, progress=lambda done, of: progress("tickets embedded", done, of))
    np.save(path, vectors)
    stamp.write_text(json.dumps(key), encoding="utf-8")
    return vectors


# --- encoder and head -----------------------------------------------------------------------------------------------------


def _tune(request: FitRequest, parts: _Parts, rows: np.ndarray, work: Path, vectors: np.ndarray, progress: Progress) -> Tuned:
    """Tickets out of scope are pushed away from all types."""
    targets = np.where(parts.targets[rows] == len(parts.classes) - 1, OUT_OF_SCOPE, parts.targets[rows])
    return tune_encoder(
        [parts.texts[i] for i in rows],
        targets,
        settings=replace(request.recipe.encoder.settings, seed=request.recipe.seed),
        vectors=vectors[rows],
        work=work,
        progress=progress,
    )


def _tuned_part(tuned: Tuned, name: str, texts: Sequence[str]) -> TunedPart:
    return TunedPart(embedder=name, vectors=tuned.encoder.encode(list(texts)), class_vectors=tuned.class_vectors, scale=tuned.scale)


def _head(recipe: Recipe, parts: _Parts, vectors: np.ndarray, embedder: str, tuned: Tuned | None) -> HeadFit:
    return fit_head(
        parts.texts,
        parts.targets,
        vectors,
        classes=parts.classes,
        embedder=embedder,
        train=parts.train,
        validation=parts.validation,
        tuned=_tuned_part(tuned, "tuned", parts.texts) if tuned else None,
        settings=recipe.head,
        clusters=parts.dataset.clusters,
        neighbors_per_class=recipe.cascade.neighbors_per_class,
        seed=recipe.seed,
    )


def _sentence(head: HeadFit) -> str:
    said = head.record
    tuned = f", the tuned encoder alone {said['tuned_accuracy_in_scope']:.4f} in scope" if "tuned_accuracy_in_scope" in said else ""
    head_and_linear = f"head {said['accuracy']:.4f}, linear part {said['linear_accuracy']:.4f}"
    return f"On {said['validation_tickets']:,} validation tickets: {head_and_linear}{tuned}"


def _keep_embedder(request: FitRequest, parts: _Parts, head: HeadFit, tuned: Tuned, parent: Encoder) -> tuple[str, HeadFit]:
    """The tuned encoder in the registry, and the head that names it. Blend and calibration stay as they were fitted."""
    folder = request.work / "embedder"
    shutil.rmtree(folder, ignore_errors=True)
    save_embedder(
        tuned.encoder,
        folder,
        name=f"{request.name}{EMBEDDER_SUFFIX}",
        parent=parent.name,
        sample=parts.texts[:256],
        data=request.data,
        made={"seed": request.recipe.seed},
    )
    if request.key:
        sign(folder, request.key)
    full_name = request.registry.add(folder)
    scope = np.float32(head.blend.tuned * tuned.scale) * tuned.class_vectors.T.astype(np.float32)
    weights = np.hstack([scope, np.zeros((len(scope), 1), np.float32)])
    served = replace(head.head, dense=(head.head.dense[0], weights), embedders=(head.head.embedders[0], full_name))
    return full_name, replace(head, head=served)


# --- adapter --------------------------------------------------------------------------------------------------------------


def _adapter(
    request: FitRequest, parts: _Parts, vectors: np.ndarray, head: HeadFit, taxonomy: Taxonomy, mode: Mode
) -> tuple[ModelAnswers, dict[str, Any]]:
    """Fit it into `work/model`; the answers are of the validation tickets that the head is least sure of."""
    recipe = request.recipe
    asked = _unsure(head, recipe)
    if mode is Mode.OPTIONS:
        teach = _always(ask_options([parts.texts[i] for i in parts.train], taxonomy, parts.targets[parts.train]).rows)
        exam = ask_options([parts.texts[parts.validation[i]] for i in asked], taxonomy, parts.targets[parts.validation[asked]])
    else:
        teach = _teach_candidates(request, parts, vectors, head)
        exam = _exam_candidates(request, parts, head, asked)
    known = [row for row in exam.rows if row.target >= 0]
    out = request.work / "adapter"
    result = fit_adapter(
        recipe.adapter, base=request.base, rows=teach, validation=known, out=out, work=request.work / "adapter-work"
    )
    if result.scorer is None:  # fitted by a team of processes
        from training.adapter.scorer import Scorer

        scorer = Scorer.load(request.base, out, fresh=True)
    else:
        scorer = result.scorer
    logprobs = np.stack(scorer.score(exam.rows)) if exam.rows else np.zeros((0, exam.classes.shape[1]), np.float32)
    folder = request.work / "model"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(out, folder)
    return ModelAnswers(rows=asked, chosen=np.asarray(exam.classes), logprobs=logprobs), result.record


def _always(rows: Sequence[ChoiceRow]) -> Callable[[int], Sequence[ChoiceRow]]:
    """The same rows in every pass."""
    return lambda number: rows


def _unsure(head: HeadFit, recipe: Recipe) -> np.ndarray:
    """Twice as many validation tickets as would be asked in service, those that the head is least sure of: enough to fit on."""
    sureness = head.probabilities.max(axis=1)
    count = min(len(sureness), max(200, int(2 * recipe.cascade.model_share * len(sureness))))
    return np.sort(np.argsort(sureness, kind="stable")[:count])


def _teach_candidates(
    request: FitRequest, parts: _Parts, vectors: np.ndarray, head: HeadFit
) -> Callable[[int], Sequence[ChoiceRow]]:
    recipe, rows = request.recipe, parts.train
    features = Features(parts.texts, vectors, recipe.head)
    clusters = parts.dataset.clusters
    logits = (
        features.out_of_fold(rows, parts.targets[rows], len(parts.classes), clusters[rows], seed=recipe.seed) * head.blend.linear
    )
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    similar = head.head.similar(vectors[rows])
    kept = _kept_clusters(parts, head)
    similar[clusters[rows][:, None] == kept[None]] = -np.inf
    return rows_of_candidates(
        [parts.texts[i] for i in rows],
        shifted / shifted.sum(axis=1, keepdims=True),
        similar,
        parts.targets[rows],
        head.head,
        recipe.questions,
        others=parts.has_others,
        seed=recipe.seed,
    )


def _kept_clusters(parts: _Parts, head: HeadFit) -> np.ndarray:
    """[kept] cluster of each labeled ticket that the head keeps as evidence."""
    return parts.dataset.clusters[head.kept]


def _exam_candidates(request: FitRequest, parts: _Parts, head: HeadFit, asked: np.ndarray) -> Questions:
    texts = [parts.texts[parts.validation[i]] for i in asked]
    shown, chosen = ask_candidates(
        texts, head.probabilities[asked], head.similar[asked], head.head, request.recipe.questions, others=parts.has_others
    )
    targets = parts.targets[parts.validation[asked]]
    return Questions(rows=[as_row(one, int(t)) for one, t in zip(shown, targets, strict=True)], classes=chosen)


# --- calibration and the folder -------------------------------------------------------------------------------------------


def _calibrate(
    recipe: Recipe, parts: _Parts, head: HeadFit, taxonomy: Taxonomy, mode: Mode, answers: ModelAnswers, folder: Path
) -> Calibrated:
    from models.manifest import file_sha256

    return calibrate(
        head.logits,
        head.probabilities,
        head.near,
        parts.targets[parts.validation],
        taxonomy_sha256=taxonomy.sha256,
        adapter_sha256=file_sha256(folder / "adapter_model.safetensors"),
        mode=mode,
        candidates=min(recipe.questions.candidates, len(parts.classes) - 1),
        examples=recipe.questions.examples,
        others=parts.has_others,
        answers=answers,
        unseen_logits=head.unseen_logits,
        more=head.more,
        clusters=parts.dataset.clusters[parts.validation],
        settings=CalibrationSettings(
            target_precision=recipe.cascade.target_precision,
            model_share=recipe.cascade.model_share,
            gain_z=recipe.cascade.gain_z,
            seed=recipe.seed,
        ),
    )


def _write(
    request: FitRequest,
    folder: Path,
    parts: _Parts,
    head: HeadFit,
    calibrated: Calibrated,
    taxonomy: Taxonomy,
    record: dict[str, Any],
    embedder: str | None,
    say: Say,
    progress: Progress,
) -> str:
    """The model folder, judged on the golden part as the desk would use it, signed, registered. Gives the full name."""
    save_head(head.head, folder)
    _json(folder / "taxonomy.json", taxonomy_record(taxonomy))
    _json(folder / "cascade.json", thresholds_record(calibrated.thresholds))
    _json(folder / "dataset.json", parts.dataset.record)
    base_name = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    told: dict[str, Any] = {"base": base_name, "license": request.license, "data": request.data, "parent": request.parent}
    made = {"recipe": request.recipe.record(), "found": record, "embedder": embedder}
    write(folder, name=request.name, kind=Kind.ADAPTER, made=made, **told)
    evaluation = _judge_golden(request, folder, parts, progress)
    if evaluation:
        record["golden"] = evaluation["figures"]
        _json(folder / "evaluation.json", evaluation)
        say(_golden_sentence(evaluation))
    write(folder, name=request.name, kind=Kind.ADAPTER, made=made, **told)
    if request.key:
        sign(folder, request.key)
    return request.registry.add(folder, base=request.base)


def _judge_golden(request: FitRequest, folder: Path, parts: _Parts, progress: Progress) -> dict[str, Any] | None:
    """Figures on tickets that nothing was fitted on, through the desk's own cascade."""
    if request.golden:
        rows = [row for row in request.golden if row.category]
        texts = [f"{row.subject}\n{row.description}".strip() for row in rows]
        others = {request.others_label.casefold(), OTHERS.casefold()}
        labels = [OTHERS if str(row.category).casefold() in others else str(row.category) for row in rows]
    else:
        texts = [parts.texts[i] for i in parts.golden]
        labels = [parts.classes[parts.targets[i]] for i in parts.golden]
    if not texts:
        return None
    predictor = open_predictor(
        folder, find=lambda name: request.base if name == _name_of(request.base) else request.registry.find(name).folder
    )
    found = predictor.classify(texts, predictor.embed(texts, progress=progress), progress=progress)
    judged = from_classifications(predictor.name, found)
    unknown = set(labels) - set(parts.classes)
    if unknown:
        raise BadInput(f"The golden set has types that the tickets do not have: {', '.join(sorted(unknown)[:5])}.")
    return {
        "tickets": len(texts),
        "dataset": parts.dataset.digest,
        "part": "golden file" if request.golden else "golden",
        "figures": _figures(judged, np.array(labels, object), request.recipe.cascade.target_precision),
        "asked": predictor.asked,
        "share_to_model": round(float(np.mean([each.stage == "model" for each in found])), 4),
    }


def _figures(judged: Judgment, labels: np.ndarray, target: float) -> dict[str, Any]:
    return figures(judged, labels, target_precision=target)


def _name_of(base: Path) -> str:
    from models.manifest import read

    return read(base).full_name


def _golden_sentence(evaluation: Mapping[str, Any]) -> str:
    accuracy = evaluation["figures"]["accuracy"]
    interval = f"{accuracy['low']:.3f} to {accuracy['high']:.3f}"
    return f"On {evaluation['tickets']:,} golden tickets: accuracy {accuracy['value']:.4f} ({interval})"


def _json(path: Path, record: Any) -> None:
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
