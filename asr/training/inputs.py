"""From a batch to what the encoder takes: features, augmented in training.

The one way, for training (`input_features` with an augmentation), for dev scores (without) and for
the statistics of a corpus (`base_features`).

Dimension names: batch (utterances), sample (of audio), frame and bin (of features).
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from asr.config import AugmentConfig, FeatureConfig
from asr.corpus import PackedCorpus, statistics
from asr.model import Frontend
from asr.progress import track
from asr.training.augment import (
    augment_waveforms,
    change_channel,
    choose_speeds,
    draw_factors,
    join_pairs,
    mask_features,
    stretch_time,
    warp_frequencies,
)
from asr.training.batch import Batch, make_batch, samples_per_unit, send
from asr.training.draws import on_host
from asr.training.rooms import Rooms

_INT16_SCALE = 32768
_STATISTICS_SECONDS = 600


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmentation:
    """How a step changes its utterances; features are stretched in place of audio."""

    config: AugmentConfig
    generator: Generator
    joined: bool = False
    """Utterances are joined in pairs, see `join_pairs`."""
    views: int = 1
    """How often each utterance comes, after one another and each time masked otherwise."""
    done: float = 1.0
    """Share of the training that is over; masks may grow with it."""
    rooms: Rooms | None = None
    """Recorded noise and rooms, if any."""

    def change_waveforms(
        self, waveforms: Tensor, num_samples: Tensor, sample_rate: int
    ) -> tuple[Tensor, Tensor]:
        """All that is done to audio."""
        return augment_waveforms(
            waveforms, num_samples, self.config, sample_rate, self.generator, self.rooms
        )

    def change_tempo(self, base: Tensor, num_frames: Tensor) -> tuple[Tensor, Tensor]:
        """Stored frames stretched, as audio would be."""
        settings = self.config
        if settings.speeds == (1.0,):
            return base, num_frames
        speeds = choose_speeds(len(num_frames), settings.speeds, self.generator)
        return stretch_time(base, num_frames, speeds)

    def change_base(
        self, base: Tensor, num_frames: Tensor, frontend: Frontend
    ) -> tuple[Tensor, Tensor]:
        """All that is done to features before deltas and normalization."""
        settings, features = self.config, frontend.config
        if settings.vocal_tract:
            factors = draw_factors(len(num_frames), settings.vocal_tract, self.generator)
            base = warp_frequencies(base, factors, features, frontend.dct, frontend.inverse_dct)
        if settings.channel_db:
            base = change_channel(base, settings.channel_db, features, frontend.dct, self.generator)
        return join_pairs(base, num_frames) if self.joined else (base, num_frames)

    def mask(
        self, features: Tensor, num_frames: Tensor, config: FeatureConfig
    ) -> tuple[Tensor, Tensor]:
        """The views, [view * batch, frame, bin], with their masks."""
        features = features.repeat(self.views, 1, 1)
        num_frames = num_frames.repeat(self.views)
        rate = 1000 / config.frame_shift_ms
        ramp = self.config.mask_ramp
        strength = min(1.0, self.done / ramp) if ramp else 1.0
        masked = mask_features(features, num_frames, self.config, rate, self.generator, strength)
        return masked, num_frames


def input_features(
    frontend: Frontend, batch: Batch, augmentation: Augmentation | None = None
) -> tuple[Tensor, Tensor]:
    """Features [batch, frame, bin] as the encoder takes them, and numbers of frames [batch].

    The numbers stay on the host.
    """
    base, num_frames = base_features(frontend, batch, augmentation)
    features = frontend.finish(base, send(num_frames, base.device), batch.statistics)
    if augmentation is None:
        return features, num_frames
    return augmentation.mask(features, num_frames, frontend.config)


def base_features(
    frontend: Frontend, batch: Batch, augmentation: Augmentation | None = None
) -> tuple[Tensor, Tensor]:
    """The same without deltas and normalization, of which statistics are made."""
    if batch.is_audio:
        waveforms, num_samples = batch.inputs / _INT16_SCALE, batch.lengths
        if augmentation is not None:
            rate = frontend.config.sample_rate
            waveforms, num_samples = augmentation.change_waveforms(waveforms, num_samples, rate)
        base, _ = frontend.base(waveforms, send(num_samples, waveforms.device))
        num_frames = frontend.num_frames(num_samples)
    else:
        base, num_frames = frontend.with_noise(batch.inputs), batch.lengths
        if augmentation is not None:
            base, num_frames = augmentation.change_tempo(base, num_frames)
    if augmentation is None:
        return base, num_frames
    return augmentation.change_base(base, num_frames, frontend)


def draw_joined(config: AugmentConfig, generator: Generator) -> bool:
    """Whether a step's utterances are joined."""
    probability = config.join_probability
    if not probability:
        return False
    return bool(torch.rand((), generator=on_host(generator, "joining")) < probability)


def measure_statistics(
    corpus: PackedCorpus, config: FeatureConfig, keys: Iterable[Hashable | None]
) -> statistics.GroupStatistics:
    """Mean and standard deviation of each bin over each group of utterances, not augmented.

    Args:
        corpus: of which every utterance is looked at.
        config: of the features.
        keys: of each utterance; those with the same one are a group, one without is its own.
    """
    frontend = Frontend(config)
    groups = statistics.group_rows(keys)
    moments = np.zeros((int(groups.max()) + 1, 3, config.num_bins))
    unit = samples_per_unit(corpus, config)
    plan = corpus.plan(_STATISTICS_SECONDS * config.sample_rate // unit)
    corpus.follow([None])
    no_targets: list[list[int]] = [[]] * len(corpus)
    for rows in track(plan, total=len(plan), label="statistics", unit="batches"):
        base, num_frames = base_features(frontend, make_batch(corpus, rows.tolist(), no_targets))
        np.add.at(moments, groups[rows], frontend.moments(base, num_frames).numpy())
    return statistics.GroupStatistics(groups=groups, values=statistics.statistics(moments))
