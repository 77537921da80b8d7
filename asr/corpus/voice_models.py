"""Folders with neural voices: what is in one, and a copy of it from which sherpa-onnx speaks.

A folder is one of sherpa-onnx's (`tokens.txt` and a model whose metadata say how it speaks; with
`voices.bin` for Kokoro and Kitten, with a vocoder for Matcha) or a voice of Piper as it is
published: `NAME.onnx` and `NAME.onnx.json`.

The copy differs where it must: what Piper states beside the model stands in it, the random numbers
of the model have a seed, and speakers that are mixed of two are among the others.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from asr.errors import DataError
from asr.files import check_regular, read_file

Kind = Literal["vits", "kokoro", "kitten", "matcha"]

_VOCODERS = ("hifigan*.onnx", "vocos*.onnx")
_RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
_MODEL_FILES = {"matcha": "acoustic_model"}  # of kinds that do not call it `model`


@dataclass(frozen=True, slots=True)
class Blend:
    """A speaker mixed of two."""

    first: int
    second: int
    share: float
    """Of the first one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VoiceModel:
    """What is in a folder."""

    folder: Path
    kind: Kind
    model: Path
    metadata: Mapping[str, str]
    """As sherpa-onnx wants them in the model."""
    symbols: Mapping[str, int] | None
    """Of Piper's phones; None where there is a `tokens.txt`."""

    @property
    def num_speakers(self) -> int:
        """At least one."""
        return max(1, int(self.metadata["n_speakers"]))

    @property
    def has_styles(self) -> bool:
        """Whether its speakers are vectors, which can be mixed."""
        return self.kind in ("kokoro", "kitten")


def open_voice_model(folder: Path) -> VoiceModel:
    """Look into a folder.

    Raises:
        DataError: there is no folder, no model or more than one in it, or it is damaged; or a
            package is missing.
    """
    for module, package in (("onnx", "onnx"), ("sherpa_onnx", "sherpa-onnx")):
        if find_spec(module) is None:
            raise DataError(
                f"{folder}: {package}, by which its voices speak, is not installed; "
                f"pip install {package} (the extra asr-recipes[voices])"
            )
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; one with a neural voice is expected")
    model = _find_model(folder)
    metadata = {entry.key: entry.value for entry in _load(model).metadata_props}
    symbols, settings = None, Path(f"{model}.json")
    if not (folder / "tokens.txt").is_file():
        if not settings.is_file():
            raise DataError(f"{folder}: neither tokens.txt nor {settings.name} is beside the model")
        said, symbols = _read_piper(settings)
        metadata |= said
    kind = _kind_of(folder, metadata)
    voice = VoiceModel(folder=folder, kind=kind, model=model, metadata=metadata, symbols=symbols)
    _check(voice)
    return voice


def copy_voice_model(
    voice: VoiceModel, target: Path, blends: Sequence[Blend], seed: int
) -> dict[str, Any]:
    """Write a copy to speak from into `target`, a folder; what is not changed stays where it is.

    Args:
        blends: speakers that follow those of the model.
        seed: of the model's random numbers.

    Returns:
        How `asr.corpus.neural` finds it.

    Raises:
        DataError: damaged.
    """
    import onnx

    network = _load(voice.model)
    metadata = {**voice.metadata, "n_speakers": str(voice.num_speakers + len(blends))}
    del network.metadata_props[:]
    onnx.helper.set_model_props(network, metadata)
    _seed_random_numbers(network.graph, seed)
    target.mkdir(parents=True)
    model = target / "model.onnx"
    onnx.save(network, model)
    tokens = voice.folder / "tokens.txt"
    if voice.symbols is not None:
        tokens = target / "tokens.txt"
        lines = (f"{symbol} {number}\n" for symbol, number in voice.symbols.items())
        tokens.write_text("".join(lines), encoding="utf-8")
    files = {_MODEL_FILES.get(voice.kind, "model"): str(model), "tokens": str(tokens)}
    lexicons = sorted(str(path) for path in voice.folder.glob("lexicon*.txt"))
    if lexicons:
        files["lexicon"] = ",".join(lexicons)
    if voice.kind == "matcha":
        files["vocoder"] = str(_find_vocoders(voice.folder)[0])
    if voice.has_styles:
        styles = _read_styles(voice)
        mixed = [b.share * styles[b.first] + (1 - b.share) * styles[b.second] for b in blends]
        path = target / "voices.bin"
        np.concatenate([styles, *(row[None] for row in mixed)]).astype("<f4").tofile(path)
        files["voices"] = str(path)
    return {"kind": voice.kind, "files": files, "phones": _phones_of(voice, bool(lexicons))}


