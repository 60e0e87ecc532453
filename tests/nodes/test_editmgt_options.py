"""EditMGT's nodes on large pictures and odd shapes, with the released code's mistakes, and with approximations."""

import pytest
import torch

import editkit
from editkit.models.editmgt.options import BIASES, TIMES
from editkit.models.errors import EditError
from editkit.nodes.host import editmgt, editmgt_run
from editkit.tests.tiny_editmgt_release import write_release

INSTRUCTION = "make the red cat and the small dog beside it blue"
OPTIONS = {
    "steps": 3, "cfg": 30.0, "gamma": 1.1, "bias": BIASES[0], "schedule": "model", "temperature": 2.0,
    "final_temperature": 0.0, "time": TIMES[0],
}  # fmt: skip
NONE = {"alias_mask": False, "leaked_gamma": 1.0, "clip_positions": False, "time_rounding": "none",
        "released_draws": False}  # fmt: skip
SIDE = 64


def call(kind, **inputs):
    return editkit.NODE_CLASS_MAPPINGS[f"EditKit{kind}"]().run(**inputs)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """(model, clip, vae) of a tiny release whose weights are large enough to tell settings apart."""
    root = tmp_path_factory.mktemp("comfy")
    write_release(root / "models" / "editkit" / "editmgt")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        found = call("LoadEditMGT", release="editmgt", weight_dtype="default")
    with torch.no_grad():
        for weight in editmgt.network(found[0]).diffusion_model.parameters():
            if weight.ndim > 1:
                weight *= 10
    return found


def photo(height, width, count=1):
    return torch.rand(count, height, width, 3, generator=torch.Generator().manual_seed(0))


def hold(threshold=0.0, mask=None, localise=None):
    return call("EditMGTRegionHold", threshold=threshold, mode="official", mask_threshold=0.5, mask=mask,
                localise=localise)[0]  # fmt: skip


def localise(keyword=""):
    return call("EditMGTLocalise", blocks="all", keyword=keyword, occurrence=1, method="adaptive", strength=1.0,
                factor=3, preserve_peaks=True)[0]  # fmt: skip


def sample(loaded, image, **more):
    given = {"instruction": INSTRUCTION, "negative": "", "seed": 1, "side": SIDE, "image": image} | OPTIONS
    return call("EditMGTSample", **dict(zip(("model", "clip", "vae"), loaded)), **given | more)


def decode(loaded, latent, image, square, changed):
    return call("EditMGTDecode", vae=loaded[2], latent=latent, feather=2, image=image, square=square,
                changed=changed)[0]  # fmt: skip


def tokens(found):
    return found[0][editmgt.TOKENS]


def compat(**switched):
    return call("EditMGTCompatibility", **NONE | switched)[0]


def speed(reference_every=1, guidance_until=1.0):
    return call("EditMGTSpeed", reference_every=reference_every, guidance_until=guidance_until)[0]


SHAPES = [(33, 47), (47, 33), (41, 130), (130, 41), (64, 64), (65, 64), (97, 31), (16, 200), (129, 131)]


@pytest.mark.parametrize("large", ["fit", "tiles"])
@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_any_shape_comes_back_as_it_was_and_what_is_held_is_bit_identical(loaded, large, height, width):
    image, mask = photo(height, width, 2), torch.zeros(1, height, width)
    mask[:, height // 3 :, : 2 * width // 3 + 1] = 1
    latent, changed, square = sample(loaded, image, hold=hold(mask=mask), large=large, steps=2)
    out = decode(loaded, latent, image, square, changed)
    assert out.shape == image.shape and changed.shape == (2, height, width)
    outside = changed == 0
    assert torch.equal(out[outside], image[outside]) and bool((out != image).any())
    assert bool(outside.any()) and bool((~outside).any())
    size = tuple(latent["samples"].shape[-2:])
    assert size == ((4, 4) if large == "fit" or max(height, width) <= SIDE else square.grid)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (50, 70), (20, 33)])
