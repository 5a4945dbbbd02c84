"""What a way of deciding is worth: figures computed by hand, comparisons that can go either way, baselines that really learn."""

import math

import numpy as np
import pytest

from orchestrator.domain.triage import OTHERS, Classification, Neighbor
from training.evaluation import baselines, compare
from training.evaluation.figures import by_slice, confusion, figures, own_threshold, per_class
from training.evaluation.judgment import Judgment, from_classifications, from_model_alone, from_probabilities
from training.evaluation.leaks import near_copies
from training.evaluation.mistakes import contradictions, errors, suspected_labels


def names(*values: str) -> np.ndarray:
    return np.array(values, object)


@pytest.fixture
def ten() -> tuple[Judgment, np.ndarray]:
    """Ten tickets of two types and two out of scope. Right: 0, 1, 2, 4, 5, 8. By confidence: vpn .9 .8 .7 .6 mail .95 .85 .3, ..."""
    targets = names("vpn", "vpn", "vpn", "vpn", "mail", "mail", "mail", "mail", OTHERS, OTHERS)
    judgment = Judgment(
        name="cascade",
        best=names("vpn", "vpn", "vpn", "mail", "mail", "mail", "vpn", OTHERS, OTHERS, "vpn"),
        best_in_scope=names("vpn", "vpn", "vpn", "mail", "mail", "mail", "vpn", "mail", "vpn", "vpn"),
        confidence=np.array([0.9, 0.8, 0.7, 0.6, 0.95, 0.85, 0.5, 0.2, 0.1, 0.75]),
        acted=np.array([True, True, False, False, True, True, False, False, False, True]),
    )
    return judgment, targets


def test_accuracy_counts_out_of_scope_as_a_type(ten: tuple[Judgment, np.ndarray]) -> None:
    found = figures(*ten)
    assert found["accuracy"]["value"] == 0.6 and found["accuracy"]["count"] == 6
    assert found["accuracy_in_scope"]["value"] == 5 / 8
    assert found["accuracy_best_type_in_scope"]["value"] == 6 / 8  # the refused mail ticket was mail after all
    assert found["accuracy"]["low"] == pytest.approx(0.3127, abs=1e-4)  # Wilson, 6 of 10
    assert found["accuracy"]["high"] == pytest.approx(0.8318, abs=1e-4)


def test_f1_by_hand(ten: tuple[Judgment, np.ndarray]) -> None:
    """vpn: 3 hits, 4 tickets, 5 decided: 6/9. mail: 2, 4, 3: 4/7. Others: 1, 2, 2: 1/2."""
    found = figures(*ten)
    assert found["macro_f1"]["value"] == pytest.approx((6 / 9 + 4 / 7 + 1 / 2) / 3)
    assert found["weighted_f1"] == pytest.approx((4 * 6 / 9 + 4 * 4 / 7 + 2 * 1 / 2) / 10)
    assert found["macro_f1"]["low"] < found["macro_f1"]["value"] < found["macro_f1"]["high"]
    rows = {row["category"]: row for row in per_class(ten[0].best, ten[1])}
    assert rows["vpn"]["precision"] == 3 / 5 and rows["vpn"]["recall"] == 3 / 4 and list(rows)[-1] == OTHERS


def test_coverage_goes_down_the_list_of_the_surest(ten: tuple[Judgment, np.ndarray]) -> None:
    """Surest first: .95 .9 .85 .8 right, .75 (out of scope) wrong, .7 right, .6 .5 wrong; nobody acts on what is refused."""
    at = {row["precision"]: row for row in figures(*ten, target_precision=0.8)["coverage"]["at_precision"]}
    assert at[0.95]["coverage"] == 0.4 and at[0.95]["threshold"] == 0.8 and at[0.95]["reached"] == 1.0
    assert at[0.8]["coverage"] == 0.6 and at[0.8]["reached"] == pytest.approx(5 / 6)
    assert at[0.95]["lower_bound"] == pytest.approx(0.05 ** (1 / 4))  # Clopper-Pearson, 4 of 4
    assert at[0.95]["coverage_with_bound"] == 0.0  # four tickets prove nothing


def test_nobody_acts_on_a_refused_ticket_even_where_precision_would_allow_it() -> None:
    best = names(*["a"] * 95, *[OTHERS] * 5)
    judgment = Judgment(name="x", best=best, best_in_scope=names(*["a"] * 100), confidence=np.linspace(0.99, 0.5, 100))
    found = figures(judgment, names(*["a"] * 100), target_precision=0.9)["coverage"]
    assert [row["coverage"] for row in found["at_precision"]] == [0.95] * 4 and found["refused"] == pytest.approx(0.05)
    assert [row["precision"] for row in found["at_coverage"]] == [1.0, 1.0, 1.0, None] and found["curve"][-1] == [0.95, 1.0]


