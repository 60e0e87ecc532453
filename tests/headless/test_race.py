"""Edit Race in the runner: the systems run one by one and are timed, and whatever blurs a time is said."""

import gc
import json
import time

import pytest
import torch

from editkit import NODE_CLASS_MAPPINGS as NODES
from editkit.headless.errors import NodeFailed
from editkit.headless.graph import ExecutionBlocker
from editkit.models.icedit.judging import JudgeFailed
from editkit.nodes.host import laps
from editkit.nodes.host.judges import ClipJudge, ManualJudge, ModelJudge

IMAGE = ("IMAGE",)
PAUSE = 0.2


class Systems:
    """Nodes for a race, and the order in which they ran."""

    def __init__(self, node, runner):
        self.ran, self.judge, self.mask, self.count = [], None, region(), 1
        self.runner = runner(
            EditKitEditRace=NODES["EditKitEditRace"], Photo=node(self.photo, returns=("IMAGE",)),
            Load=node(self.load, {"pause": ("FLOAT",)}, returns=("MODEL",)),
            EditKitSystem=node(self.edit, {"image": IMAGE, "by": ("FLOAT",), "pause": ("FLOAT",)},
                               {"model": ("MODEL",)}, returns=("IMAGE",)),
            Region=node(lambda: (self.mask,), returns=("MASK",)),
            Judge=node(lambda: (self.judge,), returns=("EDITKIT_JUDGE",)),
            Blocked=node(lambda image: (ExecutionBlocker(None),), {"image": IMAGE}, returns=("IMAGE",)),
            Look=node(lambda image: {"ui": {"seen": [1]}}, {"image": IMAGE}, returns=(), OUTPUT_NODE=True),
        )  # fmt: skip

    def photo(self):
        return (torch.full((self.count, 24, 32, 3), 0.4),)

    def load(self, pause):
        self.ran.append("load")
        time.sleep(pause)
        return ("model",)

    def edit(self, image, by, pause, model=None):
        self.ran.append(by)
        if by < 0:
            raise RuntimeError("out of luck")
        time.sleep(pause)
        return (image + by * region()[..., None],)

    def run(self, prompt):
        """The table's rows as dicts by their head, the table's first line, and the run."""
        done = self.runner.run(prompt)
        text = done.values("race")[4][0]
        lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|") and "--" not in line]
        head, *rows = [[cell.strip() for cell in line] for line in lines]
        return [dict(zip(head, row, strict=True)) for row in rows], text.splitlines()[0], done


def region():
    mask = torch.zeros(1, 24, 32)
    mask[:, 6:18, 8:24] = 1
    return mask


def system(by, pause=0.0, **more):
    return {"class_type": "EditKitSystem", "inputs": {"image": ["photo", 0], "by": by, "pause": pause, **more},
            "_meta": {"title": f"Adds {by}"}}  # fmt: skip


def race(*results, rule="edit and preservation", floor=0.02, mask=True, names="", **more):
    """A prompt with these results wired in order; None leaves an input open."""
    inputs = {"image": ["photo", 0], "instruction": "brighter", "names": names, "rule": rule, "floor": floor, **more}
    prompt = {"photo": {"class_type": "Photo", "inputs": {}}}
    prompt["race"] = {"class_type": "EditKitEditRace", "inputs": inputs}
    if mask:
        prompt["region"] = {"class_type": "Region", "inputs": {}}
        inputs["mask"] = ["region", 0]
    for number, made in enumerate(results, start=1):
        if made is not None:
            prompt[f"s{number}"] = made
            inputs[f"result_{number}"] = [f"s{number}", 0]
    return prompt


def seconds(row):
    return float(row["seconds"].strip("<=>~ "))


@pytest.fixture
def systems(node, runner):
    return Systems(node, runner)


def test_systems_run_one_by_one_in_order_and_each_is_timed(systems):
    rows, said, done = systems.run(race(system(0.1, PAUSE), system(0.3), None, system(0.2, 2 * PAUSE)))
    assert systems.ran == [0.1, 0.3, 0.2]
    assert [row["#"] for row in rows] == ["1", "2", "4"]
    assert [row["system"] for row in rows] == ["Adds 0.1", "Adds 0.3", "Adds 0.2"]
    assert PAUSE <= seconds(rows[0]) < 2 * PAUSE <= seconds(rows[2]) and seconds(rows[1]) < PAUSE
    assert not any(row["seconds"][0] in "<>~" for row in rows)
    assert all("GiB" in row["memory"] for row in rows)
    assert said.startswith("2. Adds 0.3 wins.")
    image, name, number, sheet, _ = (slot[0] for slot in done.values("race"))
    assert torch.equal(image, done.values("s2")[0][0]) and (name, number) == ("Adds 0.3", 2) and sheet.shape[0] == 1
    assert rows[1]["PSNR outside"] == "99.00" and rows[1]["change inside"] == "0.3000"


