"""A beam search made ready: what it is told, as flat arrays, built once for all utterances.

No torch; Numba comes with the first utterance. Dimension names: step (model outputs in time), token
(the token table).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.config import DecodingConfig
from asr.decoding.automaton import Automaton, frozen, language_model_automaton
from asr.decoding.grammar import Grammar, grammar_automaton, grammar_lexicon
from asr.decoding.hotwords import HotPhrase, boundary_label, hot_automaton
from asr.decoding.hypothesis import Hypothesis, SpelledWord
from asr.decoding.lexicon import (
    OPEN,
    Bounds,
    Lexicon,
    build_trie,
    spell_vocabulary,
    spellings_by_word,
    weigh,
    word_bounds,
)
from asr.decoding.tables import HypothesisTable, Models, Options, Plan, Scores, Trie
from asr.errors import DataError
from asr.lm import LanguageModel, ngram, sentences
from asr.text import TokenTable
from asr.text import tokens as token_tables


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """A beam search with its models; see `build_search`."""

    tokens: TokenTable
    lexicon: Lexicon
    num_hypotheses: int
    """With different words, that are given at most."""
    plan: Plan
    unweighed: Trie
    """The plan's trie, its look-ahead as the language model has it."""
    warnings: tuple[str, ...]
    """What the language model has and cannot be used."""

    def run(self, log_probs: NDArray[np.float32], probs: NDArray[np.float32]) -> list[Hypothesis]:
        """The best hypotheses of an utterance, best first, with different words; perhaps none.

        Args:
            log_probs: [step, token], without padding.
            probs: their exponentials, in C order.
        """
        from asr.decoding.beam import search  # brings Numba, which takes half a second

        # A copy: compiled code is made for one kind of array.
        scores = Scores(np.array(log_probs, np.float32, order="C"), probs)
        return self._hypotheses(search(scores, self.plan))

    def with_settings(self, config: DecodingConfig, num_hypotheses: int) -> "Search":
        """The same models under other settings."""
        options = self.plan.options._replace(**_limits(config, num_hypotheses))
        plan = _weighed(self.plan._replace(options=options, trie=self.unweighed))
        return replace(self, num_hypotheses=num_hypotheses, plan=plan)

    def with_hot_words(self, phrases: Sequence[HotPhrase]) -> "Search":
        """The same models with hot words, in the place of those that there are.

        Raises:
            DataError: a word cannot be spelled.
        """
        hot = hot_automaton(phrases, self.tokens, self.lexicon)
        options = self.plan.options._replace(best_hot=_most_added(hot))
        plan = self.plan._replace(options=options, models=self.plan.models._replace(hot=hot))
        return replace(self, plan=plan)

    @property
    def has_hot_words(self) -> bool:
        """Whether it prefers some words."""
        return self.plan.models.hot.num_labels > 0

    def spells(self, word: str) -> bool:
        """Whether it can find a word."""
        if not self.lexicon.is_open:
            return word in self.lexicon.words
        return not self.tokens.count_unknown([word])

    def _hypotheses(self, table: HypothesisTable) -> list[Hypothesis]:
        hypotheses: dict[str, Hypothesis] = {}
        for row, length in enumerate(table.lengths.tolist()):
            tokens = tuple(table.tokens[row, :length].tolist())
            words = [*table.words[row, :length].tolist(), int(table.last_words[row])]
            hypothesis = Hypothesis(
                tokens=tokens,
                steps=tuple(table.steps[row, :length].tolist()),
                log_prob=float(table.log_probs[row]),
                score=float(table.scores[row]),
                words=tuple(self._spelled(tokens, words)),
            )
            hypotheses.setdefault(hypothesis.text, hypothesis)
            if len(hypotheses) == self.num_hypotheses:
                break
        return list(hypotheses.values())

    def _spelled(self, tokens: tuple[int, ...], words: Sequence[int]) -> Iterator[SpelledWord]:
        """The words of a prefix, given which end where."""
        at_once, space = self.plan.options.ends_at_once, self.plan.options.space
        first = 0
        for place, word in enumerate(words):
            last = place + 1 if at_once else place
            if word != -1:
                text = self.lexicon.words[word] if word >= 0 else ""
                text = text or self.tokens.decode(tokens[first:last])
                yield SpelledWord(text=text, first=first, last=last)
                first = last
            if place < len(tokens) and tokens[place] == space:
                first = place + 1


