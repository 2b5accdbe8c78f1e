#!/bin/bash
# A check of `--engine openai` and `--judge` against vLLM's own server, on a machine with a GPU and vLLM.
#   bash benchmarks/served_engine.sh BASE JUDGE [OUT]
# BASE: a base model's folder (safetensors), such as the prepared gemma-3-270m. JUDGE: another model's folder, which is
# only a judge (it need not be trusted: `not_judged` is a right end too). OUT: where everything is written.
# Run it where `cai`, `python` and `vllm` are on the PATH. Ends with 0 and "ALL SEEN" if everything was as it is to be.
set -euo pipefail
BASE=$(realpath "$1") JUDGE=$(realpath "$2") OUT=${3:-$(mktemp -d)}
PORT=${PORT:-8000} JUDGE_PORT=${JUDGE_PORT:-8001}
mkdir -p "$OUT"; OUT=$(realpath "$OUT")
export MY_SERVER_KEY=check-$RANDOM$RANDOM
export VLLM_API_KEY=$MY_SERVER_KEY

serve() { # FOLDER NAME PORT SHARE
  local command=(vllm serve "$1")
  command -v vllm >/dev/null || command=(python -m vllm.entrypoints.openai.api_server --model "$1")
  "${command[@]}" --served-model-name "$2" --host 127.0.0.1 --port "$3" --dtype bfloat16 --generation-config vllm \
    --max-model-len 4096 --enforce-eager --gpu-memory-utilization "$4" >"$OUT/vllm-$2.log" 2>&1 &
  PIDS+=($!)
}
PIDS=()
trap 'for pid in "${PIDS[@]}"; do kill "$pid" 2>/dev/null || true; done; wait 2>/dev/null || true' EXIT
wait_for() { # PORT LOG
  for _ in $(seq 300); do
    python - "$1" <<'P' 2>/dev/null && return 0
import sys, urllib.request
urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://127.0.0.1:{sys.argv[1]}/health", timeout=2)
P
    kill -0 "${PIDS[-1]}" 2>/dev/null || break
    sleep 2
  done
  echo "no server on port $1; its log ends:"; tail -40 "$2"; exit 1
}
serve "$BASE" base "$PORT" 0.15; wait_for "$PORT" "$OUT/vllm-base.log"
serve "$JUDGE" judge "$JUDGE_PORT" 0.15; wait_for "$JUDGE_PORT" "$OUT/vllm-judge.log"
REMOTE=(--model "$BASE" --engine openai --endpoint "http://127.0.0.1:$PORT" --set server.precision=bf16
        --set server.api_key_env=MY_SERVER_KEY)
SMALL=(--count 64 --set generation.batch_size=32 --set training.max_steps=20 --set pairs.min_pairs=2 --precision bf16)

echo "== 1. a wrong key is refused at once"
MY_SERVER_KEY=wrong cai generate --base-dir "$OUT/wrong" "${REMOTE[@]}" "${SMALL[@]}" 2>"$OUT/wrong.txt" && exit 1
grep -q "wants another key" "$OUT/wrong.txt"; tail -1 "$OUT/wrong.txt"

echo "== 2. Stage 1: the server's greedy words beside this process's (shares; bf16 sums differ between engines)"
cai generate --base-dir "$OUT/remote" "${REMOTE[@]}" "${SMALL[@]}" --set generation.temperature=0
cai generate --base-dir "$OUT/local" --model "$BASE" --engine transformers "${SMALL[@]}" --set generation.temperature=0
python - "$OUT" <<'P'
import json, sys
from pathlib import Path
out = Path(sys.argv[1])
for name in ("responses", "critiques", "revisions", "judgements"):
    rows = []
    for side in ("remote", "local"):
        path = out / side / "data/stage1" / f"{name}.jsonl"
        rows.append([json.loads(line) for line in path.read_text().splitlines()])
    key = "text" if name != "judgements" else "margin"
    if name == "judgements":
        mine = {r.get("id") or r.get("instruction_id"): r[key] for r in rows[0]}
        own = {r.get("id") or r.get("instruction_id"): r[key] for r in rows[1]}
        both = [(mine[i], own[i]) for i in mine if i in own]
        print(name, f"{len(both)} compared; same sign in {sum((a > 0) == (b > 0) for a, b in both)}")
        continue
    same = sum(a[key] == b[key] for a, b in zip(*rows))
    ends = sum(a.get("finished") == b.get("finished") for a, b in zip(*rows))
    print(name, f"{same} of {len(rows[0])} texts word for word, {ends} of {len(rows[0])} ended alike")
    if name == "responses":
        assert same >= 0.7 * len(rows[0]), "far from the same model"
