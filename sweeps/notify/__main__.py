"""Sends news of one event of a sweep: `python -m sweeps.notify CONFIG EVENT TEXT`.

The service does so in a process of its own: W&B runs in none that answers requests.
"""

from __future__ import annotations

import sys
from typing import cast

from sweeps.config.sections import NewsEvent
from sweeps.config.sweep_config import load_config
from sweeps.notify.messages import tell_now
from trainables.errors import UserError, UserErrors
from trainables.redaction import redact


def main(config: str, event: str, text: str) -> int:
    """Tells it, if the config asks for such news; returns 1 where a server has not taken them."""
    try:
        failures = tell_now(load_config(config), cast("NewsEvent", event), text)
    except (UserError, UserErrors) as error:  # an address's variable that is not set, a sweep that was deleted
        failures = str(error).splitlines()
    for failure in failures:
        print(redact(f"warning: {failure}"), file=sys.stderr)
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
