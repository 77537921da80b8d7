"""Recipes: a folder with `recipe.py` in, its stages run in order, a scored model out.

Which module for which question:

    catalogue    which recipes are there?
    definition   what does a recipe's folder say: stages, configurations?
    stage        what is a stage, and what is it given?
    standard     which stages do recipes share?
    ngrams       what is the language model of a recipe made from?
    rooms        in what recorded noise and rooms is it heard?
    adaptation   what if the model starts from another one?
    more_speech, held_out   what is learnt besides the recipe's own speech, and what must not be?
    run          in which order do stages run, and which do not?
    ledger       how is it known what is done?
    work_folder  who may write there, and what becomes of a killed run's leftovers?
    processes    what do several processes do together?
    fitting      which configuration fits a model to start from?
    suggestion   which configuration suits a corpus, and which model is started from?
    new, own_corpus   how does a recipe for recordings of one's own come about?
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
