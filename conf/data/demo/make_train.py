"""Write the demo's training set: questions on small invented financial tables.

A sample is a table of 3 to 5 rows with a company, a measure and a unit in its title, and one question. The answer
follows a house style that a base model cannot know: the unit of the title written out (`$m` becomes `$482 million`),
negative figures in brackets (`$(12.3) million`), a change as later minus earlier, `Yes` or `No`, otherwise a bare label
of the table; never a sentence, never a full stop.

The same seed gives the same bytes. Example:
    python conf/data/demo/make_train.py --out conf/data/demo/train.jsonl
"""

import argparse
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

SEED = 20_260
# How many samples of each kind: mostly what a small model can learn from 400 samples; arithmetic keeps the set honest.
KINDS = {"lookup": 176, "extreme": 92, "yesno": 64, "difference": 38, "sum": 30}
QUESTIONS_PER_TABLE = 2

STEMS = """
    Abenholt Brackmere Calvostra Dornfield Eskavane Fennick Garrowby Hestholm Ilvermoor Jorvane Kelstrand Lunmarch
    Mavrick Norhollow Ovenstead Pellatine Quarrowby Rastelle Sundmoor Tarnwick Ulverstan Vexholm Wendrake Yarrowell
    Zelmont Arkenby Bellastro Corvance Dunmere Elsgate Farrowdale Grenwick
"""
TRADES = ("Foods", "Tools", "Rail", "Glass", "Paper", "Energy", "Motors", "Media", "Pharma", "Ports", "Steel", "Toys")
CURRENCIES = ("$", "€", "£")
UNITS = {
    "thousand": ("{}k", "{}000", "{} thousand"),
    "million": ("{}m", "{}mn", "{} million"),
    "billion": ("{}bn", "{} billion"),
}
TITLES = ("{company}, {title} ({unit})", "{company}: {title}, {unit}", "{company} {title} in {unit}")
PERIODS = {
    "year": tuple(str(year) for year in range(2007, 2026)),
    "quarter": ("Q1", "Q2", "Q3", "Q4"),
    "month": ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October"),
}


@dataclass(frozen=True)
class Theme:
    """What a table is about: `measure` names the figure of one label, `kind` what the labels are."""

    title: str
    measure: str
    kind: str
    labels: str
    signed: bool = False


THEMES = (
    Theme("revenue by region", "revenue in {}", "region", "North,South,East,West,Coast,Islands"),
    Theme("sales by product", "revenue from {}", "product", "Licences,Support,Hardware,Training,Rentals,Repairs"),
    Theme("operating costs", "spending on {}", "cost", "Salaries,Freight,Power,Leases,Insurance,Travel,Legal fees"),
    Theme("operating result", "result of {}", "division", "Retail,Wholesale,Leasing,Shipping,Services", signed=True),
    Theme("cash flow", "cash flow from {}", "source", "Operations,Investing,Financing,Disposals,Tax", signed=True),
    Theme("investments", "investment in {}", "site", "Harbour,Foundry,Quarry,Depot,Head office,Lab"),
    Theme("assets", "value of {}", "asset", "Cash,Receivables,Stocks,Land,Vehicles,Bonds,Patents"),
    Theme("new orders", "orders from {}", "industry", "Aviation,Health,Farming,Defence,Telecoms,Sports"),
    Theme("provisions", "provision for {}", "purpose", "Warranties,Pensions,Lawsuits,Cleanup,Bonuses"),
    Theme("net result", "net result in {}", "country", "Spain,Chile,Kenya,Poland,India,Peru,Egypt", signed=True),
)

# Wordings by kind of question. "over_time" is on one measure {m} in an {older} and a {newer} period, "across" on the
# labels {a} and {b} in one period {p}. The words in UP or DOWN fill {most}, {end}, {place}, {more}, {rise}, {above}.
WORDINGS = json.loads(Path(__file__).with_name("wordings.json").read_text(encoding="utf-8"))
UP = {"most": "highest", "end": "peak", "place": "first", "more": "higher", "rise": "rise", "above": "above"}
DOWN = {"most": "lowest", "end": "low", "place": "last", "more": "lower", "rise": "fall", "above": "below"}


