"""Helm: its arguments, and what its answers and its storage say. No decision is made here.

A release is read from Helm's own Secret instead of `helm status`: one call gives status, record and manifest, and the Secret
alone holds the chart, which a rollback renders (it must not depend on what the caller has checked out).
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from helm_canary.capabilities import api_versions
from helm_canary.composing import Writing
from helm_canary.core.model import Hooks, Track, Upgrade
from helm_canary.errors import RefusedError, ToolError
from helm_canary.keys import write_secret
from helm_canary.kinds import lines_of, refuse_kinds, unknown_kinds
from helm_canary.manifest import Object, parse_objects
from helm_canary.moments import probes
from helm_canary.process import Connection, Processes, tool_error
from helm_canary.record import release_values, to_text
from helm_canary.revisions import REVISION, Use, mentions, unpacked, uses, with_another_revision
from helm_canary.writing import PLUGIN, PostRenderer

FULLY_APPLIED = ("deployed", "superseded")
UNINSTALLED = "uninstalled"
NO_RECORD = '{"release": {}}'
LIMIT_S, HOOK_GRACE_S = 300.0, 30.0


class RenderedOtherwiseError(RefusedError):
    """Helm's own rendering is not what was checked, so it was let write nothing."""

    code = "rendered-otherwise"

    @classmethod
    def at(cls, different: Sequence[Mapping[str, str]]) -> RenderedOtherwiseError:
        names = ", ".join(one["name"] for one in different)
        files = ", ".join(dict.fromkeys(one["file"] for one in different if one["file"]))
        return cls(
            f"Helm renders {names} otherwise than it was checked a moment ago; nothing was written.",
            "The template" + (f" {files}" if files else "") + " uses what only Helm's own upgrade knows, such as "
            "`.Release.Revision`, or a `lookup` of something that has just changed.",
            "Run the same command again. Where it says the same again, take `.Release.Revision` out of the template.",
        )


