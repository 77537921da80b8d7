"""What the network makes of a dev set, computed once and decoded in many ways."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr.corpus import Utterance
from asr.decoding import Decoder, Hypothesis, text_of
from asr.errors import AsrError, DataError
from asr.progress import track
from asr.scoring import ErrorCounts, count_errors, total
from asr.text import TokenTable, normalize
from asr.transcription.recognizer import Recognizer


@dataclass(frozen=True, kw_only=True)
class DevSet:
    """What the network makes of a dev set, to be decoded in many ways."""

    texts: tuple[str, ...]
    """Of the utterances."""
    segments: tuple[NDArray[np.float32], ...]
    """Log-probabilities [step, token]; long utterances have several."""
    owners: tuple[int, ...]
    """The utterance of each segment, by number."""
    tokens: TokenTable
    threads: int

    def count(self, decoder: Decoder) -> ErrorCounts:
        """Errors of words that a decoder makes."""
        return self.errors(self.decode(decoder))

    def decode(self, decoder: Decoder) -> list[list[Hypothesis]]:
        """The hypotheses of each segment, best first."""
        return decoder.decode_all(self.segments, threads=self.threads)

    def errors(self, decoded: Sequence[Sequence[Hypothesis]]) -> ErrorCounts:
        """Errors of words in the best hypotheses."""
        parts: list[list[str]] = [[] for _ in self.texts]
        for owner, hypotheses in zip(self.owners, decoded, strict=True):
            parts[owner].append(text_of(hypotheses[0], self.tokens))
        return total(
            count_errors(text.split(), self.tokens.separator.join(filter(None, part)).split())
            for text, part in zip(self.texts, parts, strict=True)
        )


def score_dev_set(recognizer: Recognizer, utterances: Sequence[Utterance]) -> DevSet:
    """Log-probabilities of every utterance.

    Raises:
        DataError: an utterance cannot be read or has no text, or there is none.
    """
    segments: list[NDArray[np.float32]] = []
    owners: list[int] = []
    results = track(
        recognizer.score_utterances(utterances),
        total=len(utterances),
        label="scoring",
        unit="utterances",
    )
    for owner, (utterance, result) in enumerate(results):
        if isinstance(result, AsrError):
            raise DataError(f"{utterance.id}: {result}") from result
        if utterance.text is None:
            raise DataError(f"{utterance.id}: no text to score against")
        segments += result
        owners += [owner] * len(result)
    if not segments:
        raise DataError("no utterance to tune on")
    return DevSet(
        texts=tuple(normalize(utterance.text or "") for utterance in utterances),
        segments=tuple(segments),
        owners=tuple(owners),
        tokens=recognizer.tokens,
        threads=recognizer.threads,
    )
