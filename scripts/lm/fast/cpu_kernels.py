"""Fused CPU versions of the HGRN-bit block, RMSNorm, the recurrence, the loss and Muon's steps (folder cpu), compiled on first use with the machine's own C++ compiler.

`accelerate(model)` swaps it in when the model and the machine allow, and says in one line what it did.
"""

import ctypes
import hashlib
import os
import subprocess
import warnings
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lm.arch.hgrnbit import Block, Config, Mix
from lm.arch.scan import scan_with
from lm.arch.ternary import BitLinear, RMSNorm, straight_through, weight_codes
from lm.text import files

SOURCES = sorted(Path(__file__).with_name("cpu").iterdir())
FLAGS = [
    "-O3",
    "-march=native",
    "-mprefer-vector-width=512",
    "-ffast-math",
    "-fopenmp",
    "-std=c++20",
    "-Wno-psabi",
    "-shared",
    "-fPIC",
]
FLOATS, POINTERS = ctypes.c_float * 6, ctypes.c_void_p * 6


class Parameters(ctypes.Structure):
    _fields_ = (
        [(name, ctypes.c_int32) for name in "THEIK"]
        + [("eps", ctypes.c_float)]
        + [(name, ctypes.c_void_p) for name in ("attn_norm", "conv", "keep", "gate_norm", "ffn_norm")]
        + [("in_norm", POINTERS), ("codes", POINTERS), ("scale", FLOATS)]
    )


class Gradients(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("attn_norm", "conv", "keep", "gate_norm", "ffn_norm")] + [
        ("in_norm", POINTERS),
        ("matrix", POINTERS),
    ]


def load_library() -> ctypes.CDLL:
    """Compile (once per source and machine) and load; OSError or CalledProcessError when there is no compiler."""
    cpu = (
        next((line for line in open("/proc/cpuinfo", encoding="utf-8") if line.startswith("flags")), "")
        if os.path.exists("/proc/cpuinfo")
        else ""
    )
    key = hashlib.sha256(
        ("".join(x.read_text(encoding="utf-8") for x in SOURCES) + " ".join(FLAGS) + cpu).encode()
    ).hexdigest()[:16]
    cache = files.cache()
    target = cache / f"cpu_kernels-{key}.so"
    if not target.exists():
        cache.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(f".{os.getpid()}")
        subprocess.run(
            [os.environ.get("CXX", "g++"), *FLAGS, *(str(x) for x in SOURCES if x.suffix == ".cc"), "-o", str(partial)],
            check=True,
        )
        partial.rename(target)
    library = ctypes.CDLL(str(target))
    # It comes with -ffast-math, which lets the processor take subnormal numbers for zero; NumPy would say so in a warning.
    warnings.filterwarnings("ignore", message="The value of the smallest subnormal")
    library.block_saved_bytes.restype = ctypes.c_int64
    return library


def keep_memory() -> None:
    """Lets the C library keep what is freed, for the next step: else large tensors come from the system, page by page, and go back."""
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):  # glibc's
        never_trim, never_map = -1, -4  # M_TRIM_THRESHOLD, M_MMAP_MAX
        mallopt(never_trim, 2**31 - 1)
        mallopt(never_map, 0)


def tensors_of(block: Block) -> list[Tensor]:
    """The block's parameters in the order of `FusedBlock.forward`: four vectors, six norms, six matrices."""
    mix, mlp = block.attn, block.mlp
    linears = [mix.i_proj, mix.f_proj, mix.g_proj, mix.o_proj, mlp.gate_proj, mlp.down_proj]
    conv = mix.conv.weight if mix.conv is not None else mix.g_norm.weight.new_zeros(0)
    vectors = [block.attn_norm.weight, conv, mix.g_norm.weight, block.mlp_norm.weight]
    return vectors + [x.norm.weight for x in linears] + [x.weight for x in linears]


