"""Makes the fake pipeline importable by the tests of this folder."""

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def fake():
    """The module fake.py of this folder."""
    spec = importlib.util.spec_from_file_location(
        "editkit_fake_pipeline", Path(__file__).with_name("fake.py")
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
