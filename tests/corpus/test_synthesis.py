import numpy as np
import pytest

from asr.config import SynthesisConfig, parse_settings
from asr.corpus.synthesis import trim
from asr.errors import ConfigError

RATE = 8000


def test_trimming_cuts_weak_edges_and_nothing_in_between() -> None:
    weak, loud = np.full(800, 0.001), np.full(400, 0.5)  # 54 dB apart
    word = np.concatenate([weak, loud, weak, loud, weak]).astype(np.float32)
    assert np.array_equal(trim(word, RATE, 40.0), word[800:-800])
    assert np.array_equal(trim(word, RATE, 60.0), word)


def test_trimming_leaves_at_least_the_loudest_frame() -> None:
    ramp = np.linspace(0, 1, 4000, dtype=np.float32)
    assert np.array_equal(trim(ramp, RATE, 0.0), ramp[-80:])


@pytest.mark.parametrize("silence", [[0.4, 0.1], [-1, 0], [0, 100]])
def test_a_silence_that_is_no_range_is_refused(silence: list[float]) -> None:
    with pytest.raises(ConfigError, match="silence"):
        parse_settings({"silence": silence}, SynthesisConfig, "conf")
