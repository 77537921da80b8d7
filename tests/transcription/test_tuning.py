import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from asr.cli import main
from asr.config import Config, DecodingConfig, TokenConfig
from asr.corpus.manifest import read_manifest, write_manifest
from asr.decoding.options import read_decoding
from asr.errors import DataError
from asr.recipe.definition import Recipe
from asr.recipe.run import plan, run_recipe
from asr.recipe.stage import Stage, Work
from asr.recipe.standard import model_stages
from asr.scoring.errors import ErrorCounts
from asr.training.trainer import train
from asr.transcription.recognizer import Recognizer
from asr.transcription.tuning import Trial, try_weights, tune
from tests.tones import CONFIG, assert_certain, write_corpus

if TYPE_CHECKING:
    from asr.corpus.packed import PackedCorpus


def errors(count: float) -> ErrorCounts:
    return ErrorCounts(substitutions=int(count), reference_length=1000)


def best_of(trials: list[Trial]) -> Trial:
    return min(trials, key=lambda trial: trial.rank)


@pytest.mark.parametrize(("weight", "bonus"), [(0.7, 1.6), (1.9, -0.4), (0.1, 4.5)])
def test_the_search_ends_beside_the_least_of_a_bowl(weight: float, bonus: float) -> None:
    def count(config: DecodingConfig) -> ErrorCounts:
        bowl = 300 * (config.lm_weight - weight) ** 2 + 40 * (config.word_bonus - bonus) ** 2
        return errors(bowl + 5 * (config.beam < 32))

    trials = list(try_weights(count, with_model=True))
    points = [(t.lm_weight, t.word_bonus, t.beam) for t in trials]
    assert len(set(points)) == len(points)
    found = best_of(trials)
    assert found.lm_weight == pytest.approx(weight, abs=0.11)
    assert found.word_bonus == pytest.approx(bonus, abs=0.3)
    assert found.beam == 32


def test_of_equals_the_least_help_is_taken() -> None:
    found = best_of(list(try_weights(lambda _: errors(3), with_model=True)))
    assert found.lm_weight <= 0.2
    assert found.word_bonus == 0
    assert found.beam == 8


def test_without_a_model_no_weight_is_searched() -> None:
    trials = list(try_weights(lambda config: errors(config.word_bonus**2), with_model=False))
    assert {trial.lm_weight for trial in trials} == {1.0}


@pytest.fixture
def work(tone_run: Path, tmp_path: Path) -> tuple[Recipe, Work]:
    """A recipe whose training is done: it takes the model from elsewhere."""

    def prepare(work: Work) -> None:
        """Write a corpus of tones."""
        for seed, (split, count) in enumerate({"train": 30, "dev": 10, "test": 8}.items()):
            utterances = write_corpus(work.path("manifests") / split, count, seed=seed + 40)
            write_manifest(utterances, work.path(f"manifests/{split}.jsonl"))

    def train(work: Work) -> None:
        """Copy the model."""
        shutil.copytree(tone_run / "model", work.path("model"), dirs_exist_ok=True)

    stages = {stage.name: stage for stage in model_stages("manifests")}
    recipe = Recipe(
        name="tones",
        folder=tmp_path,
        description="",
        stages=(
            Stage(name="prepare", run=prepare, makes=("manifests",)),
            Stage(name="train", run=train, needs=("manifests",), makes=("model",)),
            *(stages[name] for name in ("lm", "tune", "evaluate")),
        ),
        corpus_settings=Config,
    )
    config = CONFIG.model_copy(
        update={"lm": CONFIG.lm.model_copy(update={"order": 2, "lexicon": True})}
    )
    return recipe, Work(folder=tmp_path / "work", config=config, device="cpu")


@contextmanager
def recorded_opens() -> Iterator[set[str]]:
    """Names of the files that are opened."""
    names: set[str] = set()
    running = True

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if running and event == "open" and isinstance(arguments[0], str | Path):
            names.add(Path(arguments[0]).name)

    sys.addaudithook(note)
    yield names
    running = False


def test_the_recipe_tunes_on_dev_and_scores_test_both_ways(work: tuple[Recipe, Work]) -> None:
    recipe, job = work
    run_recipe(recipe, job, last="lm")
    with recorded_opens() as opened:
        run_recipe(recipe, job, first="tune", last="tune")
    assert "dev.jsonl" in opened
    assert "test.jsonl" not in opened
    run_recipe(recipe, job)
    assert {found.state for found in plan(recipe, job)} == {"done"}
    tuned = read_decoding(job.path("model"))
    assert (tuned.lm, tuned.lexicon) == ("lm.arpa.gz", "lexicon.txt")
    header, *rows = job.path("tuning/trials.tsv").read_text().splitlines()
    best = dict(zip(header.split("\t"), rows[0].split("\t"), strict=True))
    assert float(best["lm_weight"]) == tuned.lm_weight
    assert int(best["errors"]) == min(int(row.split("\t")[4]) for row in rows[:-1])
    helped, alone = job.path("result.txt").read_text().split("\nThe best path, without help:\n")
    assert helped.startswith("%WER ")
    assert alone.startswith("%WER ")
    assert job.path("test/best_path/report.json").exists()


