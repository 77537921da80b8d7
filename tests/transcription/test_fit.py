from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from asr.cli import main
from asr.corpus.checks.examination import examine
from asr.corpus.checks.sound import Case
from asr.corpus.manifest import read_manifest, write_manifest
from asr.transcription.fit import Fit, check_fits, measure_fits
from asr.transcription.recognizer import Recognizer
from tests import tones


@pytest.fixture(scope="module")
def tone_model(tone_run: Path) -> Path:
    return tone_run / "model"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unseen")
    write_manifest(tones.write_corpus(folder / "audio", 30, seed=91), folder / "unseen.jsonl")
    return folder / "unseen.jsonl"


def test_wrong_transcripts_are_found_worst_first_and_right_ones_are_not(tone_model, corpus, capsys):
    utterances = read_manifest(corpus)
    arguments = ["--model", str(tone_model), "--device", "cpu"]
    main(["data", "check", str(corpus), *arguments])
    assert "wrong-transcript" not in capsys.readouterr().out
    swapped = {"la": "mi", "mi": "la"}
    several = [u for u in utterances if len((u.text or "").split()) == 4]
    all_wrong, one_wrong = several[0], several[1]
    words = (all_wrong.text or "").split()
    wrong = {
        all_wrong.id: " ".join(swapped[word] for word in words),
        one_wrong.id: " ".join([*(one_wrong.text or "").split()[:-1], "mi la la mi"]),
    }
    changed = [replace(u, text=wrong.get(u.id, u.text)) for u in utterances]
    write_manifest(changed, corpus.parent / "wrong.jsonl")
    main(["data", "check", str(corpus.parent / "wrong.jsonl"), *arguments])
    lines = capsys.readouterr().out.splitlines()
    first = next(i for i, line in enumerate(lines) if "wrong-transcript" in line)
    assert {line.split(":")[0].strip() for line in lines[first + 1 : first + 3]} == set(wrong)
    assert f"heard {all_wrong.text!r}" in "".join(lines[first + 1 : first + 3])


def test_a_text_too_long_for_its_audio_has_no_path(tone_model, corpus, capsys):
    utterances = read_manifest(corpus)
    long = replace(utterances[4], text=" ".join(["la mi"] * 60))
    write_manifest([*utterances[:4], long], corpus.parent / "long.jsonl")
    arguments = ["data", "check", str(corpus.parent / "long.jsonl"), "--model", str(tone_model)]
    assert main([*arguments, "--device", "cpu"]) == 1
    assert f"{long.id}: 359 steps needed, " in capsys.readouterr().out


def test_a_deficit_is_that_of_torchs_forced_alignment(tone_model, corpus):
    import torchaudio

    recognizer = Recognizer.load(tone_model, device="cpu")
    cases = list(examine([corpus]).cases)[:5]
    for fit in measure_fits(cases, recognizer):
        samples = tones_of(fit.case)
        (log_probs,) = recognizer.log_probs([samples])
        targets = torch.tensor([recognizer.tokens.encode(fit.case.utterance.text or "")])
        _, scores = torchaudio.functional.forced_align(torch.tensor(log_probs)[None], targets)
        wanted = (log_probs.max(axis=1).sum() - float(scores.sum())) / targets.shape[1]
        assert fit.deficit == pytest.approx(wanted, abs=1e-3)
        assert fit.steps == len(log_probs)


def tones_of(case: Case) -> np.ndarray:
    from asr.audio.stream import read_audio

    return read_audio(case.utterance.audio_filepath, sample_rate=tones.RATE).samples


def test_only_what_stands_out_is_reported(corpus):
    (case, *_) = examine([corpus]).cases
    random = np.random.default_rng(0)

    def fits(deficits: list[float]) -> list[Fit]:
        return [Fit(case=case, steps=9, needed=3, deficit=d, heard="") for d in deficits]

    usual = random.uniform(2.0, 3.0, 100).tolist()  # a model that fits nothing well
    assert list(check_fits(fits(usual))) == []
    found = list(check_fits(fits([*usual, 8.0, 12.0])))
    assert [(finding.kind, finding.value) for finding in found] == [
        ("wrong-transcript", 12.0),
        ("wrong-transcript", 8.0),
    ]
    assert list(check_fits(fits([0.0] * 99 + [0.5]))) == []


def test_a_folder_that_is_no_model_is_said_at_once(corpus, tmp_path, capsys):
    assert main(["data", "check", str(corpus), "--model", str(tmp_path)]) == 2
    assert "not a model folder" in capsys.readouterr().err
