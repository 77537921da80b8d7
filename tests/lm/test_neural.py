import itertools
import json
import math
import string
from pathlib import Path

import pytest
import torch

from asr.cli import main
from asr.config import NeuralLmConfig
from asr.decoding.hypothesis import Hypothesis, SpelledWord
from asr.decoding.rescoring import Rescorer
from asr.errors import DataError, ModelError
from asr.lm.kneser_ney import estimate
from asr.lm.neural import (
    NeuralLm,
    load_neural_lm,
    neural_perplexity,
    sample,
    save_neural_lm,
    train_neural_lm,
)
from asr.lm.ngram import END_ID, START_ID, build_model

SENTENCES = [
    line.split() for line in ("one two three", "two one", "three three two", "one one", "rare one")
]


def trained(sentences: list[list[str]], **settings: object) -> NeuralLm:
    values = {"epochs": 3, "hidden_size": 16, "dropout": 0.1, "batch_size": 2, **settings}
    return train_neural_lm(sentences, NeuralLmConfig.model_validate(values), lambda _: None)


@pytest.fixture(scope="module")
def model() -> NeuralLm:
    return trained(SENTENCES)


def test_the_probabilities_of_what_follows_sum_to_one(model: NeuralLm) -> None:
    words = torch.tensor([[START_ID, 0, 3, 4, 5], [START_ID, 5, 5, 5, 5]])
    log_probs, _ = model(words)
    sums = log_probs.exp().sum(dim=2)
    torch.testing.assert_close(sums, torch.ones_like(sums))
    assert (log_probs[..., START_ID] == -math.inf).all()


def test_all_sentences_of_a_length_and_those_that_are_longer_have_probability_one(
    model: NeuralLm,
) -> None:
    vocabulary = [word for word in model.words if word not in ("<s>", "</s>")]
    ended = [list(s) for size in range(3) for s in itertools.product(vocabulary, repeat=size)]
    total = sum(math.exp(value) for value in model.sentence_log_probs(ended))
    pairs = [list(s) for s in itertools.product(vocabulary, repeat=2)]
    for values in model.word_log_probs(pairs):
        total += math.exp(float(values[:2].sum())) * (1 - math.exp(float(values[2])))
    assert total == pytest.approx(1.0, abs=1e-5)


def test_a_sentence_scores_the_same_alone_and_among_longer_ones(model: NeuralLm) -> None:
    together = model.sentence_log_probs(SENTENCES)
    alone = [model.sentence_log_probs([sentence])[0] for sentence in SENTENCES]
    assert together == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("unit", ["word", "character"])
def test_a_sentence_that_is_always_the_same_is_no_surprise(unit: str) -> None:
    # The second is longer than the gradient goes back.
    characters = list(string.ascii_letters + string.digits + "!?,;:-+*/")
    sentence = ["to", "be", "or", "not", "to", "be"] if unit == "word" else characters
    settings = {"hidden_size": 32, "dropout": 0.0, "learning_rate": 0.02, "epochs": 40}
    learnt = trained([sentence] * 10, unit=unit, batch_size=5, **settings)
    assert neural_perplexity(learnt, [sentence]).with_oov < 1.1
    assert neural_perplexity(learnt, [sentence[::-1]]).with_oov > 10
    text = next(sample(learnt, seed=3, temperature=0.1))
    assert text == (" " if unit == "word" else "").join(sentence)


def test_the_same_seed_learns_and_draws_the_same(model: NeuralLm) -> None:
    again = trained(SENTENCES)
    for name, value in again.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])
    drawn = list(itertools.islice(sample(model, seed=5), 8))
    assert drawn == list(itertools.islice(sample(again, seed=5), 8))
    assert drawn != list(itertools.islice(sample(model, seed=6), 8))
    words = {word for sentence in drawn for word in sentence.split()}
    assert words <= {"one", "two", "three", "rare", "<unk>"}


