import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
import soundfile

from asr.cli import main
from asr.config import Config, RecordingsConfig, SentencesConfig
from asr.config_files import load_config
from asr.corpus.manifest import Utterance, read_entries, read_manifest
from asr.errors import DataError
from asr.recipe.own_corpus import (
    CorpusSource,
    divide,
    divide_sentences,
    prepare_recordings,
)
from tests import tones

SMALL = [
    "encoder.hidden_size=24",
    "encoder.num_layers=1",
    "encoder.conv_channels=24",
    "training.epochs=20",
    "training.batch_seconds=5",
    "training.learning_rate=0.02",
    "training.checkpoint_seconds=1000",
]


def run(recipe: Path, work: Path, settings: list[str]) -> int:
    overrides = [part for setting in settings for part in ("--set", setting)]
    return main(["run", str(recipe), "--work", str(work), "--device", "cpu", *overrides])


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Audio with a .txt beside each, in a folder for each speaker."""
    folder = tmp_path / "recordings"
    for utterance in tones.write_corpus(tmp_path / "tones", 60, seed=3):
        speaker = folder / f"ann{int(utterance.id.split('-')[1]) % 6}"
        speaker.mkdir(parents=True, exist_ok=True)
        audio = shutil.move(utterance.audio_filepath, speaker)
        text = f"{(utterance.text or '').title()}!\n"
        Path(audio).with_suffix(".txt").write_text(text)
    return folder


def test_from_recordings_to_a_transcript_in_three_commands(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, work = tmp_path / "mine", tmp_path / "work"
    pattern = ["--speaker-pattern", "^[^/]+"]
    assert main(["init", str(recipe), "--audio", str(recordings), *pattern]) == 0
    assert f"asr run {recipe}" in capsys.readouterr().out
    assert run(recipe, work, SMALL) == 0
    out, err = capsys.readouterr()
    assert "fewer than" not in err
    speakers = {
        name: {u.speaker for u in read_manifest(work / f"manifests/{name}.jsonl")}
        for name in ("train", "dev", "test")
    }
    assert Counter(map(len, speakers.values())) == {4: 1, 1: 2}
    assert len(set.union(*speakers.values())) == 6
    rate = float(out.split()[1])
    assert rate < 80  # of forty utterances, in twenty epochs; 100 where nothing was learnt
    path = next(iter(recordings.glob("ann0/*.wav")))
    assert main(["transcribe", str(work / "model"), str(path)]) == 0
    # It may not spell the words: which of them it learns in so few epochs is chance.
    assert set(capsys.readouterr().out) <= set("lami \n")


def test_scores_of_a_segmented_book_stay_with_its_utterances(tmp_path: Path) -> None:
    marks = {"score": 0.7, "doubtful": ["mi"], "confidence": 0.9}
    rows = [
        {"id": f"u{n}", "audio_filepath": f"{n}.wav", "duration": 2.0, "text": "la mi"}
        for n in range(5)
    ]
    source, notes = tmp_path / "book.jsonl", list[str]()
    lines = [json.dumps(row | (marks if row["id"] != "u3" else {})) for row in rows]
    source.write_text("\n".join(lines), encoding="utf-8")
    folder = tmp_path / "manifests"
    folder.mkdir()
    prepare_recordings(CorpusSource(path=source), folder, RecordingsConfig(), notes.append)
    kept = {
        entry.row["id"]: {key: entry.row.get(key) for key in marks}
        for name in ("train", "dev", "test")
        for entry in read_entries(folder / f"{name}.jsonl")
    }
    assert kept == {f"u{n}": dict.fromkeys(marks) if n == 3 else marks for n in range(5)}
    assert not any("not kept" in note for note in notes)


def test_a_new_recording_makes_the_recipe_prepare_again(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, work = tmp_path / "mine", tmp_path / "work"
    assert main(["init", str(recipe), "--audio", str(recordings)]) == 0
    arguments = ["run", str(recipe), "--work", str(work), "--to", "prepare"]
    assert main(arguments) == 0
    assert main([*arguments, "--dry-run"]) == 0
    assert capsys.readouterr().out.endswith("prepare: done\n")
    (recordings / "ann1" / "3.txt").unlink(missing_ok=True)
    for text in recordings.glob("ann2/*.txt"):
        text.write_text("La\n")
    assert main([*arguments, "--dry-run"]) == 0
    assert f"prepare: changed ({recordings} changed)" in capsys.readouterr().out


def test_sentences_are_spoken_divided_and_learnt_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("espeakng_loader")
    recipe, work = tmp_path / "commands", tmp_path / "work"
    sentences = tmp_path / "sentences.txt"
    sentences.write_text("Stop!\nTurn left.\nturn right\nStop!\n")
    options = ["--text", str(sentences), "--voices", "5", "--hours", "0.01"]
    assert main(["init", str(recipe), *options]) == 0
    small = [*SMALL, "training.epochs=2", "corpus.num_dev=4", "corpus.num_test=4"]
    assert run(recipe, work, small) == 0
    assert capsys.readouterr().out.splitlines()[-1].strip()
    train, test = (read_manifest(work / f"manifests/{name}.jsonl") for name in ("train", "test"))
    assert {u.text for u in train} == {"stop", "turn left", "turn right"}
    assert len(test) == 4
    assert not {u.speaker for u in train} & {u.speaker for u in test}
    assert soundfile.info(train[0].audio_filepath).samplerate == 16000


def utterances(speakers: list[str | None], texts: list[str]) -> list[Utterance]:
    return [
        Utterance(id=str(n), audio_filepath=Path(f"{n}.wav"), duration=1.0, text=text, speaker=s)
        for n, (s, text) in enumerate(zip(speakers, texts, strict=True))
    ]


def test_speakers_are_kept_apart_where_there_are_five() -> None:
    speakers: list[str | None] = [f"s{n % 5}" for n in range(50)]
    notes: list[str] = []
    splits = divide(utterances(speakers, ["a b"] * 50), RecordingsConfig(), notes.append)
    sets = [{u.speaker for u in part} for part in splits.values()]
    assert sum(map(len, sets)) == 5
    assert len(notes) == 3
    splits = divide(utterances([None] * 50, ["a b"] * 50), RecordingsConfig(), notes.append)
    assert "fewer than 5 speakers are known: recordings are divided" in notes[3]
    assert sum(map(len, splits.values())) == 50


def test_a_rare_character_is_never_in_dev_alone() -> None:
    texts = ["a"] * 30
    texts[7] = "ß x"
    for seed in range(20):
        config = RecordingsConfig(seed=seed, dev=0.3, normalizer="none")
        splits = divide(utterances([None] * 30, texts), config, lambda _: None)
        assert all(utterance.text == "a" for utterance in splits["dev"])


def test_fewer_minutes_of_training_are_part_of_more_and_have_all_letters() -> None:
    texts = ["a"] * 600
    texts[77] = "ab"
    corpus = utterances([None] * 600, texts)
    parts = {}
    for minutes in (1, 4, None):
        config = RecordingsConfig(train_minutes=minutes)
        parts[minutes] = divide(corpus, config, lambda _: None)
    assert [len(parts[minutes]["train"]) for minutes in (1, 4)] == [60, 240]
    ids = {minutes: {u.id for u in part["train"]} for minutes, part in parts.items()}
    assert "77" in ids[None]  # or the next assertion would say nothing
    assert "77" in ids[1] < ids[4] < ids[None]
    assert parts[1]["test"] == parts[4]["test"] == parts[None]["test"]
    with pytest.raises(DataError, match=r"train_minutes: 9, and there are 8\.0 to train on"):
        divide(corpus, RecordingsConfig(train_minutes=9), lambda _: None)
    with pytest.raises(DataError, match="the first utterance is longer"):
        divide(corpus, RecordingsConfig(train_minutes=0.01), lambda _: None)


def test_transcripts_without_words_are_left_out_and_said() -> None:
    notes: list[str] = []
    splits = divide(
        utterances([None] * 5, ["Ab,  BA", "...", "a", "b", "ab"]), RecordingsConfig(), notes.append
    )
    texts = {u.text for part in splits.values() for u in part}
    assert texts == {"ab ba", "a", "b", "ab"}
    assert notes[0] == "1 utterances have no words: left out; the first is 1"
    with pytest.raises(DataError, match="2 utterances with a transcript: too few"):
        divide(utterances([None] * 2, ["a", "b"]), RecordingsConfig(), notes.append)


def test_sentences_are_divided_by_what_they_say_and_few_are_shared() -> None:
    few = divide_sentences(["One.", "Two!"], SentencesConfig())
    assert few["train"] == few["test"]
    many = [f"sentence {chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(300)]
    splits = divide_sentences(many, SentencesConfig())
    names = {name: {s.text for s in part} for name, part in splits.items()}
    assert sum(map(len, names.values())) == 300
    assert not names["train"] & (names["dev"] | names["test"])
    assert 15 < len(names["dev"]) < 50
    more = divide_sentences([*many, "another one", "and another"], SentencesConfig())
    assert names["dev"] <= {s.text for s in more["dev"]}


def test_a_folder_that_is_there_is_left_alone(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "mine"
    recipe.mkdir()
    (recipe / "notes.txt").write_text("mine")
    assert main(["init", str(recipe), "--audio", str(recordings)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert [path.name for path in recipe.iterdir()] == ["notes.txt"]
    assert main(["init", str(tmp_path / "x")]) == 2


def test_the_written_conf_is_read_back(recordings: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine"
    assert main(["init", str(recipe), "--audio", str(recordings)]) == 0
    config = load_config(recipe / "conf" / "default.yaml", Config)
    assert config.features.sample_rate == 8000
    assert config.tokens.kind == "bpe"
