import re

import pytest
from annotated_types import Ge, Gt, Le, Lt

from asr import config as settings
from asr.config import Config, DecodingConfig, Settings, parse_settings
from asr.errors import ConfigError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"features": {"low_freq": 4000, "high_freq": 3000}},
            "features: low_freq 4000 < high_freq",
        ),
        ({"features": {"sample_rate": 8000, "high_freq": 4001}}, "high_freq 4001 <= 4000 Hz"),
        (
            {"features": {"kind": "mfcc", "num_mel_bins": 12}},
            "num_ceps 13 exceeds num_mel_bins 12",
        ),
        (
            {"augment": {"join_probability": 0.5}, "features": {"normalization": "speaker"}},
            "where: the whole: augment.join_probability: utterances that are joined",
        ),
        ({"training": {"epochs": 0}}, r"training: epochs 0 without init\.model: nothing would be"),
        (
            {"training": {"stream": True, "more": [{"manifest": "m.jsonl"}]}},
            r"training: stream: shards that are .* stand alone; drop more",
        ),
        (
            {"training": {"more": [{"manifest": "m", "share": 0.5}] * 2}},
            r"training: more: the shares leave nothing of an epoch to the training set",
        ),
        (
            {"training": {"stream": True, "init": {"model": "m", "replay": "r.jsonl"}}},
            r"training: stream: shards that are .* stand alone; drop init\.replay",
        ),
        ({"training": {"init": {"modell": "m"}}}, r"modell: unknown key; did you mean model\?"),
        ({"trianing": {}}, r"trianing: unknown key; did you mean training\?"),
        (
            {"lm": {"neural": {"epoch": 1}}},
            r"lm\.neural\.epoch: unknown key; did you mean epochs\?",
        ),
        ({"tokens": {"xyzzy": 1}}, "unknown key; known keys: kind, vocabulary_size$"),
        # What a stranger's model could ask for.
        ({"encoder": {"hidden_size": 10**9}}, r"hidden_size: .* less than or equal to 16384"),
        ({"encoder": {"num_layers": 10**9}}, r"num_layers: .* less than or equal to 64"),
        ({"features": {"num_mel_bins": 10**9}}, r"num_mel_bins: .* less than or equal to 1024"),
        ({"features": {"frame_length_ms": 1e12}}, "frame_length_ms: .* less than or equal to 1000"),
        ({"features": {"frame_length_ms": float("inf")}}, "frame_length_ms: .* finite number"),
        ({"features": {"frame_shift_ms": 1e-9}}, "frame_shift_ms 1e-09 is less than a sample"),
        ({"features": {"frame_shift_ms": 50}}, "or more than frame_length_ms 25"),
        ({"augment": {"gain_db": float("nan")}}, "gain_db: .* finite number"),
    ],
)
def test_what_cannot_be_is_refused_by_name(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_settings(values, Config, "where")


def test_edges_of_what_can_be() -> None:
    values = {"kind": "mfcc", "num_mel_bins": 13, "sample_rate": 8000, "high_freq": 4000}
    features = parse_settings({"features": values}, Config, "where").features
    assert (features.num_base_bins, features.num_bins, features.frame_shift) == (13, 13, 80)
    training = {"epochs": 0, "init": {"model": "m"}}
    assert parse_settings({"training": training}, Config, "where").training.epochs == 0


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (DecodingConfig(), "best path"),
        (DecodingConfig(beam=4), "beam 4, weight 1, word bonus 0"),
        (
            DecodingConfig(lm="a.arpa", lexicon="b.txt", neural_lm="n", neural_share=0.25),
            "beam 1, lm a.arpa, lexicon b.txt, n with a share of 0.25, weight 1, word bonus 0",
        ),
        (DecodingConfig(neural_lm="n"), "best path"),
    ],
)
def test_decoding_in_a_line(config: DecodingConfig, line: str) -> None:
    assert config.describe() == line


