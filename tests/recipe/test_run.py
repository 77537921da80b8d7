import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from asr.errors import AsrError, ConfigError, DataError
from asr.folders import LIST, replace_folder
from asr.recipe.catalogue import find_recipes
from asr.recipe.definition import (
    default_work_folder,
    find_conf,
    load_recipe,
    load_recipe_config,
)
from asr.recipe.ledger import list_files
from asr.recipe.run import plan, run_recipe
from asr.recipe.stage import Stage, Work

CORPUS = '''
from asr.config import Settings


class Corpus(Settings):
    words: tuple[str, ...] = ("no", "yes")
    """Words, said in this order."""
    remark: str = ""
    """Changes nothing that is made."""
'''

# `train` goes on from its checkpoint, `tune` adds to the folder that `train` makes, and `test`
# writes its result in two halves.
RECIPE = '''"""Words, and a model that has learnt how many letters they have."""

import hashlib
import os
import sys

from asr.files import open_atomic
from asr.folders import LIST, replace_folder
from asr.recipe import Stage, Work

from .corpus import Corpus


def log(work: Work, name: str) -> None:
    with (work.folder.parent / "ran.txt").open("a") as file:
        file.write(name + " ")


def prepare(work: Work) -> None:
    """Write the words.

    One a line.
    """
    log(work, "prepare")
    corpus = Corpus.model_validate(work.config.corpus)
    with open_atomic(work.path("data/train.txt")) as file:
        file.write("".join(f"{word}\\n" for word in corpus.words))
    with open_atomic(work.path("data/test.txt")) as file:
        file.write(f"{corpus.words[0]}\\n")


def train(work: Work) -> None:
    """Learn, one epoch after the other."""
    log(work, "train")
    checkpoint = work.scratch() / "checkpoint.txt"
    history = checkpoint.read_text().split() if checkpoint.exists() else []
    for epoch in range(len(history), work.config.training.epochs):
        before = "".join(history) + work.path("data/train.txt").read_text()
        state = hashlib.sha256(f"{before}{work.config.training.learning_rate}".encode())
        history.append(state.hexdigest())
        with open_atomic(checkpoint) as file:
            file.write(" ".join(history))
    with replace_folder(work.path("model")) as folder:
        (folder / "weights.txt").write_text("\\n".join(history) * 2000)


def tune(work: Work) -> None:
    """Choose a beam."""
    log(work, "tune")
    with open_atomic(work.path("model/beam.txt")) as file:
        file.write(work.path("model/weights.txt").read_text()[:3])


def test(work: Work) -> None:
    """Score."""
    log(work, "test")
    with work.path("result.txt").open("w") as file:
        file.write("Beam ")
        file.flush()
        sys.audit("test.half", str(work.path("result.txt")))
        file.write(work.path("model/beam.txt").read_text())
        file.write(" on " + work.path("data/test.txt").read_text())


STAGES = (
    Stage(name="prepare", run=prepare, settings=("corpus",), makes=("data",)),
    Stage(
        name="train",
        run=train,
        settings=("training.learning_rate", "training.epochs"),
        needs=("data/train.txt",),
        makes=("model",),
    ),
    Stage(name="tune", run=tune, needs=("model",), makes=("model/beam.txt",)),
    Stage(name="test", run=test, needs=("model", "data/test.txt"), makes=("result.txt",)),
)
'''

FETCHING = '''"""A corpus that can be fetched."""

from asr.recipe import Stage, Work


def download(work: Work) -> None:
    """Fetch the corpus."""
    work.path("download").mkdir()
    (work.path("download") / "words.txt").write_text("fetched")


def prepare(work: Work) -> None:
    """Read the corpus."""
    source = work.corpus or work.path("download")
    work.path("words.txt").write_text((source / "words.txt").read_text())


STAGES = (
    Stage(name="download", run=download, makes=("download",), fetches_corpus=True),
    Stage(name="prepare", run=prepare, needs=("download",), makes=("words.txt",)),
)
'''


def write_recipe(root: Path, recipe: str = RECIPE, corpus: str = CORPUS) -> Path:
    folder = root / "recipes" / "words"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.py").write_text(recipe)
    (folder / "corpus.py").write_text(corpus)
    conf = root / "conf" / "words"
    conf.mkdir(parents=True, exist_ok=True)
    (conf / "default.yaml").write_text("training: {epochs: 3}\n")
    return folder


