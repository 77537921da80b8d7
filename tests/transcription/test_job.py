import errno
import html
import itertools
import json
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.corpus.manifest import Utterance
from asr.errors import AsrError, DataError
from asr.files import open_atomic
from asr.progress import Progress
from asr.text.lines import read_lines
from asr.text.nist import parse_ctm
from asr.transcription.captions import make_captions
from asr.transcription.job import Job, Meter, Results, Transcriber, task_starts
from asr.transcription.output import OUTPUT_FORMATS
from asr.transcription.pipeline import Watch
from asr.transcription.results import ResultFolder, output_stems, write_failures
from asr.transcription.sources import Source
from asr.transcription.transcript import Transcript, Word

Row = tuple[float, float, str]


def utterance(name: str = "a") -> Utterance:
    return Utterance(id=name, audio_filepath=Path(f"{name}.wav"), duration=0.0)


def transcript(*words: Row) -> Transcript:
    return Transcript(
        text=" ".join(text for _, _, text in words),
        words=tuple(Word(text=t, start=s, end=e, confidence=0.5) for s, e, t in words),
        log_prob=-1.0,
        duration=words[-1][1] if words else 1.0,
    )


@st.composite
def transcripts(draw: st.DrawFn) -> Transcript:
    words: list[Row] = []
    time = 0.0
    for _ in range(draw(st.integers(0, 40))):
        start = time + draw(st.floats(0, 1.5))
        time = start + draw(st.floats(0.02, 1))
        words.append((start, time, draw(st.text("ab<&>é", min_size=1, max_size=100))))
    return transcript(*words)


def seconds(clock: str) -> float:
    hours, minutes, rest = re.fullmatch(r"(\d\d):(\d\d):(\d\d[.,]\d{3})", clock).groups()  # type: ignore[union-attr]
    return 3600 * int(hours) + 60 * int(minutes) + float(rest.replace(",", "."))


def read_cues(content: str) -> list[tuple[float, float, list[str]]]:
    """A reader of SRT and VTT that knows nothing of the writer."""
    cues = []
    for block in content.removeprefix("WEBVTT\n\n").split("\n\n"):
        lines = block.split("\n")
        if lines == [""]:
            continue
        if "-->" not in lines[0]:
            assert int(lines.pop(0)) == len(cues) + 1
        start, end = lines[0].split(" --> ")
        cues.append((seconds(start), seconds(end), lines[1:]))
    return cues


@settings(deadline=None)
@given(transcripts())
def test_captions_keep_the_rules_and_every_letter(spoken: Transcript) -> None:
    for kind in ("srt", "vtt"):
        cues = read_cues(OUTPUT_FORMATS[kind](utterance(), spoken))
        before = 0.0
        for start, end, lines in cues:
            shown = [html.unescape(line) if kind == "vtt" else line for line in lines]
            assert start >= before
            assert end - start >= min(1, spoken.duration / len(cues)) - 0.0015
            assert end <= spoken.duration + 0.001
            assert 1 <= len(shown) <= 2
            assert all(len(line) <= 42 for line in shown)
            before = end
        letters = "".join(line for _, _, lines in cues for line in lines)
        letters = html.unescape(letters) if kind == "vtt" else letters
        assert letters.replace(" ", "") == spoken.text.replace(" ", "")


def test_captions_break_at_pauses() -> None:
    spoken = transcript((0, 0.5, "one"), (0.6, 1.2, "two"), (2.5, 3, "three"), (3.1, 3.4, "four"))
    captions = make_captions(spoken.words, 5)
    assert [(c.text, c.start, c.end) for c in captions] == [
        ("one two", 0, 1.2),
        ("three four", 2.5, 3.5),
    ]


def test_a_caption_at_the_end_comes_earlier_and_pushes_others_if_it_must() -> None:
    spoken = transcript((0.1, 0.4, "one"), (1.0, 1.3, "two"), (2, 2.2, "three"), (3.2, 3.3, "four"))
    captions = make_captions(spoken.words, 3.4)
    assert [caption.text for caption in captions] == ["one two", "three", "four"]
    times = [time for caption in captions for time in (caption.start, caption.end)]
    assert times == pytest.approx([0.1, 1.3, 1.4, 2.4, 2.4, 3.4])


def test_times_beyond_an_hour() -> None:
    spoken = transcript((3661.0004, 3662.9996, "late"))
    srt, tsv = (OUTPUT_FORMATS[kind](utterance(), spoken) for kind in ("srt", "tsv"))
    assert srt == "1\n01:01:01,000 --> 01:01:03,000\nlate\n\n"
    assert tsv == "start\tend\ttext\n3661000\t3663000\tlate\n"


