"""An exported network at work in ONNX Runtime; no torch."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from asr.batches import padded
from asr.errors import DataError, ModelError
from asr.files import read_file
from asr.model.operators import check_operators

MODEL = "model.onnx"
"""Log-probabilities from samples [batch, sample], or from features [batch, frame, bin]."""
FRONTEND = "frontend.onnx"
"""Features from samples, beside a model that takes features."""

_MAX_BYTES = 2**31  # of a graph; protobuf has no longer messages
_MOST_ROWS = 8  # more are hardly faster
_MOST_PADDED = 1.25  # longest row by shortest; what is more costs more than it saves

_Arrays = list[NDArray[np.float32]]


class InputKind(Enum):
    """What an utterance is given as, by its number of dimensions."""

    SAMPLES = 1
    FRAMES = 2


class OnnxNetwork:
    """A network of an exported model folder: arrays in, arrays out."""

    def __init__(self, folder: Path, num_tokens: int, threads: int | None = None):
        """Load it.

        Args:
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

    def stream(self) -> NoReturn:
        """Refuse to.

        Raises:
            ModelError: always; an exported network takes whole utterances.
        """
        raise ModelError("live transcription needs the trained model, not an exported one")

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
    try:
        outputs, counts = session.run(None, {first: values, second: lengths})
    except Exception as error:  # ONNX Runtime's errors have no class of their own in common
        reason = str(error).splitlines()[0].strip()
        raise ModelError(f"the exported network cannot be run: {reason}") from error
    if outputs.ndim != 3 or len(outputs) != len(values) or counts.shape != (len(values),):
        raise ModelError(f"the exported network gives arrays of shapes {outputs.shape}")
    return outputs, counts


def _check_interface(session: Any) -> None:
    """Values and lengths in, values and lengths out."""
    for values in (session.get_inputs(), session.get_outputs()):
        kinds = [(value.type, len(value.shape)) for value in values]
        if len(kinds) != 2 or kinds[1] != ("tensor(int64)", 1) or kinds[0][0] != "tensor(float)":
            raise ModelError("takes or gives other values than an exported network does")
    if len(session.get_outputs()[0].shape) != 3:
        raise ModelError("gives no log-probabilities for each utterance and step")


def _session(path: Path) -> Any:
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
        _check_interface(session)
        return session
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from error
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except Exception as error:  # ONNX Runtime's errors have no class of their own in common
        reason = str(error).splitlines()[0].strip()
        raise ModelError(f"{path}: the network cannot be read: {reason}") from error
