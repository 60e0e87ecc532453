"""The command line: demo, run, queue, edit, batch, export, verify, serve, inspect, train, data, bench, eval, doctor."""

import argparse
import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from . import inspecting
from .batch import command as batch
from .errors import EditError
from .folders import PACK, Folders

STOPPED = 130  # what shells expect after Ctrl-C

DESCRIPTION = (
    "EditKit edits real photos: with small trained weights in the box, without ComfyUI and without a GPU."
)
EXAMPLES = """\
examples:
  {me} demo                                            five edits on sample photos, into out/demo
  {me} edit photo.jpg --task tone -o better.png        correct exposure and colour
  {me} edit photo.jpg --task remove --mask m.png -o clean.png
  {me} edit holiday/ --task relight -o out/            every photo of a folder
  {me} run workflows/api/tone.json --set image=photo.jpg --out out/
  {me} queue workflows/api/tone.json --batch holiday/ --out out/    the same on a ComfyUI server
  {me} inspect better.png                              its content credentials and its workflow
  {me} doctor                                          what is installed, what is missing
`{me} COMMAND --help` teaches each command."""

DEMO_EXAMPLES = """\
examples:
  {me} demo
  {me} demo --out ~/Desktop/editkit
It writes TASK_before.png and TASK_after.png for remove, outpaint, tone, relight and sticker, and
contact_sheet.png with all of them side by side."""

RUN_EXAMPLES = """\
FILE.json is a workflow in API format: one of workflows/api, or what ComfyUI's Workflow > Export (API) saves.
A PNG that ComfyUI or EditKit saved carries its workflow and can be named instead.

NAME in --set is a node's title (then its main input is set: a picture's path, a primitive's value,
SaveImage's file name prefix), or TITLE.input, or ID.input.

examples:
  {me} run workflows/api/tone.json --set image=photo.jpg --out out/
  {me} run workflows/api/remove_object.json --set image=photo.jpg --set mask=m.png --set result=clean
  {me} run my_graph.json --set 7.seed=3 --set 7.steps=4
  {me} run out/clean_00001_.png --set image=other.jpg          the workflow inside a saved picture, once more
A picture is looked for from the working folder, then in --input, then among the samples in
workflows/media."""

QUEUE_EXAMPLES = """\
FILE.json, --set and --input are those of `run`. Pictures are uploaded, results come back to --out, under the photo's
name. Needs neither torch nor any other package.

--batch gives each photo of a folder to the node titled `image` (--batch-input chooses another), and --masks gives
masks/NAME.png to the node titled `mask`. Whatever stops it (Ctrl-C, a crash, the server), the same command goes on:
editkit_queue.jsonl beside the results knows what is done, and nothing is done twice. A photo that fails is
reported, the others are done, and the exit code is 1.

examples:
  {me} queue workflows/api/tone.json --set image=photo.jpg
  {me} queue workflows/api/tone.json --server http://10.0.0.5:8188 --batch holiday/ --out out/
  {me} queue workflows/api/remove_object.json --batch cats/ --masks masks/ --out out/
  {me} queue workflows/api/tone.json --batch holiday/ --out out/ --retry-failed
A server behind a password: set the environment variable EDITKIT_SERVER_HEADER to the header that lets you in, such as
`Authorization: Bearer …`."""

EDIT_EXAMPLES = """\
tasks:
  remove    takes away what --mask shows, and the shadow it found (--no-shadow: only the mask)
  outpaint  makes the canvas larger (--to 16:9 or --to 1920x1080); the photo's own pixels stay exact
  tone      corrects exposure, white balance and contrast (--strength 0..1)
  relight   evens out coloured light and shadow (--strength 0..1)
  sticker   cuts out what --mask shows, as a sticker with a white border (a transparent PNG)

examples:
  {me} edit photo.jpg --task remove --mask m.png -o clean.png
  {me} edit photo.jpg --task outpaint --to 16:9 -o wide.png
  {me} edit holiday/ --task tone --strength 0.7 -o out/
  {me} edit cats/ --task sticker --mask masks/ -o stickers/     masks/NAME.png belongs to cats/NAME.jpg
A mask is white where the photo is to change. --engine litert runs a bundle that `export` made; auto does where that is
faster (a machine without a GPU) and says so. A photo of a folder that cannot be edited is reported, the
others are done, and the exit code is 1."""

