import os
import re
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from asr.errors import AsrError
from asr.files import open_atomic, remove_leftovers
from asr.folders import LIST, check_replaceable, claim, remove_folder, replace_folder

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="devices are made by root")


def write(path: Path, text: str = "new") -> None:
    with open_atomic(path) as file:
        file.write(text)


def fill(path: Path, *names: str) -> None:
    with replace_folder(path) as folder:
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text("made")


def tree(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != LIST]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


# Files


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_file_has_the_permissions_of_any_new_one(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write(tmp_path / "a")
        fill(tmp_path / "b", "c")
    finally:
        os.umask(before)
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "b/c")}
    assert modes == {0o666 & ~umask}


@root_only
def test_a_device_is_written_to_and_stays_a_device(tmp_path: Path) -> None:
    device = tmp_path / "null"
    try:
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        device.write_bytes(b"")
    except OSError:
        pytest.skip("no devices can be made here")
    number = device.stat().st_rdev
    (tmp_path / "link").symlink_to(device)
    for path in (device, tmp_path / "link"):
        write(path)
        assert stat.S_ISCHR(device.stat().st_mode)
        assert device.stat().st_rdev == number
    assert (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "null"]


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    write(pipe)
    reader.join(10)
    assert read == ["new"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize("name", ["stdout", "out"])
def test_stdout_by_its_name_takes_its_place_in_what_is_printed(tmp_path: Path, name: str) -> None:
    program = (
        "from pathlib import Path; from asr.files import open_atomic\n"
        "print('before')\n"
        f"with open_atomic(Path({name!r})) as file: file.write('file\\n')\n"
        "print('after')"
    )
    # As /dev/stdout is, which a broken program that root runs would take from the whole machine.
    (tmp_path / "stdout").symlink_to("/proc/self/fd/1")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    with (tmp_path / "out").open("wb") as out:
        subprocess.run(
            [sys.executable, "-c", program], stdout=out, cwd=tmp_path, env=environment, check=True
        )
    assert (tmp_path / "out").read_text() == "before\nfile\nafter\n"
    assert (tmp_path / "stdout").is_symlink()


def test_a_link_is_replaced_and_what_it_points_to_stays(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("mine")
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("link", "dangling"):
        write(tmp_path / name)
        assert not (tmp_path / name).is_symlink()
    assert tree(tmp_path) == {"target": "mine", "link": "new", "dangling": "new"}


def test_a_folder_is_not_replaced_by_a_file_nor_is_a_link_to_one(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    for name in ("folder", "link"):
        with pytest.raises(IsADirectoryError, match=name):
            write(tmp_path / name)
    assert (tmp_path / "link").is_symlink()


def test_a_name_may_be_as_long_as_names_can_be(tmp_path: Path) -> None:
    write(tmp_path / ("é" * 127))
    fill(tmp_path / ("é" * 126), "a")
    assert len(list(tmp_path.iterdir())) == 2


# Folders


@pytest.mark.parametrize("name", ["notes", ".git/config", "sub/notes", ".made.old", ".a.1234abcd"])
def test_a_folder_with_a_file_of_other_origin_is_refused_by_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    for others in ((), ("made", "sub/made")):
        if others:
            fill(folder, *others)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")
        before = tree(folder)
        with pytest.raises(AsrError, match=f"{folder}: .*{re.escape(repr(name))}"):
            fill(folder, "made")
        with pytest.raises(AsrError, match="asr did not write"):
            remove_folder(folder)
        assert tree(folder) == before
        assert [path.name for path in tmp_path.iterdir()] == ["folder"]
        (folder / name).unlink()


def test_a_file_that_comes_while_a_folder_is_made_is_not_lost(tmp_path: Path) -> None:
    def come(folder: Path) -> None:
        with replace_folder(folder) as fresh:
            (fresh / "made").write_text("new")
            (folder / "notes").write_text("mine")

    fill(tmp_path / "folder", "made")
    with pytest.raises(AsrError, match="'notes'"):
        come(tmp_path / "folder")
    assert tree(tmp_path) == {"folder/made": "made", "folder/notes": "mine"}


def test_a_folder_that_is_empty_or_ours_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder" / "empty").mkdir(parents=True)
    fill(tmp_path / "folder", "a", "sub/b")
    (tmp_path / "folder" / ".DS_Store").write_text("where a file manager has been")
    fill(tmp_path / "folder", "c")
    assert tree(tmp_path / "folder") == {"c": "made"}
    remove_folder(tmp_path / "folder")
    assert not list(tmp_path.iterdir())


def test_a_link_to_a_file_is_a_file_of_the_users(tmp_path: Path) -> None:
    fill(tmp_path / "folder", "a")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "folder" / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AsrError, match="'link'"):
        fill(tmp_path / "folder", "a")


def test_a_link_to_a_folder_stays_and_that_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")
    for name in ("a", "b"):
        fill(tmp_path / "link", name)
        assert tree(tmp_path / "target") == {name: "made"}
    assert (tmp_path / "link").is_symlink()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_list_that_cannot_be_read_is_no_list(tmp_path: Path) -> None:
    for damaged in ("{", '"a"', "[[1]]"):
        fill(tmp_path / "folder", "a")
        (tmp_path / "folder" / LIST).write_text(damaged)
        with pytest.raises(AsrError, match="'a'"):
            check_replaceable(tmp_path / "folder")
        (tmp_path / "folder" / "a").unlink()


@pytest.mark.parametrize(
    ("names", "refused"),
    [
        pytest.param(("a", "b"), None, id="all"),
        pytest.param(("a", "b", "c"), None, id="with what is optional"),
        pytest.param(("a",), "a", id="not all"),
        pytest.param(("c",), "c", id="only what is optional"),
        pytest.param(("a", "b", "d"), "d", id="one more"),
        pytest.param(("a", "b", "sub/a"), "sub/a", id="one below"),
    ],
)
def test_folders_of_fixed_files_are_known_by_them(
    tmp_path: Path, names: tuple[str, ...], refused: str | None
) -> None:
    folder = tmp_path / "folder"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    if refused:
        with pytest.raises(AsrError, match=f"'{refused}'"):
            check_replaceable(folder, ("a", "b"), ("c",))
        return
    with replace_folder(folder, ("a", "b"), ("c",)) as fresh:
        (fresh / "a").touch()
    assert [path.name for path in folder.iterdir()] == ["a"]


def test_what_is_claimed_is_replaced_with_its_folder(tmp_path: Path) -> None:
    fill(tmp_path / "work" / "model", "a")
    claim(tmp_path / "work" / "model" / "added", tmp_path / "work")
    (tmp_path / "work" / "model" / "added").mkdir()
    (tmp_path / "work" / "model" / "added" / "b").write_text("1")
    claim(tmp_path / "work" / "model" / "added", tmp_path / "work")
    fill(tmp_path / "work" / "model", "c")
    (tmp_path / "work" / "model" / "notes").write_text("mine")
    with pytest.raises(AsrError, match="'notes'"):
        claim(tmp_path / "work" / "model" / "notes", tmp_path / "work")


# What killed processes leave

KILLED = """
import os, signal, sys
from pathlib import Path
from asr.files import open_atomic
from asr.folders import replace_folder
with open_atomic(Path("result.txt")) as file, replace_folder(Path("folder")) as folder:
    (folder / "a").write_text("half")
    print("open", flush=True)
    sys.stdin.read()
"""
MINE = (".result.txt.swp", ".result.txt.12345678", ".result.txt.abc.asr-tmp", ".asr-tmp", ".git")


def test_leftovers_of_the_killed_are_removed_and_no_others(tmp_path: Path) -> None:
    for name in MINE:
        (tmp_path / name).write_text("mine")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    with subprocess.Popen(
        [sys.executable, "-c", KILLED],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        left = {path.name for path in tmp_path.iterdir()} - {*MINE}
        assert len(left) == 2
        remove_leftovers(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {*MINE, *left}  # it is at work
        process.send_signal(signal.SIGKILL)
    remove_leftovers(tmp_path, "other")
    assert len(list(tmp_path.iterdir())) == len(MINE) + 2
    remove_leftovers(tmp_path, "result.txt")
    assert len(list(tmp_path.iterdir())) == len(MINE) + 1
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*MINE}
