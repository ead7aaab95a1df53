"""Show what a model takes, gives, and consists of, and what the portable engine cannot run."""

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from pytest_quantguard.cli.arguments import add_function, add_json, add_model, print_json

HELP = "show what a model consists of"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    add_model(parser)
    add_function(parser)
    add_json(parser)
    parser.add_argument(
        "--unsupported",
        action="store_true",
        help="print only what the portable engine cannot run; exit with 1 if there is anything",
    )


def run(arguments: argparse.Namespace) -> int:
    """Inspect, and print."""
    from pytest_quantguard.inspection.model import inspect_model

    found = inspect_model(arguments.model, function_name=arguments.function)
    if arguments.unsupported:
        found = {key: found[key] for key in ("schema", "name", "digest", "unsupported")}
    if arguments.json:
        print_json(found)
    else:
        for line in _refusal_lines(found) if arguments.unsupported else _lines(found):
            print(line)
    return int(arguments.unsupported and bool(found["unsupported"]))


def _refusal_lines(found: Mapping[str, Any]) -> Iterator[str]:
    from pytest_quantguard.gate.wording import clean

    for reason in found["unsupported"]:
        yield clean(reason)


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    from pytest_quantguard.gate.table import align
    from pytest_quantguard.gate.wording import clean, size_text

    yield clean(found["name"])
    rows = [("kind", found["kind"] + (", updatable" if found["updatable"] else ""))]
    rows.append(("specification", _specification(found)))
    rows.append(("size", f"{size_text(found['size_bytes'])} ({found['size_bytes']:,} bytes)"))
    rows.append(("digest", found["digest"]))
    if found["labels"]:
        rows.append(("labels", str(found["labels"])))
    rows += [(key.removeprefix("com.github.apple."), value) for key, value in found["metadata"].items()]
    yield from align([(f"  {key}", clean(value)) for key, value in rows])
    for function in found["functions"]:
        yield from _function_lines(function)
    yield "unsupported by the portable engine" if found["unsupported"] else "runs in the portable engine"
    for line in _refusal_lines(found):
        yield f"  {line}"


def _specification(found: Mapping[str, Any]) -> str:
    version = found["specification_version"]
    if found["minimum_ios"] is None:
        return f"{version}, newer than this program knows"
    return f"{version} (iOS {found['minimum_ios']}, macOS {found['minimum_macos']}, or newer)"


def _function_lines(function: Mapping[str, Any]) -> Iterator[str]:
    from pytest_quantguard.gate.table import align
    from pytest_quantguard.gate.wording import clean
    from pytest_quantguard.inspection.interface import feature_text

    if function["name"]:
        yield clean(f"function {function['name']}") + (" (default)" if function["default"] else "")
    for title in ("inputs", "outputs", "states"):
        if function[title]:
            yield title
            rows = [(entry["name"], feature_text(entry), entry["description"]) for entry in function[title]]
            yield from align([tuple(clean(cell) for cell in row) for row in rows], indent="  ")
    for stage in function["structure"]:
        yield from _stage_lines(stage)


def _stage_lines(stage: Mapping[str, Any]) -> Iterator[str]:
    from pytest_quantguard.gate.table import align
    from pytest_quantguard.gate.wording import clean, size_text

    title = f"{stage['total']} {stage['unit']}" if stage["total"] else "no layers"
    if stage["nested"]:
        title += f", {stage['nested']} of them in branches and loops"
    yield clean(f"stage {stage['stage']} ({stage['kind']}): {title}") if stage["stage"] else title
    rows = [(str(count), kind) for kind, count in stage["counts"].items()]
    yield from (clean(line) for line in align(rows, right=[0], indent="  ")) if rows else ()
    if stage["weights"]:
        yield "weights"
        cells = [
            (
                group["type"],
                f"{group['tensors']} tensors",
                f"{group['weights']:,} values",
                size_text(group["size_bytes"]),
            )
            for group in stage["weights"]
        ]
        yield from align(cells, right=[1, 2, 3], indent="  ")
