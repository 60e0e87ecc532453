"""ICEdit's early filter: many short edits, a judge, one seed; and VIE-Score by the same judges."""

import logging

from ..models.errors import EditError
from ..models.icedit import judging, vie
from ..models.icedit.contact import numbered
from ..models.icedit.judging import JudgeFailed
from .host import early_filter, folders
from .host.bundles import say
from .host.endpoint import TYPES, Endpoint, check_address, host_of, key_of
from .host.judges import ClipJudge, ManualJudge, ModelJudge, scoring
from .host.progress import reporter
from .host.vision_models import ClipScorer, LocalModel
from .icedit import CATEGORY, DIPTYCH
from .unpacking import packed, picture, repeated

JUDGE = "EDITKIT_JUDGE"
JUDGE_INPUT = (JUDGE, {"tooltip": "Who judges: one of the Judge nodes."})
INSTRUCTION_INPUT = ("STRING", {"default": "", "multiline": True, "tooltip":
                                "What the edit was asked to do, in the words given to ICEdit Diptych."})  # fmt: skip
SWAP_INPUT = ("BOOLEAN", {"default": False, "tooltip":
                          "Asks twice with the two exchanged and counts only what holds both ways: twice the calls."})
SIDE_INPUT = ("INT", {"default": 768, "min": 64, "max": 2048, "tooltip":
                      "Longest side in pixels of the pictures that the model sees."})  # fmt: skip


class ICEditEarlyFilter:
    DESCRIPTION = (
        "Makes an edit with many seeds in few steps, lets a judge pick the best one, and hands its seed on to be run "
        "in full (early filter, section 3.3)."
    )
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["inference-time scaling", "best of n", "seed search", "vlm judge", "noise selection"]
    RETURN_TYPES = ("INT", "NOISE", "LATENT", "IMAGE", "IMAGE", "STRING", "INT")
    RETURN_NAMES = ("seed", "noise", "latent", "images", "sheet", "report", "nfe")
    OUTPUT_TOOLTIPS = (
        "The winner's seed, for Random Noise or KSampler.",
        "The winner's noise, for Sampler Custom Advanced.",
        "The winner as the short run left it.",
        "All candidates.",
        "All candidates on one sheet with their numbers.",
        "Who met whom, who won and why, what the judge left open, and the cost.",
        "Steps in all: n + M * m.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "guider": ("GUIDER", {"tooltip": "Model and conditioning, such as Basic Guider's."}),
                "sampler": ("SAMPLER", {"tooltip": "As in the full run."}),
                "early_sigmas": ("SIGMAS", {"tooltip": "The schedule of the short runs; the paper's m is 10 steps."}),
                "sigmas": ("SIGMAS", {"tooltip": "The schedule of the full run, for the count of steps."}),
                "latent": ("LATENT", {"tooltip": "As in the full run; one picture."}),
                "vae": ("VAE", {"tooltip": "Decodes the candidates for the judge."}),
                "judge": JUDGE_INPUT,
                "image": ("IMAGE", {"tooltip": "The picture before the edit, any size."}),
                "instruction": INSTRUCTION_INPUT,
                "seed": ("INT", {"default": 0, "min": 0, "max": 0xFFFFFFFFFFFFFFFF, "control_after_generate": True,
                                 "tooltip": "The first candidate's; the next ones follow by 1."}),
                "candidates": ("INT", {"default": 6, "min": 2, "max": 64, "tooltip":
                                       "M. The paper takes 6; 12 gain little more."}),
                "at_once": ("INT", {"default": 0, "min": 0, "max": 64, "tooltip":
                                    "How many are sampled side by side; 0: as many as memory allows."}),
            },
            "optional": {
                "record": (DIPTYCH, {"tooltip": "From ICEdit Diptych: the right panel alone is judged, put back "
                                     "into the picture. Left open: the whole decoded picture is."}),
            },
        }  # fmt: skip

    def run(
        self, *, guider, sampler, early_sigmas, sigmas, latent, vae, judge, image, instruction, seed, candidates,
        at_once, record=None,
    ):  # fmt: skip
        run = early_filter.Run(guider, sampler, early_sigmas, latent)
        original = _one(image)
        judge.check(instruction, candidates)
        seeds = judging.seeds(seed, candidates)
        found = early_filter.candidates(run, seeds, at_once, reporter())
        pictures = early_filter.pictures(vae, found, early_sigmas, record)
        decision = judge.choose(list(pictures), original, instruction.strip(), reporter())
        steps = max(len(sigmas) - 1, 0)
        report = judging.report(judge.name, seeds, decision, steps, run.steps)
        if warning := judging.warning(decision):
            say(f"ICEdit Early Filter: {warning}", logging.WARNING, once=False)
        sheet = numbered(pictures, decision.winner)
        shown = (packed(pictures), packed(sheet), report, judging.evaluations(steps, run.steps, candidates))
        return (*early_filter.winner(run, found, seeds, decision.winner), *shown)


