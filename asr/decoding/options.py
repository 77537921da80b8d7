"""How a model folder is decoded: its `decoding.yaml`, what that names, and what a caller changes.

`decoding.yaml` may name a language model, a lexicon and a neural language model that stand beside
it. Without the file the folder gives the best path. No torch, unless a neural model ranks readings.
"""

import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import yaml

from asr import lm as language_models
from asr.config import NEURAL_LM_FILES, DecodingConfig, parse_settings
from asr.config_files import load_config
from asr.decoding.decoder import Decoder, make_decoder
from asr.errors import AsrError, DataError, ModelError, opens_model
from asr.files import check_inside, open_atomic, read_file
from asr.folders import remove_folder, replace_folder
from asr.text import TokenTable

SETTINGS_FILE = "decoding.yaml"
DECODING_FILES = (SETTINGS_FILE, "lm.arpa", "lm.arpa.gz", "lm", "lexicon.txt", "neural_lm")
"""What tuning may put into a model folder; the first says what the others are for."""

_MAX_BYTES = 2**36  # of a language model that is copied
_BEAM = 16  # where something asks for a beam search and nothing says how wide
# Wide, since readings that a grammar does not allow are dropped only where their words end, and one
# that it allows is wanted even where others are far more probable.
_GRAMMAR = DecodingConfig(beam=256, beam_threshold=1000, token_threshold=100)


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodingOptions:
    """What a caller changes of a model folder's `decoding.yaml`; none changes nothing."""

    beam: int | None = None
    nbest: int | None = None
    lm: Path | None = None
    lm_weight: float | None = None
    word_bonus: float | None = None
    lexicon: Path | None = None
    hotwords: Path | None = None
    grammar: Path | None = None


@opens_model
def read_decoding(folder: Path) -> DecodingConfig:
    """The folder's `decoding.yaml`; without one the defaults, which are the best path.

    Raises:
        ModelError: it cannot be used, or names a file outside of the folder.
    """
    if not (folder / SETTINGS_FILE).exists():
        return DecodingConfig()
    check_inside(folder, SETTINGS_FILE)
    try:
        config = load_config(folder / SETTINGS_FILE, DecodingConfig)
    except AsrError as error:
        raise ModelError(str(error)) from error
    for key in ("lm", "lexicon", "neural_lm"):
        if name := getattr(config, key):
            check_inside(folder, name, f"{folder / SETTINGS_FILE}: {key}: ")
    return config


def has_decoding(folder: Path) -> bool:
    """Whether a model folder says how it is decoded."""
    return (folder / SETTINGS_FILE).exists()


def remove_decoding(folder: Path) -> None:
    """Take back what `write_decoding` wrote: the folder then gives the best path.

    Raises:
        AsrError: its folder `lm` or `neural_lm` is none; nothing of it is removed.
    """
    for name in DECODING_FILES:
        path = folder / name
        if path.is_dir():
            remove_folder(path, _files_of(name))
        else:
            path.unlink(missing_ok=True)


def write_decoding(
    folder: Path,
    config: DecodingConfig,
    lm: Path | None = None,
    lexicon: Path | None = None,
    neural_lm: Path | None = None,
) -> None:
    """Put `decoding.yaml` and the files that it names into a model folder, it last.

    Args:
        lm: ARPA file, compressed or not, copied under the name `lm.arpa` or `lm.arpa.gz`; or a
            folder that `save_model` wrote, copied under the name `lm`.
        lexicon: copied under the name `lexicon.txt`.
        neural_lm: folder; copied under the name `neural_lm`.
    """
    names: dict[str, str | None] = {"lm": None, "lexicon": None, "neural_lm": None}
    if lm is not None:
        names["lm"] = "lm.arpa.gz" if lm.suffix == ".gz" else "lm.arpa"
        if lm.is_dir():
            names["lm"] = "lm"
    if lexicon is not None:
        names["lexicon"] = "lexicon.txt"
    if neural_lm is not None:
        names["neural_lm"] = "neural_lm"
    for source, name in ((lm, names["lm"]), (lexicon, names["lexicon"]), (neural_lm, "neural_lm")):
        if source is not None and name is not None:
            _copy(source, folder / name)
    write_settings(folder, config.model_copy(update=names))


def write_settings(folder: Path, config: DecodingConfig) -> None:
    """Write `decoding.yaml`; the files that it names are there."""
    with open_atomic(folder / SETTINGS_FILE) as file:
        file.write(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))


def _files_of(folder: str) -> Collection[str]:
    """What stands in a folder of a language model."""
    return language_models.ngram.MAPPED_FILES if folder == "lm" else NEURAL_LM_FILES


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        with replace_folder(target, _files_of(target.name)) as fresh:
            shutil.copytree(source, fresh, dirs_exist_ok=True)
        return
    content = read_file(source, _MAX_BYTES)
    with open_atomic(target, "wb") as file:
        file.write(content)


@opens_model
def read_decoder(folder: Path, tokens: TokenTable, options: DecodingOptions) -> Decoder:
    """The decoder that a model folder's `decoding.yaml` and the options describe.

    A beam of 1 and no other option is the best path, whatever `decoding.yaml` says.

    Raises:
        ModelError: `decoding.yaml` cannot be used.
        ConfigError: an option has no such value.
        DataError: a language model, lexicon, grammar or file of hot words cannot be used.
    """
    if options == DecodingOptions(beam=1):
        return Decoder(tokens, DecodingConfig())
    if options.grammar is not None and options.lm is not None:
        raise DataError("--grammar and --lm: a grammar stands in place of a language model")
    # What was tuned for a language model is no use to a grammar.
    config = _GRAMMAR if options.grammar else read_decoding(folder)
    lm = options.lm or (folder / config.lm if config.lm else None)
    lexicon = options.lexicon or (folder / config.lexicon if config.lexicon else None)
    changes = {
        name: value
        for name in ("beam", "nbest", "lm_weight", "word_bonus")
        if (value := getattr(options, name)) is not None
    }
    helped = options.lm or lexicon or options.hotwords or options.grammar
    if options.beam is None and config.beam == 1 and helped:
        changes["beam"] = _BEAM
    values = config.model_copy(update=changes).model_dump()
    config = parse_settings(values, DecodingConfig, "options of decoding")
    if options.beam is None and config.beam < config.nbest:
        config = config.model_copy(update={"beam": max(_BEAM, config.nbest)})
    if not (helped or lm or config.neural_lm) and config.beam == 1:
        return Decoder(tokens, config)
    # What helps a search is imported for one: the best path starts sooner without it.
    from asr.decoding.grammar import read_grammar
    from asr.decoding.hotwords import read_hot_words
    from asr.decoding.lexicon import pronunciation_lexicon, read_lexicon
    from asr.decoding.rescoring import Rescorer

    spelled = read_lexicon(lexicon, tokens) if lexicon else None
    if spelled is None and (helped or config.beam > 1):
        spelled = pronunciation_lexicon(tokens)
    model = language_models.read_language_model(lm) if lm else None
    rescorer = None
    if config.neural_lm and config.neural_share and options.lm is None:
        rescorer = Rescorer(
            neural=language_models.load_neural_lm(  # brings torch
                folder / config.neural_lm
            ),
            ngram=model,
            lm_weight=config.lm_weight,
            share=config.neural_share,
        )
    return make_decoder(
        tokens,
        config,
        language_model=model,
        lexicon=spelled,
        rescorer=rescorer,
        hot_words=read_hot_words(options.hotwords) if options.hotwords else (),
        grammar=read_grammar(options.grammar) if options.grammar else None,
    )
