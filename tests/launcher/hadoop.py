"""A Hadoop of one machine, as far as the launcher uses it: `hadoop` and `yarn` are programs that keep files and run containers.

What they print, and their exit codes, are those of Hadoop 3. Files of HDFS lie below `dfs`, applications below `apps`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

HADOOP = r"""
import os, re, shutil, signal, subprocess, sys, time
home = os.environ["STANDIN"]
dfs, apps = f"{home}/dfs", f"{home}/apps"
os.makedirs(dfs, exist_ok=True); os.makedirs(apps, exist_ok=True)
words = sys.argv[1:]

def there(uri):
    return dfs + "/" + re.sub(r"^hdfs://[^/]*", "", uri).lstrip("/")

def fail(text, code=1):
    print(text, file=sys.stderr)
    sys.exit(code)

def trouble(name):  # `NAME` in $STANDIN/fail holds how often it fails from now on
    file = f"{home}/fail-{name}"
    if os.path.exists(file):
        left = int(open(file).read()) - 1
        open(file, "w").write(str(left)) if left else os.unlink(file)
        fail("26/11/28 10:00:00 WARN ipc.Client: Call From h to nn:8020 failed on connection exception: Connection refused")

def fs(verb, *rest):
    rest = [word for word in rest if not word.startswith("-")]
    trouble("fs" + verb)
    if verb == "-mkdir":
        if "-p" in words: os.makedirs(there(rest[0]), exist_ok=True)
        else:
            try: os.mkdir(there(rest[0]))
            except FileExistsError: fail(f"mkdir: `{rest[0]}': File exists")
            except FileNotFoundError: fail(f"mkdir: `{rest[0]}': No such file or directory")
    elif verb in ("-copyFromLocal", "-put"):
        target = there(rest[-1])
        if rest[-1].endswith("/") or os.path.isdir(target): target = os.path.join(target, os.path.basename(rest[0]))
        shutil.copyfile(rest[0], target + "._COPYING_"); os.replace(target + "._COPYING_", target)
    elif verb in ("-copyToLocal", "-get"):
        if not os.path.exists(there(rest[0])): fail(f"{verb[1:]}: `{rest[0]}': No such file or directory")
        shutil.copyfile(there(rest[0]), rest[1])
    elif verb == "-test": sys.exit(not os.path.exists(there(rest[0])))
    elif verb == "-touchz": open(there(rest[0]), "w").close()
    elif verb == "-rm":
        if os.path.exists(there(rest[0])): shutil.rmtree(there(rest[0]))
    else: fail(f"{verb}: Unknown command", 255)

def option(name, many=False):
    found = [words[at + 1] for at, word in enumerate(words) if word == name]
    return found if many else found[0]

def client():
    trouble("jar")
    number = len(os.listdir(apps)) + 1
    name = f"application_1700000000000_{number:04d}"
    folder = f"{apps}/{name}"
    os.makedirs(folder + "/work")
    shutil.copyfile(option("-shell_script"), folder + "/work/ExecScript.sh")
    for key in ("appname", "queue", "container_resources"):
        open(f"{folder}/{key}", "w").write(option("-" + key))
    open(f"{folder}/env", "w").write("\n".join(option("-shell_env", True)))
    if os.path.exists(f"{home}/lose"):  # the answer never comes
        os.unlink(f"{home}/lose"); run(name); os.kill(os.getppid(), signal.SIGKILL); os.killpg(os.getpid(), signal.SIGKILL)
    run(name)
    print(f"26/11/28 10:00:00 INFO impl.YarnClientImpl: Submitted application {name}", file=sys.stderr, flush=True)
    time.sleep(600)
    fail("Reached client specified timeout for application. Killing application")

def run(name):
    folder = f"{apps}/{name}"
    environ = {**os.environ, "CONTAINER_ID": name.replace("application", "container_e07") + "_01_000002"}
    environ |= dict(line.split("=", 1) for line in open(f"{folder}/env").read().splitlines())
    if os.path.exists(f"{home}/hold"): return
    text = f'cd {folder}/work && bash ExecScript.sh >../stdout 2>../stderr; echo $? >../code'
    child = subprocess.Popen(["bash", "-c", text], env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL, start_new_session=True)
    open(f"{folder}/pid", "w").write(str(child.pid))

