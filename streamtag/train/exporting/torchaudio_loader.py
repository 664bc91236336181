"""Imports torchaudio without its compiled extension.

The wheels of torchaudio 2.11 contain an extension that is linked against CUDA and cannot be loaded
beside a torch for CPUs. Importing the package then fails as a whole. Only its Python code is needed
here, so a stand-in replaces the extension before the import. Only the exporter uses this, never the
daemon.
"""

import importlib
import sys
import threading
from collections.abc import Callable
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NoReturn

from streamtag.errors import StreamtagError

EXTENSION = "torchaudio._extension"
_LOCK = threading.Lock()


def torchaudio() -> ModuleType:
    """The package torchaudio, imported on the first call; thread-safe.

    If torchaudio was imported before, with its extension, that package is returned.

    Raises:
        StreamtagError: it is not installed, or cannot be imported; nothing of it stays in
            `sys.modules` then.
    """
    with _LOCK:
        if "torchaudio" in sys.modules:
            return importlib.import_module("torchaudio")  # waits for an import in another thread
        if find_spec("torchaudio") is None:
            raise StreamtagError(
                "torchaudio: expected the package, 2.11, got none: pip install 'streamtag[train]'"
            )
        before = set(_loaded())
        stand_in = sys.modules.setdefault(EXTENSION, _stand_in())
        try:
            package = importlib.import_module("torchaudio")
        except BaseException as error:
            for name in set(_loaded()) - before:
                del sys.modules[name]
            if not isinstance(error, Exception):
                raise
            raise StreamtagError(
                f"torchaudio: expected a package that can be imported beside torch, got {error}: "
                "pip install 'streamtag[train]'"
            ) from error
        package.__dict__.setdefault("_extension", stand_in)
        return package


def _loaded() -> list[str]:
    return [name for name in list(sys.modules) if name.split(".")[0] == "torchaudio"]


def _stand_in() -> ModuleType:
    """A module that tells the rest of the package that there is no extension."""
    module = ModuleType(EXTENSION)
    module.__dict__.update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False,
        _IS_ALIGN_AVAILABLE=False,
        _check_cuda_version=lambda: None,
        _load_lib=lambda library: False,
        fail_if_no_align=_without_extension,
    )
    return module


def _without_extension(function: Callable[..., Any]) -> Callable[..., NoReturn]:
    """Replaces a function that needs the extension."""

    def missing(*_: Any, **__: Any) -> NoReturn:
        raise StreamtagError(
            f"torchaudio: expected its compiled extension for {function.__name__}, got none: "
            "import torchaudio before streamtag, beside a torch that it fits"
        )

    return missing
