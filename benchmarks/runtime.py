"""How fast the portable engine predicts, next to onnxruntime on PyTorch's own ONNX export of the same network.

Each network of tests/conformance/networks.py is converted by coremltools into both kinds of model, and exported by
PyTorch. All take turns on the same image, round by round, so that whatever else the machine does hits all of them.
A ratio above 1 means that the portable engine is faster. Needs the dependency group `conformance`; --openvino also
runs OpenVINO (`pip install openvino`) on the same graphs.

    python benchmarks/runtime.py --rounds 40
    python benchmarks/runtime.py --networks resnet18 --threads 2 --openvino
"""

import argparse
import importlib
import io
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.runtime.portable.engine import PortableEngine

NETWORKS = ["resnet18", "mobilenet_v2", "vision_transformer"]
KINDS = {"mlprogram": "ML program", "neuralnetwork": "neural network"}
REFERENCE = "onnxruntime"
LEAST_RATIO = 0.95
TOLERANCE = 1e-4
# One round lasts about this long per contender: long enough for the caches to hold its weights, not another's.
ROUND_SECONDS = 0.15

Predict = Callable[[], NDArray[Any]]


def main() -> int:
    """Print a table per network; the exit code says whether all ratios to onnxruntime are at least 0.95."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="NAME")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1, help="of one prediction, for all contenders")
    parser.add_argument("--openvino", action="store_true", help="also run OpenVINO on the same graphs")
    arguments = parser.parse_args()
    import_coremltools()
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "conformance"))
    print(f"{versions(arguments.openvino)}; threads: {arguments.threads}, rounds: {arguments.rounds}")
    print(f"{'':34} {'images/s':>9} {'ratio':>6} {'middle half':>18} {'ratio of processor time':>24}")
    good = True
    for name in arguments.networks:
        contenders = make_contenders(name, arguments.threads, arguments.openvino)
        print(f"{name} (load average {os.getloadavg()[0]:.2f})")
        good &= print_table(contenders, measure(contenders, arguments.rounds))
    return 0 if good else 1


def versions(openvino: bool) -> str:
    """What executes."""
    names = ["onnxruntime", "torch", *(["openvino"] if openvino else [])]
    return ", ".join(f"{name} {importlib.import_module(name).__version__}" for name in names)


def make_contenders(name: str, threads: int, openvino: bool) -> dict[str, Predict]:
    """By title, functions that predict the logits of one image; all give the same answer."""
    conversion = importlib.import_module("conversion")
    network, images, expected = conversion.network(name)
    image = images[:1].numpy()
    exported = export(network, images[:1])
    contenders = {REFERENCE: onnxruntime_on(exported, image, threads)}
    for kind, title in KINDS.items():
        mlmodel = conversion.convert(name, kind)
        weights_dir = Path(mlmodel.weights_dir) if mlmodel.weights_dir else None
        engine = PortableEngine(mlmodel.get_spec(), weights_dir, name=name, threads=threads)
        contenders[title] = engine_on(engine, image)
    if openvino:
        contenders["OpenVINO"] = openvino_on(exported, image, threads)
    for title, predict in contenders.items():
        difference = float(np.abs(predict() - expected[:1]).max())
        if difference > TOLERANCE:
            raise SystemExit(f"{name}: {title} is {difference:.1e} away from PyTorch's answer.")
    return contenders


def export(network: Any, image: Any) -> bytes:
    """PyTorch's own ONNX export."""
    torch = importlib.import_module("torch")
    buffer = io.BytesIO()
    with quiet(), torch.no_grad():
        torch.onnx.export(network, (image,), buffer, dynamo=False, input_names=["image"], opset_version=20)
    return buffer.getvalue()


def engine_on(engine: PortableEngine, image: NDArray[Any]) -> Predict:
    """Predict as users do: inputs are checked, outputs are named."""
    return lambda: engine.outputs({"image": image}).arrays["logits"]


def onnxruntime_on(model: bytes, image: NDArray[Any], threads: int) -> Predict:
    """Predict with a bare onnxruntime session."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: np.asarray(session.run(None, {"image": image})[0])


def openvino_on(model: bytes, image: NDArray[Any], threads: int) -> Predict:
    """Predict with OpenVINO, in float32; by itself it takes bfloat16 where the processor has it."""
    openvino = importlib.import_module("openvino")
    core = openvino.Core()
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": False,
    }
    request = core.compile_model(core.read_model(io.BytesIO(model)), "CPU", options).create_infer_request()
    return lambda: np.asarray(request.infer({"image": image})[0])


def measure(contenders: dict[str, Predict], rounds: int) -> dict[str, NDArray[np.float64]]:
    """By title an array of shape (rounds, 2): seconds per image, by the clock and of processor time."""
    images = {title: count_per_round(predict) for title, predict in contenders.items()}
    found: dict[str, list[tuple[float, float]]] = {title: [] for title in contenders}
    titles = list(contenders)
    for number in range(rounds):
        # Another one begins each time, since what came before leaves its mark on the caches.
        start = number % len(titles)
        for title in titles[start:] + titles[:start]:
            found[title].append(seconds_per_image(contenders[title], images[title]))
    return {title: np.array(pairs) for title, pairs in found.items()}


def count_per_round(predict: Predict) -> int:
    """How many predictions fill a round."""
    fastest = min(seconds_per_image(predict, 3)[0] for _ in range(3))
    return max(3, round(ROUND_SECONDS / fastest))


def seconds_per_image(predict: Predict, images: int) -> tuple[float, float]:
    """By the clock and of processor time, after a prediction that does not count."""
    predict()
    clock, processor = time.perf_counter(), time.process_time()
    for _ in range(images):
        predict()
    return (time.perf_counter() - clock) / images, (time.process_time() - processor) / images


def print_table(contenders: dict[str, Predict], seconds: dict[str, NDArray[np.float64]]) -> bool:
    """False if the portable engine is slower than it may be."""
    good = True
    for title in contenders:
        ratios = seconds[REFERENCE] / seconds[title]
        clock, processor = np.median(ratios, axis=0)
        low, high = np.percentile(ratios[:, 0], [25, 75])
        rate = 1 / statistics.median(seconds[title][:, 0])
        spread = f"{low:.3f} to {high:.3f}"
        print(f"  {title:32} {rate:9.1f} {clock:6.3f} {spread:>18} {processor:24.3f}", flush=True)
        good &= title not in KINDS.values() or bool(clock >= LEAST_RATIO)
    return good


if __name__ == "__main__":
    sys.exit(main())
