"""What the package makes of GGUF files of others while they arrive (ternlm/gguf) is what convert.py makes of them, bit for bit."""

import json
import subprocess

import gguf
import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, pre_tokenizers

from conftest import ROOT
from lm.file import convert, gguf_file, public_gguf
from test_public_gguf import as_i2_s, numbers, shaped, write  # noqa: F401
from tokenizer_texts import FOLDER, mixed, tokens_of

PIECES = [chr(0x4E00 + n) for n in range(38)] + ["<|eot_id|>", "<|end|>"]
TOKENIZER = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.bos_token_id": 39,
    "tokenizer.ggml.eos_token_id": 39,
    "tokenizer.ggml.tokens": PIECES,
    "tokenizer.ggml.token_type": [1] * 38 + [3, 3],
}
SCRIPT = """
import { readFileSync, writeFileSync } from 'node:fs';
import { fromOtherGguf } from './gguf.mjs';
const [from, to, order] = process.argv.slice(2);
const bytes = readFileSync(from);
let at = 0;
const source = new ReadableStream({
  pull(controller) {
    if (at < bytes.length) controller.enqueue(new Uint8Array(bytes.subarray(at, (at += 1001))));
    else controller.close();
  },
});
try {
  const parts = [];
  for await (const part of fromOtherGguf(source, order ? { i2sOrder: order } : {})) parts.push(Buffer.from(part));
  writeFileSync(to, Buffer.concat(parts));
} catch (error) {
  console.error(`${error.code}: ${error.message}`);
  process.exit(1);
}
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    folder = tmp_path_factory.mktemp("script")
    esbuild = ROOT / "node_modules" / ".bin" / "esbuild"
    bundled = ["--bundle", "--format=esm", "--log-level=error", f"--outfile={folder / 'gguf.mjs'}"]
    subprocess.run([esbuild, ROOT / "web" / "src" / "gguf.ts", *bundled], check=True)
    (folder / "run.mjs").write_text(SCRIPT, encoding="utf-8")
    return folder / "run.mjs"


@pytest.fixture(autouse=True)
def with_tokenizer(monkeypatch):
    whole = gguf.GGUFWriter.write_header_to_file

    def write_header(self, *arguments):
        if not any("tokenizer.ggml.model" in part for part in self.kv_data):
            self.add_tokenizer_model("gpt2")
            self.add_token_list(PIECES)
            self.add_token_types(TOKENIZER["tokenizer.ggml.token_type"])
            self.add_token_merges([f"{PIECES[0]} {PIECES[1]}"])
            self.add_bos_token_id(39)
            self.add_eos_token_id(39)
        return whole(self, *arguments)

    monkeypatch.setattr(gguf.GGUFWriter, "write_header_to_file", write_header)


def translate(script, path, out, *order):
    done = subprocess.run(["node", script, path, out, *order], capture_output=True, text=True, encoding="utf-8")
    return done.returncode, done.stderr.strip()


def made(path, kind, numbers, ternary, **more):  # noqa: F811
    patched = write(path, kind, numbers, ternary, **more)
    if patched:
        as_i2_s(path, patched)
    return path


@pytest.mark.parametrize(
    ("kind", "ternary", "embedding"),
    [
        ("bitnet-25", "I2_S", "F16"),
        ("bitnet-b1.58", "TQ1_0", "Q8_0"),
        ("bitnet", "TQ2_0", "Q6_K"),
        ("llama", "I2_S", "BF16"),
        ("llama", "TQ1_0", "F16"),
    ],
)
def test_a_file_becomes_what_the_converter_makes_of_it(tmp_path, numbers, script, kind, ternary, embedding):  # noqa: F811
    path = made(tmp_path / "m.gguf", kind, numbers, ternary, embedding=gguf.GGMLQuantizationType[embedding])
    assert translate(script, path, tmp_path / "ours.gguf") == (0, "")
    published, tensors = public_gguf.open_gguf(path)
    ours = "TQ2_0" if ternary == "I2_S" else ternary
    convert.write(tmp_path / "expected.gguf", published, tensors, gguf_file.Card("m"), TOKENIZER, ours)
    found, expected = (gguf.GGUFReader(tmp_path / f"{name}.gguf") for name in ("ours", "expected"))
    keys = [key for key in expected.fields if key.startswith("bitnet.")]
    assert {k: found.fields[k].contents() for k in keys} == {k: expected.fields[k].contents() for k in keys}
    one, other = ({t.name: t for t in reader.tensors} for reader in (found, expected))
    assert set(one) == set(other)
    for name, tensor in other.items():
        assert one[name].tensor_type == tensor.tensor_type
        assert np.array_equal(one[name].data.view(np.uint8), tensor.data.view(np.uint8)), name


@pytest.mark.parametrize("order", public_gguf.ORDERS)
def test_matrices_tell_their_order_while_they_arrive(tmp_path, numbers, script, order):  # noqa: F811
    shares = np.random.default_rng(6).uniform(0.25, 0.45, 1000)
    path = made(tmp_path / "m.gguf", "bitnet-25", shaped(numbers, shares), "I2_S", order=order)
    found = {}
    for asked in ("auto", order):
        assert translate(script, path, tmp_path / f"{asked}.gguf", asked) == (0, "")
        found[asked] = (tmp_path / f"{asked}.gguf").read_bytes()
    assert found["auto"] == found[order]
    wrong = "arm" if order == "x86" else "x86"
    assert translate(script, path, tmp_path / "wrong.gguf", wrong) == (0, "")
    assert (tmp_path / "wrong.gguf").read_bytes() != found[order]


def test_a_doubtful_order_is_refused_and_one_that_is_said_is_taken(tmp_path, numbers, script):  # noqa: F811
    alike = np.repeat(np.random.default_rng(7).uniform(0.2, 0.6, 8), 128)  # as in test_public_gguf
    path = made(tmp_path / "m.gguf", "bitnet-25", shaped(numbers, alike), "I2_S", order="arm")
    code, said = translate(script, path, tmp_path / "ours.gguf")
    assert code == 1 and said.startswith("unsupported: the I2_S matrices may be in the order"), said
    assert translate(script, path, tmp_path / "ours.gguf", "arm") == (0, "")


LLAMA3 = (  # of the published tokenizer.json of LLaMA 3
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def ggml_keys(tokenizer: dict, pre: str) -> dict:
    """What llama.cpp's converter writes of a tokenizer.json."""
    pieces = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].__getitem__)
    special = {token["content"] for token in tokenizer["added_tokens"]}
    kinds = [
        2 if piece == "<unk>" else 3 if piece in special else 6 if piece.startswith("<0x") else 1 for piece in pieces
    ]
    ranks = {left + right: n for n, (left, right) in reversed([*enumerate(tokenizer["model"]["merges"])])}
    end = pieces.index("</s>") if "</s>" in pieces else 0
    keys = {"tokens": pieces, "token_type": kinds, "bos_token_id": end, "eos_token_id": end}
    if pre == "":
        scores = [float(-ranks[piece]) if piece in ranks else -1e6 for piece in pieces]
        return {"model": "llama", "scores": scores, **keys}
    return {"model": "gpt2", "pre": pre, "merges": [" ".join(pair) for pair in tokenizer["model"]["merges"]], **keys}


