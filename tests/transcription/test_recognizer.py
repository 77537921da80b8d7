import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.audio.stream import read_audio
from asr.corpus import Utterance
from asr.errors import AsrError, AudioError, ModelError
from asr.text.tokens import TokenTable
from asr.transcription.pieces import LONGEST_SECONDS
from asr.transcription.recognizer import Recognizer
from asr.transcription.sources import Source
from asr.transcription.transcript import Alternative, Transcript, join_transcripts
from tests.tones import RATE, TONES, assert_certain, write_corpus


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
    samples = 0.1 * np.random.default_rng(0).standard_normal(4000)
    (warning,) = recognizer.transcribe(samples, sample_rate=4000).warnings
    assert warning.startswith("samples: its rate of 4000 Hz is below the model's 8000 Hz")


def long_speech(num_words: int, gap: float) -> tuple[np.ndarray, list[tuple[str, float, float]]]:
    """Samples, and words with their times; gaps of `gap` to twice as many seconds."""
    random = np.random.default_rng(1)
    parts: list[np.ndarray] = []
    words: list[tuple[str, float, float]] = []
    position = 0
    for word in random.choice(list(TONES), num_words):
        silence, length = random.integers(gap * RATE, 2 * gap * RATE), random.integers(1200, 2000)
        tone = 0.3 * np.sin(2 * np.pi * TONES[word] * np.arange(length) / RATE)
        parts += [np.zeros(silence), tone]
        words.append((str(word), (position + silence) / RATE, (position + silence + length) / RATE))
        position += silence + length
    samples = np.concatenate([*parts, np.zeros(800)])
    return samples + 0.003 * random.standard_normal(len(samples)), words


def assert_certain_of_long(
    recognizer: Recognizer,
    samples: np.ndarray,
    words: list[tuple[str, float, float]],
    path: Path,
) -> None:
    soundfile.write(path, samples, RATE)
    text = " ".join(word for word, _, _ in words)
    assert_certain(
        recognizer, [Utterance(id=path.name, audio_filepath=path, duration=0.0, text=text)]
    )


@pytest.mark.parametrize(
    "gap", [pytest.param(0.1, id="without pauses"), pytest.param(0.4, id="with pauses")]
)
def test_a_long_recording_gives_its_words_where_they_are(
    recognizer: Recognizer, gap: float, tmp_path: Path
) -> None:
    samples, words = long_speech(400, gap)
    assert len(samples) > 3 * LONGEST_SECONDS * RATE
    assert_certain_of_long(recognizer, samples, words, tmp_path / "certain.wav")
    transcript = recognizer.transcribe(samples, sample_rate=RATE)
    assert [word.text for word in transcript.words] == [word for word, _, _ in words]
    assert transcript.text == " ".join(word for word, _, _ in words)
    assert transcript.duration == len(samples) / RATE
    for found, (_, start, end) in zip(transcript.words, words, strict=True):
        assert found.start == pytest.approx(start, abs=0.2)
        assert found.end == pytest.approx(end, abs=0.2)


def test_progress_is_told_and_readings_of_several_pieces_are_joined(
    recognizer: Recognizer, files: list[Path], tmp_path: Path
) -> None:
    samples, words = long_speech(200, 0.3)
    path = tmp_path / "long.flac"
    assert_certain_of_long(recognizer, samples, words, path)
    told: list[tuple[str, float, float | None]] = []
    results = {
        source.id: result
        for source, result in recognizer.transcribe_sources(
            map(Source.of_file, (files[0], path)),
            watch=lambda source, done, all_: told.append((source.id, done, all_)),
        )
    }
    transcript = results[str(path)]
    assert isinstance(transcript, Transcript)
    assert transcript.text == " ".join(word for word, _, _ in words)
    seconds = len(samples) / RATE
    assert max(done for name, done, _ in told if name == str(path)) == pytest.approx(seconds)
    assert {total for name, _, total in told if name == str(path)} == {seconds}


def test_a_task_gives_the_same_bits_alone_and_in_a_job(
    recognizer: Recognizer, tmp_path: Path
) -> None:
    sources = [Source(utterance=u) for u in write_corpus(tmp_path / "speech", 23, seed=4)]
    starts = [0, 5, 6, 17]
    job = list(recognizer.transcribe_sources(sources, starts=starts))
    parts = [sources[i:j] for i, j in zip(starts, [*starts[1:], 23], strict=True)]
    alone = [result for part in parts for result in recognizer.transcribe_sources(part)]
    assert job == alone


