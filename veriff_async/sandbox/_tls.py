"""TLS of the sandbox: a certificate authority of its own, or the user's certificate.

The authority is made by trustme. Its certificate is public: clients must trust it, so it is written to a file and
served at `CA_PATH`. Its private key stays in memory, except with a folder for state, where only the owner can read it:
clients that trust the authority once trust the sandbox after a restart too.
"""

from __future__ import annotations

import os
import ssl
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from aiohttp import web
from attrs import field, frozen

from veriff_async._protocol.arguments import check_instance, check_path
from veriff_async.errors import ConfigurationError
from veriff_async.sandbox._temp_folder import LockedTempFolder

if TYPE_CHECKING:
    from collections.abc import Collection

    import trustme

__all__ = ("CA_PATH", "ServerTLS", "TLSFiles", "add_authority_route", "check_tls", "check_tls_names", "create_tls")

CA_PATH: Final = "/_sandbox/ca.pem"

# Addresses of this machine, which every client on it may use.
_LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "::1")
_ANY_ADDRESS: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104  compared, not listened on
_OWNER_ONLY: Final = 0o600


def _to_path(value: object) -> Path:
    return Path(check_path("A file of TLSFiles", value))


def _to_optional_path(value: object) -> Path | None:
    return None if value is None else _to_path(value)


@frozen(kw_only=True)
class TLSFiles:
    """A certificate for the sandbox, for example one of mkcert or of a company's authority.

    Args:
        certificate: PEM file with the certificate of the sandbox, followed by those of intermediate authorities.
        private_key: PEM file with its private key, without a password.
        authority: PEM file with the certificate of the authority that clients must trust; ``None`` if their systems
            trust it already.

    Raises:
        ConfigurationError: A value is not a path.
    """

    certificate: Path = field(converter=_to_path)
    private_key: Path = field(converter=_to_path, repr=False)
    authority: Path | None = field(default=None, converter=_to_optional_path)


@frozen(kw_only=True)
class ServerTLS:
    """The TLS settings of a running sandbox."""

    context: ssl.SSLContext
    ca_file: Path | None
    ca_pem: bytes | None
    folder: LockedTempFolder | None = None

    def close(self) -> None:
        """Remove the temporary folder. Blocking."""
        if self.folder is not None:
            self.folder.remove()


def check_tls(tls: object) -> bool | TLSFiles:
    """Check the option `tls`.

    Raises:
        ConfigurationError: It is neither a flag nor `TLSFiles`, or trustme is not installed.
    """
    if isinstance(tls, TLSFiles):
        return tls
    if not isinstance(tls, bool):
        return check_instance("tls", tls, TLSFiles, remedy="pass True, or TLSFiles(...)")
    if tls:
        _require_trustme()
    return tls


def check_tls_names(names: object) -> tuple[str, ...]:
    """Check the option `tls_names`."""
    # A string is a collection too, of letters.
    if isinstance(names, list | tuple | set | frozenset):
        given = tuple(cast("Collection[object]", names))
        checked = tuple(name for name in given if isinstance(name, str) and name and name.isprintable())
        if len(checked) == len(given):
            return checked
    msg = 'tls_names must be a list of host names and addresses, for example ["veriff"].'
    raise ConfigurationError(msg)


