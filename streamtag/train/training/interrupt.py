"""Ctrl-C during a training: the step ends, the checkpoint is written, and then the training."""

import os
import signal
import threading
from types import FrameType
from typing import Any, Self

SAID = b"\nstreamtag: ending after this step; Ctrl-C again ends at once\n"


class InterruptFlag:
    """Ctrl-C as a flag while it is entered; a second one raises KeyboardInterrupt at once.

    Outside of the main thread, and where Ctrl-C is ignored, nothing changes.
    """

    def __init__(self) -> None:
        self.is_set = False
        """Whether Ctrl-C was pressed."""
        self._before: Any = None

    def __enter__(self) -> Self:
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._set)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _set(self, number: int, frame: FrameType | None) -> None:
        if self.is_set:
            raise KeyboardInterrupt
        self.is_set = True
        os.write(2, SAID)
