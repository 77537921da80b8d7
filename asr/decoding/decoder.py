"""From log-probabilities to hypotheses: the best path, or a beam search. No torch.

What a search needs is imported for one: the best path starts sooner without it.

Dimension names: step (model outputs in time), token (the token table).
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from asr.config import DecodingConfig
from asr.decoding.hypothesis import Hypothesis, greedy
from asr.errors import DataError
from asr.text import TokenTable

if TYPE_CHECKING:
    from asr.decoding.grammar import Grammar
    from asr.decoding.hotwords import HotPhrase
    from asr.decoding.lexicon import Lexicon
    from asr.decoding.rescoring import Rescorer
    from asr.decoding.search import Search
    from asr.lm import LanguageModel

_BEAM = 16  # of a best path that is to look for words
_MOST_OFF = 1e-2  # by which the probabilities of a step may miss 1


@dataclass(frozen=True, slots=True)
class Decoder:
    """What turns a network's output into hypotheses; `make_decoder` makes one that searches."""

    tokens: TokenTable
    config: DecodingConfig
    search: "Search | None" = None
    """None: the best path is read off."""
    rescorer: "Rescorer | None" = None
    """Ranks the best readings anew."""

    def __post_init__(self) -> None:
        """Refuse settings that the best path cannot have."""
        if self.is_greedy and (self.config.beam > 1 or self.config.nbest > 1):
            raise ValueError("a beam and several hypotheses need a search: see make_decoder")

    @property
    def is_greedy(self) -> bool:
        """Whether it reads the best path off, without a beam search."""
        return self.search is None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the language model has and cannot be used."""
        return self.search.warnings if self.search else ()

    def decode(self, log_probs: NDArray[np.float32]) -> list[Hypothesis]:
        """The best hypotheses of an utterance, best first, with different words; at least one.

        Args:
            log_probs: [step, token] of one utterance, without padding.

        Raises:
            DataError: the scores are no log-probabilities of these tokens.
        """
        probs = _probabilities(log_probs, len(self.tokens))
        if self.search is None:
            return [greedy(log_probs)]
        hypotheses = self.search.run(log_probs, probs) or [
            Hypothesis(tokens=(), steps=(), log_prob=float(log_probs[:, 0].sum()), words=())
        ]
        if self.rescorer is not None:
            hypotheses = self.rescorer.rank(hypotheses)
        return hypotheses[: self.config.nbest]

    def decode_all(
        self, all_log_probs: Sequence[NDArray[np.float32]], *, threads: int = 1
    ) -> list[list[Hypothesis]]:
        """The same for several utterances, side by side in threads."""
        with ThreadPoolExecutor(max_workers=threads) as pool:
            return list(pool.map(self.decode, all_log_probs))

    def with_hot_words(self, words: Iterable[str], weight: float) -> "Decoder":
        """The same with words that are preferred, as far as it can spell them.

        One that has hot words already, or writes phones, stays as it is. One that reads the best
        path off becomes a beam search, if there is a word to look for.

        Args:
            weight: in nats, for each.
        """
        if self.tokens.pronunciations is not None and self.is_greedy:
            return self
        from asr.decoding.hotwords import HotPhrase
        from asr.decoding.search import build_search

        search = self.search or build_search(self.tokens, self.config, 1)
        if search.has_hot_words:
            return self
        phrases = [
            HotPhrase(words=(word,), weight=weight, where="hot words")
            for word in words
            if search.spells(word)
        ]
        if not phrases:
            return self
        config = self.config
        if self.is_greedy:
            config = config.model_copy(update={"beam": _BEAM})
            search = search.with_settings(config, _num_hypotheses(config, None))
        return Decoder(self.tokens, config, search.with_hot_words(phrases), self.rescorer)

    def with_settings(self, config: DecodingConfig) -> "Decoder":
        """The same beam search with other settings, for a small part of the cost of a new one.

        A language model stays in it, or out of it: its weight must be 0 in both or in neither.
        """
        if self.search is None or (config.lm_weight == 0) != (self.config.lm_weight == 0):
            raise ValueError("these settings want a new decoder")
        search = self.search.with_settings(config, _num_hypotheses(config, self.rescorer))
        return Decoder(self.tokens, config, search, self.rescorer)


def make_decoder(
    tokens: TokenTable,
    config: DecodingConfig,
    *,
    language_model: "LanguageModel | None" = None,
    lexicon: "Lexicon | None" = None,
    hot_words: "Sequence[HotPhrase]" = (),
    grammar: "Grammar | None" = None,
    rescorer: "Rescorer | None" = None,
) -> Decoder:
    """The decoder of settings and helps: without any, and with a beam of 1, the best path.

    Args:
        language_model: of words, of characters or of the tokens' own symbols; see `build_search`.
        grammar: in place of a language model.
        rescorer: ranks the best readings anew.

    Raises:
        DataError: the language model's words, a hot word or a grammar's word cannot be spelled.
    """
    helped = language_model or lexicon or hot_words or grammar
    if not (config.beam > 1 or config.nbest > 1 or helped):
        return Decoder(tokens, config)
    from asr.decoding.search import build_search

    search = build_search(
        tokens,
        config,
        _num_hypotheses(config, rescorer),
        language_model=language_model,
        lexicon=lexicon,
        hot_words=hot_words,
        grammar=grammar,
    )
    return Decoder(tokens, config, search, rescorer)


def _num_hypotheses(config: DecodingConfig, rescorer: "Rescorer | None") -> int:
    return max(config.nbest, config.rescored if rescorer else 0)


def _probabilities(log_probs: NDArray[np.float32], num_tokens: int) -> NDArray[np.float32]:
    """The exponentials, checked."""
    if log_probs.ndim != 2 or log_probs.shape[1] != num_tokens:
        raise DataError(f"scores of shape {log_probs.shape}, but the model has {num_tokens} tokens")
    with np.errstate(invalid="ignore", over="ignore"):
        probs = np.exp(log_probs, dtype=np.float32, order="C")
    sums = probs.sum(axis=1)
    wrong = np.flatnonzero(~(np.abs(sums - 1) <= _MOST_OFF))
    if wrong.size:
        step = int(wrong[0])
        raise DataError(
            f"step {step}: the probabilities sum to {sums[step]:.4g}, not to 1; scores are "
            "expected to be log-probabilities (log_softmax)"
        )
    return probs
