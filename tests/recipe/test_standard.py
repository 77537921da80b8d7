import lzma
from pathlib import Path

import pytest

from asr.config import Config, DecodingConfig, TokenConfig, parse_settings
from asr.corpus.manifest import Utterance, write_manifest
from asr.decoding.options import write_decoding
from asr.errors import ConfigError, DataError
from asr.lm import estimate, read_language_model, write_arpa
from asr.lm.arpa import read_arpa
from asr.lm.ngram import perplexity
from asr.model.folder import write_model
from asr.recipe import Stage, Work, model_stages
from asr.recipe.ledger import Ledger
from asr.text.tokens import build_tokens

TEXT = "".join(f"{line}\n" for line in ("a b c", "b c a b", "c a d", "a b e", "b c a") * 3)


DEV = ("a b c qq", "qq rr a", "rr qq b c", "c a qq")
MUCH = ("qq rr a", "rr qq", "a qq rr", "qq b c", "rr qq b") * 4


def lm_job(folder: Path, lm: dict[str, object]) -> tuple[Stage, Work, list[str]]:
    """The stage, what it runs on, and what it will say."""
    path = folder / "big.txt.xz"
    path.write_bytes(lzma.compress(TEXT.encode()))
    config = parse_settings({"lm": {"text": str(path), "order": 3, **lm}}, Config, "test")
    write_manifest(
        [
            Utterance(id=str(n), audio_filepath=Path(f"{n}.wav"), duration=1.0, text=text)
            for n, text in enumerate(DEV)
        ],
        folder / "manifests/dev.jsonl",
    )
    messages: list[str] = []
    stage = next(stage for stage in model_stages("manifests") if stage.name == "lm")
    return stage, Work(folder=folder, config=config, report=messages.append), messages


def estimate_lm(folder: Path, lm: dict[str, object]) -> list[str]:
    """What stage `lm` says; it writes lm/lm.arpa.gz."""
    stage, work, messages = lm_job(folder, lm)
    assert stage.check is not None
    stage.check(work)
    stage.run(work)
    return messages


def test_the_language_model_of_a_big_text_has_the_size_asked_for(tmp_path: Path) -> None:
    estimate_lm(tmp_path, {"vocabulary": 3})
    whole = read_arpa(tmp_path / "lm/lm.arpa.gz")
    assert whole.words == ("<unk>", "<s>", "</s>", "a", "b", "c")
    most = len(whole.orders[0]) + 5
    messages = estimate_lm(tmp_path, {"vocabulary": 3, "max_ngrams": most})
    orders = [len(ngrams) for ngrams in read_arpa(tmp_path / "lm/lm.arpa.gz").orders]
    assert most - 3 <= sum(orders) <= most < sum(map(len, whole.orders))
    assert messages == [f"15 sentences; n-grams by order: {', '.join(map(str, orders))}"]


def test_fewer_ngrams_than_words_name_the_setting(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"lm\.max_ngrams: 2 n-grams are fewer than the 8 words"):
        estimate_lm(tmp_path, {"max_ngrams": 2})


def write_ngrams(path: Path, sentences: tuple[str, ...], unit: str = "word") -> Path:
    arpa = estimate([s.split() if unit == "word" else list(s) for s in sentences], order=2).arpa
    write_arpa(arpa, path)
    return path


def test_ngrams_are_mixed_with_those_of_much_text(tmp_path: Path) -> None:
    base = write_ngrams(tmp_path / "much.arpa", MUCH)
    estimate_lm(tmp_path, {})
    words = [sentence.split() for sentence in DEV]
    without, alone = (
        perplexity(read_language_model(path), words) for path in (tmp_path / "lm/lm.arpa.gz", base)
    )
    messages = estimate_lm(tmp_path, {"base": str(base)})
    mixed = perplexity(read_language_model(tmp_path / "lm/lm.arpa.gz"), words)
    assert without.num_oov > 0
    assert mixed.num_oov == 0
    assert mixed.without_oov < alone.without_oov
    assert messages[0].startswith(f"{base} is mixed in with weight 0.")
    lacking = sum(word in ("qq", "rr") for sentence in words for word in sentence)
    assert messages[0].endswith(f" with {lacking}")
    assert set(read_arpa(tmp_path / "lm/lm.arpa.gz").words) >= {*"abcde", "qq", "rr"}


@pytest.fixture
def starter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of one called `much`, with n-grams; it has no network."""
    folder = tmp_path / "assets/much"
    write_model(folder, Config(), build_tokens(["ab"], TokenConfig()), {})
    write_decoding(folder, DecodingConfig(), lm=write_ngrams(tmp_path / "m.arpa", MUCH))
    monkeypatch.setattr("asr.model.folder.STARTERS", tmp_path / "assets")
    return folder


def test_a_starter_lends_its_ngrams(starter: Path, tmp_path: Path) -> None:
    messages = estimate_lm(tmp_path, {"base": "much"})
    assert messages[0].startswith("much is mixed in with weight 0.")
    assert "qq" in read_arpa(tmp_path / "lm/lm.arpa.gz").words
    stage, work, _ = lm_job(tmp_path, {"base": "much"})
    before = Ledger((stage,), work).inputs(stage)
    assert Ledger((stage,), work).inputs(stage) == before
    write_ngrams(starter / "lm.arpa", MUCH[:3])
    assert Ledger((stage,), work).inputs(stage) != before


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("nowhere", r"^lm\.base: nowhere: not a model folder .*; starters are much$"),
        ("without", r"^lm\.base: .*without: has no language model; name an ARPA file$"),
        ("characters.arpa", r"^lm\.base: .*characters\.arpa: of characters, and lm\.unit is word$"),
        ("foreign.arpa", None),
        ("config.yaml", r"config\.yaml"),
    ],
)
def test_ngrams_that_cannot_be_mixed_with_are_said(
    base: str, message: str | None, starter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "without", Config(), build_tokens(["ab"], TokenConfig()), {})
    write_ngrams(tmp_path / "characters.arpa", ("abc", "bcd"), "character")
    write_ngrams(tmp_path / "foreign.arpa", ("xx yy", "yy zz"))
    (tmp_path / "config.yaml").write_bytes((starter / "config.yaml").read_bytes())
    if message is None:  # the transcripts' own words are enough
        assert "with weight 0.00: " in estimate_lm(tmp_path, {"base": base})[0]
        return
    with pytest.raises(DataError, match=message):
        estimate_lm(tmp_path, {"base": base})


def test_a_base_wants_ngrams_of_its_own() -> None:
    with pytest.raises(ConfigError, match="base without order: there are no n-grams"):
        parse_settings({"lm": {"base": "english"}}, Config, "test")
