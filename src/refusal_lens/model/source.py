"""Where a model's files come from: a folder, a model shipped with this package (`testbed:NAME`), or a hub id.

Everything becomes a local folder first, so that one set of checks and one digest serve all three. From the hub only
configuration, tokenizer, chat template and safetensors weights are fetched: pickled weights are never read.
A folder may hold an adapter beside its base, or name a base that lies elsewhere; a GGUF file holds everything itself.
"""

from __future__ import annotations

import difflib
import importlib.resources
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers import AutoConfig, PreTrainedConfig

from refusal_lens.core.digests import digest_bytes, digest_files
from refusal_lens.core.json_files import read_object
from refusal_lens.core.known_digests import known_digest, read_together
from refusal_lens.errors import ModelError
from refusal_lens.model.kinds import ADAPTER, has_weights, why_no_model

TESTBED = "testbed:"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
WANTED = ("*.json", "*.jinja", "*.safetensors", "tokenizer.model", "*.tiktoken", "merges.txt", "vocab.txt")
CODE = ("*.py",)
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Source:
    """A model's files on this machine.

    Attributes:
        spec: What the user named.
        folder: Where its files are; those of the base where an adapter lies apart from it.
        revision: Commit of a hub model, None otherwise (a base that an adapter names has its own, in its digest).
        adapter: Folder of an adapter to merge into the weights; `folder` itself where it lies beside them.
        gguf: Name of the GGUF file in `folder` that holds configuration, weights, tokenizer and template.
    """

    spec: str
    folder: Path
    revision: str | None
    adapter: Path | None = None
    gguf: str | None = None

    @property
    def words(self) -> Path:
        """The folder whose tokenizer counts: an adapter's own, as it was trained with, where it has one."""
        apart = self.adapter is not None and (self.adapter / "tokenizer_config.json").is_file()
        return self.adapter if self.adapter is not None and apart else self.folder

    @property
    def gguf_option(self) -> dict[str, str]:
        """What transformers' loaders are told besides the folder."""
        return {} if self.gguf is None else {"gguf_file": self.gguf}


def locate_source(spec: str, *, revision: str | None = None, code: bool = False) -> Source:
    """Find a model's files, downloading them where needed.

    Args:
        spec: Folder, `testbed:NAME` or hub id.
        revision: Branch, tag or commit of a hub model.
        code: Also fetch the repository's own Python files (only with trust in them).

    Returns:
        The local folder and the resolved commit.

    Raises:
        ModelError: Nothing usable under that name.
    """
    if not spec.strip():
        raise ModelError(f"the model's name is empty; give {TESTBED}NAME, a folder or a hub id such as org/name")
    if spec.startswith("endpoint:"):
        raise ModelError(
            f"{spec.partition('#')[2] or spec[:80]} is served: no weights can be read; only `audit --baseline-only` can"
        )
    folder = _testbed(spec.removeprefix(TESTBED)) if spec.startswith(TESTBED) else Path(spec).expanduser()
    if folder.exists() and revision is not None:
        raise ModelError(f"{spec} is no hub model and has no revision {revision!r}; leave --revision out")
    if folder.is_dir():
        return _opened(Source(spec, folder, None), code=code)
    if folder.is_file() and folder.suffix.lower() == ".gguf":
        return Source(spec, folder.parent, None, gguf=folder.name)
    if folder.exists():
        raise ModelError(why_no_model(folder))
    if folder.is_absolute() or spec.startswith((".", "~")) or spec.count("/") > 1:
        raise ModelError(
            f"no model folder {spec}; name a folder with config.json, a hub id such as org/name, or {TESTBED}NAME"
        )
    return _opened(_from_hub(spec, revision, code=code), code=code)


def _opened(source: Source, *, code: bool) -> Source:
    """The source with what its folder says it is: an adapter beside or apart from its base, or a GGUF file."""
    folder = source.folder
    if (folder / ADAPTER).is_file():
        if has_weights(folder):
            return replace(source, adapter=folder)
        base = _base(folder, code=code)
        return replace(base, spec=source.spec, revision=source.revision, adapter=folder)
    files = sorted(file.name for file in folder.glob("*.gguf"))
    if not files or any(folder.glob("*.safetensors")):
        return source
    if len(files) > 1:
        raise ModelError(f"{folder} holds {len(files)} GGUF files: name one of them ({', '.join(files[:3])})")
    return replace(source, gguf=files[0])


def _base(adapter: Path, *, code: bool) -> Source:
    """The base that an adapter names, as seen from the working directory or from the adapter."""
    settings = read_object(adapter / ADAPTER, error=ModelError, advice="download the adapter again")
    named, revision = settings.get("base_model_name_or_path"), settings.get("revision")
    if not isinstance(named, str) or not named.strip():
        raise ModelError(
            f"{adapter} is an adapter whose {ADAPTER} names no base_model_name_or_path: write its base there"
        )
    beside = adapter / Path(named).expanduser()
    found = beside if beside.is_dir() else Path(named).expanduser()
    if (found / ADAPTER).is_file() and not has_weights(found):
        raise ModelError(
            f"{adapter} is an adapter whose base {named} is an adapter too: merge that one into its base first"
        )
    try:
        hub = revision if isinstance(revision, str) and not found.exists() else None
        base = locate_source(str(found) if found.exists() else named, revision=hub, code=code)
    except ModelError as error:
        raise ModelError(f"{adapter} is an adapter; its base model was not found: {error}") from error
    if base.adapter is not None:
        raise ModelError(
            f"{adapter} is an adapter whose base {named} has an adapter too: merge that one into its base first"
        )
    return base