def work_in(root: Path, *overrides: str, corpus: Path | None = None) -> Work:
    recipe = load_recipe(root / "recipes" / "words")
    config = load_recipe_config(recipe, overrides=overrides)
    return Work(folder=root / "work", config=config, corpus=corpus)


def run(root: Path, *overrides: str, corpus: Path | None = None, **options: Any) -> str:
    """Run the recipe and name the stages that ran."""
    log = root / "ran.txt"
    log.unlink(missing_ok=True)
    recipe = load_recipe(root / "recipes" / "words")
    run_recipe(recipe, work_in(root, *overrides, corpus=corpus), **options)
    return log.read_text().strip() if log.exists() else ""


def states(root: Path, *overrides: str, corpus: Path | None = None, **options: Any) -> list[str]:
    recipe = load_recipe(root / "recipes" / "words")
    work = work_in(root, *overrides, corpus=corpus)
    return [f"{p.state}: {p.reason}" for p in plan(recipe, work, **options)]


def outputs(folder: Path) -> dict[str, bytes]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = {path: path.relative_to(folder).as_posix() for path in files}
    marks = re.compile(r"\.stages/(\w+\.json|lock)")
    return {names[p]: p.read_bytes() for p in files if not marks.fullmatch(names[p])}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_recipe(tmp_path)
    return tmp_path


ALL = "prepare train tune test"


def test_stages_run_in_order_and_then_not_again(root: Path) -> None:
    assert run(root) == ALL
    first = outputs(root / "work")
    assert first["data/train.txt"] == b"no\nyes\n"
    assert run(root) == ""
    assert outputs(root / "work") == first


@pytest.mark.parametrize(
    ("override", "ran"),
    [
        pytest.param("training.learning_rate=0.5", "train tune test", id="the learning rate"),
        pytest.param("training.seed=2", "", id="a setting that no stage depends on"),
        pytest.param("corpus.words=[ja, nein]", ALL, id="the corpus"),
        pytest.param("corpus.remark=x", "prepare", id="one that leaves the outputs as they were"),
    ],
)
def test_a_changed_setting_reruns_what_depends_on_it(root: Path, override: str, ran: str) -> None:
    run(root)
    assert run(root, override) == ran
    assert run(root, override) == ""
    fresh = root / "fresh"
    write_recipe(fresh)
    run(fresh, override)
    assert outputs(root / "work") == outputs(fresh / "work")


def test_a_checkpoint_of_other_settings_is_not_used(root: Path) -> None:
    run(root, "training.learning_rate=0.5")
    expected = outputs(root / "work")["model/weights.txt"]
    shutil.rmtree(root / "work")
    run(root, "training.learning_rate=0.5", last="prepare")
    other = root / "work" / ".scratch" / "train" / "0123456789abcdef"
    other.mkdir(parents=True)
    (other / "checkpoint.txt").write_text("x y")
    run(root, "training.learning_rate=0.5")
    assert outputs(root / "work")["model/weights.txt"] == expected
    assert not list((root / "work" / ".scratch").rglob("checkpoint.txt"))


@pytest.mark.parametrize(
    ("name", "reason", "ran"),
    [
        pytest.param("data/train.txt", "data/train.txt is missing", "prepare", id="of the first"),
        # Made anew, the model folder no longer holds what `tune` put there.
        pytest.param(
            "model/weights.txt", "model/weights.txt is missing", "train tune", id="of the second"
        ),
        pytest.param("model/beam.txt", "model/beam.txt is missing", "tune", id="of the third"),
        pytest.param("result.txt", "result.txt is missing", "test", id="of the last"),
    ],
)
def test_a_deleted_output_is_made_again(root: Path, name: str, reason: str, ran: str) -> None:
    run(root)
    before = outputs(root / "work")
    (root / "work" / name).unlink()
    assert f"changed: {reason}" in states(root)
    assert run(root) == ran
    assert outputs(root / "work") == before


