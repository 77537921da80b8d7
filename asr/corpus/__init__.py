"""A corpus: recordings, transcripts and manifests in; packed utterances for training out.

Which module for which question:

    manifest            what is an utterance, and how is a manifest read and written?
    table               how are millions of its lines held?
    recordings          which audio files are there, how long are they, where do they lie?
    stored_features     how are features that other programs computed read?
    packed              how does training get at samples quickly?
    joined              how do two packed corpora become one?
    statistics          what are mean and deviation of features over many utterances?
    shards, members     how is a corpus in tar files written, and how read as it arrives?
    addresses           which shards may lie elsewhere than on a disk?
    streamed, windows   what if a corpus in shards is larger than the disk?
    split, summary      how is it divided, and what is in it?
    download            how does it get here?
    synthesis           what if voices are to speak it?
    voices              what speaks?  espeak_voices, neural_voices: which voices are there?
    voice_models        what is in a folder with neural voices?
    espeak, neural      the programs that speak
    noises, codecs      what are recorded noise and rooms, telephones and lossy formats?
    pronunciation       how are its words spoken, in phones?
    formats/            other programs' corpora, in and out
    checks/             what is wrong with it?
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
