import errno
import io
import itertools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from asr.cli import main
from asr.corpus.manifest import write_manifest
from asr.model.features import Frontend
from tests import bad_audio
from tests.conftest import ROOT
from tests.tones import CONFIG, RATE, write_corpus


@pytest.fixture(scope="module")
def model(tone_run: Path) -> str:
    return str(tone_run / "model")


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    write_corpus(tmp_path / "speech", 3, seed=5)
    return tmp_path / "speech"


def texts_of(speech: Path) -> list[str]:
    return [u.text or "" for u in write_corpus(speech, 3, seed=5)]


def test_one_file_prints_its_text_alone(
    model: str, speech: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["transcribe", model, str(speech / "0.wav")]) == 0
    assert capsys.readouterr().out == texts_of(speech)[0] + "\n"


def test_one_file_may_be_named_in_any_way(
    model: str, speech: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(speech)
    assert main(["transcribe", model, "./0.wav"]) == 0
    assert capsys.readouterr().out == texts_of(speech)[0] + "\n"


def test_an_id_cannot_lead_out_of_the_output_folder(
    model: str, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    utterances = [
        replace(utterance, id=name)
        for utterance, name in zip(
            write_corpus(speech, 3, seed=5), ("a", "../../b", "c/../../d"), strict=True
        )
    ]
    write_manifest(utterances, tmp_path / "test.jsonl")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "er")
    output = tmp_path / "deep" / "er" / "out"
    arguments = ["transcribe", model, str(tmp_path / "test.jsonl"), "--output-dir", str(output)]
    assert main(arguments) == 0
    assert len(list(output.rglob("*.txt"))) == 3
    assert len(list(tmp_path.rglob("*.txt"))) == 3


def test_several_files_print_path_tab_text(
    model: str, speech: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["transcribe", model, str(speech / "0.wav"), str(speech / "2.wav")]) == 0
    texts = texts_of(speech)
    expected = f"{speech / '0.wav'}\t{texts[0]}\n{speech / '2.wav'}\t{texts[2]}\n"
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize("pattern", ["", "*.wav"], ids=["folder", "pattern"])
def test_folders_and_patterns_mean_their_files(
    model: str, speech: Path, pattern: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["transcribe", model, str(speech / pattern) if pattern else str(speech)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_features_of_a_feats_scp_give_the_text_of_their_audio(
    model: str, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples, _ = soundfile.read(speech / "1.wav", dtype="float32")
    waveform = torch.from_numpy(samples)[None]
    frames, _ = Frontend(CONFIG.features).base(waveform, torch.tensor([len(samples)]))
    matrix = frames[0].numpy()
    sizes = b"".join(b"\x04" + size.to_bytes(4, "little") for size in matrix.shape)
    (tmp_path / "feats.ark").write_bytes(b"u1 \0BFM " + sizes + matrix.tobytes())
    (tmp_path / "feats.scp").write_text(f"u1 {tmp_path / 'feats.ark'}:3\n")
    assert main(["transcribe", model, str(tmp_path / "feats.scp")]) == 0
    assert capsys.readouterr().out == f"u1\t{texts_of(speech)[1]}\n"


def test_json_holds_words_with_times(
    model: str, speech: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["transcribe", model, str(speech / "1.wav"), "--format", "json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["text"] == texts_of(speech)[1]
    assert result["audio_filepath"] == str(speech / "1.wav")
    words = result["segments"][0]["words"]
    assert [word["word"] for word in words] == result["text"].split()
    starts = [word["start"] for word in words]
    assert starts == sorted(starts)
    assert all(0 < word["probability"] <= 1 for word in words)


def test_bad_files_are_listed_and_the_rest_is_done(
    model: str, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (speech / "empty.wav").write_bytes(b"")
    (speech / "text.wav").write_text("not audio at all, but named so")
    soundfile.write(speech / "nan.wav", np.full(RATE, np.nan), RATE, subtype="FLOAT")
    output = tmp_path / "out"
    missing = str(tmp_path / "missing.wav")
    arguments = ["transcribe", model, str(speech), missing, "--output-dir", str(output)]
    assert main([*arguments, "--format", "txt,json"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"4 of 7 inputs failed: see {output / 'failures.tsv'}" in captured.err
    failures = (output / "failures.tsv").read_text().splitlines()
    assert failures[0] == "input\terror"
    names = {Path(line.split("\t")[0]).name for line in failures[1:]}
    assert names == {"empty.wav", "text.wav", "nan.wav", "missing.wav"}
    assert {path.name for path in (output / "speech").iterdir()} == {
        f"{n}.{kind}" for n in range(3) for kind in ("txt", "json")
    }


def test_same_names_in_different_folders_do_not_collide(
    model: str, speech: Path, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copy(speech / ("0.wav" if name == "a" else "1.wav"), tmp_path / name / "x.wav")
    inputs = [str(tmp_path / name / "x.wav") for name in ("a", "b")]
    output = tmp_path / "out"
    assert main(["transcribe", model, *inputs, "--output-dir", str(output)]) == 0
    texts = texts_of(speech)
    assert (output / "a" / "x.txt").read_text() == texts[0] + "\n"
    assert (output / "b" / "x.txt").read_text() == texts[1] + "\n"


def test_what_is_there_is_skipped_when_asked(model: str, speech: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    arguments = ["transcribe", model, str(speech), "--output-dir", str(output), "--skip-existing"]
    output.mkdir()
    (output / "0.txt").write_text("mine")
    assert main(arguments) == 0
    assert (output / "0.txt").read_text() == "mine"
    assert (output / "1.txt").exists()


def test_another_inputs_result_is_not_taken_for_an_inputs_own(
    model: str, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (tmp_path / name / "x.wav" for name in "ab")
    for path, number in ((first, 0), (second, 1)):
        path.parent.mkdir()
        shutil.copy(speech / f"{number}.wav", path)
    output = tmp_path / "out"
    options = ["--output-dir", str(output), "--skip-existing", "--format", "txt,json"]
    assert main(["transcribe", model, str(first), *options]) == 0
    before = (output / "x.txt").stat()
    assert main(["transcribe", model, str(first), *options]) == 0
    capsys.readouterr()
    assert main(["transcribe", model, str(second), *options]) == 1
    message = f"{output / 'x.txt'} is there, of {first} or a part"
    assert message in capsys.readouterr().err
    assert message in (output / "failures.tsv").read_text()
    assert (output / "x.txt").stat() == before
    assert main(["transcribe", model, str(second), *options[:2]]) == 0  # txt alone, and replaced
    assert (output / "x.txt").read_text() == texts_of(speech)[1] + "\n"
    assert main(["transcribe", model, str(second), *options]) == 1  # the json is the first's


def test_a_result_that_was_being_written_is_written_again(
    model: str, speech: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    arguments = ["transcribe", model, str(speech / "0.wav"), "--output-dir", str(output)]
    assert main(arguments) == 0
    record = output / "inputs.jsonl"
    record.write_text(record.read_text().splitlines()[0] + "\n")  # killed between the two lines
    (output / "0.txt").write_text("older")
    assert main([*arguments, "--skip-existing"]) == 0
    assert (output / "0.txt").read_text() == texts_of(speech)[0] + "\n"


def test_one_id_for_different_audio_is_an_error_by_name(
    model: str, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    utterances = write_corpus(speech, 3, seed=5)
    names = ("a.jsonl", "b.jsonl")
    pairs = [utterances[:2], [replace(utterances[2], id=utterances[0].id), utterances[1]]]
    for name, pair in zip(names, pairs, strict=True):
        write_manifest(pair, tmp_path / name)
    arguments = ["transcribe", model, *(str(tmp_path / name) for name in names)]
    assert main([*arguments, "--output-dir", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert f"{speech / '2.wav'} (0 s to" in error
    assert f"has the id of {speech / '0.wav'} (0 s to" in error
    assert "1 of 3 inputs failed" in error
    assert len(list((tmp_path / "out").glob("*.txt"))) == 2


def test_every_bad_file_is_reported_and_the_others_are_done(
    model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, output = tmp_path / "bad", tmp_path / "out"
    folder.mkdir()
    bad_audio.write_bad_audio(folder)
    failures = {name: cause for name, (_, cause) in bad_audio.FAILURES.items()}
    failures |= {name: cause for name, (_, cause) in bad_audio.SPECIAL.items()}
    if os.access(folder / "unreadable.wav", os.R_OK):  # as root
        del failures["unreadable.wav"]
    monkeypatch.chdir(folder)
    vanished = "vanished.wav"
    arguments = ["--output-dir", str(output), "--format", "txt,json", "--", "-dash.wav", vanished]
    tracemalloc.start()
    try:
        assert main(["transcribe", model, *arguments, "."]) == 1
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200e6
    _, *lines = (output / "failures.tsv").read_text().splitlines()
    found = dict(line.split("\t") for line in lines)
    for name, cause in {**failures, vanished: "No such file"}.items():
        assert cause in found.pop(name), name
    assert not found
    error = capsys.readouterr().err
    for name, (_, warning) in bad_audio.WARNINGS.items():
        (line,) = [line for line in error.splitlines() if line.startswith(f"warning: {name}: ")]
        assert warning in line
    done = bad_audio.FINE.keys() | bad_audio.WARNINGS.keys() | bad_audio.SPECIAL.keys() - failures
    lists = ("failures.tsv", "inputs.jsonl")
    results = [path for path in output.iterdir() if path.name not in lists]
    assert len(results) == 2 * len(done)
    assert all(path.stat().st_size for path in results)
    for path in output.glob("*.json"):
        json.loads(path.read_text())


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"]
)
def test_a_stopped_job_leaves_whole_results_and_goes_on(
    model: str,
    speech: Path,
    tmp_path: Path,
    number: int,
    code: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = tmp_path / "out"
    count = itertools.count(1)

    def sync(_: int) -> None:
        # The third file, the second input's text, is written but has no name yet.
        if next(count) == 3:
            signal.raise_signal(number)

    arguments = ["transcribe", model, str(speech), "--output-dir", str(output)]
    arguments += ["--format", "txt,json"]
    # A shell lets its background jobs ignore Ctrl-C; this suite may be one.
    before_test = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", sync)
            assert main(arguments) == code
    finally:
        signal.signal(signal.SIGINT, before_test)
    assert {path.name for path in output.iterdir()} == {"0.txt", "0.json", "inputs.jsonl"}
    assert "1 of 3 inputs were transcribed" in capsys.readouterr().err
    before = (output / "0.txt").stat()
    assert main([*arguments, "--skip-existing"]) == 0
    assert len(list(output.iterdir())) == 7
    assert (output / "0.txt").stat() == before


def test_a_killed_job_leaves_nothing_when_it_was_given_again(
    model: str, speech: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    arguments = ["transcribe", model, str(speech), "--output-dir", str(output)]
    pid = os.fork()
    if not pid:
        os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
        main(arguments)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    (left,) = output.rglob("*.asr-tmp")
    assert left.name.startswith(".0.txt.")
    mine = left.with_name(".0.txt.swp")
    mine.write_text("mine")
    assert main(arguments) == 0
    assert not left.exists()
    assert mine.read_text() == "mine"


def test_a_list_of_failures_takes_no_other_files_place(
    model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("failures.tsv").write_text("date\tfailure\n1\tmine\n")
    os.mkfifo("failures.2.tsv")
    Path("elsewhere").write_text("mine")
    Path("failures.3.tsv").symlink_to("elsewhere")
    for _ in range(2):
        assert main(["transcribe", model, "missing.wav"]) == 1
        assert "1 of 1 inputs failed: see failures.4.tsv" in capsys.readouterr().err
    assert Path("failures.tsv").read_text() == "date\tfailure\n1\tmine\n"
    assert Path("elsewhere").read_text() == "mine"
    assert Path("failures.4.tsv").read_text().startswith("input\terror\nmissing.wav\t")
    assert not Path("failures.5.tsv").exists()


def test_only_a_list_of_failures_is_removed_when_nothing_fails(
    model: str, speech: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    output.mkdir()
    arguments = ["transcribe", model, str(speech / "0.wav"), "--output-dir", str(output)]
    for text, stays in (("input\tanswer\n", True), ("input\terror\nx\ty\n", False)):
        (output / "failures.tsv").write_text(text)
        assert main(arguments) == 0
        assert (output / "failures.tsv").exists() == stays


def test_failures_are_told_where_no_list_of_them_can_be_written(
    model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "touch", refuse)
    assert main(["transcribe", model, "missing.wav"]) == 1
    *_, last = capsys.readouterr().err.splitlines()
    assert last == "1 of 1 inputs failed; failures.tsv: Permission denied"


def test_a_full_disk_stops_the_job_and_leaves_whole_results(
    model: str, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The system refuses to write all of the JSON to a file, as it would on a full disk."""
    output = tmp_path / "out"
    most = 240 + len(str(output))
    arguments = ["transcribe", model, str(speech), "--output-dir", str(output)]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
    try:
        assert main([*arguments, "--format", "txt,json"]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name for path in output.iterdir()} == {"0.txt", "inputs.jsonl"}
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("0 of 3 inputs were transcribed; their results are complete")
    assert second == f"asr: {output}: File too large"


def test_stdin_of_any_container_or_none_is_read(
    model: str, speech: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, _ = soundfile.read(speech / "0.wav", dtype="int16")
    for content, options in (
        ((speech / "0.wav").read_bytes(), []),
        (samples.astype("<i2").tobytes(), ["--raw", str(RATE)]),
    ):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
        assert main(["transcribe", model, "-", *options]) == 0
        assert capsys.readouterr().out == texts_of(speech)[0] + "\n"


def test_each_channel_gets_a_result(
    model: str, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    channels = [soundfile.read(speech / f"{n}.wav", dtype="float32")[0] for n in (0, 1)]
    length = min(map(len, channels))
    path = tmp_path / "call.wav"
    soundfile.write(path, np.stack([samples[:length] for samples in channels], 1), RATE)
    for number, samples in enumerate(channels):
        soundfile.write(tmp_path / f"{number}.wav", samples[:length], RATE)
    expected = ""
    for number in (0, 1):
        assert main(["transcribe", model, str(tmp_path / f"{number}.wav")]) == 0
        expected += f"{path}-ch{number + 1}\t{capsys.readouterr().out}"
    assert main(["transcribe", model, str(path), "--channel", "each"]) == 0
    assert capsys.readouterr().out == expected


def test_a_low_rate_is_warned_about_by_name(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "low.wav"
    soundfile.write(path, 0.1 * np.sin(np.arange(4000)), 4000)
    assert main(["transcribe", model, str(path)]) == 0
    assert f"warning: {path}: its rate of 4000 Hz is below" in capsys.readouterr().err


def test_evaluate_prints_kaldis_line_and_writes_the_report(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    utterances = write_corpus(tmp_path / "speech", 6, seed=5)
    write_manifest(utterances, tmp_path / "test.jsonl")
    output = tmp_path / "out"
    arguments = ["evaluate", model, str(tmp_path / "test.jsonl"), "--output-dir", str(output)]
    assert main(arguments) == 0
    first, second = capsys.readouterr().out.splitlines()[:2]
    num_words = sum(len((u.text or "").split()) for u in utterances)
    assert first == f"%WER 0.00 [ 0 / {num_words}, 0 ins, 0 del, 0 sub ]"
    assert second == "%SER 0.00 [ 0 / 6 ]"
    assert "<html" in (output / "report.html").read_text()
    rows = [json.loads(line) for line in (output / "hypotheses.jsonl").read_text().splitlines()]
    assert [row["pred_text"] for row in rows] == [u.text for u in utterances]
    assert main(["score", str(tmp_path / "test.jsonl"), str(output / "hypotheses.jsonl")]) == 0
    assert capsys.readouterr().out.startswith(first)


def test_an_unreadable_utterance_counts_as_deletions(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    utterances = write_corpus(tmp_path / "speech", 4, seed=5)
    write_manifest(utterances, tmp_path / "test.jsonl")
    utterances[2].audio_filepath.write_bytes(b"RIFF")
    output = tmp_path / "out"
    arguments = ["evaluate", model, str(tmp_path / "test.jsonl"), "--output-dir", str(output)]
    assert main(arguments) == 1
    num_lost = len((utterances[2].text or "").split())
    out, err = capsys.readouterr()
    assert f"0 ins, {num_lost} del, 0 sub" in out.splitlines()[0]
    assert "1 of 4 inputs failed" in err
    assert utterances[2].id in (output / "failures.tsv").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["transcrbe"], "no verb 'transcrbe'; did you mean transcribe?", id="verb"),
        pytest.param(["transcribe", "{empty}", "x.wav"], "not a model folder", id="model"),
        pytest.param(["transcribe", "{model}"], "Missing argument", id="no input"),
        pytest.param(["transcribe", "{model}", "x", "--format", "srx"], "srx", id="format"),
        pytest.param(
            ["transcribe", "{model}", "x", "--format", "txt,json"], "--output-dir", id="two formats"
        ),
        pytest.param(["transcribe", "{model}", "x", "--channel", "0"], "mix, each", id="channel"),
        pytest.param(["transcribe", "{model}", "x", "--raw", "s16"], "16000:s16:1", id="raw"),
        pytest.param(["evaluate", "{model}", "{empty}/no.jsonl"], "no.jsonl", id="manifest"),
        pytest.param(["run", "{empty}"], "not a recipe", id="recipe"),
        pytest.param(["run", "{digits}", "--conf", "defualt"], "did you mean default", id="conf"),
        pytest.param(["run", "{digits}", "--from", "trian"], "did you mean train", id="stage"),
        pytest.param(
            ["run", "{digits}", "--set", "training.learnig_rate=1"],
            "did you mean learning_rate?",
            id="key",
        ),
        pytest.param(["run", "{digits}", "--set", "epochs"], "KEY=VALUE", id="set"),
        pytest.param(["show", "{empty}/none"], "no such file", id="show"),
    ],
)
def test_a_mistake_gives_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"model": model, "empty": str(tmp_path), "digits": str(ROOT / "recipes" / "digits")}
    assert main([argument.format(**places) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.startswith("asr: ")
    assert captured.err.count("\n") == 1


def test_a_missing_corpus_says_where_to_get_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("yesno", "fsdd", "an4"):
        recipe = str(ROOT / "recipes" / name)
        assert main(["run", recipe, "--corpus", str(tmp_path / "nowhere")]) == 2
        assert "--corpus" in capsys.readouterr().err


def test_recipes_are_listed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == [
        f"recipes/{name}"
        for name in ("an4", "digits", "english", "fsdd", "librispeech", "speechocean762", "yesno")
    ]


def test_stages_are_listed_by_number_and_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", str(ROOT / "recipes" / "yesno"), "--list"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    names = ["download", "prepare", "pack", "train", "lm", "tune", "evaluate"]
    assert [row[:3] for row in rows] == [
        [str(number), name, "to do"] for number, name in enumerate(names, 1)
    ]
    assert not list(tmp_path.iterdir())


def test_things_are_described(
    model: str, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_manifest(write_corpus(tmp_path / "speech", 3, seed=5), tmp_path / "test.jsonl")
    described = {
        model: "1 lstm layers of 24",
        str(speech / "0.wav"): "8000 Hz",
        str(tmp_path / "test.jsonl"): "utterances   3, 3 with text",
        str(ROOT / "conf" / "digits" / "default.yaml"): "sample_rate: 8000",
    }
    for thing, expected in described.items():
        assert main(["show", thing]) == 0
        assert expected in capsys.readouterr().out


def test_help_and_scoring_load_no_torch() -> None:
    code = (
        "import sys; from asr.cli import main; main(['--help']); import asr.cli.recipes, "
        "asr.cli.scoring, asr.cli.show, asr.cli.transcription, asr.recipe.standard; "
        "import asr.scoring.errors; "
        "heavy = {'torch', 'lightning', 'librosa', 'matplotlib', 'pandas'} & set(sys.modules); "
        "sys.exit(bool(heavy) and str(heavy))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "transcribe" in done.stdout


@pytest.mark.parametrize("value", [None, "30000"])
@pytest.mark.parametrize("module", ["asr.training.trainer", "asr.model.network", "asr.lm.neural"])
def test_openmps_threads_do_not_wait_at_work_whatever_brings_torch(
    module: str, value: str | None
) -> None:
    ours = ("GOMP_SPINCOUNT", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")
    environment = {name: text for name, text in os.environ.items() if name not in ours}
    environment |= {"OMP_DISPLAY_ENV": "verbose", **({"GOMP_SPINCOUNT": value} if value else {})}
    # Libgomp itself says what it was told.
    done = subprocess.run(
        [sys.executable, "-c", f"import os, {module}; print(os.environ[{ours[1]!r}])"],
        env=environment,
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert f"GOMP_SPINCOUNT = '{value or 1000}'" in done.stderr
    assert done.stdout == "32\n"


def test_an_end_of_file_where_none_should_be_is_no_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise EOFError

    monkeypatch.setattr("asr.recipe.catalogue.available_recipes", fail)
    with pytest.raises(EOFError):
        main(["recipes"])


def test_every_verb_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("recipes", "run", "transcribe", "evaluate", "score", "compare", "show"):
        assert main([verb, "--help"]) == 0
        assert "Usage: asr" in capsys.readouterr().out
