"""Word error rates: reference and hypothesis texts in; counts, intervals and reports out.

Which module for which question:

    transcripts  how are files of transcripts read and joined by utterance id?
    errors       how are errors counted?
    statistics   how sure is a rate?
    comparison   is one system better than another?
    calibration  what is a confidence worth?
    breakdown    by which speakers, words and places do errors come?
    report, detail, page   how is a score shown: lines and JSON, files beside it, HTML?
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
