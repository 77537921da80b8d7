import numpy as np

from asr.config import DecodingConfig, TokenConfig
from asr.decoding import alignment, beam, viterbi
from asr.decoding.decoder import make_decoder
from asr.decoding.first_use import warm_up
from asr.decoding.hotwords import HotPhrase
from asr.text import build_tokens


def test_decoding_runs_what_was_compiled_ahead() -> None:
    warm_up()
    compiled = (beam.search, viterbi.best_path, viterbi.best_states)
    before = [len(function.signatures) for function in compiled]
    assert min(before) > 0
    tokens = build_tokens(["abc cab", "bc a"], TokenConfig())
    log_probs = np.log(np.random.default_rng(0).dirichlet(np.ones(len(tokens)), 9))
    log_probs = log_probs.astype(np.float32)
    config = DecodingConfig(beam=5, nbest=3)
    for hot_words in ((), (HotPhrase(words=("cab",), weight=1.0, where="a test"),)):
        make_decoder(tokens, config, hot_words=hot_words).decode(log_probs)
    alignment.align(log_probs[::2], [1, 2])
    viterbi.best_states(np.ones((5, 5)), np.array([True, False, True, False, True]))
    assert [len(function.signatures) for function in compiled] == before
