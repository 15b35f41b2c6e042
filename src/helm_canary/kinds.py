"""Kinds and versions of objects that the cluster does not know: a removed API, or one whose CRDs are not installed. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from helm_canary.errors import RefusedError

# As Helm and kubectl say it, whatever they were asked for.
NO_MATCH = re.compile(r'no matches for kind "(?P<kind>[^"]+)" in version "(?P<version>[^"]+)"')


@dataclass(frozen=True, kw_only=True)
class UnknownKind:
    """A kind in a version, as an object names them."""

    kind: str
    version: str

    def __str__(self) -> str:
        return f"{self.kind} in version {self.version}"


def unknown_kinds(stderr: str) -> list[UnknownKind]:
    """Those that a failed command names."""
    return list(dict.fromkeys(UnknownKind(**found.groupdict()) for found in NO_MATCH.finditer(stderr)))


def lines_of(kinds: Sequence[UnknownKind]) -> re.Pattern[str]:
    """The lines of a template that ask for one of these versions."""
    versions = "|".join(re.escape(each.version) for each in kinds)
    return re.compile(rf"^\s*[\"']?apiVersion[\"']?:\s*[\"']?(?:{versions})[\"']?\s*$")


def refuse_kinds(kinds: Sequence[UnknownKind], lines: Sequence[object]) -> RefusedError:
    shown = ", ".join(map(str, kinds))
    return RefusedError(
        f"The chart renders {shown}, which the cluster does not have.",
        "This version of the API was removed from Kubernetes, or the CRDs of the kind are not installed.",
        "Let the template write a version that `kubectl api-resources` lists, or install the CRDs first.",
        tuple(map(str, lines)),
    )
