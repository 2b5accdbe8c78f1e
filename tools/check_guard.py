"""Ask models whether they are base models: what the guard says of each.

python tools/check_guard.py MODEL [MODEL ...]     a name, a folder in Hugging Face form, or a GGUF file
"""

import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from cai_bootstrap.inference.models import prepare  # noqa: E402
from cai_bootstrap.inference.open import open_model  # noqa: E402


def main(models: Sequence[str]) -> int:
    for model in models:
        opened = open_model(
            prepare(model), engine="transformers", precision="fp32", batch_size=8, tokens_asked=256, say=print
        )
        found = opened.inspect()
        called = "a chat-tuned model" if found.looks_tuned else "a base model"
        template = "ships a chat template" if found.has_chat_template else "ships no chat template"
        print(f"{model}: {called}; {found.tuned_rate:.0%} of {found.asked} sentinels ended; {template}")
    return 0 if models else 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
