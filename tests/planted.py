"""A clean corpus of two manifests, and one fault for each kind of finding to plant in it."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

from asr.corpus.manifest import Utterance, write_manifest

RATE = 16000
NUM_TRAIN, NUM_TEST = 60, 20
WORDS = tuple(
    "one two three four five six seven eight nine zero oh hundred and point".split()  # noqa: SIM905
)


@dataclass
class Corpus:
    """Two manifests and their audio, not written yet."""

    folder: Path
    train: list[Utterance]
    test: list[Utterance]
    place: int = 7
    """The utterance of train that a fault is planted in."""
    bad_lines: list[str] = field(default_factory=list)
    """Lines of train that are no utterances; they come last."""

    def write(self) -> list[Path]:
        paths = []
        for name, utterances in (("train", self.train), ("test", self.test)):
            path = self.folder / f"{name}.jsonl"
            write_manifest(utterances, path)
            paths.append(path)
        with paths[0].open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in self.bad_lines)
        return paths

    @property
    def target(self) -> Utterance:
        return self.train[self.place]

    def sound(self) -> NDArray[np.float64]:
        samples, _ = soundfile.read(self.target.audio_filepath)
        return samples

    def change(self, **changes: object) -> None:
        self.train[self.place] = replace(self.target, **changes)

    def save(self, samples: NDArray[np.float64], rate: int = RATE, subtype: str = "PCM_16") -> None:
        path = self.folder / f"planted{len(list(self.folder.glob('planted*')))}.wav"
        soundfile.write(path, samples, rate, subtype)
        self.change(audio_filepath=path, duration=len(samples) / rate)


def speech(seconds: float, random: np.random.Generator) -> NDArray[np.float64]:
    """Noise with the tilt of speech, in syllables, over a noise floor."""
    num = round(seconds * RATE)
    frequencies = np.fft.rfftfreq(num, 1 / RATE)
    tilt = 1 / np.maximum(1, frequencies / 500) ** 1.2
    tilt[frequencies < 80] = 0
    noise = np.fft.irfft(np.fft.rfft(random.standard_normal(num)) * tilt, num)
    time = np.arange(num) / RATE
    syllables = np.clip(np.sin(2 * np.pi * 4 * time), 0.02, 1)
    return 0.1 * noise / noise.std() * syllables + 1e-4 * random.standard_normal(num)


def make_corpus(folder: Path) -> Corpus:
    """The clean one."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(7)
    splits: dict[str, list[Utterance]] = {"train": [], "test": []}
    for index in range(NUM_TRAIN + NUM_TEST):
        split = "train" if index < NUM_TRAIN else "test"
        text = " ".join(random.choice(WORDS, random.integers(2, 9)))
        text = f"{text} {WORDS[index % 14]} {WORDS[index // 14]}"
        samples = speech(0.3 + 0.07 * len(text.replace(" ", "")) * random.uniform(0.9, 1.1), random)
        path = folder / f"{index}.wav"
        soundfile.write(path, samples, RATE)
        splits[split].append(
            Utterance(
                id=f"{split}{index}",
                audio_filepath=path,
                duration=len(samples) / RATE,
                text=text,
                speaker=f"{split} speaker {index % 4}",
            )
        )
    return Corpus(folder, **splits)


def _truncated(corpus: Corpus) -> None:
    corpus.save(corpus.sound())
    path = corpus.target.audio_filepath
    path.write_bytes(path.read_bytes()[:9000])


def _flac_damaged(corpus: Corpus) -> None:
    path = corpus.folder / "planted.flac"
    soundfile.write(path, corpus.sound(), RATE)
    content = bytearray(path.read_bytes())
    content[200:400] = bytes(200)
    path.write_bytes(content)
    corpus.change(audio_filepath=path)


