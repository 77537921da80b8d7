from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from asr.corpus import Utterance, write_manifest
from asr.corpus.noises import Kind, check_apart, list_noises, trim_room
from asr.errors import DataError

RATE = 8000


def write(path: Path, samples: Any, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate)
    return path


def hiss(seconds: float = 1.0, seed: int = 0) -> Any:
    return 0.1 * np.random.default_rng(seed).standard_normal(int(seconds * RATE))


def utterance(path: Path, **values: Any) -> Utterance:
    return Utterance(**{"id": "u1", "audio_filepath": path, "duration": 1.0, **values})


def test_files_folders_and_manifests_are_listed_with_their_lengths(tmp_path: Path) -> None:
    write(tmp_path / "folder/inner/a.wav", hiss(1.0))
    write(tmp_path / "folder/b.flac", hiss(2.0))
    alone = write(tmp_path / "c.wav", hiss(3.0))
    part = utterance(alone, id="x", offset=0.5, duration=0.75)
    write_manifest([part], tmp_path / "m.jsonl")
    noises = list_noises([tmp_path / "folder", alone, tmp_path / "m.jsonl"], "noise")
    assert sorted(n.duration for n in noises) == pytest.approx([0.75, 1.0, 2.0, 3.0])
    assert noises[-1].offset == 0.5
    assert len({n.id for n in noises}) == 4


@pytest.mark.parametrize(
    ("samples", "kind", "message"),
    [
        (np.zeros(RATE), "noise", "silent, no noise is in it"),
        (0.0001 * hiss(), "noise", "silent, no noise is in it"),
        (np.zeros(RATE), "room", "silent, no room is in it"),
        (np.clip(20 * hiss(), -0.9, 0.9), "noise", "clipped, .* are flat tops"),
        (hiss(0.3), "noise", "0.300 s: too short for a noise; 0.5 s are the least"),
        (hiss(0.005), "room", "0.005 s: too short for a room"),
    ],
)
def test_what_is_of_no_use_is_one_line_that_names_it(
    samples: Any, kind: Kind, message: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "bad.wav", samples)
    with pytest.raises(DataError, match=message) as raised:
        list_noises([tmp_path], kind)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)


def test_what_is_not_there_or_not_audio_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        list_noises([tmp_path / "nowhere"], "noise")
    with pytest.raises(DataError, match="no audio files in it"):
        list_noises([tmp_path], "noise")
    (tmp_path / "text.wav").write_text("not audio")
    with pytest.raises(DataError, match=r"text\.wav"):
        list_noises([tmp_path], "noise")


def test_impulse_responses_may_be_short_and_reach_full_scale(tmp_path: Path) -> None:
    click = np.zeros(200)
    click[:4] = 1.0
    write(tmp_path / "room.wav", click)
    assert len(list_noises([tmp_path], "room")) == 1


def test_noise_with_audio_of_a_test_set_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "noise/long.wav", hiss(3.0))
    noises = list_noises([path], "noise")
    inside = utterance(path, offset=1.0, duration=0.5)
    with pytest.raises(DataError, match=r"long.wav: has the audio of u1 of test.jsonl"):
        check_apart(noises, [inside], "test.jsonl")
    write_manifest([utterance(path, id="x", offset=2.0, duration=1.0)], tmp_path / "m.jsonl")
    later = list_noises([tmp_path / "m.jsonl"], "noise")
    check_apart(later, [inside], "test.jsonl")
    with pytest.raises(DataError, match="has the audio of u1"):
        check_apart(later, [utterance(path, duration=0.0)], "test.jsonl")  # to the end
    (tmp_path / "link.wav").symlink_to(path)
    with pytest.raises(DataError, match="has the audio of u1"):
        check_apart(noises, [utterance(tmp_path / "link.wav")], "test.jsonl")


def test_a_copy_of_test_audio_is_refused_in_another_container(tmp_path: Path) -> None:
    samples = np.round(hiss(1.0, seed=1) * 32767).astype(np.int16)
    noises = list_noises([write(tmp_path / "noise/n.flac", samples)], "noise")
    copy = write(tmp_path / "copy.wav", samples)
    other = write(tmp_path / "other.wav", hiss(1.0, seed=2))
    check_apart(noises, [utterance(other)], "test.jsonl")
    with pytest.raises(DataError, match="has the audio of u1"):
        check_apart(noises, [utterance(other, id="u0"), utterance(copy)], "test.jsonl")


def test_a_room_begins_with_its_direct_sound_at_full_scale() -> None:
    response = np.zeros(4 * RATE, np.float32)
    response[100], response[150], response[-1] = -0.25, 0.1, 0.2
    trimmed = trim_room(response, RATE)
    assert len(trimmed) == 2 * RATE
    assert trimmed[0] == pytest.approx(-0.99)
    assert trimmed[50] == pytest.approx(0.4 * 0.99)
