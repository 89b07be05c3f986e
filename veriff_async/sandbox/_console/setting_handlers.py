"""HTTP of faults, chaos, clock, URLs, rules and reset."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from anyio import to_thread

from veriff_async.errors import ConfigurationError, InvalidArgumentError
from veriff_async.sandbox._console.forms import (
    read_chaos,
    read_fault_form,
    read_rules,
    read_seconds,
    read_seed,
    read_urls,
)
from veriff_async.sandbox._console.frame import finish
from veriff_async.sandbox._console.links import FAULTS_PATH, SESSIONS_PATH, SETTINGS_PATH
from veriff_async.sandbox._console.settings import describe_faults, describe_settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web

    from veriff_async.sandbox._console.forms import Form
    from veriff_async.sandbox._console.frame import Frame

__all__ = ("SettingHandlers",)


class SettingHandlers:
    """The handlers of faults and settings."""

    def __init__(self, frame: Frame) -> None:
        """Show and change the configuration of a service."""
        self._frame = frame
        self._service = frame.service

    def add_routes(self, routes: web.UrlDispatcher) -> None:
        """Add the routes."""
        routes.add_get(FAULTS_PATH, self._show_faults)
        routes.add_get(SETTINGS_PATH, self._show_settings)
        for path, change in (
            (FAULTS_PATH, self._inject),
            (FAULTS_PATH + "/remove", self._remove_fault),
            (FAULTS_PATH + "/clear", self._clear_faults),
            (FAULTS_PATH + "/chaos", self._set_chaos),
            (SETTINGS_PATH + "/clock", self._advance),
            (SETTINGS_PATH + "/urls", self._set_urls),
            (SETTINGS_PATH + "/rules", self._set_rules),
            (SETTINGS_PATH + "/reset", self._reset),
        ):
            self._frame.add_form(routes, path, self._for_form(change))
        self._frame.add_form(routes, SETTINGS_PATH + "/seed", self._seed)

    async def _seed(self, request: web.Request, form: Form) -> web.Response:
        chosen = read_seed(form)
        if chosen is None:
            return await self._render(request, form=form)
        try:
            # In a thread: thousands of sessions take seconds.
            await to_thread.run_sync(partial(self._service.seed, chosen[0], seed=chosen[1]))
        except InvalidArgumentError as error:
            return await self._render(request, form=form, problem=str(error))
        return finish(SESSIONS_PATH, "seeded")

    def _for_form(
        self, change: Callable[[Form], tuple[str, str] | None]
    ) -> Callable[[web.Request, Form], Awaitable[web.Response]]:
        """Return the handler of a form.

        Args:
            change: Carries the form out, and returns the path of a page and the name of a sentence; ``None`` if a
                field is wrong.
        """

        async def handle(request: web.Request, form: Form) -> web.Response:
            try:
                done = change(form)
            # Chaos profiles and the clock raise the latter.
            except (InvalidArgumentError, ConfigurationError) as error:
                return await self._render(request, form=form, problem=str(error))
            return await self._render(request, form=form) if done is None else finish(*done)

        return handle

    async def _show_faults(self, request: web.Request) -> web.Response:
        return await self._render(request)

    async def _show_settings(self, request: web.Request) -> web.Response:
        return await self._render(request)

    async def _render(self, request: web.Request, *, form: Form | None = None, problem: str = "") -> web.Response:
        if request.path.startswith(FAULTS_PATH):
            page, template, values = FAULTS_PATH, "faults", describe_faults(self._service.faults, self._service.chaos)
        else:
            page, template, values = SETTINGS_PATH, "settings", describe_settings(self._service.rules)
        return await self._frame.respond(request, template, values, page=page, form=form, problem=problem)

    def _inject(self, form: Form) -> tuple[str, str] | None:
        found = read_fault_form(form)
        if found is None:
            return None
        fault, times = found
        self._service.inject(fault, method=form.text("method") or None, path=form.text("path") or None, times=times)
        return FAULTS_PATH, "injected"

    def _remove_fault(self, form: Form) -> tuple[str, str]:
        fault_id = form.number("id", "The fault", lowest=0, highest=1e15, whole=True, required=True)
        if fault_id is not None:
            self._service.remove_fault(int(fault_id))
        return FAULTS_PATH, "removed"

    def _clear_faults(self, _: Form) -> tuple[str, str]:
        self._service.clear_faults()
        return FAULTS_PATH, "cleared"

    def _set_chaos(self, form: Form) -> tuple[str, str]:
        self._service.chaos = profile = read_chaos(form)
        return FAULTS_PATH, "calm" if profile is None else "chaos"

    def _advance(self, form: Form) -> tuple[str, str] | None:
        seconds = read_seconds(form)
        if seconds is None:
            return None
        self._service.advance(seconds)
        return SETTINGS_PATH, "advanced"

    def _set_urls(self, form: Form) -> tuple[str, str] | None:
        urls = read_urls(form)
        if form.problems:
            return None
        self._service.change_rules(webhook_urls=urls)
        return SETTINGS_PATH, "urls"

    def _set_rules(self, form: Form) -> tuple[str, str] | None:
        changes = read_rules(form)
        if form.problems:
            return None
        self._service.change_rules(**changes)
        return SETTINGS_PATH, "rules"

    def _reset(self, _: Form) -> tuple[str, str]:
        self._service.reset()
        return SESSIONS_PATH, "reset"
