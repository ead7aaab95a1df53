"""Write a neural network or an ML program as an ONNX file."""

import argparse
from pathlib import Path

from pytest_quantguard.cli.arguments import add_force, add_function, add_model, add_precision, check_new

HELP = "write a model as an ONNX file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    add_model(parser)
    parser.add_argument("output", metavar="OUT.onnx", type=Path, help="the file to write")
    add_function(parser)
    add_precision(parser)
    add_force(parser)


def run(arguments: argparse.Namespace) -> int:
    """Export, and say what was written."""
    from pytest_quantguard.gate.wording import size_text
    from pytest_quantguard.runtime.portable.export import export_onnx

    check_new(arguments.output, force=arguments.force)
    path = export_onnx(
        arguments.model,
        arguments.output,
        function_name=arguments.function,
        precision=arguments.precision,
        overwrite=arguments.force,
    )
    print(f"{path}: {size_text(path.stat().st_size)}")
    return 0
