"""The stages that left something in a base directory, and the page of each."""

from collections.abc import Mapping
from pathlib import Path

from cai_bootstrap.run.folder import STAGES, RunFolder

TITLES: Mapping[str, str] = {"instructions": "Stage 1 report", "constitution": "Constitution report"}


def stages_of(workspace: RunFolder) -> list[RunFolder]:
    """The folders of each stage that has left a file, Stage 1 first; another stage's data lie where they usually do."""
    folders = (_of_stage(workspace, name) for name in STAGES)
    return [folder for folder in folders if has_files(folder)]


def has_files(workspace: RunFolder) -> bool:
    """Whether this stage has left a file here: a record, results, a marker, data or an adapter."""
    if workspace.record.exists() or workspace.baseline.exists() or workspace.evaluations():
        return True
    return any(folder.is_dir() and any(folder.iterdir()) for folder in _folders(workspace))


def other_stage(workspace: RunFolder) -> RunFolder | None:
    """The folders of the other stage, if it has left a file in the same base directory."""
    return next((folder for folder in stages_of(workspace) if folder.stage is not workspace.stage), None)


def other_page(workspace: RunFolder) -> tuple[str, str] | None:
    """The other stage's page, as a link from this one's: its address and its title; None where there is none."""
    other = other_stage(workspace)
    return None if other is None else (other.report.name, TITLES[other.stage.name])


def links_to(page: Path, other: Path) -> bool:
    """Whether a page that was written links to another one beside it."""
    try:
        return f'href="{other.name}"' in page.read_text(encoding="utf-8")
    except OSError:
        return False


def _of_stage(workspace: RunFolder, name: str) -> RunFolder:
    if name == workspace.stage.name:
        return workspace
    return RunFolder.at(workspace.base, results=workspace.results, stage=STAGES[name])


def _folders(workspace: RunFolder) -> tuple[Path, ...]:
    return workspace.markers, workspace.data, workspace.checkpoints
