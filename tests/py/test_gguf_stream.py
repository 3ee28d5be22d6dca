"""What the package makes of GGUF files of others while they arrive (ternlm/gguf) is what convert.py makes of them, bit for bit."""

import subprocess

import gguf
import numpy as np
import pytest

from conftest import ROOT
from lm.file import convert, gguf_file, public_gguf
from test_public_gguf import as_i2_s, numbers, write  # noqa: F401

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
