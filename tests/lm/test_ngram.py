import gzip
import itertools
import json
import lzma
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tracemalloc
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import asr.lm.arpa
from asr.cli import main
from asr.errors import DataError, ModelError
from asr.lm.arpa import LOG_ZERO, Arpa, read_arpa, write_arpa
from asr.lm.kneser_ney import FALLBACK_DISCOUNTS, estimate
from asr.lm.mixing import mix
from asr.lm.ngram import (
    START_ID,
    LanguageModel,
    build_model,
    load_model,
    perplexity,
    read_language_model,
    save_model,
)
from asr.lm.pruning import prune
from asr.lm.sentences import Unit, read_sentences, split_sentence

IRSTLM = Path("/usr/lib/irstlm/bin")
LMPLZ = os.environ.get("LMPLZ") or shutil.which("lmplz")
KENLM_PYTHON = os.environ.get("KENLM_PYTHON", sys.executable)

WORDS = ("a", "b", "c", "d")
SENTENCES = st.lists(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=6), min_size=1, max_size=12
)
LARGER = [
    [*("a" * (number % 4)), *text]
    for number, text in enumerate(
        ["abca", "abd", "bca", "cab", "dab", "abcd", "dd", "bac", "cc", "aab", "e", "f", "ge"] * 2
        + ["hihab", "cabi", "jak", "bal", "ebe", "efa"]
    )
]

OTHER_TOOL = """\
made by another tool

\\data\\
ngram  1=      5
ngram  2=      3
ngram  3=      2

\\1-grams:
-99 <s> -0.5
-0.9 </s>
-1.0 <unk>
-0.6 a -0.3
-0.7 b -0.2

\\2-grams:
-0.4 <s> a -0.1
-0.5 a b -0.25
-0.8 b </s>

\\3-grams:
-0.2 <s> a b
-0.15 b a b

\\end\\
"""


class BruteForce:
    """Chen and Goodman's formulas, word by word, with a dictionary for each count."""

    def __init__(self, sentences: Sequence[Sequence[str]], order: int, prune: Sequence[int]):
        self.order = order
        thresholds = [0, *prune] + [([0, *prune])[-1]] * order
        self.raw = {k: Counter[tuple[str, ...]]() for k in range(1, order + 1)}
        for sentence in sentences:
            padded = ("<s>", *sentence, "</s>")
            for k in self.raw:
                self.raw[k].update(padded[i : i + k] for i in range(len(padded) - k + 1))
        self.counts = {k: dict(self.raw[k]) for k in self.raw}
        for k in range(1, order):
            before: dict[tuple[str, ...], set[str]] = {}
            for ngram in self.raw[k + 1]:
                before.setdefault(ngram[1:], set()).add(ngram[0])
            for ngram in self.counts[k]:
                if ngram[0] != "<s>":
                    self.counts[k][ngram] = len(before[ngram])
        del self.counts[1]["<s>",]
        self.kept = {
            k: {g for g in self.counts[k] if k == 1 or self.raw[k][g] > thresholds[k - 1]}
            for k in self.counts
        }
        self.discounts = {k: self.estimate_discounts(self.counts[k]) for k in self.counts}
        self.vocabulary = sorted(
            {word for sentence in sentences for word in sentence} | {"</s>", "<unk>"}
        )

    @staticmethod
    def estimate_discounts(counts: dict[tuple[str, ...], int]) -> tuple[float, float, float]:
        n = Counter(counts.values())
        if not (n[1] and n[2] and n[3]):
            return FALLBACK_DISCOUNTS
        y = n[1] / (n[1] + 2 * n[2])
        d = (1 - 2 * y * n[2] / n[1], 2 - 3 * y * n[3] / n[2], 3 - 4 * y * n[4] / n[3])
        return d if min(d) > 0 else FALLBACK_DISCOUNTS

    def prob(self, history: tuple[str, ...], word: str) -> float:
        history = history[max(0, len(history) - self.order + 1) :]
        k = len(history) + 1
        seen = {g: c for g, c in self.counts[k].items() if g[:-1] == history}
        lower = self.prob(history[1:], word) if history else 1 / len(self.vocabulary)
        if not seen:
            return lower
        discount = {g: self.discounts[k][min(c, 3) - 1] for g, c in seen.items()}
        total = sum(seen.values())
        left = sum(discount[g] if g in self.kept[k] else c for g, c in seen.items())
        ngram = (*history, word)
        share = seen[ngram] - discount[ngram] if ngram in self.kept[k] else 0.0
        return share / total + left / total * lower


def train(sentences: Sequence[Sequence[str]], order: int, prune: Sequence[int] = ()) -> Arpa:
    return estimate(sentences, order=order, prune=prune).arpa


def histories(words: Sequence[str], length: int) -> list[tuple[str, ...]]:
    inner = [h for n in range(length + 1) for h in itertools.product(words, repeat=n)]
    return inner + [("<s>", *h) for h in inner if len(h) < length]


