"""Measures of a classifier against scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as oracle

from zhumo.metrics import classify

LABELS = ["arrival", "fee", "lost", "pin"]
POWER = np.array([0.1, 0.6, 0.25, 0.05])  # uneven, as labels are


def _answers(rows: int, seed: int, labels: list[str]) -> tuple[np.ndarray, list[str], list[str]]:
    """Scores with some truth in them, what they say, and the truth."""
    generator = np.random.default_rng(seed)
    truth = generator.choice(len(labels), rows, p=POWER[: len(labels)] / POWER[: len(labels)].sum())
    logits = generator.normal(size=(rows, len(labels))) + 1.5 * np.eye(len(labels))[truth]
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return scores, [labels[i] for i in scores.argmax(1)], [labels[i] for i in truth]


@pytest.mark.parametrize("seed", range(5))
def test_single_label_measures_are_those_of_scikit_learn(seed: int) -> None:
    scores, said, truth = _answers(300, seed, LABELS)
    assert classify.accuracy(said, truth).value == pytest.approx(oracle.accuracy_score(truth, said))
    assert classify.macro_f1(said, truth).value == pytest.approx(oracle.f1_score(truth, said, average="macro"))
    expected = oracle.log_loss(truth, scores, labels=LABELS)
    assert classify.log_loss(scores, truth, LABELS).value == pytest.approx(expected)


@pytest.mark.parametrize("digits", [12, 1])  # one digit makes many ties
def test_auc_is_that_of_scikit_learn(digits: int) -> None:
    scores, _, truth = _answers(400, 7, LABELS[:2])
    scores = scores.round(digits)
    [measure] = classify.auc(scores, truth, LABELS[:2])
    assert measure.value == pytest.approx(oracle.roc_auc_score([label == LABELS[1] for label in truth], scores[:, 1]))


def test_auc_is_for_two_labels() -> None:
    scores, _, truth = _answers(50, 0, LABELS)
    assert classify.auc(scores, truth, LABELS) == []


def test_multi_label_measures_are_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(3)
    true, guess = generator.random((2, 200, len(LABELS))) < np.array([[[0.4]], [[0.3]]])
    guess |= true & (generator.random(true.shape) < 0.5)
    wanted, said = ([{LABELS[i] for i in np.flatnonzero(row)} for row in table] for table in (true, guess))
    assert classify.micro_f1(said, wanted).value == pytest.approx(oracle.f1_score(true, guess, average="micro"))
    assert classify.exact_match(said, wanted).value == pytest.approx(oracle.accuracy_score(true, guess))


def test_a_label_never_trained_on_is_wrong_and_said() -> None:
    truth = ["fee", "hacked"]
    assert classify.accuracy(["fee", "fee"], truth).value == 0.5
    assert classify.log_loss(np.array([[1.0], [1.0]]), truth, ["fee"]).value == pytest.approx(-np.log(1e-7) / 2)
    [measure] = classify.unseen([{"fee"}, {"hacked"}], ["fee"])
    assert measure.value == 0.5
    assert classify.unseen([{"fee"}], ["fee", "pin"]) == []


def test_intervals_can_be_drawn_for_every_measure() -> None:
    scores, said, truth = _answers(300, 1, LABELS[:2])
    measures = [
        classify.accuracy(said, truth),
        classify.macro_f1(said, truth),
        *classify.auc(scores, truth, LABELS[:2]),
        classify.log_loss(scores, truth, LABELS[:2]),
        classify.micro_f1([{label} for label in said], [{label} for label in truth]),
    ]
    for measure in measures:
        low, high = measure.interval()
        assert low < measure.value < high
