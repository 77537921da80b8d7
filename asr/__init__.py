"""Train, use and evaluate speech recognizers of your own: recurrent encoders with CTC."""

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asr.transcription import Recognizer, Transcript, Word

# Both are read when torch is imported, and every way to torch comes by here.
# Threads of OpenMP that wait at work for others keep other programs from the processor: a training
# beside a busy program took ten times as long.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
# oneDNN keeps what it prepares for each shape of a layer: of 1,024 shapes, unless it is told.
# Batches are seldom alike, and a training would grow by gigabytes.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")
# The search does not run as Python, and Numba itself cannot compile where this is set.
os.environ.pop("NUMBA_DISABLE_JIT", None)

__version__: str
__all__ = ["Recognizer", "Transcript", "Word"]


def __getattr__(name: str) -> object:
    # Torch takes seconds to import: it is loaded when the first recognizer is asked for.
    if name in __all__:
        return getattr(importlib.import_module("asr.transcription"), name)
    if name == "__version__":
        return importlib.import_module("asr.version").package_version()
    raise AttributeError(f"module 'asr' has no attribute {name!r}")
