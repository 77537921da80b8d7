"""`training.html`: a training run on one page, that needs nothing beside it."""

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from asr.files import open_atomic
from asr.progress import format_seconds
from asr.scoring import UtteranceScore, errors, score
from asr.training.history import CURVES, History, draw_curve, find_best

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; --wrong: #b3261e; --right: #1b7f3b; }
@media (prefers-color-scheme: dark) { :root { --wrong: #ff8a80; --right: #7bd88f; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin-top: 2rem; }
header p { margin-top: .2rem; opacity: .75; }
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); }
.curves img { width: 100%; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .85rem; }
td, th { padding: .15rem .8rem .15rem 0; text-align: left; vertical-align: top; }
.wide { overflow-x: auto; } .wide td, .wide th { text-align: right; white-space: nowrap; }
.wide th { vertical-align: bottom; white-space: normal; font-weight: normal; opacity: .7; }
.best td { font-weight: bold; color: var(--right); }
dt { margin-top: .8rem; opacity: .7; font-size: .85rem; } dd { margin: 0; overflow-wrap: anywhere; }
dd span { display: inline-block; width: 2.2rem; opacity: .6; font-size: .85rem; }
del, ins { text-decoration: none; border-bottom: 2px solid; }
del { color: var(--wrong); } ins { color: var(--right); }
li { margin: .3rem 0; } pre { overflow-x: auto; font-size: .85rem; }
"""


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
    title = f"dev WER {origin.get('dev_wer', 0):.2f} % at epoch {origin.get('epoch')}"
    summary = (
        f"CER {origin.get('dev_cer', 0):.2f} %, {len(history)} epochs in "
        f"{format_seconds(origin.get('seconds', 0))}, {origin.get('utterances', 0):,} utterances, "
        f"{origin.get('parameters', 0) / 1e6:.2f} million parameters"
    )
    curves = "".join(_picture(curve.label, draw_curve(history, curve)) for curve in CURVES)
    noticed = "".join(f"<li>{_text(finding)}</li>" for finding in findings) or "<li>Nothing.</li>"
    facts = "".join(f"<tr><th>{_text(k)}</th><td>{_text(v)}</td></tr>" for k, v in origin.items())
    settings = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
    page = f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>Training: {title}</title><style>{_STYLE}</style>
<header><h1>Training: {title}</h1><p>{summary}</p></header>
<div class="curves">{curves}</div>
<h2>Noticed</h2><ul>{noticed}</ul>
<h2>Dev utterances, from the best to the worst</h2><dl>{_examples(samples)}</dl>
<h2>Epochs</h2><div class="wide">{_epochs(history)}</div>
<h2>Origin</h2><table>{facts}</table>
<details><summary>Configuration, every value</summary><pre>{_text(settings)}</pre></details>
</html>
"""
    with open_atomic(path) as file:
        file.write(page)


def _picture(label: str, content: bytes) -> str:
    source = base64.b64encode(content).decode()
    return f'<img alt="{_text(label)} by epoch" src="data:image/svg+xml;base64,{source}">'


def _examples(samples: Sequence[Mapping[str, str]]) -> str:
    if not samples:
        return ""
    references = {sample["id"]: sample["reference"] for sample in samples}
    hypotheses = {sample["id"]: sample["hypothesis"] for sample in samples}
    return "".join(_example(scored) for scored in score(references, hypotheses).utterances)


def _example(scored: UtteranceScore) -> str:
    pairs = [*scored.pairs()]
    said = _words("del", [(word, letter) for letter, word, _ in pairs])
    heard = _words("ins", [(word, letter) for letter, _, word in pairs])
    rate = scored.characters.rate or 0.0
    return (
        f"<dt>{_text(scored.id)}, CER {rate:.0f} %</dt>"
        f'<dd dir="auto"><span>ref</span>{said}</dd><dd dir="auto"><span>hyp</span>{heard}</dd>'
    )


def _words(tag: str, words: Iterable[tuple[str | None, str]]) -> str:
    return " ".join(
        _text(word) if letter == errors.CORRECT else f"<{tag}>{_text(word)}</{tag}>"
        for word, letter in words
        if word is not None
    )


def _epochs(history: History) -> str:
    columns = list(dict.fromkeys(key for row in history for key in row))
    head = "".join(f"<th>{_text(column.replace('_', ' '))}</th>" for column in columns)
    best = find_best(history)
    rows = "".join(
        f"<tr{' class=best' if row is best else ''}>"
        + "".join(f"<td>{_number(row.get(column))}</td>" for column in columns)
        + "</tr>"
        for row in history
    )
    return f"<table><tr>{head}</tr>{rows}</table>"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _text(value: object) -> str:
    return html.escape(str(value))
