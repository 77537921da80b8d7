import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from asr.cli import main
from asr.config import Config


def described(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    assert main(["show"]) == 0
    lines = capsys.readouterr().out.splitlines()
    return {line.split()[0]: line.split(maxsplit=1)[1] for line in lines}


def test_an_installation_is_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "code.1.nbi").write_bytes(bytes(500_000))
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    values = described(capsys)
    assert values["asr"].startswith(importlib.metadata.version("asr-recipes"))
    assert values["Python"].endswith(sys.executable)
    assert values["torch"] == importlib.metadata.version("torch")
    assert int(values["processors"].split()[0]) <= (os.cpu_count() or 1)
    assert values["caches"] == f"beam search, compiled: 1 files, 0.5 MB in {tmp_path}"


@pytest.mark.parametrize(
    ("script", "gpu"),
    [
        ("echo 'NVIDIA H100, 81559 MiB, 570.1'", "NVIDIA H100, 81559 MiB, 570.1"),
        ("exit 9", "not known: nvidia-smi failed (CalledProcessError)"),
        (None, "none: there is no nvidia-smi"),
    ],
)
def test_a_gpu_is_what_the_driver_says(
    script: str | None,
    gpu: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if script:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert described(capsys)["GPU"] == gpu


def test_what_is_not_installed_is_named_with_what_brings_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    version = importlib.metadata.version

    def absent(name: str) -> str:
        if name in ("ray", "numba"):
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    values = described(capsys)
    assert (values["ray"], values["numba"]) == (
        "not installed (asr-recipes[ray])",
        "not installed",
    )


def test_describing_an_installation_imports_no_torch() -> None:
    code = "import sys; from asr.cli import main; main(['show']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_warming_up_compiles_before_it_describes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr("asr.decoding.first_use.warm_up", lambda: calls.append("compiled"))
    assert main(["show", "--warm-up"]) == 0
    assert calls == ["compiled"]
    assert "beam search, compiled" in capsys.readouterr().out


def test_the_schema_is_that_of_a_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "--schema"]) == 0
    schema: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert schema["properties"].keys() == {"base", *Config.model_fields}
    encoder = schema["$defs"]["EncoderConfig"]["properties"]
    assert encoder["cell"]["enum"] == ["rnn", "lstm", "gru"]
    assert encoder["hidden_size"]["description"] == "Units of a layer and direction."
    assert not schema["additionalProperties"]
    assert main(["show", "--schema", "conf"]) == 2
