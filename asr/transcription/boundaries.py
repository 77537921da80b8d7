"""Where words begin and end in recordings whose words are known, to a hundredth of a second.

A CTC network says where a token is heard best, not how long it lasts: its words begin late and end
early. Here each token, in its context, and silence get a Gaussian of cepstra. They are estimated
from the recordings themselves: first from the tokens' places as the network gives them, then from
the most probable path through a chain of states, a few times. A chain is the tokens of some words
in order, with a silence around each word that may be left out.

Source:
    Segmental k-means (Juang and Rabiner 1990), as flat-start training of hidden Markov models does
    it, begun at the network's places and kept near them.

Dimension names: frame (of cepstra), coefficient, state.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.decoding import best_states

FRAMES_PER_SECOND = 100
_WINDOW_SECONDS = 0.02
_NUM_MEL_BINS, _NUM_CEPSTRA = 26, 13
_RANGE = 9.0  # nats below the loud frames, to which quieter ones are raised

_ROUNDS = 4
_STATES = 2  # of a token
_REACH = 40  # frames around its place, within which a token is looked for
_BLOCK_STATES = 40  # whose likelihoods are computed together, in the frames around them
_SILENCE_PENALTY = 2.0  # nats a frame, against taking weak consonants for silence
_PRIOR_FRAMES = (
    5.0  # of what is behind a Gaussian: of a token all frames, of one in context its own
)
_LEAST_VARIANCE = 0.05  # of that of all frames
_QUIET_SHARE = 0.2  # of the range of levels: quiet at first
_PAUSE_FRAMES = 8  # that are quiet, for a pause between words at first
_CHAIN_TOKENS = 200  # after which a chain ends with a word
_SILENCE = -1

Cepstra = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class SpokenToken:
    """A token where the network hears it."""

    token: int
    previous: int
    """The token before it in its word; -1 at the word's beginning."""
    place: float
    """Frames from the start of the recording."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """What is known of a recording."""

    cepstra: Cepstra
    """[frame, coefficient]"""
    levels: NDArray[np.float64]
    """[frame], mean logarithm of the energies."""
    words: Sequence[Sequence[SpokenToken]]
    """In order, none of them empty."""


def cepstra_of(
    blocks: Iterable[NDArray[np.float32]], sample_rate: int
) -> tuple[Cepstra, NDArray[np.float64]]:
    """Cepstra [frame, coefficient] and levels [frame] of a recording at 100 frames a second.

    Args:
        blocks: its samples, of which few are held; the first frame is centred on the first one.
    """
    import librosa

    logs = np.concatenate(list(_log_mel(blocks, sample_rate)), axis=1)
    levels = logs.mean(axis=0, dtype=np.float64)
    np.maximum(logs, np.percentile(levels, 98) - _RANGE, out=logs)
    cepstra = librosa.feature.mfcc(S=logs, n_mfcc=_NUM_CEPSTRA).T.astype(np.float64)
    cepstra -= cepstra.mean(axis=0)
    return cepstra, levels


def _log_mel(
    blocks: Iterable[NDArray[np.float32]], sample_rate: int
) -> Iterator[NDArray[np.float32]]:
    """Logarithms of mel energies [bin, frame], of as many frames as the blocks so far have."""
    import librosa

    window = round(_WINDOW_SECONDS * sample_rate)
    size, hop = 1 << (window - 1).bit_length(), sample_rate // FRAMES_PER_SECOND
    edge = np.zeros(size // 2, np.float32)
    held = edge
    for block in itertools.chain(blocks, [edge]):
        held = np.concatenate([held, block])
        count = (len(held) - size) // hop + 1
        if count <= 0:
            continue
        mel = librosa.feature.melspectrogram(
            y=held[: (count - 1) * hop + size],
            sr=sample_rate,
            n_fft=size,
            win_length=window,
            hop_length=hop,
            center=False,
            n_mels=_NUM_MEL_BINS,
            fmin=60,
        )
        yield np.log(mel + 1e-10)
        held = held[count * hop :]


def find_boundaries(recordings: Sequence[Recording]) -> list[NDArray[np.float64]]:
    """First frame and the one after the last of each token, [token, two], for each recording.

    Recordings help one another: what a token sounds like is learnt from all of them.
    """
    boundaries: list[list[NDArray[np.float64]]] = [[] for _ in recordings]
    chains = [chain for number, r in enumerate(recordings) for chain in _chains(number, r)]
    roomy = [chain for chain in chains if chain.has_room]
    paths = iter(_find_paths(roomy) if roomy else [])
    for chain in chains:
        bounds = _token_bounds(chain, next(paths)) if chain.has_room else _crowded_bounds(chain)
        boundaries[chain.recording].append(chain.start + bounds)
    return [np.concatenate(parts) if parts else np.zeros((0, 2)) for parts in boundaries]


def _find_paths(chains: "Sequence[_Chain]") -> "list[NDArray[np.int64]]":
    """The state of each frame of each chain."""
    gaussians = _Gaussians(chains)
    paths = [_first_path(chain) for chain in chains]
    for turn in range(_ROUNDS):
        gaussians.estimate(paths, by_state=turn > 0)
        paths = [
            best_states(gaussians.scores(place), chain.numbers < 0)
            for place, chain in enumerate(chains)
        ]
    return paths


@dataclass(frozen=True, kw_only=True, slots=True)
class _Chain:
    """Some words of a recording and the frames that they lie in.

    States are silence, the states of the first word's tokens, silence, those of the second's...
    """

    recording: int
    start: int
    cepstra: Cepstra
    levels: NDArray[np.float64]
    tokens: NDArray[np.int64]
    """[state]; -1 is silence."""
    previous: NDArray[np.int64]
    parts: NDArray[np.int64]
    """[state], which of its token's states it is."""
    places: NDArray[np.float64]
    """[state], frames from the chain's start."""
    numbers: NDArray[np.int64]
    """[state], counted tokens of the chain; -1 for silence."""

    @property
    def has_room(self) -> bool:
        """Whether there is a frame for each state of its tokens, as a path needs it."""
        return len(self.levels) >= int(np.count_nonzero(self.numbers >= 0))


