"""ICEdit's LoRA files: what a reader finds in them, and what it says of those that are not theirs."""

import pytest
import torch
from safetensors.torch import load_file

from editkit.models.errors import EditError
from editkit.models.icedit import lora, transformer

FF, QUERY = "transformer_blocks.0.ff.net.2", "transformer_blocks.0.attn.to_q"


def state(layer=FF, count=4, rank=3, prefix="transformer."):
    parts = {f"lora_A.expert_{i}": torch.randn(rank, 8) for i in range(count)}
    parts |= {f"lora_B.expert_{i}": torch.randn(5, rank) for i in range(count)}
    parts["lora_route"] = torch.randn(count, 8)
    return {f"{prefix}{layer}.{name}.weight": value for name, value in parts.items()}


def plain(layer=QUERY, rank=3, prefix="transformer."):
    halves = {"A": torch.randn(rank, 8), "B": torch.randn(5, rank)}
    return {f"{prefix}{layer}.lora_{half}.weight": value for half, value in halves.items()}


def test_rank_count_and_kind_are_read_back():
    found = lora.parse(state(count=3, rank=2) | plain(rank=7))
    assert found.experts.keys() == {FF} and found.plain.keys() == {QUERY}
    assert (found.experts[FF].count, found.experts[FF].rank, found.experts[FF].chosen, found.rank) == (3, 2, 1, 7)
    assert found.shapes == {FF: (5, 8), QUERY: (5, 8)}


def test_experts_are_ordered_by_number_not_by_name():
    data = state(count=11, rank=1)
    found = lora.parse(dict(sorted(data.items()))).experts[FF]
    for i in range(11):
        assert torch.equal(found.down[i], data[f"transformer.{FF}.lora_A.expert_{i}.weight"][0])
        assert torch.equal(found.up[:, i], data[f"transformer.{FF}.lora_B.expert_{i}.weight"][:, 0])


@pytest.mark.parametrize(
    "prefix", ["", "transformer.", "base_model.model.", "diffusion_model.", "base_model.model.transformer."]
)
def test_what_trainers_put_before_the_names_is_dropped(prefix):
    assert lora.parse(plain(prefix=prefix)).plain.keys() == {QUERY}


def test_alpha_scales_both_kinds_and_without_it_the_scale_is_one():
    alphas = {f"transformer.{FF}.alpha": torch.tensor(6.0), f"transformer.{QUERY}.alpha": torch.tensor(1.5)}
    found = lora.parse(state() | plain() | alphas)
    assert found.experts[FF].scale == 2.0 and found.plain[QUERY][2] == 0.5
    found = lora.parse(state() | plain())
    assert found.experts[FF].scale == 1.0 and found.plain[QUERY][2] == 1.0


@pytest.mark.parametrize("gone", ["lora_A.expert_2", "lora_B.expert_0", "lora_route"])
def test_half_a_mixture_is_refused(gone):
    data = state()
    del data[f"transformer.{FF}.{gone}.weight"]
    with pytest.raises(EditError, match="incomplete, download it again"):
        lora.parse(data)


def test_half_a_plain_lora_is_refused():
    data = plain()
    data.popitem()
    with pytest.raises(EditError, match="only one half"):
        lora.parse(data)


@pytest.mark.parametrize(
    ("data", "said"),
    [({}, "holds no LoRA"), ({"model.diffusion_model.x": torch.zeros(1)}, "no weight of ICEdit's LoRA"),
     (plain() | {f"transformer.{QUERY}.lora_B.weight": torch.zeros(5, 4)}, "do not belong together"),
     (state() | {f"transformer.{FF}.lora_A.expert_1.weight": torch.zeros(2, 8),
                 f"transformer.{FF}.lora_B.expert_1.weight": torch.zeros(5, 2)}, "different shapes")],
)  # fmt: skip
def test_other_files_are_refused_in_one_sentence(data, said):
    with pytest.raises(EditError, match=said) as error:
        lora.parse(data)
    assert str(error.value).count("\n") == 0


@pytest.mark.parametrize("chosen", [0, 5])
def test_more_experts_than_there_are_cannot_be_chosen(chosen):
    with pytest.raises(EditError, match=f"{chosen} experts per token"):
        lora.parse(state(), chosen)


@pytest.fixture
def flux(root):
    from editkit.benchmarks.parity_moelora import flux

    return flux(root / "tests" / "fixtures" / "moelora" / "tiny_flux_base.safetensors")


