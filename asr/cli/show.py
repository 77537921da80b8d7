"""`asr show`: what a configuration, model folder, manifest, audio file or installation is."""

import ast
import inspect
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import yaml

from asr import audio, config, decoding, files, model
from asr.cli.installation import describe_installation
from asr.cli.terminal import put, put_json, report
from asr.config import Config
from asr.config_files import load_conf
from asr.corpus import is_manifest, read_manifest
from asr.errors import DataError


@click.command()
@click.argument("thing", required=False, type=click.Path(path_type=Path))
@click.option("--schema", is_flag=True, help="Print the JSON schema of configurations.")
@click.option("--warm-up", is_flag=True, help="Compile now what a first use would wait for.")
def show(thing: Path | None, schema: bool, warm_up: bool) -> None:
    """Describe THING: a configuration (.yaml), model, manifest (.jsonl) or audio file.

    A model is a folder, or the name of one that comes with asr where no file is called so.

    Without THING: what is installed here, and on which machine.
    """
    if schema:
        if thing is not None:
            raise click.UsageError("--schema is the same for every configuration; leave out THING")
        put_json(json.dumps(_conf_schema(), indent=2))
        return
    if warm_up:
        report("compiling the beam search and alignments, for some 20 s if they are not there")
        decoding.first_use.warm_up()
    if thing is None:
        put(*describe_installation())
        return
    starters = model.folder.starters()
    if not thing.exists():
        if str(thing) not in starters:
            named = f", and no starter: {', '.join(starters)}" if starters else ""
            raise DataError(f"{thing}: no such file or folder{named}")
        thing = starters[str(thing)]
    if thing.is_dir():
        lines = _describe_model(thing)
    elif thing.suffix in (".yaml", ".yml"):
        lines = _describe_conf(thing)
    elif is_manifest(thing):
        lines = _describe_manifest(thing)
    else:
        lines = _describe_audio(thing)
    put(*lines)


def _conf_schema() -> dict[str, Any]:
    """Of a configuration's file, which may name another that it differs from."""
    schema = Config.model_json_schema()
    sentences = _sentences()
    for name, part in {Config.__name__: schema, **schema["$defs"]}.items():
        for field, sentence in sentences[name].items():
            part["properties"][field]["description"] = sentence
    base = {"type": "string", "description": "A file beside this one, from which it differs."}
    return schema | {"properties": {"base": base, **schema["properties"]}}


def _sentences() -> dict[str, dict[str, str]]:
    """For each class of settings the sentence that stands below each of its fields.

    Pydantic would look for them whenever the classes are made, at every start of the program.
    """
    tree = ast.parse(inspect.getsource(config))
    return {
        part.name: {
            field.target.id: inspect.cleandoc(str(text.value.value))
            for field, text in pairwise(part.body)
            if isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        }
        for part in tree.body
        if isinstance(part, ast.ClassDef)
    }


def _describe_conf(path: Path) -> list[str]:
    config = load_conf(path)
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False).rstrip().split("\n")


def _describe_model(folder: Path) -> list[str]:
    loaded = model.read_model(folder)
    features, encoder = loaded.config.features, loaded.config.encoder
    step_ms = features.frame_shift_ms * encoder.subsampling
    directions = "two directions" if encoder.bidirectional else "one direction"
    shown = ", ".join("space" if s == " " else s for s in loaded.tokens.symbols[1:31])
    more = f" and {len(loaded.tokens) - 31} more" if len(loaded.tokens) > 31 else ""
    return [
        f"model        {folder}",
        f"features     {features.num_bins} values ({features.convention} {features.kind}) every "
        f"{features.frame_shift_ms:g} ms, audio at {features.sample_rate} Hz",
        f"encoder      {encoder.num_layers} {encoder.cell} layers of {encoder.hidden_size}, "
        f"{directions}; a step is {step_ms:g} ms",
        _describe_network(folder, loaded),
        f"tokens       {len(loaded.tokens)} with the blank: {shown}{more}",
        f"decoding     {decoding.options.read_decoding(folder).describe()}",
        *(
            f"{key:<12} {value}"
            for key, value in model.folder.origin_texts(loaded.training).items()
        ),
        *_card(folder),
    ]


def _card(folder: Path) -> list[str]:
    """What the folder's README.md says, after an empty line."""
    path = folder / model.folder.CARD
    if not path.is_file():
        return []
    files.check_inside(folder, path.name)
    return ["", *files.read_file(path).decode("utf-8", "replace").splitlines()]


def _describe_network(folder: Path, loaded: "model.LoadedModel") -> str:
    exported = folder / model.onnx.MODEL
    if exported.exists():
        return f"network      {exported.name}, {exported.stat().st_size / 1e6:.1f} MB"
    weights = folder / model.folder.WEIGHTS
    network = model.read_network(weights, loaded.config, len(loaded.tokens), "cpu").network
    return f"parameters   {model.encoder.count_parameters(network):,}"


def _describe_manifest(path: Path) -> list[str]:
    utterances = read_manifest(path)
    if not utterances:
        return [f"manifest     {path}", "utterances   0"]
    texts = [u.text for u in utterances if u.text is not None]
    words = [word for text in texts for word in text.split()]
    durations = sorted(u.duration for u in utterances)
    speakers = {u.speaker for u in utterances if u.speaker is not None}
    return [
        f"manifest     {path}",
        f"utterances   {len(utterances)}, {len(texts)} with text",
        f"hours        {sum(durations) / 3600:.3f}",
        f"seconds      {durations[0]:.2f} shortest, {durations[len(durations) // 2]:.2f} median, "
        f"{durations[-1]:.2f} longest",
        f"speakers     {len(speakers) or 'not given'}",
        f"words        {len(words)}, {len(set(words))} different",
        f"first        {json.dumps(texts[0], ensure_ascii=False) if texts else '-'}",
    ]


def _describe_audio(path: Path) -> list[str]:
    info = audio.inspect_audio(path)
    return [
        f"audio        {path}",
        f"format       {info.format}",
        f"duration     {info.duration:.3f} s, {info.num_samples} samples",
        f"rate         {info.sample_rate} Hz",
        f"channels     {info.num_channels}",
    ]
