"""A release on a real cluster, to look at; `make demo` calls it.

    python -m demo [--record FILE.svg]

Without CONTEXT it runs on the project's own local cluster (root on Linux). Each option is a variable as well.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from demo.places import DemoError, Place, Wish, open_place, remove_namespace
from demo.screen import Look, Screen
from demo.walk import Walk, explain
from tests.cluster import ClusterError

CANCELLED = 130


def read_wish(arguments: Sequence[str], environment: Mapping[str, str]) -> Wish:
    """Options, each with its variable as the default."""
    parser = argparse.ArgumentParser(
        prog="make demo", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )

    def option(name: str, text: str, default: str = "") -> None:
        variable = name.upper()
        parser.add_argument(f"--{name}", default=environment.get(variable, default), help=f"{text} ({variable}=)")

    option("context", "context of an existing cluster with Istio, instead of the local one")
    option("image", "with CONTEXT: repository of a service that answers GET / on port 9080")
    option("tags", "old, new and bad tag; a third that is missing is the new one with a broken probe", "83,84,85")
    option("url", "with CONTEXT: where the requests go, if not to the gateway's load balancer")
    option("gateway", "with CONTEXT: label of the gateway's pods, such as istio=ingressgateway")
    option("values", "with CONTEXT: a values file for charts/productpage")
    option("yes", "approve everything: YES=1")
    parser.add_argument("--record", default="", metavar="FILE.svg", help="write a picture of the run; implies YES=1")
    found = parser.parse_args(arguments)
    tags = [tag.strip() for tag in found.tags.split(",") if tag.strip()]
    if len(tags) not in (2, 3):
        parser.error("TAGS= has two or three tags: old, new and, if you have one, bad")
    old, new, bad = (*tags, tags[1])[:3]
    yes = found.yes.lower() not in ("", "0", "no", "false") or bool(found.record)
    return Wish(found.context, found.image, (old, new, bad), found.url, found.gateway, found.values, yes, found.record)


def main(arguments: Sequence[str]) -> int:
    wish = read_wish(arguments, os.environ)
    screen = Screen(yes=wish.yes)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for text in explain(wish):
        screen.line(text, pictured=False)
    try:
        place = open_place(wish)
        return _show(wish, place, screen)
    except KeyboardInterrupt:
        screen.line("Cancelled.", Look.BAD)
        return CANCELLED
    except (DemoError, ClusterError) as error:
        screen.line(f"demo: {error}", Look.BAD)
        return 1


def _show(wish: Wish, place: Place, screen: Screen) -> int:
    try:
        with tempfile.TemporaryDirectory(prefix="helm-canary-demo-") as folder:
            walk = Walk(wish, place, screen, Path(folder))
            walk.run()
    finally:
        _clean_up(place, screen)
    if wish.picture and not walk.problems:
        from demo.picture import write

        write(Path(wish.picture), screen.pictured)
        screen.line(f"{wish.picture} is written.", pictured=False)
    for problem in walk.problems:
        screen.line(f"demo: {problem}", Look.BAD)
    return 1 if walk.problems else 0


def _clean_up(place: Place, screen: Screen) -> None:
    """Not to be stopped by a second Ctrl-C: what is left half-removed would be in the way of the next demo."""
    before = [signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        screen.line("Removing the demo's namespace.", Look.FAINT, pictured=False)
        remove_namespace(place)
        screen.line(place.close(), Look.FAINT, pictured=False)
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