@dataclass(frozen=True, kw_only=True)
class Revision:
    """One revision of a Helm release. `values` are those the user and this program gave, not the chart's defaults.

    `created` is the API server's time of its Secret. `removed`: a `helm uninstall` deleted its objects, or began to; a later
    installation calls such a revision superseded, as it calls one that an upgrade followed.
    """

    number: int
    status: str
    values: Mapping[str, Any]
    manifest: str
    chart: Mapping[str, Any] = field(repr=False)
    created: str = ""
    stored_hooks: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    removed: bool = False

    @property
    def applied(self) -> bool:
        return self.status in FULLY_APPLIED

    @property
    def pending(self) -> bool:
        """A Helm works on it, or died over it."""
        return self.status.startswith("pending")

    def tag(self, track: Track) -> str:
        """The tag that a track was given, by the values or by the chart's own; empty where there is none."""
        for values in (self.values, self.chart.get("values")):
            found: Any = values
            for key in (f"{track.value}Deployment", "image", "tag"):
                found = found.get(key) if isinstance(found, Mapping) else None
            if found is not None:
                return str(found)
        return ""

    @property
    def uninstalling(self) -> bool:
        """Helm deletes its objects, or died over it."""
        return self.status == "uninstalling"

    @property
    def hooks(self) -> tuple[str, ...]:
        """The chart's hooks, as Helm rendered them."""
        return tuple(str(hook.get("manifest") or "") for hook in self.stored_hooks)

    @property
    def chart_name(self) -> str:
        metadata = self.chart.get("metadata") or {}
        return f"{metadata.get('name', '?')} {metadata.get('version', '?')}"


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What Helm remembers of a release: its newest revision, the newest that was applied whole, and all of its Secrets.

    uninstalled  what `helm uninstall --keep-history` left behind: there is no release then, and no `newest`
    """

    newest: Revision | None = None
    applied: Revision | None = None
    uninstalled: Revision | None = None
    secrets: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)

    def earlier(self) -> Iterator[Revision]:
        """The revisions before the newest, newest first; each is unpacked when it is asked for.

        Those of a release of this name that was uninstalled are not this one's.
        """
        return takewhile(lambda revision: not revision.removed, map(_decode, self.secrets[1:]))


@dataclass(frozen=True, kw_only=True)
class ChartSource:
    """Where a chart and its values come from, as the user said it."""

    chart: str
    version: str = ""
    values: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Helm:
    """The Helm 4 program, for one release of one connection."""

    processes: Processes
    connection: Connection
    release: str
    source: ChartSource
    folder: Path
    timeout_s: float = 300.0
    learn: Callable[[Sequence[Object]], None] = lambda objects: None

    def check_version(self) -> None:
        """Raises RefusedError unless this is Helm 4 or newer."""
        version = self.processes.run(["helm", "version", "--template", "{{.Version}}"], timeout_s=30).stdout.strip()
        major = version.lstrip("v").split(".")[0]
        if not major.isdigit() or int(major) < 4:
            raise RefusedError(
                f"This is Helm {version}; Helm 4 is needed.",
                "Helm 3 patches from the old manifest and leaves a live weight that it does not know of; its support ends in "
                "February 2027.",
                "Install Helm 4, put it first on PATH and run the same command again. It takes over what Helm 3 made.",
            )

    @staticmethod
    def check_driver(driver: str) -> None:
        """Raises RefusedError unless Helm keeps its releases in Secrets, where the record is read."""
        if driver.lower() not in ("", "secret", "secrets"):
            raise RefusedError(
                f"HELM_DRIVER is {driver!r}; helm-canary reads releases from Secrets only.",
                "Helm keeps its releases elsewhere here, so the release under way could not be seen.",
                "Unset HELM_DRIVER, if the release was made without it. A release that is kept elsewhere has to be moved "
                "into Secrets first.",
            )

    def read(self) -> Stored:
        """The release from Helm's Secrets; `Stored()` where there is none."""
        selector = f"owner=helm,name={self.release}"
        command = self.connection.kubectl("get", "secrets", "--selector", selector, "--output", "json")
        stored = parse_storage(self.processes.run(command, timeout_s=60).stdout)
        for revision in dict.fromkeys(one.manifest for one in (stored.applied, stored.newest) if one):
            self.learn(parse_objects(revision))
        return stored

    def mark_failed(self, number: int) -> None:
        """Rewrite a revision that a dead Helm left pending to failed, so that the next upgrade works. It keeps its record.

        Nothing happens where it is not pending any more, or is written by another hand meanwhile.
        """
        name = f"sh.helm.release.v1.{self.release}.v{number}"
        command = self.connection.kubectl("get", "secret", name, "--ignore-not-found", "--output", "json")
        text = self.processes.run(command).stdout.strip()
        secret = json.loads(text) if text else None
        if secret is None or not str(secret["metadata"].get("labels", {}).get("status")).startswith("pending"):
            return
        write = self.connection.kubectl("replace", "--filename", "-")
        done = self.processes.run(write, stdin=json.dumps(_as_failed(secret)), check=False, once=True)
        if done.code != 0 and not any(sign in done.stderr for sign in ("Conflict", "has been modified", "NotFound")):
            raise tool_error(write, done)

    def build_dependencies(self) -> None:
        """`helm dependency build`, where a chart's folder lacks one: a checkout has no packed ones, which Helm asks for."""
        chart = Path(self.source.chart)
        if missing_dependencies(chart):
            self.processes.run(["helm", "dependency", "build", str(chart)], timeout_s=LIMIT_S, shown=True)

    def rendered(self, arguments: Sequence[str], stdin: str, *, installs: bool = False) -> str:
        """The manifest that these values give, rendered against the cluster (`lookup`, capabilities) but changing nothing.

        The chart's hooks are in it. `installs`: as for the first revision; without --take-ownership helm would end here, in its
        own words, where an object is there already (helm: pkg/action/install.go), and nothing is taken by a rendering.

        `helm template` and not `helm upgrade --dry-run=server`: it renders the same in half the time, because it does not
        try every object on the API server; the guard does that, for all of them at once.
        """
        try:
            return self._template(self.source, [*arguments, *_as_helm_would(installs=installs)], stdin)
        except ToolError as error:
            kinds = unknown_kinds(error.stderr)
            if kinds:
                raise refuse_kinds(kinds, self.lines_with(lines_of(kinds))) from error
            raise

    def rendered_with_another_revision(
        self, arguments: Sequence[str], stdin: str, *, installs: bool
    ) -> tuple[str, list[Use]]:
        """The same as in another revision, and the lines of the chart that ask for the number; without any, nothing."""
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            fetched = self._fetched(Path(name))
            if not mentions(fetched, REVISION):
                return "", []
            chart = unpacked(fetched, Path(name))
            lines = uses(chart, REVISION)
            with_another_revision(chart)
            source = replace(self.source, chart=str(chart), version="")
            return self._template(source, [*arguments, *_as_helm_would(installs=installs)], stdin), lines

    def lines_with(self, pattern: re.Pattern[str]) -> list[Use]:
        """The lines of the chart's templates that match."""
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            return uses(unpacked(self._fetched(Path(name)), Path(name)), pattern)

    def _fetched(self, folder: Path) -> Path:
        """The chart's folder or archive; one from a registry or repository is pulled."""
        chart = Path(self.source.chart)
        if chart.exists():
            return chart.resolve()
        version = ["--version", self.source.version] if self.source.version else []
        self.processes.run(
            ["helm", "pull", self.source.chart, *version, "--destination", str(folder)], timeout_s=LIMIT_S
        )
        return next(folder.glob("*.tgz"))

    def template(self, arguments: Sequence[str]) -> str:
        """The manifest that these values give, without a cluster: on one that has Istio."""
        versions = ",".join(api_versions())
        return self._template(self.source, [*arguments, "--skip-tests", "--api-versions", versions], NO_RECORD)

    def _template(self, source: ChartSource, arguments: Sequence[str], stdin: str) -> str:
        command = self.connection.helm("template", self.release, source.chart, *self._given(source), *arguments)
        manifest = self.processes.run(command, stdin=stdin, timeout_s=LIMIT_S).stdout
        self.learn(parse_objects(manifest))
        return manifest

    def read_values(self, name: str, folder: Path) -> str:
        """What helm reads from a values file that is no local file (a URL, a plugin's scheme): its `release`, as YAML."""
        chart = folder / "values"
        (chart / "templates").mkdir(parents=True, exist_ok=True)
        (chart / "Chart.yaml").write_text("apiVersion: v2\nname: values\nversion: 0.0.0\n", encoding="utf-8")
        (chart / "templates/release.yaml").write_text("release: {{ .Values.release | toJson }}\n", encoding="utf-8")
        command = self.connection.helm("template", self.release, str(chart), "--values", _as_one(name))
        return self.processes.run(command, timeout_s=LIMIT_S).stdout

    def command(self, step: Upgrade, source: ChartSource | None = None) -> list[str]:
        """The whole `helm upgrade` of a step; the record goes to its standard input, what it writes through the post-renderer.

        Over an uninstalled release `helm upgrade --install` works only where the uninstalled revision comes last in the order of
        names, which 10 after 9 does not (isReleaseUninstalled in Helm's pkg/cmd/upgrade.go); `helm install --replace` does.
        """
        hooks = ["--no-hooks"] if step.hooks is Hooks.NONE else ["--timeout", f"{max(self.timeout_s, 1):.0f}s"]
        arguments = [*step_arguments(step), *hooks, "--post-renderer", PLUGIN]
        words = ("install", "--replace") if step.anew else ("upgrade", "--install")
        return self._writing(words, source or self.source, arguments)

    def upgrade(self, step: Upgrade, writing: Writing, source: ChartSource | None = None) -> None:
        """Raises RenderedOtherwiseError, with nothing written, where Helm renders something else than was checked."""
        stdin = to_text({"release": release_values(step)})
        renderer = PostRenderer(folder=self.folder, others=self._plugin_folders())
        renderer.prepare(writing, self.connection.namespace or "default")
        # A hook has all of --timeout, and Helm a moment more to say that it did not end.
        limit_s = LIMIT_S if step.hooks is Hooks.NONE else max(LIMIT_S, self.timeout_s + HOOK_GRACE_S)
        try:
            self.processes.run(
                self.command(step, source), stdin=stdin, timeout_s=limit_s, shown=True, once=True,
                environment=renderer.environment(),
            )  # fmt: skip
        except ToolError as error:
            different = renderer.different()
            if different:
                raise RenderedOtherwiseError.at(different) from error
            raise

    def _plugin_folders(self) -> str:
        return self.processes.run(["helm", "env", "HELM_PLUGINS"], timeout_s=30).stdout.strip()

    def _writing(self, words: tuple[str, str], source: ChartSource, arguments: Sequence[str]) -> list[str]:
        command, flag = words
        fixed = (flag, "--server-side=true", "--force-conflicts")
        given = self._given(source)
        return self.connection.helm(command, self.release, source.chart, *fixed, *given, *arguments)

    @staticmethod
    def _given(source: ChartSource) -> list[str]:
        """What the user gave, and standard input for the record, in the order in which later values win."""
        values = [word for path in (*source.values, "-") for word in ("--values", _as_one(path))]
        sets = [word for pair in source.sets for word in ("--set", pair)]
        return [*(["--version", source.version] if source.version else []), *values, *sets]


