"""A few of the cases of `tools/attack.py`, which finds what breaks a reader; none of these does."""

import os
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asr.errors import AsrError
from tests import test_reading
from tests.conftest import ROOT
from tools import attack, attack_material


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("material")
    attack_material.make_data(folder / "data")
    attack_material.make_model(folder / "model")
    return folder


READERS = attack_material.data_readers()
FEW = settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)


@pytest.mark.parametrize("name", READERS)
def test_material_is_read_as_it_is(name: str, material: Path) -> None:
    READERS[name](material / "data" / name)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", READERS)
@FEW
@given(seed=st.integers(0, 2**32))
def test_damaged_data_is_read_or_refused_in_a_line(
    name: str, seed: int, material: Path, tmp_path: Path
) -> None:
    path = tmp_path / name
    content = (material / "data" / name).read_bytes()
    path.write_bytes(attack.damaged(content, random.Random(seed)))
    try:
        READERS[name](path)
    except AsrError as error:
        reason = str(error)
        assert "\n" not in reason


@pytest.mark.filterwarnings("ignore")
@FEW
@given(seed=st.integers(0, 2**32))
def test_a_damaged_model_is_opened_or_refused_in_a_line(seed: int, material: Path) -> None:
    """As a whole but for the search, whose compilation takes long; `tools/attack.py` does that."""
    from asr.lm.ngram import load_model
    from asr.model import open_network, read_model

    draw = random.Random(seed)
    folder = material / "model"
    path = draw.choice(sorted(p for p in folder.rglob("*") if p.is_file()))
    content = path.read_bytes()
    path.write_bytes(attack.damaged(content, draw))
    try:
        model = read_model(folder)
        open_network(folder, model, "cpu")
        load_model(folder / "lm")
    except AsrError as error:
        reason = str(error)
        assert "\n" not in reason
    finally:
        path.write_bytes(content)


PIECES = st.binary(max_size=60) | st.sampled_from(
    (*attack.TRAPS, *(b"{}", b"[]", b"null", b"<blank>\n", b"a b\n", b"a\t1\t2\tb\n", b"a: 1\n"))
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", test_reading.READERS)
@settings(FEW, max_examples=8)
@given(pieces=st.lists(PIECES, max_size=4))
def test_any_bytes_are_read_or_refused_in_a_line(
    name: str, pieces: list[bytes], tmp_path: Path
) -> None:
    """By every reader that `test_reading` knows."""
    file_name, read = test_reading.READERS[name]
    (tmp_path / file_name).write_bytes(b"".join(pieces))
    try:
        read(tmp_path / file_name)
    except AsrError as error:
        reason = str(error)
        assert "\n" not in reason


def test_a_case_is_the_same_again() -> None:
    content = os.urandom(200)
    first, second = (attack.damaged(content, random.Random(3)) for _ in range(2))
    assert first == second
    assert (ROOT / "tools" / "attack.py").exists()