@pytest.fixture
def mixture(root):
    folder = root / "tests" / "fixtures" / "moelora" / "tiny_lora"
    return lora.parse(load_file(folder / "pytorch_lora_weights.safetensors"))


def test_weights_and_hooks_are_what_they_were_afterwards(flux, mixture):
    before = {name: value.clone() for name, value in flux.state_dict().items()}
    with transformer.attached(flux, mixture):
        changed = [name for name, value in flux.state_dict().items() if not torch.equal(value, before[name])]
        assert len(changed) == len(mixture.plain)
    assert all(torch.equal(value, before[name]) for name, value in flux.state_dict().items())
    assert not any(module._forward_hooks for module in flux.modules())


def test_a_lora_of_another_model_is_refused_and_leaves_nothing(flux, mixture):
    other = lora.Lora(mixture.plain | {"x_embedder": (torch.zeros(4, 64), torch.zeros(64, 4), 1.0)}, mixture.experts)
    before = flux.x_embedder.weight
    said = "'x_embedder', which this transformer lacks or has in another shape"
    with pytest.raises(EditError, match=said), transformer.attached(flux, other):
        pass
    assert flux.x_embedder.weight is before and not any(module._forward_hooks for module in flux.modules())


def test_layers_without_their_lora_are_named(flux, mixture):
    layers = transformer.shapes(flux)
    assert lora.missing(mixture, layers) == [] and lora.foreign(mixture, layers) == []
    assert lora.missing(lora.Lora(mixture.plain), layers) == sorted(mixture.experts)


def test_the_layers_of_a_flux_by_numbers_are_those_of_diffusers(flux):
    config = flux.config
    hidden = config.num_attention_heads * config.attention_head_dim
    counted = lora.flux_layers(
        config.num_layers, config.num_single_layers, hidden, config.in_channels, config.joint_attention_dim
    )
    found = transformer.shapes(flux)
    assert counted == {name: found[name] for name in counted}
    missing = set(found) - set(counted)
    assert all(name.startswith(("time_text_embed", "norm_out", "proj_out")) for name in missing)


def test_a_plain_lora_written_and_read_is_the_same():
    alphas = {f"transformer.{QUERY}.alpha": torch.tensor(1.5)}
    found = lora.parse(plain() | alphas)
    again = lora.parse(lora.plain_state(found.plain))
    assert again.plain.keys() == found.plain.keys() and again.plain[QUERY][2] == 0.5
    assert all(torch.equal(a, b) for a, b in zip(again.plain[QUERY][:2], found.plain[QUERY][:2], strict=True))


def test_averaged_leaves_the_plain_part_and_has_the_experts_mean():
    found = lora.parse(state(rank=2) | plain() | {f"transformer.{FF}.alpha": torch.tensor(4.0)})
    made = lora.averaged(found)
    assert made.keys() == {FF, QUERY} and made[QUERY] is found.plain[QUERY]
    down, up, scale = made[FF]
    one = found.experts[FF]
    products = [one.up[:, 2 * i : 2 * i + 2] @ one.down[2 * i : 2 * i + 2] for i in range(4)]
    assert scale == 1 and torch.allclose(up @ down, 2 * sum(products) / 4, atol=1e-5)


def test_what_a_file_holds_is_told():
    assert lora.described(lora.parse(plain(rank=7))) == "1 plain layers of rank 7, no experts"
    mixture = "1 layers with 4 experts of rank 3, 2 per token"
    assert lora.described(lora.parse(state(), 2)) == f"{mixture}, no plain layers"
    assert lora.described(lora.parse(state() | plain(), 2)) == f"1 plain layers of rank 3, {mixture}"


def test_mixtures_move_as_one_network(mixture):
    from editkit.models.icedit.experts import Mixtures

    moved = Mixtures(mixture.experts).to(torch.bfloat16)
    assert sum(p.numel() for p in moved.parameters()) == sum(
        one.down.numel() + one.up.numel() + one.router.numel() for one in mixture.experts.values()
    )
    for name, one in moved.experts().items():
        assert one.down.dtype == torch.bfloat16 and torch.equal(one.up, mixture.experts[name].up.bfloat16())
        assert (one.scale, one.chosen) == (mixture.experts[name].scale, mixture.experts[name].chosen)
