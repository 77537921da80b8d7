"""`training.html`: a training run on one page: result, curves, dev utterances, epochs, settings."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from asr import page
from asr.files import open_atomic
from asr.model import folder as model_folder
from asr.scoring import UtteranceScore, score
from asr.training.history import CURVES, History, draw_curve, find_best

_COLUMNS = {
    "loss": "loss (nats a token)",
    "dev_loss": "dev loss (nats a token)",
    "dev_wer": "dev WER (%)",
    "dev_cer": "dev CER (%)",
    "dev_empty": "dev without words (%)",
    "skipped": "utterances skipped",
    "bad_steps": "steps left out",
    "seconds": "time (s)",
    "real_time_factor": "audio seconds a second",
    "data_wait": "share of time waiting for data",
}


def write_training_report(
    path: Path,
    history: History,
    samples: Sequence[Mapping[str, str]],
    findings: Sequence[str],
    origin: Mapping[str, Any],
    config: Mapping[str, Any],
) -> None:
    """Curves, what was noticed, dev utterances from the best to the worst, and the epochs.

    Args:
        samples: each `id`, `reference` and `hypothesis` at the epoch that was kept.
        findings: warnings in words.
        origin: what `training.json` says.
        config: every setting.
    """
    rate = f"{origin.get('dev_wer', 0):.2f}"
    columns = list(dict.fromkeys(key for row in history for key in row))
    best = find_best(history)
    content = page.render_template(
        "training.html",
        f"Training: dev WER {rate} % at epoch {origin.get('epoch')}",
        rate=rate,
        sure=f"at epoch {origin.get('epoch')} of {history[-1]['epoch']:.0f}",
        facts=page.describe_origin(model_folder.origin_texts(origin)),
        findings=findings,
        curves=[*_curves(history)],
        samples=_scored(samples),
        columns=[_COLUMNS.get(column, column.replace("_", " ")) for column in columns],
        epochs=[(row is best, [_number(row.get(column)) for column in columns]) for row in history],
        settings=yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True),
    )
    with open_atomic(path) as file:
        file.write(content)


def _curves(history: History) -> Iterator[tuple[str, str]]:
    for curve in CURVES:
        picture = base64.b64encode(draw_curve(history, curve)).decode()
        yield curve.label, f"data:image/svg+xml;base64,{picture}"


def _scored(samples: Sequence[Mapping[str, str]]) -> Sequence[UtteranceScore]:
    if not samples:
        return ()
    references = {sample["id"]: sample["reference"] for sample in samples}
    hypotheses = {sample["id"]: sample["hypothesis"] for sample in samples}
    return score(references, hypotheses).utterances


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
