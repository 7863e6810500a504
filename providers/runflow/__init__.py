"""The adapters for Runflow's two APIs: asynchronous runs and synchronous run."""
