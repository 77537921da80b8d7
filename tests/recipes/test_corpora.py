import hashlib
import json
import os
import shutil
import sys
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.config import ConfigError, SynthesisConfig, parse_settings
from asr.corpus import espeak, espeak_voices
from asr.corpus.manifest import Utterance, read_manifest
from asr.errors import DataError
from recipes.an4 import corpus as an4
from recipes.digits import corpus as digits
from recipes.fsdd import corpus as fsdd
from recipes.fsdd.accents import SPELLINGS
from recipes.speechocean762 import corpus as speechocean762
from recipes.yesno import corpus as yesno

SPLITS = ("train", "dev", "test")


def read_splits(folder: Path) -> dict[str, list[Utterance]]:
    return {split: read_manifest(folder / f"{split}.jsonl") for split in SPLITS}


def sizes(splits: dict[str, list[Utterance]]) -> dict[str, int]:
    return {split: len(utterances) for split, utterances in splits.items()}


def speakers(utterances: list[Utterance]) -> set[str | None]:
    return {utterance.speaker for utterance in utterances}


def link_tree(source: Path, target: Path) -> Path:
    # Symbolic links, so that one file can be taken away without touching the corpus.
    shutil.copytree(source, target, copy_function=os.symlink)
    for path in target.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
    return target


def assert_ids_are_unique_across_splits(splits: dict[str, list[Utterance]]) -> None:
    ids = Counter(utterance.id for utterances in splits.values() for utterance in utterances)
    assert max(ids.values()) == 1


def test_fsdd_has_the_official_test_set_and_every_speaker_and_digit_in_dev(corpora, tmp_path):
    fsdd.prepare(corpora / "fsdd", tmp_path, fsdd.Corpus())
    splits = read_splits(tmp_path)
    assert sizes(splits) == {"train": 2520, "dev": 180, "test": 300}
    assert_ids_are_unique_across_splits(splits)
    assert {u.id.split("_")[2] for u in splits["test"]} == {"0", "1", "2", "3", "4"}
    cells = Counter((utterance.speaker, utterance.text) for utterance in splits["dev"])
    assert len(cells) == 60
    assert set(cells.values()) == {3}
    seven = next(u for u in splits["train"] if u.id == "7_jackson_32")
    assert (seven.text, seven.speaker) == ("seven", "jackson")
    assert seven.duration == pytest.approx(soundfile.info(seven.audio_filepath).duration)


def test_fsdd_takes_so_many_real_recordings_of_each_digit(corpora, tmp_path):
    corpus = fsdd.Corpus(real_a_digit=10, real_copies=3)
    fsdd.prepare(corpora / "fsdd", tmp_path, corpus)
    splits = read_splits(tmp_path)
    assert sizes(splits) == {"train": 300, "dev": 180, "test": 300}
    assert_ids_are_unique_across_splits(splits)
    files = Counter((u.text, u.audio_filepath) for u in splits["train"])
    assert set(files.values()) == {3}
    assert set(Counter(text for text, _ in files).values()) == {10}
    chosen = [u for u in splits["train"] if u.id.count("_") == 2 and "-" not in u.id]
    assert len({(u.speaker, u.text) for u in chosen}) == 60
    assert set(Counter(u.speaker for u in chosen).values()) <= {16, 17, 18}
    with pytest.raises(DataError, match="leaves no training set"):
        fsdd.prepare(corpora / "fsdd", tmp_path, fsdd.Corpus(real_a_digit=0))


def test_fsdd_is_spoken_by_voices_of_other_languages_too(corpora, tmp_path):
    pytest.importorskip("espeakng_loader")
    synthetic = SynthesisConfig(hours=0.02, num_voices=60, silence=(0.0, 0.0), trim_db=50)
    corpus = fsdd.Corpus(real_a_digit=0, speak=True, synthetic=synthetic)
    fsdd.prepare(corpora / "fsdd", tmp_path, corpus)
    train = read_splits(tmp_path)["train"]
    assert {u.text for u in train} == set(fsdd.WORDS)
    accents = {str(u.speaker).partition("+")[0] for u in train}
    assert accents & (set(SPELLINGS) - {"en"})
    assert accents & set(espeak_voices.ENGLISH)
    assert 0.05 < np.median([u.duration for u in train]) < 0.6


def test_every_accent_of_fsdd_spells_every_digit() -> None:
    assert all(len(words) == 10 for words in SPELLINGS.values())
    assert all(all(spellings) for words in SPELLINGS.values() for spellings in words)


