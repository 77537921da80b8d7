"""SpeechBrain's side of tools/bench/training.py, which starts it in SpeechBrain's own environment.

    python tools/bench/speechbrain_training.py task.json packed|unpacked

Written as SpeechBrain's CTC recipes are, without their second computation of the loss for a log.
Learns from epoch after epoch. A line of its standard input says for how many batches or seconds to
go on; then it writes what it learnt from as a line of JSON, and waits for the next.

If the task names a dev set it waits for nothing, and after each epoch writes the dev set's word
error rate with the minutes from the first step on. The learning rate falls by a fifth, as in its
TIMIT recipe for CTC, when an epoch did not lower the dev loss, as in its LibriSpeech recipe: the
error rate, which TIMIT's goes by, says nothing in the first epochs of so little speech.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import speechbrain as sb
import torch
from speechbrain.augment.augmenter import Augmenter
from speechbrain.augment.freq_domain import SpectrogramDrop
from speechbrain.augment.time_domain import AddNoise, SpeedPerturb
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.dataio.encoder import CTCTextEncoder
from speechbrain.dataio.sampler import DynamicBatchSampler
from speechbrain.decoders import ctc_greedy_decode
from speechbrain.lobes.features import Fbank
from speechbrain.nnet.activations import Softmax
from speechbrain.nnet.CNN import Conv1d
from speechbrain.nnet.containers import LengthsCapableSequential
from speechbrain.nnet.linear import Linear
from speechbrain.nnet.losses import ctc_loss
from speechbrain.nnet.normalization import LayerNorm
from speechbrain.nnet.RNN import LSTM
from speechbrain.nnet.schedulers import NewBobScheduler, update_learning_rate
from speechbrain.processing.features import Deltas, InputNormalization
from speechbrain.utils.metric_stats import ErrorRateStats

NUM_BUCKETS = 70  # about as much padding as ours, in batches about as large


class Recognizer(sb.Brain):
    def compute_forward(self, batch: Any, stage: Any) -> tuple[torch.Tensor, torch.Tensor]:
        values, lengths = batch.to(self.device).sig
        is_training = stage == sb.Stage.TRAIN
        if is_training and self.hparams.wav_augment is not None:
            values, lengths = self.hparams.wav_augment(values, lengths)
        features = self.modules.features(values)
        features = self.modules.normalize(features, lengths)
        if is_training:
            features, lengths = self.hparams.feature_augment(features, lengths)
        hidden = self.modules.encoder(features, lengths if self.hparams.packed else None)
        return self.hparams.log_softmax(self.modules.output(hidden)), lengths

    def compute_objectives(self, predictions: Any, batch: Any, stage: Any) -> torch.Tensor:
        del stage
        log_probs, lengths = predictions
        tokens, token_lengths = batch.tokens
        return ctc_loss(log_probs, tokens, lengths, token_lengths, blank_index=0)


class Paced(Recognizer):
    """Learns when it is its turn."""

    def on_fit_batch_end(self, batch: Any, *_: Any) -> None:
        self.hparams.turns.learnt(batch.id)


class Scored(Recognizer):
    """Scores the dev set after each epoch, and says when that was."""

    def on_stage_start(self, stage: Any, epoch: int | None = None) -> None:
        if stage == sb.Stage.TRAIN and epoch == 1:
            self.start = time.perf_counter(), time.process_time()
        self.errors = ErrorRateStats()

    def compute_objectives(self, predictions: Any, batch: Any, stage: Any) -> torch.Tensor:
        if stage == sb.Stage.VALID:
            heard = self.hparams.decode_tokens(ctc_greedy_decode(*predictions, blank_id=0))
            words = ["".join(characters).split() for characters in heard]
            self.errors.append(batch.id, words, [text.split() for text in batch.text])
        return super().compute_objectives(predictions, batch, stage)

    def on_stage_end(self, stage: Any, stage_loss: float, *_: Any) -> None:
        if stage == sb.Stage.VALID:
            _, rate = self.hparams.annealing(stage_loss)
            update_learning_rate(self.optimizer, rate)
            answer = {
                "wer": self.errors.summarize("error_rate"),
                "clock": (time.perf_counter() - self.start[0]) / 60,
                "processor": (time.process_time() - self.start[1]) / 60,
            }
            print(json.dumps(answer), file=ANSWERS, flush=True)


class Turns:
    """Lets training go on for as long as it is asked to."""

    def __init__(self, durations: dict[str, float]):
        self.durations = durations
        self.wait()

    def wait(self) -> None:
        line = sys.stdin.readline()
        if not line:
            sys.exit()
        count, self.unit = line.split()
        self.limit = float(count)
        self.batches, self.audio, self.padded = 0, 0.0, 0.0
        self.start = time.perf_counter()

    def learnt(self, names: list[str]) -> None:
        lengths = [self.durations[name] for name in names]
        self.batches += 1
        self.audio += sum(lengths)
        self.padded += max(lengths) * len(lengths)
        seconds = time.perf_counter() - self.start
        if (self.batches if self.unit == "batches" else seconds) >= self.limit:
            answer = {"seconds": seconds, "audio": self.audio, "padded": self.padded}
            print(json.dumps(answer), file=ANSWERS, flush=True)
            self.wait()


def read_cepstra(path: str, num_ceps: int) -> torch.Tensor:
    values = np.fromfile(path, ">f4", offset=4).astype(np.float32)
    return torch.from_numpy(values.reshape(-1, num_ceps))


def speaker_statistics(path: str, num_ceps: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Mean and deviation of each speaker's cepstra."""
    cepstra: dict[str, list[torch.Tensor]] = {}
    for entry in json.loads(Path(path).read_text()).values():
        cepstra.setdefault(entry["speaker"], []).append(read_cepstra(entry["path"], num_ceps))
    return {
        speaker: (torch.cat(values).mean(dim=0), torch.cat(values).std(dim=0))
        for speaker, values in cepstra.items()
    }