EXPORT_EXAMPLES = """\
A bundle is a folder of LiteRT files (encoder, denoiser, decoder, gain heads) with a manifest, golden edits to check
your own loop against, and a README for Android, iOS and the web; and a .zip of it. It is checked before it appears.

quantisation: fp32, fp16 (half the download), int8 (dynamic: smallest and fastest on a CPU), int8-weights,
int8-static (calibrated; --calibration FOLDER of photos, or the word samples)

examples:
  {me} export                                          small, int8, to where --engine auto finds it
  {me} export --quant fp32 -o bundle/
  {me} export -o bundle/ --web                         with a page that runs it in the browser
  {me} export --model 195m --quant fp16 --sizes 512 -o big/
  {me} serve bundle/
It needs more packages: pip install -r requirements-mobile.txt."""

VERIFY_EXAMPLES = """\
Checks the manifest, then every file's size and SHA-256, then runs the golden edits with LiteRT and compares them with
what torch made at export. Exit code 1 and the file's name when something is wrong. Needs ai-edge-litert alone.

example:
  {me} verify bundle/"""

SERVE_EXAMPLES = """\
example:
  {me} serve bundle/ --port 8080      only this machine can reach it; stop with Ctrl-C"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Returns 0, 1 after an error, 2 for wrong usage, 130 after Ctrl-C."""
    _make_console_safe()
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(arguments)
    except EditError as problem:
        print(f"error: {problem}", file=sys.stderr)
        if "--debug" in arguments:
            traceback.print_exception(type(problem), problem, problem.__traceback__)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. What was finished is kept, and nothing is half-written.", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:  # `| head` has read enough
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ModuleNotFoundError as problem:
        if problem.name is None or problem.name.split(".")[0] == __package__.split(".")[0]:
            raise
        print(
            f"error: {problem.name} is not installed; `{_me()} doctor` says what is missing.", file=sys.stderr
        )
        return 1
    except SystemExit as end:  # argparse has said what it had to say
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1


