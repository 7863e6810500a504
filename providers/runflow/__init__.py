"""The adapters for Runflow: model runs and the older run API."""
