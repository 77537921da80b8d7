from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Generator

from asr.config import AugmentConfig, Config, FeatureConfig
from asr.corpus import PackedCorpus, Utterance, open_packed, pack
from asr.errors import DataError
from asr.training.augment import augment_waveforms, convolve
from asr.training.rooms import Rooms
from asr.training.step import Learner
from asr.training.trainer import train
from tests.tones import CONFIG

RATE = 8000


def packed(folder: Path, *recordings: Any) -> PackedCorpus:
    folder.mkdir()
    utterances = []
    for number, samples in enumerate(recordings):
        path = folder / f"{number}.wav"
        soundfile.write(path, samples, RATE)
        utterances.append(Utterance(id=str(number), audio_filepath=path, duration=0.0))
    pack(utterances, folder / "packed", FeatureConfig(sample_rate=RATE))
    return open_packed(folder / "packed")


def tone(hertz: float, seconds: float = 1.0) -> Any:
    return 0.3 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)


def generator(seed: int = 1) -> Generator:
    return Generator().manual_seed(seed)


def test_noise_is_a_stretch_of_a_recording_that_comes_again_and_again(tmp_path: Path) -> None:
    recordings = [np.arange(500.0, 1500) / 32768, -np.arange(500.0, 750) / 32768]
    rooms = Rooms(noise=packed(tmp_path / "n", *recordings))
    drawn = rooms.draw_noise(200, 300, generator()).numpy()
    firsts = set()
    for row in drawn:
        recording = np.round(recordings[int(row[0] < 0)] * 32768)
        start = int(np.flatnonzero(recording == row[0])[0])
        firsts.add((bool(row[0] < 0), start))
        assert np.array_equal(row, recording[np.arange(start, start + 300) % len(recording)])
    assert 70 < sum(row[0] < 0 for row in drawn) < 130  # recordings, not their lengths
    assert len(firsts) > 100
    again = rooms.draw_noise(200, 300, generator()).numpy()
    assert np.array_equal(drawn, again)
    assert not np.array_equal(drawn, rooms.draw_noise(200, 300, generator(2)).numpy())


def test_recorded_noise_is_added_at_the_ratio_and_up_to_the_end(tmp_path: Path) -> None:
    rooms = Rooms(noise=packed(tmp_path / "n", tone(2000, 3.0)))
    config = AugmentConfig(noise_probability=1.0, noise_snr_db=(6.0, 6.0))
    speech = torch.zeros(2, RATE)
    speech[0] = torch.from_numpy(tone(500)).float()
    speech[1, :4000] = speech[0, :4000]
    lengths = torch.tensor([RATE, 4000])
    noisy, _ = augment_waveforms(speech, lengths, config, RATE, generator(), rooms)
    for row, size in enumerate(lengths.tolist()):
        added = (noisy - speech)[row]
        assert not added[size:].any()
        ratio = 10 * torch.log10(speech[row].square().sum() / added.square().sum())
        assert float(ratio) == pytest.approx(6.0, abs=0.01)
        spectrum = torch.fft.rfft(added[:size]).abs()
        assert int(spectrum.argmax()) * RATE / size == pytest.approx(2000, abs=3)


def test_speech_is_heard_in_the_recorded_room(tmp_path: Path) -> None:
    response = np.zeros(400)
    response[0], response[300] = 0.9, -0.45
    rooms = Rooms(responses=packed(tmp_path / "r", response))
    config = AugmentConfig(reverb_probability=1.0)
    speech = torch.from_numpy(tone(500)).float()[None]
    wet, _ = augment_waveforms(speech, torch.tensor([RATE]), config, RATE, generator(), rooms)
    expected = np.convolve(speech[0].numpy(), response / np.sqrt((response**2).sum()))[:RATE]
    assert wet[0].numpy() == pytest.approx(expected, abs=1e-3)


def test_convolution_is_numpys() -> None:
    rng = np.random.default_rng(1)
    speech, responses = rng.standard_normal((3, 50)), rng.standard_normal((3, 70))
    ours = convolve(torch.from_numpy(speech).float(), torch.from_numpy(responses).float())
    for row in range(3):
        expected = np.convolve(speech[row], responses[row])[:50]
        assert ours[row].numpy() == pytest.approx(expected, abs=1e-4)


def changed(**training: Any) -> Config:
    values = CONFIG.model_dump()
    values["augment"] |= {"reverb_probability": 0.5}
    values["augment"] |= {"noise_files": ["n"], "reverb_files": ["r"]}
    values["training"] |= {"epochs": 2, **training}
    return Config.model_validate(values)


def weights(folder: Path) -> bytes:
    return (folder / "model/weights.safetensors").read_bytes()


@pytest.mark.usefixtures("no_pictures")
def test_a_run_in_rooms_that_was_stopped_ends_as_one_never_stopped(
    tone_corpus: dict[str, PackedCorpus], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    rooms = Rooms(
        noise=packed(tmp_path / "n", tone(3000), 0.1 * rng.standard_normal(9000)),
        responses=packed(tmp_path / "r", np.exp(-np.arange(500) / 80), [0.9, *[0.0] * 300, 0.4]),
    )

    def run(name: str, config: Config, given: Rooms | None = rooms) -> None:
        folder = tmp_path / name
        (folder / "scratch").mkdir(parents=True, exist_ok=True)
        train(
            tone_corpus["train"],
            tone_corpus["dev"],
            config,
            folder,
            scratch=folder / "scratch",
            device="cpu",
            report=lambda _: None,
            rooms=given,
        )

    run("whole", changed())
    step = Learner.step

    def fail(self: Learner, rows: Any, number: int) -> None:
        if number == 17:
            raise KeyError("stopped")
        step(self, rows, number)

    monkeypatch.setattr(Learner, "step", fail)
    with pytest.raises(KeyError, match="stopped"):
        run("stopped", changed(checkpoint_seconds=0))
    monkeypatch.setattr(Learner, "step", step)
    run("stopped", changed(checkpoint_seconds=0))
    assert weights(tmp_path / "stopped") == weights(tmp_path / "whole")
    run("artificial", changed(), None)
    assert weights(tmp_path / "artificial") != weights(tmp_path / "whole")


def test_features_cannot_be_heard_in_rooms(
    tone_corpus: dict[str, PackedCorpus], tmp_path: Path
) -> None:
    corpus = replace(tone_corpus["train"], kind="features")
    with pytest.raises(DataError, match="these are features"):
        train(corpus, corpus, changed(), tmp_path, scratch=tmp_path, report=lambda _: None)
