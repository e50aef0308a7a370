"""What a machine has: devices, memory that is free, and the words for memory that ran out."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from animatic.engine.device import default_plan, group_memory, out_of_memory
from animatic.engine.errors import EngineError


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: out of memory",
        "HIP error: out of memory",
        "MPS backend out of memory (MPS allocated: 8.00 GB)",
        "Invalid buffer size: 12.00 GB",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes",
        "unable to mmap 9 bytes: Cannot allocate memory (12)",
        "could not create a primitive",
        "GET was unable to find an engine to execute this computation",
    ],
)
def test_memory_that_ran_out_is_known_by_what_is_said(text: str) -> None:
    assert out_of_memory(RuntimeError(text))
    assert not out_of_memory(EngineError(text))  # that is a sentence already


def test_another_fault_is_no_lack_of_memory() -> None:
    assert not out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))


def test_a_card_that_is_not_there_is_named_with_those_that_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert default_plan("cuda:1").device == "cuda:1"
    for absent in ("cuda:2", "cuda:", "cuda:one"):
        with pytest.raises(EngineError, match=rf"'{absent}' on this machine, only cuda:0, cuda:1"):
            default_plan(absent)


@pytest.mark.parametrize(
    ("line", "outermost", "limit", "used", "files"),
    [
        ("0::/job/step", "", "memory.max", "memory.current", "inactive_file"),
        (
            "4:memory:/job/step",
            "memory",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "total_inactive_file",
        ),
    ],
)
def test_memory_that_is_free_is_bound_by_control_groups(
    tmp_path: Path, line: str, outermost: str, limit: str, used: str, files: str
) -> None:
    def group(path: str, most: str) -> None:
        folder = tmp_path / outermost / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / limit).write_text(most)
        (folder / used).write_text("700\n")
        (folder / "memory.stat").write_text(f"anon 600\n{files} 100\n")

    own = tmp_path / "own"
    own.write_text(f"1:cpu:/elsewhere\n{line}\n")
    group("job/step", "max\n")
    group("job", "2000\n")
    group("", "9223372036854771712\n")
    assert group_memory(tmp_path, own) == 1400
    group("job", "500\n")  # it was lowered after it had been used
    assert group_memory(tmp_path, own) == 0
    assert group_memory(tmp_path, tmp_path / "not Linux") > 2**60


def test_libraries_find_their_settings_before_torch_is_there() -> None:
    program = (
        "import os, sys; os.environ.pop('CUBLAS_WORKSPACE_CONFIG', None); import animatic.engine;"
        "print(os.environ['CUBLAS_WORKSPACE_CONFIG'], 'torch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert told.stdout.split() == [":4096:8", "False"], told.stderr
