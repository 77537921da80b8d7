"""Recorded noise and rooms, out of which a step draws what its utterances are heard in.

What is drawn is a function of the step's generator, as all of augmentation.

Dimension names: batch (utterances), sample (of audio).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Generator, Tensor

from asr.corpus import PackedCorpus
from asr.training.batch import send
from asr.training.draws import on_host


@dataclass(frozen=True, kw_only=True, slots=True)
class Rooms:
    """What was recorded; None where noise or rooms are artificial."""

    noise: PackedCorpus | None = None
    responses: PackedCorpus | None = None
    """Impulse responses, from the direct sound on."""

    def draw_noise(
        self, num_utterances: int, size: int, generator: Generator
    ) -> Float[Tensor, "batch sample"]:
        """For each utterance a recording from a place in it on, again and again where it ends."""
        assert self.noise is not None
        rows, places = _draw(self.noise, num_utterances, generator)
        drawn = np.empty((num_utterances, size), np.float32)
        for target, row, place in zip(drawn, rows, places, strict=True):
            samples = _samples(self.noise, row)
            start = int(place * len(samples))
            target[:] = np.take(samples, np.arange(start, start + size), mode="wrap")
        return send(torch.from_numpy(drawn), generator.device)

    def draw_responses(
        self, num_utterances: int, generator: Generator
    ) -> Float[Tensor, "batch tap"]:
        """For each utterance an impulse response with an energy of 1, and zeros after it."""
        assert self.responses is not None
        rows, _ = _draw(self.responses, num_utterances, generator)
        drawn, _ = self.responses.padded(rows)
        responses = drawn.astype(np.float32)
        responses /= np.sqrt(np.square(responses).sum(axis=1, keepdims=True))
        return send(torch.from_numpy(responses), generator.device)


def _draw(
    corpus: PackedCorpus, count: int, generator: Generator
) -> tuple[Sequence[int], Sequence[float]]:
    """Recordings, each as likely as another, and a place in each from 0 to 1."""
    host = on_host(generator, "rooms")
    random = torch.rand((2, count), generator=host, dtype=torch.float64)
    return (random[0] * len(corpus)).long().tolist(), random[1].tolist()


def _samples(corpus: PackedCorpus, row: int) -> NDArray[np.generic]:
    return np.asarray(corpus.values[corpus.starts[row] : corpus.starts[row + 1]])
