"""A message by mail: by the command `mail`, or by SMTP, as the settings say (`conf`, section notify)."""

from __future__ import annotations

import os
import shutil
import smtplib
import ssl
import subprocess
from email.message import EmailMessage
from pathlib import Path

from . import conf, logme


def notify(msg: str, to: str | None = None, subject: str = "Pilotfish notification") -> bool:
    """Send a message; whether it was. Raises ValueError for settings that do not suffice."""
    address = to or conf.get_option("notify", "notify_address")
    if not address:
        logme.log("No notification address, cannot send notification", "error")
        return False
    ways = {"linux": mail, "smtp": smtp}
    mode = str(conf.get_option("notify", "mode")).lower()
    if mode not in ways:
        raise ValueError(f"notify.mode: {mode!r} is neither linux nor smtp")
    return ways[mode](msg, str(address), subject)


def mail(msg: str, to: str, subject: str) -> bool:
    """By the command `mail`; False where there is none. Raises CalledProcessError."""
    if shutil.which("mail") is None:
        logme.log("There is no command `mail`: set notify.mode to smtp", "error")
        return False
    subprocess.run(["mail", "-s", subject, to], input=msg.encode(), capture_output=True, check=True)
    return True


def smtp(msg: str, to: str, subject: str) -> bool:
    """By the server of the settings; over plain text only where `smtp_tls` is False. Raises ValueError, SMTPException."""
    given = conf.get_option("notify")
    missing = [key for key in ("smtp_host", "smtp_from", "smtp_passfile") if not given[key]]
    if missing:
        raise ValueError(f"notify.{missing[0]} is not set")
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = str(given["smtp_from"]), to, subject
    message.set_content(msg)
    password = Path(os.path.expanduser(str(given["smtp_passfile"]))).read_text().strip()
    with smtplib.SMTP(str(given["smtp_host"]), int(given["smtp_port"]), timeout=60) as server:
        if given["smtp_tls"]:
            server.starttls(context=ssl.create_default_context())
        server.login(str(given["smtp_user"] or given["smtp_from"]), password)
        server.send_message(message)
    return True