def make_dataset(path: str, task: dict[str, Any], encoder: CTCTextEncoder) -> DynamicItemDataset:
    dataset = DynamicItemDataset.from_json(path)
    settings = task["features"]
    by_speaker = task["kind"] == "features" and settings["normalization"] == "speaker"
    statistics = speaker_statistics(path, settings["num_ceps"]) if by_speaker else {}

    @sb.utils.data_pipeline.takes("path", "start", "duration")
    @sb.utils.data_pipeline.provides("sig")
    def audio(path: str, start: int, duration: float) -> torch.Tensor:
        stop = start + round(duration * settings["sample_rate"])
        return sb.dataio.dataio.read_audio({"file": path, "start": start, "stop": stop})

    @sb.utils.data_pipeline.takes("path", "speaker")
    @sb.utils.data_pipeline.provides("sig")
    def cepstra(path: str, speaker: str) -> torch.Tensor:
        mean, deviation = statistics.get(speaker, (0.0, 1.0))
        return (read_cepstra(path, settings["num_ceps"]) - mean) / deviation

    @sb.utils.data_pipeline.takes("text")
    @sb.utils.data_pipeline.provides("characters", "tokens")
    def encode_text(text: str) -> Any:
        characters = list(text)
        yield characters
        yield encoder.encode_sequence_torch(characters)

    dataset.add_dynamic_item(audio if task["kind"] == "waveforms" else cepstra)
    dataset.add_dynamic_item(encode_text)
    dataset.set_output_keys(["id", "sig", "tokens", "text"])
    return dataset


def fill_encoder(dataset: DynamicItemDataset, encoder: CTCTextEncoder) -> None:
    """Let the encoder know the characters of the training set."""
    encoder.insert_blank(index=0)
    encoder.ignore_len()
    with dataset.output_keys_as(["characters"]):
        encoder.update_from_didataset(dataset, "characters", sequence_input=True)


class Cepstra(torch.nn.Module):
    """Published cepstra with their first and second derivatives."""

    def __init__(self, num_ceps: int):
        super().__init__()
        self.deltas = Deltas(input_size=num_ceps)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        first = self.deltas(values)
        return torch.cat([values, first, self.deltas(first)], dim=2)


