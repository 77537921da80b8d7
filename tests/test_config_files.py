from pathlib import Path

import pytest

from asr.config import Config
from asr.config_files import load_conf, load_config, write_config
from asr.errors import ConfigError
from tests.conftest import ROOT


def test_a_configuration_states_what_differs_from_its_base(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        "encoder: {num_layers: 2, dropout: 0.1}\ntokens: {kind: bpe}"
    )
    (tmp_path / "own.yaml").write_text("base: base.yaml\nencoder: {dropout: 0.3}\nlm: {order: 3}")
    config = load_conf(tmp_path / "own.yaml", ["encoder.num_layers=4"])
    assert (config.encoder.num_layers, config.encoder.dropout) == (4, 0.3)
    assert (config.tokens.kind, config.lm.order) == ("bpe", 3)
    (tmp_path / "base.yaml").write_text("base: own.yaml")
    with pytest.raises(ConfigError, match=r"own.yaml: base base.yaml has a base itself"):
        load_conf(tmp_path / "own.yaml")
    (tmp_path / "base.yaml").unlink()
    with pytest.raises(ConfigError, match=r"base.yaml: No such file"):
        load_conf(tmp_path / "own.yaml")


@pytest.mark.parametrize(
    "content",
    ["root:$6$secret: x: y", "- [secret", "{secret: *secret}", "!secret x", "secret", "\x1bsecret"],
)
def test_what_a_base_holds_is_not_shown(tmp_path: Path, content: str) -> None:
    (tmp_path / "shadow.yaml").write_text(content)
    (tmp_path / "shadow").write_text(content)
    for base, message in (("shadow.yaml", r"shadow\.yaml"), ("shadow", "another .yaml file")):
        (tmp_path / "own.yaml").write_text(f"base: {base}\n")
        with pytest.raises(ConfigError, match=message) as caught:
            load_conf(tmp_path / "own.yaml")
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "conf").glob("*/*.yaml")),
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_every_configuration_is_one(path: Path) -> None:
    load_conf(path)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("lm: {text: words.txt}\naugment: {speeds: [0.9, 1.1]}")
    config = load_conf(tmp_path / "own.yaml", ["training.seed=7"])
    write_config(config, tmp_path / "all.yaml")
    assert load_config(tmp_path / "all.yaml", Config) == config
    assert (config.training.seed, config.augment.speeds) == (7, (0.9, 1.1))


def test_what_is_wrong_is_named_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("training: {epochs: 3}")
    said = r"own\.yaml with training\.epochs=4 training\.seeds=1: training\.seeds: unknown key"
    with pytest.raises(ConfigError, match=said):
        load_conf(path, ["training.epochs=4", "training.seeds=1"])
    path.write_text("training: {epoch: 3}")
    with pytest.raises(ConfigError, match=r"own\.yaml: training\.epoch: unknown key"):
        load_conf(path, ["training.epochs=4"])
    path.write_text("training: {epochs: 0}")  # needs a model, or an override
    with pytest.raises(ConfigError, match=r"own\.yaml with training\.epcohs=1: training\.epcohs"):
        load_conf(path, ["training.epcohs=1"])
    assert load_conf(path, ["training.epochs=1"]).training.epochs == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epochs", "KEY=VALUE is expected"),
        ("=3", "KEY=VALUE is expected"),
        ("training.epochs.x=3", "epochs is not a section"),
        ("training.epochs=[", "the value is not YAML"),
        ("training.epochs=2024-13-45", "the value is not YAML"),
        (
            "training.epochs=none",
            r"own\.yaml .*: training\.epochs: Input should be a valid int",
        ),
        (
            "training.epcohs=3",
            r"own\.yaml .*: training\.epcohs: unknown key; did you mean epochs",
        ),
    ],
)
def test_an_override_that_cannot_be_is_named(tmp_path: Path, override: str, message: str) -> None:
    (tmp_path / "own.yaml").write_text("training: {epochs: 3}")
    with pytest.raises(ConfigError, match=message):
        load_conf(tmp_path / "own.yaml", [override])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: b: c", r"own\.yaml:1: not YAML, character 5"),
        (b"\xff\xfe\xfd", r"own\.yaml: not YAML"),
        (b"- a", "a mapping of sections is expected"),
        (b"lm: {order: 2024-13-45}", r"own\.yaml: a value that is none, as a date"),
        (b"lm: {order: " + b"9" * 5000 + b"}", r"own\.yaml: a value that is none"),
        (b"a: &x [1]\nb: [*x, *x]", r"own\.yaml: an alias \(`\*name`\) is not read"),
        (b"a: " + b"[" * 100_000, r"own\.yaml: more than 30 sections in sections"),
        (b"a: 1 " + b"#" * 2**18, r"own\.yaml: more than 262,144 bytes"),
    ],
)
def test_a_file_that_is_no_configuration_is_named(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "own.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_conf(tmp_path / "own.yaml")
