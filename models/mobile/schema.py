"""The part of JSON Schema (2020-12) that the manifest's schema uses: a bundle is checked without a library."""

import re

TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "number": (int, float),
    "integer": int,
}


def problem(value, schema: dict, where: str = "manifest", root: dict | None = None) -> str | None:
    """What is wrong with a value, in words, or None. Knows $ref, type, enum, const, properties, required,
    additionalProperties, items, minItems, maxItems, pattern, minimum, maximum, exclusiveMinimum.

    Stricter than JSON Schema in one thing: 64.0 is no integer.
    """
    root = root or schema
    if "$ref" in schema:
        return problem(value, _resolve(schema["$ref"], root), where, root)
    if "type" in schema and not _is(value, schema["type"]):
        return f"{where} is not of type {schema['type']}"
    if "const" in schema and not _same(value, schema["const"]):
        return f"{where} is {value!r}, not {schema['const']!r}"
    if "enum" in schema and not any(_same(value, one) for one in schema["enum"]):
        return f"{where} is {value!r}, none of {', '.join(map(str, schema['enum']))}"
    for check in (_object, _array, _scalar):
        found = check(value, schema, where, root)
        if found:
            return found
    return None


def _same(value, other) -> bool:
    """Equality in which true is not 1."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)


def _resolve(reference: str, root: dict) -> dict:
    for key in reference.removeprefix("#/").split("/"):
        root = root[key]
    return root


def _is(value, names) -> bool:
    names = names if isinstance(names, list) else [names]
    return any(
        value is None if name == "null"
        else isinstance(value, TYPES[name]) and (name == "boolean" or not isinstance(value, bool))
        for name in names
    )  # fmt: skip


def _object(value, schema: dict, where: str, root: dict) -> str | None:
    if not isinstance(value, dict):
        return None
    missing = [key for key in schema.get("required", []) if key not in value]
    if missing:
        return f"{where} lacks {missing[0]!r}"
    known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    for key, item in value.items():
        if key not in known and others is False:
            return f"{where} has an unknown key {key!r}"
        rule = known.get(key, others)
        found = problem(item, rule, f"{where}.{key}", root) if isinstance(rule, dict) else None
        if found:
            return found
    return None


def _array(value, schema: dict, where: str, root: dict) -> str | None:
    if not isinstance(value, list):
        return None
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        return f"{where} has {len(value)} entries"
    for index, item in enumerate(value if "items" in schema else []):
        found = problem(item, schema["items"], f"{where}[{index}]", root)
        if found:
            return found
    return None


def _scalar(value, schema: dict, where: str, root: dict) -> str | None:
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        return f"{where} is {value!r}"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        low, high, above = (schema.get(k) for k in ("minimum", "maximum", "exclusiveMinimum"))
        outside = (low is not None and value < low) or (high is not None and value > high)
        if outside or (above is not None and value <= above):
            return f"{where} is {value}"
    return None
