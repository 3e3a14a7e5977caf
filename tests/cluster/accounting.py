"""Slurm's accounting for the emulated clusters: a MariaDB and a slurmdbd in the cluster's folder, on loopback."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

PROGRAMS = ("mariadbd", "mariadb-install-db", "mariadb", "slurmdbd", "sacctmgr", "sacct")

_DBD_CONF = """
DbdHost=ctl
DbdAddr=127.0.0.1
DbdPort={dbd_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
PidFile={folder}/slurmdbd.pid
LogFile={folder}/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={sql_port}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
CommitDelay=0
"""

SLURM_CONF = """
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={dbd_port}
AccountingStoragePass={folder}/munge.socket
JobAcctGatherType=jobacct_gather/none
"""
"""Takes the place of the lines that say `none`."""


def start_database(folder: Path, sql_port: int, spawn: Callable[..., None], wait: Callable[..., None]) -> None:
    """MariaDB with a user for slurmdbd; `spawn(name, *words)` starts a daemon, `wait(condition, what)` waits."""
    data, socket = folder / "mysql", folder / "mysql.socket"
    command = ["mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={data}", "--skip-test-db"]
    subprocess.run([*command, "--auth-root-authentication-method=normal"], check=True, capture_output=True)
    spawn(
        "mariadbd",
        "mariadbd",
        "--no-defaults",
        "--user=root",
        f"--datadir={data}",
        f"--socket={socket}",
        f"--pid-file={folder}/mariadbd.pid",
        "--bind-address=127.0.0.1",
        f"--port={sql_port}",
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-buffer-pool-size=64M",
        "--skip-log-bin",
    )
    client = ["mariadb", "--no-defaults", "-u", "root", "-S", str(socket), "-e"]

    def answers() -> bool:
        return subprocess.run([*client, "select 1"], capture_output=True, check=False).returncode == 0

    wait(answers, "MariaDB")
    rights = "create user slurm@localhost identified by 'slurm'; create user slurm@'127.0.0.1' identified by 'slurm'; "
    rights += "grant all on slurm_acct_db.* to slurm@localhost; grant all on slurm_acct_db.* to slurm@'127.0.0.1'"
    subprocess.run([*client, rights], check=True, capture_output=True)


def write_configuration(folder: Path, dbd_port: int, sql_port: int) -> None:
    file = folder / "slurmdbd.conf"  # beside slurm.conf, where slurmdbd looks
    file.write_text(_DBD_CONF.format(folder=folder, dbd_port=dbd_port, sql_port=sql_port))
    file.chmod(0o600)
