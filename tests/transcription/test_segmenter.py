"""`asr align --segment`: utterances out of a recording whose text is nearly its own."""

import json
import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from asr.cli import main
from asr.corpus import read_manifest
from asr.decoding import viterbi
from asr.errors import DataError
from asr.transcription import Recognizer, Source, pauses
from asr.transcription.anchors import Part
from asr.transcription.heard import Heard, LogProbFile
from asr.transcription.matching import match
from asr.transcription.pauses import Quiet
from asr.transcription.pieces import smooth_levels
from asr.transcription.segmenter import Segmentation, Segmenter
from asr.transcription.subtitles import overlapping, parse_subtitles
from tests import tones

PAUSE = 0.5
NUM_WORDS = 9
"""Of a sentence."""


@pytest.fixture(scope="module")
def recognizer(tone_run: Path) -> Recognizer:
    return Recognizer.load(tone_run / "model", device="cpu")


def _say(sentences: list[list[str]], path: Path) -> list[tuple[float, float]]:
    """A recording of sentences with pauses around them; where each of them lies, in seconds."""
    draw = np.random.default_rng(1)
    parts = [np.zeros(int(PAUSE * tones.RATE))]
    bounds, position = [], len(parts[0])
    for sentence in sentences:
        start = position
        for place, word in enumerate(sentence):
            tone = 0.3 * np.sin(
                2 * np.pi * tones.TONES[word] * np.arange(draw.integers(1400, 1900)) / tones.RATE
            )
            last = place == len(sentence) - 1
            silence = np.zeros(int(PAUSE * tones.RATE) if last else 800)
            parts += [tone, silence]
            position += len(tone)
            end = position
            position += len(silence)
        bounds.append((start / tones.RATE, end / tones.RATE))
    samples = np.concatenate(parts)
    soundfile.write(path, samples + 0.003 * draw.standard_normal(len(samples)), tones.RATE)
    return bounds


def _sentences(count: int, seed: int) -> list[list[str]]:
    draw = random.Random(seed)
    return [[draw.choice(["la", "mi"]) for _ in range(NUM_WORDS)] for _ in range(count)]


def _text(sentences: list[list[str]]) -> str:
    return " ".join(word for sentence in sentences for word in sentence)


def _source(path: Path, text: str | None) -> Source:
    source = Source.of_file(path)
    return replace(source, utterance=replace(source.utterance, text=text))


def test_mistakes_of_the_text_are_left_out(recognizer: Recognizer, tmp_path: Path) -> None:
    said = _sentences(12, seed=2)
    bounds = _say(said, tmp_path / "book.wav")
    written = [*said[:3], *said[4:8], ["mi"] * 9, *said[8:]]  # 3 is not written, one not said
    written[1] = [*written[1][:4], "la" if written[1][4] == "mi" else "mi", *written[1][5:]]
    source = _source(tmp_path / "book.wav", _text(written))
    ((_, result),) = Segmenter(recognizer).segment([source])
    assert not isinstance(result, Exception)
    utterances = [new.utterance for new in result.utterances]
    covered: dict[int, float] = {}  # sentences that were said, and the scores of what has them
    for new, utterance in zip(result.utterances, utterances, strict=True):
        end = utterance.offset + utterance.duration
        assert 2 <= utterance.duration <= 15
        inside = [n for n, (a, b) in enumerate(bounds) if utterance.offset < a and b < end]
        texts = [written[n - (n > 3)] if n < 8 else written[n] for n in inside]
        assert utterance.text == _text(texts)
        covered |= dict.fromkeys(inside, new.score)
    assert 3 not in covered
    # How much the tiny network is sure of differs by machine.
    assert len(covered) >= 8
    for before, after in pairwise(utterances):
        assert before.offset + before.duration <= after.offset + 1e-6
    foreign, unwritten = " ".join(["mi"] * 9), sum(bounds[3]) / 2
    assert any(rest.reason == "not heard" and foreign in rest.text for rest in result.left_out)
    stretches = [rest for rest in result.left_out if rest.reason == "not in the text"]
    assert any((r.start or 0) < unwritten < (r.end or 0) for r in stretches)
    if 1 in covered:
        assert covered[1] == min(covered.values())


