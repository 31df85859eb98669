"""Devices are looked for before anything is loaded, and every way of running out of memory is known as one."""

from __future__ import annotations

import errno
import os
import platform
import subprocess
import sys
from typing import Any

import pytest
import torch
from accelerator import accelerator
from trimpot.ground.devices import is_out_of_memory, narrow, present, resolve, shortage
from trimpot.ground.errors import ConfigError, ModelError, ScoreError

ABSENT = ["gpu", "GPU", "CPU", "cuda", "cuda:7", "cuda:-1", "cuda:256", "mps", "xpu", "meta", "cpu:1", "hip", "", "0"]
ABSENT += ["cuda:1:2", " cpu", "vulkan", "cuda:99999999999999999999"]


@pytest.fixture
def no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any, whatever this one has."""
    for kind in ("cuda", "xpu", "mps"):
        monkeypatch.setattr(getattr(torch, kind), "is_available", lambda: False)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: None)


@pytest.mark.usefixtures("no_accelerator")
@pytest.mark.parametrize("name", ABSENT)
def test_a_device_that_is_not_there_is_one_sentence_that_lists_what_is(name: str) -> None:
    for error in (ConfigError, ModelError, ScoreError):
        with pytest.raises(error) as caught:
            resolve(name, error)
        assert str(caught.value) == f"there is no device {name!r} here; choose cpu, or leave `device` out"


@pytest.mark.usefixtures("no_accelerator")
def test_without_a_gpu_the_cpu_is_taken() -> None:
    assert resolve(None) == resolve("cpu") == resolve("cpu:0") == "cpu"
    assert present() == {"cpu": 1}


@pytest.mark.parametrize(("kind", "number"), [("cuda", 2), ("mps", 1), ("xpu", 2)])
def test_a_device_that_is_there_is_taken_as_it_is_called(kind: str, number: int) -> None:
    with accelerator(kind, number):
        names = [kind, *(f"{kind}:{index}" for index in range(number))]
        assert [resolve(name) for name in names] == names
        assert resolve(None) == ("cuda" if kind == "cuda" else "cpu")
        listed = " or ".join(["cpu", *names[1:]] if number > 1 else ["cpu", kind])
        with pytest.raises(ConfigError, match=f"no device '{kind}:{number}' here; choose {listed}, or"):
            resolve(f"{kind}:{number}")
        for wrong in ("gpu", f"{kind}:256"):  # which PyTorch reads as number 0
            with pytest.raises(ConfigError, match=f"no device '{wrong}'"):
                resolve(wrong)


def test_a_device_that_is_there_and_fails_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(*_: Any, **__: Any) -> Any:
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable\nCompile with ...")

    with accelerator("cuda"):
        monkeypatch.setattr(torch, "empty", busy)
        with pytest.raises(ConfigError, match="'cuda' cannot be used: CUDA error: all CUDA-capable devices are busy"):
            resolve("cuda")


def raised_from(cause: BaseException) -> Exception:
    """An error that a library raised in place of another."""
    error = RuntimeError("backend failed")
    error.__cause__ = cause
    return error


ON_DEVICE = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23 GiB"),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed in a non-contiguous"),
    RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
    RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"),
    RuntimeError("HIP out of memory. Tried to allocate 20.00 MiB"),
    RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB, other allocations: 1.00 GB, max: 9.07 GB)."),
    RuntimeError("Invalid buffer size: 24.00 GB"),
    RuntimeError("XPU out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)"),
    RuntimeError("Native API failed: UR_RESULT_ERROR_OUT_OF_RESOURCES"),
    raised_from(torch.OutOfMemoryError("CUDA out of memory.")),
]
ON_HOST = [
    MemoryError(),
    MemoryError("std::bad_alloc"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:80] DefaultCPUAllocator: not enough memory: you tried to allocate"),
    RuntimeError("unable to mmap 4976698672 bytes from file <model.safetensors>: Cannot allocate memory (12)"),
    raised_from(MemoryError()),
]
OTHERS = [
    RuntimeError("Expected all tensors to be on the same device, but found at least two devices"),
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
    ValueError("out of memory"),
    OSError(errno.ENOSPC, "No space left on device"),
    KeyError("memory"),
    KeyboardInterrupt(),
]


@pytest.mark.parametrize("error", [*ON_DEVICE, *ON_HOST], ids=str)
def test_every_way_of_running_out_of_memory_is_known(error: BaseException) -> None:
    found = shortage(error)
    assert found is not None and is_out_of_memory(error)
    assert found.on_host == (error in ON_HOST)


@pytest.mark.parametrize("error", OTHERS, ids=str)
def test_other_errors_are_not_taken_for_it(error: BaseException) -> None:
    assert not is_out_of_memory(error)


def test_numbers_that_a_device_does_not_know_are_narrowed() -> None:
    """MPS has no float64; elsewhere nothing changes."""
    module = torch.nn.Sequential(torch.nn.Linear(1, 1))
    module[0].register_buffer("table", torch.ones(2, dtype=torch.float64))
    for device, dtype in (("cuda:0", torch.float64), ("cpu", torch.float64), ("mps", torch.float32)):
        narrow(module, device)
        assert module[0].table.dtype == dtype


@pytest.mark.skipif(sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="an allocator of its own")
@pytest.mark.parametrize("tuned", [{}, {"MALLOC_TRIM_THRESHOLD_": "131072"}])
def test_memory_that_was_freed_is_used_again_unless_the_user_has_tuned_the_allocator(tuned: dict[str, str]) -> None:
    """Else the system clears every page of a large array each time one is asked for."""
    code = """if True:
        import resource
        from trimpot.ground.devices import keep_freed_memory
        def pages():
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            b"x" * (100 << 20)
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        first = pages()
        keep_freed_memory()
        pages()
        print(first, pages())
    """
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **tuned}, capture_output=True, text=True, check=True
    )
    first, again = map(int, done.stdout.split())
    assert again > first / 2 if tuned else again < first / 10
