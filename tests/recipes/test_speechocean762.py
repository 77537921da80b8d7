import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.corpus.manifest import read_manifest
from asr.errors import DataError
from recipes.speechocean762 import corpus as speechocean762
from recipes.speechocean762.corpus import Corpus, download, prepare

SECONDS = 0.6
SPLITS = {"train": ("0001", "0002", "0003", "0004", "0005"), "test": ("6", "7", "8", "9", "A")}


def write_split(root: Path, split: str) -> None:
    rng = np.random.default_rng(1)
    rows: dict[str, list[str]] = {"wav.scp": [], "text": [], "utt2spk": []}
    for speaker in SPLITS[split]:
        (root / "WAVE" / f"SPEAKER{speaker}").mkdir(parents=True)
        for number in range(2):
            name = f"{speaker}{number:05d}"
            path = f"WAVE/SPEAKER{speaker}/{name}.WAV"
            soundfile.write(root / path, rng.normal(0, 0.1, int(16000 * SECONDS)), 16000)
            rows["wav.scp"].append(f"{name}\t{path}\n")
            rows["text"].append(f"{name}\tMARK IS GOING TO SEE ELEPHANT'S NUMBER {'AB'[number]}\n")
            rows["utt2spk"].append(f"{name} {speaker}\n")
    (root / split).mkdir()
    for name, lines in rows.items():
        (root / split / name).write_text("".join(lines))


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A corpus in the published layout, of ten speakers with two sentences each."""
    monkeypatch.setattr(speechocean762, "NUM_UTTERANCES", 10)
    monkeypatch.setattr(speechocean762, "NUM_SPEAKERS", 5)
    monkeypatch.setattr(speechocean762, "_TRAIN_MINUTES", 10 * SECONDS / 60)
    root = tmp_path / "speechocean762"
    for split in SPLITS:
        write_split(root, split)
    return root


def speakers(folder: Path, name: str) -> set[str | None]:
    return {utterance.speaker for utterance in read_manifest(folder / f"{name}.jsonl")}


def test_the_official_test_set_is_kept_and_dev_is_cut_out_of_train_by_speaker(
    corpus: Path, tmp_path: Path
) -> None:
    drawn = set()
    for seed in range(6):
        prepare(corpus.parent, tmp_path, Corpus(num_dev_speakers=2, seed=seed))
        assert speakers(tmp_path, "test") == set(SPLITS["test"])
        train, dev = speakers(tmp_path, "train"), speakers(tmp_path, "dev")
        assert (len(train), len(dev)) == (3, 2)
        assert train | dev == set(SPLITS["train"])
        drawn.add(frozenset(dev))
    assert len(drawn) > 1
    first = read_manifest(tmp_path / "test.jsonl")[0]
    assert (first.id, first.text) == ("600000", "mark is going to see elephant's number a")
    assert first.duration == SECONDS
    assert first.audio_filepath == corpus / "WAVE" / "SPEAKER6" / "600000.WAV"


def test_a_test_set_of_training_speakers_is_made_where_the_configuration_asks_for_it(
    corpus: Path, tmp_path: Path
) -> None:
    (corpus / "test").rename(corpus / "elsewhere")
    settings = Corpus(num_dev_speakers=1, num_test_speakers=2)
    for folder in ("work", "again"):
        prepare(corpus, tmp_path / folder, settings)
    sets = [speakers(tmp_path / "work", name) for name in ("train", "dev", "test")]
    assert [len(found) for found in sets] == [2, 1, 2]
    assert set.union(*sets) == set(SPLITS["train"])
    assert sets == [speakers(tmp_path / "again", name) for name in ("train", "dev", "test")]


def replace_text(path: str, old: str, new: str):
    def change(root: Path) -> None:
        text = (root / path).read_text()
        assert old in text
        (root / path).write_text(text.replace(old, new))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            lambda root: (root / "test").rename(root / "elsewhere"),
            r"the official test set .* is not there; with corpus\.num_test_speakers=12",
            id="no official test set",
        ),
        pytest.param(
            replace_text("train/text", "000200001\tMARK IS GOING TO SEE ELEPHANT'S NUMBER B\n", ""),
            r"train/text: no utterance 000200001, which wav\.scp has",
            id="no transcript",
        ),
        pytest.param(
            replace_text(
                "train/text", "000200001\tMARK IS GOING TO SEE ELEPHANT'S NUMBER B", "000200001"
            ),
            r"train/text:4: an utterance id and a value are expected",
            id="an empty transcript",
        ),
        pytest.param(
            replace_text("train/utt2spk", "000200001 0002\n", ""),
            r"train/utt2spk: no utterance 000200001, which wav\.scp has",
            id="no speaker",
        ),
        pytest.param(
            replace_text("train/wav.scp", "000200001\tWAVE/SPEAKER0002/000200001.WAV\n", ""),
            r"train/wav\.scp: no utterance 000200001, which (text|utt2spk) has",
            id="no audio path",
        ),
        pytest.param(
            replace_text("train/utt2spk", "000200001 0002\n", "000200001 0001\n000200001 0002\n"),
            r"train/utt2spk:5: a second line of utterance 000200001",
            id="an utterance twice",
        ),
        pytest.param(
            replace_text(
                "train/wav.scp", "\tWAVE/SPEAKER0002/000200001.WAV", "\ttouch pwned; cat a.wav |"
            ),
            r"train/wav\.scp: 'touch pwned; cat a\.wav \|' is a command; only paths are read",
            id="a command in place of a path",
        ),
        pytest.param(
            replace_text("train/utt2spk", "000200001 0002", "000200001 0006"),
            r"train: 10 utterances by 6 speakers, expected 10 by 5",
            id="another number of speakers",
        ),
        pytest.param(
            lambda root: [
                replace_text(f"test/{name}", line, "")(root)
                for name, line in (
                    ("wav.scp", "A00001\tWAVE/SPEAKERA/A00001.WAV\n"),
                    ("text", "A00001\tMARK IS GOING TO SEE ELEPHANT'S NUMBER B\n"),
                    ("utt2spk", "A00001 A\n"),
                )
            ],
            r"test: 9 utterances by 5 speakers, expected 10 by 5",
            id="another number of utterances",
        ),
        pytest.param(
            replace_text("test/utt2spk", " 6", " 0003"),
            r"test/utt2spk: speaker 0003 is in train as well",
            id="a test speaker in train",
        ),
        pytest.param(
            lambda root: (root / "WAVE" / "SPEAKER0002" / "000200001.WAV").write_bytes(b"RIFF"),
            r"000200001\.WAV: missing or not readable as audio",
            id="audio that is damaged",
        ),
        pytest.param(
            lambda root: soundfile.write(
                root / "WAVE" / "SPEAKER0002" / "000200001.WAV", np.zeros(32000), 16000
            ),
            r"0\.1 min of train, expected 0\.1 min",
            id="other minutes",
        ),
    ],
)
def test_what_is_wrong_with_a_corpus_is_named(
    corpus: Path, tmp_path: Path, change, message
) -> None:
    change(corpus)
    with pytest.raises(DataError, match=message) as error:
        prepare(corpus, tmp_path / "work", Corpus(num_dev_speakers=2))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "work").exists()


def test_no_set_may_take_the_last_speaker(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"5 of 5 speakers cannot be taken out of train"):
        prepare(corpus, tmp_path / "work", Corpus(num_dev_speakers=3, num_test_speakers=2))


def test_what_is_downloaded_is_unpacked_to_where_prepare_finds_it(
    corpus: Path, tmp_path: Path
) -> None:
    target = tmp_path / "download"
    target.mkdir()
    with tarfile.open(target / "speechocean762.tar.gz", "w:gz", compresslevel=1) as tar:
        tar.add(corpus, "speechocean762")
    download(target)
    prepare(target, tmp_path / "work", Corpus(num_dev_speakers=2))
    assert len(read_manifest(tmp_path / "work" / "train.jsonl")) == 6


def test_the_training_split_at_hand_is_divided_by_speaker(corpora: Path, tmp_path: Path) -> None:
    source = corpora / "speechocean762"
    if not source.is_dir():
        pytest.skip("no speechocean762 among the corpora")
    prepare(source, tmp_path, Corpus(num_test_speakers=15))
    names = ("train", "dev", "test")
    sets = {name: read_manifest(tmp_path / f"{name}.jsonl") for name in names}
    assert {name: len(us) for name, us in sets.items()} == {"train": 1960, "dev": 240, "test": 300}
    assert [len(speakers(tmp_path, name)) for name in names] == [98, 12, 15]
