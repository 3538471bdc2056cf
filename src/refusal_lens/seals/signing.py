"""Ed25519 signatures of runs (`cryptography`, extra `[sign]`).

Signed is what the numbers depend on: the header (without its command line), the plan, the digest of every task's outputs and
of every final table. The report is not signed, it can be drawn again; removing texts (`scrub`) keeps a signature valid. A
signature says who vouches for the run as it is. That a run was computed as it says, no signature can prove.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from refusal_lens.core.digests import canonical_json, digest_bytes, digest_file, digest_json
from refusal_lens.core.files import PUBLIC_FILE, write_atomic
from refusal_lens.core.json_files import pretty_json, read_object
from refusal_lens.errors import DataError, UserError
from refusal_lens.rundir import RunDir
from refusal_lens.types import JsonValue

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SIGNATURE = "signature.json"
SCHEMA_VERSION = 1
OF_NO_NUMBER = ("command", "seal")
SECRET_FILE = 0o600


def new_key(path: Path) -> Path:
    """Make a key pair: the secret key at `path` (PEM, readable by its owner alone), the public one beside it.

    Args:
        path: Where the secret key goes; must not exist.

    Returns:
        The public key's file, `NAME.pub.pem`.

    Raises:
        UserError: A file is in the way, or `cryptography` is not installed.
    """
    _library()
    from cryptography.hazmat.primitives import serialization as serial
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    public = path.with_name(f"{path.stem}.pub.pem")
    for place in (path, public):
        if place.exists() or place.is_symlink():
            raise UserError(f"{place}: there is a file already; a key is never replaced")
    secret = Ed25519PrivateKey.generate()
    pem, none = serial.Encoding.PEM, serial.NoEncryption()
    write_atomic(path, secret.private_bytes(pem, serial.PrivateFormat.PKCS8, none), mode=SECRET_FILE)
    shown = secret.public_key().public_bytes(pem, serial.PublicFormat.SubjectPublicKeyInfo)
    write_atomic(public, shown, mode=PUBLIC_FILE)
    return public


def sign(run_dir: Path, key: Path) -> str:
    """Sign a run: writes `RUN/signature.json`.

    Args:
        run_dir: The run; verify it first.
        key: The secret key (PEM, Ed25519, without a password).

    Returns:
        Fingerprint of the public key.

    Raises:
        RunError: There is no run.
        UserError: The key cannot be used.
    """
    run = RunDir.open(run_dir)
    _library()
    from cryptography.hazmat.primitives import serialization as serial
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        secret = serial.load_pem_private_key(key.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{key}: no secret key in PEM without a password ({error})") from None
    if not isinstance(secret, Ed25519PrivateKey):
        raise UserError(f"{key}: is no Ed25519 key; `refusal-lens sign RUN --key FILE --new-key` makes one")
    signed = manifest(run)
    public = secret.public_key()
    content: dict[str, JsonValue] = {
        "schema_version": SCHEMA_VERSION,
        "public_key": base64.b64encode(public.public_bytes_raw()).decode(),
        "manifest": signed,
        "signature": base64.b64encode(secret.sign(canonical_json(signed))).decode(),
    }
    write_atomic(run.root / SIGNATURE, pretty_json(content), mode=PUBLIC_FILE)
    return fingerprint(public)


def check_signature(run_dir: Path, key: Path) -> list[str]:
    """Check a run's signature against a public key.

    Args:
        run_dir: The run.
        key: The signer's public key (PEM).

    Returns:
        What is wrong, one line each; empty where the signature is that key's and the run is what was signed.

    Raises:
        RunError: There is no run.
        UserError: The key cannot be used.
    """
    run = RunDir.open(run_dir)
    public = _public(key)
    place = run.root / SIGNATURE
    if not place.is_file():
        return [f"{SIGNATURE}: is missing, the run is not signed"]
    try:
        content = read_object(place)
        signed, mark = content.get("manifest"), base64.b64decode(str(content.get("signature")), validate=True)
    except (DataError, ValueError):
        return [f"{SIGNATURE}: cannot be read"]
    if not isinstance(signed, dict):
        return [f"{SIGNATURE}: cannot be read"]
    from cryptography.exceptions import InvalidSignature

    try:
        public.verify(mark, canonical_json(signed))
    except InvalidSignature:
        return [f"{SIGNATURE}: is not by this key ({fingerprint(public)}), or was altered"]
    return _differences(signed, manifest(run))


def manifest(run: RunDir) -> dict[str, JsonValue]:
    """What a signature covers, by name: digests of header, plan, every task's outputs, every final table."""
    header = {name: value for name, value in run.header.items() if name not in OF_NO_NUMBER}
    found: dict[str, JsonValue] = {"run.json": digest_json(header)}
    if run.plan_path.is_file():
        found["plan.json"] = digest_file(run.plan_path)
    for path in sorted((run.root / "tasks").glob("*/*.json")):
        name = f"{path.parent.name}/{path.stem}"
        record = run.record(name)
        found[f"tasks/{name}"] = None if record is None else digest_json({"key": record.key, "outputs": record.digest})
    for path in sorted(run.tables_dir.glob("*")):
        if path.suffix in (".parquet", ".json"):
            found[f"tables/{path.name}"] = digest_file(path)
    return found


def fingerprint(public: Ed25519PublicKey) -> str:
    """Short name of a public key: the first 16 digits of its SHA-256."""
    return digest_bytes(public.public_bytes_raw())[:16]


def _differences(signed: Mapping[str, JsonValue], now: Mapping[str, JsonValue]) -> list[str]:
    gone = [f"{name}: was signed and is missing" for name in signed if name not in now]
    new = [f"{name}: is not covered by the signature" for name in now if name not in signed]
    other = [f"{name}: is not what was signed" for name in signed if name in now and signed[name] != now[name]]
    return [*gone, *new, *other]


def _public(key: Path) -> Ed25519PublicKey:
    _library()
    from cryptography.hazmat.primitives import serialization as serial
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey as Public

    try:
        found = serial.load_pem_public_key(key.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{key}: no public key in PEM ({(str(error).splitlines() or [''])[0]})") from None
    if not isinstance(found, Public):
        raise UserError(f"{key}: is no Ed25519 key")
    return found


def _library() -> None:
    """UserError where `cryptography` is not installed."""
    if find_spec("cryptography") is None:
        raise UserError("signatures need the package cryptography: pip install 'refusal-lens[sign]'")
