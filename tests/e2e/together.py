"""Walks on different services, side by side: most of a release is waiting, and two of them lose no more than one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def side_by_side(items: Iterable[Item], carry_out: Callable[[Item], None]) -> None:
    """Carry out for each; all end before the first failure is raised, with the others told beside it."""
    every = list(items)
    with ThreadPoolExecutor(len(every)) as pool:
        futures = [pool.submit(carry_out, item) for item in every]
        failures = [(item, future.exception()) for item, future in zip(every, futures, strict=True)]
    found = [(item, failure) for item, failure in failures if failure is not None]
    for item, failure in found[1:]:
        print(f"{item}: {failure}")
    if found:
        print(f"raised for: {found[0][0]}")
        raise found[0][1]
