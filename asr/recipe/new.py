"""A recipe folder for a corpus of one's own: what `asr init` writes.

The folder is the user's from then on: short files, to be read and changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from asr import corpus
from asr.audio import inspect_audio
from asr.config import Config, RecordingsConfig, SentencesConfig
from asr.corpus import Utterance
from asr.errors import AsrError, DataError
from asr.files import open_atomic
from asr.progress import Report
from asr.recipe.own_corpus import CorpusSource, divide, divide_sentences, list_sentences
from asr.recipe.suggestion import (
    CorpusShape,
    Wishes,
    choose_settings,
    choose_start,
    describe_budget,
    open_start,
)

_NUM_PROBED = 50  # files whose rate is looked at
_SPOKEN_RATE = 16000  # Hz, of synthetic voices


def write_recordings_recipe(
    folder: Path, source: CorpusSource, report: Report, wishes: Wishes | None = None
) -> None:
    """Write a recipe that trains on a corpus in any format that can be imported.

    Raises:
        DataError: the folder is there, or the corpus cannot be read or divided.
        AsrError: as `choose_start`.
    """
    wishes = wishes or Wishes()
    _check_new(folder)
    open_start(wishes)  # what cannot be is said before the corpus is read
    splits = divide(source.utterances(report), RecordingsConfig(), report)
    train = splits["train"]
    shape = CorpusShape(
        hours=sum(u.duration for u in train) / 3600,
        median_seconds=sorted(u.duration for u in train)[len(train) // 2],
        sample_rate=_sample_rate(train),
        texts=[str(u.text) for u in train],
    )
    arguments = [f"path=Path({str(source.path.absolute())!r})"]
    if source.format != "auto":
        arguments.append(f"format={source.format!r}")
    if source.tiers:
        arguments.append(f"tiers={source.tiers!r}")
    if source.speaker_pattern is not None:
        arguments.append(f"speaker_pattern={source.speaker_pattern!r}")
    module = _RECORDINGS_CORPUS.format(arguments=", ".join(arguments))
    about = f"recordings in {source.path}"
    start = choose_start(wishes, shape, report)
    settings = choose_settings(shape, start, live=wishes.live)
    _write(folder, about, module, "SOURCE.path", settings, describe_budget(shape, settings))


@dataclass(frozen=True, kw_only=True, slots=True)
class Speech:
    """What synthetic voices are to speak, and which."""

    voices: int
    hours: float
    voice_models: Sequence[Path] = ()
    """Folders with neural ones; none are eSpeak NG's."""


