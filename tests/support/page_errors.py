"""What the page says on its console as errors, but for its own: those that it says without the pack, too."""

from __future__ import annotations

from playwright.sync_api import ConsoleMessage, Page

PAGES_OWN = (
    "https://huggingface.co/",  # the page opens a starter workflow, looks its models up there, and forbids itself to
    "/api/userdata",
    "/user.css",  # of a user without files
    "ComfyApp graph accessed before initialization",  # while it is loaded, by comfy_page
)


def listen(page: Page) -> list[str]:
    """Texts and places of errors from now on."""
    said: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        text = f"{message.text} {message.location['url']}"
        if message.type == "error" and not any(known in text for known in PAGES_OWN):
            said.append(text)

    page.on("console", hear)
    return said
