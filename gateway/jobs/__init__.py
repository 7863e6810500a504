"""The job as a pure state machine: updates, transitions and what each changes. No I/O, no clock."""
