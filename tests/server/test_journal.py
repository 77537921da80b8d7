"""Decisions stay, whatever becomes of the server, the disk or the file."""

import json
import resource
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from asr.corpus import read_manifest
from asr.errors import DataError

pytest.importorskip("starlette")
from asr.server.journal import Journal
from asr.server.replies import Refusal


def row(name: str, text: str = "la", **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "audio_filepath": "a.wav",
        "duration": 1.0,
        "text": text,
        "decision": "corrected",
        **more,
    }


def texts(path: Path) -> list[str | None]:
    return [utterance.text for utterance in read_manifest(path)]


def write(path: Path, *names: str) -> None:
    journal = Journal(path)
    for name in names:
        journal.put(name, [row(name)])
    journal.close()


def test_what_was_put_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "reviewed.jsonl"
    journal = Journal(path)
    journal.put("a", [row("a", "mi la")])
    # At once, and not when it is closed.
    assert texts(path) == ["mi la"]
    journal.put("b", [row("b-1"), row("b-2")])
    journal.put("a", [row("a", "mi")])
    assert texts(path) == ["la", "la", "mi"]
    journal.close()
    again = Journal(path)
    assert list(again.subjects()) == ["b", "a"]
    assert [each["part"] for each in again.rows_of("b")] == [[1, 2], [2, 2]]
    assert again.names() == {"a", "b-1", "b-2"}
    again.close()


@pytest.mark.parametrize("kept", [1, 8, 30])
def test_a_line_that_was_cut_off_is_taken_back(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "reviewed.jsonl"
    write(path, "a", "b")
    whole = path.read_bytes()
    line = whole.splitlines(keepends=True)[0]
    path.write_bytes(whole + line[:kept])
    write(path, "c")
    assert [json.loads(each)["id"] for each in path.read_text().splitlines()] == ["a", "b", "c"]
    assert path.read_bytes().startswith(whole)


def test_a_decision_of_several_rows_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "reviewed.jsonl"
    journal = Journal(path)
    journal.put("a", [row("a")])
    journal.put("b", [row("b-1"), row("b-2"), row("b-3")])
    journal.close()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]) + lines[3][:20])
    again = Journal(path)
    assert list(again.subjects()) == ["a"]
    again.close()
    assert path.read_bytes() == lines[0]


@pytest.mark.parametrize(
    "content",
    [
        b"a letter without an end",
        b'{"id": "a", "audio_filepath": "a.wav", "duration": 1}\n',
        b'{"id": "a", "audio_filepath": "a.wav", "duration": 1, "decision": "x"}\n',
        b"no JSON\n",
    ],
    ids=["text", "manifest", "no subject", "lines"],
)
def test_the_file_of_something_else_is_refused_and_stays(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "reviewed.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"reviewed.jsonl:1: .*"):
        Journal(path)
    assert path.read_bytes() == content


def test_two_servers_do_not_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "reviewed.jsonl"
    first = Journal(path)
    with pytest.raises(DataError, match="another server writes to it"):
        Journal(path)
    first.put("a", [row("a")])
    first.put("a", [row("a")])  # written anew, as a file of its own
    with pytest.raises(DataError, match="another server writes to it"):
        Journal(path)
    first.close()
    Journal(path).close()


def test_a_file_that_vanishes_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "reviewed.jsonl"
    journal = Journal(path)
    journal.put("a", [row("a")])
    path.unlink()
    journal.put("b", [row("b", "mi")])
    assert texts(path) == ["la", "mi"]
    shutil.move(path, tmp_path / "elsewhere")
    journal.close()
    assert texts(path) == ["la", "mi"]


def test_a_file_that_others_change_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "reviewed.jsonl"
    journal = Journal(path)
    journal.put("a", [row("a")])
    with path.open("ab") as file:
        file.write(b"a note\n")
    with pytest.raises(Refusal, match="changed by another program"):
        journal.put("b", [row("b")])
    path.unlink()
    path.write_text("mine")
    with pytest.raises(Refusal, match="replaced by another program"):
        journal.put("b", [row("b")])
    journal.close()
    assert path.read_text() == "mine"


def test_a_full_disk_loses_only_what_was_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "reviewed.jsonl"
    journal = Journal(path)
    journal.put("a", [row("a")])
    size = path.stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        # Half of a line still fits.
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, limits[1]))
        for _ in range(2):
            with pytest.raises(Refusal, match="not written") as refused:
                journal.put("b", [row("b")])
            assert refused.value.status == 503
            assert path.stat().st_size == size
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert list(journal.subjects()) == ["a"]
    journal.put("b", [row("b", "mi")])
    journal.close()
    assert texts(path) == ["la", "mi"]


def test_a_server_that_took_no_decision_leaves_no_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "reviewed.jsonl"
    Journal(path).close()
    assert not path.exists()
    path.touch()
    Journal(path).close()
    assert path.exists()
    write(path, "one")
    Journal(path).close()
    assert texts(path) == ["la"]
