"""Fixtures of the browser tests: one real server and one real browser for each module, pages for each test.

A module may override `server_environment` and `chromium_arguments`. A page's faults fail its test; what a test does not
mind it says by `faults.expect(...)`.
"""

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from tests.browser.pages import DESKTOP, TELL_VIOLATIONS, Faults, NewPage, Theme, settled, sign_in
from tests.client import Account, account
from tests.earshot_process import HUMMED, EarshotProcess

HERE = Path(__file__).parent
PATIENCE_MS = 30_000
"""For one step of a page, on a machine under load."""
expect.set_options(timeout=PATIENCE_MS)
AS_ROOT = ["--no-sandbox"]
"""Chromium refuses its sandbox to root, which is who runs in a container."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("browser")
            item.add_marker(pytest.mark.asyncio(loop_scope="module"), append=False)


@pytest.fixture(scope="module")
def server_environment() -> dict[str, str]:
    """`EARSHOT_*` variables of the module's server."""
    return {}


@pytest.fixture(scope="module")
def chromium_arguments() -> list[str]:
    """What Chromium is started with, such as a file in the microphone's place."""
    return []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, server_environment: dict[str, str]) -> Iterator[EarshotProcess]:
    """A server as an operator runs it, around engines that need no models, with two apps."""
    environment = {"EARSHOT_APPS": "demo:secret,other:secret", "EARSHOT_QC_POLL_S": "0.1", **server_environment}
    with EarshotProcess(tmp_path_factory.mktemp("screen") / "data", environment, module=HUMMED) as one:
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(chromium_arguments: list[str]) -> AsyncIterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("there is no chromium on this machine")
    root = AS_ROOT if os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        one = await playwright.chromium.launch(executable_path=path, args=[*root, *chromium_arguments])
        yield one
        await one.close()


@pytest_asyncio.fixture(loop_scope="module")
async def client(server: EarshotProcess) -> AsyncIterator[Account]:
    """The app `demo` as a program uses it."""
    async with account(server.http, server.ws, "demo", "secret") as one:
        yield one


@pytest.fixture
def faults() -> Iterator[Faults]:
    """What went wrong in the test's pages, which fails it."""
    one = Faults()
    yield one
    assert one.found == []


@pytest_asyncio.fixture(loop_scope="module")
async def new_page(server: EarshotProcess, browser: Browser, faults: Faults) -> AsyncIterator[NewPage]:
    contexts: list[BrowserContext] = []

    async def open_page(
        path: str = "/screen/",
        *,
        theme: Theme = "light",
        language: str = "en",
        app: tuple[str, str] | None = ("demo", "secret"),
        size: tuple[int, int] = DESKTOP,
        bypass_csp: bool = False,
        context: BrowserContext | None = None,
    ) -> Page:
        if context is None:
            context = await browser.new_context(
                base_url=server.http,
                bypass_csp=bypass_csp,
                color_scheme=theme,
                reduced_motion="reduce",
                locale={"en": "en-GB", "zh": "zh-CN"}[language],
                viewport={"width": size[0], "height": size[1]},
            )
            contexts.append(context)
            context.set_default_timeout(PATIENCE_MS)
            await context.add_init_script(TELL_VIOLATIONS)
            if app is not None:
                await sign_in(context, server, *app)
        page = await context.new_page()
        faults.listen(page)
        await page.goto(path)
        await settled(page)
        return page

    yield open_page
    for context in contexts:
        await context.close()


@pytest_asyncio.fixture(loop_scope="module")
async def page(new_page: NewPage) -> Page:
    """The board, with the app `demo` signed in."""
    return await new_page()
