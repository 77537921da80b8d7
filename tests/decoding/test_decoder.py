import itertools
import json
import math
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from asr.cli import main
from asr.config import DecodingConfig
from asr.decoding.decoder import make_decoder
from asr.decoding.grammar import Grammar, read_grammar
from asr.decoding.hotwords import HotPhrase, read_hot_words
from asr.decoding.hypothesis import Hypothesis, greedy
from asr.decoding.lexicon import Lexicon, read_lexicon
from asr.decoding.options import DecodingOptions, read_decoding, remove_decoding, write_decoding
from asr.errors import DataError, ModelError
from asr.lm.arpa import write_arpa
from asr.lm.kneser_ney import estimate
from asr.lm.ngram import END_ID, LanguageModel, build_model, save_model
from asr.text.tokens import TokenTable
from asr.transcription.recognizer import Recognizer
from tests.conftest import ROOT
from tests.tones import RATE, TONES

CHARACTERS = TokenTable(("<blank>", " ", "a", "b"))
PIECES = TokenTable(("<blank>", "▁a", "▁b", "b"))
PHONES = TokenTable(("<blank>", "P", "Q", "R"))
UNLIMITED = {
    "beam": 5000,
    "nbest": 4000,
    "beam_threshold": 1e6,
    "token_threshold": 1e6,
    "blank_threshold": 2.0,
    "unknown_score": 0.0,
}

Tokens = tuple[int, ...]


def random_scores(num_steps: int, num_tokens: int, seed: int) -> NDArray[np.float32]:
    scores = np.random.default_rng(seed).normal(size=(num_steps, num_tokens)) * 2
    return (scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))).astype(np.float32)


def word_model() -> LanguageModel:
    sentences = ["a b", "ab a", "b ab", "a a", "bb a b", "ab ab b", "a"]
    return build_model(estimate([s.split() for s in sentences], order=3).arpa)


def token_model() -> LanguageModel:
    sentences = ["a <space> b", "a b <space> a", "b b <space> a b", "a"]
    return build_model(estimate([s.split() for s in sentences], order=3).arpa)


def prefix_probabilities(log_probs: NDArray[np.float32]) -> dict[Tokens, float]:
    """Summed over every path, one after the other."""
    found: dict[Tokens, float] = {}
    probs = np.exp(log_probs.astype(np.float64))
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        prefix = tuple(token for token, _ in itertools.groupby(path) if token != 0)
        weight = math.prod(float(probs[step, token]) for step, token in enumerate(path))
        found[prefix] = found.get(prefix, 0.0) + weight
    return {prefix: math.log(total) for prefix, total in found.items() if total > 0}


def sentence_score(model: LanguageModel, words: Sequence[str]) -> float:
    """In nats, with the sentence's end."""
    state, total = model.start, 0.0
    for word in [*model.ids(words), END_ID]:
        total += model.score(state, word)
        state = int(model.advance([state], [word])[1][0])
    return total * math.log(10)


def best_scores(scores: dict[str, list[float]]) -> list[tuple[str, float]]:
    best = {text: max(values) for text, values in scores.items()}
    return sorted(best.items(), key=lambda item: -item[1])