def create_tls(
    tls: bool | TLSFiles,  # noqa: FBT001  the option of the sandbox
    *,
    host: str,
    names: Collection[str],
    folder: Path | None,
) -> ServerTLS:
    """Make the TLS settings of a server. Blocking.

    Args:
        tls: True for an authority of the sandbox, or the files of the user.
        host: Address that the sandbox listens on.
        names: More names and addresses under which clients reach it.
        folder: Folder in which the authority is kept for the next start; ``None`` for a new one each time.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    if isinstance(tls, TLSFiles):
        return _load_files(tls, context)
    temporary = None
    if folder is None:
        temporary = LockedTempFolder()
        folder = temporary.path
    try:
        authority = _load_authority(folder) if temporary is None else _new_authority()
        wanted = [*_LOCAL_NAMES, *names] if host in _ANY_ADDRESS else [*_LOCAL_NAMES, host, *names]
        certificate = _issue(authority, tuple(dict.fromkeys(wanted)))
        certificate.configure_cert(context)  # pyright: ignore[reportUnknownMemberType]  pyOpenSSL's type is optional
        ca_pem = authority.cert_pem.bytes()
        ca_file = folder / "ca.pem"
        ca_file.write_bytes(ca_pem)
    except BaseException:
        if temporary is not None:
            temporary.remove()
        raise
    return ServerTLS(context=context, ca_file=ca_file, ca_pem=ca_pem, folder=temporary)


def add_authority_route(app: web.Application, ca_pem: bytes) -> None:
    """Let the application respond with the certificate of the authority at `CA_PATH`.

    The certificate is public, and a client that does not have it yet cannot send a token, so none is needed.
    """

    async def respond(_: web.Request) -> web.Response:
        headers = {"Content-Disposition": 'attachment; filename="veriff-sandbox-ca.pem"'}
        return web.Response(body=ca_pem, content_type="application/x-pem-file", headers=headers)

    app.router.add_get(CA_PATH, respond)


def _require_trustme() -> None:
    try:
        import_module("trustme")
    except ModuleNotFoundError as error:
        if error.name != "trustme":
            raise
    else:
        return
    msg = 'tls=True needs trustme: pip install "veriff-async[sandbox]", or pass TLSFiles(...).'
    raise ConfigurationError(msg)


def _new_authority() -> trustme.CA:
    import trustme  # noqa: PLC0415  an extra, whose import takes longer than the start of a sandbox

    return trustme.CA(organization_name="veriff-async sandbox")


def _load_authority(folder: Path) -> trustme.CA:
    """Return the authority of a folder, which is created with the first one."""
    import trustme  # noqa: PLC0415  see above

    certificate, key = folder / "ca.pem", folder / "ca-key.pem"
    with suppress(FileNotFoundError):
        try:
            return trustme.CA.from_pem(certificate.read_bytes(), key.read_bytes())
        except ValueError:
            pass
        msg = "The files of the certificate authority in the state folder are damaged: delete ca.pem and ca-key.pem."
        raise ConfigurationError(msg)
    authority = _new_authority()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A sandbox that was killed between the two files has no authority yet: the key comes first, and is replaced.
    new = key.with_suffix(".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
    with os.fdopen(descriptor, "wb") as file:
        file.write(authority.private_key_pem.bytes())
    certificate.unlink(missing_ok=True)
    new.replace(key)
    return authority


def _issue(authority: trustme.CA, names: tuple[str, ...]) -> trustme.LeafCert:
    try:
        return authority.issue_cert(*names)
    # idna's errors are UnicodeErrors, which are ValueErrors.
    except ValueError:
        pass
    msg = "A name for the certificate is invalid: pass host names and addresses without scheme and port in tls_names."
    raise ConfigurationError(msg)


def _load_files(files: TLSFiles, context: ssl.SSLContext) -> ServerTLS:
    try:
        # Without a function, OpenSSL would ask for a password on the terminal, and the sandbox would never start.
        context.load_cert_chain(files.certificate, files.private_key, password=_refuse_password)
        ca_pem = None if files.authority is None else files.authority.read_bytes()
    except ssl.SSLError:
        problem = "the certificate and the private key do not belong together, or are not PEM"
    except OSError as error:
        problem = error.strerror or type(error).__name__
    except ValueError:
        problem = "the private key has a password"
    else:
        return ServerTLS(context=context, ca_file=files.authority, ca_pem=ca_pem)
    msg = f"The files of TLSFiles cannot be used ({problem}): pass the PEM files of one certificate."
    raise ConfigurationError(msg)


def _refuse_password() -> str:
    raise ValueError
