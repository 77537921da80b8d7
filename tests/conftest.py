import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import tones

if TYPE_CHECKING:
    from asr.data import PackedCorpus

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def corpora() -> Path:
    folder = Path(os.environ.get("ASR_CORPORA", ROOT.parent / "shared" / "corpora"))
    if not folder.is_dir():
        pytest.skip("no corpora: set ASR_CORPORA to the folder that holds them")
    return folder


@pytest.fixture(scope="session")
def tone_corpus(tmp_path_factory: pytest.TempPathFactory) -> "dict[str, PackedCorpus]":
    from asr.data import open_packed, pack

    folder = tmp_path_factory.mktemp("tones")
    for split, count in {"train": 60, "dev": 12}.items():
        utterances = tones.write_corpus(folder / split, count, seed=len(split))
        pack(utterances, folder / "packed" / split, tones.CONFIG.features)
    return {split: open_packed(folder / "packed" / split) for split in ("train", "dev")}


@pytest.fixture(scope="session")
def tone_run(
    tone_corpus: "dict[str, PackedCorpus]", tmp_path_factory: pytest.TempPathFactory
) -> Path:
    from asr.training import train

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
    return folder
