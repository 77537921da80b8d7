import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asr.cli import main
from asr.corpus.formats.catalogue import FORMATS, detect_format, export_corpus, import_corpus
from asr.corpus.manifest import Utterance, read_manifest, write_manifest
from asr.corpus.recordings import file_stem
from asr.errors import AsrError, DataError

RATE = 8000
SECONDS = {"one": 1.0, "two.b": 2.5, "drei": 3.0}
SUFFIXES = {"nemo": ".jsonl", "lhotse-cuts": ".jsonl.gz", "speechbrain": ".csv", "coqui": ".csv"}
SUFFIXES |= {"stm": ".stm"}
WRITTEN = [name for name, format in FORMATS.items() if format.write]
MARKS = ("stm", "textgrid", "elan", "audacity")
LAWS = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audio")
    random = np.random.default_rng(1)
    for name, seconds in SECONDS.items():
        samples = random.integers(-9000, 9000, round(seconds * RATE)).astype(np.int16)
        soundfile.write(folder / f"{name}.wav", samples, RATE)
    return folder


def silent(line: str) -> None:
    del line


def read(path: Path, name: str) -> list[Utterance]:
    return list(import_corpus(path, name, silent))


def fresh(audio: Path, name: str) -> tuple[Path, Path]:
    """A folder beside nothing but the audio, and where in it the corpus goes."""
    folder = audio.parent / "exported"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(audio, folder)
    if name in MARKS:
        return folder, folder / "marks.stm" if name == "stm" else folder
    return folder, folder / f"corpus{SUFFIXES.get(name, '')}"


# What Unicode says is no character is refused; see the test of that.
WORDS = st.text(
    st.characters(blacklist_categories=("Cs", "Cc")).filter(lambda c: ord(c) & 0xFFFE != 0xFFFE),
    min_size=1,
    max_size=8,
)
TEXTS = st.lists(WORDS, min_size=1, max_size=4).map(" ".join).filter(str.strip)
NAMES = st.text(st.sampled_from("abcXYZ019_-.äßж"), min_size=1, max_size=6).filter(
    lambda name: name != "default"
)


@st.composite
def corpora_of(draw: st.DrawFn, folder: Path, texts: st.SearchStrategy[str | None]):
    """Utterances of the files, that do not overlap; perhaps all of a file."""
    found = []
    for name in draw(st.lists(st.sampled_from(list(SECONDS)), unique=True, min_size=1)):
        length = round(1000 * SECONDS[name])
        # What ends 10 ms before its file does is all of it, as formats round durations.
        cuts = draw(st.lists(st.integers(1, length - 11), unique=True, max_size=4))
        edges = [0, *sorted(cuts), length]
        for begin, end in pairwise(edges):
            if draw(st.booleans()):
                found.append(
                    Utterance(
                        id="",
                        audio_filepath=folder / f"{name}.wav",
                        offset=begin / 1000,
                        duration=(end - begin) / 1000,
                        text=draw(texts),
                        speaker=draw(st.none() | NAMES),
                    )
                )
    if not found:
        path = folder / "one.wav"
        found = [Utterance(id="", audio_filepath=path, duration=1.0, text="a", speaker=None)]
    ids = draw(st.lists(NAMES, unique=True, min_size=len(found), max_size=len(found)))
    return [replace(u, id=i) for u, i in zip(found, ids, strict=True)]


def heard(utterance: Utterance) -> bytes:
    start = round(utterance.offset * RATE)
    stop = start + round(utterance.duration * RATE)
    samples, _ = soundfile.read(utterance.audio_filepath, start=start, stop=stop, dtype="int16")
    return bytes(samples.tobytes())


def seen(utterances: list[Utterance], lacks: tuple[str, ...]) -> list[tuple[object, ...]]:
    """What is to come back: all fields that the format holds, and the samples themselves."""
    return sorted(
        (
            "" if "id" in lacks else utterance.id,
            heard(utterance),
            utterance.text or "",
            "" if "speaker" in lacks else utterance.speaker or "",
        )
        for utterance in utterances
    )


