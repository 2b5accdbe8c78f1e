"""One frozen, validated model of a whole run, and where each of its values came from.

Precedence: command line > environment (CAI_*) > --config file > preset > default. A key is named by its dotted path
(`training.epochs`); in the environment dots become two underscores (`CAI_TRAINING__EPOCHS`).
"""

import os
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from cai_bootstrap.errors import UsageError
from cai_bootstrap.processor import Precision, quick_precision
from cai_bootstrap.servers import ModelServer
from cai_bootstrap.shipped import shipped
from cai_bootstrap.unknown_keys import nearest, refusal
from cai_bootstrap.yaml_files import load_yaml, read_yaml, yaml_problem

Step = Literal["prepare", "baseline", "generate", "train", "evaluate"]
STEPS: tuple[Step, ...] = get_args(Step)  # in their order; gate and report belong to the last
Judge = Literal["critic", "constraint", "agreement", "gold"]
JUDGES: tuple[Judge, ...] = get_args(Judge)
# Set from outside for other purposes; not configuration keys.
NOT_CONFIG = {
    "CAI_BASE_DIR",
    "CAI_CACHE_DIR",
    "CAI_STATE_DIR",
    "CAI_PRESET",
    "CAI_CONFIG",
    "CAI_POD_CONFIG",
    "CAI_TENSOR_PARALLEL",
    "CAI_TRUSTED_SCORERS",
}


def _known_judges(text: str) -> str:
    names = _names(text)
    unknown = [name for name in names if name not in JUDGES]
    if unknown or not names:
        raise ValueError(f"unknown judge {unknown[0] if unknown else ''!r}; known, joined by +: {', '.join(JUDGES)}")
    return text


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split("+") if name.strip()]


AUTO = "auto"
Count = Literal["auto"] | Annotated[int, Field(ge=1)]


# Configuration values by their dotted key, as their source has them: nothing is checked yet.
Values = dict[str, object]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Paths(Section):
    """Folders; None follows from the base directory (`workspace.RunFolder`)."""

    base_dir: Path | None = None
    data_dir: Path | None = None
    checkpoint_dir: Path | None = None
    results_dir: Path | None = None


class Generation(Section):
    """How the model makes its own training data. Token counts are new tokens; temperatures are those of sampling."""

    count: int = Field(1000, ge=1, description="instructions")
    later_count: int | None = Field(None, ge=1, description="instructions in each later round; None: `count`")
    precision: Precision | None = Field(None, description="None follows `precision`")
    batch_size: int = Field(16, ge=1, description="prompts decoded together")
    chunk: int = Field(64, ge=1, description="instructions in a planned batch, the unit of resuming")
    max_new_tokens: int = Field(48, ge=1)
    critique_tokens: int = Field(40, ge=1)
    candidates: int = Field(4, ge=1, description="few-shot answers to each instruction")
    shots: int = Field(6, ge=1, le=16, description="same-skill exemplars in a prompt")
    same_wording: float = Field(0.0, ge=0, le=1, description="share of exemplars in the instruction's own template")
    temperature: float = Field(0.7, ge=0, description="0: every candidate is greedy, and differs by its exemplars")
    top_p: float = Field(0.95, gt=0, le=1)
    samples: int = Field(4, ge=1, description="sampled answers to each instruction in rounds after the first")
    sample_temperature: float = Field(0.8, gt=0)
    revise: Literal["first", "all"] = Field("first", description="which candidates are criticised and revised")
    select: Annotated[str, AfterValidator(_known_judges)] = Field(
        "critic+constraint+agreement", description="judges that choose, joined by +"
    )
    agreement: float = Field(0.75, gt=0, le=1, description="share of a fact's answers that must agree")
    self_instruct_share: float = Field(0.0, ge=0, le=0.9)

    @property
    def judges(self) -> frozenset[Judge]:
        """The judges that `select` names."""
        names = _names(self.select)
        return frozenset(judge for judge in JUDGES if judge in names)


class Pairs(Section):
    """Which pairs may train."""

    min_pairs: int = Field(8, ge=1)
    max_similarity: float = Field(95.0, gt=0, le=100, description="percent, rapidfuzz.fuzz.ratio on normalised text")


