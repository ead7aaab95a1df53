"""From a model's answer to what `quantguard predict` prints and saves."""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_quantguard.cli.arguments import check_new
from pytest_quantguard.models.description import ModelDescription


def answer_record(answer: Mapping[str, Any], description: ModelDescription, *, top: int) -> dict[str, Any]:
    """An answer as JSON values.

    Args:
        answer: what `Model.predict` gives.
        description: of the model.
        top: how many probabilities to keep, the highest first.

    Returns:
        For a classifier `label` and `probabilities`; for every other output an entry of `outputs`.
    """
    record: dict[str, Any] = {}
    label, probabilities = description.label_name, description.probabilities_name
    if label and label in answer:
        record["label"] = answer[label]
    if probabilities and probabilities in answer:
        found = answer[probabilities]
        # Of equal probabilities the first in the model's order stays first.
        best = sorted(found.items(), key=lambda entry: -entry[1] if entry[1] == entry[1] else math.inf)[:top]
        record["probabilities"] = [
            {"label": label, "probability": _finite(probability)} for label, probability in best
        ]
    record["outputs"] = [
        {"name": name, **_summary(value)}
        for name, value in sorted(answer.items())
        if name not in (label, probabilities)
    ]
    return record


def save_outputs(answer: Mapping[str, Any], folder: Path, stem: str, *, force: bool) -> dict[str, str]:
    """Write each image and array of an answer to a file.

    Images become PNG, float16 images TIFF, arrays numpy files. An output's name is part of the file's name,
    without what could lead out of the folder.

    Returns:
        Paths by output name.

    Raises:
        UsageError: a file exists and `force` is false.
    """
    import numpy as np
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for name, value in sorted(answer.items()):
        path = folder / f"{stem}-{_safe(name)}"
        if isinstance(value, Image.Image):
            path = path.with_name(path.name + (".tiff" if value.mode == "F" else ".png"))
            check_new(path, force=force)
            value.save(path)
        elif isinstance(value, np.ndarray):
            path = path.with_name(path.name + ".npy")
            check_new(path, force=force)
            np.save(path, value, allow_pickle=False)
        else:
            continue
        written[name] = str(path)
    return written


def unique_stems(names: list[str]) -> list[str]:
    """The files' names without folder and suffix, numbered where several are equal on some file system."""
    taken: set[str] = set()
    stems = []
    for name in names:
        stem = plain = _safe(Path(name).stem) if name else "output"
        number = 1
        while stem.casefold() in taken:
            number += 1
            stem = f"{plain}-{number}"
        taken.add(stem.casefold())
        stems.append(stem)
    return stems


def record_lines(record: Mapping[str, Any]) -> Iterator[str]:
    """A record as text: a line per image, its probabilities, its other outputs."""
    from pytest_quantguard.gate.wording import clean

    head = [part for part in (record.get("image"), record.get("label")) if part is not None]
    if head:
        yield clean(": ".join(str(part) for part in head))
    for entry in record.get("probabilities", ()):
        probability = entry["probability"]
        number = "   nan" if probability is None else f"{probability:6.4f}"
        yield clean(f"  {number}  {entry['label']}")
    for output in record["outputs"]:
        yield clean(f"  {output['name']}: {_output_text(output)}")


def _output_text(output: Mapping[str, Any]) -> str:
    if "value" in output:
        return str(output["value"])
    size = " x ".join(str(size) for size in output["shape"]) or "one value"
    text = f"{output['type']} {size} {output['dtype']}"
    if output["mean"] is not None:
        text += f", min {output['min']:.6g}, mean {output['mean']:.6g}, max {output['max']:.6g}"
    if output["not_finite"]:
        text += f", {output['not_finite']} not finite"
    return text + (f" -> {output['file']}" if "file" in output else "")


def _summary(value: Any) -> dict[str, Any]:
    """An output as JSON values: arrays and images by shape (height, width, channels) and statistics."""
    import numpy as np
    from PIL import Image

    from pytest_quantguard.runtime.portable.images import image_to_pixels

    if isinstance(value, Image.Image):
        return {
            "type": "image",
            **_statistics(image_to_pixels(value), "float16" if value.mode == "F" else "uint8"),
        }
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return {"type": "array", **_statistics(value, value.dtype.name)}
    return {"type": type(value).__name__, "value": _plain(value)}


def _statistics(array: Any, dtype: str) -> dict[str, Any]:
    """Shape, type, and what the finite values are like; computed in double precision."""
    import numpy as np

    values = array.astype(np.float64)
    finite = values[np.isfinite(values)]
    found: dict[str, float | None] = {"min": None, "mean": None, "max": None}
    if finite.size:
        found = {"min": float(finite.min()), "mean": float(finite.mean()), "max": float(finite.max())}
    return {
        "shape": list(array.shape),
        "dtype": dtype,
        **found,
        "not_finite": int(values.size - finite.size),
    }


def _plain(value: Any) -> Any:
    """A value as JSON holds it; dictionaries as lists of pairs, because their keys may be numbers."""
    import numpy as np

    if isinstance(value, Mapping):
        return [[_plain(key), _plain(entry)] for key, entry in value.items()]
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return _finite(value)
    return value if isinstance(value, str | int | None) else str(value)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _safe(name: str) -> str:
    """A part of a file name: letters, digits, and a few signs; anything else, such as `/`, becomes `_`."""
    return re.sub(r"[^\w.+=-]", "_", name).strip(".")[:100] or "output"
