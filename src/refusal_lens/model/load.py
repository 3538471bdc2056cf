"""Load a chat model from a folder, the hub or this package, and refuse clearly what cannot be audited.

1. Find the files; check configuration, safetensors weights and their index before anything is allocated.
2. Load tokenizer (as tokenizer.json says) and weights (no pickle, remote code only on request).
3. Locate the parts of the decoder and the post-instruction positions, both by observation.
4. With `check`: weights finite, and the first checks of `doctor`.
"""

from __future__ import annotations

import difflib
import hashlib
import logging
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from threading import Thread
from typing import cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from refusal_lens.errors import ModelError
from refusal_lens.model.batches import padded
from refusal_lens.model.files import check_files
from refusal_lens.model.fit import context_of
from refusal_lens.model.kinds import check_kind
from refusal_lens.model.layout import locate
from refusal_lens.model.lens import LensModel, ModelProvenance
from refusal_lens.model.network import check_finite, load_network, stored_as
from refusal_lens.model.products import arrange_for_cpu
from refusal_lens.model.source import (
    Source,
    adapter_digest,
    first_line,
    locate_source,
    open_config,
    source_digest,
    with_thinking,
)
from refusal_lens.model.template import examine_template
from refusal_lens.model.tokens import PROBES, open_tokenizer, post_instruction_length, render

log = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_model(
    spec: str,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    chat_template: Path | None = None,
    thinking: str = "auto",
    trust_remote_code: bool = False,
    check: bool = True,
) -> LensModel:
    """Load a chat model.

    Args:
        spec: Hub id, folder, or `testbed:NAME`.
        revision: Branch, tag or commit of a hub model.
        device: "auto", "cpu", "cuda", "cuda:1", ..; "auto" spreads over several accelerators where one machine has them.
        dtype: "auto" (float32 on a CPU, bfloat16 on an accelerator), "float32", "bfloat16" or "float16".
        chat_template: Jinja file that replaces the model's own chat template.
        thinking: "on" or "off" by the chat template's own switch (`switch`), "auto" for what it does by itself.
        trust_remote_code: Run Python code that comes with the model. Only for models whose code you have read.
        check: Look for NaN and infinite weights and test what was located.

    Returns:
        The model, in evaluation mode, without gradients.

    Raises:
        ModelError: It cannot be loaded, or lacks what an audit needs; the message says what and what to do.
    """
    source = locate_source(spec, revision=revision, code=trust_remote_code)
    check_files(source)
    placed = _device(device)
    number = _dtype(dtype, placed)
    tokenizer = open_tokenizer(
        source, chat_template=chat_template, thinking=thinking, trust_remote_code=trust_remote_code
    )
    Thread(target=_read_ahead, args=(source,), daemon=True).start()
    network = load_network(source, placed, number, spread=device == "auto", trust_remote_code=trust_remote_code)
    if source.adapter is not None:
        from refusal_lens.model.adapters import merge_adapter

        network = merge_adapter(network, source.adapter, render(tokenizer, PROBES[:1])[0])
    arrange_for_cpu(network)
    if check:
        check_finite(network, source)
    model = assemble(network, tokenizer, provenance=_provenance(source, network, tokenizer, thinking))
    log.info(
        "%s: %s, %d layers, d_model %d, %s, positions %s",
        spec,
        model.provenance.architecture,
        model.n_layers,
        model.d_model,
        model.layout.name,
        model.positions,
    )
    if check:
        from refusal_lens.model.checks import check_located

        check_located(model)
    return model


def resolve_device(device: str = "auto") -> str:
    """The kind of device that `load_model` would use, e.g. "cpu" or "cuda"; ModelError where there is none."""
    return _device(device).type


def resolve_dtype(dtype: str, *, device: str = "auto") -> str:
    """The number format that `load_model` uses with these arguments, told without loading anything.

    Args:
        dtype: As for `load_model`.
        device: As for `load_model`.

    Returns:
        "float32", "bfloat16" or "float16"; never "auto".

    Raises:
        ModelError: There is no such device or number format here.
    """
    return str(_dtype(dtype, _device(device))).removeprefix("torch.")


def identify(model: LensModel) -> str:
    """What identifies a loaded model, the same as `fingerprint` gives for its files where it reads their own template.

    Args:
        model: The model; its weights are those of its files.

    Returns:
        sha256, hexadecimal.
    """
    known = model.provenance
    try:
        own = open_tokenizer(locate_source(known.spec, revision=known.revision), thinking=known.thinking)
    except ModelError:  # put together by hand
        return known.digest
    if hashlib.sha256(str(own.chat_template).encode()).hexdigest() == known.template_digest:
        return with_thinking(known.digest, known.thinking)
    return hashlib.sha256(f"{known.digest}\0{known.template_digest}".encode()).hexdigest()


