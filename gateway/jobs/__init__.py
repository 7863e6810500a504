"""The job as pure functions: updates, transitions and what each changes. No I/O, no clock."""