@pytest.mark.parametrize("name", WRITTEN)
@LAWS
@given(data=st.data())
def test_what_is_exported_and_imported_is_the_same(
    name: str, audio: Path, data: st.DataObject
) -> None:
    folder, path = fresh(audio, name)
    texts = TEXTS if name in MARKS else st.none() | TEXTS
    if FORMATS[name].plain_text:
        texts = texts.map(lambda text: text and " ".join(text.split()))
    if name in MARKS:
        texts = texts.filter(bool)
    utterances = data.draw(corpora_of(folder, texts))
    if name == "stm":
        utterances = [replace(u, speaker=u.speaker or "unknown") for u in utterances]
        # Marks of alternates, of tags and of what is not scored are no text there.
        utterances = [replace(u, text=(u.text or "").strip("{}<; ") or "a") for u in utterances]
        utterances = [u for u in utterances if not set(str(u.text)) & set("{}<;@")]
    if name in ("coqui", "speechbrain", "audiofolder"):
        # Spaces after a comma are none of a field.
        utterances = [replace(u, text=u.text and u.text.lstrip()) for u in utterances]
    if name in ("elan", "audacity", "stm", "textgrid"):
        utterances = [replace(u, text=u.text and u.text.replace("\ufeff", "")) for u in utterances]
        utterances = [u for u in utterances if u.text and u.text.strip()]
    if name == "folder":
        # Other ids are written with %, and that is said.
        utterances = [u for u in utterances if not u.id.startswith(".")]
    if name == "kaldi":
        # Ids that do not begin with their speakers are changed, and said to be.
        utterances = [replace(u, id=f"{u.speaker or ''}{u.id}") for u in utterances]
        utterances = list({u.id: u for u in utterances}.values())
    if not utterances:
        return
    notes: list[str] = []
    export_corpus(utterances, name, path, notes.append)
    lacks = FORMATS[name].lacks
    back = read(path, name)
    renamed = any("begin with their speakers" in note for note in notes)
    lacks = (*lacks, "id") if renamed else lacks
    assert seen(back, lacks) == seen(utterances, lacks)


JUNK = st.binary(max_size=6) | st.sampled_from(
    (b"\n", b"\t", b'"', b"-1", b"1e999", b"null", b"[]", b"{}", b"\0", b"|", b"<!DOCTYPE a>")
)


def read_or_refuse(path: Path, name: str) -> tuple[list[Utterance], str | None]:
    """Utterances, or the message of the only kind of error that is allowed."""
    try:
        return read(path, name), None
    except AsrError as error:
        return [], str(error)


@pytest.mark.parametrize("name", WRITTEN)
@LAWS
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_by_its_name(
    name: str, audio: Path, data: st.DataObject
) -> None:
    folder, path = fresh(audio, name)
    path_audio = folder / "drei.wav"
    texts = ("eins zwei", 'say "x"')
    export_corpus(
        [
            Utterance(
                id=f"s-{n}",
                audio_filepath=path_audio,
                offset=n,
                duration=1.0,
                text=text,
                speaker="s",
            )
            for n, text in enumerate(texts)
        ],
        name,
        path,
        silent,
    )
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.suffix != ".wav"]
    file = data.draw(st.sampled_from(files))
    content = file.read_bytes()
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(content)))
        stop = start + data.draw(st.sampled_from([0, 0, 1, 2, 10, len(content)]))
        junk = st.binary(max_size=6) | st.sampled_from(
            [
                b"\n",
                b"\t",
                b'"',
                b"-1",
                b"1e999",
                b"null",
                b"[]",
                b"{}",
                b"\0",
                b"|",
                b"<!DOCTYPE a>",
            ]
        )
        content = content[:start] + data.draw(junk) + content[stop:]
    file.write_bytes(content)
    utterances, message = read_or_refuse(path, name)
    assert message is None or folder.name in message
    assert all(u.duration > 0 for u in utterances)


