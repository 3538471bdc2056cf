"""Downloading against a local server with faults, and from archives and folders that cannot be trusted."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from refusal_lens.core.files import StorageError
from refusal_lens.errors import DataError
from refusal_lens.prompts.building import transfer
from refusal_lens.prompts.building.download import download, shown_origin
from refusal_lens.prompts.loading.published import FileDigest, Published, Source, published

FILES = {"PolyRefuse/a.json": b"alpha " * 5000, "dataset/splits/b.json": b"beta " * 7000, "LICENSE": b"terms"}
DATA = Published(
    "owner/name",
    "0" * 40,
    {path: FileDigest(hashlib.sha256(content).hexdigest(), len(content)) for path, content in FILES.items()},
    (Source("s", "all", ("x",), "MIT", "here", "nobody"),),
)


class Server(ThreadingHTTPServer):
    """Serves FILES below /base/ and `extra` anywhere, misbehaving as `faults` says; remembers what was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.extra: dict[str, bytes] = {}
        self.faults: dict[str, list[str]] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.ranges = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def content(self, path: str) -> bytes | None:
        return self.extra.get(path, FILES.get(path.removeprefix("/base/")))


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        wanted = self.headers.get("Range")
        self.server.asked.append((path, wanted))
        faults = self.server.faults.get(path.rpartition("/")[2], [])
        fault = faults.pop(0) if faults else ""
        content = self.server.content(path)
        if fault.startswith("redirect "):
            return self.answer(302, b"", Location=fault.removeprefix("redirect "))
        if fault.isdigit():
            return self.answer(int(fault), b"no")
        if content is None:
            return self.answer(404, b"no")
        if fault == "wrong":
            content = content[::-1]
        if fault == "long":
            content += b"more"
        start, status, headers = 0, 200, {}
        if wanted and self.server.ranges:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                return self.answer(416, b"")
            shift = 3 if fault == "shifted" else 0
            status, headers = 206, {"Content-Range": f"bytes {start + shift}-{len(content) - 1}/{len(content)}"}
        body = content[start:]
        if fault in {"cut", "quiet-cut"}:
            self.send_response(status)
            if fault == "cut":
                self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return None
        return self.answer(status, body, **headers)

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    fetch = transfer.fetch
    monkeypatch.setattr(
        "refusal_lens.prompts.building.download.fetch",
        lambda *args, **kwargs: fetch(*args, **kwargs, pause=lambda _: None),
    )


def complete(dest: Path) -> bool:
    return {path: (dest / path).read_bytes() for path in FILES} == FILES and not (dest / ".partial").exists()


