from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.config import TokenConfig
from asr.errors import DataError, ModelError
from asr.text.tokens import BLANK, TokenTable, build_tokens, normalize, read_tokens, write_tokens

TEXTS = ["one two three", "four five", "öl für élan", "ta ra ta ra ta", "a b c d e f"]
CHARACTERS = build_tokens(TEXTS, TokenConfig())
BPE = build_tokens(TEXTS * 20, TokenConfig(kind="bpe", vocabulary_size=40))


@given(st.text(alphabet="abcdefiortuwhvnö é"))
def test_text_survives_its_characters(text: str) -> None:
    assert CHARACTERS.decode(CHARACTERS.encode(text)) == normalize(text)


@given(st.text(alphabet="abcdefiortuwhvnö é"))
def test_text_survives_its_byte_pair_units(text: str) -> None:
    assert BPE.decode(BPE.encode(text)) == normalize(text)


def test_the_blank_is_never_in_a_transcript() -> None:
    assert CHARACTERS.symbols[0] == BPE.symbols[0] == BLANK
    for table in (CHARACTERS, BPE):
        assert 0 not in table.encode("one two")


def test_composed_and_combining_characters_are_the_same() -> None:
    assert CHARACTERS.encode("e\u0301lan") == CHARACTERS.encode("élan")


@pytest.mark.parametrize("table", [CHARACTERS, BPE], ids=["characters", "bpe"])
def test_an_unknown_character_is_an_error_with_its_count(table: object) -> None:
    with pytest.raises(DataError, match=r"'ß' \(U\+00DF, 2 times\)"):
        table.encode("ßo ßo")
    with pytest.raises(DataError, match=r"dev\.jsonl: characters without a token: 'ß'"):
        table.check(["one", "ß"], "dev.jsonl")
    table.check(TEXTS, "train.jsonl")


@pytest.mark.parametrize("table", [CHARACTERS, BPE], ids=["characters", "bpe"])
def test_a_table_read_back_is_the_same(table: object, tmp_path: Path) -> None:
    write_tokens(table, tmp_path)
    back = read_tokens(tmp_path)
    assert back.symbols == table.symbols
    assert back.encode("one four a b") == table.encode("one four a b")


def test_empty_transcripts_make_no_table() -> None:
    with pytest.raises(DataError, match="every transcript is empty"):
        build_tokens(["", " "], TokenConfig())


def test_a_vocabulary_too_large_for_the_text_is_an_error() -> None:
    with pytest.raises(DataError, match=r"tokens\.vocabulary_size 5000: Vocabulary size too high"):
        build_tokens(TEXTS, TokenConfig(kind="bpe", vocabulary_size=5000))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("a\nb\n", r"tokens.txt:1: <blank> is expected", id="no blank"),
        pytest.param("<blank>\na\na\n", "occurs twice", id="twice"),
        pytest.param(None, "cannot be read", id="missing"),
    ],
)
def test_a_broken_table_is_named(content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "tokens.txt").write_text(content)
    with pytest.raises(ModelError, match=message):
        read_tokens(tmp_path)


PRONUNCIATIONS = "two T UW\nto T AX\nto T UW\nto T UW\none W AX N\n"


def phone_table(tmp_path: Path) -> TokenTable:
    path = tmp_path / "dictionary"
    path.write_text(PRONUNCIATIONS, encoding="utf-8")
    return build_tokens(["one two"], TokenConfig(kind="phones"), path)


def test_phones_are_those_of_the_first_pronunciation(tmp_path: Path) -> None:
    table = phone_table(tmp_path)
    assert table.symbols == ("<blank>", "AX", "N", "T", "UW", "W")
    assert table.decode(table.encode("to  two one")) == "T AX T UW W AX N"
    assert table.spellings("to") == [(3, 1), (3, 4)]
    write_tokens(table, tmp_path)
    assert read_tokens(tmp_path) == table


def test_words_without_a_pronunciation_are_named(tmp_path: Path) -> None:
    table = phone_table(tmp_path)
    with pytest.raises(DataError, match=r"dev: words without a pronunciation: 'four' \(2 times\)"):
        table.check(["one four", "four"], "dev")
    with pytest.raises(DataError, match="'four'"):
        table.encode("four")
    with pytest.raises(DataError, match=r"nowhere with `word phone ...` lines is missing"):
        build_tokens(["one"], TokenConfig(kind="phones"), tmp_path / "nowhere")
