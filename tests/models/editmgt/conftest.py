import pytest

from editkit.models.editmgt.transformer import EditMGT
from editkit.tests.tiny_editmgt_release import TRANSFORMER, randomised


@pytest.fixture(scope="module")
def net():
    """The tiny transformer with random weights."""
    made = EditMGT(TRANSFORMER)
    made.load_state_dict(randomised(made, 0))
    return made.eval()
