"""Gemma as a text encoder: transformers' states, with the pads worked out once."""

import pytest
import torch
from safetensors.torch import load_file

from editkit.models.editmgt import files, gemma

SIZES = {
    "vocab_size": 90, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "query_pre_attn_scalar": 6, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
}  # fmt: skip


def build(sizes=SIZES, seed=0):
    torch.manual_seed(seed)
    model = gemma.Gemma2(gemma.read(sizes))
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return model.requires_grad_(False).eval()


def prompt(real, length=256, seed=0):
    draw = torch.Generator().manual_seed(seed)
    words = torch.randint(3, 90, (real - 1,), generator=draw)
    return torch.cat([torch.zeros(length - real, dtype=torch.long), torch.tensor([2]), words])[None]


def test_the_states_are_those_of_transformers():
    transformers = pytest.importorskip("transformers")
    config = transformers.Gemma2Config(**SIZES, attn_implementation="eager", pad_token_id=0)
    torch.manual_seed(0)
    theirs = transformers.Gemma2ForCausalLM(config).eval()
    with torch.no_grad():
        for name, weight in theirs.named_parameters():
            weight.normal_(std=2.0 if "q_proj" in name else 0.4)
    ours = gemma.Gemma2(gemma.read(config.to_dict()))
    state = {k: v for k, v in theirs.state_dict().items()}
    files.fit(ours, gemma.weights(state, ours.config), "memory")
    ids = prompt(14, 64)
    with torch.inference_mode():
        expected = theirs(ids, output_hidden_states=True).hidden_states[-2]
        assert len(ours.layers) == 3
        for reuse in (True, False):
            assert torch.allclose(
                ours(ids, reuse=reuse), expected, rtol=1e-5, atol=1e-5 * expected.abs().max()
            )


def test_the_cap_matters_in_the_recorded_numbers(root):
    folder = root / "tests" / "fixtures" / "editmgt_gemma2"
    tensors, data = load_file(folder / "io.safetensors"), files.read_json(folder / "config.json")
    found = {}
    for cap in (50.0, None):
        config = gemma.read(data | {"attn_logit_softcapping": cap})
        model = files.fit(
            gemma.Gemma2(config), gemma.weights(load_file(folder / "weights.safetensors"), config), folder
        )
        found[cap] = model(tensors["input_ids"])
    assert torch.allclose(found[50.0], tensors["hidden_m2_softcap50_official"], atol=1e-4)
    assert torch.allclose(found[None], tensors["hidden_m2_no_softcap"], atol=1e-4)
    assert (found[50.0] - found[None]).abs().max() > 1e-3 * found[None].abs().max()


@pytest.mark.parametrize("real", [1, 2, 20, 255, 256])
def test_the_pads_states_may_be_reused(real):
    model, ids = build(), prompt(real)
    plain = model(ids, reuse=False)
    assert torch.allclose(
        model(prompt(9, seed=1)), model(prompt(9, seed=1), reuse=False), rtol=1e-5, atol=1e-5
    )
    kept = model._pads.copy()
    assert torch.allclose(model(ids), plain, rtol=1e-5, atol=1e-5)
    assert model._pads == kept  # nothing was worked out again


def test_only_the_real_tokens_are_worked_out():
    model, seen = build(), []
    model.layers[0].mlp.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    model(prompt(20))
    model(prompt(12, seed=2))
    assert seen == [255, 20, 12]


def test_prompts_of_a_batch_do_not_touch():
    model = build()
    one, two = prompt(5), prompt(30, seed=3)
    assert torch.equal(model(torch.cat([one, two])), torch.cat([model(one), model(two)]))


def test_pads_alone_and_prompts_of_another_length():
    model = build()
    for ids in (torch.zeros(1, 256, dtype=torch.long), prompt(7, 40), prompt(7, 300)):
        assert torch.allclose(model(ids), model(ids, reuse=False), rtol=1e-5, atol=1e-5)


def test_new_weights_forget_the_pads():
    model, ids = build(), prompt(6)
    model(ids)
    model.load_state_dict(build(seed=5).state_dict())
    assert torch.allclose(model(ids), build(seed=5)(ids, reuse=False), rtol=1e-5, atol=1e-5)
    model.bfloat16().float()
    assert not model._pads


def test_the_precision_may_be_chosen():
    ids, narrow = prompt(6), build().bfloat16()
    wide = narrow(ids, reuse=False).float()
    assert narrow(ids).dtype == torch.bfloat16

    class Casting(torch.nn.Linear):  # as ComfyUI's operations do
        def forward(self, x):
            return torch.nn.functional.linear(x, self.weight.to(x))

    cast = gemma.Gemma2(gemma.read(SIZES), type("Operations", (torch.nn.Module,), {
        "Linear": Casting, "Embedding": torch.nn.Embedding}))  # fmt: skip
    cast.load_state_dict(narrow.state_dict(), assign=True)
    states = cast.requires_grad_(False)(ids, dtype=torch.float32)
    assert states.dtype == torch.float32
    assert torch.allclose(states, narrow.float()(ids), rtol=1e-5, atol=1e-5)
    assert (states - wide).norm() < 0.05 * states.norm()


def test_pads_kept_under_inference_serve_training_too():
    model, ids = build(), prompt(6)
    with torch.inference_mode():
        model(ids)
    scale = torch.ones((), requires_grad=True)
    (model(ids) * scale).sum().backward()
    assert scale.grad is not None
    model.requires_grad_(True)
    model(ids).sum().backward()
    assert all(p.grad is not None for p in model.layers[0].parameters())


def test_names_with_and_without_a_prefix_and_nothing_too_much():
    config, state = gemma.read(SIZES), build().state_dict()
    published = {f"model.{k}": v for k, v in state.items()}
    published |= {"lm_head.weight": torch.ones(1), "model.norm.weight": torch.ones(1)}
    published |= {
        "model.layers.3.mlp.up_proj.weight": torch.ones(1),
        "model.rotary_emb.inv_freq": torch.ones(1),
    }
    for given in (state, published):
        assert gemma.weights(given, config).keys() == state.keys()


def test_a_config_of_newer_transformers():
    assert gemma.read({"rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}}).rope_theta == 500
    assert gemma.read({}) == gemma.GemmaConfig()
    assert gemma.read({"attn_logit_softcapping": None}).attn_logit_softcapping is None


def test_the_released_size_has_the_published_names():
    with torch.device("meta"):
        model = gemma.Gemma2(gemma.GemmaConfig())
    state = model.state_dict()
    assert len(state) == 1 + 25 * 11
    assert state["layers.24.self_attn.k_proj.weight"].shape == (1024, 2304)
    assert state["layers.0.mlp.down_proj.weight"].shape == (2304, 9216)
    assert state["embed_tokens.weight"].shape == (256000, 2304)
