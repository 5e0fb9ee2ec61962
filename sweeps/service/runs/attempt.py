"""`python -m sweeps.service.runs.attempt FD COMMAND…`: signs an attempt's locked file, then becomes the command.

The service has locked the file before this process began, and the lock is this process's, too. So a service that
starts later sees by the lock alone that the attempt lives, and reads from the file which process it is.
"""

from __future__ import annotations

import json
import os
import sys

import psutil


def main(arguments: list[str]) -> None:
    own = {"pid": os.getpid(), "created": psutil.Process().create_time()}
    os.write(int(arguments[0]), (json.dumps(own) + "\n").encode())
    os.execv(arguments[1], arguments[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
