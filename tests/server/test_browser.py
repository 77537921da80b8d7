"""The page in Chromium, with a file in the place of a microphone."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from asr.corpus import manifest, read_manifest
from asr.corpus.manifest import Utterance
from tests.bad_audio import FAILURES
from tests.conftest import ROOT
from tests.server.conftest import Client

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium")
WAIT = 120_000  # milliseconds; a busy machine takes its time

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium")


@pytest.fixture(scope="module")
def recording(speech: list[Utterance], tmp_path_factory: pytest.TempPathFactory) -> Path:
    samples = [soundfile.read(utterance.audio_filepath)[0] for utterance in speech[:6]]
    path = tmp_path_factory.mktemp("browser") / "<b>speech.wav"
    soundfile.write(path, np.concatenate(samples), 8000, subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def browser(recording: Path) -> Iterator[Any]:
    plain = recording.with_name("microphone.wav")
    shutil.copy(recording, plain)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-audio-capture={plain}",
            ],
        )
        yield browser
        browser.close()


def open_page(browser: Any, client: Client, width: int = 1000, **options: Any) -> Any:
    context = browser.new_context(viewport={"width": width, "height": 800}, **options)
    page = context.new_page()
    page.set_default_timeout(WAIT)
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("console", lambda line: page.faults.append(line.text) if line.type == "error" else None)
    page.goto(client.url)
    page.wait_for_selector("#file:enabled")
    return page


def test_a_file_becomes_words_captions_and_pictures(
    browser: Any, client: Client, recording: Path, speech: list[Utterance]
) -> None:
    page = open_page(browser, client, width=390, color_scheme="dark")
    page.set_input_files("#file", recording)
    page.wait_for_selector("#words button")
    expected = " ".join(utterance.text or "" for utterance in speech[:6])
    assert " ".join(page.locator("#words button").all_inner_texts()) == expected
    assert page.locator("b").count() == 0
    page.wait_for_selector("#wave:visible")
    page.locator("#words button").first.click()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement === document.querySelectorAll('#words button')[1]")
    with page.expect_download() as download:
        page.click("[data-suffix=vtt]")
    assert Path(download.value.path()).read_text(encoding="utf-8").startswith("WEBVTT\n\n00:00:00")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    rights = page.locator(".inputs *").evaluate_all(
        "all => all.map(each => each.getBoundingClientRect().right)"
    )
    assert max(rights) <= 390 - 12
    page.set_input_files("#file", {"name": "a.wav", "mimeType": "audio/wav", "buffer": b"no audio"})
    page.wait_for_selector("#status.error")
    assert "a.wav: not audio" in page.inner_text("#status")
    assert [fault for fault in page.faults if "400" not in fault] == []
    page.context.close()


def test_nasty_files_are_explained_on_the_page(browser: Any, client: Client) -> None:
    page = open_page(browser, client)
    status = page.locator("#status.error")
    for name, (audio, reason) in FAILURES.items():
        page.set_input_files("#file", {"name": name, "mimeType": "audio/x", "buffer": audio})
        status.filter(has_text=re.compile(re.escape(name))).wait_for()
        assert reason in status.inner_text(), name
        assert page.locator("#words button").count() == 0
        page.wait_for_selector("#file:enabled")
    assert [fault for fault in page.faults if "400" not in fault] == []
    page.context.close()


def test_a_microphone_becomes_text_while_it_is_heard(browser: Any, client: Client) -> None:
    page = open_page(browser, client, permissions=["microphone"])
    page.click("#microphone")
    page.locator("#partial", has_text=re.compile("(la|mi) (la|mi)")).wait_for()
    page.click("#microphone")
    page.wait_for_selector("#words button")
    page.wait_for_selector("#microphone[aria-pressed=false]:enabled")
    page.wait_for_selector("#wave:visible")
    assert set(page.locator("#words button").all_inner_texts()) & {"la", "mi"}
    assert page.inner_text("#partial") == ""
    assert page.faults == []
    page.context.close()


def test_a_microphone_that_is_refused_is_explained(browser: Any, client: Client) -> None:
    page = open_page(browser, client, permissions=[])
    page.evaluate(
        "() => { navigator.mediaDevices.getUserMedia = "
        "() => Promise.reject(new DOMException('', 'NotAllowedError')); }"
    )
    page.click("#microphone")
    page.wait_for_selector("#status.error")
    assert "The microphone was refused" in page.inner_text("#status")
    page.context.close()


def test_a_start_that_fails_leaves_no_microphone_open(browser: Any, client: Client) -> None:
    page = open_page(browser, client, permissions=["microphone"])
    page.evaluate(
        """() => {
            const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
            navigator.mediaDevices.getUserMedia =
                async (wanted) => (window.opened = await open(wanted));
            AudioWorklet.prototype.addModule = () => Promise.reject(new Error("no module"));
        }"""
    )
    page.click("#microphone")
    page.wait_for_selector("#status.error")
    assert "no module" in page.inner_text("#status")
    states = "() => window.opened.getTracks().map((track) => track.readyState)"
    assert page.evaluate(states) == ["ended"]
    page.context.close()


class Server:
    """`asr serve` as a program, which can be killed and started again at the same port."""

    def __init__(self, *arguments: str):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self._command = [sys.executable, "-m", "asr", "serve", *arguments]
        self._command += ["--port", str(self.port), "--device", "cpu"]
        self.start()

    def start(self) -> None:
        self.program = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        assert self.program.stderr is not None
        next(line for line in self.program.stderr if " writes " in line)

    def kill(self) -> None:
        os.kill(self.program.pid, signal.SIGKILL)
        self.program.wait()
        assert self.program.stderr is not None
        self.program.stderr.close()


@pytest.fixture
def reviewing(tone_run: Path, speech: list[Utterance], tmp_path: Path) -> Iterator[Server]:
    """Twenty stretches, two of each file, of which the second is to be reviewed by its machine."""
    with manifest.open_rows(tmp_path / "todo.jsonl") as file:
        for number in range(20):
            utterance = speech[number // 2]
            row = manifest.row_of(utterance, tmp_path) | {"id": f"s{number}"}
            row |= {"pred_text": f"<i>{row.pop('text')}</i>"} if number % 2 else {}
            manifest.write_row(file, row)
    (tmp_path / "sentences.txt").write_text("la mi la\nmi \u00df\n", encoding="utf-8")
    server = Server(
        *(str(tone_run / "model"), "--review", str(tmp_path / "todo.jsonl")),
        *("--prompts", str(tmp_path / "sentences.txt")),
    )
    yield server
    server.kill()


def start_desk(browser: Any, server: Server, page_name: str, **options: Any) -> Any:
    context = browser.new_context(viewport={"width": 390, "height": 800}, **options)
    page = context.new_page()
    page.set_default_timeout(WAIT)
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.goto(server.url + page_name)
    page.fill("#name", "Ada")
    page.click("#begin:enabled")
    page.wait_for_selector("#work:visible")
    return page


def test_twenty_stretches_are_corrected_and_a_kill_in_between_loses_nothing(
    browser: Any, reviewing: Server, speech: list[Utterance], tmp_path: Path
) -> None:
    page = start_desk(browser, reviewing, "review")
    text = page.locator("textarea")
    for number in range(20):
        page.locator("#which", has_text=re.compile(rf"s{number}$")).wait_for()
        page.wait_for_selector("#wave:visible")
        if number == 0:
            # Of the model that is served.
            sync_api.expect(text).to_have_value(speech[0].text, timeout=WAIT)
        if number == 7:
            reviewing.kill()
        text.fill(f"la {number}\u00df")
        assert "\u00df" in page.inner_text("#unknown")
        page.keyboard.press("Enter")
        if number == 7:
            page.locator("#status", has_text="this page tries again").wait_for()
            assert text.input_value() == "la 7\u00df"
            assert len(read_manifest(tmp_path / "reviewed.jsonl")) == 7
            reviewing.start()
    page.locator("#status", has_text="All is done").wait_for()
    assert page.inner_text("#progress") == "20 of 20 done"
    assert page.faults == []
    page.context.close()
    path = tmp_path / "reviewed.jsonl"
    assert [u.text for u in read_manifest(path)] == [f"la {n}\u00df" for n in range(20)]
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert {row["reviewer"] for row in rows} == {"Ada"}
    assert rows[1]["before"] == f"<i>{speech[0].text}</i>"


def test_keys_play_split_trim_skip_and_go_back(
    browser: Any, reviewing: Server, speech: list[Utterance], tmp_path: Path
) -> None:
    page = start_desk(browser, reviewing, "review")
    page.keyboard.press("Alt+u")
    page.locator("#which", has_text="s1").wait_for()
    assert page.locator("i").count() == 0
    page.keyboard.press("Escape")
    page.keyboard.press("s")
    page.locator("#which", has_text="s2").wait_for()
    page.wait_for_selector("#wave:visible")
    assert "2 of 20 done, 1 skipped, 1 unclear" in page.inner_text("#progress")
    text = page.locator("textarea")
    sync_api.expect(text).to_have_value(speech[1].text, timeout=WAIT)
    text.fill("la mi")
    text.evaluate("element => element.setSelectionRange(3, 3)")
    wave = page.locator("#wave")
    width = wave.evaluate("element => element.clientWidth")
    wave.click(position={"x": width / 2, "y": 20})
    page.keyboard.press("Tab")  # stops the sound
    page.keyboard.press("Alt+x")
    sync_api.expect(text).to_have_count(2, timeout=WAIT)
    assert [each.input_value() for each in page.locator("textarea").all()] == ["la", "mi"]
    page.keyboard.press("Enter")
    page.locator("#which", has_text="s3").wait_for()
    page.keyboard.press("Alt+b")
    page.locator("#which", has_text="s2").wait_for()
    assert [each.input_value() for each in page.locator("textarea").all()] == ["la", "mi"]
    page.keyboard.press("Alt+z")
    page.locator("textarea").first.fill("mi")
    wave.click(position={"x": width / 4, "y": 20})
    page.keyboard.press("Tab")
    page.keyboard.press("Alt+[")
    page.keyboard.press("Enter")
    page.locator("#which", has_text="s3").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.faults == []
    page.context.close()
    *_, utterance = read_manifest(tmp_path / "reviewed.jsonl")
    assert (utterance.id, utterance.text) == ("s2", "mi")
    seconds = speech[1].duration
    assert 0.2 * seconds < utterance.offset < 0.5 * seconds
    assert utterance.offset + utterance.duration == pytest.approx(seconds, abs=0.02)


def test_sentences_are_read_heard_repeated_and_kept(
    browser: Any, reviewing: Server, tmp_path: Path
) -> None:
    page = start_desk(browser, reviewing, "record", permissions=["microphone"])
    assert page.inner_text("#sentence") == "la mi la"
    for _ in range(2):
        page.keyboard.press("Space")
        page.wait_for_selector("#record[aria-pressed=true]")
        level = sync_api.expect(page.locator("#level"))
        level.not_to_have_js_property("value", 0, timeout=WAIT)
        page.wait_for_timeout(1000)
        page.keyboard.press("Space")
        page.wait_for_selector("#keep:enabled")
        assert re.search(r"\d\.\d s, peak -\d+\.\d dB", page.inner_text("#loudness"))
    page.keyboard.press("Enter")
    page.locator("#sentence", has_text="mi \u00df").wait_for()
    assert "no token for \u00df" in page.inner_text("#unknown")
    page.keyboard.press("s")
    page.locator("#status", has_text="All is read").wait_for()
    assert page.faults == []
    page.context.close()
    (utterance,) = read_manifest(tmp_path / "reviewed.jsonl")
    assert (utterance.text, utterance.speaker) == ("la mi la", "Ada")
    samples, rate = soundfile.read(utterance.audio_filepath)
    assert len(samples) / rate == pytest.approx(utterance.duration)
    assert utterance.duration > 0.5
    assert np.abs(samples).max() > 0.02
    assert len(list((tmp_path / "recordings").iterdir())) == 1


@pytest.mark.parametrize("name", ["index", "review", "record"])
def test_a_page_that_is_opened_as_a_file_says_so(browser: Any, name: str) -> None:
    page = browser.new_page()
    page.goto((ROOT / "asr" / "assets" / "serve" / f"{name}.html").as_uri())
    assert "not opened through asr serve" in page.inner_text("#status")
    assert page.locator("button:enabled:visible").count() == 0 or name == "index"
    page.close()
