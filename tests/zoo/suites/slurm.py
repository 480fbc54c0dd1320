"""A Slurm cluster of two nodes on this machine, started and stopped by a test."""

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from tests.zoo.suites.tiny import descendants, wait_for

TEMPLATE = Path(__file__).with_name("slurm.conf")
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "unshare")


def missing():
    """Return why Slurm cannot run here; empty if it can."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=search_path()) is None]
    if absent:
        return f"needs {', '.join(absent)}: apt install slurm-wlm munge"
    return "" if os.geteuid() == 0 else "needs root, as slurmd does"


def search_path():
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


class SlurmCluster:
    """A controller and two nodes; each node has a process namespace, like a separate machine."""

    def __init__(self, folder):
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("munge", "state", "spool.n1", "spool.n2"):
            (folder / name).mkdir(parents=True)
        folder.chmod(0o755)
        values = {"DIR": folder, "HOST": socket.gethostname().split(".")[0]}
        values |= {name: free_port() for name in ("CONTROLLER", "NODE1", "NODE2")}
        text = TEMPLATE.read_text()
        for name, value in values.items():
            text = text.replace(f"@{name}@", str(value))
        (folder / "slurm.conf").write_text(text)
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o600)
        self.environment = {
            **os.environ,
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": search_path(),
        }

    def __enter__(self):
        options = [f"--key-file={self.folder / 'munge.key'}"]
        for flag in ("socket", "pid-file", "log-file", "seed-file"):
            file = self.folder / "munge" / flag.removesuffix("-file")
            options.append(f"--{flag}={file}")
        self._start("munged", "munged", "--foreground", "--force", *options)
        self._start("slurmctld", "slurmctld", "-D", "-c")
        for node in ("n1", "n2"):
            self.start_node(node)
        nodes = ("sinfo", "--noheader", "-p", "low", "-o", "%t %D")
        wait_for(lambda: self.run(*nodes).stdout.split() == ["idle", "2"], 60)
        return self

    def __exit__(self, *exception):
        for process in reversed(self.processes.values()):
            # a node's process is the first of its namespace, so killing it ends all others in the namespace
            process.kill()
            process.wait()

    def start_node(self, node):
        """Start a node's daemon as a child of a process that outlives the daemon."""
        outlives = f"slurmd -D -N {node} & exec sleep infinity"
        self._start(
            node, "unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", outlives
        )

    def run(self, *command):
        """Run one of Slurm's programs."""
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False
        )

    def kill_daemons(self, node):
        """Kill a node's daemons immediately, and return the processes of jobs that are still running there."""
        below = descendants(self.processes[node].pid)
        daemons = [pid for pid in below if name_of(pid) in ("slurmd", "slurmstepd", "srun")]
        for pid in daemons:
            os.kill(pid, signal.SIGKILL)
        # if a daemon ended after its job is suspended, the kernel would send SIGHUP to the job and continue it
        wait_for(lambda: not any(map(name_of, daemons)))
        return [pid for pid in below if name_of(pid).startswith("python")]

    def trains(self, node, run):
        """Return whether a process of a node has the file of a run's lock open."""
        for pid in descendants(self.processes[node].pid):
            files = map(os.path.realpath, Path(f"/proc/{pid}/fd").glob("*"))
            if str(run / "lock") in files:
                return True
        return False

    def _start(self, name, *command):
        with (self.folder / f"{name}.out").open("ab") as output:
            self.processes[name] = subprocess.Popen(
                command, env=self.environment, stdout=output, stderr=subprocess.STDOUT
            )


def name_of(pid):
    """Return a process's name, or an empty text if it has ended; an ended process may keep its name."""
    process = Path("/proc", str(pid))
    try:
        command = (process / "cmdline").read_bytes()
        return (process / "comm").read_text().strip() if command else ""
    except OSError:
        return ""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
