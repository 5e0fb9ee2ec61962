"""Scan a data set to its end: a few numbers for each sample, and the findings of single lines."""

from __future__ import annotations

import re
import signal
from array import array
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import chain, islice

import numpy as np

from trainables.config.data_sections import FieldNames
from trainables.data.audit.duplicates import BANDS
from trainables.data.audit.fingerprint import ROW, HashedTexts, compared_prompt
from trainables.data.audit.line_scan import Chunk, ChunkScan, Scanner, ScanSpec
from trainables.data.audit.ngrams import Flat
from trainables.data.audit.report import Hit
from trainables.data.defects import SHOWN_PER_RULE, Defect
from trainables.data.json_lines import RawLine, Record
from trainables.data.samples import Sample, parse_sample
from trainables.data.sources import read_raw
from trainables.errors import UserError

CHUNK_LINES = 1024
CHUNK_BYTES = 2**21
SHORT_FILE_CHUNKS = 4  # starting processes takes as long as scanning some thousands of lines
WAITING_CHUNKS = 2  # for each process, so that none waits for lines
PROMPT_LINES = 20_000  # among which some prompts are taken
SOME_PROMPTS = 1_000  # at least, where there are as many
IDLE_SECONDS = 60  # after which a worker ends by itself, if the audit was killed


@dataclass(frozen=True)
class AuditSource:
    """One data set of a sweep.

    Attributes:
        where: The setting that names it: `data.train` or `heldout.areas.NAME`.
        path: The file or hub id, as the config names it.
        limit: Audit and use only the first this many samples; None for all.
        split: Split of a hub data set; not read for files.
        form: As `data.format`.
    """

    where: str
    path: str
    limit: int | None = None
    split: str = "train"
    form: str = "auto"


@dataclass
class DatasetScan:
    """Scan of one data set; memory grows by 200 to 400 bytes a line.

    Attributes:
        lines: Number of non-blank lines.
        hit_lines: Lines by rule, in no order.
        examples: The first hits of each rule.
        matched: Lines with a held-out item, by area.
        seconds: CPU time of each kind of rule, over all processes.
        names: Format markers by their code.
        samples: Number of samples.
        forms: Number of samples of each form.
        unread: Number of samples with each key that nothing reads.
    """

    lines: int = 0
    hit_lines: dict[str, array[int]] = field(default_factory=lambda: defaultdict(lambda: array("q")))
    examples: dict[str, list[Hit]] = field(default_factory=lambda: defaultdict(list))
    matched: dict[str, array[int]] = field(default_factory=lambda: defaultdict(lambda: array("q")))
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    names: dict[int, str] = field(default_factory=dict)
    samples: int = 0
    forms: Counter[str] = field(default_factory=Counter)
    unread: Counter[str] = field(default_factory=Counter)
    _rows: list[np.ndarray] = field(default_factory=list)
    _bands: list[np.ndarray] = field(default_factory=list)
    _markers: list[Flat] = field(default_factory=list)
    _texts: list[HashedTexts] = field(default_factory=list)

    def add(self, scanned: ChunkScan) -> None:
        self.lines += scanned.lines
        self.samples += len(scanned.rows)
        for hit in scanned.hits:
            self.hit_lines[hit.rule].append(hit.line)
            if len(self.examples[hit.rule]) < SHOWN_PER_RULE:
                self.examples[hit.rule].append(hit)
        for area, line in scanned.matched:
            self.matched[area].append(line)
        for kind, spent in scanned.seconds.items():
            self.seconds[kind] += spent
        self.names |= scanned.names
        self.forms.update(scanned.forms)
        self.unread.update(scanned.unread)
        self._rows.append(scanned.rows)
        self._bands.append(scanned.bands)
        self._markers.append(scanned.markers)
        if scanned.texts is not None:
            self._texts.append(scanned.texts)

    def rows(self) -> np.ndarray:
        """(samples,) of `ROW`."""
        return np.concatenate([np.empty(0, ROW), *self._rows])

    def bands(self) -> Iterator[np.ndarray]:
        """Yields (samples,) uint64 keys of each band."""
        # One band at a time: all of them joined would double the memory.
        for band in range(BANDS):
            yield np.concatenate([np.empty(0, np.uint64), *(part[:, band] for part in self._bands)])

    def markers(self) -> Flat:
        return Flat.joined(self._markers)

    def texts(self) -> HashedTexts:
        return HashedTexts.joined(self._texts)


