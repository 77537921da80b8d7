import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.cli import main
from asr.config import ConfigError, parse_settings
from asr.corpus.manifest import Utterance, read_manifest
from asr.errors import DataError
from recipes.librispeech import corpus as librispeech
from recipes.librispeech.corpus import PUBLISHED, Corpus, Published, download, prepare
from tests.conftest import ROOT

SECONDS = 0.6
# Speakers by subset, with their sex; each reads two chapters of three utterances.
SPEAKERS = {
    "train-clean-100": {"11": "F", "12": "M", "13": "F", "14": "M", "15": "F", "16": "M"},
    "dev-clean": {"21": "F", "22": "M"},
    "test-clean": {"31": "F", "32": "M"},
    "test-other": {"41": "M"},
    "train-clean-5": {"11": "F", "12": "M"},
}


def write_subset(root: Path, subset: str, suffix: str = ".flac") -> None:
    rng = np.random.default_rng(1)
    for speaker in SPEAKERS[subset]:
        for chapter in ("100", "200"):
            folder = root / subset / speaker / chapter
            folder.mkdir(parents=True)
            lines = []
            for number in range(3):
                name = f"{speaker}-{chapter}-{number:04d}"
                samples = rng.normal(0, 0.1, int(16000 * SECONDS))
                soundfile.write(folder / f"{name}{suffix}", samples, 16000)
                lines.append(f"{name} IT'S CHAPTER {'ABC'[number]}\n")
            (folder / f"{speaker}-{chapter}.trans.txt").write_text("".join(lines))


