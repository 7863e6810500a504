"""Reads the configuration's schema and parsed YAML, for tests of both."""

from collections.abc import Iterator
from typing import Any

from msgspec import inspect

from gateway.config.yaml_nodes import YamlNode


def node_to_plain(node: YamlNode) -> Any:
    if isinstance(node.value, dict):
        return {name: node_to_plain(inner) for name, inner in node.value.items()}
    return [node_to_plain(item) for item in node.value] if isinstance(node.value, list) else node.value


def iterate_structs(kind: type) -> Iterator[inspect.StructType]:
    """Yields all structs of a file's schema."""
    pending, seen = [inspect.type_info(kind)], set()
    while pending:
        info: Any = pending.pop()
        if isinstance(info, inspect.StructType) and info.cls not in seen:
            seen.add(info.cls)
            yield info
            pending += [field.type for field in info.fields]
        for name in ("type", "item_type", "value_type"):
            if isinstance(inner := getattr(info, name, None), inspect.Type):
                pending.append(inner)
        pending += getattr(info, "types", ())
