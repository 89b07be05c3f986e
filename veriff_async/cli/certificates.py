"""The certificates commands: list the certificates of a session, and download the documents that they cover."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from veriff_async.cli._model_format import show_models
from veriff_async.cli._options import env_file_option, json_option, proxy_option
from veriff_async.cli._runtime import command_line, current_command, stderr_output
from veriff_async.cli.media import explain_existing, print_files, target_options
from veriff_async.cli.session_data import ID, call_session, client_options

if TYPE_CHECKING:
    from veriff_async import DownloadedMedia, VerificationSession
    from veriff_async._media.downloader import IfExists

__all__ = ("certificates",)


@click.group()
def certificates() -> None:
    """List the certificates of a session, or download their documents."""


@certificates.command("list")
@ID
@client_options
def list_certificates(*, session_id: str, show_person: bool, env_file: Path | None, for_program: bool) -> None:  # noqa: ARG001
    """List the certificates of session ID. With --show-person and --json also the certificates themselves."""
    result = call_session(env_file, session_id, lambda session: session.certificates())
    columns = ("id", "kind", "format", "created_at")
    show_models("certificates", result, columns=columns, show_person=show_person, session_id=session_id)


@certificates.command()
@ID
@target_options
@proxy_option
@env_file_option
@json_option
def download(*, session_id: str, folder: Path | None, if_exists: str, env_file: Path | None, for_program: bool) -> None:  # noqa: ARG001
    """Download the documents that the certificates of session ID cover; see media download."""
    words = ["certificates", "download", session_id, *(("--to", str(folder)) if folder else ()), "--if-exists", "skip"]
    hint = f"Downloaded files stay. To continue: {command_line(shlex.join(words), env_file)}"

    async def save(session: VerificationSession) -> list[DownloadedMedia]:
        stderr_output().print(f"Downloading the documents of session {session.id}")
        target = f"{folder or Path(session_id)}/"  # with the slash it means a folder, created if missing
        saved: list[DownloadedMedia] = []
        with explain_existing(choice := cast("IfExists", if_exists)):
            for certificate in await session.certificates():
                for document in certificate.source_documents:
                    current_command().set_resume_hint(hint)
                    saved.append(
                        await session.download_certificate_document(certificate, document, target, if_exists=choice)
                    )
        return saved

    print_files(session_id, call_session(env_file, session_id, save))