def test_fsdd_without_a_speaker_tests_on_that_speaker_alone(corpora, tmp_path):
    fsdd.prepare(corpora / "fsdd", tmp_path, fsdd.Corpus(held_out_speaker="theo"))
    splits = read_splits(tmp_path)
    assert sizes(splits) == {"train": 2350, "dev": 150, "test": 500}
    assert speakers(splits["test"]) == {"theo"}
    assert "theo" not in speakers(splits["train"] + splits["dev"])


def test_fsdd_is_found_in_its_recordings_and_in_an_unpacked_download(corpora, tmp_path):
    unpacked = tmp_path / "source" / "fsdd" / "free-spoken-digit-dataset-26eb9aaf"
    unpacked.mkdir(parents=True)
    (unpacked / "recordings").symlink_to(corpora / "fsdd" / "recordings")
    for source in (tmp_path / "source", unpacked, unpacked / "recordings"):
        fsdd.prepare(source, tmp_path / "work", fsdd.Corpus())
        assert sizes(read_splits(tmp_path / "work"))["train"] == 2520


def test_fsdd_without_one_recording_is_refused_by_its_name(corpora, tmp_path):
    source = link_tree(corpora / "fsdd", tmp_path / "fsdd")
    (source / "recordings" / "4_lucas_17.wav").unlink()
    with pytest.raises(DataError, match=r"4_lucas_17\.wav: missing .* 2999 of 3000"):
        fsdd.prepare(source, tmp_path / "work", fsdd.Corpus())
    assert not (tmp_path / "work").exists()


def test_the_recordings_of_fsdd_and_yesno_have_the_contents_that_downloads_are_held_to(corpora):
    # Computed here anew, the way sha256sum prints it.
    for folder, expected in (
        (corpora / "fsdd" / "recordings", fsdd.CONTENT_SHA256),
        (corpora / "yesno" / "waves_yesno", yesno.CONTENT_SHA256),
    ):
        printed = "".join(
            f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
            for path in sorted(folder.glob("*.wav"))
        )
        assert hashlib.sha256(printed.encode()).hexdigest() == expected


def test_yesno_is_divided_as_in_kaldi_with_dev_out_of_train(corpora, tmp_path):
    yesno.prepare(corpora / "yesno", tmp_path, yesno.Corpus())
    splits = read_splits(tmp_path)
    recordings = {split: {u.id[:15] for u in us} for split, us in splits.items()}
    assert sizes(recordings) == {"train": 27, "dev": 4, "test": 29}
    assert not recordings["train"] & recordings["dev"]
    assert_ids_are_unique_across_splits(splits)
    assert max(recordings["train"] | recordings["dev"]) == "0_1_1_1_1_1_1_1"
    assert {u.id for u in splits["test"]} == recordings["test"]
    assert min(u.id for u in splits["test"]) == "1_0_0_0_0_0_0_0"
    assert splits["test"][1].id == "1_0_0_0_0_0_0_1"
    assert splits["test"][1].text == "yes no no no no no no yes"


def test_yesno_trains_on_pieces_that_leave_out_the_first_word(corpora, tmp_path):
    yesno.prepare(corpora / "yesno", tmp_path, yesno.Corpus())
    train = read_splits(tmp_path)["train"]
    pieces = [u for u in train if len(u.id) > 15]
    assert len(pieces) == 26 * (7 + 6 + 4)
    assert len(train) == len(pieces) + 1  # one recording's pauses are not found
    for piece in pieces:
        digits, first, last = piece.id.split("-")
        words = ["yes" if digit == "1" else "no" for digit in digits.split("_")]
        assert int(first) >= 2
        assert piece.text == " ".join(words[int(first) - 1 : int(last)])
    neighbours = {u.id: u for u in pieces}
    for piece in pieces:
        digits, first, last = piece.id.split("-")
        if first == last and f"{digits}-{int(first) + 1}-{int(first) + 1}" in neighbours:
            following = neighbours[f"{digits}-{int(first) + 1}-{int(first) + 1}"]
            assert piece.offset + piece.duration == pytest.approx(following.offset, abs=0.002)
            assert 0.3 < piece.duration < 1.5


def test_words_are_found_between_pauses():
    time = np.arange(800) / 8000
    word, pause = np.sin(2 * np.pi * 300 * time), np.zeros(2400)
    samples = np.concatenate([pause, word, pause, word, word, pause])
    found = yesno.find_words(samples, 8000)
    expected = [(0.3, 0.4), (0.7, 0.9)]
    assert np.allclose(found, expected, atol=0.04)


