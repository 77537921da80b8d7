"""One network for many callers."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from asr.server.sharing import SharedNetwork

RATE = 100


class Network:
    """Says of samples what they are; waits where it is told to."""

    threads = 1

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()

    def log_probs(self, inputs: Sequence[np.ndarray], statistics: Any = None) -> list[np.ndarray]:
        assert statistics is None
        self.batches.append([len(values) for values in inputs])
        assert self.gate.wait(20)
        if any(values[0] < 0 for values in inputs):
            raise ValueError("negative")
        return [values[:, None] for values in inputs]


def values(seconds: float, value: float = 1.0) -> np.ndarray:
    return np.full(round(seconds * RATE), value, "f4")


def wait_for(condition: Any) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_what_waits_is_heard_together_and_each_gets_its_own() -> None:
    network = Network()
    counted: list[int] = []
    shared = SharedNetwork(network, RATE, counted.append)  # type: ignore[arg-type]
    with ThreadPoolExecutor(8) as users:
        first = users.submit(shared.log_probs, [values(1)])
        wait_for(lambda: network.batches)
        others = [users.submit(shared.log_probs, [values(n), values(n, 9)]) for n in range(2, 7)]
        wait_for(lambda: len(shared._waiting) == 10)
        network.gate.set()
        assert first.result()[0].tolist() == values(1)[:, None].tolist()
        for seconds, other in zip(range(2, 7), others, strict=True):
            ones, nines = other.result()
            assert (len(ones), ones.mean(), nines.mean()) == (seconds * RATE, 1.0, 9.0)
    assert network.batches[0] == [RATE]
    # Ten stretches of 40 s, 60 s at most in a batch with padding.
    assert len(network.batches) == 2
    assert sorted(network.batches[1]) == sorted(2 * [n * RATE for n in range(2, 7)])
    assert counted == [1, 10]
    shared.close()


def test_a_long_recording_holds_up_no_short_one() -> None:
    network = Network()
    shared = SharedNetwork(network, RATE)  # type: ignore[arg-type]
    with ThreadPoolExecutor(3) as users:
        first = users.submit(shared.log_probs, [values(1)])
        wait_for(lambda: network.batches)
        long = users.submit(shared.log_probs, [values(40) for _ in range(20)])
        wait_for(lambda: len(shared._waiting) == 20)
        short = users.submit(shared.log_probs, [values(1)])
        wait_for(lambda: len(shared._waiting) == 21)
        network.gate.set()
        for each in (first, long, short):
            each.result()
    place = next(i for i, batch in enumerate(network.batches) if i and RATE in batch)
    assert place < 3
    shared.close()


def test_an_error_is_that_of_the_callers_in_its_batch() -> None:
    network = Network()
    network.gate.set()
    shared = SharedNetwork(network, RATE)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="negative"):
        shared.log_probs([values(1, -1.0)])
    assert len(shared.log_probs([values(2)])[0]) == 2 * RATE
    shared.close()
    with pytest.raises(RuntimeError, match="closed"):
        shared.log_probs([values(1)])
