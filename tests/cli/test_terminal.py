import json
import logging
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from asr.cli import _VERBS, main
from asr.cli.terminal import put_transcript, report, show_log
from asr.corpus import write_manifest
from asr.errors import visible
from tests.recipe.test_run import RECIPE, write_recipe
from tests.tones import write_corpus

ROOT = Path(__file__).parents[2]
EVIL = "\x1b]0;x\x07\x9b31m\x7f\u202e\rforged"
"""A title, a colour, a backspace, the other direction of writing, and the line's beginning."""
JOINED = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"  # Persian, with a non-joiner
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")

VERBS = r"""
recipes
run recipes/words --dry-run --set corpus.remark="\e\x9b"
run recipes/words --set corpus.remark="\e\x9b"
run recipes/words --set corpus.EVIL=1
init EVIL-recipe --audio EVIL.jsonl --format nemo
init EVIL-recipe --text EVIL-none.txt
transcribe model EVIL.wav none-EVIL.wav --device cpu
transcribe model EVIL.wav EVIL.jsonl --format json --device cpu
transcribe model EVIL.jsonl --output-dir out --device cpu
transcribe model EVIL.wav --live
align model EVIL.wav EVIL.txt --device cpu
align model EVIL.jsonl --format ctm --output-dir aligned --device cpu
spot model EVIL.wav EVIL.jsonl --keywords la.txt --threshold 0 --device cpu
spot model EVIL.jsonl --keywords good.txt --device cpu
serve EVIL-none --port 0
evaluate model EVIL.jsonl --device cpu
tune model EVIL.jsonl --lm good.arpa --device cpu
tune model EVIL.jsonl --keywords la.txt --device cpu
score EVIL.jsonl hyp.jsonl
score EVIL.jsonl hyp.jsonl --format json
score EVIL.trn hyp.jsonl
compare EVIL.jsonl hyp.jsonl hyp.jsonl
compare EVIL.jsonl hyp.jsonl hyp.jsonl --format json
lm train EVIL.txt --order 2 --output EVIL.arpa
lm show good.arpa
lm perplexity good.arpa other-EVIL.txt
lm show EVIL.wav
data check EVIL.jsonl
data check EVIL.jsonl --format json
data check EVIL.jsonl EVIL2.jsonl --output-dir checked --fix fixed
data label model EVIL.jsonl EVIL.wav --output EVIL-labels.jsonl --device cpu
data stats EVIL.jsonl EVIL2.jsonl
data stats EVIL.jsonl EVIL2.jsonl --format json
data split EVIL.jsonl --output-dir split
data split EVIL.jsonl --output-dir split --by utterance
data subset EVIL.jsonl --output EVIL3.jsonl --utterances 99
data filter EVIL.jsonl --output EVIL3.jsonl --match [
data import EVIL.jsonl --format nemo --output imported.jsonl
data export EVIL.jsonl --format folder --output EVIL-folder
data export EVIL.jsonl --format kaldi --output EVIL-kaldi
data shard EVIL.jsonl --output EVIL-shards
export EVIL-model
export model --output EVIL-out --check EVIL.jsonl
show EVIL.jsonl
show EVIL.wav
show EVIL.yaml
show none-EVIL
show hostile-model
nosuch-EVIL
""".strip().splitlines()


