"""TLS: handshakes a second, echo and paced fan-out, as in ``idle``, ``echo`` and ``fanout``.

The ``openssl`` command makes the certificate (P-256, self-signed); the load client does not verify
it.  No session is resumed, so each connection pays for a full handshake.
"""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

from benchmarks.case import CPU, P50, P99, RATE, RSS, Case, Column, Measurement, Options
from benchmarks.case import measure_traffic as measure_plain
from benchmarks.peers import Peer
from benchmarks.peers.contract import Job
from benchmarks.processes import CACHE, Unavailable

__all__ = ["cases"]

_OPEN_RATE = Column("open_rate", "handshakes/s", more_is_better=True)


def cases(quick: bool) -> list[Case]:
    """Return the echo, with the handshakes before it, and the fan-out."""
    return [
        Case(
            "tls",
            "echo",
            "TLS: echo, 100 clients, 16 in flight each",
            Job("echo"),
            "echo",
            100,
            ("--tls", "--window", "16"),
            columns=(RATE, P50, P99, _OPEN_RATE, CPU, RSS),
            measure=_measure,
        ),
        Case(
            "tls",
            "fan-out",
            "TLS: fan-out to 500 members, 20 messages/s",
            Job("publish", rate=20),
            "publish",
            500,
            ("--tls",),
            columns=(P50, P99, _OPEN_RATE, CPU, RSS),
            chart=P99,
            measure=_measure,
        ),
    ]


def _measure(case: Case, peer: Peer, options: Options) -> Measurement:
    job = replace(case.job, certificate=str(_certificate()))
    measured = measure_plain(replace(case, job=job), peer, options)
    figures = dict(measured.figures)
    figures[_OPEN_RATE.key] = figures["opened"] / max(1e-9, figures["open_s"])
    return replace(measured, figures=figures)


def _certificate() -> Path:
    """Return a file with certificate and key.

    :raises Unavailable: without the ``openssl`` command.
    """
    place = CACHE / "certificate.pem"
    if not place.exists():
        fresh = place.with_suffix(".new")
        try:
            subprocess.run(
                [
                    *("openssl", "req", "-x509", "-nodes", "-days", "3650"),
                    *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
                    *("-subj", "/CN=127.0.0.1", "-keyout", str(fresh), "-out", "-"),
                ],
                check=True,
                stdout=(appended := fresh.with_suffix(".crt")).open("wb"),
                stderr=subprocess.DEVNULL,
                timeout=60,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise Unavailable(f"a certificate needs the openssl command: {error}") from None
        fresh.write_bytes(fresh.read_bytes() + appended.read_bytes())
        appended.unlink()
        fresh.replace(place)
    return place
