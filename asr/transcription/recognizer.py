"""Speech to text with a model folder; no torch, which the network brings along.

Dimension names: frame, bin, step, token.
"""

import math
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import count, repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from asr.audio import AudioStream, stream_samples
from asr.batches import plan_batches
from asr.config import DecodingConfig
from asr.corpus import Utterance
from asr.corpus import statistics as feature_statistics
from asr.decoding import Decoder, DecodingOptions, read_decoder
from asr.errors import AsrError, AudioError, DataError
from asr.model import InferenceNetwork, LoadedModel, open_network, read_model
from asr.text import normalize
from asr.transcription.live import ENDPOINT_SECONDS, LiveStream
from asr.transcription.pieces import Piece, Segment, Stitcher
from asr.transcription.reading import OpenAudio, Reading, audio_opener, read_ahead
from asr.transcription.transcript import (
    Alternative,
    Transcript,
    Word,
    join_transcripts,
    make_transcript,
)

__all__ = ["Alternative", "Recognizer", "Transcript", "Word"]

_BATCH_SECONDS = 60.0
_POOL_SECONDS, _POOL_PIECES = 240.0, 256  # in memory while batches of similar length are made

Watch = Callable[[Utterance, float, float | None], None]
"""Is told an utterance, the seconds of it that are done, and those it has in all if known."""