def _as_one(path: str) -> str:
    """A path that helm does not split: each `--values` is a row of CSV to it."""
    return '"' + path.replace('"', '""') + '"' if "," in path or '"' in path else path


def step_arguments(step: Upgrade) -> list[str]:
    """What a step sets, in the words of the eight commands. Replicas must have been filled in."""
    sets = []
    for track in Track:
        target = step.target(track)
        assert target.replicas is not None, "replicas are read before a write"
        key = f"{track.value}Deployment"
        sets.append(f"{key}.replicaCount={target.replicas},{key}.weight={step.split.of(track)}")
    tags = ",".join(f"{track.value}Deployment.image.tag={step.target(track).version.tag}" for track in Track)
    return ["--set-string", tags, "--set", ",".join(sets)]


def _as_helm_would(*, installs: bool) -> tuple[str, ...]:
    """What lets `helm template` render as an installation or an upgrade does, `lookup` included, and change nothing."""
    return ("--dry-run=server", "--skip-tests", "--take-ownership" if installs else "--is-upgrade")


def native_arguments(tag: str) -> list[str]:
    """Values that render a version on both tracks as chart and values make it; production's replicas are the user's.

    Weights and canary replicas are no stage's: that they come out again shows that the chart takes them from the values.
    """
    return probes(tag)[0].arguments()


