"""A model as a page: the site's files, its recognizer against Python's, and a browser."""

import functools
import http.server
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr

from asr.audio import read_audio
from asr.cli import main
from asr.config import ConfidenceConfig, DecodingConfig
from asr.decoding import Hypothesis, greedy, options
from asr.errors import AsrError, ModelError
from asr.model.export import export_model, export_web
from asr.model.export.web import RUNTIME_FILES
from asr.text import TokenTable
from asr.transcription import Recognizer
from asr.transcription.transcript import make_transcript
from tests import tones
from tests.conftest import ROOT
from tests.transcription import test_live

ASSETS = ROOT / "asr" / "assets" / "web"
WIDTH = 6
STEP = 0.03

# Gives log-probabilities back that are written beside it, whatever it hears.
_RUNTIME = """
import { readFileSync } from "node:fs";
export const env = { wasm: {} };
export class Tensor { constructor(type, data, dims) { Object.assign(this, { type, data, dims }); } }
const values = readFileSync(new URL("../scores.f32", import.meta.url));
const [first, last] = [values.byteOffset, values.byteOffset + values.length];
const data = new Float32Array(values.buffer.slice(first, last));
export const InferenceSession = { create: async () => ({ run: async ({ num_samples: count }) => ({
  log_probs: { data, dims: [1, data.length / WIDTH, WIDTH] },
  num_steps: { data: BigInt64Array.of(BigInt(data.length / WIDTH)) },
  count,
}) }) };
"""

_DRIVER = """
import { readFileSync } from "node:fs";
const load = (name) => readFileSync(new URL(name, import.meta.url));
globalThis.fetch = async (address) => new Response(load(address.pathname.split("/").at(-1)));
const code = await import("./recognizer.js");
const task = JSON.parse(load("task.json"));

function split(samples, sizes) {
  const all = Float32Array.from(samples);
  let place = 0;
  const parts = sizes.map((size) => all.slice(place, (place += size)));
  return [...parts, all.slice(place)];
}

async function listen({ samples, sizes, rate }) {
  const recognizer = await code.load();
  const whole = await recognizer.recognize(Float32Array.from(samples), rate);
  const stream = recognizer.stream(rate);
  const told = [];
  for (const part of split(samples, sizes)) told.push(await stream.accept(part));
  return { whole, told: [...told, await stream.finish()] };
}

// A network that hears in the first sample of each step which token it is.
class Spoken {
  held = [];
  constructor({ step, model }) {
    Object.assign(this, { step, width: model.symbols.length });
  }
  accept(samples, last = false) {
    this.held.push(...samples);
    const rest = last && this.held.length % this.step > 0 ? 1 : 0;
    const count = Math.floor(this.held.length / this.step) + rest;
    const logs = new Float32Array(count * this.width).fill(Math.log(0.1));
    for (let i = 0; i < count; i++) {
      logs[i * this.width + Math.round(10 * this.held[i * this.step])] = Math.log(0.7);
    }
    this.held = this.held.slice(count * this.step);
    return logs;
  }
}
const answers = [];
for (const { name, values } of task) {
  if (name === "recognize") {
    const recognizer = await code.load();
    answers.push(await recognizer.recognize(new Float32Array(values.length), values.rate));
  } else if (name === "resample") {
    answers.push([...code.resample(Float32Array.from(values.samples), values.from, values.to)]);
  } else if (name === "resample in portions") {
    const { Resampler } = await import("./resampler.js");
    const resampler = new Resampler(values.from, values.to);
    const parts = split(values.samples, values.sizes).map((part) => [...resampler.accept(part)]);
    answers.push([...parts.flat(), ...resampler.finish()]);
  } else if (name === "listen") {
    answers.push(await listen(values));
  } else if (name === "listen to what is said") {
    const { LiveStream } = await import("./live.js");
    let opened = 0;
    const open = () => {
      opened += 1;
      return new Spoken(values);
    };
    const stream = new LiveStream(values.model, open, values.model.sampleRate);
    const told = [];
    for (const part of split(values.samples, values.sizes)) told.push(await stream.accept(part));
    answers.push({ told: [...told, await stream.finish()], opened });
  } else {
    answers.push(code.pieces(Float32Array.from(values.samples), values.rate));
  }
}
console.log(JSON.stringify(answers));
"""


