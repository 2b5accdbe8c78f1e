"""An exported, merged model asked by transformers and by vLLM: on how many dev instructions do greedy answers agree?

python tools/export_answers.py EXPORT/model [--precision float32] [--count 208]     the libraries alone, no own engine
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from cai_bootstrap.inference.engine import plain_prompt  # noqa: E402
from cai_bootstrap.inference.vllm_engine import sample_without_flashinfer_if_missing  # noqa: E402
from cai_bootstrap.judging.suite import load_suite  # noqa: E402

NEW_TOKENS = 48


def by_transformers(folder: str, precision: str, rows: list[list[int]]) -> list[list[int]]:
    import torch
    from transformers import AutoModelForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, precision)).to(device).eval()
    made = []
    with torch.inference_mode():
        for row in rows:
            asked = torch.tensor([row], device=device)
            output = model.generate(
                input_ids=asked, attention_mask=torch.ones_like(asked), max_new_tokens=NEW_TOKENS, do_sample=False
            )
            made.append(output[0, len(row) :].tolist())
    return made


def by_vllm(folder: str, precision: str, rows: list[list[int]]) -> list[list[int]]:
    sample_without_flashinfer_if_missing()
    from vllm import LLM, SamplingParams

    llm = LLM(folder, dtype=precision, max_model_len=1024, gpu_memory_utilization=0.4, enforce_eager=True)
    asked = SamplingParams(temperature=0.0, max_tokens=NEW_TOKENS)
    outputs = llm.generate([{"prompt_token_ids": row} for row in rows], asked, use_tqdm=False)
    return [list(output.outputs[0].token_ids) for output in outputs]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--count", type=int, default=208)
    given = parser.parse_args()
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(given.folder)
    items = load_suite("stage1-dev").items[: given.count]
    rows = tokenizer([plain_prompt(item.instruction) for item in items])["input_ids"]
    first = by_transformers(given.folder, given.precision, rows)
    second = by_vllm(given.folder, given.precision, rows)
    texts = [[tokenizer.decode(ids, skip_special_tokens=True) for ids in made] for made in (first, second)]
    same = sum(a == b for a, b in zip(*texts, strict=True))
    other = [pair for pair in zip(*texts, strict=True) if pair[0] != pair[1]]
    print(json.dumps({"precision": given.precision, "asked": len(rows), "same": same, "differ": other[:10]}, indent=1))
    return 0 if same == len(rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
