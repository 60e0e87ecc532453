"""The input in chunks: the same ones in every run, whatever comes and goes beside them."""

import os

import pyarrow as pa
import pytest
from pyarrow import parquet

from editkit.headless.batch import chunks
from editkit.headless.batch.chunks import Folder, Parquet
from editkit.headless.errors import EditError


def unknown(name):
    return None


@pytest.fixture
def photos(tmp_path):
    """300 empty pictures in two levels of folders, and what is none."""
    root = tmp_path / "photos"
    for n in range(300):
        file = root / f"{n % 7}" / ("" if n % 3 else "deep") / f"p{n:03}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * n)
    (root / "notes.txt").write_text("no picture")
    (root / "._p001.jpg").write_text("what macOS leaves")
    (root / "0" / "folder.png").mkdir()
    return root


def all_of(root, size=8, after=None, skip=None):
    return list(Folder(root, skip or root / "no such folder").chunks(size, after, unknown))


def paths(made):
    return [item.path for _, chunk in made for item in chunk.items]


def test_every_picture_is_in_one_chunk_in_the_order_of_names(photos):
    found = paths(all_of(photos))
    assert len(found) == 300 == len(set(found)) and found == sorted(found, key=lambda p: p.split("/"))
    assert found == paths(all_of(photos)) and not [p for p in found if "._" in p or "notes" in p]


def test_chunks_are_as_large_as_asked_for_on_average(photos):
    sizes = [len(chunk.items) for _, chunk in all_of(photos, 8)]
    assert 25 <= len(sizes) <= 60 and max(sizes) <= 32
    assert len({chunk.name for _, chunk in all_of(photos, 8)}) == len(sizes)


def test_a_picture_more_or_less_changes_its_own_chunk(photos):
    before = {chunk.name: chunk.items for _, chunk in all_of(photos)}
    (photos / "3" / "p100x.jpg").write_bytes(b"new")
    (photos / "5" / "p005.jpg").unlink()
    after = {chunk.name: chunk.items for _, chunk in all_of(photos)}
    assert sum(before.get(name) != items for name, items in after.items()) <= 4
    assert len(set(before) ^ set(after)) <= 3


