"""Tensors that wait on disk, where memory is wanted for the model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

Taken = Callable[[], Mapping[str, Tensor]]


class Shelf:
    """Where tensors wait: in memory while they are few, and on a GPU, else in files of its own.

    A disk without room is no mistake of anybody's: what does not fit there stays in memory.
    """

    def __init__(self, room: int) -> None:
        """Nothing waits yet.

        Args:
            room: Bytes that stay in memory.
        """
        self._room, self._n = room, 0

    @cached_property
    def _folder(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(prefix="rome-diagnosis-")

    def lay(self, tensors: Mapping[str, Tensor]) -> Taken:
        """Puts tensors on the shelf.

        Args:
            tensors: They, by name.

        Returns:
            What gives them back, the same to the bit.
        """
        self._room -= sum(each.nbytes for each in tensors.values())
        if self._room >= 0 or any(each.device.type != "cpu" for each in tensors.values()):
            return lambda: tensors
        path = Path(self._folder.name, f"{self._n}.safetensors")
        self._n += 1
        try:
            # Copied, since two may be views of one tensor, which a file cannot hold.
            save_file({name: each.clone() for name, each in tensors.items()}, path)
        except (OSError, SafetensorError):
            path.unlink(missing_ok=True)
            return lambda: tensors
        return partial(self._take, path)

    def _take(self, path: Path) -> Mapping[str, Tensor]:
        # A method, so that whoever can take something keeps the folder.
        return load_file(path)
