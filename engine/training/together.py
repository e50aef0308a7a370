"""Several processes that train one model: each takes its own batches, and all take the same step.

Data parallelism over torch.distributed, of one process for each graphics card, or for each core of
a processor where small models leave most of several threads idle.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as group
import torch.multiprocessing as processes
from torch import nn
from torch.multiprocessing import ProcessExitedException


def _runs() -> bool:
    return group.is_available() and group.is_initialized()


def number() -> int:
    """Which process this is, from 0 on."""
    return group.get_rank() if _runs() else 0


def count() -> int:
    """How many processes train; 1 for one by itself."""
    return group.get_world_size() if _runs() else 1


def leads() -> bool:
    """Whether this process writes files and reports; the others only take steps."""
    return number() == 0


def wait() -> None:
    """Until all are here: what the first has written can then be read by all."""
    if _runs():
        group.barrier()


def agree(value: float) -> float:
    """The first process's value, in all of them (a clock that all of them go by)."""
    if not _runs():
        return value
    shared = torch.tensor([value], dtype=torch.float64, device=_device())
    group.broadcast(shared, 0)
    return shared.item()


@torch.no_grad()
def start_alike(modules: Sequence[nn.Module]) -> None:
    """Give all processes the first one's weights."""
    if _runs():
        for module in modules:
            for parameter in module.parameters():
                group.broadcast(parameter.data, 0)


@torch.no_grad()
def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Give all processes the mean of their gradients; what took no part in one counts as zero."""
    if not _runs():
        return
    grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    flat = torch.cat([grad.flatten() for grad in grads])
    group.all_reduce(flat)
    flat /= count()
    parts = flat.split([grad.numel() for grad in grads])
    for parameter, mean in zip(parameters, parts, strict=True):
        parameter.grad = mean.view_as(parameter)


def _device() -> torch.device:
    return torch.device("cuda" if group.get_backend() == "nccl" else "cpu")


@contextmanager
def on_stop_signals(stop: Callable[[], object]) -> Iterator[None]:
    """Call ``stop`` when Ctrl-C or SIGTERM comes; a second one breaks off at once."""

    def heed(number: int, frame: object) -> None:
        signal.signal(number, signal.default_int_handler)
        stop()

    before = {number: signal.signal(number, heed) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def spawn(many: int, cuda: bool, work: Callable[..., int], *arguments: object) -> int:
    """Run ``work(*arguments)`` in ``many`` processes that train together; the largest exit status.

    With ``cuda`` each has a graphics card of its own, otherwise one thread of the processor. Ctrl-C
    and SIGTERM go to all of them.
    """
    with tempfile.TemporaryDirectory() as meeting:
        place = Path(meeting)
        # The processes meet over a file, and talk over the loopback interface only.
        if loopback := {"linux": "lo", "darwin": "lo0"}.get(sys.platform):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
        context = processes.spawn(
            _member, (many, cuda, place, work, arguments), nprocs=many, join=False
        )
        told = threading.Event()

        def pass_on() -> None:
            told.set()
            # The first one last: when it stops, all do, and one that has left the loop would die
            # of a signal that comes late.
            for process in reversed(context.processes):
                process.terminate()

        try:
            with on_stop_signals(pass_on):
                while not context.join():
                    pass
        except ProcessExitedException:
            if not told.is_set():
                raise
            return 130
        return max(int((place / f"status{n}").read_text("utf-8")) for n in range(many))


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _member(
    rank: int,
    many: int,
    cuda: bool,
    place: Path,
    work: Callable[..., int],
    arguments: tuple[object, ...],
) -> None:
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    if cuda:
        torch.cuda.set_device(rank)
    else:
        torch.set_num_threads(1)
    group.init_process_group(
        "nccl" if cuda else "gloo",
        init_method=(place / "meeting").as_uri(),
        rank=rank,
        world_size=many,
    )
    try:
        (place / f"status{rank}").write_text(str(work(*arguments)), encoding="utf-8")
    except KeyboardInterrupt:
        os._exit(130)  # not by way of the group, which waits for those that are gone
    except Exception:
        # The others fail too, for want of this one, and whose error is raised is chance.
        traceback.print_exc()
        raise
    # Not after an error, nor when the parent was killed: it would wait for those that are gone.
    group.destroy_process_group()
