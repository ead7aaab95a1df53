"""Is the portable engine faithful to Apple's? Holds it to accuracies that were measured on macOS.

FOLDER holds the float model (food.mlmodel), photos in samples/<class>/, quantized models in
quantized_by_coremltools_2/ and macos_accuracy.csv: per model its size in bytes and the top-1 accuracy per class
that Apple's Vision measured. Prints the differences, and with --quantize the sizes that today's coremltools makes.

    python benchmarks/fidelity.py FOLDER [--quantize]
"""

import argparse
import csv
import sys
import time
from pathlib import Path

from pytest_quantguard import Comparison, Model, load_model, quantize
from pytest_quantguard.api import compare_outputs
from pytest_quantguard.inputs import make_inputs
from pytest_quantguard.outputs import StreamedOutputs

MEAN_LIMIT, CELL_LIMIT, SIZE_LIMIT = 0.02, 0.08, 0.01
STORED_MODES = {"linear": "linear", "linear_lut": "linear_lut", "kmeans": "kmeans_lut"}


def main() -> int:
    """Print the tables; the exit code says whether the limits hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quantize", action="store_true", help="also quantize on the fly and compare the sizes")
    arguments = parser.parse_args()
    classes, truth, sizes = read_table(arguments.folder / "macos_accuracy.csv")
    good = print_accuracies(arguments.folder, classes, truth)
    if arguments.quantize:
        good &= print_sizes(arguments.folder, sizes)
    return 0 if good else 1


def read_table(path: Path) -> tuple[list[str], dict[str, list[float]], dict[str, int]]:
    """Class names, accuracies by model, and sizes by model."""
    with path.open(newline="") as stream:
        header, *rows = [[cell.strip() for cell in row if cell.strip()] for row in csv.reader(stream)]
    accuracies = {row[0]: [float(cell) for cell in row[2:]] for row in rows if row}
    return header[2:], accuracies, {row[0]: int(row[1]) for row in rows if row}


def print_accuracies(folder: Path, classes: list[str], truth: dict[str, list[float]]) -> bool:
    """Run every model of the table over the photos; True if all cells are within the limits."""
    print(f"{'model':28} {'difference to macOS per class: ' + ', '.join(classes)}")
    differences: list[float] = []
    collapsed: list[str] = []
    started, predictions = time.perf_counter(), 0
    float_model = load_model(folder / "food.mlmodel", engine="portable")
    inputs = make_inputs(folder / "samples", float_model.description, model_name=float_model.name)
    float_outputs = StreamedOutputs(float_model.engine, inputs)
    for name, expected in sorted(truth.items()):
        comparison = compare_outputs(float_model, open_model(folder, name), inputs, float_outputs=float_outputs)
        predictions += len(inputs)
        row = [ours - theirs for ours, theirs in zip(accuracies(comparison, classes), expected, strict=True)]
        differences += row
        marks = " ".join(f"{difference:+.2f}" for difference in row)
        print(f"{name:28} {marks}   mean {sum(map(abs, row)) / len(row):.3f}")
        if comparison.collapsed_onto:
            collapsed.append(f"{name} answers {comparison.collapsed_onto!r} nearly always")
    mean, worst = sum(map(abs, differences)) / len(differences), max(map(abs, differences))
    print(
        f"\n{len(differences)} cells: mean {mean:.4f} (limit {MEAN_LIMIT}), worst {worst:.2f} (limit {CELL_LIMIT})"
    )
    print(f"{predictions} predictions, {predictions / (time.perf_counter() - started):.0f} a second with decoding")
    print("\n".join(collapsed))
    return mean <= MEAN_LIMIT and worst <= CELL_LIMIT + 1e-9 and any("hot dog" in line for line in collapsed)


def open_model(folder: Path, name: str) -> Model:
    """A model of the table."""
    path = folder / name
    return load_model(path if path.exists() else folder / "quantized_by_coremltools_2" / name, engine="portable")


def accuracies(comparison: Comparison, classes: list[str]) -> list[float]:
    """The model's accuracy per class of the table."""
    assert comparison.classifier is not None
    assert comparison.classifier.labelled is not None
    rows = {row.label: float(row.quantized_accuracy) for row in comparison.classifier.labelled.classes}
    return [rows[name] for name in classes]


def print_sizes(folder: Path, sizes: dict[str, int]) -> bool:
    """Quantize with every scheme of the table; True if all sizes are within the limit."""
    print(f"\n{'scheme':16} {'table':>9} {'today':>9} {'change':>8} {'seconds':>8}")
    worst = 0.0
    for name, expected in sorted(sizes.items()):
        stem = name.removeprefix("food").removesuffix(".mlmodel").strip("_")
        if not stem:
            continue
        mode, bits = stem.rsplit("_", 1)
        started = time.perf_counter()
        model = quantize(folder / "food.mlmodel", bits=int(bits), mode=STORED_MODES[mode], engine="portable")
        seconds = time.perf_counter() - started
        change = model.size_bytes / expected - 1
        worst = max(worst, abs(change))
        print(f"{model.scheme!s:16} {expected:9} {model.size_bytes:9} {change:+8.2%} {seconds:8.1f}", flush=True)
    print(f"worst {worst:.2%} (limit {SIZE_LIMIT:.0%})")
    return worst <= SIZE_LIMIT


if __name__ == "__main__":
    sys.exit(main())