TABLES: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "nemo": ("x.jsonl", bytes),
    "lhotse-cuts": ("x.jsonl", bytes),
    "speechbrain": ("x.json", bytes),
    "coqui": ("x.csv", lambda body: b"wav_filename,wav_filesize,transcript\n" + body),
    "common-voice": ("x.tsv", lambda body: b"client_id\tpath\tsentence\n" + body),
    "ljspeech": ("metadata.csv", bytes),
    "stm": ("x.stm", bytes),
    "textgrid": ("one.TextGrid", lambda body: b'"ooTextFile"\n"TextGrid"\n' + body),
    "elan": ("one.eaf", lambda body: b"<ANNOTATION_DOCUMENT>" + body),
    "audacity": ("one.txt", bytes),
    "kaldi": ("wav.scp", bytes),
    "librispeech": ("1-2.trans.txt", bytes),
}


@pytest.mark.parametrize("name", TABLES)
@LAWS
@given(body=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_refused_in_words(name: str, audio: Path, body: bytes) -> None:
    folder, _ = fresh(audio, name)
    file, dress = TABLES[name]
    (folder / file).write_bytes(dress(body))
    source = folder if file in ("metadata.csv", "wav.scp", "1-2.trans.txt") else folder / file
    _, message = read_or_refuse(source, name)
    assert message is None or folder.name in message


def test_a_command_in_wav_scp_is_refused_and_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    (tmp_path / "wav.scp").write_text(f"a touch {trap} |\n")
    with pytest.raises(DataError, match=r"wav\.scp:1: a command .* not run"):
        read(tmp_path, "kaldi")
    assert not trap.exists()


def test_kaldi_folders_are_sorted_by_bytes(audio: Path, tmp_path: Path) -> None:
    names = ["b", "B", "a-1", "a_1", "é", "aa", "Z"]
    utterances = [
        Utterance(id=name, audio_filepath=audio / "one.wav", duration=1.0, text="x")
        for name in names
    ]
    export_corpus(utterances, "kaldi", tmp_path, silent)
    for file in ("text", "utt2spk", "spk2utt", "wav.scp"):
        lines = (tmp_path / file).read_bytes().splitlines()
        assert [line.split()[0] for line in lines] == sorted(name.encode() for name in names)


def test_kaldi_ids_get_their_speakers_where_both_would_not_sort_alike(
    audio: Path, tmp_path: Path
) -> None:
    path = audio / "one.wav"
    utterances = [
        Utterance(id=i, audio_filepath=path, duration=1.0, text="x", speaker=s)
        for i, s in (("1", "b"), ("2", "a"))
    ]
    notes: list[str] = []
    export_corpus(utterances, "kaldi", tmp_path, notes.append)
    assert (tmp_path / "utt2spk").read_text() == "a-2 a\nb-1 b\n"
    assert notes == ["ids begin with their speakers, as Kaldi sorts both alike"]


def test_speakers_that_kaldi_cannot_sort_are_warned_of(
    audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    utterances = [
        Utterance(id=i, audio_filepath=audio / "one.wav", duration=1.0, text="x", speaker=s)
        for i, s in (("z", "a"), ("1", "a-b"))
    ]
    write_manifest(utterances, tmp_path / "two.jsonl")
    options = ["--format", "kaldi", "--output", str(tmp_path / "kaldi")]
    assert main(["data", "export", str(tmp_path / "two.jsonl"), *options]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert "warning: utterances and speakers do not sort alike; Kaldi will complain" in lines


def test_kaldi_segments_may_run_to_the_end(audio: Path, tmp_path: Path) -> None:
    (tmp_path / "wav.scp").write_text(f"r {audio / 'two.b.wav'}\n")
    (tmp_path / "segments").write_text("u r 0.5 -1\n")
    (utterance,) = read(tmp_path, "kaldi")
    assert (utterance.offset, utterance.duration) == (0.5, 2.0)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        pytest.param("segments", "u r 2 1\n", r"segments:1: the segment ends at 1", id="backwards"),
        pytest.param("segments", "u q 1 2\n", r"segments:1: recording q is not", id="unknown"),
        pytest.param("segments", "u r 1\n", r"segments:1: `<utterance>", id="three fields"),
        pytest.param("text", "v x\n", r"text:1: utterance v is not in wav.scp", id="orphan text"),
        pytest.param("text", "r x\nr y\n", r"text:2: id r stands in line 1", id="twice"),
    ],
)
def test_a_faulty_kaldi_folder_is_refused_by_file_and_line(
    audio: Path, tmp_path: Path, file: str, content: str, message: str
) -> None:
    (tmp_path / "wav.scp").write_text(f"r {audio / 'two.b.wav'}\n")
    (tmp_path / file).write_text(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path, "kaldi")


@pytest.mark.parametrize("kind", ["command", "url", "memory"])
def test_lhotse_sources_other_than_files_are_refused(tmp_path: Path, kind: str) -> None:
    source = {"type": kind, "channels": [0], "source": "cat x.wav"}
    row = {"id": "r", "sources": [source], "sampling_rate": 8000, "num_samples": 1, "duration": 1}
    (tmp_path / "recordings.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "supervisions.jsonl").write_text("")
    with pytest.raises(DataError, match=rf"recordings\.jsonl:1: sources: type '{kind}'"):
        read(tmp_path, "lhotse")


def test_one_channel_of_two_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.wav").touch()
    source = {"type": "file", "channels": [0, 1], "source": "x.wav"}
    row = {"id": "r", "sources": [source], "sampling_rate": 8000, "num_samples": 1, "duration": 1}
    (tmp_path / "recordings.jsonl").write_text(json.dumps(row) + "\n")
    said = {"id": "u", "recording_id": "r", "start": 0, "duration": 1, "channel": 1}
    (tmp_path / "supervisions.jsonl").write_text(json.dumps(said) + "\n")
    with pytest.raises(DataError, match=r"supervisions\.jsonl:1: channel 1 of .*x\.wav, which has"):
        read(tmp_path, "lhotse")


def test_two_channels_are_a_multicut_and_one_of_them_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.zeros((RATE, 2)), RATE)
    utterance = Utterance(id="u", audio_filepath=tmp_path / "x.wav", duration=0.5, text="a")
    path = tmp_path / "cuts.jsonl"
    export_corpus([utterance], "lhotse-cuts", path, silent)
    row = json.loads(path.read_text())
    assert (row["type"], row["channel"]) == ("MultiCut", [0, 1])
    assert read(path, "lhotse-cuts") == [utterance]
    row["channel"] = [1]
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=r"cuts\.jsonl:1: channel \[1\] of .*x\.wav, which has 2"):
        read(path, "lhotse-cuts")


