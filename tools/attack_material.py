"""What `tools/attack.py` damages, a model, its export, data of all kinds, and their readers."""

import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

RATE = 8000
TEXTS = ("one two", "two one one", "three two", "one three two")


def make_model(folder: Path) -> None:
    """A model folder of random weights with all that may stand in one."""
    import torch

    from asr.config import Config, DecodingConfig, NeuralLmConfig, TokenConfig
    from asr.decoding.options import write_decoding
    from asr.lm.kneser_ney import estimate
    from asr.lm.neural import NeuralLm, save_neural_lm
    from asr.lm.ngram import build_model, save_model
    from asr.model.folder import WEIGHTS, write_model
    from asr.model.network import Network, write_weights
    from asr.text.tokens import build_tokens

    features = {"sample_rate": RATE, "num_mel_bins": 20, "frame_shift_ms": 20}
    encoder = {"hidden_size": 8, "num_layers": 1, "conv_channels": 8, "subsampling": 4}
    config = Config.model_validate({"features": features, "encoder": encoder})
    tokens = build_tokens(TEXTS, TokenConfig())
    torch.manual_seed(3)
    network = Network(config, len(tokens))
    write_model(folder, config, tokens, {"seed": 3})
    write_weights(network.state_dict(), folder / WEIGHTS)
    sentences = [text.split() for text in TEXTS] * 5
    model = build_model(estimate(sentences, order=3).arpa)
    with tempfile.TemporaryDirectory() as scratch:
        save_model(model, Path(scratch, "lm"))
        words = ("<unk>", "<s>", "</s>", "one", "three", "two")
        save_neural_lm(NeuralLm(words, NeuralLmConfig(hidden_size=4)), Path(scratch, "neural"))
        lexicon = Path(scratch, "lexicon.txt")
        lexicon.write_text("one o n e\ntwo t w o\nthree t h r e e\n")
        write_decoding(
            folder,
            DecodingConfig(beam=8, nbest=2, neural_share=0.5),
            lm=Path(scratch, "lm"),
            lexicon=lexicon,
            neural_lm=Path(scratch, "neural"),
        )


def make_exported(folder: Path, model: Path) -> None:
    """What `asr export` makes of the model."""
    from asr.model.export import export_model

    export_model(model, folder)


def make_data(folder: Path) -> None:
    """A file of every kind that is read as data."""
    import tarfile

    import numpy as np
    import soundfile

    from asr.corpus import Utterance
    from asr.corpus.formats import catalogue
    from asr.corpus.manifest import write_manifest
    from asr.lm.arpa import write_arpa
    from asr.lm.kneser_ney import estimate

    folder.mkdir(parents=True)
    samples = 0.1 * np.random.default_rng(0).standard_normal(RATE).astype("f4")
    for name, kind in (("a.wav", "WAV"), ("b.flac", "FLAC"), ("b.ogg", "OGG"), ("b.mp3", "MP3")):
        soundfile.write(folder / name, samples, RATE, format=kind)
    utterances = [
        Utterance(
            id=f"u{n}",
            audio_filepath=folder / "a.wav",
            duration=0.2,
            offset=0.2 * n,
            text=text,
            speaker=f"s{n % 2}",
        )
        for n, text in enumerate(TEXTS)
    ]
    write_manifest(utterances, folder / "a.jsonl")
    write_manifest(utterances, folder / "a.jsonl.gz")
    for name, target in (
        *(("stm", "a.stm"), ("lhotse-cuts", "cuts.jsonl"), ("speechbrain", "a.csv")),
        *(("coqui", "coqui.csv"), ("textgrid", "."), ("elan", ".")),
    ):
        rows = utterances[:1] if name == "coqui" else utterances  # a file is one utterance there
        catalogue.FORMATS[name].write(iter(rows), folder / target, lambda _: None)
    (folder / "a.trn").write_text("".join(f"{u.text} ({u.id})\n" for u in utterances))
    (folder / "alt.trn").write_text("{ one / {two / @} } three (u1)\n" * 1)
    (folder / "a.ctm").write_text("a 1 0.0 0.1 one\na 1 0.1 0.1 two\n")
    (folder / "text").write_text("".join(f"{u.id} {u.text}\n" for u in utterances))
    (folder / "a.jsgf").write_text("#JSGF V1.0; grammar g; public <s> = one [two] | (three)+;\n")
    (folder / "hot.txt").write_text("one 2\ntwo three 3\n")
    (folder / "lexicon.txt").write_text("one o n e\ntwo t w o\n")
    write_arpa(estimate([t.split() for t in TEXTS] * 5, order=3).arpa, folder / "a.arpa")
    write_arpa(estimate([t.split() for t in TEXTS] * 5, order=2).arpa, folder / "a.arpa.gz")
    (folder / "a.mfc").write_bytes(struct.pack(">i26f", 26, *range(26)))
    matrix = b"\0BFM " + struct.pack("<bIbI", 4, 2, 4, 3) + struct.pack("<6f", *range(6))
    (folder / "a.ark").write_bytes(b"u1 " + matrix)
    with tarfile.open(folder / "a.tar", "w") as tar:
        for suffix in (".flac", ".json"):
            row = folder / f"u1{suffix}"
            row.write_bytes(
                (folder / "b.flac").read_bytes() if suffix == ".flac" else b'{"text": "one"}'
            )
            tar.add(row, row.name)
            row.unlink()
    with tarfile.open(folder / "a.tar.gz", "w:gz") as tar:
        tar.add(folder / "a.trn", "a.trn")
    (folder / "conf.yaml").write_text("encoder: {hidden_size: 8}\nlm: {order: 3}\n")