class Training(Section):
    """LoRA and preference optimisation. Learning rate and β as in TRL; `sft_weight` scales the per-sequence NLL."""

    method: Literal["sft", "dpo", "sft+dpo", "joint"] = "joint"
    precision: Precision | None = Field(None, description="of the frozen base; None follows `precision`")
    epochs: float = Field(3.0, gt=0)
    max_steps: int = Field(-1, ge=-1, description="-1: as many as the epochs need")
    batch_size: int = Field(8, ge=1, description="pairs in a step, all devices together, where `accumulate` is 1")
    accumulate: int = Field(1, ge=1, description="steps whose gradients are added up")
    processes: Count = Field("auto", description="each has a GPU, and they share a step's pairs; auto: one a GPU")
    learning_rate: float = Field(2e-4, gt=0)
    warmup_ratio: float = Field(0.1, ge=0, le=1)
    beta: float = Field(0.1, gt=0)
    dpo_weight: float = Field(0.2, gt=0, description="weight of the DPO term in `joint`")
    sft_weight: float = Field(1.0, gt=0, description="weight of the SFT term in `joint`")
    max_length: int = Field(256, ge=16, description="tokens of prompt and answer")
    bare_share: float = Field(0.5, ge=0, le=1, description="share of pairs asked without the line break")
    lora_r: int = Field(64, ge=1)
    lora_alpha: int = Field(64, ge=1)
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    lora_targets: str | Annotated[list[str], Field(min_length=1)] = "all-linear"
    neftune_alpha: float = Field(0.0, ge=0, description="noise on the embeddings while training (2310.05914); 0 none")
    gradient_checkpointing: bool = False
    save_every: int = Field(25, ge=1, description="optimiser steps between checkpoints")
    watch_every: int = Field(50, ge=0, description="optimiser steps between looks for collapse; 0 never")
    watch_items: int = Field(24, ge=4, description="dev instructions answered at each look")
    rounds: int = Field(1, ge=1)
    min_gain: float = Field(0.01, ge=0, le=1, description="dev gain below which no further round is made")


class Evaluation(Section):
    """The held-out measurement. Both sides are run under these, word for word."""

    suite: str = "stage1"
    dev_suite: str = "stage1-dev"
    precision: Precision | None = Field(None, description="None follows `precision`")
    batch_size: int = Field(16, ge=1)
    max_new_tokens: int = Field(48, ge=1)
    elicit: bool = Field(True, description="look for the best prompted base on dev")
    elicit_items: int = Field(0, ge=0, description="dev items for that search; 0 takes all")
    bare: bool = Field(True, description="ask the trained model also without the line break; never gates")
    train_anyway: bool = Field(False, description="train also when prompting alone reaches the threshold")
    enforce_gate: bool = True


class Steering(Section):
    """The constitution stage: how its pairs are made, and what its measurement compares with."""

    select: Literal["none", "earlier", "all"] = Field(
        "earlier", description="whose checks a revision must pass: nobody's, those of earlier principles, its own too"
    )
    show_flawless: bool = Field(True, description="show demonstrations without a fault, but for conditional principles")
    shown: int = Field(0, ge=0, description="demonstrations in a prompt, drawn for each; 0 shows all")
    redraws: int = Field(3, ge=0, description="further draws of a revision that fails such a check")
    redraw_temperature: float = Field(0.8, gt=0)
    by_twins: bool = Field(False, description="tell a conditional principle that it applies to one prompt of each pair")
    chosen_share: float = Field(
        1 / 3, gt=0, le=0.5, description="of a conditional principle's prompts, the clearest for each side, that train"
    )
    outside: float = Field(0.25, ge=0, le=0.9, description="share of training prompts outside a principle's kinds")
    replay: float = Field(0.3, ge=0, le=1, description="share of Stage 1 pairs among those that train, with --from")
    threshold: float = Field(0.8, gt=0, lt=1, description="rate from which a principle counts as held")
    dev_items: int = Field(100, ge=0, description="dev prompts for finding the best prompting; 0: it is not looked for")
    test_items: int = Field(0, ge=0, description="held-out prompts, without those of principles' own; 0 takes all")
    beside: bool = Field(True, description="measure what stands beside: content kept, perplexity, other ways to ask")


