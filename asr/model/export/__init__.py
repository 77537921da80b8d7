"""Export: a trained network in; an ONNX graph that computes the same, or smaller weights, out.

Which module for which question:

    export    what is written of an ONNX model?
    copy      what is written of a model folder with smaller weights?
    web      how does it become a page that runs it in a browser?
    trial     how far is a written network from the trained one?
    graph     how is a graph built node by node?
    step      what of it hears audio as it arrives?
    features, encoder   which operators compute what `asr.model` computes with torch?
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
