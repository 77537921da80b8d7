import dataclasses
import struct
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.audio.files import inspect_audio
from asr.audio.sound import RawFormat
from asr.audio.stream import open_audio, read_audio, stream_samples, to_mono
from asr.errors import AudioError

RATE = 16000


def sine(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype("f4")


def noise(num_samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, num_samples).astype("f4")


def write_av(path: Path, samples: np.ndarray, codec: str, rate: int) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate = rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("suffix", "subtype", "tolerance"),
    [
        ("wav", "PCM_U8", 1 / 128),
        ("wav", "PCM_16", 1 / 32768),
        ("wav", "PCM_24", 1e-6),
        ("wav", "PCM_32", 1e-6),
        ("wav", "FLOAT", 0),
        ("wav", "DOUBLE", 1e-7),
        ("wav", "ULAW", 0.02),
        ("wav", "ALAW", 0.02),
        ("flac", "PCM_16", 1 / 32768),
        ("aiff", "PCM_16", 1 / 32768),
        ("sph", "PCM_16", 1 / 32768),
        ("caf", "PCM_16", 1 / 32768),
    ],
)
def test_every_width_gives_the_samples_that_were_written(
    tmp_path: Path, suffix: str, subtype: str, tolerance: float
) -> None:
    path = tmp_path / f"a.{suffix}"
    written = noise(5000)
    container = "NIST" if suffix == "sph" else suffix.upper()
    soundfile.write(path, written, RATE, subtype=subtype, format=container)
    audio = read_audio(path, sample_rate=RATE)
    assert audio.samples.dtype == np.float32
    assert audio.source_rate == audio.sample_rate == RATE
    assert audio.samples == pytest.approx(written, abs=tolerance)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