def _one(image):
    """The picture [3, h, w] before the edit. EditError for several."""
    rgb, _ = picture(image)
    if len(rgb) != 1:
        raise EditError(f"There are {len(rgb)} pictures to edit, and the filter finds one seed for one; give one.")
    return rgb[0]


class ICEditJudgePick:
    DESCRIPTION = "A judge: you. Queue once with 0, look at the candidates, then set the number of the best."
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["manual judge", "choose seed", "human in the loop"]
    RETURN_TYPES, RETURN_NAMES, OUTPUT_TOOLTIPS = (JUDGE,), ("judge",), ("For ICEdit Early Filter.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {
            "pick": ("INT", {"default": 0, "min": 0, "max": 64, "tooltip":
                             "The candidate's number on the sheet; 0 shows the candidates and stops there."}),
        }}  # fmt: skip

    def run(self, *, pick):
        return (ManualJudge(pick),)


class ICEditJudgeEndpoint:
    DESCRIPTION = (
        "A judge: a vision model behind an OpenAI-compatible address. Sends the pictures and the instruction to that "
        "address and nowhere else."
    )
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["vlm", "openai", "vllm", "ollama", "qwen2.5-vl", "gpt-4o"]
    RETURN_TYPES, RETURN_NAMES = (JUDGE,), ("judge",)
    OUTPUT_TOOLTIPS = ("For ICEdit Early Filter and VIE Score.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "url": ("STRING", {"default": "", "tooltip":
                                   "Such as http://127.0.0.1:8000/v1. The pictures are sent there."}),
                "model": ("STRING", {"default": "Qwen/Qwen2.5-VL-72B-Instruct", "tooltip":
                                     "The name that the endpoint knows it by. Small ones (7B) often misjudge."}),
                "key_variable": ("STRING", {"default": "", "tooltip":
                                            "The NAME of the environment variable with the key, never the key: "
                                            "EDITKIT_..., or any with NAME_HOST set beside it. Empty: no key."}),
                "timeout": ("FLOAT", {"default": 60.0, "min": 0.5, "max": 600.0, "step": 0.5, "tooltip":
                                      "Seconds for one try."}),
                "retries": ("INT", {"default": 2, "min": 0, "max": 10, "tooltip":
                                    "Further tries, with growing pauses, when it is late, busy or garbled."}),
                "swap_order": SWAP_INPUT,
                "image_format": ([*TYPES], {"tooltip": "png is exact; jpeg (quality 95) is smaller."}),
                "image_side": SIDE_INPUT,
                "max_tokens": ("INT", {"default": 512, "min": 0, "max": 16384, "tooltip":
                                       "The longest answer; 0 leaves it to the endpoint."}),
                "temperature": ("FLOAT", {"default": 0.0, "min": -1.0, "max": 2.0, "step": 0.1, "tooltip":
                                          "0 for the same answer each time; -1 leaves it to the endpoint."}),
            }
        }  # fmt: skip

    @classmethod
    def VALIDATE_INPUTS(cls, url, model, key_variable):
        try:
            if url is not None:  # a linked one is known only when it runs
                check_address(url)
            if key_variable is not None and url is not None:
                key_of(key_variable.strip(), host_of(url))
        except EditError as problem:
            return str(problem)
        return True

    def run(
        self, *, url, model, key_variable, timeout, retries, swap_order, image_format, image_side, max_tokens,
        temperature,
    ):  # fmt: skip
        voice = Endpoint(
            url, model, key_variable, timeout, retries, image_format, image_side, max_tokens, temperature
        )
        return (ModelJudge(voice, swap_order),)


class ICEditJudgeLocal:
    DESCRIPTION = "A judge: a vision-language model that runs here, such as Qwen2.5-VL. Nothing leaves this machine."
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["vlm", "qwen2.5-vl", "transformers", "offline judge"]
    RETURN_TYPES, RETURN_NAMES = (JUDGE,), ("judge",)
    OUTPUT_TOOLTIPS = ("For ICEdit Early Filter and VIE Score.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "folder": ([*folders.vision_folders("chat")] or [""], {
                    "tooltip": "A transformers folder below models/editkit."}),
                "swap_order": SWAP_INPUT,
                "image_side": SIDE_INPUT,
                "max_tokens": ("INT", {"default": 256, "min": 8, "max": 4096, "tooltip": "The longest answer."}),
            }
        }  # fmt: skip

    @classmethod
    def VALIDATE_INPUTS(cls, folder):
        return _found(folder, "chat")

    def run(self, *, folder, swap_order, image_side, max_tokens):
        return (ModelJudge(LocalModel(folder, max_tokens, image_side), swap_order),)