def test_yesno_without_one_recording_is_refused(corpora, tmp_path):
    source = link_tree(corpora / "yesno", tmp_path / "yesno")
    (source / "waves_yesno" / "1_0_0_0_0_0_0_0.wav").unlink()
    with pytest.raises(DataError, match=r"waves_yesno: 59 recordings of YesNo, expected 60"):
        yesno.prepare(source, tmp_path / "work", yesno.Corpus())


def test_yesno_with_a_recording_cut_short_is_refused(corpora, tmp_path):
    source = link_tree(corpora / "yesno", tmp_path / "yesno")
    cut = source / "waves_yesno" / "1_0_0_0_0_0_0_0.wav"
    samples, sample_rate = soundfile.read(cut, dtype="int16")
    cut.unlink()
    soundfile.write(cut, samples[: len(samples) // 2], sample_rate)
    with pytest.raises(DataError, match=r"364 s of speech, expected 368 s"):
        yesno.prepare(source, tmp_path / "work", yesno.Corpus())


def test_an4_has_the_published_splits_and_dev_speakers_of_its_own(corpora, tmp_path):
    an4.prepare(corpora / "an4", tmp_path, an4.Corpus())
    splits = read_splits(tmp_path)
    assert len(splits["train"]) + len(splits["dev"]) == 948
    assert len(splits["test"]) == 130
    assert_ids_are_unique_across_splits(splits)
    assert len(speakers(splits["train"])) == 74 - 7
    assert sorted(str(name)[0] for name in speakers(splits["dev"])) == list("ffmmmmm")
    assert len(speakers(splits["test"])) == 10
    for one, other in (("train", "dev"), ("train", "test"), ("dev", "test")):
        assert not speakers(splits[one]) & speakers(splits[other])
    first = splits["test"][0]
    assert (first.id, first.text) == ("an406-fcaw-b", "rubout g m e f three nine")
    assert first.audio_filepath.suffix == ".mfc"
    texts = " ".join(str(u.text) for utterances in splits.values() for u in utterances)
    assert set(texts) == set("abcdefghijklmnopqrstuvwxyz ")


def test_the_duration_of_an4_features_is_that_of_the_audio(corpora, tmp_path):
    an4.prepare(corpora / "an4", tmp_path, an4.Corpus(inputs="features"))
    durations = {u.id: u.duration for split in read_splits(tmp_path).values() for u in split}
    audio = [path for path in (corpora / "an4" / "wav").rglob("*.*") if path.is_file()]
    assert len(audio) == 79
    for path in audio:
        assert durations[path.stem] == pytest.approx(soundfile.info(path).duration, abs=1e-6)


def test_another_seed_draws_other_dev_speakers_and_never_one_of_two_alike(corpora, tmp_path):
    drawn = []
    for seed in range(8):
        an4.prepare(corpora / "an4", tmp_path, an4.Corpus(seed=seed, num_dev_speakers=40))
        drawn.append(frozenset(speakers(read_manifest(tmp_path / "dev.jsonl"))))
    assert len(set(drawn)) == 8
    assert not frozenset.union(*drawn) & {"mdcs", "mdcs2"}


def test_an4_audio_that_is_not_complete_is_never_mixed_with_features(corpora, tmp_path):
    with pytest.raises(DataError, match=r"999 of 1078 utterances have no audio"):
        an4.prepare(corpora / "an4", tmp_path, an4.Corpus(inputs="audio"))
    source = link_tree(corpora / "an4", tmp_path / "an4")
    (source / "feat" / "an4_clstk" / "fash" / "an251-fash-b.mfc").unlink()
    with pytest.raises(DataError, match=r"1078 utterances 79 have audio .* 1077 have features"):
        an4.prepare(source, tmp_path / "work", an4.Corpus())


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        pytest.param(
            "an4_train.fileids",
            "an4_clstk/fash/an251-fash-b\n",
            "",
            r"947 file ids and 948 transcriptions of train, expected 948 of each",
            id="a missing id",
        ),
        pytest.param(
            "an4_test.transcription",
            " (an406-fcaw-b)",
            "",
            r"an4_test\.transcription:1: WORDS \(id\) is expected",
            id="a line without id",
        ),
        pytest.param(
            "an4_test.transcription",
            "(an406-fcaw-b)",
            "(an406-other-b)",
            r"no transcription of an4test_clstk/fcaw/an406-fcaw-b",
            id="an id that no list names",
        ),
    ],
)
def test_an4_lists_that_do_not_fit_are_refused(corpora, tmp_path, name, old, new, message):
    source = link_tree(corpora / "an4", tmp_path / "an4")
    path = source / "etc" / name
    text = path.read_text()
    assert old in text
    path.unlink()
    path.write_text(text.replace(old, new))
    with pytest.raises(DataError, match=message):
        an4.prepare(source, tmp_path / "work", an4.Corpus())


