import itertools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.cli import main
from asr.corpus import write_manifest
from asr.decoding.spotting import Keyword, Spotter
from asr.transcription import Word
from asr.transcription.keyword_tuning import KeywordTrials, SpottingTuning, count_phrases
from asr.transcription.live import LiveSteps
from asr.transcription.spotting import LiveSpotter
from tests import tones
from tests.transcription.test_live import CONFIG, STEP, TOKENS, Spoken, speech

KEYWORDS = [Keyword(text="ab", spellings=((2, 3),)), Keyword(text="b", spellings=((3,),))]


class Sure(Spoken):
    """One that has few doubts."""

    def accept(self, samples: np.ndarray, *, last: bool = False) -> np.ndarray:
        best = super().accept(samples, last=last).argmax(axis=1)
        log_probs = np.full((len(best), len(TOKENS)), np.log(0.002), np.float32)
        log_probs[np.arange(len(best)), best] = np.log(0.994)
        return log_probs


def listen(best: list[int], sizes: Sequence[int], threshold: float = 0.5) -> list[list[Word]]:
    """The hits after each portion and at the end."""
    spotter = Spotter(KEYWORDS, TOKENS, [threshold] * 2, 15)
    live = LiveSpotter(LiveSteps(lambda: Sure(STEP), CONFIG), spotter)
    samples = np.repeat(np.array(best, np.float32) / 10, STEP)
    parts = np.split(samples, np.minimum(np.cumsum(sizes, dtype=int), len(samples)))
    return [*(live.accept(part) for part in parts), live.finish()]


