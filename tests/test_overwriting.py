import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr import scoring
from asr.corpus import Utterance, write_manifest
from asr.corpus.formats import catalogue
from asr.errors import AsrError
from tests.tones import write_corpus


def utterances_for_export(folder: Path) -> Iterator[Utterance]:
    soundfile.write(folder / "a.wav", np.zeros(800, np.float32), 8000)
    yield Utterance(id="a", audio_filepath=folder / "a.wav", duration=0.1, text="one", speaker="s")


def write_scores(folder: Path) -> None:
    result = scoring.score({"a": "one"}, {"a": "one"})
    scoring.write_files(scoring.ScoreReport(score=result, reference="r", hypothesis="h"), folder)


def exported(name: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder.parent / "audio").mkdir(exist_ok=True)
        rows = utterances_for_export(folder.parent / "audio")
        catalogue.FORMATS[name].write(rows, folder, print)

    return write


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (write_scores, "report.json"),
        (write_scores, "per_utt"),
        (exported("kaldi"), "text"),
        (exported("lhotse"), "recordings.jsonl.gz"),
        (exported("audiofolder"), "metadata.jsonl"),
        (exported("textgrid"), "a.TextGrid"),
        (exported("elan"), "a.eaf"),
        (exported("audacity"), "a.txt"),
        pytest.param(exported("folder"), "a.txt", id="folder"),
        (exported("folder"), "a.wav"),
    ],
)
def test_files_of_fixed_names_take_no_strangers_place(
    write: Callable[[Path], None], name: str, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "notes").write_text("mine")
    (folder / name).write_text("mine")
    with pytest.raises(AsrError, match=f"would be overwritten, but asr did not write '{name}'"):
        write(folder)
    assert (folder / name).read_text() == "mine"
    (folder / name).unlink()
    write(folder)
    write(folder)  # over its own
    assert (folder / name).exists()
    assert (folder / "notes").read_text() == "mine"


KILLED = """
import os, signal, sys
from pathlib import Path
from asr.corpus import read_manifest
from asr.corpus.formats import catalogue

def until_killed(manifest):
    for number, utterance in enumerate(read_manifest(manifest)):
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        yield utterance

catalogue.export_corpus(until_killed(Path(sys.argv[1])), sys.argv[2], Path(sys.argv[3]), print)
"""


@pytest.mark.skipif(os.name == "nt", reason="nothing is killed so")
@pytest.mark.parametrize("name", ["folder", "audiofolder", "lhotse"])
def test_an_export_that_was_killed_is_done_again_and_a_strangers_file_stays(
    name: str, tmp_path: Path
) -> None:
    utterances = write_corpus(tmp_path / "audio", 4, seed=1)
    write_manifest(utterances, tmp_path / "m.jsonl")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "notes").write_text("mine")
    command = [sys.executable, "-c", KILLED, str(tmp_path / "m.jsonl"), name, str(folder)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    if name == "folder":
        assert len(list(folder.glob("*.txt"))) == 2
        stranger = folder / f"{utterances[3].id}.txt"
        stranger.write_text("mine")
        with pytest.raises(AsrError, match="would be overwritten, but asr did not write"):
            catalogue.export_corpus(utterances, name, folder, print)
        assert stranger.read_text() == "mine"
        stranger.unlink()
    catalogue.export_corpus(utterances, name, folder, print)
    catalogue.export_corpus(utterances, name, tmp_path / "whole", print)
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert {path.name for path in folder.iterdir()} == {*names, "notes"}


def test_no_link_in_a_folder_has_others_written_to(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/.asr-files.jsonl").symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match=r"asr-files\.jsonl"):
        exported("folder")(tmp_path / "out")
    assert (tmp_path / "mine").read_text() == "mine"
