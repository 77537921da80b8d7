"""Neural voices, by models of a few nodes that sherpa-onnx takes for real ones.

Each says one tone for all of a text's symbols: the symbols' numbers are its loudness, the speaker
is its pitch. `ASR_VOICES` names a folder with folders of real ones.
"""

# ruff: noqa: RUF001
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asr.cli import main
from asr.config import SynthesisConfig
from asr.corpus import espeak_voices, read_manifest, synthesis, voices
from asr.corpus.neural import write_phones
from asr.corpus.neural_voices import NeuralVoices
from asr.errors import DataError

onnx = pytest.importorskip("onnx")
pytest.importorskip("sherpa_onnx")
pytest.importorskip("espeakng_loader")

RATE = 16000
SYMBOLS = {s: n for n, s in enumerate("_^$ ˈˌsɛvənɪtuːθɹiwʌoʊfaɔhʔɐbdklmprzðŋʃʒæɑɚɜ,.")}


def write_voice(folder: Path, kind: str, num_speakers: int = 3, noise: float = 0.0) -> Path:
    """A folder with a model of 700 samples a symbol; its speakers are tones of 100 Hz and up."""
    folder.mkdir(parents=True)
    is_vits = kind in ("piper", "vits")
    make, tensor = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    ids, length = ("input", "scale") if is_vits else ("tokens", "slowness")
    if is_vits:
        inputs = [
            tensor("input", onnx.TensorProto.INT64, [1, "T"]),
            tensor("input_lengths", onnx.TensorProto.INT64, [1]),
            tensor("scales", onnx.TensorProto.FLOAT, [3]),
            tensor("sid", onnx.TensorProto.INT64, [1]),
        ]
        head = [
            make("Gather", ["scales", "one"], ["scale"]),
            make("Cast", ["sid"], ["speaker"], to=onnx.TensorProto.FLOAT),
            make("Identity", ["input_lengths"], ["unused"]),
        ]
    else:
        inputs = [
            tensor("tokens", onnx.TensorProto.INT64, [1, "T"]),
            tensor("style", onnx.TensorProto.FLOAT, [1, 2]),
            tensor("speed", onnx.TensorProto.FLOAT, [1]),
        ]
        head = [
            make("Gather", ["style", "zero"], ["styles"], axis=1),
            make("Reshape", ["styles", "scalar"], ["speaker"]),
            make("Reciprocal", ["speed"], ["slow"]),
            make("Reshape", ["slow", "scalar"], ["slowness"]),
        ]
    nodes = [
        *head,
        make("Mul", ["size", length], ["end"]),
        make("Range", ["start", "end", "step"], ["samples"]),
        make("Add", ["speaker", "step"], ["number"]),
        make("Mul", ["number", "radians"], ["rate"]),
        make("Mul", ["samples", "rate"], ["phase"]),
        make("Sin", ["phase"], ["tone"]),
        make("Cast", [ids], ["float_ids"], to=onnx.TensorProto.FLOAT),
        make("Reshape", ["float_ids", "column"], ["loudness"]),
        make("Mul", ["loudness", "tone"], ["wave"]),
        make("RandomNormalLike", ["wave"], ["random"], scale=noise),
        make("Add", ["wave", "random"], ["noisy"]),
        make("Mul", ["noisy", "level"], ["quiet"]),
        make("Reshape", ["quiet", "flat"], ["output"]),
    ]
    number, array = onnx.TensorProto.FLOAT, onnx.numpy_helper.from_array
    constants = {
        "zero": np.array([0]),
        "one": np.array(1),
        "scalar": np.zeros(0, np.int64),
        "column": np.array([-1, 1]),
        "flat": np.array([1, 1, -1] if is_vits else [-1]),
        "start": np.array(0, np.float32),
        "step": np.array(1, np.float32),
        "size": np.array(700, np.float32),
        "radians": np.array(2 * np.pi * 100 / RATE, np.float32),
        "level": np.array(0.01, np.float32),
    }
    graph = onnx.helper.make_graph(
        nodes,
        kind,
        inputs,
        [tensor("output", number, None)],
        [array(value, name) for name, value in constants.items()],
    )
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8
    )
    metadata = {"sample_rate": RATE, "n_speakers": num_speakers, "has_espeak": 1, "voice": "en-us"}
    if kind == "piper":
        settings = {
            "audio": {"sample_rate": RATE},
            "espeak": {"voice": "en-us"},
            "num_speakers": num_speakers,
            "phoneme_id_map": {symbol: [number] for symbol, number in SYMBOLS.items()},
        }
        (folder / "voice.onnx.json").write_text(json.dumps(settings))
    else:
        lines = "".join(f"{symbol} {number}\n" for symbol, number in SYMBOLS.items())
        (folder / "tokens.txt").write_text(lines)
        if kind == "vits":
            metadata |= {"comment": "piper", "language": "English"}
        else:
            size = [40, 1, 2] if kind == "kokoro" else [1, 2]
            metadata |= {"style_dim": ",".join(map(str, size)), "version": 1}
            metadata["model_type"] = "kokoro" if kind == "kokoro" else "kitten-tts"
            styles = np.arange(num_speakers, dtype="<f4").reshape(-1, *[1] * len(size))
            np.broadcast_to(styles, (num_speakers, *size)).astype("<f4").tofile(
                folder / "voices.bin"
            )
        onnx.helper.set_model_props(model, {k: str(v) for k, v in metadata.items()})
    onnx.save(model, folder / "voice.onnx")
    return folder


