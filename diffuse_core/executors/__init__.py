"""What runs tasks: this process, local worker processes, or a Dask cluster.

Each module has `run(job, ...)`, which yields results as they are ready;
`diffuse_core.parallel.run_tasks` is the way in.
"""

from __future__ import annotations
