"""The report in a real browser: drawn, quiet, within its bounds, and usable without a mouse.

Skipped where there is no Chromium (set CHROMIUM to one, or put one on the PATH). Screenshots are left in
`.cache/test-output/report/` to be looked at.
"""

import time
from pathlib import Path

import pytest

from analysis.report import write_report
from tests.browser import find_chromium, serious
from tests.unit.analysis.synthetic_sweep import write_synthetic_sweep

sync_api = pytest.importorskip("playwright.sync_api")

SHOTS = Path(__file__).resolve().parents[3] / ".cache" / "test-output" / "report"
SECTIONS = 13
MOST_BYTES = 6_000_000  # of the largest but one: 40 trials
MOST_BYTES_400 = 15_000_000
PAPER_PIXELS = 718  # of A4 with the browser's own margins, at 96 dots an inch

CONTRASTS = """() => {
  const parts = (c) => c.match(/[\\d.]+/g).map(Number);
  const lum = (c) => parts(c).slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (parts(c).length === 3 || parts(c)[3] > 0) return c; } return "rgb(255, 255, 255)"; };
  const named = "h1, h2, h3, p, li, a, th, td, summary, dt, dd, figcaption, button, label, pre span, mark, .chart text";
  const texts = document.querySelectorAll(named);
  return Array.from(texts).filter((e) => e.textContent.trim()).map((e) => {
    const style = getComputedStyle(e), ink = e.closest("svg") ? style.fill : style.color;
    const [a, b] = [lum(ink), lum(ground(e))].sort((x, y) => y - x);
    return [(a + 0.05) / (b + 0.05), e.tagName + " " + e.textContent.slice(0, 40)];
  });
}"""

OVERFLOWING = """() => Array.from(document.querySelectorAll("main *, header *, footer *"))
  .filter((e) => !e.closest(".wide") && !e.closest(".chart svg") && !e.classList.contains("skip"))
  .filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
  .map((e) => e.tagName + "." + e.className + " " + e.textContent.slice(0, 40))"""


CUT_OFF = """() => Array.from(document.querySelectorAll(".chart"))
  .filter((e) => e.querySelector(".main-svg").getBoundingClientRect().width > e.getBoundingClientRect().width + 1)
  .map((e) => e.id)"""


# Tables that scroll sideways, and whether they say so.
WIDER_TABLES = """() => Array.from(document.querySelectorAll(".wide"))
  .filter((e) => e.scrollWidth > e.clientWidth + 1)
  .map((e) => ({ name: e.ariaLabel, says: getComputedStyle(e, "::before").content.includes("scroll") }))"""


@pytest.fixture(scope="module")
def browser():
    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium on this machine")
    with sync_api.sync_playwright() as driver:
        # without a sandbox: in containers it can't be had as root, and the page is our own
        chromium = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(
    scope="module", params=[4, pytest.param(40, marks=pytest.mark.slow), pytest.param(400, marks=pytest.mark.slow)]
)
def report(request, tmp_path_factory):
    # 400 trials with curves as long as the page draws them
    batch_size = 1 if request.param == 400 else 8
    folder = write_synthetic_sweep(tmp_path_factory.mktemp("browser"), request.param, batch_size=batch_size)
    return write_report(folder)


