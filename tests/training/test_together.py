"""Processes that train one model together, and the optimizer that its matrices have."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from animatic.engine.training import together  # noqa: E402
from animatic.engine.training.loop import Loop, LoopConfig, Stopped  # noqa: E402
from animatic.engine.training.muon import orthogonalised  # noqa: E402
from torch import multiprocessing as processes  # noqa: E402
from torch import nn  # noqa: E402
from torch.multiprocessing import ProcessRaisedException  # noqa: E402


def _half_of_the_batch(folder, steps):
    """Each process fits its own half of a batch; what comes out must fit the whole."""
    torch.manual_seed(together.number())  # unlike starts, which the loop makes alike
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
    inputs = torch.linspace(-1, 1, 24).reshape(8, 3)[together.number() :: together.count()]
    config = LoopConfig(5, 0.05, 4, warmup=1, steps=steps, average=0.5)
    loop = Loop(folder, "fit", {"model": model}, config)
    loop.run(lambda step: (model(inputs) - inputs.sum(dim=1, keepdim=True)).square().mean())
    torch.save(model.state_dict(), folder / f"process{together.number()}.pt")
    return together.number()


def test_processes_take_the_same_steps_as_one_with_both_batches(tmp_path):
    (tmp_path / "two").mkdir()
    (tmp_path / "one").mkdir()
    assert together.spawn(2, False, _half_of_the_batch, tmp_path / "two", 5) == 1
    _half_of_the_batch(tmp_path / "one", 5)
    first, second = (torch.load(tmp_path / "two" / f"process{n}.pt") for n in range(2))
    alone = torch.load(tmp_path / "one" / "process0.pt")
    for name, weights in first.items():
        assert torch.equal(weights, second[name])
        torch.testing.assert_close(weights, alone[name])
    # The leader's state is what both go on from.
    state = torch.load(tmp_path / "two" / "fit.pt")
    assert state["step"] == 5
    assert torch.equal(state["modules"]["model"]["0.weight"], first["0.weight"])


def _fails_in_one(folder):
    if together.number() == 1:
        raise ValueError("lost")
    together.wait()
    return 0


def test_a_process_that_fails_ends_the_others_and_says_why(tmp_path, capfd):
    with pytest.raises(ProcessRaisedException):
        together.spawn(2, False, _fails_in_one, tmp_path)
    assert "ValueError: lost" in capfd.readouterr().err


def _waits_for_ever(folder):
    (folder / f"pid{together.number()}").write_text(str(os.getpid()))
    while True:
        together.agree(0.0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux for its processes")
def test_no_process_outlives_the_one_that_started_it(tmp_path):
    parent = processes.get_context("spawn").Process(
        target=together.spawn, args=(2, False, _waits_for_ever, tmp_path), daemon=False
    )
    parent.start()
    _until(lambda: sum(bool(path.read_text()) for path in tmp_path.glob("pid*")) == 2)
    pids = [int(path.read_text()) for path in tmp_path.glob("pid*")]
    parent.kill()
    _until(lambda: not any(_runs(pid) for pid in pids))


def _runs(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"  # ended, and nobody has asked how


def _until(holds):
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


def _is_stopped(folder, number, process):
    """Told to stop in its third step, by ``process``, of its thousands."""
    model = nn.Linear(3, 1)

    def loss_of(step):
        if step == 2 and together.leads():
            os.kill(process or os.getpid(), number)
        return model(torch.ones(2, 3)).square().mean()

    loop = Loop(folder, "fit", {"model": model}, LoopConfig(5, 0.05, 4, steps=100_000))
    try:
        loop.run(loss_of)
    except Stopped:
        (folder / f"stopped{together.number()}").write_text(str(loop.step))
        return 130
    return 0


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")
def test_a_stage_that_is_told_to_stop_saves_first(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    assert _is_stopped(tmp_path / "one", signal.SIGINT, None) == 130
    assert torch.load(tmp_path / "one" / "fit.pt")["step"] == 3
    assert signal.getsignal(signal.SIGINT) is before
    # Whoever stops the command stops its processes, after the same step.
    stop = (tmp_path / "two", signal.SIGTERM, os.getpid())
    assert together.spawn(2, False, _is_stopped, *stop) == 130
    steps = [int((tmp_path / "two" / f"stopped{n}").read_text()) for n in range(2)]
    assert steps == [torch.load(tmp_path / "two" / "fit.pt")["step"]] * 2


def test_muon_makes_all_directions_alike():
    generator = torch.Generator().manual_seed(0)
    for shape in ((4, 30, 12), (4, 12, 30)):
        # Singular values over two orders of magnitude before, near one after.
        left, _, right = torch.linalg.svd(torch.randn(shape, generator=generator), False)
        wide = left * torch.logspace(0, -2, 12) @ right
        values = torch.linalg.svdvals(orthogonalised(wide).float())
        assert values.min() > 0.5
        assert values.max() < 1.3


def test_a_loop_with_muon_learns_and_goes_on_where_it_stopped(tmp_path):
    def train(steps):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(8, 6), nn.Flatten(), nn.Linear(24, 6), nn.Linear(6, 1))
        words = torch.arange(40).reshape(10, 4) % 7
        goal = words.float().mean(dim=1, keepdim=True)
        config = LoopConfig(5, 0.02, 4, warmup=1, steps=steps, last_rate=1.0, optimizer="muon")
        loop = Loop(tmp_path, "fit", {"model": model}, config)
        return loop, loop.run(lambda step: (model(words) - goal).square().mean())

    first, began = train(2)
    kinds = [type(optimizer).__name__ for optimizer in first.optimizers]
    assert kinds == ["Muon", "AdamW"]
    second, ended = train(60)
    assert second.step == 60
    assert ended < 0.5 * began
