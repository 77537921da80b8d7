"""What a confidence is worth, against definitions, scikit-learn and laws."""

import json

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from asr.scoring.calibration import measure_calibration
from asr.scoring.errors import score
from asr.scoring.page import _page
from asr.scoring.report import ScoreReport, report_json


def draw(num_words: int = 4000, power: float = 1.0) -> tuple[list[float], list[bool]]:
    """Words that are right as often as `confidence ** power` says."""
    rng = np.random.default_rng(3)
    said = rng.uniform(0.02, 0.98, num_words)
    return said.tolist(), (rng.uniform(size=num_words) < said**power).tolist()


@pytest.mark.parametrize("power", [1.0, 3.0])
def test_bins_and_entropy_are_those_of_scikit_learn(power: float) -> None:
    said, right = draw(power=power)
    measured = measure_calibration(said, right)
    assert measured is not None
    shares, means = calibration_curve(right, said, n_bins=10)
    np.testing.assert_allclose([b.right for b in measured.bins], shares)
    np.testing.assert_allclose([b.confidence for b in measured.bins], means)
    sizes = np.array([b.num_words for b in measured.bins])
    assert measured.expected_error == pytest.approx((sizes * abs(shares - means)).sum() / len(said))
    alone = log_loss(right, np.full(len(said), np.mean(right)))
    assert measured.cross_entropy == pytest.approx(1 - log_loss(right, said) / alone)
    # What is said as it is errs by chance alone; what is too sure does not.
    assert (measured.expected_error < 0.03) == (power == 1.0)


def test_saying_the_share_alone_is_worth_nothing_and_misleading_less() -> None:
    right = [True] * 30 + [False] * 10
    same = measure_calibration([0.75] * 40, right)
    wrong = measure_calibration([0.1] * 30 + [0.9] * 10, right)
    sure = measure_calibration([1.0] * 30 + [0.0] * 10, right)
    assert same is not None
    assert wrong is not None
    assert sure is not None
    assert same.cross_entropy == pytest.approx(0)
    assert same.expected_error == pytest.approx(0)
    assert wrong.cross_entropy is not None
    assert wrong.cross_entropy < -1
    assert sure.cross_entropy == pytest.approx(1)
    assert sure.bins[-1].num_words == 30  # 1 belongs to the last


def test_what_is_kept_is_told_at_the_lowest_threshold_with_few_errors() -> None:
    measured = measure_calibration(
        [0.95] * 98 + [0.85] * 2 + [0.55] * 100, [True] * 100 + [False] * 100
    )
    assert measured is not None
    assert measured.describe() == (
        "words of a confidence of 0.6 or more: 50 % of all, 0.0 % of them wrong"
    )
    bad = measure_calibration([0.95, 0.95], [True, False])
    assert bad is not None
    assert bad.describe() == (
        "words of a confidence of 0.95 or more: 100 % of all, 50.0 % of them wrong"
    )
    none = measure_calibration([0.3, 0.3], [True, False])
    assert none is not None
    assert "0 % of all" in none.describe()


def test_without_words_or_with_right_ones_alone_there_is_less_to_say() -> None:
    assert measure_calibration([], []) is None
    measured = measure_calibration([0.9], [True])
    assert measured is not None
    assert measured.cross_entropy is None


def report_of(confidences: dict[str, list[float]]) -> ScoreReport:
    return ScoreReport(
        score=score({"a": "one two three", "b": "four"}, {"a": "one too", "b": "for four"}),
        reference="ref",
        hypothesis="hyp",
        confidences=confidences,
    )


def test_a_report_compares_confidences_with_its_own_alignment() -> None:
    report = report_of({"a": [0.9, 0.2], "b": [0.4, 0.7]})
    assert report.calibration is not None
    assert report.calibration.num_words == 4
    assert [b.right for b in report.calibration.bins] == [0, 0, 1, 1]
    assert json.loads(report_json(report))["calibration"]["right"] == 0.5
    assert "Confidence of words" in _page(report, {})


def test_words_that_a_normalizer_joined_have_no_confidence() -> None:
    report = report_of({"a": [0.9, 0.2, 0.3], "b": [0.4, 0.7]})
    assert report.calibration is not None
    assert report.calibration.num_words == 2
    assert report_of({}).calibration is None
    assert "Confidence of words" not in _page(report_of({}), {})