def _find_model(folder: Path) -> Path:
    vocoders = _find_vocoders(folder)
    models = [path for path in sorted(folder.glob("*.onnx")) if path not in vocoders]
    if not models:
        raise DataError(f"{folder}: no voice in it; a model (*.onnx) is expected")
    if len(models) > 1:
        names = ", ".join(path.name for path in models[:3])
        raise DataError(f"{folder}: several models ({names}); keep one in a folder")
    return models[0]


def _find_vocoders(folder: Path) -> list[Path]:
    return sorted(path for pattern in _VOCODERS for path in folder.glob(pattern))


def _load(path: Path) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        network = onnx.load(check_regular(path))
    except (OSError, DecodeError) as error:
        raise DataError(f"{path}: damaged, or no ONNX model") from error
    if not network.graph.node:
        raise DataError(f"{path}: damaged, or no ONNX model: there is nothing in it")
    return network


def _read_piper(path: Path) -> tuple[dict[str, str], dict[str, int]]:
    """Metadata and symbols of a voice as Piper describes it."""
    try:
        values = json.loads(read_file(path))
        metadata = {
            "model_type": "vits",
            "comment": "piper",
            "language": str(values.get("language", {}).get("name_english") or "unknown"),
            "voice": str(values["espeak"]["voice"]),
            "has_espeak": "1",
            "n_speakers": str(int(values["num_speakers"])),
            "sample_rate": str(int(values["audio"]["sample_rate"])),
        }
        symbols = {symbol: int(ids[0]) for symbol, ids in values["phoneme_id_map"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise DataError(f"{path}: damaged, or not a description of Piper's") from error
    return metadata, symbols


def _kind_of(folder: Path, metadata: Mapping[str, str]) -> Kind:
    if (folder / "voices.bin").is_file():
        return "kitten" if metadata.get("model_type", "").startswith("kitten") else "kokoro"
    return "matcha" if _find_vocoders(folder) else "vits"


def _check(voice: VoiceModel) -> None:
    missing = [key for key in ("sample_rate", "n_speakers") if key not in voice.metadata]
    if voice.has_styles and "style_dim" not in voice.metadata:
        missing.append("style_dim")
    if missing:
        raise DataError(
            f"{voice.model}: its metadata do not say {', '.join(missing)}: not a model of "
            "sherpa-onnx's, nor one with Piper's .onnx.json beside it"
        )
    try:
        int(voice.metadata["sample_rate"]), voice.num_speakers
        if voice.has_styles:
            _read_styles(voice)
    except (OSError, ValueError) as error:
        raise DataError(f"{voice.model}: its metadata are damaged: {error}") from error


def _read_styles(voice: VoiceModel) -> Any:
    """The speakers' vectors, [speaker, value]."""
    path = voice.folder / "voices.bin"
    size = math.prod(int(part) for part in voice.metadata["style_dim"].split(","))
    content = read_file(path)
    values = np.frombuffer(content[: len(content) // 4 * 4], "<f4")
    if len(values) != voice.num_speakers * size or not np.isfinite(values).all():
        raise DataError(
            f"{path}: damaged: {len(values)} numbers, where {voice.num_speakers} speakers of "
            f"{size} are expected"
        )
    return values.reshape(voice.num_speakers, size)


def _seed_random_numbers(graph: Any, seed: int) -> None:
    """Have a graph and the graphs in it draw the same numbers whenever they are loaded."""
    import onnx

    for number, node in enumerate(graph.node):
        if node.op_type in _RANDOM:
            kept = [attribute for attribute in node.attribute if attribute.name != "seed"]
            del node.attribute[:]
            # A float, whose whole numbers are exact up to 2**24.
            own = onnx.helper.make_attribute("seed", float((seed + number) % 2**24))
            node.attribute.extend([*kept, own])
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _seed_random_numbers(attribute.g, seed)


def _phones_of(voice: VoiceModel, has_lexicon: bool) -> str | None:
    """How `asr.corpus.neural` writes texts for it."""
    if voice.metadata.get("has_espeak", "0") != "1":
        return None
    if voice.kind == "vits":
        return None if has_lexicon else "piper"
    if voice.kind == "kokoro" and int(voice.metadata.get("version", 1)) >= 2:
        return "kokoro"
    return "ipa"
