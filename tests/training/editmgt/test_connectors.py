"""The connectors of Table 5: what they are, how their weights tell them apart, and what they are told in sampling."""

import pytest
import torch

from editkit.models.editmgt import config, sampling
from editkit.training.editmgt import release, world


@pytest.mark.parametrize(
    ("name", "tokens"), [("linear", 20), ("mlp2", 20), ("mlp3", 20), ("qformer", 6), ("ella", 256)]
)
def test_each_connector_is_known_by_its_weights(network, name, tokens):
    net = network(name)
    assert config.connector_kind(net.state_dict()) == net.config.connector == release.CONNECTORS[name]
    made = net.connector(torch.randn(2, world.WORDS, world.JOINT), torch.tensor([1.0, 5.0]))
    assert made.shape == (2, tokens, net.config.width)


def test_the_q_former_has_blip2s_six_queries_and_two_layers(network):
    q_former = network("qformer").connector
    assert len(q_former.queries) == 6 and len(q_former.blocks) == 2 and not q_former.timed
    text, other = torch.randn(2, 1, 5, world.JOINT)
    assert not torch.allclose(q_former(text), q_former(other))
    assert torch.allclose(q_former(text), q_former(text.flip(1)), atol=1e-6)  # a set: order is in the states


@torch.no_grad()
def test_ella_is_told_every_steps_time(network, monkeypatch):
    """In sampling it is called at every step with what that step is told, with guidance and after its end."""
    net, encoders, told = network("ella"), world.World(), []
    forward = net.connector.forward
    monkeypatch.setattr(net.connector, "forward", lambda x, t=None: told.append(t.tolist()) or forward(x, t))
    options = sampling.Options(steps=4, guidance_until=0.5)
    sampling.run(net, encoders.text("remove it"), encoders.text(""), (8, 8), options)
    assert [t for i, t in enumerate(told) if t not in told[:i]] == [[3.0, 3.0], [2.0, 2.0], [1.0], [0.0]]