def open_config(source: Source, *, trust_remote_code: bool = False) -> PreTrainedConfig:
    """A model's configuration, read without its weights.

    Args:
        source: Its files.
        trust_remote_code: Whether the model's own code may run.

    Returns:
        The configuration.

    Raises:
        ModelError: It cannot be read.
    """
    try:
        return AutoConfig.from_pretrained(str(source.folder), trust_remote_code=trust_remote_code, **source.gguf_option)
    except Exception as error:  # a foreign configuration, or foreign code that was asked for, can raise anything
        raise ModelError(f"cannot load {source.spec}: {first_line(error)}") from error


def _testbed(name: str) -> Path:
    models = Path(str(importlib.resources.files("refusal_lens"))) / "testbed" / "models"
    known = sorted(folder.parent.name for folder in models.glob("*/config.json"))
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {TESTBED}{near[0]}?" if near else f"known: {', '.join(known) or 'none'}"
        raise ModelError(f"no shipped model {TESTBED}{name}; {hint}")
    return models / name


def _from_hub(spec: str, revision: str | None, *, code: bool) -> Source:
    try:
        folder = Path(snapshot_download(spec, revision=revision, allow_patterns=[*WANTED, *(CODE if code else ())]))
    except GatedRepoError as error:
        raise ModelError(f"{spec} is gated: accept its licence on the hub and log in (hf auth login)") from error
    except (HFValidationError, RepositoryNotFoundError) as error:
        raise ModelError(
            f"no model {spec!r}: neither a folder here nor a hub repository; check the spelling, or log in if it is private"
        ) from error
    except RevisionNotFoundError as error:
        raise ModelError(f"{spec} has no revision {revision!r}") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ModelError(
            f"{spec} is no folder here and could not be fetched from the hub (offline?): {first_line(error)}"
        ) from error
    return Source(spec, folder, folder.name if re.fullmatch(r"[0-9a-f]{40}", folder.name) else None)


def first_line(error: BaseException) -> str:
    """The first line of an error's text, with its class where the text alone says nothing: enough to act on in one line."""
    if "trust_remote_code=True" in str(error):  # transformers' own advice, which names no option of ours
        return "it needs Python code that comes with it; read that code, then pass --trust-remote-code"
    lines = [line.strip() for line in str(error).strip().splitlines()]
    if not lines:
        return type(error).__name__
    line = f"{lines[0]} {lines[1]}" if lines[0].endswith(":") and len(lines) > 1 else lines[0]
    return (f"{type(error).__name__} {line}" if " " not in line else line)[:300]


def model_digest(folder: Path) -> str:
    """Digest of everything in a model folder that decides its behaviour.

    Args:
        folder: The model's folder.

    Returns:
        sha256 over the sorted names and sha256 digests of its configuration, tokenizer, template and weight files.
    """
    files = sorted(_relevant(folder))
    read_together([file for file in files if file.suffix == ".safetensors" and not file.is_symlink()])
    return digest_files(folder, files, digest_of=_file_digest)


def source_digest(source: Source) -> str:
    """Digest of everything that decides a model's behaviour, an adapter and the base it lies apart from included.

    Args:
        source: The model's files.

    Returns:
        sha256, hexadecimal.
    """
    if source.gguf is not None:
        return digest_files(source.folder, [source.folder / source.gguf], digest_of=_file_digest)
    digest = model_digest(source.folder)
    if source.adapter is None or source.adapter == source.folder:
        return digest  # an adapter beside its base is one of the folder's files
    return digest_bytes(f"{digest}\0adapter\0{model_digest(source.adapter)}".encode())


def adapter_digest(adapter: Path) -> str:
    """Digest of an adapter alone: its settings and weights."""
    return digest_files(adapter, [adapter / ADAPTER, adapter / ADAPTER_WEIGHTS], digest_of=_file_digest)


def fingerprint(
    spec: str, *, revision: str | None = None, chat_template: Path | None = None, thinking: str = "auto"
) -> str:
    """What identifies a model without loading it: a digest of its files and of the template that replaces its own.

    Args:
        spec: Hub id, folder, or `testbed:NAME`.
        revision: Branch, tag or commit of a hub model.
        chat_template: Jinja file that replaces the model's own chat template.
        thinking: Whether thinking is turned "on" or "off"; "auto" changes nothing.

    Returns:
        sha256, hexadecimal.

    Raises:
        ModelError: Nothing usable under that name.
    """
    digest = source_digest(locate_source(spec, revision=revision))
    if chat_template is None:
        return with_thinking(digest, thinking)
    if not chat_template.is_file():
        raise ModelError(f"no chat template file {chat_template}")
    return with_thinking(digest_bytes(f"{digest}\0{_file_digest(chat_template)}".encode()), thinking)


def with_thinking(digest: str, thinking: str) -> str:
    """A digest that also says how the thinking of a model was switched."""
    return digest if thinking == "auto" else digest_bytes(f"{digest}\0thinking={thinking}".encode())


def _relevant(folder: Path) -> Iterator[Path]:
    seen = {file for pattern in (*WANTED, *CODE) for file in folder.glob(pattern) if file.is_file()}
    yield from (file for file in seen if not file.name.startswith("."))


def _file_digest(file: Path) -> str:
    blob = file.resolve().name
    if file.is_symlink() and _SHA256.fullmatch(blob):
        return blob  # the hub's cache names large files by their own sha256
    return known_digest(file)
