import json
import sys
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asr.errors import AsrError, ConfigError, DataError
from asr.scoring.errors import score
from asr.scoring.transcripts import read_pair, read_transcripts, read_utt2spk
from asr.text import normalizers
from asr.text.normalizers import NORMALIZERS, find_normalizer

SPEECHBRAIN = """\
%WER 50.00 [ 3 / 6, 1 ins, 1 del, 1 sub ]
%SER 66.67 [ 2 / 3 ]
Scored 3 sentences, 0 not present in hyp.
================================================================================
ALIGNMENTS

Format:
<utterance-id>, WER DETAILS
<eps> ; reference  ; on ; the ; first ;  line
  I   ;     S      ; =  ;  =  ;   S   ;   D  
 and  ; hypothesis ; on ; the ; third ; <eps>
================================================================================
u1, %WER 66.67 [ 2 / 3, 1 ins, 0 del, 1 sub ]
<eps> ; A ; B ; C
  I   ; = ; S ; =
  X   ; A ; Z ; C
================================================================================
u2, %WER 0.00 [ 0 / 0, 0 ins, 0 del, 0 sub ]



================================================================================
u3, %WER 33.33 [ 1 / 3, 0 ins, 1 del, 0 sub ]
D ; E ;   F  
= ; = ;   D  
D ; E ; <eps>
"""  # noqa: W291

ICEFALL = "u1-1:\tref=['A', \"B'S\"]\nu1-1:\thyp=['A']\nu2:\tref=[]\nu2:\thyp=['X']\n"

REFERENCE: Literal["reference"] = "reference"
HYPOTHESIS: Literal["hypothesis"] = "hypothesis"


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows(*values: dict[str, object]) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


