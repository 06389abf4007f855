"""Views in a real JupyterLab, run headless: a learner opens a notebook, runs it, and operates what it shows."""

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import nbformat
import pytest
from playwright.sync_api import expect

from tests.browsing import ROOT
from tests.test_live_views import assert_ablated
from tests.test_views_in_browser import assert_steps_equal
from tests.view_catalogue import example

pytestmark = pytest.mark.slow

START = 60  # seconds for a server or a kernel on a busy machine
SETUP = """
from llmcourse.display import Html
from llmcourse.visualize import widgets
from tests.view_catalogue import ablate_view, steps_view
"""
EXPLORE = """
def square(n):
    return Html(f"<p class='square'>{n * n}</p>", str(n * n))

widgets.explore(square, n=[1, 2, 3])
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab that serves a notebook of four cells, with the key that opens it."""
    home, port, token = tmp_path_factory.mktemp("lab"), free_port(), secrets.token_hex(16)
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in (SETUP, "steps_view()", "ablate_view()", EXPLORE)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), home / "views.ipynb")
    folders = {name: str(home / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")}
    environment = os.environ | folders | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
    options = {"root_dir": home, "token": token, "port_retries": 0, "open_browser": False}
    command += [f"--ServerApp.{name}={value}" for name, value in options.items()]
    # The page of news asks a server on the network; the extension manager would ask the registry.
    command += ["--LabApp.news_url=None", "--LabApp.extension_manager=readonly", "--LabApp.expose_app_in_browser=True"]
    with (home / "log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        wait_for(f"http://127.0.0.1:{port}/api/status?token={token}", server, home / "log")
        yield f"http://127.0.0.1:{port}", token
    finally:
        server.terminate()
        server.wait(timeout=START)


def wait_for(address: str, server: subprocess.Popen, log) -> None:
    began = time.monotonic()
    while time.monotonic() - began < START:
        assert server.poll() is None, log.read_text("utf-8")
        try:
            with urllib.request.urlopen(address) as answer:
                return json.load(answer)
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    raise TimeoutError(log.read_text("utf-8"))


@pytest.fixture(scope="module")
def notebook(browser, lab):
    """The notebook, opened and run, and what the page asked of others or complained about."""
    home, token = lab
    context, faults = browser.new_context(viewport={"width": 1280, "height": 1600}), []
    tab = context.new_page()
    tab.set_default_timeout(START * 1000)
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.on("dialog", lambda dialog: (faults.append(f"dialog {dialog.message}"), dialog.dismiss()))
    tab.on(
        "request",
        lambda request: None if request.url.startswith((home, "data:", "blob:")) else faults.append(request.url),
    )
    tab.goto(f"{home}/lab/tree/views.ipynb?token={token}&reset")
    tab.locator(".jp-Notebook .jp-CodeCell").nth(3).wait_for()
    tab.evaluate("jupyterapp.shell.currentWidget.sessionContext.ready")
    tab.get_by_role("button", name="| Idle").wait_for()
    tab.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")
    cells = tab.locator(".jp-Notebook .jp-CodeCell")
    expect(cells.locator(".jp-InputPrompt", has_text=re.compile(r"\[\d+\]"))).to_have_count(4, timeout=START * 1000)
    yield cells, faults
    context.close()


def test_a_view_computes_what_torch_does_after_a_change(notebook):
    view = notebook[0].nth(1)
    query, key, value = example(0)
    assert_steps_equal(view, query, key, value)
    view.get_by_label("query of sat, number 1").fill("1.5")
    query[2, 1] = 1.5
    assert_steps_equal(view, query, key, value)


def test_a_model_runs_in_the_output_of_a_cell(notebook):
    view = notebook[0].nth(2)
    assert_ablated(view, {}, 6)
    view.get_by_role("button", name="Switch off layer 0, head 1").click()
    assert_ablated(view, {0: [1]}, 6)


def test_with_a_kernel_the_choice_is_a_widget_that_computes(notebook):
    cell = notebook[0].nth(3)
    expect(cell.locator(".square")).to_have_text("1")
    assert cell.locator(".llmcourse-view").count() == 0  # not the stored pages
    cell.locator(".noUi-handle").focus()
    cell.page.keyboard.press("ArrowRight")
    expect(cell.locator(".square")).to_have_text("4")


def test_the_page_asked_nobody_and_has_no_error(notebook):
    cells, faults = notebook
    assert cells.page.get_by_text("Traceback").count() == 0
    assert faults == []