def test_where_the_square_is_enough_tiles_give_exactly_the_same(loaded, height, width):
    image = photo(height, width, 2)[:, :, :SIDE]
    fit, tiled = (sample(loaded, image, large=large, localise=localise()) for large in ("fit", "tiles"))
    assert torch.equal(tokens(fit), tokens(tiled)) and torch.equal(fit[1], tiled[1])
    assert torch.equal(fit[0][editmgt.ATTENTION][0], tiled[0][editmgt.ATTENTION][0])


def test_a_larger_picture_keeps_its_size_in_tokens_and_pixels(loaded):
    image = photo(130, 200, 2)
    latent, changed, square = sample(loaded, image, large="tiles")
    assert square.grid == (10, 14) and latent["samples"].shape[-2:] == (10, 14) and square.tile == SIDE
    assert torch.equal(square.pixels[:, :, :130, :200].movedim(1, -1), image)
    assert decode(loaded, latent, image, square, None).shape == image.shape and bool((changed == 1).all())


def test_region_hold_and_maps_work_across_tiles(loaded):
    image, reading = photo(100, 140), localise("red cat")
    latent, changed, square = sample(loaded, image, large="tiles", hold=hold(0.5, localise=reading))
    final, steps, mask = call(
        "EditMGTLocalisationMap", latent=latent, localise=reading, threshold=0.5, final="last", opacity=0.5,
        image=image, square=square,
    )  # fmt: skip
    assert final.shape == image.shape and steps.shape[0] == 3 and mask.shape == changed.shape == (1, 100, 140)
    held = changed == 0
    assert 0 < float(held.float().mean()) < 1
    assert torch.equal(decode(loaded, latent, image, square, changed)[held], image[held])
    own = loaded[2].tokens(square.pixels, square.tile)
    kept = held[:, 8:96:16, 8:128:16]  # the middles of tokens that are in the picture whole
    assert torch.equal(tokens((latent,))[:, :6, :8][kept], own[:, :6, :8][kept]) and bool(kept.any())


def test_no_more_than_a_tile_is_ever_encoded_or_decoded(loaded, monkeypatch):
    """What bounds memory, and keeps the tokenizer to the size that it was trained on."""
    asked, vq = set(), loaded[2].first_stage_model
    encode, picture = vq.encode, vq.picture
    monkeypatch.setattr(vq, "encode", lambda x: asked.add(tuple(x.shape)) or encode(x))
    monkeypatch.setattr(vq, "picture", lambda x: asked.add(tuple(x.shape)) or picture(x))
    image = photo(150, 300, 2)
    latent, changed, square = sample(loaded, image, large="tiles", steps=1)
    decode(loaded, latent, image, square, changed)
    assert asked == {(1, 3, 64, 64), (1, 8, 4, 4)}


def test_decoded_tiles_agree_where_they_overlap(loaded):
    """Each pixel of the whole lies between what the tiles that see it say."""
    from editkit.models.editmgt.tiles import tiles

    latent, _, square = sample(loaded, photo(64, 100), large="tiles", steps=1)
    vectors, vae = latent["samples"], loaded[2]
    layout = tiles(square.grid, 4)
    whole = vae.decode(vectors, tile=SIDE).movedim(-1, 1)
    pixels, low, high = layout.on(tuple(whole.shape[-2:])), torch.ones_like(whole), torch.zeros_like(whole)
    for number in range(len(layout.at)):
        one = vae.decode(layout.cut(vectors, number)).movedim(-1, 1)
        where = pixels._where(number)
        low[where], high[where] = torch.minimum(low[where], one), torch.maximum(high[where], one)
    assert len(layout.at) > 1 and bool(((whole >= low - 1e-6) & (whole <= high + 1e-6)).all())


def test_switched_off_the_two_nodes_change_nothing(loaded):
    image = photo(50, 70)
    plain = tokens(sample(loaded, image))
    assert torch.equal(tokens(sample(loaded, image, compat=compat(), speed=speed())), plain)