def settings(*folders: Path, **values: Any) -> SynthesisConfig:
    sizes = {"hours": 0.005, "num_dev": 5, "num_test": 6, "num_voices": 40, "seed": 1}
    return SynthesisConfig.model_validate({"voice_models": folders, **sizes, **values})


def draw(split: voices.Split, voice: voices.Voice, rng: np.random.Generator) -> Any:
    del split, voice
    text = "seven" if rng.random() < 0.5 else "two three"
    return synthesis.Sentence(text=text, spoken=text)


def pitch(samples: np.ndarray[Any, Any], rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 1 << 16))
    return float(spectrum.argmax() * rate / (1 << 16))


def contents(folder: Path) -> dict[Path, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder): path.read_bytes() for path in files}


def test_speakers_are_kept_apart_and_one_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    voice = write_voice(tmp_path / "tones", "piper", num_speakers=10, noise=5.0)
    for name in ("one", "again"):
        synthesis.speak_corpus(tmp_path / name, settings(voice), ("en-us",), draw)
    assert contents(tmp_path / "one") == contents(tmp_path / "again")
    parts = {split: read_manifest(tmp_path / f"one/{split}.jsonl") for split in voices.SPLITS}
    speakers = [{u.speaker for u in part} for part in parts.values()]
    assert [len(each) for each in speakers] == [8, 1, 1]
    assert len(set.union(*speakers)) == 10
    assert {u.text for u in parts["train"]} == {"seven", "two three"}


@pytest.mark.parametrize("kind", ["piper", "vits", "kokoro", "kitten"])
def test_every_kind_speaks_as_the_speaker_and_as_fast_as_it_is_told(
    kind: str, tmp_path: Path
) -> None:
    config = settings(write_voice(tmp_path / kind, kind), speeds=(0.5, 2.0), speakers=(0, 2))
    engine = NeuralVoices.of(config, ("en-us", "de"))
    rng = np.random.default_rng(1)
    cast = engine.cast("train", 100, rng)
    assert sorted(v.name for v in cast) == [*[f"{kind}-0"] * 2, *[f"{kind}-2"] * 2]
    with engine.speaking(1) as say:
        for voice in cast:
            samples = say(voice, "seven", rng, RATE)
            # Kokoro and Kitten hear one symbol more or less than there are, at either end.
            num_symbols = len(samples) / 700 * voice.settings["speed"]
            assert 5 <= num_symbols <= 20
            hertz = 100 * (1 + voice.settings["speaker"])
            assert pitch(samples, RATE) == pytest.approx(hertz, abs=15)


