import itertools
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.cli import main
from asr.errors import DataError
from asr.lm.arpa import Arpa, read_arpa, write_arpa
from asr.lm.kneser_ney import estimate
from asr.lm.mixing import find_weights, mix, score_text
from asr.lm.ngram import START_ID, LanguageModel, build_model, perplexity
from asr.lm.trie import build_ngram_trie

GENERAL = [
    sentence.split()
    for sentence in [
        "the cat sat",
        "the dog sat on the cat",
        "a dog ran",
        "the cat ran on",
        "a cat sat on a dog",
        "on it ran",
    ]
]
OWN = [s.split() for s in ["call the doctor", "the doctor ran", "call a dog", "call it"]]
DEV = [s.split() for s in ["call the dog", "the doctor sat on it", "a cat ran", "zebras call"]]
SENTENCES = st.lists(
    st.lists(st.sampled_from(["aa", "bb", "cc", "dd"]), min_size=1, max_size=5),
    min_size=1,
    max_size=8,
)


def train(sentences: Sequence[Sequence[str]], order: int = 3) -> Arpa:
    return estimate(sentences, order=order).arpa


def probability(model: LanguageModel, history: Sequence[str], word: str) -> float:
    """0 for a word that the model lacks; after one it is in the state of `<unk>`."""
    if word not in model.words:
        return 0.0
    return 10 ** model.score(model.state(model.ids(history)), model.ids([word])[0])


def texts_probabilities(model: LanguageModel, sentences: list[list[str]]) -> list[float]:
    rows = [("<s>", *sentence, "</s>") for sentence in sentences]
    return [probability(model, row[:n], row[n]) for row in rows for n in range(1, len(row))]