def test_a_change_of_speed_that_lhotse_would_compute_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.wav").touch()
    source = {"type": "file", "channels": [0], "source": "x.wav"}
    row = {"id": "r", "sources": [source], "sampling_rate": 8000, "num_samples": 1, "duration": 1}
    said = {"id": "u", "recording_id": "r", "start": 0, "duration": 1, "channel": 0}
    (tmp_path / "supervisions.jsonl").write_text(json.dumps(said) + "\n")
    for name, is_read in (("Resample", True), ("Speed", False)):
        changed = {**row, "transforms": [{"name": name, "kwargs": {}}]}
        (tmp_path / "recordings.jsonl").write_text(json.dumps(changed) + "\n")
        if is_read:
            assert len(read(tmp_path, "lhotse")) == 1
            continue
        with pytest.raises(DataError, match=r"recordings\.jsonl:1: transforms: 'Speed' is sound"):
            read(tmp_path, "lhotse")


def test_an_entity_bomb_is_refused_before_it_grows(audio: Path, tmp_path: Path) -> None:
    path = tmp_path / "one.eaf"
    shutil.copy(audio / "one.wav", tmp_path)
    entities = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(9))
    path.write_text(f'<!DOCTYPE a [<!ENTITY e0 "ha">{entities}]><a>&e9;</a>')
    with pytest.raises(DataError, match=r"one\.eaf:1: a document type"):
        read(path, "elan")


LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "ann"
        xmin = 0
        xmax = 1
        intervals: size = 2
        intervals [1]:
            xmin = 0
            xmax = 0.25
            text = ""
        intervals [2]:
            xmin = 0.25
            xmax = 1
            text = "he said ""no"" [2] = 3"
    item [2]:
        class = "TextTier"
        name = "clicks"
        xmin = 0
        xmax = 1
        points: size = 1
        points [1]:
            number = 0.5
            mark = "click"
"""
SHORT = """File type = "ooTextFile"
Object class = "TextGrid"

0
1
<exists>
2
"IntervalTier"
"ann"
0
1
2
0
0.25
""
0.25
1
"he said ""no"" [2] = 3"
"TextTier"
"clicks"
0
1
1
0.5
"click"
"""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("content", [LONG, SHORT], ids=["long", "short"])
def test_both_forms_of_a_textgrid_are_read_in_both_encodings(
    audio: Path, tmp_path: Path, content: str, encoding: str
) -> None:
    shutil.copy(audio / "one.wav", tmp_path)
    (tmp_path / "one.TextGrid").write_text(content, encoding=encoding)
    notes: list[str] = []
    (utterance,) = import_corpus(tmp_path, "auto", notes.append)
    assert utterance.text == 'he said "no" [2] = 3'
    assert (utterance.offset, utterance.duration, utterance.speaker) == (0.25, 0.75, "ann")
    assert ["'clicks' holds points" in note for note in notes] == [True]


def test_tiers_of_an_aligner_are_read_only_by_name(audio: Path, tmp_path: Path) -> None:
    shutil.copy(audio / "one.wav", tmp_path)
    (tmp_path / "one.TextGrid").write_text(SHORT.replace('"ann"', '"ann - words"'))
    with pytest.raises(DataError, match=r"one\.TextGrid: tier 'ann - words' is an alignment"):
        read(tmp_path, "textgrid")
    (word,) = import_corpus(tmp_path, "textgrid", silent, tiers=["ann - words"])
    assert word.speaker == "ann"


def test_speechbrain_roots_and_sample_positions_are_understood(audio: Path, tmp_path: Path) -> None:
    shutil.copy(audio / "two.b.wav", tmp_path)
    (tmp_path / "train.csv").write_text(
        "ID,duration,wav,start,stop,spk_id,wrd,age\n"
        'u,1,$data_root/two.b.wav,4000,12000,s,"a, b",7\n'
    )
    notes: list[str] = []
    (utterance,) = import_corpus(tmp_path / "train.csv", "auto", notes.append)
    assert (utterance.offset, utterance.duration) == (0.5, 1.0)
    assert (utterance.text, utterance.speaker) == ("a, b", "s")
    assert notes == [
        f"{tmp_path / 'train.csv'}: not kept, as utterances have no such field: age (1)"
    ]


def test_what_a_format_does_not_hold_is_said_with_counts(audio: Path, tmp_path: Path) -> None:
    utterances = [
        Utterance(
            id=f"u{n}",
            audio_filepath=audio / "drei.wav",
            offset=n,
            duration=1.0,
            text="a  b",
            speaker="s" if n else None,
        )
        for n in range(3)
    ]
    notes: list[str] = []
    export_corpus(utterances, "coqui", tmp_path / "c.csv", notes.append)
    assert notes == [
        f"3 utterances are parts of files: each was cut to a WAV file in {tmp_path / 'c-audio'}",
        "id is not held by coqui: dropped for 3 utterances",
        "speaker is not held by coqui: dropped for 2 utterances",
    ]
    notes.clear()
    export_corpus(utterances, "folder", tmp_path / "folder", notes.append)
    assert "white space in the texts of 3 utterances became single spaces" in notes


def test_cut_utterances_beside_a_table_take_the_place_of_nobodys_file(
    audio: Path, tmp_path: Path
) -> None:
    parts = [
        Utterance(id=f"u{n}", audio_filepath=audio / "drei.wav", offset=n, duration=1.0, text="a")
        for n in range(3)
    ]
    table, notes = tmp_path / "c.csv", list[str]()
    for _ in range(2):  # its own files may be written again
        export_corpus(parts, "coqui", table, notes.append)
    (tmp_path / "c-audio/u3.wav").write_bytes(b"a stranger's")
    with pytest.raises(AsrError, match=r"u3\.wav"):
        export_corpus([*parts, replace(parts[0], id="u3")], "coqui", table, notes.append)
    assert (tmp_path / "c-audio/u3.wav").read_bytes() == b"a stranger's"


def test_ids_that_are_no_names_get_names_that_differ() -> None:
    ids = [".", "..", "a/b", "a%2Fb", "/a", "a//b", "", "%", "%2E", "a\nb", ".a", "a/../b", "ä"]
    stems = [file_stem(utterance_id) for utterance_id in ids]
    assert len(set(stems)) == len(ids)
    for stem in stems:
        assert stem.parts
        assert not stem.is_absolute()
        assert not any(part.startswith(".") for part in stem.parts)
    assert str(file_stem("a/b ä.x")) == "a/b ä.x"


def test_nemo_lines_without_ids_are_named_by_their_stretch(audio: Path, tmp_path: Path) -> None:
    rows = [
        {"audio_filepath": "two.b.wav", "offset": 0.0, "duration": 1, "text": "a", "lang": "de"},
        {"audio_filepath": "two.b.wav", "offset": 1.0, "duration": 1.5, "text_filepath": "t.txt"},
    ]
    (tmp_path / "t.txt").write_text("from a\nfile\n")
    shutil.copy(audio / "two.b.wav", tmp_path)
    (tmp_path / "m.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    notes: list[str] = []
    first, second = import_corpus(tmp_path / "m.json", "auto", notes.append)
    assert (first.id, second.id) == ("two.b-0000000-0001000", "two.b-0001000-0002500")
    assert second.text == "from a file"
    assert notes == [f"{tmp_path / 'm.json'}: not kept, as utterances have no such field: lang (1)"]


def test_an_import_keeps_how_sure_a_machine_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"audio_filepath": "a.wav", "duration": 1.0, "score": 0.5}
    path, output = tmp_path / "m.jsonl", tmp_path / "out.jsonl"
    path.write_text(
        "".join(json.dumps(r) + "\n" for r in (row | {"id": "a"}, row | {"offset": 1.0})),
        encoding="utf-8",
    )
    assert main(["data", "import", str(path), "--output", str(output)]) == 0
    rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert [r.get("score") for r in rows] == [0.5, None]
    assert "not kept, as utterances have no such field: score (1)" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["absolute", "above", "link"])
def test_a_manifest_names_no_texts_outside_of_its_folder(
    audio: Path, tmp_path: Path, how: str
) -> None:
    outside, folder = tmp_path / "shadow", tmp_path / "corpus"
    folder.mkdir()
    outside.write_text("secret")
    (folder / "link").symlink_to(outside)
    name = {"absolute": str(outside), "above": "../shadow", "link": "link"}[how]
    row = {"audio_filepath": str(audio / "one.wav"), "duration": 1, "text_filepath": name}
    (folder / "m.json").write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=r"m\.json:1: text_filepath .* is not below") as caught:
        list(import_corpus(folder / "m.json", "nemo", silent))
    assert "secret" not in str(caught.value)


def test_common_voice_and_ljspeech_layouts_are_known_when_seen(audio: Path, tmp_path: Path) -> None:
    voice, reader = tmp_path / "cv", tmp_path / "lj"
    for folder, clips in ((voice, "clips"), (reader, "wavs")):
        (folder / clips).mkdir(parents=True)
        shutil.copy(audio / "one.wav", folder / clips)
    (voice / "validated.tsv").write_text('client_id\tpath\tsentence\tage\nme\tone.wav\tsay "x\t\n')
    (reader / "metadata.csv").write_text("one|Mr 1|mister one\n")
    (clip,) = import_corpus(voice, "auto", silent)
    assert (clip.text, clip.speaker, clip.duration) == ('say "x', "me", 1.0)
    (line,) = import_corpus(reader, "auto", silent)
    assert (line.id, line.text) == ("one", "mister one")


def test_an_audiofolder_does_not_lead_outside(audio: Path, tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text(f"file_name,transcription\n../{audio.name}/one.wav,x\n")
    with pytest.raises(DataError, match=r"metadata\.csv:2: file_name .* outside"):
        read(tmp_path, "audiofolder")


def test_real_corpora_are_imported_whole(corpora: Path, tmp_path: Path) -> None:
    expected = {
        "LibriSpeech": (1006, 15, 2.02),
        "speechocean762/train": (2500, 125, 2.88),
        "kathleen/data": (1462, 0, 1.23),
    }
    for name, (count, num_speakers, hours) in expected.items():
        utterances = list(import_corpus(corpora / name, "auto", silent))
        assert len(utterances) == count
        assert len({u.speaker for u in utterances} - {None}) == num_speakers
        assert sum(u.duration for u in utterances) / 3600 == pytest.approx(hours, abs=0.01)
        assert all(u.text for u in utterances)
    write_manifest(utterances[:5], tmp_path / "m.jsonl")
    export_corpus(read_manifest(tmp_path / "m.jsonl"), "kaldi", tmp_path / "kaldi", silent)
    assert seen_texts(read(tmp_path / "kaldi", "kaldi")) == seen_texts(utterances[:5])


def seen_texts(utterances: list[Utterance]) -> dict[str, tuple[str | None, float]]:
    return {u.id: (u.text, round(u.duration, 5)) for u in utterances}


def test_import_and_export_from_the_command_line(
    audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    shutil.copy(audio / "one.wav", source / "ann_1.wav")
    (source / "ann_1.txt").write_text("hello\n")
    (source / "README.txt").write_text("about\n")
    manifest = tmp_path / "m.jsonl"
    arguments = ["data", "import", str(source), "--output", str(manifest)]
    assert main([*arguments, "--speaker-pattern", "^[a-z]+"]) == 0
    out, err = capsys.readouterr()
    assert out == "1 utterances, 0.00 hours\n"
    assert "1 .txt files have no audio beside them" in err
    (utterance,) = read_manifest(manifest)
    assert (utterance.id, utterance.text, utterance.speaker) == ("ann_1", "hello", "ann")
    target = tmp_path / "back"
    exporting = ["data", "export", str(manifest), "--output", str(target), "--format"]
    assert main([*exporting, "kaldi"]) == 0
    assert (target / "text").read_text() == "ann_1 hello\n"
    assert main([*exporting, "ljspeech"]) == 2
    assert "only read" in capsys.readouterr().err


def test_label_tracks_of_audacity_are_told_from_transcripts(audio: Path, tmp_path: Path) -> None:
    for name in ("one", "drei"):
        shutil.copy(audio / f"{name}.wav", tmp_path)
        (tmp_path / f"{name}.txt").write_text("0.250000\t0.75\tsay 1\n\\\t100.0\t200.0\n")
    assert detect_format(tmp_path) == detect_format(tmp_path / "one.txt") == "audacity"
    found = read(tmp_path, "auto")
    assert [(u.offset, u.duration, u.text) for u in found] == [(0.25, 0.5, "say 1")] * 2
    for text in ("1.5 2.5 three", "0.5\t1.5\tone\ntwo", "0.5\tone", "1\t2\tthree", "\\\t1.0\t2.0"):
        (tmp_path / "drei.txt").write_text(text)
        with pytest.raises(DataError, match=r"one\.txt is a label track, drei\.txt is not"):
            detect_format(tmp_path)
        with pytest.raises(DataError, match="cannot tell its format"):
            detect_format(tmp_path / "drei.txt")
    (tmp_path / "one.txt").write_text("one")
    assert detect_format(tmp_path) == "folder"


def test_what_is_no_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        detect_format(tmp_path / "none")
    with pytest.raises(DataError, match="cannot tell its format"):
        detect_format(tmp_path)
