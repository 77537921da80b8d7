import gzip
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asr.corpus.manifest import (
    BadLine,
    Utterance,
    is_blank,
    read_good_and_bad,
    read_manifest,
    write_manifest,
)
from asr.errors import DataError

LAWS = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
TEXTS = st.text(st.characters(blacklist_categories=("Cs",)))
SECONDS = st.integers(0, 10**9).map(lambda microseconds: microseconds / 1e6)
ROWS = st.lists(
    st.tuples(TEXTS.filter(bool), SECONDS, SECONDS, TEXTS), unique_by=lambda row: row[0]
)
KEYS = ("id", "audio_filepath", "duration", "offset", "text", "speaker", "x")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=3,
)


@LAWS
@given(
    rows=st.lists(st.tuples(TEXTS.filter(bool), SECONDS, SECONDS, TEXTS), unique_by=lambda r: r[0])
)
def test_what_is_written_is_read_back(
    tmp_path: Path, rows: list[tuple[str, float, float, str]]
) -> None:
    utterances = [
        Utterance(
            id=key,
            audio_filepath=tmp_path / "a.wav",
            duration=duration,
            offset=offset,
            text=text,
            speaker=text or None,
        )
        for key, duration, offset, text in rows
    ]
    write_manifest(utterances, tmp_path / "m.jsonl")
    assert read_manifest(tmp_path / "m.jsonl") == utterances


def refusal(path: Path) -> str | None:
    try:
        read_manifest(path)
    except DataError as error:
        return str(error)
    return None


@LAWS
@given(
    row=st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            ("id", "audio_filepath", "duration", "offset", "text", "speaker", "x"), JSON
        ),
    )
)
def test_any_json_is_read_or_refused_by_file_and_line(tmp_path: Path, row: object) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(f"\n{json.dumps(row)}\n")
    message = refusal(path)
    assert message is None or message.startswith(f"{path}:2: ")


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b'{"audio_filepath": ".", "duration": 1}', id="a path that is no file"),
        pytest.param(b'{"audio_filepath": "a", "duration": 1' + b"0" * 400 + b"}", id="long"),
        pytest.param(b'{"audio_filepath": "a", "duration": 1, "text": "\\ud800"}', id="surrogate"),
        pytest.param(b"\xff", id="latin"),
    ],
)
def test_odd_lines_are_read_or_refused_in_words(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(line)
    message = refusal(path)
    assert message is None or message.startswith(f"{path}:1: ")


def test_a_compressed_manifest_is_read_and_a_damaged_one_refused(tmp_path: Path) -> None:
    row = b'{"audio_filepath": "a.wav", "duration": 1.5}\n'
    path = tmp_path / "m.jsonl.gz"
    path.write_bytes(gzip.compress(row))
    (utterance,) = read_manifest(path)
    assert (utterance.id, utterance.duration) == ("a", 1.5)
    path.write_bytes(gzip.compress(row)[:-6])
    assert f"{path}" in str(refusal(path))
    path.write_bytes(b"no gzip")
    assert f"{path}" in str(refusal(path))


def test_a_line_without_end_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asr.corpus.manifest._MAX_LINE", 1000)
    path = tmp_path / "m.jsonl.gz"
    path.write_bytes(gzip.compress(b" " * 10_000))
    assert refusal(path) == f"{path}:1: a line of more than 1000 bytes"


def test_lines_after_one_without_end_keep_their_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asr.corpus.manifest._MAX_LINE", 60)
    path = tmp_path / "m.jsonl"
    good = '{"audio_filepath": "a.wav", "duration": 1}\n'
    path.write_text("x" * 200 + "\n\n" + good + "y" * 60 + "\n" + good)
    found = list(read_good_and_bad(path))
    assert [(f.number, f.kind) for f in found if isinstance(f, BadLine)] == [
        (1, "malformed"),
        (4, "malformed"),
        (5, "repeated-id"),
    ]
    assert len(found) == 4


LINES = st.one_of(
    st.binary(max_size=8).filter(lambda line: b"\n" not in line),
    st.fixed_dictionaries(
        {}, optional={"id": st.sampled_from("ab"), "audio_filepath": JSON, "duration": JSON}
    ).map(lambda row: json.dumps(row).encode()),
    st.sampled_from("abc").map(
        lambda name: json.dumps({"audio_filepath": name, "duration": 1}).encode()
    ),
)


@LAWS
@given(lines=st.lists(LINES, max_size=8))
def test_every_line_is_good_or_bad_and_the_good_ones_alone_are_a_manifest(
    tmp_path: Path, lines: list[bytes]
) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b"\n".join(lines))
    found = list(read_good_and_bad(path))
    assert len(found) == sum(not is_blank(line) for line in lines)
    bad = {f.number: f.reason for f in found if isinstance(f, BadLine)}
    message = refusal(path)
    assert message == (f"{path}:{min(bad)}: {bad[min(bad)]}" if bad else None)
    path.write_bytes(b"\n".join(x for n, x in enumerate(lines, start=1) if n not in bad))
    assert read_manifest(path) == [f.utterance for f in found if not isinstance(f, BadLine)]
