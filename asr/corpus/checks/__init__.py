"""What is wrong with a corpus: manifests in, findings with their remedies out.

Which module for which question:

    examination  what is examined, in which order?
    findings     which kinds of findings are there, how bad is each, and what is to be done?
    sound, texts, overlap   when is audio, a transcript, or what manifests share a finding?
    measures, store, shards how is audio measured, and where are measures kept?
    report, page            how are findings shown?
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
