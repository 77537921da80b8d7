import json
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.cli import data_selection, main
from asr.corpus.manifest import Utterance, read_manifest, write_manifest
from asr.corpus.split import SplitUnit, choose_splits, choose_subset
from asr.errors import DataError

SHARES = {"dev": 0.1, "test": 0.2}


def corpus(folder: Path, speakers: list[str | None]) -> Path:
    path = folder / "all.jsonl"
    write_manifest(
        [
            Utterance(
                id=f"u{index}",
                audio_filepath=folder / f"{index // 2}.wav",
                offset=float(index % 2),
                duration=1.0 + index % 5,
                text="hello there" if index % 3 else "good bye",
                speaker=speaker,
            )
            for index, speaker in enumerate(speakers)
        ],
        path,
    )
    return path


@given(
    st.dictionaries(st.text(min_size=1), st.integers(1, 50), min_size=3, max_size=40),
    st.sampled_from([SHARES, {"dev": 0.6, "test": 0.39}]),
    st.integers(0, 99),
)
def test_every_unit_is_in_one_split_and_no_split_is_empty(counts, shares, seed):
    chosen = choose_splits(counts, shares, "train", seed, "speaker")
    assert chosen.keys() == counts.keys()
    assert set(chosen.values()) == {"train", "dev", "test"}
    shuffled = dict(reversed(counts.items()))
    assert choose_splits(shuffled, shares, "train", seed, "speaker") == chosen


@given(st.integers(0, 99))
def test_shares_are_met_to_one_unit_when_units_are_alike(seed):
    counts = dict.fromkeys(map(str, range(100)), 7)
    chosen = list(choose_splits(counts, SHARES, "train", seed, "speaker").values())
    assert [chosen.count(split) for split in ("train", "dev", "test")] == [70, 10, 20]


def test_another_seed_gives_another_split():
    counts = dict.fromkeys(map(str, range(100)), 1)
    splits = [choose_splits(counts, SHARES, "train", seed, "speaker") for seed in (0, 1)]
    assert splits[0] != splits[1]


def test_fewer_speakers_than_splits_are_refused():
    with pytest.raises(DataError, match="2 different speakers"):
        choose_splits({"ann": 3, "bob": 4}, SHARES, "train", 0, "speaker")


