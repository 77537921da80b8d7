from pathlib import Path

import pytest

from asr.cli import main
from asr.config import TokenConfig
from asr.corpus import pronunciation
from asr.decoding.lexicon import pronunciation_lexicon
from asr.errors import DataError
from asr.text import build_tokens

pytest.importorskip("espeakng_loader")


def test_words_are_spoken_as_in_the_dictionaries_of_their_language() -> None:
    words = ["church", "bird's", "the", "1", "..."]
    spoken = [" ".join(phones) for phones in pronunciation.pronounce(words, "en-us")]
    assert spoken == [
        "t\u0283 \u025c\u02d0 t\u0283",
        "b \u025c\u02d0 d z",
        "\u00f0 \u0259",
        "w \u028c n",
        "",
    ]
    assert pronunciation.pronounce(["eins"], "de") == [["a\u026a", "n", "s"]]
    assert pronunciation.pronounce([], "en-us") == []


def test_a_language_that_espeak_lacks_is_named() -> None:
    with pytest.raises(DataError, match="language xx: eSpeak NG has none of that name"):
        pronunciation.pronounce(["a"], "xx")


def test_a_lexicon_is_what_a_table_of_phones_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, lexicon = tmp_path / "words.txt", tmp_path / "lexicon.txt"
    words.write_text("church\nbird's 17\n...\n", encoding="utf-8")
    arguments = ["lm", "lexicon", str(words), "--output", str(lexicon)]
    assert main([*arguments, "--language", "en-us"]) == 0
    output = capsys.readouterr()
    assert output.out.split() == ["words", "2", "of", "5", "different", "phones"]
    assert "note: words without a sound are left out: 1, as '...'" in output.err
    table = build_tokens(["church bird's"], TokenConfig(kind="phones"), lexicon)
    spelled = pronunciation_lexicon(table)
    assert spelled is not None
    assert spelled.words == ("church", "bird's")
    lexicon.unlink()
    assert main([*arguments, "--language", "xx"]) == 2
    assert "asr: language xx" in capsys.readouterr().err
    words.write_text("...\n", encoding="utf-8")
    assert main([*arguments, "--language", "en-us"]) == 2
    assert "words.txt: none of its words is spoken in en-us" in capsys.readouterr().err
    assert not lexicon.exists()
