import gzip
import hashlib
import io
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from asr.corpus.download import content_sha256, download, extract
from asr.errors import AsrError, DataError
from asr.folders import LIST

CONTENT = bytes(range(256)) * 4096
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        wanted = self.headers.get("Range")
        self.server.requests.append((self.path, wanted))
        if self.path == "/missing":
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if self.path == "/no-ranges":
            start = 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        body = CONTENT[start:]
        self.send_response(206 if start else 200)
        if start:
            shift = 7 if self.path == "/wrong-range" else 0
            last = len(CONTENT) - 1
            self.send_header("Content-Range", f"bytes {start - shift}-{last}/{len(CONTENT)}")
        if self.path != "/no-length":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.path == "/cut" and not start:
            body = body[:1000]
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.requests = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def address(server, monkeypatch) -> str:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server.requests.clear()
    return f"http://127.0.0.1:{server.server_port}"


def test_a_download_is_the_file_and_nothing_else(address, tmp_path):
    download(f"{address}/file", tmp_path / "new" / "file.tar", SHA256)
    assert (tmp_path / "new" / "file.tar").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file.tar"]


def test_what_is_there_is_not_fetched_again(address, server, tmp_path):
    (tmp_path / "file").write_bytes(CONTENT)
    download(f"{address}/file", tmp_path / "file", SHA256)
    assert server.requests == []


