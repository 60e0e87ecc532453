import builtins

import pytest
import torch

from editkit.models.errors import EditError
from editkit.training.swiftedit.perceptual import load_dists, perceptual


def test_equal_pictures_have_no_distance_and_others_a_gradient(random_dists):
    torch.manual_seed(0)
    network, image = load_dists(), torch.rand(2, 3, 32, 32)
    assert float(perceptual(network, image, image)) == pytest.approx(0, abs=1e-5)
    made = (image + 0.2 * torch.randn_like(image)).requires_grad_()
    distance = perceptual(network, image, made)
    distance.backward()
    assert float(distance) > 0.01 and float(made.grad.abs().max()) > 0
    assert not any(p.requires_grad for p in network.parameters())


def test_it_is_the_librarys_own_number(random_dists):
    torch.manual_seed(0)
    image, made = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    own = random_dists.deep_image_structure_and_texture_similarity(made, image, reduction="mean")
    assert float(perceptual(load_dists(), image, made)) == pytest.approx(float(own), rel=1e-4)


def test_it_is_computed_in_full_precision(random_dists):
    torch.manual_seed(0)
    network, image, made = load_dists(), torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        low = perceptual(network, image, made)
    assert torch.equal(low, perceptual(network, image, made))


def test_without_torchvision_one_sentence_says_what_to_do(random_dists, monkeypatch):
    monkeypatch.setattr(random_dists, "_TORCHVISION_AVAILABLE", False)
    with pytest.raises(EditError, match="torchvision.*--no-perceptual"):
        load_dists()


def test_without_torchmetrics_too(monkeypatch):
    real = builtins.__import__

    def missing(name, *rest, **more):
        if name.startswith("torchmetrics"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(EditError, match="requirements-train.txt"):
        load_dists()


def test_weights_that_cannot_be_fetched_are_named(random_dists, monkeypatch):
    def offline(weights=None):
        raise OSError("Name or service not known")

    monkeypatch.setattr(random_dists, "vgg16", offline)
    with pytest.raises(EditError, match="cannot be fetched"):
        load_dists()
