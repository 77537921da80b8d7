import base64
import html.parser
import io
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from asr.audio.stream import read_audio
from asr.page import Posteriors
from asr.scoring import page
from asr.scoring.detail import write_files
from asr.scoring.errors import score
from asr.scoring.page import MAX_EMBEDDED_BYTES, write_html
from asr.scoring.report import Clip, ScoreReport
from tests.scoring.test_report import SCORE, SPEAKERS, report_of


@dataclass(frozen=True)
class AudioStub:
    samples: NDArray[np.float32]


class Page(html.parser.HTMLParser):
    """Tags, text and addresses of a page, and whether tags match."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.sources: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "img", "input", "br"):
            self.open.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            if name in ("src", "href"):
                self.sources.append(str(value))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_files(report_of(SCORE), tmp_path / name)
        write_html(report_of(SCORE), tmp_path / name / "report.html")
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


HOSTILE = "<script>alert(1)</script>\"'><img/src=x/onerror=alert(1)>&lt;"


def test_text_from_files_stays_text_in_the_page(tmp_path: Path) -> None:
    scored = score(
        {HOSTILE: f"{HOSTILE} b", "v": HOSTILE},
        {HOSTILE: f"a {HOSTILE}x"},
        speakers={HOSTILE: HOSTILE, "v": "w"},
    )
    report = ScoreReport(
        score=scored,
        reference=HOSTILE,
        hypothesis=HOSTILE,
        columns={HOSTILE: {HOSTILE: HOSTILE}, "v": {HOSTILE: "</script>"}},
        provenance={HOSTILE: HOSTILE},
        clips={"v": Clip(path=tmp_path / '"><script>.wav')},
    )
    write_html(report, tmp_path / "report.html")
    page = Page(tmp_path / "report.html")
    assert page.tags.count("script") == 1
    assert "img" not in page.tags
    assert page.text.count(HOSTILE) >= 4
    write_html(report_of(SCORE), tmp_path / "plain.html")
    assert set(page.tags) - set(Page(tmp_path / "plain.html").tags) <= {"audio", "i"}


def test_the_page_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    write_html(report_of(SCORE), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert not re.search(r"https?:|url\(|@import|<link", text)
    assert Page(tmp_path / "report.html").sources == []


def test_the_page_shows_every_part(tmp_path: Path) -> None:
    columns = {
        utterance_id: {"duration": 1.0, "room": utterance_id[0]} for utterance_id in SPEAKERS
    }
    write_html(
        report_of(SCORE, columns=columns, audio_seconds=20.0, compute_seconds=0.5),
        tmp_path / "report.html",
    )
    text = " ".join(Page(tmp_path / "report.html").text)
    for part in ("62.50", "By speaker", "By duration", "By room", "By place in the utterance",
                 "Confused", "Deleted", "Inserted", "most errors first", "Utterances by their WER",
                 "Real-time factor", "0.0250", "bootstrap by speaker, 2 speakers"):  # fmt: skip
        assert part in text


def write_tone(path: Path, seconds: float) -> None:
    times = np.arange(int(16000 * seconds)) / 16000
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * 440 * times), 16000)


def test_sound_and_pictures_of_the_worst_are_in_the_page(tmp_path: Path) -> None:
    write_tone(tmp_path / "tone.wav", 3.0)
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    clips = {
        "s-1": Clip(path=tmp_path / "tone.wav", offset=1.0, duration=0.5),
        "s-2": Clip(path=tmp_path / "tone.wav", duration=3.0),
        "t-1": Clip(path=tmp_path / "tone.wav", duration=1e4),
        "t-3": Clip(path=tmp_path / "broken.wav", duration=1.0),
    }
    posteriors = Posteriors(
        probabilities=np.full((30, 3), 1 / 3, dtype=np.float32),
        symbols=("字 ", "$a", "$b"),
        step_seconds=0.1,
    )
    path = tmp_path / "out" / "report.html"
    write_html(report_of(SCORE, clips=clips), path, read_audio, {"s-2": posteriors})
    page = Page(path)
    pictures = [source for source in page.sources if source.startswith("data:image/png")]
    sounds = [source for source in page.sources if source.startswith("data:audio/wav")]
    assert (len(pictures), len(sounds)) == (2, 2)
    assert len(sounds[0]) == pytest.approx(4 / 3 * 2 * 16000 * 3, rel=0.01)
    assert len(pictures[0]) > len(pictures[1])
    assert "../tone.wav#t=0.000,10000.000" in page.sources
    assert any("broken.wav" in text for text in page.text)


def test_embedded_sound_is_bounded(tmp_path: Path) -> None:
    write_tone(tmp_path / "tone.wav", 25.0)
    texts = {f"u{number}": "a b" for number in range(8)}
    clips = {name: Clip(path=tmp_path / "tone.wav", duration=25.0) for name in texts}
    write_html(report_of(score(texts, texts), clips=clips), tmp_path / "report.html", read_audio)
    sources = Page(tmp_path / "report.html").sources
    embedded = [source for source in sources if source.startswith("data:")]
    assert sum(map(len, embedded)) <= 4 / 3 * MAX_EMBEDDED_BYTES + 1000
    assert (len(embedded), len(sources)) == (5, 8)


def test_utterances_are_counted_by_their_rate(tmp_path: Path) -> None:
    reference = " ".join("abcdefghij" * 10)
    wrong = [0, 1, 10, 11, 100, 100, 101, 200]
    texts = {f"u{number}": reference for number in range(len(wrong))}
    said = {
        name: " ".join(["x"] * min(count, 100) + [*reference.split()[count:], *"y" * (count - 100)])
        for name, count in zip(texts, wrong, strict=True)
    }
    write_html(report_of(score({**texts, "v": ""}, {**said, "v": ""})), tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    bars = dict(re.findall(r'<i title="([^"]*): (\d+)">', text))
    assert list(bars) == [
        "0 %", *(f"over {low} to {low + 10} %" for low in range(0, 100, 10)), "over 100 %",
    ]  # fmt: skip
    assert {name: int(count) for name, count in bars.items() if int(count)} == {
        "0 %": 1, "over 0 to 10 %": 2, "over 10 to 20 %": 1, "over 90 to 100 %": 2, "over 100 %": 2,
    }  # fmt: skip


def test_only_the_worst_utterances_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit, note in ((4, "1 better ones are in report.json."), (5, None)):
        monkeypatch.setattr(page, "MAX_ROWS", limit)
        write_html(report_of(SCORE), tmp_path / "a.html")
        text = (tmp_path / "a.html").read_text(encoding="utf-8")
        assert text.count('<td class="words">') == limit
        assert (note or "") in text
        assert ("better ones" in text) is (note is not None)


def test_a_groups_bar_is_its_share_of_the_highest_rate(tmp_path: Path) -> None:
    texts = {"u": "a b c d", "v": "a b c d", "w": "a"}
    said = {"u": "a b c d", "v": "a b c x", "w": "x y"}
    speakers = {name: name for name in texts}
    write_html(report_of(score(texts, said, speakers=speakers)), tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    # A rate over 100 % fills its cell as 100 % does.
    assert re.findall(r"width:(\d+)%", text)[:3] == ["0", "25", "100"]


def test_what_a_report_says_of_its_model_is_in_words(tmp_path: Path) -> None:
    raw = score({"u": "A b", "v": "c"}, {"u": "a b", "v": "c"})
    report = report_of(
        SCORE, raw=raw, normalizer="basic", audio_seconds=90.0,
        provenance={"dev_wer": "0.5556", "seconds": "186.0", "data": "ca83"},
    )  # fmt: skip
    write_html(report, tmp_path / "a.html")
    words = " ".join(" ".join(Page(tmp_path / "a.html").text).split())
    for part in ("Dev WER 0.56 %", "Training time 3 min 06 s",
                 "Training fingerprint ca83", "WER before the normalizer 33.33 %",
                 "Audio 1.5 min", "Empty references 1, 0 words inserted"):  # fmt: skip
        assert part in words
    assert "dev_wer" not in words


def test_the_sound_in_a_page_is_that_of_the_clip(tmp_path: Path) -> None:
    write_tone(tmp_path / "tone.wav", 1.0)
    clips = {"t-1": Clip(path=tmp_path / "tone.wav", offset=0.25, duration=0.5)}
    write_html(report_of(SCORE, clips=clips), tmp_path / "a.html", read_audio)
    (source,) = Page(tmp_path / "a.html").sources
    content = base64.b64decode(source.removeprefix("data:audio/wav;base64,"))
    heard, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    assert (rate, heard.shape) == (16000, (8000,))
    written, _ = soundfile.read(tmp_path / "tone.wav", dtype="float32")
    np.testing.assert_allclose(heard, written[4000:12000], atol=1e-4)


def test_full_scale_stays_full_scale(tmp_path: Path) -> None:
    def loud(*_: object, **__: object) -> AudioStub:
        return AudioStub(np.array([2.0, 1.0, 0.5, -1.0, -2.0], dtype=np.float32))

    clips = {"t-1": Clip(path=tmp_path / "a.wav", duration=1.0)}
    write_html(report_of(SCORE, clips=clips), tmp_path / "a.html", loud)
    (source,) = Page(tmp_path / "a.html").sources
    content = base64.b64decode(source.removeprefix("data:audio/wav;base64,"))
    heard, _ = soundfile.read(io.BytesIO(content), dtype="int16")
    assert heard.tolist() == [32767, 32767, 16383, -32767, -32767]


def test_the_five_worst_with_an_error_have_pictures_and_long_clips_are_linked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page.page, "draw", lambda *_: "data:image/png;base64,")
    texts = {f"u{number}": "a" for number in range(8)}
    said = {name: "b" if number < 7 else "a" for number, name in enumerate(texts)}
    seconds = [0.1] * 6 + [30.0, 30.1]

    def silence(*_: object, **__: object) -> AudioStub:
        return AudioStub(np.zeros(10, dtype=np.float32))

    clips = {
        name: Clip(path=tmp_path / "a.wav", duration=each)
        for name, each in zip(texts, seconds, strict=True)
    }
    write_html(report_of(score(texts, said), clips=clips), tmp_path / "a.html", silence)
    sources = Page(tmp_path / "a.html").sources
    assert sum(source.startswith("data:image") for source in sources) == 5
    assert [source for source in sources if source.startswith("a.wav")] == ["a.wav#t=0.000,30.100"]
    # An utterance without errors has no picture, though there is room for it.
    few = report_of(score({"v": "a", "w": "a"}, {"v": "a", "w": "b"}),
                    clips={name: Clip(path=tmp_path / "a.wav") for name in "vw"})  # fmt: skip
    write_html(few, tmp_path / "b.html", silence)
    assert Page(tmp_path / "b.html").sources == ["a.wav", "data:image/png;base64,", "a.wav"]


def test_twenty_confusions_are_listed(tmp_path: Path) -> None:
    texts = {f"u{number}": f"r{number}" for number in range(25)}
    write_html(report_of(score(texts, dict.fromkeys(texts, "x"))), tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    confused = text.partition("<h2>Confused</h2>")[2].partition("<h2>Deleted</h2>")[0]
    assert confused.count("<tr><td>") == 20
