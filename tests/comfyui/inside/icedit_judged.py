"""Who judges the early filter's candidates, what is shown, and what happens when a judge fails or the user cancels."""

import gc
import threading
import time

import comfy.model_management as management
import comfy.utils
import icedit_graph as graph
import torch
from comfy_execution.graph_utils import ExecutionBlocker
from icedit_early import FULL, LATENT, PICTURE, RECORD, Seeing, alone, check, filtered, guider, predictions
from icedit_flux import FOLDER, away, node, refused
from my_x_pack.nodes.host import memo
from my_x_pack.nodes.host.judges import ManualJudge, ModelJudge
from tiny_vision import write_clip, write_qwen


@check
def who_wins():
    """The candidate that a judge of all pictures would take, whatever it looks at; and what the judge was shown."""
    out = {}
    for channel in range(3):
        voice = Seeing(channel)
        made = filtered(ModelJudge(voice))
        best = int(made["images"][..., channel].mean((1, 2)).argmax())
        decoded = graph.VAE.decode(alone(100 + best)[0])
        picture = node("ICEditUncrop", diptych=decoded, record=RECORD, feather=0)[0]
        out[channel] = {
            "seed": made["seed"] - 100, "best": best, "asked": voice.asked, "shape": list(made["images"].shape),
            "shown": away(made["images"][best : best + 1], picture), "nfe": made["nfe"], "report": made["report"],
            "latent": away(made["latent"]["samples"], alone(100 + best)[0]), "sheet": list(made["sheet"].shape),
        }  # fmt: skip
    plain = filtered(record=None)["images"]
    return {**out, "plain": list(plain.shape)}


@check
def by_hand():
    """0 shows the candidates and stops what comes behind; another pick, another judge sample nothing again."""
    memo.forget()
    with predictions() as seen:
        none = filtered(ManualJudge(0))
        first = len(seen)
        picked = filtered(ManualJudge(3))
        judged = filtered(ModelJudge(Seeing()), image=PICTURE.flip(1))
        again = len(seen)
        other = filtered(ManualJudge(3), seed=200)
        other_seed = len(seen)
        fresh = filtered(ManualJudge(3), guider=guider())
        gc.collect()
    return {
        "blocked": [type(none[name]) is ExecutionBlocker and none[name].message is None
                    for name in ("seed", "noise", "latent")],
        "shape": list(none["images"].shape), "report": none["report"], "picked": picked["seed"],
        "calls": [first, again, other_seed, len(seen)], "same": away(picked["images"], none["images"]),
        "other": away(other["images"], none["images"]), "judged": judged["seed"] in range(100, 104),
        "fresh": away(fresh["images"], none["images"]),
    }  # fmt: skip


@check
def failing_judge():
    """The leader stays, the candidates come out all the same, and a warning is written."""
    warned = []
    say, module = None, __import__("my_x_pack.nodes.icedit_filter", fromlist=["say"])
    say, module.say = module.say, lambda text, *a, **k: warned.append(text)
    try:
        one = filtered(ModelJudge(Seeing(fails=(1,))))
        two = filtered(ModelJudge(Seeing(fails=(2,))))
        sound = filtered()
    finally:
        module.say = say
    return {"seeds": [one["seed"], two["seed"], sound["seed"]], "reports": [one["report"], two["report"]],
            "warned": warned, "images": list(one["images"].shape)}  # fmt: skip


@check
def progress_and_interrupt():
    """Progress grows to its end in both parts; an interrupt ends the sampling and the waiting for a judge at once."""
    told = []
    memo.forget()
    comfy.utils.PROGRESS_BAR_HOOK, hook = lambda value, total, *_, **__: told.append((value, total)), (
        comfy.utils.PROGRESS_BAR_HOOK)  # fmt: skip
    try:
        filtered(at_once=3)
    finally:
        comfy.utils.PROGRESS_BAR_HOOK = hook
    memo.forget()
    with predictions() as seen:
        stopped = interrupted(lambda: seen, filtered)
        calls = len(seen)
    return {"told": told, "stopped": stopped, "calls": calls, "later": len(filtered()["images"])}