def test_an_edited_output_is_made_again_even_if_its_size_is_the_same(root: Path) -> None:
    run(root)
    before = outputs(root / "work")
    path = root / "work" / "data" / "train.txt"
    path.write_text("on\nyes\n")
    os.utime(path, ns=(1, 1))
    assert states(root)[0] == "changed: data/train.txt was changed"
    assert run(root) == "prepare"
    assert outputs(root / "work") == before


def test_a_touched_output_is_not_made_again(root: Path) -> None:
    run(root)
    os.utime(root / "work" / "data" / "train.txt", ns=(1, 1))
    assert run(root) == ""


def test_a_raised_version_reruns_the_stage(root: Path) -> None:
    run(root)
    write_recipe(
        root, RECIPE.replace('run=tune, needs=("model",)', 'run=tune, version=2, needs=("model",)')
    )
    assert states(root)[2] == "changed: its code changed"
    assert run(root) == "tune"


@pytest.mark.parametrize("key", ["corpus.glossary", "lm.text"])
def test_the_content_of_a_file_that_a_setting_names_counts(tmp_path: Path, key: str) -> None:
    recipe = RECIPE.replace("run=tune, needs", 'run=tune, settings=("lm",), needs')
    corpus = CORPUS.replace("class Corpus", "from pathlib import Path\n\n\nclass Corpus")
    write_recipe(tmp_path, recipe, f"{corpus}    glossary: Path | None = None\n")
    named, stage = tmp_path / "named.txt", 0 if key.startswith("corpus") else 2
    named.write_text("one\n")
    override = f"{key}={named}"
    assert run(tmp_path, override) == ALL
    assert run(tmp_path, override) == ""
    named.write_text("two\n")
    assert states(tmp_path, override)[stage] == f"changed: what {key} names changed"
    assert run(tmp_path, override) == ("tune" if stage else "prepare")
    named.touch()
    assert run(tmp_path, override) == ""
    named.unlink()
    assert states(tmp_path, override)[stage] == f"changed: what {key} names changed"


def test_an_unreadable_mark_is_no_mark(root: Path) -> None:
    run(root)
    (root / "work" / ".stages" / "tune.json").write_text("{")
    assert run(root) == "tune"


@pytest.mark.parametrize(
    ("first", "last", "ran"),
    [
        pytest.param(None, "train", "prepare train", id="to a name"),
        pytest.param(None, "2", "prepare train", id="to a number"),
        pytest.param("1", "1", "prepare", id="a single one"),
    ],
)
def test_a_run_ends_after_the_last_stage_named(
    root: Path, first: str | None, last: str | None, ran: str
) -> None:
    assert run(root, first=first, last=last) == ran


@pytest.mark.parametrize("first", ["tune", "3"])
def test_a_run_starts_at_the_first_stage_named(root: Path, first: str) -> None:
    run(root, last="train")
    assert run(root, first=first) == "tune test"


def test_forcing_reruns_the_selected_stages_only(root: Path) -> None:
    run(root)
    assert run(root, first="train", last="tune", force=True) == "train tune"
    assert run(root) == ""


def test_starting_after_a_stage_that_is_not_done_is_refused(root: Path) -> None:
    run(root, last="prepare")
    with pytest.raises(ConfigError, match=r"stage train .* is not done \(not done yet\)"):
        run(root, first="tune")
    with pytest.raises(ConfigError, match=r"prepare .*corpus\.remark.*run --from prepare"):
        run(root, "corpus.remark=x", first="train")


