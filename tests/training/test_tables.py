"""What is held out of a table."""

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
