"""Attacks the readers: files of every kind, damaged and replaced, opened and used until they break.

    python tools/attack.py [--cases 600] [--seed 1] [--only model] [--seconds 600]

A case is one file of a set that works, changed: bits and bytes, numbers at their limits, parts that
are missing or twice, words that are traps; or replaced: by a pipe, a device, a link out of its
folder, a folder, nothing, terabytes of nothing. Held is what ends within ten seconds, in a result
or in an error of one line, and takes less than 2 GB. Each case follows from the seed and its number
alone, and a process that dies is named with its case. Exit code 1 if anything broke.
"""

import argparse
import json
import os
import queue
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 10.0  # seconds for a case
START = 600.0  # seconds in which a process is ready: it compiles the search
MEMORY = 2_000_000  # KiB
RATE = 8000
TEXTS = ("one two", "two one one", "three two", "one three two")
TRAPS = (
    *(b"\0", b"\x1b[2J", b"\xff\xfe", b"\xed\xa0\x80", "\u202e".encode(), b"\r", b"\n" * 300),
    *(b"../../../../etc/passwd", b"/dev/zero", b"-1", b"1e999", b"nan", b"9" * 5000, b"0x" * 20),
    *(
        b"[" * 100_000,
        b"{" * 20_000,
        b'"',
        b"{ a / b",
        b"/ @ }",
        b"2024-13-45",
        b"!!python/name:os",
    ),
    *(
        b"&a [*a,*a]",
        b"<!DOCTYPE x [<!ENTITY a 'b'>]>",
        b"\\data\\",
        b"%s%n",
        b"$(id)",
        b"a" * 70_000,
    ),
)
NUMBERS = (0, 1, -1, 2**31 - 1, -(2**31), 2**31, 2**63 - 1, -(2**63), 2**40, 255)


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
    import numpy as np

    from asr.decoding import DecodingOptions, read_decoder
    from asr.model import open_network, read_model

    model = read_model(folder)
    network = open_network(folder, model, "cpu", 1)
    decoder = read_decoder(folder, model.tokens, DecodingOptions())
    noise = 0.1 * np.random.default_rng(1).standard_normal(RATE).astype("f4")
    (log_probs,) = network.log_probs([noise])
    decoder.decode(log_probs)
    # Scores of another source than the network, so that the search goes far into its tables.
    random_scores = np.random.default_rng(2).gumbel(size=(40, len(model.tokens)))
    scores = random_scores - np.log(np.exp(random_scores).sum(1, keepdims=True))
    decoder.decode(scores.astype("f4"))


def data_readers() -> dict[str, Callable[[Path], Any]]:
    from asr.audio import read_audio
    from asr.config_files import load_conf
    from asr.corpus import checks, download, read_manifest
    from asr.corpus.formats import catalogue
    from asr.corpus.members import decode, read_shards
    from asr.corpus.stored_features import read_features
    from asr.decoding.grammar import read_grammar
    from asr.decoding.hotwords import read_hot_words
    from asr.decoding.lexicon import read_lexicon
    from asr.lm import read_language_model
    from asr.scoring.transcripts import read_transcripts
    from asr.text import TokenTable

    del checks
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


Target = tuple[str, str, Callable[[Path], Any]]
"""Group, file in its folder, and what uses the folder or the file."""


def targets(material: Path) -> list[Target]:
    """What may be attacked, each file once."""
    found: list[Target] = []
    for group in ("model", "exported"):
        files = sorted(p for p in (material / group).rglob("*") if p.is_file())
        found += [
            (group, p.relative_to(material / group).as_posix(), use_model)
            for p in files
            if p.name != ".asr-files.json"
        ]
    return found + [("data", name, read) for name, read in data_readers().items()]


