import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from asr.cli import main
from asr.config import Config, DecodingConfig, TokenConfig
from asr.config_files import load_conf
from asr.decoding.options import write_decoding
from asr.errors import ConfigError, ModelError
from asr.lm import estimate, write_arpa
from asr.model.folder import WEIGHTS, read_model, write_model
from asr.model.network import Network, write_weights
from asr.recipe.suggestion import (
    CorpusShape,
    Wishes,
    choose_settings,
    choose_start,
    describe_budget,
)
from asr.text.tokens import build_tokens
from tests import tones

LETTERS = "abcdefghijklmnopqrstuvwxyz'"
ENCODER = {"hidden_size": 8, "num_layers": 4, "conv_channels": 8, "subsampling": 3}
FEATURES = {"num_mel_bins": 60, "high_freq": 6000}
SENTENCES = [f"the {chr(97 + n % 26)}{chr(97 + n // 26)} goes there" for n in range(200)]


@pytest.fixture
def brought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of starters: an untrained one of English, of two directions."""
    folder = tmp_path / "assets"
    write_starter(folder / "english")
    monkeypatch.setattr("asr.model.folder.STARTERS", folder)
    return folder


def write_starter(
    folder: Path,
    features: dict[str, Any] = FEATURES,
    training: dict[str, Any] | None = None,
    **encoder: Any,
) -> Path:
    values = {"features": features, "encoder": {**ENCODER, **encoder}}
    tokens = build_tokens([f"{LETTERS} {LETTERS}"], TokenConfig())
    origin = {"language": "en"} if training is None else training
    config = Config.model_validate(values)
    write_model(folder, config, tokens, origin)
    write_weights(Network(config, len(tokens)).state_dict(), folder / WEIGHTS)
    return folder


def shape(**changes: Any) -> CorpusShape:
    values = {"hours": 0.5, "median_seconds": 3.0, "sample_rate": 16000, "texts": SENTENCES}
    return CorpusShape(**{**values, **changes})


def chosen(wishes: Wishes, of: CorpusShape) -> tuple[str | None, str]:
    """The name of the model that is started from, and what is said."""
    lines: list[str] = []
    start = choose_start(wishes, of, lines.append)
    return None if start is None else start.name, "\n".join(lines)


@pytest.mark.usefixtures("brought")
def test_a_starter_is_proposed_where_it_suits() -> None:
    name, said = chosen(Wishes(), shape())
    assert name == "english"
    assert said == "training starts from english; --init none starts from nothing"
    for language in ("en", "en-us"):
        assert chosen(Wishes(language=language), shape())[0] == "english"
    assert chosen(Wishes(init="none"), shape()) == (None, "")


GERMAN = [f"schöne {text} größe" for text in SENTENCES]


@pytest.mark.usefixtures("brought")
@pytest.mark.parametrize(
    ("wishes", "changes", "reason"),
    [
        ({"language": "de"}, {}, "its language is en"),
        ({}, {"texts": GERMAN}, "it lacks the letters ß, ö"),
        ({}, {"sample_rate": 8000}, "it was trained on audio of 16000 Hz, and this has 8000"),
        ({}, {"texts": ["yes", "no"]}, "for at most 60 words a small model of them does"),
    ],
)
def test_one_that_does_not_suit_is_not_proposed_but_taken_when_asked_for(
    wishes: dict[str, Any], changes: dict[str, Any], reason: str
) -> None:
    of = shape(**changes)
    assert chosen(Wishes(**wishes), of) == (
        None,
        f"training starts from nothing, and not from english: {reason}; --init english starts "
        "from it all the same",
    )
    name, said = chosen(Wishes(init="english", **wishes), of)
    assert name == "english"
    assert said.startswith("training starts from english")
    Config.model_validate(choose_settings(of, choose_start(Wishes(init=name), of, print)))


@pytest.mark.usefixtures("brought")
def test_what_the_model_has_to_learn_is_said() -> None:
    texts = [*GERMAN, "nummer 12"]
    assert chosen(Wishes(init="english"), shape(texts=texts, sample_rate=8000))[1] == (
        "training starts from english; it lacks 1, 2, ß, ö, which it learns from nothing; "
        "corpus.normalizer english writes numbers as English words; audio is resampled to its "
        "16000 Hz"
    )
    numbers = [*SENTENCES, "12"]  # no letters: it is proposed
    name, said = chosen(Wishes(), shape(texts=numbers))
    assert name == "english"
    assert "it lacks 1, 2, which it learns from nothing" in said


def test_live_wants_a_model_of_one_direction(brought: Path, tmp_path: Path) -> None:
    assert chosen(Wishes(live=True), shape()) == (
        None,
        "training starts from nothing, and not from english: it hears whole utterances, and "
        "--live wants text before its end",
    )
    with pytest.raises(ConfigError, match="--init english: it hears whole utterances, and --live"):
        chosen(Wishes(init="english", live=True), shape())
    features = {**FEATURES, "normalization": "running"}
    write_starter(brought / "live", features, bidirectional=False)
    assert chosen(Wishes(live=True), shape())[0] == "live"
    assert chosen(Wishes(), shape())[0] == "english"
    whole = str(write_starter(tmp_path / "whole", bidirectional=False))  # by utterance
    with pytest.raises(ConfigError, match="hears whole utterances"):
        chosen(Wishes(init=whole, live=True), shape())


@pytest.mark.parametrize("seconds", [0.4, 4.0])
def test_a_live_configuration_can_be_live(seconds: float) -> None:
    config = Config.model_validate(choose_settings(shape(median_seconds=seconds), live=True))
    assert not config.encoder.bidirectional
    assert config.features.normalization in ("running", "global")
    assert config.augment.join_probability
    assert Config.model_validate(choose_settings(shape())).encoder.bidirectional


def test_a_folder_is_named_from_anywhere_and_wins(
    brought: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_starter(tmp_path / "mine")
    write_starter(tmp_path / "english", training={"seed": 5})

    def named(init: str) -> Path | None:
        start = choose_start(Wishes(init=init), shape(), print)
        config = Config.model_validate(choose_settings(shape(), start))
        return config.training.init.model

    assert named("mine") == tmp_path / "mine"
    assert named("english") == tmp_path / "english"
    assert named(str(brought / "english")) == brought / "english"
    monkeypatch.chdir(brought.parent.parent)
    assert named("english") == Path("english")


def test_models_that_cannot_be_started_from_are_refused(brought: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"englsh: not a model folder .* starters are english"):
        chosen(Wishes(init="englsh"), shape())
    exported = write_starter(tmp_path / "exported", training={"exported": {}})
    with pytest.raises(ModelError, match="is exported and cannot be trained"):
        chosen(Wishes(init=str(exported)), shape())
    phones = write_starter(tmp_path / "phones")
    (phones / "pronunciations.txt").write_text("one W AH N\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="writes phones"):
        chosen(Wishes(init=str(phones)), shape())
    shutil.rmtree(brought)
    assert chosen(Wishes(), shape()) == (None, "")


@pytest.mark.usefixtures("brought")
def test_the_configuration_is_that_of_the_model() -> None:
    of = shape()
    start = choose_start(Wishes(), of, print)
    assert start is not None
    config = Config.model_validate(choose_settings(of, start))
    theirs = start.model.config
    assert (config.features, config.tokens) == (theirs.features, theirs.tokens)
    assert config.encoder == theirs.encoder
    assert config.training.init.model == Path("english")
    assert config.training.learning_rate < choose_settings(of)["training"]["learning_rate"]


def test_the_ngrams_of_a_starter_are_mixed_with_those_of_the_transcripts(
    brought: Path, tmp_path: Path
) -> None:
    def lm(of: CorpusShape, language: str | None = None) -> object:
        start = choose_start(Wishes(init="english", language=language), of, print)
        return choose_settings(of, start).get("lm")

    assert lm(shape()) is None
    write_arpa(estimate([["a", "b"]], order=2).arpa, tmp_path / "lm.arpa")
    write_decoding(brought / "english", DecodingConfig(), lm=tmp_path / "lm.arpa")
    assert lm(shape()) == {"order": 3, "base": "english"}
    assert lm(shape(), "en-gb") == lm(shape())
    assert lm(shape(texts=["yes", "no"])) is None
    assert lm(shape(), "de") is None
    assert lm(shape(texts=[*SENTENCES, "grün und größer"])) is None


@pytest.mark.usefixtures("brought")
@pytest.mark.parametrize("hours", [0.05, 0.5, 1.0, 1.9, 4.0])
def test_learning_is_counted_in_updates(hours: float) -> None:
    for wishes, texts, lowest, highest in (
        (Wishes(init="none"), SENTENCES, 8000, 8400),
        (Wishes(init="none"), ["yes", "no"], 2500, 2700),
        (Wishes(init="english"), SENTENCES, 2000, 4000),
    ):
        of = shape(hours=hours, texts=texts)
        settings = choose_settings(of, choose_start(wishes, of, print))
        training = settings["training"]
        updates = training["epochs"] * hours * 3600 / training["batch_seconds"]
        assert lowest <= updates * 1.00001
        assert updates <= highest or training["epochs"] == 20
        assert training["batch_seconds"] <= (20 if hours < 2 else 40)
        assert 40 <= training["epochs"] / training["dev_interval"] <= 80 or training["epochs"] < 80
        said = describe_budget(of, settings)
        assert re.match(rf"{training['epochs']} epochs are about [\d,]+ updates: ", said)
        about = float(said.split()[4].replace(",", ""))
        assert abs(about - updates) <= 50


def test_much_speech_has_epochs_enough() -> None:
    settings = choose_settings(shape(hours=300.0))
    assert settings["training"]["epochs"] == 20
    assert "20 epochs are about 180,000 updates" in describe_budget(shape(hours=300.0), settings)


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Of 16000 Hz, with a .txt beside each, of more than 60 words."""
    folder = tmp_path / "recordings"
    for number, utterance in enumerate(tones.write_corpus(folder, 40, seed=3)):
        text = " ".join(SENTENCES[5 * number : 5 * number + 5])
        utterance.audio_filepath.with_suffix(".txt").write_text(text, encoding="utf-8")
    return folder