def log_prob(model: LanguageModel, history: Sequence[str], word: str) -> float:
    return model.score(model.state(model.ids(history)), model.ids([word])[0])


def listed(arpa: Arpa) -> dict[str, tuple[float, float]]:
    return {
        " ".join(arpa.words[word] for word in row): (log_prob, backoff)
        for ngrams in arpa.orders
        for row, log_prob, backoff in zip(
            ngrams.words, ngrams.log_probs.tolist(), ngrams.backoffs.tolist(), strict=True
        )
    }


@pytest.fixture
def other_tool(tmp_path: Path) -> Path:
    path = tmp_path / "other.arpa"
    path.write_text(OTHER_TOOL, encoding="utf-8")
    return path


def test_the_brute_force_agrees_with_numbers_found_by_hand() -> None:
    # Bigrams <s> a, a b, b </s>, a </s>: a has followed <s>, b followed a, </s> followed a and b.
    reference = BruteForce([["a", "b"], ["a"]], 2, ())
    assert reference.counts[1] == {("a",): 1, ("b",): 1, ("</s>",): 2}
    assert reference.discounts == {1: FALLBACK_DISCOUNTS, 2: FALLBACK_DISCOUNTS}
    # (2 - 1) / 4, and (0.5 + 0.5 + 1) / 4 left for four words.
    assert reference.prob((), "</s>") == pytest.approx(1 / 4 + 2 / 4 / 4)
    assert reference.prob((), "<unk>") == pytest.approx(2 / 4 / 4)
    # <s> a was seen twice, so half of it is left.
    assert reference.prob(("<s>",), "a") == pytest.approx(1 / 2 + 1 / 2 * (1 / 8 + 1 / 8))


def test_the_brute_force_estimates_discounts_by_the_formula() -> None:
    counts = {("x", str(n)): c for n, c in enumerate([1] * 4 + [2] * 2 + [3] * 2 + [4])}
    # Y = 4 / (4 + 4); 1 - 2Y 2/4; 2 - 3Y 2/2; 3 - 4Y 1/2.
    assert BruteForce.estimate_discounts(counts) == pytest.approx((0.5, 0.5, 2.0))


@pytest.mark.parametrize("prune", [(), (0, 1), (1,), (1, 2)])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_a_model_equals_the_formulas(order: int, prune: Sequence[int]) -> None:
    prune = prune[: order - 1]
    reference = BruteForce(LARGER, order, prune)
    model = build_model(train(LARGER, order, prune))
    words = ("a", "b", "e", "h")
    for history in histories(words, 3):
        for word in (*words, "</s>", "<unk>"):
            expected = math.log10(reference.prob(history, word))
            assert log_prob(model, history, word) == pytest.approx(expected, abs=1e-6)


@given(SENTENCES, st.integers(1, 4), st.sampled_from([(), (0, 1), (1,), (2,), (1, 3)]))
@settings(max_examples=60, deadline=None)
def test_a_model_of_any_text_equals_the_formulas(
    sentences: list[list[str]], order: int, prune: Sequence[int]
) -> None:
    prune = prune[: order - 1]
    reference = BruteForce(sentences, order, prune)
    model = build_model(train(sentences, order, prune))
    for history in histories(WORDS[:2], 2):
        for word in reference.vocabulary:
            # A word that the text lacks is <unk>, in a history too.
            known = tuple(w if w in (*reference.vocabulary, "<s>") else "<unk>" for w in history)
            expected = math.log10(reference.prob(known, word))
            assert log_prob(model, history, word) == pytest.approx(expected, abs=1e-6)


@given(SENTENCES, st.integers(1, 5), st.sampled_from([(), (0, 1), (1,), (2,), (1, 3)]))
@settings(max_examples=100, deadline=None)
def test_probabilities_sum_to_one_in_every_state(
    sentences: list[list[str]], order: int, prune: Sequence[int]
) -> None:
    model = build_model(train(sentences, order, prune[: order - 1]))
    words = [word for word in range(len(model.words)) if word != START_ID]
    for state in range(len(model.backoffs)):
        log_probs, _ = model.advance([state] * len(words), words)
        assert (10**log_probs).sum() == pytest.approx(1, abs=1e-5)


def test_discounts_are_estimated_where_the_text_allows_it() -> None:
    found = estimate(LARGER, order=3).discounts
    reference = BruteForce(LARGER, 3, ())
    assert [d.values for d in found] == [pytest.approx(reference.discounts[k]) for k in (1, 2, 3)]
    assert any(d.estimated for d in found)
    assert not any(d.estimated for d in estimate([["a"]], order=2).discounts)