class Timeouts(Section):
    """Seconds for each step."""

    prepare: int = Field(3600, ge=1)
    baseline: int = Field(3600, ge=1)
    generate: int = Field(7200, ge=1)
    train: int = Field(10800, ge=1)
    evaluate: int = Field(3600, ge=1)


class RunConfig(Section):
    """A whole run. Every command reads the part that it needs, and nothing else decides."""

    preset: str | None = None
    model: str = "gemma-3-270m"
    revision: str | None = None
    adapter: Path | None = Field(None, description="evaluate this adapter instead of the run's own")
    allow_instruct: bool = Field(False, description="do not warn when the base looks chat-tuned")
    constitution: Path = Field(default_factory=lambda: shipped("constitution.yaml"))
    stage: Literal["instructions", "constitution"] = "instructions"
    prompts: str | None = Field(None, description="a file or a hub id; None: the shipped pool")
    prompt_column: str | None = None
    start_from: Path | None = Field(None, description="base directory whose Stage 1 adapter is trained on")
    control: str = Field("shipped", description="another constitution, run through the same pipeline; none: without")
    seed: int = Field(0, ge=0, lt=2**32, description="what every library takes as a seed")
    precision: Precision = Field(
        "fp32", description="auto: bf16 on a GPU and on a processor that multiplies it, else fp32"
    )
    engine: Literal["auto", "transformers", "vllm", "openai"] = Field(
        "auto", description="openai: the base answers at `server`; what is measured stays in this process"
    )
    workers: Count = Field("auto", description="processes that generate and evaluate; auto: one a GPU")
    threads: int = Field(0, ge=0, description="CPU threads; 0 takes all")
    fast: bool = Field(True, description="recorded steps, the fused head, a warm next process; false: the plain path")
    force_data: bool = Field(False, description="make data again instead of reusing or refusing them")
    track: Literal["tensorboard", "trackio", "wandb"] | None = None
    server: ModelServer = Field(ModelServer(), description="where the base answers, with engine: openai")
    judge: ModelServer = Field(ModelServer(), description="constitution stage: who judges where no rule can")
    paths: Paths = Paths()
    generation: Generation = Generation()
    pairs: Pairs = Pairs()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    steering: Steering = Steering()
    timeouts: Timeouts = Timeouts()

    @property
    def local_engine(self) -> Literal["auto", "transformers", "vllm"]:
        """The engine of what stays in this process: every measurement, and whatever needs an adapter."""
        return "auto" if self.engine == "openai" else self.engine

    @property
    def generation_precision(self) -> Precision:
        return self.generation.precision or self.precision

    @property
    def training_precision(self) -> Precision:
        return self.training.precision or self.precision

    @property
    def evaluation_precision(self) -> Precision:
        return self.evaluation.precision or self.precision


class Resolved(BaseModel):
    """A run's configuration with the origin of each value, by dotted key."""

    model_config = ConfigDict(frozen=True)

    config: RunConfig
    origins: dict[str, str]


def known_keys() -> list[str]:
    """Every configuration key by its dotted path, in the order of the model."""
    return [key for key, _ in _leaves(RunConfig)]


def preset_names() -> list[str]:
    """The presets that ship with the product."""
    return sorted(path.stem for path in shipped("configs").glob("*.yaml"))


