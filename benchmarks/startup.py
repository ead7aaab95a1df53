"""What does the plugin cost a project that does not use it? Measures `pytest --collect-only` of an empty folder.

Runs with the plugin and without it (`-p no:quantguard`) take turns, so that a busy machine slows both alike. The
figure is the median of the differences of such pairs, in processor time: on an idle machine that is the time one
waits, and on a busy one it leaves out the waiting for others. Also prints what importing the modules of the plugin
takes once pytest is imported.

    python benchmarks/startup.py [--pairs 20]
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

LIMIT = 30.0
"""Milliseconds that the plugin may add."""
WITHOUT = ("-p", "no:quantguard")
PLUGIN = "pytest_quantguard.plugin"
NO_TESTS = 5
"""pytest's exit code where nothing was collected."""


def main() -> int:
    """Print the figures; the exit code says whether the limit holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20, help="runs with and without the plugin (default: 20)")
    pairs = parser.parse_args().pairs
    if pairs < 1:
        parser.error("--pairs must be at least 1")
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder, "project")
        project.mkdir()
        added = print_runs(project, pairs)
        print_imports(project, pairs)
    return 0 if added < LIMIT else 1


def print_runs(folder: Path, pairs: int) -> float:
    """Time pytest with and without the plugin; returns the milliseconds of processor time that it adds."""
    collect(folder)  # byte-compiles, and fills the file system's cache
    collect(folder, *WITHOUT)
    without, with_plugin = [], []
    for _ in range(pairs):
        without.append(collect(folder, *WITHOUT))
        with_plugin.append(collect(folder))
    print(f"pytest --collect-only in an empty folder, {pairs} pairs of runs")
    added = []
    for index, clock in enumerate(("processor time", "wall clock")):
        before, after = [run[index] for run in without], [run[index] for run in with_plugin]
        added.append(statistics.median(with_it - bare for bare, with_it in zip(before, after, strict=True)))
        print(f"  {clock:14}  without the plugin {describe(before)}, with it {describe(after)}")
        print(f"  {'':14}  the plugin adds {added[index]:.1f} ms")
    print(f"limit: {LIMIT:.0f} ms of processor time")
    return added[0]


def collect(folder: Path, *arguments: str) -> tuple[float, float]:
    """Milliseconds of processor time and of wall clock of one run of pytest in a process of its own."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider", *arguments]
    used, started = processor_time(), time.perf_counter()
    finished = run(command, folder)
    elapsed = time.perf_counter() - started
    # A run that failed would be quick and would look good.
    if finished.returncode != NO_TESTS or (arguments == WITHOUT) == ("quantguard" in finished.stdout):
        sys.exit(f"{' '.join(command)} did not run as expected:\n{finished.stdout}{finished.stderr}")
    return (processor_time() - used) * 1000, elapsed * 1000


def processor_time() -> float:
    """Seconds that the finished child processes have computed."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def print_imports(folder: Path, repetitions: int) -> None:
    """Time the import of the plugin, and print what each of the project's modules takes by itself."""
    totals = []
    by_module: dict[str, list[float]] = {}
    for _ in range(repetitions):
        rows = import_times(folder)
        totals.append(next(cumulative for name, _, cumulative in rows if name == PLUGIN))
        for name, own, _ in rows:
            by_module.setdefault(name, []).append(own)
    print(f"\nimport {PLUGIN}: {describe(totals)}; of that, each module by itself")
    for name, times in by_module.items():
        if name.startswith("pytest_quantguard"):
            print(f"  {statistics.median(times):5.2f} ms  {name}")
    others = [statistics.median(times) for name, times in by_module.items() if "pytest_quantguard" not in name]
    print(f"  {sum(others):5.2f} ms  {len(others)} modules of the standard library")


def import_times(folder: Path) -> list[tuple[str, float, float]]:
    """(module, own, cumulative) milliseconds of everything that importing the plugin imports after pytest."""
    marker = "the plugin comes now"
    code = f"import sys, pytest; print({marker!r}, file=sys.stderr, flush=True); import {PLUGIN}"
    finished = run([sys.executable, "-X", "importtime", "-c", code], folder)
    if finished.returncode:
        sys.exit(finished.stderr)
    rows = []
    for line in finished.stderr.split(f"{marker}\n")[1].splitlines():
        own, cumulative, name = line.removeprefix("import time:").split("|")
        rows.append((name.strip(), int(own) / 1000, int(cumulative) / 1000))
    return rows


def run(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, without options that the environment gives to pytest.

    Byte code is kept beside the folder. Where Python may not keep it, each run would compile the plugin anew.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment["PYTHONPYCACHEPREFIX"] = str(folder.with_name("bytecode"))
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def describe(times: Sequence[float]) -> str:
    """The median and the range in which the times lie."""
    return f"{statistics.median(times):.1f} ms ({min(times):.1f} to {max(times):.1f})"


if __name__ == "__main__":
    sys.exit(main())
