"""The sweep on one self-contained HTML page, which opens without a network.

`material` reads the folder, each module of `sections` turns it into blocks (text, tables, charts as data), and `page`
has the template draw them.
"""

from analysis.report.page import write_report

__all__ = ["REPORT_FILE", "write_report"]
