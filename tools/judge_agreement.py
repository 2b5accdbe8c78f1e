"""How far a base model's own yes or no agrees with people on the shipped labelled answers, principle by principle.

Run: python tools/judge_agreement.py [--model MODEL] [CONSTITUTION]. Each principle of the constitution (constitution_v2
by default) that has labelled answers gets a row. A judge is believed from a lower bound of κ = 0.6 on.
"""

import argparse
import os
import tempfile
from pathlib import Path

from cai_bootstrap.constitution import load_constitution
from cai_bootstrap.events import EventLog, Progress
from cai_bootstrap.inference.models import EMBEDDED, prepare
from cai_bootstrap.inference.open import open_model
from cai_bootstrap.measuring.principles.model_judge import ModelJudge, calibrate, labels_for
from cai_bootstrap.processor import quick_precision
from cai_bootstrap.shipped import shipped


def main() -> None:
    """Print one row a principle."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("constitution", type=Path, nargs="?", default=shipped("constitution_v2.yaml"))
    parser.add_argument("--model", default=os.environ.get("CAI_MODEL", EMBEDDED))
    options = parser.parse_args()
    precision, _ = quick_precision()
    engine = open_model(
        prepare(options.model), engine="transformers", precision=precision, batch_size=16, tokens_asked=0, say=print
    ).engine
    print("| principle | labelled answers | κ | lower bound | believed |\n|---|---|---|---|---|")
    for principle in load_constitution(options.constitution).principles:
        labels = labels_for(principle, ())
        if not labels:
            continue
        with tempfile.TemporaryDirectory() as folder:
            progress = Progress(EventLog(Path(folder) / "events.jsonl", "judge"), "evaluate")
            record = calibrate(
                ModelJudge(engine, principle), labels, Path(folder), progress=progress, stopping=lambda: False
            )
        figures = [f"{value:.2f}" if value is not None else "–" for value in (record.kappa, record.kappa_lower)]
        print("|", " | ".join([principle.id, str(len(labels)), *figures, "yes" if record.trusted else "no"]), "|")


if __name__ == "__main__":
    main()
