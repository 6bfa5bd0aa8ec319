"""What starting costs: CPU seconds, user and system, of a few commands, least of nine runs.

    python -m compileall -q aggregator && python tests/bench/startup.py

Budgets: ``--help`` 0.20 s, ``check`` of ten upstreams 0.35 s, on a core of
2.5 GHz with compiled bytecode. `importlib` reads that from ``__pycache__``, so
the first run is thrown away. This is a measurement, not a test: a busy machine
would fail it for no fault of ours.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

RUNS = 9
BUDGETS = {"--help": 0.20, "check": 0.35}


def main() -> int:
    config = {
        "auth": {"issuer": "https://idp.example.com"},
        "upstreams": [{"name": f"up{n}", "url": f"https://up{n}.example.com/mcp"} for n in range(10)],
        "secret": "A" * 5 + "bCdEfGhIjKlMnOpQrStUvWxYz0123456789-_abc",
    }
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    over = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.json")
        path.write_text(json.dumps(config))
        for label, arguments in (
            ("interpreter", ["-c", "pass"]),
            ("--help", ["-m", "aggregator", "--help"]),
            ("check", ["-m", "aggregator", "check", "-c", str(path)]),
            ("schema", ["-m", "aggregator", "schema"]),
            ("secret new", ["-m", "aggregator", "secret", "new"]),
        ):
            seconds = min(cpu_seconds([sys.executable, *arguments], environ) for _ in range(RUNS + 1))
            budget = BUDGETS.get(label)
            over += budget is not None and seconds > budget
            print(f"{label:12} {seconds:.3f} s" + (f"  (budget {budget:.2f} s)" if budget else ""))
    return 1 if over else 0


def cpu_seconds(command: list[str], environ: dict[str, str]) -> float:
    """CPU time of one run of `command`.

    Raises:
        SystemExit: if the command fails.
    """
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    sys.exit(main())
