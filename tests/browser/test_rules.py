"""The rules page: a category is made, checked while it is typed, tried, saved, moved under one's hands, deleted."""

import json
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser.pages import PHONE, Faults, NewPage, take_both
from tests.client import Account

CHECKED = r"status of 400 .*/v1/rules/"
"""What a browser logs when the server has something against a rule."""


async def put(client: Account, category: str, *contents: Any) -> None:
    status, answer = await client.send("PUT", f"/v1/rules/{category}", {"contents": list(contents)})
    assert status == 200, answer


async def contents_of(client: Account, category: str) -> Any:
    _, answer = await client.get("/v1/rules")
    found = [one["contents"] for one in json.loads(answer)["categories"] if one["category"] == category]
    return found[0] if found else None


async def test_a_category_is_written_checked_tried_and_saved(
    new_page: NewPage, client: Account, faults: Faults
) -> None:
    faults.expect(CHECKED)
    page = await new_page("/screen/rules")
    await page.get_by_role("button", name="New category").click()
    await page.get_by_label("Name").fill("money back / 退款")
    rule = page.get_by_label("Expression of rule 1")
    await rule.fill("😀refund&&(money|back)")
    await expect(page.locator(".expression-wrong")).to_have_text("|")
    await expect(rule).to_have_attribute("aria-invalid", "true")
    await expect(rule).to_have_accessible_description('At character 16, “|”: Expected "||" (one alone means nothing).')
    await page.get_by_role("button", name="At character 16").click()
    assert await rule.evaluate("(field) => field.value.slice(field.selectionStart, field.selectionEnd)") == "|"
    await rule.fill("refund&&!solved")
    await expect(rule).not_to_have_attribute("aria-invalid", "true")
    await expect(page.locator(".expression-wrong")).to_have_count(0)

    await page.get_by_label("Sentences, one a line").fill("I want a refund.\nA refund: solved!")
    await page.get_by_role("button", name="Try", exact=True).click()
    await expect(page.get_by_text("Fires for 1 of 2 sentences.")).to_be_visible()
    await expect(page.locator("mark")).to_have_text(["refund"])

    await page.get_by_role("button", name="Save").click()
    await expect(page.locator(".saved")).to_contain_text("saved as version")
    assert await contents_of(client, "money back / 退款") == ["refund&&!solved"]
    await page.reload()
    await expect(page.get_by_label("Expression of rule 1")).to_have_value("refund&&!solved")


async def test_options_make_an_object_of_a_rule_and_their_absence_a_plain_string(
    new_page: NewPage, client: Account
) -> None:
    await put(client, "options", "cancel&&contract", {"expression": "lawyer", "shadow": True})
    page = await new_page("/screen/rules?category=options")
    first = page.locator(".rule").first
    await first.locator("summary").click()
    await first.get_by_label("Said by role").fill("customer")
    await first.get_by_label("Within words").fill("3")
    await first.get_by_label("In this order").check()
    await page.get_by_label("Mode of rule 2").select_option("live")
    await page.get_by_role("button", name="Save").click()
    await expect(page.locator(".saved")).to_be_visible()
    assert await contents_of(client, "options") == [
        {"expression": "cancel&&contract", "role": "customer", "within_words": 3, "order": True},
        "lawyer",
    ]


async def test_an_option_that_the_server_refuses_is_told_at_its_rule(
    new_page: NewPage, client: Account, faults: Faults
) -> None:
    faults.expect(CHECKED)
    await put(client, "refused", "refund")
    page = await new_page("/screen/rules?category=refused")
    await page.locator("summary").click()
    await page.get_by_label("Within words").fill("3")
    await expect(page.locator(".expression-fault")).to_contain_text("two or more keywords")
    await page.get_by_role("button", name="Save").click()
    await expect(page.locator(".fault[role=alert]")).to_contain_text("not well formed")
    assert await contents_of(client, "refused") == ["refund"]


async def test_what_somebody_else_has_changed_is_not_overwritten_unasked(
    new_page: NewPage, client: Account, faults: Faults
) -> None:
    faults.expect("status of 412")
    await put(client, "contested", "mine")
    page = await new_page("/screen/rules?category=contested")
    await page.get_by_label("Expression of rule 1").fill("mine too")
    await put(client, "contested", "theirs")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_text("Somebody else has changed the rules")).to_be_visible()
    assert await contents_of(client, "contested") == ["theirs"]
    await page.get_by_role("button", name="Save mine anyway").click()
    await expect(page.locator(".saved")).to_be_visible()
    assert await contents_of(client, "contested") == ["mine too"]