@pytest.mark.parametrize("kind", ["kokoro", "kitten"])
def test_speakers_mixed_of_two_are_between_them_and_learnt_from_only(
    kind: str, tmp_path: Path
) -> None:
    engine = NeuralVoices.of(
        settings(write_voice(tmp_path / kind, kind, num_speakers=10), blends=3), ("en-us",)
    )
    rng = np.random.default_rng(1)
    assert len(engine.cast("dev", 100, rng)) == len(engine.cast("test", 100, rng)) == 1
    train = engine.cast("train", 100, rng)
    assert len(train) == 8 + 3
    mixed = [voice for voice in train if voice.settings["speaker"] >= 10]
    kept_apart = {s.number for split in ("dev", "test") for s in engine.splits[split]}
    assert len(kept_apart) == 2
    with engine.speaking(1) as say:
        for voice in mixed:
            blend = engine.blends[0][voice.settings["speaker"] - 10]
            assert not {blend.first, blend.second} & kept_apart
            number = blend.share * blend.first + (1 - blend.share) * blend.second
            hertz = pitch(say(voice, "two three", rng, RATE), RATE)
            assert hertz == pytest.approx(100 * (1 + number), abs=13)


def test_another_seed_is_another_noise(tmp_path: Path) -> None:
    voice = write_voice(tmp_path / "tones", "piper", noise=5.0)
    engine = NeuralVoices.of(settings(voice), ("en-us",))
    rng = np.random.default_rng(1)
    spoken = []
    for seed in (1, 2):
        with engine.speaking(seed) as say:
            spoken.append(say(engine.cast("dev", 1, np.random.default_rng(1))[0], "two", rng, RATE))
    assert len(spoken[0]) == len(spoken[1])
    assert not np.array_equal(*spoken)


def test_both_engines_speak_by_the_share(tmp_path: Path) -> None:
    voice = write_voice(tmp_path / "tones", "piper")
    config = settings(voice, espeak_share=0.5, hours=0.01)
    utterances = synthesis.speak_training_set(tmp_path, config, espeak_voices.ENGLISH, draw)
    neural = sum(str(u.speaker).startswith("tones-") for u in utterances)
    assert 0.25 < neural / len(utterances) < 0.75


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-150])


BAD = {
    "no folder": (lambda f: f / "nowhere", {}, "nowhere: no such folder"),
    "empty": (lambda f: f, {}, "no voice in it"),
    "damaged": (lambda f: damage(write_voice(f / "v", "piper") / "voice.onnx"), {}, "damaged"),
    "damaged description": (
        lambda f: damage(write_voice(f / "v", "piper") / "voice.onnx.json"),
        {},
        "voice.onnx.json: damaged",
    ),
    "damaged speakers": (
        lambda f: damage(write_voice(f / "v", "kokoro") / "voices.bin"),
        {},
        "voices.bin: damaged",
    ),
    "two": (
        lambda f: (write_voice(f / "v", "piper") / "b.onnx").write_bytes(b""),
        {},
        "several models",
    ),
    "no metadata": (
        lambda f: onnx.save(
            onnx.helper.make_model(onnx.load(write_voice(f / "v", "vits") / "voice.onnx").graph),
            f / "v" / "voice.onnx",
        ),
        {},
        "its metadata do not say sample_rate, n_speakers",
    ),
    "no tokens": (
        lambda f: (write_voice(f / "v", "vits") / "tokens.txt").unlink(),
        {},
        "neither tokens.txt nor voice.onnx.json",
    ),
    "no such speaker": (
        lambda f: write_voice(f / "v", "kokoro"),
        {"speakers": [1, 3]},
        "no speaker 3; it has 3, 0 to 2",
    ),
    "no vectors": (lambda f: write_voice(f / "v", "piper"), {"blends": 2}, "no vectors"),
}


