"""What a training left in its state's folder."""

import json

import pytest
from safetensors.torch import load_file


@pytest.fixture
def log():
    """log(state, stage): the rows of the stage's log, of the one system that was trained there."""

    def read(state, stage):
        (path,) = state.glob(f"*/{stage}/log.jsonl")
        return [json.loads(line) for line in path.read_text().splitlines()]

    return read


@pytest.fixture
def parts():
    """parts(state): name -> tensors of every part that was saved."""

    def read(state):
        return {path.stem: load_file(path) for path in state.glob("*/weights/*.safetensors")}

    return read
