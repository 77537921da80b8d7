from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from asr.config import Config, TokenConfig
from asr.model import Network
from asr.text.tokens import BLANK, TokenTable, build_tokens
from asr.training.transfer import TokenMatch, choose_tokens, transfer_weights
from tests.tones import CONFIG


def with_tokens(kind: str, **init: object) -> Config:
    values = CONFIG.model_dump()
    values["tokens"] = {"kind": kind, "vocabulary_size": 12}
    values["training"]["init"] = {"model": "m", **init}
    return Config.model_validate(values)


def phones_of(folder: Path, name: str, lines: str) -> Path:
    path = folder / f"{name}.txt"
    path.write_text(lines, encoding="utf-8")
    return path


def bpe(*texts: str) -> TokenTable:
    return build_tokens(texts, TokenConfig(kind="bpe", vocabulary_size=12))


def tables(kind: str, folder: Path) -> tuple[TokenTable, TokenTable]:
    """Two tables that share some of their symbols, at other places."""
    if kind == "characters":
        return TokenTable((BLANK, " ", "a", "l", "m")), TokenTable((BLANK, "b", "m", "a", "ö"))
    if kind == "bpe":
        return bpe("lala mila", "mi la lami"), bpe("solo mila", "la solo mi")
    config = TokenConfig(kind="phones")
    old = phones_of(folder, "old", "la L AA\nmi M IY\n")
    new = phones_of(folder, "new", "ma M AA\nsol S OW L\n")
    return build_tokens(["la"], config, old), build_tokens(["ma"], config, new)


@pytest.mark.parametrize("kind", ["characters", "bpe", "phones"])
def test_rows_of_the_output_go_by_symbol_and_all_else_as_it_is(kind: str, tmp_path: Path) -> None:
    old, new = tables(kind, tmp_path)
    torch.manual_seed(1)
    source, network = Network(CONFIG, len(old)), Network(CONFIG, len(new))
    source.frontend.set_statistics(torch.arange(20.0), torch.arange(1.0, 21.0))
    before = {name: tensor.clone() for name, tensor in source.state_dict().items()}
    transfer_weights(source, network, TokenMatch(old.symbols, new.symbols))
    after = network.state_dict()
    fates = set()
    for token, symbol in enumerate(new.symbols):
        weight, bias = (after[f"encoder.output.{name}"][token] for name in ("weight", "bias"))
        rows, biases = (before[f"encoder.output.{name}"] for name in ("weight", "bias"))
        if symbol in old.symbols:
            row = old.symbols.index(symbol)
            assert torch.equal(weight, rows[row])
            assert torch.equal(bias, biases[row])
            fates.add("moved" if row != token else "at its place")
        else:
            torch.testing.assert_close(weight, sum(rows[1:]) / len(rows[1:]))
            torch.testing.assert_close(bias, sum(biases[1:]) / len(biases[1:]) - 2)
            fates.add("new")
    assert fates == {"moved", "at its place", "new"}
    for name, tensor in before.items():
        assert torch.equal(source.state_dict()[name], tensor)
        if not name.startswith("encoder.output."):
            assert torch.equal(after[name], tensor), name


def test_a_table_says_what_became_of_each_token(tmp_path: Path) -> None:
    match = TokenMatch((BLANK, " ", "a", "b"), (BLANK, "ä", "b", " "))
    match.write(tmp_path / "init.tsv")
    assert (tmp_path / "init.tsv").read_text(encoding="utf-8").splitlines() == [
        "token\tfate\told\tnew",
        "<blank>\tcopied\t0\t0",
        "ä\tnew\t\t1",
        "b\tcopied\t3\t2",
        "<space>\tcopied\t1\t3",
        "a\tdropped\t2\t",
    ]
    assert match.summary() == "2 copied, 1 new (ä), 1 dropped (a)"
    more = TokenMatch((BLANK,), (BLANK, *"abcdefg"))
    assert more.summary() == "0 copied, 7 new (a, b, c, d, e, ...), 0 dropped"


@pytest.mark.parametrize(
    ("old", "new", "is_foreign"),
    [
        ((BLANK, " ", "a"), (BLANK, " ", "ж"), True),
        ((BLANK, "<unk>", "\u2581", "a"), (BLANK, "<unk>", "\u2581", "ж"), True),
        ((BLANK, " ", "a"), (BLANK, " ", "a", "ж"), False),
    ],
)
def test_tables_without_a_letter_in_common_are_foreign(
    old: Sequence[str], new: Sequence[str], is_foreign: bool
) -> None:
    assert TokenMatch(old, new).is_foreign == is_foreign


CHARACTERS = TokenTable((BLANK, " ", "a", "l", "m", "z"))


@pytest.mark.parametrize(
    ("texts", "is_kept", "symbols"),
    [
        (["la al"], True, " almz"),
        (["la öl é"], True, " almzéö"),
        (["жю ш", "la"], True, " almzжшю"),
        (["жю ш"], True, " жшю"),
        (["la öl"], False, " alö"),
    ],
)
def test_characters_are_kept_and_added_to(texts: list[str], is_kept: bool, symbols: str) -> None:
    config = with_tokens("characters", keep_tokens=is_kept)
    table = choose_tokens(CHARACTERS, lambda: texts, config, None)
    assert table.symbols == (BLANK, *symbols)


def test_byte_pair_units_are_kept_where_they_spell_the_transcripts() -> None:
    source = bpe("lala mila", "mi la lami")
    texts = ["mila la", "mi"]
    assert choose_tokens(source, lambda: texts, with_tokens("bpe"), None) is source
    config = with_tokens("bpe", keep_tokens=False)
    other = choose_tokens(source, lambda: ["lami lala mi", "mimi la mala"], config, None)
    assert other.symbols == bpe("lami lala mi", "mimi la mala").symbols != source.symbols
    texts = ["solo mila", "la solo mi"]
    learnt = choose_tokens(source, lambda: texts, with_tokens("bpe"), None)
    assert learnt.symbols == bpe(*texts).symbols
    assert learnt.encode("solo")


def test_phones_are_those_of_the_pronunciations(tmp_path: Path) -> None:
    source, _ = tables("phones", tmp_path)
    path = phones_of(tmp_path, "mine", "la L AA\n")
    table = choose_tokens(source, lambda: ["la"], with_tokens("phones"), path)
    assert table.symbols == (BLANK, "AA", "L")