def test_an4_features_that_are_cut_off_are_refused_by_name(corpora, tmp_path):
    source = link_tree(corpora / "an4", tmp_path / "an4")
    path = source / "feat" / "an4_clstk" / "fash" / "an251-fash-b.mfc"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-4])
    with pytest.raises(DataError, match=r"an251-fash-b\.mfc: not a Sphinx feature file"):
        an4.prepare(source, tmp_path / "work", an4.Corpus())


def an4_with_audio(source: Path, suffix: str) -> None:
    # The published layout, and a tenth of a second of noise for each utterance.
    rng = np.random.default_rng(1)
    for split, folder in (("train", "an4_clstk"), ("test", "an4test_clstk")):
        num = an4.NUM_UTTERANCES[split]
        ids = [f"{'mf'[n % 2]}{chr(97 + n // 26 % 26)}/u{n}-{split}" for n in range(num)]
        (source / "etc").mkdir(parents=True, exist_ok=True)
        (source / "etc" / f"an4_{split}.fileids").write_text(
            "".join(f"{folder}/{name}\n" for name in ids)
        )
        (source / "etc" / f"an4_{split}.transcription").write_text(
            "".join(f"<s> YES </s> ({Path(name).name})\n" for name in ids)
        )
        walk = np.cumsum(rng.integers(-30, 31, size=1600))
        for name in ids:
            path = source / "wav" / folder / f"{name}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            order = ">i2" if path.parent.name.startswith("m") else "<i2"
            path.write_bytes(walk.astype(order).tobytes())


def test_headerless_an4_audio_of_either_byte_order_becomes_wav(monkeypatch, tmp_path):
    monkeypatch.setattr(an4, "NUM_UTTERANCES", {"train": 90, "test": 10})
    monkeypatch.setattr(an4, "_MINUTES", {"train": 90 / 600, "test": 10 / 600})
    an4_with_audio(tmp_path / "an4", ".raw")
    an4.prepare(tmp_path / "an4", tmp_path / "work", an4.Corpus(num_dev_speakers=2))
    test = read_manifest(tmp_path / "work" / "test.jsonl")
    little, big = (
        next(u for u in test if str(u.speaker).startswith(first)).audio_filepath
        for first in ("f", "m")
    )
    assert little.is_relative_to(tmp_path / "work")
    samples, sample_rate = soundfile.read(little, dtype="int16")
    raw = (tmp_path / "an4" / "wav" / "an4test_clstk").glob("f*/*.raw")
    assert samples.astype("<i2").tobytes() == next(raw).read_bytes()
    assert np.array_equal(samples, soundfile.read(big, dtype="int16")[0])
    assert sample_rate == 16000


@pytest.mark.parametrize(
    ("corpus", "archive", "top", "num_train"),
    [
        pytest.param(an4, "an4_sphere.tar.gz", "an4", 857, id="an4"),
        pytest.param(
            fsdd, "fsdd.tar.gz", f"free-spoken-digit-dataset-{fsdd.COMMIT}", 2520, id="fsdd"
        ),
        pytest.param(yesno, "waves_yesno.tar.gz", ".", 443, id="yesno"),
    ],
)
def test_what_is_downloaded_is_unpacked_to_where_prepare_finds_it(
    corpora, monkeypatch, tmp_path, corpus, archive, top, num_train
):
    name = corpus.__name__.split(".")[1]
    with tarfile.open(tmp_path / archive, "w:gz", compresslevel=1) as tar:
        tar.add(corpora / name, top)
    if corpus is yesno:
        packed = hashlib.sha256((tmp_path / archive).read_bytes()).hexdigest()
        monkeypatch.setattr(yesno, "SHA256", packed)
    corpus.download(tmp_path)
    corpus.prepare(tmp_path, tmp_path / "work", corpus.Corpus())
    assert sizes(read_splits(tmp_path / "work"))["train"] == num_train


