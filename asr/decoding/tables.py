"""What the beam search takes, holds and gives: tables of flat records, for compiled code.

Dimensions: step, token.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.decoding.automaton import Automaton

NO_WORD, UNKNOWN_WORD = -1, -2
"""In place of a word's number: no word ends here; one that is in no list does."""

ROOT, OUTSIDE = 0, 1
"""Nodes of a trie: between words; in a word that is in no list."""

NODE = np.dtype(
    [
        *((name, np.int32) for name in ("parent", "token", "word", "first_child", "sibling")),
        *((name, np.int32) for name in ("slot", "trie", "word_state", "token_state", "hot_state")),
        *((name, np.int32) for name in ("ended", "end_state")),
        *((name, np.float64) for name in ("score", "rank_score", "end_score")),
    ],
    align=True,
)  # of the tree of prefixes; slot: where it is in the beam, or -1; rank_score: with look-ahead;
# end_score, end_state: what the end of the word `ended` would give
SLOT = np.dtype(
    [
        *((name, np.int32) for name in ("node", "time")),
        *((name, np.float64) for name in ("blank", "token", "log")),
    ],
    align=True,
)  # of the beam; blank, token: summed probability of the paths that end in a blank, in the token;
# log: of the sum of both
TIME = np.dtype([("step", np.int32), ("previous", np.int32)], align=True)
CANDIDATE = np.dtype(
    [
        ("rank", np.float64),
        ("existing", np.int32),
        ("begins", np.int32),
        ("time", np.int32),
        *((name, np.float64) for name in ("blank", "last", "log")),
        *((name, NODE[name]) for name in NODE.names or ()),
    ],
    align=True,
)


class Trie(NamedTuple):
    """The words that may be spelled, as flat read-only arrays."""

    first_arcs: NDArray[np.int64]
    """[node + 1]"""
    arc_keys: NDArray[np.int64]
    """[arc] node * number of tokens + token; sorted."""
    arc_nodes: NDArray[np.int32]
    """[arc] where it leads."""
    first_words: NDArray[np.int64]
    """[node + 1] where the words that end in a node begin in `words`."""
    words: NDArray[np.int32]
    labels: NDArray[np.int32]
    """[word] its id in the language model."""
    potentials: NDArray[np.float64]
    """[node] look-ahead: the most that a word there can add at its end, in nats."""


class Options(NamedTuple):
    """What the search takes besides scores and models; scores in nats."""

    beam: int
    num_best: int
    """Most hypotheses to give back."""
    beam_threshold: float
    token_threshold: float
    blank_log_prob: float
    """A step whose blank is as probable as this, or more, is taken for a blank."""
    is_open: bool
    """Words that are not in the trie are allowed."""
    ends_at_once: bool
    """A word ends with its last token; otherwise a space or the next word's first token ends it."""
    space: int
    """The token that stands between words, or -1."""
    begins_word: NDArray[np.bool_]
    """[token] for tokens that mark a word's beginning."""
    token_labels: NDArray[np.int32]
    """[token] ids in the token model."""
    end_label: int
    """Of the token model, for the end of the sentence."""
    word_scale: float
    """On scores of the word model."""
    token_scale: float
    """On scores of the token model."""
    word_bonus: float
    unknown_score: float
    """Added for each word that is not in the trie, where there is a model of words."""
    boundary_label: int
    """Of the hot words: a word's bound; the next label is the end."""
    best_hot: float
    """The most that a token adds by hot words."""


class Models(NamedTuple):
    """What scores prefixes besides the network; one without labels adds nothing."""

    words: Automaton
    tokens: Automaton
    hot: Automaton
    """Labels are tokens, then a word's bound, then the end of the sentence."""


class Plan(NamedTuple):
    """All that a search is told, whatever the utterance."""

    options: Options
    trie: Trie
    models: Models


class Scores(NamedTuple):
    """Of an utterance, [step, token], or of one step, [token]."""

    log_probs: NDArray[np.float32]
    probs: NDArray[np.float32]
    """Their exponentials."""


class Workspace(NamedTuple):
    """Room for one step of a search."""

    slots: NDArray[np.void]
    """[beam] `SLOT`: the prefixes kept."""
    candidates: NDArray[np.void]
    """[beam] `CANDIDATE`: those that may be kept next."""
    scratch: NDArray[np.void]
    """[1] `CANDIDATE`: one that is not admitted yet."""
    heap: NDArray[np.int32]
    """[beam] numbers of candidates, the least rank first."""
    active: NDArray[np.int64]
    """[token] tokens that are tried, the most probable first."""


class Tree(NamedTuple):
    """Every prefix that has been kept, and every step at which one of their tokens began."""

    nodes: NDArray[np.void]
    """`NODE`"""
    times: NDArray[np.void]
    """`TIME`"""


class Extension(NamedTuple):
    """A prefix and what makes it one token longer."""

    prefix: int
    """Number of the node."""
    token: int
    word: int
    """That ends with it, or `NO_WORD`."""
    trie_node: int
    """After the token."""


class HypothesisTable(NamedTuple):
    """Hypotheses, best first; positions after a hypothesis' length are undefined."""

    scores: NDArray[np.float64]
    """[hypothesis] in nats, language model and all."""
    log_probs: NDArray[np.float64]
    """[hypothesis] of the acoustic model alone."""
    lengths: NDArray[np.int32]
    tokens: NDArray[np.int32]
    """[hypothesis, position]"""
    steps: NDArray[np.int32]
    """[hypothesis, position] where the token begins."""
    words: NDArray[np.int32]
    """[hypothesis, position] the word that ends with or, if a mark ends words, before the token."""
    last_words: NDArray[np.int32]
    """[hypothesis] the word that ends with the sentence."""
