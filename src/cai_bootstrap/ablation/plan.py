"""A set of variations: which runs and measurements to make, in which order, and what to compare. Read from YAML."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from cai_bootstrap.config import Section
from cai_bootstrap.errors import UsageError
from cai_bootstrap.yaml_files import read_yaml

Kind = Literal["train", "prompting", "constitution", "eos_bias", "renderings", "forgetting", "ifbench"]
PairRule = Literal[
    "as_made",
    "without_revisions",
    "few_shot_unfiltered",
    "majority",
    "random",
    "responses_only",
    "eos_on_cut_off",
]
SHARED = "shared"
DEFAULT_SET = Path(__file__).parent / "default.yaml"


class Variation(Section):
    """One variation. `train` trains and evaluates on dev; every other kind only measures.

    `needs` names the variation whose adapter is measured. `settings` holds configuration keys; with `data: own` it may
    change generation too, otherwise the shared data are used, turned into pairs by `pairs`.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    group: str
    what: str
    kind: Kind = "train"
    needs: str | None = None
    data: Literal["shared", "own"] = "shared"
    pairs: PairRule = "as_made"
    settings: dict[str, Any] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)
    optional: bool = Field(False, description="what it needs may be missing; it is then left out, not failed")

    @property
    def uses_shared(self) -> bool:
        """The base's answers on dev, and the shared data unless it makes its own, are needed first."""
        return self.kind == "train"


class Contrast(Section):
    """A paired comparison of two rows, each `variation:row`: what is gained on the way from one to the other."""

    name: str
    before: str
    after: str


class VariationSet(Section):
    """A named set. `settings` holds for every variation."""

    name: str
    settings: dict[str, Any] = Field(default_factory=dict)
    variations: tuple[Variation, ...]
    contrasts: tuple[Contrast, ...] = ()

    def only(self, names: str | None) -> "VariationSet":
        """The variations named in a comma-separated list, with those that they need. Raises UsageError for others."""
        if names is None:
            return self
        by_name = {v.name: v for v in self.variations}
        choice: set[str] = set()
        for name in filter(None, (part.strip() for part in names.split(","))):
            if name not in by_name:
                raise UsageError(f"--only {name}: no variation of the set '{self.name}'; known: {', '.join(by_name)}")
            choice.add(name)
            if need := by_name[name].needs:
                choice.add(need)
        return self.model_copy(update={"variations": tuple(v for v in self.variations if v.name in choice)})


class JobFile(Section):
    """What a variation's process is to do, as its `job.json` holds it; `variation` None: the shared run.

    `config` is flat (`{"training.epochs": 3.0}`), `ablation` the folder of all variations, `device` a CUDA device.
    """

    variation: Variation | None
    config: dict[str, Any]
    fingerprint: str
    ablation: Path
    device: str


def load_set(path: Path = DEFAULT_SET) -> VariationSet:
    """Read a set. Raises UsageError naming the file and the field that is wrong."""
    try:
        plan = VariationSet.model_validate(read_yaml(path, what="set of variations"))
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"]) or "the file"
        raise UsageError(f"{path}: {field}: {problem['msg']}") from error
    _check(plan, path)
    return plan


def _check(plan: VariationSet, path: Path) -> None:
    earlier: dict[str, Variation] = {}
    for variation in plan.variations:
        where = f"{path}: variation '{variation.name}'"
        if variation.name in earlier or variation.name == SHARED:
            raise UsageError(f"{where}: this name is taken; each variation needs its own")
        if variation.needs is not None:
            need = earlier.get(variation.needs)
            if need is None or need.kind != "train":
                raise UsageError(f"{where}: needs '{variation.needs}', which is no training variation before it")
        elif variation.kind in {"renderings", "forgetting", "ifbench"}:
            raise UsageError(f"{where}: kind '{variation.kind}' measures an adapter; say whose with 'needs'")
        if variation.kind == "train" and variation.data == "shared":
            data_keys = [key for key in variation.settings if key.startswith(("generation.", "constitution", "seed"))]
            if data_keys:
                raise UsageError(f"{where}: sets {data_keys[0]}, which the data depend on; add 'data: own'")
        if variation.data == "own" and variation.pairs != "as_made":
            raise UsageError(f"{where}: 'pairs' turns the shared data into pairs; leave out 'data: own'")
        earlier[variation.name] = variation
    names: set[str] = set()
    for contrast in plan.contrasts:
        if contrast.name in names:
            raise UsageError(f"{path}: contrast '{contrast.name}': this name is taken; each contrast needs its own")
        names.add(contrast.name)
        for side in (contrast.before, contrast.after):
            name = side.partition(":")[0]
            if name not in earlier and name != SHARED:
                raise UsageError(f"{path}: contrast '{contrast.name}': no variation '{name}'")
