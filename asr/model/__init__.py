"""The network: waveforms or frames in, log-probabilities [step, token] out; and its folder.

Which module for which question:

    features  what does the encoder see?
    encoder   how do convolutions and recurrent layers turn it into log-probabilities?
    recurrence  how do GRU and plain RNN train on a CPU?
    ctc       what is the loss?
    network   how do features and encoder stand together, as trained and stored?
    quantization  how are weights stored in 8 bits?
    stream    how does a network with one direction run as audio arrives?
    inference what can a network at work do, torch's or ONNX's, and which has a folder? (no torch)
    arrival   which networks can hear audio as it arrives? (no torch)
    onnx      how does an exported network run? (no torch)
    operators what may an exported graph consist of? (no torch)
    folder    what is in a model folder, and which models come with the package? (no torch)
    export/   how does a network become an ONNX graph?
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