def damaged(content: bytes, draw: random.Random) -> bytes:
    """A few bytes changed, or a part; most changes are small, so that the rest is still read."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        size = len(data)
        place = draw.randrange(size + 1)
        kind = draw.randrange(8)
        if kind <= 1 and size:
            data[place % size] ^= 1 << draw.randrange(8)
        elif kind == 2 and size:
            data[place % size] = draw.randrange(256)
        elif kind == 3:
            code = draw.choice(("<i", "<q", "<d", ">I", "<f"))
            number: float = draw.choice(NUMBERS)
            if code in ("<d", "<f"):
                number = draw.choice((float("nan"), float("inf"), -1e30, 1e30, 0.0))
            wide = struct.calcsize(code)
            value = number if isinstance(number, float) else number % 2 ** (8 * wide)
            if code in ("<i", "<q") and value >= 2 ** (8 * wide - 1):
                value -= 2 ** (8 * wide)
            place -= place % wide
            data[place : place + wide] = struct.pack(code, value)
        elif kind == 4:
            del data[place : place + draw.choice((1, 8, 100, 10**6))]
        elif kind == 5:
            data[place:place] = data[place : place + draw.choice((1, 8, 100))]
        elif kind == 6:
            data[place:place] = draw.choice(TRAPS)
        else:
            words = bytes(data).split(b" ")
            words[draw.randrange(len(words))] = draw.choice(TRAPS)
            data = bytearray(b" ".join(words))
    return bytes(data)


def replace(path: Path, draw: random.Random) -> None:
    """Something else than a file in its place."""
    path.unlink()
    kind = draw.randrange(7)
    if kind == 0:
        os.mkfifo(path)
    elif kind == 1:
        path.symlink_to("/dev/zero")
    elif kind == 2:
        path.symlink_to("/etc/passwd")
    elif kind == 3:
        path.mkdir()
    elif kind == 4:
        path.write_bytes(b"")
    elif kind == 5:
        with path.open("wb") as file:
            file.truncate(2**42)
    else:
        path.symlink_to(path.name)


def attack(target: Target, material: Path, scratch: Path, draw: random.Random) -> str:
    """What became of a case: `ok`, `refused`, or what is wrong."""
    from asr.errors import AsrError

    group, name, use = target
    folder = scratch / group
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(material / group, folder)
    path = folder / name
    if draw.random() < 0.1:
        replace(path, draw)
    else:
        path.write_bytes(damaged(path.read_bytes(), draw))
    try:
        use(folder if group != "data" else path)
    except AsrError as error:
        return "refused" if "\n" not in str(error) else f"an error of several lines: {error}"
    except BaseException as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
    return "ok"


def work(material: Path, scratch: Path, first: int, last: int, seed: int, only: str) -> None:
    """In a process of its own: cases one by one, each with a line before it and one after it."""
    import faulthandler
    import resource
    import warnings

    faulthandler.enable()
    warnings.simplefilter("ignore")
    all_targets = [t for t in targets(material) if only in f"{t[0]}/{t[1]}"]
    use_model(material / "model")
    print(json.dumps({"ready": True}), flush=True)
    for number in range(first, last):
        draw = random.Random(seed * 1_000_003 + number)
        # Every file in turn, so that small ones get as many as large ones.
        target = all_targets[number % len(all_targets)]
        print(json.dumps({"case": number, "file": f"{target[0]}/{target[1]}"}), flush=True)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        outcome = attack(target, material, scratch, draw)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        if grown > MEMORY:
            outcome = f"{grown} KiB of memory"
        print(json.dumps({"outcome": outcome}), flush=True)


def rows_of(process: "subprocess.Popen[str]") -> "queue.Queue[dict[str, Any] | None]":
    """Its lines as they come; none at its end."""
    rows: queue.Queue[dict[str, Any] | None] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            try:
                rows.put(json.loads(line))
            except ValueError:
                continue
        rows.put(None)

    threading.Thread(target=read, daemon=True).start()
    return rows


def outcomes(
    material: Path, scratch: Path, cases: int, seed: int, only: str, seconds: float
) -> Iterator[tuple[int, str, str]]:
    """Number, file and outcome of each case, whatever becomes of the processes."""
    first, end = 0, time.monotonic() + seconds
    while first < cases and time.monotonic() < end:
        command = [sys.executable, __file__, "--work", str(material), str(scratch)]
        command += [str(first), str(cases), str(seed), only]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            rows, case, patience = rows_of(process), {"case": first, "file": "(start)"}, START
            while True:
                try:
                    row = rows.get(timeout=patience)
                except queue.Empty:
                    process.kill()
                    yield case["case"], case["file"], f"no end in {patience:g} s"
                    break
                if row is None:
                    yield case["case"], case["file"], f"the process ended with {process.wait()}"
                    break
                patience = PATIENCE
                if "case" in row:
                    case = row
                elif "outcome" in row:
                    yield case["case"], case["file"], row["outcome"]
                    first = case["case"] + 1
                    if first == cases or time.monotonic() > end:
                        process.kill()
                        return
            first = max(first, case["case"] + 1)


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--work"]:
        material, scratch, first, last, seed, only = arguments[1:]
        work(Path(material), Path(scratch), int(first), int(last), int(seed), only)
        return 0
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="a part of the names of files, as model/lm/")
    parser.add_argument("--seconds", type=float, default=600)
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        material = Path(name, "material")
        make_model(material / "model")
        make_exported(material / "exported", material / "model")
        make_data(material / "data")
        counts: Counter[str] = Counter()
        broken = []
        for number, file, outcome in outcomes(
            material, Path(name), chosen.cases, chosen.seed, chosen.only, chosen.seconds
        ):
            held = outcome in ("ok", "refused")
            counts[outcome if held else "broken"] += 1
            if not held:
                broken.append(f"seed {chosen.seed}, case {number}, {file}: {outcome}")
                print(broken[-1], flush=True)
    total, held = counts.total(), f"{counts['refused']} refused in a line, {counts['ok']} read"
    print(f"{total} cases: {held}, {len(broken)} broken")
    return bool(broken) or not total


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main(sys.argv[1:]))