def test_the_models_own_threshold_is_judged_as_it_stands(ten: tuple[Judgment, np.ndarray]) -> None:
    own = own_threshold(*ten)
    assert own is not None and own["automated"]["value"] == 0.5 and own["precision"]["value"] == 0.8
    assert own["out_of_scope_acted_on"]["value"] == 0.5


def test_out_of_scope_is_told_apart_by_confidence(ten: tuple[Judgment, np.ndarray]) -> None:
    """.1 lies below all eight in scope, .75 above four of them: (8 + 4) of 16 pairs are in order."""
    found = figures(*ten)["out_of_scope"]
    assert found["auroc"]["value"] == 12 / 16 and found["recall"]["value"] == 0.5 and found["in_scope_refused"]["value"] == 1 / 8
    assert found["fpr_at_95"] == 0.5


def test_a_file_without_out_of_scope_rows_has_no_figure_for_it(ten: tuple[Judgment, np.ndarray]) -> None:
    judgment, targets = ten
    assert figures(judgment.take(np.arange(8)), targets[:8])["out_of_scope"] is None


@pytest.mark.parametrize(
    ("exponent", "inside", "kind"), [(1.0, True, "as good as"), (3.0, False, "too sure"), (0.4, False, "not sure enough")]
)
def test_calibration_is_judged_by_what_chance_would_give(exponent: float, inside: bool, kind: str) -> None:
    random = np.random.default_rng(1)  # of perfect classifiers one in twenty falls outside by chance
    confidence = random.uniform(0.3, 1, 3000)
    right = random.random(3000) < confidence**exponent
    judgment = Judgment(
        name="x", best=names(*["a"] * 3000), best_in_scope=names(*["a"] * 3000), confidence=confidence, acted=confidence > 0.9
    )
    found = figures(judgment, np.where(right, "a", "b").astype(object))["calibration"]
    assert (found["ece"] <= found["band_high"]) is inside and kind in found["verdict"]


def test_confusions_and_slices_count_what_happened(ten: tuple[Judgment, np.ndarray]) -> None:
    judgment, targets = ten
    found = confusion(judgment.best, targets)
    assert found["largest"][0]["tickets"] == 1 and len(found["largest"]) == 4
    assert np.sum(found["matrix"]) == 10 and np.trace(found["matrix"]) == 6
    rows = by_slice(judgment, targets, {"language": ["de"] * 5 + ["en"] * 4 + [None]})["language"]
    assert [(row["value"], row["tickets"], row["accuracy"]["count"]) for row in rows] == [("de", 5, 4), ("en", 4, 2)]


# --- beside something else ----------------------------------------------------------------------------------------------


def decided(name: str, right: np.ndarray) -> Judgment:
    best = np.where(right, "a", "b").astype(object)
    return Judgment(name=name, best=best, best_in_scope=best, confidence=np.where(right, 0.9, 0.6))


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"), [(0.95, 0.85, "better"), (0.85, 0.95, "worse"), (0.90, 0.90, "no clear difference")]
)
def test_worse_is_called_worse(ours: float, theirs: float, verdict: str) -> None:
    n = 600
    first, second = np.arange(n) < ours * n, np.arange(n)[::-1] < theirs * n
    found = compare.compare(decided("ours", first), decided("theirs", second), names(*["a"] * n), target_precision=0.95)
    assert found["accuracy"]["verdict"] == verdict
    assert found["gained"] - found["lost"] == round((ours - theirs) * n)
    assert (found["mcnemar_p"] < 0.05) is (verdict != "no clear difference")


def test_less_calibration_error_is_better() -> None:
    assert (
        compare.Difference(figure="ece", first=0.01, second=0.05, low=-0.06, high=-0.02, more_is_better=False).verdict == "better"
    )


def toy(n: int, seed: int) -> baselines.Material:
    """Two types and out of scope, told apart by words and by direction."""
    random = np.random.default_rng(seed)
    words = {"vpn": "tunnel drops gateway", "mail": "inbox outlook mailbox", OTHERS: "lunch menu weather"}
    labels = [list(words)[i] for i in random.integers(0, 3, n)]
    texts = [" ".join(random.permutation(f"{words[label]} please help number {random.integers(99)}".split())) for label in labels]
    vectors = np.array([np.eye(8)[list(words).index(label)] + random.normal(0, 0.1, 8) for label in labels], np.float32)
    return baselines.Material(texts=texts, vectors=vectors, labels=labels)


@pytest.mark.parametrize("crossed", [False, True])
def test_the_baselines_are_really_fitted(crossed: bool) -> None:
    exam = toy(80, 1)
    for judgment in baselines.judge(None if crossed else toy(150, 2), exam):
        assert np.mean(judgment.best == np.array(exam.labels, object)) > 0.95
        assert judgment.confidence.max() <= 1 and set(judgment.best_in_scope) == {"vpn", "mail"}


