"""The page in Chromium, with a file in the place of a microphone."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from asr.corpus.manifest import Utterance
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