@dataclass
class _Job:
    """An utterance on its way to a transcript, or to log-probabilities."""

    reading: Reading
    stitcher: Stitcher
    statistics: NDArray[np.float32] | None = None
    """Of its speaker's features, [two, bin]; for normalization by "speaker"."""
    parts: dict[int, Any] = field(default_factory=dict)
    """What was made of its segments, by their starts."""
    waiting: int = 0
    """Pieces that the network has not seen."""
    seconds: float = 0.0
    """Done."""
    is_read: bool = False
    error: AsrError | None = None

    @property
    def is_done(self) -> bool:
        return self.is_read and not self.waiting

    def in_order(self) -> list[Any]:
        return [self.parts[start] for start in sorted(self.parts)]


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
        """Read a model folder.

        Args:
            threads: of the processor, at most; none means as many as there are.
            decoding: what it changes of the folder's `decoding.yaml`.

        Raises:
            ModelError: it is not one, or is damaged.
            DataError: a language model, lexicon or file of hot words cannot be used.
        """
        folder = Path(path)
        model = read_model(folder)
        network = open_network(folder, model, device, threads)
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
            DataError: the audio cannot be read or is shorter than a frame.
        """
        opener = self._opener()
        if not isinstance(audio, Path | str):
            stream = self._stream_of(audio, sample_rate)
            audio, opener = Path("samples"), lambda _: nullcontext(stream)
        utterance = Utterance(id="", audio_filepath=Path(audio), duration=0.0)
        ((_, result),) = self.transcribe_utterances([utterance], opener=opener)
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
        self,
        utterances: Iterable[Utterance],
        *,
        opener: OpenAudio | None = None,
        watch: Watch | None = None,
        starts: Collection[int] = (),
    ) -> Generator[tuple[Utterance, Transcript | AsrError], None, None]:
        """The same for stretches of files; a duration of 0 means to the end.

        A few minutes of audio are held, however many and long the files are. A model whose
        features are normalized by speaker reads utterances with speakers twice.

        Args:
            opener: opens the audio of an utterance, in place of its file.
            watch: is called now and then.
            starts: numbers of utterances that share no batch with those before them.
        """
        opener = opener or self._opener()
        for job in self._jobs(utterances, self._try_decode, opener, watch, starts):
            yield (
                job.reading.utterance,
                job.error
                or join_transcripts(
                    job.in_order(),
                    self.tokens,
                    duration=job.reading.duration,
                    warnings=job.reading.warnings,
                    nbest=self._decoder.config.nbest,
                ),
            )

    def score_utterances(
        self, utterances: Iterable[Utterance]
    ) -> Iterator[tuple[Utterance, list[NDArray[np.float32]] | AsrError]]:
        """Log-probabilities [step, token] of the segments of each, or the error that it met."""
        for job in self._jobs(utterances, _log_probs_of, self._opener(), None):
            yield job.reading.utterance, job.error or job.in_order()

    def _jobs(
        self,
        utterances: Iterable[Utterance],
        make: "_Make",
        opener: OpenAudio,
        watch: Watch | None,
        starts: Collection[int] = (),
    ) -> Iterator[_Job]:
        """Those that are done, in order.

        Args:
            make: what is made of a segment.
        """
        known: Iterator[NDArray[np.float32] | None] = repeat(None)
        if self.config.features.normalization == "speaker":
            utterances = list(utterances)
            if any(utterance.speaker is not None for utterance in utterances):
                known = iter(self._speaker_statistics(utterances, opener))
        readings = (Reading(utterance, self.config, opener) for utterance in utterances)
        jobs: deque[_Job] = deque()
        pool: list[tuple[_Job, Piece]] = []
        seconds = 0.0
        numbers, cuts = count(), frozenset(starts)
        for handful in read_ahead(readings, self._network.threads):
            if not jobs or jobs[-1].is_read:
                if next(numbers) in cuts:
                    self._run(pool, make, watch)
                    pool, seconds = [], 0.0
                stitcher = Stitcher(handful.reading.lengths)
                jobs.append(_Job(handful.reading, stitcher, next(known)))
            job = jobs[-1]
            job.is_read, job.error = handful.is_last, handful.error
            job.waiting += len(handful.pieces)
            pool += [(job, piece) for piece in handful.pieces]
            seconds += sum(len(p.values) for p in handful.pieces) / job.reading.rate
            if seconds > _POOL_SECONDS or len(pool) > _POOL_PIECES:
                self._run(pool, make, watch)
                pool, seconds = [], 0.0
            yield from _finished(jobs)
        self._run(pool, make, watch)
        yield from _finished(jobs)

    @property
    def threads(self) -> int:
        """Of the processor, that it uses."""
        return self._network.threads

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

    @property
    def step_seconds(self) -> float:
        """Seconds from one step to the next."""
        features = self.config.features
        return self.config.encoder.subsampling * features.frame_shift / features.sample_rate

    def log_probs(self, inputs: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Log-probabilities [step, token] of each input: samples at the model's rate, or frames."""
        return self._network.log_probs(inputs)

    def _speaker_statistics(
        self, utterances: Sequence[Utterance], opener: OpenAudio
    ) -> NDArray[np.float32]:
        """Of the speaker of each utterance, [utterance, two, bin]; see `asr.corpus.statistics`."""
        groups = feature_statistics.group_rows(utterance.speaker for utterance in utterances)
        moments = np.zeros((len(utterances), 3, self.config.features.num_bins))
        readings = (Reading(utterance, self.config, opener) for utterance in utterances)
        row = 0
        for handful in read_ahead(readings, self._network.threads):
            for piece in handful.pieces:
                moments[groups[row]] += self._network.moments([piece.values])[0]
            row += handful.is_last
        moments[:, 0] = np.maximum(moments[:, 0], 1)  # a speaker of whom nothing could be read
        return feature_statistics.statistics(moments)[groups]

    def _opener(self) -> OpenAudio:
        return audio_opener(self.config.features.sample_rate)

    def _stream_of(self, samples: ArrayLike, sample_rate: int | None) -> AudioStream:
        if sample_rate is None:
            raise AudioError("samples come without sample_rate; give transcribe(..., sample_rate=)")
        values = np.asarray(samples, np.float32)
        return stream_samples(values, sample_rate, self.config.features.sample_rate)

    def _run(self, pool: Sequence[tuple[_Job, Piece]], make: "_Make", watch: Watch | None) -> None:
        """The network and the decoder, for pieces of any utterances, in batches."""
        milliseconds = np.array(
            [math.ceil(1000 * len(piece.values) / job.reading.rate) for job, piece in pool],
            np.int64,
        )
        # Samples and frames cannot share a batch.
        for is_audio in (True, False):
            rows = np.array(
                [i for i, (job, _) in enumerate(pool) if job.reading.is_audio == is_audio], np.int64
            )
            for batch in plan_batches(milliseconds[rows], int(1000 * _BATCH_SECONDS)):
                self._run_batch([pool[row] for row in rows[batch]], make, watch)

    def _run_batch(
        self, batch: Sequence[tuple[_Job, Piece]], make: "_Make", watch: Watch | None
    ) -> None:
        segments: list[tuple[_Job, Segment]] = []
        known = [job.statistics for job, _ in batch if job.statistics is not None]
        all_log_probs = self._network.log_probs(
            [piece.values for _, piece in batch], np.stack(known) if known else None
        )
        for (job, piece), log_probs in zip(batch, all_log_probs, strict=True):
            segments += [(job, segment) for segment in job.stitcher.add(piece, log_probs)]
            job.waiting -= 1
            overlap = job.reading.lengths.overlap if piece.continues else 0
            job.seconds += (len(piece.values) - overlap) / job.reading.rate
        with ThreadPoolExecutor(max_workers=self._network.threads) as threads:
            for (job, segment), part in zip(segments, threads.map(make, segments), strict=True):
                if isinstance(part, AsrError):
                    job.error = job.error or part
                else:
                    job.parts[segment.start] = part
        if watch is not None:
            for job, _ in batch:
                watch(job.reading.utterance, job.seconds, job.reading.expected)

    def _try_decode(self, task: tuple[_Job, Segment]) -> Transcript | AsrError:
        job, segment = task
        try:
            hypotheses = self._decoder.decode(segment.log_probs)
        except DataError as error:
            return error
        return make_transcript(
            hypotheses,
            segment.log_probs,
            self.tokens,
            start=segment.start / job.reading.rate,
            step_seconds=self.step_seconds,
            nbest=self._decoder.config.nbest,
        )


_Make = Callable[[tuple[_Job, Segment]], Any]


def _log_probs_of(task: tuple[_Job, Segment]) -> NDArray[np.float32]:
    return task[1].log_probs


def _finished(jobs: deque[_Job]) -> Iterator[_Job]:
    """Takes away the jobs that are done, in order."""
    while jobs and jobs[0].is_done:
        yield jobs.popleft()
