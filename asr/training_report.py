"""`training.html`: a training run on one page, that needs nothing beside it."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from asr.files import open_atomic
from asr.history import figure_of

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
img { width: 100%; background: white; border-radius: 4px; }
table { border-collapse: collapse; } td, th { padding: .15rem .8rem .15rem 0; text-align: left; }
.wide { overflow-x: auto; } td.number, th.number { text-align: right; }
dt { margin-top: .8rem; opacity: .7; } dd { margin: 0; font-family: ui-monospace, monospace; }
li { margin: .3rem 0; }
"""


def write_training_report(
    path: Path,
    history: Sequence[Mapping[str, float]],
    samples: Sequence[Mapping[str, str]],
    findings: Sequence[str],
    origin: Mapping[str, Any],
) -> None:
    """Curves, what was noticed, dev utterances from the best to the worst, and the epochs.

    Args:
        samples: each `id`, `reference` and `hypothesis` at the epoch that was kept.
        findings: warnings in words.
        origin: what `training.json` says.
    """
    picture = io.BytesIO()
    figure_of(history).savefig(picture, dpi=110, format="png")
    source = base64.b64encode(picture.getvalue()).decode()
    facts = "".join(f"<tr><th>{_text(k)}</th><td>{_text(v)}</td></tr>" for k, v in origin.items())
    noticed = "".join(f"<li>{_text(finding)}</li>" for finding in findings) or "<li>Nothing.</li>"
    examples = "".join(
        f"<dt>{_text(s['id'])}</dt><dd>ref {_text(s['reference'])}<br>hyp {_text(s['hypothesis'])}"
        "</dd>"
        for s in samples
    )
    page = f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Training: dev WER {origin.get("dev_wer", 0):.2f} %</title><style>{_STYLE}</style>
<h1>Training: dev WER {origin.get("dev_wer", 0):.2f} % at epoch {origin.get("epoch")}</h1>
<img alt="Loss, dev error rates, gradient norms, learning rate and speed by epoch"
src="data:image/png;base64,{source}">
<h2>Noticed</h2><ul>{noticed}</ul>
<h2>Dev utterances, from the best to the worst</h2><dl>{examples}</dl>
<h2>Origin</h2><table>{facts}</table>
<h2>Epochs</h2><div class="wide">{_epochs(history)}</div>
</html>
"""
    with open_atomic(path) as file:
        file.write(page)


def _epochs(history: Sequence[Mapping[str, float]]) -> str:
    columns = list(dict.fromkeys(key for row in history for key in row))
    head = "".join(f'<th class="number">{_text(c.replace("_", " "))}</th>' for c in columns)
    rows = "".join(
        "<tr>"
        + "".join(f'<td class="number">{_number(row.get(c))}</td>' for c in columns)
        + "</tr>"
        for row in history
    )
    return f"<table><tr>{head}</tr>{rows}</table>"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _text(value: object) -> str:
    return html.escape(str(value))