def test_a_tone_stays_the_same_tone_at_another_rate(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", sine(1, rate), rate, subtype="FLOAT")
    audio = read_audio(tmp_path / "a.wav", sample_rate=RATE)
    assert (audio.sample_rate, audio.source_rate) == (RATE, rate)
    assert len(audio.samples) == RATE
    inner = slice(1000, -1000)  # the filter rings at the ends
    assert audio.samples[inner] == pytest.approx(sine(1, RATE)[inner], abs=1e-3)


def test_what_the_lower_rate_cannot_hold_is_filtered_out(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", sine(1, 48000, hertz=12000), 48000, subtype="FLOAT")
    audio = read_audio(tmp_path / "a.wav", sample_rate=RATE)
    assert np.abs(audio.samples[1000:-1000]).max() < 1e-3


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_channels_are_averaged(tmp_path: Path, channels: int) -> None:
    written = noise(3000 * channels).reshape(-1, channels)
    soundfile.write(tmp_path / "a.wav", written, RATE, subtype="FLOAT")
    audio = read_audio(tmp_path / "a.wav", sample_rate=RATE)
    assert audio.samples == pytest.approx(written.mean(axis=1), abs=1e-6)
    assert inspect_audio(tmp_path / "a.wav").num_channels == channels


@pytest.mark.parametrize(
    ("name", "codec", "rate", "tolerance"),
    [
        pytest.param("a.mkv", "pcm_s16le", 16000, 1e-4, id="mkv"),
        pytest.param("a.mov", "pcm_s16le", 16000, 1e-4, id="mov"),
        pytest.param("a.m4a", "aac", 16000, 0.05, id="m4a"),
        pytest.param("a.mp4", "aac", 44100, 0.05, id="mp4"),
        pytest.param("a.webm", "libopus", 48000, 0.05, id="webm"),
    ],
)
def test_containers_that_libsndfile_does_not_know_are_read(
    tmp_path: Path, name: str, codec: str, rate: int, tolerance: float
) -> None:
    path = write_av(tmp_path / name, sine(1.5, rate), codec, rate)
    audio = read_audio(path, sample_rate=RATE)
    assert audio.source_rate == rate
    assert len(audio.samples) == pytest.approx(1.5 * RATE, abs=0.11 * RATE)
    # A codec may add a little silence in front, so the tone is looked for by its spectrum.
    middle = audio.samples[4000:20000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert spectrum.argmax() == round(440 * len(middle) / RATE)
    assert np.sqrt((middle**2).mean()) == pytest.approx(0.5 / np.sqrt(2), abs=tolerance)
    described = inspect_audio(path)
    assert (described.sample_rate, described.num_channels) == (rate, 1)
    assert described.duration == pytest.approx(1.5, abs=0.11)


def test_a_stretch_of_a_video_container_is_the_slice_of_the_whole(tmp_path: Path) -> None:
    path = write_av(tmp_path / "a.mkv", noise(40000), "pcm_s16le", RATE)
    whole = read_audio(path, sample_rate=RATE).samples
    part = read_audio(path, sample_rate=RATE, offset=0.5, duration=1.25).samples
    assert np.array_equal(part, whole[8000:28000])


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, np.ndarray]]:
    folder = tmp_path_factory.mktemp("coded")
    files = {}
    for suffix in ("wav", "flac", "mp3", "ogg"):
        path = folder / f"a.{suffix}"
        soundfile.write(path, noise(100_000), RATE)
        files[suffix] = (path, read_audio(path, sample_rate=RATE).samples)
    return files


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
@settings(max_examples=10, deadline=None)
@given(start=st.integers(0, 99_000), count=st.integers(1, 120_000))
def test_a_stretch_is_the_slice_of_the_whole(
    coded: dict[str, tuple[Path, np.ndarray]], suffix: str, start: int, count: int
) -> None:
    path, whole = coded[suffix]
    part = read_audio(path, sample_rate=RATE, offset=start / RATE, duration=count / RATE)
    assert part.samples == pytest.approx(whole[start : start + count], abs=1e-4)


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
def test_reading_in_blocks_is_reading_at_once(
    coded: dict[str, tuple[Path, np.ndarray]], suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path, _ = coded[suffix]
    whole = read_audio(path, sample_rate=RATE).samples
    assert capfd.readouterr() == ("", "")  # libmpg123 writes there itself
    at_once = soundfile.read(path, dtype="float32")[0].clip(-1, 1)
    assert np.abs(whole - at_once).max() < 1e-5


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
def test_the_header_tells_what_decoding_gives(
    coded: dict[str, tuple[Path, np.ndarray]], suffix: str
) -> None:
    path, whole = coded[suffix]
    described = inspect_audio(path)
    assert described.num_samples == len(whole) == 100_000
    assert described.duration == 6.25
    assert described.sample_rate == RATE
    assert described.format.startswith(suffix.upper())


def test_a_size_that_a_pipe_left_open_is_no_truncation(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(5000), RATE)
    patch(path, b"data", 4, struct.pack("<I", 0xFFFFFFFF))
    assert len(read_audio(path, sample_rate=RATE).samples) == 5000


def test_samples_beyond_full_scale_are_clipped(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.array([0.5, 1.5, -3.0]), RATE, subtype="FLOAT")
    samples = read_audio(tmp_path / "a.wav", sample_rate=RATE).samples
    assert samples.tolist() == [0.5, 1.0, -1.0]


def test_a_suffix_does_not_decide_the_format(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(5000), RATE)
    renamed = (tmp_path / "a.wav").rename(tmp_path / "a.raw")
    assert len(read_audio(renamed, sample_rate=RATE).samples) == 5000


def test_values_are_frozen(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(500), RATE)
    audio = read_audio(tmp_path / "a.wav", sample_rate=RATE)
    with pytest.raises(dataclasses.FrozenInstanceError):
        audio.sample_rate = 1  # type: ignore[misc]


def test_samples_in_memory_take_the_same_way_as_a_file(tmp_path: Path) -> None:
    written = noise(20_000).reshape(-1, 2)
    soundfile.write(tmp_path / "a.wav", written, 44100, subtype="FLOAT")
    from_file = read_audio(tmp_path / "a.wav", sample_rate=RATE).samples
    assert np.array_equal(to_mono(written, 44100, RATE), from_file)


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (np.zeros(0, "f4"), RATE, "samples: no samples"),
        (np.full(9, np.nan, "f4"), RATE, "samples: holds samples that are NaN or infinite"),
        (np.zeros((2, 2, 2), "f4"), RATE, r"samples: .* found \(2, 2, 2\)"),
        (np.zeros(9, "f4"), 0, "samples: a sample rate of 0 Hz"),
    ],
)
def test_bad_samples_in_memory_are_refused(samples: np.ndarray, rate: int, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        to_mono(samples, rate, RATE)


@pytest.mark.parametrize(("rate", "model_rate"), [(44100, 16000), (8000, 16000), (22050, 8000)])
def test_a_stream_is_bit_for_bit_what_one_piece_gives(rate: int, model_rate: int) -> None:
    samples = noise(300_007)
    blocks = list(stream_samples(samples, rate, model_rate))
    assert len(blocks) > 4
    at_once = np.clip(soxr.resample(samples, rate, model_rate, quality="HQ"), -1, 1)
    assert np.array_equal(np.concatenate(blocks), at_once)


@pytest.mark.parametrize("rate", [RATE, 8000])
def test_one_channel_can_be_taken(tmp_path: Path, rate: int) -> None:
    left, right = noise(3000, seed=1), noise(3000, seed=2)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], 1), RATE, subtype="FLOAT")
    audio = read_audio(tmp_path / "a.wav", sample_rate=rate, channel=2)
    assert np.array_equal(audio.samples, to_mono(right, RATE, rate))
    with pytest.raises(AudioError, match="channel 3, but it has 2"):
        read_audio(tmp_path / "a.wav", sample_rate=RATE, channel=3)


