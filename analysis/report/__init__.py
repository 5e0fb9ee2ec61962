"""A sweep on one self-contained HTML page, which opens without a network.

`elements.material` reads the folder, each module of `sections` and `charts` turns it into blocks; `page` renders them.
"""

from analysis.report.page import write_report

__all__ = ["write_report"]
