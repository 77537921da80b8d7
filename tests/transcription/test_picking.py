import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.cli import main
from asr.corpus import Utterance, read_manifest, write_manifest
from asr.transcription import Source, Transcript, Word
from asr.transcription.picking import Candidate, find_candidates, pick, pick_at_random
from tests import tones


def candidate(
    name: str, *doubts: float, word: str = "", seconds: float = 1.0, speaker: str | None = None
) -> Candidate:
    words = tuple(
        Word(text=word or f"{name}{place}", start=place, end=place + 0.5, confidence=1 - doubt)
        for place, doubt in enumerate(doubts)
    )
    utterance = Utterance(
        id=name, audio_filepath=Path(f"{name}.wav"), duration=seconds, speaker=speaker
    )
    return Candidate(utterance=utterance, text=" ".join(w.text for w in words), words=words)


def names(chosen: list[Candidate]) -> list[str]:
    return [each.utterance.id for each in chosen]


def test_what_is_most_doubtful_for_its_time_comes_first() -> None:
    sure, doubtful, long = candidate("a", 0.1), candidate("b", 0.6), candidate("c", 0.8, seconds=9)
    assert names(pick([sure, doubtful, long], 100)) == ["b", "c", "a"]
    # What does not fit leaves room for what does.
    assert names(pick([sure, doubtful, long], 2)) == ["b", "a"]
    assert names(pick([candidate("d", 0.9), candidate("e")], 1)) == ["d"]
    assert pick([], 60) == []


def test_where_nothing_was_heard_something_may_have_been_said() -> None:
    nothing = candidate("a")
    assert (nothing.expected_errors, nothing.confidence) == (0.5, 0)
    assert names(pick([candidate("b", 0.4), nothing, candidate("c", 0.6)], 3)) == ["c", "a", "b"]


def test_words_and_speakers_take_turns() -> None:
    same = [candidate(f"s{n}", 0.6, word="la", speaker="x") for n in range(8)]
    others = [candidate(f"o{n}", 0.5, word="mi", speaker="x") for n in range(8)]
    chosen = pick([*same, *others], 8)
    assert {each.words[0].text for each in chosen[:2]} == {"la", "mi"}
    assert len([each for each in chosen if each.words[0].text == "mi"]) >= 3
    loud = [candidate(f"x{n}", 0.6, speaker="x") for n in range(8)]
    quiet = [candidate(f"y{n}", 0.45, speaker="y") for n in range(8)]
    counts = Counter(each.utterance.speaker for each in pick([*loud, *quiet], 8))
    assert counts["y"] >= 3


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 10), st.integers(1, 30), st.sampled_from("xyz")), max_size=25)
)
def test_the_order_is_that_of_looking_at_all_anew_each_time(
    values: list[tuple[int, int, str]],
) -> None:
    """The heap, against the plain way: each time the best of all that fit."""
    candidates = [
        candidate(f"{n}", (doubt + n / 100) / 11, word=speaker, seconds=length / 4, speaker=speaker)
        for n, (doubt, length, speaker) in enumerate(values)
    ]
    seconds = 20.0
    left = seconds
    chosen: list[Candidate] = []
    speakers = len({each.utterance.speaker for each in candidates})

    def worth(each: Candidate) -> float:
        spent = sum(
            c.utterance.duration for c in chosen if c.utterance.speaker == each.utterance.speaker
        )
        count = sum(c.words[0].text == each.words[0].text for c in chosen)
        value = (1 - each.words[0].confidence) / (1 + count) ** 0.5
        return value / (1 + spent / (seconds / speakers)) / (each.utterance.duration + 1)

    rest = list(candidates)
    while fitting := [each for each in rest if each.utterance.duration <= left]:
        best = max(fitting, key=worth)
        chosen.append(best)
        rest.remove(best)
        left -= best.utterance.duration
    assert names(pick(candidates, seconds)) == names(chosen)


def test_a_draw_is_the_same_for_a_seed() -> None:
    candidates = [candidate(str(n), 0.5) for n in range(30)]
    first, again, other = (pick_at_random(candidates, 10, seed) for seed in (1, 1, 2))
    assert first == again
    assert names(first) != names(other)
    assert len(first) == len(other) == 10


def test_words_of_a_stretch_count_from_its_begin() -> None:
    utterance = Utterance(id="a", audio_filepath=Path("a.wav"), duration=30.0, offset=100.0)
    words = (
        Word(text="x", start=1.0, end=2.0, confidence=0.5),
        Word(text="y", start=20.0, end=21.0, confidence=0.5),
    )
    transcript = Transcript(text="x y", words=words, log_prob=0.0, duration=30.0)
    first, second = find_candidates(Source(utterance=utterance), transcript, 15.0)
    assert first.utterance.offset == pytest.approx(100.7)
    assert first.words[0].start == pytest.approx(0.3)
    assert second.words[0].start == pytest.approx(0.3)
    assert second.utterance.offset + second.words[0].start == pytest.approx(120.0)


def test_a_manifest_to_be_reviewed_comes_out(
    tone_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    utterances = tones.write_corpus(tmp_path / "parts", 6, seed=5, longest_pause=0.4)
    write_manifest(utterances[:1], tmp_path / "old.jsonl")
    write_manifest(utterances[1:2], tmp_path / "with_text.jsonl")
    noise = 0.1 * np.random.default_rng(0).standard_normal(tones.RATE)
    soundfile.write(tmp_path / "parts" / "noise.wav", noise, tones.RATE)
    (tmp_path / "parts" / "no.wav").write_bytes(b"no audio")
    output = tmp_path / "todo.jsonl"
    command = ["data", "pick", str(tone_run / "model"), str(tmp_path / "parts")]
    command += [str(tmp_path / "with_text.jsonl"), "--output", str(output), "--recursive"]
    command += ["--without", str(tmp_path / "old.jsonl")]
    assert main([*command, "--hours", "1"]) == 1  # one file is no audio
    captured = capsys.readouterr()
    assert "6 of 6 stretches" in captured.out
    assert "no.wav" in captured.err
    assert "asr tune --confidence" in captured.err
    rows: list[dict[str, Any]] = [json.loads(line) for line in output.read_text().splitlines()]
    assert all("text" not in row for row in rows)
    worths = [row["expected_errors"] / (row["duration"] + 1) for row in rows]
    assert worths[0] == max(worths)
    paths = {utterance.audio_filepath.name for utterance in read_manifest(output)}
    assert utterances[0].audio_filepath.name not in paths
    assert "noise.wav" in paths
    assert main([*command, "--hours", "0.0005", "--random"]) == 1
    assert sum(u.duration for u in read_manifest(output)) <= 1.8
    capsys.readouterr()
    everything = ["data", "pick", str(tone_run / "model"), str(tmp_path / "old.jsonl")]
    assert main([*everything, "--hours", "1", "--output", str(tmp_path / "x.jsonl")]) == 2
    assert "nothing to pick from" in capsys.readouterr().err
    missing = ["data", "pick", str(tone_run / "model"), str(tmp_path / "none.wav")]
    assert main([*missing, "--hours", "1", "--output", str(tmp_path / "x.jsonl")]) == 1
    assert capsys.readouterr().err == f"{tmp_path / 'none.wav'}: No such file or directory\n"
