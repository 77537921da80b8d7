"""Other programs that find the edges of known words, as `alignment.py` compares them.

They are not installed with this package: `pip install pocketsphinx ctc-segmentation`.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

SPHINX_RATE = 16000
_SPHINX_FRAMES = 100  # a second

Edges = NDArray[np.float64]
"""Seconds at which words begin and end, [word, two]."""


class Sphinx:
    """Pocketsphinx 5's aligner, an HMM of phones with the English model that it brings."""

    def __init__(self) -> None:
        """Load the model."""
        import pocketsphinx

        self._decoder: Any = pocketsphinx.Decoder(
            lm=None, samprate=SPHINX_RATE, bestpath=False, loglevel="FATAL"
        )

    def edges(self, samples: NDArray[np.float32], words: Sequence[str]) -> Edges | None:
        """Edges in audio at 16000 Hz; none where a word is unknown or it finds no path."""
        try:
            self._decoder.set_align_text(" ".join(words))
            self._decoder.start_utt()
            content = (np.clip(samples, -1, 1) * 32767).astype(np.int16).tobytes()
            self._decoder.process_raw(content, full_utt=True)
            self._decoder.end_utt()
            spans = [
                (segment.start_frame, segment.end_frame + 1)
                for segment in self._decoder.seg() or ()
                if segment.word[0] not in "<[+"
            ]
        except RuntimeError:
            return None
        return np.array(spans) / _SPHINX_FRAMES if len(spans) == len(words) else None


def torchaudio_edges(
    log_probs: NDArray[np.float32],
    tokens: Sequence[int],
    owners: Sequence[int],
    step_seconds: float,
) -> Edges:
    """Of torchaudio's `forced_align`: the spans of the best path.

    Args:
        tokens: of all words with separators between.
        owners: the word of each token; -1 for separators.
    """
    import torch
    import torchaudio.functional as F  # noqa: N812

    targets = torch.tensor([list(tokens)], dtype=torch.int32)
    path, scores = F.forced_align(torch.from_numpy(log_probs)[None], targets)
    spans = F.merge_tokens(path[0], scores[0].exp())
    edges = np.full((max(owners) + 1, 2), np.nan)
    for span, owner in zip(spans, owners, strict=True):
        if owner >= 0:
            edges[owner, 0] = np.fmin(edges[owner, 0], span.start * step_seconds)
            edges[owner, 1] = span.end * step_seconds
    return edges


def ctc_segmentation_edges(
    log_probs: NDArray[np.float32],
    symbols: Sequence[str],
    words: Sequence[Sequence[int]],
    step_seconds: float,
) -> Edges:
    """Of the package ctc-segmentation, with each word as an utterance."""
    import ctc_segmentation as ctc

    config = ctc.CtcSegmentationParameters(char_list=list(symbols), index_duration=step_seconds)
    config.blank = 0
    table, begins = ctc.prepare_token_list(config, [np.array(word) for word in words])
    timings, probabilities, _ = ctc.ctc_segmentation(config, log_probs, table)
    segments = ctc.determine_utterance_segments(
        config, begins, probabilities, timings, [""] * len(words)
    )
    return np.array([(start, end) for start, end, _ in segments])


def missing() -> list[str]:
    """Packages of the other programs that are not installed."""
    return [name for name in ("pocketsphinx", "ctc_segmentation") if find_spec(name) is None]
