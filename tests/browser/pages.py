"""Pages of the screen in a real browser, and everything that goes wrong in them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import BrowserContext, ConsoleMessage, Dialog, Page

from tests.earshot_process import EarshotProcess

Theme = Literal["light", "dark"]
SCREENSHOTS = Path(__file__).with_name("screenshots")
"""Git ignores it."""
DESKTOP = (1280, 800)
PHONE = (360, 740)
SERIOUS = ("serious", "critical")
NOBODY_YET = re.compile(r"status of 401 .*/v1/session$")
"""What a browser logs when the screen asks whether somebody is signed in and nobody is."""
TELL_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) => {
  const { effectiveDirective, blockedURI, sourceFile, lineNumber } = event;
  console.error(`CSP violation: ${effectiveDirective} ${blockedURI} ${sourceFile}:${lineNumber}`);
});
"""


@dataclass
class Faults:
    """What went wrong in a page: uncaught errors, errors on the console (missing words among them), breaches of the
    content policy, and dialogs that only a foreign script would open."""

    expected: list[re.Pattern[str]] = field(default_factory=lambda: [NOBODY_YET])
    """What a test does not mind, such as requests that fail while the network is cut."""
    found: list[str] = field(default_factory=list)

    def listen(self, page: Page) -> None:
        page.on("pageerror", lambda fault: self._note(f"uncaught: {fault}"))
        page.on("console", self._console)
        page.on("dialog", self._dialog)

    def expect(self, pattern: str) -> None:
        """From now on do not mind what matches."""
        self.expected.append(re.compile(pattern))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._note(f"console: {message.text} {message.location.get('url', '')}")

    async def _dialog(self, dialog: Dialog) -> None:
        self._note(f"dialog: {dialog.message}")
        await dialog.dismiss()

    def _note(self, text: str) -> None:
        if not any(pattern.search(text) for pattern in self.expected):
            self.found.append(text)


class NewPage(Protocol):
    """Opens a page of the screen, in a browser profile of its own unless `context` is given.

    `bypass_csp`: the page may connect elsewhere, such as to a network that the test cuts.
    """

    async def __call__(
        self,
        path: str = "/screen/",
        *,
        theme: Theme = "light",
        language: str = "en",
        app: tuple[str, str] | None = ("demo", "secret"),
        size: tuple[int, int] = DESKTOP,
        bypass_csp: bool = False,
        context: BrowserContext | None = None,
    ) -> Page: ...


async def sign_in(context: BrowserContext, server: EarshotProcess, app_id: str, secret: str) -> None:
    """Give the profile the session that the sign-in form would."""
    answer = await context.request.post(
        f"{server.http}/v1/session",
        data={"app_id": app_id, "secret": secret},
        headers={"X-Earshot-Screen": "1", "Origin": server.http},
    )
    assert answer.ok, f"{answer.status}: {await answer.text()}"


async def settled(page: Page) -> None:
    """The page has shown a view, or why it has none."""
    await page.locator("main:not([aria-busy]) h1").first.wait_for()


async def choose_theme(page: Page, theme: Theme) -> None:
    await page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    await page.locator(f"html[data-theme={theme}]").wait_for()


async def serious_issues(page: Page) -> list[str]:
    """What axe finds that keeps people from using the page."""
    results = await Axe().run(page)
    return [
        f"{issue['id']} ({issue['impact']}): {node['html'][:160]} {node.get('failureSummary', '')[:300]}"
        for issue in results.response["violations"]
        if issue["impact"] in SERIOUS
        for node in issue["nodes"]
    ]


async def take_both(page: Page, name: str) -> None:
    """Screenshots in light and dark, as `{name}-light.png` and `{name}-dark.png`, and no serious issue in either."""
    SCREENSHOTS.mkdir(exist_ok=True)
    themes: tuple[Theme, ...] = ("light", "dark")
    for theme in themes:
        await choose_theme(page, theme)
        await page.screenshot(path=SCREENSHOTS / f"{name}-{theme}.png")
        assert await serious_issues(page) == []