def _header_too_short(corpus: Corpus) -> None:
    # A Matroska file whose header names half of its length, as after joining two.
    path = corpus.folder / "planted.mka"
    samples = np.rint(32767 * corpus.sound()).astype(np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=RATE)
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = RATE
        container.mux(list(stream.encode(frame)) + list(stream.encode(None)))
    content = bytearray(path.read_bytes())
    place = content.index(b"\x44\x89\x88") + 3  # element Duration, 8 bytes, a double
    (duration,) = struct.unpack(">d", content[place : place + 8])
    content[place : place + 8] = struct.pack(">d", duration / 2)
    path.write_bytes(content)
    corpus.change(audio_filepath=path)


def _upsampled(corpus: Corpus) -> None:
    spectrum = np.fft.rfft(corpus.sound())
    spectrum[len(spectrum) // 2 :] = 0
    corpus.save(np.fft.irfft(spectrum))


def _cut_spectrum(corpus: Corpus) -> None:
    spectrum = np.fft.rfft(corpus.sound())
    spectrum[int(0.72 * len(spectrum)) :] = 0
    corpus.save(np.fft.irfft(spectrum))


def _not_finite(corpus: Corpus) -> None:
    samples = corpus.sound()
    samples[500:503] = [np.nan, np.inf, -np.inf]
    corpus.save(samples, subtype="FLOAT")


def _padded(corpus: Corpus) -> None:
    # The duration is that of the padded file: only the zeros tell.
    corpus.save(np.concatenate([corpus.sound(), np.zeros(2 * RATE)]))


def _short(corpus: Corpus) -> None:
    corpus.save(corpus.sound()[:1200])
    corpus.change(text="oh")


def _long(corpus: Corpus) -> None:
    text = " ".join(WORDS * 20)
    random = np.random.default_rng(1)
    corpus.save(speech(0.07 * len(text.replace(" ", "")), random))
    corpus.change(text=text)


def _copy(corpus: Corpus, index: int, text: str | None = None) -> None:
    source = corpus.train[index]
    # Another container: the sound is the same, the file is not.
    path = corpus.folder / f"copy{index}.flac"
    soundfile.write(path, soundfile.read(source.audio_filepath)[0], RATE, subtype="PCM_24")
    corpus.change(
        audio_filepath=path,
        duration=source.duration,
        text=text if text is not None else source.text,
    )


def _leaked(corpus: Corpus) -> None:
    leak = corpus.test[3]
    corpus.change(audio_filepath=leak.audio_filepath, duration=leak.duration, text=leak.text)


def _shared_recording(corpus: Corpus) -> None:
    samples = np.concatenate([soundfile.read(corpus.test[3].audio_filepath)[0], corpus.sound()])
    corpus.save(samples)
    path, split = corpus.target.audio_filepath, corpus.test[3].duration
    corpus.change(offset=split, duration=len(samples) / RATE - split)
    corpus.test[3] = replace(corpus.test[3], audio_filepath=path)


def _mixed_inputs(corpus: Corpus) -> None:
    path = corpus.folder / "planted.mfc"
    values = np.random.default_rng(0).standard_normal((90, 13)).astype(">f4")
    path.write_bytes(np.array([values.size], ">i4").tobytes() + values.tobytes())
    corpus.change(audio_filepath=path)


def _orphan(corpus: Corpus) -> None:
    corpus.save(corpus.sound())
    soundfile.write(corpus.folder / "orphan.wav", corpus.sound()[::-1], RATE)


def _texts(text: str | None) -> Callable[[Corpus], None]:
    return lambda corpus: corpus.change(text=text)


def _stereo(
    other: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> Callable[[Corpus], None]:
    def plant(corpus: Corpus) -> None:
        samples = corpus.sound()
        corpus.save(np.stack([samples, other(samples)], axis=1))

    return plant


def _lines(line: str) -> Callable[[Corpus], None]:
    return lambda corpus: corpus.bad_lines.append(line)


FAULTS: dict[str, tuple[str, Callable[[Corpus], None]]] = {
    "half a line": ("malformed", _lines('{"audio_filepath": "a.wa')),
    "no file named": ("malformed", _lines('{"duration": 1.0, "text": "oh"}')),
    "length in words": ("malformed", _lines('{"audio_filepath": "a.wav", "duration": "one"}')),
    "the same id again": (
        "repeated-id",
        _lines('{"id": "train5", "audio_filepath": "a.wav", "duration": 1.0, "text": "oh"}'),
    ),
    "no file": ("missing", lambda c: c.change(audio_filepath=c.folder / "nowhere.wav")),
    "text in a wav": ("unreadable", lambda c: c.change(audio_filepath=c.folder / "train.jsonl")),
    "cut wav": ("truncated", _truncated),
    "damaged flac": ("unreadable", _flac_damaged),
    "offset after the end": ("past-end", lambda c: c.change(offset=99.0)),
    "another file's length": ("wrong-length", lambda c: c.change(duration=99.0)),
    "duration a little off": ("duration", lambda c: c.change(duration=c.target.duration + 0.2)),
    "nan": ("not-finite", _not_finite),
    "zeros": ("silent", lambda c: c.save(0 * c.sound())),
    "next to nothing": ("silent", lambda c: c.save(1e-4 * c.sound())),
    "features among audio": ("mixed-inputs", _mixed_inputs),
    "header of half the length": ("header-length", _header_too_short),
    "a few milliseconds": ("short", _short),
    "overdriven": ("clipped", lambda c: c.save(np.clip(8 * c.sound(), -0.7, 0.7))),
    "not centred": ("offset", lambda c: c.save(c.sound() + 0.05)),
    "soft": ("quiet", lambda c: c.save(0.005 * c.sound())),
    "zeros at the end": ("padded", _padded),
    "opposite channels": ("channels", _stereo(lambda samples: -samples)),
    "one dead channel": ("channels", _stereo(lambda samples: 0.001 * samples)),
    "two speakers": ("channels", _stereo(lambda samples: samples[::-1])),
    "half the rate": ("low-rate", lambda c: c.save(c.sound()[::2], RATE // 2)),
    "twice the rate": ("other-rate", lambda c: c.save(np.repeat(c.sound(), 2), 2 * RATE)),
    "upsampled": ("upsampled", _upsampled),
    "codec": ("cut-spectrum", _cut_spectrum),
    "far too long": ("long", _long),
    "no text": ("no-text", _texts(None)),
    "empty text": ("empty-text", _texts(" ")),
    "digits": ("digits", lambda c: c.change(text=f"{c.target.text} 7")),
    "capitals": ("case", lambda c: c.change(text=(c.target.text or "").upper())),
    "zero byte": ("control-character", lambda c: c.change(text=f"{c.target.text}\0")),
    "zero-width space": ("control-character", lambda c: c.change(text=f"\u200b{c.target.text}")),
    "not decoded": ("control-character", lambda c: c.change(text=f"{c.target.text}\ufffd")),
    "tag": ("markup", lambda c: c.change(text=f"<noise> {c.target.text}")),
    "entity": ("markup", lambda c: c.change(text=f"{c.target.text} &amp;")),
    "Cyrillic o": ("mixed-script", lambda c: c.change(text=f"{c.target.text} \u043ene")),
    "two spaces": ("spaces", lambda c: c.change(text=(c.target.text or "").replace(" ", "  "))),
    "loose accent": ("not-nfc", lambda c: c.change(text=f"{c.target.text} e\u0301")),
    "a page of text": (
        "speaking-rate",
        lambda c: c.change(text=" ".join([c.target.text or ""] * 4)),
    ),
    "hardly a text": ("speaking-rate", lambda c: c.save(np.tile(c.sound(), 4))),
    "twice the same": ("duplicate", lambda c: _copy(c, 2)),
    "same sound, other text": ("conflicting-text", lambda c: _copy(c, 3, "five point oh one")),
    "test audio": ("leaked-audio", _leaked),
    "test speaker": ("shared-speaker", lambda c: c.change(speaker="test speaker 1")),
    "test recording": ("shared-recording", _shared_recording),
    "test sentence": ("shared-text", lambda c: c.change(text=c.test[3].text)),
    "nobody's": ("no-speaker", lambda c: c.change(speaker=None)),
    "a file that nobody names": ("orphan", _orphan),
}
"""Kind and planting of each fault."""
