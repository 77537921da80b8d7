"""An exported network at work in ONNX Runtime; no torch.

Dimension names: batch, sample, frame, bin, step, token.
"""

import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from asr.batches import padded
from asr.config import Config
from asr.errors import DataError, ModelError, WholeUtterancesError
from asr.files import read_file
from asr.model.arrival import check_arrival, least_samples, lookahead
from asr.model.operators import check_operators

MODEL = "model.onnx"
"""Log-probabilities from samples [batch, sample], or from features [batch, frame, bin]."""
FRONTEND = "frontend.onnx"
"""Features from samples, beside a model that takes features."""
STEP = "step.onnx"
"""The next log-probabilities, of the next samples and what earlier ones left."""

_MAX_BYTES = 2**31  # of a graph; protobuf has no longer messages
_MOST_ROWS = 8  # more are hardly faster
_MOST_PADDED = 1.25  # longest row by shortest; what is more costs more than it saves

_Array = NDArray[np.float32]
_Arrays = list[_Array]
_MOST_VALUES = 2**24  # of a state


class InputKind(Enum):
    """What an utterance is given as, by its number of dimensions."""

    SAMPLES = 1
    FRAMES = 2


class OnnxNetwork:
    """A network of an exported model folder: arrays in, arrays out."""

    def __init__(self, folder: Path, config: Config, num_tokens: int, threads: int | None = None):
        """Load it.

        Args:
            config: of the model.
            threads: parts of a batch are divided among so many; none means one a processor.

        Raises:
            ModelError: a file is missing, damaged or of other tokens; ONNX Runtime is missing.
        """
        self.threads = threads or len(os.sched_getaffinity(0))
        self._model = _session(folder / MODEL)
        # The first dimension is the batch.
        rank = len(self._model.get_inputs()[0].shape) - 1
        if rank not in (kind.value for kind in InputKind):
            raise ModelError(f"{folder / MODEL}: takes neither samples nor frames")
        self._takes = InputKind(rank)
        has_frontend = self._takes is InputKind.FRAMES
        self._frontend = _session(folder / FRONTEND) if has_frontend else None
        self._folder, self._config = folder, config
        self._num_tokens = num_tokens
        self._step: StepGraph | None = None
        width = self._model.get_outputs()[0].shape[-1]
        if width != num_tokens:
            raise ModelError(
                f"{folder / MODEL}: {width} tokens, but the token table has {num_tokens}"
            )

    def log_probs(
        self,
        inputs: Sequence[NDArray[np.float32]],
        statistics: NDArray[np.float32] | None = None,
    ) -> _Arrays:
        """Log-probabilities [step, token] of each input: samples at the model's rate, or frames.

        Raises:
            DataError: frames for a model that was exported to take samples.
            ModelError: statistics of speakers, which an exported model has no use for.
        """
        if statistics is not None:
            raise ModelError("an exported model does not normalize by speaker")
        given = InputKind(inputs[0].ndim)
        if given is InputKind.FRAMES and self._takes is InputKind.SAMPLES:
            raise DataError(
                f"{MODEL}: takes audio only; export the model with --input features for stored "
                "features"
            )
        parts = _of_like_length([len(values) for values in inputs])
        results: _Arrays = [np.zeros((0, 0), np.float32)] * len(inputs)
        with ThreadPoolExecutor(max_workers=self.threads) as pool:
            outputs = pool.map(lambda rows: self._run([inputs[row] for row in rows]), parts)
            for rows, part in zip(parts, outputs, strict=True):
                for row, values in zip(rows, part, strict=True):
                    results[row] = values
        return results

    def stream(self) -> "OnnxStream":
        """For an utterance that arrives in pieces.

        Raises:
            WholeUtterancesError: the network needs them, or its file for pieces is missing.
            ModelError: that file is damaged.
        """
        check_arrival(self._config.features, self._config.encoder)
        if self._step is None:
            path = self._folder / STEP
            if not path.exists():
                raise WholeUtterancesError(
                    f"{path}: is missing, as in folders of an older version; export the model "
                    "again for live transcription"
                )
            self._step = StepGraph(path, self._num_tokens)
        return OnnxStream(self._step, self._config)

    def moments(self, inputs: Sequence[NDArray[np.float32]]) -> NoReturn:
        """Refuse to.

        Raises:
            ModelError: always; an exported network keeps its features to itself.
        """
        del inputs
        raise ModelError("an exported model does not normalize by speaker")

    def _run(self, inputs: Sequence[NDArray[np.float32]]) -> _Arrays:
        values, lengths = padded(inputs)
        if InputKind(inputs[0].ndim) is InputKind.SAMPLES and self._frontend is not None:
            values, lengths = _call(self._frontend, values, lengths)
        log_probs, num_steps = _call(self._model, values, lengths)
        return [row[:steps] for row, steps in zip(log_probs, num_steps.tolist(), strict=True)]