@pytest.mark.parametrize(
    ("first", "last", "message"),
    [
        pytest.param(
            "trian", None, r"--from trian: no such stage; did you mean train\?", id="typo"
        ),
        pytest.param(
            None, "zzz", "--to zzz: no such stage; there are prepare, train", id="unknown"
        ),
        pytest.param("0", None, "--from 0: no such stage", id="number zero"),
        pytest.param(None, "5", "--to 5: no such stage", id="number too high"),
        pytest.param("test", "train", "--from test comes after --to train", id="wrong order"),
    ],
)
def test_a_wrong_selection_is_refused(
    root: Path, first: str | None, last: str | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run(root, first=first, last=last)
    assert not (root / "work").exists()


def test_the_plan_says_what_would_run_and_why_and_writes_nothing(root: Path) -> None:
    assert states(root) == ["to do: not done yet"] * 4
    assert not (root / "work").exists()
    run(root)
    assert states(root) == ["done: "] * 4
    assert states(root, "training.learning_rate=0.5") == [
        "done: ",
        "changed: training.learning_rate 0.001 -> 0.5",
        "waits: needs what train makes",
        "waits: needs what train and tune makes",
    ]
    assert states(root, first="tune", last="tune", force=True) == ["to do: forced"]


def test_a_reason_shows_three_values_at_most(root: Path) -> None:
    run(root)
    assert states(root, "corpus.words=[a]")[0] == 'changed: corpus.words ["no", "yes"] -> ["a"]'
    everything = Stage(name="prepare", run=one_line, settings=("encoder",), makes=("data",))
    recipe = replace(load_recipe(root / "recipes" / "words"), stages=(everything,))
    reason = plan(recipe, work_in(root))[0].reason
    assert reason == (
        'corpus.remark "" -> absent, corpus.words ["no", "yes"] -> absent, '
        "encoder.bidirectional absent -> true, 6 more"
    )


def one_line(_: Work) -> None:
    """Do nothing."""


def test_the_work_folder_tells_configuration_and_command(root: Path) -> None:
    run(root, "corpus.remark=x", command="asr run recipes/words")
    assert "remark: x" in (root / "work" / "config.yaml").read_text()
    assert "hidden_size: 256" in (root / "work" / "config.yaml").read_text()
    assert (root / "work" / "command.txt").read_text() == "asr run recipes/words\n"


def test_progress_names_each_stage_and_its_number(root: Path) -> None:
    lines: list[str] = []
    run(root, last="train", report=lines.append)
    assert lines == [
        "[1/4] prepare: not done yet",
        "[1/4] prepare: done in 0 s",
        "[2/4] train: not done yet",
        "[2/4] train: done in 0 s",
    ]
    lines.clear()
    run(root, last="prepare", report=lines.append)
    assert lines == ["[1/4] prepare: done"]


EXPORT = '''

def export(work: Work) -> None:
    """Add to the model folder when all else is done."""
    log(work, "export")
    work.path("model/export.txt").write_text(work.path("model/weights.txt").read_text())


STAGES += (Stage(name="export", run=export, needs=("model",), makes=("model/export.txt",)),)
'''


def test_stages_that_add_to_the_folder_of_another_do_not_make_it_or_its_users_run_again(
    root: Path,
) -> None:
    # `train` leaves what is in the folder, so what others added is there when it ends.
    keeping = RECIPE.replace(
        'with replace_folder(work.path("model")) as folder:',
        'for folder in [work.path("model")]:\n        folder.mkdir(exist_ok=True)',
    )
    assert keeping != RECIPE
    write_recipe(root, keeping + EXPORT)
    assert run(root) == "prepare train tune test export"
    assert run(root) == ""
    assert run(root, "training.learning_rate=0.5") == "train tune test export"
    assert run(root, "training.learning_rate=0.5") == ""


# What is of other origin


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    "name",
    [
        "model/mine.txt",
        "model/.git/config",
        "data/train.txt",
        "data/.git/config",
        "result.txt",
        "config.yaml",
        "command.txt",
        ".scratch/train/mine",
        ".stages/mine.json",
    ],
)
def test_a_folder_with_something_of_the_users_where_a_run_writes_is_refused(
    root: Path, name: str
) -> None:
    path = root / "work" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    top = name.split("/")[0]
    with pytest.raises(AsrError, match=f"work/{re.escape(top)}: was not made by asr run"):
        run(root)
    assert everything(root / "work") == {name: b"mine"}


def test_what_a_run_does_not_write_may_be_in_its_folder(root: Path) -> None:
    for name in ("notes/a.txt", ".git/config", ".data.notes", "README"):
        (root / "work" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "work" / name).write_text("mine")
    before = everything(root / "work")
    assert run(root) == ALL
    assert run(root, force=True) == ALL
    assert before.items() <= everything(root / "work").items()