def test_init_writes_the_start_and_the_budget(
    brought: Path, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_starter(brought / "english", {"sample_rate": 8000, "num_mel_bins": 40})
    recipe = tmp_path / "calls"
    assert main(["init", str(recipe), "--audio", str(recordings)]) == 0
    assert "training starts from english; --init none" in capsys.readouterr().err
    conf = recipe / "conf/default.yaml"
    config = load_conf(conf)
    assert config.training.init.model == Path("english")
    assert config.features == read_model(brought / "english").config.features
    lines = conf.read_text(encoding="utf-8").splitlines()
    comment = lines[lines.index("training:") - 1]
    assert comment.startswith(f"# {config.training.epochs} epochs are about ")
    assert "starts from the model `english`" in (recipe / "README.md").read_text(encoding="utf-8")

    other = tmp_path / "other"
    assert main(["init", str(other), "--audio", str(recordings), "--init", "none", "--live"]) == 0
    config = load_conf(other / "conf/default.yaml")
    assert config.training.init.model is None
    assert not config.encoder.bidirectional
    assert "starts from" not in (other / "README.md").read_text(encoding="utf-8")

    third = tmp_path / "third"
    assert main(["init", str(third), "--audio", "nowhere", "--init", "englihs"]) == 2
    assert "starters are english" in capsys.readouterr().err
    assert not third.exists()


@pytest.mark.usefixtures("brought")
def test_init_of_sentences_says_the_language(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sentences = tmp_path / "sentences.txt"
    sentences.write_text("".join(f"{text}.\n" for text in SENTENCES), encoding="utf-8")
    for language, model in (([], "english"), (["--language", "de"], None)):
        recipe = tmp_path / f"recipe{len(language)}"
        assert main(["init", str(recipe), "--text", str(sentences), *language]) == 0
        values = yaml.safe_load((recipe / "conf/default.yaml").read_text(encoding="utf-8"))
        assert values["training"].get("init", {}).get("model") == model
        assert values["corpus"]["sample_rate"] == 16000
        name = repr(language[1] if language else "en")
        assert f"LANGUAGE = {name}\n" in (recipe / "corpus.py").read_text(encoding="utf-8")
    assert "its language is en" in capsys.readouterr().err


@pytest.mark.parametrize("hours", [0.02, 0.3, 1.0, 8.0, 100.0])
@pytest.mark.parametrize("seconds", [0.4, 4.0])
def test_settings_fit_together_and_grow_with_the_corpus(hours: float, seconds: float) -> None:
    shape = CorpusShape(
        hours=hours, median_seconds=seconds, sample_rate=8000, texts=["a b c d"] * 9
    )
    config = Config.model_validate(choose_settings(shape))
    assert config.training.batch_seconds >= 4 * seconds
    more = CorpusShape(
        hours=20 * hours, median_seconds=seconds, sample_rate=8000, texts=["a b"] * 9
    )
    other = Config.model_validate(choose_settings(more))
    assert config.encoder.hidden_size <= other.encoder.hidden_size
    assert config.training.epochs >= other.training.epochs


def test_few_words_are_units_and_many_are_spelled() -> None:
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    shape = CorpusShape(hours=0.3, median_seconds=0.4, sample_rate=8000, texts=words * 5)
    tokens = choose_settings(shape)["tokens"]
    assert tokens["kind"] == "bpe"
    table = build_tokens(words * 5, TokenConfig.model_validate(tokens))
    assert all(len(table.encode(word)) == 1 for word in words)
    random = np.random.default_rng(1)
    many = ["".join(random.choice(list("abcdef"), 6)) for _ in range(200)]
    shape = CorpusShape(hours=0.3, median_seconds=0.4, sample_rate=8000, texts=many)
    assert choose_settings(shape)["tokens"] == {"kind": "characters"}
