"""The cluster from a shell.

python -m tests.cluster up                         start it, or repair it; nothing to do when it runs
python -m tests.cluster down                       end it and remove all of it but the compiled programs
python -m tests.cluster status                     what runs; exit 1 if not all of it
python -m tests.cluster exec COMMAND...            inside its network, with KUBECONFIG and PATH set
python -m tests.cluster image REF [NAME=VALUE...]  make a test image that answers as its tag (see app/main.go)
python -m tests.cluster gateways N                 that many ingress gateway pods
python -m tests.cluster stop|start DAEMON          end or start one part, to see what happens
python -m tests.cluster programs NAME...           make these programs only, and print where they are
"""

from __future__ import annotations

import sys

from . import binaries, cluster
from .shell import ClusterError


def main(argv: list[str]) -> int:
    match argv:
        case ["up"]:
            running = cluster.up()
            print(f"KUBECONFIG={running.kubeconfig}\ngateway http://{running.gateway_address}, reached by `exec`")
        case ["down"]:
            cluster.down()
        case ["status"]:
            sound, text = cluster.status()
            print(text)
            return 0 if sound else 1
        case ["exec", *command] if command:
            cluster.execute(command)
        case ["image", reference, *settings] if all("=" in setting for setting in settings):
            cluster.up().image(reference, **dict(setting.split("=", 1) for setting in settings))
        case ["gateways", number] if number.isdigit():
            cluster.up().scale_gateways(int(number))
        case ["stop", name]:
            cluster.attach().stop_daemon(name)
        case ["start", name]:
            cluster.attach().start_daemon(name)
        case ["programs", *names] if names:
            print("\n".join(map(str, binaries.ensure(*names).values())))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ClusterError as error:
        sys.exit(f"cluster: {error}")