def test_a_connection_that_breaks_is_an_error_and_the_next_call_goes_on(address, server, tmp_path):
    with pytest.raises(DataError, match=r"/cut: cannot be downloaded: .* early; .*--corpus DIR"):
        download(f"{address}/cut", tmp_path / "file", SHA256)
    assert [path.name for path in tmp_path.iterdir()] == ["file.part"]
    download(f"{address}/cut", tmp_path / "file", SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.requests == [("/cut", None), ("/cut", "bytes=1000-")]


@pytest.mark.parametrize(
    ("path", "part"),
    [
        pytest.param("/no-ranges", CONTENT[:500], id="a server without ranges sends all of it"),
        pytest.param("/file", CONTENT, id="the part is the whole file already"),
        pytest.param("/file", CONTENT + b"more", id="the part is longer than the file"),
    ],
)
def test_a_part_that_cannot_be_continued_is_replaced(address, tmp_path, path, part):
    (tmp_path / "file.part").write_bytes(part)
    download(f"{address}{path}", tmp_path / "file", SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_another_range_than_asked_for_is_refused(address, tmp_path):
    (tmp_path / "file.part").write_bytes(CONTENT[:500])
    with pytest.raises(DataError, match="another part of the file"):
        download(f"{address}/wrong-range", tmp_path / "file")


@pytest.mark.parametrize(("kind", "checksum"), [("SHA-256", SHA256), ("MD5", MD5)])
def test_a_wrong_checksum_is_named_and_the_next_call_begins_again(
    address, tmp_path, kind, checksum
):
    (tmp_path / "file.part").write_bytes(b"x" * 100)
    with pytest.raises(DataError, match=f"/file: {kind} is [0-9a-f]{{32,64}}, expected {checksum}"):
        download(f"{address}/file", tmp_path / "file", checksum)
    assert list(tmp_path.iterdir()) == []
    download(f"{address}/file", tmp_path / "file", checksum)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_file_that_the_server_lacks_is_an_error_in_one_line(address, tmp_path):
    with pytest.raises(DataError, match=r"/missing: .*404.*--corpus DIR") as error:
        download(f"{address}/missing", tmp_path / "file")
    assert "\n" not in str(error.value)


def test_no_network_is_an_error_that_names_the_address_and_the_way_round(tmp_path):
    unused = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    unused.server_close()
    url = f"http://127.0.0.1:{unused.server_port}/file"
    with pytest.raises(DataError) as error:
        download(url, tmp_path / "file")
    assert str(error.value).startswith(f"{url}: cannot be downloaded: Connection refused;")
    assert "--corpus DIR" in str(error.value)


def tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for header, content in members:
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return path


def tar_member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = ""):
    header = tarfile.TarInfo(name)
    header.type = kind
    header.linkname = link
    header.mode = 0o4777
    return header, content


def zip_of(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def tree(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != LIST]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_an_archive_of_either_kind_is_unpacked_whole(tmp_path):
    tar = tar_of(
        tmp_path / "a.tar.gz",
        tar_member("top", kind=tarfile.DIRTYPE),
        tar_member("top/one", CONTENT),
        tar_member("top/sub/two", b"2"),
    )
    archive = zip_of(tmp_path / "a.zip", ("top/", b""), ("top/one", CONTENT), ("top/sub/two", b"2"))
    for path in (tar, archive):
        extract(path, tmp_path / "out")
        assert tree(tmp_path / "out") == {"top/one": CONTENT, "top/sub/two": b"2"}
    assert (tmp_path / "out" / "top" / "one").stat().st_mode & 0o7111 == 0


def test_what_was_unpacked_before_is_replaced_and_what_others_added_is_not(tmp_path):
    extract(tar_of(tmp_path / "a.tar", tar_member("stale", b"old")), tmp_path / "out")
    extract(tar_of(tmp_path / "a.tar", tar_member("fresh", b"new")), tmp_path / "out")
    assert tree(tmp_path / "out") == {"fresh": b"new"}
    (tmp_path / "out" / "notes").write_text("mine")
    with pytest.raises(AsrError, match="asr did not write 'notes' in it"):
        extract(tmp_path / "a.tar", tmp_path / "out")
    assert tree(tmp_path / "out") == {"fresh": b"new", "notes": b"mine"}


def symlink_in_zip(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = 0o120777 << 16
    return entry


HOSTILE = {
    "a path that goes up": lambda path: tar_of(path, tar_member("a/../../evil", b"x")),
    "an absolute path": lambda path: tar_of(path, tar_member(str(path.parent / "evil"), b"x")),
    "a symbolic link out": lambda path: tar_of(
        path,
        tar_member("link", kind=tarfile.SYMTYPE, link="../"),
        tar_member("link/evil", b"x"),
    ),
    "a hard link out": lambda path: tar_of(
        path, tar_member("evil", kind=tarfile.LNKTYPE, link="../witness")
    ),
    "a device": lambda path: tar_of(path, tar_member("null", kind=tarfile.CHRTYPE)),
    "a pipe": lambda path: tar_of(path, tar_member("pipe", kind=tarfile.FIFOTYPE)),
    "a zip path that goes up": lambda path: zip_of(path, ("../evil", b"x")),
    "a zip path with backslashes": lambda path: zip_of(path, ("..\\evil", b"x")),
    "an absolute zip path": lambda path: zip_of(path, (f"{path.parent}/evil", b"x")),
    "a zip link out": lambda path: zip_of(path, (symlink_in_zip("link"), b"/"), ("link/evil", b"")),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_and_leaves_nothing(tmp_path, name):
    (tmp_path / "witness").write_text("untouched")
    archive = HOSTILE[name](tmp_path / "archive")
    with pytest.raises(DataError, match=r"outside of its folder|is a link or a device"):
        extract(archive, tmp_path / "out")
    assert set(tree(tmp_path)) == {"archive", "witness"}
    assert not (tmp_path / "out").exists()


def test_a_file_larger_than_the_limit_is_not_downloaded(address, tmp_path):
    for path in ("/file", "/no-length"):
        with pytest.raises(DataError, match=f"{path}: .*larger than {len(CONTENT) - 1} bytes"):
            download(f"{address}{path}", tmp_path / "file", max_bytes=len(CONTENT) - 1)
        assert list(tmp_path.iterdir()) == []
        download(f"{address}{path}", tmp_path / "file", max_bytes=len(CONTENT))
        (tmp_path / "file").unlink()


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_a_wrong_checksum_of_the_compression_is_damage(tmp_path, kind):
    archive = tmp_path / "archive"
    with tarfile.open(archive, f"w:{kind}") as tar:
        header, content = tar_member("one", CONTENT)
        header.size = len(content)
        tar.addfile(header, io.BytesIO(content))
    extract(archive, tmp_path / "good")
    assert tree(tmp_path / "good") == {"one": CONTENT}
    content = archive.read_bytes()
    place = -6  # within the trailer of each
    archive.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(DataError, match="cannot be unpacked"):
        extract(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("end", [1024, 1024 + 100, 1024 + 512])
def test_a_tar_that_is_cut_or_damaged_between_members_is_refused(tmp_path, end):
    archive = tmp_path / "archive"
    with tarfile.open(archive, "w") as tar:
        for name in ("one", "two"):
            header, content = tar_member(name, b"x" * 100)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    content = archive.read_bytes()
    archive.write_bytes(content[:end])
    with pytest.raises(DataError, match="cannot be unpacked"):
        extract(archive, tmp_path / "out")
    archive.write_bytes(content[:1024] + b"\xff" * 512 + content[1536:])
    with pytest.raises(DataError, match="no end mark"):
        extract(archive, tmp_path / "out")


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path):
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 2**24
    archive = tmp_path / "archive"
    archive.write_bytes(gzip.compress(header.tobuf() + bytes(2**24)))
    with pytest.raises(DataError, match=f"a header of {2**24} bytes"):
        extract(archive, tmp_path / "out")


def test_a_member_of_a_negative_size_is_refused(tmp_path):
    content = bytearray(tarfile.TarInfo("x").tobuf(tarfile.GNU_FORMAT))
    content[124:136] = b"\xff" * 10 + b"\xfe\0"  # -512 to the base 256
    content[148:156] = b" " * 8
    content[148:156] = f"{sum(content):06o}\0 ".encode()
    archive = tmp_path / "archive"
    archive.write_bytes(bytes(content) + bytes(1024))
    with pytest.raises(DataError, match="archive: "):
        extract(archive, tmp_path / "out", max_members=10)


def test_more_than_a_hundred_times_the_size_is_refused_from_a_gibibyte_on(tmp_path):
    header = tarfile.TarInfo("zeros")
    header.size = 2**30 + 1
    archive = tmp_path / "archive"
    archive.write_bytes(gzip.compress(header.tobuf()))
    with pytest.raises(DataError, match=f"more than {2**30} bytes unpacked, [0-9]+ packed"):
        extract(archive, tmp_path / "out")


def test_an_encrypted_zip_is_refused(tmp_path):
    archive = zip_of(tmp_path / "archive", ("one", b"x"))
    content = bytearray(archive.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    archive.write_bytes(content)
    with pytest.raises(DataError, match="encrypted"):
        extract(archive, tmp_path / "out")


@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_a_bomb_is_refused_at_the_limits(tmp_path, pack):
    members = [(f"{n}", b"0" * 10_000) for n in range(10)]
    if pack is tar_of:
        members = [tar_member(*member) for member in members]
    archive = pack(tmp_path / "archive", *members)
    assert archive.stat().st_size < 5_000
    extract(archive, tmp_path / "out", max_bytes=100_000, max_members=10)
    with pytest.raises(DataError, match="more than 99999 bytes"):
        extract(archive, tmp_path / "bomb", max_bytes=99_999)
    with pytest.raises(DataError, match="more than 9 members"):
        extract(archive, tmp_path / "bomb", max_members=9)
    assert not (tmp_path / "bomb").exists()


def test_a_zip_member_larger_than_it_states_is_refused(tmp_path):
    archive = zip_of(tmp_path / "archive", ("liar", b"0" * 10_000))
    stated = (10_000).to_bytes(4, "little")
    archive.write_bytes(archive.read_bytes().replace(stated, (10).to_bytes(4, "little")))
    with pytest.raises(DataError, match="cannot be unpacked"):
        extract(archive, tmp_path / "out", max_bytes=100)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: content[: len(content) // 2], id="cut off"),
        pytest.param(lambda content: content[:100] + b"\xff" * 50 + content[150:], id="damaged"),
        pytest.param(lambda _: b"<html>not found</html>", id="not an archive"),
        pytest.param(lambda _: b"", id="empty"),
    ],
)
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_damaged_archive_is_an_error_and_keeps_what_was_there(tmp_path, kind, damage):
    content = hashlib.shake_256(b"seed").digest(100_000)
    if kind == "tar":
        archive = tar_of(tmp_path / "archive", tar_member("one", content))
    else:
        archive = zip_of(tmp_path / "archive", ("one", content))
    archive.write_bytes(damage(archive.read_bytes()))
    extract(tar_of(tmp_path / "before", tar_member("kept", b"old")), tmp_path / "out")
    with pytest.raises(DataError, match="archive: cannot be unpacked: ") as error:
        extract(archive, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert tree(tmp_path / "out") == {"kept": b"old"}


def test_the_checksum_of_contents_is_that_of_sha256sum(tmp_path):
    for name in ("b", "a", "B_1", "a_0"):
        (tmp_path / name).write_text(f"content of {name}")
    shell = "LC_ALL=C; export LC_ALL; sha256sum * | sha256sum"
    printed = subprocess.run(
        ["sh", "-c", shell], cwd=tmp_path, capture_output=True, check=True, text=True
    )
    assert content_sha256(tmp_path.iterdir()) == printed.stdout.split()[0]


def test_a_file_of_the_users_with_another_checksum_stays(tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(
        DataError, match=f"/file: SHA-256 is [0-9a-f]{{64}}, expected {SHA256}; move"
    ):
        download("http://nowhere.invalid/file", tmp_path / "file", SHA256)
    assert (tmp_path / "file").read_bytes() == b"mine"
