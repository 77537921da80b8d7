"""Which networks can hear audio as it arrives, and how far they look ahead; no torch."""

from asr.config import EncoderConfig, FeatureConfig
from asr.errors import WholeUtterancesError

_DELTA_CONTEXT = 2  # frames on either side, for each order; see `asr.model.features`
_STREAMED = ("none", "global", "running")


def check_arrival(features: FeatureConfig, encoder: EncoderConfig) -> None:
    """See that nothing needs the whole utterance.

    Raises:
        WholeUtterancesError: the encoder or the normalization does.
    """
    if encoder.bidirectional:
        raise WholeUtterancesError(
            "live transcription needs a model with one direction; this one has two "
            "(encoder.bidirectional)"
        )
    if features.normalization not in _STREAMED:
        raise WholeUtterancesError(
            f"live transcription needs features.normalization running, global or none; this "
            f"model's is {features.normalization}, which looks at whole utterances"
        )


def can_stream(features: FeatureConfig, encoder: EncoderConfig) -> bool:
    """Whether `check_arrival` has no objection."""
    return not encoder.bidirectional and features.normalization in _STREAMED


def lookahead(features: FeatureConfig) -> int:
    """Frames after its own that a frame's features need."""
    return _DELTA_CONTEXT * features.deltas


def least_samples(features: FeatureConfig) -> int:
    """Samples that an utterance has a frame of: Kaldi's are whole, Sphinx's begin with a sample."""
    return features.frame_length if features.convention == "kaldi" else 1