class StepGraph:
    """A network that is given a portion of samples and what those before have left."""

    def __init__(self, path: Path, num_tokens: int):
        """Load it.

        Raises:
            ModelError: it is damaged, of other tokens, or does not return what it is to be given.
        """
        self._session = _session(path, of_portions=True)
        self.num_tokens = num_tokens
        taken = {value.name: value for value in self._session.get_inputs()[2:]}
        given = {value.name: value for value in self._session.get_outputs()[2:]}
        self.states = {name: _state_shape(path, value) for name, value in taken.items()}
        """Shape of each state before the first portion."""
        if {f"next_{name}" for name in taken} != set(given):
            raise ModelError(f"{path}: does not return the states that it takes")
        width = self._session.get_outputs()[0].shape[-1]
        if width != num_tokens:
            raise ModelError(f"{path}: {width} tokens, but the token table has {num_tokens}")

    def run(
        self, samples: _Array, states: Mapping[str, _Array], *, last: bool
    ) -> tuple[_Array, dict[str, _Array]]:
        """The next steps, [step, token], and the states after them.

        Raises:
            ModelError: it cannot be run, or gives values of other shapes.
        """
        inputs: dict[str, NDArray[Any]] = {"waveforms": samples[None], **states}
        inputs["last"] = np.array([last], np.int64)
        names = ["log_probs", "num_steps", *(f"next_{name}" for name in states)]
        log_probs, counts, *after = _run(self._session, names, inputs)
        following = dict(zip(states, after, strict=True))
        fits = log_probs.ndim == 3 and log_probs.shape[::2] == (1, self.num_tokens)
        for name, shape in self.states.items():
            value = following[name]
            pairs = zip(value.shape, shape, strict=False)
            fits &= value.ndim == 3 and value.size <= _MOST_VALUES
            fits &= all(size == wanted or not wanted for size, wanted in pairs)
        if not fits or counts.shape != (1,):
            raise ModelError(f"{STEP}: the exported network gives arrays of other shapes")
        return log_probs[0, : counts[0]], following


class OnnxStream:
    """Log-probabilities of one utterance that comes in pieces, as of the whole of it."""

    def __init__(self, graph: StepGraph, config: Config):
        self._graph, self._features = graph, config.features
        self._subsampling = config.encoder.subsampling
        self._lookahead = lookahead(config.features)
        self._shortest = least_samples(config.features)
        self._samples = np.zeros(0, np.float32)  # from the last frame that was given
        self._num_given = 0  # frames that `_samples` begins with and that were given: 0 or 1
        self._states = {name: np.zeros(size, np.float32) for name, size in graph.states.items()}

    def accept(self, samples: _Array, *, last: bool = False) -> _Array:
        """The next steps, [step, token]; perhaps none.

        Args:
            samples: [sample], at the model's rate, that follow those given before.
            last: nothing follows.
        """
        length, shift = self._features.frame_length, self._features.frame_shift
        held = np.concatenate([self._samples, samples])
        # Before the first step frames are needed that it looks ahead to.
        spare = self._num_given or self._lookahead
        num_frames = max(0, len(held) - length + shift) // shift - spare
        num_frames = max(0, num_frames) // self._subsampling * self._subsampling
        self._samples = held
        if num_frames == 0 and (not last or len(held) < self._shortest):
            return np.zeros((0, self._graph.num_tokens), np.float32)
        start = (num_frames + spare - 1) * shift
        used = held if last else held[: start + length]
        log_probs, self._states = self._graph.run(used, self._states, last=last)
        # The last frame stays: the next one's pre-emphasis needs the sample before it.
        self._samples, self._num_given = held[start:], 1
        return log_probs


def _state_shape(path: Path, value: Any) -> tuple[int, ...]:
    """Of a state that was declared so, an axis of any length being empty."""
    shape = tuple(size if isinstance(size, int) else 0 for size in value.shape)
    if value.type != "tensor(float)" or len(shape) != 3 or math.prod(shape) > _MOST_VALUES:
        raise ModelError(f"{path}: {value.name!r} is no state of a network")
    return shape


def _of_like_length(lengths: Sequence[int]) -> list[list[int]]:
    """Rows in parts, none of which is much padded; each is run at once."""
    parts: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if parts and len(parts[-1]) < _MOST_ROWS:
            shortest = lengths[parts[-1][0]]
            if lengths[row] <= _MOST_PADDED * shortest:
                parts[-1].append(row)
                continue
        parts.append([row])
    return parts


def _call(
    session: Any, values: NDArray[np.float32], lengths: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    first, second = (value.name for value in session.get_inputs())
    outputs, counts = _run(session, None, {first: values, second: lengths})
    if outputs.ndim != 3 or len(outputs) != len(values) or counts.shape != (len(values),):
        raise ModelError(f"the exported network gives arrays of shapes {outputs.shape}")
    return outputs, counts


def _run(session: Any, names: list[str] | None, inputs: Mapping[str, NDArray[Any]]) -> Any:
    try:
        return session.run(names, inputs)
    except Exception as error:  # ONNX Runtime's errors have no class of their own in common
        reason = str(error).splitlines()[0].strip()
        raise ModelError(f"the exported network cannot be run: {reason}") from error


def _check_interface(session: Any, of_portions: bool) -> None:
    """Values and lengths in, values and lengths out; after these, of portions, states."""
    for values in (session.get_inputs(), session.get_outputs()):
        kinds = [(value.type, len(value.shape)) for value in values]
        kinds = kinds[:2] if of_portions else kinds
        if len(kinds) != 2 or kinds[1] != ("tensor(int64)", 1) or kinds[0][0] != "tensor(float)":
            raise ModelError("takes or gives other values than an exported network does")
    if len(session.get_outputs()[0].shape) != 3:
        raise ModelError("gives no log-probabilities for each utterance and step")


def _session(path: Path, *, of_portions: bool = False) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError(
            "an exported model needs ONNX Runtime: pip install 'asr-recipes[export]'"
        ) from error
    options = onnxruntime.SessionOptions()
    # Threads take rows of a batch each, which scales better than sharing every operator.
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # what fails is an exception of ours
    try:
        # From memory, so that the file cannot name others to be read.
        content = read_file(path, _MAX_BYTES)
        check_operators(content)
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        _check_interface(session, of_portions)
        return session
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from error
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except Exception as error:  # ONNX Runtime's errors have no class of their own in common
        reason = str(error).splitlines()[0].strip()
        raise ModelError(f"{path}: the network cannot be read: {reason}") from error
