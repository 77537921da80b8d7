"""Train, use and evaluate speech recognizers of your own: recurrent encoders with CTC."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asr.recognizer import Recognizer, Transcript, Word

__all__ = ["Recognizer", "Transcript", "Word"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    # Torch takes seconds to import: it is loaded when the first recognizer is asked for.
    if name in __all__:
        from asr import recognizer

        return getattr(recognizer, name)
    raise AttributeError(f"module 'asr' has no attribute {name!r}")
