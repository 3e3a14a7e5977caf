"""Answers of the cloud server."""

from __future__ import annotations


class RETCODE:
    """The `code` of an answer."""

    OK = "0000"
    DBERR = "2000"
    THIRDERR = "2001"
    DATAERR = "2002"
    IOERR = "2003"
    TOKENINVALID = LOGINERR = "2100"
    PARAMERR = "2101"
    USERERR = "2102"
    ROLEERR = "2103"
    PWDERR = "2104"
    VERIFYERR = "2105"
    REQERR = "2200"
    NODATA = "2300"
    UNDERDEBUG = "2301"
    UNKOWNERR = "2400"
