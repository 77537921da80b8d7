"""Speech to text with a model folder.

Dimension names: batch (utterances), frame, bin, step, token.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from asr.alignment import TokenSpan, align
from asr.audio import read_audio, to_mono
from asr.batches import plan_batches
from asr.decoding import Decoder, DecodingConfig, Hypothesis
from asr.errors import AsrError, AudioError, DataError
from asr.manifest import Utterance
from asr.model_folder import WEIGHTS, DecodingOptions, LoadedModel, read_decoder, read_model
from asr.stored_features import is_feature_path, read_features

if TYPE_CHECKING:
    from asr.network import TorchNetwork

_READ_AHEAD = 64  # files held in memory while batches of similar length are made of them
_BATCH_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Word:
    """A word of a transcript."""

    text: str
    start: float
    """Seconds from the start of the audio."""
    end: float
    confidence: float
    """Geometric mean of the probabilities of its tokens, 0 to 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Alternative:
    """One of several readings of an utterance."""

    text: str
    log_prob: float
    """Of the network, in nats."""
    score: float
    """By which they are ordered, with language model, word bonus and hot words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Transcript:
    """What was recognized in one utterance."""

    text: str
    words: tuple[Word, ...]
    log_prob: float
    """Of the decoder's path, in nats."""
    duration: float
    """Seconds of audio."""
    warnings: tuple[str, ...] = ()
    nbest: tuple[Alternative, ...] = ()
    """Best first, this transcript among them, where several are asked for."""


@dataclass(frozen=True, slots=True)
class _Input:
    values: NDArray[np.float32]
    """Samples [sample] or frames without deltas [frame, bin]."""
    duration: float
    warnings: tuple[str, ...] = ()


