"""Arguments that several commands take, and what they ask of files."""

import argparse
import json
from pathlib import Path
from typing import Any

from pytest_quantguard.cli.usage import UsageError
from pytest_quantguard.runtime import PRECISIONS
from pytest_quantguard.samples.sample import CROP_AND_SCALE


def add_model(parser: argparse.ArgumentParser) -> None:
    """The argument MODEL."""
    parser.add_argument("model", metavar="MODEL", type=Path, help="a .mlmodel file or a .mlpackage folder")


def add_function(parser: argparse.ArgumentParser) -> None:
    """The option --function."""
    parser.add_argument("--function", metavar="NAME", help="the function of a package with several")


def add_precision(parser: argparse.ArgumentParser) -> None:
    """The option --precision."""
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=PRECISIONS[0],
        help="how ML programs are computed: in float32 (default), or with each float16 tensor rounded to float16",
    )


def add_crop_and_scale(parser: argparse.ArgumentParser) -> None:
    """The option --crop-and-scale."""
    parser.add_argument(
        "--crop-and-scale",
        choices=CROP_AND_SCALE,
        default=CROP_AND_SCALE[0],
        help="how an image is brought to the model's input size (default: center_crop)",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """The option --json."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def add_force(parser: argparse.ArgumentParser) -> None:
    """The option --force."""
    parser.add_argument("--force", action="store_true", help="overwrite what exists")


def check_new(path: Path, *, force: bool) -> None:
    """Refuse to overwrite a file or folder unasked, and to write where there is no folder.

    Raises:
        UsageError: the path exists and `force` is false, or its folder does not exist.
    """
    if path.exists() and not force:
        raise UsageError(f"{path} exists already; choose another name or give --force.")
    if not path.parent.is_dir():
        raise UsageError(f"There is no folder {path.parent} to write {path.name} to; create it first.")


def print_json(value: Any) -> None:
    """Print JSON: keys in the order given, no NaN, and ASCII only, so that it survives any terminal."""
    print(json.dumps(value, indent=2, allow_nan=False))
