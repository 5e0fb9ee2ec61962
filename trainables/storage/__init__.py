"""Files and object stores: atomic writes, checksummed folders, working copies, and every file name."""