@pytest.mark.parametrize("name", ["model/notes.txt", "model/.git/config", "model/sub/notes"])
def test_a_folder_that_would_be_replaced_with_notes_in_it_is_refused_before_any_stage(
    root: Path, name: str
) -> None:
    run(root)
    path = root / "work" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    inner = name.removeprefix("model/")
    with pytest.raises(AsrError, match=f"work/model: .* asr did not write '{inner}' in it"):
        run(root, force=True)
    assert not (root / "ran.txt").exists()
    assert path.read_text() == "mine"
    path.unlink()
    assert run(root, force=True) == ALL


@pytest.mark.parametrize("name", ["data/.git/config", "data/.notes", "data/.train.txt.swp"])
def test_dot_files_of_the_users_stay_in_a_folder_that_is_written_to(root: Path, name: str) -> None:
    run(root)
    path = root / "work" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    run(root, force=True)
    assert path.read_text() == "mine"


# What a stage may do wrong


def one_stage(
    root: Path, function: Callable[[Work], None], force: bool = False, **fields: Any
) -> None:
    stage = Stage(name="only", run=function, **fields)
    write_recipe(root)
    recipe = load_recipe(root / "recipes" / "words")
    run_recipe(replace(recipe, stages=(stage,)), work_in(root), force=force)


def test_a_stage_that_was_stopped_finds_its_scratch_folder_unless_forced(tmp_path: Path) -> None:
    found: list[bool] = []

    def stopping(work: Work) -> None:
        """Stop."""
        checkpoint = work.scratch() / "checkpoint"
        found.append(checkpoint.exists())
        checkpoint.touch()
        raise KeyboardInterrupt

    for options in ({}, {}, {"force": True}):
        with pytest.raises(KeyboardInterrupt):
            one_stage(tmp_path, stopping, **options)
    with pytest.raises(KeyboardInterrupt):
        one_stage(tmp_path, stopping, version=2)
    assert found == [False, True, False, False]
    assert len(list(tmp_path.rglob("checkpoint"))) == 1


def test_a_stage_that_is_stopped_when_it_is_made_again_is_not_done(tmp_path: Path) -> None:
    def make(work: Work) -> None:
        """Write a file, and stop when it was there."""
        if work.path("made").exists():
            raise KeyboardInterrupt
        work.path("made").touch()

    one_stage(tmp_path, make, makes=("made",))
    with pytest.raises(KeyboardInterrupt):
        one_stage(tmp_path, make, makes=("made",), force=True)
    with pytest.raises(KeyboardInterrupt):
        one_stage(tmp_path, make, makes=("made",))


def test_a_stage_that_does_not_make_what_it_should_is_not_done(tmp_path: Path) -> None:
    def forgetful(_: Work) -> None:
        """Make nothing."""

    with pytest.raises(AsrError, match=r"stage only ended without making .*model"):
        one_stage(tmp_path, forgetful, makes=("model",))
    assert not (tmp_path / "work" / ".stages" / "only.json").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError, DataError("its own")])
def test_what_a_stage_raises_goes_through_and_leaves_no_mark(
    tmp_path: Path, error: type[BaseException] | BaseException
) -> None:
    def failing(_: Work) -> None:
        """Fail."""
        raise error

    kind = error if isinstance(error, type) else type(error)
    with pytest.raises(kind):
        one_stage(tmp_path, failing)
    assert not (tmp_path / "work" / ".stages" / "only.json").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_an_error_in_a_line(root: Path) -> None:
    (root / "work").mkdir(mode=0o500)
    with pytest.raises(AsrError, match="Permission denied"):
        run(root)


def test_a_work_folder_that_is_a_file_is_an_error_in_a_line(root: Path) -> None:
    (root / "work").write_text("")
    with pytest.raises(AsrError) as caught:
        run(root)
    assert str(caught.value) == f"{root / 'work'}: File exists"


def test_a_full_disk_is_an_error_in_a_line_and_the_run_can_go_on(root: Path) -> None:
    run(root)
    expected = outputs(root / "work")
    shutil.rmtree(root / "work")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # the model has 390,000 bytes
    try:
        with pytest.raises(AsrError, match=r"^stage train: File too large; make room") as caught:
            run(root)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert not list((root / "work").glob(".model.*"))
    assert run(root) == "train tune test"
    assert outputs(root / "work") == expected


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_no_space_left_is_an_error_in_a_line(tmp_path: Path) -> None:
    def write(_: Work) -> None:
        """Fill the disk."""
        Path("/dev/full").write_text("x" * 10)

    with pytest.raises(AsrError, match=r"stage only: No space left on device; make room and give"):
        one_stage(tmp_path, write)


