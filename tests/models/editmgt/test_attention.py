"""γ without a matrix of biases equals the one with it."""

import pytest
import torch

from editkit.models.editmgt.attention import Attend
from editkit.models.errors import EditError


def qkv(n=23, queries=None):
    draw = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, 8, generator=draw) for _ in range(3))
    return q[:, :, :queries], k, v


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("gamma", [0.3, 1.0, 1.1, 3.0])
@pytest.mark.parametrize("queries", [None, 14])
def test_extra_channels_and_rows_equal_the_dense_bias(gamma, text, queries):
    q, k, v = qkv(queries=queries)
    quick, rows, dense = (Attend(gamma, text=text, dense=d)(q, k, v, 5, 9) for d in (False, None, True))
    torch.testing.assert_close(quick, dense, rtol=0, atol=2e-6)
    torch.testing.assert_close(rows, dense, rtol=0, atol=2e-6)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 1.3])
@pytest.mark.parametrize("reference", [0, 9])
def test_a_token_that_stands_for_many_is_that_token_many_times(gamma, reference):
    """Four copies of the first key and value, and the same with one that counts for four."""
    q, k, v = qkv()
    many = [torch.cat([x[:, :, :1]] * 3 + [x], dim=2) for x in (q, k, v)]
    expected = Attend(gamma)(*many, 8, reference)[:, 3:]
    for dense in (True, False, None):
        found = Attend(gamma, dense=dense, pads=4)(q, k, v, 5, reference)
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("dense", [True, False, None])
def test_some_queries_see_what_they_see_among_all(text, dense):
    q, k, v = qkv()
    attend = Attend(1.3, text=text, dense=dense, pads=3)
    some, all_of_them = attend(q[:, :, 5:14], k, v, 5, 9, first=5), attend(q, k, v, 5, 9)
    torch.testing.assert_close(some, all_of_them[:, 5:14], rtol=0, atol=2e-6)


@pytest.mark.parametrize("text", [True, False])
def test_the_bias_is_equation_2(text):
    """log γ between the reference and the picture, and in the released form the text as well; 0 elsewhere."""
    q, k, _ = qkv(6)
    bias = Attend(2.0, text=text).bias(q, k, 2, 2)
    kind = ["text", "text", "picture", "picture", "reference", "reference"]
    for row in range(6):
        for column in range(6):
            pair = {kind[row], kind[column]}
            biased = pair == {"picture", "reference"} or (text and pair == {"text", "reference"})
            assert float(bias[row, column]) == pytest.approx(0.6931472 if biased else 0.0)


def test_gamma_0_hides_the_reference():
    q, k, v = qkv()
    changed = v.clone()
    changed[:, :, -9:] += 10
    hidden, still = Attend(0.0)(q, k, v, 5, 9), Attend(0.0)(q, k, changed, 5, 9)
    assert torch.equal(hidden[:, :14], still[:, :14])


def test_a_negative_strength_is_said():
    with pytest.raises(EditError, match="-1"):
        Attend(-1)


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize(("gamma", "device_says_so"), [(1.3, True), (0.0, False)])
def test_on_the_cpu_and_where_the_reference_is_hidden_biases_are_rows(monkeypatch, text, gamma, device_says_so):
    """One row for each kind of query, made once, and never a matrix."""
    masks, plain = [], torch.nn.functional.scaled_dot_product_attention

    def recorded(q, k, v, attn_mask=None):
        masks.append(attn_mask)
        return plain(q, k, v, attn_mask=attn_mask)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", recorded)
    attend = Attend(gamma, text=text, dense=None if device_says_so else False)
    attend(*qkv(), 5, 9), attend(*qkv(), 5, 9)
    assert len(masks) == 6 and all(mask.shape == (1, 1, 1, 23) for mask in masks)
    assert [id(mask) for mask in masks[:3]] == [id(mask) for mask in masks[3:]]