def _chains(number: int, recording: Recording) -> Iterator[_Chain]:
    """A recording in chains, cut where there is most room between two words."""
    num_frames, words = len(recording.cepstra), recording.words
    first, start = 0, 0
    while first < len(words):
        last, end = _chain_end(words, first, num_frames)
        rows = [(_SILENCE, 0, 0, 0.0, -1)]
        count = 0
        for word in words[first:last]:
            for spoken in word:
                place = spoken.place - start
                rows += [
                    (spoken.token, spoken.previous, part, place, count) for part in range(_STATES)
                ]
                count += 1
            rows.append((_SILENCE, 0, 0, 0.0, -1))
        columns = [np.array(column) for column in zip(*rows, strict=True)]
        yield _Chain(
            recording=number,
            start=start,
            cepstra=recording.cepstra[start:end],
            levels=recording.levels[start:end],
            tokens=columns[0],
            previous=columns[1],
            parts=columns[2],
            places=np.clip(columns[3], 0, max(0, end - start - 1)),
            numbers=columns[4],
        )
        first, start = last, end


def _chain_end(
    words: Sequence[Sequence[SpokenToken]], first: int, num_frames: int
) -> tuple[int, int]:
    """The word after a chain's last, and the frame after its last."""
    ends, count = [], 0
    for place in range(first, len(words) - 1):
        count += len(words[place])
        if count > _CHAIN_TOKENS:
            gap = words[place + 1][0].place - words[place][-1].place
            ends.append((gap, place + 1))
        if count > 2 * _CHAIN_TOKENS:
            break
    if count <= 2 * _CHAIN_TOKENS or not ends:
        return len(words), num_frames
    last = max(ends)[1]
    return last, int(words[last - 1][-1].place + words[last][0].place + 1) // 2


