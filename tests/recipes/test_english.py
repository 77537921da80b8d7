import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.config import Config, SynthesisConfig
from asr.corpus import Utterance, read_manifest, write_manifest
from asr.errors import DataError
from asr.model import LoadedModel
from asr.recipe import load_recipe, load_recipe_config
from asr.text import TokenTable
from recipes.english.card import list_data, read_rates, write_card
from recipes.english.corpus import Corpus, Weights, download, prepare
from recipes.librispeech import corpus as librispeech
from recipes.speechocean762 import corpus as speechocean762
from tests.conftest import ROOT

SECONDS = 0.5
READERS = {"dev-clean": ("21", "22", "23", "24"), "train-clean-100": ("11", "12")}
CHILDREN = ("21", "0002", "0003", "0004")  # the first has the number of a reader


def write_audio(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    soundfile.write(path, rng.normal(0, 0.1, int(16000 * SECONDS)), 16000)


def write_librispeech(root: Path, subset: str) -> None:
    lines = []
    for speaker in READERS[subset]:
        lines.append(f"{speaker} | F | {subset} | {2 * SECONDS / 60:.4f} | A\n")
        folder = root / subset / speaker / "100"
        names = [f"{speaker}-100-{number:04d}" for number in range(2)]
        for name in names:
            write_audio(folder / f"{name}.flac")
        text = "".join(f"{name} IT'S CHAPTER ONE\n" for name in names)
        (folder / f"{speaker}-100.trans.txt").write_text(text)
    (root / "SPEAKERS.TXT").write_text("".join(lines))


def write_machine(root: Path, rows: list[dict[str, object]]) -> None:
    lines = []
    for row in rows:
        write_audio(root / f"audio/{row['id']}.flac")
        given = {"audio_filepath": f"audio/{row['id']}.flac", "duration": SECONDS, **row}
        lines.append(json.dumps(given) + "\n")
    (root / "pseudo.jsonl").write_text("".join(lines))


def write_speechocean(root: Path) -> None:
    tables: dict[str, list[str]] = {"wav.scp": [], "text": [], "utt2spk": []}
    for speaker in CHILDREN:
        name = f"{speaker}00001"
        write_audio(root / "WAVE" / f"{name}.WAV")
        tables["wav.scp"].append(f"{name}\tWAVE/{name}.WAV\n")
        tables["text"].append(f"{name}\tMARK'S ELEPHANT\n")
        tables["utt2spk"].append(f"{name} {speaker}\n")
    (root / "train").mkdir()
    for name, lines in tables.items():
        (root / "train" / name).write_text("".join(lines))


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The five corpora in their layouts, a few utterances each."""
    monkeypatch.setattr(speechocean762, "NUM_UTTERANCES", len(CHILDREN))
    monkeypatch.setattr(speechocean762, "NUM_SPEAKERS", len(CHILDREN))
    monkeypatch.setattr(speechocean762, "_TRAIN_MINUTES", len(CHILDREN) * SECONDS / 60)
    root = tmp_path / "corpora"
    write_librispeech(root / "LibriSpeech", "dev-clean")
    write_librispeech(root / "LibriSpeech-3-speakers", "train-clean-100")
    write_machine(
        root / "librispeech-250",
        [
            {"id": "31-100-0000", "text": "sure", "speaker": "31", "confidence": 0.9},
            {"id": "32-100-0000", "text": "unsure", "speaker": "32", "confidence": 0.5},
            {"id": "33-100-0000", "text": "it does not say", "speaker": "33"},
            {"id": "11-100-0000", "text": "it is chapter won", "speaker": "11"},
        ],
    )
    write_speechocean(root / "speechocean762")
    write_audio(root / "commonvoice/en/clips/clip.flac")
    (root / "commonvoice/en/validated.tsv").write_text(
        "client_id\tpath\tsentence\nabc\tclip.flac\tIt’s two-sided!\n"  # noqa: RUF001
    )
    return root


def settings(**weights: int) -> Corpus:
    return Corpus(
        weights=Weights(**weights),
        librispeech=librispeech.Corpus(
            train=("dev-clean",), num_dev_speakers=1, num_test_speakers=1, all_speakers=False
        ),
        speechocean762=speechocean762.Corpus(num_dev_speakers=1, num_test_speakers=1),
    )


def texts(utterances: list[Utterance]) -> dict[str, str | None]:
    return {utterance.id: utterance.text for utterance in utterances}


def test_a_corpus_stands_in_the_training_set_as_often_as_its_weight_says(
    small: Path, tmp_path: Path
) -> None:
    weights = {
        "librispeech": 3,
        "librispeech_3_speakers": 2,
        "librispeech_250": 1,
        "speechocean762": 4,
        "commonvoice": 2,
    }
    prepare(small, tmp_path / "work", settings(**weights))
    train = read_manifest(tmp_path / "work" / "train.jsonl")
    counts = Counter(
        next(p for p in utterance.audio_filepath.parts if p in FOLDERS) for utterance in train
    )
    assert counts == {
        "LibriSpeech": 3 * 4,
        "LibriSpeech-3-speakers": 2 * 4,
        "librispeech-250": 2,
        "speechocean762": 4 * 2,
        "commonvoice": 2,
    }
    assert len({utterance.id for utterance in train}) == len(train)
    assert {u.text for u in train if u.id.startswith("clip")} == {"it's two sided"}


FOLDERS = (
    "LibriSpeech",
    "LibriSpeech-3-speakers",
    "librispeech-250",
    "speechocean762",
    "commonvoice",
)


def test_the_dev_set_joins_those_of_the_parts_and_each_part_stands_by_itself(
    small: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "work"
    prepare(small, folder, settings())
    parts = {
        split: {
            part: texts(read_manifest(folder / part / f"{split}.jsonl"))
            for part in ("librispeech", "speechocean762")
        }
        for split in ("dev", "test")
    }
    assert [len(part) for part in parts["dev"].values()] == [2, 1]
    assert [len(part) for part in parts["test"].values()] == [2, 1]
    assert texts(read_manifest(folder / "dev.jsonl")) == {
        **parts["dev"]["librispeech"],
        **parts["dev"]["speechocean762"],
    }
    train = texts(read_manifest(folder / "train.jsonl"))
    for split in parts.values():
        for part in split.values():
            assert not part.keys() & train.keys()


def test_speakers_of_two_corpora_with_one_number_are_two_speakers(
    small: Path, tmp_path: Path
) -> None:
    prepare(small, tmp_path, settings())
    utterances = [u for name in ("train", "dev") for u in read_manifest(tmp_path / f"{name}.jsonl")]
    named = {u.speaker for u in utterances}
    assert {"librispeech-11", "librispeech-31", "commonvoice-abc"} <= named
    assert {str(s).partition("-")[0] for s in named} == {
        "librispeech",
        "speechocean762",
        "commonvoice",
    }


def test_machine_transcripts_are_left_out_where_they_are_unsure_or_a_person_wrote_one(
    small: Path, tmp_path: Path
) -> None:
    lines: list[str] = []
    prepare(small, tmp_path, settings(librispeech_250=1), lines.append)
    train = texts(read_manifest(tmp_path / "train.jsonl"))
    assert train["31-100-0000"] == "sure"
    assert train["33-100-0000"] == "it does not say"
    assert "32-100-0000" not in train
    assert train["11-100-0000"] == "it's chapter one"
    assert "librispeech_250 (machine transcripts), weight 1: train 2 utterances" in "\n".join(lines)


def test_a_speaker_of_the_test_set_in_other_training_speech_is_refused(
    small: Path, tmp_path: Path
) -> None:
    rows = [{"id": f"{n}-9-9", "text": "again", "speaker": n} for n in READERS["dev-clean"]]
    write_machine(small / "librispeech-250", rows)
    with pytest.raises(DataError, match=r"speaker librispeech-2\d is in train and in (dev|test)"):
        prepare(small, tmp_path, settings())
    assert not list(tmp_path.glob("*.jsonl"))


@pytest.mark.parametrize("text", ["chapter 1", "café", "", "a-b"])
def test_a_text_of_other_characters_is_refused_by_file(
    small: Path, tmp_path: Path, text: str
) -> None:
    write_machine(small / "librispeech-250", [{"id": "31-1-1", "text": text, "speaker": "31"}])
    with pytest.raises(DataError, match=r"31-1-1\.flac: .* not of the letters a to z"):
        prepare(small, tmp_path, settings())


def test_a_corpus_that_is_missing_is_an_error_that_says_how_to_leave_it_out(
    small: Path, tmp_path: Path
) -> None:
    (small / "commonvoice").rename(small / "elsewhere")
    with pytest.raises(
        DataError, match=r"no commonvoice/en; .*--set corpus\.weights\.commonvoice=0"
    ):
        prepare(small, tmp_path, settings())
    prepare(small, tmp_path, settings(commonvoice=0))
    assert "clip" not in texts(read_manifest(tmp_path / "train.jsonl"))


def test_without_a_part_with_a_dev_set_there_is_an_error(small: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no dev set"):
        prepare(small, tmp_path, settings(librispeech=0, speechocean762=0))


def test_what_cannot_be_downloaded_is_said_before_anything_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []
    monkeypatch.setattr(librispeech, "download", lambda _, subsets: fetched.extend(subsets))
    monkeypatch.setattr(speechocean762, "download", lambda _: fetched.append("speechocean762"))
    with pytest.raises(
        DataError, match=r"librispeech_250, commonvoice: cannot be .*--conf published"
    ):
        download(tmp_path, Corpus(weights=Weights(librispeech_3_speakers=0)))
    assert not fetched
    recipe = load_recipe(ROOT / "recipes" / "english")
    config = load_recipe_config(recipe, ROOT / "conf" / "english" / "published.yaml")
    download(tmp_path, Corpus.model_validate(config.corpus))
    assert fetched == ["train-clean-100", "dev-clean", "test-clean", "speechocean762"]


def test_the_corpora_here_have_the_counts_hours_and_speakers_that_the_readme_states(
    corpora: Path, tmp_path: Path
) -> None:
    for name in (*FOLDERS[:4], "commonvoice/en"):
        if not (corpora / name).is_dir():
            pytest.skip(f"no {name} in {corpora}")
    lines: list[str] = []
    prepare(corpora, tmp_path, Corpus(), lines.append)
    report = "\n".join(lines)
    for amount in (
        "train 721 utterances, 1.35 h, 10 speakers",
        "train 367 utterances, 1.17 h, 3 speakers",
        "train 222 utterances, 0.79 h, 222 speakers",
        "train 1960 utterances, 2.25 h, 98 speakers",
        "train 100 utterances, 0.13 h, 95 speakers",
    ):
        assert amount in report
    train = read_manifest(tmp_path / "train.jsonl")
    assert len(train) == 2 * (721 + 367 + 222 + 100) + 1960
    assert set("".join(u.text or "" for u in train)) == set("abcdefghijklmnopqrstuvwxyz' ")
    sizes = {
        f"{part}/{split}": len(read_manifest(tmp_path / part / f"{split}.jsonl"))
        for part in ("librispeech", "speechocean762")
        for split in ("dev", "test")
    }
    assert sizes == {
        "librispeech/dev": 132,
        "librispeech/test": 153,
        "speechocean762/dev": 240,
        "speechocean762/test": 300,
    }


RESULT = """librispeech/test
%WER 30.14 [ 123 / 408, 10 ins, 20 del, 93 sub ]
%SER 90.00 [ 90 / 100 ]
WER 30.14 % [25.11, 35.96] (95 %, bootstrap by speaker, 3 speakers)
Real-time factor 0.0173

The best path, without help:
%WER 45.14 [ 184 / 408, 10 ins, 20 del, 154 sub ]
%SER 99.00 [ 99 / 100 ]
WER 45.14 % [40.11, 50.96] (95 %, bootstrap by speaker, 3 speakers)
Real-time factor 0.0103

speechocean762/dev
%WER 50.00 [ 5 / 10, 0 ins, 0 del, 5 sub ]
%SER 100.00 [ 2 / 2 ]
WER 50.00 % [0.00, 100.00] (95 %, bootstrap by speaker, 2 speakers)
Real-time factor 0.0103
"""


def test_error_rates_of_the_card_are_those_of_the_best_path() -> None:
    assert read_rates(RESULT) == {
        "librispeech/test": "45.1 [40.1, 51.0]",
        "speechocean762/dev": "50.0 [0.0, 100.0]",
    }


def test_the_card_has_no_number_of_its_own(tmp_path: Path) -> None:
    utterances = [
        Utterance(
            id=f"{number}-{times}",
            audio_filepath=tmp_path / folder / f"{number}.wav",
            duration=1800.0,
            text="a",
            speaker=f"s{number % 2}",
        )
        for folder, numbers, repeated in (
            ("LibriSpeech", range(2), 2),
            ("commonvoice/en", range(2, 5), 1),
        )
        for number in numbers
        for times in range(repeated)
    ]
    write_manifest(utterances, tmp_path / "manifests/train.jsonl")
    weights = {"librispeech": 2, "commonvoice": 1}
    model = LoadedModel(
        config=Config.model_validate({"corpus": {"weights": weights}, "training": {"epochs": 7}}),
        tokens=TokenTable(("<blank>", " ", "a")),
        training={"epoch": 6, "seed": 3, "seconds": 5400, "program": "0.2", "parameters": 5.6e6},
    )
    rates = {"trained": read_rates(RESULT), "in 8 bits": {"librispeech/test": "45.2 [40.1, 51.0]"}}
    card = write_card(tmp_path, model, rates, has_lm=False)
    lines = card.splitlines()
    assert "5 utterances, 2.50 hours:" in lines
    assert "| librispeech | 2 | 1.00 | 2 | 2 |" in lines
    assert "| commonvoice | 3 | 1.50 | 2 | 1 |" in lines
    assert "| set | trained | in 8 bits |" in lines
    assert "| librispeech/test | 45.1 [40.1, 51.0] | 45.2 [40.1, 51.0] |" in lines
    assert "| speechocean762/dev | 50.0 [0.0, 100.0] |  |" in lines
    assert "7 epochs, of which epoch 6 was the best on dev; seed 3, 1.5 h" in card
    assert "novels" not in card
    assert "Piper" not in card
    assert "$" not in card
    assert "earlier run" not in card
    model.training["init"] = {"name": "x", "hash": "y", "dev_wer": 80.16}
    began = "with the weights of an earlier run of the same recipe, which had 80.2 % of the dev"
    assert began in write_card(tmp_path, model, rates, has_lm=False)
    assert "novels" in write_card(tmp_path, model, rates, has_lm=True)
    model.config.corpus["weights"]["synthetic"] = 1
    assert "Piper" in write_card(tmp_path, model, rates, has_lm=False)


def test_voices_speak_sentences_of_a_text_to_train_on(small: Path, tmp_path: Path) -> None:
    lines = ["too short", "It HAS capitals and so it is not of the letters"]
    lines += [f"this is sentence {letter} of nine words in all" for letter in "abcdef"]
    (tmp_path / "text.txt").write_text("\n".join(lines))
    given = settings(synthetic=1).model_copy(
        update={
            "sentences": tmp_path / "text.txt",
            "synthetic": SynthesisConfig(hours=0.004, sample_rate=16000),
        }
    )
    prepare(small, tmp_path / "work", given)
    train = read_manifest(tmp_path / "work/train.jsonl")
    spoken = [u for u in train if str(u.speaker).startswith("synthetic-")]
    assert 14 < sum(u.duration for u in spoken) < 30
    # Each once before any comes again.
    assert len({u.text for u in spoken}) == len(spoken) <= 6
    assert {u.text for u in spoken} <= set(lines[2:])
    assert not any(u.audio_filepath.is_relative_to(small) for u in spoken)
    assert list_data(spoken, {"synthetic": 1}).splitlines()[2].startswith("| synthetic | ")


def test_voices_need_a_text_with_sentences(small: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--set corpus\.sentences=FILE"):
        prepare(small, tmp_path / "work", settings(synthetic=1))
    (tmp_path / "text.txt").write_text("too short\n")
    given = settings(synthetic=1).model_copy(update={"sentences": tmp_path / "text.txt"})
    with pytest.raises(DataError, match="no line of 8 to 30 words"):
        prepare(small, tmp_path / "work", given)
