"""File to text with an exported model on one thread, beside its bare network and pocketsphinx.

    python tools/bench/transcription.py [--audio FOLDER] [--seconds S] [--short N]
        [--subsampling N]

The network, a BiLSTM of four layers of 288 (7 million parameters), three frames a step as in most
recipes unless said, has random weights, whose speed is that of trained ones; its output layer is
set so that nine steps of ten are certain blanks, as those of a trained one. Files are the first of
FOLDER (any format, written as WAV first), else noise. All numbers are seconds of audio per second
of processor time, so that other work on the machine counts little; each is the best of three.
"bare" is the network alone in ONNX Runtime, its features computed before, in the batches that are
fastest for it.
"""

import argparse
import math
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import soundfile

RATE = 16000
BATCHES = (1, 8, 32)
REPEATS = 3


def write_files(folder: Path, source: Path | None, seconds: float) -> list[Path]:
    from asr.audio import read_audio
    from asr.corpus.recordings import AUDIO_SUFFIXES

    random = np.random.default_rng(0)
    found = sorted(p for p in source.rglob("*") if p.suffix in AUDIO_SUFFIXES) if source else []
    paths: list[Path] = []
    held = 0.0
    while held < seconds:
        if found:
            samples = read_audio(found[len(paths)], sample_rate=RATE).samples
        else:
            samples = 0.1 * random.standard_normal(15 * RATE)
        paths.append(folder / f"{len(paths)}.wav")
        soundfile.write(paths[-1], samples, RATE)
        held += len(samples) / RATE
    return paths


def cut_short(folder: Path, files: list[Path], count: int) -> list[Path]:
    samples = np.concatenate([soundfile.read(path, dtype="float32")[0] for path in files])
    paths = []
    for index in range(count):
        start = index * RATE % (len(samples) - RATE)
        paths.append(folder / f"short-{index}.wav")
        soundfile.write(paths[-1], samples[start : start + RATE], RATE)
    return paths


def write_random_model(folder: Path, files: list[Path], subsampling: int) -> None:
    import torch

    from asr.config import Config, TokenConfig
    from asr.model import Network, TorchNetwork, write_model
    from asr.model.folder import WEIGHTS
    from asr.model.network import write_weights
    from asr.text import build_tokens

    encoder = {"num_layers": 4, "hidden_size": 288, "subsampling": subsampling}
    config = Config.model_validate({"encoder": encoder})
    tokens = build_tokens(["abcdefghijklmnopqrstuvwxyz '"], TokenConfig())
    torch.manual_seed(0)
    network = Network(config, len(tokens))
    output = network.encoder.output
    output.weight.data *= 40
    samples = soundfile.read(files[0], dtype="float32")[0]
    (log_probs,) = TorchNetwork(network, "cpu", 1).log_probs([samples])
    ahead = log_probs[:, 1:].max(axis=1) - log_probs[:, 0]
    output.bias.data[0] += float(np.quantile(ahead, 0.9)) + 7  # e^-7 is 0.1 %
    write_model(folder, config, tokens, {})
    write_weights(network.state_dict(), folder / WEIGHTS)


def write_trigram(path: Path) -> None:
    from asr.cli import main

    random = np.random.default_rng(1)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(random.choice(letters, random.integers(2, 8))) for _ in range(5000)]
    ranks = 1 / np.arange(1, len(words) + 1)
    lines = [" ".join(random.choice(words, 12, p=ranks / ranks.sum())) for _ in range(5000)]
    text = path.with_suffix(".txt")
    text.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert main(["lm", "train", str(text), "--order", "3", "--output", str(path)]) == 0


def rate(seconds: float, run: Callable[[], object]) -> float:
    """Seconds of audio per second of processor time; a first run is not counted."""
    best = float("inf")
    for repeat in range(REPEATS + 1):
        start = time.process_time()
        run()
        if repeat:
            best = min(best, time.process_time() - start)
    return seconds / best


