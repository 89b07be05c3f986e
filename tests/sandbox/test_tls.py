"""A sandbox over https: its own certificate authority, or the user's certificate."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING

import anyio
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from tests.conditions import needs_posix
from veriff_async import ConfigurationError, ConnectError, RetryPolicy, VeriffClient
from veriff_async.sandbox import Sandbox, TLSFiles
from veriff_async.sandbox._tls import create_tls

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("veriff", "10.1.2.3")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TLSFiles:
    """Return the files of a certificate for 127.0.0.1."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    paths = TLSFiles(
        certificate=folder / "certificate.pem", private_key=folder / "key.pem", authority=folder / "authority.pem"
    )
    assert paths.authority is not None
    authority.cert_pem.write_to_path(paths.authority)
    paths.certificate.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(paths.private_key)
    return paths


def check_name(sandbox: Sandbox, name: str) -> None:
    """Connect with TLS as a client that knows the sandbox by a name; raise if the certificate is not for it."""
    context = ssl.create_default_context(cafile=sandbox.ca_file)
    port = int(sandbox.base_url.rpartition(":")[2])
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain, server_hostname=name) as encrypted,
    ):
        assert encrypted.version() == "TLSv1.3"


def test_environ_is_all_that_a_client_needs() -> None:
    """`environ` names the authority, so a client made from it works over https; without the name it is refused."""

    async def create(environ: dict[str, str]) -> str | None:
        async with VeriffClient.from_env(environ, retry=RetryPolicy(max_attempts=1)) as veriff:
            return (await veriff.create_session()).url

    # In a thread, whose loop is not in debug mode: asyncio then reports each refused handshake as an error.
    with Sandbox(tls=True) as sandbox:
        environ = sandbox.environ
        url = anyio.run(create, environ)
        del environ["VERIFF_CA_BUNDLE"]
        with pytest.raises(ConnectError, match="certificate verify failed"):
            anyio.run(create, environ)

        assert sandbox.base_url.startswith("https://127.0.0.1:")
        assert url is not None
        assert url.startswith(sandbox.base_url)
        assert len(sandbox.sessions) == 1


def test_certificate_covers_this_machine_and_the_given_names() -> None:
    """Clients may use localhost, both loopback addresses, and each of `tls_names`; another name is refused."""
    with Sandbox(tls=True, tls_names=NAMES) as sandbox:
        for name in ("localhost", "127.0.0.1", "::1", *NAMES):
            check_name(sandbox, name)
        with pytest.raises(ssl.SSLCertVerificationError):
            check_name(sandbox, "another.example")


def test_authority_can_be_downloaded_without_a_token() -> None:
    """`GET /_sandbox/ca.pem` responds with the certificate of the authority, and is not a request to Veriff."""
    with Sandbox(tls=True) as sandbox:
        context = ssl.create_default_context(cafile=sandbox.ca_file)
        with urllib.request.urlopen(sandbox.base_url + "/_sandbox/ca.pem", context=context) as response:  # noqa: S310
            pem = response.read()

        assert sandbox.ca_file is not None
        assert pem == sandbox.ca_file.read_bytes()
        assert pem.count(b"BEGIN CERTIFICATE") == 1
        assert b"PRIVATE" not in pem
        assert sandbox.requests == ()


def test_file_of_the_authority_ends_with_the_sandbox() -> None:
    """The temporary file of the authority is removed at the stop, also when the start fails after it was written."""
    sandbox = Sandbox(tls=True)
    with sandbox:
        path = sandbox.ca_file
        assert path is not None
        assert path.exists()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            failing = Sandbox(tls=True, port=taken.getsockname()[1])
            with pytest.raises(ConfigurationError, match="cannot listen"), failing:
                pass
    assert not path.exists()
    assert sandbox.ca_file is None
    assert failing.ca_file is None


def test_user_can_bring_a_certificate(files: TLSFiles) -> None:
    """With `TLSFiles` the sandbox has that certificate, and `environ` names the authority of the user."""

    async def create(environ: dict[str, str]) -> None:
        async with VeriffClient.from_env(environ) as veriff:
            await veriff.create_session()

    with Sandbox(tls=files) as sandbox:
        anyio.run(create, sandbox.environ)

        assert sandbox.ca_file == files.authority
    with Sandbox(tls=TLSFiles(certificate=files.certificate, private_key=files.private_key)) as sandbox:
        assert "VERIFF_CA_BUNDLE" not in sandbox.environ


