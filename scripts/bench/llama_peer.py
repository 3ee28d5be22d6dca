"""Measures native llama.cpp on a llama model: tokens per second of a prompt and of single tokens, a JSON line each.

Runs in the environment that scripts/bench/peers.js makes, which has llama-cpp-python and nothing of ours.
"""

import argparse
import ctypes
import json
import time
from pathlib import Path

import llama_cpp


def load_backends() -> None:
    """Builds of llama.cpp that keep their processor-specific code in libraries of their own want to be told where."""
    folder = Path(llama_cpp.__file__).parent / "lib"
    library = folder / "libggml.so"
    if library.exists() and any(folder.glob("libggml-cpu-*.so")):
        ctypes.CDLL(str(library)).ggml_backend_load_all_from_path(ctypes.c_char_p(str(folder).encode()))


def decode(context, tokens: list[int], start: int) -> None:
    """One batch at positions start, start + 1, ...; logits of the last token only."""
    batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, start + i, 1
        batch.seq_id[i][0] = 0
        batch.logits[i] = i == len(tokens) - 1
    status = llama_cpp.llama_decode(context, batch)
    llama_cpp.llama_batch_free(batch)
    if status != 0:
        raise RuntimeError(f"llama_decode returned {status}")


def best_rate(context, size: int, step: int, seconds: float) -> float:
    """Tokens per second of the best round; a round is `size` tokens after an empty context, `step` at a time."""
    best, rounds, end = 0.0, 0, time.perf_counter() + seconds
    while rounds < 3 or time.perf_counter() < end:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        start = time.perf_counter()
        for at in range(0, size, step):
            decode(context, [3 + (7 * (at + i)) % 256 for i in range(step)], at)
            llama_cpp.llama_get_logits(context)  # waits for the result
        best = max(best, size / (time.perf_counter() - start))
        rounds += 1
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--name", required=True)
    parser.add_argument("--type", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    arguments = parser.parse_args()

    load_backends()
    silent = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(arguments.model.encode(), llama_cpp.llama_model_default_params())
    if not model:
        raise SystemExit(f"llama.cpp cannot load {arguments.model}")
    settings = llama_cpp.llama_context_default_params()
    settings.n_ctx, settings.n_batch, settings.n_ubatch = 1024, 512, 512
    settings.n_threads = settings.n_threads_batch = arguments.threads
    context = llama_cpp.llama_init_from_model(model, settings)
    for what, step in (("decode", 1), ("prefill", arguments.tokens)):
        rate = best_rate(context, arguments.tokens, step, arguments.seconds)
        line = {"model": arguments.name, "type": arguments.type, "threads": arguments.threads, "tokens_per_s": rate}
        print(json.dumps({"bench": "peer", "what": what, **line}), flush=True)


if __name__ == "__main__":
    main()
