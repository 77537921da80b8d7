"""What FFmpeg reads where libsndfile does not, and lengths that headers make up."""

import struct
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from asr.audio import inspect_audio, read_audio
from asr.audio.containers import _FORMATS
from asr.errors import AudioError
from tests.bad_audio import FAILURES, RATE, cut, encoded, muxed, speech


def flac_of_32_bits(path: Path) -> np.ndarray:
    samples = (speech() * 2**31).astype("i4")
    with av.open(path, "w", format="flac") as output:
        stream = output.add_stream(
            "flac", rate=RATE, layout="mono", options={"strict": "experimental"}
        )
        stream.codec_context.format = "s32"  # type: ignore[attr-defined]
        frame = av.AudioFrame.from_ndarray(samples[None], format="s32", layout="mono")
        frame.sample_rate = RATE
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return (samples / 2**31).astype("f4")


def test_a_flac_of_32_bits_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    samples = flac_of_32_bits(path)
    with pytest.raises(soundfile.LibsndfileError):
        soundfile.read(path)
    assert inspect_audio(path).num_samples == len(samples)
    np.testing.assert_array_equal(read_audio(path, sample_rate=RATE).samples, samples)
    path.write_bytes(cut(path.read_bytes()))
    with pytest.raises(AudioError, match=r"a.flac: .*(truncated|damaged)"):
        read_audio(path, sample_rate=RATE)


def test_a_dsf_is_read(tmp_path: Path) -> None:
    bits = 4096 * 8 * 4
    data = np.random.default_rng(0).integers(0, 256, bits // 8, dtype="u1").tobytes()
    layout = struct.pack("<4sQIIIIIIQII", b"fmt ", 52, 1, 0, 1, 1, 2_822_400, 1, bits, 4096, 0)
    chunk = struct.pack("<4sQ", b"data", 12 + len(data)) + data
    head = struct.pack("<4sQQQ", b"DSD ", 28, 28 + len(layout) + len(chunk), 0)
    path = tmp_path / "a.dsf"
    path.write_bytes(head + layout + chunk)
    info = inspect_audio(path)
    assert (info.sample_rate, info.num_samples) == (352_800, bits // 8)
    assert len(read_audio(path, sample_rate=RATE).samples) == round(bits / 8 / 352_800 * RATE)


@pytest.mark.parametrize("codec", ["speex", "mpc7", "mpc8", "tak", "dsd_lsbf"])
def test_what_nothing_here_encodes_has_its_decoder_and_container(codec: str) -> None:
    assert codec in av.codecs_available
    container = {"speex": "ogg", "mpc7": "mpc", "dsd_lsbf": "dsf"}.get(codec, codec)
    assert container in _FORMATS.split(",")


def with_duration(samples: int) -> bytes:
    """An m4a whose headers say that it is so long."""
    content = bytearray(muxed("mp4", "aac", speech(5)))
    for name, place in ((b"mvhd", 20), (b"tkhd", 24), (b"mdhd", 20)):
        start = content.index(name) + place
        content[start : start + 4] = struct.pack(">I", samples)
    table = content.index(b"stts") + 12  # count and length, in samples, of each kind of packet
    content[table + 4 : table + 8] = struct.pack(">I", samples // 40)
    content[content.index(b"elst") : content.index(b"elst") + 4] = b"free"
    return bytes(content)


def test_a_length_that_a_container_makes_up_is_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "a.m4b"
    path.write_bytes(with_duration(3_700_000_000))
    with pytest.raises(AudioError, match=r"a.m4b: truncated: \d+\.\d+ s expected, 5\.\d+ s there"):
        inspect_audio(path)


def test_a_length_that_a_flac_makes_up_is_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    content = bytearray(encoded("FLAC"))
    # Of STREAMINFO the 36 bits that say how many samples there are.
    content[21] |= 15
    content[22:26] = b"\xff\xff\xff\xfe"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=r"a.flac: truncated"):
        inspect_audio(path)


def test_a_long_silence_in_a_small_file_has_its_length(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(encoded("FLAC", np.zeros(40 * 60 * RATE, "f4")))
    assert inspect_audio(path).num_samples > 256 * path.stat().st_size


TRUNCATED = [name for name in FAILURES if name.startswith("truncated")]


@pytest.mark.parametrize("name", TRUNCATED)
def test_a_file_that_is_cut_is_not_shown_as_long_as_its_header_says(
    name: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(FAILURES[name][0])
    with pytest.raises(AudioError, match="truncated"):
        inspect_audio(path)