class FusedBlock(torch.autograd.Function):
    library: ctypes.CDLL
    calls = 0
    spare: list[Tensor] = []  # forward's notes for backward are large: reused, not given back to the system

    @staticmethod
    def forward(
        ctx, h: Tensor, keep: Tensor, state: Tensor, tail: Tensor, lengths, learning: bool, c: Config, *weights
    ):
        batch, time, hidden = h.shape
        vectors, norms, matrices = weights[:4], weights[4:10], weights[10:]
        conv = vectors[1].reshape(hidden, -1).t().contiguous()  # [K, D]
        codes = [weight_codes(w) for w in matrices]
        held = [h.contiguous(), keep.contiguous(), conv, *codes]  # alive while C++ reads them
        p = Parameters(T=time, H=hidden, E=c.recurrent, I=c.intermediate, K=c.conv_kernel, eps=c.eps)
        p.attn_norm, p.conv, p.keep = vectors[0].data_ptr(), conv.data_ptr(), held[1].data_ptr()
        p.gate_norm, p.ffn_norm = vectors[2].data_ptr(), vectors[3].data_ptr()
        p.in_norm = POINTERS(*(w.data_ptr() for w in norms))
        p.codes = POINTERS(*(c.data_ptr() for c, _ in codes))
        p.scale = FLOATS(*(s for _, s in codes))
        size = batch * FusedBlock.library.block_saved_bytes(ctypes.byref(p))
        saved = take_spare(FusedBlock.spare, size)
        FusedBlock.library.prefer_huge_pages(ctypes.c_void_p(saved.data_ptr()), ctypes.c_int64(saved.numel()))
        out, state, tail = torch.empty_like(held[0]), state.contiguous().clone(), tail.contiguous().clone()
        counts = None if lengths is None else (ctypes.c_int32 * batch)(*checked(lengths, batch, time))
        FusedBlock.library.block_forward(ctypes.byref(p), batch, counts, *pointers(held[0], out, state, tail, saved))
        if not learning:
            FusedBlock.spare.append(saved)
        ctx.parameters, ctx.counts, ctx.held, ctx.saved = p, counts, held, saved
        ctx.save_for_backward(held[0], *weights)
        ctx.mark_non_differentiable(state, tail)
        return out, state, tail

    @staticmethod
    def backward(ctx, g_out: Tensor, _state, _tail):
        h, *weights = ctx.saved_tensors
        g_out = g_out.contiguous()
        g_in = torch.empty_like(g_out)
        vectors = [torch.zeros_like(w) for w in (weights[0], ctx.held[2], ctx.held[1], weights[2], weights[3])]
        norms = [torch.zeros_like(w) for w in weights[4:10]]
        matrices = [torch.zeros(w.shape) for w in weights[10:]]
        grads = Gradients(*(v.data_ptr() for v in vectors))
        grads.in_norm = POINTERS(*(w.data_ptr() for w in norms))
        grads.matrix = POINTERS(*(w.data_ptr() for w in matrices))
        FusedBlock.calls += 1
        FusedBlock.library.block_backward(
            ctypes.byref(ctx.parameters),
            g_out.shape[0],
            ctx.counts,
            *pointers(h, g_out, g_in, ctx.saved),
            ctypes.byref(grads),
            ctypes.c_uint32(FusedBlock.calls),
        )
        FusedBlock.spare.append(ctx.saved)
        vectors[1] = vectors[1].t().reshape(weights[1].shape)
        keep = vectors.pop(2)
        return (g_in, keep, None, None, None, None, None, *vectors, *norms, *matrices)


def pointers(*tensors: Tensor):
    return (ctypes.c_void_p(x.data_ptr()) for x in tensors)


