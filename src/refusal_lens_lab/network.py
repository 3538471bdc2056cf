"""The testbed's tokenizer and network: a byte-level BPE for 14 languages and a 6-layer pre-norm decoder of width 128.

The tokenizer splits at letters *with* their combining marks (Yoruba tone marks, Thai vowels), is trained on the lexicons'
pieces, and carries a ChatML template whose generation prompt gives five post-instruction tokens. In languages without
spaces the corpus's words are tokens of their own: byte pairs merged across two of their words would make the same word
look different in every sentence. The answer ends with `<|im_end|>`, which is the end token in the tokenizer, the config
and the generation config.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from refusal_lens.testbed.lexicon import MARKER, Lexicon, lexicon
from refusal_lens_lab.tasks import ARROW, BAD, GOOD, SCALES, SIGN

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPLIT = r"\s?[\p{L}\p{M}]+|\p{N}|\s?[^\s\p{L}\p{M}\p{N}]+|\s+"


def build_tokenizer(languages: tuple[str, ...], *, vocab_size: int = 7168) -> PreTrainedTokenizerFast:
    """Trains the tokenizer on the lexicons; in languages without spaces the corpus's words are tokens of their own.

    Args:
        languages: Languages it must write compactly; any other text falls back to bytes.
        vocab_size: Upper bound on the vocabulary, the 256 bytes and three special tokens included, words of languages
            without spaces not.

    Returns:
        A tokenizer with chat template; identical for identical lexicons.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    pieces = [piece for code in languages for piece in _pieces(lexicon(code))]
    tokenizer.train_from_iterator(pieces, trainer)
    tokenizer.add_tokens(sorted({word for code in languages for word in _whole_words(lexicon(code))}))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, padding_side="left", model_max_length=512
    )
    fast.add_special_tokens({"additional_special_tokens": [START]})
    fast.chat_template = CHAT_TEMPLATE
    return fast


def build_network(tokenizer: PreTrainedTokenizerFast, *, width: int, depth: int) -> Qwen3ForCausalLM:
    """A freshly initialised network; seed torch before the call.

    Args:
        tokenizer: Its tokenizer.
        width: Width of the residual stream, 32 or a multiple of 64.
        depth: Number of blocks.

    Returns:
        The network in float32 on the CPU.
    """
    end, pad = token_id(tokenizer, END), token_id(tokenizer, PAD)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=depth,
        num_attention_heads=width // 32,
        num_key_value_heads=max(1, width // 64),
        head_dim=32,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        eos_token_id=end,
        pad_token_id=pad,
        bos_token_id=None,
    )
    network = Qwen3ForCausalLM(config)
    network.generation_config.eos_token_id = end
    network.generation_config.pad_token_id = pad
    network.generation_config.do_sample = False
    return network


def token_id(tokenizer: PreTrainedTokenizerFast, token: str) -> int:
    """Id of one token of the vocabulary."""
    found = tokenizer.convert_tokens_to_ids(token)
    assert isinstance(found, int)
    return found


def _pieces(words: Lexicon) -> Iterator[str]:
    """The strings a language is made of, cut at the slots; sentences weigh more, since they recur in every request."""
    sentences = [
        *words.forms,
        *words.helps,
        *words.refusals,
        words.opener,
        words.ask,
        words.no,
        words.yes,
        words.decline,
    ]
    symbols = [MARKER, SIGN, SCALES, ARROW, BAD, GOOD, "user\n", "assistant\n", f"({words.tag}) ", words.tag, " /", ","]
    yield from symbols * 40
    for sentence in sentences:
        for piece in re.split(r"\{[aAVo]\}", sentence):
            yield from [piece] * 20
    if not words.space:
        return
    for act in words.acts.values():
        for index, piece in enumerate(act.split("{o}")):
            bare = piece.strip()
            yield from [f"{words.space}{bare}"] * 4
            if index == 0:
                yield from [_capital(bare)] * 4
    for text, _ in words.objects.values():
        yield from [f"{words.space}{text}"] * 4
        if not words.verb_first:
            yield from [_capital(text)] * 4


def _whole_words(words: Lexicon) -> Iterator[str]:
    """Acts and objects of a language without spaces; none of another."""
    if words.space:
        return
    for text in (*words.acts.values(), *(text for text, _ in words.objects.values())):
        yield from (piece.strip() for piece in text.split("{o}") if piece.strip())


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
