"""From audio to words with a trained model: files, pipes or live audio in, transcripts out.

Which module for which question:

    recognizer   what does a Python program call?
    sources      what do arguments mean, and how is their audio opened?
    pipeline     how do many sources go through the network, and in which states?
    passage, reading, pieces   how is audio read ahead and cut, and how is the output stitched?
    transcript   how do hypotheses become words with times and confidence?
    live         what if the audio is still arriving?
    rereading    what if it is, and the network needs whole utterances?
    aligner, spelling, anchors, boundaries   where are the words of a known text said?
    segmenter, subtitles   which utterances are in a long recording with a text nearly its own?
    heard, matching, pauses, utterances   how is it kept, matched with the text, and cut?
    spotting, keyword_tuning   where are keywords said, and which hits count?
    job          what of many inputs is left to do, what fails, what stops all?
    results, output, captions   where do results go, in which formats?
    cluster      what if many machines share the work?
    evaluation, fit      how good is a model, does a corpus fit it?
    noisy        how good is it in noise?
    tuning, dev_set, calibration   which decoding suits it, what do its confidences mean?
    picking      which speech is most worth being reviewed?
    labelling, teachers   what do a model or a giant hear in speech to be learnt from?
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
