#!/usr/bin/env python3
"""Writes a published ternary checkpoint as a model file that the engine, the page and `tern` run.

convert.py mmfreelm-370m/ --out mmfreelm-370m.gguf          a folder as it comes from the hub
convert.py hf:ridger/MMfreeLM-370M --out mmfreelm-370m.gguf  downloaded first; goes on where it stopped
convert.py bitmamba_255m.bin --tokenizer hf:openai-community/gpt2 --out bitmamba-255m.gguf

MatMul-free LM (HGRN-bit) and BitNet (2B-4T, Falcon-E and other llama models with 1.58 bits; packed or masters) from
safetensors or pytorch_model.bin, which is read without executing anything in it, BitNet from GGUF files of llama.cpp and
microsoft/BitNet, too, and BitMamba-2 from its .bin. A token for private repositories is taken from the environment (HF_TOKEN).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from tqdm import tqdm

from lm.file import convert, gguf_file, public_gguf, published, tokenizer_keys, weights
from lm.text import command, files

WANTED = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin", "pytorch_model.bin.index.json")
TEXTS = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "chat_template.jinja",
    "README.md",
)


def local(source: str, patterns: tuple[str, ...]) -> Path:
    """The path that a source names; hf:OWNER/NAME[@REVISION] is downloaded, of two formats of weights only safetensors."""
    if not source.startswith("hf:"):
        path = Path(source)
        if not path.exists():
            raise ValueError(f"{source}: no such file or folder; a repository of the hub is hf:owner/name")
        return path
    import huggingface_hub as hub  # here, because most conversions need no network
    from huggingface_hub.errors import HFValidationError, HTTPError

    repository, _, revision = source.removeprefix("hf:").partition("@")
    token = os.environ.get("HF_TOKEN") or False  # never one that lies around on the machine
    try:
        names = hub.HfApi(token=token).list_repo_files(repository, revision=revision or None)
        if any(name.endswith(".safetensors") for name in names):
            patterns = tuple(pattern for pattern in patterns if not pattern.startswith("pytorch_model"))
        return Path(
            hub.snapshot_download(repository, revision=revision or None, allow_patterns=list(patterns), token=token)
        )
    except (HTTPError, HFValidationError, OSError) as fault:
        raise ValueError(f"{source}: could not be downloaded: {fault}") from None


def license_of(folder: Path) -> str:
    """`license:` of the model card's head, or nothing."""
    card = folder / "README.md"
    lines = card.read_text(encoding="utf-8", errors="replace").splitlines() if card.exists() else []
    if not lines or lines[0] != "---":
        return ""
    head = lines[1 : lines.index("---", 1)] if "---" in lines[1:] else []
    return next((line.partition(":")[2].strip() for line in head if line.startswith("license:")), "")


def opened(path: Path, i2_s_order: str = "auto") -> tuple[published.Published, weights.Checkpoint, list[Path], dict]:
    """What is in a folder, .gguf or .bin -> what it is, its tensors, its weight files, its config.json."""
    if path.is_file():
        if public_gguf.is_gguf(path):
            kind, tensors = public_gguf.open_gguf(path, i2_s_order)
            return kind, tensors, [path], {}
        if not weights.is_bitmamba(path):
            raise ValueError(f"{path}: expected a folder with config.json, a .gguf of BitNet, or a .bin of BitMamba-2")
        settings, tensors = weights.open_bitmamba(path)
        return published.of_bitmamba(settings, tensors), tensors, [path], {}
    file = path / "config.json"
    if not file.exists():
        raise ValueError(f"{path}: expected config.json in it, which says what kind of model this is, found none")
    try:
        config = json.loads(files.read_text(file))
    except ValueError as fault:
        raise ValueError(f"{file}: not JSON: {fault}") from None
    kind = published.of_config_json(config)
    tensors, parts = weights.open_folder(path)
    return kind, tensors, parts, config


def run(arguments: argparse.Namespace) -> None:
    path = local(arguments.source, (*WANTED, *TEXTS))
    kind, tensors, parts, config = opened(path, arguments.i2_s_order)
    if not arguments.tokenizer and path.is_file():
        raise ValueError(f"{path}: has no tokenizer.json in it: name the folder of one with --tokenizer")
    tokenizer_folder = local(arguments.tokenizer, TEXTS) if arguments.tokenizer else path
    tokenizer = tokenizer_keys.read_folder(tokenizer_folder, config)
    license_name = arguments.license or (license_of(path) if path.is_dir() else "")
    if not license_name:
        print("convert: no licence in the model card; name it with --license", file=sys.stderr)
    kind.check(kind.prepare(tensors))
    card = gguf_file.Card(
        name=arguments.name or arguments.out.stem,
        license=license_name,
        source=arguments.source if arguments.source.startswith("hf:") else path.resolve().name,
        source_sha256=weights.sha256(parts),
    )
    bar = tqdm(unit="B", unit_scale=True, desc=arguments.out.name, disable=arguments.quiet)

    def progress(done: int, of: int) -> None:
        bar.total = of
        bar.update(done - bar.n)

    with bar:
        report = convert.write(
            arguments.out, kind, tensors, card, tokenizer, arguments.type, arguments.embedding, progress
        )
    for line in report.lines():
        print(line)
    print(f"{arguments.out}: {arguments.out.stat().st_size:,} bytes")


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="folder, BitNet .gguf, BitMamba-2 .bin, or hf:owner/name[@revision]")
    parser.add_argument("--out", type=Path, required=True, help="the .gguf file to write")
    parser.add_argument(
        "--type", choices=sorted(gguf_file.TERNARY_TYPES), default="TQ1_0", help="1.69 or 2.06 bits a weight"
    )
    parser.add_argument("--embedding", choices=sorted(convert.EMBEDDINGS), default="I8", help="8 or 16 bits a number")
    parser.add_argument(
        "--i2-s-order",
        choices=["auto", *public_gguf.ORDERS],
        default="auto",
        help="which weights share a byte in I2_S of a .gguf: the build of microsoft/BitNet that wrote it decides, and the "
        "file does not say; default: what the matrices say",
    )
    parser.add_argument("--tokenizer", help="folder or hf:owner/name with a tokenizer.json; default: the source's own")
    parser.add_argument("--name", help="name to show; default: the file's name")
    parser.add_argument(
        "--license", default="", help="SPDX name of the licence of the weights; default: the model card's"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    arguments = parser.parse_args(words)
    run(arguments)


if __name__ == "__main__":
    command.run(main)
