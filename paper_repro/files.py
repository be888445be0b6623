"""Files that are either whole or absent: atomic writes, strict YAML, JSON lines."""

from __future__ import annotations

import codecs
import json
import os
import re
import uuid
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import yaml
from pydantic_core import from_json

from paper_repro.errors import ConfigError

_NUMBERED = re.compile(r"\d{4,}\.json")


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to disk, and rename it to `path`.

    A reader sees the old file or the new one, never a part; a crash leaves the old one.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def create_exclusively(path: Path, content: dict[str, Any]) -> bool:
    """Write one JSON object to a file that must not exist yet; False if it does.

    Written whole under another name and linked into place: of several writers one wins, and a
    reader never sees a part.
    """
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_text(json.dumps(content, allow_nan=False), encoding="utf-8")
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def numbered(directory: Path) -> list[Path]:
    """The files of a directory that are named as ours are, `0001.json`, in order.

    Whatever else lies there is of sync tools and editors.

    Raises:
        FileNotFoundError: there is no such directory.
    """
    return sorted(path for path in directory.iterdir() if _NUMBERED.fullmatch(path.name))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write one JSON object atomically. Raises ValueError on NaN or infinity."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in `path`, or None if it is absent, truncated, no object or no file."""
    try:
        content = from_json(path.read_bytes().removeprefix(codecs.BOM_UTF8))  # editors leave it
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
        return None
    return content if isinstance(content, dict) else None


#: YAML 1.2's core schema: what a plain scalar is. (PyYAML's is 1.1, where 010 is eight, 1:30 is
#: ninety, .5e3 a text and `no` is false.) Digits may be grouped, as in 819_200; `<<` merges.
_DIGITS = r"[0-9]+(?:_[0-9]+)*"
_CORE_SCHEMA = (
    ("null", r"~|null|Null|NULL|", ("~", "n", "N", "")),
    ("bool", r"true|True|TRUE|false|False|FALSE", tuple("tTfF")),
    ("int", rf"[-+]?{_DIGITS}|0o[0-7]+|0x[0-9a-fA-F]+", tuple("-+0123456789")),
    (
        "float",
        rf"[-+]?(\.{_DIGITS}|{_DIGITS}(\.({_DIGITS})?)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        tuple("-+.0123456789"),
    ),
    ("merge", r"<<", ("<",)),
)


def _add_core_schema(kind: type[Any]) -> type[Any]:
    """Have a loader or dumper know the plain scalars of the core schema."""
    for name, pattern, first in _CORE_SCHEMA:
        tag = f"tag:yaml.org,2002:{name}"
        kind.add_implicit_resolver(tag, re.compile(rf"^(?:{pattern})$"), list(first))
    return kind


#: libyaml's where PyYAML has it: plans and results are of thousands of files.
_Dumper: type[Any] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@_add_core_schema
class _StrictDumper(_Dumper):  # type: ignore[misc]  # one of two classes
    """Quotes a text that a reader of YAML 1.1 or 1.2 would take for another value."""


@_add_core_schema
class _StrictLoader(_Loader):  # type: ignore[misc]  # one of two classes
    """Safe YAML that refuses a key given twice."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        scalars = (key for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for key_node in scalars:
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key_node.value!r} is given twice", key_node.start_mark
                )
            seen.add(str(key_node.value))
        content: dict[Any, Any] = super().construct_mapping(node, deep)
        return content

    def construct_whole_number(self, node: yaml.ScalarNode) -> int:
        """The value of an int: ten is the base unless 0o or 0x says otherwise."""
        text = str(self.construct_scalar(node))
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        return int(text, base)


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _StrictLoader.construct_whole_number)


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        ConfigError: one line naming the file, and the line of the problem where there is one.
    """
    return parse_yaml(_read_text(path), str(path))


#: A key at the start of a line, and what is indented below it.
_SECTION = re.compile(r"^[a-z_]+:.*\n(?: .*\n)*", re.MULTILINE)


def read_yaml_sections(path: Path) -> Any:
    """Like `read_yaml`, for files that share most of their sections, as the runs of a sweep do.

    Equal sections are parsed once, and their content is shared: it is not to be changed. A file
    that is not a list of sections, or has anchors, is read as a whole.
    """
    text = _read_text(path)
    sections = _SECTION.findall(text)
    if text and "".join(sections) == text and not {"&", "*"} & set(text):
        try:
            parsed = [_parse_section(section) for section in sections]
        except ConfigError:
            return parse_yaml(text, str(path))  # whose error names the file and the line
        content = {key: value for section in parsed for key, value in section.items()}
        if len(content) == len(sections):
            return content
    return parse_yaml(text, str(path))


@lru_cache(maxsize=4096)
def _parse_section(text: str) -> dict[str, Any]:
    content: dict[str, Any] = parse_yaml(text, "a section")
    return content


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # some editors begin with a byte order mark
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None


def parse_yaml(text: str, source: str) -> Any:
    """Like `read_yaml`, from text; `source` names it in errors."""
    try:
        return yaml.load(text, Loader=_StrictLoader)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{source}{where}: not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # e.g. an impossible date
        raise ConfigError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from None


def merged(below: Any, above: Any) -> Any:
    """Plain data over other data: mappings by key, anything else whole."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return {**below, **{key: merged(below.get(key), value) for key, value in above.items()}}


def write_yaml(path: Path, content: dict[str, Any], header: str = "") -> None:
    """Write plain data as YAML, atomically, keys in the order given, below lines of comment."""
    comment = "".join(f"# {line}\n" for line in header.splitlines())
    text = comment + yaml.dump(content, Dumper=_StrictDumper, sort_keys=False)
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
