"""Several hosts on one machine, made of namespaces, and a real Slurm on them.

A host has its own name, process ids and /etc/hosts; with `network` its own network too, joined to the others by a switch
whose cables can be cut. Files are shared by all, as on a cluster. A host lives exactly as long as the pipe to its first
process: when that is closed, or the tests die, the kernel ends everything in it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import accounting
from patience import PATIENCE_S, wait_until

_FIRST_PROCESS = """
hostname "$1" && mount --make-rprivate / && mount -t proc proc /proc && mount --bind "$2" /etc/hosts || exit 1
[ "$3" = shared ] || ip link set lo up || exit 1
echo ready
exec cat
"""


class Host:
    """One emulated host; `address` is where its name leads."""

    def __init__(self, name: str, address: str, hosts_file: Path, network: bool) -> None:
        self.name = name
        self.address = address
        kinds = ["--uts", "--mount", "--pid", "--fork", "--kill-child", *(["--net"] if network else [])]
        arguments = ["sh", "-c", _FIRST_PROCESS, "sh", name, str(hosts_file), "own" if network else "shared"]
        self._root = subprocess.Popen(["unshare", *kinds, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._root.stdout is not None
        assert self._root.stdout.readline() == b"ready\n", f"{name} did not start"
        pid = self._root.pid
        self.first_pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        self._enter = ["nsenter", f"--target={self.first_pid}", "--uts", "--mount", "--pid", *["--net"] * network]

    def command(self, *words: str) -> list[str]:
        """The words as a command line that runs on this host."""
        return [*self._enter, "--", *words]

    def run(self, *words: str) -> str:
        """Run a command here; its output. Fails when the command does."""
        done = subprocess.run(self.command(*words), capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def close(self) -> None:
        assert self._root.stdin is not None
        assert self._root.stdout is not None
        self._root.stdin.close()
        self._root.wait()
        self._root.stdout.close()


class Hosts:
    """`ctl` and the hosts `names`. Without `network` all have addresses on loopback.

    With it the switch is a bridge on `ctl`, and the machine's own network is never touched.
    """

    def __init__(self, names: Sequence[str], folder: Path, network: bool) -> None:
        self.folder = folder
        self.network = network
        addresses = {name: f"10.77.0.{10 + i}" if network else f"127.0.1.{i}" for i, name in enumerate(["ctl", *names])}
        file = folder / "hosts"
        file.write_text("127.0.0.1 localhost\n" + "".join(f"{ip} {name}\n" for name, ip in addresses.items()))
        self.all: dict[str, Host] = {}
        try:
            for name, ip in addresses.items():
                self.all[name] = Host(name, ip, file, network)
            self.ctl = self.all["ctl"]
            self.nodes = [self.all[name] for name in names]
            if network:
                self._wire()
        except BaseException:
            self.close()
            raise

    def __getitem__(self, name: str) -> Host:
        return self.all[name]

    def _wire(self) -> None:
        self.ctl.run("sh", "-c", f"ip link add lan type bridge && ip addr add {self.ctl.address}/24 dev lan")
        self.ctl.run("ip", "link", "set", "lan", "up")
        for host in self.nodes:
            # Not by ctl.run: the other host's process id has no meaning in there.
            cable = ["ip", "link", "add", host.name, "type", "veth", "peer", "eth0", "netns", str(host.first_pid)]
            subprocess.run(["nsenter", f"--target={self.ctl.first_pid}", "--net", *cable], check=True)
            self.ctl.run("sh", "-c", f"ip link set {host.name} master lan && ip link set {host.name} up")
            host.run("sh", "-c", f"ip addr add {host.address}/24 dev eth0 && ip link set eth0 up")

    def cut(self, name: str) -> None:
        """Pull the cable: whoever is connected sees silence."""
        self.ctl.run("ip", "link", "set", name, "down")

    def mend(self, name: str) -> None:
        self.ctl.run("ip", "link", "set", name, "up")

    def close(self) -> None:
        for host in self.all.values():
            host.close()


class Slurm:
    """A real Slurm: controller on `ctl`, one slurmd for each of `nodes` hosts `node1`, `node2` ...

    Use as a context manager. `environ` is the environment of its users; `sbatch` starts a script and waits for its end.
    `beside`: another one with accounting, whose keys and accounting it shares: users of one see the other by `-M NAME`.
    """

    def __init__(
        self,
        *,
        nodes: int = 4,
        cpus: int = 2,
        gpus: int = 0,
        network: bool = False,
        accounting: bool = False,
        extra: str = "",
        name: str = "tests",
        beside: Slurm | None = None,
    ) -> None:
        self.name, self._beside = name, beside
        self.cpus = cpus
        self.node_names = [f"node{number + 1}" for number in range(nodes)]
        self._gpus = gpus
        self._network = network
        self._accounting = accounting
        # On loopback all daemons, and those of other tests at the same time, share one set of ports.
        self._port = 6817 if network else secrets.choice(range(20_000, 30_000, 20))
        self._extra = extra
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Slurm:
        self.folder = Path("/tmp") / f"pf-slurm-{secrets.token_hex(4)}"
        self.folder.mkdir(mode=0o755)
        for name in ("log", "state", "spool"):
            (self.folder / name).mkdir()
        self.hosts = Hosts(self.node_names, self.folder, self._network)
        self.environ = {
            name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "PILOTFISH"))
        }
        self.environ |= {"SLURM_CONF": str(self.folder / "slurm.conf")}
        self.environ |= {"PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
        try:
            self._configure()
            self._start_all()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hosts.close()
        for daemon in self._daemons.values():
            with suppress(ProcessLookupError):
                daemon.kill()
            daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- using it -------------------------------------------------------------------------------------------------------

    def run(self, *words: str) -> str:
        """Run one of Slurm's commands on `ctl`; its output. Fails when the command does."""
        done = subprocess.run(
            self.hosts.ctl.command(*words),
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def submit(self, script: str, wd: Path, *options: str) -> str:
        """`sbatch` of a shell script, with output in WD/ID.out; returns the job's number."""
        file = wd / f"{secrets.token_hex(4)}.sh"
        file.write_text(f"#!/bin/bash\n{script}\n")
        return self.run("sbatch", "--parsable", f"--chdir={wd}", f"--output={wd}/%j.out", *options, str(file)).strip()

    def state(self, job: str) -> str:
        """Slurm's word for the state of a job, e.g. RUNNING, COMPLETED, NODE_FAIL."""
        facts = self.run("scontrol", "show", "job", job).split()
        return next(fact.partition("=")[2] for fact in facts if fact.startswith("JobState="))

    def wait_for_end(self, job: str, timeout_s: float = 330.0) -> str:
        """The final state of a job, when it is there.

        Now and then a node's word that it has cleared up after a job does not reach the controller; then the job is
        COMPLETING until the node registers again, minutes later. So the nodes are asked to do that at once.
        """
        living = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING")
        clearing_up = self._clearing_up()

        def ended() -> bool:
            state = self.state(job)
            clearing_up(state == "COMPLETING")
            return state not in living

        wait_until(ended, lambda: f"job {job} to end\n{self._about(job)}", timeout_s)
        return self.state(job)

    def wait_until_empty(self) -> None:
        """No job waits, runs or is being cleared up after."""
        clearing_up = self._clearing_up()

        def empty() -> bool:
            states = self.run("squeue", "--noheader", "--format=%T").split()
            clearing_up("COMPLETING" in states)
            return not states

        wait_until(empty, lambda: f"no job is left\n{self.run('squeue')}")

    def _clearing_up(self) -> Callable[[bool], None]:
        """To be told again and again whether a job is COMPLETING: when that takes 10 s, nodes are asked to register."""
        since_s: float | None = None

        def note(is_completing: bool) -> None:
            nonlocal since_s
            now = time.monotonic()
            since_s = (since_s or now) if is_completing else None
            if since_s is not None and now - since_s > 10:
                since_s = now
                self.register_again()

        return note

    def register_again(self) -> None:
        """Let every node tell the controller what it has; jobs are not disturbed."""
        for name in self.node_names:
            if name in self._daemons:
                pid = self.hosts[name].run("pidof", "slurmd").split()[-1]
                self.hosts[name].run("kill", "-HUP", pid)

    def _about(self, job: str) -> str:
        """All that Slurm tells of a job that does not end, and the last its daemons said."""
        logs = [f"{log.name}:\n{log.read_text()[-3000:]}" for log in sorted((self.folder / "log").glob("*.log"))]
        return "\n".join([self.run("scontrol", "show", "job", job), self.run("sinfo", "--Node", "--long"), *logs])

    def start_node(self, name: str) -> None:
        """Start (again) the slurmd of a node."""
        self._spawn(name, self.hosts[name], "slurmd", "-D", "-N", name)

    def kill_node(self, name: str) -> None:
        """SIGKILL to the slurmd of a node; what runs there goes on."""
        pid = self.hosts[name].run("pidof", "slurmd").split()[-1]
        self.hosts[name].run("kill", "-KILL", pid)
        self._daemons.pop(name).wait()

    def stop_controller(self) -> None:
        """End the slurmctld, which writes down what it knows: nobody answers until `start_controller`."""
        self.hosts.ctl.run("kill", "-TERM", (self.folder / "slurmctld.pid").read_text().strip())
        self._daemons.pop("slurmctld").wait()

    def start_controller(self) -> None:
        """Start the slurmctld (again); what it knew it knows still."""
        self._spawn("slurmctld", self.hosts.ctl, "slurmctld", "-D")

    # --- starting it ----------------------------------------------------------------------------------------------------

    def _spawn(self, name: str, host: Host | None, *words: str) -> None:
        with open(self.folder / "log" / f"{name}.out", "ab") as log:
            self._daemons[name] = subprocess.Popen(
                host.command(*words) if host else words,
                env=self.environ,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def _start_all(self) -> None:
        if self._beside is None:
            self._start_services()
        if self._accounting:
            self._try("sacctmgr", "-i", "add", "cluster", self.name)
            self._try("sacctmgr", "-i", "add", "account", "test", f"Cluster={self.name}")
            self._try("sacctmgr", "-i", "add", "user", "root", "Account=test", f"Cluster={self.name}")
        self.start_controller()
        for name in self.node_names:
            self.start_node(name)
        wait_until(lambda: self.idle_nodes() == len(self.node_names), f"all nodes idle; see {self.folder}/log")

    def _start_services(self) -> None:
        """Keys and accounting."""
        key, socket = self.folder / "munge.key", self.folder / "munge.socket"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        files = [f"--{what}-file={self.folder}/munge.{what}" for what in ("pid", "log", "seed")]
        self._spawn(
            "munged", None, "munged", "--foreground", "--force", f"--socket={socket}", f"--key-file={key}", *files
        )
        wait_until(socket.exists, "munged")
        if self._accounting:
            accounting.start_database(self.folder, self._port + 11, self._spawn_here, wait_until)
            accounting.write_configuration(self.folder, self._port + 10, self._port + 11)
            self._spawn("slurmdbd", self.hosts.ctl, "slurmdbd", "-D")
            wait_until(lambda: self._try("sacctmgr", "-n", "list", "cluster") == 0, "slurmdbd")

    def _spawn_here(self, name: str, *words: str) -> None:
        self._spawn(name, None, *words)

    def _try(self, *words: str) -> int:
        command = self.hosts.ctl.command(*words)
        return subprocess.run(
            command, env=self.environ, capture_output=True, check=False, timeout=PATIENCE_S
        ).returncode

    def idle_nodes(self) -> int:
        """Each once, of however many partitions it is a part."""
        command = self.hosts.ctl.command("sinfo", "--noheader", "--Node", "--format=%N %T")
        asked = subprocess.run(command, env=self.environ, capture_output=True, text=True, check=False)
        return len({line for line in asked.stdout.splitlines() if line.split()[1:] == ["idle"]})

    def _configure(self) -> None:
        gres = ""
        if self._gpus:
            for number in range(self._gpus):  # Slurm wants a character device for each GPU; /dev/null's number does
                os.mknod(self.folder / f"gpu{number}", 0o20666, os.makedev(1, 3))
            names = "0" if self._gpus == 1 else f"[0-{self._gpus - 1}]"
            (self.folder / "gres.conf").write_text(f"Name=gpu File={self.folder}/gpu{names}\n")
            gres = f"Gres=gpu:{self._gpus}"
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupAutomount=no\nConstrainRAMSpace=yes\n")
        shape = f"CPUs={self.cpus} Sockets=1 CoresPerSocket={self.cpus} RealMemory=4000 {gres} State=UNKNOWN"
        lines = [
            f"NodeName={host.name} NodeAddr={host.address} Port={self._port + 1 + number} {shape}"
            for number, host in enumerate(self.hosts.nodes)
        ]
        text = _SLURM_CONF.format(
            folder=self.folder,
            ctl=self.hosts.ctl.address,
            port=self._port,
            nodes="\n".join(lines),
            connect_s=2 if self._network else 10,  # over loopback nothing is lost, a machine may only be slow
        )
        text += "GresTypes=gpu\n" if self._gpus else ""
        text = text.replace("ClusterName=tests", f"ClusterName={self.name}")
        home = self._beside or self
        text = text.replace(f"socket={self.folder}", f"socket={home.folder}")
        if self._accounting:
            text = text.replace(
                _NO_ACCOUNTING, accounting.SLURM_CONF.format(folder=home.folder, dbd_port=home._port + 10)
            )
        (self.folder / "slurm.conf").write_text(text + self._extra)


_NO_ACCOUNTING = "AccountingStorageType=accounting_storage/none\nJobAcctGatherType=jobacct_gather/none\n"
_SLURM_CONF = """
ClusterName=tests
SlurmctldHost=ctl({ctl})
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
InactiveLimit=0
WaitTime=0
SlurmdTimeout=15
MessageTimeout=10
TCPTimeout={connect_s}
SchedulerParameters=sched_interval=2,batch_sched_delay=0,defer_batch=0
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
{nodes}
PartitionName=debug Nodes=ALL Default=YES DefaultTime=60 MaxTime=INFINITE State=UP
"""


def start_login_node(slurm: Slurm, wd: Path) -> tuple[str, str]:
    """Run an sshd on `ctl` that takes the key `user` in `wd`; kind and text of its host key."""
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", wd / name], check=True)
    os.makedirs("/run/sshd", exist_ok=True)
    (wd / "sshd_config").write_text(
        f"HostKey {wd}/host\nAuthorizedKeysFile {wd}/user.pub\nPermitRootLogin yes\nStrictModes no\nUsePAM no\n"
        f"SetEnv SLURM_CONF={slurm.environ['SLURM_CONF']}\n"
    )
    slurm.hosts.ctl.run("/usr/sbin/sshd", "-f", str(wd / "sshd_config"))
    kind, key = (wd / "host.pub").read_text().split()[:2]
    return kind, key