def bare_rate(folder: Path, files: list[Path], seconds: float) -> float:
    """Of the network alone, given features; `folder` holds it apart from its frontend."""
    import onnxruntime

    from asr.batches import padded

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    providers = ["CPUExecutionProvider"]
    frontend, network = (
        onnxruntime.InferenceSession(folder / name, options, providers=providers)
        for name in ("frontend.onnx", "model.onnx")
    )
    frames = []
    for path in files:
        samples = soundfile.read(path, dtype="float32")[0]
        inputs = {"waveforms": samples[None], "num_samples": np.array([len(samples)])}
        frames.append(frontend.run(["features"], inputs)[0][0])
    frames.sort(key=len)
    rates = []
    for size in BATCHES:
        parts = [padded(frames[first : first + size]) for first in range(0, len(frames), size)]
        calls: list[dict[str, Any]] = [{"features": f, "num_frames": n} for f, n in parts]
        rates.append(rate(seconds, lambda calls=calls: [network.run(None, c) for c in calls]))  # type: ignore[misc]
    return max(rates)


def sphinx_rate(files: list[Path], limit: float) -> float | None:
    try:
        from pocketsphinx import Decoder
    except ImportError:
        return None
    decoder = Decoder(loglevel="FATAL")
    held, spent = 0.0, 0.0
    for path in files:
        samples = soundfile.read(path, dtype="int16")[0][: int((limit - held) * RATE)]
        start = time.process_time()
        decoder.start_utt()
        decoder.process_raw(samples.tobytes(), full_utt=True)
        decoder.end_utt()
        spent += time.process_time() - start
        held += len(samples) / RATE
        if held >= limit - 1:
            break
    return held / spent


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--audio", type=Path)
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--short", type=int, default=1000)
    parser.add_argument("--subsampling", type=int, default=3, help="frames a step")
    parser.add_argument("--sphinx-seconds", type=float, default=30)
    arguments = parser.parse_args()
    from asr.decoding import DecodingOptions
    from asr.model.export import export, export_model
    from asr.transcription import Recognizer

    # Random weights magnify rounding errors, which do not matter here.
    export._MOST_OFF = math.inf
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        files = write_files(folder, arguments.audio, arguments.seconds)
        seconds = sum(soundfile.info(path).duration for path in files)
        short = cut_short(folder, files, arguments.short)
        write_random_model(folder / "model", files, arguments.subsampling)
        write_trigram(folder / "words.arpa")
        sphinx = sphinx_rate(files, arguments.sphinx_seconds)
        print(f"{len(files)} files, {seconds:.0f} s; {len(short)} of 1 s; x real time, one thread")
        if sphinx is not None:
            print(f"pocketsphinx           {sphinx:7.1f}", flush=True)
        for numbers, quantize in (("int8", True), ("fp32", False)):
            export_model(folder / "model", folder / numbers, quantize=quantize)
            apart = folder / f"{numbers}-features"
            export_model(folder / "model", apart, takes="features", quantize=quantize)
            bare = bare_rate(apart, files, seconds)
            print(f"{numbers} bare network      {bare:7.1f}", flush=True)
            greedy = Recognizer.load(folder / numbers, threads=1)
            options = DecodingOptions(beam=16, lm=folder / "words.arpa")
            beam = Recognizer.load(folder / numbers, threads=1, decoding=options)
            whole = rate(seconds, lambda greedy=greedy: list(greedy.transcribe_all(files)))  # type: ignore[misc]
            print(f"{numbers} file to text      {whole:7.1f}  {whole / bare:.0%} of bare")
            if sphinx is not None:
                print(f"{'':23}{'':7}  {whole / sphinx:.0f} x pocketsphinx", flush=True)
            searched = rate(seconds, lambda beam=beam: list(beam.transcribe_all(files)))  # type: ignore[misc]
            cost = whole / searched - 1
            print(f"{numbers} beam 16, trigram  {searched:7.1f}  costs {cost:.0%}", flush=True)
            pieces = rate(len(short), lambda greedy=greedy: list(greedy.transcribe_all(short)))  # type: ignore[misc]
            print(
                f"{numbers} 1 s files         {pieces:7.1f}  {pieces / whole:.0%} of long",
                flush=True,
            )


if __name__ == "__main__":
    main()
