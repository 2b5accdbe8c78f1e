"""What a run will take and cost, from measured rates; what is not measured is called so."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from cai_bootstrap.config import STEPS, RunConfig, Step, preset_names, resolve
from cai_bootstrap.files import JsonObject
from cai_bootstrap.pod.errors import PodConfigError

RATES = Path(__file__).with_name("rates.yaml")


@dataclass(frozen=True)
class StepWork:
    """What a step asks of the model, at most: completions and their new tokens, or pairs to train on.

    `prompt` is the longest prompt in tokens; of a training, the longest sequence.
    """

    completions: int = 0
    tokens: int = 0
    pairs: int = 0
    prompt: int = 0


Work = Mapping[Step, StepWork]


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
        measured = [step.seconds for step in self.steps if step.seconds is not None]
        return sum(measured) if measured and len(measured) == len(self.steps) else None

    @property
    def dollars(self) -> float | None:
        measured = [step.dollars for step in self.steps if step.dollars is not None]
        return sum(measured) if measured and len(measured) == len(self.steps) else None

    def record(self) -> JsonObject:
        """As plain data, for the ledger and --json."""
        fields = asdict(self)
        fields["steps"] = [asdict(step) for step in self.steps]
        return fields | {"seconds": self.seconds, "dollars": self.dollars}


def load_rates(path: Path = RATES) -> dict[str, dict[str, Any]]:
    """The presets' rates. Raises PodConfigError for a file that holds none."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not isinstance(content.get("presets"), dict):
        raise PodConfigError(f"{path}: must hold 'presets'")
    return dict(content["presets"])


def needed_gpu_memory(preset: str | None) -> float | None:
    """GiB of memory that one GPU needs for a preset; None if unknown."""
    need = load_rates().get(preset or "", {}).get("gpu_memory_gib")
    return None if need is None else float(need)


def estimate(config: RunConfig | None, price: float, rates_path: Path = RATES, *, work: Work | None = None) -> Estimate:
    """The estimate for a run's configuration at `price` dollars per hour.

    Rates hold for the preset's own model and stage; another was not measured, nor a configuration that is not known
    here. `work` is that of the constitution stage, whose rates are by completion and by pair.
    """
    if config is None or config.preset is None:
        return estimate_preset(None, price, rates_path=rates_path)
    if config.preset in preset_names():
        own = resolve({}, preset=config.preset, environment={}).config
        if (config.model, config.stage) != (own.model, own.stage):
            return replace(estimate_preset(None, price, rates_path=rates_path), preset=config.preset)
    count, rounds = config.generation.count, config.training.rounds
    return estimate_preset(config.preset, price, count=count, rounds=rounds, rates_path=rates_path, work=work)


def estimate_preset(
    preset: str | None,
    price: float,
    *,
    count: int | None = None,
    rounds: int | None = None,
    rates_path: Path = RATES,
    work: Work | None = None,
) -> Estimate:
    """The estimate for a preset; its own count and rounds where none are given."""
    rates = load_rates(rates_path).get(preset or "", {})
    if not rates.get("measured"):
        return Estimate(preset, "not measured", tuple(StepEstimate(step, None, None) for step in STEPS))
    count = rates.get("count") if count is None else count
    rounds = int(rates.get("rounds", 1)) if rounds is None else rounds
    steps = []
    for step in STEPS:
        own = None if work is None else work.get(step, StepWork())
        seconds = _seconds(rates.get("steps", {}).get(step), count, rounds, own)
        steps.append(StepEstimate(step, seconds, None if seconds is None else seconds / 3600 * price))
    return Estimate(preset, f"measured {rates['date']} on {rates['device']} ({rates['source']})", tuple(steps))


def _seconds(rate: Any, count: int | None, rounds: int, work: StepWork | None) -> float | None:
    if isinstance(rate, int | float):
        return float(rate)
    if not isinstance(rate, dict):
        return None
    per_item = float(rate.get("per_item", 0))
    if per_item and count is None:
        return None
    per_completion, per_pair = float(rate.get("per_completion", 0)), float(rate.get("per_pair", 0))
    if (per_completion or per_pair) and work is None:
        return None
    later = float(rate.get("later_round", 0)) * (rounds - 1)
    asked = 0.0 if work is None else per_completion * work.completions + per_pair * work.pairs
    return float(rate.get("fixed", 0)) + per_item * (count or 0) + later + asked
