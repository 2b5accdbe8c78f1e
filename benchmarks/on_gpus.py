"""Every GPU measurement, one after another or side by side on several cards, each a process with a limit of its own.

Run on a GPU machine: python benchmarks/on_gpus.py --out FOLDER [--devices 0,1] [--only NAME,NAME].
The model is converted first if it has to be. What a measurement found is in FOLDER as soon as it is there; one that
fails or takes too long is reported, and others go on. `--only` takes names of measurements or of files (`generation`,
`training`, `memory`, `stage1`, `several`, `large`, `where`); `--budget` seconds after which nothing more is started;
`--list` shows what there is. A table comes last. Names that need more cards than there are are left out.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from cai_bootstrap.interpreter import python_command, python_environment, script_command

HERE = Path(__file__).resolve().parent
POLL_SECONDS = 0.1
LOG_LINES = 30
# Downloads nothing; NVLink multicast is no part of what is measured here and not every host allows it.
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true", "VLLM_ALLREDUCE_USE_SYMM_MEM": "0",
    "PYTHONUNBUFFERED": "1",
}  # fmt: skip


@dataclass(frozen=True)
class Measurement:
    """A script's run: into which file its findings go, on how many cards, its limit, and about how long it takes."""

    name: str
    file: str
    script: list[str]
    cards: int = 1
    limit: float = 200.0
    expected: float = 60.0
    after: str | None = None
    sized: bool = True  # takes --model; else --folder of the random large model
    cache: str | None = None  # of compiled kernels, shared by measurements of one name
    settings: tuple[tuple[str, str], ...] = ()  # of the environment


def _generation(name: str, row: str, *more: str, **fields: Any) -> Measurement:
    return Measurement(name, fields.pop("file", "generation"), ["generation.py", "--row", row, *more], **fields)


def _large(name: str, part: str, **fields: Any) -> Measurement:
    return Measurement(name, "large", ["large.py", part], sized=False, **fields)


MANY = ("--count", "16384")  # prompts: enough batches for every card
# 1,024 pairs a step in all, 256 at once on each card: with fewer a card waits for the host.
DPO = ("training.py", "--batch", "256", "--accumulate", "4", "--steps", "24", "--sides", "product")
QUICK = {
    "generation.py": ["--quick"], "memory_plan.py": ["--quick"],
    "training.py": ["--quick", "--batch", "4", "--steps", "20"],
    "stage1.py": ["--count", "8", "--preset", "quick-test"],
}  # fmt: skip
# By their worth; those on several cards last, so that no card waits for another before.
MEASUREMENTS = (
    _generation("vllm", "vllm", limit=280, expected=150, cache="vllm"),
    _generation("raw vllm", "raw vllm", limit=280, expected=150),
    Measurement("training", "training", ["training.py"], limit=200, expected=100),
    _generation("transformers", "transformers", limit=240, expected=90),
    _generation("transformers on 1", "transformers", *MANY, file="several", limit=150, expected=60),
    _generation("raw transformers", "raw transformers", limit=240, expected=90),
    Measurement("memory", "memory", ["memory_plan.py"], limit=180, expected=70),
    Measurement("stage1", "stage1", ["stage1.py"], limit=330, expected=180),
    Measurement("dpo on 1", "several", [*DPO], limit=200, expected=100),
    _large("large build", "build", limit=150, expected=50),
    _large("large bf16", "bf16", after="large build", limit=120, expected=35),
    _large("large train", "train", after="large build", limit=120, expected=40),
    _large("large int8", "int8", after="large build", limit=150, expected=50),
    Measurement("where", "where", ["where.py"], limit=180, expected=80),
    _generation("vllm apart", "vllm", limit=220, expected=90, cache="vllm",
                settings=(("VLLM_ENABLE_V1_MULTIPROCESSING", "1"),)),  # its scheduler in a process of its own
    _large("large vllm fp8", "vllm-fp8", after="large build", limit=200, expected=80),
    Measurement("dpo on 2", "several", [*DPO, "--processes", "2"], cards=2, limit=180, expected=70),
    _generation("transformers on 2", "transformers", "--workers", "2", *MANY, file="several", cards=2),
    _large("large vllm on 2", "vllm-two", after="large build", cards=2, limit=220, expected=90),
    _generation("vllm on 2", "vllm", "--workers", "2", file="several", cards=2, limit=220, expected=90, cache="vllm"),
    Measurement("dpo on 4", "several", [*DPO, "--processes", "4"], cards=4, limit=180, expected=70),
    _generation("transformers on 4", "transformers", "--workers", "4", *MANY, file="several", cards=4),
    _generation("vllm on 4", "vllm", "--workers", "4", file="several", cards=4, limit=220, expected=90, cache="vllm"),
)  # fmt: skip


