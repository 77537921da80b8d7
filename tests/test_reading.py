"""Everything that is read comes through one door, which looks before it opens."""

import ast
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

import asr
from asr import lm, model, text
from asr.audio import read_audio
from asr.config import Config
from asr.config_files import load_conf, load_config
from asr.corpus import download, members, read_manifest
from asr.corpus.formats import catalogue, nemo
from asr.corpus.stored_features import read_features
from asr.corpus.table import ManifestTable
from asr.decoding.grammar import read_grammar
from asr.decoding.hotwords import read_hot_words
from asr.decoding.lexicon import read_lexicon
from asr.decoding.options import read_decoding
from asr.errors import AsrError
from asr.files import open_regular, read_file
from asr.lm.neural import load_neural_lm
from asr.lm.ngram import load_model
from asr.model.network import read_network
from asr.model.onnx import OnnxNetwork
from asr.scoring.transcripts import read_transcripts, read_utt2spk
from asr.text import TokenTable
from asr.text.lines import stream_lines
from asr.training import checkpoints
from asr.transcription import SourceOptions, sources

ROOT = Path(asr.__file__).parent
DOORS = ("files.py", "unpacking.py")  # where other ways of opening may be used
LEFT = {  # what looks like opening a file by its name, and is not; or whose name is nobody's choice
    "audio/containers.py": ("av.open(file,", "av.open(pipe,"),
    "cli/__init__.py": ("os.open(os.devnull,",),
    "cli/installation.py": ("path.read_text(",),  # /proc/cpuinfo, whose size is 0
    "cli/terminal.py": ("os.open(os.devnull,", "open(descriptor,"),
    "corpus/addresses.py": ("fsspec.open(location,",),  # an address; files of this machine are not
    "corpus/codecs.py": ("av.open(file,",),  # in memory
    "corpus/download.py": (
        *("member.open()", "zipfile.is_zipfile(file)"),
        "tarfile.open(fileobj=cast(IO[bytes], stream)",
    ),
    # A program of its own, by which a user's folder is read, and which imports nothing of ours.
    "corpus/neural.py": ("path.read_text(", "Path(sys.argv[1]).read_text("),
    "corpus/shards.py": ("tarfile.open(fileobj=file, mode='w'",),
    "model/export/web.py": ("(files('asr') / 'assets' ", "part.read_bytes("),  # the package's own
    "page.py": ("(files('asr') / 'assets' / name).read_text(",),
    "folders.py": ("os.open(folder / _JOURNAL,",),  # to be written
    "lm/neural.py": ("safetensors.torch.load_file(weights)",),
    "server/site.py": ("part.read_text(",),  # the package's own
    "training/schedule.py": ("np.memmap(file,",),
}
BY_NAME = (  # functions of other packages that open a file by its name
    *("gzip.open", "bz2.open", "lzma.open", "tarfile.open", "zipfile.is_zipfile", "fsspec.open"),
    *("np.load", "np.memmap", "np.fromfile", "np.loadtxt", "np.genfromtxt", "av.open"),
    *("soundfile.read", "soundfile.info", "onnx.load", "torch.load", "os.open", "open"),
    *("safetensors.torch.load_file", "safe_open", "safetensors.safe_open", "io.open"),
)
METHODS = ("read_text", "read_bytes")


def openings(tree: ast.Module) -> Iterator[ast.Call]:
    """Calls that open a file to be read, as far as can be seen."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or _is_looked_at(node):
            continue
        name = ast.unparse(node.func)
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        mode = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
        reads = not node.args if mode is None else isinstance(mode, str) and mode[:1] == "r"
        if name in BY_NAME or method in METHODS or (method == "open" and reads and name != "open"):
            yield node


def _is_looked_at(call: ast.Call) -> bool:
    """Whether a function is given bytes in memory, or a path that was looked at."""
    first = ast.unparse(call.args[0]) if call.args else ""
    return first.startswith(("check_regular(", "io.BytesIO("))


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=str)
def test_files_are_opened_by_the_one_door(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    if name in DOORS:
        return
    calls = [ast.unparse(call) for call in openings(ast.parse(path.read_bytes()))]
    assert {call for call in calls if not call.startswith(LEFT.get(name, ()))} == set()


def test_other_doors_are_found() -> None:
    program = """