@pytest.mark.parametrize("case", list(BAD))
def test_a_bad_folder_is_one_line_that_names_it(case: str, tmp_path: Path) -> None:
    prepare, values, message = BAD[case]
    folder = prepare(tmp_path)
    if not isinstance(folder, Path):
        folder = tmp_path / "v"
    with pytest.raises(DataError, match=message) as raised:
        NeuralVoices.of(settings(folder, **values), ("en-us",))
    assert str(tmp_path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_cannot_be_said_is_one_line(tmp_path: Path) -> None:
    engine = NeuralVoices.of(settings(write_voice(tmp_path / "v", "piper")), ("en-us", "xx"))
    rng = np.random.default_rng(1)
    cast = {voice.accent: voice for voice in engine.cast("dev", 9, rng)}
    with engine.speaking(1) as say:
        with pytest.raises(DataError, match=r"voice en-us\+v-\d says nothing: '\.\.\.'"):
            say(cast["en-us"], "...", rng, RATE)
        with pytest.raises(DataError, match=r"has no voice 'xx\+v-\d'"):
            say(cast["xx"], "seven", rng, RATE)


def test_a_model_that_sherpa_does_not_take_is_its_last_words(tmp_path: Path) -> None:
    folder = write_voice(tmp_path / "v", "vits")
    network = onnx.load(folder / "voice.onnx")
    network.graph.node[-1].op_type = "NoSuchThing"
    onnx.save(network, folder / "voice.onnx")
    engine = NeuralVoices.of(settings(folder), ("en-us",))
    rng = np.random.default_rng(1)
    voice = engine.cast("dev", 1, rng)[0]
    with (
        pytest.raises(DataError, match=r"sherpa-onnx stopped: .*NoSuchThing"),
        engine.speaking(1) as say,
    ):
        say(voice, "seven", rng, RATE)


@pytest.mark.parametrize(
    ("style", "written"),
    [("ipa", "tʃˈeɪndʒ"), ("kokoro", "ʧˈAnʤ"), ("piper", "tʃˈeɪndʒ")],
)
def test_phones_are_written_as_the_model_knows_them(style: str, written: str) -> None:
    symbols = frozenset("tʃˈeɪndʒʧAʤ ")
    assert write_phones("tʃˈeɪndʒ ", style, symbols) == written


def test_marks_of_phones_that_a_model_has_by_themselves_are_split_off() -> None:
    symbols = frozenset({"c", "\u0327", "ç", "a"})
    assert write_phones("ça\u1d91", "piper", symbols) == "c\u0327a"
    assert write_phones("ça", "ipa", symbols) == "ça"
    assert write_phones("ç", "ipa", symbols - {"ç"}) == "c\u0327"


def test_init_lets_neural_voices_speak(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sentences = tmp_path / "sentences.txt"
    sentences.write_text("seven\ntwo three\n")
    arguments = ["init", str(tmp_path / "own"), "--text", str(sentences), "--init", "none"]
    assert main([*arguments, "--voice-model", str(tmp_path / "nowhere")]) == 2
    assert "nowhere: no such folder" in capsys.readouterr().err
    assert not (tmp_path / "own").exists()
    folders = [write_voice(tmp_path / name, "piper") for name in ("a", "b")]
    options = [option for folder in folders for option in ("--voice-model", str(folder))]
    assert main([*arguments, *options, "--hours", "0.002", "--voices", "9"]) == 0
    small = ["--set", "corpus.num_dev=2", "--set", "corpus.num_test=2", "--to", "prepare"]
    work = tmp_path / "work"
    assert main(["run", str(tmp_path / "own"), "--work", str(work), *small]) == 0
    speakers = {u.speaker for u in read_manifest(work / "manifests/train.jsonl")}
    assert speakers <= {f"{name}-{number}" for name in "ab" for number in range(3)}
    audio = ["init", str(tmp_path / "x"), "--audio", str(tmp_path), "--voice-model", "a"]
    assert main(audio) == 2


def test_real_voices_speak_seven_distinctly(tmp_path: Path) -> None:
    top = os.environ.get("ASR_VOICES")
    folders = sorted(path for path in Path(top).iterdir() if path.is_dir()) if top else []
    if not folders:
        pytest.skip("no neural voices: set ASR_VOICES to a folder with folders of them")
    del tmp_path
    for folder in folders:
        engine = NeuralVoices.of(settings(folder, speeds=(1.0, 1.0)), ("en-us",))
        rng = np.random.default_rng(1)
        with engine.speaking(1) as say:
            spoken = [say(v, "seven", rng, RATE) for v in engine.cast("train", 2, rng)]
        for samples in spoken:
            assert 0.2 < len(samples) / RATE < 2
            assert np.sqrt(np.mean(samples**2)) > 0.005