def test_a_stream_goes_on_at_any_cursor(photos):
    whole = all_of(photos)
    for n in (0, 1, len(whole) // 2, len(whole) - 1):
        assert all_of(photos, after=whole[n][0]) == whole[n:]


def test_legs_one_after_the_other_are_the_whole(photos):
    cursor, got, total = None, [], 0
    while True:
        *made, (nothing, end) = chunks.leg(Folder(photos, photos).chunks(8, cursor, unknown), 7)
        got += [(0, chunk) for chunk, _ in made]
        assert nothing is None and end["total"][0] == len(made) <= 7
        total, cursor = total + end["total"][1], end["cursor"]
        if cursor is None:
            break
    assert paths(got) == paths(all_of(photos)) and total == 300


def test_a_total_tells_a_lost_chunk_and_a_doubled_one_but_not_their_order():
    def total(names):
        made = chunks.Total()
        for name in names:
            made.add(name, 2)
        return made.plain()

    names = ["0a" * 12, "f3" * 12, "71" * 12]
    assert total(names) == total(names[::-1]) and total(names) != total(names[:2])
    assert total(names) != total([names[0], names[0], names[2]])


def test_the_results_folder_and_linked_folders_are_left_out(photos):
    (photos / "out").mkdir()
    (photos / "out" / "result.png").write_bytes(b"1")
    (photos / "circle").symlink_to(photos, target_is_directory=True)
    assert len(paths(all_of(photos, skip=photos / "out"))) == 300


def test_what_cannot_be_read_is_an_item_all_the_same(photos, monkeypatch):
    (photos / "gone.png").symlink_to(photos / "nowhere.png")
    real = os.scandir

    def scandir(folder):
        if folder.name == "6":
            raise PermissionError(13, "Permission denied")
        return real(folder)

    monkeypatch.setattr(chunks.os, "scandir", scandir)
    found = {item.path: item for _, chunk in all_of(photos) for item in chunk.items}
    assert found["6/"].problem == f"Cannot read {photos / '6'}: Permission denied." and found["gone.png"].size == -1


def table(tmp_path, column, rows=50, name="t.parquet", group=20):
    path = tmp_path / name
    parquet.write_table(pa.table({"id": list(range(rows)), **column}), path, row_group_size=group)
    return path


CONTENTS = [b"%d" % n for n in range(50)]


@pytest.mark.parametrize(
    "column",
    [
        {"bytes": CONTENTS},
        {"image": [{"bytes": b, "path": "x.jpg"} for b in CONTENTS]},
        {"bytes": pa.array(CONTENTS, pa.large_binary())},
    ],
)
def test_the_bytes_of_a_table_come_in_chunks(tmp_path, column):
    made = list(Parquet(table(tmp_path, column)).chunks(8, None, unknown))
    assert [c for _, chunk in made for c in chunk.contents] == CONTENTS
    assert paths(made)[:2] == ["t.parquet#0", "t.parquet#1"] and len(made) == 8, "20 rows a group: 8, 8 and 4"
    assert list(Parquet(tmp_path / "t.parquet").chunks(8, made[3][0], unknown)) == made[3:]


def test_the_paths_of_a_table_lie_beside_it(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"abc")
    names = ["a.jpg", "gone.jpg", str(tmp_path / "a.jpg"), None]
    ((_, chunk),) = Parquet(table(tmp_path, {"path": names}, 4)).chunks(8, None, unknown)
    assert [i.size for i in chunk.items] == [3, -1, 3, -1] and chunk.contents == [None] * 4
    assert chunk.items[3].problem.startswith("Row 3 of ")
    assert Parquet(tmp_path / "t.parquet").file(chunk.items[0]).read_bytes() == b"abc"


def test_several_tables_by_a_star(tmp_path):
    for name in ("b.parquet", "a.parquet"):
        table(tmp_path, {"bytes": CONTENTS}, name=name)
    found = paths(Parquet(tmp_path / "*.parquet").chunks(8, None, unknown))
    assert len(found) == 100 and found[0] == "a.parquet#0" and found[50] == "b.parquet#0"


def test_the_table_that_lacks_the_column_is_named(tmp_path):
    table(tmp_path, {"bytes": CONTENTS}, name="a.parquet")
    table(tmp_path, {"picture": CONTENTS}, name="b.parquet")
    with pytest.raises(EditError, match="b.parquet has no column 'bytes' of pictures; it has id, picture"):
        list(Parquet(tmp_path / "*.parquet").chunks(8, None, unknown))


def test_bytes_are_not_read_where_nothing_is_left_to_do(tmp_path, monkeypatch):
    path = table(tmp_path, {"bytes": CONTENTS})
    made = dict(chunk[:2] for _, chunk in Parquet(path).chunks(8, None, unknown))
    read, real = [], Parquet._values
    monkeypatch.setattr(Parquet, "_values", lambda self, t, g, size: read.append(g) or real(self, t, g, size))
    again = list(Parquet(path).chunks(8, None, made.get))
    assert read == [] and [c.items for _, c in again] == list(made.values()) and again[0][1].contents is None
    last = list(made)[-1]
    again = list(Parquet(path).chunks(8, None, lambda name: None if name == last else made[name]))
    assert read == [2] and again[-1][1].contents == CONTENTS[-2:]
    os.utime(path, ns=(1, 1))
    list(Parquet(path).chunks(8, None, made.get))
    assert read == [2, 0, 1, 2], "the table is another one now"


@pytest.mark.parametrize(
    ("given", "column", "said"),
    [
        ("t.parquet", "nothing", "has no column 'nothing' of pictures; it has id, bytes"),
        ("t.parquet", "id", "has no column 'id' of pictures"),
        ("gone.parquet", None, "There is no Parquet file"),
        ("bad.parquet", None, "is not a Parquet file that can be read"),
        ("x*.parquet", None, "There is no Parquet file"),
        ("notes.txt", None, "is neither a folder of pictures nor a .parquet file"),
        ("out", None, "is the folder of the pictures"),
        ("photos", "image", "--column image belongs to a .parquet file"),
    ],
)
def test_an_input_that_will_not_do_is_one_sentence(tmp_path, given, column, said):
    table(tmp_path, {"bytes": CONTENTS})
    (tmp_path / "bad.parquet").write_text("text")
    for name in ("out", "photos"):
        (tmp_path / name).mkdir()
    with pytest.raises(EditError, match=said) as refused:
        chunks.source(tmp_path / given, tmp_path / "out", column)
    assert "\n" not in str(refused.value)
