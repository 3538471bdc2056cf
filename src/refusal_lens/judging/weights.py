"""Which weights a judge reads with: a folder by the digest of its files, a hub model by its commit. Names of judges carry it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class Weights:
    """A model by folder, hub id, or `ID@REVISION`.

    Attributes:
        spec: As the user named it.
    """

    spec: str

    @property
    def folder(self) -> Path | None:
        """The folder, None for a hub model."""
        path = Path(self.spec).expanduser()
        return path if path.is_dir() else None

    @property
    def where(self) -> str:
        """What to load: the folder or the hub id."""
        return str(self.folder) if self.folder is not None else self.spec.partition("@")[0]

    @cached_property
    def revision(self) -> str | None:
        """Commit of a hub model, from the local cache or asked from the hub; None for a folder, or where neither knows it."""
        if self.folder is not None:
            return None
        from huggingface_hub import hf_hub_download

        asked = self.spec.partition("@")[2] or None
        for offline in (True, False):
            try:
                file = hf_hub_download(self.where, "config.json", revision=asked, local_files_only=offline)
            except (OSError, ValueError):  # not cached; no such model, no network: loading it says why
                continue
            return Path(file).parent.name
        return asked

    @cached_property
    def name(self) -> str:
        """The model with the first twelve digits of its folder's digest or its commit."""
        if self.folder is not None:
            from refusal_lens.model.source import model_digest

            return f"{self.spec}@{model_digest(self.folder)[:12]}"
        return self.where if self.revision is None else f"{self.where}@{self.revision[:12]}"