def _make_console_safe() -> None:
    """A console of another code page (Windows) shows ? for what it lacks, where it would otherwise raise."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _dispatch(arguments: list[str]) -> int:
    # These have command lines of their own, --help included.
    if arguments[:1] == ["train"]:
        return _other_part("training", "train")(arguments[1:])
    if arguments[:1] == ["bench"]:
        return _other_part("benchmarks", "bench")(arguments[1:])
    if arguments[:1] == ["eval"]:
        return _other_part("benchmarks.evaluation", "eval")(arguments[1:])
    if arguments[:1] == ["data"]:
        return _data(arguments[1:])
    options = parser().parse_args(arguments)
    return options.command(options)


def _other_part(folder: str, command: str) -> Callable[[list[str]], int]:
    import importlib

    if not (PACK / folder.replace(".", "/") / "cli.py").is_file():
        raise EditError(
            f"`{command}` is not part of this copy of EditKit; clone its repository to have {folder}/."
        )
    return importlib.import_module(f"{__package__.rpartition('.')[0]}.{folder}.cli").main


def _data(arguments: list[str]) -> int:
    _other_part("training", "data")
    from . import triplets

    return triplets.main(arguments)


def _me() -> str:
    """How the user called us."""
    here = Path.cwd()
    return f"python {PACK.relative_to(here) if PACK.is_relative_to(here) else PACK}"


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; its help teaches by example."""
    layout = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser(
        prog=_me(), description=DESCRIPTION, epilog=EXAMPLES.format(me=_me()), formatter_class=layout
    )
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, help_text: str, examples: str, action: Callable) -> argparse.ArgumentParser:
        made = commands.add_parser(
            name,
            help=help_text,
            description=help_text,
            epilog=examples.format(me=_me()),
            formatter_class=layout,
        )
        made.set_defaults(command=action)
        made.add_argument("--debug", action="store_true", help="after an error, also print where it happened")
        return made

    _demo_arguments(command("demo", "Run the five shipped edits on the sample photos.", DEMO_EXAMPLES, _demo))
    _run_arguments(command("run", "Run a workflow in this process.", RUN_EXAMPLES, _run))
    _queue_arguments(command("queue", "Run a workflow on a ComfyUI server, also on a folder.", QUEUE_EXAMPLES, _queue))
    _edit_arguments(command("edit", "Edit a photo, or every photo of a folder.", EDIT_EXAMPLES, _edit))
    _export_arguments(
        command("export", "Make a bundle for phones and browsers.", EXPORT_EXAMPLES, _mobile("export"))
    )
    _bundle_argument(
        command("verify", "Check a bundle, and run its golden edits.", VERIFY_EXAMPLES, _mobile("verify"))
    )
    _serve_arguments(
        command("serve", "Serve a bundle's page to this machine.", SERVE_EXAMPLES, _mobile("serve"))
    )
    inspecting.arguments(command("inspect", inspecting.HELP, inspecting.EXAMPLES, inspecting.inspect))
    batch.arguments(command("batch", batch.HELP, batch.EXAMPLES, batch.command))
    commands.add_parser("train", help="Train or finetune the models (see train --help).")
    commands.add_parser("data", help="Build training triplets, and look at them (see data --help).")
    commands.add_parser("bench", help="Measure quality, speed and parity (see bench --help).")
    commands.add_parser("eval", help="Run the papers' benchmarks on a workflow (see eval --help).")
    command("doctor", "Say what is installed, which weights were found, what is missing.", "", _doctor)
    return top


def _demo_arguments(made: argparse.ArgumentParser) -> None:
    made.add_argument("--out", type=Path, default=Path("out/demo"), help="folder for the pictures (out/demo)")


def _run_arguments(made: argparse.ArgumentParser) -> None:
    _workflow_arguments(made)
    _c2pa_argument(made)


def _workflow_arguments(made: argparse.ArgumentParser) -> None:
    made.add_argument("file", type=Path, metavar="FILE.json", help="the workflow, in API format")
    made.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="set an input; may be repeated"
    )
    made.add_argument("--out", type=Path, default=Path("out"), help="folder that SaveImage writes to (out)")
    made.add_argument(
        "--input", type=Path, action="append", default=[], help="a further folder to find pictures in"
    )


def _queue_arguments(made: argparse.ArgumentParser) -> None:
    _workflow_arguments(made)
    made.add_argument(
        "--server", default="http://127.0.0.1:8188", metavar="URL", help="the server (http://127.0.0.1:8188)"
    )
    made.add_argument(
        "--batch", type=Path, action="append", default=[], metavar="FOLDER", help="photos; may be repeated"
    )
    made.add_argument("--batch-input", default="image", metavar="NAME", help="where each photo goes (image)")
    made.add_argument("--masks", type=Path, metavar="FOLDER|FILE", help="a mask for each photo of --batch")
    made.add_argument(
        "--patience", type=float, default=300, metavar="SECONDS", help="how long to wait for a lost server (300)"
    )
    made.add_argument("--retry-failed", action="store_true", help="try again what failed the last time")
    made.add_argument("--again", action="store_true", help="do everything anew, also what is done")


