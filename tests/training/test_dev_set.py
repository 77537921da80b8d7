from pathlib import Path

import pytest

from asr.corpus import PackedCorpus
from asr.model import Network, network, read_model
from asr.scoring import ErrorCounts, UtteranceScore, score
from asr.training.batch import Examples
from asr.training.dev_set import DevScores, score_dev
from asr.training.history import find_best, read_history
from asr.training.processes import open_fabric
from asr.training.targets import encode_texts


@pytest.fixture(scope="module")
def scores(tone_run: Path, tone_corpus: dict[str, PackedCorpus], tmp_path_factory) -> DevScores:  # type: ignore[no-untyped-def]
    """Those of the model that a run has written."""
    model = read_model(tone_run / "model")
    trained = Network(model.config, len(model.tokens))
    network.load_weights(trained, tone_run / "model" / "weights.safetensors")
    dev = tone_corpus["dev"]
    examples = Examples.of(dev, encode_texts(dev, model.tokens), model.config)
    fabric = open_fabric("cpu", tmp_path_factory.mktemp("fabric"))
    return score_dev(trained, examples, model.tokens, fabric)


def test_every_utterance_is_scored_and_the_best_come_first(
    scores: DevScores, tone_corpus: dict[str, PackedCorpus]
) -> None:
    texts = {u.id: u.text for u in tone_corpus["dev"].utterances}
    assert {u.id: u.reference for u in scores.utterances} == texts
    assert sum((u.words for u in scores.utterances), ErrorCounts()) == scores.words
    rates = [u.characters.rate or 0.0 for u in scores.utterances]
    assert rates == sorted(rates)


def test_the_written_weights_are_those_that_were_scored(scores: DevScores, tone_run: Path) -> None:
    """The average, not the weights of the last step; `test_trainer` says that they differ."""
    best = find_best(read_history(tone_run / "history.csv"))
    assert best is not None
    assert scores.loss == pytest.approx(best["dev_loss"], rel=1e-6)
    assert scores.words.rate == best["dev_wer"]


def test_a_run_shows_the_best_the_median_and_the_worst_as_they_were_heard(
    scores: DevScores, tone_run: Path
) -> None:
    best = find_best(read_history(tone_run / "history.csv"))
    assert best is not None
    lines = (tone_run / "lines.txt").read_text(encoding="utf-8").splitlines()
    start = next(
        i for i, line in enumerate(lines) if line.startswith(f"epoch {best['epoch']:.0f}/")
    )
    expected = []
    for sample in (scores.utterances[0], scores.utterances[6], scores.utterances[-1]):
        expected.append(f"  {sample.id} (CER {sample.characters.rate or 0.0:.0f} %)")
        expected += [f"    ref {sample.reference}", f"    hyp {sample.hypothesis}"]
    assert lines[start + 1 : start + 10] == expected


def heard(count: int) -> tuple[UtteranceScore, ...]:
    """Utterances of ten letters, each with one error more than the one before."""
    references = {str(index): "a" * 10 for index in range(count)}
    hypotheses = {str(index): "b" * index + "a" * (10 - index) for index in range(count)}
    return score(references, hypotheses).utterances


@pytest.mark.parametrize(
    ("count", "ids"),
    [(0, ""), (1, "0"), (2, "08"), (3, "048"), (5, "02468"), (9, "012345678"), (20, "012345678")],
)
def test_examples_are_spread_from_the_best_to_the_worst(count: int, ids: str) -> None:
    counts = ErrorCounts()
    scores = DevScores(words=counts, characters=counts, loss=0.0, utterances=heard(9))
    assert "".join(example.id for example in scores.examples(count)) == ids
