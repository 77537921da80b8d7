import html.parser
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asr.audio.stream import read_audio
from asr.cli import main
from asr.page import Posteriors
from asr.scoring.detail import write_files
from asr.scoring.errors import Score, UtteranceScore, score
from asr.scoring.page import MAX_EMBEDDED_BYTES, write_html
from asr.scoring.report import (
    Clip,
    ScoreReport,
    normalization_examples,
    report_json,
    report_lines,
    report_notes,
)

FILES = {
    "report.txt", "report.json", "alignments.txt", "per_utt", "per_spk", "ops", "ref.trn",
    "hyp.trn", "RESULTS.md",
}  # fmt: skip

REFERENCES = {"s-1": "a b c", "s-2": "a b", "t-1": "a", "t-2": "", "t-3": "d e"}
HYPOTHESES = {"s-1": "a x c", "s-2": "a b y y", "t-1": "a", "t-2": ""}
SPEAKERS = {utterance_id: utterance_id[0] for utterance_id in REFERENCES}
SCORE = score(REFERENCES, HYPOTHESES, speakers=SPEAKERS)


def report_of(scored: Score, **values: object) -> ScoreReport:
    return ScoreReport(
        score=scored,
        reference="ref",
        hypothesis="hyp",
        **values,  # type: ignore[arg-type]
    )


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


def test_the_json_holds_counts_rates_and_every_utterance() -> None:
    values = json.loads(report_json(report_of(SCORE, audio_seconds=20.0, compute_seconds=0.5)))
    assert values["schema_version"] == 1
    assert values["wer"] == pytest.approx(62.5)
    assert values["words"] == {"errors": 5, "reference_length": 8, "substitutions": 1,
                               "deletions": 2, "insertions": 2}  # fmt: skip
    assert values["missing"] == ["t-3"]
    assert values["empty_references"] == {"num": 1, "insertions": 0}
    assert values["interval"]["unit"] == "speaker"
    assert values["real_time_factor"] == 0.025
    assert [row["id"] for row in values["utterances"]] == list(REFERENCES)
    assert values["utterances"][3]["wer"] is None


def same(text: str) -> str:
    del text
    return "same"


def test_lines_files_and_page_share_one_count_of_the_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spelled = []
    spell_out = UtteranceScore.pairs
    monkeypatch.setattr(UtteranceScore, "pairs", lambda u: (spelled.append(u.id), spell_out(u))[1])
    report = report_of(SCORE)
    assert report.operations["S", "b", "x"] == 1
    report_json(report)
    report_lines(report)
    assert spelled == list(REFERENCES)
    # Each place that shows the words of an utterance spells them out; none counts them again.
    write_files(report, tmp_path)
    write_html(report, tmp_path / "report.html")
    assert Counter(spelled) == {**dict.fromkeys(REFERENCES, 4), "t-3": 3}


def test_raw_and_normalized_rates_stand_side_by_side() -> None:
    references, said = {"u": "Hello, World", "v": "b"}, {"u": "hello world", "v": "b"}
    raw, normalized = score(references, said), score(references, said, normalizer=same)
    report = report_of(normalized, raw=raw, normalizer="basic")
    assert "Before normalizer basic: WER 66.67 % (2 / 3)" in report_lines(report)
    examples = json.loads(report_json(report))["raw"]["examples"]
    assert examples[0] == {"id": "u", "before": "Hello, World", "after": "same"}


def test_notes_warn_of_few_units_and_of_no_errors() -> None:
    notes = " ".join(report_notes(report_of(score(REFERENCES, REFERENCES))))
    assert "5 utterances are few" in notes
    assert "no errors: resampling cannot bound the rate" in notes


def test_examples_are_the_first_texts_that_the_normalizer_changed() -> None:
    references = dict(zip("uvwxyz", "aBCDEF", strict=True))
    said = {"u": "a", "w": "X", "x": "Y"}
    scores = [score(references, said, normalizer=normalizer) for normalizer in (None, str.lower)]
    examples = normalization_examples(report_of(scores[1], raw=scores[0], normalizer="lower"))
    assert [(each["id"], each["before"], each["after"]) for each in examples] == [
        ("v", "B", "b"), ("w", "C", "c"), ("w", "X", "x"),
    ]  # fmt: skip
    assert normalization_examples(report_of(scores[1])) == []


