"""The worker process: one task at a time, run by a runner, reported to the supervisor."""
