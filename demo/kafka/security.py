"""Listeners that ask who is there: SASL users, and TLS with certificates of our own; for tests, so nothing is secret."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from demo.kafka.configuration import HOST
from demo.kafka.jars import KafkaUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from confluent_kafka.admin import AdminClient

_LOGIN_MODULES = {
    "PLAIN": "org.apache.kafka.common.security.plain.PlainLoginModule",
    "SCRAM-SHA-256": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "SCRAM-SHA-512": "org.apache.kafka.common.security.scram.ScramLoginModule",
}
_SCRAM_ITERATIONS = 4096


@dataclass(frozen=True)
class Security:
    """How clients must connect.

    Attributes:
        protocol: As in Kafka's `security.protocol`.
        mechanism: The SASL mechanism, for the protocols with SASL.
        users: Passwords by name, for the protocols with SASL. The first is the one in `client_properties`.
        client_certificate: Whether TLS clients must show a certificate of our authority.
    """

    protocol: Literal["SASL_PLAINTEXT", "SASL_SSL", "SSL"]
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    users: Mapping[str, str] = field(default_factory=lambda: {"archive": "correct horse"})
    client_certificate: bool = False

    @property
    def has_sasl(self) -> bool:
        """Whether clients give a name and a password."""
        return self.protocol.startswith("SASL_")

    @property
    def has_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.protocol.endswith("SSL")

    def broker_properties(self, listener: str, certificates: Certificates | None) -> dict[str, object]:
        """Broker configuration of a listener that asks for this."""
        prefix = f"listener.name.{listener.lower()}"
        properties: dict[str, object] = {}
        if self.has_sasl:
            users = "".join(f' user_{name}="{password}"' for name, password in self.users.items())
            login = f"{_LOGIN_MODULES[self.mechanism]} required{users if self.mechanism == 'PLAIN' else ''};"
            properties[f"{prefix}.sasl.enabled.mechanisms"] = self.mechanism
            properties[f"{prefix}.{self.mechanism.lower()}.sasl.jaas.config"] = login
        if certificates:
            properties[f"{prefix}.ssl.keystore.type"] = "PEM"
            properties[f"{prefix}.ssl.keystore.location"] = certificates.broker
            properties[f"{prefix}.ssl.truststore.type"] = "PEM"
            properties[f"{prefix}.ssl.truststore.location"] = certificates.authority
            properties[f"{prefix}.ssl.client.auth"] = "required" if self.client_certificate else "none"
        return properties

    def client_properties(self, certificates: Certificates | None) -> dict[str, str]:
        """What librdkafka needs to connect, apart from `bootstrap.servers`."""
        properties: dict[str, str] = {"security.protocol": self.protocol}
        if self.has_sasl:
            name, password = next(iter(self.users.items()))
            properties |= {"sasl.mechanism": self.mechanism, "sasl.username": name, "sasl.password": password}
        if certificates:
            properties["ssl.ca.location"] = str(certificates.authority)
            if self.client_certificate:
                properties["ssl.certificate.location"] = str(certificates.client)
                properties["ssl.key.location"] = str(certificates.client)
        return properties

    def add_users(self, admin: AdminClient) -> None:
        """Stores the users of SCRAM in the cluster; those of PLAIN stand in the broker's configuration."""
        from confluent_kafka import admin as client

        if not self.has_sasl or self.mechanism == "PLAIN":
            return
        mechanism = client.ScramMechanism[self.mechanism.replace("-", "_")]
        credentials = client.ScramCredentialInfo(mechanism, _SCRAM_ITERATIONS)
        changes: list[client.UserScramCredentialAlteration] = [
            client.UserScramCredentialUpsertion(name, credentials, password.encode())
            for name, password in self.users.items()
        ]
        for done in admin.alter_user_scram_credentials(changes).values():
            done.result(30)


@dataclass(frozen=True)
class Certificates:
    """PEM files: the authority's certificate, and key and certificate, in one file, of a broker and of a client."""

    authority: Path
    broker: Path
    client: Path


def make_certificates(folder: Path) -> Certificates:
    """Makes a certificate authority, and with it a certificate for 127.0.0.1 and localhost, and one for a client.

    Raises:
        KafkaUnavailable: There is no openssl, or it failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    authority = folder / "authority.pem"
    new_key = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "30",
    ]
    _run([*new_key, "-keyout", "authority.key", "-out", authority.name, "-subj", "/CN=authority"], folder)
    made = {}
    for name, host in {"broker": HOST, "client": "client"}.items():
        alternatives = (
            f"subjectAltName=IP:{host},DNS:localhost" if name == "broker" else "subjectAltName=DNS:client"
        )
        by_authority = ["-CA", authority.name, "-CAkey", "authority.key", "-addext", alternatives]
        files = ["-keyout", f"{name}.key", "-out", f"{name}.crt"]
        _run([*new_key, *by_authority, *files, "-subj", f"/CN={host}"], folder)
        made[name] = folder / f"{name}.pem"
        made[name].write_text((folder / f"{name}.key").read_text() + (folder / f"{name}.crt").read_text())
    return Certificates(authority, made["broker"], made["client"])


def _run(command: list[str], folder: Path) -> None:
    try:
        run = subprocess.run(  # noqa: S603 - arguments of our own
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise KafkaUnavailable("TLS needs openssl to make certificates") from None
    if run.returncode:
        raise KafkaUnavailable(f"openssl could not make certificates:\n{run.stderr.strip()}")
