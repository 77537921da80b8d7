"""Words: texts in, token ids and normalized words out; and the lines that text files are made of.

Which module for which question:

    tokens       which units does a network write, and how does text become ids and ids text?
    normalizers  which normalizers are there by name?
    english      how is English written in one way before it is compared?
    alternates   what does `{ a / b / @ }` in a reference allow?
    nist         what do stm and ctm files say, and which words fall into which segment?
    lines        how is a text file that others wrote read, and how are its errors named?
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
