"""What the pre-flight says of W&B: a key that is missing, and variables that count or don't."""

from __future__ import annotations

from collections.abc import Iterator

from sweeps.config.environment import wandb_variables
from sweeps.config.sweep_config import SweepConfig
from sweeps.plan.findings import Finding
from trainables.errors import UserError

VARIABLES = {"project": "WANDB_PROJECT", "tags": "WANDB_TAGS", "mode": "WANDB_DISABLED"}


def missing_key(config: SweepConfig) -> list[UserError]:
    """Returns an error where runs must be online and W&B knows no key for that."""
    if config.wandb.mode != "online":
        return []
    from trainables.tracking import wandb_client  # imports W&B, for about a second

    if not (why := wandb_client.missing_key()):
        return []
    remedy = "run `wandb login`, set WANDB_API_KEY, or write auto: offline where there is no key"
    return [UserError("wandb.mode", "online needs an API key that W&B knows", why, remedy)]


def tracking_findings(config: SweepConfig) -> Iterator[Finding]:
    """Yields what W&B's environment variables have changed, and which of them don't count."""
    for key, value in wandb_variables().items():
        shown = ", ".join(value) if isinstance(value, list) else value
        used = getattr(config.wandb, key) == value
        how = f"wandb.{key} is {shown}" if used else f"it is not used, for the config names wandb.{key}"
        yield Finding("wandb_environment", "info", f"{VARIABLES[key]} is set: {how}")
