"""Speech to text with a model folder: what a Python program calls.

Dimension names: frame, step, token.
"""

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from asr.config import DecodingConfig
from asr.corpus import Utterance
from asr.decoding import Decoder, DecodingOptions, read_decoder
from asr.errors import AsrError, AudioError, WholeUtterancesError
from asr.model import InferenceNetwork, LoadedModel, locate_model, open_network, read_model
from asr.text import normalize
from asr.transcription.live import ENDPOINT_SECONDS, LiveSteps, LiveStream
from asr.transcription.passage import Passage, Segment
from asr.transcription.pipeline import Make, Pipeline, Watch
from asr.transcription.rereading import RereadStream
from asr.transcription.sources import Source
from asr.transcription.transcript import (
    Alternative,
    Transcript,
    Word,
    join_transcripts,
    make_transcript,
)

_T = TypeVar("_T")

__all__ = ["Alternative", "Recognizer", "Transcript", "Word"]


class Recognizer:
    """A trained model, ready to transcribe.

    ```python
    recognizer = Recognizer.load("work/digits/default/model")
    print(recognizer.transcribe("call.wav").text)
    ```
    """

    def __init__(
        self,
        model: LoadedModel,
        network: InferenceNetwork,
        decoder: Decoder | None = None,
    ):
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
        """Read a model.

        Args:
            path: its folder, or the name of a starter, where no folder is called so.
            threads: of the processor, at most; none means as many as there are.
            decoding: what it changes of the folder's `decoding.yaml`.

        Raises:
            ModelError: it is not one, or is damaged.
            DataError: a language model, lexicon or file of hot words cannot be used.
        """
        folder = locate_model(Path(path))
        model = read_model(folder)
        network = open_network(folder, model, device, threads)
        decoder = read_decoder(folder, model.tokens, decoding or DecodingOptions())
        return cls(model, network, decoder)

    def with_network(self, wrap: Callable[[InferenceNetwork], InferenceNetwork]) -> "Recognizer":
        """The same model whose network is called by way of another object."""
        model = LoadedModel(config=self.config, tokens=self.tokens, training=self.training)
        return Recognizer(model, wrap(self._network), self._decoder)

    def with_hot_words(self, words: Iterable[str], weight: float) -> "Recognizer":
        """The same model that prefers some words; see `Decoder.with_hot_words`."""
        decoder = self._decoder.with_hot_words(words, weight)
        if decoder is self._decoder:
            return self
        model = LoadedModel(config=self.config, tokens=self.tokens, training=self.training)
        return Recognizer(model, self._network, decoder)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is odd about the language model or lexicon."""
        return self._decoder.warnings

    @property
    def is_calibrated(self) -> bool:
        """Whether confidences of words were compared with what is right, by `asr tune`."""
        return self._decoder.config.confidence is not None

    @property
    def threads(self) -> int:
        """Of the processor, that it uses."""
        return self._network.threads

    @property
    def step_seconds(self) -> float:
        """Seconds from one step to the next."""
        features = self.config.features
        return self.config.encoder.subsampling * features.frame_shift / features.sample_rate

    def transcribe(
        self, audio: Path | str | ArrayLike, *, sample_rate: int | None = None
    ) -> Transcript:
        """The transcript of one file, or of samples in [-1, 1] of `sample_rate` Hz.

        Samples may be [sample] or [sample, channel].

        Raises:
            DataError: the audio cannot be read or is shorter than a frame.
        """
        if isinstance(audio, Path | str):
            source = Source.of_file(audio)
        elif sample_rate is None:
            raise AudioError("samples come without sample_rate; give transcribe(..., sample_rate=)")
        else:
            source = Source.of_samples(audio, sample_rate)
        ((_, result),) = self.transcribe_sources([source])
        if isinstance(result, AsrError):
            raise result
        return result

    def transcribe_all(
        self, paths: Iterable[Path | str]
    ) -> Iterator[tuple[Path, Transcript | AsrError]]:
        """Transcripts in the order of `paths`, or the error that a file met; made in batches."""
        for source, result in self.transcribe_sources(map(Source.of_file, paths)):
            yield source.utterance.audio_filepath, result

    def transcribe_utterances(
        self, utterances: Iterable[Utterance]
    ) -> Iterator[tuple[Utterance, Transcript | AsrError]]:
        """The same for the utterances of a manifest; a duration of 0 means to the end.

        A model whose features are normalized by speaker reads utterances with speakers twice.
        """
        sources = (Source(utterance=utterance) for utterance in utterances)
        for source, result in self.transcribe_sources(sources):
            yield source.utterance, result

    def transcribe_sources(
        self,
        sources: Iterable[Source],
        *,
        watch: Watch | None = None,
        starts: Collection[int] = (),
        told: Callable[[Transcript, float], None] | None = None,
    ) -> Generator[tuple[Source, Transcript | AsrError], None, None]:
        """The same for whatever can be opened; see `find_sources`.

        A few minutes of audio are held, however many and long the sources are.

        Args:
            watch: is called now and then.
            starts: numbers of sources that share no batch with those before them.
            told: is given each segment's transcript and its start in seconds, in any order and
                from several threads, before all is done.
        """

        def decode(log_probs: NDArray[np.float32], start: float) -> Transcript:
            part = self._decode(log_probs, start)
            if told is not None:
                told(part, start)
            return part

        return self.make_sources(sources, decode, watch=watch, starts=starts)

    def make_sources(
        self,
        sources: Iterable[Source],
        make: Make[Transcript],
        *,
        watch: Watch | None = None,
        starts: Collection[int] = (),
    ) -> Generator[tuple[Source, Transcript | AsrError], None, None]:
        """The same with something else than the decoder.

        Args:
            make: makes a transcript of the log-probabilities of a segment and its start.
        """
        pipeline = Pipeline(self.config, self._network, make, watch)
        for passage in pipeline.run(sources, starts):
            yield (
                passage.source,
                passage.error
                or join_transcripts(
                    passage.parts,
                    self.tokens,
                    duration=passage.duration,
                    warnings=passage.warnings,
                    nbest=self._decoder.config.nbest,
                ),
            )

    def score_utterances(
        self, utterances: Iterable[Utterance]
    ) -> Iterator[tuple[Utterance, list[NDArray[np.float32]] | AsrError]]:
        """Log-probabilities [step, token] of the segments of each, or the error that it met."""
        sources = (Source(utterance=utterance) for utterance in utterances)
        for passage in self.hear_sources(sources):
            log_probs = [segment.log_probs for segment in passage.parts]
            yield passage.source.utterance, passage.error or log_probs

    def hear_sources(
        self, sources: Iterable[Source], *, watch: Watch | None = None
    ) -> Iterator[Passage[Segment]]:
        """Passages whose parts are segments: what the network says, before it is decoded."""
        yield from self.make_passages(sources, _segment, watch)

    def make_passages(
        self, sources: Iterable[Source], make: Make[_T], watch: Watch | None = None
    ) -> Iterator[Passage[_T]]:
        """Passages whose parts are what is made of each segment when the network has heard it."""
        yield from Pipeline(self.config, self._network, make, watch).run(sources)

    def reference(self, text: str) -> str:
        """A transcript as this recognizer would write it.

        These are its words, or its phones where the best path of a phone model is read.

        Raises:
            DataError: a word has no pronunciation.
        """
        if self.tokens.pronunciations is not None and self._decoder.is_greedy:
            return self.tokens.decode(self.tokens.encode(text))
        return normalize(text)

    def stream(
        self, *, sample_rate: int | None = None, endpoint_seconds: float = ENDPOINT_SECONDS
    ) -> LiveStream:
        """Transcribe audio as it arrives.

        ```python
        stream = recognizer.stream(sample_rate=16000)
        for samples in microphone:
            print(stream.accept(samples).text)
        print(stream.finish().finished)
        ```

        Args:
            sample_rate: Hz, of what will arrive; none is the model's.
            endpoint_seconds: length of the pause that ends a stretch of speech.

        Raises:
            ModelError: the network or its features need whole utterances.
        """
        return LiveStream(
            self._network.stream,
            self.config,
            self.tokens,
            self._decoder,
            sample_rate=sample_rate,
            endpoint_seconds=endpoint_seconds,
        )

    def listen(
        self, *, sample_rate: int | None = None, endpoint_seconds: float = ENDPOINT_SECONDS
    ) -> LiveStream | RereadStream:
        """As `stream`, for any model: one that needs whole utterances reads some of them again.

        Its text ends late, and is then what `transcribe` gives of all audio.

        Raises:
            ModelError: an exported model whose file for this is damaged.
        """
        try:
            return self.stream(sample_rate=sample_rate, endpoint_seconds=endpoint_seconds)
        except WholeUtterancesError:
            return RereadStream(
                self._network,
                self.config,
                self.tokens,
                self._decode,
                sample_rate=sample_rate,
                endpoint_seconds=endpoint_seconds,
            )

    def steps(self, *, sample_rate: int | None = None) -> LiveSteps:
        """What the network says of audio as it arrives, before it is decoded.

        Raises:
            ModelError: as `stream`.
        """
        return LiveSteps(self._network.stream, self.config, sample_rate)

    def log_probs(self, inputs: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Log-probabilities [step, token] of each input: samples at the model's rate, or frames."""
        return self._network.log_probs(inputs)

    def _decode(self, log_probs: NDArray[np.float32], start: float) -> Transcript:
        return make_transcript(
            self._decoder.decode(log_probs),
            log_probs,
            self.tokens,
            start=start,
            step_seconds=self.step_seconds,
            nbest=self._decoder.config.nbest,
            calibration=self._decoder.config.confidence,
        )


def _segment(log_probs: NDArray[np.float32], start: float) -> Segment:
    return Segment(start=start, log_probs=log_probs)
