import io
import itertools
import json
import pickle
import resource
import shutil
import tarfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partialmethod
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asr.audio.stream import read_audio
from asr.cli import main
from asr.config import FeatureConfig
from asr.corpus.manifest import Utterance, write_manifest
from asr.corpus.members import decode, read_shards
from asr.corpus.packed import open_packed, pack
from asr.corpus.shards import INDEX, list_shards, read_index, write_shards
from asr.corpus.streamed import pack_shards
from asr.errors import DataError
from tests import tones
from tests.audio.test_mp3 import BARE, VBR, encode

FEATURES = FeatureConfig(sample_rate=8000, num_mel_bins=20)


@pytest.fixture(scope="module")
def utterances(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    folder = tmp_path_factory.mktemp("tones")
    whole = tones.write_corpus(folder, 12, seed=1)
    part = replace(whole[3], id="part", offset=0.05, duration=0.2, text='say "ä"', speaker=None)
    return [*whole, part]


def locations(folder: Path) -> list[str]:
    return [str(folder / shard.name) for shard in read_index(folder)]


def test_shards_hold_the_same_utterances_and_samples(
    utterances: list[Utterance], tmp_path: Path
) -> None:
    shards = write_shards(utterances, tmp_path / "s", seconds=3.0)
    assert len(shards) > 2
    assert all(shard.seconds <= 3.0 or shard.num_utterances == 1 for shard in shards)
    found = list(read_shards(locations(tmp_path / "s")))
    assert [f.utterance.id for f in found] == [u.id for u in utterances]
    for sharded, utterance in zip(found, utterances, strict=True):
        assert (sharded.utterance.text, sharded.utterance.speaker) == (
            utterance.text,
            utterance.speaker,
        )
        samples, rate = decode(sharded.audio, "x", 8000)
        original = read_audio(
            utterance.audio_filepath,
            sample_rate=8000,
            offset=utterance.offset,
            duration=utterance.duration,
        )
        assert rate == 8000
        assert np.array_equal(samples, original.samples)


def test_tarfile_reads_what_is_written_and_the_same_is_written_twice(
    utterances: list[Utterance], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        write_shards(utterances, tmp_path / name, num_bytes=20_000)
    for shard in read_index(tmp_path / "a"):
        assert (tmp_path / "a" / shard.name).stat().st_size == shard.num_bytes
        contents = [(tmp_path / name / shard.name).read_bytes() for name in ("a", "b")]
        assert contents[0] == contents[1]
        with tarfile.open(tmp_path / "a" / shard.name) as tar:
            names = tar.getnames()
        assert len(names) == 2 * shard.num_utterances
        assert all(name.count(".") == 1 for name in names), "webdataset cuts at the first dot"
    with pytest.raises(DataError, match="there are shards in it"):
        write_shards(utterances, tmp_path / "a", seconds=1)


class KilledError(BaseException):
    """In place of SIGKILL: nothing after it is done."""


def test_writing_that_was_killed_begins_again_and_leaves_others_files(
    utterances: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = write_shards(utterances, tmp_path / "whole", seconds=3.0)
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    originals = {"replace": Path.replace, "rename": Path.rename}
    # Each tar, the index and the folder's list get their name, all of them a folder, and each
    # tar and the index their place in the end.
    for moment in range(2 * len(expected) + 4):
        folder = tmp_path / f"{moment}"
        folder.mkdir()
        (folder / "README").write_text("mine")
        steps = itertools.count()

        def step(path: Path, target: Path, name: str, steps=steps, moment=moment) -> Path:
            if next(steps) == moment:
                raise KilledError
            return originals[name](path, target)

        with monkeypatch.context() as patch:
            for name in originals:
                patch.setattr(Path, name, partialmethod(step, name=name))
            patch.setattr(Path, "unlink", lambda *_, **__: None)
            patch.setattr(shutil, "rmtree", lambda *_, **__: None)
            with pytest.raises(KilledError):
                write_shards(utterances, folder, seconds=3.0)
        assert not (folder / INDEX).exists()
        assert write_shards(utterances, folder, seconds=3.0) == expected
        contents = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert contents == whole | {"README": b"mine"}


def test_tar_files_of_others_are_kept(utterances: list[Utterance], tmp_path: Path) -> None:
    (tmp_path / "000000.tar").write_bytes(b"mine")
    with pytest.raises(DataError, match="there are shards in it"):
        write_shards(utterances, tmp_path, seconds=3.0)
    assert [path.name for path in tmp_path.iterdir()] == ["000000.tar"]
    assert (tmp_path / "000000.tar").read_bytes() == b"mine"


def test_a_corpus_packed_from_shards_is_the_corpus_packed_from_files(
    utterances: list[Utterance], tmp_path: Path
) -> None:
    write_shards(utterances, tmp_path / "s", seconds=2.0)
    listed = tmp_path / "train.shards"
    listed.write_text("s\n")
    names, count = list_shards(listed)
    assert count == len(utterances)
    pack_shards(names, count, tmp_path / "sharded", FEATURES)
    pack(utterances, tmp_path / "plain", FEATURES)
    sharded, plain = open_packed(tmp_path / "sharded"), open_packed(tmp_path / "plain")
    assert np.array_equal(sharded.values, plain.values)
    assert np.array_equal(sharded.starts, plain.starts)
    for ours, theirs in zip(sharded.utterances, plain.utterances, strict=True):
        assert (ours.id, ours.text, ours.speaker) == (theirs.id, theirs.text, theirs.speaker)


def wav() -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(800, np.float32), 8000, format="WAV")
    return buffer.getvalue()


def member(name: str, content: bytes = b"", **header: object) -> Callable[[tarfile.TarFile], None]:
    def add(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        for key, value in header.items():
            setattr(info, key, value)
        tar.addfile(info, io.BytesIO(content))

    return add


def shard(path: Path, *members: Callable[[tarfile.TarFile], None], mode: str = "w") -> str:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for add in members:
            add(tar)
    return str(path)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        pytest.param(member("../a.wav", b"x"), "would be outside", id="traversal"),
        pytest.param(member("/etc/a.wav", b"x"), "would be outside", id="absolute"),
        pytest.param(member("a.wav", type=tarfile.SYMTYPE, linkname="b"), "is a link", id="link"),
        pytest.param(member("a.wav", type=tarfile.LNKTYPE, linkname="b"), "is a link", id="hard"),
        pytest.param(member("a.wav", type=tarfile.CHRTYPE), "a device", id="device"),
        pytest.param(member("a.wav", type=tarfile.GNUTYPE_SPARSE), "a link, a device", id="sparse"),
        pytest.param(member("a.pyd", pickle.dumps([1])), "a pickle", id="pyd"),
        pytest.param(member("a.pickle", pickle.dumps([1])), "a pickle", id="pickle"),
        pytest.param(member("a.pt", b"PK"), "a pickle", id="torch"),
        pytest.param(member("a.exe", b"MZ"), "only audio", id="program"),
        pytest.param(member("a.txt", b"x" * 2_000_000), "more than 1048576", id="a huge text"),
        pytest.param(member("a.json", b"[" * 99_999), "a.json: not JSON", id="deep"),
        pytest.param(
            member("a.json", b'{"text": "\\ud800"}'), "a.json: half of a surrogate", id="half"
        ),
        pytest.param(member("a.json", b"{}"), "0 audio files of this name", id="no audio"),
        pytest.param(member("a.json", b'{"duration": "x"}'), "duration 'x'", id="no number"),
    ],
)
def test_a_hostile_member_is_refused_by_its_name(
    tmp_path: Path, bad: Callable[[tarfile.TarFile], None], message: str
) -> None:
    path = tmp_path / "x.tar"
    about_text = any(word in message for word in ("duration", "JSON", "half"))
    good = [member("a.wav", wav())] if about_text else []
    with pytest.raises(DataError, match=message) as caught:
        list(read_shards([shard(path, *good, bad)]))
    assert str(path) in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.tar"]


def test_compressed_and_damaged_shards_are_refused(tmp_path: Path) -> None:
    bomb = shard(tmp_path / "x.tar.gz", member("a.txt", bytes(1000)), mode="w:gz")
    with pytest.raises(DataError, match="compressed; only plain tar files"):
        list(read_shards([bomb]))
    path = tmp_path / "x.tar"
    shard(path, member("a.wav", wav()), member("a.json", b"{}"))
    content = path.read_bytes()
    for size in (100, 512, 1000, 2100):
        path.write_bytes(content[:size])
        with pytest.raises(DataError, match="ends early"):
            list(read_shards([str(path)]))
    with pytest.raises(DataError, match=r"none\.tar: No such file"):
        list(read_shards([str(tmp_path / "none.tar")]))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.integers(0, 2600), junk=st.binary(min_size=1, max_size=30))
