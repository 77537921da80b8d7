"""Models behind HTTP and websockets: requests in, what `asr transcribe` would say out.

Which module for which question:

    options         what may be set, and which limits hold?
    running         how does a server start, and how does it stop?
    app             which address answers what?
    models          which models are served, and under which names?
    sharing         how do requests of many users share one network?
    guard           who may ask, how much, and for how long?
    transcriptions  OpenAI's interface: what is asked for, and what is answered?
    sockets         how is live speech heard, in Vosk's protocol?
    site            what are the pages made of?
    review          how is speech handed out to be corrected?
    prompts         how are sentences handed out to be read aloud?
    journal         how is nothing lost that was decided?
    messages        what do the pages of both send?
    events          how is a text sent while it is still being heard?
    replies         how does a transcript look in it, and how does an error?
    counters        what does `/metrics` show?
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
