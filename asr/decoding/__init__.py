"""From log-probabilities [step, token] to hypotheses; no torch.

Which module for which question:

    hypothesis  what comes out, and what is the best path?
    decoder     which search runs, with which helps?
    options     what do a model folder and a caller say of that?
    beam, prefixes, endings  how does the compiled prefix search work?
    tables, automaton        on which tables?
    lexicon, grammar, hotwords   which words may, must or should be heard?
    rescoring   how does a neural language model rank readings anew?
    spotting    where was a keyword said, and how probable is that?
    compilation, borrowing   where is compiled code kept, and how does it hold arrays?
    first_use   how is it compiled ahead?
    confidence  how sure is a word?
    alignment, viterbi   where does each token of a known text lie, and how many steps does it need?
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