def write_sentences_recipe(
    folder: Path, sentences: Path, speech: Speech, report: Report, wishes: Wishes | None = None
) -> None:
    """Write a recipe that trains on sentences, of which it keeps a copy, spoken by voices.

    Raises:
        DataError: the folder is there, there are no sentences, or no voices in a folder.
        AsrError: as `choose_start`.
    """
    wishes = wishes or Wishes()
    language = wishes.language or "en"
    _check_new(folder)
    open_start(wishes)
    for voice_model in speech.voice_models:
        corpus.voice_models.open_voice_model(voice_model)
    spoken = list_sentences(sentences)
    splits = divide_sentences(spoken, SentencesConfig())
    texts = [sentence.text for sentence in splits["train"]]
    seconds = sorted(_spoken_seconds(text) for text in texts)[len(texts) // 2]
    shape = CorpusShape(
        hours=speech.hours,
        median_seconds=seconds,
        sample_rate=_SPOKEN_RATE,
        texts=texts,
        is_spoken=True,
    )
    start = choose_start(replace(wishes, language=language), shape, report)
    settings = choose_settings(shape, start, live=wishes.live)
    section: dict[str, Any] = {
        "hours": speech.hours,
        "num_voices": speech.voices,
        "sample_rate": _SPOKEN_RATE,
    }
    if speech.voice_models:
        paths = [str(path.absolute()) for path in speech.voice_models]
        section["voice_models"] = paths
    module = _SENTENCES_CORPUS.format(language=repr(language))
    about = f"{len(spoken)} sentences, spoken by synthetic voices"
    budget = describe_budget(shape, settings)
    _write(folder, about, module, "SENTENCES", {"corpus": section, **settings}, budget)
    with open_atomic(folder / "sentences.txt") as file:
        file.writelines(f"{sentence}\n" for sentence in spoken)


def _sample_rate(utterances: Sequence[Utterance]) -> int:
    """The rate of most recordings: 16000 Hz, or 8000 where they have less."""
    step = max(1, len(utterances) // _NUM_PROBED)
    rates = sorted(inspect_audio(u.audio_filepath).sample_rate for u in utterances[::step])
    return 16000 if rates[len(rates) // 2] >= 16000 else 8000


def _spoken_seconds(text: str) -> float:
    return 0.3 + len(text) / 14  # characters a second, of English


def _check_new(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: is there already; name a folder that is not")


def _write(
    folder: Path, about: str, corpus: str, reads: str, settings: dict[str, Any], budget: str
) -> None:
    try:
        Config.model_validate(settings)
    except ValueError as error:
        raise AsrError(f"{folder}: the settings chosen do not fit together: {error}") from error
    name = folder.resolve().name
    name_of_reads = reads.partition(".")[0]
    names = sorted(("Corpus", "prepare", name_of_reads), key=lambda n: (not n.isupper(), n))
    conf = yaml.safe_dump(settings, sort_keys=False, default_flow_style=None)
    files = {
        "__init__.py": f'"""{name}."""\n',
        "corpus.py": corpus,
        "recipe.py": _RECIPE.format(
            about=f"{name}: {about}".replace("\\", "/").replace('"', "'"),
            names=", ".join(names),
            reads=reads,
        ),
        "README.md": _README.format(
            name=name, about=about, folder=folder, start=_describe_start(settings)
        ),
        "conf/default.yaml": conf.replace("\ntraining:", f"\n# {budget}\ntraining:"),
    }
    for path, content in files.items():
        with open_atomic(folder / path) as file:
            file.write(content)


def _describe_start(settings: dict[str, Any]) -> str:
    """Of the README, after an empty line; empty where training starts from nothing."""
    init = settings["training"].get("init")
    if init is None:
        return ""
    return (
        f"\nTraining starts from the model `{init['model']}`, whose features and layers it shares "
        f"(`asr show {init['model']}`); `training.init` says how.\n"
    )


_RECIPE = '''"""{about}."""

from asr.recipe import Stage, model_stages

from .corpus import {names}

__all__ = ["STAGES", "Corpus"]

STAGES = (
    Stage(
        name="prepare", run=prepare, settings=("corpus",), reads=({reads},), makes=("manifests",)
    ),
    *model_stages("manifests"),
)
'''

_RECORDINGS_CORPUS = '''"""What the model learns from: recordings, in three sets."""

from pathlib import Path

from asr.config import RecordingsConfig, parse_settings
from asr.recipe import CorpusSource, Work, prepare_recordings

SOURCE = CorpusSource({arguments})


class Corpus(RecordingsConfig):
    """The `corpus` section of conf/*.yaml; add settings of your own here."""


def prepare(work: Work) -> None:
    """Import the recordings, and divide them so that no speaker is in two sets."""
    settings = parse_settings(work.config.corpus, Corpus, "corpus")
    prepare_recordings(SOURCE, work.path("manifests"), settings, work.report)
'''

_SENTENCES_CORPUS = '''"""What the model learns from: sentences.txt, spoken by voices."""

from pathlib import Path

from asr.config import SentencesConfig, parse_settings
from asr.recipe import Work, prepare_sentences

SENTENCES = Path(__file__).with_name("sentences.txt")
LANGUAGE = {language}


class Corpus(SentencesConfig):
    """The `corpus` section of conf/*.yaml; add settings of your own here."""


def prepare(work: Work) -> None:
    """Let voices speak the sentences; train, dev and test have voices of their own."""
    settings = parse_settings(work.config.corpus, Corpus, "corpus")
    prepare_sentences(SENTENCES, work.path("manifests"), settings, LANGUAGE)
'''

_README = """# {name}

A recognizer trained on {about}. Written by `asr init`; all of it may be changed.

```sh
asr run {folder}                                     # prepare, train, score
asr transcribe work/{name}/default/model FILES...    # use it
asr show {folder}/conf/default.yaml                  # every setting
asr run {folder} --set training.epochs=60            # change one; only what depends on it runs
```
{start}

* `corpus.py`: where the data are from, and what is done to them.
* `conf/default.yaml`: sizes that suit the data; what is not there is at its default.
* `recipe.py`: the stages.

`work/{name}/default/result.txt` says how good it is, `test/report.html` on what it fails.
"""