class ICEditJudgeCLIP:
    DESCRIPTION = "A judge: the CLIP score of picture and text. Quick and local, but worse than no judge in the paper."
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["clip score", "text-image similarity"]
    RETURN_TYPES, RETURN_NAMES, OUTPUT_TOOLTIPS = (JUDGE,), ("judge",), ("For ICEdit Early Filter.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "folder": ([*folders.vision_folders("clip")] or [""], {
                    "tooltip": "A transformers folder of a CLIP below models/editkit."}),
                "caption": ("STRING", {"default": "", "multiline": True, "tooltip":
                                       "What the edited picture shows; empty: the instruction."}),
            }
        }  # fmt: skip

    @classmethod
    def VALIDATE_INPUTS(cls, folder):
        return _found(folder, "clip")

    def run(self, *, folder, caption):
        return (ClipJudge(ClipScorer(folder), caption),)


def _found(folder, kind: str):
    """True, or the sentence that a folder is not there; a linked name is known only when it runs."""
    try:
        return folder is None or bool(folders.vision_folder(folder, kind))
    except EditError as problem:
        return str(problem)


class ICEditVIEScore:
    DESCRIPTION = "Scores an edit as the paper does: how well it follows its instruction, how clean it is, and both."
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["viescore", "evaluation", "semantic consistency", "perceptual quality", "metric"]
    RETURN_TYPES = ("FLOAT", "FLOAT", "FLOAT", "FLOAT", "STRING")
    RETURN_NAMES = ("sc", "pq", "overall", "weighted", "report")
    OUTPUT_TOOLTIPS = (
        "Follows the instruction and changes little else, 0 to 10; of several edits the mean.",
        "Free of artefacts, 0 to 10.",
        "The root of SC * PQ, 0 to 10.",
        "PQ weighted by SC, 0 to 1 (appendix B.4.2).",
        "The marks of each edit, and what the judge left open.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "judge": (JUDGE, {"tooltip": "Judge (Endpoint) or Judge (Local Model)."}),
                "image": ("IMAGE", {"tooltip": "The picture before the edit."}),
                "edited": ("IMAGE", {"tooltip": "One or several edits of it, or one for each picture."}),
                "instruction": INSTRUCTION_INPUT,
                "threshold": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 10.0, "step": 0.5, "tooltip":
                                        "For weighted: SC counts 1 from here on, else 0; 0 takes SC / 10."}),
            }
        }  # fmt: skip

    def run(self, *, judge, image, edited, instruction, threshold):
        judge = scoring(judge)
        judge.check(instruction, 1)
        before, _, after = repeated(picture(image)[0], None, picture(edited)[0])
        scores, lines, report = [], [], reporter()
        for number, (old, new) in enumerate(zip(before, after, strict=True), start=1):
            try:
                scores.append(judge.score(old, new, instruction.strip()))
                lines.append(f"{number}: {scores[-1].told()}")
            except JudgeFailed as failed:
                lines.append(f"{number}: no marks. {failed}")
                say(f"ICEdit VIE Score: {failed}", logging.WARNING, once=False)
                if failed.down:
                    break
            report(number, len(after))
        means = vie.mean(scores, threshold)
        return (*means, vie.report(judge.name, means, lines, len(after)))


NODE_CLASS_MAPPINGS = {
    "EditKitICEditEarlyFilter": ICEditEarlyFilter,
    "EditKitICEditJudgePick": ICEditJudgePick,
    "EditKitICEditJudgeEndpoint": ICEditJudgeEndpoint,
    "EditKitICEditJudgeLocal": ICEditJudgeLocal,
    "EditKitICEditJudgeCLIP": ICEditJudgeCLIP,
    "EditKitICEditVIEScore": ICEditVIEScore,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "EditKitICEditEarlyFilter": "ICEdit Early Filter",
    "EditKitICEditJudgePick": "ICEdit Judge (Manual Pick)",
    "EditKitICEditJudgeEndpoint": "ICEdit Judge (Endpoint)",
    "EditKitICEditJudgeLocal": "ICEdit Judge (Local Model)",
    "EditKitICEditJudgeCLIP": "ICEdit Judge (CLIP Score)",
    "EditKitICEditVIEScore": "ICEdit VIE Score",
}