@given(SENTENCES, SENTENCES, st.integers(1, 3), st.integers(1, 3), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_a_mixture_sums_to_one_in_every_state(
    one: list[list[str]], other: list[list[str]], order: int, other_order: int, share: float
) -> None:
    mixed = build_model(mix([train(one, order), train(other, other_order)], [share, 1 - share]))
    words = [word for word in range(len(mixed.words)) if word != START_ID]
    for state in range(len(mixed.backoffs)):
        log_probs, _ = mixed.advance([state] * len(words), words)
        assert (10**log_probs).sum() == pytest.approx(1, abs=1e-5)


def test_every_ngram_of_a_mixture_has_the_weighted_sum_of_both() -> None:
    arpas = [train(GENERAL), train(OWN, 2)]
    models = [build_model(arpa) for arpa in arpas]
    trie = build_ngram_trie(mix(arpas, [0.7, 0.3]))
    named: list[tuple[str, ...]] = [()]
    for node in range(1, len(trie.keys)):
        history = named[trie.histories[node]]
        word = trie.words[trie.last_words[node]]
        named.append((*history, word))
        if word != "<s>":
            both = [probability(model, history, word) for model in models]
            expected = 0.7 * both[0] + 0.3 * both[1]
            assert 10 ** trie.log_probs[node] == pytest.approx(expected, rel=1e-5)
    for arpa in arpas:
        for ngrams in arpa.orders:
            assert {tuple(arpa.words[w] for w in row) for row in ngrams.words} <= set(named)


@pytest.mark.parametrize("weights", [[1.0, 0.0], [0.0, 1.0]])
def test_a_weight_of_one_gives_the_model_back(weights: list[float]) -> None:
    arpas = [train(GENERAL), train(OWN, 2)]
    mixed, single = mix(arpas, weights), arpas[weights.index(1.0)]
    assert mixed.words == single.words
    assert len(mixed.orders) == len(single.orders)
    for ours, theirs in zip(mixed.orders, single.orders, strict=True):
        order = np.lexsort(theirs.words.T[::-1])
        assert np.array_equal(ours.words, theirs.words[order])
        assert ours.log_probs == pytest.approx(theirs.log_probs[order], abs=1e-5)
        assert ours.backoffs == pytest.approx(theirs.backoffs[order], abs=1e-5)


def test_a_word_that_one_model_lacks_has_the_share_of_the_other() -> None:
    arpas = [train(GENERAL), train(OWN)]
    mixed = build_model(mix(arpas, [0.75, 0.25]))
    alone = build_model(arpas[1])
    assert probability(mixed, (), "doctor") == pytest.approx(
        0.25 * probability(alone, (), "doctor"), rel=1e-5
    )
    assert probability(mixed, (), "<unk>") == pytest.approx(
        0.75 * probability(build_model(arpas[0]), (), "<unk>")
        + 0.25 * probability(alone, (), "<unk>"),
        rel=1e-5,
    )


def test_scores_are_those_of_each_word_and_unknown_words_are_left_out() -> None:
    models = [build_model(train(GENERAL)), build_model(train(OWN))]
    scores = score_text(models, DEV)
    assert scores.num_unknown == 1
    columns = [texts_probabilities(model, DEV) for model in models]
    place = sum(len(sentence) + 1 for sentence in DEV[:3])
    for column, expected in zip(scores.probs.T, columns, strict=True):
        del expected[place]  # zebras
        assert column == pytest.approx(expected)
    values = scores.perplexities()
    assert [lacking for _, lacking in values] == [3, 3]
    there = [p for p in columns[0] if p]
    assert values[0][0] == pytest.approx(math.exp(-sum(map(math.log, there)) / len(there)))


def test_weights_rise_to_those_of_a_search_over_all() -> None:
    scores = score_text([build_model(train(GENERAL)), build_model(train(OWN))], DEV)
    weights, history = find_weights(scores)
    assert all(after >= before for before, after in itertools.pairwise(history))
    assert len(history) > 3
    grid = np.arange(1, 2000) / 2000
    best = grid[np.argmin([scores.perplexity((share, 1 - share)) for share in grid])]
    assert weights == pytest.approx([best, 1 - best], abs=1e-3)
    assert 0.1 < best < 0.9
    assert scores.perplexity(weights) == pytest.approx(math.exp(-history[-1]))


def test_a_mixture_predicts_about_as_well_as_both_asked_for_every_word() -> None:
    arpas = [train(GENERAL), train(OWN)]
    scores = score_text([build_model(arpa) for arpa in arpas], DEV)
    weights, _ = find_weights(scores)
    stored = perplexity(build_model(mix(arpas, weights)), DEV).without_oov
    assert stored == pytest.approx(scores.perplexity(weights), rel=0.1)
    assert stored < min(value for value, _ in scores.perplexities()) * 2
    # Of one order there is nothing to back off from.
    arpas = [train(GENERAL, 1), train(OWN, 1)]
    scores = score_text([build_model(arpa) for arpa in arpas], DEV)
    stored = perplexity(build_model(mix(arpas, weights)), DEV).without_oov
    assert stored == pytest.approx(scores.perplexity(weights), rel=1e-5)


@pytest.mark.parametrize("weights", [[1.0], [0.5, 0.6], [1.5, -0.5]])
def test_weights_that_are_no_shares_are_refused(weights: list[float]) -> None:
    with pytest.raises(DataError, match="2 numbers from 0 up are expected that sum to 1"):
        mix([train(GENERAL), train(OWN)], weights)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_arpa(train(GENERAL), tmp_path / "general.arpa")
    write_arpa(train(OWN), tmp_path / "own.arpa.gz")
    write_arpa(train([list("abc"), list("cab")]), tmp_path / "letters.arpa")
    text = "\n".join(" ".join(sentence) for sentence in DEV)
    (tmp_path / "dev.txt").write_text(text, encoding="utf-8")
    (tmp_path / "other.txt").write_text("zebras\nzebras zebras\n", encoding="utf-8")
    return tmp_path


def test_the_command_line_finds_weights_and_mixes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["lm", "interpolate", "general.arpa", "own.arpa.gz", "--output", "x.arpa.gz"]
    assert main([*arguments, "--dev", "dev.txt"]) == 0
    lines = capsys.readouterr().out.splitlines()
    shares = [float(re.findall(r"[0-9.]+", line)[0]) for line in lines[:2]]
    assert sum(shares) == pytest.approx(1, abs=1e-3)
    assert lines[0].endswith("general.arpa")
    assert lines[2].split() == ["OOV", "1"]
    stored = build_model(read_arpa(folder / "x.arpa.gz"))
    assert f"{perplexity(stored, DEV).without_oov:.2f} without OOVs" in lines[3]
    assert main([*arguments, "--weights", "0.5,0.5"]) == 0
    again = build_model(read_arpa(folder / "x.arpa.gz"))
    assert perplexity(again, DEV).without_oov > perplexity(stored, DEV).without_oov


def test_the_command_line_prunes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lm", "prune", "general.arpa", "--output", "x.arpa", "--max-ngrams", "20"]) == 0
    output = capsys.readouterr().out
    assert re.search(r"^unigrams +11 of 11$", output, re.MULTILINE)
    orders = read_arpa(folder / "x.arpa").orders
    assert 15 < sum(map(len, orders)) <= 20


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("interpolate general.arpa own.arpa.gz --dev other.txt", "other.txt: no word of it"),
        ("interpolate general.arpa letters.arpa --dev dev.txt", "letters.arpa: a model of char"),
        ("interpolate general.arpa none.arpa --dev dev.txt", "none.arpa: No such file"),
        ("interpolate general.arpa own.arpa.gz --dev none.txt", "none.txt: No such file"),
        ("interpolate general.arpa own.arpa.gz", "--dev TEXT"),
        ("interpolate general.arpa --dev dev.txt", "two models"),
        ("interpolate general.arpa own.arpa.gz --weights a,b", "list of weights"),
        ("interpolate general.arpa own.arpa.gz --weights 1,1", "sum to 1"),
        ("prune general.arpa", "--max-ngrams N"),
        ("prune general.arpa --max-ngrams 3", "general.arpa: 3 n-grams are fewer than the 11"),
        ("prune dev.txt --threshold 1", "dev.txt:4: \\data\\ is expected"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: str, says: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lm", *arguments.split(), "--output", "x.arpa"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert says in output.err
    assert not (folder / "x.arpa").exists()