def write_speakers(root: Path) -> None:
    lines = [
        f"{speaker:<5}| {sex} | {subset:<17}| {6 * SECONDS / 60:.2f} | | A | B\n"
        for subset, speakers in SPEAKERS.items()
        if subset != "train-clean-5"
        for speaker, sex in speakers.items()
    ]
    (root / "SPEAKERS.TXT").write_text("".join(["; id | sex | subset\n", ";\n", *lines]))


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All of SPEAKERS as a complete corpus in the published layout."""
    root = tmp_path / "LibriSpeech"
    root.mkdir()
    write_speakers(root)
    for subset, speakers in SPEAKERS.items():
        write_subset(root, subset)
        old = PUBLISHED[subset]
        fresh = Published(old.resource, old.checksum, 6 * len(speakers), old.part_of)
        monkeypatch.setitem(PUBLISHED, subset, fresh)
    return root


def speakers(utterances: list[Utterance]) -> set[str | None]:
    return {utterance.speaker for utterance in utterances}


def test_each_set_is_the_subsets_that_the_configuration_names(corpus: Path, tmp_path: Path) -> None:
    settings = Corpus(
        train=("train-clean-100",), dev=("dev-clean",), test=("test-clean", "test-other")
    )
    for source in (corpus, corpus.parent):
        prepare(source, tmp_path / "work", settings)
        names = sorted(path.name for path in (tmp_path / "work").iterdir())
        assert names == ["dev.jsonl", "test-other.jsonl", "test.jsonl", "train.jsonl"]
        for name, subset in {
            "train": "train-clean-100",
            "dev": "dev-clean",
            "test": "test-clean",
            "test-other": "test-other",
        }.items():
            utterances = read_manifest(tmp_path / "work" / f"{name}.jsonl")
            assert len(utterances) == 6 * len(SPEAKERS[subset])
            assert speakers(utterances) == set(SPEAKERS[subset])
    first = read_manifest(tmp_path / "work" / "train.jsonl")[0]
    assert (first.id, first.text) == ("11-100-0000", "it's chapter a")
    assert first.duration == SECONDS
    assert first.audio_filepath == corpus / "train-clean-100" / "11" / "100" / "11-100-0000.flac"


def test_without_subsets_for_dev_and_test_training_speakers_are_drawn(
    corpus: Path, tmp_path: Path
) -> None:
    drawn = set()
    for seed in range(6):
        settings = Corpus(
            train=("train-clean-100",), num_dev_speakers=2, num_test_speakers=2, seed=seed
        )
        prepare(corpus, tmp_path, settings)
        sets = [read_manifest(tmp_path / f"{name}.jsonl") for name in ("train", "dev", "test")]
        assert [len(utterances) for utterances in sets] == [12, 12, 12]
        train, dev, test = (speakers(utterances) for utterances in sets)
        assert not train & dev | train & test | dev & test
        sexes = SPEAKERS["train-clean-100"]
        assert sorted(sexes[str(speaker)] for speaker in dev) == ["F", "M"]
        assert sorted(sexes[str(speaker)] for speaker in test) == ["F", "M"]
        drawn.add((frozenset(dev), frozenset(test)))
        prepare(corpus, tmp_path / "again", settings)
        for name in ("train", "dev", "test"):
            again = read_manifest(tmp_path / "again" / f"{name}.jsonl")
            assert speakers(again) == speakers(read_manifest(tmp_path / f"{name}.jsonl"))
    assert len(drawn) > 1


@pytest.mark.parametrize("suffix", [".wav", ".mp3", ".ogg"])
def test_audio_may_be_a_copy_in_another_format(corpus: Path, tmp_path: Path, suffix: str) -> None:
    shutil.rmtree(corpus / "dev-clean")
    write_subset(corpus, "dev-clean", suffix)
    prepare(
        corpus, tmp_path, Corpus(train=("dev-clean",), num_dev_speakers=1, test=("test-other",))
    )
    utterance = read_manifest(tmp_path / "train.jsonl")[0]
    assert utterance.audio_filepath.suffix == suffix
    assert utterance.duration == pytest.approx(SECONDS, abs=0.001)


CORPUS = Corpus(train=("train-clean-100",), dev=("dev-clean",), test=("test-clean",))
CHAPTER = Path("dev-clean/21/100")


def remove(*paths: str):
    def change(root: Path) -> None:
        for path in paths:
            target = root / path
            shutil.rmtree(target) if target.is_dir() else target.unlink()

    return change


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
            remove("dev-clean"),
            r"no dev-clean of LibriSpeech .* https://www\.openslr\.org/12 .*--corpus DIR",
            id="a subset is not there",
        ),
        pytest.param(
            replace_text("dev-clean/21/100/21-100.trans.txt", "21-100-0002 IT'S CHAPTER C\n", ""),
            r"21-100-0002\.flac: has no transcript in 21-100\.trans\.txt",
            id="audio without a transcript",
        ),
        pytest.param(
            replace_text("dev-clean/21/100/21-100.trans.txt", "0001 IT'S CHAPTER B", "0001 "),
            r"21-100\.trans\.txt:2: 21-100-0001 has no words",
            id="an empty transcript",
        ),
        pytest.param(
            remove("dev-clean/21/100/21-100-0001.flac"),
            r"21-100\.trans\.txt:2: 21-100-0001 has no audio file",
            id="a transcript without audio",
        ),
        pytest.param(
            remove("dev-clean/21/100/21-100.trans.txt"),
            r"21-100\.trans\.txt: missing or unreadable",
            id="no transcripts of a chapter",
        ),
        pytest.param(
            remove("dev-clean/22"),
            r"dev-clean: 6 utterances, expected 12; with corpus\.all_speakers=false",
            id="a speaker is missing",
        ),
        pytest.param(
            replace_text("SPEAKERS.TXT", "22   | M | dev-clean", "22   | M | dev-other"),
            r"dev-clean/22: SPEAKERS\.TXT has no speaker 22 of dev-clean",
            id="a speaker of another subset",
        ),
        pytest.param(
            replace_text("SPEAKERS.TXT", "| 0.06 |", "| 0.07 |"),
            r"train-clean-100: 0\.4 min by 6 speakers, expected 0\.4 min \(SPEAKERS\.TXT\)",
            id="other minutes",
        ),
        pytest.param(
            replace_text("SPEAKERS.TXT", "12   | M | train-clean-100  | 0.06", "12   | M | x"),
            r"SPEAKERS\.TXT:4: id \| sex \| subset \| minutes is expected",
            id="a bad line of speakers",
        ),
        pytest.param(
            remove("SPEAKERS.TXT"), r"SPEAKERS\.TXT: missing or unreadable", id="no speakers"
        ),
        pytest.param(
            lambda root: (root / CHAPTER / "21-100-0000.flac").write_bytes(b"fLaC?"),
            r"21-100-0000\.flac: not readable as audio",
            id="audio that is damaged",
        ),
    ],
)
def test_what_is_wrong_with_a_corpus_is_named(
    corpus: Path, tmp_path: Path, change, message
) -> None:
    change(corpus)
    with pytest.raises(DataError, match=message) as error:
        prepare(corpus, tmp_path / "work", CORPUS)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "work").exists()


def test_speakers_that_are_there_are_enough_where_the_configuration_says_so(
    corpus: Path, tmp_path: Path
) -> None:
    shutil.rmtree(corpus / "dev-clean" / "22")
    prepare(corpus, tmp_path, CORPUS.model_copy(update={"all_speakers": False}))
    assert speakers(read_manifest(tmp_path / "dev.jsonl")) == {"21"}


def test_a_speaker_in_two_sets_is_refused(corpus: Path, tmp_path: Path) -> None:
    settings = Corpus(train=("train-clean-100",), dev=("train-clean-5",), test=("test-clean",))
    with pytest.raises(DataError, match=r"speaker 11 is in train and in dev"):
        prepare(corpus, tmp_path / "work", settings)
    settings = Corpus(
        train=("train-clean-100", "train-clean-5"), dev=("dev-clean",), test=("test-clean",)
    )
    with pytest.raises(DataError, match=r"utterance 11-100-0000 is in train twice"):
        prepare(corpus, tmp_path / "work", settings)


def test_no_set_may_take_the_last_speaker(corpus: Path, tmp_path: Path) -> None:
    settings = Corpus(train=("dev-clean",), num_dev_speakers=1, num_test_speakers=1)
    with pytest.raises(DataError, match=r"1 of 1 speakers cannot be taken out of train"):
        prepare(corpus, tmp_path / "work", settings)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param({"dev": ["dev-clean"], "test": ["test-clean"]}, "train", id="no train"),
        pytest.param(
            {"train": ["dev-clean"], "num_test_speakers": 3}, "dev or num_dev_speakers", id="no dev"
        ),
        pytest.param(
            {
                "train": ["train-clean-5"],
                "num_dev_speakers": 1,
                "test": ["dev-clean-2"],
                "num_test_speakers": 1,
            },
            "test or num_test_speakers is needed, and not both",
            id="two answers",
        ),
        pytest.param({"train": ["train-clean-50"]}, "train", id="a subset that is not there"),
    ],
)
def test_bad_settings_are_refused_by_name(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_settings(values, Corpus, "conf")


def test_only_the_subsets_of_the_configuration_are_downloaded_and_prepare_finds_them(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = []

    def fetch(url: str, path: Path, checksum: str) -> None:
        subset = path.name.removesuffix(".tar.gz")
        fetched.append((url, checksum))
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w:gz", compresslevel=1) as tar:
            for name in ("SPEAKERS.TXT", subset):
                tar.add(corpus / name, f"LibriSpeech/{name}")

    monkeypatch.setattr(librispeech.archive, "download", fetch)
    settings = Corpus(train=("train-clean-5",), num_dev_speakers=1, test=("test-clean",))
    download(tmp_path / "download", settings.subsets)
    assert fetched == [
        (
            "https://www.openslr.org/resources/31/train-clean-5.tar.gz",
            PUBLISHED["train-clean-5"].checksum,
        ),
        (
            "https://www.openslr.org/resources/12/test-clean.tar.gz",
            PUBLISHED["test-clean"].checksum,
        ),
    ]
    prepare(tmp_path / "download", tmp_path / "work", settings)
    assert len(read_manifest(tmp_path / "work" / "train.jsonl")) == 6
    download(tmp_path / "download", settings.subsets)
    assert len(fetched) == 2


def test_checksums_are_those_of_torchaudio() -> None:
    datasets = pytest.importorskip("torchaudio.datasets.librispeech")
    expected = {
        url.rpartition("/")[2].removesuffix(".tar.gz"): checksum
        for url, checksum in datasets._CHECKSUMS.items()
    }
    found = {name: known.checksum for name, known in PUBLISHED.items() if known.resource == 12}
    assert found == expected


@pytest.mark.parametrize("conf", sorted((ROOT / "conf" / "librispeech").glob("*.yaml")))
def test_every_configuration_is_valid(
    conf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = str(ROOT / "recipes" / "librispeech")
    assert main(["run", recipe, "--conf", conf.stem, "--list"]) == 0
    rows = [line.split("\t")[1] for line in capsys.readouterr().out.splitlines()]
    assert rows == ["download", "prepare", "pack", "train", "lm", "tune", "evaluate"]


def test_the_part_at_hand_is_divided_by_speaker(corpora: Path, tmp_path: Path) -> None:
    source = corpora / "LibriSpeech"
    if not source.is_dir():
        pytest.skip("no LibriSpeech among the corpora")
    settings = Corpus(
        train=("dev-clean",), num_dev_speakers=2, num_test_speakers=3, all_speakers=False
    )
    prepare(source, tmp_path, settings)
    sets = {name: read_manifest(tmp_path / f"{name}.jsonl") for name in ("train", "dev", "test")}
    assert {name: len(speakers(us)) for name, us in sets.items()} == {
        "train": 10,
        "dev": 2,
        "test": 3,
    }
    assert sum(len(utterances) for utterances in sets.values()) == 1006
    seconds = sum(u.duration for utterances in sets.values() for u in utterances)
    assert seconds / 3600 == pytest.approx(2.02, abs=0.01)
    with pytest.raises(DataError, match=r"dev-clean: 1006 utterances, expected 2703"):
        prepare(source, tmp_path, settings.model_copy(update={"all_speakers": True}))