# The corpus


@pytest.fixture
def fetching(tmp_path: Path) -> Path:
    write_recipe(tmp_path, FETCHING)
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "words.txt").write_text("copied")
    return tmp_path


def test_a_local_copy_of_the_corpus_takes_the_place_of_the_download(fetching: Path) -> None:
    copy = fetching / "copy"
    run(fetching, corpus=copy)
    assert (fetching / "work" / "words.txt").read_text() == "copied"
    assert not (fetching / "work" / "download").exists()
    assert states(fetching, corpus=copy) == ["left out: --corpus stands for it", "done: "]
    run(fetching)
    assert (fetching / "work" / "words.txt").read_text() == "fetched"


def test_a_change_in_the_corpus_folder_is_noticed(fetching: Path) -> None:
    copy = fetching / "copy"
    run(fetching, corpus=copy)
    (copy / "words.txt").write_text("edited")
    os.utime(copy / "words.txt", ns=(1, 1))
    assert states(fetching, corpus=copy)[1] == "changed: files in the corpus folder changed"
    run(fetching, corpus=copy)
    assert (fetching / "work" / "words.txt").read_text() == "edited"
    shutil.copytree(copy, fetching / "moved")
    reason = f"changed: --corpus is another folder than {copy.resolve()}"
    assert states(fetching, corpus=fetching / "moved")[1] == reason


def test_a_missing_corpus_folder_is_named(fetching: Path) -> None:
    with pytest.raises(DataError, match=r"--corpus .*nowhere: no such folder"):
        run(fetching, corpus=fetching / "nowhere")
    write_recipe(fetching, FETCHING.replace("fetches_corpus", "reads_corpus"))
    with pytest.raises(ConfigError, match="stage download reads the corpus: give its folder"):
        run(fetching)


# Loading


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        pytest.param("1 / 0", r"recipe\.py:1: ZeroDivisionError: division by zero", id="failing"),
        pytest.param("\nx = (", r"recipe\.py:2: SyntaxError: ", id="not Python"),
        pytest.param("from .corpora import X", r"recipe\.py:1: ModuleNotFoundError", id="import"),
        pytest.param("", r"recipe\.py: STAGES, a tuple of Stage, is missing", id="empty"),
        pytest.param(
            RECIPE.replace('"""Score."""', ""),
            r"recipe\.py:\d+: ValueError: the function of stage test has no docstring",
            id="a stage without help",
        ),
        pytest.param(
            RECIPE.replace('needs=("model", ', 'needs=("models", '),
            r"stage test needs models, which no earlier stage makes",
            id="a need that nothing makes",
        ),
        pytest.param(
            RECIPE.replace("training.epochs", "training.epoch").replace(".epoch)", ".epochs)"),
            r"stage train depends on training\.epoch, which is no setting",
            id="a setting that does not exist",
        ),
        pytest.param(
            RECIPE.replace('settings=("corpus",)', 'settings=("corpus.word",)'),
            r"stage prepare depends on corpus\.word, which is no setting",
            id="a corpus setting that does not exist",
        ),
        pytest.param(
            RECIPE.replace('name="tune"', 'name="train"'), "two stages are called train", id="twice"
        ),
        pytest.param(
            RECIPE.replace('makes=("result.txt",)', 'makes=("model",)'),
            "stage test makes model, as an earlier stage does",
            id="made twice",
        ),
        pytest.param(
            RECIPE.replace('makes=("result.txt",)', 'makes=("../result.txt",)'),
            "'../result.txt' is no path below the work folder",
            id="outside of the work folder",
        ),
        pytest.param(
            RECIPE.replace('name="tune"', 'name="3"'), "stage name '3' is not", id="a number"
        ),
    ],
)
def test_a_recipe_with_a_mistake_is_refused(tmp_path: Path, recipe: str, message: str) -> None:
    folder = write_recipe(tmp_path, recipe)
    with pytest.raises(ConfigError, match=message) as caught:
        load_recipe(folder)
    assert "\n" not in str(caught.value)


