"""A job that is forked from a warm parent runs as in a Python process of its own."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.project import ROOT
from vtclip.runtime import warm

pytestmark = pytest.mark.skipif(not warm.is_supported(), reason="jobs are not forked here")

# A process in place of Snakemake: it starts jobs as Snakemake does, one for each line it reads.
SNAKEMAKE = """
import os, subprocess, sys
from vtclip.runtime import warm
print(warm.make_launcher(sys.executable), flush=True)
sys.stdin.read()
"""


@dataclass
class Run:
    """A Snakemake that is running, and its warm parent.

    Attributes:
        folder: where its jobs run.
        code: the folder of the package.
    """

    folder: Path
    code: Path = ROOT
    snakemake: subprocess.Popen = field(init=False)
    launcher: str = field(init=False)

    def __post_init__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        self.environment = os.environ | {"PYTHONPATH": str(self.code), "OMP_NUM_THREADS": "1"}
        self.begin(SNAKEMAKE)

    def begin(self, code, **options):
        """Start the process in place of Snakemake."""
        self.snakemake = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, env=self.environment, cwd=self.folder, **options,
        )  # fmt: skip
        self.launcher = self.snakemake.stdout.readline().strip()

    def start(self, code, **options):
        """Start a job."""
        script = self.folder / f"job {time.monotonic_ns()}.py"
        script.write_text(textwrap.dedent(code))
        options = {"env": self.environment, "cwd": self.folder} | options
        return subprocess.Popen(
            ["/bin/sh", "-c", f"exec {self.launcher} '{script}'"], text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
        )  # fmt: skip

    def job(self, code, **options):
        """Run a job; gives its status and its two outputs."""
        job = self.start(code, **options)
        said, errors = job.communicate(timeout=120)
        return job.returncode, said, errors

    @property
    def parent(self):
        (parent,) = psutil.Process(self.snakemake.pid).children()
        return parent

    def end(self):
        self.snakemake.stdin.close()
        self.snakemake.wait()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A run for all tests that leave it as it is."""
    run = Run(tmp_path_factory.mktemp("with spaces") / "a folder")
    yield run
    run.end()


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path)
    yield run
    run.end()


SURROUNDINGS = """
    import json, os, signal, sys, threading, random
    umask = os.umask(0)
    print(json.dumps({
        "folder": os.getcwd(), "environment": dict(os.environ), "umask": umask,
        "argv": sys.argv, "path": sys.path, "name": __name__, "file": __file__,
        "group": os.getpgid(0), "threads": threading.active_count(),
        "signals": {int(n): str(signal.getsignal(n)).split(" at ")[0]
                    for n in signal.valid_signals()},
        "limits": os.nice(0), "stdin": sys.stdin.read(),
        "buffered": [sys.stdout.line_buffering, sys.stderr.line_buffering],
    }))
"""


def test_a_forked_job_sees_what_a_python_process_of_its_own_would(shared):
    environment = shared.environment | {"ONE": "a b", "OMP_NUM_THREADS": "2"}
    environment.pop("HOME", None)
    seen = []
    for launcher in (shared.launcher, f"'{sys.executable}'"):
        script = shared.folder / "job.py"
        script.write_text(textwrap.dedent(SURROUNDINGS))
        done = subprocess.run(
            ["/bin/sh", "-c", f"umask 027; trap '' HUP; exec {launcher} '{script}'"], text=True,
            env=environment, cwd=shared.folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, check=True,
        )  # fmt: skip
        seen.append(json.loads(done.stdout))
    forked, plain = seen
    # The launcher is in the job's group; a hang-up that is ignored is Snakemake's to ignore.
    forked["signals"].pop("1"), plain["signals"].pop("1")
    assert forked == plain


def test_numbers_drawn_at_random_differ_from_job_to_job(shared):
    draw = "import random, numpy\nprint(random.random(), numpy.random.random())"
    first, second = (shared.job(draw)[1].split() for _ in range(2))
    assert first[0] != second[0]
    assert first[1] != second[1]


def test_threads_are_those_of_the_job(shared):
    code = """
        import threadpoolctl, torch
        pools = {pool["num_threads"] for pool in threadpoolctl.threadpool_info()}
        print(torch.get_num_threads(), pools)
    """
    for threads in ("1", "2"):
        said = shared.job(code, env=shared.environment | {"OMP_NUM_THREADS": threads})[1]
        assert said == f"{threads} {{{threads}}}\n"


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("import os; os._exit(3)", 3, ""),
        ("import sys; sys.exit(300)", 300 & 0xFF, ""),
        ("import sys; sys.exit('gone')", 1, "gone"),
        ("raise ValueError('too odd')", 1, "ValueError: too odd"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, ""),
        ("import os; os.abort()", -signal.SIGABRT, ""),
        ("raise KeyboardInterrupt", -signal.SIGINT, "KeyboardInterrupt"),
        ("import atexit; atexit.register(lambda: print('end'))", 0, "end"),
        ("import threading, time\nthreading.Thread(target=lambda: (time.sleep(.2), print('late')))"
         ".start()", 0, "late"),
        ("import os; os.write(2, b'one'); print('two')", 0, "two"),
    ],
)  # fmt: skip
def test_a_forked_job_ends_as_a_python_process_of_its_own_would(shared, code, status, said):
    found, out, errors = shared.job(code)
    assert found == status
    assert said in out + errors