@pytest.fixture(scope="module")
def folder(tone_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("hostile")
    shutil.copytree(tone_run / "model", top / "model")
    shutil.copytree(tone_run / "model", top / "hostile-model")
    tokens = top / "hostile-model" / "tokens.txt"
    lines = tokens.read_text().splitlines()
    tokens.write_text("\n".join([*lines[:-1], f"{lines[-1]}\x1b\x9b\u202e"]) + "\n")
    utterances = [
        replace(u, id=f"{number}{EVIL}", text=f"{u.text} {EVIL} {JOINED}", speaker=f"s{EVIL}")
        for number, u in enumerate(write_corpus(top, 4, seed=5))
    ]
    shutil.copy(utterances[0].audio_filepath, top / f"{EVIL}.wav")
    utterances[0] = replace(utterances[0], audio_filepath=top / f"{EVIL}.wav")
    utterances[1] = replace(utterances[1], audio_filepath=top / f"none-{EVIL}.wav")
    write_manifest(utterances, top / f"{EVIL}.jsonl")
    write_manifest([replace(u, text=EVIL) for u in utterances[1:]], top / f"{EVIL}2.jsonl")
    rows = [{"id": u.id, "pred_text": f"x {EVIL}"} for u in utterances[1:]]
    (top / "hyp.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (top / f"{EVIL}.trn").write_text(f"{EVIL[:-7]} (a\x1bb) c\n")
    (top / f"{EVIL}.yaml").write_text('corpus: {"a\\e[31m": "b\\x9b"}\n')
    (top / f"{EVIL}.txt").write_text(f"a b {EVIL.replace(chr(13), '')}\nb a\n")
    (top / f"other-{EVIL}.txt").write_text(f"b{EVIL.replace(chr(13), '')} a\n")
    (top / "la.txt").write_text("la\nmi la\n")
    (top / "good.txt").write_text("a\x1b[31mb c\x9bd\n" * 3)
    recipe = RECIPE.replace('"""Words, and', '"""Words \\x1b\\x9b\\u202e, and', 1)
    shutil.copytree(write_recipe(top, recipe), top / "recipes" / f"r{EVIL}")
    assert (
        main(
            [
                "lm",
                "train",
                str(top / "good.txt"),
                "--order",
                "1",
                "--output",
                str(top / "good.arpa"),
            ]
        )
        == 0
    )
    return top


def test_every_verb_is_tried() -> None:
    assert {line.split()[0] for line in VERBS} > _VERBS.keys()


@pytest.mark.parametrize("line", VERBS)
def test_no_verb_lets_data_steer_the_terminal(
    folder: Path, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    main([word.replace("EVIL", EVIL) for word in line.split(" ")])
    captured = capsys.readouterr()
    assert captured.out + captured.err
    assert not CONTROL.search(captured.out), captured.out
    assert not CONTROL.search(captured.err), captured.err


def test_json_that_is_printed_says_exactly_what_the_data_say(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    main(["score", f"{EVIL}.jsonl", "hyp.jsonl", "--format", "json"])
    assert json.loads(capsys.readouterr().out)["reference"] == f"{EVIL}.jsonl"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_transcript_is_exact_where_no_terminal_is(
    is_terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: is_terminal)
    put_transcript(f"{EVIL} {JOINED}\tx\n", "txt")
    shown = capsys.readouterr().out
    assert shown == f"{visible(EVIL) if is_terminal else EVIL} {JOINED}\tx\n"
    put_transcript(json.dumps({"text": EVIL}, ensure_ascii=False) + "\n", "json")
    shown = capsys.readouterr().out
    assert not CONTROL.search(shown)
    assert json.loads(shown) == {"text": EVIL}


def test_only_control_characters_are_written_as_escapes() -> None:
    plain = f"\u00e9 \u4f60\u597d {JOINED} \u200f\u05d0 \U0001f600\ta\u00a0b"
    assert visible(plain) == plain
    assert visible("\x00\x1b\x7f\x85\u2028\u202e\ud800\n") == (
        r"\x00\x1b\x7f\x85\u2028\u202e\ud800\n"
    )


def test_what_the_program_logs_is_written_once_and_steers_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for _ in range(2):
        show_log()
    logging.getLogger("asr.somewhere").warning("%s of 3", "\x1b[2J")
    assert capsys.readouterr().err == "warning: \\x1b[2J of 3\n"


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ([], ["progress", "report", "warning: warning", "error: error"]),
        (["-v"], ["progress", "report", "detail", "warning: warning", "error: error"]),
        (["-q"], ["error: error"]),
    ],
)
@pytest.mark.parametrize("first", [True, False], ids=["before the verb", "after it"])
def test_options_say_how_much_of_the_log_is_shown(
    options: list[str], shown: list[str], first: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    verb = ["lm", "show", "absent.arpa"]
    assert main([*options, *verb] if first else [*verb, *options]) == 2
    capsys.readouterr()
    logging.getLogger("asr.progress").info("progress")
    report("report")
    for level in ("info", "warning", "error"):
        name = "detail" if level == "info" else level
        getattr(logging.getLogger("asr.corpus.shards"), level)(name)
    assert capsys.readouterr().err.splitlines() == shown


WORLD = "gr\u00f6\u00dfe \u65e5\u672c \U0001f600"


def _program(
    folder: Path, *arguments: str, environment: dict[str, str] | None = None, closed: str = ""
) -> subprocess.CompletedProcess[bytes]:
    """The program in a process of its own, with streams closed by number."""
    redirections = "".join(f" {number}>&-" for number in closed)
    return subprocess.run(
        ["sh", "-c", f'exec "$@"{redirections}', "sh", sys.executable, "-m", "asr", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        capture_output=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Transcripts in letters of the world, and an id of bytes that are no letters."""
    folder = tmp_path_factory.mktemp("world")
    for name in ("ref", "hyp"):
        row = {"id": WORLD, "text": f"{name} {WORLD}", "pred_text": WORLD}
        row |= {"audio_filepath": "a.wav", "duration": 1.0}
        (folder / f"{name}.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", "utf-8")
    return folder


ASCII = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_a_locale_without_the_letters_gets_escapes(world: Path) -> None:
    shown = _program(world, "data", "stats", "ref.jsonl", environment=ASCII)
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert rb"\xdf:1" in shown.stdout
    missing = _program(world, "data", "stats", f"{WORLD}.jsonl", environment=ASCII)
    assert missing.returncode == 2
    assert rb"gr\udcc3\udcb6" in missing.stderr  # bytes that this locale does not know
    assert b"Traceback" not in missing.stderr


def test_json_in_such_a_locale_says_what_the_data_say(world: Path) -> None:
    command = ("score", "ref.jsonl", "hyp.jsonl", "--format", "json")
    printed = [_program(world, *command, environment=each).stdout for each in (ASCII, {})]
    plain, whole = (json.loads(text.decode("utf-8")) for text in printed)
    assert plain == whole
    assert printed[0].isascii()


@pytest.mark.parametrize("closed", ["0", "1", "2", "012"])
def test_streams_that_the_caller_closed_are_no_fault(world: Path, closed: str) -> None:
    done = _program(world, "data", "stats", "ref.jsonl", closed=closed)
    assert done.returncode == 0
    assert done.stderr == b""
    assert (b"utterances" in done.stdout) == ("1" not in closed)
    missing = _program(world, "data", "stats", "none.jsonl", closed=closed)
    assert missing.returncode == 2


@pytest.mark.parametrize("verb", ["data stats", "score ref.jsonl", "show", "run", "lm show"])
def test_names_that_are_too_long_are_one_line(
    world: Path,
    verb: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(world)
    assert main([*verb.split(), "x" * 300]) == 2
    captured = capsys.readouterr()
    assert "x" * 300 in captured.err
    assert len(captured.err.splitlines()) <= 2
