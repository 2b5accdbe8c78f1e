"""`cai` with steps that need no model (`fake_step`), for tests in processes of their own."""

import sys
from pathlib import Path

from cai_bootstrap import pipeline
from cai_bootstrap.cli import main

FAKE_STEP = str(Path(__file__).with_name("fake_step.py"))


def fake_step_command(arguments: list[str]) -> list[str]:
    """In the place of `supervise.step_command`."""
    return [sys.executable, FAKE_STEP, *arguments]


if __name__ == "__main__":
    pipeline.step_command = fake_step_command  # type: ignore[assignment]
    main()
