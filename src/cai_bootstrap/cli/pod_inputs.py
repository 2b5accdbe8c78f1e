"""Which of the files that a run's configuration names lie here, and must be sent to the pod."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cai_bootstrap.errors import DataError, UsageError
from cai_bootstrap.judging.own.entering import trusted_scorers
from cai_bootstrap.judging.own.sources import Source
from cai_bootstrap.pod.inputs import Input, adapter_input, file_input, stage1_input
from cai_bootstrap.pod.pull import RECORD
from cai_bootstrap.pod.push import pushed_files
from cai_bootstrap.pod.run_line import RunLine, source_of
from cai_bootstrap.pod.settings import PodSettings
from cai_bootstrap.run.counts import GenerationSummary, read_counts
from cai_bootstrap.run.folder import CONSTITUTION, DataFolder, RunFolder

if TYPE_CHECKING:
    from cai_bootstrap.config import Resolved, RunConfig
    from cai_bootstrap.pod.estimate import Estimate, Work

# The keys that may name something of the user's own, what makes an input of it, and the flags of those that must exist.
KEYS: dict[str, Callable[[str, Path], Input]] = {
    "constitution": file_input,
    "prompts": file_input,
    "control": file_input,
    "start_from": stage1_input,
    "adapter": adapter_input,
    "evaluation.suite": file_input,
    "evaluation.dev_suite": file_input,
}
JUDGED_BY = ("constitution", "control", "evaluation.suite", "evaluation.dev_suite")  # may name own scorers
FLAGS = {"constitution": "--constitution", "prompts": "--prompts", "control": "--control", "start_from": "--from"}


def own_inputs(resolved: "Resolved", settings: PodSettings, source: Path | None) -> list[Input]:
    """What the run names that lies on this machine and is not in the checkout `source`, which is pushed anyway.

    A path below the pod's base directory, or an absolute one that is not here, is the pod's own. Raises UsageError for
    a relative one that is neither here nor pushed, and what the makers of `pod.inputs` raise.
    """
    inputs = []
    if (data := _named(resolved, "paths.data_dir")) is not None:
        _refuse_imported(DataFolder(Path(data).expanduser()), f"--data-dir {data}")
    for key, make in KEYS.items():
        value = _named(resolved, key)
        if value is None or value.startswith(f"{settings.remote_base}/") or value == settings.remote_base:
            continue
        if source is not None and _is_pushed(value, settings, source):
            continue
        path = Path(value).expanduser()
        if path.is_dir() if key in {"start_from", "adapter"} else path.is_file():
            beside = [scorers.name for scorers in trusted_scorers(path)] if key in JUDGED_BY else []
            inputs.append(file_input(key, path, beside) if beside else make(key, path))
        elif source is not None and key in FLAGS and not path.is_absolute():
            raise UsageError(
                f"{FLAGS[key]} {value}: neither here nor in the checkout that is pushed ({source}); name what lies "
                "here, or on the pod by its absolute path"
            )
    return inputs


def refuse_imported_into(target: Path) -> None:
    """Refuse to bring a pod's files to a base directory with imported pairs: the pod would train on pairs of its own.

    Those that a pod's job imported came from there. Raises UsageError before the pod costs anything.
    """
    workspace = RunFolder.at(target)
    if not (workspace.logs / RECORD).exists():
        _refuse_imported(workspace.round_data(1), str(target))


def _refuse_imported(data: DataFolder, named: str) -> None:
    try:
        imported = read_counts(data.summary, GenerationSummary).imported if data.summary.is_file() else None
    except DataError:  # whoever uses these data says so
        imported = None
    if imported is not None:
        raise UsageError(
            f"{named}: holds imported pairs, which are not sent to a pod: there, others would be generated. Let the "
            "pod's job import them (docs/pairs.md, On a pod), and name another folder"
        )


def own_scorers(resolved: "Resolved", settings: PodSettings, source: Path | None) -> list[Source]:
    """The modules of scorers that judge the run, sent or pushed: the job may run them, because they are trusted here.

    Raises UsageError, before a pod costs anything, for one that is missing, not trusted, or would not travel.
    """
    sources = []
    for key in JUDGED_BY:
        value = _named(resolved, key)
        if value is None or value.startswith(f"{settings.remote_base}/"):
            continue
        if source is None or not _is_pushed(value, settings, source):
            sources += trusted_scorers(Path(value).expanduser())
            continue
        pushed = source / str(source_of(value, settings))
        for scorers in trusted_scorers(pushed):
            if str(scorers.place.relative_to(source.absolute())) not in set(pushed_files(source)):
                raise UsageError(
                    f"{pushed} names {scorers.name}, which is not pushed to the pod with it (ignored by git, or left "
                    "out as a result or secret); add it to the checkout"
                )
            sources.append(scorers)
    return sources


def planned_cost(line: RunLine, settings: PodSettings, source: Path, price: float) -> "Estimate":
    """What the run will take and cost at `price` dollars an hour. Raises what `planned_work` raises."""
    from cai_bootstrap.pod.estimate import estimate

    work = planned_work(line.config, settings, source)
    return replace(estimate(line.config, price, work=work), preset=line.preset)


def planned_work(config: "RunConfig | None", settings: PodSettings, source: Path) -> "Work | None":
    """What a run of the constitution stage asks of the model, counted from the files that it will read.

    None where only the pod can tell, or a dataset of the hub would have to be fetched for it. Raises UsageError for
    inputs that the run would refuse, before the pod costs anything.
    """
    if config is None or config.stage != CONSTITUTION.name:
        return None
    from cai_bootstrap.instructions.rows import hub_dataset
    from cai_bootstrap.planning.plan import work_of

    here: dict[str, Path] = {}
    for key in ("constitution", "prompts", "control"):
        value = getattr(config, key)
        if value is None or str(value) in {"none", "shipped"}:
            continue
        pushed = _is_pushed(str(value), settings, source)
        path = source / str(source_of(str(value), settings)) if pushed else Path(value).expanduser()
        if not path.is_file() and (key != "prompts" or hub_dataset(str(value)) is not None or path.is_absolute()):
            return None
        here[key] = path
    texts = {key: path if key == "constitution" else str(path) for key, path in here.items()}
    return work_of(config.model_copy(update=texts))


def _named(resolved: "Resolved", key: str) -> str | None:
    """The path under a key; None where nobody named one, or the name is none of a file."""
    from cai_bootstrap.instructions.rows import hub_dataset

    value: object = resolved.config
    for part in key.split("."):
        value = getattr(value, part)
    if value is None or resolved.origins[key] == "default":
        return None
    text = str(value)
    if key == "control" and text in {"none", "shipped"}:
        return None
    if key == "prompts" and hub_dataset(text) is not None and not Path(text).is_file():
        return None
    return text


def _is_pushed(path: str, settings: PodSettings, source: Path) -> bool:
    """Whether the job finds it in the pushed checkout, which is its working directory."""
    name = source_of(path, settings)
    return name is not None and (source / name).is_file() and name in set(pushed_files(source))
