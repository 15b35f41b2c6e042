"""The plugin folder that a command makes for Helm: the post-renderer, what it may let through, and what it found.

Helm finds plugins by folder only, and splits a plugin's command at blanks before it fills variables in, so where Python is
comes in a variable.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helm_canary.composing import Writing
from helm_canary.keys import write_secret

PLUGIN = "helm-canary-writer"
PYTHON = "HELM_CANARY_PYTHON"
PLUGIN_YAML = f"""\
apiVersion: v1
type: postrenderer/v1
name: {PLUGIN}
version: 1.0.0
runtime: subprocess
runtimeConfig:
  platformCommand:
    - command: ${{{PYTHON}}}
      args: ["-I", "${{HELM_PLUGIN_DIR}}/run.py", "${{HELM_PLUGIN_DIR}}"]
"""
RUN_PY = """\
import sys

sys.path[:0] = {path!r}
from helm_canary.postrender import main

sys.exit(main(sys.argv[1]))
"""


@dataclass(frozen=True, kw_only=True)
class PostRenderer:
    """The plugin in a folder of the command's own. `others`: the plugin folders that Helm has besides."""

    folder: Path
    others: str = ""

    @property
    def _plugin(self) -> Path:
        return self.folder / "plugins" / PLUGIN

    def environment(self) -> Mapping[str, str]:
        """What helm must be given to find it."""
        folders = [str(self.folder / "plugins"), *([self.others] if self.others else [])]
        return {"HELM_PLUGINS": os.pathsep.join(folders), PYTHON: sys.executable}

    def prepare(self, writing: Writing, namespace: str) -> None:
        """Say what the next upgrade may write. Secrets are among it: nobody else may read the file."""
        self._plugin.mkdir(parents=True, exist_ok=True)
        (self._plugin / "plugin.yaml").write_text(PLUGIN_YAML, encoding="utf-8")
        (self._plugin / "run.py").write_text(RUN_PY.format(path=[part for part in sys.path if part]), encoding="utf-8")
        (self._plugin / "answer.json").unlink(missing_ok=True)
        (self._plugin / "step.json").unlink(missing_ok=True)
        write_secret(self._plugin / "step.json", json.dumps({**vars(writing), "namespace": namespace}))

    def different(self) -> list[Mapping[str, str]]:
        """Where Helm's rendering was not what was checked, by name and template; then it has written nothing."""
        try:
            answer: dict[str, Any] = json.loads((self._plugin / "answer.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return []
        return list(answer["different"])
