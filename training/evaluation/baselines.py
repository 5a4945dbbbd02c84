"""What anybody gets in a minute: words and a linear model, or a frozen sentence encoder and a linear model. Fitted here, every time.

A baseline learns from the same tickets as the model where they are known; else it is cross-validated on the evaluated file itself
(other tickets than the model's: nearer in time and kind, often fewer), and the report says so. Knows texts, vectors and labels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from orchestrator.domain.errors import BadInput
from training.evaluation.judgment import Judgment, from_probabilities

FOLDS = 5
WORDS_C, VECTORS_C = 10.0, 30.0  # inverse regularization; the best of 3, 10, 30, 100 by cross-validation on banking77
MAX_ITERATIONS = 300
TFIDF = "TF-IDF + linear"
EMBEDDING = "embedding + linear"


@dataclass(frozen=True, kw_only=True)
class Material:
    """Tickets to learn from or to judge. `vectors` [n, d] of a frozen sentence encoder, unit length."""

    texts: Sequence[str]
    vectors: np.ndarray
    labels: Sequence[str] = ()
    groups: np.ndarray | None = None  # [n] near-copies share one; cross-validation keeps a group in one fold


def judge(
    train: Material | None, exam: Material, *, seed: int = 0, done: Callable[[str], None] = lambda name: None
) -> list[Judgment]:
    """Both baselines on every ticket of `exam`; fitted on `train`, or cross-validated on `exam` where that is None.

    Raises BadInput where there are not two classes to learn.
    """
    found = []
    for name, inputs, make in (
        (TFIDF, lambda material: np.array(material.texts, object), words_model),
        (EMBEDDING, lambda material: material.vectors, vectors_model),
    ):
        if train is not None:
            classes, probabilities = _fit(make, inputs(train), train.labels, inputs(exam))
        else:
            classes, probabilities = _crossed(make, inputs(exam), exam, seed)
        found.append(from_probabilities(name, classes, probabilities))
        done(name)
    return found


def words_model() -> Pipeline:
    """Words and word pairs, weighted by rarity; multinomial logistic regression."""
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    return make_pipeline(words, LogisticRegression(C=WORDS_C, max_iter=MAX_ITERATIONS))


def vectors_model() -> Pipeline:
    return make_pipeline(LogisticRegression(C=VECTORS_C, max_iter=MAX_ITERATIONS))


def _fit(
    make: Callable[[], Pipeline], inputs: np.ndarray, labels: Sequence[str], judged: np.ndarray
) -> tuple[list[str], np.ndarray]:
    """(classes, [judged, classes] probabilities)."""
    if len(set(labels)) < 2:
        raise BadInput(
            f"The baselines cannot be fitted: the training tickets have {len(set(labels))} type.",
            hint="Give --train a file with at least two types.",
        )
    model = make().fit(inputs, np.array(labels, object).astype(str))
    return [str(name) for name in model.classes_], model.predict_proba(judged)


def _crossed(make: Callable[[], Pipeline], inputs: np.ndarray, exam: Material, seed: int) -> tuple[list[str], np.ndarray]:
    """Every ticket judged by a model that was fitted without its fold."""
    labels = np.array(exam.labels, object)
    fold = folds(labels, exam.groups, seed=seed)
    classes = sorted(set(exam.labels))
    out = np.zeros((len(labels), len(classes)))
    for number in range(FOLDS):
        test = fold == number
        if not test.any():
            continue
        found, probabilities = _fit(make, inputs[~test], list(labels[~test]), inputs[test])
        out[np.ix_(test, [classes.index(name) for name in found])] = probabilities
    return classes, out


def folds(labels: np.ndarray, groups: np.ndarray | None, *, seed: int) -> np.ndarray:
    """[n] fold numbers: groups stay whole, each type's groups are dealt out in turn."""
    groups = np.arange(len(labels)) if groups is None else groups
    generator = np.random.default_rng(seed)
    _, first = np.unique(groups, return_index=True)
    of_group: dict[int, int] = {}
    offset = 0
    for name in sorted(set(labels)):
        members = generator.permutation([groups[i] for i in first if labels[i] == name])
        of_group |= {int(group): (offset + place) % FOLDS for place, group in enumerate(members)}
        offset += len(members)
    return np.array([of_group[int(group)] for group in groups])
