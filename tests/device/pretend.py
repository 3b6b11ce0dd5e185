"""A second device on a machine without one: tensors that refuse to be mixed with the CPU's.

A tensor on it wraps one on the CPU and computes with it, so that results are the CPU's, but it
says that it is elsewhere and keeps CUDA's rules: no NumPy, no operation together with a tensor of
the CPU (numbers aside), no random numbers from the CPU's generator.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

NAME = "pretend"
_aten = torch.ops.aten
_CROSSING = {_aten._to_copy.default, _aten.copy_.default}
_INDEXED = {
    _aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default,
    _aten._index_put_impl_.default, _aten._unsafe_index.Tensor,
}  # fmt: skip
_MATH_ATTENTION = 0  # the one kernel of attention that every device has


class _Module(_DummyBackendModule):  # type: ignore[misc]
    """What torch asks a kind of device for."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        """Types for automatic mixed precision, which is never switched on."""
        return [torch.float16, torch.bfloat16]


class Elsewhere(torch.Tensor):
    """A tensor on the second device."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Elsewhere:
        """Wraps a tensor of the CPU."""
        new = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(),
            dtype=inner.dtype, layout=inner.layout, device=f"{NAME}:0",
        )  # fmt: skip
        new.inner = inner
        return new  # type: ignore[no-any-return]

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        """The values and where they pretend to be."""
        return f"{self.inner!r} on {NAME}"

    def __deepcopy__(self, memo: dict[int, Any]) -> Elsewhere:
        """A copy, as a tensor of a device of torch's own has it."""
        return Elsewhere(self.inner.clone())

    def tolist(self) -> Any:
        """The numbers, which torch does not give of a subclass."""
        return self.inner.tolist()

    def data_ptr(self) -> int:
        """Where the values lie: views of one tensor share it."""
        return self.inner.data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        """The storage of the values."""
        return self.inner.untyped_storage()

    @classmethod
    def __torch_dispatch__(cls, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Every operation, whether or not the mode is on."""
        return _run(func, args, kwargs or {})


class _Everything(TorchDispatchMode):
    """Sees what is created on the second device, too."""

    def __torch_dispatch__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    if func is _aten._fused_sdp_choice.default:
        return _MATH_ATTENTION
    here: list[torch.Tensor] = []
    there: dict[int, Elsewhere] = {}

    def inside(x: Any) -> Any:
        if isinstance(x, Elsewhere):
            there[id(x.inner)] = x
            return x.inner
        if isinstance(x, torch.Tensor):
            here.append(x)
        elif isinstance(x, list | tuple):
            return [inside(each) for each in x]
        return x

    inner = [inside(x) for x in args]
    named = {name: inside(x) for name, x in kwargs.items()}
    device = kwargs.get("device")
    lands = bool(there) if device is None else torch.device(device).type == NAME
    if here and there and func not in _CROSSING:
        _refuse_mixed(func, args, here, there)
    if lands and kwargs.get("generator") is not None:
        raise RuntimeError(f"{func}: expected a {NAME!r} generator but got the CPU's")
    if lands and device is not None:
        named["device"] = torch.device("cpu")
    out = func(*inner, **named)
    if torch.Tag.inplace_view in func.tags and there:
        with no_dispatch():  # the wrapper's own shape
            return func(*args, **kwargs)
    if func is _aten.copy_.default:
        return args[0]

    def outside(x: Any) -> Any:
        if isinstance(x, torch.Tensor):
            return there[id(x)] if id(x) in there else Elsewhere(x)
        return type(x)(map(outside, x)) if isinstance(x, list | tuple) else x

    return outside(out) if lands else out


def _refuse_mixed(
    func: Any, args: Any, here: list[torch.Tensor], there: dict[int, Elsewhere]
) -> None:
    if func in _INDEXED and isinstance(args[0], Elsewhere):
        values = args[2:3]
        if all(isinstance(value, Elsewhere) or value.dim() == 0 for value in values):
            return
    changed = func._schema.is_mutable and not isinstance(args[0], Elsewhere)
    numbers = all(x.dim() == 0 for x in here)
    if numbers and not changed and torch.Tag.pointwise in func.tags:
        return
    raise RuntimeError(
        f"{func}: expected all tensors to be on the same device, but they are on cpu "
        f"{[tuple(x.shape) for x in here]} and {NAME} {[tuple(x.shape) for x in there.values()]}"
    )


# At once: the engine of autograd counts devices when it is used first. Beside a real accelerator
# torch would take the pretended one for it.
IS_THERE = not torch.accelerator.is_available()
if IS_THERE:
    _setup_privateuseone_for_python_backend(NAME, _Module())


@contextmanager
def pretend_device() -> Iterator[str]:
    """Gives the name of the second device, on which tensors are created within the block."""
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with _Everything():
            yield NAME
    finally:
        torch._C._set_only_lift_cpu_tensors(before)
