"""Damage small models in many ways and open each: a clear error or an answer, never a crash, a hang or a flood.

    python tests/fuzz/hunt.py [--count 2000] [--seed 0] [--only NUMBER]

Models are opened in another process (`victim.py`), which is watched. Ends with 1 if one mutation crashed it, took
longer than the time limit, more memory than docs/portable-engine.md states, or escaped with another exception than
a `QuantguardError`. A failure is repeated by its number: `--only NUMBER`. Reads memory as Linux tells it.
"""

import argparse
import collections
import json
import os
import random
import select
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "unit")]

from mutations import (  # noqa: E402
    damage_bytes,
    damage_fields,
    damage_graph,
    damage_manifest,
    damage_references,
    damage_weights,
)
from seeds import write_seeds  # noqa: E402

from pytest_quantguard.runtime.portable.limits import MEMORY_LIMIT_BYTES  # noqa: E402

TIME_LIMIT_SECONDS = 30.0
VICTIM = Path(__file__).with_name("victim.py")


class Victim:
    """A process that opens models, started anew after each death."""

    def __init__(self, script: Path = VICTIM) -> None:
        self._script = script
        self._process: subprocess.Popen[str] | None = None

    def open(self, path: Path, seconds: float) -> dict[str, Any]:
        """What came of opening a model within some seconds."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, str(self._script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
            )
            self._ask(Path("warm up"), 120)
        return self._ask(path, seconds)

    def _ask(self, path: Path, seconds: float) -> dict[str, Any]:
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(str(path)) + "\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], seconds)
        line = process.stdout.readline() if ready else None
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        self.stop()
        message = f"died with {process.returncode}" if line == "" else f"took longer than {seconds} s"
        return {"kind": "bug", "message": message}

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def damaged_copy(seed: Path, number: int, folder: Path) -> tuple[Path, str]:
    """Mutation `number` of a sound model, written into `folder`; returns its path and what was damaged."""
    from pytest_quantguard.models.files import package_parts, read_model_file

    rng = random.Random(number)
    path = folder / seed.name
    if seed.is_file():
        shutil.copyfile(seed, path)
        spec_path, weights = path, None
    else:
        shutil.copytree(seed, path)
        spec_path, weights = package_parts(path)
    kinds = ["bytes", "fields", "fields", "fields", "graph"]
    if weights is not None:
        kinds += ["weights", "references", "manifest"]
    kind = rng.choice(kinds)
    if kind == "bytes":
        spec_path.write_bytes(damage_bytes(spec_path.read_bytes(), rng))
    elif kind == "weights" and weights is not None:
        damage_weights(weights, rng)
    elif kind == "manifest":
        manifest = path / "Manifest.json"
        manifest.write_text(damage_manifest(manifest.read_text(), rng))
    else:
        spec = read_model_file(path).spec
        {"fields": damage_fields, "graph": damage_graph, "references": damage_references}[kind](spec, rng)
        spec_path.write_bytes(spec.SerializeToString())
    return path, kind


def hunt(numbers: list[int], *, seconds: float, memory: int) -> int:
    """Open the mutations with these numbers and print what came of them.

    Args:
        numbers: of the mutations.
        seconds: how long opening one may take.
        memory: bytes, how much more memory than before opening one may take.

    Returns:
        How many are bugs.
    """
    victim, bugs = Victim(), []
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    largest = 0
    with tempfile.TemporaryDirectory() as parent:
        (sound := Path(parent) / "sound").mkdir()
        seeds = write_seeds(sound)
        for seed in seeds:
            found = victim.open(seed, TIME_LIMIT_SECONDS)
            assert found["kind"] == "answer", f"the sound model {seed.name} does not run: {found}"
        for number in numbers:
            (folder := Path(parent) / str(number)).mkdir()
            path, kind = damaged_copy(seeds[number % len(seeds)], number, folder)
            found = victim.open(path, seconds)
            largest = max(largest, found.get("growth", 0))
            if found.get("growth", 0) > memory:
                found = {"kind": "bug", "message": f"took {found['growth'] / 1e9:.1f} GB ({found['kind']})"}
            counts[kind, found["kind"]] += 1
            if found["kind"] == "bug":
                bugs.append(f"{number}: {path.name}, {kind}: {found['message']}")
            elif len(numbers) == 1:
                print(found)
            shutil.rmtree(folder)
    victim.stop()
    print("damaged     answers  errors  bugs")
    for kind in sorted({kind for kind, _ in counts}):
        row = [counts[kind, outcome] for outcome in ("answer", "error", "bug")]
        print(f"{kind:<11} {row[0]:>7} {row[1]:>7} {row[2]:>5}")
    print(f"{len(numbers)} mutations, {len(bugs)} bugs, at most {largest / 1e6:.0f} MB more memory than before")
    for bug in bugs:
        print(bug)
    return len(bugs)


def main() -> int:
    """Parse the arguments and hunt."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="how many mutations (default: 2000)")
    parser.add_argument("--seed", type=int, default=0, help="the number of the first mutation (default: 0)")
    parser.add_argument("--only", type=int, help="repeat one mutation by its number")
    parser.add_argument("--seconds", type=float, default=TIME_LIMIT_SECONDS, help="time limit (default: 30)")
    parser.add_argument("--memory", type=int, default=MEMORY_LIMIT_BYTES, help="bytes (default: 4 GiB)")
    arguments = parser.parse_args()
    numbers = list(range(arguments.seed, arguments.seed + arguments.count))
    if arguments.only is not None:
        numbers = [arguments.only]
    return 1 if hunt(numbers, seconds=arguments.seconds, memory=arguments.memory) else 0


if __name__ == "__main__":
    sys.exit(main())