def check_source(
    spec: str,
    *,
    revision: str | None = None,
    chat_template: Path | None = None,
    thinking: str = "auto",
    trust_remote_code: bool = False,
) -> None:
    """Look at everything about a model that needs no weights in memory, in about a second.

    Args:
        spec: Hub id, folder, or `testbed:NAME`.
        revision: Branch, tag or commit of a hub model.
        chat_template: Jinja file that replaces the model's own chat template.
        thinking: "on" or "off" by the chat template's own switch (`switch`), "auto" for what it does by itself.
        trust_remote_code: Run Python code that comes with the model.

    Raises:
        ModelError: Files are missing or damaged, or tokenizer or chat template cannot be used.
    """
    source = locate_source(spec, revision=revision, code=trust_remote_code)
    check_files(source)
    check_kind(spec, open_config(source, trust_remote_code=trust_remote_code))
    tokenizer = open_tokenizer(
        source, chat_template=chat_template, thinking=thinking, trust_remote_code=trust_remote_code
    )
    post_instruction_length(tokenizer)


def assemble(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, provenance: ModelProvenance) -> LensModel:
    """Put a network and its tokenizer together: locate parts, positions and end tokens.

    Args:
        network: The transformers model.
        tokenizer: Its tokenizer, with a chat template.
        provenance: Where they come from.

    Returns:
        The model.

    Raises:
        ModelError: The two do not fit together, or no decoder was found.
    """
    network.eval().requires_grad_(False)
    positions = post_instruction_length(tokenizer)
    token_ids = render(tokenizer, PROBES[:2])
    embedding = network.get_input_embeddings()
    rows = next(embedding.parameters()).shape[0]
    largest = max(max(ids) for ids in token_ids)
    if largest >= rows:
        raise ModelError(
            f"the tokenizer gives id {largest} but the model has {rows} embeddings: they do not belong together"
        )
    pad = tokenizer.pad_token_id
    pad_id = pad if isinstance(pad, int) and pad < rows else 0
    config = network.config.get_text_config()
    batch = padded(token_ids, [0, 1], pad=pad_id, device=next(embedding.parameters()).device)

    def forward() -> object:
        return network(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            use_cache=False,
        )

    layers = getattr(config, "num_hidden_layers", None)
    if isinstance(layers, int) and layers < 1:
        raise ModelError(f"config.json says that the model has {layers} layers; correct num_hidden_layers")
    try:
        layout = locate(network, forward, n_layers=layers)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise ModelError(f"{type(network).__name__} does not run on a text prompt: {first_line(error)}") from error
    ends = _end_ids(network, tokenizer)
    turn_end, notes = examine_template(tokenizer, ends)
    return LensModel(
        hf=network,
        tokenizer=tokenizer,
        layout=layout,
        positions=tuple(range(-positions, 0)),
        provenance=replace(provenance, template=notes),
        end_ids=ends if turn_end is None else tuple(sorted((*ends, turn_end))),
        pad_id=pad_id,
        context=context_of(config),
    )


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device(
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelError(f"no device {name!r} here: {first_line(error)}; use cpu, cuda, cuda:N or auto") from error
    return device


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    if name not in DTYPES:
        near = difflib.get_close_matches(name, DTYPES, n=1)
        raise ModelError(
            f"no dtype {name!r}; {f'did you mean {near[0]}?' if near else 'use auto, ' + ', '.join(DTYPES)}"
        )
    return DTYPES[name]


def _end_ids(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    named = getattr(network.generation_config, "eos_token_id", None)
    listed = cast("list[object]", list(named) if isinstance(named, (list, tuple)) else [named])
    found: set[int] = set()
    for number in (*listed, tokenizer.eos_token_id):
        if isinstance(number, int):
            found.add(number)
        elif number is not None:
            raise ModelError(f"eos_token_id {number!r} is no token id; correct generation_config.json and config.json")
    return tuple(sorted(found))


def _read_ahead(source: Source) -> None:
    """Digest the files while others read them; who asks for the digest waits for this, and meets its errors."""
    with suppress(OSError):
        source_digest(source)


def _provenance(
    source: Source, network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, thinking: str
) -> ModelProvenance:
    return ModelProvenance(
        spec=source.spec,
        revision=source.revision,
        digest=source_digest(source),
        architecture=type(network).__name__,
        dtype=str(network.dtype).removeprefix("torch."),
        device=str(next(network.parameters()).device),
        template_digest=hashlib.sha256(str(tokenizer.chat_template).encode()).hexdigest(),
        versions={name: version(name) for name in ("torch", "transformers", "tokenizers")},
        stored=stored_as(source, network.config),
        thinking=thinking,
        adapter=None if source.adapter is None else f"{source.adapter} ({adapter_digest(source.adapter)[:12]})",
    )