summary = json.loads((out / "remote/data/stage1/generation_summary.json").read_text())
print(json.dumps(summary["served_by"], indent=1))
assert summary["served_by"]["checked"] == "declared, not checked" and summary["served_by"]["prompt_tokens"] > 0
P

echo "== 3. a small whole run (drawn answers too), evaluated in this process"
code=0; cai run --base-dir "$OUT/run" "${REMOTE[@]}" "${SMALL[@]}" --train-anyway --suite stage1-dev --set evaluation.elicit=false || code=$?
[ "$code" = 0 ] || [ "$code" = 3 ]
python - "$OUT/run" <<'P'
import json, sys
from pathlib import Path
base = Path(sys.argv[1])
results = json.loads(next((base / "results").glob("stage1_evaluation_*.json")).read_text())
print(results["run"]["generated_by"]); print("measured by", results["conditions"]["engine"])
assert results["run"]["generated_by"]["checked"] == "declared, not checked"
assert results["conditions"]["engine"] != "openai"
P

echo "== 4. the constitution stage: the base at an address, a judge at an address"
python - "$OUT/kind.yaml" <<'P'
# A principle with shipped labels and no check: only a model can judge it.
import sys
from pathlib import Path
import yaml
from cai_bootstrap.constitution import load_constitution
from cai_bootstrap.measuring.principles.model_judge import shipped_labels
from cai_bootstrap.shipped import shipped
labelled = shipped_labels()
ids = {row.principle for row in labelled}
for path in sorted([shipped("constitution_v2.yaml"), *shipped("examples/constitutions").glob("*.yaml")]):
    raw = yaml.safe_load(path.read_text())
    rows = [p for p in raw["principles"] if p["id"] in ids and "check" not in p and "judge" not in p and p.get("demonstrations")]
    if rows:
        raw["principles"] = rows[:1]
        Path(sys.argv[1]).write_text(yaml.safe_dump(raw, sort_keys=False, allow_unicode=True))
        print("principle:", rows[0]["id"], "of", path.name)
        break
else:
    sys.exit(f"no shipped principle without a rule has labels; labelled are {sorted(ids)}")
load_constitution(Path(sys.argv[1]))
P
cai run --stage constitution --constitution "$OUT/kind.yaml" --control none --base-dir "$OUT/constitution" "${REMOTE[@]}" "${SMALL[@]}" \
  --set steering.dev_items=0 --set steering.test_items=24 --set steering.beside=false --train-anyway \
  --judge "http://127.0.0.1:$JUDGE_PORT/v1" --judge-model judge --set judge.api_key_env=MY_SERVER_KEY --set judge.precision=bf16
python - "$OUT/constitution" <<'P'
import json, sys
from pathlib import Path
base = Path(sys.argv[1])
results = json.loads(next((base / "results").glob("constitution_evaluation_*.json")).read_text())
print(json.dumps(results["judges"], indent=1)); print(json.dumps(results["run"]["judge"], indent=1))
assert all(judge["kind"] == "server" for judge in results["judges"].values())
assert results["run"]["judge"]["requests"] > 0
P

echo "== 5. the base as its own judge is refused, though it is served under another name"
code=0; cai run --stage constitution --constitution "$OUT/kind.yaml" --control none --base-dir "$OUT/own" --model "$BASE" --engine transformers "${SMALL[@]}" \
  --judge "http://127.0.0.1:$PORT" --judge-model base --set judge.api_key_env=MY_SERVER_KEY 2>"$OUT/own.txt" || code=$?
[ "$code" = 2 ]; grep -q "nobody judges himself" "$OUT/own.txt"; tail -1 "$OUT/own.txt"

echo "== 6. the key is in no file"
! grep -rlF "$MY_SERVER_KEY" "$OUT" --exclude='vllm-*.log' || { echo "the key was written"; exit 1; }
echo "ALL SEEN"
