"""Random numbers that the program itself needs, where most are drawn on the device of a step."""

from typing import Literal

from torch import Generator

Use = Literal["speed", "joining", "rooms", "silence", "decay"]
_USES: tuple[Use, ...] = ("speed", "joining", "rooms", "silence", "decay")


def on_host(generator: Generator, use: Use) -> Generator:
    """Where to draw numbers that the program itself needs; on a CPU from `generator`.

    Reading a number from a GPU would mean waiting for all that it has been given to do. There it
    is a generator whose seed follows from the one's and from the use.
    """
    if generator.device.type == "cpu":
        return generator
    place = 1 + _USES.index(use)
    return Generator().manual_seed(generator.initial_seed() + (place << 56))