def test_pruning_leaves_out_what_was_seen_so_often_or_less_but_no_unigram() -> None:
    full, pruned = listed(train(LARGER, 3)), listed(train(LARGER, 3, (0, 1)))
    raw = BruteForce(LARGER, 3, ()).raw
    gone = set(full) - set(pruned)
    assert gone == {" ".join(g) for g, count in raw[3].items() if count <= 1}
    assert gone


def test_a_state_is_the_longest_history_that_matters() -> None:
    model = build_model(train(LARGER, 3))
    state = model.state(model.ids("cab"))
    assert state == model.state(model.ids("ab"))
    assert state != model.state(model.ids("b"))
    assert model.state(model.ids(["a", "</s>"])) == 0
    assert model.start == model.state([START_ID])


def test_advancing_many_equals_advancing_one() -> None:
    model = build_model(train(LARGER, 3, (0, 1)))
    states, words = zip(
        *itertools.product(range(len(model.backoffs)), range(len(model.words))), strict=True
    )
    log_probs, following = model.advance(states, words)
    for index in range(0, len(states), 7):
        assert model.score(states[index], words[index]) == log_probs[index]
        one = model.advance([states[index]], [words[index]])[1]
        assert one.tolist() == [following[index]]


def test_an_order_that_no_sentence_reaches_has_no_ngrams(tmp_path: Path) -> None:
    arpa = train([["a"], ["b"]], 5)
    assert [len(ngrams) for ngrams in arpa.orders] == [5, 4, 2, 0, 0]
    write_arpa(arpa, tmp_path / "lm.arpa")
    model = read_language_model(tmp_path / "lm.arpa")
    shorter = build_model(train([["a"], ["b"]], 3))
    expected = perplexity(shorter, [["a"]]).with_oov
    assert perplexity(model, [["a"]]).with_oov == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["lm.arpa", "lm.arpa.gz"])
def test_an_arpa_file_gives_back_the_model(name: str, tmp_path: Path) -> None:
    arpa = train(LARGER, 3, (0, 1))
    write_arpa(arpa, tmp_path / name)
    again = read_arpa(tmp_path / name)
    assert again.words == arpa.words
    before, after = listed(arpa), listed(again)
    assert list(after) == list(before)
    for ngram, values in before.items():
        assert after[ngram] == pytest.approx(values, abs=1e-6)
    assert (tmp_path / name).read_bytes()[:2] == (b"\x1f\x8b" if "gz" in name else b"\\d")


def test_the_same_model_gives_the_same_compressed_bytes(tmp_path: Path) -> None:
    for name in ("x.arpa.gz", "y.arpa.gz"):
        write_arpa(train(LARGER, 2), tmp_path / name)
    assert (tmp_path / "x.arpa.gz").read_bytes() == (tmp_path / "y.arpa.gz").read_bytes()


@pytest.mark.parametrize(
    ("history", "word", "expected"),
    [
        pytest.param(["<s>", "a"], "b", -0.2, id="a trigram"),
        pytest.param(["a"], "b", -0.5, id="a bigram"),
        pytest.param(["<s>", "a"], "a", -0.1 - 0.3 - 0.6, id="backing off twice"),
        pytest.param(["b", "a"], "b", -0.15, id="the history was pruned"),
        pytest.param(["b", "a"], "a", -0.3 - 0.6, id="no weight for a pruned history"),
        pytest.param(["b"], "a", -0.2 - 0.6, id="the pruned history itself"),
        pytest.param(["<s>", "a", "b"], "</s>", -0.25 - 0.8, id="the trigram is no history"),
        pytest.param(["x", "a"], "b", -0.5, id="after an unknown word"),
        pytest.param(["a"], "x", -0.3 - 1.0, id="an unknown word"),
    ],
)
def test_the_model_of_another_tool_is_read(
    history: list[str], word: str, expected: float, other_tool: Path
) -> None:
    assert log_prob(read_language_model(other_tool), history, word) == pytest.approx(
        expected, abs=1e-6
    )


def test_a_state_needs_no_shorter_form_among_the_ngrams(tmp_path: Path) -> None:
    # `b a` is a history by the trigram alone, `a b` is not listed though `b a b` is.
    path = tmp_path / "lm.arpa"
    text = OTHER_TOOL.replace("-0.5 a b -0.25\n", "").replace("2=      3", "2=      2")
    path.write_text(text, encoding="utf-8")
    model = read_language_model(path)
    assert log_prob(model, ["b", "a"], "b") == pytest.approx(-0.15, abs=1e-6)
    assert log_prob(model, ["b", "a", "b"], "</s>") == pytest.approx(-0.8, abs=1e-6)
    assert log_prob(model, ["a"], "b") == pytest.approx(-0.3 - 0.7, abs=1e-6)


