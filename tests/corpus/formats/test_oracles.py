"""What other programs write is read, and what is written they read; those that are installed."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asr.corpus.formats.catalogue import export_corpus, import_corpus
from asr.corpus.manifest import Utterance
from asr.corpus.members import decode, read_shards
from asr.corpus.shards import write_shards
from asr.errors import DataError

RATE = 8000
CHANNELS = {"one": (1.0, 1), "two.b": (2.5, 1), "stereo": (2.0, 2)}

pytestmark = pytest.mark.filterwarnings("ignore")  # of the other programs


@pytest.fixture
def utterances(tmp_path: Path) -> list[Utterance]:
    random = np.random.default_rng(1)
    for name, (seconds, num_channels) in CHANNELS.items():
        samples = random.integers(-9000, 9000, (round(seconds * RATE), num_channels))
        soundfile.write(tmp_path / f"{name}.wav", samples.astype(np.int16), RATE)
    rows = (
        ("a", "one", 0.0, 1.0, 'say "x", ä', "s"),
        ("b", "two.b", 0.25, 0.75, "zwei", None),
        ("c", "two.b", 1.0, 1.5, "drei | 3", "t"),
        ("d", "stereo", 0.5, 1.25, "vier", "t"),
    )
    return [
        Utterance(
            id=key,
            audio_filepath=tmp_path / f"{name}.wav",
            offset=offset,
            duration=duration,
            text=text,
            speaker=speaker,
        )
        for key, name, offset, duration, text, speaker in rows
    ]


def silent(line: str) -> None:
    del line


def read(path: Path, name: str) -> list[Utterance]:
    return list(import_corpus(path, name, silent))


def samples_of(utterance: Utterance) -> np.ndarray:
    start = round(utterance.offset * RATE)
    stop = start + round(utterance.duration * RATE)
    path = utterance.audio_filepath
    return soundfile.read(path, start=start, stop=stop, dtype="float32", always_2d=True)[0].T


def test_lhotse_reads_the_recordings_and_supervisions_that_are_written(utterances, tmp_path):
    lhotse = pytest.importorskip("lhotse")
    from lhotse.qa import validate

    export_corpus(utterances, "lhotse", tmp_path / "x", silent)
    recordings = lhotse.load_manifest(tmp_path / "x" / "recordings.jsonl.gz")
    supervisions = lhotse.load_manifest(tmp_path / "x" / "supervisions.jsonl.gz")
    validate(recordings, read_data=True)
    lhotse.validate_recordings_and_supervisions(recordings, supervisions)
    cuts = lhotse.CutSet.from_manifests(recordings=recordings, supervisions=supervisions)
    found = list(cuts.trim_to_supervisions())
    check_cuts(found, utterances)


def test_lhotse_reads_the_cuts_that_are_written(utterances, tmp_path):
    lhotse = pytest.importorskip("lhotse")
    from lhotse.qa import validate

    export_corpus(utterances, "lhotse-cuts", tmp_path / "x.jsonl.gz", silent)
    cuts = list(lhotse.load_manifest(tmp_path / "x.jsonl.gz"))
    for cut in cuts:
        validate(cut, read_data=True)
    check_cuts(cuts, utterances)


def check_cuts(cuts: list, utterances: list[Utterance]) -> None:
    by_id = {utterance.id: utterance for utterance in utterances}
    assert len(cuts) == len(by_id)
    for cut in cuts:
        (supervision,) = cut.supervisions
        utterance = by_id[supervision.id]
        assert (supervision.text, supervision.speaker) == (utterance.text, utterance.speaker)
        assert (supervision.start, supervision.duration) == (0, utterance.duration)
        assert np.array_equal(cut.load_audio(), samples_of(utterance))


def lhotse_corpus(utterances: list[Utterance]) -> tuple:
    lhotse = pytest.importorskip("lhotse")
    paths = sorted({utterance.audio_filepath for utterance in utterances})
    recordings = lhotse.RecordingSet.from_recordings(map(lhotse.Recording.from_file, paths))
    supervisions = lhotse.SupervisionSet.from_segments(
        lhotse.SupervisionSegment(
            id=utterance.id,
            recording_id=utterance.audio_filepath.stem,
            start=utterance.offset,
            duration=utterance.duration,
            channel=[0, 1] if "stereo" in utterance.audio_filepath.name else 0,
            text=utterance.text,
            speaker=utterance.speaker,
            language="de",
        )
        for utterance in utterances
    )
    cuts = lhotse.CutSet.from_manifests(recordings=recordings, supervisions=supervisions)
    return recordings, supervisions, cuts


def test_recordings_supervisions_and_cuts_of_lhotse_are_read(utterances, tmp_path):
    recordings, supervisions, cuts = lhotse_corpus(utterances)
    folder = tmp_path / "x"
    folder.mkdir()
    recordings.to_file(folder / "recordings.jsonl.gz")
    supervisions.to_file(folder / "supervisions.jsonl.gz")
    assert by_id(read(folder, "auto")) == by_id(utterances)
    for name, written in (
        ("whole", cuts),
        ("trimmed", cuts.trim_to_supervisions()),
        ("resampled", cuts.resample(16000)),
    ):
        written.to_file(tmp_path / f"{name}.jsonl")
        assert by_id(read(tmp_path / f"{name}.jsonl", "auto")) == by_id(utterances)


def by_id(utterances: list[Utterance]) -> dict[str, Utterance]:
    return {utterance.id: utterance for utterance in utterances}


def test_sound_that_lhotse_would_compute_is_refused(utterances, tmp_path):
    _, _, cuts = lhotse_corpus(utterances)
    for name, written, message in (
        ("faster", cuts.trim_to_supervisions().perturb_speed(1.1), r":1: transforms: 'Speed'"),
        ("louder", cuts.perturb_volume(2.0), r":1: transforms: 'Volume'"),
        ("padded", cuts.pad(9.0), r":1: type 'PaddingCut|:1: type 'MixedCut'"),
    ):
        path = tmp_path / f"{name}.jsonl"
        written.to_file(path)
        with pytest.raises(DataError, match=message):
            read(path, "auto")


def test_webdataset_reads_the_shards_that_are_written(utterances, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    shards = write_shards(utterances, tmp_path / "s", seconds=2.0)
    assert len(shards) > 1
    paths = [str(tmp_path / "s" / shard.name) for shard in shards]
    found = list(webdataset.WebDataset(paths, shardshuffle=False).decode())
    assert [sample["json"]["id"] for sample in found] == [u.id for u in utterances]
    for sample, utterance in zip(found, utterances, strict=True):
        assert sample["json"]["text"] == utterance.text
        assert sample["json"].get("speaker") == utterance.speaker
        content = sample.get("wav") or sample["flac"]
        if isinstance(content, bytes):
            samples, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
        else:  # decoded, where torchaudio is installed: a tensor, [channel, sample]
            samples, rate = content[0].numpy().T, content[1]
        expected = samples_of(utterance).mean(axis=0)
        assert rate == RATE
        assert np.allclose(samples.mean(axis=1), expected, atol=1 / 32768)


@pytest.mark.parametrize("kind", ["json", "txt"])
def test_the_shards_of_webdataset_are_read(utterances, tmp_path, kind):
    webdataset = pytest.importorskip("webdataset")
    whole = [u for u in utterances if u.id in "ad"]
    pattern = str(tmp_path / "shard-%03d.tar")
    with webdataset.ShardWriter(pattern, maxcount=1, verbose=0) as writer:
        for utterance in whole:
            sample = {"__key__": f"part/{utterance.id}"}
            sample["wav"] = utterance.audio_filepath.read_bytes()
            row = {"id": utterance.id, "text": utterance.text, "speaker": utterance.speaker}
            sample[kind] = row if kind == "json" else utterance.text
            writer.write(sample)
    paths = [str(path) for path in sorted(tmp_path.glob("shard-*.tar"))]
    assert len(paths) == 2
    found = list(read_shards(paths))
    ids = [u.id if kind == "json" else f"part/{u.id}" for u in whole]
    assert [(f.utterance.id, f.utterance.text) for f in found] == [
        (key, u.text) for key, u in zip(ids, whole, strict=True)
    ]
    for sharded, utterance in zip(found, whole, strict=True):
        samples, _ = decode(sharded.audio, "x", RATE)
        stored, _ = soundfile.read(utterance.audio_filepath, dtype="float32", always_2d=True)
        assert np.allclose(samples, stored.mean(axis=1), atol=1e-6)


def test_parquet_metadata_is_read_as_the_same_jsonl_is(utterances, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import json as arrow_json
    from pyarrow import parquet

    folder = tmp_path / "x"
    export_corpus(utterances, "audiofolder", folder, silent)
    expected = read(folder, "auto")
    table = arrow_json.read_json(folder / "metadata.jsonl")
    (folder / "metadata.jsonl").unlink()
    parquet.write_table(table, folder / "metadata.parquet", row_group_size=2)
    assert read(folder, "auto") == expected
    # Speakers are numbers in many a corpus; other columns are said to be left out.
    numbers = pyarrow.array([3, None, 7, 7])
    place = table.column_names.index("speaker_id")
    table = table.set_column(place, "speaker_id", numbers).append_column("age", numbers)
    parquet.write_table(table, folder / "metadata.parquet", compression="zstd")
    notes: list[str] = []
    found = list(import_corpus(folder, "auto", notes.append))
    assert [u.speaker for u in found] == ["3", None, "7", "7"]
    assert [note.partition("field: ")[2] for note in notes] == ["age (4)"]
    content = (folder / "metadata.parquet").read_bytes()
    (folder / "metadata.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"metadata\.parquet: "):
        read(folder, "auto")


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(place=st.integers(0, 2000), cut=st.integers(0, 8), junk=st.binary(max_size=6))
def test_damaged_parquet_is_read_or_refused_by_its_name(tmp_path, place, cut, junk):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    soundfile.write(tmp_path / "a.wav", np.zeros(800), RATE)
    table = pyarrow.table({"file_name": ["a.wav"], "transcription": ["x"], "speaker_id": [3]})
    path = tmp_path / "metadata.parquet"
    parquet.write_table(table, path, compression="none")
    content = path.read_bytes()
    place %= len(content)
    path.write_bytes(content[:place] + junk + content[place + cut :])
    found, message = [], None
    try:
        found = read(tmp_path, "audiofolder")
    except DataError as error:
        message = str(error)
    assert message is None or tmp_path.name in message
    assert all(utterance.duration == 0.1 for utterance in found)


MARKED = ("a", "b", "c")


def marked(utterances: list[Utterance]) -> list[tuple[str, str, float, float, str]]:
    return sorted(
        (u.audio_filepath.stem, u.speaker or "", u.offset, round(u.offset + u.duration, 6), u.text)
        for u in utterances
    )


def test_praat_and_praatio_read_the_textgrids_that_are_written(utterances, tmp_path):
    parselmouth = pytest.importorskip("parselmouth")
    textgrid = pytest.importorskip("praatio.textgrid")
    utterances = [u for u in utterances if u.id in MARKED]
    export_corpus(utterances, "textgrid", tmp_path, silent)
    by_praat, by_praatio = [], []
    for path in tmp_path.glob("*.TextGrid"):
        grid = parselmouth.Data.read(str(path))
        call = parselmouth.praat.call
        assert call(grid, "Get end time") == CHANNELS[path.stem][0]
        for tier in range(1, call(grid, "Get number of tiers") + 1):
            name = call(grid, "Get tier name", tier)
            for interval in range(1, call(grid, "Get number of intervals", tier) + 1):
                label = call(grid, "Get label of interval", tier, interval)
                edges = [
                    call(grid, f"Get {edge} time of interval", tier, interval)
                    for edge in ("start", "end")
                ]
                by_praat += [(path.stem, name, *edges, label)] if label else []
        for tier in textgrid.openTextgrid(str(path), includeEmptyIntervals=False).tiers:
            by_praatio += [(path.stem, tier.name, e.start, e.end, e.label) for e in tier.entries]
    assert sorted(by_praat) == marked(utterances)
    assert sorted(by_praatio) == marked(utterances)


def test_the_textgrids_of_praat_and_praatio_are_read(utterances, tmp_path):
    parselmouth = pytest.importorskip("parselmouth")
    textgrid = pytest.importorskip("praatio.textgrid")
    utterances = [u for u in utterances if u.id in MARKED]
    export_corpus(utterances, "textgrid", tmp_path, silent)
    paths = list(tmp_path.glob("*.TextGrid"))
    contents = {path: path.read_bytes() for path in paths}
    call = parselmouth.praat.call

    def save_by_praat(path: Path, form: str) -> None:
        call(parselmouth.Data.read(str(path)), f"Save as {form}text file", str(path))

    def save_by_praatio(path: Path, form: str) -> None:
        grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False)
        grid.save(str(path), format=form, includeBlankSpaces=True)

    encodings = set()
    for save, form in (
        (save_by_praat, ""),
        (save_by_praat, "short "),
        (save_by_praatio, "long_textgrid"),
        (save_by_praatio, "short_textgrid"),
    ):
        for path in paths:
            path.write_bytes(contents[path])
            save(path, form)
            encodings.add(path.read_bytes()[:2] in (b"\xff\xfe", b"\xfe\xff"))
        assert marked(read(tmp_path, "textgrid")) == marked(utterances)
    # Praat writes UTF-16 where ASCII does not do.
    assert encodings == {False, True}
    call(parselmouth.Data.read(str(paths[0])), "Save as binary file", str(paths[0]))
    with pytest.raises(DataError, match=r"TextGrid.*(not a TextGrid in text form|neither UTF-8)"):
        read(paths[0], "textgrid")


def test_pympi_reads_the_elan_files_that_are_written_and_its_own_are_read(utterances, tmp_path):
    elan = pytest.importorskip("pympi.Elan")
    utterances = [u for u in utterances if u.id in MARKED]
    export_corpus(utterances, "elan", tmp_path, silent)
    by_pympi = []
    for path in list(tmp_path.glob("*.eaf")):
        document = elan.Eaf(str(path))
        for tier in document.get_tier_names():
            speaker = document.get_parameters_for_tier(tier).get("PARTICIPANT", "")
            by_pympi += [
                (path.stem, speaker, begin / 1000, end / 1000, text)
                for begin, end, text in document.get_annotation_data_for_tier(tier)
            ]
        path.unlink()
        own = elan.Eaf()
        for utterance in utterances:
            if utterance.audio_filepath.stem == path.stem:
                tier = utterance.speaker or "default"
                if tier not in own.get_tier_names():
                    own.add_tier(tier)
                begin = round(1000 * utterance.offset)
                end = begin + round(1000 * utterance.duration)
                own.add_annotation(tier, begin, end, utterance.text)
        own.to_file(str(path))
    assert sorted(by_pympi) == marked(utterances)
    assert marked(read(tmp_path, "elan")) == marked(utterances)