def test_a_damaged_shard_is_read_or_refused_by_its_name(
    tmp_path: Path, place: int, junk: bytes
) -> None:
    path = tmp_path / "x.tar"
    shard(path, member("a.wav", wav()), member("a.json", json.dumps({"text": "a"}).encode()))
    content = path.read_bytes()
    path.write_bytes(content[:place] + junk + content[place + len(junk) :])
    assert message_of(path) is None or str(path) in str(message_of(path))


def flac_of(samples: int) -> bytes:
    """A second of silence that says that it is longer."""
    file = io.BytesIO()
    soundfile.write(file, np.zeros(8000, np.float32), 8000, format="FLAC")
    content = bytearray(file.getvalue())
    content[21] = content[21] & 0xF0 | samples >> 32
    content[22:26] = (samples & 0xFFFF_FFFF).to_bytes(4, "big")
    return bytes(content)


def test_audio_in_a_shard_that_is_a_bomb_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(decode(flac_of(8000), "a.flac", 8000)[0]) == 8000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with suppress(DataError):
        decode(flac_of(2**36 - 1), "a.flac", 8000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB
    monkeypatch.setattr("asr.corpus.members._MAX_SAMPLES", 7999)
    for content in (flac_of(8000), encode(8000, VBR, BARE)):
        with pytest.raises(DataError, match=r"a: more than 7,999 samples"):
            decode(content, "a", 8000)


def test_audio_in_a_shard_at_an_impossible_rate_is_refused() -> None:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(8000, np.float32), 1, format="WAV")
    with pytest.raises(DataError, match=r"a.wav: a sample rate of 1 Hz"):
        decode(file.getvalue(), "a.wav", 8000)


