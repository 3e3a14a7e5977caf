"""One-time passwords for logins that ask for one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import struct


def one_time_password(secret: str, now_s: float, period_s: int = 30, digits: int = 6) -> str:
    """RFC 6238 with SHA-1; the secret is base32, in any case, with or without padding and blanks."""
    plain = secret.replace(" ", "").upper().rstrip("=")
    key = base64.b32decode(plain + "=" * (-len(plain) % 8))
    mac = hmac.new(key, struct.pack(">Q", int(now_s) // period_s), hashlib.sha1).digest()
    start = mac[-1] & 15
    number = struct.unpack(">I", mac[start : start + 4])[0] & 0x7FFFFFFF
    return f"{number % 10**digits:0{digits}d}"