def test_a_ctm_is_read_back(tmp_path: Path) -> None:
    spoken = transcript((0.5, 0.75, "one"), (1, 1.5, "two"))
    path = tmp_path / "a.ctm"
    path.write_text(OUTPUT_FORMATS["ctm"](utterance("dir/my call (1)"), spoken))
    words = parse_ctm(read_lines(path), path)
    assert [(w.recording, w.begin, w.duration, w.word) for w in words] == [
        ("dir/my_call__1_", 0.5, 0.25, "one"),
        ("dir/my_call__1_", 1.0, 0.5, "two"),
    ]


def test_json_has_segments_at_pauses() -> None:
    spoken = transcript((0, 1.2, "one"), (2.5, 3, "two"))
    segments = json.loads(OUTPUT_FORMATS["json"](utterance(), spoken))["segments"]
    assert [(s["id"], s["text"], s["start"], s["end"]) for s in segments] == [
        (0, "one", 0, 1.2),
        (1, "two", 2.5, 3),
    ]
    assert segments[1]["words"] == [{"word": "two", "start": 2.5, "end": 3, "probability": 0.5}]


@pytest.mark.parametrize("kind", sorted(OUTPUT_FORMATS))
def test_silence_is_written_too(kind: str) -> None:
    assert "None" not in OUTPUT_FORMATS[kind](utterance(), transcript())


def test_stems_never_collide() -> None:
    names = ["x/a.wav", "y/a.wav", "x/a.flac", "x/b.wav", "x/a.wav.mp3", "./x/b.wav", "x/b"]
    names += ["x/c.wav-ch1", "x/c-ch1.wav", "x/d.wav-ch1", "x/d.wav-ch2", "/", "x/../y"]
    stems = output_stems(names)
    assert len(set(stems.values())) == len(names)
    assert all(stem.name and ".." not in stem.parts for stem in stems.values())
    assert stems["x/d.wav-ch1"].name == "d-ch1"


@given(st.lists(st.floats(0.1, 3000), max_size=9), st.sampled_from([1, 40, 300]))
def test_a_task_is_full_or_the_last(some: list[float], times: int) -> None:
    seconds = sorted(some * times)
    starts = task_starts(
        [Source(utterance=replace(utterance(), duration=value)) for value in seconds]
    )
    assert starts[:1] == [0][: len(seconds)]
    for start, end in itertools.pairwise([*starts, len(seconds)]):
        sizes = [32000 * value for value in seconds[start:end]]
        assert 0 < len(sizes) <= 256
        assert sum(sizes[:-1]) < 32 * 2**20
        assert end == len(seconds) or len(sizes) == 256 or sum(sizes) > 32 * 2**20 - 1


def test_speech_too_fast_for_captions_fills_two_lines_and_never_overlaps() -> None:
    """Sixty words in three seconds: full long before a second is over."""
    words = [
        Word(text=f"word{index:02d}", start=index / 20, end=(index + 1) / 20, confidence=1.0)
        for index in range(60)
    ]
    captions = make_captions(words, 60)
    assert [word for caption in captions for word in caption.words] == words
    assert {len(caption.lines) for caption in captions[:-1]} == {2}
    assert all(len(caption.lines) <= 2 for caption in captions)
    for before, after in itertools.pairwise(captions):
        assert after.start >= before.end
        assert before.end - before.start >= 1
    squeezed = make_captions(words, 3)
    assert squeezed[-1].end == pytest.approx(3)
    for caption in squeezed:
        assert caption.end - caption.start == pytest.approx(3 / len(captions))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_time_left_follows_the_sizes_and_speed_the_audio(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "asr")
    clock = Clock()
    progress = Progress("transcribing", rate="{:.0f} x real time", clock=clock)
    meter = Meter({"a": 100, "b": 300}, progress)
    meter.update("a", 5, 10)
    assert not caplog.records
    clock.now = 20
    meter.update("a", 10, 10)
    meter.finish("a", 600)
    clock.now = 40
    meter.update("b", 600, 1800)
    assert [record.getMessage() for record in caplog.records] == [
        "transcribing: 0 of 2 inputs, 25%, 1 min 00 s left, 0 x real time",
        "transcribing: 1 of 2 inputs, 50%, 40 s left, 30 x real time",
    ]
    assert meter.summary() == "20 min 00 s of audio in 40 s, 30 x real time"


def test_an_input_that_does_not_tell_its_length_counts_when_it_is_done(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "asr")
    clock = Clock()
    meter = Meter({"stdin": 0}, Progress("transcribing", rate="{:.0f} x real time", clock=clock))
    clock.now = 20
    meter.update("stdin", 100, None)
    assert caplog.messages == ["transcribing: 0 of 1 inputs, 5 x real time"]


SPOKEN = transcript((0, 0.5, "one"))


def scripted(outcomes: dict[str, Transcript | AsrError]) -> Transcriber:
    """Says of each source what is written down for it."""

    def transcribe(sources: Sequence[Source], watch: Watch) -> Results:
        for source in sources:
            watch(source, 1.0, 2.0)
            yield source, outcomes.get(source.id, SPOKEN)

    return transcribe


