"""Where the console scripts start. Until a command has a handler of its own, Ctrl-C ends it as SIGTERM does, silently.

(Python's own handler would show a traceback from the middle of an import.) Nothing else may import this module.
"""

import importlib
import signal
from typing import Any

signal.signal(signal.SIGINT, signal.SIG_DFL)


def __getattr__(name: str) -> Any:
    """A command, by its name in commands.py or, of the demo, in demo.py."""
    return getattr(importlib.import_module(f"dae_lightning.cli.{'demo' if name == 'demo' else 'commands'}"), name)