def test_another_order_makes_the_model_and_weights_anew_and_none_takes_them_back(
    work: tuple[Recipe, Work],
) -> None:
    recipe, job = work
    run_recipe(recipe, job)
    without = Work(folder=job.folder, config=CONFIG, device="cpu")
    states = {found.stage.name: found.state for found in plan(recipe, without)}
    assert states["train"] == "done"
    assert states["lm"] == "changed"
    run_recipe(recipe, without)
    assert sorted(path.name for path in job.path("model").iterdir()) == [
        "config.yaml",
        "tokens.txt",
        "training.json",
        "weights.safetensors",
    ]
    assert "best path" not in job.path("result.txt").read_text()


def test_what_the_table_says_is_what_the_stored_settings_give(
    work: tuple[Recipe, Work], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, job = work
    run_recipe(recipe, job, last="lm")
    model, dev = str(job.path("model")), str(job.path("manifests/dev.jsonl"))
    arpa, table = str(job.path("lm/lm.arpa.gz")), tmp_path / "table.tsv"
    assert main(["tune", model, dev, "--lm", arpa, "--table", str(table), "--device", "cpu"]) == 0
    assert "dev WER" in capsys.readouterr().out
    rows = [line.split("\t") for line in table.read_text().splitlines()]
    assert main(["evaluate", model, dev, "--device", "cpu"]) == 0
    assert f"%WER {rows[1][5]} [ {rows[1][4]} /" in capsys.readouterr().out
    assert main(["show", model]) == 0
    assert f", lm lm.arpa.gz, weight {rows[1][0]}, word bonus" in capsys.readouterr().out
    # A beam of one and nothing else is the best path, whatever was stored.
    assert main(["evaluate", model, dev, "--beam", "1", "--device", "cpu"]) == 0
    assert f"%WER {rows[-1][5]} [ {rows[-1][4]} /" in capsys.readouterr().out


def test_tuning_wants_every_text_and_every_file(work: tuple[Recipe, Work]) -> None:
    recipe, job = work
    run_recipe(recipe, job, last="lm")
    model, arpa = job.path("model"), job.path("lm/lm.arpa.gz")
    dev = read_manifest(job.path("manifests/dev.jsonl"))

    def tuned(utterances: list) -> None:  # type: ignore[type-arg]
        tune(model, utterances, lm=arpa, lexicon=None, device="cpu", report=lambda _: None)

    with pytest.raises(DataError, match="no utterance to tune on"):
        tuned([])
    lexicon = job.path("lexicon.txt")
    lexicon.write_text("other l a\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"lexicon\.txt: it has no word of the dev set's texts"):
        tune(model, dev, lm=None, lexicon=lexicon, device="cpu", report=lambda _: None)
    dev[3].audio_filepath.unlink()
    with pytest.raises(DataError, match=f"{dev[3].id}: .*3.wav"):
        tuned(dev)


def test_nothing_to_tune_is_refused(tone_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", str(tone_run / "model"), "dev.jsonl"]) == 2
    assert "give --lm, --lexicon or --neural" in capsys.readouterr().err


@pytest.mark.usefixtures("no_pictures")
def test_a_model_of_phones_writes_words_through_its_pronunciations(
    tone_corpus: "dict[str, PackedCorpus]",
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    dictionary = tmp_path / "dictionary"
    dictionary.write_text("la L AA\nla L AE\nmi M IY\n", encoding="utf-8")
    config = CONFIG.model_copy(update={"tokens": TokenConfig(kind="phones")})
    train(
        tone_corpus["train"],
        tone_corpus["dev"],
        config,
        tmp_path,
        scratch=tmp_path,
        device="cpu",
        report=lambda _: None,
        pronunciations=dictionary,
    )
    model = tmp_path / "model"
    utterances = write_corpus(tmp_path / "dev", 10, seed=50)
    spoken = {"la": "L AA", "mi": "M IY"}
    assert_certain(
        Recognizer.load(model, device="cpu"),
        [replace(u, text=" ".join(spoken[w] for w in str(u.text).split())) for u in utterances],
        margin=0.3,
    )
    path = str(utterances[0].audio_filepath)
    assert main(["transcribe", str(model), path, "--device", "cpu"]) == 0
    phones = capsys.readouterr().out.split()
    assert set(phones) <= {"L", "AA", "AE", "M", "IY"}
    assert main(["transcribe", str(model), path, "--beam", "8", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.strip() == utterances[0].text
    found = tune(model, utterances, lm=None, lexicon=None, device="cpu", report=lambda _: None)
    # The best path is scored by its phones, two for each word.
    assert found.best_path.reference_length == 2 * found.best.errors.reference_length
    transcript = Recognizer.load(model, device="cpu").transcribe(path)
    assert [word.text for word in transcript.words] == str(utterances[0].text).split()
    starts = [word.start for word in transcript.words]
    assert starts == sorted(set(starts))
