"""Croissant 1.0 (MLCommons) of a built data set: `croissant.json`, what its Parquet files are and which columns they have.

One file object a language and split, with its SHA-256, and one record set for it. The file is made from what lies on disk, so
it is as true after a correction as after a build. The licence is the one that whoever built the set stated.
"""

from __future__ import annotations

import json
from pathlib import Path

from refusal_lens.core.digests import digest_file
from refusal_lens.core.files import PUBLIC_FILE, write_atomic
from refusal_lens.prompts.loading.built import StandardRow
from refusal_lens.types import JsonValue

FILE = "croissant.json"
CONFORMS_TO = "http://mlcommons.org/croissant/1.0"
CONTEXT: dict[str, JsonValue] = {
    "@language": "en", "@vocab": "https://schema.org/", "citeAs": "cr:citeAs", "column": "cr:column",
    "conformsTo": "dct:conformsTo", "cr": "http://mlcommons.org/croissant/", "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"}, "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"}, "extract": "cr:extract", "field": "cr:field",
    "fileObject": "cr:fileObject", "fileProperty": "cr:fileProperty", "fileSet": "cr:fileSet", "format": "cr:format",
    "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath", "key": "cr:key",
    "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path", "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet", "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated",
    "replace": "cr:replace", "samplingRate": "cr:samplingRate", "sc": "https://schema.org/", "separator": "cr:separator",
    "source": "cr:source", "subField": "cr:subField", "transform": "cr:transform",
}  # fmt: skip
ABOUT = {
    "prompt_id": "shared by the prompt's translations",
    "language": "BCP-47 code",
    "harm": "harmful or harmless",
    "split": "train, val or test",
    "text": "the prompt; empty where its translation failed",
    "english": "the English original",
    "back_translation": "the text translated back into English",
    "category": "kind of harm or topic, where the source has one",
    "prompt_set": "which set it belongs to",
    "status": "ok, failed or corrected",
    "note": "why it failed, or who corrected it",
}


def write_croissant(out: Path, *, licence: str | None = None) -> Path:
    """Write the description of a built data set beside its card.

    Args:
        out: The data set's folder.
        licence: Licence of the prompts; None for what an earlier description says, else not stated.

    Returns:
        The file.

    Raises:
        StorageError: It cannot be written.
    """
    files = sorted((out / "data").glob("*/*.parquet"))
    codes = list(dict.fromkeys(file.parent.name for file in files))
    content: dict[str, JsonValue] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": _name(out.absolute().name),
        "description": (
            "Prompts in several languages for measuring and improving refusals; the harmful ones ask for harmful things and are"
            " not for display."
        ),
        "license": licence or _stated(out) or "not stated",
        "inLanguage": list(codes),
        "distribution": [_file(out, file) for file in files],
        "recordSet": [_records(file) for file in files],
    }
    write_atomic(out / FILE, (json.dumps(content, indent=1) + "\n").encode(), mode=PUBLIC_FILE)
    return out / FILE


def _stated(out: Path) -> str | None:
    """The licence of an earlier description."""
    try:
        found = json.loads((out / FILE).read_bytes())
    except (OSError, ValueError):
        return None
    licence = found.get("license") if isinstance(found, dict) else None
    return licence if isinstance(licence, str) else None


def _name(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in text) or "prompts"


def _id(file: Path) -> str:
    return f"{file.parent.name}-{file.name.partition('-')[0]}"


def _file(out: Path, file: Path) -> JsonValue:
    return {
        "@type": "cr:FileObject",
        "@id": f"file-{_id(file)}",
        "name": f"file-{_id(file)}",
        "contentUrl": file.relative_to(out).as_posix(),
        "contentSize": f"{file.stat().st_size} B",
        "encodingFormat": "application/x-parquet",
        "sha256": digest_file(file),
    }


def _records(file: Path) -> JsonValue:
    name = _id(file)
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{name}/{column}",
                "name": column,
                "description": ABOUT[column],
                "dataType": "sc:Text",
                "source": {"fileObject": {"@id": f"file-{name}"}, "extract": {"column": column}},
            }
            for column in StandardRow.__dataclass_fields__
        ],
    }
