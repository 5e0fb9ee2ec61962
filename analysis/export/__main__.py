"""`python -m analysis.export DIR --to OUT`: the best checkpoint as a Hugging Face folder."""

from __future__ import annotations

import logging
import signal
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager

from analysis.cli import Parser, local_path
from analysis.export.export import ITEMS_EACH, export
from analysis.export.hub import check_push, push
from analysis.records.locate import opened
from trainables.errors import UserError

EXAMPLE = """example:
  python -m analysis.export outputs/demo --to demo-adapter               # the winner's adapter
  python -m analysis.export outputs/demo --to demo-model --merge         # merged, for plain transformers
  python -m analysis.export outputs/demo --to other --trial ID --step 40
  python -m analysis.export outputs/demo --to demo-model --merge --push me/demo   # to a private repository

exit codes: 0 done, 2 wrong arguments or files, 3 no complete trial with held-out scores"""


def main(arguments: list[str] | None = None) -> int:
    parser = Parser("python -m analysis.export", "Exports a sweep's best checkpoint as a Hugging Face folder.", EXAMPLE)
    parser.add_argument("folder", metavar="DIR", help="the sweep's folder or URL, <storage_path>/<name>")
    parser.add_argument("--to", metavar="OUT", required=True, help="folder to write; must not exist, or be empty")
    parser.add_argument("--trial", metavar="ID", help="the trial; default: the leaderboard's winner")
    parser.add_argument("--step", metavar="N", type=int, help="the checkpoint; default: the trial's best")
    parser.add_argument("--merge", action="store_true", help="merge a LoRA adapter into the base model")
    parser.add_argument(
        *("--no-verify", "--unverified"),
        dest="unverified",
        action="store_true",
        help="skip the reload check, where the model is too large for this machine",
    )
    parser.add_argument(
        "--all-items",
        action="store_true",
        help=f"compare the losses of all held-out items (default: {ITEMS_EACH} of each area)",
    )
    parser.add_argument(
        "--push", metavar="REPO", help="then upload the verified folder to this Hugging Face repository, made private"
    )
    return parser.run(_export, arguments)


@contextmanager
def stopped_alike() -> Iterator[None]:
    """While entered, SIGTERM stops the export as Ctrl-C does: nothing is left behind."""
    # Not the handler of SIGINT: a shell that starts a command with `&` has it ignored, and SIGTERM would be, too.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def show_progress() -> None:
    """Prints what the export does on stderr, with the time."""
    shown = logging.StreamHandler()
    shown.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("analysis.export")
    logger.handlers, logger.propagate = [shown], False
    logger.setLevel(logging.INFO)


def _export(given: Namespace) -> None:
    if given.merge and given.unverified:
        raise UserError("--no-verify", "can't be given with --merge", "both", "leave one out: a merge is compared")
    if given.push and given.unverified:
        raise UserError("--no-verify", "can't be given with --push", "both", "leave one out: what is pushed is proved")
    to = local_path(given.to, "--to")
    show_progress()
    if given.push:
        check_push(given.push)  # before the export, which may take many minutes
    with stopped_alike(), opened(given.folder) as folder:
        done = export(folder, to, given.trial, given.step, given.merge, not given.unverified, given.all_items)
    print(f"{done.kind} of {done.trial_id} at step {done.step}: {done.folder}")
    print(f"verified: reloaded with transformers, {done.parity}" if done.parity else "not verified, as asked")
    if given.push:
        print(f"pushed: {push(done.folder, given.push)}")


if __name__ == "__main__":
    sys.exit(main())
