"""Where and how a take is computed: the execution plan.

A take's bits depend on more than its seed: on the device, the number type, how many CPU threads
share a sum, how many items go through the model at once, and the versions of the libraries. The
plan holds exactly these, is stored with the take, and a replay forces it.
"""

import os
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import diffusers
import psutil
import torch
import transformers
from torch import nn

from .. import __version__
from .errors import EngineError

# cuDNN's words where none of its ways had room; they are the same where it has no way at all.
_NO_WAY = "unable to find an engine"
# In small letters: what graphics cards and the system say, torch on the CPU, cuBLAS and cuDNN (old
# and new), Metal of one buffer, and oneDNN, which has no other word for it.
_OUT_OF_MEMORY = (
    "out of memory",
    "allocate memory",
    "defaultcpuallocator",
    "alloc_failed",
    "allocation_failed",
    "invalid buffer size",
    "could not create a primitive",
    "could not create a memory",
    _NO_WAY,
)
# The files of a control group that tell its limit, what it uses, and, in memory.stat, what of that
# are files that will be dropped where memory is short: of version 2 and of version 1.
_GROUP_FILES = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def library_versions() -> dict[str, str]:
    """Versions of everything that can change a take's bits."""
    return {
        "animatic": __version__,
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }


@dataclass(frozen=True)
class Plan:
    """How one take is computed.

    ``device`` is "cuda" (NVIDIA, and AMD through ROCm), "mps" (Metal) or "cpu", with an index after
    a colon where there are several; ``threads`` counts CPU threads; ``guidance_batch`` is 2 where
    both halves of classifier-free guidance go through the model together and 1 where they go one
    after the other (half the memory); ``decode_batch`` is how many frames are decoded at once, and
    with ``decode_tiles`` not even a whole one; ``compiled`` models went through torch.compile;
    ``channels_last`` is how convolutions lay out pictures in memory.
    """

    device: str
    dtype: str
    threads: int
    guidance_batch: int = 2
    decode_batch: int = 4
    decode_tiles: bool = False
    compiled: bool = False
    channels_last: bool = False
    versions: dict[str, str] = field(default_factory=library_versions, compare=False)

    @property
    def torch_dtype(self) -> torch.dtype:
        return DTYPES[self.dtype]

    @property
    def vae_dtype(self) -> str:
        """The autoencoder's number type: bfloat16 keeps eight bits of a number, and pictures
        rounded to them flicker, so it computes in float32 beside a model in bfloat16.
        """
        return "float32" if self.dtype == "bfloat16" else self.dtype

    @property
    def torch_device(self) -> torch.device:
        return torch.device(self.device)

    def to_json(self) -> dict[str, Any]:
        """The plan as it is stored in take.json."""
        unusual = {
            "decode_tiles": self.decode_tiles,
            "compiled": self.compiled,
            "channels_last": self.channels_last,
        }
        return {
            "device": self.device,
            "dtype": self.dtype,
            "batch": {"guidance": self.guidance_batch, "decode": self.decode_batch},
            "threads": self.threads,
            **{name: True for name, used in unusual.items() if used},
            "versions": dict(self.versions),
        }

    def smaller(self, stage: str) -> "Plan | None":
        """A plan that needs less memory in ``stage`` ("sampling" or "decode"), or None."""
        if stage == "sampling":
            return replace(self, guidance_batch=1) if self.guidance_batch > 1 else None
        if self.decode_batch > 1:
            return replace(self, decode_batch=1)
        return None if self.decode_tiles else replace(self, decode_tiles=True)


def pick_device() -> str:
    """The fastest device torch can use here: "cuda" (also ROCm), "mps" or "cpu"."""
    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    return "cpu"


def default_plan(device: str | None = None) -> Plan:
    """The plan for this machine; ``device`` None picks by itself.

    GPUs compute in float16, CPUs in bfloat16 where they have instructions for it, else in float32
    (half precision is slower there). The environment variable ANIMATIC_COMPILE=1 has the models
    compiled: minutes for the first take, and faster ones after it. Raises EngineError for a device
    that is not here.
    """
    device = device or pick_device()
    _check_device(device)
    dtype = _cpu_dtype() if device.startswith("cpu") else "float16"
    compiled = os.environ.get("ANIMATIC_COMPILE", "") not in ("", "0")
    # Tensor cores want it so; on a CPU it gained nothing (docs/benchmarks.md).
    channels_last = device.startswith("cuda")
    threads = torch.get_num_threads()
    return Plan(device, dtype, threads, compiled=compiled, channels_last=channels_last)


def _cpu_dtype() -> str:
    # Not every torch that will do has it.
    able: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bfloat16" if able.get("avx512_bf16") or able.get("amx_bf16") else "float32"


