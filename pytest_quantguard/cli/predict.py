"""Run a model over images, or over one set of other inputs, and print its answers."""

import argparse
from pathlib import Path
from typing import Any

from pytest_quantguard.cli.arguments import (
    add_crop_and_scale,
    add_force,
    add_function,
    add_json,
    add_model,
    add_precision,
    print_json,
)
from pytest_quantguard.runtime import ENGINES

HELP = "print a model's answers for images"
SCHEMA = 1
"""Of the JSON that is printed: raised when a reader of the old one could misread the new one."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    add_model(parser)
    parser.add_argument("images", metavar="IMAGE", nargs="*", type=Path, help="image files, or folders of images")
    parser.add_argument(
        "--input",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="another input: a .npy or image file, a number, text, or JSON; may be repeated",
    )
    parser.add_argument("--top", metavar="N", type=_count, default=5, help="probabilities to print (default: 5)")
    parser.add_argument(
        "-o", "--output", metavar="FOLDER", type=Path, help="save images and arrays that the model gives there"
    )
    parser.add_argument(
        "--engine", choices=ENGINES, default="auto", help="what executes the model (default: auto)"
    )
    add_precision(parser)
    add_function(parser)
    add_crop_and_scale(parser)
    add_json(parser)
    add_force(parser)


def run(arguments: argparse.Namespace) -> int:
    """Predict, and print."""
    from pytest_quantguard.cli.predict_inputs import make_cases
    from pytest_quantguard.cli.predict_outputs import record_lines, unique_stems
    from pytest_quantguard.runtime.model import load_model

    model = load_model(
        arguments.model,
        engine=arguments.engine,
        precision=arguments.precision,
        function_name=arguments.function,
    )
    cases = make_cases(
        model.description,
        arguments.images,
        arguments.input,
        name=model.name,
        crop_and_scale=arguments.crop_and_scale,
    )
    records = []
    for case, stem in zip(cases, unique_stems([case.name for case in cases]), strict=True):
        record = _record(model, case, stem, arguments)
        if arguments.json:
            records.append(record)
        else:
            print("\n".join(record_lines(record)))
    if arguments.json:
        print_json(
            {
                "schema": SCHEMA,
                "model": {"name": model.name, "digest": model.digest, "size_bytes": model.size_bytes},
                "function": model.function_name,
                "engine": model.engine.name,
                "precision": model.precision,
                "crop_and_scale": arguments.crop_and_scale if arguments.images else None,
                "results": records,
            }
        )
    return 0


def _record(model: Any, case: Any, stem: str, arguments: argparse.Namespace) -> dict[str, Any]:
    from pytest_quantguard.cli.predict_outputs import answer_record, save_outputs

    # Each prediction from a new state, so that an answer does not depend on the images before it.
    state = model.make_state() if model.description.states else None
    answer = model.predict(case.complete(arguments.crop_and_scale), state)
    record = answer_record(answer, model.description, top=arguments.top)
    if arguments.output:
        files = save_outputs(answer, arguments.output, stem, force=arguments.force)
        for output in record["outputs"]:
            if output["name"] in files:
                output["file"] = files[output["name"]]
    return {"image": case.name, **record} if case.image else record


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of probabilities; give 1 or more")
    return int(text)