def test_the_aliased_mask_hides_the_picture_from_the_network(loaded):
    mask = torch.zeros(1, 128, 128)
    mask[:, 16:112, 16:112] = 1
    off, on = (
        tokens(sample(loaded, photo(128, 128), side=128, hold=hold(mask=mask), compat=compat(alias_mask=value)))
        for value in (False, True)
    )
    region = torch.zeros(8, 8, dtype=torch.bool)
    region[1:7, 1:7] = True
    assert torch.equal(off[:, ~region], on[:, ~region]) and not torch.equal(off, on)


def test_a_leaked_strength_is_that_of_the_run_before_and_only_where_there_is_none_of_its_own(loaded):
    image, leak = photo(128, 128), compat(leaked_gamma=2.0)
    leaked, two, one = (
        tokens(sample(loaded, image, side=128, gamma=gamma, compat=c))
        for gamma, c in ((1.0, leak), (2.0, None), (1.0, None))
    )
    assert torch.equal(leaked, two) and not torch.equal(leaked, one)
    assert torch.equal(tokens(sample(loaded, image, compat=leak)), tokens(sample(loaded, image)))


def test_clips_positions_read_pads_where_gemmas_read_the_word(loaded):
    model, clip, _ = loaded
    reading = localise("red cat")
    right, wrong = (
        editmgt_run.rows(clip, INSTRUCTION, reading, compat(clip_positions=value)) for value in (False, True)
    )
    assert wrong.tolist() == [3, 4] and int(right.min()) > 200
    image = photo(64, 64)
    maps = [
        sample(loaded, image, localise=reading, compat=compat(clip_positions=value))[0][editmgt.ATTENTION][0]
        for value in (False, True)
    ]
    assert not torch.allclose(*maps)
    with pytest.raises(EditError, match="CLIP's positions"):
        editmgt_run.rows(clip, INSTRUCTION, localise("sky"), compat(clip_positions=True))


@pytest.mark.parametrize("kind", ["bf16", "fp16"])
def test_rounded_times_are_other_times(loaded, kind):
    """Of 36 steps bf16 tells 29 another time, fp16 11."""
    image = photo(64, 64)
    plain, rounded = (
        tokens(sample(loaded, image, steps=36, compat=compat(time_rounding=how))) for how in ("none", kind)
    )
    assert not torch.equal(plain, rounded)


def test_times_that_fp16_cannot_hold_are_said(loaded):
    with pytest.raises(EditError, match="too large for fp16"):
        sample(loaded, photo(64, 64), steps=70, compat=compat(time_rounding="fp16"))


def test_released_draws_are_the_run_with_the_released_order_of_random_numbers(loaded):
    image = photo(64, 64)
    found = tokens(sample(loaded, image, compat=compat(released_draws=True)))
    assert not torch.equal(found, tokens(sample(loaded, image)))
    net, (_, clip, vae) = editmgt.network(loaded[0]), loaded
    from editkit.models.editmgt.options import Options

    options = Options(steps=3, guidance=30.0, exact_draws=True, schedule=net.schedule)
    expected, _ = editmgt_run.run(
        net, clip.encode([INSTRUCTION]), clip.encode([""]), (4, 4), options, seed=1,
        reference=vae.tokens(image.movedim(-1, 1)), micro=(64, 64, 0, 0, 6),
    )  # fmt: skip
    assert torch.equal(found, expected.tokens)


def test_approximations_reach_the_run(loaded, monkeypatch):
    """Steps at which the network is shown the picture, and how many rows it is given."""
    net, seen = editmgt.network(loaded[0]).diffusion_model, []
    features = net.features

    def watched(ids, prompt, plan, **more):
        seen.append((len(ids), plan.cache is not None and plan.cache.reuse))
        return features(ids, prompt, plan, **more)

    monkeypatch.setattr(net, "features", watched)
    sample(loaded, photo(64, 64), steps=4, speed=speed(reference_every=2))
    assert seen == [(2, False), (2, True), (2, False), (2, True)]
    seen.clear()
    sample(loaded, photo(64, 64), steps=4, speed=speed(guidance_until=0.5))
    assert [rows for rows, _ in seen] == [2, 2, 1, 1]
    with pytest.raises(EditError, match="share from 0 to 1"):
        speed(guidance_until=1.5).applied(editmgt_run.Options())
