"""Hardening: low-rank fine-tuning that teaches a model to refuse although its refusal direction is taken away.

`refat`: harmful prompts are answered by the model's own refusals while, in a share of the steps, a direction is ablated: the
difference of the class means at a place drawn at random, estimated anew on the model as it is by then. Harmless prompts
keep the model's own answers. Source: refusal feature adversarial training, Yu et al. 2024 (ReFAT); the random place is ours,
so that no single site is what the model learns to do without.

`extended`: nothing is ablated; refusals are longer instead: the model's own in the prompt's language, then one in each of
two other languages. Source: extended refusals, Shairah et al. 2025; that the extension is multilingual is ours.

The result is an adapter that adds refusals; it is merged in memory and the merged weights are measured. Who holds the adapter
apart can take it off: the bench has that row. What is taught stands in `teaching`.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from refusal_lens.core.files import make_folder, write_atomic
from refusal_lens.core.json_files import pretty_json, read_object
from refusal_lens.defences.reading import layers_of, read
from refusal_lens.defences.teaching import HARDENING, Example, Hardening, Recipe, examples_of
from refusal_lens.errors import DataError, UserError
from refusal_lens.interventions import Ablation
from refusal_lens.model import LensModel, assemble, load_model
from refusal_lens.types import JsonValue, Prompt

CARD = "hardening.json"
IGNORED = -100
"""Label of a token that no loss is taken on."""


def known_hardening(name: str) -> Hardening:
    """The name, where there is such a method; else a UserError that lists them."""
    for method in HARDENING:
        if method == name:
            return method
    raise UserError(f"no defence {name!r}: hardening is {', '.join(HARDENING)}")


def harden(
    model: LensModel,
    prompts: Sequence[Prompt],
    *,
    method: Hardening,
    out: Path,
    recipe: Recipe = Recipe(),  # noqa: B008 (frozen)
    refusals: Mapping[str, Sequence[str]] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> LensModel:
    """Train an adapter, write it, and load base and adapter merged.

    Args:
        model: The model, whose files `provenance.spec` names; its own weights are left alone.
        prompts: Labelled prompts; those of split train are learnt from.
        method: refat or extended.
        out: Folder for the adapter and its card.
        recipe: How.
        refusals: Texts by language, for languages in which the model refuses fewer than half of the harmful prompts.
        progress: Told (steps done, steps in all).

    Returns:
        The merged model, in memory.

    Raises:
        UserError: peft is not installed.
        DataError: The model refuses no train prompt, or answers none.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise UserError('hardening needs peft: pip install "refusal-lens[adapters]"') from None
    learnt = [item for item in prompts if item.split == "train"]
    examples, taught = examples_of(model, learnt, method, recipe, refusals or {})
    base = load_model(model.provenance.spec, device=str(model.device), dtype="float32", check=False)
    torch.manual_seed(recipe.seed)
    config = LoraConfig(r=recipe.rank, lora_alpha=2 * recipe.rank, target_modules="all-linear", task_type="CAUSAL_LM")
    wrapped = get_peft_model(base.hf, config)
    trained = assemble(base.hf, base.tokenizer, provenance=base.provenance)
    for name, parameter in base.hf.named_parameters():
        parameter.requires_grad_("lora_" in name)
    losses = _train(trained, examples, learnt, method, recipe, progress)
    make_folder(out)
    wrapped.peft_config["default"].base_model_name_or_path = _base_path(model.provenance.spec)
    wrapped.save_pretrained(str(out), save_embedding_layers=False)  # "auto" would ask the hub for the base
    facts: dict[str, JsonValue] = {
        "method": method,
        "base_digest": model.provenance.digest,
        "languages": list(taught),
        "recipe": cast("dict[str, JsonValue]", asdict(recipe)),
        "loss_first": losses[0],
        "loss_last": sum(losses[-10:]) / len(losses[-10:]),
    }
    write_atomic(out / CARD, pretty_json(facts), mode=0o644)
    return load_hardened(out, model)


