"""Uploads a verified export to the Hugging Face hub, where a new repository is private."""

from __future__ import annotations

from pathlib import Path

from trainables.errors import UserError


def check_push(repo: str) -> None:
    """Checks that a push to `repo` (OWNER/NAME) can begin.

    Raises:
        UserError: The name isn't one of a repository, or there is no token.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise UserError("--push", "must be OWNER/NAME", repo, "name a repository of yours") from error
    if not get_token():
        raise UserError("--push", "needs a token of the hub", "none", "run `hf auth login`, or set HF_TOKEN")


def push(folder: Path, repo: str) -> str:
    """Uploads a verified export to `repo` (OWNER/NAME) as one commit and returns the commit's URL.

    Raises:
        UserError: The hub can't be reached or refuses; the folder stays.
    """
    from httpx import HTTPError
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        # Private only if made here: a repository that exists keeps its visibility.
        api.create_repo(repo, private=True, exist_ok=True)
        return str(api.upload_folder(repo_id=repo, folder_path=folder, commit_message=f"Export {folder.name}"))
    except (HTTPError, OSError, ValueError) as error:
        remedy = f"check the network and the token's rights; {folder} is whole: push it with `hf upload`"
        raise UserError(f"--push {repo}", "must be accepted by the hub", type(error).__name__, remedy) from error
