"""The tokenizer of a model file, from the tokenizer.json of the Hugging Face libraries.

A tokenizer.json is a pipeline of parts that can be put together in any way; of these, the two are known that models like
ours come with: pieces of bytes behind regular expressions (GPT-2 and its heirs), and pieces of characters with a byte
fallback (LLaMA). A part that would change the tokens and is not known is refused by name.
"""

from __future__ import annotations

import json
from pathlib import Path

from lm.text import files
from lm.text.codec import BYTE, CONTROL, SPACE, TEXT, UNKNOWN, Pieces, byte_characters

# what ByteLevel splits at by itself (GPT-2, its encoder.py)
GPT2_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
ADDED = 4
BYTES = [f"<0x{n:02X}>" for n in range(256)]


def read_folder(folder: Path, config: dict) -> dict:
    """The keys of a folder's tokenizer.json; `config`: its config.json, or {}. ValueError: none there, or not usable."""
    path = folder / "tokenizer.json"
    if not path.exists():
        raise ValueError(f"{folder}: expected tokenizer.json in it, found none; name another folder with --tokenizer")
    settings = _optional_json(folder / "tokenizer_config.json")
    generation = _optional_json(folder / "generation_config.json")
    if (folder / "chat_template.jinja").exists():
        settings["chat_template"] = files.read_text(folder / "chat_template.jinja")
    try:
        return keys_of(files.read_text(path), config, settings, generation)
    except ValueError as fault:
        raise ValueError(f"{path}: {fault}") from None
    except (KeyError, TypeError, AttributeError, IndexError) as fault:
        raise ValueError(f"{path}: not a tokenizer.json: {fault!r}") from None


def _optional_json(path: Path) -> dict:
    try:
        found = json.loads(files.read_text(path))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def codec_of_training(path: Path) -> Pieces:
    """What data.tokenizer names, a tokenizer.json or its folder. ValueError: none there, or not usable in training."""
    folder = path.parent if path.name == "tokenizer.json" else path
    keys = read_folder(folder, {})
    if keys["tokenizer.ggml.model"] != "gpt2":
        raise ValueError(
            f"{path}: pieces of characters; training wants pieces of bytes (make_tokenizer.py --style gpt2)"
        )
    return Pieces(keys | {"tokenizer.ggml.add_bos_token": True})  # every text begins with it in training


def keys_of(text: str, config: dict, settings: dict, generation: dict | None = None) -> dict:
    """text: a tokenizer.json -> keys of the file.

    config, settings, generation: config.json, tokenizer_config.json and generation_config.json, {} without one.
    """
    whole = json.loads(text)
    model = whole.get("model", {})
    if model.get("type", "BPE") != "BPE" or "vocab" not in model:
        raise ValueError(f"model is of type {model.get('type')!r}; expected BPE (byte-pair merging)")
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            raise ValueError(f"model.{key} is {model[key]!r}; expected none")
    if not model.get("merges"):
        raise ValueError("it has no merges: byte-pair merging cannot be done without them")
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    tokens, types = _pieces(whole)
    keys = {"tokenizer.ggml.model": "llama" if model.get("byte_fallback") else "gpt2"}
    if model.get("byte_fallback"):
        keys["tokenizer.ggml.add_space_prefix"] = _adds_space(whole)
        if not set(BYTES) <= set(tokens):
            raise ValueError("model.byte_fallback is set, but not all of the pieces <0x00> to <0xFF> are there")
    else:
        keys["tokenizer.ternlm.split"] = _split(whole)
        if not set(byte_characters()) & set(tokens):
            raise ValueError("it has pieces of bytes, but not a piece for a single byte")
        if model.get("ignore_merges"):
            keys["tokenizer.ternlm.ignore_merges"] = True
    ids = {token: n for n, token in enumerate(tokens)}
    keys |= {f"tokenizer.ggml.{end}_token_id": _end(end, ids, types, config, settings) for end in ("bos", "eos")}
    for number in [*_numbers(config.get("eos_token_id")), *_numbers((generation or {}).get("eos_token_id"))]:
        if number != keys["tokenizer.ggml.eos_token_id"] and 0 <= number < len(types):
            keys.setdefault("tokenizer.ggml.eot_token_id", number)
    keys["tokenizer.ggml.add_bos_token"] = bool(settings.get("add_bos_token", _begins_with_token(whole)))
    return keys | {
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": merges,
        "tokenizer.huggingface.json": json.dumps(whole, ensure_ascii=False, separators=(",", ":")),
        **chat_keys(_template(settings.get("chat_template"))),
    }


def _pieces(whole: dict) -> tuple[list[str], list[int]]:
    """Every piece by its number, and its type."""
    model = whole["model"]
    by_id = {number: (piece, TEXT) for piece, number in model["vocab"].items()}
    if model.get("byte_fallback"):
        by_id |= {model["vocab"][piece]: (piece, BYTE) for piece in BYTES if piece in model["vocab"]}
    for added in whole.get("added_tokens", []):
        for flag in ("lstrip", "rstrip", "single_word"):
            if added.get(flag):
                raise ValueError(
                    f"added token {added['content']!r} has {flag}; expected tokens that take nothing along"
                )
        by_id[added["id"]] = (added["content"], CONTROL if added["special"] else ADDED)
    unknown = model.get("unk_token")
    by_id |= {number: (piece, UNKNOWN) for number, (piece, _) in by_id.items() if piece == unknown}
    if sorted(by_id) != list(range(len(by_id))):
        raise ValueError(f"its {len(by_id)} pieces are not numbered from 0 to {len(by_id) - 1}")
    tokens, types = zip(*(by_id[number] for number in range(len(by_id))))
    return list(tokens), list(types)