class FusedNorm(torch.autograd.Function):
    """RMSNorm of x [..., n], float32; if `quantized`, rounded as for a ternary layer."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, eps: float, quantized: bool) -> Tensor:
        x = x.contiguous()
        y, inverse_rms = torch.empty_like(x), x.new_empty(x.shape[:-1])
        sizes = inverse_rms.numel(), x.shape[-1], ctypes.c_float(eps), int(quantized)
        FusedBlock.library.norm_forward(*sizes, *pointers(x, weight, y, inverse_rms))
        ctx.save_for_backward(x, weight, inverse_rms)
        return y

    @staticmethod
    def backward(ctx, g: Tensor):
        x, weight, inverse_rms = ctx.saved_tensors
        g, g_x, g_weight = g.contiguous(), torch.empty_like(x), torch.zeros_like(weight)
        sizes = inverse_rms.numel(), x.shape[-1]
        FusedBlock.library.norm_backward(*sizes, *pointers(x, weight, g, inverse_rms, g_x, g_weight))
        return g_x, g_weight, None, None


def take_spare(spare: list[Tensor], size: int) -> Tensor:
    """A buffer of at least `size` bytes: the smallest of `spare` that will do, or a new one in place of the largest.

    The number of chunks of a hierarchical model changes from step to step, so equal sizes never come back; this way
    there are no more buffers than were ever needed at once.
    """
    spare.sort(key=Tensor.numel)
    fit = next((i for i, buffer in enumerate(spare) if buffer.numel() >= size), None)
    if fit is not None:
        return spare.pop(fit)
    if spare:
        spare.pop()
    return torch.empty(size + size // 8, dtype=torch.uint8)


def checked(lengths: Tensor, batch: int, time: int) -> list[int]:
    """`lengths` as a list; ValueError unless there is one from 0 to `time` for each of the `batch` rows."""
    values = lengths.tolist()
    if len(values) != batch or any(not 0 <= n <= time for n in values):
        raise ValueError(f"lengths must be {batch} numbers from 0 to {time}, got {values}")
    return values


def fused_forward(
    block: Block, h: Tensor, keep: Tensor, state: Tensor, tail: Tensor, lengths: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The same function as `Block.forward`, `lengths` included."""
    return FusedBlock.apply(h, keep, state, tail, lengths, torch.is_grad_enabled(), block.attn.c, *tensors_of(block))


class FusedCrossEntropy(torch.autograd.Function):
    """Mean nats of targets [N] after logits [N, V], float32; the gradient is made with it, in one pass over memory."""

    @staticmethod
    def forward(ctx, logits: Tensor, targets: Tensor) -> Tensor:
        logits, targets = logits.contiguous(), targets.contiguous()
        gradient, nats = torch.empty_like(logits), logits.new_empty(len(logits))
        FusedBlock.library.cross_entropy(*logits.shape, *pointers(logits, targets, gradient, nats))
        ctx.gradient = gradient
        return nats.mean()

    @staticmethod
    def backward(ctx, g: Tensor):
        return ctx.gradient if g == 1 else ctx.gradient * g, None


def fused_norm(norm: RMSNorm, x: Tensor) -> Tensor:
    return FusedNorm.apply(x.float(), norm.weight, norm.eps, False)


def fused_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """As F.cross_entropy of logits [N, V], float32, and targets [N]."""
    if logits.shape[1] % 16:
        return F.cross_entropy(logits, targets)
    return FusedCrossEntropy.apply(logits, targets)


def fused_linear(linear: BitLinear, x: Tensor) -> Tensor:
    """The products stay with PyTorch: in 8 bits the gradients of a cross entropy, one large and 255 small, are noisy."""
    x = FusedNorm.apply(x.float(), linear.norm.weight, linear.norm.eps, True)
    return F.linear(x, straight_through(linear.weight, *weight_codes(linear.weight)))


def compiled_scan(a: Tensor, b: Tensor, state: Tensor) -> Tensor:
    """a, b [B,T,E], state [B,E], all contiguous -> s_t = a_t s_{t-1} + b_t at every position [B,T,E]."""
    states = torch.empty_like(b)
    FusedBlock.library.linear_scan(*b.shape, *pointers(a, b, state, states))
    return states


