import random
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest

from asr.cli import main
from asr.corpus.formats.elan import read_elan
from asr.corpus.formats.textgrid import read_textgrid
from asr.errors import DataError
from asr.progress import silent
from asr.transcription import Recognizer, Source
from asr.transcription.aligner import Aligner
from asr.transcription.anchors import _in_order, cut_at_anchors
from tests import tones


@pytest.fixture(scope="module")
def recognizer(tone_run: Path) -> Recognizer:
    return Recognizer.load(tone_run / "model", device="cpu")


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> list[Source]:
    utterances = tones.write_corpus(tmp_path_factory.mktemp("speech"), 12, seed=3)
    return [Source(utterance=utterance) for utterance in utterances]


def _with_text(source: Source, text: str | None) -> Source:
    return replace(source, utterance=replace(source.utterance, text=text))


def _loud_stretches(source: Source) -> list[tuple[float, float]]:
    """Seconds in which a tone sounds, by its samples."""
    import soundfile

    samples, rate = soundfile.read(source.utterance.audio_filepath)
    level = np.convolve(np.abs(samples), np.ones(40) / 40, mode="same") > 0.05
    bounds = np.flatnonzero(np.diff(level.astype(int), prepend=0, append=0)) / rate
    return list(zip(bounds[::2], bounds[1::2], strict=True))


def test_words_are_where_they_sound(recognizer: Recognizer, speech: list[Source]) -> None:
    for source, result in Aligner(recognizer).align_sources(speech):
        assert not isinstance(result, Exception)
        assert [word.text for word in result.words] == (source.utterance.text or "").split()
        edges = [(word.start, word.end) for word in result.words]
        np.testing.assert_allclose(edges, _loud_stretches(source), atol=0.025)
        assert "".join(token.text for token in result.tokens) == result.text.replace(" ", "")


def test_words_keep_the_form_in_which_they_are_written(
    recognizer: Recognizer, speech: list[Source]
) -> None:
    written = " -- ".join(w.upper() + "," for w in (speech[0].utterance.text or "").split())
    ((_, result),) = Aligner(recognizer).align_sources([_with_text(speech[0], written)])
    assert not isinstance(result, Exception)
    assert [word.text for word in result.words] == written.replace("--", "").split()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no text"),
        ("", "no words"),
        ("-- , !", "no words"),
        ("la 7 mi €5", "2 words cannot be spelled"),
        ("la " * 400, "tokens need"),
    ],
)
def test_what_cannot_be_aligned_is_named(
    recognizer: Recognizer, speech: list[Source], text: str | None, message: str
) -> None:
    ((source, result),) = Aligner(recognizer).align_sources([_with_text(speech[0], text)])
    assert isinstance(result, DataError)
    assert message in str(result)
    assert source.id in str(result) or "tokens need" in str(result)


def test_the_text_of_another_recording_is_refused(
    recognizer: Recognizer, speech: list[Source]
) -> None:
    by_length = sorted(speech, key=lambda source: len(source.utterance.text or ""))
    other = "mi" if (by_length[0].utterance.text or "").startswith("la") else "la"
    text = " ".join([other] * len((by_length[0].utterance.text or "").split()))
    results = {
        source.utterance.text: result
        for source, result in Aligner(recognizer).align_sources(
            [_with_text(by_length[0], text), by_length[-1]]
        )
    }
    assert "does not fit" in str(results[text])
    assert not isinstance(results[by_length[-1].utterance.text], Exception)


def test_parts_cover_a_long_text_and_begin_where_it_is_said() -> None:
    draw = random.Random(4)
    text = [draw.randrange(1, 28) for _ in range(5000)]
    heard = [token if draw.random() > 0.1 else draw.randrange(1, 28) for token in text]
    path = [step for token in heard for step in (token, 0)]
    parts = list(cut_at_anchors(np.array(path), np.array(text), 28))
    assert len(parts) > 8
    assert (parts[0].tokens.start, parts[0].steps.start) == (0, 0)
    assert (parts[-1].tokens.stop, parts[-1].steps.stop) == (len(text), len(path))
    for before, after in pairwise(parts):
        assert (before.tokens.stop, before.steps.stop) == (after.tokens.start, after.steps.start)
        assert after.steps.start == 2 * after.tokens.start
        assert after.tokens.stop - after.tokens.start >= 400


