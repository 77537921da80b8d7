import bz2
import gzip
import io
import lzma
from pathlib import Path

import pytest

from asr import unpacking
from asr.errors import DataError
from asr.lm.arpa import read_arpa
from asr.text.lines import stream_lines
from asr.unpacking import DAMAGES, open_unpacked

TEXT = "".join(f"line {number}\n" for number in range(5000)).encode()
PACKERS = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that a test reaches in no time."""
    monkeypatch.setattr(unpacking, "HARMLESS_BYTES", 2**20)


@pytest.mark.parametrize("name", ["plain", *PACKERS])
def test_a_file_is_unpacked_by_what_it_begins_with(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(PACKERS[name](TEXT) if name in PACKERS else TEXT)
    with open_unpacked(path) as file:
        assert file.readline() == b"line 0\n"
        file.seek(len(TEXT) - 5)
        assert file.read() == TEXT[-5:]
    with open_unpacked(path) as file:
        assert list(file) == list(io.BytesIO(TEXT))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", PACKERS)
def test_a_bomb_is_given_up(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(PACKERS[name](bytes(2**24)))
    with open_unpacked(path) as file, pytest.raises(OSError, match="100 times what is packed"):
        file.read()
    with open_unpacked(path) as file, pytest.raises(OSError, match="100 times what is packed"):
        file.seek(2**23)
    with open_unpacked(path, bounded=False) as file:  # whose reader counts
        assert len(file.read()) == 2**24


@pytest.mark.parametrize("name", PACKERS)
def test_what_is_cut_is_damaged(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(PACKERS[name](TEXT)[:-9])
    with open_unpacked(path) as file, pytest.raises(DAMAGES):
        file.read()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\n" * 10**6, r"x\.arpa\.gz:10001: more than 10000 blank lines"),
        (b"no\n" * 10**6, r"x\.arpa\.gz:10001: .data. is expected; this is no ARPA file"),
        (b"a" * 10**6, r"x\.arpa\.gz:1: a line of more than 65536 bytes"),
        (b"\\data\\\nngram 1=" + b"9" * 5000, r"x\.arpa\.gz:2: `ngram 1=<count>` is expected"),
        (b"\\data\\\n" + b"".join(b"ngram %d=1\n" % n for n in range(1, 30)), "more than 20 words"),
    ],
    ids=["blank lines", "no data", "one line", "digits", "orders"],
)
def test_a_packed_language_model_that_is_a_bomb(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "x.arpa.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(DataError, match=says):
        read_arpa(path)


@pytest.mark.usefixtures("small")
def test_a_packed_text_that_is_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.txt.gz"
    path.write_bytes(gzip.compress(b"\n" * 2**22))
    with pytest.raises(DataError, match=r"x\.txt\.gz: more than 1,048,576 bytes unpacked"):
        list(stream_lines(path))
    monkeypatch.setattr("asr.text.lines._MAX_LINE", 2**16)
    path.write_bytes(gzip.compress(b"a" * 2**17))
    with pytest.raises(DataError, match=r"x\.txt\.gz:1: a line of more than 65536 bytes"):
        list(stream_lines(path))
