import itertools
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.cli import main
from asr.corpus import Utterance, read_manifest, write_manifest
from asr.errors import AsrError, ModelError
from asr.transcription import Recognizer, Source, Transcript, Word
from asr.transcription.labelling import (
    LabelCalibration,
    Trial,
    calibrate_labels,
    cut_words,
    describe_trials,
    fit_calibration,
    make_labels,
    try_teacher,
)
from asr.transcription.teachers import open_teacher
from tests import tones


def words_of(lengths: list[tuple[float, float]]) -> list[Word]:
    """Words by the pause before each and its length."""
    words, time = [], 0.0
    for pause, length in lengths:
        words.append(Word(text="x", start=time + pause, end=time + pause + length, confidence=1.0))
        time += pause + length
    return words


SPEECH = st.lists(st.tuples(st.floats(0, 1.3), st.floats(0.05, 2)), min_size=1, max_size=40)


@settings(max_examples=200, deadline=None)
@given(SPEECH, st.floats(2, 8))
def test_groups_of_words_end_in_pauses_and_are_short_where_there_is_one(
    lengths: list[tuple[float, float]], longest: float
) -> None:
    words = words_of(lengths)
    groups = list(cut_words(words, longest))
    assert [word for group in groups for word in group] == words
    for group, after in itertools.pairwise(groups):
        assert after[0].start - group[-1].end >= 0.1 - 1e-9
    for group in groups:
        pauses = [b.start - a.end for a, b in itertools.pairwise(group)]
        assert not [pause for pause in pauses if pause >= 1.0 + 1e-9]
        if group[-1].end - group[0].start > longest + 1e-9:
            # Nowhere could it have been cut in time.
            early = [
                pause
                for word, pause in zip(group, pauses, strict=False)
                if longest / 3 <= word.end - group[0].start <= longest
            ]
            assert not [pause for pause in early if pause >= 0.1 + 1e-9]


def test_a_calibration_finds_how_sure_a_teacher_may_be() -> None:
    rng = np.random.default_rng(3)
    confidences = rng.uniform(0.3, 0.999, 400)
    truth = LabelCalibration(slope=0.5, offset=-0.7)
    shares = [rng.binomial(20, truth.apply(value)) / 20 for value in confidences]
    learnt = fit_calibration(confidences.tolist(), shares, [20.0] * 400)
    assert learnt.slope == pytest.approx(truth.slope, abs=0.05)
    assert learnt.offset == pytest.approx(truth.offset, abs=0.1)
    # A word that was never wrong makes nobody certain, and a few change little.
    assert fit_calibration([0.9], [1.0], [1.0]).apply(0.9) < 0.95
    assert 0 < learnt.apply(0.0) < learnt.apply(0.5) < learnt.apply(1.0) < 1


def heard_as(reference: str, text: str) -> tuple[Source, Transcript]:
    utterance = Utterance(id="a", audio_filepath=Path("a.wav"), duration=1, text=reference)
    words = [Word(text=word, start=0, end=1, confidence=0.5) for word in text.split()]
    transcript = Transcript(text=text, words=tuple(words), log_prob=0, duration=1)
    return Source(utterance=utterance), transcript


def test_words_are_compared_also_where_an_utterance_is_one() -> None:
    results = [heard_as("five", "nine"), heard_as("go", "go on"), heard_as("one two", "one two")]
    trials = try_teacher(results, str)
    assert [(trial.share, trial.num_words) for trial in trials] == [(0, 1), (0.5, 2), (1, 2)]
    # Without a space anywhere they are not told apart.
    (trial,) = try_teacher([heard_as("今日は", "今日も")], str)
    assert (trial.share, trial.num_words) == (pytest.approx(2 / 3), 3)


def test_the_trials_say_what_the_labels_will_be_worth() -> None:
    good = [Trial(confidence=0.95, share=0.7, num_words=10)] * 40
    bad = [Trial(confidence=0.6, share=0.2, num_words=10)] * 40
    calibration = calibrate_labels([*good, *bad])
    first, second = describe_trials([*good, *bad], calibration, 0.5)
    assert first.startswith("80 reviewed utterances: 45.0 % of the words right")
    # A quarter of a hundred points too sure of one half, 40 of the other.
    assert "off by 32.5 points on average" in first
    assert math.isclose(float(first.split("by ")[-1].split()[0]), 0, abs_tol=1.0)
    assert second == "40 would be kept at 0.5, 70.0 % of their words right, of the 40 others 20.0 %"


