"""The numbered sheet, and pictures that are only looked at."""

import torch

from editkit.models.icedit import contact
from editkit.models.icedit.diptych import diptych, uncropped


def test_the_sheet_has_rows_of_six_and_marks_the_winner():
    pictures = torch.linspace(0.1, 0.8, 8)[:, None, None, None].expand(8, 3, 96, 120)
    sheet, unmarked = contact.numbered(pictures, 7), contact.numbered(pictures, None)
    row = contact.numbered(pictures[:6], None).shape[2]
    assert sheet.shape == unmarked.shape == (1, 3, 2 * row, contact.numbered(pictures[:6], None).shape[3])
    differs = (sheet != unmarked).any(1)[0].nonzero()
    assert len(differs) and differs[:, 0].min() >= row  # a word in the second row alone
    assert all(bool((sheet - value).abs().amin(1).lt(0.01).any()) for value in (0.1, 0.8))


def test_pictures_narrower_than_the_winners_label_still_make_one_sheet():
    pictures = torch.linspace(0.1, 0.8, 8)[:, None, None, None].expand(8, 3, 256, 40)
    sheet = contact.numbered(pictures, 7)
    assert all(bool((sheet - value).abs().amin(1).lt(0.01).any()) for value in (0.1, 0.8))


def test_two_candidates_make_one_short_row():
    assert contact.numbered(torch.zeros(2, 3, 300, 600), 0).shape[3] < 2 * 256 + 60


def test_a_record_is_made_smaller_only_where_it_is_large():
    image, mask = torch.rand(1, 3, 90, 300), torch.zeros(1, 90, 300)
    mask[:, 30:60, 100:200] = 1
    record = diptych(image, torch.ones(1, 90, 300), mask, 64)
    assert contact.bounded(record, 300).rgb is image and contact.bounded(record, 300).alpha is None
    small = contact.bounded(record, 100)
    assert small.rgb.shape == (1, 3, 30, 100) and small.mask.shape == (1, 30, 100) and small.size == record.size
    made = uncropped(torch.zeros(2, 3, record.size[0], 2 * record.size[1]), small)[0]
    assert made.shape == (2, 3, 30, 100)
    assert float(made[:, :, 12:18, 40:60].max()) == 0 and torch.equal(made[0, :, :8], small.rgb[0, :, :8])