# What each setting may be: a bound in square brackets is allowed itself, in round ones it is not.
BOUNDS = """
FeatureConfig.sample_rate [1000, 192000]
FeatureConfig.frame_length_ms (0, 1000]
FeatureConfig.frame_shift_ms (0, 1000]
FeatureConfig.num_mel_bins [2, 1024]
FeatureConfig.low_freq [0, )
FeatureConfig.high_freq (0, )
FeatureConfig.noise_floor_db (, 0]
FeatureConfig.num_ceps [1, 1024]
FeatureConfig.deltas [0, 2]
TokenConfig.vocabulary_size [8, 1000000]
AugmentConfig.silence_seconds [0, 60]
AugmentConfig.join_probability [0, 1]
AugmentConfig.gain_db [0, )
AugmentConfig.noise_probability [0, 1]
AugmentConfig.reverb_probability [0, 1]
AugmentConfig.vocal_tract [0, 1)
AugmentConfig.channel_db [0, )
AugmentConfig.time_masks [0, )
AugmentConfig.time_mask_width [1, )
AugmentConfig.time_mask_share [0, 1]
AugmentConfig.freq_masks [0, )
AugmentConfig.freq_mask_width [1, )
AugmentConfig.mask_ramp [0, 1]
EncoderConfig.hidden_size [1, 16384]
EncoderConfig.num_layers [1, 64]
EncoderConfig.dropout [0, 1)
EncoderConfig.conv_channels [1, 16384]
InitConfig.freeze_share [0, 1]
InitConfig.lower_rate [0, 1]
InitConfig.replay_share (0, 1)
MoreSpeechConfig.weight (0, 100]
MoreSpeechConfig.share (0, 1)
MoreSpeechConfig.min_confidence [0, 1]
TrainingConfig.seed [0, )
TrainingConfig.epochs [0, )
TrainingConfig.batch_seconds (0, )
TrainingConfig.window_mb (0, )
TrainingConfig.learning_rate (0, )
TrainingConfig.weight_decay [0, )
TrainingConfig.warmup_share [0, 1]
TrainingConfig.clip_norm (0, )
TrainingConfig.consistency [0, )
TrainingConfig.intermediate [0, 1)
TrainingConfig.average_decay [0, 1)
TrainingConfig.dev_interval [1, )
TrainingConfig.num_samples [0, )
TrainingConfig.checkpoint_seconds [0, )
TrainingConfig.max_bad_steps [0, )
NeuralLmConfig.epochs [0, )
NeuralLmConfig.hidden_size [1, 16384]
NeuralLmConfig.num_layers [1, 64]
NeuralLmConfig.dropout [0, 1)
NeuralLmConfig.learning_rate (0, )
NeuralLmConfig.batch_size [1, )
NeuralLmConfig.seed [0, )
LanguageModelConfig.order [0, 20]
LanguageModelConfig.vocabulary [0, )
LanguageModelConfig.max_ngrams [0, )
SpottingConfig.threshold [0, 1]
SpottingConfig.false_alarms [0, )
DecodingConfig.beam [1, 10000]
DecodingConfig.nbest [1, 10000]
DecodingConfig.lm_weight [0, )
DecodingConfig.unknown_score (, 0]
DecodingConfig.beam_threshold (0, )
DecodingConfig.token_threshold (0, )
DecodingConfig.blank_threshold (0, )
DecodingConfig.neural_share [0, 1]
DecodingConfig.rescored [1, 10000]
SynthesisConfig.hours (0, )
SynthesisConfig.num_dev [1, )
SynthesisConfig.num_test [1, )
SynthesisConfig.num_voices [1, )
SynthesisConfig.blends [0, )
SynthesisConfig.espeak_share [0, 1)
SynthesisConfig.trim_db [0, 60]
SynthesisConfig.sample_rate [8000, 48000]
SynthesisConfig.seed [0, )
RecordingsConfig.dev (0, 0.5)
RecordingsConfig.test (0, 0.5)
RecordingsConfig.seed [0, )
RecordingsConfig.train_minutes (0, )
"""
BOUND = re.compile(r"(\w+)\.(\w+) ([\[(])(\S*), (\S*)([\])])")
REQUIRED = {"MoreSpeechConfig": {"manifest": "m.jsonl"}}


def kinds() -> list[type[Settings]]:
    every = [kind for kind in vars(settings).values() if isinstance(kind, type)]
    return [kind for kind in every if issubclass(kind, Settings) and kind is not Settings]


def test_every_bound_is_in_the_table() -> None:
    bounded = {
        f"{kind.__name__}.{name}"
        for kind in kinds()
        for name, field in kind.model_fields.items()
        if name in kind.__annotations__
        and any(isinstance(part, Ge | Gt | Le | Lt) for part in field.metadata)
    }
    assert bounded == {line.split()[0] for line in BOUNDS.split("\n") if line}


@pytest.mark.parametrize("line", BOUNDS.strip().splitlines())
def test_a_value_is_refused_a_step_outside_of_its_bounds_and_only_there(line: str) -> None:
    match = BOUND.fullmatch(line)
    assert match
    kind = getattr(settings, match[1])
    is_whole = kind.model_fields[match[2]].annotation is int
    for bound, is_allowed, outwards in (
        (match[4], match[3] == "[", -1),
        (match[5], match[6] == "]", 1),
    ):
        if not bound:
            continue
        step = 1 if is_whole else 1e-6
        value = int(bound) if is_whole else float(bound)
        refused, allowed = value + outwards * step, value
        if not is_allowed:
            refused, allowed = value, value - outwards * step
        assert is_out_of_bounds(kind, match[2], refused), refused
        assert not is_out_of_bounds(kind, match[2], allowed), allowed


def is_out_of_bounds(kind: type[Settings], key: str, value: float) -> bool:
    """Whether it is refused for itself, not for what it does beside other values."""
    try:
        parse_settings({**REQUIRED.get(kind.__name__, {}), key: value}, kind, "where")
    except ConfigError as error:
        return str(error).startswith(f"where: {key}: Input should be ")
    return False
