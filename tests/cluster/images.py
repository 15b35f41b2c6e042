"""Container images made from a few files and handed to containerd: there is no registry and no Docker to make them."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import tarfile
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .network import inside
from .places import SOCKET, Places
from .shell import ClusterError, run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

REFERENCE = re.compile(r"(localhost|[^/]*[.:][^/]*)(/[a-z0-9._-]+)+:(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]*)")
# An id without a name: charts ask for runAsNonRoot, which the kubelet grants only to a number above 0.
NOBODY = "65532:65532"
CTR = ("ctr", "-a", str(SOCKET), "-n", "k8s.io")
SEEN_LIMIT_S = 30


def tag_of(reference: str) -> str:
    match = REFERENCE.fullmatch(reference)
    if not match:
        raise ClusterError(
            f"{reference!r} is no image reference that the cluster can hold",
            "it lacks a tag, or the host before the first slash, without which a public registry's would be meant",
            "name it like localhost/productpage:1.2.3",
        )
    return match["tag"]


def present(reference: str, digest: str = "") -> bool:
    """Is it there, with this digest, and has the kubelet's side of containerd taken note of it?"""
    listed = run(*inside(*CTR, "images", "ls", f"name=={reference}")).stdout
    return digest in listed and "io.cri-containerd.image=managed" in listed


def load(
    places: Places,
    reference: str,
    files: Mapping[str, Path | bytes],
    entry: Iterable[str],
    *,
    env: Mapping[str, str] | None = None,
    user: str = "",
    folders: Iterable[str] = (),
) -> None:
    """An image of one layer: `files` are names in the image, with a path or the bytes themselves."""
    tag_of(reference)
    settings = [f"{name}={value}" for name, value in {"PATH": "/usr/local/bin:/", **(env or {})}.items()]
    with tempfile.TemporaryDirectory(prefix="image-", dir=places.run) as scratch:
        layout = Path(scratch) / "layout"
        blobs = layout / "blobs/sha256"
        blobs.mkdir(parents=True)
        layer = Path(scratch) / "layer.tar"
        _write_layer(layer, files, folders)
        layer_blob = _blob(blobs, layer)
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": list(entry), "Env": settings, "User": user},
            "rootfs": {"type": "layers", "diff_ids": [layer_blob["digest"]]},
        }
        manifest = _manifest(_blob(blobs, config), layer_blob)
        described = _blob(blobs, manifest)
        if present(reference, str(described["digest"])):
            return
        named = {**described, "mediaType": manifest["mediaType"]}
        named["annotations"] = {"io.containerd.image.name": reference}
        (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
        (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        archive = Path(scratch) / "image.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(layout, arcname=".")
        run(*inside(*CTR, "images", "import", "--snapshotter", snapshotter(places), archive), timeout_s=180)
    _wait_present(reference, str(described["digest"]))


def _wait_present(reference: str, digest: str) -> None:
    """A pod that is faster than containerd's notice of a new image waits ten seconds for its second try."""
    deadline = time.monotonic() + SEEN_LIMIT_S
    while not present(reference, digest):
        if time.monotonic() > deadline:
            raise ClusterError(
                f"containerd imported {reference} and does not list it",
                "its plugin for Kubernetes has not started, or has died",
                "read containerd.log in the cluster's log folder",
            )
        time.sleep(0.05)


def snapshotter(places: Places) -> str:
    """An overlay cannot lie on an overlay: inside a Docker container the layers are copied instead."""
    kind = run("stat", "--file-system", "--format=%T", places.run).stdout.strip()
    return "native" if kind == "overlayfs" else "overlayfs"


def libraries(binary: Path) -> dict[str, Path]:
    """What a program that is not static loads, under the same names: an image of ours has no system below it."""
    found = re.findall(r"(/\S+) \(0x", run("ldd", binary).stdout)
    return {path.lstrip("/"): Path(path) for path in found}


def _manifest(config: Mapping[str, object], layer: Mapping[str, object]) -> dict[str, object]:
    kind = "application/vnd.oci.image"
    return {
        "schemaVersion": 2,
        "mediaType": f"{kind}.manifest.v1+json",
        "config": {**config, "mediaType": f"{kind}.config.v1+json"},
        "layers": [{**layer, "mediaType": f"{kind}.layer.v1.tar"}],
    }


def _write_layer(path: Path, files: Mapping[str, Path | bytes], folders: Iterable[str]) -> None:
    """No times and no owners: the same files make the same digest, so an image that is there need not be loaded."""
    with tarfile.open(path, "w") as tar:
        for name in folders:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o777
            tar.addfile(entry)
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.mode = 0o755
            content = data if isinstance(data, bytes) else data.read_bytes()
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def _blob(folder: Path, content: Path | Mapping[str, object]) -> dict[str, object]:
    if isinstance(content, Path):
        with content.open("rb") as handle:
            sha = hashlib.sha256()
            while chunk := handle.read(1 << 20):
                sha.update(chunk)
        digest, size = sha.hexdigest(), content.stat().st_size
        shutil.move(content, folder / digest)
    else:
        data = json.dumps(content, sort_keys=True).encode()
        digest, size = hashlib.sha256(data).hexdigest(), len(data)
        (folder / digest).write_bytes(data)
    return {"digest": f"sha256:{digest}", "size": size}
