import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.audio import RawFormat
from asr.audio.pipes import command_output, split_command
from asr.corpus.manifest import Utterance, write_manifest
from asr.errors import AudioError, DataError
from asr.transcription.results import output_stems
from asr.transcription.sources import Source, SourceOptions, find_sources

RATE = 8000
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, (RATE, 2)).astype("f4")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    soundfile.write(tmp_path / "b.wav", NOISE, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "a.flac", NOISE[:, 0], RATE)
    soundfile.write(tmp_path / "deep" / "c.wav", NOISE[:, 0], RATE)
    (tmp_path / "notes.txt").write_text("no audio")
    return tmp_path


def ids(found: list[Source]) -> list[str]:
    return [source.utterance.id for source in found]


def samples_of(source: Source) -> np.ndarray:
    with source.open(RATE) as stream:
        return np.concatenate(list(stream))


@pytest.mark.parametrize(
    ("name", "recursive", "expected"),
    [
        pytest.param("", False, ["a.flac", "b.wav"], id="folder"),
        pytest.param("", True, ["a.flac", "b.wav", "deep/c.wav"], id="folders of folders"),
        pytest.param("*.wav", False, ["b.wav"], id="pattern"),
        pytest.param("**/*.wav", True, ["b.wav", "deep/c.wav"], id="pattern of folders"),
        pytest.param("notes.txt", False, ["notes.txt"], id="a file of any name"),
        pytest.param("none.wav", False, ["none.wav"], id="a file that is not there"),
    ],
)
def test_names_mean_files(folder: Path, name: str, recursive: bool, expected: list[str]) -> None:
    found, failed = find_sources([str(folder / name)], SourceOptions(recursive=recursive))
    assert ids(found) == [str(folder / path) for path in expected]
    assert not failed


def test_a_link_to_a_folder_above_is_followed_once(folder: Path) -> None:
    # With a second link to it there would be 2 ** 40 paths to each file.
    (folder / "deep" / "up").symlink_to(folder)
    (folder / "deep" / "[x]").mkdir()
    (folder / "deep" / "[x]" / "d.wav").write_bytes(b"")
    for pattern in ("**/*.wav", "**/deep/**/*.wav", "**"):
        found, _ = find_sources([str(folder / pattern)], SourceOptions(recursive=True))
        files = [name for name in ids(found) if name.endswith(".wav")]
        expected = ["b.wav", "deep/[x]/d.wav", "deep/c.wav"]
        if "deep" in pattern:
            expected[0] = "deep/up/b.wav"  # from `deep` on, nothing above it is visited yet
        assert sorted(files) == sorted(str(folder / name) for name in expected)


def test_what_means_nothing_is_named_and_the_rest_is_found(folder: Path) -> None:
    (folder / "empty").mkdir()
    names = [str(folder / name) for name in ("empty", "*.ogg", "b.wav", "b.wav")]
    found, failed = find_sources(names, SourceOptions())
    assert ids(found) == [str(folder / "b.wav")]
    assert [name for name, _ in failed] == names[:2]
    assert "no audio files in this folder; --recursive" in str(failed[0][1])
    assert "matches no file" in str(failed[1][1])