def make_modules(task: dict[str, Any], num_tokens: int) -> dict[str, torch.nn.Module]:
    features, settings = task["features"], task["encoder"]
    if task["kind"] == "waveforms":
        num_bins = features["num_mel_bins"]
        frontend = Fbank(
            sample_rate=features["sample_rate"],
            n_fft=256,
            n_mels=num_bins,
            f_min=features["low_freq"],
            win_length=features["frame_length_ms"],
            hop_length=features["frame_shift_ms"],
        )
    else:
        num_bins = 3 * features["num_ceps"]
        frontend = Cepstra(features["num_ceps"])
    # What is normalized by speaker already is scaled as in its TIMIT recipe.
    norm_type = "global" if features["normalization"] == "speaker" else "sentence"
    encoder = LengthsCapableSequential(input_shape=[None, None, num_bins])
    encoder.append(
        Conv1d,
        out_channels=settings["conv_channels"],
        kernel_size=2 * settings["subsampling"] + 1,
        stride=settings["subsampling"],
        layer_name="convolution",
    )
    encoder.append(LayerNorm, layer_name="norm")
    encoder.append(torch.nn.GELU(), layer_name="activation")
    encoder.append(torch.nn.Dropout(settings["dropout"]), layer_name="dropout")
    encoder.append(
        LSTM,
        hidden_size=settings["hidden_size"],
        num_layers=settings["num_layers"],
        dropout=settings["dropout"],
        bidirectional=True,
        layer_name="lstm",
    )
    encoder.append(torch.nn.Dropout(settings["dropout"]), layer_name="output_dropout")
    output = Linear(n_neurons=num_tokens, input_size=2 * settings["hidden_size"])
    return {
        "features": frontend,
        "normalize": InputNormalization(norm_type=norm_type),
        "encoder": encoder,
        "output": output,
    }


def make_hparams(task: dict[str, Any], *, packed: bool) -> dict[str, Any]:
    augment = task["augment"]
    masks = [
        SpectrogramDrop(
            drop_length_low=0,
            drop_length_high=augment[f"{name}_mask_width"] + 1,
            drop_count_low=augment[f"{name}_masks"],
            drop_count_high=augment[f"{name}_masks"],
            dim=dim,
        )
        for dim, name in ((1, "time"), (2, "freq"))
        if augment[f"{name}_masks"]
    ]
    speeds = [round(100 * speed) for speed in augment["speeds"]]
    of_audio: list[torch.nn.Module] = []
    if task["kind"] == "waveforms" and len(speeds) > 1:
        of_audio.append(SpeedPerturb(task["features"]["sample_rate"], speeds))
    if task["kind"] == "waveforms" and augment["noise_probability"]:
        low, high = augment["noise_snr_db"]
        of_audio.append(AddNoise(snr_low=low, snr_high=high))  # white, in every second batch
    return {
        "packed": packed,
        "log_softmax": Softmax(apply_log=True),
        "wav_augment": Augmenter(augmentations=of_audio) if of_audio else None,
        "feature_augment": Augmenter(
            augmentations=masks, min_augmentations=len(masks), max_augmentations=len(masks)
        ),
    }


def main() -> None:
    task = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(task["threads"])
    sb.utils.seed.seed_everything(task["training"]["seed"])
    encoder = CTCTextEncoder()
    dataset = make_dataset(task["train"], task, encoder)
    fill_encoder(dataset, encoder)
    rate = task["training"]["learning_rate"]
    hparams = make_hparams(task, packed=sys.argv[2] == "packed")
    dev_set = None
    if task["dev"] is None:
        kind: type[Recognizer] = Paced
        durations = {name: entry["duration"] for name, entry in dataset.data.items()}
        hparams["turns"] = Turns(durations)
    else:
        kind = Scored
        dev_set = make_dataset(task["dev"], task, encoder).filtered_sorted(sort_key="duration")
        hparams["decode_tokens"] = encoder.decode_ndim
        hparams["annealing"] = NewBobScheduler(rate, 0.8, improvement_threshold=0.0025, patient=0)
    brain = kind(
        modules=make_modules(task, len(encoder)),
        opt_class=lambda parameters: torch.optim.AdamW(parameters, lr=rate),
        hparams=hparams,
        run_opts={"device": "cpu"},
    )
    sampler = DynamicBatchSampler(
        dataset, task["training"]["batch_seconds"], num_buckets=NUM_BUCKETS, shuffle=True
    )
    brain.fit(
        range(1, 1_000_000),
        dataset,
        dev_set,
        progressbar=False,
        train_loader_kwargs={"batch_sampler": sampler, "num_workers": 0},
        valid_loader_kwargs={"batch_size": 8},
    )


if __name__ == "__main__":
    ANSWERS = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed goes to stderr
    main()
