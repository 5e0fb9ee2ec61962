"""The documentation is run: its commands work, print what the pages show, and no link of it is dead.

All pages share one folder. The tutorial trains a tiny sweep in it; other pages' commands read that sweep. What an
earlier page ran is not run again.
"""

import importlib
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field

import pytest

from sweeps.config.sweep_config import load_config
from tests.integration.conftest import HUNG_SECONDS, environment
from tests.integration.docs.doc_blocks import LINK, ROOT, Block, Command, blocks, commands, pages, unlike

PAGES = {str(page.relative_to(ROOT)): page for page in pages()}
MODULE = re.compile(r"python -m ((?:sweeps|analysis|trainables|benchmarks)[\w.]*)")
WITHOUT_A_PARSER = (
    "sweeps.submit.await_head",
    "sweeps.submit.allocations",
    "sweeps.config.reference",
    "sweeps.service.runs.attempt",
    "sweeps.notify",
    "analysis.export.reload",
)


@dataclass
class Workplace:
    """A folder in which a page's commands are run as a reader would, and what each has printed."""

    folder: os.PathLike
    printed: dict[str, str] = field(default_factory=dict)

    def run(self, line):
        if line not in self.printed:
            path = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
            done = subprocess.run(
                ["bash", "-c", line],
                cwd=self.folder,
                env=environment(PATH=path, PYTHONPATH=str(ROOT), COLUMNS="120"),
                capture_output=True,
                text=True,
                timeout=HUNG_SECONDS,
                stdin=subprocess.DEVNULL,
                check=False,
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
            self.printed[line] = done.stdout
        return self.printed[line]

    def follow(self, page, slow=False):
        """Does what a page says, block by block."""
        for block in blocks(page.read_text(encoding="utf-8")):
            if block.marker.startswith("file "):
                path = self.folder / block.marker.removeprefix("file ")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.body, encoding="utf-8")
            elif block.marker == "run" or (block.marker == "run slow" and slow):
                for command in commands(block.body):
                    missing = unlike(command.shown, self.run(command.line))
                    assert missing is None, f"{command.line} did not print {missing!r}:\n{self.printed[command.line]}"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    for name in ("conf", "cluster.yaml"):
        (folder / name).symlink_to(ROOT / name)
    place = Workplace(folder)
    place.follow(PAGES["docs/tutorial.md"])
    return place


@pytest.mark.parametrize("page", PAGES)
def test_a_page_does_what_it_shows(workplace, page):
    workplace.follow(PAGES[page])


@pytest.mark.slow
def test_the_longer_examples(workplace):
    for page in PAGES.values():
        workplace.follow(page, slow=True)


@pytest.mark.parametrize("page", PAGES)
def test_configs_load(page, tmp_path):
    for block in blocks(PAGES[page].read_text(encoding="utf-8")):
        if block.marker == "config":
            (tmp_path / "config.yaml").write_text(block.body, encoding="utf-8")
            load_config(tmp_path / "config.yaml")


def test_no_link_is_dead():
    dead = []
    for page in (path for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]):
        for found in LINK.finditer(re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)):
            target, _, anchor = found["target"].partition("#")
            if "://" in target or target.startswith("mailto:"):
                continue
            path = (page.parent / target) if target else page
            if not path.exists() or (anchor and path.suffix == ".md" and anchor not in anchors(path)):
                dead.append(f"{page.relative_to(ROOT)}: {found['target']}")
    assert dead == []


def anchors(page):
    """The anchors of a page's headings, as they are made on the web."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_names_every_command():
    named = set(MODULE.findall((ROOT / "README.md").read_text(encoding="utf-8")))
    made = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
        for package in ("sweeps", "analysis")
        for path in (ROOT / package).rglob("*.py")
        if 'if __name__ == "__main__":' in path.read_text(encoding="utf-8") or path.name == "__main__.py"
    }
    assert made - named - set(WITHOUT_A_PARSER) == set()


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_options_exist(page, capsys):
    text = PAGES[page].read_text(encoding="utf-8")
    for line in re.findall(r"python -m (?:sweeps|analysis)[^\n`]*", text):
        name = MODULE.match(line)[1]
        if name in WITHOUT_A_PARSER:
            continue
        module = importlib.import_module(f"{name}.__main__" if (ROOT / name.replace(".", "/")).is_dir() else name)
        with pytest.raises(SystemExit):
            module.main(["--help"])
        helped = capsys.readouterr().out
        options = re.findall(r"(?<![\w-])--[a-z][a-z-]+", line.partition("#")[0])
        assert [option for option in options if option not in helped] == [], line


def test_the_reader_of_pages_reads_them():
    text = "<!-- run -->\n```console\n$ a \\\n  b  # why\none 1\n…\nlast …\n$ c\n```\n\n```\n$ not run\n```\n"
    assert blocks(text) == [Block("run", "$ a \\\n  b  # why\none 1\n…\nlast …\n$ c\n")]
    first, second = commands(blocks(text)[0].body)
    assert (first, second) == (Command("a b", ("one 1", "…", "last …")), Command("c", ()))
    assert unlike(first.shown, "zero\none   -2.5e-05\nx\nlast of all\n") is None
    assert unlike(first.shown, "last of all\none 2\n") == "last …"
    assert unlike(("two",), "one") == "two"


def test_images_are_small():
    images = list((ROOT / "docs" / "images").glob("*.png"))
    assert images
    assert [image.name for image in images if image.stat().st_size > 300_000] == []
