"""What is wrong with audio, by what was measured of it, alone and among its corpus."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from asr.corpus.checks.findings import Finding
from asr.corpus.checks.measures import AudioMeasures, FeatureMeasures, FileMeasures
from asr.corpus.manifest import Utterance

MIN_UTTERANCES = 30
"""Utterances that it takes to say what speaking rate is usual."""

_DURATION_SLACK = 0.05  # seconds; manifests are rounded, and count a frame more or less
_WRONG_SECONDS, _WRONG_SHARE = 0.5, 0.1  # both exceeded: another file, or a cut one
_HEADER_SLACK = 0.1  # seconds; MP3 headers count the encoder's delay
_SHORT_SECONDS = 0.1  # "a" and "oh" take longer
_LONG_SECONDS = 40.0
_SILENT_DB = -70.0  # the loud frames; speech at the lowest gain lies above -60
_QUIET_DB = -55.0  # the speech; what is left of 16 bits is then 40 dB
_OFFSET, _OFFSET_ALONE = 0.02, 0.002  # of full scale; the lower one if it exceeds the speech
_FLAT_TOPS, _CLIPPED = 5, 0.0005  # both reached; tops of soft 8-bit sound are flat by chance
_PADDED_SECONDS = 1.0
_OPPOSITE, _UNALIKE = -0.5, 0.5  # correlations; two microphones in a room reach 0.7
_ONE_SIDED_DB = 20.0
_UPSAMPLED, _CUT = 0.55, 0.85  # of half the rate; above, it is the filter of the recorder
_NEIGHBOURS = 100  # utterances of similar text length that say what rate is usual
_RATE_FACTOR = 2.0  # from what is usual; slow and fast readers differ by 1.5
_RATE_DEVIATIONS = 6.0  # robust standard deviations, likewise
_CHUNK = 20_000  # utterances compared at a time: 16 MB of neighbours
_MAD_TO_DEVIATION = 1.4826  # of a normal distribution


def is_silent(audio: AudioMeasures) -> bool:
    """Whether nothing is to be heard."""
    return audio.loud <= _SILENT_DB


def is_clipped(audio: AudioMeasures) -> bool:
    """Whether what was too loud for the recorder was cut off."""
    return audio.flat_tops >= _FLAT_TOPS and audio.clipped >= _CLIPPED


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """An utterance, and what was found when its file was read."""

    manifest: str
    utterance: Utterance
    file: FileMeasures | None = None
    """None if the file could not be read, or holds features."""
    audio: AudioMeasures | None = None
    features: FeatureMeasures | None = None
    error: Finding | None = None
    """Why there are no measures."""
    has_file_alone: bool = True
    """Whether no other utterance lies in the same file."""

    @property
    def digest(self) -> str | None:
        """The digest of the sound or features, if there is any."""
        if self.features is not None:
            return self.features.digest
        if self.audio is None or self.audio.peak == 0:
            return None
        return self.audio.digest

    @property
    def seconds(self) -> float:
        """The duration as measured, or else as the manifest says."""
        return self.audio.seconds if self.audio is not None else self.utterance.duration

    def finding(self, kind: str, message: str, value: float | None = None) -> Finding:
        """A finding of this utterance."""
        return Finding(
            kind=kind,
            message=message,
            manifest=self.manifest,
            utterance=self.utterance.id,
            value=value,
        )


def check_audio(cases: Sequence[Case]) -> Iterator[Finding]:
    """Findings of all utterances."""
    rates = Counter(case.file.sample_rate for case in cases if case.file is not None)
    usual_rate = rates.most_common(1)[0][0] if rates else 0
    kinds = Counter(
        "audio" if case.audio is not None else "features"
        for case in cases
        if case.audio is not None or case.features is not None
    )
    for case in cases:
        if case.error is not None:
            yield case.error
        if len(kinds) > 1 and case.features is not None:
            message = f"stored features; {kinds['audio']:,} utterances are audio"
            yield case.finding("mixed-inputs", message)
        if case.file is not None and case.audio is not None:
            yield from _check_length(case, case.file, case.audio)
            if case.audio.seconds:
                yield from _check_signal(case, case.audio)
                yield from _check_channels(case, case.audio)
                yield from _check_spectrum(case, case.file, case.audio, usual_rate)
    yield from check_speaking_rates(cases)


def check_speaking_rates(cases: Sequence[Case]) -> Iterator[Finding]:
    """Utterances with much more or less text for their speech than others of a like text length.

    Characters of text by seconds of speech are compared, as logarithms, with those of the
    utterances whose texts are nearest in length: short utterances are slower.
    """
    spoken = [(case, _num_characters(case), _speech_seconds(case)) for case in cases]
    spoken = [entry for entry in spoken if entry[1] and entry[2]]
    if len(spoken) < MIN_UTTERANCES:
        return
    spoken.sort(key=lambda entry: entry[1])
    rates = np.log([characters / seconds for _, characters, seconds in spoken])
    medians, deviations = _usual(rates)
    away = np.abs(rates - medians)
    limits = np.maximum(np.log(_RATE_FACTOR), _RATE_DEVIATIONS * deviations)
    for index in np.flatnonzero(away > limits):
        case, characters, seconds = spoken[index]
        rate = characters / seconds
        yield case.finding(
            "speaking-rate",
            f"{characters} characters in {seconds:.2f} s of speech are {rate:.1f} a second; "
            f"{np.exp(medians[index]):.1f} is usual: {_shown(case.utterance.text)}",
            rate,
        )


def _usual(
    rates: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Median and robust standard deviation of the neighbours of each, [utterance]."""
    width = min(_NEIGHBOURS, len(rates))
    windows = sliding_window_view(rates, width)
    medians, deviations = np.empty(len(windows)), np.empty(len(windows))
    for start in range(0, len(windows), _CHUNK):
        part = slice(start, start + _CHUNK)
        medians[part] = np.median(windows[part], axis=1)
        spread = np.abs(windows[part] - medians[part, None])
        deviations[part] = _MAD_TO_DEVIATION * np.median(spread, axis=1)
    # Those at the ends have the neighbours of the first and last window.
    places = np.clip(np.arange(len(rates)) - width // 2, 0, len(windows) - 1)
    return medians[places], deviations[places]


def _check_length(case: Case, file: FileMeasures, audio: AudioMeasures) -> Iterator[Finding]:
    utterance = case.utterance
    if abs(file.header_seconds - file.seconds) > _HEADER_SLACK:
        message = f"the header says {file.header_seconds:.2f} s, it holds {file.seconds:.2f} s"
        yield case.finding("header-length", message, file.seconds)
    if not audio.seconds:
        message = f"offset {utterance.offset:g} s, the file ends at {file.seconds:.2f} s"
        yield case.finding("past-end", message, file.seconds)
        return
    # A stretch that ends before its file does is one of several, or cut on purpose; a file that
    # is named whole should be as long as the manifest says.
    is_whole = case.has_file_alone and not utterance.offset
    seconds = file.seconds if is_whole else audio.seconds
    off = abs(seconds - utterance.duration) if utterance.duration else 0.0
    if off > _DURATION_SLACK:
        wrong = off > _WRONG_SECONDS and off > _WRONG_SHARE * utterance.duration
        message = f"the manifest says {utterance.duration:.2f} s, there are {seconds:.2f} s"
        yield case.finding("wrong-length" if wrong else "duration", message, seconds)
    if audio.seconds < _SHORT_SECONDS:
        yield case.finding("short", f"{1000 * audio.seconds:.0f} ms", audio.seconds)
    elif audio.seconds > _LONG_SECONDS:
        yield case.finding("long", f"{audio.seconds:.1f} s", audio.seconds)


def _check_signal(case: Case, audio: AudioMeasures) -> Iterator[Finding]:
    if audio.not_finite:
        message = f"{audio.not_finite:,} samples are NaN or infinite"
        yield case.finding("not-finite", message, audio.not_finite)
    if is_silent(audio):
        if case.utterance.text is None or case.utterance.text.strip():
            loud = "zeros only" if not audio.peak else f"never above {audio.loud:.0f} dB"
            yield case.finding("silent", f"{loud} in {audio.seconds:.2f} s", audio.loud)
    elif audio.level < _QUIET_DB:
        yield case.finding("quiet", f"speech at {audio.level:.0f} dB of full scale", audio.level)
    if is_clipped(audio):
        message = (
            f"{audio.flat_tops} flat tops at {audio.peak:.2f} of full scale, "
            f"{100 * audio.clipped:.2f} % of the samples"
        )
        yield case.finding("clipped", message, audio.clipped)
    alone = abs(audio.offset) > _OFFSET_ALONE and abs(audio.offset) > 10 ** (audio.level / 20)
    if abs(audio.offset) > _OFFSET or (alone and audio.peak):
        message = f"samples have a mean of {audio.offset:.4f} of full scale"
        yield case.finding("offset", message, audio.offset)
    if not is_silent(audio):
        for where, seconds in (("start", audio.leading), ("end", audio.trailing)):
            if seconds >= _PADDED_SECONDS:
                message = f"{seconds:.2f} s of digital silence at the {where}"
                yield case.finding("padded", message, seconds)


def _check_channels(case: Case, audio: AudioMeasures) -> Iterator[Finding]:
    if audio.correlation is None or not audio.peak:
        return
    if audio.channel_difference > _ONE_SIDED_DB:
        message = f"one channel is {audio.channel_difference:.0f} dB softer than another"
        yield case.finding("channels", message, audio.channel_difference)
    elif audio.correlation < _OPPOSITE:
        message = f"opposite polarity cancels in the average (correlation {audio.correlation:.2f})"
        yield case.finding("channels", message, audio.correlation)
    elif audio.correlation < _UNALIKE:
        message = f"different sound in each (correlation {audio.correlation:.2f})"
        yield case.finding("channels", message, audio.correlation)


def _check_spectrum(
    case: Case, file: FileMeasures, audio: AudioMeasures, usual_rate: int
) -> Iterator[Finding]:
    if file.sample_rate != usual_rate:
        kind = "low-rate" if file.sample_rate < usual_rate else "other-rate"
        message = f"{file.sample_rate} Hz, most are {usual_rate} Hz"
        yield case.finding(kind, message, file.sample_rate)
    if audio.bandwidth is not None:
        share = 2 * audio.bandwidth / file.sample_rate
        if share <= _CUT:
            message = f"nothing above {audio.bandwidth / 1000:.1f} kHz at {file.sample_rate} Hz"
            kind = "upsampled" if share <= _UPSAMPLED else "cut-spectrum"
            yield case.finding(kind, message, audio.bandwidth)


def _num_characters(case: Case) -> int:
    return sum(not character.isspace() for character in case.utterance.text or "")


def _speech_seconds(case: Case) -> float:
    return case.audio.speech_seconds if case.audio is not None else case.utterance.duration


def _shown(text: str | None) -> str:
    return repr(text if text is None or len(text) <= 60 else text[:57] + "...")
