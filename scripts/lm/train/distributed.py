"""One run over several processes, started by `torchrun`: each trains on its rows of the same batch.

    torchrun --nproc_per_node 2 scripts/train.py CONFIG --out FOLDER

(PyTorch 1.13 under Python 3.11 has a fault here: its torchrun needs `--redirects 1 --tee 1`.)

Source: DistributedDataParallel (arXiv 2006.15704), over gloo on CPUs and nccl on GPUs. Losses are means over equally many
bytes, so the mean of the processes' gradients is the gradient of the whole batch.
"""

import contextlib
import os
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from lm.train import states


def choose_device(wanted: str) -> str:
    """The device of this process: "cpu" or "cuda:N"; ValueError when there is no GPU and one is asked for."""
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return "cpu"
    if not torch.cuda.is_available():
        raise ValueError('train.device is "cuda", but PyTorch finds no GPU here: set it to "auto" or "cpu"')
    return f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"


@dataclass(frozen=True)
class World:
    """The processes of a run. One that was started alone is a world of size 1 and communicates with nobody."""

    rank: int
    size: int
    device: str

    @staticmethod
    def join(wanted: str) -> "World":
        """Meets the other processes, as the variables of torchrun say."""
        device, size = choose_device(wanted), int(os.environ.get("WORLD_SIZE", 1))
        if device.startswith("cuda"):
            torch.cuda.set_device(device)
        if size > 1 and not distributed.is_initialized():
            distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
        return World(int(os.environ.get("RANK", 0)) if size > 1 else 0, size, device)

    def leave(self, done: bool) -> None:
        """Called last. `done`: all processes came to their end, so each waits here for the others' last messages."""
        if self.size > 1:
            if done:
                distributed.barrier()
            distributed.destroy_process_group()

    @property
    def writes(self) -> bool:
        """Whether this is the process that writes files and messages."""
        return self.rank == 0

    def say(self, message: str) -> None:
        if self.writes:
            print(message, flush=True)

    def share(self, batch: int) -> tuple[int, int]:
        """(first row, number of rows) of a batch for this process."""
        if batch % self.size:
            raise ValueError(f"train.batch must be a multiple of the {self.size} processes, got {batch}")
        count = batch // self.size
        return self.rank * count, count

    def wrap(self, module: nn.Module, skips_parameters: bool) -> nn.Module:
        """A module whose backward pass leaves the mean gradient of all processes."""
        if self.size == 1:
            return module
        return nn.parallel.DistributedDataParallel(module, find_unused_parameters=skips_parameters)

    def communicates(self, module: nn.Module, now: bool):
        """A context in which the backward pass communicates only if `now`: the last of several parts."""
        return contextlib.nullcontext() if self.size == 1 or now else module.no_sync()

    def mean(self, value: Tensor) -> Tensor:
        if self.size > 1:
            distributed.all_reduce(value)
            value = value / self.size
        return value

    def gathered(self, own):
        """The states of the whole batch, on the CPU, from those of each process's rows. All processes have to call it."""
        own = states.mapped(own, lambda tensor: tensor.cpu())
        if self.size == 1:
            return own
        parts = [None] * self.size
        distributed.all_gather_object(parts, own)
        return states.joined(parts)
