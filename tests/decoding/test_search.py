"""How the compiled search holds its arrays, and what a prepared search is."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba.core.runtime import _nrt_python, rtsys

from asr.config import DecodingConfig
from asr.decoding.decoder import Decoder, make_decoder
from asr.decoding.hypothesis import Hypothesis
from tests.conftest import ROOT
from tests.decoding.test_decoder import CHARACTERS, random_scores, word_model

_COUNTED = """
import numba
from numba import extending

extending.intrinsic = lambda _: numba.njit(lambda values: values)

from tests.decoding.test_search import hypotheses

print(hypotheses())
"""


def hypotheses() -> list[list[Hypothesis]]:
    config = DecodingConfig(beam=64, nbest=20, beam_threshold=1e6, token_threshold=1e6)
    decoder = make_decoder(CHARACTERS, config, language_model=word_model())
    # Long enough that the tree of prefixes grows.
    return [decoder.decode(random_scores(200, 4, seed)) for seed in range(5)]


def test_borrowed_arrays_give_what_counted_ones_do(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _COUNTED],
        # What lies outside of an array is an error there.
        env={**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{hypotheses()}\n"


def test_the_search_frees_what_it_takes() -> None:
    hypotheses()  # compiles
    _nrt_python.memsys_enable_stats()

    def held() -> int:
        stats = rtsys.get_allocation_stats()
        return int(stats.alloc - stats.free)

    before = held()
    hypotheses()
    assert rtsys.get_allocation_stats().alloc > 0
    assert held() == before


def test_a_search_under_other_settings_is_a_new_one() -> None:
    log_probs = random_scores(30, 4, seed=1)
    narrow, wide = (DecodingConfig(beam=beam, word_bonus=beam / 10) for beam in (2, 30))
    decoder = make_decoder(CHARACTERS, narrow, language_model=word_model())
    before = decoder.decode(log_probs)
    other = decoder.with_settings(wide)
    assert other.decode(log_probs) == make_decoder(
        CHARACTERS, wide, language_model=word_model()
    ).decode(log_probs)
    assert decoder.decode(log_probs) == before
    with pytest.raises(AttributeError):
        decoder.search = None  # type: ignore[misc]


def test_a_beam_wants_a_search() -> None:
    for config in (DecodingConfig(beam=2), DecodingConfig(nbest=2)):
        with pytest.raises(ValueError, match="make_decoder"):
            Decoder(CHARACTERS, config)


def test_a_decoder_keeps_its_language_model_or_its_lack() -> None:
    decoder = make_decoder(CHARACTERS, DecodingConfig(beam=4), language_model=word_model())
    with pytest.raises(ValueError, match="new decoder"):
        decoder.with_settings(DecodingConfig(beam=4, lm_weight=0))
    with pytest.raises(ValueError, match="new decoder"):
        Decoder(CHARACTERS, DecodingConfig()).with_settings(DecodingConfig())


def test_a_search_gives_as_many_readings_as_it_is_asked_for() -> None:
    config = DecodingConfig(beam=64, nbest=3, beam_threshold=1e6, token_threshold=1e6)
    search = make_decoder(CHARACTERS, config, language_model=word_model()).search
    assert search is not None
    scores = random_scores(30, 4, 1)
    for count in (1, 3, 7):
        readings = search.with_settings(config, count).run(scores, np.exp(scores))
        assert len({reading.text for reading in readings}) == len(readings) == count
