"""Small folders of every benchmark's layout, made of the sample photographs with the published names of files and
fields."""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[3]
MEDIA = ROOT / "workflows" / "media"
WIDTH, HEIGHT = 72, 64
BOX = (16, 20, 40, 44)  # left, top, right, bottom of every edit


def photographs() -> list[Image.Image]:
    """The sample photographs, small."""
    paths = sorted(MEDIA.glob("*.jpg"))
    return [Image.open(path).convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS) for path in paths]


def edited(photo: Image.Image, colour=(220, 30, 40), noise: int = 2, seed: int = 0) -> Image.Image:
    """The true edit: the box in a colour, the rest as a second photograph of the same would be, with faint noise."""
    values = np.asarray(photo, np.int16)
    values = values + np.random.default_rng(seed).integers(-noise, noise + 1, values.shape)
    left, top, right, bottom = BOX
    values[top:bottom, left:right] = colour
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def mask() -> Image.Image:
    made = Image.new("L", (WIDTH, HEIGHT))
    made.paste(255, BOX)
    return made


def runs(side: int = 512) -> list[int]:
    """The mask as PIE-Bench's run lengths on its 512 px square."""
    found = np.asarray(mask().resize((side, side), Image.Resampling.NEAREST)).ravel() > 127
    edges = np.flatnonzero(np.diff(np.concatenate([[0], found.astype(np.int8), [0]])))
    return [int(n) for start, end in zip(edges[0::2], edges[1::2], strict=True) for n in (start, end - start)]


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def parquet(path: Path, rows: list[dict]) -> None:
    """Pictures among the values are stored as the `datasets` library stores them."""
    from pyarrow import Table
    from pyarrow import parquet as pq

    def cell(value):
        return {"bytes": png(value), "path": None} if isinstance(value, Image.Image) else value

    path.parent.mkdir(parents=True, exist_ok=True)
    made = [{name: cell(value) for name, value in row.items()} for row in rows]
    pq.write_table(Table.from_pylist(made), path, row_group_size=2)


