import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.audio import read_audio
from asr.errors import AsrError, AudioError, ModelError
from asr.recognizer import Recognizer, Transcript
from tests.tones import RATE, TONES, write_corpus


@pytest.fixture(scope="module")
def recognizer(tone_run: Path) -> Recognizer:
    return Recognizer.load(tone_run / "model", device="cpu")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    utterances = write_corpus(tmp_path_factory.mktemp("files"), 6, seed=5)
    return [utterance.audio_filepath for utterance in utterances]


def samples_of(path: Path) -> np.ndarray:
    return read_audio(path, sample_rate=RATE).samples


def test_a_result_does_not_depend_on_what_else_is_in_the_batch(
    recognizer: Recognizer, files: list[Path]
) -> None:
    inputs = [samples_of(path) for path in files]
    for together, own in zip(recognizer.log_probs(inputs), inputs, strict=True):
        (alone,) = recognizer.log_probs([own])
        np.testing.assert_allclose(together, alone, atol=1e-5, rtol=0)


def test_many_files_give_what_each_gives_alone(recognizer: Recognizer, files: list[Path]) -> None:
    results = dict(recognizer.transcribe_all(files))
    assert list(results) == files
    for path, result in results.items():
        alone = recognizer.transcribe(path)
        assert isinstance(result, Transcript)
        assert result.text == alone.text
        assert [word.text for word in result.words] == result.text.split()


def test_words_lie_where_they_are_spoken(recognizer: Recognizer) -> None:
    time = np.arange(RATE) / RATE
    silence = np.zeros(RATE // 2)
    tone = {word: 0.3 * np.sin(2 * np.pi * f * time[: RATE // 4]) for word, f in TONES.items()}
    samples = np.concatenate([silence, tone["la"], silence, tone["mi"], silence])
    samples += 0.003 * np.random.default_rng(0).standard_normal(len(samples))
    transcript = recognizer.transcribe(samples, sample_rate=RATE)
    assert transcript.text == "la mi"
    la, mi = transcript.words
    assert la.start == pytest.approx(0.5, abs=0.2)
    assert mi.start == pytest.approx(1.25, abs=0.2)
    assert la.start < la.end <= mi.start < mi.end <= transcript.duration == 2.0
    assert 0.5 < la.confidence <= 1


def test_samples_of_another_rate_and_two_channels_are_taken(
    recognizer: Recognizer, files: list[Path], tmp_path: Path
) -> None:
    expected = recognizer.transcribe(files[0])
    samples = read_audio(files[0], sample_rate=44100).samples
    stereo = np.stack([samples, samples], axis=1)
    assert recognizer.transcribe(stereo, sample_rate=44100).text == expected.text
    soundfile.write(tmp_path / "stereo.flac", stereo, 44100)
    assert recognizer.transcribe(tmp_path / "stereo.flac").text == expected.text


def test_a_rate_below_the_models_is_warned_about(recognizer: Recognizer) -> None:
    transcript = recognizer.transcribe(np.zeros(4000, np.float32), sample_rate=4000)
    (warning,) = transcript.warnings
    assert "its rate of 4000 Hz is below the model's 8000 Hz" in warning


def test_a_bad_file_does_not_stop_the_others(
    recognizer: Recognizer, files: list[Path], tmp_path: Path
) -> None:
    empty = tmp_path / "empty.wav"
    empty.write_bytes(b"")
    short = tmp_path / "short.wav"
    soundfile.write(short, np.zeros(10), RATE)
    results = [r for _, r in recognizer.transcribe_all([files[0], empty, files[1], short])]
    assert [isinstance(result, AsrError) for result in results] == [False, True, False, True]
    assert "empty.wav" in str(results[1])
    assert "10 samples at 8000 Hz are less than one frame of 200" in str(results[3])


def test_samples_need_their_rate(recognizer: Recognizer) -> None:
    with pytest.raises(AudioError, match="sample_rate"):
        recognizer.transcribe(np.zeros(8000))


def test_a_copy_of_the_folder_alone_transcribes(
    tone_run: Path, files: list[Path], recognizer: Recognizer, tmp_path: Path
) -> None:
    shutil.copytree(tone_run / "model", tmp_path / "copy")
    copied = Recognizer.load(tmp_path / "copy", device="cpu")
    assert copied.transcribe(files[2]).text == recognizer.transcribe(files[2]).text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("weights.safetensors", b"", "weights cannot be read", id="empty weights"),
        pytest.param("weights.safetensors", b"\x80\x04pickle", "cannot be read", id="a pickle"),
        pytest.param("tokens.txt", b"<blank>\na\n", "do not fit config.yaml", id="other tokens"),
        pytest.param("config.yaml", b"encodr: {}", "did you mean encoder", id="misspelt key"),
        pytest.param("training.json", b"{", "not JSON", id="training.json"),
    ],
)
def test_a_damaged_folder_is_named(
    tone_run: Path, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tone_run / "model", folder)
    (folder / name).write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        Recognizer.load(folder, device="cpu")
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a model folder"):
        Recognizer.load(tmp_path, device="cpu")