def assert_same(hypotheses: list[Hypothesis], expected: list[tuple[str, float]]) -> None:
    assert len(hypotheses) == len(expected)
    scores = dict(expected)
    for hypothesis, (_, score) in zip(hypotheses, expected, strict=True):
        assert hypothesis.score == pytest.approx(score, abs=1e-4)
        assert hypothesis.score == pytest.approx(scores[hypothesis.text], abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("tokens", [CHARACTERS, PIECES], ids=["spaces", "pieces"])
def test_an_unlimited_beam_sums_every_path(tokens: TokenTable, seed: int) -> None:
    log_probs = random_scores(5, len(tokens), seed)
    expected: dict[str, list[float]] = {}
    for prefix, log_prob in prefix_probabilities(log_probs).items():
        expected.setdefault(tokens.decode(prefix), []).append(log_prob)
    hypotheses = make_decoder(tokens, DecodingConfig(**UNLIMITED)).decode(log_probs)
    assert_same(hypotheses, best_scores(expected))
    for hypothesis in hypotheses:
        assert hypothesis.text == tokens.decode(hypothesis.tokens)
        assert len(hypothesis.steps) == len(hypothesis.tokens)
        assert list(hypothesis.steps) == sorted(set(hypothesis.steps))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("tokens", [CHARACTERS, PIECES], ids=["spaces", "pieces"])
def test_with_a_language_model_of_words_it_finds_the_best_of_all(
    tokens: TokenTable, seed: int
) -> None:
    model = word_model()
    log_probs = random_scores(5, len(tokens), seed + 10)
    expected: dict[str, list[float]] = {}
    for prefix, log_prob in prefix_probabilities(log_probs).items():
        text = tokens.decode(prefix)
        # A word that does not begin with its mark has no canonical spelling.
        marked = [tokens.symbols[t] for t in prefix]
        first_odd = tokens is PIECES and bool(prefix) and marked[0] == "b"
        spelled = text.split()
        words = ["<unk>", *spelled[1:]] if first_odd else spelled
        score = log_prob + 0.7 * sentence_score(model, words) + 0.4 * len(words)
        score -= 0.9 * sum(word not in model.words[END_ID + 1 :] for word in words)
        expected.setdefault(text, []).append(score)
    config = DecodingConfig(**{**UNLIMITED, "unknown_score": -0.9}, lm_weight=0.7, word_bonus=0.4)
    table = tokens if tokens is CHARACTERS else PieceTable(tokens.symbols)
    hypotheses = make_decoder(table, config, language_model=model).decode(log_probs)
    assert_same(hypotheses, best_scores(expected))


class PieceTable(TokenTable):
    """Pieces without a SentencePiece model: a mark, then letters."""

    def encode(self, text: str) -> list[int]:
        marked = ["▁" + word[0] for word in text.split()]
        return [
            self.symbols.index(symbol)
            for mark, word in zip(marked, text.split(), strict=True)
            for symbol in (mark, *(letter for letter in word[1:] if letter == "b"))
        ]


def test_with_a_language_model_of_characters_it_finds_the_best_of_all() -> None:
    model = token_model()
    log_probs = random_scores(5, 4, 20)
    expected: dict[str, list[float]] = {}
    for prefix, log_prob in prefix_probabilities(log_probs).items():
        names = ["<space>" if t == 1 else CHARACTERS.symbols[t] for t in prefix]
        text = CHARACTERS.decode(prefix)
        score = log_prob + 0.5 * sentence_score(model, names) - 0.3 * len(text.split())
        expected.setdefault(text, []).append(score)
    config = DecodingConfig(**UNLIMITED, lm_weight=0.5, word_bonus=-0.3)
    hypotheses = make_decoder(CHARACTERS, config, language_model=model).decode(log_probs)
    assert_same(hypotheses, best_scores(expected))


def word_sequences(
    prefix: Tokens, spellings: Sequence[tuple[str, Tokens]], separator: Tokens
) -> set[tuple[str, ...]]:
    """All ways of reading a prefix as words of a lexicon."""
    if not prefix:
        return {()}
    found: set[tuple[str, ...]] = set()
    for word, spelling in spellings:
        if prefix[: len(spelling)] != spelling:
            continue
        rest = prefix[len(spelling) :]
        if separator and rest and rest[:1] != separator:
            continue
        while separator and rest[:1] == separator:
            rest = rest[1:]
        found |= {(word, *others) for others in word_sequences(rest, spellings, separator)}
    return found


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("with_model", [False, True])
def test_a_lexicon_of_phones_reads_every_prefix_in_every_way(seed: int, with_model: bool) -> None:
    spellings = [("a", (1,)), ("a", (2, 2)), ("b", (1, 2)), ("ab", (1,)), ("b", (2,))]
    model = word_model() if with_model else None
    log_probs = random_scores(5, 4, seed + 30)
    expected: dict[str, list[float]] = {}
    for prefix, log_prob in prefix_probabilities(log_probs).items():
        for words in word_sequences(prefix, spellings, ()):
            score = log_prob + 0.1 * len(words)
            score += 0.8 * sentence_score(model, words) if model else 0.0
            expected.setdefault(" ".join(words), []).append(score)
    numbers = {"a": 0, "b": 1, "ab": 2}
    lexicon = Lexicon(
        words=tuple(numbers),
        spellings=tuple((numbers[word], spelling) for word, spelling in spellings),
        is_open=False,
    )
    config = DecodingConfig(**UNLIMITED, lm_weight=0.8, word_bonus=0.1)
    decoder = make_decoder(PHONES, config, language_model=model, lexicon=lexicon)
    hypotheses = decoder.decode(log_probs)
    listed = best_scores(expected)
    # Far down the list the copies of one text fill it.
    assert len(hypotheses) > 20
    assert_same(hypotheses, listed[: len(hypotheses)])


def test_a_lexicon_of_characters_allows_no_other_word(tmp_path: Path) -> None:
    path = tmp_path / "lexicon.txt"
    path.write_text("ab\ta b\nb b\nCO a a\n", encoding="utf-8")
    lexicon = read_lexicon(path, CHARACTERS)
    spellings = [("ab", (2, 3)), ("b", (3,)), ("CO", (2, 2))]
    log_probs = random_scores(5, 4, 40)
    expected: dict[str, list[float]] = {}
    for prefix, log_prob in prefix_probabilities(log_probs).items():
        without = prefix
        while without[:1] == (1,):
            without = without[1:]
        for words in word_sequences(without, spellings, (1,)):
            expected.setdefault(" ".join(words), []).append(log_prob)
    hypotheses = make_decoder(CHARACTERS, DecodingConfig(**UNLIMITED), lexicon=lexicon).decode(
        log_probs
    )
    assert_same(hypotheses, best_scores(expected))


@pytest.mark.parametrize("seed", range(3))
def test_hot_words_add_their_weight_wherever_they_stand(seed: int) -> None:
    hot = [
        HotPhrase(words=("a",), weight=1.5, where="hot:1"),
        HotPhrase(words=("ab", "a"), weight=0.7, where="hot:2"),
        HotPhrase(words=("b", "b"), weight=2.0, where="hot:3"),
        HotPhrase(words=("bb",), weight=-1.0, where="hot:4"),
    ]
    model = word_model()
    log_probs = random_scores(6, 4, seed + 50)
    expected: dict[str, list[float]] = {}
    for prefix, log_prob in prefix_probabilities(log_probs).items():
        text = CHARACTERS.decode(prefix)
        score = log_prob + sentence_score(model, text.split())
        # Two spaces tell words apart as one does, but are not within a phrase.
        words = "".join(CHARACTERS.symbols[t] for t in prefix).split(" ")
        for phrase in hot:
            size = len(phrase.words)
            windows = [tuple(words[i : i + size]) for i in range(len(words))]
            score += phrase.weight * size * windows.count(phrase.words)
        expected.setdefault(text, []).append(score)
    decoder = make_decoder(
        CHARACTERS, DecodingConfig(**UNLIMITED), language_model=model, hot_words=hot
    )
    hypotheses = decoder.decode(log_probs)
    listed = dict(best_scores(expected))
    for hypothesis in hypotheses[:50]:
        assert hypothesis.score == pytest.approx(listed[hypothesis.text], abs=1e-4)
    assert hypotheses[0].text == next(iter(listed))


@pytest.mark.parametrize("beam_threshold", [5.0, 1e6])
def test_a_hot_word_is_not_dropped_before_its_weight_is_added(beam_threshold: float) -> None:
    log_probs = np.log(np.array([[0.01, 0.001, 0.971, 0.018], [0.97, 0.01, 0.01, 0.01]]))
    config = DecodingConfig(beam=2, beam_threshold=beam_threshold)
    hot = [HotPhrase(words=("b",), weight=8.0, where="hot:1")]
    for hot_words, text in ((hot, "b"), ((), "a")):
        decoder = make_decoder(CHARACTERS, config, hot_words=hot_words)
        assert decoder.decode(log_probs.astype(np.float32))[0].text == text


def test_a_beam_of_one_is_the_best_path() -> None:
    for seed in range(20):
        log_probs = random_scores(30, 4, seed)
        (hypothesis,) = make_decoder(CHARACTERS, DecodingConfig()).decode(log_probs)
        assert hypothesis == greedy(log_probs)


def test_wider_beams_find_better_hypotheses() -> None:
    model = word_model()
    for seed in range(5):
        log_probs = random_scores(80, 4, seed)
        scores = []
        for beam in (2, 10, 100, 1000):
            config = DecodingConfig(beam=beam, beam_threshold=100)
            (found,) = make_decoder(CHARACTERS, config, language_model=model).decode(log_probs)
            scores.append(found.score)
        assert scores == sorted(scores)
        assert scores[0] < scores[-1]


def test_blank_steps_that_are_left_out_cost_no_more_than_said() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores = rng.normal(size=(6, 4)) * 2
        scores[rng.random(6) < 0.6, 0] += 9
        scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
        log_probs = scores.astype(np.float32)
        exact = make_decoder(CHARACTERS, DecodingConfig(**UNLIMITED)).decode(log_probs)[0]
        limits = {**UNLIMITED, "blank_threshold": 0.99}
        skipped = make_decoder(CHARACTERS, DecodingConfig(**limits)).decode(log_probs)[0]
        num_skipped = int((np.exp(log_probs[:, 0]) >= 0.99).sum())
        difference = math.exp(exact.log_prob) - math.exp(skipped.log_prob)
        assert -1e-6 <= difference <= 0.01 * num_skipped


def test_tokens_begin_where_they_are_probable() -> None:
    path = [0, 2, 2, 0, 0, 2, 1, 1, 0, 3, 3, 3]
    log_probs = np.log(np.full((len(path), 4), 0.01, np.float32))
    log_probs[np.arange(len(path)), path] = math.log(0.97)
    (hypothesis,) = make_decoder(CHARACTERS, DecodingConfig(beam=8)).decode(log_probs)
    assert hypothesis.tokens == (2, 2, 1, 3)
    assert hypothesis.steps == greedy(log_probs).steps == (1, 5, 6, 9)
    assert hypothesis.words is not None
    assert [(w.text, w.first, w.last) for w in hypothesis.words] == [("aa", 0, 2), ("b", 3, 4)]


def test_utterances_in_threads_give_what_each_gives_alone() -> None:
    decoder = make_decoder(CHARACTERS, DecodingConfig(beam=8, nbest=3), language_model=word_model())
    utterances = [random_scores(20 + seed, 4, seed) for seed in range(12)]
    together = decoder.decode_all(utterances, threads=4)
    assert together == [decoder.decode(log_probs) for log_probs in utterances]


def test_no_steps_give_no_words() -> None:
    nothing = np.zeros((0, 4), np.float32)
    for model in (None, word_model()):
        decoder = make_decoder(CHARACTERS, DecodingConfig(beam=4), language_model=model)
        (hypothesis,) = decoder.decode(nothing)
        assert hypothesis.tokens == ()
        assert hypothesis.text == ""
        assert hypothesis.log_prob == 0.0


def test_where_no_word_is_complete_there_is_no_word(tmp_path: Path) -> None:
    path = tmp_path / "lexicon.txt"
    path.write_text("aba a b a\n", encoding="utf-8")
    log_probs = np.log(np.array([[0.01, 0.01, 0.97, 0.01]] * 3, np.float32))
    config = DecodingConfig(beam=2, beam_threshold=2)
    (hypothesis,) = make_decoder(CHARACTERS, config, lexicon=read_lexicon(path, CHARACTERS)).decode(
        log_probs
    )
    assert hypothesis.text == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda x: x[:, :3], "the model has 4 tokens", id="too few tokens"),
        pytest.param(lambda x: np.where(x > -1, np.nan, x), "step .*nan", id="NaN"),
        pytest.param(lambda x: np.exp(x), "log_softmax", id="probabilities"),
        pytest.param(lambda x: x * 3, "log_softmax", id="not normalized"),
        pytest.param(lambda x: np.full_like(x, -np.inf), "sum to 0", id="all impossible"),
    ],
)
def test_scores_that_are_none_are_named(change, message: str) -> None:  # type: ignore[no-untyped-def]
    decoder = make_decoder(CHARACTERS, DecodingConfig(beam=4))
    with pytest.raises(DataError, match=message):
        decoder.decode(change(random_scores(5, 4, 0)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("ab a b\n\nab a X\n", r"lexicon.txt:3: 'X' .* 'ab' is no token", id="symbol"),
        pytest.param("ab\n", r"lexicon.txt:1: 'ab' has no spelling", id="no spelling"),
        pytest.param("\n", "there is no word", id="empty"),
    ],
)
def test_a_bad_lexicon_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "lexicon.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_lexicon(path, CHARACTERS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("ab 3\nabc 2\n", r"hot.txt:2: 'abc' cannot be spelled", id="unspellable"),
        pytest.param("ab\n", r"hot.txt:1: a word or phrase and its weight", id="no weight"),
        pytest.param("ab nan\n", r"hot.txt:1: a word or phrase and its weight", id="NaN"),
        pytest.param("", "there is no word in it", id="empty"),
    ],
)
def test_bad_hot_words_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "hot.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        make_decoder(CHARACTERS, DecodingConfig(), hot_words=read_hot_words(path))


