"""One network for the requests of many users: what waits at the moment is heard in one batch."""

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from asr.batches import plan_batches
from asr.model import InferenceNetwork, inference

_Array = NDArray[np.float32]

_BATCH_SECONDS = 60.0


@dataclass(eq=False, slots=True)
class _Call:
    """Inputs of one caller, and what is known of them."""

    inputs: Sequence[_Array]
    turn: int
    """Number of the batch that last heard something of it, or before which it came."""
    outputs: dict[int, _Array] = field(default_factory=dict)
    done: Future[list[_Array]] = field(default_factory=Future)


class SharedNetwork:
    """An `InferenceNetwork` that many threads call at once.

    Their inputs go into common batches of similar length, in turns: a short recording does not wait
    until a long one is done. A batch's make-up changes the last bits of log-probabilities, as
    it does anywhere (less than 1e-5).
    """

    def __init__(
        self,
        network: InferenceNetwork,
        sample_rate: int,
        count_batch: Callable[[int], None] = lambda _: None,
    ):
        """Start to work.

        Args:
            sample_rate: Hz, of the inputs.
            count_batch: is told how many inputs a batch had.
        """
        self._network, self._rate, self._count_batch = network, sample_rate, count_batch
        self._waiting: deque[tuple[_Call, int]] = deque()
        self._change = threading.Condition()
        self._num_batches = 0
        self._is_open = True
        self._thread = threading.Thread(target=self._work, name="asr-network", daemon=True)
        self._thread.start()

    @property
    def threads(self) -> int:
        """Of the processor, that it uses."""
        return self._network.threads

    def log_probs(self, inputs: Sequence[_Array], statistics: _Array | None = None) -> list[_Array]:
        """As `InferenceNetwork.log_probs`; returns when a batch with the last input is done."""
        if statistics is not None or not len(inputs) or inputs[0].ndim != 1:
            return self._network.log_probs(inputs, statistics)
        with self._change:
            call = _Call(inputs, self._num_batches)
            if not self._is_open:
                raise RuntimeError("the network is closed")
            self._waiting += [(call, place) for place in range(len(inputs))]
            self._change.notify()
        return call.done.result()

    def stream(self) -> inference.LiveNetwork:
        """As `InferenceNetwork.stream`; a stream has a state of its own and shares no batch."""
        return self._network.stream()

    def moments(self, inputs: Sequence[_Array]) -> NDArray[np.float64]:
        """As `InferenceNetwork.moments`."""
        return self._network.moments(inputs)

    def close(self) -> None:
        """End when all that waits is done."""
        with self._change:
            self._is_open = False
            self._change.notify()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._next_batch():
            inputs = [call.inputs[place] for call, place in batch]
            try:
                results = self._network.log_probs(inputs)
            except Exception as error:
                for call, _ in batch:
                    if not call.done.done():
                        call.done.set_exception(error)
                continue
            self._count_batch(len(batch))
            for (call, place), log_probs in zip(batch, results, strict=True):
                call.outputs[place] = log_probs
                if len(call.outputs) == len(call.inputs) and not call.done.done():
                    call.done.set_result([call.outputs[row] for row in range(len(call.inputs))])

    def _next_batch(self) -> list[tuple[_Call, int]]:
        """What is next, and what goes well with it; none when the network is closed."""
        with self._change:
            while not self._waiting and self._is_open:
                self._change.wait()
            # Of a call that failed, nothing is needed any more.
            waiting = [(call, place) for call, place in self._waiting if not call.done.done()]
            if not waiting:
                self._waiting.clear()
                return self._next_batch() if self._is_open else []
            milliseconds = np.array(
                [math.ceil(1000 * len(call.inputs[place]) / self._rate) for call, place in waiting],
                np.int64,
            )
            batches = plan_batches(milliseconds, int(1000 * _BATCH_SECONDS))
            # Whose turn was longest ago: somebody with much to hear does not keep others waiting.
            first = min(range(len(waiting)), key=lambda row: waiting[row][0].turn)
            (rows,) = [set(batch.tolist()) for batch in batches if first in batch]
            self._num_batches += 1
            for row in rows:
                waiting[row][0].turn = self._num_batches
            self._waiting = deque(pair for row, pair in enumerate(waiting) if row not in rows)
            return [waiting[row] for row in sorted(rows)]