def _edit_arguments(made: argparse.ArgumentParser) -> None:
    from .shipped import FILES

    made.add_argument("photo", type=Path, metavar="PHOTO|FOLDER")
    made.add_argument("--task", required=True, choices=list(FILES))
    made.add_argument("--mask", type=Path, metavar="FILE|FOLDER", help="white where the photo is to change")
    made.add_argument("--to", metavar="16:9|1920x1080", help="outpaint: the shape or size to reach")
    made.add_argument("--no-shadow", action="store_true", help="remove, sticker: leave the shadow alone")
    made.add_argument("--strength", type=float, help="tone, relight: 0 changes nothing, 1 is the full edit")
    made.add_argument("--seed", type=int, help="another seed, another filling")
    made.add_argument(
        "--engine", choices=("auto", "torch", "litert"), default="auto", help="what computes (auto)"
    )
    made.add_argument(
        "-o", "--out", type=Path, default=Path("out"), help="file or folder for the result (out)"
    )
    _c2pa_argument(made)


def _c2pa_argument(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--c2pa", action="store_true", help="sign results with content credentials (see inspect --help)"
    )


def _export_arguments(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--model", default="small", metavar="small|195m|NAME|FOLDER", help="what to export (small)"
    )
    made.add_argument(
        "--quant", default="int8", metavar="NAME", help="fp32, fp16, int8, int8-weights, int8-static (int8)"
    )
    made.add_argument("-o", "--out", type=Path, help="the bundle's folder (where --engine auto looks)")
    made.add_argument("--sizes", metavar="N[,N…]", help="canvas sides in pixels (256; 512 for 195m)")
    made.add_argument(
        "--calibration", type=Path, metavar="FOLDER", help="photos for int8-static, or: samples"
    )
    made.add_argument("--single-file", action="store_true", help="all networks in one .tflite, a signature each")
    made.add_argument("--overwrite", action="store_true", help="replace an older bundle")
    made.add_argument("--web", action="store_true", help="add a page that runs the bundle in a browser")
    made.add_argument(
        "--litertjs", metavar="FOLDER|URL", help="where LiteRT.js is, or an npm registry to fetch it from"
    )


def _bundle_argument(made: argparse.ArgumentParser) -> None:
    made.add_argument("bundle", type=Path, metavar="BUNDLE", help="the folder that export made")


def _serve_arguments(made: argparse.ArgumentParser) -> None:
    _bundle_argument(made)
    made.add_argument("--port", type=int, default=8423, help="8423")


def _mobile(name: str) -> Callable[[argparse.Namespace], int]:
    def command(options: argparse.Namespace) -> int:
        from . import mobile

        return getattr(mobile, name)(options)

    return command


def _demo(options: argparse.Namespace) -> int:
    from .demo import demo
    from .registry import node_classes

    return demo(options.out, node_classes())


def _run(options: argparse.Namespace) -> int:
    from .run import run

    return run(options.file, options.set, _places(options), options.c2pa)


def _places(options: argparse.Namespace) -> Folders:
    missing = [str(p) for p in options.input if not p.is_dir()]
    if missing:
        raise EditError(f"There is no folder {missing[0]}.")
    return Folders(inputs=tuple(options.input), output=options.out)


def _queue(options: argparse.Namespace) -> int:
    from .jobs import Wanted
    from .queue import queue
    from .queueing import Options

    wanted = Wanted(options.set, options.batch, options.batch_input, options.masks)
    how = Options(options.patience, options.retry_failed, options.again)
    return queue(options.file, options.server, wanted, _places(options), how)


def _edit(options: argparse.Namespace) -> int:
    from .edit import Options, edit
    from .registry import node_classes

    if not options.photo.exists():
        raise EditError(f"There is no photo or folder {options.photo}.")
    wanted = Options(
        options.task, options.to, not options.no_shadow, options.strength, options.seed, options.engine, options.c2pa
    )
    return edit(options.photo, options.mask, options.out, wanted, node_classes())


def _doctor(options: argparse.Namespace) -> int:
    from .doctor import doctor

    return doctor()
