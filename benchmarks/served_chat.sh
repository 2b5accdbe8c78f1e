#!/bin/bash
# bash benchmarks/served_chat.sh BASE_DIR [PRECISION] [PORT]
# On a GPU machine with vLLM: exports the merged model of the run in BASE_DIR, asks 50 plain questions by `cai ask`, then
# the same of `vllm serve` through /v1/chat/completions (temperature 0, no max_tokens: the model's own settings must
# hold), and prints how many answers are equal, in all and as long as both say. A refused system message is tried too.
# PRECISION (fp32, bf16; default: the run's own) is used by export and ask, and vLLM serves what was stored.
# $CAI and $VLLM name the commands, $OUT a folder that keeps the answers; $VLLM_FLAGS are added to `vllm serve`.
set -euo pipefail
BASE=${1:?usage: benchmarks/served_chat.sh BASE_DIR [PRECISION] [PORT]}
PRECISION=${2:-}
PORT=${3:-8117}
CAI=${CAI:-cai}
VLLM=${VLLM:-vllm}
PYTHON=${PYTHON:-python3}
WORK=$(mktemp -d)
KEEP=${OUT:-$WORK}
mkdir -p "$KEEP"
SERVER=
finish() {
  if [ -n "$SERVER" ]; then kill -TERM -- "-$SERVER" 2>/dev/null || true; sleep 3; kill -KILL -- "-$SERVER" 2>/dev/null || true; fi
  tail -n 25 "$KEEP/vllm.log" > "$KEEP/vllm.tail" 2>/dev/null || true
  [ "$KEEP" = "$WORK" ] && [ "${STATUS:-1}" != 0 ] && echo "files: $WORK" || rm -rf "$WORK/served"
}
trap finish EXIT

FLAGS=(--base-dir "$BASE")
[ -n "$PRECISION" ] && FLAGS+=(--precision "$PRECISION")
mapfile -t QUESTIONS < <("$PYTHON" - <<'END'
topics = ("a kite", "the moon", "bread", "a bicycle", "winter", "an owl", "a bridge", "tea", "a violin", "the sea")
wordings = ("What is {}?", "Name three things that go with {}.", "Write one sentence about {}.",
            "Describe {} in five words.", "Write this in capital letters: {}")
for wording in wordings:
    for topic in topics:
        print(wording.format(topic))
END
)
echo "questions: ${#QUESTIONS[@]}"
echo "== cai export --merge"
$CAI export "${FLAGS[@]}" --to "$WORK/served" --merge
cat "$WORK/served/model/generation_config.json"
# vLLM would serve weights of 32 bits in 16 unless it is told.
DTYPE=$("$PYTHON" -c 'import json, sys; c = json.load(open(sys.argv[1])); print(c.get("dtype") or c.get("torch_dtype") or "auto")' "$WORK/served/model/config.json")
echo "stored as $DTYPE"
echo "== cai ask"
$CAI ask "${FLAGS[@]}" --json --side trained "${QUESTIONS[@]}" > "$KEEP/ask.json"
echo "== vllm serve"
# shellcheck disable=SC2086
setsid $VLLM serve "$WORK/served/model" --served-model-name trained --host 127.0.0.1 --port "$PORT" \
  --dtype "$DTYPE" --max-model-len 2048 --gpu-memory-utilization 0.5 --override-generation-config '{"temperature": 0}' \
  ${VLLM_FLAGS:-} > "$KEEP/vllm.log" 2>&1 < /dev/null &
SERVER=$!
STATUS=0
"$PYTHON" - "$KEEP" "$PORT" "$SERVER" <<'END' || STATUS=$?
import json, sys, time, urllib.error, urllib.request

keep, port, server = sys.argv[1], sys.argv[2], int(sys.argv[3])
address = f"http://127.0.0.1:{port}"


def post(messages, **more):
    body = json.dumps({"model": "trained", "messages": messages, **more}).encode()
    request = urllib.request.Request(f"{address}/v1/chat/completions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)["choices"][0]


def alive():
    try:
        return open(f"/proc/{server}/stat").read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


for second in range(420):
    if not alive():
        sys.exit(f"vllm serve ended; {keep}/vllm.log:\n" + "".join(open(f"{keep}/vllm.log").readlines()[-25:]))
    try:
        urllib.request.urlopen(f"{address}/health", timeout=5)
        break
    except (urllib.error.URLError, OSError):
        time.sleep(1)
else:
    sys.exit("vllm serve was not ready after 420 s")
print(f"ready after {second} s")

rows, same, begun = [], 0, 0
for row in json.load(open(f"{keep}/ask.json")):
    asked = row["answers"]["trained"]
    choice = post([{"role": "user", "content": row["instruction"]}], temperature=0)
    text = choice["message"]["content"] or ""
    equal = text == asked["text"]
    same += equal
    begun += text.strip().split("\n")[0] == asked["text"].strip().split("\n")[0]
    rows.append({"instruction": row["instruction"], "cai": asked["text"], "vllm": text, "equal": equal,
                 "cai_ended_by": asked["ended_by"], "vllm_finish": choice["finish_reason"]})
    if not equal:
        print(f"differs: {row['instruction']!r}\n  cai  {asked['text']!r} ({asked['ended_by']})\n"
              f"  vllm {text!r} ({choice['finish_reason']})")
json.dump(rows, open(f"{keep}/compared.json", "w"), indent=1, ensure_ascii=False)
first = rows[0]["instruction"]
turns = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hello to you."},
         {"role": "user", "content": first}]
print("an earlier turn changes nothing:", (post(turns, temperature=0)["message"]["content"] or "") == rows[0]["vllm"])
print("no temperature in the request, same answer:",
      (post([{"role": "user", "content": first}])["message"]["content"] or "") == rows[0]["vllm"])
try:
    post([{"role": "system", "content": "Be brief."}, {"role": "user", "content": first}], temperature=0)
    print("a system message was NOT refused")
except urllib.error.HTTPError as error:
    print(f"a system message is refused: {error.code} {error.read().decode()[:300]}")
ended = sum(row["cai_ended_by"] == "eos" for row in rows), sum(row["vllm_finish"] == "stop" for row in rows)
print(f"ended by EOS: cai {ended[0]}, vllm {ended[1]} of {len(rows)}")
print(f"equal answers: {same} of {len(rows)}; equal first lines: {begun} of {len(rows)}")
END
exit "$STATUS"