class Visit:
    """A page that was opened, and everything that went wrong on it."""

    def __init__(self, browser, report, width, scheme):
        self.complaints = []
        self.page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page.on("console", lambda said: self.complaints.append(f"{said.type}: {said.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))
        self.page.on("request", self.asked)
        started = time.perf_counter()
        self.page.goto(report.as_uri())
        self.page.locator("#main").focus()
        self.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        self.seconds = time.perf_counter() - started

    def asked(self, request):
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.complaints.append(f"request: {request.url}")

    def draw_all(self):
        charts = self.page.locator(".chart")
        for number in range(charts.count()):
            charts.nth(number).scroll_into_view_if_needed()
            charts.nth(number).locator(".main-svg").first.wait_for()
        return charts.count()


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        *((400, "dark"), (1280, "light")),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((400, "light"), (1280, "dark"))),
        *(pytest.param(1920, scheme, marks=pytest.mark.slow) for scheme in ("light", "dark")),
    ],
)
def test_the_page_is_whole_quiet_and_within_its_bounds(browser, report, width, scheme):
    visit = Visit(browser, report, width, scheme)
    charts = visit.draw_all()
    assert visit.page.locator("main > section").count() == SECTIONS
    assert charts == visit.page.locator(".chart .main-svg:first-child").count() >= 9
    for summary in visit.page.locator("summary").all():
        if not summary.evaluate("(one) => one.parentElement.open"):
            summary.click()
    assert visit.page.evaluate(OVERFLOWING) == []
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    low = [pair for pair in visit.page.evaluate(CONTRASTS) if pair[0] < 4.5]
    assert not low, low[:10]
    wider = visit.page.evaluate(WIDER_TABLES)
    assert wider or width > 400
    assert [one for one in wider if not one["says"]] == []
    assert serious(visit.page) == []
    assert visit.complaints == []
    assert report.stat().st_size <= (
        MOST_BYTES_400 if len(list((report.parent / "trials").iterdir())) > 300 else MOST_BYTES
    )
    shot(visit.page, f"{report.parent.parent.name}-{charts}-{width}-{scheme}.png")
    print(f"interactive after {visit.seconds:.2f} s, {report.stat().st_size / 1e6:.1f} MB")
    visit.page.close()


@pytest.mark.parametrize("report", [4], indirect=True)
def test_the_keyboard_reaches_the_report_and_what_is_folded(browser, report):
    page = Visit(browser, report, 900, "light").page
    page.reload()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the report"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Copy export command"
    page.locator("summary").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("summary").first.evaluate("(one) => one.parentElement.open")
    page.close()


@pytest.mark.parametrize("report", [4], indirect=True)
def test_headings_landmarks_and_charts_are_read_out(browser, report):
    page = Visit(browser, report, 900, "light").page
    heard = page.locator("body").aria_snapshot()
    assert "- main" in heard
    assert '- navigation "Sections"' in heard
    assert '- region "Leaderboard"' in heard
    assert 'img "Curves of 4 trials:' in heard
    assert '- rowheader "1"' in heard
    page.close()


@pytest.mark.parametrize("report", [4], indirect=True)
def test_on_paper_every_chart_is_drawn_in_light_colours(browser, report):
    visit = Visit(browser, report, PAPER_PIXELS, "dark")
    assert visit.page.locator(".chart[data-drawn]").count() < visit.page.locator(".chart").count()
    SHOTS.mkdir(parents=True, exist_ok=True)
    pdf = visit.page.pdf(path=str(SHOTS / "paper.pdf"))
    assert pdf.startswith(b"%PDF")
    assert visit.page.locator(".chart[data-drawn]").count() == visit.page.locator(".chart").count()
    visit.page.emulate_media(media="print")
    visit.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert visit.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert visit.page.evaluate(CUT_OFF) == []
    assert visit.complaints == []
    visit.page.close()


@pytest.mark.parametrize("report", [4], indirect=True)
def test_the_leaderboard_is_sorted_and_the_examples_are_filtered(browser, report):
    visit = Visit(browser, report, 1280, "light")
    table = visit.page.locator("#leaderboard table").first
    losses = "(table) => Array.from(table.tBodies[0].rows).map((row) => parseFloat(row.cells[LOSS].textContent))"
    header = table.locator("thead th").all_inner_texts()
    place = str(header.index("held-out loss"))
    for order, ascending in (("ascending", True), ("descending", False)):
        table.locator("thead th button", has_text="held-out loss").click()
        assert table.locator(f'th[aria-sort="{order}"]').count() == 1
        found = table.evaluate(losses.replace("LOSS", place))
        known = [value for value in found if value is not None and value == value]
        assert known == sorted(known, reverse=not ascending)
    items = visit.page.locator("#items .examples")
    every = items.locator("tbody tr").count()
    items.locator('[data-filter="area"]').select_option(index=1)
    assert 0 < items.locator("tbody tr:visible").count() < every
    items.locator('[data-filter="text"]').fill("no such text anywhere")
    assert items.locator("tbody tr:visible").count() == 0
    assert items.locator("[data-shown]").inner_text() == f"0 of {every} shown"
    assert visit.complaints == []
    visit.page.close()


def shot(page, name):
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=str(SHOTS / name), full_page=True)