def jsonl(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n", encoding="utf-8")


def pie_bench(folder: Path, count: int = 3) -> Path:
    mapping = {}
    for number, photo in enumerate(photographs()[:count]):
        name = f"1_change_object_80/{number:012d}.jpg" if number % 2 else f"0_random_140/{number:012d}.jpg"
        save(photo, folder / "annotation_images" / name)
        mapping[f"{number:012d}"] = {
            "image_path": name, "original_prompt": "a photograph of a [round] thing",
            "editing_prompt": "a photograph of a [red] thing", "editing_instruction": "Make the thing red",
            "editing_type_id": str(number % 2), "blended_word": "thing thing", "mask": runs(),
        }  # fmt: skip
    (folder / "mapping_file.json").write_text(json.dumps(mapping))
    return folder


def hole(photo: Image.Image, transparent: bool = True) -> Image.Image:
    """A mask as MagicBrush has it: the photograph, transparent (and white below) where it is to change."""
    made = photo.convert("RGBA")
    made.paste((255, 255, 255, 0), BOX)
    return made if transparent else made.convert("RGB")


def _sessions() -> list[tuple[str, list[Image.Image]]]:
    """(id, [input, output 1, …]) of one session of two turns and one of a single turn."""
    photos = photographs()
    first = [photos[0], edited(photos[0], seed=1), edited(photos[0], (30, 200, 60), seed=2)]
    return [("139", first), ("30", [photos[1], edited(photos[1])])]


def magicbrush(folder: Path, turns_file: bool = False) -> Path:
    sessions, local, whole = {}, {}, {}
    for name, pictures in _sessions():
        names = [f"{name}-input.png", *(f"{name}-output{n}.png" for n in range(1, len(pictures)))]
        for file, picture in zip(names, pictures, strict=True):
            save(picture, folder / "images" / name / file)
        turns = []
        for n in range(1, len(pictures)):
            save(hole(pictures[n - 1]), folder / "images" / name / f"{name}-mask{n}.png")
            turns.append({"input": names[n - 1], "mask": f"{name}-mask{n}.png", "output": names[n],
                          "instruction": f"change {n}"})  # fmt: skip
        sessions[name] = turns
        local[name] = {file: f"a thing of {file}" for file in names[1:]}
        whole[name] = {file: f"a scene of {file}" for file in names}
    found = [turn for turns in sessions.values() for turn in turns] if turns_file else sessions
    (folder / ("edit_turns.json" if turns_file else "edit_sessions.json")).write_text(json.dumps(found))
    (folder / "local_descriptions.json").write_text(json.dumps(local))
    (folder / "global_descriptions.json").write_text(json.dumps(whole))
    return folder


def magicbrush_parquet(folder: Path) -> Path:
    rows = []
    for name, pictures in _sessions():
        for n in range(1, len(pictures)):
            rows.append({"img_id": name, "turn_index": n, "source_img": pictures[n - 1],
                         "mask_img": hole(pictures[n - 1], transparent=False), "instruction": f"change {n}",
                         "target_img": pictures[n]})  # fmt: skip
    parquet(folder / "data" / "dev-00000-of-00001.parquet", rows[::-1])
    return folder


def _emu_rows() -> list[dict]:
    photos = photographs()
    captions = [("a dog", "a red dog"), ("a hill", "a hill"), ("A train station in city.", "a red train")]
    return [
        {"instruction": f"Make it red, {n}", "input_caption": before, "output_caption": after, "image": photos[n],
         "task": "color" if n else "local", "split": "validation", "idx": n, "hash": f"{n:08x}"}
        for n, (before, after) in enumerate([*captions, ("a bowl", "a red bowl")])
    ]  # fmt: skip


def emu_edit(folder: Path, generations: bool = False, splits: bool = False) -> Path:
    rows = _emu_rows()
    if generations:
        rows = [row | {"edited_image": edited(row["image"])} for row in rows]
    parquet(folder / "data" / "validation-00000-of-00001.parquet", rows)
    if splits:
        parquet(folder / "data" / "test-00000-of-00001.parquet", [r | {"split": "test", "idx": 9} for r in rows[:1]])
    return folder


def emu_edit_folder(folder: Path) -> Path:
    rows = []
    for row in _emu_rows():
        picture = row.pop("image")
        save(picture, folder / f"{row['idx']}.png")
        rows.append(row | {"file_name": f"{row['idx']}.png"})
    jsonl(folder / "metadata.jsonl", rows)
    return folder


def anybench(folder: Path) -> Path:
    photos = photographs()
    for number, kind in enumerate(["color_alter", "implicit_change", "visual_bbox"]):
        source, target = f"anybench/{kind}/input/{number}.jpg", f"anybench/{kind}/edited/{number}.png"
        save(photos[number], folder.parent / source)
        save(edited(photos[number]), folder.parent / target)
        row = {"edit": "change the thing to red", "edited object": "thing", "input": "a thing", "output": "a red thing",
               "edit_type": kind, "visual_input": "None", "image_file": source, "edited_file": target}  # fmt: skip
        if kind == "implicit_change":
            row["output"] = None
        if kind == "visual_bbox":
            row["visual_input"] = f"anybench/{kind}/visual/{number}.png"
            save(mask(), folder.parent / row["visual_input"])
        (folder / kind / "edit_result.json").write_text(json.dumps([row]))
    return folder


def gedit_bench(folder: Path) -> Path:
    photos, rows = photographs(), []
    for number, kind in enumerate(["color_alter", "subject-add", "subject-add"]):
        for language, words in (("en", "Make it red"), ("cn", "变成红色")):
            rows.append({"task_type": kind, "key": f"{number:032x}", "instruction": words,
                         "instruction_language": language, "input_image": photos[number].resize((36, 32)),
                         "input_image_raw": photos[number], "Intersection_exist": number != 2})  # fmt: skip
    parquet(folder / "data" / "train-00000-of-00001.parquet", rows)
    return folder


def kontext_bench(folder: Path) -> Path:
    rows = []
    for number, (photo, kind) in enumerate(zip(photographs(), ["Character Reference", "Text Editing"], strict=False)):
        save(photo, folder / "test" / "images" / f"{number:04d}.jpg")
        rows.append({"file_name": f"images/{number:04d}.jpg", "instruction": "Make it red", "category": kind,
                     "key": f"{number:04d}_0", "image_idx": number, "prompt_idx": 0})  # fmt: skip
    jsonl(folder / "test" / "metadata.jsonl", rows)
    return folder


def plain(folder: Path, count: int = 3, **more) -> Path:
    """A folder with everything that it may have. more: changed columns of every row; None takes one away."""
    rows = []
    save(mask(), folder / "mask.png")
    for number, photo in enumerate(photographs()[:count]):
        save(photo, folder / f"{number}_source.png")
        save(edited(photo, seed=number), folder / f"{number}_target.png")
        row = {"id": f"edit {number}", "source": f"{number}_source.png", "target": f"{number}_target.png",
               "mask": "mask.png", "instruction": "Make <b>it</b> red & round", "source_caption": "a thing",
               "target_caption": "a red thing", "category": "colour" if number else "first"}  # fmt: skip
        rows.append({name: value for name, value in (row | more).items() if value is not None})
    jsonl(folder / "samples.jsonl", rows)
    return folder
