"""The page in a real browser: silent, complete without scripts, readable at every width."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

STRICT = "sandbox; default-src 'none'; img-src 'self'; style-src 'self'"
CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
ARGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no chromium found: install it (apt-get install chromium) to test the page")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield running
        running.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, page_text: str) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page_text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def strict_address(file: Path) -> Iterator[str]:
    """The page on the loopback interface, under the policy of a CI server's artifacts."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = file.read_bytes()
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
    yield f"http://127.0.0.1:{server.server_port}/report.html"
    server.shutdown()
    server.server_close()
    thread.join()


class Tab:
    """A page that remembers what it asked for and what it complained about."""

    def __init__(self, browser: Any, address: str, **context: Any) -> None:
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.messages: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.goto(address, wait_until="load")

    def __enter__(self) -> Tab:
        return self

    def __exit__(self, *args: object) -> None:
        self.context.close()


def test_silent_with_scripts(browser: Any, file: Path):
    with Tab(browser, file.as_uri()) as tab:
        assert tab.messages == []
        assert tab.requests == [file.as_uri()]
        assert tab.page.evaluate("JSON.parse(document.getElementById('record').text).schema") == 1


@pytest.mark.parametrize("width", [390, 1280])
def test_fits_the_window(browser: Any, file: Path, width: int):
    size = {"width": width, "height": 844}
    with Tab(browser, file.as_uri(), viewport=size) as tab:
        assert tab.page.evaluate("document.documentElement.scrollWidth") == width
        shown = tab.page.evaluate(
            "[...document.querySelectorAll('svg.chart')].filter(s => s.checkVisibility())"
            ".map(s => [s.getBoundingClientRect().width, s.viewBox.baseVal.width])"
        )
        assert len(shown) == 6
        # drawn at their own size: the text in them is as large as it was meant
        assert all(drawn / own > 0.93 for drawn, own in shown)


def test_no_labels_overlap(browser: Any, file: Path):
    """No two texts of a chart cover each other, and none leaves its picture."""
    script = """() => {
      const bad = [];
      for (const svg of document.querySelectorAll('svg.chart')) {
        if (!svg.checkVisibility()) continue;
        const frame = svg.getBoundingClientRect();
        const boxes = [...svg.querySelectorAll('text')]
          .map(t => [t.textContent, t.getBoundingClientRect()])
          .filter(([text, b]) => text && b.width > 0);
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
        with Tab(browser, file.as_uri(), viewport={"width": width, "height": 844}) as tab:
            assert tab.page.evaluate(script) == []


def test_reads_without_scripts_and_styles(browser: Any, strict_address: str):
    with Tab(browser, strict_address) as tab:
        assert tab.requests == [strict_address]
        body = tab.page.locator("body")
        text = body.inner_text()
        for words in (
            "Pass: Fits the 2023 limit from ratio 0.65 on",
            "SYNTHETIC data",
            "Prune ratio against accuracy",
            "after fine-tuning",
            "knee 0.65",
            "limit 128,000 B",
            "s4 (unseen)",
            "MemoryError",
            "compressor sweep --prune 0.5:0.8",
        ):
            assert words in text.replace("\u00a0", " "), words
        shown = tab.page.locator("svg.chart:visible")
        assert shown.count() == 6  # the phone's pictures stay hidden
        assert all(box["width"] > 300 for box in (s.bounding_box() for s in shown.all()))


def test_dark_mode_has_dark_paper_and_light_ink(browser: Any, file: Path, strict_address: str):
    script = """() => {
      const mean = numbers => numbers.reduce((a, b) => a + b) / numbers.length;
      const light = color => mean(color.match(/[\\d.]+/g).slice(0, 3).map(Number));
      const text = document.querySelector('svg.chart text');
      return [light(getComputedStyle(document.body).color), light(getComputedStyle(text).fill)];
    }"""
    with Tab(browser, file.as_uri(), color_scheme="dark") as tab:
        body, ink = tab.page.evaluate(script)
        assert body > 200 and ink > 200
    with Tab(browser, file.as_uri(), color_scheme="light") as tab:
        body, ink = tab.page.evaluate(script)
        assert body < 60 and ink < 60


def test_prints_with_the_tables_open(browser: Any, file: Path):
    with Tab(browser, file.as_uri(), viewport={"width": 688, "height": 1000}) as tab:
        hidden = tab.page.locator("#table-curve")
        assert not hidden.is_visible()
        tab.page.emulate_media(media="print")
        assert (
            tab.page.locator("#table-curve").evaluate("t => t.getBoundingClientRect().height") > 50
        )
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= 688
        assert tab.page.pdf(format="A4")[:4] == b"%PDF"
