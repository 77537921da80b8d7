import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchaudio.compliance import kaldi
from torchaudio.functional import compute_deltas

from asr.audio.stream import read_audio
from asr.config import FeatureConfig
from asr.corpus.statistics import statistics
from asr.corpus.stored_features import is_feature_path, read_features
from asr.errors import ConfigError, DataError
from asr.model.features import Frontend

SPHINX = FeatureConfig(
    kind="mfcc",
    convention="sphinx",
    frame_length_ms=25.625,
    num_mel_bins=40,
    low_freq=130,
    high_freq=6800,
    normalization="none",
)
KALDI = [
    pytest.param(FeatureConfig(), id="fbank 80"),
    pytest.param(FeatureConfig(num_mel_bins=40, low_freq=60, high_freq=7600), id="fbank 40"),
    pytest.param(FeatureConfig(sample_rate=8000, num_mel_bins=40, high_freq=3700), id="8 kHz"),
    pytest.param(FeatureConfig(sample_rate=11025, num_mel_bins=30, low_freq=0), id="11.025 kHz"),
    pytest.param(FeatureConfig(sample_rate=44100, frame_shift_ms=12.5), id="44.1 kHz"),
    pytest.param(FeatureConfig(frame_length_ms=32, num_mel_bins=64), id="frame as long as FFT"),
    pytest.param(FeatureConfig(kind="mfcc", num_mel_bins=23), id="mfcc 13"),
    pytest.param(
        FeatureConfig(kind="mfcc", num_mel_bins=40, num_ceps=40, low_freq=20, high_freq=7600),
        id="mfcc 40",
    ),
]
EVERY = [*KALDI, pytest.param(SPHINX, id="sphinx mfcc")]


def kaldi_features(waveform: Tensor, config: FeatureConfig) -> Tensor:
    compute = kaldi.fbank if config.kind == "fbank" else kaldi.mfcc
    extra = {"num_ceps": config.num_ceps} if config.kind == "mfcc" else {}
    return compute(
        waveform[None] * 32768,
        dither=0.0,
        sample_frequency=float(config.sample_rate),
        frame_length=config.frame_length_ms,
        frame_shift=config.frame_shift_ms,
        num_mel_bins=config.num_mel_bins,
        low_freq=config.low_freq,
        high_freq=config.high_freq or 0.0,
        **extra,
    )


def with_torchaudio_filters(config: FeatureConfig) -> Frontend:
    """In float64, with torchaudio's table of filters, which is rounded to float32 on its way."""
    frontend = Frontend(config).double()
    high = config.high_freq or 0.0
    length = 2 * (len(frontend.filters) - 1)
    table, _ = kaldi.get_mel_banks(
        config.num_mel_bins, length, config.sample_rate, config.low_freq, high, 100.0, -500.0, 1.0
    )
    frontend.filters = torch.nn.functional.pad(table.T, (0, 0, 0, 1)).double()
    return frontend


def tolerance(config: FeatureConfig) -> float:
    """torchaudio's table of cosines is good to 1e-5, which energies and lifter multiply by 100."""
    return 1e-4 if config.kind == "fbank" else 2e-3


