"""The post-renderer that Helm starts in each upgrade: Helm writes what was checked, or nothing.

Helm gives it all that the chart renders, hooks too, and stores and applies what it prints. It runs as a process of its own with
one folder for its argument: `step.json` there says what may be written (`writing.py` makes it), `answer.json` is what it found.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from helm_canary.composing import named, solid
from helm_canary.manifest import HOOK, Object, events, is_hook, parse_objects
from helm_canary.record import to_text

FILE = "postrenderer.helm.sh/postrender-filename"
# The events of an installation or an upgrade; hooks for tests, deletions and `helm rollback` stay with the release.
DEPLOYING = ("pre-install", "post-install", "pre-upgrade", "post-upgrade")
DIFFERENT = 9


def post_render(manifest: str, step: Mapping[str, Any]) -> tuple[str, list[dict[str, str]]]:
    """What Helm is to write, and where its rendering is not what was checked; then nothing may be written."""
    objects = [_without_file(thing) for thing in parse_objects(manifest)]
    hooks = [thing for thing, _ in objects if is_hook(thing)]
    rendered = [(thing, file) for thing, file in objects if not is_hook(thing)]
    found = {named(thing, step["namespace"]): (thing, file) for thing, file in rendered}
    different = [
        {"name": name, "file": found[name][1] if name in found else ""}
        for name, expected in step["expected"].items()
        if name not in found or solid(found[name][0]) != solid(expected)
    ]
    written = [thing for thing, _ in rendered] if step["objects"] is None else step["objects"]
    kept = [*step["stored"], *due_hooks(hooks, step["hooks"], step["done"], step["namespace"])]
    return "".join(f"---\n{to_text(thing)}\n" for thing in (*written, *kept)), different


def _without_file(thing: Object) -> tuple[Object, str]:
    """An object as the chart renders it, and the template that it came from, which Helm notes in an annotation."""
    metadata = dict(thing.get("metadata") or {})
    annotations = dict(metadata.get("annotations") or {})
    file = str(annotations.pop(FILE, ""))
    metadata["annotations"] = annotations
    if not annotations:
        del metadata["annotations"]
    return {**thing, "metadata": metadata}, file


def due_hooks(
    hooks: Iterable[Object], due: Mapping[str, str] | None, done: Sequence[str], namespace: str
) -> Iterator[Object]:
    """The hooks with just the events that are due now. Where none runs, all as they are: the release keeps them."""
    for hook in hooks:
        wanted = events(hook)
        if due is None:
            yield hook
            continue
        now = [event for event in wanted if event not in DEPLOYING]
        if named(hook, namespace) not in done:
            now += [due[event] for event in wanted if event in due]
        if now:
            metadata = hook["metadata"]
            annotations = {**metadata["annotations"], HOOK: ",".join(dict.fromkeys(now))}
            yield {**hook, "metadata": {**metadata, "annotations": annotations}}


def main(folder: str) -> int:
    """Standard input -> standard output, as Helm asks it; an exit code but 0 makes Helm stop before it stores anything."""
    step = json.loads(Path(folder, "step.json").read_text(encoding="utf-8"))
    output, different = post_render(sys.stdin.buffer.read().decode(), step)
    answer = Path(folder, "answer.json")
    with os.fdopen(os.open(answer, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump({"different": different}, file)
    if different:
        return DIFFERENT
    sys.stdout.buffer.write(output.encode())
    return 0