path.open()
path.open("rb")
(folder / "x").read_text(encoding="utf-8")
gzip.open(path)
np.load(path)
open(name)
"""
    assert len(list(openings(ast.parse(program)))) == 6


ABSENT = ("checkpoint",)  # is taken for one that is not there
EMPTY = (
    "shard",
    "shard by address",
    "detected json",
)  # zeros hold nothing, and are read no further
TOKENS = TokenTable(("<blank>", "a", "b"))
Reader = Callable[[Path], Any]


def in_folder(name: str, read: Reader, **others: str) -> tuple[str, Reader]:
    """A reader of a folder, in which the file `name` is what is odd."""

    def read_folder(path: Path) -> Any:
        for other, content in others.items():
            (path.parent / other.replace("__", ".")).write_text(content)
        return read(path.parent)

    return name, read_folder


def named_by(manifest: str, name: str, line: str, read: Reader) -> tuple[str, Reader]:
    """A reader of a file that names another one, which is odd."""

    def read_both(path: Path) -> Any:
        (path.parent / manifest).write_text(line)
        return read(path.parent / manifest)

    return name, read_both


def imported(name: str, format_name: str, **others: str) -> tuple[str, Reader]:
    def read(path: Path) -> Any:
        return list(catalogue.FORMATS[format_name].read(path, print))

    return in_folder(name, read, **others)


def table_of(format_name: str, suffix: str) -> tuple[str, Reader]:
    read = catalogue.FORMATS[format_name].read
    return f"x{suffix}", lambda path: list(read(path, print))


READERS: dict[str, tuple[str, Reader]] = {
    "manifest": ("x.jsonl", read_manifest),
    "packed manifest": ("x.jsonl.gz", read_manifest),
    "manifest table": ("x.jsonl", ManifestTable),
    "scp": ("x.scp", lambda path: list(sources._read_scp(path, SourceOptions(), []))),
    "audio": ("x.wav", lambda path: read_audio(path, sample_rate=8000)),
    "m4a": ("x.m4a", lambda path: read_audio(path, sample_rate=8000)),
    "audio of a manifest": named_by(
        "m.jsonl",
        "x.wav",
        '{"audio_filepath": "x.wav", "duration": 1}',
        lambda path: read_audio(read_manifest(path)[0].audio_filepath, sample_rate=8000),
    ),
    "mfc": ("x.mfc", read_features),
    "ark": ("x.ark", lambda path: read_features(Path(f"{path}:0"))),
    "shard": ("x.tar", lambda path: list(members.read_shards([str(path)]))),
    "shard by address": ("x.tar", lambda path: list(members.read_shards([f"file://{path}"]))),
    "archive": ("x.tar.gz", lambda path: download.extract(path, path.parent / "out")),
    "references": ("x.txt", lambda path: read_transcripts(path, "reference")),
    "utt2spk": ("x", read_utt2spk),
    "lexicon": ("x.txt", lambda path: read_lexicon(path, TOKENS)),
    "hot words": ("x.txt", read_hot_words),
    "grammar": ("x.jsgf", read_grammar),
    "arpa": ("x.arpa", lm.read_language_model),
    "text": ("x.txt", lambda path: list(stream_lines(path))),
    "configuration": ("x.yaml", lambda path: load_config(path, Config)),
    "base": named_by("c.yaml", "x.yaml", "base: x.yaml", load_conf),
    "nemo's texts": named_by(
        "m.jsonl",
        "x.txt",
        '{"audio_filepath": "a.wav", "duration": 1, "text_filepath": "x.txt"}',
        lambda path: list(nemo.read_nemo(path, print)),
    ),
    "tokens": in_folder("tokens.txt", text.read_tokens),
    "pieces": in_folder("tokens.model", text.read_tokens),
    "phones": in_folder("pronunciations.txt", text.read_tokens),
    "model's configuration": in_folder("config.yaml", model.read_model),
    "training.json": in_folder(
        "training.json", model.read_model, config__yaml="{}", tokens__txt="<blank>\na\n"
    ),
    "decoding.yaml": in_folder("decoding.yaml", read_decoding),
    "weights": ("x", lambda path: read_network(path, Config(), 3, "cpu")),
    "graph": in_folder("model.onnx", lambda folder: OnnxNetwork(folder, Config(), 3)),
    "mapped model": in_folder("model.json", load_model),
    "its words": in_folder(
        "words.txt",
        load_model,
        model__json='{"format": 1, "num_words": 3, "num_ngrams": [3]}',
    ),
    "its arrays": in_folder(
        "arc_keys.npy",
        load_model,
        model__json='{"format": 1, "num_words": 3, "num_ngrams": [3]}',
        words__txt="<unk>\n<s>\n</s>",
    ),
    "neural model": in_folder("words.txt", load_neural_lm, config__yaml="{}"),
    "checkpoint": ("x", checkpoints._read),
    "detected json": ("x.json", catalogue.detect_format),
    "detected text": ("x.csv", catalogue.detect_format),
    **{
        f"{name} file": table_of(name, suffix)
        for name, suffix in (
            *(("nemo", ".jsonl"), ("speechbrain", ".csv"), ("speechbrain", ".json")),
            *(("coqui", ".csv"), ("stm", ".stm"), ("textgrid", ".TextGrid"), ("elan", ".eaf")),
            *(("audacity", ".txt"), ("common-voice", ".tsv"), ("lhotse-cuts", ".jsonl.gz")),
        )
    },
    "kaldi": imported("wav.scp", "kaldi", text="a b\n"),
    "kaldi's texts": imported("text", "kaldi", wav__scp="a x.wav\n"),
    "lhotse": imported("recordings.jsonl", "lhotse", supervisions__jsonl=""),
    "ljspeech": imported("metadata.csv", "ljspeech"),
    "audiofolder": imported("metadata.csv", "audiofolder"),
    "text folder": imported("x.wav", "folder"),
}


@contextmanager
def alarm(seconds: int) -> Iterator[None]:
    """An end to what waits for ever."""

    def give_up(*_: object) -> None:
        pytest.fail(f"still reading after {seconds} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


def make_terabytes(path: Path) -> None:
    """Of nothing, which takes no room."""
    with path.open("wb") as file:
        file.truncate(2**42)


@pytest.mark.parametrize("make", [make_pipe, make_endless, make_socket, make_terabytes])
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_is_refused_in_a_line(
    name: str, make: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_name, read = READERS[name]
    # As short a path as a socket may have.
    monkeypatch.chdir(tmp_path)
    path = tmp_path / file_name
    make(Path(file_name))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    is_fine = name in ABSENT or (make is make_terabytes and name in EMPTY)
    with alarm(20), nullcontext() if is_fine else pytest.raises(AsrError, match=r"\A.+\Z"):
        read(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB


def test_a_name_with_a_zero_byte_is_one_of_no_file() -> None:
    with pytest.raises(OSError, match="not a name of a file"):
        open_regular(Path("a\0b"))


def test_a_pipe_that_takes_the_place_of_a_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, file = tmp_path / "pipe", tmp_path / "file"
    os.mkfifo(pipe)
    file.write_text("x")
    status = file.stat()
    monkeypatch.setattr(Path, "stat", lambda *_, **__: status)  # as it was when it was looked at
    with alarm(10), pytest.raises(OSError, match="not a regular file"):
        open_regular(pipe)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(2**40)  # takes no room
    with pytest.raises(OSError, match="more than 1,073,741,824 bytes"):
        read_file(path)
    assert read_file(Path(__file__), 2**20) == Path(__file__).read_bytes()