def test_a_cached_picture_is_not_called_fast(systems):
    prompt = race(system(0.1, PAUSE), system(0.3), rule="fastest")
    prompt["race"]["inputs"].pop("result_2")
    systems.run(prompt)
    prompt["race"]["inputs"]["result_2"] = ["s2", 0]
    prompt["s1"]["inputs"]["pause"] = PAUSE  # the same as before: from the cache
    rows, _, _ = systems.run(prompt)
    assert systems.ran == [0.1, 0.3]
    assert seconds(rows[0]) >= PAUSE and "timed in an earlier run" in rows[0]["notes"]
    assert "earlier" not in rows[1]["notes"]


def test_a_picture_that_another_output_had_made_before_is_not_timed(systems):
    prompt = {"look": {"class_type": "Look", "inputs": {"image": ["s1", 0]}}, **race(system(0.1), system(0.3))}
    systems.runner.run({name: prompt[name] for name in ("photo", "region", "s1", "look")})  # nobody timed this
    rows, _, _ = systems.run(prompt)
    assert rows[0]["seconds"] == "not timed" and "not timed" in rows[0]["notes"]
    fastest = race(system(0.1), system(0.3, PAUSE), rule="fastest")
    rows, said, _ = systems.run({**fastest, "look": prompt["look"]})
    assert rows[0]["score"] == "-" and said.startswith("2.")


def test_what_else_runs_meanwhile_bounds_a_time(systems):
    other = {"class_type": "EditKitSystem", "inputs": {"image": ["s1", 0], "by": 0.9, "pause": PAUSE}}
    look = {"class_type": "Look", "inputs": {"image": ["other", 0]}}
    rows, _, _ = systems.run({**race(system(0.1), system(0.3)), "other": other, "look": look})
    assert systems.ran == [0.1, 0.9, 0.3]
    assert rows[0]["seconds"][0] not in "<>~" and seconds(rows[0]) < PAUSE
    assert rows[1]["seconds"].startswith("<=") and seconds(rows[1]) >= PAUSE
    assert "with 2 nodes that others need" in rows[1]["notes"]


def test_a_loader_that_two_share_counts_with_neither_alone(systems):
    model = {"model": ["load", 0]}
    prompt = race(system(0.1, **model), system(0.3, **model))
    prompt["load"] = {"class_type": "Load", "inputs": {"pause": PAUSE}}
    rows, _, _ = systems.run(prompt)
    assert rows[0]["seconds"].startswith("<=") and seconds(rows[0]) >= PAUSE
    assert "with 1 node that others need" in rows[0]["notes"]
    assert seconds(rows[1]) < PAUSE and rows[1]["seconds"][0] not in "<>~"


def test_nobody_wins_below_the_floor_and_the_original_comes_out(systems):
    _, said, done = systems.run(race(system(0.0), system(0.01)))
    image, name, number, *_ = (slot[0] for slot in done.values("race"))
    assert said.startswith("Nobody wins.") and (name, number) == ("", 0)
    assert image is done.values("photo")[0][0]


def test_names_are_given_and_else_come_from_the_nodes(systems):
    rows, _, _ = systems.run(race(system(0.1), system(0.1, 0.001), system(0.3), names=", ,Mine"))
    assert [row["system"] for row in rows] == ["Adds 0.1 (1)", "Adds 0.1 (2)", "Mine"]


def test_without_a_mask_the_whole_picture_is_inside(systems):
    rows, _, done = systems.run(race(system(0.3), mask=False))
    assert rows[0]["change inside"] == "0.0750" and rows[0]["PSNR outside"] == "-"
    assert "outside is not measured" in done.values("race")[4][0]