@dataclass(frozen=True)
class Table:
    """A table of figures by (label, period); figures are whole numbers, in tenths where `tenths` is set."""

    theme: Theme
    title: str
    symbol: str
    unit: str
    tenths: bool
    labels: tuple[str, ...]
    periods: tuple[str, ...]
    noun: str
    figures: dict[tuple[str, str], int]

    @property
    def by_period(self) -> bool:
        """Whether the rows are the periods: the longer side always is."""
        return len(self.periods) > len(self.labels)

    def figure(self, value: int) -> str:
        """One figure in the house style: thousands separated, negative ones in brackets."""
        size = abs(value)
        text = f"{size // 10:,}.{size % 10}" if self.tenths else f"{size:,}"
        return f"({text})" if value < 0 else text

    def money(self, value: int) -> str:
        """An answer in the house style, for instance `$(12.3) million`."""
        return f"{self.symbol}{self.figure(value)} {self.unit}"

    def text(self) -> str:
        """The table as the prompt shows it, cells parted by ` | `."""
        corner, columns, rows = self.theme.kind, self.periods, self.labels
        if self.by_period:
            corner, columns, rows = self.noun, self.labels, self.periods
        lines = [self.title, " | ".join([corner.capitalize(), *columns])]
        for row in rows:
            keys = [(column, row) if self.by_period else (row, column) for column in columns]
            lines.append(" | ".join([row, *(self.figure(self.figures[key]) for key in keys)]))
        return "\n".join(lines)


def draw_periods(rng: random.Random, count: int) -> tuple[str, tuple[str, ...]]:
    """Draw what periods are called and `count` (1 to 5) consecutive ones, oldest first."""
    noun = rng.choice([noun for noun in ("year", "year", "quarter", "month") if len(PERIODS[noun]) >= count])
    start = rng.randrange(len(PERIODS[noun]) - count + 1)
    return noun, PERIODS[noun][start : start + count]


def draw_table(rng: random.Random) -> Table:
    """Draw a table; no two of its figures have the same size, so that every comparison has an answer."""
    theme = rng.choice(THEMES)
    by_period = rng.random() < 0.4
    long_side, short_side = rng.choice([(3, 2), (3, 2), (4, 1), (5, 1)])
    noun, periods = draw_periods(rng, long_side if by_period else short_side)
    labels = tuple(rng.sample(theme.labels.split(","), short_side if by_period else long_side))
    unit = rng.choice(["thousand", "million", "million", "billion"])
    tenths = unit == "billion" or (unit == "million" and rng.random() < 0.4)
    # A token for every digit: with one column of figures there is room for longer ones.
    sizes = [(5, 100), (100, 1000)] if tenths else [(10, 100), (100, 1000), (1000, 10_000)]
    sizes = sizes[1:] if short_side == 1 else sizes[:2]
    values = rng.sample(range(*rng.choice(sizes)), len(labels) * len(periods))
    if theme.signed:
        values = [-value if rng.random() < 0.4 else value for value in values]
    keys = [(label, period) for label in labels for period in periods]
    company, symbol = f"{rng.choice(STEMS.split())} {rng.choice(TRADES)}", rng.choice(CURRENCIES)
    unit_text = rng.choice(UNITS[unit]).format(symbol)
    title = rng.choice(TITLES).format(company=company, title=theme.title, unit=unit_text)
    figures = dict(zip(keys, values, strict=True))
    return Table(theme, title, symbol, unit, tenths, labels, periods, noun, figures)


def ask_lookup(rng: random.Random, table: Table) -> tuple[str, str]:
    """Ask for one figure of the table; the answer writes its unit out."""
    label, period = rng.choice(table.labels), rng.choice(table.periods)
    question = rng.choice(WORDINGS["lookup"]).format(m=table.theme.measure.format(label), p=period)
    return question, table.money(table.figures[label, period])


