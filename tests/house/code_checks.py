"""Checks on the source that users load. Each takes (path, text or tree) and returns one sentence per fault."""

import ast
import re
from pathlib import Path

MOST_LINES, MOST_FUNCTION_LINES = 400, 45
# What the registry's scanner freezes a version for, and pickles; `\b` and the look-behind keep `model.eval()` legal.
FORBIDDEN = {
    "subprocess": r"\bsubprocess\b",
    "os.system": r"\bos\.(system|popen|exec\w*|spawn\w*)\b",
    "eval(": r"(?<![\w.])eval\s*\(",
    "exec(": r"(?<![\w.])exec\s*\(",
    "pickle": r"\bc?[pP]ickle\b",
    "pip install at run time": r"\bpip\.main\b|\bensurepip\b",
}
PACK_FOLDERS = {"nodes", "models", "headless", "training", "benchmarks", "tests", "editkit"}
HOST_MODULES = {"comfy", "comfy_api", "comfy_execution", "comfy_extras", "execution", "folder_paths"}
HOST_MODULES |= {"latent_preview", "node_helpers", "server"}
# design.md: dependencies point one way.
MAY_IMPORT = {
    "models": {"models"},
    "nodes": {"models", "nodes"},
    "headless": {
        "headless",
        "models",
        "nodes",
        "training",
        "benchmarks",
    },  # the last two by the command line only
    "training": {"models", "training"},
}


def forbidden_strings(name: str, text: str) -> list[str]:
    """Finds what the registry refuses anywhere in the text, comments and docstrings included."""
    found = [what for what, pattern in FORBIDDEN.items() if re.search(pattern, text)]
    return [f"{name} holds {what}, which the registry refuses" for what in found]


def lengths(name: str, text: str) -> list[str]:
    """Finds a file over 400 lines and functions over 45."""
    problems = []
    if (count := text.count("\n")) > MOST_LINES:
        problems.append(f"{name} has {count} lines; the limit is {MOST_LINES}")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            count = node.end_lineno - node.lineno + 1
            if count > MOST_FUNCTION_LINES:
                problems.append(
                    f"{name}: {node.name}() has {count} lines; the limit is {MOST_FUNCTION_LINES}"
                )
    return problems


def imports(name: str, text: str) -> list[str]:
    """Finds absolute imports of the pack's own folders, ComfyUI outside nodes/host/, and imports against the grain.

    name: the file's path below the pack, with `/`.
    """
    parts, problems = Path(name).parts, []
    in_host = parts[:2] == ("nodes", "host")
    for module, level in _imported(ast.parse(text)):
        top = module.split(".")[0]
        # __main__.py first loads the folder under the name editkit, so it may use that.
        own_name = (in_host and module == "nodes") or (name == "__main__.py" and top == "editkit")
        if level == 0 and top in PACK_FOLDERS and not own_name:
            problems.append(f"{name} imports {module} absolutely; the pack's folder may have any name")
        if level == 0 and top in HOST_MODULES and not in_host:
            problems.append(f"{name} imports {module}; only nodes/host/ knows ComfyUI")
        if level:
            problems += _direction(name, parts, module, level)
    return problems


def _imported(tree: ast.AST):
    """Yields (module, level) of every import; `from . import a, b` counts as a and b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module:
                yield node.module, node.level
            else:
                yield from ((alias.name, node.level) for alias in node.names)


def _direction(name: str, parts: tuple, module: str, level: int) -> list[str]:
    """Checks that a relative import stays within what its folder may depend on."""
    absolute = (*parts[: len(parts) - level], *module.split("."))
    folder, target = parts[0], absolute[0]
    if folder in MAY_IMPORT and target in PACK_FOLDERS and target not in MAY_IMPORT[folder]:
        return [f"{name} imports {target}; {folder} may import only {', '.join(sorted(MAY_IMPORT[folder]))}"]
    return []


def literal_mappings(files: dict[str, str]) -> set[str]:
    """The node ids that ComfyUI Manager's scanner sees: string keys of literal NODE_CLASS_MAPPINGS dicts."""
    seen = set()
    for text in files.values():
        for node in ast.walk(ast.parse(text)):
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            named = any(isinstance(t, ast.Name) and t.id == "NODE_CLASS_MAPPINGS" for t in targets)
            if named and isinstance(getattr(node, "value", None), ast.Dict):
                seen |= {k.value for k in node.value.keys if isinstance(k, ast.Constant)}
    return seen
