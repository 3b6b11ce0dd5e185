"""Pieces of work, two at a time: in order, in the caller's mode, and nothing is left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from probes.forward.abreast import abreast


@pytest.fixture(autouse=True)
def two_cores() -> Iterator[None]:
    cores = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(cores)


@pytest.mark.parametrize("inference", [False, True])
def test_results_come_in_order_and_in_the_mode_of_the_caller(inference: bool) -> None:
    with torch.inference_mode(inference):
        into = torch.zeros(6)

        def write(i: int) -> tuple[int, str, int]:
            into[i].fill_(i)
            return i, threading.current_thread().name, torch.get_num_threads()

        rows, names, cores = zip(*abreast(write, range(6)), strict=True)
    assert rows == tuple(range(6)) and into.tolist() == list(rows)
    assert threading.current_thread().name not in names  # the control: others did it
    assert set(cores) == {1} and torch.get_num_threads() == 2


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_a_piece_raises_is_raised(error: type[BaseException]) -> None:
    def fail(i: int) -> int:
        if i == 2:
            raise error
        return i

    with pytest.raises(error):
        list(abreast(fail, range(100)))
    threads = threading.enumerate()
    assert torch.get_num_threads() == 2
    assert not [thread for thread in threads if thread.name.startswith("abreast")]


def test_on_one_core_the_caller_works() -> None:
    torch.set_num_threads(1)
    names = set(abreast(lambda _: threading.current_thread().name, range(3)))
    assert names == {threading.current_thread().name}