def _first_path(chain: _Chain) -> NDArray[np.int64]:
    """The state of each frame: that of the nearest token, or silence in quiet pauses."""
    spoken = np.flatnonzero(chain.numbers >= 0)
    places, num_frames = chain.places[spoken], len(chain.levels)
    quiet = chain.levels < _share_of_range(chain.levels, _QUIET_SHARE)
    borders = np.rint((places[:-1] + places[1:]) / 2).astype(int)
    path = spoken[np.searchsorted(borders, np.arange(num_frames), side="right")]
    for place in np.flatnonzero(np.diff(spoken) > 1):
        before, after = int(places[place]), int(places[place + 1])
        pause = before + np.flatnonzero(quiet[before : after + 1])
        if len(pause) >= _PAUSE_FRAMES:
            path[before : pause[0]] = spoken[place]
            path[pause[0] : pause[-1] + 1] = spoken[place] + 1
            path[pause[-1] + 1 : after] = spoken[place + 1]
    loud = np.flatnonzero(~quiet)
    path[: min(loud[0], int(places[0]))] = 0
    path[max(loud[-1] + 1, int(places[-1]) + 1) :] = len(chain.numbers) - 1
    return path


def _share_of_range(levels: NDArray[np.float64], share: float) -> float:
    low, high = np.percentile(levels, [5, 95])
    return float(low + share * (high - low))


class _Gaussians:
    """Means and variances of cepstra by kind of state, each drawn towards a more general one."""

    def __init__(self, chains: Sequence[_Chain]):
        """Begin with what all frames of the chains have in common."""
        self._chains = chains
        cepstra = np.concatenate([chain.cepstra for chain in chains])
        self._general = _Moments(cepstra.mean(axis=0)[None], cepstra.var(axis=0)[None] + 1e-12)
        self._kinds: list[NDArray[np.int64]] = []
        self._moments = self._general

    def estimate(self, paths: Sequence[NDArray[np.int64]], *, by_state: bool) -> None:
        """From the frames of each kind on the paths.

        Args:
            by_state: whether the states of a token differ.
        """
        kinds, self._kinds = _kinds_of(self._chains, by_state=by_state)
        sums = _Sums.zeros(len(kinds), self._general.means.shape[1])
        for chain, numbers, path in zip(self._chains, self._kinds, paths, strict=True):
            order = np.argsort(path, kind="stable")
            states, firsts = np.unique(path[order], return_index=True)
            frames = chain.cepstra[order]
            sums.add(
                numbers[states],
                np.diff(firsts, append=len(order)),
                np.add.reduceat(frames, firsts),
                np.add.reduceat(np.square(frames), firsts),
            )
        tokens, token_of = np.unique(kinds[:, 0], return_inverse=True)
        of_tokens = _Sums.zeros(len(tokens), self._general.means.shape[1])
        of_tokens.add(token_of, sums.counts, sums.totals, sums.squares)
        general = of_tokens.moments(self._general, self._general).of(token_of)
        moments = sums.moments(general, self._general)
        is_silence = kinds[:, :1] == _SILENCE  # which has no context
        self._moments = _Moments(
            np.where(is_silence, general.means, moments.means),
            np.where(is_silence, general.variances, moments.variances),
        )

    def scores(self, place: int) -> Cepstra:
        """Log-likelihoods [frame, state] of a chain; minus infinity far from a token's place."""
        chain, kinds = self._chains[place], self._kinds[place]
        silent = chain.numbers < 0
        scores = np.full((len(chain.cepstra), len(silent)), -np.inf)
        silence = self._moments.of(kinds[silent][:1]).likelihoods(chain.cepstra)
        scores[:, silent] = silence - _SILENCE_PENALTY
        spoken = np.flatnonzero(~silent)
        for first in range(0, len(spoken), _BLOCK_STATES):
            states = spoken[first : first + _BLOCK_STATES]
            places = chain.places[states]
            begin = max(0, math.ceil(places.min() - _REACH))
            end = min(len(scores), math.floor(places.max() + _REACH) + 1)
            near = np.abs(np.arange(begin, end)[:, None] - places) <= _REACH
            values = self._moments.of(kinds[states]).likelihoods(chain.cepstra[begin:end])
            scores[begin:end, states] = np.where(near, values, -np.inf)
        return scores


