"""Sound: files, pipes and samples in; mono samples in [-1, 1] at the rate asked for out.

Which module for which question:

    files       what is in this sound file, and how is it decoded, block by block?
    containers  what if libsndfile does not read it, and FFmpeg has to?
    mp3         how long is an MP3 file really?
    stream      how does it become mono samples at the model's rate, whole or as it is read?
    pipes       what if it comes from a command or from stdin?
    sound       what are samples, and what is said of them: rate, channels, errors?
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