def resolve(
    overrides: Mapping[str, object] | None = None,
    *,
    preset: str | None = None,
    config_file: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Resolved:
    """Put a run's configuration together from all its sources.

    `overrides` holds the command line's values by dotted key. Raises UsageError naming the source, the key and the
    nearest known key or the accepted values.
    """
    environment = os.environ if environment is None else environment
    preset = preset or environment.get("CAI_PRESET") or None
    if config_file is None and environment.get("CAI_CONFIG"):
        config_file = Path(environment["CAI_CONFIG"])
    from_file = _flatten(_read_yaml(config_file), str(config_file)) if config_file is not None else {}
    named_in_file = from_file.pop("preset", None)
    preset = preset or (None if named_in_file is None else str(named_in_file))
    layers: list[tuple[str, Values]] = []
    if preset is not None:
        where = f"{config_file}: " if preset == str(named_in_file) else ""
        layers.append((f"preset {preset}", _read_preset(preset, where) | {"preset": preset}))
    if config_file is not None:
        layers.append((str(config_file), from_file))
    layers.append(("environment", _from_environment(environment)))
    layers.append(("command line", dict(overrides or {})))

    keys = known_keys()
    values: Values = {}
    origins = dict.fromkeys(keys, "default")
    for origin, layer in layers:
        if unknown := [key for key in layer if key not in keys]:
            raise UsageError(f"{origin}: {refusal(unknown, keys)}")
        values |= layer
        origins |= dict.fromkeys(layer, origin)
        if "generation.count" in layer and "generation.later_count" not in layer:
            # A number of instructions holds for every round, or `--count 200` would ask a preset's 12,000 later.
            values.pop("generation.later_count", None)
            origins["generation.later_count"] = "default"
    if values.get("precision") == AUTO:
        # What is recorded, compared and gone on with is a precision: on another machine, `auto` may be another one.
        values["precision"], reason = quick_precision()
        origins["precision"] += f", auto: {reason}"
    try:
        config = RunConfig.model_validate(_nest(values))
    except UsageError as error:  # of a value that may be a secret, and is not shown
        raise UsageError(f"{config_file or 'configuration'}: {error}") from error
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"] if part in {p for k in keys for p in k.split(".")})
        message = problem["msg"].removeprefix("Value error, ")
        where = origins.get(key, "configuration")
        raise UsageError(f"{where}: {key} = {_shown(problem['input'])}: {message}") from error
    return Resolved(config=config, origins=origins)


def _shown(value: object) -> str:
    text = str(value) if isinstance(value, date) else repr(value)  # a date as it was written
    return text if len(text) <= 100 else f"{text[:100]}…"


def parse_value(text: str, source: str) -> Any:
    """A value as YAML reads it. Raises UsageError naming `source`, where it was given."""
    try:
        return load_yaml(text)
    except yaml.YAMLError as error:
        repeated = "" if source.lower().endswith(("endpoint", "api_key_env")) else f" = {text!r}"  # may hold a secret
        raise UsageError(
            f"{source}{repeated}: not a YAML value: {yaml_problem(error)}; close what is open, or put quotes around "
            """the text: '"..."'"""
        ) from error


def show(resolved: Resolved) -> list[tuple[str, Any, str]]:
    """Each key with its value and origin, in the order of the model."""
    dumped = _flatten(resolved.config.model_dump(mode="json"), "config")
    return [(key, dumped[key], origin) for key, origin in resolved.origins.items()]


def dump_yaml(config: RunConfig) -> str:
    """The configuration as a YAML file that `--config` reads back to the same one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _leaves(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _leaves(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def _read_preset(name: str, where: str) -> Values:
    names = preset_names()
    if name not in names:
        raise UsageError(f"{where}unknown preset '{name}'{nearest(name, names)}; known: {', '.join(names)}")
    return _flatten(_read_yaml(shipped("configs") / f"{name}.yaml"), f"preset {name}")


def _read_yaml(path: Path) -> Values:
    content = read_yaml(path, what="configuration file")
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{path}: expected keys and values, found {type(content).__name__}")
    return content


def _flatten(tree: Mapping[str, object], source: str, prefix: str = "") -> Values:
    flat: Values = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        inner = _flatten(value, source, f"{name}.") if isinstance(value, Mapping) else {name: value}
        if value is None and isinstance(getattr(RunConfig.model_fields.get(name), "default", None), Section):
            inner = {}  # all lines of the section are comments
        if twice := sorted(set(flat) & set(inner)):
            raise UsageError(f"{source}: '{twice[0]}' is set twice; leave one")
        flat |= inner
    return flat


def _nest(flat: Mapping[str, object]) -> Values:
    tree: Values = {}
    for key, value in flat.items():
        *sections, name = key.split(".")
        place = tree
        for section in sections:
            inner = place.setdefault(section, {})
            assert isinstance(inner, dict), section
            place = inner
        place[name] = value
    return tree


def _from_environment(environment: Mapping[str, str]) -> Values:
    names = sorted(name for name in environment if name.startswith("CAI_") and name not in NOT_CONFIG)
    return {name[4:].lower().replace("__", "."): parse_value(environment[name], name) for name in names}