def sources_of(*names: str) -> list[Source]:
    return [Source(utterance=utterance(name)) for name in names]


def texts_in(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.glob("*.txt")}


def test_a_job_writes_what_it_can_and_lists_what_failed(tmp_path: Path) -> None:
    folder = ResultFolder(tmp_path, ["txt", "ctm"])
    bad = DataError("b.wav: is empty")
    no_such = DataError("the pattern matches no file")
    (tmp_path / "d.ctm").mkdir()  # no file can take its place
    job = Job(sources_of("a", "b", "c", "d"), folder, failures=[("*.x", no_such)])
    outcomes = dict(job.run(scripted({"b": bad})))
    assert [source.id for source in outcomes] == ["a", "b", "c", "d"]
    assert [isinstance(outcome, Transcript) for outcome in outcomes.values()] == [
        True,
        False,
        True,
        False,
    ]
    assert (job.num_inputs, job.num_done) == (5, 2)
    assert [name for name, _ in job.failures] == ["*.x", "b", "d"]
    assert texts_in(tmp_path) == {"a.txt": "one\n", "c.txt": "one\n", "d.txt": "one\n"}
    assert job.summary().startswith("1 s of audio in 0 s")
    path = write_failures(job.failures, tmp_path)
    assert path == tmp_path / "failures.tsv"
    assert path.read_text().splitlines()[:3] == [
        "input\terror",
        "*.x\tthe pattern matches no file",
        "b\tb.wav: is empty",
    ]
    write_failures([], tmp_path)
    assert not path.exists()


def test_a_job_that_goes_on_does_what_is_missing(tmp_path: Path) -> None:
    first = Job(sources_of("a", "b", "c"), ResultFolder(tmp_path, ["txt"]))
    outcomes = first.run(scripted({}))
    for _ in range(2):
        next(outcomes)
    outcomes.close()
    assert first.num_done == 1  # nobody knows what the caller made of the second
    assert texts_in(tmp_path) == {"a.txt": "one\n", "b.txt": "one\n"}
    again = Job(sources_of("a", "b", "c"), ResultFolder(tmp_path, ["txt"]), skip_existing=True)
    assert [source.id for source in again.sources] == ["c"]
    list(again.run(scripted({})))
    other = [Source(utterance=replace(utterance("a"), offset=3.0)), *sources_of("c")]
    displaced = Job(other, ResultFolder(tmp_path, ["txt"]), skip_existing=True)
    assert displaced.sources == []
    ((name, error),) = displaced.failures
    assert name == "a"
    assert "or a part of it that differs" in str(error)


@pytest.mark.parametrize(
    ("number", "ends_all"), [(errno.ENOSPC, True), (errno.EROFS, True), (errno.EACCES, False)]
)
def test_a_full_disk_ends_a_job_and_one_file_that_cannot_be_written_does_not(
    tmp_path: Path, number: int, ends_all: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(number, os.strerror(number), "some temporary name")

    job = Job(sources_of("a", "b"), ResultFolder(tmp_path, ["txt"]))
    monkeypatch.setattr("asr.transcription.results.open_atomic", full)
    closed: list[str] = []

    def transcribe(sources: Sequence[Source], watch: Watch) -> Results:
        try:
            yield from scripted({})(sources, watch)
        finally:
            closed.append("closed")

    if ends_all:
        with pytest.raises(OSError, match=os.strerror(number)) as caught:
            list(job.run(transcribe))
        assert caught.value.filename == str(tmp_path)
    else:
        assert [str(outcome) for _, outcome in job.run(transcribe)]
        assert len(job.failures) == 2
    assert job.num_done == 0
    assert closed == ["closed"]


def test_what_a_killed_job_left_goes_and_what_another_one_writes_stays(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "other").mkdir()
    left = [
        tmp_path / ".a.txt.01234567.asr-tmp",
        tmp_path / "deep" / ".b.txt.0123abcd.asr-tmp",
    ]
    foreign = [tmp_path / "other" / ".c.txt.01234567.asr-tmp", tmp_path / ".a.txt.swp"]
    for path in [*left, *foreign]:
        path.write_text("half")
    with open_atomic(tmp_path / "live.txt") as file:
        (writing,) = tmp_path.glob(".live.txt.*")
        Job(sources_of("x/a", "x/deep/b"), ResultFolder(tmp_path, ["txt"]))
        assert not any(path.exists() for path in left)
        assert all(path.exists() for path in [*foreign, writing])
        file.write("whole")
    assert (tmp_path / "live.txt").read_text() == "whole"


def test_without_a_folder_results_are_the_callers() -> None:
    job = Job(sources_of("a"))
    assert [outcome for _, outcome in job.run(scripted({}))] == [SPOKEN]
    assert job.num_done == 1
