"""A hierarchical model that begins with a flat one's blocks predicts nearly as well at once; what does not fit is named."""

from dataclasses import replace

import pytest
import torch

from conftest import ROOT
from lm import arch
from lm.arch import hgrnbit, hnetbit
from lm.file import checkpoint, gguf_file
from lm.measure.score import score
from lm.text.encoding import encode
from lm.train import beginnings

FLAT = hgrnbit.Config(hidden=256, recurrent=256, intermediate=768, layers=4, decay_span=16.0)
DEEP = hnetbit.Config(
    hidden=(256, 256), recurrent=(256, 256), intermediate=(768, 768), encoder=(2,), layers=3, residual_start=1.0
)


def saved(path, model):
    checkpoint.save(
        path, {"config": {"model": arch.config_to_dict(model.config)}, "model": model.state_dict(), "bytes_seen": 7}
    )
    return path


@pytest.fixture(scope="module")
def trained():
    """The shipped flat model, with the settings of its training."""
    shipped, flat = gguf_file.load(ROOT / "models" / "tinystories-3m5.gguf"), arch.build(FLAT)
    flat.load_state_dict({name: shipped.state_dict()[name] for name in flat.state_dict()})
    return flat.eval()


def test_it_predicts_like_the_flat_model_without_a_block_and_finds_chunks(trained, stories, tmp_path):
    text = encode(stories[:1500])
    deep = arch.build(DEEP)
    untrained = score(deep.eval(), text)["bits_per_byte"]
    assert beginnings.initialize(deep, saved(tmp_path / "flat.pt", trained)) == 7
    assert score(trained, text)["bits_per_byte"] < 1.2
    assert score(deep, text)["bits_per_byte"] < 2 < untrained - 4
    share = deep.trace(torch.from_numpy(text[None].astype("int64")))[2][0]["boundary"].float().mean()
    assert 0.05 < share < 0.6


def test_every_block_is_the_one_it_should_be(trained, tmp_path):
    deep = arch.build(replace(DEEP, layers=5))
    beginnings.initialize(deep, saved(tmp_path / "flat.pt", trained))
    stage = deep.stages[0]
    blocks = [*stage.encoder.layers, *deep.main.layers, *stage.decoder.layers]
    for layer, block in zip(blocks, [0, 1, 1, 2, 1, 2, 1, 3], strict=True):
        for name, value in trained.layers[block].state_dict().items():
            assert torch.equal(layer.state_dict()[name], value), f"block {block}: {name}"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"hidden": (256, 320), "recurrent": (256, 320)}, "level 1 needs blocks with hidden = 320"),
        ({"intermediate": (512, 768)}, "level 0 needs blocks with intermediate = 512"),
        ({"encoder": (3,), "decoder": (2,)}, "need 5 blocks, the flat model has 4"),
        ({"residual_start": 0.0}, r"model\.residual_start has to be 1, found 0"),
        ({"decay_span": (0.0, 0.0)}, "decay_span = 0.0, the flat model has 16.0"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_does_not_fit_is_named(change, named, tmp_path):
    path = saved(tmp_path / "flat.pt", arch.build(FLAT))
    with pytest.raises(ValueError, match=rf"flat\.pt: .*{named}"):
        beginnings.initialize(arch.build(replace(DEEP, **change)), path)


def test_two_stages_are_refused():
    two = hnetbit.Config(
        **{name: (64, 64, 64) for name in ("hidden", "recurrent", "intermediate")},
        **{name: (1, 1) for name in ("encoder", "decoder")},
        **{"router": (8, 8), "target": (4.0, 2.0), "lr_multiplier": (1.0,) * 3, "decay_span": (16.0,) * 3},
    )
    assert "one stage" in beginnings.obstacle(two, FLAT)