def test_a_mistake_in_a_module_beside_the_recipe_is_named_there(tmp_path: Path) -> None:
    folder = write_recipe(tmp_path, corpus="\n\nSettings")
    with pytest.raises(ConfigError, match=r"corpus\.py:3: NameError"):
        load_recipe(folder)


def test_a_folder_that_is_no_recipe_is_refused_with_what_was_meant(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"it has no recipe\.py; recipes are .*recipes/words$"):
        load_recipe(root / "recipes" / "wrods")


def test_a_recipe_has_name_description_and_help(root: Path) -> None:
    recipe = load_recipe(root / "recipes" / "words")
    assert recipe.name == "words"
    assert recipe.description == "Words, and a model that has learnt how many letters they have."
    assert recipe.stages[0].help == "Write the words."


def test_two_recipes_of_one_name_do_not_get_in_each_others_way(tmp_path: Path) -> None:
    first = write_recipe(tmp_path / "a")
    second = write_recipe(tmp_path / "b", corpus=CORPUS.replace('"no", "yes"', '"ja", "nein"'))
    recipes = [load_recipe(first), load_recipe(second)]
    assert recipes[0].stages[0].run.__module__ != recipes[1].stages[0].run.__module__
    assert [load_recipe_config(r).corpus["words"] for r in recipes] == [
        ["no", "yes"],
        ["ja", "nein"],
    ]


def test_recipes_are_found_without_being_imported(root: Path) -> None:
    (root / "recipes" / "alpha").mkdir()
    (root / "recipes" / "alpha" / "recipe.py").write_text('"""The first.\n\nMore."""\n1 / 0\n')
    (root / "recipes" / "broken").mkdir()
    (root / "recipes" / "broken" / "recipe.py").write_text("(")
    found = find_recipes(root / "recipes")
    assert [(recipe.name, recipe.folder.name) for recipe in found] == [
        ("alpha", "alpha"),
        ("broken", "broken"),
        ("words", "words"),
    ]
    assert found[0].description == "The first."
    assert found[1].description.startswith("(not Python")
    assert find_recipes(root / "nowhere") == []


def test_the_module_does_not_load_torch() -> None:
    code = "import sys, asr.recipe.run; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=environment()).returncode == 0


# Configuration


def test_a_configuration_is_given_by_name_or_file(root: Path, tmp_path: Path) -> None:
    recipe = load_recipe(root / "recipes" / "words")
    assert find_conf(recipe).read_text() == "training: {epochs: 3}\n"
    (root / "conf" / "words" / "long.yaml").write_text("training: {epochs: 9}\n")
    assert load_recipe_config(recipe, "long").training.epochs == 9
    (tmp_path / "mine.yaml").write_text("training: {epochs: 5}\n")
    assert load_recipe_config(recipe, str(tmp_path / "mine.yaml")).training.epochs == 5
    (recipe.folder / "conf").mkdir()
    (recipe.folder / "conf" / "long.yaml").write_text("training: {epochs: 7}\n")
    assert load_recipe_config(recipe, "long").training.epochs == 7


def test_the_corpus_section_is_checked_and_filled_in(root: Path) -> None:
    recipe = load_recipe(root / "recipes" / "words")
    config = load_recipe_config(recipe, overrides=["corpus.remark=x"])
    assert config.corpus == {"words": ["no", "yes"], "remark": "x"}
    with pytest.raises(ConfigError, match=r"section corpus: remarks: .*did you mean remark\?"):
        load_recipe_config(recipe, overrides=["corpus.remarks=x"])


def test_an_unknown_configuration_is_refused_with_those_that_exist(root: Path) -> None:
    recipe = load_recipe(root / "recipes" / "words")
    with pytest.raises(ConfigError, match=r"recipe words; did you mean default\?"):
        find_conf(recipe, "defualt")
    with pytest.raises(ConfigError, match="recipe words; there are default"):
        find_conf(recipe, "x")
    shutil.rmtree(root / "conf")
    with pytest.raises(ConfigError, match=r"conf/words has no \.yaml file"):
        find_conf(recipe)


