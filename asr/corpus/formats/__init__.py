"""Other programs' corpora: folders and tables in, manifests out, and back.

Which module for which question:

    catalogue  which formats are there, how are they told apart, and what can each not hold?
    folders    audio with transcripts beside it, LibriSpeech's and Hugging Face's layouts
    tables     SpeechBrain's, Coqui's, LJSpeech's and Common Voice's tables
    kaldi, lhotse, nemo   the folders and manifests of these
    marks      what do all marked recordings share; Audacity's labels and NIST's stm
    textgrid, elan        Praat's and ELAN's files
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
