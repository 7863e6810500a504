"""The job as a pure state machine: what may happen to it, and what each transition changes. No I/O, no clock."""
