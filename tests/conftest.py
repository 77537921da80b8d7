import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# Before anything imports torch: results to the bit depend on the number of threads, and a model
# that is trained here should be the same on any machine of the kind. Programs inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from tests import tones

if TYPE_CHECKING:
    from asr.corpus.packed import PackedCorpus

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _restore_threads() -> Iterator[None]:
    """What a test sets with `threads=` holds for all of torch; not for the next test."""
    yield
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings draw no curves, which take longer than a short training itself."""
    from asr.training import page, trainer

    monkeypatch.setattr(trainer, "draw_curves", lambda _history, _path: None)
    monkeypatch.setattr(page, "draw_curve", lambda _history, _curve: b"")


@pytest.fixture(scope="session")
def corpora() -> Path:
    folder = Path(os.environ.get("ASR_CORPORA", ROOT.parent / "shared" / "corpora"))
    if not folder.is_dir():
        pytest.skip("no corpora: set ASR_CORPORA to the folder that holds them")
    return folder


@pytest.fixture(scope="session")
def tone_corpus(tmp_path_factory: pytest.TempPathFactory) -> "dict[str, PackedCorpus]":
    from asr.corpus.packed import open_packed, pack

    folder = tmp_path_factory.mktemp("tones")
    for split, count in {"train": 60, "dev": 12}.items():
        utterances = tones.write_corpus(folder / split, count, seed=len(split), longest_pause=0.8)
        pack(utterances, folder / "packed" / split, tones.CONFIG.features)
    return {split: open_packed(folder / "packed" / split) for split in ("train", "dev")}


@pytest.fixture(scope="session")
def tone_run(
    tone_corpus: "dict[str, PackedCorpus]", tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A training's folder, whose model is certain of what tones it hears."""
    from asr.training.trainer import train
    from asr.transcription.recognizer import Recognizer

    folder = tmp_path_factory.mktemp("trained")
    scratch = folder / "scratch"
    scratch.mkdir()
    lines: list[str] = []
    train(
        tone_corpus["train"],
        tone_corpus["dev"],
        tones.CONFIG,
        folder,
        scratch=scratch,
        device="cpu",
        report=lines.append,
    )
    (folder / "lines.txt").write_text("\n".join(lines), encoding="utf-8")
    recognizer = Recognizer.load(folder / "model", device="cpu")
    tones.assert_certain(recognizer, tones.write_corpus(folder / "unseen", 40, 77, 0.8))
    return folder


@pytest.fixture(scope="session")
def live_model(
    tone_corpus: "dict[str, PackedCorpus]", tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The tones, learnt by a network with one direction: a model folder."""
    from asr.training.trainer import train
    from asr.transcription.recognizer import Recognizer

    folder = tmp_path_factory.mktemp("live")
    (folder / "scratch").mkdir()
    config = tones.CONFIG.model_copy(
        update={
            "features": tones.CONFIG.features.model_copy(update={"normalization": "global"}),
            "encoder": tones.CONFIG.encoder.model_copy(update={"bidirectional": False}),
        }
    )
    train(
        tone_corpus["train"],
        tone_corpus["dev"],
        config,
        folder,
        scratch=folder / "scratch",
        device="cpu",
        report=lambda _: None,
    )
    recognizer = Recognizer.load(folder / "model", device="cpu")
    # With one direction it cannot know in a pause whether a word will follow.
    unseen = tones.write_corpus(folder / "unseen", 40, 77, 0.8)
    tones.assert_certain(recognizer, unseen, spaces=False)
    return folder / "model"


@pytest.fixture(scope="session")
def tone_starter(tone_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a starter called `tones`, stored as one is: in 8 bits, with a card."""
    from asr.model.export import copy_model

    folder = tmp_path_factory.mktemp("assets") / "tones"
    copy_model(tone_run / "model", folder, int8=True)
    (folder / "README.md").write_text("# tones\n\nTwo tones, 440 and 1200 Hz.\n")
    return folder


@pytest.fixture
def starter(tone_starter: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a starter, the only one that the package seems to bring."""
    monkeypatch.setattr("asr.model.folder.STARTERS", tone_starter.parent)
    return tone_starter.name