class Recognizer:
    """A trained model, ready to transcribe.

    ```python
    recognizer = Recognizer.load("work/digits/default/model")
    print(recognizer.transcribe("call.wav").text)
    ```
    """

    def __init__(self, model: LoadedModel, network: "TorchNetwork", decoder: Decoder | None = None):
        self.config = model.config
        self.tokens = model.tokens
        self.training = model.training
        self._network = network
        self._decoder = decoder or Decoder(model.tokens, DecodingConfig())

    @classmethod
    def load(
        cls,
        path: Path | str,
        *,
        device: str = "auto",
        threads: int | None = None,
        decoding: DecodingOptions | None = None,
    ) -> "Recognizer":
        """Read a model folder.

        Args:
            threads: of the processor, at most; none means as many as there are.
            decoding: what it changes of the folder's `decoding.yaml`.

        Raises:
            ModelError: it is not one, or is damaged.
            DataError: a language model, lexicon or file of hot words cannot be used.
        """
        from asr.network import choose_device, read_network

        folder = Path(path)
        model = read_model(folder)
        network = read_network(
            folder / WEIGHTS, model.config, len(model.tokens), choose_device(device), threads
        )
        decoder = read_decoder(folder, model.tokens, decoding or DecodingOptions())
        return cls(model, network, decoder)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is odd about the language model or lexicon."""
        return self._decoder.warnings

    def transcribe(
        self, audio: Path | str | ArrayLike, *, sample_rate: int | None = None
    ) -> Transcript:
        """The transcript of one file, or of samples in [-1, 1] of `sample_rate` Hz.

        Samples may be [sample] or [sample, channel].

        Raises:
            AudioError: the audio cannot be read or is shorter than a frame.
        """
        if isinstance(audio, Path | str):
            item = self._read(Utterance(id="", audio_filepath=Path(audio), duration=0.0))
        else:
            item = self._from_samples(audio, sample_rate)
        (result,) = self._transcribe_batch([item])
        if isinstance(result, AsrError):
            raise result
        return result

    def transcribe_all(
        self, paths: Iterable[Path | str]
    ) -> Iterator[tuple[Path, Transcript | AsrError]]:
        """Transcripts in the order of `paths`, or the error that a file met; made in batches."""
        utterances = (Utterance(id="", audio_filepath=Path(path), duration=0.0) for path in paths)
        for utterance, result in self.transcribe_utterances(utterances):
            yield utterance.audio_filepath, result

    def transcribe_utterances(
        self, utterances: Iterable[Utterance]
    ) -> Iterator[tuple[Utterance, Transcript | AsrError]]:
        """The same for stretches of files; a duration of 0 means to the end."""
        remaining = iter(utterances)
        with ThreadPoolExecutor(max_workers=2) as pool:
            while window := list(islice(remaining, _READ_AHEAD)):
                items = list(pool.map(self._try_read, window))
                yield from zip(window, self._transcribe_window(items), strict=True)

    def _transcribe_window(self, items: Sequence[_Input | AsrError]) -> list[Transcript | AsrError]:
        results: list[Transcript | AsrError | None] = [
            item if isinstance(item, AsrError) else None for item in items
        ]
        rows = [row for row, item in enumerate(items) if isinstance(item, _Input)]
        readable = [item for item in items if isinstance(item, _Input)]
        milliseconds = np.array([math.ceil(1000 * item.duration) for item in readable], np.int64)
        # Samples and frames cannot share a batch.
        for kind in (1, 2):
            chosen = [i for i, item in enumerate(readable) if item.values.ndim == kind]
            for part in plan_batches(milliseconds[chosen], int(1000 * _BATCH_SECONDS)):
                places = [chosen[i] for i in part]
                transcripts = self._transcribe_batch([readable[i] for i in places])
                for place, transcript in zip(places, transcripts, strict=True):
                    results[rows[place]] = transcript
        return [result for result in results if result is not None]

    @property
    def step_seconds(self) -> float:
        """Seconds from one step to the next."""
        features = self.config.features
        return self.config.encoder.subsampling * features.frame_shift / features.sample_rate

    def log_probs(self, inputs: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Log-probabilities [step, token] of each input: samples at the model's rate, or frames."""
        return self._network.log_probs(inputs)

    def _transcribe_batch(self, items: Sequence[_Input]) -> list[Transcript | AsrError]:
        all_log_probs = self.log_probs([item.values for item in items])
        with ThreadPoolExecutor(max_workers=self._network.threads) as pool:
            return list(pool.map(self._try_decode, all_log_probs, items))

    def _try_decode(self, log_probs: NDArray[np.float32], item: _Input) -> Transcript | AsrError:
        try:
            hypotheses = self._decoder.decode(log_probs)
        except DataError as error:
            return error
        best = hypotheses[0]
        words = tuple(self._words(best, align(log_probs, best.tokens), item.duration))
        return Transcript(
            text=self._text(best),
            words=words,
            log_prob=best.log_prob,
            duration=item.duration,
            warnings=item.warnings,
            nbest=tuple(self._alternatives(hypotheses)),
        )

    def _text(self, hypothesis: Hypothesis) -> str:
        found = hypothesis.words
        return self.tokens.decode(hypothesis.tokens) if found is None else hypothesis.text

    def _alternatives(self, hypotheses: Sequence[Hypothesis]) -> Iterator[Alternative]:
        if self._decoder.config.nbest == 1:
            return
        for hypothesis in hypotheses:
            score = hypothesis.log_prob if hypothesis.score is None else hypothesis.score
            yield Alternative(
                text=self._text(hypothesis), log_prob=hypothesis.log_prob, score=score
            )

    def _words(
        self, hypothesis: Hypothesis, spans: Sequence[TokenSpan], duration: float
    ) -> Iterator[Word]:
        step_seconds = self.step_seconds
        if hypothesis.words is None:
            bounds = [
                (first, last, self.tokens.decode(hypothesis.tokens[first:last]))
                for first, last in self.tokens.word_bounds(hypothesis.tokens)
            ]
        else:
            bounds = [(word.first, word.last, word.text) for word in hypothesis.words]
        for first, last, text in bounds:
            own = spans[first:last]
            logs = [math.log(max(span.probability, 1e-10)) for span in own]
            yield Word(
                text=text,
                start=min(own[0].start * step_seconds, duration),
                end=min(own[-1].end * step_seconds, duration),
                confidence=math.exp(sum(logs) / len(logs)),
            )

    def _try_read(self, utterance: Utterance) -> _Input | AsrError:
        try:
            return self._read(utterance)
        except AsrError as error:
            return error

    def _read(self, utterance: Utterance) -> _Input:
        features = self.config.features
        if is_feature_path(utterance.audio_filepath):
            frames = read_features(utterance.audio_filepath)
            if frames.shape[1] != features.num_base_bins:
                raise DataError(
                    f"{utterance.audio_filepath}: {frames.shape[1]} values a frame, but the "
                    f"model's features have {features.num_base_bins}"
                )
            return _Input(frames, len(frames) * features.frame_shift / features.sample_rate)
        audio = read_audio(
            utterance.audio_filepath,
            sample_rate=features.sample_rate,
            offset=utterance.offset,
            duration=utterance.duration or None,
        )
        return self._checked(audio.samples, audio.source_rate, str(utterance.audio_filepath))

    def _from_samples(self, samples: ArrayLike, sample_rate: int | None) -> _Input:
        if sample_rate is None:
            raise AudioError("samples come without sample_rate; give transcribe(..., sample_rate=)")
        mono = to_mono(
            np.asarray(samples, np.float32), sample_rate, self.config.features.sample_rate
        )
        return self._checked(mono, sample_rate, "samples")

    def _checked(self, samples: NDArray[np.float32], source_rate: int, name: str) -> _Input:
        features = self.config.features
        if len(samples) < features.frame_length:
            raise AudioError(
                f"{name}: {len(samples)} samples at {features.sample_rate} Hz are less than one "
                f"frame of {features.frame_length}"
            )
        warnings: tuple[str, ...] = ()
        if source_rate < features.sample_rate:
            warnings = (
                f"{name}: its rate of {source_rate} Hz is below the model's "
                f"{features.sample_rate} Hz; expect more errors",
            )
        return _Input(samples, len(samples) / features.sample_rate, warnings)