@dataclass
class Running:
    """A measurement's process on its cards."""

    what: Measurement
    cards: list[str]
    process: "subprocess.Popen[bytes]"
    log: Path
    found: Path
    start: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.start

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Bench:
    """Starts measurements on free cards, in order, and keeps what they found."""

    def __init__(self, out: Path, model: str, devices: Sequence[str], scratch: Path, layers: int, quick: bool) -> None:
        self._out, self._model, self._scratch, self._layers, self._quick = out, model, scratch, layers, quick
        self._free = list(devices)
        self._running: list[Running] = []
        self.told: dict[str, dict[str, Any]] = {}
        self.found: dict[str, dict[str, Any]] = {}
        out.mkdir(parents=True, exist_ok=True)

    def run(self, wanted: Sequence[Measurement], budget: float) -> None:
        waiting, start = list(wanted), time.monotonic()
        try:
            while waiting or self._running:
                late = time.monotonic() - start > budget
                for what in list(waiting):
                    if late or self._hopeless(what, wanted):
                        waiting.remove(what)
                        self._tell(what, "not started", 0.0, "out of time" if late else f"{what.after} gave nothing")
                    elif what.cards <= len(self._free) and self._after(what, waiting):
                        waiting.remove(what)
                        self._start(what)
                for running in list(self._running):
                    if running.process.poll() is not None or running.seconds > running.what.limit:
                        self._finish(running)
                time.sleep(POLL_SECONDS)
        finally:
            for running in self._running:
                running.end()

    def _after(self, what: Measurement, waiting: Sequence[Measurement]) -> bool:
        busy = [*waiting, *(running.what for running in self._running)]
        return what.after not in {other.name for other in busy}

    def _hopeless(self, what: Measurement, wanted: Sequence[Measurement]) -> bool:
        before = self.told.get(what.after or "")
        return before is not None and before["status"] != "done" and any(w.name == what.after for w in wanted)

    def _start(self, what: Measurement) -> None:
        cards, self._free = self._free[: what.cards], self._free[what.cards :]
        name = what.name.replace(" ", "-")
        found, log = self._scratch / f"{name}.json", self._scratch / f"{name}.log"
        source = ["--model", self._model] if what.sized else ["--folder", str(self._scratch / "large")]
        more = ["--layers", str(self._layers)] if what.script == ["large.py", "build"] else []
        more += QUICK.get(what.script[0], []) if self._quick else []
        command = script_command(HERE / what.script[0], *what.script[1:], *source, *more, "--json", str(found))
        environment = {
            **ENVIRONMENT, **python_environment(), **dict(what.settings), "CUDA_VISIBLE_DEVICES": ",".join(cards),
            "VLLM_CACHE_ROOT": str(self._scratch / f"cache-{(what.cache or name)}"),
        }  # fmt: skip
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        print(f"{time.strftime('%H:%M:%S')} {what.name} on {','.join(cards) or 'the CPU'} ...", flush=True)
        self._running.append(Running(what, cards, process, log, found))

    def _finish(self, running: Running) -> None:
        late = running.process.poll() is None
        running.end()
        self._running.remove(running)
        self._free = sorted([*self._free, *running.cards])
        code, log = running.process.returncode, running.log.read_text(errors="replace")
        why = f"not done after {running.what.limit:.0f} s" if late else f"exit code {code}"
        whole = not late and code == 0
        self._tell(running.what, "done" if whole else "failed", running.seconds, None if whole else why, log)
        if running.found.exists():
            try:
                made = json.loads(running.found.read_text())
            except ValueError:
                made = {"failed": "its file is torn"}
            self._keep(running.what, made if whole else {**made, "incomplete": why})
        else:
            last = next((line for line in reversed(log.splitlines()) if line.strip()), "")
            self._keep(running.what, {"failed": f"{why}: {last[:300]}"})

    def _keep(self, what: Measurement, made: dict[str, Any]) -> None:
        file = self._out / f"{what.file}.json"
        known = json.loads(file.read_text()) if file.exists() else {}
        known[what.name] = made
        self.found[what.name] = made
        file.write_text(json.dumps(known, indent=1) + "\n")

    def _tell(self, what: Measurement, status: str, seconds: float, why: str | None, log: str = "") -> None:
        print(
            f"{time.strftime('%H:%M:%S')} {what.name}: {status}, {seconds:.0f} s" + (f" ({why})" if why else ""),
            flush=True,
        )
        told: dict[str, Any] = {"status": status, "seconds": round(seconds, 1), "why": why}
        if status == "failed":
            told["log"] = log.splitlines()[-LOG_LINES:]
            print("\n".join(f"    {line[:200]}" for line in told["log"][-8:]), flush=True)
        self.told[what.name] = told
        summary = self._out / "summary.json"
        known = json.loads(summary.read_text()) if summary.exists() else {}
        summary.write_text(json.dumps({**known, **self.told}, indent=1) + "\n")