class Voice:
    """A model's words: marks by the brightness of what it is shown, or the failure that it is made with."""

    name = "the test's judge"

    def __init__(self, failure=None):
        self.failure, self.asked = failure, 0

    def ask(self, question, pictures):
        self.asked += 1
        if self.failure:
            raise self.failure
        bright = round(10 * float(pictures[-1].max()))
        return json.dumps({"score": [bright, 10] if len(pictures) == 2 else [10]})


def judged(systems, judge, *results, **more):
    systems.judge = judge
    prompt = race(*results, judge=["judge", 0], **more)
    return {**prompt, "judge": {"class_type": "Judge", "inputs": {}}}


def test_a_judges_marks_decide(systems):
    rows, said, _ = systems.run(judged(systems, ModelJudge(Voice()), system(0.5), system(0.1), rule="judge"))
    assert [row["marks"] for row in rows] == ["VIE 9.49", "VIE 7.07"] and said.startswith("1.")


def test_clip_gives_its_cosine(systems):
    scorer = type("Scorer", (), {"folder": "clip", "scores": lambda self, edits, text: [float(edits[0].max()) / 4]})()
    rows, said, _ = systems.run(judged(systems, ClipJudge(scorer), system(0.1), system(0.5)))
    assert [row["marks"] for row in rows] == ["CLIP 0.1250", "CLIP 0.2250"] and "CLIP" in said


def test_a_judge_that_is_down_costs_no_picture_and_is_not_asked_again(systems):
    voice = Voice(JudgeFailed("The endpoint is not there.", down=True))
    rows, said, _ = systems.run(judged(systems, ModelJudge(voice), system(0.1), system(0.3)))
    assert voice.asked == 1 and said.startswith("2. Adds 0.3 wins.") and "no judge said" in said
    assert "no marks: The endpoint is not there" in rows[0]["notes"] and "not asked any more" in rows[1]["notes"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rule": "judge"}, "wire a judge"),
        ({"rule": "least change outside", "mask": False}, "wire a mask"),
        ({"judge": ["judge", 0], "instruction": " "}, "instruction is empty"),
    ],
)
def test_what_is_missing_is_said_before_any_system_runs(systems, change, said):
    systems.judge = ModelJudge(Voice())
    instruction = change.pop("instruction", None)
    prompt = {**race(system(0.1), **change), "judge": {"class_type": "Judge", "inputs": {}}}
    if instruction:
        prompt["race"]["inputs"]["instruction"] = instruction
    with pytest.raises(NodeFailed, match=said):
        systems.runner.run(prompt)
    assert systems.ran == []


def test_a_person_is_no_judge_of_a_race(systems):
    with pytest.raises(NodeFailed, match="A person gives no marks"):
        systems.runner.run(judged(systems, ManualJudge(1), system(0.1)))
    assert systems.ran == []


def test_a_race_without_systems_is_refused(systems):
    with pytest.raises(NodeFailed, match="No result is wired"):
        systems.runner.run(race())


def test_an_empty_mask_is_refused_before_any_system_runs(systems):
    systems.mask = torch.zeros(1, 24, 32)
    with pytest.raises(NodeFailed, match="black everywhere"):
        systems.runner.run(race(system(0.1)))
    assert systems.ran == []


def test_a_blocked_system_withholds_the_race_as_in_comfyui(systems):
    prompt = race({"class_type": "Blocked", "inputs": {"image": ["photo", 0]}}, system(0.3))
    done = systems.runner.run(prompt)
    assert done.completed and "race" not in done.outputs


def test_a_system_that_fails_ends_the_run_and_nothing_of_the_race_is_kept(systems):
    with pytest.raises(NodeFailed, match="out of luck"):
        systems.runner.run(race(system(0.1), system(-1.0), system(0.3)))
    assert systems.ran == [0.1, -1.0]
    gc.collect()
    assert len(laps._running) == 0


def test_a_batch_is_raced_as_a_batch_and_one_that_does_not_fit_is_named(systems, node):
    systems.count = 2
    rows, said, done = systems.run(race(system(0.1), system(0.3)))
    assert said.startswith("2.") and done.values("race")[0][0].shape[0] == 2 and rows[0]["change inside"] == "0.1000"
    three = node(lambda image: (image[:1].repeat(3, 1, 1, 1),), {"image": IMAGE}, returns=("IMAGE",))
    systems.runner.registry["Three"] = three
    with pytest.raises(NodeFailed, match="3 edited pictures do not fit 2"):
        systems.runner.run(race(system(0.1), {"class_type": "Three", "inputs": {"image": ["photo", 0]}}))