def test_nothing_of_a_job_reaches_the_next_one(shared):
    shared.job("""
        import os, sys, signal, threading, builtins, time, vtclip.paths
        os.chdir("/"); os.environ["LEFT"] = "1"; os.umask(0); builtins.LEFT = 1
        sys.path.append("left"); vtclip.paths.LEFT = 1
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    """)
    status, said, errors = shared.job("""
        import builtins, os, sys, signal, threading, vtclip.paths
        print([os.getcwd(), os.environ.get("LEFT"), hasattr(builtins, "LEFT"), "left" in sys.path,
               hasattr(vtclip.paths, "LEFT"), signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
               threading.active_count()])
    """)
    assert (status, said) == (
        0, f"{[str(shared.folder), None, False, False, False, True, 1]}\n"
    ), errors  # fmt: skip


def test_a_module_that_is_edited_during_a_run_is_the_edited_one_for_the_next_job(fresh, tmp_path):
    project = fresh.copy(tmp_path / "project")
    run = Run(tmp_path / "work", project.folder)
    code = "import vtclip.paths, vtclip.training.train as t; print(vtclip.paths.HEAD, t.HEAD)"
    assert run.job(code)[1] == "head.safetensors head.safetensors\n"
    project.edit("vtclip/paths.py", '"head.safetensors"', '"edited.safetensors"')
    assert run.job(code)[1] == "edited.safetensors edited.safetensors\n"
    project.edit("vtclip/paths.py", '"edited.safetensors"', '"edited.safetensors')
    status, _, errors = run.job(code)
    assert status == 1
    assert "SyntaxError" in errors
    # Of another length than before: Python knows a file by its size and the second of its change.
    project.edit("vtclip/paths.py", '"edited.safetensors', '"restored.safetensors"')
    assert run.job(code)[1] == "restored.safetensors restored.safetensors\n"
    run.end()


def test_memory_counts_what_a_job_has_beside_the_parent(shared):
    code = """
        from vtclip.runtime.devices import peak_memory
        before = peak_memory()
        {}
        print(before, peak_memory())
    """
    before, peak = map(int, shared.job(code.format("taken = b'x' * 300_000_000"))[1].split())
    assert 0 <= before < 50e6
    assert 300e6 <= peak < 400e6


SLEEP = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(300)"


def assert_gone(*processes, seconds=10):
    """No process is left after ten seconds, but for ended ones that no process has waited for."""
    deadline = time.monotonic() + seconds

    def left():
        return [each for each in processes
                if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]  # fmt: skip

    while left():
        assert time.monotonic() < deadline, left()
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_job_dies_with_its_launcher_and_by_the_same_signal(shared, number):
    job = shared.start(SLEEP)
    process = psutil.Process(int(job.stdout.readline()))
    job.send_signal(number)
    assert job.wait(10) == -number
    assert_gone(process)
    assert shared.job("print('next')")[1] == "next\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_launcher_ends_by_the_signal_that_its_job_got(shared, number):
    job = shared.start(SLEEP)
    os.kill(int(job.stdout.readline()), number)
    assert job.wait(10) == -number


def test_nothing_outlives_a_snakemake_that_is_killed(run):
    jobs = [run.start(SLEEP) for _ in range(3)]
    children = [psutil.Process(int(job.stdout.readline())) for job in jobs]
    parent = run.parent
    run.snakemake.kill()
    assert_gone(parent, *children)
    assert all(job.wait(10) != 0 for job in jobs)


def test_where_the_parent_dies_its_jobs_run_without_it(run):
    job = run.start("""
        import os, time
        first = not os.path.exists("started")
        open("started", "w").close()
        print(os.getpid(), flush=True)
        time.sleep(300 * first)
        print(os.environ.get("VTCLIP_NO_WARM_PARENT"))
    """)
    child = psutil.Process(int(job.stdout.readline()))
    run.parent.kill()
    said, _ = job.communicate(timeout=30)
    assert job.returncode == 0
    assert "the warm parent died" in said
    assert_gone(child)
    assert run.job("print('next')")[:2] == (0, "next\n")


def test_where_no_parent_can_start_jobs_run_without_it_and_log_the_reason(run, tmp_path):
    broken = tmp_path / "broken" / "vtclip"  # found before the package, and not to be imported
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('broken')")
    run.end()
    here = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom vtclip"
    run.environment["PYTHONPATH"] = str(broken.parent)
    run.begin(SNAKEMAKE.replace("from vtclip", here), stderr=subprocess.DEVNULL)
    log = tmp_path / "job.log"
    status, _, errors = run.job(
        f"from vtclip.runtime.job import job\nwith job({str(log)!r}):\n    print('here')",
        env=run.environment | {"PYTHONPATH": str(ROOT)},
    )
    assert status == 0, errors
    assert "Not forked from a warm parent" in log.read_text()
    assert "here" in log.read_text()


def test_forty_short_jobs_at_a_time_all_end(shared):
    jobs = [shared.start("import time; time.sleep(0.1); print('done')") for _ in range(40)]
    assert [job.communicate(timeout=120)[0] for job in jobs] == ["done\n"] * 40


def test_two_runs_at_once_keep_apart(shared, run):
    code = "import os; print(os.getppid())"
    assert shared.job(code)[1] == f"{shared.parent.pid}\n"
    assert run.job(code)[1] == f"{run.parent.pid}\n"
    assert shared.parent.pid != run.parent.pid


def test_it_can_be_switched_off(monkeypatch):
    monkeypatch.setenv(warm.OFF, "0")
    assert not warm.is_supported()
