"""A model's error rates on a manifest."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asr.errors import AsrError, DataError
from asr.files import open_atomic
from asr.manifest import Utterance
from asr.progress import track
from asr.recognizer import Recognizer, Transcript
from asr.scoring import Score, kaldi_lines, score
from asr.tokens import normalize


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What a model made of a test set."""

    score: Score
    failures: tuple[tuple[str, AsrError], ...]
    """Utterances that could not be read; in the score all of their words are deletions."""
    audio_seconds: float
    seconds: float
    """From the first file read to the last transcript."""

    def summary(self) -> str:
        """The score's lines, and the speed."""
        speed = self.audio_seconds / self.seconds
        return "\n".join(
            [
                *kaldi_lines(self.score),
                f"{self.audio_seconds:.0f} s of audio in {self.seconds:.1f} s, "
                f"{speed:.0f} x real time",
                "",
            ]
        )


def evaluate(
    recognizer: Recognizer, utterances: Sequence[Utterance], output_dir: Path | None = None
) -> Evaluation:
    """Transcribe and score.

    Args:
        output_dir: gets `hypotheses.jsonl` (the manifest's lines with `pred_text`), `score.txt`
            and, if some utterances failed, `failures.tsv`.

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
    evaluation = Evaluation(
        score=score(
            {u.id: normalize(u.text or "") for u in utterances},
            {utterance_id: t.text for utterance_id, t in transcripts.items()},
            speakers={u.id: u.speaker for u in utterances if u.speaker is not None},
        ),
        failures=tuple((i, r) for i, r in results.items() if isinstance(r, AsrError)),
        audio_seconds=sum(transcript.duration for transcript in transcripts.values()),
        seconds=seconds,
    )
    if output_dir is not None:
        _write(evaluation, utterances, transcripts, output_dir)
    return evaluation


def _write(
    evaluation: Evaluation,
    utterances: Sequence[Utterance],
    transcripts: dict[str, Transcript],
    folder: Path,
) -> None:
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
            if utterance.id in transcripts:
                row["pred_text"] = transcripts[utterance.id].text
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    with open_atomic(folder / "score.txt") as file:
        file.write(evaluation.summary())
