"""Folders of small pictures, and what a batch leaves behind."""

import os
from collections import Counter
from pathlib import Path

import pytest

# For this process and those that it starts, before Ray reads them. A token would be a file in somebody's home.
os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
pytest.importorskip("ray", reason="batch needs Ray: requirements-batch.txt")
pytest.importorskip("pyarrow", reason="batch needs Arrow: requirements-batch.txt")


@pytest.fixture
def ledger_of():
    """ledger_of(out): path -> row of the whole ledger, read as a user would; each picture must be there once."""
    from pyarrow import dataset

    def read(out) -> dict[str, dict]:
        rows = dataset.dataset(Path(out) / "ledger", format="parquet").to_table().to_pylist()
        counted = Counter(row["path"] for row in rows)
        assert set(counted.values()) <= {1}, f"twice in the ledger: {[p for p, n in counted.items() if n > 1]}"
        return {row["path"]: row for row in rows}

    return read


@pytest.fixture
def results_of():
    """results_of(out): path below the output folder -> bytes of every file under results, half-written ones too."""

    def read(out) -> dict[str, bytes]:
        found = (p for p in (Path(out) / "results").rglob("*") if p.is_file())
        return {p.relative_to(out).as_posix(): p.read_bytes() for p in found}

    return read


@pytest.fixture(autouse=True)
def threads():
    """A worker in this process sets how many threads torch uses; the tests after it have their own again."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
