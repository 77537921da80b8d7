import pytest

from asr.config import Config, DecodingConfig, parse_settings
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
