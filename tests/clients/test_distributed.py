"""Two processes: DistributedDataParallel, sharded state and parameters, and torch's distributed checkpoints."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    get_state_dict,
    set_optimizer_state_dict,
    set_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from fallline import optim

from .training import MAKERS, STEPS, assert_equal, data, loss_of, net

every = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
WORLD = 2


def train(model, optimizer, steps, share=slice(None)):
    for t in steps:
        optimizer.zero_grad()
        x, y = data(seed=t)
        loss_of(model, (x[share], y[share])).backward()
        optimizer.step()


# --- in two processes -------------------------------------------------------------------------------------


def in_two_processes(work, folder: Path) -> None:
    """Run ``work(rank, folder)`` in two processes that know each other by gloo."""
    torch.multiprocessing.spawn(_joined, (work, str(folder)), nprocs=WORLD)


def _joined(rank, work, folder):
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=WORLD)
    try:
        work(rank, Path(folder))
    finally:
        dist.destroy_process_group()


def every_optimizer_in_ddp(rank, folder):
    for make in MAKERS.values():
        share = slice(rank, None, WORLD)
        model = net(seed=rank)  # DDP takes the weights of the first process
        wrapped = DistributedDataParallel(model)
        optimizer = make(model)
        train(wrapped, optimizer, range(4), share)
        path = folder / "state.pt"
        if rank == 0:
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, path)
        dist.barrier()
        saved = torch.load(path, weights_only=True)
        twin = net(seed=5)
        twin.load_state_dict(saved["model"])
        again, other = make(twin), DistributedDataParallel(twin)
        again.load_state_dict(saved["optimizer"])
        train(wrapped, optimizer, range(4, STEPS), share)
        train(other, again, range(4, STEPS), share)
        assert_equal(model, twin)
        alone = net(seed=0)
        train(alone, make(alone), range(STEPS))
        for name, p in model.state_dict().items():
            gathered = [torch.empty_like(p) for _ in range(WORLD)]
            dist.all_gather(gathered, p)
            assert torch.equal(gathered[0], gathered[1]), "the processes are not equal"
            torch.testing.assert_close(p, alone.state_dict()[name], rtol=1e-3, atol=1e-5)


def sharded_state(rank, folder):
    from torch.distributed.optim import ZeroRedundancyOptimizer  # which warns of torch's own past

    model, plain = net(), net()
    wrapped = DistributedDataParallel(model)
    optimizer = ZeroRedundancyOptimizer(model.parameters(), optim.AdamW, lr=0.01)
    other = optim.AdamW(plain.parameters(), lr=0.01)
    train(wrapped, optimizer, range(4))
    train(plain, other, range(4))
    for to in range(WORLD):
        optimizer.consolidate_state_dict(to=to)
        if rank == to:
            saved = copy.deepcopy(optimizer.state_dict())
    twin = copy.deepcopy(model)
    again = ZeroRedundancyOptimizer(twin.parameters(), optim.AdamW, lr=0.5)
    again.load_state_dict(saved)
    train(wrapped, optimizer, range(4, STEPS))
    train(DistributedDataParallel(twin), again, range(4, STEPS))
    train(plain, other, range(4, STEPS))
    assert optimizer.optim.steps == again.optim.steps == STEPS
    assert_equal(model, twin)
    for p, q in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)


def fully_sharded(rank, folder):
    mesh = init_device_mesh("cpu", (WORLD,))
    for name, make in MAKERS.items():
        model, plain = fully_shard(net(), mesh=mesh), net()
        optimizer = make(model)
        train(model, optimizer, range(4))
        place = folder / name
        weights, state = get_state_dict(model, optimizer)
        dcp.save({"model": weights, "optimizer": state}, checkpoint_id=place)
        twin = fully_shard(net(seed=7), mesh=mesh)
        again = make(twin)
        weights, state = get_state_dict(twin, again)
        dcp.load(asked := {"model": weights, "optimizer": state}, checkpoint_id=place)
        set_state_dict(twin, again, model_state_dict=asked["model"], optim_state_dict=asked["optimizer"])
        train(model, optimizer, range(4, STEPS))
        train(twin, again, range(4, STEPS))
        train(plain, make(plain), range(STEPS))
        for p, q, r in zip(model.parameters(), twin.parameters(), plain.parameters(), strict=True):
            assert torch.equal(p.full_tensor(), q.full_tensor()), name
            torch.testing.assert_close(p.full_tensor(), r, rtol=1e-4, atol=1e-6)


def all_of_it(rank, folder):
    """One start of two processes for all, as the start takes longer than the rest."""
    fully_sharded(rank, folder)
    every_optimizer_in_ddp(rank, folder)
    sharded_state(rank, folder)


def test_in_two_processes(tmp_path):
    in_two_processes(all_of_it, tmp_path)


# --- checkpoints ------------------------------------------------------------------------------------------


@every
@pytest.mark.parametrize("options", [{}, {"full_state_dict": True}, {"flatten_optimizer_state_dict": True}])
def test_what_torch_calls_a_distributed_state_dict_goes_on_bit_equal(make, options):
    asked = StateDictOptions(**options)
    model = net()
    optimizer = make(model)
    train(model, optimizer, range(4))
    saved = copy.deepcopy(get_optimizer_state_dict(model, optimizer, options=asked))
    twin = copy.deepcopy(model)
    twin.zero_grad()
    again = make(twin)
    set_optimizer_state_dict(twin, again, saved, options=asked)
    assert_equal(twin, model)
    assert again.steps == 4
    train(model, optimizer, range(4, STEPS))
    train(twin, again, range(4, STEPS))
    assert_equal(model, twin)


def test_a_distributed_state_dict_fits_names_in_another_order():
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3), torch.nn.Linear(3, 2))
    optimizer = optim.Adam(model.named_parameters(), lr=0.1)
    train(model, optimizer, range(4))
    saved = copy.deepcopy(get_optimizer_state_dict(model, optimizer))
    twin = copy.deepcopy(model)
    twin.zero_grad()
    again = optim.Adam(reversed(list(twin.named_parameters())))
    set_optimizer_state_dict(twin, again, saved)
    train(model, optimizer, range(4, STEPS))
    train(twin, again, range(4, STEPS))
    assert_equal(model, twin)


@every
def test_asking_for_the_state_before_training_leaves_no_trace(make):
    model, twin = net(), net()
    optimizer = make(model)
    get_optimizer_state_dict(model, optimizer)
    assert_equal(model, twin)
    assert optimizer.steps == 0
    train(model, optimizer, range(STEPS))
    train(twin, make(twin), range(STEPS))
    assert_equal(model, twin)


@every
@pytest.mark.filterwarnings("ignore::UserWarning:torch")
@pytest.mark.filterwarnings("ignore::FutureWarning:torch")
def test_a_distributed_checkpoint_is_read_in_place_and_goes_on_bit_equal(make, tmp_path):
    model = net()
    optimizer = make(model)
    train(model, optimizer, range(4))
    weights, state = get_state_dict(model, optimizer)
    dcp.save({"model": weights, "optimizer": state}, checkpoint_id=tmp_path, no_dist=True)
    twin = net(seed=7)
    again = make(twin)
    weights, state = get_state_dict(twin, again)
    dcp.load(asked := {"model": weights, "optimizer": state}, checkpoint_id=tmp_path, no_dist=True)
    set_state_dict(twin, again, model_state_dict=asked["model"], optim_state_dict=asked["optimizer"])
    assert_equal(model, twin)
    train(model, optimizer, range(4, STEPS))
    train(twin, again, range(4, STEPS))
    assert_equal(model, twin)
