"""From a batch to what the encoder takes: features, augmented in training.

Dimension names: batch (utterances), sample (of audio), frame and bin (of features).
"""

from collections.abc import Hashable, Iterable

import numpy as np
import torch
from torch import Generator, Tensor

from asr.config import Config, FeatureConfig
from asr.corpus import PackedCorpus
from asr.corpus import statistics as feature_statistics
from asr.model import Frontend
from asr.progress import track
from asr.training.augment import (
    augment_waveforms,
    change_channel,
    choose_speeds,
    draw_factors,
    join_pairs,
    mask_features,
    on_host,
    stretch_time,
    warp_frequencies,
)
from asr.training.batch import Batch, make_batch

_INT16_SCALE = 32768
_STATISTICS_SECONDS = 600


def input_features(frontend: Frontend, batch: Batch) -> tuple[Tensor, Tensor]:
    """Features [batch, frame, bin] without augmentation, and numbers of frames [batch]."""
    base, num_frames = _base(frontend, batch)
    return frontend.finish(base, num_frames, batch.statistics), num_frames


def _base(frontend: Frontend, batch: Batch) -> tuple[Tensor, Tensor]:
    if not batch.is_audio:
        return frontend.with_noise(batch.inputs), batch.lengths
    base, num_frames = frontend.base(batch.inputs / _INT16_SCALE, batch.lengths)
    return base, num_frames


def augmented_features(
    frontend: Frontend,
    batch: Batch,
    config: Config,
    generator: Generator,
    *,
    joined: bool = False,
    views: int = 1,
    done: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """The same with all that `config.augment` says; features are stretched in place of audio.

    Args:
        joined: utterances are joined in pairs, see `join_pairs`.
        views: how often each utterance comes, after one another and each time masked otherwise:
            [view * batch, frame, bin].
        done: share of the training that is over; masks may grow with it.
    """
    settings = config.augment
    if batch.is_audio:
        waveforms, num_samples = augment_waveforms(
            batch.inputs / _INT16_SCALE,
            batch.lengths,
            settings,
            config.features.sample_rate,
            generator,
        )
        base, num_frames = frontend.base(waveforms, num_samples)
    else:
        base, num_frames = frontend.with_noise(batch.inputs), batch.lengths
        if settings.speeds != (1.0,):
            speeds = choose_speeds(len(num_frames), settings.speeds, generator)
            slowest = min(settings.speeds)
            base, num_frames = stretch_time(base, num_frames, speeds, slowest)
    if settings.vocal_tract:
        factors = draw_factors(len(num_frames), settings.vocal_tract, generator)
        dct = frontend.dct, frontend.inverse_dct
        base = warp_frequencies(base, factors, config.features, *dct)
    if settings.channel_db:
        base = change_channel(base, settings.channel_db, config.features, frontend.dct, generator)
    if joined:
        base, num_frames = join_pairs(base, num_frames)
    features = frontend.finish(base, num_frames, batch.statistics)
    features, num_frames = features.repeat(views, 1, 1), num_frames.repeat(views)
    rate = 1000 / config.features.frame_shift_ms
    strength = min(1.0, done / settings.mask_ramp) if settings.mask_ramp else 1.0
    return mask_features(features, num_frames, settings, rate, generator, strength), num_frames


def draw_joined(config: Config, generator: Generator) -> bool:
    """Whether a step's utterances are joined."""
    probability = config.augment.join_probability
    if not probability:
        return False
    return bool(torch.rand((), generator=on_host(generator, "joining")) < probability)


def measure_statistics(
    corpus: PackedCorpus, config: FeatureConfig, keys: Iterable[Hashable | None]
) -> feature_statistics.GroupStatistics:
    """Mean and standard deviation of each bin over each group of utterances, not augmented.

    Args:
        corpus: of which every utterance is looked at.
        config: of the features.
        keys: of each utterance; those with the same one are a group, one without is its own.
    """
    frontend = Frontend(config)
    groups = feature_statistics.group_rows(keys)
    moments = np.zeros((int(groups.max()) + 1, 3, config.num_bins))
    unit = config.frame_shift if corpus.kind == "features" else 1
    plan = corpus.plan(_STATISTICS_SECONDS * config.sample_rate // unit)
    corpus.follow(None)
    no_targets: list[list[int]] = [[]] * len(corpus)
    for rows in track(plan, total=len(plan), label="statistics", unit="batches"):
        base, num_frames = _base(frontend, make_batch(corpus, rows.tolist(), no_targets))
        np.add.at(moments, groups[rows], frontend.moments(base, num_frames).numpy())
    return feature_statistics.GroupStatistics(
        groups=groups, values=feature_statistics.statistics(moments)
    )
