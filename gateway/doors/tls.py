"""TLS for both listeners: one context, whose certificate can be read again while it is in use."""

from __future__ import annotations

import ssl


class BadCertificate(Exception):
    """The certificate or its key cannot be used; the text names the files and the reason."""


class Tls:
    """The server's side of TLS from PEM files. Connections from after `reload` get the new certificate."""

    def __init__(self, certificate: str, key: str) -> None:
        """Raises BadCertificate."""
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._certificate = certificate
        self._key = key
        self.reload()

    def reload(self) -> None:
        """Read the files again. Raises BadCertificate; the certificate in use stays then."""
        try:
            self.context.load_cert_chain(self._certificate, self._key)
        except (OSError, ssl.SSLError) as fault:
            raise BadCertificate(f"tls_cert {self._certificate}, tls_key {self._key}: {fault}") from fault