def test_a_word_without_unigram_has_no_probability(tmp_path: Path) -> None:
    path = tmp_path / "lm.arpa"
    path.write_text(
        OTHER_TOOL.replace("-1.0 <unk>\n", "").replace("1=      5", "1=      4"), encoding="utf-8"
    )
    model = read_language_model(path)
    assert log_prob(model, ["a"], "x") == -math.inf
    found = perplexity(model, [["a", "x"]])
    assert found.with_oov == math.inf
    assert math.isfinite(found.without_oov)


def test_unk_in_capitals_is_unk(tmp_path: Path) -> None:
    path = tmp_path / "lm.arpa"
    path.write_text(OTHER_TOOL.replace("<unk>", "<UNK>"), encoding="utf-8")
    assert log_prob(read_language_model(path), [], "x") == pytest.approx(-1.0)


@pytest.mark.parametrize("num_read", [1, 1000])  # alone, and with the line after the section
@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        pytest.param("\\data\\", "data", 24, "no ARPA file", id="no data"),
        pytest.param("ngram  2=      3", "ngram  2=      x", 5, "is expected", id="bad count"),
        pytest.param("ngram  2=      3", "ngram  3=      3", 5, "`ngram 2=", id="order skipped"),
        pytest.param("ngram  2=      3", "ngram  2=      4", 20, "counts 4", id="one too few"),
        pytest.param("ngram  2=      3", "ngram  2=      2", 20, "counts 2", id="one too many"),
        pytest.param("\\2-grams:", "\\3-grams:", 15, "\\2-grams:", id="section skipped"),
        pytest.param("\\end\\\n", "", 23, "truncated", id="no end"),
        pytest.param("\\end\\\n", "\\4-grams:\n", 24, "\\end\\", id="more sections"),
        pytest.param("-0.5 a b -0.25", "-0.5x a b -0.25", 17, "not a number", id="letters"),
        pytest.param("-0.5 a b -0.25", "nan a b -0.25", 17, "not a number", id="nan"),
        pytest.param("-0.5 a b -0.25", "-0_5 a b -0.25", 17, "not a number", id="underscore"),
        pytest.param("-0.5 a b -0.25", "-0.5 a b inf", 17, "not a number", id="weight inf"),
        pytest.param("-0.5 a b -0.25", "0.5 a b -0.25", 17, "positive", id="positive"),
        pytest.param("-0.5 a b -0.25", "-0.5 a", 17, "word word", id="too few words"),
        pytest.param("-0.5 a b -0.25", "-0.5 a b b -0.25", 17, "word word", id="too many"),
        pytest.param("-0.5 a b -0.25", "-0.5 a z -0.25", 17, "unigrams", id="unknown word"),
        pytest.param("-0.5 a b -0.25", f"-0.5 a b{' ' * 2**16}", 17, "65536 bytes", id="long"),
        pytest.param("-0.7 b -0.2", "-0.7 a -0.2", 13, "listed twice", id="unigram twice"),
    ],
)
def test_a_malformed_file_is_named_with_its_line(
    old: str,
    new: str,
    line: int,
    says: str,
    num_read: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asr.lm.arpa, "_NUM_READ", num_read)
    path = tmp_path / "bad.arpa"
    assert OTHER_TOOL.count(old) == 1
    path.write_text(OTHER_TOOL.replace(old, new), encoding="utf-8")
    with pytest.raises(DataError, match=rf"bad\.arpa:{line}: .*{re.escape(says)}"):
        read_language_model(path)


def test_an_ngram_that_is_listed_twice_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.arpa"
    path.write_text(OTHER_TOOL.replace("-0.8 b </s>", "-0.8 a b"), encoding="utf-8")
    with pytest.raises(DataError, match=r"bad\.arpa: 'a b' is listed twice"):
        read_language_model(path)


@pytest.mark.parametrize("length", range(0, len(OTHER_TOOL) - 1, 9))
def test_a_file_cut_anywhere_is_an_error(length: int, tmp_path: Path) -> None:
    path = tmp_path / "cut.arpa"
    path.write_text(OTHER_TOOL[:length], encoding="utf-8")
    with pytest.raises(DataError, match=r"cut\.arpa:[0-9]+: "):
        read_language_model(path)


SPACES = ("", " ", "\t", "\n", "\r\n", "\v", "\0")
OTHERS = ("_", "-", "1", "1e999", "inf", "nan", "a", "x", "b a", "\\3-grams:", "\\end\\")
ODD = st.sampled_from((*SPACES, *OTHERS))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(OTHER_TOOL)), st.integers(0, 3), ODD), max_size=3),
    st.integers(1, 3),
)
def test_lines_read_together_say_what_each_says(
    edits: list[tuple[int, int, str]], num_read: int
) -> None:
    text = OTHER_TOOL
    for place, length, odd in edits:
        text = text[:place] + odd + text[place + length :]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder) / "odd.arpa"
        path.write_text(text, encoding="utf-8", newline="")
        patch.setattr(asr.lm.arpa, "_NUM_READ", num_read)
        together = content(path)
        patch.setattr(asr.lm.arpa._Reader, "_read_many", lambda *_: False)
        assert content(path) == together


