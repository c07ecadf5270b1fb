"""Train a small language model on the bytes of a text, on as many ranks as there are, and survive the loss of any.

    torchrun train_text.py                                     # DDP, forty steps
    torchrun train_text.py --shard --steps 200 --save-every 20 # FSDP2

What a program has to do so that an interruption costs little and changes nothing:

- the data of a step depend on (step, rank) alone, so a step done again is the same step;
- everything that changes is in the checkpoint: model, optimizer, step;
- checkpoints are written while training goes on, by a process group of their own, one at a time;
- all ranks agree before they stop.
"""

import argparse
import json
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from skerry.training import user

CONTEXT = 64


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(width, 4, batch_first=True)
        self.think = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], device=x.device)
        y = self.norms[0](x)
        x = x + self.attend(y, y, y, attn_mask=mask, is_causal=True, need_weights=False)[0]
        return x + self.think(self.norms[1](x))


class Model(nn.Module):
    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.bytes = nn.Embedding(256, width)
        self.places = nn.Embedding(CONTEXT, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(layers))
        self.out = nn.Linear(width, 256)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bytes(x) + self.places.weight[: x.shape[1]]
        for block in self.blocks:
            y = block(y)
        return self.out(y.flatten(0, 1))  # a row for each byte that is to be guessed


def batch(text: torch.Tensor, step: int, rank: int, size: int) -> torch.Tensor:
    """The same for the same (step, rank), whenever and wherever it is asked for."""
    order = torch.Generator().manual_seed(step * 100_003 + rank)
    starts = torch.randint(len(text) - CONTEXT - 1, (size,), generator=order)
    return torch.stack([text[start : start + CONTEXT + 1] for start in starts.tolist()])


def main() -> None:
    args = arguments()
    gpu = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if gpu else torch.device("cpu")
    dist.init_process_group("nccl" if gpu else "gloo")
    saving = dist.new_group(backend="gloo")  # checkpoints must not meet training on the same group
    rank, world = dist.get_rank(), dist.get_world_size()

    torch.manual_seed(0)  # the same weights on every rank
    model: nn.Module = Model(args.width, args.layers).to(device)
    if args.shard:
        mesh = init_device_mesh(device.type, (world,))
        for block in model.blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
    else:
        model = DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    folder = user.checkpoint_folder()
    done = load(model, optimizer, user.latest_checkpoint())

    text = torch.frombuffer(bytearray(args.text.read_bytes()), dtype=torch.uint8).long()
    pending = None
    for step in range(done + 1, args.steps + 1):
        began = time.perf_counter()
        bytes_ = batch(text, step, rank, args.batch).to(device)
        loss = nn.functional.cross_entropy(model(bytes_[:, :-1]), bytes_[:, 1:].flatten())
        busy = time.perf_counter() - began  # what follows waits for the other ranks too
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

        shared = torch.stack([loss.detach(), torch.tensor(float(user.should_stop()), device=device)])
        dist.all_reduce(shared)
        mean, stop = shared[0].item() / world, shared[1].item() > 0
        if rank == 0:
            print(json.dumps({"step": step, "loss": round(mean, 6)}), flush=True)
        user.step(step, busy_seconds=busy)
        if folder and (stop or step % args.save_every == 0 or step == args.steps):
            pending = save(folder / f"step_{step}", model, optimizer, step, saving, pending)
        if stop:
            break
    if pending:
        pending.result()  # before exit: only now it is complete
    dist.destroy_process_group()


def save(path: Path, model, optimizer, step, group, pending):
    began = time.perf_counter()
    if pending:
        pending.result()  # one at a time; an error of the last one shows here
    weights, moments = get_state_dict(model, optimizer)
    state = {"model": weights, "optimizer": moments, "step": torch.tensor(step)}
    pending = dcp.async_save(state, checkpoint_id=path, process_group=group)
    user.saved(time.perf_counter() - began)
    return pending


def load(model, optimizer, path: Path | None) -> int:
    """The step it stands at."""
    if path is None:
        return 0
    weights, moments = get_state_dict(model, optimizer)
    state = {"model": weights, "optimizer": moments, "step": torch.tensor(0)}
    dcp.load(state, checkpoint_id=path)
    set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
    return int(state["step"])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, default=Path(__file__).with_name("sonnets.txt"))
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--save-every", type=int, default=10)
    parser.add_argument("--batch", type=int, default=8, help="sequences a rank and step")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--shard", action="store_true", help="FSDP2 instead of DDP")
    return parser.parse_args()


if __name__ == "__main__":
    main()
