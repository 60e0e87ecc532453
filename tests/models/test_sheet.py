import torch

from editkit.models import sheet


def test_every_picture_lies_under_its_label():
    black = torch.zeros(40, 60)
    reds = [torch.stack([torch.full((40, 60), v), black, black]) for v in (0.2, 0.4, 0.6, 0.8)]
    made = sheet.grid([reds[:2], reds[2:]], ["a", "b"], ["one", "two"], cell=60)
    assert made.shape[:2] == (1, 3)
    found = [v for v in made[0, 0][made[0, 1] == 0].unique().tolist() if v > 0.1]
    assert [round(v, 1) for v in found] == [0.2, 0.4, 0.6, 0.8]
    rows = [(made[0, 0] * (made[0, 1] == 0) - v).abs().lt(0.01).any(1).nonzero().min() for v in (0.2, 0.8)]
    assert rows[0] + 40 <= rows[1]


def test_a_title_takes_a_line_of_its_own_and_pictures_keep_their_shape():
    picture = torch.rand(3, 100, 50)
    plain, titled = (sheet.grid([[picture]], ["a"], ["b"], title, cell=80) for title in ("", "a title"))
    assert titled.shape[2] == plain.shape[2] + sheet.LABEL
    assert plain.shape[2] >= 80 and 0 <= plain.min() and plain.max() <= 1


def test_labels_never_touch_and_may_have_several_lines():
    """A narrow column grows to its label, of which every line has its own row of ink."""
    picture = torch.tensor([1.0, 0, 0])[:, None, None].expand(3, 30, 30)
    short = sheet.grid([[picture, picture]], ["a", "b"], ["x"], cell=30)
    wide = sheet.grid([[picture, picture]], ["a label that is long\nb", "another one as long"], ["x"], cell=30)
    assert wide.shape[2] == short.shape[2] + sheet.LABEL and wide.shape[3] > short.shape[3] + 100
    shown, ink = (wide[0, 0] == 1) & (wide[0, 1] == 0), (wide[0] < 0.9).all(0)
    starts = [int(c) for c in shown.any(0).nonzero()[:, 0] if not shown.any(0)[c - 1]]
    second = ink[: sheet.GAP + 2 * sheet.LABEL, starts[1] - sheet.GAP : starts[1] - 1]
    assert len(starts) == 2 and not second.any()  # between two labels there is paper
    first, below = (ink[sheet.GAP + i * sheet.LABEL :][: sheet.LABEL].any() for i in range(2))
    assert first and below
