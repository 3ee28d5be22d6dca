"""A training run that takes a second: the alphabet, over and over, and a model of a few thousand parameters."""

import csv

from lm.arch.hgrnbit import Config
from lm.train import loop

ALPHABET = b"abcdefghijklmnop"
SEED = 1  # pytest --seed: what a trained model predicts must not depend on it

# Width 24 keeps the fused CPU block out (it needs multiples of 16): plain PyTorch is what these tests are about.
TINY = Config(hidden=24, recurrent=24, intermediate=32, layers=1, conv_kernel=2)


def settings(folder, model=TINY, **changes) -> loop.Run:
    """32 steps of 8 rows x 16 bytes unless told otherwise; changes are those of [train]."""
    text = folder / "alphabet.txt"
    text.write_bytes((ALPHABET * 4 + b"\n<|endoftext|>\n") * 60)
    values = {
        "total_bytes": 64 * 64,
        "batch": 8,
        "length": 16,
        "lr": 0.02,
        "warmup_bytes": 128,
        "decay_bytes": 1024,
        "valid_bytes": 256,
        "valid_every": 1000,
        "sample_every": 0,
        "save_every": 16,
        "seed": SEED,
        **changes,
    }
    return loop.Run(model, loop.Data(train=[str(text)], valid=str(text)), loop.Train(**values))


def rows(file) -> list[dict]:
    with file.open(encoding="utf-8") as content:
        return list(csv.DictReader(content))


def losses(folder) -> dict[int, str]:
    """step -> loss, as the log has them."""
    found = rows(folder / "log.csv")
    assert len({row["step"] for row in found}) == len(found), "a step is in the log twice"
    return {int(row["step"]): row["train_bits"] for row in found}


def apart(one, other) -> float:
    """The largest difference between the losses of two runs, in bits."""
    one, other = losses(one), losses(other)
    assert one.keys() == other.keys()
    return max(abs(float(one[step]) - float(other[step])) for step in one)