def test_a_download_with_another_recording_than_published_is_refused(
    corpora, monkeypatch, tmp_path
):
    changed = shutil.copytree(corpora / "yesno", tmp_path / "changed")
    recording = changed / "waves_yesno" / "0_0_0_0_1_1_1_1.wav"
    recording.chmod(0o644)
    recording.write_bytes(recording.read_bytes()[:-1] + b"x")
    with tarfile.open(tmp_path / "waves_yesno.tar.gz", "w:gz") as tar:
        tar.add(changed, ".")
    packed = hashlib.sha256((tmp_path / "waves_yesno.tar.gz").read_bytes()).hexdigest()
    monkeypatch.setattr(yesno, "SHA256", packed)
    with pytest.raises(DataError, match=r"waves_yesno\.tar\.gz: other recordings"):
        yesno.download(tmp_path)


@pytest.mark.parametrize(
    "corpus",
    [an4, fsdd, speechocean762, yesno],
    ids=["an4", "fsdd", "speechocean762", "yesno"],
)
@pytest.mark.parametrize("exists", [True, False], ids=["an empty folder", "no folder"])
def test_a_missing_corpus_says_where_to_get_it(tmp_path, corpus, exists):
    source = tmp_path / "nowhere"
    if exists:
        source.mkdir()
    with pytest.raises(DataError) as error:
        corpus.prepare(source, tmp_path / "work", corpus.Corpus())
    message = str(error.value)
    assert message.startswith(f"{source}: no ")
    assert corpus.URL in message
    assert "--corpus DIR" in message
    assert "\n" not in message


SMALL = {"hours": 0.01, "num_dev": 30, "num_test": 40, "num_voices": 12}


@pytest.fixture(scope="module")
def spoken(tmp_path_factory) -> Path:
    pytest.importorskip("espeakng_loader")
    folder = tmp_path_factory.mktemp("digits")
    digits.prepare(None, folder, digits.Corpus(**SMALL))
    return folder


def test_digits_are_as_many_and_as_long_as_configured(spoken):
    splits = read_splits(spoken)
    assert sizes(splits) | {"train": 0} == {"train": 0, "dev": 30, "test": 40}
    seconds = [utterance.duration for utterance in splits["train"]]
    assert sum(seconds[:-1]) < 36 <= sum(seconds)
    assert len(speakers(splits["train"])) == min(12, len(seconds))
    words = {word for u in splits["train"] + splits["test"] for word in str(u.text).split()}
    assert words == set(digits.WORDS)
    for split, utterances in splits.items():
        num_words = {len(str(utterance.text).split()) for utterance in utterances}
        assert num_words <= set(range(1 if split == "train" else 2, 8))


def test_no_voice_or_string_of_train_is_in_dev_or_test(spoken):
    splits = read_splits(spoken)
    variants = {split: {str(s).split("+")[1] for s in speakers(splits[split])} for split in SPLITS}
    texts = {split: {utterance.text for utterance in splits[split]} for split in SPLITS}
    for held_out in ("dev", "test"):
        assert not variants["train"] & variants[held_out]
        assert not texts["train"] & texts[held_out]


def test_the_cast_of_each_split_has_variants_and_rates_of_its_own():
    cast = {
        split: espeak_voices.EspeakVoices(espeak_voices.ENGLISH).cast(
            split, 440, np.random.default_rng(1)
        )
        for split in SPLITS
    }
    assert {split: len(voices) for split, voices in cast.items()} == {
        "train": 440,
        "dev": 64,
        "test": 88,
    }
    for held_out in ("dev", "test"):
        for of in (lambda v: v.name.partition("+")[2], lambda v: v.settings["rate"]):
            assert not set(map(of, cast["train"])) & set(map(of, cast[held_out]))


def test_every_string_of_one_digit_is_in_train():
    assert {digits.split_of(word) for word in digits.WORDS} == {"train"}


def test_every_variant_is_a_file_of_espeak():
    # eSpeak NG falls back to its own voice without a word when a variant is unknown.
    loader = pytest.importorskip("espeakng_loader")
    names = {path.name for path in Path(loader.get_data_path(), "voices", "!v").iterdir()}
    listed = [variant for variants in espeak_voices.VARIANTS.values() for variant in variants]
    assert len(set(listed)) == len(listed)
    assert set(listed) <= names


