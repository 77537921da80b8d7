from pathlib import Path

from asr.config import Config, LanguageModelConfig, Settings
from asr.values import fingerprint, fingerprint_rows, named_files, plain_values, section_values


class Places(Settings):
    one: Path
    several: tuple[Path, ...] = ()
    range: tuple[int, int] = (1, 2)


def test_paths_stay_paths_among_plain_values() -> None:
    places = Places(one=Path("a"), several=(Path("b"), Path("c")))
    assert plain_values(places) == {
        "one": Path("a"),
        "several": [Path("b"), Path("c")],
        "range": [1, 2],
    }


def test_sections_and_the_files_that_they_name() -> None:
    places = plain_values(Places(one=Path("a"), several=(Path("b"), Path("c"))))
    config = Config(lm=LanguageModelConfig(text=Path("words.txt")), corpus=places)
    assert named_files(config, ["lm", "training.seed"]) == {"lm.text": Path("words.txt")}
    assert named_files(config, ["corpus"]) == {
        "corpus.one": Path("a"),
        "corpus.several.0": Path("b"),
        "corpus.several.1": Path("c"),
    }
    values = section_values(config, ["lm.text", "tokens"])
    assert values == {
        "lm.text": "words.txt",
        "tokens": {"kind": "characters", "vocabulary_size": 256},
    }


def test_fine_tuning_is_no_setting_without_a_model_to_start_from() -> None:
    """A work folder of a version without it stays as it is: nothing is trained anew."""
    init = {"replay": "old.jsonl", "freeze_share": 0.5}
    config = Config.model_validate({"training": {"init": init}})
    names = ["training", "training.init.replay", "training.seed"]
    values = section_values(config, names)
    assert list(values) == ["training", "training.seed"]
    assert "init" not in values["training"]
    assert named_files(config, names) == {}
    config = Config.model_validate({"training": {"init": {"model": "m", **init}}})
    assert section_values(config, names)["training"]["init"]["freeze_share"] == 0.5
    assert named_files(config, names) == {
        "training.init.model": Path("m"),
        "training.init.replay": Path("old.jsonl"),
    }


def test_recorded_noise_is_no_setting_where_there_is_none() -> None:
    names = ["augment", "augment.noise_files", "augment.codecs"]
    values = section_values(Config(), names)
    assert list(values) == ["augment"]
    assert not {"noise_files", "reverb_files", "codecs"} & set(values["augment"])
    augment = {"noise_files": ["cafe"], "noise_probability": 1, "codecs": ["mp3"]}
    config = Config.model_validate({"augment": augment})
    values = section_values(config, names)
    assert values["augment"]["noise_files"] == values["augment.noise_files"] == ["cafe"]
    assert values["augment.codecs"] == ["mp3"]
    assert named_files(config, ["augment.noise_files"]) == {"augment.noise_files.0": Path("cafe")}


def test_further_speech_is_no_setting_where_there_is_none() -> None:
    names = ["training", "training.more"]
    values = section_values(Config(), names)
    assert list(values) == ["training"]
    assert "more" not in values["training"]
    config = Config.model_validate({"training": {"more": [{"manifest": "pseudo.jsonl"}]}})
    assert section_values(config, names)["training.more"][0]["weight"] == 1
    assert named_files(config, ["training.more"]) == {
        "training.more.0.manifest": Path("pseudo.jsonl")
    }


def test_a_fingerprint_is_of_values_and_not_of_their_order() -> None:
    assert fingerprint({"a": 1, "b": [2, "ä"]}) == fingerprint({"b": [2, "ä"], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    # Marks in work folders hold it: another digest would run every stage again.
    assert fingerprint({"a": 1}) == "f9d86028c6e0d64e"


def test_the_fingerprint_of_rows_is_that_of_their_list() -> None:
    for rows in ([], [["a", 1]], [["a", 1], ["ä", 2], {"x": None}]):
        assert fingerprint_rows(iter(rows)) == fingerprint(rows)
