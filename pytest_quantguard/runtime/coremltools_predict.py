"""`predict` for coremltools itself where Apple's framework is not.

coremltools reaches the framework through one class, `_MLModelProxy`, and asks for the version of macOS first.
While prediction is enabled, that class is `PortableProxy`, and the version is one that knows every specification.
"""

import sys
import threading
import types
from collections.abc import Callable
from typing import Any

from pytest_quantguard.errors import UnsupportedModelError
from pytest_quantguard.quiet import import_coremltools
from pytest_quantguard.runtime import PRECISIONS
from pytest_quantguard.runtime.coremltools_proxy import PortableProxy

MACOS_VERSION = (26, 0)
"""What coremltools is told when it asks for the version of macOS; the one of specification version 10."""

_BINARY = "coremltools.libcoremlpython"


def enable_predict(*, precision: str = "float32") -> "Enabled":
    """Give coremltools a `predict` that works without macOS.

    From here on `MLModel(...).predict`, `make_state`, `compile_model` and `CompiledMLModel`, and with them
    `compare_models` and the calibration of activations, run on the portable engine. Models that were loaded before
    still cannot predict. A plain call stays in force; used as a context manager it ends with the block. May be
    nested: the innermost decides about the precision of the models loaded within. On macOS it does nothing.

    Args:
        precision: how ML programs are computed; one of `runtime.PRECISIONS`.

    Raises:
        UnsupportedModelError: there is no such precision.
    """
    if precision not in PRECISIONS:
        raise UnsupportedModelError(f"precision={precision!r} does not exist; use one of {', '.join(PRECISIONS)}.")
    enabled = Enabled(precision)
    enabled.__enter__()
    return enabled


class Enabled:
    """That prediction is enabled; made by `enable_predict`, and a context manager that ends it."""

    def __init__(self, precision: str) -> None:
        self.precision = precision

    def __enter__(self) -> None:
        if sys.platform != "darwin":
            _STAND_IN.add(self)

    def __exit__(self, *_: object) -> None:
        if sys.platform != "darwin":
            _STAND_IN.remove(self)


class _StandIn:
    """Puts the stand-in into coremltools for the first who wants it, and takes it out after the last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users: list[Enabled] = []
        self._undo: Callable[[], None] = lambda: None

    def add(self, user: Enabled) -> None:
        with self._lock:
            if user not in self._users:
                if not self._users:
                    self._undo = _install()
                self._users.append(user)
                PortableProxy.precision = user.precision

    def remove(self, user: Enabled) -> None:
        with self._lock:
            if user in self._users:
                self._users.remove(user)
                if self._users:
                    PortableProxy.precision = self._users[-1].precision
                else:
                    self._undo()


_STAND_IN = _StandIn()


def _install() -> Callable[[], None]:
    """Replace coremltools' link to the framework; returns what undoes it."""
    import_coremltools()
    from coremltools.models import _compiled_model, model, utils

    before = {"_is_macos": utils._is_macos, "_macos_version": utils._macos_version}
    after: dict[str, Any] = {"_is_macos": _is_macos, "_macos_version": _macos_version}
    proxies = [(module, module._MLModelProxy) for module in (model, _compiled_model)]
    binary = types.ModuleType(_BINARY)
    binary._MLModelProxy = PortableProxy  # type: ignore[attr-defined]

    for name in after:
        _replace(name, before[name], after[name])
    for module, _ in proxies:
        module._MLModelProxy = PortableProxy
    sys.modules[_BINARY] = binary

    def undo() -> None:
        del sys.modules[_BINARY]
        # coremltools' modules that were imported meanwhile took the stand-in as the real class.
        _replace("_MLModelProxy", PortableProxy, None)
        for module, proxy in proxies:
            module._MLModelProxy = proxy
        for name in before:
            _replace(name, after[name], before[name])

    return undo


def _replace(name: str, old: Any, new: Any) -> None:
    """Give every loaded module of coremltools that has an object under a name another one."""
    for module_name, module in list(sys.modules.items()):
        if module_name.partition(".")[0] == "coremltools" and vars(module).get(name) is old:
            setattr(module, name, new)


def _is_macos() -> bool:
    return True


def _macos_version() -> tuple[int, ...]:
    return MACOS_VERSION