@pytest.mark.parametrize("wrong", [None, 19_200, 19_400])
def test_damage_is_told_after_what_is_read_before_it(
    wrong: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [f"w{number}" for number in range(200)]
    bigrams = [f"-1.5 {one} {other}" for one in words for other in words]
    if wrong is not None:
        bigrams[wrong] = "-1.5 w0 w999"
    head = ["\\data\\", "ngram 1=200", "ngram 2=40000", "\\1-grams:", *(f"-1 {w}" for w in words)]
    text = "\n".join([*head, "\\2-grams:", *bigrams, "\\end\\", ""])
    path = tmp_path / "cut.arpa.gz"
    packed = gzip.compress(text.encode(), mtime=0)
    path.write_bytes(packed[: len(packed) // 2])
    together = content(path)
    monkeypatch.setattr(asr.lm.arpa._Reader, "_read_many", lambda *_: False)
    assert content(path) == together


def test_lines_of_many_fields_take_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "many.arpa"
    start = OTHER_TOOL[: OTHER_TOOL.index("-0.4 <s> a")]
    path.write_text(start + ("a " * 30_000 + "\n") * 300, encoding="utf-8")
    tracemalloc.start()
    with pytest.raises(DataError, match=r"many\.arpa:16: .* is expected"):
        read_arpa(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40e6  # the lines themselves are 18 MB


def content(path: Path) -> tuple[object, ...]:
    """All of a file, or what is wrong with it."""
    try:
        arpa = read_arpa(path)
    except DataError as error:
        return (str(error),)
    numbers = (array.tobytes() for n in arpa.orders for array in (n.words, n.log_probs, n.backoffs))
    return (arpa.words, *numbers)


def test_a_compressed_file_that_is_cut_or_damaged_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "cut.arpa.gz"
    content = gzip.compress(OTHER_TOOL.encode())
    checksum = bytes(byte ^ 1 for byte in content[-8:-4])
    for damaged in (
        content[:-20],
        content[:40] + b"\0\0\0\0" + content[44:],
        content[:-8] + checksum + content[-4:],
        content[:-1],
    ):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"cut\.arpa\.gz:[0-9]+: "):
            read_language_model(path)


def test_a_file_that_is_not_utf_8_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.arpa"
    path.write_bytes(OTHER_TOOL.encode().replace(b"-0.7 b", b"-0.7 \xe9"))
    with pytest.raises(DataError, match=r"bad\.arpa:13: not UTF-8: '\\\\xe9'"):
        read_language_model(path)


def test_a_stored_model_is_the_same_and_is_mapped(tmp_path: Path) -> None:
    model = build_model(train(LARGER, 3))
    save_model(model, tmp_path / "lm")
    again = read_language_model(tmp_path / "lm")
    assert again.words == model.words
    assert again.num_ngrams == model.num_ngrams
    for name in ("first_arcs", "arc_keys", "arc_log_probs", "arc_states", "backoffs"):
        assert isinstance(getattr(again, name), np.memmap)
        assert np.array_equal(getattr(again, name), getattr(model, name))
    assert perplexity(again, LARGER) == perplexity(model, LARGER)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("model.json", b"", "cannot be read"),
        ("model.json", b'{"format": 9}', "format 9"),
        ("words.txt", b"a\nb", "2 words"),
        ("model.json", b"[" * 100_000, "cannot be read"),
        ("model.json", b'{"format": 1, "num_words": 1, "num_ngrams": ["x"]}', "cannot be read"),
        ("backoffs.npy", b"x", "cannot be read"),
        ("backoffs.npy", None, "cannot be read"),
        ("arc_states.npy", "backoffs.npy", "does not fit"),
    ],
)
def test_a_stored_model_that_is_damaged_is_an_error(
    name: str, content: bytes | str | None, says: str, tmp_path: Path
) -> None:
    save_model(build_model(train(LARGER, 2)), tmp_path / "lm")
    path = tmp_path / "lm" / name
    if content is None:
        path.unlink()
    else:
        is_name = isinstance(content, str)
        path.write_bytes((path.parent / content).read_bytes() if is_name else content)
    with pytest.raises(ModelError, match=says):
        load_model(tmp_path / "lm")


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("arc_states", 3, 10**6),
        ("arc_states", 0, -1),
        ("backoff_states", -1, 10**6),
        ("backoff_states", 1, 1),
        ("first_arcs", -1, 10**6),
        ("first_arcs", 2, -7),
        ("arc_keys", 0, -5),
        ("arc_keys", -1, 2**40),
        ("arc_keys", 3, 0),
        ("arc_log_probs", 2, np.nan),
        ("backoffs", 0, np.inf),
    ],
)
def test_a_stored_model_that_would_lead_a_search_astray_is_an_error(
    name: str, place: int, value: int, tmp_path: Path
) -> None:
    save_model(build_model(train(LARGER, 2)), tmp_path / "lm")
    path = tmp_path / "lm" / f"{name}.npy"
    array = np.load(path)
    array[place] = value
    np.save(path, array)
    with pytest.raises(ModelError, match="damaged"):
        load_model(tmp_path / "lm")