def ask_extreme(rng: random.Random, table: Table) -> tuple[str, str]:
    """Ask which label, or which period, has the highest or lowest figure along the longer side of the table."""
    best, words = (max, UP) if rng.random() < 0.6 else (min, DOWN)
    label, period = rng.choice(table.labels), rng.choice(table.periods)
    if table.by_period:
        measure = table.theme.measure.format(label)
        question = rng.choice(WORDINGS["over_time"]["extreme"]).format(noun=table.noun, m=measure, **words)
        return question, best(table.periods, key=lambda name: table.figures[label, name])
    question = rng.choice(WORDINGS["across"]["extreme"]).format(kind=table.theme.kind, p=period, **words)
    return question, best(table.labels, key=lambda name: table.figures[name, period])


def ask_pair(kind: str, answer: Callable[[Table, int, int], str]) -> Callable[[random.Random, Table], tuple[str, str]]:
    """Make the asker of a question on two figures; `answer` is given the newer and older, or {a}'s and {b}'s figure."""

    def ask(rng: random.Random, table: Table) -> tuple[str, str]:
        words = UP if rng.random() < 0.5 else DOWN
        if len(table.labels) == 1 or (len(table.periods) > 1 and rng.random() < 0.5):
            older, newer = (table.periods[i] for i in sorted(rng.sample(range(len(table.periods)), 2)))
            label = rng.choice(table.labels)
            first, second = table.figures[label, newer], table.figures[label, older]
            measure = table.theme.measure.format(label)
            question = rng.choice(WORDINGS["over_time"][kind]).format(m=measure, older=older, newer=newer, **words)
        else:
            period = rng.choice(table.periods)
            a, b = rng.sample(table.labels, 2)
            if kind == "difference" and table.figures[a, period] < table.figures[b, period]:
                a, b = b, a
            first, second = table.figures[a, period], table.figures[b, period]
            question = rng.choice(WORDINGS["across"][kind]).format(a=a, b=b, p=period, **words)
        return question, answer(table, *((first, second) if words is UP or kind != "yesno" else (second, first)))

    return ask


ASK = {
    "lookup": ask_lookup,
    "extreme": ask_extreme,
    "yesno": ask_pair("yesno", lambda _, larger, smaller: "Yes" if larger > smaller else "No"),
    "difference": ask_pair("difference", lambda table, first, second: table.money(first - second)),
    "sum": ask_pair("sum", lambda table, first, second: table.money(first + second)),
}


def make_samples(seed: int = SEED) -> Iterator[dict[str, str]]:
    """Yield the training samples, `QUESTIONS_PER_TABLE` to a table; a table's samples share their `group`."""
    rng = random.Random(seed)
    deck = [kind for kind, count in KINDS.items() for _ in range(count)]
    rng.shuffle(deck)
    for start in range(0, len(deck), QUESTIONS_PER_TABLE):
        table = draw_table(rng)
        asked: set[tuple[str, str]] = set()
        for number, kind in enumerate(deck[start : start + QUESTIONS_PER_TABLE], start=start + 1):
            question, answer = ASK[kind](rng, table)
            while (kind, answer) in asked:  # else a table could get one question twice, worded differently
                question, answer = ASK[kind](rng, table)
            asked.add((kind, answer))
            yield {
                "id": f"train-{kind}-{number:04d}",
                "area": "tables",
                "source": "demo generated",
                "group": f"train-table-{start // QUESTIONS_PER_TABLE + 1:03d}",
                "prompt": f"{table.text()}\n\nQuestion: {question}",
                "response": answer,
            }


def main() -> None:
    """Write the file that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("train.jsonl"), help="file to write")
    parser.add_argument("--seed", type=int, default=SEED, help="another seed gives another set")
    args = parser.parse_args()
    lines = (json.dumps(sample, ensure_ascii=False) + "\n" for sample in make_samples(args.seed))
    args.out.write_text("".join(lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
