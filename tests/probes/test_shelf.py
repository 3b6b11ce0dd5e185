"""Tensors on a shelf: in memory, on disk, and in memory again where the disk has no room."""

from __future__ import annotations

import gc
import resource
import tempfile
from pathlib import Path

import pytest
import torch

from probes.shelf import Shelf


def test_what_waits_comes_back_to_the_bit_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    shelf, tensors = Shelf(100), [torch.randn(20), torch.randn(3, 4, dtype=torch.float64)]
    views = {"a": tensors[0][:10], "b": tensors[0][:10], "empty": torch.zeros(2, 0)}
    taken = [shelf.lay({"x": tensors[0]}), shelf.lay({"y": tensors[1]}), shelf.lay(views)]
    assert len([*tmp_path.glob("*/*")]) == 2  # the first one stays in memory
    del shelf  # who can take something keeps the folder
    gc.collect()
    assert torch.equal(taken[0]()["x"], tensors[0]) and torch.equal(taken[1]()["y"], tensors[1])
    assert all(torch.equal(value, views[name]) for name, value in taken[2]().items())
    taken.clear()
    gc.collect()
    assert not [*tmp_path.iterdir()]


def test_a_disk_without_room_leaves_them_in_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    shelf, keys = Shelf(0), torch.randn(1000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        taken = shelf.lay({"keys": keys})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert taken()["keys"] is keys
    assert not [*tmp_path.glob("*/*")]