def test_a_lexicon_without_a_word_of_the_language_model_is_refused() -> None:
    tokens = TokenTable(("<blank>", " ", "a", "b"))
    model = build_model(estimate([["AB", "BA"]], order=2).arpa)
    lexicon = Lexicon(words=("ab",), spellings=((0, (2, 3)),), is_open=False)
    with pytest.raises(DataError, match="no word of the lexicon, as 'ab', is in the language mod"):
        make_decoder(tokens, DecodingConfig(beam=4), language_model=model, lexicon=lexicon)


def test_a_hot_word_that_the_lexicon_lacks_is_named() -> None:
    lexicon = Lexicon(words=("b",), spellings=((0, (3,)),), is_open=False)
    hot = [HotPhrase(words=("a",), weight=1.0, where="hot.txt:1")]
    with pytest.raises(DataError, match=r"hot.txt:1: 'a' is not in the lexicon"):
        make_decoder(CHARACTERS, DecodingConfig(), lexicon=lexicon, hot_words=hot)


def test_a_language_model_of_other_letters_is_named() -> None:
    words = build_model(estimate([["YES", "NO"], ["NO"]], order=2).arpa)
    with pytest.raises(DataError, match="2 of the language model's 2 words cannot be spelled"):
        make_decoder(CHARACTERS, DecodingConfig(), language_model=words)
    letters = build_model(estimate([["x", "<space>", "y"], ["x"]], order=2).arpa)
    with pytest.raises(DataError, match="characters are not the model's tokens"):
        make_decoder(CHARACTERS, DecodingConfig(), language_model=letters)