def load_hardened(folder: Path, model: LensModel, *, share: float = 1.0) -> LensModel:
    """Base and adapter merged in memory.

    Args:
        folder: What `harden` wrote.
        model: The model that it was trained on.
        share: How much of the adapter is applied; an attacker who holds it apart can turn it down.

    Returns:
        A model of its own.

    Raises:
        DataError: The adapter belongs to another model.
    """
    card = read_object(folder / CARD, advice="name a folder that `refusal-lens defend --method refat` wrote")
    if card.get("base_digest") != model.provenance.digest:
        raise DataError(f"{folder}: this adapter was trained on another model than {model.provenance.spec}")
    device, dtype = str(model.device), model.provenance.dtype
    if share == 1.0:
        return load_model(str(folder), device=device, dtype=dtype)
    with tempfile.TemporaryDirectory() as place:
        for file in ("adapter_config.json", "adapter_model.safetensors"):
            write_atomic(Path(place) / file, (folder / file).read_bytes())
        settings = read_object(Path(place) / "adapter_config.json")
        settings["lora_alpha"] = share * float(cast("float", settings["lora_alpha"]))
        write_atomic(Path(place) / "adapter_config.json", pretty_json(settings))
        return load_model(place, device=device, dtype=dtype)


def _base_path(spec: str) -> str:
    return spec if spec.startswith("testbed:") or not Path(spec).is_dir() else str(Path(spec).absolute())


def _train(
    model: LensModel,
    examples: Mapping[str, Sequence[Example]],
    prompts: Sequence[Prompt],
    method: Hardening,
    recipe: Recipe,
    progress: Callable[[int, int], None] | None,
) -> list[float]:
    """Train what requires gradients; the losses of the steps."""
    drawn = random.Random(recipe.seed + 1)
    weights = [parameter for parameter in model.hf.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=recipe.rate, weight_decay=0.0)
    decay = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.05, total_iters=recipe.steps)
    losses: list[float] = []
    directions: list[Tensor] = []
    for step in range(recipe.steps):
        if method == "refat" and step % recipe.estimated_every == 0:
            directions = _directions(model, prompts, drawn)
        ablated = method == "refat" and drawn.random() < recipe.ablated
        acting = model.edited([Ablation(drawn.choice(directions))]) if ablated else nullcontext()
        with acting:
            loss = _loss(model, drawn.sample(list(examples["harmful"]), min(recipe.batch, len(examples["harmful"]))))
            loss.backward()
        calm = _loss(model, drawn.sample(list(examples["harmless"]), min(recipe.batch, len(examples["harmless"]))))
        calm.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        decay.step()
        losses.append(float(loss.detach() + calm.detach()))
        if progress is not None:
            progress(step + 1, recipe.steps)
    return losses


def _directions(model: LensModel, prompts: Sequence[Prompt], drawn: random.Random) -> list[Tensor]:
    """Differences of the class means at every place, of one language drawn at random, as the model is now."""
    language = drawn.choice(sorted({item.language for item in prompts}))
    groups = [
        [item.text for item in prompts if item.language == language and item.harm == harm]
        for harm in ("harmful", "harmless")
    ]
    if not all(groups):
        return [torch.zeros(model.d_model)]
    layers = layers_of(model)
    means = [read(model, drawn.sample(texts, min(24, len(texts))), layers).mean(0) for texts in groups]
    return list((means[0] - means[1]).flatten(0, 1).to(model.device))


def _loss(model: LensModel, examples: Sequence[Example]) -> Tensor:
    """Mean cross-entropy of the answers' tokens, prompts given."""
    batch = model.batch([item.prompt + item.answer for item in examples])
    labels = torch.full_like(batch.input_ids, IGNORED)
    for row, item in enumerate(examples):
        labels[row, -len(item.answer) :] = torch.tensor(item.answer, device=labels.device)
    longest = max(len(item.answer) for item in examples)
    logits = model.hf(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        position_ids=batch.position_ids,
        use_cache=False,
        logits_to_keep=longest + 1,
    ).logits
    return torch.nn.functional.cross_entropy(
        logits[:, :-1].float().flatten(0, 1), labels[:, -longest:].flatten(), ignore_index=IGNORED
    )