def test_the_work_folder_is_named_by_recipe_and_configuration(root: Path) -> None:
    recipe = load_recipe(root / "recipes" / "words")
    assert default_work_folder(recipe) == Path("work/words/default")
    assert default_work_folder(recipe, "some/where/mine.yaml") == Path("work/words/mine")


# Several processes


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}


def start(call: str) -> subprocess.Popen[str]:
    """Start a process that calls a function of this module."""
    return subprocess.Popen(
        [sys.executable, "-c", f"from tests.recipe import test_run; test_run.{call}"],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def hold(root: str) -> None:
    """Run a stage that lasts until stdin is closed, in this process and in one that it forks."""

    def wait(_: Work) -> None:
        """Wait."""
        if os.fork():
            (Path(root) / "started").touch()
        sys.stdin.read()

    one_stage(Path(root), wait)


def test_a_second_run_in_a_work_folder_is_refused_and_a_killed_one_is_no_obstacle(
    tmp_path: Path,
) -> None:
    write_recipe(tmp_path)
    with start(f"hold({str(tmp_path)!r})") as holder:
        deadline = time.monotonic() + 60
        while not (tmp_path / "started").exists():
            assert holder.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with pytest.raises(AsrError, match=rf"another run \(process {holder.pid}\) is at work"):
            run(tmp_path)
        holder.send_signal(signal.SIGKILL)
        while holder.poll() is None:
            time.sleep(0.01)
        # The process that the holder forked is still there.
        assert run(tmp_path) == ALL


def kill_everywhere(root: str) -> None:
    """Kill a run before its first, second, ... file operation; go on; write what came out."""
    top = Path(root)
    recipe, work = load_recipe(top / "recipes" / "words"), work_in(top)
    run_recipe(recipe, work)
    expected = outputs(top / "work")
    wrong = []
    count = 0
    while True:
        shutil.rmtree(top / "work")
        count += 1
        child = os.fork()
        if not child:
            kill_at(count, str(top / "work"))
            run_recipe(recipe, work)
            os._exit(0)
        if not os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            break
        run_recipe(recipe, work)
        if outputs(top / "work") != expected:
            wrong.append(count)
    sys.stdout.write(json.dumps({"killed": count - 1, "wrong": wrong}))


def kill_at(count: int, folder: str) -> None:
    """Have this process killed before its `count`-th operation on a path in the folder."""
    left = count

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event not in ("import", "exec", "compile") and any(
            isinstance(argument, str | Path) and str(argument).startswith(folder)
            for argument in arguments
        ):
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def test_a_run_that_was_killed_anywhere_goes_on_to_the_same_files() -> None:
    memory = Path("/dev/shm")  # the test writes and removes thousands of small files
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as root:
        write_recipe(Path(root))
        with start(f"kill_everywhere({root!r})") as killer:
            result = json.loads(killer.communicate(timeout=600)[0])
    assert result["wrong"] == []
    assert result["killed"] > 100


def test_a_replaced_folder_is_there_whole_or_as_it_was(tmp_path: Path) -> None:
    with replace_folder(tmp_path / "data") as folder:
        (folder / "a").write_text("1")

    def fail() -> None:
        with replace_folder(tmp_path / "data") as folder:
            (folder / "b").write_text("2")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert outputs(tmp_path / "data") == {"a": b"1", LIST: b'[\n"a"\n]'}
    with replace_folder(tmp_path / "data") as folder:
        (folder / "c").write_text("3")
    assert outputs(tmp_path / "data") == {"c": b"3", LIST: b'[\n"c"\n]'}
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_each_folder_of_a_corpus_counts_once_whatever_links_lead_to_it(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    for name in ("a", "b", ".hidden"):
        (corpus / name).mkdir(parents=True)
        (corpus / name / "file").write_text(name)
    # With a second link like it there would be 2 ** 40 paths to each file.
    (corpus / "a" / "all").symlink_to(corpus)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("linked")
    (corpus / "linked").symlink_to(tmp_path / "elsewhere")
    assert list_files(tmp_path, "corpus") == [
        f"corpus/{name}/file" for name in ("a", "b", "linked")
    ]
    assert list_files(tmp_path, "missing") == []