def test_notes_name_ten_missing_utterances() -> None:
    for count, end in ((10, "u8, u9"), (11, "u8, u9, ...")):
        texts = {f"u{number}": "a" for number in range(count)}
        (note,) = [n for n in report_notes(report_of(score(texts, {}))) if "without" in n]
        assert note.endswith(end)


def test_no_errors_are_bounded_by_three_of_the_words() -> None:
    texts = {f"u{number}": "a b c" for number in range(20)}
    (note,) = report_notes(report_of(score(texts, texts)))
    assert "below 5 % (3 / words)" in note


def test_json_lists_fifty_confusions_and_letters_of_any_script() -> None:
    texts = {f"u{number}": f"ä{number}" for number in range(60)}
    text = report_json(report_of(score(texts, dict.fromkeys(texts, "x"))))
    assert len(json.loads(text)["confusions"]) == 50
    assert '"ä0"' in text


def test_a_clip_is_from_the_beginning_of_its_file() -> None:
    clip = Clip(path=Path("a.wav"))
    assert (clip.offset, clip.duration) == (0, None)


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
    import soundfile

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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, texts in (("ref", REFERENCES), ("hyp", HYPOTHESES)):
        lines = [f"{utterance_id} {text}\n" for utterance_id, text in texts.items()]
        (tmp_path / name).write_text("".join(lines), encoding="utf-8")
    lines = [f"{utterance_id} {speaker}\n" for utterance_id, speaker in SPEAKERS.items()]
    (tmp_path / "utt2spk").write_text("".join(lines), encoding="utf-8")
    return tmp_path


def test_score_prints_the_result_on_stdout_and_notes_on_stderr(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["score", str(folder / "ref"), str(folder / "hyp"),
                 "--utt2spk", str(folder / "utt2spk")])  # fmt: skip
    out, err = capsys.readouterr()
    assert code == 0
    lines = out.splitlines()
    assert lines[:2] == ["%WER 62.50 [ 5 / 8, 2 ins, 2 del, 1 sub ]", "%SER 60.00 [ 3 / 5 ]"]
    assert "bootstrap by speaker, 2 speakers" in lines[2]
    assert "1 without a hypothesis, counted as deletions: t-3" in err


