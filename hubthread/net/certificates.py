"""TLS for a server: its certificate and key, from files to a context.

Layer: net.  Threads: any; a context is made before it is served with.

What ``ssl`` says of a wrong file names neither the file nor what is wrong with it
(``[SSL] PEM lib (_ssl.c:4149)``), so this does.
"""

from __future__ import annotations

import ssl

__all__ = ["server_context"]


def server_context(certfile: str, keyfile: str | None = None) -> ssl.SSLContext:
    """A context to serve with, for ``hub.serve(ssl=...)``: TLS 1.2 and later.

    :param certfile: PEM: the server's certificate, then those between it and the root.
    :param keyfile: PEM: its private key, unencrypted; ``None``: it stands in ``certfile``.
    :raises OSError: when a file is missing or unreadable, or is not what it should be; the
        message is one line that names the file.
    """
    _check_readable("certificate", certfile)
    if keyfile is not None:
        _check_readable("private key", keyfile)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A renegotiation (TLS 1.2) costs the server far more than the client that asks for it.
    context.options |= ssl.OP_NO_RENEGOTIATION
    # Browsers that would rather speak HTTP/2 learn here that they cannot.
    context.set_alpn_protocols(["http/1.1"])
    try:
        # OpenSSL would ask for a password on the terminal, and a server there waits for ever.
        context.load_cert_chain(certfile, keyfile, password=_refuse_password)
    except ssl.SSLError as error:
        raise OSError(error.errno, _explained(error, certfile, keyfile)) from None
    return context


class _Encrypted(OSError):
    """The key asks for a password."""


def _refuse_password() -> str:
    raise _Encrypted(None, "the private key is encrypted: give one without a password")


def _check_readable(what: str, path: str) -> None:
    try:
        with open(path, "rb") as file:
            file.read(1)  # a folder opens on some systems, and reads on none
    except OSError as error:
        raise OSError(error.errno, f"cannot read the {what} {path}: {error.strerror}") from None


def _explained(error: ssl.SSLError, certfile: str, keyfile: str | None) -> str:
    key = certfile if keyfile is None else keyfile
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"the private key in {key} is not that of the certificate in {certfile}"
    return (
        f"no certificate in {certfile}, or no private key in {key}: both must be PEM "
        f"(blocks that start with -----BEGIN)"
    )
