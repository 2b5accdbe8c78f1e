"""What a run of the constitution stage works with: constitution, prompts, control, and where it goes on from."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

from cai_bootstrap.config import RunConfig
from cai_bootstrap.constitution import Constitution
from cai_bootstrap.errors import DataError, UsageError
from cai_bootstrap.files import fingerprint
from cai_bootstrap.generation.principles import load_checked
from cai_bootstrap.inference.models import PreparedModel
from cai_bootstrap.instructions.prompt_set import PromptSet, load_prompt_set, matched_prompts
from cai_bootstrap.measuring.declared import StoredResults
from cai_bootstrap.records import Prompt
from cai_bootstrap.run.folder import RunFolder
from cai_bootstrap.run.markers import read_typed
from cai_bootstrap.shipped import shipped
from cai_bootstrap.training.checkpoints import Checkpoint, read_success

CONTROL = "examples/constitutions/control.yaml"


@dataclass(frozen=True)
class HeldOut:
    """Held-out prompts as `measuring.assess.conditions_of` names them: like a suite."""

    name: str
    sha256: str
    items: tuple[Prompt, ...]


@dataclass(frozen=True)
class Inputs:
    """A constitution, the prompts of its run, and the control's constitution (None: no control)."""

    constitution: Constitution
    prompts: PromptSet
    control: Constitution | None
    seed: int

    @property
    def key(self) -> list[str]:
        """What identifies the inputs in a fingerprint."""
        return [self.constitution.sha256, self.prompts.sha256, "none" if self.control is None else self.control.sha256]

    def training(self, config: RunConfig, constitution: Constitution) -> list[Prompt]:
        """The prompts that train a constitution, in a seeded order: `generation.count` of the set at most, and the
        matched prompts of its conditional principles. One that has conditional principles alone takes only those."""
        own = [prompt for prompt in matched_prompts(constitution, seed=self.seed) if prompt.split == "train"]
        general = self._sampled(config, constitution) if _speaks_of_all(constitution) else []
        rows = [*general, *own]
        Random(f"order:{self.seed}").shuffle(rows)
        return rows

    def _sampled(self, config: RunConfig, constitution: Constitution) -> list[Prompt]:
        """A seeded sample; where principles are about some kinds, a share of it (`steering.outside`) is of others."""
        kinds = [set(p.applies_to) for p in constitution.principles if p.applies_to]
        inside = [p for p in self.prompts.train if all(p.kind in own for own in kinds)]
        outside = [p for p in self.prompts.train if not all(p.kind in own for own in kinds)]
        count = min(config.generation.count, len(self.prompts.train))
        others = min(len(outside), round(config.steering.outside * count))
        draw = Random(f"prompts:{self.seed}")
        return [*draw.sample(inside, min(len(inside), count - others)), *draw.sample(outside, others)]

    def held_out(self, config: RunConfig) -> HeldOut:
        """The prompts that are measured: those of the set, unseen kinds, and the matched ones that do not train."""
        own = [p for p in matched_prompts(self.constitution, seed=self.seed) if p.split == "test"]
        general: list[Prompt] = []
        if _speaks_of_all(self.constitution):
            general = [*_first(self.prompts.test, config.steering.test_items, self.seed), *self._unseen(config)]
        items = (*general, *own)
        return HeldOut(self.prompts.name, fingerprint([prompt.model_dump() for prompt in items]), items)

    def _unseen(self, config: RunConfig) -> Sequence[Prompt]:
        return _first(self.prompts.unseen, config.steering.test_items // 2, self.seed)

    def dev(self, config: RunConfig) -> list[Prompt]:
        """The prompts that choose the best prompting of the untrained base; never those that are measured."""
        if not _speaks_of_all(self.constitution):
            own = [p for p in matched_prompts(self.constitution, seed=self.seed) if p.split == "train"]
            return list(_first(own, config.steering.dev_items, self.seed)) if config.steering.dev_items else []
        return list(_first(self.prompts.dev, config.steering.dev_items, self.seed)) if config.steering.dev_items else []


def read_inputs(config: RunConfig) -> Inputs:
    """Read and check all inputs. Raises UsageError naming the file and what is wrong with it."""
    return _read(config.constitution, config.prompts, config.prompt_column, config.control, config.seed)


@cache
def _read(constitution: Path, prompts: str | None, column: str | None, control: str, seed: int) -> Inputs:
    loaded = load_checked(constitution)
    other = _control(control, loaded)
    principles = [*loaded.principles, *(other.principles if other is not None else ())]
    shown = [demonstration.instruction for principle in principles for demonstration in principle.demonstrations]
    return Inputs(loaded, load_prompt_set(prompts, column=column, seed=seed).without(shown), other, seed)


def _control(name: str, constitution: Constitution) -> Constitution | None:
    """The control's constitution. Raises UsageError if it shares a principle's check with the one that is measured."""
    if name == "none":
        return None
    path = shipped(CONTROL) if name == "shipped" else Path(name)
    control = load_checked(path)
    for principle in control.principles:
        for own in constitution.principles:
            if principle.check is not None and principle.check in (own.check, own.judge):
                raise UsageError(
                    f"{path}: its principle '{principle.id}' has the check of '{own.id}', so it is no control: it "
                    "would teach what is measured; give another constitution with --control, or --control none"
                )
    return control


def _speaks_of_all(constitution: Constitution) -> bool:
    """Whether some principle is about more than the matched prompts of a conditional one."""
    return any(principle.matched is None for principle in constitution.principles)


def _first(prompts: Sequence[Prompt], count: int, seed: int) -> Sequence[Prompt]:
    """A seeded sample of so many prompts in their order; 0 takes all."""
    if not count or count >= len(prompts):
        return prompts
    chosen = set(Random(f"subset:{seed}").sample(range(len(prompts)), count))
    return [prompt for place, prompt in enumerate(prompts) if place in chosen]


def start_checkpoint(config: RunConfig, prepared: PreparedModel) -> Checkpoint | None:
    """The Stage 1 adapter that `--from` names: the one that was evaluated last, else the newest; None without it.

    Raises DataError if that base directory holds no finished training, UsageError if it is of another base.
    """
    if config.start_from is None:
        return None
    workspace = RunFolder.at(config.start_from)
    checkpoints = [read_success(marker.parent) for marker in workspace.success_markers()]
    if not checkpoints:
        raise DataError(
            f"{workspace.checkpoints}: holds no finished Stage 1 training; give the base directory of a Stage 1 run "
            "with --from, or leave it out"
        )
    evaluated = _evaluated(workspace)
    newest = max(checkpoints, key=lambda checkpoint: (checkpoint.sha256 == evaluated, checkpoint.finished_at))
    if newest.marker.base_weights_sha256 != prepared.weights_sha256:
        raise UsageError(
            f"{newest.path}: this adapter was trained on another base than {prepared.name}; give the base directory "
            "of a Stage 1 run of the same model with --from"
        )
    return newest


def _evaluated(workspace: RunFolder) -> str | None:
    """The adapter that the newest evaluation of a base directory measured."""
    path = next(iter(workspace.evaluations()), None)
    return None if path is None else read_typed(path, StoredResults, "evaluate again: cai evaluate").adapter
