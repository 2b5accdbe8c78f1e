"""The plan of a run on a GPU: memory of each step, whether it fits, and time and money where rates were measured."""

import difflib
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from cai_bootstrap.config import STEPS, RunConfig
from cai_bootstrap.errors import UsageError
from cai_bootstrap.files import JsonObject
from cai_bootstrap.planning.memory import GIB, Memory, generating, prompt_tokens, training
from cai_bootstrap.planning.shape import Shape, read_shape
from cai_bootstrap.pod.estimate import Estimate, StepWork, Work, estimate
from cai_bootstrap.run.folder import CONSTITUTION, STAGES

GPUS = Path(__file__).with_name("gpus.yaml")
USABLE = 0.95  # the rest is lost to fragments
MODEL_STEPS = tuple(step for step in STEPS if step != "prepare")  # those that load the model onto the GPU


@dataclass(frozen=True)
class PlannedStep:
    """One step: its memory on the GPU, whether that fits, and what to change if not; time and money if measured.

    `work` is what it asks of the model, where that is counted: in the constitution stage.
    """

    step: str
    memory: Memory
    fits: bool
    change: str | None
    hours: float | None
    dollars: float | None
    work: StepWork | None = None


@dataclass(frozen=True)
class Plan:
    """A whole run on one kind of GPU."""

    shape: Shape
    gpu: str
    gpu_gib: float
    price: float | None
    rates: str
    steps: tuple[PlannedStep, ...]

    @property
    def fits(self) -> bool:
        return all(step.fits for step in self.steps)

    def record(self) -> JsonObject:
        """As plain data; memory in GiB."""
        return {
            "model": {
                "name": self.shape.name, "parameters": self.shape.parameters, "shape_from": self.shape.source,
            },
            "gpu": {"name": self.gpu, "gib": self.gpu_gib, "usable_gib": round(self.gpu_gib * USABLE, 2)},
            "price_per_hour": self.price,
            "rates": self.rates,
            "fits": self.fits,
            "steps": [
                {
                    "step": step.step,
                    "needed_gib": round(step.memory.needed / GIB, 2),
                    "peak_allocated_gib": round(step.memory.peak / GIB, 2),
                    "parts_gib": {name: round(size / GIB, 3) for name, size in step.memory.parts.items()},
                    "fits": step.fits,
                    "change": step.change,
                    "hours": step.hours,
                    "dollars": step.dollars,
                    **({} if step.work is None else {"asked": asdict(step.work)}),
                }
                for step in self.steps
            ],
        }  # fmt: skip


def gpu_memory(name: str) -> tuple[str, float]:
    """A GPU's name as it is listed and its GiB. `24GiB` stands for any GPU of that size. Raises UsageError."""
    sizes: dict[str, float] = yaml.safe_load(GPUS.read_text(encoding="utf-8"))
    plain = {_plain(listed): listed for listed in sizes}
    if _plain(name) in plain:
        return plain[_plain(name)], float(sizes[plain[_plain(name)]])
    size = _plain(name).removesuffix("gib")
    if _plain(name).endswith("gib") and size.replace(".", "", 1).isdigit():
        return name, float(size)
    starting = [listed for short, listed in plain.items() if short.startswith(_plain(name))]
    near = starting or difflib.get_close_matches(name, sizes, n=2, cutoff=0.5)
    meant = f"; did you mean {' or '.join(near)}?" if near else ""
    raise UsageError(f"--gpu {name}: not known{meant} Known: {', '.join(sizes)}; or its memory, such as 24GiB")


