"""A sweep on one self-contained HTML page, which opens without a network.

`elements.material` reads the folder, each module of `sections` turns it into blocks, and `page` renders them.
"""

from analysis.report.page import write_report

__all__ = ["REPORT_FILE", "write_report"]