def test_an_mp3_in_a_shard_is_read_to_its_end() -> None:
    content = encode(8000, VBR, BARE)
    samples, _ = decode(content, "a.mp3", 8000)
    with av.open(io.BytesIO(content)) as container:
        assert len(samples) == sum(frame.samples for frame in container.decode(audio=0))


def message_of(path: Path) -> str | None:
    try:
        for found in read_shards([str(path)]):
            decode(found.audio, str(path), 8000)
    except DataError as error:
        return str(error)
    return None


def test_webdataset_writers_float_times_and_long_names_are_read(tmp_path: Path) -> None:
    name = "folder/" + "n" * 120
    path = shard(
        tmp_path / "x.tar",
        member(f"{name}.wav", wav(), mtime=1.5),
        member(f"{name}.txt", b"hello\n there", mtime=1.5),
        member("b.wav", wav()),
    )
    first, second = (found.utterance for found in read_shards([path]))
    assert (first.id, first.text) == (name, "hello there")
    assert (second.id, second.text) == ("b", None)


def test_shards_are_read_through_fsspec(utterances: list[Utterance], tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    write_shards(utterances, tmp_path / "s", seconds=1000)
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/0.tar", (tmp_path / "s" / "000000.tar").read_bytes())
    found = list(read_shards(["memory://bucket/0.tar"]))
    assert [f.utterance.id for f in found] == [u.id for u in utterances]
    with pytest.raises(DataError, match=r"memory://bucket/1\.tar"):
        list(read_shards(["memory://bucket/1.tar"]))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("reference://x.tar::file://{folder}/x.json", "a chain of addresses"),
        ("simplecache::file://{folder}/x.tar", "a chain of addresses"),
        ("reference://{folder}/x.json", "reference:// is not opened"),
        ("tar://x.tar", "tar:// is not opened"),
        ("FILE://{folder}/x.tar", "FILE:// is not opened"),
    ],
)
def test_an_address_that_does_more_than_fetch_is_refused(
    tmp_path: Path, address: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # With fsspec 2024.10 to 2026.4 the key of such a reference is run.
    code = "{{ cycler.__init__.__globals__.os.mkdir('" + str(tmp_path / "made") + "') }}"
    generated = {"key": code, "url": "u", "dimensions": {"i": [0]}}
    (tmp_path / "x.json").write_text(json.dumps({"version": 1, "refs": {}, "gen": [generated]}))
    shard(tmp_path / "x.tar", member("a.wav", wav()))
    listed = tmp_path / "evil.shards"
    address = address.format(folder=tmp_path)
    listed.write_text(f"{address}\n")
    assert main(["data", "check", str(listed)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(DataError, match=message) as caught:
        list(read_shards([address]))
    assert str(caught.value).startswith(f"{address}: ")
    assert not (tmp_path / "made").exists()


def test_an_index_leads_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text(
        '{"shard": "../x.tar", "utterances": 1, "seconds": 1, "bytes": 1}'
    )
    with pytest.raises(DataError, match=r"shards\.jsonl:1: shard '\.\./x\.tar'"):
        read_index(tmp_path)


def test_shard_from_the_command_line(
    utterances: list[Utterance], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_manifest(utterances, tmp_path / "m.jsonl")
    arguments = ["data", "shard", str(tmp_path / "m.jsonl"), "--output", str(tmp_path / "s")]
    assert main([*arguments, "--shard-seconds", "1000"]) == 0
    assert capsys.readouterr().out == "13 utterances, 0.00 hours in 1 tar files\n"
    assert main([*arguments, "--shard-seconds", "1", "--shard-size", "1"]) == 2
    lines = (tmp_path / "m.jsonl").read_text()
    (tmp_path / "m.jsonl").write_text(lines + lines.splitlines()[0])
    arguments[-1] = str(tmp_path / "none")
    assert main(arguments) == 2
    assert "stands in line 1 already" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
