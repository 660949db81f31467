"""Every kind of page in a real browser: silent, complete without scripts, readable everywhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from make_sweep import make_sweep

from reports.sweep_page import render

KINDS = ("sweep", "audit", "gate", "models", "runs", "reproduce")
STRICT = "sandbox; default-src 'none'; img-src 'self'; style-src 'self'"
LIVE = "document.documentElement.dataset.charts === 'live'"
SEEN = "[...document.querySelectorAll('svg.chart')].filter(s => s.checkVisibility())"


class Tab:
    """A page that remembers what it asked for and what it complained about."""

    def __init__(self, browser: Any, address: str, *, live: bool = True, **context: Any) -> None:
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.messages: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("dialog", lambda dialog: self.messages.append(dialog.message))
        self.page.goto(address, wait_until="load")
        if live:
            self.page.wait_for_function(LIVE, timeout=60_000)

    def __enter__(self) -> Tab:
        return self

    def __exit__(self, *args: object) -> None:
        self.context.close()


@pytest.fixture(scope="module")
def strict_address(pages: dict[str, Path]) -> Iterator[str]:
    """The pages on the loopback interface, under the policy of a CI server's artifacts."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = pages[Path(self.path).stem].read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Security-Policy", STRICT)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("kind", KINDS)
def test_silent_and_alive(browser: Any, pages: dict[str, Path], kind: str):
    """Nothing is asked for, nothing is said, and every chart in sight answers to the pointer."""
    with Tab(browser, pages[kind].as_uri()) as tab:
        assert tab.messages == []
        assert tab.requests == [pages[kind].as_uri()]
        assert tab.page.evaluate(f"{SEEN}.every(s => s.classList.contains('live'))")
        assert tab.page.evaluate(f"{SEEN}.length") > 0
        assert tab.page.evaluate("document.querySelectorAll('[data-still]').length") == 0
        assert tab.page.evaluate("typeof JSON.parse(document.getElementById('record').text)")


