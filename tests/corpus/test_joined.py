from dataclasses import replace

import numpy as np
import pytest

from asr.corpus.packed import PackedCorpus, join_packed
from asr.errors import DataError


def test_joined_corpora_are_one_after_the_other(tone_corpus: dict[str, PackedCorpus]) -> None:
    first, second = tone_corpus["dev"], tone_corpus["train"]
    joined = join_packed(first, second)
    border = len(first)
    assert len(joined) == len(joined.utterances) == border + len(second)
    assert joined.lengths.tolist() == [*first.lengths, *second.lengths]
    assert joined.digests.tolist() == [*first.digests, *second.digests]
    assert [*joined.utterances] == [*first.utterances, *second.utterances]
    assert joined.utterances[border] == second.utterances[0]
    assert joined.utterances[-1] == second.utterances[-1]
    around = [first.utterances[-1], second.utterances[0]]
    assert joined.utterances[border - 1 : border + 1] == around
    with pytest.raises(IndexError):
        joined.utterances[len(joined)]
    assert [*joined.column("text")] == [*first.column("text"), *second.column("text")]
    rows = [border + 3, 2, border - 1, border, len(joined) - 1]
    values, lengths = joined.padded(rows)
    for place, row in enumerate(rows):
        part, inner = (first, row) if row < border else (second, row - border)
        expected, (length,) = part.padded([inner])
        assert lengths[place] == length
        assert np.array_equal(values[place, :length], expected[0])
    assert values.dtype == first.values.dtype
    with pytest.raises(IndexError, match="a range of two corpora"):
        joined.values[len(first.values) - 1 : len(first.values) + 1]


def test_audio_and_features_are_not_joined(tone_corpus: dict[str, PackedCorpus]) -> None:
    train = tone_corpus["train"]
    frames = replace(train, kind="features", values=np.zeros((len(train.values), 3)))
    with pytest.raises(DataError, match="waveforms and features cannot be learnt from together"):
        join_packed(train, frames)
