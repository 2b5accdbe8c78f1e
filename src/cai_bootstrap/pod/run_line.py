"""The run that the pod will do: its command line, and the configuration to which that resolves there."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from cai_bootstrap.config import RunConfig
from cai_bootstrap.judging.own.sources import TRUSTED_VARIABLE
from cai_bootstrap.pod.inputs import Input
from cai_bootstrap.pod.settings import PodSettings

SCRIPTS = {
    "run_stage1_pipeline.py": "run", "baseline_assessment.py": "baseline", "generate_stage1_data.py": "generate",
    "train_stage1_dpo.py": "train", "evaluate_stage1.py": "evaluate",
}  # fmt: skip


@dataclass(frozen=True)
class RunLine:
    """What stands for {args} in the job, and what of it decides the model.

    `config` is None where only the pod can tell: the job is no `cai` command, or its --config file lies there alone.
    `inputs` are local files that the run reads; `arguments` and `prepare` name their places on the pod, `config` those
    here. `prepare` holds the arguments by which `cai prepare` fetches the same model; None where that cannot be said.
    `trusted` are the hashes of own scorers that are trusted here, and so may run there.
    """

    arguments: tuple[str, ...] = ()
    preset: str | None = None
    config: RunConfig | None = None
    prepare: tuple[str, ...] | None = None
    inputs: tuple[Input, ...] = ()
    trusted: tuple[str, ...] = ()

    def consented(self, settings: PodSettings) -> PodSettings:
        """The settings with that consent in the job's environment, beside the hashes that pod.yaml names there.

        The pod has no configuration of the user's.
        """
        if not self.trusted:
            return settings
        trusted = {*settings.env.get(TRUSTED_VARIABLE, "").replace(",", " ").split(), *self.trusted}
        return settings.model_copy(update={"env": {**settings.env, TRUSTED_VARIABLE: ",".join(sorted(trusted))}})


@dataclass(frozen=True)
class Call:
    """A call of a `cai` command within a job: `run`, and the words after it."""

    name: str
    words: tuple[str, ...]


def command_in(argv: Sequence[str]) -> Call | None:
    """The call in a job's command (`… -m cai_bootstrap run …`, `cai run …`, one of scripts/); None if there is none."""
    for position, word in enumerate(argv[:-1]):
        module = word == "cai_bootstrap" and position > 0 and argv[position - 1] == "-m"
        if module or (position == 0 and PurePosixPath(word).name == "cai"):
            return Call(argv[position + 1], tuple(argv[position + 2 :]))
        if (name := SCRIPTS.get(PurePosixPath(word).name)) is not None and position < 4:
            return Call(name, tuple(argv[position + 1 :]))
    return None


def source_of(path: str, settings: PodSettings) -> str | None:
    """A path of the job (its folder is the pushed checkout) relative to that checkout; None if it lies elsewhere."""
    absolute = PurePosixPath(settings.code) / path
    if ".." in absolute.parts or not absolute.is_relative_to(settings.code):
        return None
    return str(absolute.relative_to(settings.code))
