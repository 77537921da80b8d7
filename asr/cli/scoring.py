"""`asr score` and `asr compare`."""

import json
from collections.abc import Callable
from pathlib import Path

import click

from asr import audio, scoring
from asr.cli import terminal
from asr.cli.terminal import put, put_json, tell
from asr.errors import DataError
from asr.folders import claim_names
from asr.text import find_normalizer, nist

_FORMATS = ("text", "json", "html")
_MAX_SECONDS = 1e7
_FILE = click.Path(path_type=Path)
_NORMALIZER = click.option(
    "--normalizer", default="none", help="none, basic, english or whisper; on both sides."
)
_UTT2SPK = click.option(
    "--utt2spk", type=_FILE, help="Speakers: a line `utterance speaker` for each utterance."
)
_GAPS = click.option(
    "--gaps",
    type=click.Choice(["following", "nearest"]),
    default="following",
    help="The segment of a .stm to which words of a .ctm between two segments belong.",
)
_ALLOW_EXTRA = click.option(
    "--allow-extra", is_flag=True, help="Leave out hypotheses without a reference."
)


def _formats(_context: click.Context, _option: click.Parameter, value: str) -> list[str]:
    names = [name.strip() for name in value.split(",")]
    for name in names:
        if name not in _FORMATS:
            raise click.BadParameter(f"{name!r} is not one of {', '.join(_FORMATS)}")
    return names


@click.command()
@click.argument("ref", type=_FILE)
@click.argument("hyp", type=_FILE)
@click.option(
    "--format", "formats", default="text", callback=_formats, help="text, json, html, with commas."
)
@click.option("--output-dir", type=_FILE, help="Folder for the report and the files of detail.")
@_NORMALIZER
@_UTT2SPK
@click.option("--max-wer", type=float, metavar="PERCENT", help="Exit with 1 if the WER is higher.")
@_ALLOW_EXTRA
@_GAPS
def score(
    ref: Path,
    hyp: Path,
    formats: list[str],
    output_dir: Path | None,
    normalizer: str,
    utt2spk: Path | None,
    max_wer: float | None,
    allow_extra: bool,
    gaps: nist.Gaps,
) -> int:
    """Word error rate of hypotheses HYP against references REF, joined by utterance id.

    Each may be a manifest, Kaldi text, .trn, .stm with .ctm, or another toolkit's result file.
    """
    if output_dir is None and (len(formats) > 1 or "html" in formats):
        raise click.UsageError(f"--format {','.join(formats)} needs --output-dir")
    if max_wer is not None and max_wer < 0:
        raise click.UsageError(f"--max-wer {max_wer} is not a percentage")
    normalize = None if normalizer == "none" else find_normalizer(normalizer)
    pair, speakers = _read(ref, hyp, utt2spk, allow_extra, gaps)
    scored = _score(pair, normalize, speakers, allow_extra)
    report = scoring.ScoreReport(
        score=scored,
        reference=ref.name,
        hypothesis=hyp.name,
        normalizer=normalizer,
        raw=_score(pair, None, speakers, allow_extra) if normalize else None,
        columns=pair.references.columns,
        clips=_clips(ref, pair),
    )
    if output_dir is not None:
        scoring.write_files(report, output_dir)
    if output_dir is not None and "html" in formats:
        claim_names(output_dir, ["report.html"])
        scoring.write_html(report, output_dir / "report.html", audio.read_audio)
    if formats == ["json"]:
        put_json(scoring.report.report_json(report))
    else:
        put(*scoring.report.report_lines(report))
    for note in (*pair.notes, *scoring.report.report_notes(report)):
        terminal.report(f"note: {note}")
    return _threshold(scored.words.rate, max_wer)


@click.command()
@click.argument("ref", type=_FILE)
@click.argument("hyp_a", type=_FILE)
@click.argument("hyp_b", type=_FILE)
@click.option("--format", "output_format", type=click.Choice(["text", "json"]), default="text")
@_NORMALIZER
@_UTT2SPK
@_ALLOW_EXTRA
@_GAPS
def compare(
    ref: Path,
    hyp_a: Path,
    hyp_b: Path,
    output_format: str,
    normalizer: str,
    utt2spk: Path | None,
    allow_extra: bool,
    gaps: nist.Gaps,
) -> int:
    """Whether HYP_A and HYP_B differ in word errors against REF by more than chance."""
    normalize = None if normalizer == "none" else find_normalizer(normalizer)
    scores = []
    for path in (hyp_a, hyp_b):
        pair, speakers = _read(ref, path, utt2spk, allow_extra, gaps)
        scores.append(_score(pair, normalize, speakers, allow_extra))
        for note in pair.notes:
            terminal.report(f"note: {path}: {note}")
    result = scoring.comparison.compare(*scores)
    if output_format == "json":
        put_json(json.dumps(scoring.comparison.comparison_values(result), indent=1))
    else:
        put(*scoring.comparison.comparison_lines(result))
    for name, one in zip("AB", scores, strict=True):
        if one.missing:
            terminal.report(
                f"note: {name}: {len(one.missing)} without a hypothesis, counted as deletions"
            )
    for note in scoring.comparison.comparison_notes(result):
        terminal.report(f"note: {note}")
    return 0


def _read(
    ref: Path, hyp: Path, utt2spk: Path | None, allow_extra: bool, gaps: nist.Gaps
) -> tuple[scoring.transcripts.TranscriptPair, dict[str, str]]:
    pair = scoring.read_pair(ref, hyp, allow_extra=allow_extra, gaps=gaps)
    if utt2spk is None:
        return pair, pair.references.speakers
    speakers = scoring.transcripts.read_utt2spk(utt2spk)
    unknown = [
        utterance_id for utterance_id in pair.references.texts if utterance_id not in speakers
    ]
    if unknown:
        raise DataError(f"{utt2spk}: {len(unknown)} utterances are not in it, as {unknown[0]}")
    return pair, speakers


def _score(
    pair: scoring.transcripts.TranscriptPair,
    normalize: Callable[[str], str] | None,
    speakers: dict[str, str],
    allow_extra: bool,
) -> scoring.Score:
    return scoring.score(
        pair.references.texts,
        pair.hypotheses,
        normalizer=normalize,
        speakers=speakers,
        allow_extra=allow_extra,
    )


def _clips(ref: Path, pair: scoring.transcripts.TranscriptPair) -> dict[str, scoring.Clip]:
    """The audio that the references' manifest names, where it is there."""
    clips = {}
    for utterance_id, row in pair.references.columns.items():
        audio = row.get("audio_filepath")
        if isinstance(audio, str) and _is_file(ref.parent / audio):
            clips[utterance_id] = scoring.Clip(
                path=ref.parent / audio,
                offset=_seconds(row.get("offset")) or 0.0,
                duration=_seconds(row.get("duration")),
            )
    return clips


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or with a zero byte
        return False


def _seconds(value: object) -> float | None:
    """A length of time that audio may have; None for all else that a manifest may say."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if 0 <= value <= _MAX_SECONDS else None


def _threshold(rate: float | None, max_wer: float | None) -> int:
    if max_wer is None or (rate is not None and rate <= max_wer):
        return 0
    shown = "undefined: no reference has words" if rate is None else f"{rate:.2f} %"
    tell(f"WER {shown}; at most {max_wer:g} % was asked for")
    return 1
