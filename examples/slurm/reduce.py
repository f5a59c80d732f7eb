"""Diffuse map with the nodes of a SLURM cluster: one command, from the login node.

    python reduce.py --jobs 10 --cores 64 --memory 200GB --walltime 04:00:00 \\
        --queue short --interface ib0 refined.expt integrated.refl block.width=2

starts 10 jobs of 64 worker processes each and gives them to dials.diffuse, which gets
all other arguments. Work begins when the first job runs; jobs that start later join
in, and what a job that ends leaves unfinished is done by another. --show prints the job
script and stops. Other schedulers: put dask_jobqueue's PBSCluster, LSFCluster, ... in
place of SLURMCluster.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import dask
from dask_jobqueue import SLURMCluster
from dask_jobqueue.local import LocalCluster
from distributed import Security

from diffuse_core.command_line import diffuse

CLUSTERS = {"slurm": SLURMCluster, "local": LocalCluster}


def arguments(given: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Options of this script, and what is left for dials.diffuse."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=1, help="jobs to submit")
    parser.add_argument("--cores", type=int, default=1, help="cores of a job")
    parser.add_argument("--memory", default="2GB", help="memory of a job")
    parser.add_argument("--walltime", default="01:00:00", help="time limit of a job")
    parser.add_argument("--queue", help="partition")
    parser.add_argument("--account")
    parser.add_argument("--interface", help="network that the nodes share, e.g. ib0")
    parser.add_argument(
        "--setup", action="append", default=[], help="line that a job runs first"
    )
    parser.add_argument("--directive", action="append", default=[], help="of #SBATCH")
    parser.add_argument(
        "--folder", type=Path, default=Path.cwd(), help="seen by all nodes; for keys"
    )
    parser.add_argument("--cluster", choices=CLUSTERS, default="slurm")
    parser.add_argument("--show", action="store_true", help="only print the job script")
    return parser.parse_known_args(given)


def make_cluster(options: argparse.Namespace, security: Security):
    """A cluster without jobs; one process of one thread for each core of a job."""
    slurm = {
        "queue": options.queue,
        "account": options.account,
        "walltime": options.walltime,
    }
    return CLUSTERS[options.cluster](
        cores=options.cores,
        processes=options.cores,
        memory=options.memory,
        interface=options.interface,
        job_script_prologue=options.setup,
        job_extra_directives=options.directive,
        python=sys.executable,
        security=security,
        protocol="tls://",
        shared_temp_directory=options.folder,
        **(slurm if options.cluster == "slurm" else {}),
    )


def client_settings(security: Security) -> dict[str, str]:
    """Dask settings with which a client in this process is let in."""
    return {
        "distributed.comm.tls.ca-file": security.tls_ca_file,
        "distributed.comm.tls.client.cert": security.tls_client_cert,
        "distributed.comm.tls.client.key": security.tls_client_key,
    }


def run(given: list[str]) -> None:
    """Starts the cluster, runs dials.diffuse on it, ends the jobs."""
    options, rest = arguments(given)
    security = Security.temporary()
    with (
        dask.config.set(client_settings(security)),
        make_cluster(options, security) as cluster,
    ):
        if options.show:
            print(cluster.job_script())
            return
        cluster.scale(jobs=options.jobs)
        address = cluster.scheduler_address
        diffuse.run([*rest, "parallel.engine=dask", f"parallel.dask.address={address}"])


if __name__ == "__main__":
    run(sys.argv[1:])