def test_a_hit_comes_as_soon_as_its_word_has_ended() -> None:
    # A portion of half a second.
    hits = listen(speech(0.5, "ab ba", 2.0, "b", 1.0, "ab"), [tones.RATE // 2] * 8)
    arrived = [
        (number, word.text, round(word.start, 2), round(word.end, 2))
        for number, words in enumerate(hits)
        for word in words
    ]
    assert arrived == [(1, "ab", 0.5, 0.56), (6, "b", 2.7, 2.72), (9, "ab", 3.74, 3.8)]


@settings(deadline=None, max_examples=10)
@given(
    pauses=st.lists(st.sampled_from([0.1, 0.28, 0.5, 1.5, 45.0]), max_size=5),
    sizes=st.lists(st.integers(0, 30_000), max_size=20),
)
def test_hits_do_not_depend_on_portions(pauses: list[float], sizes: list[int]) -> None:
    best = speech(*(item for pause in pauses for item in (" ab", pause)))
    one, other = (
        sorted(itertools.chain(*listen(best, parts)), key=lambda word: (word.start, word.text))
        for parts in ([], sizes)
    )
    assert one == other
    assert sum(word.text == "ab" for word in one) == len(pauses)


@pytest.fixture
def files(tone_run: Path, tmp_path: Path) -> dict[str, str]:
    """A model of one's own, a manifest of speech, and a file of keywords."""
    shutil.copytree(tone_run / "model", tmp_path / "model")
    utterances = tones.write_corpus(tmp_path / "speech", 12, seed=31)
    write_manifest(utterances, tmp_path / "speech.jsonl")
    (tmp_path / "words.txt").write_text("la\nmi la\n")
    names = {"model": "model", "speech": "speech.jsonl", "words": "words.txt"}
    return {key: str(tmp_path / name) for key, name in names.items()}


def spot(files: dict[str, str], *options: str) -> int:
    command = ["spot", files["model"], files["speech"], "--keywords", files["words"]]
    return main([*command, "--device", "cpu", *options])


def test_keywords_are_found_where_they_are_said(
    files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert spot(files) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    said = {
        row["id"]: row["text"].split()
        for row in map(json.loads, Path(files["speech"]).read_text().splitlines())
    }
    for name, words in said.items():
        hits = [row for row in rows if row["id"] == name]
        pairs = sum(pair == ("mi", "la") for pair in itertools.pairwise(words))
        assert [row["keyword"] for row in hits].count("la") == words.count("la")
        assert [row["keyword"] for row in hits].count("mi la") == pairs
        samples, rate = soundfile.read(tmp_path / "speech" / f"{name.split('-')[-1]}.wav")
        for row in hits:
            assert 0.5 <= row["score"] <= 1
            middle = samples[int(rate * row["start"]) : int(rate * row["end"])]
            assert np.abs(middle).max() > 0.2
    assert spot(files, "--format", "ctm", "--output-dir", str(tmp_path / "out")) == 0
    lines = "".join(path.read_text() for path in (tmp_path / "out").rglob("*.ctm")).splitlines()
    assert len(lines) == len(rows)
    assert {line.split()[4] for line in lines} == {"la", "mi_la"}


def test_thresholds_come_from_dev_speech_and_stay_with_the_model(
    files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["tune", files["model"], files["speech"], "--keywords", files["words"]]
    table = tmp_path / "det.tsv"
    assert main([*command, "--false-alarms", "2", "--table", str(table), "--device", "cpu"]) == 0
    first, note = capsys.readouterr().out.splitlines()[:2]
    assert first.startswith("2 keywords, ")
    assert first.endswith(" 0.0 % missed, 0 false alarms")
    assert note.startswith("note: 2 an hour is less than one in 0.0")
    header, row = table.read_text().splitlines()[:2]
    assert header == "false_alarms_per_hour\tfalse_alarms\tmissed_percent"
    assert row == "0\t0\t0.00"
    settings_file = Path(files["model"]) / "spotting.yaml"
    settings_file.write_text(settings_file.read_text().replace("mi la: 0.", "mi la: 1.0 # "))
    assert spot(files) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["keyword"] for row in rows} == {"la"}
    # Copies keep it; what is asked for counts more.
    assert (
        main(["export", files["model"], "--format", "folder", "--output", str(tmp_path / "c")]) == 0
    )
    assert (tmp_path / "c" / "spotting.yaml").read_text().startswith("thresholds:")
    capsys.readouterr()
    assert spot(files, "--threshold", "0.5") == 0
    assert "mi la" in capsys.readouterr().out


def test_what_cannot_be_spotted_is_said_in_a_line(
    files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path(files["words"]).write_text("la\nzebra\n")
    assert spot(files) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "words.txt:2: 'zebra' cannot be spelled with the model's tokens" in error
    Path(files["words"]).write_text("la\n")
    assert spot(files, "--live", "--format", "ctm") == 2
    assert "needs a model with one direction" in capsys.readouterr().err
    (Path(files["model"]) / "spotting.yaml").write_text("thresholds: {la: 7}\n")
    assert spot(files) == 2
    assert "spotting.yaml: thresholds.la: " in capsys.readouterr().err


def test_false_alarms_are_spent_where_they_bring_most() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        words = []
        for name in "abc":
            right = np.sort(rng.uniform(0.1, 1, 12))[::-1].tolist()
            wrong = np.sort(rng.uniform(0, 1, rng.integers(0, 5)))[::-1].tolist()
            words.append(KeywordTrials(text=name, said=13, right=tuple(right), wrong=tuple(wrong)))
        tuning = SpottingTuning(keywords=tuple(words), hours=2.0)
        before = 101.0
        for rate in (0.0, 0.5, 1.0, 2.0):
            missed, false = tuning.missed(tuning.thresholds(rate))
            assert false <= rate * 2
            assert missed <= before
            before = missed
        missed, _ = tuning.missed(tuning.thresholds(0.5))
        # One false alarm: as good as the best of all choices.
        choices = [{w.text: w.threshold(int(w.text == chosen)) for w in words} for chosen in "abc-"]
        assert missed == pytest.approx(min(tuning.missed(choice)[0] for choice in choices))


def test_phrases_are_counted_in_whole_words() -> None:
    text = "Red, shared red red light; lightred"
    assert count_phrases(["red", "red light", "RED RED", "hare"], text, " ") == {
        "red": 3,
        "red light": 1,
        "RED RED": 1,
        "hare": 0,
    }
    assert count_phrases(["一二"], "三一二一二", "") == {"一二": 2}
