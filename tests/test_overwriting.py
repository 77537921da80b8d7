from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr import scoring
from asr.corpus import Utterance
from asr.corpus.formats import catalogue
from asr.errors import AsrError


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
