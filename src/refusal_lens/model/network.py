"""Load a network's weights by transformers, and refuse what did not load as its files say.

1. Only kinds that write text. A GGUF file is dequantised; other quantised weights need the package that reads them.
2. Every weight that the configuration asks for was found, in its shape; with `check_finite`, every one is a number.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import torch
from safetensors import safe_open
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_MULTIMODAL_LM_MAPPING,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING
from transformers.utils import logging as transformers_logging
from transformers.utils.quantization_config import GgufConfig

from refusal_lens.errors import ModelError
from refusal_lens.model.kinds import ADAPTER, check_kind
from refusal_lens.model.source import Source, first_line, open_config

log = logging.getLogger(__name__)


def load_network(
    source: Source, device: torch.device, dtype: torch.dtype, *, spread: bool, trust_remote_code: bool
) -> PreTrainedModel:
    """Load the weights of a model's files, without the adapter that may belong to them.

    Args:
        source: The model's files.
        device: Where to.
        dtype: Number format.
        spread: Use every accelerator of the machine.
        trust_remote_code: Whether the model's own code may run.

    Returns:
        The network.

    Raises:
        ModelError: It is of a kind that is not audited, incomplete, or transformers cannot load it.
    """
    several = spread and device.type == "cuda" and torch.cuda.device_count() > 1
    transformers_logging.disable_progress_bar()
    config = open_config(source, trust_remote_code=trust_remote_code)
    check_kind(source.spec, config)
    method = quantised_by(config)
    if method is not None and not _known_method(method):  # transformers would load its weights as if they were plain
        raise ModelError(f"{source.spec} is quantised in a way that transformers does not know ({method})")
    family = _family(source.spec, config, trust_remote_code=trust_remote_code)
    stored = {"quantization_config": GgufConfig(dequantize=True)} if source.gguf is not None else {}
    try:
        with _without_adapter(source.folder) as folder:
            loaded = family.from_pretrained(
                str(folder),
                config=config,
                dtype=dtype,
                device_map="auto" if several else {"": device},
                use_safetensors=True,
                trust_remote_code=trust_remote_code,
                ignore_mismatched_sizes=True,  # named below, in one line
                output_loading_info=True,
                **source.gguf_option,
                **stored,
            )
    except Exception as error:  # a foreign configuration, or foreign code that was asked for, can raise anything
        raise ModelError(_why_not_loaded(source.spec, config, error)) from error
    network, report = cast("tuple[PreTrainedModel, dict[str, set[str]]]", loaded)
    _check_complete(source.spec, report, config)
    return network


@contextmanager
def _without_adapter(folder: Path) -> Generator[Path, None, None]:
    """The folder; where an adapter lies beside the weights, links to its other files: it is merged by us, or would be wrapped."""
    if not (folder / ADAPTER).exists():
        yield folder
        return
    with TemporaryDirectory() as bare:
        for path in folder.iterdir():
            if path.name != ADAPTER:
                (Path(bare) / path.name).symlink_to(path.absolute())
        yield Path(bare)


def _family(spec: str, config: PreTrainedConfig, *, trust_remote_code: bool) -> type[AutoModelForCausalLM]:
    """The loader of a configuration: of text models, or of wrappers around one."""
    for mapping, family in (
        (MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM),
        (MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, AutoModelForImageTextToText),
        (MODEL_FOR_MULTIMODAL_LM_MAPPING, AutoModelForMultimodalLM),
    ):
        if type(config) in mapping:
            return cast("type[AutoModelForCausalLM]", family)
    if trust_remote_code:
        return AutoModelForCausalLM
    raise ModelError(f"{spec} is no model that writes text (model type {config.model_type}); name a chat model")


def quantised_by(config: PreTrainedConfig) -> str | None:
    """The method by which weights are quantised, as their configuration names it."""
    named = getattr(config, "quantization_config", None)
    found = named.get("quant_method") if isinstance(named, dict) else getattr(named, "quant_method", None)
    return None if named is None else str(getattr(found, "value", found))


def _why_not_loaded(spec: str, config: PreTrainedConfig, error: Exception) -> str:
    method = quantised_by(config)
    if method is None:
        return f"cannot load {spec}: {first_line(error)}"
    why = first_line(error).rstrip(".")
    return f"cannot load {spec}, which is quantised ({method}): {why}; or use the model it was made of"


def _check_complete(spec: str, report: dict[str, set[str]], config: PreTrainedConfig) -> None:
    unlike = sorted(cast("set[tuple[str, tuple[int, ...], tuple[int, ...]]]", report["mismatched_keys"]))
    if unlike:
        name, stored, asked = unlike[0]
        raise ModelError(
            f"{spec}: {len(unlike)} weights have another shape than config.json asks for (first: {name} is "
            f"{list(stored)}, not {list(asked)}); weights and configuration do not belong together"
        )
    missing = sorted(report["missing_keys"])
    saved = str((getattr(config, "architectures", None) or [""])[0])
    if missing and saved.endswith("Model") and not saved.endswith("LMHeadModel"):
        raise ModelError(f"{spec} was saved as {saved}, without the head that writes tokens; name the whole model")
    if missing:
        first = f"{len(missing)} weights its configuration asks for (first: {missing[0]})"
        raise ModelError(f"{spec} lacks {first}; download the model again")
    unused = sorted(report["unexpected_keys"])
    if unused:
        log.warning("%s: %d weights of its files have no place in the model (first: %s)", spec, len(unused), unused[0])


def check_finite(network: nn.Module, source: Source) -> None:
    """Refuse weights that are no numbers.

    Args:
        network: The loaded network.
        source: Its files.

    Raises:
        ModelError: NaN or infinity, in the file or because float16 cannot hold a number.
    """
    for name, parameter in network.named_parameters():
        if (
            not parameter.is_floating_point()
            or parameter.device.type == "meta"
            or torch.isfinite(parameter.sum(dtype=torch.float32))
        ):
            continue
        bad = int((~torch.isfinite(parameter.float())).sum())
        if not bad:
            continue
        if parameter.dtype == torch.float16 and _stored_finite(source.folder, name):
            raise ModelError(
                f"{source.spec}: {bad} of {parameter.numel()} numbers in {name} are beyond float16, whose largest is 65,504; "
                "use --dtype bfloat16 or float32"
            )
        raise ModelError(
            f"{source.spec}: {bad} of {parameter.numel()} numbers in {name} are NaN or infinite; the file is damaged"
        )


def _stored_finite(folder: Path, name: str) -> bool:
    """Whether a weight is finite in the file it was read from (False where no file has it under that name)."""
    for file in folder.glob("*.safetensors"):
        with safe_open(str(file), framework="pt") as opened:
            if name in opened.keys():  # noqa: SIM118 (not a dict)
                return bool(torch.isfinite(opened.get_tensor(name).float()).all())
    return False


def stored_as(source: Source, config: PreTrainedConfig) -> str | None:
    """How weights are stored where not as plain numbers."""
    if source.gguf is None:
        method = quantised_by(config)
        return None if method is None else f"quantised ({method})"
    from gguf import GGUFReader

    kinds = Counter(tensor.tensor_type.name for tensor in GGUFReader(str(source.folder / source.gguf)).tensors)
    return f"GGUF ({', '.join(name for name, _ in kinds.most_common())}), dequantised"


def _known_method(method: str) -> bool:
    return any(known == method or known.startswith(f"{method}_") for known in AUTO_QUANTIZATION_CONFIG_MAPPING)