def forced_plan(stored: dict[str, Any]) -> Plan:
    """The plan of an earlier take, to be followed exactly except for the versions, which are facts
    of this environment. Raises EngineError where this machine cannot follow it.
    """
    try:
        batch = stored["batch"]
        plan = Plan(
            device=str(stored["device"]),
            dtype=str(stored["dtype"]),
            threads=int(stored["threads"]),
            guidance_batch=int(batch["guidance"]),
            decode_batch=int(batch["decode"]),
            decode_tiles=bool(stored.get("decode_tiles", False)),
            compiled=bool(stored.get("compiled", False)),
            channels_last=bool(stored.get("channels_last", False)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise EngineError(
            "The take's execution plan cannot be read (it needs device, dtype, threads and batch "
            "with guidance and decode). Generate without a forced plan instead."
        ) from error
    if plan.dtype not in DTYPES:
        raise EngineError(
            f"The take's execution plan asks for the number type {plan.dtype!r}, which is none of "
            f"{', '.join(DTYPES)}. Generate without a forced plan instead."
        )
    if min(plan.threads, plan.guidance_batch, plan.decode_batch) < 1:
        raise EngineError(
            "The take's execution plan has a thread or batch count below 1. "
            "Generate without a forced plan instead."
        )
    _check_device(plan.device)
    return plan


def version_notes(stored: dict[str, Any]) -> list[str]:
    """A sentence where a replay's libraries differ from the take's, none where they agree."""
    here = library_versions()
    then = stored.get("versions", {})
    changed = [
        f"{k} {then[k]} then, {here[k]} now" for k in here if k in then and then[k] != here[k]
    ]
    if not changed:
        return []
    return [
        f"The take was made with other versions ({'; '.join(changed)}), "
        "so the frames may differ in their last bits."
    ]


def _check_device(device: str) -> None:
    kind = device.partition(":")[0]
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if kind not in present:
        raise EngineError(f"{device!r} is no device the engine knows. Use cpu, cuda or mps.")
    if not present[kind]:
        raise EngineError(
            f"The device {device!r} is not available on this machine. Choose cpu, or install a "
            "torch build that supports the graphics card."
        )
    here = [f"{kind}:{k}" for k in range(torch.cuda.device_count() if kind == "cuda" else 1)]
    if device not in (kind, *here):
        raise EngineError(
            f"There is no device {device!r} on this machine, only {', '.join(here)}. Choose one of "
            "those."
        )


@contextmanager
def applied(plan: Plan) -> Iterator[None]:
    """Make torch follow ``plan``, deterministically, and put its settings back afterwards."""
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    benchmark = torch.backends.cudnn.benchmark
    # Fills every new tensor, to find programs that read what nobody wrote: a tool for debugging.
    debugging: Any = torch.utils.deterministic
    filled = debugging.fill_uninitialized_memory
    torch.set_num_threads(plan.threads)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    debugging.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        torch.backends.cudnn.benchmark = benchmark
        debugging.fill_uninitialized_memory = filled


def laid_out(model: nn.Module, plan: Plan) -> None:
    """Lay out the weights of ``model`` in memory as ``plan`` says."""
    if plan.channels_last:
        move: Any = model.to  # one of its overloads, which the type checker does not know
        move(memory_format=torch.channels_last)


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what was asked of it, so that clocks and progress are true."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def release_memory(device: torch.device) -> None:
    """Hand back to the system what torch keeps in reserve for a graphics card, on it and pinned."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        # Not every torch that will do has it under its public name.
        empty_pinned: Any = getattr(torch.accelerator, "empty_host_cache", None)
        (empty_pinned or torch._C._host_emptyCache)()
    elif device.type == "mps":
        torch.mps.empty_cache()


def free_memory(device: torch.device) -> int:
    """Bytes that can still be taken on ``device``; 0 where that cannot be known."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return max(0, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return min(psutil.virtual_memory().available, group_memory())


def group_memory(
    groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> int:
    """Bytes that the control groups around this process (a container, a batch job) leave it; more
    than any machine has where none sets a limit.

    ``groups`` is where Linux shows them, ``own`` the file that names the process's. Source: Linux,
    Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
    """
    left = sys.maxsize
    for line in own.read_text().splitlines() if own.is_file() else []:
        _, controller, path = line.split(":", 2)
        if controller not in _GROUP_FILES:
            continue
        limit, used, files = _GROUP_FILES[controller]
        inner = path.strip("/").split("/")
        for depth in range(len(inner) + 1):
            folder = groups.joinpath(controller, *inner[:depth])
            try:
                stat = dict(
                    entry.split() for entry in (folder / "memory.stat").read_text().splitlines()
                )
                taken = int((folder / used).read_text()) - int(stat[files])
                left = min(left, max(0, int((folder / limit).read_text()) - taken))
            except (OSError, ValueError, KeyError):
                continue  # it has no limit, or a container does not show it
    return left


def memory_sentence(plan: Plan, width: int, height: int, frames: int, said: str) -> str:
    """What to lower where the memory is too small even for the smallest plan; ``said`` is the text
    of the error, which is told where it may mean something else.
    """
    sentence = (
        f"The {'computer' if plan.device == 'cpu' else 'graphics card'} ran out of memory at "
        f"{width}x{height} with {frames} frames. Lower the size or the number of frames, or "
        "close other programs that use this memory."
    )
    if _NO_WAY in said.lower():
        sentence += (
            " Where less does not help, the card cannot compute this model: update its driver, or "
            f"use the device cpu ({said})."
        )
    return sentence


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory ran out, on a graphics card or in the computer."""
    # torch's own class is for what its allocator on CUDA refuses; of the rest the text alone tells.
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError)
        and any(sign in str(error).lower() for sign in _OUT_OF_MEMORY)
    )
