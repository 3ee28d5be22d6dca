#!/usr/bin/env python3
"""Makes training data of text files, or downloads a public set first: repaired, without duplicates, split by document.

prepare_data.py texts/ more.txt.xz --out data/train.bin --valid data/valid.bin    # 1 % of the documents held out
prepare_data.py texts/ --out data/all.txt                                       # one text, nothing held out
prepare_data.py stories.txt --out data/train.bin --without data/valid.txt       # documents of that text are left out
prepare_data.py --download tinystories --folder data/                           # 2.2 GB, CDLA-Sharing-1.0
"""

from __future__ import annotations

import argparse
import itertools
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from lm.text import command, corpus, wiki
from lm.text.download import Source, fetch
from lm.text.encoding import text_files

TINYSTORIES = "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main/TinyStoriesV2-GPT4"
WIKITEXT = "https://wikitext.smerity.com"
WIKIMEDIA = "https://dumps.wikimedia.org/simplewiki/latest/simplewiki-latest"
PUBLIC_SETS = ("tinystories", "wikitext-2", "wikitext-103", "simplewiki")


def prepare(documents: Iterator[list[str]], out: Path, valid: Path | None, share: float, seen: set[int]) -> None:
    """Writes the documents and says how many there were."""
    counts = corpus.Counts()
    corpus.write(corpus.repaired(documents, counts), out, valid, share, seen, counts)
    print(
        f"{out}: {counts.train_bytes:,} bytes, {counts.documents - counts.valid_documents:,} documents, "
        f"{counts.duplicates:,} duplicates left out, {counts.repaired_lines:,} lines repaired"
    )
    if valid is not None:
        print(f"{valid}: {counts.valid_bytes:,} bytes, {counts.valid_documents:,} documents held out")


def download(name: str, folder: Path, share: float) -> None:
    """Fetches a public set and prepares it as NAME_train.bin and NAME_valid.bin (WikiText: and NAME_test.bin)."""
    seen: set[int] = set()
    train, valid = folder / f"{name}_train.bin", folder / f"{name}_valid.bin"
    if name == "tinystories":  # the held-out part first: what is in it is left out of the other
        for part, out in (("valid", valid), ("train", train)):
            text = fetch(Source(f"{TINYSTORIES}-{part}.txt"), folder)
            prepare(corpus.separated(corpus.lines(text)), out, None, 0, seen)
    elif name == "simplewiki":
        sums = Source(f"{WIKIMEDIA}-pages-articles.xml.bz2", f"{WIKIMEDIA}-sha1sums.txt", "-pages-articles.xml.bz2")
        prepare(wiki.documents(fetch(sums, folder)), train, valid, share, seen)
    else:
        archive = fetch(Source(f"{WIKITEXT}/{name}-raw-v1.zip"), folder)
        for part in ("test", "valid", "train"):
            with zipfile.ZipFile(archive) as files:
                text = Path(files.extract(f"{name}-raw/wiki.{part}.raw", folder))
            prepare(corpus.articles(corpus.lines(text)), folder / f"{name}_{part}.bin", None, 0, seen)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("inputs", nargs="*", type=Path, help=".txt or .txt.xz files, or folders of them")
    parser.add_argument("--out", type=Path, help="text to write: .bin for training, .txt for reading")
    parser.add_argument("--valid", type=Path, help="text to write for the held-out documents")
    parser.add_argument("--valid-share", type=float, default=0.01, help="share of the documents held out (0.01)")
    parser.add_argument("--without", type=Path, action="append", default=[], help="a text whose documents to leave out")
    parser.add_argument("--articles", action="store_true", help="documents begin with titles, as in WikiText")
    parser.add_argument("--download", choices=PUBLIC_SETS, help="fetch a public set and prepare its files")
    parser.add_argument("--folder", type=Path, default=Path("data"), help="where downloads go")
    arguments = parser.parse_args()
    if bool(arguments.download) == bool(arguments.inputs) or bool(arguments.inputs) != bool(arguments.out):
        parser.error("give text files and --out, or --download")
    if not 0 < arguments.valid_share < 1:
        parser.error(f"--valid-share must be between 0 and 1, got {arguments.valid_share}")
    if arguments.download:
        download(arguments.download, arguments.folder, arguments.valid_share)
    else:
        split = corpus.articles if arguments.articles else corpus.separated
        files = text_files(arguments.inputs)
        documents = itertools.chain.from_iterable(map(split, map(corpus.lines, files)))
        left_out = itertools.chain.from_iterable(map(partial(corpus.documents_of, split=split), arguments.without))
        seen = {corpus.fingerprint(document) for document in left_out}
        prepare(documents, arguments.out, arguments.valid, arguments.valid_share, seen)


if __name__ == "__main__":
    command.run(main)