@pytest.fixture(scope="module")
def archive(tone_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of several utterances with pauses, and a file that is no audio."""
    del tone_run
    folder = tmp_path_factory.mktemp("archive")
    utterances = tones.write_corpus(folder / "parts", 24, seed=5, longest_pause=0.4)
    rng = np.random.default_rng(1)
    quiet = 0.003 * rng.standard_normal(tones.RATE // 2)
    parts = [soundfile.read(utterance.audio_filepath)[0] for utterance in utterances]
    speech = np.concatenate([part for each in parts for part in (each, quiet)])
    (folder / "speech").mkdir()
    soundfile.write(folder / "speech/long.wav", speech, tones.RATE)
    (folder / "speech/no.wav").write_bytes(b"no audio at all")
    write_manifest(utterances, folder / "reviewed.jsonl")
    return folder


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def left_out(path: Path) -> list[list[str]]:
    lines = path.with_name(f"{path.name}.left_out.tsv").read_text().splitlines()
    return [line.split("\t") for line in lines[1:]]


def test_recordings_become_utterances_that_a_model_can_learn_from(
    tone_run: Path, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, output = str(tone_run / "model"), tmp_path / "pseudo.jsonl"
    speech = str(archive / "speech")
    arguments = ["data", "label", model, speech, "--output", str(output), "--max-seconds", "3"]
    assert main([*arguments, "--min-confidence", "0.5"]) == 1
    rows, utterances = rows_of(output), read_manifest(output)
    assert capsys.readouterr().out.startswith(f"{output}: {len(rows)} utterances")
    recognizer = Recognizer.load(tone_run / "model")
    whole = recognizer.transcribe(archive / "speech/long.wav")
    assert len(rows) > 5
    assert " ".join(str(row["text"]) for row in rows) == whole.text
    assert all(0.5 <= row["confidence"] <= 1 for row in rows)
    bounds = [(u.offset, u.offset + u.duration) for u in utterances]
    assert all(first <= second for (_, first), (second, _) in itertools.pairwise(bounds))
    assert all(end - start <= 3.6 for start, end in bounds)
    # Each is what is said in its stretch.
    for utterance, transcript in recognizer.transcribe_utterances(utterances):
        assert not isinstance(transcript, AsrError)
        assert transcript.text == utterance.text
    assert [(Path(name).name, kind) for name, kind, _ in left_out(output)] == [("no.wav", "failed")]
    # The same without those that it is less sure of.
    assert main([*arguments, "--min-confidence", "1"]) == 1
    assert rows_of(output) == []
    assert [kind for _, kind, _ in left_out(output)].count("unsure") == len(rows)


def test_silence_and_speech_without_a_pause_are_no_utterances() -> None:
    source = Source.of_file("a.wav")
    settings = {
        "clean": str,
        "calibration": LabelCalibration(),
        "max_seconds": 2.0,
        "min_confidence": 0.5,
    }
    silence = Transcript(text="", words=(), log_prob=0, duration=9)
    (label,) = make_labels(source, silence, **settings)  # type: ignore[arg-type]
    assert (label.objection, label.confidence) == ("silent", 0)
    words = words_of([(0.5, 1.0), (0.5, 1.0), (0.0, 1.0), (0.0, 1.5), (2.0, 0.5)])
    talk = Transcript(text="x x x x x", words=tuple(words), log_prob=0, duration=9)
    first, second, third = make_labels(source, talk, **settings)  # type: ignore[arg-type]
    assert [each.objection for each in (first, second, third)] == ["", "long", ""]
    assert second.message == "4.0 s without a pause"
    assert (first.utterance.offset, first.utterance.duration) == pytest.approx((0.2, 1.55))
    assert third.utterance.id == "a.wav-0007200-0008300"


def test_what_has_a_text_is_not_labelled(
    tone_run: Path, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "pseudo.jsonl.gz"
    reviewed, model = str(archive / "reviewed.jsonl"), str(tone_run / "model")
    command = ["data", "label", model, reviewed, "--output", str(output), "--calibrate", reviewed]
    assert main(command) == 0
    assert read_manifest(output) == []
    assert {(kind, message) for _, kind, message in left_out(output)} == {
        ("reviewed", "it has a text")
    }
    captured = capsys.readouterr()
    assert "24 reviewed utterances: 100.0 % of the words right" in captured.err
    assert f"left out: 24 reviewed: see {output}.left_out.tsv" in captured.out
    nothing = tmp_path / "nothing.jsonl"
    nothing.touch()
    assert main([*command[:-1], str(nothing)]) == 2
    assert f"asr: {nothing}: no utterance in which a word is heard" in capsys.readouterr().err


class FakeWhisper:
    """Hears a word at the beginning and end of what it is given."""

    supported_languages = ("en", "de")
    given: list[dict[str, Any]]

    def __init__(self, folder: str, **settings: Any) -> None:
        assert Path(folder).is_dir()
        assert settings["local_files_only"]
        type(self).given = []

    def transcribe(self, samples: Any, **options: Any) -> tuple[Iterator[Any], None]:
        self.given.append({"seconds": len(samples) / 16000, **options})
        end = len(samples) / 16000
        words = [
            SimpleNamespace(word=" Two", start=0.1, end=0.4, probability=0.9),
            SimpleNamespace(word=" €uros.", start=end - 0.5, end=end + 0.2, probability=0.4),
        ]
        segment = SimpleNamespace(
            text=" Two €uros.", words=words, avg_logprob=-0.5, tokens=[1, 2, 3]
        )
        return iter([segment]), None


@pytest.fixture
def giant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "converted"
    folder.mkdir()
    for name in ("config.json", "model.bin", "tokenizer.json"):
        (folder / name).touch()
    module = ModuleType("faster_whisper")
    module.WhisperModel = FakeWhisper  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "faster_whisper", module)
    return folder


def test_a_giant_labels_through_the_same_door(
    giant: Path, tone_run: Path, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = archive / "speech" / "long.wav"
    output = tmp_path / "pseudo.jsonl"
    seconds = soundfile.info(long).duration
    command = ["data", "label", str(long), "--with", f"faster-whisper:{giant}", "--output"]
    options = ["--min-confidence", "0.1", "--language", "de", "--max-seconds", "1"]
    assert main([*command, str(output), *options]) == 0
    first, *_, last = rows_of(output)
    assert (first["text"], last["text"]) == ("two", "uros")
    assert first["confidence"] == pytest.approx(0.9, abs=1e-3)
    assert last["offset"] + last["duration"] == pytest.approx(seconds, abs=0.01)
    pieces = FakeWhisper.given
    assert len(pieces) > 1
    assert sum(piece["seconds"] for piece in pieces) == pytest.approx(seconds, abs=0.01)
    assert all(piece["language"] == "de" and piece["temperature"] == 0 for piece in pieces)
    # Only what a model can spell, if one is named.
    assert (
        main(["data", "label", str(tone_run / "model"), *command[2:], str(output), *options]) == 0
    )
    assert rows_of(output) == []
    kinds = {(kind, message) for _, kind, message in left_out(output)}
    assert ("unspelled", "the model cannot write 't', 'w', 'o'") in kinds
    capsys.readouterr()


def test_what_is_no_teacher_is_said_in_a_line(
    giant: Path, tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AsrError, match="--with whisper: faster-whisper:FOLDER is expected"):
        open_teacher("whisper")
    with pytest.raises(AsrError, match="--language xx: the model knows en, de"):
        open_teacher(f"faster-whisper:{giant}", language="xx")
    (giant / "model.bin").unlink()
    with pytest.raises(ModelError, match=r"not a model of faster-whisper \(it has no model.bin\)"):
        open_teacher(f"faster-whisper:{giant}")
    (giant / "model.bin").touch()
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    output = tmp_path / "pseudo.jsonl"
    long = str(archive / "speech" / "long.wav")
    command = ["data", "label", long, "--with", f"faster-whisper:{giant}", "--output", str(output)]
    assert main(command) == 2
    assert not output.exists()


def test_stored_features_are_not_for_a_giant(giant: Path, tmp_path: Path) -> None:
    (source,) = [Source.of_file(tmp_path / "speech.mfc")]
    teacher = open_teacher(f"faster-whisper:{giant}")
    ((_, result),) = teacher([source], lambda *_: None)
    assert str(result) == f"{source.id}: stored features; faster-whisper hears audio"
