"""Recipes: a folder with `recipe.py` in, its stages run in order, a scored model out.

Which module for which question:

    stage      what is a stage, and what is it given?
    ledger     how is it known what is done?
    run        how is a recipe found, planned and run?
    standard   which stages do recipes share?
    new, own_corpus   how does a recipe for recordings of one's own come about?
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