def test_score_with_format_json_prints_json_alone(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", str(folder / "ref"), str(folder / "hyp"), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["words"]["errors"] == 5


def test_score_writes_a_report_into_a_folder(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--format", "text,json,html", "--output-dir", str(folder / "out")]
    assert main(["score", str(folder / "ref"), str(folder / "hyp"), *arguments]) == 0
    assert {path.name for path in (folder / "out").iterdir()} == {*FILES, "report.html"}
    assert capsys.readouterr().out == (folder / "out" / "report.txt").read_text()


@pytest.mark.parametrize(("max_wer", "code"), [("62.5", 0), ("62.4", 1), ("100", 0), ("0", 1)])
def test_score_exits_with_1_if_the_threshold_is_missed(
    folder: Path, max_wer: str, code: int
) -> None:
    assert main(["score", str(folder / "ref"), str(folder / "hyp"), "--max-wer", max_wer]) == code


def test_score_misses_every_threshold_if_no_reference_has_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ref").write_text("u\n")
    assert main(["score", str(tmp_path / "ref"), str(tmp_path / "ref"), "--max-wer", "50"]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("%WER nan [ 0 / 0, 0 ins, 0 del, 0 sub ]")
    assert "undefined: no reference has words" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--format", "html"], "needs --output-dir", id="html without a folder"),
        pytest.param(["--format", "text,json"], "needs --output-dir", id="two formats"),
        pytest.param(["--format", "xml"], "'xml' is not one of text, json, html", id="format"),
        pytest.param(["--normalizer", "x"], "there are none, basic, english", id="normalizer"),
        pytest.param(["--utt2spk", "gone"], "gone: No such file", id="no utt2spk"),
        pytest.param(["--max-wer", "-1"], "not a percentage", id="negative"),
        pytest.param(["--max-wer", "nan"], "not a percentage", id="nan"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["score", str(folder / "ref"), str(folder / "hyp"), *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_extra_hypotheses_need_permission(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (folder / "hyp").open("a") as file:
        file.write("extra-1 x\n")
    command = ["score", str(folder / "ref"), str(folder / "hyp")]
    assert main(command) == 2
    assert (
        "1 hypothesis (extra-1) without a reference; with --allow-extra" in capsys.readouterr().err
    )
    assert main([*command, "--allow-extra"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("%WER 62.50")
    assert "1 hypotheses without a reference are left out" in err


def test_an_utterance_without_speaker_in_utt2spk_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "utt2spk").write_text("s-1 s\n")
    arguments = [str(folder / "ref"), str(folder / "hyp"), "--utt2spk", str(folder / "utt2spk")]
    assert main(["score", *arguments]) == 2
    assert "utt2spk: 4 utterances are not in it, as s-2" in capsys.readouterr().err


HALF_A_CHARACTER = "\ud800"
VALUES = st.one_of(
    st.booleans(),
    st.integers() | st.just(10**400),
    st.floats(),
    st.text(max_size=4),
    st.sampled_from([None, [1], HALF_A_CHARACTER, "tone.wav", "x" * 5000, "\x00"]),
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {"id": st.text("ab<", min_size=1, max_size=3), "text": st.text(max_size=5)},
        optional={
            "pred_text": st.text(max_size=5),
            "speaker": st.text(max_size=2),
            "duration": VALUES,
            "offset": VALUES,
            "audio_filepath": st.sampled_from(["tone.wav", "gone.wav", "x" * 5000, "\x00"]),
            "room": VALUES,
            "<b>": VALUES,
        },
    ),
    max_size=4,
    unique_by=lambda row: row["id"],
)


@given(ROWS)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_manifest_gives_a_report_or_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[dict[str, object]]
) -> None:
    (tmp_path / "tone.wav").write_bytes(b"not sound")
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    output = ["--format", "html", "--output-dir", str(tmp_path / "out"), "--normalizer", "english"]
    code = main(["score", str(path), str(path), *output])
    out, err = capsys.readouterr()
    if code:
        assert (code, out, err.count("\n")) == (2, "", 1)
    else:
        Page(tmp_path / "out" / "report.html")
        assert out.startswith("%WER ")


def test_audio_that_cannot_be_there_is_not_looked_for(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    row = {"id": "u", "text": "a", "pred_text": "a", "audio_filepath": "x" * 5000}
    path.write_text(json.dumps(row), encoding="utf-8")
    assert main(["score", str(path), str(path)]) == 0


def test_compare_prints_the_tests(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *(str(folder / name) for name in ("ref", "hyp", "ref"))]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "A: WER 62.50 % [ 5 / 8, 2 ins, 2 del, 1 sub ], 1 missing"
    assert lines[1] == "B: WER 0.00 % [ 0 / 8, 0 ins, 0 del, 0 sub ], 0 missing"
    assert [line.split(":")[0] for line in lines[2:7]] == [
        "Difference A - B", "Paired bootstrap", "MAPSSWE", "McNemar on sentences", "Utterances",
    ]  # fmt: skip
    assert "supposes about 50 segments; there are 3" in err
    command = ["compare", *(str(folder / name) for name in ("ref", "hyp", "ref"))]
    assert main([*command, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["bootstrap"]["difference"] == 62.5


def test_scoring_does_not_import_torch_or_pictures(folder: Path) -> None:
    import subprocess
    import sys

    script = (
        "import sys; from asr.cli import main; "
        f"code = main(['score', {str(folder / 'ref')!r}, {str(folder / 'hyp')!r}]); "
        "heavy = {'torch', 'librosa', 'matplotlib', 'scipy', 'lightning'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
