"""A model's error rates on a manifest."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.audio import read_audio
from asr.corpus import Utterance, is_feature_path
from asr.errors import AsrError, DataError
from asr.files import open_atomic
from asr.folders import claim_names
from asr.model import folder as model_folder
from asr.page import Posteriors
from asr.progress import track
from asr.scoring import (
    Clip,
    ScoreReport,
    page,
    score,
    write_files,
    write_html,
)
from asr.scoring import report as reports
from asr.transcription.recognizer import Recognizer, Transcript


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What a model made of a test set."""

    report: ScoreReport
    transcripts: Mapping[str, Transcript]
    """By utterance id."""
    failures: tuple[tuple[str, AsrError], ...]
    """Utterances that could not be read; in the score all of their words are deletions."""

    def summary(self) -> str:
        """The score's lines, and the speed."""
        lines = reports.report_lines(self.report)
        audio, seconds = self.report.audio_seconds or 0.0, self.report.compute_seconds or 0.0
        speed = f", {audio / seconds:.0f} x real time" if seconds else ""
        return "\n".join([*lines, f"{audio:.0f} s of audio in {seconds:.1f} s{speed}", ""])


def evaluate(
    recognizer: Recognizer, utterances: Sequence[Utterance], *, name: str, test_set: str
) -> Evaluation:
    """Transcribe and score.

    Args:
        name: of the model, for the report.
        test_set: of the utterances, likewise.

    Raises:
        DataError: an utterance has no text, or there are none.
    """
    without_text = [utterance.id for utterance in utterances if utterance.text is None]
    if without_text:
        raise DataError(f"{without_text[0]}: no text to score against ({len(without_text)} such)")
    start = time.perf_counter()
    results = {
        utterance.id: result
        for utterance, result in track(
            recognizer.transcribe_utterances(utterances),
            total=len(utterances),
            label="transcribing",
            unit="utterances",
        )
    }
    seconds = time.perf_counter() - start
    transcripts = {i: r for i, r in results.items() if isinstance(r, Transcript)}
    scored = score(
        {u.id: recognizer.reference(u.text or "") for u in utterances},
        {utterance_id: t.text for utterance_id, t in transcripts.items()},
        speakers={u.id: u.speaker for u in utterances if u.speaker is not None},
    )
    report = ScoreReport(
        score=scored,
        reference=test_set,
        hypothesis=name,
        columns={i: {"duration": round(t.duration, 3)} for i, t in transcripts.items()},
        confidences={i: [word.confidence for word in t.words] for i, t in transcripts.items()},
        clips={
            u.id: Clip(path=u.audio_filepath, offset=u.offset, duration=u.duration or None)
            for u in utterances
            if u.id in transcripts and not is_feature_path(u.audio_filepath)
        },
        audio_seconds=sum(transcript.duration for transcript in transcripts.values()),
        compute_seconds=seconds,
        provenance=model_folder.origin_texts(recognizer.training),
    )
    failures = tuple((i, r) for i, r in results.items() if isinstance(r, AsrError))
    return Evaluation(report=report, transcripts=transcripts, failures=failures)


def write_evaluation(
    evaluation: Evaluation,
    utterances: Sequence[Utterance],
    recognizer: Recognizer,
    folder: Path,
) -> None:
    """Write `hypotheses.jsonl`, the report's files and `report.html`.

    A line of `hypotheses.jsonl` is the manifest's, and `pred_text` where there is a transcript.

    Raises:
        AsrError: a file of such a name is there, and not of an earlier call.
    """
    claim_names(folder, ["hypotheses.jsonl", "report.html"])
    with open_atomic(folder / "hypotheses.jsonl") as file:
        for utterance in utterances:
            row = {
                "id": utterance.id,
                "audio_filepath": str(utterance.audio_filepath.absolute()),
                "duration": utterance.duration,
                "offset": utterance.offset,
                "text": utterance.text,
                "speaker": utterance.speaker,
            }
            if utterance.id in evaluation.transcripts:
                row["pred_text"] = evaluation.transcripts[utterance.id].text
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    report = evaluation.report
    write_files(report, folder)
    by_id = {utterance.id: utterance for utterance in utterances}
    worst = [u.id for u in report.worst_first if u.id in report.clips]
    posteriors = {i: _posteriors(recognizer, by_id[i]) for i in worst[: page.NUM_PICTURES]}
    write_html(report, folder / "report.html", read_audio, posteriors)


def _posteriors(recognizer: Recognizer, utterance: Utterance) -> Posteriors:
    audio = read_audio(
        utterance.audio_filepath,
        sample_rate=recognizer.config.features.sample_rate,
        offset=utterance.offset,
        duration=utterance.duration or None,
    )
    (log_probs,) = recognizer.log_probs([audio.samples])
    return Posteriors(
        probabilities=np.exp(log_probs),
        symbols=recognizer.tokens.symbols,
        step_seconds=recognizer.step_seconds,
    )
