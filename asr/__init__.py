"""Train, use and evaluate speech recognizers of your own: recurrent encoders with CTC."""

import importlib
import importlib.metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asr.transcription import Recognizer, Transcript, Word

__version__: str
__all__ = ["Recognizer", "Transcript", "Word"]


def __getattr__(name: str) -> object:
    # Torch takes seconds to import: it is loaded when the first recognizer is asked for.
    if name in __all__:
        return getattr(importlib.import_module("asr.transcription"), name)
    if name == "__version__":
        return importlib.metadata.version("asr")
    raise AttributeError(f"module 'asr' has no attribute {name!r}")