def test_what_is_stored_is_what_is_read(model: NeuralLm, tmp_path: Path) -> None:
    save_neural_lm(model, tmp_path / "lm")
    read = load_neural_lm(tmp_path / "lm")
    # Where weights lie in memory decides the last bit on some processors.
    expected = model.sentence_log_probs(SENTENCES)
    assert read.sentence_log_probs(SENTENCES) == pytest.approx(expected, abs=1e-5)
    assert read.words == model.words


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("weights.safetensors", b"none", "cannot be read"),
        ("words.txt", b"<unk>\n<s>\n</s>", "do not fit"),
        ("config.yaml", b"hiden_size: 3", "did you mean hidden_size"),
    ],
)
def test_a_damaged_folder_is_named(
    model: NeuralLm, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    save_neural_lm(model, tmp_path / "lm")
    (tmp_path / "lm" / name).write_bytes(content)
    with pytest.raises(ModelError, match=message):
        load_neural_lm(tmp_path / "lm")


def test_no_sentence_is_an_error(model: NeuralLm) -> None:
    for work in (lambda: trained([[]]), lambda: neural_perplexity(model, [])):
        with pytest.raises(DataError, match="no sentence"):
            work()


def hypothesis(text: str, score: float) -> Hypothesis:
    words = tuple(SpelledWord(text=word, first=0, last=0) for word in text.split())
    return Hypothesis(tokens=(), steps=(), log_prob=score, score=score, words=words)


def test_a_share_of_one_puts_the_neural_model_in_the_place_of_the_ngram(model: NeuralLm) -> None:
    ngram = build_model(estimate(SENTENCES, order=2).arpa)
    texts = ["one two", "three", "two one three"]

    def in_nats(text: str) -> float:
        state, total = ngram.start, 0.0
        for word in [*ngram.ids(text.split()), END_ID]:
            total += ngram.score(state, word)
            state = int(ngram.advance([state], [word])[1][0])
        return total * math.log(10)

    acoustic = {"one two": -3.0, "three": -2.0, "two one three": -2.5}
    found = [hypothesis(text, acoustic[text] + 0.8 * in_nats(text)) for text in texts]
    for share in (0.0, 0.5, 1.0):
        rescorer = Rescorer(neural=model, ngram=ngram, lm_weight=0.8, share=share)
        ranked = rescorer.rank(found)
        scores = [h.score or 0.0 for h in ranked]
        assert scores == sorted(scores, reverse=True)
        for one in ranked:
            (neural,) = model.sentence_log_probs([one.text.split()])
            mixed = share * neural + (1 - share) * in_nats(one.text)
            assert one.score == pytest.approx(acoustic[one.text] + 0.8 * mixed, abs=1e-4)


def test_the_command_line_learns_scores_and_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.jsonl"
    rows = [{"id": str(n), "text": " ".join(words)} for n, words in enumerate(SENTENCES * 4)]
    text.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    folder = str(tmp_path / "lm")
    command = ["lm", "train", str(text), "--output", folder]
    assert main([*command, "--lstm", "--epochs", "2", "--hidden-size", "8"]) == 0
    assert "epoch 2/2" in capsys.readouterr().err
    assert main(["lm", "perplexity", folder, str(text)]) == 0
    assert "OOV          0" in capsys.readouterr().out
    assert main(["lm", "sample", folder, "--count", "3", "--seed", "4"]) == 0
    first = capsys.readouterr().out
    assert len(first.splitlines()) == 3
    assert main(["lm", "sample", folder, "--count", "3", "--seed", "4"]) == 0
    assert capsys.readouterr().out == first
    for options in ([], ["--lstm", "--order", "2"]):
        assert main([*command, *options]) == 2
        assert "give --order N for n-grams, or --lstm" in capsys.readouterr().err


def test_a_folder_of_the_users_is_refused_before_anything_is_learnt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, docs = tmp_path / "text.txt", tmp_path / "docs"
    text.write_text("".join(" ".join(words) + "\n" for words in SENTENCES))
    docs.mkdir()
    for name in ("config.yaml", "index.md"):
        (docs / name).write_text("mine")
    command = ["lm", "train", str(text), "--lstm", "--epochs", "1", "--hidden-size", "8"]
    assert main([*command, "--output", str(docs)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{docs}: would be replaced, but asr did not write 'index.md' in it" in line
    assert {path.name: path.read_text() for path in docs.iterdir()} == {
        "config.yaml": "mine",
        "index.md": "mine",
    }
    for _ in range(2):
        assert main([*command, "--output", str(tmp_path / "lm")]) == 0
    assert len(list((tmp_path / "lm").iterdir())) == 3
