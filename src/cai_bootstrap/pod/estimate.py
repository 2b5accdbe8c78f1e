"""What a run will take and cost, from measured rates; what is not measured is called so."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from cai_bootstrap.pod.errors import PodConfigError

STEPS = ("prepare", "baseline", "generate", "train", "evaluate")  # gate and report are part of the last
RATES = Path(__file__).with_name("rates.yaml")


@dataclass(frozen=True)
class StepEstimate:
    """One step: seconds and dollars, None where the preset's rate was never measured."""

    step: str
    seconds: float | None
    dollars: float | None


@dataclass(frozen=True)
class Estimate:
    """A run's steps, their sums (None if any step is not measured), and where the rates come from."""

    preset: str | None
    source: str
    steps: tuple[StepEstimate, ...]

    @property
    def seconds(self) -> float | None:
        known = [step.seconds for step in self.steps if step.seconds is not None]
        return sum(known) if known and len(known) == len(self.steps) else None

    @property
    def dollars(self) -> float | None:
        known = [step.dollars for step in self.steps if step.dollars is not None]
        return sum(known) if known and len(known) == len(self.steps) else None

    def record(self) -> dict[str, Any]:
        """As plain data, for the ledger and --json."""
        found = asdict(self)
        found["steps"] = [asdict(step) for step in self.steps]
        return found | {"seconds": self.seconds, "dollars": self.dollars}


def load_rates(path: Path = RATES) -> dict[str, dict[str, Any]]:
    """The presets' rates. Raises PodConfigError for a file that holds none."""
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict) or not isinstance(found.get("presets"), dict):
        raise PodConfigError(f"{path}: must hold 'presets'")
    return dict(found["presets"])


def needed_gpu_memory(preset: str | None) -> float | None:
    """GiB of memory that one GPU needs for a preset; None if unknown."""
    need = load_rates().get(preset or "", {}).get("gpu_memory_gib")
    return None if need is None else float(need)


def asked_preset(preset: str | None, arguments: Sequence[str]) -> str | None:
    """The preset a run will use: that of its arguments, else that of pod.yaml; None with a --config of the user's."""
    if "--quick-test" in arguments:
        return "quick-test"
    return option(arguments, "--preset") or (None if option(arguments, "--config") else preset)


def option(arguments: Sequence[str], name: str) -> str | None:
    """The value of an option in a command line, the last one given, as `--name value` or `--name=value`."""
    value = None
    for position, word in enumerate(arguments):
        if word == name and position + 1 < len(arguments):
            value = arguments[position + 1]
        elif word.startswith(name + "="):
            value = word[len(name) + 1 :]
    return value


def setting(arguments: Sequence[str], flag: str, key: str) -> str | None:
    """What a command line sets a key to, by its own flag or by `--set KEY=VALUE`; None if it does neither."""
    plain = [word.removeprefix("--set=") for word in arguments]
    values = [word[len(key) + 1 :] for word in plain if word.startswith(f"{key}=")]
    return option(arguments, flag) or (values[-1] if values else None)


def estimate(preset: str | None, arguments: Sequence[str], price: float, rates_path: Path = RATES) -> Estimate:
    """The estimate for `cai run ARGUMENTS` at `price` dollars per hour."""
    preset = asked_preset(preset, arguments)
    known = load_rates(rates_path).get(preset or "", {})
    if not known.get("measured"):
        return Estimate(preset, "not measured", tuple(StepEstimate(step, None, None) for step in STEPS))
    asked = setting(arguments, "--count", "generation.count")
    count = int(asked) if asked and asked.isdigit() else known.get("count")
    asked = setting(arguments, "--rounds", "training.rounds")
    rounds = int(asked) if asked and asked.isdigit() else int(known.get("rounds", 1))
    steps = []
    for step in STEPS:
        seconds = _seconds(known.get("steps", {}).get(step), count, rounds)
        steps.append(StepEstimate(step, seconds, None if seconds is None else seconds / 3600 * price))
    return Estimate(preset, f"measured {known['date']} on {known['device']} ({known['source']})", tuple(steps))


def _seconds(rate: Any, count: int | None, rounds: int) -> float | None:
    if isinstance(rate, int | float):
        return float(rate)
    if not isinstance(rate, dict):
        return None
    per_item = float(rate.get("per_item", 0))
    if per_item and count is None:
        return None
    later = float(rate.get("later_round", 0)) * (rounds - 1)
    return float(rate.get("fixed", 0)) + per_item * (count or 0) + later
