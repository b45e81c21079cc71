"""Writes promptfoo/before.json and after.jsonl, results of promptfoo 0.123.1 with its `echo`.

`python make_promptfoo.py PROMPTFOO...` runs the command PROMPTFOO. It takes some seconds and needs
Node 22 and `npm install promptfoo@0.123.1`. The provider `echo` answers with the prompt.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent / "promptfoo"
QUIET = {"PROMPTFOO_DISABLE_TELEMETRY": "1", "PROMPTFOO_DISABLE_UPDATE": "1"}
TESTS = [
    {
        "vars": {"question": f"Is {number} even?", "hint": "yes" if number % 3 else "no"},
        "metadata": {"topic": "small" if number < 16 else "large"},
        "assert": [
            {"type": "contains", "value": "no" if number % 2 else "yes", "metric": "right"},
            {"type": "javascript", "value": "output.length < 17"},
        ],
    }
    for number in range(32)
]

FOLDER.mkdir(exist_ok=True)
for name, prompt in {
    "before.json": "{{question}} {{hint}}",
    "after.jsonl": "{{question}} yes",
}.items():
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.json"
        parts = {
            "description": "parity",
            "prompts": [prompt],
            "providers": ["echo"],
            "tests": TESTS,
        }
        config.write_text(json.dumps(parts))
        command = [*sys.argv[1:], "eval", "--config", str(config), "--output", str(FOLDER / name)]
        environment = {**os.environ, **QUIET, "PROMPTFOO_CONFIG_DIR": folder}
        # promptfoo exits with 100 when a test fails.
        subprocess.run([*command, "--no-cache", "--no-table"], env=environment, check=False)