def random_waveforms(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.1


def alone(frontend: Frontend, waveform: Tensor, base: bool = False) -> Tensor:
    compute = frontend.base if base else frontend
    return compute(waveform[None], torch.tensor([len(waveform)]))[0][0]


@pytest.mark.parametrize("config", KALDI)
def test_kaldi_features_of_noise_equal_torchaudio(config: FeatureConfig) -> None:
    waveform = random_waveforms(config.sample_rate).double()
    features = alone(with_torchaudio_filters(config), waveform, base=True)
    wanted = kaldi_features(waveform, config)
    torch.testing.assert_close(features, wanted, atol=tolerance(config), rtol=1e-5)


@pytest.mark.parametrize("config", KALDI)
def test_kaldi_filters_equal_torchaudio(config: FeatureConfig) -> None:
    wanted = with_torchaudio_filters(config).filters.float()
    torch.testing.assert_close(Frontend(config).filters, wanted, atol=5e-5, rtol=0)


@pytest.mark.parametrize("config", KALDI)
def test_single_precision_is_close_to_double(config: FeatureConfig) -> None:
    waveform = random_waveforms(config.sample_rate)
    features = alone(Frontend(config), waveform, base=True)
    wanted = alone(Frontend(config).double(), waveform.double(), base=True).float()
    atol = 1e-3 if config.kind == "fbank" else 5e-3  # the lifter multiplies rounding by up to 12
    torch.testing.assert_close(features, wanted, atol=atol, rtol=1e-4)


# The speech is of 16 kHz: at 44.1 kHz most filters would see nothing but rounding.
@pytest.mark.parametrize("config", [case for case in KALDI if case.id != "44.1 kHz"])
def test_kaldi_features_of_speech_equal_torchaudio(config: FeatureConfig, corpora: Path) -> None:
    frontend = with_torchaudio_filters(config)
    for path in sorted((corpora / "an4" / "wav").rglob("*.wav"))[::20]:
        samples = read_audio(path, sample_rate=config.sample_rate).samples
        waveform = torch.from_numpy(samples).double()
        wanted = kaldi_features(waveform, config)
        features = alone(frontend, waveform, base=True)
        torch.testing.assert_close(features, wanted, atol=tolerance(config), rtol=1e-5)


def test_an_offset_of_the_signal_changes_no_kaldi_features() -> None:
    waveform = random_waveforms(8000)
    frontend = Frontend(FeatureConfig())
    moved = alone(frontend, waveform + 0.25, base=True)
    torch.testing.assert_close(moved, alone(frontend, waveform, base=True), atol=1e-2, rtol=0)


def test_sphinx_features_equal_every_published_file(corpora: Path) -> None:
    stored = {path.stem: path for path in (corpora / "an4" / "feat").rglob("*.mfc")}
    audio = sorted((corpora / "an4" / "wav").rglob("*.*"))
    assert len(audio) == 79
    frontend = Frontend(SPHINX)
    for path in audio:
        samples = torch.from_numpy(read_audio(path, sample_rate=16000).samples)
        wanted = torch.from_numpy(read_features(stored[path.stem]))
        features = alone(frontend, samples)
        assert features.shape == wanted.shape, path
        assert (features - wanted).norm() / wanted.norm() < 1e-5, path


def sphinx_by_the_book(samples: np.ndarray, config: FeatureConfig) -> np.ndarray:
    """The eight steps as they are published, one frame and one filter at a time."""
    signal = np.float64(samples) * 32768
    count = 1 + max(0, -(-(len(signal) - 410) // 160))
    signal = np.concatenate([signal, np.zeros(count * 160 + 410)])
    signal[1:] -= 0.97 * signal[:-1].copy()
    mels = np.linspace(2595 * np.log10(1 + 130 / 700), 2595 * np.log10(1 + 6800 / 700), 42)
    edges = [round(700 * (10 ** (mel / 2595) - 1) / 31.25) for mel in mels]
    rows = []
    for t in range(count):
        power = np.abs(np.fft.rfft(signal[160 * t : 160 * t + 410] * np.hamming(410), 512)) ** 2
        logs = []
        for a, b, c in zip(edges, edges[1:], edges[2:], strict=False):
            height = 2 / ((c - a) * 31.25)
            energy = sum(power[k] * height * (k - a) / (b - a) for k in range(a, b))
            energy += sum(power[k] * height * (c - k) / (c - b) for k in range(b, c))
            logs.append(np.log(max(energy, 1e-10)))
        weights = np.array([0.5] + [1.0] * 39)
        cosines = np.cos(np.pi * np.outer(np.arange(13), np.arange(40) + 0.5) / 40)
        rows.append(logs if config.kind == "fbank" else cosines @ (weights * logs) / 40)
    return np.array(rows)


@pytest.mark.parametrize("kind", ["mfcc", "fbank"])
@pytest.mark.parametrize("num_samples", [1, 409, 410, 411, 570, 571, 3000])
def test_sphinx_features_follow_the_eight_steps(kind: str, num_samples: int) -> None:
    config = SPHINX.model_copy(update={"kind": kind})
    waveform = random_waveforms(num_samples, seed=num_samples)
    features = alone(Frontend(config), waveform).numpy()
    wanted = sphinx_by_the_book(waveform.numpy(), config)
    assert features == pytest.approx(wanted, abs=2e-4)


@pytest.mark.parametrize("config", EVERY)
@settings(max_examples=5, deadline=None)
@given(lengths=st.lists(st.integers(0, 9000), min_size=2, max_size=5), seed=st.integers(0, 99))
def test_a_row_alone_equals_the_row_in_a_batch(
    config: FeatureConfig, lengths: list[int], seed: int
) -> None:
    frontend = Frontend(config)
    waveforms = random_waveforms(len(lengths), 9000, seed=seed)
    waveforms[:, 8000:] = float("nan")  # padding may hold anything
    num_samples = torch.tensor(lengths).clamp(max=8000)
    features, num_frames = frontend.base(waveforms, num_samples)
    assert torch.equal(num_frames, frontend.num_frames(num_samples))
    atol = 1e-5 if config.kind == "fbank" else 2e-4  # Kaldi's cepstra go up to 100
    for row, waveform, samples, frames in zip(
        features, waveforms, num_samples, num_frames, strict=True
    ):
        assert not row[frames:].any()
        if frames:
            wanted = alone(frontend, waveform[:samples], base=True)
            assert len(wanted) == frames
            torch.testing.assert_close(row[:frames], wanted, atol=atol, rtol=1e-5)


@pytest.mark.parametrize("normalization", ["none", "utterance", "global", "sliding", "running"])
@pytest.mark.parametrize("deltas", [0, 1, 2])
@settings(max_examples=10, deadline=None)
@given(lengths=st.lists(st.integers(0, 60), min_size=2, max_size=5), seed=st.integers(0, 99))
def test_what_follows_the_base_does_not_see_padding(
    normalization: str, deltas: int, lengths: list[int], seed: int
) -> None:
    config = FeatureConfig.model_validate(
        {"num_mel_bins": 7, "deltas": deltas, "normalization": normalization}
    )
    frontend = Frontend(config)
    base = random_waveforms(len(lengths), 60, 7, seed=seed) * 30
    features = frontend.finish(base, torch.tensor(lengths))
    for row, values, frames in zip(features, base, lengths, strict=True):
        wanted = frontend.finish(values[None, :frames], torch.tensor([frames]))[0]
        torch.testing.assert_close(row[:frames], wanted, atol=1e-5, rtol=1e-5)
        assert not row[frames:].any()


@pytest.mark.parametrize("config", EVERY)
def test_many_frames_in_pieces_equal_the_same_frames_alone(config: FeatureConfig) -> None:
    waveform = random_waveforms(30 * config.sample_rate)
    frontend = Frontend(config)
    shift, length = config.frame_shift, config.frame_length
    whole = alone(frontend, waveform, base=True)
    for frame in (1, 1023, 1024, 1025, 2048):
        start = frame * shift - 1  # one sample more, for the pre-emphasis that sees it
        part = waveform[start : start + length + 1]
        if config.convention == "kaldi":
            one = alone(frontend, part[1:], base=True)[0]
            torch.testing.assert_close(whole[frame], one, atol=1e-4, rtol=1e-4)
        else:
            wanted = sphinx_by_the_book(waveform[: start + length + 1].numpy(), config)[frame]
            assert whole[frame].numpy() == pytest.approx(wanted, abs=1e-4)
            break


@settings(max_examples=10, deadline=None)
@given(shift=st.integers(1, 40))
def test_shifting_audio_by_frames_shifts_kaldi_features_by_frames(shift: int) -> None:
    waveform = random_waveforms(16000)
    frontend = Frontend(FeatureConfig(normalization="none"))
    later = alone(frontend, waveform[160 * shift :])
    torch.testing.assert_close(later, alone(frontend, waveform)[shift:], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("config", EVERY)
def test_the_number_of_frames_is_the_same_for_ints_and_tensors(config: FeatureConfig) -> None:
    frontend = Frontend(config)
    lengths = torch.arange(0, 3000, 7)
    counts = frontend.num_frames(lengths)
    assert counts.dtype == torch.int64
    assert counts.tolist() == [frontend.num_frames(length) for length in lengths.tolist()]
    assert all(type(frontend.num_frames(length)) is int for length in (0, 1, 3000))


@pytest.mark.parametrize(
    ("config", "num_samples", "expected"),
    [
        (FeatureConfig(), 0, 0),
        (FeatureConfig(), 399, 0),
        (FeatureConfig(), 400, 1),
        (FeatureConfig(), 559, 1),
        (FeatureConfig(), 560, 2),
        (SPHINX, 0, 0),
        (SPHINX, 1, 1),
        (SPHINX, 410, 1),
        (SPHINX, 411, 2),
        (SPHINX, 570, 2),
        (SPHINX, 571, 3),
    ],
)
def test_frames_are_counted_by_the_convention(
    config: FeatureConfig, num_samples: int, expected: int
) -> None:
    assert Frontend(config).num_frames(num_samples) == expected


def test_a_batch_without_a_whole_frame_has_none() -> None:
    frontend = Frontend(FeatureConfig(deltas=2))
    features, num_frames = frontend(random_waveforms(2, 300), torch.tensor([300, 20]))
    assert features.shape == (2, 0, 240)
    assert num_frames.tolist() == [0, 0]


@pytest.mark.parametrize("num_frames", [1, 2, 3, 4, 5, 30])
def test_deltas_equal_torchaudio_for_each_utterance(num_frames: int) -> None:
    config = FeatureConfig(num_mel_bins=7, deltas=2, normalization="none")
    base = random_waveforms(3, 40, 7)
    features = Frontend(config).finish(base, torch.tensor([40, num_frames, 17]))
    own = base[1, :num_frames]
    first = compute_deltas(own.T, win_length=5, mode="replicate").T
    second = compute_deltas(first.T, win_length=5, mode="replicate").T
    wanted = torch.cat([own, first, second], dim=1)
    torch.testing.assert_close(features[1, :num_frames], wanted, atol=1e-6, rtol=1e-5)
    assert not features[1, num_frames:].any()


def test_utterance_normalization_gives_mean_0_and_deviation_1() -> None:
    waveforms = random_waveforms(2, 32000)
    features, num_frames = Frontend(FeatureConfig(deltas=1))(waveforms, torch.tensor([32000, 9000]))
    for row, frames in zip(features, num_frames, strict=True):
        own = row[:frames]
        torch.testing.assert_close(own.mean(dim=0), torch.zeros(160), atol=1e-5, rtol=0)
        torch.testing.assert_close(own.std(dim=0, correction=0), torch.ones(160))


@pytest.mark.parametrize("frames", [1, 50])
def test_bins_that_do_not_vary_become_zero(frames: int) -> None:
    base = torch.full((1, frames, 80), -15.942385)
    features = Frontend(FeatureConfig(deltas=2)).finish(base, torch.tensor([frames]))
    assert features.abs().max() < 0.01


def test_silence_is_finite() -> None:
    for config in (FeatureConfig(), SPHINX):
        assert alone(Frontend(config), torch.zeros(16000)).isfinite().all()


def test_global_normalization_uses_the_statistics_that_were_set() -> None:
    frontend = Frontend(FeatureConfig(num_mel_bins=4, normalization="global"))
    base = random_waveforms(2, 9, 4)
    mean, std = torch.tensor([1.0, 2, 3, 4]), torch.tensor([0.5, 1, 2, 0])
    frontend.set_statistics(mean, std)
    features = frontend.finish(base, torch.tensor([9, 5]))
    torch.testing.assert_close(features[0, :, :3], ((base[0] - mean) / std)[:, :3])
    assert features.isfinite().all()
    assert not features[1, 5:].any()
    assert set(frontend.state_dict()) == {"mean", "std"}


@pytest.mark.parametrize(("kind", "before", "after"), [("running", 299, 0), ("sliding", 150, 150)])
def test_normalization_by_what_is_around_equals_its_definition(
    kind: str, before: int, after: int
) -> None:
    """Three seconds of frames, and half a second of the training set's mean and variance."""
    frontend = Frontend(FeatureConfig.model_validate({"num_mel_bins": 4, "normalization": kind}))
    mean, std = torch.tensor([1.0, 2, 3, 4]), torch.tensor([0.5, 1, 2, 3])
    frontend.set_statistics(mean, std)
    base = 5 + 3 * random_waveforms(1, 500, 4)
    base[:, 150:] += 20
    features = frontend.finish(base, torch.tensor([400]))[0]
    normal = ((base[0, :400] - mean) / std).double()
    for frame in (0, 1, 149, 150, 299, 300, 399):
        seen = normal[max(0, frame - before) : frame + after + 1]
        count = len(seen) + 50
        average = seen.sum(dim=0) / count
        variance = (seen.square().sum(dim=0) + 50) / count - average**2
        expected = (normal[frame] - average) / variance.sqrt()
        torch.testing.assert_close(features[frame].double(), expected, atol=1e-5, rtol=1e-5)
    assert not features[400:].any()


def test_running_normalization_does_not_see_the_future() -> None:
    frontend = Frontend(FeatureConfig(num_mel_bins=4, normalization="running"))
    base = random_waveforms(1, 50, 4)
    changed = base.clone()
    changed[:, 30:] = 99
    before, after = (frontend.finish(b, torch.tensor([50]))[0] for b in (base, changed))
    assert torch.equal(before[:30], after[:30])
    assert not torch.equal(before[30:], after[30:])


def test_speaker_normalization_uses_each_rows_statistics_or_its_own() -> None:
    frontend = Frontend(FeatureConfig(num_mel_bins=4, normalization="speaker"))
    base, num_frames = random_waveforms(2, 9, 4), torch.tensor([9, 5])
    statistics = torch.tensor([[[1.0, 2, 3, 4], [1, 2, 3, 4]], [[0.0, 0, 0, 0], [2, 2, 2, 2]]])
    features = frontend.finish(base, num_frames, statistics)
    torch.testing.assert_close(features[0], (base[0] - statistics[0, 0]) / statistics[0, 1])
    torch.testing.assert_close(features[1, :5], base[1, :5] / 2)
    assert not features[1, 5:].any()
    by_utterance = Frontend(FeatureConfig(num_mel_bins=4)).finish(base, num_frames)
    assert torch.equal(frontend.finish(base, num_frames), by_utterance)


def test_the_moments_of_one_utterance_normalize_it_as_an_utterance() -> None:
    config = FeatureConfig(num_mel_bins=7, deltas=1, normalization="speaker")
    frontend, waveforms = Frontend(config), random_waveforms(2, 16000)
    base, num_frames = frontend.base(waveforms, torch.tensor([16000, 9000]))
    known = torch.from_numpy(statistics(frontend.moments(base, num_frames).numpy()))
    torch.testing.assert_close(
        frontend.finish(base, num_frames, known),
        frontend.finish(base, num_frames),
        atol=1e-4,
        rtol=1e-4,
    )


def test_filters_narrower_than_the_fft_are_refused() -> None:
    with pytest.raises(ConfigError, match="80 filters from 20 Hz are narrower"):
        Frontend(FeatureConfig(convention="sphinx"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("config", EVERY)
def test_a_gpu_gives_what_a_cpu_gives(config: FeatureConfig) -> None:
    config = config.model_copy(update={"deltas": 2})
    waveforms, num_samples = random_waveforms(4, 90_000), torch.tensor([90_000, 5000, 300, 70_001])
    on_cpu, _ = Frontend(config)(waveforms, num_samples)
    on_gpu, _ = Frontend(config).cuda()(waveforms.cuda(), num_samples.cuda())
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, atol=1e-3, rtol=1e-3)


def mfc(values: np.ndarray, order: str = ">") -> bytes:
    return struct.pack(order + "i", values.size) + values.astype(order + "f4").tobytes()


def kaldi_matrix(values: np.ndarray) -> bytes:
    kind, width = (b"FM ", "<f4") if values.dtype == np.float32 else (b"DM ", "<f8")
    size = struct.pack("<bibi", 4, values.shape[0], 4, values.shape[1])
    return b"\0B" + kind + size + values.astype(width).tobytes()


VALUES = np.random.default_rng(0).normal(size=(7, 13)).astype("f4")


@pytest.mark.parametrize("order", [">", "<"])
def test_a_sphinx_file_is_read_in_either_byte_order(tmp_path: Path, order: str) -> None:
    (tmp_path / "a.mfc").write_bytes(mfc(VALUES, order))
    features = read_features(tmp_path / "a.mfc")
    assert features.dtype == np.float32
    assert np.array_equal(features, VALUES)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_an_entry_of_a_kaldi_archive_is_read(tmp_path: Path, dtype: str) -> None:
    first, second = VALUES.astype(dtype), VALUES[:3, :5].astype(dtype)
    content = b"utt1 " + kaldi_matrix(first) + b"utt2 " + kaldi_matrix(second)
    path = tmp_path / "raw.1.ark"
    path.write_bytes(content)
    offset = content.index(b"utt2 ") + 5
    assert np.array_equal(read_features(Path(f"{path}:5")), VALUES)
    assert np.array_equal(read_features(Path(f"{path}:{offset}")), VALUES[:3, :5])


def test_compressed_kaldi_matrices_are_read(tmp_path: Path) -> None:
    # 8 bits with quartiles: one column, its marks at 0, 1, 3 and 4, codes at and between them.
    header = struct.pack("<ffii", 0.0, 4.0, 6, 1)
    marks = struct.pack("<4H", 0, 16384, 49151, 65535)
    codes = bytes([0, 32, 64, 128, 192, 255])
    (tmp_path / "a.ark").write_bytes(b"\0BCM " + header + marks + codes)
    wanted = np.array([[0, 0.5, 1, 2, 3, 4]]).T
    assert read_features(tmp_path / "a.ark:0") == pytest.approx(wanted, abs=1e-4)
    header = struct.pack("<ffii", -1.0, 2.0, 2, 3)
    words = struct.pack("<6H", 0, 65535, 0, 13107, 0, 0)
    (tmp_path / "b.ark").write_bytes(b"\0BCM2 " + header + words)
    wanted = np.array([[-1, 1, -1], [-0.6, -1, -1]])
    assert read_features(tmp_path / "b.ark:0") == pytest.approx(wanted, abs=1e-6)
    (tmp_path / "c.ark").write_bytes(b"\0BCM3 " + header + bytes([0, 255, 0, 51, 0, 0]))
    assert read_features(tmp_path / "c.ark:0") == pytest.approx(wanted, abs=1e-6)


def test_a_compressed_column_keeps_its_place(tmp_path: Path) -> None:
    header = struct.pack("<ffii", 0.0, 65535.0, 2, 2)
    marks = struct.pack("<8H", 0, 1, 2, 3, 10, 11, 12, 13)
    (tmp_path / "a.ark").write_bytes(b"\0BCM " + header + marks + bytes([0, 255, 64, 192]))
    assert read_features(tmp_path / "a.ark:0").tolist() == [[0, 11], [3, 12]]


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        pytest.param("a.mfc", None, "No such file", id="missing"),
        pytest.param("a.mfc", b"", "truncated", id="zero bytes"),
        pytest.param("a.mfc", mfc(VALUES)[:-8], "its count says 91 values", id="truncated"),
        pytest.param("a.mfc", b"text " * 20, "no Sphinx feature file", id="text"),
        pytest.param("a.mfc", mfc(VALUES[:0]), "holds no frames", id="no frames"),
        pytest.param("a.mfc", mfc(VALUES[:2, :7]), "14 values are no frames of 13", id="width"),
        pytest.param("a.mfc", mfc(VALUES * np.nan), "NaN or infinite", id="NaN"),
        pytest.param("a.ark:0", None, "No such file", id="missing archive"),
        pytest.param("a.ark:0", kaldi_matrix(VALUES)[:-4], "truncated", id="truncated archive"),
        pytest.param("a.ark:9999", kaldi_matrix(VALUES), "truncated", id="offset beyond the end"),
        pytest.param("a.ark:0", b"utt1  [\n 1 2 ]\n", "no binary Kaldi matrix", id="text archive"),
        pytest.param("a.ark:0", b"\0BFV \4\1\0\0\0", "no kind of Kaldi matrix", id="a vector"),
        pytest.param("a.ark:0", kaldi_matrix(VALUES * np.inf), "NaN or inf", id="infinite archive"),
        pytest.param("a.ark:0", kaldi_matrix(VALUES[:0]), "holds no frames", id="empty matrix"),
        pytest.param(
            "a.ark:0",
            b"\0BFM " + struct.pack("<bibi", 4, -1, 4, -1) + b"abcd",
            "truncated",
            id="negative size",
        ),
        pytest.param(
            "a.ark:0",
            b"\0BFM " + struct.pack("<bibi", 4, 2**30, 4, 2**30),
            "truncated",
            id="a size that no memory holds",
        ),
        pytest.param(
            "a.ark:0",
            b"\0BCM " + struct.pack("<ffii", 0, 1, 9, 9),
            "truncated",
            id="truncated compressed archive",
        ),
    ],
)
def test_a_bad_feature_file_is_refused_by_name_and_cause(
    tmp_path: Path, name: str, content: bytes | None, cause: str
) -> None:
    path = tmp_path / name
    if content is not None:
        (tmp_path / name.partition(":")[0]).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_features(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert cause in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.mfc", True),
        ("b/raw_mfcc.1.ark:123", True),
        ("a.wav", False),
        ("a.ark", False),
        ("a.ark:x", False),
    ],
)
def test_feature_paths_are_known_by_their_names(name: str, expected: bool) -> None:
    assert is_feature_path(Path(name)) is expected


@pytest.mark.parametrize("compute", [Frontend.base, Frontend.forward])
def test_features_are_the_same_each_time(compute: Callable[..., tuple[Tensor, Tensor]]) -> None:
    waveforms, num_samples = random_waveforms(2, 20000), torch.tensor([20000, 12345])
    first, _ = compute(Frontend(FeatureConfig()), waveforms, num_samples)
    second, _ = compute(Frontend(FeatureConfig()), waveforms, num_samples)
    assert torch.equal(first, second)


def test_the_noise_floor_is_the_mean_energy_of_white_noise() -> None:
    config = FeatureConfig(sample_rate=8000, num_mel_bins=30, normalization="none")
    noise = 1e-3 * torch.randn(1, 400_000, generator=torch.Generator().manual_seed(0))
    features, _ = Frontend(config).base(noise, torch.tensor([400_000]))
    energies = features.exp().mean(dim=1)
    floored = Frontend(config.model_copy(update={"noise_floor_db": -60.0}))
    silence, _ = floored.base(torch.zeros(1, 8000), torch.tensor([8000]))
    torch.testing.assert_close(silence[0, 0].exp(), energies[0], rtol=0.05, atol=0)


@pytest.mark.parametrize("kind", ["fbank", "mfcc"])
def test_stored_energies_get_the_floor_that_those_of_audio_have(kind: str) -> None:
    config = FeatureConfig(kind=kind, sample_rate=8000, num_mel_bins=30)
    noise = 1e-4 * torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    stored, _ = Frontend(config).base(noise, torch.tensor([8000]))
    floored = Frontend(config.model_copy(update={"noise_floor_db": -60.0}))
    of_audio, _ = floored.base(noise, torch.tensor([8000]))
    assert (of_audio - stored).abs().max() > 0.5
    expected = of_audio if kind == "fbank" else stored  # cepstra stay as they are
    torch.testing.assert_close(floored.with_noise(stored), expected, rtol=0, atol=1e-4)
    assert torch.equal(Frontend(config).with_noise(stored), stored)