def test_spoken_digits_are_neither_silent_nor_clipped_and_fill_their_files(spoken):
    for utterances in read_splits(spoken).values():
        ends: Counter[Path] = Counter()
        for utterance in utterances:
            sample_rate = soundfile.info(utterance.audio_filepath).samplerate
            assert sample_rate == 8000
            start = round(utterance.offset * sample_rate)
            assert start == ends[utterance.audio_filepath]
            ends[utterance.audio_filepath] += round(utterance.duration * sample_rate)
            samples, _ = soundfile.read(
                utterance.audio_filepath, start=start, stop=ends[utterance.audio_filepath]
            )
            assert -45 < 20 * np.log10(np.sqrt(np.mean(samples**2))) < -15
            assert np.abs(samples).max() < 0.995
        assert {path: soundfile.info(path).frames for path in ends} == ends


def test_the_example_is_an_utterance_of_the_test_set(spoken):
    text = (spoken / "example.txt").read_text().strip()
    samples, sample_rate = soundfile.read(spoken / "example.wav", dtype="int16")
    example = next(u for u in read_splits(spoken)["test"] if u.text == text)
    start = round(example.offset * sample_rate)
    expected, _ = soundfile.read(
        example.audio_filepath, start=start, frames=len(samples), dtype="int16"
    )
    assert np.array_equal(samples, expected)
    assert len(samples) == round(example.duration * sample_rate)


def test_digits_spoken_twice_are_equal_to_the_last_byte_and_differ_by_seed(spoken, tmp_path):
    digits.prepare(None, tmp_path / "again", digits.Corpus(**SMALL))
    digits.prepare(None, tmp_path / "other", digits.Corpus(**SMALL, seed=2))

    def contents(folder: Path) -> dict[Path, bytes]:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder): path.read_bytes() for path in files}

    assert contents(tmp_path / "again") == contents(spoken)
    assert contents(tmp_path / "other") != contents(spoken)


def test_digits_at_another_rate_and_length(tmp_path):
    pytest.importorskip("espeakng_loader")
    corpus = digits.Corpus(
        hours=0.001, num_dev=1, num_test=1, min_words=3, max_words=3, sample_rate=16000
    )
    digits.prepare(None, tmp_path, corpus)
    for utterances in read_splits(tmp_path).values():
        assert {len(str(utterance.text).split()) for utterance in utterances} == {3}
        assert soundfile.info(utterances[0].audio_filepath).samplerate == 16000


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param({"min_words": 5, "max_words": 4}, "min_words 5 exceeds", id="no lengths"),
        pytest.param({"max_words": 1, "min_words": 1}, "max_words", id="no string to hold out"),
        pytest.param({"num_voices": 441}, "num_voices", id="more voices than there are"),
        pytest.param({"voices": 3}, "did you mean num_voices", id="a key that is not there"),
    ],
)
def test_bad_digits_settings_are_refused_by_name(values, message):
    with pytest.raises(ConfigError, match=message):
        parse_settings(values, digits.Corpus, "conf")


def test_missing_espeak_is_an_error_that_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(DataError, match=r"espeakng-loader"):
        digits.prepare(None, tmp_path, digits.Corpus(**SMALL))


def test_an_espeak_that_dies_is_an_error_with_its_last_words(monkeypatch, tmp_path):
    program = tmp_path / "speech.py"
    program.write_text("raise SystemExit('no voices on this machine')")
    monkeypatch.setattr(espeak, "__file__", str(program))
    with pytest.raises(DataError, match=r"eSpeak NG stopped: no voices on this machine"):
        digits.prepare(None, tmp_path, digits.Corpus(**SMALL))
    assert not list(tmp_path.glob("*.jsonl"))


def test_the_audio_of_an_utterance_is_what_was_spoken_for_its_text(monkeypatch, tmp_path):
    program = tmp_path / "speech.py"
    program.write_text(
        "import json, struct, sys\n"
        "out = sys.stdout.buffer\n"
        "for line in sys.stdin:\n"
        "    count = 1000 * len(json.loads(line)['text'].replace(',', '').split())\n"
        "    out.write(struct.pack(f'<ii{count}h', count, 8000, *[1000] * count))\n"
        "    out.flush()\n"
    )
    monkeypatch.setattr(espeak, "__file__", str(program))
    monkeypatch.setitem(sys.modules, "espeakng_loader", json)
    digits.prepare(None, tmp_path, digits.Corpus(**SMALL))
    for utterances in read_splits(tmp_path).values():
        for utterance in utterances:
            spoken = len(str(utterance.text).split()) * 1000 / 8000
            assert spoken + 0.0995 <= utterance.duration <= spoken + 0.8
