"""What is installed, and on which machine: `asr show` without a thing."""

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import asr
from asr import model
from asr.version import program_version

_PACKAGES = {
    "numpy": "",
    "torch": "",
    "torchaudio": "",
    "lightning": "",
    "numba": "",
    "soundfile": "",
    "soxr": "",
    "av": "m4a, mp4, webm and others",
    "sentencepiece": "",
    "onnxruntime": "asr-recipes[export]",
    "onnx": "asr-recipes[export]",
    "espeakng-loader": "asr-recipes[synthesis]",
    "sherpa-onnx": "asr-recipes[voices]",
    "ray": "asr-recipes[ray]",
    "faster-whisper": "asr-recipes[whisper]",
}
"""What results and speed depend on, with what brings or needs those that may be missing."""

_INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "bf16")
_TIMEOUT = 5.0  # seconds for a driver that does not answer


def describe_installation() -> list[str]:
    """Versions, processors, GPU and caches, a line each; torch is not imported for it."""
    values = {
        "asr": f"{program_version()}, {Path(asr.__file__).parent}",
        "Python": f"{platform.python_version()}, {sys.executable}",
        **{name: _version(name, note) for name, note in _PACKAGES.items()},
        "system": platform.platform(),
        "processors": _processors(),
        "GPU": _gpu(),
        "caches": _compiled_code(),
        "starters": ", ".join(model.folder.starters()) or "none comes with this package",
    }
    return [f"{name:<15} {value}" for name, value in values.items()]


def _version(package: str, note: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return f"not installed{f' ({note})' if note else ''}"


def _processors() -> str:
    """How many this process may use, what they are called, and which instructions they have."""
    # Python 3.13 has os.process_cpu_count.
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    values = _cpuinfo()
    name = values.get("model name") or platform.processor() or platform.machine()
    flags = (values.get("flags") or values.get("Features") or "").split()
    instructions = [flag for flag in _INSTRUCTIONS if flag in flags]
    return ", ".join([f"{count} of {os.cpu_count()}", name, " ".join(instructions)]).rstrip(", ")


def _cpuinfo() -> dict[str, str]:
    """The first processor as Linux describes it; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    first = text.partition("\n\n")[0]
    rows = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in rows}


def _gpu() -> str:
    """As NVIDIA's driver says it: torch would take seconds to."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "none: there is no nvidia-smi"
    command = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"not known: nvidia-smi failed ({type(error).__name__})"
    return "; ".join(result.stdout.strip().splitlines()) or "none"


def _compiled_code() -> str:
    """Where Numba keeps the beam search once it has compiled it."""
    given = os.environ.get("NUMBA_CACHE_DIR")
    folder = Path(given) if given else Path(asr.__file__).parent / "decoding" / "__pycache__"
    sizes = [path.stat().st_size for path in folder.rglob("*.nb[ic]")]
    writable = os.access(folder if folder.exists() else folder.parent, os.W_OK)
    state = "" if writable else ", cannot be written: Numba takes the user's cache folder"
    return (
        f"beam search, compiled: {len(sizes)} files, {sum(sizes) / 1e6:.1f} MB in {folder}{state}"
    )