def plan(config: RunConfig, gpu: str, price: float | None) -> Plan:
    """Plan a resolved configuration on one GPU. Raises UsageError for a model or a GPU that is not known.

    The constitution stage is planned for its constitution and prompts, which are read and checked.
    """
    shape = read_shape(config.model)
    name, gib = gpu_memory(gpu)
    room = gib * USABLE * GIB
    work = work_of(config)
    rates = estimate(config, price or 0.0) if work is None else estimate(config, price or 0.0, work=work)
    steps = []
    for step in MODEL_STEPS:
        own = None if work is None else work[step]
        memory = step_memory(shape, config, step, own)
        fits = memory.needed <= room
        hours, dollars = _cost(rates, step, price)
        change = None if fits else _change(shape, config, step, room, own)
        steps.append(PlannedStep(step, memory, fits, change, hours, dollars, own))
    measured = any(step.hours is not None for step in steps)
    elsewhere = measured and _plain(name.split(" ")[0]) not in _plain(rates.source)
    source = f"{rates.source}; not measured on {name}" if elsewhere else rates.source
    return Plan(shape, name, gib, price, source, tuple(steps))


def work_of(config: RunConfig) -> Work | None:
    """What a run of the constitution stage asks of the model; None for Stage 1, whose rates are by instruction."""
    if STAGES[config.stage] is not CONSTITUTION:
        return None
    from cai_bootstrap.planning.stage_work import stage_work

    return stage_work(config)


def step_memory(shape: Shape, config: RunConfig, step: str, work: StepWork | None = None) -> Memory:
    """A step's memory under a configuration; both measurements are planned with the longest prompts they try.

    `work` has the longest prompt of a step of the constitution stage.
    """
    generation, evaluation = config.generation, config.evaluation
    prompt = prompt_tokens(generation) if work is None else work.prompt
    if step == "train":
        tokens = min(config.training.max_length, 32 + generation.max_new_tokens) if work is None else work.prompt
        return training(shape, config.training, precision=config.training_precision, tokens=tokens)
    if step == "generate":
        return generating(
            shape, precision=config.generation_precision, batch=generation.batch_size, prompt=prompt,
            new=generation.max_new_tokens, sampled=_draws(config),
            nucleus=generation.top_p < 1,
        )  # fmt: skip
    rank = config.training.lora_r if step == "evaluate" or config.start_from is not None else 0
    return generating(
        shape, precision=config.evaluation_precision, batch=evaluation.batch_size, prompt=prompt,
        new=evaluation.max_new_tokens, sampled=False, pinned=True, lora_r=rank,
    )  # fmt: skip


def _draws(config: RunConfig) -> bool:
    """Whether generation draws tokens anywhere; the constitution stage does where it draws a revision again."""
    if STAGES[config.stage] is CONSTITUTION:
        return config.steering.redraws > 0
    return config.generation.temperature > 0 or config.training.rounds > 1


def _cost(rates: Estimate, step: str, price: float | None) -> tuple[float | None, float | None]:
    seconds = next((planned.seconds for planned in rates.steps if planned.step == step), None)
    if seconds is None:
        return None, None
    return seconds / 3600, None if price is None else seconds / 3600 * price


def _change(shape: Shape, config: RunConfig, step: str, room: float, work: StepWork | None) -> str:
    """The largest batch that fits, or what else would."""
    section = {"generate": "generation", "train": "training"}.get(step, "evaluation")
    settings = getattr(config, section)
    batch = settings.batch_size
    while batch > 1:
        batch //= 2
        smaller = config.model_copy(update={section: settings.model_copy(update={"batch_size": batch})})
        if step_memory(shape, smaller, step, work).needed <= room:
            more = (
                f" --set training.accumulate={settings.accumulate * settings.batch_size // batch}"
                if step == "train"
                else ""
            )
            return f"--set {section}.batch_size={batch}{more}"
    if step == "train" and not settings.gradient_checkpointing:
        return "--set training.batch_size=1 --set training.gradient_checkpointing=true, or a larger GPU"
    return "a larger GPU, or --precision int8" if config.precision in {"fp32", "bf16", "fp16"} else "a larger GPU"


def _plain(name: str) -> str:
    return name.lower().replace(" ", "").replace("-", "").replace("nvidia", "")