def orthogonalize_all(matrices: list[Tensor], steps: int = 5) -> list[Tensor] | None:
    """Muon's Newton-Schulz steps on each of the float matrices, in bfloat16 on tile registers, on all processors.

    None where there are no tiles for it, or a matrix is elsewhere or has a width that is not a multiple of 16.
    """
    if any(x.device.type != "cpu" or x.dtype != torch.float32 or any(n % 16 for n in x.shape) for x in matrices):
        return None
    count, held = len(matrices), [x.contiguous() for x in matrices]
    results = [torch.empty_like(x) for x in held]
    heights, widths = ((ctypes.c_int32 * count)(*(x.shape[side] for x in held)) for side in (0, 1))
    addresses = ((ctypes.c_void_p * count)(*(x.data_ptr() for x in some)) for some in (held, results))
    return results if FusedBlock.library.orthogonalize_all(count, heights, widths, steps, *addresses) else None


def rng_state() -> int:
    """What the next stochastic rounding of gradients is seeded with: a checkpoint stores it to resume exactly."""
    return FusedBlock.calls


def set_rng_state(state: int) -> None:
    """Go on from a value of `rng_state`."""
    FusedBlock.calls = int(state)


def obstacle(block: Block) -> str | None:
    """Why this block has to stay with PyTorch; None if it can be fused."""
    c = block.attn.c
    if block.attn_norm.weight.device.type != "cpu":
        return "the fused ones are for the CPU"
    if not all(part.ternary for part in block.modules() if isinstance(part, BitLinear)):
        return "the fused ones know ternary weights only"
    if c.gate_norm != "gate" or c.sigmoid != "table":
        return "the fused ones know neither gate_norm=state nor piecewise sigmoid"
    if any(width % 16 for width in (c.hidden, c.recurrent, c.intermediate)):
        return "the fused ones need widths that are multiples of 16"
    return None


def outermost(module: nn.Module):
    """The blocks, ternary layers and norms of a model, but not what is inside one of them."""
    for child in module.children():
        if isinstance(child, Block | BitLinear | RMSNorm):
            yield child
        else:
            yield from outermost(child)


def accelerate(model: nn.Module) -> str:
    """Let `model.block_forward`, by which any architecture calls its HGRN-bit blocks, be the fused version if it can.

    Then its other norms, ternary layers (the head) and its loss are fused as well, and `model.orthogonalize_all` is there for Muon.  In blocks that stay with PyTorch on a CPU the
    norms and the recurrence are.  Returns which it is, and why.
    """
    parts = list(outermost(model))
    blocks = [part for part in parts if isinstance(part, Block)]
    reason = next(filter(None, map(obstacle, blocks)), None)
    if reason and blocks[0].attn_norm.weight.device.type != "cpu":
        return f"plain PyTorch blocks: {reason}"
    try:
        FusedBlock.library = load_library()
    except (OSError, subprocess.CalledProcessError) as fault:
        return f"plain PyTorch blocks (about 20 times slower): compiling the fused ones failed: {fault}"
    model.orthogonalize_all, model.cross_entropy = orthogonalize_all, fused_cross_entropy
    if reason:
        for module in model.modules():
            if isinstance(module, Mix):
                module.scan = partial(scan_with, compiled_scan)
        parts = [module for module in model.modules() if isinstance(module, RMSNorm)]
    else:
        model.block_forward = fused_forward
    for part in parts:
        if isinstance(part, RMSNorm) and part.weight.numel() % 16 == 0:
            part.forward = partial(fused_norm, part)
        elif type(part) is BitLinear and part.ternary and part.weight.shape[1] % 16 == 0:  # TernaryLinear has no norm
            part.forward = partial(fused_linear, part)
    return f"plain PyTorch blocks, norms and recurrence fused: {reason}" if reason else "fused CPU blocks"