@pytest.mark.parametrize(("style", "pre"), [("gpt2", "gpt-2"), ("gpt2", "llama-bpe"), ("llama", "")])
def test_the_tokenizer_in_a_file_makes_the_tokens_of_the_one_it_was_written_from(
    tmp_path,
    numbers,  # noqa: F811
    script,
    monkeypatch,
    style,
    pre,
):
    text = (FOLDER / style / "tokenizer.json").read_text(encoding="utf-8")
    keys, whole = ggml_keys(json.loads(text), pre), gguf.GGUFWriter.write_header_to_file

    def write_header(self, *arguments):
        if not any("tokenizer.ggml.model" in part for part in self.kv_data):
            self.add_tokenizer_model(keys["model"])
            self.add_token_list(keys["tokens"])
            self.add_token_types(keys["token_type"])
            if "pre" in keys:
                self.add_tokenizer_pre(keys["pre"])
                self.add_token_merges(keys["merges"])
            else:
                self.add_token_scores(keys["scores"])
            self.add_bos_token_id(keys["bos_token_id"])
            self.add_eos_token_id(keys["eos_token_id"])
        return whole(self, *arguments)

    monkeypatch.setattr(gguf.GGUFWriter, "write_header_to_file", write_header)
    path = made(tmp_path / "m.gguf", "bitnet", numbers, "TQ2_0")
    assert translate(script, path, tmp_path / "ours.gguf") == (0, "")
    fields = gguf.GGUFReader(tmp_path / "ours.gguf").fields
    found = Tokenizer.from_str(fields["tokenizer.huggingface.json"].contents())
    original = Tokenizer.from_str(text)
    if pre == "llama-bpe":
        original.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    for control in (False, True):
        assert np.array_equal(tokens_of(found, mixed(), control), tokens_of(original, mixed(), control))


def test_what_cannot_be_read_is_refused_with_its_code(tmp_path, numbers, script):  # noqa: F811
    path = made(tmp_path / "m.gguf", "bitnet-25", numbers, "I2_S")
    data = path.read_bytes()

    def refused(changed, fault, *order):
        path.write_bytes(changed)
        code, said = translate(script, path, tmp_path / "ours.gguf", *order)
        assert code == 1 and fault in said, said

    at = public_gguf.directory(path)[1]["blk.1.attn_v.weight"].at
    refused(data[:at] + b"\xff" + data[at + 1 :], "bad-file: blk.1.attn_v.weight has the code 3")
    refused(data[:-40], "incomplete: the file ends after")
    refused(data.replace(b"bitnet-25", b"bitnet-26"), "unsupported: general.architecture is bitnet-26")
    refused(b"PK" + data[2:], "unsupported: expected GGUF version 2 or 3")
    refused(data, "bad-option: i2sOrder must be", "mips")
