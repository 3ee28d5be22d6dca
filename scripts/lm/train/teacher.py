"""A trained model whose predictions another one learns besides the text (knowledge distillation, arXiv 1503.02531)."""

import contextlib
from pathlib import Path

import torch
from torch import Tensor

from lm.arch.losses import Lesson
from lm.fast.cpu_kernels import accelerate
from lm.file.models import load_any


class Teacher:
    """Reads what the student reads, byte by byte the same text, with states of its own for each part of a batch.

    Any architecture will do: only the distributions over bytes are compared. On a GPU it computes in bf16, on a CPU with
    the fused blocks in float32, which are faster there; it never gets a gradient.
    """

    def __init__(self, path: str, student, device: str, weight: float, temperature: float, parts: int):
        """path: .pt or .gguf; student: the Config of the model that learns."""
        self.model, self.seen = load_any(Path(path))
        found, wanted = self.model.config.vocab_size, student.vocab_size
        if found != wanted:
            raise ValueError(
                f"train.teacher {path} predicts one of {found} symbols, the model to train one of {wanted}: "
                "choose a teacher with the same model.vocab_size"
            )
        self.model.to(device).eval().requires_grad_(False)
        self.device, self.weight, self.temperature = device, weight, temperature
        self.how = accelerate(self.model) if device == "cpu" else "bf16"
        self.states: list = [None] * parts

    def describe(self) -> str:
        parameters = sum(p.numel() for p in self.model.parameters())
        architecture = self.model.config.architecture
        return f"teacher: {architecture}, {parameters} parameters, {self.seen / 1e6:.1f} MB of text seen, {self.how}"

    @torch.no_grad()
    def lesson(self, part: int, tokens: Tensor) -> Lesson:
        """tokens [B,T], which follow those of the part's window before -> what it says about them."""
        on_cpu = self.device == "cpu"
        with contextlib.nullcontext() if on_cpu else torch.autocast("cuda", dtype=torch.bfloat16):
            logits, self.states[part] = self.model(tokens, self.states[part])
        return Lesson(logits, self.weight, self.temperature)