def chosen(only: str, devices: int) -> list[Measurement]:
    """The measurements asked for, by name or file; those that need more cards than there are left out."""
    names = [name.strip() for name in only.split(",") if name.strip()]
    known = {what.name for what in MEASUREMENTS} | {what.file for what in MEASUREMENTS}
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"--only: {unknown[0]!r} is none of: {', '.join(sorted(known))}")
    return [
        what for what in MEASUREMENTS if what.cards <= devices and (not names or {what.name, what.file} & set(names))
    ]


def conclusions(out: Path) -> list[str]:
    """What all files in `out` say of the aims, a line each."""
    from generation import ratios

    files = {path.stem: json.loads(path.read_text()) for path in out.glob("*.json")}
    several, lines = files.get("several", {}), []
    for ratio in ratios(files.get("generation", {})):
        sign = "<=" if ratio["at_most"] else ">="
        lines.append(f"{ratio['what']}: {ratio['value']:.3g} (aim {sign} {ratio['aim']:g})")
    for name, ratio in files.get("training", {}).get("training", {}).get("ratios", {}).items():
        sides = files["training"]["training"]["sides"]
        losses = f"{sides[name]['final_loss']:.4f} and {sides['TRL defaults']['final_loss']:.4f}"
        lines.append(f"training, {name} against TRL's defaults: {ratio:.2f} (aim >= 3), final losses {losses}")
    one = several.get("dpo on 1", {}).get("sides", {})
    for cards, aim in ((2, 1.8), (4, 3.2)):
        more = several.get(f"dpo on {cards}", {}).get("sides", {})
        for name in sorted(one.keys() & more.keys()):
            if not {"failed"} & (one[name].keys() | more[name].keys()):
                ratio = more[name]["pairs_per_second"] / one[name]["pairs_per_second"]
                lines.append(f"DPO on {cards} cards, {name}: {ratio:.2f} (aim >= {aim})")
    for name, (cards, aim) in product(("transformers", "vllm"), ((2, 1.9), (4, 3.6))):
        alone = several.get(f"{name} on 1") or files.get("generation", {}).get(name, {})
        all_of_them = several.get(f"{name} on {cards}", {})
        if "warm" in alone and "warm" in all_of_them:
            ratio = all_of_them["warm"]["tokens_per_second"] / alone["warm"]["tokens_per_second"]
            lines.append(f"generation on {cards} cards, {name}: {ratio:.2f} (aim >= {aim})")
    for row in files.get("memory", {}).get("memory", {}).get("rows", []):
        lines.append(
            f"memory, {row['what']}: plan {row['planned_gib']} GiB, peak {row['measured_gib']}, {row['ratio']}"
        )
    if "whole_seconds" in (whole := files.get("stage1", {}).get("stage1", {})):
        lines.append(
            f"stage 1 of {whole['count']}: {whole['whole_seconds']:.0f} s (aim 120, bound 300), "
            f"{whole['whole_by_engines'] or 0:.2f} of its engines' time (aim <= 1.25), {whole['verdict']}"
        )
    for name, made in files.get("large", {}).items():
        shown = {key: round(value, 2) for key, value in made.items() if isinstance(value, float)}
        lines.append(f"{name}: {made.get('failed') or shown}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("measured"))
    parser.add_argument("--model", default="gemma-3-270m", help="the embedded model, a folder, or a GGUF file")
    parser.add_argument("--devices", default="0,1", help="the cards, joined by commas; none to try it on a CPU")
    parser.add_argument("--only", default="", help="names or files, joined by commas")
    parser.add_argument("--budget", type=float, default=3600.0)
    parser.add_argument("--layers", type=int, default=28, help="of the random large model")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to try the scripts; its figures mean nothing")
    parser.add_argument("--list", action="store_true")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what runs is ended
    devices = [device for device in given.devices.split(",") if device]
    wanted = chosen(given.only, max(1, len(devices)))
    if given.list:
        for what in wanted:
            print(
                f"{what.name:<20}{what.file:<12}{what.cards} card(s), about {what.expected:.0f} s of {what.limit:.0f}"
            )
        return 0
    shared = Path("/dev/shm")
    roomy = shared if shared.is_dir() and shutil.disk_usage(shared).free > 40 * 2**30 else None
    with tempfile.TemporaryDirectory(dir=roomy) as scratch:
        bench = Bench(given.out, given.model, devices or [""], Path(scratch), given.layers, given.quick)
        if any(what.sized for what in wanted):
            start = time.monotonic()
            command = python_command(
                "cai_bootstrap", "prepare", "--model", given.model, "--base-dir", f"{scratch}/model"
            )
            subprocess.run(command, env=python_environment(), check=True)
            print(f"model ready after {time.monotonic() - start:.0f} s", flush=True)
        bench.run(wanted, given.budget)
        print("\n" + "\n".join(conclusions(given.out)), flush=True)
    return 0 if all(told["status"] == "done" for told in bench.told.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