def use_model(folder: Path) -> None:
    """All of a model folder."""
    from asr.decoding import DecodingOptions, read_decoder
    from asr.model import open_network, read_model

    model = read_model(folder)
    network = open_network(folder, model, "cpu", 1)
    decoder = read_decoder(folder, model.tokens, DecodingOptions())
    (log_probs,) = network.log_probs([_noise()])
    decoder.decode(log_probs)
    decoder.decode(_scores(len(model.tokens)))


def use_part(name: str, intact: Path) -> Callable[[Path], Any]:
    """What reads one file of a model folder, with all else from an intact one."""
    from asr.config import DecodingConfig
    from asr.decoding.decoder import make_decoder
    from asr.decoding.lexicon import read_lexicon
    from asr.lm import load_neural_lm
    from asr.lm.ngram import load_model
    from asr.model import open_network, read_model

    model = read_model(intact)
    if name in ("weights.safetensors", "model.onnx"):
        noise = _noise()
        return lambda folder: open_network(folder, model, "cpu", 1).log_probs([noise])
    if name.startswith("neural_lm/"):
        return lambda folder: load_neural_lm(folder / "neural_lm").sentence_log_probs([TEXTS])
    if not name.startswith("lm/"):
        return use_model
    lexicon = read_lexicon(intact / "lexicon.txt", model.tokens)
    scores = _scores(len(model.tokens))

    def search(folder: Path) -> None:
        make_decoder(
            model.tokens,
            DecodingConfig(beam=8, nbest=2),
            language_model=load_model(folder / "lm"),
            lexicon=lexicon,
        ).decode(scores)

    return search


def _noise() -> Any:
    import numpy as np

    return 0.1 * np.random.default_rng(1).standard_normal(RATE).astype("f4")


def _scores(num_tokens: int) -> Any:
    """Of another source than a network, so that the search goes far into its tables."""
    import numpy as np

    draws = np.random.default_rng(2).gumbel(size=(40, num_tokens))
    return (draws - np.log(np.exp(draws).sum(1, keepdims=True))).astype("f4")


def data_readers() -> dict[str, Callable[[Path], Any]]:
    """What reads each file of `make_data`."""
    from asr.audio import read_audio
    from asr.config_files import load_conf
    from asr.corpus import download, read_manifest
    from asr.corpus.formats import catalogue
    from asr.corpus.members import decode, read_shards
    from asr.corpus.stored_features import read_features
    from asr.decoding.grammar import read_grammar
    from asr.decoding.hotwords import read_hot_words
    from asr.decoding.lexicon import read_lexicon
    from asr.lm import read_language_model
    from asr.scoring.transcripts import read_transcripts
    from asr.text import TokenTable

    tokens = TokenTable(("<blank>", *"ehnortw"))

    def audio(path: Path) -> Any:
        return read_audio(path, sample_rate=RATE)

    def imported(name: str) -> Callable[[Path], Any]:
        return lambda path: list(catalogue.FORMATS[name].read(path, lambda _: None))

    def transcripts(path: Path) -> Any:
        for role in ("reference", "hypothesis"):
            if role == "hypothesis" or path.suffix != ".ctm":
                read_transcripts(path, role)  # type: ignore[arg-type]

    def shard(path: Path) -> Any:
        return [decode(u.audio, u.utterance.id, RATE) for u in read_shards([str(path)])]

    return {
        **dict.fromkeys(("a.wav", "b.flac", "b.ogg", "b.mp3"), audio),
        "a.jsonl": read_manifest,
        "a.jsonl.gz": read_manifest,
        "a.stm": imported("stm"),
        "cuts.jsonl": imported("lhotse-cuts"),
        "a.csv": imported("speechbrain"),
        "coqui.csv": imported("coqui"),
        "a.TextGrid": imported("textgrid"),
        "a.eaf": imported("elan"),
        "a.trn": transcripts,
        "alt.trn": lambda path: read_transcripts(path, "reference"),
        "a.ctm": lambda path: read_transcripts(path, "hypothesis"),
        "text": transcripts,
        "a.jsgf": read_grammar,
        "hot.txt": read_hot_words,
        "lexicon.txt": lambda path: read_lexicon(path, tokens),
        "a.arpa": read_language_model,
        "a.arpa.gz": read_language_model,
        "a.mfc": read_features,
        "a.ark": lambda path: read_features(Path(f"{path}:3")),
        "a.tar": shard,
        "a.tar.gz": lambda path: download.extract(path, path.parent / "unpacked"),
        "conf.yaml": load_conf,
    }
