"""The paper's table by one command: a plan, what was computed so far on disk, the runner, the report."""