def test_a_split_shares_no_speaker_loses_no_line_and_keeps_unknown_keys(tmp_path, capsys):
    path = corpus(tmp_path, [f"s{index % 7}" for index in range(70)])
    rows = [{**json.loads(line), "mood": "glad"} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert main(["data", "split", str(path), "--output-dir", str(tmp_path / "out")]) == 0
    parts = {
        name: read_manifest(tmp_path / "out" / f"{name}.jsonl") for name in SHARES | {"train": 0}
    }
    assert sorted(u.id for part in parts.values() for u in part) == sorted(r["id"] for r in rows)
    speakers = [{u.speaker for u in part} for part in parts.values()]
    assert sum(map(len, speakers)) == len(set.union(*speakers)) == 7
    assert parts["dev"][0].audio_filepath.parent == tmp_path
    assert '"mood": "glad"' in (tmp_path / "out" / "dev.jsonl").read_text(encoding="utf-8")
    assert "dev      10 utterances, 1 speakers" in capsys.readouterr().out


def test_without_speakers_recordings_are_divided_and_it_is_said(tmp_path, capsys):
    path = corpus(tmp_path, [None] * 60)
    assert main(["data", "split", str(path), "--output-dir", str(tmp_path / "out")]) == 0
    assert "has no speakers: recordings are divided" in capsys.readouterr().err
    folders = [
        read_manifest(tmp_path / "out" / f"{name}.jsonl") for name in ("train", "dev", "test")
    ]
    recordings = [{u.audio_filepath for u in part} for part in folders]
    assert sum(map(len, recordings)) == 30
    assert main(["data", "split", str(path), "--output-dir", str(tmp_path), "--by", "speaker"]) == 2


def test_a_speaker_that_some_utterances_lack_is_an_error_that_names_them(tmp_path, capsys):
    path = corpus(tmp_path, ["ann", None, "bob", "cleo"])
    assert main(["data", "split", str(path), "--output-dir", str(tmp_path / "out")]) == 2
    assert "1 utterances have no speaker: u1" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_texts_are_divided_when_asked_for(tmp_path):
    path = corpus(tmp_path, [None] * 9)
    arguments = ["data", "split", str(path), "--output-dir", str(tmp_path), "--by", "text"]
    assert main([*arguments, "--test", "0", "--dev", "0.3"]) == 0
    assert {u.text for u in read_manifest(tmp_path / "dev.jsonl")} == {"good bye"}
    assert {u.text for u in read_manifest(tmp_path / "train.jsonl")} == {"hello there"}


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=30), st.integers(0, 9))
def test_a_smaller_subset_is_part_of_a_larger_one_and_fits(durations, seed):
    few = choose_subset(durations, seed, utterances=len(durations) // 2)
    many = choose_subset(durations, seed, utterances=len(durations))
    assert len(few) == len(durations) // 2
    assert many == set(range(len(durations)))
    short = choose_subset(durations, seed, utterances=None, seconds=sum(durations) / 2)
    long = choose_subset(durations, seed, utterances=None, seconds=sum(durations) + 1)
    assert short <= long == many
    assert sum(durations[position] for position in short) <= sum(durations) / 2 + 1e-9


def test_subset_and_filter_keep_the_order_and_count_what_they_leave_out(tmp_path, capsys):
    path = corpus(tmp_path, ["ann", "bob"] * 10)
    output = tmp_path / "out.jsonl"
    assert main(["data", "subset", str(path), "--output", str(output), "--utterances", "5"]) == 0
    ids = [int(u.id[1:]) for u in read_manifest(output)]
    assert len(ids) == 5
    assert ids == sorted(ids)
    arguments = ["data", "filter", str(path), "--output", str(output), "--min-duration", "2"]
    capsys.readouterr()
    assert main([*arguments, "--max-duration", "4", "--match", "^hello", "--speaker", "ann"]) == 0
    expected = [
        u.id
        for u in read_manifest(path)
        if 2 <= u.duration <= 4 and u.text == "hello there" and u.speaker == "ann"
    ]
    assert [u.id for u in read_manifest(output)] == expected
    assert capsys.readouterr().out.splitlines() == [
        f"{len(expected)} of 20 utterances kept",
        "6 left out: another speaker",
        "4 left out: too short",
        "4 left out: too long",
        "3 left out: no match in the text",
    ]


@pytest.mark.parametrize(
    ("options", "kept", "objection"),
    [
        (["--min-score", "0.2"], ["a", "c"], "1 left out: a lower score"),
        (["--min-confidence", "0.9"], ["a", "b"], "1 left out: a lower confidence"),
    ],
)
def test_what_a_machine_is_less_sure_of_is_left_out(options, kept, objection, tmp_path, capsys):
    lines = [{"id": "a"}, {"id": "b", "score": 0.1999}, {"id": "c", "score": 0.2}]
    lines[2]["confidence"] = 0.5
    rows = [{"audio_filepath": "a.wav", "duration": 1, **line} for line in lines]
    path, output = tmp_path / "all.jsonl", tmp_path / "out.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert main(["data", "filter", str(path), "--output", str(output), *options]) == 0
    assert [u.id for u in read_manifest(output)] == kept
    assert capsys.readouterr().out.splitlines() == ["2 of 3 utterances kept", objection]


@pytest.mark.parametrize(
    "value",
    ["high", None, True, float("nan"), pytest.param(10**400, id="a row of digits")],
)
@pytest.mark.parametrize("key", ["score", "confidence"])
def test_a_score_that_is_no_number_is_one_line_and_no_file(key, value, tmp_path, capsys):
    path, output = tmp_path / "all.jsonl", tmp_path / "out.jsonl"
    row = {"id": "a", "audio_filepath": "a.wav", "duration": 1, key: value}
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    arguments = ["data", "filter", str(path), "--output", str(output), f"--min-{key}", "0.5"]
    assert main(arguments) == 2
    assert capsys.readouterr().err == f"asr: {path}: a: {key} is no number\n"
    assert not output.exists()


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["subset"], id="neither utterances nor hours"),
        pytest.param(["subset", "--hours", "1", "--utterances", "2"], id="both"),
        pytest.param(["subset", "--utterances", "999"], id="more than there are"),
        pytest.param(["filter"], id="no condition"),
        pytest.param(["filter", "--match", "("], id="no regular expression"),
    ],
)
def test_wrong_usage_is_one_line_and_writes_nothing(options, tmp_path, capsys):
    path = corpus(tmp_path, ["ann"] * 4)
    output = tmp_path / "out.jsonl"
    arguments = ["data", options[0], str(path), "--output", str(output), *options[1:]]
    assert main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not output.exists()


def test_a_duration_that_is_not_known_is_not_guessed(tmp_path, capsys):
    path = tmp_path / "all.jsonl"
    path.write_text('{"audio_filepath": "a.wav", "duration": 0}\n', encoding="utf-8")
    output = str(tmp_path / "out.jsonl")
    assert main(["data", "filter", str(path), "--output", output, "--min-duration", "1"]) == 2
    assert "utterance a: duration 0 is to the end of the file" in capsys.readouterr().err
    assert main(["data", "subset", str(path), "--output", output, "--hours", "1"]) == 2


TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
VALUES = st.none() | st.booleans() | st.floats(allow_nan=False) | TEXTS | st.lists(TEXTS)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.dictionaries(TEXTS, VALUES, max_size=3), max_size=8), st.data())
def test_no_line_and_no_key_of_any_manifest_is_lost(tmp_path_factory, extras, data):
    folder = tmp_path_factory.mktemp("fuzz")
    rows = [
        {**extra, "audio_filepath": f"{index}.wav", "duration": 1.5, "text": data.draw(TEXTS)}
        | ({"id": f"u{index}"} if index % 2 else {})
        for index, extra in enumerate(
            {key: value for key, value in extra.items() if key not in ("id", "speaker", "offset")}
            for extra in extras
        )
    ]
    path = folder / "all.jsonl"
    path.write_text("".join(json.dumps(row) + "\n\n" for row in rows), encoding="utf-8")
    output = folder / "sub" / "out.jsonl"
    arguments = ["data", "filter", str(path), "--output", str(output), "--max-duration", "2"]
    assert main(arguments) == 0
    found = [json.loads(line) for line in output.read_bytes().split(b"\n") if line]
    wanted = [
        {"id": str(index), **row, "audio_filepath": str(folder / f"{index}.wav")}
        for index, row in enumerate(rows)
    ]
    assert found == wanted
    assert [u.id for u in read_manifest(output)] == [u.id for u in read_manifest(path)]


def test_each_unit_can_be_chosen() -> None:
    assert get_args(SplitUnit) == data_selection.UNITS
