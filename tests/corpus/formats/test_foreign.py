"""What other programs write beside the usual: read as they mean it, or refused."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.corpus import Utterance
from asr.corpus.formats.catalogue import FORMATS, detect_format
from asr.errors import DataError

EAF = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT><TIME_ORDER>
<TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="0"/><TIME_SLOT TIME_SLOT_ID="ts2"/>
<TIME_SLOT TIME_SLOT_ID="ts3"/><TIME_SLOT TIME_SLOT_ID="ts4" TIME_VALUE="900"/>
</TIME_ORDER>
<TIER TIER_ID="anna">{}</TIER></ANNOTATION_DOCUMENT>"""
ANNOTATION = """<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{}" TIME_SLOT_REF1="ts{}"
TIME_SLOT_REF2="ts{}"><ANNOTATION_VALUE>{}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>"""
TEXTGRID = """File type = "ooTextFile"
Object class = "TextGrid"

0
1
<exists>
1
"IntervalTier"
"anna"
0
1
1
0
1
"{}"
"""

Read = Callable[[str, str, bytes], list[Utterance]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """The utterances of a file of a name and content, beside a second of audio."""
    soundfile.write(tmp_path / "a.wav", np.zeros(8000, np.float32), 8000)

    def read_file(format_name: str, name: str, content: bytes) -> list[Utterance]:
        (tmp_path / name).write_bytes(content)
        return list(FORMATS[format_name].read(tmp_path / name, lambda _: None))

    return read_file


def test_slots_without_a_time_divide_the_time_between_others(read: Read) -> None:
    annotations = "".join(ANNOTATION.format(n, n, n + 1, w) for n, w in enumerate("xyz", start=1))
    utterances = read("elan", "a.eaf", EAF.format(annotations).encode())
    times = [(u.text, round(u.offset, 3), round(u.duration, 3)) for u in utterances]
    assert times == [("x", 0.0, 0.3), ("y", 0.3, 0.3), ("z", 0.6, 0.3)]


def test_a_slot_whose_time_follows_from_nothing_is_refused(read: Read) -> None:
    with pytest.raises(DataError, match=r"a\.eaf:\d+: time slot ts2 has no time"):
        read("elan", "a.eaf", EAF.format(ANNOTATION.format(1, 1, 2, "x")).encode())


def test_labels_with_decimal_commas_are_labels(read: Read, tmp_path: Path) -> None:
    (utterance,) = read("audacity", "a.txt", b"0,250000\t0,750000\tone two\n")
    assert (utterance.offset, utterance.duration, utterance.text) == (0.25, 0.5, "one two")
    assert detect_format(tmp_path / "a.txt") == "audacity"


def test_a_label_of_several_lines_is_one_text(read: Read) -> None:
    (utterance,) = read("textgrid", "a.TextGrid", TEXTGRID.format("one\ntwo\t three").encode())
    assert utterance.text == "one two three"


def test_a_textgrid_in_latin_1_is_read(read: Read) -> None:
    (utterance,) = read("textgrid", "a.TextGrid", TEXTGRID.format("été").encode("latin-1"))
    assert utterance.text == "été"
    with pytest.raises(DataError, match="neither UTF-8 nor UTF-16"):
        read("textgrid", "a.TextGrid", TEXTGRID.format("é\x90").encode("latin-1"))


CHRONOLOGICAL = '''"Praat chronological TextGrid text file"
0 1   ! Time domain.
3   ! Number of tiers.
"IntervalTier" "anna" 0 1
"TextTier" "bell" 0 1
"IntervalTier" "ben" 0 1

! anna:
1 0 0.4
"one ""two"""

! ben:
3 0.1 1
""

! bell:
2 0.3
"ding"

! anna:
1 0.4 1
"three"
'''


def test_a_chronological_textgrid_is_read(read: Read) -> None:
    utterances = read("textgrid", "a.TextGrid", CHRONOLOGICAL.encode())
    assert [(u.speaker, u.offset, u.duration, u.text) for u in utterances] == [
        ("anna", 0.0, 0.4, 'one "two"'),
        ("anna", 0.4, 0.6, "three"),
    ]
    for wrong in (CHRONOLOGICAL + "4 0 1\n", CHRONOLOGICAL[:-9]):
        with pytest.raises(DataError, match=r"a.TextGrid:.*(no tier 4|ends where|expected)"):
            read("textgrid", "a.TextGrid", wrong.encode())


RECORDING = {"id": "r", "duration": 1.0, "sampling_rate": 8000, "num_samples": 8000}
SUPERVISION = {"id": "u", "recording_id": "r", "start": 0, "duration": 1, "text": "one"}


def test_arrays_of_lhotse_are_read(read: Read, tmp_path: Path) -> None:
    recording = {**RECORDING, "sources": [{"type": "file", "channels": [0], "source": "a.wav"}]}
    cut = {"id": "c", "start": 0, "duration": 1, "recording": recording, "channel": 0}
    cuts = json.dumps([{**cut, "supervisions": [SUPERVISION]}])
    (utterance,) = read("lhotse-cuts", "cuts.json", cuts.encode())
    assert (utterance.text, utterance.audio_filepath) == ("one", tmp_path / "a.wav")
    assert detect_format(tmp_path / "cuts.json") == "lhotse-cuts"
    (tmp_path / "recordings.json").write_text(json.dumps([recording]))
    packed = gzip.compress(json.dumps([SUPERVISION]).encode())
    (tmp_path / "supervisions.json.gz").write_bytes(packed)
    assert detect_format(tmp_path) == "lhotse"
    assert [u.text for u in FORMATS["lhotse"].read(tmp_path, lambda _: None)] == ["one"]
    for content in (b"{}", b"[1]", b"[", b"[" * 100_000):
        with pytest.raises(DataError, match=r"cuts\.json"):
            read("lhotse-cuts", "cuts.json", content)


def test_paths_of_lhotse_count_from_the_current_folder_too(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    recording = {**RECORDING, "sources": [{"type": "file", "channels": [0], "source": "a.wav"}]}
    line = json.dumps({"id": "c", "start": 0, "duration": 1, "recording": recording}).encode()
    monkeypatch.chdir(tmp_path)
    (utterance,) = read("lhotse-cuts", "data/cuts.jsonl", line)
    assert utterance.audio_filepath.samefile(tmp_path / "a.wav")
    monkeypatch.chdir(tmp_path / "data")
    with pytest.raises(DataError, match=r"cuts.jsonl:1: source 'a.wav' is neither below"):
        read("lhotse-cuts", "data/cuts.jsonl", line)


def test_a_table_with_spaces_after_commas_is_read(read: Read) -> None:
    content = b'ID, duration, wav, spk_id, wrd\nu, 1.0, a.wav, s, "one, two"\n'
    (utterance,) = read("speechbrain", "a.csv", content)
    assert (utterance.duration, utterance.speaker, utterance.text) == (1.0, "s", "one, two")


def test_a_stretch_that_contradicts_its_duration_is_refused(read: Read) -> None:
    header = b"ID,duration,wav,start,stop,wrd\n"
    (utterance,) = read("speechbrain", "a.csv", header + b"u,0.5,a.wav,0,4000,one\n")
    assert utterance.duration == 0.5
    with pytest.raises(DataError, match=r"a\.csv:2: start and stop are 0.5 s apart, but duration"):
        read("speechbrain", "a.csv", header + b"u,0.9,a.wav,0,4000,one\n")


def test_a_duration_in_quotes_is_one(read: Read) -> None:
    row = {"u": {"wav": "{data_root}/a.wav", "length": "x", "duration": "0.5", "words": "one"}}
    (utterance,) = read("speechbrain", "a.json", json.dumps(row).encode())
    assert utterance.duration == 0.5


@pytest.mark.parametrize(
    ("row", "duration", "speaker"),
    [
        ({"audio_filepath": "a.wav", "duration": 0.5, "speaker": 17}, 0.5, "17"),
        ({"audio_filepath": "a.wav", "duration": None}, 1.0, None),
        ({"audio_filename": "a.wav", "duration": None, "offset": 0.25}, 0.75, None),
    ],
)
def test_nemos_other_keys_and_values(
    row: dict[str, object], duration: float, speaker: str | None, read: Read
) -> None:
    (utterance,) = read("nemo", "m.jsonl", json.dumps(row).encode())
    assert (utterance.duration, utterance.speaker) == (duration, speaker)
    assert utterance.audio_filepath.name == "a.wav"
