"""Language models: sentences in; n-gram or neural models, and their scores of words, out.

Which module for which question:

    sentences   how is text cut into sentences and words or characters?
    kneser_ney  how are n-grams estimated?
    arpa        how are they written and read?
    ngram       how are they scored, as states and arcs?
    trie        how do their n-grams, histories and shorter forms hang together?
    pruning     which n-grams are hardly needed?
    mixing      how do several models become one, and by which weights?
    neural      what if a recurrent network predicts the next word? (imports torch)
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