def test_a_manifest_gives_its_stretches(folder: Path) -> None:
    utterance = Utterance(id="u", audio_filepath=folder / "a.flac", duration=0.25, offset=0.5)
    write_manifest([utterance], folder / "m.jsonl")
    (source,), _ = find_sources([str(folder / "m.jsonl")], SourceOptions())
    expected = NOISE[RATE // 2 :, 0][: RATE // 4]
    assert samples_of(source) == pytest.approx(expected, abs=1e-4)


def test_each_channel_is_a_source_of_its_own(folder: Path) -> None:
    (folder / "broken.wav").write_bytes(b"RIFF")
    options = SourceOptions(channel="each")
    found, _ = find_sources([str(folder)], options)
    stereo, plain, broken = (str(folder / name) for name in ("b.wav", "a.flac", "broken.wav"))
    assert ids(found) == [plain, f"{stereo}-ch1", f"{stereo}-ch2", broken]
    assert np.array_equal(samples_of(found[2]), NOISE[:, 1])
    stems = output_stems(ids(found))
    assert [str(stem) for stem in stems.values()] == ["a", "b-ch1", "b-ch2", "broken"]


def test_one_channel_may_be_asked_for(folder: Path) -> None:
    options = SourceOptions(channel=2)
    mono, stereo = find_sources([str(folder)], options)[0]
    assert np.array_equal(samples_of(stereo), NOISE[:, 1])
    with pytest.raises(AudioError, match=r"a\.flac: channel 2, but it has 1"):
        samples_of(mono)


def test_stdin_is_read_from_where_it_was_put(folder: Path) -> None:
    spooled = folder / "spooled"
    spooled.write_bytes(NOISE.astype("<f4").tobytes())
    options = SourceOptions(stdin=spooled, raw=RawFormat.parse("8000:f32:2"), channel=1)
    (source,), _ = find_sources(["-"], options)
    assert ids([source]) == ["stdin"]
    assert np.array_equal(samples_of(source), NOISE[:, 0])
    spooled.write_bytes(b"")
    with pytest.raises(AudioError, match=r"^-: is empty"):
        samples_of(source)


def test_a_list_holds_files_features_and_commands(folder: Path) -> None:
    path = folder / "wav.scp"
    path.write_text(f"u1 {folder}/a.flac\n\nu2\tfeats.1.ark:77\nu3  cat {folder}/b.wav |\n")
    found, failed = find_sources([str(path)], SourceOptions())
    assert ids(found) == ["u1", "u2"]
    assert str(found[1].utterance.audio_filepath) == "feats.1.ark:77"
    ((name, error),) = failed
    assert name == "u3"
    assert str(error).startswith(f"{path}:4: a command, which is not run")
    options = SourceOptions(allow_commands=True, channel=2)
    found, failed = find_sources([str(path)], options)
    assert not failed
    assert np.array_equal(samples_of(found[2]), NOISE[:, 1])


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        pytest.param(b"u1 a.ark:5\nu1 a.ark:9\n", ":2: id 'u1' occurs twice", id="an id twice"),
        pytest.param(b"u1\n", ":1: ID PATH is expected", id="no path"),
        pytest.param(b"\xff\xfe", ": not UTF-8", id="not text"),
    ],
)
def test_a_bad_list_is_refused_by_line(tmp_path: Path, content: bytes, cause: str) -> None:
    path = tmp_path / "wav.scp"
    path.write_bytes(content)
    _, ((_, error),) = find_sources([str(path)], SourceOptions())
    assert str(error).startswith(f"{path}{cause}")


def test_commands_are_split_as_a_shell_would_and_need_none() -> None:
    command = r"sph2pipe -f wav 'my file.sph' | sox -t wav - a\ b -r 16k |"
    assert split_command(command) == [
        ["sph2pipe", "-f", "wav", "my file.sph"],
        ["sox", "-t", "wav", "-", "a b", "-r", "16k"],
    ]


@pytest.mark.parametrize(
    "command",
    ["cat a > b |", "a; b |", "a && b |", "cat $HOME/a |", "`a` |", "a & |", "| b |", "|", "'a |"],
)
def test_what_needs_a_shell_is_refused(command: str) -> None:
    with pytest.raises(DataError):
        split_command(command)


def python(code: str) -> str:
    return f'{sys.executable} -c "{code}"'


def test_a_pipeline_gives_what_its_last_program_writes() -> None:
    count = python("import sys; sys.stdout.write(str(len(sys.stdin.read())))")
    with command_output(f"{python('print(chr(97) * 300000)')} | {count} |") as path:
        assert path.read_text() == "300001"
    assert not path.exists()


def test_a_program_may_stop_reading_early() -> None:
    with command_output("yes | head -c 5 |") as path:
        assert path.read_text() == "y\ny\ny"


@pytest.mark.parametrize(
    ("command", "cause"),
    [
        ("no-such-program-anywhere a |", "no-such-program-anywhere: No such file"),
        (python("import sys; sys.exit('because')") + " |", "exit code 1: because"),
        (python("import sys; sys.exit(3)") + f" | {python('pass')} |", "exit code 3"),
    ],
)
def test_a_command_that_fails_says_so_and_leaves_nothing(
    command: str, cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(AudioError, match=cause), command_output(command):
        pass
    assert not list(tmp_path.iterdir())