def test_readings_of_a_long_recording_are_the_best_of_all_combinations() -> None:
    tokens = TokenTable(("<blank>", "a", " "))

    def part(*rows: tuple[str, float]) -> Transcript:
        nbest = tuple(Alternative(text=t, log_prob=s, score=s) for t, s in rows)
        return Transcript(text=rows[0][0], words=(), log_prob=0, duration=1, nbest=nbest)

    parts = [part(("a", -1), ("b", -3)), part(("", 0)), part(("c", -1), ("d", -1.5), ("e", -9))]
    joined = join_transcripts(parts, tokens, duration=3, nbest=3)
    assert joined.text == "a c"
    assert [(a.text, a.score) for a in joined.nbest] == [("a c", -2), ("a d", -2.5), ("b c", -4)]


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


@pytest.mark.parametrize("key", ["lm", "lexicon", "neural_lm"])
@pytest.mark.parametrize("how", ["absolute", "above", "link"])
def test_a_model_folder_names_no_files_outside_of_it(
    tone_run: Path, tmp_path: Path, key: str, how: str
) -> None:
    folder, outside = tmp_path / "model", tmp_path / "shadow"
    shutil.copytree(tone_run / "model", folder)
    outside.write_text("secret\n")
    (folder / "link").symlink_to(outside)
    name = {"absolute": str(outside), "above": "../shadow", "link": "link"}[how]
    (folder / "decoding.yaml").write_text(f"{{beam: 4, neural_share: 0.5, {key}: {name}}}\n")
    with pytest.raises(ModelError, match=f"decoding.yaml: {key}: .* not in the model") as caught:
        Recognizer.load(folder, device="cpu")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["config.yaml", "decoding.yaml", "training.json", "tokens.txt", "pronunciations.txt"]
)
def test_a_model_folders_files_are_no_links_out_of_it(
    tone_run: Path, tmp_path: Path, name: str
) -> None:
    folder, outside = tmp_path / "model", tmp_path / "shadow"
    shutil.copytree(tone_run / "model", folder)
    outside.write_text("secret: secret: secret\n")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(outside)
    with pytest.raises(ModelError, match=rf"{name} is not in the model folder") as caught:
        Recognizer.load(folder, device="cpu")
    assert "secret" not in str(caught.value)


def test_a_model_folders_configuration_has_no_base(tone_run: Path, tmp_path: Path) -> None:
    folder, outside = tmp_path / "model", tmp_path / "other.yaml"
    shutil.copytree(tone_run / "model", folder)
    outside.write_text("corpus: {remark: secret}\n")
    for name in ("config.yaml", "decoding.yaml"):
        before = (folder / name).read_text() if (folder / name).exists() else "beam: 4\n"
        (folder / name).write_text(f"base: ../other.yaml\n{before}")
        with pytest.raises(ModelError, match=f"{name}: base: only a recipe's"):
            Recognizer.load(folder, device="cpu")
        (folder / name).write_text(before)


_FORKED = """
import os, signal, sys
import numpy as np
from asr.errors import ModelError
from asr.transcription import Recognizer
recognizer = Recognizer.load(sys.argv[1], device="cpu", threads=2)
samples = np.random.default_rng(0).standard_normal(32000).astype(np.float32)
expected = recognizer.log_probs([samples] * 8)
if os.fork() == 0:
    signal.alarm(20)  # in place of waiting for ever
    found = recognizer.log_probs([samples] * 8)
    print(max(np.abs(a - b).max() for a, b in zip(expected, found)) < 1e-4, recognizer.threads)
    Recognizer.load(sys.argv[1], device="cpu").transcribe(samples, sample_rate=8000)
    try:
        Recognizer.load(sys.argv[1], device="cpu", threads=2)
    except ModelError as error:
        print(error)
    sys.exit()
assert os.wait()[1] == 0
print(recognizer.threads, Recognizer.load(sys.argv[1], device="cpu", threads=3).threads)
"""


def test_a_forked_process_can_use_the_model_on_one_thread(tone_run: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FORKED, str(tone_run / "model")],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    same, refusal, parent = done.stdout.splitlines()
    assert same == "True 1"
    assert refusal.startswith("2 threads: a process that was forked after a model was loaded has")
    assert parent == "2 3"
