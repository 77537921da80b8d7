from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asr.cli import main
from asr.config import TokenConfig
from asr.corpus.manifest import read_manifest
from asr.text.tokens import build_tokens
from asr.transcription.recognizer import Recognizer
from tests.conftest import ROOT

SETTINGS = (
    "encoder.hidden_size=32",
    "encoder.num_layers=1",
    "encoder.conv_channels=32",
    "encoder.subsampling=4",
    "training.epochs=2",
)


@pytest.fixture(scope="module")
def work(corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("an4") / "work"
    arguments = ["run", str(ROOT / "recipes" / "an4"), "--corpus", str(corpora / "an4")]
    arguments += [part for setting in SETTINGS for part in ("--set", setting)]
    assert main([*arguments, "--work", str(work), "--device", "cpu"]) == 0
    return work


def test_all_test_utterances_are_scored(work: Path) -> None:
    result = (work / "result.txt").read_text()
    assert " / 773, " in result.splitlines()[0]
    assert "Scored 130 sentences, 0 not present in hyp." in result


def test_audio_gives_the_probabilities_that_its_published_features_give(
    work: Path, corpora: Path
) -> None:
    recognizer = Recognizer.load(work / "model", device="cpu")
    audio = {path.stem: path for path in sorted((corpora / "an4" / "wav").rglob("*.*"))}
    utterances = [u for u in read_manifest(work / "manifests" / "test.jsonl") if u.id in audio]
    assert len(utterances) == 12
    from_features = list(recognizer.score_utterances(utterances))
    # The speakers stay, by whom features are normalized.
    heard = [replace(u, audio_filepath=audio[u.id]) for u in utterances]
    from_audio = list(recognizer.score_utterances(heard))
    # Not their texts: a network of two epochs is certain of none.
    for (_, expected), (_, scores) in zip(from_features, from_audio, strict=True):
        assert isinstance(expected, list)
        assert isinstance(scores, list)
        for first, second in zip(expected, scores, strict=True):
            np.testing.assert_allclose(second, first, atol=0.01, rtol=0)


def test_the_dictionary_pronounces_every_word_and_the_letter_a_as_one(work: Path) -> None:
    manifests = [
        read_manifest(work / "manifests" / f"{split}.jsonl") for split in ("train", "test")
    ]
    texts = [str(utterance.text) for utterances in manifests for utterance in utterances]
    path = work / "manifests" / "pronunciations.txt"
    table = build_tokens(texts, TokenConfig(kind="phones"), path)
    assert len(table) == 34  # the published phones but silence, and the blank
    assert table.decode(table.encode("a b")) == "EY B IY"
    assert len(table.spellings("february")) == 5


def test_a_lexicon_of_the_training_words_is_tuned_on_dev_without_training_again(
    work: Path, corpora: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["lm.lexicon=true", *SETTINGS]
    arguments = ["run", str(ROOT / "recipes" / "an4"), "--corpus", str(corpora / "an4")]
    arguments += [part for setting in settings for part in ("--set", setting)]
    assert main([*arguments, "--work", str(work), "--device", "cpu"]) == 0
    out, err = capsys.readouterr()
    assert "[4/7] train: done\n" in err
    assert "The best path, without help:" in out
    words = {line.split()[0] for line in (work / "model" / "lexicon.txt").read_text().splitlines()}
    assert len(words) == 98
    assert "november" not in words


def test_a_few_minutes_of_training_are_some_of_its_utterances_and_dev_stays(
    work: Path, corpora: Path, tmp_path: Path
) -> None:
    arguments = ["run", str(ROOT / "recipes" / "an4"), "--corpus", str(corpora / "an4")]
    arguments += ["--to", "prepare", "--set", "corpus.train_minutes=4"]
    assert main([*arguments, "--work", str(tmp_path / "tenth")]) == 0
    kept, every, dev, same = (
        read_manifest(folder / "manifests" / f"{split}.jsonl")
        for split in ("train", "dev")
        for folder in (tmp_path / "tenth", work)
    )
    assert dev == same
    assert [u for u in every if u.id in {each.id for each in kept}] == kept
    assert 3.8 < sum(utterance.duration for utterance in kept) / 60 <= 4
