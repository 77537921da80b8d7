"""A network with one direction, run on audio as it arrives.

Dimension names: sample, frame, bin, step, token.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.model.arrival import check_arrival, lookahead
from asr.model.encoder import CtcModel, EncoderState
from asr.model.features import Frontend, context


class NetworkStream:
    """Log-probabilities of one utterance that comes in pieces, as of the whole of it."""

    def __init__(self, frontend: Frontend, encoder: CtcModel, device: str):
        """Begin an utterance.

        Raises:
            ModelError: the encoder or the normalization needs the whole utterance.
        """
        config = frontend.config
        check_arrival(config, encoder.config)
        self._frontend, self._encoder, self._device = frontend, encoder, device
        self._lookahead, self._context = lookahead(config), context(config)
        self._samples = np.zeros(0, np.float32)  # from the last frame that was given
        self._num_given = 0  # frames that `_samples` begins with and that were given: 0 or 1
        self._base = torch.zeros(1, 0, config.num_base_bins, device=device)
        self._num_context = 0  # frames in `_base` whose features were given
        self._state: EncoderState | None = None

    def accept(self, samples: NDArray[np.float32], *, last: bool = False) -> NDArray[np.float32]:
        """The next steps, [step, token]; perhaps none.

        Args:
            samples: [sample], at the model's rate, that follow those given before.
            last: nothing follows.
        """
        with torch.inference_mode():
            features = self._features(self._new_frames(samples, last), last)
            log_probs, self._state = self._encoder.forward_chunk(features, self._state, last=last)
        rows: NDArray[np.float32] = log_probs[0].cpu().numpy()
        return rows

    def _new_frames(self, samples: NDArray[np.float32], last: bool) -> Tensor:
        """Features without deltas, [1, frame, bin], of the frames that have become whole."""
        config = self._frontend.config
        held = np.concatenate([self._samples, samples])
        whole = max(0, (len(held) - config.frame_length) // config.frame_shift + 1)
        count = self._frontend.num_frames(len(held)) if last else whole
        if count <= self._num_given:
            self._samples = held
            return self._base[:, :0]
        # An incomplete frame would be completed with zeros in Sphinx's convention.
        used = held if last else held[: (count - 1) * config.frame_shift + config.frame_length]
        batch = torch.from_numpy(used)[None].to(self._device)
        base, _ = self._frontend.base(batch, torch.tensor([len(used)], device=self._device))
        fresh = base[:, self._num_given : count]
        # The last frame stays: the next one's pre-emphasis needs the sample before it.
        self._samples = held[(count - 1) * config.frame_shift :]
        self._num_given = 1
        return fresh

    def _features(self, fresh: Tensor, last: bool) -> Tensor:
        """With deltas and normalized; those wait for the frames that they look ahead to."""
        base = torch.cat([self._base, fresh], dim=1)
        ready = base.shape[1] - (0 if last else self._lookahead)
        if ready <= self._num_context:
            self._base = base
            return base.new_zeros(1, 0, self._frontend.config.num_bins)
        num_frames = torch.tensor([base.shape[1]], device=base.device)
        features = self._frontend.finish(base, num_frames)[:, self._num_context : ready]
        first = max(0, ready - self._context)
        self._base, self._num_context = base[:, first:], ready - first
        return features
