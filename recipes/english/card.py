"""The card of this recipe's model as a starter: what it was made from, and how good it is.

`card.md` filled in, so that no number is typed.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template

from asr.corpus import Utterance, read_manifest
from asr.model import LoadedModel

from .corpus import FOLDERS

_SET = re.compile(
    r"^([\w.-]+/(?:dev|test))$\n(.*?)(?=^[\w.-]+/(?:dev|test)$|\Z)", re.MULTILINE | re.DOTALL
)
_RATE = re.compile(r"^WER ([\d.]+) % \[([\d.]+), ([\d.]+)\]", re.MULTILINE)
_VOICES = (
    "\nsynthetic: sentences of the novels below, spoken by Piper's `joe` (a voice under CC0 1.0) "
    "and, fewer,\nby eSpeak NG.\n"
)
_NOVELS = (
    "* The language model: 170 English novels and essays in the public domain (authors who died by "
    "1925); none that\n  shares runs of seven words with the test sets."
)


def write_card(
    work: Path, model: LoadedModel, rates: Mapping[str, Mapping[str, str]], *, has_lm: bool
) -> str:
    """The card of the starter.

    Args:
        work: where the recipe ran.
        model: what it made.
        rates: columns of the table of error rates, each by set.
    """
    config, training = model.config, model.training
    train = read_manifest(work / "manifests/train.jsonl")
    heard = {(u.audio_filepath, u.offset): u for u in train}.values()
    encoder, features = config.encoder, config.features
    directions = "both directions" if encoder.bidirectional else "one direction"
    with_lm = (
        " With its trigram: a beam search weighed on dev, as `asr transcribe english` does it."
    )
    values = {
        "network": f"{encoder.num_layers} {encoder.cell.upper()} layers of {encoder.hidden_size} "
        f"in {directions}, {training['parameters'] / 1e6:.1f} million parameters, "
        f"on {features.num_bins} values every {features.frame_shift_ms:g} ms "
        f"of audio at {features.sample_rate} Hz",
        "tokens": f"its {len(model.tokens)} tokens are the letters, the apostrophe, the space and "
        "the blank",
        "epochs": str(config.training.epochs),
        "best": str(training["epoch"]),
        "seed": str(training["seed"]),
        "hours": f"{training['seconds'] / 3600:.1f}",
        "program": str(training["program"]),
        "began": _describe_start(training.get("init")),
        "utterances": f"{len(heard):,}",
        "data_hours": f"{sum(u.duration for u in heard) / 3600:.2f}",
        "data": list_data(list(heard), config.corpus["weights"]),
        "voices": _VOICES if config.corpus["weights"].get("synthetic") else "",
        "results": list_rates(rates),
        "shipped": "As trained, and as stored here in 8 bits." + (with_lm if has_lm else ""),
        "text": _NOVELS if has_lm else "",
    }
    template = Path(__file__).with_name("card.md").read_text(encoding="utf-8")
    return Template(template).substitute(values).rstrip() + "\n"


def _describe_start(init: Mapping[str, object] | None) -> str:
    """Of a model that did not begin with random weights."""
    if init is None:
        return ""
    return (
        f"\nIt began with the weights of an earlier run of the same recipe, which had "
        f"{init['dev_wer']:.1f} % of the dev sets' words wrong."
    )


def list_data(heard: Sequence[Utterance], weights: Mapping[str, int]) -> str:
    """Each corpus with its hours and speakers, as a table."""
    parts: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in heard:
        path = utterance.audio_filepath.as_posix()
        name = next((name for name, part in FOLDERS.items() if f"/{part}/" in path), "synthetic")
        parts[name].append(utterance)
    rows = [
        f"| {name} | {len(part):,} | {sum(u.duration for u in part) / 3600:.2f} | "
        f"{len({u.speaker for u in part})} | {weights[name]} |"
        for name, part in parts.items()
    ]
    header = "| corpus | utterances | hours | speakers | times in an epoch |\n|---|---|---|---|---|"
    return "\n".join([header, *rows])


def list_rates(rates: Mapping[str, Mapping[str, str]]) -> str:
    """Each set's error rates in %, as a table."""
    sets = rates["trained"]
    rows = [
        f"| {name} | {' | '.join(column.get(name, '') for column in rates.values())} |"
        for name in sets
    ]
    return "\n".join([f"| set | {' | '.join(rates)} |", "|---" * (len(rates) + 1) + "|", *rows])


def read_rates(result: str) -> dict[str, str]:
    """The error rate of the best path of each set in `result.txt`, in % with its interval."""
    return {name: last_rate(block) for name, block in _SET.findall(result)}


def last_rate(summary: str) -> str:
    """The last error rate that a summary states: where there are two, that of the best path."""
    rate = _RATE.findall(summary)[-1]
    return f"{float(rate[0]):.1f} [{float(rate[1]):.1f}, {float(rate[2]):.1f}]"