def run_script(folder: Path, tasks: list[dict[str, Any]]) -> list[Any]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    (folder / "driver.mjs").write_text(_DRIVER)
    (folder / "task.json").write_text(json.dumps(tasks))
    done = subprocess.run(
        [node, "driver.mjs"], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    answers: list[Any] = json.loads(done.stdout)
    return answers


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    folder = tmp_path / "scripts"
    (folder / "runtime").mkdir(parents=True)
    for name in ("recognizer.js", "words.js", "live.js", "resampler.js"):
        shutil.copy(ASSETS / name, folder)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "runtime" / "ort.wasm.min.mjs").write_text(_RUNTIME.replace("WIDTH", str(WIDTH)))
    (folder / "model.onnx").write_bytes(b"-")
    (folder / "scores.f32").write_bytes(b"")
    return folder


@pytest.mark.parametrize("fitted", [False, True])
@pytest.mark.parametrize(
    "symbols",
    [
        pytest.param(("<blank>", "a", " ", "b", "c", "d"), id="characters"),
        pytest.param(("<blank>", "\u2581a", "\u2581", "b", "\u2581cd", "d"), id="pieces of words"),
        pytest.param(("<blank>", "a", "b", "c", "d", "e"), id="no spaces"),
    ],
)
def test_words_times_and_confidences_are_those_of_python(
    scripts: Path, symbols: tuple[str, ...], fitted: bool
) -> None:
    rng = np.random.default_rng(2)
    scores = rng.normal(size=(400, WIDTH)) * 3
    log_probs = (scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))).astype("<f4")
    (scripts / "scores.f32").write_bytes(log_probs.tobytes())
    tokens = TokenTable(symbols)
    curve = ((0.3, 0.1), (0.5, 0.1), (0.6, 0.45), (0.7, 0.8))
    map_ = ConfidenceConfig(bias=1.0, weights=(0.5, 0.1, -0.7, 0.2), curve=curve)
    calibration = map_ if fitted else None
    model = {
        "sampleRate": 16000, "stepSeconds": STEP, "shortest": 400, "symbols": symbols,
        "separator": tokens.separator, "isPhones": False,
        "confidence": calibration and calibration.model_dump(mode="json"),
    }  # fmt: skip
    (scripts / "model.json").write_text(json.dumps(model))
    values = {"length": 16000 * 12, "rate": 16000}
    (said,) = run_script(scripts, [{"name": "recognize", "values": values}])
    best: Hypothesis = greedy(log_probs)
    expected = make_transcript(
        [best], log_probs, tokens, start=0, step_seconds=STEP, nbest=1, calibration=calibration
    )
    assert len(expected.words) >= (1 if not tokens.separator else 30)
    assert said["text"] == expected.text
    assert said["duration"] == 12
    for word, other in zip(said["words"], expected.words, strict=True):
        assert word["text"] == other.text
        assert word["start"] == pytest.approx(other.start)
        assert word["end"] == pytest.approx(other.end)
        assert word["confidence"] == pytest.approx(other.confidence, abs=1e-5)


