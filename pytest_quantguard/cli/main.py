"""The command line `quantguard`; every module here is light until its command runs."""

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Sequence

from pytest_quantguard import __version__
from pytest_quantguard.cli import export, inspect, predict, quantize
from pytest_quantguard.cli.usage import UsageError
from pytest_quantguard.errors import QuantguardError

COMMANDS = {"predict": predict, "inspect": inspect, "export": export, "quantize": quantize}
"""By name a module with `HELP`, `add_arguments(parser)` and `run(arguments)`, which returns the exit code."""

FAILURE = 1
USAGE = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments after the program's name; those of the process by default.

    Returns:
        The exit code: 0, 1 for a failure, 2 for wrong usage, 130 after Ctrl-C, 141 when nobody reads the output.
    """
    _print_anything()
    try:
        arguments = _parser().parse_args(argv)
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except UsageError as error:
        return _fail(str(error), USAGE)
    except QuantguardError as error:
        return _fail(str(error), FAILURE)
    except BrokenPipeError:
        return _unread()
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), FAILURE)
    except MemoryError:
        return _fail("this needs more memory than there is; use a smaller model.", FAILURE)
    except KeyboardInterrupt:
        return _fail("interrupted", 128 + signal.SIGINT)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="quantguard", description="Run, inspect, export and quantize Core ML models, on any platform."
    )
    parser.add_argument("--version", action="version", version=f"quantguard {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, module in COMMANDS.items():
        command = commands.add_parser(name, help=module.HELP, description=module.__doc__)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def _fail(message: str, code: int) -> int:
    line = " ".join(message.split())
    print(f"quantguard: error: {line}", file=sys.stderr)
    return code


def _print_anything() -> None:
    """Show what the terminal's encoding lacks as `\\N{...}` instead of failing: names come from files."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _unread() -> int:
    """Nobody reads the output, for instance after `| head`; Python must not complain when it exits, either."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + 13  # SIGPIPE, which Windows does not have