def build_search(
    tokens: TokenTable,
    config: DecodingConfig,
    num_hypotheses: int,
    *,
    language_model: LanguageModel | None = None,
    lexicon: Lexicon | None = None,
    hot_words: Sequence[HotPhrase] = (),
    grammar: Grammar | None = None,
) -> Search:
    """A search under these settings and with these helps.

    A language model of characters or of the tokens' own symbols scores each token; one of words
    scores each word. Without a lexicon any word is allowed, and one that the language model lacks
    is its `<unk>`.

    Args:
        language_model: not used where its weight is 0.
        grammar: in place of a language model; it has no probabilities to be weighed.

    Raises:
        DataError: the language model's words, a hot word or a grammar's word cannot be spelled, or
            the lexicon has none of the language model's words.
    """
    if grammar is not None:
        config = config.model_copy(update={"lm_weight": 1.0})
    if not config.lm_weight:
        language_model = None
    of_tokens = language_model is not None and _scores_tokens(language_model, tokens)
    word_model, token_model = (None, language_model) if of_tokens else (language_model, None)
    lexicon, warnings = _whole_lexicon(tokens, lexicon, word_model, grammar)
    trie = build_trie(lexicon, word_model, len(tokens))
    words = language_model_automaton(word_model)
    if grammar is not None:
        labels = np.arange(len(grammar.words)) + ngram.END_ID + 1
        trie = trie._replace(labels=frozen(labels, np.int32))
        words = grammar_automaton(grammar)
    hot = language_model_automaton(None)
    if hot_words:
        hot = hot_automaton(hot_words, tokens, lexicon)
    plan = Plan(
        options=Options(
            **_limits(config, num_hypotheses),
            **_layout(tokens, lexicon, token_model),
            best_hot=_most_added(hot),
        ),
        trie=trie,
        models=Models(words, language_model_automaton(token_model), hot),
    )
    return Search(
        tokens=tokens,
        lexicon=lexicon,
        num_hypotheses=num_hypotheses,
        plan=_weighed(plan),
        unweighed=trie,
        warnings=warnings,
    )


def _whole_lexicon(
    tokens: TokenTable,
    lexicon: Lexicon | None,
    word_model: LanguageModel | None,
    grammar: Grammar | None,
) -> tuple[Lexicon, tuple[str, ...]]:
    """The words that the search may spell, and what of the language model's it cannot."""
    if grammar is not None:
        spelled = spellings_by_word(lexicon) if lexicon else None
        return grammar_lexicon(grammar, tokens, spelled), ()
    if lexicon is not None:
        if word_model is not None and set(lexicon.words).isdisjoint(word_model.words):
            raise DataError(
                f"no word of the lexicon, as {lexicon.words[0]!r}, is in the language model, as "
                f"{word_model.words[-1]!r}; write both alike"
            )
        return lexicon, ()
    if word_model is None:
        return OPEN, ()
    lexicon, unspelled = spell_vocabulary(word_model, tokens)
    if not unspelled:
        return lexicon, ()
    warning = (
        f"{len(unspelled)} words of the language model cannot be spelled, the first is "
        f"{unspelled[0]!r}"
    )
    return lexicon, (warning,)


def _limits(config: DecodingConfig, num_hypotheses: int) -> dict[str, Any]:
    """The part of `Options` that comes straight from the settings."""
    scale, threshold = config.lm_weight * math.log(10), config.blank_threshold
    return {
        "beam": config.beam,
        # More than asked for, since some spell the same words.
        "num_best": 4 * num_hypotheses + 16,
        "beam_threshold": config.beam_threshold,
        "token_threshold": config.token_threshold,
        "blank_log_prob": math.log(threshold) if threshold <= 1 else math.inf,
        "word_scale": scale,
        "token_scale": scale,
        "word_bonus": config.word_bonus,
        "unknown_score": config.unknown_score,
    }


def _layout(
    tokens: TokenTable, lexicon: Lexicon, token_model: LanguageModel | None
) -> dict[str, Any]:
    """The part of `Options` that says how tokens make words and what models call them."""
    bounds = word_bounds(tokens)
    marked = [
        bounds is Bounds.MARK and symbol.startswith(token_tables.WORD_START)
        for symbol in tokens.symbols
    ]
    labels = np.arange(len(tokens))
    if token_model is not None:
        labels = np.array(token_model.ids(_token_names(tokens)))
    return {
        "is_open": lexicon.is_open,
        "ends_at_once": bounds is Bounds.NONE and not lexicon.is_open,
        "space": tokens.symbols.index(" ") if bounds is Bounds.SPACE else -1,
        "begins_word": frozen(marked, np.bool_),
        "token_labels": frozen(labels, np.int32),
        "end_label": ngram.END_ID,
        "boundary_label": boundary_label(tokens),
    }


def _weighed(plan: Plan) -> Plan:
    """With the trie's look-ahead in nats."""
    options = plan.options
    # Without a model of words all words are alike.
    unknown = options.unknown_score if plan.models.words.num_labels else 0.0
    return plan._replace(trie=weigh(plan.trie, options.word_scale, options.word_bonus, unknown))


def _scores_tokens(model: LanguageModel, tokens: TokenTable) -> bool:
    """Whether a language model's words are the token table's symbols.

    Raises:
        DataError: its words are characters that the tokens lack.
    """
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
    return [sentences.SPACE if symbol == " " else symbol for symbol in tokens.symbols]


def _most_added(hot: Automaton) -> float:
    """The most that hot words can add at once: an arc, after a word's bound."""
    if not hot.num_labels:
        return 0.0
    return 2 * max(0.0, float(hot.arc_scores.max())) + max(0.0, float(hot.fallback_scores.max()))