WORDS = {
    "sweep": (
        *("Pass: Fits the 2023 limit from ratio 0.65 on", "SYNTHETIC data", "after fine-tuning"),
        *("knee 0.65", "limit 128,000 B", "s4 (unseen)", "MemoryError", "Margin"),
        "compressor sweep --prune 0.5:0.8",
    ),
    "audit": ("Pass: Passes 2023; tightest is MACs of 2023, 0 to spare", "78 %", "ab" * 32),
    "gate": ("FAIL: 15,000,000 MACs over (", "1 error", "remove 15,000,000 MACs", "150 %"),
    "models": ("2 models side by side", "+80.0", "big.pt"),
    "runs": ("2 sweeps side by side", "Best pruned network within its limit: ", "slimming", "l1"),
    "reproduce": ("Beside the paper: ", "no-mixup", "published", "theirs"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_reads_without_scripts_and_styles(browser: Any, strict_address: str, kind: str):
    with Tab(browser, f"{strict_address}/{kind}.html", live=False) as tab:
        assert tab.requests == [f"{strict_address}/{kind}.html"]
        text = tab.page.locator("body").inner_text().replace("\u00a0", " ")
        for words in WORDS[kind]:
            assert words in text, words
        shown = tab.page.locator("svg.chart:visible")
        assert shown.count() == tab.page.locator("figure").count() > 0  # the phone's stay hidden
        assert all(box["width"] > 300 for box in (s.bounding_box() for s in shown.all()))
        order = tab.page.locator("h1, h2").all_inner_texts()
        assert len(order) > 2 and order.index(order[1]) == 1  # the verdict follows the title
        assert tab.page.locator("button:visible").count() == 0  # nothing that would do nothing


def test_reads_with_scripts_off(browser: Any, pages: dict[str, Path]):
    with Tab(browser, pages["sweep"].as_uri(), live=False, java_script_enabled=False) as tab:
        assert tab.messages == []
        assert "s4 (unseen)" in tab.page.locator("body").inner_text()
        assert tab.page.locator("svg.chart:visible").count() == 9


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_accessible(browser: Any, pages: dict[str, Path], kind: str, scheme: str):
    """WCAG 2 A and AA by axe-core, folds opened."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    with Tab(browser, pages[kind].as_uri(), color_scheme=scheme) as tab:
        tab.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        tags = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}
        found = axe.Axe().run(tab.page, options={"runOnly": tags, "resultTypes": ["violations"]})
        assert found.response["violations"] == []
        assert found.response["testEngine"]["name"] == "axe-core"
        unnamed = tab.page.evaluate(
            f"{SEEN}.filter(s => s.getAttribute('role') !== 'img' || !s.getAttribute('aria-label'))"
            ".length"
        )
        assert unnamed == 0


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("kind", KINDS)
def test_fits_the_window(browser: Any, pages: dict[str, Path], kind: str, width: int):
    size = {"width": width, "height": 844}
    with Tab(browser, pages[kind].as_uri(), viewport=size) as tab:
        assert tab.page.evaluate("document.documentElement.scrollWidth") == width
        shown = tab.page.evaluate(
            f"{SEEN}.map(s => [s.getBoundingClientRect().width, s.viewBox.baseVal.width])"
        )
        assert len(shown) == tab.page.locator("figure").count()
        # drawn near their own size: letters of 12 px are never below 10
        assert all(drawn / own > 0.86 for drawn, own in shown)


@pytest.mark.parametrize("kind", ["sweep", "audit", "runs", "reproduce"])
def test_no_labels_overlap(browser: Any, pages: dict[str, Path], kind: str):
    """No two texts of a chart cover each other, and none leaves its picture."""
    script = """() => {
      const bad = [];
      for (const svg of document.querySelectorAll('svg.chart')) {
        if (!svg.checkVisibility()) continue;
        const frame = svg.getBoundingClientRect();
        const boxes = [...svg.querySelectorAll('text')]
          .map(t => [t.textContent, t.getBoundingClientRect(), t.getAttribute('transform')])
          .filter(([text, b, turn]) => text && b.width > 0 && !/rotate\\((-45|315)/.test(turn));
        boxes.forEach(([text, b], i) => {
          if (b.left < frame.left - 1 || b.right > frame.right + 1) bad.push(text + ' leaves');
          for (const [other, o] of boxes.slice(i + 1)) {
            const x = Math.min(b.right, o.right) - Math.max(b.left, o.left);
            const y = Math.min(b.bottom, o.bottom) - Math.max(b.top, o.top);
            if (x > 1 && y > 4) bad.push(text + ' over ' + other);
          }
        });
      }
      return bad;
    }"""
    for width in (390, 1280):
        size = {"width": width, "height": 844}
        with Tab(browser, pages[kind].as_uri(), viewport=size) as tab:
            assert tab.page.evaluate(script) == []


@pytest.mark.parametrize("live", [False, True])
def test_dark_mode_has_dark_paper_and_light_ink(browser: Any, pages: dict[str, Path], live: bool):
    script = """() => {
      const mean = numbers => numbers.reduce((a, b) => a + b) / numbers.length;
      const light = color => mean(color.match(/[\\d.]+/g).slice(0, 3).map(Number));
      const text = document.querySelector('svg.chart text');
      return [light(getComputedStyle(document.body).color), light(getComputedStyle(text).fill)];
    }"""
    address = pages["sweep"].as_uri()
    with Tab(browser, address, live=live, color_scheme="dark") as tab:
        body, ink = tab.page.evaluate(script)
        assert body > 200 and ink > 200
    with Tab(browser, address, live=live, color_scheme="light") as tab:
        body, ink = tab.page.evaluate(script)
        assert body < 60 and ink < 60


def test_prints_with_the_tables_open(browser: Any, pages: dict[str, Path]):
    size = {"width": 688, "height": 1000}
    with Tab(browser, pages["sweep"].as_uri(), viewport=size) as tab:
        hidden = tab.page.locator("#table-curve")
        assert not hidden.is_visible()
        tab.page.emulate_media(media="print")
        height = "t => t.getBoundingClientRect().height"
        assert tab.page.locator("#table-curve").evaluate(height) > 50
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= 688
        assert tab.page.locator(".bar:visible").count() == 0
        assert tab.page.pdf(format="A4")[:4] == b"%PDF"


@pytest.fixture(scope="module")
def large() -> dict[str, Any]:
    """500 runs: four methods at eight ratios over folds and seeds; accuracies of 400 clips."""
    record = make_sweep(
        ratios=(0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8),
        folds=(1, 2, 3, 4, 5),
        seeds=(0, 1, 2),
        methods=("slimming", "l1", "l2", "random"),
    )
    for point in record["points"]:
        for key in ("before_finetune", "after_finetune"):
            if point[key]:
                point[key]["accuracy"] = round(400 * point[key]["accuracy"]) / 400
    more = make_sweep(folds=(6,), seeds=(0,), ratios=(0.5, 0.6, 0.7, 0.8))["points"]
    record["points"] += more
    assert len(record["points"]) == 500
    return record


def test_small_and_quick(browser: Any, large: dict[str, Any], tmp_path: Path):
    """Sizes in bytes; the second in CPU time of the page's thread, so that load does not count."""
    static, page = tmp_path / "static.html", tmp_path / "page.html"
    static.write_text(render(large, static=True), encoding="utf-8")
    page.write_text(render(large), encoding="utf-8")
    assert static.stat().st_size <= 400_000
    assert page.stat().st_size <= 1_500_000
    context = browser.new_context()
    try:
        tab = context.new_page()
        counter = context.new_cdp_session(tab)
        counter.send("Performance.enable", {"timeDomain": "threadTicks"})
        tab.goto(page.as_uri(), wait_until="load")
        tab.wait_for_function(LIVE, timeout=60_000, polling=250)
        metrics = counter.send("Performance.getMetrics")["metrics"]
        seconds = next(one["value"] for one in metrics if one["name"] == "TaskDuration")
        assert 0.01 < seconds <= 1.0
        assert tab.evaluate("document.querySelectorAll('#table-runs tbody tr').length") == 500
    finally:
        context.close()
