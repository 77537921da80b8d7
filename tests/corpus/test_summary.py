import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from asr.cli import main
from asr.corpus.manifest import Utterance, read_manifest, write_manifest
from asr.corpus.summary import overlaps, summarize


def utterance(index: int, text: str | None, speaker: str | None, seconds: float) -> Utterance:
    path = Path(f"{index}.wav")
    return Utterance(
        id=str(index), audio_filepath=path, duration=seconds, text=text, speaker=speaker
    )


TRAIN = [
    utterance(0, "one two two", "ann", 1.0),
    utterance(1, "three", "ann", 2.0),
    utterance(2, None, "bob", 4.0),
    utterance(3, "one", None, 0.0),
]
TEST = [utterance(4, "two four four five", "bob", 3600.0)]


def test_what_a_manifest_holds_is_counted():
    summary = summarize(TRAIN, "train")
    assert (summary.num_utterances, summary.num_with_text, summary.num_with_speaker) == (4, 3, 3)
    assert (summary.seconds, summary.num_without_duration) == (7.0, 1)
    assert summary.words == {"one": 2, "two": 2, "three": 1}
    assert summary.characters == Counter("one two twothreeone")
    assert summary.speakers == {"ann": 2, "bob": 1}
    assert (summary.quantiles[0], summary.quantiles[50], summary.quantiles[100]) == (1, 2, 4)


def test_words_that_the_earlier_manifest_lacks_and_shared_speakers_are_found():
    (overlap,) = overlaps([summarize(TRAIN, "train"), summarize(TEST, "test")])
    assert overlap.shared_speakers == ("bob",)
    assert overlap.unseen_words == {"four": 2, "five": 1}
    assert overlap.unseen_rate == pytest.approx(75)


def test_stats_prints_text_and_json_that_agree(tmp_path, capsys):
    write_manifest(TRAIN, tmp_path / "train.jsonl")
    write_manifest(TEST, tmp_path / "test.jsonl")
    paths = [str(tmp_path / "train.jsonl"), str(tmp_path / "test.jsonl")]
    assert main(["data", "stats", *paths]) == 0
    text = capsys.readouterr().out
    assert "utterances   4, 1 without text" in text
    assert "3 of 4 words (75.00 %)" in text
    assert "shares 1 speakers" in text
    assert main(["data", "stats", *paths, "--format", "json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["manifests"][0]["vocabulary"] == {"one": 2, "two": 2, "three": 1}
    assert result["overlaps"][0]["shared_speakers"] == ["bob"]


def test_statistics_of_a_real_corpus_are_those_of_its_lists(corpora, tmp_path):
    from recipes.an4 import corpus as an4

    an4.prepare(corpora / "an4", tmp_path, an4.Corpus())
    summary = summarize(read_manifest(tmp_path / "test.jsonl"), "test")
    # The published lists: 130 test utterances by 10 speakers, 773 words.
    assert (summary.num_utterances, len(summary.speakers)) == (130, 10)
    assert sum(summary.words.values()) == 773
    seconds = [u.duration for u in read_manifest(tmp_path / "test.jsonl")]
    assert summary.quantiles[50] == pytest.approx(np.median(seconds))


def test_an_empty_manifest_has_statistics(tmp_path, capsys):
    (tmp_path / "none.jsonl").write_text("", encoding="utf-8")
    assert main(["data", "stats", str(tmp_path / "none.jsonl")]) == 0
    assert "utterances   0" in capsys.readouterr().out
