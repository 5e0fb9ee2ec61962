from pathlib import Path

from sweeps.config.reference import reference
from sweeps.config.sweep_config import SweepConfig


def test_the_page_is_what_the_typed_config_says_and_every_key_has_a_meaning():
    assert Path("docs/configuration.md").read_text() == reference(), "run: make docs"
    rows = [line.split(" | ") for line in reference().splitlines() if line.startswith("| `")]
    assert len(rows) > len(SweepConfig.model_fields)
    assert [row[0] for row in rows if not row[-1].strip(" |")] == []