@needs_posix
def test_authority_in_a_folder_is_the_same_after_a_restart(tmp_path: Path) -> None:
    """The second start uses the first one's authority; only the owner can read its key, and damage is reported."""
    folder = tmp_path / "state"
    first = create_tls(tls=True, host="127.0.0.1", names=(), folder=folder)
    second = create_tls(tls=True, host="127.0.0.1", names=(), folder=folder)

    assert first.ca_pem == second.ca_pem
    assert stat.S_IMODE((folder / "ca-key.pem").stat().st_mode) == 0o600
    (folder / "ca-key.pem").write_text("damaged")
    with pytest.raises(ConfigurationError, match=r"ca-key\.pem"):
        create_tls(tls=True, host="127.0.0.1", names=(), folder=folder)


def test_sandbox_keeps_authority_and_token_in_its_state_folder(tmp_path: Path) -> None:
    """Clients that trust the authority, and programs with the token, continue after a restart."""

    def run() -> tuple[bytes, str | None]:
        options = {"tls": True, "state_folder": tmp_path, "public_url": "https://veriff.example.com"}
        with Sandbox(**options) as sandbox:  # type: ignore[arg-type]
            assert sandbox.ca_file is not None
            return sandbox.ca_file.read_bytes(), sandbox.control_token

    first = run()
    assert run() == first
    token = tmp_path / "control-token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    token.write_text("")
    assert run()[1] not in {"", first[1]}


def test_kill_between_the_files_of_an_authority_leaves_a_usable_folder(tmp_path: Path) -> None:
    """A key without its certificate is replaced by a new authority."""
    first = create_tls(tls=True, host="127.0.0.1", names=(), folder=tmp_path)
    (tmp_path / "ca.pem").unlink()

    second = create_tls(tls=True, host="127.0.0.1", names=(), folder=tmp_path)

    assert first.ca_pem != second.ca_pem
    assert second.ca_file is not None
    assert second.ca_file.read_bytes() == second.ca_pem


@pytest.mark.parametrize("damage", ["missing", "not PEM", "another key", "encrypted", "password"])
def test_unusable_files_are_refused_at_the_start(files: TLSFiles, tmp_path: Path, damage: str) -> None:
    """Files that are missing, damaged, unrelated or have a password are one sentence that names the class."""
    key = tmp_path / "key.pem"
    if damage == "not PEM":
        key.write_text("x")
    elif damage == "another key":
        trustme.CA().issue_cert("x").private_key_pem.write_to_path(key)
    elif damage == "encrypted":
        text = files.private_key.read_text().replace("EC PRIVATE", "ENCRYPTED PRIVATE")
        key.write_text(text.replace("BEGIN PRIVATE", "BEGIN ENCRYPTED PRIVATE"))
    elif damage == "password":
        private_key = load_pem_private_key(files.private_key.read_bytes(), None)
        secret = BestAvailableEncryption(b"secret")
        key.write_bytes(private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))
    broken = TLSFiles(certificate=files.certificate, private_key=key)

    with pytest.raises(ConfigurationError, match="TLSFiles cannot be used"), Sandbox(tls=broken):
        pass


@pytest.mark.parametrize("options", [{"tls": "yes"}, {"tls": None}, {"tls_names": "veriff"}, {"tls_names": [1]}])
def test_wrong_option_is_refused(options: dict[str, object]) -> None:
    """A value of another type raises an error that names the option."""
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Sandbox(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["http://veriff", "a b", "-x"])
def test_name_that_no_certificate_can_have_is_refused(name: str) -> None:
    """A name that is not a host name is refused at the start, and the message says what to pass."""
    with pytest.raises(ConfigurationError, match="tls_names"), Sandbox(tls=True, tls_names=[name]):
        pass


def test_paths_of_files_are_checked() -> None:
    """`TLSFiles` refuses a value that is not a path."""
    with pytest.raises(ConfigurationError, match="TLSFiles"):
        TLSFiles(certificate=1, private_key="key.pem")


def test_missing_extra_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without trustme, `tls=True` names the extra that has it."""
    monkeypatch.setitem(sys.modules, "trustme", None)

    with pytest.raises(ConfigurationError, match=r"veriff-async\[sandbox\]"):
        Sandbox(tls=True)


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_and_node_trust_the_authority() -> None:
    """The file of the authority works as curl's --cacert and as Node's NODE_EXTRA_CA_CERTS."""
    with Sandbox(tls=True) as sandbox:
        url = sandbox.base_url.replace("127.0.0.1", "localhost") + "/healthz"
        program = f'fetch("{url}").then((response) => console.log(response.status))'
        commands = [
            (["curl", "--silent", "--fail", "--noproxy", "*", "--cacert", str(sandbox.ca_file), url], '"ok"'),
            (["node", "--eval", program], "200"),
        ]
        for command, expected in commands:
            result = subprocess.run(  # noqa: S603  programs of this machine
                command,
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
                env={**os.environ, "NODE_EXTRA_CA_CERTS": str(sandbox.ca_file)},
            )
            assert (result.returncode, expected in result.stdout) == (0, True), result.stderr