def test_a_stored_model_lies_in_its_folder(tmp_path: Path) -> None:
    save_model(build_model(train(LARGER, 2)), tmp_path / "lm")
    path = tmp_path / "lm" / "words.txt"
    path.rename(tmp_path / "words.txt")
    path.symlink_to(tmp_path / "words.txt")
    with pytest.raises(ModelError, match=r"words\.txt is not in the model folder"):
        load_model(tmp_path / "lm")


def test_perplexity_by_hand(other_tool: Path) -> None:
    model = read_language_model(other_tool)
    # <s> a b </s>; and <s> x </s>, where x and the end back off to their unigrams.
    found = perplexity(model, [["a", "b"], [], ["x"]])
    known = [-0.4, -0.2, -0.25 - 0.8, -0.9]
    unknown = -0.5 - 1.0
    assert (found.num_sentences, found.num_words, found.num_oov) == (2, 3, 1)
    assert found.oov == {"x": 1}
    assert found.without_oov == pytest.approx(10 ** (-sum(known) / 4))
    assert found.with_oov == pytest.approx(10 ** (-(sum(known) + unknown) / 5))


def test_characters_have_a_symbol_for_the_space() -> None:
    assert split_sentence(" ab  c", "character") == ["a", "b", "<space>", "c"]
    assert split_sentence("e\u0301", "character") == ["\u00e9"]
    assert build_model(train([split_sentence("ab c", "character")], 2)).unit == "character"
    assert build_model(train([["ab", "c"]], 2)).unit == "word"


def test_nothing_to_learn_from_is_an_error() -> None:
    with pytest.raises(DataError, match="no sentence"):
        train([[]], 2)
    with pytest.raises(DataError, match="no words"):
        train([["a", "<s>"]], 2)
    with pytest.raises(DataError, match="no sentence"):
        perplexity(build_model(train([["a"]], 2)), [[]])


@pytest.mark.parametrize("prune", [(1, 0), (-1,), (0, 0, 1)])
def test_pruning_that_would_leave_ngrams_without_history_is_refused(prune: Sequence[int]) -> None:
    with pytest.raises(DataError, match="prune"):
        train(LARGER, 3, prune)


def test_words_out_of_a_vocabulary_are_unk_and_words_that_the_text_lacks_share_the_rest() -> None:
    chosen = ("a", "b", "c", "zz")
    marked = [[word if word in chosen else "<unk>" for word in s] for s in LARGER]
    estimated = estimate(LARGER, order=3, vocabulary=chosen)
    assert estimated.num_unknown == sum(sentence.count("<unk>") for sentence in marked) > 0
    assert estimated.arpa.words == ("<unk>", "<s>", "</s>", *chosen)
    model = build_model(estimated.arpa)
    # As of a text that says <unk>, but that the uniform distribution is one word wider.
    reference = BruteForce(marked, 3, ())
    reference.vocabulary.append("zz")
    for history in histories(("a", "b", "<unk>"), 2):
        for word in ("a", "c", "<unk>", "zz", "</s>"):
            expected = math.log10(reference.prob(history, word))
            assert log_prob(model, history, word) == pytest.approx(expected, abs=1e-6)


def test_the_most_frequent_words_are_the_vocabulary() -> None:
    text = [["b", "c"], ["b", "a"], ["c", "a"], ["c", "d"]]
    for size, words in ((1, ("c",)), (2, ("a", "c")), (9, ("a", "b", "c", "d"))):
        found = estimate(text, order=2, vocabulary=size)
        assert found.arpa.words[3:] == words
    with pytest.raises(DataError, match="at least 1 word"):
        estimate(text, order=2, vocabulary=0)
    with pytest.raises(DataError, match="no word of the vocabulary is in the text"):
        estimate(text, order=2, vocabulary=["x", "<s>"])


@pytest.mark.parametrize(
    ("name", "pack"), [("t.txt.gz", gzip.compress), ("t.txt.xz", lzma.compress)]
)
def test_a_packed_text_is_read(name: str, pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(pack("\ufeffONE TWO\r\n\n\u00e9\n".encode()))
    assert list(read_sentences(path, "word")) == [["ONE", "TWO"], ["\u00e9"]]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=rf"{name}: (gzip|xz): truncated or damaged"):
        list(read_sentences(path, "word"))
    path.write_bytes(pack(b"a\n\xff\n"))
    with pytest.raises(DataError, match=rf"{name}:2: not UTF-8"):
        list(read_sentences(path, "word"))