@pytest.mark.parametrize(
    ("name", "content", "references", "hypotheses"),
    [
        pytest.param("text", "u1 a  b\nu2\n", {"u1": "a  b", "u2": ""}, None, id="kaldi"),
        pytest.param("x.trn", "a b (u1)\n(u2)\n", {"u1": "a b", "u2": ""}, None, id="trn"),
        pytest.param("x.trn", ";; no\n(laughs) b (u1)\n", {"u1": "(laughs) b"}, None, id="round"),
        pytest.param("recogs.txt", ICEFALL, {"u1-1": "A B'S", "u2": ""},
                     {"u1-1": "A", "u2": "X"}, id="icefall"),
        pytest.param("wer.txt", SPEECHBRAIN, {"u1": "A B C", "u2": "", "u3": "D E F"},
                     {"u1": "X A Z C", "u2": "", "u3": "D E"}, id="speechbrain"),
        pytest.param("m.jsonl", rows({"id": "u", "text": "a", "pred_text": ""}), {"u": "a"},
                     {"u": ""}, id="manifest"),
        pytest.param("m", rows({"audio_filepath": "b/c.wav", "text": "a", "pred_text": "b"}),
                     {"b/c": "a"}, {"b/c": "b"}, id="manifest without ids or suffix"),
        pytest.param("text", "\ufeffu1 a\r\nu2 b\r\n", {"u1": "a", "u2": "b"}, None,
                     id="byte order mark and Windows line ends"),
        pytest.param("text", "u1 a\u2028b\x0bc\n", {"u1": "a\u2028b\x0bc"}, None,
                     id="separators that do not end lines"),
        pytest.param("text", "", {}, None, id="nothing"),
        pytest.param("text", "u1 a\nu:\tref=[]\n", {"u1": "a", "u:": "ref=[]"}, None,
                     id="the first line says what a file is"),
    ],
)  # fmt: skip
def test_a_file_is_read(
    tmp_path: Path,
    name: str,
    content: str,
    references: dict[str, str],
    hypotheses: dict[str, str] | None,
) -> None:
    path = write(tmp_path, name, content)
    assert read_transcripts(path, REFERENCE).texts == references
    assert read_transcripts(path, HYPOTHESIS).texts == (hypotheses or references)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("text", "u1 a\nu1 b\n", r"text:2: id u1 stands in line 1", id="duplicate"),
        pytest.param("text", b"u1 a\nu2 \xe9\n", r"text:2: not UTF-8 .*iconv -f ISO", id="Latin"),
        pytest.param("text", "u1 a\n".encode("utf-16"), r"text:1: .*iconv -f UTF-16 ", id="UTF-16"),
        pytest.param("text", "u1\nu2 a\n".encode("utf-16-le"), r"text:1: .*zero byte", id="bare"),
        pytest.param("text", "u1 a\ru2 b\r", r"text:1: a carriage return", id="old Mac"),
        pytest.param("x.trn", "a b\n", r"x.trn:1: `words \(utterance-id\)`", id="no id"),
        pytest.param("x.trn", "a (u 1)\n", r"x.trn:1: the id 'u 1' has white space", id="space"),
        pytest.param("x.trn", "\na { b (u)\n", r"x.trn:2: a \{ without", id="open brace"),
        pytest.param("x.stm", "r A s 0.0\n", r"x.stm:1: `file channel speaker", id="short stm"),
        pytest.param("x.stm", "r A s 1 0 a\n", r"x.stm:1: the segment ends", id="backwards"),
        pytest.param("x.stm", "r A s 0 nan a\n", r"x.stm:1: 'nan' is not a time", id="nan"),
        pytest.param("x.stm", f"r A s 0 {'9' * 400} a\n", r"x.stm:1: .* is too long", id="inf"),
        pytest.param("m.jsonl", '{"id": "a"}\n', r"m.jsonl:1: key text is missing", id="no text"),
        pytest.param("m.jsonl", '{"text": "a"}\n', r"m.jsonl:1: neither id nor", id="nameless"),
        pytest.param("m.jsonl", '{"id": "a", "text": 1}\n', r"m.jsonl:1: text 1 is", id="number"),
        pytest.param("m.jsonl", '{"id": "\\ud800", "text": ""}\n', r"half of a", id="half"),
        pytest.param("m.jsonl", "[" * 100_000, r"m.jsonl:1: not JSON", id="deep"),
        pytest.param("m.jsonl", "[1]\n", r"m.jsonl:1: a JSON object", id="list"),
        pytest.param("r.txt", "u:\tref=['a'\n", r"r.txt:1: not a list of words", id="open list"),
        pytest.param("r.txt", "u:\tref=[1]\n", r"r.txt:1: not a list of words", id="numbers"),
        pytest.param("r.txt", ICEFALL + "u3 a\n", r"r.txt:5: `id:<TAB>ref", id="mixed"),
        pytest.param("w.txt", SPEECHBRAIN[:200], r"w.txt: a summary without", id="summary only"),
        pytest.param("w.txt", SPEECHBRAIN.replace("D ; E ;   F", "D ; E"),
                     r"w.txt:\d+: an alignment of 3", id="a word is gone"),
    ],
)  # fmt: skip
def test_a_malformed_file_is_refused_by_file_and_line(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    path = write(tmp_path, name, content)
    with pytest.raises(DataError, match=message) as caught:
        read_transcripts(path, REFERENCE)
    assert "\n" not in str(caught.value)


def test_a_hypothesis_without_words_does_not_lose_speechbrains_file(tmp_path: Path) -> None:
    # Of "".split(" ") SpeechBrain makes one word without letters.
    empty = (
        "u4, %WER 100.00 [ 2 / 2, 0 ins, 1 del, 1 sub ]\nG ;   H  \nS ;   D  \n  ; <eps>\n"
        "=====\nu5, %WER 100.00 [ 1 / 1, 0 ins, 0 del, 1 sub ]\nI\nS\n \n=====\n"
        "u6, %WER 100.00 [ 1 / 1, 0 ins, 1 del, 0 sub ]\n  J  \n  D  \n<eps>\n"
    )
    path = write(tmp_path, "wer.txt", SPEECHBRAIN + "=" * 80 + "\n" + empty)
    assert read_transcripts(path, HYPOTHESIS).texts == {
        "u1": "X A Z C",
        "u2": "",
        "u3": "D E",
        **dict.fromkeys(("u4", "u5", "u6"), ""),
    }
    assert read_transcripts(path, REFERENCE).texts["u4"] == "G H"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone: No such file"):
        read_transcripts(tmp_path / "gone", REFERENCE)


def test_a_manifest_of_hypotheses_needs_pred_text(tmp_path: Path) -> None:
    path = write(tmp_path, "m.jsonl", rows({"id": "u", "text": "a"}))
    with pytest.raises(DataError, match="no line has the key pred_text"):
        read_transcripts(path, HYPOTHESIS)


def test_a_manifests_line_without_pred_text_is_a_missing_hypothesis(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "m.jsonl",
        rows({"id": "u", "text": "a", "pred_text": "a"}, {"id": "v", "text": "b c"}),
    )
    pair = read_pair(path, path)
    assert score(pair.references.texts, pair.hypotheses).missing == ("v",)


def test_a_manifest_gives_speakers_and_columns(tmp_path: Path) -> None:
    path = write(tmp_path, "m.jsonl", rows({"id": "u", "text": "a", "speaker": "s", "age": 7}))
    read = read_transcripts(path, REFERENCE)
    assert read.speakers == {"u": "s"}
    assert read.columns["u"]["age"] == 7


@pytest.mark.parametrize(
    ("reference", "hypothesis", "errors", "length"),
    [
        ("a { b / @ } (u)\n", "a (u)\n", 0, 1),
        ("a { c / @ } d (u)\n", "a { c / @ } d (u)\n", 0, 3),
        ("a d (u)\n", "a { c / @ } d (u)\n", 0, 2),
        ("a d e (u)\n", "a { x y / d / z } e (u)\n", 0, 3),
        ("a { b / c } d (u)\n", "x { y / c } d (u)\n", 1, 3),
        ("(u)\n", "{ a b / c } (u)\n", 1, 0),
    ],
)
def test_both_sides_of_a_trn_may_have_alternates(
    tmp_path: Path, reference: str, hypothesis: str, errors: int, length: int
) -> None:
    pair = read_pair(write(tmp_path, "r.trn", reference), write(tmp_path, "h.trn", hypothesis))
    words = score(pair.references.texts, pair.hypotheses).words
    assert (words.errors, words.reference_length) == (errors, length)


STM = """\
;; a comment
rec A ann 0.0 2.0 <o,f0> hello world
rec A ben 3.0 5.0 { good / nice / @ } morning
rec A ann 5.0 6.0 IGNORE_TIME_SEGMENT_IN_SCORING
rec B ann 0.0 9.0 <o,f1> over there
"""
CTM = """\
rec A 3.2 0.2 morning 0.9
rec A 0.1 0.2 hello 0.8
rec A 0.5 0.2 word
rec A 2.2 0.2 gap
rec A 2.8 0.1 early
rec A 5.5 0.1 noise
"""


def test_words_go_to_their_segments_by_time(tmp_path: Path) -> None:
    pair = read_pair(write(tmp_path, "r.stm", STM), write(tmp_path, "h.ctm", CTM))
    assert pair.hypotheses == {
        "rec-A-0000000-0002000": "hello word",
        "rec-A-0003000-0005000": "gap early morning",
        "rec-B-0000000-0009000": "",
    }
    assert pair.references.speakers["rec-A-0003000-0005000"] == "ben"
    assert pair.references.columns["rec-A-0003000-0005000"] == {"duration": 2.0}
    assert pair.references.columns["rec-B-0000000-0009000"] == {"duration": 9.0, "labels": "o,f1"}
    assert pair.notes == ("1 words in segments that are not to be scored",)
    scored = score(pair.references.texts, pair.hypotheses)
    assert (scored.words.errors, scored.words.reference_length) == (5, 6)


def test_words_between_segments_go_to_the_following_one_or_to_the_nearest(tmp_path: Path) -> None:
    stm = write(tmp_path, "r.stm", "r A s 1 2 a\nr A s 5 6 b\n")
    ctm = write(tmp_path, "h.ctm", "r A 0 .2 u\nr A 1 .2 a\nr A 1.9 .2 v\nr A 5 .2 b\nr A 8 .2 w\n")
    following = read_pair(stm, ctm).hypotheses
    assert [*following.values()] == ["u a", "v b w"]
    assert [*read_pair(stm, ctm, gaps="nearest").hypotheses.values()] == ["u a v", "b w"]


ALTERNATES = """\
rec A * * <ALT_BEGIN>
rec A 0.1 0.2 um
rec A * * <ALT>
rec A 0.1 0.1 uh
rec A 0.2 0.1 huh
rec A * * <alt>
rec A * * <ALT_END>
rec A 0.5 0.2 hello
rec A 1.0 0.2 world
"""


@pytest.mark.parametrize(
    ("said", "errors"), [("um", 0), ("uh huh", 0), ("", 0), ("ah", 1), ("uh", 1)]
)
def test_a_ctm_may_have_alternates(tmp_path: Path, said: str, errors: int) -> None:
    stm = write(tmp_path, "r.stm", f"rec A ann 0.0 2.0 <o> {said} hello world\n")
    pair = read_pair(stm, write(tmp_path, "h.ctm", ALTERNATES))
    assert score(pair.references.texts, pair.hypotheses).words.errors == errors


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("r A * * <ALT_BEGIN>\nr A 0 1 a\n", r"h.ctm:1: <ALT_BEGIN> without its <ALT_END>"),
        ("r A 0 1 a\nr A * * <ALT>\n", r"h.ctm:2: <ALT> without its <ALT_BEGIN>"),
        ("r A * * <ALT_BEGIN>\nr A * * <ALT_BEGIN>\n", r"h.ctm:2: <ALT_BEGIN> without its <ALT_"),
        ("r A * * <ALT_BEGIN>\nr A * * <ALT_END>\n", r"h.ctm:2: alternates without a word"),
        ("r A * * <ALT_BEGIN>\nr B 0 1 a\nr A * * <ALT_END>\n", r"h.ctm:3: .* two files or"),
        ("r A 0 1 a 0.5 lex s x\n", r"h.ctm:1: `file channel begin duration word \[conf"),
    ],
)
def test_a_malformed_ctm_is_refused_by_line(tmp_path: Path, lines: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_transcripts(write(tmp_path, "h.ctm", lines), HYPOTHESIS)


def test_of_rich_transcription_the_words_count(tmp_path: Path) -> None:
    stm = write(tmp_path, "r.stm", "rec 1 ann 0.0 2.0 <o> hello world\n")
    ctm = write(
        tmp_path,
        "h.ctm",
        "rec 1 0.1 0.2 hello 0.9 lex ann\nrec 1 0.5 0.2 %uh NA fp ann\n"
        "rec 1 0.7 0.2 {LAUGH} 0.3 NON-LEX unknown\nrec 1 1.0 0.2 world 0.9 LEX ann\n",
    )
    pair = read_pair(stm, ctm)
    assert [*pair.hypotheses.values()] == ["hello world"]
    assert pair.notes == ("2 tokens of another type than lex left out",)


def test_words_in_other_recordings_are_refused_or_left_out(tmp_path: Path) -> None:
    reference = write(tmp_path, "r.stm", STM)
    hypothesis = write(tmp_path, "h.ctm", CTM + "other A 0 1 x\n")
    with pytest.raises(DataError, match=r"h.ctm:7: 1 words .* \(first: other A\)"):
        read_pair(reference, hypothesis)
    assert "left out" in read_pair(reference, hypothesis, allow_extra=True).notes[1]


def test_a_ctm_is_joined_with_other_references_by_recording(tmp_path: Path) -> None:
    pair = read_pair(write(tmp_path, "text", "rec hello world\n"), write(tmp_path, "h.ctm", CTM))
    assert pair.hypotheses == {"rec": "hello word gap early morning noise"}


def test_a_ctm_with_two_channels_needs_an_stm(tmp_path: Path) -> None:
    path = write(tmp_path, "h.ctm", "rec A 0 1 a\nrec B 0 1 b\n")
    with pytest.raises(DataError, match=r"h.ctm:2: rec has channel B beside A"):
        read_pair(write(tmp_path, "text", "rec a b\n"), path)


def test_a_ctm_cannot_be_the_reference(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"references are a .stm"):
        read_transcripts(write(tmp_path, "h.ctm", CTM), REFERENCE)


def test_utt2spk_is_read_and_checked(tmp_path: Path) -> None:
    assert read_utt2spk(write(tmp_path, "good", "u1 s\nu2 t\n")) == {"u1": "s", "u2": "t"}
    with pytest.raises(DataError, match=r"bad:1: `<utterance-id> <speaker>` is expected"):
        read_utt2spk(write(tmp_path, "bad", "u1 s t\n"))


NAMES = ["text", "x.trn", "x.stm", "x.ctm", "x.jsonl", "recogs.txt"]
PIECES = st.sampled_from(
    ["u1", "u2", " ", "\t", "\n", "\r\n", "\r", "(", ")", "{", "/", "}", "@", "a", "é", "rec A",
     "0.5", "1e400", "-1", "<o>", ";;", '{"id": "u", "text": "a", "pred_text": "b"}', '"', "[", "]",
     "ref=", ":\thyp=['a']", "\x00", "\ufeff", "\ud7ff", "nan", ", ",
     "rec A * * <ALT_BEGIN>", "rec A * * <ALT>", "rec A * * <ALT_END>", "rec A 0 1 a", "u2 {",
     "%WER 0 [ 0 / 1, 0 ins, 0 del, 0 sub ]"]
)  # fmt: skip
CONTENT = st.lists(PIECES, max_size=25).map(lambda parts: "".join(parts).encode()) | st.binary(
    max_size=60
)


@given(st.sampled_from(NAMES), CONTENT, st.sampled_from(NAMES), CONTENT)
@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_bytes_are_read_or_refused_in_one_line(
    tmp_path: Path, ref_name: str, ref: bytes, hyp_name: str, hyp: bytes
) -> None:
    folders = [tmp_path / "ref", tmp_path / "hyp"]
    for folder in folders:
        folder.mkdir(exist_ok=True)
    reference, hypothesis = (
        write(folders[0], ref_name, ref),
        write(folders[1], hyp_name, hyp),
    )
    try:
        pair = read_pair(reference, hypothesis)
        scored = score(pair.references.texts, pair.hypotheses, allow_extra=True)
    except AsrError as error:
        assert len(str(error).split("\n")) == 1  # noqa: PT017
        return
    assert [utterance.id for utterance in scored.utterances] == list(pair.references.texts)
    said = {u.id for u in scored.utterances if u.hypothesis is not None}
    assert said | set(scored.extra) == pair.hypotheses.keys()


IDS = st.text("abc-_09é", min_size=1, max_size=5)
LINES = st.dictionaries(IDS, st.lists(st.text("abé'", min_size=1), max_size=4).map(" ".join))


@given(LINES)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_line_of_a_well_formed_file_is_dropped(tmp_path: Path, texts: dict[str, str]) -> None:
    kaldi = write(tmp_path, "text", "".join(f"{i} {t}\n" for i, t in texts.items()))
    trn = write(tmp_path, "x.trn", "".join(f"{t} ({i})\n" for i, t in texts.items()))
    jsonl = write(tmp_path, "x.jsonl", rows(*({"id": i, "text": t} for i, t in texts.items())))
    for path in (kaldi, trn, jsonl):
        assert read_transcripts(path, REFERENCE).texts == texts


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("Hello, World!", "hello world"),
        ("Don’t  e-mail ﬁve", "don't e mail five"),  # noqa: RUF001
        ("3.5 or 1,000.", "3.5 or 1,000"),
        ("‘quoted’ dogs'", "quoted dogs"),  # noqa: RUF001
        ("STRASSE straße", "strasse strasse"),
        ("नमस्ते दुनिया।", "नमस्ते दुनिया"),
        ("so\u00adft\u200b", "soft"),
        ("7'_ a'.b", "7 a b"),
    ],
)
def test_basic_keeps_letters_and_numbers(text: str, normalized: str) -> None:
    assert find_normalizer("basic")(text) == normalized


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("I can't, uh, believe it's true", "I cannot believe it is true"),
        ("twenty-three", "23"),
        ("one hundred and five thousand two hundred six", "105,206"),
        ("nineteen eighty four", "1984"),
        ("twenty twenty one", "2021"),
        ("two thousand and one", "2001"),
        ("the twenty first", "the 21st"),
        ("the twelfth", "the 12th"),
        ("three point one four", "3.14"),
        ("five million dollars", "$5 million"),
        ("three cents", "¢3"),
        ("three cents", "3¢"),
        ("five euros or six", "5€ or 6"),
        ("5 pounds, 6 dollars", "£5 $6"),
        ("77000s pounds", "£77000s"),
        ("minus five hundred", "-500"),
        ("minus five dollars", "-$5"),
        ("a b 7 4 4", "a-b 7-4 -- 4"),
        ("ten percent", "10%"),
        ("the colour of the theatre", "the color of the theater"),
        ("organisations analysed", "organizations analyzed"),
        ("Mr. Smith wouldn't've gone", "mister smith would not have gone"),
        ("one two three", "1 2 3"),
    ],
)
def test_english_writes_the_same_words_in_one_way(one: str, other: str) -> None:
    normalize = find_normalizer("english")
    assert normalize(one) == normalize(other)


