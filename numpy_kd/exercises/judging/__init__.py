"""From arguments to a verdict: no process, no system call."""
