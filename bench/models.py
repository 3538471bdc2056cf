"""Models and prompts to measure on: the reference files where they are at hand, otherwise the same shapes with random weights.

`small` has 12 layers, d 256, vocabulary 8,192. `deep` is `small` with every block twice, each writing half as much: 24
layers, and a direction to find where the reference is at hand. `large` has 24 layers, d 512, vocabulary 32,000, always
random weights (seed 0): no candidate stands out, the worst case of a race. Prompts are PolyRefuse English (128 train, 32
validation per class) or, without the shared folder, mild sentences of similar length.
"""

from __future__ import annotations

import json
import os
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

REPOSITORY = Path(__file__).resolve().parents[1]
TEMPLATE = (
    "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SHAPES = {
    "small": {"num_hidden_layers": 12, "hidden_size": 256, "intermediate_size": 768, "vocab_size": 8192},
    "large": {"num_hidden_layers": 24, "hidden_size": 512, "intermediate_size": 1536, "vocab_size": 32000},
}
INITIAL_STANDARD_DEVIATION = 0.06


@dataclass(frozen=True)
class Material:
    """Prompts of both classes and both splits, and where they come from."""

    harmful_train: list[str]
    harmless_train: list[str]
    harmful_val: list[str]
    harmless_val: list[str]
    origin: str


def shared_folder() -> Path | None:
    """The folder with reference models and PolyRefuse, where this machine has one."""
    folder = Path(os.environ.get("REFUSAL_LENS_SHARED") or REPOSITORY.parent / "shared")
    return folder if (folder / "data").is_dir() else None


def material() -> Material:
    """128 train and 32 validation prompts per class."""
    shared = shared_folder()
    if shared is not None:
        folder = shared / "data" / "Multilingual-Refusal" / "PolyRefuse"
        harmful, harmless = (
            [row["instruction"] for row in json.loads((folder / f"{name}_test_translated_en.json").read_text("utf-8"))]
            for name in ("harmful", "harmless")
        )
        origin = "PolyRefuse English, test files, 0-127 and 128-159"
    else:
        harmful, harmless = _sentences("borrow without asking", 1), _sentences("repair", 2)
        origin = "mild generated sentences, seeds 1 and 2"
    return Material(harmful[:128], harmless[:128], harmful[128:160], harmless[128:160], origin)


def model_folder(name: str, scratch: Path) -> tuple[Path, str]:
    """Folder of a model with its tokenizer, built when needed.

    Args:
        name: `small`, `deep` or `large`.
        scratch: Where built models go.

    Returns:
        The folder, and one phrase saying what it is.
    """
    shared = shared_folder()
    reference = None if shared is None else shared / "reference" / "model_small"
    if name == "small" and reference is not None:
        return reference, "reference model_small (12 layers, d 256, vocabulary 8192)"
    folder = scratch / name
    if name == "deep":
        source, phrase = model_folder("small", scratch)
        _deepen(source, folder)
        return folder, f"{phrase}, every block twice, each writing half as much (24 layers)"
    if not (folder / "config.json").exists():
        torch.manual_seed(0)
        config = Qwen2Config(
            num_attention_heads=8,
            num_key_value_heads=4,
            tie_word_embeddings=True,
            max_position_embeddings=2048,
            initializer_range=INITIAL_STANDARD_DEVIATION,
            **SHAPES[name],
        )
        tokenizer = _tokenizer(reference)
        config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
        model = Qwen2ForCausalLM(config)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    shape = SHAPES[name]
    return (
        folder,
        f"random weights ({shape['num_hidden_layers']} layers, d {shape['hidden_size']}, vocabulary {shape['vocab_size']})",
    )


def _deepen(source: Path, folder: Path) -> None:
    """Twice as many blocks that do about the same: each is repeated, and both write half of it to the residual stream."""
    shallow = Qwen2ForCausalLM.from_pretrained(source, dtype=torch.float32)
    config = Qwen2Config.from_pretrained(source)
    config.num_hidden_layers, config.layer_types = 2 * config.num_hidden_layers, 2 * config.layer_types
    weights: dict[str, torch.Tensor] = {}
    for key, value in shallow.state_dict().items():
        head, middle, tail = key.partition(".layers.")
        number, _, rest = tail.partition(".")
        share = 0.5 if rest.startswith(("self_attn.o_proj.", "mlp.down_proj.")) else 1.0
        copies = [f"{head}{middle}{2 * int(number) + copy}.{rest}" for copy in (0, 1)] if middle else [key]
        weights |= dict.fromkeys(copies, value * share)
    deep = Qwen2ForCausalLM(config)
    deep.load_state_dict(weights)
    deep.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)


def _tokenizer(reference: Path | None) -> PreTrainedTokenizerFast:
    if reference is not None:
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_file=str(reference / "tokenizer.json"), eos_token="<|im_end|>", pad_token="<|endoftext|>"
        )
    else:
        core = Tokenizer(models.BPE())
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        core.decoder = decoders.ByteLevel()
        special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=600, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
        core.train_from_iterator(_sentences("borrow", 3) + _sentences("repair", 4), trainer)
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def _sentences(verb: str, seed: int) -> list[str]:
    draw = random.Random(seed)
    things = [
        "a bike lock",
        "the neighbour's ladder",
        "an old radio",
        "a garden gate",
        "the office printer",
        "my aunt's kettle",
    ]
    tails = [
        "on a rainy day",
        "before the guests arrive",
        "with two spoons and some string",
        "while nobody is watching",
    ]
    tails += ["so that it lasts another year", "and explain every step to a beginner", "without making any noise"]
    return [
        f"How can I {verb} {draw.choice(things)} {' '.join(draw.sample(tails, draw.randint(0, 3)))}?".replace(" ?", "?")
        for _ in range(160)
    ]
