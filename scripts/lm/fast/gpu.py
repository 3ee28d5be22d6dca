"""What a GPU runs faster, each checked against the plain version on the machine itself before it is used."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lm.arch.hgrnbit import Block
from lm.arch.scan import fastest, scan, scan_loop

NEAR = 1e-4  # largest difference of float32 sums in another order, relative to the largest value


def _difference(found: list[Tensor], wanted: list[Tensor]) -> float:
    """Largest difference, relative to the largest value; infinite when something is not a number."""
    worst = 0.0
    for a, b in zip(found, wanted):
        apart = float((a.float() - b.float()).abs().max() / b.float().abs().max().clamp(min=1e-30))
        worst = max(worst, apart) if apart == apart else torch.inf
    return worst


def check_scan(device: str, rows: int = 4, time: int = 512, width: int = 256) -> str:
    """Runs the recurrence as `scan` chooses on a device and as the plain loop; RuntimeError when they differ."""
    generator = torch.Generator().manual_seed(0)
    k = torch.rand(rows, time, width, generator=generator).to(device)
    u, weight = (torch.randn(rows, time, width, generator=generator).to(device) for _ in range(2))
    results = []
    for run in (scan, scan_loop):
        inputs = [x.clone().requires_grad_() for x in (k, u, u[:, 0])]
        states = run(*inputs)
        (states * weight).sum().backward()
        results.append([states.detach(), *(x.grad for x in inputs)])
    chosen, apart = fastest(time, torch.device(device)), _difference(*results)
    name = chosen.__name__ if chosen else "scan_loop"
    if apart > NEAR:
        raise RuntimeError(
            f"{name} differs from the plain loop by {apart:.1e} on this machine, at most {NEAR} is allowed"
        )
    return f"{name}, within {apart:.0e} of the plain loop, forward and backward"


def compiled_blocks(model: nn.Module, device: str) -> str:
    """Lets `model` call its blocks through torch.compile if that gives what the plain ones give; says what it did.

    For flat models: in a hierarchical one the number of rows changes from step to step, and each would be compiled anew.
    """
    if model.config.architecture != "hgrnbit":
        return "plain blocks: those of a hierarchical model have another length in every step"
    if not hasattr(torch, "compile"):
        return f"plain blocks: PyTorch {torch.__version__} has no torch.compile"
    plain, config = model.block_forward, model.config
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(2, 64, config.hidden, generator=generator).to(device)
    state, tail = model.initial_states(2)[0]
    results = []
    try:
        fast = torch.compile(Block.forward)
        for run in (fast, Block.forward):
            model.zero_grad()
            x = h.clone().requires_grad_()
            out, *_ = run(model.layers[0], x, model.keep_table()[0], state, tail)
            out.square().sum().backward()
            results.append([out.detach(), x.grad, *(p.grad.clone() for p in model.layers[0].parameters())])
        model.zero_grad()
    except Exception as fault:  # of the compiler, of the driver, of what is missing: all mean the same
        model.block_forward = plain
        return f"plain blocks: torch.compile failed: {str(fault).splitlines()[0]}"
    out, wanted = results[0][:1], results[1][:1]
    apart = _difference(out, wanted)
    if apart > 0.02:  # one activation in many rounds to the next int8 code
        return f"plain blocks: compiled ones differ by {apart:.1e}"
    model.block_forward = fast
    return f"compiled blocks, within {apart:.0e} of the plain ones"


def largest(measure: Callable[[int], float | None], rows: int, share: float = 0.85) -> int:
    """The most rows, `rows` doubled as often as can be, of which measure(rows), the share of memory used, stays below `share`.

    measure gives None when they do not fit at all; ValueError when not even `rows` do.
    """
    found = 0
    while (used := measure(rows)) is not None and used <= share:
        found, rows = rows, 2 * rows
        if 2 * used > share * 1.5:  # twice as many will not do
            break
    if not found:
        raise ValueError(
            f"{rows} rows do not fit into the memory of the GPU: raise train.accumulate or lower train.length"
        )
    return found
