"""A trained model as a folder of static files: a page that recognizes speech in the browser."""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from asr import page
from asr.config import Config
from asr.decoding import options
from asr.errors import ModelError
from asr.files import read_file
from asr.folders import replace_folder
from asr.model.arrival import least_samples, lookahead
from asr.model.export.export import export_model
from asr.model.export.trial import ExportReport
from asr.model.folder import LoadedModel, read_model
from asr.model.onnx import MODEL, STEP, StepGraph

RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
"""What a browser needs of the npm package onnxruntime-web."""
_PACKAGE = "onnxruntime-web"
_PARTS = (
    *("recognizer.js", "words.js", "live.js", "resampler.js", "worker.js"),
    *("formats.js", "app.js", "web.css"),
)
_SHARED = ("page.css", "sound.js", "recorder.js")  # with the page of `asr serve`
_LIMITS = (
    "The page reads the best path: the most probable token of each step, without a language "
    "model. It knows what it was trained on, and writes something for all that it hears."
)


def export_web(
    folder: Path, output: Path, *, runtime: Path, quantize: bool = False
) -> ExportReport:
    """Write a site for any static web host: network, recognizer, page, and what runs them.

    Args:
        runtime: the npm package onnxruntime-web, unpacked; nothing is downloaded.
        quantize: 8 bit integers, as `export_model`.

    Raises:
        ModelError: as `export_model`, or `runtime` is no such package.
        AsrError: `output` holds something else.
    """
    code = _find_runtime(runtime)
    with tempfile.TemporaryDirectory() as scratch:
        exported = Path(scratch, "model")
        report = export_model(folder, exported, quantize=quantize)
        model = read_model(exported)
        with replace_folder(output) as site:
            # What hears audio as it arrives hears whole recordings, too.
            network = STEP if (exported / STEP).exists() else MODEL
            (site / network).write_bytes(read_file(exported / network, 2**32))
            _write_runtime(code, site / "runtime")
            _write_page(site, _name(folder), model, exported)
            _write_offline(site)
    return report


def _name(folder: Path) -> str:
    """What a page calls a model: its folder's name, or of `work/digits/default/model` digits."""
    parts = [part for part in folder.resolve().parts if part not in ("model", "default")]
    return parts[-1]


def _find_runtime(runtime: Path) -> Path:
    """The folder of the runtime's files."""
    for place in (runtime, runtime / "dist", runtime / "package" / "dist"):
        if all((place / name).is_file() for name in RUNTIME_FILES):
            return place
    raise ModelError(
        f"{runtime}: it lacks {RUNTIME_FILES[0]}; give the unpacked npm package {_PACKAGE} "
        f"(npm pack {_PACKAGE}, then tar xzf {_PACKAGE}-*.tgz)"
    )


def _write_runtime(code: Path, target: Path) -> None:
    target.mkdir()
    for name in RUNTIME_FILES:
        (target / name).write_bytes(read_file(code / name))
    try:
        about = json.loads(read_file(code.parent / "package.json"))
        version, licence = str(about["version"]), str(about["license"])
    except (OSError, ValueError, KeyError, TypeError):
        version, licence = "of unknown version", "see its package.json"
    (target / "README.txt").write_text(
        f"{_PACKAGE} {version}, licence {licence}: https://github.com/microsoft/onnxruntime\n",
        encoding="utf-8",
    )


def _write_page(site: Path, name: str, model: LoadedModel, exported: Path) -> None:
    assets = files("asr") / "assets"
    for part in (*(assets / "web" / name for name in _PARTS), *(assets / n for n in _SHARED)):
        (site / part.name).write_bytes(part.read_bytes())
    described = _describe(model, exported)
    (site / "model.json").write_text(
        json.dumps(described, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
    )
    (site / "index.html").write_text(
        page.render_text(
            "web/index.html",
            name=name,
            model={key: described[key] for key in ("sampleRate", "separator", "stream")},
            facts=_facts(model),
            limits=_LIMITS,
        ),
        encoding="utf-8",
    )


def _describe(model: LoadedModel, exported: Path) -> dict[str, Any]:
    """What `recognizer.js` asks for."""
    config: Config = model.config
    features = config.features
    decoding = options.read_decoding(exported)
    # The map belongs to the decoding that it was fitted for.
    confidence = decoding.confidence if decoding.is_best_path else None
    return {
        "sampleRate": features.sample_rate,
        "stepSeconds": config.encoder.subsampling * features.frame_shift / features.sample_rate,
        "shortest": features.frame_length,
        "symbols": list(model.tokens.symbols),
        "separator": model.tokens.separator,
        "isPhones": model.tokens.pronunciations is not None,
        "confidence": confidence.model_dump(mode="json") if confidence else None,
        "stream": _describe_stream(model, exported),
    }


def _describe_stream(model: LoadedModel, exported: Path) -> dict[str, Any] | None:
    """How `live.js` gives samples to a network of one direction; others have none."""
    if not (exported / STEP).exists():
        return None
    features = model.config.features
    return {
        "frameLength": features.frame_length,
        "frameShift": features.frame_shift,
        "subsampling": model.config.encoder.subsampling,
        "lookahead": lookahead(features),
        "shortest": least_samples(features),
        "states": StepGraph(exported / STEP, len(model.tokens)).states,
    }


def _facts(model: LoadedModel) -> page.Facts:
    """Of the card."""
    training: Mapping[str, object] = {k: v for k, v in model.training.items() if k != "exported"}
    facts = page.describe_origin(training)
    audio = [("Audio", f"{model.config.features.sample_rate} Hz")]
    audio.append(("Tokens", f"{len(model.tokens):,}"))
    return {**facts, "Data": [*facts["Data"], *audio]}


def _write_offline(site: Path) -> None:
    """The service worker, which keeps all files of this version."""
    paths = sorted(path for path in site.rglob("*") if path.is_file())
    names = [path.relative_to(site).as_posix() for path in paths]
    digest = hashlib.sha256()
    for name, path in zip(names, paths, strict=True):
        digest.update(name.encode() + b"\0" + read_file(path))
    about = {"VERSION": f"asr-{digest.hexdigest()[:16]}", "FILES": ["./", *names]}
    code = (files("asr") / "assets" / "web" / "offline.js").read_text(encoding="utf-8")
    (site / "offline.js").write_text(
        f"self.SITE = {json.dumps(about, indent=1)};\n\n{code}", encoding="utf-8"
    )