def interrupted(seen, run):
    """Interrupts when the network has been asked twice; the name of what ended the run."""
    done = threading.Event()

    def watch():
        while len(seen()) < 2 and not done.is_set():
            time.sleep(0.001)
        management.interrupt_current_processing(True)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        run(early_sigmas=torch.linspace(1, 0, 200))
        return "nothing stopped it"
    except Exception as error:
        return type(error).__name__
    finally:
        done.set()
        thread.join()
        management.interrupt_current_processing(False)


@check
def interrupted_judge():
    """Waiting for an endpoint ends within the second, and the candidates are not sampled again afterwards."""
    from my_x_pack.nodes.host import chat_request

    memo.forget()
    timer = threading.Timer(0.4, management.interrupt_current_processing, (True,))
    began = time.monotonic()

    class Slow(Seeing):
        def ask(self, question, pictures):
            timer.start()
            return chat_request.wait_for(lambda: time.sleep(8), 9)

    try:
        filtered(ModelJudge(Slow()))
        ended = "nothing stopped it"
    except management.InterruptProcessingException:
        ended = "interrupted"
    finally:
        management.interrupt_current_processing(False)
    took = time.monotonic() - began
    with predictions() as seen:
        filtered()
    return {"ended": ended, "took": took, "sampled_again": len(seen)}


@check
def bad_input():
    pair = {"samples": LATENT["samples"].repeat(2, 1, 1, 1)}
    memo.forget()
    with predictions() as seen:
        out = {
            "latents": refused(lambda: filtered(latent=pair)),
            "pictures": refused(lambda: filtered(image=PICTURE.repeat(2, 1, 1, 1))),
            "steps": refused(lambda: filtered(early_sigmas=FULL[:1])),
            "instruction": refused(lambda: filtered(instruction=" ")),
            "pick": refused(lambda: filtered(ManualJudge(5))),
        }
    return {**out, "sampled": len(seen)}


@check
def models_as_judges():
    """Qwen2.5-VL and CLIP of a folder in ComfyUI's memory management, and as the node's judges."""
    folder = FOLDER / "models" / "editkit"
    write_qwen(folder / "qwen")
    write_clip(folder / "clip")
    judge = node("ICEditJudgeLocal", folder="qwen", swap_order=False, image_side=112, max_tokens=6)[0]
    said = judge.ask("which?", [PICTURE[0].movedim(-1, 0)] * 3)
    other = judge.ask("which?", [torch.zeros(3, 60, 60), torch.rand(3, 60, 90), torch.ones(3, 50, 60)])
    made = filtered(judge, candidates=3)
    clip = node("ICEditJudgeCLIP", folder="clip", caption="")[0]
    scored = filtered(clip, candidates=3)
    held = [type(m.model.model.inner).__name__ for m in management.current_loaded_models
            if hasattr(m.model.model, "inner")]  # fmt: skip
    return {"said": said, "other": other, "report": made["report"], "clip": scored["report"], "held": held,
            "expected": expected_words(folder / "qwen")}  # fmt: skip


def expected_words(folder):
    """What transformers alone says to the first question."""
    import numpy
    import transformers
    from PIL import Image

    processor = transformers.AutoProcessor.from_pretrained(folder)
    model = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(folder)
    shown = [Image.fromarray((PICTURE[0].numpy() * 255).round().astype(numpy.uint8))] * 3
    content = [*[{"type": "image"}] * 3, {"type": "text", "text": "which?"}]
    prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    inputs = processor(text=[prompt], images=shown, return_tensors="pt")
    made = model.generate(**inputs, max_new_tokens=6, do_sample=False)
    return processor.batch_decode(made[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[0].strip()
