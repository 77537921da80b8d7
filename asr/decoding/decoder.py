"""From log-probabilities to tokens and words: best path, or beam search. No torch.

Dimension names: step (model outputs in time), token (the token table).
"""

import copy
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from asr.config import DecodingConfig
from asr.decoding.hypothesis import Hypothesis, SpelledWord, greedy
from asr.errors import DataError
from asr.text import TokenTable

if TYPE_CHECKING:
    from asr.decoding.automaton import Automaton
    from asr.decoding.grammar import Grammar
    from asr.decoding.hotwords import HotPhrase
    from asr.decoding.lexicon import Lexicon
    from asr.decoding.rescoring import Rescorer
    from asr.decoding.tables import Found, Trie
    from asr.lm import LanguageModel

_MOST_OFF = 1e-2  # by which the probabilities of a step may miss 1


class Decoder:
    """Beam search with what helps it: a language model or a grammar, a lexicon, hot words.

    A language model of characters or of the tokens' own symbols scores each token; one of words
    scores each word. Without a lexicon any word is allowed, and one that the language model lacks
    is its `<unk>`.
    """

    def __init__(
        self,
        tokens: TokenTable,
        config: DecodingConfig,
        *,
        language_model: "LanguageModel | None" = None,
        lexicon: "Lexicon | None" = None,
        hot_words: "Sequence[HotPhrase]" = (),
        grammar: "Grammar | None" = None,
        rescorer: "Rescorer | None" = None,
    ):
        """Prepare the search.

        Args:
            grammar: in place of a language model.
            rescorer: ranks the best readings anew.

        Raises:
            DataError: the language model's words, a hot word or a grammar's word cannot be spelled.
        """
        self.tokens = tokens
        # A grammar has no probabilities to be weighed.
        self.config = config if grammar is None else config.model_copy(update={"lm_weight": 1.0})
        self.warnings: tuple[str, ...] = ()
        self._lexicon = lexicon
        self._rescorer = rescorer
        with_models = language_model or lexicon or hot_words or grammar
        self.is_greedy = not (config.beam > 1 or config.nbest > 1 or with_models)
        """Whether it reads the best path off, without a beam search."""
        if not self.is_greedy:
            self._prepare(language_model if config.lm_weight else None, hot_words, grammar)

    def decode(self, log_probs: NDArray[np.float32]) -> list[Hypothesis]:
        """The best hypotheses of an utterance, best first, with different words; at least one.

        Args:
            log_probs: [step, token] of one utterance, without padding.

        Raises:
            DataError: the scores are no log-probabilities of these tokens.
        """
        probs = _probabilities(log_probs, len(self.tokens))
        if self.is_greedy:
            return [greedy(log_probs)]
        from asr.decoding.beam import search

        # A copy: compiled code is made for one kind of array.
        log_probs = np.array(log_probs, np.float32, order="C")
        found = search(log_probs, probs, self._options, self._trie, self._models)
        hypotheses = self._hypotheses(found) or [
            Hypothesis(tokens=(), steps=(), log_prob=float(log_probs[:, 0].sum()), words=())
        ]
        if self._rescorer is not None:
            hypotheses = self._rescorer.rank(hypotheses)
        return hypotheses[: self.config.nbest]

    def decode_all(
        self, all_log_probs: Sequence[NDArray[np.float32]], *, threads: int = 1
    ) -> list[list[Hypothesis]]:
        """The same for several utterances, side by side in threads."""
        with ThreadPoolExecutor(max_workers=threads) as pool:
            return list(pool.map(self.decode, all_log_probs))

    def with_settings(self, config: DecodingConfig) -> "Decoder":
        """The same beam search with other settings, for a small part of the cost of a new one.

        A language model stays in it, or out of it: its weight must be 0 in both or in neither.
        """
        if self.is_greedy or (config.lm_weight == 0) != (self.config.lm_weight == 0):
            raise ValueError("these settings want a new decoder")
        other = copy.copy(self)
        other.config = config
        other._options = self._options._replace(**other._limits(config))
        other._trie = other._weighed()
        return other

    def _prepare(
        self,
        language_model: "LanguageModel | None",
        hot_words: "Sequence[HotPhrase]",
        grammar: "Grammar | None",
    ) -> None:
        from asr.decoding.automaton import frozen, language_model_automaton
        from asr.decoding.grammar import grammar_automaton, grammar_lexicon
        from asr.decoding.hotwords import boundary_label, hot_automaton
        from asr.decoding.lexicon import (
            OPEN,
            Bounds,
            build_trie,
            spell_vocabulary,
            spellings_by_word,
            word_bounds,
        )
        from asr.decoding.tables import Options
        from asr.lm import ngram

        config, tokens = self.config, self.tokens
        bounds = word_bounds(tokens)
        of_tokens = language_model is not None and scores_tokens(language_model, tokens)
        word_model = None if of_tokens else language_model
        token_model = language_model if of_tokens else None
        words = language_model_automaton(word_model)
        if grammar is not None:
            spelled = spellings_by_word(self._lexicon) if self._lexicon else None
            self._lexicon = grammar_lexicon(grammar, tokens, spelled)
            words = grammar_automaton(grammar)
        elif self._lexicon is None:
            self._lexicon = OPEN
            if word_model is not None:
                self._lexicon, unspelled = spell_vocabulary(word_model, tokens)
                if unspelled:
                    self.warnings = (
                        f"{len(unspelled)} words of the language model cannot be spelled, the "
                        f"first is {unspelled[0]!r}",
                    )
        labels = np.arange(len(tokens))
        if token_model is not None:
            labels = np.array(token_model.ids(_token_names(tokens)))
        hot = (
            hot_automaton(hot_words, tokens, self._lexicon)
            if hot_words
            else language_model_automaton(None)
        )
        self._plain_trie = build_trie(self._lexicon, word_model, len(tokens))
        if grammar is not None:
            own = np.arange(len(grammar.words)) + ngram.END_ID + 1
            self._plain_trie = self._plain_trie._replace(labels=frozen(own, np.int32))  # type: ignore[arg-type]
        self._models = (
            words,
            language_model_automaton(token_model),
            hot,
        )
        marked = [bounds is Bounds.MARK and s.startswith("▁") for s in tokens.symbols]
        self._options: Options = Options(
            **self._limits(config),
            is_open=self._lexicon.is_open,
            ends_at_once=bounds is Bounds.NONE and not self._lexicon.is_open,
            space=tokens.symbols.index(" ") if bounds is Bounds.SPACE else -1,
            begins_word=frozen(marked, np.bool_),  # type: ignore[arg-type]
            token_labels=frozen(labels, np.int32),  # type: ignore[arg-type]
            end_label=ngram.END_ID,
            boundary_label=boundary_label(tokens),
            best_hot=_most_added(hot),
        )
        self._trie = self._weighed()

    def _weighed(self) -> "Trie":
        from asr.decoding.lexicon import weigh

        config, scale = self.config, self._options.word_scale
        # Without a model of words all words are alike.
        unknown = config.unknown_score if self._models[0].num_labels else 0.0
        return weigh(self._plain_trie, scale, config.word_bonus, unknown)

    def _limits(self, config: DecodingConfig) -> dict[str, Any]:
        """What the search takes straight from the settings."""
        scale, threshold = config.lm_weight * math.log(10), config.blank_threshold
        return {
            "beam": config.beam,
            # More than asked for, since some spell the same words.
            "num_best": 4 * self._num_hypotheses + 16,
            "beam_threshold": config.beam_threshold,
            "token_threshold": config.token_threshold,
            "blank_log_prob": math.log(threshold) if threshold <= 1 else math.inf,
            "word_scale": scale,
            "token_scale": scale,
            "word_bonus": config.word_bonus,
            "unknown_score": config.unknown_score,
        }

    @property
    def _num_hypotheses(self) -> int:
        return max(self.config.nbest, self.config.rescored if self._rescorer else 0)

    def _hypotheses(self, found: "Found") -> list[Hypothesis]:
        hypotheses: dict[str, Hypothesis] = {}
        for row, length in enumerate(found.lengths.tolist()):
            tokens = tuple(found.tokens[row, :length].tolist())
            words = [*found.words[row, :length].tolist(), int(found.last_words[row])]
            hypothesis = Hypothesis(
                tokens=tokens,
                steps=tuple(found.steps[row, :length].tolist()),
                log_prob=float(found.log_probs[row]),
                score=float(found.scores[row]),
                words=tuple(self._spelled(tokens, words)),
            )
            hypotheses.setdefault(hypothesis.text, hypothesis)
            if len(hypotheses) == self._num_hypotheses:
                break
        return list(hypotheses.values())

    def _spelled(self, tokens: tuple[int, ...], words: Sequence[int]) -> Iterator[SpelledWord]:
        """The words of a prefix, given which end where."""
        assert self._lexicon is not None
        at_once, space = self._options.ends_at_once, self._options.space
        first = 0
        for place, word in enumerate(words):
            last = place + 1 if at_once else place
            if word != -1:
                text = self._lexicon.words[word] if word >= 0 else ""
                text = text or self.tokens.decode(tokens[first:last])
                yield SpelledWord(text=text, first=first, last=last)
                first = last
            if place < len(tokens) and tokens[place] == space:
                first = place + 1


def scores_tokens(model: "LanguageModel", tokens: TokenTable) -> bool:
    """Whether a language model's words are the token table's symbols.

    Raises:
        DataError: its words are characters that the tokens lack.
    """
    from asr.lm import ngram

    vocabulary = model.words[ngram.END_ID + 1 :]
    unknown = sorted(set(vocabulary) - set(_token_names(tokens)))
    if unknown and model.unit == "character":
        raise DataError(
            f"the language model's characters are not the model's tokens: {len(unknown)} of "
            f"{len(vocabulary)} are no token, as {' '.join(map(repr, unknown[:10]))}"
        )
    return not unknown


def _token_names(tokens: TokenTable) -> list[str]:
    """Symbols as language models write them."""
    from asr.lm import sentences

    return [sentences.SPACE if symbol == " " else symbol for symbol in tokens.symbols]


def _most_added(hot: "Automaton") -> float:
    """The most that hot words can add at once: an arc, after a word's bound."""
    if not hot.num_labels:
        return 0.0
    return 2 * max(0.0, float(hot.arc_scores.max())) + max(0.0, float(hot.fallback_scores.max()))


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