def state(name):
    folder = f"{apps}/{name}"
    if os.path.exists(f"{folder}/killed"): return "KILLED", "KILLED"
    if not os.path.exists(f"{folder}/pid"): return "ACCEPTED", "UNDEFINED"
    if not os.path.exists(f"{folder}/code"): return "RUNNING", "UNDEFINED"
    return "FINISHED", "SUCCEEDED" if open(f"{folder}/code").read() == "0\n" else "FAILED"

def kill(name):
    folder = f"{apps}/{name}"
    if not os.path.isdir(folder): fail(f"Application with id '{name}' doesn't exist in RM.", 255)
    if state(name)[0] in ("FINISHED", "KILLED"): print(f"Application {name} has already finished "); return
    open(f"{folder}/killed", "w").close()
    if os.path.exists(f"{folder}/pid"):
        try: os.killpg(int(open(f"{folder}/pid").read()), signal.SIGKILL)
        except ProcessLookupError: pass
    print(f"Killing application {name}")

def application():
    trouble("yarn")
    if os.path.exists(f"{home}/says"):
        sys.stdout.write(open(f"{home}/says").read()); return
    if "-list" in words:
        rows = [] if os.path.exists(f"{home}/forget") else sorted(os.listdir(apps))
        print("Total number of applications (application-types: [], states: [NEW, ACCEPTED] and tags: []):" + str(len(rows)))
        print("%30s\t%20s\t%20s\t%10s\t%10s\t%18s\t%18s\t%15s\t%35s" % ("Application-Id", "Application-Name",
              "Application-Type", "User", "Queue", "State", "Final-State", "Progress", "Tracking-URL"))
        for name in rows:
            title = open(f"{apps}/{name}/appname").read()
            print("%30s\t%20s\t%20s\t%10s\t%10s\t%18s\t%18s\t%15s\t%35s" % (name, title, "YARN", "ann", "default", *state(name),
                  "0%", "N/A"))
    elif "-status" in words:
        name = words[-1]
        if not os.path.isdir(f"{apps}/{name}") or os.path.exists(f"{home}/forget"):
            fail(f"Application with id '{name}' doesn't exist in RM or Timeline Server.", 255)
        now, final = state(name)
        print(f"Application Report : \n\tApplication-Id : {name}\n\tApplication-Name : x\n\tUser : ann\n\tQueue : default\n"
              f"\tStart-Time : 1700000000000\n\tFinish-Time : 0\n\tState : {now}\n\tFinal-State : {final}\n\tDiagnostics : ")
    elif "-kill" in words:
        kill(words[-1])

if os.path.basename(sys.argv[0]) == "yarn": application()
elif words[0] == "fs": fs(*words[1:])
elif words[0] == "jar": client()
"""


class Hadoop:
    """Its programs go before all others in `path`."""

    def __init__(self, folder: Path) -> None:
        self.folder, programs = folder, folder / "bin"
        programs.mkdir(parents=True)
        (folder / "jars").mkdir()
        (folder / "jars/hadoop-yarn-applications-distributedshell-3.3.6.jar").touch()
        for name in ("hadoop", "yarn"):
            (programs / name).write_text(f"#!{sys.executable} -SE\n{HADOOP}")
            (programs / name).chmod(0o755)
        self.environ = {"STANDIN": str(folder), "PATH": f"{programs}:{os.environ['PATH']}"}

    def applications(self) -> list[str]:
        """What was handed over, by name."""
        apps = self.folder / "apps"
        return [(each / "appname").read_text() for each in sorted(apps.iterdir())] if apps.exists() else []

    def file(self, path: str) -> Path:
        """One of HDFS."""
        return self.folder / "dfs" / path.lstrip("/")