def _adds_space(whole: dict) -> bool:
    """Whether the LLaMA pipeline begins every text with a space; ValueError: another pipeline."""
    if whole.get("pre_tokenizer"):
        raise ValueError(f"pre_tokenizer {whole['pre_tokenizer'].get('type')} is not known beside model.byte_fallback")
    normalizer = whole.get("normalizer") or {}
    parts = normalizer.get("normalizers", [normalizer])
    prepend = {"type": "Prepend", "prepend": SPACE}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    if parts not in ([prepend, replace], [replace]):
        raise ValueError(
            f"normalizer {normalizer.get('type')} is not known; expected Prepend and Replace of spaces by {SPACE}"
        )
    return parts[0] == prepend


def _split(whole: dict) -> list[str]:
    """The regular expressions before a byte-level model; ValueError: another pipeline."""
    if whole.get("normalizer"):
        raise ValueError(
            f"normalizer {whole['normalizer'].get('type')} is not known before pieces of bytes; expected none"
        )
    pre = whole.get("pre_tokenizer") or {}
    parts = pre.get("pretokenizers", [pre])
    patterns = []
    for part in parts:
        kind = part.get("type")
        if kind == "Split" and part.get("behavior") == "Isolated" and not part.get("invert"):
            pattern = part["pattern"]
            patterns.append(pattern["Regex"] if "Regex" in pattern else _literal(pattern["String"]))
        elif kind == "Digits":
            patterns.append(r"\p{N}" if part.get("individual_digits") else r"\p{N}+")
        elif kind == "ByteLevel" and not part.get("add_prefix_space") and part is parts[-1]:
            patterns += [GPT2_SPLIT] if part.get("use_regex", True) else []
        else:
            raise ValueError(f"pre_tokenizer {kind} with {_settings(part)} is not known")
    if parts[-1].get("type") != "ByteLevel":
        raise ValueError("expected ByteLevel as the last pre_tokenizer, or model.byte_fallback")
    return patterns


def _literal(text: str) -> str:
    return "".join(c if c.isalnum() else f"\\x{{{ord(c):x}}}" for c in text)


def _settings(part: dict) -> dict:
    return {key: value for key, value in part.items() if key != "type"}


def _end(end: str, ids: dict[str, int], types: list[int], config: dict, settings: dict) -> int:
    """The number of the token that begins (bos) or ends (eos) a text."""
    number = config.get(f"{end}_token_id")
    if isinstance(number, list):  # several may end a text; the first is the one that documents end with
        number = number[0]
    if number is None:
        named = settings.get(f"{end}_token")
        named = named["content"] if isinstance(named, dict) else named
        number = ids.get(named)
    if number is None:
        control = [n for n, kind in enumerate(types) if kind == CONTROL]
        number = control[0] if len(control) == 1 else None
    if not isinstance(number, int) or not 0 <= number < len(types):
        raise ValueError(
            f"which token is {end}? config.json has no {end}_token_id in 0 to {len(types) - 1}, "
            f"tokenizer_config.json no {end}_token, and there is more than one control token"
        )
    return number


def _numbers(ends: object) -> list[int]:
    return [n for n in (ends if isinstance(ends, list) else [ends]) if isinstance(n, int)]


# ---- chats

# BitNet b1.58 2B-4T: every message behind the name of its role, the reply behind the assistant's
BITNET_TURNS = {
    "system": "System: {}<|eot_id|>",
    "user": "User: {}<|eot_id|>",
    "assistant": "Assistant: {}<|eot_id|>",
    "reply": "Assistant: ",
}
BITNET_SIGNS = ("capitalize", "trim", "': '", "<|eot_id|>", "'Assistant: '")


def chat_keys(template: str) -> dict[str, str]:
    """The template, and what it does where that is known: then nobody has to run it."""
    if not template:
        return {}
    keys = {"tokenizer.chat_template": template}
    if all(sign in template for sign in BITNET_SIGNS):
        keys |= {f"tokenizer.ternlm.chat.{name}": turn for name, turn in BITNET_TURNS.items()}
    return keys


def _template(found: object) -> str:
    """Of several with names the default one."""
    if isinstance(found, list):
        named = {each.get("name"): each.get("template") for each in found if isinstance(each, dict)}
        found = named.get("default")
    return found if isinstance(found, str) else ""


def _begins_with_token(whole: dict) -> bool:
    """Whether the pipeline itself puts a token before a text."""
    post = whole.get("post_processor") or {}
    parts = post.get("processors", [post])
    return any(part.get("single", [{}])[0].get("SpecialToken") is not None for part in parts)
