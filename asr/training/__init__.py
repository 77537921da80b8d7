"""Training with CTC: packed corpora and a configuration in, a model folder out.

Which module for which question:

    trainer     what is an epoch, when is the dev set scored, what is saved?
    task, schedule          what is prepared before the first step, and which steps are there?
    source, transfer, replay   what if it starts from another model?
    step        what changes in a step?
    loss        what is minimized?
    batch, inputs, augment  how do utterances become padded, augmented features?
    rooms, draws            what of noise and rooms that were recorded, and what is drawn where?
    memory, bad_steps       what if a batch does not fit, or a gradient is not a number?
    targets, feasibility    how are token ids held, and which utterances cannot be learnt?
    encoded     what of that is kept for the next start?
    dev_set     how good is the network on the dev set?
    optimizer   which optimizer, at which rate?
    processes   on which device, in how many processes, in which folders?
    precision   in which number format, and is it the faster one?
    checkpoints how does a stopped run go on exactly?
    sums, history, diagnosis, screen, page   what happened, what goes wrong, how is it shown?
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
