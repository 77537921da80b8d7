import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from asr.config import Config
from asr.corpus import open_packed, read_manifest, write_manifest
from asr.errors import DataError
from asr.recipe.definition import Recipe
from asr.recipe.run import plan, run_recipe
from asr.recipe.stage import Stage, Work
from asr.recipe.standard import model_stages
from tests import tones


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    for seed, name in enumerate(("train", "dev", "test")):
        utterances = tones.write_corpus(tmp_path / name, 6, seed=seed)
        write_manifest(utterances, tmp_path / f"{name}.jsonl")

    def prepare(work: Work) -> None:
        """Write manifests."""
        for name in ("train", "dev", "test"):
            write_manifest(
                read_manifest(tmp_path / f"{name}.jsonl"), work.path(f"manifests/{name}.jsonl")
            )

    stages = (
        Stage(name="prepare", run=prepare, makes=("manifests",)),
        *model_stages("manifests"),
    )
    return Recipe(
        name="tones", folder=tmp_path, description="", stages=stages, corpus_settings=None
    )


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    folder = tmp_path / "noise"
    folder.mkdir()
    for number in range(2):
        soundfile.write(folder / f"{number}.wav", 0.1 * rng.standard_normal(16000), 16000)
    return folder


def work_of(tmp_path: Path, **augment: Any) -> Work:
    values = tones.CONFIG.model_dump()
    values["augment"] |= {"reverb_probability": 0.5, **augment}
    config = Config.model_validate(values)
    return Work(folder=tmp_path / "work", config=config, device="cpu")


def state(recipe: Recipe, work: Work) -> str:
    return {p.stage.name: p.state for p in plan(recipe, work)}["pack"]


def test_noise_and_rooms_are_packed_once_and_go_with_the_setting(
    recipe: Recipe, noise: Path, tmp_path: Path
) -> None:
    plain = work_of(tmp_path)
    run_recipe(recipe, plain, last="pack")
    values = open_packed(plain.path("packed/train")).values
    work = work_of(tmp_path, noise_files=[noise], reverb_files=[noise / "0.wav"])
    assert (state(recipe, plain), state(recipe, work)) == ("done", "changed")
    run_recipe(recipe, work, last="pack")
    assert state(recipe, work) == "done"
    assert len(open_packed(work.path("packed/noise"))) == 2
    assert open_packed(work.path("packed/noise")).lengths.tolist() == [8000, 8000]
    room = open_packed(work.path("packed/rooms"))
    assert abs(int(np.asarray(room.values[:1])[0])) == pytest.approx(0.99 * 32768, abs=2)
    assert np.array_equal(open_packed(work.path("packed/train")).values, values)
    shutil.copy(noise / "0.wav", noise / "2.wav")
    assert state(recipe, work) == "changed"
    run_recipe(recipe, plain, last="pack")
    assert not work.path("packed/noise").exists()
    assert not work.path("packed/rooms").exists()


def test_codecs_change_the_training_set_alone(recipe: Recipe, tmp_path: Path) -> None:
    packed = []
    for augment in ({}, {"codecs": ["mu-law"]}, {"codecs": ["none"]}):
        work = work_of(tmp_path, **augment)
        run_recipe(recipe, work, last="pack")
        packed.append(
            [np.array(open_packed(work.path(f"packed/{s}")).values) for s in ("train", "dev")]
        )
    plain, coded, none = packed
    assert len(coded[0]) == len(plain[0])
    assert not np.array_equal(coded[0], plain[0])
    assert np.array_equal(coded[1], plain[1])
    assert np.array_equal(none[0], plain[0])


def test_noise_of_a_test_set_or_that_is_not_there_is_refused(
    recipe: Recipe, noise: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"augment\.noise_files: .*nowhere: no such file"):
        run_recipe(recipe, work_of(tmp_path, noise_files=[tmp_path / "nowhere"]), last="pack")
    assert not (tmp_path / "work/manifests").exists()
    for name in ("dev", "test"):
        taken = tmp_path / f"{name}/0.wav"
        with pytest.raises(DataError, match=rf"has the audio of {name}-0 of .*{name}\.jsonl"):
            run_recipe(recipe, work_of(tmp_path, noise_files=[noise, taken]), last="pack")
    run_recipe(recipe, work_of(tmp_path, noise_files=[tmp_path / "train/0.wav"]), last="pack")


@pytest.mark.parametrize(
    ("augment", "training", "message"),
    [
        ({"noise_files": ["n"], "noise_probability": 0}, {}, "noise_files without"),
        ({"reverb_files": ["n"], "reverb_probability": 0}, {}, "reverb_files without"),
        ({"codecs": ["mp3"]}, {"stream": True}, "training.stream"),
        ({"codecs": ["mp4"]}, {}, "'none', 'telephone', 'mu-law', 'mp3' or 'opus'"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(
    augment: dict[str, Any], training: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Config.model_validate({"augment": augment, "training": training})
