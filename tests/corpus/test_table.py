import gzip
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asr.corpus.manifest import read_manifest
from asr.corpus.table import ManifestTable
from asr.errors import DataError
from asr.training.targets import TokenRows

LAWS = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
BLANK = st.sampled_from(["\n", "  \n", "\t\r\n", " " * 70 + "\n"])


@LAWS
@given(
    texts=st.lists(st.text(st.characters(blacklist_categories=("Cs",)))),
    blanks=st.lists(BLANK, min_size=1),
    ended=st.booleans(),
    mark=st.sampled_from([b"", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"]),
    name=st.sampled_from(["m.jsonl", "m.jsonl.gz"]),
)
def test_a_table_is_the_list_that_the_manifest_is(
    tmp_path: Path, texts: list[str], blanks: list[str], ended: bool, mark: bytes, name: str
) -> None:
    path = tmp_path / name
    lines = [
        json.dumps({"id": f"u{n}", "audio_filepath": "a.wav", "duration": n, "text": text}) + "\n"
        for n, text in enumerate(texts)
    ]
    content = "".join(
        blank + line for blank, line in zip(blanks * len(lines), lines, strict=False)
    ).encode()
    content = mark + (content if ended else content.rstrip())
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    expected = read_manifest(path)
    table = ManifestTable(path)
    table.check()
    assert list(table) == expected
    assert [table[place] for place in range(len(table))] == expected
    assert list(table.column("text")) == [utterance.text for utterance in expected]
    assert table[1:3] == expected[1:3]
    assert table[::-1] == expected[::-1]
    assert len(table) == len(texts)
    if expected:
        assert table[-1] == expected[-1]
    with pytest.raises(IndexError):
        table[len(expected)]


def test_a_table_names_the_line_that_is_at_fault(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    row = '{"id": "a", "audio_filepath": "a.wav", "duration": 1}\n'
    path.write_text(f"\n{row}\n{row}")
    with pytest.raises(DataError, match=r"m\.jsonl:4: id 'a' stands in line 2 already"):
        ManifestTable(path).check()
    path.write_text(f"{row}oops\n")
    with pytest.raises(DataError, match=r"m\.jsonl:2: not JSON"):
        ManifestTable(path).check()
    with pytest.raises(DataError, match=r"none\.jsonl: No such file"):
        ManifestTable(tmp_path / "none.jsonl")


@LAWS
@given(rows=st.lists(st.lists(st.integers(0, 255) | st.sampled_from([256, 65535]), max_size=5)))
def test_token_rows_are_the_lists_that_they_were_made_of(rows: list[list[int]]) -> None:
    packed = TokenRows(iter(rows))
    assert list(packed) == rows
    assert [packed[place] for place in range(len(packed))] == rows
    assert packed.lengths.tolist() == [len(row) for row in rows]
    assert packed[1:] == rows[1:]
