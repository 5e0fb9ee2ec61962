"""Whatever stands in a config or an override: a config, or lines of the error's one form. Never a traceback."""

import contextlib
import io

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sweeps import run
from sweeps.config.sweep_config import SweepConfig, load_config
from tests.unit.sweeps.helpers import SMALL
from trainables.config.fields import types_at
from trainables.errors import UserError, UserErrors

FAST, SLOW = 300, 2000


def keys_of(section, prefix=""):
    for name in section.model_fields:
        yield f"{prefix}{name}"
        for inner in types_at(section, (name,)):
            if hasattr(inner, "model_fields"):
                yield from keys_of(inner, f"{prefix}{name}.")


KEYS = [
    *keys_of(SweepConfig),
    "heldout.areas.home",
    "heldout.areas.home.path",
    "heldout.areas.new.weight",
    "space.lora_r",
]
PARTS = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ": ",
    "#",
    " #",
    "&a",
    "*a",
    "<<",
    "!!int ",
    "!",
    "|",
    ">",
    "?",
    "- ",
    "'",
    '"',
    "\\",
    "${",
]
PARTS += [
    "$",
    "~",
    "%",
    "\n",
    "\t",
    "\0",
    "\x85",
    "ü",
    "\ud800",
    "1",
    "0",
    ".5",
    "e",
    "-",
    ".nan",
    ".inf",
    "no",
    "null",
    "low",
]
TEXTS = st.one_of(st.text(), st.lists(st.sampled_from(PARTS), max_size=8).map("".join), st.floats().map(str))
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.sampled_from(PARTS))
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*PARTS, "low", "high", "r"]), inner, max_size=3)
    ),
    max_leaves=6,
)
OVERRIDES = st.one_of(
    st.builds("{}={}".format, st.sampled_from(KEYS), st.one_of(TEXTS, VALUES.map(str))),
    st.builds("{}{}={}".format, st.sampled_from(KEYS), st.sampled_from([".x", ".0", "[0]", "[", "..", " "]), TEXTS),
    TEXTS,
)


def place(value, key, tree):
    """Puts a value at a dotted key, whatever stands in the way."""
    *above, last = key.split(".")
    for part in above:
        tree = (
            tree.setdefault(part, {}) if isinstance(tree.get(part, {}), dict) else tree.update({part: {}}) or tree[part]
        )
    tree[last] = value


def check(path, overrides):
    try:
        assert isinstance(load_config(path, overrides), SweepConfig)
    except UserError as error:
        lines = [error]
    except UserErrors as errors:
        lines = errors.errors
    else:
        return
    for line in lines:
        assert line.where
        assert line.remedy
        assert "\n" not in str(line)


def check_override(path, override):
    path.write_text(yaml.safe_dump(SMALL))
    check(path, [override])


def check_value(path, key, value):
    tree = yaml.safe_load(yaml.safe_dump(SMALL))
    place(value, key, tree)
    path.write_text(yaml.safe_dump(tree), encoding="utf-8", errors="replace")
    check(path, [])


def check_text(path, text):
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    check(path, [])


def check_command(path, argument):
    """The command's exit code is 0 or 2, and every line of an error begins so."""
    path.write_text(yaml.safe_dump(SMALL))
    shown = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(shown):
        # The step of the plan that reads the config.
        patch.setattr(run, "start_sweep", lambda options, _: load_config(options.config, options.overrides) and 0)
        try:
            code = run.main([str(path), argument, "--plan"])
        except SystemExit as end:  # argparse's own
            code = end.code
            shown = io.StringIO("error: of argparse\n" if code else "")
    assert code in (0, 2)
    assert bool(shown.getvalue()) is (code == 2)
    assert all(line.startswith("error: ") for line in shown.getvalue().split("\n")[:-1])


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("any") / "any.yaml"


def any_input(examples):
    """The tests, with so many examples in all."""

    @settings(max_examples=examples // 2, deadline=None)
    @example("training.checkpoints_at.0=0.25")
    @example("space=[1]")
    @example("heldout.areas=[a]")
    @given(OVERRIDES)
    def override(path, given_override):
        check_override(path, given_override)

    @settings(max_examples=examples // 4, deadline=None)
    @given(st.sampled_from(KEYS), VALUES)
    def value(path, key, given_value):
        check_value(path, key, given_value)

    @settings(max_examples=examples // 4, deadline=None)
    @given(TEXTS)
    def text(path, given_text):
        check_text(path, given_text)

    @settings(max_examples=examples // 10, deadline=None)
    @given(st.one_of(OVERRIDES, TEXTS))
    def command(path, argument):
        check_command(path, argument)

    return override, value, text, command


@pytest.mark.parametrize("test", any_input(FAST), ids=lambda test: test.__name__)
def test_no_input_gives_a_traceback(path, test):
    test(path)


@pytest.mark.slow
@pytest.mark.parametrize("test", any_input(SLOW), ids=lambda test: test.__name__)
def test_no_input_of_two_thousand_gives_a_traceback(path, test):
    test(path)
