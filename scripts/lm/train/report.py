"""What one process of a run does besides training: scores, samples, logs and the progress bar."""

import time
from collections import deque

from tqdm import tqdm

from lm.file import checkpoint
from lm.measure import samples
from lm.measure.score import score
from lm.text.data import read_text
from lm.train.watch import TernaryWatch, Watch

PROMPT, SAMPLE_BYTES, TEMPERATURE = b"Once upon a time", 300, 0.8
SHOWN_STEPS = 50  # the training loss that is shown is the mean of so many; log.csv has each


class Report:
    """Follows the steps of a lm.train.loop.Trainer."""

    def __init__(self, trainer):
        t, self.trainer = trainer.run.train, trainer
        self.valid = read_text(trainer.run.data.valid)[: t.valid_bytes]
        self.ternary, self.watch = TernaryWatch(trainer.model), None
        self.recent: deque[float] = deque(maxlen=SHOWN_STEPS)
        self.began = self.step_began = time.time()
        self.bar = tqdm(
            **{"total": t.total_bytes, "initial": trainer.at.bytes_seen, "unit": "B", "unit_scale": True},
            **{"smoothing": 0.02, "mininterval": 5, "disable": None},
        )

    def before_step(self) -> None:
        every = self.trainer.run.train.ternary_every
        self.counted = every > 0 and (self.trainer.at.step + 1) % every == 0
        if self.counted:
            self.ternary.remember()
        self.step_began, self.bytes_before = time.time(), self.trainer.at.bytes_seen

    def after_step(self, row: dict, validate: bool) -> bool:
        """Completes and writes the row of log.csv; whether the held-out text has never been predicted as well."""
        trainer, improved = self.trainer, False
        t, at, now = trainer.run.train, trainer.at, time.time()
        if self.watch is None:  # only now it is known which statistics the model has
            self.watch = Watch(trainer.out, trainer.run, at.step - 1, tuple(row)[5:])
        rate = (at.bytes_seen - self.bytes_before) / (now - self.step_began)
        row |= {"bytes_per_second": f"{rate:.0f}", "seconds": f"{now - self.began:.1f}"}
        self.recent.append(float(row["train_bits"]))
        bits = sum(self.recent) / len(self.recent)
        self.bar.update(at.bytes_seen - self.bar.n)
        self.bar.set_postfix_str(f"{bits:.3f} bits/byte", refresh=False)
        if validate:
            row |= self.validate()
            improved = row["valid_bits"] < at.best
            at.best = min(at.best, row["valid_bits"])
            scores = f"train {bits:.4f} · held out {row['valid_bits']:.4f} bits/byte"
            tqdm.write(f"step {at.step} · {at.bytes_seen:,} bytes · {scores} · learning rate x {row['lr_factor']}")
        self.watch.step(row)
        if self.counted:
            self.watch.matrices(at.step, self.ternary.rows())
        if t.sample_every and at.step % t.sample_every == 0:
            text = self.sample()
            self.watch.sample(at.step, text)
            tqdm.write(text)
        self.watch.flush()
        return improved

    def validate(self) -> dict:
        """The columns of log.csv that the held-out text gives."""
        model = self.trainer.model
        checkpoint.read_ends_as_beginnings(model)
        model.eval()
        found = score(model, self.valid)
        model.train()
        names = {"valid_bits": "bits_per_byte", "valid_perplexity": "perplexity"}
        names |= {"valid_top1": "top1", "valid_top5": "top5"}
        return {column: found[name] for column, name in names.items()}

    def sample(self) -> str:
        """The prompt and what the model writes after it."""
        model = self.trainer.model
        model.eval()
        (written,) = samples.generate(model, [PROMPT], SAMPLE_BYTES, TEMPERATURE)
        model.train()
        return (PROMPT + written).decode("utf-8", "replace")

    def close(self) -> None:
        self.bar.close()
        if self.watch is not None:
            self.watch.close()
