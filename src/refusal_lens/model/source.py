"""Where a model's files come from: a folder, a model shipped with this package (`testbed:NAME`), or a hub id.

Everything becomes a local folder first, so that one set of checks and one digest serve all three. From the hub only
configuration, tokenizer, chat template and safetensors weights are fetched: pickled weights are never read.
"""

from __future__ import annotations

import difflib
import importlib.resources
import re
from collections.abc import Iterator
from dataclasses import dataclass
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

from refusal_lens.core.digests import digest_bytes, digest_file, digest_files
from refusal_lens.errors import ModelError

TESTBED = "testbed:"
WANTED = ("*.json", "*.jinja", "*.safetensors", "tokenizer.model", "*.tiktoken", "merges.txt", "vocab.txt")
CODE = ("*.py",)
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Source:
    """A model's files on this machine.

    Attributes:
        spec: What the user named.
        folder: Where its files are.
        revision: Commit of a hub model, None otherwise.
    """

    spec: str
    folder: Path
    revision: str | None


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
    folder = _testbed(spec.removeprefix(TESTBED)) if spec.startswith(TESTBED) else Path(spec).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise ModelError(f"{spec} is no hub model and has no revision {revision!r}; leave --revision out")
        return Source(spec, folder, None)
    if folder.exists():
        raise ModelError(f"{spec} is a file; name the folder that holds config.json and the weights")
    if folder.is_absolute() or spec.startswith((".", "~")) or spec.count("/") > 1:
        raise ModelError(
            f"no model folder {spec}; name a folder with config.json, a hub id such as org/name, or {TESTBED}NAME"
        )
    return _from_hub(spec, revision, code=code)


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
    return digest_files(folder, sorted(_relevant(folder)), digest_of=_file_digest)


def fingerprint(spec: str, *, revision: str | None = None, chat_template: Path | None = None) -> str:
    """What identifies a model without loading it: a digest of its files and of the template that replaces its own.

    Args:
        spec: Hub id, folder, or `testbed:NAME`.
        revision: Branch, tag or commit of a hub model.
        chat_template: Jinja file that replaces the model's own chat template.

    Returns:
        sha256, hexadecimal.

    Raises:
        ModelError: Nothing usable under that name.
    """
    digest = model_digest(locate_source(spec, revision=revision).folder)
    if chat_template is None:
        return digest
    if not chat_template.is_file():
        raise ModelError(f"no chat template file {chat_template}")
    return digest_bytes(f"{digest}\0{_file_digest(chat_template)}".encode())


def _relevant(folder: Path) -> Iterator[Path]:
    seen = {file for pattern in (*WANTED, *CODE) for file in folder.glob(pattern) if file.is_file()}
    yield from (file for file in seen if not file.name.startswith("."))


def _file_digest(file: Path) -> str:
    blob = file.resolve().name
    if file.is_symlink() and _SHA256.fullmatch(blob):
        return blob  # the hub's cache names large files by their own sha256
    return digest_file(file)