def scan_dataset(data: AuditSource, spec: ScanSpec, processes: int) -> DatasetScan:
    """Scans a data set, a long one in worker processes.

    Raises:
        UserError: The file cannot be read, or holds no line.
    """
    scan = DatasetScan()
    records = read_raw(data.path, spec.fields, data.split, data.form)
    scanner = Scanner(spec)

    def chunks(most: int | None) -> Iterator[Chunk]:
        # A line holds at most one sample, so that reading `most` lines cannot read more samples than wanted.
        taken = 0
        while chunk := _chunk(records, CHUNK_LINES if most is None else min(CHUNK_LINES, most - taken)):
            taken += len(chunk)
            yield chunk

    rest = chunks(data.limit)
    for chunk in rest if processes < 2 else islice(rest, SHORT_FILE_CHUNKS):
        scan.add(scanner.scan(chunk))
    if first := next(rest, None):
        for scanned in _scan_in_workers(spec, chain([first], rest), processes):
            scan.add(scanned)
    # Some of the first `limit` lines held no sample: read on, no further than is needed.
    while data.limit is not None and scan.samples < data.limit:
        if not (chunk := _chunk(records, min(CHUNK_LINES, data.limit - scan.samples))):
            break
        scan.add(scanner.scan(chunk))
    if not scan.lines:
        raise UserError(data.path, "must hold samples", "an empty file", "name a file with a sample on each line")
    return scan


def _scan_in_workers(spec: ScanSpec, chunks: Iterable[Chunk], processes: int) -> Iterator[ChunkScan]:
    """Yields the scans of the chunks in order; only a few chunks are read ahead.

    Raises:
        UserError: A worker died, as when memory runs out.
    """
    from joblib.externals.loky import ProcessPoolExecutor  # here: short files need no workers

    # multiprocessing would import the caller's main module, with its frameworks, into each worker; loky does not.
    # One thread of rensa in each: the processes share the CPUs already.
    pool = ProcessPoolExecutor(
        processes, timeout=IDLE_SECONDS, initializer=_start_worker, initargs=(spec,), env={"RAYON_NUM_THREADS": "1"}
    )
    waiting: deque[Future[ChunkScan]] = deque()
    try:
        for chunk in chunks:
            waiting.append(pool.submit(_scan_chunk, chunk))
            if len(waiting) > WAITING_CHUNKS * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        ended = re.search(r"\((-?\d+)\)", str(error))  # loky names the exit codes only in its message
        remedy = "free memory, or look for an error above"
        got = f"exit {ended[1]}" if ended else "a worker that stopped"
        raise UserError("audit", "its processes must run to their end", got, remedy) from error
    finally:
        pool.shutdown(kill_workers=True)


_worker_scanner: Scanner  # of a worker process, which scans one data set


def _start_worker(spec: ScanSpec) -> None:
    global _worker_scanner
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process, which then ends the workers
    _worker_scanner = Scanner(spec)


def _scan_chunk(chunk: Chunk) -> ChunkScan:
    return _worker_scanner.scan(chunk)


def _chunk(records: Iterator[RawLine | Record | Defect], most: int) -> Chunk:
    """Takes the next lines, at most `most` and about `CHUNK_BYTES`."""
    chunk: Chunk = []
    size = 0
    while len(chunk) < most and size < CHUNK_BYTES and (record := next(records, None)) is not None:
        chunk.append(record)
        size += len(record.raw) if isinstance(record, RawLine) else 0
    return chunk


def some_prompts(data: AuditSource, fields: FieldNames) -> list[str]:
    """Prompts of a data set, taken evenly from its first lines; none where it cannot be read."""
    most = PROMPT_LINES if data.limit is None else min(PROMPT_LINES, data.limit)
    kept: list[RawLine | Record | Defect] = []
    step = 1
    try:
        for number, record in enumerate(islice(read_raw(data.path, fields, data.split, data.form), most)):
            if number % step == 0:
                kept.append(record)
            if len(kept) == 2 * SOME_PROMPTS:
                kept, step = kept[::2], 2 * step
    except UserError:  # the scan reports it
        return []
    parsed = (parse_sample(data.path, record, fields, data.form) for record in kept)
    return [compared_prompt(sample) for sample in parsed if isinstance(sample, Sample)]


def samples_at(data: AuditSource, fields: FieldNames, lines: np.ndarray) -> Iterator[Sample]:
    """Reads the samples on some lines again, and the file no further than the last of them.

    Args:
        data: The data set.
        fields: Names of the keys.
        lines: Lines that held a sample, ascending, each once.

    Raises:
        UserError: A line holds no sample any more.
    """
    wanted = iter(lines.tolist())
    line = next(wanted, None)
    for found in read_raw(data.path, fields, data.split, data.form):
        if line is None:
            return
        if found.line < line or isinstance(found, Defect):
            continue
        sample = parse_sample(data.path, found, fields, data.form)
        if found.line != line or not isinstance(sample, Sample):
            break
        yield sample
        line = next(wanted, None)
    if line is not None:
        raise UserError(data.path, "must not change while it is read", f"another line {line}", "start again")
