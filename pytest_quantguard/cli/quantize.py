"""Write the quantized model that the tests gate, byte for byte; its short description names the scheme."""

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_quantguard.cli.arguments import (
    add_crop_and_scale,
    add_force,
    add_json,
    add_model,
    check_new,
    print_json,
)
from pytest_quantguard.errors import SchemeError
from pytest_quantguard.schemes.scheme import Scheme

if TYPE_CHECKING:
    from pytest_quantguard.api import Model, QuantizedModel

HELP = "quantize a model and write it"
SCHEMA = 1
"""Of the JSON that is printed: raised when a reader of the old one could misread the new one."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    add_model(parser)
    parser.add_argument("scheme", metavar="SCHEME", type=_scheme, help="for instance kmeans_lut:6")
    parser.add_argument("-o", "--output", metavar="OUT", type=Path, required=True, help="the model to write")
    parser.add_argument(
        "--calibration", metavar="FOLDER", type=Path, help="sample images, for schemes that quantize activations"
    )
    add_crop_and_scale(parser)
    add_json(parser)
    add_force(parser)


def run(arguments: argparse.Namespace) -> int:
    """Quantize, and say what was written."""
    from pytest_quantguard.api import load_model
    from pytest_quantguard.models.artifact import check_target

    check_new(arguments.output, force=arguments.force)
    model = load_model(arguments.model)
    check_target(model.mlmodel, arguments.output, overwrite=arguments.force)
    quantized = model.quantize(
        arguments.scheme, calibration=arguments.calibration, crop_and_scale=arguments.crop_and_scale
    )
    quantized.save(arguments.output, overwrite=arguments.force)
    if arguments.json:
        print_json(_entry(model, quantized, arguments.output))
    else:
        print("\n".join(_lines(model, quantized, arguments.output)))
    return 0


def _entry(model: "Model", quantized: "QuantizedModel", path: Path) -> dict[str, Any]:
    compression = quantized.compression
    return {
        "schema": SCHEMA,
        "scheme": str(quantized.scheme),
        "float_model": {"name": model.name, "digest": model.digest, "size_bytes": model.size_bytes},
        "quantized_model": {
            "path": str(path),
            "digest": quantized.digest,
            "size_bytes": quantized.size_bytes,
        },
        "weights": compression.weights,
        "compressed": compression.compressed,
        "bits_per_weight": compression.bits_per_weight,
        "skipped": [
            {"name": name, "weights": weights, "reason": reason} for name, weights, reason in compression.skipped
        ],
        "notes": list(compression.notes),
    }


def _lines(model: "Model", quantized: "QuantizedModel", path: Path) -> Iterator[str]:
    from pytest_quantguard.gate.wording import clean, percent, size_text

    compression = quantized.compression
    ratio = quantized.size_bytes / model.size_bytes
    yield clean(
        f"{path}: {quantized.scheme.title}, {size_text(quantized.size_bytes)}, {ratio:.2f} of {model.name}"
    )
    yield (
        f"{percent(compression.share)} of {compression.weights:,} weights are compressed, "
        f"to {compression.bits_per_weight:.2f} bits on average"
    )
    reasons = Counter(reason for _, _, reason in compression.skipped)
    for reason, count in sorted(reasons.items()):
        tensors = "1 tensor is" if count == 1 else f"{count} tensors are"
        yield clean(f"note: {tensors} not compressed: {reason}")
    for note in compression.notes:
        yield clean(f"note: {note}")


def _scheme(text: str) -> Scheme:
    try:
        return Scheme.parse(text)
    except SchemeError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
