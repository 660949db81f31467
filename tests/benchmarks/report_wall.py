"""How long a page of 500 runs takes until all its charts are drawn, on the clock and of the CPU.

    python tests/benchmarks/report_wall.py [--runs 500] [--opens 7]

A program and no test: the clock counts whatever else the machine does. The test of the mark of 1 s
(`tests/reports/test_report_browser.py`) therefore takes the page's own CPU time. Printed are the
fastest and the median opening: from the start of the navigation, which holds reading and laying out
the file, to the last chart alive.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "reports")]

from make_sweep import make_sweep  # noqa: E402 - it lies beside the tests

from reports.sweep_page import render  # noqa: E402

MARK_S = 1.0
# The moment itself, seen from inside: asking from outside would add the time between two questions.
WATCH = """
new MutationObserver((_, watch) => {
  if (document.documentElement?.dataset.charts !== 'live') return;
  window.drawnAfter = performance.now();
  watch.disconnect();
}).observe(document, {attributes: true, subtree: true, attributeFilter: ['data-charts']});
"""


def page_of(runs: int) -> str:
    """The page of a sweep with at least that many runs, cut to them."""
    record = make_sweep(
        ratios=(0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8),
        folds=tuple(range(1, 2 + runs // 100)),
        seeds=(0, 1, 2),
        methods=("slimming", "l1", "l2", "random"),
    )
    if len(record["points"]) < runs:
        raise SystemExit(f"only {len(record['points'])} runs were made, {runs} wanted")
    record["points"] = record["points"][:runs]
    return render(record)


def opened(browser: Any, address: str) -> tuple[float, float]:
    """Seconds on the clock and of the page's CPU until all charts are drawn, in a fresh context."""
    context = browser.new_context()
    try:
        tab = context.new_page()
        counter = context.new_cdp_session(tab)
        counter.send("Performance.enable", {"timeDomain": "threadTicks"})
        tab.add_init_script(WATCH)
        tab.goto(address, wait_until="load")
        tab.wait_for_function("window.drawnAfter", timeout=120_000, polling=250)
        metrics = counter.send("Performance.getMetrics")["metrics"]
        cpu = next(one["value"] for one in metrics if one["name"] == "TaskDuration")
        return tab.evaluate("window.drawnAfter") / 1000, cpu
    finally:
        context.close()


def main() -> None:
    """Open the page several times and print the times."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--opens", type=int, default=7)
    options = parser.parse_args()
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as player:
        page = Path(folder) / "page.html"
        page.write_text(page_of(options.runs), encoding="utf-8")
        arguments = ["--no-sandbox", "--disable-gpu"]
        browser = player.chromium.launch(executable_path=program, args=arguments)
        opened(browser, page.as_uri())  # the browser's own first steps
        load = os.getloadavg()[0]
        times = [opened(browser, page.as_uri()) for _ in range(options.opens)]
        size = page.stat().st_size
        browser.close()
    clock, cpu = zip(*times, strict=True)
    print(f"{options.runs} runs, {size:,} B, opened {options.opens} times; load {load:.1f}")
    for name, values in (("clock", clock), ("CPU of the page", cpu)):
        least, middle = min(values), statistics.median(values)
        print(f"  {name:16s} fastest {least:.2f} s, median {middle:.2f} s (mark: {MARK_S:g} s)")


if __name__ == "__main__":
    main()
