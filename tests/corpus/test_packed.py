from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.batches import plan_batches
from asr.config import FeatureConfig
from asr.corpus.manifest import Utterance
from asr.corpus.packed import open_packed, pack
from asr.errors import AsrError, AudioError, DataError
from asr.training.batch import make_batch

FEATURES = FeatureConfig(sample_rate=8000)


def write_utterances(folder: Path, num_samples: list[int]) -> list[Utterance]:
    random = np.random.default_rng(0)
    utterances = []
    for index, count in enumerate(num_samples):
        path = folder / f"u{index}.wav"
        soundfile.write(path, random.integers(-9999, 9999, count).astype(np.int16), 8000)
        utterances.append(
            Utterance(id=f"u{index}", audio_filepath=path, duration=count / 8000, text="a b")
        )
    return utterances


def test_packed_samples_are_those_of_the_files(tmp_path: Path) -> None:
    utterances = write_utterances(tmp_path, [900, 400, 700])
    report = pack(utterances, tmp_path / "packed", FEATURES)
    corpus = open_packed(tmp_path / "packed")
    assert report.seconds == 2000 / 8000
    assert report.low_rate == ()
    assert [u.id for u in corpus.utterances] == ["u0", "u1", "u2"]
    batch = make_batch(corpus, [2, 1], [[1], [2, 2], [3, 1, 2]])
    for row, name in enumerate(["u2", "u1"]):
        samples, _ = soundfile.read(tmp_path / f"{name}.wav", dtype="int16")
        assert batch.ids[row] == name
        assert batch.lengths[row] == len(samples)
        assert np.array_equal(batch.inputs[row, : len(samples)], samples)
        assert not batch.inputs[row, len(samples) :].any()
    assert batch.targets.tolist() == [[3, 1, 2], [2, 2, 0]]
    assert batch.num_tokens.tolist() == [3, 2]
    assert batch.is_audio


def test_features_are_packed_in_place_of_audio(tmp_path: Path) -> None:
    frames = np.arange(39, dtype=">f4").reshape(3, 13)
    path = tmp_path / "u.mfc"
    path.write_bytes(np.array(39, ">i4").tobytes() + frames.tobytes())
    utterance = Utterance(id="u", audio_filepath=path, duration=0.04, text="a")
    config = FeatureConfig(kind="mfcc", num_mel_bins=40)
    pack([utterance], tmp_path / "packed", config)
    batch = make_batch(open_packed(tmp_path / "packed"), [0], [[1]])
    assert not batch.is_audio
    assert np.array_equal(batch.inputs[0], frames)
    with pytest.raises(DataError, match=r"u\.mfc: 13 values a frame.* have 20"):
        pack([utterance], tmp_path / "packed", config.model_copy(update={"num_ceps": 20}))


def test_audio_and_features_do_not_mix(tmp_path: Path) -> None:
    utterances = write_utterances(tmp_path, [900])
    mixed = [*utterances, Utterance(id="f", audio_filepath=tmp_path / "f.mfc", duration=1)]
    with pytest.raises(DataError, match="some utterances are audio and some are features"):
        pack(mixed, tmp_path / "packed", FEATURES)


def test_low_rates_are_named(tmp_path: Path) -> None:
    utterances = write_utterances(tmp_path, [900])
    report = pack(utterances, tmp_path / "packed", FeatureConfig(sample_rate=16000))
    assert report.low_rate == ("u0",)


def test_an_unreadable_file_stops_packing_by_name(tmp_path: Path) -> None:
    utterances = write_utterances(tmp_path, [900, 900])
    (tmp_path / "u1.wav").write_bytes(b"")
    with pytest.raises(AudioError, match=r"u1\.wav"):
        pack(utterances, tmp_path / "packed", FEATURES)
    with pytest.raises(DataError, match="cannot be read"):
        open_packed(tmp_path / "packed")


def test_less_than_a_frame_is_an_error(tmp_path: Path) -> None:
    utterances = write_utterances(tmp_path, [199])
    with pytest.raises(DataError, match=r"u0: 199 samples are less than one frame of 200"):
        pack(utterances, tmp_path / "packed", FEATURES)


def test_a_damaged_pack_is_named(tmp_path: Path) -> None:
    pack(write_utterances(tmp_path, [900, 500]), tmp_path / "packed", FEATURES)
    np.save(tmp_path / "packed" / "starts.npy", np.array([0, 900]))
    with pytest.raises(DataError, match="damaged; run the pack stage again"):
        open_packed(tmp_path / "packed")


def test_a_packed_corpus_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "packed"
    for lengths in ([900, 500], [700]):
        pack(write_utterances(tmp_path, lengths), folder, FEATURES)
        assert open_packed(folder).lengths.tolist() == lengths
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("mine")
    with pytest.raises(AsrError, match=r"packed: .* asr did not write '\.git/config' in it"):
        pack(write_utterances(tmp_path, [900]), folder, FEATURES)
    assert (folder / ".git" / "config").read_text() == "mine"
    assert open_packed(folder).lengths.tolist() == [700]


@settings(max_examples=100, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 500), max_size=60),
    budget=st.integers(1, 2000),
    seed=st.one_of(st.none(), st.integers(0, 9)),
    shuffle=st.booleans(),
)
def test_batches_hold_every_row_once_within_the_budget(
    lengths: list[int], budget: int, seed: int | None, shuffle: bool
) -> None:
    sizes = np.array(lengths, np.int64)
    batches = plan_batches(sizes, budget, seed=seed, shuffle=shuffle)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or sizes[batch].max() * len(batch) <= budget


def test_batches_pad_little_and_differ_by_epoch() -> None:
    sizes = np.random.default_rng(0).integers(8000, 80000, 2000)
    epochs = [plan_batches(sizes, 800_000, seed=seed) for seed in (0, 1)]
    padded = sum(sizes[batch].max() * len(batch) for batch in epochs[0])
    assert sizes.sum() / padded > 0.95
    first, second = ({tuple(sorted(batch)) for batch in epoch} for epoch in epochs)
    assert len(first & second) < 5


def test_without_shuffling_the_shortest_come_first() -> None:
    sizes = np.random.default_rng(0).integers(100, 9000, 300)
    longest = [sizes[batch].max() for batch in plan_batches(sizes, 50_000, seed=3, shuffle=False)]
    assert longest[0] < 1500
    assert np.corrcoef(longest, np.arange(len(longest)))[0, 1] > 0.95


def test_of_a_batch_the_inputs_alone_leave_the_host() -> None:
    corpus_batch = torch.zeros(1, 2, dtype=torch.int16)
    from asr.training.batch import Batch

    batch = Batch(
        ids=("a",),
        inputs=corpus_batch,
        lengths=torch.tensor([2]),
        targets=torch.tensor([[1]]),
        num_tokens=torch.tensor([1]),
        statistics=torch.zeros(1, 2, 3),
    )
    moved = batch.to(torch.device("meta"))
    devices = {name: tensor.device.type for name, tensor in moved.tensors.items()}
    assert {name for name, device in devices.items() if device == "meta"} == {
        "inputs",
        "statistics",
    }
    assert moved.ids == ("a",)