@pytest.mark.parametrize(("num_words", "length", "errors"), [(10, 4, 0.3), (4, 5, 0.15)])
def test_a_text_of_few_words_is_cut_where_it_is_said(
    num_words: int, length: int, errors: float
) -> None:
    draw = random.Random(6)
    words = [[draw.randrange(1, 28) for _ in range(length)] for _ in range(num_words)]
    text = [token for _ in range(2000) for token in draw.choice(words)]
    heard = [token if draw.random() > errors else draw.choice(draw.choice(words)) for token in text]
    path = [step for token in heard for step in (token, 0)]
    parts = list(cut_at_anchors(np.array(path), np.array(text), 28))
    assert len(parts) > 4
    assert all(part.steps.start == 2 * part.tokens.start for part in parts)


def test_a_text_that_is_not_said_has_one_part() -> None:
    draw = random.Random(5)
    path = [draw.randrange(28) for _ in range(4000)]
    text = [draw.randrange(1, 28) for _ in range(2000)]
    (part,) = cut_at_anchors(np.array(path), np.array(text), 28)
    assert (part.tokens, part.steps) == (slice(0, 2000), slice(0, 4000))


@pytest.mark.parametrize("seed", range(20))
def test_the_row_of_anchors_is_the_longest(seed: int) -> None:
    places = random.Random(seed).sample(range(9), 9)
    row = [place for _, place in _in_order(iter(enumerate(places)))]
    rising = [c for n in range(1, 10) for c in combinations(places, n) if list(c) == sorted(c)]
    assert row == sorted(row)
    assert len(row) == max(map(len, rising))


def _write(folder: Path, speech: list[Source]) -> list[str]:
    """Recordings with their texts beside them."""
    folder.mkdir()
    for source in speech:
        path = folder / source.utterance.audio_filepath.name
        path.write_bytes(source.utterance.audio_filepath.read_bytes())
        path.with_suffix(".txt").write_text(source.utterance.text or "", encoding="utf-8")
    return [str(path) for path in sorted(folder.glob("*.wav"))]


def test_a_recording_and_its_text_are_printed(
    tone_run: Path, tmp_path: Path, speech: list[Source], capsys: pytest.CaptureFixture[str]
) -> None:
    audio, *_ = _write(tmp_path / "in", speech[:1])
    text = str(Path(audio).with_suffix(".txt"))
    assert main(["align", str(tone_run / "model"), audio, text, "--format", "ctm"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[4] for line in lines] == (speech[0].utterance.text or "").split()


def test_folders_give_files_that_are_read_back(
    tone_run: Path, tmp_path: Path, speech: list[Source]
) -> None:
    paths = _write(tmp_path / "in", speech[:3])
    (tmp_path / "in" / "1.txt").write_text("la 7", encoding="utf-8")
    command = ["align", str(tone_run / "model"), str(tmp_path / "in"), "--format", "textgrid,elan"]
    assert main([*command, "--output-dir", str(tmp_path / "in")]) == 1
    failures = (tmp_path / "in" / "failures.tsv").read_text(encoding="utf-8")
    assert "'7'" in failures
    assert len(failures.splitlines()) == 2
    assert not (tmp_path / "in" / "1.TextGrid").exists()
    for read, suffix in ((read_textgrid, "TextGrid"), (read_elan, "eaf")):
        path = Path(paths[0]).with_suffix(f".{suffix}")
        words = list(read(path, silent, tiers=["words"]))
        assert " ".join(word.text or "" for word in words) == speech[0].utterance.text
        stretches = [(word.offset, word.offset + word.duration) for word in words]
        np.testing.assert_allclose(stretches, _loud_stretches(speech[0]), atol=0.025)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["in"], "need --output-dir"),
        (["in/0.wav", "in/0.txt", "--format", "doc"], "--format doc"),
        (["in/0.wav", "in/0.txt", "--format", "ctm,json"], "several formats"),
        (["in/0.wav", "in/0.txt", "--skip-existing"], "--skip-existing needs"),
        (["in", "in/0.txt"], "one text"),
        (["in/0.txt", "in/0.wav"], "AUDIO stands before TEXT"),
        (["in/0.wav", "in/0.txt", "--normalizer", "klingon"], "klingon"),
    ],
)
def test_wrong_usage_is_one_line(
    tone_run: Path,
    tmp_path: Path,
    speech: list[Source],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    _write(tmp_path / "in", speech[:2])
    monkeypatch.chdir(tmp_path)
    assert main(["align", str(tone_run / "model"), *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"\xff\xfe\xff", None])
def test_a_text_that_cannot_be_read_is_a_failure(
    tone_run: Path,
    tmp_path: Path,
    speech: list[Source],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    content: bytes | None,
) -> None:
    audio, *_ = _write(tmp_path / "in", speech[:1])
    text = Path(audio).with_suffix(".txt")
    text.unlink()
    if content is not None:
        text.write_bytes(content)
    monkeypatch.chdir(tmp_path)
    assert main(["align", str(tone_run / "model"), audio]) == 1
    assert str(text) in capsys.readouterr().err