def _row_of(symbols: list[int], num_tokens: int) -> NDArray[np.float32]:
    log_probs = np.full((len(symbols), num_tokens), -8.0, np.float32)
    log_probs[np.arange(len(symbols)), symbols] = -0.01
    return log_probs


def test_a_path_leaves_out_words_and_speech() -> None:
    words = [[1, 2, 3], [4, 5, 6], [6, 5, 4], [1, 3, 5], [2, 4, 6]]
    spoken = [words[0], [3, 3, 3, 2, 2, 2, 1, 1, 1, 4, 4, 4], words[2], words[4]]
    symbols = [s for word in spoken for token in word for s in (token, 0)]
    log_probs = _row_of(symbols, 7)
    best = log_probs.max(axis=1) - np.float32(0.5) * (np.array(symbols) > 0)
    targets = np.array([token for word in words for token in word])
    bounds = np.array([(3 * n, 3 * n + 2) for n in range(len(words))])
    path = viterbi.path_with_gaps(log_probs, best, targets, bounds, np.full(5, 9.0), 6.0)
    assert list(dict.fromkeys((path[path >= 0] // 3).tolist())) == [0, 2, 4]
    unwritten = np.flatnonzero(path == viterbi.UNWRITTEN)
    assert set(range(7, 29)) <= set(unwritten.tolist())
    assert len(unwritten) < 36  # and a step or two where words are left out


@pytest.mark.parametrize("seed", range(8))
def test_no_path_with_gaps_is_better(seed: int) -> None:
    """Against all sequences of words and stretches, each scored by the best path of CTC."""
    draw = np.random.default_rng(seed)
    num_steps, words = 5, [[1], [2], [1]]
    log_probs = np.log(draw.dirichlet(np.ones(3), num_steps)).astype(np.float32)
    outside = draw.normal(-1, 0.5, num_steps).astype(np.float32)
    unspoken, opening = draw.uniform(0.1, 2, 3), 0.3
    targets = np.array([token for word in words for token in word])
    bounds = np.array([(n, n) for n in range(3)])
    path = viterbi.path_with_gaps(log_probs, outside, targets, bounds, unspoken, opening)
    assert _score(path, log_probs, outside, targets, unspoken, opening) == pytest.approx(
        max(
            _score(np.array(p), log_probs, outside, targets, unspoken, opening)
            for p in np.ndindex(*[5] * num_steps)
        ),
        abs=1e-5,
    )


def _score(
    path: NDArray[np.int64],
    log_probs: NDArray[np.float32],
    outside: NDArray[np.float32],
    targets: NDArray[np.int64],
    unspoken: NDArray[np.float64],
    opening: float,
) -> float:
    """Of a path, with -2 for outside, or 4 and 3 in place of -2 and -1; minus infinity if wrong."""
    path = np.where(path > 2, path - 6 + (path == 3) * 2, path)
    total, heard, before = 0.0, -1, -1
    is_first = True
    for step, target in enumerate(path):
        if target == viterbi.UNWRITTEN:
            if not is_first and before != viterbi.UNWRITTEN:
                if heard < 0:
                    return -np.inf  # the text has not begun
                total -= opening
            total += float(outside[step])
        elif target == -1:
            if before == viterbi.UNWRITTEN and not is_first:
                return -np.inf
            total += float(log_probs[step, 0])
        else:
            if target != heard or before == -1 or before == viterbi.UNWRITTEN:
                if target <= heard:
                    return -np.inf
                skipped = unspoken[heard + 1 : target].sum()
                if skipped and before != viterbi.UNWRITTEN:
                    return -np.inf
                if before >= 0 and targets[before] == targets[target]:
                    return -np.inf
                total -= skipped
            heard = int(target)
            total += float(log_probs[step, targets[target]])
        before, is_first = int(target), False
    rest = unspoken[heard + 1 :].sum()
    if rest and before != viterbi.UNWRITTEN:
        return -np.inf
    return total - float(rest)


def test_log_probabilities_come_back_from_the_disk() -> None:
    draw = np.random.default_rng(3)
    segments = [np.log(draw.dirichlet(np.ones(6), n)).astype(np.float32) for n in (7, 4, 9)]
    store = LogProbFile()
    order = [1, 2, 0]
    stored = {n: store.put(segments[n], start=float(10 * n)) for n in order}
    heard = Heard(store, [stored[n] for n in range(3)], 0.5, None)
    everything = np.concatenate(segments)
    steps = np.array([0, 1, 6, 7, 8, 10, 11, 19])
    np.testing.assert_allclose(heard.log_probs(steps), everything[steps], rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(heard.path, everything.argmax(axis=1))
    assert heard.times[[0, 6, 7, 11, 19]].tolist() == [0, 3, 10, 20, 24]
    store.close()


@pytest.mark.parametrize("block", [37, 8000])
def test_pauses_are_where_nothing_sounds(block: int) -> None:
    draw = np.random.default_rng(5)
    samples = 0.001 * draw.standard_normal(8000 * 40).astype(np.float32)
    for start in range(0, 40, 2):  # a second of sound, a second of silence
        samples[8000 * start : 8000 * (start + 1)] += 0.2 * draw.standard_normal(8000)
    quiet = Quiet((samples[i : i + block] for i in range(0, len(samples), block)), 8000)
    np.testing.assert_allclose(
        quiet.pauses(10.5, 15.5, 0.4), [(11, 12), (13, 14), (15, 15.5)], atol=0.05
    )
    assert quiet.loud_seconds(10, 14) == pytest.approx(2, abs=0.1)


def test_levels_are_the_same_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauses, "_PORTION", 30)
    powers = np.random.default_rng(6).random(100).astype(np.float32)
    np.testing.assert_allclose(pauses._levels(powers), smooth_levels(powers), rtol=1e-5)


@pytest.mark.parametrize("num_samples", [0, 81, 330, 1000])
def test_a_moment_of_sound_has_no_pauses(num_samples: int) -> None:
    quiet = Quiet([0.1 * np.ones(num_samples, np.float32)], 8000)
    assert list(quiet.pauses(0, 0.1, 0.2)) == []


SUBTITLES = """WEBVTT

1
00:00:01.000 --> 00:00:02.500 align:start
<i>Come</i> in,
{\\an8}please &amp; sit [door]

00:03.000 --> 00:04.000
now

4
01:00:00,250 --> 01:00:01,250
- late
"""


def test_subtitles_are_read() -> None:
    subtitles = parse_subtitles(SUBTITLES, "film")
    assert [(s.start, s.end, s.text) for s in subtitles] == [
        (1.0, 2.5, "Come in, please & sit"),
        (3.0, 4.0, "now"),
        (3600.25, 3601.25, "- late"),
    ]
    with pytest.raises(DataError, match=r"film: line 1 .* ends before it begins"):
        parse_subtitles("00:00:02,000 --> 00:00:01,000\nx", "film")


def test_subtitles_that_are_shown_together_are_known() -> None:
    times = [(0, 2), (1.9, 4), (5, 9), (6, 7), (8, 10), (12, 13)]
    content = "\n\n".join(f"00:00:{a:06.3f} --> 00:00:{b:06.3f}\nx" for a, b in times)
    assert overlapping(parse_subtitles(content, "film")) == {2, 3, 4}


def _stamp(seconds: float) -> str:
    return f"00:{int(seconds // 60):02d}:{seconds % 60:06.3f}".replace(".", ",")


def test_subtitles_say_where_words_are_looked_for(
    recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asr.transcription.segmenter._PART_TOKENS", 20)
    said = [["la", "mi", "mi", "la", "mi", "la", "la", "mi", "mi"]] * 6  # all alike
    bounds = _say(said, tmp_path / "film.wav")
    written = [n for n in range(6) if n != 2]
    content = "".join(
        f"{n}\n{_stamp(bounds[n][0] - 0.1)} --> {_stamp(bounds[n][1])}\n{_text([said[n]])}\n\n"
        for n in written
    )
    ((_, result),) = Segmenter(recognizer).segment([_source(tmp_path / "film.wav", content)])
    assert not isinstance(result, Exception)
    covered = [
        n
        for n, (a, b) in enumerate(bounds)
        for new in result.utterances
        if new.utterance.offset < a and b < new.utterance.offset + new.utterance.duration
    ]
    # How much of each the tiny network is sure of differs by machine.
    assert set(covered) <= set(written)
    assert len(covered) >= 3


def _inside(result: Segmentation, bounds: list[tuple[float, float]]) -> list[list[int]]:
    """The sentences that lie in each utterance, whole or in part."""
    return [
        [n for n, (a, b) in enumerate(bounds) if u.offset < b and a < u.offset + u.duration]
        for u in (new.utterance for new in result.utterances)
    ]


def test_subtitles_that_are_shown_together_are_left_out(
    tone_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = _sentences(6, seed=6)
    bounds = _say(said, tmp_path / "film.wav")
    content = ""
    for n, (start, end) in enumerate(bounds):
        begin = bounds[2][0] + 0.5 if n == 3 else start - 0.1  # while 2 is still shown
        content += f"{n}\n{_stamp(begin)} --> {_stamp(end)}\n{_text([said[n]])}\n\n"
    (tmp_path / "film.srt").write_text(content, encoding="utf-8")
    out = tmp_path / "new.jsonl"
    command = ["align", str(tone_run / "model"), str(tmp_path / "film.wav")]
    assert main([*command, str(tmp_path / "film.srt"), "--segment", str(out)]) == 0
    assert (
        "2 subtitles are shown together with others; they are left out" in capsys.readouterr().err
    )
    utterances = read_manifest(out)
    assert utterances
    for utterance in utterances:
        end = utterance.offset + utterance.duration
        assert not any(utterance.offset < bounds[n][1] and bounds[n][0] < end for n in (2, 3))
    left_out = (tmp_path / "left_out.tsv").read_text(encoding="utf-8")
    assert _text(said[2:4]) in left_out


def test_of_a_text_in_another_order_the_longest_part_comes_out(
    recognizer: Recognizer, tmp_path: Path
) -> None:
    said = _sentences(12, seed=9)
    bounds = _say(said, tmp_path / "book.wav")
    written = [*said[4:], *said[:4]]
    ((_, result),) = Segmenter(recognizer).segment([_source(tmp_path / "book.wav", _text(written))])
    assert isinstance(result, Segmentation)
    inside = _inside(result, bounds)
    assert len({n for numbers in inside for n in numbers}) >= 5
    assert all(n >= 4 for numbers in inside for n in numbers)
    for new, numbers in zip(result.utterances, inside, strict=True):
        assert new.utterance.text == _text([said[n] for n in numbers])
    assert any(
        rest.reason == "not heard" and _text(said[:3]) in rest.text for rest in result.left_out
    )


def test_of_ten_hours_of_silence_between_words_hardly_anything_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps, find = list[int](), viterbi.path_with_gaps

    def noted(log_probs: NDArray[np.float32], *others: Any) -> NDArray[np.int64]:
        steps.append(len(log_probs))
        return find(log_probs, *others)

    monkeypatch.setattr(viterbi, "path_with_gaps", noted)
    words, silence = [[1, 2, 3], [3, 1, 2]], 1_200_000  # steps of 30 ms
    symbols = [[s for token in word for s in (token, 0)] for word in words]
    path = [*symbols[0], *[0] * silence, *symbols[1]]
    store = LogProbFile()
    heard = Heard(store, [store.put(_row_of(path, 4), start=0.0)], 0.03, None)
    tokens = np.array(words).ravel()
    whole = Part(tokens=slice(0, 6), steps=slice(0, len(path)))
    result = match(heard, tokens, np.repeat([0, 1], 3), [whole], 2)
    store.close()
    assert result.firsts.tolist() == [0, 6 + silence]
    assert sum(steps) < 100  # which is what the table grows with


@pytest.fixture
def book(tmp_path: Path) -> tuple[Path, list[list[str]]]:
    (tmp_path / "in").mkdir()
    said = _sentences(5, seed=4)
    _say(said, tmp_path / "in" / "book.wav")
    return tmp_path / "in" / "book.wav", said


def test_a_manifest_and_what_is_left_out_are_written(
    tone_run: Path, tmp_path: Path, book: tuple[Path, list[list[str]]]
) -> None:
    path, said = book
    text = path.with_suffix(".txt")
    text.write_text(_text([*said[:2], ["x9"], *said[2:]]), encoding="utf-8")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "left_out.tsv").write_text("mine", encoding="utf-8")
    out = tmp_path / "out" / "new.jsonl"
    assert (
        main(["align", str(tone_run / "model"), str(path), str(text), "--segment", str(out)]) == 0
    )
    utterances = read_manifest(out)
    assert " ".join(u.text or "" for u in utterances) == _text(said)
    assert all(u.audio_filepath == path for u in utterances)
    assert all(
        u.id == f"book-{u.offset * 1000:07.0f}-{(u.offset + u.duration) * 1000:07.0f}"
        for u in utterances
    )
    scores = [json.loads(line)["score"] for line in out.read_text(encoding="utf-8").splitlines()]
    assert all(0 < score <= 1 for score in scores)
    assert (tmp_path / "out" / "left_out.tsv").read_text(encoding="utf-8") == "mine"
    header, *rows = (tmp_path / "out" / "left_out.2.tsv").read_text(encoding="utf-8").splitlines()
    assert header.split("\t") == ["input", "begin", "end", "reason", "text"]
    assert [row.split("\t")[3:] for row in rows] == [["not heard", "x9"]]


@pytest.mark.parametrize(
    ("text", "suffix", "message"),
    [
        ("", ".txt", "no words"),
        ("7 8 9", ".txt", "no word of its text can be spelled"),
        ("mi " * 60, ".txt", "does not fit"),
        ("nothing", ".srt", "no line like"),
        ("00:00:09,000 --> 00:00:08,000\nla", ".vtt", "ends before it begins"),
        ("00:10:00,000 --> 00:10:08,000\nla", ".srt", "the recording has"),
    ],
)
def test_what_cannot_be_segmented_is_one_line_and_no_file(
    tone_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    suffix: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    _say([["la"] * NUM_WORDS] * 5, tmp_path / "book.wav")
    Path(f"book{suffix}").write_text(text, encoding="utf-8")
    command = ["align", str(tone_run / "model"), "book.wav", "--segment", "new.jsonl"]
    assert main(command) == 1
    first, *others = capsys.readouterr().err.splitlines()
    assert message in first
    assert others == ["1 of 1 inputs failed: see failures.tsv"]
    assert not Path("new.jsonl").exists()
    assert not Path("left_out.tsv").exists()


def test_hours_of_silence_are_no_text(recognizer: Recognizer, tmp_path: Path) -> None:
    path = tmp_path / "silence.wav"
    soundfile.write(path, np.zeros(tones.RATE * 600, np.int16), tones.RATE)
    ((_, result),) = Segmenter(recognizer).segment([_source(path, "la mi " * 200)])
    assert "does not fit" in str(result)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--segment", "new.jsonl", "--format", "ctm"], "no --format"),
        (["--segment", "new.jsonl", "--output-dir", "x"], "no --format"),
        (["--segment", "new.txt"], "ends in .jsonl"),
        (["book.srt"], "subtitles are for --segment"),
    ],
)
def test_wrong_usage_is_one_line(
    tone_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("book.wav").touch()
    assert main(["align", str(tone_run / "model"), "book.wav", *arguments]) == 2
    assert message in capsys.readouterr().err