def test_a_manifest_and_a_text_file_give_the_same_sentences(tmp_path: Path) -> None:
    texts = ["ONE TWO", "", "THREE"]
    (tmp_path / "t.txt").write_text("\n".join(texts), encoding="utf-8")
    rows = [json.dumps({"audio_filepath": "x.wav", "text": text}) for text in texts]
    (tmp_path / "t.jsonl").write_text("\n".join(rows), encoding="utf-8")
    for name in ("t.txt", "t.jsonl"):
        assert list(read_sentences(tmp_path / name, "word")) == [["ONE", "TWO"], ["THREE"]]


def test_the_command_line_trains_shows_and_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, model = tmp_path / "text.txt", tmp_path / "lm.arpa.gz"
    text.write_text("\n".join("".join(s) for s in LARGER), encoding="utf-8")
    arguments = ["--order", "3", "--unit", "character", "--prune", "0,1"]
    assert main(["lm", "train", str(text), "--output", str(model), *arguments]) == 0
    output = capsys.readouterr()
    assert re.search(r"^characters +\d+, 12 different$", output.out, re.MULTILINE)
    assert "discounts" in output.err
    assert main(["lm", "show", str(model)]) == 0
    assert re.search(r"^unit +character$", capsys.readouterr().out, re.MULTILINE)
    assert main(["lm", "perplexity", str(model), str(text)]) == 0
    expected = perplexity(build_model(train(LARGER, 3, (0, 1))), LARGER)
    assert f"perplexity   {expected.with_oov:.2f} over" in capsys.readouterr().out
    folder = tmp_path / "mapped"
    assert main(["lm", "map", str(model), "--output", str(folder)]) == 0
    assert re.search(r"^size +0\.0 MB$", capsys.readouterr().out, re.MULTILINE)
    assert main(["lm", "perplexity", str(folder), str(text)]) == 0
    assert f"perplexity   {expected.with_oov:.2f} over" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "none.txt", "--order", "2", "--output", "x.arpa"], "none.txt: No such file"),
        (["train", "text.txt", "--order", "2", "--output", "x.txt"], "ends in .arpa"),
        (["train", "text.txt", "--order", "0", "--output", "x.arpa"], "0"),
        (["train", "text.txt", "--order", "2", "--prune", "x", "--output", "x.arpa"], "counts"),
        (["train", "text.txt", "--order", "2", "--vocabulary", "v", "--output", "x.arpa"], "'v'"),
        (["train", "text.txt", "--order", "2", "--vocabulary", "0", "--output", "x.arpa"], "'0'"),
        (
            [
                "train",
                "text.txt",
                "--order",
                "2",
                "--vocabulary",
                "empty.txt",
                "--output",
                "x.arpa",
            ],
            "empty.txt: there is no word",
        ),
        (
            [
                "train",
                "text.txt",
                "--order",
                "2",
                "--vocabulary",
                "bad.jsonl",
                "--output",
                "x.arpa",
            ],
            "no word of the vocabulary",
        ),
        (["train", "text.txt", "--lstm", "--vocabulary", "9", "--output", "x"], "for n-grams"),
        (["train", "empty.txt", "--order", "2", "--output", "x.arpa"], "empty.txt: "),
        (["train", "marked.txt", "--order", "2", "--output", "x.arpa"], "marked.txt:1: <s>"),
        (["train", "bad.jsonl", "--order", "2", "--output", "x.arpa"], "bad.jsonl:1: key text"),
        (["perplexity", "text.txt", "text.txt"], "text.txt:1: \\data\\"),
        (["map", "text.txt", "--output", "new"], "text.txt:1: \\data\\"),
        (["map", "text.txt", "--output", "empty.txt"], "a folder is written"),
        (["map", "text.txt", "--output", "text.txt"], "text.txt is read as well"),
        (["show", "none.arpa"], "none.arpa: No such file"),
        (["show", "folder"], "folder: the language model"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    for name, content in {
        "text.txt": "a b",
        "empty.txt": "\n",
        "marked.txt": "<s> a </s>",
        "bad.jsonl": '{"id": "a"}',
    }.items():
        Path(name).write_text(content, encoding="utf-8")
    assert main(["lm", *arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert says in output.err
    assert not Path("x.arpa").exists()


@pytest.fixture(scope="session")
def an4(corpora: Path) -> dict[str, list[list[str]]]:
    sentences = {}
    for split in ("train", "test"):
        lines = (corpora / "an4" / "etc" / f"an4_{split}.transcription").read_text("ascii")
        texts = [re.sub(r"</?s>|\(.*", "", line) for line in lines.splitlines()]
        sentences[split] = [text.split() for text in texts]
    return sentences


def test_an4_test_is_predicted_as_well_as_by_other_estimators(
    an4: dict[str, list[list[str]]],
) -> None:
    values = {}
    for order in (1, 2, 3):
        found = perplexity(build_model(train(an4["train"], order)), an4["test"])
        assert found.oov == {"NOVEMBER": 1, "THIRTEEN": 1}
        values[order] = found.with_oov
    # Of the same text: relative frequencies, Witten and Bell's bigram, and IRSTLM's trigram.
    assert values == pytest.approx({1: 40.7, 2: 20.6, 3: 16.76}, rel=0.005)


@pytest.mark.skipif(not (IRSTLM / "tlm").exists(), reason="no IRSTLM")
def test_irstlm_estimates_and_scores_the_same(
    an4: dict[str, list[list[str]]], tmp_path: Path
) -> None:
    for split, sentences in an4.items():
        lines = "".join(f"<s> {' '.join(s)} </s>\n" for s in sentences)
        (tmp_path / split).write_text(lines, encoding="ascii")

    def call(program: str, *arguments: str) -> str:
        return subprocess.run(
            [IRSTLM / program, *arguments],
            cwd=tmp_path,
            check=True,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ).stdout

    call("tlm", "-tr=train", "-n=3", "-lm=msb", "-te=test", "-o=irstlm.arpa")
    theirs = perplexity(read_language_model(tmp_path / "irstlm.arpa"), an4["test"])
    arpa = train(an4["train"], 3)
    ours = perplexity(build_model(arpa), an4["test"])
    assert ours.with_oov == pytest.approx(theirs.with_oov, rel=0.005)
    write_arpa(arpa, tmp_path / "ours.arpa")
    printed = call("compile-lm", "ours.arpa", "--eval=test")
    # PPwp is the part of PP that its penalty for unknown words adds.
    found = re.search(r"PP=(\S+) PPwp=(\S+)", printed)
    assert found is not None
    assert float(found[1]) - float(found[2]) == pytest.approx(ours.with_oov, abs=0.011)


@pytest.mark.skipif(LMPLZ is None, reason="no lmplz: set LMPLZ to KenLM's estimator")
@pytest.mark.parametrize(("order", "prune"), [(2, ()), (4, ()), (3, (0, 1)), (4, (1, 2, 2))])
@pytest.mark.parametrize("unit", ["word", "character"])
def test_lmplz_estimates_the_same_ngrams(
    unit: Unit, order: int, prune: Sequence[int], an4: dict[str, list[list[str]]], tmp_path: Path
) -> None:
    sentences = [split_sentence(" ".join(sentence), unit) for sentence in an4["train"]]
    options = ["-o", str(order), "-S", "200M", "-T", str(tmp_path), "--discount_fallback"]
    options += ["--prune", "0", *map(str, prune)] if prune else []
    printed = subprocess.run(
        [str(LMPLZ), *options],
        input="".join(f"{' '.join(sentence)}\n" for sentence in sentences),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
        text=True,
    ).stdout
    (tmp_path / "lm.arpa").write_text(printed, encoding="utf-8")
    theirs, ours = listed(read_arpa(tmp_path / "lm.arpa")), listed(train(sentences, order, prune))
    assert set(theirs) == set(ours)
    for ngram, (log_prob, backoff) in ours.items():
        # <s> is never predicted; lmplz writes 0 for it.
        expected = (LOG_ZERO if ngram == "<s>" else theirs[ngram][0], theirs[ngram][1])
        assert (log_prob, backoff) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: train(LARGER, 3, (0, 1)), id="counts"),
        pytest.param(lambda: prune(train(LARGER, 3), threshold=0.003).arpa, id="entropy"),
        pytest.param(lambda: mix([train(LARGER, 3), train(LARGER[:9], 2)], [0.5, 0.5]), id="mixed"),
    ],
)
def test_kenlm_reads_our_file_and_gives_the_same_probabilities(
    make: Callable[[], Arpa], tmp_path: Path
) -> None:
    imports = [KENLM_PYTHON, "-c", "import kenlm"]
    if subprocess.run(imports, check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("no kenlm: set KENLM_PYTHON to a Python that has it")
    arpa = make()
    write_arpa(arpa, tmp_path / "lm.arpa")
    script = (
        "import kenlm, json, sys; model = kenlm.Model(sys.argv[1]); "
        "print(json.dumps([[score[0] for score in model.full_scores(line.strip())] "
        "for line in sys.stdin]))"
    )
    sentences = [*LARGER, ["a", "x", "b"], ["z"]]
    printed = subprocess.run(
        [KENLM_PYTHON, "-c", script, tmp_path / "lm.arpa"],
        input="\n".join(map(" ".join, sentences)),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
        text=True,
    ).stdout
    model = build_model(arpa)
    for sentence, theirs in zip(sentences, json.loads(printed), strict=True):
        padded = ["<s>", *sentence, "</s>"]
        ours = [log_prob(model, padded[:n], padded[n]) for n in range(1, len(padded))]
        assert ours == pytest.approx(theirs, abs=1e-5)