def tone(level: float) -> np.ndarray:
    return level * sine(1, RATE)


@pytest.mark.parametrize(
    ("samples", "warning"),
    [
        pytest.param(tone(1.0), None, id="a tone"),
        pytest.param(np.stack([tone(1), tone(1)], 1), None, id="in phase"),
        pytest.param(np.stack([noise(9000, 1), noise(9000, 2)], 1), None, id="two speakers"),
        pytest.param(np.stack([tone(1), tone(0)], 1), None, id="one channel silent"),
        pytest.param(np.stack([tone(1), tone(-1)], 1), "antiphase", id="antiphase"),
        pytest.param(np.stack([tone(1), tone(-0.9)], 1), "antiphase", id="nearly antiphase"),
        pytest.param(tone(0.0), "silent", id="silence"),
        pytest.param(tone(8.0), "clipped: 8", id="clipped"),
        pytest.param(np.stack([tone(0), tone(0)], 1), "silent", id="two silent channels"),
    ],
)
def test_what_costs_accuracy_is_noticed(samples: np.ndarray, warning: str | None) -> None:
    stream = stream_samples(samples.clip(-1, 1), RATE, RATE)
    assert sum(len(block) for block in stream) == len(samples)
    assert [warning in text for text in stream.warnings()] == ([] if warning is None else [True])


def test_samples_without_a_header_are_read_as_said(tmp_path: Path) -> None:
    written = noise(2000).reshape(-1, 2)
    path = tmp_path / "a.pcm"
    path.write_bytes(written.astype("<f4").tobytes())
    raw = RawFormat.parse("8000:f32:2")
    with open_audio(path, sample_rate=8000, channel=2, raw=raw) as stream:
        assert stream.duration == 1000 / 8000
        assert np.array_equal(np.concatenate(list(stream)), written[:, 1])
    path.write_bytes((written[:, 0] * 32768).astype("<i2").tobytes())
    with open_audio(path, sample_rate=RATE, raw=RawFormat.parse("16000")) as stream:
        assert np.concatenate(list(stream)) == pytest.approx(written[:, 0], abs=1e-4)


@pytest.mark.parametrize("text", ["", "s16", "0", "16000:s12", "16000:s16:0", "16000:s16:1:1"])
def test_another_raw_format_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="RATE"):
        RawFormat.parse(text)


def read_and_fail(path: Path) -> None:
    with open_audio(path, sample_rate=RATE) as stream:
        next(iter(stream))
        raise OSError("disk full")


@pytest.mark.parametrize("name", ["a.wav", "a.mkv"])
def test_an_error_of_who_reads_is_not_the_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "a.wav":
        soundfile.write(path, noise(32_000), RATE)
    else:
        write_av(path, noise(32_000), "pcm_s16le", RATE)
    with pytest.raises(OSError, match="disk full"):
        read_and_fail(path)


def patch(path: Path, mark: bytes, offset: int, value: bytes) -> None:
    content = bytearray(path.read_bytes())
    start = content.index(mark) + offset
    content[start : start + len(value)] = value
    path.write_bytes(content)


def cut(path: Path, share: float = 0.6) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def missing(path: Path) -> None:
    path.unlink()


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def without_samples(path: Path) -> None:
    soundfile.write(path, noise(0), RATE, format="WAV")


def text(path: Path) -> None:
    path.write_text("this is no audio\n" * 100)


def random_bytes(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(5000))


def not_finite(path: Path) -> None:
    samples = noise(5000)
    samples[3000] = np.nan
    soundfile.write(path, samples, RATE, subtype="FLOAT", format="WAV")


def infinite(path: Path) -> None:
    samples = noise(5000)
    samples[3000] = np.inf
    soundfile.write(path, samples, RATE, subtype="FLOAT", format="WAV")


def no_rate(path: Path) -> None:
    patch(path, b"fmt ", 12, struct.pack("<I", 0))


def two_megahertz(path: Path) -> None:
    patch(path, b"fmt ", 12, struct.pack("<I", 2_000_000))


