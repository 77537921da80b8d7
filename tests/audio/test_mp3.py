import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from asr.audio import inspect_audio, open_sound
from asr.errors import AudioError

av = pytest.importorskip("av")

SECONDS = 7.3
CBR: dict[str, str] = {}
VBR = {"global_quality": "472", "flags": "+qscale"}


def tone(rate: int, seconds: float = SECONDS) -> NDArray[np.float32]:
    """A tone that is simple at first and then not, so that a variable rate varies."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).standard_normal(len(time)) * (time > seconds / 2)
    return (0.2 * np.sin(2 * np.pi * 300 * time) + 0.1 * noise).astype(np.float32)


def encode(
    rate: int,
    codec: dict[str, str],
    muxer: dict[str, str],
    channels: int = 1,
    kind: tuple[str, str] = ("mp3", "libmp3lame"),
    seconds: float = SECONDS,
) -> bytes:
    file = io.BytesIO()
    layout = "mono" if channels == 1 else "stereo"
    with av.open(file, "w", format=kind[0], options=muxer) as container:
        stream: Any = container.add_stream(kind[1], rate=rate, options=codec)
        stream.layout = layout
        frame = av.AudioFrame.from_ndarray(
            np.stack([tone(rate, seconds)] * channels), format="fltp", layout=layout
        )
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return file.getvalue()


def libsndfile(rate: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, tone(rate), rate, format="MP3")
    return file.getvalue()


def with_frames(content: bytes, count: int) -> bytes:
    """The file with another number of frames in its tag."""
    place = max(content.find(b"Xing"), content.find(b"Info")) + 8
    return content[:place] + count.to_bytes(4, "big") + content[place + 4 :]


BARE = {"write_xing": "0", "id3v2_version": "0"}
FILES: dict[str, Callable[[int], bytes]] = {
    "constant rate": lambda rate: encode(rate, CBR, {}),
    "variable rate": lambda rate: encode(rate, VBR, {}),
    "constant rate, no tag": lambda rate: encode(rate, CBR, {"write_xing": "0"}),
    "variable rate, no tag": lambda rate: encode(rate, VBR, BARE),
    "two channels": lambda rate: encode(rate, VBR, BARE, channels=2),
    "ID3 in front and behind": lambda rate: encode(rate, VBR, {"write_id3v1": "1"}),
    "libsndfile's": libsndfile,
    "joined": lambda rate: encode(rate, VBR, {}) + encode(rate, CBR, {}),
    "joined, no tags": lambda rate: encode(rate, VBR, BARE) + encode(rate, CBR, BARE),
    "a tag of too few frames": lambda rate: with_frames(encode(rate, VBR, {}), 20),
    "a tag of too many frames": lambda rate: with_frames(encode(rate, VBR, {}), 100_000),
    "cut, no tag": lambda rate: encode(rate, VBR, BARE)[:-5000],
}


def decoded_by_ffmpeg(path: Path) -> int:
    """Samples that FFmpeg decodes; packets that it cannot are skipped, as its program does."""
    count = 0
    with av.open(str(path)) as container:
        for packet in container.demux(container.streams.audio[0]):
            try:
                count += sum(frame.samples for frame in packet.decode())
            except av.error.InvalidDataError:
                continue
    return count


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("name", FILES)
def test_an_mp3_file_is_read_to_its_end(name: str, rate: int, tmp_path: Path) -> None:
    path = tmp_path / "sound.mp3"
    path.write_bytes(FILES[name](rate))
    with open_sound(path) as sound:
        count = sum(len(block) for block in sound.blocks)
    if name.startswith("a tag"):  # FFmpeg believes it, and cuts or pads the end
        assert count == pytest.approx(SECONDS * rate, abs=4000)
    else:
        assert count == decoded_by_ffmpeg(path)
    assert inspect_audio(path).num_samples == count


@pytest.mark.parametrize(
    "content",
    [
        *(
            pytest.param(encode(8000, codec, BARE, seconds=seconds), id=f"{name} {seconds} s")
            for name, codec in (("constant", CBR), ("variable", VBR))
            for seconds in (0.1, 0.3, 0.5, 1.0)  # of which an estimate may lack a third
        ),
        pytest.param(encode(44100, CBR, {}, kind=("wav", "libmp3lame")), id="in WAV"),
        pytest.param(encode(44100, VBR, {}, kind=("wav", "libmp3lame")), id="variable, in WAV"),
        pytest.param(encode(16000, {}, {}, kind=("adts", "aac"), seconds=60.0), id="AAC"),
        pytest.param(encode(48000, {}, {}, kind=("ac3", "ac3")), id="AC-3"),
    ],
)
def test_what_says_nothing_of_its_length_is_read_to_its_end(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "sound"
    path.write_bytes(content)
    with open_sound(path) as sound:
        count = sum(len(block) for block in sound.blocks)
    assert count == decoded_by_ffmpeg(path)
    shown = inspect_audio(path)
    assert shown.num_samples == pytest.approx(count, abs=shown.sample_rate // 2)


@pytest.mark.parametrize("rate", [8000, 44100])
def test_an_mp3_file_that_is_shorter_than_its_tag_says_is_refused(
    rate: int, tmp_path: Path
) -> None:
    path = tmp_path / "sound.mp3"
    path.write_bytes(encode(rate, VBR, {})[:-5000])
    with pytest.raises(AudioError, match="truncated"), open_sound(path) as sound:
        list(sound.blocks)


def test_real_recordings_are_read_by_libsndfile(corpora: Path) -> None:
    paths = sorted((corpora / "LibriSpeech").rglob("*.mp3"))[:40]
    for path in paths:
        assert inspect_audio(path).format.startswith("MP3"), path
