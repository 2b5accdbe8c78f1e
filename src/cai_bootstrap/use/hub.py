"""Push an export to a hub: only where an explicit name points, and private unless it was said otherwise."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai_bootstrap.errors import CaiError, DataError, UsageError
from cai_bootstrap.files import read_json
from cai_bootstrap.use.cards import check_card
from cai_bootstrap.use.export import RECORD


@dataclass(frozen=True)
class Pushed:
    """What went where. `url` is the commit's."""

    repository: str
    kind: str
    private: bool
    url: str


def push(folder: Path, repository: str, *, kind: str, public: bool) -> Pushed:
    """Upload one part of an export (`model` or `dataset`) as one commit.

    The hub is $HF_ENDPOINT's, the token huggingface_hub's own ($HF_TOKEN or its login). A repository that does not
    exist is made private, unless `public`. Raises UsageError for a bad name, a folder that is no export, or a
    repository that is public already although `public` was not asked for; CaiError if the hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    _must_be_export(folder, kind)
    if repository.count("/") != 1:
        raise UsageError(f"'{repository}': name the repository in full, OWNER/NAME")
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)
    where: dict[str, Any] = {"repo_id": repository, "repo_type": kind}
    try:
        api.create_repo(**where, private=not public, exist_ok=True)
        private = bool(api.repo_info(**where).private)
        if not private and not public:
            raise UsageError(f"{repository}: is public already; say --public to push to it, or name another")
        message = f"Upload of a cai-bootstrap {kind}"
        commit = api.upload_folder(**where, folder_path=str(folder), commit_message=message)
    except HFValidationError as error:
        raise UsageError(f"'{repository}': {error}") from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise CaiError(f"{repository}: the hub did not take it: {error}; nothing else was changed") from error
    return Pushed(repository, kind, private, str(commit.commit_url))


def _must_be_export(folder: Path, kind: str) -> None:
    try:
        read_json(folder / RECORD)
        card = (folder / "README.md").read_text(encoding="utf-8")
    except (DataError, OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{folder}: not a {kind} written by `cai export` ({error}); export first") from error
    check_card(card, kind)