def test_english_leaves_what_it_cannot_know() -> None:
    normalize = find_normalizer("english")
    assert normalize("John's hundred and ten ninths") == "john's hundred and 10 ninths"
    assert normalize("ten ninth, twenty tenth") == "10 9th 20 10th"


def test_whispers_normalizer_is_its_package() -> None:
    pytest.importorskip("whisper_normalizer")
    normalize = find_normalizer("whisper")
    assert (
        normalize("Mr. Smith's colour, (laughs) $5.20 million!") == "mister smith is color $5200000"
    )
    assert normalize("one two three") == "123"


def test_whispers_normalizer_without_its_package_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "whisper_normalizer.english", None)
    normalizers._whisper_normalizer.cache_clear()
    with pytest.raises(ConfigError, match=r"pip install 'asr-recipes\[normalizer\]'"):
        find_normalizer("whisper")


SPOKEN_WORDS = (
    "one two ten twelve twenty ninety hundred thousand million and point first third hundredth "
    "5 17 300 1,000 3.5 $4 50% ¢3 3¢ -7 -$8 £9s can't it's i'd've n't 's ' colour uh a ."
)
SPOKEN = st.lists(
    st.sampled_from(SPOKEN_WORDS.split()),
    max_size=8,
).map(" ".join)


@pytest.mark.parametrize("name", sorted(NORMALIZERS.keys() - {"whisper"}))
@given(text=SPOKEN | st.text(max_size=20))
@settings(max_examples=500, deadline=None)
def test_normalizing_twice_changes_nothing(name: str, text: str) -> None:
    normalize = find_normalizer(name)
    once = normalize(text)
    assert normalize(once) == once


def test_an_unknown_normalizer_is_refused_with_the_names() -> None:
    with pytest.raises(ConfigError, match="there are none, basic, english, whisper"):
        find_normalizer("french")


def test_channels_and_cases_of_a_ctm_meet_their_stm(tmp_path: Path) -> None:
    stm, ctm = tmp_path / "a.stm", tmp_path / "a.ctm"
    stm.write_text("REC A s 0 1 one\nREC B t 0 1 two\nREC A s 1 2 IGNORETIMESEGMENTINSCORING\n")
    ctm.write_text("rec a 0.2 0.2 one\nrec b 0.2 0.2 two\nrec a 1.2 0.2 other\n")
    pair = read_pair(stm, ctm)
    assert pair.hypotheses == {"REC-A-0000000-0001000": "one", "REC-B-0000000-0001000": "two"}
    assert pair.notes == ("1 words in segments that are not to be scored",)
    references = tmp_path / "ref"
    references.write_text("rec one two\n")
    with pytest.raises(DataError, match=r"a\.ctm:2: rec has channel b beside a"):
        read_pair(references, ctm)
