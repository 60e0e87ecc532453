"""The page's files agree with each other, with the exporter and with the pipeline's constants."""

import hashlib
import json
import re

import numpy as np
import pytest

from editkit.models.mobile import manifest, web
from editkit.models.mobile.schema import problem
from editkit.tests.browser.conftest import PAGE, K

SCRIPTS = {path.name: path.read_text(encoding="utf-8") for path in PAGE.glob("*.js")}
MOST_LINES = 400


def names_of_constants(text: str) -> set[str]:
    """What a script reads from `manifest.constants`, which is called k everywhere."""
    return set(re.findall(r"\bk\.([a-z_0-9]+)", text))


def test_the_page_reads_every_constant_that_a_manifest_has_and_no_other():
    read = set().union(*map(names_of_constants, SCRIPTS.values()))
    listed = {name for name in K if not name.startswith("membrane_sweeps_")}
    assert "`membrane_sweeps_${level}`" in SCRIPTS["guess.js"]
    assert {name for name in read if not name.startswith("membrane_sweeps_")} == listed


def test_constants_are_plain_numbers_as_the_schema_wants_them():
    assert problem(K, manifest.schema()["properties"]["constants"]) is None


def test_the_service_worker_keeps_every_file_of_the_page():
    listed = re.search(r"const PAGE = \[(.*?)\]", SCRIPTS["sw.js"], re.S)[1]
    kept = set(re.findall(r'"([^"]+)"', listed)) - {"./"}
    assert kept == {path.name for path in PAGE.iterdir()} - {"sw.js"}


def test_every_import_leads_to_a_file_and_every_file_is_used():
    imported = {"app.js", "sw.js", "worker.js", "engine.js", "index.html", "style.css", "icon.svg"}
    for name, text in SCRIPTS.items():
        for target in re.findall(r'^(?:import|export) .*?from "\./([^"]+)";', text, re.M | re.S):
            assert (PAGE / target).is_file(), (name, target)
            imported.add(target)
    assert imported == {path.name for path in PAGE.iterdir()}


def test_every_element_that_the_script_asks_for_is_on_the_page():
    html = (PAGE / "index.html").read_text(encoding="utf-8")
    asked = set(re.findall(r'\b(?:part|on)\("([a-z]+)"', SCRIPTS["app.js"]))
    assert asked <= set(re.findall(r'\bid="([a-z]+)"', html))


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_stay_short(name):
    assert SCRIPTS[name].count("\n") <= MOST_LINES


def test_the_page_names_no_address_and_no_inline_code():
    html = (PAGE / "index.html").read_text(encoding="utf-8")
    policy = re.search(r'content="(default-src[^"]*)"', html)[1]
    assert "default-src 'none'" in policy and "connect-src 'self'" in policy and "unsafe-inline" not in policy
    assert not re.search(r"<script(?![^>]*\bsrc=)|\bon[a-z]+=|\bstyle=", html)
    for name, text in SCRIPTS.items():
        addresses = [a for a in re.findall(r"https?://[^\s\"'`)]+", text) if "www.w3.org/2000/svg" not in a]
        assert addresses == [], name


def test_the_exporter_copies_the_pairs_of_litertjs_that_the_page_asks_for():
    asked = {f"wasm/litert_wasm{glue}_internal.{end}" for glue in ("", "_compat", "_jspi") for end in ("js", "wasm")}
    assert asked | {"index.js", "wasm-utils.js"} == set(web.FILES)
    for glue in ("_jspi", "_compat"):
        assert f'"{glue}"' in SCRIPTS["runtime.js"]


@pytest.mark.parametrize("length", [0, 1, 55, 56, 63, 64, 65, 1000, 100_003])
def test_hashes_without_the_browsers_help(js, length):
    content = np.random.default_rng(length).integers(0, 256, length + -length % 4, np.uint8)
    found = js("", "plainSha256", content.view("<f4"))
    assert found == hashlib.sha256(content.tobytes()).hexdigest()


def test_noise_is_normal_and_follows_its_seed(js):
    one, again, other = (js("networks.js", "gaussian", 40_000, seed) for seed in (3, 3, 4))
    assert np.array_equal(one, again) and abs(np.corrcoef(one, other)[0, 1]) < 0.03
    assert abs(one.mean()) < 0.02 and abs(one.std() - 1) < 0.02 and abs((one**4).mean() - 3) < 0.15


def test_the_sampler_renoises_between_its_steps(js):
    """A denoiser that returns what it is given as time and noise shows the loop: noise only for several steps."""
    manifest_ = {
        "files": [{"name": "denoiser", "signatures": [{"size": 16}]}], "model": {"downscale": 8, "latent_channels": 2},
        "schedule": {"steps": {"1": [[1, 0, 1]], "2": [[1, 0, 1], [0.5, 0.5, 0.5]]}},
    }  # fmt: skip
    one, two = (js("", "sampled", json.loads(json.dumps(manifest_)), steps) for steps in (1, 2))
    assert [row["time"].tolist() for row in one] == [[1, 0, 1]] and not one[0]["noise"].any()
    assert [row["time"].tolist() for row in two] == [[1, 0, 1], [0.5, 0.5, 0.5]]
    assert two[0]["noise"].std() > 0.3 and not np.array_equal(two[0]["noise"], two[1]["noise"])
    assert not two[0]["latent"].any() and (two[1]["latent"] == 7).all()  # what the first step returned
