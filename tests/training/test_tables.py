"""Tables: what is held out, and pictures that are stored in parquet."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from editkit.models.errors import EditError
from editkit.training import tables


def test_what_is_held_out_is_not_trained_on():
    for count in (2, 9, 40, 1000):
        train, held = tables.split(list(range(count)))
        assert not set(train) & set(held) and len(train) + len(held) == count
        assert 1 <= len(held) <= tables.HELD and len(train) >= len(held)
    with pytest.raises(EditError, match="at least two"):
        tables.split(["one"])


def test_pictures_stored_in_parquet_are_their_own_for_several_threads_and_columns(tmp_path):
    """Row groups and columns are read in turns; without them the process is aborted by pyarrow, or pictures change."""
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import parquet

    stored = lambda said: {"bytes": said.encode() * 50, "path": None}  # noqa: E731
    rows = [{side: stored(f"{side} {n}.") for side in ("image", "mask")} for n in range(60)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "stored.parquet", row_group_size=3)
    found = tables.table(tmp_path / "stored.parquet")
    cells = [(row[side], f"{side} {n}.") for n, row in enumerate(found) for side in row]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            contents = pool.map(lambda cell: cell[0](), cells)
            assert all(content.startswith(told.encode()) for content, (_, told) in zip(contents, cells, strict=True))


def test_a_row_groups_column_is_read_once(tmp_path, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import parquet

    rows = [{"image": b"a%d" % n, "mask": b"b%d" % n} for n in range(6)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "stored.parquet", row_group_size=3)
    found, real, read = tables.table(tmp_path / "stored.parquet"), parquet.ParquetFile.read_row_group, []
    counted = lambda file, *given, **more: read.append(given) or real(file, *given, **more)  # noqa: E731
    monkeypatch.setattr(parquet.ParquetFile, "read_row_group", counted)
    assert [(row["image"](), row["mask"]()) for row in found] == [tuple(row.values()) for row in rows]
    assert len(read) == 4  # two groups, two columns
