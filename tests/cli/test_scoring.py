import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asr.cli import main
from asr.folders import LIST
from tests.scoring.test_page import Page
from tests.scoring.test_report import FILES, HYPOTHESES, REFERENCES, SPEAKERS


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
    assert lines[:2] == [
        "%WER 62.50 [ 5 / 8, 2 ins, 2 del, 1 sub ] [PARTIAL]",
        "%SER 60.00 [ 3 / 5 ]",
    ]
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
    assert {path.name for path in (folder / "out").iterdir()} == {*FILES, "report.html", LIST}
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
        pytest.param(["--max-wer", "nan"], "--max-wer nan: a number is expected", id="nan"),
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