def test_files_arrive_and_a_second_time_nothing_is_asked(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []
    first = download(
        tmp_path, origin=server.url + "/base/", data=DATA, progress=lambda path, count: seen.append((path, count))
    )
    assert complete(tmp_path)
    assert sum(count for _, count in seen) == sum(map(len, FILES.values()))
    record = json.loads((tmp_path / "PROVENANCE.json").read_text())
    assert record["origin"] == server.url + "/base/"
    assert record["sources"][0]["licence"] == "MIT"
    asked = len(server.asked)
    second = download(tmp_path, origin=server.url + "/base", data=DATA)
    assert len(server.asked) == asked
    assert (len(first.fetched), len(second.fetched), len(second.kept)) == (3, 0, 3)


@pytest.mark.parametrize(
    "faults",
    [
        ["cut"],
        ["quiet-cut"],
        ["cut", "cut", "cut", "cut", "cut", "cut"],
        ["503", "429"],
        ["cut", "shifted"],
        ["cut", "503", "cut"],
        ["redirect /base/PolyRefuse/a.json", "redirect a.json"],
    ],
)
def test_passing_faults_are_overcome(server: Server, tmp_path: Path, faults: list[str]) -> None:
    server.faults["a.json"] = list(faults)
    download(tmp_path, origin=server.url + "/base", data=DATA)
    assert complete(tmp_path)
    assert not server.faults["a.json"]
    if faults[0] == "cut" and faults[-1] == "cut":
        assert any(wanted for _, wanted in server.asked)


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    server.faults["a.json"] = ["cut", "cut"]
    download(tmp_path, origin=server.url + "/base", data=DATA)
    assert complete(tmp_path)


def test_an_interrupted_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    part = tmp_path / ".partial" / "PolyRefuse" / "a.json.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(FILES["PolyRefuse/a.json"][:10_000])
    download(tmp_path, origin=server.url + "/base", data=DATA)
    assert complete(tmp_path)
    assert ("/base/PolyRefuse/a.json", "bytes=10000-") in server.asked


@pytest.mark.parametrize("stale", [b"garbage", b"x" * 30_000, b"x" * 90_000])
def test_a_stale_beginning_is_thrown_away(server: Server, tmp_path: Path, stale: bytes) -> None:
    part = tmp_path / ".partial" / "PolyRefuse" / "a.json.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(stale)
    download(tmp_path, origin=server.url + "/base", data=DATA)
    assert complete(tmp_path)


@pytest.mark.parametrize(
    ("fault", "message"),
    [("wrong", "wrong bytes"), ("long", "sends more"), ("404", "answered 404"), ("redirect ftp://127.0.0.1/x", "http")],
)
def test_lasting_faults_name_the_file_and_leave_the_rest(
    server: Server, tmp_path: Path, fault: str, message: str
) -> None:
    server.faults["a.json"] = [fault] * 9
    with pytest.raises(DataError, match=message) as caught:
        download(tmp_path, origin=server.url + "/base", data=DATA)
    assert "a.json" in str(caught.value)
    assert not (tmp_path / "PolyRefuse" / "a.json").exists()
    assert (tmp_path / "dataset/splits/b.json").read_bytes() == FILES["dataset/splits/b.json"]
    server.faults.clear()
    assert download(tmp_path, origin=server.url + "/base", data=DATA).fetched == ("PolyRefuse/a.json",)
    assert complete(tmp_path)


def test_a_redirect_loop_ends(server: Server, tmp_path: Path) -> None:
    server.faults["a.json"] = ["redirect a.json"] * 50
    with pytest.raises(DataError, match="redirect"):
        download(tmp_path, origin=server.url + "/base", data=DATA)


def test_offline_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--from ARCHIVE or --from DIR"):
        download(tmp_path, origin="http://127.0.0.1:9/base", data=DATA)


def test_another_file_of_that_name_is_kept_beside(server: Server, tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text("my own edit")
    done = download(tmp_path, origin=server.url + "/base", data=DATA)
    assert done.replaced == ("LICENSE",)
    assert (tmp_path / "LICENSE.replaced").read_text() == "my own edit"
    assert complete(tmp_path)


def test_secrets_stay_out_of_records(server: Server, tmp_path: Path) -> None:
    origin = server.url.replace("://", "://user:hunter2@") + "/base?token=hunter3"
    download(tmp_path, origin=origin, data=DATA)
    assert "hunter" not in (tmp_path / "PROVENANCE.json").read_text()
    assert shown_origin(origin) == server.url + "/base"


def tar_of(members: dict[str, bytes], mode: str = "w:gz") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def zip_of(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


INSIDE = {f"Multilingual-Refusal-{'0' * 7}/{path}": content for path, content in FILES.items()}


@pytest.mark.parametrize("name", ["data.tar.gz", "data.zip", "data.tar", "data"])
def test_archives(server: Server, tmp_path: Path, name: str) -> None:
    content = zip_of(INSIDE) if name.endswith("zip") else tar_of(INSIDE, "w" if name.endswith("tar") else "w:gz")
    server.extra[f"/{name}"] = content
    server.faults[name] = ["cut"]
    download(tmp_path / "remote", origin=f"{server.url}/{name}", data=DATA)
    assert complete(tmp_path / "remote")
    (tmp_path / name).write_bytes(content)
    download(tmp_path / "local", origin=str(tmp_path / name), data=DATA)
    assert complete(tmp_path / "local")


def test_an_archive_cannot_write_elsewhere(tmp_path: Path) -> None:
    hostile = {
        "../escaped": b"x",
        "/tmp/refusal-lens-escaped": b"x",
        "a/../../escaped": b"x",
        "PolyRefuse/foreign.json": b"x",
        **FILES,
    }
    dest = tmp_path / "in" / "dest"
    for archive in (zip_of(hostile), tar_of(hostile)):
        (tmp_path / "archive").write_bytes(archive)
        download(dest, origin=str(tmp_path / "archive"), data=DATA)
        assert complete(dest)
        written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
        assert written == {"archive", "in/dest/PROVENANCE.json", *(f"in/dest/{path}" for path in FILES)}


def test_links_devices_and_wrong_sizes_are_no_files(tmp_path: Path) -> None:
    stream = io.BytesIO()
    secret = tmp_path / "secret"
    secret.write_bytes(FILES["LICENSE"])
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for kind, name in [
            (tarfile.SYMTYPE, "LICENSE"),
            (tarfile.LNKTYPE, "PolyRefuse/a.json"),
            (tarfile.CHRTYPE, "dataset/splits/b.json"),
        ]:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, str(secret)
            archive.addfile(member)
    (tmp_path / "archive.tar").write_bytes(stream.getvalue())
    with pytest.raises(DataError, match="3 of 3 files absent or with wrong bytes"):
        download(tmp_path / "dest", origin=str(tmp_path / "archive.tar"), data=DATA)


def test_bombs_are_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = b"\0" * 30_000_000
    (tmp_path / "bomb.zip").write_bytes(zip_of({"LICENSE": bomb}))
    with pytest.raises(DataError, match="absent or with wrong bytes"):
        download(tmp_path / "dest", origin=str(tmp_path / "bomb.zip"), data=DATA)
    monkeypatch.setattr("refusal_lens.prompts.building.unpack.MAX_UNPACKED", 10_000_000)
    (tmp_path / "bomb.tgz").write_bytes(tar_of({"other": bomb, **FILES}))
    with pytest.raises(DataError, match="unpacks to more"):
        download(tmp_path / "dest", origin=str(tmp_path / "bomb.tgz"), data=DATA)


@pytest.mark.parametrize(
    "content",
    [b"", b"no archive", tar_of(INSIDE)[:100], zip_of(INSIDE)[:-40]],
    ids=["empty", "text", "cut tar", "cut zip"],  # archives hold a time stamp: no names for tests
)
def test_broken_archives(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.tar.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.tar\.gz"):
        download(tmp_path / "dest", origin=str(tmp_path / "broken.tar.gz"), data=DATA)


def test_folders(tmp_path: Path) -> None:
    for name in ("flat", "nested/Multilingual-Refusal"):
        for path, content in FILES.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_bytes(content)
    for name in ("flat", "nested"):
        download(tmp_path / f"from-{name}", origin=str(tmp_path / name), data=DATA)
        assert complete(tmp_path / f"from-{name}")
    (tmp_path / "flat" / "LICENSE").write_bytes(b"other")
    with pytest.raises(DataError, match=r"1 of 3 files absent or with wrong bytes \(LICENSE\)"):
        download(tmp_path / "dest", origin=str(tmp_path / "flat"), data=DATA)
    with pytest.raises(DataError, match="no such archive or folder"):
        download(tmp_path / "dest2", origin=str(tmp_path / "nowhere"), data=DATA)


def test_a_destination_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot be written"):
        download(tmp_path / "file", origin=str(tmp_path), data=DATA)


def test_the_shipped_manifest() -> None:
    data = published()
    assert len(data.commit) == 40
    assert len(data.files) == 116
    assert all(len(digest.sha256) == 64 and digest.size > 0 for digest in data.files.values())
    assert "PolyRefuse/harmless_test_translated_zh.json" not in data.files
    assert {source.name for source in data.sources} >= {"PolyRefuse", "Alpaca", "XSTest", "OKTest", "JailbreakBench"}
