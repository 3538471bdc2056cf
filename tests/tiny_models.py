"""Tiny random chat models of many architectures, in hub-like folders, all with one small tokenizer and chat template.

`build(name, folder)` writes config.json, model.safetensors, tokenizer.json and the template; `ARCHITECTURES` names them.
Norm gains and biases are randomised too: with gains of one and biases of zero half of the mistakes do not show.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

TEMPLATE = (
    "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
PAD, END = 0, 2
TEXT = (
    "user assistant system Tell me a story about cats and dogs. What is seven plus five? Write a poem. How do I bake bread? "
    "I cannot help with that. Sure, here it is. Erzähle mir eine Geschichte. Wie backe ich Brot? Das kann ich nicht. "
    "写一首诗。我不能帮忙。 Ẹ jọ̀ọ́, sọ ìtàn kan fún mi. اكتب لي قصة. เขียนบทกวี 한국어로 답해 주세요. Напиши стихотворение."
)
VOCABULARY = 400
WIDTH = 32
LAYERS = 3

_ATTENTION = {"num_attention_heads": 4, "num_key_value_heads": 2}
_COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 56,
    "num_hidden_layers": LAYERS,
    "max_position_embeddings": 512,
    "initializer_range": 0.15,
    "bos_token_id": PAD,
    "eos_token_id": END,
    "pad_token_id": PAD,
}
_LLAMA = {**_COMMON, **_ATTENTION}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
_ROPE = {"rope_type": "default", "rope_theta": 10000.0}


def _gemma3_text() -> dict[str, object]:
    return {
        **_LLAMA,
        "head_dim": 8,
        "query_pre_attn_scalar": 8,
        "sliding_window": 16,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    }


def _vision_language() -> hf.PreTrainedModel:
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
    }
    config = hf.Gemma3Config(
        text_config={**_gemma3_text(), "model_type": "gemma3_text"},
        vision_config={**vision, "model_type": "siglip_vision_model"},
        mm_tokens_per_image=4,
        image_token_index=VOCABULARY - 1,
        boi_token_index=VOCABULARY - 2,
        eoi_token_index=VOCABULARY - 3,
    )
    return hf.Gemma3ForConditionalGeneration(config)


ARCHITECTURES: dict[str, Callable[[], hf.PreTrainedModel]] = {
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**_LLAMA, attention_bias=True, mlp_bias=True)),
    "mistral": lambda: hf.MistralForCausalLM(hf.MistralConfig(**_LLAMA, sliding_window=16)),
    "qwen2": lambda: hf.Qwen2ForCausalLM(hf.Qwen2Config(**_LLAMA, tie_word_embeddings=True)),
    "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**_LLAMA, head_dim=8)),
    "gemma2": lambda: hf.Gemma2ForCausalLM(
        hf.Gemma2Config(**_LLAMA, head_dim=8, query_pre_attn_scalar=8, sliding_window=16)
    ),
    "gemma3": lambda: hf.Gemma3ForCausalLM(hf.Gemma3TextConfig(**_gemma3_text())),
    "phi": lambda: hf.PhiForCausalLM(hf.PhiConfig(**_LLAMA)),
    "phi3": lambda: hf.Phi3ForCausalLM(hf.Phi3Config(**_LLAMA)),
    "olmo2": lambda: hf.Olmo2ForCausalLM(hf.Olmo2Config(**_LLAMA)),
    "gpt_neox": lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**_COMMON, num_attention_heads=4)),
    "falcon": lambda: hf.FalconForCausalLM(
        hf.FalconConfig(
            **{k: v for k, v in _COMMON.items() if k != "intermediate_size"},
            num_attention_heads=4,
            bias=True,
            alibi=False,
        )
    ),
    "gpt2": lambda: hf.GPT2LMHeadModel(
        hf.GPT2Config(
            vocab_size=VOCABULARY,
            n_embd=WIDTH,
            n_layer=LAYERS,
            n_head=4,
            n_positions=512,
            initializer_range=0.15,
            bos_token_id=PAD,
            eos_token_id=END,
            pad_token_id=PAD,
        )
    ),
    "cohere2": lambda: hf.Cohere2ForCausalLM(hf.Cohere2Config(**_LLAMA, sliding_window=16)),
    "mixtral": lambda: hf.MixtralForCausalLM(hf.MixtralConfig(**_LLAMA, num_local_experts=4, num_experts_per_tok=2)),
    "qwen3_moe": lambda: hf.Qwen3MoeForCausalLM(
        hf.Qwen3MoeConfig(**_LLAMA, **_EXPERTS, head_dim=8, decoder_sparse_step=1, mlp_only_layers=[0])
    ),
    "olmoe": lambda: hf.OlmoeForCausalLM(hf.OlmoeConfig(**_LLAMA, num_experts=4, num_experts_per_tok=2)),
    "deepseek_v3": lambda: hf.DeepseekV3ForCausalLM(
        hf.DeepseekV3Config(
            **{**_COMMON, "num_attention_heads": 4, "num_key_value_heads": 4},
            moe_intermediate_size=24,
            n_routed_experts=4,
            n_shared_experts=1,
            num_experts_per_tok=2,
            n_group=2,
            topk_group=1,
            first_k_dense_replace=1,
            q_lora_rank=16,
            kv_lora_rank=16,
            qk_rope_head_dim=4,
            qk_nope_head_dim=8,
            v_head_dim=8,
        )
    ),
    "gpt_oss": lambda: hf.GptOssForCausalLM(
        hf.GptOssConfig(
            **_LLAMA, head_dim=8, num_local_experts=4, num_experts_per_tok=2, sliding_window=16, rope_parameters=_ROPE
        )
    ),
    "llama4": lambda: hf.Llama4ForCausalLM(
        hf.Llama4TextConfig(
            **_LLAMA,
            intermediate_size_mlp=48,
            head_dim=8,
            num_local_experts=4,
            num_experts_per_tok=1,
            attention_chunk_size=64,
            interleave_moe_layer_step=2,
        )
    ),
    "gemma3_vision": _vision_language,
}
"""Builders by name: the 19 text architectures, and a vision-language wrapper with a nested text model."""


@cache
def _tokenizer_json() -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 8,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    return tokenizer.to_str()


def tokenizer() -> hf.PreTrainedTokenizerFast:
    """The shared tokenizer, with its chat template."""
    made = hf.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_tokenizer_json()),
        eos_token=SPECIAL[2],
        pad_token=SPECIAL[0],
        extra_special_tokens=[SPECIAL[1]],
    )
    made.chat_template = TEMPLATE
    made.padding_side = "left"
    return made


def network(name: str, *, seed: int = 0) -> hf.PreTrainedModel:
    """A random network of an architecture, float32, norm gains and biases randomised."""
    torch.manual_seed(seed)
    made = ARCHITECTURES[name]()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim == 1 or "bias" in str(parameter.shape):
                parameter.add_(torch.randn_like(parameter) * 0.2)
            elif float(parameter.std()) < 0.05:
                parameter.normal_(0, 0.15)  # some classes start at 0.02, where the embedding drowns every block
    made.generation_config.eos_token_id = END
    made.generation_config.pad_token_id = PAD
    return made.eval()


def build(name: str, folder: Path, *, seed: int = 0) -> Path:
    """Write a tiny random chat model of an architecture into a hub-like folder.

    Args:
        name: One of `ARCHITECTURES`.
        folder: Where to; made if missing.
        seed: Seed of the weights.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    network(name, seed=seed).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder
