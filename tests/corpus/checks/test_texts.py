import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.corpus.checks.findings import Finding
from asr.corpus.checks.texts import Texts, check_characters, check_texts
from asr.corpus.manifest import Utterance
from asr.text.tokens import TokenTable


def texts_of(*texts: str | None) -> Texts:
    return Texts(
        "m",
        [
            Utterance(id=str(index), audio_filepath=Path("a.wav"), duration=1.0, text=text)
            for index, text in enumerate(texts)
        ],
    )


def kinds_of(*texts: str | None) -> list[str]:
    return [finding.kind for finding in check_texts(texts_of(*texts))]


@given(st.lists(st.text() | st.none(), max_size=30))
def test_any_texts_are_checked_and_findings_are_of_their_utterances(texts):
    for finding in check_texts(texts_of(*texts)):
        if finding.kind == "no-texts":
            assert set(texts) == {None}
        else:
            assert texts[int(finding.utterance or "")] is not None or finding.kind == "no-text"


def test_a_corpus_without_any_text_is_said_once():
    assert kinds_of(None, None) == ["no-texts"]
    assert kinds_of(None, "a") == ["no-text"]
    assert kinds_of() == []


@given(st.text())
def test_what_reading_mends_is_said_exactly_where_it_changes_a_text(text):
    kinds = kinds_of(text)
    if not text.strip():
        assert kinds == ["empty-text"]
        return
    assert ("not-nfc" in kinds) == (unicodedata.normalize("NFC", text) != text)
    assert ("spaces" in kinds) == (" ".join(text.split()) != text)


@pytest.mark.parametrize(
    ("usual", "odd", "kind"),
    [
        pytest.param("good day", "GOOD DAY", "case", id="capitals among small letters"),
        pytest.param("GOOD DAY", "Good day", "case", id="small letters among capitals"),
        pytest.param("one two", "one 2", "digits", id="digits among words"),
    ],
)
def test_a_habit_is_odd_only_where_it_is_rare(usual, odd, kind):
    assert kinds_of(*[usual] * 95, *[odd] * 5) == [kind] * 5
    assert kinds_of(*[usual] * 80, *[odd] * 20) == []
    assert kinds_of(*[usual] * 5, odd) == []  # too few to say what is usual


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", id="Persian with a joiner"
        ),
        pytest.param(
            "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8", id="Japanese, three scripts"
        ),
        pytest.param("\u043f\u0440\u0438\u0432\u0435\u0442 hello", id="a word of each script"),
        pytest.param("it's twenty-one o'clock, Mr. \u00d6zg\u00fcr", id="punctuation and umlauts"),
    ],
)
def test_ordinary_writing_of_the_world_has_no_findings(text):
    assert kinds_of(text) == []


def test_characters_and_words_that_a_table_lacks_are_counted():
    def findings(table: TokenTable, *texts: str) -> list[Finding]:
        return list(check_characters(texts_of(*texts), table.count_unknown))

    characters = TokenTable(("<blank>", " ", "a", "b"))
    total, first, last = findings(characters, "ab c", "a b", "c\u00e7c")
    assert total.message == "'c' (U+0063) 3 times, '\u00e7' (U+00E7) 1 times"
    assert (total.utterance, first.utterance, last.utterance) == (None, "0", "2")
    assert (first.value, last.value) == (1, 3)
    phones = TokenTable(("<blank>", "EY"), pronunciations={"a": [(1,)]})
    total, only = findings(phones, "a a", "a bee")
    assert (total.message, only.utterance) == ("'bee' 1 times", "1")
