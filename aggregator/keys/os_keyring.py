"""The keyring of the person's desktop, through the program of the PyPI package ``keyring``, where that is installed.

A program and not an import: asking may wait for somebody to unlock the keyring,
and a program can be left. This file must not know what is kept there.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

SERVICE = "mcp-aggregator"
PATIENCE = 30.0  # seconds for a person to unlock it


class KeyringClosed(Exception):
    """It cannot be asked now. The text is for whoever started us."""


@dataclass(frozen=True, slots=True)
class Keyring:
    """`program` understands ``get`` and ``set`` as ``python -m keyring`` does."""

    program: Sequence[str]

    def get(self, name: str) -> str | None:
        """The text kept as `name`; None if there is none. Blocks.

        Raises:
            KeyringClosed: if that is not known now.
        """
        done = self._run("get", name)
        if done.returncode == 0:
            return done.stdout.removesuffix("\n") or None
        if done.stderr.strip():  # it says nothing where there is nothing
            raise KeyringClosed(done.stderr.strip().splitlines()[-1][:200])
        return None

    def set(self, name: str, text: str) -> bool:
        """Keep `text`; False if that cannot be done. Blocks."""
        try:
            return self._run("set", name, text + "\n").returncode == 0 and self.get(name) == text
        except KeyringClosed:
            return False

    def _run(self, verb: str, name: str, text: str = "") -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(  # noqa: S603  what is started is fixed, and `name` is a path of ours
                [*self.program, verb, SERVICE, name],
                input=text,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise KeyringClosed(f"it was not unlocked within {PATIENCE:g} s") from None
        except OSError as exc:
            raise KeyringClosed(str(exc)) from exc


def find_keyring() -> Keyring | None:
    """The keyring, if its package is installed."""
    if importlib.util.find_spec("keyring") is None:
        return None
    return Keyring((sys.executable, "-m", "keyring"))