async def test_edits_survive_a_visit_to_another_view(new_page: NewPage, client: Account) -> None:
    await put(client, "kept", "before")
    page = await new_page("/screen/rules?category=kept")
    await page.get_by_label("Expression of rule 1").fill("after")
    await page.get_by_role("link", name="Board").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Live calls")
    await page.go_back()
    await expect(page.get_by_label("Expression of rule 1")).to_have_value("after")
    await expect(page.get_by_text("have not been saved")).to_be_visible()
    await page.get_by_role("button", name="Discard edits").click()
    await expect(page.get_by_label("Expression of rule 1")).to_have_value("before")


async def test_a_category_is_deleted_only_after_a_question(new_page: NewPage, client: Account) -> None:
    await put(client, "doomed", "word")
    page = await new_page("/screen/rules?category=doomed")
    await page.get_by_role("button", name="Delete").click()
    await page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    assert await contents_of(client, "doomed") == ["word"]
    await page.get_by_role("button", name="Delete").click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(page.locator(".saved")).to_contain_text("is deleted")
    assert await contents_of(client, "doomed") is None


async def test_the_keyboard_alone_makes_a_category(new_page: NewPage, client: Account) -> None:
    page = await new_page("/screen/rules")
    await page.get_by_role("button", name="New category").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("Name")).to_be_focused()
    await page.keyboard.type("by hand")
    await tab_to(page, "Expression of rule 1")
    await page.keyboard.type("complaint")
    await tab_to(page, "Save")
    await page.keyboard.press("Enter")
    await expect(page.locator(".saved")).to_be_visible()
    assert await contents_of(client, "by hand") == ["complaint"]


async def tab_to(page: Page, name: str) -> None:
    """Press Tab until the thing of that name has the focus."""
    for _ in range(40):
        await page.keyboard.press("Tab")
        focused = page.locator(":focus")
        if name in (await focused.get_attribute("aria-label") or await focused.text_content() or ""):
            return
    raise AssertionError(f"Tab does not lead to {name}")


async def test_another_app_sees_nothing_of_it(new_page: NewPage, client: Account) -> None:
    await put(client, "secret category", "word")
    page = await new_page("/screen/rules", app=("other", "secret"))
    await expect(page.get_by_text("There are no rules yet.")).to_be_visible()
    await expect(page.get_by_text("secret category")).to_have_count(0)


async def test_markup_in_names_and_rules_stays_text(new_page: NewPage, client: Account) -> None:
    name = "<img src=x onerror=alert(1)>"
    status, _ = await client.send(
        "PUT",
        "/v1/rules/%3Cimg%20src=x%20onerror=alert(1)%3E",
        {"contents": ["<img src=x onerror=alert`2`>"], "description": "<svg onload=alert(3)>"},
    )
    assert status == 200
    page = await new_page("/screen/rules")
    await page.get_by_role("link", name=name).click()
    await page.get_by_label("Sentences, one a line").fill("<img src=x onerror=alert`2`> and <script>alert(4)</script>")
    await page.get_by_role("button", name="Try", exact=True).click()
    await expect(page.locator("mark").first).to_be_visible()
    assert await page.locator("main img, main script").count() == 0
    await page.get_by_role("button", name="Delete").click()
    await expect(page.get_by_role("dialog")).to_contain_text(name)
    await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(page.locator(".saved")).to_contain_text(name)


@pytest.mark.parametrize("language", ["en", "zh"])
async def test_the_rules_can_be_used_by_everybody(
    new_page: NewPage, client: Account, faults: Faults, language: str
) -> None:
    faults.expect(CHECKED)
    await put(client, "Refund demand", "refund&&!solved", {"expression": "cancel&&contract", "within_words": 3})
    await put(client, "投诉", "投诉||举报", {"expression": "律师", "shadow": True})
    page = await new_page("/screen/rules?category=Refund%20demand", language=language)
    await page.locator("summary").nth(1).click()
    await page.locator(".expression-input").first.fill("refund&&(money|back)")
    await expect(page.locator(".expression-wrong")).to_be_visible()
    await take_both(page, f"rules-{language}")
    await page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