@pytest.mark.parametrize(("one", "other"), [(48000, 16000), (8000, 16000), (44100, 16000)])
def test_resampling_keeps_what_both_rates_have_and_nothing_else(
    scripts: Path, one: int, other: int
) -> None:
    times = np.arange(one // 4) / one
    kept = np.sin(2 * np.pi * 440 * times) + 0.5 * np.sin(2 * np.pi * 2900 * times)
    samples = kept + (0.5 * np.sin(2 * np.pi * 11000 * times) if one > 2 * 11000 else 0)
    values = {"samples": samples.tolist(), "from": one, "to": other}
    (answer,) = run_script(scripts, [{"name": "resample", "values": values}])
    expected = soxr.resample(samples, one, other)
    inner = slice(other // 50, -other // 50)
    assert abs(len(answer) - len(expected)) <= 1
    difference = np.array(answer)[: len(expected)][inner] - expected[: len(answer)][inner]
    assert np.sqrt((difference**2).mean()) < 0.003


@pytest.mark.parametrize(("one", "other"), [(48000, 16000), (8000, 16000), (44100, 8000)])
def test_resampling_in_portions_is_that_of_the_whole(scripts: Path, one: int, other: int) -> None:
    samples = np.random.default_rng(1).normal(size=7000).tolist()
    values = {"samples": samples, "from": one, "to": other}
    tasks = [{"name": "resample", "values": values}]
    for sizes in ([], [1, 0, 80, 1, 6000], [300] * 20, [6999]):
        tasks.append({"name": "resample in portions", "values": {**values, "sizes": sizes}})
    whole, *portions = run_script(scripts, tasks)
    assert len(whole) == round(7000 * other / one)
    for samples in portions:
        assert samples == pytest.approx(whole, abs=1e-6)


def test_what_is_said_live_is_what_python_says(scripts: Path) -> None:
    """Pauses, speech without end, and a network that begins afresh."""
    tokens, step = test_live.TOKENS, test_live.STEP
    model = {
        "sampleRate": test_live.RATE, "stepSeconds": step / test_live.RATE,
        "symbols": tokens.symbols, "separator": tokens.separator, "isPhones": False,
        "confidence": None,
    }  # fmt: skip
    speech = test_live.speech
    spoken = [
        speech(0.5, "ab ba", 0.6, " a", 1.0, "b", 3.0, "aa"),
        speech("ab", test_live.LONGEST_SECONDS - 2, "ab", 1.0, "b", 3.0, "ba", 1.0),
        speech(*[part for _ in range(40) for part in ("ab ba", 0.3, " ab", 0.5)]),
        speech("ab" * 1200),
    ]
    tasks = []
    for best, size in zip(spoken, (4000, 700, 30_000, 8000), strict=True):
        samples = np.repeat(np.array(best, np.float32) / 10, step)
        sizes = [size] * (len(samples) // size)
        values = {"samples": samples.tolist(), "sizes": sizes, "step": step, "model": model}
        tasks.append({"name": "listen to what is said", "values": values})
    for best, task, answer in zip(spoken, tasks, run_script(scripts, tasks), strict=True):
        opened: list[test_live.Spoken] = []
        transcripts, texts = test_live.listen(best, task["values"]["sizes"], opened)
        assert answer["opened"] == len(opened)
        assert [said["text"] for said in answer["told"]] == texts
        words = [word for said in answer["told"] for word in said["words"]]
        expected = [word for transcript in transcripts for word in transcript.words]
        assert [word["text"] for word in words] == [word.text for word in expected]
        for mine, other in zip(words, expected, strict=True):
            assert mine["start"] == pytest.approx(other.start)
            assert mine["end"] == pytest.approx(other.end)
            assert mine["confidence"] == pytest.approx(other.confidence, abs=1e-5)


def test_long_audio_is_cut_where_it_is_quiet_and_short_is_not(scripts: Path) -> None:
    rate = 1000
    rng = np.random.default_rng(4)
    sound = rng.normal(size=100 * rate) * 0.1
    for second in (21, 55):
        sound[second * rate : second * rate + 300] = 0
    tasks = [
        {"name": "pieces", "values": {"samples": part.tolist(), "rate": rate}}
        for part in (sound, sound[: 40 * rate])
    ]
    long, short = run_script(scripts, tasks)
    assert short == [[0, 40 * rate]]
    assert [bounds[0] for bounds in long[1:]] == [bounds[1] for bounds in long[:-1]]
    assert (long[0][0], long[-1][1]) == (0, 100 * rate)
    assert 21 * rate <= long[0][1] <= 21 * rate + 300
    assert 55 * rate <= long[1][1] <= 55 * rate + 300


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    """As the npm package is unpacked; the code in it is none."""
    folder = tmp_path / "npm" / "package"
    (folder / "dist").mkdir(parents=True)
    for name in RUNTIME_FILES:
        (folder / "dist" / name).write_text(name)
    (folder / "package.json").write_text('{"version": "1.2.3", "license": "MIT"}')
    return folder.parent


def test_a_site_has_its_network_its_runtime_and_a_card(
    tone_run: Path, runtime: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, site = tmp_path / "to<nes>", tmp_path / "site"
    shutil.copytree(tone_run / "model", model)
    assert main(["export", str(model), "--format", "web", "--runtime", str(runtime),
                 "--output", str(site)]) == 0  # fmt: skip
    assert "exported" in capsys.readouterr().out
    about = (site / "runtime" / "README.txt").read_text()
    assert about.startswith("onnxruntime-web 1.2.3, licence MIT")
    page = (site / "index.html").read_text()
    assert "to&lt;nes&gt;" in page
    assert "to<nes>" not in page
    assert "Training utterances" in page
    recognizer = Recognizer.load(model, device="cpu")
    described = json.loads((site / "model.json").read_text())
    assert tuple(described["symbols"]) == recognizer.tokens.symbols
    assert described["stepSeconds"] == recognizer.step_seconds
    kept = (site / "offline.js").read_text()
    for name in ("model.onnx", "runtime/ort-wasm-simd-threaded.wasm", "index.html", "web.css"):
        assert f'"{name}"' in kept
        assert (site / name).is_file()
    # All that the scripts import is there, and nothing is asked of another address.
    for script in site.glob("*.js"):
        assert "http" not in script.read_text(encoding="utf-8").replace("https or of this", "")
    # Written anew over itself; a stranger's file is not.
    export_web(model, site, runtime=runtime)
    (site / "mine.txt").write_text("x")
    with pytest.raises(AsrError, match=r"mine\.txt"):
        export_web(model, site, runtime=runtime)


def test_the_map_of_a_beam_search_is_not_the_pages(
    tone_run: Path, runtime: Path, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(tone_run / "model", tmp_path / "model"))
    fitted = ConfidenceConfig(bias=1.0, weights=(1.0, 0.0, 0.0, 0.0))
    for beam, expected in ((1, fitted.model_dump(mode="json")), (8, None)):
        options.write_settings(model, DecodingConfig(beam=beam, confidence=fitted))
        site = tmp_path / f"site{beam}"
        export_web(model, site, runtime=runtime)
        assert json.loads((site / "model.json").read_text())["confidence"] == expected


def test_without_the_runtime_or_beside_other_options_it_is_refused(
    tone_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tone_run / "model"
    with pytest.raises(ModelError, match=r"npm pack onnxruntime-web"):
        export_web(model, tmp_path / "site", runtime=tmp_path)
    assert not (tmp_path / "site").exists()
    for arguments in (
        ["--format", "web"],
        ["--runtime", "x"],
        ["--format", "web", "--runtime", "x", "--input", "features"],
        ["--format", "web", "--runtime", "x", "--check", "dev.jsonl"],
    ):
        assert main(["export", str(model), *arguments]) == 2
        assert capsys.readouterr().err


@pytest.fixture
def package() -> Path:
    """The npm package onnxruntime-web."""
    folder = os.environ.get("ASR_ONNXRUNTIME_WEB")
    if not folder:
        pytest.skip("ASR_ONNXRUNTIME_WEB does not name the npm package onnxruntime-web")
    return Path(folder)


@contextmanager
def serving(site: Path) -> Iterator[str]:
    """The address of a site."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        extensions_map = {  # noqa: RUF012
            ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm",
            ".html": "text/html", ".css": "text/css", ".json": "application/json",
        }  # fmt: skip

        def log_message(self, *_: object) -> None:
            """Nothing."""

    handler = functools.partial(Quiet, directory=str(site))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def served(tone_run: Path, package: Path, tmp_path: Path) -> Iterator[str]:
    """The address of a site with the real runtime."""
    export_web(tone_run / "model", tmp_path / "site", runtime=package)
    with serving(tmp_path / "site") as address:
        yield address


@contextmanager
def browsing(address: str, microphone: Path) -> Iterator[tuple[Any, list[str]]]:
    """A page of Chromium whose microphone hears a file, ready; and what went wrong in it."""
    api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=[
                "--no-sandbox", "--use-fake-ui-for-media-stream",
                "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-audio-capture={microphone}",
            ],
        )  # fmt: skip
        page = browser.new_page()
        troubles: list[str] = []
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.goto(address)
        page.get_by_text("Ready").wait_for(timeout=60_000)
        yield page, troubles
        browser.close()


def test_a_network_of_one_direction_says_live_what_python_says(
    live_model: Path, package: Path, tmp_path: Path
) -> None:
    """With the real runtime, and the same text of the whole."""
    site = tmp_path / "site"
    export_web(live_model, site, runtime=package)
    assert not (site / "model.onnx").exists()
    (site / "package.json").write_text('{"type": "module"}')
    export_model(live_model, tmp_path / "exported")
    recognizer = Recognizer.load(tmp_path / "exported")
    utterances = tones.write_corpus(tmp_path / "audio", 4, seed=5, longest_pause=0.8)
    silence = np.zeros(tones.RATE, np.float32)
    said = [read_audio(u.audio_filepath, sample_rate=tones.RATE).samples for u in utterances]
    samples = np.concatenate([part for speech in said for part in (speech, silence)])
    sizes = [800] * (len(samples) // 800)
    values = {"samples": samples.tolist(), "rate": tones.RATE, "sizes": sizes}
    (heard,) = run_script(site, [{"name": "listen", "values": values}])
    stream = recognizer.stream()
    portions = test_live.in_portions(samples, sizes)
    expected = [*(stream.accept(portion) for portion in portions), stream.finish()]
    assert [told["text"] for told in heard["told"]] == [result.text for result in expected]
    words = [word for told in heard["told"] for word in told["words"]]
    others = [word for result in expected for part in result.finished for word in part.words]
    assert len(words) > 4
    assert [word["text"] for word in words] == [word.text for word in others]
    starts = [word.start for word in others]
    assert [word["start"] for word in words] == pytest.approx(starts)
    whole = recognizer.transcribe(samples, sample_rate=tones.RATE)
    assert heard["whole"]["text"] == whole.text


def test_a_page_shows_text_while_it_is_said(
    live_model: Path, package: Path, tmp_path: Path
) -> None:
    export_web(live_model, tmp_path / "site", runtime=package)
    (utterance,) = tones.write_corpus(tmp_path / "audio", 1, seed=6)
    audio = utterance.audio_filepath
    text = Recognizer.load(live_model, device="cpu").transcribe(audio).text
    with serving(tmp_path / "site") as address, browsing(address, audio) as (page, troubles):
        assert not page.is_visible("#wave")
        page.set_input_files("#file", str(audio))
        page.get_by_text("words in").wait_for(timeout=30_000)
        assert page.is_visible("#wave")
        assert page.inner_text("#words").split() == text.split()
        page.click("#record")
        page.get_by_text("Listening").wait_for()
        page.locator("#words", has_text=text.split()[0]).wait_for(timeout=30_000)
        page.wait_for_timeout(1500)
        page.click("#record")
        page.get_by_text("words in").wait_for(timeout=30_000)
        # The last word may be cut off.
        assert set(page.inner_text("#words").split()) & set(text.split())
        assert page.is_visible("#player")
        assert not troubles


def test_a_browser_reads_a_file_and_a_microphone_as_python_does(
    served: str, tone_run: Path
) -> None:
    audio = sorted(tone_run.rglob("*.wav"))[0]
    recognizer = Recognizer.load(tone_run / "model", device="cpu")
    rate = recognizer.config.features.sample_rate
    sound = read_audio(audio, sample_rate=rate)
    expected = recognizer.transcribe(sound.samples, sample_rate=rate).text
    assert expected
    with browsing(served, audio) as (page, troubles):
        page.set_input_files("#file", str(audio))
        page.get_by_text("words in").wait_for(timeout=30_000)
        assert " ".join(page.inner_text("#words").split()) == expected
        with page.expect_download() as download:
            page.click("[data-format=json]")
        assert json.loads(Path(download.value.path()).read_text())["text"] == expected
        page.set_input_files("#file", str(ROOT / "README.md"))
        page.get_by_text("no audio that this browser can read").wait_for()
        page.click("#record")
        page.get_by_text("Listening").wait_for()
        page.wait_for_timeout(1500 + 1000 * len(sound.samples) / rate)
        page.click("#record")
        page.get_by_text("words in").wait_for(timeout=30_000)
        assert set(page.inner_text("#words").split()) & set(expected.split())
        assert not troubles