def test_a_baseline_learns_nothing_from_shuffled_labels() -> None:
    exam = toy(200, 3)
    shuffled = list(np.random.default_rng(0).permutation(exam.labels))
    for judgment in baselines.judge(baselines.Material(texts=exam.texts, vectors=exam.vectors, labels=shuffled), toy(200, 4)):
        assert np.mean(judgment.best == np.array(toy(200, 4).labels, object)) < 0.6


def test_near_copies_stay_in_one_fold() -> None:
    labels = names(*["a"] * 40, *["b"] * 40)
    groups = np.arange(80) // 4
    fold = baselines.folds(labels, groups, seed=0)
    assert all(len(set(fold[groups == group])) == 1 for group in range(20)) and set(fold) == set(range(5))


# --- where judgments come from --------------------------------------------------------------------------------------------


def classification(category: str, confidence: float, **fields: object) -> Classification:
    given = {"alternatives": ((category, confidence),), "stage": "head", "abstained": confidence < 0.7} | fields
    return Classification(category=category, confidence=confidence, **given)  # type: ignore[arg-type]


def test_where_others_won_the_best_type_in_scope_is_still_known() -> None:
    found = from_classifications("x", [classification(OTHERS, 0.2, alternatives=((OTHERS, 0.7), ("vpn", 0.2), ("mail", 0.1)))])
    assert found.best[0] == OTHERS and found.best_in_scope[0] == "vpn"


def test_the_model_alone_is_read_from_its_scores() -> None:
    scores = {"vpn": math.log(0.02), "mail": math.log(0.06), OTHERS: math.log(0.12)}
    asked, model = from_model_alone([classification("vpn", 0.9), classification("vpn", 0.5, option_logprobs=scores, stage="model")])
    assert asked.tolist() == [1] and model.best[0] == OTHERS and model.best_in_scope[0] == "mail"
    assert model.confidence[0] == pytest.approx(0.06 / 0.20)


def test_probabilities_become_a_judgment() -> None:
    found = from_probabilities("x", ["vpn", "mail", OTHERS], np.array([[0.2, 0.3, 0.5], [0.8, 0.1, 0.1]]), act=0.5)
    assert found.best.tolist() == [OTHERS, "vpn"] and found.best_in_scope.tolist() == ["mail", "vpn"]
    assert found.acted is not None and found.acted.tolist() == [False, True]


# --- leaks and labels ---------------------------------------------------------------------------------------------------


def test_a_ticket_that_the_model_has_seen_is_found_however_it_is_written() -> None:
    seen = ["Printer on floor 3 is out of toner again", "The VPN drops every ten minutes since Monday", "help"]
    found = near_copies(
        [
            "printer on floor 4 is out of toner, again!",  # other number, other marks
            "The VPN drops every ten minutes since last Monday",  # a word more
            "The VPN is slow in the evening",
            "help",
            "help me",
            "Where is my order?",
        ],
        seen,
    )
    assert found.tolist() == [0, 1, -1, 2, -1, -1]


def test_many_texts_are_compared_in_parts() -> None:
    seen = [f"the {word} service of team {word} answers with an error" for word in ("alpha", "beta", "gamma", "delta")] * 300
    texts = [seen[i % 4] if i % 2 else f"a wholly different matter about {i % 7} chairs in room {i}" for i in range(1300)]
    assert ((near_copies(texts, seen) >= 0) == (np.arange(1300) % 2 == 1)).all()


def test_a_label_is_suspected_when_the_model_and_the_neighbors_disagree_with_it() -> None:
    near = tuple(Neighbor(category="vpn", similarity=0.9, text=f"tunnel {i}") for i in range(3))
    mixed = (Neighbor(category="mail", similarity=0.9, text="mail"), *near[:2])
    found = [
        classification("vpn", 0.97, neighbors=near),  # labeled mail: suspected
        classification("vpn", 0.97, neighbors=mixed),  # a neighbor carries the label
        classification("vpn", 0.60, neighbors=near),  # not sure
        classification("vpn", 0.97, neighbors=near),  # agrees
    ]
    suspects = suspected_labels(
        list("abcd"), ["one", "two", "three", "four"], names("mail", "mail", "mail", "vpn"), found, redact=str
    )
    assert [row["id"] for row in suspects["rows"]] == ["a"] and suspects["count"] == 1


def test_the_same_words_under_two_labels_are_shown() -> None:
    assert contradictions(["VPN drops!", "vpn drops", "mail"], names("vpn", "network", "mail")) == {0: "network", 1: "vpn"}


def test_errors_come_with_what_would_have_been_acted_on_first() -> None:
    found = [classification("vpn", 0.6), classification("vpn", 0.8), classification("mail", 0.9)]
    rows = errors(["x", "y", "z"], ["a" * 900, "b", "c"], names("mail", "mail", "mail"), found, redact=str.upper)
    assert [row["id"] for row in rows] == ["y", "x"] and len(rows[1]["text"]) < 500 and rows[0]["text"] == "B"