def _kinds_of(
    chains: Sequence[_Chain], *, by_state: bool
) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """Token, previous token and part of each kind [kind, three], and kinds of states by chain."""
    columns = [
        np.concatenate([getattr(chain, name) for chain in chains])
        for name in ("tokens", "previous", "parts")
    ]
    rows = np.stack([*columns[:2], columns[2] * by_state], axis=1)
    kinds, numbers = np.unique(rows, axis=0, return_inverse=True)
    ends = np.cumsum([len(chain.tokens) for chain in chains])
    return kinds, np.split(numbers.reshape(-1), ends[:-1])


@dataclass(frozen=True, slots=True)
class _Moments:
    """Means and variances of Gaussians, [kind, coefficient]."""

    means: Cepstra
    variances: Cepstra

    def of(self, kinds: NDArray[np.int64]) -> "_Moments":
        return _Moments(self.means[kinds], self.variances[kinds])

    def likelihoods(self, cepstra: Cepstra) -> Cepstra:
        """Logarithms, [frame, kind]."""
        precisions = 1 / self.variances
        constants = (np.square(self.means) * precisions - np.log(precisions)).sum(axis=1)
        likelihoods: Cepstra = -0.5 * (
            np.square(cepstra) @ precisions.T
            - 2 * cepstra @ (self.means * precisions).T
            + constants
        )
        return likelihoods


@dataclass(frozen=True, slots=True)
class _Sums:
    """Of frames by kind."""

    counts: NDArray[np.float64]
    totals: Cepstra
    squares: Cepstra

    @classmethod
    def zeros(cls, num_kinds: int, num_coefficients: int) -> "_Sums":
        shape = num_kinds, num_coefficients
        return cls(np.zeros((num_kinds, 1)), np.zeros(shape), np.zeros(shape))

    def add(
        self, kinds: NDArray[np.int64], counts: NDArray[Any], totals: Cepstra, squares: Cepstra
    ) -> None:
        """Further frames; a kind may come several times."""
        np.add.at(self.counts, kinds, counts.reshape(-1, 1))
        np.add.at(self.totals, kinds, totals)
        np.add.at(self.squares, kinds, squares)

    def moments(self, prior: _Moments, general: _Moments) -> _Moments:
        """Of the frames and some of the prior's; no variance far below the general one."""
        weights = self.counts + _PRIOR_FRAMES
        second = self.squares + _PRIOR_FRAMES * (prior.variances + np.square(prior.means))
        means = (self.totals + _PRIOR_FRAMES * prior.means) / weights
        least = _LEAST_VARIANCE * general.variances
        return _Moments(means, np.maximum(second / weights - np.square(means), least))


def _crowded_bounds(chain: _Chain) -> NDArray[np.float64]:
    """A frame of each token, where the network hears it, [token, two]; tokens share frames."""
    places = chain.places[chain.numbers >= 0][::_STATES]
    starts = np.maximum.accumulate(np.floor(places))
    return np.stack([starts, starts + 1], axis=1)


def _token_bounds(chain: _Chain, path: NDArray[np.int64]) -> NDArray[np.float64]:
    """First frame of each token and the one after its last, [token, two]."""
    numbers = chain.numbers[path]
    tokens = np.arange(int(chain.numbers.max()) + 1)
    spoken = np.flatnonzero(numbers >= 0)
    starts = spoken[np.searchsorted(numbers[spoken], tokens, side="left")]
    ends = spoken[np.searchsorted(numbers[spoken], tokens, side="right") - 1] + 1
    return np.stack([starts, ends], axis=1).astype(float)
