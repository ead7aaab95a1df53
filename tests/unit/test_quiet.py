import logging
import subprocess
import sys
import threading
import warnings

import pytest

from pytest_quantguard.quiet import import_coremltools, quiet


def noise(text="noise"):
    sys.stdout.write(text)
    sys.stderr.write(text)
    logging.getLogger("coremltools").warning(text)
    warnings.warn(text, UserWarning, stacklevel=1)


def test_prints_logs_and_warnings_are_held_back(capfd):
    with quiet() as held:
        noise()

    assert capfd.readouterr() == ("", "")
    assert held.getvalue() == "noisenoise"


def test_streams_filters_and_level_are_restored():
    logger = logging.getLogger("coremltools")
    before = (sys.stdout, sys.stderr, logger.level, list(logger.handlers), list(warnings.filters))

    with quiet():
        pass

    assert (sys.stdout, sys.stderr, logger.level, list(logger.handlers), list(warnings.filters)) == before


def test_streams_are_restored_after_an_exception():
    before = sys.stdout
    with pytest.raises(ZeroDivisionError), quiet():
        raise ZeroDivisionError
    assert sys.stdout is before


def test_nested_use_stays_quiet_until_the_outermost_ends(capfd):
    with quiet():
        with quiet():
            noise()
        noise()
    assert capfd.readouterr() == ("", "")
    sys.stdout.write("heard")
    sys.stdout.flush()
    assert capfd.readouterr().out == "heard"


def test_records_of_level_error_pass(caplog):
    with quiet():
        logging.getLogger("coremltools").error("broken")
        logging.getLogger("coremltools").warning("chatty")
    assert [record.message for record in caplog.records] == ["broken"]


def test_records_of_level_error_reach_standard_error_where_no_handler_is_set_up():
    script = (
        "import logging; from pytest_quantguard.quiet import quiet\n"
        "with quiet():\n"
        "    logging.getLogger('coremltools').error('broken')\n"
        "    logging.getLogger('coremltools').warning('chatty')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "broken\n")


def test_overlapping_threads_restore_the_streams(capfd):
    before = (sys.stdout, sys.stderr)
    first_is_in, second_is_in, first_is_out = threading.Event(), threading.Event(), threading.Event()

    def first():
        with quiet():
            first_is_in.set()
            second_is_in.wait(10)
        first_is_out.set()

    def second():
        first_is_in.wait(10)
        with quiet():
            second_is_in.set()
            first_is_out.wait(10)
            noise()

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert (sys.stdout, sys.stderr) == before
    assert capfd.readouterr() == ("", "")


def test_import_returns_the_module():
    assert import_coremltools() is sys.modules["coremltools"]


def test_importing_coremltools_prints_nothing():
    script = "from pytest_quantguard.quiet import import_coremltools; print(import_coremltools().__name__)"
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", script], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("coremltools\n", "")
