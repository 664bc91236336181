"""Models in processes of their own: a Ray actor runs a model on a GPU for many workers."""

import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from streamtag.engine.offline import CALL_SECONDS
from streamtag.model.bundle import BundleFile
from streamtag.model.tagger import Tagger


class ModelActor:
    """A model in a process of its own. It is a Ray actor."""

    def __init__(self, name: str, bundle: bytes, device: str) -> None:
        self._tagger = Tagger.load(BundleFile(Path(name), bundle), device)

    def device(self) -> str:
        """The device that the model runs on."""
        return self._tagger.device

    def call(self, method: str, *arguments: Any) -> Any:
        """Calls a method of the tagger and returns its result."""
        return getattr(self._tagger, method)(*arguments)


class RemoteTagger(Tagger):
    """A tagger whose model runs in actors. Calls go to the actors in turn.

    The state of a stream travels with the calls, so any actor can take any of them.

    Args:
        bundle: the model that the actors have loaded.
        actors: handles of `ModelActor`.
    """

    def __init__(self, bundle: BundleFile, actors: list[Any]) -> None:
        import ray

        nowhere = torch.jit.ScriptModule()
        super().__init__(nowhere, bundle.card, bundle.checksum, torch.device("cpu"))
        self.device: str = ray.get(actors[0].device.remote())
        self._actors, self._turn = actors, itertools.count(os.getpid())
        self.lost = ""
        """Why an actor was lost; empty if none was. It is not the recording's fault."""

    def outputs(self, windows: np.ndarray) -> np.ndarray:
        return np.asarray(self._ask("outputs", windows))

    def trunk(self, frames: np.ndarray) -> np.ndarray:
        return np.asarray(self._ask("trunk", frames))

    def advance(self, frames: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        embeddings, after = self._ask("advance", frames, state)
        return embeddings, after

    def head(self, embeddings: np.ndarray) -> np.ndarray:
        return np.asarray(self._ask("head", embeddings))

    def compile_part(self, part: str, *shapes: tuple[int, ...]) -> float:
        return max(map(float, self._ask_all("compile_part", part, *shapes)))

    def warm_up(self, sizes: Any) -> None:
        self._ask_all("warm_up", list(sizes))

    def _ask(self, method: str, *arguments: Any) -> Any:
        actor = self._actors[next(self._turn) % len(self._actors)]
        return self._wait(actor.call.remote(method, *arguments))

    def _ask_all(self, method: str, *arguments: Any) -> list[Any]:
        found: list[Any] = self._wait([a.call.remote(method, *arguments) for a in self._actors])
        return found

    def _wait(self, answer: Any) -> Any:
        import ray

        try:
            return ray.get(answer, timeout=CALL_SECONDS)
        except ray.exceptions.RayTaskError:  # the model's own error
            raise
        except ray.exceptions.RayError as error:
            self.lost = f"model {self.card.name}: its actor is lost: {error}"
            raise
