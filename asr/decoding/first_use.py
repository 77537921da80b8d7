"""Compiling ahead of the first use, which would wait for it; what it makes is kept on the disk."""

import numpy as np

from asr.config import DecodingConfig, TokenConfig
from asr.decoding.alignment import align
from asr.decoding.decoder import make_decoder
from asr.decoding.viterbi import best_states
from asr.text import build_tokens


def warm_up() -> None:
    """Compile the beam search and the alignments, if their code is not there.

    They are made for one kind of arrays: so what a tiny example needs is what all others need.
    """
    tokens = build_tokens(["a b"], TokenConfig())
    log_probs = np.full((4, len(tokens)), -np.log(len(tokens)), np.float32)
    make_decoder(tokens, DecodingConfig(beam=2)).decode(log_probs)
    align(log_probs, [1])
    best_states(np.zeros((3, 3)), np.array([True, False, True]))
