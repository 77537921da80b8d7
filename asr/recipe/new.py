"""A recipe folder for a corpus of one's own: what `asr init` writes.

The folder is the user's from then on: short files, to be read and changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from asr.audio import inspect_audio
from asr.config import Config, RecordingsConfig, SentencesConfig, TokenConfig
from asr.corpus import Utterance
from asr.errors import AsrError, DataError
from asr.files import open_atomic
from asr.progress import Report
from asr.recipe.fitting import fit_settings
from asr.recipe.own_corpus import CorpusSource, divide, divide_sentences, list_sentences
from asr.text import build_tokens

_FEW_WORDS = 60  # so few different ones are units themselves
_SHORT_SECONDS = 1.0  # an utterance whose mean says which word it is
_NUM_PROBED = 50  # files whose rate is looked at
_STEPS = 2500  # of training, about, where there is little speech
_MAX_EPOCHS = 80


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusShape:
    """What of a corpus decides the sizes of its model."""

    hours: float
    """Of training speech."""
    median_seconds: float
    """Of an utterance."""
    sample_rate: int
    """Hz."""
    texts: Sequence[str]
    """Of the training set."""
    is_spoken: bool = False
    """By synthetic voices, which real speech differs from."""


def write_recordings_recipe(
    folder: Path, source: CorpusSource, report: Report, model: Path | None = None
) -> None:
    """Write a recipe that trains on a corpus in any format that can be imported.

    Args:
        model: that training starts from.

    Raises:
        DataError: the folder is there, or the corpus cannot be read or divided.
        AsrError: training cannot start from the model.
    """
    _check_new(folder)
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
    corpus = _RECORDINGS_CORPUS.format(arguments=", ".join(arguments))
    about = f"recordings in {source.path}"
    _write(folder, about, corpus, "SOURCE.path", _settings(shape, model))


def write_sentences_recipe(
    folder: Path,
    sentences: Path,
    *,
    voices: int,
    hours: float,
    language: str,
    model: Path | None = None,
) -> None:
    """Write a recipe that trains on sentences, of which it keeps a copy, spoken by eSpeak NG.

    Args:
        model: that training starts from.

    Raises:
        DataError: the folder is there, or there are no sentences.
        AsrError: training cannot start from the model.
    """
    _check_new(folder)
    spoken = list_sentences(sentences)
    splits = divide_sentences(spoken, SentencesConfig())
    texts = [sentence.text for sentence in splits["train"]]
    seconds = sorted(_spoken_seconds(text) for text in texts)[len(texts) // 2]
    shape = CorpusShape(
        hours=hours, median_seconds=seconds, sample_rate=16000, texts=texts, is_spoken=True
    )
    settings = _settings(shape, model)
    corpus = {"hours": hours, "num_voices": voices, "sample_rate": 16000}
    module = _SENTENCES_CORPUS.format(language=repr(language))
    about = f"{len(spoken)} sentences, spoken by synthetic voices"
    _write(folder, about, module, "SENTENCES", {"corpus": corpus, **settings})
    with open_atomic(folder / "sentences.txt") as file:
        file.writelines(f"{sentence}\n" for sentence in spoken)


def _settings(shape: CorpusShape, model: Path | None) -> dict[str, Any]:
    settings = choose_settings(shape)
    return settings if model is None else fit_settings(settings, model)


def choose_settings(shape: CorpusShape) -> dict[str, Any]:
    """The configuration that suits a corpus: what differs from the defaults.

    Sizes are those that the recipes of this project found for corpora of such lengths.
    """
    hours = shape.hours
    units, layers = (128, 2) if hours < 0.75 else (192, 3) if hours < 5 else (384, 4)
    batch = 12.0 if hours < 0.75 else 40.0 if hours < 5 else 120.0
    batch = max(batch, round(4 * shape.median_seconds))
    epochs = min(_MAX_EPOCHS, max(20, round(_STEPS * batch / (3600 * hours))))
    narrow = shape.sample_rate <= 8000
    augment: dict[str, Any] = {
        "speeds": [0.9, 1.0, 1.1],
        "vocal_tract": 0.1,
        "gain_db": 6,
        "noise_probability": 0.3,
        "noise_snr_db": [10, 30],
        "freq_masks": 2,
        "freq_mask_width": 6 if narrow else 12,
    }
    if shape.is_spoken:
        augment |= {"vocal_tract": 0.2, "gain_db": 15, "noise_probability": 0.7}
        augment |= {"noise_snr_db": [5, 30], "reverb_probability": 0.4, "channel_db": 12}
    if shape.median_seconds >= _SHORT_SECONDS:
        augment["time_masks"] = 2
    short = shape.median_seconds < _SHORT_SECONDS
    return {
        "features": {
            "sample_rate": shape.sample_rate,
            "num_mel_bins": 40 if narrow else 80,
            "noise_floor_db": -70,
            "normalization": "global" if short else "sliding",
        },
        "augment": augment,
        "tokens": _tokens(shape.texts),
        "encoder": {
            "hidden_size": units,
            "num_layers": layers,
            "conv_channels": 128,
            "subsampling": 2 if hours < 5 else 3,
        },
        "training": {
            "epochs": epochs,
            "batch_seconds": batch,
            "learning_rate": 0.003 if hours < 5 else 0.002,
        },
    }


def _tokens(texts: Sequence[str]) -> dict[str, Any]:
    """Words as units where there are few of them; else characters."""
    words = {word for text in texts for word in text.split()}
    if len(words) > _FEW_WORDS:
        return {"kind": "characters"}
    characters = {character for word in words for character in word}
    # A merge for each character of each word is the most that there can be.
    most = len(characters) + sum(len(word) for word in words) + 2
    for size in range(most, len(characters) + 2, -1):
        try:
            build_tokens(texts, TokenConfig(kind="bpe", vocabulary_size=max(8, size)))
        except DataError:
            continue
        return {"kind": "bpe", "vocabulary_size": max(8, size)}
    return {"kind": "characters"}


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


def _write(folder: Path, about: str, corpus: str, reads: str, settings: dict[str, Any]) -> None:
    try:
        Config.model_validate(settings)
    except ValueError as error:
        raise AsrError(f"{folder}: the settings chosen do not fit together: {error}") from error
    name = folder.resolve().name
    name_of_reads = reads.partition(".")[0]
    names = sorted(("Corpus", "prepare", name_of_reads), key=lambda n: (not n.isupper(), n))
    files = {
        "__init__.py": f'"""{name}."""\n',
        "corpus.py": corpus,
        "recipe.py": _RECIPE.format(
            about=f"{name}: {about}".replace("\\", "/").replace('"', "'"),
            names=", ".join(names),
            reads=reads,
        ),
        "README.md": _README.format(name=name, about=about, folder=folder),
        "conf/default.yaml": yaml.safe_dump(settings, sort_keys=False, default_flow_style=None),
    }
    for path, content in files.items():
        with open_atomic(folder / path) as file:
            file.write(content)


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

* `corpus.py`: where the data are from, and what is done to them.
* `conf/default.yaml`: sizes that suit the data; what is not there is at its default.
* `recipe.py`: the stages.

`work/{name}/default/result.txt` says how good it is, `test/report.html` on what it fails.
"""