def parse_storage(text: str) -> Stored:
    """Helm's Secrets of one release (`kubectl get secrets -o json`) -> newest revision, and newest applied one."""
    secrets = [item for item in json.loads(text).get("items", []) if item.get("type") == "helm.sh/release.v1"]
    secrets.sort(key=_number, reverse=True)
    newest = _decode(secrets[0]) if secrets else None
    if newest is not None and newest.status == UNINSTALLED:
        return Stored(uninstalled=newest)
    if newest is None or newest.applied:
        return Stored(newest=newest, applied=newest, secrets=tuple(secrets))
    found = next(
        (item for item in secrets if item["metadata"]["labels"].get("status") in (*FULLY_APPLIED, UNINSTALLED)), None
    )
    applied = _decode(found) if found else None
    return Stored(newest=newest, applied=None if applied and applied.removed else applied, secrets=tuple(secrets))


def _number(secret: Mapping[str, Any]) -> int:
    try:
        return int(secret["metadata"]["labels"]["version"])
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(secret, error) from error


def _unreadable(secret: Mapping[str, Any], error: Exception) -> ToolError:
    return ToolError(
        f"Helm's Secret {secret['metadata'].get('name', '?')} cannot be read ({type(error).__name__}).",
        "It was edited by hand, or a version of Helm wrote it that helm-canary does not know.",
        "Restore it from a backup of the cluster; where it was not edited, report this with the output of `helm version`.",
    )


def _unpack(secret: Mapping[str, Any]) -> Any:
    return json.loads(gzip.decompress(base64.b64decode(base64.b64decode(secret["data"]["release"]))))


def _as_failed(secret: dict[str, Any]) -> dict[str, Any]:
    """Helm's Secret of a pending revision as Helm leaves one that failed; its resource version still guards it."""
    release = _unpack(secret)
    release["info"] = {**release["info"], "status": "failed", "description": "helm-canary: its Helm was killed"}
    packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(release).encode()))).decode()
    secret["metadata"]["labels"]["status"] = "failed"
    return {**secret, "data": {**secret["data"], "release": packed}}


def _decode(secret: Mapping[str, Any]) -> Revision:
    try:
        release = _unpack(secret)
        return Revision(
            number=int(release["version"]),
            status=str(release["info"]["status"]),
            values=release.get("config") or {},
            manifest=release.get("manifest") or "",
            chart=release.get("chart") or {},
            created=str(secret["metadata"].get("creationTimestamp") or ""),
            stored_hooks=tuple(release.get("hooks") or ()),
            removed=bool(release["info"].get("deleted")) or release["info"]["status"] == UNINSTALLED,
        )
    except (KeyError, TypeError, AttributeError, ValueError, OSError, EOFError, zlib.error) as error:
        raise _unreadable(secret, error) from error


def write_stub(revision: Revision, folder: Path) -> ChartSource:
    """A chart of a stored revision's name, version and values that renders nothing: what is written is composed.

    So a rollback needs neither the chart's templates nor its subcharts, which Helm does not store.
    """
    root = folder / "chart"
    (root / "templates").mkdir(parents=True, exist_ok=True)
    metadata = {key: value for key, value in (revision.chart.get("metadata") or {}).items() if key != "dependencies"}
    write_secret(root / "Chart.yaml", to_text(metadata))
    write_secret(root / "values.yaml", to_text(revision.chart.get("values") or {}))
    return write_values(revision, folder, str(root), "")


def write_values(revision: Revision, folder: Path, chart: str, version: str) -> ChartSource:
    """The values of a stored revision, without the record, beside the chart that renders them."""
    path = folder / "values.json"
    values = {key: value for key, value in revision.values.items() if key != "release"}
    # Values hold passwords more often than not.
    write_secret(path, to_text(values))
    return ChartSource(chart=chart, version=version, values=(str(path),))


def missing_dependencies(chart: Path) -> list[str]:
    """The dependencies of a chart's folder that are not in its `charts`. A disabled one counts: Helm asks for it, too."""
    path = chart / "Chart.yaml"
    if not path.is_file():
        return []
    metadata = parse_objects(path.read_text(encoding="utf-8", errors="replace"))
    names = [str(one.get("name")) for thing in metadata for one in thing.get("dependencies") or []]
    there = chart / "charts"
    return [name for name in names if not (there / name).is_dir() and not any(there.glob(f"{name}-[0-9v]*.tgz"))]
