"""The table and the sheet of a race."""

import math

import torch

from editkit.models.race import contact, ranking
from editkit.models.race.entries import Entry, Lap, Marks
from editkit.models.race.measuring import Change
from editkit.models.race.table import HEAD, table

GIB = 2**30
ENTRIES = [
    Entry(1, "A | B", Change(0.2, 99.0, 1.0), Lap(1.234, "", 3 * GIB, on_gpu=True), Marks("VIE", 7.5)),
    Entry(2, "Second", Change(0.01, 35.5, 0.98, (64, 48)), Lap(0.5, "<=", GIB, at_most=True, note="with 1 node")),
    Entry(4, "Third", Change(0.1, 20.0, 0.5), Lap(), Marks("VIE", math.nan, "no marks: late")),
]


def rows(text):
    """The cells of a Markdown table's rows."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|-")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_cell_stands_in_its_column():
    found = ranking.rank(ENTRIES, ranking.BALANCED, 0.02)
    head, first, second, third = rows(table(ENTRIES, found, (128, 96), ranking.BALANCED, masked=True))
    assert tuple(head) == HEAD and {len(row) for row in (first, second, third)} == {len(HEAD)}
    assert first == ["1", "A / B", "0.2000", "99.00", "1.0000", "VIE 7.50", "1.23", "3.00 GiB GPU", "0.750", "best"]
    assert second[6:8] == ["<= 0.50", "<= 1.00 GiB"] and second[8] == "-"
    assert second[9] == "changed less than the floor of 0.02; 64x48, scaled to 128x96; with 1 node"
    assert third[0] == "4" and third[5:7] == ["-", "not timed"] and "no marks: late" in third[9]


def test_the_table_says_who_wins_and_what_is_not_measured():
    found = ranking.rank(ENTRIES, ranking.BALANCED, 0.02)
    assert table(ENTRIES, found, (128, 96), ranking.BALANCED, masked=True).startswith("1. A | B wins.")
    bare = [Entry(1, "Only", Change(0.2))]
    text = table(bare, ranking.rank(bare, ranking.BALANCED, 0.02), (8, 8), ranking.BALANCED, masked=False)
    assert "outside is not measured" in text and rows(text)[1][3:5] == ["-", "-"]


def test_the_fastests_score_is_its_seconds():
    found = ranking.rank(ENTRIES, ranking.FASTEST, 0.02)
    assert rows(table(ENTRIES, found, (128, 96), ranking.FASTEST, masked=True))[1][8] == "1.234"


def colours(sheet):
    return {tuple(c) for c in (sheet[0] * 255).round().long().flatten(1).T.unique(dim=0).tolist()}


def test_the_sheet_shows_the_original_and_every_edit_and_frames_the_best():
    pictures = [torch.tensor(c).float()[:, None, None].expand(3, 30, 40) for c in ([1, 0, 0], [0, 1, 0], [0, 0, 1])]
    original = torch.tensor([1.0, 1, 0])[:, None, None].expand(3, 30, 40)
    found = ranking.rank(ENTRIES, ranking.BALANCED, 0.02)
    sheet = contact.sheet(original, pictures, ENTRIES, found, "an instruction")
    seen = colours(sheet)
    assert {(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), contact.BEST, contact.EMPTY} <= seen
    none = contact.sheet(original, pictures, ENTRIES, ranking.rank(ENTRIES, ranking.BALANCED, 1.0))
    green = [(s * 255).round() == torch.tensor(contact.BEST)[:, None, None] for s in (sheet[0], none[0])]
    assert green[0].all(0).any() and not green[1].all(0).any()
    assert around(sheet[0], (255, 0, 0)) == contact.BEST
    assert {around(sheet[0], c) for c in ((0, 255, 0), (0, 0, 255), (255, 255, 0))} == {contact.EMPTY}


def around(sheet, colour):
    """The colour just left of a plain picture of that colour."""
    pixels = (sheet * 255).round()
    y, x = (pixels == torch.tensor(colour)[:, None, None]).all(0).nonzero()[0].tolist()
    return tuple(int(v) for v in pixels[:, y, x - 1])


def test_a_small_masks_surroundings_are_enlarged_in_the_corner_away_from_it():
    picture, mask = torch.zeros(3, 300, 400), torch.zeros(300, 400)
    picture[0, 240:260, 340:360] = 1
    mask[240:260, 340:360] = 1
    entries = [Entry(1, "Only", Change(0.2))]
    found = ranking.rank(entries, ranking.BALANCED, 0)

    def red(mask):
        """Pixels of the edit's card that are red: of its left upper and of its right lower quarter."""
        sheet = contact.sheet(torch.zeros(3, 300, 400), [picture], entries, found, mask=mask)[0]
        card = sheet[:, :, sheet.shape[2] // 2 :]
        shown = (card[0] > 0.9) & (card[1] < 0.1)
        half = [s // 2 for s in (shown.shape[0], shown.shape[1])]
        return int(shown[: half[0], : half[1]].sum()), int(shown[half[0] :, half[1] :].sum())

    assert red(None)[0] == 0 < red(None)[1]
    detail, plain = red(mask)
    assert detail > 8 * plain and plain == red(None)[1]
    assert red(torch.ones(300, 400)) == red(torch.zeros(300, 400)) == red(None)  # a large one needs no detail


def test_five_results_and_pictures_of_other_shapes_fit_on_it():
    shapes = [(30, 40), (90, 20), (20, 200), (1000, 900), (8, 8)]
    pictures = [torch.rand(3, *shape) for shape in shapes]
    entries = [Entry(i + 1, "A name that is far too long for its card " * 3, Change(0.1 * i)) for i in range(5)]
    found = ranking.rank(entries, ranking.BALANCED, 0)
    sheet = contact.sheet(torch.rand(3, 50, 60), pictures, entries, found, "x " * 500)
    assert sheet.shape[3] == 2 * contact.MARGIN + 3 * (contact.CELL + 2 * contact.FRAME) + 2 * contact.MARGIN
    assert (sheet[:, :, :, -contact.MARGIN + 2 :] == 1).all()  # nothing runs over the edge