@pytest.fixture(scope="module")
def sung(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of la la mi."""
    import soundfile

    time = np.arange(2000) / RATE
    silence = np.zeros(1600)
    parts = [silence]
    for word in ("la", "la", "mi"):
        parts += [0.3 * np.sin(2 * np.pi * TONES[word] * time), silence]
    samples = np.concatenate(parts)
    samples += 0.003 * np.random.default_rng(0).standard_normal(len(samples))
    path = tmp_path_factory.mktemp("sung") / "sung.wav"
    soundfile.write(path, samples, RATE)
    return path


@pytest.fixture
def model_folder(tone_run: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(tone_run / "model", folder)
    return folder


def test_the_command_line_decodes_with_all_of_it(
    model_folder: Path, sung: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text").write_text("la mi la\nmi mi\nla la mi\n", encoding="utf-8")
    (tmp_path / "hot").write_text("mi 0.5\nla la 0.1\n", encoding="utf-8")
    (tmp_path / "lexicon").write_text("la l a\nLA l a\nmi m i\n", encoding="utf-8")
    arpa = tmp_path / "lm.arpa.gz"
    assert main(["lm", "train", str(tmp_path / "text"), "--order", "2", "--output", str(arpa)]) == 0
    capsys.readouterr()
    options = ["--beam", "8", "--nbest", "3", "--lm", str(arpa), "--word-bonus", "0.5"]
    options += ["--hotwords", str(tmp_path / "hot"), "--lexicon", str(tmp_path / "lexicon")]
    assert main(["transcribe", str(model_folder), str(sung), "--format", "json", *options]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["text"] == "la la mi"
    assert [word["word"] for word in row["segments"][0]["words"]] == ["la", "la", "mi"]
    assert len(row["nbest"]) == 3
    assert row["nbest"][0]["text"] == row["text"]
    scores = [reading["score"] for reading in row["nbest"]]
    assert scores == sorted(scores, reverse=True)


def test_hot_words_change_what_is_heard(
    model_folder: Path, sung: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hot").write_text("lala 60\n", encoding="utf-8")
    hot = ["--hotwords", str(tmp_path / "hot")]
    assert main(["transcribe", str(model_folder), str(sung), *hot]) == 0
    assert "lala" in capsys.readouterr().out


def test_evaluation_takes_the_same_options(
    model_folder: Path, sung: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"id": "1", "audio_filepath": str(sung), "duration": 0, "text": "la la mi"}
    manifest = tmp_path / "test.jsonl"
    manifest.write_text(json.dumps(row) + "\n", encoding="utf-8")
    assert main(["evaluate", str(model_folder), str(manifest), "--beam", "4"]) == 0
    assert "%WER 0.00" in capsys.readouterr().out


ARPA = "\\data\\\nngram 1={count}\n\n\\1-grams:\n-1 <unk>\n-1 </s>\n-0.5 {word}\n\n{end}"


@pytest.mark.parametrize(
    ("option", "content", "message"),
    [
        pytest.param("--lm", None, "file: No such file", id="no model"),
        pytest.param("--lexicon", None, "file: No such file", id="no lexicon"),
        pytest.param("--hotwords", None, "file: No such file", id="no hot words"),
        pytest.param("--grammar", None, "file: No such file", id="no grammar"),
        pytest.param("--lm", ARPA.format(count=3, word="la", end=""), "truncated", id="truncated"),
        pytest.param(
            "--lm", ARPA.format(count=4, word="la", end="\\end\\"), "file:9: .*4", id="counts"
        ),
        pytest.param(
            "--lm",
            ARPA.format(count=3, word="DO", end="\\end\\"),
            "1 of the language model's 1 words cannot be spelled",
            id="other words",
        ),
        pytest.param("--lexicon", "la l x\n", "file:1: 'x' in the spelling of", id="no token"),
        pytest.param("--hotwords", "do 3\n", "file:1: 'do' cannot be spelled", id="hot word"),
        pytest.param("--grammar", " \n", "file: the grammar allows no sentence", id="nothing"),
        pytest.param(
            "--grammar", "la\nla do\n", "file:2: 'do' cannot be spelled", id="word of a grammar"
        ),
    ],
)
def test_what_cannot_help_is_said_in_one_line(
    model_folder: Path,
    sung: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    option: str,
    content: str | None,
    message: str,
) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    assert main(["transcribe", str(model_folder), str(sung), option, str(path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(message, said)


def test_what_the_model_folder_says_is_applied_and_can_be_changed(
    model_folder: Path, sung: Path, tmp_path: Path
) -> None:
    # Any word but "la" is worth so much less that "la la mi" becomes as many "la"s.
    lexicon = tmp_path / "only"
    lexicon.write_text("la l a\n", encoding="utf-8")
    write_decoding(model_folder, DecodingConfig(beam=8, nbest=2), lexicon=lexicon)
    assert read_decoding(model_folder).lexicon == "lexicon.txt"
    transcript = Recognizer.load(model_folder, device="cpu").transcribe(sung)
    assert set(transcript.text.split()) == {"la"}
    assert transcript.nbest[0].text == transcript.text
    lexicon.write_text("la l a\nmi m i\n", encoding="utf-8")
    changed = DecodingOptions(lexicon=lexicon, nbest=1)
    recognizer = Recognizer.load(model_folder, device="cpu", decoding=changed)
    assert recognizer.transcribe(sung).text == "la la mi"
    assert recognizer.transcribe(sung).nbest == ()


def test_a_mapped_language_model_goes_into_the_model_folder_and_out_of_it(
    model_folder: Path, sung: Path, tmp_path: Path
) -> None:
    arpa = estimate([["la", "mi"], ["mi", "mi"]], order=2).arpa
    write_arpa(arpa, tmp_path / "words.arpa")
    save_model(build_model(arpa), tmp_path / "mapped")
    texts = []
    for source, name in (("words.arpa", "lm.arpa"), ("mapped", "lm")):
        write_decoding(model_folder, DecodingConfig(beam=8, lm_weight=3), lm=tmp_path / source)
        assert read_decoding(model_folder).lm == name
        texts.append(Recognizer.load(model_folder, device="cpu").transcribe(sung))
        remove_decoding(model_folder)
        assert not (model_folder / name).exists()
    assert texts[0] == texts[1]


def sentences_of(grammar: Grammar, longest: int) -> set[str]:
    """All that a grammar allows, up to a number of words."""
    found: set[str] = set()
    queue: list[tuple[int, tuple[str, ...]]] = [(0, ())]
    for state, words in queue:
        if state in grammar.finals:
            found.add(" ".join(words))
        if len(words) < longest:
            arcs = grammar.arcs[state].items()
            queue += [(target, (*words, grammar.words[word])) for word, target in arcs]
    return found


HEADER = "#JSGF V1.0 UTF-8 en;\ngrammar test;\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("turn on\n\n turn  off \nstop\n", {"turn on", "turn off", "stop"}, id="list"),
        pytest.param(HEADER + "public <a> = x | y z;", {"x", "y z"}, id="alternatives"),
        pytest.param(
            HEADER + "public <a> = [x] y [z];", {"y", "x y", "y z", "x y z"}, id="options"
        ),
        pytest.param(HEADER + "public <a> = (x | y) z;", {"x z", "y z"}, id="group"),
        pytest.param(HEADER + "public <a> = x* y;", {"y", "x y", "x x y"}, id="star"),
        pytest.param(HEADER + "public <a> = x+;", {"x", "x x", "x x x"}, id="plus"),
        pytest.param(
            HEADER + "public <a> = (x | [y])* z;",
            {"z", "x z", "y z", "x x z", "x y z", "y x z", "y y z"},
            id="repeated options",
        ),
        pytest.param(
            HEADER
            + "// one\npublic <a> = <b> c {tag;} | /2.5/ <b> /* two; */ d;\n<b> = /1/ x | y;",
            {"x c", "y c", "x d", "y d"},
            id="rules, weights, tags, comments",
        ),
        pytest.param(
            HEADER + 'public <a> = "new york" <NULL> | no <VOID>; public <b> = b;',
            {"new york", "b"},
            id="quotes, null and void",
        ),
        pytest.param("#JSGF V1.0; public <a> = x;", {"x"}, id="a line"),
    ],
)
def test_a_grammar_allows_what_it_says(tmp_path: Path, text: str, expected: set[str]) -> None:
    path = tmp_path / "grammar"
    path.write_text(text, encoding="utf-8")
    assert sentences_of(read_grammar(path), 3) == expected


def test_the_grammar_of_digits_allows_every_code() -> None:
    found = sentences_of(read_grammar(ROOT / "recipes" / "digits" / "four-digits.jsgf"), 5)
    assert len(found) == 10_000
    assert {len(sentence.split()) for sentence in found} == {4}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("\n \n", "allows no sentence", id="empty list"),
        pytest.param(HEADER, "no rule is public", id="no rule"),
        pytest.param(HEADER + "<a> = x;", "no rule is public", id="private"),
        pytest.param(HEADER + "public <a> = [<VOID>];", "allows no sentence", id="nothing"),
        pytest.param(
            HEADER + "public <a> = x\n <c>;\n<b> = y;",
            r"g.jsgf:4: there is no rule <c>; there are .*<b>",
            id="unknown rule",
        ),
        pytest.param(
            HEADER + "public <a> = x <b>;\n<b> = y [<a>];",
            r"g.jsgf:4: <a> contains itself \(<b> in <a>\)",
            id="recursion",
        ),
        pytest.param(HEADER + "import <x.y>;", r"g.jsgf:3: imports are not read", id="import"),
        pytest.param(HEADER + "public <a> = (x | y;", r"g.jsgf:3: `\)` is expected", id="group"),
        pytest.param(HEADER + "public <a> = x | ;", r"g.jsgf:3: a word or <rule>", id="no word"),
        pytest.param(HEADER + "public <a> = x", r"is a `;` missing", id="no end"),
        pytest.param(HEADER + "public <a> = * x;", r"g.jsgf:3: '\*' is not expected", id="star"),
        pytest.param(HEADER + "public x;", r"g.jsgf:3: `<rule> = ...;`", id="no rule name"),
        pytest.param(HEADER + "public <a> = x / y;", r"g.jsgf:3: '/ y;' cannot be read", id="/"),
        pytest.param(HEADER + "<a> = x;\n<a> = y;", r"g.jsgf:4: <a> is there twice", id="twice"),
        pytest.param(
            HEADER + f"public <a> = {'(' * 200}x{')' * 200};", "nested more than", id="deep"
        ),
        pytest.param(
            HEADER
            + "public <a> = <b> <b>;"
            + "".join(
                f"<{x}> = <{y}> <{y}> <{y}> <{y}>;" for x, y in itertools.pairwise("bcdefghijk")
            )
            + "<k> = x;",
            "more than 100,000 states",
            id="large",
        ),
    ],
)
def test_a_bad_grammar_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "g.jsgf"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_grammar(path)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        pytest.param("a b\nab\nb b a\n", {"a b", "ab", "b b a"}, id="list"),
        pytest.param(
            "#JSGF V1.0; public <x> = [a] (b | ab)+;",
            {
                " ".join((*first, *rest))
                for first in ((), ("a",))
                for size in range(1, 5)
                for rest in itertools.product(("b", "ab"), repeat=size)
            },
            id="loop",
        ),
    ],
)
def test_with_a_grammar_it_finds_the_best_of_all_its_sentences(
    tmp_path: Path, text: str, allowed: set[str], seed: int
) -> None:
    path = tmp_path / "grammar"
    path.write_text(text, encoding="utf-8")
    spellings = [("a", (2,)), ("b", (3,)), ("ab", (2, 3))]
    log_probs = random_scores(6, 4, seed + 70)
    expected: dict[str, list[float]] = {}
    for prefix, log_prob in prefix_probabilities(log_probs).items():
        without = prefix
        while without[:1] == (1,):
            without = without[1:]
        for words in word_sequences(without, spellings, (1,)):
            if " ".join(words) in allowed:
                score = log_prob + 0.3 * len(words)
                expected.setdefault(" ".join(words), []).append(score)
    assert len(expected) >= 3
    # A weight of 0 is for language models and lets nothing else through.
    config = DecodingConfig(**UNLIMITED, word_bonus=0.3, lm_weight=0)
    hypotheses = make_decoder(CHARACTERS, config, grammar=read_grammar(path)).decode(log_probs)
    assert_same(hypotheses, best_scores(expected))


def test_a_grammar_of_phones_tells_words_by_what_stands_before_them(tmp_path: Path) -> None:
    path = tmp_path / "grammar"
    path.write_text("a b\nab a\n", encoding="utf-8")
    spellings = [("a", (1,)), ("a", (2, 2)), ("b", (1, 2)), ("ab", (1,)), ("b", (2,))]
    numbers = {"a": 0, "b": 1, "ab": 2}
    lexicon = Lexicon(
        words=tuple(numbers),
        spellings=tuple((numbers[word], spelling) for word, spelling in spellings),
        is_open=False,
    )
    log_probs = random_scores(5, 4, 80)
    expected: dict[str, list[float]] = {}
    for prefix, log_prob in prefix_probabilities(log_probs).items():
        for words in word_sequences(prefix, spellings, ()):
            if words in (("a", "b"), ("ab", "a")):
                expected.setdefault(" ".join(words), []).append(log_prob)
    decoder = make_decoder(
        PHONES, DecodingConfig(**UNLIMITED), lexicon=lexicon, grammar=read_grammar(path)
    )
    assert_same(decoder.decode(log_probs), best_scores(expected))


def test_a_word_of_a_grammar_that_cannot_be_spelled_is_named(tmp_path: Path) -> None:
    path = tmp_path / "grammar"
    path.write_text("a b\na x\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"grammar:2: 'x' cannot be spelled"):
        make_decoder(CHARACTERS, DecodingConfig(), grammar=read_grammar(path))


def test_a_grammar_restricts_what_is_heard(
    model_folder: Path, sung: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grammar = tmp_path / "commands.jsgf"
    grammar.write_text("#JSGF V1.0; public <c> = la la la | mi [la] mi;", encoding="utf-8")
    command = ["transcribe", str(model_folder), str(sung), "--grammar", str(grammar)]
    assert main(command) == 0
    assert capsys.readouterr().out.strip() in ("la la la", "mi la mi", "mi mi")
    assert main([*command, "--lm", "words.arpa"]) == 2
    assert "a grammar stands in place of a language model" in capsys.readouterr().err


def test_a_bad_decoding_yaml_is_named(model_folder: Path) -> None:
    (model_folder / "decoding.yaml").write_text("bean: 8\n", encoding="utf-8")
    with pytest.raises(ModelError, match="did you mean beam"):
        Recognizer.load(model_folder, device="cpu")


@pytest.mark.parametrize("helped", [False, True], ids=["best path", "language model"])
def test_hot_words_that_come_later_are_as_those_that_were_there(helped: bool) -> None:
    settings = {"beam": 16, "lm_weight": 0.5} if helped else {}
    model = word_model() if helped else None
    config = DecodingConfig(**settings)
    plain = make_decoder(CHARACTERS, config, language_model=model)
    later = plain.with_hot_words(["ab", "b", "xyz", "ab"], 3.0)
    phrases = [HotPhrase(words=(word,), weight=3.0, where="x") for word in ("ab", "b", "ab")]
    config = config.model_copy(update={"beam": 16})
    first = make_decoder(CHARACTERS, config, language_model=model, hot_words=phrases)
    changed = 0
    for seed in range(20):
        log_probs = random_scores(12, len(CHARACTERS), seed)
        (one,), (other,) = later.decode(log_probs), first.decode(log_probs)
        assert one == other
        changed += plain.decode(log_probs)[0].text != one.text
    assert changed
    # Of words that it cannot write there is nothing to look for, and its own come first.
    assert plain.with_hot_words(["xyz"], 3.0) is plain
    assert first.with_hot_words(["a"], 3.0) is first
