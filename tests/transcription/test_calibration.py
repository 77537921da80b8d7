"""Confidences that are fitted: the regression against scikit-learn, and a model's own words."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from asr.cli import main
from asr.config import ConfidenceConfig
from asr.corpus import Utterance, write_manifest
from asr.decoding import TokenSpan, align, confidence, options
from asr.recipe.stage import Work
from asr.recipe.standard import model_stages, score_set
from asr.scoring.calibration import measure_calibration
from asr.transcription import Recognizer
from asr.transcription.calibration import (
    Words,
    _regress,
    calibrate,
    fit_confidence,
    pool_violators,
    predict,
)
from tests.tones import CONFIG, write_corpus


def draw(num_words: int = 3000) -> Words:
    rng = np.random.default_rng(5)
    evidence = rng.normal([-1.0, -2.0, 0.5, 1.0], [0.5, 1.0, 0.2, 0.7], size=(num_words, 4))
    chance = 1 / (1 + np.exp(-(2 + evidence @ [1.5, 0.5, -2.0, 0.3])))
    return Words(
        evidence=evidence,
        means=np.exp(np.minimum(evidence[:, 0], 0)),
        right=rng.uniform(size=num_words) < chance,
    )


def test_the_regression_is_scikit_learns() -> None:
    words = draw()
    config = _regress(words)
    scaled = (words.evidence - words.evidence.mean(axis=0)) / words.evidence.std(axis=0)
    num_right = words.right.sum()
    truth = np.where(words.right, (num_right + 1) / (num_right + 2), 1 / (3002 - num_right))
    # Every word twice: as right and as wrong, each with its share.
    theirs = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit(
        np.tile(scaled, (2, 1)), [1] * 3000 + [0] * 3000, np.concatenate([truth, 1 - truth])
    )
    np.testing.assert_allclose(
        predict(words, config), theirs.predict_proba(scaled)[:, 1], atol=1e-6
    )


def test_a_curve_is_scipys() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(4)
    for values in (rng.uniform(size=300) < 0.5, np.linspace(1, 0, 9), rng.normal(size=50)):
        levels = pool_violators(values)
        shares = np.concatenate([np.full(last - first, share) for first, last, share in levels])
        theirs = optimize.isotonic_regression(np.asarray(values, float)).x
        np.testing.assert_allclose(shares, theirs, atol=1e-12)


def bent_words(num_words: int) -> Words:
    """Words that are right as often as no logistic regression says: hardly more than by half."""
    rng = np.random.default_rng(6)
    evidence = rng.normal([-1.0, -2.0, 0.5, 1.0], [0.5, 1.0, 0.2, 0.7], size=(num_words, 4))
    value = 2 * evidence @ [1.5, 0.5, -2.0, 0.3]
    chance = np.where(value > np.median(value), 0.6, 0.05)
    return Words(
        evidence=evidence,
        means=np.exp(np.minimum(evidence[:, 0], 0)),
        right=rng.uniform(size=num_words) < chance,
    )


def test_many_words_have_a_curve_where_it_is_better() -> None:
    words = bent_words(4000)
    fit = fit_confidence(words)
    assert fit.config is not None
    assert "by an isotonic curve" in fit.summary
    assert fit.config.curve == tuple(sorted(fit.config.curve))
    confidences = predict(words, fit.config)
    plain = predict(words, fit.config.model_copy(update={"curve": ()}))
    assert (np.diff(confidences[np.argsort(plain)]) >= 0).all()
    assert 0 < confidences.min() < confidences.max() < 1
    fresh = bent_words(6000).take(np.arange(6000) >= 4000)
    others = predict(fresh, fit.config)
    assert abs(others[others > 0.4].mean() - fresh.right[others > 0.4].mean()) < 0.05
    assert calibration_error(others, fresh) < 0.5 * calibration_error(
        predict(fresh, fit.config.model_copy(update={"curve": ()})), fresh
    )


def calibration_error(confidences: np.ndarray, words: Words) -> float:
    measured = measure_calibration(confidences.tolist(), words.right.tolist())
    assert measured is not None
    return measured.expected_error


def test_a_curve_needs_a_thousand_words_and_to_be_better() -> None:
    for words in (bent_words(999), draw()):
        fit = fit_confidence(words)
        assert fit.config is not None
        assert not fit.config.curve
        assert "curve" not in fit.summary


def test_a_curve_without_order_is_refused() -> None:
    with pytest.raises(ValueError, match="points are expected in order"):
        ConfidenceConfig(bias=0.0, weights=(1.0, 0.0, 0.0, 0.0), curve=((0.5, 0.2), (0.1, 0.3)))


def test_evidence_that_does_not_vary_and_truth_without_doubt_are_no_fault() -> None:
    words = draw(400)
    words.evidence[:, 3] = 0.0
    words.right[:] = words.evidence[:, 0] > -1
    config = _regress(words)
    assert all(map(math.isfinite, (config.bias, *config.weights)))
    assert config.weights[3] == 0
    assert ((predict(words, config) > 0.5) == words.right).mean() > 0.95


def test_a_half_without_a_mistake_bounds_its_confidences() -> None:
    words = draw(400)
    words.right[:] = True
    words.right[:6] = False
    fit = fit_confidence(words)
    assert fit.config is not None
    assert predict(words, fit.config)[6:].max() < 1


def test_a_fit_tells_what_it_brings_and_few_words_are_not_fitted() -> None:
    words = draw()
    fit = fit_confidence(words)
    assert fit.config is not None
    assert fit.summary.startswith(
        "confidences fitted on 3000 words: expected calibration error 0.0"
    )
    few = fit_confidence(words.take(np.arange(3000) < 199))
    assert few.config is None
    assert few.summary == "confidences are not fitted: 199 words, and 200 are needed"
    words.right[:] = True
    words.right[:4] = False
    sure = fit_confidence(words)
    assert sure.config is None
    assert "4 of 3000 words are wrong" in sure.summary


def test_evidence_is_of_the_words_own_steps() -> None:
    probs = np.array([[0.9, 0.05, 0.05], [0.2, 0.7, 0.1], [0.3, 0.1, 0.6], [0.8, 0.1, 0.1]])
    log_probs = np.log(probs).astype(np.float32)
    spans = align(log_probs, [1, 2])
    mean, least, entropy, length = confidence.word_evidence(spans, log_probs)
    assert mean == pytest.approx(math.log(0.7 * 0.6) / 2)
    assert least == pytest.approx(math.log(0.6))
    assert entropy == pytest.approx(-(probs[1:3] * np.log(probs[1:3])).sum() / 2, rel=1e-5)
    assert length == pytest.approx(math.log(2))
    nothing = [TokenSpan(token=1, start=0, end=1, probability=0.0)]
    with np.errstate(all="raise"):
        values = confidence.word_evidence(nothing, np.array([[0.0, -np.inf, -np.inf]], np.float32))
    assert all(map(math.isfinite, values))
    extreme = ConfidenceConfig(bias=0.0, weights=(1e300, 0.0, 0.0, 0.0))
    assert 0 <= confidence.fitted_confidence(values, extreme) < 1e-9


@pytest.fixture
def model(tone_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tone_run / "model", tmp_path / "model"))


def mistaken(utterances: list[Utterance]) -> list[Utterance]:
    """Every third transcript says something else, so that there is something to fit."""
    return [replace(u, text="x" if n % 3 == 0 else u.text) for n, u in enumerate(utterances)]


def test_what_is_fitted_is_what_a_model_says_from_then_on(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    utterances = mistaken(write_corpus(tmp_path / "dev", 120, seed=9))
    before = list(Recognizer.load(model, device="cpu").transcribe_utterances(utterances[:3]))
    fit = calibrate(model, utterances, device="cpu")
    assert fit.config is not None, fit.summary
    assert options.read_decoding(model).confidence == fit.config
    after = list(Recognizer.load(model, device="cpu").transcribe_utterances(utterances))
    for (_, old), (_, new) in zip(before, after[:3], strict=True):
        assert old.text == new.text
        assert old.words != new.words
    said = [word.confidence for _, transcript in after for word in transcript.words]
    rates = [u.text != "x" for u, transcript in after for _ in transcript.words]
    # A regression with a bias says on the mean what is true.
    assert np.mean(said) == pytest.approx(np.mean(rates), abs=0.02)
    manifest = tmp_path / "dev.jsonl"
    write_manifest(utterances, manifest)
    assert main(["tune", str(model), str(manifest), "--confidence", "--device", "cpu"]) == 0
    assert "confidences fitted on" in capsys.readouterr().out
    assert main(["tune", str(model), str(manifest), "--confidence", "--lexicon", "x"]) == 2
    assert "--confidence fits a model as it decodes" in capsys.readouterr().err
    few = calibrate(model, utterances[:5], device="cpu")
    assert few.config is None
    assert options.read_decoding(model).confidence is None


def test_a_recipe_with_fitted_confidences_scores_the_best_path_once(
    tone_run: Path, tmp_path: Path
) -> None:
    work = Work(folder=tmp_path / "work", config=CONFIG, device="cpu")
    shutil.copytree(tone_run / "model", work.path("model"))
    utterances = mistaken(write_corpus(work.path("manifests") / "dev", 120, seed=9))
    write_manifest(utterances, work.path("manifests/dev.jsonl"))
    stages = {stage.name: stage for stage in model_stages("manifests")}
    stages["tune"].run(work)
    assert options.read_decoding(work.path("model")).confidence is not None
    summary = score_set(work, "dev", work.path("dev"))
    assert summary.count("%WER") == 1
    calibration = json.loads(work.path("dev/report.json").read_text())["calibration"]
    assert calibration["mean"] == pytest.approx(calibration["right"], abs=0.02)