def picture(path: Path) -> None:
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), "u1"), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("suffix", "spoil", "cause"),
    [
        pytest.param("wav", missing, "No such file", id="missing"),
        pytest.param("wav", folder, "is a directory", id="a folder"),
        pytest.param("wav", empty, "is empty (0 bytes)", id="zero bytes"),
        pytest.param("wav", without_samples, "no samples", id="no samples"),
        pytest.param("wav", text, "not audio", id="text named .wav"),
        pytest.param("mp3", text, "not audio", id="text named .mp3"),
        pytest.param("wav", random_bytes, "not audio", id="random bytes"),
        pytest.param("wav", not_finite, "NaN or infinite", id="NaN"),
        pytest.param("wav", infinite, "NaN or infinite", id="infinity"),
        pytest.param("wav", no_rate, "0 Hz", id="0 Hz"),
        pytest.param("wav", two_megahertz, "2000000 Hz", id="2 MHz"),
        pytest.param("wav", cut, "truncated", id="truncated wav"),
        pytest.param("sph", cut, "truncated", id="truncated SPHERE"),
        pytest.param("aiff", cut, "truncated", id="truncated aiff"),
        pytest.param("flac", cut, "truncated", id="truncated flac"),
        pytest.param("ogg", cut, "truncated", id="truncated ogg"),
        pytest.param("mp3", cut, "truncated", id="truncated mp3"),
        pytest.param("caf", cut, "truncated", id="truncated caf"),
        pytest.param("m4a", cut, "not audio", id="truncated m4a, without its index"),
        pytest.param("mkv", cut, "truncated", id="truncated mkv"),
        pytest.param("mkv", picture, "no sound in it, only video", id="video without sound"),
    ],
)
def test_a_bad_file_is_one_line_with_its_name_and_the_cause(
    tmp_path: Path, suffix: str, spoil: Any, cause: str
) -> None:
    path = tmp_path / f"two\nlines.{suffix}"
    if suffix in ("mkv", "m4a"):
        plain = tmp_path / f"a.{suffix}"
        write_av(plain, noise(60_000), "aac" if suffix == "m4a" else "pcm_s16le", RATE)
        plain.rename(path)
    else:
        container = "NIST" if suffix == "sph" else suffix.upper()
        soundfile.write(path, noise(60_000), RATE, format=container)
    spoil(path)
    with pytest.raises(AudioError) as caught:
        read_audio(path, sample_rate=RATE)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/two\\nlines.{suffix}: ")
    assert cause in message
    assert "\n" not in message
    assert "Error" not in message


def test_a_playlist_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "private.wav", noise(5000), RATE)
    (tmp_path / "a.m4a").write_text("ffconcat version 1.0\nfile private.wav\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AudioError, match="not audio"):
        read_audio(tmp_path / "a.m4a", sample_rate=RATE)


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "mkv"])
def test_an_offset_beyond_the_end_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    if suffix == "mkv":
        write_av(path, noise(32_000), "pcm_s16le", RATE)
    else:
        soundfile.write(path, noise(32_000), RATE)
    with pytest.raises(AudioError, match=r"nothing at 2.5 s, it ends at 2 s"):
        read_audio(path, sample_rate=RATE, offset=2.5)


@pytest.mark.parametrize(
    ("offset", "duration"), [(-1.0, None), (float("nan"), None), (0.0, 0.0), (0.0, -1.0)]
)
def test_an_impossible_stretch_is_refused(
    tmp_path: Path, offset: float, duration: float | None
) -> None:
    soundfile.write(tmp_path / "a.wav", noise(500), RATE)
    with pytest.raises(AudioError, match="name no stretch"):
        read_audio(tmp_path / "a.wav", sample_rate=RATE, offset=offset, duration=duration)


def test_a_sphere_file_and_its_wav_copy_hold_the_same_samples(
    corpora: Path, tmp_path: Path
) -> None:
    path = min((corpora / "an4" / "wav").rglob("*.sph"))
    content = path.read_bytes()
    header = int(content[8:16])  # NIST_1A, newline, size of the header in ASCII
    stored = np.frombuffer(content[header:], "<i2" if b"-s2 01" in content[:header] else ">i2")
    samples = read_audio(path, sample_rate=RATE).samples
    assert np.array_equal(samples * 32768, stored)
    cut_path = tmp_path / "a.sph"
    cut_path.write_bytes(content[:-1000])
    with pytest.raises(AudioError, match="truncated"):
        inspect_audio(cut_path)


def test_a_container_without_pyav_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.m4a").write_bytes(b"no sound")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(AudioError, match=r"a\.m4a: .* needs PyAV: pip install av"):
        read_audio(tmp_path / "a.m4a", sample_rate=RATE)
